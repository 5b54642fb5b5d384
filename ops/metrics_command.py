"""``python -m ops metrics SERVICE``: requests, errors and latency by model, from the servers' own counters."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from ops import answer, meter, options, outputs, predict
from ops.meter import Meter, MeterError
from ops.tables import Report, Table
from tfserving.durations import as_text
from tfserving.metrics import Counts


def main(argv: Sequence[str]) -> int:
    """Prints the counters of a service.

    Returns:
        0.

    Raises:
        TFServingError: the stack or the service is not there, or its counters cannot be read.
    """
    chosen = _parser().parse_args(list(argv))
    services = outputs.services(chosen.stack, chosen.engine)
    predict.choose_service(services, chosen.service, False)
    service = services[chosen.service]
    found = meter.meters(
        chosen.stack, [service], chosen.engine, chosen.prometheus, chosen.prometheus_selector, chosen.over or 600.0
    )[service.name]
    if isinstance(found, MeterError):
        raise found
    meter.look_patiently(found)
    if chosen.over and not chosen.prometheus:
        answer.note(f"counting for {as_text(chosen.over)}")
        time.sleep(chosen.over)
        meter.look_patiently(found)
        counted, when = {model: found.counts(model) for model in found.models()}, f"in {as_text(chosen.over)}"
    else:
        counted = {model: found.before(model) for model in found.models()}
        when = f"in the last {as_text(chosen.over or 600.0)}" if chosen.prometheus else "since the replicas started"
    replicas = _replicas(found)
    value = {
        "service": service.name,
        "replicas": replicas,
        "seconds": chosen.over,
        "models": {model: as_value(counts) for model, counts in counted.items()},
    }
    answer.give(chosen, value, _report(service.name, counted, when, replicas))
    return 0


def as_value(counts: Counts) -> dict[str, Any]:
    """Counts for programs."""
    return {
        "requests": round(counts.requests),
        "errors": {status: round(count) for status, count in sorted(counts.errors.items()) if round(count)},
        "errorRate": counts.error_rate,
        "p50Ms": _milliseconds(counts, 0.5),
        "p99Ms": _milliseconds(counts, 0.99),
    }


def _milliseconds(counts: Counts, share: float) -> float | None:
    seconds = counts.quantile(share)
    return None if seconds is None else round(seconds * 1000, 3)


def _replicas(found: Meter) -> int | None:
    return len(found.window.last) if isinstance(found, meter.Pages) else None


def _report(service: str, counted: dict[str, Counts], when: str, replicas: int | None) -> Report:
    of = f", {replicas} replica{'' if replicas == 1 else 's'} heard" if replicas is not None else ""
    head = f"{service}, {when}{of}"
    if not counted:
        return Report([head, "no requests"])
    rows = []
    for model, counts in counted.items():
        shown = ["-" if (ms := _milliseconds(counts, share)) is None else f"{ms:.1f} ms" for share in (0.5, 0.99)]
        by_status = ", ".join(
            f"{count:.0f} {status}" for status, count in sorted(counts.errors.items()) if round(count)
        )
        rows.append(
            (model, f"{counts.requests:.0f}", f"{counts.failed:.0f}", f"{counts.error_rate:.2%}", *shown, by_status)
        )
    columns = ("MODEL", "REQUESTS", "ERRORS", "RATE", "P50", "P99", "ERRORS BY STATUS")
    note = "All versions of a model together: TensorFlow Serving counts by model. Latencies are of answers."
    return Report([head, Table(columns, rows, right=range(1, 6)), note])


def _parser() -> answer.Parser:
    command = answer.Parser(
        prog="python -m ops metrics",
        description="Says how many requests a service answered and refused, and how fast, from its servers' counters.",
        epilog="The service needs `monitoring: true`, or a Prometheus that scrapes it.",
    )
    command.add_argument("service", metavar="SERVICE", help="service name, as in tf-serving:services")
    command.add_argument(
        "--over",
        type=partial(options.duration, least=0.001),
        metavar="TIME",
        help="count for so long (30s, 10m) instead of since the start",
    )
    add_prometheus(command)
    options.add_stack(command)
    return command


def add_prometheus(command: argparse.ArgumentParser) -> None:
    """``--prometheus`` and ``--prometheus-selector``."""
    command.add_argument(
        "--prometheus", default="", metavar="URL", help="ask this Prometheus instead of the servers themselves"
    )
    command.add_argument(
        "--prometheus-selector",
        default=meter.DEFAULT_SELECTOR,
        metavar="LABELS",
        help="what chooses a service's series there; {service} is its name (default: %(default)s)",
    )
