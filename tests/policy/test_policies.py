"""The policy pack as the engine runs it: a process of its own, asked about resources over gRPC."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import json_format
from pulumi.runtime.proto import analyzer_pb2, resource_pb2

from sandbox.engine.config import Stack
from sandbox.engine.policies import PolicyPack, PolicyPackError
from tests.e2e.checkout import example_models

pytest.importorskip("pulumi_policy", reason="pulumi-policy is not installed (requirements-nodeps.txt)")

ROOT = Path(__file__).resolve().parents[2]
PACK = ROOT / "policy"
KUBECONFIG = """\
current-context: sandbox
contexts: [{name: sandbox, context: {cluster: sandbox, user: admin}}]
clusters: [{name: sandbox, cluster: {server: "https://127.0.0.1:6443"}}]
"""
SIGNATURE = "4dabf18193072939515e22adb298388d"
SECRET = "1b47061264138c4ac30d75fd1eb44270"
UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"

EAS = "tfserving:index:EasService"
BUCKET = "alicloud:oss/bucket:Bucket"
POOL = "alicloud:cs/nodePool:NodePool"
DEPLOYMENT = "kubernetes:apps/v1:Deployment"

Check = Callable[..., dict[str, str]]


def stack(name: str) -> Stack:
    return Stack(ROOT, {"name": "tf-serving", "runtime": "python"}, name, {}, frozenset(), "")


def secret(value: Any) -> dict[str, Any]:
    return {SIGNATURE: SECRET, "value": value}


def request(type_: str, inputs: dict[str, Any], outputs: tuple[str, ...] = ("token",)) -> Any:
    made = resource_pb2.RegisterResourceRequest(type=type_, name="it", additionalSecretOutputs=outputs)
    made.object.update(inputs)
    return made


def checker(pack: PolicyPack) -> Check:
    def check(type_: str, inputs: dict[str, Any], outputs: tuple[str, ...] = ("token",)) -> dict[str, str]:
        found = pack.check(request(type_, inputs, outputs), f"urn:pulumi:s::p::{type_}::it")
        return {violation.policy: violation.message.partition("\n")[2] for violation in found if violation.is_mandatory}

    return check


@pytest.fixture(scope="module")
def prod() -> Iterator[Check]:
    pack = PolicyPack(PACK, stack("prod"))
    yield checker(pack)
    pack.close()


@pytest.fixture(scope="module")
def dev_pack() -> Iterator[PolicyPack]:
    pack = PolicyPack(PACK, stack("dev"))
    yield pack
    pack.close()


@pytest.fixture
def dev(dev_pack: PolicyPack) -> Check:
    return checker(dev_pack)


def service(**changes: Any) -> dict[str, Any]:
    """A service nobody objects to; ``changes`` by dotted path with ``__`` for the dots, ``...`` removes."""
    inputs: dict[str, Any] = {
        "name": "multi_http",
        "spec": {
            "metadata": {"name": "multi_http", "instance": 2},
            "cloud": {"computing": {"instances": [{"type": "ecs.c7.large"}]}},
            "containers": [
                {
                    "image": "eas-registry-vpc.cn-hangzhou.cr.aliyuncs.com/pai-eas/tensorflow-serving:2.14.1",
                    "port": 8501,
                    "script": "/usr/bin/tf_serving_entrypoint.sh --model_config_file=/models/model_config.pbtxt "
                    "--model_config_file_poll_wait_seconds=30 --allow_version_labels_for_unavailable_models=true",
                }
            ],
            "token": secret("c2VjcmV0dG9rZW4"),
        },
        "probe": {"protocol": "http", "models": ["modelA"]},
    }
    for path, value in changes.items():
        *parents, last = path.split("__")
        at: Any = inputs
        for key in parents:
            at = at[int(key)] if key.isdigit() else at[key]
        if value is ...:
            del at[last]
        else:
            at[last] = value
    return inputs


GOOD_BUCKET = {"bucket": "models", "acl": "private", "serverSideEncryptionRule": {"sseAlgorithm": "AES256"}}


def test_a_good_service_and_a_good_bucket_pass(prod: Check, dev: Check) -> None:
    for check in (prod, dev):
        assert check(EAS, service()) == {}
        assert check(BUCKET, GOOD_BUCKET) == {}
        assert check("alicloud:vpc/network:Network", {"acl": "public-read"}) == {}


@pytest.mark.parametrize(
    ("type_", "change", "text"),
    [
        (BUCKET, {"acl": "public-read"}, "acl is 'public-read'"),
        (BUCKET, {"acl": "public-read-write"}, "set it to private"),
        ("alicloud:oss/bucketAcl:BucketAcl", {"acl": "public-read"}, "acl is 'public-read'"),
        ("alicloud:oss/bucketObject:BucketObject", {"acl": "public-read"}, "acl is 'public-read'"),
        (BUCKET, {"serverSideEncryptionRule": None}, "is not encrypted"),
        (BUCKET, {"serverSideEncryptionRule": {"sseAlgorithm": "None"}}, "one of AES256, KMS, SM4"),
    ],
)
def test_public_or_plain_buckets_are_refused(dev: Check, type_: str, change: dict[str, Any], text: str) -> None:
    inputs = {key: value for key, value in {**GOOD_BUCKET, **change}.items() if value is not None}
    assert text in dev(type_, inputs)["bucket-private-encrypted"]


def test_a_bucket_without_an_acl_is_private_and_kms_is_encryption(dev: Check) -> None:
    assert dev(BUCKET, {"bucket": "models", "serverSideEncryptionRule": {"sseAlgorithm": "KMS"}}) == {}


def test_production_needs_two_replicas_or_an_autoscaler_that_keeps_two(prod: Check, dev: Check) -> None:
    single = service(spec__metadata__instance=1)
    assert prod(EAS, single) == {"prod-two-replicas": "it: replicas is 1; production needs at least 2"}
    assert dev(EAS, single) == {}
    assert prod(EAS, service(spec__metadata__instance=1, autoscaler={"min": 2, "max": 4})) == {}
    low = service(autoscaler={"min": 0, "max": 4})
    assert "the autoscaler's min is 0" in prod(EAS, low)["prod-two-replicas"]
    assert "not set" in prod(EAS, service(spec__metadata__instance=...))["prod-two-replicas"]
    jobs = [{"name": "day", "targetSize": 6}, {"name": "night", "targetSize": 1}]
    by_clock = service(autoscaler={"min": 2, "max": 4}, cronScaler={"scaleJobs": jobs})
    assert "the schedule's smallest size is 1" in prod(EAS, by_clock)["prod-two-replicas"]
    assert prod(EAS, service(spec__metadata__instance=6, cronScaler={"scaleJobs": jobs[:1]})) == {}


def workload(image: str = "tensorflow/serving:2.14.1", args: tuple[str, ...] = (), **spec: Any) -> dict[str, Any]:
    container = {"name": "serving", "image": image, "args": list(args), "ports": [{"containerPort": 8501}]}
    return {"spec": {"template": {"spec": {"containers": [container]}}, **spec}}


def test_production_workloads_on_kubernetes_need_two_replicas_too(prod: Check, dev: Check) -> None:
    assert "spec.replicas is 1" in prod(DEPLOYMENT, workload(replicas=1))["prod-two-replicas"]
    assert prod(DEPLOYMENT, workload(replicas=2)) == {}
    assert prod(DEPLOYMENT, workload()) == {}  # its autoscaler counts
    assert dev(DEPLOYMENT, workload(replicas=1)) == {}
    scaler = "kubernetes:autoscaling/v2:HorizontalPodAutoscaler"
    assert "spec.minReplicas is not set" in prod(scaler, {"spec": {"maxReplicas": 4}})["prod-two-replicas"]
    assert prod(scaler, {"spec": {"minReplicas": 2, "maxReplicas": 4}}) == {}


def test_production_may_use_spot_capacity_beside_other_but_not_alone(prod: Check, dev: Check) -> None:
    spot = {"type": "ecs.c7.large", "spot_price_limit": 0.5}
    path = "spec__cloud__computing__instances"
    assert "every instance type is spot" in prod(EAS, service(**{path: [spot]}))["prod-not-only-spot"]
    assert prod(EAS, service(**{path: [spot, {"type": "ecs.c6.large"}]})) == {}
    assert dev(EAS, service(**{path: [spot]})) == {}
    assert prod(EAS, service(spec__metadata__resource="eas-r-x", **{path: [spot]})) == {}


def test_a_production_node_pool_needs_a_base_that_is_not_spot(prod: Check, dev: Check) -> None:
    pool = {"instanceTypes": ["ecs.c7.large"], "spotStrategy": "SpotWithPriceLimit"}
    assert "is spot capacity only" in prod(POOL, pool)["prod-not-only-spot"]
    assert prod(POOL, {**pool, "onDemandBaseCapacity": "1"}) == {}
    assert prod(POOL, {**pool, "onDemandPercentageAboveBaseCapacity": "50"}) == {}
    assert prod(POOL, {**pool, "spotStrategy": "NoSpot"}) == {}
    assert dev(POOL, pool) == {}


@pytest.mark.parametrize("stack_name", ["prod-eu", "vision-prod"])
def test_other_names_of_production_stacks_count(stack_name: str) -> None:
    pack = PolicyPack(PACK, stack(stack_name))
    try:
        assert "prod-two-replicas" in checker(pack)(EAS, service(spec__metadata__instance=1))
    finally:
        pack.close()


def test_which_stacks_are_production_and_how_large_gpu_pools_get_is_configuration() -> None:
    config = analyzer_pb2.ConfigureAnalyzerRequest()
    config.policyConfig["prod-two-replicas"].enforcementLevel = analyzer_pb2.MANDATORY
    config.policyConfig["prod-two-replicas"].properties.update({"stacks": ["live"]})
    config.policyConfig["gpu-pools-have-a-maximum"].enforcementLevel = analyzer_pb2.MANDATORY
    config.policyConfig["gpu-pools-have-a-maximum"].properties.update({"mostNodes": 2})
    pack = PolicyPack(PACK, stack("live"), config)
    try:
        check = checker(pack)
        assert "prod-two-replicas" in check(EAS, service(spec__metadata__instance=1))
        assert "may have 2 nodes" in check(POOL, gpu_pool(maxSize=3))["gpu-pools-have-a-maximum"]
    finally:
        pack.close()


@pytest.mark.parametrize(
    ("image", "text"),
    [
        ("tensorflow/serving", "has no tag"),
        ("registry:5000/serving", "has no tag"),
        ("tensorflow/serving:latest", "a tag that moves"),
        ("tensorflow/serving:latest-gpu", "a tag that moves"),
        ("tensorflow/serving:nightly", "a tag that moves"),
        ("tensorflow/serving@sha256:short", "has no tag"),
    ],
)
def test_images_that_can_change_under_ones_feet_are_refused(dev: Check, image: str, text: str) -> None:
    assert text in dev(EAS, service(spec__containers__0__image=image))["pinned-images"]
    assert text in dev(DEPLOYMENT, workload(image))["pinned-images"]


@pytest.mark.parametrize(
    "image", ["tensorflow-serving:2.14.1-gpu", "registry:5000/serving:1.2", "serving@sha256:" + "0" * 64]
)
def test_images_with_a_version_or_a_digest_pass(dev: Check, image: str) -> None:
    assert dev(EAS, service(spec__containers__0__image=image)) == {}


@pytest.mark.parametrize(
    "command",
    [
        "tf_serving_entrypoint.sh --allow_version_labels_for_unavailable_models=true",
        "tf_serving_entrypoint.sh --allow_version_labels_for_unavailable_models",
        "tf_serving_entrypoint.sh --allow_version_labels_for_unavailable_models=true "
        "--model_config_file_poll_wait_seconds=0",
        "tf_serving_entrypoint.sh --model_config_file_poll_wait_seconds=30 "
        "--allow_version_labels_for_unavailable_models=true --model_config_file_poll_wait_seconds=0",
    ],
)
def test_the_labels_flag_without_polling_is_refused(dev: Check, command: str) -> None:
    found = dev(EAS, service(spec__containers__0__script=command))
    assert "set configPollSeconds" in found["labels-flag-only-with-polling"]
    assert "labels-flag-only-with-polling" in dev(DEPLOYMENT, workload(args=tuple(command.split()[1:])))


def test_without_the_labels_flag_nobody_asks_for_polling(dev: Check) -> None:
    for command in ("", "tf_serving_entrypoint.sh --allow_version_labels_for_unavailable_models=false", "it's \"odd"):
        assert dev(EAS, service(spec__containers__0__script=command)) == {}


@pytest.mark.parametrize(
    ("place", "value", "path"),
    [
        ("spec__containers__0__script", "serve --header='c2VjcmV0dG9rZW4'", "spec.containers[0].script"),
        ("spec__labels", {"team": "c2VjcmV0dG9rZW4"}, "spec.labels.team"),
        ("spec__labels", {"c2VjcmV0dG9rZW4": "team"}, "a key of spec.labels"),
        ("spec__containers__0__env", [{"name": "X", "value": "c2VjcmV0dG9rZW4"}], "spec.containers[0].env[0].value"),
    ],
)
def test_a_token_in_a_place_that_is_not_encrypted_is_refused_without_being_shown(
    dev: Check, place: str, value: Any, path: str
) -> None:
    found = dev(EAS, service(**{place: value}))["no-plaintext-token"]
    assert path in found
    assert "c2VjcmV0dG9rZW4" not in found


def test_a_secret_in_a_start_command_is_refused_without_being_shown(dev: Check) -> None:
    found = dev(EAS, service(spec__containers__0__script="serve --api_token=hush"))["no-plaintext-token"]
    assert "--api_token" in found
    assert "hush" not in found


def test_a_token_output_in_plain_text_is_refused(dev: Check) -> None:
    assert "additionalSecretOutputs" in dev(EAS, service(), ())["no-plaintext-token"]


def test_plain_tokens_and_secret_variables_are_encrypted_on_the_way(dev_pack: PolicyPack) -> None:
    variables = [{"name": "DB_PASSWORD", "value": "hush"}, {"name": "TF_CPP_MIN_LOG_LEVEL", "value": "1"}]
    asked = request(
        EAS, service(spec__token="plain", spec__dockerAuth="dXNlcjpwdw==", spec__containers__0__env=variables)
    )
    assert dev_pack.check(asked, "urn:pulumi:s::p::t::it") == []
    spec = json_format.MessageToDict(asked.object)["spec"]
    assert spec["token"] == secret("plain")
    assert spec["dockerAuth"] == secret("dXNlcjpwdw==")
    assert spec["containers"][0]["env"] == [
        {"name": "DB_PASSWORD", "value": secret("hush")},
        {"name": "TF_CPP_MIN_LOG_LEVEL", "value": "1"},
    ]


def test_tokens_of_services_that_are_asked_what_they_serve_are_encrypted_too(dev_pack: PolicyPack) -> None:
    services = {"a": {"url": "http://a", "token": "plain"}, "b": {"url": "http://b", "token": secret("hidden")}}
    asked = request("tfserving:index:ServedConfig", {"services": services})
    assert dev_pack.check(asked, "urn:pulumi:s::p::t::it") == []
    found = json_format.MessageToDict(asked.object)["services"]
    assert (found["a"]["token"], found["b"]["token"]) == (secret("plain"), secret("hidden"))


def test_what_is_encrypted_already_is_left_as_it_is(dev_pack: PolicyPack) -> None:
    asked = request(EAS, service())
    before = asked.SerializeToString(deterministic=True)
    assert dev_pack.check(asked, "urn:pulumi:s::p::t::it") == []
    assert asked.SerializeToString(deterministic=True) == before


def gpu_pool(**scaling: Any) -> dict[str, Any]:
    return {"instanceTypes": ["ecs.gn6i-c4g1.xlarge"], "scalingConfig": {"enable": True, **scaling}}


def test_gpu_pools_need_a_maximum_that_is_not_too_high(dev: Check) -> None:
    name = "gpu-pools-have-a-maximum"
    assert "has GPUs and no maximum" in dev(POOL, gpu_pool())[name]
    assert "scalingConfig.maxSize is 17" in dev(POOL, gpu_pool(maxSize=17))[name]
    assert "maxSize is 2000000;" in dev(POOL, gpu_pool(maxSize=2_000_000))[name]
    assert dev(POOL, gpu_pool(maxSize=16)) == {}
    assert "desiredSize" in dev(POOL, {"instanceTypes": ["ecs.gn7-c12g1.3xlarge"]})[name]
    assert dev(POOL, {"instanceTypes": ["ecs.gn7-c12g1.3xlarge"], "desiredSize": "2"}) == {}
    assert dev(POOL, {"instanceTypes": ["ecs.c7.large"], "scalingConfig": {"enable": True}}) == {}


def test_gpu_services_that_scale_need_a_maximum_too(dev: Check) -> None:
    instances = {"spec__cloud__computing__instances": [{"type": "ecs.gn6i-c4g1.xlarge"}]}
    found = dev(EAS, service(autoscaler={"min": 2, "max": 100}, **instances))
    assert "autoscaler.max is 100" in found["gpu-pools-have-a-maximum"]
    assert dev(EAS, service(autoscaler={"min": 2, "max": 8}, **instances)) == {}
    jobs = [{"name": "day", "targetSize": 50}]
    found = dev(EAS, service(cronScaler={"scaleJobs": jobs}, **instances))
    assert "job day of the schedule sets 50" in found["gpu-pools-have-a-maximum"]
    assert dev(EAS, service(autoscaler={"min": 2, "max": 100})) == {}


@pytest.mark.parametrize(
    ("before", "weights", "gated", "told"),
    [
        ({}, {"stable": 90, "canary": 10}, [], ""),
        ({}, {"stable": 60, "canary": 40}, [], "canary goes from 0 % to 40 %"),
        ({}, {"stable": 60, "canary": 40}, ["canary"], ""),
        ({"stable": 90, "canary": 10}, {"stable": 65, "canary": 35}, [], ""),
        ({"stable": 90, "canary": 10}, {"stable": 50, "canary": 50}, [], "canary goes from 10 % to 50 %"),
        ({"stable": 90, "canary": 10}, {"stable": 50, "canary": 50}, ["stable", "canary"], ""),
        ({"stable": 50, "canary": 50}, {"stable": 100}, [], ""),
        ({"stable": 100}, {"stable": 0, "canary": 100}, [], "canary goes from 0 % to 100 %"),
        (None, {"stable": 0, "canary": 100}, [], ""),
    ],
)
def test_in_production_no_member_without_a_gate_gets_many_requests_more_at_once(
    prod: Check, dev: Check, before: dict[str, int] | None, weights: dict[str, int], gated: list[str], told: str
) -> None:
    split = {"group": "vision", "weights": weights, "gated": gated} | ({} if before is None else {"before": before})
    found = prod("tfserving:index:TrafficSplit", split)
    assert told in found.get("prod-no-untried-traffic", "")
    assert bool(found) is bool(told)
    assert dev("tfserving:index:TrafficSplit", split) == {}


def test_a_value_that_is_not_known_at_preview_is_no_violation(prod: Check) -> None:
    assert prod(EAS, service(spec__token=UNKNOWN, spec__metadata__instance=UNKNOWN)) == {}


def test_every_policy_is_documented() -> None:
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location("rules", PACK / "rules.py")
    assert spec is not None
    assert spec.loader is not None
    rules = module_from_spec(spec)
    spec.loader.exec_module(rules)
    text = (ROOT / "docs" / "policy.md").read_text(encoding="utf-8")
    assert [policy.name for policy in rules.POLICIES if f"`{policy.name}`" not in text] == []


def test_a_pack_that_does_not_start_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "__main__.py").write_text("raise SystemExit('no')", encoding="utf-8")
    with pytest.raises(PolicyPackError, match="does not start"):
        PolicyPack(tmp_path, stack("dev"))


def test_a_rule_that_fails_is_a_violation(tmp_path: Path) -> None:
    (tmp_path / "__main__.py").write_text(
        "from pulumi_policy import *\n"
        "def broken(args, report): raise ValueError('inner')\n"
        "PolicyPack('p', [ResourceValidationPolicy('b', 'b', broken)], EnforcementLevel.MANDATORY)\n",
        encoding="utf-8",
    )
    pack = PolicyPack(tmp_path, stack("dev"))
    try:
        (violation,) = pack.check(request(EAS, service()), "urn:pulumi:s::p::t::it")
        assert violation.is_mandatory
        assert "inner" in violation.message
    finally:
        pack.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "kind"), [("prod", EAS), ("dev", EAS), ("local", EAS), ("ack-local", "kubernetes:apps/v1:Deployment")]
)
def test_the_projects_own_stacks_keep_to_the_policies(
    name: str, kind: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """By the resources that the program registers for them."""
    from tests.components.mock_engine import run_program

    config = yaml.safe_load((ROOT / "stacks" / f"Pulumi.{name}.yaml").read_text(encoding="utf-8"))["config"]
    if config.get("tf-serving:modelSource"):
        config["tf-serving:modelSource"] = str(example_models(tmp_path_factory))
    if "tf-serving:kubernetes" in config:
        (tmp_path / "kubeconfig").write_text(KUBECONFIG, encoding="utf-8")
        config["tf-serving:kubernetes"]["kubeconfig"] = str(tmp_path / "kubeconfig")
    run = run_program(config)
    assert run.error == ""
    pack = PolicyPack(PACK, stack(name))
    try:
        check = checker(pack)
        assert run.of_type(kind)
        for each in run.resources.values():
            if each.inputs:
                assert check(each.type, _wire(dict(each.inputs)), each.secret_outputs) == {}, each.name
    finally:
        pack.close()


def _wire(value: Any) -> Any:
    """Inputs as the mock engine shows them, as they go over the wire."""
    if isinstance(value, dict):
        if set(value) == {"secret"}:
            return secret(_wire(value["secret"]))
        return {key: _wire(item) for key, item in value.items()}
    return [_wire(item) for item in value] if isinstance(value, list) else value
