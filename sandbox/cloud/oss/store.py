"""The objects of the sandbox OSS: bytes in immutable blob files, everything else in a SQLite index.

Crash safety: a blob is written under a temporary name and renamed before the index mentions it, and the index changes
in one transaction, so a process killed at any moment leaves each object either as it was or as it was to become. What a
killed process left lying about is removed at the next start. Blobs are not fsynced (a sandbox need not survive a power
cut), but an object whose bytes did not reach the disk is noticed at start and dropped.

Keys are compared as UTF-8 bytes, as OSS does. Overwriting or copying an object never touches an existing blob, so an
open download, and a hard link to the file (``sandbox/cloud/oss/mounts.py``), keep the bytes they began with.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Generic, Protocol, TypeVar

import fastcrc

from sandbox.cloud.oss import errors

log = logging.getLogger("sandbox.cloud.oss")

NULL_VERSION = "null"
"""Version id of objects written while versioning is not enabled."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS buckets (
    name TEXT PRIMARY KEY, created REAL NOT NULL, properties TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS bucket_config (
    bucket TEXT NOT NULL REFERENCES buckets ON DELETE CASCADE, kind TEXT NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (bucket, kind)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS versions (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    bucket TEXT NOT NULL REFERENCES buckets, key BLOB NOT NULL, version_id TEXT NOT NULL,
    is_latest INTEGER NOT NULL, blob TEXT, size INTEGER NOT NULL, etag TEXT NOT NULL, crc64 TEXT NOT NULL,
    modified REAL NOT NULL, multipart INTEGER NOT NULL, properties TEXT NOT NULL
);
CREATE UNIQUE INDEX IF NOT EXISTS version_by_id ON versions (bucket, key, version_id);
CREATE UNIQUE INDEX IF NOT EXISTS version_latest ON versions (bucket, key) WHERE is_latest = 1;
CREATE INDEX IF NOT EXISTS version_order ON versions (bucket, key, seq DESC);
CREATE INDEX IF NOT EXISTS version_blob ON versions (blob);
CREATE TABLE IF NOT EXISTS uploads (
    id TEXT PRIMARY KEY, bucket TEXT NOT NULL REFERENCES buckets, key BLOB NOT NULL, initiated REAL NOT NULL,
    properties TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS upload_order ON uploads (bucket, key, id);
CREATE TABLE IF NOT EXISTS parts (
    upload TEXT NOT NULL REFERENCES uploads ON DELETE CASCADE, number INTEGER NOT NULL,
    blob TEXT NOT NULL, size INTEGER NOT NULL, etag TEXT NOT NULL, crc64 TEXT NOT NULL, modified REAL NOT NULL,
    PRIMARY KEY (upload, number)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS part_blob ON parts (blob);
"""


@dataclass(frozen=True)
class Bucket:
    """A bucket.

    Attributes:
        created: POSIX time.
        acl: ``private``, ``public-read`` or ``public-read-write``.
        versioning: ``""`` (never set), ``Enabled`` or ``Suspended``.
        region: ``cn-hangzhou``.
    """

    name: str
    created: float
    acl: str = "private"
    storage_class: str = "Standard"
    redundancy: str = "LRS"
    region: str = "cn-hangzhou"
    resource_group: str = ""
    versioning: str = ""


@dataclass(frozen=True)
class Blob:
    """Bytes written but not yet part of any object.

    Attributes:
        identifier: names the blob file.
        size: bytes.
        md5: upper-case hex.
        crc64: CRC-64/ECMA-182 (``x-oss-hash-crc64ecma``).
    """

    identifier: str
    size: int
    md5: str
    crc64: int


@dataclass(frozen=True)
class ObjectProperties:
    """What an object carries beside its bytes.

    Attributes:
        headers: lower-case header name to value: the standard ones, ``x-oss-meta-*``, encryption.
        acl: ``default`` or a canned ACL.
        tags: in the order they were given.
    """

    headers: Mapping[str, str] = field(default_factory=dict)
    acl: str = "default"
    storage_class: str = "Standard"
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ObjectVersion:
    """One version of an object, or a delete marker.

    Attributes:
        sequence: grows with every version written; the order of versions of one key.
        blob: blob identifier, None for a delete marker.
        etag: without quotes.
        crc64: decimal.
        modified: POSIX time.
    """

    sequence: int
    bucket: str
    key: str
    version_id: str
    is_latest: bool
    blob: str | None
    size: int
    etag: str
    crc64: str
    modified: float
    multipart: bool
    properties: ObjectProperties

    @property
    def is_delete_marker(self) -> bool:
        return self.blob is None


@dataclass(frozen=True)
class Deletion:
    """What a delete did.

    Attributes:
        version_id: of the version removed or the marker made; empty where the bucket was never versioned.
        delete_marker: a marker was made, or the version removed was one.
    """

    version_id: str = ""
    delete_marker: bool = False


@dataclass(frozen=True)
class Upload:
    """A multipart upload that is under way. ``initiated`` is POSIX time."""

    upload_id: str
    bucket: str
    key: str
    initiated: float
    properties: ObjectProperties


@dataclass(frozen=True)
class Part:
    """A part of a multipart upload."""

    number: int
    blob: str
    size: int
    etag: str
    crc64: str
    modified: float


Item = TypeVar("Item")


@dataclass(frozen=True)
class Listing(Generic[Item]):
    """One page of a listing.

    Attributes:
        items: in key order.
        prefixes: common prefixes, in order.
        next: key or common prefix of the last entry when there is more, else None.
        next_id: version id or upload id that goes with it, where there is one.
    """

    items: tuple[Item, ...]
    prefixes: tuple[str, ...]
    next: str | None = None
    next_id: str = ""


class BlobWriter:
    """Takes the bytes of one blob. Leaving the ``with`` block without :meth:`finish`, or by an error, discards them."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._identifier = secrets.token_hex(16)
        self._temporary = store.temporary_path(self._identifier)
        self._file: BinaryIO | None = open(self._temporary, "xb", buffering=0)  # noqa: SIM115 - closed by __exit__
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._crc64 = 0
        self._size = 0
        self._blob: Blob | None = None

    def __enter__(self) -> BlobWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        if self._blob is None:
            self._temporary.unlink(missing_ok=True)
        elif error is not None:
            self._store.discard(self._blob)

    def write(self, data: bytes | memoryview) -> None:
        """Adds bytes and hashes them.

        Raises:
            OSError: the disk is full.
        """
        self._md5.update(data)
        self._crc64 = fastcrc.crc64.xz(data, self._crc64)
        self._append(data)

    def append_blob(self, part: Part) -> None:
        """Adds the bytes of a part. Only the CRC is kept up to date; the MD5 of the blob means nothing after this."""
        with open(self._store.blob_path(part.blob), "rb") as source:
            while chunk := source.read(1 << 20):
                self._crc64 = fastcrc.crc64.xz(chunk, self._crc64)
                self._append(chunk)

    def _append(self, data: bytes | memoryview) -> None:
        if self._file is None:
            raise ValueError("the blob is finished")
        view = memoryview(data)
        while view:
            written = self._file.write(view)
            view = view[written:]
            self._size += written

    def finish(self) -> Blob:
        """Gives the bytes their final place. Until an object refers to them, they do not outlive the process.

        Raises:
            ValueError: called twice.
        """
        if self._file is None:
            raise ValueError("the blob is finished")
        self._file.close()
        self._file = None
        target = self._store.blob_path(self._identifier)
        target.parent.mkdir(exist_ok=True)
        os.chmod(self._temporary, 0o444)
        os.rename(self._temporary, target)
        self._blob = Blob(self._identifier, self._size, self._md5.hexdigest().upper(), self._crc64)
        return self._blob


class _HasKey(Protocol):
    @property
    def key(self) -> str: ...


Keyed = TypeVar("Keyed", bound=_HasKey)

_VERSION_COLUMNS = "seq, bucket, key, version_id, is_latest, blob, size, etag, crc64, modified, multipart, properties"


class _Transaction:
    """One change of the index: which keys it touches and which blobs may no longer be needed after it."""

    def __init__(self) -> None:
        self.touched: dict[tuple[str, str], None] = {}
        self.released: set[str] = set()


class ObjectStore:
    """Buckets, objects, versions and multipart uploads in one directory.

    All methods may be called from any thread and block on the disk. Bucket-level methods raise ``NoSuchBucket`` and
    other :class:`~sandbox.cloud.oss.errors.OssError`; a full disk is an ``OSError`` or ``sqlite3.OperationalError``
    that leaves everything as it was.
    """

    def __init__(self, directory: Path) -> None:
        self._blobs = directory / "blobs"
        self._temporary = directory / "tmp"
        for path in (directory, self._blobs, self._temporary):
            path.mkdir(parents=True, exist_ok=True)
        self._lock = threading.RLock()
        self._listeners: list[Callable[[str, str], None]] = []
        self._db = sqlite3.connect(directory / "index.sqlite", check_same_thread=False, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.execute("PRAGMA foreign_keys = ON")
        self._db.executescript(_SCHEMA)
        self._recover()

    def close(self) -> None:
        """Closes the index. Safe to call twice."""
        with self._lock:
            self._db.close()

    def on_change(self, listener: Callable[[str, str], None]) -> None:
        """Calls ``listener(bucket, key)`` after every change of what a key holds, in order, under the store's lock."""
        self._listeners.append(listener)

    @property
    def lock(self) -> threading.RLock:
        """Held while the index changes and listeners run; take it to look at several keys at one moment."""
        return self._lock

    # ---------------------------------------------------------------- files

    def blob_path(self, identifier: str) -> Path:
        """The file of a blob. Its content never changes."""
        return self._blobs / identifier[:2] / identifier

    def temporary_path(self, identifier: str) -> Path:
        return self._temporary / identifier

    def receive(self) -> BlobWriter:
        """Begins a new blob."""
        return BlobWriter(self)

    def open_blob(self, version: ObjectVersion) -> BinaryIO:
        """Opens the bytes of a version. They stay readable even if the object is deleted meanwhile.

        Raises:
            OssError: the version was deleted before it could be opened, or is a delete marker.
        """
        if version.blob is None:
            raise errors.no_such_key(version.key)
        try:
            return open(self.blob_path(version.blob), "rb")
        except FileNotFoundError:
            raise errors.no_such_key(version.key) from None

    def discard(self, blob: Blob) -> None:
        """Removes a blob unless something refers to it."""
        with self._lock:
            if not self._is_referenced(blob.identifier):
                self.blob_path(blob.identifier).unlink(missing_ok=True)

    def _is_referenced(self, identifier: str) -> bool:
        row = self._db.execute(
            "SELECT EXISTS (SELECT 1 FROM versions WHERE blob = :b) OR EXISTS (SELECT 1 FROM parts WHERE blob = :b)",
            {"b": identifier},
        ).fetchone()
        return bool(row[0])

    def _recover(self) -> None:
        """Brings files and index together after a process was killed."""
        for path in self._temporary.iterdir():
            path.unlink()
        wanted: dict[str, int] = dict(self._db.execute("SELECT blob, size FROM versions WHERE blob IS NOT NULL"))
        wanted.update(self._db.execute("SELECT blob, size FROM parts"))
        sizes = {path.name: path.stat().st_size for path in self._blobs.glob("*/*")}
        for name in sizes.keys() - wanted.keys():
            self.blob_path(name).unlink()
        lost = [name for name, size in wanted.items() if sizes.get(name) != size]
        for name in lost:
            with self._transaction() as change:
                rows = self._db.execute(
                    f"SELECT {_VERSION_COLUMNS} FROM versions WHERE blob = ?",  # noqa: S608 - constant columns
                    (name,),
                ).fetchall()
                for version in map(_version, rows):
                    log.warning("bytes of %s/%s are lost, dropping it", version.bucket, version.key)
                    self._remove_version(version, change)
                self._db.execute("DELETE FROM parts WHERE blob = ?", (name,))

    @contextmanager
    def _transaction(self) -> Iterator[_Transaction]:
        with self._lock:
            change = _Transaction()
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield change
                unused = [name for name in change.released if not self._is_referenced(name)]
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
            for bucket, key in change.touched:
                for listener in self._listeners:
                    listener(bucket, key)
            for name in unused:
                self.blob_path(name).unlink(missing_ok=True)

    # -------------------------------------------------------------- buckets

    def create_bucket(self, bucket: Bucket) -> bool:
        """Makes a bucket; False if there is one of that name already, which is left alone."""
        with self._transaction():
            if self._find_bucket(bucket.name) is not None:
                return False
            self._db.execute(
                "INSERT INTO buckets VALUES (?, ?, ?)", (bucket.name, bucket.created, _bucket_properties(bucket))
            )
            return True

    def update_bucket(self, name: str, **properties: str) -> None:
        """Changes fields of :class:`Bucket`."""
        with self._transaction():
            bucket = replace(self.bucket(name), **properties)  # type: ignore[arg-type]
            self._db.execute(
                "UPDATE buckets SET properties = ? WHERE name = ?", (_bucket_properties(bucket), bucket.name)
            )

    def bucket(self, name: str) -> Bucket:
        """One bucket.

        Raises:
            OssError: ``NoSuchBucket``.
        """
        bucket = self._find_bucket(name)
        if bucket is None:
            raise errors.no_such_bucket(name)
        return bucket

    def _find_bucket(self, name: str) -> Bucket | None:
        with self._lock:
            row = self._db.execute("SELECT name, created, properties FROM buckets WHERE name = ?", (name,)).fetchone()
        return None if row is None else Bucket(row[0], row[1], **json.loads(row[2]))

    def buckets(self) -> list[Bucket]:
        """All buckets by name."""
        with self._lock:
            rows = self._db.execute("SELECT name, created, properties FROM buckets ORDER BY name").fetchall()
        return [Bucket(name, created, **json.loads(properties)) for name, created, properties in rows]

    def delete_bucket(self, name: str) -> None:
        """Removes an empty bucket.

        Raises:
            OssError: ``BucketNotEmpty`` while it holds an object, an old version, a delete marker or an upload.
        """
        with self._transaction():
            self.bucket(name)
            row = self._db.execute(
                "SELECT EXISTS (SELECT 1 FROM versions WHERE bucket = :b)"
                " OR EXISTS (SELECT 1 FROM uploads WHERE bucket = :b)",
                {"b": name},
            ).fetchone()
            if row[0]:
                message = "The bucket you tried to delete is not empty."
                raise errors.OssError(409, "BucketNotEmpty", message, BucketName=name)
            self._db.execute("DELETE FROM buckets WHERE name = ?", (name,))

    def bucket_config(self, name: str, kind: str) -> bytes | None:
        """The stored document of a bucket sub-resource, None if there is none."""
        with self._lock:
            self.bucket(name)
            row = self._db.execute(
                "SELECT body FROM bucket_config WHERE bucket = ? AND kind = ?", (name, kind)
            ).fetchone()
        return None if row is None else bytes(row[0])

    def set_bucket_config(self, name: str, kind: str, body: bytes | None) -> None:
        """Stores the document of a bucket sub-resource, or removes it."""
        with self._transaction():
            self.bucket(name)
            if body is None:
                self._db.execute("DELETE FROM bucket_config WHERE bucket = ? AND kind = ?", (name, kind))
            else:
                self._db.execute("INSERT OR REPLACE INTO bucket_config VALUES (?, ?, ?)", (name, kind, body))

    def usage(self, name: str) -> Mapping[str, int]:
        """Counts for GetBucketStat: ``bytes``, ``objects``, ``uploads``, ``markers``."""
        with self._lock:
            self.bucket(name)
            size, count = self._db.execute(
                "SELECT COALESCE(SUM(size), 0), COUNT(*) FROM versions WHERE bucket = ? AND blob IS NOT NULL", (name,)
            ).fetchone()
            markers = self._db.execute(
                "SELECT COUNT(*) FROM versions WHERE bucket = ? AND blob IS NULL", (name,)
            ).fetchone()[0]
            uploads = self._db.execute("SELECT COUNT(*) FROM uploads WHERE bucket = ?", (name,)).fetchone()[0]
        return {"bytes": size, "objects": count, "uploads": uploads, "markers": markers}

    # -------------------------------------------------------------- objects

    def put_object(
        self,
        bucket: str,
        key: str,
        blob: Blob,
        properties: ObjectProperties,
        *,
        etag: str = "",
        multipart: bool = False,
        forbid_overwrite: bool = False,
    ) -> ObjectVersion:
        """Makes a blob the current content of a key.

        Args:
            etag: where it is not the MD5 of the blob.
            forbid_overwrite: refuse where the key exists; without effect once versioning was set, as in OSS.

        Raises:
            OssError: ``FileAlreadyExists``.
        """
        with self._transaction() as change:
            return self._put(bucket, key, blob, properties, etag or blob.md5, multipart, forbid_overwrite, change)

    def _put(
        self,
        bucket: str,
        key: str,
        blob: Blob,
        properties: ObjectProperties,
        etag: str,
        multipart: bool,
        forbid_overwrite: bool,
        change: _Transaction,
    ) -> ObjectVersion:
        versioning = self.bucket(bucket).versioning
        if forbid_overwrite and not versioning:
            self.check_absent(bucket, key)
        version_id = self._make_room(bucket, key, versioning, change)
        row = (
            bucket,
            key.encode(),
            version_id,
            1,
            blob.identifier,
            blob.size,
            etag,
            str(blob.crc64),
            time.time(),
            int(multipart),
            _properties_json(properties),
        )
        return self._insert(row)

    def copy_object(
        self,
        source: ObjectVersion,
        bucket: str,
        key: str,
        properties: ObjectProperties,
        *,
        forbid_overwrite: bool = False,
    ) -> ObjectVersion:
        """Makes the bytes of a version the current content of a key, without copying them.

        Raises:
            OssError: ``NoSuchKey`` if the source is gone by now; ``FileAlreadyExists``.
        """
        with self._transaction() as change:
            now = self.find(source.bucket, source.key, source.version_id)
            if now is None or now.sequence != source.sequence or now.blob is None:
                raise errors.no_such_key(source.key)
            blob = Blob(now.blob, now.size, now.etag, int(now.crc64))
            return self._put(bucket, key, blob, properties, now.etag, now.multipart, forbid_overwrite, change)

    def check_absent(self, bucket: str, key: str) -> None:
        """Raises ``FileAlreadyExists`` if a key exists and overwriting it can be forbidden (no versioning)."""
        if not self.bucket(bucket).versioning and self.find(bucket, key) is not None:
            message = "The object you specified already exists and can not be overwritten."
            raise errors.OssError(409, "FileAlreadyExists", message, Key=key)

    def _make_room(self, bucket: str, key: str, versioning: str, change: _Transaction) -> str:
        """Prepares a key for a new latest version and returns the id that one gets."""
        change.touched[bucket, key] = None
        raw = key.encode()
        version_id = NULL_VERSION
        if versioning == "Enabled":
            version_id = "CAEQ" + secrets.token_hex(28)
        else:
            old = self._db.execute(
                "SELECT seq, blob FROM versions WHERE bucket = ? AND key = ? AND version_id = ?",
                (bucket, raw, NULL_VERSION),
            ).fetchone()
            if old is not None:
                self._db.execute("DELETE FROM versions WHERE seq = ?", (old[0],))
                if old[1] is not None:
                    change.released.add(old[1])
        self._db.execute(
            "UPDATE versions SET is_latest = 0 WHERE bucket = ? AND key = ? AND is_latest = 1", (bucket, raw)
        )
        return version_id

    def _insert(self, row: tuple[object, ...]) -> ObjectVersion:
        columns = _VERSION_COLUMNS.removeprefix("seq, ")
        cursor = self._db.execute(f"INSERT INTO versions ({columns}) VALUES ({', '.join('?' * len(row))})", row)  # noqa: S608
        return _version((cursor.lastrowid, *row))

    def find(self, bucket: str, key: str, version_id: str = "") -> ObjectVersion | None:
        """A version, by default the latest one, None if there is none or the latest one is a delete marker."""
        with self._lock:
            self.bucket(bucket)
            condition, value = ("version_id = ?", version_id) if version_id else ("is_latest = ?", 1)
            row = self._db.execute(
                f"SELECT {_VERSION_COLUMNS} FROM versions WHERE bucket = ? AND key = ? AND {condition}",  # noqa: S608
                (bucket, key.encode(), value),
            ).fetchone()
        version = None if row is None else _version(row)
        return None if version is not None and version.is_delete_marker and not version_id else version

    def find_any(self, bucket: str, key: str) -> ObjectVersion | None:
        """Like :meth:`find`, but a bucket that does not exist holds nothing."""
        return None if self._find_bucket(bucket) is None else self.find(bucket, key)

    def set_properties(self, version: ObjectVersion, properties: ObjectProperties) -> None:
        """Changes what a version carries beside its bytes."""
        with self._transaction():
            self._db.execute(
                "UPDATE versions SET properties = ? WHERE seq = ?", (_properties_json(properties), version.sequence)
            )

    def delete_objects(self, bucket: str, keys: Iterable[tuple[str, str]]) -> list[Deletion]:
        """Deletes ``(key, version id or "")`` pairs in one step. What does not exist is no error, as in OSS."""
        with self._transaction() as change:
            versioning = self.bucket(bucket).versioning
            return [self._delete(bucket, key, version_id, versioning, change) for key, version_id in keys]

    def _delete(self, bucket: str, key: str, version_id: str, versioning: str, change: _Transaction) -> Deletion:
        if version_id or not versioning:
            version = self.find(bucket, key, version_id or NULL_VERSION)
            if version is not None:
                self._remove_version(version, change)
            return Deletion(version_id, version is not None and version.is_delete_marker)
        marker_id = self._make_room(bucket, key, versioning, change)
        row = (bucket, key.encode(), marker_id, 1, None, 0, "", "", time.time(), 0, "{}")
        return Deletion(self._insert(row).version_id, True)

    def _remove_version(self, version: ObjectVersion, change: _Transaction) -> None:
        change.touched[version.bucket, version.key] = None
        self._db.execute("DELETE FROM versions WHERE seq = ?", (version.sequence,))
        if version.blob is not None:
            change.released.add(version.blob)
        if version.is_latest:
            self._db.execute(
                "UPDATE versions SET is_latest = 1 WHERE seq ="
                " (SELECT MAX(seq) FROM versions WHERE bucket = ? AND key = ?)",
                (version.bucket, version.key.encode()),
            )

    # ------------------------------------------------------------- listings

    def current(self, bucket: str, prefix: str = "") -> list[ObjectVersion]:
        """Every object under a prefix, in key order. Empty where the bucket does not exist."""
        with self._lock:
            return list(self._versions(bucket, prefix.encode(), True, prefix.encode(), "is_latest AND blob NOT NULL"))

    def list_objects(self, bucket: str, prefix: str, delimiter: str, after: str, limit: int) -> Listing[ObjectVersion]:
        """One page of the current objects.

        Args:
            after: only what sorts behind this key; a common prefix stands for everything rolled up in it.
            limit: objects and common prefixes together, at least 1.
        """
        with self._lock:
            self.bucket(bucket)

            def seek(lower: bytes, inclusive: bool) -> Iterator[ObjectVersion]:
                return self._versions(bucket, lower, inclusive, prefix.encode(), "is_latest AND blob NOT NULL")

            return _page(seek(*_start(prefix, delimiter, after)), seek, prefix, delimiter, limit)

    def list_versions(
        self, bucket: str, prefix: str, delimiter: str, after: str, after_id: str, limit: int
    ) -> Listing[ObjectVersion]:
        """One page of all versions and delete markers: keys in order, the newest version of a key first."""
        with self._lock:
            self.bucket(bucket)

            def seek(lower: bytes, inclusive: bool) -> Iterator[ObjectVersion]:
                return self._versions(bucket, lower, inclusive, prefix.encode(), "1")

            first = seek(*_start(prefix, delimiter, after))
            if after and after_id:
                marker = self.find(bucket, after, after_id)
                # A marker that was deleted between two pages: better the rest of that key again than not at all.
                bound = marker.sequence if marker is not None else (1 << 62)
                rest = self._db.execute(
                    f"SELECT {_VERSION_COLUMNS} FROM versions WHERE bucket = ? AND key = ? AND seq < ?"  # noqa: S608
                    " ORDER BY seq DESC",
                    (bucket, after.encode(), bound),
                ).fetchall()
                first = itertools.chain(map(_version, rest), first)
            page = _page(first, seek, prefix, delimiter, limit)
            last_id = page.items[-1].version_id if page.items and page.items[-1].key == page.next else ""
            return replace(page, next_id=last_id)

    def _versions(
        self, bucket: str, lower: bytes, inclusive: bool, prefix: bytes, condition: str
    ) -> Iterator[ObjectVersion]:
        upper = _successor(prefix)
        query = (
            f"SELECT {_VERSION_COLUMNS} FROM versions WHERE bucket = ? AND key {'>=' if inclusive else '>'} ?"  # noqa: S608
            f" {'AND key < ?' if upper else ''} AND {condition} ORDER BY key, seq DESC"
        )
        return map(_version, self._db.execute(query, (bucket, lower, upper) if upper else (bucket, lower)))

    # ------------------------------------------------------------ multipart

    def create_upload(self, bucket: str, key: str, properties: ObjectProperties) -> Upload:
        """Begins a multipart upload."""
        with self._transaction():
            self.bucket(bucket)
            upload = Upload(secrets.token_hex(16).upper(), bucket, key, time.time(), properties)
            self._db.execute(
                "INSERT INTO uploads VALUES (?, ?, ?, ?, ?)",
                (upload.upload_id, bucket, key.encode(), upload.initiated, _properties_json(properties)),
            )
            return upload

    def upload(self, bucket: str, key: str, upload_id: str) -> Upload:
        """A multipart upload that is under way.

        Raises:
            OssError: ``NoSuchUpload``.
        """
        with self._lock:
            self.bucket(bucket)
            row = self._db.execute(
                "SELECT id, bucket, key, initiated, properties FROM uploads WHERE id = ? AND bucket = ? AND key = ?",
                (upload_id, bucket, key.encode()),
            ).fetchone()
        if row is None:
            raise errors.no_such_upload(upload_id)
        return _upload(row)

    def put_part(self, upload: Upload, number: int, blob: Blob) -> Part:
        """Adds or replaces a part."""
        with self._transaction() as change:
            self.upload(upload.bucket, upload.key, upload.upload_id)
            old = self._db.execute(
                "SELECT blob FROM parts WHERE upload = ? AND number = ?", (upload.upload_id, number)
            ).fetchone()
            part = Part(number, blob.identifier, blob.size, blob.md5, str(blob.crc64), time.time())
            self._db.execute(
                "INSERT OR REPLACE INTO parts VALUES (?, ?, ?, ?, ?, ?, ?)",
                (upload.upload_id, part.number, part.blob, part.size, part.etag, part.crc64, part.modified),
            )
            if old is not None:
                change.released.add(old[0])
            return part

    def parts(self, upload: Upload) -> list[Part]:
        """The parts so far, by number."""
        with self._lock:
            rows = self._db.execute(
                "SELECT number, blob, size, etag, crc64, modified FROM parts WHERE upload = ? ORDER BY number",
                (upload.upload_id,),
            ).fetchall()
        return [Part(*row) for row in rows]

    def complete_upload(
        self, upload: Upload, parts: list[Part], properties: ObjectProperties, *, forbid_overwrite: bool = False
    ) -> ObjectVersion:
        """Joins parts into an object and ends the upload. Until it returns, the upload is as it was.

        Raises:
            OssError: ``FileAlreadyExists``; ``NoSuchUpload`` or ``InvalidPart`` if it changed meanwhile.
        """
        etag = hashlib.md5(b"".join(bytes.fromhex(part.etag) for part in parts), usedforsecurity=False)
        with self.receive() as writer:
            for part in parts:
                try:
                    writer.append_blob(part)
                except FileNotFoundError:  # aborted, completed or replaced by another request
                    self.upload(upload.bucket, upload.key, upload.upload_id)
                    raise _invalid_part(part) from None
            blob = writer.finish()
            with self._transaction() as change:
                self.upload(upload.bucket, upload.key, upload.upload_id)
                stored = self.parts(upload)
                for part in parts:
                    if part not in stored:
                        raise _invalid_part(part)
                tag = f"{etag.hexdigest().upper()}-{len(parts)}"
                version = self._put(upload.bucket, upload.key, blob, properties, tag, True, forbid_overwrite, change)
                self._end_upload(upload, stored, change)
                return version

    def abort_upload(self, upload: Upload) -> None:
        """Ends an upload and removes its parts."""
        with self._transaction() as change:
            self.upload(upload.bucket, upload.key, upload.upload_id)
            self._end_upload(upload, self.parts(upload), change)

    def _end_upload(self, upload: Upload, parts: list[Part], change: _Transaction) -> None:
        self._db.execute("DELETE FROM uploads WHERE id = ?", (upload.upload_id,))
        change.released.update(part.blob for part in parts)

    def list_uploads(
        self, bucket: str, prefix: str, delimiter: str, after: str, after_id: str, limit: int
    ) -> Listing[Upload]:
        """One page of the uploads under way, by key and then by upload id."""
        with self._lock:
            self.bucket(bucket)

            def query(condition: str, *values: object) -> Iterator[Upload]:
                upper = _successor(prefix.encode())
                bound = " AND key < ?" if upper else ""
                sql = f"SELECT id, bucket, key, initiated, properties FROM uploads WHERE bucket = ?{bound}"  # noqa: S608
                parameters = (bucket, upper, *values) if upper else (bucket, *values)
                return map(_upload, self._db.execute(f"{sql} AND {condition} ORDER BY key, id", parameters))

            def seek(lower: bytes, inclusive: bool) -> Iterator[Upload]:
                return query("key >= ?" if inclusive else "key > ?", lower)

            first = seek(*_start(prefix, delimiter, after))
            if after and after_id:
                first = itertools.chain(query("key = ? AND id > ?", after.encode(), after_id), first)
            page = _page(first, seek, prefix, delimiter, limit)
            last_id = page.items[-1].upload_id if page.items and page.items[-1].key == page.next else ""
            return replace(page, next_id=last_id)


def _successor(prefix: bytes) -> bytes | None:
    """The smallest byte string behind everything that starts with a prefix. UTF-8 has no byte 255 to carry over."""
    return prefix[:-1] + bytes([prefix[-1] + 1]) if prefix else None


def _start(prefix: str, delimiter: str, after: str) -> tuple[bytes, bool]:
    """Where a listing begins: ``(lower bound, whether inclusive)``."""
    if after < prefix or not after:
        return prefix.encode(), True
    if delimiter and after.startswith(prefix):
        cut = after.find(delimiter, len(prefix))
        if cut >= 0 and cut + len(delimiter) == len(after):
            end = _successor(after.encode())
            if end is not None:
                return end, True
    return after.encode(), False


def _page(
    first: Iterator[Keyed],
    seek: Callable[[bytes, bool], Iterator[Keyed]],
    prefix: str,
    delimiter: str,
    limit: int,
) -> Listing[Keyed]:
    """Rolls keys up at the delimiter, skipping over everything that has been rolled up."""
    items: list[Keyed] = []
    prefixes: list[str] = []
    last = ""
    rows = first
    while (item := next(rows, None)) is not None:
        if len(items) + len(prefixes) == limit:
            return Listing(tuple(items), tuple(prefixes), last)
        cut = item.key.find(delimiter, len(prefix)) if delimiter else -1
        if cut < 0:
            items.append(item)
            last = item.key
            continue
        last = item.key[: cut + len(delimiter)]
        prefixes.append(last)
        rows = seek(_successor(last.encode()) or b"", True)
    return Listing(tuple(items), tuple(prefixes))


def _invalid_part(part: Part) -> errors.OssError:
    message = "One or more of the specified parts could not be found or the specified entity tag did not match."
    return errors.OssError(400, "InvalidPart", message, PartNumber=str(part.number), ETag=part.etag)


def _bucket_properties(bucket: Bucket) -> str:
    fields = asdict(bucket)
    del fields["name"], fields["created"]
    return json.dumps(fields)


def _properties_json(properties: ObjectProperties) -> str:
    return json.dumps(asdict(properties))


def _version(row: tuple[Any, ...]) -> ObjectVersion:
    sequence, bucket, key, version_id, is_latest, blob, size, etag, crc64, modified, multipart, properties = row
    return ObjectVersion(
        sequence,
        bucket,
        key.decode(),
        version_id,
        bool(is_latest),
        blob,
        size,
        etag,
        crc64,
        modified,
        bool(multipart),
        ObjectProperties(**json.loads(properties)),
    )


def _upload(row: tuple[Any, ...]) -> Upload:
    identifier, bucket, key, initiated, properties = row
    return Upload(identifier, bucket, key.decode(), initiated, ObjectProperties(**json.loads(properties)))
