"""The program as a whole, run against a mock of Pulumi's engine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from config import program
from config.stack import MOST_EXPORTED
from tests.components.mock_engine import ROOT, Run, run_program
from tests.config.test_bad_config import BAD

Change = Callable[[dict[str, Any]], dict[str, Any]]
Publish = Callable[..., Path]

HTTP = "tf-serving:services.multi_http"
SINGLE = {"deployment": "custom", "model": "modelA", "modelName": "fashion"}
TRITON = {"deployment": "custom", "image": "r.example.com/triton:24.05", "command": "tritonserver", "port": 8000}


@pytest.fixture
def deploy(changed: Change, project: Path) -> Callable[..., Run]:
    """Runs the program with a changed config: ``deploy({path: value}, secret_keys=[...])``."""

    def run(changes: dict[str, Any] | None = None, **options: Any) -> Run:
        config = changed(changes or {})
        if "tf-serving:modelSource" in config:
            config["tf-serving:modelSource"] = str(project / config["tf-serving:modelSource"])
        return run_program(config, **options)

    return run


Deploy = Callable[..., Run]

COMPONENTS = {"ModelRepository", "ServingStack", "TensorFlowServing"}


def secrets_in(value: Any) -> list[Any]:
    """Every value marked as secret."""
    if isinstance(value, dict):
        if set(value) == {"secret"}:
            return [value["secret"]]
        return [found for item in value.values() for found in secrets_in(item)]
    return [found for item in value for found in secrets_in(item)] if isinstance(value, list) else []


# ---- what is registered


def test_alerts_are_alarms_of_each_service_after_it(deploy: Deploy) -> None:
    assert not [found for found in deploy().resources.values() if found.type == "alicloud:cms/alarm:Alarm"]
    webhook = "https://hooks.example.com/abc"
    alerts = {"contactGroups": ["oncall"], "errorRate": {"percent": 1}, "webhook": webhook}
    run = deploy({"tf-serving:alerts": alerts, "tf-serving:services.multi_grpc.alerts": False})
    alarms = [found for found in run.resources.values() if found.type == "alicloud:cms/alarm:Alarm"]
    assert {found.name for found in alarms} == {
        f"{service}-error-rate" for service in run.outputs["services"] if service != "multi_grpc"
    }
    alarm = run.resources["multi_http-error-rate"]
    assert alarm.parent == "multi_http"
    assert alarm.inputs == {
        "name": "tf-serving-test-multi_http-error-rate",
        "project": "acs_learn",
        "metric": "rps_status_5xx_ratio",
        "metricDimensions": '[{"serviceName":"multi_http"}]',
        "period": 60,
        "escalationsCritical": {"statistics": "Average", "comparisonOperator": ">", "threshold": "1", "times": 5},
        "contactGroups": ["oncall"],
        "webhook": {"secret": webhook},
    }


def test_a_stack_is_made_of_these_resources(deploy: Deploy) -> None:
    run = deploy()
    assert run.error == ""
    assert sorted((found.type, found.name, found.parent) for found in run.resources.values()) == [
        ("alicloud:oss/bucket:Bucket", "models-bucket", "models"),
        ("pulumi:providers:alicloud", "alicloud", "serving"),
        ("pulumi:providers:tfserving", "tfserving", "serving"),
        ("tfserving:index:BucketContents", "models-contents", "models"),
        ("tfserving:index:EasService", "multi_grpc-service", "multi_grpc"),
        ("tfserving:index:EasService", "multi_http-service", "multi_http"),
        ("tfserving:index:ModelConfigFile", "models-config", "models"),
        ("tfserving:index:ModelRepository", "models", "serving"),
        ("tfserving:index:PublishedModel", "models-modelA", "models"),
        ("tfserving:index:PublishedModel", "models-modelB", "models"),
        ("tfserving:index:PublishedModel", "models-modelC", "models"),
        ("tfserving:index:ServedConfig", "served", "serving"),
        ("tfserving:index:ServingStack", "serving", ""),
        ("tfserving:index:TensorFlowServing", "multi_grpc", "serving"),
        ("tfserving:index:TensorFlowServing", "multi_http", "serving"),
    ]


def test_models_are_published_before_services_start_and_labels_move_last(deploy: Deploy) -> None:
    run = deploy()
    published = {"models-modelA", "models-modelB", "models-modelC"}
    made = {"models-bucket", "models-contents"}
    assert all(run.resources[name].depends_on == made for name in published)
    assert run.resources["models-config"].depends_on == {*made, *published}
    services = {"multi_http-service", "multi_grpc-service"}
    assert all(run.waits_for(name) >= {*published, "models-config"} for name in services)
    assert run.waits_for("served") >= {*published, *services, "models-config"}


def test_a_service_and_a_rollout_list_the_config_file_and_not_every_model(deploy: Deploy) -> None:
    run = deploy()
    for name in ("multi_http-service", "multi_grpc-service", "served"):
        assert "models-config" in run.resources[name].depends_on
        assert not {"models-modelA", "models-modelB", "models-modelC"} & run.resources[name].depends_on


def test_every_resource_has_an_explicit_provider(deploy: Deploy) -> None:
    for resource in deploy({f"{HTTP}.monitoring": True}).resources.values():
        package = resource.type.split(":")[0]
        if package in ("alicloud", "tfserving") and resource.type.rpartition(":")[2] not in COMPONENTS:
            assert f"providers:{package}::{package}::" in resource.provider


def test_components_register_their_outputs(deploy: Deploy) -> None:
    run = deploy()
    components = [name for name, found in run.resources.items() if found.type.rpartition(":")[2] in COMPONENTS]
    assert sorted(run.component_outputs) == sorted(components)
    assert run.component_outputs["multi_http"]["token"] == {"secret": "token of multi_http-service"}


def test_children_are_named_after_their_component(deploy: Deploy) -> None:
    for resource in deploy({f"{HTTP}.batching": {}}).resources.values():
        # What stands below the stack's own component is named as in stacks without one.
        assert resource.parent in ("", "serving") or resource.name.startswith(f"{resource.parent}-")


def test_a_preview_registers_the_same(deploy: Deploy) -> None:
    assert deploy(preview=True).resources.keys() == deploy().resources.keys()


# ---- sets of models


CANARY = {"modelB": {"policy": {"specific": [2]}, "labels": {"stable": 2}}}


def test_every_set_has_a_file_and_a_rollout_of_its_own_that_waits_for_no_other(deploy: Deploy) -> None:
    run = deploy({f"{HTTP}.models": CANARY})
    assert run.error == ""
    resources = run.resources
    files = {name: found.inputs["key"] for name, found in resources.items() if found.type.endswith(":ModelConfigFile")}
    assert files == {
        "models-config": "models/tf_serving/model_config.pbtxt",
        "models-config-multi_http": "models/tf_serving/model_config.multi_http.pbtxt",
    }
    own, rest = resources["served-multi_http"], resources["served"]
    assert set(own.inputs["models"]) == set(own.inputs["published"]) == {"modelB"}
    assert (set(own.inputs["services"]), set(rest.inputs["services"])) == ({"multi_http"}, {"multi_grpc"})
    assert own.inputs["namesVersions"] is rest.inputs["namesVersions"] is True
    assert "served" not in own.depends_on
    assert "served-multi_http" not in rest.depends_on
    assert "multi_grpc-service" not in own.depends_on
    assert resources["retired"].depends_on == {"served", "served-multi_http"}
    assert set(resources["retired"].inputs["published"]) == {"modelA", "modelB", "modelC"}
    script = resources["multi_http-service"].inputs["spec"]["containers"][0]["script"]
    assert "--model_config_file=/models/model_config.multi_http.pbtxt " in script


def test_a_stack_with_one_set_has_neither_a_further_resource_nor_a_further_input(deploy: Deploy) -> None:
    resources = deploy({f"{HTTP}.models": ["modelA", "modelB", "modelC"]}).resources
    assert "retired" not in resources
    assert not {"namesVersions", "otherServices"} & {
        *resources["served"].inputs,
        *resources["multi_http-service"].inputs,
    }
    assert "configFiles" not in resources["models-modelA"].inputs


def test_files_of_versions_go_at_once_only_where_no_config_file_names_the_model(deploy: Deploy) -> None:
    single = {"deployment": "scenario", "model": "modelC"}
    resources = deploy({
        f"{HTTP}.models": ["modelA", "modelB"], "tf-serving:services.multi_grpc.models": ["modelA"],
        "tf-serving:services.single": single,
    }).resources  # fmt: skip
    dropped = {
        name for name in ("modelA", "modelB", "modelC") if resources[f"models-{name}"].inputs.get("removeDropped")
    }
    assert dropped == {"modelC"}
    assert resources["single-served"].depends_on >= {"retired"}


# ---- providers


def test_a_local_stack_sends_every_call_to_its_endpoint(deploy: Deploy) -> None:
    resources = deploy().resources
    ours, theirs = resources["tfserving"].inputs, resources["alicloud"].inputs
    assert (ours["easEndpoint"], ours["ossEndpoint"]) == ("127.0.0.1:17580", "127.0.0.1:17580")
    assert ours["protocol"] == theirs["protocol"] == "HTTP"
    assert theirs["endpoints"].count("127.0.0.1:17580") == 10
    assert "oss" in theirs["endpoints"]


def test_credentials_are_secret_and_the_same_for_both_providers(deploy: Deploy) -> None:
    resources = deploy().resources
    for name in ("tfserving", "alicloud"):
        assert resources[name].inputs["accessKey"] == resources[name].inputs["secretKey"] == {"secret": "sandbox"}


def test_without_keys_both_providers_take_the_credentials_chain(deploy: Deploy) -> None:
    real = {f"alicloud:{key}": ... for key in ("accessKey", "secretKey", "protocol", "skipRegionValidation")}
    resources = deploy({**real, "tf-serving:endpoint": ...}).resources
    assert "accessKey" not in resources["alicloud"].inputs
    assert "endpoints" not in resources["alicloud"].inputs
    ours = resources["tfserving"].inputs
    assert (ours["accessKey"], ours["secretKey"], ours["easEndpoint"], ours["protocol"]) == ("", "", "", "HTTPS")


# ---- bucket and models


def test_the_bucket_is_private_versioned_encrypted_and_tidy(deploy: Deploy) -> None:
    run = deploy()
    assert run.resources["models-bucket"].inputs == {
        "bucket": "tf-serving-local",
        "storageClass": "Standard",
        "redundancyType": "LRS",
        "versioning": {"status": "Enabled"},
        "serverSideEncryptionRule": {"sseAlgorithm": "AES256"},
        "lifecycleRules": [
            {
                "id": "remove-leftovers",
                "prefix": "",
                "enabled": True,
                "abortMultipartUploads": [{"days": 7}],
                "expirations": [{"expiredObjectDeleteMarker": True}],
                "noncurrentVersionExpirations": [{"days": 30}],
            }
        ],
        "forceDestroy": True,
    }
    assert run.warnings == []  # the SDK would warn of the inline ACL


def test_a_bucket_can_be_protected_and_tagged(deploy: Deploy) -> None:
    bucket = deploy({"tf-serving:bucket": {"name": "abc", "protect": True, "tags": {"team": "x"}}}).resources[
        "models-bucket"
    ]
    assert bucket.protect
    assert bucket.inputs["tags"] == {"team": "x"}
    assert bucket.inputs["forceDestroy"] is False


def test_an_existing_bucket_is_only_named(deploy: Deploy) -> None:
    run = deploy({"tf-serving:bucket": {"name": "examplebucket", "existing": True}})
    assert run.of_type("alicloud:oss/bucket:Bucket") == {}
    assert run.resources["models-modelA"].inputs["bucket"] == "examplebucket"
    assert run.resources["models-modelA"].depends_on == set()
    storage = run.resources["multi_http-service"].inputs["spec"]["storage"]
    assert storage[0]["oss"]["path"] == "oss://examplebucket/models/tf_serving/"


def test_a_model_is_published_with_a_digest_of_each_version(deploy: Deploy, project: Path, publish: Publish) -> None:
    before = deploy().resources["models-modelC"].inputs
    assert before["prefix"] == "models/tf_serving/modelC/"
    assert sorted(before["versions"]) == ["1", "2", "3"]
    assert all(digest.startswith("sha256:") for digest in before["versions"].values())
    publish(project / "models" / "modelC", 4, classes=7)
    after = deploy({"tf-serving:modelSource": "models"}).resources["models-modelC"].inputs
    assert {number: after["versions"][number] for number in before["versions"]} == before["versions"]
    assert after["versions"]["4"] not in before["versions"].values()


def test_models_that_are_in_the_bucket_already_are_only_referred_to(deploy: Deploy) -> None:
    models = {"modelB": {"versions": [1, 2], "policy": "all", "labels": {"stable": 2}}}
    run = deploy({"tf-serving:models": models, "tf-serving:modelSource": ...})
    inputs = run.resources["models-modelB"].inputs
    assert (inputs.get("source", ""), inputs["versions"]) == ("", {"1": "any", "2": "any"})
    assert run.resources["served"].inputs["published"] == {"modelB": [1, 2]}
    assert run.told["models"]["modelB"]["signatures"] == []


def test_the_config_file_starts_as_what_is_to_be_served(deploy: Deploy) -> None:
    resources = deploy().resources
    file, served = resources["models-config"].inputs, resources["served"].inputs
    assert file["key"] == served["key"] == "models/tf_serving/model_config.pbtxt"
    assert file["owner"] == served["owner"] == "tf-serving/test"
    assert file["initial"] == served["models"]
    assert served["models"]["modelB"] == {
        "basePath": "/models/modelB",
        "platform": "tensorflow",
        "policy": {"specific": [1, 2]},
        "labels": {"canary": 2, "stable": 1},
    }


def test_without_readers_there_is_no_config_file_and_no_rollout(deploy: Deploy) -> None:
    run = deploy({"tf-serving:models": {"modelA": {}}, "tf-serving:services": {"only_one": SINGLE}})
    assert run.error == ""
    assert run.of_type("tfserving:index:ModelConfigFile") == run.of_type("tfserving:index:ServedConfig") == {}


def test_the_rollout_knows_every_reader(deploy: Deploy) -> None:
    served = (
        deploy({"tf-serving:services.one_more": SINGLE, "tf-serving:rolloutSeconds": 300}).resources["served"].inputs
    )
    assert served["waitSeconds"] == 300
    assert sorted(served["services"]) == ["multi_grpc", "multi_http"]
    assert served["services"]["multi_grpc"] == {
        "url": "",
        "target": "gateway:80",
        "token": {"secret": "token of multi_grpc-service"},
        "reads": True,
        "pollSeconds": 2,
        "reachable": True,
    }


# ---- services


def test_grpc_needs_three_settings_together(deploy: Deploy) -> None:
    spec = deploy().resources["multi_grpc-service"].inputs["spec"]
    assert spec["containers"][0]["port"] == 8500
    assert spec["metadata"]["enable_grpc"] is True
    assert spec["networking"]["path"] == "/"


def test_readiness_asks_for_every_model_by_the_services_own_protocol(deploy: Deploy) -> None:
    run = deploy({"tf-serving:services.only_a": SINGLE})
    probes = {name: found.inputs["probe"] for name, found in run.of_type("tfserving:index:EasService").items()}
    assert probes == {
        "multi_http-service": {"protocol": "http", "models": ["modelA", "modelB", "modelC"]},
        "multi_grpc-service": {"protocol": "grpc", "models": ["modelA", "modelB", "modelC"]},
        "only_a-service": {"protocol": "http", "models": ["fashion"]},
    }


def test_another_server_is_asked_at_its_health_check(deploy: Deploy) -> None:
    triton = {
        "deployment": "custom",
        "image": "registry.example.com/nv/tritonserver:24.05",
        "command": "tritonserver --model-repository=/models",
        "port": 8000,
        "healthCheck": {"startup": {"kind": "http", "path": "/v2/health/ready"}},
    }
    run = deploy({"tf-serving:services.triton": triton})
    service = run.resources["triton-service"].inputs
    assert service["probe"] == {"protocol": "http", "models": [], "path": "/v2/health/ready"}
    assert service["spec"]["containers"][0]["command"] == "tritonserver --model-repository=/models"
    assert run.told["services"]["triton"]["models"] == {}


def test_options_of_a_service_reach_its_resource(deploy: Deploy) -> None:
    changes = {
        f"{HTTP}.adopt": True,
        f"{HTTP}.reachable": False,
        f"{HTTP}.autoscaler": {"min": 1, "max": 3, "metrics": {"qps": 10}},
        f"{HTTP}.timeouts": {"create": "1h", "delete": 60},
    }
    run = deploy(changes)
    service = run.resources["multi_http-service"]
    assert (service.inputs["adopt"], service.inputs["reachable"], service.inputs["autoscaled"]) == (True, False, True)
    assert service.inputs["autoscaler"] == {
        "min": 1,
        "max": 3,
        "scaleStrategies": [{"metricName": "qps", "threshold": 10}],
    }
    assert service.timeouts == {"create": "1h", "delete": "60s"}
    assert service.secret_outputs == ("token",)
    assert run.outputs["unproven"] == ["multi_http"]


def test_batching_and_monitoring_files_are_there_before_the_service(deploy: Deploy) -> None:
    run = deploy({f"{HTTP}.batching": {"max_batch_size": 16}, f"{HTTP}.monitoring": True})
    files = run.of_type("alicloud:oss/bucketObject:BucketObject")
    service = run.resources["multi_http-service"]
    assert sorted(files) == ["multi_http-batching", "multi_http-monitoring"]
    assert service.depends_on >= set(files)
    script = service.inputs["spec"]["containers"][0]["script"]
    for file in files.values():
        folder, _, name = file.inputs["key"].rpartition("/")
        assert folder == "models/tf_serving"
        assert f"=/models/{name}" in script
    assert files["multi_http-batching"].inputs["content"] == "max_batch_size { value: 16 }\n"


# ---- secrets


def test_a_fixed_token_is_secret_wherever_it_goes(deploy: Deploy) -> None:
    run = deploy({f"{HTTP}.token": "hunter2-hunter2"}, secret_keys=["tf-serving:services"])
    assert run.error == ""
    spec = run.resources["multi_http-service"].inputs["spec"]
    assert spec["token"] == {"secret": "hunter2-hunter2"}
    assert "token" not in run.resources["multi_grpc-service"].inputs["spec"]
    everything = repr([found.inputs for found in run.resources.values()])
    assert everything.count("hunter2-hunter2") == 1


def test_environment_values_are_secret_when_the_services_hold_a_secret(deploy: Deploy) -> None:
    changes = {f"{HTTP}.env": {"KEY": "hunter2"}, f"{HTTP}.extraConfig": {"dockerAuth": "aHVudGVyMg=="}}
    spec = deploy(changes, secret_keys=["tf-serving:services"]).resources["multi_http-service"].inputs["spec"]
    assert secrets_in(spec) == ["hunter2", "aHVudGVyMg=="] or secrets_in(spec) == ["aHVudGVyMg==", "hunter2"]
    assert spec["metadata"]["name"] == "multi_http"  # the rest stays readable in a preview
    plain = deploy().resources["multi_http-service"].inputs["spec"]
    assert plain["containers"][0]["env"] == [{"name": "KEY", "value": "hunter2"}]


def test_tokens_are_secret_stack_outputs(deploy: Deploy) -> None:
    for name, found in deploy().told["services"].items():
        assert found["token"] == {"secret": f"token of {name}-service"}


# ---- outputs


def test_a_service_exports_how_to_reach_it_and_what_it_serves(deploy: Deploy) -> None:
    services = deploy({"tf-serving:services.only_a": SINGLE}).told["services"]
    served = {"modelB": {"versions": [1, 2], "labels": {"stable": 1}}}  # the mock's answer, not what was asked for
    token = services["multi_http"].pop("token")
    assert token
    assert services["multi_http"] == {
        "protocol": "http",
        "url": "http://gateway/api/predict/multi_http-service",
        "models": served,
    }
    assert (services["multi_grpc"]["protocol"], services["multi_grpc"]["target"]) == ("grpc", "gateway:80")
    assert "url" not in services["multi_grpc"]
    assert services["only_a"]["models"] == {"fashion": {"versions": [7], "labels": {}}}  # the mock's answer


def test_a_service_of_one_model_is_proven_last_and_other_servers_are_not(deploy: Deploy) -> None:
    changes = {"tf-serving:services.only_a": SINGLE, "tf-serving:services.triton": TRITON}
    run = deploy({**changes, "tf-serving:rolloutSeconds": 300})
    (proof,) = run.of_type("tfserving:index:ServedModel").values()
    assert proof.name == "only_a-served"
    assert run.waits_for("only_a-served") >= {"models-modelA", "only_a-service", "served"}
    assert (proof.inputs["model"], proof.inputs["versions"], proof.inputs["waitSeconds"]) == ("fashion", [1], 300)
    assert proof.inputs["service"]["token"] == {"secret": "token of only_a-service"}
    assert run.told["services"]["triton"]["models"] == {}


def test_models_export_versions_labels_and_signatures(deploy: Deploy) -> None:
    told = deploy().told
    model = told["models"]["modelC"]
    assert (model["policy"], model["versions"], model["labels"]) == ({"latest": 2}, [2, 3], {})
    (same,) = model["signatures"]
    assert same["versions"] == [2, 3]
    assert told["signatures"][same["signatures"]]["serving_default"]["inputs"] == {
        "keras_tensor": {"dtype": "float32", "shape": [None, 28, 28, 1]}
    }


def test_versions_with_other_signatures_are_told_apart(deploy: Deploy, project: Path, publish: Publish) -> None:
    publish(project / "models" / "modelC", 4, classes=20)
    told = deploy({"tf-serving:models.modelC.policy": "all"}).told
    signatures = told["models"]["modelC"]["signatures"]
    assert [found["versions"] for found in signatures] == [[1, 2, 3], [4]]
    by_name = [told["signatures"][found["signatures"]] for found in signatures]
    outputs = [found["serving_default"]["outputs"]["output_0"]["shape"] for found in by_name]
    assert outputs == [[None, 10], [None, 20]]


def test_models_with_the_same_signatures_share_them_in_the_outputs(deploy: Deploy) -> None:
    told = deploy().told
    keys = {found["signatures"] for model in told["models"].values() for found in model["signatures"]}
    assert len(told["models"]) == 3
    assert keys == told["signatures"].keys()
    assert len(keys) == 1


def test_exports_say_what_services_serve_in_a_stack_of_few_models(deploy: Deploy) -> None:
    run = deploy()
    assert run.outputs.keys() == {"services", "models", "signatures", "unproven"}
    assert run.outputs["services"] == run.told["services"]
    assert run.outputs["models"] == run.told["models"]


@pytest.mark.parametrize("told", [False, "false"])
def test_exports_can_be_only_how_services_are_reached(deploy: Deploy, told: object) -> None:
    run = deploy({"tf-serving:exportModels": told})
    assert run.outputs.keys() == {"services", "unproven"}
    assert run.outputs["services"].keys() == {"multi_http", "multi_grpc"}
    for service in run.outputs["services"].values():
        assert service.keys() <= {"protocol", "url", "target", "token", "metrics"}


@pytest.mark.parametrize(("told", "exported"), [(None, False), (True, True), ("true", True)])
def test_a_stack_of_many_models_exports_them_only_where_it_says_so(
    deploy: Deploy, project: Path, publish: Publish, told: object, exported: bool
) -> None:
    many = {}
    for number in range(MOST_EXPORTED):
        publish(project / "models" / f"many{number}", 1)
        many[f"tf-serving:models.many{number}"] = {}
    run = deploy({**many, **({} if told is None else {"tf-serving:exportModels": told})})
    assert len(run.told["models"]) > MOST_EXPORTED
    assert ("models" in run.outputs) is exported
    assert ("models" in run.outputs["services"]["multi_http"]) is exported


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ({"stable": 1, "canary": 3}, "version 3 (canary) has another signature than version 1 (stable)"),
        ({"stable": 3, "canary": 3}, "version 3 (canary, stable) has another signature than version 1,"),
        ({"stable": 3, "canary": 1}, "version 1 (canary) has another signature than version 3 (stable)"),
        ({"stable": 1, "canary": 1}, ""),
    ],
)
def test_a_label_on_another_signature_is_warned_of(
    deploy: Deploy, project: Path, publish: Publish, labels: dict[str, int], words: str
) -> None:
    publish(project / "models" / "modelB", 3, classes=20)
    warnings = deploy({"tf-serving:models.modelB": {"policy": {"specific": [1, 3]}, "labels": labels}}).warnings
    assert len(warnings) == bool(words)
    for warning in warnings:
        assert words in warning
        assert "10] -> float32[?, 20]" in warning or "20] -> float32[?, 10]" in warning


def test_an_old_change_of_signature_is_not_warned_of_for_ever(deploy: Deploy, project: Path, publish: Publish) -> None:
    for number in (4, 5):
        publish(project / "models" / "modelC", number, classes=20)
    assert deploy({"tf-serving:models.modelC": {"policy": "all", "labels": {"stable": 5}}}).warnings == []


def test_a_scenario_deployment_with_labels_is_warned_of(deploy: Deploy) -> None:
    run = deploy({"tf-serving:services.multi_scene": {"deployment": "scenario", "configFile": True}})
    assert any("rests on EAS" in warning for warning in run.warnings)
    assert not any("num_load_threads" in warning for warning in run.warnings)  # nobody can set a flag there


def test_memory_that_cannot_hold_a_version_twice_is_warned_of(deploy: Deploy, project: Path) -> None:
    with (project / "models" / "modelC" / "3" / "variables.bin").open("wb") as file:
        file.truncate(200 * 2**20)
    sized = {"cpu": 1, "memory": 300}
    run = deploy(
        {
            **{f"{HTTP}.{key}": value for key, value in sized.items()},
            "tf-serving:services.only_a": {**SINGLE, **sized},
            "tf-serving:services.only_c": {**SINGLE, "model": "modelC", "cpu": 1, "memory": 400},
        }
    )
    assert run.error == ""
    told = [warning for warning in run.warnings if "each replica has" in warning]
    assert told == [
        "service multi_http: the versions it serves take 400 MB, the largest one twice while a new one takes over, and "
        "each replica has 300 MB of memory"
    ]


# ---- mistakes


@pytest.mark.parametrize("changes", [changes for changes, _, _ in BAD[::10]], ids=[path for _, path, _ in BAD[::10]])
def test_nothing_is_registered_for_a_bad_config(deploy: Deploy, changes: dict[str, Any]) -> None:
    run = deploy(changes)
    assert run.error.startswith(("stack config: ", "stack config has "))
    assert "Traceback" not in run.error
    assert run.status == 32  # the one after which the Pulumi CLI adds nothing of its own
    assert run.resources == {}
    assert run.outputs == {}


def test_files_that_cannot_be_published_are_found_before_the_first_resource(deploy: Deploy, project: Path) -> None:
    version = project / "models" / "modelB" / "2"
    (version / "assets.extra").symlink_to(project)
    run = deploy()
    assert "symbolic link" in run.error
    assert "tf-serving:models.modelB" in run.error
    assert run.resources == {}


INTERRUPTED = """
import os, signal, time
from config import program
from config.stack import MOST_EXPORTED
with program.plain_errors():
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)
"""


def test_an_interrupted_program_says_nothing_to_the_report_of_the_engine_that_interrupts_it() -> None:
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (32, "", "")


DEBUGGING = """
import pulumi
from config import program
from config.stack import MOST_EXPORTED
with program.plain_errors():
    print(pulumi.log.debug.__module__)
