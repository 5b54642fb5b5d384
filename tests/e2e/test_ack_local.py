"""TensorFlow Serving on Kubernetes from a person's seat: the example stack on a real API server, up to down.

One stack for the whole file, so the tests run in order and leave the stack as they found it.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import yaml
from kubernetes import client, config

from sandbox.kube import build
from tests.e2e.checkout import Checkout
from tests.e2e.load import Load, Target
from tests.kube import kinds
from tests.waiting import until

pytestmark = pytest.mark.slow

STACK = ("--stack", "ack-local")
MODELS = "tf-serving:models"


@dataclass(frozen=True)
class AckLocal:
    """The example stack in a checkout of its own, and the cluster it runs on."""

    checkout: Checkout

    def run(self, *arguments: str, module: str = "sandbox") -> str:
        printed = self.checkout.succeed(*arguments, *STACK, module=module, timeout=600)
        assert "Traceback" not in printed
        return printed

    def predict(self, *arguments: str) -> str:
        return self.run("predict", "vision", "modelB", *arguments, module="ops")

    def label(self, **versions: int) -> None:
        self.declare("modelB", {"policy": {"specific": [1, 2]}, "labels": versions})

    def declare(self, model: str, entry: dict[str, Any] | None) -> None:
        """Writes the entry of a model; None takes it out."""
        file = self.checkout.root / "stacks" / "Pulumi.ack-local.yaml"
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
        models = document["config"][MODELS]
        models[model] = entry
        document["config"][MODELS] = {name: each for name, each in models.items() if each is not None}
        file.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")

    def set_service(self, **settings: Any) -> None:
        """Writes settings of the service; None takes one out."""
        file = self.checkout.root / "stacks" / "Pulumi.ack-local.yaml"
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
        services = document["config"]["tf-serving:services"]
        merged = {**services["vision"], **settings}
        services["vision"] = {key: each for key, each in merged.items() if each is not None}
        file.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")

    def connection(self) -> client.ApiClient:
        kubeconfig = self.checkout.root / ".sandbox" / "kube" / "cluster" / "kubeconfig"
        return config.new_client_from_config(str(kubeconfig))

    def api(self) -> client.CoreV1Api:
        return client.CoreV1Api(self.connection())

    def object(self, kind: dict[str, Any]) -> dict[str, Any] | None:
        """The service's object of a kind that is defined by ``kind``; None where there is none."""
        group, [version], plural = kind["group"], kind["versions"], kind["names"]["plural"]
        try:
            found: dict[str, Any] = client.CustomObjectsApi(self.connection()).get_namespaced_custom_object(
                group, version["name"], "default", plural, "vision"
            )
        except client.ApiException as error:
            if error.status != 404:
                raise
            return None
        return found

    def pods(self) -> dict[str, int]:
        """Pods with how often their containers were started again."""
        return {
            pod.metadata.uid: sum(status.restart_count for status in pod.status.container_statuses)
            for pod in self.api().list_namespaced_pod("default").items
        }


@pytest.fixture(scope="module")
def ack(prepared: Checkout) -> Iterator[AckLocal]:
    if why := build.missing():
        pytest.skip(why)
    programs = prepared.root / ".sandbox" / "kube" / "bin"
    programs.parent.mkdir()
    programs.symlink_to(build.BIN, target_is_directory=True)
    file = prepared.root / "stacks" / "Pulumi.ack-local.yaml"
    text = file.read_text(encoding="utf-8")
    text = re.sub(r"(configPollSeconds: *)\d+", r"\g<1>1", text)
    text, endpoints = re.subn(r"(tf-serving:endpoint: *)\S+", rf"\g<1>127.0.0.1:{prepared.port}", text)
    assert endpoints == 1
    file.write_text(text, encoding="utf-8")
    prepared.succeed("kube", "start")
    try:
        prepared.succeed("cloud", "start")
        made = AckLocal(prepared)
        assert "25 created" in made.run("up", "--yes")
        yield made
    finally:
        prepared.run("kube", "stop")


