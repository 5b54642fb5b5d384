"""GitHub flavoured Markdown that names from anywhere cannot break out of.

Names of models, labels and services, and whatever else comes from outside, are shown as code: nothing in it is a link,
an image, HTML or a mention. What would end a line or a table cell, or not be seen, is spelt out.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

_FENCE = 3


def visible(text: str) -> str:
    """``text`` on one line: control characters, line breaks and invisible characters as escapes."""
    return "".join(_visible(char) for char in text)


def _visible(char: str) -> str:
    if char == " " or (char.isprintable() and unicodedata.category(char) not in ("Cf", "Co", "Cn")):
        return char
    known = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}.get(char)
    if known:
        return known
    return f"\\u{{{ord(char):x}}}"


def code(text: str, longest: int = 400) -> str:
    """``text`` as inline code, at most ``longest`` characters of it.

    CommonMark: the delimiter is longer than any run of backticks inside; a space at both ends is taken off again.
    """
    text = shortened(visible(text), longest)
    if not text.strip():
        return "` `" if text else "`''`"
    runs = [len(run) for run in re.findall("`+", text)]
    ticks = "`" * (max(runs, default=0) + 1)
    pad = " " if runs and (text[0] == "`" or text[-1] == "`") else ""
    if text[0] == " " and text[-1] == " ":
        pad = " "
    return f"{ticks}{pad}{text}{pad}{ticks}"


def block(lines: Sequence[str], language: str = "") -> list[str]:
    """Lines as a code block, with a fence that nothing inside closes."""
    shown = [visible(line) for line in lines]
    runs = (len(run) for line in shown for run in re.findall("`+", line))
    fence = "`" * max(_FENCE, max(runs, default=0) + 1)
    return [f"{fence}{language}", *shown, fence]


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table; cells are Markdown already, and have the one thing spelt out that ends a cell."""
    lines = [_row(header), _row(["---"] * len(header))]
    return lines + [_row(row) for row in rows]


def _row(cells: Sequence[str]) -> str:
    # GFM: a pipe ends a cell inside of code, too, unless it is escaped; an escape before it would take the escape away.
    return "| " + " | ".join(re.sub(r"\\*\|", _pipe, cell) for cell in cells) + " |"


def _pipe(found: re.Match[str]) -> str:
    return found.group()[:-1].replace("\\", "\uff3c") + "\\|"


def folded(summary: str, lines: Sequence[str]) -> list[str]:
    """A section that opens on a click."""
    return ["<details>", f"<summary>{summary}</summary>", "", *lines, "", "</details>"]


def shortened(text: str, longest: int) -> str:
    """At most ``longest`` characters."""
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def size(text: str) -> int:
    """How large a text is for GitHub: bytes, which is never less than the characters it counts."""
    return len(text.encode("utf-8", "surrogatepass"))
