"""Labels and flags by which services of this project are known, and the files they read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tfserving.paths import clean_path

MANAGED_BY = {"managed-by": "pulumi"}
"""Label of every service this provider makes."""

OWNER_LABEL = "pulumi-owner"
"""Label with the stack a service belongs to, ``<project>/<stack>``."""

CREATED_LABEL = "pulumi-created-by"
"""Label with the create that holds a service."""

CONFIG_FILE_FLAG = "--model_config_file="
"""In the start command of a service that reads a model config file."""

_CONFIG_FILE = re.compile(rf"{CONFIG_FILE_FLAG}([^\s'\"]+)")


def may_read(service_json: object, name: str) -> bool:
    """Whether a service, by its JSON, reads a model config file of this name; one that does not say so plainly may."""
    named = _CONFIG_FILE.findall(str(service_json))
    return any("$" in path or path.rpartition("/")[2] == name for path in named)


def mounts(service_json: Mapping[str, Any], uri: str) -> bool:
    """Whether a service has the place of a file mounted; one that names no place in OSS may have it any other way."""
    storage = service_json.get("storage") or ()
    places = [str((entry.get("oss") or {}).get("path") or "") for entry in storage if isinstance(entry, Mapping)]
    places = [f"{place.rstrip('/')}/" for place in places if place]
    return not places or any(uri.startswith(place) for place in places)


def config_file_of(service_json: Mapping[str, Any]) -> str | None:
    """Where in OSS the model config file of a service is, by its JSON; None where that is not plain."""
    named = _CONFIG_FILE.findall(str(service_json.get("containers")))
    if len(named) != 1:
        return None
    for entry in service_json.get("storage") or ():
        at, place = clean_path(str(entry.get("mount_path") or "")), str((entry.get("oss") or {}).get("path") or "")
        file = clean_path(named[0])
        below = file.removeprefix(f"{at.rstrip('/')}/")
        if at and place and below != file:
            return f"{place.rstrip('/')}/{below}"
    return None
