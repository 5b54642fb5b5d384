"""Objects of one OSS bucket: small texts, listings, and files published through a staging prefix."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, TypeVar

from provider import faults
from provider.clients import NoCredentialsError, one_line
from tfserving.errors import CloudError
from tfserving.manifest import FileEntry, crc64

T = TypeVar("T")

PART_BYTES = 8 * 1024 * 1024
"""Bytes of a part. What one interrupted request loses, and what is read at a time to compare a part with a file."""

MULTIPART_BYTES = 2 * PART_BYTES
"""Larger files go up in parts, so that an interrupted upload resumes."""

COPY_BYTES = 1 << 30
"""Larger objects are copied by parts: one CopyObject of them takes long, and of more than 5 GB is refused."""

MAX_KEY_BYTES = 1023
"""Longest key of an object, in UTF-8."""

_MAX_PARTS = 10_000  # of one multipart upload
_COPY_PART_BYTES = 256 * 1024 * 1024
_BLOCK_BYTES = 256 * 1024
_TRANSFER_ATTEMPTS = 8  # over a poor link a request is worth more than the SDK's three
_DELETE_BATCH = 1000  # DeleteMultipleObjects takes no more


@dataclass(frozen=True)
class ObjectInfo:
    """One object of a listing.

    Attributes:
        key: the whole key.
        size: bytes.
        etag: changes with every change of the content; not always an MD5.
        link: it is a symbolic link of OSS, which has size and ETag of its own.
    """

    key: str
    size: int
    etag: str
    link: bool = False


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


@dataclass(frozen=True)
class ObjectName:
    """An object by bucket and key."""

    bucket: str
    key: str


class ContentError(CloudError):
    """What OSS stored is not what was sent: the file changed on the way, or somebody else wrote to the same key."""


class NotTextError(CloudError):
    """An object that is to be a text in UTF-8 is none, so nothing of this project wrote it."""


class Bucket:
    """The objects of one bucket. Every method raises :class:`~tfserving.errors.CloudError` where OSS refuses."""

    def __init__(self, client: Any, name: str) -> None:
        import alibabacloud_oss_v2 as sdk

        self._sdk = sdk
        self._client = client
        self.name = name

    def uri(self, key: str) -> str:
        """``oss://bucket/key``."""
        return f"oss://{self.name}/{key}"

    def get_text(self, key: str) -> str | None:
        """A small object's text, or None where there is no such object, or no such bucket.

        Raises:
            NotTextError: it is not UTF-8.
        """
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
            raise NotTextError(f"oss://{self.name}/{key} is not a text in UTF-8") from error

    def start(self, key: str, size: int) -> bytes:
        """The first ``size`` bytes of an object, or all there are. A CloudError where there is none."""
        request = self._sdk.GetObjectRequest(
            bucket=self.name, key=key, range_header=f"bytes=0-{size - 1}", range_behavior="standard"
        )
        result = self._call("read", key, lambda: self._client.get_object(request))
        content: bytes = self._call("read", key, lambda: result.body.content)
        return content[:size]

    def put_text(self, key: str, text: str, *, new_only: bool = False) -> None:
        """Write a small object in one request: a reader sees the old or the new text, never a mix.

        With ``new_only``, an object that is there already is an error with the code ``FileAlreadyExists``.
        """
        content = text.encode()
        request = self._sdk.PutObjectRequest(
            bucket=self.name,
            key=key,
            body=content,
            content_type="text/plain; charset=utf-8",
            forbid_overwrite=True if new_only else None,
        )
        stored = self._call("write", key, lambda: self._client.put_object(request)).hash_crc64
        if stored and str(stored) != str(crc64(content)):
            raise self._other_content(key)

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

    def age(self, key: str) -> float | None:
        """Seconds since an object was written, by OSS's own clock; None where OSS does not tell."""
        request = self._sdk.HeadObjectRequest(bucket=self.name, key=key)
        result = self._call("look up", key, lambda: self._client.head_object(request))
        now = (result.headers or {}).get("Date")
        if result.last_modified is None or not now:
            return None
        return float((parsedate_to_datetime(now) - result.last_modified).total_seconds())

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Every object whose key starts with ``prefix``, by ascending key."""
        token: str | None = None
        while True:
            request = self._sdk.ListObjectsV2Request(
                bucket=self.name, prefix=prefix, continuation_token=token, max_keys=1000, encoding_type="url"
            )
            page = self._call("list", prefix, lambda request=request: self._client.list_objects_v2(request))  # type: ignore[misc]
            for item in page.contents or ():
                link = str(item.object_type or "").lower() == "symlink"
                yield ObjectInfo(str(item.key), int(item.size or 0), _etag(item.etag), link)
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

    # ---- files -----------------------------------------------------------------------------------------------------

    def put_file(self, key: str, path: Path, entry: FileEntry, progress: Callable[[int], None]) -> None:
        """Upload a file in one request to a key that does not exist yet.

        Args:
            key: object key.
            path: local file.
            entry: its size and checksum, compared with what OSS stored.
            progress: called with the number of bytes sent since the last call; may raise to stop the upload.
        """
        with _readable(path), open(path, "rb") as file:
            request = self._sdk.PutObjectRequest(
                bucket=self.name,
                key=key,
                body=_FileRange(file.fileno(), 0, entry.size),
                forbid_overwrite=True,
                progress_fn=_deltas(progress),
            )
            put = self._client.put_object
            self._upload(key, path, entry, lambda: put(request, retry_max_attempts=_TRANSFER_ATTEMPTS))

    def _upload(self, key: str, path: Path, entry: FileEntry, call: Callable[[], Any]) -> None:
        """:meth:`_make` from a file; an object that holds something else than the file did is not kept."""
        try:
            if path.stat().st_size != entry.size:
                raise _FileChangedError
            self._make(key, entry, call)
        except ContentError as error:
            self.delete([key])
            raise _FileChangedError from error

    def unfinished(self, prefix: str) -> dict[str, str]:
        """Ids of the multipart uploads under way below ``prefix``, by key; of two for one key, the newest."""
        return dict(self._uploads(prefix))

    def _uploads(self, prefix: str) -> Iterator[tuple[str, str]]:
        key_marker: str | None = None
        id_marker: str | None = None
        while True:
            request = self._sdk.ListMultipartUploadsRequest(
                bucket=self.name,
                prefix=prefix,
                key_marker=key_marker,
                upload_id_marker=id_marker,
                max_uploads=1000,
                encoding_type="url",
            )
            page = self._call("list", prefix, lambda request=request: self._client.list_multipart_uploads(request))  # type: ignore[misc]
            for item in page.uploads or ():
                yield str(item.key), str(item.upload_id)
            if not page.is_truncated:
                return
            key_marker, id_marker = page.next_key_marker, page.next_upload_id_marker

    def abort_uploads(self, prefix: str) -> None:
        """End the multipart uploads under way below ``prefix`` and give up their parts."""
        for key, upload_id in list(self._uploads(prefix)):
            self._abort(key, upload_id)

    def _abort(self, key: str, upload_id: str) -> None:
        request = self._sdk.AbortMultipartUploadRequest(bucket=self.name, key=key, upload_id=upload_id)
        try:
            self._call("end the upload of", key, lambda: self._client.abort_multipart_upload(request))
        except CloudError as error:
            if error.code != "NoSuchUpload":
                raise

    def begin(self, key: str, path: Path, entry: FileEntry, upload_id: str | None) -> PartUpload:
        """Begin to upload a file in parts, or go on with ``upload_id`` where an interrupted run stopped."""
        stored = None if upload_id is None else self._parts(key, upload_id)
        if stored is None:
            upload_id, stored = self._initiate(key, forbid_overwrite=True), {}
        return PartUpload(self, key, path, entry, str(upload_id), stored)

    def _initiate(self, key: str, *, forbid_overwrite: bool) -> str:
        request = self._sdk.InitiateMultipartUploadRequest(
            bucket=self.name, key=key, forbid_overwrite=forbid_overwrite or None
        )
        return str(self._call("write", key, lambda: self._client.initiate_multipart_upload(request)).upload_id)

    def _parts(self, key: str, upload_id: str) -> dict[int, StoredFile] | None:
        """The parts of an upload by number; None where the upload has ended meanwhile."""
        found: dict[int, StoredFile] = {}
        marker: int | None = None
        while True:
            request = self._sdk.ListPartsRequest(
                bucket=self.name, key=key, upload_id=upload_id, part_number_marker=marker, max_parts=1000
            )
            try:
                page = self._call("list the parts of", key, lambda request=request: self._client.list_parts(request))  # type: ignore[misc]
            except CloudError as error:
                if error.code == "NoSuchUpload":
                    return None
                raise
            for part in page.parts or ():
                found[int(part.part_number)] = StoredFile(
                    int(part.size or 0), str(part.hash_crc64 or ""), _etag(part.etag)
                )
            if not page.is_truncated:
                return found
            marker = int(page.next_part_number_marker)

    def _completion(
        self, key: str, upload_id: str, etags: Mapping[int, str], *, forbid_overwrite: bool
    ) -> Callable[[], Any]:
        parts = [self._sdk.UploadPart(part_number=number, etag=etag) for number, etag in sorted(etags.items())]
        request = self._sdk.CompleteMultipartUploadRequest(
            bucket=self.name,
            key=key,
            upload_id=upload_id,
            complete_multipart_upload=self._sdk.CompleteMultipartUpload(parts=parts),
            forbid_overwrite=forbid_overwrite or None,
        )
        complete = self._client.complete_multipart_upload
        return lambda: complete(request, retry_max_attempts=_TRANSFER_ATTEMPTS)

    def copy(self, source: ObjectName, key: str, entry: FileEntry, *, replace: bool = False) -> None:
        """Copy an object on the server; no byte passes this machine.

        Args:
            source: bucket and key of the object.
            key: where to.
            entry: size and checksum, compared with what is there afterwards.
            replace: overwrite what is there; else that is an error.
        """
        request = self._sdk.CopyObjectRequest(
            bucket=self.name,
            key=key,
            source_bucket=source.bucket,
            source_key=source.key,
            metadata_directive="COPY",
            forbid_overwrite=None if replace else True,
        )
        self._make(key, entry, lambda: self._client.copy_object(request))

    def prepare_copy(self, source: ObjectName, key: str, entry: FileEntry) -> Callable[[bool], None]:
        """Copy a large object by parts, and leave the last step, after which it is visible, to the caller.

        Returns:
            the last step; its argument is ``replace`` of :meth:`copy`.
        """
        for _, old in [found for found in self._uploads(key) if found[0] == key]:
            self._abort(key, old)
        upload_id = self._initiate(key, forbid_overwrite=False)
        size = max(_COPY_PART_BYTES, -(-entry.size // _MAX_PARTS))
        etags: dict[int, str] = {}
        for number, start in enumerate(range(0, entry.size, size), start=1):
            request = self._sdk.UploadPartCopyRequest(
                bucket=self.name,
                key=key,
                part_number=number,
                upload_id=upload_id,
                source_bucket=source.bucket,
                source_key=source.key,
                source_range=f"bytes={start}-{min(start + size, entry.size) - 1}",
            )
            result = self._call("write", key, lambda request=request: self._client.upload_part_copy(request))  # type: ignore[misc]
            etags[number] = _etag(result.etag)

        def last_step(replace: bool) -> None:
            self._make(key, entry, self._completion(key, upload_id, etags, forbid_overwrite=not replace))

        return last_step

    def _make(self, key: str, entry: FileEntry, call: Callable[[], Any]) -> None:
        """Make an object; where OSS says that it exists or the upload has ended, an attempt before did: look at it."""
        try:
            crc = str(self._call("write", key, call).hash_crc64 or "")
        except CloudError as error:
            if error.code not in ("FileAlreadyExists", "NoSuchUpload"):
                raise
            if not self.holds(key, entry):
                raise
            return
        if crc != entry.crc64 and (crc or not self.holds(key, entry)):
            raise self._other_content(key)

    def _other_content(self, key: str) -> ContentError:
        return ContentError(f"oss://{self.name}/{key} is not what was to be stored there. Fix: run the update again")

    def holds(self, key: str, entry: FileEntry) -> bool:
        """Whether an object is there with the size and checksum of ``entry``."""
        found = self.head(key)
        return found is not None and found.size == entry.size and found.crc64 in ("", entry.crc64)

    def _call(self, verb: str, key: str, call: Callable[[], T]) -> T:
        try:
            return call()
        except Exception as error:  # the SDK raises its own exceptions and those of the libraries below it
            raise oss_error(f"cannot {verb} oss://{self.name}/{key}", self._sdk, error) from error


class PartUpload:
    """A file on its way up in parts. The parts may be sent in any order and from several threads.

    Attributes:
        parts: the numbers of the parts, from 1.
    """

    def __init__(
        self, bucket: Bucket, key: str, path: Path, entry: FileEntry, upload_id: str, stored: Mapping[int, StoredFile]
    ) -> None:
        self._bucket = bucket
        self._key = key
        self._path = path
        self._entry = entry
        self._upload_id = upload_id
        self._stored = stored
        # The size depends on nothing but the file, so that parts of an earlier run fit.
        self._size = max(PART_BYTES, -(-entry.size // _MAX_PARTS))
        self.parts = range(1, -(-entry.size // self._size) + 1)
        self._etags: dict[int, str] = {}
        self._lock = threading.Lock()

    def send(self, number: int, progress: Callable[[int], None]) -> tuple[int, bool]:
        """Send one part, unless OSS holds it already with this very content; the last one to arrive ends the upload.

        Args:
            number: which part.
            progress: see :meth:`Bucket.put_file`.

        Returns:
            bytes that did not have to be sent, and whether the file is complete now.
        """
        start = (number - 1) * self._size
        length = min(self._size, self._entry.size - start)
        with _readable(self._path), open(self._path, "rb") as file:
            body = _FileRange(file.fileno(), start, length)
            stored = self._stored.get(number)
            kept = stored is not None and stored.size == length and stored.crc64 == str(body.crc64())
            etag = stored.etag if kept and stored is not None else self._send(number, body, progress)
        with self._lock:
            self._etags[number] = etag
            last = len(self._etags) == len(self.parts)
        if last:
            complete = self._bucket._completion(self._key, self._upload_id, self._etags, forbid_overwrite=True)
            self._bucket._upload(self._key, self._path, self._entry, complete)
        return length if kept else 0, last

    def _send(self, number: int, body: _FileRange, progress: Callable[[int], None]) -> str:
        client, sdk = self._bucket._client, self._bucket._sdk
        request = sdk.UploadPartRequest(
            bucket=self._bucket.name,
            key=self._key,
            part_number=number,
            upload_id=self._upload_id,
            body=body,
            progress_fn=_deltas(progress),
        )
        result = self._bucket._call(
            "write", self._key, lambda: client.upload_part(request, retry_max_attempts=_TRANSFER_ATTEMPTS)
        )
        if result.hash_crc64 and str(result.hash_crc64) != str(body.sent_crc64):
            raise ContentError(
                f"OSS did not receive part {number} of {self._path} as it was sent. Fix: run the update again, "
                "which sends this part anew"
            )
        return _etag(result.etag)


class _FileChangedError(ContentError):
    """A file is not what it was when the upload was planned."""

    def __init__(self) -> None:
        super().__init__("the file changed while it was uploaded")


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """What happened to a file while it was read, as an error that names it and the fix."""
    try:
        yield
    except _FileChangedError as error:
        raise ContentError(f"{path} changed while it was uploaded. Fix: run the update again") from error
    except OSError as error:
        raise ContentError(
            f"{path} cannot be read any more: {error.strerror}. Fix: put it back, then run the update again"
        ) from error


class _FileRange:
    """A stretch of a file as a body the SDK can read, measure and rewind.

    Attributes:
        sent_crc64: checksum of what was read since the start of the stretch.
    """

    def __init__(self, descriptor: int, start: int, length: int) -> None:
        self._descriptor = descriptor
        self._start = start
        self._length = length
        self._position = 0
        self.sent_crc64 = 0

    def __len__(self) -> int:
        return self._length

    def read(self, size: int = -1) -> bytes:
        left = self._length - self._position
        # The SDK asks for small blocks; larger ones cost less time between them.
        data = os.pread(
            self._descriptor, left if size < 0 else min(left, max(size, _BLOCK_BYTES)), self._start + self._position
        )
        if left and not data:
            # The request has promised more, and OSS would wait for it.
            raise _FileChangedError
        self._position += len(data)
        self.sent_crc64 = crc64(data, self.sent_crc64)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._length}[whence]
        self._position = max(0, origin + offset)
        if not self._position:
            self.sent_crc64 = 0
        return self._position

    def tell(self) -> int:
        return self._position

    def seekable(self) -> bool:
        return True

    def crc64(self) -> int:
        """The checksum of the stretch; leaves the position at its start."""
        self.seek(0)
        while self.read(_BLOCK_BYTES):
            pass
        crc = self.sent_crc64
        self.seek(0)
        return crc


def _deltas(progress: Callable[[int], None]) -> Callable[[int, int, int], None]:
    """The SDK's progress callback as one that gets how much was sent since the last time."""
    sent = 0

    def on_progress(_count: int, written: int, _total: int) -> None:
        nonlocal sent
        if written > sent:  # a repeated request begins at 0 again
            progress(written - sent)
            sent = written

    return on_progress


