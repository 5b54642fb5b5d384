from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfserving import kubernetes, model_config
from tfserving.kubernetes import (
    GpuNodePoolSpec,
    GrpcIngress,
    KubernetesServingSpec,
    LoadBalancer,
    ModelVolume,
    PodAutoscaler,
    PodMetric,
    Scaling,
    Taint,
    Toleration,
)
from tfserving.model_config import Model, ModelServerConfig, VersionPolicy
from tfserving.schedule import Schedule, ScheduledSize

PATH = "tf-serving:services.vision"
VOLUME = ModelVolume(bucket="examplebucket", root="models/tf_serving/", role_name="model-reader")
T4 = GpuNodePoolSpec(
    name="t4",
    instance_types=("ecs.gn6i-c4g1.xlarge",),
    vswitch_ids=("vsw-1",),
    scaling=Scaling(max=4),
    taints=(Taint(key="scaler", value="gpu"),),
)
SHARED = replace(T4, name="shared", gpu_sharing="share")
ISOLATED = replace(T4, name="isolated", gpu_sharing="cgpu")
CONFIG = ModelServerConfig(
    (
        Model("modelA", "/models/modelA", policy=VersionPolicy.all()),
        Model("modelB", "/models/modelB", policy=VersionPolicy.specific([1, 2]), labels={"stable": 1, "canary": 2}),
    )
)
LIVE = {"config_file": True, "uses_labels": True, "allow_labels_for_unavailable_versions": True}
RESTART = {**LIVE, "rollout": "restart", "config": CONFIG}


def serving(**fields: Any) -> KubernetesServingSpec:
    given: dict[str, Any] = {"name": "vision", "region": "cn-hangzhou", "volume": VOLUME}
    if "config_file" not in fields:
        given["model"] = "modelA"
    return KubernetesServingSpec(**{**given, **fields})


def problems(spec: KubernetesServingSpec) -> list[str]:
    return [str(problem) for problem in kubernetes.validate(spec, PATH)]


def pod(spec: KubernetesServingSpec) -> dict[str, Any]:
    return dict(kubernetes.build(spec).deployment["spec"]["template"]["spec"])


def container(spec: KubernetesServingSpec) -> dict[str, Any]:
    (only,) = pod(spec)["containers"]
    return dict(only)


# ---- one model, several models


def test_one_model_needs_little_and_gets_the_program_itself_with_both_ports() -> None:
    spec = serving()
    assert problems(spec) == []
    only = container(spec)
    assert only["command"] == ["/usr/bin/tensorflow_model_server"]
    assert only["args"] == [
        "--port=8500",
        "--rest_api_port=8501",
        "--model_name=modelA",
        "--model_base_path=/models/modelA",
    ]
    assert [(port["name"], port["containerPort"]) for port in only["ports"]] == [("grpc", 8500), ("http", 8501)]


def test_several_models_read_the_config_map_of_the_stack_again_and_again() -> None:
    spec = serving(**LIVE)
    assert problems(spec) == []
    assert container(spec)["args"] == [
        "--port=8500",
        "--rest_api_port=8501",
        "--model_config_file=/etc/tf-serving/config/model_config.pbtxt",
        "--model_config_file_poll_wait_seconds=10",
        "--allow_version_labels_for_unavailable_models=true",
    ]
    assert kubernetes.build(spec).config is None
    assert {"name": "config", "configMap": {"name": "tf-serving-model-config"}} in pod(spec)["volumes"]


def test_with_rolling_restarts_the_config_map_is_named_by_its_content_and_never_changes() -> None:
    spec = serving(**RESTART)
    assert problems(spec) == []
    built = kubernetes.build(spec)
    assert built.config is not None
    name = built.config["metadata"]["name"]
    assert built.config["immutable"] is True
    assert model_config.parse(built.config["data"]["model_config.pbtxt"]) == CONFIG
    assert {"name": "config", "configMap": {"name": name}} in pod(spec)["volumes"]
    moved = replace(CONFIG.models[1], labels={"stable": 2, "canary": 2})
    other = kubernetes.config_map_name(replace(spec, config=ModelServerConfig((CONFIG.models[0], moved))))
    assert other != name
    assert kubernetes.config_map_name(replace(spec)) == name
    assert not any("poll_wait" in argument for argument in container(spec)["args"])


