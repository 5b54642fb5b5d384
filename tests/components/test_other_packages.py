"""Resources of other packages, against the SDKs of these packages, of which a program's environment has one each."""

from __future__ import annotations

import importlib
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pulumi
import pulumi_alicloud
import pulumi_kubernetes
import pytest
from google.protobuf import json_format
from pulumi import _types

from components import other_packages
from components.other_packages import AlicloudProvider, AlicloudProviderArgs, KubernetesProvider
from tests.components import mock_engine
from tests.components import test_kubernetes_program as kubernetes_program
from tests.components.mock_engine import ROOT
from tests.components.test_kubernetes_program import KUBERNETES, MADE, POOL, VISION, Deploy
from tests.provider.test_package import pins

config, deploy = kubernetes_program.config, kubernetes_program.deploy

_SDKS = {
    "alicloud:oss/bucket:Bucket": "pulumi_alicloud.oss.BucketArgs",
    "alicloud:oss/bucketObject:BucketObject": "pulumi_alicloud.oss.BucketObjectArgs",
    "alicloud:vpc/network:Network": "pulumi_alicloud.vpc.NetworkArgs",
    "alicloud:vpc/switch:Switch": "pulumi_alicloud.vpc.SwitchArgs",
    "alicloud:cs/managedKubernetes:ManagedKubernetes": "pulumi_alicloud.cs.ManagedKubernetesArgs",
    "alicloud:cs/nodePool:NodePool": "pulumi_alicloud.cs.NodePoolArgs",
    "kubernetes:core/v1:ConfigMap": "pulumi_kubernetes.core.v1.ConfigMapInitArgs",
    "kubernetes:core/v1:PersistentVolume": "pulumi_kubernetes.core.v1.PersistentVolumeInitArgs",
    "kubernetes:core/v1:PersistentVolumeClaim": "pulumi_kubernetes.core.v1.PersistentVolumeClaimInitArgs",
    "kubernetes:core/v1:Service": "pulumi_kubernetes.core.v1.ServiceInitArgs",
    "kubernetes:apps/v1:Deployment": "pulumi_kubernetes.apps.v1.DeploymentInitArgs",
    "kubernetes:autoscaling/v2:HorizontalPodAutoscaler": (
        "pulumi_kubernetes.autoscaling.v2.HorizontalPodAutoscalerInitArgs"
    ),
    "kubernetes:networking.k8s.io/v1:Ingress": "pulumi_kubernetes.networking.v1.IngressInitArgs",
    "kubernetes:policy/v1:PodDisruptionBudget": "pulumi_kubernetes.policy.v1.PodDisruptionBudgetInitArgs",
}
"""Classes of arguments in the SDKs by type."""


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Everything that programs of this test register, as it comes over the wire."""
    found: list[dict[str, Any]] = []
    answer = mock_engine.MockMonitor.RegisterResource

    def record(self: mock_engine.MockMonitor, request: Any) -> Any:
        found.append(json_format.MessageToDict(request))
        return answer(self, request)

    monkeypatch.setattr(mock_engine.MockMonitor, "RegisterResource", record)
    return found


def _class(name: str) -> Any:
    module, _, own = name.rpartition(".")
    return getattr(importlib.import_module(module), own)


def _unlike(value: Any, hint: Any, path: str) -> Iterator[str]:
    """Where a value on the wire is none that the SDK's type would send."""
    options = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    found = [list(_unlike_one(value, each, path)) for each in options]
    yield from min(found, key=len, default=[f"{path}: no type"])


def _unlike_one(value: Any, hint: Any, path: str) -> Iterator[str]:
    origin = typing.get_origin(hint)
    if isinstance(hint, type) and _types.is_input_type(hint):
        if not isinstance(value, dict):
            yield f"{path}: {value!r} is no object"
            return
        known = _types.input_type_types(hint)
        for key, item in value.items():
            if key in known:
                yield from _unlike(item, known[key], f"{path}.{key}")
            else:
                yield f"{path}.{key}: {hint.__name__} has no such property"
    elif origin is not None and isinstance(value, list) and issubclass(origin, list | typing.Sequence):
        for index, item in enumerate(value):
            yield from _unlike(item, typing.get_args(hint)[0], f"{path}[{index}]")
    elif origin is not None and isinstance(value, dict) and isinstance(origin, type) and issubclass(origin, Mapping):
        for key, item in value.items():
            yield from _unlike(item, typing.get_args(hint)[1], f"{path}.{key}")
    elif origin is typing.Literal:
        if value not in typing.get_args(hint):
            yield f"{path}: {value!r} is not of {hint}"
    elif hint is Any:
        return
    else:
        kinds = {bool: bool, str: str, int: float, float: float}
        if hint not in kinds or not isinstance(value, kinds[hint]) or (hint is int and not value.is_integer()):
            yield f"{path}: {value!r} is no {hint}"


EVERYTHING: dict[str, Any] = {
    **MADE,
    f"{KUBERNETES}.kubeconfig": "kubeconfig",
    f"{KUBERNETES}.cluster.version": "1.32.1-aliyun.1",
    f"{POOL}.dataDisks": [{"category": "cloud_essd", "size": 200, "performanceLevel": "PL1"}],
    f"{POOL}.spot": {"priceLimits": {"ecs.gn6i-c4g1.xlarge": 3.5}, "onDemandBase": 1},
    f"{POOL}.kubelet": {"cpuManagerPolicy": "static", "kubeReserved": {"cpu": "1"}},
    f"{POOL}.securityGroupIds": ["sg-1"],
    f"{POOL}.tags": {"team": "vision"},
    f"{POOL}.resourceGroupId": "rg-1",
    f"{POOL}.autoUpgrade": True,
    f"{VISION}.monitoring": True,
    f"{VISION}.headless": True,
    f"{VISION}.autoscaler": {"min": 2, "max": 4, "cpu": 70},
    f"{VISION}.ingress": {"host": "models.example.com", "class": "nginx", "tlsSecret": "models-tls"},
    "tf-serving:bucket.tags": {"team": "vision"},
    "tf-serving:services.multi_http.batching": {"max_batch_size": 32},
}


