"""Multipart uploads to the sandbox OSS, through the official client and its resuming uploader."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import alibabacloud_oss_v2 as oss
import crcmod
import pytest
from alibabacloud_oss_v2 import exceptions

crc64 = crcmod.mkCrcFun(0x142F0E1EBA9EA3693, initCrc=0, rev=True, xorOut=0xFFFFFFFFFFFFFFFF)
PART = 100 << 10


def initiate(client: oss.Client, bucket: str, key: str = "k", **options: Any) -> str:
    request = oss.InitiateMultipartUploadRequest(bucket=bucket, key=key, **options)
    return str(client.initiate_multipart_upload(request).upload_id)


def send(client: oss.Client, bucket: str, upload: str, number: int, body: bytes, key: str = "k") -> oss.UploadPart:
    request = oss.UploadPartRequest(bucket=bucket, key=key, upload_id=upload, part_number=number, body=body)
    return oss.UploadPart(part_number=number, etag=client.upload_part(request).etag)


def complete(client: oss.Client, bucket: str, upload: str, parts: list[oss.UploadPart], **options: Any) -> Any:
    body = oss.CompleteMultipartUpload(parts=parts)
    return client.complete_multipart_upload(
        oss.CompleteMultipartUploadRequest(
            bucket=bucket, key="k", upload_id=upload, complete_multipart_upload=body, **options
        )
    )


def failure(error: pytest.ExceptionInfo[exceptions.OperationError]) -> tuple[int, str]:
    found = error.value.unwrap()
    return found.status_code, found.code


def test_parts_in_any_order_become_one_object_with_the_crc_of_the_whole(client: oss.Client, bucket: str) -> None:
    bodies = [os.urandom(PART), os.urandom(PART + 1), os.urandom(5)]
    upload = initiate(client, bucket, content_type="text/plain", metadata={"a": "1"}, tagging="t=1")
    parts = [send(client, bucket, upload, number, bodies[number - 1]) for number in (3, 1, 2)]
    result = complete(client, bucket, upload, sorted(parts, key=lambda part: part.part_number))
    whole = b"".join(bodies)
    assert result.hash_crc64 == str(crc64(whole))
    digest = hashlib.md5(
        b"".join(hashlib.md5(b, usedforsecurity=False).digest() for b in bodies), usedforsecurity=False
    )
    assert result.etag == f'"{digest.hexdigest().upper()}-3"'
    head = client.head_object(oss.HeadObjectRequest(bucket=bucket, key="k"))
    assert (head.object_type, head.content_type, head.tagging_count) == ("Multipart", "text/plain", 1)
    assert head.metadata["a"] == "1"
    assert client.get_object(oss.GetObjectRequest(bucket=bucket, key="k")).body.content == whole


def test_a_finished_or_aborted_upload_is_gone_and_frees_its_parts(
    client: oss.Client, bucket: str, shared_cloud: Any
) -> None:
    blobs = shared_cloud.data / "oss" / "blobs"
    before = set(blobs.glob("*/*"))
    finished = initiate(client, bucket)
    complete(client, bucket, finished, [send(client, bucket, finished, 1, b"x")])
    aborted = initiate(client, bucket)
    send(client, bucket, aborted, 1, b"y")
    send(client, bucket, aborted, 1, b"z")
    client.abort_multipart_upload(oss.AbortMultipartUploadRequest(bucket=bucket, key="k", upload_id=aborted))
    assert len(set(blobs.glob("*/*")) - before) == 1
    for upload in (finished, aborted, "made-up"):
        with pytest.raises(exceptions.OperationError) as error:
            send(client, bucket, upload, 2, b"z")
        assert failure(error) == (404, "NoSuchUpload")


@pytest.mark.parametrize("case", ["wrong etag", "missing part", "wrong order", "too small", "no parts"])
def test_a_wrong_list_of_parts_is_refused_and_the_upload_stays(client: oss.Client, bucket: str, case: str) -> None:
    upload = initiate(client, bucket)
    first = send(client, bucket, upload, 1, b"x" * (10 if case == "too small" else PART))
    second = send(client, bucket, upload, 2, b"y")
    parts, code = {
        "wrong etag": ([first, oss.UploadPart(part_number=2, etag='"' + "0" * 32 + '"')], "InvalidPart"),
        "missing part": ([first, oss.UploadPart(part_number=3, etag=second.etag)], "InvalidPart"),
        "wrong order": ([second, first], "InvalidPartOrder"),
        "too small": ([first, second], "EntityTooSmall"),
        "no parts": ([], "MalformedXML"),
    }[case]
    with pytest.raises(exceptions.OperationError) as error:
        complete(client, bucket, upload, parts)
    assert failure(error) == (400, code)
    listed = client.list_parts(oss.ListPartsRequest(bucket=bucket, key="k", upload_id=upload))
    assert [part.part_number for part in listed.parts] == [1, 2]


def test_complete_all_takes_every_part(client: oss.Client, bucket: str) -> None:
    upload = initiate(client, bucket)
    send(client, bucket, upload, 5, b"y")
    send(client, bucket, upload, 2, b"x" * PART)
    client.complete_multipart_upload(
        oss.CompleteMultipartUploadRequest(bucket=bucket, key="k", upload_id=upload, complete_all="yes")
    )
    assert client.head_object(oss.HeadObjectRequest(bucket=bucket, key="k")).content_length == PART + 1


def test_completing_can_refuse_to_overwrite(client: oss.Client, bucket: str) -> None:
    upload = initiate(client, bucket)
    part = send(client, bucket, upload, 1, b"new")
    client.put_object(oss.PutObjectRequest(bucket=bucket, key="k", body=b"old"))
    with pytest.raises(exceptions.OperationError) as error:
        complete(client, bucket, upload, [part], forbid_overwrite=True)
    assert failure(error) == (409, "FileAlreadyExists")
    complete(client, bucket, upload, [part])


def test_parts_can_be_copied_from_an_object(client: oss.Client, bucket: str) -> None:
    source = os.urandom(2 * PART)
    client.put_object(oss.PutObjectRequest(bucket=bucket, key="source ü", body=source))
    upload = initiate(client, bucket)
    parts = []
    for number, span in enumerate((f"bytes={PART}-{2 * PART - 1}", "bytes=0-9"), 1):
        copied = client.upload_part_copy(
            oss.UploadPartCopyRequest(
                bucket=bucket,
                key="k",
                upload_id=upload,
                part_number=number,
                source_key="source ü",
                source_range=span,
            )
        )
        parts.append(oss.UploadPart(part_number=number, etag=copied.etag))
    complete(client, bucket, upload, parts)
    body = client.get_object(oss.GetObjectRequest(bucket=bucket, key="k")).body.content
    assert body == source[PART:] + source[:10]
    with pytest.raises(exceptions.OperationError) as error:
        client.upload_part_copy(
            oss.UploadPartCopyRequest(
                bucket=bucket,
                key="k",
                upload_id=initiate(client, bucket),
                part_number=1,
                source_key="source ü",
                source_range=f"bytes=0-{2 * PART}",
            )
        )
    assert failure(error) == (416, "InvalidRange")


def test_parts_and_uploads_are_listed_by_pages(client: oss.Client, bucket: str) -> None:
    uploads = sorted((key, initiate(client, bucket, key)) for key in ("a/1", "a/1", "a/2", "b ü"))
    for number in (1, 2, 3):
        send(client, bucket, uploads[0][1], number, b"x" * number, key="a/1")
    pages = client.list_parts_paginator(limit=2).iter_page(
        oss.ListPartsRequest(bucket=bucket, key="a/1", upload_id=uploads[0][1])
    )
    assert [(part.part_number, part.size) for page in pages for part in page.parts] == [(1, 1), (2, 2), (3, 3)]
    listed = client.list_multipart_uploads_paginator(limit=1).iter_page(oss.ListMultipartUploadsRequest(bucket=bucket))
    assert [(upload.key, upload.upload_id) for page in listed for upload in page.uploads] == uploads
    rolled = client.list_multipart_uploads(oss.ListMultipartUploadsRequest(bucket=bucket, delimiter="/"))
    assert [upload.key for upload in rolled.uploads] == ["b ü"]


@pytest.mark.parametrize("number", [0, 10001])
def test_part_numbers_go_from_1_to_10000(client: oss.Client, bucket: str, number: int) -> None:
    with pytest.raises(exceptions.OperationError) as error:
        send(client, bucket, initiate(client, bucket), number, b"x")
    assert failure(error) == (400, "InvalidArgument")


def test_the_resuming_uploader_sends_only_the_parts_that_are_missing(
    client: oss.Client, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "variables.data-00000-of-00001"
    file.write_bytes(os.urandom(10 * PART + 17))
    checkpoints = tmp_path / "checkpoints"
    checkpoints.mkdir()
    options = {
        "part_size": PART,
        "parallel_num": 1,
        "enable_checkpoint": True,
        "checkpoint_dir": f"{checkpoints}/",
    }

    def break_off(increment: int, written: int, total: int) -> None:
        if written > 6 * PART:
            raise RuntimeError("broken off")

    request = oss.PutObjectRequest(bucket=bucket, key="k", progress_fn=break_off)
    with pytest.raises(Exception, match="broken off"):
        client.uploader(**options).upload_file(request, str(file))
    uploads = client.list_multipart_uploads(oss.ListMultipartUploadsRequest(bucket=bucket)).uploads
    assert len(uploads) == 1
    first = client.list_parts(oss.ListPartsRequest(bucket=bucket, key="k", upload_id=uploads[0].upload_id)).parts
    assert 3 <= len(first) <= 7

    sent: list[int] = []
    upload_part = client.upload_part

    def counting(request: oss.UploadPartRequest, **kwargs: Any) -> oss.UploadPartResult:
        sent.append(request.part_number)
        return upload_part(request, **kwargs)

    monkeypatch.setattr(client, "upload_part", counting)
    request = oss.PutObjectRequest(bucket=bucket, key="k")
    result = client.uploader(**options).upload_file(request, str(file))
    assert result.upload_id == uploads[0].upload_id
    assert sent == list(range(len(first) + 1, 12))
    assert result.hash_crc64 == str(crc64(file.read_bytes()))
    assert client.get_object(oss.GetObjectRequest(bucket=bucket, key="k")).body.content == file.read_bytes()
    assert not client.list_multipart_uploads(oss.ListMultipartUploadsRequest(bucket=bucket)).uploads


def test_the_parallel_downloader_gets_what_the_uploader_put(client: oss.Client, bucket: str, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(os.urandom(3 << 20))
    client.uploader(part_size=256 << 10).upload_file(oss.PutObjectRequest(bucket=bucket, key="k"), str(source))
    client.downloader(part_size=300 << 10).download_file(oss.GetObjectRequest(bucket=bucket, key="k"), str(target))
    assert target.read_bytes() == source.read_bytes()