def test_no_volume_is_mounted_by_sub_path() -> None:
    """A file mounted by subPath never sees an update of its ConfigMap."""
    for spec in (serving(**LIVE), serving(**RESTART, batching="max_batch_size { value: 8 }", monitoring="x")):
        assert all("subPath" not in mount for mount in container(spec)["volumeMounts"])
        assert {mount["name"] for mount in container(spec)["volumeMounts"]} == {
            volume["name"] for volume in pod(spec)["volumes"]
        }
        assert all(mount["readOnly"] for mount in container(spec)["volumeMounts"])


def test_files_read_at_start_are_in_a_config_map_named_by_their_content() -> None:
    spec = serving(batching="max_batch_size { value: 8 }\n", monitoring="prometheus_config { enable: true }\n")
    assert problems(spec) == []
    files = kubernetes.build(spec).files
    assert files is not None
    assert files["immutable"] is True
    assert sorted(files["data"]) == ["batching.pbtxt", "monitoring.pbtxt"]
    arguments = container(spec)["args"]
    assert "--batching_parameters_file=/etc/tf-serving/files/batching.pbtxt" in arguments
    assert "--enable_batching=true" in arguments
    assert "--monitoring_config_file=/etc/tf-serving/files/monitoring.pbtxt" in arguments
    other = kubernetes.build(replace(spec, batching="max_batch_size { value: 16 }\n")).files
    assert other is not None
    assert other["metadata"]["name"] != files["metadata"]["name"]


def test_metrics_are_scraped_where_they_are_served() -> None:
    spec = serving(monitoring="prometheus_config { enable: true }", metrics_path="/metrics")
    annotations = kubernetes.build(spec).deployment["spec"]["template"]["metadata"]["annotations"]
    assert annotations == {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": "8501",
        "prometheus.io/path": "/metrics",
    }
    assert "annotations" not in kubernetes.build(serving()).deployment["spec"]["template"]["metadata"]


# ---- models from OSS


def test_models_come_from_oss_read_only_by_a_role() -> None:
    built = kubernetes.build(serving(namespace="ml"))
    assert built.volume is not None
    assert built.claim is not None
    name = built.volume["metadata"]["name"]
    assert re.fullmatch(r"ml-vision-models-[0-9a-f]{10}", name)
    assert built.volume["spec"]["csi"] == {
        "driver": "ossplugin.csi.alibabacloud.com",
        "volumeHandle": name,
        "readOnly": True,
        "volumeAttributes": {
            "fuseType": "ossfs2",
            "bucket": "examplebucket",
            "path": "/models/tf_serving/",
            "url": "https://oss-cn-hangzhou-internal.aliyuncs.com",
            "authType": "rrsa",
            "roleName": "model-reader",
        },
    }
    assert built.volume["spec"]["persistentVolumeReclaimPolicy"] == "Retain"
    assert built.volume["spec"]["claimRef"]["name"] == built.claim["metadata"]["name"]
    assert built.claim["spec"]["volumeName"] == name
    assert built.claim["spec"]["accessModes"] == built.volume["spec"]["accessModes"] == ["ReadOnlyMany"]


def test_a_volume_that_leads_elsewhere_has_another_name_since_none_can_change() -> None:
    def names(**changes: Any) -> tuple[str, str, str]:
        spec = serving(volume=replace(VOLUME, **changes))
        built = kubernetes.build(spec)
        assert built.volume is not None
        assert built.claim is not None
        mounted = pod(spec)["volumes"][0]["persistentVolumeClaim"]["claimName"]
        return built.volume["metadata"]["name"], built.claim["metadata"]["name"], mounted

    before = names()
    assert before[1] == before[2]
    for change in (
        {"bucket": "other"},
        {"root": "elsewhere/"},
        {"role_name": "other-role"},
        {"role_name": "", "secret_name": "oss-key"},
        {"fuse_type": "ossfs"},
        {"mount_options": "-o attr_timeout=5"},
    ):
        assert not set(names(**change)) & set(before)
    assert names() == before


