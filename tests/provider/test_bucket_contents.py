"""The resource beside a stack's bucket, against the sandbox cloud."""

from __future__ import annotations

import json
import threading
import uuid
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import alibabacloud_oss_v2 as oss
import pytest
from pulumi.runtime.proto import engine_pb2

from provider.bucket_contents import BucketContents
from provider.clients import Clients, NoCredentialsError
from provider.own_bucket import OwnBucket
from provider.resource import Context
from tests.provider.harness import OWNER, Cloud, Failed, LocalModels, Plugin, Stack
from tfserving.errors import CloudError

pytestmark = pytest.mark.slow

PUBLIC = {"Effect": "Allow", "Principal": ["*"], "Action": ["oss:GetObject"], "Resource": ["acs:oss:*:*:*"]}
PARTNER = PUBLIC | {"Principal": ["1234567890123456"]}


@pytest.fixture
def bucket(cloud: Cloud) -> str:
    """A bucket with versioning and encryption, as the stack makes it."""
    name = f"own-{uuid.uuid4().hex[:12]}"
    cloud.oss.put_bucket(oss.PutBucketRequest(bucket=name))
    cloud.oss.put_bucket_versioning(oss.PutBucketVersioningRequest(name, oss.VersioningConfiguration("Enabled")))
    rule = oss.ServerSideEncryptionRule(oss.ApplyServerSideEncryptionByDefault(sse_algorithm="AES256"))
    cloud.oss.put_bucket_encryption(oss.PutBucketEncryptionRequest(name, rule))
    return name


def declared(bucket: str, **more: Any) -> dict[str, Any]:
    inputs = {"bucket": bucket, "owner": OWNER, "storageClass": "Standard", "redundancyType": "LRS"}
    return inputs | {"encryption": "AES256", "forceDestroy": False} | more


@pytest.fixture
def contents(clouded: Plugin, bucket: str) -> Stack:
    made = Stack(clouded, "BucketContents")
    assert made.up(declared(bucket)) == "create"
    return made


def warnings(stack: Stack) -> str:
    return "\n".join(stack.plugin.engine.lines(engine_pb2.WARNING))


def test_an_untouched_bucket_is_no_change(contents: Stack, bucket: str) -> None:
    assert contents.refresh() == {}
    assert contents.up(declared(bucket)) == "same"


def test_whatever_makes_it_public_is_seen_and_taken_away(contents: Stack, bucket: str, cloud: Cloud) -> None:
    cloud.oss.put_bucket_acl(oss.PutBucketAclRequest(bucket=bucket, acl="public-read"))
    body = json.dumps({"Version": "1", "Statement": [PUBLIC, PARTNER]})
    cloud.oss.put_bucket_policy(oss.PutBucketPolicyRequest(bucket, body=body))
    assert "public" in contents.refresh()
    assert contents.outputs["public"] == [
        "ACL public-read", "policy statement 1 allows oss:GetObject to everybody",
    ]  # fmt: skip
    assert contents.up(declared(bucket)) == "update"
    assert cloud.oss.get_bucket_info(oss.GetBucketInfoRequest(bucket)).bucket_info.acl == "private"
    left = json.loads(cloud.oss.get_bucket_policy(oss.GetBucketPolicyRequest(bucket)).body)
    assert left["Statement"] == [PARTNER]
    assert contents.up(declared(bucket)) == "same"


def test_a_policy_of_nothing_but_public_statements_goes(contents: Stack, bucket: str, cloud: Cloud) -> None:
    body = json.dumps({"Version": "1", "Statement": [PUBLIC]})
    cloud.oss.put_bucket_policy(oss.PutBucketPolicyRequest(bucket, body=body))
    assert contents.up(declared(bucket)) == "update"
    with pytest.raises(oss.exceptions.OperationError):
        cloud.oss.get_bucket_policy(oss.GetBucketPolicyRequest(bucket))


def test_a_policy_for_somebody_is_no_change(contents: Stack, bucket: str, cloud: Cloud) -> None:
    body = json.dumps({"Version": "1", "Statement": [PARTNER]})
    cloud.oss.put_bucket_policy(oss.PutBucketPolicyRequest(bucket, body=body))
    assert contents.up(declared(bucket)) == "same"


def test_public_access_that_oss_blocks_is_none(contents: Stack, bucket: str, cloud: Cloud) -> None:
    cloud.oss.put_bucket_acl(oss.PutBucketAclRequest(bucket=bucket, acl="public-read"))
    block = oss.PublicAccessBlockConfiguration(block_public_access=True)
    cloud.oss.put_bucket_public_access_block(oss.PutBucketPublicAccessBlockRequest(bucket, block))
    assert contents.refresh() == {}


def test_encryption_that_is_gone_is_seen_and_put_back(contents: Stack, bucket: str, cloud: Cloud) -> None:
    cloud.oss.delete_bucket_encryption(oss.DeleteBucketEncryptionRequest(bucket))
    assert set(contents.refresh()) == {"encryption"}
    assert contents.up(declared(bucket)) == "update"
    assert contents.up(declared(bucket)) == "same"


@pytest.mark.parametrize("change", [{"storageClass": "IA"}, {"redundancyType": "ZRS"}])
def test_what_a_bucket_was_made_with_is_refused_in_the_preview(
    contents: Stack, bucket: str, change: dict[str, str]
) -> None:
    ((name, value),) = change.items()
    news = declared(bucket, **change)
    contents.refresh()
    plugin, state = contents.plugin, (contents.id, contents.inputs, contents.outputs)
    calls = [
        lambda: plugin.update("BucketContents", *state, news, preview=True),
        lambda: plugin.create("BucketContents", news, preview=True),
        lambda: plugin.update("BucketContents", *state, news),
    ]
    for call in calls:
        with pytest.raises(Failed, match=f"tf-serving:bucket.{name}: .*OSS cannot change that.*name a new bucket"):
            call()
    assert value != contents.outputs[name]


