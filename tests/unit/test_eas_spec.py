from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfserving import eas_spec, flags
from tfserving.eas_spec import (
    Autoscaler,
    HealthChecks,
    InstanceType,
    Probe,
    RollingStrategy,
    ScaleMetric,
    ServiceSpec,
    Vpc,
)

PATH = "tf-serving:services.demo"
REGISTRY = "eas-registry-vpc.cn-hangzhou.cr.aliyuncs.com/pai-eas"
VPC = Vpc(vpc_id="vpc-1", vswitch_ids=("vsw-1", "vsw-2"), security_group_id="sg-1")
SPOT = InstanceType(type="ecs.gn6i-c4g1.xlarge", spot_price_limit=0.5, capacity="20%")
LIVE = {"config_file": True, "config_poll_seconds": 30, "allow_labels_for_unavailable_versions": True}
SLICED = {"resource": "eas-r-1", "cpu": 4, "memory": 8000, "image": "tensorflow-serving:2.14.1-gpu"}
SCALER = Autoscaler(min=1, max=3, metrics=(ScaleMetric(name="qps", threshold=10),))


def service(**fields: Any) -> ServiceSpec:
    given = {"name": "demo", "region": "cn-hangzhou", "bucket": "examplebucket", "root": "models/tf_serving/"}
    if "config_file" not in fields:
        given["model"] = "modelA"
    return ServiceSpec(**{**given, **fields})


def problems(spec: ServiceSpec) -> list[str]:
    return [str(problem) for problem in eas_spec.validate(spec, PATH)]


def container(spec: ServiceSpec) -> dict[str, Any]:
    (only,) = eas_spec.build(spec)["containers"]
    return dict(only)


# ---- the document's deployments


def test_a_scenario_deployment_of_one_model_mounts_it_where_the_image_looks_for_it() -> None:
    spec = service(name="modela_scene", deployment="scenario")
    assert problems(spec) == []
    assert eas_spec.build(spec) == {
        "metadata": {"name": "modela_scene", "instance": 1, "rpc": {"keepalive": 60000}},
        "cloud": {"computing": {"instances": [{"type": "ecs.c7.large"}]}},
        "containers": [
            {
                "image": f"{REGISTRY}/tensorflow-serving:2.14.1",
                "port": 8501,
                "script": "/usr/bin/tf_serving_entrypoint.sh",
            }
        ],
        "storage": [
            {
                "mount_path": "/models/model",
                "oss": {"path": "oss://examplebucket/models/tf_serving/modelA/", "readOnly": True},
            }
        ],
        "labels": {"tf-serving-deployment": "scenario"},
    }
    assert eas_spec.model_name(spec) == "model"


def test_a_scenario_deployment_of_a_config_file_gets_no_flag_but_that_file() -> None:
    spec = service(name="multi_scene", deployment="scenario", config_file=True, uses_labels=True)
    assert problems(spec) == []
    assert (
        eas_spec.start_command(spec)
        == "/usr/bin/tf_serving_entrypoint.sh --model_config_file=/models/model_config.pbtxt"
    )
    assert eas_spec.build(spec)["storage"] == [
        {"mount_path": "/models", "oss": {"path": "oss://examplebucket/models/tf_serving/", "readOnly": True}}
    ]


def test_the_documents_single_model_command_is_rendered_word_for_word() -> None:
    assert (
        eas_spec.start_command(service(model_name="modelA"))
        == "/usr/bin/tf_serving_entrypoint.sh --model_name=modelA --model_base_path=/models/modelA"
    )


def test_the_documents_several_models_command_is_rendered_word_for_word() -> None:
    spec = service(**LIVE)
    assert eas_spec.start_command(spec) == (
        "/usr/bin/tf_serving_entrypoint.sh --model_config_file=/models/model_config.pbtxt "
        "--model_config_file_poll_wait_seconds=30 --allow_version_labels_for_unavailable_models=true"
    )
    assert container(spec)["script"] == eas_spec.start_command(spec)


def test_a_custom_single_model_is_called_model_unless_it_is_named() -> None:
    assert eas_spec.model_name(service()) == "model"
    assert eas_spec.start_command(service()).split()[1:] == ["--model_base_path=/models/modelA"]
    assert eas_spec.model_name(service(model_name="shoes")) == "shoes"
    # What the entry point does anyway is not said again.
    assert eas_spec.start_command(service(model="model")) == "/usr/bin/tf_serving_entrypoint.sh"
    named = eas_spec.start_command(service(model="model", model_name="shoes"))
    assert named.split()[1:] == ["--model_name=shoes", "--model_base_path=/models/model"]


def test_grpc_sets_port_gateway_and_path_together() -> None:
    spec = service(grpc=True, **LIVE)
    assert problems(spec) == []
    config = eas_spec.build(spec)
    assert config["containers"][0]["port"] == 8500
    assert config["metadata"]["enable_grpc"] is True
    assert config["networking"] == {"path": "/"}


def test_http_leaves_the_gateway_as_it_is() -> None:
    config = eas_spec.build(service())
    assert config["containers"][0]["port"] == 8501
    assert "enable_grpc" not in config["metadata"]
    assert "networking" not in config


def test_a_sliced_gpu_service_is_told_its_share_of_a_known_card() -> None:
    spec = service(gpu_memory=4, gpu_core_percentage=25, gpu_card_memory=15, **SLICED)
    assert problems(spec) == []
    assert eas_spec.build(spec)["metadata"]["gpu_memory"] == 4
    assert eas_spec.build(spec)["metadata"]["gpu_core_percentage"] == 25
    assert "gpu" not in eas_spec.build(spec)["metadata"]
    assert "--per_process_gpu_memory_fraction=0.266" in eas_spec.start_command(spec)
    unknown_card = replace(spec, gpu_card_memory=0)
    assert "gpu_memory_fraction" not in eas_spec.start_command(unknown_card)


