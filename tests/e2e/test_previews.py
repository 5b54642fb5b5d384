"""A first stack over a bucket that others fill: what its `up` would refuse, its preview refuses, all of it."""

from __future__ import annotations

from collections.abc import Iterator

import alibabacloud_oss_v2 as oss
import pytest

from tests.e2e.checkout import Checkout

pytestmark = pytest.mark.slow

BUCKET = "theirs"
MODELS, NUMBER = "tf-serving:models", 20240115093000123
REFUSED = (
    "oss://theirs/models/tf_serving/model_config.pbtxt was not made by this project",
    f"version {NUMBER} of modelA should be in the bucket already",
    "model modelC: 2 problems",
    "export/5/ is empty",
    "export/9223372036854775807/ is empty",
)


@pytest.fixture(scope="module")
def stack(prepared: Checkout) -> Iterator[Checkout]:
    """A sandbox cloud with a bucket of others, and a stack file that names it."""
    prepared.succeed("cloud", module="local", timeout=600)
    client = prepared.oss()
    client.put_bucket(oss.PutBucketRequest(bucket=BUCKET))
    key = "models/tf_serving/model_config.pbtxt"
    client.put_object(oss.PutObjectRequest(bucket=BUCKET, key=key, body=b"model_config_list {}"))
    prepared.set({"name": BUCKET, "existing": True}, "tf-serving:bucket")
    prepared.set({"policy": "all", "versions": [str(NUMBER)]}, MODELS, "modelA")
    source = {"source": f"oss://{BUCKET}/export/", "versions": [5, "9223372036854775807"]}
    prepared.set({"policy": "all", **source}, MODELS, "modelC")
    yield prepared
    prepared.run("cloud", "stop")


@pytest.mark.parametrize("command", [("preview",), ("up", "--yes")])
def test_everything_that_is_in_the_way_is_told_and_nothing_is_made(stack: Checkout, command: tuple[str, ...]) -> None:
    done = stack.run(*command)
    assert done.code == 1
    assert [words for words in REFUSED if words not in done.text] == []
    assert "Traceback" not in done.text
    listed = stack.oss().list_objects_v2(oss.ListObjectsV2Request(bucket=BUCKET, max_keys=1000)).contents
    assert [each.key for each in listed or ()] == ["models/tf_serving/model_config.pbtxt"]
    assert stack.processes() == {}


def test_a_bucket_that_is_to_be_there_and_is_not_is_named_with_its_key(stack: Checkout) -> None:
    stack.set({"name": "nowhere", "existing": True}, "tf-serving:bucket")
    done = stack.run("preview")
    stack.set({"name": BUCKET, "existing": True}, "tf-serving:bucket")
    assert done.code == 1
    assert "tf-serving:bucket: bucket nowhere does not exist, and the stack says existing: true. Fix: " in done.text
