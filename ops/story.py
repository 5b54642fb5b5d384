"""What a service says of itself: its log and its events, on PAI-EAS and on Kubernetes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ops import outputs, predict
from ops.doctor.cloud import clients_of
from ops.doctor.stack import load
from ops.engine import PROJECT_DIR, Engine
from ops.pods import on_kubernetes
from ops.redact import Redactor
from provider.clients import Event

_EVENTS = 50


@dataclass(frozen=True)
class Story:
    """Log and events of one service; what it tells holds no secret that is known.

    Attributes:
        log: the newest lines, at most so many, none older than so many seconds (0: any), oldest first. Those of pods
            begin with the pod's name.
        events: the newest events, oldest first, each with the pod that it is about; empty on PAI-EAS.
    """

    log: Callable[[int, float], list[str]]
    events: Callable[[], list[tuple[str, Event]]]


def of(
    stack: str, engine: Engine, name: str, redactor: Redactor, keyword: str = "", project_dir: Path = PROJECT_DIR
) -> Story:
    """The story of a service.

    Args:
        stack: stack name.
        engine: whose stack it is.
        name: service name.
        redactor: masks secrets.
        keyword: only log lines that hold it; empty for all.
        project_dir: the directory of ``Pulumi.yaml``.

    Raises:
        TFServingError: there is no such stack or service.
    """
    services = outputs.services(stack, engine, project_dir)
    predict.choose_service(services, name, False)  # says what there is where there is none of that name
    pods = on_kubernetes(stack, [services[name]], engine, project_dir)
    if name in pods:
        where, cluster = pods[name]

        def pod_log(count: int, seconds: float) -> list[str]:
            found = cluster.pods(where)
            lines = [f"{pod.name} {line}" for pod in found for line in cluster.log_tail(pod, count, seconds)]
            return _masked(redactor, [line for line in lines if keyword in line])

        def pod_events() -> list[tuple[str, Event]]:
            told = [(pod.name, each) for pod in cluster.pods(where) for each in cluster.events(pod, _EVENTS)]
            return _without_secrets(redactor, sorted(told, key=lambda each: each[1].at))

        return Story(pod_log, pod_events)
    eas = clients_of(load(stack, project_dir), project_dir).eas

    def log(count: int, seconds: float) -> list[str]:
        since = f"{datetime.now(UTC) - timedelta(seconds=seconds):%Y-%m-%d %H:%M:%S}" if seconds else ""
        return _masked(redactor, eas.log_tail(name, count, since, keyword))

    return Story(log, lambda: _without_secrets(redactor, [("", each) for each in eas.events(name, _EVENTS)]))


def unseen(shown: Sequence[str], found: Sequence[str]) -> list[str]:
    """The lines of ``found`` that come after what was shown: both are ends of one log, which grows."""
    for length in range(min(len(shown), len(found)), 0, -1):
        if list(shown[-length:]) == list(found[:length]):
            return list(found[length:])
    return [] if list(shown) == list(found) else list(found)


def _masked(redactor: Redactor, lines: Sequence[str]) -> list[str]:
    return [redactor.text(line.rstrip("\n")) for line in lines]


def _without_secrets(redactor: Redactor, events: Sequence[tuple[str, Event]]) -> list[tuple[str, Event]]:
    return [(pod, replace(each, message=redactor.text(each.message))) for pod, each in events]
