"""JSON Schema of the stack file, for editors: made from the dataclasses that declare its options.

The schema knows shapes: keys, types, enumerations, limits. What depends on other keys is checked by
:func:`config.stack.parse`, whose messages say more. Scalars may be text, as ``pulumi config set`` writes them,
structured values may be JSON text, and any value may be one that Pulumi encrypted (``secure:``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, is_dataclass
from typing import Any, get_args, get_origin

from config.cloud import AlicloudSettings
from config.kubernetes import TARGETS, AckServiceSettings, KubernetesSettings
from config.service_entry import Timeouts
from config.services import OneInstanceType, ServiceSettings, StartFiles
from config.stack import StackOptions
from config.stack_config import NAMESPACE
from tfserving import eas_spec, kubernetes
from tfserving.options import Option, choices, is_mapping, is_union, options, without_none

DIALECT = "https://json-schema.org/draft/2020-12/schema"

Schema = dict[str, Any]

_SECURE: Schema = {"$ref": "#/$defs/secure"}
_JSON_OBJECT: Schema = {"type": "string", "pattern": r"^\s*\{"}
_JSON_LIST: Schema = {"type": "string", "pattern": r"^\s*\["}
_INTEGER = r"^[-+]?[0-9]+$"
_SHARE = r"^([-+]?[0-9]+|.*%)$"
_NUMBER = r"^[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]{1,2})?$"

EAS_SERVICE = (eas_spec.ServiceSpec, OneInstanceType, StartFiles, ServiceSettings)
"""What declares the options of a service on PAI-EAS."""

ACK_SERVICE = (kubernetes.KubernetesServingSpec, AckServiceSettings, StartFiles)
"""What declares those of a service on Kubernetes."""


def stack_schema() -> Schema:
    """The schema of ``stacks/Pulumi.<stack>.yaml``."""
    own = {f"{NAMESPACE}:{key}": schema for key, schema in _properties(StackOptions).items()}
    own[f"{NAMESPACE}:services"] = _described(
        _mapping_of({"$ref": "#/$defs/service"}), _option(StackOptions, "services")
    )
    both = {**_properties(*ACK_SERVICE, *EAS_SERVICE)}
    own[f"{NAMESPACE}:serviceDefaults"] = _described(_object(both), _option(StackOptions, "serviceDefaults"))
    cluster = _object(_properties(KubernetesSettings))
    own[f"{NAMESPACE}:kubernetes"] = _described(cluster, _option(StackOptions, "kubernetes"))
    own |= {f"alicloud:{key}": schema for key, schema in _properties(AlicloudSettings).items()}
    config = {
        "type": "object",
        "properties": own,
        "patternProperties": {rf"^(?!({NAMESPACE}|alicloud):)[^:]+:.+$": True},
        "additionalProperties": False,
    }
    return {
        "$schema": DIALECT,
        "title": "Stack file of TF Serving Stacks",
        "type": "object",
        "properties": {
            "config": config,
            "secretsprovider": {"type": "string"},
            "encryptionsalt": {"type": "string"},
            "encryptedkey": {"type": "string"},
        },
        "$defs": {
            "secure": {
                "description": "a value that Pulumi encrypted: pulumi config set --secret",
                "type": "object",
                "properties": {"secure": {"type": "string"}},
                "required": ["secure"],
                "additionalProperties": False,
            },
            "service": {
                "if": {"type": "object", "properties": {"target": {"const": "ack"}}, "required": ["target"]},
                "then": _object({"target": {"enum": list(TARGETS)}, **_properties(*ACK_SERVICE)}),
                "else": _object({"target": {"enum": list(TARGETS)}, **_properties(*EAS_SERVICE)}),
            },
        },
    }


def _option(cls: type, key: str) -> Option:
    return next(each for each in options(cls) if each.key == key)


def _properties(*classes: type) -> dict[str, Schema]:
    return {each.key: _described(_of(each.type, each), each) for cls in classes for each in options(cls)}


def _described(schema: Schema, option: Option) -> Schema:
    """``schema`` with what a person wants to know of the option; JSON Schema lets annotations stand beside anything."""
    described = dict(schema)
    if option.sentence:
        described["description"] = option.markdown
    if option.also:
        others = [_text(value) for value in option.also]
        described = {**described, "anyOf": [*described.get("anyOf", [schema]), {"enum": [*option.also, *others]}]}
    default = option.default
    plain = default is not MISSING and default not in (None, "", (), {}) and not is_dataclass(default)
    if plain and not option.otherwise:
        described["default"] = default
    return described


def _of(hint: Any, option: Option | None = None) -> Schema:
    """The schema of a type."""
    hint = without_none(hint)
    if names := choices(hint):
        return _any({"enum": [name for name in names if name]} if "" not in names else {"enum": list(names)})
    if hint is str:
        return _any({"type": ["string", "number"]})
    if hint is bool:
        return _any({"enum": [True, False, "true", "false"]})
    if hint is int or hint is float:
        kind: Schema = {"type": "integer" if hint is int else "number"}
        if option is not None and option.least is not None:
            kind["minimum"] = option.least
        if option is not None and option.most is not None:
            kind["maximum"] = option.most
        return _any(kind, {"type": "string", "pattern": _INTEGER if hint is int else _NUMBER})
    if is_dataclass(hint) and isinstance(hint, type):
        return _object(_timeouts() if hint is Timeouts else _properties(hint))
    if is_mapping(hint):
        value = _of(get_args(hint)[1])
        if get_args(hint)[1] in (int, float):  # a text may be empty, a number may not
            value = {"anyOf": [part for part in value["anyOf"] if part != {"type": "null"}]}
        return _mapping_of(value)
    if get_origin(hint) is tuple:
        return _any({"type": "array", "items": _of(get_args(hint)[0])}, _JSON_LIST)
    if is_union(hint) and set(get_args(hint)) == {int, str}:
        return _any({"type": "integer"}, {"type": "string", "pattern": _SHARE})
    if is_union(hint):
        return {"anyOf": [part for each in get_args(hint) for part in _of(each)["anyOf"]]}
    return {"anyOf": [{}]}


def _timeouts() -> dict[str, Schema]:
    return {each.key: _any({"type": "string"}, {"type": "integer"}) for each in options(Timeouts)}


def _object(properties: Mapping[str, Schema]) -> Schema:
    return _any({"type": "object", "properties": dict(properties), "additionalProperties": False}, _JSON_OBJECT)


def _mapping_of(value: Schema) -> Schema:
    return _any({"type": "object", "additionalProperties": value}, _JSON_OBJECT)


def _any(*schemas: Schema) -> Schema:
    return {"anyOf": [*schemas, {"type": "null"}, _SECURE]}


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
