"""The console beside a real Kubernetes cluster: services on it are shown, asked and followed like those on PAI-EAS."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sandbox.kube.cluster import LocalCluster
from sandbox.kube.network import PodNetwork
from sandbox.kube.node import Node
from sandbox.kube.process import lock
from tests.cloud.conftest import running_cloud
from tests.cloud.console import many_models
from tests.cloud.console.browser import Browser, missing
from tests.cloud.eas.conftest import Answer, http
from tests.waiting import until
from tfserving import config_notes, kubernetes, model_config
from tfserving.kubernetes import KubernetesServingSpec, ModelVolume
from tfserving.model_config import Model, ModelServerConfig, VersionPolicy

pytestmark = pytest.mark.slow

CONFIG_MAP = "tf-serving-model-config"


@pytest.fixture(scope="module")
def node(cluster: LocalCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node whose pods answer for every model, and whose output lies where a cluster keeps it."""
    models = tmp_path_factory.mktemp("models")
    network = PodNetwork(cluster.files.pod_network)
    found = Node(
        cluster.kubeconfig,
        "console-1",
        network,
        lambda _: models,
        cluster.files.data / "pods",
        sync_seconds=0.3,
        hurry=True,
        server=(sys.executable, many_models.__file__),
    )
    found.start()
    yield found
    found.stop()
    network.close()


@dataclass
class Console:
    """The console, and a service on the cluster."""

    url: str
    name: str
    write: Callable[..., None]
    api: Any

    def get(self, path: str, **headers: str) -> Answer:
        return http("GET", f"{self.url}api/{path}", **headers)

    def service(self) -> dict[str, Any]:
        services = self.get("overview").json["services"]
        return next((each for each in services if each["name"] == self.name), {})

    def writes(self) -> list[dict[str, Any]]:
        """The writes of its own model config file: the cluster may have services of other tests."""
        return [each for each in self.get("rollouts").json["writes"] if self.name in each["services"]]

    def ask(self, path: str, **more: Any) -> dict[str, Any]:
        body = json.dumps({"service": self.name, "path": path, "body": "{}", **more}).encode()
        origin = self.url.partition("/-/")[0]
        answer = http(
            "POST", f"{self.url}api/request", body=body, Origin=origin, **{"Content-Type": "application/json"}
        )
        return {**answer.json, "http": answer.status}


def serving(stable: int) -> str:
    model = Model("modelB", "/models/modelB", policy=VersionPolicy.specific([1, 2]), labels={"stable": stable})
    config = ModelServerConfig((model,))
    return config_notes.head("tf-serving/ack", "") + model_config.render(config)


@pytest.fixture
def console(
    cluster: LocalCluster, node: Node, api: Any, make_namespace: Callable[..., str], tmp_path: Path
) -> Iterator[Console]:
    namespace = make_namespace()
    spec = KubernetesServingSpec(
        name="vision",
        namespace=namespace,
        region="cn-hangzhou",
        volume=ModelVolume(bucket="examplebucket", root="models/", role_name="reader"),
        config_file=True,
        config_poll_seconds=1,
        uses_labels=True,
        allow_labels_for_unavailable_versions=True,
        monitoring="prometheus_config { enable: true }",
        flags={"grpc_max_threads": 3},
        replicas=2,
        cpu=0.1,
        memory=128,
        drain_seconds=1,
    )

    def write(stable: int) -> None:
        metadata = {"name": CONFIG_MAP, "namespace": namespace}
        data = {spec.config_file_name: serving(stable)}
        made = api.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})
        assert made.status in (200, 201), made.body

    write(1)
    for wanted in kubernetes.build(spec).all():
        made = api.apply(wanted)
        assert made.status in (200, 201), made.body
    with lock(cluster.files).held(), running_cloud(tmp_path / "cloud", cluster.files.data) as cloud:
        found = Console(f"{cloud.url}/-/console/", f"{namespace}/vision", write, api)
        until(lambda: found.service().get("status") == "Running", 120)
        yield found


