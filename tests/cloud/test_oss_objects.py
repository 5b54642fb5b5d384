"""Objects of the sandbox OSS, through the official client."""

from __future__ import annotations

import base64
import gzip
import hashlib
import http.client
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import alibabacloud_oss_v2 as oss
import pytest
from alibabacloud_oss_v2 import exceptions


def failure(error: pytest.ExceptionInfo[exceptions.OperationError]) -> exceptions.ServiceError:
    """The error the service answered with."""
    found = error.value.unwrap()
    assert isinstance(found, exceptions.ServiceError)
    return found


def put(client: oss.Client, bucket: str, key: str, body: bytes = b"body", **options: Any) -> oss.PutObjectResult:
    return client.put_object(oss.PutObjectRequest(bucket=bucket, key=key, body=body, **options))


def read(client: oss.Client, bucket: str, key: str, **options: Any) -> bytes:
    return client.get_object(oss.GetObjectRequest(bucket=bucket, key=key, **options)).body.content


def raw(cloud: Any, method: str, target: str, body: bytes | None = None, **headers: str) -> tuple[Any, bytes]:
    """A request no client would make, or makes only in another language."""
    connection = http.client.HTTPConnection("127.0.0.1", cloud.port, timeout=60)
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, target, body, headers={"Authorization": "OSS key:signature", **headers})
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response, content


@pytest.mark.parametrize(
    "key",
    [
        "plain",
        "a/b/c",
        "with space",
        "ü/ï/漢字",
        "plus+and&and=?#%41",
        "a//b",
        "dir/",
        "100%",
        "new\nline",
        "~x",
    ],
)
def test_a_key_of_any_characters_comes_back_as_it_was_put(client: oss.Client, bucket: str, key: str) -> None:
    put(client, bucket, key, key.encode())
    assert read(client, bucket, key) == key.encode()
    listed = client.list_objects_v2(oss.ListObjectsV2Request(bucket=bucket)).contents
    assert [entry.key for entry in listed] == [key]


def test_a_put_answers_with_md5_crc64_and_size_of_what_was_stored(client: oss.Client, bucket: str) -> None:
    body = bytes(range(256)) * 5000
    result = put(client, bucket, "k", body)
    assert result.etag == f'"{hashlib.md5(body, usedforsecurity=False).hexdigest().upper()}"'
    head = client.head_object(oss.HeadObjectRequest(bucket=bucket, key="k"))
    assert (head.content_length, head.etag, head.hash_crc64) == (len(body), result.etag, result.hash_crc64)
    assert read(client, bucket, "k") == body


def test_the_crc64_is_the_published_check_value_of_ecma_182(client: oss.Client, bucket: str) -> None:
    assert put(client, bucket, "k", b"123456789").hash_crc64 == str(0x995DC9BBDF1939FA)


def test_headers_metadata_and_tags_of_an_object_are_kept(client: oss.Client, bucket: str) -> None:
    put(
        client,
        bucket,
        "k",
        content_type="application/x-protobuf",
        cache_control="no-cache",
        content_disposition="attachment",
        metadata={"sha256": "abc", "note": "x y"},
        tagging="stage=canary&empty=",
        acl="private",
        server_side_encryption="AES256",
    )
    head = client.head_object(oss.HeadObjectRequest(bucket=bucket, key="k"))
    assert head.content_type == "application/x-protobuf"
    assert (head.cache_control, head.content_disposition) == ("no-cache", "attachment")
    assert head.metadata["sha256"] == "abc"
    assert head.server_side_encryption == "AES256"
    assert head.tagging_count == 2
    tags = client.get_object_tagging(oss.GetObjectTaggingRequest(bucket=bucket, key="k")).tag_set.tags
    assert [(tag.key, tag.value) for tag in tags] == [("stage", "canary"), ("empty", None)]
    acl = client.get_object_acl(oss.GetObjectAclRequest(bucket=bucket, key="k")).acl
    assert acl == "private"


def test_object_acl_and_tagging_can_be_changed_later(client: oss.Client, bucket: str) -> None:
    put(client, bucket, "k")
    client.put_object_acl(oss.PutObjectAclRequest(bucket=bucket, key="k", acl="public-read"))
    assert client.get_object_acl(oss.GetObjectAclRequest(bucket=bucket, key="k")).acl == "public-read"
    tagging = oss.Tagging(tag_set=oss.TagSet(tags=[oss.Tag(key="a", value="b")]))
    client.put_object_tagging(oss.PutObjectTaggingRequest(bucket=bucket, key="k", tagging=tagging))
    tags = client.get_object_tagging(oss.GetObjectTaggingRequest(bucket=bucket, key="k")).tag_set.tags
    assert [(tag.key, tag.value) for tag in tags] == [("a", "b")]
    client.delete_object_tagging(oss.DeleteObjectTaggingRequest(bucket=bucket, key="k"))
    assert not client.get_object_tagging(oss.GetObjectTaggingRequest(bucket=bucket, key="k")).tag_set.tags


