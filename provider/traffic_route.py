"""How a gateway of a Kubernetes cluster shares requests: an ``HTTPRoute``, a ``GRPCRoute``, or both.

All shares of a route are written at once, so no run can end in the middle of them. What a gateway controller says of a
route is waited for: a route that nobody routes by shares nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from provider.claims import STAMP, found_by, is_anothers, stays
from provider.cluster import ClusterApi
from provider.gateway import Gateways, NoGatewayError
from provider.properties import Change
from provider.resource import Context, Diff, Failure, Found, Resource
from tfserving import traffic
from tfserving.contract import TRAFFIC_ROUTE
from tfserving.contract.traffic import Mirror, TrafficRouteInputs, TrafficRouteOutputs
from tfserving.errors import CloudError, OwnershipError, TrafficError
from tfserving.kubernetes import gateway_api
from tfserving.kubernetes.gateway_api import GRPC_ROUTE, HTTP_ROUTE, KINDS, Route, RouteKind
from tfserving.kubernetes.names import is_subdomain
from tfserving.property_values import UNKNOWN, Properties, has_unknown, plain

_ACCEPT_SECONDS = 60.0


class TrafficRoute(Resource):
    """The routes of one group."""

    contract = TRAFFIC_ROUTE
    refresh_before_update = True

    # ---- without the cluster ---------------------------------------------------------------------------------------

    def check(self, olds: Properties, news: Properties) -> tuple[Properties, list[Failure]]:
        return super().check(olds, {**news, "before": TrafficRouteInputs.read(olds).weights})

    def validate(self, inputs: Properties) -> Iterable[Failure]:
        if has_unknown(inputs):
            return
        wanted = TrafficRouteInputs.read(inputs)
        for path, reason in traffic.faults(wanted.group, wanted.weights, _pure(wanted.mirror)):
            yield Failure(path, reason)
        if wanted.gateway.count("/") != 1:
            yield Failure("gateway", f"{wanted.gateway!r} is not namespace/name")
        names = {"hostname": wanted.hostname, "grpcHostname": wanted.grpc_hostname}
        for path, name in names.items():
            if name and not is_subdomain(name):
                yield Failure(path, f"{name!r} is not a host name")
        if not any(names.values()):
            yield Failure("hostname", "a host name is needed, for HTTP (hostname), gRPC (grpcHostname), or one each")
        elif wanted.hostname == wanted.grpc_hostname:
            yield Failure("grpcHostname", "no gateway takes HTTP and gRPC routes for one host name; use another one")

    def diff(self, old_inputs: Properties, old_outputs: Properties, news: Properties) -> Diff:
        diff = super().diff(old_inputs, old_outputs, news)
        if plain(old_outputs.get("inStep")) is False:
            diff.changes["inStep",] = (Change.UPDATE, False)
        if TrafficRouteOutputs.read(old_outputs).taken:
            diff.changes[STAMP,] = (Change.UPDATE, False)
        return diff

    # ---- with the cluster ------------------------------------------------------------------------------------------

    def preview(
        self, ctx: Context, inputs: Properties, old_inputs: Properties | None, old_outputs: Properties | None
    ) -> Properties:
        names = ("url", "target", "address")
        kept = {name: old_outputs[name] for name in names if name in old_outputs} if old_outputs else {}
        outputs = dict.fromkeys(names, UNKNOWN) | kept
        if has_unknown(inputs):
            return inputs | outputs | {"inStep": True}
        wanted = TrafficRouteInputs.read(inputs)
        gateways = Gateways(ClusterApi.of(wanted))
        try:
            gateways.check(_kinds(wanted))
            gateways.gateway(wanted.gateway)
            self._refuse_others(gateways, wanted)
        except NoGatewayError:
            raise
        except CloudError as error:
            ctx.warning(f"it is not known yet whether the cluster routes the requests of {wanted.group}: {error}")
        before = TrafficRouteInputs.read(old_inputs) if old_inputs is not None else None
        for line in (
            *traffic.changes(wanted.group, before.weights if before else {}, wanted.weights),
            *traffic.mirror_change(wanted.group, _pure(before.mirror) if before else None, _pure(wanted.mirror)),
        ):
            ctx.info(line)
        return inputs | outputs | {"inStep": True}

    def create(self, ctx: Context, inputs: Properties) -> tuple[str, Properties]:
        wanted = TrafficRouteInputs.read(inputs)
        return f"{wanted.namespace}/{wanted.group}", self._apply(ctx, wanted)

    def update(
        self, ctx: Context, id_: str, old_inputs: Properties, old_outputs: Properties, news: Properties
    ) -> Properties:
        return self._apply(ctx, TrafficRouteInputs.read(news))

    def read(self, ctx: Context, id_: str, inputs: Properties | None, outputs: Properties) -> Found | None:
        if inputs is None:
            raise TrafficError(
                "TrafficRoute is made of routes in a cluster and cannot be imported. Fix: let `pulumi up` make it: it "
                "takes over routes of the same names that are this stack's"
            )
        declared = TrafficRouteInputs.read(inputs)
        gateways, name = Gateways(ClusterApi.of(declared)), gateway_api.object_name(declared.group)
        found = {kind: gateways.route(kind, declared.namespace, name) for kind in KINDS}
        routes = {kind: gateway_api.read(each) for kind, each in found.items() if each is not None}
        if not routes:
            return None
        shown, *others = routes.values()
        in_step = all(replace(each, hostname=shown.hostname) == shown for each in others)
        owners = {gateway_api.owner_of(each) for each in found.values() if each is not None}
        is_ours = owners == {declared.owner}
        read = TrafficRouteInputs(
            group=declared.group,
            owner=declared.owner if is_ours else next(iter(sorted(owners - {declared.owner})), ""),
            namespace=declared.namespace,
            kubeconfig=declared.kubeconfig,
            kube_context=declared.kube_context,
            gateway=shown.gateway,
            hostname=routes[HTTP_ROUTE].hostname if HTTP_ROUTE in routes else None,
            grpc_hostname=routes[GRPC_ROUTE].hostname if GRPC_ROUTE in routes else None,
            weights=shown.weights,
            mirror=Mirror(to=shown.mirror.to, percent=shown.mirror.percent) if shown.mirror else None,
            gated=declared.gated,
            before=declared.before,
        )
        known = {name: outputs[name] for name in ("url", "target", "address") if name in outputs}
        held = _held(found.values(), ctx.stamp)
        return Found(
            read.write(), read.write() | known | {"inStep": in_step} | found_by(held, ctx.stamp, imported=False)
        )

    def delete(self, ctx: Context, id_: str, inputs: Properties, outputs: Properties) -> None:
        wanted = TrafficRouteInputs.read(inputs)
        gateways, name = Gateways(ClusterApi.of(wanted)), gateway_api.object_name(wanted.group)
        for kind in KINDS:
            found = gateways.route(kind, wanted.namespace, name)
            if found is None or gateway_api.owner_of(found) not in ("", wanted.owner):
                continue
            if is_anothers(gateway_api.held_by(found), ctx.stamp):
                ctx.info(stays(f"{kind.kind} {wanted.namespace}/{name}"))
            else:
                gateways.delete(kind, wanted.namespace, name)

    # ---- steps -----------------------------------------------------------------------------------------------------

    def _apply(self, ctx: Context, wanted: TrafficRouteInputs) -> Properties:
        gateways, name = Gateways(ClusterApi.of(wanted)), gateway_api.object_name(wanted.group)
        id_ = f"{wanted.namespace}/{wanted.group}"
        gateways.check(_kinds(wanted))
        gateway = gateways.gateway(wanted.gateway)
        existing = self._refuse_others(gateways, wanted)
        outputs = _outputs(wanted, gateway)
        for kind in KINDS:
            if kind in _kinds(wanted):
                manifest = gateway_api.manifest(
                    kind, name, wanted.namespace, wanted.owner, _route(kind, wanted), ctx.stamp
                )
                gateways.put(kind, manifest, exists=existing[kind] is not None)
                ctx.record(id_, outputs)
            elif existing[kind] is not None:
                gateways.delete(kind, wanted.namespace, name)
        for kind in _kinds(wanted):
            self._wait_accepted(ctx, gateways, kind, wanted)
        return _outputs(wanted, gateways.gateway(wanted.gateway))

    def _wait_accepted(self, ctx: Context, gateways: Gateways, kind: RouteKind, wanted: TrafficRouteInputs) -> None:
        """Raises TrafficError where no gateway routes by it in time."""
        name, told = gateway_api.object_name(wanted.group), ""
        for _ in ctx.poll(_ACCEPT_SECONDS):
            found = gateways.route(kind, wanted.namespace, name) or {}
            told = gateway_api.pending(found)
            if not told:
                return
            if gateway_api.refusal(found):
                break
            ctx.status(f"{wanted.group}: {told}")
        raise TrafficError(
            f"no gateway routes by {kind.kind} {wanted.namespace}/{name}: {told}. Fix: look at Gateway "
            f"{wanted.gateway}: its class needs a controller that runs, and its listeners have to allow routes of "
            f"namespace {wanted.namespace}; then run the update again"
        )

    def _refuse_others(
        self, gateways: Gateways, wanted: TrafficRouteInputs
    ) -> dict[RouteKind, Mapping[str, Any] | None]:
        """The routes of that name; raises OwnershipError where they are somebody else's."""
        name = gateway_api.object_name(wanted.group)
        found = {kind: gateways.route(kind, wanted.namespace, name) for kind in KINDS}
        for kind, each in found.items():
            if each is not None and (owner := gateway_api.owner_of(each)) != wanted.owner:
                whose = f"belongs to {owner}" if owner else "was not made by this project"
                raise OwnershipError(
                    f"{kind.kind} {wanted.namespace}/{name} exists already and {whose}. "
                    "Fix: choose another name for the group"
                )
        return found


