"""Rules of alerts in Prometheus' own hands, where its `promtool` is on PATH."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.test_dashboard import without_variables
from tfserving import alerts, dashboard, promql
from tfserving.alerts import Alerts, ErrorRate, FailedLoad, NoReplica, SlowAnswers

CASES = Path(__file__).with_name("data") / "alert_rules_test.yaml"
ALL = Alerts(
    error_rate=ErrorRate(minutes=1),
    latency=SlowAnswers(p99_ms=500, average_ms=200, minutes=1),
    no_replica=NoReplica(minutes=1),
    failed_load=FailedLoad(),
)
SELECTORS = (ALL.selector, "job = 'it\\'s', pod!~\"{service}-[a-z]{5}\"", 'pod=~"{service}-.{4}"', 'x="\\"}"')


@pytest.fixture(scope="module")
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not on PATH (it comes with Prometheus)")
    return found


def run(promtool: str, *arguments: str, directory: Path) -> None:
    done = subprocess.run([promtool, *arguments], cwd=directory, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def write(file: Path, *groups: list[dict[str, Any]]) -> None:
    listed = [{"name": f"group{number}", "rules": rules} for number, rules in enumerate(groups)]
    file.write_text(yaml.safe_dump({"groups": listed}, sort_keys=False), encoding="utf-8")


def test_rules_fire_when_they_are_to_and_only_then(promtool: str, tmp_path: Path) -> None:
    write(tmp_path / "rules.yaml", alerts.prometheus_rules(ALL, "vision", "models"))
    shutil.copy(CASES, tmp_path)
    run(promtool, "test", "rules", CASES.name, directory=tmp_path)


@pytest.mark.parametrize("selector", SELECTORS)
def test_every_rule_is_one_by_whatever_a_service_is_chosen(promtool: str, selector: str, tmp_path: Path) -> None:
    extreme = Alerts(
        error_rate=ErrorRate(percent=0.001, minutes=90),
        latency=SlowAnswers(p99_ms=1e-7, average_ms=1e9),
        no_replica=NoReplica(minutes=10_000),
        failed_load=FailedLoad(minutes=100_000),
        selector=selector,
    )
    write(tmp_path / "rules.yaml", alerts.prometheus_rules(extreme, "vision", "models"))
    run(promtool, "check", "rules", "--lint=all", "--lint-fatal", "rules.yaml", directory=tmp_path)


def test_a_version_that_is_loaded_once_is_counted_and_one_of_long_ago_is_not(promtool: str, tmp_path: Path) -> None:
    expression = promql.loads('service="vision",status="success"', "1h")
    counters = {
        ("a", "/models/m/1"): "1x300",
        ("a", "/models/m/2"): "_x200 1x100",
        ("b", "/models/m/2"): "_x200 1x100",
        ("a", "/models/m/3"): "1x200 2x100",
    }
    series = [
        {
            "series": f'{promql.LOAD_ATTEMPTS}{{service="vision",pod="{pod}",model_path="{path}",status="success"}}',
            "values": values,
        }
        for (pod, path), values in counters.items()
    ]
    samples = [
        {"labels": f'{{model_path="/models/m/{version}"}}', "value": value}
        for version, value in ((1, 0), (2, 2), (3, 1))
    ]
    # increase() reckons up to the ends of the hour, so that there are fractions.
    asked = {"expr": f"round({expression})", "eval_time": "110m", "exp_samples": samples}
    test = {"interval": "30s", "input_series": series, "promql_expr_test": [asked]}
    text = yaml.safe_dump({"evaluation_interval": "30s", "tests": [test]})
    (tmp_path / "loads.yaml").write_text(text, encoding="utf-8")
    run(promtool, "test", "rules", "loads.yaml", directory=tmp_path)


def test_every_expression_of_the_dashboard_is_one(promtool: str, tmp_path: Path) -> None:
    expressions = dashboard.expressions()
    records = [{"record": f"panel{number}", "expr": without_variables(each)} for number, each in enumerate(expressions)]
    write(tmp_path / "rules.yaml", records)
    run(promtool, "check", "rules", "--lint=all", "--lint-fatal", "rules.yaml", directory=tmp_path)


def test_the_scrape_config_of_the_page_is_one(promtool: str, tmp_path: Path) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "monitoring.md").read_text(encoding="utf-8")
    [block] = [
        each for each in re.findall(r"^```yaml\n(.*?)^```", page, re.MULTILINE | re.DOTALL) if "scrape_c" in each
    ]
    (tmp_path / "prometheus.yml").write_text(block, encoding="utf-8")
    run(promtool, "check", "config", "--syntax-only", "prometheus.yml", directory=tmp_path)
