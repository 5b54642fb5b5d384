"""Tables for a terminal, drawn by rich; as plain text where the output is no terminal.

On a terminal a table is as wide as that: cells are wrapped, never cut. Elsewhere (a pipe, a file, a log of CI) every
row is one line, whatever its length; columns are told apart by two blanks or more, which no cell holds, and no cell is
empty, so that ``awk -F '  +'`` finds each. There is no colour then, nor where ``NO_COLOR`` is set.
"""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console, Group
from rich.highlighter import RegexHighlighter
from rich.live import Live
from rich.table import Table as RichTable
from rich.text import Text
from rich.theme import Theme

from ops import markdown

_ENDLESS = 1_000_000
"""Columns of what is no terminal."""

_CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")

_NAME = 24
"""Columns of a name that is not broken even where a terminal is narrow."""

_THEME = Theme({"state.good": "green", "state.busy": "yellow", "state.bad": "bold red"}, inherit=False)


class _States(RegexHighlighter):
    """Colours the words that say how something is."""

    base_style = "state."
    highlights = [  # noqa: RUF012 (declared so by rich)
        r"\b(?P<good>AVAILABLE|Running|ok|passed)\b",
        r"\b(?P<busy>START|LOADING|UNLOADING|Waiting|Creating|Updating|Scaling|Starting|Stopping|Stopped|Warning|warning)\b",
        r"\b(?P<bad>END|UNKNOWN|INTERNAL|UNAVAILABLE|[A-Z]+_[A-Z_]+|Failed|gone|unknown|none|error|did not pass)\b",
    ]


Cell = str | tuple[str, ...]
"""A text, or several lines of it, which are one line where the output is no terminal."""

DITTO: Cell = ()
"""A cell that says what the one above says: left blank on a terminal, said again elsewhere."""


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        head: titles of the columns; empty: none are shown.
        rows: cells; what would move a terminal's cursor is shown as an escape, an empty cell as ``-``.
        right: columns that are flush right, by index.
        states: columns with words such as ``AVAILABLE``, which are coloured.
        widths: columns of a fixed width, by index: what is printed row by row has it.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    right: Sequence[int] = ()
    states: Sequence[int] = ()
    widths: Sequence[int] = ()


@dataclass(frozen=True)
class Report:
    """What a command says: lines, and tables between them."""

    parts: Sequence[str | Table]

    def draw(self) -> None:
        """Prints it on standard output."""
        if sys.stdout.isatty():
            _terminal().print(_renderable(self))
        else:
            print(self.text())

    def text(self) -> str:
        """As plain text, every row of a table on one line."""
        buffer = io.StringIO()
        _console(buffer, width=_ENDLESS, color_system=None, force_terminal=False).print(_renderable(self, whole=True))
        return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines())


@contextmanager
def live() -> Iterator[Callable[[Report], None]]:
    """Shows reports one after another in the place of the one before, on a terminal; the last one stays.

    Yields:
        shows a report.
    """
    shown: list[Report] = []
    try:
        with Live(console=_terminal(), auto_refresh=False, screen=True) as screen:

            def show(report: Report) -> None:
                shown[:] = [report]
                screen.update(_renderable(report), refresh=True)

            yield show
    finally:
        for report in shown:
            report.draw()


def harmless(line: str) -> str:
    """A line from anywhere for standard output: a terminal is not given what would move its cursor."""
    return _CONTROL.sub(lambda found: markdown.visible(found[0]), line) if sys.stdout.isatty() else line


def width(text: str) -> int:
    """Columns that a text takes on a terminal: wide letters take two."""
    return cell_len(text)


def height() -> int:
    """Lines of the terminal."""
    return _terminal().height


def _terminal() -> Console:
    return _console(sys.stdout, force_terminal=True)


def _console(file: object, **options: object) -> Console:
    made: Callable[..., Console] = Console
    return made(file=file, theme=_THEME, markup=False, emoji=False, highlight=False, legacy_windows=False, **options)


def _renderable(report: Report, *, whole: bool = False) -> Group:
    """For a console; ``whole``: each row by itself and on one line."""
    return Group(*(_table(part, whole) if isinstance(part, Table) else Text(part) for part in report.parts))


def _table(table: Table, whole: bool) -> RichTable:
    drawn = RichTable(box=None, show_header=bool(table.head), padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    highlighter = _States()
    for index in range(max((len(row) for row in [table.head, *table.rows]), default=0)):
        drawn.add_column(
            table.head[index] if table.head else "",
            justify="right" if index in table.right else "left",
            overflow="fold",
            min_width=table.widths[index] if index < len(table.widths) else _name_width(table) if not index else None,
        )
    above: Sequence[Cell] = ()
    for row in table.rows:
        if whole:
            row = [above[index] if cell == DITTO else cell for index, cell in enumerate(row)]
            above = row
        cells = [Text(_visible(cell, " " if whole else "\n")) for cell in row]
        for index in table.states:
            highlighter.highlight(cells[index])
        drawn.add_row(*cells)
    return drawn


def _name_width(table: Table) -> int:
    """The first column is a name, which is read best in one piece."""
    names = (row[0] for row in table.rows if row and isinstance(row[0], str))
    return min(_NAME, max((cell_len(name) for name in names), default=0))


def _visible(cell: Cell, between: str) -> str:
    """Without anything that moves a cursor, and without what would end a column."""
    if cell == DITTO:
        return ""
    lines = [
        re.sub(" {2,}", " ", markdown.visible(each).strip()) for each in ([cell] if isinstance(cell, str) else cell)
    ]
    return between.join(line for line in lines if line) or "-"
