"""Which versions of a change have to pass a gate: those that requests move to.

By a label that moves, or without any: TensorFlow Serving answers requests that name neither label nor version by the
highest version it serves. A version that is only loaded, to be asked by its number, moves nobody.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from tfserving.model_config import Model, ModelServerConfig

Disk = Mapping[str, Iterable[int]]


@dataclass(frozen=True)
class Candidate:
    """A version that has to pass.

    Attributes:
        model: model name.
        version: its number.
        old: the version that answered before, to compare with; None where nothing did.
        labels: labels that move to it.
        unlabelled: whether requests without a label move to it, too.
        alone: the version before is not served beside it, so nothing can be compared.
    """

    model: str
    version: int
    old: int | None = None
    labels: tuple[str, ...] = ()
    unlabelled: bool = False
    alone: bool = False

    @property
    def beside(self) -> int | None:
        """The version before, where that is served beside it."""
        return None if self.alone else self.old

    def __str__(self) -> str:
        return f"{self.model} version {self.version}"

    @property
    def reason(self) -> str:
        """What moves to it: ``label stable and requests without a label``."""
        parts = [f"label{'s' * (len(self.labels) > 1)} {', '.join(self.labels)}"] if self.labels else []
        return " and ".join([*parts, *(["requests without a label"] if self.unlabelled else [])])


@dataclass(frozen=True)
class Which:
    """What a change demands.

    Attributes:
        candidates: versions that have to pass, by model and number.
        known: versions that requests go back to; they have answered before, by the record, and need not pass again.
    """

    candidates: tuple[Candidate, ...] = ()
    known: tuple[Candidate, ...] = ()


def candidates(
    before: ModelServerConfig | None,
    wanted: ModelServerConfig,
    gated: Mapping[str, str],
    on_disk: Disk,
    answered: Mapping[str, Collection[int]] | None = None,
) -> Which:
    """The versions that requests move to, of models with a gate.

    Args:
        before: what was served before the rollout began; None: nothing.
        wanted: what is to be served.
        gated: models with a gate, each with the label of the version to compare with; empty: the one that answered.
        on_disk: versions a server sees, by model.
        answered: versions that passed a gate before or answered when another one passed, by model.
    """
    must: list[Candidate] = []
    known: list[Candidate] = []
    for model in wanted.models:
        if model.name not in gated:
            continue
        was = before.get(model.name) if before else None
        done = set((answered or {}).get(model.name, ()))
        for each in _moves(was, model, gated[model.name], set(on_disk.get(model.name, ()))):
            back = each.old is not None and each.version < each.old and each.version in done
            (known if back else must).append(each)
    return Which(tuple(must), tuple(known))


def _moves(was: Model | None, model: Model, compared: str, disk: Collection[int]) -> list[Candidate]:
    served = was.policy.select({*disk, *was.policy.versions}) if was else ()
    wanted = model.policy.select(disk)
    old_labels = was.labels if was else {}
    highest, old_highest = max(wanted, default=None), max(served, default=None)
    moved: dict[int, list[str]] = {}
    for label, version in sorted(model.labels.items()):
        if old_labels.get(label) != version:
            moved.setdefault(version, []).append(label)
    if highest is not None and highest != old_highest:
        moved.setdefault(highest, [])
    found = []
    for version, labels in sorted(moved.items()):
        unlabelled = version == highest and highest != old_highest
        olds = [old_labels.get(compared), *(old_labels.get(label) for label in labels), old_highest]
        old = next((each for each in olds if each is not None and each != version and each in served), None)
        found.append(Candidate(model.name, version, old, tuple(labels), unlabelled))
    return found


def began_with(
    in_force: ModelServerConfig | None, before: ModelServerConfig | None, steps: Iterable[ModelServerConfig]
) -> ModelServerConfig | None:
    """What was served before the rollout began, of which this run may be the continuation.

    Args:
        in_force: the config in force now.
        before: what the state says was served before the update; None: nothing was.
        steps: what the file says after each step of a rollout from there.

    Returns:
        ``before`` where ``in_force`` is one of its steps, else ``in_force``.
    """
    return before if in_force is not None and in_force in list(steps) else in_force
