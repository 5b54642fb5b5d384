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

from components.settings import Settings, parse
from tfserving import stack_file as stack_files
from tfserving.errors import ConfigError, Problem
from tfserving.manifest import HashCache
from tfserving.model_config import join_path


@dataclass(frozen=True)
class RawConfig:
    """Everything configured for a stack.

    Attributes:
        values: text by full key; structured values are JSON. Secrets are in the clear, so this has no useful ``repr``.
        secret_keys: the keys Pulumi holds as secret.
        problems: what is wrong with the stack file as a file.
    """

    values: Mapping[str, Any]
    secret_keys: frozenset[str]
    problems: tuple[Problem, ...]

    def __repr__(self) -> str:
        return f"RawConfig({len(self.values)} keys)"


def read(project_dir: Path, stack: str) -> RawConfig:
    """The config of the running program."""
    values = {**runtime_config.get_config_env(), **runtime_config.CONFIG.get()}
    secret = {key for key in values if runtime_config.is_config_secret(key)}
    secret |= set(runtime_config.get_config_secret_keys_env())
    file = stack_file(project_dir, stack)
    problems = (*duplicate_keys(file), *_doubtful_numbers(file))
    return RawConfig(values, frozenset(secret), problems)


def _doubtful_numbers(path: Path) -> list[Problem]:
    try:
        return stack_files.doubtful_numbers(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []


def stack_file(project_dir: Path, stack: str) -> Path:
    """Where the stack file of ``stack`` is: in the project's ``stackConfigDir``."""
    try:
        project = yaml.safe_load((project_dir / "Pulumi.yaml").read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        project = None
    directory = project.get("stackConfigDir") if isinstance(project, dict) else None
    return project_dir / str(directory or "") / f"Pulumi.{stack}.yaml"


def duplicate_keys(path: Path) -> list[Problem]:
    """Keys that are written twice in one mapping of a YAML file. Loaders keep the last one and say nothing.

    A file that is not there or is no YAML gives no problem: it is not what this program was started with.
    """
    try:
        root = yaml.compose(path.read_text(encoding="utf-8"), yaml.SafeLoader)
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return []
    problems: list[Problem] = []
    if isinstance(root, yaml.MappingNode):
        for key, value in root.value:
            if key.value == "config":
                _walk(value, "", path, problems)
    return problems


def _walk(node: yaml.Node, where: str, path: Path, problems: list[Problem]) -> None:
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            _walk(item, f"{where}[{index}]", path, problems)
    if not isinstance(node, yaml.MappingNode):
        return
    first: dict[str, int] = {}
    for key, value in node.value:
        name, line = str(key.value), key.start_mark.line + 1
        here = join_path(where, name) if where else name
        if name in first:
            message = f"the key is written twice, on lines {first[name]} and {line} of {path.name}: one would be lost"
            problems.append(Problem(here, message, fix="keep one, or rename one"))
        first.setdefault(name, line)
        _walk(value, here, path, problems)


def load(project_dir: Path, stack: str, cache: HashCache) -> Settings:
    """The settings of the running program.

    Args:
        project_dir: the directory of ``Pulumi.yaml``.
        stack: name of the stack.
        cache: what is known of model files from earlier runs.

    Raises:
        ConfigError: every problem of the stack file and of what it says.
    """
    raw = read(project_dir, stack)
    try:
        settings = parse(raw.values, project_dir, secret_keys=raw.secret_keys, cache=cache)
    except ConfigError as error:
        raise ConfigError((*raw.problems, *error.problems)) from None
    if raw.problems:
        raise ConfigError(raw.problems)
    return settings
