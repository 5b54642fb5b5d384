"""A promotion by pull requests: each step is one, with the edit of the stack file and the record beside it.

Merging a step deploys it, as any change; the next run holds and judges it, and opens the next step or the way back. The
record says what the stack will be once its pull request is merged and deployed. Nothing is written on this machine.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ops import engine, markdown
from ops.github import GitHub, Post
from ops.promote import Ended, Run
from ops.promotion_files import Files, digest, marked
from tfserving import promotion
from tfserving.promotion import PromotionError, Record
from tfserving.stack_edit import REMOVED

_GIT_SECONDS = 30.0


class Requests:
    """The pull requests of one stack's promotion.

    Args:
        stack: stack name.
        which: whose stack it is.
        files: of the stack.
        run: judges steps.
        hub: the repository.
        base: the branch that is deployed.
    """

    def __init__(self, stack: str, which: engine.Engine, files: Files, run: Run, hub: GitHub, base: str) -> None:
        self._stack, self._which, self._files, self._run, self._hub, self._base = stack, which, files, run, hub, base

    def begin(self, record: Record) -> Post:
        """Opens the first step.

        Raises:
            TFServingError: it cannot be opened.
        """
        return self._open(record)

    def go_on(self, record: Record) -> tuple[Ended, Post | None]:
        """Judges the step that is deployed, and opens what follows.

        Returns:
            how the judgement ended, and the pull request; None where there is nothing to decide yet.

        Raises:
            TFServingError: the step cannot be judged, or what follows cannot be opened.
        """
        step = record.current
        if step is None or promotion.edits(step, self._files.value):
            raise PromotionError("the stack file does not have the values of the step that its record names")
        done = engine.run(self._stack, ["preview", "--expect-no-changes", "--json"], self._which)
        if done.code == engine.CHANGES:
            return Ended("undecided", ("this step is not deployed yet",), record), None
        if done.code != 0:
            raise PromotionError(f"whether this step is deployed cannot be told: {done.reason}")
        title = f"step {record.step + 1} of {len(record.steps)}: {step.title}"
        # Whatever else is in the file was reviewed, too, and is deployed.
        verdict = self._run.hold(replace(record, written=digest(self._files.text())), step, title)
        if verdict.verdict == "undecided":
            return Ended("undecided", verdict.reasons, record), None
        if verdict.verdict == "breach":
            return self.turn_back(record, verdict.reasons)
        following = record.next()
        return Ended("done", (), following), self._open(following)

    def turn_back(self, record: Record, why: tuple[str, ...]) -> tuple[Ended, Post]:
        """Opens the way back.

        Raises:
            TFServingError: it cannot be opened.
        """
        back = record.turned_back(why, self._files.value)
        return Ended("back", why, back), self._open(back)

    def _open(self, record: Record) -> Post:
        step = record.current
        old = self._files.text()
        self._see_committed(old)
        new = old if step is None else self._files.edited(old, promotion.edits(step, self._files.value))
        last = step is None or (record.back and record.step + 1 == len(record.steps))
        if step is not None and step.canary:
            record = replace(record, before=self._run.counted_before(record, step))
        kept = json.dumps(marked(replace(record, phase="hold"), new).to_dict(), indent=2, ensure_ascii=False) + "\n"
        files: dict[str, str | None] = {} if new == old else {self._path(self._files.stack_file): new}
        if not last or self._files.record() is not None:
            files[self._path(self._files.record_file)] = None if last else kept
        title = f"{self._stack}: {step.title}" if step else f"{self._stack}: promotion of {record.model} is done"
        if not files:
            raise PromotionError(f"{title}: there is nothing to change in the repository")
        # The same however often it is asked for, and whatever else is merged meanwhile.
        name = re.sub(
            r"[^\w-]", "-", f"{record.model}-{record.to}-{record.id}-{'back-' * record.back}{record.step + 1}"
        )
        branch = f"promotion/{engine.short_name(self._stack)}/{name}"
        found = self._hub.find_pull_request(branch)
        if found is None:
            return self._hub.open_pull_request(branch, self._base, self._head(), files, title, self._body(record))
        if not self._hub.is_open(found.number):
            raise PromotionError(
                f"pull request {found.number} for this was closed: {found.url}\n"
                "Fix: open it again, or go back with --abort --pull-request"
            )
        return found

    def _body(self, record: Record) -> str:
        """What the pull request says: which step it is, what it changes, and what decides on the next."""
        what = f"Promotion of {markdown.code(record.model)} to version {record.to}"
        lines = [f"{what}, by label {markdown.code(record.label)}."]
        lines += ["", *(f"- {markdown.code(reason)}" for reason in record.why)]
        for number, step in enumerate(record.steps):
            mark = "x" if number < record.step else " "
            here = " (this pull request)" if number == record.step else ""
            lines.append(f"- [{mark}] {markdown.code(step.title)}{here}")
            for change in step.changes if number == record.step else ():
                before = "nothing" if change.before is REMOVED else str(change.before)
                after = "nothing" if change.after is REMOVED else str(change.after)
                where = markdown.code(".".join(change.path))
                lines.append(f"  - {where}: {markdown.code(before)} to {markdown.code(after)}")
        step_now = record.current
        if step_now is not None and step_now.canary:
            lines += ["", f"Once it is deployed, it is held for {record.hold:g} s and judged by the servers' counters."]
        return "\n".join(lines) + "\n"

    # ---- git -------------------------------------------------------------------------------------------------------

    def _path(self, file: Path) -> str:
        return str(file.relative_to(Path(self._git("rev-parse", "--show-toplevel").strip()).resolve()))

    def _head(self) -> str:
        return self._git("rev-parse", "HEAD").strip()

    def _see_committed(self, text: str) -> None:
        """What is edited has to be what was committed: everything else would slip into the pull request."""
        if self._git("show", f"HEAD:{self._path(self._files.stack_file)}") != text:
            raise PromotionError(
                f"{self._files.stack_file.name} has changes that are not committed. Fix: commit or undo them first"
            )

    def _git(self, *arguments: str) -> str:
        try:
            done = subprocess.run(
                ["git", *arguments],
                cwd=self._files.stack_file.parent,
                capture_output=True,
                timeout=_GIT_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise PromotionError(f"--pull-request needs git: {error}") from None
        if done.returncode != 0:
            raise PromotionError(f"git {arguments[0]}: {done.stderr.decode(errors='replace').strip()}")
        return done.stdout.decode()


def base_branch(environment: Mapping[str, str] = os.environ) -> str:
    """The branch that is deployed: that of the workflow run, else ``main``."""
    return environment.get("GITHUB_REF_NAME") or "main"
