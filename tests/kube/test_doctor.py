"""What the doctor says of a cluster, asked of a real API server in the name of a service account."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client

from ops.doctor import kubernetes as doctor_kubernetes
from ops.finding import Finding
from sandbox.kube.cluster import LocalCluster

pytestmark = pytest.mark.slow

SERVICES: dict[str, dict[str, Any]] = {"vision": {"target": "ack", "autoscaler": {"min": 1, "max": 2, "cpu": 70}}}
MANAGE = ["get", "create", "patch", "delete"]
RULES: list[dict[str, Any]] = [
    {"apiGroups": [""], "resources": ["configmaps", "services", "persistentvolumeclaims"], "verbs": MANAGE},
    {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": MANAGE},
    {"apiGroups": ["autoscaling"], "resources": ["horizontalpodautoscalers"], "verbs": MANAGE},
    {"apiGroups": ["policy"], "resources": ["poddisruptionbudgets"], "verbs": MANAGE},
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]},
    {"apiGroups": [""], "resources": ["pods/proxy", "pods/log"], "verbs": ["get"]},
]


@pytest.fixture
def account(cluster: LocalCluster, api: Any, namespace: str, tmp_path: Path) -> Callable[[list[dict[str, Any]]], Path]:
    """Makes a kubeconfig of a service account with some rights in the namespace."""

    def make(rules: list[dict[str, Any]]) -> Path:
        core = client.CoreV1Api(api.client)
        rbac = client.RbacAuthorizationV1Api(api.client)
        metadata = {"name": "deploy"}
        core.create_namespaced_service_account(namespace, {"metadata": metadata})
        rbac.create_namespaced_role(namespace, {"metadata": metadata, "rules": rules})
        reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "deploy"}
        subject = {"kind": "ServiceAccount", "name": "deploy", "namespace": namespace}
        rbac.create_namespaced_role_binding(
            namespace, {"metadata": metadata, "roleRef": reference, "subjects": [subject]}
        )
        token = core.create_namespaced_service_account_token("deploy", namespace, {"spec": {}}).status.token
        document = yaml.safe_load(cluster.kubeconfig.read_text(encoding="utf-8"))
        document["users"] = [{"name": each["name"], "user": {"token": token}} for each in document["users"]]
        file = tmp_path / "kubeconfig"
        file.write_text(yaml.safe_dump(document), encoding="utf-8")
        return file

    return make


def look(settings: Mapping[str, Any], project_dir: Path = Path("/"), *, local: bool = False) -> list[Finding]:
    return list(doctor_kubernetes.findings(settings, SERVICES, project_dir, local=local))


def test_an_identity_that_may_do_everything_is_well(cluster: LocalCluster, namespace: str) -> None:
    server, rights = look({"kubeconfig": str(cluster.kubeconfig), "namespace": namespace})
    assert server.level == rights.level == "ok"
    assert cluster.url in server.text
    assert f"may deploy to namespace {namespace}" in rights.text


def test_rights_that_are_missing_are_named(account: Callable[..., Path], namespace: str) -> None:
    rules = [*RULES[1:-1], {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]}]
    file = account([{**RULES[0], "verbs": ["get", "create"]}, *rules])
    # By a relative path, as a stack file has it.
    _, rights = look({"kubeconfig": file.name, "namespace": namespace}, file.parent)
    assert rights.level == "error"
    for words in (
        "may not patch, delete configmaps",
        "may not patch, delete persistentvolumeclaims",
        "may not get, create, patch, delete persistentvolumes",
        "may not get pods/proxy",
    ):
        assert words in rights.text
    assert "deployments" not in rights.text
    assert "docs/kubernetes.md" in rights.fix


def test_with_a_claim_that_exists_the_role_of_the_document_and_the_objects_are_enough(
    account: Callable[..., Path], namespace: str
) -> None:
    settings = {"kubeconfig": account(RULES).read_text(), "namespace": namespace, "volume": {"claim": "models"}}
    assert [each.level for each in look(settings)] == ["ok", "ok"]


def test_a_cluster_that_is_not_there_is_an_error_and_an_unknown_one_is_skipped(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    gone = tmp_path / "gone"
    gone.write_text(cluster.kubeconfig.read_text().replace(cluster.url, "https://127.0.0.1:1"))
    (finding,) = look({"kubeconfig": str(gone)})
    assert finding.level == "error"
    assert "no answer from the API server" in finding.text
    (finding,) = look({"kubeconfig": str(tmp_path / "none")})
    assert "cannot be used" in finding.text
    assert [each.level for each in look({"kubeconfig": {"secure": "AAAA"}})] == ["skipped"]
    assert [each.level for each in look({"cluster": {"name": "serving"}})] == ["skipped"]
    (finding,) = look({}, local=True)
    assert (finding.level, finding.fix[:4]) == ("error", "set ")
