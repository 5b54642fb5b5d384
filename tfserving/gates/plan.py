"""What the gates of a change will be, as far as inputs and state tell: for previews, and for the rollout itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from tfserving.contract.gates import ModelGate, SignatureRule
from tfserving.contract.kinds import Version
from tfserving.contract.serving import ServedModelInputs, ServedModelOutputs
from tfserving.gates import report, signatures, spec
from tfserving.gates.report import Reports
from tfserving.gates.which import Candidate, Disk, Which, candidates
from tfserving.model_config import Model, ModelServerConfig, VersionPolicy

Gates = Mapping[str, ModelGate]
"""By model."""


@dataclass(frozen=True)
class GatePlan:
    """The gates of one change.

    Attributes:
        gates: of the models.
        which: versions that have to pass, and versions that answered before.
        services: names of the services on which they are tried.
        reports: what came of gates before.
    """

    gates: Gates
    which: Which
    services: tuple[str, ...]
    reports: Reports

    @property
    def tried(self) -> dict[str, tuple[int, ...]]:
        """By model: versions that are tried, and those they are compared with."""
        found: dict[str, set[int]] = {}
        for each in self.which.candidates:
            found.setdefault(each.model, set()).update({each.version, each.version if each.old is None else each.old})
        return {model: tuple(sorted(versions)) for model, versions in found.items()}

    @property
    def summary(self) -> list[str]:
        """What is tried and what it has to reach, one phrase for each version."""
        return [phrase(each, self.gates[each.model], self.services) for each in self.which.candidates]

    @property
    def notes(self) -> list[str]:
        """What else is worth knowing: versions that requests go back to, and what came of the last gates."""
        back = [f"{each}: {_goes_back(each)} to it without a gate: it answered before" for each in self.which.known]
        return [*back, *evidence(self.reports)]

    @property
    def lines(self) -> list[str]:
        """What is tried, and :attr:`notes`, where a gate is no step of a rollout."""
        return [*(f"gate: {phrase}" for phrase in self.summary), *self.notes]


def plan(
    gates: Gates,
    before: ModelServerConfig | None,
    wanted: ModelServerConfig,
    on_disk: Disk,
    services: Iterable[str],
    reports: Reports,
) -> GatePlan:
    """The gates of a change.

    Args:
        gates: by model.
        before: what was served before the rollout began; None: nothing.
        wanted: what is to be served.
        on_disk: versions a server sees, by model.
        services: names of those on which versions are tried.
        reports: what came of gates before.
    """
    compared = {name: each.gate.agreement.with_ if each.gate.agreement else "" for name, each in gates.items()}
    which = candidates(before, wanted, compared, on_disk, report.answered(reports))
    return GatePlan(gates, which, tuple(sorted(services)), reports)


def phrase(candidate: Candidate, gate: ModelGate, services: Sequence[str]) -> str:
    """``modelB version 2 for label stable, on multi_http: 20 records of ...; compared with version 1``."""
    compared = (
        "nothing to compare with: no version before it is served"
        if candidate.beside is None
        else f"compared with version {candidate.beside}"
    )
    reason = f" for {candidate.reason}" if candidate.reason else ""
    return f"{candidate}{reason}, on {', '.join(services)}: {'; '.join([*spec.demands(gate), compared])}"


def _goes_back(candidate: Candidate) -> str:
    alone = len(candidate.labels) == 1 and not candidate.unlabelled
    return f"{candidate.reason} {'goes' if alone else 'go'} back"


def evidence(reports: Reports) -> list[str]:
    """What came of the last gate of each model, a line for each service."""
    return [f"last gate, {each.at}: {line}" for each in report.newest(report.all_of(reports)) for line in each.lines()]


def known_problems(candidate: Candidate, gates: Gates) -> list[str]:
    """Why a version will not pass, as far as the signatures at hand tell."""
    gate = gates[candidate.model]
    known = spec.known_of(gate)
    old, new = (known.get(version) if version is not None else None for version in (candidate.old, candidate.version))
    if gate.gate.signatures != SignatureRule.COMPATIBLE or old is None or new is None:
        return []
    lines = signatures.incompatibilities(old, new)
    return [f"clients of version {candidate.old} cannot go on: {line}" for line in lines]


# ---- services of one model -----------------------------------------------------------------------------------------


def of_one_model(inputs: ServedModelInputs, before: ServedModelInputs, found: ServedModelOutputs) -> GatePlan:
    """The gate of a service of one model: of a version that answers then and did not before.

    Such a service drops the version before when the new one is AVAILABLE, so there is none to compare with.

    Args:
        inputs: those of the update.
        before: those of the last one.
        found: what there is now.
    """
    planned = plan(
        {inputs.model: inputs.gate} if inputs.gate else {},
        _config(inputs.model, versions_before(before, found)),
        _config(inputs.model, inputs.versions),
        {inputs.model: inputs.versions},
        [inputs.service.name],
        found.gate_reports or {},
    )
    alone = tuple(replace(each, alone=True) for each in planned.which.candidates)
    return replace(planned, which=replace(planned.which, candidates=alone))


def versions_before(before: ServedModelInputs, found: ServedModelOutputs) -> tuple[Version, ...]:
    """The versions before an update; of one that failed at its gate, those before that."""
    return found.return_to if found.return_to is not None else before.versions


def _config(model: str, versions: Iterable[int]) -> ModelServerConfig:
    return ModelServerConfig((Model(model, f"/models/{model}", policy=VersionPolicy.specific(versions)),))
