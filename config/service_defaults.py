"""``tf-serving:serviceDefaults``: settings that services have in common, merged under each one they fit.

A service's own setting wins, mappings are merged key by key, and ``null`` at a service leaves a default out. A default
that a service of that kind could not have is left out there: flags in a scenario deployment, a poll interval where
there is no config file, keys of the other target.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from tfserving.errors import Problem
from tfserving.property_path import join_path

_TOGETHER = (
    frozenset({"instanceType", "instanceTypes", "resource"}),
    frozenset({"replicas", "autoscaler"}),
    frozenset({"replicas", "schedule"}),
    frozenset({"command", "script"}),
    frozenset({"model", "configFile"}),
    frozenset({"model", "models"}),
    frozenset({"gpu", "gpuMemory"}),
)
"""Keys that exclude each other: a service that has one of them takes none of the others from the defaults."""

_START = frozenset({"flags", "configPollSeconds", "allowLabelsForUnavailableVersions", "batching", "monitoring"})
_CONFIG_FILE = frozenset({"configPollSeconds", "allowLabelsForUnavailableVersions", "rollout"})
_NOT_IN_SCENARIOS = _START | {"image", "port", "grpc", "command", "script", "modelName", "startupSeconds"}


def merge(entry: Mapping[str, Any], defaults: Mapping[str, Any], keys: Collection[str]) -> dict[str, Any]:
    """A service's entry with the defaults that fit it.

    Args:
        entry: the service as the stack file has it.
        defaults: the defaults.
        keys: the keys that a service of this target may have.
    """
    taken = {key: value for key, value in defaults.items() if key in keys and entry.get(key, key) is not None}
    for group in _TOGETHER:
        if own := {key for key in group if entry.get(key) is not None}:
            taken = {key: value for key, value in taken.items() if key not in group - own}
    whole = {**taken, **entry}
    for unfit in _unfit(whole):
        taken.pop(unfit, None)
    return _over(entry, taken)


def _unfit(entry: Mapping[str, Any]) -> frozenset[str]:
    unfit: frozenset[str] = frozenset()
    if entry.get("deployment") == "scenario":
        unfit |= _NOT_IN_SCENARIOS
    if entry.get("configFile") not in (True, "true") and entry.get("models") is None:
        unfit |= _CONFIG_FILE
    if entry.get("command") is not None or entry.get("script") is not None:
        unfit |= _START
    return unfit


def _over(own: Mapping[str, Any], below: Mapping[str, Any]) -> dict[str, Any]:
    merged = {key: value for key, value in below.items() if key not in own}
    for key, value in own.items():
        under = below.get(key)
        merged[key] = _over(value, under) if isinstance(value, Mapping) and isinstance(under, Mapping) else value
    return merged


def written_in_defaults(
    problems: Collection[Problem], path: str, services: Mapping[str, Mapping[str, Any]], defaults: Mapping[str, Any]
) -> list[Problem]:
    """Problems at settings that come from the defaults, told once and where they are written.

    Args:
        problems: the problems of the stack.
        path: where the defaults stand.
        services: the entries of the services, as the stack file has them, by their path.
        defaults: the defaults.
    """
    found: list[Problem] = []
    for problem in problems:
        for where, entry in services.items():
            for key in defaults:
                at = join_path(where, key)
                rest = problem.path[len(at) :]
                if problem.path.startswith(at) and rest[:1] in ("", ".", "[") and key not in entry:
                    problem = replace(problem, path=join_path(path, key) + rest)
        if problem not in found:
            found.append(problem)
    return found
