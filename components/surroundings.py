"""What a component takes from the program around it: region, owner, and the directory that paths start from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pulumi

from components.component import Argument
from config import stack
from config.stack import Settings
from config.stack_config import NAMESPACE
from tfserving.contract.found import FindVersionsResult
from tfserving.errors import ConfigError
from tfserving.manifest import HashCache

REGION_ARGUMENT = Argument(
    key="region",
    description="Region of bucket and services. Default: alicloud:region, else tfserving:region, of the stack",
)


def owner() -> str:
    """Who may change and remove what this program makes: ``<project>/<stack>``."""
    return f"{pulumi.get_project()}/{pulumi.get_stack()}"


def region() -> str:
    """The region that the providers of this program are configured with; empty where they are made in the program."""
    return pulumi.Config("alicloud").get("region") or pulumi.Config("tfserving").get("region") or ""


def parse(
    raw: Mapping[str, Any],
    given_region: Any,
    cache: HashCache,
    places: Mapping[str, str],
    *,
    below: tuple[str, ...] = (),
    found: FindVersionsResult | None = None,
) -> Settings:
    """The part of a stack that a component is, checked as a whole stack is.

    Args:
        raw: values by key of the stack config.
        given_region: the component's argument; ``None``: the program's region.
        cache: what is known of model files.
        places: arguments by the path of the stack config where they stand, where that is not their own key; empty for
            an entry whose keys are arguments, and whose own key is ``serviceName``.
        below: only problems there are the component's own; empty: all.
        found: as for :func:`config.stack.parse`.

    Raises:
        ConfigError: every problem, by arguments.
    """
    whole = {"alicloud:region": region() if given_region is None else given_region, **raw}
    own = {**places, "alicloud:region": "region"}
    try:
        return stack.parse(whole, Path.cwd(), cache=cache, whole=False, found=found)
    except ConfigError as error:
        mine = [each for each in error.problems if not below or each.path.startswith(("alicloud:region", *below))]
        problems = mine or error.problems
        raise ConfigError([replace(each, path=_argument(each.path, own)) for each in problems]) from None


def _argument(path: str, places: Mapping[str, str]) -> str:
    """A path of the stack config as a path of arguments."""
    for place, name in sorted(places.items(), key=lambda item: -len(item[0])):
        if path == place or (path.startswith(place) and path[len(place)] in ".["):
            rest = path[len(place) :]
            return f"{name}{rest}" if name else rest.lstrip(".") or "serviceName"
    return path.removeprefix(f"{NAMESPACE}:")
