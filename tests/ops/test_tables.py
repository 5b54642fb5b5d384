"""Tables: as wide as the terminal, whole and plain elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.tables import DITTO, Cell, Report, Table
from tests.ops.terminal import on_terminal

_DRAW = """
from ops.tables import Report, Table
rows = [("multi_http", "1, 2 AVAILABLE; 3 LOADING NOT_FOUND", "x" * 70), ("\u6a21\u578b-\u4e00", "none", "short")]
Report(["a line", Table(("SERVICE", "VERSIONS", "TEXT"), rows, states=[1])]).draw()
"""


def shown(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


@pytest.mark.parametrize("columns", [40, 60, 80, 200])
def test_a_table_is_no_wider_than_the_terminal_and_nothing_of_it_is_cut(columns: int) -> None:
    printed = shown(on_terminal(columns, _DRAW))
    assert max(width(line) for line in printed.splitlines()) <= columns
    assert printed.count("x") == 70
    assert "\u2026" not in printed
    assert "multi_http" in printed
    assert "NOT_FOUND" in printed
    assert "\u6a21\u578b-\u4e00" in printed


def test_states_have_colours_on_a_terminal_unless_they_are_not_wanted() -> None:
    assert "\x1b[32mAVAILABLE" in on_terminal(200, _DRAW)
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", on_terminal(200, _DRAW, NO_COLOR="1"))
    assert "\x1b[32m" not in on_terminal(200, _DRAW, TERM="dumb")


def test_piped_output_is_plain_whatever_the_environment_says() -> None:
    for extra in ({}, {"FORCE_COLOR": "1", "COLUMNS": "20"}, {"TTY_COMPATIBLE": "1"}, {"TERM": "dumb"}):
        done = subprocess.run(
            [sys.executable, "-c", _DRAW], env={**os.environ, **extra}, capture_output=True, text=True, check=True
        )
        assert "\x1b" not in done.stdout
        lines = done.stdout.splitlines()
        assert len(lines) == 4
        assert re.split("  +", lines[2]) == ["multi_http", "1, 2 AVAILABLE; 3 LOADING NOT_FOUND", "x" * 70]


cells = st.text() | st.tuples(st.text(), st.text())


@given(st.lists(st.tuples(cells, cells, cells), max_size=5))
def test_every_row_of_piped_output_splits_into_its_cells(rows: list[tuple[Cell, Cell, Cell]]) -> None:
    lines = Report([Table(("A", "B", "C"), rows)]).text().split("\n")
    assert len(lines) == 1 + len(rows)
    assert all(len(re.split("  +", line)) == 3 for line in lines)
    assert all(line.isprintable() for line in lines)


def test_columns_of_wide_letters_are_aligned() -> None:
    lines = Report([Table(("A", "B"), [("\u6a21\u578b", "1"), ("ab", "2")])]).text().split("\n")
    assert [width(line[: line.index(mark)]) for line, mark in zip(lines, "B12", strict=True)] == [6, 6, 6]


def test_what_the_row_above_says_is_said_again_where_rows_are_read_by_themselves() -> None:
    table = Table(("SERVICE", "MODEL"), [("s", "a"), (DITTO, "b"), (DITTO, "c")])
    assert Report([table]).text().split("\n")[2:] == ["s        b", "s        c"]


def test_markup_of_a_name_is_no_markup() -> None:
    report = Report(["[bold]x[/bold] :smile:", Table(("A",), [("[red]name[/red]",)])])
    assert report.text().split("\n") == ["[bold]x[/bold] :smile:", "A", "[red]name[/red]"]


def test_a_line_of_a_log_moves_no_cursor_of_a_terminal_and_is_as_it_was_elsewhere() -> None:
    code = r"""
from ops.tables import harmless
print(harmless("a\x1b[2Jb\tc\u202e\u00fc"))
"""
    assert on_terminal(80, code) == "a\\u{1b}[2Jb\tc\\u{202e}\u00fc\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "a\x1b[2Jb\tc\u202e\u00fc\n"
