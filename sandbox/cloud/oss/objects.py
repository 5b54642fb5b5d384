"""OSS object operations: put, copy, get, head, delete, ACL, tagging."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Mapping
from dataclasses import replace
from email.utils import formatdate, parsedate_to_datetime
from typing import BinaryIO
from urllib.parse import parse_qsl, unquote, unquote_to_bytes
from xml.etree import ElementTree

from aiohttp import web

from sandbox.cloud.oss import errors, xml
from sandbox.cloud.oss.request import OssRequest, common_headers, reply
from sandbox.cloud.oss.store import Blob, ObjectProperties, ObjectStore, ObjectVersion
from sandbox.keys import ACCOUNT_ID

MAX_SINGLE_PUT = 5 << 30
"""Bytes in one PutObject, CopyObject or part."""

_KEPT_HEADERS = (
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-type",
    "expires",
    "x-oss-server-side-encryption",
    "x-oss-server-side-encryption-key-id",
    "x-oss-server-side-data-encryption",
)
_OBJECT_ACLS = ("default", "private", "public-read", "public-read-write")
_STORAGE_CLASSES = ("Standard", "IA", "Archive", "ColdArchive", "DeepColdArchive")
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


def check_key(key: str) -> str:
    """Refuses keys OSS refuses: over 1023 bytes of UTF-8, or beginning with a slash or backslash.

    Raises:
        OssError: ``InvalidObjectName``.
    """
    if not 0 < len(key.encode()) <= 1023 or key[0] in "/\\":
        raise errors.OssError(400, "InvalidObjectName", "The specified object is not valid.", Key=key)
    return key


def existing(request: OssRequest) -> ObjectVersion:
    """The version a request names, or the latest one.

    Raises:
        OssError: ``NoSuchBucket``, ``NoSuchKey``, ``NoSuchVersion``.
    """
    version = request.store.find(request.bucket, request.key, request.version_id)
    if version is None:
        if request.version_id:
            message = "The specified version does not exist."
            raise errors.OssError(404, "NoSuchVersion", message, Key=request.key, VersionId=request.version_id)
        raise errors.no_such_key(request.key)
    return version


def properties_of(request: OssRequest) -> ObjectProperties:
    """What the headers of a put, copy (with REPLACE) or multipart initiation give the object.

    Raises:
        OssError: ``InvalidArgument``.
    """
    headers = {name: request.headers[name] for name in _KEPT_HEADERS if name in request.headers}
    for name, value in request.http.headers.items():
        if name.lower().startswith("x-oss-meta-"):
            headers[name.lower()] = value
    for name, value in headers.items():
        if not value.isprintable():  # also what was not UTF-8, which could not be given back
            raise errors.invalid_argument(name, ascii(value), "must be printable UTF-8")
    headers.setdefault("content-type", "application/octet-stream")
    if "x-oss-server-side-encryption" not in headers:
        headers.update(default_encryption(request.store, request.bucket))
    acl = request.headers.get("x-oss-object-acl") or "default"
    storage_class = request.headers.get("x-oss-storage-class") or request.store.bucket(request.bucket).storage_class
    if storage_class not in _STORAGE_CLASSES:
        raise errors.invalid_argument("x-oss-storage-class", storage_class, "no such storage class")
    return ObjectProperties(headers, check_acl(acl), storage_class, _header_tags(request))


def default_encryption(store: ObjectStore, bucket: str) -> dict[str, str]:
    """Headers that the bucket's default encryption adds to an object."""
    body = store.bucket_config(bucket, "encryption")
    if body is None:
        return {}
    rule = ElementTree.fromstring(body).find("ApplyServerSideEncryptionByDefault")  # noqa: S314 - our own document
    names = {
        "SSEAlgorithm": "x-oss-server-side-encryption",
        "KMSMasterKeyID": "x-oss-server-side-encryption-key-id",
        "KMSDataEncryption": "x-oss-server-side-data-encryption",
    }
    found = {} if rule is None else {header: rule.findtext(tag) or "" for tag, header in names.items()}
    return {header: value for header, value in found.items() if value}


def check_acl(acl: str) -> str:
    if acl not in _OBJECT_ACLS:
        raise errors.invalid_argument("x-oss-object-acl", acl, "no such permission")
    return acl


def _header_tags(request: OssRequest) -> dict[str, str]:
    value = request.headers.get("x-oss-tagging", "")
    return _check_tags(dict(parse_qsl(value, keep_blank_values=True)))


