"""The schema against that of the last release: what breaks is known, named, and announced by the version."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from plugin.package import SCHEMA
from tests.plugin.compatibility import breaking
from tfserving.contract import VERSION

DATA = Path(__file__).with_name("data")
RELEASED: dict[str, Any] = json.loads((DATA / "schema_0_1_0.json").read_text(encoding="utf-8"))
"""What release 0.1.0 answered to ``GetSchema``. A release puts its own in its place, and empties the list beside it."""

KNOWN = (DATA / "breaking_since_0_1_0.txt").read_text(encoding="utf-8").splitlines()
NOW: dict[str, Any] = json.loads(SCHEMA.read_text(encoding="utf-8"))


def test_what_breaks_programs_of_the_last_release_is_known() -> None:
    found = breaking(RELEASED, NOW)
    assert found == KNOWN, "the schema breaks programs: undo it, or list it and announce it in CHANGELOG.md"


def test_a_version_that_breaks_programs_says_so_by_its_number() -> None:
    released, now = (tuple(map(int, version.split("."))) for version in (RELEASED["version"], VERSION))
    significant = 1 if released[0] else 2  # before 1.0.0, the second number
    assert not KNOWN or now == released or now[:significant] > released[:significant]


def _input(schema: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = schema["resources"]["tfserving:index:TensorFlowServing"]["inputProperties"][name]
    return found


def _service(schema: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = schema["resources"]["tfserving:index:TensorFlowServing"]
    return found


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda new: new["resources"].pop("tfserving:index:GpuNodePool"), "GpuNodePool: gone"),
        (lambda new: new["types"].pop("tfserving:index:Vpc"), "Vpc: gone"),
        (lambda new: _service(new)["inputProperties"].pop("grpc"), "TensorFlowServing.grpc: the input is gone"),
        (lambda new: _service(new)["properties"].pop("url"), "TensorFlowServing.url: the output is gone"),
        (lambda new: _service(new)["required"].remove("url"), "TensorFlowServing.url: the output may be missing"),
        (lambda new: _service(new)["requiredInputs"].append("grpc"), "TensorFlowServing.grpc: the input is required"),
        (lambda new: _input(new, "gateway").update(plain=True), "gateway: the input takes no outputs any more"),
        (lambda new: _input(new, "replicas").update(type="string"), "replicas: the input takes string, not integer"),
        (
            lambda new: new["types"]["tfserving:index:Vpc"]["required"].append("zone"),
            "Vpc.zone: the input is required",
        ),
    ],
)
def test_each_kind_of_break_is_named(change: Callable[[dict[str, Any]], object], named: str) -> None:
    new = copy.deepcopy(NOW)
    change(new)
    assert any(named in each for each in breaking(NOW, new))


def test_what_is_added_or_widened_breaks_nothing() -> None:
    new = copy.deepcopy(NOW)
    _service(new)["inputProperties"]["another"] = {"type": "string"}
    _service(new)["properties"]["another"] = {"type": "string"}
    _input(new, "replicas").pop("plain")
    replicas = _input(new, "replicas")
    replicas["oneOf"] = [{"type": replicas.pop("type")}, {"type": "string"}]
    new["resources"]["tfserving:index:Other"] = {}
    assert breaking(NOW, new) == []
