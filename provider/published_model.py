"""The versions of one model in OSS: uploaded aside, copied into place on the server, complete or not there at all.

TensorFlow Serving tries a numeric directory the moment it appears, and one without ``variables/`` it even loads and
then fails every request. So the files of a version go to ``<prefix>.staging-<n>/``, which the server ignores, and are
copied from there: large ones by parts that stay invisible until all of them are there, then everything but
``saved_model.pb``, and that one last. The manifest, ``<prefix><n>.manifest.json``, is written when everything is in
place: a version with a manifest is complete and never changes. It names the stack that published the version; no other
one removes it.

An interrupted run leaves a staging prefix, and in it a manifest of what was to be published. The next run continues
from what OSS holds, on whichever machine it is, or cleans up if the version is wanted no longer.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from provider import faults
from provider.claims import found_by, is_anothers, stays
from provider.clients import NoCredentialsError
from provider.model_config_file import CONFIG_MAP_INPUTS
from provider.oss import (
    COPY_BYTES,
    MAX_KEY_BYTES,
    MULTIPART_BYTES,
    Bucket,
    NotTextError,
    ObjectInfo,
    ObjectName,
    PartUpload,
)
from provider.pinning import pin
from provider.resource import Context, Diff, Failure, Found, Property, Resource, flag, table, text
from provider.values import UNKNOWN, Change, Properties, has_unknown
from tfserving import content, saved_model, wire
from tfserving import manifest as manifests
from tfserving.errors import CloudError, OwnershipError, SavedModelError, TFServingError
from tfserving.manifest import FileEntry, Manifest, amount, amounts
from tfserving.pinning import Coming

T = TypeVar("T")

ANY = "any"
"""In a digest's place: whatever the source holds when it is published, or whatever is in the bucket already."""

CHANGED = "changed: "
"""Stands before the names of files, in a digest's place, for a published version that is no longer what it was."""

SAVED_MODEL = saved_model.GRAPH_FILE

_OSS = "oss://"
_NO_BUCKET = "NoSuchBucket"
_LINES_SHOWN = 20
_NAMES_SHOWN = 20
_STATUS_SECONDS = 1.0
_RATE_SECONDS = 10.0
_QUIET_SECONDS = 5.0
"""After so long without a byte nobody knows how much time is left."""
_VERSIONS_AT_ONCE = 4

_TRANSFERS = ThreadPoolExecutor(8, "transfer")
"""Uploads and copies of all models together: more at once only compete for the same line."""


