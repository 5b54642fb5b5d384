"""Configs that a rollout works with: spelt out, observed, without a version that cannot be loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from provider.asking import Answers
from provider.properties import Properties
from provider.resource import table
from provider.rollout.wanted import Versions, Wanted, union, versions_of
from tfserving import model_config, pinning, rollout
from tfserving.model_config import Model, ModelServerConfig


def spelt_out(config: ModelServerConfig, published: Versions, on_disk: Versions) -> ModelServerConfig:
    """``config`` with the versions named where a policy would still select one whose files are only to be removed."""
    models = []
    for model in config.models:
        versions = model.policy.select(published.get(model.name, ()))
        if versions and model.policy.select(on_disk.get(model.name, ())) != versions:
            model = replace(model, policy=model_config.VersionPolicy.specific(versions))
        models.append(model)
    return ModelServerConfig(tuple(models))


def combined(basis: ModelServerConfig, answers: Mapping[str, Answers], on_disk: Versions) -> ModelServerConfig:
    """What services serve that do not follow the file, as one config: every version and label any of them answers.

    Where two services answer a label with different versions, one that every service has AVAILABLE counts, and among
    those the one the file names: only that can be written without a service refusing it.
    """
    models: list[Model] = []
    for model in basis.models:
        available = [set(answer.available(model.name)) for answer in answers.values()]
        everywhere = set.intersection(*available) if available else set()
        labels: dict[str, int] = {}
        for label in {label for answer in answers.values() for label in answer.labels.get(model.name, {})}:
            found = {answer.label(model.name, label) for answer in answers.values()} - {None}
            candidates = sorted(
                (version for version in found if version is not None),
                key=lambda version: (version not in everywhere, version != model.labels.get(label), version),
            )
            if candidates:
                labels[label] = candidates[0]
        versions = set.union(*available) if available else set()
        seen = rollout.observed(
            ModelServerConfig((model,)),
            {model.name: versions},
            {model.name: labels},
            {model.name: on_disk.get(model.name, ())},
        )
        models += seen.models
    return ModelServerConfig(tuple(models))


def without_version(config: ModelServerConfig, model: str, version: int) -> ModelServerConfig:
    """``config`` with a version taken out of a model's specific versions, and with it the labels that name it."""
    found = config.get(model)
    if found is None or found.policy.kind != "specific" or found.policy.versions == (version,):
        return config
    fixed = replace(
        found,
        policy=model_config.VersionPolicy.specific(set(found.policy.versions) - {version}),
        labels={label: target for label, target in found.labels.items() if target != version},
    )
    return ModelServerConfig(tuple(fixed if item.name == model else item for item in config.models))


def in_force_by_state(before: Wanted, outputs: Properties, on_disk: Versions) -> ModelServerConfig:
    """The config in force as far as the state tells: for a preview, which asks nobody."""
    file = model_config.from_dict(table(outputs, "file")) if table(outputs, "file") else before.file
    served = next((models for models in table(outputs, "served").values() if models), None)
    if served is None:
        return file
    return rollout.observed(
        file,
        {name: model["versions"] for name, model in served.items()},
        {
            name: {label: version for label, version in model["labels"].items() if isinstance(version, int)}
            for name, model in served.items()
        },
        on_disk,
    )


def pin_line(wanted: Wanted, before: Wanted, outputs: Properties) -> str:
    """What the publication of new versions spells out in the file first, as far as the state tells; often nothing."""
    file = model_config.from_dict(table(outputs, "file")) if table(outputs, "file") else before.file
    visible = union(before.published, versions_of(table(outputs, "obsolete")))
    coming = {
        name: pinning.Coming(frozenset(visible.get(name, ())), frozenset(versions - visible.get(name, set())))
        for name, versions in wanted.published.items()
        if file.get(name) is not None
    }
    if not any(service.poll_seconds > 0 for service in before.services):
        coming = {
            name: each for name, each in coming.items() if pinning.harms(file.get(name), wanted.file.get(name), each)
        }
    return pinning.announcement(file, pinning.pinned(file, coming))
