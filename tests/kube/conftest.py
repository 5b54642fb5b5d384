"""A real Kubernetes cluster on loopback for the session, where its programs are built; everything else is a client."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from kubernetes import client, config

from sandbox.kube import build
from sandbox.kube.cluster import Cluster, running


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

    cluster: Cluster
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
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if why := build.missing():
        pytest.skip(why)
    with running(tmp_path_factory.mktemp("cluster")) as found:
        yield found


@pytest.fixture
def api(cluster: Cluster) -> Api:
    return Api(cluster)


@pytest.fixture
def make_namespace(api: Api) -> Callable[..., str]:
    """A fresh namespace, in which every pod has to meet the restricted standard."""

    def make(level: str = "restricted") -> str:
        name = f"test-{secrets.token_hex(4)}"
        labels = {"pod-security.kubernetes.io/enforce": level, "pod-security.kubernetes.io/warn": level}
        made = api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
        assert made.status == 201, made.body
        return name

    return make


@pytest.fixture
def namespace(make_namespace: Callable[..., str]) -> str:
    return make_namespace()
