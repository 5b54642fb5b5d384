"""Pods as the API server stored them, run for real: their arguments, volumes and probes, and rollouts over them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import alibabacloud_oss_v2 as oss
import grpc
import pytest
from pulumi.runtime.proto import engine_pb2_grpc

from sandbox.kube.cluster import LocalCluster
from sandbox.kube.network import PodNetwork
from sandbox.kube.node import Node
from tests.cloud.conftest import running_cloud
from tests.provider.harness import OWNER, Cloud, Engine, Failed, Plugin, Stack, config
from tests.waiting import until
from tfserving import kubernetes, manifest, model_config
from tfserving.client import GrpcClient, RestClient
from tfserving.kubernetes import KubernetesServingSpec, ModelVolume
from tfserving.model_config import Model, ModelServerConfig, VersionPolicy

pytestmark = pytest.mark.slow

FLAGS = {"num_load_threads": 2, "file_system_poll_wait_seconds": 1, "max_num_load_retries": 0}
CONFIG_MAP = "tf-serving-model-config"
BUCKET = "examplebucket"
PREFIX = "models/tf_serving/modelB/"
WRITE_MODELS = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from make_models import half_plus
for version in (1, 2, 3):
    half_plus(Path(sys.argv[2]) / "modelB" / str(version), float(version))
"""


