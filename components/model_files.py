"""What the local model directories hold: digests to publish, and signatures. Each file is read once and remembered."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from components.model_repository import ModelSource
from components.settings import NAMESPACE, ModelSettings, Settings
from tfserving import manifest, saved_model
from tfserving.errors import ConfigError, Problem, SavedModelError
from tfserving.manifest import HashCache, list_files
from tfserving.model_config import join_path
from tfserving.saved_model import Signature, VersionDir

ModelSignatures = Mapping[int, Mapping[str, Signature]]
"""Signatures of a model by version, and there by name."""


def hash_cache() -> HashCache:
    """What is known of model files from earlier runs, in the person's cache directory. A context manager: it saves."""
    try:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:  # a container's user without a home
        return HashCache()
    return HashCache(base / "tf-serving-stacks" / "hashes.json")


def sources(settings: Settings, cache: HashCache) -> tuple[ModelSource, ...]:
    """The models to publish, with a digest of each version. Models that are in the bucket already are left out.

    Raises:
        ConfigError: files that cannot be read or published, all of them.
    """
    problems: list[Problem] = []
    found: list[ModelSource] = []
    for model in settings.models:
        if model.directory is None:
            continue
        digests: dict[str, str] = {}
        for version in _versions(model):
            try:
                digests[str(version.number)] = manifest.build(version.path, cache).digest
            except SavedModelError as error:
                problems.append(_problem(model, error))
        found.append(ModelSource(name=model.name, directory=model.source, versions=digests))
    if problems:
        raise ConfigError(problems)
    return tuple(found)


def signatures(settings: Settings, cache: HashCache) -> dict[str, ModelSignatures]:
    """Signatures of every served version that is on this machine, read without TensorFlow.

    Raises:
        ConfigError: every ``saved_model.pb`` that cannot be read.
    """
    problems: list[Problem] = []
    found: dict[str, ModelSignatures] = {}
    for model in settings.models:
        served = settings.served_versions(model.name)
        by_version = {}
        for version in _versions(model):
            if version.number in served:
                try:
                    by_version[version.number] = saved_model.signatures(version.path, cache)
                except SavedModelError as error:
                    problems.append(_problem(model, error))
        found[model.name] = by_version
    if problems:
        raise ConfigError(problems)
    return found


def memory_warnings(settings: Settings) -> list[str]:
    """Services whose memory cannot hold the versions they serve, the largest one twice: while a new one takes over.

    Goes by the size of the files, which a loaded version needs at least. Only where the memory is declared and the
    files are on this machine.
    """
    sizes = {
        model.name: {
            version.number: sum((version.path / name).stat().st_size for name in list_files(version.path))
            for version in _versions(model)
        }
        for model in settings.models
    }
    warnings = []
    for service in settings.services:
        spec = service.spec
        if spec.config_file:
            served = [sizes[name].get(number, 0) for name in sizes for number in settings.served_versions(name)]
        else:
            served = [max(sizes.get(spec.model, {}).items(), default=(0, 0))[1]]
        needed = (sum(served) + max(served, default=0)) // 2**20
        if spec.memory is not None and needed > spec.memory:
            warnings.append(
                f"service {service.name}: the versions it serves take {needed} MB, the largest one twice while a new "
                f"one takes over, and each replica has {spec.memory} MB of memory"
            )
    return warnings


def _versions(model: ModelSettings) -> tuple[VersionDir, ...]:
    if model.directory is None:
        return ()
    try:
        return saved_model.versions(model.directory)
    except SavedModelError as error:
        raise ConfigError([_problem(model, error)]) from None


def _problem(model: ModelSettings, error: SavedModelError) -> Problem:
    return Problem(join_path(f"{NAMESPACE}:models", model.name), str(error))
