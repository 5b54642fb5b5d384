"""Versions that the bucket tells: of models that name none, and of those that say how many stay."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from config.kubernetes import AckServiceSettings
from config.loading import AnyService
from config.models import ModelSettings
from config.reader import Reader
from config.services import ServiceSettings
from config.stack_config import NAMESPACE, StackConfig
from tfserving import model_sets, saved_model
from tfserving.contract.found import FoundDirectory
from tfserving.model_config import Model, ModelServerConfig, VersionPolicy
from tfserving.model_sets import Choice
from tfserving.property_path import join_path
from tfserving.wording import some_of


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A directory that somebody has to look at.

    Attributes:
        place: the model's directory, as the model has it.
        bucket: bucket name.
        prefix: key prefix, ending in a slash.
        tflite: its versions may hold ``model.tflite`` alone.
        tags: ``--saved_model_tags`` of what serves it.
    """

    place: str
    bucket: str
    prefix: str
    tflite: bool
    tags: tuple[str, ...]


_Service = TypeVar("_Service", ServiceSettings, AckServiceSettings)
_SHOWN = 10


def found(
    stack: StackConfig,
    models: Iterable[ModelSettings],
    declared: ModelServerConfig,
    services: Iterable[AnyService],
) -> tuple[ModelSettings, ...]:
    """The models, those that go by the bucket with the versions that are complete there.

    They have none where nobody has looked yet.

    Args:
        stack: the stack.
        models: all models.
        declared: what is to be served.
        services: all services, which may choose policies and labels of their own.
    """
    path = f"{NAMESPACE}:models"
    reader = stack.reader(path)
    models = tuple(models)
    configs = _configs(declared, services)
    taken = []
    for model in models:
        if model.from_bucket and not model.same_as:
            listed = list(_listings(model, models, configs))
            named = {number for each in listed for number in (*each.policy.versions, *each.labels.values())}
            model = _found(stack, reader, model, join_path(path, model.name), named)
        taken.append(model)
    return tuple(taken)


def _configs(declared: ModelServerConfig, services: Iterable[AnyService]) -> list[ModelServerConfig]:
    """What is declared, and what each service makes of it."""
    return [declared, *(model_sets.chosen(declared, each.spec.models) for each in services)]


def _listings(
    model: ModelSettings, models: Iterable[ModelSettings], configs: Iterable[ModelServerConfig]
) -> Iterator[Model]:
    """What configs say of a model, and of others that have its directory."""
    same = {model.name, *(each.name for each in models if each.same_as == model.name)}
    return (each for config in configs for each in config.models if each.name in same)


def _found(stack: StackConfig, reader: Reader, model: ModelSettings, where: str, named: set[int]) -> ModelSettings:
    at = join_path(where, "versions")
    if stack.found is None:
        return model
    there = stack.found.directories.get(model.place, FoundDirectory())
    if not stack.found.known or not there.known:
        message = "what is in the bucket is not known: only this update makes the bucket, or what it is reached with"
        reader.add(at, message, "a bucket that is there", "name versions, give a source, or make the bucket before")
        return model
    if not there.exists:
        message = f"the bucket {model.bucket}".rstrip() + " is not there, so no version is in it"
        fix = "mount another bucket" if model.is_elsewhere else "give the model a source"
        reader.add(at, message, "a bucket with versions", f"{fix}, or publish into a bucket first")
        return model
    left = [f"{each.name} {each.why}" for each in there.left_out]
    if not there.versions:
        place = (
            f"oss://{model.bucket}/{model.prefix}" if model.is_elsewhere else f"directory {model.place} of the bucket"
        )
        message = f"no complete version is in {place}" + (f" ({'; '.join(left[:_SHOWN])})" if left else "")
        reader.add(
            at, message, "at least one", "publish one there first: a server waits for the first version for ever"
        )
        return model
    told: set[int] = set()
    for each in there.left_out:
        number = saved_model.parse_number(each.name)
        if number is not None and number in named - told - {*there.numbers}:
            message = f"version {number} is named by policy or label, and is left out: {each.name} {each.why}"
            reader.add(at, message, _listed(there.numbers), "wait until it is complete, or name another version")
            told.add(number)
    stack.warnings += [f"model {model.name}: {model.place}/{text}; it is left out" for text in left]
    # What was just told is no second problem of the policy or the label.
    return replace(model, versions=tuple(sorted({*there.numbers, *told})))