def test_a_bucket_that_is_gone_names_the_command_that_brings_it_back(
    contents: Stack, bucket: str, cloud: Cloud
) -> None:
    cloud.oss.delete_bucket(oss.DeleteBucketRequest(bucket))
    assert set(contents.refresh()) == {"exists"}
    contents.plugin.update(
        "BucketContents", contents.id, contents.inputs, contents.outputs, declared(bucket), preview=True
    )
    assert "`pulumi up --refresh` makes it again" in warnings(contents)
    with pytest.raises(Failed, match="pulumi up --refresh"):
        contents.up(declared(bucket))
    cloud.oss.put_bucket(oss.PutBucketRequest(bucket=bucket))
    assert contents.up(declared(bucket)) == "update"
    assert contents.up(declared(bucket)) == "same"
    contents.destroy()


def test_what_this_stack_published_leaves_nothing_behind(
    contents: Stack, bucket: str, clouded: Plugin, cloud: Cloud, models: LocalModels
) -> None:
    models.add("m", 1)
    models.add("m", 2)
    model, file = Stack(clouded, "PublishedModel"), Stack(clouded, "ModelConfigFile")
    model.up(models.inputs("m", bucket, "models/"))
    file.up({"bucket": bucket, "key": "models/model_config.pbtxt", "owner": OWNER, "initial": {}})
    model.destroy()
    file.destroy()
    with pytest.raises(oss.exceptions.OperationError, match="BucketNotEmpty"):
        cloud.oss.delete_bucket(oss.DeleteBucketRequest(bucket))
    contents.destroy()
    cloud.oss.delete_bucket(oss.DeleteBucketRequest(bucket))


def test_what_is_still_served_stays_whatever_happens_to_the_resource(
    contents: Stack, bucket: str, clouded: Plugin, cloud: Cloud, models: LocalModels
) -> None:
    models.add("m", 1)
    Stack(clouded, "PublishedModel").up(models.inputs("m", bucket, "models/"))
    listed = oss.ListObjectsV2Request(bucket=bucket, max_keys=1000)
    before = [item.key for item in cloud.oss.list_objects_v2(listed).contents]
    contents.destroy()
    assert [item.key for item in cloud.oss.list_objects_v2(listed).contents] == before


def test_objects_of_others_stay_and_are_named_before_the_bucket_is_replaced(
    contents: Stack, bucket: str, cloud: Cloud
) -> None:
    cloud.oss.put_object(oss.PutObjectRequest(bucket=bucket, key="data/train.csv", body=b"1"))
    cloud.oss.delete_object(oss.DeleteObjectRequest(bucket=bucket, key="data/train.csv"))
    assert contents.diff(declared(f"{bucket}-2")).replaces == ["bucket"]
    what = f"bucket {bucket} cannot be deleted while something is in it that this stack did not publish: 1 object"
    assert what in warnings(contents)
    assert f"ops bucket empty {bucket} --everything --stack test" in warnings(contents)
    contents.destroy()
    assert cloud.oss.list_object_versions(oss.ListObjectVersionsRequest(bucket)).version


def test_a_second_stack_on_the_same_root_is_refused_by_its_preview(clouded: Plugin, bucket: str, cloud: Cloud) -> None:
    inputs = {"bucket": bucket, "key": "models/model_config.pbtxt", "owner": OWNER, "initial": {}}
    first = Stack(clouded, "ModelConfigFile")
    clouded.create("ModelConfigFile", inputs, preview=True)
    first.up(inputs)
    clouded.create("ModelConfigFile", inputs, preview=True)  # of a stack that lost its state
    for preview in (True, False):
        with pytest.raises(Failed, match=f"is managed by {OWNER}, and tf-serving/second would overwrite it"):
            clouded.create("ModelConfigFile", inputs | {"owner": "tf-serving/second"}, preview=preview)


def test_a_bucket_of_others_is_told_before_the_update_cannot_make_it(
    clouded: Plugin, bucket: str, cloud: Cloud
) -> None:
    clouded.create("BucketContents", declared(bucket), preview=True)
    assert f"bucket {bucket} exists" not in "\n".join(clouded.engine.lines(engine_pb2.WARNING))
    cloud.oss.put_object(oss.PutObjectRequest(bucket=bucket, key="data/train.csv", body=b"1"))
    clouded.create("BucketContents", declared(bucket), preview=True)
    assert f"bucket {bucket} exists and holds only what this stack did not publish" in "\n".join(
        clouded.engine.lines(engine_pb2.WARNING)
    )


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            CloudError("cannot read oss://taken/: AccessDenied: no", "AccessDenied"),
            "Fix: name another one in tf-serving:bu",
        ),
        (CloudError("cannot read oss://taken/: no answer from OSS"), "it is not known yet whether bucket taken exists"),
        (NoCredentialsError("cannot read oss://taken/"), None),
    ],
)
def test_a_name_that_may_be_taken_is_told_and_a_preview_without_credentials_refused(
    error: CloudError, told: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: OwnBucket) -> None:
        raise error

    monkeypatch.setattr(OwnBucket, "facts", refuse)
    lines: list[str] = []
    clients = cast(Clients, SimpleNamespace(oss=None))
    ctx = Context("", Path("/"), clients, lambda _severity, _urn, text, **_: lines.append(text), threading.Event())
    if told is None:
        with pytest.raises(NoCredentialsError):
            BucketContents().preview(ctx, declared("taken"), None, None)
        return
    BucketContents().preview(ctx, declared("taken"), None, None)
    (line,) = lines
    assert told in line
    assert str(error) in line
