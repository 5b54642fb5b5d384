"""Golden files: what is read, what is refused and where, and that what is written is read again."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfserving.client import Columns
from tfserving.gates import fit
from tfserving.gates.golden import GoldenError, Record, read, write
from tfserving.saved_model import Signature, TensorInfo

VALUES = st.recursive(
    st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.booleans() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=6,
)
ROWS = st.lists(VALUES, min_size=1, max_size=3).flatmap(
    lambda rows: st.tuples(st.just(rows), st.lists(VALUES, min_size=len(rows), max_size=len(rows)))
)
RECORDS = st.one_of(
    st.builds(lambda both, name: Record(1, both[0], both[1], name), ROWS, st.text(min_size=1, max_size=5)),
    st.builds(lambda value, answer: Record(1, Columns(value), answer), VALUES, VALUES),
)


def problems(text: str, expected: bool = True) -> list[str]:
    with pytest.raises(GoldenError) as raised:
        read(text.encode(), "g.jsonl", expected=expected)
    return list(raised.value.problems)


@given(st.lists(RECORDS, min_size=1, max_size=4), st.text(max_size=20))
def test_what_is_written_is_read_again(records: list[Record], comment: str) -> None:
    found = read(write(records, comment).encode(), "g.jsonl", expected=True)
    assert [(each.request, each.expected, each.signature_name) for each in found] == [
        (each.request, each.expected, each.signature_name) for each in records
    ]


@given(st.binary(max_size=200))
def test_any_bytes_are_records_or_refused_with_the_line(data: bytes) -> None:
    told: tuple[str, ...] = ()
    try:
        read(data, "g.jsonl", expected=True)
    except GoldenError as error:
        told = error.problems
    assert all(problem.startswith("g.jsonl:") for problem in told)


def test_rows_and_columns_comments_and_numbers_that_json_lacks() -> None:
    text = (
        '\ufeff{"comment": "by hand"}\r\n'
        '{"instances": [1, 2], "predictions": [NaN, -Infinity]}\r\n'
        "\r\n"
        '{"inputs": {"x": [1]}, "outputs": 12345678901234567890, "signature_name": "f", "comment": "c"}'
    )
    first, second = read(text.encode(), "g.jsonl", expected=True)
    assert (first.line, first.request, first.rows, second.line, second.rows) == (2, [1, 2], True, 4, False)
    assert str(first.expected) == "[nan, -inf]"
    assert second.expected == 12345678901234567890
    assert (second.request, second.signature_name, second.comment) == (Columns({"x": [1]}), "f", "c")


def test_separators_that_json_text_may_hold_end_no_line() -> None:
    (record,) = read('{"instances": ["a\u2028b\x85"], "predictions": ["\u2029"]}'.encode(), "g", expected=True)
    assert record.request == ["a\u2028b\x85"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "is not JSON: .*one line"),
        ('{"instances": [1],', "is not JSON: .*one line"),
        ("[1]", "is a list, not an object with instances or inputs"),
        ('{"instances": [1]}', "predictions: the expected answer is missing"),
        ('{"inputs": 1, "outputs": null}', "outputs: the expected answer is missing"),
        ('{"inputs": null, "outputs": 1}', "inputs: null is no value"),
        ('{"instances": [], "predictions": []}', "instances: .* not a list of at least one"),
        ('{"instances": {"x": 1}, "predictions": [1]}', "instances: .* not a list"),
        ('{"instances": [1, 2], "predictions": [1]}', "predictions: 1 for 2 instances"),
        ('{"instances": [1], "predictions": 1}', "predictions: a number for 1 instances"),
        ('{"instances": [1], "outputs": [1]}', "outputs: goes with inputs; the answer to instances is predictions"),
        ('{"inputs": [1], "predictions": [1]}', "predictions: goes with instances"),
        ('{"inputs": 1, "instances": [1], "outputs": 1}', "both instances and inputs"),
        ('{"outputs": 1}', "neither instances nor inputs"),
        ('{"instance": [1], "predictions": [1]}', "instance: is no field of a record; there are instances"),
        ('{"instances": [1], "predictions": [1], "signature_name": 1}', "signature_name: 1 is not a text"),
        ('{"instances": [1], "instances": [1], "predictions": [1]}', "instances: is given twice"),
        ('{"inputs": {"x": 1, "x": 2}, "outputs": 1}', "x: is given twice"),
        ('{"comment": 1, "instances": [1], "predictions": [1]}', "comment: 1 is not a text"),
    ],
)
def test_a_line_that_is_no_record_is_refused_with_its_number_and_field(line: str, said: str) -> None:
    (problem,) = problems('{"comment": "one"}\n' + line)
    assert problem.startswith("g.jsonl:2: ")
    assert re.search(said, problem), problem


def test_all_wrong_lines_are_told_together_but_not_thousands() -> None:
    assert [problem.split(":")[1] for problem in problems("1\n2\n")] == ["1", "2"]
    assert len(problems("1\n" * 5000)) == 21


def test_what_is_no_text_or_empty_is_refused() -> None:
    with pytest.raises(GoldenError, match=r"g:2: is not UTF-8 text"):
        read(b'{"comment": ""}\n\xff', "g", expected=True)
    assert problems("\n\n") == [
        'g.jsonl: holds no request; write one a line: {"instances": [...], "predictions": [...]}'
    ]
    assert "holds no request" in problems('{"comment": "nothing"}', expected=False)[0]


def test_inputs_without_answers_are_read_where_none_is_needed() -> None:
    (record,) = read(b'{"instances": [1]}', "g", expected=False)
    assert record.expected is None


# ---- against a signature -------------------------------------------------------------------------------------------

FLOAT, INT, TEXT = "float32", "int64", "string"


def signature(outputs: dict[str, Any] | None = None, **inputs: Any) -> dict[str, Signature]:
    def tensors(found: dict[str, Any]) -> dict[str, TensorInfo]:
        return {name: TensorInfo(dtype, shape) for name, (dtype, shape) in found.items()}

    return {"serving_default": Signature(tensors(inputs), tensors(outputs or {"y": (FLOAT, (None, 2))}))}


def misfits(record: dict[str, Any], known: dict[str, Signature]) -> list[str]:
    records = read(json.dumps(record).encode(), "g", expected=False)
    return fit.problems(records, "g", known, answers=True)


@pytest.mark.parametrize(
    ("record", "known"),
    [
        ({"instances": [[1.0], [2.0]], "predictions": [[1, 2], [3, 4]]}, signature(x=(FLOAT, (None, 1)))),
        ({"instances": [{"a": 1, "b": "t"}], "predictions": [[1, 2]]}, signature(a=(INT, (None,)), b=(TEXT, (None,)))),
        ({"inputs": {"x": [[1, 2, 3]]}, "outputs": [[1, 2]]}, signature(x=(INT, None))),
        (
            {"instances": [1], "predictions": [{"y": 1, "z": {"b64": "aGk="}}]},
            signature({"y": (INT, (None,)), "z": (TEXT, (None,))}, x=(INT, (None,))),
        ),
        ({"inputs": 5, "outputs": 6.0}, signature({"y": (FLOAT, ())}, x=(INT, ()))),
        # One output may be named by nobody: a record lists only those that it is about.
        (
            {"instances": [1], "predictions": [{"y": 1}]},
            signature({"y": (INT, (None,)), "z": (TEXT, (None,))}, x=(INT, (None,))),
        ),
    ],
)
def test_records_that_a_version_takes(record: dict[str, Any], known: dict[str, Signature]) -> None:
    assert misfits(record, known) == []


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"instances": [["a"]]}, "g:1: instances: input x: 'a' is not of type float32"),
        ({"instances": [1.0]}, "instances: input x has shape [1], and the version has float32[?, 1]"),
        ({"instances": [[1.0, 2.0]]}, "has shape [1, 2]"),
        ({"instances": [[1.0], [2.0, 3.0]]}, "lists of one level have different lengths"),
        ({"inputs": {"z": [[1.0]]}}, "inputs: Missing named input: x"),
        ({"instances": [[1.0]], "signature_name": "other"}, "signature_name: the version has no signature other"),
        ({"instances": [[1.0]], "predictions": [[1.0]]}, "predictions: output y has shape [1, 1]"),
        ({"instances": [[1.0]], "predictions": [["a", "b"]]}, "predictions: output y: 'a' is not of type float32"),
        ({"instances": [[1.0]], "predictions": [{"y": [1, 2]}]}, "answers the value itself"),
        ({"instances": [[1.0]], "predictions": [{"q": 1, "r": 2}]}, "has no output q; it has y"),
        ({"instances": [[1.0], [1.0]], "predictions": [{"q": 1}, 2]}, "predictions[1]: other instances name"),
        ({"instances": [[1.0], [1.0]], "predictions": [{"q": 1}, {"r": 1}]}, "predictions[1]: has outputs r"),
    ],
)
def test_records_that_a_version_does_not_take_are_told_by_field(record: dict[str, Any], said: str) -> None:
    assert said in "\n".join(misfits(record, signature(x=(FLOAT, (None, 1)))))


def test_answers_of_several_outputs_have_names() -> None:
    known = signature({"y": (INT, (None,)), "z": (INT, (None,))}, x=(INT, (None,)))
    assert "has outputs y, z; name each" in misfits({"instances": [1], "predictions": [1]}, known)[0]


def test_a_version_without_classes_has_no_highest_one() -> None:
    one = signature({"y": (FLOAT, (None, 1)), "s": (TEXT, (None, 5))}, x=(INT, ()))["serving_default"]
    assert "y is float32[?, 1]" in fit.undecided(one)
    assert fit.undecided(signature({"y": (FLOAT, (None, None))}, x=(INT, ()))["serving_default"]) == ""
    assert fit.undecided(signature({"y": (FLOAT, None)}, x=(INT, ()))["serving_default"]) == ""
