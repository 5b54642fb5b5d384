"""Which versions of a model are complete in a bucket, and what else is there: what a stack goes by that names none.

Only reads. What is read of a version beside the listing is remembered as long as none of its objects changes, so that
the next preview lists and no more.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from provider.oss import Bucket, ObjectInfo
from provider.publication.graphs import GRAPH_BYTES, faults_of_graph
from provider.publication.layout import (
    GRAPHS,
    MANIFEST,
    MARKER,
    NO_BUCKET,
    Listing,
    ascending,
    differing,
    links,
    load_manifest,
    manifest_key,
    staged_manifest_key,
    summary_of,
)
from provider.publication.parallel import bound, run_all
from tfserving import content, manifest, saved_model
from tfserving.contract import VERSION
from tfserving.contract.found import FindVersionsArgs, FindVersionsResult, FoundDirectory, LeftOut, WantedDirectory
from tfserving.errors import CloudError, SavedModelError

_REMEMBERED = 20_000
_AT_ONCE = 8


@dataclass(frozen=True)
class Verdict:
    """What is known of a version whose objects are all there is to know.

    Attributes:
        why: why it is left out, as the rest of a sentence that begins with its number; empty: it is complete.
        owner: who published it, by its manifest; empty: nobody says so.
    """

    why: str
    owner: str


class Verdicts:
    """What earlier runs found out, by fingerprint of a version's objects; nothing where there is no such file."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._known = self._read()
        self._new: dict[str, Verdict] = {}

    def get(self, key: str) -> Verdict | None:
        """What is known."""
        with self._lock:
            return self._new.get(key) or self._known.get(key)

    def add(self, key: str, verdict: Verdict) -> None:
        """Remember something."""
        with self._lock:
            self._new[key] = verdict

    def save(self) -> None:
        """Write what is new, beside what another run wrote meanwhile. What cannot be written only costs time."""
        with self._lock:
            if self._path is None or not self._new:
                return
            known = {**self._read(), **self._new}
            kept = dict(list(known.items())[-_REMEMBERED:])
            text = json.dumps({key: [each.why, each.owner] for key, each in kept.items()}, separators=(",", ":"))
            write_whole(self._path, text)
            self._new.clear()

    def _read(self) -> dict[str, Verdict]:
        if self._path is None:
            return {}
        try:
            found = json.loads(self._path.read_bytes())
            return {str(key): Verdict(str(why), str(owner)) for key, (why, owner) in found.items()}
        except (OSError, ValueError, TypeError, AttributeError, RecursionError):
            return {}


def write_whole(path: Path, text: str) -> None:
    """Write a file of a cache in one step; nothing where that is not possible."""
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f"{path.name}.", delete=False) as file:
            temporary = file.name
            file.write(text)
        os.replace(temporary, path)
    except OSError:
        if temporary:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


def find(client: Any, args: FindVersionsArgs) -> FindVersionsResult:
    """What is in the directories that are asked for.

    Args:
        client: the OSS client.
        args: what is asked.

    Raises:
        CloudError: OSS does not say.
    """
    directory = manifest.cache_directory()
    verdicts = Verdicts(directory / "versions.json" if directory else None)

    def look(wanted: WantedDirectory, versions: ThreadPoolExecutor) -> FoundDirectory:
        bucket = Bucket(client, wanted.bucket)
        try:
            return _Directory(bucket, wanted, args.owner, verdicts).found(versions)
        except CloudError as error:
            if error.code != NO_BUCKET:
                raise
            return FoundDirectory(exists=False)

    with (
        ThreadPoolExecutor(_AT_ONCE, "version") as versions,
        ThreadPoolExecutor(_AT_ONCE, "directory") as directories,
    ):
        found = run_all([bound(look, each, versions) for each in args.directories.values()], directories)
    verdicts.save()
    return FindVersionsResult(directories=dict(zip(args.directories, found, strict=True)))


