"""Everything the component makes, applied to a real API server by the sandbox engine.

Through the stand-in plugin, or through the real one where it is on PATH.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sandbox.kube.cluster import LocalCluster
from sandbox.kube.network import PodNetwork
from sandbox.kube.node import Node

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[2]
TAINT = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}

PROGRAM = """
    import json, sys
    sys.path.insert(0, {repository!r})
    import pulumi, pulumi_kubernetes
    from components.kubernetes_serving import KubernetesServing, PodsPlan
    from config.kubernetes import AckServiceSettings
    from tfserving.kubernetes import *
    from tfserving.kubernetes import KubernetesServingSpec
    from tfserving.model_config import Model, ModelServerConfig, VersionPolicy

    NO_CONTROLLER = {{"pulumi.com/skipAwait": "true"}}  # the real provider would wait for the Ingress's address
    CONFIG = ModelServerConfig((Model("modelB", "/models/modelB", policy=VersionPolicy.specific([1, 2]),
        labels={{"stable": {stable}}}),))
    POOL = GpuNodePoolSpec(name="t4", instance_types=("ecs.gn6i-c4g1.xlarge",), vswitch_ids=("vsw-1",),
        desired_size=1, taints=(Taint(key="nvidia.com/gpu", value="present"),))
    provider = pulumi_kubernetes.Provider("kubernetes", kubeconfig={kubeconfig!r}, enable_patch_force=True)
    for spec in [{specs}]:
        serving = KubernetesServing(spec.name, PodsPlan(
            service=AckServiceSettings(name=spec.name, spec=spec), models={{}}),
            pulumi.ResourceOptions(providers=[provider]))
        pulumi.export(spec.name, serving.url)
"""

VISION = """KubernetesServingSpec(name="vision", namespace={namespace!r}, region="cn-hangzhou",
    volume=ModelVolume(bucket="examplebucket", root="models/", role_name={role!r}), config_file=True, rollout="restart",
    config=CONFIG, allow_labels_for_unavailable_versions=True, monitoring="prometheus_config {{ enable: true }}",
    memory=2048, cpu=0.5, gpu=1, pool=POOL, headless=True, env={{"TF_CPP_MIN_LOG_LEVEL": {level!r}}},
    autoscaler={autoscaler}, ingress=GrpcIngress(host="vision.example.com", annotations=NO_CONTROLLER),
    startup_seconds=60, drain_seconds=1)"""
AUTOSCALER = "PodAutoscaler(min=2, max=4, cpu=70, memory=80, pods=(PodMetric(name='requests', average='200'),))"


class Stack:
    """A program with one service, and the engine over it."""

    def __init__(self, root: Path, cluster: LocalCluster, namespace: str, api: Any) -> None:
        self.root, self.api, self.namespace = root, api, namespace
        self._kubeconfig = str(cluster.kubeconfig)
        (root / "Pulumi.yaml").write_text("{name: kube, runtime: python, stackConfigDir: stacks}")
        (root / "stacks").mkdir()
        (root / "stacks" / "Pulumi.dev.yaml").write_text("config: {}")

    def write(self, *, role: str = "model-reader", level: str = "1", stable: int = 1, autoscaler: str = "None") -> None:
        spec = VISION.format(namespace=self.namespace, role=role, level=level, autoscaler=autoscaler)
        self.write_specs(spec, stable)

    def write_specs(self, specs: str, stable: int = 1) -> None:
        text = PROGRAM.format(repository=str(REPOSITORY), kubeconfig=self._kubeconfig, specs=specs, stable=stable)
        (self.root / "__main__.py").write_text(textwrap.dedent(text))

    def run(self, command: str, *options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "sandbox", command, "--stack", "dev", "--cwd", str(self.root), *options],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            cwd=REPOSITORY,
            text=True,
            capture_output=True,
            timeout=300,
            check=False,
        )

    def counts(self, command: str, *options: str) -> dict[str, int]:
        """What a successful command did, by kind of step, without what stayed the same."""
        done = self.run(command, "--json", *options)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "warning" not in (done.stdout + done.stderr).lower()
        return {name: n for name, n in json.loads(done.stdout)["changeSummary"].items() if name != "same"}

    def up(self) -> dict[str, int]:
        return self.counts("up", "--yes")

    def get(self, kind: str, name: str = "vision", api_version: str = "v1") -> dict[str, Any]:
        return self.api.get(kind, self.namespace, name, api_version)

    def deployment(self) -> dict[str, Any]:
        return self.get("Deployment", api_version="apps/v1")

    def names(self, kind: str) -> list[str]:
        return [item["metadata"]["name"] for item in self.api.list(kind, self.namespace)]


@pytest.fixture(scope="module")
def node(cluster: LocalCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A GPU node of pool t4 whose model servers serve nothing, and so are ready at once."""
    models = tmp_path_factory.mktemp("models")
    network = PodNetwork(cluster.files.pod_network)
    found = Node(
        cluster.kubeconfig,
        "gpu-1",
        network,
        lambda _: models,
        tmp_path_factory.mktemp("pods"),
        labels={"tf-serving/node-pool": "t4"},
        taints=[TAINT],
        capacity={"nvidia.com/gpu": "8"},
        hurry=True,
        server=(sys.executable, str(Path(__file__).with_name("hollow_server.py"))),
    )
    found.start()
    yield found
    found.stop()
    network.close()


@pytest.fixture
def stack(
    tmp_path: Path, cluster: LocalCluster, node: Node, make_namespace: Callable[..., str], api: Any
) -> Iterator[Stack]:
    found = Stack(tmp_path, cluster, make_namespace("privileged"), api)
    yield found
    found.run("destroy", "--yes")


