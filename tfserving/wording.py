"""How messages put things that are of no subject of their own."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import islice

from tfserving import pinning
from tfserving.contract.storage import VersionFiles
from tfserving.manifest import amounts


def some_of(items: Collection[str], most: int, separator: str = ", ", *, of: int = 0) -> str:
    """The first of many: ``a, b and 3 more``.

    Args:
        items: all of them, in order.
        most: so many are named.
        separator: what stands between them.
        of: how many there are, where ``items`` are only the first.
    """
    shown, more = separator.join(islice(items, most)), max(of, len(items)) - min(most, len(items))
    return f"{shown} and {more} more" if more else shown


def unasked(service: str, reason: str) -> str:
    """That a service runs and did not answer."""
    return f"service {service} is Running but cannot be asked what it serves: {reason}"


def served_model_changes(model: str, before: Sequence[int], after: Sequence[int]) -> list[str]:
    """What changes for those who ask a service of one model, a line each."""
    if not before or before == after:
        return []
    return [
        f"{model} serves {_numbers(before)} -> {_numbers(after)}",
        *pinning.unlabelled({model: before}, {model: after}),
    ]


def _numbers(versions: Sequence[int]) -> str:
    return ", ".join(map(str, versions)) or "nothing"


def version(number: str, files: VersionFiles | None) -> str:
    """A version of a model, with its size where that is known: ``version 3 (5 files, 1.2 MB)``."""
    return f"version {number}" + (f" ({amounts(files.files, files.bytes)})" if files and files.files else "")
