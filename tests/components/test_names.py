"""Names that components of one program hold: no two of them hold the same thing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pulumi
import pytest

from components import names
from components.eas_service import TensorFlowServing
from components.kubernetes_serving import KubernetesServing
from components.model_repository import ModelRepository
from components.resources import TFServingProvider
from components.traffic import TrafficGroup
from tests.components.test_kubernetes_program import KUBECONFIG as FORM
from tests.components.test_own_program import MODELS, later, played, refused, repository
from tfserving.contract import ProviderConfig

KUBECONFIG = FORM.format(server="https://127.0.0.1:6443")
CHANGE = "and each `up` would change it from what one of them says to what the other says"


def service(name: str, models: ModelRepository | None = None, **more: Any) -> TensorFlowServing:
    opts = more.pop("opts", None)
    given = {"repository": models or repository(), "config_poll_seconds": 5, **more}
    return TensorFlowServing(name, given, opts)


def pods(name: str, models: ModelRepository, **more: Any) -> KubernetesServing:
    given = {"repository": models, "volume": {"role_name": "reader"}, "service_name": "vision", **more}
    return KubernetesServing(name, given)


def two_services() -> None:
    models = repository()
    service("vision", models)
    service("other", models, service_name="vision")


def two_services_of_two_parents() -> None:
    class One(pulumi.ComponentResource):
        pass

    models = repository()
    for kind in ("a:b:One", "a:b:Two"):
        above = One(kind, "same")
        service("vision", models, opts=pulumi.ResourceOptions(parent=above))


def two_in_a_cluster(**more: Any) -> None:
    models = repository()
    for name in ("one", "two"):
        pods(name, models, **more)


def two_groups() -> None:
    models = repository()
    members = [service(name, models, group="both") for name in ("stable", "canary")]
    for name, stable in (("both", 90), ("other", 10)):
        weights = {"stable": stable, "canary": 100 - stable}
        TrafficGroup(name, services=members, weights=weights, group_name="both")


def two_repositories(bucket: Any = "examplebucket", **more: Any) -> None:
    for name, models in (("models", MODELS), ("others", {"modelB": {"versions": [1]}})):
        ModelRepository(name, {"bucket": bucket, "models": models, **more})


@pytest.mark.parametrize(
    ("program", "lines"),
    [
        (
            two_services,
            [
                "TensorFlowServing other: 1 problem",
                f"service_name: service vision is already that of TensorFlowServing vision, {CHANGE}",
                "Allowed: one component for each service",
                "Fix: give one of them another service_name, or remove one of them",
            ],
        ),
        (two_services_of_two_parents, ["service_name: service vision is already that of TensorFlowServing vision"]),
        (
            two_in_a_cluster,
            ["KubernetesServing two: ", "service default/vision is already that of KubernetesServing one"],
        ),
        (
            lambda: two_in_a_cluster(kubeconfig=KUBECONFIG, namespace="models"),
            ["service models/vision is already that of KubernetesServing one"],
        ),
        (
            lambda: two_in_a_cluster(kubeconfig=later(KUBECONFIG)),
            ["service default/vision is already that of KubernetesServing one"],
        ),
        (
            two_groups,
            [
                "TrafficGroup other: 1 problem",
                "group_name: group both is already that of TrafficGroup both",
                "Fix: remove one of them, or make services of a group of its own for it",
            ],
        ),
        (
            two_repositories,
            [
                "ModelRepository others: 1 problem",
                "models.modelB: model directory oss://examplebucket/models/tf_serving/modelB/ is already that of "
                "ModelRepository models",
                "Fix: remove the model from one of the two repositories",
            ],
        ),
        (
            lambda: two_repositories(later("examplebucket")),
            ["models.modelB: model directory oss://examplebucket/models/tf_serving/modelB/ is already that of"],
        ),
        (
            lambda: two_repositories({"name": "examplebucket"}, root="a/"),
            ["bucket.name: bucket examplebucket is already that of ModelRepository models"],
        ),
    ],
)
@pytest.mark.parametrize("preview", [True, False])
def test_what_two_components_hold_is_refused_with_both_and_the_fix(
    program: Callable[[], object], lines: list[str], preview: bool
) -> None:
    error = refused(program, preview=preview)
    for line in lines:
        assert line in error


def other_cloud(region: str) -> pulumi.ResourceOptions:
    return pulumi.ResourceOptions(providers=[TFServingProvider(region, ProviderConfig(region=region))])


def in_two_clouds() -> None:
    for region in ("cn-hangzhou", "cn-beijing"):
        opts = other_cloud(region)
        models = ModelRepository(f"models-{region}", {"bucket": f"bucket-{region}", "models": MODELS}, opts)
        one = service(f"vision-{region}", models, service_name="vision", region=region, group="both", opts=opts)
        TrafficGroup(f"both-{region}", {"services": [one], "weights": {"vision": 100}, "group_name": "both"}, opts)


def in_two_regions() -> None:
    models = repository()
    for region in ("cn-hangzhou", "cn-beijing"):
        service(f"vision-{region}", models, service_name="vision", region=region)


def in_two_clusters() -> None:
    models = repository()
    for name in ("one", "two"):
        pods(name, models, context=name, kubeconfig=FORM.replace("sandbox", name).format(server="https://127.0.0.1:1"))
    pods("three", models, namespace="other")


def below_two_roots() -> None:
    for name in ("a", "b"):
        ModelRepository(name, {"bucket": later("examplebucket"), "root": f"{name}/", "models": MODELS})


def in_the_cloud_and_in_a_cluster() -> None:
    models = repository()
    service("one", models, service_name="vision")
    pods("two", models)


@pytest.mark.parametrize(
    "program",
    [in_two_clouds, in_two_regions, in_two_clusters, below_two_roots, in_the_cloud_and_in_a_cluster],
    ids=lambda each: each.__name__,
)
def test_the_same_name_in_another_place_is_another_thing(program: Callable[[], object]) -> None:
    played(program)


def test_a_name_that_is_not_known_yet_is_compared_with_nothing() -> None:
    played(lambda: two_repositories(pulumi.Output.from_input(pulumi.output.Unknown())), preview=True)


def test_the_next_run_in_the_same_process_may_give_a_name_to_another_component() -> None:
    """As tests of programs do, and programs that run programs: a rename is none of the run before."""
    played(lambda: service("vision"))
    played(lambda: service("renamed", service_name="vision"))


# ---- where the engine has each component made by a call of its own


@pytest.fixture
def calls() -> Iterator[list[str]]:
    names._runs.clear()
    yield []
    names._runs.clear()


def made_by_a_call(run: object, name: str, provider: str = "", **more: Any) -> Callable[[], object]:
    providers = {"tfserving": provider} if provider else {}
    opts = pulumi.ResourceOptions(providers=[other] if (other := _by_reference(provider)) else None)

    def call() -> None:
        with names.call_of(run, providers, "urn:parent"):
            service(name, service_name="vision", opts=opts, **more)

    return call


def _by_reference(provider: str) -> pulumi.ProviderResource | None:
    return pulumi.resource.DependencyProviderResource(f"{provider}::id") if provider else None


def test_calls_of_one_run_share_what_they_hold(calls: list[str]) -> None:
    played(made_by_a_call("run", "one"))
    assert "is already that of TensorFlowServing one" in refused(made_by_a_call("run", "two"))


def test_calls_of_several_runs_and_stacks_share_nothing(calls: list[str]) -> None:
    played(made_by_a_call("run", "one"))
    played(made_by_a_call("other run", "two"))


def test_a_component_that_is_made_again_begins_a_run_of_its_own(calls: list[str]) -> None:
    """An engine may come to listen at the same address once more."""
    played(made_by_a_call("run", "one"))
    played(made_by_a_call("run", "one"))
    assert len(names._runs) == 1


def test_a_plugin_that_lives_long_forgets_runs(calls: list[str]) -> None:
    for number in range(30):
        played(made_by_a_call(number, "one"))
    assert len(names._runs) == names._RUNS_KEPT
