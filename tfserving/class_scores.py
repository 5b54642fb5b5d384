"""What of an answer looks like the scores of classes, and is therefore shown as bars.

Nothing in a SavedModel says it. Scores are taken to be one list of at least two numbers from 0 to 1, floats among them,
that add up to about 1: what softmax gives. Whole numbers are counts or identifiers; other floats may be logits, prices
or an embedding, which bars would tell lies about.
"""

from __future__ import annotations

import math
from typing import Any

_MOST = 1.000001
"""Sums and products of float32 end a little above 1."""

_OFF = 0.02
"""How far from 1 a sum may be: bfloat16 has eight bits of each number."""


def of(value: Any, *, named: bool = False) -> list[float] | None:
    """The scores of one instance; None where its output does not look like any.

    Args:
        value: as JSON has it.
        named: somebody gave as many names of classes as there are numbers: then they need not add up to 1, as those of
            sigmoid do not.
    """
    if not isinstance(value, list) or len(value) < 2 or not {type(item) for item in value} <= {int, float}:
        return None
    if not any(isinstance(item, float) for item in value):
        return None
    # NaN is in no range.
    if not all(0 <= item <= _MOST for item in value):
        return None
    return [float(item) for item in value] if named or abs(math.fsum(value) - 1) <= _OFF else None
