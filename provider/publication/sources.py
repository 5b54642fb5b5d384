"""Where the files of a version come from: a local directory, a place in OSS, or the bucket itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from provider import faults
from provider.clients import NoCredentialsError
from provider.oss import (
    Bucket,
    ObjectInfo,
    ObjectName,
)
from provider.publication.graphs import faults_of_graph
from provider.publication.layout import NO_BUCKET, OSS, links, load_manifest, manifest_key
from provider.publication.parallel import bound, run_all
from provider.resource import Context
from tfserving import content, saved_model
from tfserving import manifest as manifests
from tfserving.contract.storage import PublishedModelInputs
from tfserving.errors import CloudError, SavedModelError
from tfserving.manifest import FileEntry, Manifest
from tfserving.published import ANY, NAMES_SHOWN
from tfserving.wording import some_of


class Source:
    """A source that says nothing itself: the versions are in the bucket already."""

    def __init__(self, ctx: Context, inputs: PublishedModelInputs) -> None:
        self._ctx = ctx
        self._name = inputs.name
        self._shown = inputs.source
        self._manifests = ctx.root / inputs.manifests if inputs.manifests else None
        self._tflite = bool(inputs.tflite)
        self._tags = inputs.tags or (saved_model.SERVE_TAG,)

    @staticmethod
    def of(ctx: Context, inputs: PublishedModelInputs) -> Source:
        """The source that the inputs name."""
        kind = BucketSource if inputs.source.startswith(OSS) else LocalSource if inputs.source else Source
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

    def faults_of_graph(self, bucket: Bucket, folder: str, sizes: Mapping[str, int]) -> list[str]:
        """Why what serves the model would not load a version in a bucket: :func:`graphs.faults_of_graph`."""

        def read(path: str, size: int) -> bytes:
            return bucket.start(f"{folder}{path}", size)

        return faults_of_graph(sizes, read, tflite=self._tflite, tags=self._tags)

    def open(self, number: int, digest: str) -> tuple[Manifest, Callable[[FileEntry], Path | ObjectName]]:
        """The version's manifest, and where each of its files is.

        Raises:
            SavedModelError: there are no such files, or they are not those of ``digest``.
        """
        raise SavedModelError(f"version {number} of {self._name} is only referred to")


class LocalSource(Source):
    """The local directory of a model; it need not be there for versions that are published already."""

    def __init__(self, ctx: Context, inputs: PublishedModelInputs) -> None:
        super().__init__(ctx, inputs)
        self._directory = ctx.root / inputs.source
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


class BucketSource(Source):
    """A prefix of a bucket in the same region, with version directories below it: nothing passes this machine."""

    def __init__(self, ctx: Context, inputs: PublishedModelInputs) -> None:
        super().__init__(ctx, inputs)
        where = object_name(self._shown)
        self._bucket = Bucket(ctx.clients.oss, where.bucket)
        self._prefix = f"{where.key.rstrip('/')}/" if where.key.strip("/") else ""

    def _at(self, number: int) -> str:
        return f"oss://{self._bucket.name}/{self._prefix}{number}/"

    def manifest(self, number: int) -> Manifest | None:
        """As committed, else as published at the source, else made from what OSS tells: without SHA-256."""
        found = self.committed(number) or load_manifest(self._bucket, manifest_key(self._prefix, number))
        if found is not None:
            return replace(found, owner="")
        folder = f"{self._prefix}{number}/"
        listed = [item for item in self._bucket.list(folder) if not item.key.endswith("/")]
        if why := links({item.key.removeprefix(folder): item for item in listed}):
            raise SavedModelError(f"{self._at(number)} {why}. Fix: put the files themselves there")

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

        files = run_all([bound(entry, item) for item in listed])
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
        problems = saved_model.incomplete([entry.path for entry in found.files], tflite=self._tflite)
        if problems:
            raise SavedModelError(f"{self._at(number)} {problems[0]}. Fix: export the model again")

        def differs(entry: FileEntry) -> str:
            key = f"{self._prefix}{number}/{entry.path}"
            return "" if self._bucket.holds(key, entry) else entry.path

        wrong = [path for path in run_all([bound(differs, entry) for entry in found.files]) if path]
        if wrong:
            raise SavedModelError(
                f"{self._at(number)} is not what its manifest says: {some_of(wrong, NAMES_SHOWN)}. Fix: restore the "
                "files, or export under a new number"
            )
        sizes = {entry.path: entry.size for entry in found.files}
        folder = f"{self._prefix}{number}/"
        refuse_other_content(self._bucket, folder, sizes)
        if faults := self.faults_of_graph(self._bucket, folder, sizes):
            raise SavedModelError(f"{self._at(number)} {faults[0]}. Fix: export the model again")
        return found, lambda entry: ObjectName(self._bucket.name, f"{self._prefix}{number}/{entry.path}")


def refuse_other_content(bucket: Bucket, folder: str, sizes: Mapping[str, int]) -> None:
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


def is_certain(error: CloudError) -> bool:
    """Whether a call that a preview makes fails in the update as well, whoever runs it and when."""
    return error.code == NO_BUCKET or isinstance(error, NoCredentialsError) or faults.is_elsewhere(error)


def object_name(uri: str) -> ObjectName:
    bucket, _, key = uri.removeprefix(OSS).partition("/")
    return ObjectName(bucket, key)
