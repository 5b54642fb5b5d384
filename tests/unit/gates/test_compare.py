"""Answers compared: numbers within a tolerance, everything else exactly, the largest difference and its place."""

from __future__ import annotations

import base64
import copy
import math
import struct
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tfserving import tensors
from tfserving.contract.gates import AgreeBy, Tolerance
from tfserving.gates import agreement
from tfserving.gates.compare import compare
from tfserving.protos import tf_serving_pb2 as pb

EXACT = Tolerance(absolute=0, relative=0)
LOOSE = Tolerance(absolute=0.01, relative=0.01)
SINGLE = st.one_of(
    st.integers(-(2**63), 2**64 - 1),
    st.floats(),
    st.booleans(),
    st.text(max_size=5),
    st.binary(max_size=5).map(lambda data: {"b64": base64.b64encode(data).decode()}),
)
ANSWERS = st.recursive(
    SINGLE,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(ANSWERS)
def test_an_answer_is_equal_to_itself_whatever_it_holds(answer: Any) -> None:
    result = compare(answer, copy.deepcopy(answer), EXACT)
    assert (result.equal, result.largest) == (True, 0.0)


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), st.floats(0, 10), st.floats(0, 1))
def test_numbers_differ_where_numpy_says_they_are_not_close(one: float, other: float, a: float, r: float) -> None:
    result = compare([one], [other], Tolerance(absolute=a, relative=r), "y")
    assert result.equal == (abs(one - other) <= a + r * abs(one))
    assert result.largest == abs(one - other)


@given(st.integers(-(2**63), 2**64 - 1), st.integers(-(2**63), 2**64 - 1))
def test_whole_numbers_are_equal_or_not_to_the_last_digit(one: int, other: int) -> None:
    assert compare(one, other, LOOSE).equal == (one == other)


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=5), st.integers(0, 4), st.floats(1, 50))
def test_the_largest_difference_is_named_with_its_place(values: list[float], at: int, more: float) -> None:
    at %= len(values)
    changed = [value + (more if index == at else 0) for index, value in enumerate(values)]
    assume(changed[at] != values[at])
    result = compare({"y": values}, {"y": changed}, EXACT, "outputs")
    assert result.differing == 1
    assert result.place == f"outputs.y[{at}]"
    assert result.largest == pytest.approx(more, rel=1e-6, abs=1e-9)
    assert result.worst.startswith(f"outputs.y[{at}]: expected ")


@pytest.mark.parametrize(
    ("expected", "found"),
    [
        (math.nan, 1.0),
        (1.0, math.nan),
        (math.inf, 1e308),
        (math.inf, -math.inf),
        (1.0, math.inf),
        (True, 1),
        (1, True),
        (1.0, True),
        (1, "1"),
        ("a", "b"),
        ("a", {"b64": "Yg=="}),
        (None, 0),
        ([1], 1),
        (1, [1]),
        ([1], [1, 2]),
        ({"y": 1}, 1),
        ({"y": 1}, {"z": 1}),
        ([1.0], {"y": [1.0]}),
        (2**53 + 1, 2**53),
        ({"b64": "YQ=="}, {"b64": "Yg=="}),
    ],
)
def test_what_is_not_the_same_differs_at_any_tolerance(expected: Any, found: Any) -> None:
    result = compare(expected, found, Tolerance(absolute=1e9, relative=1e9), "y")
    assert not result.equal
    assert result.first.startswith("y")


@pytest.mark.parametrize(
    ("expected", "found"),
    [
        (math.nan, math.nan),
        (-math.inf, -math.inf),
        (1, 1.0),
        (0, 0.005),
        ("a", {"b64": "YQ=="}),
        ({"y": 1}, {"y": 1, "new": 2}),
        ([[1.0, 2.0], [3.0, 4.0]], [[1.01, 2.0], [3.0, 4.0]]),
    ],
)
def test_what_is_near_enough_is_equal(expected: Any, found: Any) -> None:
    assert compare(expected, found, LOOSE).equal


@pytest.mark.parametrize(("dtype", "bits"), [(pb.DT_HALF, 10), (pb.DT_BFLOAT16, 7), (pb.DT_FLOAT, 23)])
@given(value=st.floats(-1000, 1000))
def test_a_number_keeps_within_the_precision_of_its_type(dtype: Any, bits: int, value: float) -> None:
    found = tensors.decode(tensors.encode([value], dtype, "x"), "y")
    assert compare([value], found, Tolerance(absolute=1e-6, relative=2.0**-bits)).equal


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_the_shortest_digits_of_a_float_are_that_float(value: float) -> None:
    """Over REST a server writes so many digits as a float32 needs, over gRPC come its bits."""
    shortest = float(f"{value:.9g}")
    assert struct.unpack("<f", struct.pack("<f", shortest))[0] == value
    assert compare(shortest, value, Tolerance(absolute=1e-30, relative=1e-8)).equal


# ---- agreement -----------------------------------------------------------------------------------------------------

SCORES = st.lists(st.lists(st.floats(0, 1), min_size=3, max_size=3), min_size=1, max_size=6)


@given(SCORES, st.booleans())
def test_a_version_agrees_with_itself(scores: list[list[float]], rows: bool) -> None:
    assert agreement.count(scores, copy.deepcopy(scores), rows, AgreeBy.ARGMAX, EXACT) == (len(scores), len(scores))
    named = {"a": scores, "b": scores}
    assert agreement.count(named, named, False, AgreeBy.ALLCLOSE, EXACT) == (len(scores), len(scores))


@given(SCORES)
def test_an_agreement_counts_the_instances_with_the_same_highest_class(scores: list[list[float]]) -> None:
    turned = [row[::-1] for row in scores]
    same, total = agreement.count(scores, turned, True, AgreeBy.ARGMAX, EXACT)
    assert total == len(scores)
    assert same == sum(row.index(max(row)) == row[::-1].index(max(row)) for row in scores)


@pytest.mark.parametrize(
    ("old", "new", "agree"),
    [
        ([0.1, 0.9], [0.4, 0.6], True),
        ([0.1, 0.9], [0.6, 0.4], False),
        ([0.1, math.nan], [0.1, math.nan], False),
        ([[0.1, 0.9], [0.9, 0.1]], [[0.2, 0.8], [0.1, 0.9]], False),
        ({"p": [0.1, 0.9], "name": "x"}, {"p": [0.2, 0.8], "name": "y"}, True),
        ({"p": [0.1, 0.9]}, {"q": [0.1, 0.9]}, False),
        (0.5, 0.5, False),
        ([0.5], [0.5], False),
        ([1, 5, 2], [3, 9, 4], True),
    ],
)
def test_the_highest_class_decides(old: Any, new: Any, agree: bool) -> None:
    assert agreement.by_argmax(old, new) is agree


def test_whole_outputs_are_divided_along_the_dimension_they_share() -> None:
    assert agreement.instances({"a": [1, 2], "b": [3, 4]}, False) == [{"a": 1, "b": 3}, {"a": 2, "b": 4}]
    assert agreement.instances({"a": [1, 2], "b": 3}, False) == [{"a": [1, 2], "b": 3}]
    assert agreement.instances(5.0, False) == [5.0]
    assert agreement.instances([], False) == [[]]


def test_answers_of_another_number_of_instances_count_as_not_agreeing() -> None:
    assert agreement.count([[1, 2]], [[1, 2], [1, 2]], True, AgreeBy.ARGMAX, EXACT) == (1, 2)
