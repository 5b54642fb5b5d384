"""Alarms and schedules under the Pulumi CLI, alarms by the real alicloud provider where it is on this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.live.cli import Cli

pytestmark = pytest.mark.slow

WEBHOOK = "https://hooks.example.com/s3cret"
ALERTS = {"contactGroups": ["oncall", "managers"], "errorRate": True, "latency": {"averageMs": 200}}
NIGHT = {"at": "0 0 3 1 1 *", "replicas": 1}


@pytest.fixture(scope="module")
def stack(cli: Cli) -> Cli:
    """The stack with alerts for one service and a schedule for it, deployed."""
    cli.checkout.set(ALERTS, "tf-serving:alerts")
    cli.succeed("config", "set", "--secret", "--path", "tf-serving:alerts.webhook", WEBHOOK)
    cli.checkout.set(False, "tf-serving:services", "multi_grpc", "alerts")
    cli.checkout.set(
        {"timeZone": "Asia/Tokyo", "jobs": {"night": NIGHT}}, "tf-serving:services", "multi_http", "schedule"
    )
    assert "multi_http-error-rate" in cli.succeed("preview")
    cli.succeed("up", "--yes", "--skip-preview")
    return cli


def rules(cli: Cli) -> dict[str, Any]:
    """What CloudMonitor of the sandbox has, by the rule's name."""
    file = Path(cli.checkout.root) / ".sandbox" / "cloud" / "cms.json"
    return {rule["RuleName"]: rule for rule in json.loads(file.read_text(encoding="utf-8")).values()}


def test_alarms_are_made_and_an_up_to_date_stack_shows_no_change(stack: Cli) -> None:
    assert set(rules(stack)) == {
        "tf-serving-local-multi_http-error-rate",
        "tf-serving-local-multi_http-latency-average",
    }
    rule = rules(stack)["tf-serving-local-multi_http-error-rate"]
    assert (rule["Namespace"], rule["MetricName"]) == ("acs_learn", "rps_status_5xx_ratio")
    assert json.loads(rule["Resources"]) == [{"serviceName": "multi_http"}]
    assert (rule["ContactGroups"], rule["Webhook"], rule["EnableState"]) == ("oncall,managers", WEBHOOK, True)
    critical = rule["Escalations"]["Critical"]
    assert (critical["ComparisonOperator"], float(critical["Threshold"]), int(critical["Times"])) == (
        "GreaterThanThreshold",
        5.0,
        5,
    )
    stack.succeed("preview", "--expect-no-changes")
    stack.succeed("refresh", "--preview-only", "--expect-no-changes")
    stack.succeed("up", "--yes", "--skip-preview", "--expect-no-changes")


def test_the_webhook_is_in_no_state_in_the_clear(stack: Cli) -> None:
    stored = "".join(path.read_text(encoding="utf-8", errors="replace") for path in stack.state_files)
    assert WEBHOOK not in stored
    assert WEBHOOK not in stack.succeed("preview", "--diff")


def test_a_change_is_an_update_of_the_same_rule_and_the_end_removes_it(stack: Cli) -> None:
    ids = {rule["RuleId"] for rule in rules(stack).values()}
    stack.checkout.set({"percent": 1, "minutes": 10}, "tf-serving:alerts", "errorRate")
    stack.succeed("up", "--yes", "--skip-preview")
    assert {rule["RuleId"] for rule in rules(stack).values()} == ids
    critical = rules(stack)["tf-serving-local-multi_http-error-rate"]["Escalations"]["Critical"]
    assert (float(critical["Threshold"]), int(critical["Times"])) == (1.0, 10)
    stack.succeed("preview", "--expect-no-changes")
    stack.checkout.set(None, "tf-serving:alerts")
    stack.succeed("up", "--yes", "--skip-preview")
    assert rules(stack) == {}
    stack.succeed("preview", "--expect-no-changes")