def serving(*versions: int, **labels: int) -> ModelServerConfig:
    policy = VersionPolicy.specific(versions)
    return ModelServerConfig((Model("modelB", "/models/modelB", policy=policy, labels=labels),))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """modelB: version N answers x / 2 + N. Version 9 is no SavedModel."""
    out = tmp_path_factory.mktemp("models")
    scripts = Path(__file__).resolve().parents[1] / "model_server"
    env = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "0"}
    command = [sys.executable, "-c", WRITE_MODELS, str(scripts), str(out)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (out / "modelB" / "9").mkdir()
    (out / "modelB" / "9" / "saved_model.pb").write_bytes(b"\xffnot a proto")
    return out


@pytest.fixture(scope="module")
def node(cluster: LocalCluster, models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    network = PodNetwork(cluster.files.pod_network)
    mounted: list[dict[str, str]] = []

    def mount(attributes: Any) -> Path:
        mounted.append(dict(attributes))
        assert attributes["path"] == "/models/tf_serving/"
        return models

    found = Node(
        cluster.kubeconfig,
        "cpu-1",
        network,
        mount,
        tmp_path_factory.mktemp("pods"),
        sync_seconds=0.3,
        hurry=True,
    )
    found.start()
    yield found
    found.stop()
    network.close()


@dataclass
class ServingDeployment:
    """One deployment in a namespace of its own."""

    api: Any
    node: Node
    spec: KubernetesServingSpec

    def apply(self) -> None:
        for wanted in kubernetes.build(self.spec).all():
            answer = self.api.apply(wanted)
            assert answer.status in (200, 201), answer.body
            assert answer.warnings == []

    def pods(self) -> list[dict[str, Any]]:
        found = self.api.list("Pod", self.spec.namespace)
        return [pod for pod in found if not pod["metadata"].get("deletionTimestamp")]

    def wait(self, seconds: float = 240) -> None:
        def available() -> bool:
            found = self.api.get("Deployment", self.spec.namespace, self.spec.name, "apps/v1")
            status, wanted = found.get("status", {}), found["spec"]["replicas"]
            return bool(
                status.get("observedGeneration") == found["metadata"]["generation"]
                and status.get("updatedReplicas") == status.get("availableReplicas") == status.get("replicas") == wanted
            )

        until(available, seconds, "the deployment")

    def hosts(self) -> list[str]:
        return [self.node.pods[pod["metadata"]["uid"]].host for pod in self.pods()]

    def rest(self) -> RestClient:
        return RestClient(f"http://{self.hosts()[0]}:8501")

    def grpc(self) -> GrpcClient:
        return GrpcClient(f"{self.hosts()[0]}:8500")


@pytest.fixture
def service(api: Any, node: Node, make_namespace: Callable[..., str]) -> Callable[..., ServingDeployment]:
    def make(**fields: Any) -> ServingDeployment:
        base: dict[str, Any] = {
            "name": "vision",
            "namespace": make_namespace(),
            "region": "cn-hangzhou",
            "volume": ModelVolume(bucket=BUCKET, root="models/tf_serving/", role_name="model-reader"),
            "flags": FLAGS,
            "drain_seconds": 1,
            "cpu": 0.1,
            "memory": 128,
        }
        return ServingDeployment(api, node, KubernetesServingSpec(**base | fields))

    return make


# ---- one pod


def test_a_stored_pod_serves_its_config_on_both_ports(service: Callable[..., ServingDeployment]) -> None:
    vision = service(
        config_file=True, rollout="restart", config=serving(1, 2, stable=1, canary=2), uses_labels=True,
        allow_labels_for_unavailable_versions=True,
    )  # fmt: skip
    vision.apply()
    vision.wait()
    (pod,) = vision.pods()
    container = pod["spec"]["containers"][0]
    assert (
        container["args"]
        == kubernetes.build(vision.spec).deployment["spec"]["template"]["spec"]["containers"][0]["args"]
    )
    command = Path(f"/proc/{vision.node.pods[pod['metadata']['uid']]._process.pid}/cmdline").read_bytes()
    assert command.decode().split("\0")[3:-1] == container["args"]
    for client in (vision.rest(), vision.grpc()):
        with client:
            assert client.predict("modelB", [[10.0]], label="stable").outputs == [[6.0]]
            assert client.predict("modelB", [[10.0]], label="canary").outputs == [[7.0]]


def test_a_pod_with_one_model_is_ready_only_when_it_can_be_asked(
    service: Callable[..., ServingDeployment], models: Path
) -> None:
    vision = service(model="late")
    vision.apply()
    until(lambda: vision.pods() and vision.pods()[0].get("status", {}).get("podIP"), what="the pod's process")
    running = vision.node.pods[vision.pods()[0]["metadata"]["uid"]]
    asked = b"Could not find base path /models/late"
    until(lambda: running.log.exists() and asked in running.log.read_bytes(), 120, "the look for the model")
    (pod,) = vision.pods()
    ready = {item["type"]: item["status"] for item in pod["status"]["conditions"]}["Ready"]
    assert ready == "False"
    shutil.copytree(models / "modelB" / "3", models / "late.partial" / "3")
    (models / "late.partial").rename(models / "late")
    try:
        vision.wait()
        with vision.rest() as client:
            assert client.predict("late", [[10.0]], version=3).outputs == [[8.0]]
    finally:
        shutil.rmtree(models / "late")


# ---- rollouts


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """The bucket as the provider sees it. Pods read a directory instead: only the files' removal goes there."""
    with running_cloud(tmp_path_factory.mktemp("oss")) as cloud:
        found = Cloud(f"127.0.0.1:{cloud.port}", cloud.client(use_path_style=True), BUCKET)
        found.oss.put_bucket(oss.PutBucketRequest(bucket=BUCKET))
        yield found


@pytest.fixture(scope="module")
def plugin(bucket: Cloud) -> Iterator[Plugin]:
    engine, server = Engine(), grpc.server(futures.ThreadPoolExecutor(4))
    engine_pb2_grpc.add_EngineServicer_to_server(engine, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    found = Plugin(engine, f"127.0.0.1:{port}")
    found.configure(**config(bucket.endpoint))
    yield found
    found.stop()
    server.stop(0)


class Rollout:
    """The ConfigMap, a polling deployment of two pods, and what they are to serve."""

    def __init__(self, vision: ServingDeployment, plugin: Plugin) -> None:
        self.vision, self.plugin = vision, plugin
        self.common = {
            "bucket": BUCKET,
            "key": "models/tf_serving/model_config.pbtxt",
            "owner": OWNER,
            "configMap": f"{vision.spec.namespace}/{CONFIG_MAP}",
            "kubeconfig": str(vision.api.cluster.kubeconfig),
        }
        self.file = Stack(plugin, "ModelConfigFile")
        self.served = Stack(plugin, "ServedConfig")

    def inputs(self, wanted: ModelServerConfig, *published: int) -> dict[str, Any]:
        pods = {"namespace": self.vision.spec.namespace, "selector": kubernetes.selector(self.vision.spec)}
        return {
            **self.common,
            "models": model_config.to_dict(wanted),
            "published": {"modelB": list(published or (1, 2, 3))},
            "services": {"vision": {"pods": pods, "reads": True, "pollSeconds": 1, "reachable": True}},
            "waitSeconds": 240,
        }

    def start(self, wanted: ModelServerConfig) -> None:
        assert self.file.up({**self.common, "initial": model_config.to_dict(wanted)}) == "create"
        self.vision.apply()
        self.vision.wait()

    def up(self, wanted: ModelServerConfig, *published: int) -> str:
        return self.served.up(self.inputs(wanted, *published))

    @property
    def config_map(self) -> str:
        found = self.vision.api.get("ConfigMap", self.vision.spec.namespace, CONFIG_MAP)
        return str(found["data"]["model_config.pbtxt"])


@pytest.fixture
def rollout(service: Callable[..., ServingDeployment], plugin: Plugin) -> Rollout:
    vision = service(
        config_file=True, config_poll_seconds=1, allow_labels_for_unavailable_versions=True, replicas=2,
        uses_labels=True, config_map=CONFIG_MAP,
    )  # fmt: skip
    found = Rollout(vision, plugin)
    found.start(serving(1, stable=1))
    return found


class Asking:
    """Asks every pod by label, again and again; every answer that is no prediction is kept."""

    def __init__(self, hosts: list[str]) -> None:
        self.answers, self.failures = 0, [""] * 0
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(host,)) for host in hosts]

    def _ask(self, host: str) -> None:
        with GrpcClient(f"{host}:8500") as client:
            while not self._stop.wait(0.02):
                try:
                    client.predict("modelB", [[10.0]], label="stable")
                    self.answers += 1
                except Exception as error:
                    self.failures.append(str(error))

    def __enter__(self) -> Asking:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def test_versions_and_labels_move_in_every_pod_without_a_restart_and_no_request_fails(rollout: Rollout) -> None:
    assert rollout.up(serving(1, stable=1)) == "create"
    assert rollout.up(serving(1, stable=1)) == "same"
    before = {pod["metadata"]["uid"] for pod in rollout.vision.pods()}
    with Asking(rollout.vision.hosts()) as asking:
        # A new version with a label on it, and the old one gone: widen, move, narrow.
        assert rollout.up(serving(2, 3, stable=2, canary=3)) == "update"
    assert asking.failures == []
    assert asking.answers > 20
    served = rollout.served.outputs["served"]["vision"]
    assert served == {"modelB": {"versions": [2, 3], "labels": {"stable": 2, "canary": 3}}}
    for host in rollout.vision.hosts():
        with RestClient(f"http://{host}:8501") as client:
            assert client.predict("modelB", [[10.0]], label="canary").outputs == [[8.0]]
    pods = rollout.vision.pods()
    assert {pod["metadata"]["uid"] for pod in pods} == before
    assert [pod["status"]["containerStatuses"][0]["restartCount"] for pod in pods] == [0, 0]
    # And back.
    assert rollout.up(serving(1, stable=1)) == "update"
    assert rollout.served.refresh() == {}


def test_a_version_that_cannot_load_changes_nothing_and_the_next_run_goes_on(
    rollout: Rollout, bucket: Cloud, models: Path
) -> None:
    published = replace(manifest.build(models / "modelB" / "9"), owner=OWNER)
    bucket.put(f"{PREFIX}9/saved_model.pb", (models / "modelB" / "9" / "saved_model.pb").read_bytes())
    bucket.put(f"{PREFIX}9{manifest.SUFFIX}", published.to_json())
    rollout.up(serving(1, stable=1))
    with pytest.raises(Failed, match="version 9 of modelB cannot be loaded"):
        rollout.up(serving(1, 9, stable=9), 1, 2, 3, 9)
    assert "versions: 9" not in rollout.config_map
    with rollout.vision.rest() as client:
        assert client.labelled_version("modelB", "stable") == 1
    assert len(bucket.keys(PREFIX)) == 2
    assert rollout.up(serving(1, 2, stable=2)) == "update"
    assert bucket.keys(PREFIX) == []  # version 9 is published no longer


def test_a_config_map_edited_by_hand_is_drift_and_is_put_right(rollout: Rollout) -> None:
    rollout.up(serving(1, 2, stable=1, canary=2))
    assert rollout.served.refresh() == {}
    namespace = rollout.vision.spec.namespace
    edited = rollout.config_map.replace("'stable'", "'other'")
    path = rollout.vision.api.path("ConfigMap", namespace, CONFIG_MAP)
    body = {"data": {"model_config.pbtxt": edited}}
    assert rollout.vision.api.call("PATCH", path, body, "application/merge-patch+json").status == 200
    # Not every pod sees the file at the same time; labels of either are found until then.
    path = "served.vision.modelB.labels.stable"
    until(lambda: path in rollout.served.refresh(), what="the drift of the label in every pod")
    assert rollout.up(serving(1, 2, stable=1, canary=2)) == "update"
    assert rollout.served.refresh() == {}


def test_a_config_map_of_another_stack_is_left_alone(rollout: Rollout) -> None:
    rollout.up(serving(1, stable=1))
    other = Stack(rollout.plugin, "ModelConfigFile")
    inputs = {**rollout.common, "owner": "tf-serving/other", "initial": model_config.to_dict(serving(1))}
    with pytest.raises(Failed, match="is managed by tf-serving/test"):
        other.up(inputs)


def test_pods_that_are_gone_serve_nothing_and_an_api_server_that_is_gone_is_an_error(rollout: Rollout) -> None:
    rollout.up(serving(1, stable=1))
    vision = rollout.vision
    path = vision.api.path("Deployment", vision.spec.namespace, "vision", "apps/v1")
    assert vision.api.call("PATCH", path, {"spec": {"replicas": 0}}, "application/merge-patch+json").status == 200
    until(lambda: not vision.api.list("Pod", vision.spec.namespace), what="the end of the pods")
    assert "served.vision" in rollout.served.refresh()
    broken = vision.node._directory / "broken-kubeconfig"
    broken.write_text(vision.api.cluster.kubeconfig.read_text().replace(vision.api.cluster.url, "https://127.0.0.1:1"))
    rollout.served.inputs = {**rollout.served.inputs, "kubeconfig": str(broken)}
    with pytest.raises(Failed, match="no answer from the API server"):
        rollout.served.refresh()


# ---- services of one model


def test_a_new_version_of_a_single_model_is_proven_in_every_pod(
    service: Callable[..., ServingDeployment], plugin: Plugin, models: Path
) -> None:
    solo = models / "solo"
    shutil.copytree(models / "modelB" / "1", solo / "1")
    vision = service(model="solo", replicas=2)
    vision.apply()
    vision.wait()
    served = Stack(plugin, "ServedModel")

    def up(version: int) -> str:
        pods = {"namespace": vision.spec.namespace, "selector": kubernetes.selector(vision.spec)}
        return served.up(
            {
                "service": {"name": "vision", "pods": pods, "reachable": True},
                "model": "solo",
                "versions": [version],
                "kubeconfig": str(vision.api.cluster.kubeconfig),
                "waitSeconds": 240,
            }
        )

    try:
        assert up(1) == "create"
        assert up(1) == "same"
        shutil.copytree(models / "modelB" / "2", models / "solo.partial")
        (models / "solo.partial").rename(solo / "2")
        assert up(2) == "update"
        assert served.outputs["served"] == {"solo": {"versions": [2], "labels": {}}}
        for host in vision.hosts():
            with RestClient(f"http://{host}:8501") as client:
                assert client.predict("solo", [[10.0]]).outputs == [[7.0]]
        assert served.refresh() == {}
        # Of a version that cannot load, the one before is still served.
        shutil.copytree(models / "modelB" / "9", models / "solo.partial")
        (models / "solo.partial").rename(solo / "9")
        with pytest.raises(Failed, match="version 9 of solo cannot be loaded"):
            up(9)
        assert served.outputs["served"] == {"solo": {"versions": [2], "labels": {}}}
        # Pods that are gone serve nothing.
        path = vision.api.path("Deployment", vision.spec.namespace, "vision", "apps/v1")
        assert vision.api.call("PATCH", path, {"spec": {"replicas": 0}}, "application/merge-patch+json").status == 200
        until(lambda: not vision.api.list("Pod", vision.spec.namespace), what="the end of the pods")
        assert "served.solo" in served.refresh()
    finally:
        shutil.rmtree(solo)
