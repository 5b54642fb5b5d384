"""Where the counters of a service come from: its replicas' own pages, or a Prometheus that scrapes them.

On Kubernetes each pod is asked by itself, through the API server. On PAI-EAS a gateway gives each request to some
replica: pages are told apart by what loading the models took, which no two processes share, and are asked for until
every replica was heard.
"""

from __future__ import annotations

import json
import math
import time
import urllib.error
import urllib.parse
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ops import outputs
from ops.doctor.cloud import clients_of
from ops.doctor.stack import load
from ops.engine import PROJECT_DIR, Engine
from ops.pods import on_kubernetes
from provider.cluster import ClusterApi, Pods
from tfserving import metrics
from tfserving.client import RestClient
from tfserving.errors import ServiceError, TFServingError
from tfserving.hosts import opener
from tfserving.metrics import Counts, Page, Window

_SECONDS = 10.0
_TRIES_PER_REPLICA = 8
"""Pages asked for, at most, to hear each replica behind a gateway that picks at random."""


class MeterError(TFServingError):
    """The counters of a service cannot be read."""


class Meter(Protocol):
    """Counts the requests of one service over a time. Its methods raise :class:`MeterError`."""

    def look(self) -> None:
        """Reads the counters; the first look begins the time, the last one ends it."""

    def counts(self, model: str) -> Counts:
        """What was counted between the first and the last look."""

    def before(self, model: str) -> Counts:
        """What was counted before the first look."""

    def models(self) -> list[str]:
        """The models that were asked for anything."""


# ---- the servers' own pages ----------------------------------------------------------------------------------------


@dataclass
class Pages:
    """The pages of a service's replicas.

    Attributes:
        service: its name.
        read: reads the pages of every replica that can be reached, by replica.
        window: what they said.
    """

    service: str
    read: Callable[[], Mapping[str, Page]]
    window: Window = field(default_factory=Window)

    def look(self) -> None:
        """Reads every replica's page."""
        try:
            found = self.read()
        except TFServingError as error:
            raise MeterError(f"{self.service}: the counters cannot be read: {error}") from error
        for replica, page in found.items():
            self.window.add(replica, page)

    def counts(self, model: str) -> Counts:
        """What was counted between the first and the last look."""
        return self.window.counts(model)

    def before(self, model: str) -> Counts:
        """What the replicas had counted when they were first heard."""
        return self.window.before(model)

    def models(self) -> list[str]:
        """The models that were asked for anything."""
        return self.window.models()


def behind_gateway(service: outputs.ExportedService, replicas: Callable[[], int]) -> Callable[[], Mapping[str, Page]]:
    """Reads the pages of a service whose replicas share one address."""

    def read() -> Mapping[str, Page]:
        wanted = max(replicas(), 1)
        found: dict[str, Page] = {}
        for _ in range(_TRIES_PER_REPLICA * wanted):
            # A connection of its own each time: the gateway may keep one to the same replica.
            with RestClient(service.url, service.token, _SECONDS) as client:
                page = Page.parse(client.metrics(service.metrics))
            if wanted > 1 and not page.process:
                raise MeterError(
                    f"{service.name} has {wanted} replicas, and its pages do not tell which of them answered. "
                    "Fix: ask a Prometheus that scrapes each replica, with --prometheus"
                )
            found[page.process if wanted > 1 else ""] = page
            if len(found) >= wanted:
                break
        return found

    return read


def in_pods(pods: Pods, cluster: ClusterApi, path: str) -> Callable[[], Mapping[str, Page]]:
    """Reads the page of each ready pod, through the API server."""

    def read() -> Mapping[str, Page]:
        found = {}
        for pod in cluster.pods(pods):
            if pod.ready:
                with cluster.connect(pod, _SECONDS) as client:
                    found[pod.name] = Page.parse(client.metrics(path))
        if not found:
            raise MeterError("no pod is ready")
        return found

    return read


# ---- a Prometheus --------------------------------------------------------------------------------------------------


