"""Plans for the weights of a group: where they end, and what holds after each single write."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfserving.traffic import (
    WHOLE,
    Found,
    Member,
    Mirror,
    Release,
    SetMirror,
    SetMode,
    Split,
    after,
    changes,
    close,
    in_percent,
    mirror_change,
    plan,
    shares,
)

NAMES = ("stable", "canary", "spare", "other")


@st.composite
def whole(draw: st.DrawFn) -> dict[str, int]:
    """Percent that add up to 100."""
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, unique=True))
    cuts = sorted(draw(st.lists(st.integers(0, WHOLE), min_size=len(names) - 1, max_size=len(names) - 1)))
    edges = [0, *cuts, WHOLE]
    return {name: high - low for name, low, high in zip(names, edges, edges[1:], strict=False)}


mirrors = st.none() | st.builds(Mirror, st.sampled_from(["shadow", "shade"]), st.integers(1, 100))
members = st.builds(Member, st.integers(-1, 1000), st.booleans(), st.integers(0, 5), mirrors)
anything = st.builds(Found, st.fixed_dictionaries(dict.fromkeys(NAMES, members)), st.booleans())


def run(found: Found, wanted: Split) -> list[Found]:
    states = [found]
    for write in plan(found, wanted):
        states.append(after(states[-1], write))
    return states


def settled(weights: Mapping[str, int]) -> Found:
    return Found({name: Member(weights.get(name, 0), name in weights) for name in NAMES}, customized=True)


@given(anything, whole(), mirrors)
def test_from_whatever_is_there_a_plan_ends_at_what_is_wanted(
    found: Found, weights: dict[str, int], mirror: Mirror | None
) -> None:
    wanted = Split(weights, mirror)
    end = run(found, wanted)[-1]
    assert end.customized
    assert end.effective == weights
    assert {name: m.mirror for name, m in end.members.items()} == {
        name: mirror if name in weights else None for name in NAMES
    }
    assert plan(end, wanted) == []


@given(anything, whole(), mirrors, st.data())
def test_killed_after_any_write_the_next_run_ends_there_all_the_same(
    found: Found, weights: dict[str, int], mirror: Mirror | None, data: st.DataObject
) -> None:
    wanted = Split(weights, mirror)
    killed = data.draw(st.sampled_from(run(found, wanted)))
    assert run(killed, wanted)[-1] == run(found, wanted)[-1]


@given(whole(), whole())
def test_no_member_gets_more_than_the_greater_of_its_old_and_new_share(
    old: dict[str, int], new: dict[str, int]
) -> None:
    for state in run(settled(old), Split(new)):
        for name, share in shares(state.effective).items():
            assert share <= max(old.get(name, 0), new.get(name, 0)) / WHOLE + 1e-9


@given(anything, whole())
def test_a_group_that_answers_is_at_no_write_without_an_answer(found: Found, weights: dict[str, int]) -> None:
    running = Found({name: Member(m.weight, m.grouping, 1) for name, m in found.members.items()}, found.customized)
    if any(running.effective.values()):
        assert all(any(state.effective.values()) for state in run(running, Split(weights)))


def test_of_weights_that_somebody_scaled_the_smallest_goes_back_first() -> None:
    found = settled({"stable": 900, "canary": 100})
    assert plan(found, Split({"stable": 90, "canary": 10})) == [Release("canary", 10), Release("stable", 90)]


@given(anything, whole())
def test_writes_change_something_each(found: Found, weights: dict[str, int]) -> None:
    states = run(found, Split(weights))
    assert all(one != other for one, other in itertools.pairwise(states))


@given(anything)
def test_a_closed_group_sends_nothing_and_copies_nothing(found: Found) -> None:
    for write in close(found):
        found = after(found, write)
    assert found.effective == {}
    assert not any(member.mirror for member in found.members.values())


def test_a_first_split_switches_the_mode_before_anybody_takes_requests() -> None:
    found = Found({"stable": Member(), "canary": Member()})
    assert plan(found, Split({"stable": 90, "canary": 10}, Mirror("shadow", 20))) == [
        SetMode(),
        Release("stable", 90),
        Release("canary", 10),
        SetMirror("canary", Mirror("shadow", 20)),
        SetMirror("stable", Mirror("shadow", 20)),
    ]


def test_a_raise_is_written_before_what_it_is_taken_from() -> None:
    assert plan(settled({"stable": 90, "canary": 10}), Split({"stable": 50, "canary": 50})) == [
        Release("canary", 50),
        Release("stable", 50),
    ]


def test_a_member_leaves_with_no_weight() -> None:
    assert plan(settled({"stable": 90, "canary": 10}), Split({"stable": 100})) == [
        Release("stable", 100),
        Release("canary", 0),
        Release("canary", 0, grouping=False),
    ]


def test_a_group_shared_by_replica_count_keeps_answering_while_it_is_switched() -> None:
    found = Found({"old": Member(0, True, 2), "new": Member(0, False, 1)})
    assert plan(found, Split({"new": 100})) == [
        Release("new", 100),
        SetMode(),
        Release("old", 0, grouping=False),
    ]


@given(st.dictionaries(st.text(), st.integers(0, 1000)))
def test_percents_are_whole_and_add_up(weights: dict[str, int]) -> None:
    found = in_percent(weights)
    assert sum(found.values()) == (WHOLE if sum(weights.values()) else 0)
    assert all(abs(found[name] - share * WHOLE) < 1 for name, share in shares(weights).items())


@pytest.mark.parametrize(
    ("before", "wanted", "told"),
    [
        ({"a": 90, "b": 10}, {"a": 50, "b": 50}, ["g: a 90 % -> 50 %", "g: b 10 % -> 50 %"]),
        ({"a": 100}, {"a": 99, "b": 1}, ["g: a 100 % -> 99 %", "g: b joins with 1 %"]),
        ({"a": 0, "b": 100}, {"b": 100}, ["g: a 0 % -> leaves"]),
        ({"b": 100}, {"b": 100}, []),
    ],
)
def test_a_preview_names_every_share_that_changes(
    before: dict[str, int], wanted: dict[str, int], told: list[str]
) -> None:
    assert changes("g", before, wanted) == told


def test_a_preview_names_the_copies_that_change() -> None:
    assert mirror_change("g", None, None) == []
    assert mirror_change("g", None, Mirror("s", 20)) == ["g: copies of requests: none -> 20 % to s"]
    assert mirror_change("g", Mirror("s", 20), None) == ["g: copies of requests: 20 % to s -> none"]
