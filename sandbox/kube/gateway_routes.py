"""A gateway controller's part: which Gateways are this one's, which routes they take, and what is said of both.

A small stand-in: listeners of protocol HTTP, routes by host name with one rule each, ``backendRefs`` with weights and
the filter ``RequestMirror``. Everything else a route may say is refused in its status.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any

from kubernetes import client

from sandbox.kube.gateway import Backends, Gateway, Table

log = logging.getLogger("sandbox.kube")

GROUP, VERSION = "gateway.networking.k8s.io", "v1"
CONTROLLER = "tf-serving.sandbox/gateway"
"""``controllerName`` of a GatewayClass whose Gateways this stands in for."""

_ROUTES = {"httproutes": False, "grpcroutes": True}
_TAKEN = {"backendRefs", "filters", "matches", "name"}


class GatewayController:
    """Keeps Gateways and routes in step with the API server.

    Args:
        objects: the official client's ``CustomObjectsApi``.
        backends: loopback addresses of the ready pods of a Service, by ``namespace/name``; None for no such Service.
    """

    def __init__(self, objects: Any, backends: Callable[[str], list[str] | None]) -> None:
        self._objects, self._backends = objects, backends
        self._gateways: dict[str, Gateway] = {}

    def close(self) -> None:
        """Takes no more requests."""
        for gateway in self._gateways.values():
            gateway.close()

    def look(self) -> None:
        """One round. A cluster without the Gateway API has none."""
        try:
            classes = self._list("gatewayclasses")
        except client.ApiException as error:
            if error.status == 404:
                return
            raise
        ours = {each["metadata"]["name"] for each in classes if each["spec"].get("controllerName") == CONTROLLER}
        found = {
            f"{each['metadata']['namespace']}/{each['metadata']['name']}": each
            for each in self._list("gateways")
            if each["spec"].get("gatewayClassName") in ours
        }
        for name in self._gateways.keys() - found.keys():
            self._gateways.pop(name).close()
        for name, each in found.items():
            self._provide(name, each)
        tables: dict[str, dict[tuple[str, bool], Table]] = {name: {} for name in found}
        services: set[str] = set()
        routes = [(route, plural, grpc) for plural, grpc in _ROUTES.items() for route in self._list(plural)]
        # Where two want one host name, the older one has it, as the Gateway API says.
        for route, plural, grpc in sorted(routes, key=lambda each: _age(each[0])):
            services |= self._take(route, plural, grpc, tables)
        hosts = {service: self._backends(service) or [] for service in services}
        for name, gateway in self._gateways.items():
            gateway.route(tables[name], Backends(hosts))

    def _provide(self, name: str, found: Mapping[str, Any]) -> None:
        """Opens a Gateway's ports at a loopback address, and says so."""
        if name not in self._gateways:
            given = [each["value"] for each in (found.get("status") or {}).get("addresses") or ()]
            address = given[0] if given else f"127.{secrets.randbelow(50) + 150}.{secrets.randbelow(256)}.1"
            ports = [int(each["port"]) for each in found["spec"]["listeners"] if each.get("protocol") == "HTTP"]
            self._gateways[name] = Gateway(address, ports)
        address, generation = self._gateways[name].address, found["metadata"].get("generation", 0)
        status = {
            "addresses": [{"type": "IPAddress", "value": address}],
            "conditions": [_condition(kind, generation, kind) for kind in ("Accepted", "Programmed")],
        }
        now = found.get("status") or {}
        if now.get("addresses") != status["addresses"] or not _is_said(now.get("conditions"), generation):
            self._say("gateways", found, status)

    def _take(
        self, route: Mapping[str, Any], plural: str, grpc: bool, tables: dict[str, dict[tuple[str, bool], Table]]
    ) -> set[str]:
        """Puts a route into the tables of its Gateways; the Services behind it."""
        namespace, spec = route["metadata"]["namespace"], route["spec"]
        parents: list[dict[str, Any]] = []
        services: set[str] = set()
        for parent in spec.get("parentRefs") or ():
            name = f"{parent.get('namespace') or namespace}/{parent['name']}"
            if name not in tables:
                continue
            problem, table = _table(namespace, spec)
            missing = sorted(each for each in table.services if self._backends(each) is None)
            hostnames = spec.get("hostnames") or ()
            taken = [each for each in hostnames if (each, not grpc) in tables[name]]
            if taken and not problem:
                problem = f"a route of the other kind has the host name {taken[0]} already"
            if not problem:
                services |= table.services
                tables[name] |= {(hostname, grpc): table for hostname in hostnames}
            generation = route["metadata"].get("generation", 0)
            conditions = [
                _condition("Accepted", generation, "UnsupportedValue" if problem else "Accepted", problem),
                _condition(
                    "ResolvedRefs",
                    generation,
                    "BackendNotFound" if missing else "ResolvedRefs",
                    f"no Service {', '.join(missing)}" if missing else "",
                ),
            ]
            parents.append({"parentRef": dict(parent), "controllerName": CONTROLLER, "conditions": conditions})
        now = (route.get("status") or {}).get("parents") or []
        if parents and _without_times(now) != _without_times(parents):
            self._say(plural, route, {"parents": parents})
        return services

    def _list(self, plural: str) -> list[dict[str, Any]]:
        found = self._objects.list_cluster_custom_object(GROUP, VERSION, plural)
        return list(found["items"])

    def _say(self, plural: str, found: Mapping[str, Any], status: Mapping[str, Any]) -> None:
        metadata = found["metadata"]
        try:
            self._objects.patch_namespaced_custom_object_status(
                GROUP, VERSION, metadata["namespace"], plural, metadata["name"], {"status": dict(status)}
            )
        except client.ApiException as error:
            if error.status not in (404, 409):  # it is gone, or changed: the next round sees it
                raise


