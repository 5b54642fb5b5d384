"""Version numbers on Pulumi's wire: 64-bit integers that cross it as text.

Pulumi's properties are protobuf Structs, whose only number is a double. Above 2^53 a double is rounded in silence, and
versions named by time are above it: ``20240115093000123`` becomes ``20240115093000124``. So whatever the contract of a
resource declares as a version number (:mod:`tfserving.contract`) is text on the wire, in the state and in what a
program is handed, and ``int`` everywhere inside the provider and the components.

A state of release 0.1.0 holds numbers. They decode to the same integers, so it previews without a change.

Numbers that stay numbers: counts, ports, seconds, replicas, ``latest`` of a policy (an uint32), and bytes (2^53 of them
are 9 PB, and OSS holds at most 48.8 TB in one object).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
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


def rewritten(
    properties: Mapping[str, Any],
    patterns: Iterable[Pattern],
    change: Callable[[Any, Path], Any],
    lift: Lift = lambda value, _: value,
) -> dict[str, Any]:
    """A copy of ``properties`` with ``change`` applied to what ``patterns`` lead to.

    Args:
        properties: properties of a resource, whole or in part.
        patterns: where its 64-bit integers are.
        change: makes another value of one, given its path.
        lift: how to look into values that are neither lists nor mappings.
    """
    result = dict(properties)
    for path in patterns:
        if path[0] in result:
            result[path[0]] = _walk(result[path[0]], path[1:], path[:1], change, lift)
    return result


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
