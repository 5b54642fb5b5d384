"""OSS bucket operations: create, list, delete, information, object listings, multi-delete."""

from __future__ import annotations

import asyncio
import base64
import binascii
import time
from urllib.parse import parse_qsl

from aiohttp import web

from sandbox.cloud.oss import errors, objects, xml
from sandbox.cloud.oss.bucket_config import BUCKET_ACLS, encryption_document, encryption_fields
from sandbox.cloud.oss.request import OssRequest, reply
from sandbox.cloud.oss.store import Bucket, ObjectVersion
from sandbox.keys import ACCOUNT_ID
from tfserving import cloud_names

_OWNER: dict[str, xml.Value] = {"ID": ACCOUNT_ID, "DisplayName": ACCOUNT_ID}


def _location(bucket: Bucket) -> str:
    return f"oss-{bucket.region}"


async def list_buckets(request: OssRequest) -> web.StreamResponse:
    """ListBuckets (GetService)."""
    query = request.query
    limit = request.number("max-keys", 100, 1, 1000)
    prefix, marker = query.get("prefix", ""), query.get("marker", "")
    found = [b for b in request.store.buckets() if b.name.startswith(prefix) and b.name > marker]
    page = found[:limit]
    truncated = len(found) > limit
    body = xml.document(
        "ListAllMyBucketsResult",
        {
            "Prefix": prefix,
            "Marker": marker,
            "MaxKeys": limit,
            "IsTruncated": truncated,
            "NextMarker": page[-1].name if truncated else None,
            "Owner": _OWNER,
            "Buckets": {
                "Bucket": [
                    {
                        "CreationDate": xml.timestamp(bucket.created),
                        "ExtranetEndpoint": request.host,
                        "IntranetEndpoint": request.host,
                        "Location": _location(bucket),
                        "Name": bucket.name,
                        "Region": bucket.region,
                        "ResourceGroupId": bucket.resource_group or None,
                        "StorageClass": bucket.storage_class,
                    }
                    for bucket in page
                ]
            },
        },
    )
    return reply(body=body)


async def put_bucket(request: OssRequest) -> web.StreamResponse:
    """PutBucket. Creating one's own bucket again only sets the ACL, if there is one in the request.

    Raises:
        OssError: ``InvalidBucketName``, ``InvalidArgument``, or the bucket is another account's.
    """
    if not cloud_names.BUCKET.fullmatch(request.bucket):
        message = "The specified bucket is not valid."
        raise errors.OssError(400, "InvalidBucketName", message, BucketName=request.bucket)
    body = await request.document()
    storage_class, redundancy = "Standard", "LRS"
    if body.strip():
        document = xml.parse(body, "CreateBucketConfiguration")
        storage_class = document.findtext("StorageClass") or storage_class
        redundancy = document.findtext("DataRedundancyType") or redundancy
    if storage_class not in ("Standard", "IA", "Archive", "ColdArchive", "DeepColdArchive"):
        raise errors.invalid_argument("StorageClass", storage_class, "no such storage class")
    if redundancy not in ("LRS", "ZRS"):
        raise errors.invalid_argument("DataRedundancyType", redundancy, "must be LRS or ZRS")
    acl = request.headers.get("x-oss-acl", "")
    if acl and acl not in BUCKET_ACLS:
        raise errors.invalid_argument("x-oss-acl", acl, "no such permission")
    bucket = Bucket(
        request.bucket,
        time.time(),
        acl=acl or "private",
        storage_class=storage_class,
        redundancy=redundancy,
        region=request.region,
        resource_group=request.headers.get("x-oss-resource-group-id", ""),
    )
    store = request.store
    if not await asyncio.to_thread(store.create_bucket, bucket):
        if store.bucket(bucket.name).storage_class != storage_class:
            message = "The requested bucket name is not available: it exists with another storage class."
            raise errors.OssError(409, "BucketAlreadyExists", message, BucketName=bucket.name)
        if acl:
            await asyncio.to_thread(lambda: store.update_bucket(bucket.name, acl=acl))
        return reply(headers={"Location": f"/{bucket.name}"})
    algorithm = request.headers.get("x-oss-server-side-encryption", "")
    if algorithm:
        document_body = encryption_document(
            algorithm,
            request.headers.get("x-oss-server-side-encryption-key-id", ""),
            request.headers.get("x-oss-server-side-data-encryption", ""),
        )
        await asyncio.to_thread(store.set_bucket_config, bucket.name, "encryption", document_body)
    tags = dict(parse_qsl(request.headers.get("x-oss-bucket-tagging", ""), keep_blank_values=True))
    if tags:
        await asyncio.to_thread(store.set_bucket_config, bucket.name, "tagging", objects.tagging_document(tags))
    return reply(headers={"Location": f"/{bucket.name}"})