def _age(route: Mapping[str, Any]) -> tuple[str, str, str]:
    metadata = route["metadata"]
    return metadata["creationTimestamp"], metadata["namespace"], metadata["name"]


def _table(namespace: str, spec: Mapping[str, Any]) -> tuple[str, Table]:
    """What a route says, and what of it is not taken here."""
    rules = list(spec.get("rules") or ())
    if len(rules) != 1:
        return "exactly one rule is taken", Table({}, "", 0)
    rule, problem = rules[0], ""
    if extra := sorted(rule.keys() - _TAKEN):
        problem = f"{', '.join(extra)} is not taken by this stand-in"
    weights: dict[str, int] = {}
    for each in rule.get("backendRefs") or ():
        service = f"{each.get('namespace') or namespace}/{each['name']}"
        weights[service] = weights.get(service, 0) + int(each.get("weight", 1))
    mirror, percent = "", 0
    for each in rule.get("filters") or ():
        if each.get("type") != "RequestMirror":
            problem = f"filter {each.get('type')} is not taken by this stand-in"
            continue
        backend = each["requestMirror"]["backendRef"]
        mirror = f"{backend.get('namespace') or namespace}/{backend['name']}"
        percent = int(each["requestMirror"].get("percent", 100))
    return problem, Table(weights, mirror, percent)


def _condition(kind: str, generation: int, reason: str, problem: str = "") -> dict[str, Any]:
    return {
        "type": kind,
        "status": "False" if problem else "True",
        "reason": reason,
        "message": problem,
        "observedGeneration": generation,
        "lastTransitionTime": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _is_said(conditions: Any, generation: int) -> bool:
    said = {each["type"]: each for each in conditions or ()}
    return all(
        said.get(kind, {}).get("status") == "True" and said[kind].get("observedGeneration") == generation
        for kind in ("Accepted", "Programmed")
    )


def _without_times(parents: Any) -> list[Any]:
    return [
        {**each, "conditions": [{k: v for k, v in c.items() if k != "lastTransitionTime"} for c in each["conditions"]]}
        for each in parents
    ]
