"""How a program is started: what the CLI's language hosts do (sdk/python and sdk/nodejs, cmd/pulumi-language-*)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandbox.engine.config import Stack
from tfserving.errors import TFServingError


@dataclass(frozen=True)
class Start:
    """A process to start.

    Attributes:
        command: its argument list.
        environment: its environment.
        input: the first line of its standard input, which stays open as long as the engine lives.
    """

    command: list[str]
    environment: Mapping[str, str]
    input: str = ""


def start_of(stack: Stack, settings: Mapping[str, Any], directory: Path) -> Start:
    """The process that runs a stack's program.

    Args:
        stack: the stack.
        settings: the fields of ``pulumi.runtime.Settings``, ``config`` and ``secret_keys``.
        directory: where the program is.

    Raises:
        TFServingError: the sandbox engine does not run programs of that runtime, or what runs them is missing.
    """
    runtime = stack.project.get("runtime")
    name = str(runtime.get("name") if isinstance(runtime, dict) else runtime)
    if name not in _RUNTIMES:
        known = " and ".join(_RUNTIMES)
        raise TFServingError(
            f"Pulumi.yaml: runtime: {name!r} is not run by the sandbox engine, which runs {known}; "
            "deploy with the Pulumi CLI"
        )
    return _RUNTIMES[name](stack, settings, directory)


def _python(stack: Stack, settings: Mapping[str, Any], _: Path) -> Start:
    script = str(Path(__file__).with_name("language.py"))
    return Start([stack.python, "-P", script], stack.environment, json.dumps(settings) + "\n")


def _nodejs(stack: Stack, settings: Mapping[str, Any], directory: Path) -> Start:
    """The Node SDK brings what runs a program; TypeScript is compiled by it, too."""
    node = shutil.which("node")
    if node is None:
        raise TFServingError("the program cannot start: node is not on PATH")
    places = (
        place / "node_modules" / "@pulumi" / "pulumi" / "cmd" / "run" for place in (directory, *directory.parents)
    )
    run = next((place for place in places if place.exists()), None)
    if run is None:
        raise TFServingError(f"the Pulumi SDK is not installed for {directory}: run `npm ci` there")
    command = [node, str(run), "--monitor", settings["monitor"], "--engine", settings["engine"]]
    for flag in ("organization", "project", "stack", "parallel"):
        command += [f"--{flag}", str(settings[flag])]
    command += ["--root-directory", str(settings["root_directory"]), "--pwd", str(directory)]
    command += ["--dry-run"] * bool(settings["dry_run"])
    environment = {
        **stack.environment,
        "PULUMI_CONFIG": json.dumps(settings["config"]),
        "PULUMI_CONFIG_SECRET_KEYS": json.dumps(settings["secret_keys"]),
        "PULUMI_NODEJS_TYPESCRIPT": "true",
    }
    return Start([*command, "."], environment)


_RUNTIMES: Mapping[str, Callable[[Stack, Mapping[str, Any], Path], Start]] = {"python": _python, "nodejs": _nodejs}
