"""Writes manifests to commit: small text files, with which versions that are published need no copy of the model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tfserving import content, manifest, saved_model
from tfserving.errors import ConfigError, SavedModelError
from tfserving.manifest import SUFFIX, HashCache


@dataclass(frozen=True)
class Written:
    """A manifest of a version.

    Attributes:
        file: where it is.
        files: number of files of the version.
        size: bytes of the version.
        new: whether it was not there before.
    """

    file: Path
    files: int
    size: int
    new: bool


def write(model_dir: Path, target: Path, cache: HashCache) -> list[Written]:
    """Write ``<target>/<version>.manifest.json`` for every version in a model directory that has none yet.

    Args:
        model_dir: the model directory, with one directory per version.
        target: directory of the model's manifests; made if it is not there.
        cache: spares reading files that were read before and have not changed.

    Raises:
        ConfigError: the directory does not hold complete SavedModels whose files hold what their names say.
        SavedModelError: a version is no longer what its manifest says. Nothing has been written then.
    """
    found = content.examine(model_dir, str(model_dir), cache, tags={saved_model.SERVE_TAG})
    if problems := [problem for _, problem in found]:
        raise ConfigError(problems, "model directory")
    committed = manifest.load_all(target)
    built = {version.number: manifest.build(version.path, cache) for version in saved_model.versions(model_dir)}
    for number in sorted(committed.keys() & built.keys()):
        if differing := manifest.changes(committed[number], built[number]):
            raise SavedModelError(
                f"{model_dir}: version {number} is no longer what {target / f'{number}{SUFFIX}'} says "
                f"({', '.join(differing)}). Fix: export under a new number, or restore the files"
            )
    target.mkdir(parents=True, exist_ok=True)
    written = []
    for number, version in built.items():
        file = target / f"{number}{SUFFIX}"
        if number not in committed:
            file.write_text(version.to_json(), encoding="utf-8")
        written.append(Written(file, len(version.files), version.size, number not in committed))
    return written
