"""What `ops status` and `ops logs` make of what they find."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops import state, status, story
from ops.outputs import ExportedService
from ops.status import GroupStatus, ModelStatus, ServiceStatus, Status
from tests.ops.terminal import on_terminal
from tfserving.errors import CloudError

NOW = 1_790_000_000.0


def resource(kind: str = state.SERVED_CONFIG, **outputs: Any) -> state.Resource:
    return state.Resource(kind, "n", "i", {}, outputs, "2026-09-21T13:00:00.5Z")


def test_the_tables_say_who_serves_what_and_since_when() -> None:
    found = Status(
        "local",
        "2026-09-21T14:06:40Z",
        (
            ServiceStatus("multi_http", "http", "Running", 2, 2, "2026-09-21T14:00:00Z", "2026-09-21T14:06:40Z"),
            ServiceStatus("other", "grpc", "Failed", 0, 1, "yesterday", problem="no answer\x1b[2J"),
        ),
        (
            ModelStatus(
                "modelB",
                ("multi_http",),
                {"1": "AVAILABLE", "2": "LOADING", "3": "AVAILABLE"},
                {"stable": 1},
                "version 2 passed",
            ),
        ),
        (
            GroupStatus("vision", {"multi_http": 90, "other": 10}, {"to": "shadow", "percent": 5}),
            GroupStatus("plain", {"multi_http": 100}),
        ),
        {"model": "modelB", "label": "stable", "to": 2, "step": 1, "steps": 3, "back": False},
    )
    lines = status.report(found, NOW).text().split("\n")
    assert lines == [
        "stack local, last rollout 6m 40s ago",
        "promotion of modelB (stable) under way to version 2: step 1 of 3",
        "",
        "SERVICE     PROTOCOL  STATUS   REPLICAS  CHANGED      ROLLOUT",
        "multi_http  http      Running  2/2       13m 20s ago  6m 40s ago",
        "other       grpc      Failed   0/1       yesterday    -",
        "  other: no answer\\u{1b}[2J",
        "",
        "MODEL   VERSIONS                   LABELS       GATE              SERVICES",
        "modelB  1, 3 AVAILABLE; 2 LOADING  stable -> 1  version 2 passed  multi_http",
        "",
        "GROUP   REQUESTS                     COPIES",
        "vision  multi_http 90 %, other 10 %  5 % to shadow",
        "plain   multi_http 100 %             -",
    ]
    json.dumps(found.to_dict())


def test_a_stack_without_anything_is_told_without_a_table_falling_over() -> None:
    assert status.report(Status("empty"), NOW).text().startswith("stack empty")


def test_what_nobody_could_be_asked_is_unknown_and_not_none() -> None:
    found = Status(
        "s",
        services=(ServiceStatus("web", "http", "unknown", None, None, problem="no answer"),),
        models=(ModelStatus("shoes", ("web",), None, {"stable": 1}), ModelStatus("hats", ("web",), {}, {})),
    )
    assert status.report(found, NOW).text().split("\n")[2:] == [
        "SERVICE  PROTOCOL  STATUS   REPLICAS  CHANGED  ROLLOUT",
        "web      http      unknown  unknown   -        -",
        "  web: no answer",
        "",
        "MODEL  VERSIONS  LABELS       SERVICES",
        "shoes  unknown   stable -> 1  web",
        "hats   none      -            web",
    ]
    value = json.loads(json.dumps(found.to_dict()))
    assert [each["versions"] for each in value["models"]] == [None, {}]
    assert (value["services"][0]["running"], value["services"][0]["total"]) == (None, None)
    assert not any(model.is_well for model in found.models)


class _CloudThatIsDown:
    def describe(self, name: str) -> None:
        raise CloudError(f"DescribeService {name}: no answer")


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "", "not a URL"])
def test_a_service_that_cannot_be_asked_says_why_and_nothing_of_its_versions(url: str) -> None:
    service = ExportedService("web", "http", url, "", "t", {"shoes": {"labels": {}}})
    told = status._service(service, {}, _CloudThatIsDown())
    assert (told.status, told.running, told.total) == ("unknown", None, None)
    assert told.problem == "DescribeService web: no answer"
    states, problem = status._states(service)
    assert states == {}
    assert problem
    [model] = status._models([service], [states], {})
    assert model.versions is None


def many(count: int, *ill: ModelStatus) -> tuple[ModelStatus, ...]:
    well = [ModelStatus(f"m{number:03}", ("s",), {"1": "AVAILABLE"}, {"stable": 1}) for number in range(count)]
    return (*well, *ill)


LOADING = ModelStatus("slow", ("s",), {"1": "AVAILABLE", "2": "LOADING"}, {})
ASTRAY = ModelStatus("astray", ("s",), {"2": "AVAILABLE"}, {"stable": 1})
UNPROVEN = ModelStatus("unproven", ("s",), {"1": "AVAILABLE"}, {}, "version 2 did not pass")
NOWHERE = ModelStatus("nowhere", ("s",), {}, {})


def test_of_many_models_a_terminal_is_shown_those_that_are_not_well() -> None:
    lines = status.report(Status("s", models=many(300, LOADING, ASTRAY, UNPROVEN, NOWHERE)), NOW, most=30).text()
    for model in ("slow", "astray", "unproven", "nowhere"):
        assert model in lines
    assert "m001" not in lines
    assert lines.endswith(
        "\n300 more models, well: every version AVAILABLE, every label on one. --all shows them, --model PATTERN some"
    )
    assert len(lines.split("\n")) == 10


def test_more_ills_than_there_is_room_for_are_counted() -> None:
    ill = [replace(LOADING, model=f"ill{number}") for number in range(50)]
    lines = status.report(Status("s", models=many(300, *ill)), NOW, most=30).text().split("\n")
    assert lines[-1].startswith("320 more models, 20 of them not well.")


def test_all_models_are_shown_where_they_are_few_or_all_were_asked_for() -> None:
    for most in (None, 300):
        assert "m299" in status.report(Status("s", models=many(300)), NOW, most=most).text()
    text = status.report(Status("s", models=many(300)), NOW, most=30).text()
    assert "MODEL  " not in text
    assert "300 models, well" in text


def test_only_what_fits_a_pattern_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    models = {name: {"labels": {}} for name in ("shoes-men", "shoes-women", "hats")}
    services = {
        "web": ExportedService("web", "http", "http://x", "", "t", models),
        "old": ExportedService("old", "http", "http://y", "", "t", {"hats": {}}),
    }
    asked = []

    def states(service: ExportedService) -> tuple[dict[str, dict[str, str]], str]:
        asked.append((service.name, sorted(service.models)))
        return {model: {"1": "AVAILABLE"} for model in service.models}, ""

    monkeypatch.setattr(status.outputs, "services_of", lambda *_: services)
    monkeypatch.setattr(status.state, "read", lambda *_: [])
    monkeypatch.setattr(status, "of_resources", lambda *_: dict.fromkeys(services))
    monkeypatch.setattr(status, "_service", lambda each, *_: ServiceStatus(each.name, "http"))
    monkeypatch.setattr(status, "_states", states)
    monkeypatch.setattr(status, "Files", lambda *_: SimpleNamespace(record=lambda: None))
    found = status.look("s", models=["shoes-*"])
    assert [each.model for each in found.models] == ["shoes-men", "shoes-women"]
    assert asked == [("web", ["shoes-men", "shoes-women"])]
    assert [each.name for each in status.look("s", only=["old"]).services] == ["old"]
    with pytest.raises(status.StatusError, match=r"--model shoos-men: .*did you mean 'shoes-men'\? There are hats, "):
        status.look("s", models=["shoos-men"])


def test_shares_and_copies_are_told_of_both_platforms() -> None:
    mirror = {"to": "shadow", "percent": 5}
    split = state.Resource("x", "g", "i", {"group": "vision"}, {"weights": {"a": 90, "b": 10}})
    route = state.Resource("x", "g", "i", {"group": "vision", "weights": {"a": 90, "b": 10}, "mirror": mirror}, {})
    assert status._group(split) == GroupStatus("vision", {"a": 90, "b": 10})
    assert status._group(route) == GroupStatus("vision", {"a": 90, "b": 10}, mirror)


def test_each_service_tells_when_what_it_serves_moved() -> None:
    together = state.Resource(state.SERVED_CONFIG, "n", "i", {"services": {"a": {}, "b": {}}}, {}, "2026-01-01")
    alone = state.Resource(state.SERVED_MODEL, "n", "i", {"service": {"name": "c"}}, {}, "2026-01-02")
    assert status._moved([together, alone]) == {"a": "2026-01-01", "b": "2026-01-01", "c": "2026-01-02"}


_WATCH = """
import sys
from ops import status, tables
from ops.__main__ import main
from ops.status import ModelStatus, Status
models = tuple(ModelStatus(f"m{n}", ("s",), {"1": "AVAILABLE"}, {}) for n in range(300))
ill = (ModelStatus("slow", ("s",), {"1": "LOADING"}, {}),)
status.look = lambda *_: Status("shoes", models=models + ill)
sys.exit(main(["status", "--stack", "shoes", "--watch", "--every", "60s"]))
"""


def test_watching_fits_the_terminal_and_ends_with_the_last_look_in_sight() -> None:
    printed = on_terminal(80, _WATCH, b"\x03", "some", rows=24)
    watched, _, after = printed.partition("\x1b[?1049l")
    assert "\x1b[?1049h" in watched, "a screen of its own"
    assert "\x1b[?25h" in printed, "the cursor is back"
    assert "Traceback" not in printed
    for part in (watched, after):
        assert "slow" in part
        assert "300 more models" in part
    assert len(after.splitlines()) < 24


def test_services_that_say_the_same_are_one_line_and_others_are_not() -> None:
    models = {"m": {"labels": {"stable": 1}}}
    services = [ExportedService(name, "http", "http://x", "", "t", models) for name in "abc"]
    states = [{"m": {"2": "AVAILABLE", "10": "AVAILABLE"}}, {"m": {"10": "AVAILABLE", "2": "AVAILABLE"}}, {"m": {}}]
    found = list(status._models(services, states, {}))
    assert [each.services for each in found] == [("a", "b"), ("c",)]
    assert list(found[0].versions) == ["2", "10"]


def test_the_newest_gate_of_a_model_counts() -> None:
    reports = {"1": {"at": "2026-01-02", "passed": True}, "2": {"at": "2026-01-03", "passed": False}}
    assert status._gates([resource(gateReports={"m": reports}), resource("other:index:X")]) == {
        "m": "version 2 did not pass"
    }


@given(st.lists(st.sampled_from("abcd"), max_size=30), st.integers(0, 30), st.integers(1, 10))
def test_lines_of_a_growing_log_are_told_once(log: list[str], shown: int, window: int) -> None:
    """With lines that can be told apart; equal ones may hide each other."""
    lines = [f"{number} {line}" for number, line in enumerate(log)]
    told = lines[:shown]
    while len(told) < len(lines):
        end = min(len(lines), len(told) + window)
        told += story.unseen(told[-window:], lines[max(0, end - window) : end])
    assert told == lines


def test_the_state_of_either_engine_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    from ops import engine

    secret = {"4dabf18193072939515e22adb298388d": "1b47061264138c4ac30d75fd1eb44270", "plaintext": '"hush"'}
    raw = {
        "deployment": {
            "resources": [
                {
                    "type": state.SERVED_CONFIG,
                    "urn": "urn:pulumi:dev::p::tfserving:index:ServedConfig::served",
                    "id": "x",
                    "inputs": {"services": {"s": {"token": secret}}, "published": {"m": ["9007199254740993"]}},
                },
                {"type": "a:b:C", "urn": "urn:pulumi:dev::p::a:b:C::gone", "delete": True},
            ]
        }
    }
    asked = []

    def run(stack: str, arguments: list[str], *_: object) -> engine.Done:
        asked.append(arguments)
        return engine.Done(0, json.dumps(raw), "")

    monkeypatch.setattr(state, "run", run)
    [found] = state.read("dev", "pulumi")
    assert found.name == "served"
    assert found.inputs["services"]["s"]["token"] == "hush"
    assert found.inputs["published"] == {"m": [9007199254740993]}
    assert "hush" not in repr(found)
    state.read("dev", "sandbox")
    assert asked == [["stack", "export", "--show-secrets"], ["export", "--show-secrets"]]
    monkeypatch.setattr(state, "run", lambda *_: engine.Done(1, "", "error: no stack"))
    with pytest.raises(state.StateError, match="no stack"):
        state.read("dev", "pulumi")
