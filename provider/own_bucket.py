"""A whole bucket: who can read it, what lies in it with every version, and how what nobody reads is taken away.

:class:`~provider.oss.Bucket` knows the objects that servers see. This is about the rest, for a bucket that the stack
made, or one that it is to give up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from provider.oss import Bucket
from tfserving import bucket_access, bucket_contents
from tfserving.bucket_contents import Contents, ObjectVersion
from tfserving.errors import CloudError

_BATCH = 1000  # DeleteMultipleObjects takes no more


@dataclass(frozen=True)
class Facts:
    """What OSS says about a bucket.

    Attributes:
        storage_class: ``Standard``, ``IA`` and so on.
        redundancy_type: ``LRS`` or ``ZRS``.
        encryption: algorithm of the default encryption; empty without one.
        policy: the bucket policy as it was put; empty without one.
        acl: its ACL.
        public: every way in which everybody can reach what is in it.
    """

    storage_class: str
    redundancy_type: str
    encryption: str
    policy: str
    acl: str
    public: list[str]


class OwnBucket(Bucket):
    """One bucket with its settings and all its object versions."""

    def facts(self) -> Facts | None:
        """Two requests: its settings and its policy. None where there is no such bucket."""
        sdk, client = self._sdk, self._client
        try:
            found = self._call("read", "", lambda: client.get_bucket_info(sdk.GetBucketInfoRequest(bucket=self.name)))
        except CloudError as error:
            if error.code == "NoSuchBucket":
                return None
            raise
        info, policy = found.bucket_info, self._policy()
        algorithm = str(info.sse_rule.sse_algorithm or "") if info.sse_rule else ""
        acl = str(info.acl or "")
        return Facts(
            storage_class=str(info.storage_class or ""),
            redundancy_type=str(info.data_redundancy_type or ""),
            encryption="" if algorithm == "None" else algorithm,
            policy=policy,
            acl=acl,
            public=bucket_access.public_ways(acl, policy, blocked=bool(info.block_public_access)),
        )

    def _policy(self) -> str:
        request = self._sdk.GetBucketPolicyRequest(bucket=self.name)
        try:
            return str(self._call("read the policy of", "", lambda: self._client.get_bucket_policy(request)).body or "")
        except CloudError as error:
            if error.code == "NoSuchBucketPolicy":
                return ""
            raise

    def make_private(self, facts: Facts) -> None:
        """ACL private, and no policy statement that lets everybody in; the other statements stay."""
        sdk, client = self._sdk, self._client
        if facts.acl != bucket_access.PRIVATE:
            acl = sdk.PutBucketAclRequest(bucket=self.name, acl=bucket_access.PRIVATE)
            self._call("set the ACL of", "", lambda: client.put_bucket_acl(acl))
        if not bucket_access.public_ways("", facts.policy):
            return
        if left := bucket_access.without_public(facts.policy):
            policy = sdk.PutBucketPolicyRequest(bucket=self.name, body=left)
            self._call("set the policy of", "", lambda: client.put_bucket_policy(policy))
        else:
            gone = sdk.DeleteBucketPolicyRequest(bucket=self.name)
            self._call("remove the policy of", "", lambda: client.delete_bucket_policy(gone))

    def encrypt(self, algorithm: str) -> None:
        """Encrypt what is written from now on, where a request asks for nothing else."""
        sdk = self._sdk
        rule = sdk.ServerSideEncryptionRule(sdk.ApplyServerSideEncryptionByDefault(sse_algorithm=algorithm))
        request = sdk.PutBucketEncryptionRequest(self.name, rule)
        self._call("set the encryption of", "", lambda: self._client.put_bucket_encryption(request))

    # ---- every version -------------------------------------------------------------------------------------------

    def versions(self) -> Iterator[ObjectVersion]:
        """Every object version and delete marker, by ascending key, the newest first."""
        key: str | None = None
        version: str | None = None
        while True:
            request = self._sdk.ListObjectVersionsRequest(
                bucket=self.name, key_marker=key, version_id_marker=version, max_keys=1000, encoding_type="url"
            )
            page = self._versions_page(request)
            found = [_version(item, False) for item in page.version or ()]
            found += [_version(item, True) for item in page.delete_marker or ()]
            # The SDK gives content and markers apart; of one key only its latest may come before the others.
            yield from sorted(found, key=lambda each: (each.key, not each.is_latest))
            if not page.is_truncated:
                return
            key, version = page.next_key_marker, page.next_version_id_marker

    def _versions_page(self, request: Any) -> Any:
        return self._call("list the versions in", "", lambda: self._client.list_object_versions(request))

    def _delete_batch(self, key: str, request: Any) -> None:
        self._call("delete versions of", key, lambda: self._client.delete_multiple_objects(request))

    def contents(self, owner: str) -> Contents:
        """What lies in it, and what of that ``owner`` published. Reads one small object for each version of a model."""
        versions = list(self.versions())
        texts = {each.key: self._text_of(each) for each in bucket_contents.documents(versions)}
        return bucket_contents.sort_out(versions, texts, [key for key, _ in self._uploads("")], owner)

    def _text_of(self, version: ObjectVersion) -> str:
        request = self._sdk.GetObjectRequest(bucket=self.name, key=version.key, version_id=version.id or None)

        def read() -> str:
            with self._client.get_object(request).body as body:
                return bytes(body.read()).decode(errors="replace")

        return str(self._call("read", version.key, read))

    def remove(
        self, versions: Sequence[ObjectVersion], uploads: Iterable[str], progress: Callable[[int], Any] | None = None
    ) -> None:
        """Delete these versions for good, and end the unfinished uploads of these keys.

        Args:
            versions: what goes.
            uploads: keys.
            progress: is called with how many versions are gone; may raise to stop.
        """
        sdk = self._sdk
        for start in range(0, len(versions), _BATCH):
            batch = versions[start : start + _BATCH]
            names = [sdk.ObjectIdentifier(key=each.key, version_id=each.id or None) for each in batch]
            request = sdk.DeleteMultipleObjectsRequest(
                bucket=self.name, encoding_type="url", delete=sdk.Delete(objects=names, quiet=True)
            )
            self._delete_batch(batch[0].key, request)
            if progress is not None:
                progress(start + len(batch))
        wanted = set(uploads)
        for key, upload in [each for each in self._uploads("") if each[0] in wanted] if wanted else ():
            self._abort(key, upload)


def _version(item: Any, is_marker: bool) -> ObjectVersion:
    size = 0 if is_marker else int(item.size or 0)
    return ObjectVersion(str(item.key), str(item.version_id or ""), size, is_marker, bool(item.is_latest))