def test_everything_is_made_without_a_warning_and_a_second_look_changes_nothing(stack: Stack) -> None:
    stack.write(autoscaler=AUTOSCALER)
    assert stack.up() == {"create": 13}
    assert stack.counts("preview") == {}
    assert stack.counts("refresh", "--yes") == {}
    assert stack.counts("preview", "--refresh") == {}
    pods = stack.api.list("Pod", stack.namespace)
    assert {pod["spec"]["nodeName"] for pod in pods} == {"gpu-1"}
    assert len(pods) == 2
    assert stack.get("HorizontalPodAutoscaler", api_version="autoscaling/v2")["spec"]["maxReplicas"] == 4
    assert stack.get("Ingress", api_version="networking.k8s.io/v1")["spec"]["ingressClassName"] == "alb"
    assert stack.get("PodDisruptionBudget", api_version="policy/v1")["spec"]["maxUnavailable"] == 1
    endpoints = {port["name"]: port.get("appProtocol") for port in stack.get("Service")["spec"]["ports"]}
    assert endpoints == {"grpc": "kubernetes.io/h2c", "http": None}
    assert stack.counts("destroy", "--yes") == {"delete": 13}
    assert stack.names("Pod") == []
    assert stack.names("PersistentVolumeClaim") == []
    assert [name for name in stack.names("ConfigMap") if name != "kube-root-ca.crt"] == []
    assert [v for v in stack.names("PersistentVolume") if v.startswith(stack.namespace)] == []


def test_a_change_of_the_pods_is_an_update_in_place(stack: Stack) -> None:
    stack.write()
    stack.up()
    before = stack.deployment()
    stack.write(level="2")
    assert stack.counts("preview") == {"update": 1}
    assert stack.up() == {"update": 1}
    after = stack.deployment()
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert after["metadata"]["generation"] == before["metadata"]["generation"] + 1
    (pod,) = [p for p in stack.api.list("Pod", stack.namespace) if not p["metadata"].get("deletionTimestamp")]
    assert {"name": "TF_CPP_MIN_LOG_LEVEL", "value": "2"} in pod["spec"]["containers"][0]["env"]


def test_a_moved_label_is_a_new_config_map_a_rolling_update_and_then_the_old_one_goes(stack: Stack) -> None:
    stack.write()
    stack.up()
    (old,) = [name for name in stack.names("ConfigMap") if "-config-" in name]
    stack.write(stable=2)
    assert stack.up() == {"replace": 1, "update": 1}
    (new,) = [name for name in stack.names("ConfigMap") if "-config-" in name]
    assert new != old
    volumes = stack.deployment()["spec"]["template"]["spec"]["volumes"]
    assert [v["configMap"]["name"] for v in volumes if v["name"] == "config"] == [new]


def test_a_volume_that_leads_elsewhere_replaces_volume_and_claim(stack: Stack) -> None:
    stack.write()
    stack.up()
    (old,) = stack.names("PersistentVolumeClaim")
    stack.write(role="other-reader")
    assert stack.up() == {"replace": 2, "update": 1}
    (new,) = stack.names("PersistentVolumeClaim")
    assert new != old
    assert stack.get("PersistentVolumeClaim", new)["status"]["phase"] == "Bound"


def test_an_object_edited_by_hand_is_drift_and_is_put_right(stack: Stack) -> None:
    stack.write()
    stack.up()
    path = stack.api.path("Deployment", stack.namespace, "vision", "apps/v1")
    edit = {"spec": {"template": {"spec": {"terminationGracePeriodSeconds": 99}}}}
    edited = stack.api.call(
        "PATCH", f"{path}?fieldManager=kubectl-edit", edit, "application/strategic-merge-patch+json"
    )
    assert edited.status == 200
    assert stack.counts("preview") == {}  # a plain preview looks at the state
    assert stack.counts("preview", "--refresh") == {"update": 1}
    assert stack.run("preview", "--refresh", "--expect-no-changes").returncode != 0
    assert stack.counts("up", "--yes", "--refresh") == {"update": 1}
    assert stack.deployment()["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 11
    assert stack.counts("preview", "--refresh") == {}


def test_an_object_removed_by_hand_is_made_again(stack: Stack) -> None:
    stack.write()
    stack.up()
    assert stack.api.call("DELETE", stack.api.path("Service", stack.namespace, "vision")).status == 200
    assert stack.counts("up", "--yes", "--refresh") == {"create": 1}
    assert stack.get("Service")["spec"]["type"] == "ClusterIP"


@pytest.mark.skipif(bool(shutil.which("pulumi-resource-kubernetes")), reason="about the words of the stand-in")
def test_pods_that_fit_no_node_end_the_run_with_the_schedulers_reason(stack: Stack) -> None:
    specs = VISION.format(namespace=stack.namespace, role="r", level="1", autoscaler="None")
    stack.write_specs(specs.replace("gpu=1", "gpu=64"))
    program = stack.root / "__main__.py"
    patience = "from tfserving.kubernetes import manifests\nmanifests._progress_seconds = lambda spec: 3\n"
    program.write_text(patience + program.read_text())
    done = stack.run("up", "--yes")
    assert done.returncode != 0
    assert "Insufficient nvidia.com/gpu" in done.stdout + done.stderr
    stack.write()
    assert stack.counts("up", "--yes").get("update") == 1  # what was half made is gone on with


def test_a_cluster_that_is_not_on_this_machine_is_refused(stack: Stack, cluster: LocalCluster) -> None:
    real = stack.root / "real"
    real.write_text(cluster.kubeconfig.read_text().replace("127.0.0.1", "203.0.113.1"))
    stack._kubeconfig = str(real)
    stack.write()
    done = stack.run("up", "--yes")
    assert done.returncode != 0
    assert "deploys to loopback only" in done.stdout + done.stderr
