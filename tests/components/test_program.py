"""The program as a whole, run against a mock of Pulumi's engine."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mock_engine import ROOT, Run, run_program

from tests.components.test_bad_config import BAD

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


def secrets_in(value: Any) -> list[Any]:
    """Every value marked as secret."""
    if isinstance(value, dict):
        if set(value) == {"secret"}:
            return [value["secret"]]
        return [found for item in value.values() for found in secrets_in(item)]
    return [found for item in value for found in secrets_in(item)] if isinstance(value, list) else []


# ---- what is registered


def test_a_stack_is_made_of_these_resources(deploy: Deploy) -> None:
    run = deploy()
    assert run.error == ""
    assert sorted((found.type, found.name, found.parent) for found in run.resources.values()) == [
        ("alicloud:oss/bucket:Bucket", "models-bucket", "models"),
        ("pulumi:providers:alicloud", "alicloud", ""),
        ("pulumi:providers:tfserving", "tfserving", ""),
        ("tf-serving:components:ModelRepository", "models", ""),
        ("tf-serving:components:TensorFlowServing", "multi_grpc", ""),
        ("tf-serving:components:TensorFlowServing", "multi_http", ""),
        ("tfserving:index:BucketContents", "models-contents", "models"),
        ("tfserving:index:EasService", "multi_grpc-service", "multi_grpc"),
        ("tfserving:index:EasService", "multi_http-service", "multi_http"),
        ("tfserving:index:ModelConfigFile", "models-config", "models"),
        ("tfserving:index:PublishedModel", "models-modelA", "models"),
        ("tfserving:index:PublishedModel", "models-modelB", "models"),
        ("tfserving:index:PublishedModel", "models-modelC", "models"),
        ("tfserving:index:ServedConfig", "served", ""),
    ]


def test_models_are_published_before_services_start_and_labels_move_last(deploy: Deploy) -> None:
    resources = deploy().resources
    published = {"models-modelA", "models-modelB", "models-modelC"}
    assert all(
        resources[name].depends_on == {"models-bucket", "models-contents"} for name in (*published, "models-config")
    )
    services = {"multi_http-service", "multi_grpc-service"}
    assert all(resources[name].depends_on >= {*published, "models-config"} for name in services)
    assert resources["served"].depends_on >= {*published, *services, "models-config"}


def test_every_resource_has_an_explicit_provider(deploy: Deploy) -> None:
    for resource in deploy({f"{HTTP}.monitoring": True}).resources.values():
        package = resource.type.split(":")[0]
        if package in ("alicloud", "tfserving"):
            assert f"providers:{package}::{package}::" in resource.provider


def test_components_register_their_outputs(deploy: Deploy) -> None:
    run = deploy()
    components = [name for name, found in run.resources.items() if found.type.startswith("tf-serving:components:")]
    assert sorted(run.component_outputs) == sorted(components)
    assert run.component_outputs["multi_http"]["token"] == {"secret": "token of multi_http-service"}


def test_children_are_named_after_their_component(deploy: Deploy) -> None:
    for resource in deploy({f"{HTTP}.batching": {}}).resources.values():
        assert not resource.parent or resource.name.startswith(f"{resource.parent}-")


def test_a_preview_registers_the_same(deploy: Deploy) -> None:
    assert deploy(preview=True).resources.keys() == deploy().resources.keys()


# ---- providers


def test_a_local_stack_sends_every_call_to_its_endpoint(deploy: Deploy) -> None:
    resources = deploy().resources
    ours, theirs = resources["tfserving"].inputs, resources["alicloud"].inputs
    assert (ours["easEndpoint"], ours["ossEndpoint"]) == ("127.0.0.1:17580", "127.0.0.1:17580")
    assert ours["protocol"] == theirs["protocol"] == "HTTP"
    assert theirs["endpoints"].count("127.0.0.1:17580") == 9
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
    assert (inputs["source"], inputs["versions"]) == ("", {"1": "any", "2": "any"})
    assert run.resources["served"].inputs["published"] == {"modelB": [1, 2]}
    assert run.outputs["models"]["modelB"]["signatures"] == []


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
    assert run.outputs["services"]["triton"]["models"] == {}


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
    for name, found in deploy().outputs["services"].items():
        assert found["token"] == {"secret": f"token of {name}-service"}


# ---- outputs


def test_a_service_exports_how_to_reach_it_and_what_it_serves(deploy: Deploy) -> None:
    services = deploy({"tf-serving:services.only_a": SINGLE}).outputs["services"]
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
    assert proof.depends_on >= {"models-modelA", "only_a-service", "served"}
    assert (proof.inputs["model"], proof.inputs["versions"], proof.inputs["waitSeconds"]) == ("fashion", [1], 300)
    assert proof.inputs["service"]["token"] == {"secret": "token of only_a-service"}
    assert run.outputs["services"]["triton"]["models"] == {}


def test_models_export_versions_labels_and_signatures(deploy: Deploy) -> None:
    model = deploy().outputs["models"]["modelC"]
    assert (model["policy"], model["versions"], model["labels"]) == ({"latest": 2}, [2, 3], {})
    (same,) = model["signatures"]
    assert same["versions"] == [2, 3]
    assert same["byName"]["serving_default"]["inputs"] == {
        "keras_tensor": {"dtype": "float32", "shape": [None, 28, 28, 1]}
    }


def test_versions_with_other_signatures_are_told_apart(deploy: Deploy, project: Path, publish: Publish) -> None:
    publish(project / "models" / "modelC", 4, classes=20)
    signatures = deploy({"tf-serving:models.modelC.policy": "all"}).outputs["models"]["modelC"]["signatures"]
    assert [found["versions"] for found in signatures] == [[1, 2, 3], [4]]
    outputs = [found["byName"]["serving_default"]["outputs"]["output_0"]["shape"] for found in signatures]
    assert outputs == [[None, 10], [None, 20]]


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
from components import interrupts
interrupts.end_quietly()
os.kill(os.getpid(), signal.SIGINT)
time.sleep(60)
"""


def test_an_interrupted_program_says_nothing_to_the_report_of_the_engine_that_interrupts_it() -> None:
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (32, "", "")
