"""How the requests of a service group are shared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tfserving.contract.parts import ClusterInputs, Outputs
from tfserving.contract.records import Contract, Record, prop
from tfserving.contract.serving import Protocol


@dataclass(frozen=True, kw_only=True)
class Mirror(Record):
    """Copies of requests for a service whose answers nobody waits for.

    Attributes:
        to: the service that gets them; no member of the group.
        percent: share of the requests that is copied, 1 to 100.
    """

    to: str
    percent: int


@dataclass(frozen=True, kw_only=True)
class TrafficSplitInputs(Record):
    """Inputs of TrafficSplit.

    Attributes:
        group: the service group, named by ``metadata.group`` of its members; a change replaces the resource.
        owner: ``<project>/<stack>``: whose services the members are.
        weights: percent of the requests by member; they add up to 100.
        mirror: copies of requests; default: none.
        protocol: the protocol of the members.
        gated: members all of whose models have a gate that a version has to pass.
        before: percent of the requests that each member got before this update.
    """

    group: str = prop(replaces=True)
    owner: str = prop(compared=False)
    weights: Mapping[str, int]
    mirror: Mirror | None = None
    protocol: Protocol = prop(Protocol.HTTP, compared=False)
    gated: tuple[str, ...] = prop((), compared=False)
    before: Mapping[str, int] | None = prop(None, compared=False, given=False)


@dataclass(frozen=True, kw_only=True)
class TrafficSplitOutputs(Outputs):
    """Outputs of TrafficSplit.

    Attributes:
        url: base URL of a group of HTTP services, without a final slash; empty for gRPC.
        target: ``host:port`` of a group of gRPC services; empty for HTTP.
        token: access token of the group.
        weights: percent of the requests that each member does get.
        mirrors: copies that are made of each member's requests.
        traffic_mode: ``customized`` where requests are shared by weight, ``auto`` where by replica count.
        taken: another create holds the shares.
    """

    url: str
    target: str
    token: str = prop(secret=True)
    weights: Mapping[str, int]
    mirrors: Mapping[str, Mirror]
    traffic_mode: str
    taken: bool | None = None


@dataclass(frozen=True, kw_only=True)
class TrafficRouteInputs(ClusterInputs):
    """Inputs of TrafficRoute.

    Attributes:
        group: name of the group, and with hyphens that of its routes; a change replaces the resource.
        owner: ``<project>/<stack>``: whose routes they are.
        namespace: of the routes and of the Services behind them; a change replaces the resource.
        gateway: ``namespace/name`` of the Gateway that they are attached to.
        hostname: for which the gateway routes HTTP; default: none, and no ``HTTPRoute``.
        grpc_hostname: for which it routes gRPC; default: none, and no ``GRPCRoute``.
        weights: percent of the requests by Service; they add up to 100.
        mirror: copies of requests; default: none.
        gated: members all of whose models have a gate that a version has to pass.
        before: percent of the requests that each member got before this update.
    """

    group: str = prop(replaces=True)
    owner: str
    namespace: str = prop(replaces=True)
    gateway: str
    hostname: str | None = None
    grpc_hostname: str | None = None
    weights: Mapping[str, int]
    mirror: Mirror | None = None
    gated: tuple[str, ...] = prop((), compared=False)
    before: Mapping[str, int] | None = prop(None, compared=False, given=False)


@dataclass(frozen=True, kw_only=True)
class TrafficRouteOutputs(Outputs):
    """Outputs of TrafficRoute.

    Attributes:
        url: base URL for HTTP, by its host name; empty without one.
        target: ``host:port`` for gRPC, by its host name; empty without one.
        address: address of the gateway, which DNS has to give for the host names; empty while it has none.
        in_step: the routes of both protocols say the same.
        taken: another create holds the routes.
    """

    url: str
    target: str
    address: str
    in_step: bool
    taken: bool | None = None


TRAFFIC_ROUTE = Contract(
    "TrafficRoute",
    "How a gateway of a Kubernetes cluster shares requests among Services, by routes of the Gateway API.",
    TrafficRouteInputs,
    TrafficRouteOutputs,
)

TRAFFIC_SPLIT = Contract(
    "TrafficSplit",
    "How the requests of a service group on PAI-EAS are shared among its members, and copied for a shadow.",
    TrafficSplitInputs,
    TrafficSplitOutputs,
)
