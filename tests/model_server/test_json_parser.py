"""JSON as RapidJSON 1.1.0 reads it: what it takes that others do not, and the words and offsets of its refusals."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.model_server.json_parser import ParseError, parse

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
)


@given(VALUES, st.booleans(), st.sampled_from(["", "\ufeff", " \n\t"]))
def test_what_json_writes_is_read_back(value: Any, ascii_only: bool, before: str) -> None:
    text = before + json.dumps(value, ensure_ascii=ascii_only) + " rest"
    assert parse(text.encode()) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": 1, "a": 2, "b": 3}', {"a": 1, "b": 3}),
        ('{"a": {"x": 1, "x": 2}, "z": 1e100}', {"a": {"x": 1}, "z": 1e100}),
        ('{"a": 1, "a": 2, "z": Inf}', {"a": 1, "z": math.inf}),
        ("[Inf, -Inf, Infinity, -Infinity]", [math.inf, -math.inf, math.inf, -math.inf]),
        ("[-0, 1e-400, 1E+2, 0e0]", [0, 0.0, 100.0, 0.0]),
        ('["\\u00e9\\/\\b"]', ["é/\b"]),
        ("[1] // a comment", [1]),
        ("true,", True),
    ],
)
def test_what_rapidjson_takes(text: str, value: Any) -> None:
    assert parse(text.encode()) == value


def test_nan_has_either_sign() -> None:
    assert all(math.isnan(value) for value in parse(b"[NaN, -NaN]"))


def test_bytes_that_are_no_utf8_and_a_lone_low_surrogate_are_kept() -> None:
    assert parse(b'["\xff\\n"]')[0].encode("utf-8", "surrogateescape") == b"\xff\n"
    assert parse(b'["\\udc00"]')[0].encode("utf-8", "surrogateescape") == b"\xed\xb0\x80"


@pytest.mark.parametrize("depth", [10, 5_000, 100_000])
def test_nesting_has_no_limit(depth: int) -> None:
    value = parse(b"[" * depth + b"1" + b"]" * depth)
    found = 0
    while isinstance(value, list):
        (value,) = value
        found += 1
    assert (found, value) == (depth, 1)
    with pytest.raises(ParseError, match=f"Missing a comma or ] after an array element. at offset: {2 * depth}"):
        parse(b"[" * depth + b"1" + b"]" * (depth - 1))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "The document is empty. at offset: 0"),
        (" \ufeff", "Invalid value. at offset: 1"),
        ("\ufeff", "The document is empty. at offset: 3"),
        ("\ufeff{1", "Missing a name for object member. at offset: 4"),
        ("]", "The document is empty. at offset: 0"),
        ("[1e400]", "Number too big to be stored in double. at offset: 1"),
        ("[-1e309]", "Number too big to be stored in double. at offset: 1"),
        ("[" + "9" * 400 + "]", "Number too big to be stored in double. at offset: 1"),
        ("[1.]", "Miss fraction part in number. at offset: 3"),
        ("[1.e5]", "Miss fraction part in number. at offset: 3"),
        ("[1e]", "Miss exponent in number. at offset: 3"),
        ("[1e+]", "Miss exponent in number. at offset: 4"),
        ("[-]", "Invalid value. at offset: 2"),
        ("[.5]", "Invalid value. at offset: 1"),
        ("[+1]", "Invalid value. at offset: 1"),
        ("[01]", "Missing a comma or ] after an array element. at offset: 2"),
        ("[0x10]", "Missing a comma or ] after an array element. at offset: 2"),
        ("[1,]", "Invalid value. at offset: 3"),
        ('{"a": 1,}', "Missing a name for object member. at offset: 8"),
        ("[1 /* two */]", "Missing a comma or ] after an array element. at offset: 3"),
        ("{'a': 1}", "Missing a name for object member. at offset: 1"),
        ("[True]", "Invalid value. at offset: 1"),
        ("[tru]", "Invalid value. at offset: 4"),
        ('["a\nb"]', "Invalid escape character in string. at offset: 3"),
        ('["a', "Missing a closing quotation mark in string. at offset: 3"),
        ('["\\u12g4"]', "Incorrect hex digit after \\u escape in string. at offset: 2"),
        ('["\\ud800"]', "The surrogate pair in string is invalid. at offset: 2"),
        ('["\\ud800\\u0041"]', "The surrogate pair in string is invalid. at offset: 2"),
        ('{"é": }', "Invalid value. at offset: 7"),
        ("[1", "Missing a comma or ] after an array element. at offset: 2"),
        ("[", "Invalid value. at offset: 1"),
        ("{", "Missing a name for object member. at offset: 1"),
        ('{"a"', "Missing a colon after a name of object member. at offset: 4"),
        ('{"a": 1', "Missing a comma or } after an object member. at offset: 7"),
    ],
)
def test_what_rapidjson_refuses(text: str, said: str) -> None:
    with pytest.raises(ParseError) as refused:
        parse(text.encode())
    assert str(refused.value) == said


@given(st.binary() | st.text(alphabet='{}[],:"\\u0123eE+-.Nantrulfs ').map(str.encode))
def test_anything_is_read_or_refused_within_the_text(body: bytes) -> None:
    refused: list[ParseError] = []
    try:
        parse(body)
    except ParseError as error:
        refused.append(error)
    assert all(0 <= error.offset <= len(body) for error in refused)
