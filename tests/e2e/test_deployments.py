"""Every way to deploy, in one stack: the development stack's own services, and further ones for what it leaves out.

The stack is in a bucket of somebody else's. The tests run in order and share what is deployed.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Iterator
from typing import Any
from urllib import request

import alibabacloud_oss_v2 as oss
import pytest
import yaml
from alibabacloud_eas20210701 import models as eas_models

from tests.e2e.checkout import REGION, Checkout, post
from tests.e2e.load import Load, Target
from tfserving.client import ModelClient, connect

pytestmark = pytest.mark.slow

IMAGE = [[[[1.0]] * 28] * 28]
MODELS = "tf-serving:models"
SERVICES = "tf-serving:services"
BUCKET = "somebody-elses-bucket"
STRANGE = "not/of/this/stack.txt"

# A GPU sliced on a resource group: TensorFlow Serving is told its share of the card.
SLICED = {
    "deployment": "custom",
    "image": "tensorflow-serving:2.14.1-gpu",
    "model": "modelA",
    "resource": "eas-r-exampleresourcegroup",
    "cpu": 4,
    "memory": 15000,
    "gpuMemory": 8,
    "gpuCardMemory": 16,
}
# An image of one's own: same mount, own command, port and checks.
OWN_IMAGE = {
    "deployment": "custom",
    "image": "registry.example.com/team/serving:1.0",
    "model": "modelC",
    "command": "tensorflow_model_server --rest_api_port=8000 --model_name=mine --model_base_path=/models/modelC",
    "port": 8000,
    "healthCheck": {
        "startup": {"kind": "http", "path": "/v1/models/mine", "periodSeconds": 1, "failureThreshold": 300}
    },
}
# What can be said of any service, beside what it serves and how.
OPTIONS: dict[str, Any] = {
    "replicas": 2,
    "instanceTypes": [{"type": "ecs.c7.large", "spotPriceLimit": 0.2, "capacity": "50%"}, "ecs.c7.xlarge"],
    "disableSpotProtection": True,
    "rollingStrategy": {"maxSurge": 1, "maxUnavailable": 0},
    "vpc": {"vpcId": "vpc-1", "vswitchIds": ["vsw-1", "vsw-2"], "securityGroupId": "sg-1"},
    "gateway": "gw-1",
    "workspaceId": "1234",
    "rpcKeepaliveMs": 15000,
    "healthCheck": {"startup": {"kind": "tcp", "periodSeconds": 1, "failureThreshold": 300}},
    "env": {"TF_CPP_MIN_LOG_LEVEL": 1},
    "labels": {"team": "vision"},
    "batching": {"max_batch_size": 8, "batch_timeout_micros": 1000},
    "monitoring": {"path": "/metrics"},
    "extraConfig": {"metadata": {"shm_size": 1}, "features": {"eas.aliyun.com/extra-ephemeral-storage": "100Gi"}},
}
AUTOSCALER = {"min": 1, "max": 3, "metrics": {"qps": 200}, "scaleDownStabilizationSeconds": 600}


def development_services(checkout: Checkout) -> dict[str, Any]:
    """Services of ``stacks/Pulumi.dev.yaml``, with polls short enough for a test."""
    document = yaml.safe_load((checkout.root / "stacks" / "Pulumi.dev.yaml").read_text(encoding="utf-8"))
    services: dict[str, Any] = document["config"][SERVICES]
    for service in services.values():
        if "configPollSeconds" in service:
            service["configPollSeconds"] = 1
            service["flags"]["file_system_poll_wait_seconds"] = 1
    return services


@pytest.fixture(scope="module")
def stack(prepared: Checkout) -> Iterator[Checkout]:
    services = development_services(prepared)
    del services["triton"]  # it gets a test of its own: the sandbox has no Triton to run
    prepared.set({"name": BUCKET, "existing": True}, "tf-serving:bucket")
    prepared.set(services | {"sliced": SLICED, "own_image": OWN_IMAGE}, SERVICES)
    prepared.succeed("cloud", "start")
    client = prepared.oss()
    client.put_bucket(oss.PutBucketRequest(BUCKET, acl="private"))
    client.put_object(oss.PutObjectRequest(BUCKET, STRANGE, body=b"kept"))
    printed = prepared.succeed("up", "--yes", timeout=900)
    assert "rests on EAS" in printed.replace("\n", " "), "a scenario deployment with labels is warned about"
    yield prepared
    prepared.run("down", module="local")


def client(stack: Checkout, name: str) -> ModelClient:
    service = stack.service(name)
    address = {"target": service["target"]} if service["protocol"] == "grpc" else {"url": service["url"]}
    return connect(**address, token=service["token"], timeout=30)


def unchanged(stack: Checkout) -> None:
    assert stack.run("preview", "--expect-no-changes").code == 0
    assert stack.run("refresh", "--preview-only", "--expect-no-changes").code == 0


# ---- the table -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("service", "model", "labels"),
    [
        ("modela_scene", "model", False),
        ("multi_scene", "modelB", True),
        ("modela_custom", "modelA", False),
        ("multi_http", "modelB", True),
        ("multi_grpc", "modelB", True),
        ("multi_gpu", "modelB", True),
        ("sliced", "model", False),
        ("own_image", "mine", False),
    ],
)
def test_every_deployment_answers_predictions(stack: Checkout, service: str, model: str, labels: bool) -> None:
    with client(stack, service) as asked:
        latest = asked.predict(model, IMAGE).outputs[0]
        assert sum(latest) == pytest.approx(1, abs=1e-3)
        if labels:
            assert asked.labelled_version(model, "stable") == 1
            stable = asked.predict(model, IMAGE, label="stable").outputs[0]
            assert stable == pytest.approx(asked.predict(model, IMAGE, version=1).outputs[0])
            assert stable != pytest.approx(latest)


@pytest.mark.parametrize(
    ("service", "port", "mount", "started"),
    [
        ("modela_scene", 8501, ("/models/model", "modelA/"), "/usr/bin/tf_serving_entrypoint.sh"),
        (
            "multi_scene",
            8501,
            ("/models", ""),
            "/usr/bin/tf_serving_entrypoint.sh --model_config_file=/models/model_config.pbtxt",
        ),
        (
            "modela_custom",
            8501,
            ("/models", ""),
            "/usr/bin/tf_serving_entrypoint.sh --model_name=modelA --model_base_path=/models/modelA",
        ),
        (
            "multi_grpc",
            8500,
            ("/models", ""),
            "/usr/bin/tf_serving_entrypoint.sh --model_config_file=/models/model_config.pbtxt "
            "--model_config_file_poll_wait_seconds=1 --allow_version_labels_for_unavailable_models=true",
        ),
        (
            "sliced",
            8501,
            ("/models", ""),
            "/usr/bin/tf_serving_entrypoint.sh --model_base_path=/models/modelA --per_process_gpu_memory_fraction=0.5",
        ),
        ("own_image", 8000, ("/models", ""), OWN_IMAGE["command"]),
    ],
)
def test_every_deployment_is_started_as_the_document_says(
    stack: Checkout, service: str, port: int, mount: tuple[str, str], started: str
) -> None:
    stored = stack.service_json(service)
    (container,) = stored["containers"]
    assert container["port"] == port
    assert (container.get("script") or container["command"]).startswith(started)
    (storage,) = stored["storage"]
    assert storage["mount_path"] == mount[0]
    assert storage["oss"]["path"] == f"oss://{BUCKET}/models/tf_serving/{mount[1]}"
    assert storage["oss"]["readOnly"] is True


def test_grpc_is_three_settings_and_a_target_without_a_scheme(stack: Checkout) -> None:
    services = stack.outputs()["services"]
    assert "://" not in services["multi_grpc"]["target"]
    assert "url" not in services["multi_grpc"]
    assert services["multi_http"]["url"].startswith("http://127.0.0.1:")
    stored = stack.service_json("multi_grpc")
    assert stored["metadata"]["enable_grpc"] is True
    assert stored["networking"]["path"] == "/"
    assert stack.service_json("multi_http")["metadata"].get("enable_grpc", False) is False


def test_gpus_are_asked_for_by_image_and_instance_type_or_as_a_slice(stack: Checkout) -> None:
    whole, sliced = stack.service_json("multi_gpu"), stack.service_json("sliced")
    assert whole["containers"][0]["image"].endswith("/tensorflow-serving:2.14.1-gpu")
    assert whole["cloud"]["computing"]["instances"] == [
        {"type": "ecs.gn6i-c4g1.xlarge", "spot_price_limit": 0.5},
        {"type": "ecs.gn6i-c8g1.2xlarge"},
    ]
    assert sliced["metadata"]["gpu_memory"] == 8
    assert sliced["metadata"]["resource"] == SLICED["resource"]
    assert "instances" not in sliced["cloud"]["computing"]


def test_what_a_scenario_deployment_cannot_do_is_refused_with_the_deployment_that_can(stack: Checkout) -> None:
    good = stack.stack_file.read_text(encoding="utf-8")
    wrong = {"grpc": True, "port": 8500, "flags": {"num_load_threads": 2}}
    try:
        stack.set({"deployment": "scenario", "model": "modelA", **wrong}, SERVICES, "modela_scene")
        done = stack.run("up", "--yes")
    finally:
        stack.stack_file.write_text(good, encoding="utf-8")
    assert done.code not in (0, 7)
    for key in wrong:
        assert f"services.modela_scene.{key}: a scenario deployment" in done.text
    assert done.text.count("set deployment: custom") == len(wrong)
    assert "Traceback" not in done.text


def test_all_of_it_previews_as_no_change(stack: Checkout) -> None:
    unchanged(stack)


def test_a_label_moves_in_services_that_poll_and_in_those_that_restart_and_a_single_models_new_version_is_proven(
    stack: Checkout,
) -> None:
    exported = stack.root / ".sandbox" / "models"
    shutil.copytree(exported / "modelB" / "2", exported / "modelA" / "2")
    singles = {"modela_scene": "model", "modela_custom": "modelA", "sliced": "model"}
    for service, model in singles.items():
        assert stack.service(service)["models"] == {model: {"labels": {}, "versions": [1]}}
    assert stack.service("own_image")["models"] == {"mine": {"labels": {}, "versions": [3]}}
    readers = ("multi_scene", "multi_http", "multi_grpc", "multi_gpu")
    before = stack.processes()
    stack.set(2, MODELS, "modelB", "labels", "stable")
    printed = stack.succeed("up", "--yes", timeout=600)
    assert "restarting service multi_scene" in printed
    for service in readers:
        with client(stack, service) as asked:
            assert asked.labelled_version("modelB", "stable") == 2, service
    for service, model in singles.items():
        assert stack.service(service)["models"] == {model: {"labels": {}, "versions": [2]}}
    restarted = set(stack.processes().items()) - set(before.items())
    assert len(restarted) == 1
    unchanged(stack)


# ---- further options -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def plain(stack: Checkout) -> dict[str, dict[str, Any]]:
    """Service JSONs before any option was set."""
    return {name: stack.service_json(name) for name in ("multi_http", "multi_grpc")}


def test_every_option_reaches_the_service_without_a_failed_request(
    stack: Checkout, plain: dict[str, dict[str, Any]]
) -> None:
    services = stack.config()["config"][SERVICES]
    changed = {key: value for key, value in services["multi_http"].items() if key != "instanceType"}
    stack.set(changed | OPTIONS, SERVICES, "multi_http")
    stack.set(AUTOSCALER, SERVICES, "multi_grpc", "autoscaler")
    asked = {"multi_http": stack.service("multi_http")}
    with Load(asked, (Target("modelB", label="stable"), Target("modelA"))) as load:
        printed = stack.succeed("up", "--yes", timeout=600)
    assert load.failures == []
    assert min(load.requests.values()) >= 5
    assert "each replica takes an address of the vSwitch" in printed
    stored = stack.service_json("multi_http")
    assert stored["metadata"]["instance"] == 2
    assert stored["metadata"]["workspace_id"] == "1234"
    assert stored["metadata"]["rpc"]["keepalive"] == 15000
    assert stored["metadata"]["rolling_strategy"] == {"max_surge": 1, "max_unavailable": 0}
    assert stored["metadata"]["shm_size"] == 1
    assert stored["features"] == OPTIONS["extraConfig"]["features"]
    assert stored["labels"]["team"] == "vision"
    assert stored["networking"]["gateway"] == "gw-1"
    assert stored["cloud"]["networking"] == {
        "vpc_id": "vpc-1",
        "vswitch_id": "vsw-1,vsw-2",
        "security_group_id": "sg-1",
    }
    assert stored["cloud"]["computing"]["disable_spot_protection_period"] is True
    assert stored["cloud"]["computing"]["instances"] == [
        {"type": "ecs.c7.large", "spot_price_limit": 0.2, "capacity": "50%"},
        {"type": "ecs.c7.xlarge"},
    ]
    (container,) = stored["containers"]
    assert container["env"] == [{"name": "TF_CPP_MIN_LOG_LEVEL", "value": "1"}]
    assert container["startup_check"]["failure_threshold"] == 300
    assert "liveness_check" not in container
    assert "--enable_batching=true" in container["script"]
    scaler = stack.eas().describe_service_auto_scaler(REGION, "multi_grpc").body
    assert (scaler.min_replica, scaler.max_replica) == (1, 3)
    unchanged(stack)


def test_batches_are_answered_and_metrics_are_served_where_the_stack_says(stack: Checkout) -> None:
    service = stack.service("multi_http")
    body = {"instances": [IMAGE[0], IMAGE[0]]}
    status, answer = post(f"{service['url']}/v1/models/modelA:predict", service["token"], body)
    assert status == 200
    assert len(answer["predictions"]) == 2
    asked = request.Request(f"{service['url']}/metrics", headers={"authorization": service["token"]})
    with request.build_opener(request.ProxyHandler({})).open(asked, timeout=30) as response:
        assert b":tensorflow:serving:request_count" in response.read()


def test_the_replica_count_an_autoscaler_chose_is_no_drift_and_is_kept(stack: Checkout) -> None:
    stored = stack.service_json("multi_grpc")
    stored["metadata"]["instance"] = 2
    stack.eas().update_service(REGION, "multi_grpc", eas_models.UpdateServiceRequest(body=stored))
    unchanged(stack)


def test_a_setting_changed_in_the_console_is_drift_by_its_name(stack: Checkout) -> None:
    stored = copy.deepcopy(stack.service_json("sliced"))
    stored["metadata"]["memory"] = 16000
    stored["containers"][0]["env"] = [{"name": "DEBUG", "value": "1"}]
    stack.eas().update_service(REGION, "sliced", eas_models.UpdateServiceRequest(body=stored))
    found = stack.run("refresh", "--preview-only", "--expect-no-changes")
    assert found.code == 7, found.text
    assert "memory" in found.text
    assert "DEBUG" in found.text
    assert stack.run("preview", "--expect-no-changes").code == 7


def test_keys_removed_from_the_stack_leave_the_service_a_renamed_one_is_replaced_and_drift_is_repaired(
    stack: Checkout, plain: dict[str, dict[str, Any]]
) -> None:
    services = stack.config()["config"][SERVICES]
    kept = {key: value for key, value in services["multi_http"].items() if key not in OPTIONS}
    services["multi_http"] = {**kept, "instanceType": "ecs.c7.large"}
    del services["multi_grpc"]["autoscaler"]
    services["modela_renamed"] = services.pop("modela_custom")
    stack.set(services, SERVICES)
    stack.succeed("up", "--yes", timeout=600)
    for name, before in plain.items():
        now, token = stack.service_json(name), stack.service(name)["token"]
        assert now.pop("token", token) == token, "clients have the token, so an update sends it along"
        assert now == before, name
    listed = {item.service_name for item in stack.eas().list_services(eas_models.ListServicesRequest()).body.services}
    assert "modela_renamed" in listed
    assert "modela_custom" not in listed
    with client(stack, "modela_renamed") as asked:
        assert asked.predict("modelA", IMAGE)
    sliced = stack.service_json("sliced")
    assert sliced["metadata"]["memory"] == 15000
    assert "env" not in sliced["containers"][0]
    client_of_bucket = stack.oss()
    left = client_of_bucket.list_objects_v2(oss.ListObjectsV2Request(BUCKET, prefix="models/tf_serving/multi_http."))
    assert not left.contents, "files of batching and monitoring go with them"
    unchanged(stack)


# ---- what is not ours ----------------------------------------------------------------------------------------------


def test_triton_gets_the_same_mount_its_own_command_port_and_checks(stack: Checkout) -> None:
    stack.set(development_services(stack)["triton"], SERVICES, "triton")
    done = stack.run("up", "--yes", timeout=600)
    # The sandbox has no Triton, and does not pretend: what EAS is told is all that can be seen here.
    assert done.code not in (0, 7)
    assert "The sandbox only runs TensorFlow Serving images" in done.text
    stored = stack.service_json("triton")
    (container,) = stored["containers"]
    assert container["image"].endswith("/tritonserver:23.11-py3")
    assert container["command"] == "tritonserver --model-repository=/models"
    assert container["port"] == 8000
    assert container["startup_check"]["http_get"] == {"path": "/v2/health/ready", "port": 8000, "scheme": "HTTP"}
    assert container["liveness_check"]["http_get"]["path"] == "/v2/health/live"
    assert [item["mount_path"] for item in stored["storage"]] == ["/models"]
    with client(stack, "multi_http") as asked:
        assert asked.labelled_version("modelB", "stable") == 2
    stack.set(None, SERVICES, "triton")


def test_a_service_that_is_not_ours_is_refused_until_it_is_to_be_adopted(stack: Checkout) -> None:
    theirs = stack.service_json("modela_scene")
    theirs["metadata"] = {"name": "theirs", "instance": 1, "shm_size": 2}
    theirs["labels"] = {"team": "somebody"}
    stack.eas().create_service(eas_models.CreateServiceRequest(body=theirs))
    ours = {"deployment": "scenario", "model": "modelA", "instanceType": "ecs.c7.xlarge"}
    stack.set(ours, SERVICES, "theirs")
    for command in (("preview",), ("up", "--yes")):
        refused = stack.run(*command)
        assert refused.code not in (0, 7)
        assert "service theirs exists already and was not made by this project" in refused.text
        assert "set adopt: true on the service to take it over" in refused.text
    assert stack.service_json("theirs")["labels"] == {"team": "somebody"}
    stack.set({**ours, "adopt": True}, SERVICES, "theirs")
    preview = stack.succeed("preview")
    for told in (
        "service theirs exists already",
        "metadata.shm_size: 2 is not declared",
        'labels.team: "somebody" is not declared',
        'cloud.computing.instances[0].type: "ecs.c7.large" -> "ecs.c7.xlarge"',
    ):
        assert told in preview, preview
    stack.succeed("up", "--yes", timeout=600)
    taken = stack.service_json("theirs")
    assert taken["labels"]["pulumi-owner"] == "tf-serving/local"
    assert "team" not in taken["labels"]
    assert "shm_size" not in taken["metadata"]
    with client(stack, "theirs") as asked:
        assert asked.predict("model", IMAGE)
    unchanged(stack)


def test_a_bucket_of_somebody_elses_is_neither_configured_nor_destroyed(stack: Checkout) -> None:
    bucket = stack.oss()

    def settings() -> tuple[Any, ...]:
        info = bucket.get_bucket_info(oss.GetBucketInfoRequest(BUCKET)).bucket_info
        return info.acl, info.versioning, info.sse_rule and info.sse_rule.sse_algorithm, info.storage_class

    assert settings()[1] in (None, "")
    with pytest.raises(oss.exceptions.OperationError, match="NoSuchLifecycle"):
        bucket.get_bucket_lifecycle(oss.GetBucketLifecycleRequest(BUCKET))
    before = settings()
    stack.succeed("destroy", "--yes", timeout=600)
    assert stack.processes() == {}
    assert settings() == before
    left = bucket.list_objects_v2(oss.ListObjectsV2Request(BUCKET)).contents
    assert [item.key for item in left] == [STRANGE]