def test_triton_runs_by_its_own_image_command_port_and_checks_on_the_same_mount() -> None:
    ready = Probe(kind="http", path="/v2/health/ready", port=8000)
    spec = service(
        model="",
        image="nvcr.io/nvidia/tritonserver:24.08-py3",
        command="tritonserver --model-repository=/models",
        port=8001,
        grpc=True,
        health_checks=HealthChecks(startup=ready),
    )
    assert problems(spec) == []
    assert not eas_spec.runs_tf_serving(spec)
    assert eas_spec.tf_serving_flags(spec) == {}
    assert container(spec) == {
        "image": "nvcr.io/nvidia/tritonserver:24.08-py3",
        "port": 8001,
        "command": "tritonserver --model-repository=/models",
        "startup_check": {
            "http_get": {"path": "/v2/health/ready", "port": 8000, "scheme": "HTTP"},
            "initial_delay_seconds": 5,
            "period_seconds": 10,
            "timeout_seconds": 5,
            "success_threshold": 1,
            "failure_threshold": 3,
        },
    }
    assert eas_spec.build(spec)["storage"][0]["oss"]["path"] == "oss://examplebucket/models/tf_serving/"


def test_a_script_of_ones_own_is_passed_on_as_it_is() -> None:
    script = "cd /models\nexec python serve.py | tee log\n"
    spec = service(model="", image="a/b:1", script=script, port=9000)
    assert problems(spec) == []
    assert container(spec)["script"] == script
    assert "command" not in container(spec)


def test_the_documents_command_given_whole_is_understood() -> None:
    command = "/usr/bin/tf_serving_entrypoint.sh --model_name=modelA --model_base_path=/models/modelA"
    spec = service(model="", command=command)
    assert problems(spec) == []
    assert eas_spec.model_name(spec) == "modelA"
    assert container(spec)["command"] == command
    script = f"export TF_CPP_MIN_LOG_LEVEL=1\nexec {command} 2>&1 | tee /tmp/log"
    assert eas_spec.model_name(service(model="", script=script)) == "modelA"
    assert problems(service(model="", script=script)) == []


@pytest.mark.parametrize("models", ["/models", "//models/", "/models/.", "/mnt/../models/"])
def test_a_start_command_may_spell_the_paths_of_the_stack_in_other_ways(models: str) -> None:
    start = "/usr/bin/tf_serving_entrypoint.sh"
    one = f"{start} --model_name=modelA --model_base_path={models}/modelA/"
    assert problems(service(model="modelA", command=one)) == []
    several = f"{start} --model_config_file={models}/model_config.pbtxt --model_config_file_poll_wait_seconds=30"
    assert problems(service(model="", config_file=True, command=several)) == []


@pytest.mark.parametrize(
    ("key", "flag"),
    [
        ("command", "--model_config_file=/models/other.pbtxt --model_config_file_poll_wait_seconds=30"),
        ("script", "--model_config_file=/models/other.pbtxt --model_config_file_poll_wait_seconds=30"),
    ],
)
def test_a_start_command_that_reads_another_config_file_is_refused(key: str, flag: str) -> None:
    spec = service(config_file=True, **{key: f"/usr/bin/tf_serving_entrypoint.sh {flag}"})
    (found,) = problems(spec)
    assert found.startswith(f"{PATH}.{key}: configFile is set, and the start command does not name the file")
    assert "--model_config_file=/models/model_config.pbtxt" in found


def test_labels_are_required_to_work_with_a_whole_start_command_too() -> None:
    base = "tensorflow_model_server --rest_api_port=8501 --model_config_file=/models/model_config.pbtxt"
    (found, other) = problems(service(config_file=True, uses_labels=True, command=base))
    assert "demo.command: " in found
    assert "Fix: add --allow_version_labels_for_unavailable_models=true to it" in found
    assert "Fix: add --model_config_file_poll_wait_seconds=30 to it" in other
    whole = f"{base} --allow_version_labels_for_unavailable_models --model_config_file_poll_wait_seconds=30"
    assert problems(service(config_file=True, uses_labels=True, command=whole)) == []


# ---- the rest of the service JSON


def test_every_setting_ends_up_in_its_place() -> None:
    spec = service(
        replicas=3,
        instance_types=(SPOT, InstanceType(type="ecs.gn7i-c8g1.2xlarge", capacity=2)),
        disable_spot_protection=True,
        image="tensorflow-serving:2.14.1-gpu",
        vpc=VPC,
        gateway="gw-1",
        rolling_strategy=RollingStrategy(max_surge="50%", max_unavailable=1),
        env={"B": "2", "A": "1"},
        rpc_keepalive_ms=5000,
        workspace_id="123",
        token="s3cret",
        labels={"team": "vision"},
    )
    assert problems(spec) == []
    config = eas_spec.build(spec)
    assert config["metadata"] == {
        "name": "demo",
        "instance": 3,
        "workspace_id": "123",
        "rpc": {"keepalive": 5000},
        "rolling_strategy": {"max_surge": "50%", "max_unavailable": 1},
    }
    assert config["cloud"] == {
        "computing": {
            "instances": [
                {"type": "ecs.gn6i-c4g1.xlarge", "spot_price_limit": 0.5, "capacity": "20%"},
                {"type": "ecs.gn7i-c8g1.2xlarge", "capacity": 2},
            ],
            "disable_spot_protection_period": True,
        },
        "networking": {"vpc_id": "vpc-1", "vswitch_id": "vsw-1,vsw-2", "security_group_id": "sg-1"},
    }
    assert config["networking"] == {"gateway": "gw-1"}
    assert config["containers"][0]["env"] == [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]
    assert config["labels"] == {"team": "vision"}
    assert config["token"] == "s3cret"


def test_a_resource_group_gets_cpu_and_memory_and_no_instance_type() -> None:
    spec = service(cpu=4, memory=8000, gpu=1, resource="eas-r-1", image="tensorflow-serving:2.14.1-gpu")
    assert problems(spec) == []
    config = eas_spec.build(spec)
    assert "cloud" not in config
    expected = {"name": "demo", "instance": 1, "cpu": 4, "memory": 8000, "gpu": 1, "resource": "eas-r-1"}
    assert config["metadata"].items() >= expected.items()


