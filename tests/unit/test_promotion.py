"""Promotions: planned, judged, killed anywhere and continued."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfserving import promotion, stack_edit
from tfserving.judgement import Limits, judge, lower_bound
from tfserving.metrics import Counts
from tfserving.promotion import Change, Group, PromotionError, Record, Step
from tfserving.stack_edit import REMOVED

FILE = """\
config:
  tf-serving:models:
    modelA: {policy: all}
    modelB:
      versions: [1]
      policy: {specific: [1]} # kept
      labels: {stable: 1, canary: 1}
  tf-serving:services:
    one: {configFile: true}
    two:
      configFile: true
      models:
        modelB: {labels: {stable: 1}}
  tf-serving:traffic:
    vision:
      weights: {one: 100, two: 0}
"""


class Disk:
    """A stack file and a record, as a run that may be killed leaves them."""

    def __init__(self, text: str = FILE) -> None:
        self.text, self.record = text, ""

    def value(self, path: stack_edit.Path) -> Any:
        return stack_edit.value_at(self.text, path, "tf-serving")


def plan(disk: Disk, **options: Any) -> tuple[Step, ...]:
    return promotion.plan("modelB", 2, "stable", disk.value, ["one"], **options)


def counts(good: int, bad: int = 0, microseconds: float = 1000.0) -> Counts:
    limits = [10.0 * 1.8**power for power in range(33)] + [math.inf]
    return Counts({"INTERNAL": bad} if bad else {}, {limit: good if limit >= microseconds else 0 for limit in limits})


# ---- steps


def test_a_label_moves_in_one_step_that_keeps_the_version_before() -> None:
    [step] = plan(Disk())
    assert {change.path[1:]: change.after for change in step.changes} == {
        ("modelB", "versions"): [1, 2],
        ("modelB", "policy", "specific"): [1, 2],
        ("modelB", "labels", "stable"): 2,
    }
    assert (step.canary, step.stable) == (("one",), ())


def test_a_label_that_is_there_already_is_no_step_and_a_strange_model_is_refused() -> None:
    disk = Disk(FILE.replace("stable: 1, canary", "stable: 2, canary"))
    assert plan(disk) == ()
    with pytest.raises(PromotionError, match="no model 'modelX'"):
        promotion.plan("modelX", 2, "stable", disk.value, [])


def weights(step: Step) -> dict[str, int]:
    return {change.path[-1]: change.after for change in step.changes if change.path[0] == promotion.TRAFFIC}


def test_shares_rise_before_the_label_moves_and_end_as_they_began() -> None:
    steps = plan(Disk(), group=Group("vision", "two", (10, 50, 100)))
    assert [weights(step) for step in steps] == [
        {},
        {"two": 10, "one": 90},
        {"two": 50, "one": 50},
        {"two": 100, "one": 0},
        {},
        {"two": 0, "one": 100},
    ]
    assert [(step.canary, step.stable) for step in steps] == [
        ((), ()), (("two",), ("one",)), (("two",), ("one",)), (("two",), ()), ((), ()), ((), ()),
    ]  # fmt: skip
    [version] = [c for c in steps[0].changes if c.path[0] == promotion.SERVICES]
    assert version.path[-3:] == ("modelB", "labels", "stable")
    [label] = [c for step in steps[4:5] for c in step.changes]
    assert (label.path[-1], label.after) == ("stable", 2)


def test_a_member_that_gets_much_already_gets_the_first_share_before_it_gets_the_version() -> None:
    steps = plan(Disk(FILE.replace("one: 100, two: 0", "one: 40, two: 60")), group=Group("vision", "two", (10, 100)))
    assert weights(steps[0]) == {"two": 10, "one": 90}
    assert weights(steps[-1]) == {"two": 60, "one": 40}


def test_a_canary_without_a_model_set_of_its_own_gets_one_with_every_model() -> None:
    text = FILE.replace("      models:\n        modelB: {labels: {stable: 1}}\n", "")
    [change] = [
        c for c in plan(Disk(text), group=Group("vision", "two", (100,)))[0].changes if c.path[0].endswith("services")
    ]
    assert change.after == {"modelA": {}, "modelB": {"labels": {"stable": 2, "canary": 1}}}


@pytest.mark.parametrize(
    ("group", "told"),
    [
        (Group("nowhere", "two", (10,)), "no group 'nowhere'.* Allowed: vision."),
        (Group("visoin", "two", (10,)), "Fix: did you mean 'vision'"),
        (Group("vision", "three", (10,)), "no member"),
        (Group("vision", "two", (50, 10)), "rising shares"),
        (Group("vision", "two", (0, 10)), "rising shares"),
        (Group("vision", "two", (10, 101)), "rising shares"),
    ],
)
def test_a_group_that_does_not_fit_is_refused(group: Group, told: str) -> None:
    with pytest.raises(PromotionError, match=told):
        plan(Disk(), group=group)


PINNED = FILE.replace("one: {configFile: true}", "one: {configFile: true, models: {modelB: {%s}}}")
DEFAULTS = FILE.replace(
    "  tf-serving:traffic:", "  tf-serving:serviceDefaults: {models: {modelB: {%s}}}\n  tf-serving:traffic:"
)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (
            PINNED % "labels: {stable: 1}",
            "tf-serving:services.one.models.modelB.labels.stable: label stable is version 1",
        ),
        (PINNED % "labels: {canary: 1}", "tf-serving:services.one.models.modelB.labels: there is no label stable"),
        (
            PINNED % "labels: {stable: 1}, policy: {specific: [1]}",
            "tf-serving:services.one.models.modelB.labels.stable",
        ),
        (DEFAULTS % "labels: {stable: 1}", "tf-serving:serviceDefaults.models.modelB.labels.stable"),
        (
            (PINNED % "labels: {stable: 1}").replace("labels: {stable: 1, canary: 1}", "labels: {stable: 2}"),
            "services.one",
        ),
    ],
)
def test_a_member_that_would_get_its_requests_back_with_the_old_version_is_refused(text: str, place: str) -> None:
    with pytest.raises(PromotionError, match=re.escape(place)) as refused:
        plan(Disk(text), group=Group("vision", "two", (10, 100)))
    assert "Fix: remove tf-serving:" in str(refused.value)


def test_labels_of_a_member_become_the_models_where_the_model_has_none() -> None:
    text = (PINNED % "labels: {stable: 1}").replace("      labels: {stable: 1, canary: 1}\n", "")
    with pytest.raises(
        PromotionError, match=r"Fix: move .*one\.models\.modelB\.labels to tf-serving:models\.modelB\.labels"
    ):
        plan(Disk(text), group=Group("vision", "two", (10, 100)))


@pytest.mark.parametrize("group", [None, Group("vision", "two", (10, 100))], ids=["label", "shares"])
def test_a_policy_of_a_services_own_is_widened_where_its_labels_move(group: Group | None) -> None:
    [first, *_] = plan(Disk(PINNED % "policy: {specific: [1]}"), group=group)
    found = {change.path: change.after for change in first.changes}
    assert found[(promotion.SERVICES, "one", "models", "modelB", "policy", "specific")] == [1, 2]
    if group is None:
        text = PINNED % "policy: {specific: [1]}, labels: {stable: 1}"
        assert not any(c.path[0] == promotion.SERVICES for step in plan(Disk(text)) for c in step.changes)


def test_a_label_that_goes_back_takes_those_with_it_that_a_promotion_left_at_its_canary() -> None:
    disk = Disk()
    for step in plan(disk, group=Group("vision", "two", (100,))):
        disk.text = stack_edit.edit(disk.text, promotion.edits(step, disk.value), "tf-serving")
    kept = promotion.kept_labels("modelB", "stable", disk.value)
    assert {name: disk.value(place) for name, place in kept.items()} == {"two": 2}
    [back] = promotion.plan("modelB", 1, "stable", disk.value, (), also=tuple(kept.values()))
    disk.text = stack_edit.edit(disk.text, promotion.edits(back, disk.value), "tf-serving")
    assert disk.value(kept["two"]) == disk.value((promotion.MODELS, "modelB", "labels", "stable")) == 1


@pytest.mark.parametrize(
    ("model", "label", "told"),
    [
        ("modelX", "stable", "no model 'modelX' in the stack file. Allowed: modelA, modelB. Fix: did you mean 'model"),
        ("zzz", "stable", "no model 'zzz' in the stack file. Allowed: modelA, modelB."),
        ("modelB", "stabel", "modelB.labels: there is no label 'stabel' in the stack file. Allowed: stable, canary. "
         "Fix: did you mean 'stable'"),
        ("modelB", "nope", "Allowed: stable, canary. Fix: name one with --label"),
    ],
)  # fmt: skip
def test_a_model_or_label_that_is_not_in_the_file_is_refused_with_what_was_meant(
    model: str, label: str, told: str
) -> None:
    with pytest.raises(PromotionError, match=re.escape(told)):
        promotion.plan(model, 2, label, Disk().value, [])


def test_a_model_without_a_label_may_get_its_first() -> None:
    [step] = promotion.plan("modelA", 2, "stable", Disk().value, [])
    assert [change.path[1:] for change in step.changes] == [("modelA", "labels", "stable")]


def test_the_canary_is_the_member_that_says_otherwise_or_gets_least() -> None:
    assert promotion.choose_canary({"a": 50, "b": 50}, {"b": {"m": {"labels": {}}}, "a": REMOVED}, "m") == "b"
    assert promotion.choose_canary({"a": 90, "b": 10}, {}, "m") == "b"
    with pytest.raises(PromotionError, match="--canary: a, b"):
        promotion.choose_canary({"a": 50, "b": 50}, {}, "m")


# ---- judgement


@pytest.mark.parametrize(
    ("canary", "stable", "verdict"),
    [
        (counts(1000), counts(1000), "good"),
        (counts(970, 30), counts(1000), "breach"),
        (counts(100), counts(1000), "undecided"),
        (counts(0), counts(1000), "undecided"),
        (counts(0, 20), counts(1000), "breach"),  # too few to be good, and enough to be bad
        (counts(30, 1), None, "undecided"),  # one of thirty may be chance
        (counts(9940, 60), counts(100000), "breach"),  # within the limit, and worse than stable beyond chance
        (counts(9940, 60), counts(9940, 60), "good"),
        (counts(1000, 0, 200_000), None, "breach"),
        (counts(100, 0, 200_000), None, "breach"),  # every one of them is too slow
    ],
)
def test_judgements(canary: Counts, stable: Counts | None, verdict: str) -> None:
    found = judge(canary, stable, Limits(0.01, 0.080, 500))
    assert found.verdict == verdict
    assert found.reasons


@given(st.integers(0, 2000), st.integers(0, 2000), st.integers(1, 3000), st.integers(0, 2000))
def test_too_few_requests_are_never_good(good: int, bad: int, needed: int, stable: int) -> None:
    found = judge(counts(good, bad), counts(stable), Limits(0.01, None, needed))
    assert good + bad >= needed or found.verdict != "good"
    assert bad == 0 or bad / (good + bad) <= 0.01 or found.verdict != "good"


@given(st.integers(0, 1000), st.integers(1, 1000))
def test_a_bound_is_below_the_share(hits: int, more: int) -> None:
    assert 0 <= lower_bound(hits, hits + more) <= hits / (hits + more) + 1e-12


# ---- the record

values = st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.integers()) | st.just(REMOVED)
changes = st.builds(Change, st.tuples(st.text(), st.text()), values, values)
steps = st.builds(Step, st.text(), st.tuples(changes), st.tuples(st.text()), st.just(()))
records = st.builds(
    Record, st.text(), st.integers(0, 2**63 - 1), st.text(), st.tuples(steps, steps), step=st.integers(0, 2),
    back=st.booleans(), before=st.dictionaries(st.text(), st.just(counts(5, 2))),
)  # fmt: skip


@given(records)
def test_a_record_is_read_as_it_was_written(record: Record) -> None:
    assert Record.from_dict(json.loads(json.dumps(record.to_dict()))) == record


@pytest.mark.parametrize("raw", [None, [], {}, {"promotion": 2}, {"promotion": 1}])
def test_what_is_no_record_is_refused(raw: Any) -> None:
    with pytest.raises(PromotionError):
        Record.from_dict(raw)


class KilledError(Exception):
    """kill -9."""


class World:
    """What ``ops promote`` does, in the same order, with a kill before any write: see :mod:`ops.promote`."""

    def __init__(self, disk: Disk, kill_at: int, bad_from: int | None) -> None:
        self.disk, self.left, self.bad_from = disk, kill_at, bad_from
        self.deployed = disk.text

    def point(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise KilledError

    def keep(self, record: Record) -> Record:
        self.point()
        self.disk.record = json.dumps(record.to_dict())
        return record

    def run(self, record: Record) -> None:
        self.keep(record)
        while (step := record.current) is not None:
            if record.phase == "edit":
                new = stack_edit.edit(self.disk.text, promotion.edits(step, self.disk.value), "tf-serving")
                self.point()
                self.disk.text = new
                record = self.keep(Record.from_dict({**record.to_dict(), "phase": "apply"}))
            if record.phase == "apply":
                self.point()
                self.deployed = self.disk.text
                record = self.keep(Record.from_dict({**record.to_dict(), "phase": "hold"}))
            self.point()
            if step.canary and self.bad_from is not None and record.step >= self.bad_from:
                record = self.keep(record.turned_back(("bad",), self.disk.value))
                continue
            record = self.keep(record.next())
        self.point()
        self.disk.record = ""


@settings(deadline=None)
@given(
    st.lists(st.integers(1, 40), max_size=4),
    st.sampled_from([None, 0, 1, 2, 3]),
    st.booleans(),
    st.booleans(),
)
def test_killed_anywhere_it_ends_where_it_was_to_go_or_where_it_began(
    kills: list[int], bad_from: int | None, with_group: bool, abort: bool
) -> None:
    disk = Disk()
    group = Group("vision", "two", (10, 50, 100)) if with_group else None
    first = Record("modelB", 2, "stable", plan(disk, group=group))
    world = World(disk, 0, bad_from)
    begun = False
    for kill in [*kills, 0]:
        world.left = kill
        try:
            if not begun:
                begun = True
                world.run(first)
            elif disk.record:
                record = Record.from_dict(json.loads(disk.record))
                if abort:
                    world.run(world.keep(record.turned_back(("aborted",), disk.value)))
                else:
                    world.run(promotion.resumed(record, True, disk.value))
        except KilledError:
            if not disk.record and disk.text == FILE and not kills:
                break
            continue
    assert disk.record == ""
    assert world.deployed == disk.text
    if disk.text == FILE:
        return
    assert disk.value((promotion.MODELS, "modelB", "labels", "stable")) == 2
    assert disk.value((promotion.TRAFFIC, "vision", "weights")) == {"one": 100, "two": 0}
    assert bad_from is None or (bad_from > 0 and not with_group)


def test_what_somebody_else_changed_is_never_overwritten() -> None:
    disk = Disk()
    [step] = plan(disk)
    disk.text = FILE.replace("stable: 1, canary", "stable: 7, canary")
    with pytest.raises(PromotionError, match=r"stable is 7.*knows 1 or 2"):
        promotion.edits(step, disk.value)


def test_other_edits_are_seen_before_they_are_deployed() -> None:
    disk = Disk()
    [step] = plan(disk)
    record = Record("modelB", 2, "stable", (step,), phase="hold")
    assert promotion.resumed(record, True, disk.value).phase == "edit"  # somebody took the edit back
    disk.text = stack_edit.edit(FILE, promotion.edits(step, disk.value), "tf-serving")
    assert promotion.resumed(record, True, disk.value).phase == "hold"
    assert promotion.resumed(record, False, disk.value).phase == "edit"


def test_a_step_is_judged_against_its_stable_services_or_its_own_past() -> None:
    limits = Limits(0.5, None, 100)
    by_others = Step("", (), ("two",), ("one",))
    numbers: Mapping[str, Counts] = {"one": counts(10_000), "two": counts(900, 100)}
    assert promotion.judged(by_others, numbers, {}, limits).verdict == "breach"
    alone = Step("", (), ("two",))
    assert promotion.judged(alone, numbers, {"two": counts(9000, 1000)}, limits).verdict == "good"
    assert promotion.judged(alone, numbers, {"two": counts(10_000)}, limits).verdict == "breach"
    assert promotion.judged(alone, numbers, {"two": counts(10)}, limits).verdict == "good"  # too little to compare with
