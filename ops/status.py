"""The state of a stack at this moment: services, models, labels, shares of requests, and a promotion under way."""

from __future__ import annotations

import fnmatch
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ops import changes, markdown, nearest, outputs, state
from ops.doctor.cloud import clients_of
from ops.doctor.stack import load
from ops.engine import PROJECT_DIR, Engine
from ops.outputs import ExportedService
from ops.pods import of_resources
from ops.promotion_files import Files
from ops.tables import Report, Table
from tfserving.client import GrpcClient, ModelClient, RestClient
from tfserving.durations import as_text
from tfserving.errors import (
    CloudError,
    ServiceError,
    ServiceNotFoundError,
    ServiceUnreachableError,
    TFServingError,
)

_SECONDS = 5.0
_THREADS = 8
_ROLLOUTS = (state.SERVED_CONFIG, state.SERVED_MODEL)
_NOT_PASSED = "did not pass"
_UNKNOWN = "unknown"
_TRAFFIC = (changes.TRAFFIC_SPLIT, changes.TRAFFIC_ROUTE)
SHORT = 30
"""Models that a terminal is shown of more than so many: those that need somebody first."""


class StatusError(TFServingError):
    """What is to be looked at is not there."""


@dataclass(frozen=True)
class ServiceStatus:
    """One service.

    Attributes:
        name: its name.
        protocol: ``http`` or ``grpc``.
        status: as PAI-EAS says; on Kubernetes ``Running`` where every pod is ready.
        running: replicas that answer; None where nobody could be asked.
        total: replicas that there are; None likewise.
        since: when it was last changed, ISO 8601, on Kubernetes when its newest pod was made; empty where nobody says.
        rollout: when the versions or labels that it serves last moved, ISO 8601; empty if never.
        problem: why it cannot be asked; empty where it can.
    """

    name: str
    protocol: str
    status: str = ""
    running: int | None = 0
    total: int | None = 0
    since: str = ""
    rollout: str = ""
    problem: str = ""


@dataclass(frozen=True)
class ModelStatus:
    """What some services answer with for one model.

    Attributes:
        model: its name in requests.
        services: those that say the same.
        versions: state by version number; None where the services could not be asked.
        labels: version by label, as it was proven by the last rollout.
        gate: what came of its last gate; empty without one.
    """

    model: str
    services: tuple[str, ...]
    versions: Mapping[str, str] | None
    labels: Mapping[str, int]
    gate: str = ""

    @property
    def is_well(self) -> bool:
        """Every version answers, and every label names one of them; its last gate, if any, was passed."""
        return (
            self.versions is not None
            and bool(self.versions)
            and set(self.versions.values()) == {"AVAILABLE"}
            and all(str(number) in self.versions for number in self.labels.values())
            and not self.gate.endswith(_NOT_PASSED)
        )


