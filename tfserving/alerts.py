"""Alerts of a service: what is declared, and what becomes of it in CloudMonitor and in a Prometheus.

Sources: page "PAI-EAS inference service" in the appendix of metrics of CloudMonitor (namespace, metrics, dimensions,
units); CRD ``PrometheusRule`` of the Prometheus operator; :mod:`tfserving.promql` for the server's own metrics.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from decimal import Decimal
from typing import Any, Final

from tfserving import promql
from tfserving.errors import Problem
from tfserving.metrics import LATENCY
from tfserving.options import camel_case, option
from tfserving.property_path import join_path

RULE_API: Final = "monitoring.coreos.com/v1"
RULE_KIND: Final = "PrometheusRule"
PERIOD_SECONDS: Final = 60
LONGEST_MINUTES: Final = 1440
"""A day. Neither CloudMonitor nor Prometheus names a limit, and both have one far below what a number can be."""
LONGEST_MS: Final = 3_600_000
"""An hour: the gateway of EAS and every client have ended a request long before."""
LEAST_PERCENT: Final = 0.001
PERCENT: Final = f"{LEAST_PERCENT:g} or more, below 100"
_CLOUD_NAME = re.compile(r"[A-Za-z0-9_./-]{1,128}")
_MATCHER = r"""\s*[a-zA-Z_][a-zA-Z0-9_]*\s*(=~|!=|!~|=)\s*("([^"\\\n]|\\.)*"|'([^'\\\n]|\\.)*')\s*"""
_MATCHERS = re.compile(f"{_MATCHER}(,{_MATCHER})*")
_PAGE: Final = "docs/monitoring.md"


@dataclass(frozen=True, kw_only=True)
class ErrorRate:
    """Too many requests fail.

    Attributes:
        percent: more than so many of a hundred requests. On EAS those that the gateway answers with 5xx.
        minutes: for so long.
    """

    percent: float = 5.0
    minutes: int = option(5, least=1, most=LONGEST_MINUTES)


@dataclass(frozen=True, kw_only=True)
class SlowAnswers:
    """Answers take too long.

    Attributes:
        p99_ms: one answer of a hundred takes longer. On EAS only with ``cloudMonitor.p99``.
        average_ms: answers take longer on average.
        minutes: for so long.
    """

    p99_ms: float | None = option(None, most=LONGEST_MS)
    average_ms: float | None = option(None, most=LONGEST_MS)
    minutes: int = option(5, least=1, most=LONGEST_MINUTES)


@dataclass(frozen=True, kw_only=True)
class NoReplica:
    """Prometheus reaches no replica. On Kubernetes.

    Attributes:
        minutes: for so long.
    """

    minutes: int = option(5, least=1, most=LONGEST_MINUTES)


@dataclass(frozen=True, kw_only=True)
class FailedLoad:
    """A version could not be loaded. On Kubernetes.

    Attributes:
        minutes: within so long.
    """

    minutes: int = option(15, least=1, most=LONGEST_MINUTES)


@dataclass(frozen=True, kw_only=True)
class CloudMonitor:
    """Names in CloudMonitor, for accounts where they are others.

    Attributes:
        namespace: namespace of PAI-EAS.
        dimension: dimension that names the service.
        error_percent: metric with the percentage of 5xx.
        average: metric with the average response time, in microseconds.
        p99: metric with the 99th percentile, in microseconds. Its name is not public.
    """

    namespace: str = "acs_learn"
    dimension: str = "serviceName"
    error_percent: str = "rps_status_5xx_ratio"
    average: str = "rt"
    p99: str = ""


