"""Routes of the Kubernetes Gateway API that share requests among Services: their content, and what they say. Pure.

An ``HTTPRoute`` and a ``GRPCRoute`` are attached to a ``Gateway`` by somebody's choice of a host name each, since no
listener takes both kinds for one name. ``backendRefs`` have weights, and the filter ``RequestMirror`` copies a share of
the requests. Source: Gateway API v1.4, standard channel (``apis/v1/httproute_types.go``, ``grpcroute_types.go``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tfserving.kubernetes.description import GRPC_PORT, HTTP_PORT
from tfserving.traffic import Mirror

GROUP = "gateway.networking.k8s.io"
VERSION = "v1"
OWNER = "tf-serving/owner"
"""Annotation: ``<project>/<stack>``: whose route it is."""
CREATED_BY = "tf-serving/created-by"
"""Annotation: the create that holds it."""


@dataclass(frozen=True)
class RouteKind:
    """One of the two kinds.

    Attributes:
        kind: as manifests name it.
        plural: as the API's paths name it.
        port: of the Services behind it.
    """

    kind: str
    plural: str
    port: int


HTTP_ROUTE = RouteKind("HTTPRoute", "httproutes", HTTP_PORT)
GRPC_ROUTE = RouteKind("GRPCRoute", "grpcroutes", GRPC_PORT)
KINDS = (HTTP_ROUTE, GRPC_ROUTE)


@dataclass(frozen=True)
class Route:
    """What a route is to say, or says.

    Attributes:
        gateway: ``namespace/name`` of the Gateway.
        hostname: clients ask for it.
        weights: by Service.
        mirror: ``None`` for no copies.
    """

    gateway: str
    hostname: str
    weights: Mapping[str, int]
    mirror: Mirror | None = None


def object_name(group: str) -> str:
    """The name of a group's routes: as the group's, with hyphens."""
    return group.replace("_", "-")


def marks(owner: str, created_by: str) -> dict[str, str]:
    """What an object says of itself: whose it is, and which create holds it; empty for any."""
    return {OWNER: owner, CREATED_BY: created_by}


def manifest(
    kind: RouteKind, name: str, namespace: str, owner: str, route: Route, created_by: str = ""
) -> dict[str, Any]:
    """A route as the API server takes it."""
    place, _, gateway = route.gateway.partition("/")
    rule: dict[str, Any] = {
        "backendRefs": [
            {"group": "", "kind": "Service", "name": service, "port": kind.port, "weight": weight}
            for service, weight in sorted(route.weights.items())
        ],
        "filters": [],
    }
    if route.mirror is not None:
        backend = {"group": "", "kind": "Service", "name": route.mirror.to, "port": kind.port}
        mirrored = {"backendRef": backend, "percent": route.mirror.percent}
        rule["filters"] = [{"type": "RequestMirror", "requestMirror": mirrored}]
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": kind.kind,
        "metadata": {
            "name": name,
            "namespace": namespace,
            "annotations": marks(owner, created_by),
            "labels": {"app.kubernetes.io/name": "tensorflow-serving", "app.kubernetes.io/managed-by": "pulumi"},
        },
        "spec": {
            "parentRefs": [{"group": GROUP, "kind": "Gateway", "namespace": place, "name": gateway}],
            "hostnames": [route.hostname],
            "rules": [rule],
        },
    }


def read(found: Mapping[str, Any]) -> Route:
    """What a route says; of routes that somebody made otherwise, as far as it can be told."""
    spec = found.get("spec") or {}
    namespace = (found.get("metadata") or {}).get("namespace", "")
    parents = spec.get("parentRefs") or [{}]
    gateway = f"{parents[0].get('namespace') or namespace}/{parents[0].get('name', '')}"
    rules = spec.get("rules") or [{}]
    weights: dict[str, int] = {}
    for each in rules[0].get("backendRefs") or ():
        weights[str(each.get("name"))] = weights.get(str(each.get("name")), 0) + int(each.get("weight", 1))
    mirror = None
    for each in rules[0].get("filters") or ():
        if each.get("type") == "RequestMirror":
            copied = each.get("requestMirror") or {}
            mirror = Mirror(str((copied.get("backendRef") or {}).get("name", "")), int(copied.get("percent", 100)))
    return Route(gateway, next(iter(spec.get("hostnames") or ()), ""), weights, mirror)


def owner_of(found: Mapping[str, Any]) -> str:
    """Whose route it is; empty where it does not say."""
    return _annotation(found, OWNER)


def held_by(found: Mapping[str, Any]) -> str:
    """The create that holds it; empty where it does not say."""
    return _annotation(found, CREATED_BY)


def _annotation(found: Mapping[str, Any], key: str) -> str:
    return str(((found.get("metadata") or {}).get("annotations") or {}).get(key, ""))


def pending(found: Mapping[str, Any]) -> str:
    """Why a gateway does not route by it as it is now; empty where one does."""
    generation = (found.get("metadata") or {}).get("generation", 0)
    parents = (found.get("status") or {}).get("parents") or ()
    if not parents:
        return "no gateway controller has looked at it"
    troubles = []
    for parent in parents:
        conditions = {each.get("type"): each for each in parent.get("conditions") or ()}
        for name in ("Accepted", "ResolvedRefs"):
            each = conditions.get(name) or {}
            if int(each.get("observedGeneration", 0)) < generation:
                troubles.append(f"{name} is not said of its newest change yet")
            elif each.get("status") != "True":
                troubles.append(f"{name} is {each.get('status')}: {each.get('reason')}: {each.get('message')}")
    return "; ".join(troubles)


def refusal(found: Mapping[str, Any]) -> str:
    """What a gateway has against a route as it is now, which time alone does not change; empty for nothing."""
    generation = (found.get("metadata") or {}).get("generation", 0)
    for parent in (found.get("status") or {}).get("parents") or ():
        for each in parent.get("conditions") or ():
            said = int(each.get("observedGeneration", 0)) >= generation
            if said and each.get("type") == "Accepted" and each.get("status") == "False":
                return f"{each.get('reason')}: {each.get('message')}"
    return ""


def address(gateway: Mapping[str, Any]) -> tuple[str, int, bool]:
    """Where a Gateway takes requests: its address (empty while it has none), port, and whether it wants TLS."""
    listeners = (gateway.get("spec") or {}).get("listeners") or ()
    usable = [each for each in listeners if each.get("protocol") in ("HTTP", "HTTPS")]
    plain = [each for each in usable if each["protocol"] == "HTTP"]
    chosen = (plain or usable or [{"port": 80, "protocol": "HTTP"}])[0]
    addresses = (gateway.get("status") or {}).get("addresses") or ()
    found = next((str(each.get("value", "")) for each in addresses), "")
    return found, int(chosen["port"]), chosen["protocol"] == "HTTPS"
