"""A description as the stack file writes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, is_dataclass
from typing import Any

from tfserving import logging_config, model_config
from tfserving.eas_spec import HealthChecks, InstanceType, ScaleMetric, ServiceSpec
from tfserving.model_config import Model, VersionPolicy
from tfserving.options import Option, options
from tfserving.schedule import ScheduledSize

_ALWAYS = ("deployment", "image")
"""Said even where they are the defaults: another release may have another image."""


def of_service(spec: ServiceSpec) -> dict[str, Any]:
    """An entry of ``tf-serving:services``: the options that are not at their defaults."""
    entry: dict[str, Any] = {}
    for each in options(ServiceSpec):
        value = getattr(spec, each.name)
        if each.name in _ALWAYS:
            entry[each.key] = value
        elif each.name == "health_checks":
            if value is not None:
                entry[each.key] = plain(value) or False
        elif each.name == "instance_types":
            if len(value) == 1 and value[0] == InstanceType(type=value[0].type):
                entry["instanceType"] = value[0].type
            elif value:
                entry[each.key] = [plain(item) if len(plain(item)) > 1 else item.type for item in value]
        elif not _is_default(each, value):
            entry[each.key] = plain(value)
    return entry


def of_model(model: Model, directory: str) -> dict[str, Any]:
    """An entry of ``tf-serving:models`` without its versions.

    Args:
        model: the model.
        directory: its directory below the model root, or an absolute path on another mount.
    """
    entry: dict[str, Any] = {}
    if directory != model.name:
        entry["path"] = directory
    if model.policy != VersionPolicy():
        entry["policy"] = model_config.policy_to_dict(model.policy)
    if model.labels:
        entry["labels"] = dict(model.labels)
    if model.logging:
        entry["logging"] = logging_config.to_data(model.logging)
    return entry


def plain(value: Any) -> Any:
    """A value of an option as the stack file has it: dataclasses as mappings of what is not at its default."""
    if isinstance(value, HealthChecks):
        return {each.key: plain(check) for each in options(HealthChecks) if (check := getattr(value, each.name))}
    if is_dataclass(value) and not isinstance(value, type):
        all_of_them = {each.key: plain(getattr(value, each.name)) for each in options(type(value))}
        short = {each.key for each in options(type(value)) if _is_default(each, getattr(value, each.name))}
        kept = {key: item for key, item in all_of_them.items() if key not in short}
        return kept or all_of_them
    if isinstance(value, tuple) and value and all(isinstance(item, ScaleMetric) for item in value):
        return {item.name: item.threshold for item in value}
    if isinstance(value, tuple) and value and all(isinstance(item, ScheduledSize) for item in value):
        return {item.name: plain(item) for item in value}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    return value


def _is_default(each: Option, value: Any) -> bool:
    return each.default is not MISSING and value == each.default