class PublishedModel(Resource):
    """The published versions of one model."""

    token = "tfserving:index:PublishedModel"  # noqa: S105 (a type name)
    description = "The versions of one model in OSS, complete and unchangeable once published."
    inputs: ClassVar[Mapping[str, Property]] = {
        "name": Property("string", "model name", required=True, replaces=True),
        "bucket": Property("string", "bucket name", required=True, replaces=True),
        "prefix": Property("string", "key prefix of the model, ending in a slash", required=True, replaces=True),
        "owner": Property("string", "<project>/<stack>: who may remove what is published here", required=True),
        "source": Property(
            "string",
            "local model directory, relative to the project; oss://bucket/path/ in the same region; or empty: the "
            "versions are there already and are only referred to",
            default="",
            compared=False,
        ),
        "manifests": Property(
            "string", "local directory with committed manifests, relative to the project", default="", compared=False
        ),
        "versions": Property("object", "by number: the version's digest, or `any`", required=True),
        "configFile": Property(
            "string", "object key of the model config file that services read; without it, nobody does", compared=False
        ),
        **{name: replace(each, compared=False, replaces=False) for name, each in CONFIG_MAP_INPUTS.items()},
        "readers": Property(
            "object",
            "by name: services that read the config file: pollSeconds, reachable, pods: true on Kubernetes",
            compared=False,
        ),
        "serving": Property("object", "the model as the config file is to list it", compared=False),
        "bucketExists": Property(
            "boolean",
            "the bucket has to be there, because this stack does not make it",
            default=False,
            compared=False,
        ),
        "removeDropped": Property(
            "boolean",
            "remove the files of a version that is published no longer at once, because no rollout does it later",
            default=False,
            compared=False,
        ),
    }
    outputs: ClassVar[Mapping[str, Property]] = {
        "files": Property(
            "object", "by version: number of files, bytes, and a fingerprint of the objects", required=True
        ),
        "unfinished": Property("object", "by version: objects of an interrupted upload", required=True),
    }

    # ---- without the cloud -----------------------------------------------------------------------------------------

    def validate(self, inputs: Properties) -> Iterable[Failure]:
        prefix = inputs["prefix"]
        if prefix is not UNKNOWN and (not text(inputs, "prefix").endswith("/") or text(inputs, "prefix")[:1] == "/"):
            yield Failure("prefix", f"{prefix!r} must end in a slash and not begin with one")
        source = text(inputs, "source")
        if source.startswith(_OSS) and not _object_name(source).bucket:
            yield Failure("source", f"{source!r} is not oss://bucket/path/")
        if has_unknown(inputs["versions"]):
            return
        for number, digest in table(inputs, "versions").items():
            if not wire.is_version(wire.decode_integer(number)):
                yield Failure(f'versions["{number}"]', f"{number!r} is not a version number, 0 to 2^63 - 1")
            elif not isinstance(digest, str) or not (digest.startswith("sha256:") or digest == ANY):
                yield Failure(f'versions["{number}"]', f"{digest!r} is not a digest, sha256:... or {ANY}")

    def diff(self, old_inputs: Properties, old_outputs: Properties, news: Properties) -> Diff:
        # What is published counts, not what was declared: an upload that failed halfway is still to be done.
        published = table(old_outputs, "versions")
        if has_unknown(news.get("versions")):
            return super().diff({**old_inputs, "versions": published}, old_outputs, news)
        wanted = _pinned(table(news, "versions"), published)
        diff = super().diff({**old_inputs, "versions": published}, old_outputs, {**news, "versions": wanted})
        if diff.replaces:
            return diff
        differing = [
            number
            for number in _ascending(published.keys() & wanted.keys())
            if published[number] not in (wanted[number], ANY) and not published[number].startswith(CHANGED)
        ]
        if differing:
            several = len(differing) > 1
            where = text(news, "source") or f"the manifests in {text(news, 'manifests')}"
            raise SavedModelError(
                f"version{'s' * several} {', '.join(differing)} of {text(news, 'name')} {'are' if several else 'is'} "
                f"published already and {'their' if several else 'its'} files in {where} are no longer the same. A "
                "published version never changes: a server tells versions apart by their number alone. Fix: export "
                "under a new number, or restore the files"
            )
        declared = _pinned(table(old_inputs, "versions"), published)
        diff.changes = {
            path: (change, path[0] != "versions" or declared.get(str(path[-1])) != wanted.get(str(path[-1])))
            for path, (change, _) in diff.changes.items()
        }
        for number in _ascending(table(old_outputs, "unfinished")):
            if ("versions", number) not in diff.changes:
                diff.changes["unfinished", number] = (Change.DELETE, False)
        return diff

    def preview(
        self, ctx: Context, inputs: Properties, old_inputs: Properties | None, old_outputs: Properties | None
    ) -> Properties:
        if has_unknown(inputs["versions"]):
            return inputs | {"files": UNKNOWN, "unfinished": {}}
        published = table(old_outputs or {}, "versions")
        wanted = _pinned(table(inputs, "versions"), published)
        files = table(old_outputs or {}, "files")
        # Where files are to lie may be known only during the update.
        known = not has_unknown({name: inputs.get(name) for name in ("bucket", "prefix", "source", "owner")})
        looked = _Publication(ctx, "", inputs, old_inputs or {}, old_outputs or {}).look() if known else _Looked()
        coming = {number: looked.size(number) for number in _ascending(wanted.keys() - published)}
        lines = [f"+ version {number}{_size(size)}" for number, size in coming.items()]
        lines += [
            f"~ version {number} ({published[number].removeprefix(CHANGED)})"
            for number in _ascending(wanted.keys() & published.keys())
            if published[number].startswith(CHANGED)
        ]
        lines += [f"- version {number}{_size(files.get(number))}" for number in _ascending(published.keys() - wanted)]
        for line in lines[:_LINES_SHOWN]:
            ctx.info(f"{text(inputs, 'name')}: {line}")
        if len(lines) > _LINES_SHOWN:
            ctx.info(f"{text(inputs, 'name')}: and {len(lines) - _LINES_SHOWN} more")
        looked.refuse(text(inputs, "name"))
        kept = {
            number: files[number] if published.get(number) == digest and number in files else UNKNOWN
            for number, digest in wanted.items()
        }
        kept |= {number: {**size, "fingerprint": UNKNOWN} for number, size in coming.items() if size}
        return inputs | {"files": kept, "unfinished": {}}

    # ---- with the cloud --------------------------------------------------------------------------------------------

    def create(self, ctx: Context, inputs: Properties) -> tuple[str, Properties]:
        id_ = f"oss://{text(inputs, 'bucket')}/{text(inputs, 'prefix')}"
        return id_, _Publication(ctx, id_, inputs, {}, {}).run()

    def update(
        self, ctx: Context, id_: str, old_inputs: Properties, old_outputs: Properties, news: Properties
    ) -> Properties:
        return _Publication(ctx, id_, news, old_inputs, old_outputs).run()

    def read(self, ctx: Context, id_: str, inputs: Properties | None, outputs: Properties) -> Found | None:
        imported = inputs is None
        if inputs is None:
            bucket_name, _, prefix = id_.removeprefix(_OSS).partition("/")
            name = prefix.rstrip("/").rpartition("/")[2]
            inputs = {"name": name, "bucket": bucket_name, "prefix": prefix, "owner": "", "source": "", "versions": {}}
        bucket, prefix = Bucket(ctx.clients.oss, text(inputs, "bucket")), text(inputs, "prefix")
        try:
            listing = _Listing.of(bucket, prefix)
        except CloudError as error:
            if error.code == _NO_BUCKET:
                return None
            raise
        known = table(outputs, "versions")
        if imported:
            known = {number: "" for number, objects in listing.versions.items() if _MANIFEST in objects}
        versions: dict[str, str] = {}
        files: dict[str, Any] = {}
        for number in _ascending(known):
            objects = listing.versions.get(number)
            if not objects:
                continue
            files[number] = summary = _summary(objects)
            versions[number] = known[number]
            if summary["fingerprint"] != table(outputs, "files").get(number, {}).get("fingerprint"):
                ctx.status(f"looking closer at version {number}")
                committed = _Source.of(ctx, inputs).committed(int(number))
                versions[number] = _digest_or_changes(bucket, prefix, number, objects, known[number], committed)
        unfinished = {
            number: len(objects)
            for number, objects in listing.staged.items()
            if (started := _load(bucket, _staged_manifest_key(prefix, int(number)))) is not None
            and started.owner == text(inputs, "owner")
        }
        if not versions and not unfinished:
            return None
        strange = listing.versions.keys() - versions.keys() - listing.staged.keys()
        if strange and text(inputs, "source"):
            numbers = ", ".join(_ascending(strange))
            ctx.warning(f"{id_} also holds {numbers}, which this stack has not published: a policy may select it")
        declared = table(inputs, "versions")
        as_declared = {
            number: declared.get(number, digest) if digest == known[number] else digest
            for number, digest in versions.items()
        }
        found: Properties = {"versions": versions, "files": files, "unfinished": unfinished}
        if imported and (held := _load(bucket, _manifest_key(prefix, max(map(int, versions), default=0)))) is not None:
            found |= found_by(held.created_by, ctx.stamp, imported=True)
        return Found(inputs | {"versions": as_declared}, outputs | inputs | found)

    def delete(self, ctx: Context, id_: str, inputs: Properties, outputs: Properties) -> None:
        bucket, prefix = Bucket(ctx.clients.oss, text(inputs, "bucket")), text(inputs, "prefix")
        numbers = {*table(inputs, "versions"), *table(outputs, "versions"), *table(outputs, "unfinished")}
        try:
            for number in _ascending(numbers):
                ctx.check()
                ctx.status(f"removing version {number}")
                stored = _load(bucket, _manifest_key(prefix, int(number)))
                if stored is not None and is_anothers(stored.created_by, ctx.stamp):
                    ctx.info(stays(f"oss://{bucket.name}/{prefix}{number}/"))
                else:
                    remove_version(bucket, prefix, int(number), text(inputs, "owner"))
        except CloudError as error:
            if error.code != _NO_BUCKET:
                raise


