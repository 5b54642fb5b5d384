"""How often two versions of a model give the same answer, instance by instance."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tfserving.contract.gates import AgreeBy, Tolerance
from tfserving.gates.compare import compare, is_number


def instances(answer: Any, rows: bool) -> list[Any]:
    """An answer by instance: a row of ``predictions``, or one along the first dimension that all outputs share.

    Args:
        answer: predictions or outputs.
        rows: whether it is in row form. Whole outputs that share no first dimension are one instance.
    """
    if rows:
        return list(answer)
    if not isinstance(answer, Mapping):
        return list(answer) if isinstance(answer, list) and answer else [answer]
    sizes = {len(value) if isinstance(value, list) else None for value in answer.values()}
    if len(sizes) != 1 or None in sizes or sizes == {0}:
        return [answer]
    return [dict(zip(answer, row, strict=True)) for row in zip(*answer.values(), strict=True)]


def count(old: Any, new: Any, rows: bool, by: AgreeBy, tolerance: Tolerance) -> tuple[int, int]:
    """Instances for which both versions agree, and all of them.

    Args:
        old: answer of the old version.
        new: answer of the new one to the same request.
        rows: whether the request was in row form.
        by: what counts as the same answer.
        tolerance: for ``allclose``.
    """
    before, after = instances(old, rows), instances(new, rows)
    total = max(len(before), len(after))
    agree = by_argmax if by == AgreeBy.ARGMAX else lambda one, other: compare(one, other, tolerance).equal
    return sum(agree(one, other) for one, other in zip(before, after, strict=False)), total


def by_argmax(old: Any, new: Any) -> bool:
    """Whether the highest value is at the same place everywhere along the last dimension, in every output of numbers.

    Outputs of the old version that are not of numbers, or have one value along it, say nothing. Where none is left, and
    where a number is NaN, the answers do not agree.
    """
    one, other = decisions(old), decisions(new)
    return bool(one) and all(place in other and other[place] == choice for place, choice in one.items())


def decisions(answer: Any) -> dict[str, float]:
    """The place of the highest value along each last dimension; NaN, which agrees with nothing, where one is NaN."""
    found: dict[str, float] = {}

    def look(value: Any, place: str) -> None:
        if isinstance(value, Mapping):
            for name, item in value.items():
                look(item, f"{place}.{name}")
        elif isinstance(value, list) and len(value) > 1 and all(is_number(item) for item in value):
            nan = any(math.isnan(item) for item in value if isinstance(item, float))
            found[place] = math.nan if nan else max(range(len(value)), key=value.__getitem__)
        elif isinstance(value, list):
            for index, item in enumerate(value):
                look(item, f"{place}[{index}]")

    look(answer, "")
    return found
