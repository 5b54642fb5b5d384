"""A run of a promotion with an engine and counters that say what a test wants; the files are real."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ops import engine, promote
from ops.promote import Run
from ops.promotion_files import Files
from ops.redact import Redactor
from tests.unit.test_promotion import FILE, counts
from tfserving import promotion
from tfserving.judgement import Limits
from tfserving.metrics import Counts
from tfserving.promotion import Group, PromotionError, Record

FINE = engine.Done(0, json.dumps({"steps": [], "diagnostics": []}), "")
REFUSED = engine.Done(
    1,
    json.dumps({"steps": [], "diagnostics": [{"severity": "error", "message": "error: version 2 is not there\n"}]}),
    "",
)
BUSY = engine.Done(1, "error: the stack is currently locked by 1 lock(s)", "")
FAILED = engine.Done(1, "     updating failed\n  error: version 2 cannot be loaded password=hunter2-and-more\n", "")


class Counter:
    """A meter that counts the same at every look."""

    def __init__(self, found: Counts) -> None:
        self.found = found

    def look(self) -> None:
        """Nothing to read."""

    def counts(self, model: str) -> Counts:
        return self.found

    def before(self, model: str) -> Counts:
        return Counts()


class World:
    """A stack file, an engine that answers in turn, and services that count."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (root / "stacks").mkdir()
        (root / "Pulumi.yaml").write_text("name: tf-serving\nstackConfigDir: stacks\n", encoding="utf-8")
        self.file = root / "stacks" / "Pulumi.dev.yaml"
        self.file.write_text(FILE, encoding="utf-8")
        self.files = Files("dev", root)
        self.previews: list[engine.Done] = []
        self.updates: list[engine.Done] = []
        self.counted = {"one": counts(1000), "two": counts(1000)}
        self.deployed: list[str] = []
        self.said: list[str] = []
        self.on_update: Callable[[], None] = lambda: None
        self.slept = 0.0
        monkeypatch.setattr(promote.engine, "run", lambda *_: self.previews.pop(0) if self.previews else FINE)
        monkeypatch.setattr(promote.engine, "follow", self.follow)
        monkeypatch.setattr(promote.time, "sleep", self.sleep)
        monkeypatch.setattr(promote.time, "monotonic", lambda: self.slept)
        monkeypatch.setattr(
            Run, "_meters", lambda _, record, names: {name: Counter(self.counted[name]) for name in names}
        )

    def sleep(self, seconds: float) -> None:
        self.slept += max(seconds, 0.01)

    def follow(self, stack: str, arguments: list[str], told: Callable[[str], None], which: str) -> engine.Done:
        assert arguments == ["up", "--yes"]
        self.on_update()
        done = self.updates.pop(0) if self.updates else FINE
        for line in done.out.splitlines():
            told(line)
        if done.code == 0:
            self.deployed.append(self.file.read_text(encoding="utf-8"))
        return done

    def record(self, group: bool = False) -> Record:
        chosen = Group("vision", "two", (10, 100)) if group else None
        steps = promotion.plan("modelB", 2, "stable", self.files.value, ["one"], chosen)
        return Record("modelB", 2, "stable", steps, Limits(0.01, None, 100), hold=60.0)

    def run(self, record: Record | None = None, **options: Any) -> promote.Ended:
        redactor = Redactor(["hunter2-and-more"])
        return Run("dev", "pulumi", self.files, redactor, self.said.append).run(record or self.record(**options))

    def weights(self) -> list[Any]:
        return [text.split("weights: ")[1].splitlines()[0] for text in self.deployed]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


def test_shares_are_deployed_in_order_and_each_is_held(world: World) -> None:
    ended = world.run(group=True)
    assert ended.outcome == "done"
    assert world.weights() == [
        "{one: 100, two: 0}",
        "{one: 90, two: 10}",
        "{one: 0, two: 100}",
        "{one: 0, two: 100}",
        "{one: 100, two: 0}",
    ]
    assert world.slept >= 120
    assert world.files.record() is None
    assert len([line for line in world.said if "holding, " in line and " yet; two: 1000 requests" in line]) >= 4


