"""What an update publishes or removes changes nothing by itself: under load, by label, by version and without either.

Services of every kind read the same bucket: one polls the config file often, one slowly and over gRPC, one reads it
only at start, and one serves a single model. Policies that go by the files are in force when versions appear and go.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import alibabacloud_oss_v2 as oss
import pytest

from tests.e2e.checkout import Checkout
from tests.e2e.load import Load, Target
from tests.waiting import until

pytestmark = pytest.mark.slow

MODELS = "tf-serving:models"
POLLING: dict[str, Any] = {
    "deployment": "custom",
    "image": "tensorflow-serving:2.14.1",
    "configFile": True,
    "replicas": 2,
    "allowLabelsForUnavailableVersions": True,
}
SLOW_SECONDS = 4
SERVICES: dict[str, Any] = {
    "fast_http": {**POLLING, "configPollSeconds": 1},
    "slow_grpc": {**POLLING, "configPollSeconds": SLOW_SECONDS, "port": 8500, "grpc": True},
    "scene": {"deployment": "scenario", "configFile": True, "replicas": 2},
    "single": {"deployment": "custom", "image": "tensorflow-serving:2.14.1", "model": "titles", "modelName": "titles"},
}
READERS = ("fast_http", "slow_grpc", "scene")


@pytest.fixture(scope="module")
def stack(prepared: Checkout) -> Iterator[Checkout]:
    document = prepared.config()
    document["config"]["tf-serving:services"] = SERVICES
    document["config"][MODELS] = {"titles": {"policy": {"latest": 1}}}
    prepared.write(document)
    publish(prepared, 1)
    prepared.succeed("up", module="local", timeout=900)
    yield prepared
    prepared.run("down", module="local")


def publish(stack: Checkout, *versions: int) -> None:
    """Puts versions into the source; the next ``up`` publishes them."""
    models = stack.root / ".sandbox" / "models"
    for version in versions:
        shutil.copytree(models / "modelC" / "1", models / "titles" / str(version), dirs_exist_ok=True)


def withdraw(stack: Checkout, version: int) -> None:
    shutil.rmtree(stack.root / ".sandbox" / "models" / "titles" / str(version))


def declare(stack: Checkout, policy: Any, labels: dict[str, int] | None = None) -> None:
    stack.set({"policy": policy, "labels": labels or {}}, MODELS, "titles")


def under_load(
    stack: Checkout,
    targets: Sequence[Target],
    *options: str,
    single: Sequence[Target] = (Target("titles"),),
) -> str:
    """``up`` while every service is asked; what the update keeps may not fail once."""
    services = stack.outputs()["services"]
    readers = {name: services[name] for name in READERS}
    with Load(readers, targets) as load, Load({"single": services["single"]}, single) as other:
        printed = stack.succeed("up", "--yes", *options, timeout=900)
    assert load.failures + other.failures == []
    assert min([*load.requests.values(), *other.requests.values()]) >= 5
    assert stack.run("preview", "--expect-no-changes").code == 0
    return printed


def answers(stack: Checkout) -> list[dict[str, Any]]:
    found = stack.outputs()["services"]
    return [found[name]["models"]["titles"] for name in READERS]


def test_the_first_canary_beside_latest(stack: Checkout) -> None:
    publish(stack, 2)
    declare(stack, {"specific": [1, 2]}, {"stable": 1, "canary": 2})
    preview = stack.succeed("preview")
    assert "pin: titles keeps serving 1 (policy latest 1 -> specific [1])" in preview
    assert "titles: requests without a label: version 1 -> 2 once it is loaded" in preview
    assert "titles: requests without a label: version 1 -> 2 once it is loaded" in stack.succeed(
        "preview-comment", module="ops"
    )
    printed = under_load(stack, [Target("titles"), Target("titles", version=1)])
    assert "pin: titles keeps serving 1" in printed
    assert "restarting service scene" in printed
    assert answers(stack) == [{"versions": [1, 2], "labels": {"stable": 1, "canary": 2}}] * 3


@pytest.mark.parametrize("lost", ["saved_model.pb", ""])
def test_files_that_somebody_deleted_are_put_back_and_the_config_file_stays_as_it_is(
    stack: Checkout, lost: str
) -> None:
    """Of a version that a label names; the whole version, which servers then unload, or what they need to load it."""
    folder = f"models/tf_serving/titles/1/{lost}"
    client, bucket = stack.oss(), "tf-serving-local"
    listed = client.list_objects_v2(oss.ListObjectsV2Request(bucket=bucket, prefix=folder)).contents or []
    for item in listed:
        client.delete_object(oss.DeleteObjectRequest(bucket=bucket, key=item.key))
    assert listed
    printed = under_load(stack, [Target("titles"), Target("titles", version=2)], "--refresh")
    assert "pin: " not in printed
    until(lambda: stack.run("refresh", "--preview-only", "--expect-no-changes").code == 0)
    assert answers(stack) == [{"versions": [1, 2], "labels": {"stable": 1, "canary": 2}}] * 3


def test_labels_move_while_the_source_gains_a_version(stack: Checkout) -> None:
    publish(stack, 3)
    declare(stack, {"specific": [1, 2, 3]}, {"stable": 2, "canary": 3})
    targets = [Target("titles", label="stable"), Target("titles", label="canary"), Target("titles")]
    under_load(stack, [*targets, Target("titles", version=1), Target("titles", version=2)])


def test_back_to_a_policy_that_goes_by_the_files(stack: Checkout) -> None:
    declare(stack, {"latest": 2})
    printed = under_load(stack, [Target("titles"), Target("titles", version=2), Target("titles", version=3)])
    assert "pin: " not in printed
    assert answers(stack) == [{"versions": [2, 3], "labels": {}}] * 3


def test_from_latest_to_more_of_the_latest(stack: Checkout) -> None:
    publish(stack, 4, 5)
    declare(stack, {"latest": 4})
    under_load(stack, [Target("titles"), Target("titles", version=2), Target("titles", version=3)])
    assert answers(stack) == [{"versions": [2, 3, 4, 5], "labels": {}}] * 3


def test_a_version_removed_under_all(stack: Checkout) -> None:
    declare(stack, "all")
    under_load(stack, [Target("titles"), Target("titles", version=2)])
    withdraw(stack, 5)
    preview = stack.succeed("preview")
    assert "titles: requests without a label: version 5 -> 4 once version 5 is gone" in preview
    under_load(stack, [Target("titles"), Target("titles", version=3), Target("titles", version=4)])
    assert answers(stack) == [{"versions": [1, 2, 3, 4], "labels": {}}] * 3


def test_a_run_killed_as_soon_as_files_appear_is_continued_without_a_failed_request(stack: Checkout) -> None:
    declare(stack, {"latest": 1})
    under_load(stack, [Target("titles"), Target("titles", version=4)])
    publish(stack, 6)
    declare(stack, {"specific": [4, 6]}, {"stable": 4, "canary": 6})
    services = stack.outputs()["services"]
    appears = stack.root / ".sandbox" / "cloud"
    with Load({name: services[name] for name in READERS}, [Target("titles"), Target("titles", version=4)]) as load:
        run = subprocess.Popen(
            [sys.executable, "-m", "sandbox", "up", "--yes"],
            cwd=stack.root,
            env={**os.environ, "PYTHONPATH": str(stack.root)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + 300
        while not placed(appears, 6) and run.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()
        time.sleep(SLOW_SECONDS + 2)  # whatever services would do by themselves they do now
        stack.succeed("up", "--yes", timeout=900)
    assert load.failures == []
    assert answers(stack) == [{"versions": [4, 6], "labels": {"stable": 4, "canary": 6}}] * 3
    assert stack.run("preview", "--expect-no-changes").code == 0


def placed(cloud: Path, version: int) -> bool:
    """Whether a server can see a version's graph, through the mounts of the sandbox cloud."""
    return any(cloud.glob(f"**/titles/{version}/saved_model.pb"))
