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
from tfserving.model_config import did_you_mean
from tfserving.property_path import join_path
from tfserving.stack_edit import REMOVED, Path

MODELS, SERVICES, TRAFFIC = "tf-serving:models", "tf-serving:services", "tf-serving:traffic"
DEFAULTS = "tf-serving:serviceDefaults"

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


def see_known(model: str, label: str, values: Values) -> None:
    """Looks whether the stack file has the model and the label. A model without any label may get its first.

    Args:
        model: whose label is to move.
        label: that clients ask by.
        values: the stack file.

    Raises:
        PromotionError: it has not, with what was probably meant.
    """
    every = values((MODELS,))
    names = [str(name) for name in every] if isinstance(every, Mapping) else []
    if values((MODELS, model)) is REMOVED:
        message = f"{MODELS}: there is no model {model!r} in the stack file."
        raise PromotionError(f"{message} {_instead(names, model)}")
    tables = [values((MODELS, model, "labels")), *(values(place) for place in _own(values, model, "labels").values())]
    labels = list(dict.fromkeys(str(each) for table in tables if isinstance(table, Mapping) for each in table))
    if labels and label not in labels:
        message = f"{shown_path((MODELS, model, 'labels'))}: there is no label {label!r} in the stack file."
        raise PromotionError(
            f"{message} {_instead(labels, label, 'name one with --label; a new label is added by an edit')}"
        )


def _instead(names: Sequence[str], meant: str, otherwise: str = "") -> str:
    fix = did_you_mean(meant, names) or otherwise
    return f"Allowed: {', '.join(names) or 'none'}." + (f" Fix: {fix}." if fix else "")


def kept_labels(model: str, label: str, values: Values) -> dict[str, Path]:
    """The services whose requests by a label do not move with the label of the model, and what in the file says so.

    Args:
        model: whose.
        label: that clients ask by.
        values: the stack file.
    """
    tables = _own(values, model, "labels")
    return {name: place if values((*place, label)) is REMOVED else (*place, label) for name, place in tables.items()}


def _own(values: Values, model: str, key: str) -> dict[str, Path]:
    """The services that say something of a model otherwise than the model does, and where."""
    services = values((SERVICES,))
    found: dict[str, Path] = {}
    for name in services if isinstance(services, Mapping) else ():
        # What a service says of its models is merged over the defaults, except over a list of them.
        for models in ((SERVICES, str(name), "models"), (DEFAULTS, "models")):
            if isinstance(values((*models, model, key)), Mapping):
                found.setdefault(str(name), (*models, model, key))
            elif not isinstance(values(models), Mapping) and values(models) is not REMOVED:
                break
    return found


def plan(
    model: str,
    to: int,
    label: str,
    values: Values,
    readers: Sequence[str],
    group: Group | None = None,
    also: Sequence[Path] = (),
) -> tuple[Step, ...]:
    """The steps of a promotion; none where the label is on that version already.

    Args:
        model: whose.
        to: the new version.
        label: that clients ask by.
        values: the stack file.
        readers: services that move with the labels of the model, which are judged where there is no group.
        group: try the version on a share of the requests first.
        also: labels of services' own that move with it (:func:`kept_labels`).

    Raises:
        PromotionError: the stack does not have what is asked for, or a member of the group would keep another version.
    """
    see_known(model, label, values)
    here = (MODELS, model, "labels", label)
    old = values(here)
    weights = _weights(group, values) if group is not None else {}
    if group is not None:
        _see_others_move(group, model, label, values)
    if old == to:
        return ()
    move = _changes(values, {here: to, **dict.fromkeys(also, to)})
    served = _served_everywhere(values, model, to, also)
    title = f"{model}: label {label} {_shown(old)} -> {to}"
    if group is None:
        return (Step(title, _changes(values, served) + move, tuple(readers)),)
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
    canary = _on_canary(values, group.canary, model, label, to)
    first = _changes(values, {**served, **canary, at(group.canary): begin, at(stable): 100 - rest - begin})
    steps = [Step(f"{group.canary}: {model} version {to} by label {label}", first)]
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


def _weights(group: Group, values: Values) -> Mapping[str, Any]:
    weights = values((TRAFFIC, group.name, "weights"))
    if not isinstance(weights, Mapping):
        every = values((TRAFFIC,))
        names = [str(name) for name in every] if isinstance(every, Mapping) else []
        message = f"{TRAFFIC}: there is no group {group.name!r} with weights in the stack file."
        raise PromotionError(f"{message} {_instead(names, group.name)}")
    if group.canary not in weights or len(weights) < 2:
        raise PromotionError(
            f"{TRAFFIC}.{group.name}: {group.canary!r} is no member beside others: {', '.join(weights)}"
        )
    return weights


def _see_others_move(group: Group, model: str, label: str, values: Values) -> None:
    """Whether every member but the canary follows the label of the model.

    Raises:
        PromotionError: one has labels of its own: it would get its requests back and go on with another version.
    """
    members = _weights(group, values)
    kept = kept_labels(model, label, values)
    problems = []
    for name in members:
        if name == group.canary or name not in kept:
            continue
        place = kept[name]
        now = values(place)
        what = f"label {label} is version {now} there" if place[-1] == label else f"there is no label {label}"
        table = shown_path(place[:-1] if place[-1] == label else place)
        common = (MODELS, model, "labels")
        fix = f"remove {table}" if isinstance(values(common), Mapping) else f"move {table} to {shown_path(common)}"
        problems.append(
            f"{shown_path(place)}: {what}, so {name} does not follow the label of {model}, and would go on with that "
            f"when it gets its requests back. Fix: {fix} and deploy it; only the canary may have labels of its own"
        )
    if problems:
        raise PromotionError("\n".join(problems))


def shown_path(path: Path) -> str:
    shown = path[0]
    for key in path[1:]:
        shown = join_path(shown, key)
    return shown


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


def _served_everywhere(values: Values, model: str, to: int, also: Sequence[Path]) -> dict[Path, Any]:
    """As :func:`_served`, for the model and for each service that moves and has a policy of its own for it."""
    found = _served(values, (MODELS, model), to)
    labels = _own(values, model, "labels")
    for name, place in _own(values, model, "policy").items():
        if name not in labels or any(path[:-1] == labels[name] for path in also):
            found |= _served(values, place[:-1], to)
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