def _check_tags(tags: dict[str, str]) -> dict[str, str]:
    if len(tags) > 10 or any(not 0 < len(key) <= 128 or len(value) > 256 for key, value in tags.items()):
        raise errors.OssError(400, "InvalidTag", "At most 10 tags, keys of 1 to 128 and values of 0 to 256 characters.")
    return tags


def forbids_overwrite(request: OssRequest) -> bool:
    return request.headers.get("x-oss-forbid-overwrite", "").lower() == "true"


def written_headers(version: ObjectVersion, store: ObjectStore) -> dict[str, str]:
    """Headers of the answer to a request that made a version."""
    headers = {"ETag": f'"{version.etag}"', "x-oss-hash-crc64ecma": version.crc64}
    headers.update({n: v for n, v in version.properties.headers.items() if n.startswith("x-oss-server-side")})
    if store.bucket(version.bucket).versioning:
        headers["x-oss-version-id"] = version.version_id
    return headers


async def put_object(request: OssRequest) -> web.StreamResponse:
    """PutObject, or CopyObject where there is a copy source."""
    check_key(request.key)
    properties = properties_of(request)
    if "x-oss-copy-source" in request.headers:
        return await _copy_object(request, properties)
    forbid = forbids_overwrite(request)
    if forbid:
        request.store.check_absent(request.bucket, request.key)
    with await asyncio.to_thread(request.store.receive) as writer:
        await request.receive(writer, MAX_SINGLE_PUT)
        blob = await asyncio.to_thread(writer.finish)
        request.check_md5(bytes.fromhex(blob.md5))
        version = await asyncio.to_thread(
            request.store.put_object, request.bucket, request.key, blob, properties, forbid_overwrite=forbid
        )
    return reply(headers={**written_headers(version, request.store), "Content-MD5": _base64_md5(blob)})


def _base64_md5(blob: Blob) -> str:
    return base64.b64encode(bytes.fromhex(blob.md5)).decode()


async def _copy_object(request: OssRequest, given: ObjectProperties) -> web.StreamResponse:
    source = copy_source(request)
    if source.size > MAX_SINGLE_PUT:
        message = "The source is larger than CopyObject allows; copy it by parts."
        raise errors.OssError(400, "EntityTooLarge", message)
    replace_headers = _directive(request, "x-oss-metadata-directive") == "REPLACE"
    replace_tags = _directive(request, "x-oss-tagging-directive") == "REPLACE"
    headers = dict(given.headers if replace_headers else source.properties.headers)
    if not replace_headers:
        for name in [name for name in headers if name.startswith("x-oss-server-side")]:
            del headers[name]
        headers.update({n: v for n, v in given.headers.items() if n.startswith("x-oss-server-side")})
    tags = given.tags if replace_tags else source.properties.tags
    version = await asyncio.to_thread(
        request.store.copy_object,
        source,
        request.bucket,
        request.key,
        ObjectProperties(headers, given.acl, given.storage_class, tags),
        forbid_overwrite=forbids_overwrite(request),
    )
    answer = written_headers(version, request.store)
    if request.store.bucket(source.bucket).versioning:
        answer["x-oss-copy-source-version-id"] = source.version_id
    fields = {"LastModified": xml.timestamp(version.modified), "ETag": f'"{version.etag}"'}
    return reply(body=xml.document("CopyObjectResult", fields), headers=answer)


def _directive(request: OssRequest, name: str) -> str:
    value = request.headers.get(name, "COPY").upper()
    if value not in ("COPY", "REPLACE"):
        raise errors.invalid_argument(name, value, "must be COPY or REPLACE")
    return value


def copy_source(request: OssRequest) -> ObjectVersion:
    """The version ``x-oss-copy-source`` names, its ``x-oss-copy-source-if-*`` conditions checked.

    Raises:
        OssError: ``InvalidArgument``, ``NoSuchKey``, or a condition is not met.
    """
    value = request.headers["x-oss-copy-source"]
    path, _, query = value.partition("?")
    try:
        bucket, _, key = unquote_to_bytes(path).decode("utf-8").removeprefix("/").partition("/")
    except UnicodeDecodeError:
        raise errors.invalid_argument("x-oss-copy-source", value, "must be UTF-8") from None
    if not bucket or not key:
        raise errors.invalid_argument("x-oss-copy-source", value, "must be /bucket/key")
    version_id = unquote(query.removeprefix("versionId=")) if query.startswith("versionId=") else ""
    version = request.store.find(bucket, key, version_id)
    if version is None or version.is_delete_marker:
        raise errors.no_such_key(key)
    if check_conditions(version, request.headers, "x-oss-copy-source-") == 304:
        raise errors.OssError(304, "NotModified", "The source was not modified.")
    return version


