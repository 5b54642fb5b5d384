"""Bucket sub-resources: documents that are stored, given back and checked for form, but not acted upon.

Acted upon are only ACL, versioning and default encryption. Which answer a missing document gets follows what the
alicloud provider and the OSS API reference expect of each: some are a 404 with a code of their own, some a default.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from dataclasses import dataclass
from xml.etree import ElementTree

from aiohttp import web

from sandbox.cloud.oss import errors, objects, xml
from sandbox.cloud.oss.request import OssRequest, reply
from sandbox.cloud.oss.store import ObjectStore

BUCKET_ACLS = ("private", "public-read", "public-read-write")


@dataclass(frozen=True)
class Kind:
    """A sub-resource that is a document.

    Attributes:
        root: root element.
        missing: error code of a GET while there is none; empty where ``default`` is given instead.
        default: children of the document while none is stored.
        deletable: whether DELETE exists.
    """

    root: str
    missing: str = ""
    default: tuple[tuple[str, str], ...] = ()
    deletable: bool = True


KINDS = {
    "accessmonitor": Kind("AccessMonitorConfiguration", default=(("Status", "Disabled"),), deletable=False),
    "cors": Kind("CORSConfiguration", missing="NoSuchCORSConfiguration"),
    "encryption": Kind("ServerSideEncryptionRule", missing="NoSuchServerSideEncryptionRule"),
    "lifecycle": Kind("LifecycleConfiguration", missing="NoSuchLifecycle"),
    "logging": Kind("BucketLoggingStatus"),
    "publicAccessBlock": Kind("PublicAccessBlockConfiguration", missing="NoSuchPublicAccessBlockConfiguration"),
    "referer": Kind(
        "RefererConfiguration", default=(("AllowEmptyReferer", "true"), ("RefererList", "")), deletable=False
    ),
    "requestPayment": Kind("RequestPaymentConfiguration", default=(("Payer", "BucketOwner"),), deletable=False),
    "tagging": Kind("Tagging", default=(("TagSet", ""),)),
    "transferAcceleration": Kind(
        "TransferAccelerationConfiguration", missing="NoSuchTransferAccelerationConfiguration", deletable=False
    ),
    "website": Kind("WebsiteConfiguration", missing="NoSuchWebsiteConfiguration"),
}


def _kind_of(request: OssRequest) -> tuple[str, Kind]:
    return next((name, kind) for name, kind in KINDS.items() if name in request.query)


async def get_config(request: OssRequest) -> web.StreamResponse:
    """GetBucket<Kind>.

    Raises:
        OssError: the bucket has none.
    """
    name, kind = _kind_of(request)
    body = await asyncio.to_thread(request.store.bucket_config, request.bucket, name)
    if body is None:
        if kind.missing:
            message = f"The bucket has no {name} configuration."
            raise errors.OssError(404, kind.missing, message, BucketName=request.bucket)
        body = xml.document(kind.root, dict(kind.default))
    return reply(body=body)


async def put_config(request: OssRequest) -> web.StreamResponse:
    """PutBucket<Kind>."""
    name, kind = _kind_of(request)
    document = xml.parse(await request.document(), kind.root)
    match name:
        case "lifecycle":
            _check_lifecycle(document)
        case "encryption":
            _check_encryption(document)
        case "tagging":
            objects.read_tagging(xml.serialise(document))
    empty = name == "logging" and document.find("LoggingEnabled") is None
    body = None if empty else xml.serialise(document)
    await asyncio.to_thread(request.store.set_bucket_config, request.bucket, name, body)
    return reply()


async def delete_config(request: OssRequest) -> web.StreamResponse:
    """DeleteBucket<Kind>. Deleting what is not there succeeds."""
    name, _ = _kind_of(request)
    await asyncio.to_thread(request.store.set_bucket_config, request.bucket, name, None)
    return reply(204)


def _check_lifecycle(document: ElementTree.Element) -> None:
    """Every rule needs a status and something to do; a rule without an id gets one, as OSS does it."""
    rules = document.findall("Rule")
    if not 0 < len(rules) <= 1000:
        raise errors.malformed_xml()
    identifiers: set[str] = set()
    for rule in rules:
        if rule.findtext("Status") not in ("Enabled", "Disabled"):
            raise errors.malformed_xml()
        actions = {child.tag for child in rule} - {"ID", "Prefix", "Status", "Filter", "Tag", "AtimeBase"}
        if not actions:
            raise errors.malformed_xml()
        element = rule.find("ID")
        if element is None:
            element = ElementTree.Element("ID")
            rule.insert(0, element)
        if not (element.text or "").strip():
            element.text = secrets.token_hex(16)
        identifier = element.text or ""
        if identifier in identifiers:
            raise errors.OssError(400, "InvalidArgument", "RuleId must be unique.", ArgumentValue=identifier)
        identifiers.add(identifier)


def _check_encryption(document: ElementTree.Element) -> None:
    algorithm = document.findtext("ApplyServerSideEncryptionByDefault/SSEAlgorithm") or ""
    if algorithm not in ("AES256", "KMS", "SM4"):
        message = "The Encryption Method you specified is not supported."
        raise errors.OssError(400, "InvalidEncryptionAlgorithmError", message, SSEAlgorithm=algorithm)


def encryption_document(algorithm: str, key: str, data: str) -> bytes:
    """The default encryption that headers of PutBucket ask for."""
    fields = {"SSEAlgorithm": algorithm, "KMSMasterKeyID": key or None, "KMSDataEncryption": data or None}
    body = xml.element("ServerSideEncryptionRule", {"ApplyServerSideEncryptionByDefault": fields})
    _check_encryption(body)
    return xml.serialise(body)


def encryption_fields(store: ObjectStore, bucket: str) -> tuple[str, str, str]:
    """Algorithm, KMS key id and data encryption of the default encryption; empty strings where there is none."""
    headers = objects.default_encryption(store, bucket)
    return (
        headers.get("x-oss-server-side-encryption", ""),
        headers.get("x-oss-server-side-encryption-key-id", ""),
        headers.get("x-oss-server-side-data-encryption", ""),
    )


async def get_acl(request: OssRequest) -> web.StreamResponse:
    """GetBucketAcl."""
    return reply(body=objects.acl_document(request.store.bucket(request.bucket).acl))


async def put_acl(request: OssRequest) -> web.StreamResponse:
    """PutBucketAcl.

    Raises:
        OssError: ``InvalidArgument``.
    """
    acl = request.headers.get("x-oss-acl", "")
    if acl not in BUCKET_ACLS:
        raise errors.invalid_argument("x-oss-acl", acl, "no such permission")
    await asyncio.to_thread(lambda: request.store.update_bucket(request.bucket, acl=acl))
    return reply()


async def get_versioning(request: OssRequest) -> web.StreamResponse:
    """GetBucketVersioning: no Status while it was never set."""
    status = request.store.bucket(request.bucket).versioning
    return reply(body=xml.document("VersioningConfiguration", {"Status": status or None}))


async def put_versioning(request: OssRequest) -> web.StreamResponse:
    """PutBucketVersioning.

    Raises:
        OssError: ``MalformedXML``.
    """
    status = xml.parse(await request.document(), "VersioningConfiguration").findtext("Status") or ""
    if status not in ("Enabled", "Suspended"):
        raise errors.malformed_xml()
    await asyncio.to_thread(lambda: request.store.update_bucket(request.bucket, versioning=status))
    return reply()


async def get_policy(request: OssRequest) -> web.StreamResponse:
    """GetBucketPolicy: the JSON as it was put.

    Raises:
        OssError: ``NoSuchBucketPolicy``.
    """
    body = await asyncio.to_thread(request.store.bucket_config, request.bucket, "policy")
    if body is None:
        message = "The bucket policy does not exist."
        raise errors.OssError(404, "NoSuchBucketPolicy", message, BucketName=request.bucket)
    return reply(body=body, headers={"Content-Type": "application/json"})


async def put_policy(request: OssRequest) -> web.StreamResponse:
    """PutBucketPolicy.

    Raises:
        OssError: ``InvalidPolicyDocument``.
    """
    body = await request.document()
    try:
        statements = json.loads(body)["Statement"]
    except (ValueError, TypeError, KeyError):
        statements = None
    if not isinstance(statements, list):
        raise errors.OssError(400, "InvalidPolicyDocument", "The policy is not a JSON object with a Statement list.")
    await asyncio.to_thread(request.store.set_bucket_config, request.bucket, "policy", body)
    return reply()


async def delete_policy(request: OssRequest) -> web.StreamResponse:
    """DeleteBucketPolicy. Deleting what is not there succeeds."""
    await asyncio.to_thread(request.store.set_bucket_config, request.bucket, "policy", None)
    return reply(204)


async def get_resource_group(request: OssRequest) -> web.StreamResponse:
    """GetBucketResourceGroup."""
    group = request.store.bucket(request.bucket).resource_group
    return reply(body=xml.document("BucketResourceGroupConfiguration", {"ResourceGroupId": group}))


async def put_resource_group(request: OssRequest) -> web.StreamResponse:
    """PutBucketResourceGroup."""
    document = xml.parse(await request.document(), "BucketResourceGroupConfiguration")
    group = document.findtext("ResourceGroupId") or ""
    await asyncio.to_thread(lambda: request.store.update_bucket(request.bucket, resource_group=group))
    return reply()
