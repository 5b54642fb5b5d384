"""The 64-bit integers of resources, which are text on the wire and ``int`` in Python (:mod:`tfserving.wire`)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from tfserving import wire
from tfserving.contract import CONTRACTS


def encode(token: str, properties: Mapping[str, Any], lift: wire.Lift = lambda value, _: value) -> dict[str, Any]:
    """``properties`` of a resource with its 64-bit integers as text.

    Args:
        token: type of the resource; of a type without such integers the properties stay as they are.
        properties: inputs or outputs, whole or in part.
        lift: how to look into values that are neither lists nor mappings.
    """
    return wire.rewritten(properties, places(token), lambda value, _: wire.encode_integer(value), lift)


def decode(token: str, properties: Mapping[str, Any], lift: wire.Lift = lambda value, _: value) -> dict[str, Any]:
    """``properties`` of a resource with its 64-bit integers as ``int``, the reverse of :func:`encode`."""
    return wire.rewritten(properties, places(token), lambda value, _: wire.decode_integer(value), lift)


def rounded(
    token: str, properties: Mapping[str, Any], lift: wire.Lift = lambda value, _: value
) -> dict[wire.Path, int]:
    """Integers of a resource that came as numbers so large that they may have been rounded, by their path."""
    found: dict[wire.Path, int] = {}

    def look(value: Any, at: wire.Path) -> Any:
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) >= wire.EXACT:
            found[at] = int(value)
        return value

    wire.rewritten(properties, places(token), look, lift)
    return found


@cache
def places(token: str) -> tuple[wire.Pattern, ...]:
    """Where the 64-bit integers of a type of resource are. Versions that are keys are text anyway."""
    return CONTRACTS[token].integers() if token in CONTRACTS else ()