def check_conditions(version: ObjectVersion, headers: Mapping[str, str], prefix: str = "") -> int:
    """Evaluates ``If-*`` headers as RFC 9110 does.

    Returns:
        200, or 304 where the client has it already.

    Raises:
        OssError: ``PreconditionFailed``.
    """

    def moment(name: str) -> float | None:
        try:
            return parsedate_to_datetime(headers[prefix + name]).timestamp()
        except (KeyError, TypeError, ValueError):
            return None

    def tags(name: str) -> list[str]:
        return [tag.strip().strip('"') for tag in headers.get(prefix + name, "").split(",") if tag.strip()]

    modified = int(version.modified)
    match, none_match = tags("If-Match"), tags("If-None-Match")
    failed = errors.OssError(412, "PreconditionFailed", "At least one of the pre-conditions did not hold.")
    if match:
        if "*" not in match and version.etag not in match:
            raise failed
    elif (since := moment("If-Unmodified-Since")) is not None and modified > since:
        raise failed
    if none_match:
        if "*" in none_match or version.etag in none_match:
            return 304
    elif (since := moment("If-Modified-Since")) is not None and modified <= since:
        return 304
    return 200


def _meta_headers(version: ObjectVersion, store: ObjectStore) -> dict[str, str]:
    headers = {
        "ETag": f'"{version.etag}"',
        "Last-Modified": formatdate(version.modified, usegmt=True),
        "x-oss-hash-crc64ecma": version.crc64,
    }
    if store.bucket(version.bucket).versioning:
        headers["x-oss-version-id"] = version.version_id
    return headers


def _headers(version: ObjectVersion, store: ObjectStore) -> dict[str, str]:
    headers = {
        **common_headers(),
        **_meta_headers(version, store),
        "Accept-Ranges": "bytes",
        "x-oss-object-type": "Multipart" if version.multipart else "Normal",
        "x-oss-storage-class": version.properties.storage_class,
        **version.properties.headers,
    }
    if version.properties.tags:
        headers["x-oss-tagging-count"] = str(len(version.properties.tags))
    return headers


def _refuse_marker(version: ObjectVersion) -> ObjectVersion:
    if version.is_delete_marker:
        message = "The specified method is not allowed against this resource: it is a delete marker."
        raise errors.OssError(405, "MethodNotAllowed", message, Method="GET", ResourceType="DeleteMarker")
    return version


async def get_object_meta(request: OssRequest) -> web.StreamResponse:
    """GetObjectMeta: size, ETag and date only."""
    version = _refuse_marker(existing(request))
    headers = {**common_headers(), **_meta_headers(version, request.store), "Content-Length": str(version.size)}
    return web.Response(headers=headers)


async def get_object(request: OssRequest) -> web.StreamResponse:
    """GetObject and HeadObject."""
    if request.http.method == "HEAD":
        version = _refuse_marker(existing(request))
        headers = _headers(version, request.store)
        if check_conditions(version, request.headers) == 304:
            return _not_modified(request, version)
        return web.Response(headers={**headers, "Content-Length": str(version.size)})
    version, file = await asyncio.to_thread(_opened, request)
    with file:
        headers = _headers(version, request.store)
        status = check_conditions(version, request.headers)
        if status == 304:
            return _not_modified(request, version)
        for name, value in request.query.items():
            if name.startswith("response-"):
                headers[name.removeprefix("response-")] = value
        first, length = 0, version.size
        span = _span(request, version.size)
        if span is not None:
            first, length = span
            status = 206
            headers["Content-Range"] = f"bytes {first}-{first + length - 1}/{version.size}"
        return await _stream(request, file, first, length, web.StreamResponse(status=status, headers=headers))


def _opened(request: OssRequest) -> tuple[ObjectVersion, BinaryIO]:
    """The version asked for and its bytes, found and opened at one moment: an overwrite removes the bytes it replaces,
    and whoever reads meanwhile gets the old object or the new one."""
    with request.store.lock:
        version = _refuse_marker(existing(request))
        return version, request.store.open_blob(version)