def test_properties_have_names_and_types_of_the_sdks(deploy: Deploy, requests: list[dict[str, Any]]) -> None:
    run = deploy(EVERYTHING)
    assert run.error == ""
    found = {each["type"]: each for each in requests if each["type"].startswith(("alicloud:", "kubernetes:"))}
    assert found.keys() == _SDKS.keys()
    problems = [
        problem for kind, each in found.items() for problem in _unlike(each["object"], _class(_SDKS[kind]), kind)
    ]
    assert problems == []


def test_the_releases_are_those_of_requirements_txt_and_of_the_sdks() -> None:
    asked = pins(ROOT / "requirements.txt")
    for name, version, sdk in (
        ("alicloud", other_packages.ALICLOUD_VERSION, pulumi_alicloud),
        ("kubernetes", other_packages.KUBERNETES_VERSION, pulumi_kubernetes),
    ):
        assert f"pulumi-{name}=={version}" in asked
        assert sdk._utilities.get_version() == version
        assert sdk._utilities.get_plugin_download_url() is None


def _registered(requests: list[dict[str, Any]], make: Callable[[], object]) -> dict[str, Any]:
    """What a program registers that makes one resource."""
    requests.clear()
    assert mock_engine.run(make).error == ""
    [found] = [each for each in requests if each["type"] != "pulumi:pulumi:Stack"]
    return {key: value for key, value in found.items() if key not in ("sourcePosition", "stackTrace")}


@pytest.mark.parametrize("kind", _SDKS)
def test_a_resource_is_registered_as_by_the_sdk(kind: str, requests: list[dict[str, Any]]) -> None:
    """All but its arguments: release, secret outputs, earlier types."""
    [ours] = [each for each in vars(other_packages).values() if getattr(each, "kind", "") == kind]
    name = _SDKS[kind].removesuffix("Args").removesuffix("Init")
    needed: dict[str, Any] = {
        "alicloud:oss/bucketObject:BucketObject": {"bucket": "b", "key": "k"},
        "alicloud:cs/nodePool:NodePool": {"cluster_id": "c"},
    }.get(kind, {})
    if "spec" in _types.input_type_types(_class(_SDKS[kind])):
        needed = {"spec": {"type": "ClusterIP"} if kind.endswith(":Service") else {}}
    protect = pulumi.ResourceOptions(protect=True)
    theirs = _registered(requests, lambda: _class(name)("x", opts=protect, **needed))
    mine = _registered(requests, lambda: ours("x", theirs["object"], protect))
    assert mine == theirs


VARIABLES = {
    "ALICLOUD_PROFILE": "staging",
    "ALICLOUD_ECS_ROLE_NAME": "runner",
    "KUBECONFIG": "/home/somebody/kubeconfig",
    "PULUMI_K8S_DELETE_UNREACHABLE": "true",
    "PULUMI_K8S_ENABLE_CONFIGMAP_MUTABLE": "T",
    "PULUMI_K8S_ENABLE_SECRET_MUTABLE": "0",
    "PULUMI_K8S_ENABLE_SERVER_SIDE_APPLY": "false",
    "PULUMI_K8S_SKIP_UPDATE_UNREACHABLE": "1",
    "PULUMI_K8S_SUPPRESS_DEPRECATION_WARNINGS": "yes",
    "PULUMI_K8S_SUPPRESS_HELM_HOOK_WARNINGS": "True",
    "PULUMI_K8S_UPSERT_EXISTING_OBJECTS": "",
}


def _settings() -> AlicloudProviderArgs:
    return {
        "region": "cn-hangzhou",
        "protocol": "HTTPS",
        "accountType": None,
        "skipRegionValidation": True,
        "profile": None,
        "accessKey": pulumi.Output.secret("key"),
        "secretKey": pulumi.Output.secret("secret"),
        "securityToken": None,
        "clientReadTimeout": 60000,
        "clientConnectTimeout": None,
        "maxRetryTimeout": None,
        "endpoints": [{"oss": "127.0.0.1:7580"}],
    }


@pytest.mark.parametrize("variables", [{}, VARIABLES], ids=["no variables", "variables"])
def test_providers_are_registered_as_by_the_sdks(
    variables: Mapping[str, str], requests: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    opts = pulumi.ResourceOptions()
    assert _registered(requests, lambda: KubernetesProvider("x", None, None, opts)) == _registered(
        requests, lambda: pulumi_kubernetes.Provider("x", enable_patch_force=True)
    )
    theirs = _registered(
        requests,
        lambda: pulumi_alicloud.Provider(
            "x",
            region="cn-hangzhou",
            protocol="HTTPS",
            skip_region_validation=True,
            access_key=pulumi.Output.secret("key"),
            secret_key=pulumi.Output.secret("secret"),
            client_read_timeout=60000,
            endpoints=[pulumi_alicloud.ProviderEndpointArgs(oss="127.0.0.1:7580")],
        ),
    )
    assert _registered(requests, lambda: AlicloudProvider("x", _settings(), opts)) == theirs
