"""Rollouts to pods against a small API server of these tests; ``tests/kube/test_pods.py`` has the real one."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from provider.clients import Clients, CloudSettings
from provider.cluster import ClusterApi, Pods
from provider.model_config_file import ModelConfigFile
from provider.resource import Context
from provider.served_config import ServedConfig
from tfserving import model_config
from tfserving.contract.parts import ClusterInputs
from tfserving.errors import CloudError, OwnershipError, RolloutError
from tfserving.model_config import Model, ModelServerConfig, VersionPolicy
from tfserving.property_values import UNKNOWN, Secret

NAME = "tf-serving-model-config"
MAPS, PODS = "/api/v1/namespaces/models/configmaps", "/api/v1/namespaces/models/pods"
EVENTS = "/api/v1/namespaces/models/events"


class ApiServer(ThreadingHTTPServer):
    """ConfigMaps, a list of pods, and pods that serve what the ConfigMap says; ``lagging`` ones never look at it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.maps: dict[str, dict[str, Any]] = {}
        self.pods = {"a": "True", "b": "True", "c": "False"}
        self.writes: list[str] = []
        self.asked: set[str] = set()
        self.tried: set[tuple[str, int]] = set()
        self.statuses: dict[str, dict[str, Any]] = {}
        self.events: list[dict[str, Any]] | None = []
        self.logs: dict[str, str] = {}

    @property
    def text(self) -> str:
        return str(self.maps[NAME]["data"]["model_config.pbtxt"])