def test_a_compressed_body_is_stored_as_it_was_sent(client: oss.Client, bucket: str) -> None:
    body = gzip.compress(b"text" * 1000)
    put(client, bucket, "k", body, content_encoding="gzip")
    assert client.head_object(oss.HeadObjectRequest(bucket=bucket, key="k")).content_length == len(body)


@pytest.mark.parametrize(
    ("asked", "strict", "status", "expected"),
    [
        ("bytes=2-4", False, 206, b"234"),
        ("bytes=7-", False, 206, b"789"),
        ("bytes=-3", False, 206, b"789"),
        ("bytes=0-0", False, 206, b"0"),
        ("bytes=5-100", True, 206, b"56789"),
        ("bytes=-100", True, 206, b"0123456789"),
        ("bytes=5-100", False, 200, b"0123456789"),
        ("bytes=50-100", False, 200, b"0123456789"),
        ("bytes=4-2", False, 200, b"0123456789"),
        ("lines=1-2", False, 200, b"0123456789"),
    ],
)
def test_a_range_gives_those_bytes_or_else_everything(
    client: oss.Client, bucket: str, asked: str, strict: bool, status: int, expected: bytes
) -> None:
    put(client, bucket, "k", b"0123456789")
    behaviour = "standard" if strict else None
    result = client.get_object(
        oss.GetObjectRequest(bucket=bucket, key="k", range_header=asked, range_behavior=behaviour)
    )
    assert (result.status_code, result.body.content) == (status, expected)


@pytest.mark.parametrize("asked", ["bytes=10-", "bytes=50-100", "bytes=4-2", "bytes=-0"])
def test_a_range_outside_the_object_is_416_where_standard_behaviour_is_asked_for(
    client: oss.Client, bucket: str, asked: str
) -> None:
    put(client, bucket, "k", b"0123456789")
    with pytest.raises(exceptions.OperationError) as error:
        read(client, bucket, "k", range_header=asked, range_behavior="standard")
    assert (failure(error).status_code, failure(error).code) == (416, "InvalidRange")


def test_a_missing_object_is_named_in_the_error_of_get_and_head(
    client: oss.Client, bucket: str, shared_cloud: Any
) -> None:
    with pytest.raises(exceptions.OperationError) as error:
        read(client, bucket, "nowhere")
    assert (failure(error).status_code, failure(error).code) == (404, "NoSuchKey")
    with pytest.raises(exceptions.OperationError) as error:
        client.head_object(oss.HeadObjectRequest(bucket=bucket, key="nowhere"))
    assert (failure(error).status_code, failure(error).code) == (404, "NoSuchKey")
    response, body = raw(shared_cloud, "HEAD", f"/{bucket}/nowhere")
    assert body == b""
    assert b"<Code>NoSuchKey</Code>" in base64.b64decode(response.headers["x-oss-err"])


def test_get_object_meta_of_a_deleted_object_is_a_404_with_its_error_in_a_header(
    client: oss.Client, bucket: str, shared_cloud: Any
) -> None:
    put(client, bucket, "k", b"12345")
    assert client.get_object_meta(oss.GetObjectMetaRequest(bucket=bucket, key="k")).content_length == 5
    client.delete_object(oss.DeleteObjectRequest(bucket=bucket, key="k"))
    response, _ = raw(shared_cloud, "HEAD", f"/{bucket}/k?objectMeta")
    assert response.status == 404
    assert b"<Code>NoSuchKey</Code>" in base64.b64decode(response.headers["x-oss-err"])


def test_deleting_twice_succeeds_and_the_bytes_are_gone_from_the_disk(
    client: oss.Client, bucket: str, shared_cloud: Any
) -> None:
    before = set((shared_cloud.data / "oss" / "blobs").glob("*/*"))
    put(client, bucket, "k", b"x" * 1000)
    assert len(set((shared_cloud.data / "oss" / "blobs").glob("*/*")) - before) == 1
    for _ in range(2):
        assert client.delete_object(oss.DeleteObjectRequest(bucket=bucket, key="k")).status_code == 204
    assert set((shared_cloud.data / "oss" / "blobs").glob("*/*")) == before


