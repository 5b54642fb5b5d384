"""Objects of kinds that a cluster may lack, on a real API server: refused before it has them, made, put right, removed.

The kind is that of kubernetes-cronhpa-controller, with the schema of its Go module; no controller runs.
"""

from __future__ import annotations

import copy
import json
import os
import re
import secrets
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from sandbox.kube.cluster import LocalCluster
from tests.kube import kinds
from tests.kube.conftest import Api
from tests.kube.kinds import establish
from tests.provider.harness import OWNER, Failed, Plugin, Stack
from tfserving import kubernetes, schedule
from tfserving.alerts import RULE_API, Alerts, ErrorRate, FailedLoad, NoReplica, SlowAnswers
from tfserving.kubernetes import KubernetesServingSpec, ModelVolume
from tfserving.schedule import Schedule, ScheduledSize

pytestmark = pytest.mark.slow

MODULE = "github.com/AliyunContainerService/kubernetes-cronhpa-controller@v1.3.0"
API, KIND, PLURAL = (
    "autoscaling.alibabacloud.com/v1beta1",
    "CronHorizontalPodAutoscaler",
    "cronhorizontalpodautoscalers",
)
JOBS = (
    ScheduledSize(name="morning", at="0 30 8 * * 1-5", replicas=6),
    ScheduledSize(name="evening", at="0 0 20 * * *", replicas=2),
)


def inputs_of(manifest: Mapping[str, Any], cluster: LocalCluster, place: str, owner: str) -> dict[str, Any]:
    """Inputs for an object, as the component has them."""
    return {
        "apiVersion": manifest["apiVersion"],
        "kind": manifest["kind"],
        "namespace": place,
        "name": manifest["metadata"]["name"],
        "labels": manifest["metadata"]["labels"],
        "spec": manifest["spec"],
        "owner": owner,
        "kubeconfig": str(cluster.kubeconfig),
    }


@pytest.fixture(scope="module")
def place(cluster: LocalCluster) -> str:
    """A namespace for the module."""
    api, name = Api(cluster), f"objects-{secrets.token_hex(3)}"
    assert api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}).status == 201
    return name


@pytest.fixture(scope="module")
def wanted(cluster: LocalCluster, place: str) -> Callable[..., dict[str, Any]]:
    """Inputs for the schedule of a service, as the component has them."""

    def make(*jobs: ScheduledSize, exclude: tuple[str, ...] = (), owner: str = OWNER, **more: Any) -> dict[str, Any]:
        spec = KubernetesServingSpec(
            name="vision",
            namespace=place,
            region="cn-hangzhou",
            volume=ModelVolume(bucket="examplebucket"),
            schedule=Schedule(jobs=jobs or JOBS, exclude=exclude),
        )
        manifest = kubernetes.build(spec).schedule
        assert manifest is not None
        needs = {"needs": "Fix: install it", **more}
        return inputs_of(manifest, cluster, place, owner) | needs

    return make


def test_without_its_kind_in_the_cluster_the_preview_is_refused(plugin: Plugin, wanted: Any) -> None:
    inputs = plugin.check("ClusterObject", wanted())[0]
    for preview in (True, False):
        with pytest.raises(Failed, match=rf"the cluster does not know {KIND} of {API}\. Fix: install it"):
            plugin.create("ClusterObject", inputs, preview=preview)


@pytest.fixture(scope="module")
def crd(cluster: LocalCluster) -> dict[str, Any]:
    """The definition of the Go module, in the form that API servers take since Kubernetes 1.22."""
    go = shutil.which("go")
    if go is None:
        pytest.skip("Go is not on PATH")
    done = subprocess.run(
        [go, "mod", "download", "-json", MODULE], cwd="/", capture_output=True, text=True, check=False
    )
    found = json.loads(done.stdout or "{}")
    if "Dir" not in found:
        pytest.skip(f"{MODULE} cannot be downloaded")
    [file] = Path(found["Dir"]).glob("config/crds/*.yaml")
    old = yaml.safe_load(file.read_text(encoding="utf-8"))
    old["spec"]["validation"]["openAPIV3Schema"]["type"] = "object"
    spec = {key: old["spec"][key] for key in ("group", "names", "scope")}
    schema = old["spec"]["validation"]
    schema["openAPIV3Schema"]["properties"]["spec"]["properties"]["excludeDates"] = {
        "type": "array",
        "items": {"type": "string"},
    }  # newer than the module, and what the README has
    version = {"name": old["spec"]["version"], "served": True, "storage": True, "schema": schema}
    body = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": old["metadata"]["name"]},
        "spec": {**spec, "versions": [version]},
    }
    establish(Api(cluster).client, body)
    return body


