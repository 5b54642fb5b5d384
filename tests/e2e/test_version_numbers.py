"""Versions named by time: two that differ only in the last of 17 digits, and one of 19, in a real stack."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib import request

import alibabacloud_oss_v2 as oss
import pytest

from tests.e2e.checkout import BODY, Checkout, post
from tests.e2e.load import Load, Target
from tests.waiting import until
from tfserving.client import connect
from tfserving.model_config import Model, ModelServerConfig, parse, render

pytestmark = pytest.mark.slow

MODELS = "tf-serving:models"
CONFIG_FILE = "models/tf_serving/model_config.pbtxt"
FIRST, SECOND = 20240115093000123, 20240115093000124
NANOSECONDS = 1705310000123456789
SERVICES = ("multi_http", "multi_grpc")


@pytest.fixture(scope="module")
def stack(prepared: Checkout) -> Iterator[Checkout]:
    """modelB with two versions named by milliseconds, modelA with one named by nanoseconds, also served alone."""
    models = prepared.root / ".sandbox" / "models"
    (models / "modelB" / "1").rename(models / "modelB" / str(FIRST))
    (models / "modelB" / "2").rename(models / "modelB" / str(SECOND))
    shutil.copytree(models / "modelA" / "1", models / "modelA" / str(NANOSECONDS))
    prepared.set({"specific": [FIRST, SECOND]}, MODELS, "modelB", "policy")
    prepared.set({"stable": FIRST, "canary": SECOND}, MODELS, "modelB", "labels")
    prepared.set(None, MODELS, "modelC")
    alone = {"deployment": "custom", "image": "tensorflow-serving:2.14.1", "port": 8501, "model": "modelA"}
    alone["modelName"] = "modelA"
    prepared.set(alone, "tf-serving:services", "alone")
    prepared.succeed("up", module="local", timeout=900)
    yield prepared
    prepared.run("down", module="local")


def predict(stack: Checkout, path: str) -> list[float]:
    found = stack.service("multi_http")
    status, answer = post(f"{found['url']}/v1/models/{path}:predict", found["token"], BODY)
    assert status == 200, answer
    return answer["predictions"][0]


def labels(stack: Checkout, service: str) -> dict[str, int]:
    """The version that answers each label, from the service itself, over its own protocol."""
    found = stack.service(service)
    address = {"target": found["target"]} if "target" in found else {"url": found["url"]}
    with connect(**address, token=found["token"]) as client:
        assert {status.version for status in client.status("modelB") if status.state == "AVAILABLE"} == {FIRST, SECOND}
        return {label: client.labelled_version("modelB", label) for label in ("stable", "canary")}


def config_text(stack: Checkout) -> str:
    bucket = stack.config()["config"]["tf-serving:bucket"]["name"]
    found = stack.oss().get_object(oss.GetObjectRequest(bucket=bucket, key=CONFIG_FILE))
    return found.body.content.decode()


def config_file(stack: Checkout) -> dict[str, Model]:
    return {model.name: model for model in parse(config_text(stack)).models}


def overview(stack: Checkout) -> Any:
    with request.urlopen(f"http://127.0.0.1:{stack.port}/-/console/api/overview", timeout=30) as answer:
        return {service["name"]: service for service in json.loads(answer.read(), parse_int=float)["services"]}


def no_change(stack: Checkout) -> None:
    for arguments in (["preview"], ["refresh", "--preview-only"]):
        done = stack.run(*arguments, "--expect-no-changes")
        assert done.code == 0, done.text
    assert "no drift" in stack.succeed("drift", module="ops")


def test_each_label_answers_by_its_own_version_over_both_protocols(stack: Checkout) -> None:
    model = config_file(stack)["modelB"]
    assert model.policy.versions == (FIRST, SECOND)
    assert dict(model.labels) == {"stable": FIRST, "canary": SECOND}
    for service in SERVICES:
        assert labels(stack, service) == {"stable": FIRST, "canary": SECOND}
    first, second = (predict(stack, f"modelB/versions/{version}") for version in (FIRST, SECOND))
    assert first != second
    assert predict(stack, "modelB/labels/stable") == first
    assert predict(stack, "modelB/labels/canary") == second
    no_change(stack)


def test_nineteen_digits_are_served_alone_and_beside_others(stack: Checkout) -> None:
    assert stack.service("alone")["models"] == {"modelA": {"labels": {}, "versions": [str(NANOSECONDS)]}}
    assert stack.service("multi_grpc")["models"]["modelA"]["versions"] == [1, str(NANOSECONDS)]
    assert predict(stack, f"modelA/versions/{NANOSECONDS}")


def test_outputs_state_and_console_have_every_digit_wherever_they_are_read(stack: Checkout) -> None:
    exported = stack.outputs()
    for service in SERVICES:
        assert exported["services"][service]["models"]["modelB"] == {
            "versions": [str(FIRST), str(SECOND)],
            "labels": {"stable": str(FIRST), "canary": str(SECOND)},
        }
    shown = overview(stack)["multi_http"]["models"]
    (model,) = [each for each in shown if each["name"] == "modelB"]
    assert [each["version"] for each in model["versions"]] == [str(SECOND), str(FIRST)]
    assert {each["label"]: each["answered"] for each in model["labels"]} == {
        "stable": [str(FIRST)],
        "canary": [str(SECOND)],
    }
    (state,) = (path for path in (stack.root / ".sandbox").rglob("local.json") if "deployment" in path.read_text())
    text = state.read_text(encoding="utf-8")
    assert f'"{FIRST}"' in text
    assert "e+16" not in text
    if node := shutil.which("node"):
        script = (
            "console.log(JSON.parse(require('fs').readFileSync(0)).services.multi_http.models.modelB.labels.stable)"
        )
        printed = subprocess.run([node, "-e", script], input=json.dumps(exported), text=True, capture_output=True)
        assert printed.stdout.strip() == str(FIRST)


def test_a_prediction_by_version_or_label_names_the_version_exactly(stack: Checkout, tmp_path: Path) -> None:
    sample = tmp_path / "request.json"
    sample.write_text(json.dumps(BODY["instances"]), encoding="utf-8")
    for service, by in (("multi_http", ["--version", str(SECOND)]), ("multi_grpc", ["--label", "canary"])):
        printed = stack.succeed("predict", service, "modelB", *by, "--input", str(sample), module="ops")
        assert str(SECOND) in printed


def test_a_label_that_moves_by_the_last_digit_is_previewed_rolled_out_and_clean_afterwards(stack: Checkout) -> None:
    stack.set(SECOND, MODELS, "modelB", "labels", "stable")
    preview = stack.run("preview", "--expect-no-changes")
    assert preview.code != 0
    assert f"modelB: label stable {FIRST} -> {SECOND}" in preview.text
    comment = stack.succeed("preview-comment", module="ops")
    assert f"modelB: label stable {FIRST} -> {SECOND}" in comment
    targets = (Target("modelB", label="stable"), Target("modelB", label="canary"), Target("modelB", version=FIRST))
    with Load({name: stack.service(name) for name in SERVICES}, targets) as load:
        stack.succeed("up", "--yes")
    assert load.failures == []
    for service in SERVICES:
        assert labels(stack, service) == {"stable": SECOND, "canary": SECOND}
    no_change(stack)


def test_a_label_moved_by_hand_by_the_last_digit_is_drift(stack: Checkout) -> None:
    # Both stand on ...124 by now. By hand one is put back on ...123, which as a double is the same number.
    model = config_file(stack)["modelB"]
    moved = replace(model, labels={**model.labels, "stable": FIRST})
    owner = config_text(stack).splitlines()[0]
    text = f"{owner}\n{render(ModelServerConfig((config_file(stack)['modelA'], moved)))}"
    bucket = stack.config()["config"]["tf-serving:bucket"]["name"]
    stack.oss().put_object(oss.PutObjectRequest(bucket=bucket, key=CONFIG_FILE, body=text.encode()))
    until(lambda: labels(stack, "multi_http")["stable"] == labels(stack, "multi_grpc")["stable"] == FIRST, 90)
    found = stack.run("drift", module="ops")
    assert found.code == 7
    assert f"multi_http: modelB label stable is answered by version {FIRST}, not {SECOND}" in found.text
    stack.succeed("up", "--yes")
    assert labels(stack, "multi_grpc") == {"stable": SECOND, "canary": SECOND}
    no_change(stack)