async def delete_bucket(request: OssRequest) -> web.StreamResponse:
    """DeleteBucket: only when it is empty."""
    await asyncio.to_thread(request.store.delete_bucket, request.bucket)
    return reply(204)


async def get_bucket_info(request: OssRequest) -> web.StreamResponse:
    """GetBucketInfo."""
    store = request.store
    bucket = store.bucket(request.bucket)
    algorithm, key, data = encryption_fields(store, bucket.name)
    monitor = store.bucket_config(bucket.name, "accessmonitor") or b""
    block = store.bucket_config(bucket.name, "publicAccessBlock") or b""
    fields: dict[str, xml.Value] = {
        "AccessMonitor": "Enabled" if b"<Status>Enabled</Status>" in monitor else "Disabled",
        "BlockPublicAccess": b"<BlockPublicAccess>true</BlockPublicAccess>" in block,
        "CreationDate": xml.timestamp(bucket.created),
        "CrossRegionReplication": "Disabled",
        "DataRedundancyType": bucket.redundancy,
        "ExtranetEndpoint": request.host,
        "IntranetEndpoint": request.host,
        "Location": _location(bucket),
        "Name": bucket.name,
        "ResourceGroupId": bucket.resource_group or None,
        "StorageClass": bucket.storage_class,
        "TransferAcceleration": "Disabled",
        "Versioning": bucket.versioning or None,
        "Owner": _OWNER,
        "AccessControlList": {"Grant": bucket.acl},
        "ServerSideEncryptionRule": {
            "SSEAlgorithm": algorithm or "None",
            "KMSMasterKeyID": key or None,
            "KMSDataEncryption": data or None,
        },
        "BucketPolicy": {"LogBucket": "", "LogPrefix": ""},
    }
    return reply(body=xml.document("BucketInfo", {"Bucket": fields}))


async def get_bucket_stat(request: OssRequest) -> web.StreamResponse:
    """GetBucketStat. Everything counts as Standard storage."""
    usage = await asyncio.to_thread(request.store.usage, request.bucket)
    body = xml.document(
        "BucketStat",
        {
            "Storage": usage["bytes"],
            "ObjectCount": usage["objects"],
            "MultipartUploadCount": usage["uploads"],
            "LiveChannelCount": 0,
            "LastModifiedTime": int(time.time()),
            "StandardStorage": usage["bytes"],
            "StandardObjectCount": usage["objects"],
            "DeleteMarkerCount": usage["markers"],
        },
    )
    return reply(body=body)


async def get_bucket_location(request: OssRequest) -> web.StreamResponse:
    """GetBucketLocation."""
    bucket = request.store.bucket(request.bucket)
    return reply(body=xml.document_text("LocationConstraint", _location(bucket)))


def _content(version: ObjectVersion, encoding: str, owner: bool) -> dict[str, xml.Value]:
    return {
        "Key": xml.encoded(version.key, encoding),
        "LastModified": xml.timestamp(version.modified),
        "ETag": f'"{version.etag}"',
        "Type": "Multipart" if version.multipart else "Normal",
        "Size": version.size,
        "StorageClass": version.properties.storage_class,
        "Owner": _OWNER if owner else None,
    }


async def list_objects(request: OssRequest) -> web.StreamResponse:
    """ListObjects (GetBucket)."""
    query = request.query
    encoding = request.encoding
    prefix, marker, delimiter = query.get("prefix", ""), query.get("marker", ""), query.get("delimiter", "")
    limit = request.number("max-keys", 100, 1, 1000)
    page = await asyncio.to_thread(request.store.list_objects, request.bucket, prefix, delimiter, marker, limit)
    body = xml.document(
        "ListBucketResult",
        {
            "Name": request.bucket,
            "Prefix": xml.encoded(prefix, encoding),
            "Marker": xml.encoded(marker, encoding),
            "MaxKeys": limit,
            "Delimiter": xml.encoded(delimiter, encoding),
            "EncodingType": encoding or None,
            "IsTruncated": page.next is not None,
            "NextMarker": None if page.next is None else xml.encoded(page.next, encoding),
            "Contents": [_content(version, encoding, True) for version in page.items],
            "CommonPrefixes": [{"Prefix": xml.encoded(name, encoding)} for name in page.prefixes],
        },
    )
    return reply(body=body)


