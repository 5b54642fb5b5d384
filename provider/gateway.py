"""Routes of the Gateway API in a cluster, through its API server.

Rights needed: ``get`` of ``gateways``; in the namespace ``get``, ``create``, ``patch``, ``delete`` of ``httproutes``
and ``grpcroutes`` (all ``gateway.networking.k8s.io``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from provider.clients import READ_SECONDS
from provider.cluster import FIELD_MANAGER, ClusterApi
from tfserving.errors import CloudError
from tfserving.kubernetes.gateway_api import GROUP, VERSION, RouteKind

NO_GATEWAY_API = (
    f"the cluster does not have the Gateway API ({GROUP}/{VERSION}): no HTTPRoute, no GRPCRoute. Fix: install its CRDs "
    "and a gateway controller (on ACK: the component Gateway API, with ALB or ACK Gateway), or take the group out of "
    "tf-serving:traffic"
)


class NoGatewayError(CloudError):
    """The cluster has no Gateway API, or not the Gateway that routes are to be attached to."""


class Gateways:
    """The Gateway API of one cluster."""

    def __init__(self, cluster: ClusterApi) -> None:
        self._cluster = cluster

    def check(self, kinds: tuple[RouteKind, ...]) -> None:
        """See that the cluster knows these kinds of routes.

        Raises:
            NoGatewayError: it does not.
            CloudError: it cannot be asked.
        """

        def ask() -> Any:
            return self._cluster.objects.get_api_resources(GROUP, VERSION, _request_timeout=READ_SECONDS)

        try:
            found = self._cluster.call("look for the Gateway API", ask)
        except CloudError as error:
            if error.code == "404":
                raise NoGatewayError(NO_GATEWAY_API, error.code) from None
            raise
        known = {each.name for each in found.resources}
        if missing := [kind.kind for kind in kinds if kind.plural not in known]:
            raise NoGatewayError(
                f"the Gateway API of this cluster has no {' and no '.join(missing)} in {GROUP}/{VERSION}: it is older "
                "than v1.1. Fix: install its CRDs of a newer release"
            )

    def gateway(self, name: str) -> Mapping[str, Any]:
        """A Gateway by ``namespace/name``.

        Raises:
            NoGatewayError: there is none.
        """
        namespace, _, own = name.partition("/")
        found = self._read("Gateway", "gateways", namespace, own)
        if found is None:
            raise NoGatewayError(
                f"there is no Gateway {name} in the cluster: routes need one to be attached to. "
                "Fix: make it, or name another one in tf-serving:kubernetes.gateway"
            )
        return found

    def route(self, kind: RouteKind, namespace: str, name: str) -> Mapping[str, Any] | None:
        """A route; None where there is none, or the cluster does not know such."""
        return self._read(kind.kind, kind.plural, namespace, name)

    def put(self, kind: RouteKind, manifest: Mapping[str, Any], *, exists: bool) -> Mapping[str, Any]:
        """Create a route, or change one that ``exists``: one write."""
        metadata = manifest["metadata"]
        namespace, name = str(metadata["namespace"]), str(metadata["name"])
        place = (GROUP, VERSION, namespace, kind.plural)
        options = {"field_manager": FIELD_MANAGER, "_request_timeout": READ_SECONDS}
        api = self._cluster.objects

        def write() -> Any:
            if exists:  # a mapping is a merge patch, in which lists are replaced
                return api.patch_namespaced_custom_object(*place, name, dict(manifest), **options)
            return api.create_namespaced_custom_object(*place, dict(manifest), **options)

        found: Mapping[str, Any] = self._call("change" if exists else "create", kind.kind, namespace, name, write)
        return found

    def delete(self, kind: RouteKind, namespace: str, name: str) -> None:
        """Remove a route. It is fine if there is none."""
        api = self._cluster.objects

        def remove() -> Any:
            return api.delete_namespaced_custom_object(
                GROUP, VERSION, namespace, kind.plural, name, _request_timeout=READ_SECONDS
            )

        try:
            self._call("remove", kind.kind, namespace, name, remove)
        except CloudError as error:
            if error.code != "404":
                raise

    def _read(self, kind: str, plural: str, namespace: str, name: str) -> Mapping[str, Any] | None:
        api = self._cluster.objects

        def read() -> Any:
            return api.get_namespaced_custom_object(
                GROUP, VERSION, namespace, plural, name, _request_timeout=READ_SECONDS
            )

        try:
            found: Mapping[str, Any] = self._call("read", kind, namespace, name, read)
        except CloudError as error:
            if error.code == "404":
                return None
            raise
        return found

    def _call(self, verb: str, kind: str, namespace: str, name: str, call: Callable[[], Any]) -> Any:
        return self._cluster.call(f"{verb} {kind} {namespace}/{name}", call)
