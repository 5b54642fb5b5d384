"""What a rollout is to come to, read from the inputs of the resource, and what it came to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from provider.asking import Service
from provider.properties import Properties
from provider.resource import table
from tfserving import model_config, rollout
from tfserving.model_config import ModelServerConfig

Versions = dict[str, set[int]]


@dataclass(frozen=True)
class Wanted:
    """The inputs, read.

    Attributes:
        models: as declared.
        file: as written: ``latest`` is spelt out for models with labels (:func:`tfserving.rollout.pin_labelled`).
        published: version numbers by model.
        services: those that read the file.
    """

    models: ModelServerConfig
    file: ModelServerConfig
    published: Versions
    services: tuple[Service, ...]

    @classmethod
    def read(cls, inputs: Properties) -> Wanted:
        models = model_config.from_dict(table(inputs, "models"))
        published = versions_of(table(inputs, "published"))
        services = tuple(
            Service.from_property(name, value)
            for name, value in sorted(table(inputs, "services").items())
            if isinstance(value, dict) and value.get("reads", True)
        )
        return cls(models, rollout.pin_labelled(models, published), published, services)

    def expected(self) -> dict[str, Any]:
        """What a service serves when it serves this, in the form of :meth:`provider.asking.Answers.as_property`."""
        return {
            model.name: {
                "versions": list(model.policy.select(self.published.get(model.name, ()))),
                "labels": dict(model.labels),
            }
            for model in self.file.models
        }

    def expected_by_service(self) -> dict[str, Any]:
        """:meth:`expected` for every service that can be asked."""
        expected = self.expected()
        return {service.name: expected for service in self.services if service.reachable}

    def unproven(self) -> list[str]:
        """Services that cannot be asked."""
        return [service.name for service in self.services if not service.reachable]


def versions_of(published: Mapping[str, Any]) -> Versions:
    return {name: {int(version) for version in versions} for name, versions in published.items()}


def union(*parts: Mapping[str, Iterable[int]]) -> Versions:
    found: Versions = {}
    for part in parts:
        for name, versions in part.items():
            found.setdefault(name, set()).update(versions)
    return found


def results_of(
    wanted: Wanted, served: Mapping[str, Any], file: ModelServerConfig | None, obsolete: Versions
) -> Properties:
    return {
        "served": dict(served),
        "file": model_config.to_dict(file) if file is not None else {},
        "unproven": wanted.unproven(),
        "obsolete": {name: sorted(versions) for name, versions in sorted(obsolete.items())},
    }
