"""Groups of services in the program, run against a mock of Pulumi's engine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.components.mock_engine import Run, run_program

Change = Callable[[dict[str, Any]], dict[str, Any]]
Deploy = Callable[..., Run]

SERVICES = "tf-serving:services"
TRAFFIC = "tf-serving:traffic"


@pytest.fixture
def deploy(changed: Change, project: Path) -> Deploy:
    def run(changes: dict[str, Any] | None = None, **options: Any) -> Run:
        config = changed(changes or {})
        config["tf-serving:modelSource"] = str(project / config["tf-serving:modelSource"])
        return run_program(config, **options)

    return run


def group(good: dict[str, Any], weights: dict[str, int], **keys: Any) -> dict[str, Any]:
    """Two more services like ``multi_http``, and a group."""
    like = dict(good[SERVICES]["multi_http"])
    return {f"{SERVICES}.canary": like, f"{SERVICES}.shadow": like, f"{TRAFFIC}.vision": {"weights": weights, **keys}}


def test_a_group_is_one_resource_after_everything_that_its_services_serve(deploy: Deploy, good: dict[str, Any]) -> None:
    mirror = {"to": "shadow", "percent": 20}
    run = deploy(group(good, {"multi_http": 90, "canary": 10}, mirror=mirror))
    assert run.error == ""
    split = run.resources["vision-split"]
    assert split.type == "tfserving:index:TrafficSplit"
    assert split.inputs["weights"] == {"multi_http": 90, "canary": 10}
    assert split.inputs["mirror"] == mirror
    assert split.inputs["owner"] == run.resources["multi_http-service"].inputs["owner"]
    assert split.depends_on >= {"multi_http-service", "canary-service", "shadow-service", "served"}
    assert "providers:tfserving::tfserving::" in split.provider
    groups = {
        name: run.resources[f"{name}-service"].inputs["spec"]["metadata"].get("group")
        for name in ("multi_http", "canary", "shadow", "multi_grpc")
    }
    assert groups == {"multi_http": "vision", "canary": "vision", "shadow": None, "multi_grpc": None}


def test_clients_find_the_address_and_the_secret_token_among_the_outputs(deploy: Deploy, good: dict[str, Any]) -> None:
    run = deploy({**group(good, {"multi_http": 90, "canary": 10}), f"{TRAFFIC}.sound.weights.multi_grpc": 100})
    assert run.outputs["traffic"] == {
        "vision": {
            "protocol": "http",
            "url": "http://gateway/api/predict/group",
            "token": {"secret": "token of vision-split"},
            "weights": {"multi_http": 90, "canary": 10},
        },
        "sound": {
            "protocol": "grpc",
            "target": "gateway:81",
            "token": {"secret": "token of sound-split"},
            "weights": {"multi_grpc": 100},
        },
    }


def test_a_member_is_gated_where_every_model_that_it_answers_for_has_a_gate(
    deploy: Deploy, good: dict[str, Any]
) -> None:
    changes = group(good, {"multi_http": 90, "canary": 10})
    gates = {f"tf-serving:models.{name}.gate": {"signatures": "compatible"} for name in ("modelA", "modelB", "modelC")}
    assert deploy({**changes, **gates}).resources["vision-split"].inputs["gated"] == ["multi_http", "canary"]
    one_without = {**changes, **gates, "tf-serving:models.modelA.gate": ...}
    assert deploy(one_without).resources["vision-split"].inputs["gated"] == []


def test_a_stack_without_traffic_has_no_further_resource_and_no_further_output(deploy: Deploy) -> None:
    run = deploy()
    assert "traffic" not in run.outputs
    assert not [found for found in run.resources.values() if "Traffic" in found.type]