def _etag(value: object) -> str:
    return str(value or "").strip('"')


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
        if isinstance(found, ContentError):
            return found
        if isinstance(found, faults.StillSilentError):
            return CloudError(f"{what}: no answer from OSS: {one_line(found)}")
        if isinstance(found, CloudError):
            return CloudError(f"{what}: {found}", found.code)
        if isinstance(found, (sdk.exceptions.CredentialsFetchError, sdk.exceptions.CredentialsEmptyError)):
            return NoCredentialsError(what)
        if isinstance(found, sdk.exceptions.ServiceError):
            code = str(found.code or "")
            status = int(found.status_code or 0)
            if code in ("", "BadErrorResponse"):
                code = str(status)
            if faults.is_page(found.snapshot or b""):
                return CloudError(f"{what}: {status}: {faults.NOT_THE_CLOUD}", code)
            hint = faults.hint(status, code, str(found.message), "the RAM identity lacks a right on this bucket")
            if code == "NoSuchBucket":
                hint = " (the bucket does not exist)"
            request = f" request id: {found.request_id}" if found.request_id else ""
            return CloudError(f"{what}: {code}: {one_line(found.message)}{request}{hint}", code)
    faults.SILENCE.gave_up(str(chain[-1]))
    return CloudError(f"{what}: no answer from OSS: {one_line(chain[-1])}")
