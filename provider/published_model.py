"""The versions of one model in OSS: uploaded aside, copied into place on the server, complete or not there at all.

TensorFlow Serving tries a numeric directory the moment it appears, and one without ``variables/`` it even loads and
then fails every request. So the files of a version go to ``<prefix>.staging-<n>/``, which the server ignores, and are
copied from there, ``saved_model.pb`` last. The manifest, ``<prefix><n>.manifest.json``, is written when everything is
in place: a version with a manifest is complete and never changes.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, ClassVar

from provider.oss import Bucket, ObjectInfo, cache_dir
from provider.resource import Context, Diff, Failure, Found, Property, Resource, table, text
from provider.values import UNKNOWN, Properties, has_unknown
from tfserving import manifest as manifests
from tfserving import saved_model
from tfserving.errors import CloudError, OwnershipError, SavedModelError
from tfserving.manifest import FileEntry, HashCache, Manifest

CHANGED = "changed: "
"""Stands before the name of a file, in a digest's place, for a published version that is no longer what it was."""

SAVED_MODEL = "saved_model.pb"

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
        "source": Property("string", "local model directory, relative to the project", required=True, compared=False),
        "versions": Property("object", "digest of each version by its number", required=True),
    }
    outputs: ClassVar[Mapping[str, Property]] = {
        "files": Property(
            "object", "by version: number of files, bytes, and a fingerprint of the objects", required=True
        )
    }

    # ---- without the cloud -----------------------------------------------------------------------------------------

    def validate(self, inputs: Properties) -> Iterable[Failure]:
        prefix = inputs["prefix"]
        if prefix is not UNKNOWN and (not text(inputs, "prefix").endswith("/") or text(inputs, "prefix")[:1] == "/"):
            yield Failure("prefix", f"{prefix!r} must end in a slash and not begin with one")
        if has_unknown(inputs["versions"]):
            return
        for number, digest in table(inputs, "versions").items():
            if not number.isdecimal() or str(int(number)) != number:
                yield Failure(f'versions["{number}"]', f"{number!r} is not a version number")
            elif not isinstance(digest, str) or not digest.startswith("sha256:"):
                yield Failure(f'versions["{number}"]', f"{digest!r} is not a digest, sha256:...")

    def diff(self, old_inputs: Properties, old_outputs: Properties, news: Properties) -> Diff:
        # What is published counts, not what was declared: an upload that failed halfway is still to be done.
        diff = super().diff({**old_inputs, "versions": old_outputs.get("versions")}, old_outputs, news)
        if diff.replaces or has_unknown(news.get("versions")):
            return diff
        published, wanted = table(old_outputs, "versions"), table(news, "versions")
        for number in sorted(published.keys() & wanted.keys(), key=int):
            if published[number] != wanted[number] and not published[number].startswith(CHANGED):
                raise SavedModelError(
                    f"version {number} of {text(news, 'name')} is published already and its files in "
                    f"{text(news, 'source')} are no longer the same. A published version never changes: a server tells "
                    "versions apart by their number alone. Fix: export under a new number, or restore the files"
                )
        declared = table(old_inputs, "versions")
        diff.changes = {
            path: (change, path[0] != "versions" or declared.get(str(path[-1])) != wanted.get(str(path[-1])))
            for path, (change, _) in diff.changes.items()
        }
        return diff

    def preview(
        self, ctx: Context, inputs: Properties, old_inputs: Properties | None, old_outputs: Properties | None
    ) -> Properties:
        if has_unknown(inputs["versions"]):
            return inputs | {"files": UNKNOWN}
        published, wanted = table(old_outputs or {}, "versions"), table(inputs, "versions")
        files = table(old_outputs or {}, "files")
        name = text(inputs, "name")
        coming = _sizes(ctx.root / text(inputs, "source"), wanted.keys() - published.keys())
        for sign, numbers in (("+", wanted.keys() - published.keys()), ("-", published.keys() - wanted.keys())):
            if numbers:
                listed = ", ".join(f"{number}{_size_note(coming.get(number))}" for number in sorted(numbers, key=int))
                ctx.info(f"{name}: {sign} version{'s' if len(numbers) > 1 else ''} {listed}")
        kept = {
            number: files[number]
            if published.get(number) == digest and number in files
            else coming[number] | {"fingerprint": UNKNOWN}
            if number in coming
            else UNKNOWN
            for number, digest in wanted.items()
        }
        return inputs | {"files": kept}

    # ---- with the cloud --------------------------------------------------------------------------------------------

    def create(self, ctx: Context, inputs: Properties) -> tuple[str, Properties]:
        id_ = f"oss://{text(inputs, 'bucket')}/{text(inputs, 'prefix')}"
        return id_, self._publish(ctx, id_, inputs, {}, {})

    def update(
        self, ctx: Context, id_: str, old_inputs: Properties, old_outputs: Properties, news: Properties
    ) -> Properties:
        return self._publish(ctx, id_, news, table(old_outputs, "versions"), table(old_outputs, "files"))

    def _publish(
        self, ctx: Context, id_: str, inputs: Properties, published: Mapping[str, Any], files: Mapping[str, Any]
    ) -> Properties:
        wanted = table(inputs, "versions")
        done = {number: digest for number, digest in wanted.items() if published.get(number) == digest}
        summary = {number: files[number] for number in done if number in files}
        outputs = inputs | {"versions": done, "files": summary}
        source = _Source(ctx.root / text(inputs, "source"))
        for number in sorted(wanted.keys() - done.keys(), key=int):
            ctx.record(id_, outputs)
            version = _Version(ctx, inputs, int(number), wanted[number])
            repair = str(published.get(number, "")).startswith(CHANGED)
            summary[number] = version.publish(source, repair=repair)
            done[number] = wanted[number]
        return outputs

    def read(self, ctx: Context, id_: str, inputs: Properties | None, outputs: Properties) -> Found | None:
        if inputs is None:
            bucket_name, _, prefix = id_.removeprefix("oss://").partition("/")
            name = prefix.rstrip("/").rpartition("/")[2]
            inputs = {"name": name, "bucket": bucket_name, "prefix": prefix, "source": "", "versions": {}}
        bucket, prefix = Bucket(ctx.clients.oss, text(inputs, "bucket")), text(inputs, "prefix")
        try:
            found = _by_version(bucket.list(prefix), prefix)
        except CloudError as error:
            if error.code == "NoSuchBucket":
                return None
            raise
        known = table(outputs, "versions") or dict.fromkeys(found, "")
        versions: dict[str, str] = {}
        files: dict[str, Any] = {}
        for number in sorted(known, key=int):
            objects = found.get(number, {})
            if _MANIFEST not in objects:
                continue
            summary = _summary(objects)
            versions[number] = known[number]
            if not known[number] or summary["fingerprint"] != table(outputs, "files").get(number, {}).get(
                "fingerprint"
            ):
                ctx.status(f"looking closer at version {number}")
                versions[number] = _digest_or_change(bucket, prefix, number, objects, known[number])
            files[number] = summary
        if not versions:
            return None
        return Found(inputs | {"versions": versions}, outputs | inputs | {"versions": versions, "files": files})

    def delete(self, ctx: Context, id_: str, inputs: Properties, outputs: Properties) -> None:
        bucket, prefix = Bucket(ctx.clients.oss, text(inputs, "bucket")), text(inputs, "prefix")
        try:
            for number in sorted({*table(inputs, "versions"), *table(outputs, "versions")}, key=int):
                ctx.check()
                ctx.status(f"removing version {number}")
                remove_version(bucket, prefix, int(number))
        except CloudError as error:
            if error.code != "NoSuchBucket":
                raise


