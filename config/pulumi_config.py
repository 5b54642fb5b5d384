"""The stack config as Pulumi hands it over, unknown keys included, and what only the stack file itself shows.

``pulumi.Config`` answers for keys one knows. A misspelt key is found by looking at all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pulumi.runtime.config as runtime_config
import yaml

from config.stack import Settings, parse
from tfserving import stack_file
from tfserving.contract.found import FindVersionsResult
from tfserving.errors import ConfigError
from tfserving.manifest import HashCache
from tfserving.stack_file import Doubts


@dataclass(frozen=True)
class RawConfig:
    """Everything configured for a stack.

    Attributes:
        values: text by full key; structured values are JSON. Secrets are in the clear, so this has no useful ``repr``.
        secret_keys: the keys Pulumi holds as secret.
        doubts: what is wrong with the stack file as a file.
    """

    values: Mapping[str, Any]
    secret_keys: frozenset[str]
    doubts: Doubts

    def __repr__(self) -> str:
        return f"RawConfig({len(self.values)} keys)"


def read(project_dir: Path, stack: str) -> RawConfig:
    """The config of the running program."""
    values = {**runtime_config.get_config_env(), **runtime_config.CONFIG.get()}
    secret = {key for key in values if runtime_config.is_config_secret(key)}
    secret |= set(runtime_config.get_config_secret_keys_env())
    return RawConfig(values, frozenset(secret), doubts(project_dir, stack))


def doubts(project_dir: Path, stack: str) -> Doubts:
    """What is doubtful about the stack file of ``stack``, which is in the project's ``stackConfigDir``.

    Nothing where there is none: the program was started with another one.
    """
    try:
        project = stack_file.load((project_dir / "Pulumi.yaml").read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        project = None
    settings = project if isinstance(project, dict) else {}
    path = project_dir / str(settings.get("stackConfigDir") or "") / f"Pulumi.{stack}.yaml"
    try:
        return stack_file.doubts(path.read_text(encoding="utf-8"), str(settings.get("name") or ""), path.name)
    except (OSError, ValueError):
        return Doubts()


def load(project_dir: Path, stack: str, cache: HashCache, found: FindVersionsResult | None = None) -> Settings:
    """The settings of the running program.

    Args:
        project_dir: the directory of ``Pulumi.yaml``.
        stack: name of the stack.
        cache: what is known of model files from earlier runs.
        found: as for :func:`config.stack.parse`.

    Raises:
        ConfigError: every problem of the stack file and of what it says.
    """
    raw = read(project_dir, stack)
    try:
        settings = parse(raw.values, project_dir, secret_keys=raw.secret_keys, cache=cache, found=found)
    except ConfigError as error:
        raise ConfigError(raw.doubts.beside(error.problems)) from None
    if raw.doubts.problems:
        raise ConfigError(raw.doubts.problems)
    return settings
