"""TensorFlow Serving on Kubernetes from a person's seat: the example stack on a real API server, up to down.

One stack for the whole file, so the tests run in order and leave the stack as they found it.
"""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import yaml
from kubernetes import client, config

from sandbox.kube import build
from tests.e2e.checkout import Checkout
from tests.e2e.load import Load, Target

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

    def api(self) -> client.CoreV1Api:
        kubeconfig = self.checkout.root / ".sandbox" / "kube" / "cluster" / "kubeconfig"
        return client.CoreV1Api(config.new_client_from_config(str(kubeconfig)))

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
    text, endpoints = re.subn(r"(tf-serving:endpoint: *)\S+", rf"\g<1>127.0.0.1:{prepared.port}", text)
    assert endpoints == 1
    file.write_text(text, encoding="utf-8")
    prepared.succeed("kube", "start")
    try:
        prepared.succeed("cloud", "start")
        made = AckLocal(prepared)
        assert "24 created" in made.run("up", "--yes")
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


def test_a_second_look_changes_nothing(ack: AckLocal) -> None:
    assert "24 unchanged" in ack.run("preview", "--expect-no-changes")
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
    assert "23 unchanged" in printed
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
            time.sleep(0.5)
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


def test_a_cluster_started_again_serves_at_the_same_address(ack: AckLocal) -> None:
    ack.checkout.succeed("kube", "stop")
    assert ack.checkout.processes() == {}
    ack.checkout.succeed("kube", "start")
    deadline = time.monotonic() + 60
    while ack.checkout.run("predict", "vision", "modelB", "--label", "stable", *STACK, module="ops").code:
        assert time.monotonic() < deadline, "the pods do not come back"
    ack.run("refresh", "--preview-only", "--expect-no-changes")


def test_destroy_leaves_an_empty_cluster_and_nothing_running(ack: AckLocal) -> None:
    assert "24 deleted" in ack.run("destroy", "--yes")
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
