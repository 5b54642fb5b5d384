"""The commands that the project's Markdown pages tell a person to run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [
        *PROJECT.glob("*.md"),
        *(PROJECT / "docs").rglob("*.md"),
        *(PROJECT / ".github").rglob("*.md"),
        PROJECT / "examples" / "README.md",
    ],
    key=lambda page: page.relative_to(PROJECT).as_posix(),
)

_FENCE = re.compile(r"^\s*```(?P<language>\w*)\s*$")
_SHELL = frozenset({"sh", "bash", "shell", "console"})
_COMMENT = re.compile(r"\s+#\s.*$")
_STEP = re.compile(r"(?P<before>(?:^(?!```)[^\n]+\n)*)\n*^```(?P<language>\w*)\n(?P<body>(?s:.*?))^```$", re.MULTILINE)
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


def links(text: str) -> Iterator[tuple[str, str]]:
    """File and heading of every link into the project: ``("docs/a.md", "how")``; either may be empty."""
    outside = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", outside)):
        if not re.match(r"[a-z]+:", target):
            file, _, heading = target.partition("#")
            yield file, heading


def headings(text: str) -> set[str]:
    """How links name the headings of a page."""
    plain = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in plain}


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


@dataclass(frozen=True)
class Save:
    """The reader saves a file: the page says ``Save ... as `path` `` before the block."""

    path: str
    text: str


@dataclass(frozen=True)
class Edit:
    """The reader changes lines of a file that was saved before: a ``diff`` block."""

    old: str
    new: str


@dataclass(frozen=True)
class Run:
    """The reader types the commands of a shell block."""

    commands: tuple[str, ...]


@dataclass(frozen=True)
class Shows:
    """What the commands before print, among other lines: a block without a language."""

    lines: tuple[str, ...]


Step = Save | Edit | Run | Shows


def steps(text: str) -> Iterator[Step]:
    """What a page that is followed from top to bottom has its reader do.

    Raises:
        ValueError: a block is none of the four kinds.
    """
    for match in _STEP.finditer(text):
        body, before = match["body"], " ".join(match["before"].split())
        saved = re.search(r"\bsave\b[^`]*\bas `([^`]+)`", before, re.IGNORECASE)
        if saved:
            yield Save(saved[1], body)
        elif match["language"] == "diff":
            sides = {"-": "", "+": ""}
            for line in body.splitlines(keepends=True):
                sides[line[0]] += line[1:]
            yield Edit(sides["-"], sides["+"])
        elif match["language"] in _SHELL:
            (block,) = blocks(f"```sh\n{body}```\n")
            yield Run(tuple(command.text for command in block))
        elif not match["language"]:
            yield Shows(tuple(line.strip() for line in body.splitlines() if line.strip() != "..."))
        else:
            raise ValueError(f"nobody is told what to do with this:\n{body}")


def shown(line: str) -> re.Pattern[str]:
    """Finds a printed line of a page: ports, times and measured numbers are others on each machine."""
    pieces = re.split(r"(127\.0\.0\.1:\d+|-?\d+\.\d+|\d+(?= bytes))", re.sub(r"\s+", " ", line))
    spelt = (r"127\.0\.0\.1:\d+" if piece.startswith("127.") else r"-?\d+(\.\d+)?(e-?\d+)?" for piece in pieces[1::2])
    fixed = [re.escape(piece).replace(r"\ ", r"\s+") for piece in pieces[::2]]
    return re.compile("".join(a + b for a, b in zip(fixed, [*spelt, ""], strict=True)))
