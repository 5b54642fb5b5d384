"""Compares an answer with the one that is expected: numbers within a tolerance, everything else exactly.

Values are what :mod:`tfserving.client` gives, over REST and gRPC alike. A number with a fraction or an exponent is a
floating-point one, and is compared as ``numpy.allclose`` does. Whole numbers on both sides are identifiers, counts or
classes and must be equal; so must text, bytes and booleans. NaN is equal to NaN alone, an infinity to itself.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tfserving.contract.gates import Tolerance

_MOST = 40


@dataclass
class Comparison:
    """What came of a comparison.

    Attributes:
        numbers: how many floating-point numbers were compared.
        largest: the largest absolute difference of two of them; infinite where one is not finite and the other is.
        place: where that is.
        differing: how many values are not as expected.
        first: the first of them in words; empty where all are.
        worst: the one with the largest difference in words; as ``first`` where that is no number.
    """

    numbers: int = 0
    largest: float = 0.0
    place: str = ""
    differing: int = 0
    first: str = ""
    worst: str = ""
    _worst: float = field(default=-1.0, repr=False)

    @property
    def equal(self) -> bool:
        """Whether everything is as expected."""
        return self.differing == 0

    def number(self, place: str, difference: float) -> None:
        """Count a number that was compared."""
        self.numbers += 1
        if difference > self.largest or not self.place:
            self.largest, self.place = difference, place

    def differs(self, what: str, difference: float = 0.0) -> None:
        """Count a value that is not as expected."""
        self.differing += 1
        self.first = self.first or what
        if difference > self._worst:
            self._worst, self.worst = difference, what


def compare(expected: Any, found: Any, tolerance: Tolerance, place: str = "") -> Comparison:
    """How ``found`` differs from ``expected``.

    Args:
        expected: numbers, booleans, text, ``{"b64": ...}``, nested lists, and objects by name of output.
        found: the same.
        tolerance: for floating-point numbers.
        place: names the whole value in messages.
    """
    result = Comparison()
    _compare(expected, found, tolerance, place, result)
    return result


def _compare(expected: Any, found: Any, tolerance: Tolerance, place: str, result: Comparison) -> None:
    if isinstance(expected, list):
        if not isinstance(found, list):
            result.differs(f"{place}: expected a list of {len(expected)}, found {shown(found)}")
        elif len(expected) != len(found):
            result.differs(f"{place}: expected a list of {len(expected)}, found one of {len(found)}")
        else:
            for index, (one, other) in enumerate(zip(expected, found, strict=True)):
                _compare(one, other, tolerance, f"{place}[{index}]", result)
        return
    if isinstance(expected, Mapping) and not _is_bytes(expected):
        if not isinstance(found, Mapping) or _is_bytes(found):
            names = ", ".join(map(str, expected))
            result.differs(f"{place}: expected outputs {names}, found {shown(found)}")
            return
        for name, one in expected.items():
            if name not in found:
                result.differs(f"{place}.{name}: expected {shown(one)}, found no such output")
            else:
                _compare(one, found[name], tolerance, f"{place}.{name}", result)
        return
    _compare_single(expected, found, tolerance, place, result)


def _compare_single(expected: Any, found: Any, tolerance: Tolerance, place: str, result: Comparison) -> None:
    both = f"{place}: expected {shown(expected)}, found {shown(found)}"
    if is_number(expected) and is_number(found):
        if isinstance(expected, int) and isinstance(found, int):
            if expected != found:
                result.differs(both)
            return
        difference = _difference(expected, found)
        result.number(place, difference)
        if difference == 0:
            return
        allowed = tolerance.absolute + tolerance.relative * abs(float(expected))
        if not math.isfinite(difference) or not math.isfinite(expected) or difference > allowed:
            size = f": difference {difference:.3g}, allowed {allowed:.3g}" if math.isfinite(difference) else ""
            result.differs(f"{both}{size}", difference)
        return
    one, other = _bytes(expected), _bytes(found)
    if one is not None and other is not None:
        if one != other:
            result.differs(both)
    elif type(expected) is not type(found) or expected != found:
        result.differs(both)


def _difference(expected: float, found: float) -> float:
    """The absolute difference; 0 of two NaN or the same infinity, infinite where only one number is not finite."""
    try:
        one, other = float(expected), float(found)
    except OverflowError:
        return 0.0 if expected == found else math.inf
    if (math.isnan(one) and math.isnan(other)) or one == other:
        return 0.0
    difference = abs(one - other)
    return math.inf if math.isnan(difference) else difference


def is_number(value: Any) -> bool:
    """Whether a value is a number, which a boolean is not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_bytes(value: Any) -> bool:
    return isinstance(value, Mapping) and set(value) == {"b64"}


def _bytes(value: Any) -> bytes | None:
    """What a text or ``{"b64": ...}`` stands for; None for anything else."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    if _is_bytes(value) and isinstance(value["b64"], str):
        try:
            return base64.b64decode(value["b64"], validate=True)
        except binascii.Error:
            return None
    return None


def shown(value: Any) -> str:
    """A value for a message, not too long of it."""
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, Mapping) and not _is_bytes(value):
        return f"outputs {', '.join(map(str, value))}"
    text = repr(value) if not isinstance(value, float) else f"{value:.9g}"
    return text if len(text) <= _MOST else f"{text[:_MOST]}..."
