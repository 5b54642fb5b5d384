"""Stack outputs, from whichever engine deployed the stack."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ops import state
from ops.engine import PROJECT_DIR, Engine, resolve, run
from ops.stack_names import refused
from tfserving.contract import integers
from tfserving.errors import TFServingError

_STACK = "pulumi:pulumi:Stack"
_SERVING = "tfserving:index:ServingStack"
_SERVED = "tfserving:index:ServedModel"
"""The outputs say what a service serves in the form of this resource."""


class OutputsError(TFServingError):
    """The stack outputs cannot be read, or do not hold what was asked for."""


@dataclass(frozen=True)
class ExportedService:
    """How to reach one TensorFlow Serving service, as the stack exports it.

    Attributes:
        name: EAS service name.
        protocol: ``http`` or ``grpc``.
        url: base URL without a trailing slash; empty for a PAI-EAS service that answers gRPC.
        target: ``host:port``; empty for a PAI-EAS service that answers HTTP.
        token: sent as the ``authorization`` header or metadata; empty on Kubernetes.
        models: model name to what it serves, or is to serve; version numbers are ``int``.
        members: of a group of services that share requests: percent by member; empty for a single service.
        metrics: where the server's own counters are, below its address; empty where it has none.
    """

    name: str
    protocol: str
    url: str
    target: str
    token: str = field(repr=False)
    models: Mapping[str, Mapping[str, Any]]
    members: Mapping[str, int] = field(default_factory=dict)
    metrics: str = ""

    @property
    def address(self) -> str:
        """URL or gRPC target, whichever the service has."""
        return self.url or self.target


def services(stack: str, engine: Engine = "auto", project_dir: Path = PROJECT_DIR) -> dict[str, ExportedService]:
    """The services of a stack.

    Raises:
        EngineError: no engine to ask.
        StateError: it refuses.
        OutputsError: a stack that exports no services.
    """
    return services_of(stack, state.read(stack, engine, project_dir))


def services_of(stack: str, resources: Iterable[state.Resource]) -> dict[str, ExportedService]:
    """The services of a stack whose state was read already: running the engine takes seconds.

    Raises:
        OutputsError: a stack that exports no services.
    """
    found = list(resources)
    exported = _exported(found).get("services")
    if not isinstance(exported, Mapping) or not exported:
        raise OutputsError(
            f"stack {stack!r} exports no services; deploy it first (`pulumi up -s {stack}` or `make up`)"
        )
    models = _models(exported, found)
    return {name: _service(name, value, models.get(name) or {}) for name, value in exported.items()}


def groups_of(resources: Iterable[state.Resource]) -> dict[str, ExportedService]:
    """The groups of services that share requests, each with what its members serve."""
    known = list(resources)
    outputs = _exported(known)
    exported, single = outputs.get("traffic") or {}, outputs.get("services") or {}
    served = _models(single, known) if exported else {}
    found = {}
    for name, value in exported.items():
        members = {str(member): int(share) for member, share in (value.get("weights") or {}).items()}
        models = (served.get(member) for member in members)
        found[name] = replace(_service(name, value, next((each for each in models if each), {})), members=members)
    return found


def _exported(resources: Iterable[state.Resource]) -> Mapping[str, Any]:
    """The outputs of the stack, which both engines keep with the stack's own resource."""
    return next((each.outputs for each in resources if each.kind == _STACK), {})


def _models(exported: Mapping[str, Any], resources: Iterable[state.Resource]) -> dict[str, Any]:
    """What each service serves: exported by earlier releases and by programs that do so, else an output of the stack's
    component."""
    found = {name: value["models"] for name, value in exported.items() if "models" in value}
    for each in resources:
        if each.kind == _SERVING:
            services = each.outputs.get("services") or {}
            found |= {name: value.get("models") or {} for name, value in services.items() if name not in found}
    return found


def _service(name: str, value: Mapping[str, Any], models: Mapping[str, Any]) -> ExportedService:
    return ExportedService(
        name=name,
        protocol=str(value.get("protocol", "http")),
        url=str(value.get("url") or "").rstrip("/"),
        target=str(value.get("target") or ""),
        token=str(value.get("token") or ""),
        models=integers.decode(_SERVED, {"served": models})["served"],
        metrics=str(value.get("metrics") or ""),
    )


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
        raise OutputsError(refused(stack, "outputs", done.reason, project_dir))
    try:
        outputs = json.loads(done.out)
    except ValueError as error:
        raise OutputsError(f"the outputs of stack {stack!r} are not JSON: {error}") from error
    if not isinstance(outputs, dict):
        raise OutputsError(f"the outputs of stack {stack!r} are not a JSON object")
    return outputs