class _Directory:
    """The directory of one model."""

    def __init__(self, bucket: Bucket, wanted: WantedDirectory, owner: str, verdicts: Verdicts) -> None:
        self._tflite, self._tags = wanted.tflite, wanted.tags
        self._bucket, self._prefix, self._owner, self._verdicts = bucket, wanted.prefix, owner, verdicts
        self._listing = Listing.of(bucket, wanted.prefix)

    def found(self, pool: ThreadPoolExecutor) -> FoundDirectory:
        """What is in it; several versions are looked at at once."""
        numbers = ascending(self._listing.versions.keys() | self._listing.staged.keys())
        verdicts = dict(zip(numbers, run_all([bound(self._verdict, each) for each in numbers], pool), strict=True))
        complete = [number for number, verdict in verdicts.items() if not verdict.why]
        left_out = [LeftOut(name=number, why=verdict.why) for number, verdict in verdicts.items() if verdict.why]
        return FoundDirectory(
            versions=tuple(complete),
            own=tuple(number for number in complete if verdicts[number].owner == self._owner),
            left_out=(*left_out, *self._no_versions()),
        )

    def _no_versions(self) -> Iterator[LeftOut]:
        for name in self._listing.files:
            number = saved_model.parse_number(name)
            why = f"is a file, and TensorFlow Serving would try to load it as version {number}: move it elsewhere"
            yield LeftOut(name=name, why=why)
        for name, objects in sorted(self._listing.others.items()):
            why = saved_model.why_no_version(name)
            if not why and GRAPHS & objects.keys():
                why = "holds a SavedModel and is no number, so that TensorFlow Serving passes over it"
            if why:
                yield LeftOut(name=name, why=why)

    def _verdict(self, number: str) -> Verdict:
        objects = self._listing.versions.get(number, {})
        if MARKER in self._listing.staged.get(number, {}) and MANIFEST not in objects:
            started = load_manifest(self._bucket, staged_manifest_key(self._prefix, int(number)))
            if started is not None:
                whose = "this stack, in a run that has not ended" if started.owner == self._owner else started.owner
                return Verdict(f"is being published by {whose}", started.owner)
        if objects.keys() <= {MANIFEST}:
            return Verdict("holds no file of a version", "")
        if why := links(objects):
            return Verdict(f"{why}: put the files themselves there", "")
        # Another release may judge otherwise.
        key = f"{VERSION} {self._bucket.name}/{self._prefix}{number} {summary_of(objects).fingerprint}"
        key += f" {' '.join(self._tags)}{' tflite' * self._tflite}"
        known = self._verdicts.get(key)
        if known is None:
            known = self._looked_at(int(number), objects)
            self._verdicts.add(key, known)
        return known

    def _looked_at(self, number: int, objects: Mapping[str, ObjectInfo]) -> Verdict:
        if MANIFEST in objects:
            try:
                stored = load_manifest(self._bucket, manifest_key(self._prefix, number))
            except SavedModelError as error:
                return Verdict(f"has a manifest that says nothing: {error}", "")
            if stored is not None:
                wrong = differing(self._bucket, stored, objects, closely=False)
                missing = [line for line in wrong if not line.startswith("added ")]
                missing = missing or saved_model.incomplete(objects, tflite=self._tflite)
                why = f"is not what its manifest says: {'; '.join(missing)}" if missing else ""
                return Verdict(why, stored.owner)
        return Verdict(next(self._faults(number, objects), ""), "")

    def _faults(self, number: int, objects: Mapping[str, ObjectInfo]) -> Iterator[str]:
        """What is wrong with a version that nobody has left a manifest of."""
        sizes = {path: item.size for path, item in objects.items() if path != MANIFEST and not path.endswith("/")}
        yield from saved_model.incomplete(sizes, tflite=self._tflite)

        def read(path: str, size: int) -> bytes:
            return self._bucket.start(f"{self._prefix}{number}/{path}", size)

        yield from (fault.message for fault in content.faults_of_objects(sizes, read))
        lite = saved_model.TFLITE_FILE
        if self._tflite and 0 < sizes.get(lite, 0) <= GRAPH_BYTES:
            fault = saved_model.tflite_fault(read(lite, sizes[lite]))
            yield from [f"has a {lite} that {fault}"] if fault else []
        yield from faults_of_graph(sizes, read, tflite=self._tflite, tags=self._tags)
