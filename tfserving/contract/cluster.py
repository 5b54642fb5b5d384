"""What a stack has in a cluster beside what Kubernetes itself knows: objects of kinds that some component brings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tfserving.contract.parts import ClusterInputs, Outputs
from tfserving.contract.records import Contract, prop


@dataclass(frozen=True, kw_only=True)
class ClusterObjectInputs(ClusterInputs):
    """Inputs of ClusterObject.

    Attributes:
        api_version: group and version of its kind, such as ``monitoring.coreos.com/v1``; a change replaces it.
        kind: its kind; a change replaces it.
        namespace: its namespace; a change replaces it.
        name: its name; a change replaces it.
        owner: ``<project>/<stack>``: whose object it is.
        labels: its labels; default: none.
        spec: what it asks for.
        needs: what brings its kind into a cluster, for the message where that is missing.
    """

    api_version: str = prop(replaces=True)
    kind: str = prop(replaces=True)
    namespace: str = prop(replaces=True)
    name: str = prop(replaces=True)
    owner: str
    labels: Mapping[str, str] | None = None
    spec: Mapping[str, Any]
    needs: str = prop("", compared=False)


@dataclass(frozen=True, kw_only=True)
class ClusterObjectOutputs(Outputs):
    """Outputs of ClusterObject.

    Attributes:
        uid: what tells it from one of the same name that was there before.
        taken: another create holds the object.
    """

    uid: str
    taken: bool | None = None


CLUSTER_OBJECT = Contract(
    "ClusterObject",
    "An object in a Kubernetes cluster of a kind that not every cluster knows; the preview says where it does not.",
    ClusterObjectInputs,
    ClusterObjectOutputs,
)