def test_a_resource_group_may_burst_to_public_resources() -> None:
    burst = (InstanceType(type="dedicated_resource"), InstanceType(type="ecs.c7.large"))
    assert problems(service(resource="eas-r-1", cpu=2, memory=4000, instance_types=burst)) == []


def test_spot_protection_is_always_said_with_spot_and_never_without() -> None:
    on_demand = service(instance_types=(InstanceType(type="ecs.c7.large"),))
    spot = service(instance_types=(InstanceType(type="ecs.c7.large", spot_price_limit=0.1),))
    assert "disable_spot_protection_period" not in eas_spec.build(on_demand)["cloud"]["computing"]
    assert eas_spec.build(spot)["cloud"]["computing"]["disable_spot_protection_period"] is False


def test_the_autoscaler_is_a_request_of_its_own_and_sets_the_first_replica_count() -> None:
    scaler = Autoscaler(
        min=2,
        max=8,
        metrics=(ScaleMetric(name="qps", threshold=10), ScaleMetric(name="gpu[util]", threshold=60)),
        scale_up_stabilization_seconds=30,
        scale_down_stabilization_seconds=600,
        scale_to_zero_grace_seconds=900,
    )
    spec = service(autoscaler=scaler)
    assert problems(spec) == []
    config = eas_spec.build(spec)
    assert config["metadata"]["instance"] == 2
    assert "autoscaler" not in config
    assert eas_spec.autoscaler(spec) == {
        "min": 2,
        "max": 8,
        "scaleStrategies": [{"metricName": "qps", "threshold": 10}, {"metricName": "gpu[util]", "threshold": 60}],
        "behavior": {
            "scaleUp": {"stabilizationWindowSeconds": 30},
            "scaleDown": {"stabilizationWindowSeconds": 600},
            "onZero": {"scaleDownGracePeriodSeconds": 900},
        },
    }
    assert "behavior" not in (eas_spec.autoscaler(service(autoscaler=SCALER)) or {})
    assert eas_spec.autoscaler(service()) is None


def test_batching_and_monitoring_files_turn_their_flags_on() -> None:
    spec = service(batching_parameters_file="/models/b.pbtxt", monitoring_config_file="/models/m.pbtxt")
    assert problems(spec) == []
    assert eas_spec.start_command(spec).split()[2:] == [
        "--enable_batching=true",
        "--batching_parameters_file=/models/b.pbtxt",
        "--monitoring_config_file=/models/m.pbtxt",
    ]


def test_further_flags_come_last_in_the_order_of_their_names() -> None:
    one = service(flags={"num_load_threads": 2, "enable_profiler": False})
    other = service(flags={"enable_profiler": False, "num_load_threads": 2})
    assert eas_spec.start_command(one).split()[2:] == ["--enable_profiler=false", "--num_load_threads=2"]
    assert eas_spec.start_command(one) == eas_spec.start_command(other)


def test_what_the_shell_would_read_into_a_flag_is_quoted() -> None:
    spec = service(flags={"grpc_channel_arguments": "a=$(id);b=`x`"})
    words = shlex.split(eas_spec.start_command(spec))
    assert words[-1] == "--grpc_channel_arguments=a=$(id);b=`x`"
    assert "'" in eas_spec.start_command(spec)


def test_the_health_checks_wait_for_the_models_and_do_not_name_those_of_a_config_file() -> None:
    single = container(service(model_name="shoes", startup_seconds=90))
    assert single["startup_check"]["http_get"] == {"path": "/v1/models/shoes", "port": 8501, "scheme": "HTTP"}
    assert single["startup_check"]["failure_threshold"] * single["startup_check"]["period_seconds"] == 90
    assert single["liveness_check"]["tcp_socket"] == {"port": 8501}
    assert container(service(**LIVE))["startup_check"]["tcp_socket"] == {"port": 8501}
    assert container(service(grpc=True))["startup_check"]["tcp_socket"] == {"port": 8500}


def test_health_checks_can_be_replaced_and_left_out() -> None:
    assert not [key for key in container(service(health_checks=HealthChecks())) if key.endswith("_check")]
    custom = HealthChecks(readiness=Probe(kind="exec", command=("test", "-f", "/ready"), success_threshold=2))
    checks = container(service(health_checks=custom))
    assert problems(service(health_checks=custom)) == []
    assert checks["readiness_check"]["exec"] == {"command": ["test", "-f", "/ready"]}
    assert "startup_check" not in checks


@pytest.mark.parametrize(
    ("image", "uri", "version"),
    [
        ("tensorflow-serving:2.14.1", f"{REGISTRY}/tensorflow-serving:2.14.1", (2, 14, 1)),
        ("tensorflow-serving:2.17.1-gpu", f"{REGISTRY}/tensorflow-serving:2.17.1-gpu", (2, 17, 1)),
        ("tensorflow/serving:2.8.0", "tensorflow/serving:2.8.0", (2, 8, 0)),
        ("r.example.com:5000/x/tensorflow-serving:2.5.1", "r.example.com:5000/x/tensorflow-serving:2.5.1", (2, 5, 1)),
        ("r.example.com/other:1.0.0", "r.example.com/other:1.0.0", None),
        (f"tensorflow/serving@sha256:{'a' * 64}", f"tensorflow/serving@sha256:{'a' * 64}", None),
    ],
)
def test_a_short_image_is_eas_own_and_a_full_one_is_left_alone(image: str, uri: str, version: Any) -> None:
    assert eas_spec.image_uri(image, "cn-hangzhou") == uri
    assert flags.image_version(image) == version
    gpu = InstanceType(type="ecs.gn6i-c4g1.xlarge")
    assert problems(service(image=image, instance_types=(gpu,))) == []