@dataclass(frozen=True)
class GroupStatus:
    """How the requests of a group of services are shared, as it was last deployed.

    Attributes:
        group: its name.
        weights: percent of the requests by member.
        mirror: who gets copies, and of how many: ``{"to": ..., "percent": ...}``; None without.
    """

    group: str
    weights: Mapping[str, int]
    mirror: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Status:
    """A stack.

    Attributes:
        stack: its name.
        last_rollout: when versions or labels last moved, ISO 8601; empty if never.
        services: every service.
        models: every model that somebody answers for.
        groups: groups of services that share requests.
        promotion: the promotion that is under way.
    """

    stack: str
    last_rollout: str = ""
    services: tuple[ServiceStatus, ...] = ()
    models: tuple[ModelStatus, ...] = ()
    groups: tuple[GroupStatus, ...] = ()
    promotion: Mapping[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """For programs."""
        return {
            "stack": self.stack,
            "lastRollout": self.last_rollout,
            "services": [asdict(each) for each in self.services],
            "models": [asdict(each) for each in self.models],
            "groups": [asdict(each) for each in self.groups],
            "promotion": dict(self.promotion) if self.promotion is not None else None,
        }


def look(
    stack: str,
    engine: Engine = "auto",
    models: Sequence[str] = (),
    only: Sequence[str] = (),
    project_dir: Path = PROJECT_DIR,
) -> Status:
    """Looks at a stack. What cannot be asked is part of the answer.

    Args:
        stack: stack name.
        engine: whose stack it is.
        models: patterns of the models that are looked at, such as ``shoes-*``; empty: all.
        only: patterns of the services that are looked at; empty: all.
        project_dir: the directory of ``Pulumi.yaml``.

    Raises:
        TFServingError: there is no such stack, or its engine cannot be asked, or a pattern fits nothing.
    """
    resources = state.read(stack, engine, project_dir)
    every = outputs.services_of(stack, resources)
    services = {name: every[name] for name in _chosen("--service", only, every)}
    wanted = _chosen("--model", models, {model for each in services.values() for model in each.models})
    services = {
        name: replace(each, models={model: said for model, said in each.models.items() if model in wanted})
        for name, each in services.items()
        if not models or each.models.keys() & wanted
    }
    moved = _moved(resources)
    record = Files(stack, project_dir).record()
    pods = of_resources(resources)
    eas = clients_of(load(stack, project_dir), project_dir).eas if services.keys() - pods.keys() else None
    # Nothing that is told here is worth more than a few seconds of waiting for a service that hangs.
    with ThreadPoolExecutor(_THREADS) as pool:
        asked = [pool.submit(_states, each) for each in services.values()]
        described = list(pool.map(lambda each: _service(each, pods, eas), services.values()))
        states = [each.result() for each in asked]
    problems = {name: problem for (_, problem), name in zip(states, services, strict=True) if problem}
    return Status(
        stack,
        max(moved.values(), default=""),
        tuple(
            replace(each, rollout=moved.get(each.name, ""), problem=each.problem or problems.get(each.name, ""))
            for each in described
        ),
        tuple(_models(services.values(), [found for found, _ in states], _gates(resources))),
        tuple(_group(each) for each in resources if each.kind in _TRAFFIC),
        {
            "model": record.model,
            "label": record.label,
            "to": record.to,
            "step": record.step + 1,
            "steps": len(record.steps),
            "back": record.back,
        }
        if record is not None
        else None,
    )


def _service(service: ExportedService, pods: Mapping[str, Any], eas: Any) -> ServiceStatus:
    protocol = "http, grpc" if service.url and service.target else service.protocol
    try:
        if service.name in pods:
            where, cluster = pods[service.name]
            found = cluster.pods(where)
            ready = sum(pod.ready for pod in found)
            said = "Running" if found and ready == len(found) else "Waiting" if found else "gone"
            newest = max((pod.made for pod in found), default="")
            return ServiceStatus(service.name, protocol, said, ready, len(found), newest)
        described = eas.describe(service.name)
        if described is None:
            return ServiceStatus(service.name, protocol, "gone")
        return ServiceStatus(
            service.name, protocol, described.status, described.running, described.total, described.updated
        )
    except CloudError as error:
        return ServiceStatus(service.name, protocol, _UNKNOWN, None, None, problem=str(error))


def _chosen(option: str, patterns: Sequence[str], names: Iterable[str]) -> list[str]:
    """The names that fit one of the patterns; all without any.

    Raises:
        StatusError: a pattern that fits none.
    """
    found = sorted(names)
    for pattern in patterns:
        if not fnmatch.filter(found, pattern):
            raise StatusError(
                f"{option} {pattern}: nothing in this stack is called so; {nearest.choices(pattern, found)}"
            )
    return [name for name in found if not patterns or any(fnmatch.fnmatchcase(name, each) for each in patterns)]


def _moved(resources: Iterable[state.Resource]) -> dict[str, str]:
    """When what each service serves last moved."""
    found: dict[str, str] = {}
    for each in resources:
        if each.kind in _ROLLOUTS and each.modified:
            one = each.inputs.get("service")
            for name in each.inputs.get("services") or ([one["name"]] if one else []):
                found[name] = max(found.get(name, ""), each.modified)
    return found


def _group(resource: state.Resource) -> GroupStatus:
    """What PAI-EAS was found to do; of a route of Kubernetes, what it was told."""
    weights = resource.outputs.get("weights") or resource.inputs.get("weights") or {}
    mirror = resource.inputs.get("mirror")
    return GroupStatus(
        str(resource.inputs.get("group") or resource.name),
        {str(member): int(share) for member, share in weights.items()},
        {"to": str(mirror["to"]), "percent": int(mirror["percent"])} if mirror else None,
    )


def _states(service: ExportedService) -> tuple[dict[str, dict[str, str]], str]:
    """State by version by model, from one replica; models that could not be asked for are missing, and why."""
    if not service.models:
        return {}, ""
    if not service.address:
        return {}, "it has no address at which it could be asked"
    problem, is_gone = "", False

    def ask(model: str) -> dict[str, str] | None:
        nonlocal problem, is_gone
        if is_gone:
            return None  # one that hangs is not waited for once more for each of its models
        try:
            return {
                str(each.version): each.state if each.error_code == "OK" else f"{each.state} {each.error_code}"
                for each in client.status(model)
                if each.state != "END" or each.error_code != "OK"
            }
        except ServiceNotFoundError:
            return {}
        except ServiceError as error:
            problem, is_gone = str(error), isinstance(error, ServiceUnreachableError)
            return None

    try:
        with _connect(service) as client, ThreadPoolExecutor(_THREADS) as pool:
            answers = dict(zip(service.models, pool.map(ask, service.models), strict=True))
    except ServiceError as error:  # of an address or a token that cannot be one
        return {}, str(error)
    return {model: found for model, found in answers.items() if found is not None}, problem


def _connect(service: ExportedService) -> ModelClient:
    """One replica is enough, and a service may have a thousand models: connections are used again."""
    if service.url:
        return RestClient(service.url, service.token, _SECONDS, keep=True)
    return GrpcClient(service.target, service.token, _SECONDS)


def _models(
    services: Iterable[ExportedService], states: Sequence[Mapping[str, Mapping[str, str]]], gates: Mapping[str, str]
) -> Iterable[ModelStatus]:
    """One entry for all services that say the same of a model."""
    together: dict[tuple[str, str, str], ModelStatus] = {}
    for service, found in zip(services, states, strict=True):
        for model, recorded in service.models.items():
            said = found.get(model)
            versions = None if said is None else dict(sorted(said.items(), key=lambda item: int(item[0])))
            labels = dict(recorded.get("labels") or {})
            known = together.get((model, str(versions), str(labels)))
            names = (*known.services, service.name) if known else (service.name,)
            together[model, str(versions), str(labels)] = ModelStatus(
                model, names, versions, labels, gates.get(model, "")
            )
    return sorted(together.values(), key=lambda each: (each.model, each.services))


def _gates(resources: Iterable[state.Resource]) -> dict[str, str]:
    """What came of the last gate of each model."""
    newest: dict[str, tuple[str, str]] = {}
    for resource in resources:
        reports = resource.outputs.get("gateReports") if resource.kind in _ROLLOUTS else None
        for model, versions in (reports or {}).items():
            for number, report in versions.items():
                said = f"version {number} {'passed' if report.get('passed') else _NOT_PASSED}"
                newest[model] = max(newest.get(model, ("", "")), (str(report.get("at", "")), said))
    return {model: said for model, (_, said) in newest.items()}


# ---- for people ----------------------------------------------------------------------------------------------------


def report(status: Status, now: float | None = None, most: int | None = None) -> Report:
    """The status for a person.

    Args:
        status: what was found.
        now: the time, as of ``time.time()``.
        most: how many models are shown at most, those that are not well first; None: all.
    """
    now = time.time() if now is None else now
    head = f"stack {status.stack}"
    if status.last_rollout:
        head += f", last rollout {_ago(status.last_rollout, now)}"
    parts: list[str | Table] = [head]
    if status.promotion is not None:
        found = status.promotion
        way = "on its way back from" if found["back"] else "under way to"
        parts.append(
            f"promotion of {found['model']} ({found['label']}) {way} version {found['to']}: "
            f"step {found['step']} of {found['steps']}"
        )
    rows = [
        (
            each.name,
            each.protocol,
            each.status,
            _UNKNOWN if each.running is None or each.total is None else f"{each.running}/{each.total}",
            _ago(each.since, now),
            _ago(each.rollout, now),
        )
        for each in status.services
    ]
    columns = ("SERVICE", "PROTOCOL", "STATUS", "REPLICAS", "CHANGED", "ROLLOUT")
    parts += ["", Table(columns, rows, states=[2, 3])]
    parts += [f"  {each.name}: {markdown.visible(each.problem)}" for each in status.services if each.problem]
    parts += ["", *_of_models(status.models, most)]
    if status.groups:
        shares = [
            (
                each.group,
                ", ".join(f"{member} {share} %" for member, share in each.weights.items()),
                f"{each.mirror['percent']} % to {each.mirror['to']}" if each.mirror else "",
            )
            for each in status.groups
        ]
        parts += ["", Table(("GROUP", "REQUESTS", "COPIES"), shares)]
    return Report(parts)


def _of_models(models: Sequence[ModelStatus], most: int | None) -> Iterator[str | Table]:
    shown = list(models)
    if most is not None and len(models) > most:
        shown = [each for each in models if not each.is_well][:most]
    gated = any(each.gate for each in models)
    rows = [
        (
            each.model,
            _versions(each.versions),
            ", ".join(f"{label} -> {number}" for label, number in sorted(each.labels.items())),
            *([each.gate] if gated else []),
            ", ".join(each.services),
        )
        for each in shown
    ]
    columns = ("MODEL", "VERSIONS", "LABELS", *(["GATE"] if gated else []), "SERVICES")
    if rows or not models:
        yield Table(columns, rows, states=[1, 3] if gated else [1])
    if rest := len(models) - len(shown):
        ill = sum(not each.is_well for each in models) - len(shown)
        how = f"{ill} of them not well" if ill else "well: every version AVAILABLE, every label on one"
        yield f"{rest}{' more' if shown else ''} models, {how}. --all shows them, --model PATTERN some"


def _versions(versions: Mapping[str, str] | None) -> str:
    """Versions by state: ``1, 2 AVAILABLE; 3 LOADING``."""
    if versions is None:
        return _UNKNOWN
    numbers: dict[str, list[str]] = {}
    for number, said in versions.items():
        numbers.setdefault(said, []).append(number)
    return "; ".join(f"{', '.join(found)} {said}" for said, found in numbers.items()) or "none"


def _ago(when: str, now: float) -> str:
    """How long ago an ISO 8601 time was; the time as it came where that cannot be told, and nothing of nothing."""
    try:
        found = datetime.fromisoformat(when.replace("Z", "+00:00"))
    except ValueError:
        return when
    found = found if found.tzinfo else found.replace(tzinfo=UTC)
    return f"{as_text(max(0, round(now - found.timestamp())))} ago"