class _Handler(BaseHTTPRequestHandler):
    server: ApiServer

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def answer_text(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def handle_any(self) -> None:
        path, server = self.path.partition("?")[0], self.server
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        name = path.removeprefix(f"{MAPS}/")
        if self.command != "GET" and not path.endswith(":predict"):
            server.writes.append(self.command)
        if path == MAPS and self.command == "POST":
            server.maps[body["metadata"]["name"]] = body
            self.answer(201, body)
        elif path.startswith(f"{MAPS}/") and name in server.maps:
            if self.command == "PATCH":
                server.maps[name]["data"] |= body["data"]
            self.answer(200, server.maps.pop(name) if self.command == "DELETE" else server.maps[name])
        elif path == "/api/v1/namespaces/models":
            self.answer(200, {"metadata": {"name": "models"}})
        elif path == PODS:
            pods = {name: _pod(name, ready) for name, ready in server.pods.items()}
            for pod_name, status in server.statuses.items():
                pods[pod_name]["status"] |= status
            self.answer(200, {"items": list(pods.values())})
        elif path == EVENTS and server.events is not None:
            about = self.path.rpartition("involvedObject.name%3D")[2].partition("&")[0]
            self.answer(200, {"items": [each for each in server.events if each["involvedObject"]["name"] == about]})
        elif match := re.fullmatch(rf"{PODS}/(\w+)/log", path):
            text = server.logs.get(match[1])
            self.answer_text(*((400, "is waiting to start") if text is None else (200, text)))
        elif match := re.fullmatch(rf"{PODS}/(\w+):8501/proxy/v1/models/modelB(?:/labels/(\w+)/metadata)?", path):
            server.asked.add(match[1])
            self.serve(match[2])
        elif match := re.fullmatch(
            rf"{PODS}/(\w+):8501/proxy/v1/models/modelB/versions/(\d)(/metadata|:predict)", path
        ):
            server.tried.add((match[1], int(match[2])))
            self.answer_version(int(match[2]), body)
        else:
            self.answer(404, {"kind": "Status", "message": f"there is no {path}", "code": 404})

    def serve(self, label: str | None) -> None:
        model = model_config.parse(self.server.text).get("modelB")
        assert model is not None
        fine = {"error_code": "OK", "error_message": ""}
        if label is None:
            states = [{"version": str(v), "state": "AVAILABLE", "status": fine} for v in model.policy.versions]
            self.answer(200, {"model_version_status": states})
        elif label in model.labels:
            spec = {"name": "modelB", "version": str(model.labels[label])}
            self.answer(200, {"model_spec": spec, "metadata": {"signature_def": {"signature_def": {}}}})
        else:
            self.answer(404, {"error": "no such label"})

    def answer_version(self, version: int, body: dict[str, Any]) -> None:
        """A version multiplies by its number."""
        if "instances" in body:
            self.answer(200, {"predictions": [value * version for value in body["instances"]]})
        else:
            spec = {"name": "modelB", "version": str(version)}
            self.answer(200, {"model_spec": spec, "metadata": {"signature_def": {"signature_def": {}}}})

    do_GET = do_POST = do_PATCH = do_DELETE = handle_any


def _pod(name: str, ready: str) -> dict[str, Any]:
    volume = {"name": "config", "configMap": {"name": NAME}}
    return {
        "metadata": {"name": name, "namespace": "models"},
        "spec": {"containers": [{"name": "tensorflow-serving"}], "volumes": [volume]},
        "status": {"conditions": [{"type": "Ready", "status": ready}]},
    }


@pytest.fixture
def server() -> Iterator[ApiServer]:
    found = ApiServer()
    thread = threading.Thread(target=found.serve_forever)
    thread.start()
    yield found
    found.shutdown()
    thread.join()
    found.server_close()


@pytest.fixture
def common(server: ApiServer, tmp_path: Path) -> dict[str, Any]:
    """Inputs that name the file."""
    kubeconfig = tmp_path / "kubeconfig"
    cluster = {"server": f"http://127.0.0.1:{server.server_address[1]}"}
    content = {
        "current-context": "x",
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": {"token": "abc"}}],
    }
    kubeconfig.write_text(json.dumps(content))
    return {
        "bucket": "examplebucket",
        "key": "models/model_config.pbtxt",
        "owner": "tf-serving/test",
        "configMap": f"models/{NAME}",
        "kubeconfig": str(kubeconfig),
    }


def context() -> Context:
    cancelled = threading.Event()
    settings = CloudSettings("cn-hangzhou", "127.0.0.1:1", "127.0.0.1:1", "HTTP", "sandbox", "sandbox")
    return Context("urn", Path("/"), Clients(settings, cancelled), lambda *_, **__: None, cancelled)


def serving(*versions: int, **labels: int) -> ModelServerConfig:
    return ModelServerConfig(
        (Model("modelB", "/models/modelB", policy=VersionPolicy.specific(versions), labels=labels),)
    )


def inputs(common: dict[str, Any], wanted: ModelServerConfig, **more: Any) -> dict[str, Any]:
    pods = {"namespace": "models", "selector": {"app.kubernetes.io/instance": "vision"}}
    found, failures = ServedConfig().check(
        {},
        {
            **common,
            "models": model_config.to_dict(wanted),
            "published": {"modelB": [1, 2, 3]},
            "services": {"vision": {"pods": pods, "reads": True, "pollSeconds": 1, "reachable": True}},
            "waitSeconds": 20,
            **more,
        },
    )
    assert failures == []
    return found


def make(common: dict[str, Any], wanted: ModelServerConfig) -> None:
    ModelConfigFile().create(context(), {**common, "initial": model_config.to_dict(wanted)})


def test_the_steps_are_written_to_the_config_map_and_every_ready_pod_is_asked(
    server: ApiServer, common: dict[str, Any]
) -> None:
    make(common, serving(1, stable=1))
    served, before = ServedConfig(), inputs(common, serving(1, stable=1))
    id_, outputs = served.create(context(), before)
    assert id_ == f"configmap://models/{NAME}/model_config.pbtxt"
    server.writes.clear()
    after = inputs(common, serving(2, 3, stable=2, canary=3))
    outputs = served.update(context(), id_, before, outputs, after)
    assert server.writes == ["PATCH"] * 3  # widen, move, narrow
    assert outputs["served"] == {"vision": {"modelB": {"versions": [2, 3], "labels": {"stable": 2, "canary": 3}}}}
    assert server.asked == {"a", "b"}
    found = served.read(context(), id_, after, outputs)
    assert found is not None
    assert served.diff(found.inputs, found.outputs, after).changes == {}


def test_every_ready_pod_is_tried_by_a_gate_before_a_label_moves(
    server: ApiServer, common: dict[str, Any], tmp_path: Path
) -> None:
    make(common, serving(1, stable=1))
    served, before = ServedConfig(), inputs(common, serving(1, stable=1))
    id_, outputs = served.create(context(), before)
    golden = tmp_path / "golden.jsonl"
    golden.write_text("".join(f'{{"instances": [{n}], "predictions": [{n * 2.0}]}}\n' for n in range(1, 5)))

    def gated(version: int) -> dict[str, Any]:
        gates = {"modelB": {"gate": {"golden": str(golden)}}}
        return inputs(common, serving(1, version, stable=version), gates=gates)

    text = server.text
    with pytest.raises(RolloutError) as failed:
        served.update(context(), id_, before, outputs, gated(3))
    assert "modelB version 3 did not pass its gate:\n  service vision: 4 of 4 records" in str(failed.value)
    assert "# Gate not passed: " in server.text  # for whoever looks at the rollout; nothing else has changed
    assert model_config.parse(server.text) == model_config.parse(text)
    assert {each for each in server.tried if each[1] == 3} == {("a", 3), ("b", 3)}
    outputs = served.update(context(), id_, before, outputs, gated(2))
    assert outputs["served"] == {"vision": {"modelB": {"versions": [1, 2], "labels": {"stable": 2}}}}
    report = outputs["gateReports"]["modelB"]["2"]
    assert (report["passed"], report["services"]["vision"]["records"]) == (True, 4)


def test_an_edit_by_hand_is_drift_and_is_put_right(server: ApiServer, common: dict[str, Any]) -> None:
    make(common, serving(1, stable=1))
    served, wanted = ServedConfig(), inputs(common, serving(1, stable=1))
    id_, outputs = served.create(context(), wanted)
    server.maps[NAME]["data"]["model_config.pbtxt"] = server.text.replace("'stable'", "'other'")
    found = served.read(context(), id_, wanted, outputs)
    assert found is not None
    paths = served.diff(found.inputs, found.outputs, wanted).changes
    assert ("served", "vision", "modelB", "labels", "stable") in paths
    served.update(context(), id_, found.inputs, found.outputs, wanted)
    assert "'stable'" in server.text
    assert "'other'" not in server.text


def test_the_config_map_is_one_stacks_own_and_goes_with_it(server: ApiServer, common: dict[str, Any]) -> None:
    file, declared = ModelConfigFile(), {**common, "initial": model_config.to_dict(serving(1))}
    id_, outputs = file.create(context(), declared)
    other_stack = {**declared, "owner": "tf-serving/other"}
    with pytest.raises(OwnershipError, match="is managed by tf-serving/test"):
        file.create(context(), other_stack)
    with pytest.raises(OwnershipError, match="is managed by tf-serving/test"):
        file.preview(context(), other_stack, None, None)
    file.delete(context(), id_, declared, outputs)
    assert server.maps == {}
    file.delete(context(), id_, declared, outputs)


def test_a_file_no_ready_pod_reads_is_written_as_declared(server: ApiServer, common: dict[str, Any]) -> None:
    make(common, serving(1, stable=1))
    declared = {**common, "initial": model_config.to_dict(serving(2, stable=2))}
    for ready, unused in (("True", False), ("False", True)):
        server.pods = {"a": ready}
        found = ModelConfigFile().read(context(), "id", declared, declared)
        assert found is not None
        assert found.outputs["unused"] is unused


def test_a_config_map_that_moves_into_a_cluster_where_it_is_somebody_elses_is_refused_in_the_preview(
    server: ApiServer, common: dict[str, Any], tmp_path: Path
) -> None:
    file, declared = ModelConfigFile(), {**common, "initial": model_config.to_dict(serving(1))}
    server.maps[NAME] = {"metadata": {"name": NAME}, "data": {"model_config.pbtxt": "model_config_list {}"}}
    before = {**declared, "kubeconfig": str(tmp_path / "former")}
    for operation in (file.preview, lambda ctx, news, olds, outputs: file.update(ctx, "id", olds, outputs, news)):
        # In the same place, a file without an owner is put right; in another one it is somebody else's.
        with pytest.raises(OwnershipError, match="was not made by this project"):
            operation(context(), declared, before, {**before, "unused": False})
    for operation in (file.preview, lambda ctx, news, olds, outputs: file.update(ctx, "id", olds, outputs, news)):
        operation(context(), declared, declared, {**declared, "unused": False})


def test_another_key_of_a_config_map_is_nobodys_business(server: ApiServer, common: dict[str, Any]) -> None:
    file, declared = ModelConfigFile(), {**common, "initial": model_config.to_dict(serving(1))}
    server.maps[NAME] = {"metadata": {"name": NAME}, "data": {"other.txt": "theirs"}}
    file.preview(context(), declared, None, None)
    file.create(context(), declared)
    assert server.maps[NAME]["data"]["other.txt"] == "theirs"


def test_a_namespace_that_is_not_there_is_refused_in_the_preview(server: ApiServer, common: dict[str, Any]) -> None:
    declared = {**common, "configMap": f"nowhere/{NAME}", "initial": model_config.to_dict(serving(1))}
    for operation in (lambda: ModelConfigFile().preview(context(), declared, None, None),
                      lambda: ModelConfigFile().create(context(), declared)):  # fmt: skip
        with pytest.raises(
            CloudError, match=r"there is no namespace nowhere in the cluster\. Fix: kubectl create names"
        ):
            operation()
    assert server.maps == {}


def test_a_preview_without_a_usable_kubeconfig_is_refused_and_one_without_an_answer_warns(
    server: ApiServer, common: dict[str, Any]
) -> None:
    told: list[str] = []
    declared = {**common, "initial": model_config.to_dict(serving(1))}
    ctx = replace(context(), log=lambda severity, _urn, message, **_: told.append(f"{severity}: {message}"))
    with pytest.raises(CloudError, match="/nowhere cannot be used"):
        ModelConfigFile().preview(ctx, {**declared, "kubeconfig": "/nowhere"}, None, None)
    server.shutdown()
    server.server_close()
    ModelConfigFile().preview(ctx, declared, None, None)
    (line,) = told
    assert line.startswith(f"warning: it is not known yet whether configmap://models/{NAME}/model_config.pbtxt is some")
    assert line.endswith("(connection refused); is the cluster running? .venv/bin/python -m sandbox kube start")
    ModelConfigFile().preview(ctx, {**declared, "kubeconfig": Secret(UNKNOWN)}, None, None)
    assert told == [line]


def test_pods_without_polling_and_services_without_a_config_map_are_refused(common: dict[str, Any]) -> None:
    good = inputs(common, serving(1))
    silent = {"vision": {**good["services"]["vision"], "pollSeconds": 0}}
    _, failures = ServedConfig().check({}, {**good, "services": silent})
    assert [failure.path for failure in failures] == ["services.vision.pollSeconds"]
    _, failures = ServedConfig().check({}, {key: value for key, value in good.items() if key != "configMap"})
    assert [failure.path for failure in failures] == ["configMap"]


def test_a_kubeconfig_that_is_none_is_an_error_that_names_it() -> None:
    with pytest.raises(CloudError, match="/nowhere cannot be used"):
        ClusterApi("/nowhere", "").pods(Pods("models", {}))


IMPORTING = """
import sys, threading
from provider import clients
from provider.cluster import ClusterApi

SDKS = ("alibabacloud", "darabonba", "kubernetes", "requests", "urllib3")
outside = set()

class Watch:
    def find_spec(self, name, path=None, target=None):
        # The Kubernetes client loads modules of its own as they are used.
        if name.startswith(SDKS) and not name.startswith("kubernetes.") and not clients.IMPORTS._is_owned():
            outside.add(name)

sys.meta_path.insert(0, Watch())
settings = clients.CloudSettings("cn-hangzhou", "127.0.0.1:1", "127.0.0.1:1", "HTTP", "sandbox", "sandbox")
made = clients.Clients(settings, threading.Event())
ClusterApi(sys.argv[1], "").call("wait", lambda: None)
assert ClusterApi(sys.argv[1], "").api and made.oss and made.eas
print("kubernetes" in sys.modules, "alibabacloud_oss_v2" in sys.modules, sorted(outside))
"""


def test_sdks_are_imported_by_one_thread_at_a_time(server: ApiServer, common: dict[str, Any]) -> None:
    kubeconfig = str(common["kubeconfig"])
    done = subprocess.run([sys.executable, "-c", IMPORTING, kubeconfig], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("True True []\n", "")


def test_the_age_of_a_config_map_is_told_by_the_api_server(server: ApiServer, common: dict[str, Any]) -> None:
    store = ClusterApi.of(ClusterInputs.read(common)).config_map(f"models/{NAME}")
    assert store.age("model_config.pbtxt") is None
    store.put_text("model_config.pbtxt", "")
    assert store.age("model_config.pbtxt") is None
    changed = datetime.now(UTC) - timedelta(seconds=90)
    server.maps[NAME]["metadata"]["managedFields"] = [
        {"manager": "other", "time": "2020-01-01T00:00:00Z"},
        {"manager": "tf-serving-rollout", "time": changed.strftime("%Y-%m-%dT%H:%M:%SZ")},
    ]
    assert store.age("model_config.pbtxt") == pytest.approx(90, abs=10)


def waiting(reason: str, message: str, **more: Any) -> dict[str, Any]:
    state = {"waiting": {"reason": reason, "message": message}}
    return {
        "phase": "Pending",
        "containerStatuses": [{"name": "tensorflow-serving", "image": "i", "imageID": "", "ready": False,
                               "restartCount": 0, "state": state, **more}],
    }  # fmt: skip


UNSCHEDULABLE = {
    "phase": "Pending",
    "conditions": [
        {"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
         "message": "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."},
    ],
}  # fmt: skip
CRASHED = {"terminated": {"reason": "OOMKilled", "exitCode": 137}}


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (UNSCHEDULABLE, "Unschedulable: 0/3 nodes are available: 3 Insufficient nvidia.com/gpu."),
        (waiting("ImagePullBackOff", 'Back-off pulling image "no/such:1"'), "ImagePullBackOff: Back-off pulling image"),
        (waiting("ErrImagePull", "unauthorized"), "ErrImagePull: unauthorized"),
        (waiting("CreateContainerConfigError", 'configmap "x" not found'), "CreateContainerConfigError: configmap"),
        (waiting("CrashLoopBackOff", "back-off 40s", lastState=CRASHED), "back-off 40s; OOMKilled with status 137"),
        ({"phase": "Failed", "reason": "Evicted", "message": "low on memory"}, "Evicted: low on memory"),
        ({"phase": "Pending"}, "it is Pending"),
    ],
)
def test_pods_that_do_not_become_ready_tell_state_events_and_log(
    server: ApiServer, common: dict[str, Any], monkeypatch: pytest.MonkeyPatch, status: dict[str, Any], told: str
) -> None:
    monkeypatch.setattr("provider.asking._READ_TRIES", 1)
    server.pods, server.statuses = {"a": "False"}, {"a": status}
    server.logs = {"a": "starting\nFailed to start server. Error: INVALID_ARGUMENT\n"}
    server.events = [
        {"metadata": {"name": f"e{number}"}, "involvedObject": {"name": name}, "type": "Warning", "reason": reason,
         "message": f"message {number}", "lastTimestamp": f"2026-01-01T00:00:0{9 - number}Z"}
        for number, (name, reason) in enumerate([("a", "Newest"), ("b", "OfAnother"), ("a", "Older")])
    ]  # fmt: skip
    make(common, serving(1))
    with pytest.raises(RolloutError) as failed:
        ServedConfig().create(context(), inputs(common, serving(1)) | {"waitSeconds": 0.5})
    message = str(failed.value)
    assert "no pod of service vision is ready (1 pod: a: " in message
    assert re.search(rf"\n +pod a: .*{re.escape(told)}", message)
    assert message.index("Z Warning Older: message 2") < message.index("Z Warning Newest: message 0")
    assert "OfAnother" not in message
    assert "log: Failed to start server. Error: INVALID_ARGUMENT" in message


