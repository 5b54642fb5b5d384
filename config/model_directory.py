"""A model directory on this machine: which of its versions are published, and what is wrong or left out."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from tfserving import content, saved_model
from tfserving.errors import Problem, SavedModelError
from tfserving.manifest import JUNK_DIRS, HashCache
from tfserving.model_config import VersionPolicy


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What the stack config asks of a model directory.

    Attributes:
        policy: which versions are to be served.
        labels: versions that labels name.
        versions: the only versions that are published, from ``versions`` or committed manifests; None: all there are.
    """

    policy: VersionPolicy
    labels: Collection[int] = ()
    versions: Collection[int] | None = None

    def among(self, present: Collection[int]) -> set[int]:
        """The versions that somebody asks for, of those that are there."""
        if self.versions is not None:
            return set(self.versions) & set(present)
        return set(self.policy.select(present)) | (set(self.labels) & set(present))


@dataclass(frozen=True, kw_only=True)
class ModelDirectory:
    """What a model directory gives.

    Attributes:
        versions: versions that can be published, ascending.
        others: versions that could be published as well, and are not among those wanted.
        problems: what is wrong; then nothing can be published.
        warnings: what is left out or worth saying.
    """

    versions: tuple[int, ...] = ()
    others: tuple[int, ...] = ()
    problems: tuple[Problem, ...] = ()
    warnings: tuple[str, ...] = ()


def read(name: str, directory: Path, path: str, wanted: Wanted, cache: HashCache) -> ModelDirectory:
    """Look at a model directory.

    What TensorFlow Serving passes over is passed over, with a warning. A version that cannot be served is a problem if
    somebody asks for it, or if it is all there is; else it is left out with a warning, because nothing but an export
    that goes on beside may be the reason.

    Args:
        name: the model.
        directory: its directory.
        path: where it is named in the stack config.
        wanted: what is asked for.
        cache: spares reading files that were read before and have not changed.
    """
    try:
        found = content.examine(directory, path, cache, wanted.versions)
        present = {version.number: version.path for version in saved_model.versions(directory)}
    except (SavedModelError, OSError, ValueError) as error:
        return ModelDirectory(problems=(Problem(path, str(error)),))
    general = tuple(problem for number, problem in found if number is None)
    general += tuple(_misnamed(directory, path, present))
    if general:
        return ModelDirectory(problems=general)
    broken = {number for number, _ in found if number is not None}
    whole = tuple(number for number in sorted(present) if number not in broken)
    asked = wanted.among({*present, *broken})
    if not whole and wanted.versions is None:
        asked |= broken
    problems = tuple(problem for number, problem in found if number in asked)
    if problems:
        return ModelDirectory(problems=problems)
    warnings = [
        f"model {name}: {problem.message}; nothing asks for this version, and it is left out (no version "
        "of this number is published, and one that was is removed)"
        for number, problem in found
        if wanted.versions is None
    ]
    junk = [child for child in sorted(JUNK_DIRS) if (directory / child).is_dir()]
    if junk:
        warnings.append(f"model {name}: {', '.join(junk)} in {directory.name} is ignored")
    chosen = whole if wanted.versions is None else tuple(number for number in whole if number in wanted.versions)
    warnings += [f"model {name}: {text}" for text in saved_model.warnings(directory, cache, chosen)]
    others = tuple(number for number in whole if number not in chosen)
    return ModelDirectory(versions=chosen, others=others, warnings=tuple(warnings))


def _misnamed(directory: Path, path: str, present: Collection[int]) -> Iterator[Problem]:
    """Whole versions under a name that only people read as a number: ignored, they would be missed."""
    for child in sorted(directory.iterdir()):
        number = saved_model.misnamed(child.name)
        if number is None or saved_model.graph_in(child) is None:
            continue
        if number not in present:
            message = (
                f"directory {child.name} in {directory.name} is no version: TensorFlow Serving reads plain numbers"
            )
            yield Problem(path, message, "directories named by a number", f"rename it to {number}")
        else:
            message = f"directory {child.name} in {directory.name} is no version, and there is {number} beside it"
            yield Problem(path, message, "directories named by a number", "remove or move one of them")
