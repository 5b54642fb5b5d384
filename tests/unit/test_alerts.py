"""What becomes of alerts: alarms of CloudMonitor, and rules of a Prometheus that ask for what servers really have."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import promql_parser
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.test_dashboard import known_labels, selectors
from tfserving import alerts, promql
from tfserving.alerts import Alerts, CloudMonitor, ErrorRate, FailedLoad, NoReplica, SlowAnswers

ALL = Alerts(
    error_rate=ErrorRate(),
    latency=SlowAnswers(p99_ms=500, average_ms=200),
    no_replica=NoReplica(),
    failed_load=FailedLoad(),
    contact_groups=("oncall",),
)


def test_cloudmonitor_gets_an_alarm_for_what_it_measures() -> None:
    found = [(alarm.key, alarm.metric, alarm.threshold, alarm.minutes) for alarm in alerts.alarms(ALL)]
    assert found == [("error-rate", "rps_status_5xx_ratio", "5", 5), ("latency-average", "rt", "200000", 5)]
    assert json.loads(alerts.dimensions(ALL, "vision")) == [{"serviceName": "vision"}]


@pytest.mark.parametrize(
    ("milliseconds", "written"),
    [(1000, "1000000"), (1234.567, "1234567"), (2500.0, "2500000"), (0.1, "100"), (1.1, "1100"), (1e-8, "0.00001")],
)
def test_a_threshold_has_all_digits_and_no_exponent(milliseconds: float, written: str) -> None:
    slow = Alerts(latency=SlowAnswers(average_ms=milliseconds))
    assert [alarm.threshold for alarm in alerts.alarms(slow)] == [written]


def test_what_cloudmonitor_does_not_measure_is_named() -> None:
    told = alerts.unseen(ALL)
    assert "noReplica, failedLoad, latency.p99Ms of PAI-EAS" in told
    assert alerts.unseen(Alerts(error_rate=ErrorRate())) == ""


def test_other_names_of_an_account_are_taken() -> None:
    names = CloudMonitor(namespace="acs_pai", dimension="service", average="rt_avg", p99="rt_p99")
    named = replace(ALL, cloud_monitor=names, no_replica=None, failed_load=None)
    assert [alarm.metric for alarm in alerts.alarms(named)] == ["rps_status_5xx_ratio", "rt_p99", "rt_avg"]
    assert json.loads(alerts.dimensions(named, "vision")) == [{"service": "vision"}]
    assert alerts.unseen(named) == ""


def test_nothing_is_on_by_itself() -> None:
    assert Alerts().rules == ()
    assert alerts.alarms(Alerts()) == []
    assert alerts.prometheus_rules(Alerts(), "vision", "models") == []


def rules(of: Alerts = ALL, service: str = "vision", namespace: str = "models") -> dict[str, Any]:
    return {rule["alert"]: rule for rule in alerts.prometheus_rules(of, service, namespace)}


def test_every_rule_is_promql_and_asks_for_metrics_and_labels_that_there_are() -> None:
    assert len(rules()) == 5
    for name, rule in rules().items():
        asked = selectors(promql_parser.parse(rule["expr"]))
        assert asked, name
        for metric, labels in asked:
            known = known_labels(metric)
            assert known is not None, metric
            assert {"namespace", "service"} <= labels <= known, (metric, labels)


def test_rules_say_whose_they_are_and_how_long_it_has_to_hold() -> None:
    down = rules()["TensorFlowServingDown"]
    assert down["for"] == "5m"
    assert down["labels"] == {"severity": "critical", "namespace": "models", "service": "vision"}
    assert down["annotations"]["summary"].startswith("models/vision: ")
    assert "for" not in rules()["TensorFlowServingLoadFailed"], "its window is in the expression"
    assert "[20m]" in rules(replace(ALL, failed_load=FailedLoad(minutes=20)))["TensorFlowServingLoadFailed"]["expr"]


def test_a_load_that_failed_once_in_a_new_process_is_seen() -> None:
    assert "unless" in promql.failed_loads("", "15m")
    assert "offset 15m" in promql.failed_loads("", "15m")


@given(st.from_regex(r"[a-z]([-a-z0-9]{0,20}[a-z0-9])?", fullmatch=True), st.floats(0.001, 99.9))
def test_any_service_and_limit_give_promql(service: str, percent: float) -> None:
    of = replace(ALL, error_rate=ErrorRate(percent=percent), selector='job=~"a|b",pod=~"{service}-.*"')
    for rule in rules(of, service).values():
        promql_parser.parse(rule["expr"])


@pytest.mark.parametrize(
    ("wrong", "path", "message"),
    [
        (Alerts(error_rate=ErrorRate(percent=0)), "a.errorRate.percent", "percent is 0"),
        (Alerts(error_rate=ErrorRate(percent=100)), "a.errorRate.percent", "percent is 100"),
        (Alerts(latency=SlowAnswers()), "a.latency", "no limit"),
        (Alerts(webhook="hooks.example.com"), "a.webhook", "not a URL"),
        (Alerts(severity="{{ $value }}"), "a.severity", "template"),
        (Alerts(contact_groups=("a", "b,c")), "a.contactGroups[1]", "`b,c`"),
        (Alerts(selector='{service="x"}'), "a.selector", "chooses no series"),
        (Alerts(selector="x"), "a.selector", "chooses no series"),
        (Alerts(selector='job="x'), "a.selector", "chooses no series"),
        (Alerts(selector='job="x" service="{service}"'), "a.selector", "chooses no series"),
        (Alerts(selector="job=x"), "a.selector", "chooses no series"),
        (Alerts(selector='job="x",'), "a.selector", "chooses no series"),
        (Alerts(selector='job="x"} or vector(1) > {a="b"'), "a.selector", "chooses no series"),
        (Alerts(cloud_monitor=CloudMonitor(namespace="")), "a.cloudMonitor.namespace", "`` is not a name"),
        (Alerts(cloud_monitor=CloudMonitor(error_percent="")), "a.cloudMonitor.errorPercent", "`` is not a name"),
    ],
)
def test_each_fault_is_told_where_it_stands(wrong: Alerts, path: str, message: str) -> None:
    [problem] = alerts.problems(wrong, "a")
    assert problem.path == path
    assert message in problem.message


@pytest.mark.parametrize(
    "selector",
    ['job="tf"', "job = 'it\\'s', pod!~\"{service}-[a-z]{5}\"", 'pod=~"{service}-.{4}"', 'a="b,c=d"', 'x="\\"}"'],
)
def test_what_promql_takes_as_matchers_is_a_selector(selector: str) -> None:
    assert list(alerts.problems(Alerts(selector=selector), "a")) == []
    for rule in rules(replace(ALL, selector=selector)).values():
        promql_parser.parse(rule["expr"])


def test_a_webhook_is_in_no_message() -> None:
    [problem] = alerts.problems(Alerts(webhook="s3cret"), "a")
    assert "s3cret" not in str(problem)
