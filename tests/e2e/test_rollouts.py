"""Rollouts of a real stack, two instances per service, under constant load: no request may fail."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import alibabacloud_oss_v2 as oss
import pytest

from tests.e2e.checkout import Checkout
from tests.e2e.load import Load, Target
from tests.waiting import until
from tfserving.client import connect
from tfserving.errors import ServiceError
from tfserving.model_config import ModelServerConfig, parse, render

pytestmark = pytest.mark.slow

MODELS = "tf-serving:models"
CONFIG_FILE = "models/tf_serving/model_config.pbtxt"
TARGETS = (
    Target("modelA", version=1),
    Target("modelB", label="stable"),
    Target("modelB", label="canary"),
    Target("modelB"),
    Target("modelC"),
)
KEPT = Target("modelB", version=2)
"""Asked for too, wherever a rollout keeps that version."""

# A warm-up record that asks for an input the model does not have: the version loads, warms up, and fails.
BREAK = """
import pathlib, sys
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2
log = prediction_log_pb2.PredictionLog()
log.predict_log.request.model_spec.name = "m"
log.predict_log.request.model_spec.signature_name = "serving_default"
log.predict_log.request.inputs["no_such_input"].CopyFrom(tf.make_tensor_proto([1.0]))
file = pathlib.Path(sys.argv[1]) / "assets.extra" / "tf_serving_warmup_requests"
file.parent.mkdir(parents=True)
with tf.io.TFRecordWriter(str(file)) as writer:
    writer.write(log.SerializeToString())
