"""The stand-in for ``alicloud``: programs with the real SDK, the sandbox engine, the sandbox cloud."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import alibabacloud_oss_v2 as oss
import pytest
from aiohttp import web

from sandbox.cloud.app import create_app, make_runner
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import Project

pytestmark = pytest.mark.slow

PROGRAM = """
    import pulumi_alicloud as alicloud
    from pulumi_alicloud import oss

    provider = alicloud.Provider("cloud", region="cn-hangzhou", protocol="HTTP", access_key="sandbox",
        secret_key="sandbox", endpoints=[alicloud.ProviderEndpointArgs(oss=config.require("endpoint"))])
    bucket = oss.Bucket("models", {arguments}, opts=ResourceOptions(provider=provider, transformations=[
        lambda args: pulumi.ResourceTransformationResult({{**args.props, "acl": "{acl}"}}, args.opts)]))
    pulumi.export("endpoint", bucket.extranet_endpoint)
"""

FULL = """
    bucket="models-1", force_destroy=True, tags={"team": "serving"},
    versioning=oss.BucketVersioningArgs(status="Enabled"),
    server_side_encryption_rule=oss.BucketServerSideEncryptionRuleArgs(sse_algorithm="AES256"),
    lifecycle_rules=[oss.BucketLifecycleRuleArgs(id="unfinished", prefix="", enabled=True,
        abort_multipart_uploads=[oss.BucketLifecycleRuleAbortMultipartUploadArgs(days=7)])]
