"""Names of a model's versions in a bucket, what one listing of them tells, and how a version is removed."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from provider.oss import (
    Bucket,
    NotTextError,
    ObjectInfo,
)
from provider.publication.parallel import bound, run_all
from tfserving import manifest as manifests
from tfserving import published, saved_model, wire
from tfserving.contract.storage import VersionChanges, VersionFiles
from tfserving.errors import SavedModelError
from tfserving.manifest import FileEntry, Manifest
from tfserving.wording import some_of

GRAPHS = frozenset(saved_model.MODEL_FILES)

OSS = "oss://"

NO_BUCKET = "NoSuchBucket"

MANIFEST = "/manifest"

STAGING = ".staging-"

MARKER = "manifest.json"

_LINKS_SHOWN = 3


def manifest_key(prefix: str, number: int) -> str:
    return f"{prefix}{number}{manifests.SUFFIX}"


def staging_prefix(prefix: str, number: int) -> str:
    return f"{prefix}{STAGING}{number}/"


def staged_manifest_key(prefix: str, number: int) -> str:
    """Says what an unfinished upload is going to be; not a file of the version, since those are below ``files/``."""
    return f"{staging_prefix(prefix, number)}{MARKER}"


def staged_key(prefix: str, number: int, path: str) -> str:
    return f"{staging_prefix(prefix, number)}files/{path}"


@dataclass(frozen=True)
class Listing:
    """What one listing of a model's prefix tells.

    Attributes:
        versions: by version, its objects by path below the version directory; the manifest as ``MANIFEST``.
        staged: by version, objects of an upload that has not ended, by path below its staging prefix.
        spelt: versions in directories such as ``007``: no stack publishes them, TensorFlow Serving serves them.
        others: directories of other names, each with its objects by path below it.
        files: objects beside the version directories with names that TensorFlow Serving reads as versions.
        bucket_is_there: False where the bucket is yet to be made.
    """

    versions: dict[str, dict[str, ObjectInfo]] = field(default_factory=dict)
    staged: dict[str, dict[str, ObjectInfo]] = field(default_factory=dict)
    spelt: set[int] = field(default_factory=set)
    others: dict[str, dict[str, ObjectInfo]] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    bucket_is_there: bool = True

    @classmethod
    def of(cls, bucket: Bucket, prefix: str) -> Listing:
        found = cls()
        for item in bucket.list(prefix):
            head, slash, rest = item.key.removeprefix(prefix).partition("/")
            if not slash and saved_model.parse_number(head) is not None:
                found.files.append(head)
                continue
            number = head.removeprefix(STAGING) if slash else head.removesuffix(manifests.SUFFIX)
            if not wire.is_version(wire.decode_integer(number)):
                if slash and re.fullmatch(r"0[0-9]{1,18}", head):
                    found.spelt.add(int(head))
                if slash and rest:
                    found.others.setdefault(head, {})[rest] = item
                continue
            if slash and head != number:
                found.staged.setdefault(number, {})[rest] = item
            elif slash and rest:
                found.versions.setdefault(number, {})[rest] = item
            elif not slash and head != number:
                found.versions.setdefault(number, {})[MANIFEST] = item
        return found


def links(objects: Mapping[str, ObjectInfo]) -> str:
    """Why a version with symbolic links of OSS is none, as the rest of a sentence; empty where it has none.

    The API follows them; whether a mount does is not documented, and a copy of one leads nowhere in another bucket.
    """
    found = sorted(path for path, item in objects.items() if item.link)
    if not found:
        return ""
    return (
        f"holds symbolic links of OSS ({some_of(found, _LINKS_SHOWN)}), and nobody knows what a server sees of them "
        "through a mount"
    )


def load_manifest(bucket: Bucket, key: str) -> Manifest | None:
    """A manifest in a bucket; None where there is none.

    Raises:
        SavedModelError: the object is not a manifest.
    """
    try:
        stored = bucket.get_text(key)
        return Manifest.from_json(stored) if stored is not None else None
    except SavedModelError as error:
        raise SavedModelError(f"oss://{bucket.name}/{key}: {error}. Fix: remove that object") from None
    except NotTextError as error:
        raise SavedModelError(f"{error}, and should be a manifest. Fix: remove that object") from None


def clear_staging(bucket: Bucket, prefix: str, number: int) -> None:
    """Remove what an upload left; its manifest last, since that is what says whose it is."""
    marker = staged_manifest_key(prefix, number)
    bucket.abort_uploads(staging_prefix(prefix, number))
    keys = [item.key for item in bucket.list(staging_prefix(prefix, number))]
    bucket.delete([*(key for key in keys if key != marker), marker])


def remove_version(bucket: Bucket, prefix: str, number: int, owner: str) -> int:
    """Remove the files that a version's manifest lists, and what is left of unfinished uploads of it; how many files.

    The graph goes first, so that no server loads a version whose variables are gone, and the manifest last, so
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
    return remove_files(bucket, prefix, number, owner, load_manifest(bucket, manifest_key(prefix, number)))