@dataclass
class Prometheus:
    """Counters of one service as a Prometheus has them (HTTP API v1, ``/api/v1/query``).

    Attributes:
        service: its name.
        url: base URL of the Prometheus.
        selector: label matchers that choose the service's series, without braces.
        span: how much of the time before the first look counts as before, in seconds.
    """

    service: str
    url: str
    selector: str
    span: float = 600.0
    _first: float = 0.0
    _last: float = 0.0

    def look(self) -> None:
        """Marks the time; nothing is read before it is asked for."""
        self._last = time.time()
        self._first = self._first or self._last

    def counts(self, model: str) -> Counts:
        """The increase between the first and the last look."""
        return self._increase(model, self._last, self._last - self._first)

    def before(self, model: str) -> Counts:
        """The increase in the time before the first look."""
        return self._increase(model, self._first, self.span)

    def models(self) -> list[str]:
        """The models that were asked for anything."""
        rows = self._ask(f"count by (model_name) ({metrics.REQUESTS}{{{self.selector}}})", self._last)
        return sorted({labels["model_name"] for labels, _ in rows if labels.get("model_name")})

    def _increase(self, model: str, at: float, seconds: float) -> Counts:
        window = f"[{max(1, round(seconds))}s]"
        chosen = ",".join(part for part in (f"model_name={json.dumps(model)}", self.selector) if part)
        failed = f'{metrics.REQUESTS}{{{chosen},status!~"OK|success"}}{window}'
        latency = f'{metrics.LATENCY}_bucket{{{chosen},API!=""}}{window}'
        errors = self._ask(f"sum by (status) (increase({failed}))", at)
        buckets = self._ask(f"sum by (le) (increase({latency}))", at)
        return Counts(
            {labels.get("status", ""): value for labels, value in errors if value > 0},
            {float(labels.get("le", "nan").replace("+Inf", "inf")): value for labels, value in buckets},
        )

    def _ask(self, query: str, at: float) -> list[tuple[Mapping[str, str], float]]:
        asked = urllib.parse.urlencode({"query": query, "time": f"{at:.3f}"})
        url = f"{self.url.rstrip('/')}/api/v1/query?{asked}"
        try:
            with opener(url).open(url, timeout=_SECONDS) as response:
                answer = json.loads(response.read())
        except urllib.error.HTTPError as refused:
            try:
                reason = str(json.loads(refused.read(10_000))["error"])
            except (OSError, ValueError, KeyError, TypeError):
                reason = str(refused.reason)
            raise MeterError(f"--prometheus {self.url}: {refused.code} {reason}") from None
        except (OSError, ValueError) as error:
            reason = str(getattr(error, "reason", error))
            raise MeterError(f"--prometheus {self.url}: no answer that can be used: {reason}") from None
        try:
            if answer["status"] != "success":
                raise MeterError(f"--prometheus {self.url}: {answer.get('error', 'refused')}")
            rows = [(row["metric"], float(row["value"][1])) for row in answer["data"]["result"]]
        except (KeyError, TypeError, ValueError, AttributeError, IndexError):
            raise MeterError(f"--prometheus {self.url}: this is not the answer of a Prometheus") from None
        return [(labels, value) for labels, value in rows if math.isfinite(value)]


DEFAULT_SELECTOR = 'service="{service}"'
"""What chooses a service's series in a Prometheus; ``{service}`` stands for its name."""


# ---- of a stack ----------------------------------------------------------------------------------------------------


def meters(
    stack: str,
    services: Iterable[outputs.ExportedService],
    engine: Engine = "auto",
    prometheus: str = "",
    selector: str = DEFAULT_SELECTOR,
    span: float = 600.0,
    project_dir: Path = PROJECT_DIR,
) -> dict[str, Meter | MeterError]:
    """A meter for each service, or why it has none."""
    if prometheus:
        return {
            each.name: Prometheus(each.name, prometheus, selector.replace("{service}", each.name), span)
            for each in services
        }
    found: dict[str, Meter | MeterError] = {}
    wanted = list(services)
    pods = on_kubernetes(stack, wanted, engine, project_dir)
    clients = None
    for service in wanted:
        if not service.metrics:
            fix = f"set tf-serving:services.{service.name}.monitoring: true, or name a Prometheus with --prometheus"
            found[service.name] = MeterError(f"{service.name}: the server's counters are switched off. Fix: {fix}")
        elif service.name in pods:
            where, cluster = pods[service.name]
            found[service.name] = Pages(service.name, in_pods(where, cluster, service.metrics))
        elif not service.url:
            found[service.name] = MeterError(
                f"{service.name}: answers gRPC, and the counters are on the HTTP port, which PAI-EAS does not open "
                "beside it. Fix: name a Prometheus with --prometheus"
            )
        else:
            clients = clients or clients_of(load(stack, project_dir), project_dir)
            eas, name = clients.eas, service.name

            def replicas(eas: Any = eas, name: str = name) -> int:
                described = eas.describe(name)
                return max(described.running, 1) if described else 1

            found[service.name] = Pages(service.name, behind_gateway(service, replicas))
    return found


def look_patiently(meter: Meter, tries: int = 3, pause: float = 2.0) -> None:
    """:meth:`Meter.look`, and again where a gateway or an API server just stumbles.

    Raises:
        MeterError: it does not get up.
    """
    for attempt in range(1, tries + 1):
        try:
            meter.look()
            return
        except (MeterError, ServiceError):
            if attempt == tries:
                raise
            time.sleep(pause)