def test_a_service_answers_over_both_protocols_by_version_and_label(ack: AckLocal) -> None:
    assert "vision (HTTP, http://127." in ack.predict("--label", "stable")
    for arguments, version in (
        (("--label", "stable"), 1),
        (("--label", "canary"), 2),
        (("--version", "1"), 1),
        (("--grpc", "--label", "stable"), 1),
        (("--grpc",), 2),
    ):
        assert f"modelB version {version}" in ack.predict(*arguments)
    assert "Authorization" not in ack.predict("--curl")  # nobody asks for a token


def test_status_events_and_metrics_come_from_the_pods(ack: AckLocal) -> None:
    for _ in range(3):
        ack.predict("--label", "stable")
    found = json.loads(ack.run("metrics", "vision", "--format", "json", module="ops"))
    assert found["replicas"] == len(ack.pods())
    assert found["models"]["modelB"]["requests"] >= 3
    found = json.loads(ack.run("status", "--format", "json", module="ops"))
    [service] = found["services"]
    assert (service["name"], service["status"], service["running"]) == ("vision", "Running", len(ack.pods()))
    assert service["since"] >= "2026", "when its newest pod was made"
    assert service["rollout"] == found["lastRollout"] != ""
    assert next(each for each in found["models"] if each["model"] == "modelB")["labels"]["stable"] == 1
    events = json.loads(ack.run("events", "vision", "--format", "json", module="ops"))["events"]
    assert events
    assert all(event["pod"].startswith("vision-") and event["reason"] and event["type"] for event in events)


def test_logs_say_that_this_cluster_has_no_kubelet_to_ask(ack: AckLocal) -> None:
    done = ack.checkout.run("logs", "vision", *STACK, module="ops")
    assert done.code == 1
    assert "cannot read the log of pod default/vision-" in done.text
    assert "Traceback" not in done.text


def test_a_second_look_changes_nothing(ack: AckLocal) -> None:
    assert "25 unchanged" in ack.run("preview", "--expect-no-changes")
    ack.run("refresh", "--preview-only", "--expect-no-changes")
    assert "stack ack-local: no drift" in ack.run("drift", module="ops")


def test_the_doctor_finds_it_well_and_the_policies_have_nothing_against_it(ack: AckLocal) -> None:
    printed = ack.run("doctor", module="ops")
    assert "0 errors, 0 warnings" in printed
    assert "may deploy to namespace default and ask pods there" in printed
    assert "unchanged" in ack.run("preview", "--policy-pack", "policy", "--expect-no-changes")


def test_labels_move_in_place_and_back(ack: AckLocal) -> None:
    before = ack.pods()
    assert list(before.values()) == [0]
    ack.label(stable=2, canary=1)
    printed = ack.run("up", "--yes")
    assert "1 updated" in printed
    assert "24 unchanged" in printed
    assert "modelB version 2" in ack.predict("--label", "stable")
    assert "modelB version 1" in ack.predict("--label", "canary")
    ack.label(stable=1, canary=2)
    ack.run("up", "--yes")
    assert "modelB version 1" in ack.predict("--label", "stable")
    assert ack.pods() == before