def test_the_bucket_root_and_slashes_make_no_difference_to_what_is_mounted() -> None:
    assert eas_spec.oss_uri(service(root="")) == "oss://examplebucket/"
    assert eas_spec.oss_uri(service(root="", deployment="scenario")) == "oss://examplebucket/modelA/"
    assert (
        eas_spec.oss_uri(service(root="a/b")) == eas_spec.oss_uri(service(root="/a/b/")) == "oss://examplebucket/a/b/"
    )


def test_extra_config_is_merged_over_everything_else() -> None:
    extra: Mapping[str, Any] = {
        "metadata": {"shm_size": 2, "rpc": None},
        "containers": [{"env": [{"name": "A", "value": "9"}, {"name": "C", "value": "3"}], "args": ["x"]}],
        "storage": [
            {"mount_path": "/models", "oss": {"endpoint": "oss-internal"}},
            {"mount_path": "/scratch", "empty_dir": {"medium": "memory"}},
        ],
        "features": {"eas.aliyun.com/extra-ephemeral-storage": "100Gi"},
        "networking": {"gateway_policy": {"rate_limit": {"enable": True, "limit": 5}}},
    }
    spec = service(env={"A": "1", "B": "2"}, extra_config=extra)
    assert problems(spec) == []
    before = json.dumps(extra)
    config = eas_spec.build(spec)
    assert json.dumps(extra) == before
    assert config["metadata"] == {"name": "demo", "instance": 1, "shm_size": 2}
    assert config["containers"][0]["env"] == [
        {"name": "A", "value": "9"},
        {"name": "B", "value": "2"},
        {"name": "C", "value": "3"},
    ]
    assert config["containers"][0]["args"] == ["x"]
    assert config["storage"] == [
        {
            "mount_path": "/models",
            "oss": {"path": "oss://examplebucket/models/tf_serving/", "readOnly": True, "endpoint": "oss-internal"},
        },
        {"mount_path": "/scratch", "empty_dir": {"medium": "memory"}},
    ]
    assert config["features"] == extra["features"]
    assert config["networking"] == extra["networking"]


def test_extra_config_can_add_a_second_container() -> None:
    sidecar = {"image": "a/b:1", "port": 9100, "command": "exporter"}
    spec = service(extra_config={"containers": [{}, sidecar]})
    assert problems(spec) == []
    assert eas_spec.build(spec)["containers"] == [container(service()), sidecar]


def test_the_token_is_in_no_text_form_of_a_service() -> None:
    spec = service(token="s3cr3t-token\n")
    assert "s3cr3t" not in repr(spec)
    assert not [text for text in problems(spec) if "s3cr3t" in text]


# ---- rules


