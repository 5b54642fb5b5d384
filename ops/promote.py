"""Carries a promotion out: edit, preview, update, hold, judge; and back where a version is not good enough.

Every state is on disk before it is acted upon (:class:`tfserving.promotion.Record`), so that a run that was killed is
continued by the next one.
"""

from __future__ import annotations

import textwrap
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from ops import digest, engine, meter, outputs, state, told_errors
from ops.meter import Meter, MeterError
from ops.promotion_files import Files, marked
from ops.promotion_files import digest as digest_of
from ops.redact import Redactor
from tfserving import judgement, promotion
from tfserving.durations import as_text
from tfserving.judgement import Judgement
from tfserving.metrics import Counts
from tfserving.promotion import PromotionError, Record, Step

Outcome = Literal["done", "back", "undecided"]

_BUSY = ("another run is at work on this stack", "the stack is currently locked by")
_BUSY_SECONDS = 600.0
_BUSY_PAUSE = 5.0
_LOOKS = 20
_LONGEST_PAUSE = 15.0


@dataclass(frozen=True)
class Ended:
    """How a run ended.

    Attributes:
        outcome: ``done``; ``back`` where it began; ``undecided``: it stays where it is.
        reasons: why it is not done.
        record: how far it came.
    """

    outcome: Outcome
    reasons: tuple[str, ...]
    record: Record


class Run:
    """One run of a promotion.

    Args:
        stack: stack name.
        which: whose stack it is.
        files: of the stack.
        redactor: masks what the engine prints.
        say: tells a person what is going on.
    """

    def __init__(
        self, stack: str, which: engine.Engine, files: Files, redactor: Redactor, say: Callable[[str], None]
    ) -> None:
        self._stack, self._which, self._files, self._redactor, self._say = stack, which, files, redactor, say

    def run(self, record: Record) -> Ended:
        """Carries out what is left.

        Raises:
            TFServingError: it cannot go on from here; the record says how far it came.
        """
        self._files.keep(record)
        while (step := record.current) is not None:
            title = f"{'way back' if record.back else 'step'} {record.step + 1} of {len(record.steps)}: {step.title}"
            if record.phase == "edit":
                record = self._edit(record, step, title)
                if record.phase == "edit":  # refused, and on its way back
                    continue
            if record.phase == "apply":
                self._see_nobody_else(record, title)
                self._say(f"{title}: updating")
                reason = self._update()
                if reason and record.back:
                    raise PromotionError(
                        f"{title}: the update failed, so the stack is not where it began yet: {reason}\n"
                        "Fix: see to what it says, then run it again with --continue"
                    )
                if reason:
                    record = self._turn_back(record, (f"the update failed: {reason}",))
                    continue
                record = self._keep(replace(record, phase="hold"))
            verdict = self.hold(record, step, title)
            if verdict.verdict == "undecided":
                return Ended("undecided", verdict.reasons, record)
            if verdict.verdict == "breach":
                record = self._turn_back(record, verdict.reasons)
                continue
            record = self._keep(record.next())
        self._files.forget()
        return Ended("back" if record.back else "done", record.why, record)

    def resume(self, record: Record) -> Ended:
        """Goes on where an earlier run ended, with the stack file as it is now."""
        same = digest_of(self._files.text()) == record.written
        return self.run(promotion.resumed(record, same, self._files.value))

    def turn_back(self, record: Record, why: tuple[str, ...]) -> Ended:
        """Goes back to where the promotion began."""
        return self.run(self._turn_back(record, why))

    def _turn_back(self, record: Record, why: tuple[str, ...]) -> Record:
        for reason in why:
            self._say(f"not good enough: {reason}")
        return self._keep(record.turned_back(why, self._files.value))

    def _keep(self, record: Record) -> Record:
        self._files.keep(record)
        return record

    # ---- edit and update -------------------------------------------------------------------------------------------

    def _edit(self, record: Record, step: Step, title: str) -> Record:
        old = self._files.text()
        new = self._files.edited(old, promotion.edits(step, self._files.value))
        if step.canary and not record.before:
            record = self._keep(replace(record, before=self.counted_before(record, step)))
        if new != old:
            self._say(f"{title}: writing {self._files.stack_file.name}")
            self._files.write(old, new)
        record = marked(record, new)
        if record.back:
            return self._keep(replace(record, phase="apply"))
        self._say(f"{title}: previewing")
        done = engine.run(self._stack, ["preview", "--json"], self._which)
        try:
            found = digest.parse(done.out, self._redactor)
            errors = [each.text for each in found.errors]
        except digest.DigestError as error:
            errors = [] if done.code == 0 else [str(error)]
        if done.code != 0 or errors:
            reason = "\n".join(dict.fromkeys(errors)) or self._redactor.text(done.reason)
            if record.step == 0:
                self._files.write(new, old)
                self._files.forget()
                raise PromotionError(f"{title}: the preview refuses it, and the stack file is as it was:\n{reason}")
            return self._turn_back(record, (f"the preview refuses it: {reason}",))
        return self._keep(replace(record, phase="apply"))

    def _update(self) -> str:
        """Runs ``up``.

        Returns:
            why it failed; empty where it did not.

        Raises:
            PromotionError: another update is at work for too long.
        """
        began = time.monotonic()
        while True:
            done = engine.follow(self._stack, ["up", "--yes"], self._tell_line, self._which)
            if done.code == 0:
                return ""
            if not any(word in done.out for word in _BUSY):
                break
            left = _BUSY_SECONDS - (time.monotonic() - began)
            if left <= 0:
                raise PromotionError(
                    f"the stack is still locked: {self._redactor.text(done.reason)}\n"
                    "Fix: wait for that run, or lift the lock with `pulumi cancel`; then run it again with --continue"
                )
            self._say(f"another update of this stack is at work; waiting for it, {as_text(left)} yet")
            time.sleep(_BUSY_PAUSE)
        return self._redactor.text("\n".join(told_errors.errors(done.out)) or done.reason)

    def _tell_line(self, line: str) -> None:
        if line.strip():
            self._say(f"  | {self._redactor.text(line)}")

    # ---- hold and judge --------------------------------------------------------------------------------------------

    def counted_before(self, record: Record, step: Step) -> Mapping[str, Counts]:
        """What the services of a step counted before it; a service that is not there yet counted nothing."""
        found = {}
        for name, each in self._meters(record, (*step.canary, *step.stable)).items():
            try:
                meter.look_patiently(each)
                found[name] = each.before(record.model)
            except MeterError as error:
                self._say(f"no numbers from before this step: {error}")
        return found

    def hold(self, record: Record, step: Step, title: str) -> Judgement:
        """Holds a step that is deployed, and judges it; one without anything to judge is good.

        Raises:
            TFServingError: what cannot be counted cannot be judged, or somebody changed the stack file.
        """
        if not step.canary:
            return Judgement("good", ())
        meters = self._meters(record, (*step.canary, *step.stable))
        pause = min(_LONGEST_PAUSE, max(1.0, record.hold / _LOOKS))
        for each in meters.values():
            meter.look_patiently(each)
        began, told = time.monotonic(), -1e9
        while True:
            left = record.hold - (time.monotonic() - began)
            time.sleep(max(0.0, min(pause, left)))
            for each in meters.values():
                meter.look_patiently(each)
            counted = {name: each.counts(record.model) for name, each in meters.items()}
            verdict = promotion.judged(step, counted, record.before, record.limits)
            left = record.hold - (time.monotonic() - began)
            if time.monotonic() - told >= max(pause, record.hold / 10) or left <= 0 or verdict.verdict == "breach":
                told = time.monotonic()
                numbers = "; ".join(f"{name}: {judgement.summary(counts)}" for name, counts in counted.items())
                self._say(f"{title}: holding, {as_text(max(left, 0))} yet; {numbers}")
            if verdict.verdict == "breach":
                return verdict
            if left <= 0:
                return self._checked(record, title, verdict)

    def _checked(self, record: Record, title: str, verdict: Judgement) -> Judgement:
        """The verdict at the end of the hold, if what was held is still what was deployed."""
        self._see_nobody_else(record, title)
        for reason in verdict.reasons:
            self._say(f"{title}: {verdict.verdict}: {reason}")
        return verdict

    def _see_nobody_else(self, record: Record, title: str) -> None:
        if digest_of(self._files.text()) != record.written:
            raise PromotionError(
                f"{title}: somebody else changed {self._files.stack_file.name}, and nothing was written. "
                "Fix: look at the file, then run it again with --continue, which takes it as it is, or --abort"
            )

    def _meters(self, record: Record, names: tuple[str, ...]) -> dict[str, Meter]:
        services = outputs.services(self._stack, self._which)
        missing = [name for name in names if name not in services]
        if missing:
            raise PromotionError(f"the stack exports no service {', '.join(missing)}; deploy it first")
        found = meter.meters(
            self._stack,
            [services[name] for name in names],
            self._which,
            record.prometheus,
            record.selector or meter.DEFAULT_SELECTOR,
            record.hold,
        )
        problems = [str(each) for each in found.values() if isinstance(each, MeterError)]
        if problems:
            raise MeterError("what cannot be counted cannot be judged:\n" + "\n".join(f"  {each}" for each in problems))
        return {name: each for name, each in found.items() if not isinstance(each, MeterError)}


