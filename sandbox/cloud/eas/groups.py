"""Service groups: one address and one token in front of several services, which share its requests by weight.

What is known of the real ones (Alibaba Cloud's page "Service groups and traffic management", API reference of
``UpdateGroup``, ``ReleaseService`` and ``struct Group``): a group comes with the first service whose ``metadata.group``
names it and goes with its last one; a service that has joined gets none of its requests until its traffic state is
``grouping``; ``auto`` shares by replica count, ``customized`` by weight. The sandbox's own choices, as no page says
it: requests are dealt out as from a shuffled deck, a member without a ready instance is passed over, the weight -1
counts as 0, and the group speaks the protocol of its oldest member.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sandbox.cloud.eas import service_json
from sandbox.cloud.eas.deployment import Deployment
from sandbox.cloud.eas.records import RecordStore, key_of
from sandbox.cloud.eas.service_json import invalid
from sandbox.cloud.errors import ApiError
from sandbox.turns import Turns

log = logging.getLogger("sandbox.cloud.eas")

TRAFFIC_MODES = ("auto", "customized")


@dataclass(frozen=True)
class GroupRecord:
    """Everything durable about one group besides its members. Change it with :func:`dataclasses.replace`.

    Attributes:
        name: group name.
        region: where it is; empty where its first member's maker did not say.
        token: what the ``Authorization`` header of a request to it must carry.
        created: seconds since the epoch.
        updated: likewise.
        traffic_mode: ``auto`` or ``customized``.
        own_port: loopback port of its own, for members at the root path; 0 if it never had one.
    """

    name: str
    region: str
    token: str = field(repr=False)
    created: float
    updated: float
    traffic_mode: str = "auto"
    own_port: int = 0

    @property
    def key(self) -> str:
        """What no other group has, of any region: in URLs and for files."""
        return key_of(self.region, self.name)


class Group:
    """A group that exists: what the gateway asks of it.

    Attributes:
        record: what is stored. Change it by :meth:`change` only.
    """

    def __init__(
        self, record: GroupRecord, store: RecordStore[GroupRecord], members: Callable[[], list[Deployment]]
    ) -> None:
        """Args:
        record: already stored.
        members: the services in the group now, oldest first.
        """
        self.record = record
        self._store = store
        self._members = members
        self._turns = Turns()

    @property
    def members(self) -> list[Deployment]:
        """The services in the group now, oldest first."""
        return self._members()

    # What the gateway asks: see :class:`sandbox.cloud.eas.gateway.Entry`.

    @property
    def identity(self) -> str:
        return f"group {self.record.key}"

    @property
    def title(self) -> str:
        return f"service group {self.record.name}"

    @property
    def route(self) -> str:
        return self.record.key

    @property
    def token(self) -> str:
        return self.record.token

    @property
    def own_port(self) -> int:
        return self.record.own_port

    @property
    def grpc(self) -> bool:
        return any(member.grpc for member in self.members[:1])

    @property
    def is_root(self) -> bool:
        return any(member.is_root for member in self.members[:1])

    def choose(self, tried: set[str]) -> Deployment | None:
        """The member that is to answer the next request, leaving out those already tried; None without one.

        A member that has no ready instance gets its turn only where no other has one either.
        """
        found = {d.record.key: d for d in self.members if d.record.key not in tried and d.grpc == self.grpc}
        weights = {key: self.weight(deployment) for key, deployment in found.items()}
        weights = {key: weight for key, weight in weights.items() if weight > 0}
        weights = {key: weight for key, weight in weights.items() if found[key].is_open} or weights
        return found[self._turns.next(weights)] if weights else None

    def weight(self, member: Deployment) -> int:
        """The weight in force of a member."""
        if member.record.traffic_state != "grouping" or member.record.desired != "running":
            return 0
        if self.record.traffic_mode == "auto":
            return sum(instance.ready for instance in member.live)
        return max(member.record.weight, 0)

    def change(self, **fields: Any) -> None:
        """Stores a changed record.

        Raises:
            OSError: the disk is full; nothing has changed.
        """
        record = dataclasses.replace(self.record, updated=time.time(), **fields)
        self._store.save(record)
        self.record = record

    def move_to_port(self, port: int) -> None:
        """Gives the group another port of its own, because its old one is taken."""
        log.warning("%s: port %d is taken by another program; it is now at port %d", self.title, self.own_port, port)
        try:
            self.change(own_port=port)
        except OSError as error:
            log.error("cannot store the new port of %s: %s", self.title, error)
            self.record = dataclasses.replace(self.record, own_port=port)


class Groups:
    """The groups of a sandbox cloud."""

    def __init__(self, directory: Path, deployments: Callable[[], Iterable[Deployment]]) -> None:
        """Args:
        directory: where their records lie.
        deployments: every service.
        """
        self._store = RecordStore(directory, lambda document: GroupRecord(**document), "group")
        self._deployments = deployments
        self._groups: dict[str, Group] = {}

    def load(self) -> None:
        """Brings back the stored groups that have members."""
        for record in self._store.load():
            self._groups[record.key] = self._group(record)
        for group in self.all():
            self.forget_if_empty(group)

    def all(self) -> list[Group]:
        """Every group, by name."""
        return [self._groups[key] for key in sorted(self._groups)]

    def find(self, route: str) -> Group | None:
        """The group of a key; a name alone will do where one region has it."""
        named = [group for group in self._groups.values() if group.record.name == route]
        return self._groups.get(route) or (named[0] if len(named) == 1 else None)

    def get(self, name: str, region: str) -> Group:
        """The group of a name in a region.

        Raises:
            ApiError: 404 ``InvalidGroup.NotFound``.
        """
        group = self._groups.get(key_of(region, name)) or self._groups.get(name)
        if group is None or region not in ("", group.record.region or region):
            raise ApiError(404, "InvalidGroup.NotFound", f"The specified service group [{name}] is not found.")
        return group

    def of(self, deployment: Deployment) -> Group | None:
        """The group a service is in."""
        name = service_json.group(deployment.record.config)
        return self._groups.get(key_of(deployment.record.region, name)) if name else None

    def make(self, name: str, region: str, token: str, port: int) -> Group:
        """Makes the group of a service that is about to be created, unless it is there.

        Args:
            port: for groups whose first member is at the root path; else 0.

        Raises:
            OSError: the disk is full.
        """
        key = key_of(region, name)
        if (group := self._groups.get(key)) is None:
            now = time.time()
            record = GroupRecord(name, region, token, now, now, own_port=port)
            self._store.save(record)
            group = self._groups[key] = self._group(record)
        return group

    def forget_if_empty(self, group: Group) -> bool:
        """Ends a group that has no members left."""
        if group.members:
            return False
        del self._groups[group.record.key]
        self._store.delete(group.record)
        return True

    def _group(self, record: GroupRecord) -> Group:
        def members() -> list[Deployment]:
            found = [
                d
                for d in self._deployments()
                if service_json.group(d.record.config) == record.name and d.record.region == record.region
            ]
            return sorted(found, key=lambda d: (d.record.created, d.record.name))

        return Group(record, self._store, members)


def traffic_mode(body: Mapping[str, Any]) -> str:
    """Checks the body of UpdateGroup.

    Raises:
        ApiError: 400 ``InvalidParameter``.
    """
    mode = body.get("TrafficMode")
    if mode not in TRAFFIC_MODES:
        raise invalid(f"TrafficMode {mode!r} is neither auto nor customized.")
    return str(mode)


def mirror(body: Mapping[str, Any]) -> dict[str, Any]:
    """Checks the body of CreateServiceMirror or UpdateServiceMirror.

    Raises:
        ApiError: 400 ``InvalidParameter``.
    """
    ratio, target = body.get("Ratio"), body.get("Target")
    if not isinstance(ratio, int) or isinstance(ratio, bool) or not 0 <= ratio <= 100:
        raise invalid(f"Ratio {ratio!r} is not a whole number of 0 to 100.")
    if not isinstance(target, list) or not target or not all(isinstance(name, str) and name for name in target):
        raise invalid("Target must be a non-empty list of service names.")
    return {"Ratio": ratio, "Target": list(target)}
