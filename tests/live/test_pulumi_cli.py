"""The program under the Pulumi CLI, against the sandbox cloud: what a person does after `make cloud`.

One stack for the whole file, so the tests run in order and leave the stack as they found it.
"""

from __future__ import annotations

import json
import os
import signal
import time
from typing import Any

import alibabacloud_oss_v2 as oss
import pytest
from alibabacloud_eas20210701.models import ListServicesRequest

from tests.e2e.checkout import BODY, post
from tests.live.cli import Cli

pytestmark = pytest.mark.slow

BUCKET = "tf-serving-local"
STABLE = "tf-serving:models.modelB.labels.stable"


@pytest.fixture(scope="module")
def stack(cli: Cli) -> Cli:
    """The stack, deployed."""
    printed = cli.succeed("up", "--yes", "--skip-preview")
    assert "+ 16 created" in printed
    return cli


def services(cli: Cli) -> dict[str, Any]:
    found: dict[str, Any] = cli.json("stack", "output", "services", "--show-secrets")
    return found


def predict(cli: Cli, path: str) -> Any:
    service = services(cli)["multi_http"]
    status, answer = post(f"{service['url']}/v1/models/{path}:predict", service["token"], BODY)
    assert status == 200, answer
    return answer["predictions"][0]


def test_an_up_to_date_stack_shows_no_change_and_its_file_stays_as_it_is(stack: Cli) -> None:
    before = stack.checkout.stack_file.read_text(encoding="utf-8"), stack.checkout.processes()
    assert "16 unchanged" in stack.succeed("preview", "--expect-no-changes")
    assert "16 unchanged" in stack.succeed("refresh", "--preview-only", "--expect-no-changes")
    assert "16 unchanged" in stack.succeed("up", "--yes", "--skip-preview", "--expect-no-changes")
    assert (stack.checkout.stack_file.read_text(encoding="utf-8"), stack.checkout.processes()) == before


def test_tokens_are_in_the_state_only_encrypted_and_in_nothing_that_is_printed(stack: Cli) -> None:
    tokens = [service["token"] for service in services(stack).values()]
    assert len(tokens) == 2
    printed = stack.succeed("preview", "--diff") + stack.succeed("stack", "output", "--json")
    stored = "".join(path.read_text(encoding="utf-8", errors="replace") for path in stack.state_files)
    assert "ciphertext" in stored
    for token in tokens:
        assert len(token) > 16
        assert token not in printed
        assert token not in stored


def test_a_promotion_is_a_config_set_that_is_previewed_as_such_and_restarts_nothing(stack: Cli) -> None:
    file, before = stack.checkout.stack_file.read_text(encoding="utf-8"), stack.checkout.processes()
    second = predict(stack, "modelB/versions/2")
    stack.succeed("config", "set", "--path", STABLE, "2")
    assert stack.checkout.stack_file.read_text(encoding="utf-8") == file.replace("stable: 1", "stable: 2")
    preview = stack.succeed("preview")
    assert "modelB: label stable 1 -> 2" in preview
    assert "~ 1 to update" in preview
    stack.succeed("up", "--yes", "--skip-preview")
    assert predict(stack, "modelB/labels/stable") == second
    stack.succeed("config", "set", "--path", STABLE, "1")
    assert "modelB: label stable 2 -> 1" in stack.succeed("up", "--yes")
    assert predict(stack, "modelB/labels/stable") != second
    assert stack.checkout.stack_file.read_text(encoding="utf-8") == file
    assert stack.checkout.processes() == before


def test_preview_json_has_the_shape_that_the_sandbox_engine_imitates(stack: Cli) -> None:
    stack.checkout.set(2, "tf-serving:models", "modelB", "labels", "stable")
    try:
        digest = stack.json("preview")
    finally:
        stack.checkout.set(1, "tf-serving:models", "modelB", "labels", "stable")
    assert digest["changeSummary"] == {"same": 15, "update": 1}
    update = next(step for step in digest["steps"] if step["op"] == "update")
    assert update["urn"].endswith("tfserving:index:ServedConfig::served")
    assert update["diffReasons"] == ["models"]
    assert update["detailedDiff"] == {"models.modelB.labels.stable": {"kind": "update", "inputDiff": True}}
    refreshed = {step["urn"].rpartition("::")[2] for step in digest["steps"] if step["op"] == "refresh"}
    assert refreshed == {"models-config", "models-contents", "multi_grpc-service", "multi_http-service", "served"}
    told = [(each["severity"], each["message"]) for each in digest["diagnostics"] if each.get("urn")]
    assert ("info", "modelB: label stable 1 -> 2\n") in told


