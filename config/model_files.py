"""What the models hold: digests to publish, and signatures. Each local file is read once and remembered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from config.models import ModelSettings
from config.stack import Settings
from config.stack_config import NAMESPACE
from tfserving import manifest, saved_model, serving
from tfserving.errors import ConfigError, Problem, SavedModelError
from tfserving.manifest import HashCache, list_files
from tfserving.property_path import join_path
from tfserving.published import ANY
from tfserving.saved_model import Signature, VersionDir
from tfserving.serving import ModelSignatures
from tfserving.wording import some_of

_LINES_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class ModelSource:
    """A model to publish.

    Attributes:
        name: model name.
        path: its directory below the model root.
        source: local directory with its version directories, relative to the project where that is possible;
            ``oss://bucket/path/`` with the same; empty: they are in the bucket already and are only referred to.
        versions: digest of each version by its number; ``any`` where only the source or the bucket knows it.
        manifests: local directory of the committed manifests; empty without any.
        from_bucket: nobody named the versions: they are those that were complete in the bucket.
        tflite: whatever serves it loads ``model.tflite``.
        tags: ``--saved_model_tags`` of whatever serves it.
        bucket: of a model on another mount: the bucket there; else empty.
        prefix: its key prefix there.
    """

    name: str
    path: str
    source: str
    versions: Mapping[str, str]
    manifests: str = ""
    from_bucket: bool = False
    tflite: bool = False
    tags: tuple[str, ...] = (saved_model.SERVE_TAG,)
    bucket: str = ""
    prefix: str = ""


@dataclass(frozen=True, kw_only=True)
class ModelFiles:
    """What the models of a stack hold, as far as that can be seen from this machine.

    Attributes:
        sources: every model, with the digests of its versions.
        signatures: of the served versions that are on this machine, by model.
        warnings: what is worth saying although nothing is wrong.
    """

    sources: tuple[ModelSource, ...]
    signatures: Mapping[str, ModelSignatures]
    warnings: tuple[str, ...] = ()


def read(settings: Settings, cache: HashCache) -> ModelFiles:
    """Reads the models of a stack.

    Raises:
        ConfigError: every file that cannot be published.
    """
    found = sources(settings, cache)
    known = signatures(settings, cache)
    configs = [each.config for each in settings.sets] or [settings.serving]
    signed = (warning for config in configs for warning in serving.signature_warnings(config.models, known))
    warnings = tuple(dict.fromkeys((*memory_warnings(settings), *signed)))
    return ModelFiles(sources=found, signatures=known, warnings=warnings)


def sources(settings: Settings, cache: HashCache) -> tuple[ModelSource, ...]:
    """The models with a digest of each version: of its committed manifest, else of the files on this machine.

    Raises:
        ConfigError: files that cannot be read or published, or are not what their committed manifest says; all of them.
    """
    problems: list[Problem] = []
    found: list[ModelSource] = []
    for model in (each for each in settings.models if not each.same_as):
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
        found.append(
            ModelSource(
                name=model.name,
                path=model.place,
                source=model.source,
                versions=digests,
                manifests=model.manifest_dir,
                from_bucket=model.from_bucket,
                tflite=model.tflite,
                tags=model.tag_sets,
                bucket=model.bucket,
                prefix=model.prefix,
            )
        )
    if problems:
        raise ConfigError(problems)
    return tuple(found)


def signatures(settings: Settings, cache: HashCache) -> dict[str, ModelSignatures]:
    """Signatures of every served version that is on this machine, read without TensorFlow.

    Raises:
        ConfigError: every graph that cannot be read.
    """
    problems: list[Problem] = []
    found: dict[str, ModelSignatures] = {}
    for model in settings.models:
        served = settings.served_versions(model.name)
        by_version: dict[int, Mapping[str, Signature]] = {}
        for version in _versions(model):
            if version.number in served:
                try:
                    known = saved_model.loaded_signatures(version.path, cache, model.tags, prefer_tflite=model.tflite)
                except SavedModelError as error:
                    problems.append(_problem(model, error))
                else:
                    by_version |= {version.number: known} if known else {}
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
            served = [
                sizes[model.name].get(number, 0)
                for model in settings.config_of(service).models
                for number in model.policy.select(settings.published[model.name])
            ]
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
