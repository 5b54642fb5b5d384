"""The main job from a person's seat: up, predict, promote, roll back, drift, mistakes, accidents, down.

One stack for the whole file, so the tests run in order and leave the stack as they found it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib import request

import alibabacloud_oss_v2 as oss
import pytest
from PIL import Image

from tests.e2e.checkout import BODY, Checkout, post
from tests.waiting import until

pytestmark = pytest.mark.slow

DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="module")
def stack(checkout: Checkout) -> Iterator[Checkout]:
    printed = checkout.succeed("up", module="local", timeout=600)
    assert "multi_http" in printed
    yield checkout
    checkout.run("down", module="local")


def predict(stack: Checkout, path: str, service: str = "multi_http") -> list[float]:
    found = stack.service(service)
    status, answer = post(f"{found['url']}/v1/models/{path}:predict", found["token"], BODY)
    assert status == 200, answer
    return answer["predictions"][0]


def fill_in(sample: str, to: Path, **values: str) -> Path:
    text = (DATA / sample).read_text(encoding="utf-8")
    for placeholder, value in values.items():
        assert f"<{placeholder}>" in text
        text = text.replace(f"<{placeholder}>", value)
    to.write_text(text, encoding="utf-8")
    return to


def python(script: Path) -> str:
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_up_prints_predictions_a_table_of_services_and_the_next_commands(checkout: Checkout) -> None:
    first = checkout.succeed("up", module="local", timeout=600)
    for expected in ("multi_http (HTTP", "multi_grpc (gRPC", "URL OR TARGET", "stable=1 ", "canary=2", "try next:"):
        assert expected in first.replace("canary=2 stable=1", "stable=1  canary=2")
    assert f"console: http://127.0.0.1:{checkout.port}/-/console/\n" in first
    assert "Traceback" not in first


def test_the_console_shows_what_the_stack_deployed(stack: Checkout) -> None:
    with request.urlopen(f"http://127.0.0.1:{stack.port}/-/console/api/overview", timeout=30) as answer:
        text = answer.read().decode()
    shown = {service["name"]: service for service in json.loads(text)["services"]}
    deployed = stack.outputs()["services"]
    assert set(shown) == set(deployed)
    for name, outputs in deployed.items():
        assert shown[name]["status"] == "Running"
        assert shown[name]["address"] == (outputs.get("url") or outputs["target"])
        for model in shown[name]["models"]:
            wanted = outputs["models"][model["name"]]
            available = [each["version"] for each in model["versions"] if set(each["states"]) == {"AVAILABLE"}]
            assert sorted(available) == sorted(wanted["versions"])
            assert {label["label"]: label["answered"] for label in model["labels"]} == {
                label: [version] for label, version in wanted["labels"].items()
            }
        assert outputs["token"] not in text


def test_the_doctor_finds_the_stack_well_and_the_policies_have_nothing_against_it(stack: Checkout) -> None:
    printed = stack.succeed("doctor", module="ops")
    assert "0 errors, 0 warnings" in printed
    assert "may read; 2 of 2 services are there" in printed
    assert "unchanged" in stack.succeed("preview", "--policy-pack", "policy", "--expect-no-changes")


def test_a_second_up_is_quick_and_changes_nothing(stack: Checkout) -> None:
    before = stack.processes()
    started = time.monotonic()
    printed = stack.succeed("up", module="local")
    assert time.monotonic() - started < 60
    assert "unchanged" in printed
    assert not any(word in printed for word in ("to create", "to update", "to replace", "to delete"))
    assert stack.processes() == before
    assert len(before) == 2
    assert stack.run("preview", "--expect-no-changes").code == 0
    assert stack.run("refresh", "--preview-only", "--expect-no-changes").code == 0


def test_the_documents_http_sample_runs_with_only_url_token_and_model_filled_in(
    stack: Checkout, tmp_path: Path
) -> None:
    service = stack.service("multi_http")
    script = fill_in(
        "document_http.py", tmp_path / "sample.py", service_url=service["url"], token=service["token"], model="modelA"
    )
    assert "predictions" in python(script)


def test_the_documents_grpc_sample_runs_with_only_host_token_model_and_version_filled_in(
    stack: Checkout, tmp_path: Path
) -> None:
    service = stack.service("multi_grpc")
    script = fill_in(
        "document_grpc.py",
        tmp_path / "sample.py",
        host=service["target"],
        token=service["token"],
        model_name="modelB",
        version_num="2",
    )
    assert "float_val" in python(script)


def test_version_and_label_paths_of_the_documents_table_answer_by_that_version(stack: Checkout) -> None:
    first, second = predict(stack, "modelB/versions/1"), predict(stack, "modelB/versions/2")
    assert first != second
    assert predict(stack, "modelB") == second
    assert predict(stack, "modelB/labels/stable") == first
    assert predict(stack, "modelB/labels/canary") == second


def test_a_request_without_the_token_is_refused(stack: Checkout) -> None:
    service = stack.service("multi_http")
    status, _ = post(f"{service['url']}/v1/models/modelA:predict", "wrong", BODY)
    assert status == 401


def test_promoting_and_rolling_back_is_an_edit_and_an_up_without_a_restart(stack: Checkout) -> None:
    labels = ("tf-serving:models", "modelB", "labels", "stable")
    first, second = predict(stack, "modelB/versions/1"), predict(stack, "modelB/versions/2")
    before = stack.processes()
    stack.set(2, *labels)
    assert "modelB: label stable 1 -> 2" in stack.succeed("preview")
    assert predict(stack, "modelB/labels/stable") == first, "a preview changes nothing"
    stack.succeed("up", "--yes")
    assert predict(stack, "modelB/labels/stable") == second
    stack.set(1, *labels)
    assert "modelB: label stable 2 -> 1" in stack.succeed("up", "--yes")
    assert predict(stack, "modelB/labels/stable") == first
    assert stack.processes() == before
    assert stack.run("preview", "--expect-no-changes").code == 0


def test_a_new_version_is_published_served_and_removed_by_editing_the_stack(stack: Checkout) -> None:
    policy = ("tf-serving:models", "modelC", "policy")
    stack.set({"specific": [1, 3]}, *policy)
    printed = stack.succeed("up", "--yes")
    assert "modelC" in printed
    assert predict(stack, "modelC/versions/1")
    stack.set({"latest": 2}, *policy)
    stack.succeed("up", "--yes")
    service = stack.service("multi_http")
    status, _ = post(f"{service['url']}/v1/models/modelC/versions/1:predict", service["token"], BODY)
    assert status == 404


def test_ops_predict_asks_by_label_over_both_protocols(stack: Checkout) -> None:
    over_http = stack.succeed("predict", "multi_http", "modelB", "--label", "canary", module="ops")
    over_grpc = stack.succeed("predict", "multi_grpc", "modelB", "--label", "canary", "--grpc", module="ops")
    for printed in (over_http, over_grpc):
        assert "modelB version 2 by label canary" in printed
    token = stack.service("multi_http")["token"]
    masked = stack.succeed("predict", "multi_http", "modelB", "--curl", module="ops")
    assert token not in masked
    assert "$TOKEN" in masked


def test_ops_predict_sends_images_and_files_and_prints_a_command_that_does_the_same(
    stack: Checkout, tmp_path: Path
) -> None:
    def ask(*arguments: str) -> str:
        return stack.succeed("predict", *arguments, module="ops")

    picture, two = tmp_path / "white.png", tmp_path / "two.json"
    Image.new("L", (56, 56), 255).save(picture)
    two.write_text(json.dumps({"instances": [BODY["instances"][0]] * 2}), encoding="utf-8")
    shown = ask("multi_grpc", "modelA", "--input", str(picture), "--classes", "fashion-mnist")
    assert "multi_grpc (gRPC, " in shown
    assert "modelA version 1, " in shown
    assert "Ankle boot" in shown
    made = ask("multi_http", "modelA", "--classes", "fashion-mnist").splitlines()
    assert made[1].startswith("  no --input: the request is made from the signature's inputs: ")
    assert shown.splitlines()[1:] == made[2:]
    assert "instance 1" in ask("multi_http", "modelB", "--version", "2", "--input", str(two))
    token = stack.service("multi_http")["token"]
    command = ask("multi_http", "modelB", "--version", "2", "--curl")
    assert token not in command
    assert token in ask("multi_http", "modelB", "--curl", "--show-token")
    if shutil.which("curl"):
        environment = {**os.environ, "TOKEN": token, "NO_PROXY": "*"}
        done = subprocess.run(["sh", "-c", command], env=environment, capture_output=True, text=True, check=True)
        assert json.loads(done.stdout)["predictions"][0] == predict(stack, "modelB/versions/2")
    refused = stack.run("predict", "multi_http", "modelB", "--grpc", module="ops")
    assert refused.code == 1
    assert "answers HTTP only" in refused.text
    assert "ask multi_grpc" in refused.text
    assert "Traceback" not in refused.text


def test_a_service_stopped_behind_the_stacks_back_is_drift_and_up_starts_it_again(stack: Checkout) -> None:
    stack.eas().stop_service("cn-hangzhou", "multi_http")
    found = stack.run("refresh", "--preview-only", "--expect-no-changes")
    assert found.code == 7, found.text
    assert "multi_http" in found.text
    stack.succeed("up", "--yes")
    assert predict(stack, "modelA")
    assert stack.run("preview", "--expect-no-changes").code == 0


@pytest.mark.parametrize("key", ["models/tf_serving/model_config.pbtxt", "models/tf_serving/modelB/1/saved_model.pb"])
def test_an_object_deleted_behind_the_stacks_back_is_drift_and_up_puts_it_back(stack: Checkout, key: str) -> None:
    client = stack.oss()
    client.delete_object(oss.DeleteObjectRequest(bucket="tf-serving-local", key=key))
    found = stack.run("refresh", "--preview-only", "--expect-no-changes")
    assert found.code == 7, found.text
    stack.succeed("refresh", "--yes")
    stack.succeed("up", "--yes")
    client.head_object(oss.HeadObjectRequest(bucket="tf-serving-local", key=key))
    assert stack.run("refresh", "--preview-only", "--expect-no-changes").code == 0
    assert predict(stack, "modelB/labels/stable")


MISTAKES: list[tuple[str, tuple[str, ...], Any, tuple[str, ...]]] = [
    ("a misspelt key", ("tf-serving:services", "multi_http", "prot"), 8501, ("multi_http.prot", "port")),
    ("a misspelt top-level key", ("tf-serving:modls",), {}, ("tf-serving:modls", "models")),
    ("a wrong type", ("tf-serving:services", "multi_http", "port"), "often", ("multi_http.port", "often")),
    ("a label to no version", ("tf-serving:models", "modelB", "labels", "stable"), 9, ("labels.stable", "9")),
    ("a label not served", ("tf-serving:models", "modelC", "labels"), {"old": 1}, ("modelC.labels.old", "1")),
    ("a missing model", ("tf-serving:models", "modelZ"), {"policy": "all"}, ("modelZ",)),
    ("port 8080", ("tf-serving:services", "multi_http", "port"), 8080, ("multi_http.port", "8080")),
    ("gRPC on another port", ("tf-serving:services", "multi_grpc", "port"), 8501, ("multi_grpc", "8500")),
    ("a bad service name", ("tf-serving:services", "Multi-HTTP"), {"deployment": "custom"}, ("Multi-HTTP",)),
]


@pytest.mark.parametrize(("mistake", "path", "value", "told"), MISTAKES, ids=[each[0] for each in MISTAKES])
def test_a_mistake_is_told_with_its_config_path_and_nothing_is_touched(
    stack: Checkout, mistake: str, path: tuple[str, ...], value: Any, told: tuple[str, ...]
) -> None:
    good, before = stack.stack_file.read_text(encoding="utf-8"), stack.processes()
    try:
        stack.set(value, *path)
        done = stack.run("up", "--yes")
    finally:
        stack.stack_file.write_text(good, encoding="utf-8")
    assert done.code not in (0, 7)
    assert "Traceback" not in done.text
    for part in told:
        assert part in done.text
    assert stack.processes() == before


@contextlib.contextmanager
def stray(stack: Checkout, path: str, content: bytes | None) -> Iterator[None]:
    place = stack.root / ".sandbox" / "models" / path
    made = place if content is not None else place / "saved_model.pb"
    kept = made.read_bytes() if made.exists() else None
    made.parent.mkdir(parents=True, exist_ok=True)
    if content is None:
        made.unlink()
    else:
        made.write_bytes(content)
    try:
        yield
    finally:
        if kept is None:
            made.unlink()
            with contextlib.suppress(OSError):
                made.parent.rmdir()
        else:
            made.write_bytes(kept)


def test_a_version_directory_that_is_not_a_number_is_told(stack: Checkout) -> None:
    with stray(stack, "modelA/v2/saved_model.pb", b"x"):
        done = stack.run("preview")
    assert done.code not in (0, 7)
    assert "v2" in done.text
    assert "Traceback" not in done.text


def test_a_version_without_saved_model_pb_is_told(stack: Checkout) -> None:
    with stray(stack, "modelB/2", None):
        done = stack.run("preview")
    assert done.code not in (0, 7)
    assert "saved_model.pb" in done.text
    assert "Traceback" not in done.text


def test_a_duplicate_model_name_is_told(stack: Checkout) -> None:
    good = stack.stack_file.read_text(encoding="utf-8")
    try:
        assert "    modelC:\n" in good
        stack.stack_file.write_text(good.replace("    modelC:\n", "    modelB:\n", 1), encoding="utf-8")
        done = stack.run("preview")
    finally:
        stack.stack_file.write_text(good, encoding="utf-8")
    assert done.code not in (0, 7)
    assert "modelB" in done.text
    assert "Traceback" not in done.text


def test_after_the_sandbox_was_killed_up_goes_on_and_no_model_server_is_left_over(stack: Checkout) -> None:
    pid = json.loads((stack.root / ".sandbox" / "cloud.json").read_text())["pid"]
    os.kill(pid, signal.SIGKILL)
    until(lambda: not stack.processes())
    printed = stack.succeed("up", module="local")
    assert "multi_http" in printed
    assert stack.run("preview", "--expect-no-changes").code == 0


def test_down_leaves_nothing_running_and_nothing_listening_and_a_taken_port_is_told(stack: Checkout) -> None:
    stack.succeed("down", module="local")
    assert stack.processes() == {}
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", stack.port))
        listener.listen()
        done = stack.run("up", module="local")
        assert done.code == 1
        assert str(stack.port) in done.text
        assert "tf-serving:endpoint" in done.text
        assert "Traceback" not in done.text
    assert "multi_grpc" in stack.succeed("up", module="local", timeout=600)
