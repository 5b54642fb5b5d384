"""Objects of one OSS bucket: small texts, listings, and files published through a staging prefix."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from provider.clients import NO_CREDENTIALS, one_line
from tfserving.errors import CloudError

T = TypeVar("T")

MULTIPART_BYTES = 32 * 1024 * 1024
"""Larger files go up in parts, so that an interrupted upload resumes."""

_PART_BYTES = 8 * 1024 * 1024
_DELETE_BATCH = 1000  # DeleteMultipleObjects takes no more


@dataclass(frozen=True)
class ObjectInfo:
    """One object of a listing.

    Attributes:
        key: the whole key.
        size: bytes.
        etag: changes with every change of the content; not always an MD5.
    """

    key: str
    size: int
    etag: str


@dataclass(frozen=True)
class StoredFile:
    """What a HEAD says about an object.

    Attributes:
        size: bytes.
        crc64: CRC-64 (ECMA-182) of the content in decimal; empty where the server does not tell.
        etag: changes with every change of the content.
    """

    size: int
    crc64: str
    etag: str


class Bucket:
    """The objects of one bucket. Every method raises :class:`~tfserving.errors.CloudError` where OSS refuses."""

    def __init__(self, client: Any, name: str) -> None:
        import alibabacloud_oss_v2 as sdk

        self._sdk = sdk
        self._client = client
        self.name = name

    def get_text(self, key: str) -> str | None:
        """A small object's text, or None where there is no such object, or no such bucket."""
        request = self._sdk.GetObjectRequest(bucket=self.name, key=key)
        try:
            result = self._call("read", key, lambda: self._client.get_object(request))
            content: bytes = self._call("read", key, lambda: result.body.content)
            return content.decode()
        except CloudError as error:
            if error.code in ("NoSuchKey", "NoSuchBucket"):
                return None
            raise
        except UnicodeDecodeError as error:
            raise CloudError(f"oss://{self.name}/{key} is not a text in UTF-8") from error

    def put_text(self, key: str, text: str, *, new_only: bool = False) -> None:
        """Write a small object in one request: a reader sees the old or the new text, never a mix.

        With ``new_only``, an object that is there already is an error with the code ``FileAlreadyExists``.
        """
        request = self._sdk.PutObjectRequest(
            bucket=self.name,
            key=key,
            body=text.encode(),
            content_type="text/plain; charset=utf-8",
            forbid_overwrite=True if new_only else None,
        )
        self._call("write", key, lambda: self._client.put_object(request))

    def head(self, key: str) -> StoredFile | None:
        """Size, checksum and ETag of an object, or None where there is none."""
        request = self._sdk.HeadObjectRequest(bucket=self.name, key=key)
        try:
            result = self._call("look up", key, lambda: self._client.head_object(request))
        except CloudError as error:
            if error.code in ("NoSuchKey", "404"):
                return None
            raise
        return StoredFile(int(result.content_length or 0), str(result.hash_crc64 or ""), _etag(result.etag))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Every object whose key starts with ``prefix``, by ascending key."""
        token: str | None = None
        while True:
            request = self._sdk.ListObjectsV2Request(
                bucket=self.name, prefix=prefix, continuation_token=token, max_keys=1000, encoding_type="url"
            )
            page = self._call("list", prefix, lambda request=request: self._client.list_objects_v2(request))  # type: ignore[misc]
            for item in page.contents or ():
                yield ObjectInfo(str(item.key), int(item.size or 0), _etag(item.etag))
            if not page.is_truncated:
                return
            token = page.next_continuation_token

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects, in the order given and in as few requests as possible. Missing ones are fine."""
        pending = list(keys)
        for start in range(0, len(pending), _DELETE_BATCH):
            batch = pending[start : start + _DELETE_BATCH]
            request = self._sdk.DeleteMultipleObjectsRequest(
                bucket=self.name,
                encoding_type="url",
                delete=self._sdk.Delete(objects=[self._sdk.ObjectIdentifier(key=key) for key in batch], quiet=True),
            )
            self._call("delete", batch[0], lambda request=request: self._client.delete_multiple_objects(request))  # type: ignore[misc]

    def upload(self, key: str, path: Path, progress: Callable[[int], None]) -> str:
        """Upload a file; its CRC-64 as OSS computed it.

        The SDK compares checksums of what it sent and what OSS stored. Files over :data:`MULTIPART_BYTES` go up in
        parts, and a later call for the same file and key continues where an interrupted one stopped.

        Args:
            key: object key.
            path: local file.
            progress: called with the number of bytes sent since the last call; may raise to stop the upload.
        """
        sent = 0

        def on_progress(_count: int, written: int, _total: int) -> None:
            nonlocal sent
            progress(written - sent)
            sent = written

        request = self._sdk.PutObjectRequest(bucket=self.name, key=key, progress_fn=on_progress)
        if path.stat().st_size <= MULTIPART_BYTES:
            result = self._call("write", key, lambda: self._client.put_object_from_file(request, str(path)))
        else:
            unfinished = cache_dir() / "uploads"
            unfinished.mkdir(exist_ok=True)
            uploader = self._client.uploader(
                part_size=_PART_BYTES, parallel_num=3, enable_checkpoint=True, checkpoint_dir=str(unfinished)
            )
            result = self._call("write", key, lambda: uploader.upload_file(request, str(path)))
        return str(result.hash_crc64 or "")

    def copy(self, source: str, key: str) -> None:
        """Copy an object inside the bucket, on the server, checksum-checked by OSS."""
        request = self._sdk.CopyObjectRequest(
            bucket=self.name, key=key, source_bucket=self.name, source_key=source, metadata_directive="COPY"
        )
        copier = self._client.copier()
        self._call("write", key, lambda: copier.copy(request))

    def _call(self, verb: str, key: str, call: Callable[[], T]) -> T:
        try:
            return call()
        except Exception as error:  # the SDK raises its own exceptions and those of the libraries below it
            raise oss_error(f"cannot {verb} oss://{self.name}/{key}", self._sdk, error) from error


def _etag(value: object) -> str:
    return str(value or "").strip('"')


def cache_dir() -> Path:
    """Where this person's caches of the project are: hashes of files, unfinished uploads. Made for them alone."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    path = base / "tf-serving-stacks"
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    return path


def oss_error(what: str, sdk: Any, error: Exception) -> CloudError:
    """The SDK's error as one line that starts with ``what``, with the API's code."""
    seen: BaseException | None = error
    chain: list[BaseException] = []
    while seen is not None and seen not in chain:
        chain.append(seen)
        unwrap = getattr(seen, "unwrap", None)
        inner = unwrap() if callable(unwrap) else None
        seen = inner if isinstance(inner, BaseException) else seen.__cause__
    for found in chain:
        if isinstance(found, CloudError):
            return found
        if isinstance(found, (sdk.exceptions.CredentialsFetchError, sdk.exceptions.CredentialsEmptyError)):
            return CloudError(f"{what}: {NO_CREDENTIALS}")
        if isinstance(found, sdk.exceptions.ServiceError):
            code = str(found.code or "")
            status = int(found.status_code or 0)
            if code in ("", "BadErrorResponse"):
                code = str(status)
            hint = ""
            if code == "NoSuchBucket":
                hint = " (the bucket does not exist)"
            elif status == 403:
                hint = " (the RAM identity lacks a right on this bucket, or the keys are wrong)"
            request = f" request id: {found.request_id}" if found.request_id else ""
            return CloudError(f"{what}: {code}: {one_line(found.message)}{request}{hint}", code)
    return CloudError(f"{what}: no answer from OSS: {one_line(chain[-1])}")