def test_an_update_that_fails_is_set_back_and_tells_no_secret(world: World) -> None:
    world.updates = [FAILED]
    ended = world.run()
    assert ended.outcome == "back"
    assert "version 2 cannot be loaded" in ended.reasons[0]
    assert "hunter2" not in str(ended) + "".join(world.said)
    assert world.deployed == [FILE]
    assert world.file.read_text(encoding="utf-8") == FILE


def test_a_gate_that_is_not_passed_is_told_with_its_reason_and_fix(world: World) -> None:
    told = "modelB version 2 did not pass its gate:\n      record 2 differs\n      Fix: look at it"
    world.updates = [engine.Done(1, f"Diagnostics:\n  t:i:T (n):\n    error: {told}\n\nerror: up failed\n", "")]
    reason = "the update failed: modelB version 2 did not pass its gate:\n  record 2 differs\n  Fix: look at it"
    ended = world.run()
    assert ended.reasons == (reason,)
    assert promote.as_value(ended, "dev")["reasons"] == [reason]
    assert promote.as_lines(ended.reasons).endswith("\n    record 2 differs\n    Fix: look at it")


def test_a_way_back_that_fails_stops_and_is_continued(world: World) -> None:
    world.updates = [FAILED, FAILED]
    with pytest.raises(PromotionError, match="not where it began yet"):
        world.run()
    record = world.files.record()
    assert record is not None
    assert record.back
    ended = Run("dev", "pulumi", world.files, Redactor(), world.said.append).resume(record)
    assert ended.outcome == "back"
    assert world.deployed == [FILE]


def test_an_update_of_somebody_else_is_waited_for(world: World) -> None:
    world.updates = [BUSY, BUSY, FINE]
    assert world.run().outcome == "done"
    assert any("waiting for it, 9m 55s yet" in line for line in world.said)


def test_a_lock_that_nobody_holds_any_more_is_told_at_last(world: World) -> None:
    world.updates = [BUSY] * 200
    with pytest.raises(PromotionError, match="pulumi cancel"):
        world.run()


def test_a_first_step_that_is_refused_leaves_the_file_and_no_record(world: World) -> None:
    world.previews = [REFUSED]
    with pytest.raises(PromotionError, match="version 2 is not there"):
        world.run()
    assert world.file.read_text(encoding="utf-8") == FILE
    assert world.files.record() is None
    assert world.deployed == []


def test_a_later_step_that_is_refused_is_set_back(world: World) -> None:
    world.previews = [FINE, REFUSED]
    ended = world.run(group=True)
    assert ended.outcome == "back"
    assert world.deployed[-1] == FILE


def test_a_bad_canary_loses_its_requests_before_it_loses_the_version(world: World) -> None:
    world.counted["two"] = counts(900, 100)
    ended = world.run(group=True)
    assert ended.outcome == "back"
    assert world.weights() == ["{one: 100, two: 0}", "{one: 90, two: 10}", "{one: 100, two: 0}", "{one: 100, two: 0}"]
    assert world.deployed[2] != FILE
    assert world.deployed[3] == FILE
    assert world.slept < 60, "what cannot be chance ends the hold"


def test_too_few_requests_stay_where_they_are(world: World) -> None:
    world.counted["one"] = counts(5)
    ended = world.run()
    assert ended.outcome == "undecided"
    record = world.files.record()
    assert record is not None
    assert (record.step, record.phase) == (0, "hold")
    world.counted["one"] = counts(500)
    assert Run("dev", "pulumi", world.files, Redactor(), world.said.append).resume(record).outcome == "done"
    assert len(world.deployed) == 1, "nothing is deployed again"


def test_an_edit_between_preview_and_update_is_not_deployed_unseen(world: World) -> None:
    record = world.record()
    world.previews = [FINE]

    def preview(*_: Any) -> engine.Done:
        world.file.write_text(world.file.read_text(encoding="utf-8") + "# mine\n", encoding="utf-8")
        return FINE

    promote.engine.run = preview  # type: ignore[assignment]
    with pytest.raises(PromotionError, match=r"somebody else changed Pulumi\.dev\.yaml"):
        world.run(record)
    assert world.deployed == []
    assert world.file.read_text(encoding="utf-8").endswith("# mine\n")


def test_only_one_promotion_of_a_stack_is_at_work(world: World) -> None:
    with world.files.lock(), pytest.raises(PromotionError, match="at work already"), world.files.lock():
        pass
    with world.files.lock():
        pass
