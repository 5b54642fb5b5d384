"""The version that a label named before it last moved, as a rollout keeps it and a rollback reads it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops import state
from ops.rollback_command import version_before
from tfserving import served
from tfserving.contract.serving import ServedConfigInputs, ServedConfigOutputs
from tfserving.promotion import PromotionError


def inputs(**labels: int) -> ServedConfigInputs:
    models = {"m": {"basePath": "/models/m", "policy": "all", "labels": {k: str(v) for k, v in labels.items()}}}
    return ServedConfigInputs.read(
        {
            "bucket": "b",
            "key": "k",
            "owner": "p/s",
            "models": models,
            "published": {"m": ["1", "2", "3"]},
            "services": {},
        }
    )


def outputs(previous: dict[str, dict[str, tuple[int, ...]]] | None) -> ServedConfigOutputs:
    raw: dict[str, Any] = {"served": {}, "file": {}, "unproven": [], "obsolete": {}}
    texts = {
        model: {label: [str(number) for number in way] for label, way in each.items()}
        for model, each in (previous or {}).items()
    }
    return ServedConfigOutputs.read(raw | ({"previous": texts} if previous else {}))


def test_a_label_that_moves_leaves_a_way_back() -> None:
    assert served.previous(inputs(stable=2), inputs(stable=1), outputs(None)) == {"m": {"stable": (1,)}}


def test_a_new_rollout_and_a_new_label_have_none() -> None:
    assert served.previous(inputs(stable=2), None, None) == {}
    assert served.previous(inputs(stable=1, canary=2), inputs(stable=1), outputs(None)) == {}


def test_what_does_not_move_keeps_it_and_what_goes_loses_it() -> None:
    found = outputs({"m": {"stable": (1,), "canary": (3,)}, "gone": {"stable": (1,)}})
    assert served.previous(inputs(stable=2), inputs(stable=2, canary=2), found) == {"m": {"stable": (1,)}}


def after(moves: list[int]) -> tuple[int, ...]:
    """The way back of a label that made these moves."""
    before: ServedConfigInputs | None = None
    found: ServedConfigOutputs | None = None
    for version in moves:
        now = inputs(stable=version)
        found = outputs(served.previous(now, before, found))
        before = now
    return ((found.previous if found else None) or {}).get("m", {}).get("stable", ())


def test_a_version_that_was_set_back_is_not_on_the_way_back() -> None:
    assert after([1, 3, 4, 3]) == (1,)
    assert after([1, 3, 1]) == ()
    assert after([1, 2, 3, 2, 4]) == (1, 2)


@given(st.lists(st.integers(1, 2**63 - 1), min_size=1, max_size=8))
def test_the_way_back_ends_at_a_version_that_was_there_and_is_not_there_now(moves: list[int]) -> None:
    way = after(moves)
    assert set(way) <= set(moves[:-1])
    assert way[-1:] != (moves[-1],)
    assert after([*moves, *reversed(way)]) == ()


def resource(version: int | None, *services: str) -> state.Resource:
    read = {"services": {name: {} for name in services}}
    return state.Resource(
        state.SERVED_CONFIG, "r", "i", read, {"previous": {"m": {"stable": [5, version]}}} if version else {}
    )


def test_a_rollback_goes_where_the_state_says() -> None:
    assert version_before([resource(7), resource(None)], "m", "stable") == 7
    with pytest.raises(PromotionError, match="knows no version"):
        version_before([resource(None)], "m", "stable")
    with pytest.raises(PromotionError, match="7 or 8"):
        version_before([resource(7), resource(8)], "m", "stable")


def test_services_that_stay_where_they_are_do_not_say_where_a_rollback_goes() -> None:
    assert version_before([resource(7, "one"), resource(8, "two")], "m", "stable", ["two"]) == 7
    with pytest.raises(PromotionError, match="7 or 8"):
        version_before([resource(7, "one"), resource(8, "one", "two")], "m", "stable", ["two"])
    with pytest.raises(PromotionError, match="or it was set back already"):
        version_before([resource(8, "two")], "m", "stable", ["two"])
