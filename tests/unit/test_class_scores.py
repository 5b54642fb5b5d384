"""What is shown as bars."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfserving import class_scores, tensors
from tfserving.protos import tf_serving_pb2 as pb


@pytest.mark.parametrize("value", [[0.1, 0.9], [0, 0.5, 0.5], [1.0000002, 0.0], [0.33, 0.33, 0.33]])
def test_numbers_from_0_to_1_that_add_up_to_1_look_like_scores(value: list[float]) -> None:
    assert class_scores.of(value) == [float(item) for item in value]


@pytest.mark.parametrize(
    "value",
    [
        [1, 0],
        [3, 4, 5],
        [True, 0.5],
        [0.5],
        [],
        [-0.1, 0.9],
        [0.2, 1.2],
        [0.9, 0.9],
        [0.0, 0.0, 0.0],
        [299.0, 1.5],
        [math.nan, 0.5],
        [math.inf, 0.5],
        ["0.5", 0.5],
        [None, 0.5],
        [[0.5, 0.5]],
        {"a": 0.5},
        0.5,
        "text",
        None,
    ],
)
def test_counts_prices_embeddings_and_other_things_do_not(value: Any) -> None:
    assert class_scores.of(value) is None


def test_numbers_that_somebody_named_as_classes_need_not_add_up() -> None:
    assert class_scores.of([0.9, 0.8], named=True) == [0.9, 0.8]
    assert class_scores.of([3.5, 0.8], named=True) is None


@given(st.lists(st.floats(-30, 30), min_size=2, max_size=50))
def test_what_softmax_gives_looks_like_scores_in_half_types_too(logits: list[float]) -> None:
    exponents = [math.exp(item - max(logits)) for item in logits]
    exact = [item / sum(exponents) for item in exponents]
    for dtype in (pb.DT_DOUBLE, pb.DT_HALF, pb.DT_BFLOAT16):
        assert class_scores.of(tensors.decode(tensors.encode(exact, dtype, "y"), "y")) is not None
