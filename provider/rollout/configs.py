"""Configs that a rollout works with: as observed, and without a version that cannot be loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from provider.asking import Answers
from tfserving import model_config, rollout
from tfserving.model_config import Model, ModelServerConfig
from tfserving.served import Versions


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
