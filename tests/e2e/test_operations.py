"""Previews and drift checks against what is true: make the change, run the tool, compare what it says.

One stack for the whole file, so the tests run in order and leave the stack as they found it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import alibabacloud_oss_v2 as oss
import pytest

from ops import comment
from tests.e2e.checkout import Checkout
from tests.ops.github_mock import TOKEN, serve
from tests.waiting import until

pytestmark = pytest.mark.slow

MODELS, SERVICES = "tf-serving:models", "tf-serving:services"
CONFIG_FILE = "models/tf_serving/model_config.pbtxt"


@pytest.fixture(scope="module")
def stack(prepared: Checkout) -> Iterator[Checkout]:
    prepared.succeed("up", module="local", timeout=600)
    yield prepared
    prepared.run("down", module="local")


@pytest.fixture
def edited(stack: Checkout) -> Iterator[Checkout]:
    """The stack file as it was, once the test is over."""
    good = stack.stack_file.read_text(encoding="utf-8")
    yield stack
    stack.stack_file.write_text(good, encoding="utf-8")


def ops(stack: Checkout, *arguments: str, env: dict[str, str] | None = None) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "ops", *arguments],
        cwd=stack.root,
        env={**os.environ, "PYTHONPATH": str(stack.root), **(env or {})},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert "Traceback" not in done.stdout + done.stderr
    return done.returncode, done.stdout, done.stderr


def drift(stack: Checkout, env: dict[str, str] | None = None) -> tuple[int, dict[str, Any]]:
    code, printed, _ = ops(stack, "drift", "--format", "json", env=env)
    return code, json.loads(printed)


def found(report: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [(each["kind"], each["subject"], each["text"]) for each in report["findings"]]


def test_an_untouched_stack_has_no_drift_twice_and_no_changes(stack: Checkout) -> None:
    for _ in range(2):
        code, report = drift(stack)
        assert (code, report["drift"], report["findings"], report["unchecked"]) == (0, False, [], [])
    code, printed, _ = ops(stack, "preview-comment")
    assert code == 0
    assert "No changes" in printed


def test_a_promotion_is_one_line_in_the_comment_and_code_that_is_ahead(edited: Checkout) -> None:
    edited.set(2, MODELS, "modelB", "labels", "stable")
    _, printed, _ = ops(edited, "preview-comment")
    assert "- `modelB: label stable 1 -> 2`\n" in printed
    assert "1. `step 1 of 1, move: modelB: label stable 1 -> 2`" in printed
    code, report = drift(edited)
    assert (code, found(report)) == (7, [("code", "", "modelB: label stable 1 -> 2")])


def test_a_new_version_is_told_with_the_files_and_bytes_it_has(edited: Checkout) -> None:
    source = edited.root / ".sandbox" / "models" / "modelC"
    shutil.copytree(source / "3", source / "4")
    try:
        files = [file for file in (source / "4").rglob("*") if file.is_file()]
        size = sum(file.stat().st_size for file in files) / 1000
        edited.set({"specific": [3, 4]}, MODELS, "modelC", "policy")
        edited.set("tensorflow-serving:2.17.1", SERVICES, "multi_grpc", "image")
        code, printed, _ = ops(edited, "preview-comment")
    finally:
        shutil.rmtree(source / "4")
    assert code == 0
    assert f"- `modelC: + version 4 ({len(files)} files, {size:.1f} KB)`" in printed
    assert "- `multi_grpc: image 2.14.1 -> 2.17.1, rolling restart`" in printed
    assert "widen: modelC serves 2, 3, 4; wait until 4 is AVAILABLE" in printed


def test_no_secret_of_a_service_is_in_the_comment(edited: Checkout) -> None:
    edited.set({"DB_PASSWORD": "hunter2-and-more", "LOG_LEVEL": "3"}, SERVICES, "multi_http", "env")
    edited.set(None, SERVICES, "multi_grpc")
    code, printed, complaint = ops(edited, "preview-comment")
    assert code == 0
    assert "DB_PASSWORD" in printed
    assert "**Deletes** `- service multi_grpc" in printed
    secrets = ["hunter2-and-more", *(each["token"] for each in edited.outputs()["services"].values())]
    assert not [secret for secret in secrets if secret in printed + complaint]


def test_a_hostile_name_fails_the_preview_and_is_nothing_but_code_in_the_comment(edited: Checkout) -> None:
    name = "@all <img src=x> | ```\n# Approved"
    edited.set({"policy": "all"}, MODELS, name)
    code, printed, _ = ops(edited, "preview-comment")
    assert code == 1
    assert "### Preview of stack `local` failed" in printed
    assert "# Approved" not in printed.splitlines()
    fence = next(line for line in printed.splitlines() if line.startswith("```"))
    inside = printed.split(fence)[1]
    assert "<img src=x>" in inside
    assert "<img" not in printed.replace(inside, "")


def test_the_comment_is_updated_in_place_on_a_pull_request_with_many(edited: Checkout) -> None:
    edited.set(2, MODELS, "modelB", "labels", "stable")
    marker = comment.marker("preview", "local")
    with serve() as github:
        github.comment(5, f"{marker}\nwhat an earlier run said")
        for i in range(130):
            github.comment(5, f"talk {i}", "someone")
        env = {"GITHUB_TOKEN": TOKEN, "GITHUB_REPOSITORY": "owner/name", "GITHUB_API_URL": github.api}
        code, printed, complaint = ops(edited, "preview-comment", "--post", "--pull-request", "5", env=env)
        assert code == 0, complaint
        [body] = [each["body"] for each in github.comments[5] if each["body"].startswith(marker)]
        assert "modelB: label stable 1 -> 2" in body
        assert len(github.comments[5]) == 131
        assert TOKEN not in printed


def test_what_was_changed_behind_the_stacks_back_is_told_by_what_moved_and_has_one_issue(stack: Checkout) -> None:
    client = stack.oss()
    request = oss.GetObjectRequest(bucket="tf-serving-local", key=CONFIG_FILE)
    text = client.get_object(request).body.read().decode()
    changed = text.replace("key: 'stable'\n      value: 1", "key: 'stable'\n      value: 2")
    assert changed != text
    client.put_object(oss.PutObjectRequest(bucket="tf-serving-local", key=CONFIG_FILE, body=changed.encode()))
    stack.eas().stop_service("cn-hangzhou", "multi_http")
    ask = ("predict", "multi_grpc", "modelB", "--label", "stable")
    until(lambda: "version 2" in stack.run(*ask, module="ops").text, 240, "that the label moves")
    with serve() as github:
        env = {"GITHUB_TOKEN": TOKEN, "GITHUB_REPOSITORY": "owner/name", "GITHUB_API_URL": github.api}
        code, printed, complaint = ops(stack, "drift", "--issue", env=env)
        assert code == 7, printed + complaint
        assert "multi_http: status Running -> Stopped" in printed
        assert "multi_http: serves nothing" in printed
        assert "multi_grpc: modelB label stable is answered by version 2, not 1" in printed
        assert "The code is ahead" not in printed
        [issue] = github.issues.values()
        assert issue["state"] == "open"
        assert "modelB label stable is answered by version 2, not 1" in issue["body"]
        stack.succeed("up", "--yes")
        code, printed, complaint = ops(stack, "drift", "--issue", env=env)
        assert code == 0, printed + complaint
        assert issue["state"] == "closed"


def test_a_service_that_hangs_is_not_reported_as_no_drift(stack: Checkout) -> None:
    stopped = [pid for line, pid in stack.processes().items() if "--port=" in line or "rest_api_port" in line][:1]
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        code, report = drift(stack)
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
    assert code == 1
    assert report["drift"] is None
    assert report["findings"] == []
    assert "no answer" in report["unchecked"][0]


def test_a_cloud_that_is_down_is_could_not_check(stack: Checkout) -> None:
    stack.succeed("cloud", "stop")
    try:
        code, report = drift(stack)
        assert code not in (0, 7)
        assert report["drift"] is None
        assert report["unchecked"]
    finally:
        stack.succeed("cloud", "start")
        stack.succeed("up", "--yes")


def test_a_killed_update_is_drift_until_the_next_one_finishes_it(edited: Checkout) -> None:
    edited.set({"LOG_LEVEL": "3"}, SERVICES, "multi_http", "env")
    edited.set({"LOG_LEVEL": "3"}, SERVICES, "multi_grpc", "env")
    running = subprocess.Popen(
        [sys.executable, "-m", "sandbox", "up", "--yes", "--parallel", "1"],
        cwd=edited.root,
        env={**os.environ, "PYTHONPATH": str(edited.root)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert running.stdout is not None
    for line in running.stdout:
        if "updating" in line:
            break
    with contextlib.suppress(ProcessLookupError):
        os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    code, report = drift(edited)
    assert code == 7, report
    assert "env" in json.dumps(report["findings"])
    edited.succeed("up", "--yes")
    code, report = drift(edited)
    assert code == 0, report


def test_without_credentials_nothing_is_said_to_be_fine(stack: Checkout, tmp_path: Path) -> None:
    good = stack.stack_file.read_text(encoding="utf-8")
    # A profile, because keys in the stack config are in the state, too, and the sandbox engine has some of its own.
    (tmp_path / "somebody" / ".aliyun").mkdir(parents=True)
    key = {"access_key_id": stack.access_key.id, "access_key_secret": stack.access_key.secret}
    keys = {"mode": "AK", **key, "region_id": "cn-hangzhou"}
    (tmp_path / "somebody" / ".aliyun" / "config.json").write_text(
        json.dumps({"current": "deployer", "profiles": [{"name": "deployer", **keys}]}), encoding="utf-8"
    )
    stack.set("deployer", "alicloud:profile")
    try:
        assert stack.run("up", "--yes", env={"HOME": str(tmp_path / "somebody")}).code == 0
        code, report = drift(stack, {"HOME": str(tmp_path / "nobody")})
    finally:
        stack.stack_file.write_text(good, encoding="utf-8")
        stack.succeed("up", "--yes")
    assert code not in (0, 7)
    assert report["drift"] is None
    assert "credential" in " ".join(report["unchecked"]).lower()
