"""The command group: help that reads well, and mistakes that are told in one line."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from ops import __main__, engine, github, preview_command
from ops.__main__ import COMMANDS, main
from tests.ops.github_mock import TOKEN, serve
from tests.ops.previews import document, promotion


@pytest.fixture(autouse=True)
def _outside_of_a_workflow(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "GITHUB_TOKEN",
        "GITHUB_REPOSITORY",
        "GITHUB_EVENT_PATH",
        "GITHUB_RUN_ID",
        "GITHUB_SHA",
        "GITHUB_API_URL",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", "/nowhere")


@pytest.fixture
def preview(tmp_path: Path) -> str:
    file = tmp_path / "preview.json"
    file.write_text(document(promotion()), encoding="utf-8")
    return str(file)


def test_help_lists_every_command_and_each_has_help_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    printed = capsys.readouterr().out
    for name, command in COMMANDS.items():
        assert f"  {name} " in printed
        assert command.summary in printed
        with pytest.raises(SystemExit) as left:
            main([name, "--help"])
        assert left.value.code == 0
        assert f"usage: python -m ops {name}" in capsys.readouterr().out
    assert max(map(len, printed.splitlines())) < 100


def test_no_command_and_a_wrong_one_are_usage_errors(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert main(["drfit"]) == 2
    assert "Did you mean 'drift'?" in capsys.readouterr().err


def test_interrupting_a_command_is_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(preview_command, "main", interrupted)
    assert __main__.main(["preview-comment"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_a_preview_is_read_from_a_file_or_from_stdin_and_written_to_one(
    preview: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["preview-comment", "--stack", "dev", "--engine", "pulumi"]
    assert main([*arguments, "--input", preview]) == 0
    printed = capsys.readouterr().out
    assert "- `modelB: label stable 1 -> 2`" in printed
    monkeypatch.setattr("sys.stdin", io.StringIO(Path(preview).read_text(encoding="utf-8")))
    target = tmp_path / "comment.md"
    assert main([*arguments, "--input", "-", "--output", str(target)]) == 0
    assert capsys.readouterr().out == ""
    assert target.read_text(encoding="utf-8") == printed


def test_what_is_no_preview_makes_a_comment_that_says_so_and_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "preview.json"
    file.write_text("error: password=hunter2-and-more", encoding="utf-8")
    assert main(["preview-comment", "--stack", "dev", "--engine", "pulumi", "--input", str(file)]) == 1
    printed = capsys.readouterr()
    assert "### Preview of stack `dev` failed" in printed.out
    assert "hunter2" not in printed.out + printed.err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--input", "/nowhere/x.json"], "cannot be read"),
        (["--input", "PREVIEW", "--output", "/nowhere/x.md"], "cannot be written"),
        (["--input", "PREVIEW", "--post"], "--pull-request"),
        (["--input", "PREVIEW", "--post", "--pull-request", "1"], "GITHUB_TOKEN and GITHUB_REPOSITORY"),
        ([], "Pulumi CLI is not on PATH"),
    ],
)
def test_mistakes_are_told_in_one_line(
    arguments: list[str], told: str, preview: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [preview if each == "PREVIEW" else each for each in arguments]
    assert main(["preview-comment", "--stack", "dev", "--engine", "pulumi", *given]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert told in line


def test_the_sandbox_engine_has_no_plans(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["preview-comment", "--engine", "sandbox", "--stack", "nothing", "--save-plan", "x"]) == 1
    assert "the sandbox engine has no plans" in capsys.readouterr().err


def test_a_workflow_run_posts_to_its_own_pull_request_with_its_commit_and_log(
    preview: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    event = tmp_path / "event.json"
    event.write_text(json.dumps({"pull_request": {"number": 3, "head": {"sha": "c0ffee" * 6}}}), encoding="utf-8")
    with serve() as mock:
        mock.comments[3] = []
        for name, value in {
            "GITHUB_TOKEN": TOKEN, "GITHUB_REPOSITORY": "owner/name", "GITHUB_API_URL": mock.api,
            "GITHUB_EVENT_PATH": str(event), "GITHUB_SERVER_URL": "https://github.com", "GITHUB_RUN_ID": "77",
        }.items():  # fmt: skip
            monkeypatch.setenv(name, value)
        assert main(["preview-comment", "--stack", "dev", "--engine", "pulumi", "--input", preview, "--post"]) == 0
        [made] = mock.comments[3]
    assert "Commit `c0ffeec0ffee`" in made["body"]
    assert "https://github.com/owner/name/actions/runs/77" in made["body"]
    assert TOKEN not in made["body"] + capsys.readouterr().out


def test_a_stack_is_the_sandbox_engines_where_that_has_its_state(tmp_path: Path) -> None:
    assert engine.resolve("x", "auto", tmp_path) == "pulumi"
    (tmp_path / ".sandbox" / "state").mkdir(parents=True)
    (tmp_path / ".sandbox" / "state" / "x.json").write_text("{}", encoding="utf-8")
    assert engine.resolve("x", "auto", tmp_path) == "sandbox"
    assert engine.resolve("x", "pulumi", tmp_path) == "pulumi"


def test_outside_of_a_workflow_there_is_no_log_to_link_to() -> None:
    assert github.run_url({}) == ""
