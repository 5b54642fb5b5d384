"""Writes of a model config file as the console tells them."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from sandbox.cloud.console.rollouts import Rollouts, waiting_for
from sandbox.cloud.oss.store import Bucket, ObjectProperties, ObjectStore
from tfserving import config_notes, model_config
from tfserving.config_notes import Tried
from tfserving.contract.gates import GateReport, ServiceReport
from tfserving.model_config import Model, ModelServerConfig, VersionPolicy

KEY = "models/model_config.pbtxt"
PLACE = f"oss://examplebucket/{KEY}"


def text(
    *versions: int,
    owner: str = "tf-serving/dev",
    gates: tuple[GateReport, ...] = (),
    tried: tuple[Tried, ...] = (),
    **labels: int,
) -> str:
    model = Model("modelB", "/models/modelB", policy=VersionPolicy.specific(versions), labels=labels)
    head = config_notes.head(owner, "") if owner else ""
    return head + config_notes.notes((), gates, tried) + model_config.render(ModelServerConfig((model,)))


def store_of(directory: Path, versioning: str) -> ObjectStore:
    store = ObjectStore(directory)
    store.create_bucket(Bucket("examplebucket", created=0.0))
    if versioning:
        store.update_bucket("examplebucket", versioning=versioning)
    return store


def put(store: ObjectStore, content: str, key: str = KEY) -> None:
    with store.receive() as writer:
        writer.write(content.encode())
        store.put_object("examplebucket", key, writer.finish(), ObjectProperties())


def lines(rollouts: Rollouts) -> list[tuple[str, list[str]]]:
    """Step and changes of each write, newest first."""
    return [(each["step"], each["lines"]) for each in rollouts.told(PLACE, ["multi"])]


@pytest.mark.parametrize("versioning", ["", "Enabled"])
def test_each_write_of_a_rollout_is_told_with_what_it_changes(tmp_path: Path, versioning: str) -> None:
    store = store_of(tmp_path, versioning)
    rollouts = Rollouts(store)
    for content in (text(1, stable=1), text(1, 2, stable=1), text(1, 2, stable=2), text(2, stable=2)):
        put(store, content)
    assert lines(rollouts) == [
        ("narrow", ["modelB: serves specific [2] instead of specific [1, 2]"]),
        ("move", ["modelB: label stable moves 1 to 2"]),
        ("widen", ["modelB: serves specific [1, 2] instead of specific [1]"]),
        ("first known", []),
    ]
    assert {each["by"] for each in rollouts.told(PLACE, ["multi"])} == {"tf-serving/dev"}


def test_writes_of_before_this_process_are_read_from_the_versions_of_the_object(tmp_path: Path) -> None:
    store = store_of(tmp_path, "Enabled")
    put(store, text(1, stable=1))
    put(store, text(1, 2, stable=1, canary=2))
    put(store, "another object", f"{KEY}.bak")
    rollouts = Rollouts(store)
    changes = ["modelB: serves specific [1, 2] instead of specific [1]", "modelB: label canary is new, at version 2"]
    assert lines(rollouts) == [("move", changes), ("first known", [])]
    put(store, text(1, 2, stable=2, canary=2))
    assert lines(rollouts)[0] == ("move", ["modelB: label stable moves 1 to 2"])
    assert len(lines(rollouts)) == 3


def test_a_gate_is_told_while_it_is_under_way_and_then_what_came_of_it(tmp_path: Path) -> None:
    store = store_of(tmp_path, "")
    rollouts = Rollouts(store)
    services = {"multi": ServiceReport(records=20)}
    passed = GateReport(model="modelB", version=2, passed=True, services=services)
    failed = GateReport(model="modelB", version=2, services={"multi": ServiceReport(records=20, problems=("slow",))})
    tried = Tried("modelB", 2, "2026-09-21T14:06:40+00:00", "modelB version 2 for label stable, on multi: 20 records")
    put(store, text(1, 2, stable=1))
    put(store, text(1, 2, stable=1, tried=(tried,)))
    [under_way, first] = rollouts.told(PLACE, ["multi"])
    assert (under_way["step"], under_way["isNewest"], under_way["lines"]) == ("gate", True, [])
    assert under_way["tried"] == [asdict(tried)]
    assert (first["isNewest"], first["tried"]) == (False, [])
    put(store, text(1, 2, stable=1, gates=(failed,)))
    ended, tried_before, _ = rollouts.told(PLACE, ["multi"])
    assert ended["gates"] == [{"line": "modelB version 2 did not pass its gate on multi: 20 records", "passed": False}]
    assert (ended["step"], ended["tried"], tried_before["isNewest"]) == ("gate", [], False)
    put(store, text(1, 2, stable=2, gates=(passed,)))
    moved = rollouts.told(PLACE, ["multi"])[0]
    assert moved["gates"] == [{"line": "modelB version 2 passed its gate on multi: 20 records", "passed": True}]
    assert moved["step"] == "move"
    json.dumps(rollouts.told(PLACE, ["multi"]))


def test_notes_that_somebody_else_wrote_do_no_harm(tmp_path: Path) -> None:
    store = store_of(tmp_path, "")
    rollouts = Rollouts(store)
    for note in ("null", "[1]", "{", '{"model": "modelB"}', '{"model": 1, "version": "x", "since": 1, "demands": 1}'):
        put(store, f"# Gate under way: {note}\n# Gate not passed: {note[:5]}\n{text(1, stable=1)}")
        assert rollouts.told(PLACE, [])[0]["tried"] == []


def test_an_edit_by_hand_is_told(tmp_path: Path) -> None:
    store = store_of(tmp_path, "")
    rollouts = Rollouts(store)
    put(store, text(1, 2, stable=2))
    put(store, text(1, 2, owner="", stable=1))
    assert rollouts.told(PLACE, ["multi"])[0]["by"] == ""


def test_a_write_that_changes_nothing_is_no_news_and_one_that_nobody_can_read_does_no_harm(tmp_path: Path) -> None:
    store = store_of(tmp_path, "")
    rollouts = Rollouts(store)
    for content in (text(1, stable=1), text(1, stable=1), "model_config_list {", text(1, stable=1)):
        put(store, content)
    told = rollouts.told(PLACE, [])
    json.dumps(told)
    assert [each["step"] for each in told][-1] == "first known"


def test_large_version_numbers_keep_every_digit(tmp_path: Path) -> None:
    store = store_of(tmp_path, "")
    rollouts = Rollouts(store)
    old, new = 20240115093000123, 20240115093000124
    put(store, text(old, new, stable=old))
    put(store, text(old, new, stable=new))
    assert lines(rollouts)[0][1] == [f"modelB: label stable moves {old} to {new}"]


def test_many_changes_are_told_in_part(tmp_path: Path) -> None:
    store = store_of(tmp_path, "")
    rollouts = Rollouts(store)
    put(store, text(1))
    models = [Model(f"model{number}", f"/models/model{number}") for number in range(100)]
    put(store, model_config.render(ModelServerConfig(tuple(models))))
    newest = rollouts.told(PLACE, [])[0]
    assert (len(newest["lines"]), newest["more"]) == (12, 89)


def test_a_config_map_is_told_from_when_it_was_seen(tmp_path: Path) -> None:
    rollouts = Rollouts(store_of(tmp_path, ""))
    place = "configmap://models/tf-serving-model-config/model_config.pbtxt"
    rollouts.saw(place, text(1, 2, stable=1), 100.0)
    rollouts.saw(place, text(1, 2, stable=1), 100.0)
    rollouts.saw(place, text(1, 2, stable=2), 160.0)
    told = rollouts.told(place, ["models/vision"])
    assert [(each["step"], each["time"]) for each in told] == [("move", 160.0), ("first known", 100.0)]


def test_writes_of_a_config_map_within_one_second_are_told_each_with_how_long_it_took(tmp_path: Path) -> None:
    rollouts = Rollouts(store_of(tmp_path, ""))
    place, now = "configmap://models/tf-serving-model-config/model_config.pbtxt", 1_796_021_714.0
    found = []
    for written, content in (
        (now, text(1, stable=1)),
        (now, text(1, 2, stable=1)),
        (now, text(1, 2, stable=2)),
        (now + 1, text(2, stable=2)),
    ):
        rollouts.saw(place, content, written)
        newest = rollouts.told(place, ["models/vision"])[0]
        assert rollouts.settle(place, newest, ["models/vision: waits"], now + 2)["seconds"] is None
        rollouts.settle(place, newest, [], now + 2)
        found.append((newest["step"], newest["time"]))
    assert found == [("first known", now), ("widen", now), ("move", now), ("narrow", now + 1)]
    told = rollouts.told(place, ["models/vision"])
    assert len({each["id"] for each in told}) == 4
    assert [each["step"] for each in told] == ["narrow", "move", "widen", "first known"]


def test_how_long_a_write_took_is_known_where_it_was_watched(tmp_path: Path) -> None:
    store = store_of(tmp_path, "")
    rollouts = Rollouts(store)
    put(store, text(1, 2, stable=1))
    newest = rollouts.told(PLACE, [])[0]
    assert rollouts.settle(PLACE, newest, [], newest["time"] + 9) == {"waiting": [], "seconds": None}
    put(store, text(1, 2, stable=2))
    newest = rollouts.told(PLACE, [])[0]
    assert rollouts.settle(PLACE, newest, ["multi: label"], newest["time"] + 1)["seconds"] is None
    assert rollouts.settle(PLACE, newest, [], newest["time"] + 2.5)["seconds"] == 2.5
    assert rollouts.settle(PLACE, newest, [], newest["time"] + 60)["seconds"] == 2.5


def view(**changes: Any) -> dict[str, Any]:
    versions = [{"version": 2, "states": {"AVAILABLE": 1}}, {"version": 1, "states": {"AVAILABLE": 1}}]
    labels = [{"label": "stable", "wanted": 2, "answered": [2]}]
    return {
        "name": "modelB", "problem": "", "versions": versions, "missing": [], "extra": [], "labels": labels, **changes,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        ({}, []),
        (
            {"labels": [{"label": "stable", "wanted": 2, "answered": [1, 2]}]},
            ["multi: label stable of modelB is answered by 1 and 2, not 2"],
        ),
        (
            {"labels": [{"label": "stable", "wanted": 2, "answered": []}]},
            ["multi: label stable of modelB is answered by no version, not 2"],
        ),
        ({"versions": [{"version": 2, "states": {"LOADING": 1}}]}, ["multi: modelB version 2 is LOADING"]),
        ({"missing": [3]}, ["multi: modelB version 3 is not served yet"]),
        ({"extra": [1]}, ["multi: modelB version 1 is still served"]),
        ({"problem": "no answer"}, ["multi: modelB: no answer"]),
    ],
)
def test_what_a_rollout_waits_for_is_said(changes: dict[str, Any], lines: list[str]) -> None:
    assert waiting_for("multi", view(**changes)) == lines
