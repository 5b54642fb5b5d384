"""A promotion by pull requests: what each of them holds, and what follows when it is merged."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ops import engine, promotion_requests
from ops.github import GitHub, GitHubError
from ops.promote import Run
from ops.promotion_files import Files
from ops.promotion_requests import Requests
from tests.ops.github_mock import TOKEN, Repository, serve
from tests.unit.test_promotion import FILE
from tfserving import promotion
from tfserving.judgement import Judgement
from tfserving.promotion import Group, PromotionError, Record

PROJECT = "name: tf-serving\nruntime: python\nstackConfigDir: stacks\n"


class Judge:
    """In place of the servers' counters: what they would say is what the test wants."""

    def __init__(self) -> None:
        self.said = Judgement("good", ())
        self.held: list[str] = []

    def hold(self, record: Record, step: Any, title: str) -> Judgement:
        self.held.append(title)
        return self.said

    def counted_before(self, record: Record, step: Any) -> dict[str, Any]:
        return {}


class Place:
    """A git repository with a stack, its judge and its GitHub."""

    def __init__(self, root: Path, mock: Repository) -> None:
        (root / "stacks").mkdir()
        (root / "Pulumi.yaml").write_text(PROJECT, encoding="utf-8")
        self.root, self.mock, self.judge = root, mock, Judge()
        self.stack_file = root / "stacks" / "Pulumi.dev.yaml"
        self.stack_file.write_text(FILE, encoding="utf-8")
        self.git("init", "--quiet", "--initial-branch=main")
        self.commit()

    def git(self, *arguments: str) -> str:
        who = ("-c", "user.name=t", "-c", "user.email=t@example.com")
        done = subprocess.run(["git", *who, *arguments], cwd=self.root, capture_output=True, text=True, check=True)
        return done.stdout

    def commit(self) -> None:
        self.git("add", "-A")
        self.git("commit", "--quiet", "--allow-empty", "-m", "x")

    @property
    def files(self) -> Files:
        return Files("dev", self.root)

    @property
    def requests(self) -> Requests:
        hub = GitHub("owner/name", TOKEN, self.mock.api)
        run: Run = self.judge  # type: ignore[assignment]
        return Requests("dev", "pulumi", self.files, run, hub, "main")

    def plan(self, group: bool = False) -> Record:
        chosen = Group("vision", "two", (50, 100)) if group else None
        steps = promotion.plan("modelB", 2, "stable", self.files.value, ["one"], chosen)
        return Record("modelB", 2, "stable", steps, id="c0ffee")

    def merge(self, number: int) -> None:
        """Merges a pull request: its files are in the checkout."""
        pull = self.mock.pulls[number]
        for file in pull["commit"]["files"]:
            place = self.root / file["path"]
            if file.get("sha", "") is None:
                place.unlink()
            else:
                place.write_text(file["content"], encoding="utf-8")
        pull["state"] = "closed"
        self.commit()

    def record(self) -> Record:
        found = self.files.record()
        assert found is not None
        return found


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    deployed = engine.Done(0, "{}", "")
    monkeypatch.setattr(promotion_requests.engine, "run", lambda *_: deployed)
    with serve() as mock:
        yield Place(tmp_path, mock)


def test_each_step_is_a_pull_request_and_the_last_one_takes_the_record_away(place: Place) -> None:
    first = place.requests.begin(place.plan(group=True))
    pull = place.mock.pulls[first.number]
    assert (pull["base"]["ref"], pull["title"]) == ("main", "dev: two: modelB version 2 by label stable")
    assert pull["commit"]["parents"] == [place.git("rev-parse", "HEAD").strip()]
    assert "(this pull request)" in pull["body"]
    assert place.git("status", "--porcelain") == "", "nothing is written here"
    titles = []
    for _ in range(10):
        place.merge(max(place.mock.pulls))
        if place.files.record() is None:
            break
        ended, post = place.requests.go_on(place.record())
        assert ended.outcome == "done"
        assert post is not None
        titles.append(post.number and place.mock.pulls[post.number]["title"])
    assert titles == [
        "dev: vision: two 50 %",
        "dev: vision: two 100 %",
        "dev: modelB: label stable 1 -> 2",
        "dev: vision: two 0 % again",
        "dev: promotion of modelB is done",
    ]
    assert len(place.judge.held) == 5
    assert place.files.value((promotion.MODELS, "modelB", "labels", "stable")) == 2
    assert place.files.value((promotion.TRAFFIC, "vision", "weights")) == {"one": 100, "two": 0}
    assert place.git("status", "--porcelain") == ""


def test_a_version_that_is_not_good_enough_has_a_way_back(place: Place) -> None:
    place.requests.begin(place.plan())
    place.merge(max(place.mock.pulls))
    place.judge.said = Judgement("breach", ("3 of 100 requests failed",))
    ended, post = place.requests.go_on(place.record())
    assert (ended.outcome, ended.reasons) == ("back", ("3 of 100 requests failed",))
    assert post is not None
    assert "3 of 100 requests failed" in post.body
    place.merge(post.number)
    assert place.stack_file.read_text(encoding="utf-8") == FILE
    assert place.files.record() is None


def test_what_is_asked_for_twice_is_opened_once(place: Place) -> None:
    plan = place.plan()
    first = place.requests.begin(plan)
    (place.root / "README").write_text("somebody else's commit", encoding="utf-8")
    place.commit()
    assert place.requests.begin(plan).number == first.number
    place.mock.pulls[first.number]["state"] = "closed"
    with pytest.raises(PromotionError, match="was closed"):
        place.requests.begin(plan)


def test_too_few_requests_or_a_step_that_is_not_deployed_open_nothing(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.requests.begin(place.plan())
    place.merge(max(place.mock.pulls))
    place.judge.said = Judgement("undecided", ("12 requests",))
    assert place.requests.go_on(place.record())[1] is None
    monkeypatch.setattr(promotion_requests.engine, "run", lambda *_: engine.Done(engine.CHANGES, "", ""))
    ended, post = place.requests.go_on(place.record())
    assert (ended.outcome, ended.reasons, post) == ("undecided", ("this step is not deployed yet",), None)
    monkeypatch.setattr(promotion_requests.engine, "run", lambda *_: engine.Done(255, "", "error: no backend"))
    with pytest.raises(PromotionError, match="cannot be told: no backend"):
        place.requests.go_on(place.record())
    assert len(place.mock.pulls) == 1


def test_edits_that_are_not_committed_do_not_slip_in(place: Place) -> None:
    place.stack_file.write_text(FILE + "# mine\n", encoding="utf-8")
    with pytest.raises(PromotionError, match="not committed"):
        place.requests.begin(place.plan())
    assert place.mock.pulls == {}


def test_what_github_refuses_is_told(place: Place) -> None:
    place.mock.failures.append((403, {}))
    with pytest.raises(GitHubError, match="contents: write"):
        place.requests.begin(place.plan())


def test_the_record_of_a_pull_request_says_what_is_to_be_judged(place: Place) -> None:
    place.requests.begin(place.plan())
    [pull] = place.mock.pulls.values()
    files = {file["path"]: file.get("content") for file in pull["commit"]["files"]}
    record = Record.from_dict(json.loads(files["stacks/Pulumi.dev.promotion.json"]))
    assert (record.phase, record.step, record.current and record.current.canary) == ("hold", 0, ("one",))
    assert files["stacks/Pulumi.dev.yaml"].count("stable: 2") == 1