def test_a_service_on_the_cluster_is_shown_asked_and_followed(console: Console) -> None:
    service = console.service()
    assert (service["place"], service["replicas"]) == ("Kubernetes", {"ready": 2, "wanted": 2})
    (model,) = service["models"]
    assert [(each["version"], each["states"]) for each in model["versions"]] == [
        (2, {"AVAILABLE": 2}),
        (1, {"AVAILABLE": 2}),
    ]
    assert model["labels"] == [{"label": "stable", "wanted": 1, "answered": [1]}]

    answer = console.ask("/v1/models/modelB/labels/stable:predict", other={"version": "2"})
    assert (answer["status"], answer["version"], answer["other"]["version"]) == (200, 1, 2)
    (output,) = answer["difference"]["outputs"]
    assert (output["largest"], output["left"]) == ("1", many_models.LARGE[1])
    sample = console.get(f"model?service={console.name}&model=modelB").json["sample"]
    assert json.loads(sample["body"]) == {"signature_name": "serving_default", "instances": [[1, 1]]}

    lines = console.get(f"log?service={console.name}").json["lines"]
    assert sum("in the log" in line for line in lines) == 2
    events = console.get(f"events?service={console.name}").json["events"]
    assert "ScalingReplicaSet" in {each["reason"] for each in events}
    counted = console.get(f"metrics?service={console.name}").json
    assert (counted["problem"], counted["replicas"]) == ("", 2)

    console.write(2)
    until(lambda: len(console.writes()) == 2)
    newest = console.writes()[0]
    assert (newest["by"], newest["step"], newest["lines"]) == (
        "tf-serving/ack", "move", ["modelB: label stable moves 1 to 2"]
    )  # fmt: skip
    assert newest["services"] == [console.name]
    # This server keeps its labels: the rollout stays under way.
    assert newest["waiting"] == [f"{console.name}: label stable of modelB is answered by 1, not 2"]


def test_no_path_leads_from_a_pod_to_the_rest_of_the_api_server(console: Console) -> None:
    for path in (
        "/../../../../secrets",
        "/v1/%2e%2e/%2e%2e/x",
        "/v1/%252e%252e/x",
        "/..%2f..%2fsecrets",
        "/v1\\..\\x",
        "/.",
    ):
        answer = console.ask(path, body="")
        assert answer["http"] == 400, path
        assert re.search("leads out of the service|characters a path cannot have", answer["Message"])


def test_the_page_shows_it_and_sends_to_it(console: Console, tmp_path: Path) -> None:
    if reason := missing():
        pytest.skip(reason)
    with Browser(tmp_path / "profile") as page:
        page.open(console.url)
        page.sees(console.name, "#services")
        page.sees("HTTP and gRPC · Kubernetes", "#services")
        page.ask(f"{console.name}/modelB/label:stable")
        page.sees("Made from the signature", "#body-hint")
        page.one("#send").click()
        page.sees("answered by version 1", "#answer")
        page.sees(many_models.LARGE[1], "#answer pre")
        assert page.errors() == []


def test_a_cluster_that_is_stopped_has_no_services_and_one_that_is_broken_says_so(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    with running_cloud(tmp_path / "cloud", cluster.files.data) as cloud:
        found = http("GET", f"{cloud.url}/-/console/api/overview").json
        assert (found["services"], found["problems"]) == ([], [])
    broken = tmp_path / "cluster"
    broken.mkdir()
    (broken / "kubeconfig").write_text(cluster.kubeconfig.read_text().replace(cluster.url, "https://127.0.0.1:1"))
    files = type(cluster.files)(broken)
    with lock(files).held(), running_cloud(tmp_path / "other", broken) as cloud:
        found = http("GET", f"{cloud.url}/-/console/api/overview").json
        assert found["services"] == []
        assert "The Kubernetes cluster does not answer" in found["problems"][0]