def _not_modified(request: OssRequest, version: ObjectVersion) -> web.Response:
    return web.Response(status=304, headers={**common_headers(), **_meta_headers(version, request.store)})


def _span(request: OssRequest, size: int) -> tuple[int, int] | None:
    """First byte and length of a ``Range``, None for the whole object.

    A range that cannot be met is ignored, unless ``x-oss-range-behavior: standard`` asks for 416, as documented.
    """
    header = request.headers.get("Range", "")
    match = _RANGE.fullmatch(header.replace(" ", ""))
    if match is None or not (match[1] or match[2]):
        return None
    strict = request.headers.get("x-oss-range-behavior", "") == "standard"
    if match[1]:
        first, last = int(match[1]), int(match[2]) if match[2] else size - 1
    else:
        first, last = max(size - int(match[2]), 0), size - 1
    if strict:
        last = min(last, size - 1) if first <= last else first - 1
    if first <= last < size:
        return first, last - first + 1
    if strict:
        raise errors.OssError(416, "InvalidRange", "The requested range cannot be satisfied.", RangeRequested=header)
    return None


async def _stream(
    request: OssRequest, file: BinaryIO, first: int, length: int, response: web.StreamResponse
) -> web.StreamResponse:
    response.content_length = length
    await response.prepare(request.http)
    file.seek(first)
    while length:
        chunk = await asyncio.to_thread(file.read, min(length, 1 << 20))
        if not chunk:
            raise ConnectionResetError("the file is shorter than its index entry")
        await response.write(chunk)
        length -= len(chunk)
    await response.write_eof()
    return response


async def delete_object(request: OssRequest) -> web.StreamResponse:
    """DeleteObject. Deleting what is not there succeeds."""
    done = await asyncio.to_thread(
        request.store.delete_objects, request.bucket, [(check_key(request.key), request.version_id)]
    )
    headers = {}
    if done[0].version_id:
        headers["x-oss-version-id"] = done[0].version_id
    if done[0].delete_marker:
        headers["x-oss-delete-marker"] = "true"
    return reply(204, headers=headers)


async def get_object_acl(request: OssRequest) -> web.StreamResponse:
    version = _refuse_marker(existing(request))
    return reply(body=acl_document(version.properties.acl))


def acl_document(acl: str) -> bytes:
    """AccessControlPolicy, for objects and buckets alike."""
    owner = {"ID": ACCOUNT_ID, "DisplayName": ACCOUNT_ID}
    return xml.document("AccessControlPolicy", {"Owner": owner, "AccessControlList": {"Grant": acl}})


async def put_object_acl(request: OssRequest) -> web.StreamResponse:
    version = _refuse_marker(existing(request))
    acl = check_acl(request.headers.get("x-oss-object-acl", ""))
    await asyncio.to_thread(request.store.set_properties, version, replace(version.properties, acl=acl))
    return reply()


async def get_object_tagging(request: OssRequest) -> web.StreamResponse:
    version = _refuse_marker(existing(request))
    return reply(body=tagging_document(version.properties.tags))


def tagging_document(tags: Mapping[str, str]) -> bytes:
    """Tagging, for objects and buckets alike."""
    entries = [{"Key": key, "Value": value} for key, value in tags.items()]
    return xml.document("Tagging", {"TagSet": {"Tag": entries}})


def read_tagging(body: bytes) -> dict[str, str]:
    """Tags of a Tagging document.

    Raises:
        OssError: ``MalformedXML``.
    """
    tags: dict[str, str] = {}
    for tag in xml.parse(body, "Tagging").iterfind("TagSet/Tag"):
        key = tag.findtext("Key")
        if key is None or key in tags:
            raise errors.malformed_xml()
        tags[key] = tag.findtext("Value") or ""
    return tags


async def put_object_tagging(request: OssRequest) -> web.StreamResponse:
    tags = _check_tags(read_tagging(await request.document()))
    version = _refuse_marker(existing(request))
    await asyncio.to_thread(request.store.set_properties, version, replace(version.properties, tags=tags))
    return reply()


async def delete_object_tagging(request: OssRequest) -> web.StreamResponse:
    version = _refuse_marker(existing(request))
    await asyncio.to_thread(request.store.set_properties, version, replace(version.properties, tags={}))
    return reply(204)
