"""``alicloud:oss/bucket:Bucket`` with its inline settings, as the real provider handles them.

What it sends and reads follows terraform-provider-alicloud: where the program says nothing of them, a different ACL,
storage class or redundancy type is no difference; versioning, encryption, lifecycle rules, CORS rules, the policy and
tags are one.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, ClassVar

import alibabacloud_oss_v2 as oss

from sandbox.engine.properties import Properties, has_unknown
from sandbox.plugins.alicloud.account import Account
from sandbox.plugins.alicloud.common import misfits, oss_call
from sandbox.plugins.server import InputError, ResourceType, State
from tfserving import cloud_names
from tfserving.errors import CloudError

_ACLS = ("private", "public-read", "public-read-write")
_DAYS: dict[str, Any] = {"days": int}
_SHAPE: dict[str, Any] = {
    "bucket": str,
    "acl": str,
    "storageClass": str,
    "redundancyType": str,
    "forceDestroy": bool,
    "tags": dict,
    "versioning": {"status": str},
    "serverSideEncryptionRule": {"sseAlgorithm": str, "kmsMasterKeyId": str, "kmsDataEncryption": str},
    "lifecycleRules": [
        {
            "id": str,
            "prefix": str,
            "enabled": bool,
            "abortMultipartUploads": [_DAYS],
            "expirations": [{"days": int, "expiredObjectDeleteMarker": bool}],
            "noncurrentVersionExpirations": [_DAYS],
            "transitions": [{"days": int, "storageClass": str}],
        }
    ],
}
"""Inputs the stand-in knows. Any other one is refused, so that nothing is silently left out."""
_COMPUTED = ("acl", "storageClass", "redundancyType")


class Bucket(ResourceType):
    """An OSS bucket."""

    replace_on: ClassVar[frozenset[str]] = frozenset({"bucket", "storageClass", "redundancyType"})
    computed: ClassVar[tuple[str, ...]] = ("creationDate", "extranetEndpoint", "intranetEndpoint", "location", "owner")

    def __init__(self, provider: Account) -> None:
        self._provider = provider

    def check(self, name: str, old: Properties, new: Properties) -> Properties:
        """Refuses inputs the stand-in does not know; names the bucket if the program does not."""
        failures = list(misfits(new, _SHAPE, ""))
        inputs = {"bucket": old.get("bucket") or f"tf-oss-bucket-{os.urandom(6).hex()}", **new}
        bucket, acl = inputs["bucket"], inputs.get("acl", "private")
        if not has_unknown(bucket) and not cloud_names.BUCKET.fullmatch(str(bucket)):
            failures.append(("bucket", f"{bucket!r} is no bucket name: 3 to 63 of a-z, 0-9 and -, not - at either end"))
        if acl not in _ACLS and not has_unknown(acl):
            failures.append(("acl", f"must be one of {', '.join(_ACLS)}"))
        if failures:
            raise InputError(*failures)
        return inputs

    def create(self, urn: str, inputs: Properties) -> tuple[str, Properties]:
        """Makes the bucket and its settings. An empty one left by an interrupted run is taken up."""
        name = inputs["bucket"]
        if self._call("look for", name, self._oss.is_bucket_exist, name):
            if self._versions(name):
                raise CloudError(f"bucket {name} exists already and is not empty", "BucketAlreadyExists")
            self._provider.log(urn, f"bucket {name} exists already and is empty; it is taken up")
            self._call("set the ACL of", name, self._put_acl, name, inputs)
        else:
            request = oss.PutBucketRequest(
                bucket=name,
                acl=inputs.get("acl"),
                create_bucket_configuration=oss.CreateBucketConfiguration(
                    storage_class=inputs.get("storageClass"), data_redundancy_type=inputs.get("redundancyType")
                ),
            )
            self._call("create", name, self._oss.put_bucket, request)
        self._configure(name, {}, inputs)
        return name, inputs | self._facts(name)

    def read(self, state: State) -> tuple[Properties, Properties] | None:
        """The bucket as it is. Settings that differ from the inputs, or are not in them, show as drift."""
        try:
            facts = self._facts(state.id)
        except CloudError as error:
            if error.code == "NoSuchBucket":
                return None
            raise
        declared = state.inputs
        actual = {"bucket": state.id} | {key: facts[key] for key in _COMPUTED if key in declared or not declared}
        if "forceDestroy" in declared:
            actual["forceDestroy"] = declared["forceDestroy"]
        for key in ("versioning", "serverSideEncryptionRule", "lifecycleRules", "corsRules", "policy", "tags"):
            found = facts.get(key)
            if found and not (found == {"status": "Suspended"} and key not in declared):
                actual[key] = _like(declared.get(key), found)
        return actual, declared | facts

    def update(self, state: State, inputs: Properties) -> Properties:
        """Sends what has changed."""
        if inputs.get("acl") != state.inputs.get("acl") and inputs.get("acl"):
            self._call("set the ACL of", state.id, self._put_acl, state.id, inputs)
        self._configure(state.id, state.inputs, inputs)
        return inputs | self._facts(state.id)

    def delete(self, state: State) -> None:
        """Deletes the bucket; with ``forceDestroy``, every object, version and unfinished upload in it first."""
        name, delete = state.id, oss.DeleteBucketRequest(bucket=state.id)
        try:
            self._call("delete", name, self._oss.delete_bucket, delete)
        except CloudError as error:
            if error.code == "NoSuchBucket":
                return
            if error.code != "BucketNotEmpty":
                raise
            if not state.inputs.get("forceDestroy"):
                raise CloudError(f"bucket {name} is not empty, and forceDestroy is not set", error.code) from None
            self._empty(state)
            self._call("delete", name, self._oss.delete_bucket, delete)

    @property
    def _oss(self) -> Any:
        return self._provider.oss

    @staticmethod
    def _call(what: str, name: str, call: Callable[..., Any], *arguments: Any) -> Any:
        return oss_call(f"{what} bucket {name}", call, *arguments)

    def _put_acl(self, name: str, inputs: Properties) -> None:
        self._oss.put_bucket_acl(oss.PutBucketAclRequest(bucket=name, acl=inputs.get("acl", "private")))

    def _versions(self, name: str) -> list[oss.DeleteObject]:
        """Up to a thousand object versions and delete markers."""
        request = oss.ListObjectVersionsRequest(bucket=name, max_keys=1000)
        page = self._call("list", name, self._oss.list_object_versions, request)
        found = [*(page.version or ()), *(page.delete_marker or ())]
        return [oss.DeleteObject(key=item.key, version_id=item.version_id) for item in found]

    def _empty(self, state: State) -> None:
        name, deleted = state.id, 0
        while found := self._versions(name):
            if self._provider.cancelled.is_set():
                raise CloudError(f"cancelled while emptying bucket {name}")
            request = oss.DeleteMultipleObjectsRequest(bucket=name, objects=found, quiet=True)
            self._call("empty", name, self._oss.delete_multiple_objects, request)
            deleted += len(found)
            self._provider.log(state.urn, f"{deleted} objects deleted", status=True)
        request = oss.ListMultipartUploadsRequest(bucket=name)
        for upload in self._call("list", name, self._oss.list_multipart_uploads, request).uploads or ():
            abort = oss.AbortMultipartUploadRequest(bucket=name, key=upload.key, upload_id=upload.upload_id)
            self._call("empty", name, self._oss.abort_multipart_upload, abort)

    def _configure(self, name: str, old: Properties, new: Properties) -> None:
        """Writes each setting that differs, and removes what is no longer there."""
        client = self._oss
        puts: dict[str, Callable[[Any], Any]] = {
            "versioning": lambda v: client.put_bucket_versioning(
                oss.PutBucketVersioningRequest(name, oss.VersioningConfiguration(v["status"]))
            ),
            "serverSideEncryptionRule": lambda v: client.put_bucket_encryption(
                oss.PutBucketEncryptionRequest(name, _encryption(v))
            ),
            "lifecycleRules": lambda v: client.put_bucket_lifecycle(
                oss.PutBucketLifecycleRequest(
                    name, lifecycle_configuration=oss.LifecycleConfiguration([_rule(i, r) for i, r in enumerate(v)])
                )
            ),
            "tags": lambda v: client.put_bucket_tags(
                oss.PutBucketTagsRequest(name, oss.Tagging(oss.TagSet([oss.Tag(k, str(t)) for k, t in v.items()])))
            ),
        }
        removes: dict[str, Callable[[], Any]] = {
            "versioning": lambda: puts["versioning"]({"status": "Suspended"}),
            "serverSideEncryptionRule": lambda: client.delete_bucket_encryption(
                oss.DeleteBucketEncryptionRequest(name)
            ),
            "lifecycleRules": lambda: client.delete_bucket_lifecycle(oss.DeleteBucketLifecycleRequest(name)),
            "corsRules": lambda: client.delete_bucket_cors(oss.DeleteBucketCorsRequest(name)),
            "policy": lambda: client.delete_bucket_policy(oss.DeleteBucketPolicyRequest(name)),
            "tags": lambda: client.delete_bucket_tags(oss.DeleteBucketTagsRequest(name)),
        }
        for key, put in puts.items():
            wanted = new.get(key)
            if wanted and wanted != old.get(key):
                self._call(f"set {key} of", name, put, wanted)
        for key, remove in removes.items():
            if old.get(key) and not new.get(key):
                self._call(f"remove {key} of", name, remove)

    def _facts(self, name: str) -> Properties:
        """Everything OSS says about the bucket, in the provider's terms."""
        client = self._oss
        info = self._call("read", name, client.get_bucket_info, oss.GetBucketInfoRequest(name)).bucket_info
        rule = info.sse_rule
        facts: Properties = {
            "bucket": name,
            "acl": info.acl,
            "storageClass": info.storage_class,
            "redundancyType": info.data_redundancy_type,
            "creationDate": str(info.creation_date),
            "extranetEndpoint": info.extranet_endpoint,
            "intranetEndpoint": info.intranet_endpoint,
            "location": info.location,
            "owner": info.owner.id if info.owner else "",
        }
        if info.versioning:
            facts["versioning"] = {"status": info.versioning}
        if rule and rule.sse_algorithm not in (None, "", "None"):
            keys = {"kmsMasterKeyId": rule.kms_master_key_id, "kmsDataEncryption": rule.kms_data_encryption}
            facts["serverSideEncryptionRule"] = {"sseAlgorithm": rule.sse_algorithm} | {
                k: v for k, v in keys.items() if v
            }
        lifecycle = self._optional("NoSuchLifecycle", name, client.get_bucket_lifecycle, oss.GetBucketLifecycleRequest)
        if lifecycle:
            facts["lifecycleRules"] = [_rule_facts(r) for r in lifecycle.lifecycle_configuration.rules or ()]
        cors = self._optional("NoSuchCORSConfiguration", name, client.get_bucket_cors, oss.GetBucketCorsRequest)
        if cors:
            facts["corsRules"] = [_cors_facts(r) for r in cors.cors_configuration.cors_rules or ()]
        policy = self._optional("NoSuchBucketPolicy", name, client.get_bucket_policy, oss.GetBucketPolicyRequest)
        if policy:
            facts["policy"] = policy.body or ""
        tags = self._optional("NoSuchTagSet", name, client.get_bucket_tags, oss.GetBucketTagsRequest)
        if tags and tags.tagging and tags.tagging.tag_set and tags.tagging.tag_set.tags:
            facts["tags"] = {tag.key: tag.value or "" for tag in tags.tagging.tag_set.tags}
        return facts

    def _optional(self, missing: str, name: str, call: Callable[[Any], Any], request: Callable[[str], Any]) -> Any:
        try:
            return self._call("read", name, call, request(name))
        except CloudError as error:
            if error.code == missing:
                return None
            raise


