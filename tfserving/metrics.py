"""TensorFlow Serving's own counters: read from its Prometheus page, added up over replicas, compared over a time.

Sources: ``servables/tensorflow/util.cc`` of TensorFlow Serving (names and labels), ``cc/saved_model/loader.cc`` of
TensorFlow (what loading took), ``util/prometheus_exporter.cc`` (the page). The counters of requests have no dimension
for versions or labels: what is known is known per model and replica.

Requests that the server answered are counted by ``request_latency``, whose ``API`` is empty for questions about a
model's state; others by ``request_count`` with a status, where a question about the state counts as well.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

REQUESTS = ":tensorflow:serving:request_count"
LATENCY = ":tensorflow:serving:request_latency"
LOADS = ":tensorflow:cc:saved_model:load_latency"
"""Microseconds that loading took, in total by model path: no two processes have the same."""

_GOOD = ("OK", "success")
"""The status of an answered request: of today's servers, and of releases before 2.11."""

_SAMPLE = re.compile(r"([a-zA-Z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)(?:\s+-?\d+)?\s*")
_LABEL = re.compile(r'\s*([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"\s*,?')
_ESCAPE = re.compile(r"\\(.)")

Sample = tuple[str, tuple[tuple[str, str], ...]]
"""Metric name, and label pairs in order."""


@dataclass(frozen=True)
class Page:
    """The counters on a Prometheus page.

    Attributes:
        samples: value by name and labels.
    """

    samples: Mapping[Sample, float]

    @classmethod
    def parse(cls, text: str) -> Page:
        """Reads the page; lines that are no samples are left out, as Prometheus' comments are."""
        samples: dict[Sample, float] = {}
        for line in text.splitlines():
            found = None if line.startswith("#") else _SAMPLE.fullmatch(line)
            if not found:
                continue
            try:
                value = float(found[3])
            except ValueError:
                continue
            labels = tuple(sorted((key, _unescaped(raw)) for key, raw in _LABEL.findall(found[2] or "")))
            samples[found[1], labels] = value
        return cls(samples)

    @property
    def process(self) -> str:
        """What tells this server process from others: what loading its models took. Empty where the page has none."""
        loads = sorted((labels, value) for (name, labels), value in self.samples.items() if name == LOADS)
        return " ".join(f"{dict(labels).get('model_path', '')}={value:.0f}" for labels, value in loads if value)

    def models(self) -> list[str]:
        """The models that were asked for anything."""
        return sorted({dict(labels).get("model_name", "") for (name, labels) in self.samples if name == REQUESTS})

    def counts(self, model: str) -> Counts:
        """The requests for one model since the process started."""
        return self._by_model.get(model, Counts())

    @cached_property
    def _by_model(self) -> Mapping[str, Counts]:
        """All models in one pass: a page of a thousand has tens of thousands of samples."""
        errors: dict[str, dict[str, float]] = {}
        buckets: dict[str, dict[float, float]] = {}
        for (name, pairs), value in self.samples.items():
            if name not in (REQUESTS, f"{LATENCY}_bucket"):
                continue
            labels = dict(pairs)
            if (model := labels.get("model_name")) is None:
                continue
            if name == REQUESTS and (status := labels.get("status", "")) not in _GOOD:
                found = errors.setdefault(model, {})
                found[status] = found.get(status, 0) + value
            elif name != REQUESTS and labels.get("API"):
                limit = float(labels.get("le", "nan").replace("+Inf", "inf"))
                counted = buckets.setdefault(model, {})
                counted[limit] = counted.get(limit, 0) + value
        return {model: Counts(errors.get(model, {}), buckets.get(model, {})) for model in {*errors, *buckets}}


@dataclass(frozen=True)
class Counts:
    """Requests for one model, on one replica or several, since a start or over a time.

    Attributes:
        errors: refused or failed requests, by status.
        buckets: answered requests by upper limit of their latency in microseconds, each with all before it.
    """

    errors: Mapping[str, float] = field(default_factory=dict)
    buckets: Mapping[float, float] = field(default_factory=dict)

    @property
    def answered(self) -> float:
        """Requests with a good answer."""
        return self.buckets.get(math.inf, 0.0)

    @property
    def failed(self) -> float:
        """Requests with an error for an answer."""
        return sum(self.errors.values())

    @property
    def requests(self) -> float:
        """All requests."""
        return self.answered + self.failed

    @property
    def error_rate(self) -> float:
        """Failed by all requests; 0 without any."""
        return self.failed / self.requests if self.requests else 0.0

    def quantile(self, share: float) -> float | None:
        """The latency in seconds below which ``share`` of the answered requests lie; None without any.

        Between two limits, latencies are taken to be even, as Prometheus' ``histogram_quantile`` takes them. Limits are
        1.8 times the one before, so that this is how far off it may be.
        """
        total = self.answered
        if total <= 0:
            return None
        rank, lower, below = share * total, 0.0, 0.0
        for limit in sorted(self.buckets):
            within = self.buckets[limit]
            if within >= rank and within > below:
                if math.isinf(limit):
                    return lower / 1e6
                return (lower + (limit - lower) * (rank - below) / (within - below)) / 1e6
            lower, below = limit, within
        return lower / 1e6

    def since(self, earlier: Counts) -> Counts:
        """What was counted after ``earlier``. A counter that is lower than before began anew, with its process."""
        if any(self.errors.get(status, 0) < count for status, count in earlier.errors.items()) or any(
            self.buckets.get(limit, 0) < count for limit, count in earlier.buckets.items()
        ):
            return self
        return Counts(
            {
                status: count - earlier.errors.get(status, 0)
                for status, count in self.errors.items()
                if count != earlier.errors.get(status, 0)
            },
            {limit: count - earlier.buckets.get(limit, 0) for limit, count in self.buckets.items()},
        )


def total(parts: Iterable[Counts]) -> Counts:
    """The sum over replicas or models."""
    errors: dict[str, float] = {}
    buckets: dict[float, float] = {}
    for part in parts:
        for status, count in part.errors.items():
            errors[status] = errors.get(status, 0) + count
        for limit, count in part.buckets.items():
            buckets[limit] = buckets.get(limit, 0) + count
    return Counts(errors, buckets)


@dataclass
class Window:
    """The pages of one service's replicas over a time.

    A replica that was not there, or not heard, at the beginning counts from when it was first heard: what it did before
    may belong to another time. One that begins anew counts from its new beginning.
    """

    first: dict[str, Page] = field(default_factory=dict)
    last: dict[str, Page] = field(default_factory=dict)

    def add(self, replica: str, page: Page) -> None:
        """A page of a replica, newer than those before."""
        self.first.setdefault(replica, page)
        self.last[replica] = page

    def counts(self, model: str) -> Counts:
        """What was counted between the first and the last page of each replica."""
        return total(page.counts(model).since(self.first[replica].counts(model)) for replica, page in self.last.items())

    def before(self, model: str) -> Counts:
        """What the replicas had counted when they were first heard."""
        return total(page.counts(model) for page in self.first.values())

    def models(self) -> list[str]:
        """The models that were asked for anything."""
        return sorted({model for page in self.last.values() for model in page.models() if model})


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(lambda found: "\n" if found[1] == "n" else found[1], text)
