"""OSS multipart uploads: initiate, upload part, copy part, complete, abort, list parts, list uploads."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from typing import BinaryIO

from aiohttp import web

from sandbox.cloud.oss import errors, objects, xml
from sandbox.cloud.oss.request import OssRequest, reply
from sandbox.cloud.oss.store import ObjectProperties, ObjectVersion, Part, Upload
from sandbox.keys import ACCOUNT_ID

MAX_PART_NUMBER = 10000
MIN_PART_SIZE = 100 << 10
"""Bytes of every part but the last."""

_RANGE = re.compile(r"bytes=(\d+)-(\d+)")


def _upload_of(request: OssRequest) -> Upload:
    return request.store.upload(request.bucket, request.key, request.query["uploadId"])


async def initiate(request: OssRequest) -> web.StreamResponse:
    """InitiateMultipartUpload."""
    objects.check_key(request.key)
    encoding = request.encoding
    properties = objects.properties_of(request)
    if objects.forbids_overwrite(request):
        request.store.check_absent(request.bucket, request.key)
    upload = await asyncio.to_thread(request.store.create_upload, request.bucket, request.key, properties)
    body = xml.document(
        "InitiateMultipartUploadResult",
        {
            "EncodingType": encoding or None,
            "Bucket": request.bucket,
            "Key": xml.encoded(request.key, encoding),
            "UploadId": upload.upload_id,
        },
    )
    return reply(body=body)


async def upload_part(request: OssRequest) -> web.StreamResponse:
    """UploadPart, or UploadPartCopy where there is a copy source.

    Raises:
        OssError: ``InvalidArgument``, or there is no such upload.
    """
    number = request.number("partNumber", 0, 1, MAX_PART_NUMBER)
    if not number:
        raise errors.invalid_argument("partNumber", "", "Part number must not be empty.")
    upload = _upload_of(request)
    store = request.store
    copying = "x-oss-copy-source" in request.headers
    with await asyncio.to_thread(store.receive) as writer:
        if copying:
            source, file = await asyncio.to_thread(_opened_source, request)
            with file:
                first, length = _copy_range(request, source.size)
                file.seek(first)
                while length and (chunk := await asyncio.to_thread(file.read, min(length, 1 << 20))):
                    await asyncio.to_thread(writer.write, chunk)
                    length -= len(chunk)
        else:
            await request.receive(writer, objects.MAX_SINGLE_PUT)
        blob = await asyncio.to_thread(writer.finish)
        if not copying:
            request.check_md5(bytes.fromhex(blob.md5))
        part = await asyncio.to_thread(store.put_part, upload, number, blob)
    headers = {"ETag": f'"{part.etag}"', "x-oss-hash-crc64ecma": part.crc64}
    if not copying:
        return reply(headers=headers)
    fields = {"LastModified": xml.timestamp(part.modified), "ETag": f'"{part.etag}"'}
    return reply(body=xml.document("CopyPartResult", fields), headers=headers)


def _opened_source(request: OssRequest) -> tuple[ObjectVersion, BinaryIO]:
    """The object to copy from and its bytes, found and opened at one moment."""
    with request.store.lock:
        source = objects.copy_source(request)
        return source, request.store.open_blob(source)


def _copy_range(request: OssRequest, size: int) -> tuple[int, int]:
    header = request.headers.get("x-oss-copy-source-range", "")
    if not header:
        return 0, size
    match = _RANGE.fullmatch(header)
    if match is None or not int(match[1]) <= int(match[2]) < size:
        raise errors.OssError(416, "InvalidRange", "The copy source range cannot be satisfied.", RangeRequested=header)
    return int(match[1]), int(match[2]) - int(match[1]) + 1


async def complete(request: OssRequest) -> web.StreamResponse:
    """CompleteMultipartUpload.

    Raises:
        OssError: ``MalformedXML``, ``InvalidPart``, ``InvalidPartOrder``, or there is no such upload.
    """
    upload = _upload_of(request)
    encoding = request.encoding
    body = await request.document()
    stored = request.store.parts(upload)
    if request.headers.get("x-oss-complete-all", "").lower() == "yes":
        parts = stored
    else:
        parts = _named_parts(body, {part.number: part for part in stored})
    if not parts:
        raise errors.malformed_xml()
    for part in parts[:-1]:
        if part.size < MIN_PART_SIZE:
            message = "Your proposed upload is smaller than the minimum allowed size."
            raise errors.OssError(400, "EntityTooSmall", message, PartNumber=str(part.number))
    version = await asyncio.to_thread(
        request.store.complete_upload,
        upload,
        parts,
        _with_acl(request, upload),
        forbid_overwrite=objects.forbids_overwrite(request),
    )
    fields = {
        "EncodingType": encoding or None,
        "Location": f"http://{request.host}/{request.bucket}/{xml.encoded(request.key, 'url')}",
        "Bucket": request.bucket,
        "Key": xml.encoded(request.key, encoding),
        "ETag": f'"{version.etag}"',
    }
    headers = objects.written_headers(version, request.store)
    return reply(body=xml.document("CompleteMultipartUploadResult", fields), headers=headers)


def _with_acl(request: OssRequest, upload: Upload) -> ObjectProperties:
    acl = request.headers.get("x-oss-object-acl")
    return replace(upload.properties, acl=objects.check_acl(acl)) if acl else upload.properties


def _named_parts(body: bytes, stored: dict[int, Part]) -> list[Part]:
    parts: list[Part] = []
    for element in xml.parse(body, "CompleteMultipartUpload").iterfind("Part"):
        number = element.findtext("PartNumber") or ""
        etag = (element.findtext("ETag") or "").strip().strip('"').upper()
        if not (number.isascii() and number.isdigit()):
            raise errors.malformed_xml()
        if parts and int(number) <= parts[-1].number:
            raise errors.OssError(400, "InvalidPartOrder", "The list of parts was not in ascending order.")
        part = stored.get(int(number))
        if part is None or part.etag != etag:
            message = "One or more of the specified parts could not be found or their entity tags did not match."
            raise errors.OssError(400, "InvalidPart", message, PartNumber=number, ETag=etag)
        parts.append(part)
    return parts


async def abort(request: OssRequest) -> web.StreamResponse:
    """AbortMultipartUpload."""
    await asyncio.to_thread(request.store.abort_upload, _upload_of(request))
    return reply(204)


async def list_parts(request: OssRequest) -> web.StreamResponse:
    """ListParts."""
    upload = _upload_of(request)
    encoding = request.encoding
    limit = request.number("max-parts", 1000, 1, 1000)
    after = request.number("part-number-marker", 0, 0, MAX_PART_NUMBER)
    rest = [part for part in request.store.parts(upload) if part.number > after]
    page = rest[:limit]
    body = xml.document(
        "ListPartsResult",
        {
            "EncodingType": encoding or None,
            "Bucket": request.bucket,
            "Key": xml.encoded(request.key, encoding),
            "UploadId": upload.upload_id,
            "StorageClass": upload.properties.storage_class,
            "PartNumberMarker": after,
            "NextPartNumberMarker": page[-1].number if page else after,
            "MaxParts": limit,
            "IsTruncated": len(rest) > limit,
            "Part": [
                {
                    "PartNumber": part.number,
                    "LastModified": xml.timestamp(part.modified),
                    "ETag": f'"{part.etag}"',
                    "HashCrc64ecma": part.crc64,
                    "Size": part.size,
                }
                for part in page
            ],
        },
    )
    return reply(body=body)


async def list_uploads(request: OssRequest) -> web.StreamResponse:
    """ListMultipartUploads."""
    query = request.query
    encoding = request.encoding
    limit = request.number("max-uploads", 1000, 1, 1000)
    prefix, delimiter, marker = query.get("prefix", ""), query.get("delimiter", ""), query.get("key-marker", "")
    upload_marker = query.get("upload-id-marker", "")
    page = await asyncio.to_thread(
        request.store.list_uploads, request.bucket, prefix, delimiter, marker, upload_marker, limit
    )
    body = xml.document(
        "ListMultipartUploadsResult",
        {
            "EncodingType": encoding or None,
            "Bucket": request.bucket,
            "KeyMarker": xml.encoded(marker, encoding),
            "UploadIdMarker": upload_marker,
            "NextKeyMarker": xml.encoded(page.next or "", encoding),
            "NextUploadIdMarker": page.next_id,
            "Delimiter": xml.encoded(delimiter, encoding),
            "Prefix": xml.encoded(prefix, encoding),
            "MaxUploads": limit,
            "IsTruncated": page.next is not None,
            "Upload": [
                {
                    "Key": xml.encoded(upload.key, encoding),
                    "UploadId": upload.upload_id,
                    "StorageClass": upload.properties.storage_class,
                    "Initiated": xml.timestamp(upload.initiated),
                    "Initiator": {"ID": ACCOUNT_ID},
                }
                for upload in page.items
            ],
            "CommonPrefixes": [{"Prefix": xml.encoded(name, encoding)} for name in page.prefixes],
        },
    )
    return reply(body=body)
