"""Stack outputs, from whichever engine deployed the stack."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ops.engine import PROJECT_DIR, Engine, resolve, run
from tfserving import wire
from tfserving.errors import TFServingError

_SERVED = "tfserving:index:ServedModel"
"""The outputs say what a service serves in the form of this resource."""


class OutputsError(TFServingError):
    """The stack outputs cannot be read, or do not hold what was asked for."""


@dataclass(frozen=True)
class Service:
    """How to reach one TensorFlow Serving service, as the stack exports it.

    Attributes:
        name: EAS service name.
        protocol: ``http`` or ``grpc``.
        url: base URL without a trailing slash; empty for a PAI-EAS service that answers gRPC.
        target: ``host:port``; empty for a PAI-EAS service that answers HTTP.
        token: sent as the ``authorization`` header or metadata; empty on Kubernetes.
        models: model name to what it serves, or is to serve; version numbers are ``int``.
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
        EngineError: no engine to ask.
        OutputsError: no such stack, or a stack that exports no services.
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
            models=wire.decode(_SERVED, {"served": value.get("models") or {}})["served"],
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
        EngineError: the engine is not there.
        OutputsError: it refuses.
    """
    arguments = ["outputs"] if resolve(stack, engine, project_dir) == "sandbox" else ["stack", "output"]
    done = run(stack, [*arguments, "--json", "--show-secrets"], engine, project_dir)
    if done.code != 0:
        raise OutputsError(f"the outputs of stack {stack!r} cannot be read: {done.reason}")
    try:
        outputs = json.loads(done.out)
    except ValueError as error:
        raise OutputsError(f"the outputs of stack {stack!r} are not JSON: {error}") from error
    if not isinstance(outputs, dict):
        raise OutputsError(f"the outputs of stack {stack!r} are not a JSON object")
    return outputs
