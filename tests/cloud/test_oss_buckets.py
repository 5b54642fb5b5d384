"""Buckets of the sandbox OSS and their sub-resources, through the official client and in the provider's call order."""

from __future__ import annotations

import http.client
import json
from typing import Any
from xml.etree import ElementTree

import alibabacloud_oss_v2 as oss
import pytest
from alibabacloud_oss_v2 import exceptions


def failure(error: pytest.ExceptionInfo[exceptions.OperationError]) -> tuple[int, str]:
    found = error.value.unwrap()
    return found.status_code, found.code


def raw(cloud: Any, method: str, target: str, body: bytes = b"", **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", cloud.port, timeout=60)
    connection.request(method, target, body, headers={"Authorization": "OSS key:signature", **headers})
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response.status, content


def test_a_new_bucket_is_listed_and_described_as_it_was_made(
    client: oss.Client, bucket: str, shared_cloud: Any
) -> None:
    name = bucket + "-ia"
    configuration = oss.CreateBucketConfiguration(storage_class="IA", data_redundancy_type="ZRS")
    client.put_bucket(
        oss.PutBucketRequest(
            bucket=name,
            acl="public-read",
            resource_group_id="rg-1",
            create_bucket_configuration=configuration,
            bucket_tagging="team=ml",
        )
    )
    listed = client.list_buckets(oss.ListBucketsRequest(prefix=name)).buckets
    assert [entry.name for entry in listed] == [name]
    info = client.get_bucket_info(oss.GetBucketInfoRequest(bucket=name)).bucket_info
    assert (info.storage_class, info.data_redundancy_type, info.acl) == ("IA", "ZRS", "public-read")
    assert (info.location, info.resource_group_id) == ("oss-cn-hangzhou", "rg-1")
    assert (info.versioning, info.sse_rule.sse_algorithm, info.access_monitor) == (None, "None", "Disabled")
    assert info.extranet_endpoint == f"127.0.0.1:{shared_cloud.port}"
    location = client.get_bucket_location(oss.GetBucketLocationRequest(bucket=name)).location
    assert location == "oss-cn-hangzhou"
    tags = client.get_bucket_tags(oss.GetBucketTagsRequest(bucket=name)).tagging.tag_set.tags
    assert [(tag.key, tag.value) for tag in tags] == [("team", "ml")]


def test_the_region_of_a_bucket_is_the_one_the_client_signs_for(shared_cloud: Any, bucket: str) -> None:
    client = shared_cloud.client(region="ap-southeast-1")
    client.put_bucket(oss.PutBucketRequest(bucket=bucket + "-sg"))
    info = client.get_bucket_info(oss.GetBucketInfoRequest(bucket=bucket + "-sg")).bucket_info
    assert info.location == "oss-ap-southeast-1"


def test_buckets_are_listed_by_pages_in_order_of_their_names(client: oss.Client, bucket: str) -> None:
    names = [f"{bucket}-{letter}" for letter in "cab"]
    for name in names:
        client.put_bucket(oss.PutBucketRequest(bucket=name))
    pages = client.list_buckets_paginator(limit=1).iter_page(oss.ListBucketsRequest(prefix=f"{bucket}-"))
    assert [entry.name for page in pages for entry in page.buckets] == sorted(names)


def test_making_ones_own_bucket_again_is_no_error_but_another_storage_class_is(client: oss.Client, bucket: str) -> None:
    client.put_object(oss.PutObjectRequest(bucket=bucket, key="k", body=b"x"))
    client.put_bucket(oss.PutBucketRequest(bucket=bucket, acl="public-read"))
    assert client.get_bucket_acl(oss.GetBucketAclRequest(bucket=bucket)).acl == "public-read"
    assert client.is_object_exist(bucket=bucket, key="k")
    configuration = oss.CreateBucketConfiguration(storage_class="IA")
    with pytest.raises(exceptions.OperationError) as error:
        client.put_bucket(oss.PutBucketRequest(bucket=bucket, create_bucket_configuration=configuration))
    assert failure(error) == (409, "BucketAlreadyExists")


@pytest.mark.parametrize("name", ["Upper", "ab", "-abc", "abc-", "a_b_c", "a" * 64])
def test_a_bucket_name_oss_does_not_allow_is_refused(shared_cloud: Any, name: str) -> None:
    status, body = raw(shared_cloud, "PUT", f"/{name}/")
    assert status == 400
    assert b"<Code>InvalidBucketName</Code>" in body


@pytest.mark.parametrize("left", ["object", "old version", "upload"])
def test_a_bucket_that_is_not_empty_cannot_be_deleted(client: oss.Client, bucket: str, left: str) -> None:
    if left == "upload":
        client.initiate_multipart_upload(oss.InitiateMultipartUploadRequest(bucket=bucket, key="k"))
    else:
        client.put_object(oss.PutObjectRequest(bucket=bucket, key="k", body=b"x"))
    if left == "old version":
        enable_versioning(client, bucket)
        client.delete_object(oss.DeleteObjectRequest(bucket=bucket, key="k"))
    with pytest.raises(exceptions.OperationError) as error:
        client.delete_bucket(oss.DeleteBucketRequest(bucket=bucket))
    assert failure(error) == (409, "BucketNotEmpty")


def test_a_deleted_bucket_is_gone_for_every_call(client: oss.Client, bucket: str) -> None:
    client.delete_bucket(oss.DeleteBucketRequest(bucket=bucket))
    for call in (
        lambda: client.get_bucket_info(oss.GetBucketInfoRequest(bucket=bucket)),
        lambda: client.delete_bucket(oss.DeleteBucketRequest(bucket=bucket)),
        lambda: client.put_object(oss.PutObjectRequest(bucket=bucket, key="k", body=b"x")),
        lambda: client.get_bucket_lifecycle(oss.GetBucketLifecycleRequest(bucket=bucket)),
        lambda: client.list_object_versions(oss.ListObjectVersionsRequest(bucket=bucket)),
        lambda: client.initiate_multipart_upload(oss.InitiateMultipartUploadRequest(bucket=bucket, key="k")),
        lambda: enable_versioning(client, bucket),
    ):
        with pytest.raises(exceptions.OperationError) as error:
            call()
        assert failure(error) == (404, "NoSuchBucket")
    assert not client.is_bucket_exist(bucket=bucket)


def test_every_sub_resource_the_provider_reads_answers_for_a_plain_bucket(shared_cloud: Any, bucket: str) -> None:
    answers = {
        "bucketInfo": (200, "BucketInfo"),
        "cors": (404, "NoSuchCORSConfiguration"),
        "website": (404, "NoSuchWebsiteConfiguration"),
        "logging": (200, "BucketLoggingStatus"),
        "referer": (200, "RefererConfiguration"),
        "lifecycle": (404, "NoSuchLifecycle"),
        "policy": (404, "NoSuchBucketPolicy"),
        "tagging": (200, "Tagging"),
        "transferAcceleration": (404, "NoSuchTransferAccelerationConfiguration"),
        "resourceGroup": (200, "BucketResourceGroupConfiguration"),
        "accessmonitor": (200, "AccessMonitorConfiguration"),
        "encryption": (404, "NoSuchServerSideEncryptionRule"),
        "publicAccessBlock": (404, "NoSuchPublicAccessBlockConfiguration"),
        "versioning": (200, "VersioningConfiguration"),
        "acl": (200, "AccessControlPolicy"),
        "requestPayment": (200, "RequestPaymentConfiguration"),
        "stat": (200, "BucketStat"),
        "location": (200, "LocationConstraint"),
    }
    for name, (status, root) in answers.items():
        got, body = raw(shared_cloud, "GET", f"/{bucket}/?{name}")
        document = ElementTree.fromstring(body)  # noqa: S314 - from our own server
        found = document.findtext("Code") if status == 404 else document.tag
        assert (name, got, found) == (name, status, root)


ROUND_TRIPS = {
    "cors": "<CORSConfiguration><CORSRule><AllowedOrigin>*</AllowedOrigin><AllowedMethod>GET</AllowedMethod></CORSRule>"
    "</CORSConfiguration>",
    "website": "<WebsiteConfiguration><IndexDocument><Suffix>i.html</Suffix></IndexDocument></WebsiteConfiguration>",
    "logging": "<BucketLoggingStatus><LoggingEnabled><TargetBucket>b</TargetBucket></LoggingEnabled>"
    "</BucketLoggingStatus>",
    "referer": "<RefererConfiguration><AllowEmptyReferer>false</AllowEmptyReferer><RefererList><Referer>x</Referer>"
    "</RefererList></RefererConfiguration>",
    "tagging": "<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>",
    "transferAcceleration": "<TransferAccelerationConfiguration><Enabled>true</Enabled>"
    "</TransferAccelerationConfiguration>",
    "accessmonitor": "<AccessMonitorConfiguration><Status>Enabled</Status></AccessMonitorConfiguration>",
    "encryption": "<ServerSideEncryptionRule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>KMS</SSEAlgorithm>"
    "<KMSMasterKeyID>key</KMSMasterKeyID></ApplyServerSideEncryptionByDefault></ServerSideEncryptionRule>",
    "publicAccessBlock": "<PublicAccessBlockConfiguration><BlockPublicAccess>true</BlockPublicAccess>"
    "</PublicAccessBlockConfiguration>",
    "resourceGroup": "<BucketResourceGroupConfiguration><ResourceGroupId>rg-2</ResourceGroupId>"
    "</BucketResourceGroupConfiguration>",
    "lifecycle": "<LifecycleConfiguration><Rule><ID>abort</ID><Prefix /><Status>Enabled</Status>"
    "<AbortMultipartUpload><Days>1</Days></AbortMultipartUpload></Rule></LifecycleConfiguration>",
    "versioning": "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>",
}


@pytest.mark.parametrize("name", ROUND_TRIPS)
def test_a_sub_resource_comes_back_as_it_was_put(shared_cloud: Any, bucket: str, name: str) -> None:
    document = ROUND_TRIPS[name]
    assert raw(shared_cloud, "PUT", f"/{bucket}/?{name}", document.encode())[0] == 200
    status, body = raw(shared_cloud, "GET", f"/{bucket}/?{name}")
    assert status == 200
    assert ElementTree.canonicalize(body.decode()) == ElementTree.canonicalize(document)


@pytest.mark.parametrize(
    "name", ["cors", "website", "logging", "lifecycle", "tagging", "encryption", "publicAccessBlock", "policy"]
)
def test_a_sub_resource_that_is_deleted_is_as_if_it_had_never_been(shared_cloud: Any, bucket: str, name: str) -> None:
    before = raw(shared_cloud, "GET", f"/{bucket}/?{name}")
    document = '{"Version": "1", "Statement": []}' if name == "policy" else ROUND_TRIPS[name]
    assert raw(shared_cloud, "PUT", f"/{bucket}/?{name}", document.encode())[0] == 200
    for _ in range(2):
        assert raw(shared_cloud, "DELETE", f"/{bucket}/?{name}")[0] == 204
    after = raw(shared_cloud, "GET", f"/{bucket}/?{name}")
    assert after[0] == before[0]
    assert tag_and_code(after[1]) == tag_and_code(before[1])


def tag_and_code(body: bytes) -> tuple[str, str | None]:
    document = ElementTree.fromstring(body)  # noqa: S314 - from our own server
    return document.tag, document.findtext("Code")


@pytest.mark.parametrize(
    "name",
    ["cors", "website", "logging", "referer", "tagging", "encryption", "lifecycle", "versioning", "publicAccessBlock"],
)
@pytest.mark.parametrize("body", ["", "<Wrong/>", "<Unclosed>", "plain", '<!DOCTYPE a [<!ENTITY b "c">]><a/>'])
def test_a_document_that_is_not_the_right_xml_is_refused(shared_cloud: Any, bucket: str, name: str, body: str) -> None:
    status, answer = raw(shared_cloud, "PUT", f"/{bucket}/?{name}", body.encode())
    assert status == 400
    assert b"<Code>MalformedXML</Code>" in answer


def test_a_document_that_does_not_match_its_md5_is_refused(shared_cloud: Any, bucket: str) -> None:
    status, answer = raw(
        shared_cloud,
        "PUT",
        f"/{bucket}/?cors",
        ROUND_TRIPS["cors"].encode(),
        **{"Content-MD5": "AAAAAAAAAAAAAAAAAAAAAA=="},
    )
    assert (status, b"InvalidDigest" in answer) == (400, True)


def test_a_lifecycle_rule_without_an_id_gets_one_and_keeps_it(client: oss.Client, bucket: str) -> None:
    rule = oss.LifecycleRule(
        prefix="", status="Enabled", abort_multipart_upload=oss.LifecycleRuleAbortMultipartUpload(days=3)
    )
    configuration = oss.LifecycleConfiguration(rules=[rule])
    client.put_bucket_lifecycle(oss.PutBucketLifecycleRequest(bucket=bucket, lifecycle_configuration=configuration))
    seen = [
        client.get_bucket_lifecycle(oss.GetBucketLifecycleRequest(bucket=bucket)).lifecycle_configuration.rules[0]
        for _ in range(2)
    ]
    assert seen[0].id
    assert seen[0].id == seen[1].id
    assert seen[0].abort_multipart_upload.days == 3


@pytest.mark.parametrize(
    "rules",
    [
        "",
        "<Rule><Status>Enabled</Status></Rule>",
        "<Rule><Status>On</Status><Expiration><Days>1</Days></Expiration></Rule>",
    ],
)
def test_a_lifecycle_without_a_rule_that_does_something_is_refused(shared_cloud: Any, bucket: str, rules: str) -> None:
    document = f"<LifecycleConfiguration>{rules}</LifecycleConfiguration>"
    status, answer = raw(shared_cloud, "PUT", f"/{bucket}/?lifecycle", document.encode())
    assert (status, b"MalformedXML" in answer) == (400, True)


def test_a_policy_is_given_back_byte_for_byte(client: oss.Client, bucket: str) -> None:
    policy = json.dumps({"Version": "1", "Statement": [{"Effect": "Deny", "Action": ["oss:*"]}]}, indent=3)
    client.put_bucket_policy(oss.PutBucketPolicyRequest(bucket=bucket, body=policy.encode()))
    assert client.get_bucket_policy(oss.GetBucketPolicyRequest(bucket=bucket)).body.encode() == policy.encode()
    with pytest.raises(exceptions.OperationError) as error:
        client.put_bucket_policy(oss.PutBucketPolicyRequest(bucket=bucket, body=b"{"))
    assert failure(error) == (400, "InvalidPolicyDocument")


def test_default_encryption_is_shown_in_bucket_info_and_on_every_new_object(client: oss.Client, bucket: str) -> None:
    rule = oss.ServerSideEncryptionRule(
        apply_server_side_encryption_by_default=oss.ApplyServerSideEncryptionByDefault(sse_algorithm="AES256")
    )
    client.put_bucket_encryption(oss.PutBucketEncryptionRequest(bucket=bucket, server_side_encryption_rule=rule))
    info = client.get_bucket_info(oss.GetBucketInfoRequest(bucket=bucket)).bucket_info
    assert info.sse_rule.sse_algorithm == "AES256"
    client.put_object(oss.PutObjectRequest(bucket=bucket, key="k", body=b"x"))
    head = client.head_object(oss.HeadObjectRequest(bucket=bucket, key="k"))
    assert head.server_side_encryption == "AES256"
    client.delete_bucket_encryption(oss.DeleteBucketEncryptionRequest(bucket=bucket))
    with pytest.raises(exceptions.OperationError) as error:
        client.get_bucket_encryption(oss.GetBucketEncryptionRequest(bucket=bucket))
    assert failure(error) == (404, "NoSuchServerSideEncryptionRule")


def test_encryption_asked_for_while_making_the_bucket_is_set(
    shared_cloud: Any, client: oss.Client, bucket: str
) -> None:
    name = bucket + "-sse"
    status, _ = raw(shared_cloud, "PUT", f"/{name}/", **{"x-oss-server-side-encryption": "AES256", "x-oss-acl": ""})
    assert status == 200
    rule = client.get_bucket_encryption(oss.GetBucketEncryptionRequest(bucket=name)).server_side_encryption_rule
    assert rule.apply_server_side_encryption_by_default.sse_algorithm == "AES256"


def test_access_monitor_and_public_access_block_show_in_bucket_info(
    shared_cloud: Any, client: oss.Client, bucket: str
) -> None:
    for name in ("accessmonitor", "publicAccessBlock"):
        raw(shared_cloud, "PUT", f"/{bucket}/?{name}", ROUND_TRIPS[name].encode())
    info = client.get_bucket_info(oss.GetBucketInfoRequest(bucket=bucket)).bucket_info
    assert (info.access_monitor, info.block_public_access) == ("Enabled", True)


def test_stat_counts_objects_bytes_uploads_and_delete_markers(client: oss.Client, bucket: str) -> None:
    enable_versioning(client, bucket)
    for key in ("a", "b"):
        client.put_object(oss.PutObjectRequest(bucket=bucket, key=key, body=b"12345"))
    client.delete_object(oss.DeleteObjectRequest(bucket=bucket, key="a"))
    client.initiate_multipart_upload(oss.InitiateMultipartUploadRequest(bucket=bucket, key="c"))
    stat = client.get_bucket_stat(oss.GetBucketStatRequest(bucket=bucket))
    assert (stat.storage, stat.object_count, stat.multi_part_upload_count) == (10, 2, 1)
    assert stat.delete_marker_count == 1


# ------------------------------------------------------------------- versioning


def enable_versioning(client: oss.Client, bucket: str, status: str = "Enabled") -> None:
    configuration = oss.VersioningConfiguration(status=status)
    client.put_bucket_versioning(oss.PutBucketVersioningRequest(bucket=bucket, versioning_configuration=configuration))


def read(client: oss.Client, bucket: str, key: str, version: str | None = None) -> bytes:
    return client.get_object(oss.GetObjectRequest(bucket=bucket, key=key, version_id=version)).body.content


def test_old_versions_stay_readable_and_a_delete_only_marks(client: oss.Client, bucket: str) -> None:
    client.put_object(oss.PutObjectRequest(bucket=bucket, key="k", body=b"0"))
    enable_versioning(client, bucket)
    one = client.put_object(oss.PutObjectRequest(bucket=bucket, key="k", body=b"1")).version_id
    two = client.put_object(oss.PutObjectRequest(bucket=bucket, key="k", body=b"2")).version_id
    gone = client.delete_object(oss.DeleteObjectRequest(bucket=bucket, key="k"))
    assert gone.delete_marker is True
    assert [read(client, bucket, "k", version) for version in ("null", one, two)] == [b"0", b"1", b"2"]
    with pytest.raises(exceptions.OperationError) as error:
        read(client, bucket, "k")
    assert failure(error) == (404, "NoSuchKey")
    with pytest.raises(exceptions.OperationError) as error:
        read(client, bucket, "k", gone.version_id)
    assert failure(error) == (405, "MethodNotAllowed")
    with pytest.raises(exceptions.OperationError) as error:
        read(client, bucket, "k", "made-up")
    assert failure(error) == (404, "NoSuchVersion")
    assert not client.list_objects_v2(oss.ListObjectsV2Request(bucket=bucket)).contents
    listed = client.list_object_versions(oss.ListObjectVersionsRequest(bucket=bucket))
    assert [(entry.version_id, entry.is_latest) for entry in listed.delete_marker] == [(gone.version_id, True)]
    assert [entry.version_id for entry in listed.version] == [two, one, "null"]


def test_deleting_the_marker_brings_the_object_back_and_deleting_a_version_the_one_before(
    client: oss.Client, bucket: str
) -> None:
    enable_versioning(client, bucket)
    client.put_object(oss.PutObjectRequest(bucket=bucket, key="k", body=b"1"))
    two = client.put_object(oss.PutObjectRequest(bucket=bucket, key="k", body=b"2")).version_id
    marker = client.delete_object(oss.DeleteObjectRequest(bucket=bucket, key="k")).version_id
    client.delete_object(oss.DeleteObjectRequest(bucket=bucket, key="k", version_id=marker))
    assert read(client, bucket, "k") == b"2"
    client.delete_object(oss.DeleteObjectRequest(bucket=bucket, key="k", version_id=two))
    assert read(client, bucket, "k") == b"1"


def test_after_suspending_new_writes_share_the_null_version(client: oss.Client, bucket: str) -> None:
    enable_versioning(client, bucket)
    kept = client.put_object(oss.PutObjectRequest(bucket=bucket, key="k", body=b"kept")).version_id
    enable_versioning(client, bucket, "Suspended")
    for body in (b"1", b"2"):
        result = client.put_object(oss.PutObjectRequest(bucket=bucket, key="k", body=body))
        assert result.version_id == "null"
    listed = client.list_object_versions(oss.ListObjectVersionsRequest(bucket=bucket)).version
    assert [entry.version_id for entry in listed] == ["null", kept]
    client.delete_object(oss.DeleteObjectRequest(bucket=bucket, key="k"))
    markers = client.list_object_versions(oss.ListObjectVersionsRequest(bucket=bucket)).delete_marker
    assert [entry.version_id for entry in markers] == ["null"]


def test_forbid_overwrite_has_no_effect_once_versioning_was_set_as_documented(client: oss.Client, bucket: str) -> None:
    enable_versioning(client, bucket)
    for body in (b"1", b"2"):
        client.put_object(oss.PutObjectRequest(bucket=bucket, key="k", body=body, forbid_overwrite=True))
    assert read(client, bucket, "k") == b"2"


def test_force_destroy_empties_a_versioned_bucket_the_way_the_provider_does(
    shared_cloud: Any, client: oss.Client, bucket: str
) -> None:
    enable_versioning(client, bucket)
    for number in range(30):
        key = f"models/modelA/{number % 10}/ü & <x>"
        client.put_object(oss.PutObjectRequest(bucket=bucket, key=key, body=b"x"))
    client.delete_multiple_objects(
        oss.DeleteMultipleObjectsRequest(bucket=bucket, objects=[oss.DeleteObject(key="models/modelA/1/ü & <x>")])
    )
    rounds = 0
    while raw(shared_cloud, "DELETE", f"/{bucket}/")[0] == 409:
        rounds += 1
        page = client.list_object_versions(oss.ListObjectVersionsRequest(bucket=bucket, max_keys=7))
        found = [*(page.version or []), *(page.delete_marker or [])]
        assert found
        doomed = [oss.DeleteObject(key=entry.key, version_id=entry.version_id) for entry in found]
        client.delete_multiple_objects(oss.DeleteMultipleObjectsRequest(bucket=bucket, objects=doomed))
    assert rounds == 5
    with pytest.raises(exceptions.OperationError) as error:
        client.get_bucket_info(oss.GetBucketInfoRequest(bucket=bucket))
    assert failure(error) == (404, "NoSuchBucket")


def test_the_service_itself_lists_nothing_without_a_signature(shared_cloud: Any) -> None:
    status, body = raw(shared_cloud, "GET", "/", Authorization="")
    assert (status, b"AccessDenied" in body) == (403, True)