@pytest.mark.parametrize(
    ("fields", "key", "message"),
    [
        # identity
        ({"name": "Multi-HTTP"}, "", "`Multi-HTTP` is not a service name. Allowed: 3 to 63 lower-case letters"),
        ({"name": "Multi-HTTP"}, "", "Fix: call it multi_http"),
        ({"name": "1st"}, "", "is not a service name"),
        ({"name": "ab"}, "", "is not a service name"),
        ({"name": "a" * 64}, "", "is not a service name"),
        ({"deployment": "serverless"}, ".deployment", "Allowed: scenario, custom"),
        ({"region": "Hangzhou"}, ".region", "a region id such as cn-hangzhou"),
        ({"bucket": "Bucket"}, ".bucket", "`Bucket` is not a bucket name"),
        ({"root": "a//b"}, ".modelRoot", "`a//b` is not a directory in a bucket"),
        ({"root": "a/../b"}, ".modelRoot", "is not a directory in a bucket"),
        (
            {"bucket_region": "cn-beijing"},
            ".bucket",
            "bucket examplebucket is in cn-beijing, the service in cn-hangzhou",
        ),
        # what a scenario deployment does not offer
        ({"deployment": "scenario", "grpc": True}, ".grpc", "does not speak gRPC; a custom deployment does"),
        ({"deployment": "scenario", "port": 8500}, ".port", "only has port 8501; a custom deployment has others"),
        ({"deployment": "scenario", "port": 8080}, ".port", "Fix: set deployment: custom"),
        ({"deployment": "scenario", "flags": {"enable_batching": True}}, ".flags", "Fix: set deployment: custom"),
        ({"deployment": "scenario", "command": "x"}, ".command", "takes no start parameters; a custom deployment does"),
        ({"deployment": "scenario", "script": "x"}, ".script", "takes no start parameters"),
        ({"deployment": "scenario", "model_name": "a"}, ".modelName", "the model is always called `model`"),
        ({"deployment": "scenario", "mount_path": "/mnt"}, ".mountPath", "mounts it at /models/model"),
        ({"deployment": "scenario", "batching_parameters_file": "/b"}, ".batching", "Fix: set deployment: custom"),
        ({"deployment": "scenario", "monitoring_config_file": "/m"}, ".monitoring", "Fix: set deployment: custom"),
        (
            {"deployment": "scenario", "config_file": True, "config_poll_seconds": 30},
            ".configPollSeconds",
            "takes no start parameters; a custom deployment does",
        ),
        (
            {"deployment": "scenario", "config_file": True, "allow_labels_for_unavailable_versions": True},
            ".allowLabelsForUnavailableVersions",
            "Fix: set deployment: custom",
        ),
        # what is served
        ({"model": ""}, ".model", "nothing to serve. Fix: set model to one of the models, or configFile: true"),
        ({"config_file": True, "model": "modelA"}, ".model", "both configFile and model `modelA`"),
        ({"config_file": True, "model_name": "a"}, ".modelName", "the config file names its models"),
        ({"config_file": True, "config_file_name": "../x"}, ".configFileName", "is not a file name under"),
        ({"model": "a/b"}, ".model", "`a/b` is not a model name"),
        ({"model": ".."}, ".model", "`..` is not a model name"),
        ({"model_name": "a:b"}, ".modelName", "`a:b` is not a model name"),
        ({"config_poll_seconds": 30}, ".configPollSeconds", "which this service does not read"),
        (
            {"allow_labels_for_unavailable_versions": True},
            ".allowLabelsForUnavailableVersions",
            "which this service does not read",
        ),
        ({"config_file": True, "config_poll_seconds": -1}, ".configPollSeconds", "0 or more"),
        ({"mount_path": "models"}, ".mountPath", "`models` is not an absolute path"),
        ({"mount_path": "/models/../x"}, ".mountPath", "is not an absolute path"),
        ({"mount_path": "/"}, ".mountPath", "would hide the image's own /"),
        ({"mount_path": "/usr/models"}, ".mountPath", "would hide the image's own /usr"),
        ({"mount_path": "/etc"}, ".mountPath", "would hide the image's own /etc"),
        # ports
        ({"port": 8080}, ".port", "port 8080 is reserved by EAS. Allowed: 8500 for gRPC, 8501 for HTTP"),
        ({"port": 9090}, ".port", "port 9090 is reserved by EAS"),
        ({"port": 0}, ".port", "`0` is not a port"),
        ({"port": 70000}, ".port", "`70000` is not a port"),
        ({"port": 8500}, ".port", "port 8500 speaks gRPC. Allowed: 8501. Fix: set grpc: true, or port: 8501"),
        ({"port": 8600}, ".port", "HTTP is on port 8501, not 8600"),
        ({"grpc": True, "port": 8501}, ".port", "gRPC is on port 8500, not 8501"),
        # image
        ({"image": "tensorflow-serving"}, ".image", "`tensorflow-serving` has no tag"),
        ({"image": "r:5000/tensorflow-serving"}, ".image", "has no tag"),
        ({"image": "tensorflow-serving:latest"}, ".image", "moves: what runs would change by itself"),
        ({"image": "tensorflow-serving:latest-gpu", "instance_types": (SPOT,)}, ".image", "Fix: pin a version"),
        ({"image": "tensorflow/serving:nightly"}, ".image", "moves"),
        ({"image": "not an image"}, ".image", "`not an image` is not an image"),
        ({"image": "tritonserver:24.08"}, ".image", "is not TensorFlow Serving, and no start command is given"),
        ({"image": "nvcr.io/nvidia/tritonserver:24.08"}, ".image", "is not TensorFlow Serving"),
        (
            {"image": "tensorflow-serving:1.15.0", "uses_labels": True, **LIVE},
            ".image",
            "exist since TensorFlow Serving",
        ),
        # start command
        ({"command": "a", "script": "b", "port": 80}, ".script", "both command and script"),
        ({"command": "serve"}, ".port", "a start command of your own needs the port it listens on"),
        (
            {"command": "a && b", "port": 80},
            ".command",
            "`&&` would not work. Allowed: a single command. Fix: use script",
        ),
        ({"command": "a; b", "port": 80}, ".command", "`;` would not work"),
        ({"command": "a > b", "port": 80}, ".command", "`>` would not work"),
        ({"command": "a $(b)", "port": 80}, ".command", "started without a shell"),
        ({"command": "a $HOME", "port": 80}, ".command", "started without a shell"),
        ({"command": "a `b`", "port": 80}, ".command", "started without a shell"),
        ({"command": "a 'b", "port": 80}, ".command", "a quote is not closed"),
        ({"command": "a", "port": 8080}, ".port", "reserved by EAS"),
        ({"command": "a", "port": 80, "flags": {"x": 1}}, ".flags", "say it in the start command"),
        ({"command": "a", "port": 80, "model_name": "x"}, ".modelName", "say it in the start command"),
        ({"command": "a", "port": 80, "batching_parameters_file": "/b"}, ".batching", "say it in the start command"),
        ({"command": "a", "port": 80, "monitoring_config_file": "/b"}, ".monitoring", "say it in the start command"),
        ({"command": "a", "port": 80, "config_file": True}, ".configFile", "this service starts something else"),
        (
            {"command": "tf_serving_entrypoint.sh --model_nam=a"},
            ".command",
            "`--model_nam` is not a flag of TensorFlow Serving",
        ),
        (
            {"command": "tf_serving_entrypoint.sh --rest_api_port=8502"},
            ".command.rest_api_port",
            "does not match port 8501 of the service",
        ),
        # flags
        ({"flags": {"model_name": "a"}}, ".flags.model_name", "--model_name is set by modelName. Fix: use modelName"),
        ({"flags": {"model_base_path": "/a"}}, ".flags.model_base_path", "is set by model and mountPath"),
        ({"flags": {"model_config_file": "/a"}}, ".flags.model_config_file", "is set by configFile"),
        (
            {"flags": {"model_config_file_poll_wait_seconds": 5}, **LIVE},
            ".flags.model_config_file_poll_wait_seconds",
            "is set by configPollSeconds",
        ),
        (
            {"flags": {"allow_version_labels_for_unavailable_models": True}, **LIVE},
            ".flags.allow_version_labels_for_unavailable_models",
            "is set by allowLabelsForUnavailableVersions",
        ),
        (
            {"flags": {"batching_parameters_file": "/a"}, "batching_parameters_file": "/b"},
            ".flags.batching_parameters_file",
            "is set by batching",
        ),
        (
            {"flags": {"monitoring_config_file": "/a"}, "monitoring_config_file": "/b"},
            ".flags.monitoring_config_file",
            "is set by monitoring",
        ),
        (
            {"flags": {"enable_batching": False}, "batching_parameters_file": "/b"},
            ".flags.enable_batching",
            "batching is set, and turned off here",
        ),
        ({"flags": {"ssl_config_file": "/s"}, "grpc": True}, ".flags.ssl_config_file", "speaks plain HTTP/2"),
        ({"flags": {"use_alts_credentials": True}, "grpc": True}, ".flags.use_alts_credentials", "plain HTTP/2"),
        ({"flags": {"rest_api_num_threads": 1}}, ".flags.rest_api_num_threads", "2 or more"),
        ({"flags": {"mixed_precision": "bfloat16"}}, ".flags.mixed_precision", "the image is 2.14.1"),
        # labels
        (
            {**LIVE, "uses_labels": True, "allow_labels_for_unavailable_versions": False},
            ".allowLabelsForUnavailableVersions",
            "which TensorFlow Serving refuses at start, before a version is loaded. Allowed: true",
        ),
        (
            {**LIVE, "uses_labels": True, "config_poll_seconds": 0},
            ".configPollSeconds",
            "a label would not move without a restart. Allowed: 1 or more. Fix: set configPollSeconds: 30",
        ),
        # resources
        ({"replicas": 0}, ".replicas", "replicas is 0. Allowed: 1 or more"),
        ({"cpu": 2}, ".memory", "cpu and memory go together"),
        ({"memory": 4000}, ".cpu", "cpu and memory go together"),
        ({"cpu": 0, "memory": 4000}, ".cpu", "1 or more"),
        ({"cpu": 2, "memory": 8}, ".memory", "memory is 8 MB per replica. Allowed: 256 or more. Fix: give it in MB"),
        (
            {"cpu": 2, "memory": 4000, "instance_types": (InstanceType(type="ecs.c7.large"),)},
            ".cpu",
            "an instance type has its own cpu and memory",
        ),
        (
            {"resource": "eas-r-1", "instance_types": (InstanceType(type="ecs.c7.large"),)},
            ".instanceTypes",
            "instance types are public resources, and this service runs on a resource group",
        ),
        (
            {"resource": "r-1", "cpu": 2, "memory": 4000},
            ".resource",
            "`r-1` is not a resource group. Allowed: eas-r-...",
        ),
        ({"resource": "eas-r-1"}, ".cpu", "on a resource group each replica needs its cpu and memory"),
        (
            {"instance_types": (InstanceType(type="c7.large"),)},
            ".instanceTypes[0].type",
            "`c7.large` is not an instance type. Allowed: ecs.<family>.<size>, ml.<...>. Fix: write ecs.c7.large",
        ),
        (
            {"instance_types": (InstanceType(type="ecs.c7.large", spot_price_limit=0),)},
            ".instanceTypes[0].spotPriceLimit",
            "`0` is not a price. Allowed: USD per hour, above 0",
        ),
        (
            {"instance_types": (InstanceType(type="ecs.c7.large", spot_price_limit=float("nan")),)},
            ".instanceTypes[0].spotPriceLimit",
            "is not a price",
        ),
        (
            {"instance_types": (InstanceType(type="ecs.c7.large", capacity=0),)},
            ".instanceTypes[0].capacity",
            "`0` is not a capacity",
        ),
        (
            {"instance_types": (InstanceType(type="ecs.c7.large", capacity="120%"),)},
            ".instanceTypes[0].capacity",
            "`120%` is not a capacity",
        ),
        ({"disable_spot_protection": True}, ".disableSpotProtection", "there is no spot instance type"),
        # GPU
        ({"gpu": -1}, ".gpu", "0 or more"),
        ({"gpu_memory": 4, "gpu": 1, **SLICED}, ".gpuMemory", "EAS then ignores the slice"),
        (
            {"gpu_memory": 4, "image": "tensorflow-serving:2.14.1-gpu"},
            ".gpuMemory",
            "GPUs are sliced on resource groups only, not on public resources",
        ),
        ({"gpu_core_percentage": 10, **SLICED}, ".gpuCorePercentage", "gpuCorePercentage needs gpuMemory"),
        ({"gpu_core_percentage": 101, "gpu_memory": 4, **SLICED}, ".gpuCorePercentage", "Allowed: 1 to 100"),
        ({"gpu_card_memory": 16, **SLICED}, ".gpuCardMemory", "the card gpuMemory is a slice of"),
        ({"gpu_card_memory": -1, "gpu_memory": 4, **SLICED}, ".gpuCardMemory", "0 or more"),
        (
            {"gpu_memory": 24, "gpu_card_memory": 16, **SLICED},
            ".gpuMemory",
            "a slice of 24 GB is larger than the card with 16 GB. Allowed: 1 to 16",
        ),
        (
            {
                "gpu_memory": 4,
                "gpu_card_memory": 16,
                "flags": {"per_process_gpu_memory_fraction": 0.5},
                **SLICED,
            },
            ".flags.per_process_gpu_memory_fraction",
            "the slice is 0.25 of the card, the flag would let TensorFlow take 0.5 of it",
        ),
        (
            {"image": "tensorflow-serving:2.14.1-gpu"},
            ".instanceTypes",
            "image tensorflow-serving:2.14.1-gpu needs a GPU, and ecs.c7.large has none",
        ),
        (
            {"image": "tensorflow-serving:2.14.1-gpu", "instance_types": (InstanceType(type="ecs.g7.large"),)},
            ".instanceTypes",
            "ecs.g7.large has none",
        ),
        (
            {"gpu": 1, "resource": "eas-r-1", "cpu": 2, "memory": 4000},
            ".image",
            "image tensorflow-serving:2.14.1 has no GPU support. Allowed: tensorflow-serving:2.14.1-gpu",
        ),
        # network
        ({"vpc": replace(VPC, vpc_id="")}, ".vpc.vpcId", "a VPC needs vpcId, vswitchIds and securityGroupId"),
        ({"vpc": replace(VPC, vswitch_ids=())}, ".vpc.vswitchIds", "Fix: set vswitchIds"),
        ({"vpc": replace(VPC, security_group_id="")}, ".vpc.securityGroupId", "Fix: set securityGroupId"),
        ({"vpc": replace(VPC, security_group_id="vsw-1")}, ".vpc.securityGroupId", "Allowed: sg-..."),
        ({"gateway": "shared"}, ".gateway", "remove gateway: the shared one is the default"),
        ({"gateway": "alb-1", "vpc": VPC}, ".gateway", "`alb-1` is not a gateway id"),
        ({"gateway": "gw-1"}, ".vpc", "a dedicated gateway reaches the service through its VPC"),
        # scaling
        ({"autoscaler": SCALER, "replicas": 2}, ".replicas", "the autoscaler sets the replica count"),
        ({"autoscaler": replace(SCALER, min=3)}, ".autoscaler", "bounds are 3 and 3. Allowed: 0 <= min < max <= 1000"),
        ({"autoscaler": replace(SCALER, min=5)}, ".autoscaler", "bounds are 5 and 3"),
        ({"autoscaler": replace(SCALER, min=-1)}, ".autoscaler", "bounds are -1 and 3"),
        ({"autoscaler": replace(SCALER, max=1001)}, ".autoscaler", "bounds are 1 and 1001"),
        (
            {"autoscaler": replace(SCALER, min=0), "gateway": "gw-1", "vpc": VPC},
            ".autoscaler.min",
            "min is 0, which EAS refuses with a dedicated gateway",
        ),
        (
            {"autoscaler": replace(SCALER, min=0), "extra_config": {"networking": {"gateway": "gw-1"}}},
            ".autoscaler.min",
            "min is 0, which EAS refuses with a dedicated gateway",
        ),
        ({"autoscaler": replace(SCALER, metrics=())}, ".autoscaler.metrics", "the autoscaler has nothing to follow"),
        (
            {"autoscaler": replace(SCALER, metrics=(ScaleMetric(name="rps", threshold=1),))},
            ".autoscaler.metrics.rps",
            "`rps` is not a metric. Allowed: qps",
        ),
        (
            {"autoscaler": replace(SCALER, metrics=(ScaleMetric(name="gpu[util]", threshold=0),))},
            '.autoscaler.metrics["gpu[util]"]',
            "`0` is not a target. Allowed: above 0",
        ),
        (
            {"autoscaler": replace(SCALER, scale_up_stabilization_seconds=-1)},
            ".autoscaler.scaleUpStabilizationSeconds",
            "0 or more",
        ),
        (
            {"rolling_strategy": RollingStrategy(max_surge="half")},
            ".rollingStrategy.maxSurge",
            "`half` is not an amount",
        ),
        ({"rolling_strategy": RollingStrategy(max_unavailable=-1)}, ".rollingStrategy.maxUnavailable", "`-1`"),
        (
            {"rolling_strategy": RollingStrategy(max_surge="0%", max_unavailable=0)},
            ".rollingStrategy",
            "no replica could ever be replaced",
        ),
        # health checks
        ({"startup_seconds": 1}, ".startupSeconds", "10 or more"),
        (
            {"health_checks": HealthChecks(startup=Probe(kind="udp"))},
            ".healthCheck.startup",
            "http, tcp, exec",
        ),
        ({"health_checks": HealthChecks(startup=Probe(kind="http", path="x"))}, ".healthCheck.startup.path", "`x`"),
        (
            {"grpc": True, "health_checks": HealthChecks(startup=Probe(kind="http"))},
            ".healthCheck.startup.port",
            "port 8500 does not speak HTTP",
        ),
        ({"health_checks": HealthChecks(liveness=Probe(kind="exec"))}, ".healthCheck.liveness.command", "no command"),
        (
            {"health_checks": HealthChecks(liveness=Probe(kind="tcp", port=0))},
            ".healthCheck.liveness.port",
            "1 to 65535",
        ),
        (
            {"health_checks": HealthChecks(liveness=Probe(kind="tcp", initial_delay_seconds=-1))},
            ".healthCheck.liveness.initialDelaySeconds",
            "0 or more",
        ),
        (
            {"health_checks": HealthChecks(liveness=Probe(kind="tcp", period_seconds=0))},
            ".healthCheck.liveness.periodSeconds",
            "1 or more",
        ),
        (
            {"health_checks": HealthChecks(liveness=Probe(kind="tcp", timeout_seconds=0))},
            ".healthCheck.liveness.timeoutSeconds",
            "1 or more",
        ),
        (
            {"health_checks": HealthChecks(liveness=Probe(kind="tcp", failure_threshold=0))},
            ".healthCheck.liveness.failureThreshold",
            "1 or more",
        ),
        (
            {"health_checks": HealthChecks(liveness=Probe(kind="tcp", success_threshold=2))},
            ".healthCheck.liveness.successThreshold",
            "successThreshold is 2. Allowed: 1",
        ),
        # environment and the rest
        ({"env": {"1A": "x"}}, ".env", "`1A` is not a variable name"),
        ({"env": {"MODEL_NAME": "x"}}, ".env.MODEL_NAME", "belongs to the image's entry point"),
        ({"env": {"A": "\x00"}}, ".env.A", "the value holds a zero byte"),
        ({"rpc_keepalive_ms": -1}, ".rpcKeepaliveMs", "0 or more"),
        ({"workspace_id": "my space"}, ".workspaceId", "`my space` is not a workspace id"),
        ({"token": "two words"}, ".token", "the token holds a character that no HTTP header can"),
        ({"labels": {"managed-by": "me"}}, ".labels.managed-by", "marks what this project made"),
        ({"labels": {"tf-serving-deployment": "x"}}, ".labels.tf-serving-deployment", "Fix: use another label"),
        ({"labels": {"": "x"}}, ".labels", "`` is not a label"),
        # raw service JSON
        ({"extra_config": ["x"]}, ".extraConfig", "it is not an object"),
        ({"extra_config": {"autoscaler": {"min": 1}}}, ".extraConfig.autoscaler", "Fix: use autoscaler"),
        ({"extra_config": {"token": "x"}}, ".extraConfig.token", "would not be kept secret. Fix: use token"),
        ({"extra_config": {"metadata": {"name": "x"}}}, ".extraConfig.metadata.name", "Fix: rename that key"),
        ({"extra_config": {"metadata": {"name": None}}}, ".extraConfig.metadata.name", "Fix: rename that key"),
        (
            {"extra_config": {"metadata": {"instance": 2}}},
            ".extraConfig.metadata.instance",
            "use replicas or autoscaler",
        ),
        ({"extra_config": {"labels": {"pulumi-owner": "x"}}}, ".extraConfig.labels.pulumi-owner", "use another label"),
        ({"extra_config": {"metadata": 1}}, ".extraConfig.metadata", "it is not an object"),
        ({"extra_config": {"metadata": None}}, ".extraConfig.metadata", "no service works without metadata"),
        ({"extra_config": {"containers": {}}}, ".extraConfig.containers", "it is not a list of objects"),
        ({"extra_config": {"storage": ["x"]}}, ".extraConfig.storage", "it is not a list of objects"),
        ({"extra_config": {"containers": [{"port": 9090}]}}, ".extraConfig.containers[0].port", "reserved by EAS"),
        (
            {"extra_config": {"containers": [{"command": "x"}]}},
            ".extraConfig.containers[0]",
            "either command or script",
        ),
        (
            {"extra_config": {"containers": [{}, {"image": "x"}]}},
            ".extraConfig.containers[1]",
            "either command or script",
        ),
        ({"grpc": True, "extra_config": {"networking": {"path": "/x"}}}, ".extraConfig", 'networking.path: "/"'),
        ({"grpc": True, "extra_config": {"metadata": {"enable_grpc": False}}}, ".extraConfig", "enable_grpc: true"),
        ({"extra_config": {"metadata": {"enable_grpc": True}}}, ".extraConfig.metadata.enable_grpc", "set grpc: true"),
        (
            {"extra_config": {"metadata": {"gpu": 1}}, "gpu_memory": 4, **SLICED},
            ".extraConfig.metadata",
            "EAS ignores gpu_memory with gpu",
        ),
        (
            {"extra_config": {"storage": [{"mount_path": "/models/x", "empty_dir": {}}]}},
            ".extraConfig.storage[1].mount_path",
            "/models/x and /models overlap",
        ),
        (
            {"extra_config": {"storage": [{"mount_path": "/usr/lib", "empty_dir": {}}]}},
            ".extraConfig.storage[1].mount_path",
            "would hide the image's own /usr",
        ),
    ],
)
def test_what_cannot_work_is_refused_at_its_key(fields: dict[str, Any], key: str, message: str) -> None:
    found = problems(service(**fields))
    assert len(found) == 1, found
    assert found[0].startswith(f"{PATH}{key}: ")
    assert message in found[0]