@dataclass(frozen=True, kw_only=True)
class Alerts:
    """When somebody is to be told. Nothing is on by itself; ``true`` takes a rule's defaults, ``false`` leaves it out.

    Attributes:
        error_rate: too many requests fail.
        latency: answers take too long.
        no_replica: no replica is reached.
        failed_load: a version could not be loaded.
        contact_groups: on EAS: contact groups of CloudMonitor that are told; they exist.
        webhook: on EAS: URL that CloudMonitor calls as well.
        selector: on Kubernetes: what chooses the service's series in the Prometheus; ``{service}`` and ``{namespace}``
            stand for the names.
        labels: on Kubernetes: labels of the ``PrometheusRule``, by which a Prometheus picks its rules.
        severity: on Kubernetes: label ``severity`` of each alert.
        cloud_monitor: on EAS: names in CloudMonitor.
    """

    error_rate: ErrorRate | None = option(None, also=(True, False))
    latency: SlowAnswers | None = None
    no_replica: NoReplica | None = option(None, also=(True, False))
    failed_load: FailedLoad | None = option(None, also=(True, False))
    contact_groups: tuple[str, ...] = ()
    webhook: str = option("", secret=True, late="https://late/{}")
    selector: str = 'namespace="{namespace}",service="{service}"'
    labels: Mapping[str, str] = field(default_factory=dict)
    severity: str = "critical"
    cloud_monitor: CloudMonitor = option(CloudMonitor(), otherwise="as documented")

    @property
    def rules(self) -> tuple[str, ...]:
        """The keys of the rules that are on."""
        each = {
            "errorRate": self.error_rate,
            "latency": self.latency,
            "noReplica": self.no_replica,
            "failedLoad": self.failed_load,
        }
        return tuple(key for key, rule in each.items() if rule is not None)


def problems(alerts: Alerts, path: str) -> Iterator[Problem]:
    """What is wrong with alerts, wherever the service runs.

    Args:
        alerts: the alerts.
        path: where they stand.
    """
    if alerts.error_rate and not LEAST_PERCENT <= alerts.error_rate.percent < 100:
        at = join_path(join_path(path, "errorRate"), "percent")
        yield Problem(at, f"percent is {alerts.error_rate.percent:g}", PERCENT)
    if alerts.latency and alerts.latency.p99_ms is None and alerts.latency.average_ms is None:
        at = join_path(path, "latency")
        yield Problem(at, "no limit is given", "p99Ms, averageMs, or both", "set p99Ms: 500")
    if alerts.webhook and not re.fullmatch(r"https?://[^\s/]+\S*", alerts.webhook):
        yield Problem(join_path(path, "webhook"), "it is not a URL", "http://... or https://...")
    for index, group in enumerate(alerts.contact_groups):
        if "," in group:
            message = f"`{group}` is taken for several names, at each comma"
            yield Problem(f"{join_path(path, 'contactGroups')}[{index}]", message, "a list of names", "list each one")
    for option_ in fields(CloudMonitor):
        name = getattr(alerts.cloud_monitor, option_.name)
        if (name or option_.name != "p99") and not _CLOUD_NAME.fullmatch(name):
            at = join_path(join_path(path, "cloudMonitor"), camel_case(option_.name))
            allowed = f"letters, digits, `_`, `-`, `.` and `/`, such as {option_.default or 'rt'}"
            yield Problem(at, f"`{name}` is not a name of CloudMonitor", allowed)
    if "{{" in alerts.severity:
        message = f"`{alerts.severity}` is taken for a template by Prometheus"
        yield Problem(join_path(path, "severity"), message, "a word, such as critical or warning")
    if not _MATCHERS.fullmatch(alerts.selector):
        allowed = 'label matchers without braces, such as job="tf-serving",service="{service}"'
        yield Problem(join_path(path, "selector"), f"`{alerts.selector}` chooses no series", allowed)


# ---- CloudMonitor --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Alarm:
    """An alarm of CloudMonitor.

    Attributes:
        key: what it is about, for its name.
        metric: name of the metric.
        threshold: above it, in decimal digits.
        minutes: so many times in a row, one minute each.
    """

    key: str
    metric: str
    threshold: str
    minutes: int


