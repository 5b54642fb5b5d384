"""Objects of the Kubernetes API as resources: what the real provider does in its server-side apply mode.

Inputs are the object itself. An object is applied under one field manager with strict validation and waited for until
it works, unless its annotation ``pulumi.com/skipAwait`` says otherwise. A refresh compares it field by field with what
the program declares; what the API server and controllers add is nobody's drift.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any, ClassVar

from sandbox.engine.properties import Properties, has_unknown
from sandbox.plugins.kubernetes.api_server import ApiServer
from sandbox.plugins.server import InputError, NotReadyError, ResourceType, State
from tfserving.errors import CloudError
from tfserving.property_path import Path

_PAUSE_SECONDS = 0.25
_WAIT_SECONDS = 600.0
_GONE_SECONDS = 120.0
_FIELD_MANAGER = "pulumi-kubernetes-sandbox"
_SKIP_AWAIT = "pulumi.com/skipAwait"
_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")


class KubernetesObject(ResourceType):
    """One kind.

    Attributes:
        api_version: as manifests name it.
        kind: likewise.
        fixed: paths below which a change needs a new object.
    """

    api_version: ClassVar[str] = "v1"
    kind: ClassVar[str] = ""
    token: ClassVar[str] = ""
    fixed: ClassVar[tuple[tuple[str, ...], ...]] = ()
    cluster_wide: ClassVar[bool] = False

    def __init__(self, provider: ApiServer) -> None:
        self._provider = provider

    # ---- without the API server ------------------------------------------------------------------------------------

    def check(self, name: str, old: Properties, new: Properties) -> Properties:
        """The object with its kind, a name and a namespace."""
        metadata = dict(new.get("metadata") or {})
        if not metadata.get("name"):
            metadata["name"] = (old.get("metadata") or {}).get("name") or f"{name}-{os.urandom(4).hex()}"
        if not self.cluster_wide:
            metadata.setdefault("namespace", self._provider.namespace)
        if not has_unknown(metadata["name"]) and not _NAME.fullmatch(str(metadata["name"])):
            raise InputError(("metadata.name", f"{metadata['name']!r} is not the name of an object"))
        return {**new, "apiVersion": self.api_version, "kind": self.kind, "metadata": metadata}

    def replaces(self, path: Path, old: Properties, new: Properties) -> bool:
        """Name, namespace and whatever the API server never changes."""
        fixed = (("metadata", "name"), ("metadata", "namespace"), ("kind",), *self.fixed)
        return any(tuple(path[: len(place)]) == place for place in fixed)

    def deletes_first(self, old: Properties, new: Properties) -> bool:
        """Only where both would have one name."""
        return _identity(old) == _identity(new)

    # ---- with it ---------------------------------------------------------------------------------------------------

    def create(self, urn: str, inputs: Properties) -> tuple[str, Properties]:
        """Applies the object and waits until it works."""
        return _id(inputs), self._apply(urn, inputs)

    def update(self, state: State, inputs: Properties) -> Properties:
        """The same as creating it."""
        return self._apply(state.urn, inputs)

    def read(self, state: State) -> tuple[Properties, Properties] | None:
        """What is there. As inputs: the live value of every field the program declares."""
        live = self._get(state.inputs)
        if live is None or live["metadata"].get("deletionTimestamp"):
            return None
        return _declared_part(state.inputs, live), _outputs(live)

    def delete(self, state: State) -> None:
        """Removes the object and waits until it is gone, with everything that belongs to it."""
        path = self._path(state.inputs)
        try:
            self._provider.call("DELETE", f"{path}?propagationPolicy=Foreground")
        except CloudError as error:
            if error.code == "404":
                return
            raise CloudError(f"cannot delete {self._name(state.inputs)}: {error}", error.code) from None
        for _ in self._waiting(_GONE_SECONDS):
            live = self._get(state.inputs)
            if live is None:
                return
        held = ", ".join((live or {}).get("metadata", {}).get("finalizers") or ()) or "nothing it names"
        raise CloudError(f"{self._name(state.inputs)} is not gone after {_GONE_SECONDS:.0f} s; it is held by {held}")

    def working(self, live: Properties) -> str:
        """What is still missing until the object works; empty if it does. Raises CloudError if it never will."""
        return ""

    def _apply(self, urn: str, inputs: Properties) -> Properties:
        query = f"fieldManager={_FIELD_MANAGER}&fieldValidation=Strict"
        query += "&force=true" if self._provider.force else ""
        path = self._path(inputs)
        try:
            answer = self._provider.call("PATCH", f"{path}?{query}", inputs, "application/apply-patch+yaml")
        except CloudError as error:
            raise CloudError(f"cannot apply {self._name(inputs)}: {error}", error.code) from None
        for warning in answer.warnings:
            self._provider.log(urn, warning, "WARNING")
        return _outputs(self._await(urn, inputs, answer.body))

    def _await(self, urn: str, inputs: Properties, live: Properties) -> Properties:
        if str((inputs["metadata"].get("annotations") or {}).get(_SKIP_AWAIT)) == "true":
            return live
        missing = ""
        try:
            for _ in self._waiting(_WAIT_SECONDS):
                live = self._get(inputs) or live
                missing = self.working(live)
                if not missing:
                    return live
                self._provider.log(urn, missing, status=True)
        except CloudError as error:
            missing = str(error)
        raise NotReadyError(
            f"{self._name(inputs)} was applied but does not work: {missing}", _id(inputs), _outputs(live)
        )

    def _waiting(self, seconds: float) -> Iterator[float]:
        gone = 0.0
        while gone < seconds:
            yield gone
            if self._provider.cancelled.wait(_PAUSE_SECONDS):
                raise CloudError("cancelled while waiting")
            gone += _PAUSE_SECONDS

    def _get(self, inputs: Properties) -> Properties | None:
        try:
            return self._provider.call("GET", self._path(inputs)).body
        except CloudError as error:
            if error.code == "404":
                return None
            raise

    def _path(self, inputs: Properties) -> str:
        namespace, name = _identity(inputs)
        return self._provider.path(self.api_version, self.kind, namespace, name)

    def _name(self, inputs: Properties) -> str:
        namespace, name = _identity(inputs)
        return f"{self.kind} {namespace + '/' if namespace else ''}{name}"

    def _list(self, kind: str, namespace: str, selector: dict[str, str]) -> list[Properties]:
        labels = ",".join(f"{key}%3D{value.replace('/', '%2F')}" for key, value in selector.items()).replace("/", "%2F")
        path = self._provider.path("v1", kind, namespace, "").rstrip("/")
        return list(self._provider.call("GET", f"{path}?labelSelector={labels}").body["items"])


class Deployment(KubernetesObject):
    """Waited for until every pod is of the new template and available, or its progress deadline is over."""

    api_version = "apps/v1"
    kind = "Deployment"
    token = "kubernetes:apps/v1:Deployment"  # noqa: S105 (a type's name)
    fixed = (("spec", "selector"),)

    def working(self, live: Properties) -> str:
        spec, status = live["spec"], live.get("status") or {}
        wanted = spec.get("replicas", 1)
        if status.get("observedGeneration", 0) < live["metadata"]["generation"]:
            return "the deployment controller has not seen the change yet"
        updated, available, total = (status.get(f"{name}eplicas", 0) for name in ("updatedR", "availableR", "r"))
        if updated == available == total == wanted:
            return ""
        for condition in status.get("conditions") or ():
            failed = condition["status"] == "False" and condition.get("reason") == "ProgressDeadlineExceeded"
            if failed or (condition["type"] == "ReplicaFailure" and condition["status"] == "True"):
                raise CloudError("; ".join([condition["message"], *self._pods(live)]))
        return f"{available} of {wanted} pods are available, {updated} of them new, {total} in all"

    def _pods(self, live: Properties) -> list[str]:
        """Why pods are not ready."""
        found = []
        for pod in self._list("Pod", live["metadata"]["namespace"], live["spec"]["selector"]["matchLabels"]):
            for container in (pod.get("status") or {}).get("containerStatuses") or ():
                waiting = (container.get("state") or {}).get("waiting")
                if waiting:
                    found.append(f"pod {pod['metadata']['name']}: {waiting['reason']}: {waiting.get('message', '')}")
            found += [
                f"pod {pod['metadata']['name']}: {condition.get('message', '')}"
                for condition in (pod.get("status") or {}).get("conditions") or ()
                if condition["status"] == "False" and condition["type"] == "PodScheduled"
            ]
        return found


class KubernetesService(KubernetesObject):
    """Waited for until a load balancer has an address."""

    kind = "Service"
    token = "kubernetes:core/v1:Service"  # noqa: S105 (a type's name)
    fixed = (("spec", "clusterIP"),)

    def working(self, live: Properties) -> str:
        if live["spec"].get("type") != "LoadBalancer" or live["status"].get("loadBalancer", {}).get("ingress"):
            return ""
        return "the load balancer has no address yet"


class ConfigMap(KubernetesObject):
    """One that is immutable is replaced."""

    kind = "ConfigMap"
    token = "kubernetes:core/v1:ConfigMap"  # noqa: S105 (a type's name)

    def replaces(self, path: Path, old: Properties, new: Properties) -> bool:
        immutable = bool(old.get("immutable")) and path[0] in ("data", "binaryData", "immutable")
        return immutable or super().replaces(path, old, new)


class PersistentVolume(KubernetesObject):
    kind = "PersistentVolume"
    token = "kubernetes:core/v1:PersistentVolume"  # noqa: S105 (a type's name)
    fixed = (("spec", "csi"),)
    cluster_wide = True


class PersistentVolumeClaim(KubernetesObject):
    """Waited for until it is bound."""

    kind = "PersistentVolumeClaim"
    token = "kubernetes:core/v1:PersistentVolumeClaim"  # noqa: S105 (a type's name)
    fixed = (("spec",),)

    def working(self, live: Properties) -> str:
        return "" if (live.get("status") or {}).get("phase") == "Bound" else "the claim is not bound yet"


class HorizontalPodAutoscaler(KubernetesObject):
    api_version = "autoscaling/v2"
    kind = "HorizontalPodAutoscaler"
    token = "kubernetes:autoscaling/v2:HorizontalPodAutoscaler"  # noqa: S105 (a type's name)


class PodDisruptionBudget(KubernetesObject):
    api_version = "policy/v1"
    kind = "PodDisruptionBudget"
    token = "kubernetes:policy/v1:PodDisruptionBudget"  # noqa: S105 (a type's name)


class Ingress(KubernetesObject):
    api_version = "networking.k8s.io/v1"
    kind = "Ingress"
    token = "kubernetes:networking.k8s.io/v1:Ingress"  # noqa: S105 (a type's name)


TYPES: tuple[type[KubernetesObject], ...] = (
    ConfigMap,
    Deployment,
    HorizontalPodAutoscaler,
    Ingress,
    PersistentVolume,
    PersistentVolumeClaim,
    PodDisruptionBudget,
    KubernetesService,
)


def _identity(inputs: Properties) -> tuple[str, str]:
    metadata = inputs["metadata"]
    return str(metadata.get("namespace") or ""), str(metadata["name"])


def _id(inputs: Properties) -> str:
    namespace, name = _identity(inputs)
    return f"{namespace}/{name}" if namespace else name


def _outputs(live: Properties) -> Properties:
    """The object without the bookkeeping of field managers."""
    metadata = {key: value for key, value in live["metadata"].items() if key != "managedFields"}
    return {**live, "metadata": metadata}


def _declared_part(declared: Any, live: Any) -> Any:
    """``live`` reduced to what ``declared`` speaks of: fields nobody declared are others' business.

    Lists are somebody's as a whole, but what is filled into their elements is not.
    """
    if isinstance(declared, dict) and isinstance(live, dict):
        return {key: _declared_part(value, live[key]) for key, value in declared.items() if key in live}
    if isinstance(declared, list) and isinstance(live, list):
        return [
            _declared_part(declared[index], item) if index < len(declared) else item for index, item in enumerate(live)
        ]
    return live
