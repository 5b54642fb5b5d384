"""Promotions: the steps to a new version, and what to do after a run that was killed. Pure.

A promotion is a sequence of edits of the stack file, each deployed by an ordinary update. Its record holds everything
that a later run needs: the steps with the values before and after them, and how far it came. The record is written
before the file is, so that wherever a run ends, the file has the values of the step before or those of the step itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from tfserving import metrics
from tfserving.errors import TFServingError
from tfserving.judgement import Judgement, Limits, judge
from tfserving.metrics import Counts
from tfserving.stack_edit import REMOVED, Path

MODELS, SERVICES, TRAFFIC = "tf-serving:models", "tf-serving:services", "tf-serving:traffic"

Values = Callable[[Path], Any]
"""What the stack file says at a path; :data:`REMOVED` for nothing."""


class PromotionError(TFServingError):
    """The promotion cannot be planned, or cannot go on."""


# ---- steps ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Change:
    """One value of the stack file.

    Attributes:
        path: where.
        before: what it was; :data:`REMOVED` for nothing.
        after: what it becomes.
    """

    path: Path
    before: Any
    after: Any


@dataclass(frozen=True)
class Step:
    """One edit, its update, and what decides whether it goes on.

    Attributes:
        title: what it does, for people.
        changes: the edit.
        canary: services that answer with the new version afterwards; their counters are judged. Empty: no judgement.
        stable: services that answer with the old one; empty: they are compared with themselves before.
    """

    title: str
    changes: tuple[Change, ...]
    canary: tuple[str, ...] = ()
    stable: tuple[str, ...] = ()


@dataclass(frozen=True)
class Group:
    """A group that shares requests by weight.

    Attributes:
        name: its name in ``tf-serving:traffic``.
        canary: the member that gets the new version first.
        shares: percent for the canary, step by step.
    """

    name: str
    canary: str
    shares: Sequence[int]


def plan(
    model: str, to: int, label: str, values: Values, readers: Sequence[str], group: Group | None = None
) -> tuple[Step, ...]:
    """The steps of a promotion; none where the label is on that version already.

    Args:
        model: whose.
        to: the new version.
        label: that clients ask by.
        values: the stack file.
        readers: services that move with the labels of the model, which are judged where there is no group.
        group: try the version on a share of the requests first.

    Raises:
        PromotionError: the stack does not have what is asked for.
    """
    if values((MODELS, model)) is REMOVED:
        raise PromotionError(f"{MODELS}: there is no model {model!r} in the stack file")
    here = (MODELS, model, "labels", label)
    old = values(here)
    if old == to:
        return ()
    move = _changes(values, {here: to})
    serve = _changes(values, _served(values, (MODELS, model), to))
    title = f"{model}: label {label} {_shown(old)} -> {to}"
    if group is None:
        return (Step(title, serve + move, tuple(readers)),)
    weights = values((TRAFFIC, group.name, "weights"))
    if not isinstance(weights, Mapping):
        raise PromotionError(f"{TRAFFIC}: there is no group {group.name!r} with weights in the stack file")
    if group.canary not in weights or len(weights) < 2:
        raise PromotionError(
            f"{TRAFFIC}.{group.name}: {group.canary!r} is no member beside others: {', '.join(weights)}"
        )
    others = {name: share for name, share in weights.items() if name != group.canary}
    stable = max(others, key=lambda name: others[name])
    rest = sum(share for name, share in others.items() if name != stable)
    shares = [share for share in group.shares if share <= 100 - rest]
    if not shares or list(shares) != sorted(set(group.shares)) or shares[0] < 1:
        raise PromotionError(
            f"--steps {','.join(map(str, group.shares))}: rising shares from 1 to {100 - rest} are needed"
        )

    def at(name: str) -> Path:
        return (TRAFFIC, group.name, "weights", name)

    now = {name: weights[name] for name in (group.canary, stable)}
    begin = min(now[group.canary], shares[0])
    canary = _changes(values, _on_canary(values, group.canary, model, label, to))
    first = _changes(values, {at(group.canary): begin, at(stable): 100 - rest - begin})
    steps = [Step(f"{group.canary}: {model} version {to} by label {label}", serve + canary + first)]
    last = {group.canary: begin, stable: 100 - rest - begin}
    for share in shares:
        new = {group.canary: share, stable: 100 - rest - share}
        changes = tuple(Change(at(name), last[name], new[name]) for name in new if last[name] != new[name])
        judged_against = (stable,) if new[stable] else ()
        steps.append(Step(f"{group.name}: {group.canary} {share} %", changes, (group.canary,), judged_against))
        last = new
    back = tuple(Change(at(name), last[name], now[name]) for name in now if last[name] != now[name])
    # First the label, while the old version gets as little as the last step left it; then the shares as they were.
    steps.append(Step(title, move))
    if back:
        steps.append(Step(f"{group.name}: {group.canary} {now[group.canary]} % again", back))
    return tuple(step for step in steps if step.changes or step.canary)


def _changes(values: Values, wanted: Mapping[Path, Any]) -> tuple[Change, ...]:
    return tuple(Change(path, values(path), after) for path, after in wanted.items() if values(path) != after)


def _shown(value: Any) -> str:
    return "nothing" if value is REMOVED else str(value)


def _served(values: Values, entry: Path, to: int) -> dict[Path, Any]:
    """What has to change for a version to be published and served: lists of versions are widened, nothing else is."""
    found = {}
    for path in ((*entry, "versions"), (*entry, "policy", "specific")):
        numbers = values(path)
        if isinstance(numbers, list) and to not in numbers:
            found[path] = [*numbers, to]
    return found


def _on_canary(values: Values, service: str, model: str, label: str, to: int) -> dict[Path, Any]:
    """One service serves the version by the label, whatever the others do: its model set gets labels of its own."""
    models = (SERVICES, service, "models")
    own, common = values(models), values((MODELS, model, "labels"))
    labels = {**(common if isinstance(common, Mapping) else {}), label: to}
    if not isinstance(own, Mapping):
        every = values((MODELS,))
        names = own if isinstance(own, list) else list(every if isinstance(every, Mapping) else ())
        if model not in names:
            raise PromotionError(f"{SERVICES}.{service}.models: the service does not serve {model}")
        return {models: {name: {"labels": labels} if name == model else {} for name in names}}
    if model not in own:
        raise PromotionError(f"{SERVICES}.{service}.models: the service does not serve {model}")
    entry = (*models, model)
    if isinstance(values((*entry, "labels")), Mapping):
        return {(*entry, "labels", label): to, **_served(values, entry, to)}
    return {(*entry, "labels"): labels, **_served(values, entry, to)}


def choose_canary(weights: Mapping[str, Any], own_sets: Mapping[str, Any], model: str) -> str:
    """The member of a group that gets new versions first: the one with a model set of its own that says otherwise for
    the model, else the one with the smallest share.

    Raises:
        PromotionError: it is not clear which.
    """
    special = [
        name
        for name in weights
        if isinstance(own_sets.get(name), Mapping)
        and isinstance(own_sets[name].get(model), Mapping)
        and own_sets[name][model]
    ]
    if len(special) == 1:
        return special[0]
    least = [name for name in weights if weights[name] == min(weights.values())]
    if len(least) == 1 and len(weights) > 1:
        return least[0]
    raise PromotionError(f"which member gets the new version first? Name one with --canary: {', '.join(weights)}")


# ---- the record ----------------------------------------------------------------------------------------------------

Phase = Literal["edit", "apply", "hold"]


@dataclass(frozen=True)
class Record:
    """How far a promotion has come.

    Attributes:
        model: whose.
        to: the new version.
        label: that moves.
        steps: all of them.
        limits: of every judged step.
        hold: seconds of every judged step.
        step: the one at work.
        phase: what of it is at work.
        back: it is on its way back; ``steps`` are those of the way back then.
        why: why it turned back.
        before: what was counted by service before the step at work.
        prometheus: where counters are asked for; empty for the servers themselves.
        selector: what chooses a service's series there.
        written: digest of the stack file as this promotion wrote it last; empty before.
        id: tells this promotion from earlier ones to the same version.
    """

    model: str
    to: int
    label: str
    steps: tuple[Step, ...]
    limits: Limits = field(default_factory=Limits)
    hold: float = 600.0
    step: int = 0
    phase: Phase = "edit"
    back: bool = False
    why: tuple[str, ...] = ()
    before: Mapping[str, Counts] = field(default_factory=dict)
    prometheus: str = ""
    selector: str = ""
    written: str = ""
    id: str = ""

    @property
    def current(self) -> Step | None:
        """The step at work; None when all are done."""
        return self.steps[self.step] if self.step < len(self.steps) else None

    def next(self) -> Record:
        """After the step at work."""
        return replace(self, step=self.step + 1, phase="edit", before={})

    def turned_back(self, why: Sequence[str], values: Values) -> Record:
        """On its way back to where it began: first requests go where they went before, then the version goes.

        Args:
            why: what is wrong with the version, or with the update.
            values: the stack file, which may not have the edit of the step at work yet.
        """
        if self.back:
            return self
        first: dict[Path, Any] = {}
        known: dict[Path, list[Any]] = {}
        for change in (change for step in self.steps[: self.step + 1] for change in step.changes):
            first.setdefault(change.path, change.before)
            known.setdefault(change.path, []).extend((change.before, change.after))
        undone = []
        for path, before in first.items():
            found = values(path)
            now = found if found in known[path] else known[path][-1]
            if now != before:
                undone.append(Change(path, now, before))
        shares = tuple(change for change in undone if change.path[0] == TRAFFIC)
        rest = tuple(change for change in undone if change.path[0] != TRAFFIC)
        parts = (("back: requests go where they went before", shares), (f"back: {self.model} as before", rest))
        steps = tuple(Step(title, changes) for title, changes in parts if changes)
        # Without anything to undo in the file, one update more: it may not have been deployed.
        steps = steps or (Step(f"back: {self.model} as before", ()),)
        return replace(self, steps=steps, step=0, phase="edit", back=True, why=tuple(why), before={})

    def to_dict(self) -> dict[str, Any]:
        """The record as JSON has it."""
        return {
            "promotion": 1,
            "model": self.model,
            "to": self.to,
            "label": self.label,
            "step": self.step,
            "phase": self.phase,
            "back": self.back,
            "why": list(self.why),
            "hold": self.hold,
            "limits": {"errorRate": self.limits.error_rate, "p99": self.limits.p99, "requests": self.limits.requests},
            "prometheus": self.prometheus,
            "selector": self.selector,
            "written": self.written,
            "id": self.id,
            "before": {
                name: {"errors": dict(counts.errors), "buckets": [[str(k), v] for k, v in counts.buckets.items()]}
                for name, counts in self.before.items()
            },
            "steps": [
                {
                    "title": step.title,
                    "canary": list(step.canary),
                    "stable": list(step.stable),
                    "changes": [
                        {"path": list(change.path)}
                        | ({} if change.before is REMOVED else {"before": change.before})
                        | ({} if change.after is REMOVED else {"after": change.after})
                        for change in step.changes
                    ],
                }
                for step in self.steps
            ],
        }

    @classmethod
    def from_dict(cls, raw: Any) -> Record:
        """Reads :meth:`to_dict`.

        Raises:
            PromotionError: it is no record.
        """
        try:
            if raw["promotion"] != 1:
                raise PromotionError(f"a record of form {raw['promotion']!r}, which this release does not know")
            limits = raw["limits"]
            return cls(
                model=raw["model"],
                to=raw["to"],
                label=raw["label"],
                steps=tuple(
                    Step(
                        step["title"],
                        tuple(
                            Change(tuple(each["path"]), each.get("before", REMOVED), each.get("after", REMOVED))
                            for each in step["changes"]
                        ),
                        tuple(step["canary"]),
                        tuple(step["stable"]),
                    )
                    for step in raw["steps"]
                ),
                limits=Limits(limits["errorRate"], limits["p99"], limits["requests"]),
                hold=raw["hold"],
                step=raw["step"],
                phase=raw["phase"],
                back=raw["back"],
                why=tuple(raw["why"]),
                before={
                    name: Counts(counts["errors"], {float(limit): count for limit, count in counts["buckets"]})
                    for name, counts in raw["before"].items()
                },
                prometheus=raw["prometheus"],
                selector=raw["selector"],
                written=raw["written"],
                id=raw["id"],
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise PromotionError(f"this is no record of a promotion: {error!r}") from None


def edits(step: Step, values: Values) -> dict[Path, Any]:
    """What is left to write of a step's edit; what was written before a kill is not written again.

    Raises:
        PromotionError: somebody gave a value that is neither that before the step nor that after it.
    """
    strange = []
    left = {}
    for change in step.changes:
        found = values(change.path)
        if found == change.after:
            continue
        if found != change.before:
            known = f"{_shown(change.before)} or {_shown(change.after)}"
            strange.append(f"{'.'.join(change.path)} is {_shown(found)}, and this promotion knows {known}")
        left[change.path] = change.after
    if strange:
        lines = "\n".join(f"  {each}" for each in strange)
        raise PromotionError(
            f"somebody else changed what this promotion changes, and nothing was written:\n{lines}\n"
            "Fix: put one of the two values there and run it again, or remove the record to leave all as it is"
        )
    return left


def resumed(record: Record, same: bool, values: Values) -> Record:
    """Where a run goes on that finds a record.

    Args:
        record: what is there.
        same: the stack file is as this promotion wrote it last.
        values: the stack file.

    Raises:
        PromotionError: the file does not have the values of the step at work, nor those before it.
    """
    step = record.current
    if step is None or record.phase == "edit":
        return record
    if edits(step, values):  # somebody took the edit back
        return replace(record, phase="edit")
    # Whatever else is in the file now was seen by who continues, and is deployed with the step.
    return record if same else replace(record, phase="edit")


def judged(step: Step, counted: Mapping[str, Counts], before: Mapping[str, Counts], limits: Limits) -> Judgement:
    """Judges a step by what its services counted.

    Args:
        step: with services to judge.
        counted: by service, since the step was deployed.
        before: by service, before that.
        limits: to keep to.
    """
    canary = metrics.total(counted[name] for name in step.canary if name in counted)
    source, names = (counted, step.stable) if step.stable else (before, step.canary)
    known = [source[name] for name in names if name in source]
    stable = metrics.total(known) if known else None
    enough = stable is not None and stable.requests >= max(limits.requests, 1)
    return judge(canary, stable if enough else None, limits)
