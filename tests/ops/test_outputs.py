"""What services a stack has, by its exports and by its state."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ops import engine, outputs, state

ADDRESS = {"protocol": "http", "url": "http://127.0.0.1:1/api/predict/vision/", "token": "hush"}
MODELS = {"shoes": {"versions": [1, "9007199254740993"], "labels": {"stable": "9007199254740993"}}}
READ = {"shoes": {"versions": [1, 9007199254740993], "labels": {"stable": 9007199254740993}}}


def deployed(monkeypatch: pytest.MonkeyPatch, exports: dict[str, Any], component: dict[str, Any] | None) -> list[Any]:
    """An engine whose stack has these exports, and a component with these outputs; what the engine is asked."""
    asked: list[Any] = []
    resources = [
        {"type": "pulumi:pulumi:Stack", "urn": "urn:pulumi:dev::p::pulumi:pulumi:Stack::p", "outputs": exports}
    ]
    if component is not None:
        urn = "urn:pulumi:dev::p::tfserving:index:ServingStack::serving"
        resources.append({"type": "tfserving:index:ServingStack", "urn": urn, "outputs": component})

    def run(_: str, arguments: list[str], *__: object) -> engine.Done:
        asked.append(arguments)
        return engine.Done(0, json.dumps({"deployment": {"resources": resources}}), "")

    monkeypatch.setattr(state, "run", run)
    monkeypatch.setattr(state, "resolve", lambda *_: "pulumi")
    return asked


def test_what_services_serve_is_read_from_the_component_of_the_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    deployed(monkeypatch, {"services": {"vision": ADDRESS}}, {"services": {"vision": {**ADDRESS, "models": MODELS}}})
    found = outputs.services("dev")["vision"]
    assert (found.url, found.token, found.models) == ("http://127.0.0.1:1/api/predict/vision", "hush", READ)


def test_the_engine_is_run_once_for_addresses_tokens_and_models(monkeypatch: pytest.MonkeyPatch) -> None:
    token = {"4dabf18193072939515e22adb298388d": "1b47061264138c4ac30d75fd1eb44270", "plaintext": '"hush"'}
    exports = {"services": {"vision": {**ADDRESS, "token": token}}}
    asked = deployed(monkeypatch, exports, {"services": {"vision": {"models": MODELS}}})
    found = outputs.services("dev")["vision"]
    assert (found.token, found.models) == ("hush", READ)
    assert asked == [["stack", "export", "--show-secrets"]]


def test_exports_of_an_earlier_release_say_it_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    deployed(monkeypatch, {"services": {"vision": {**ADDRESS, "models": MODELS}}}, None)
    assert outputs.services("dev")["vision"].models == READ


def test_a_state_without_the_component_leaves_the_models_open(monkeypatch: pytest.MonkeyPatch) -> None:
    deployed(monkeypatch, {"services": {"vision": ADDRESS}}, None)
    assert outputs.services("dev")["vision"].models == {}


@pytest.mark.parametrize("exports", [{}, {"services": {}}, {"bucket": "b"}])
def test_a_stack_without_services_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch, exports: dict[str, Any]) -> None:
    deployed(monkeypatch, exports, None)
    with pytest.raises(outputs.OutputsError, match=r"'dev' exports no services; deploy it first \(`pulumi up -s dev`"):
        outputs.services("dev")


def test_a_group_serves_what_its_members_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    group = {**ADDRESS, "weights": {"empty": 10, "vision": 90}}
    exports = {"services": {"empty": ADDRESS, "vision": ADDRESS}, "traffic": {"group": group}}
    component = {"services": {"empty": ADDRESS, "vision": {**ADDRESS, "models": MODELS}}}
    deployed(monkeypatch, exports, component)
    assert outputs.groups_of(state.read("dev"))["group"].models == READ