"""


@pytest.mark.parametrize(("asked", "whose"), [({}, "config.program"), ({program.SDK_MESSAGES: "1"}, "pulumi.log")])
def test_messages_of_the_sdk_for_debugging_are_sent_only_where_they_are_asked_for(
    asked: dict[str, str], whose: str
) -> None:
    command, env = [sys.executable, "-c", DEBUGGING], {**os.environ, **asked}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == whose


POSITIONS = """
import asyncio, runpy, sys
from pathlib import Path
from pulumi.runtime import resource as registrations
from config import program

before = registrations._get_stack_trace
with program.plain_errors():
    async def run():
        runpy.run_path(sys.argv[1], {"traces": (before, registrations._get_stack_trace), "depth": 3}, "__main__")
    asyncio.run(run())
"""

REGISTERS = """
class Resource:
    def __init__(self):
        self.found = [trace() for trace in traces]
class CustomResource(Resource):
    def __init__(self):
        super().__init__()
class Bucket(CustomResource):
    def __init__(self):
        super().__init__()
def make():
    return Bucket()
sdks, ours = make().found
lines = [(frame.pc.uri.rpartition("/")[2], frame.pc.line) for frame in sdks.frames]
kept = [(frame.pc.uri.rpartition("/")[2], frame.pc.line) for frame in ours.frames]
assert kept == [("registers.py", 12), ("registers.py", 13)], kept
assert lines[:2] == kept and len(lines) > len(kept), lines
print("as the SDK's, without what runs the program")
"""


def test_a_registration_says_where_the_program_makes_it_and_nothing_of_what_runs_the_program(tmp_path: Path) -> None:
    file = tmp_path / "registers.py"
    file.write_text(REGISTERS, encoding="utf-8")
    command = [sys.executable, "-c", POSITIONS, str(file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("as the SDK's, without what runs the program", "")