def remove_files(bucket: Bucket, prefix: str, number: int, owner: str, published: Manifest | None) -> int:
    """:func:`remove_version` of one whose manifest in the bucket is known; None where it has none."""
    staged = load_manifest(bucket, staged_manifest_key(prefix, number))
    ours = published or staged
    removed = 0
    if ours is not None and ours.owner == owner:
        bucket.delete(f"{prefix}{number}/{entry.path}" for entry in ours.files if entry.path in GRAPHS)
        bucket.delete(f"{prefix}{number}/{entry.path}" for entry in ours.files if entry.path not in GRAPHS)
        removed = len(ours.files)
    if staged is not None and staged.owner == owner:
        bucket.abort_uploads(f"{prefix}{number}/")
        clear_staging(bucket, prefix, number)
    if removed:
        bucket.delete([manifest_key(prefix, number)])
    return removed


def ascending(numbers: Iterable[str]) -> list[str]:
    return sorted(numbers, key=int)


def summary_of(objects: Mapping[str, ObjectInfo]) -> VersionFiles:
    """Number of files, bytes, and a fingerprint that changes when any object of the version does."""
    files = {path: item for path, item in objects.items() if path != MANIFEST}
    lines = "\n".join(f"{path}\t{item.size}\t{item.etag}" for path, item in sorted(objects.items()))
    return VersionFiles(
        files=len(files),
        bytes=sum(item.size for item in files.values()),
        fingerprint=hashlib.sha256(lines.encode()).hexdigest()[:32],
    )


def digest_or_changes(
    bucket: Bucket,
    prefix: str,
    number: str,
    objects: Mapping[str, ObjectInfo],
    known: str,
    committed: Manifest | None,
) -> str | VersionChanges:
    """The digest of a version whose objects are not those seen last, or what was changed."""
    name = f"{number}{manifests.SUFFIX}"
    missing: list[str] = []
    changed: list[str] = []
    manifest = committed
    if MANIFEST in objects:
        try:
            manifest = Manifest.from_json(bucket.get_text(manifest_key(prefix, int(number))) or "")
        except SavedModelError:
            changed = [name]
        else:
            changed = [name] if known.startswith("sha256:") and manifest.digest != known else []
    elif known.startswith("sha256:") and committed is None:
        missing = [name]
    if manifest is None:
        return published.changes(missing, changed, [])
    found = _differing(bucket, manifest, objects, closely=True)
    changes = published.changes(missing + found[0], changed + found[1], found[2])
    return changes if published.lines(changes) else manifest.digest


def differing(bucket: Bucket, manifest: Manifest, objects: Mapping[str, ObjectInfo], *, closely: bool) -> list[str]:
    """What is not as the manifest says, in words; checksums are only compared when looking closely."""
    return published.lines(published.changes(*_differing(bucket, manifest, objects, closely=closely)))


def _differing(
    bucket: Bucket, manifest: Manifest, objects: Mapping[str, ObjectInfo], *, closely: bool
) -> tuple[list[str], list[str], list[str]]:
    """Files that are missing, changed and added."""
    expected = {entry.path: entry for entry in manifest.files}
    there = objects.keys() - {MANIFEST}

    def differs(entry: FileEntry) -> bool:
        return objects[entry.path].size != entry.size or (closely and not bucket.holds(objects[entry.path].key, entry))

    both = [expected[path] for path in sorted(expected.keys() & there)]
    changed = [entry.path for entry, bad in zip(both, run_all([bound(differs, e) for e in both]), strict=True) if bad]
    return sorted(expected.keys() - there), changed, sorted(there - expected.keys())