def remove_version(bucket: Bucket, prefix: str, number: int, owner: str) -> int:
    """Remove the files that a version's manifest lists, and what is left of unfinished uploads of it; how many files.

    ``saved_model.pb`` goes first, so that no server loads a version whose variables are gone, and the manifest last, so
    that an interrupted removal can be repeated. A version that another stack published, or nobody who left a manifest,
    stays as it is.

    Args:
        bucket: where it is.
        prefix: key prefix of the model.
        number: the version.
        owner: ``<project>/<stack>`` that asks.

    Raises:
        SavedModelError: a manifest is damaged, so nothing says what belongs to the version.
    """
    where = _manifest_key(prefix, number)
    published, staged = (_load(bucket, key) for key in (where, _staged_manifest_key(prefix, number)))
    ours = published or staged
    removed = 0
    if ours is not None and ours.owner == owner:
        bucket.delete([f"{prefix}{number}/{SAVED_MODEL}"])
        bucket.delete(f"{prefix}{number}/{entry.path}" for entry in ours.files if entry.path != SAVED_MODEL)
        removed = len(ours.files)
    if staged is not None and staged.owner == owner:
        bucket.abort_uploads(f"{prefix}{number}/")
        _clear_staging(bucket, prefix, number)
    if removed:
        bucket.delete([where])
    return removed


# ---- names in the bucket -------------------------------------------------------------------------------------------

_MANIFEST = "/manifest"
_STAGING = ".staging-"
_MARKER = "manifest.json"


def _manifest_key(prefix: str, number: int) -> str:
    return f"{prefix}{number}{manifests.SUFFIX}"


def _staging(prefix: str, number: int) -> str:
    return f"{prefix}{_STAGING}{number}/"


def _staged_manifest_key(prefix: str, number: int) -> str:
    """Says what an unfinished upload is going to be; not a file of the version, since those are below ``files/``."""
    return f"{_staging(prefix, number)}{_MARKER}"


def _staged_key(prefix: str, number: int, path: str) -> str:
    return f"{_staging(prefix, number)}files/{path}"


def _clear_staging(bucket: Bucket, prefix: str, number: int) -> None:
    """Remove what an upload left; its manifest last, since that is what says whose it is."""
    marker = _staged_manifest_key(prefix, number)
    bucket.abort_uploads(_staging(prefix, number))
    keys = [item.key for item in bucket.list(_staging(prefix, number))]
    bucket.delete([*(key for key in keys if key != marker), marker])


def _load(bucket: Bucket, key: str) -> Manifest | None:
    try:
        stored = bucket.get_text(key)
        return Manifest.from_json(stored) if stored is not None else None
    except SavedModelError as error:
        raise SavedModelError(f"oss://{bucket.name}/{key}: {error}. Fix: remove that object") from None
    except NotTextError as error:
        raise SavedModelError(f"{error}, and should be a manifest. Fix: remove that object") from None


@dataclass(frozen=True)
class _Listing:
    """What one listing of a model's prefix tells.

    Attributes:
        versions: by version, its objects by path below the version directory; the manifest as ``_MANIFEST``.
        staged: by version, objects of an upload that has not ended, by path below its staging prefix.
        spelt: versions in directories such as ``007``: no stack publishes them, TensorFlow Serving serves them.
        bucket_is_there: False where the bucket is yet to be made.
    """

    versions: dict[str, dict[str, ObjectInfo]] = field(default_factory=dict)
    staged: dict[str, dict[str, ObjectInfo]] = field(default_factory=dict)
    spelt: set[int] = field(default_factory=set)
    bucket_is_there: bool = True

    @classmethod
    def of(cls, bucket: Bucket, prefix: str) -> _Listing:
        found = cls()
        for item in bucket.list(prefix):
            head, slash, rest = item.key.removeprefix(prefix).partition("/")
            number = head.removeprefix(_STAGING) if slash else head.removesuffix(manifests.SUFFIX)
            if not wire.is_version(wire.decode_integer(number)):
                if slash and re.fullmatch(r"0[0-9]{1,18}", head):
                    found.spelt.add(int(head))
                continue
            if slash and head != number:
                found.staged.setdefault(number, {})[rest] = item
            elif slash and rest:
                found.versions.setdefault(number, {})[rest] = item
            elif not slash and head != number:
                found.versions.setdefault(number, {})[_MANIFEST] = item
        return found


# ---- where versions come from --------------------------------------------------------------------------------------


class _Source:
    """A source that says nothing itself: the versions are in the bucket already."""

    def __init__(self, ctx: Context, inputs: Properties) -> None:
        self._ctx = ctx
        self._name = text(inputs, "name")
        self._shown = text(inputs, "source")
        self._manifests = ctx.root / text(inputs, "manifests") if text(inputs, "manifests") else None

    @staticmethod
    def of(ctx: Context, inputs: Properties) -> _Source:
        """The source that the inputs name."""
        source = text(inputs, "source")
        kind = _BucketSource if source.startswith(_OSS) else _LocalSource if source else _Source
        return kind(ctx, inputs)

    def committed(self, number: int) -> Manifest | None:
        """The committed manifest of a version."""
        if self._manifests is None:
            return None
        file = self._manifests / f"{number}{manifests.SUFFIX}"
        return manifests.load(file) if file.is_file() else None

    def manifest(self, number: int) -> Manifest | None:
        """What the version is to be: as committed, or as the source has it; None where neither knows."""
        return self.committed(number)

    def open(self, number: int, digest: str) -> tuple[Manifest, Callable[[FileEntry], Path | ObjectName]]:
        """The version's manifest, and where each of its files is.

        Raises:
            SavedModelError: there are no such files, or they are not those of ``digest``.
        """
        raise SavedModelError(f"version {number} of {self._name} is only referred to")


class _LocalSource(_Source):
    """The local directory of a model; it need not be there for versions that are published already."""

    def __init__(self, ctx: Context, inputs: Properties) -> None:
        super().__init__(ctx, inputs)
        self._directory = ctx.root / text(inputs, "source")
        self._versions: dict[int, Path] | None = None
        # The file the program keeps its digests in too, so that unchanged files are read once more only to be sent.
        self._cache = manifests.user_cache()

    def _find(self, number: int) -> Path | None:
        if self._versions is None:
            found = saved_model.versions(self._directory) if self._directory.is_dir() else ()
            self._versions = {version.number: version.path for version in found}
        return self._versions.get(number)

    def _build(self, directory: Path) -> Manifest:
        with self._cache as cache:
            return manifests.build(directory, cache)

    def manifest(self, number: int) -> Manifest | None:
        found = self.committed(number)
        if found is None and (directory := self._find(number)) is not None:
            found = self._build(directory)
        return found

    def open(self, number: int, digest: str) -> tuple[Manifest, Callable[[FileEntry], Path | ObjectName]]:
        directory = self._find(number)
        if directory is None:
            raise SavedModelError(
                f"version {number} of {self._name} is not published yet, and {self._directory} has no directory "
                f"{number}. Fix: publish it once from a machine that has its files"
            )
        self._ctx.status(f"hashing version {number} of {self._name}")
        found = self._build(directory)
        if digest not in (found.digest, ANY):
            raise SavedModelError(
                f"{directory} has changed since this run began (now {found.digest}, then {digest}). "
                "Fix: wait until the export is complete, then run the update again"
            )
        return found, lambda entry: directory / entry.path


