"""Counters and distributions of the server, and their Prometheus page.

Sources: ``servables/tensorflow/util.cc`` and ``batching/batching_session.cc`` (names, labels, buckets),
``util/prometheus_exporter.cc`` (the page).
"""

from __future__ import annotations

import bisect
import re
import threading
from collections.abc import Iterator

DEFAULT_PATH = "/monitoring/prometheus/metrics"

_REGISTRY: dict[str, Counter | Distribution] = {}


def _exponential(scale: float, factor: float, count: int) -> tuple[float, ...]:
    return tuple(scale * factor**power for power in range(count))


LATENCY_BUCKETS = _exponential(10, 1.8, 33)
"""Microseconds: 10 to about 20 minutes."""


class _Metric:
    def __init__(self, name: str, *labels: str) -> None:
        self.name = name
        self.labels = labels
        self._lock = threading.Lock()

    @property
    def page_name(self) -> str:
        return re.sub(r"[^a-zA-Z0-9_]", ":", self.name)

    def _labelled(self, values: tuple[str, ...], *more: str) -> str:
        pairs = [
            f'{re.sub(r"[^a-zA-Z0-9]", "_", name)}="{_escape(value)}"'
            for name, value in zip(self.labels, values, strict=True)
        ]
        return "{" + ",".join([*pairs, *more]) + "} "


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"')


class Counter(_Metric):
    """Counts events, apart for each combination of label values."""

    def __init__(self, name: str, *labels: str) -> None:
        super().__init__(name, *labels)
        self._cells: dict[tuple[str, ...], int] = {}
        _REGISTRY[name] = self

    def add(self, *values: str, amount: int = 1) -> None:
        """Counts ``amount`` events with these label values."""
        with self._lock:
            self._cells[values] = self._cells.get(values, 0) + amount

    def first(self) -> int:
        """The first cell's count, as a reload response reports it; 0 while there is none."""
        with self._lock:
            return next(iter(self._cells.values()), 0)

    def lines(self) -> Iterator[str]:
        """Lines of the Prometheus page."""
        yield f"# TYPE {self.page_name} counter"
        with self._lock:
            cells = list(self._cells.items())
        for values, count in cells:
            yield f"{self.page_name}{self._labelled(values)}{count}"


class Distribution(_Metric):
    """A histogram, apart for each combination of label values."""

    def __init__(self, name: str, *labels: str, buckets: tuple[float, ...] = LATENCY_BUCKETS) -> None:
        super().__init__(name, *labels)
        self._limits = buckets
        self._cells: dict[tuple[str, ...], tuple[list[int], list[float]]] = {}
        _REGISTRY[name] = self

    def add(self, sample: float, *values: str) -> None:
        """Adds a sample with these label values."""
        with self._lock:
            counts, total = self._cells.setdefault(values, ([0] * (len(self._limits) + 1), [0.0]))
            counts[bisect.bisect_right(self._limits, sample)] += 1
            total[0] += sample

    def lines(self) -> Iterator[str]:
        """Lines of the Prometheus page."""
        name = self.page_name
        yield f"# TYPE {name} histogram"
        with self._lock:
            cells = [(values, list(counts), total[0]) for values, (counts, total) in self._cells.items()]
        for values, counts, total in cells:
            cumulative = 0
            for limit, count in zip([*(f"{limit:g}" for limit in self._limits), "+Inf"], counts, strict=True):
                cumulative += count
                bucket = f'le="{limit}"'
                yield f"{name}_bucket{self._labelled(values, bucket)}{cumulative}"
            yield f"{name}_sum{self._labelled(values)}{total:g}"
            yield f"{name}_count{self._labelled(values)}{cumulative}"


REQUEST_COUNT = Counter("/tensorflow/serving/request_count", "model_name", "status")
REQUEST_LATENCY = Distribution("/tensorflow/serving/request_latency", "model_name", "API", "entrypoint")
RUNTIME_LATENCY = Distribution("/tensorflow/serving/runtime_latency", "model_name", "API", "runtime")
EXAMPLE_COUNTS = Distribution("/tensorflow/serving/request_example_counts", "model", buckets=_exponential(1, 2, 15))
EXAMPLE_COUNT_TOTAL = Counter("/tensorflow/serving/request_example_count_total", "model")
WARMUP_LATENCY = Distribution("/tensorflow/serving/model_warmup_latency", "model_path", "status")
WARMUP_RECORDS = Counter("/tensorflow/serving/model_warmup_records_read", "model_path", "status")
QUEUING_LATENCY = Distribution(
    "/tensorflow/serving/batching_session/queuing_latency", "thread_pool_name", buckets=_exponential(100, 1.2, 52)
)
WRAPPED_RUNS = Counter("/tensorflow/serving/batching_session/wrapped_run_count")
LOAD_LATENCY = Counter("/tensorflow/cc/saved_model/load_latency", "model_path")
"""Microseconds, in total."""
LOAD_ATTEMPTS = Counter("/tensorflow/cc/saved_model/load_attempt_count", "model_path", "status")


def page() -> str:
    """The Prometheus page: metrics by name, with a final newline."""
    return "\n".join(line for name in sorted(_REGISTRY) for line in _REGISTRY[name].lines()) + "\n"


def counter_value(name: str) -> int:
    """The value a reload response reports for a metric; 0 for one that is no counter or unknown."""
    metric = _REGISTRY.get(name)
    return metric.first() if isinstance(metric, Counter) else 0
