"""The comment on a pull request: what a preview means, then what it does, then every property of it.

At most so large as GitHub takes, and what is left out then is what a reviewer misses least: properties first, then rows
of the table. The summary always stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ops import markdown
from ops.changes import Line, gate_lines, meaning, properties, rollout_steps
from ops.digest import Digest, Step
from ops.engine import short_name

LIMIT = 64_000
"""Bytes. GitHub takes 65,536 characters (its error: "body is too long (maximum is 65536 characters)")."""

_VERBS = {
    "create": "to create",
    "update": "to update",
    "replace": "to replace",
    "delete": "to delete",
    "same": "unchanged",
}
_SIGNS = {"create": "+", "update": "~", "replace": "+-", "delete": "-"}
_BADGES = {"deletes": "**Deletes** ", "replaces": "**Replaces** ", "": ""}
_LONGEST_MESSAGE = 2_000


@dataclass(frozen=True)
class Preview:
    """A preview of one stack.

    Attributes:
        stack: its name.
        digest: what the engine says; None where it said nothing that can be read.
        failure: why the preview failed, plain text without secrets; empty where it did not.
        run_url: where the log of the run is, for the last line.
        commit: which commit was previewed, for the last line.
    """

    stack: str
    digest: Digest | None
    failure: str = ""
    run_url: str = ""
    commit: str = ""


def marker(kind: str, stack: str) -> str:
    """The hidden first line by which a comment or an issue is found again, by whichever form of its name a stack is
    called: a repository has one file for it."""
    name = markdown.visible(short_name(stack)).replace("--", "- -").replace(">", "")
    return f"<!-- tf-serving {kind}: {name} -->"


@dataclass(frozen=True)
class Section:
    """A part of a text that can be made shorter by leaving out items from its end.

    Attributes:
        head: before the items.
        items: one line each.
        tail: after them.
        of: what the items are, for "... and 3 more ...".
        share: of the whole text, at most so much.
    """

    head: Sequence[str]
    items: Sequence[str]
    tail: Sequence[str] = ()
    of: str = "lines"
    share: float = 1.0

    def within(self, room: int) -> list[str]:
        """The lines that fit."""
        whole = [*self.head, *self.items, *self.tail]
        if markdown.size("\n".join(whole)) <= room:
            return whole
        left = room - markdown.size("\n".join([*self.head, *self.tail, self._more(len(self.items)), "", ""])) - 2
        kept: list[str] = []
        for item in self.items:
            left -= markdown.size(item) + 1
            if left < 0:
                break
            kept.append(item)
        more = self._more(len(self.items) - len(kept))
        return [*self.head, *kept, *self.tail, "", more] if kept else [more]

    def _more(self, count: int) -> str:
        return f"_{count} more {self.of} are left out here, for the limit of a comment; the log of the run has them._"


@dataclass
class Text:
    """A text put together from sections, within a limit."""

    limit: int = LIMIT
    lines: list[str] = field(default_factory=list)

    def add(self, section: Section) -> None:
        """Adds what fits of a section; nothing of an empty one."""
        if not section.items:
            return
        room = self.limit - markdown.size("\n".join(self.lines)) - 2
        found = section.within(min(room, int(self.limit * section.share)))
        if markdown.size("\n".join(found)) <= room:
            self.lines += ["", *found]

    def __str__(self) -> str:
        return "\n".join(self.lines) + "\n"


def render(preview: Preview, limit: int = LIMIT) -> str:
    """The comment.

    Args:
        preview: what to show.
        limit: bytes.
    """
    digest = preview.digest or Digest()
    failed = bool(preview.failure or digest.errors)
    text = Text(limit, [marker("preview", preview.stack), _title(preview.stack, digest, failed)])
    if failed:
        text.add(Section((), _errors(preview, digest), of="errors", share=0.5))
    if preview.digest is not None:
        lines = meaning(digest)
        text.add(Section((), [_bullet(line) for line in lines], of="changes", share=0.5))
        if not failed and not digest.has_changes:
            text.add(Section((), ["No changes: the stack is what this commit says."]))
        text.add(_rollout(digest))
        text.add(_gates(digest))
        text.add(_messages(digest, "warning", "Warnings"))
        text.add(_table(digest))
        text.add(_diff(digest))
        shown = {line.text for line in lines} | {*rollout_steps(digest), *gate_lines(digest)}
        text.add(_messages(digest, "info", "Notes", leave_out=shown))
    text.add(Section((), list(_footer(preview))))
    return str(text)


def _title(stack: str, digest: Digest, failed: bool) -> str:
    title = f"### Preview of stack {markdown.code(stack, 100)}"
    if failed:
        return f"{title} failed"
    return f"{title}: {counts(digest)}"


def counts(digest: Digest) -> str:
    """``1 to update, 13 unchanged``."""
    found = [f"{digest.counts[op]} {verb}" for op, verb in _VERBS.items() if digest.counts.get(op)]
    return ", ".join(found) or "nothing to do"


def _errors(preview: Preview, digest: Digest) -> list[str]:
    found = [each.text for each in digest.errors] or [preview.failure]
    return [line for text in found for line in markdown.block(markdown.shortened(text, _LONGEST_MESSAGE).splitlines())]


def _bullet(line: Line) -> str:
    return f"- {_BADGES[line.danger]}{markdown.code(line.text)}"


def _rollout(digest: Digest) -> Section:
    steps = rollout_steps(digest)
    head = ["**Rollout**, each step once the one before is proven:", ""]
    return Section(head, [f"{i}. {markdown.code(text)}" for i, text in enumerate(steps, 1)], of="steps", share=0.2)


def _gates(digest: Digest) -> Section:
    items = [f"- {markdown.code(text)}" for text in gate_lines(digest)]
    return Section(["**Gates**", ""], items, of="lines about gates", share=0.2)


def _messages(digest: Digest, severity: str, title: str, leave_out: Iterable[str] = ()) -> Section:
    known = set(leave_out)
    texts = dict.fromkeys(each.text for each in digest.diagnostics if each.severity == severity)
    items = [f"- {markdown.code(text, _LONGEST_MESSAGE)}" for text in texts if text not in known]
    return Section([f"**{title}**", ""], items, of="messages", share=0.2)


def _table(digest: Digest) -> Section:
    header, rule, *rows = markdown.table(
        ("", "Type", "Name", "Plan", "Changed"), [_row(step) for step in digest.changed]
    )
    return Section([header, rule], rows, of="resources", share=0.4)


def _row(step: Step) -> tuple[str, ...]:
    paths = sorted(step.diff) or list(step.diff_keys)
    shown = [markdown.code(path, 60) for path in paths[:4]]
    more = [f"and {len(paths) - 4} more"] if len(paths) > 4 else []
    plan = f"**{step.op}**" if step.op in ("replace", "delete") else markdown.visible(step.op)
    return (
        markdown.code(_SIGNS.get(step.op, step.op)),
        markdown.code(step.type, 100),
        markdown.code(step.name, 100),
        plan,
        ", ".join(shown + more),
    )


def _diff(digest: Digest) -> Section:
    lines: list[str] = []
    for step in digest.changed:
        found = properties(step)
        if found or step.custom:
            sign = {"create": "+", "delete": "-"}.get(step.op, "!")
            lines += [f"{sign} {step.type} {step.name} ({step.op})"]
            lines += [f"{'!' if line[0] == '~' else line[0]}   {line[2:]}" for line in found]
    if not lines:
        return Section((), ())
    opening, *shown, closing = markdown.block(lines, "diff")
    return Section(
        ["<details>", "<summary>Full diff</summary>", "", opening],
        shown,
        [closing, "", "</details>"],
        of="properties",
    )


def _footer(preview: Preview) -> Iterable[str]:
    parts = [f"Commit {markdown.code(preview.commit[:12])}"] if preview.commit else []
    if preview.run_url:
        parts.append(f"[log of the run]({preview.run_url})")
    if parts:
        yield f"<sub>{', '.join(parts)}</sub>"
