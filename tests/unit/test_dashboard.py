"""The Grafana dashboard: its form, and that its expressions ask for what servers really have."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from tfserving import dashboard, promql, server_config

ROOT = Path(__file__).resolve().parents[2]


def without_variables(expression: str) -> str:
    """An expression with something in the place of Grafana's variables."""
    return expression.replace("$__rate_interval", "5m").replace("$", "")


def test_the_file_in_the_docs_is_of_today() -> None:
    assert (ROOT / "docs" / "grafana-dashboard.json").read_text(encoding="utf-8") == dashboard.text()


def test_grafanas_own_types_read_it_and_write_the_same() -> None:
    read = Dashboard.from_json(dashboard.dashboard())
    written = json.loads(JSONEncoder().encode(read))
    assert _missing(dashboard.dashboard(), written, "") == []


def _missing(ours: Any, theirs: Any, path: str) -> list[str]:
    """Paths of what was lost or changed."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return [each for key, value in ours.items() for each in _missing(value, theirs.get(key), f"{path}.{key}")]
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        return [each for i, value in enumerate(ours) for each in _missing(value, theirs[i], f"{path}[{i}]")]
    return [] if ours == theirs or (ours in ([], {}, "") and theirs is None) else [f"{path}: {ours!r} != {theirs!r}"]


@pytest.mark.parametrize("expression", dashboard.expressions())
def test_every_expression_is_promql_and_asks_for_metrics_and_labels_that_there_are(expression: str) -> None:
    asked = list(selectors(promql_parser.parse(without_variables(expression))))
    assert asked
    for name, labels in asked:
        known = known_labels(name)
        assert known is not None, name
        assert labels <= known, (name, labels - known)


def known_labels(name: str) -> set[str] | None:
    """Labels that a series may have; ``None`` for one that nobody has."""
    if name == "up" or name.startswith("DCGM_"):
        return set(promql.TARGET_LABELS)
    bare = re.sub(r"_(bucket|count|sum)$", "", name)
    found = promql.METRICS.get(name) or promql.METRICS.get(bare)
    return {*found[1], "le", *promql.TARGET_LABELS} if found else None


def selectors(node: Any) -> list[tuple[str, set[str]]]:
    """Names and labels of every vector that an expression reads."""
    if isinstance(node, promql_parser.VectorSelector):
        return [(node.name, {each.name for each in node.matchers.matchers})]
    found = []
    for attribute in ("expr", "lhs", "rhs", "vector_selector", "args"):
        inner = getattr(node, attribute, None)
        for each in inner if isinstance(inner, list) else [inner] if inner is not None else []:
            found += selectors(each)
    return found


def test_panels_lie_beside_each_other_and_have_numbers_of_their_own() -> None:
    panels = [inner for each in dashboard.dashboard()["panels"] for inner in (each, *each.get("panels", []))]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells


def test_the_scrape_config_of_the_page_gives_series_the_labels_that_the_dashboard_asks_for() -> None:
    page = (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```yaml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    [found] = [read for block in blocks if "scrape_configs" in (read := yaml.safe_load(block))]
    [job] = found["scrape_configs"]
    assert job["metrics_path"].endswith(server_config.METRICS_PATH)
    [static] = job["static_configs"]
    asked = set(re.findall(r"label_values\(.*?, (namespace|service)\)", dashboard.text()))
    assert set(static["labels"]) == asked == {"namespace", "service"}
