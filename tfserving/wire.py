"""Version numbers on Pulumi's wire: 64-bit integers that cross it as text.

Pulumi's properties are protobuf Structs, whose only number is a double. Above 2^53 a double is rounded in silence, and
versions named by time are above it: ``20240115093000123`` becomes ``20240115093000124``. So whatever is declared here
is text on the wire, in the state and in what a program is handed, and ``int`` everywhere inside the provider and the
components. Both translate at their border with :func:`encode` and :func:`decode`, and nowhere else.

A state of release 0.1.0 holds numbers. They decode to the same integers, so it previews without a change.

Numbers that stay numbers: counts, ports, seconds, replicas, ``latest`` of a policy (an uint32), and bytes (2^53 of them
are 9 PB, and OSS holds at most 48.8 TB in one object).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from tfserving.property_path import join_path

EXACT: Final = 2**53
"""Up to this absolute value a double holds every integer."""

MAX_INTEGER: Final = 2**63 - 1
"""The highest int64, which is what TensorFlow Serving keeps a version number in."""

Pattern = tuple[str, ...]
"""Steps from a resource's properties to its integers; ``*`` is every item of a list or mapping."""

Path = tuple[str | int, ...]
"""The steps to one of them."""

Lift = Callable[[Any, Callable[[Any], Any]], Any]
"""Applies a change inside of a wrapper (a secret, an output of another resource); anything else it returns as it is."""


def _models(*at: str) -> tuple[Pattern, ...]:
    """The integers of models in the form of :func:`tfserving.model_config.to_dict`."""
    return (*at, "*", "policy", "specific", "*"), (*at, "*", "labels", "*")


def _served(*at: str) -> tuple[Pattern, ...]:
    """The integers of what a service serves, by model."""
    return (*at, "*", "versions", "*"), (*at, "*", "labels", "*")


INTEGERS: Final[Mapping[str, tuple[Pattern, ...]]] = {
    "tfserving:index:ModelConfigFile": _models("initial"),
    "tfserving:index:PublishedModel": _models("serving"),
    "tfserving:index:ServedConfig": (
        *_models("models"),
        *_models("file"),
        *_served("served", "*"),
        ("published", "*", "*"),
        ("obsolete", "*", "*"),
    ),
    "tfserving:index:ServedModel": (("versions", "*"), *_served("served")),
}
"""By type of resource: where its 64-bit integers are. The versions of a ``PublishedModel`` are keys, which are text."""

# As str() writes an integer; what has more digits than any int64 is left to those who check the range.
_TEXT = re.compile(r"0|-?[1-9][0-9]{0,39}")


def encode_integer(value: Any) -> Any:
    """An integer as text. Anything else (``"1 or 2"``, a boolean) stays as it is."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def decode_integer(value: Any) -> Any:
    """An integer from its text, or from the number that release 0.1.0 wrote. Anything else stays as it is."""
    if isinstance(value, str):
        return int(value) if _TEXT.fullmatch(value) else value
    return whole(value)


def whole(value: Any) -> Any:
    """A floating-point number without a fraction as the ``int`` it stands for. Anything else stays as it is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def is_version(value: Any) -> bool:
    """Whether ``value`` is a version number: an ``int`` from 0 to 2^63 - 1."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_INTEGER


def encode(kind: str, properties: Mapping[str, Any], lift: Lift = lambda value, _: value) -> dict[str, Any]:
    """``properties`` of a resource with its 64-bit integers as text.

    Args:
        kind: type of the resource; of a type without such integers the properties stay as they are.
        properties: inputs or outputs, whole or in part.
        lift: how to look into values that are neither lists nor mappings.
    """
    return _rewritten(kind, properties, encode_integer, lift)


def decode(kind: str, properties: Mapping[str, Any], lift: Lift = lambda value, _: value) -> dict[str, Any]:
    """``properties`` of a resource with its 64-bit integers as ``int``, the reverse of :func:`encode`."""
    return _rewritten(kind, properties, decode_integer, lift)


def rounded(kind: str, properties: Mapping[str, Any], lift: Lift = lambda value, _: value) -> dict[Path, int]:
    """Integers of a resource that came as numbers so large that they may have been rounded, by their path."""
    found: dict[Path, int] = {}

    def look(value: Any, at: Path) -> Any:
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) >= EXACT:
            found[at] = int(value)
        return value

    for path in INTEGERS.get(kind, ()):
        if path[0] in properties:
            _walk(properties[path[0]], path[1:], path[:1], look, lift)
    return found


def exact(value: Any) -> Any:
    """Data that no declaration knows: its integers as numbers where a double is exact, as text beyond.

    For stack outputs and JSON that JavaScript reads: text is what is below -2^53 or above 2^53.
    """
    if isinstance(value, Mapping):
        return {key: exact(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [exact(item) for item in value]
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > EXACT:
        return str(value)
    return value


def inexact(value: Any, path: str) -> list[tuple[str, int]]:
    """Integers in data that no declaration knows, whose digits a double would change, with their paths."""
    if isinstance(value, Mapping):
        return [found for key, item in value.items() for found in inexact(item, join_path(path, key))]
    if isinstance(value, list | tuple):
        return [found for index, item in enumerate(value) for found in inexact(item, f"{path}[{index}]")]
    whole = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) > EXACT
    return [(path, int(value))] if whole and abs(value) < float("inf") else []


def _rewritten(kind: str, properties: Mapping[str, Any], change: Callable[[Any], Any], lift: Lift) -> dict[str, Any]:
    result = dict(properties)
    for path in INTEGERS.get(kind, ()):
        if path[0] in result:
            result[path[0]] = _walk(result[path[0]], path[1:], path[:1], lambda value, _: change(value), lift)
    return result


def _walk(value: Any, path: Pattern, at: Path, change: Callable[[Any, Path], Any], lift: Lift) -> Any:
    """A copy of ``value`` with ``change`` applied to what ``path`` leads to; what is of another form stays."""
    if not path and isinstance(value, str | int | float):
        return change(value, at)
    if path and isinstance(value, Mapping):
        keys = value.keys() if path[0] == "*" else value.keys() & {path[0]}
        changed = {key: _walk(value[key], path[1:], (*at, str(key)), change, lift) for key in keys}
        return {key: changed.get(key, item) if key in keys else item for key, item in value.items()}
    if path and path[0] == "*" and isinstance(value, list | tuple):
        return [_walk(item, path[1:], (*at, index), change, lift) for index, item in enumerate(value)]
    return lift(value, lambda inner: _walk(inner, path, at, change, lift))
