"""What every OSS operation needs to know about a request, and the answers it is given.

Sources: OSS "Common HTTP headers", "Include signatures in the Authorization header" (V1, V2, V4) and "... in URLs".
Where the cloud has an access key, signatures are verified (:mod:`sandbox.cloud.signatures`); else their shape is.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import ipaddress
import re
import time
from calendar import timegm
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote_to_bytes

from aiohttp import web

from sandbox.cloud import signatures
from sandbox.cloud.errors import request_id
from sandbox.cloud.oss import errors, xml
from sandbox.cloud.oss.store import BlobWriter, ObjectStore
from sandbox.keys import AccessKey

DEFAULT_REGION = "cn-hangzhou"

_MAX_DOCUMENT = 4 << 20
_V4_HEADER = re.compile(r"OSS4-HMAC-SHA256\s+Credential=([^/,\s]+)/\d{8}/([a-z0-9-]*)/[a-z0-9-]+/aliyun_v4_request")
_V1_HEADER = re.compile(r"OSS\s+([^:\s]+):(\S*)")
_V2_HEADER = re.compile(r"OSS2\s+AccessKeyId:([^,\s]+),")
_ACCESS_KEY = re.compile(r"[A-Za-z0-9._-]{3,128}")


@dataclass(frozen=True)
class OssRequest:
    """One request.

    Attributes:
        bucket: empty for the service itself.
        key: empty for the bucket itself.
        query: decoded parameters.
        access_key: access key id of the signature, empty for an anonymous request.
        region: region of a V4 signature, else the default region.
        host: ``host:port`` the client reached the cloud at, without the bucket.
    """

    http: web.Request
    store: ObjectStore
    bucket: str
    key: str
    query: Mapping[str, str]
    access_key: str
    region: str
    host: str

    @property
    def headers(self) -> Mapping[str, str]:
        """Request headers; names in any case."""
        return self.http.headers

    @property
    def version_id(self) -> str:
        return self.query.get("versionId", "")

    @property
    def encoding(self) -> str:
        """How keys of the answer are to be encoded: ``url`` or not at all.

        Raises:
            OssError: ``InvalidArgument``.
        """
        value = self.query.get("encoding-type", "")
        if value not in ("", "url"):
            raise errors.invalid_argument("encoding-type", value, "Invalid Encoding Method specified in Request.")
        return value

    def number(self, name: str, default: int, low: int, high: int) -> int:
        """An integer parameter within bounds.

        Raises:
            OssError: ``InvalidArgument``.
        """
        value = self.query.get(name, "")
        if not value:
            return default
        if not (value.isascii() and value.isdigit() and len(value) < 20 and low <= int(value) <= high):
            raise errors.invalid_argument(name, value, f"Argument {name} must be an integer between {low} and {high}.")
        return int(value)

    async def document(self) -> bytes:
        """The whole body of a request that carries a document.

        Raises:
            OssError: ``InvalidDigest`` if it does not match ``Content-MD5``; ``EntityTooLarge``.
        """
        body = bytearray()
        async for chunk in self.http.content.iter_any():
            body += chunk
            if len(body) > _MAX_DOCUMENT:
                raise errors.OssError(400, "EntityTooLarge", "The request document is too large.")
        self.check_md5(hashlib.md5(body, usedforsecurity=False).digest())
        return bytes(body)

    async def receive(self, writer: BlobWriter, limit: int) -> None:
        """Streams the body into a blob, in flat memory.

        Raises:
            OssError: ``MissingContentLength``, ``EntityTooLarge``, ``IncompleteBody``.
        """
        expected = self.http.content_length
        if expected is None and not self.http.headers.get("Transfer-Encoding"):
            raise errors.OssError(411, "MissingContentLength", "You must provide the Content-Length HTTP header.")
        too_large = errors.OssError(
            400, "EntityTooLarge", "Your proposed upload exceeds the maximum allowed size.", MaxSizeAllowed=str(limit)
        )
        if expected is not None and expected > limit:
            raise too_large
        received = 0
        pending: list[bytes] = []
        size = 0
        async for chunk in self.http.content.iter_any():
            received += len(chunk)
            if received > limit:
                raise too_large
            pending.append(chunk)
            size += len(chunk)
            if size >= 1 << 20:
                await asyncio.to_thread(writer.write, b"".join(pending))
                pending.clear()
                size = 0
        if pending:
            await asyncio.to_thread(writer.write, b"".join(pending))
        if expected is not None and received != expected:
            message = "You did not provide the number of bytes specified by the Content-Length HTTP header."
            raise errors.OssError(400, "IncompleteBody", message)

    def check_md5(self, actual: bytes) -> None:
        """Compares with the ``Content-MD5`` header, if there is one.

        Raises:
            OssError: ``InvalidDigest``.
        """
        given = self.headers.get("Content-MD5")
        if given is not None and given.strip() != base64.b64encode(actual).decode():
            message = "The Content-MD5 you specified is invalid or does not match what was received."
            raise errors.OssError(400, "InvalidDigest", message)


def read_request(http: web.Request, store: ObjectStore, signing: AccessKey | None = None) -> OssRequest:
    """Takes a request apart: bucket by host name or by path, key, parameters, access key.

    Raises:
        OssError: the path is not UTF-8, or the signature is missing its parts, is wrong or has expired.
    """
    path = http.rel_url.raw_path.removeprefix("/")
    bucket, host = _virtual_host(http.host)
    if not bucket:
        bucket, _, path = path.partition("/")
    try:
        name, key = (unquote_to_bytes(part).decode("utf-8") for part in (bucket, path))
        query = dict(parse_qsl(http.rel_url.raw_query_string, keep_blank_values=True, errors="strict"))
    except UnicodeDecodeError:
        raise errors.OssError(400, "InvalidObjectName", "The specified object name is not UTF-8.") from None
    access_key, region = _identify(http, query)
    if access_key and signing is not None:
        try:
            signatures.check_oss(http, name, key, signing)
        except signatures.NotSigned as error:
            raise errors.OssError(error.status, error.code, error.message) from None
    return OssRequest(http, store, name, key, query, access_key, region or DEFAULT_REGION, host)


def _virtual_host(host: str) -> tuple[str, str]:
    """``bucket.127.0.0.1:port`` or ``bucket.localhost:port`` -> bucket and the rest; else an empty bucket."""
    name, colon, port = host.partition(":")
    for base in ("127.0.0.1", "localhost"):
        if name.endswith("." + base):
            return name.removesuffix("." + base), base + colon + port
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return "", host
    return "", host


def _identify(http: web.Request, query: Mapping[str, str]) -> tuple[str, str]:
    """Access key id and region of a signature; two empty strings for an anonymous request."""
    header = http.headers.get("Authorization", "")
    if header:
        for pattern in (_V4_HEADER, _V1_HEADER, _V2_HEADER):
            match = pattern.match(header)
            if match:
                region = match[2] if pattern is _V4_HEADER else ""
                return _checked(match[1]), region
        message = "The Authorization header is not an OSS signature."
        raise errors.OssError(403, "SignatureDoesNotMatch", message)
    if "x-oss-credential" in query:
        access_key, _, scope = query["x-oss-credential"].partition("/")
        try:
            signed = timegm(time.strptime(query.get("x-oss-date", ""), "%Y%m%dT%H%M%SZ"))
            _check_expiry(signed + int(query.get("x-oss-expires", "")))
        except ValueError:
            raise errors.access_denied("The presigned URL lacks x-oss-date or x-oss-expires.") from None
        return _checked(access_key), scope.split("/")[1] if scope.count("/") >= 2 else ""
    access_key = query.get("OSSAccessKeyId") or query.get("x-oss-access-key-id", "")
    if access_key:
        expires = query.get("Expires") or query.get("x-oss-expires", "")
        if not expires.isdigit():
            raise errors.access_denied("The presigned URL lacks Expires.")
        _check_expiry(int(expires))
        return _checked(access_key), ""
    return "", ""


def _check_expiry(moment: int) -> None:
    if moment < time.time():
        raise errors.access_denied("Request has expired.")


def _checked(access_key: str) -> str:
    if not _ACCESS_KEY.fullmatch(access_key):
        message = "The OSS Access Key Id you provided does not exist in our records."
        raise errors.OssError(403, "InvalidAccessKeyId", message)
    return access_key


def reply(status: int = 200, body: bytes = b"", headers: Mapping[str, str] | None = None) -> web.Response:
    """An answer with an XML document, or without a body."""
    merged = {**common_headers(), **(headers or {})}
    if body and "Content-Type" not in merged:
        merged["Content-Type"] = "application/xml"
    return web.Response(status=status, body=body, headers=merged)


def common_headers() -> dict[str, str]:
    """Headers of every OSS answer."""
    return {"Server": "AliyunOSS", "x-oss-request-id": request_id().replace("-", "")[:24]}


def error_reply(error: errors.OssError, host: str, method: str) -> web.Response:
    """An error document. A HEAD answer has no body, so it also goes into ``x-oss-err``, which clients decode."""
    headers = common_headers()
    body = xml.document(
        "Error",
        {
            "Code": error.code,
            "Message": error.message,
            "RequestId": headers["x-oss-request-id"],
            "HostId": host,
            **error.details,
        },
    )
    if method == "HEAD":
        headers["x-oss-err"] = base64.b64encode(body).decode()
        return web.Response(status=error.status, headers=headers)
    return web.Response(status=error.status, body=body, headers={**headers, "Content-Type": "application/xml"})