def test_many_objects_are_deleted_in_one_request(client: oss.Client, bucket: str) -> None:
    for number in range(5):
        put(client, bucket, f"k{number} ü")
    wanted = [oss.DeleteObject(key=f"k{number} ü") for number in (0, 1, 2, 9)]
    result = client.delete_multiple_objects(
        oss.DeleteMultipleObjectsRequest(bucket=bucket, objects=wanted, encoding_type="url")
    )
    assert [entry.key for entry in result.deleted_objects] == ["k0 ü", "k1 ü", "k2 ü", "k9 ü"]
    left = client.list_objects_v2(oss.ListObjectsV2Request(bucket=bucket)).contents
    assert [entry.key for entry in left] == ["k3 ü", "k4 ü"]
    quiet = client.delete_multiple_objects(
        oss.DeleteMultipleObjectsRequest(bucket=bucket, objects=[oss.DeleteObject(key="k3 ü")], quiet=True)
    )
    assert not quiet.deleted_objects


def test_forbid_overwrite_refuses_a_second_put_and_a_copy(client: oss.Client, bucket: str) -> None:
    put(client, bucket, "k", b"first", forbid_overwrite=True)
    with pytest.raises(exceptions.OperationError) as error:
        put(client, bucket, "k", b"second", forbid_overwrite=True)
    assert (failure(error).status_code, failure(error).code) == (409, "FileAlreadyExists")
    with pytest.raises(exceptions.OperationError) as error:
        client.copy_object(oss.CopyObjectRequest(bucket=bucket, key="k", source_key="k", forbid_overwrite=True))
    assert failure(error).code == "FileAlreadyExists"
    assert read(client, bucket, "k") == b"first"


def test_a_body_that_does_not_match_its_content_md5_is_refused_and_not_stored(client: oss.Client, bucket: str) -> None:
    wrong = base64.b64encode(hashlib.md5(b"other", usedforsecurity=False).digest()).decode()
    with pytest.raises(exceptions.OperationError) as error:
        put(client, bucket, "k", b"body", content_md5=wrong)
    assert (failure(error).status_code, failure(error).code) == (400, "InvalidDigest")
    with pytest.raises(exceptions.OperationError):
        read(client, bucket, "k")


def test_a_copy_takes_headers_and_tags_along_unless_they_are_replaced(client: oss.Client, bucket: str) -> None:
    put(client, bucket, "from ü", b"bytes", content_type="text/plain", metadata={"a": "1"}, tagging="t=1")
    copied = client.copy_object(oss.CopyObjectRequest(bucket=bucket, key="to", source_key="from ü"))
    assert copied.etag == f'"{hashlib.md5(b"bytes", usedforsecurity=False).hexdigest().upper()}"'
    head = client.head_object(oss.HeadObjectRequest(bucket=bucket, key="to"))
    assert (head.content_type, head.metadata["a"], head.tagging_count) == ("text/plain", "1", 1)
    client.copy_object(
        oss.CopyObjectRequest(
            bucket=bucket,
            key="to",
            source_key="to",
            metadata_directive="REPLACE",
            tagging_directive="REPLACE",
            metadata={"b": "2"},
        )
    )
    head = client.head_object(oss.HeadObjectRequest(bucket=bucket, key="to"))
    assert (dict(head.metadata), head.tagging_count) == ({"b": "2"}, None)
    assert read(client, bucket, "to") == b"bytes"


def test_a_copy_outlives_its_source(client: oss.Client, bucket: str) -> None:
    put(client, bucket, "from", b"bytes")
    client.copy_object(oss.CopyObjectRequest(bucket=bucket, key="to", source_key="from"))
    put(client, bucket, "from", b"other")
    client.delete_object(oss.DeleteObjectRequest(bucket=bucket, key="from"))
    assert read(client, bucket, "to") == b"bytes"


def test_copying_from_another_bucket_and_from_nowhere(client: oss.Client, bucket: str) -> None:
    client.put_bucket(oss.PutBucketRequest(bucket=bucket + "-2"))
    put(client, bucket, "k", b"bytes")
    client.copy_object(oss.CopyObjectRequest(bucket=bucket + "-2", key="k", source_bucket=bucket, source_key="k"))
    assert read(client, bucket + "-2", "k") == b"bytes"
    with pytest.raises(exceptions.OperationError) as error:
        client.copy_object(oss.CopyObjectRequest(bucket=bucket, key="x", source_key="nowhere"))
    assert failure(error).code == "NoSuchKey"


