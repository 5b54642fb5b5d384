"""The commands that the project's Markdown pages tell a person to run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [*PROJECT.glob("*.md"), *(PROJECT / "docs").rglob("*.md"), *(PROJECT / ".github").rglob("*.md")],
    key=lambda page: page.relative_to(PROJECT).as_posix(),
)

_FENCE = re.compile(r"^\s*```(?P<language>\w*)\s*$")
_SHELL = frozenset({"sh", "bash", "shell", "console"})
_COMMENT = re.compile(r"\s+#\s.*$")
_INLINE = re.compile(r"`([^`\n]+)`")


@dataclass(frozen=True)
class Command:
    """One command as a page has it.

    Attributes:
        page: the page, relative to the project.
        line: its first line there, from 1.
        text: the command, without a comment behind it.
    """

    page: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: {self.text}"


def blocks(text: str, page: str = "") -> list[list[Command]]:
    """The commands of every fenced shell block of a page; a backslash at the end of a line joins the next one."""
    found: list[list[Command]] = []
    inside: list[Command] | None = None
    other = False
    pending, start = "", 0
    for number, line in enumerate(text.splitlines(), start=1):
        if fence := _FENCE.match(line):
            if inside is not None or other:
                inside, other = None, False
            elif fence["language"] in _SHELL:
                inside = []
                found.append(inside)
            else:
                other = True
            continue
        if inside is None:
            continue
        start = start if pending else number
        pending += _COMMENT.sub("", line).strip()
        if pending.endswith("\\"):
            pending = pending.removesuffix("\\")
            continue
        if pending and not pending.startswith("#"):
            inside.append(Command(page, start, pending))
        pending = ""
    return found


def inline(text: str, page: str = "") -> Iterator[Command]:
    """Everything between single backticks outside of fenced blocks."""
    fenced = False
    for number, line in enumerate(text.splitlines(), start=1):
        if _FENCE.match(line):
            fenced = not fenced
        elif not fenced:
            for match in _INLINE.finditer(line):
                yield Command(page, number, match[1])


def page_blocks(name: str) -> list[list[Command]]:
    """:func:`blocks` of one page of the project."""
    return blocks((PROJECT / name).read_text(encoding="utf-8"), name)


def all_commands() -> list[Command]:
    """Every command in a fenced block of any page."""
    return [
        command for page in PAGES for block in page_blocks(page.relative_to(PROJECT).as_posix()) for command in block
    ]


def all_inline() -> list[Command]:
    """Every piece of inline code of any page."""
    return [
        command
        for page in PAGES
        for command in inline(page.read_text(encoding="utf-8"), page.relative_to(PROJECT).as_posix())
    ]
