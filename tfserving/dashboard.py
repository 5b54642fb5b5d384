"""A Grafana dashboard of TensorFlow Serving's own metrics.

The form is that of Grafana's dashboards of schema version 39 (Grafana 11), which later releases take as well.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from tfserving import promql
from tfserving.metrics import REQUESTS
from tfserving.promql import BATCHES, LOAD_ATTEMPTS, LOAD_TIME, QUEUED, RUNTIME, matching

UID: Final = "tf-serving-stacks"
TITLE: Final = "TensorFlow Serving"
_SCHEMA_VERSION: Final = 39
_SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
_SERVICE: Final = 'namespace=~"$namespace",service=~"$service"'
_MODEL: Final = f'{_SERVICE},model_name=~"$model"'
_VERSION: Final = f'{_SERVICE},model_path=~".*/($model_dir)/($version)"'
_NOT_FOUND: Final = 'status="NOT_FOUND"'
_LOADED: Final = 'status="success"'
_FAILED: Final = 'status="fail"'
_WINDOW: Final = "$__rate_interval"
_HEIGHT: Final = 8

Unit = Literal["reqps", "percent", "ms", "µs", "short", "bytes", "none"]


@dataclass(frozen=True)
class Panel:
    """A panel of the dashboard.

    Attributes:
        title: its title.
        queries: expressions with the names of their series.
        unit: unit of the values.
        says: what it says, and what it does not.
        kind: ``timeseries`` or ``stat``.
        width: of 24.
    """

    title: str
    queries: Sequence[tuple[str, str]]
    unit: Unit = "short"
    says: str = ""
    kind: Literal["timeseries", "stat"] = "timeseries"
    width: int = 8


@dataclass(frozen=True)
class Row:
    """Panels under a heading.

    Attributes:
        title: the heading.
        panels: the panels.
        collapsed: it is closed at first.
    """

    title: str
    panels: Sequence[Panel]
    collapsed: bool = False


ROWS: Final = (
    Row(
        "Requests",
        (
            Panel(
                "Replicas reached",
                [(f"sum by (service) (up{matching(_SERVICE)})", "{{service}}")],
                says="Replicas that Prometheus reaches. 0: nobody answers, or scraping is broken.",
                kind="stat",
                width=4,
            ),
            Panel("Requests", [(promql.requests(_MODEL, _WINDOW), "{{model_name}}")], "reqps", width=10),
            Panel(
                "Errors by status",
                [(promql.errors(_MODEL, _WINDOW, ("model_name", "status")), "{{model_name}} {{status}}")],
                "reqps",
                "NOT_FOUND: the model, version or label is not served. INVALID_ARGUMENT: the client's mistake.",
                width=10,
            ),
            Panel(
                "Errors of all requests",
                [
                    (
                        f"{promql.error_percent(_MODEL, _WINDOW)} or 0 * {promql.requests(_MODEL, _WINDOW)}",
                        "{{model_name}}",
                    )
                ],
                "percent",
            ),
            Panel(
                "Latency of answers",
                [
                    (promql.latency_ms(0.5, _MODEL, _WINDOW), "{{model_name}} p50"),
                    (promql.latency_ms(0.99, _MODEL, _WINDOW), "{{model_name}} p99"),
                ],
                "ms",
                "Limits of the histogram are 1.8 times the one before, so that a value may be off by as much.",
            ),
            Panel(
                "Latency of the runtime, p99",
                [
                    (
                        promql.quantile(0.99, RUNTIME, _MODEL, _WINDOW, ("model_name", "runtime")) + " / 1000",
                        "{{model_name}} {{runtime}}",
                    )
                ],
                "ms",
                "Time in TensorFlow itself. What is missing to the latency above: reading and writing of requests.",
            ),
        ),
    ),
    Row(
        "Models and versions",
        (
            Panel(
                "Not found",
                [
                    (
                        f"sum by (model_name) (rate({REQUESTS}{matching(_MODEL, _NOT_FOUND)}[{_WINDOW}]))",
                        "{{model_name}}",
                    )
                ],
                "reqps",
                "The nearest that the server's metrics come to the state of a model: it has none for the state itself. "
                "`python -m ops status` asks for the states.",
            ),
            Panel(
                "Versions loaded, in the last hour",
                [(promql.loads(f"{_VERSION},{_LOADED}", "1h"), "{{model_path}}")],
                says="By directory, whose last part is the version.",
            ),
            Panel(
                "Versions that could not be loaded, in the last hour",
                [(promql.loads(f"{_VERSION},{_FAILED}", "1h"), "{{model_path}}")],
                says="The server's log has the reason: `python -m ops logs`.",
            ),
            Panel(
                "Time to load a version",
                [
                    (
                        f"max by (model_path) ({LOAD_TIME}{matching(_VERSION)})"
                        f" / max by (model_path) ({LOAD_ATTEMPTS}{matching(_VERSION, _LOADED)}) / 1000",
                        "{{model_path}}",
                    )
                ],
                "ms",
                "Mean of all loads since the replica started; warm-up is not in it.",
                width=24,
            ),
        ),
    ),
    Row(
        "Batching",
        (
            Panel(
                "Time in the queue",
                [
                    (
                        promql.quantile(0.5, QUEUED, _SERVICE, _WINDOW, ("service",)),
                        "{{service}} p50",
                    ),
                    (
                        promql.quantile(0.99, QUEUED, _SERVICE, _WINDOW, ("service",)),
                        "{{service}} p99",
                    ),
                ],
                "µs",
                "Only where batching is on.",
                width=12,
            ),
            Panel(
                "Requests of a batch",
                [
                    (
                        f"sum by (service) (rate({QUEUED}_count{matching(_SERVICE)}[{_WINDOW}]))"
                        f" / sum by (service) (rate({BATCHES}{matching(_SERVICE)}[{_WINDOW}]))",
                        "{{service}}",
                    )
                ],
                says="About 1: batching brings nothing, and requests wait for nothing.",
                width=12,
            ),
        ),
        collapsed=True,
    ),
    Row(
        "GPU",
        (
            Panel(
                "GPU utilization",
                [('avg by (pod) (DCGM_FI_DEV_GPU_UTIL{namespace=~"$namespace",pod=~"($service)-.*"})', "{{pod}}")],
                "percent",
                "From NVIDIA's DCGM exporter, where the cluster runs it.",
                width=12,
            ),
            Panel(
                "GPU memory in use",
                [
                    (
                        'sum by (pod) (DCGM_FI_DEV_FB_USED{namespace=~"$namespace",pod=~"($service)-.*"}) * 1048576',
                        "{{pod}}",
                    )
                ],
                "bytes",
                "TensorFlow takes what it may at start: it says little about need.",
                width=12,
            ),
        ),
        collapsed=True,
    ),
)
"""What is on the dashboard."""


def dashboard() -> dict[str, Any]:
    """The dashboard, as Grafana imports it."""
    return {
        "uid": UID,
        "title": TITLE,
        "description": "Requests, latency, models and batching of TensorFlow Serving, by service and model.",
        "tags": ["tensorflow-serving"],
        "schemaVersion": _SCHEMA_VERSION,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {"list": list(_variables())},
        "annotations": {"list": []},
        "panels": list(_panels()),
    }


def text() -> str:
    """The dashboard as a file."""
    return json.dumps(dashboard(), indent=2, ensure_ascii=False) + "\n"


def expressions() -> list[str]:
    """Every expression on it, with variables of Grafana in them."""
    return [query for row in ROWS for panel in row.panels for query, _ in panel.queries]


def _variables() -> Iterator[dict[str, Any]]:
    yield {
        "name": "datasource",
        "label": "Prometheus",
        "type": "datasource",
        "query": "prometheus",
        "hide": 0,
        "multi": False,
        "includeAll": False,
    }
    labels: tuple[tuple[str, str, str, str], ...] = (
        ("namespace", "Namespace", f"label_values({REQUESTS}, namespace)", ""),
        ("service", "Service", f'label_values({REQUESTS}{{namespace=~"$namespace"}}, service)', ""),
        ("model", "Model", f"label_values({REQUESTS}{matching(_SERVICE)}, model_name)", ""),
        (
            "model_dir",
            "Directory",
            f"label_values({LOAD_ATTEMPTS}{matching(_SERVICE)}, model_path)",
            "/.*\\/([^\\/]+)\\/\\d+$/",
        ),
        ("version", "Version", f"label_values({LOAD_ATTEMPTS}{matching(_SERVICE)}, model_path)", "/.*\\/(\\d+)$/"),
    )
    for name, label, query, regex in labels:
        yield {
            "name": name,
            "label": label,
            "type": "query",
            "datasource": _SOURCE,
            "query": {"query": query, "refId": name},
            "regex": regex,
            "refresh": 2,
            "sort": 3 if name == "version" else 1,
            "hide": 0,
            "multi": True,
            "includeAll": True,
            "allValue": ".*",
            "current": {"text": ["All"], "value": ["$__all"]},
        }


def _panels() -> Iterator[dict[str, Any]]:
    number, top = 0, 0
    for row in ROWS:
        number += 1
        heading = {
            "id": number,
            "type": "row",
            "title": row.title,
            "collapsed": row.collapsed,
            "gridPos": {"x": 0, "y": top, "w": 24, "h": 1},
        }
        top += 1
        inside, left = [], 0
        for panel in row.panels:
            number += 1
            if left + panel.width > 24:
                left, top = 0, top + _HEIGHT
            place = {"x": left, "y": top, "w": panel.width, "h": _HEIGHT}
            inside.append(_panel(number, panel, place))
            left += panel.width
        top += _HEIGHT
        yield {**heading, "panels": inside if row.collapsed else []}
        if not row.collapsed:
            yield from inside


def _panel(number: int, panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    of_kind: dict[str, dict[str, Any]] = {
        "timeseries": {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        "stat": {
            "reduceOptions": {"calcs": ["lastNotNull"], "values": False, "fields": ""},
            "orientation": "auto",
            "textMode": "auto",
            "colorMode": "value",
            "graphMode": "area",
            "justifyMode": "auto",
        },
    }
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.says,
        "datasource": _SOURCE,
        "gridPos": place,
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": _SOURCE,
                "expr": query,
                "legendFormat": legend,
                "range": True,
                "editorMode": "code",
            }
            for index, (query, legend) in enumerate(panel.queries)
        ],
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": of_kind[panel.kind],
    }
