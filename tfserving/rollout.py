"""Plans how to get a running TensorFlow Serving from one model config to another without dropping a request.

TensorFlow Serving checks the labels of a new config before it loads anything, and refuses the whole config when one
label moves to a version that is not AVAILABLE at that moment. So one write that promotes a label to a version the same
write adds is refused on every poll, for ever. The plan therefore has up to three writes, each acceptable to the server
when it comes:

1. *widen*: everything served now and everything wanted, with the labels as they are;
2. *move*: the wanted labels, once every version they name is AVAILABLE;
3. *narrow*: exactly what is wanted, once every label is answered by its wanted version.

Writes that would change nothing are left out, so moving a label between served versions is one write. A plan depends
only on its arguments: after an interruption, planning from the config in force gives the steps that are left.

Sources: TensorFlow Serving's ``server_core.cc`` (order of checks, label rules), ``availability_preserving_policy.cc``.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from tfserving.errors import RolloutError
from tfserving.model_config import Model, ModelServerConfig, VersionPolicy, changes, validate

StepKind = Literal["widen", "gate", "move", "narrow", "replace"]
Versions = Mapping[str, tuple[int, ...]]

_PHRASES = 12


@dataclass(frozen=True)
class Step:
    """One write of the config file, and what to wait for on every instance of every service that reads it.

    Attributes:
        kind: ``widen``, ``move`` or ``narrow``; ``gate``, which writes nothing, for versions that are tried before
            requests move to them; ``replace`` for services that read the file at start only.
        config: what the file says.
        needs_available: versions that must be AVAILABLE before the write: else the server refuses it, or nothing wanted
            would be there to take over from what it drops. They are after the steps before; after an interruption the
            service may not have come that far.
        wait_available: versions that must become AVAILABLE after the write.
        wait_labels: the version that must answer requests by each label.
        wait_labels_gone: labels that must stop answering.
        wait_gone: versions that must stop being AVAILABLE; an empty tuple means every version of the model.
        summary: what changes and what is waited for, one phrase per model.
    """

    kind: StepKind
    config: ModelServerConfig
    wait_available: Versions = field(default_factory=dict)
    wait_labels: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    wait_gone: Versions = field(default_factory=dict)
    summary: tuple[str, ...] = ()
    needs_available: Versions = field(default_factory=dict)
    wait_labels_gone: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def said(self) -> str:
        """The summary on one line that can be read: of many phrases the first ones."""
        more = len(self.summary) - _PHRASES
        return "; ".join([*self.summary[:_PHRASES], *([f"and {more} more"] if more > 0 else [])])


def plan(
    served: ModelServerConfig | None,
    wanted: ModelServerConfig,
    published: Mapping[str, Iterable[int]],
    on_disk: Mapping[str, Iterable[int]] | None = None,
) -> list[Step]:
    """The writes that lead from ``served`` to ``wanted``, in order; none when the two say the same.

    Args:
        served: the config in force: the last one the server accepted. None when there is none yet.
        wanted: what is to be served.
        published: version numbers by model that belong to ``wanted``.
        on_disk: version numbers by model the server sees during the rollout: ``published``, and those whose files are
            removed only afterwards. For models it lacks: ``published`` and whatever ``served`` names.

    Raises:
        RolloutError: TensorFlow Serving cannot get there live, or could not serve ``wanted`` at all; names every reason
            and what to do instead.
    """
    before = served or ModelServerConfig()
    if before == wanted:
        return []
    found = {name: _Change(before.get(name), wanted.get(name), name, published, on_disk) for name in before.names}
    for name in wanted.names:
        found.setdefault(name, _Change(None, wanted.get(name), name, published, on_disk))
    all_changes = [found[name] for name in sorted(found)]
    reasons = [str(problem) for problem in validate(wanted, published, "models")]
    if not reasons:
        reasons = [reason for change in all_changes for reason in change.refusals()]
    if reasons:
        raise RolloutError("\n".join(["this change cannot be rolled out", *(f"  - {reason}" for reason in reasons)]))

    widened = moved = before
    if any(change.loads for change in all_changes):
        widened = moved = _config(change.widened() for change in all_changes)
    if any(_labels(widened, name) != _labels(wanted, name) for name in wanted.names):
        moved = _config(change.moved() for change in all_changes)
    steps = []
    if widened != before:
        steps.append(_widen(before, widened, all_changes))
    if moved != widened:
        steps.append(_move(widened, moved, all_changes))
    if wanted != moved:
        steps.append(_narrow(moved, wanted, all_changes))
    return steps


def with_gate(
    steps: Sequence[Step], in_force: ModelServerConfig | None, tried: Versions, summary: Sequence[str]
) -> list[Step]:
    """``steps`` with a gate: after everything is loaded, and before any label moves or version goes.

    Args:
        steps: of :func:`plan`.
        in_force: the config in force before the first of them.
        tried: by model: versions that are tried, and those they are compared with; none: there is no gate.
        summary: what is tried, one phrase per model.
    """
    if not tried:
        return list(steps)
    widened = 1 if steps and steps[0].kind == "widen" else 0
    config = steps[0].config if widened else in_force or ModelServerConfig()
    gate = Step("gate", config, needs_available=tried, summary=tuple(summary))
    return [*steps[:widened], gate, *steps[widened:]]


def replacement(wanted: ModelServerConfig, published: Mapping[str, Iterable[int]]) -> Step:
    """The one write for services that read the file only when they start, and so are restarted one by one.

    Raises:
        RolloutError: the servers would hang at start, or not serve what is wanted.
    """
    problems = validate(wanted, published, "models")
    if problems:
        raise RolloutError("\n".join(["this config cannot be served", *(f"  - {problem}" for problem in problems)]))
    available = {model.name: model.policy.select(published[model.name]) for model in wanted.models}
    return Step(
        "replace",
        wanted,
        wait_available=available,
        wait_labels={model.name: model.labels for model in wanted.models if model.labels},
        summary=tuple(f"{name} serves {_listed(versions)}" for name, versions in available.items()),
    )


def pin_labelled(config: ModelServerConfig, published: Mapping[str, Iterable[int]]) -> ModelServerConfig:
    """``config`` with ``latest`` written out as specific versions for models that have labels.

    Under ``latest``, publishing a version makes the server drop the lowest one by itself, whatever labels name it;
    requests by such a label then fail until the label is moved. Written out, nothing is dropped before the rollout says
    so.
    """
    return ModelServerConfig(
        tuple(
            replace(model, policy=VersionPolicy.specific(model.policy.select(published.get(model.name, ()))))
            if model.labels and model.policy.kind == "latest"
            else model
            for model in config.models
        )
    )


def spelt_out(config: ModelServerConfig, published: Mapping[str, Iterable[int]]) -> ModelServerConfig:
    """``config`` with the versions named that each policy selects.

    For pods whose config is part of them (``rollout: restart``): what they serve changes with the pods, never by itself
    when files appear. A model whose versions are not known stays as it is.
    """
    models = []
    for model in config.models:
        versions = model.policy.select(published.get(model.name, ()))
        models.append(replace(model, policy=VersionPolicy.specific(versions)) if versions else model)
    return ModelServerConfig(tuple(models))


def observed(
    file: ModelServerConfig,
    available: Mapping[str, Iterable[int]],
    labels: Mapping[str, Mapping[str, int]],
    on_disk: Mapping[str, Iterable[int]],
) -> ModelServerConfig:
    """The config in force, told from what a service answers: to plan from when that service never took up ``file``.

    A model that answers as ``file`` says stays as ``file`` has it. Another one is described by what it serves, and a
    model that serves nothing is left out, as if it were new.

    Args:
        file: what the config file says.
        available: AVAILABLE versions by model.
        labels: the version that answers, by model and label; labels that do not answer are left out.
        on_disk: version numbers by model the server sees.
    """
    models = []
    for model in file.models:
        versions = tuple(sorted(set(available.get(model.name, ()))))
        answered = dict(labels.get(model.name, {}))
        if not versions:
            continue
        if model.policy.select(on_disk.get(model.name, ())) != versions:
            model = replace(model, policy=VersionPolicy.specific(versions))
        models.append(replace(model, labels=answered))
    return ModelServerConfig(tuple(models))


def served_models_rollout_summary(steps: Sequence[Step]) -> list[str]:
    """One line per step for a preview: ``step 1 of 2, widen: modelB serves 1, 2, 3; wait until 3 is AVAILABLE``."""
    return [f"step {number} of {len(steps)}, {step.kind}: {step.said}" for number, step in enumerate(steps, start=1)]


def sample(names: Iterable[str], change: str, size: int) -> frozenset[str]:
    """A few of many models, the same ones for the same change and others for another.

    Args:
        names: the models.
        change: what is changed, as a text.
        size: how many.
    """

    def place(name: str) -> bytes:
        return hashlib.sha256(f"{change}\0{name}".encode()).digest()

    return frozenset(heapq.nsmallest(size, names, key=place))


# ---- one model -----------------------------------------------------------------------------------------------------


class _Change:
    """What happens to one model.

    Attributes:
        name: the model's name.
        old: the model as served; None when new.
        new: the model as wanted; None when it is removed.
        old_versions: served now.
        new_versions: served at the end.
    """

    def __init__(
        self,
        old: Model | None,
        new: Model | None,
        name: str,
        published: Mapping[str, Iterable[int]],
        on_disk: Mapping[str, Iterable[int]] | None,
    ) -> None:
        self.name, self.old, self.new = name, old, new
        self.published = set(published.get(name, ()))
        seen = on_disk.get(name) if on_disk is not None else None
        named = {*old.policy.versions, *old.labels.values()} if old else set()
        self.disk = self.published | (named if seen is None else set(seen))
        # Whether the model's files are known to be gone already.
        self.deleted = seen is not None and not self.disk
        self.old_versions = old.policy.select(self.disk) if old else ()
        self.new_versions = new.policy.select(self.disk) if new else ()

    @property
    def relocated(self) -> bool:
        """Whether the model is to be served from another directory."""
        return self.old is not None and self.new is not None and self.old.base_path != self.new.base_path

    @property
    def loads(self) -> bool:
        """Whether the server has something to load that it does not serve yet."""
        return self.relocated or not set(self.new_versions) <= set(self.old_versions)

    def refusals(self) -> Iterable[str]:
        """Why TensorFlow Serving cannot make this change while it runs."""
        old, new = self.old, self.new
        if new is None:
            return
        unserved = {label: version for label, version in new.labels.items() if version not in self.new_versions}
        for label, version in unserved.items():
            yield (
                f"{self.name}: label {label} names version {version}, which policy {new.policy} does not serve while "
                f"versions {_listed(sorted(self.disk))} are on disk. Name the versions to serve: "
                f"{{specific: {sorted({*self.new_versions, version})}}}"
            )
        if old is None:
            return
        again = "remove the model in one update and add it in the next, or add it under another name"
        if old.platform != new.platform:
            # "Illegal to change a model's platform."
            yield (
                f"{self.name}: the platform of a served model cannot change "
                f"({old.platform or 'unset'} -> {new.platform or 'unset'}); {again}"
            )
        if not self.relocated:
            return
        path = f"{self.name}: base path {old.base_path} -> {new.base_path}"
        # What latest and all select in the old directory is not known here: it may be any of the same numbers.
        fresh = old.policy.kind == "specific" and not set(old.policy.versions) & set(self.new_versions)
        kept = sorted(old.labels.keys() & new.labels.keys())
        if not fresh:
            numbers = "publish under new version numbers, or " if old.policy.kind == "specific" else ""
            yield (
                f"{path}: TensorFlow Serving tells versions apart by number alone and would go on serving from the old "
                f"directory what it serves of {_listed(self.new_versions)}; {numbers}{again}"
            )
        elif kept:
            yield f"{path}: nothing would answer labels {_listed(kept)} between the two directories; {again}"

    def widened(self) -> Model | None:
        """As it is while versions are loaded: nothing dropped, labels untouched."""
        old, new = self.old, self.new
        if old is None:
            return new and replace(new, labels={})
        if new is None:
            # A directory that is gone would keep the server from looking at any other.
            return None if self.deleted else replace(old, labels=self._answered(old))
        if self.relocated:
            # One entry has one directory. Without labels that is safe: the server loads the new, then drops the old.
            return replace(new, labels={})
        if set(self.new_versions) <= set(self.old_versions):
            policy = old.policy
        elif set(self.old_versions) <= set(self.new_versions):
            policy = new.policy
        else:
            policy = VersionPolicy.specific({*self.old_versions, *self.new_versions})
        return replace(old, policy=policy, labels=self._answered(old))

    def _answered(self, old: Model) -> dict[str, int]:
        # A label that nothing answers is no loss, and a server without the flag for such labels refuses every write.
        return {label: version for label, version in old.labels.items() if version in self.old_versions}

    def moved(self) -> Model | None:
        """As it is once the wanted labels are set: versions still as widened, unless that is what is wanted anyway."""
        model = self.widened()
        if model is None or self.new is None:
            return model
        if model.policy.select(self.disk) == self.new_versions:
            return self.new
        return replace(model, labels=self.new.labels)

    def needed(self) -> tuple[int, ...]:
        return tuple(version for version in self.new_versions if version in self.published)

    def dropped(self, before: Model) -> tuple[int, ...]:
        return tuple(version for version in before.policy.select(self.disk) if version not in self.new_versions)


# ---- the steps -----------------------------------------------------------------------------------------------------


def _config(models: Iterable[Model | None]) -> ModelServerConfig:
    return ModelServerConfig(tuple(model for model in models if model is not None))


def _labels(config: ModelServerConfig, name: str) -> Mapping[str, int]:
    model = config.get(name)
    return model.labels if model else {}


def _widen(before: ModelServerConfig, after: ModelServerConfig, all_changes: Sequence[_Change]) -> Step:
    available: dict[str, tuple[int, ...]] = {}
    gone: dict[str, tuple[int, ...]] = {}
    summary = []
    for change in all_changes:
        was, now = before.get(change.name), after.get(change.name)
        if was == now:
            continue
        if now is None:
            summary.append(f"{change.name} is removed: its directory is gone")
            continue
        if change.new is not None:
            available[change.name] = change.needed()
        versions = now.policy.select(change.disk)
        phrase = f"{change.name} serves {_listed(versions)}"
        missing = [version for version in versions if version not in change.old_versions]
        if change.relocated:
            gone[change.name] = was.policy.versions if was else ()
            phrase += f" from {now.base_path}"
        lost = sorted(was.labels.keys() - now.labels.keys()) if was else []
        if lost:
            phrase += f"; label{'s' if len(lost) > 1 else ''} {_listed(lost)}, which nothing answers, removed"
        if missing:
            phrase += f"; wait until {_listed(missing)} {_is(missing)} AVAILABLE"
        summary.append(phrase)
    return Step("widen", after, wait_available=available, wait_gone=gone, summary=tuple(summary))


def _move(before: ModelServerConfig, after: ModelServerConfig, all_changes: Sequence[_Change]) -> Step:
    labels: dict[str, Mapping[str, int]] = {}
    labels_gone: dict[str, tuple[str, ...]] = {}
    for change in all_changes:
        was, now = _labels(before, change.name), _labels(after, change.name)
        if was == now:
            continue
        if now:
            labels[change.name] = now
        removed = tuple(sorted(was.keys() - now.keys()))
        if removed:
            labels_gone[change.name] = removed
    return Step(
        "move",
        after,
        wait_labels=labels,
        summary=tuple(changes(before, after)),
        needs_available=_needed(before, after, all_changes),
        wait_labels_gone=labels_gone,
    )


def _narrow(before: ModelServerConfig, after: ModelServerConfig, all_changes: Sequence[_Change]) -> Step:
    gone: dict[str, tuple[int, ...]] = {}
    summary = []
    for change in all_changes:
        was, now = before.get(change.name), after.get(change.name)
        if was is None or was == now:
            continue
        dropped = change.dropped(was)
        if now is None:
            gone[change.name] = dropped
            summary.append(f"{change.name} is removed")
        elif dropped:
            gone[change.name] = dropped
            waiting = f"wait until {_listed(dropped)} {_is(dropped)} gone"
            summary.append(f"{change.name} serves {_listed(change.new_versions)}; {waiting}")
        else:
            summary.append(f"{change.name}: policy {was.policy} -> {now.policy}, which serves the same versions now")
    return Step(
        "narrow",
        after,
        wait_gone=gone,
        summary=tuple(summary),
        needs_available=_needed(before, after, all_changes),
    )


def _needed(before: ModelServerConfig, after: ModelServerConfig, all_changes: Sequence[_Change]) -> Versions:
    return {
        change.name: change.needed()
        for change in all_changes
        if change.new is not None and before.get(change.name) != after.get(change.name)
    }


def _is(items: Collection[object]) -> str:
    return "is" if len(items) == 1 else "are"


def _listed(items: Collection[object]) -> str:
    return ", ".join(map(str, items)) or "nothing"
