"""The Kubernetes half of a stack, run against a mock of Pulumi's engine; and wrong configs of it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from config.stack import Settings, parse
from tests.components.mock_engine import Run, run_program
from tfserving.errors import ConfigError

Change = Callable[[dict[str, Any]], dict[str, Any]]

KUBERNETES = "tf-serving:kubernetes"
POOL = "tf-serving:gpuNodePools.t4"
VISION = "tf-serving:services.vision"

KUBECONFIG = """\
current-context: sandbox
contexts: [{{name: sandbox, context: {{cluster: sandbox, user: admin}}}}]
clusters: [{{name: sandbox, cluster: {{server: "{server}"}}}}]
users: [{{name: admin, user: {{}}}}]
"""
TAINT = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}
GOOD: dict[str, Any] = {
    KUBERNETES: {
        "kubeconfig": "kubeconfig",
        "namespace": "models",
        "clusterId": "c0123456789",
        "volume": {"roleName": "model-reader"},
    },
    POOL: {
        "instanceTypes": ["ecs.gn6i-c4g1.xlarge"],
        "vswitchIds": ["vsw-1a"],
        "scaling": {"min": 0, "max": 4},
        "taints": [TAINT],
    },
    VISION: {
        "target": "ack",
        "configFile": True,
        "allowLabelsForUnavailableVersions": True,
        "pool": "t4",
        "gpu": 1,
        "flags": {"num_load_threads": 2, "file_system_poll_wait_seconds": 30},
    },
}
SLICED = {f"{POOL}.gpuSharing": "share", f"{VISION}.gpu": ..., f"{VISION}.gpuMemory": 4}
MADE: dict[str, Any] = {
    f"{KUBERNETES}.clusterId": ...,
    f"{KUBERNETES}.kubeconfig": ...,
    f"{KUBERNETES}.cluster": {"name": "serving", "zones": {"cn-hangzhou-i": "10.0.0.0/24"}},
    f"{POOL}.vswitchIds": ...,
}


@pytest.fixture
def config(changed: Change, project: Path) -> Callable[..., dict[str, Any]]:
    """The good config with a Kubernetes half, and changes."""
    (project / "kubeconfig").write_text(KUBECONFIG.format(server="https://127.0.0.1:6443"))
    (project / "real").write_text(KUBECONFIG.format(server="https://47.110.0.1:6443"))
    (project / "broken").write_text("clusters: []")

    def make(changes: dict[str, Any] | None = None) -> dict[str, Any]:
        changed(copy.deepcopy(GOOD))
        return changed(changes or {})

    return make


@pytest.fixture
def deploy(config: Callable[..., dict[str, Any]], project: Path) -> Callable[..., Run]:
    """Runs the program: ``deploy({path: value})``."""

    def run(changes: dict[str, Any] | None = None, **options: Any) -> Run:
        values = config(changes)
        values["tf-serving:modelSource"] = str(project / "models")
        kubeconfig = values[KUBERNETES].get("kubeconfig")
        if kubeconfig and "\n" not in kubeconfig:
            values[KUBERNETES]["kubeconfig"] = str(project / kubeconfig)
        return run_program(values, **options)

    return run


Deploy = Callable[..., Run]


# ---- what is registered


def test_a_service_on_the_cluster_is_made_of_these_resources(deploy: Deploy) -> None:
    run = deploy({f"{VISION}.monitoring": True, f"{VISION}.autoscaler": {"min": 2, "max": 4, "cpu": 70},
                  f"{VISION}.headless": True})  # fmt: skip
    assert run.error == ""
    assert sorted(found.type for found in run.resources.values() if found.parent == "vision") == [
        "kubernetes:apps/v1:Deployment",
        "kubernetes:autoscaling/v2:HorizontalPodAutoscaler",
        "kubernetes:core/v1:ConfigMap",
        "kubernetes:core/v1:PersistentVolume",
        "kubernetes:core/v1:PersistentVolumeClaim",
        "kubernetes:core/v1:Service",
        "kubernetes:core/v1:Service",
        "kubernetes:policy/v1:PodDisruptionBudget",
    ]
    assert run.resources["t4-pool"].type == "alicloud:cs/nodePool:NodePool"
    assert run.resources["cluster-config"].type == "tfserving:index:ModelConfigFile"
    assert "vision" in run.component_outputs
    assert "t4" in run.component_outputs
    for resource in run.resources.values():
        assert resource.parent in ("", "serving") or resource.name.startswith(f"{resource.parent}-")
        if resource.type.startswith("kubernetes:"):
            assert "providers:kubernetes::kubernetes::" in resource.provider


def test_nodes_models_and_config_are_there_before_pods_and_labels_move_last(deploy: Deploy) -> None:
    run = deploy()
    resources, pods = run.resources, run.waits_for("vision-deployment")
    assert pods >= {"t4-pool", "cluster-config", "models-modelA", "models-modelB", "models-modelC", "vision-claim"}
    assert "vision-deployment" in resources["vision-service"].depends_on
    assert resources["served"].depends_on >= {"vision-deployment", "multi_http-service", "cluster-config"}


def test_one_rollout_reaches_services_of_both_kinds(deploy: Deploy) -> None:
    served = deploy().resources["served"].inputs
    assert set(served["services"]) == {"multi_http", "multi_grpc", "vision"}
    assert served["configMap"] == "models/tf-serving-model-config"
    assert served["services"]["vision"] == {
        "pods": {
            "namespace": "models",
            "selector": {"app.kubernetes.io/name": "tensorflow-serving", "app.kubernetes.io/instance": "vision"},
        },
        "reads": True,
        "pollSeconds": 10,
        "reachable": True,
    }


def test_a_stack_on_the_cluster_alone_writes_no_file_to_the_bucket(deploy: Deploy) -> None:
    run = deploy({"tf-serving:services": {"vision": GOOD[VISION]}})
    assert run.error == ""
    assert "models-config" not in run.resources
    assert set(run.resources["served"].inputs["services"]) == {"vision"}


def test_a_rolling_restart_is_a_matter_of_the_deployment_alone(deploy: Deploy) -> None:
    run = deploy({"tf-serving:services": {"vision": {**GOOD[VISION], "rollout": "restart"}}})
    assert run.error == ""
    assert "served" not in run.resources
    assert "cluster-config" not in run.resources
    config = run.resources["vision-config"].inputs
    assert config["immutable"] is True
    assert "modelB" in config["data"]["model_config.pbtxt"]
    volumes = run.resources["vision-deployment"].inputs["spec"]["template"]["spec"]["volumes"]
    assert {"name": "config", "configMap": {"name": config["metadata"]["name"]}} in volumes
    moved = deploy(
        {
            "tf-serving:services": {"vision": {**GOOD[VISION], "rollout": "restart"}},
            f"{VISION}.rollout": "restart",
            "tf-serving:models.modelB.labels": {"stable": 2, "canary": 2},
        }
    )
    assert moved.resources["vision-config"].inputs["metadata"]["name"] != config["metadata"]["name"]


def test_what_a_service_of_one_model_serves_is_proven_in_its_pods(deploy: Deploy, project: Path) -> None:
    single = {"target": "ack", "model": "modelA", "flags": GOOD[VISION]["flags"]}
    run = deploy({VISION: single})
    assert run.error == ""
    proof = run.resources["vision-served"]
    assert proof.type == "tfserving:index:ServedModel"
    assert proof.inputs["service"] == {
        "name": "vision",
        "pods": {
            "namespace": "models",
            "selector": {"app.kubernetes.io/name": "tensorflow-serving", "app.kubernetes.io/instance": "vision"},
        },
        "reachable": True,
    }
    assert (proof.inputs["model"], proof.inputs["versions"]) == ("modelA", [1])
    assert proof.inputs["kubeconfig"] == str(project / "kubeconfig")
    assert run.waits_for("vision-served") >= {"vision-deployment", "models-modelA"}


def test_a_stack_without_a_cluster_has_nothing_of_kubernetes(deploy: Deploy) -> None:
    changes = {KUBERNETES: ..., "tf-serving:gpuNodePools": ..., VISION: ...}
    values = deploy({**changes, KUBERNETES: {"kubeconfig": "kubeconfig"}}).resources
    assert not [name for name, found in values.items() if found.type.startswith(("kubernetes:", "alicloud:cs"))]


def test_a_pool_is_sent_as_declared_and_without_what_the_api_fills_in(deploy: Deploy) -> None:
    pool = deploy({f"{POOL}.kubelet": {"maxPods": 64, "kubeReserved": {"memory": "1Gi"}, "cpuCfsQuota": True}})
    inputs = pool.resources["t4-pool"].inputs
    assert inputs == {
        "clusterId": "c0123456789",
        "nodePoolName": "t4",
        "vswitchIds": ["vsw-1a"],
        "instanceTypes": ["ecs.gn6i-c4g1.xlarge"],
        "imageType": "AliyunLinux3",
        "systemDiskCategory": "cloud_essd",
        "systemDiskSize": 120,
        "labels": [
            {"key": "ack.node.gpu.schedule", "value": "default"},
            {"key": "tf-serving/node-pool", "value": "t4"},
        ],
        "taints": [TAINT],
        "scalingConfig": {"enable": True, "minSize": 0, "maxSize": 4, "type": "gpu"},
        "management": {
            "enable": True,
            "autoRepair": True,
            "autoRepairPolicy": {"restartNode": True},
            "autoUpgrade": False,
            "maxUnavailable": 1,
        },
        "kubeletConfiguration": {"cpuCfsQuota": "true", "kubeReserved": {"memory": "1Gi"}, "maxPods": "64"},
    }


def test_spot_nodes_have_a_price_limit_per_type_and_a_base_that_is_not_spot(deploy: Deploy) -> None:
    spot = {"priceLimits": {"ecs.gn6i-c4g1.xlarge": 1.5}, "onDemandBase": 1, "onDemandPercentage": 20}
    inputs = deploy({f"{POOL}.spot": spot}).resources["t4-pool"].inputs
    assert inputs["spotStrategy"] == "SpotWithPriceLimit"
    assert inputs["spotPriceLimits"] == [{"instanceType": "ecs.gn6i-c4g1.xlarge", "priceLimit": "1.5"}]
    assert (inputs["onDemandBaseCapacity"], inputs["onDemandPercentageAboveBaseCapacity"]) == ("1", "20")
    dear = {"priceLimits": {"ecs.gn6i-c4g1.xlarge": 1234.5678}}
    inputs = deploy({f"{POOL}.spot": dear}).resources["t4-pool"].inputs
    assert inputs["spotPriceLimits"] == [{"instanceType": "ecs.gn6i-c4g1.xlarge", "priceLimit": "1234.5678"}]
    limitless = deploy({f"{POOL}.spot": True}).resources["t4-pool"].inputs
    assert limitless["spotStrategy"] == "SpotAsPriceGo"
    assert "spotPriceLimits" not in limitless


def test_a_fixed_size_goes_without_the_autoscaler(deploy: Deploy) -> None:
    inputs = deploy({f"{POOL}.scaling": ..., f"{POOL}.desiredSize": 2}).resources["t4-pool"].inputs
    assert inputs["desiredSize"] == "2"
    assert "scalingConfig" not in inputs


def test_slices_of_cards_are_scaled_and_labelled_as_such(deploy: Deploy) -> None:
    run = deploy(SLICED)
    assert run.error == ""
    pool = run.resources["t4-pool"].inputs
    assert pool["scalingConfig"]["type"] == "gpushare"
    assert {"key": "ack.node.gpu.schedule", "value": "share"} in pool["labels"]
    container = run.resources["vision-deployment"].inputs["spec"]["template"]["spec"]["containers"][0]
    assert container["resources"]["limits"]["aliyun.com/gpu-mem"] == "4"
    fraction = [arg for arg in container["args"] if "per_process_gpu_memory_fraction" in arg]
    assert len(fraction) == 1
    assert 0.2 < float(fraction[0].partition("=")[2]) <= 4 / 16


def test_pods_find_and_tolerate_their_pool(deploy: Deploy) -> None:
    pod = deploy().resources["vision-deployment"].inputs["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {"tf-serving/node-pool": "t4"}
    assert pod["tolerations"] == [{"operator": "Equal", **TAINT}]


def test_a_cluster_of_the_stack_has_its_own_network_and_gives_out_its_kubeconfig(deploy: Deploy) -> None:
    run = deploy(MADE)
    assert run.error == ""
    resources = run.resources
    assert resources["ack-vpc"].inputs["cidrBlock"] == "10.0.0.0/16"
    assert resources["ack-vswitch-cn-hangzhou-i"].inputs["vpcId"] == "ack-vpc-id"
    assert resources["ack-cluster"].inputs["vswitchIds"] == ["ack-vswitch-cn-hangzhou-i-id"]
    assert resources["ack-cluster"].inputs["enableRrsa"] is True
    assert resources["t4-pool"].inputs["clusterId"] == "ack-cluster-id"
    assert resources["t4-pool"].inputs["vswitchIds"] == ["ack-vswitch-cn-hangzhou-i-id"]
    assert resources["kubernetes"].inputs["kubeconfig"] == {"secret": "kubeconfig of ack-cluster-id"}
    assert resources["served"].inputs["kubeconfig"] == {"secret": "kubeconfig of ack-cluster-id"}


GIVEN = {**MADE, f"{KUBERNETES}.kubeconfig": "kubeconfig"}


@pytest.mark.parametrize("given", ["path", "content"])
def test_a_kubeconfig_beside_a_cluster_of_the_stack_is_used_and_ack_is_not_asked_for_one(
    given: str, deploy: Deploy, project: Path
) -> None:
    content = KUBECONFIG.format(server="https://127.0.0.1:6443")
    named = {f"{KUBERNETES}.kubeconfig": content} if given == "content" else {}
    run = deploy({**GIVEN, **named}, secret_keys=[KUBERNETES], refusal="Forbidden.RAM: not allowed")
    assert (run.error, run.calls) == ("", [])
    used = {"secret": content} if given == "content" else str(project / "kubeconfig")
    for name in ("kubernetes", "served", "cluster-config"):
        assert run.resources[name].inputs["kubeconfig"] == used
    assert "ack-cluster" in run.resources


@pytest.mark.parametrize(
    "refusal",
    [
        "Forbidden.RAM: User not authorized to operate on the specified resource",
        'alicloud:cs/getClusterCredential:getClusterCredential: ErrorClusterNotFound: "cluster" {is} gone\nat 12:00',
    ],
)
@pytest.mark.parametrize("preview", [True, False])
def test_a_refused_kubeconfig_of_the_stacks_cluster_is_told_plainly(
    refusal: str, preview: bool, deploy: Deploy
) -> None:
    run = deploy(MADE, refusal=refusal, preview=preview)
    assert run.error.startswith("tf-serving:kubernetes.cluster: ACK gives out no kubeconfig for cluster serving: ")
    assert refusal.rpartition("Credential: ")[2] in run.error
    assert "cs:DescribeClusterUserKubeconfig" in run.error
    assert "Traceback" not in run.error
    assert "kubernetes" not in run.resources


def test_a_kubeconfig_in_the_stack_file_is_secret(deploy: Deploy) -> None:
    content = KUBECONFIG.format(server="https://127.0.0.1:6443")
    run = deploy({f"{KUBERNETES}.kubeconfig": content}, secret_keys=[KUBERNETES])
    assert run.error == ""
    for name in ("kubernetes", "served", "cluster-config"):
        assert run.resources[name].inputs["kubeconfig"] == {"secret": content}


def test_environment_values_are_secret_where_the_services_hold_secrets(deploy: Deploy) -> None:
    run = deploy({f"{VISION}.env": {"TOKEN": "s3cret"}}, secret_keys=["tf-serving:services"])
    container = run.resources["vision-deployment"].inputs["spec"]["template"]["spec"]["containers"][0]
    assert container["env"] == [{"name": "TOKEN", "value": {"secret": "s3cret"}}]


def test_a_schedule_is_an_object_of_its_own_after_the_pods_and_the_deployment_has_no_size(deploy: Deploy) -> None:
    jobs = {"day": {"at": "0 0 8 * * *", "replicas": 4}, "night": {"at": "0 0 20 * * *", "replicas": 2}}
    run = deploy({f"{VISION}.schedule": {"jobs": jobs}})
    made = run.resources["vision-schedule"]
    assert made.type == "tfserving:index:ClusterObject"
    assert (made.inputs["kind"], made.inputs["namespace"], made.inputs["name"]) == (
        "CronHorizontalPodAutoscaler",
        "models",
        "vision",
    )
    assert made.inputs["owner"] == run.resources["served"].inputs["owner"]
    assert "ack-kubernetes-cronhpa-controller" in made.inputs["needs"]
    assert made.inputs["kubeconfig"]
    assert "replicas" not in run.resources["vision-deployment"].inputs["spec"]


def test_alerts_are_an_object_of_the_prometheus_operator(deploy: Deploy) -> None:
    alerts = {"errorRate": True, "noReplica": True, "labels": {"release": "prometheus"}, "contactGroups": ["oncall"]}
    run = deploy({"tf-serving:alerts": alerts, f"{VISION}.monitoring": True})
    assert run.error == ""
    made = run.resources["vision-alerts"]
    assert made.type == "tfserving:index:ClusterObject"
    assert (made.inputs["apiVersion"], made.inputs["kind"]) == ("monitoring.coreos.com/v1", "PrometheusRule")
    assert made.inputs["labels"]["release"] == "prometheus"
    [group] = made.inputs["spec"]["groups"]
    assert [rule["alert"] for rule in group["rules"]] == ["TensorFlowServingErrors", "TensorFlowServingDown"]
    assert 'namespace="models",service="vision"' in group["rules"][0]["expr"]
    assert "Prometheus operator" in made.inputs["needs"]


def test_the_address_is_the_load_balancers_or_a_name_in_the_cluster(deploy: Deploy) -> None:
    inside = deploy().told["services"]["vision"]
    assert inside["url"] == "http://vision.models.svc:8501"
    assert inside["target"] == "vision.models.svc:8500"
    assert inside["models"] == {"modelB": {"versions": [1, 2], "labels": {"stable": 1}}}  # as the rollout found it
    outside = deploy({f"{VISION}.expose": "loadBalancer"}).told["services"]["vision"]
    assert (outside["url"], outside["target"]) == ("http://203.0.113.7:8501", "203.0.113.7:8500")


def test_what_cannot_be_asked_is_named(deploy: Deploy) -> None:
    assert deploy({f"{VISION}.reachable": False}).outputs["unproven"] == ["vision"]


# ---- wrong configs

BAD: list[tuple[dict[str, Any], str, str]] = [
    # ---- what the purpose of this table is
    ({f"{POOL}.instanceTypes": ["ecs.c7.xlarge"]}, f"{POOL}.instanceTypes[0]", "has no NVIDIA GPU"),
    ({f"{VISION}.tolerations": []}, f"{VISION}.tolerations", "nvidia.com/gpu=present:NoSchedule"),
    ({**SLICED, f"{VISION}.gpuMemory": 17}, f"{VISION}.gpuMemory", "larger than the NVIDIA T4"),
    ({f"{POOL}.scaling": {"min": 4, "max": 1}}, f"{POOL}.scaling", "reversed"),
    ({f"{VISION}.autoscaler": {"min": 4, "max": 1, "cpu": 50}}, f"{VISION}.autoscaler", "4"),
    ({f"{VISION}.autoscaler": {"min": 1, "max": 4, "cpu": 50}, f"{VISION}.replicas": 2}, f"{VISION}.replicas", ""),
    (
        {f"{VISION}.expose": "loadBalancer", f"{VISION}.loadBalancer": {"protocolPorts": {"8500": "http"}}},
        f"{VISION}.loadBalancer.protocolPorts",
        "gRPC",
    ),
    # ---- pools
    ({f"{POOL}.desiredSize": 2}, f"{POOL}.desiredSize", "autoscaler"),
    ({f"{POOL}.instanceType": "ecs.gn6i-c4g1.xlarge"}, f"{POOL}.instanceType", "'instanceTypes'"),
    ({f"{POOL}.scaling": {"min": 1}}, f"{POOL}.scaling.max", "missing"),
    ({f"{POOL}.labels": {"ack.node.gpu.schedule": "share"}}, f"{POOL}.labels", "gpuSharing"),
    ({f"{POOL}.taints": [{**TAINT, "effect": "NoRun"}]}, f"{POOL}.taints[0]", "NoSchedule"),
    ({f"{POOL}.spot": {"priceLimits": {"ecs.gn6i-c4g1.xlarg": 1}}}, f"{POOL}.spot.priceLimits", "gn6i"),
    ({f"{POOL}.imageType": "WindowsCore"}, f"{POOL}.imageType", "no GPU driver"),
    ({f"{POOL}.kubelet": {"maxPod": 1}}, f"{POOL}.kubelet.maxPod", "'maxPods'"),
    ({f"{POOL}.vswitchIds": ...}, f"{POOL}.vswitchIds", "vSwitch"),
    ({f"{KUBERNETES}.clusterId": ...}, "tf-serving:gpuNodePools", "tf-serving:kubernetes.clusterId"),
    (
        {f"{VISION}.schedule": {"jobs": {"a": {"at": "0 8 * * *", "replicas": 1}}}},
        f"{VISION}.schedule.jobs.a.at",
        "seconds",
    ),
    ({f"{VISION}.schedule.jobs": {"a": {"at": "0 0 8 * * *"}}}, f"{VISION}.schedule.jobs.a.replicas", "missing"),
    ({"tf-serving:alerts": {"noReplica": True}}, f"{VISION}.monitoring", "set monitoring: true"),
    # ---- the cluster
    ({f"{KUBERNETES}.kubeconfig": ...}, f"{KUBERNETES}.kubeconfig", "must not guess"),
    ({f"{KUBERNETES}.kubeconfig": "nowhere"}, f"{KUBERNETES}.kubeconfig", "python -m sandbox kube start"),
    ({f"{KUBERNETES}.kubeconfig": "broken"}, f"{KUBERNETES}.kubeconfig", "not a kubeconfig"),
    ({f"{KUBERNETES}.kubeconfig": "real"}, f"{KUBERNETES}.kubeconfig", "must not leave this machine"),
    ({f"{KUBERNETES}.context": "other"}, f"{KUBERNETES}.kubeconfig", "'other'"),
    ({f"{KUBERNETES}.namespace": "Models"}, f"{KUBERNETES}.namespace", "lower-case"),
    ({f"{KUBERNETES}.clusterId": "prod"}, f"{KUBERNETES}.clusterId", "not the id"),
    ({f"{KUBERNETES}.cluster": {"zones": {"z": "10.0.0.0/24"}}}, f"{KUBERNETES}.clusterId", "keep one"),
    ({**MADE, f"{KUBERNETES}.cluster": {}}, f"{KUBERNETES}.cluster.zones", "at least one zone"),
    ({**MADE, f"{KUBERNETES}.cluster": {"zones": {"z": "10/24"}}}, f"{KUBERNETES}.cluster.zones.z", "10.0.0.0/16"),
    ({f"{KUBERNETES}.volume": ...}, f"{VISION}.volume", "roleName"),
    ({f"{KUBERNETES}.contexts": "x"}, f"{KUBERNETES}.contexts", "'context'"),
    # ---- services
    ({f"{VISION}.target": "eks"}, f"{VISION}.target", "eas or ack"),
    ({KUBERNETES: ..., "tf-serving:gpuNodePools": ...}, f"{VISION}.target", "names no cluster"),
    ({f"{VISION}.pool": "t5"}, f"{VISION}.pool", "Allowed: t4"),
    ({f"{VISION}.deployment": "custom"}, f"{VISION}.deployment", "unknown key"),
    ({f"{VISION}.flags": {"rest_api_port": 9000}}, f"{VISION}.flags.rest_api_port", "8501"),
    ({f"{VISION}.image": "tensorflow/serving:latest-gpu"}, f"{VISION}.image", "moves"),
    ({f"{VISION}.image": "tensorflow/serving:2.19.1"}, f"{VISION}.image", "no GPU support"),
    ({f"{VISION}.configPollSeconds": 0}, f"{VISION}.configPollSeconds", "rollout: restart"),
    ({f"{VISION}.allowLabelsForUnavailableVersions": ...}, f"{VISION}.allowLabelsForUnavailableVersions", ""),
    ({f"{VISION}.configFile": ..., f"{VISION}.model": "modelD"}, f"{VISION}.model", "no model 'modelD'"),
    ({f"{VISION}.mountPath": "/mnt/models"}, f"{VISION}.mountPath", "one config file cannot fit both"),
    ({f"{VISION}.maxSurge": 0}, f"{VISION}.max", "0"),
    ({"tf-serving:services.Big_Name": GOOD[VISION]}, "tf-serving:services.Big_Name", "big-name"),
]


@pytest.mark.parametrize(("changes", "path", "words"), BAD)
def test_a_wrong_config_is_refused_where_it_is_wrong(
    changes: dict[str, Any], path: str, words: str, config: Callable[..., dict[str, Any]], project: Path
) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(config(changes), project)
    told = [problem for problem in caught.value.problems if problem.path.startswith(path)]
    assert told, f"nothing at {path}: {caught.value}"
    assert any(words in str(problem) for problem in told), str(caught.value)


def test_the_config_these_changes_spoil_is_a_good_one(config: Callable[..., dict[str, Any]], project: Path) -> None:
    settings: Settings = parse(config(), project)
    assert [service.name for service in settings.config_map_services] == ["vision"]
    assert settings.gpu_node_pools[0].scaling is not None
    assert settings.kubernetes is not None
    assert settings.kubernetes.kubeconfig == str(project / "kubeconfig")


def test_a_kubeconfig_in_the_clear_is_refused(config: Callable[..., dict[str, Any]], project: Path) -> None:
    content = KUBECONFIG.format(server="https://127.0.0.1:6443")
    with pytest.raises(ConfigError, match="in the clear"):
        parse(config({f"{KUBERNETES}.kubeconfig": content}), project, secret_keys=[])
