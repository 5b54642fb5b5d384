"""JSON for programs: one mechanism for all commands, errors and wrong usage included."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops import answer
from ops.__main__ import COMMANDS, main
from tfserving.errors import ConfigError, Problem

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "json.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_takes_the_format_and_its_shape_is_on_the_page(name: str) -> None:
    parser = importlib.import_module(COMMANDS[name].module)._parser()
    assert isinstance(parser, answer.Parser)
    assert re.search(rf"^\| `{name}\b", PAGE, re.MULTILINE)


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("words", [["--format", "json"], ["--format=json"], ["--form", "json"]])
def test_wrong_usage_is_json_too(name: str, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main([name, *words, "--no-such-option"])
    assert left.value.code == 2
    printed = capsys.readouterr()
    assert f"python -m ops {name}: " in json.loads(printed.out)["error"]["message"]
    assert printed.err == ""


def test_an_error_is_json_with_its_problems(capsys: pytest.CaptureFixture[str]) -> None:
    answer.tell(ConfigError([Problem("tf-serving:models.m", "is no mapping", "a mapping", "write one")]))
    [problem] = json.loads(capsys.readouterr().out)["error"]["problems"]
    assert problem == {
        "path": "tf-serving:models.m",
        "message": "is no mapping",
        "allowed": "a mapping",
        "fix": "write one",
    }
    assert main(["doctor", "--stack", "nothing-of-that-name", "--format", "json"]) == 1
    printed = capsys.readouterr()
    assert "there is no stack file" in json.loads(printed.out)["error"]["message"]
    assert printed.err == ""


def test_an_error_is_a_line_where_nobody_asks_for_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--stack", "nothing-of-that-name"]) == 1
    assert capsys.readouterr().err.startswith("error: there is no stack file")


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(values)
def test_whatever_a_model_answers_becomes_strict_json(value: object) -> None:
    def refused(constant: str) -> None:
        raise AssertionError(constant)

    json.loads(answer.as_json({"outputs": value}), parse_constant=refused)


def test_the_files_that_are_up_to_date_are_told_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["files"]["stacks/schema.json"] == "up to date"
