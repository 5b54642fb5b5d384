"""Reports of gates: made of what services answered, and kept with the resource so that a promotion can be audited."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tfserving.contract.gates import GateReport, ServiceReport
from tfserving.contract.kinds import Version
from tfserving.gates.which import Candidate

KEPT = 10
"""Reports of a model that are kept: the newest ones."""

Reports = Mapping[str, Mapping[str, GateReport]]
"""By model, and there by version as text."""


def report(
    candidate: Candidate, services: Mapping[str, ServiceReport], files: Mapping[str, str], at: str
) -> GateReport:
    """What came of a gate.

    Args:
        candidate: the version that was tried.
        services: what was measured, by service.
        files: digests of the gate's files.
        at: now, ISO 8601 in UTC.
    """
    return GateReport(
        model=candidate.model,
        version=Version(candidate.version),
        old=None if candidate.old is None else Version(candidate.old),
        at=at,
        passed=not any(each.problems for each in services.values()),
        files=files,
        services=services,
    )


def with_report(reports: Reports, added: GateReport) -> dict[str, dict[str, GateReport]]:
    """``reports`` and one more, which takes the place of an older one of the same version; the oldest go."""
    found = {model: dict(versions) for model, versions in reports.items()}
    of_model = {**found.get(added.model, {}), str(added.version): added}
    kept = sorted(of_model.values(), key=lambda each: (each.at, each.version))[-KEPT:]
    found[added.model] = {str(each.version): each for each in kept}
    return found


def all_of(reports: Reports) -> list[GateReport]:
    """Reports of a resource, newest first."""
    found = [each for versions in reports.values() for each in versions.values()]
    return sorted(found, key=lambda each: (each.at, each.model, each.version), reverse=True)


def answered(reports: Reports) -> dict[str, set[int]]:
    """By model: versions that passed a gate, and those that answered when another version passed."""
    found: dict[str, set[int]] = {}
    for each in all_of(reports):
        if each.passed:
            found.setdefault(each.model, set()).update({each.version} if each.old is None else {each.version, each.old})
    return found


def newest(reports: Iterable[GateReport]) -> list[GateReport]:
    """The newest report of each model."""
    found: dict[str, GateReport] = {}
    for each in reports:
        if each.model not in found or each.at > found[each.model].at:
            found[each.model] = each
    return [found[model] for model in sorted(found)]
