"""What EAS refuses in a service JSON, and which changes replace instances."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from alibabacloud_eas20210701 import models
from Tea.exceptions import TeaException

from sandbox.cloud.eas import service_json

Change = Callable[[dict[str, Any]], Any]


def spec() -> dict[str, Any]:
    return {
        "metadata": {"name": "multi_http", "instance": 1, "rpc": {"keepalive": 60000}},
        "containers": [{"image": "tensorflow-serving:2.14.1", "port": 8501, "command": "tf_serving_entrypoint.sh"}],
        "storage": [{"mount_path": "/models", "oss": {"path": "oss://examplebucket/models/"}}],
        "networking": {},
    }


def container(**changes: Any) -> Change:
    return lambda s: s["containers"][0].update(changes)


def metadata(**changes: Any) -> Change:
    return lambda s: s["metadata"].update(changes)


def storage(*items: Any) -> Change:
    return lambda s: s.update(storage=list(items))


OSS = {"path": "oss://examplebucket/models/"}

BAD: dict[str, tuple[Change, str]] = {
    "no name": (lambda s: s["metadata"].pop("name"), "metadata.name is required"),
    "hyphen in the name": (metadata(name="multi-http"), "'multi-http' is invalid"),
    "upper case in the name": (metadata(name="Multi"), "invalid"),
    "name too short": (metadata(name="ab"), "3 to 63"),
    "name too long": (metadata(name="a" * 64), "3 to 63"),
    "name not a string": (metadata(name=5), "invalid"),
    "metadata not an object": (lambda s: s.update(metadata=[]), "metadata"),
    "no instance": (lambda s: s["metadata"].pop("instance"), "metadata.instance is required"),
    "negative instance": (metadata(instance=-1), "metadata.instance -1"),
    "instance as text": (metadata(instance="2"), "metadata.instance '2'"),
    "instance with a fraction": (metadata(instance=1.0), "metadata.instance 1.0"),
    "instance as a boolean": (metadata(instance=True), "metadata.instance"),
    "cpu as text": (metadata(cpu="4"), "metadata.cpu"),
    "gpu cores out of range": (metadata(gpu_core_percentage=101), "1 to 100"),
    "enable_grpc as text": (metadata(enable_grpc="true"), "metadata.enable_grpc"),
    "keepalive zero": (metadata(rpc={"keepalive": 0}), "metadata.rpc.keepalive"),
    "rpc not an object": (metadata(rpc=5), "metadata.rpc"),
    "surge neither number nor share": (metadata(rolling_strategy={"max_surge": "half"}), "max_surge 'half'"),
    "no containers": (lambda s: s.pop("containers"), "containers"),
    "empty containers": (lambda s: s.update(containers=[]), "non-empty list"),
    "no image": (lambda s: s["containers"][0].pop("image"), "containers[0].image is required"),
    "no port": (lambda s: s["containers"][0].pop("port"), "containers[0].port is required"),
    "port 8080": (container(port=8080), "8080 is reserved"),
    "port 9090": (container(port=9090), "9090 is reserved"),
    "port out of range": (container(port=70000), "1 to 65535"),
    "neither command nor script": (lambda s: s["containers"][0].pop("command"), "one of command and script"),
    "command and script": (container(script="tf_serving_entrypoint.sh"), "exclude each other"),
    "empty command": (container(command=" "), "containers[0].command"),
    "env not a list": (container(env={"A": "1"}), "containers[0].env"),
    "env without a name": (container(env=[{"value": "1"}]), "containers[0].env[0]"),
    "env value not a string": (container(env=[{"name": "A", "value": 1}]), "env[0].value"),
    "probe with two handlers": (
        container(startup_check={"tcp_socket": {"port": 1}, "http_get": {"path": "/"}}),
        "startup_check needs exactly one",
    ),
    "probe without a handler": (container(liveness_check={"period_seconds": 3}), "liveness_check needs exactly one"),
    "probe with a zero period": (container(health_check={"tcp_socket": {}, "period_seconds": 0}), "period_seconds"),
    "storage not a list": (lambda s: s.update(storage={}), "storage must be a list"),
    "storage without a source": (storage({"mount_path": "/models"}), "exactly one of"),
    "storage with two sources": (storage({"mount_path": "/m", "oss": OSS, "empty_dir": {}}), "exactly one of"),
    "relative mount path": (storage({"mount_path": "models", "oss": OSS}), "absolute path"),
    "mount path with dots": (storage({"mount_path": "/models/../etc", "oss": OSS}), "absolute path"),
    "mount over a system directory": (storage({"mount_path": "/usr/", "oss": OSS}), "system directory"),
    "mounts that overlap": (
        storage({"mount_path": "/models", "oss": OSS}, {"mount_path": "/models/b", "oss": OSS}),
        "overlaps",
    ),
    "same mount twice": (storage({"mount_path": "/m", "oss": OSS}, {"mount_path": "/m/", "oss": OSS}), "overlaps"),
    "https path for oss": (storage({"mount_path": "/m", "oss": {"path": "https://b.oss/x"}}), "oss://bucket"),
    "bucket name with upper case": (storage({"mount_path": "/m", "oss": {"path": "oss://Bucket/x"}}), "oss://bucket"),
    "networking path without slash": (lambda s: s["networking"].update(path="x"), "start with a slash"),
    "the shared gateway by name": (lambda s: s["networking"].update(gateway="shared"), "shared"),
    "labels not strings": (lambda s: s.update(labels={"a": 1}), "labels"),
    "token with a blank": (lambda s: s.update(token="a b"), "token"),
    "cloud not an object": (lambda s: s.update(cloud="x"), "cloud must be an object"),
    "instance types without a type": (lambda s: s.update(cloud={"computing": {"instances": [{}]}}), "instances"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_service_json_is_refused_with_the_key(case: str, eas: Any) -> None:
    change, text = BAD[case]
    body = spec()
    change(body)
    with pytest.raises(TeaException) as caught:
        eas.create(body)
    assert (caught.value.statusCode, caught.value.code) == (400, "InvalidParameter")
    assert text in str(caught.value.message)
    assert "multi_http" not in eas.names()


def test_the_example_itself_is_accepted() -> None:
    assert service_json.validate(spec()) == spec()


@pytest.mark.parametrize("body", ["[]", "3", '"text"', "{", "null"])
def test_a_body_that_is_no_object_is_refused(body: str, eas: Any, send: Any) -> None:
    headers = {"x-acs-version": "2021-07-01", "x-acs-action": "CreateService"}
    answer = send("POST", f"http://127.0.0.1:{eas.port}/api/v2/services", "", body.encode(), **headers)
    assert (answer.status, answer.json["Code"]) == (400, "InvalidParameter")


def test_a_bad_update_leaves_the_service_as_it_was(eas: Any) -> None:
    body = eas.spec()
    name = body["metadata"]["name"]
    eas.create(body)
    for change in ({"containers": [{**body["containers"][0], "port": 8080}]}, {"metadata": 5}, {"storage": 1}):
        with pytest.raises(TeaException) as caught:
            eas.update(name, change, "merge")
        assert caught.value.code == "InvalidParameter"
    with pytest.raises(TeaException):
        eas.client.update_service("cn-hangzhou", name, models.UpdateServiceRequest(update_type="mend", body=body))
    assert eas.config(name)["containers"] == body["containers"]
    eas.delete(name)


KEEPS_INSTANCES: dict[str, Change] = {
    "replica count": metadata(instance=5),
    "time limit": metadata(rpc={"keepalive": 1}),
    "rate limit": metadata(rpc={"keepalive": 60000, "rate_limit": 3}),
    "labels": lambda s: s.update(labels={"a": "1"}),
    "token": lambda s: s.update(token="other"),
    "rolling strategy": metadata(rolling_strategy={"max_surge": 2}),
    "networking": lambda s: s.update(networking={"path": "/"}),
}
REPLACES_INSTANCES: dict[str, Change] = {
    "image": container(image="tensorflow-serving:2.18.1"),
    "command": container(command="tf_serving_entrypoint.sh --model_name=x"),
    "port": container(port=8500),
    "environment": container(env=[{"name": "A", "value": "1"}]),
    "storage": storage({"mount_path": "/models", "oss": {"path": "oss://examplebucket/other/"}}),
    "memory": metadata(memory=4096),
    "protocol": metadata(enable_grpc=True),
    "scenario label": lambda s: s.update(labels={"tf-serving-deployment": "scenario"}),
}


@pytest.mark.parametrize("case", [*KEEPS_INSTANCES, *REPLACES_INSTANCES])
def test_instances_are_replaced_exactly_where_they_are_made_from_something_else(case: str) -> None:
    before, after = spec(), copy.deepcopy(spec())
    {**KEEPS_INSTANCES, **REPLACES_INSTANCES}[case](after)
    same = service_json.template(before, 0) == service_json.template(after, 0)
    assert same == (case in KEEPS_INSTANCES)
    assert service_json.template(before, 0) != service_json.template(before, 1)


def test_merge_goes_into_objects_and_replaces_lists() -> None:
    old = {"a": {"b": 1, "c": [1, 2]}, "d": 1}
    assert service_json.merge(old, {"a": {"c": [3]}, "e": 2}) == {"a": {"b": 1, "c": [3]}, "d": 1, "e": 2}


@pytest.mark.parametrize(
    ("strategy", "wanted", "limits"),
    [
        ({}, 1, (1, 0)),
        ({}, 100, (2, 0)),
        ({"max_surge": "50%"}, 3, (2, 0)),
        ({"max_surge": 0, "max_unavailable": 1}, 4, (0, 1)),
        ({"max_surge": 0, "max_unavailable": "10%"}, 4, (1, 0)),
        ({"max_surge": 3, "max_unavailable": "50%"}, 4, (3, 2)),
    ],
)
def test_shares_of_the_rolling_strategy_are_counted_as_kubernetes_counts_them(
    strategy: dict[str, Any], wanted: int, limits: tuple[int, int]
) -> None:
    assert service_json.rolling_limits({"metadata": {"rolling_strategy": strategy}}, wanted) == limits