def test_without_the_right_to_see_events_the_state_is_told_all_the_same(
    server: ApiServer, common: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("provider.asking._READ_TRIES", 1)
    server.pods, server.statuses = {"a": "False"}, {"a": UNSCHEDULABLE}
    server.events = None
    make(common, serving(1))
    with pytest.raises(RolloutError) as failed:
        ServedConfig().create(context(), inputs(common, serving(1)) | {"waitSeconds": 0.5})
    assert "Unschedulable: 0/3 nodes are available" in str(failed.value)
    assert "event: not available: cannot read the events of pod models/a" in str(failed.value)
    assert "log:" not in str(failed.value)  # of a container that never ran there is none


def test_pods_that_fall_out_during_a_rollout_tell_why(server: ApiServer, common: dict[str, Any]) -> None:
    make(common, serving(1, stable=1))
    served, before = ServedConfig(), inputs(common, serving(1, stable=1))
    id_, outputs = served.create(context(), before)
    pulled = waiting("ImagePullBackOff", "Back-off pulling image")
    ctx = context()

    def fall(*_: Any, **__: Any) -> None:
        if server.writes.count("PATCH"):
            server.pods = dict.fromkeys(server.pods, "False")
            server.statuses = dict.fromkeys(server.pods, pulled)

    server.writes.clear()
    after = inputs(common, serving(2, 3, stable=2)) | {"waitSeconds": 1}
    with pytest.raises(RolloutError, match="not done after 1 s") as failed:
        served.update(replace(ctx, log=fall), id_, before, outputs, after)
    assert "pod a: ImagePullBackOff: Back-off pulling image" in str(failed.value)
