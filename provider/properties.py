"""Pulumi property values: the wire form (``google.protobuf.Struct``), plain Python, and differences between them.

The wire form marks a value that is more than JSON with a signature key in an object, and an unknown value with a
reserved string (:mod:`tfserving.property_values`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

from google.protobuf import struct_pb2

from tfserving import wire
from tfserving.contract import integers
from tfserving.errors import TFServingError
from tfserving.property_values import (
    OUTPUT,
    RESOURCE,
    SECRET,
    SIGNATURE,
    UNKNOWN,
    UNKNOWN_TEXT,
    UNKNOWNS,
    Properties,
    Secret,
    Unknown,
    secret,
)


class PropertyError(TFServingError):
    """The engine sent a property value that no resource of this provider takes."""


def decode(struct: struct_pb2.Struct, kind: str = "") -> Properties:
    """The properties in ``struct``. Whole numbers become ``int``: the wire form only has floating point.

    Args:
        struct: the wire form.
        kind: type of the resource, for the integers it has as text (:mod:`tfserving.wire`).

    Raises:
        PropertyError: an asset or archive.
    """
    return integers.decode(kind, _decode_fields(struct), _within_secret)


def rounded(struct: struct_pb2.Struct, kind: str) -> dict[wire.Path, int]:
    """Integers in ``struct`` that came as numbers so large that Pulumi may have rounded them, by their path."""
    return integers.rounded(kind, _decode_fields(struct), _within_secret)


def _within_secret(value: Any, change: Callable[[Any], Any]) -> Any:
    return Secret(change(value.value)) if isinstance(value, Secret) else value


def _decode_fields(struct: struct_pb2.Struct) -> Properties:
    return {key: _decode(value) for key, value in struct.fields.items()}


def _decode(value: struct_pb2.Value) -> Any:
    match value.WhichOneof("kind"):
        case "string_value":
            return UNKNOWN if value.string_value in UNKNOWNS else value.string_value
        case "number_value":
            return wire.whole(value.number_value)
        case "bool_value":
            return value.bool_value
        case "list_value":
            return [_decode(item) for item in value.list_value.values]
        case "struct_value":
            return _decode_object(value.struct_value)
        case _:
            return None


def _decode_object(struct: struct_pb2.Struct) -> Any:
    fields = struct.fields
    if SIGNATURE not in fields:
        return _decode_fields(struct)
    match fields[SIGNATURE].string_value:
        case signature if signature == SECRET:
            return secret(_decode(fields["value"]))
        case signature if signature == OUTPUT:
            inner = _decode(fields["value"]) if "value" in fields else UNKNOWN
            return secret(inner) if fields["secret"].bool_value else inner
        case signature if signature == RESOURCE:
            return (_decode(fields["id"]) or UNKNOWN) if "id" in fields else _decode(fields["urn"])
        case _:
            raise PropertyError("assets and archives are not taken by any resource of this provider")


def encode(properties: Mapping[str, Any], kind: str = "") -> struct_pb2.Struct:
    """``properties`` in the wire form; ``kind`` as for :func:`decode`."""
    return _encode_fields(integers.encode(kind, properties, _within_secret))


def _encode_fields(properties: Mapping[str, Any]) -> struct_pb2.Struct:
    return struct_pb2.Struct(fields={key: _encode(value) for key, value in properties.items()})


def _encode(value: Any) -> struct_pb2.Value:
    match value:
        case None:
            return struct_pb2.Value(null_value=struct_pb2.NULL_VALUE)
        case Unknown():
            return struct_pb2.Value(string_value=UNKNOWN_TEXT)
        case Secret():
            marked = {SIGNATURE: SECRET, "value": value.value}
            return struct_pb2.Value(struct_value=_encode_fields(marked))
        case bool():
            return struct_pb2.Value(bool_value=value)
        case int() if abs(value) > wire.EXACT:
            return struct_pb2.Value(string_value=str(value))  # not declared as an integer, and rounded as a number
        case int() | float():
            return struct_pb2.Value(number_value=value)
        case str():
            return struct_pb2.Value(string_value=value)
        case Mapping():
            return struct_pb2.Value(struct_value=_encode_fields({str(key): item for key, item in value.items()}))
        case list() | tuple():
            return struct_pb2.Value(list_value=struct_pb2.ListValue(values=[_encode(item) for item in value]))
        case _:
            raise TypeError(f"{type(value).__name__} has no property form")


class Change(Enum):
    """How one property differs."""

    ADD = "add"
    DELETE = "delete"
    UPDATE = "update"


def differences(old: Any, new: Any, at: tuple[str | int, ...] = ()) -> dict[tuple[str | int, ...], Change]:
    """What changes from ``old`` to ``new``, by path of the deepest differing value, in a stable order.

    A missing value and ``None`` are the same; secret marks do not count; an unknown new value is a change.
    """
    old, new = (side.value if isinstance(side, Secret) else side for side in (old, new))
    if old is None and new is None:
        return {}
    if old is None:
        return {at: Change.ADD}
    if new is None:
        return {at: Change.DELETE}
    found: dict[tuple[str | int, ...], Change] = {}
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted({*old, *new}):
            found |= differences(old.get(key), new.get(key), (*at, key))
    elif isinstance(old, (list, tuple)) and isinstance(new, (list, tuple)):
        for index in range(max(len(old), len(new))):
            before = old[index] if index < len(old) else None
            after = new[index] if index < len(new) else None
            found |= differences(before, after, (*at, index))
    elif new is UNKNOWN or isinstance(old, bool) is not isinstance(new, bool) or old != new:
        found[at] = Change.UPDATE
    return found
