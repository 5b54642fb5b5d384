"""``tf-serving:alerts``, and what a service says over it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from config.alerts import merged
from config.stack import Settings, parse
from tfserving.alerts import ErrorRate, SlowAnswers
from tfserving.errors import ConfigError

Change = Callable[[dict[str, Any]], dict[str, Any]]
ALERTS = "tf-serving:alerts"
HTTP = "tf-serving:services.multi_http.alerts"
OF_THE_STACK = {"contactGroups": ["oncall"], "errorRate": True, "latency": {"averageMs": 200}}


@pytest.fixture
def read(changed: Change, project: Path) -> Callable[..., Settings]:
    def run(stack: Any = None, service: Any = None) -> Settings:
        changes = {key: value for key, value in ((ALERTS, stack), (HTTP, service)) if value is not None}
        return parse(changed(changes), project)

    return run


def of(settings: Settings, name: str) -> Any:
    return next(each.alerts for each in settings.services if each.name == name)


def test_without_it_nobody_is_told(read: Callable[..., Settings]) -> None:
    assert of(read(), "multi_http") is None


def test_every_service_has_the_alerts_of_the_stack(read: Callable[..., Settings]) -> None:
    settings = read(OF_THE_STACK)
    for service in settings.services:
        assert service.alerts is not None
        assert (service.alerts.error_rate, service.alerts.latency) == (ErrorRate(), SlowAnswers(average_ms=200))


def test_text_as_pulumi_hands_it_over_is_the_same(read: Callable[..., Settings]) -> None:
    assert read(json.dumps(OF_THE_STACK)) == read(OF_THE_STACK)


def test_a_service_changes_single_keys_leaves_rules_out_or_all(read: Callable[..., Settings]) -> None:
    own = {"errorRate": {"percent": 1}, "latency": {"minutes": 10}}
    found = of(read(OF_THE_STACK, own), "multi_http")
    assert (found.error_rate, found.latency) == (ErrorRate(percent=1), SlowAnswers(average_ms=200, minutes=10))
    assert of(read(OF_THE_STACK, {"errorRate": False}), "multi_http").rules == ("latency",)
    assert of(read(OF_THE_STACK, False), "multi_http") is None
    assert of(read(OF_THE_STACK, False), "multi_grpc") is not None


def test_a_service_may_have_alerts_of_its_own_alone(read: Callable[..., Settings]) -> None:
    settings = read(None, OF_THE_STACK)
    assert of(settings, "multi_http") is not None
    assert of(settings, "multi_grpc") is None


@pytest.mark.parametrize(
    ("below", "own", "together"),
    [
        ({"a": True}, {"a": {"x": 1}}, {"a": {"x": 1}}),
        ({"a": {"x": 1, "y": 2}}, {"a": {"x": 3}}, {"a": {"x": 3, "y": 2}}),
        ({"a": {"x": 1}}, {"a": False}, {"a": False}),
        ({"a": {"x": 1}}, None, {"a": {"x": 1}}),
        ({"a": {"x": 1}}, "false", "false"),
    ],
)
def test_alerts_are_merged_key_by_key(below: Any, own: Any, together: Any) -> None:
    assert merged(own, below) == together


@pytest.mark.parametrize(
    ("stack", "service", "path", "words"),
    [
        ({"errorRate": True}, None, "tf-serving:services.multi_http.alerts.contactGroups", "alarms tell nobody"),
        ({"errorRates": True}, None, "tf-serving:alerts.errorRates", "'errorRate'"),
        ({"errorRate": "yes"}, None, "tf-serving:alerts.errorRate", "true, false, or a mapping"),
        ({"latency": True}, None, "tf-serving:alerts.latency", "p99Ms"),
        ({"latency": {"minutes": 5}}, None, "tf-serving:alerts.latency", "no limit"),
        ({"errorRate": {"minutes": 0}}, None, "tf-serving:alerts.errorRate.minutes", "1"),
        ({"errorRate": {"percent": "many"}}, None, "tf-serving:alerts.errorRate.percent", "0.001 or more, below 100"),
        ({"errorRate": {"percent": 0}}, None, "tf-serving:alerts.errorRate.percent", "0.001 or more, below 100"),
        ({"errorRate": {"percent": -1}}, None, "tf-serving:alerts.errorRate.percent", "0.001 or more, below 100"),
        ({"errorRate": {"minutes": 0}}, None, "tf-serving:alerts.errorRate.minutes", "1 or more, at most 1440"),
        ({"errorRate": {"minutes": "x"}}, None, "tf-serving:alerts.errorRate.minutes", "1 or more, at most 1440"),
        ({"cloudMonitor": {"name": "x"}}, None, "tf-serving:alerts.cloudMonitor.name", "unknown key"),
        (["oncall"], None, "tf-serving:alerts", "mapping"),
        ({"errorRate": {"minutes": 1441}}, None, "tf-serving:alerts.errorRate.minutes", "at most 1440"),
        ({"noReplica": {"minutes": 10**9}}, None, "tf-serving:alerts.noReplica.minutes", "at most 1440"),
        ({"failedLoad": {"minutes": 10**40}}, None, "tf-serving:alerts.failedLoad.minutes", "at most 1440"),
        ({"latency": {"p99Ms": 1e9}}, None, "tf-serving:alerts.latency.p99Ms", "at most 3600000"),
        ({"latency": {"averageMs": 0}}, None, "tf-serving:alerts.latency.averageMs", "above 0"),
        ({"errorRate": {"percent": 1e-9}}, None, "tf-serving:alerts.errorRate.percent", "0.001 or more"),
        ({"errorRate": {"percent": 100}}, None, "tf-serving:alerts.errorRate.percent", "below 100"),
        ({"severity": ""}, None, "tf-serving:alerts.severity", "remove the key, which means critical"),
        ({"severity": "{{ .x }}"}, None, "tf-serving:alerts.severity", "template"),
        ({"selector": ""}, None, "tf-serving:alerts.selector", "the text is empty"),
        ({"labels": {"release": "a b"}}, None, "tf-serving:alerts.labels.release", "not the value of a label"),
        ({"labels": {"a//b": "x"}}, None, 'tf-serving:alerts.labels["a//b"]', "not a label"),
        ({"contactGroups": ["a,b"]}, None, "tf-serving:alerts.contactGroups[0]", "at each comma"),
        ({"contactGroups": [""]}, None, "tf-serving:alerts.contactGroups[0]", "empty"),
        ({"cloudMonitor": {"namespace": ""}}, None, "tf-serving:alerts.cloudMonitor.namespace", "means acs_learn"),
        ({"cloudMonitor": {"p99": "rt p99"}}, None, "tf-serving:alerts.cloudMonitor.p99", "not a name of CloudMonitor"),
        (OF_THE_STACK, {"latency": {"p99": 5}}, "tf-serving:services.multi_http.alerts.latency.p99", "p99Ms"),
        (OF_THE_STACK, True, "tf-serving:services.multi_http.alerts", "false, or a mapping"),
    ],
)
def test_a_mistake_is_told_where_it_is_written_and_once(
    read: Callable[..., Settings], stack: Any, service: Any, path: str, words: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        read(stack, service)
    told = [problem for problem in caught.value.problems if problem.path == path]
    assert len(told) == 1, str(caught.value)
    assert words in str(told[0])


def test_what_alarms_do_not_see_is_a_warning(read: Callable[..., Settings]) -> None:
    warnings = read({**OF_THE_STACK, "noReplica": True}).warnings
    assert any("multi_http: CloudMonitor has no alarm for noReplica" in each for each in warnings)
    assert any("multi_grpc: alarms count answers of the gateway by HTTP status" in each for each in warnings)
