"""Makes kinds known to a cluster on loopback that a bare one lacks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from kubernetes import client

from tests.waiting import until


def ours() -> list[dict[str, Any]]:
    """The definitions of ``kinds.yaml``."""
    return list(yaml.safe_load_all(Path(__file__).with_name("kinds.yaml").read_text(encoding="utf-8")))


def establish(api: client.ApiClient, body: dict[str, Any]) -> None:
    """Makes a definition, and waits until the API server lists its kind and takes requests for it."""
    client.ApiextensionsV1Api(api).create_custom_resource_definition(body)
    group, [version], names = body["spec"]["group"], body["spec"]["versions"], body["spec"]["names"]
    objects = client.CustomObjectsApi(api)

    def is_served() -> bool:
        try:
            listed = objects.get_api_resources(group, version["name"]).resources
            objects.list_cluster_custom_object(group, version["name"], names["plural"])
        except client.ApiException as error:
            if error.status != 404:
                raise
            return False
        return any(each.kind == names["kind"] for each in listed)

    until(is_served, what=f"the kind {names['kind']}")