def test_versions_come_and_go_under_load_and_no_request_fails(ack: AckLocal) -> None:
    """The first canary beside ``latest``, back to ``latest``, and ``all`` whose newest version is removed."""
    models = ack.checkout.root / ".sandbox" / "models"

    def publish(version: int) -> None:
        shutil.copytree(models / "modelC" / "1", models / "titles" / str(version))

    def up(policy: Any, labels: dict[str, int], *targets: Target) -> str:
        ack.declare("titles", {"policy": policy, "labels": labels})
        services = json.loads(ack.run("outputs", "--json", "--show-secrets"))["services"]
        both = {
            f"{name} {protocol}": {"token": "", **each, "protocol": protocol}
            for name, each in services.items()
            for protocol in ("http", "grpc")
        }
        with Load(both, targets) as load:
            printed = ack.run("up", "--yes")
        assert load.failures == []
        assert len(load.requests) == len(both) * len(targets)
        assert min([*load.requests.values(), 5]) >= 5
        assert "unchanged" in ack.run("preview", "--expect-no-changes")
        return printed

    publish(1)
    up({"latest": 1}, {})
    before = ack.pods()
    publish(2)
    latest, first = Target("titles"), Target("titles", version=1)
    assert "pin: titles keeps serving 1" in up({"specific": [1, 2]}, {"stable": 1, "canary": 2}, latest, first)
    up({"latest": 2}, {}, latest, first, Target("titles", version=2))
    publish(3)
    up("all", {}, latest, first)
    shutil.rmtree(models / "titles" / "3")
    up("all", {}, latest, first)
    assert ack.pods() == before
    ack.declare("titles", None)
    ack.run("up", "--yes")


def test_pods_are_gated_through_the_api_server_before_a_label_moves(ack: AckLocal) -> None:
    ack.run("golden", "record", "vision", "modelB", "--version", "2", "--count", "3", "--force", module="ops")
    gate = {"golden": "golden/modelB.jsonl", "tolerance": {"absolute": 1e-3, "relative": 1e-2}}

    def declare(**labels: int) -> None:
        ack.declare("modelB", {"policy": {"specific": [1, 2]}, "labels": labels, "gate": gate})

    before = ack.pods()
    declare(stable=1, canary=2)
    assert "unchanged" in ack.run("preview", "--expect-no-changes")
    declare(stable=1, canary=1)
    assert "gate: modelB version 1 for label canary, on vision: 3 records of golden/modelB.jsonl" in ack.run("preview")
    done = ack.checkout.run("up", "--yes", *STACK)
    assert done.code != 0
    assert "modelB version 1 did not pass its gate" in done.text
    assert " of 3 records of golden/modelB.jsonl not answered as expected" in done.text
    assert "modelB version 2" in ack.predict("--label", "canary")
    declare(stable=2, canary=2)
    assert "modelB version 2 passed its gate on vision: 3 records, largest difference" in ack.run("up", "--yes")
    assert "modelB version 2" in ack.predict("--label", "stable")
    ack.label(stable=1, canary=2)
    ack.run("up", "--yes")
    assert ack.pods() == before


SCHEDULE = {
    "jobs": {"day": {"at": "0 30 8 * * 1-5", "replicas": 3}, "night": {"at": "0 0 20 * * *", "replicas": 1}},
    "exclude": ["* * * 1 10 *"],
}
ALERTS = {"errorRate": {"percent": 1}, "noReplica": True, "failedLoad": True, "labels": {"release": "prometheus"}}
CRON, RULES = (definition["spec"] for definition in kinds.ours())


def test_a_schedule_and_alerts_that_the_cluster_does_not_know_are_refused_by_the_preview(ack: AckLocal) -> None:
    for settings, kind in (({"schedule": SCHEDULE}, CRON), ({"alerts": ALERTS}, RULES)):
        ack.set_service(**settings)
        told = f"the cluster does not know {kind['names']['kind']} of {kind['group']}/{kind['versions'][0]['name']}. "
        for command in (("preview",), ("up", "--yes")):
            done = ack.checkout.run(*command, *STACK)
            assert done.code != 0
            assert told in " ".join(done.text.split()), done.text
            assert "Traceback" not in done.text
        ack.set_service(**dict.fromkeys(settings))
    assert "25 unchanged" in ack.run("preview", "--expect-no-changes")