def test_all_problems_of_a_service_are_found_together() -> None:
    spec = service(name="X", port=8080, image="tensorflow-serving:latest", replicas=0, gateway="shared")
    assert [text.partition(":")[2].partition(": ")[0] for text in problems(spec)] == [
        "services.demo",
        "services.demo.port",
        "services.demo.image",
        "services.demo.replicas",
        "services.demo.gateway",
    ]


@pytest.mark.parametrize("command", ["a --x='b; c'", 'a "b && c"', "a b\\;c", "a --path=/x,y"])
def test_quoted_operators_are_no_shell_syntax(command: str) -> None:
    assert problems(service(model="", command=command, port=80)) == []


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"instance_types": (InstanceType(type="ecs.gn6i-c4g1.xlarge"),)}, "use tensorflow-serving:2.14.1-gpu"),
        ({"deployment": "scenario", "config_file": True, "uses_labels": True}, "rests on EAS"),
        ({"instance_types": (InstanceType(type="ecs.c7.large", spot_price_limit=1),)}, "all instance types are spot"),
        ({"config_file": True}, "read once, at start"),
        ({"vpc": VPC, "replicas": 3}, "up to 3 and 1 more during an update"),
        ({"vpc": VPC, "autoscaler": SCALER, "rolling_strategy": RollingStrategy(max_surge=0)}, "up to 3 during"),
    ],
)
def test_what_works_but_is_risky_is_a_warning(fields: dict[str, Any], message: str) -> None:
    assert [text for text in eas_spec.warnings(service(**fields)) if message in text]