def kept(
    stack: StackConfig,
    models: Iterable[ModelSettings],
    declared: ModelServerConfig,
    services: Iterable[AnyService],
) -> tuple[ModelSettings, ...]:
    """The models, those that say how many versions stay without the others.

    Policy ``all`` serves whatever stays, and is no reason for anything to stay.

    Args:
        stack: the stack.
        models: all models; one that has the directory of another one follows it.
        declared: what is to be served.
        services: all services, which may choose policies and labels of their own.
    """
    configs = _configs(declared, services)
    models = tuple(models)
    done = []
    for model in models:
        if not model.keep or model.same_as:
            done.append(model)
            continue
        if stack.found is None:
            done.append(replace(model, versions=()))
            continue
        there = stack.found.directories.get(model.place, FoundDirectory())
        candidates = {*model.versions, *map(int, there.own)}
        needed = set(sorted(candidates)[-model.keep :])
        for listed in _listings(model, models, configs):
            needed |= set(listed.labels.values())
            if listed.policy.kind != "all":
                needed |= set(listed.policy.select(candidates))
        done.append(replace(model, versions=tuple(sorted(candidates & needed))))
    return tuple(done)


def spelt_out(declared: ModelServerConfig, found: Mapping[str, tuple[int, ...]]) -> ModelServerConfig:
    """What is declared, with the versions named of models that go by the bucket: what appears is served by an update.

    Beside what the policy selects, those are the versions that labels name: else a version that comes would end the one
    that a label stands on.

    Args:
        declared: the models as they are declared.
        found: versions in the bucket, of the models that go by it; none where nobody has looked yet.
    """
    return ModelServerConfig(tuple(_spelt_out(model, found.get(model.name, ())) for model in declared.models))


def chosen(
    services: Iterable[_Service], declared: ModelServerConfig, found: Mapping[str, tuple[int, ...]]
) -> tuple[_Service, ...]:
    """The services, with the same of what they choose for themselves."""
    return tuple(
        replace(each, spec=replace(each.spec, models=_choices(each.spec.models, declared, found))) for each in services
    )


def _choices(
    chosen: Mapping[str, Choice], declared: ModelServerConfig, found: Mapping[str, tuple[int, ...]]
) -> Mapping[str, Choice]:
    made = dict(chosen)
    for model in model_sets.chosen(declared, chosen).models if any(chosen.values()) else ():
        if chosen[model.name] and found.get(model.name):
            made[model.name] = replace(chosen[model.name], policy=_spelt_out(model, found[model.name]).policy)
    return made


def _spelt_out(model: Model, versions: tuple[int, ...]) -> Model:
    if not versions or model.policy.kind == "specific":
        return model
    selected = {*model.policy.select(versions), *(set(model.labels.values()) & set(versions))}
    return replace(model, policy=VersionPolicy.specific(tuple(sorted(selected))))


def warn_of_servers_that_look_themselves(
    stack: StackConfig, found: Collection[str], services: Iterable[AnyService]
) -> None:
    """A server of one model goes by the files alone, whatever an update says."""
    for each in services:
        if each.spec.model in found and not each.spec.config_file:
            stack.warnings.append(
                f"service {each.name}: it serves one model, so that its server takes the highest version of "
                f"{each.spec.model} as soon as that is in the bucket, before an update names it. With configFile: "
                "true, updates alone decide"
            )


def asked(stack: StackConfig, models: Iterable[ModelSettings], bucket: str, root: str) -> tuple[Asked, ...]:
    """Directories that somebody has to look at before it is known what is published; none once that was done."""
    if stack.found is not None:
        return ()
    wanted = (each for each in models if not each.same_as and (each.from_bucket or each.keep))
    return tuple(
        Asked(
            place=each.place,
            bucket=each.bucket or bucket,
            prefix=each.prefix if each.is_elsewhere else f"{root}{each.place}/",
            tflite=each.tflite,
            tags=each.tag_sets,
        )
        for each in wanted
    )


def note(models: Iterable[ModelSettings]) -> str:
    """What was found, for a preview; empty where no model goes by the bucket."""
    parts = [f"{each.name} {_listed(each.versions)}" for each in models if each.from_bucket and each.versions]
    return f"versions in the bucket: {some_of(parts, _SHOWN, '; ')}" if parts else ""


def _listed(versions: Iterable[int]) -> str:
    """The versions, of many the highest ones."""
    numbers = sorted(versions)
    shown = ", ".join(map(str, numbers[-_SHOWN:]))
    return shown if len(numbers) <= _SHOWN else f"{shown} and {len(numbers) - _SHOWN} lower ones"
