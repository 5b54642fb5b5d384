"""A draft of a stack file, read as a stack file is read, and what an update of it would change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from config.stack import Settings, parse
from ops.engine import PROJECT_DIR
from provider.eas.ownership import taken_over_changes
from tfserving import eas_spec, model_config, rollout, stack_file
from tfserving.contract.serving import EasServiceInputs
from tfserving.errors import ConfigError, Problem
from tfserving.importing.draft import Draft
from tfserving.model_config import ModelServerConfig


@dataclass(frozen=True)
class Checked:
    """A draft that a preview takes, or that names what it does not take.

    Attributes:
        draft: the draft; entries that a preview would refuse are comments in it.
        settings: what it comes to; ``None`` with problems.
        problems: what is left and no entry's, such as that there is no service.
    """

    draft: Draft
    settings: Settings | None
    problems: tuple[Problem, ...] = ()


def check(draft: Draft, present: Mapping[str, Any], project_dir: Path = PROJECT_DIR) -> Checked:
    """Reads a draft, and makes comments of entries that a preview would refuse, until there is none.

    Args:
        draft: the draft.
        present: config keys that the stack file has already.
        project_dir: the directory of ``Pulumi.yaml``.
    """
    while True:
        try:
            return Checked(draft, parse({**present, **values(draft)}, project_dir))
        except ConfigError as error:
            less = draft.without(error.problems)
            if less is None:
                of_entries = [problem for problem in error.problems if draft.without([problem]) is not None]
                if not of_entries:
                    return Checked(draft, None, error.problems)
                less = draft.without(of_entries)
            assert less is not None  # noqa: S101 - each of these problems is one of an entry
            draft = less


def values(draft: Draft) -> dict[str, Any]:
    """The config of a draft, as the Pulumi CLI reads the file."""
    config: dict[str, Any] = stack_file.load(draft.text().whole())["config"]
    return config


def service_changes(settings: Settings, owner: str, found: Mapping[str, Mapping[str, Any]]) -> dict[str, list[str]]:
    """What an update changes of each service that it takes over, one line each; what every update adds is left out.

    Args:
        settings: the stack.
        owner: ``<project>/<stack>``.
        found: service JSON by name, as EAS stores it or as somebody wrote it.
    """
    changes = {}
    for service in settings.services:
        if service.name in found:
            scaled = service.spec.autoscaler is not None or service.spec.schedule is not None
            spec = eas_spec.build(service.spec)
            inputs = EasServiceInputs(name=service.name, spec=spec, owner=owner, autoscaled=scaled)
            changes[service.name] = taken_over_changes(inputs, found[service.name], "")
    return changes


def file_changes(settings: Settings, file: ModelServerConfig) -> list[str]:
    """What an update changes of the models that a config file lists, one line each."""
    published = {model.name: model.versions for model in settings.models}
    return model_config.changes(file, rollout.pin_labelled(settings.serving, published))
