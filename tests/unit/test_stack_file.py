"""Stack files are read as the Pulumi CLI reads them; the table was made by the CLI's own loader."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tfserving import stack_file

TABLE: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent / "data" / "stack_file_scalars.json").read_text(encoding="utf-8")
)


def read(document: str) -> Any:
    (value,) = stack_file.load(document)["config"].values()
    return value


@pytest.mark.parametrize("row", TABLE, ids=[row["document"].removeprefix("config:\n  p:k:").strip() for row in TABLE])
def test_a_document_is_read_as_the_cli_reads_it(row: dict[str, Any]) -> None:
    if row.get("refused"):
        with pytest.raises(yaml.YAMLError):
            read(row["document"])
        return
    value = read(row["document"])
    if isinstance(value, dict | list):
        assert value == json.loads(
            row["value"], parse_int=lambda text: int(text) if abs(int(text)) < 2**64 else float(text)
        )
    else:
        assert stack_file.as_text(value) == row["value"]


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
        ("m: {time: 1:30}", "m.time", 'quote it ("1:30")'),
        ("007: {policy: all}", "007", "quote it"),
    ],
)
def test_a_number_that_readers_disagree_on_is_told_with_its_path(written: str, path: str, words: str) -> None:
    (problem,) = stack_file.doubtful_numbers(f"config:\n  tf-serving:models:\n    {written}\n")
    assert problem.path == f"tf-serving:models.{path}"
    assert words in str(problem)


@pytest.mark.parametrize(
    "written",
    ['"00000123"', "'0x7b'", "123", "0", "-1", "1.5", "0.5", "1e3", "v007", "a_1", "!!str 007", "20240115093000123"],
)
def test_what_is_clear_or_quoted_is_fine(written: str) -> None:
    assert (
        stack_file.doubtful_numbers(f"config:\n  tf-serving:models: {{m: {{labels: {{stable: {written}}}}}}}\n") == []
    )


def test_a_file_that_is_no_yaml_has_no_doubtful_numbers() -> None:
    assert stack_file.doubtful_numbers("config: [") == []
    assert stack_file.doubtful_numbers("") == []


@pytest.mark.parametrize(
    ("number", "text"), [(1.0, "1"), (1.5, "1.5"), (1e21, "1e+21"), (1e20, "100000000000000000000"), (1e-7, "1e-7")]
)
def test_a_float_is_written_as_in_the_clis_json(number: float, text: str) -> None:
    assert stack_file.json_number(number) == text
