"""What there is to do for the versions of a model, found by looking only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from provider.oss import (
    ObjectInfo,
    ObjectName,
)
from tfserving.contract.storage import VersionFiles
from tfserving.errors import OwnershipError, SavedModelError, TFServingError
from tfserving.manifest import FileEntry, Manifest


def size_of(manifest: Manifest) -> VersionFiles:
    """The files of a version that is not in place yet."""
    return VersionFiles(files=len(manifest.files), bytes=manifest.size, fingerprint="")


@dataclass(frozen=True)
class There:
    """A version that is in place already.

    Attributes:
        number: the version.
        digest: what it is.
        summary: its number of files, bytes and fingerprint.
    """

    number: int
    digest: str
    summary: VersionFiles


@dataclass(frozen=True)
class Looked:
    """What there is to do for versions that are to be published.

    Attributes:
        jobs: versions to bring into place.
        there: versions that are in place already.
        problems: why others cannot be published, in the order of their numbers.
        known: number of files and bytes by version, where nothing else is known.
    """

    jobs: list[Job] = field(default_factory=list)
    there: list[There] = field(default_factory=list)
    problems: list[TFServingError] = field(default_factory=list)
    known: dict[str, VersionFiles] = field(default_factory=dict)

    def size(self, number: str) -> VersionFiles | None:
        """Number of files and bytes of a version, as far as they are known."""
        found = {str(job.number): size_of(job.manifest) for job in self.jobs}
        found |= {str(each.number): each.summary for each in self.there}
        return (self.known | found).get(number)

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
class Job:
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