def _held(routes: Iterable[Mapping[str, Any] | None], stamp: str) -> str:
    """The create that holds routes: another one than that of ``stamp`` where it holds one of them."""
    held = [gateway_api.held_by(each) for each in routes if each is not None]
    return next((each for each in held if is_anothers(each, stamp)), stamp)


def _kinds(wanted: TrafficRouteInputs) -> tuple[RouteKind, ...]:
    asked = ((HTTP_ROUTE, wanted.hostname), (GRPC_ROUTE, wanted.grpc_hostname))
    return tuple(kind for kind, hostname in asked if hostname)


def _route(kind: RouteKind, wanted: TrafficRouteInputs) -> Route:
    hostname = wanted.hostname if kind == HTTP_ROUTE else wanted.grpc_hostname
    return Route(wanted.gateway, hostname or "", wanted.weights, _pure(wanted.mirror))


def _pure(mirror: Mirror | None) -> traffic.Mirror | None:
    return traffic.Mirror(mirror.to, mirror.percent) if mirror else None


def _outputs(wanted: TrafficRouteInputs, gateway: Mapping[str, Any]) -> Properties:
    address, port, tls = gateway_api.address(gateway)
    usual = 443 if tls else 80
    url = f"{'https' if tls else 'http'}://{wanted.hostname}{'' if port == usual else f':{port}'}"
    target = f"{wanted.grpc_hostname}:{port}"
    return wanted.write() | {
        "url": url if wanted.hostname else "",
        "target": target if wanted.grpc_hostname else "",
        "address": address,
        "inStep": True,
    }