def test_a_mistake_in_the_config_is_told_once_and_without_a_traceback(stack: Cli) -> None:
    good = stack.checkout.stack_file.read_text(encoding="utf-8")
    stack.checkout.set(8080, "tf-serving:services", "multi_http", "prt")
    stack.checkout.set("x", "tf-serving:modlRoot")
    try:
        done = stack.run("up", "--yes")
    finally:
        stack.checkout.stack_file.write_text(good, encoding="utf-8")
    assert done.code == 1
    diagnostics = done.text.partition("Diagnostics:")[2]
    assert diagnostics.count("tf-serving:modlRoot: unknown key") == 1
    assert diagnostics.count("multi_http.prt: unknown key 'prt'. Fix: did you mean 'port'") == 1
    assert "Traceback" not in done.text


def test_a_service_stopped_behind_the_stacks_back_is_drift_that_preview_sees_and_up_repairs(stack: Cli) -> None:
    stack.checkout.eas().stop_service("cn-hangzhou", "multi_http")
    assert stack.run("refresh", "--preview-only", "--expect-no-changes").code == 7
    found = stack.run("preview", "--expect-no-changes")
    assert found.code == 7, found.text
    assert "multi_http" in found.text
    stack.succeed("up", "--yes", "--skip-preview")
    assert predict(stack, "modelA")
    stack.succeed("preview", "--expect-no-changes")


def test_an_object_deleted_behind_the_stacks_back_is_drift_and_up_puts_it_back(stack: Cli) -> None:
    client, key = stack.checkout.oss(), "models/tf_serving/modelB/1/saved_model.pb"
    client.delete_object(oss.DeleteObjectRequest(bucket=BUCKET, key=key))
    found = stack.run("refresh", "--preview-only", "--expect-no-changes")
    assert found.code == 7, found.text
    stack.succeed("up", "--yes", "--skip-preview", "--refresh")
    assert client.is_object_exist(BUCKET, key)
    stack.succeed("refresh", "--preview-only", "--expect-no-changes")


def test_a_service_that_cannot_start_keeps_its_partial_state_and_the_next_up_repairs_it(stack: Cli) -> None:
    good = stack.checkout.stack_file.read_text(encoding="utf-8")
    added = {"deployment": "custom", "image": "tensorflow-serving:2.14.1", "port": 8501, "model": "modelA"}
    stack.checkout.set(
        added | {"flags": {"monitoring_config_file": "/models/nothing.txt"}}, "tf-serving:services", "broken"
    )
    try:
        failed = stack.run("up", "--yes", "--skip-preview")
        assert failed.code == 1, failed.text
        assert "Traceback" not in failed.text
        assert "/models/nothing.txt" in failed.text
        assert stack.resources["broken-service"]["initErrors"]
        stack.checkout.set(added, "tf-serving:services", "broken")
        stack.succeed("up", "--yes", "--skip-preview")
        assert "initErrors" not in stack.resources["broken-service"]
    finally:
        stack.checkout.stack_file.write_text(good, encoding="utf-8")
    assert "- 3 deleted" in stack.succeed("up", "--yes", "--skip-preview")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_up_loses_nothing_and_the_next_one_continues(stack: Cli, number: signal.Signals) -> None:
    stack.succeed("destroy", "--yes", "--skip-preview")
    run = stack.start("up", "--yes", "--skip-preview")
    deadline = time.monotonic() + 240
    while len(stack.checkout.processes()) < 2:  # the services are being made
        assert time.monotonic() < deadline
        assert run.poll() is None, run.communicate()[0]
        time.sleep(0.1)
    os.kill(run.pid, number)
    printed = run.communicate(timeout=120)[0]
    assert run.returncode != 0
    assert "Traceback" not in printed
    if number is signal.SIGKILL:
        stack.succeed("cancel", "--yes")  # a killed CLI leaves its lock
    stack.succeed("up", "--yes", "--skip-preview")
    stack.succeed("preview", "--expect-no-changes")
    # The CLI never forgets a create it did not see end; what was made has been taken up again, so it may.
    stack.succeed("refresh", "--yes", "--skip-preview", "--clear-pending-creates")
    exported = json.loads(stack.succeed("stack", "export"))
    assert not exported["deployment"].get("pending_operations")
    assert predict(stack, "modelB/labels/stable")


def test_destroy_leaves_no_service_no_object_and_no_process(stack: Cli) -> None:
    stack.succeed("destroy", "--yes")
    assert stack.checkout.processes() == {}
    assert stack.checkout.eas().list_services(ListServicesRequest()).body.total_count == 0
    with pytest.raises(oss.exceptions.OperationError, match="NoSuchBucket"):
        stack.checkout.oss().get_bucket_info(oss.GetBucketInfoRequest(bucket=BUCKET))
    assert stack.resources == {}