def test_models_come_from_oss_by_a_secret_where_there_is_no_role() -> None:
    spec = serving(volume=ModelVolume(bucket="examplebucket", secret_name="oss-key", fuse_type="ossfs"))
    assert problems(spec) == []
    volume = kubernetes.build(spec).volume
    assert volume is not None
    csi = volume["spec"]["csi"]
    assert csi["nodePublishSecretRef"] == {"name": "oss-key", "namespace": "default"}
    assert csi["volumeAttributes"]["otherOpts"] == "-o max_stat_cache_size=0 -o allow_other"
    assert csi["volumeAttributes"]["path"] == "/"
    assert "authType" not in csi["volumeAttributes"]
    assert "oss-key" in "\n".join(kubernetes.warnings(spec))


def test_a_claim_that_exists_is_mounted_as_it_is() -> None:
    spec = serving(volume=ModelVolume(claim="shared-models"))
    assert problems(spec) == []
    built = kubernetes.build(spec)
    assert (built.volume, built.claim) == (None, None)
    assert pod(spec)["volumes"][0]["persistentVolumeClaim"] == {"claimName": "shared-models", "readOnly": True}


# ---- GPUs


def test_whole_cards_are_asked_for_where_the_pool_is() -> None:
    spec = serving(pool=T4, gpu=1)
    assert problems(spec) == []
    assert container(spec)["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert container(spec)["image"].endswith("-gpu")
    assert pod(spec)["nodeSelector"] == {"tf-serving/node-pool": "t4"}
    assert pod(spec)["tolerations"] == [{"key": "scaler", "operator": "Equal", "value": "gpu", "effect": "NoSchedule"}]
    assert not any("gpu_memory_fraction" in argument for argument in container(spec)["args"])


def test_without_isolation_tensorflow_is_told_its_share_of_the_card() -> None:
    spec = serving(pool=SHARED, gpu_memory=5)
    assert problems(spec) == []
    assert container(spec)["resources"]["limits"]["aliyun.com/gpu-mem"] == "5"
    # 5 of 16 GiB is 0.3125: rounded down, so that the shares never add up to more than the card.
    assert "--per_process_gpu_memory_fraction=0.312" in container(spec)["args"]


def test_where_memory_is_isolated_a_slice_is_all_that_tensorflow_sees() -> None:
    spec = serving(pool=ISOLATED, gpu_memory=5)
    assert problems(spec) == []
    assert not any("gpu_memory_fraction" in argument for argument in container(spec)["args"])


def test_nodes_of_somebody_else_are_described_by_the_service() -> None:
    spec = serving(
        gpu_memory=4, gpu_core_percentage=25, gpu_sharing="core_mem", node_selector={"gpu": "yes"},
        tolerations=(Toleration(key="gpu", operator="Exists"),),
    )  # fmt: skip
    assert problems(spec) == []
    limits = container(spec)["resources"]["limits"]
    assert (limits["aliyun.com/gpu-mem"], limits["aliyun.com/gpu-core.percentage"]) == ("4", "25")
    assert pod(spec)["tolerations"] == [{"key": "gpu", "operator": "Exists"}]
    told = replace(spec, gpu_core_percentage=0, gpu_sharing="share", gpu_card_memory=16)
    assert kubernetes.gpu_memory_fraction(told) == 0.25


# ---- pods


def test_pods_are_fit_for_the_restricted_pod_security_standard() -> None:
    security, inner = pod(serving())["securityContext"], container(serving())["securityContext"]
    assert security == {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}}
    assert inner == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    assert pod(serving())["automountServiceAccountToken"] is False
    root = serving(run_as_user=None)
    assert "runAsNonRoot" not in pod(root)["securityContext"]
    assert any("root" in warning for warning in kubernetes.warnings(root))


