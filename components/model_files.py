"""What the models hold: digests to publish, and signatures. Each local file is read once and remembered."""

from __future__ import annotations

from collections.abc import Mapping

from components.model_repository import ModelSource
from config.stack import NAMESPACE, ModelSettings, Settings
from tfserving import manifest, saved_model
from tfserving.errors import ConfigError, Problem, SavedModelError
from tfserving.manifest import HashCache, list_files
from tfserving.property_path import join_path
from tfserving.saved_model import Signature, VersionDir
from tfserving.wording import some_of

ANY = "any"
"""In a digest's place: whatever the source holds when it is published, or what is in the bucket already."""

_LINES_SHOWN = 5

ModelSignatures = Mapping[int, Mapping[str, Signature]]
"""Signatures of a model by version, and there by name."""


def sources(settings: Settings, cache: HashCache) -> tuple[ModelSource, ...]:
    """The models with a digest of each version: of its committed manifest, else of the files on this machine.

    Raises:
        ConfigError: files that cannot be read or published, or are not what their committed manifest says; all of them.
    """
    problems: list[Problem] = []
    found: list[ModelSource] = []
    for model in settings.models:
        digests = {
            str(number): model.manifests[number].digest if number in model.manifests else ANY
            for number in model.versions
        }
        for version in _versions(model):
            try:
                built = manifest.build(version.path, cache)
            except SavedModelError as error:
                problems.append(_problem(model, error))
                continue
            committed = model.manifests.get(version.number)
            if committed is not None and (differing := manifest.changes(committed, built)):
                problems.append(_differs(model, version, differing))
            digests[str(version.number)] = built.digest
        found.append(ModelSource(name=model.name, source=model.source, versions=digests, manifests=model.manifest_dir))
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
                    by_version[version.number] = saved_model.signatures(version.path, cache, model.tags)
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
        found = saved_model.versions(model.directory)
    except SavedModelError as error:
        raise ConfigError([_problem(model, error)]) from None
    return tuple(version for version in found if version.number in model.versions)


def _differs(model: ModelSettings, version: VersionDir, differing: list[str]) -> Problem:
    return Problem(
        join_path(f"{NAMESPACE}:models", model.name),
        f"the files in {version.path} are not those of the manifest in {model.manifest_dir} "
        f"({some_of(differing, _LINES_SHOWN)}), and a published version never changes",
        fix="export under a new number, or restore the files",
    )


def _problem(model: ModelSettings, error: SavedModelError) -> Problem:
    return Problem(join_path(f"{NAMESPACE}:models", model.name), str(error))
