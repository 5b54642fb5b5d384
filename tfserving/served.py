"""What services are to serve by the contract of a rollout, what comes next, and in which steps: without asking anybody.

A preview says so from the state, and so does whoever reads a preview: both have the inputs, and what was found before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from tfserving import model_config, pinning, rollout
from tfserving.contract.parts import ServedVersions
from tfserving.contract.serving import ConfiguredService, ServedConfigInputs, ServedConfigOutputs
from tfserving.errors import RolloutError
from tfserving.gates import which
from tfserving.gates.plan import GatePlan
from tfserving.gates.plan import plan as gate_plan
from tfserving.model_config import ModelServerConfig
from tfserving.rollout import Step

Versions = dict[str, set[int]]
"""Version numbers by model."""

_REMEMBERED = 10
"""So many versions back a label can go."""

Served = Mapping[str, ServedVersions]
"""What a service serves, by model."""


@dataclass(frozen=True)
class Wanted:
    """What a rollout is to come to.

    Attributes:
        models: as declared.
        file: as written: ``latest`` is spelt out for models with labels (:func:`tfserving.rollout.pin_labelled`), and
            every policy in a stack with several files, where this one does not decide when files of a version go.
        published: version numbers by model.
        services: those that read the file, by name.
    """

    models: ModelServerConfig
    file: ModelServerConfig
    published: Versions
    services: Mapping[str, ConfiguredService]

    @classmethod
    def of(cls, inputs: ServedConfigInputs) -> Wanted:
        """What the inputs of a rollout say."""
        published = versions_of(inputs.published)
        services = {name: each for name, each in sorted(inputs.services.items()) if each.reads}
        spell = rollout.spelt_out if inputs.names_versions else rollout.pin_labelled
        return cls(inputs.models, spell(inputs.models, published), published, services)

    def expected(self) -> dict[str, ServedVersions]:
        """What a service serves when it serves this."""
        return {
            model.name: ServedVersions(
                versions=model.policy.select(self.published.get(model.name, ())), labels=dict(model.labels)
            )
            for model in self.file.models
        }

    def expected_by_service(self) -> dict[str, Served]:
        """:meth:`expected` for every service that can be asked."""
        expected = self.expected()
        return {name: expected for name, service in self.services.items() if service.reachable}

    def unproven(self) -> tuple[str, ...]:
        """Services that cannot be asked."""
        return tuple(name for name, service in self.services.items() if not service.reachable)

    def results(
        self,
        served: Mapping[str, Served],
        file: ModelServerConfig | None,
        obsolete: Versions,
        unasked: Mapping[str, str] | None = None,
    ) -> ServedConfigOutputs:
        """What it came to.

        Args:
            served: by service, what it serves.
            file: what the model config file says; None where nobody can read it.
            obsolete: versions whose files are still to be removed, by model.
            unasked: services that run and did not answer, and why.
        """
        return ServedConfigOutputs(
            served=served,
            file=file or ModelServerConfig(),
            unproven=self.unproven(),
            obsolete={name: tuple(sorted(versions)) for name, versions in sorted(obsolete.items())},
            unasked=unasked or None,
        )


def previous(
    wanted: ServedConfigInputs, before: ServedConfigInputs | None, found: ServedConfigOutputs | None
) -> dict[str, dict[str, tuple[int, ...]]]:
    """The way back: by model and label, the versions that the label named before, the last one last.

    A label that goes back to the last of them leaves no trace of where it was meanwhile: that version was given up.

    Args:
        wanted: inputs of the rollout.
        before: those of the last update; None for a rollout that is new.
        found: outputs of the last update; a label that does not move keeps what they say.
    """
    known = (found.previous if found is not None else None) or {}
    labels = {model.name: model.labels for model in before.models.models} if before is not None else {}
    back: dict[str, dict[str, tuple[int, ...]]] = {}
    for model in wanted.models.models:
        for label, version in model.labels.items():
            old, way = labels.get(model.name, {}).get(label), known.get(model.name, {}).get(label, ())
            if old is not None and old != version:
                way = way[:-1] if way[-1:] == (version,) else (*way, old)[-_REMEMBERED:]
            if way:
                back.setdefault(model.name, {})[label] = way
    return back


@dataclass(frozen=True)
class Planned:
    """What an update does, as far as the state tells.

    Attributes:
        changes: of models, policies and labels.
        pin: what the publication of new versions spells out in the file first; often nothing.
        unlabelled: models whose requests without label and version move.
        steps: in which steps.
        gates: what a version has to pass before requests move to it, where models have gates.
    """

    changes: tuple[str, ...]
    pin: str = ""
    unlabelled: tuple[str, ...] = ()
    steps: tuple[Step, ...] = ()
    gates: GatePlan | None = None

    @property
    def step_lines(self) -> list[str]:
        """A line for each step."""
        return rollout.served_models_rollout_summary(self.steps)


def plan(
    wanted: ServedConfigInputs,
    before: ServedConfigInputs | None,
    found: ServedConfigOutputs | None,
    taken_over: ModelServerConfig | None = None,
) -> Planned:
    """What a rollout will do.

    Args:
        wanted: its inputs.
        before: those of the last update; None for a rollout that is new.
        found: what there is now.
        taken_over: for a rollout that is new, what the file says that services read already.

    Raises:
        RolloutError: no server could start with what is wanted, or change to it while it runs.
    """
    then = Wanted.of(wanted)
    if before is None or found is None:
        start = taken_over or ModelServerConfig()
        # What latest and all select in a model of another hand is not known here.
        named = {model.name: model.policy.versions for model in start.models if model.policy.versions}
        on_disk = union(then.published, named)
        target = then.file if taken_over is None else spelt_out(then.file, then.published, on_disk)
        steps = [] if taken_over is None else rollout.plan(start, target, then.published, on_disk)
        gates = _gates(wanted, taken_over, target, on_disk, ServedConfigOutputs.read({}))
        gated = rollout.with_gate(steps, taken_over or target, gates.tried, gates.summary) if gates else steps
        return Planned(tuple(model_config.changes(start, then.models)), steps=tuple(gated), gates=gates)
    now = Wanted.of(before)
    on_disk = union(then.published, now.published, versions_of(found.obsolete))
    in_force = _in_force(now, found, on_disk)
    serve = {model.name: model.policy.select(on_disk.get(model.name, ())) for model in in_force.models}
    target = spelt_out(then.file, then.published, on_disk)
    steps = rollout.plan(in_force, target, then.published, on_disk)
    base = began_with(in_force, state_before(before, found, on_disk), target, on_disk)
    gates = _gates(wanted, base, target, on_disk, found)
    return Planned(
        tuple(model_config.changes(now.models, then.models)),
        _pin(then, now, found),
        tuple(pinning.unlabelled(serve, {name: each.versions for name, each in then.expected().items()})),
        tuple(rollout.with_gate(steps, in_force, gates.tried, gates.summary) if gates else steps),
        gates,
    )


def _gates(
    wanted: ServedConfigInputs,
    base: ModelServerConfig | None,
    target: ModelServerConfig,
    on_disk: Versions,
    found: ServedConfigOutputs,
) -> GatePlan | None:
    """The gates of a rollout; None where no model has one and none is on record."""
    if not wanted.gates and not found.gate_reports:
        return None
    services = (name for name, each in wanted.services.items() if each.reads and each.poll_seconds > 0)
    return gate_plan(wanted.gates or {}, base, target, on_disk, services, found.gate_reports or {})


def state_before(before: ServedConfigInputs, found: ServedConfigOutputs, on_disk: Versions) -> ModelServerConfig | None:
    """What was served before an update, by the state; of one that failed at a gate, what was served before that.

    None: nothing was.
    """
    if found.return_to is not None:
        return found.return_to if found.return_to.models else None
    if not before.models.models:
        return None
    # By what was on disk then: a policy that goes by the files would take the new versions for old ones.
    return spelt_out(Wanted.of(before).file, versions_of(before.published), on_disk)


def began_with(
    in_force: ModelServerConfig | None,
    before: ModelServerConfig | None,
    target: ModelServerConfig,
    on_disk: Versions,
) -> ModelServerConfig | None:
    """What was served before the rollout began: it may be one that an earlier run has not brought to its end.

    Args:
        in_force: the config in force now.
        before: what the state says was served; None: nothing was.
        target: what the rollout is to come to.
        on_disk: versions a server sees, by model.
    """
    try:
        steps = [step.config for step in rollout.plan(before, target, on_disk, on_disk)]
    except RolloutError:
        return in_force
    return which.began_with(in_force, before, steps)


def spelt_out(config: ModelServerConfig, published: Versions, on_disk: Versions) -> ModelServerConfig:
    """``config`` with the versions named where a policy would still select one whose files are only to be removed."""
    models = []
    for model in config.models:
        versions = model.policy.select(published.get(model.name, ()))
        if versions and model.policy.select(on_disk.get(model.name, ())) != versions:
            model = replace(model, policy=model_config.VersionPolicy.specific(versions))
        models.append(model)
    return ModelServerConfig(tuple(models))


def _in_force(before: Wanted, found: ServedConfigOutputs, on_disk: Versions) -> ModelServerConfig:
    """The config in force as far as the state tells."""
    file = found.file if found.file.models else before.file
    served = next((models for models in found.served.values() if models), None)
    if served is None:
        return file
    return rollout.observed(
        file,
        {name: model.versions for name, model in served.items()},
        {
            name: {label: version for label, version in model.labels.items() if isinstance(version, int)}
            for name, model in served.items()
        },
        on_disk,
    )


def _pin(wanted: Wanted, before: Wanted, found: ServedConfigOutputs) -> str:
    file = found.file if found.file.models else before.file
    visible = union(before.published, versions_of(found.obsolete))
    coming = {
        name: pinning.Coming(frozenset(visible.get(name, ())), frozenset(versions - visible.get(name, set())))
        for name, versions in wanted.published.items()
        if file.get(name) is not None
    }
    if not any(service.poll_seconds > 0 for service in before.services.values()):
        coming = {
            name: each for name, each in coming.items() if pinning.harms(file.get(name), wanted.file.get(name), each)
        }
    return pinning.announcement(file, pinning.pinned(file, coming))


def versions_of(published: Mapping[str, Iterable[int]]) -> Versions:
    """Version numbers as sets."""
    return {name: set(versions) for name, versions in published.items()}


def union(*parts: Mapping[str, Iterable[int]]) -> Versions:
    """All version numbers of several, by model."""
    found: Versions = {}
    for part in parts:
        for name, versions in part.items():
            found.setdefault(name, set()).update(versions)
    return found
