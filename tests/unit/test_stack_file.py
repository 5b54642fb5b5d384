"""Stack files are read as the Pulumi CLI reads them; the table was made by the CLI's own loader."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tfserving import stack_file
from tfserving.errors import Problem

TABLE: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent / "data" / "stack_file_scalars.json").read_text(encoding="utf-8")
)


def read(document: str) -> dict[str, str]:
    return {key: stack_file.as_text(value) for key, value in stack_file.load(document)["config"].items()}


@pytest.mark.parametrize("row", TABLE, ids=[row["document"].removeprefix("config:\n  p:k:").strip() for row in TABLE])
def test_a_document_is_read_as_the_cli_reads_it(row: dict[str, Any]) -> None:
    if row.get("refused"):
        with pytest.raises(yaml.YAMLError):
            read(row["document"])
    else:
        assert read(row["document"]) == row["values"]


@pytest.mark.parametrize(
    "document",
    [
        "config:\n  p:k: &a [*a]\n",
        "config:\n  p:k: " + "[" * 1000,
        "config:\n  p:k: {.nan: 1}\n",
        "config:\n  p:k: .inf\n",
    ],
)
def test_what_cannot_be_a_config_value_is_refused(document: str) -> None:
    with pytest.raises(yaml.YAMLError):
        stack_file.load(document)


def problems(written: str, key: str = "models") -> list[str]:
    return [
        str(problem) for problem in stack_file.doubts(f"config:\n  tf-serving:{key}:\n    {written}\n", "p").problems
    ]


@pytest.mark.parametrize(
    ("written", "path", "words"),
    [
        ("m: {policy: {specific: [00000123]}}", "m.policy.specific[0]", "drop the zeros (123)"),
        ("m: {labels: {stable: 007}}", "m.labels.stable", "reads 7"),
        ("m: {labels: {stable: 0x7b}}", "m.labels.stable", "write 123"),
        ("m: {labels: {stable: 0b11}}", "m.labels.stable", "write 3"),
        ("m: {labels: {stable: 1_24}}", "m.labels.stable", "write 124"),
        ("m: {labels: {stable: 0_8}}", "m.labels.stable", "drop the zeros (8)"),
        ("m: {labels: {stable: 0o173}}", "m.labels.stable", "write 123"),
        ("m: {labels: {stable: 08}}", "m.labels.stable", "drop the zeros (8)"),
        ("m: {port: 8_501}", "m.port", "write 8501"),
        ("m: {time: 1:30}", "m.time", 'quote it ("1:30") if it is a text'),
        ("007: {policy: all}", "007", "quote it"),
    ],
)
def test_a_number_that_readers_disagree_on_is_told_with_its_path(written: str, path: str, words: str) -> None:
    (problem,) = problems(written)
    assert problem.startswith(f"tf-serving:models.{path}: ")
    assert words in problem


@pytest.mark.parametrize(
    "written",
    ['"00000123"', "'0x7b'", "123", "0", "-1", "1.5", "0.5", "1e3", "v007", "a_1", "!!str 007", "20240115093000123"],
)
def test_what_is_clear_or_quoted_is_fine(written: str) -> None:
    assert problems(f"m: {{labels: {{stable: {written}}}}}") == []


@pytest.mark.parametrize(
    ("written", "path", "words"),
    [
        (
            "1.10: {}",
            '["1.10"]',
            'read as a number, so that its name would be 1.1. Allowed: text. Fix: quote it ("1.10")',
        ),
        ("null: {}", ".null", "read as nothing, so that its name would be <nil>"),
        ("~: {}", '["~"]', "read as nothing"),
        ("2024-01-01: {}", ".2024-01-01", "read as a date, so that its name would be 2024-01-01 00:00:00 +0000 UTC"),
        ("True: {}", ".True", "read as a boolean, so that its name would be true"),
        ("1e3: {}", ".1e3", "its name would be 1000"),
        ("m: {labels: {1.0: 3}}", '.m.labels["1.0"]', "its name would be 1."),
    ],
)
def test_a_key_that_is_read_under_another_name_is_told_as_it_is_written(written: str, path: str, words: str) -> None:
    (problem,) = problems(written)
    assert problem.startswith(f"tf-serving:models{path}: ")
    assert words in problem


@pytest.mark.parametrize("written", ["123: {}", "1.5: {}", "true: {}", "'1.10': {}", "!!str 1.10: {}", "yes: {}"])
def test_a_key_that_keeps_its_name_is_fine(written: str) -> None:
    assert problems(written) == []


@pytest.mark.parametrize(
    ("written", "words"),
    [
        (
            "s: {env: {DAY: 2024-01-15}}",
            "s.env.DAY: 2024-01-15 is read as a date, and the text would be 2024-01-15 00:00:00",
        ),
        ("s: {env: {RELEASE: 1.10}}", "s.env.RELEASE: 1.10 is read as a number, and the text would be 1.1. "),
        ("s: {env: {ON: TRUE}}", 'the text would be true. Allowed: text. Fix: quote it ("TRUE")'),
        ("s: {tags: {size: 1e3}}", "the text would be 1000"),
        ("s: {note: [2024-01-15]}", "s.note[0]: 2024-01-15 is read as a date"),
    ],
)
def test_a_text_that_is_read_as_another_one_is_told(written: str, words: str) -> None:
    (problem,) = problems(written, "services")
    assert words in problem


@pytest.mark.parametrize(
    "written",
    [
        "s: {env: {A: 1.5, B: 3, C: true, D: '1.10', E: v1.10, F: 1.10.0}}",
        "s: {price: 0.50}",
        "s: {labels: {a: b, c: 3}}",
    ],
)
def test_a_text_that_stays_as_it_is_written_is_fine(written: str) -> None:
    assert problems(written, "services") == []


def test_a_file_that_is_no_yaml_has_no_doubts() -> None:
    for text in ("config: [", "", "\x00", "- 1", "config: 5", "config: &a [*a]"):
        assert stack_file.doubts(text, "p") == stack_file.Doubts()


def test_what_a_doubt_explains_is_not_told_again() -> None:
    doubts = stack_file.doubts("config:\n  a:b: {null: {}, m: {specific: [007]}}\n", "p")
    paths = ['a:b["<nil>"].source', "a:b.m.specific", "a:b.m.specifics", "a:b.m"]
    found = doubts.beside(tuple(Problem(path, "") for path in paths))
    assert [problem.path for problem in found] == ["a:b.null", "a:b.m.specific[0]", "a:b.m.specifics", "a:b.m"]


@pytest.mark.parametrize(
    ("number", "text"), [(1.0, "1"), (1.5, "1.5"), (1e21, "1e+21"), (1e20, "100000000000000000000"), (1e-7, "1e-7")]
)
def test_a_float_is_written_as_in_the_clis_json(number: float, text: str) -> None:
    assert stack_file.json_number(number) == text