def test_an_ordinary_service_has_no_warning() -> None:
    assert eas_spec.warnings(service(**LIVE, uses_labels=True)) == []


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "enable_profiler": st.booleans(),
            "num_load_threads": st.integers(0, 64),
            "grpc_channel_arguments": st.from_regex(r"[a-z.]{1,9}=[^\x00-\x1f\x7f,]{1,9}", fullmatch=True),
            "tensorflow_session_config_file": st.text(st.characters(codec="utf-8", exclude_categories=("Cc",))),
        },
    ),
    st.booleans(),
)
def test_a_shell_reads_the_flags_of_a_start_command_as_they_were_given(given: dict[str, Any], grpc: bool) -> None:
    spec = service(flags=given, grpc=grpc)
    assert problems(spec) == []
    program, *arguments = shlex.split(eas_spec.start_command(spec))
    assert program == "/usr/bin/tf_serving_entrypoint.sh"
    parsed = flags.parse(arguments)
    assert parsed.problems == ()
    assert parsed.values == {"model_base_path": "/models/modelA", **given}


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=3), children, max_size=3),
    max_leaves=8,
)
_SECTIONS = ["metadata", "cloud", "containers", "storage", "networking", "labels", "other"]


@given(st.dictionaries(st.sampled_from(_SECTIONS), _JSON | st.lists(st.dictionaries(st.text(max_size=3), _JSON))))
def test_no_raw_json_breaks_the_checks_and_what_passes_can_be_built(extra: dict[str, Any]) -> None:
    spec = service(extra_config=extra)
    if not problems(spec):
        config = eas_spec.build(spec)
        assert config["metadata"]["name"] == "demo"
        assert config["containers"][0]["script"] == eas_spec.start_command(spec)
        json.dumps(config)


@pytest.mark.parametrize("directory", ["/dev/shm", "/dev/shm/"])  # noqa: S108 - shared memory
def test_shared_memory_may_be_mounted_where_it_is(directory: str) -> None:
    assert problems(service(extra_config={"storage": [{"mount_path": directory, "empty_dir": {}}]})) == []