class _BucketSource(_Source):
    """A prefix of a bucket in the same region, with version directories below it: nothing passes this machine."""

    def __init__(self, ctx: Context, inputs: Properties) -> None:
        super().__init__(ctx, inputs)
        where = _object_name(self._shown)
        self._bucket = Bucket(ctx.clients.oss, where.bucket)
        self._prefix = f"{where.key.rstrip('/')}/" if where.key.strip("/") else ""

    def _at(self, number: int) -> str:
        return f"oss://{self._bucket.name}/{self._prefix}{number}/"

    def manifest(self, number: int) -> Manifest | None:
        """As committed, else as published at the source, else made from what OSS tells: without SHA-256."""
        found = self.committed(number) or _load(self._bucket, _manifest_key(self._prefix, number))
        if found is not None:
            return replace(found, owner="")
        folder = f"{self._prefix}{number}/"
        listed = [item for item in self._bucket.list(folder) if not item.key.endswith("/")]

        def entry(item: ObjectInfo) -> FileEntry:
            stored = self._bucket.head(item.key)
            if stored is None:
                raise CloudError(f"oss://{self._bucket.name}/{item.key} is gone. Fix: run the same command again")
            if not stored.crc64:
                raise SavedModelError(
                    f"OSS tells no checksum of oss://{self._bucket.name}/{item.key}, so nobody could tell whether it "
                    "changed. Fix: upload it again, or commit the manifest of its version"
                )
            return FileEntry(manifests.checked_path(item.key.removeprefix(folder)), stored.size, stored.crc64, "")

        files = _all([_bind(entry, item) for item in listed])
        return Manifest(tuple(files)) if files else None

    def open(self, number: int, digest: str) -> tuple[Manifest, Callable[[FileEntry], Path | ObjectName]]:
        found = self.manifest(number)
        if found is None:
            raise SavedModelError(
                f"version {number} of {self._name} is not published yet, and {self._at(number)} is empty. Fix: export "
                f"it there, or leave it out of tf-serving:models.{self._name}.versions or the committed manifests"
            )
        if digest not in (found.digest, ANY):
            raise SavedModelError(
                f"{self._at(number)} holds {found.digest}, and {digest} is wanted. "
                "Fix: commit the manifest of what is there, or restore the files"
            )
        problems = saved_model.incomplete([entry.path for entry in found.files])
        if problems:
            raise SavedModelError(f"{self._at(number)} {problems[0]}. Fix: export the model again")

        def differs(entry: FileEntry) -> str:
            key = f"{self._prefix}{number}/{entry.path}"
            return "" if self._bucket.holds(key, entry) else entry.path

        wrong = [path for path in _all([_bind(differs, entry) for entry in found.files]) if path]
        if wrong:
            raise SavedModelError(
                f"{self._at(number)} is not what its manifest says: {_names(wrong)}. Fix: restore the files, or export "
                "under a new number"
            )
        sizes = {entry.path: entry.size for entry in found.files}
        _refuse_other_content(self._bucket, f"{self._prefix}{number}/", sizes)
        return found, lambda entry: ObjectName(self._bucket.name, f"{self._prefix}{number}/{entry.path}")


def _refuse_other_content(bucket: Bucket, folder: str, sizes: Mapping[str, int]) -> None:
    """Refuse a version whose files cannot be what their names say, as far as small reads tell.

    Args:
        bucket: where it is.
        folder: key prefix of the version.
        sizes: bytes by path.

    Raises:
        SavedModelError: a pointer, a page, a shard that is cut off or the like is in it.
    """

    def read(path: str, size: int) -> bytes:
        return bucket.start(f"{folder}{path}", size)

    if faults := content.faults_of_objects(sizes, read):
        told = ". ".join(f"oss://{bucket.name}/{folder} {fault.message}. Fix: {fault.fix}" for fault in faults)
        raise SavedModelError(f"{told}; then copy it there anew")


def _is_certain(error: CloudError) -> bool:
    """Whether a call that a preview makes fails in the update as well, whoever runs it and when."""
    return error.code == _NO_BUCKET or isinstance(error, NoCredentialsError) or faults.is_elsewhere(error)


def _object_name(uri: str) -> ObjectName:
    bucket, _, key = uri.removeprefix(_OSS).partition("/")
    return ObjectName(bucket, key)


# ---- one create or update ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _There:
    """A version that is in place already.

    Attributes:
        number: the version.
        digest: what it is.
        summary: its number of files, bytes and fingerprint.
    """

    number: int
    digest: str
    summary: dict[str, Any]


@dataclass(frozen=True)
class _Looked:
    """What there is to do for versions that are to be published.

    Attributes:
        jobs: versions to bring into place.
        there: versions that are in place already.
        problems: why others cannot be published, in the order of their numbers.
        known: number of files and bytes by version, where nothing else is known.
    """

    jobs: list[_Job] = field(default_factory=list)
    there: list[_There] = field(default_factory=list)
    problems: list[TFServingError] = field(default_factory=list)
    known: dict[str, dict[str, Any]] = field(default_factory=dict)

    def size(self, number: str) -> dict[str, Any]:
        """Number of files and bytes of a version, as far as they are known."""
        for job in self.jobs:
            if str(job.number) == number:
                return {"files": len(job.manifest.files), "bytes": job.manifest.size}
        for each in self.there:
            if str(each.number) == number:
                return {key: each.summary[key] for key in ("files", "bytes")}
        return self.known.get(number, {})

    def refuse(self, name: str) -> None:
        """Raises what is wrong with the versions, all of it: before the first file is sent."""
        if len(self.problems) == 1:
            raise self.problems[0]
        if self.problems:
            kind = (
                OwnershipError if all(isinstance(each, OwnershipError) for each in self.problems) else SavedModelError
            )
            shown = [f"  - {each}" for each in self.problems]
            raise kind("\n".join([f"model {name}: {len(shown)} problems", *shown]))


