"""A real Kubernetes cluster on loopback for the session, where its programs are built; everything else is a client."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator
from concurrent import futures
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from kubernetes import client, config
from pulumi.runtime.proto import engine_pb2_grpc

from sandbox.kube import build
from sandbox.kube.cluster import LocalCluster, running
from tests.ports import free_port
from tests.provider.harness import Engine, Plugin
from tests.provider.harness import config as provider_config


@dataclass(frozen=True)
class Answer:
    """One answer of the API server."""

    status: int
    body: dict[str, Any]
    warnings: list[str]

    @property
    def message(self) -> str:
        return str(self.body.get("message", ""))


_PLURALS = {
    "ConfigMap": "configmaps",
    "Deployment": "deployments",
    "HorizontalPodAutoscaler": "horizontalpodautoscalers",
    "Ingress": "ingresses",
    "Namespace": "namespaces",
    "Node": "nodes",
    "PersistentVolume": "persistentvolumes",
    "PersistentVolumeClaim": "persistentvolumeclaims",
    "Pod": "pods",
    "PodDisruptionBudget": "poddisruptionbudgets",
    "Secret": "secrets",
    "Service": "services",
}
_CLUSTER_WIDE = ("Namespace", "Node", "PersistentVolume")


@dataclass
class Api:
    """The API server through the official client, without its models: plain objects go in and come out."""

    cluster: LocalCluster
    warnings: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.client = config.new_client_from_config(str(self.cluster.kubeconfig))

    def path(self, kind: str, namespace: str, name: str = "", api_version: str = "v1") -> str:
        prefix = f"/api/{api_version}" if "/" not in api_version else f"/apis/{api_version}"
        place = "" if kind in _CLUSTER_WIDE else f"/namespaces/{namespace}"
        return f"{prefix}{place}/{_PLURALS[kind]}{f'/{name}' if name else ''}"

    def call(self, method: str, path: str, body: Any = None, content_type: str = "application/json") -> Answer:
        headers = {"Accept": "application/json"} | ({"Content-Type": content_type} if body is not None else {})
        try:
            response = self.client.call_api(method, f"{self.cluster.url}{path}", headers, body)
            status, text, found = response.status, response.read(), response.headers
        except client.ApiException as error:
            status, text, found = error.status, error.body, error.headers or {}
        warnings = [value for name, value in found.items() if name.lower() == "warning"]
        self.warnings += warnings
        return Answer(status, json.loads(text or b"{}"), warnings)

    def apply(self, manifest: dict[str, Any], manager: str = "test") -> Answer:
        """Server-side apply that refuses unknown and duplicate fields."""
        metadata = manifest["metadata"]
        path = self.path(
            manifest["kind"], metadata.get("namespace", ""), metadata["name"], api_version=manifest["apiVersion"]
        )
        query = f"?fieldManager={manager}&fieldValidation=Strict&force=true"
        return self.call("PATCH", path + query, manifest, "application/apply-patch+yaml")

    def get(self, kind: str, namespace: str, name: str, api_version: str = "v1") -> dict[str, Any]:
        answer = self.call("GET", self.path(kind, namespace, name, api_version))
        assert answer.status == 200, answer.body
        return answer.body

    def list(self, kind: str, namespace: str, api_version: str = "v1") -> list[dict[str, Any]]:
        return list(self.call("GET", self.path(kind, namespace, "", api_version)).body["items"])


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    if why := build.missing():
        pytest.skip(why)
    with running(tmp_path_factory.mktemp("cluster")) as found:
        yield found


@pytest.fixture
def api(cluster: LocalCluster) -> Api:
    return Api(cluster)


@pytest.fixture
def make_namespace(api: Api) -> Iterator[Callable[..., str]]:
    """A fresh namespace, in which every pod has to meet the restricted standard.

    It goes with its test: Deployments that stay would have their pods run by the nodes of other modules.
    """
    made: list[str] = []

    def make(level: str = "restricted") -> str:
        name = f"test-{secrets.token_hex(4)}"
        labels = {"pod-security.kubernetes.io/enforce": level, "pod-security.kubernetes.io/warn": level}
        answer = api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
        assert answer.status == 201, answer.body
        made.append(name)
        return name

    yield make
    for name in made:
        answer = api.call("DELETE", api.path("Namespace", "", name))
        assert answer.status in (200, 202, 404), answer.body


@pytest.fixture
def namespace(make_namespace: Callable[..., str]) -> str:
    return make_namespace()


@pytest.fixture(scope="module")
def plugin() -> Iterator[Plugin]:
    """The provider in a process of its own. Its resources here are in the cluster, so it reaches no other API."""
    engine, server = Engine(), grpc.server(futures.ThreadPoolExecutor(8))
    engine_pb2_grpc.add_EngineServicer_to_server(engine, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    started = Plugin(engine, f"127.0.0.1:{port}")
    started.configure(**provider_config(f"127.0.0.1:{free_port()}"))
    yield started
    started.stop()
    server.stop(0)
