"""Shares of a service group's requests: what is there, what is wanted, and the writes in between. Pure.

A group on PAI-EAS has one address in front of several services, its members. Each member has a weight (ReleaseService,
-1 to 1000) and a traffic state, ``standalone`` or ``grouping``; only the latter gets requests of the group. The traffic
mode ``auto`` shares by replica count and ``customized`` by weight (UpdateGroup). A mirror is a setting of each single
service (CreateServiceMirror). Source: EAS OpenAPI 2021-07-01.

Each write is one call of that API, and the run may end after any of them. So at no time may the writes done so far send
a member more than the greater of its old and its new share, or leave nobody to answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

WHOLE = 100
"""Percent that the weights of a group add up to."""

GROUPING = "grouping"
STANDALONE = "standalone"
CUSTOMIZED = "customized"
AUTO = "auto"


@dataclass(frozen=True)
class Mirror:
    """Shadow traffic.

    Attributes:
        to: the service that gets copies of requests; nobody waits for its answers.
        percent: share of the requests, 1 to 100.
    """

    to: str
    percent: int


@dataclass(frozen=True)
class Split:
    """How requests are to be shared.

    Attributes:
        weights: percent by member; they add up to :data:`WHOLE`.
        mirror: ``None`` for no copies.
    """

    weights: Mapping[str, int]
    mirror: Mirror | None = None


@dataclass(frozen=True)
class Member:
    """A service that is in the group.

    Attributes:
        weight: as the API has it.
        grouping: whether it takes requests of the group.
        replicas: how many run: what ``auto`` shares by.
        mirror: where copies of its requests go.
    """

    weight: int = 0
    grouping: bool = False
    replicas: int = 1
    mirror: Mirror | None = None


@dataclass(frozen=True)
class Found:
    """How requests are shared now.

    Attributes:
        members: every service in the group, by name.
        customized: shared by weight, not by replica count.
    """

    members: Mapping[str, Member] = field(default_factory=dict)
    customized: bool = False

    @property
    def effective(self) -> dict[str, int]:
        """The weight in force of each member that takes requests; such a weight may be 0."""
        return {
            name: max(member.weight, 0) if self.customized else member.replicas
            for name, member in self.members.items()
            if member.grouping
        }

    @property
    def percent(self) -> dict[str, int]:
        """The same in percent, rounded so that they add up to :data:`WHOLE`; all 0 where nobody gets any."""
        return in_percent(self.effective)


@dataclass(frozen=True)
class SetMode:
    """UpdateGroup: share by weight."""


@dataclass(frozen=True)
class Release:
    """ReleaseService: the weight and the traffic state of one member, in one call."""

    service: str
    weight: int
    grouping: bool = True


@dataclass(frozen=True)
class SetMirror:
    """CreateServiceMirror, or UpdateServiceMirror where the service has one; ``None`` is DeleteServiceMirror."""

    service: str
    mirror: Mirror | None
    exists: bool = False


Write = SetMode | Release | SetMirror


def plan(found: Found, wanted: Split) -> list[Write]:
    """The writes from ``found`` to ``wanted``, in order; none where there is nothing to do.

    Members that ``wanted`` does not name are sent nothing any more, and leave once they have no weight. Names that
    ``found`` lacks cannot be given anything: the caller refuses them.
    """
    if not found.members:
        return []
    return [*_drop_mirrors(found, wanted), *_weights(found, wanted.weights), *_set_mirrors(found, wanted)]


def close(found: Found) -> list[Write]:
    """The writes after which the group sends nothing to anybody, and no request is copied any more."""
    writes: list[Write] = [SetMirror(name, None, True) for name, m in sorted(found.members.items()) if m.mirror]
    taking = sorted(name for name, member in found.members.items() if member.grouping)
    return [*writes, *(Release(name, 0, grouping=False) for name in taking)]


def after(found: Found, write: Write) -> Found:
    """What is there once a write was done."""
    if isinstance(write, SetMode):
        return Found(found.members, customized=True)
    member = found.members[write.service]
    if isinstance(write, SetMirror):
        changed = Member(member.weight, member.grouping, member.replicas, write.mirror)
    else:
        changed = Member(write.weight, write.grouping, member.replicas, member.mirror)
    return Found({**found.members, write.service: changed}, found.customized)


def faults(group: str, weights: Mapping[str, int], mirror: Mirror | None) -> Iterator[tuple[str, str]]:
    """What is wrong with wanted shares: where, and why."""
    if group in weights:
        yield "group", f"{group!r} is also a member; a group has a name of its own"
    wrong = {name: weight for name, weight in weights.items() if not 0 <= weight <= WHOLE}
    for name, weight in wrong.items():
        yield f"weights.{name}", f"{weight} is not a share in percent, 0 to {WHOLE}"
    total = sum(weights.values())
    if not wrong and total != WHOLE:
        yield "weights", f"the shares add up to {total}, not to {WHOLE} percent"
    if mirror and not 1 <= mirror.percent <= WHOLE:
        yield "mirror.percent", f"{mirror.percent} is not a share in percent, 1 to {WHOLE}"
    if mirror and mirror.to in weights:
        yield "mirror.to", f"{mirror.to} is a member of the group; copies go to another service"


def shares(weights: Mapping[str, int]) -> dict[str, float]:
    """The share of each name, 0 to 1; all 0 where the weights are."""
    total = sum(weights.values())
    return {name: weight / total if total else 0.0 for name, weight in weights.items()}


def in_percent(weights: Mapping[str, int]) -> dict[str, int]:
    """Weights in whole percent that add up to :data:`WHOLE` (largest remainders); all 0 where the weights are."""
    exact = {name: share * WHOLE for name, share in shares(weights).items()}
    rounded = {name: int(value) for name, value in exact.items()}
    left = WHOLE - sum(rounded.values()) if sum(weights.values()) else 0
    for name in sorted(exact, key=lambda name: (rounded[name] - exact[name], name))[:left]:
        rounded[name] += 1
    return rounded


def changes(group: str, before: Mapping[str, int], wanted: Mapping[str, int]) -> list[str]:
    """What a preview says of a change of weights, a line for each member by name.

    Such as ``vision: vision_canary 10 % -> 50 %``.
    """
    lines = []
    for name in sorted({*before, *wanted}):  # properties come in no order
        old, new = before.get(name), wanted.get(name)
        if old is None:
            lines.append(f"{group}: {name} joins with {new} %")
        elif new is None:
            lines.append(f"{group}: {name} {old} % -> leaves")
        elif old != new:
            lines.append(f"{group}: {name} {old} % -> {new} %")
    return lines


def mirror_change(group: str, before: Mirror | None, wanted: Mirror | None) -> list[str]:
    """What a preview says of a change of the mirror; nothing without one."""
    if before == wanted:
        return []
    told = [f"{each.percent} % to {each.to}" if each else "none" for each in (before, wanted)]
    return [f"{group}: copies of requests: {told[0]} -> {told[1]}"]


def _weights(found: Found, wanted: Mapping[str, int]) -> Iterator[Write]:
    now = found
    if not found.customized:
        # Weights count for nothing yet. Those who take requests get theirs first, so that the switch finds them set.
        taking = [name for name, member in found.members.items() if member.grouping]
        stays = any(wanted.get(name, 0) for name in taking)
        for name, member in found.members.items():
            weight = wanted.get(name, 0)
            joins = weight > 0 and taking and not stays  # somebody has to answer after the switch
            if (member.grouping and member.weight != weight) or (joins and not member.grouping):
                yield (write := Release(name, weight))
                now = after(now, write)
        yield (mode := SetMode())
        now = after(now, mode)
    while (step := _next_weight(now, wanted)) is not None:
        yield step
        now = after(now, step)
    for name, member in sorted(now.members.items()):
        if name not in wanted and (member.grouping or member.weight > 0):
            yield Release(name, 0, grouping=False)


def _next_weight(now: Found, wanted: Mapping[str, int]) -> Release | None:
    """The next weight to write: raises before lowerings, and of those the one that sends nobody too much."""
    current = {name: max(m.weight, 0) if m.grouping else 0 for name, m in now.members.items()}
    target = {name: wanted.get(name, 0) for name in now.members}
    allowed = {name: max(share, target[name] / WHOLE) for name, share in shares(current).items()}

    def excess(name: str) -> float:
        then = shares({**current, name: target[name]})
        return max((share - allowed[other] for other, share in then.items()), default=0.0)

    raises = [name for name in target if target[name] > current[name]]
    lowers = [name for name in target if target[name] < current[name]]
    for names in (raises, lowers):
        if names:
            name = min(names, key=lambda name: (excess(name), -target[name], name))
            return Release(name, target[name])
    # Named, and with no request to get: it is in the group all the same, as found in the next look.
    silent = [n for n in sorted(wanted) if n in now.members and (not now.members[n].grouping or _is_unset(now, n))]
    return Release(silent[0], wanted[silent[0]]) if silent else None


def _is_unset(now: Found, name: str) -> bool:
    return now.members[name].weight < 0


def _drop_mirrors(found: Found, wanted: Split) -> Iterator[Write]:
    for name, member in sorted(found.members.items()):
        if member.mirror and (wanted.mirror is None or name not in wanted.weights):
            yield SetMirror(name, None, True)


def _set_mirrors(found: Found, wanted: Split) -> Iterator[Write]:
    for name in sorted(wanted.weights):
        member = found.members.get(name)
        if wanted.mirror and member is not None and member.mirror != wanted.mirror:
            yield SetMirror(name, wanted.mirror, member.mirror is not None)