@pytest.fixture(scope="module")
def rule_crds(cluster: LocalCluster, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Definitions of the Prometheus operator, made from its Go types as the operator's own are."""
    go = shutil.which("go")
    if go is None:
        pytest.skip("Go is not on PATH")
    out = tmp_path_factory.mktemp("crds")
    types = "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
    command = [go, "tool", "controller-gen", "crd:crdVersions=v1", f"paths={types}", f"output:crd:dir={out}"]
    module = Path(__file__).with_name("monitoring_module")
    env = {**os.environ, "GOFLAGS": "-mod=readonly", "GOWORK": "off"}
    done = subprocess.run(command, cwd=module, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"controller-gen cannot be had: {' '.join(done.stderr.split())[-300:]}")
    bodies = {
        plural: yaml.safe_load((out / f"monitoring.coreos.com_{plural}.yaml").read_text(encoding="utf-8"))
        for plural in ("prometheusrules", "servicemonitors")
    }
    for body in bodies.values():
        establish(Api(cluster).client, body)
    return bodies["prometheusrules"]


def schema_of(body: dict[str, Any]) -> dict[str, Any]:
    [version] = body["spec"]["versions"]
    return version["schema"]["openAPIV3Schema"]


def unlike(mine: Mapping[str, Any], real: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Where a small schema takes what the real one does not know, or knows as something else."""
    for key in ("type", "format", "x-kubernetes-int-or-string"):
        if key in mine and mine[key] != real.get(key):
            yield f"{path}: {key} is {mine[key]}, and really {real.get(key)}"
    for name, each in mine.get("properties", {}).items():
        if name not in real.get("properties", {}):
            yield f"{path}.{name} is unknown"
        else:
            yield from unlike(each, real["properties"][name], f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if key in mine:
            yield from unlike(mine[key], real.get(key) or {}, f"{path}.{key}")


def test_the_small_definitions_say_nothing_that_the_real_ones_do_not(
    crd: dict[str, Any], rule_crds: dict[str, Any]
) -> None:
    """Where there is no Go to make the real ones, tests of whole stacks use the small ones."""
    for mine, real in zip(kinds.ours(), (crd, rule_crds), strict=True):
        assert mine["metadata"]["name"] == real["metadata"]["name"]
        assert all(mine["spec"][key] == real["spec"][key] for key in ("group", "scope"))
        names = mine["spec"]["names"]
        filled_in = {"listKind": f"{names['kind']}List", "singular": names["kind"].lower()}
        assert names == {key: {**filled_in, **real["spec"]["names"]}[key] for key in names}
        assert mine["spec"]["versions"][0]["name"] == real["spec"]["versions"][0]["name"]
        assert list(unlike(schema_of(mine), schema_of(real))) == []


ALERTS = Alerts(
    error_rate=ErrorRate(percent=1),
    latency=SlowAnswers(p99_ms=500, average_ms=200),
    no_replica=NoReplica(),
    failed_load=FailedLoad(),
    labels={"release": "prometheus"},
)


def rule(place: str, cluster: LocalCluster, of: Alerts = ALERTS) -> dict[str, Any]:
    spec = KubernetesServingSpec(
        name="vision", namespace=place, region="cn-hangzhou", volume=ModelVolume(bucket="examplebucket")
    )
    manifest = kubernetes.alert_rules(spec, of)
    return inputs_of(manifest, cluster, place, OWNER)


def test_alerts_are_rules_that_the_operators_kind_takes(
    rule_crds: dict[str, Any], plugin: Plugin, api: Api, place: str, cluster: LocalCluster
) -> None:
    stack = Stack(plugin, "ClusterObject")
    assert stack.up(rule(place, cluster)) == "create"
    path = f"/apis/{RULE_API}/namespaces/{place}/prometheusrules/vision"
    there = api.call("GET", path).body
    assert there["spec"] == rule(place, cluster)["spec"], "nothing was dropped by the schema"
    assert there["metadata"]["labels"]["release"] == "prometheus"
    assert stack.refresh() == {}
    assert stack.up(rule(place, cluster)) == "same"
    fewer = replace(ALERTS, failed_load=None)
    assert stack.up(rule(place, cluster, fewer)) == "update"
    assert len(api.call("GET", path).body["spec"]["groups"][0]["rules"]) == 4
    stack.destroy()
    assert api.call("GET", path).status == 404


def test_the_servicemonitor_of_the_page_is_one(rule_crds: dict[str, Any], api: Api, place: str) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "monitoring.md").read_text(encoding="utf-8")
    [manifest] = [
        found
        for block in re.findall(r"^```yaml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
        if (found := yaml.safe_load(block)).get("kind") == "ServiceMonitor"
    ]
    manifest["metadata"]["namespace"] = place
    query = "?fieldValidation=Strict"
    made = api.call("POST", f"/apis/{manifest['apiVersion']}/namespaces/{place}/servicemonitors{query}", manifest)
    assert made.status == 201, made.message


@pytest.fixture
def stack(crd: dict[str, Any], plugin: Plugin) -> Iterator[Stack]:
    made = Stack(plugin, "ClusterObject")
    yield made
    if made.id:
        made.destroy()


def found(api: Api, place: str) -> dict[str, Any] | None:
    answer = api.call("GET", f"/apis/{API}/namespaces/{place}/{PLURAL}/vision")
    return answer.body if answer.status == 200 else None


def test_a_schedule_is_made_changed_put_right_and_removed(stack: Stack, api: Api, place: str, wanted: Any) -> None:
    assert stack.up(wanted(exclude=("* * * 1 10 *",))) == "create"
    there = found(api, place)
    assert there is not None
    assert there["spec"] == {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "vision"},
        "jobs": [
            {"name": "morning", "schedule": "0 30 8 * * 1-5", "targetSize": 6},
            {"name": "evening", "schedule": "0 0 20 * * *", "targetSize": 2},
        ],
        "excludeDates": ["* * * 1 10 *"],
    }
    assert stack.refresh() == {}
    assert stack.up(wanted(exclude=("* * * 1 10 *",))) == "same"
    # What leaves the spec leaves the object.
    assert stack.up(wanted(JOBS[0])) == "update"
    there = found(api, place)
    assert there is not None
    assert [job["name"] for job in there["spec"]["jobs"]] == ["morning"]
    assert "excludeDates" not in there["spec"]
    # What somebody edited is drift, and put right; what a controller says of it is none.
    edited = copy.deepcopy(there)
    edited["spec"]["jobs"][0]["targetSize"] = 9
    path = f"/apis/{API}/namespaces/{place}/{PLURAL}/vision"
    condition = {"name": "morning", "jobId": "1", "schedule": "x", "state": "Submitted", "message": ""}
    edited["status"] = {"conditions": [condition | {"lastProbeTime": "2026-11-29T00:00:00Z"}]}
    assert api.call("PUT", path, edited).status == 200
    assert set(stack.refresh()) == {"spec.jobs[0].targetSize"}
    assert stack.up(wanted(JOBS[0])) == "update"
    assert stack.refresh() == {}
    # What somebody removed is made again.
    assert api.call("DELETE", path).status == 200
    assert stack.refresh() == {"gone": True}
    assert stack.up(wanted(JOBS[0])) == "create"
    stack.destroy()
    assert found(api, place) is None


def test_an_object_that_a_newer_resource_took_over_stays_when_the_older_one_is_deleted(
    stack: Stack, plugin: Plugin, wanted: Any
) -> None:
    inputs = {**wanted(), "name": "renamed"}
    original, renamed = Stack(plugin, "ClusterObject"), Stack(plugin, "ClusterObject")
    original.up(inputs)
    renamed.up(inputs)
    original.plugin.delete("ClusterObject", original.id, original.inputs, original.outputs)
    assert any("renamed stays: a newer resource" in line for line in plugin.engine.lines())
    assert renamed.refresh() == {}
    assert set(original.refresh()) == {"createdBy"}
    assert original.up(inputs) == "update"
    assert original.refresh() == {}
    original.plugin.delete("ClusterObject", original.id, original.inputs, original.outputs)
    assert renamed.refresh() == {"gone": True}


def test_an_object_of_somebody_else_is_refused_by_the_preview_and_stays(
    stack: Stack, plugin: Plugin, api: Api, place: str, wanted: Any
) -> None:
    assert stack.up(wanted(owner="tf-serving-stacks/other")) == "create"
    inputs = plugin.check("ClusterObject", wanted())[0]
    for preview in (True, False):
        with pytest.raises(
            Failed, match=f"{KIND} {place}/vision exists already and belongs to tf-serving-stacks/other"
        ):
            plugin.create("ClusterObject", inputs, preview=preview)
    there = found(api, place)
    assert there is not None
    assert len(there["spec"]["jobs"]) == len(JOBS)


@pytest.mark.parametrize(
    ("wrong", "path"),
    [({"apiVersion": "v1"}, "apiVersion"), ({"kind": "rule"}, "kind"), ({"name": "A_b"}, "name")],
)
def test_what_names_no_object_is_refused(plugin: Plugin, wanted: Any, wrong: dict[str, Any], path: str) -> None:
    assert list(plugin.check("ClusterObject", wanted(**wrong))[1]) == [path]


def test_the_schedule_of_the_stack_file_has_no_fault() -> None:
    assert list(schedule.problems(Schedule(jobs=JOBS), "s")) == []