def _like(declared: Any, found: Any) -> Any:
    """``found`` without what the server added: empty values and rule ids the program did not write."""
    if isinstance(found, dict):
        known = declared if isinstance(declared, dict) else {}
        kept = {k: v for k, v in found.items() if k in known or (v not in ("", [], {}) and k != "id")}
        return {k: _like(known.get(k), v) for k, v in kept.items()}
    if isinstance(found, list):
        items = declared if isinstance(declared, list) else []
        return [_like(items[i] if i < len(items) else None, v) for i, v in enumerate(found)]
    return found


def _encryption(rule: Properties) -> oss.ServerSideEncryptionRule:
    return oss.ServerSideEncryptionRule(
        oss.ApplyServerSideEncryptionByDefault(
            kms_master_key_id=rule.get("kmsMasterKeyId"),
            kms_data_encryption=rule.get("kmsDataEncryption"),
            sse_algorithm=rule.get("sseAlgorithm"),
        )
    )


def _cors_facts(rule: Any) -> Properties:
    facts: Properties = {
        "allowedOrigins": list(rule.allowed_origins or ()),
        "allowedMethods": list(rule.allowed_methods or ()),
        "allowedHeaders": list(rule.allowed_headers or ()),
        "exposeHeaders": list(rule.expose_headers or ()),
    }
    return facts | ({"maxAgeSeconds": rule.max_age_seconds} if rule.max_age_seconds else {})


