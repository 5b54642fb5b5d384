"""Replacements that keep their names, under the Pulumi CLI.

The new resource takes over what is there, and the deletion of the original follows.
"""

from __future__ import annotations

import copy
import json
from typing import Any

import alibabacloud_oss_v2 as oss
import pytest

from tests.e2e.checkout import BODY, post
from tests.live.cli import Cli

pytestmark = pytest.mark.slow

BUCKET = "tf-serving-local"
REPLACED = ("multi_http-service", "models-modelB", "models-config")


@pytest.fixture(scope="module")
def stack(cli: Cli) -> Cli:
    """The stack, deployed; each test leaves it up to date."""
    cli.succeed("up", "--yes", "--skip-preview")
    return cli


def keys_of(cli: Cli) -> set[str]:
    listed = cli.checkout.oss().list_objects_v2(oss.ListObjectsV2Request(bucket=BUCKET, max_keys=1000))
    return {item.key for item in listed.contents or ()}


def is_whole(cli: Cli, keys: set[str]) -> None:
    """Everything is there, answers, and is what the stack says."""
    assert keys_of(cli) == keys
    for service in cli.json("stack", "output", "services", "--show-secrets").values():
        if "url" in service:
            for path in ("modelB/labels/stable", "modelA", "modelC"):
                status, answer = post(f"{service['url']}/v1/models/{path}:predict", service["token"], BODY)
                assert status == 200, answer
    cli.succeed("preview", "--expect-no-changes")
    cli.succeed("refresh", "--preview-only", "--expect-no-changes")


@pytest.mark.parametrize("name", REPLACED)
@pytest.mark.parametrize("how", ["--replace", "taint"])
def test_what_a_replacement_takes_over_is_not_deleted_with_the_original(stack: Cli, name: str, how: str) -> None:
    keys, urn = keys_of(stack), stack.resources[name]["urn"]
    if how == "taint":
        stack.succeed("state", "taint", urn, "--yes")
        printed = stack.succeed("up", "--yes", "--skip-preview")
    else:
        printed = stack.succeed("up", "--yes", "--skip-preview", "--replace", urn)
    assert "replaced" in printed
    is_whole(stack, keys)


@pytest.mark.parametrize("name", REPLACED)
def test_an_original_that_a_killed_run_left_to_be_deleted_does_not_take_along_what_is_live(
    stack: Cli, name: str
) -> None:
    keys = keys_of(stack)
    before: dict[str, Any] = json.loads(stack.succeed("stack", "export", "--show-secrets"))
    original = next(each for each in before["deployment"]["resources"] if each["urn"].endswith(f"::{name}"))
    stack.succeed("up", "--yes", "--skip-preview", "--replace", original["urn"])
    killed = json.loads(stack.succeed("stack", "export", "--show-secrets"))
    killed["deployment"]["resources"].append({**copy.deepcopy(original), "delete": True})
    file = stack.checkout.root / "killed.json"
    file.write_text(json.dumps(killed), encoding="utf-8")
    try:
        stack.run("stack", "import", "--file", str(file))
    finally:
        file.unlink()
    assert "stays: a newer resource" in stack.succeed("up", "--yes", "--skip-preview")
    is_whole(stack, keys)


def test_another_region_has_services_of_its_own_and_the_models_stay(stack: Cli) -> None:
    keys, good = keys_of(stack), stack.checkout.stack_file.read_text(encoding="utf-8")
    stack.checkout.set("cn-shanghai", "alicloud:region")
    try:
        stack.succeed("up", "--yes", "--skip-preview")
        is_whole(stack, keys)
    finally:
        stack.checkout.stack_file.write_text(good, encoding="utf-8")
    stack.succeed("up", "--yes", "--skip-preview")
    is_whole(stack, keys)
