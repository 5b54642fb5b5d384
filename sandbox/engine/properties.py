"""Property values as they travel between program, engine and providers, and what the engine does with them.

Values are plain JSON. Secrets and references to resources are objects with a signature key; an unknown value of a
preview is a well-known string (:mod:`tfserving.property_values`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from google.protobuf import json_format, struct_pb2

from tfserving.property_path import Path, quoted
from tfserving.property_values import RESOURCE, SECRET, SIGNATURE, UNKNOWNS

_AS_DIGITS = 1e21
"""Whole numbers below are written by their digits, as Go's JSON writes them; that there is no fraction does not mean
that nothing was rounded: the wire only has doubles, and what has to be exact above 2^53 crosses it as text."""

Properties = dict[str, Any]


def to_struct(value: Properties) -> struct_pb2.Struct:
    """Plain JSON to protobuf."""
    struct = struct_pb2.Struct()
    struct.update(value)
    return struct


def from_struct(struct: struct_pb2.Struct) -> Properties:
    """Protobuf to plain JSON; whole numbers become ints."""

    def tidy(value: Any) -> Any:
        if isinstance(value, dict):
            return dict(sorted(value.items()))  # protobuf keeps no order; the state file should have one
        return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < _AS_DIGITS else value

    result: Properties = rewrite(json_format.MessageToDict(struct), tidy)
    return result


def is_secret(value: Any) -> bool:
    """Whether ``value`` is a secret with its content."""
    return isinstance(value, dict) and value.get(SIGNATURE) == SECRET


def secret(value: Any) -> Properties:
    """``value`` marked as secret."""
    return value if is_secret(value) else {SIGNATURE: SECRET, "value": value}


def rewrite(value: Any, change: Callable[[Any], Any]) -> Any:
    """A copy with ``change`` applied to every value, from the inside out."""
    if isinstance(value, dict):
        return change({key: rewrite(item, change) for key, item in value.items()})
    if isinstance(value, list):
        return change([rewrite(item, change) for item in value])
    return change(value)


def plain(value: Any) -> Any:
    """Without secret marks."""
    return rewrite(value, lambda item: item["value"] if is_secret(item) else item)


def masked(value: Any) -> Any:
    """For people and logs: secrets as ``[secret]``."""
    return rewrite(value, lambda item: "[secret]" if is_secret(item) else item)


def without_references(value: Any) -> Any:
    """References to resources replaced by their id, or by their URN if they have none, for older providers."""

    def change(item: Any) -> Any:
        if isinstance(item, dict) and item.get(SIGNATURE) == RESOURCE:
            return item.get("id") or item["urn"]
        return item

    return rewrite(value, change)


def walk(value: Any) -> Iterator[Any]:
    """Every value, containers included."""
    yield value
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for child in children:
        yield from walk(child)


def has_unknown(value: Any) -> bool:
    """Whether anything in ``value`` is unknown."""
    return any(isinstance(item, str) and item in UNKNOWNS for item in walk(value))


def marked(value: Properties, like: Properties) -> Properties:
    """``value`` with a secret wherever ``like`` has one, for providers that do not understand secrets."""
    result = dict(value)
    for key in value.keys() & like.keys():
        if isinstance(value[key], dict) and isinstance(like[key], dict) and not is_secret(like[key]):
            result[key] = marked(value[key], like[key])
        elif any(is_secret(item) for item in walk(like[key])):
            result[key] = secret(value[key])
    return result


def lookup(value: Any, path: Path) -> Any:
    """What lies at ``path``; a secret on the way makes it secret; None if there is nothing."""
    hidden = False
    for step in path:
        while is_secret(value):
            hidden, value = True, value["value"]
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            return None
    return secret(value) if hidden else value


def keep(new: Any, old: Any, path: Path) -> Any:
    """``new`` with what ``old`` has at ``path``, as ``ignoreChanges`` asks."""
    if not path:
        return old
    step, rest = path[0], path[1:]
    if isinstance(new, dict) and isinstance(old, dict):
        result = dict(new)
        for key in {*new, *old} if step == "*" else {str(step)}:
            if key in old and (key in new or not rest):
                result[key] = keep(new.get(key), old[key], rest)
            elif not rest:
                result.pop(key, None)
        return result
    if isinstance(new, list) and isinstance(old, list):
        chosen = range(len(new)) if step == "*" else [step]
        return [keep(v, old[i], rest) if i in chosen and i < len(old) else v for i, v in enumerate(new)]
    return new


def difference(old: Any, new: Any, path: str = "") -> dict[str, str]:
    """Property path to ``add``, ``delete`` or ``update``, for what differs between two values."""
    if isinstance(old, dict) and isinstance(new, dict) and not is_secret(old) and not is_secret(new):
        found: dict[str, str] = {}
        for key in sorted({*old, *new}):
            name = key if re.fullmatch(r"\w[\w-]*", key, re.ASCII) else quoted(key)
            inner = name if not path else f"{path}{name}" if name.startswith("[") else f"{path}.{name}"
            if key not in old or key not in new:
                found[inner] = "add" if key not in old else "delete"
            else:
                found |= difference(old[key], new[key], inner)
        return found
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = enumerate(zip(old, new, strict=True))
        return {k: v for i, (a, b) in pairs for k, v in difference(a, b, f"{path}[{i}]").items()}
    return {} if json.dumps(plain(old), sort_keys=True) == json.dumps(plain(new), sort_keys=True) else {path: "update"}