def test_conditional_requests_follow_the_rules_of_http(client: oss.Client, bucket: str) -> None:
    etag = put(client, bucket, "k").etag
    assert read(client, bucket, "k", if_match=etag, if_none_match='"other"') == b"body"
    for options in ({"if_none_match": etag}, {"if_modified_since": "Fri, 01 Jan 2100 00:00:00 GMT"}):
        with pytest.raises(exceptions.OperationError) as error:
            read(client, bucket, "k", **options)
        assert failure(error).status_code == 304
    for options in ({"if_match": '"other"'}, {"if_unmodified_since": "Sat, 01 Jan 2000 00:00:00 GMT"}):
        with pytest.raises(exceptions.OperationError) as error:
            read(client, bucket, "k", **options)
        assert (failure(error).status_code, failure(error).code) == (412, "PreconditionFailed")
    with pytest.raises(exceptions.OperationError) as error:
        client.copy_object(oss.CopyObjectRequest(bucket=bucket, key="x", source_key="k", if_match='"other"'))
    assert failure(error).code == "PreconditionFailed"


@pytest.mark.parametrize("version", ["v1", "v4"])
def test_signatures_of_both_versions_are_accepted_in_headers_and_urls(
    shared_cloud: Any, bucket: str, version: str
) -> None:
    client = shared_cloud.client(signature_version=version)
    put(client, bucket, "k", b"signed")
    assert read(client, bucket, "k") == b"signed"
    url = client.presign(oss.GetObjectRequest(bucket=bucket, key="k"), expires=timedelta(minutes=5)).url
    connection = http.client.HTTPConnection("127.0.0.1", shared_cloud.port)
    connection.request("GET", url.removeprefix(shared_cloud.url))
    assert connection.getresponse().read() == b"signed"
    connection.close()


def test_an_expired_presigned_url_is_refused(shared_cloud: Any, bucket: str) -> None:
    url = f"/{bucket}/k?OSSAccessKeyId=key&Expires=1000000000&Signature=s"
    response, body = raw(shared_cloud, "GET", url, Authorization="")
    assert response.status == 403
    assert b"<Code>AccessDenied</Code>" in body
    assert b"expired" in body


def test_an_anonymous_request_is_refused_unless_an_acl_allows_it(
    shared_cloud: Any, client: oss.Client, bucket: str
) -> None:
    put(client, bucket, "private", b"1")
    put(client, bucket, "public", b"2", acl="public-read")
    response, body = raw(shared_cloud, "GET", f"/{bucket}/private", Authorization="")
    assert (response.status, b"<Code>AccessDenied</Code>" in body) == (403, True)
    assert raw(shared_cloud, "GET", f"/{bucket}/public", Authorization="")[1] == b"2"
    for method, target in (("PUT", f"/{bucket}/public"), ("DELETE", f"/{bucket}/public"), ("GET", f"/{bucket}/?acl")):
        assert raw(shared_cloud, method, target, b"", Authorization="")[0].status == 403


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ("Basic abc", "SignatureDoesNotMatch"),
        ("OSS :sig", "SignatureDoesNotMatch"),
        ("OSS a/b:sig", "InvalidAccessKeyId"),
    ],
)
def test_an_authorization_header_without_a_proper_key_is_refused(
    shared_cloud: Any, bucket: str, header: str, code: str
) -> None:
    response, body = raw(shared_cloud, "GET", f"/{bucket}/", Authorization=header)
    assert response.status == 403
    assert f"<Code>{code}</Code>".encode() in body


def test_the_bucket_may_be_in_the_host_name_or_in_an_absolute_target(
    shared_cloud: Any, client: oss.Client, bucket: str
) -> None:
    put(client, bucket, "a/b", b"bytes")
    host = f"{bucket}.127.0.0.1:{shared_cloud.port}"
    assert raw(shared_cloud, "GET", "/a/b", Host=host)[1] == b"bytes"
    assert raw(shared_cloud, "GET", f"http://{host}/a/b")[1] == b"bytes"


def test_a_slash_in_a_key_may_be_escaped_as_the_go_client_does(
    shared_cloud: Any, client: oss.Client, bucket: str
) -> None:
    assert raw(shared_cloud, "PUT", f"/{bucket}/a%2Fb%20c", b"bytes")[0].status == 200
    assert read(client, bucket, "a/b c") == b"bytes"


