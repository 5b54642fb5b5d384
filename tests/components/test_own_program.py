"""Components in a program of somebody's own, with a network, a bucket and a cluster as outputs of other resources."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pulumi
import pytest
from pulumi_alicloud import oss

from components.ack_cluster import AckCluster
from components.component import Component
from components.eas_service import TensorFlowServing
from components.gpu_node_pool import GpuNodePool
from components.kubernetes_serving import KubernetesServing
from components.model_repository import ModelRepository
from components.serving_stack import ServingStack
from components.traffic import TrafficGroup
from tests.components.mock_engine import Run, run
from tests.components.test_kubernetes_program import KUBECONFIG
from tfserving.late_values import is_stand_in

REGION = {"alicloud:region": "cn-hangzhou"}
MODELS: dict[str, Any] = {
    "modelB": {"policy": {"specific": [1, 2]}, "labels": {"stable": 1, "canary": 2}, "versions": [1, 2]},
    "modelC": {"policy": {"latest": 2}, "versions": [7, 8, 9]},
}


def later(value: Any) -> pulumi.Output[Any]:
    """An output of another resource."""
    return pulumi.Output.from_input(value).apply(lambda known: known)


def repository(**more: Any) -> ModelRepository:
    return ModelRepository("models", **{"bucket": later("examplebucket"), "models": MODELS, **more})


def vision(models: ModelRepository, **more: Any) -> TensorFlowServing:
    given = {"config_poll_seconds": 30, "repository": models, **more}
    return TensorFlowServing("vision", given)


def played(program: Callable[[], object], config: dict[str, Any] | None = None, **more: Any) -> Run:
    found = run(program, REGION if config is None else config, **more)
    assert found.error == ""
    return found


def refused(program: Callable[[], object], config: dict[str, Any] | None = None, **more: Any) -> str:
    found = run(program, REGION if config is None else config, **more)
    assert found.error
    assert "Traceback" not in found.error
    return found.error


# ---- a service of its own


def test_a_service_brings_its_config_file_and_its_rollout() -> None:
    found = played(lambda: vision(repository()))
    assert sorted((each.type.rpartition(":")[2], each.name, each.parent) for each in found.resources.values()) == [
        ("EasService", "vision-service", "vision"),
        ("ModelConfigFile", "vision-config", "vision"),
        ("ModelRepository", "models", ""),
        ("PublishedModel", "models-modelB", "models"),
        ("PublishedModel", "models-modelC", "models"),
        ("ServedConfig", "vision-served", "vision"),
        ("TensorFlowServing", "vision", ""),
    ]
    served = found.resources["vision-served"]
    assert served.inputs["key"] == "models/tf_serving/model_config.vision.pbtxt"
    assert served.depends_on >= {"models-modelB", "models-modelC", "vision-config", "vision-service"}
    assert found.resources["vision-service"].depends_on >= {"models-modelB", "vision-config"}


def test_versions_are_spelt_out_so_that_new_files_change_nothing_before_the_rollout() -> None:
    found = played(lambda: vision(repository()))
    models = found.resources["vision-served"].inputs["models"]
    assert models["modelC"]["policy"] == {"specific": [8, 9]}
    assert models["modelB"]["labels"] == {"stable": 1, "canary": 2}
    assert not found.resources["models-modelB"].inputs.get("removeDropped")


def test_labels_need_no_flag_to_be_named() -> None:
    found = played(lambda: vision(repository()))
    script = found.resources["vision-service"].inputs["spec"]["containers"][0]["script"]
    assert "--allow_version_labels_for_unavailable_models" in script
    assert "--model_config_file=/models/model_config.vision.pbtxt" in script


def test_two_services_of_one_repository_do_not_share_a_file() -> None:
    def program() -> None:
        models = repository()
        for name in ("one", "two"):
            TensorFlowServing(name, repository=models, config_poll_seconds=5)

    found = played(program)
    assert {found.resources[f"{name}-served"].inputs["key"].rpartition("/")[2] for name in ("one", "two")} == {
        "model_config.one.pbtxt",
        "model_config.two.pbtxt",
    }


def test_a_service_of_one_model_is_proven() -> None:
    def program() -> None:
        TensorFlowServing("single", repository=repository(), model="modelC")

    found = played(program)
    assert found.resources["single-served"].type == "tfserving:index:ServedModel"
    assert found.resources["single-served"].inputs["versions"] == [9]
    assert "single-config" not in found.resources


def test_outputs_of_other_resources_reach_the_service_json() -> None:
    def program() -> None:
        vpc = {"vpc_id": later("vpc-1"), "vswitch_ids": [later("vsw-1"), "vsw-2"], "security_group_id": later("sg-1")}
        vision(
            repository(),
            vpc=vpc,
            gateway=later("gw-1"),
            image=later("registry.example.com/tensorflow-serving:2.14.1"),
            env={"KEY": later("value")},
            token=pulumi.Output.secret("token"),
        )

    spec = played(program).resources["vision-service"].inputs["spec"]
    assert spec["cloud"]["networking"] == {"vpc_id": "vpc-1", "vswitch_id": "vsw-1,vsw-2", "security_group_id": "sg-1"}
    assert spec["networking"]["gateway"] == "gw-1"
    assert spec["containers"][0]["image"] == "registry.example.com/tensorflow-serving:2.14.1"
    assert {"name": "KEY", "value": "value"} in spec["containers"][0]["env"]
    assert spec["token"] == {"secret": "token"}
    assert spec["storage"][0]["oss"]["path"] == "oss://examplebucket/models/tf_serving/"


def test_a_whole_network_may_be_one_output() -> None:
    network = {"vpc_id": "vpc-1", "vswitchIds": ["vsw-1", "vsw-2"], "security_group_id": "sg-1"}
    found = played(lambda: vision(repository(), vpc=later(network)))
    assert found.resources["vision-service"].inputs["spec"]["cloud"]["networking"]["vswitch_id"] == "vsw-1,vsw-2"


def test_a_bucket_that_the_program_makes_is_waited_for() -> None:
    def program() -> None:
        bucket = oss.Bucket("own", bucket="examplebucket")
        vision(repository(bucket=bucket.bucket))

    found = played(program)
    assert "own" in found.resources["models-modelB"].depends_on
    assert "own" in found.resources["vision-service"].depends_on
    assert not found.resources["models-modelB"].inputs.get("bucketExists")


def test_a_bucket_given_by_name_has_to_be_there_and_a_mapping_makes_one() -> None:
    named = played(lambda: repository(bucket="examplebucket"))
    assert named.resources["models-modelB"].inputs["bucketExists"] is True
    assert "models-bucket" not in named.resources
    made = played(lambda: repository(bucket={"name": "examplebucket", "tags": later({"team": "vision"})}))
    assert made.resources["models-bucket"].inputs["tags"] == {"team": "vision"}
    assert made.resources["models-contents"].inputs["bucket"] == "examplebucket"


def test_what_is_unknown_in_a_preview_stays_unknown() -> None:
    def program() -> None:
        unknown = pulumi.Output.from_input(pulumi.output.UNKNOWN)
        vision(repository(bucket=unknown), vpc={"vpc_id": unknown, "vswitch_ids": unknown, "security_group_id": "sg-1"})

    found = played(program, preview=True)
    networking = found.resources["vision-service"].inputs["spec"]["cloud"]["networking"]
    assert networking["security_group_id"] == "sg-1"
    assert not is_stand_in(str({name: each.inputs for name, each in found.resources.items()}))


# ---- what is refused


def test_all_problems_of_a_component_are_told_together_in_python_names() -> None:
    error = refused(
        lambda: vision(repository(), config_poll_seconds="soon", vpc={"vpc_id": "x"}, rolling_strategy={"max_surg": 1})
    )
    assert error.startswith("TensorFlowServing vision: ")
    for path in ("config_poll_seconds:", "vpc.security_group_id:", "rolling_strategy."):
        assert f"  - {path}" in error


def test_an_output_where_a_plain_value_is_needed_says_so() -> None:
    error = refused(lambda: vision(repository(), replicas=later(2)))
    assert "  - replicas: an output of another resource stands here" in error
    error = refused(lambda: repository(models={"m": {"versions": [1], "labels": {"stable": later(1)}}}))
    assert "  - models.m.labels.stable: an output" in error
    assert error.count("  - ") == 1


STRANGE: dict[str, tuple[Callable[[], object], tuple[str, ...]]] = {
    "a list": (lambda: ModelRepository("m", ["x"]), ("args: this list is not a mapping", "Fix: name each argument")),
    "a text": (lambda: ModelRepository("m", "text"), ("args: 'text' is not a mapping",)),
    "options": (
        lambda: TensorFlowServing("s", pulumi.ResourceOptions()),
        ("args: the second argument is the component's own", "Fix: pass it as opts="),
    ),
    "opts": (
        lambda: ModelRepository("m", bucket="examplebucket", models=MODELS, opts={"protect": True}),
        ("opts: this dict is not a ResourceOptions", "Fix: pass pulumi.ResourceOptions(protect=True)"),
    ),
    "no name": (lambda: AckCluster("", 1), ("AckCluster: 2 problems", "name: '' is not a name", "args: 1 is not")),
    "stack": (lambda: ServingStack("s", ["x"], opts=[]), ("args: this list", "opts: this list")),
    "pool": (lambda: GpuNodePool("p", 1), ("args: 1 is not a mapping",)),
    "pods": (lambda: KubernetesServing("s", [1]), ("args: this list",)),
    "group": (lambda: TrafficGroup("s", [1]), ("args: this list",)),
    "twice": (
        lambda: ModelRepository("m", {"bucket": "a"}, bucket="b"),
        ("bucket: it is in the mapping of arguments, and a keyword argument as well",),
    ),
    "misspelt": (
        lambda: ModelRepository("m", bukket="examplebucket", bucket="examplebucket", models=MODELS),
        ("bukket: unknown key 'bukket'", "Allowed: root, region, bucket, ", "Fix: did you mean 'bucket'"),
    ),
    "of others": (
        lambda: repository(services={}, model_root="x", rollout_seconds=1),
        ("services: unknown key", "model_root: unknown key 'model_root'", "rollout_seconds: unknown key"),
    ),
    "a bucket besides": (lambda: vision(repository(), bucket="abc"), ("bucket: unknown key 'bucket'",)),
    "a declaration besides": (lambda: vision(repository(), declaration="{}"), ("declaration: unknown key",)),
    "instead of a repository": (
        lambda: TensorFlowServing("vision", bucket="abc", declaration="{}"),
        ("bucket: unknown key", "declaration: unknown key", "repository: "),
    ),
    "pods with a bucket": (lambda: pods(repository(), bucket="abc"), ("bucket: unknown key 'bucket'",)),
    "pods in a pool that is none": (lambda: pods(repository(), pool="gpus"), ("pool: this is not a pool of nodes",)),
    "pods in an empty pool": (lambda: pods(repository(), pool={}), ("pool: this is not a pool of nodes",)),
    "a group with a blank": (lambda: vision(repository(), group="A b"), ("group: 'A b' is not a name of a group",)),
    "a group in capitals": (lambda: vision(repository(), group="Group"), ("group: 'Group' is not a name",)),
    "a name that is a list": (
        lambda: vision(repository(), service_name=["x"], replicas="many"),
        ("service_name: ['x'] is not a text", "replicas: "),
    ),
    "a name that is a mapping": (lambda: pods(repository(), service_name={}), ("service_name: {} is not a text",)),
    "shares that are none": (
        lambda: TrafficGroup("all", services=[vision(repository(), group="all")], weights=1),
        ("weights: 1 is not a mapping",),
    ),
    "a cloud that is none": (lambda: ServingStack("s", alicloud=["x"]), ("alicloud: ['x'] is not a mapping",)),
    "a region that is none": (lambda: repository(region=["x"]), ("region: ['x'] is not a text",)),
    "a group by number": (lambda: vision(repository(), group=1), ("group: '1' is not a name of a group",)),
    "a group of nothing": (lambda: vision(repository(), group=""), ("group: '' is not a name of a group",)),
    "a group among others": (
        lambda: vision(repository(), group=["x"], config_poll_seconds="soon"),
        ("group: ['x'] is not a text", "config_poll_seconds: "),
    ),
    "no list": (
        lambda: TrafficGroup("vision", services=vision(repository(), group="vision"), weights={"vision": 100}),
        ("services: this TensorFlowServing is not a list", "Fix: write services=[...]"),
    ),
    "a mapping of services": (
        lambda: TrafficGroup("vision", services={"a": 1}, weights={"vision": 100}),
        ("services: this dict is not a list",),
    ),
    "no services": (lambda: TrafficGroup("vision", services=[], weights={"vision": 100}), ("a group has no members",)),
    "an empty bucket": (lambda: repository(bucket={}), ("bucket.name: no bucket is named",)),
    "a bucket of no name": (lambda: repository(bucket={"name": None}), ("bucket.name: no bucket is named",)),
    "no key": (lambda: repository(models={None: {}}), ("models.None: None is not a key",)),
    "no label": (
        lambda: repository(models={"m": {"versions": [1], "labels": {None: 1}}}),
        ("models.m.labels.None: None is not a key",),
    ),
    "nothing from": (
        lambda: repository(models={"m": {"versions": {"keep": 2}}}),
        ("models.m.versions.from: nothing is written here",),
    ),
    "no golden": (
        lambda: repository(models={"m": {"versions": [1], "gate": {"latency": {"requests": 3}}}}),
        ("models.m.gate.latency: it names no limit. Allowed: p99_ms, p99_ratio or both",),
    ),
}


@pytest.mark.parametrize("case", STRANGE)
def test_what_no_argument_can_be_is_refused_in_a_programs_words(case: str) -> None:
    program, told = STRANGE[case]
    error = refused(program)
    assert not [each for each in told if each not in error], error
    assert "tf-serving:" not in error


def test_arguments_of_a_bad_name_are_told_with_those_of_the_plan_and_each_once() -> None:
    error = refused(lambda: vision(repository(), bukket="abc", bucket="abc", replicas="many", health_check={"x": 1}))
    for path in ("bukket", "bucket", "replicas", "health_check.x"):
        assert error.count(f"  - {path}: ") == 1, error


def test_a_health_check_is_called_as_in_docs_and_schema() -> None:
    check = {"readiness": {"kind": "http", "port": 8501, "path": "/v1/models/modelB"}}
    found = [
        played(lambda key=key: vision(repository(), **{key: check})).resources["vision-service"].inputs["spec"]
        for key in ("health_check", "healthCheck", "health_checks")
    ]
    assert found[0] == found[1] == found[2]
    assert "readiness" in str(found[0])


def test_nothing_is_registered_of_a_component_that_is_refused() -> None:
    found = run(lambda: repository(models={"bad name": {}}), REGION)
    assert found.error
    assert found.resources == {}


@pytest.mark.parametrize(
    ("more", "path"),
    [
        ({"vpc": {"vpc_id": later, "vswitch_ids": ["vsw-1"], "security_group_id": "sg-1"}}, "vpc.vpc_id"),
        ({"image": later}, "image"),
        (
            {"gateway": later, "vpc": {"vpc_id": "vpc-1", "vswitch_ids": ["vsw-1"], "security_group_id": "sg-1"}},
            "gateway",
        ),
    ],
)
def test_what_an_output_holds_is_checked_once_it_is_known(more: dict[str, Any], path: str) -> None:
    def program() -> None:
        given = {key: wrong(value) for key, value in more.items()}
        vision(repository(), **given)

    def wrong(value: Any) -> Any:
        if value is later:
            return later("not one of these")
        return {key: wrong(item) for key, item in value.items()} if isinstance(value, dict) else value

    assert f"  - {path}" in refused(program)


def test_a_bucket_name_that_is_none_is_refused_once_it_is_known() -> None:
    assert "  - bucket: " in refused(lambda: repository(bucket=later("Not_A_Bucket")))


def test_the_repository_has_to_be_one() -> None:
    assert "  - repository: " in refused(lambda: TensorFlowServing("vision", config_poll_seconds=5))
    assert "  - repository: " in refused(lambda: TensorFlowServing("vision", repository="models"))


def test_the_region_is_asked_for_where_nothing_says_it() -> None:
    error = refused(lambda: vision(repository()), config={"project:other": "x"})
    assert "  - region: " in error
    assert played(lambda: vision(repository(region="cn-hangzhou")), config={"project:other": "x"})


def test_a_name_that_is_no_service_name_is_refused_with_what_to_write() -> None:
    error = refused(lambda: TensorFlowServing("my-vision", repository=repository(), config_poll_seconds=5))
    assert "my_vision" in error
    assert played(
        lambda: TensorFlowServing("my-vision", repository=repository(), config_poll_seconds=5, service_name="my_vision")
    )


# ---- on Kubernetes


def pods(models: ModelRepository, **more: Any) -> KubernetesServing:
    given = {
        "repository": models,
        "kubeconfig": later(KUBECONFIG.format(server="https://127.0.0.1:6443")),
        "volume": {"role_name": "reader"},
        **more,
    }
    return KubernetesServing("vision", given)


def test_pods_bring_their_config_map_and_their_rollout() -> None:
    found = played(lambda: pods(repository(), env={"KEY": later("value")}))
    file = found.resources["vision-model-config"].inputs
    assert file["configMap"] == "default/vision-model-config"
    assert found.resources["vision-served"].inputs["configMap"] == "default/vision-model-config"
    assert found.resources["vision-served"].depends_on >= {"models-modelB", "vision-deployment"}
    [provider] = found.of_type("pulumi:providers:kubernetes").values()
    assert provider.parent == "vision"
    container = found.resources["vision-deployment"].inputs["spec"]["template"]["spec"]["containers"][0]
    assert {"name": "KEY", "value": "value"} in container["env"]
    assert not is_stand_in(str({name: each.inputs for name, each in found.resources.items()}))


def test_pods_run_on_the_nodes_of_a_pool_of_the_same_program() -> None:
    def program() -> None:
        cluster = AckCluster("ack", zones={"cn-hangzhou-i": "10.0.0.0/24"})
        pool = GpuNodePool(
            "t4",
            cluster_id=cluster.cluster_id.apply(lambda _: "c0123456789"),
            vswitch_ids=pulumi.Output.all(*cluster.vswitch_ids).apply(lambda _: ["vsw-1"]),
            instance_types=["ecs.gn6i-c4g1.xlarge"],
            scaling={"min": 0, "max": 2},
            taints=[{"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}],
        )
        pods(repository(), pool=pool, gpu=1)

    found = played(program)
    spec = found.resources["vision-deployment"].inputs["spec"]["template"]["spec"]
    assert spec["nodeSelector"]["tf-serving/node-pool"] == "t4"
    assert any(each["key"] == "nvidia.com/gpu" for each in spec["tolerations"])
    assert found.resources["t4-pool"].inputs["vswitchIds"] == ["vsw-1"]
    assert "t4-pool" in found.resources["vision-deployment"].depends_on


# ---- gates


def test_a_gate_of_the_repository_is_tried_by_its_services() -> None:
    gated = {"modelB": {**MODELS["modelB"], "gate": {}}}
    found = played(lambda: vision(repository(models=gated)))
    assert "modelB" in found.resources["vision-served"].inputs["gates"]
    error = refused(lambda: vision(repository(models=gated), reachable=False))
    assert "gate" in error


# ---- requests by weight


def two(group: str = "both", **weights: int) -> TrafficGroup:
    models = repository()
    services = [TensorFlowServing(name, repository=models, config_poll_seconds=5, group=group) for name in weights]
    return TrafficGroup("both", services=services, weights=weights)


def test_services_share_requests_once_they_serve() -> None:
    found = played(lambda: two(stable=90, canary=10))
    split = found.resources["both-split"]
    assert split.inputs["weights"] == {"stable": 90, "canary": 10}
    assert split.depends_on >= {"stable-service", "stable-served", "canary-service", "canary-served"}
    assert found.resources["stable-service"].inputs["spec"]["metadata"]["group"] == "both"


def test_a_group_of_other_services_or_shares_is_refused() -> None:
    assert "  - services[0]: stable is made in group other" in refused(lambda: two("other", stable=100))
    assert "  - weights: the shares add up to 50 percent" in refused(lambda: two(stable=50))
    assert "  - services: a group has no members" in refused(lambda: TrafficGroup("both", weights={}))
    assert "  - weights.stabel: there is no service" in refused(
        lambda: TrafficGroup("both", services=[vision(repository(), group="both")], weights={"stabel": 100})
    )


# ---- all of a stack


def test_a_whole_stack_takes_outputs_too() -> None:
    def program() -> None:
        ServingStack(
            "serving",
            alicloud={"region": "cn-hangzhou"},
            bucket={"name": later("examplebucket"), "existing": True},
            models=MODELS,
            services={
                "multi": {
                    "deployment": "custom",
                    "config_file": True,
                    "config_poll_seconds": 10,
                    "allow_labels_for_unavailable_versions": True,
                    "env": {"KEY": later("value")},
                }
            },
        )

    found = played(program, config={"project:other": "x"})
    assert found.resources["models-modelB"].inputs["bucket"] == "examplebucket"
    assert found.resources["served"].inputs["bucket"] == "examplebucket"
    assert {"name": "KEY", "value": "value"} in found.resources["multi-service"].inputs["spec"]["containers"][0]["env"]


def test_a_stack_is_refused_with_the_paths_of_its_arguments() -> None:
    error = refused(
        lambda: ServingStack(
            "serving", bucket="b", models={"m": {"versions": [1]}}, services={"multi": {"config_file": True}}
        ),
        config={"project:other": "x"},
    )
    for path in ("alicloud.region:", "bucket:", "services.multi.deployment:"):
        assert f"  - {path}" in error


# ---- what Pulumi users expect of every component

EVERY: dict[type[Component], Callable[[pulumi.ResourceOptions], object]] = {
    ModelRepository: lambda opts: ModelRepository("it", {"bucket": {"name": "examplebucket"}, "models": MODELS}, opts),
    TensorFlowServing: lambda opts: TensorFlowServing(
        "it", {"service_name": "vision", "repository": repository(), "config_poll_seconds": 5, "token": "secret"}, opts
    ),
    KubernetesServing: lambda opts: KubernetesServing(
        "it", {"repository": repository(), "volume": {"role_name": "reader"}}, opts
    ),
    GpuNodePool: lambda opts: GpuNodePool(
        "it",
        {
            "cluster_id": "c0123456789",
            "vswitch_ids": ["vsw-1"],
            "instance_types": ["ecs.gn6i-c4g1.xlarge"],
            "desired_size": 1,
        },
        opts,
    ),
    TrafficGroup: lambda opts: TrafficGroup(
        "it",
        {"services": [vision(repository(), group="it_group")], "weights": {"vision": 100}, "group_name": "it_group"},
        opts,
    ),
    AckCluster: lambda opts: AckCluster("it", {"zones": {"cn-hangzhou-i": "10.0.0.0/24"}}, opts),
    ServingStack: lambda opts: ServingStack(
        "it",
        {
            "bucket": "examplebucket",
            "models": {"modelC": MODELS["modelC"]},
            "services": {"single": {"deployment": "custom", "model": "modelC"}},
        },
        opts,
    ),
}


@pytest.mark.parametrize("component", EVERY, ids=lambda each: each.__name__)
def test_every_component_keeps_the_rules_of_pulumi(component: type[Component]) -> None:
    found = played(lambda: EVERY[component](pulumi.ResourceOptions(protect=True)))
    made = found.resources["it"]
    assert made.type == f"tfserving:index:{component.__name__}"
    assert made.protect
    assert "it" in found.component_outputs, "outputs are registered"
    declared = component.outputs.properties()
    assert set(found.component_outputs["it"]) <= set(declared)
    for name, each in declared.items():
        if each.secret and name in found.component_outputs["it"]:
            assert set(found.component_outputs["it"][name]) == {"secret"}
    for child in found.resources.values():
        if child.parent == "it" and component is not ServingStack:
            assert child.name.startswith("it-")
    assert component.description()
    assert all(each.description for each in declared.values())


def test_every_component_is_looked_at() -> None:
    def below(cls: type[Component]) -> set[type[Component]]:
        return {cls} | {each for sub in cls.__subclasses__() for each in below(sub)}

    assert below(Component) - {Component} == set(EVERY)


def test_the_directory_that_sources_start_from_is_the_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    error = refused(lambda: repository(models={"modelB": {"source": "exports/modelB"}}))
    assert "  - models.modelB.source: " in error
