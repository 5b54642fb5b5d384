"""Tries versions on services by the gates of their models, and reads the files that gates name."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from provider.asking import AskedService, Fleet
from provider.resource import Context
from tfserving.contract.gates import GateReport, ModelGate, ServiceReport
from tfserving.errors import CloudError, RolloutError, ServiceError
from tfserving.gates import fit, golden, plan, report, spec
from tfserving.gates.golden import GoldenError, Record
from tfserving.gates.plan import Gates
from tfserving.gates.trial import ANSWER_SECONDS, Trial
from tfserving.gates.which import Candidate


class GateFailedError(RolloutError):
    """A version did not reach what its gate demands."""


class GateFiles:
    """The files of gates, as they were when the run began.

    Args:
        root: directory that their paths are relative to.
        gates: by model.
    """

    def __init__(self, root: Path, gates: Gates) -> None:
        self._root = root
        self._gates = gates
        self._read = functools.cache(self._records)

    def of(self, model: str) -> dict[str, tuple[Record, ...]]:
        """The records of a model's gate, by file.

        Raises:
            RolloutError: a file is gone, cannot be read or has other content than when the run began.
        """
        return {path: self._read(model, path) for path in self._gates[model].gate.files}

    def misfits(self, candidate: Candidate) -> list[str]:
        """Why the files do not fit a version, where its signature is at hand."""
        gate = self._gates[candidate.model]
        signatures = spec.known_of(gate).get(candidate.version)
        if signatures is None:
            return []
        return [
            problem
            for path, records in self.of(candidate.model).items()
            for problem in fit.problems(records, path, signatures, answers=path == gate.gate.golden)
        ]

    def _records(self, model: str, path: str) -> tuple[Record, ...]:
        gate = self._gates[model]
        try:
            data = (self._root / path).read_bytes()
            if path in gate.files and golden.digest(data) != gate.files[path].digest:
                raise RolloutError(f"gate of {model}: {path} has changed since the run began. Fix: run it again")
            return golden.read(data, path, expected=path == gate.gate.golden)
        except OSError as error:
            raise RolloutError(f"gate of {model}: {path} cannot be read: {error.strerror}") from error
        except GoldenError as error:
            raise RolloutError("\n".join([f"gate of {model}:", *(f"  {line}" for line in error.problems)])) from error


def refuse(ctx: Context, gates: Gates, candidates: Sequence[Candidate]) -> None:
    """Refuses in a preview what no gate would let pass.

    Raises:
        RolloutError: everything that is known already.
    """
    files = GateFiles(ctx.root, gates)
    problems = [
        f"{each}: {problem}"
        for each in candidates
        for problem in [*plan.known_problems(each, gates), *files.misfits(each)]
    ]
    if problems:
        lines = ["this change cannot pass its gates", *(f"  - {problem}" for problem in problems)]
        raise RolloutError("\n".join(lines))


class Trials:
    """Tries versions on services.

    Args:
        ctx: the operation.
        fleet: how services are asked.
        gates: by model.
        services: all those on which a version is tried.
    """

    def __init__(self, ctx: Context, fleet: Fleet, gates: Gates, services: Iterable[AskedService]) -> None:
        self._ctx = ctx
        self._fleet = fleet
        self._gates = gates
        self._services = tuple(services)
        self._files = GateFiles(ctx.root, gates)

    def run(self, candidate: Candidate) -> GateReport:
        """Try one version on every service, and tell what came of it.

        Raises:
            RolloutError: a file of the gate cannot be used.
        """
        gate = self._gates[candidate.model]
        self._files.of(candidate.model)  # before anything is sent
        found = {}
        for service in self._services:
            self._ctx.status(f"gate: {candidate} on {service.name}")
            found[service.name] = self._try(service, gate, candidate)
        digests = {path: each.digest for path, each in gate.files.items()}
        at = datetime.now(UTC).isoformat(timespec="seconds")
        result = report.report(candidate, found, digests, at)
        for line in result.lines():
            self._ctx.info(line)
        return result

    def _try(self, service: AskedService, gate: ModelGate, candidate: Candidate) -> ServiceReport:
        try:
            connections = self._fleet.connections(service, ANSWER_SECONDS)
            records = self._files.of(candidate.model)
            trial = Trial(gate.gate, records, connections, candidate.model, self._ctx.check, self._ctx.sleep)
            return trial.run(candidate)
        except (ServiceError, CloudError) as error:
            return ServiceReport(problems=(f"it does not answer: {error}",))


def failure(found: GateReport) -> str:
    """What a version did not reach, by service."""
    lines = [f"{found.model} version {found.version} did not pass its gate:"]
    for name, each in sorted(found.services.items()):
        lines += [f"  service {name}: {problem}" for problem in each.problems]
    return "\n".join(lines)