def remove_version(bucket: Bucket, prefix: str, number: int) -> int:
    """Remove the files that a version's manifest lists, and what is left of unfinished uploads of it; how many files.

    ``saved_model.pb`` goes first, so that no server loads a version whose variables are gone, and the manifest last, so
    that an interrupted removal can be repeated. A version without a manifest was not published by this project and
    stays as it is.
    """
    removed = 0
    for where in (_manifest_key(prefix, number), _staged_manifest_key(prefix, number)):
        stored = bucket.get_text(where)
        if stored is None:
            continue
        try:
            listed = Manifest.from_json(stored).files
        except SavedModelError as error:
            raise SavedModelError(f"oss://{bucket.name}/{where}: {error}. Fix: remove the version by hand") from None
        bucket.delete([f"{prefix}{number}/{SAVED_MODEL}"])
        bucket.delete(f"{prefix}{number}/{entry.path}" for entry in listed if entry.path != SAVED_MODEL)
        removed = max(removed, len(listed))
    staged = [item.key for item in bucket.list(_staging(prefix, number))]
    bucket.delete([*staged, _manifest_key(prefix, number)] if removed else staged)
    return removed


def _sizes(directory: Path, numbers: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Files and bytes of local versions, for a preview; nothing of those that are not there or cannot be read."""
    source, found = _Source(directory), dict[str, dict[str, Any]]()
    for number in numbers:
        with contextlib.suppress(OSError, SavedModelError):
            if (path := source.find(int(number))) is not None:
                files = [path / name for name in manifests.list_files(path)]
                found[number] = {"files": len(files), "bytes": sum(file.stat().st_size for file in files)}
    return found


def _size_note(size: Mapping[str, Any] | None) -> str:
    if size is None:
        return ""
    return f" ({size['files']} file{'s' if size['files'] != 1 else ''}, {_amount(size['bytes'])})"


# ---- one version ---------------------------------------------------------------------------------------------------

_MANIFEST = "/manifest"


def _manifest_key(prefix: str, number: int) -> str:
    return f"{prefix}{number}.manifest.json"


def _staging(prefix: str, number: int) -> str:
    return f"{prefix}.staging-{number}/"


def _staged_manifest_key(prefix: str, number: int) -> str:
    """Says what an unfinished upload is going to be; not a file of the version, since those are below ``files/``."""
    return f"{_staging(prefix, number)}manifest.json"


class _Source:
    """The local directory of a model; it need not be there for versions that are published already."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._versions: dict[int, Path] | None = None

    def find(self, number: int) -> Path | None:
        """The directory of a version."""
        if self._versions is None:
            found = saved_model.versions(self.directory) if self.directory.is_dir() else ()
            self._versions = {version.number: version.path for version in found}
        return self._versions.get(number)


class _Version:
    """The publication of one version."""

    def __init__(self, ctx: Context, inputs: Properties, number: int, digest: str) -> None:
        self._ctx = ctx
        self._bucket = Bucket(ctx.clients.oss, text(inputs, "bucket"))
        self._prefix = text(inputs, "prefix")
        self._number = number
        self._digest = digest
        self._title = f"version {number} of {text(inputs, 'name')}"
        self._at = f"oss://{self._bucket.name}/{self._prefix}{number}/"

    def publish(self, source: _Source, *, repair: bool) -> dict[str, Any]:
        """Bring the version into place; what is known of its objects then.

        Args:
            source: where the files are.
            repair: the version is published but was changed by somebody: files that differ are put back.

        Raises:
            SavedModelError: other content is published under that number, or the files are not what was previewed.
            OwnershipError: somebody else's files are in the way.
            CloudError: OSS refused.
        """
        published = self._manifest(_manifest_key(self._prefix, self._number))
        if published is not None and published.digest != self._digest:
            raise SavedModelError(
                f"{self._title} is published in {self._at} already, with other content. A published version never "
                "changes. Fix: export under a new number"
            )
        present = self._present()
        if published is not None and not self._wrong(published, present, closely=repair):
            return self._result()
        directory, manifest = self._local(source)
        started = self._manifest(_staged_manifest_key(self._prefix, self._number))
        wrong = self._wrong(manifest, present, closely=True)
        ours = {entry.path for entry in started.files} if started else set()
        self._refuse_strangers(manifest, wrong, present, None if published else ours)
        self._bucket.put_text(_staged_manifest_key(self._prefix, self._number), manifest.to_json())
        self._stage(wrong, directory)
        leftover = ours - {entry.path for entry in manifest.files}
        self._bucket.delete(f"{self._prefix}{self._number}/{path}" for path in sorted(leftover & present.keys()))
        self._copy(wrong)
        self._bucket.put_text(_manifest_key(self._prefix, self._number), manifest.to_json())
        self._bucket.delete([item.key for item in self._bucket.list(_staging(self._prefix, self._number))])
        self._ctx.info(f"{self._title}: {len(manifest.files)} files, {_amount(manifest.size)} in {self._at}")
        return self._result()

    def _manifest(self, key: str) -> Manifest | None:
        stored = self._bucket.get_text(key)
        if stored is None:
            return None
        try:
            return Manifest.from_json(stored)
        except SavedModelError as error:
            raise SavedModelError(f"oss://{self._bucket.name}/{key}: {error}. Fix: remove that object") from None

    def _present(self) -> dict[str, ObjectInfo]:
        folder = f"{self._prefix}{self._number}/"
        return {item.key.removeprefix(folder): item for item in self._bucket.list(folder) if item.key != folder}

    def _wrong(self, manifest: Manifest, present: Mapping[str, ObjectInfo], *, closely: bool) -> list[FileEntry]:
        """Files that are missing or not as the manifest says; checksums are only compared when looking closely."""
        found = []
        for entry in manifest.files:
            info = present.get(entry.path)
            if info is None or info.size != entry.size:
                found.append(entry)
            elif closely:
                self._ctx.check()
                stored = self._bucket.head(info.key)
                if stored is None or stored.crc64 != entry.crc64:
                    found.append(entry)
        return found

    def _local(self, source: _Source) -> tuple[Path, Manifest]:
        directory = source.find(self._number)
        if directory is None:
            raise SavedModelError(
                f"{self._title} is not published yet, and {source.directory} has no directory {self._number}"
            )
        self._ctx.status(f"hashing {self._title}")
        # The file the preview's digests are kept in too, so that unchanged files are read once more only to be sent.
        with HashCache(cache_dir() / "hashes.json") as cache:
            manifest = manifests.build(directory, cache)
        if manifest.digest != self._digest:
            raise SavedModelError(
                f"{directory} has changed since the preview (now {manifest.digest}, then {self._digest}). "
                "Fix: wait until the export is complete, then run the update again"
            )
        return directory, manifest

    def _refuse_strangers(
        self,
        manifest: Manifest,
        wrong: Iterable[FileEntry],
        present: Mapping[str, ObjectInfo],
        ours: set[str] | None,
    ) -> None:
        """Refuse files in the way that no earlier attempt of ours can have put there; ``ours`` None: all are."""
        if ours is None:
            return
        known = {entry.path for entry in manifest.files}
        strange = {entry.path for entry in wrong} & present.keys() | (present.keys() - known)
        if strange - ours:
            raise OwnershipError(
                f"{self._at} holds {sorted(strange - ours)[0]}, which is not from this project. "
                "Fix: export under a new number, or remove that directory"
            )

    def _stage(self, entries: Iterable[FileEntry], directory: Path) -> None:
        """Upload files to the staging prefix, leaving out those an interrupted run has uploaded already."""
        folder = f"{_staging(self._prefix, self._number)}files/"
        staged = {item.key: item.size for item in self._bucket.list(folder)}
        pending = list(entries)
        progress = _Progress(self._ctx, self._title, len(pending), sum(entry.size for entry in pending))

        def upload(entry: FileEntry) -> None:
            self._ctx.check()
            key = f"{folder}{entry.path}"
            if staged.get(key) == entry.size:
                stored = self._bucket.head(key)
                if stored is not None and stored.crc64 == entry.crc64:
                    progress.file_done(entry.size)
                    return
            try:
                crc64 = self._bucket.upload(key, directory / entry.path, progress.sent)
            except CloudError:
                self._ctx.check()  # a cancelled upload ends in an error of the SDK
                raise
            if crc64 and crc64 != entry.crc64:
                raise SavedModelError(f"{directory / entry.path} changed while it was uploaded; run the update again")
            progress.file_done(0)

        _all(upload, pending)

    def _copy(self, entries: Iterable[FileEntry]) -> None:
        """Copy files from staging into place on the server, ``saved_model.pb`` after all others."""
        self._ctx.status(f"{self._title}: putting files in place")
        folder = f"{_staging(self._prefix, self._number)}files/"

        def copy(entry: FileEntry) -> None:
            self._ctx.check()
            key = f"{self._prefix}{self._number}/{entry.path}"
            self._bucket.copy(f"{folder}{entry.path}", key)
            stored = self._bucket.head(key)
            if stored is None or stored.size != entry.size or (stored.crc64 and stored.crc64 != entry.crc64):
                raise CloudError(f"oss://{self._bucket.name}/{key} is not what was copied there; run the update again")

        ordered = list(entries)
        _all(copy, [entry for entry in ordered if entry.path != SAVED_MODEL])
        _all(copy, [entry for entry in ordered if entry.path == SAVED_MODEL])

    def _result(self) -> dict[str, Any]:
        listed = self._bucket.list(f"{self._prefix}{self._number}")  # the directory and the manifest beside it
        return _summary(_by_version(listed, self._prefix)[str(self._number)])


class _Progress:
    """What has been uploaded of one version, as a status message."""

    def __init__(self, ctx: Context, title: str, files: int, size: int) -> None:
        self._ctx = ctx
        self._title = title
        self._files = files
        self._size = size
        self._done = 0
        self._sent = 0
        self._started = time.monotonic()
        self._lock = threading.Lock()

    def sent(self, count: int) -> None:
        """More bytes are on the way. Raises where the operation is cancelled or out of time."""
        self._ctx.check()
        with self._lock:
            self._sent += count
        self._show()

    def file_done(self, count: int) -> None:
        """A file is there; ``count`` are its bytes if they have not been reported as sent."""
        with self._lock:
            self._done += 1
            self._sent += count
        self._show()

    def _show(self) -> None:
        seconds = max(time.monotonic() - self._started, 0.001)
        rate = self._sent / seconds
        left = (self._size - self._sent) / rate if rate > 0 else 0.0
        self._ctx.status(
            f"{self._title}: {self._done} of {self._files} files, {_amount(self._sent)} of {_amount(self._size)}, "
            f"{_amount(rate)}/s, {max(left, 0):.0f} s left"
        )


def _all(work: Callable[[FileEntry], None], entries: Iterable[FileEntry]) -> None:
    """Run ``work`` for every file, several at once; the first error ends it."""
    futures = [_TRANSFERS.submit(work, entry) for entry in entries]
    _, left = wait(futures, return_when=FIRST_EXCEPTION)
    for future in left:
        future.cancel()
    wait(futures)
    failed = [error for future in futures if not future.cancelled() and (error := future.exception()) is not None]
    if failed:
        raise failed[0]


def _by_version(objects: Iterable[ObjectInfo], prefix: str) -> dict[str, dict[str, ObjectInfo]]:
    """Objects below a model's prefix by version: by path below the version directory, the manifest as ``_MANIFEST``."""
    found: dict[str, dict[str, ObjectInfo]] = {}
    for item in objects:
        head, slash, rest = item.key.removeprefix(prefix).partition("/")
        if slash and head.isdecimal() and rest:
            found.setdefault(head, {})[rest] = item
        elif not slash and head.endswith(".manifest.json") and head.removesuffix(".manifest.json").isdecimal():
            found.setdefault(head.removesuffix(".manifest.json"), {})[_MANIFEST] = item
    return found


def _summary(objects: Mapping[str, ObjectInfo]) -> dict[str, Any]:
    """Number of files, bytes, and a fingerprint that changes when any object of the version does."""
    files = {path: item for path, item in objects.items() if path != _MANIFEST}
    lines = "\n".join(f"{path}\t{item.size}\t{item.etag}" for path, item in sorted(objects.items()))
    return {
        "files": len(files),
        "bytes": sum(item.size for item in files.values()),
        "fingerprint": hashlib.sha256(lines.encode()).hexdigest()[:32],
    }


def _digest_or_change(bucket: Bucket, prefix: str, number: str, objects: Mapping[str, ObjectInfo], known: str) -> str:
    """The digest of a version whose objects are not those seen last, or :data:`CHANGED` and a file that differs."""
    stored = bucket.get_text(_manifest_key(prefix, int(number)))
    try:
        manifest = Manifest.from_json(stored or "")
    except SavedModelError:
        return f"{CHANGED}{number}.manifest.json"
    if known and not known.startswith(CHANGED) and manifest.digest != known:
        return f"{CHANGED}{number}.manifest.json"
    for entry in manifest.files:
        info = objects.get(entry.path)
        if info is None or info.size != entry.size:
            return f"{CHANGED}{entry.path}"
        found = bucket.head(info.key)
        if found is None or (found.crc64 and found.crc64 != entry.crc64):
            return f"{CHANGED}{entry.path}"
    added = objects.keys() - {entry.path for entry in manifest.files} - {_MANIFEST}
    return f"{CHANGED}{min(added)} was added" if added else manifest.digest


def _amount(count: float) -> str:
    for unit in ("B", "KB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
