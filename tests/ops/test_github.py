"""One comment per pull request and stack, one issue per stack, against a mock that pages as GitHub does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from ops import comment, drift_command, github
from ops.drift import Finding, Report
from ops.github import GitHub, GitHubError
from tests.ops.github_mock import BOT, TOKEN, Repository, serve

MARKER = comment.marker("preview", "dev")


@pytest.fixture
def repository() -> Iterator[Repository]:
    with serve() as mock:
        yield mock


@pytest.fixture
def here(repository: Repository) -> GitHub:
    return GitHub("owner/name", TOKEN, repository.api)


def bodies(repository: Repository, number: int = 7) -> list[str]:
    return [each["body"] for each in repository.comments.get(number, [])]


def test_the_first_comment_is_made_and_later_ones_replace_its_text(repository: Repository, here: GitHub) -> None:
    repository.comments[7] = []
    first = here.put_comment(7, MARKER, f"{MARKER}\none")
    second = here.put_comment(7, MARKER, f"{MARKER}\ntwo")
    assert first.number == second.number
    assert bodies(repository) == [f"{MARKER}\ntwo"]


def test_the_comment_is_found_among_hundreds_of_others(repository: Repository, here: GitHub) -> None:
    for i in range(230):
        repository.comment(7, f"talk {i}", "someone")
    here.put_comment(7, MARKER, f"{MARKER}\none")
    for i in range(150):
        repository.comment(7, f"more talk {i}", "someone")
    here.put_comment(7, MARKER, f"{MARKER}\ntwo")
    assert [body for body in bodies(repository) if MARKER in body] == [f"{MARKER}\ntwo"]
    assert len(bodies(repository)) == 381
    assert (
        max(int(path.partition("page=")[2][:3].strip("&")) for _, path in repository.requests if "page" in path) <= 100
    )


def test_an_unchanged_comment_is_not_written_again(repository: Repository, here: GitHub) -> None:
    repository.comment(7, f"{MARKER}\r\nsame\r\n")
    here.put_comment(7, MARKER, f"{MARKER}\nsame\n")
    assert repository.writes() == []


def test_each_stack_has_its_own_comment(repository: Repository, here: GitHub) -> None:
    other = comment.marker("preview", "dev-eu")
    repository.comment(7, f"{other}\neu")
    here.put_comment(7, MARKER, f"{MARKER}\ndev")
    assert bodies(repository) == [f"{other}\neu", f"{MARKER}\ndev"]


def test_comments_of_others_are_never_touched_whatever_they_say(repository: Repository, here: GitHub) -> None:
    forged = f"{MARKER}\nApproved, nothing changes"
    repository.comment(7, forged, "mallory")
    repository.comment(7, f"> {MARKER}\nquoted", BOT)
    here.put_comment(7, MARKER, f"{MARKER}\ntruth")
    assert bodies(repository) == [forged, f"> {MARKER}\nquoted", f"{MARKER}\ntruth"]


def test_of_comments_made_twice_by_runs_at_the_same_time_one_stays(repository: Repository, here: GitHub) -> None:
    oldest = repository.comment(7, f"{MARKER}\none")
    repository.comment(7, "talk", "someone")
    repository.comment(7, f"{MARKER}\ntwo")
    assert here.put_comment(7, MARKER, f"{MARKER}\nthree").number == oldest["id"]
    assert bodies(repository) == [f"{MARKER}\nthree", "talk"]


def test_a_comment_as_large_as_they_get_is_taken(repository: Repository, here: GitHub) -> None:
    repository.comments[7] = []
    here.put_comment(7, MARKER, MARKER + "\n" + "x" * (comment.LIMIT - len(MARKER) - 1))
    with pytest.raises(GitHubError, match="too long"):
        here.put_comment(7, "y", "y" * 65_537)


def test_a_stumbling_github_is_asked_again_but_nothing_is_posted_twice(
    repository: Repository, here: GitHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(github.time, "sleep", waits.append)
    repository.comments[7] = []
    repository.failures = [(502, {}), (403, {"Retry-After": "5"})]
    here.put_comment(7, MARKER, f"{MARKER}\none")
    assert bodies(repository) == [f"{MARKER}\none"]
    assert waits == [1.0, 5.0]
    repository.comments[8] = []
    repository.failures = []
    with pytest.raises(GitHubError, match="500"):
        _fail_posts(repository, here)
    assert repository.writes().count("POST") == 2


def _fail_posts(repository: Repository, here: GitHub) -> None:
    """The list is answered, the post is not: it may have arrived, so it is not repeated."""
    here.find_issue("nothing")
    repository.failures = [(500, {})]
    here._call("POST", "issues/8/comments", {"body": "x"})


@pytest.mark.parametrize(
    ("number", "token", "told"),
    [(7, "wrong", "GITHUB_TOKEN is not valid"), (99, TOKEN, "no such repository, commit, pull request or issue")],
)
def test_refusals_say_what_to_do_and_never_the_token(
    repository: Repository, number: int, token: str, told: str
) -> None:
    with pytest.raises(GitHubError, match=told) as caught:
        GitHub("owner/name", token, repository.api).put_comment(number, MARKER, MARKER)
    assert token not in str(caught.value)
    assert token not in repr(GitHub("owner/name", token, repository.api))


def test_nobody_at_home_is_an_error_without_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(github.time, "sleep", lambda _: None)
    with serve() as gone:
        api = gone.api
    with pytest.raises(GitHubError, match="no answer") as caught:
        GitHub("owner/name", TOKEN, api).find_issue(MARKER)
    assert caught.value.status == 0


@pytest.mark.parametrize("api", ["http://github.example", "ftp://127.0.0.1"])
def test_the_token_travels_over_tls_only(api: str) -> None:
    with pytest.raises(GitHubError, match="https only"):
        GitHub("owner/name", TOKEN, api)


def test_a_next_page_on_another_host_is_not_followed(repository: Repository, here: GitHub) -> None:
    for i in range(101):
        repository.comment(7, f"talk {i}", "someone")
    repository.api = "http://127.0.0.1:9"
    with pytest.raises(GitHubError, match="another host"):
        here.put_comment(7, MARKER, MARKER)


def test_what_the_environment_lacks_is_named() -> None:
    with pytest.raises(GitHubError, match="GITHUB_TOKEN must be set"):
        GitHub.from_environment({"GITHUB_REPOSITORY": "owner/name"})
    with pytest.raises(GitHubError, match="owner/name"):
        GitHub("https://github.com/owner/name", TOKEN)


def test_the_pull_request_and_its_commit_are_those_of_the_event(tmp_path: Path) -> None:
    event = tmp_path / "event.json"
    event.write_text(json.dumps({"pull_request": {"number": 12, "head": {"sha": "abc"}}}), encoding="utf-8")
    environment = {"GITHUB_EVENT_PATH": str(event), "GITHUB_SHA": "merge"}
    assert github.pull_request_number(environment) == 12
    assert github.commit(environment) == "abc"
    assert github.commit({"GITHUB_SHA": "merge"}) == "merge"
    with pytest.raises(GitHubError, match="--pull-request"):
        github.pull_request_number({})


# ---- the issue of a stack ------------------------------------------------------------------------------------------

DRIFT = Report("dev", (Finding("cloud", "multi_http", "replicas 1 -> 3"),))
MORE = Report("dev", (*DRIFT.findings, Finding("served", "multi_http", "serves nothing")))
NONE = Report("dev")
UNKNOWN = Report("dev", unchecked=("what is really there: no credentials",))


@pytest.fixture
def keep(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> Repository:
    for name, value in (
        ("GITHUB_TOKEN", TOKEN), ("GITHUB_REPOSITORY", "owner/name"), ("GITHUB_API_URL", repository.api),
    ):  # fmt: skip
        monkeypatch.setenv(name, value)
    for name in ("GITHUB_RUN_ID", "GITHUB_AUTHOR"):
        monkeypatch.delenv(name, raising=False)
    return repository


def open_issues(repository: Repository) -> list[dict[str, object]]:
    return [each for each in repository.issues.values() if each["state"] == "open"]


def test_drift_opens_one_issue_updates_it_and_closes_it(keep: Repository) -> None:
    for i in range(120):
        keep.issue(f"other {i}", comment.marker("drift", "dev") if i % 2 else "text", "someone")
    keep.issue("a pull request", comment.marker("drift", "dev"), BOT, pull_request=True)
    before = len(keep.issues)
    drift_command._keep_issue(DRIFT)
    assert len(keep.issues) == before + 1
    made = keep.issues[before + 1]
    assert "replicas 1 -> 3" in made["body"]
    assert made["labels"] == [{"name": "drift"}]
    keep.requests.clear()
    drift_command._keep_issue(DRIFT)
    assert keep.writes() == [], "the same drift is no news"
    drift_command._keep_issue(MORE)
    assert "serves nothing" in made["body"]
    drift_command._keep_issue(UNKNOWN)
    assert made["state"] == "open", "what could not be checked is not none"
    drift_command._keep_issue(NONE)
    assert made["state"] == "closed"
    assert len(keep.comments[made["number"]]) == 1
    keep.requests.clear()
    drift_command._keep_issue(NONE)
    assert keep.writes() == []
    drift_command._keep_issue(DRIFT)
    assert len(open_issues(keep)) == before + 1, "new drift is a new issue"


def test_stacks_do_not_share_an_issue(keep: Repository) -> None:
    drift_command._keep_issue(DRIFT)
    drift_command._keep_issue(Report("prod", DRIFT.findings))
    assert len(open_issues(keep)) == 2
    drift_command._keep_issue(Report("prod"))
    [left] = open_issues(keep)
    assert str(left["body"]).startswith(comment.marker("drift", "dev"))
