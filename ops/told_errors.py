"""The errors in what ``up`` printed for a person, whole: a message may have many lines, its reason and fix among them.

Both engines print them alike. Under ``Diagnostics:`` each resource has a line of its own, and its messages below it are
indented deeper. What an engine says of itself begins at the left. Lines of a message are never indented less than its
first one.
"""

from __future__ import annotations

import re

_BEGIN = re.compile(r"( *)(error|warning|info|debug): ?(.*)")
_HEAD = re.compile(r"(Diagnostics|Outputs|Resources|Policies|Duration|Permalink|View Live|View in Browser)\b.*")
_SAYS_NOTHING = re.compile(r"\w+ failed|Resource monitor has terminated, shutting down")
"""``up failed``, and how the Pulumi CLI ends a program: that, and nothing else, is said beside the reason."""


def errors(text: str) -> list[str]:
    """The messages of severity error, each once, without their indentation; those that give no reason only alone.

    Args:
        text: what the engine printed.
    """
    found: list[list[str]] = []
    indent: int | None = None
    for line in text.splitlines():
        begin = _BEGIN.fullmatch(line.rstrip())
        depth = len(line) - len(line.lstrip(" "))
        if begin is not None and (indent is None or len(begin[1]) <= indent):
            indent = len(begin[1]) if begin[2] == "error" else None
            if indent is not None:
                found.append([begin[3]])
        elif line.strip() and (indent is None or depth < indent or (depth == 0 and _HEAD.fullmatch(line))):
            indent = None
        elif indent is not None:
            found[-1].append(line[indent:].rstrip())
    texts = list(dict.fromkeys("\n".join(lines).strip() for lines in found))
    return [each for each in texts if each and not _SAYS_NOTHING.fullmatch(each)] or texts