@dataclass
class _Job:
    """A version that is to be brought into place.

    Attributes:
        number: the version.
        manifest: what it is to be.
        source: where each file is.
        wrong: files that are missing in the bucket, or are not as the manifest says.
        present: objects of the version directory.
        staged: objects an earlier run has uploaded.
        leftover: files that an earlier run of ours put into place and that are not part of the version any more.
        first: whether no manifest is in the bucket yet.
    """

    number: int
    manifest: Manifest
    source: Callable[[FileEntry], Path | ObjectName]
    wrong: list[FileEntry]
    present: Mapping[str, ObjectInfo]
    staged: Mapping[str, ObjectInfo]
    leftover: list[str]
    first: bool

    @property
    def files(self) -> list[tuple[FileEntry, Path]]:
        """The files to upload."""
        found = [(entry, self.source(entry)) for entry in self.wrong]
        return [(entry, path) for entry, path in found if isinstance(path, Path)]


class _Publication:
    """Brings the versions of a model into place, several at once."""

    def __init__(
        self, ctx: Context, id_: str, inputs: Properties, old_inputs: Properties, old_outputs: Properties
    ) -> None:
        self._ctx = ctx
        self._id = id_
        self._inputs = inputs
        self._owner = text(inputs, "owner")
        self._old_owner = text(old_inputs, "owner") or self._owner
        self._name = text(inputs, "name")
        self._bucket = Bucket(ctx.clients.oss, text(inputs, "bucket"))
        self._prefix = text(inputs, "prefix")
        self._source = _Source.of(ctx, inputs)
        self._published = table(old_outputs, "versions")
        self._wanted = _pinned(table(inputs, "versions"), self._published)
        self._done = {
            number: digest for number, digest in self._wanted.items() if self._published.get(number) == digest
        }
        files = table(old_outputs, "files")
        self._files = {number: files[number] for number in self._done if number in files}
        self._lock = threading.Lock()
        self._listing = _Listing()
        self._pin = threading.Lock()
        self._coming: set[int] = set()
        self._taken: set[str] = set()  # versions whose manifests name another create

    def run(self) -> Properties:
        """Publish what is missing, put back what was changed, clean up what is wanted no longer; the outputs."""
        self._ctx.status(f"{self._name}: looking at {self._id}")
        self._listing = _Listing.of(self._bucket, self._prefix)
        if self._todo:
            self._ctx.record(self._id, self._outputs())
            # Not in the pool of the transfers, which they wait for.
            with ThreadPoolExecutor(_VERSIONS_AT_ONCE, "version") as versions:
                looked = self._look_at_all(versions)
                for found in looked.there:
                    self._finish(found.number, found.digest, found.summary)
                looked.refuse(self._name)
                self._publish(looked.jobs, versions)
        self._take_along()
        self._clean_up()
        return self._outputs()

    def look(self) -> _Looked:
        """What :meth:`run` would do, for a preview: only reads.

        Where OSS does not say, so that nobody can know before the update runs, there is a warning.

        Raises:
            CloudError: the bucket is somebody else's and does not exist.
        """
        looked = _Looked()
        if self._todo:
            try:
                self._listing = self._listed()
            except CloudError as error:
                if _is_certain(error):
                    raise
                self._ctx.warning(f"{self._name}: it is not known yet whether its versions can be published: {error}")
                return _Looked(known=self._by_source())
            with ThreadPoolExecutor(_VERSIONS_AT_ONCE, "version") as versions:
                looked = self._look_at_all(versions, patiently=True)
        looked.problems.extend(self._damaged_manifests())
        return looked

    def _listed(self) -> _Listing:
        """What is in the bucket; nothing where the stack is yet to make it."""
        try:
            return _Listing.of(self._bucket, self._prefix)
        except CloudError as error:
            if error.code != _NO_BUCKET:
                raise
        if flag(self._inputs, "bucketExists"):
            raise CloudError(
                f"tf-serving:bucket: bucket {self._bucket.name} does not exist, and the stack says existing: true. "
                "Fix: name a bucket that is there; or remove existing, and the stack makes it",
                _NO_BUCKET,
            )
        return _Listing(bucket_is_there=False)

    def _by_source(self) -> dict[str, dict[str, Any]]:
        """Number of files and bytes by version, as far as this machine knows them."""
        found = {}
        for name in self._todo if not isinstance(self._source, _BucketSource) else ():
            with contextlib.suppress(SavedModelError):
                if manifest := self._source.manifest(int(name)):
                    found[name] = {"files": len(manifest.files), "bytes": manifest.size}
        return found

    def _damaged_manifests(self) -> Iterator[SavedModelError]:
        """Manifests that are to be read when versions are dropped, or taken along by a stack with another name."""
        read = self._published.keys() - self._wanted.keys()
        if self._old_owner != self._owner:
            read |= self._done.keys()
        for name in _ascending(read):
            try:
                _load(self._bucket, _manifest_key(self._prefix, int(name)))
            except SavedModelError as error:
                yield error
            except CloudError as error:
                self._ctx.warning(f"{self._title(int(name))}: its manifest cannot be read: {error}")

    @property
    def _todo(self) -> list[str]:
        """Versions that are not known to be published as they are wanted."""
        return _ascending(self._wanted.keys() - self._done.keys())

    def _look_at_all(self, versions: ThreadPoolExecutor, *, patiently: bool = False) -> _Looked:
        """Look at every version before anything is done, so that all that is wrong is told together.

        Args:
            versions: where it is done.
            patiently: a call that OSS refuses is a warning, and says nothing about the other versions.
        """

        def look(name: str) -> _Job | _There | TFServingError | None:
            try:
                return self._look(name)
            except (SavedModelError, OwnershipError) as error:
                return error
            except CloudError as error:
                if not patiently:
                    raise
                if _is_certain(error):
                    return error
                self._ctx.warning(f"{self._title(int(name))}: it is not known yet whether it can be published: {error}")
                return None

        found = _all([_bind(look, name) for name in self._todo], versions)
        return _Looked(
            jobs=[each for each in found if isinstance(each, _Job)],
            there=[each for each in found if isinstance(each, _There)],
            problems=[each for each in found if isinstance(each, TFServingError)],
        )

    def _outputs(self) -> Properties:
        return self._inputs | {"versions": dict(self._done), "files": dict(self._files), "unfinished": {}}

    def _at(self, number: int) -> str:
        return f"oss://{self._bucket.name}/{self._prefix}{number}/"

    def _title(self, number: int) -> str:
        return f"version {number} of {self._name}"

    def _finish(self, number: int, digest: str, summary: dict[str, Any]) -> None:
        with self._lock:
            self._done[str(number)] = digest
            self._files[str(number)] = summary
            self._ctx.record(self._id, self._outputs())

    # ---- what is to be done ----------------------------------------------------------------------------------------

    def _look(self, name: str) -> _Job | _There:
        """What there is to do for a version, if anything. Only reads.

        Raises:
            SavedModelError: other content is published under that number, or the files are not what was previewed.
            OwnershipError: somebody else's files are in the way.
            CloudError: OSS refused.
        """
        self._ctx.check()
        number, digest = int(name), self._wanted[name]
        objects = self._listing.versions.get(name, {})
        present = {path: item for path, item in objects.items() if path != _MANIFEST}
        stored = _load(self._bucket, _manifest_key(self._prefix, number)) if _MANIFEST in objects else None
        if stored is not None and stored.created_by != self._ctx.stamp:
            self._taken.add(name)
        if stored is not None and digest not in (stored.digest, ANY):
            raise SavedModelError(
                f"{self._title(number)} is published in {self._at(number)} already, with other content. A published "
                "version never changes. Fix: export under a new number"
            )
        if type(self._source) is _Source:
            return self._refer(number, digest, stored, objects)
        changed = self._published.get(name, "").startswith(CHANGED)
        if stored is not None and not self._wrong(stored, present, closely=changed):
            if added := sorted(present.keys() - {entry.path for entry in stored.files}):
                self._ctx.warning(f"{self._at(number)} holds files that do not belong to the version: {_names(added)}")
            return _There(number, stored.digest, _summary(objects))
        manifest, source = self._source.open(number, stored.digest if stored is not None else digest)
        self._refuse_long_keys(number, manifest)
        staged = self._listing.staged.get(name, {})
        started = _load(self._bucket, _staged_manifest_key(self._prefix, number)) if _MARKER in staged else None
        if started is not None and started.owner not in (self._owner, self._old_owner):
            raise OwnershipError(f"{started.owner} is publishing {self._title(number)} to {self._at(number)}, too")
        wrong = self._wrong(manifest, present, closely=True)
        ours = {entry.path for entry in started.files} if started else set()
        if stored is None:
            self._refuse_strangers(number, manifest, wrong, present, ours)
        leftover = sorted((ours - {entry.path for entry in manifest.files}) & present.keys())
        return _Job(number, manifest, source, wrong, present, staged, leftover, first=stored is None)

    def _wrong(self, manifest: Manifest, present: Mapping[str, ObjectInfo], *, closely: bool) -> list[FileEntry]:
        """Files that are missing or not as the manifest says; checksums are only compared when looking closely."""
        found = []
        for entry in manifest.files:
            info = present.get(entry.path)
            if info is None or info.size != entry.size:
                found.append(entry)
            elif closely:
                self._ctx.check()
                if not self._bucket.holds(info.key, entry):
                    found.append(entry)
        return found

    def _refuse_long_keys(self, number: int, manifest: Manifest) -> None:
        """Refuse files whose keys OSS does not take, with all that stands before their names."""
        for entry in manifest.files:
            # What is copied on the server is never staged.
            staged = not isinstance(self._source, _BucketSource)
            key = _staged_key(self._prefix, number, entry.path) if staged else f"{self._prefix}{number}/{entry.path}"
            if (length := len(key.encode())) > MAX_KEY_BYTES:
                raise SavedModelError(
                    f"{self._title(number)}: the key of {entry.path} would have {length} bytes in the bucket, and OSS "
                    f"takes {MAX_KEY_BYTES}. Fix: a shorter tf-serving:modelRoot, or shorter names in the model"
                )

    def _refuse_strangers(
        self,
        number: int,
        manifest: Manifest,
        wrong: Iterable[FileEntry],
        present: Mapping[str, ObjectInfo],
        ours: set[str],
    ) -> None:
        """Refuse files in the way that no earlier attempt of ours can have put there."""
        known = {entry.path for entry in manifest.files}
        strange = {entry.path for entry in wrong} & present.keys() | (present.keys() - known)
        if strange - ours:
            raise OwnershipError(
                f"{self._at(number)} holds {sorted(strange - ours)[0]}, which is not from this project. "
                "Fix: export under a new number, or remove that directory"
            )

    def _refer(self, number: int, digest: str, stored: Manifest | None, objects: Mapping[str, ObjectInfo]) -> _There:
        """See that a version that is only referred to is there, complete, and what its manifest says."""
        if not self._listing.bucket_is_there:
            raise SavedModelError(
                f"{self._title(number)} should be in the bucket already, and bucket {self._bucket.name} is not there "
                "yet: this stack makes it, empty. Fix: give the model a source; or name the bucket that holds the "
                "version in tf-serving:bucket, with existing: true"
            )
        paths = [path for path in objects if path != _MANIFEST]
        problems = saved_model.incomplete(paths) if paths else ["is empty"]
        expected = self._source.committed(number) or stored
        if expected is not None and not problems:
            problems = _changes(self._bucket, expected, objects, closely=stored is None)
        if not problems and expected is None:
            sizes = {path: item.size for path, item in objects.items() if path != _MANIFEST}
            _refuse_other_content(self._bucket, f"{self._prefix}{number}/", sizes)
        if problems:
            there = _ascending(name for name, found in self._listing.versions.items() if SAVED_MODEL in found)
            raise SavedModelError(
                f"{self._title(number)} should be in the bucket already, and {self._at(number)} {problems[0]} "
                f"(complete there: {', '.join(there) or 'none'}). Fix: name versions that are there in "
                f"tf-serving:models.{self._name}.versions, or give the model a source"
            )
        return _There(number, expected.digest if expected is not None else digest, _summary(objects))

    # ---- doing it --------------------------------------------------------------------------------------------------

    def _publish(self, jobs: list[_Job], versions: ThreadPoolExecutor) -> None:
        uploads = [(entry, path) for job in jobs for entry, path in job.files]
        progress = _Progress(self._ctx, self._name, len(uploads), sum(entry.size for entry, _ in uploads))
        unfinished = self._bucket.unfinished(f"{self._prefix}{_STAGING}") if uploads else {}
        # A version that was published before and is put back is served by the policies in force, and stays so.
        self._coming = {job.number for job in jobs if job.first and SAVED_MODEL not in job.present}
        with progress.shown_all_along():
            _all([_bind(self._publish_one, job, progress, unfinished) for job in jobs], versions)

    def _publish_one(self, job: _Job, progress: _Progress, unfinished: Mapping[str, str]) -> None:
        self._ctx.check()
        number, manifest = job.number, replace(job.manifest, owner=self._owner, created_by=self._ctx.stamp)
        self._bucket.put_text(_staged_manifest_key(self._prefix, number), manifest.to_json())
        self._stage(job, progress, unfinished)
        self._bucket.delete(f"{self._prefix}{number}/{path}" for path in job.leftover)
        self._pin_once()
        self._place(job)
        objects = self._objects(number)
        wrong = [e.path for e in manifest.files if e.path not in objects or objects[e.path].size != e.size]
        if wrong:
            raise CloudError(
                f"{self._at(number)} was changed while it was published: {_names(wrong)}; run the update again"
            )
        self._seal(job, manifest)
        objects = self._objects(number)
        _clear_staging(self._bucket, self._prefix, number)
        self._ctx.info(f"{self._title(number)}: {amounts(len(manifest.files), manifest.size)} in {self._at(number)}")
        self._finish(number, manifest.digest, _summary(objects))

    def _pin_once(self) -> None:
        """Before a file appears in a version's directory, what is served now is spelt out in the config file."""
        with self._pin:
            coming, self._coming = self._coming, set()
            visible = {
                int(name)
                for name, objects in self._listing.versions.items()
                if SAVED_MODEL in objects or _MANIFEST in objects
            } | self._listing.spelt
            if coming:
                self._ctx.status(f"{self._name}: waiting until every service keeps what it serves")
                seen = Coming(frozenset(visible), frozenset(coming))
                pin(self._ctx, self._inputs, self._name, seen, self._old_owner)

    def _objects(self, number: int) -> dict[str, ObjectInfo]:
        """The objects of a version as they are now, by path below its directory; the manifest as ``_MANIFEST``."""
        folder, key = f"{self._prefix}{number}/", _manifest_key(self._prefix, number)
        found = {item.key.removeprefix(folder): item for item in self._bucket.list(folder) if item.key != folder}
        manifest = next((item for item in self._bucket.list(key) if item.key == key), None)
        return found | ({_MANIFEST: manifest} if manifest else {})

    def _seal(self, job: _Job, manifest: Manifest) -> None:
        """Write the manifest: from now on the version is published."""
        if not job.first:
            return
        key = _manifest_key(self._prefix, job.number)
        try:
            self._bucket.put_text(key, manifest.to_json(), new_only=True)
        except CloudError as error:
            found = _load(self._bucket, key) if error.code == "FileAlreadyExists" else None
            if found is None or found.digest != manifest.digest:
                raise

    def _stage(self, job: _Job, progress: _Progress, unfinished: Mapping[str, str]) -> None:
        """Upload files to the staging prefix, leaving out what an interrupted run has uploaded already."""

        def begin(entry: FileEntry, path: Path) -> list[Callable[[], None]]:
            self._ctx.check()
            key = _staged_key(self._prefix, job.number, entry.path)
            if f"files/{entry.path}" in job.staged:
                if self._bucket.holds(key, entry):
                    progress.kept(entry.size, done=True)
                    return []
                self._bucket.delete([key])
            if entry.size <= MULTIPART_BYTES:
                return [_bind(put, key, entry, path)]
            upload = self._bucket.begin(key, path, entry, unfinished.get(key))
            return [_bind(send, upload, part) for part in upload.parts]

        def put(key: str, entry: FileEntry, path: Path) -> None:
            self._guarded(lambda: self._bucket.put_file(key, path, entry, progress.sent))
            progress.kept(0, done=True)

        def send(upload: PartUpload, part: int) -> None:
            kept, complete = self._guarded(lambda: upload.send(part, progress.sent))
            progress.kept(kept, done=complete)

        parts = _all([_bind(begin, entry, path) for entry, path in job.files])
        _all([part for found in parts for part in found])

    def _guarded(self, call: Callable[[], T]) -> T:
        self._ctx.check()
        try:
            return call()
        except CloudError:
            self._ctx.check()  # a cancelled upload ends in an error of the SDK
            raise

    def _place(self, job: _Job) -> None:
        """Copy files into place on the server, ``saved_model.pb`` after all others."""
        self._ctx.status(f"{self._title(job.number)}: putting files in place")
        last_steps: dict[str, Callable[[bool], None]] = {}

        def name(entry: FileEntry) -> ObjectName:
            found = job.source(entry)
            if isinstance(found, ObjectName):
                return found
            return ObjectName(self._bucket.name, _staged_key(self._prefix, job.number, entry.path))

        def prepare(entry: FileEntry) -> None:
            self._ctx.check()
            key = f"{self._prefix}{job.number}/{entry.path}"
            last_steps[entry.path] = self._bucket.prepare_copy(name(entry), key, entry)

        def copy(entry: FileEntry) -> None:
            self._ctx.check()
            key = f"{self._prefix}{job.number}/{entry.path}"
            replaces = entry.path in job.present
            if entry.path in last_steps:
                last_steps[entry.path](replaces)
            else:
                self._bucket.copy(name(entry), key, entry, replace=replaces)

        _all([_bind(prepare, entry) for entry in job.wrong if entry.size > COPY_BYTES])
        _all([_bind(copy, entry) for entry in job.wrong if entry.path != SAVED_MODEL])
        _all([_bind(copy, entry) for entry in job.wrong if entry.path == SAVED_MODEL])

    # ---- afterwards ------------------------------------------------------------------------------------------------

    def _take_along(self) -> None:
        """Make this resource's own what the stack published under its former name, and what another create holds."""
        names = self._done if self._old_owner != self._owner else self._done.keys() & self._taken
        for name in _ascending(names):
            number = int(name)
            stored = _load(self._bucket, _manifest_key(self._prefix, number))
            if stored is None or stored.owner not in (self._owner, self._old_owner):
                continue
            ours = replace(stored, owner=self._owner, created_by=self._ctx.stamp)
            self._bucket.put_text(_manifest_key(self._prefix, number), ours.to_json())
            self._finish(number, self._done[name], _summary(self._objects(number)))

    def _clean_up(self) -> None:
        """Remove what is left of uploads nobody wants any more, and dropped versions where no rollout will."""
        for name in self._listing.staged.keys() & self._done.keys():
            key = _staged_manifest_key(self._prefix, int(name))
            started = _load(self._bucket, key)  # gone by now, unless an earlier run ended before it could tidy up
            if started is not None and started.owner == self._owner:
                _clear_staging(self._bucket, self._prefix, int(name))
        dropped = self._listing.staged.keys() - self._wanted.keys()
        if flag(self._inputs, "removeDropped"):
            dropped |= self._published.keys() - self._wanted.keys()
        else:
            dropped -= self._published.keys()
        for name in _ascending(dropped):
            self._ctx.check()
            count = remove_version(self._bucket, self._prefix, int(name), self._owner)
            if count and name in self._published:
                self._ctx.info(f"{self._name}: version {name} removed from the bucket ({count} files)")


