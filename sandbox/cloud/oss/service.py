"""OSS as a service of the sandbox cloud: which operation a request is, who may call it, and how errors are shown."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

from sandbox.cloud.errors import is_out_of_space
from sandbox.cloud.oss import bucket_config, buckets, errors, multipart, objects
from sandbox.cloud.oss.request import OssRequest, error_reply, read_request
from sandbox.cloud.oss.store import ObjectStore
from sandbox.keys import AccessKey

log = logging.getLogger("sandbox.cloud.oss")

Handler = Callable[[OssRequest], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Operation:
    """One operation of the API.

    Attributes:
        level: ``service``, ``bucket`` or ``object``.
        required: parameters that make it this operation.
        optional: parameters it takes. A request with any other one is refused, never half understood.
    """

    level: str
    method: str
    handler: Handler
    required: frozenset[str] = frozenset()
    optional: frozenset[str] = frozenset()


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_SIGNATURE = _names(
    "OSSAccessKeyId Expires Signature security-token x-oss-access-key-id x-oss-expires x-oss-signature"
    " x-oss-signature-version x-oss-credential x-oss-date x-oss-additional-headers x-oss-security-token"
)
_LISTING = _names("prefix delimiter max-keys encoding-type")
_RESPONSE = _names(
    "versionId response-content-type response-content-language response-expires response-cache-control"
    " response-content-disposition response-content-encoding"
)
_VERSION = _names("versionId")
_ENCODING = _names("encoding-type")

OPERATIONS = (
    Operation("service", "GET", buckets.list_buckets, optional=_names("prefix marker max-keys")),
    Operation("bucket", "PUT", buckets.put_bucket),
    Operation("bucket", "DELETE", buckets.delete_bucket),
    Operation("bucket", "GET", buckets.list_objects, optional=_LISTING | {"marker"}),
    Operation(
        "bucket",
        "GET",
        buckets.list_objects_v2,
        _names("list-type"),
        _LISTING | {"start-after", "continuation-token", "fetch-owner"},
    ),
    Operation(
        "bucket",
        "GET",
        buckets.list_object_versions,
        _names("versions"),
        _LISTING | {"key-marker", "version-id-marker"},
    ),
    Operation(
        "bucket",
        "GET",
        multipart.list_uploads,
        _names("uploads"),
        _names("prefix delimiter max-uploads key-marker upload-id-marker encoding-type"),
    ),
    Operation("bucket", "POST", buckets.delete_multiple_objects, _names("delete"), _ENCODING),
    Operation("bucket", "GET", buckets.get_bucket_info, _names("bucketInfo")),
    Operation("bucket", "GET", buckets.get_bucket_stat, _names("stat")),
    Operation("bucket", "GET", buckets.get_bucket_location, _names("location")),
    Operation("bucket", "GET", bucket_config.get_acl, _names("acl")),
    Operation("bucket", "PUT", bucket_config.put_acl, _names("acl")),
    Operation("bucket", "GET", bucket_config.get_versioning, _names("versioning")),
    Operation("bucket", "PUT", bucket_config.put_versioning, _names("versioning")),
    Operation("bucket", "GET", bucket_config.get_policy, _names("policy")),
    Operation("bucket", "PUT", bucket_config.put_policy, _names("policy")),
    Operation("bucket", "DELETE", bucket_config.delete_policy, _names("policy")),
    Operation("bucket", "GET", bucket_config.get_resource_group, _names("resourceGroup")),
    Operation("bucket", "PUT", bucket_config.put_resource_group, _names("resourceGroup")),
    *(Operation("bucket", "GET", bucket_config.get_config, _names(kind)) for kind in bucket_config.KINDS),
    *(Operation("bucket", "PUT", bucket_config.put_config, _names(kind)) for kind in bucket_config.KINDS),
    *(
        Operation("bucket", "DELETE", bucket_config.delete_config, _names(name))
        for name, kind in bucket_config.KINDS.items()
        if kind.deletable
    ),
    Operation("object", "PUT", objects.put_object),
    Operation("object", "GET", objects.get_object, optional=_RESPONSE),
    Operation("object", "HEAD", objects.get_object, optional=_RESPONSE),
    Operation("object", "HEAD", objects.get_object_meta, _names("objectMeta"), _VERSION),
    Operation("object", "DELETE", objects.delete_object, optional=_VERSION),
    Operation("object", "GET", objects.get_object_acl, _names("acl"), _VERSION),
    Operation("object", "PUT", objects.put_object_acl, _names("acl"), _VERSION),
    Operation("object", "GET", objects.get_object_tagging, _names("tagging"), _VERSION),
    Operation("object", "PUT", objects.put_object_tagging, _names("tagging"), _VERSION),
    Operation("object", "DELETE", objects.delete_object_tagging, _names("tagging"), _VERSION),
    Operation("object", "POST", multipart.initiate, _names("uploads"), _ENCODING | {"sequential"}),
    Operation("object", "PUT", multipart.upload_part, _names("uploadId partNumber")),
    Operation("object", "POST", multipart.complete, _names("uploadId"), _ENCODING),
    Operation("object", "DELETE", multipart.abort, _names("uploadId")),
    Operation(
        "object", "GET", multipart.list_parts, _names("uploadId"), _ENCODING | {"max-parts", "part-number-marker"}
    ),
)


class OssProduct:
    """Takes every request that no other service took."""

    def __init__(self, store: ObjectStore, access_key: AccessKey | None = None) -> None:
        self._store, self._access_key = store, access_key

    def matches(self, request: web.Request) -> bool:
        return True

    async def handle(self, request: web.Request) -> web.StreamResponse:
        try:
            call = read_request(request, self._store, self._access_key)
            operation = _operation(call)
            _authorise(call, operation)
            return await operation.handler(call)
        except errors.OssError as error:
            return error_reply(error, request.host, request.method)
        except Exception as error:
            if not is_out_of_space(error):
                raise
            log.error("out of disk space: %s", error)
            message = f"The sandbox cannot write to its data directory: {error}. Nothing was stored."
            return error_reply(errors.OssError(507, "InsufficientStorage", message), request.host, request.method)

    async def start(self) -> None:
        """Nothing to start."""

    async def stop(self) -> None:
        """Nothing to stop."""


def _operation(call: OssRequest) -> Operation:
    """The operation a request is.

    Raises:
        OssError: 400 with a code that names what the sandbox does not offer.
    """
    level = "object" if call.key else "bucket" if call.bucket else "service"
    given = call.query.keys() - _SIGNATURE
    fitting = [
        operation
        for operation in OPERATIONS
        if operation.level == level
        and operation.method == call.http.method
        and operation.required <= given <= operation.required | operation.optional
    ]
    if fitting:
        return max(fitting, key=lambda operation: len(operation.required))
    name = ".".join([call.http.method, level, *sorted(given)])
    message = f"The sandbox OSS does not offer {call.http.method} of a {level}" + (
        f" with {', '.join(sorted(given))}." if given else "."
    )
    # Not a 501: clients retry it. Not a 404: the provider takes it for "the resource is gone".
    raise errors.OssError(400, f"UnsupportedOperation.{name}", message)


def _authorise(call: OssRequest, operation: Operation) -> None:
    """Anonymous requests may only do what an ACL opens to everybody.

    Raises:
        OssError: ``AccessDenied``.
    """
    if call.access_key:
        return
    denied = errors.access_denied("Anonymous access is forbidden for this operation.")
    if not call.bucket or operation.required:
        raise denied
    acl = call.store.bucket(call.bucket).acl
    if call.key:
        version = call.store.find(call.bucket, call.key, call.version_id)
        if version is not None and version.properties.acl != "default":
            acl = version.properties.acl
    reads = call.http.method in ("GET", "HEAD")
    writes = call.http.method in ("PUT", "DELETE") and bool(call.key)
    if not (reads and acl.startswith("public-read")) and not (writes and acl == "public-read-write"):
        raise denied
