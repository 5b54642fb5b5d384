"""What the console says of a model, from what replicas answered, and where it finds what was declared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sandbox.cloud.console import debugging
from sandbox.cloud.console.eas_services import declared_models
from sandbox.cloud.console.overview import Replica, model_view
from sandbox.cloud.errors import ApiError
from sandbox.cloud.oss.store import Bucket, ObjectProperties, ObjectStore
from tfserving import wire
from tfserving.client import VersionStatus
from tfserving.model_config import Model, VersionPolicy

MODEL = Model("modelB", "/models/modelB", policy=VersionPolicy.specific([1, 2]), labels={"stable": 1})


def replica(states: dict[int, str], stable: int | None = 1, error: str = "") -> Replica:
    code = "NOT_FOUND" if error else "OK"
    versions = [VersionStatus(version, state, code, error) for version, state in states.items()]
    return Replica({"modelB": versions}, {("modelB", "stable"): stable})


def test_replicas_that_agree_are_counted_together() -> None:
    view = model_view(MODEL, [replica({2: "AVAILABLE", 1: "AVAILABLE"})] * 2)
    assert view["versions"] == [
        {"version": 2, "states": {"AVAILABLE": 2}, "error": ""},
        {"version": 1, "states": {"AVAILABLE": 2}, "error": ""},
    ]
    assert view["labels"] == [{"label": "stable", "wanted": 1, "answered": [1]}]


def test_replicas_that_differ_show_both_states_and_both_versions_of_a_label() -> None:
    view = model_view(MODEL, [replica({2: "AVAILABLE"}, 2), replica({2: "LOADING"}, 1)])
    assert view["versions"] == [{"version": 2, "states": {"AVAILABLE": 1, "LOADING": 1}, "error": ""}]
    assert view["labels"] == [{"label": "stable", "wanted": 1, "answered": [1, 2]}]


def test_a_label_nothing_answers_is_said_to_be_wanted_only() -> None:
    assert model_view(MODEL, [replica({2: "AVAILABLE"}, None)])["labels"][0]["answered"] == []


def test_a_version_that_was_unloaded_is_left_out_and_one_that_failed_is_not() -> None:
    assert model_view(MODEL, [replica({1: "END"})])["versions"] == []
    failed = model_view(MODEL, [replica({1: "END"}, error="no saved_model.pb")])["versions"]
    assert failed == [{"version": 1, "states": {"FAILED": 1}, "error": "no saved_model.pb"}]


def test_without_replicas_what_is_declared_is_shown_without_states() -> None:
    view = model_view(MODEL, [])
    assert [(each["version"], each["states"]) for each in view["versions"]] == [(2, {}), (1, {})]


def test_a_replica_that_gives_no_answer_is_quoted() -> None:
    view = model_view(MODEL, [Replica(problems={"modelB": "no answer: timed out"})])
    assert view["problem"] == "no answer: timed out"
    assert view["versions"] == []


@pytest.fixture
def objects(tmp_path: Path) -> ObjectStore:
    store = ObjectStore(tmp_path)
    store.create_bucket(Bucket("examplebucket", created=0.0))
    return store


def put(objects: ObjectStore, key: str, data: bytes) -> None:
    with objects.receive() as writer:
        writer.write(data)
        objects.put_object("examplebucket", key, writer.finish(), ObjectProperties())


def service(flags: str, *storage: tuple[str, str]) -> dict[str, Any]:
    return {
        "metadata": {"name": "multi", "instance": 1},
        "containers": [
            {"image": "tensorflow-serving:2.14.1", "port": 8501, "command": f"tf_serving_entrypoint.sh {flags}"}
        ],
        "storage": [{"mount_path": mount, "oss": {"path": path}} for mount, path in storage],
    }


FILE = b"model_config_list { config { name: 'modelA' base_path: '/models/modelA' model_platform: 'tensorflow' } }"
FLAG = "--model_config_file=/models/model_config.pbtxt"


@pytest.mark.parametrize(
    ("mounts", "key"),
    [
        ([("/models", "oss://examplebucket/models/tf_serving/")], "models/tf_serving/model_config.pbtxt"),
        ([("/models/", "oss://examplebucket/")], "model_config.pbtxt"),
        ([("/", "oss://examplebucket/a"), ("/models", "oss://examplebucket/b")], "b/model_config.pbtxt"),
    ],
)
def test_the_config_file_is_found_in_the_bucket_that_is_mounted_there(
    objects: ObjectStore, mounts: list[tuple[str, str]], key: str
) -> None:
    put(objects, key, FILE)
    assert [model.name for model in declared_models(service(FLAG, *mounts), objects).models] == ["modelA"]


def test_a_config_file_that_is_not_there_or_cannot_be_read_is_a_problem_and_no_failure(objects: ObjectStore) -> None:
    mounted = service(FLAG, ("/models", "oss://examplebucket/"))
    for config in (mounted, service(FLAG), service(FLAG, ("/models", "oss://nobucket/"))):
        assert "There is no /models/model_config.pbtxt" in declared_models(config, objects).problem
    for data in (b"model_config_list {", b"\xff", b"#" * (1 << 20) + b" more"):
        put(objects, "model_config.pbtxt", data)
        assert "cannot be read, so the server keeps what it had" in declared_models(mounted, objects).problem


def test_without_a_config_file_there_is_the_one_model_of_the_start_command(objects: ObjectStore) -> None:
    (model,) = declared_models(service("--model_name=modelA"), objects).models
    assert (model.name, str(model.policy)) == ("modelA", "latest 1")
    (model,) = declared_models(service(""), objects).models
    assert model.name == "model"


def test_a_service_the_sandbox_cannot_run_has_no_models(objects: ObjectStore) -> None:
    config = service("")
    config["containers"][0] |= {"image": "tritonserver:23.11", "command": "tritonserver"}
    declared = declared_models(config, objects)
    assert declared.models == ()
    assert "tritonserver" in declared.problem


def test_versions_a_javascript_number_would_change_reach_the_page_as_text() -> None:
    first, second = 20240115093000123, 20240115093000124
    model = Model("modelB", "/models/modelB", policy=VersionPolicy.specific([first, second]), labels={"stable": first})
    view = wire.exact(model_view(model, [replica({first: "AVAILABLE", second: "AVAILABLE"}, stable=first)]))
    assert [each["version"] for each in view["versions"]] == [str(second), str(first)]
    assert view["labels"] == [{"label": "stable", "wanted": str(first), "answered": [str(first)]}]


@pytest.mark.parametrize(("sent", "read"), [("20240115093000123", 20240115093000123), ("7", 7), (7, 7), (None, None)])
def test_the_page_may_name_a_version_as_text(sent: Any, read: int | None) -> None:
    assert debugging.Request.parse({"service": "s", "version": sent}).version == read


@pytest.mark.parametrize("sent", ["-1", "007", "1e3", "9223372036854775808", 2**63, True, 1.5, "latest"])
def test_what_is_no_version_is_not_sent(sent: Any) -> None:
    with pytest.raises(ApiError, match="is not a version number"):
        debugging.Request.parse({"service": "s", "version": sent})
