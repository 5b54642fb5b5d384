"""Which stacks have a file, for messages about one that is not there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ops import nearest
from ops.engine import PROJECT_DIR, short_name
from tfserving import stack_file

_UNKNOWN = "no stack named"
"""The CLI's words for a stack that its backend does not have."""


def directory(project: Mapping[str, Any], project_dir: Path) -> Path:
    """Where the stack files are, as ``Pulumi.yaml`` says."""
    return project_dir / str(project.get("stackConfigDir") or "")


def with_file(directory: Path) -> list[str]:
    """The stacks that have a file."""
    files = directory.glob("Pulumi.*.yaml")
    return sorted(file.name.removeprefix("Pulumi.").removesuffix(".yaml") for file in files)


def refused(stack: str, what: str, reason: str, project_dir: Path = PROJECT_DIR) -> str:
    """Why something of a stack cannot be read; where the CLI knows no stack of that name, with those there are.

    Args:
        stack: stack name.
        what: what of it, such as ``outputs``.
        reason: the engine's words.
        project_dir: the directory of ``Pulumi.yaml``.
    """
    text = f"the {what} of stack {stack!r} cannot be read: {reason}"
    if _UNKNOWN not in reason:
        return text
    try:
        project = stack_file.load((project_dir / "Pulumi.yaml").read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return text
    names = with_file(directory(project if isinstance(project, dict) else {}, project_dir))
    if short_name(stack) in names:
        return f"{text}. Fix: deploy it first, or choose another with --stack or `pulumi stack select`"
    return f"{text}; {nearest.choices(short_name(stack), names)}"