@pytest.mark.parametrize("target", ["a/../../../b", "./a", "a/%2E%2E/b", "/a", "//a"])
def test_dots_and_slashes_in_a_path_are_part_of_the_key(
    shared_cloud: Any, client: oss.Client, bucket: str, target: str
) -> None:
    expected = target.replace("%2E", ".")
    response, _ = raw(shared_cloud, "PUT", f"/{bucket}/k{target}", b"bytes")
    assert response.status == 200
    listed = client.list_objects_v2(oss.ListObjectsV2Request(bucket=bucket)).contents
    assert [entry.key for entry in listed] == ["k" + expected]


@pytest.mark.parametrize("target", ["/%2Fleading", "/%5Cleading", "/" + "k" * 1024, "/%ff"])
def test_a_key_oss_does_not_allow_is_refused(shared_cloud: Any, bucket: str, target: str) -> None:
    response, body = raw(shared_cloud, "PUT", f"/{bucket}{target}", b"x")
    assert response.status == 400
    assert b"<Code>InvalidObjectName</Code>" in body


def test_an_operation_that_is_not_offered_is_a_400_that_names_it(shared_cloud: Any, bucket: str) -> None:
    for method, target, code in (
        ("GET", f"/{bucket}/?inventory", "UnsupportedOperation.GET.bucket.inventory"),
        ("POST", f"/{bucket}/k?append&position=0", "UnsupportedOperation.POST.object.append.position"),
        ("PATCH", f"/{bucket}/k", "UnsupportedOperation.PATCH.object"),
        ("GET", f"/{bucket}/k?x-oss-process=image", "UnsupportedOperation.GET.object.x-oss-process"),
    ):
        response, body = raw(shared_cloud, method, target, b"")
        assert response.status == 400
        assert f"<Code>{code}</Code>".encode() in body


def test_a_body_without_a_length_is_refused_and_a_chunked_one_taken(
    shared_cloud: Any, client: oss.Client, bucket: str
) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", shared_cloud.port)
    connection.putrequest("PUT", f"/{bucket}/k")
    connection.putheader("Authorization", "OSS key:s")
    connection.endheaders()
    response = connection.getresponse()
    assert (response.status, b"MissingContentLength" in response.read()) == (411, True)
    connection.request(
        "PUT", f"/{bucket}/k", iter([b"a" * 10, b"b" * 10]), {"Authorization": "OSS key:s"}, encode_chunked=True
    )
    assert connection.getresponse().read() == b""
    connection.close()
    assert read(client, bucket, "k") == b"a" * 10 + b"b" * 10


def test_an_upload_that_breaks_off_leaves_nothing(shared_cloud: Any, client: oss.Client, bucket: str) -> None:
    put(client, bucket, "k", b"old")
    connection = http.client.HTTPConnection("127.0.0.1", shared_cloud.port)
    connection.putrequest("PUT", f"/{bucket}/k")
    connection.putheader("Authorization", "OSS key:s")
    connection.putheader("Content-Length", str(10 << 20))
    connection.endheaders(b"x" * (3 << 20))
    connection.close()
    # Whatever the server still does about the broken upload is done when it has answered the next requests.
    for _ in range(200):
        if not list((shared_cloud.data / "oss" / "tmp").iterdir()):
            break
        read(client, bucket, "k")
    assert not list((shared_cloud.data / "oss" / "tmp").iterdir())
    assert read(client, bucket, "k") == b"old"


def test_metadata_that_could_not_be_given_back_is_refused(shared_cloud: Any, bucket: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", shared_cloud.port)
    connection.request("PUT", f"/{bucket}/k", b"x", {"Authorization": "OSS key:s", "x-oss-meta-a": b"\xff\xfe"})
    response = connection.getresponse()
    assert (response.status, b"InvalidArgument" in response.read()) == (400, True)
    connection.close()


def test_an_object_that_is_overwritten_over_and_over_is_never_missing(client: oss.Client, bucket: str) -> None:
    put(client, bucket, "k", b"old")
    done = threading.Event()
    found: set[bytes] = set()

    def read_on() -> None:
        while not done.is_set():
            found.add(read(client, bucket, "k"))

    with ThreadPoolExecutor(4) as pool:
        readers = [pool.submit(read_on) for _ in range(3)]
        for number in range(150):
            put(client, bucket, "k", b"new" if number % 2 else b"old")
        done.set()
        for reader in readers:
            reader.result()
    assert found <= {b"old", b"new"}