def test_a_pod_goes_on_answering_after_it_left_the_service() -> None:
    spec = serving(drain_seconds=45)
    sleep = int(container(spec)["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod(spec)["terminationGracePeriodSeconds"] == sleep + 45


def test_the_startup_probe_waits_as_long_as_loading_may_take() -> None:
    spec = serving(startup_seconds=901)
    probe = container(spec)["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] >= 901
    assert kubernetes.build(spec).deployment["spec"]["progressDeadlineSeconds"] > 901
    buys = kubernetes.build(replace(spec, pool=T4, gpu=1)).deployment["spec"]["progressDeadlineSeconds"]
    assert buys > kubernetes.build(spec).deployment["spec"]["progressDeadlineSeconds"], "a node may have to be bought"


def test_ready_is_a_pod_whose_model_can_be_asked() -> None:
    def ready(spec: KubernetesServingSpec) -> Any:
        probe = container(spec)["readinessProbe"]
        return probe["httpGet"]["path"] if "httpGet" in probe else probe["tcpSocket"]["port"]

    # /v1/models/modelA answers 200 even while no version can be asked, its metadata does not.
    assert ready(serving()) == "/v1/models/modelA/metadata"
    assert ready(serving(model_name="shoes")) == "/v1/models/shoes/metadata"
    labelled = ModelServerConfig((CONFIG.models[1],))
    assert ready(serving(**{**RESTART, "config": labelled})) == "/v1/models/modelB/labels/canary/metadata"
    assert ready(serving(**RESTART)) == "/v1/models/modelA/metadata"
    # The models of a config file that changes in place are in no pod template.
    assert ready(serving(**LIVE)) == "http"


def test_memory_is_request_and_limit_and_cpus_are_written_as_the_api_server_keeps_them() -> None:
    resources = container(serving(cpu=0.5, memory=4096))["resources"]
    assert resources == {"requests": {"cpu": "500m", "memory": "4Gi"}, "limits": {"memory": "4Gi"}}
    assert container(serving(cpu=2))["resources"]["requests"]["cpu"] == "2"
    assert container(serving(cpu=2.0001))["resources"]["requests"]["cpu"] == "2"


# ---- around the pods


def test_an_autoscaler_owns_the_number_of_pods() -> None:
    scaler = PodAutoscaler(min=2, max=6, cpu=70, memory=80, pods=(PodMetric(name="requests", average="200"),))
    spec = serving(autoscaler=scaler)
    assert problems(spec) == []
    built = kubernetes.build(spec)
    assert "replicas" not in built.deployment["spec"]
    assert built.autoscaler is not None
    assert built.autoscaler["spec"]["minReplicas"] == 2
    assert [metric["type"] for metric in built.autoscaler["spec"]["metrics"]] == ["Resource", "Resource", "Pods"]
    assert kubernetes.build(serving()).deployment["spec"]["replicas"] == 1


CLOCK = Schedule(
    jobs=(
        ScheduledSize(name="day", at="0 0 8 * * *", replicas=6),
        ScheduledSize(name="night", at="0 0 20 * * *", replicas=2),
    ),
    exclude=("* * * 1 10 *",),
)

CROWD = ScheduledSize(name="a", at="0 0 8 * * *", replicas=99)


def test_a_schedule_owns_the_number_of_pods() -> None:
    spec = serving(schedule=CLOCK)
    assert problems(spec) == []
    built = kubernetes.build(spec)
    assert "replicas" not in built.deployment["spec"]
    assert built.schedule is not None
    assert built.schedule["spec"] == {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": spec.name},
        "jobs": [
            {"name": "day", "schedule": "0 0 8 * * *", "targetSize": 6},
            {"name": "night", "schedule": "0 0 20 * * *", "targetSize": 2},
        ],
        "excludeDates": ["* * * 1 10 *"],
    }
    assert built.disruption_budget is not None, "two pods at least"
    assert any("a new service has one until then" in each for each in kubernetes.warnings(spec))


def test_a_disruption_budget_is_for_more_than_one_pod() -> None:
    assert kubernetes.build(serving()).disruption_budget is None
    assert kubernetes.build(serving(replicas=3, disruption_budget=None)).disruption_budget is None
    budget = kubernetes.build(serving(replicas=3)).disruption_budget
    assert budget is not None
    assert budget["spec"]["maxUnavailable"] == 1
    assert budget["spec"]["selector"]["matchLabels"] == kubernetes.selector(serving())


def test_every_service_leads_to_the_pods_on_both_ports() -> None:
    for fields in ({}, {"expose": "headless"}, {"expose": "loadBalancer"}, {"headless": True}):
        built = kubernetes.build(serving(**fields))
        template = built.deployment["spec"]["template"]["metadata"]["labels"]
        for service in filter(None, (built.service, built.headless)):
            assert service["spec"]["selector"].items() <= template.items()
            ports = {port["name"]: (port["port"], port["targetPort"]) for port in service["spec"]["ports"]}
            assert ports == {"grpc": (8500, "grpc"), "http": (8501, "http")}


def test_a_load_balancer_is_inside_the_vpc_and_lets_grpc_through_unless_told_otherwise() -> None:
    prefix = "service.beta.kubernetes.io/alibaba-cloud-loadbalancer-"
    plain = kubernetes.build(serving(expose="loadBalancer")).service
    assert plain["spec"]["type"] == "LoadBalancer"
    assert plain["metadata"]["annotations"] == {
        f"{prefix}address-type": "intranet",
        f"{prefix}health-check-flag": "on",
        f"{prefix}health-check-type": "tcp",
    }
    balancer = LoadBalancer(
        address_type="internet",
        id="lb-1",
        force_override_listeners=True,
        protocol_ports={8501: "https"},
        certificate_id="cert-1",
        acl_id="acl-1",
        source_ranges=("10.0.0.0/8",),
        annotations={f"{prefix}name": "vision"},
    )
    spec = serving(expose="loadBalancer", load_balancer=balancer)
    assert problems(spec) == []
    service = kubernetes.build(spec).service
    annotations = {name.removeprefix(prefix): text for name, text in service["metadata"]["annotations"].items()}
    assert annotations["protocol-port"] == "https:8501"
    assert annotations["acl-status"] == "on"
    assert annotations["name"] == "vision"
    assert service["spec"]["loadBalancerSourceRanges"] == ["10.0.0.0/8"]


def test_a_headless_service_gives_the_addresses_of_pods() -> None:
    assert kubernetes.build(serving(expose="headless")).service["spec"]["clusterIP"] == "None"
    headless = kubernetes.build(serving(headless=True)).headless
    assert headless is not None
    assert (headless["metadata"]["name"], headless["spec"]["clusterIP"]) == ("vision-headless", "None")


def test_an_ingress_is_told_that_the_pods_speak_grpc() -> None:
    spec = serving(ingress=GrpcIngress(host="vision.example.com"))
    assert problems(spec) == []
    ingress = kubernetes.build(spec).ingress
    assert ingress is not None
    assert ingress["metadata"]["annotations"]["alb.ingress.kubernetes.io/backend-protocol"] == "grpc"
    nginx = serving(ingress=GrpcIngress(host="vision.example.com", ingress_class="nginx", tls_secret="tls"))
    assert problems(nginx) == []
    other = kubernetes.build(nginx).ingress
    assert other is not None
    assert other["metadata"]["annotations"] == {"nginx.ingress.kubernetes.io/backend-protocol": "GRPC"}
    assert other["spec"]["tls"] == [{"hosts": ["vision.example.com"], "secretName": "tls"}]


def test_everything_is_listed_in_an_order_in_which_it_can_be_made() -> None:
    spec = serving(
        **RESTART, replicas=2, headless=True, batching="x", autoscaler=None,
        ingress=GrpcIngress(host="vision.example.com"),
    )  # fmt: skip
    assert [manifest["kind"] for manifest in kubernetes.build(spec).all()] == [
        "PersistentVolume",
        "PersistentVolumeClaim",
        "ConfigMap",
        "ConfigMap",
        "Deployment",
        "Service",
        "Service",
        "PodDisruptionBudget",
        "Ingress",
    ]


# ---- mistakes


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"name": "my_vision"}, ["`my_vision` is not a name for objects", "call it my-vision"]),
        ({"name": "v" * 46}, ["up to 45"]),
        ({"namespace": "a_b"}, ["namespace: `a_b`"]),
        ({"region": "hangzhou!"}, ["region"]),
        ({"labels": {"app.kubernetes.io/name": "x"}}, ["is how this project finds its own objects"]),
        ({"annotations": {"a b": "c"}}, ["`a b` is not an annotation"]),
        ({"model": ""}, ["model: nothing to serve"]),
        ({"model": "a/b"}, ["`a/b` is not a model name"]),
        ({"rollout": "restart"}, ["rollout is about the config file"]),
        ({"rollout": "blue"}, ["`blue` is not a way to roll out"]),
        ({**LIVE, "model": "modelA"}, ["both configFile and model `modelA`"]),
        ({**LIVE, "config_poll_seconds": 0}, ["configPollSeconds", "rollout: restart"]),
        ({**LIVE, "allow_labels_for_unavailable_versions": False}, ["allowLabelsForUnavailableVersions", "refuses"]),
        ({**RESTART, "config": ModelServerConfig()}, ["there is no model to serve"]),
        ({"allow_labels_for_unavailable_versions": True}, ["does not read"]),
        ({"mount_path": "/usr/models"}, ["would hide the image's own /usr"]),
        ({"mount_path": "models"}, ["is not an absolute path"]),
        ({"volume": ModelVolume(bucket="examplebucket")}, ["nothing says in whose name OSS is read", "RRSA"]),
        ({"volume": replace(VOLUME, secret_name="key")}, ["volume: both a role and a Secret"]),
        ({"volume": replace(VOLUME, role_name="acs:ram::1:role/reader")}, ["write the role's name, not its ARN"]),
        ({"volume": replace(VOLUME, claim="models")}, ["volume.roleName", "remove roleName, or claim"]),
        ({"volume": replace(VOLUME, fuse_type="s3fs")}, ["ossfs2, ossfs"]),
        ({"volume": replace(VOLUME, bucket="B")}, ["`B` is not a bucket name"]),
        ({"volume": replace(VOLUME, endpoint="https://oss")}, ["is not an endpoint"]),
        ({"image": "tensorflow/serving"}, ["has no tag"]),
        ({"image": "tensorflow/serving:latest"}, ["moves", "pin a version"]),
        ({"image": "tensorflow/serving:2.19.1-gpu"}, ["needs a GPU, and none is asked for"]),
        ({"image": "tensorflow/serving:2.19.1", "gpu": 1}, ["has no GPU support", "tensorflow/serving:2.19.1-gpu"]),
        ({"flags": {"port": 9000}}, ["flags.port", "always 8500"]),
        ({"flags": {"rest_api_port": 0}}, ["flags.rest_api_port", "always 8501"]),
        ({"flags": {"model_name": "x"}}, ["is set by modelName"]),
        ({"flags": {"num_load_thread": 2}}, ["is not a flag", "num_load_threads"]),
        ({"flags": {"xla_gpu_compilation_enabled": True}, "image": "tensorflow/serving:2.14.1"}, ["since", "2.18"]),
        ({"gpu": 1, "gpu_memory": 4, "gpu_sharing": "cgpu"}, ["a node gives one kind only"]),
        ({"gpu_memory": 4}, ["gpuSharing", "whether a pod sees its slice or the whole card"]),
        ({"gpu_memory": 4, "pool": T4}, ["pool t4 gives whole cards"]),
        ({"gpu_memory": 17, "pool": ISOLATED}, ["a slice of 17 GiB is larger than the NVIDIA T4 with 16 GiB"]),
        ({"gpu_memory": 4, "gpu_sharing": "share"}, ["gpuCardMemory", "takes the whole card unless"]),
        ({"gpu_memory": 9, "gpu_sharing": "share", "gpu_card_memory": 8}, ["larger than the card with 8 GiB"]),
        (
            {"gpu_memory": 4, "pool": SHARED, "flags": {"per_process_gpu_memory_fraction": 0.5}},
            ["the slice is 0.25 of the card"],
        ),
        ({"gpu": 1, "pool": SHARED}, ["whole cards do not exist there", "set gpuMemory"]),
        ({"gpu": 2, "pool": T4}, ["2 cards per pod, and a node of pool t4 has 1"]),
        ({"pool": T4}, ["asks for no GPU", "stay idle"]),
        ({"gpu": 1, "pool": T4, "gpu_sharing": "cgpu"}, ["share cards by default, not cgpu"]),
        ({"gpu_core_percentage": 20}, ["needs gpuMemory"]),
        ({"gpu_memory": 4, "pool": ISOLATED, "gpu_core_percentage": 20}, ["does not divide a card's computing power"]),
        ({"gpu_card_memory": 16}, ["is the card gpuMemory is a slice of"]),
        ({"gpu": 1, "pool": T4, "replicas": 5}, ["5 pods, and the cards of pool t4 are enough for 4"]),
        (
            {"gpu_memory": 6, "pool": ISOLATED, "autoscaler": PodAutoscaler(min=1, max=9, cpu=50)},
            ["autoscaler.max", "enough for 8"],
        ),
        ({"gpu": 1, "pool": T4, "tolerations": ()}, ["no toleration matches taint scaler=gpu:NoSchedule", "add {key"]),
        (
            {"gpu": 1, "pool": T4, "tolerations": (Toleration(key="scaler", value="cpu"),)},
            ["no toleration matches taint"],
        ),
        (
            {"gpu": 1, "pool": replace(T4, labels={"zone": "h"}), "node_selector": {"zone": "i"}},
            ["nodeSelector.zone", "have zone=h"],
        ),
        ({"tolerations": (Toleration(),)}, ["a toleration without a key tolerates every taint"]),
        ({"tolerations": (Toleration(key="a", operator="Exists", value="b"),)}, ["Exists looks at no value"]),
        ({"replicas": 2, "autoscaler": PodAutoscaler(min=1, max=2, cpu=50)}, ["replicas", "sets the number of pods"]),
        ({"schedule": CLOCK, "replicas": 2}, ["replicas", "the schedule sets the number of pods"]),
        ({"schedule": CLOCK, "autoscaler": PodAutoscaler(min=1, max=2, cpu=50)}, ["autoscaler", "undo each other"]),
        ({"schedule": replace(CLOCK, time_zone="UTC")}, ["schedule.timeZone", "the controller", "remove timeZone"]),
        ({"schedule": Schedule(jobs=())}, ["schedule.jobs", "no job"]),
        (
            {
                "gpu": 1,
                "pool": T4,
                "schedule": replace(CLOCK, jobs=(ScheduledSize(name="a", at="0 0 8 * * *", replicas=99),)),
            },
            ["schedule.jobs", "99 pods"],
        ),
        ({"autoscaler": PodAutoscaler(min=5, max=2, cpu=50)}, ["the bounds 5 and 2 are reversed", "min: 2, max: 5"]),
        ({"autoscaler": PodAutoscaler(min=0, max=2, cpu=50)}, ["autoscaler.min: min is 0", "1 or more"]),
        ({"autoscaler": PodAutoscaler(min=1, max=2)}, ["it has nothing to follow"]),
        (
            {"autoscaler": PodAutoscaler(min=1, max=2, pods=(PodMetric(name="q", average="0"),))},
            ["`0` is not a target"],
        ),
        ({"max_surge": 0, "max_unavailable": "0%"}, ["no pod could ever be replaced"]),
        ({"max_surge": "ten"}, ["`ten` is not an amount"]),
        ({"disruption_budget": 0}, ["no node could be drained"]),
        ({"expose": "nodePort"}, ["is not a way to reach a service"]),
        ({"expose": "headless", "headless": True}, ["the Service itself is headless already"]),
        ({"load_balancer": LoadBalancer()}, ["is not exposed by one"]),
        ({"ingress": GrpcIngress(host="localhost")}, ["is not a host name"]),
        ({"ingress": GrpcIngress(host="a.example.com", ingress_class="traefik")}, ["alb, nginx"]),
        ({"ingress": GrpcIngress(host="a.example.com", ingress_class="nginx")}, ["gRPC through nginx needs HTTP/2"]),
        ({"cpu": 0}, ["is not a number of CPUs"]),
        ({"memory": 100}, ["memory is 100", "256 or more"]),
        ({"startup_seconds": 1}, ["startupSeconds is 1"]),
        ({"env": {"1A": "x"}}, ["`1A` is not a variable name"]),
    ],
)
def test_mistakes_are_named_with_place_and_way_out(fields: dict[str, Any], words: list[str]) -> None:
    found = "\n".join(problems(serving(**fields)))
    assert all(word in found for word in words), found or "accepted"


