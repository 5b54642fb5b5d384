"""Stack outputs, from whichever engine deployed the stack."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tfserving.errors import TFServingError

PROJECT_DIR = Path(__file__).resolve().parent.parent

Engine = Literal["auto", "pulumi", "sandbox"]


class OutputsError(TFServingError):
    """The stack outputs cannot be read, or do not hold what was asked for."""


@dataclass(frozen=True)
class Service:
    """How to reach one TensorFlow Serving service, as the stack exports it.

    Attributes:
        name: EAS service name.
        protocol: ``http`` or ``grpc``.
        url: base URL without a trailing slash; empty for gRPC.
        target: ``host:port``; empty for HTTP.
        token: sent as the ``authorization`` header or metadata.
        models: model name to what the stack config wants of it.
    """

    name: str
    protocol: str
    url: str
    target: str
    token: str = field(repr=False)
    models: Mapping[str, Mapping[str, Any]]

    @property
    def address(self) -> str:
        """URL or gRPC target, whichever the service has."""
        return self.url or self.target


def services(stack: str, engine: Engine = "auto", project_dir: Path = PROJECT_DIR) -> dict[str, Service]:
    """The services of a stack.

    Raises:
        OutputsError: no such stack, no engine to ask, or a stack that exports no services.
    """
    outputs = read(stack, engine, project_dir)
    exported = outputs.get("services")
    if not isinstance(exported, Mapping) or not exported:
        raise OutputsError(
            f"stack {stack!r} exports no services; deploy it first (`pulumi up -s {stack}` or `make up`)"
        )
    return {
        name: Service(
            name=name,
            protocol=str(value.get("protocol", "http")),
            url=str(value.get("url") or "").rstrip("/"),
            target=str(value.get("target") or ""),
            token=str(value.get("token") or ""),
            models=value.get("models") or {},
        )
        for name, value in exported.items()
    }


def read(stack: str, engine: Engine = "auto", project_dir: Path = PROJECT_DIR) -> dict[str, Any]:
    """All outputs of a stack, secrets in clear, so never print them.

    Args:
        stack: stack name.
        engine: whose state; ``auto`` is the sandbox engine's where it holds this stack, else the Pulumi CLI's.
        project_dir: the directory of ``Pulumi.yaml``.

    Raises:
        OutputsError: the engine is not there, or refuses.
    """
    if engine == "auto":
        engine = "sandbox" if (project_dir / ".sandbox" / "state" / f"{stack}.json").exists() else "pulumi"
    if engine == "sandbox":
        command = [sys.executable, "-m", "sandbox", "outputs", "--stack", stack, "--json", "--show-secrets"]
    else:
        pulumi = shutil.which("pulumi")
        if pulumi is None:
            raise OutputsError(
                f"stack {stack!r} is not deployed by the sandbox engine and the Pulumi CLI is not on PATH;"
                " run `make up`, or install the Pulumi CLI"
            )
        command = [pulumi, "stack", "output", "--json", "--show-secrets", "--non-interactive", "--stack", stack]
    done = subprocess.run(command, cwd=project_dir, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = (done.stderr.strip() or done.stdout.strip()).removeprefix("error: ")
        raise OutputsError(f"the outputs of stack {stack!r} cannot be read: {reason}")
    try:
        outputs = json.loads(done.stdout)
    except ValueError as error:
        raise OutputsError(f"the outputs of stack {stack!r} are not JSON: {error}") from error
    if not isinstance(outputs, dict):
        raise OutputsError(f"the outputs of stack {stack!r} are not a JSON object")
    return outputs
