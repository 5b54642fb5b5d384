"""The stack's own bucket: made public by hand, protected, renamed under load, stuck, and destroyed.

One stack for the whole file, so the tests run in order.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import alibabacloud_oss_v2 as oss
import pytest

from tests.e2e.checkout import BODY, Checkout, post
from tests.e2e.load import Load, Target
from tests.e2e.test_operations import ops

pytestmark = pytest.mark.slow

BUCKET = "tf-serving:bucket"
FIRST, SECOND = "first-bucket", "second-bucket"


@pytest.fixture(scope="module")
def stack(prepared: Checkout) -> Iterator[Checkout]:
    prepared.set({"name": FIRST}, BUCKET)
    prepared.succeed("up", module="local", timeout=600)
    yield prepared
    prepared.run("down", module="local")


def drift(stack: Checkout) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(ops(stack, "drift", "--format", "json")[1])
    return found


def answers(stack: Checkout) -> bool:
    service = stack.service("multi_http")
    return post(f"{service['url']}/v1/models/modelB/labels/stable:predict", service["token"], BODY)[0] == 200


def unchanged(stack: Checkout) -> None:
    stack.succeed("preview", "--expect-no-changes")


def test_a_bucket_that_became_public_is_in_every_preview_and_up_takes_that_away(stack: Checkout) -> None:
    unchanged(stack)
    client = stack.oss()
    client.put_bucket_acl(oss.PutBucketAclRequest(bucket=FIRST, acl="public-read"))
    statement = {"Effect": "Allow", "Principal": ["*"], "Action": ["oss:GetObject"], "Resource": ["acs:oss:*:*:*"]}
    policy = json.dumps({"Version": "1", "Statement": [statement]})
    client.put_bucket_policy(oss.PutBucketPolicyRequest(FIRST, body=policy))
    client.delete_bucket_encryption(oss.DeleteBucketEncryptionRequest(FIRST))
    printed = stack.succeed("preview")
    assert f"bucket {FIRST} is open to everybody: ACL public-read" in printed
    assert "policy statement 1 allows oss:GetObject to everybody" in printed
    assert stack.run("preview", "--expect-no-changes").code == 7
    stack.succeed("up", "--yes")
    unchanged(stack)
    assert drift(stack)["drift"] is False


def test_what_plain_up_does_not_look_at_names_the_command_that_does(stack: Checkout) -> None:
    client = stack.oss()
    rule = oss.CORSRule(allowed_origins=["*"], allowed_methods=["GET"])
    client.put_bucket_cors(oss.PutBucketCorsRequest(FIRST, oss.CORSConfiguration([rule])))
    listed = client.list_objects_v2(oss.ListObjectsV2Request(FIRST, prefix="models/tf_serving/modelC/3/")).contents
    client.delete_object(oss.DeleteObjectRequest(FIRST, next(i.key for i in listed if "variables" in i.key)))
    report = drift(stack)
    assert {each["subject"] for each in report["findings"]} == {"alicloud:oss/bucket:Bucket models-bucket", "modelC"}
    assert {each["todo"].partition(" puts")[0] for each in report["findings"]} == {"`pulumi up --refresh`"}
    stack.succeed("up", "--yes", "--refresh")
    assert drift(stack)["drift"] is False


@pytest.mark.parametrize(("key", "value"), [("storageClass", "IA"), ("redundancyType", "ZRS")])
def test_what_oss_cannot_change_is_refused_by_the_preview(stack: Checkout, key: str, value: str) -> None:
    stack.set({"name": FIRST, key: value}, BUCKET)
    done = stack.run("preview")
    stack.set({"name": FIRST}, BUCKET)
    assert done.code == 1
    assert f"tf-serving:bucket.{key}: bucket {FIRST} was made with" in done.text
    assert "name a new bucket in tf-serving:bucket.name" in done.text
    unchanged(stack)


def test_a_protected_bucket_is_destroyed_with_nothing_of_what_is_in_it(stack: Checkout) -> None:
    stack.set({"name": FIRST, "protect": True}, BUCKET)
    stack.succeed("up", "--yes", "--expect-no-changes")
    done = stack.run("destroy", "--yes")
    assert done.code != 0
    assert "protect" in done.text
    assert answers(stack)
    unchanged(stack)
    stack.set({"name": FIRST}, BUCKET)
    stack.succeed("up", "--yes", "--expect-no-changes")


def test_another_name_fails_no_request_and_a_file_of_others_is_named_before_it_is_in_the_way(stack: Checkout) -> None:
    client = stack.oss()
    client.put_object(oss.PutObjectRequest(FIRST, "data/train.csv", body=b"1,2"))
    stack.set({"name": SECOND}, BUCKET)
    what = f"bucket {FIRST} cannot be deleted while something is in it that this stack did not publish: 1 object"
    assert what in stack.succeed("preview")
    services = stack.outputs()["services"]
    with Load(services, [Target("modelB", label="stable"), Target("modelA"), Target("modelB", version=2)]) as load:
        done = stack.run("up", "--yes", timeout=600)
    assert load.failures == []
    assert len(load.requests) == 3 * len(services)
    assert done.code == 1
    assert what in done.text
    assert answers(stack)
    versions = client.list_object_versions(oss.ListObjectVersionsRequest(FIRST, max_keys=1000))
    assert [each.key for each in versions.version or ()] == ["data/train.csv"]
    assert not versions.delete_marker


def test_a_bucket_whose_deletion_failed_is_emptied_by_command_and_goes_with_the_next_up(stack: Checkout) -> None:
    stack.set({"name": SECOND, "forceDestroy": True}, BUCKET)  # does not reach the old one
    assert stack.run("up", "--yes").code == 1
    code, printed, _ = ops(stack, "bucket", "show", FIRST)
    assert (code, "in the way of a deletion: 1 object of others (data/train.csv)" in printed) == (1, True)
    refused = subprocess.run(
        [sys.executable, "-m", "ops", "bucket", "empty", FIRST, "--everything"],
        cwd=stack.root, input="yes\n", text=True, capture_output=True, timeout=300, check=False,
    )  # fmt: skip
    assert (refused.returncode, "nothing was deleted" in refused.stdout) == (1, True)
    assert stack.oss().is_object_exist(FIRST, "data/train.csv")
    code, printed, _ = ops(stack, "bucket", "empty", FIRST, "--everything", "--yes")
    assert code == 0, printed
    stack.succeed("up", "--yes")
    assert not stack.oss().is_bucket_exist(FIRST)
    unchanged(stack)


def test_a_destroyed_stack_leaves_no_bucket_although_it_is_not_emptied_by_force(stack: Checkout) -> None:
    stack.set({"name": SECOND}, BUCKET)
    stack.succeed("up", "--yes")
    stack.succeed("destroy", "--yes")
    assert not stack.oss().is_bucket_exist(SECOND)
