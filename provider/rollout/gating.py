"""The gates of one rollout: what is tried, what came of it, and where the rollout goes back to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime

from provider.asking import AskedService, Fleet
from provider.gates import GateFailedError, Trials, failure
from provider.resource import Context
from tfserving.config_notes import Tried
from tfserving.contract.gates import GateReport
from tfserving.contract.serving import ServedConfigInputs, ServedConfigOutputs
from tfserving.gates import plan, report
from tfserving.gates.plan import GatePlan
from tfserving.gates.report import Reports
from tfserving.gates.which import Candidate
from tfserving.model_config import ModelServerConfig
from tfserving.served import Versions


class Gating:
    """State of the gates of one rollout.

    Args:
        ctx: the operation.
        inputs: those of the rollout.
        found: the outputs of the last update.
        fleet: how services are asked.
        services: those on which versions are tried.
    """

    def __init__(
        self,
        ctx: Context,
        inputs: ServedConfigInputs,
        found: ServedConfigOutputs,
        fleet: Fleet,
        services: Iterable[AskedService],
    ) -> None:
        self._gates = inputs.gates or {}
        self._services = tuple(services)
        self._trials = Trials(ctx, fleet, self._gates, self._services)
        self._reports: Reports = found.gate_reports or {}
        self._return_to = found.return_to
        self.told: tuple[GateReport, ...] = ()  # what the model config file is to say of this run's gates

    def plan(
        self,
        base: ModelServerConfig | None,
        target: ModelServerConfig,
        on_disk: Versions,
        passed: Iterable[GateReport],
    ) -> GatePlan:
        """The gates of the rollout from ``base`` to ``target``.

        Args:
            base: what was served before the rollout began; None: nothing.
            target: what is to be served.
            on_disk: versions a server sees, by model.
            passed: gates that passed in a run that was ended then: they are not gone through again.
        """
        for each in passed:
            self._reports = report.with_report(self._reports, each)
        planned = plan.plan(self._gates, base, target, on_disk, [each.name for each in self._services], self._reports)
        done = {(each.model, each.version) for each in passed if each.passed}
        left = tuple(each for each in planned.which.candidates if (each.model, each.version) not in done)
        if left:
            self._return_to = base or ModelServerConfig()
        return replace(planned, which=replace(planned.which, candidates=left))

    def begin(self, planned: GatePlan) -> tuple[Tried, ...]:
        """What the model config file is to say while versions are tried."""
        since = datetime.now(UTC).isoformat(timespec="seconds")
        pairs = zip(planned.which.candidates, planned.summary, strict=True)
        return tuple(Tried(each.model, each.version, since, phrase) for each, phrase in pairs)

    def try_out(self, candidates: Iterable[Candidate]) -> None:
        """Try versions, all of them.

        Raises:
            GateFailedError: one did not pass.
        """
        reports = [self._trials.run(candidate) for candidate in candidates]
        for each in reports:
            self._reports = report.with_report(self._reports, each)
        failed = [each for each in reports if not each.passed]
        self.told = tuple(failed or reports)
        if failed:
            raise GateFailedError("\n".join(failure(each) for each in failed))

    def end(self) -> None:
        """The rollout is done, or what it was to move is where it was."""
        self._return_to = None
        self.told = ()

    def into(self, outputs: ServedConfigOutputs) -> ServedConfigOutputs:
        """The outputs with the reports."""
        return replace(outputs, gate_reports=self._reports or None, return_to=self._return_to)