def alarms(alerts: Alerts) -> list[Alarm]:
    """The alarms that CloudMonitor can have of an EAS service."""
    names, found = alerts.cloud_monitor, []
    if alerts.error_rate:
        limit = _digits(alerts.error_rate.percent)
        found.append(Alarm("error-rate", names.error_percent, limit, alerts.error_rate.minutes))
    if alerts.latency:
        slow = alerts.latency
        for key, metric, most in (("p99", names.p99, slow.p99_ms), ("average", names.average, slow.average_ms)):
            if metric and most is not None:
                found.append(Alarm(f"latency-{key}", metric, _digits(most, 1000), slow.minutes))
    return found


def _digits(number: float, times: int = 1) -> str:
    """``number * times`` without an exponent: CloudMonitor's reference has thresholds in plain digits only."""
    return f"{(Decimal(str(number)) * times).normalize():f}"


def dimensions(alerts: Alerts, service: str) -> str:
    """Which service an alarm is about, as CloudMonitor takes it."""
    return json.dumps([{alerts.cloud_monitor.dimension: service}], separators=(",", ":"))


def unseen(alerts: Alerts) -> str:
    """What CloudMonitor cannot see of an EAS service, and what to do instead; empty if it sees everything asked for."""
    missing = [key for key in alerts.rules if key in ("noReplica", "failedLoad")]
    if alerts.latency and alerts.latency.p99_ms is not None and not alerts.cloud_monitor.p99:
        missing.append("latency.p99Ms")
    if not missing:
        return ""
    listed = ", ".join(missing)
    return f"CloudMonitor has no alarm for {listed} of PAI-EAS, so none is made ({_PAGE} says what to do instead)"


# ---- Prometheus ----------------------------------------------------------------------------------------------------


def prometheus_rules(alerts: Alerts, service: str, namespace: str) -> list[dict[str, Any]]:
    """The rules of a service on Kubernetes, as a ``PrometheusRule`` has them."""
    # Not str.format: names and matchers may hold braces.
    selector = alerts.selector.replace("{service}", service).replace("{namespace}", namespace)
    found: list[tuple[str, str, int, str, str]] = []
    if rate := alerts.error_rate:
        expression = f"{promql.error_percent(selector, '5m')} > {_digits(rate.percent)}"
        text = '{{ $value | printf "%.1f" }} % of the requests for {{ $labels.model_name }} fail'
        found.append(("TensorFlowServingErrors", expression, rate.minutes, text, "error-rate"))
    if slow := alerts.latency:
        if slow.p99_ms is not None:
            expression = f"{promql.latency_ms(0.99, selector, '5m')} > {_digits(slow.p99_ms)}"
            text = (
                'one answer of a hundred of {{ $labels.model_name }} takes longer than {{ $value | printf "%.0f" }} ms'
            )
            found.append(("TensorFlowServingSlow", expression, slow.minutes, text, "latency"))
        if slow.average_ms is not None:
            expression = promql.slower_on_average(LATENCY, selector, "5m", _digits(slow.average_ms))
            text = 'answers of {{ $labels.model_name }} take {{ $value | printf "%.0f" }} ms on average'
            found.append(("TensorFlowServingSlowOnAverage", expression, slow.minutes, text, "latency"))
    if gone := alerts.no_replica:
        text = "Prometheus reaches no replica"
        found.append(("TensorFlowServingDown", promql.no_replica(selector), gone.minutes, text, "no-replica"))
    if load := alerts.failed_load:
        expression = promql.failed_loads(selector, f"{load.minutes}m")
        text = "{{ $labels.model_path }} could not be loaded"
        found.append(("TensorFlowServingLoadFailed", expression, 0, text, "failed-load"))
    return [
        {
            "alert": name,
            "expr": expression,
            **({"for": f"{minutes}m"} if minutes else {}),
            "labels": {"severity": alerts.severity, "namespace": namespace, "service": service},
            "annotations": {"summary": f"{namespace}/{service}: {text}", "description": f"{_PAGE}, section {about}"},
        }
        for name, expression, minutes, text, about in found
    ]