def _rule(index: int, rule: Properties) -> oss.LifecycleRule:
    def days(key: str) -> int | None:
        return next((block.get("days") for block in rule.get(key) or ()), None)

    abort, old = days("abortMultipartUploads"), days("noncurrentVersionExpirations")
    expire: dict[str, Any] = next(iter(rule.get("expirations") or ()), {})
    transitions = [
        oss.LifecycleRuleTransition(days=block.get("days"), storage_class=block.get("storageClass"))
        for block in rule.get("transitions") or ()
    ]
    return oss.LifecycleRule(
        id=rule.get("id") or f"tf-oss-bucket-lifecycle-{index}",
        prefix=rule.get("prefix") or "",
        status="Enabled" if rule.get("enabled") else "Disabled",
        abort_multipart_upload=oss.LifecycleRuleAbortMultipartUpload(days=abort) if abort else None,
        expiration=oss.LifecycleRuleExpiration(
            days=expire.get("days"), expired_object_delete_marker=expire.get("expiredObjectDeleteMarker") or None
        )
        if expire
        else None,
        noncurrent_version_expiration=oss.NoncurrentVersionExpiration(noncurrent_days=old) if old else None,
        transitions=transitions or None,
    )


def _rule_facts(rule: Any) -> Properties:
    abort, expire, old = rule.abort_multipart_upload, rule.expiration, rule.noncurrent_version_expiration
    expiration: dict[str, Any] = {}
    if expire and expire.days is not None:
        expiration["days"] = expire.days
    if expire and expire.expired_object_delete_marker:
        expiration["expiredObjectDeleteMarker"] = True
    return {
        "id": rule.id,
        "prefix": rule.prefix or "",
        "enabled": rule.status == "Enabled",
        "abortMultipartUploads": [{"days": abort.days}] if abort else [],
        "expirations": [expiration] if expiration else [],
        "noncurrentVersionExpirations": [{"days": old.noncurrent_days}] if old else [],
        "transitions": [{"days": t.days, "storageClass": t.storage_class} for t in rule.transitions or ()],
    }