def readers(stack: str, which: engine.Engine, model: str) -> list[str]:
    """The services that follow the labels of a model, as the state has them.

    Raises:
        TFServingError: the state cannot be read.
    """
    return sorted(
        {
            name
            for resource in state.read(stack, which)
            if resource.kind == state.SERVED_CONFIG and model in (resource.inputs.get("models") or {})
            for name, service in (resource.inputs.get("services") or {}).items()
            if service.get("reads", True)
        }
    )


def judgeable(
    stack: str, which: engine.Engine, names: list[str], prometheus: str, selector: str
) -> tuple[list[str], list[str]]:
    """Which services can be judged, and why others cannot."""
    services = outputs.services(stack, which)
    found = meter.meters(stack, [services[name] for name in names if name in services], which, prometheus, selector)
    good = [name for name, each in found.items() if not isinstance(each, MeterError)]
    return good, [str(each) for each in found.values() if isinstance(each, MeterError)]


def as_lines(reasons: Sequence[str]) -> str:
    """Reasons for a person, each on lines of its own below what they explain."""
    return "".join(f"\n{textwrap.indent(reason, '  ')}" for reason in reasons)


def as_value(ended: Ended, stack: str) -> dict[str, Any]:
    """For programs."""
    record = ended.record
    return {
        "stack": stack,
        "model": record.model,
        "label": record.label,
        "to": record.to,
        "outcome": ended.outcome,
        "reasons": list(ended.reasons),
        "steps": [step.title for step in record.steps],
        "step": record.step,
    }
