"""Which services of a stack run on Kubernetes, and where."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from ops import outputs, state
from ops.engine import PROJECT_DIR, Engine
from provider.cluster import ClusterApi, Pods


def on_kubernetes(
    stack: str, services: Sequence[outputs.ExportedService], engine: Engine = "auto", project_dir: Path = PROJECT_DIR
) -> dict[str, tuple[Pods, ClusterApi]]:
    """The pods of those services that run on Kubernetes, by service.

    Raises:
        TFServingError: the state cannot be read.
    """
    # Only there has a service both addresses, and nobody is asked for a token: elsewhere the state need not be read.
    if any(not each.token and each.url and each.target for each in services):
        return of_resources(state.read(stack, engine, project_dir))
    return {}


def of_resources(resources: Iterable[state.Resource]) -> dict[str, tuple[Pods, ClusterApi]]:
    """The pods of every service on Kubernetes that a state has."""
    found: dict[str, tuple[Pods, ClusterApi]] = {}
    for resource in resources:
        if resource.kind not in (state.SERVED_CONFIG, state.SERVED_MODEL):
            continue
        inputs = resource.inputs
        one = inputs.get("service")
        described = inputs.get("services") or ({one["name"]: one} if one else {})
        cluster = ClusterApi(str(inputs.get("kubeconfig") or ""), str(inputs.get("kubeContext") or ""))
        for name, service in described.items():
            if service.get("pods"):
                where = service["pods"]
                found[name] = (Pods(str(where["namespace"]), dict(where["selector"])), cluster)
    return found