@pytest.mark.parametrize(
    ("balancer", "words"),
    [
        (LoadBalancer(protocol_ports={8500: "http"}), ["protocolPorts.8500", "gRPC needs HTTP/2", "Allowed: tcp"]),
        (LoadBalancer(protocol_ports={8500: "https"}, certificate_id="c"), ["gRPC needs HTTP/2"]),
        (LoadBalancer(protocol_ports={8501: "https"}), ["an https listener needs a certificate"]),
        (LoadBalancer(protocol_ports={8501: "udp"}), ["is not a protocol of a listener"]),
        (LoadBalancer(protocol_ports={80: "http"}), ["the service has no port 80"]),
        (
            LoadBalancer(
                annotations={
                    "service.beta.kubernetes.io/alibaba-cloud-loadbalancer-protocol-port": "http:8501,https:8500"
                }
            ),
            ["`https:8500` breaks gRPC", "use loadBalancer.protocolPorts"],
        ),
        (
            LoadBalancer(annotations={"service.beta.kubernetes.io/alicloud-loadbalancer-protocol-port": "http:8501"}),
            ["is set by protocolPorts"],
        ),
        (
            LoadBalancer(annotations={"service.beta.kubernetes.io/alibaba-cloud-loadbalancer-id": "lb-1"}),
            ["is set by id"],
        ),
        (LoadBalancer(address_type="public"), ["intranet, internet"]),
        (LoadBalancer(address_type="internet", vswitch_id="vsw-1"), ["an internet address is in no vSwitch"]),
        (LoadBalancer(force_override_listeners=True), ["the load balancer is new"]),
        (LoadBalancer(id="slb"), ["lb-..."]),
        (LoadBalancer(source_ranges=("10.0.0.1/8",)), ["CIDR"]),
    ],
)
def test_a_load_balancer_that_cannot_work_is_refused(balancer: LoadBalancer, words: list[str]) -> None:
    found = "\n".join(problems(serving(expose="loadBalancer", load_balancer=balancer)))
    assert all(word in found for word in words), found or "accepted"


