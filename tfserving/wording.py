"""How messages put things that are of no subject of their own."""

from __future__ import annotations

from collections.abc import Collection
from itertools import islice


def some_of(items: Collection[str], most: int, separator: str = ", ") -> str:
    """The first of many: ``a, b and 3 more``.

    Args:
        items: all of them, in order.
        most: so many are named.
        separator: what stands between them.
    """
    shown = separator.join(islice(items, most))
    return f"{shown} and {len(items) - most} more" if len(items) > most else shown
