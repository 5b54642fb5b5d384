"""The Prometheus page."""

from __future__ import annotations

import pytest

from sandbox.model_server import metrics
from sandbox.model_server.metrics import Counter, Distribution


@pytest.fixture(autouse=True)
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_REGISTRY", {})


def test_a_counter_counts_apart_for_each_combination_of_labels() -> None:
    counter = Counter("/t/count", "model_name", "status")
    counter.add("m", "OK")
    counter.add("m", "OK", amount=2)
    counter.add('we"ird\\', "OK")
    assert metrics.page() == (
        "# TYPE :t:count counter\n"
        ':t:count{model_name="m",status="OK"} 3\n'
        ':t:count{model_name="we\\"ird\\\\",status="OK"} 1\n'
    )
    assert metrics.counter_value("/t/count") == 3


def test_a_distribution_has_cumulative_buckets_a_sum_and_a_count() -> None:
    distribution = Distribution("/t/size", "model", buckets=(1, 2))
    for sample in (0.5, 1.5, 1.6, 7):
        distribution.add(sample, "m")
    assert metrics.page() == (
        "# TYPE :t:size histogram\n"
        ':t:size_bucket{model="m",le="1"} 1\n'
        ':t:size_bucket{model="m",le="2"} 3\n'
        ':t:size_bucket{model="m",le="+Inf"} 4\n'
        ':t:size_sum{model="m"} 10.6\n'
        ':t:size_count{model="m"} 4\n'
    )


def test_metrics_are_listed_by_name_and_silent_ones_by_their_type_only() -> None:
    Counter("/b")
    Counter("/a")
    assert metrics.page() == "# TYPE :a counter\n# TYPE :b counter\n"


def test_an_unknown_metric_and_a_distribution_count_nothing() -> None:
    Distribution("/d").add(1)
    assert metrics.counter_value("/d") == metrics.counter_value("/none") == 0
