"""The components of the package, by type. Each is loaded when it is asked for, and with it the SDKs that it needs."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from tfserving.contract import PACKAGE

if TYPE_CHECKING:
    from components.component import Component

_MODULES = {
    "ServingStack": "serving_stack",
    "ModelRepository": "model_repository",
    "TensorFlowServing": "eas_service",
    "KubernetesServing": "kubernetes_serving",
    "TrafficGroup": "traffic",
    "GpuNodePool": "gpu_node_pool",
    "AckCluster": "ack_cluster",
}

COMPONENTS: Final[Mapping[str, str]] = {f"{PACKAGE}:index:{name}": name for name in _MODULES}
"""Their names by type."""


def load(token: str) -> type[Component]:
    """The class of a component.

    Args:
        token: its type, one of :data:`COMPONENTS`.
    """
    name = COMPONENTS[token]
    found: type[Component] = getattr(importlib.import_module(f"components.{_MODULES[name]}"), name)
    return found