"""


@pytest.fixture(scope="module")
def stack(prepared: Checkout) -> Iterator[Checkout]:
    for service in prepared.config()["config"]["tf-serving:services"]:
        prepared.set(2, "tf-serving:services", service, "replicas")
        prepared.set(1, "tf-serving:services", service, "configPollSeconds")
        # A version that cannot load is tried again five times, a minute apart, by default.
        prepared.set(
            {"max_num_load_retries": 1, "load_retry_interval_micros": 1000000}, "tf-serving:services", service, "flags"
        )
    prepared.succeed("up", module="local", timeout=600)
    assert len(prepared.processes()) == 4
    yield prepared
    prepared.run("down", module="local")


def models(stack: Checkout) -> Path:
    return stack.root / ".sandbox" / "models"


def copy_version(stack: Checkout, source: str, to: str) -> Path:
    place = models(stack) / to
    shutil.copytree(models(stack) / source, place)
    return place


def roll_out(stack: Checkout, targets: tuple[Target, ...] = (*TARGETS, KEPT)) -> str:
    """``up`` under load; fails on any failed request."""
    before = stack.processes()
    with Load(stack.outputs()["services"], targets) as load:
        printed = stack.succeed("up", "--yes")
    assert load.failures == []
    assert len(load.requests) == 2 * len(targets)
    assert min(load.requests.values()) >= 5
    assert stack.processes() == before, "no process restarts"
    assert stack.run("preview", "--expect-no-changes").code == 0
    return printed


def served(stack: Checkout, model: str) -> list[dict[str, object]]:
    return [service["models"][model] for service in stack.outputs()["services"].values()]


def test_a_new_version_and_both_labels_on_it_in_one_edit(stack: Checkout) -> None:
    copy_version(stack, "modelC/3", "modelB/3")
    stack.set({"specific": [2, 3]}, MODELS, "modelB", "policy")
    stack.set({"stable": 3, "canary": 3}, MODELS, "modelB", "labels")
    preview = stack.succeed("preview")
    assert all(step in preview for step in ("widen", "move", "narrow"))
    roll_out(stack)
    assert served(stack, "modelB") == [{"labels": {"canary": 3, "stable": 3}, "versions": [2, 3]}] * 2


def test_rolling_back_to_versions_that_are_no_longer_served(stack: Checkout) -> None:
    stack.set({"specific": [1, 2]}, MODELS, "modelB", "policy")
    stack.set({"stable": 1, "canary": 2}, MODELS, "modelB", "labels")
    roll_out(stack)
    assert served(stack, "modelB") == [{"labels": {"canary": 2, "stable": 1}, "versions": [1, 2]}] * 2


def test_swapping_two_labels(stack: Checkout) -> None:
    stack.set({"stable": 2, "canary": 1}, MODELS, "modelB", "labels")
    roll_out(stack)
    stack.set({"stable": 1, "canary": 2}, MODELS, "modelB", "labels")
    roll_out(stack)


def test_publishing_a_version_under_latest_and_under_all(stack: Checkout) -> None:
    copy_version(stack, "modelC/1", "modelC/4")
    copy_version(stack, "modelB/2", "modelA/2")
    roll_out(stack)
    assert served(stack, "modelC") == [{"labels": {}, "versions": [3, 4]}] * 2
    assert served(stack, "modelA") == [{"labels": {}, "versions": [1, 2]}] * 2


def test_labels_on_models_with_latest_and_all_move_with_new_versions(stack: Checkout) -> None:
    stack.set({"live": 4}, MODELS, "modelC", "labels")
    stack.set({"live": 1}, MODELS, "modelA", "labels")
    roll_out(stack)
    labelled = (*TARGETS, KEPT, Target("modelC", label="live"), Target("modelA", label="live"))
    copy_version(stack, "modelC/2", "modelC/5")
    copy_version(stack, "modelC/2", "modelC/6")
    stack.set({"live": 6}, MODELS, "modelC", "labels")
    stack.set({"live": 2}, MODELS, "modelA", "labels")
    roll_out(stack, labelled)
    assert served(stack, "modelC") == [{"labels": {"live": 6}, "versions": [5, 6]}] * 2


def test_adding_and_removing_a_model(stack: Checkout) -> None:
    copy_version(stack, "modelA/1", "modelD/1")
    stack.set({"policy": "all", "labels": {"stable": 1}}, MODELS, "modelD")
    assert "+ modelD" in stack.succeed("preview")
    roll_out(stack)
    stack.set(None, MODELS, "modelD")
    assert "- modelD" in stack.succeed("preview")
    roll_out(stack)


def with_a_warm_up_record_that_errors(place: Path) -> None:
    subprocess.run([sys.executable, "-c", BREAK, str(place)], check=True, capture_output=True, timeout=120)


def with_variables_cut_short(place: Path) -> None:
    (data,) = (place / "variables").glob("variables.data-*")
    data.write_bytes(data.read_bytes()[:100])


def test_a_version_that_cannot_load_fails_in_bounded_time_and_stable_keeps_serving(stack: Checkout) -> None:
    place = copy_version(stack, "modelB/1", "modelB/7")
    with_a_warm_up_record_that_errors(place)
    stack.set({"specific": [1, 2, 7]}, MODELS, "modelB", "policy")
    stack.set({"stable": 7, "canary": 2}, MODELS, "modelB", "labels")
    started = time.monotonic()
    with Load(stack.outputs()["services"], (*TARGETS, KEPT)) as load:
        failed = stack.run("up", "--yes", timeout=400)
    assert failed.code not in (0, 7), failed.text
    assert time.monotonic() - started < 300, "a server that gives up after two tries is not waited for for ever"
    assert load.failures == []
    for told in (
        "version 7 of modelB cannot be loaded: ",
        "no_such_input",
        "No label has moved",
        "Fix: ",
    ):
        assert told in failed.text, failed.text
    assert "Traceback" not in failed.text
    stack.set({"specific": [1, 2]}, MODELS, "modelB", "policy")
    stack.set({"stable": 1, "canary": 2}, MODELS, "modelB", "labels")
    shutil.rmtree(place)
    roll_out(stack)


def test_a_version_with_variables_cut_short_is_refused_before_anything_is_sent(stack: Checkout) -> None:
    place = copy_version(stack, "modelB/1", "modelB/7")
    with_variables_cut_short(place)
    stack.set({"specific": [1, 2, 7]}, MODELS, "modelB", "policy")
    stack.set({"stable": 7, "canary": 2}, MODELS, "modelB", "labels")
    with Load(stack.outputs()["services"], (*TARGETS, KEPT)) as load:
        for command in (("preview",), ("up", "--yes")):
            refused = stack.run(*command)
            assert refused.code not in (0, 7), refused.text
            assert "modelB/7 has 100 bytes of variables/variables.data-00000-of-00001" in refused.text
            assert "Traceback" not in refused.text
    assert load.failures == []
    stack.set({"specific": [1, 2]}, MODELS, "modelB", "policy")
    stack.set({"stable": 1, "canary": 2}, MODELS, "modelB", "labels")
    shutil.rmtree(place)
    assert stack.run("preview", "--expect-no-changes").code == 0
    assert served(stack, "modelB") == [{"labels": {"canary": 2, "stable": 1}, "versions": [1, 2]}] * 2


def writes(stack: Checkout) -> int:
    """How often the config file was written: the bucket keeps every version."""
    listed = stack.oss().list_object_versions(
        oss.ListObjectVersionsRequest(bucket="tf-serving-local", prefix=CONFIG_FILE, max_keys=1000)
    )
    return len(listed.version or ())


def descendants(pid: int) -> set[int]:
    parents = {}
    for directory in Path("/proc").iterdir():
        if directory.name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                parents[int(directory.name)] = int((directory / "stat").read_text().rpartition(")")[2].split()[1])
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def is_provider(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return b"/plugin\0" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def killed_run(stack: Checkout, after: int, everything: bool) -> None:
    """``up``, killed with SIGKILL as soon as it has written the config file so often; 0 is before the first write."""
    before = writes(stack)
    run = subprocess.Popen(
        [sys.executable, "-m", "sandbox", "up", "--yes"],
        cwd=stack.root,
        env={**os.environ, "PYTHONPATH": str(stack.root)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    there = False
    while not there:
        assert run.poll() is None or after == 3, "the run ended before it was killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)
        there = any(map(is_provider, descendants(run.pid))) if not after else writes(stack) >= before + after
    for pid in sorted(descendants(run.pid)) if everything else [run.pid]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    run.wait()


@pytest.mark.parametrize(("after", "everything"), [(0, True), (1, True), (1, False), (2, True), (2, False), (3, True)])
def test_a_run_killed_at_any_step_is_continued_and_no_step_is_done_twice(
    stack: Checkout, after: int, everything: bool
) -> None:
    new, old = ([3], {"stable": 3, "canary": 3}), ([1, 2], {"stable": 1, "canary": 2})
    is_old = stack.config()["config"][MODELS]["modelB"]["labels"]["stable"] == 1
    versions, labels = new if is_old else old
    before = writes(stack)
    stack.set({"specific": versions}, MODELS, "modelB", "policy")
    stack.set(labels, MODELS, "modelB", "labels")
    with Load(stack.outputs()["services"], TARGETS) as load:
        killed_run(stack, after, everything)
        stack.succeed("up", "--yes")
    assert load.failures == []
    assert writes(stack) == before + 3, "widen, move and narrow are written once each"
    assert stack.run("preview", "--expect-no-changes").code == 0
    assert served(stack, "modelB") == [{"labels": labels, "versions": versions}] * 2


def serves(service: dict[str, Any], model: str) -> bool:
    """Whether any version of a model answers."""
    address = {"target": service["target"]} if service["protocol"] == "grpc" else {"url": service["url"]}
    with connect(**address, token=service["token"]) as client:
        try:
            return any(version.state == "AVAILABLE" for version in client.status(model))
        except ServiceError:
            return False


def test_a_label_moved_and_a_model_dropped_by_hand_are_drift_by_name_and_repaired(stack: Checkout) -> None:
    client = stack.oss()
    wanted = served(stack, "modelB")[0]["labels"]
    text = client.get_object(oss.GetObjectRequest("tf-serving-local", CONFIG_FILE)).body.content.decode()
    config = parse(text)
    by_hand = ModelServerConfig(
        tuple(
            replace(model, labels=dict.fromkeys(model.labels, max(model.policy.versions)))
            if model.name == "modelB"
            else model
            for model in config.models
            if model.name != "modelC"
        )
    )
    client.put_object(oss.PutObjectRequest("tf-serving-local", CONFIG_FILE, body=render(by_hand).encode()))
    services = stack.outputs()["services"].values()
    until(lambda: not any(serves(service, "modelC") for service in services), 120, "that services follow the file")
    found = stack.run("refresh", "--preview-only", "--expect-no-changes")
    assert found.code == 7, found.text
    for named in ("served", "multi_http", "multi_grpc", "modelB", "stable", "modelC"):
        assert named in found.text, found.text
    with Load(stack.outputs()["services"], (Target("modelB", label="stable"), Target("modelA"))) as load:
        stack.succeed("up", "--yes")
    assert load.failures == []
    assert served(stack, "modelB")[0]["labels"] == wanted
    assert served(stack, "modelC")[0]["versions"]
    assert stack.run("preview", "--expect-no-changes").code == 0
    assert stack.run("refresh", "--preview-only", "--expect-no-changes").code == 0


def test_where_a_service_cannot_be_reached_waits_go_by_time_and_nothing_is_claimed(stack: Checkout) -> None:
    stack.set(False, "tf-serving:services", "multi_grpc", "reachable")
    stack.set(15, "tf-serving:rolloutSeconds")
    labels = {"stable": 2, "canary": 2}
    stack.set({"specific": [1, 2]}, MODELS, "modelB", "policy")
    stack.set(labels, MODELS, "modelB", "labels")
    assert "multi_grpc: cannot be reached from this machine" in stack.succeed("preview")
    printed = stack.succeed("up", "--yes")
    assert "multi_grpc cannot be asked; waiting 15 s, nothing is proven" in printed
    assert "nothing was proven for multi_grpc" in printed
    assert stack.outputs()["unproven"] == ["multi_grpc"]
    assert stack.outputs()["services"]["multi_http"]["models"]["modelB"]["labels"] == labels
    assert stack.run("preview", "--expect-no-changes").code == 0