"""


@pytest.fixture
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The official OSS client of a sandbox cloud; ``endpoint_address`` is ``host:port``."""
    port = free_port()
    data: Path = tmp_path_factory.mktemp("cloud")
    loop = asyncio.new_event_loop()
    runner = make_runner(create_app(data, port))
    loop.run_until_complete(runner.setup())
    loop.run_until_complete(web.TCPSite(runner, "127.0.0.1", port).start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    config = oss.config.load_default()
    config.credentials_provider = oss.credentials.StaticCredentialsProvider("sandbox", "sandbox")
    config.region, config.endpoint, config.use_path_style = "cn-hangzhou", f"http://127.0.0.1:{port}", True
    client = oss.Client(config)
    client.endpoint_address = f"127.0.0.1:{port}"
    yield client
    asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(20)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()


def write(project: Project, cloud: Any, arguments: str, acl: str = "private") -> None:
    project.configure(endpoint=cloud.endpoint_address)
    project.program(PROGRAM.format(arguments=" ".join(arguments.split()), acl=acl))


def test_every_setting_is_made_changed_in_place_and_removed(project: Project, cloud: Any) -> None:
    write(project, cloud, FULL)
    outcome = project.up()
    assert outcome.status == 0, outcome
    assert "alicloud:oss:Bucket" in outcome.out
    info = cloud.get_bucket_info(oss.GetBucketInfoRequest("models-1")).bucket_info
    assert (info.acl, info.versioning, info.sse_rule.sse_algorithm) == ("private", "Enabled", "AES256")
    (rule,) = cloud.get_bucket_lifecycle(oss.GetBucketLifecycleRequest("models-1")).lifecycle_configuration.rules
    assert (rule.id, rule.status, rule.abort_multipart_upload.days) == ("unfinished", "Enabled", 7)
    assert project.resource("models")["outputs"]["extranetEndpoint"]
    assert project.run("refresh", "--preview-only", "--expect-no-changes").status == 0
    write(project, cloud, 'bucket="models-1", force_destroy=True', acl="public-read")
    outcome = project.up()
    assert outcome.status == 0, outcome
    assert "- versioning" in outcome.out
    info = cloud.get_bucket_info(oss.GetBucketInfoRequest("models-1")).bucket_info
    assert (info.acl, info.versioning) == ("public-read", "Suspended")
    assert info.sse_rule is None or info.sse_rule.sse_algorithm in (None, "None")
    with pytest.raises(oss.exceptions.OperationError, match="NoSuchLifecycle"):
        cloud.get_bucket_lifecycle(oss.GetBucketLifecycleRequest("models-1"))
    assert project.run("preview", "--expect-no-changes", "--refresh").status == 0


def test_what_is_changed_or_deleted_behind_its_back_is_drift_and_repaired(project: Project, cloud: Any) -> None:
    write(project, cloud, FULL)
    project.up()
    cloud.put_bucket_acl(oss.PutBucketAclRequest("models-1", acl="public-read"))
    cloud.delete_bucket_lifecycle(oss.DeleteBucketLifecycleRequest("models-1"))
    outcome = project.run("preview", "--refresh", "--expect-no-changes")
    assert outcome.status == 7
    assert '~ acl: "public-read" => "private"' in outcome.out
    assert "+ lifecycleRules" in outcome.out
    assert project.up("--refresh").status == 0
    assert cloud.get_bucket_info(oss.GetBucketInfoRequest("models-1")).bucket_info.acl == "private"
    cloud.delete_bucket(oss.DeleteBucketRequest("models-1"))
    assert project.run("refresh", "--preview-only", "--expect-no-changes").status == 7
    assert project.up("--refresh").status == 0
    assert cloud.is_bucket_exist("models-1")


OBJECT = """
    import pulumi_alicloud as alicloud
    from pulumi_alicloud import oss

    provider = alicloud.Provider("cloud", region="cn-hangzhou", protocol="HTTP", access_key="sandbox",
        secret_key="sandbox", endpoints=[alicloud.ProviderEndpointArgs(oss=config.require("endpoint"))])
    oss.BucketObject("file", bucket="models-1", opts=ResourceOptions(provider=provider), {arguments})
"""


def test_an_object_is_written_changed_moved_put_back_and_deleted(project: Project, cloud: Any) -> None:
    def up(arguments: str) -> dict[str, int]:
        project.program(OBJECT.format(arguments=arguments))
        outcome = project.up("--json")
        assert outcome.status == 0, outcome
        return outcome.counts

    def content(key: str) -> bytes:
        return bytes(cloud.get_object(oss.GetObjectRequest("models-1", key)).body.content)

    project.configure(endpoint=cloud.endpoint_address)
    cloud.put_bucket(oss.PutBucketRequest("models-1"))
    up('key="a.txt", content="one", content_type="text/plain; charset=utf-8"')
    assert content("a.txt") == b"one"
    assert project.resource("file")["outputs"]["contentLength"] == "3"
    assert project.run("preview", "--refresh", "--expect-no-changes").status == 0
    assert up('key="a.txt", content="two", content_type="text/plain; charset=utf-8"') == {"same": 2, "update": 1}
    assert content("a.txt") == b"two"
    assert up('key="b.txt", content="two"') == {"same": 2, "replace": 1}
    assert not cloud.is_object_exist("models-1", "a.txt")
    cloud.delete_object(oss.DeleteObjectRequest("models-1", "b.txt"))
    assert project.run("preview", "--refresh", "--expect-no-changes").status == 7
    assert project.up("--refresh").status == 0
    assert content("b.txt") == b"two"
    assert project.run("destroy", "--yes").status == 0
    assert not cloud.is_object_exist("models-1", "b.txt")


def test_an_object_that_comes_from_a_file_is_refused_by_name(project: Project, cloud: Any) -> None:
    project.configure(endpoint=cloud.endpoint_address)
    project.program(OBJECT.format(arguments='key="a.txt", source="file.txt"'))
    outcome = project.run("preview")
    assert outcome.status == 1
    assert "source: is not supported by the sandbox's stand-in" in outcome.out


def test_another_name_replaces_the_bucket(project: Project, cloud: Any) -> None:
    write(project, cloud, FULL)
    project.up()
    write(project, cloud, FULL.replace("models-1", "models-2"))
    outcome = project.up("--json")
    assert outcome.counts == {"same": 2, "replace": 1}
    assert cloud.is_bucket_exist("models-2")
    assert not cloud.is_bucket_exist("models-1")


def test_a_full_bucket_is_destroyed_only_by_force(project: Project, cloud: Any) -> None:
    write(project, cloud, 'bucket="models-1", versioning=oss.BucketVersioningArgs(status="Enabled")')
    project.up()
    for content in (b"1", b"2"):
        cloud.put_object(oss.PutObjectRequest("models-1", "a/b", body=content))
    cloud.delete_object(oss.DeleteObjectRequest("models-1", "a/b"))
    cloud.initiate_multipart_upload(oss.InitiateMultipartUploadRequest("models-1", "unfinished"))
    outcome = project.run("destroy", "--yes")
    assert outcome.status == 1
    assert "forceDestroy is not set" in outcome.out
    write(
        project, cloud, 'bucket="models-1", force_destroy=True, versioning=oss.BucketVersioningArgs(status="Enabled")'
    )
    assert project.up().status == 0
    assert project.run("destroy", "--yes").status == 0
    assert not cloud.is_bucket_exist("models-1")


def test_an_empty_bucket_of_an_interrupted_run_is_taken_up_and_a_full_one_is_refused(
    project: Project, cloud: Any
) -> None:
    cloud.put_bucket(oss.PutBucketRequest("models-1"))
    cloud.put_object(oss.PutObjectRequest("models-1", "somebody-elses", body=b"1"))
    write(project, cloud, FULL)
    outcome = project.up()
    assert outcome.status == 1
    assert "exists already and is not empty" in outcome.out
    cloud.delete_object(oss.DeleteObjectRequest("models-1", "somebody-elses"))
    assert project.up().status == 0
    assert project.run("preview", "--refresh", "--expect-no-changes").status == 0


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ('bucket="Models"', "bucket: 'Models' is no bucket name"),
        ('bucket="models-1", cors_rules=[]', "corsRules: is not supported by the sandbox's stand-in"),
        (
            'bucket="models-1", lifecycle_rules=[oss.BucketLifecycleRuleArgs(enabled=True, expirations=['
            'oss.BucketLifecycleRuleExpirationArgs(date="2030-01-01")])]',
            "lifecycleRules[0].expirations[0].date: is not supported",
        ),
    ],
)
def test_what_the_stand_in_does_not_know_is_refused_by_name(
    project: Project, cloud: Any, arguments: str, reason: str
) -> None:
    write(project, cloud, arguments)
    outcome = project.run("preview")
    assert outcome.status == 1
    assert reason in outcome.out


def test_a_cloud_that_does_not_run_is_told_without_a_traceback(project: Project, cloud: Any) -> None:
    write(project, cloud, FULL)
    project.configure(endpoint="127.0.0.1:1")
    outcome = project.up()
    assert outcome.status == 1
    assert "cannot look for bucket models-1" in outcome.out
    assert "Traceback" not in outcome.out + outcome.err


def test_the_real_endpoint_is_refused(project: Project) -> None:
    program = PROGRAM.replace('config.require("endpoint")', '"oss-cn-hangzhou.aliyuncs.com"')
    project.program(program.format(arguments=" ".join(FULL.split()), acl="private"))
    outcome = project.up()
    assert outcome.status == 1
    assert "is not a loopback address" in outcome.out
