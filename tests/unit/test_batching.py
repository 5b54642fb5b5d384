"""Batching against signatures, and the parameters a version brings itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tfserving import batching, server_config
from tfserving.batching import Batching
from tfserving.errors import ModelConfigError
from tfserving.saved_model import Signature, TensorInfo

Shape = tuple[int | None, ...] | None


def signature(inputs: dict[str, Shape], outputs: dict[str, Shape]) -> Signature:
    def tensors(shapes: dict[str, Shape]) -> dict[str, TensorInfo]:
        return {name: TensorInfo("float32", shape) for name, shape in shapes.items()}

    return Signature(tensors(inputs), tensors(outputs))


ROWS: dict[str, Shape] = {"y": (None, 10)}


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [
        ({"x": (None, 28, 28, 1)}, ROWS),
        ({"a": (None,), "b": (None, 4)}, {"y": (None,), "z": (None, 2)}),
        ({"x": None}, {"y": None}),  # a shape nobody declared may be any
        ({"x": (None, 4)}, {"y": (None, None)}),  # rows of any size that come out do not matter
    ],
)
def test_signatures_with_an_open_first_dimension_everywhere_can_be_batched(
    inputs: dict[str, Shape], outputs: dict[str, Shape]
) -> None:
    assert batching.troubles(signature(inputs, outputs), Batching()) == []


@pytest.mark.parametrize(
    ("inputs", "outputs", "words"),
    [
        ({"x": ()}, ROWS, "input x is a single value"),
        ({"a": (None, 4), "rate": ()}, ROWS, "input rate is a single value"),
        ({}, ROWS, "it has no input"),
        ({"a": (3, 4), "b": (4, 4)}, ROWS, "differ (a 3, b 4)"),
        ({"x": (2000, 4)}, ROWS, "requests have 2000 rows and max_batch_size is 1000"),
        ({"x": (None, 4)}, {"loss": (), **ROWS}, "output loss is a single value"),
    ],
)
def test_a_signature_whose_every_request_is_refused_is_told_so(
    inputs: dict[str, Shape], outputs: dict[str, Shape], words: str
) -> None:
    (told,) = batching.troubles(signature(inputs, outputs), Batching())
    assert words in told
    assert "every request" in told


@pytest.mark.parametrize(
    ("inputs", "outputs", "words"),
    [
        ({"x": (1, 28, 28)}, {"y": (1, 10)}, "input x always has 1 row, and"),
        ({"x": (None, 4)}, {"table": (10, 2), **ROWS}, "output table always has 10 rows"),
        ({"text": (None, None)}, ROWS, "pad_variable_length_inputs"),
        ({"image": (None, None, None, 3)}, ROWS, "rows of any size (float32[?, ?, ?, 3])"),
    ],
)
def test_a_signature_whose_requests_fail_by_what_they_are_batched_with_is_told_so(
    inputs: dict[str, Shape], outputs: dict[str, Shape], words: str
) -> None:
    (told,) = batching.troubles(signature(inputs, outputs), Batching())
    assert words in told


@pytest.mark.parametrize(
    ("rows", "parameters", "fits"),
    [
        (1, {"max_batch_size": 1}, True),
        (1, {"max_batch_size": 2}, False),
        (4, {"max_batch_size": 7}, True),  # a second request has no room
        (4, {"max_batch_size": 8}, False),
        (4, {"max_batch_size": 7, "allowed_batch_sizes": [4, 7]}, True),
        (4, {"max_batch_size": 7, "allowed_batch_sizes": [7]}, False),
        (4, {"max_batch_size": 4, "enable_large_batch_splitting": True, "max_execution_batch_size": 2}, False),
    ],
)
def test_a_fixed_number_of_rows_fits_where_each_request_is_a_batch_of_its_own(
    rows: int, parameters: dict[str, Any], fits: bool
) -> None:
    one = signature({"x": (rows, 4)}, {"y": (rows, 10)})
    assert (batching.troubles(one, Batching.of(parameters)) == []) is fits


def test_rows_of_any_size_are_fine_where_they_are_padded_or_never_put_together() -> None:
    text = signature({"text": (None, None)}, ROWS)
    assert batching.troubles(text, Batching.of({"pad_variable_length_inputs": True})) == []
    assert batching.troubles(text, Batching.of({"max_batch_size": 1})) == []


def test_parameters_that_nobody_has_seen_leave_what_holds_for_any() -> None:
    unknown = Batching(known=False)
    assert "single value" in batching.troubles(signature({"x": ()}, ROWS), unknown)[0]
    assert batching.troubles(signature({"x": (2000, 4)}, ROWS), unknown)[0].startswith("input x always has 2000 rows")


def test_a_parameters_file_is_read_back_as_it_was_written() -> None:
    parameters = {
        "max_batch_size": 32,
        "batch_timeout_micros": 2000,
        "thread_pool_name": "it's",
        "allowed_batch_sizes": [8, 32],
        "pad_variable_length_inputs": True,
        "enable_large_batch_splitting": True,
        "max_execution_batch_size": 8,
    }
    assert batching.parse(server_config.render_batching(parameters)) == parameters
    assert batching.parse("") == {}
    with pytest.raises(ModelConfigError, match="batching parameters file: line 1"):
        batching.parse("max_batch_size: 4")


@pytest.fixture
def version(tmp_path: Path) -> Path:
    directory = tmp_path / "m" / "20240115093000123"
    directory.mkdir(parents=True)
    return directory


def test_a_version_without_parameters_of_its_own_is_not_batched(version: Path) -> None:
    assert batching.of_version(version, "models.m") == (None, [])


def test_a_versions_own_parameters_are_used(version: Path) -> None:
    (version / batching.PARAMETERS_FILE).write_text("max_batch_size { value: 4 } allowed_batch_sizes: [2, 4]")
    found, problems = batching.of_version(version, "models.m")
    assert problems == []
    assert found == Batching(max_batch_size=4, execution_size=4, allowed_batch_sizes=(2, 4))


def test_a_directory_in_the_place_of_the_parameters_is_a_problem(version: Path) -> None:
    (version / batching.PARAMETERS_FILE).mkdir()
    found, (problem,) = batching.of_version(version, "models.m")
    assert found is None
    assert "is a directory, and the version would not load" in str(problem)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"max_batch_size { value: 8 } allowed_batch_sizes: [2, 4]", "the last allowed batch size is 4"),
        (b"allowed_batch_sizes: [2, 4]", "max_batch_size is 1000"),
        (b"max_batch: 8", "has no field named"),
        (b"max_batch_size: 8", "line 1"),
        (b"max_batch_size { value: 0 }", "1 or more"),
        (b"\xff\xfe", "not a text in UTF-8"),
        (
            b"enable_large_batch_splitting { value: true } max_execution_batch_size { value: 2000 }",
            "no model would load",
        ),
    ],
)
def test_parameters_with_which_a_version_would_not_load_are_a_problem_that_names_the_file(
    content: bytes, words: str, version: Path
) -> None:
    (version / batching.PARAMETERS_FILE).write_bytes(content)
    found, problems = batching.of_version(version, "models.m")
    assert found is None
    (problem,) = problems
    assert problem.path == "models.m"
    assert "m/20240115093000123/batching_params.pbtxt" in str(problem)
    assert words in str(problem)
    assert "Fix: " in str(problem)
