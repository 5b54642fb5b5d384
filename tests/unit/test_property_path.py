"""Paths are written as the Pulumi CLI's ``resource.ParsePropertyPath`` reads them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.engine import properties
from tfserving import eas_drift
from tfserving.property_path import format_path, join_path, parse_path


def keys(path: str) -> list[str]:
    """The steps of a path, as ParsePropertyPath of the Pulumi CLI reads it."""
    found: list[str] = []
    while path:
        if path[0] == ".":
            path = path[1:]
            assert path
            assert path[0] != "["
        elif path[:2] == '["':
            text, position = "", 2
            while path[position] != '"':
                escaped = path[position : position + 2] == '\\"'
                text += '"' if escaped else path[position]
                position += 2 if escaped else 1
            assert path[position + 1] == "]"
            found.append(text)
            path = path[position + 2 :]
        else:
            bare = re.match(r"[^.\[]+", path)
            assert bare
            found.append(bare[0])
            path = path[len(bare[0]) :]
    return found


printed = st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"])
writable = st.text(printed, min_size=1).filter(lambda key: not re.search(r'\\("|$)|\\\Z', key))


@given(st.lists(writable, min_size=1, max_size=4))
def test_every_writer_of_paths_is_read_back(steps: list[str]) -> None:
    joined = "root"
    for step in steps:
        joined = join_path(joined, step)
    assert keys(joined) == ["root", *steps]
    assert keys(format_path(["root", *steps])) == ["root", *steps]
    value: dict[str, object] = {}
    here = value
    for step in ["root", *steps[:-1]]:
        here[step] = here = {}
    here[steps[-1]] = 1
    other = _with(value, ["root", *steps], 2)
    (of_engine,) = properties.difference(value, other)
    assert keys(of_engine) == ["root", *steps]
    (of_service,) = eas_drift.drift(value, other, {}, autoscaled=False)
    assert keys(of_service) == ["root", *steps]
    assert parse_path(joined) == ("root", *steps)


def _with(value: dict[str, object], path: list[str], leaf: object) -> dict[str, object]:
    inner = value[path[0]]
    if len(path) == 1:
        return {**value, path[0]: leaf}
    assert isinstance(inner, dict)
    return {**value, path[0]: _with(inner, path[1:], leaf)}


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("modelA", "models.modelA"),
        ("123", "models.123"),
        ("a.b", 'models["a.b"]'),
        ('say "x"', 'models["say \\"x\\""]'),
        ("a\\b", 'models["a\\b"]'),
        ("a[0]", 'models["a[0]"]'),
        ("", 'models[""]'),
        ("a\nb\x1b[1m", 'models["a\\x0ab\\x1b[1m"]'),
        ("ä", 'models["ä"]'),
    ],
)
def test_a_key_that_cannot_stand_bare_is_quoted(key: str, path: str) -> None:
    assert join_path("models", key) == path