async def list_objects_v2(request: OssRequest) -> web.StreamResponse:
    """ListObjectsV2. A continuation token is the last name of the page before it, in base64.

    Raises:
        OssError: ``InvalidArgument``.
    """
    query = request.query
    encoding = request.encoding
    if query["list-type"] != "2":
        raise errors.invalid_argument("list-type", query["list-type"], "must be 2")
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    token, start_after = query.get("continuation-token", ""), query.get("start-after", "")
    limit = request.number("max-keys", 100, 1, 1000)
    owner = query.get("fetch-owner", "") == "true"
    after = _name_of(token) if token else start_after
    page = await asyncio.to_thread(request.store.list_objects, request.bucket, prefix, delimiter, after, limit)
    body = xml.document(
        "ListBucketResult",
        {
            "Name": request.bucket,
            "Prefix": xml.encoded(prefix, encoding),
            "StartAfter": xml.encoded(start_after, encoding) if start_after else None,
            "MaxKeys": limit,
            "Delimiter": xml.encoded(delimiter, encoding),
            "EncodingType": encoding or None,
            "IsTruncated": page.next is not None,
            "ContinuationToken": token or None,
            "NextContinuationToken": None if page.next is None else _token_of(page.next),
            "KeyCount": len(page.items) + len(page.prefixes),
            "Contents": [_content(version, encoding, owner) for version in page.items],
            "CommonPrefixes": [{"Prefix": xml.encoded(name, encoding)} for name in page.prefixes],
        },
    )
    return reply(body=body)


def _token_of(name: str) -> str:
    return base64.urlsafe_b64encode(name.encode()).decode().rstrip("=")


def _name_of(token: str) -> str:
    try:
        return base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode("utf-8")
    except (binascii.Error, UnicodeError, ValueError):
        raise errors.invalid_argument("continuation-token", token, "not a continuation token") from None


async def list_object_versions(request: OssRequest) -> web.StreamResponse:
    """ListObjectVersions (GetBucketVersions)."""
    query = request.query
    encoding = request.encoding
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    key_marker, id_marker = query.get("key-marker", ""), query.get("version-id-marker", "")
    limit = request.number("max-keys", 100, 1, 1000)
    page = await asyncio.to_thread(
        request.store.list_versions, request.bucket, prefix, delimiter, key_marker, id_marker, limit
    )
    root = xml.element(
        "ListVersionsResult",
        {
            "Name": request.bucket,
            "Prefix": xml.encoded(prefix, encoding),
            "KeyMarker": xml.encoded(key_marker, encoding),
            "VersionIdMarker": id_marker,
            "MaxKeys": limit,
            "Delimiter": xml.encoded(delimiter, encoding),
            "EncodingType": encoding or None,
            "IsTruncated": page.next is not None,
            "NextKeyMarker": None if page.next is None else xml.encoded(page.next, encoding),
            "NextVersionIdMarker": page.next_id if page.next is not None and page.next_id else None,
        },
    )
    for version in page.items:
        fields = _content(version, encoding, True)
        if version.is_delete_marker:
            fields = {name: fields[name] for name in ("Key", "LastModified", "Owner")}
        fields = {"Key": fields["Key"], "VersionId": version.version_id, "IsLatest": version.is_latest, **fields}
        root.append(xml.element("DeleteMarker" if version.is_delete_marker else "Version", fields))
    for name in page.prefixes:
        root.append(xml.element("CommonPrefixes", {"Prefix": xml.encoded(name, encoding)}))
    return reply(body=xml.serialise(root))


async def delete_multiple_objects(request: OssRequest) -> web.StreamResponse:
    """DeleteMultipleObjects.

    Raises:
        OssError: ``MalformedXML``: no objects, or more than 1000.
    """
    encoding = request.encoding
    document = xml.parse(await request.document(), "Delete")
    quiet = (document.findtext("Quiet") or "").strip().lower() == "true"
    wanted = [(o.findtext("Key") or "", o.findtext("VersionId") or "") for o in document.iterfind("Object")]
    if not 0 < len(wanted) <= 1000:
        raise errors.malformed_xml()
    for key, _ in wanted:
        objects.check_key(key)
    done = await asyncio.to_thread(request.store.delete_objects, request.bucket, wanted)
    deleted: list[dict[str, xml.Value]] = []
    for (key, version_id), deletion in zip(wanted, done, strict=True):
        marker_id = deletion.version_id if deletion.delete_marker else ""
        deleted.append(
            {
                "Key": xml.encoded(key, encoding),
                "VersionId": version_id or None,
                "DeleteMarker": True if deletion.delete_marker else None,
                "DeleteMarkerVersionId": marker_id or None,
            }
        )
    fields: dict[str, xml.Value] = {"EncodingType": encoding or None, "Deleted": [] if quiet else deleted}
    return reply(body=xml.document("DeleteResult", fields))
