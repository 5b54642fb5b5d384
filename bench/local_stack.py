"""The local stack of a checkout: its file, and what it exports."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from bench.measure import python


def environment(root: Path) -> dict[str, str]:
    """What commands run with in a checkout."""
    return {"PYTHONPATH": str(root)}


def config(root: Path) -> dict[str, Any]:
    """The config of its stack file."""
    found: dict[str, Any] = yaml.safe_load(_file(root).read_text(encoding="utf-8"))["config"]
    return found


def edit(root: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Changes the config of its stack file in place."""
    document = yaml.safe_load(_file(root).read_text(encoding="utf-8"))
    change(document["config"])
    # Through JSON, so that what is there twice is written twice.
    text = yaml.safe_dump(json.loads(json.dumps(document)), sort_keys=False)
    _file(root).write_text(text, encoding="utf-8")


def outputs(root: Path) -> dict[str, Any]:
    """What the stack exports, secrets in clear."""
    command = python("-m", "sandbox", "outputs", "--json", "--show-secrets")
    done = subprocess.run(command, cwd=root, env={**os.environ, **environment(root)}, capture_output=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _file(root: Path) -> Path:
    return root / "stacks" / "Pulumi.local.yaml"