def test_what_works_but_surprises_is_said() -> None:
    def said(**fields: Any) -> str:
        return "\n".join(kubernetes.warnings(serving(**fields)))

    assert "stay with one pod" in said(replicas=2)
    assert "stay with one pod" not in said(replicas=2, headless=True)
    assert "stay with one pod" not in said(
        replicas=2, flags={"grpc_channel_arguments": "grpc.max_connection_age_ms=300000"}
    )
    internet = LoadBalancer(address_type="internet")
    assert "everybody on the internet" in said(expose="loadBalancer", load_balancer=internet)
    assert "everybody" not in said(expose="loadBalancer", load_balancer=replace(internet, acl_id="acl-1"))
    assert "replaces the pods" in said(**RESTART)
    assert "no room on node pool t4" in said(pool=T4, gpu=1, replicas=4)
    assert "no room" not in said(pool=T4, gpu=1, replicas=3)


# ---- tolerations


keys = st.sampled_from(["a", "b"])
values = st.sampled_from(["", "x", "y"])
effects = st.sampled_from(["NoSchedule", "NoExecute", "PreferNoSchedule"])
taints = st.builds(Taint, key=keys, value=values, effect=effects)


@given(st.lists(taints, max_size=4))
def test_a_service_without_tolerations_of_its_own_gets_those_its_pool_needs(found: list[Taint]) -> None:
    spec = serving(pool=replace(T4, taints=tuple(found)), gpu=1)
    assert not any("toleration" in problem for problem in problems(spec))


def tolerations() -> Iterator[tuple[Toleration, bool]]:
    yield Toleration(key="a", value="x"), True
    yield Toleration(key="a", value="x", effect="NoSchedule"), True
    yield Toleration(key="a", value="x", effect="NoExecute"), False
    yield Toleration(key="a", value="y"), False
    yield Toleration(key="b", value="x"), False
    yield Toleration(key="a", operator="Exists"), True
    yield Toleration(key="b", operator="Exists"), False
    yield Toleration(operator="Exists"), True
    yield Toleration(operator="Exists", effect="NoExecute"), False


@pytest.mark.parametrize(("toleration", "expected"), tolerations())
def test_tolerations_match_taints_as_in_the_scheduler(toleration: Toleration, expected: bool) -> None:
    assert toleration.tolerates(Taint(key="a", value="x")) is expected
