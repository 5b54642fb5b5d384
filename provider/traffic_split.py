"""How the requests of a service group are shared: weights, and copies for a shadow.

The group itself comes and goes with its members (``metadata.group`` of a service's JSON). Here are the shares: written
one call at a time in the order of :mod:`tfserving.traffic`, none of which restarts anything, and looked at afterwards.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from provider import clients
from provider.claims import STAMP, found_by, is_anothers, stays
from provider.eas.labels import OWNER_LABEL
from provider.eas.spec import address_of
from provider.group_calls import TRAFFIC_LABEL, ServiceGroup
from provider.properties import Change
from provider.resource import Context, Diff, Failure, Found, Resource
from tfserving import traffic
from tfserving.contract import TRAFFIC_SPLIT
from tfserving.contract.serving import Protocol
from tfserving.contract.traffic import Mirror, TrafficSplitInputs, TrafficSplitOutputs
from tfserving.errors import CloudError, OwnershipError, TrafficError
from tfserving.property_values import UNKNOWN, Properties, Secret, has_unknown, plain

NAME = re.compile(r"[a-z0-9_]{3,63}")
_SETTLE_SECONDS = 60.0
_SERVING = frozenset({"Running", "Updating", "Scaling", "HotUpdate"})


class TrafficSplit(Resource):
    """The shares of one service group."""

    contract = TRAFFIC_SPLIT
    refresh_before_update = True
    default_seconds = 600.0

    # ---- without the cloud -----------------------------------------------------------------------------------------

    def check(self, olds: Properties, news: Properties) -> tuple[Properties, list[Failure]]:
        # Whoever looks at the inputs alone, such as a policy, sees how far a share moves.
        return super().check(olds, {**news, "before": TrafficSplitInputs.read(olds).weights})

    def validate(self, inputs: Properties) -> Iterable[Failure]:
        if has_unknown(inputs):
            return
        wanted = TrafficSplitInputs.read(inputs)
        if not NAME.fullmatch(wanted.group):
            yield Failure("group", f"{wanted.group!r} is not a group name: 3 to 63 lower-case letters, digits and _")
        for path, reason in traffic.faults(wanted.group, wanted.weights, _pure(wanted.mirror)):
            yield Failure(path, reason)

    def diff(self, old_inputs: Properties, old_outputs: Properties, news: Properties) -> Diff:
        diff = super().diff(old_inputs, old_outputs, news)
        if plain(old_outputs.get("trafficMode")) == traffic.AUTO:
            diff.changes["trafficMode",] = (Change.UPDATE, False)
        if TrafficSplitOutputs.read(old_outputs).taken:
            diff.changes[STAMP,] = (Change.UPDATE, False)
        return diff

    def preview(
        self, ctx: Context, inputs: Properties, old_inputs: Properties | None, old_outputs: Properties | None
    ) -> Properties:
        unknown = {"url": UNKNOWN, "target": UNKNOWN, "token": Secret(UNKNOWN)}
        kept = {name: old_outputs[name] for name in unknown if name in old_outputs} if old_outputs else {}
        if has_unknown(inputs):
            return inputs | unknown | kept | {"mirrors": UNKNOWN, "trafficMode": UNKNOWN}
        wanted = TrafficSplitInputs.read(inputs)
        before = self._before(ctx, wanted, old_inputs)
        told = traffic.changes(wanted.group, before.weights, wanted.weights)
        for line in (*told, *traffic.mirror_change(wanted.group, _pure(before.mirror), _pure(wanted.mirror))):
            ctx.info(line)
        mirrors = dict.fromkeys(wanted.weights, wanted.mirror) if wanted.mirror else {}
        return inputs | unknown | kept | _as_outputs(wanted, mirrors, traffic.CUSTOMIZED)

    def _before(self, ctx: Context, wanted: TrafficSplitInputs, old_inputs: Properties | None) -> TrafficSplitInputs:
        """The shares that a preview compares with.

        Raises:
            OwnershipError: somebody else's services take part.
            CloudError: there are no credentials.
        """
        try:
            now = _look(ctx, wanted.group, wanted.owner)
        except clients.NoCredentialsError:
            raise
        except CloudError as error:
            ctx.info(f"it is not known yet whether service group {wanted.group} exists already: {error}")
            now = None
        if now is not None:
            now.refuse_others(wanted)
        if old_inputs is not None:
            return TrafficSplitInputs.read(old_inputs)
        weights = now.shares.percent if now else {}
        return TrafficSplitInputs(group=wanted.group, owner=wanted.owner, weights=weights)

    # ---- with the cloud --------------------------------------------------------------------------------------------

    def create(self, ctx: Context, inputs: Properties) -> tuple[str, Properties]:
        wanted = TrafficSplitInputs.read(inputs)
        return wanted.group, self._apply(ctx, wanted, takes_over=True)

    def read(self, ctx: Context, id_: str, inputs: Properties | None, outputs: Properties) -> Found | None:
        declared = TrafficSplitInputs.read(inputs) if inputs is not None else None
        now = _look(ctx, id_, declared.owner if declared else "")
        if now is None:
            return None
        found = now.inputs(declared)
        held = found_by(now.held_by(ctx.stamp), ctx.stamp, imported=declared is None)
        return Found(found.write(), now.outputs(found) | held)

    def update(
        self, ctx: Context, id_: str, old_inputs: Properties, old_outputs: Properties, news: Properties
    ) -> Properties:
        return self._apply(ctx, TrafficSplitInputs.read(news))

    def delete(self, ctx: Context, id_: str, inputs: Properties, outputs: Properties) -> None:
        now = _look(ctx, id_, TrafficSplitInputs.read(inputs).owner)
        if now is None:
            return
        if is_anothers(now.held_by(ctx.stamp), ctx.stamp):
            ctx.info(stays(f"service group {id_} with its shares"))
            return
        for write in traffic.close(now.shares):
            ctx.check()
            try:
                _do(ctx, id_, write)
            except CloudError as error:
                if not clients.is_not_found(error):  # a member that went in between takes nothing any more
                    raise

    # ---- steps -----------------------------------------------------------------------------------------------------

    def _apply(self, ctx: Context, wanted: TrafficSplitInputs, *, takes_over: bool = False) -> Properties:
        """Writes what differs, one call at a time, and looks until nothing does.

        Before the first share, the members say which create holds them: of a run that ends in between, nobody closes
        what this one has set.
        """
        split = traffic.Split(wanted.weights, _pure(wanted.mirror))
        shown: Mapping[str, int] = {}
        for _ in ctx.poll(_SETTLE_SECONDS):
            now = _look(ctx, wanted.group, wanted.owner)
            if now is None:
                raise TrafficError(f"there is no service group {wanted.group}, so it has no members: deploy them first")
            now.refuse_others(wanted)
            now.refuse_unready(wanted)
            for name in now.held_by_others(wanted, ctx.stamp, unsaid=takes_over):
                ctx.check()
                ctx.clients.eas.set_label(name, TRAFFIC_LABEL, ctx.stamp)
            shown = now.shares.percent
            ctx.record(wanted.group, now.outputs(now.inputs(wanted)))
            writes = traffic.plan(now.shares, split)
            if not writes:
                return now.outputs(wanted)
            for write in writes:
                ctx.check()
                _do(ctx, wanted.group, write)
        raise TrafficError(
            f"service group {wanted.group}: the shares that were written do not show after {_SETTLE_SECONDS:g} s: "
            f"{dict(shown)}. Fix: run the update again, which goes on from there"
        )


@dataclass(frozen=True)
class _Group:
    """A group as it is.

    Attributes:
        group: its address, token and mode.
        services: its members by name.
        shares: who gets what.
    """

    group: ServiceGroup
    services: Mapping[str, clients.DescribedService]
    shares: traffic.Found

    def held_by(self, stamp: str) -> str:
        """The create that holds the shares, by the members that get requests; empty where they do not say.

        Another one than that of ``stamp`` where it holds one of them: members that left the group say what they said.
        """
        taking = [self.services[name] for name, each in self.shares.members.items() if each.grouping]
        held = sorted({each.labels.get(TRAFFIC_LABEL, "") for each in taking})
        return next((each for each in held if is_anothers(each, stamp)), stamp if stamp in held else "")

    def held_by_others(self, wanted: TrafficSplitInputs, stamp: str, *, unsaid: bool) -> list[str]:
        """The wanted members that another create holds; with ``unsaid`` also those that do not say."""
        held = {
            name: self.services[name].labels.get(TRAFFIC_LABEL, "")
            for name in sorted(wanted.weights)
            if name in self.services
        }
        return [name for name, each in held.items() if each != stamp and (each or unsaid)]

    def refuse_others(self, wanted: TrafficSplitInputs) -> None:
        """Raises OwnershipError where services of somebody else are members."""
        others = {
            name: each.labels.get(OWNER_LABEL, "")
            for name, each in self.services.items()
            if each.labels.get(OWNER_LABEL, "") not in ("", wanted.owner)
        }
        if others:
            listed = ", ".join(f"{name} ({owner})" for name, owner in sorted(others.items()))
            raise OwnershipError(
                f"service group {wanted.group} has members of another stack: {listed}. "
                "Fix: choose another name for the group"
            )

    def refuse_unready(self, wanted: TrafficSplitInputs) -> None:
        """Raises TrafficError where a member that is to get more requests is not there, or does not serve."""
        now = self.shares.percent
        for name, weight in wanted.weights.items():
            service = self.services.get(name)
            if service is None:
                raise TrafficError(
                    f"service {name} is not in group {wanted.group}, which a service joins when it is made. "
                    "Fix: run `pulumi refresh`, then the update again"
                )
            if weight > now.get(name, 0) and (service.status not in _SERVING or not service.running):
                raise TrafficError(
                    f"service {name} is {service.status} with {service.running} replicas, so its share stays "
                    f"{now.get(name, 0)} % and does not become {weight} %. Fix: get it running, or give its share to "
                    "another member"
                )

    def inputs(self, declared: TrafficSplitInputs | None) -> TrafficSplitInputs:
        """The inputs that describe it; of an import nothing is declared."""
        members = [name for name in (declared.weights if declared else self.shares.percent) if name in self.services]
        wanted = _pure(declared.mirror) if declared else None
        mirrors = [self.shares.members[name].mirror for name in members]
        other = [each for each in mirrors if each != wanted]
        mirror = other[0] if other else wanted
        owners = sorted({each.labels.get(OWNER_LABEL, "") for each in self.services.values()})
        configs = [each.config.get("metadata") or {} for each in self.services.values()]
        grpc = any(config.get("enable_grpc") for config in configs[:1])
        return TrafficSplitInputs(
            group=self.group.name,
            owner=declared.owner if declared else owners[0] if owners else "",
            weights=self.shares.percent,
            mirror=Mirror(to=mirror.to, percent=mirror.percent) if mirror else None,
            protocol=declared.protocol if declared else Protocol.GRPC if grpc else Protocol.HTTP,
            gated=declared.gated if declared else (),
            before=declared.before if declared else None,
        )

    def outputs(self, inputs: TrafficSplitInputs) -> Properties:
        """The outputs, with weights and mirrors as they are."""
        mirrors = {name: m.mirror for name, m in self.shares.members.items() if m.mirror}
        url, target = address_of(self.group, grpc=inputs.protocol == Protocol.GRPC)
        mode = traffic.CUSTOMIZED if self.shares.customized else traffic.AUTO
        found = _as_outputs(inputs, {name: Mirror(to=m.to, percent=m.percent) for name, m in mirrors.items()}, mode)
        found |= {"weights": dict(self.shares.percent)}
        return inputs.write() | found | {"url": url, "target": target, "token": Secret(self.group.token)}


def _look(ctx: Context, name: str, owner: str) -> _Group | None:
    """A group with its members and their shares; None where there is none."""
    api = ctx.clients.eas
    group = api.group(name)
    if group is None:
        return None
    services = {each.name: each for each in api.members(name) if each.status != "Deleting"}
    members = {
        each.name: traffic.Member(
            each.weight or 0, each.traffic == traffic.GROUPING, each.running, api.mirror(each.name)
        )
        for each in services.values()
    }
    return _Group(group, services, traffic.Found(members, group.mode == traffic.CUSTOMIZED))


def _do(ctx: Context, group: str, write: traffic.Write) -> None:
    api = ctx.clients.eas
    match write:
        case traffic.SetMode():
            ctx.status(f"{group}: sharing by weight")
            api.set_traffic_mode(group, traffic.CUSTOMIZED)
        case traffic.Release(service, weight, grouping):
            ctx.status(f"{group}: {service} gets weight {weight}" if grouping else f"{group}: {service} leaves")
            api.release(service, weight, grouping=grouping)
        case traffic.SetMirror(service, None):
            api.delete_mirror(service)
        case traffic.SetMirror(service, mirror, exists) if mirror:
            api.set_mirror(service, mirror, exists=exists)


def _pure(mirror: Mirror | None) -> traffic.Mirror | None:
    return traffic.Mirror(mirror.to, mirror.percent) if mirror else None


def _as_outputs(inputs: TrafficSplitInputs, mirrors: Mapping[str, Mirror], mode: str) -> dict[str, Any]:
    written = {name: each.write() for name, each in mirrors.items()}
    return {"weights": dict(inputs.weights), "mirrors": written, "trafficMode": mode}
