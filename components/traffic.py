"""Services that share the requests of one address, by weight, and a shadow that gets copies of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pulumi
from pulumi.resource import DependencyResource

from components import arguments, names, surroundings
from components.component import Argument, Component
from components.eas_service import TensorFlowServing
from components.resources import TrafficRoute, TrafficSplit, later
from components.served_config import HERE, InCluster
from config.reader import Reader
from config.services import ServiceSettings
from config.traffic import TrafficOptions, TrafficSettings, read_group
from tfserving import eas_spec
from tfserving.contract.records import Record, prop
from tfserving.contract.serving import Protocol
from tfserving.contract.traffic import Mirror, TrafficRouteInputs, TrafficSplitInputs
from tfserving.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class TrafficPlan:
    """What a :class:`TrafficGroup` makes, already checked.

    Attributes:
        settings: the group.
        owner: ``<project>/<stack>``.
        started: what runs its members, and the mirror where it has one.
        gated: members all of whose models have a gate.
        after: what has to be done before shares change: rollouts, in which new versions pass their gates.
        cluster: where those on Kubernetes are.
        region: region of its members; empty where it is not known.
    """

    settings: TrafficSettings
    owner: str
    started: Sequence[pulumi.Resource]
    gated: Sequence[str] = ()
    after: Sequence[pulumi.Resource] = ()
    cluster: InCluster = HERE
    region: str = ""


@dataclass(frozen=True, kw_only=True)
class GroupOutputs(Record):
    """Outputs of TrafficGroup.

    Attributes:
        protocol: ``http`` or ``grpc``.
        url: base URL for HTTP; empty where the group does not speak it.
        target: ``host:port`` for gRPC; empty where the group does not speak it.
        token: access token of the group; empty on Kubernetes.
    """

    protocol: str
    url: str
    target: str
    token: str = prop(secret=True)


class TrafficGroup(Component):
    """Services that share the requests of one address.

    Attributes:
        settings: the group.
        protocol: ``http`` or ``grpc``.
        url: base URL for HTTP; empty where the group does not speak it.
        target: ``host:port`` for gRPC; empty where the group does not speak it.
        token: access token of the group, secret; empty on Kubernetes, where nobody is asked for one.
        resource: the shares.
        reached: how clients reach it, and the shares: as the stack exports it.
    """

    shape = (TrafficOptions,)
    not_taken = frozenset({"hostname", "grpcHostname"})
    arguments = (
        Argument(
            key="services",
            description="Its members, and the service of the mirror.",
            type="TensorFlowServing",
            required=True,
            several=True,
        ),
        Argument(key="groupName", description="Name of the group on EAS. Default: the name of the component."),
    )
    outputs = GroupOutputs

    def __init__(
        self,
        name: str,
        args: TrafficPlan | Mapping[str, Any] | None = None,
        opts: pulumi.ResourceOptions | None = None,
        **options: Any,
    ) -> None:
        plan = (
            args
            if isinstance(args, TrafficPlan)
            else _plan(name, arguments.given(type(self), name, args, opts, options))
        )
        super().__init__(name, opts)
        self.settings = settings = plan.settings
        group = names.Thing(
            kind="group",
            name=settings.name,
            path="groupName",
            fix="remove one of them, or make services of a group of its own for it",
            place=(settings.target, plan.region, settings.namespace, plan.cluster.kubeconfig, plan.cluster.context),
        )
        names.hold(self, group, opts)
        needed = [*plan.started, *plan.after]
        child = pulumi.ResourceOptions(parent=self, depends_on=needed)
        self.protocol = settings.protocol
        self.resource: TrafficSplit | TrafficRoute
        if settings.target == "ack":
            self.resource = TrafficRoute(f"{name}-route", _route(plan), child)
        else:
            self.resource = TrafficSplit(f"{name}-split", _split(plan), child)
        self.url, self.target = self.resource.url, self.resource.target
        self.token: pulumi.Input[str] = ""
        if isinstance(self.resource, TrafficSplit):
            self.token = pulumi.Output.secret(self.resource.token)
        self.reached: dict[str, Any] = self._reached()
        self.finish({"protocol": self.protocol, "url": self.url, "target": self.target, "token": self.token})

    def _reached(self) -> dict[str, Any]:
        settings = self.settings
        if settings.target == "eas":
            address = {"target": self.target} if self.protocol == "grpc" else {"url": self.url}
            found: dict[str, Any] = {"protocol": self.protocol, **address, "token": self.token}
        else:
            found = {"protocol": "http" if settings.hostname else "grpc"}
            found |= {"url": self.url} if settings.hostname else {}
            found |= {"target": self.target} if settings.grpc_hostname else {}
        return found | {"weights": dict(settings.weights)}


def _split(plan: TrafficPlan) -> TrafficSplitInputs:
    settings = plan.settings
    return TrafficSplitInputs(
        group=settings.name,
        owner=plan.owner,
        weights=dict(settings.weights),
        mirror=_mirror(settings),
        protocol=Protocol(settings.protocol),
        gated=tuple(plan.gated),
    )


def _route(plan: TrafficPlan) -> TrafficRouteInputs:
    settings, cluster = plan.settings, plan.cluster
    return TrafficRouteInputs(
        group=settings.name,
        owner=plan.owner,
        namespace=settings.namespace,
        gateway=settings.gateway,
        hostname=settings.hostname or None,
        grpc_hostname=settings.grpc_hostname or None,
        weights=dict(settings.weights),
        mirror=_mirror(settings),
        gated=tuple(plan.gated),
        kubeconfig=later(cluster.kubeconfig) or None,
        kube_context=cluster.context or None,
    )


def _mirror(settings: TrafficSettings) -> Mirror | None:
    mirror = settings.mirror
    return Mirror(to=mirror.to, percent=mirror.percent) if mirror else None


def _plan(name: str, given: dict[str, Any]) -> TrafficPlan:
    """What the arguments come to.

    Raises:
        ArgumentError: everything that is wrong with them.
    """
    members = given.pop("services", None)
    listed = isinstance(members, list | tuple)
    found = [_member(each) for each in (members if listed else [members])] if members is not None else []

    def plan(values: Mapping[str, Any]) -> TrafficPlan:
        reader = Reader()
        group = reader.text(values.get("groupName"), "groupName", name)
        known = {each.settings.name: each.settings for each in found if each is not None}
        if members is not None and not listed:
            fix = "write services=[...]" if found[0] is not None else ""
            reader.add("services", f"this {type(members).__name__} is not a list", "a list of TensorFlowServing", fix)
        shares = values.get("weights")
        shares = shares if isinstance(shares, Mapping) else {}
        for index, each in enumerate(found if listed else ()):
            at = f"services[{index}]"
            if each is None:
                reader.add(at, "this is not a service on PAI-EAS", "a TensorFlowServing", "pass the component itself")
            elif each.settings.name in shares and each.settings.spec.group != group:
                made = each.settings.spec.group or "none"
                message = f"{each.settings.name} is made in group {made}, and a service joins a group when it is made"
                reader.add(at, message, group, f"make it with group {group!r}")
        if not found:
            reader.add("services", "a group has no members", "TensorFlowServing components", "name its services")
        if not known:  # nothing can be said of their shares
            raise ConfigError(reader.problems)
        entry = {key: value for key, value in values.items() if key != "groupName"}
        settings = read_group(reader, group, "", entry, known, ())
        if reader.problems:
            raise ConfigError(replace(each, path=each.path.lstrip(".") or "groupName") for each in reader.problems)
        started = [resource for each in found if each is not None for resource in each.started]
        regions = [each.settings.spec.region for each in found if each is not None]
        return TrafficPlan(
            settings=settings, owner=surroundings.owner(), started=started, region=next(iter(regions), "")
        )

    return arguments.check(TrafficGroup, name, given, plan).plan


@dataclass(frozen=True)
class _Member:
    """A service that a group is made of."""

    settings: ServiceSettings
    started: Sequence[pulumi.Resource]


def _member(service: Any) -> _Member | None:
    """What a group needs to know of a component, or of the outputs of one that is made elsewhere."""
    if isinstance(service, TensorFlowServing):
        proven = [service.served] if service.served is not None else []
        return _Member(service.service, [service.started, *proven])
    if not isinstance(service, Mapping) or "serviceName" not in service:
        return None
    spec = eas_spec.ServiceSpec(
        name=str(service["serviceName"]),
        region="",
        bucket="",
        grpc=service.get("protocol") == "grpc",
        config_file=True,
        group=str(service.get("group") or ""),
    )
    started = [DependencyResource(urn) for urn in service.get("contents") or ()]
    return _Member(ServiceSettings(name=spec.name, spec=spec), started)