class _Progress:
    """What has been uploaded of a model, as a status message: files, bytes, rate, time left."""

    def __init__(self, ctx: Context, name: str, files: int, size: int) -> None:
        self._ctx = ctx
        self._name = name
        self._files = files
        self._size = size
        self._done = 0
        self._there = 0  # bytes that are in OSS, sent by this run or an earlier one
        self._sent: deque[tuple[float, int]] = deque([(time.monotonic(), 0)])
        self._total = 0
        self._shown = 0.0
        self._moved = time.monotonic()
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def shown_all_along(self) -> Iterator[None]:
        """While this lasts, the message is renewed also when nothing goes through."""
        over = threading.Event()

        def renew() -> None:
            while not over.wait(_STATUS_SECONDS):
                if self._done < self._files and time.monotonic() - self._moved > _QUIET_SECONDS:
                    self._show()

        thread = threading.Thread(target=renew, name="progress", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def sent(self, count: int) -> None:
        """More bytes are on the way. Raises where the operation is cancelled or out of time."""
        self._ctx.check()
        with self._lock:
            self._there += count
            self._total += count
            self._moved = time.monotonic()
        self._show()

    def kept(self, count: int, *, done: bool) -> None:
        """``count`` bytes need not be sent; ``done``: one more file is complete."""
        with self._lock:
            self._there += count
            self._done += done
            self._moved = time.monotonic()
        self._show()

    def _show(self) -> None:
        now = time.monotonic()
        with self._lock:
            if now - self._shown < _STATUS_SECONDS and self._done < self._files:
                return
            self._shown = now
            self._sent.append((now, self._total))
            while now - self._sent[0][0] > _RATE_SECONDS and len(self._sent) > 2:
                self._sent.popleft()
            since, before = self._sent[0]
            rate = (self._total - before) / max(now - since, 0.001)
            message = (
                f"{self._name}: {self._done} of {self._files} files, {amount(self._there)} of {amount(self._size)}"
            )
            quiet = now - self._moved
            if quiet > _QUIET_SECONDS and self._done < self._files:
                message += f", nothing went through for {_duration(quiet)}"
            elif rate > 0 and self._there < self._size:
                message += f", {amount(rate)}/s, {_duration((self._size - self._there) / rate)} left"
        self._ctx.status(message)


def _all(work: Iterable[Callable[[], T]], pool: ThreadPoolExecutor | None = None) -> list[T]:
    """Do everything, several at once, and give the results in order; the first error ends it."""
    futures = [(pool or _TRANSFERS).submit(task) for task in work]
    _, left = wait(futures, return_when=FIRST_EXCEPTION)
    for future in left:
        future.cancel()
    wait(futures)
    failed = [error for future in futures if not future.cancelled() and (error := future.exception()) is not None]
    if failed:
        raise failed[0]
    return [future.result() for future in futures]


def _bind(work: Callable[..., T], *arguments: Any) -> Callable[[], T]:
    return lambda: work(*arguments)


def _pinned(wanted: Mapping[str, Any], published: Mapping[str, Any]) -> dict[str, str]:
    """What is wanted, with the digest of what is published where any will do."""
    return {
        number: published[number]
        if digest == ANY and number in published and not published[number].startswith(CHANGED)
        else digest
        for number, digest in wanted.items()
    }


def _ascending(numbers: Iterable[str]) -> list[str]:
    return sorted(numbers, key=int)


def _summary(objects: Mapping[str, ObjectInfo]) -> dict[str, Any]:
    """Number of files, bytes, and a fingerprint that changes when any object of the version does."""
    files = {path: item for path, item in objects.items() if path != _MANIFEST}
    lines = "\n".join(f"{path}\t{item.size}\t{item.etag}" for path, item in sorted(objects.items()))
    return {
        "files": len(files),
        "bytes": sum(item.size for item in files.values()),
        "fingerprint": hashlib.sha256(lines.encode()).hexdigest()[:32],
    }


def _digest_or_changes(
    bucket: Bucket,
    prefix: str,
    number: str,
    objects: Mapping[str, ObjectInfo],
    known: str,
    committed: Manifest | None,
) -> str:
    """The digest of a version whose objects are not those seen last, or :data:`CHANGED` and the files that differ."""
    name = f"{number}{manifests.SUFFIX}"
    problems: list[str] = []
    manifest = committed
    if _MANIFEST in objects:
        try:
            manifest = Manifest.from_json(bucket.get_text(_manifest_key(prefix, int(number))) or "")
        except SavedModelError:
            problems = [f"changed {name}"]
        else:
            if known.startswith("sha256:") and manifest.digest != known:
                problems = [f"changed {name}"]
    elif known.startswith("sha256:") and committed is None:
        problems = [f"missing {name}"]
    elif known == ANY:
        problems = ["the objects are not those seen before, and no manifest says which differ"]
    if manifest is not None:
        problems += _changes(bucket, manifest, objects, closely=True)
    if problems or manifest is None:
        return CHANGED + "; ".join(problems)
    return manifest.digest


def _changes(bucket: Bucket, manifest: Manifest, objects: Mapping[str, ObjectInfo], *, closely: bool) -> list[str]:
    """What is not as the manifest says, by kind and file; checksums are only compared when looking closely."""
    expected = {entry.path: entry for entry in manifest.files}
    there = objects.keys() - {_MANIFEST}

    def differs(entry: FileEntry) -> bool:
        return objects[entry.path].size != entry.size or (closely and not bucket.holds(objects[entry.path].key, entry))

    both = [expected[path] for path in sorted(expected.keys() & there)]
    changed = [entry.path for entry, bad in zip(both, _all([_bind(differs, e) for e in both]), strict=True) if bad]
    found = {
        "missing": sorted(expected.keys() - there),
        "changed": changed,
        "added": sorted(there - expected.keys()),
    }
    return [f"{kind} {_names(paths)}" for kind, paths in found.items() if paths]


def _names(paths: list[str]) -> str:
    more = f" and {len(paths) - _NAMES_SHOWN} more" if len(paths) > _NAMES_SHOWN else ""
    return ", ".join(paths[:_NAMES_SHOWN]) + more


def _size(summary: Mapping[str, Any] | None) -> str:
    if not summary:
        return ""
    return f" ({amounts(summary['files'], summary['bytes'])})"


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