def test_a_schedule_and_alerts_come_change_in_place_and_go(ack: AckLocal) -> None:
    for definition in kinds.ours():
        kinds.establish(ack.connection(), definition)
    ack.set_service(schedule=SCHEDULE, alerts=ALERTS)
    printed = ack.run("up", "--yes")
    assert "2 created" in printed
    schedule, rules = ack.object(CRON), ack.object(RULES)
    assert schedule is not None
    assert rules is not None
    assert schedule["spec"] == {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "vision"},
        "jobs": [
            {"name": "day", "schedule": "0 30 8 * * 1-5", "targetSize": 3},
            {"name": "night", "schedule": "0 0 20 * * *", "targetSize": 1},
        ],
        "excludeDates": ["* * * 1 10 *"],
    }
    assert rules["metadata"]["labels"]["release"] == "prometheus"
    [group] = rules["spec"]["groups"]
    assert [rule["alert"] for rule in group["rules"]] == [
        "TensorFlowServingErrors",
        "TensorFlowServingDown",
        "TensorFlowServingLoadFailed",
    ]
    chosen = 'namespace="default",service="vision"'
    assert all(chosen in rule["expr"] for rule in group["rules"])
    assert [rule.get("for") for rule in group["rules"]] == ["5m", "5m", None]
    assert "27 unchanged" in ack.run("preview", "--expect-no-changes")
    ack.run("refresh", "--preview-only", "--expect-no-changes")

    later = {"jobs": {"day": {"at": "0 0 9 * * 1-5", "replicas": 2}, "night": {"at": "0 0 20 * * *", "replicas": 1}}}
    ack.set_service(schedule=later, alerts={**ALERTS, "errorRate": {"percent": 7, "minutes": 9}, "failedLoad": False})
    assert "2 updated" in ack.run("up", "--yes")
    changed, fewer = ack.object(CRON), ack.object(RULES)
    assert changed is not None
    assert fewer is not None
    for before, after in ((schedule, changed), (rules, fewer)):
        assert after["metadata"]["uid"] == before["metadata"]["uid"], "it is the same object"
    assert changed["spec"]["jobs"] == [
        {"name": "day", "schedule": "0 0 9 * * 1-5", "targetSize": 2},
        {"name": "night", "schedule": "0 0 20 * * *", "targetSize": 1},
    ]
    assert "excludeDates" not in changed["spec"]
    [group] = fewer["spec"]["groups"]
    assert [(rule["alert"], rule["for"]) for rule in group["rules"]] == [
        ("TensorFlowServingErrors", "9m"),
        ("TensorFlowServingDown", "5m"),
    ]
    assert group["rules"][0]["expr"].endswith(" > 7")

    ack.set_service(schedule=None, alerts=None)
    assert "2 deleted" in ack.run("up", "--yes")
    assert ack.object(CRON) is None
    assert ack.object(RULES) is None
    assert "25 unchanged" in ack.run("preview", "--expect-no-changes")


def test_a_cluster_started_again_serves_at_the_same_address(ack: AckLocal) -> None:
    ack.checkout.succeed("kube", "stop")
    assert ack.checkout.processes() == {}
    ack.checkout.succeed("kube", "start")
    ask = ("predict", "vision", "modelB", "--label", "stable", *STACK)
    until(lambda: ack.checkout.run(*ask, module="ops").code == 0, 240, "that the pods come back")
    ack.run("refresh", "--preview-only", "--expect-no-changes")


def test_destroy_leaves_an_empty_cluster_and_nothing_running(ack: AckLocal) -> None:
    assert "25 deleted" in ack.run("destroy", "--yes")
    api = ack.api()
    left: list[Any] = [
        *api.list_namespaced_pod("default").items,
        *api.list_namespaced_persistent_volume_claim("default").items,
        *api.list_persistent_volume().items,
        *[found for found in api.list_namespaced_config_map("default").items if found.metadata.name[:5] != "kube-"],
        *[found for found in api.list_namespaced_service("default").items if found.metadata.name != "kubernetes"],
    ]
    assert [found.metadata.name for found in left] == []
    assert ack.checkout.processes() == {}
    assert "cluster stopped" in ack.checkout.succeed("kube", "stop")
