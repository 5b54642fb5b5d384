"""``alicloud:oss/bucketObject:BucketObject`` with content given in the program, as the real provider handles it.

Like terraform-provider-alicloud it reads headers and never content: an object that is gone is drift, one that was
overwritten is not.
"""

from __future__ import annotations

from typing import Any, ClassVar

import alibabacloud_oss_v2 as oss

from sandbox.engine.properties import Properties
from sandbox.plugins.alicloud.account import Account
from sandbox.plugins.alicloud.common import misfits, oss_call
from sandbox.plugins.server import InputError, ResourceType, State
from tfserving.errors import CloudError

_SHAPE: dict[str, Any] = {"bucket": str, "key": str, "content": str, "contentType": str, "acl": str}
"""Inputs the stand-in knows. Any other one is refused, so that nothing is silently left out."""
_GONE = ("NoSuchKey", "NoSuchBucket")


class BucketObject(ResourceType):
    """An object in an OSS bucket."""

    replace_on: ClassVar[frozenset[str]] = frozenset({"bucket", "key"})
    computed: ClassVar[tuple[str, ...]] = ("contentLength", "etag", "versionId")

    def __init__(self, provider: Account) -> None:
        self._provider = provider

    def check(self, name: str, old: Properties, new: Properties) -> Properties:
        """Refuses inputs the stand-in does not know, and an object without content."""
        failures = list(misfits(new, _SHAPE, ""))
        failures += [(key, "is required") for key in ("bucket", "key", "content") if new.get(key) is None]
        if failures:
            raise InputError(*failures)
        return {"acl": "private", **new}

    def create(self, urn: str, inputs: Properties) -> tuple[str, Properties]:
        """Writes the object over whatever is there."""
        request = oss.PutObjectRequest(
            bucket=inputs["bucket"],
            key=inputs["key"],
            body=inputs["content"].encode(),
            content_type=inputs.get("contentType"),
            acl=inputs["acl"],
        )
        oss_call(f"write object {inputs['key']}", self._provider.oss.put_object, request)
        return inputs["key"], inputs | self._facts(inputs["bucket"], inputs["key"])

    def read(self, state: State) -> tuple[Properties, Properties] | None:
        """The object's headers. An import names no bucket, so there is none."""
        inputs = state.inputs
        if not inputs.get("bucket"):
            raise CloudError(f"object {state.id} cannot be imported: its id does not name the bucket")
        try:
            facts = self._facts(inputs["bucket"], state.id)
        except CloudError as error:
            if error.code in _GONE:
                return None
            raise
        return inputs | {key: facts[key] for key in ("contentType",) if inputs.get(key)}, inputs | facts

    def update(self, state: State, inputs: Properties) -> Properties:
        """Writes the object again."""
        return self.create(state.urn, inputs)[1]

    def delete(self, state: State) -> None:
        """Deletes the object; in a versioned bucket its versions stay."""
        request = oss.DeleteObjectRequest(bucket=state.inputs["bucket"], key=state.id)
        try:
            oss_call(f"delete object {state.id}", self._provider.oss.delete_object, request)
        except CloudError as error:
            if error.code not in _GONE:
                raise

    def _facts(self, bucket: str, key: str) -> Properties:
        request = oss.HeadObjectRequest(bucket=bucket, key=key)
        head = oss_call(f"read object {key}", self._provider.oss.head_object, request)
        return {
            "contentLength": str(head.content_length),
            "contentType": head.content_type or "",
            "etag": (head.etag or "").strip('"'),
            "versionId": head.version_id or "",
        }
