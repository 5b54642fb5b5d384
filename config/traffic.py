"""How requests are shared among services of a stack, and copied for a shadow (``tf-serving:traffic``)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from config.kubernetes import AckServiceSettings, KubernetesSettings
from config.loading import AnyService
from config.option_reader import read_plain
from config.reader import Reader
from config.services import ServiceSettings
from config.stack_config import NAMESPACE, StackConfig
from tfserving import eas_spec
from tfserving.kubernetes.names import is_subdomain
from tfserving.model_config import did_you_mean
from tfserving.options import keys, option
from tfserving.property_path import join_path
from tfserving.traffic import WHOLE, Mirror

_NAME = re.compile(r"[a-z][a-z0-9_]{2,62}")
_ALLOWED_NAME = "3 to 63 lower-case letters, digits and _, a letter first"


@dataclass(frozen=True, kw_only=True)
class MirrorOptions:
    """Shadow traffic.

    Attributes:
        to: a service of this stack that gets copies of requests. Nobody waits for its answers, and what it answers
            reaches nobody. It is no member of the group.
        percent: share of the requests that is copied, at most 100.
    """

    to: str = option()
    percent: int = option(least=1)


@dataclass(frozen=True, kw_only=True)
class TrafficOptions:
    """An entry of ``tf-serving:traffic``.

    Attributes:
        weights: percent of the requests by service; they add up to 100. Services of one protocol that answer for the
            same models, all on PAI-EAS or all on Kubernetes.
        mirror: copies of requests for a further service.
        hostname: on Kubernetes: the host name by which clients ask over HTTP; DNS gives the gateway's address for it.
        grpc_hostname: on Kubernetes: the host name for gRPC, another one.
    """

    weights: Mapping[str, int] = option()
    mirror: MirrorOptions | None = None
    hostname: str = ""
    grpc_hostname: str = ""


@dataclass(frozen=True, kw_only=True)
class TrafficSettings:
    """A group of services that share requests.

    Attributes:
        name: of the group, which has an address of its own.
        weights: percent by service; they add up to 100.
        mirror: ``None`` for no copies.
        target: where the services run.
        protocol: what is asked for first; on Kubernetes services speak both.
        hostname: on Kubernetes, for HTTP; empty for none.
        grpc_hostname: on Kubernetes, for gRPC; empty for none.
        gateway: on Kubernetes: ``namespace/name`` of the Gateway.
        namespace: on Kubernetes: of the services.
    """

    name: str
    weights: Mapping[str, int]
    mirror: Mirror | None
    target: Literal["eas", "ack"]
    protocol: Literal["http", "grpc"]
    hostname: str = ""
    grpc_hostname: str = ""
    gateway: str = ""
    namespace: str = ""


def read_traffic(
    stack: StackConfig,
    services: Sequence[ServiceSettings],
    ack_services: Sequence[AckServiceSettings],
    models: Sequence[str],
    cluster: KubernetesSettings | None = None,
) -> tuple[TrafficSettings, ...]:
    """Reads and checks ``tf-serving:traffic``.

    Args:
        stack: takes the problems.
        services: the services on PAI-EAS.
        ack_services: the services on the cluster.
        models: names of the models that services with the config file answer for.
        cluster: where the latter are.
    """
    path = f"{NAMESPACE}:traffic"
    reader = stack.reader(path)
    given = reader.mapping(stack.raw.get(path), path, allowed="names of groups, each with weights")
    everywhere: list[AnyService] = [*services, *ack_services]
    known = {each.name: each for each in everywhere}
    taken: dict[str, str] = {}
    found = []
    for name, entry in given.items():
        at = join_path(path, name)
        settings = read_group(reader, name, at, entry, known, models, cluster)
        for member in settings.weights:
            where = join_path(join_path(at, "weights"), member)
            if member in taken:
                reader.add(where, f"{member} is in group {taken[member]} already", fix="keep it in one of them")
            taken.setdefault(member, name)
        found.append(settings)
    return tuple(found)


def read_group(
    reader: Reader,
    name: str,
    path: str,
    entry: Any,
    known: Mapping[str, AnyService],
    models: Sequence[str],
    cluster: KubernetesSettings | None = None,
) -> TrafficSettings:
    """Reads and checks one group.

    Args:
        reader: takes the problems.
        name: of the group.
        path: where it stands.
        entry: its weights and mirror.
        known: the services it can be made of, by name.
        models: names of the models that services with the config file answer for.
        cluster: where those on Kubernetes are.
    """
    check_name(reader, name, path)
    if name in known:
        reader.add(path, f"{name} is a service; a group has an address of its own", fix="give the group another name")
    return _Group(reader, name, path, known, models, cluster).read(entry)


def check_name(reader: Reader, name: str, path: str) -> None:
    """Notes a name that EAS would refuse for a group.

    Args:
        reader: takes the problem.
        name: of the group.
        path: where it stands.
    """
    if not _NAME.fullmatch(name):
        reader.add(path, f"{name!r} is not a name of a group", _ALLOWED_NAME)


class _Group:
    """Reads one group."""

    def __init__(
        self,
        reader: Reader,
        name: str,
        path: str,
        known: Mapping[str, AnyService],
        models: Sequence[str],
        cluster: KubernetesSettings | None,
    ) -> None:
        self.reader, self.name, self.path = reader, name, path
        self.known, self.models, self.cluster = known, models, cluster

    def read(self, entry: Any) -> TrafficSettings:
        given = self.reader.mapping(entry, self.path, keys(TrafficOptions))
        weights = self._weights(given.get("weights"))
        members = [self.known[name] for name in weights if name in self.known]
        for other in members[1:]:
            self._must_match(members[0], other, join_path(join_path(self.path, "weights"), other.name))
        in_cluster = bool(members) and isinstance(members[0], AckServiceSettings)
        hostnames = self._hostnames(given, in_cluster=in_cluster)
        mirror = self._mirror(given.get("mirror"), weights, members)
        return TrafficSettings(
            name=self.name,
            weights=weights,
            mirror=mirror,
            target="ack" if in_cluster else "eas",
            protocol="grpc" if members and _protocol(members[0]) == "grpc" else "http",
            gateway=self.cluster.gateway if self.cluster and in_cluster else "",
            namespace=self.cluster.namespace if self.cluster and in_cluster else "",
            **hostnames,
        )

    def _hostnames(self, given: Mapping[str, Any], *, in_cluster: bool) -> dict[str, str]:
        """The host names of a group on Kubernetes."""
        reader, found = self.reader, {}
        for key, field in (("hostname", "hostname"), ("grpcHostname", "grpc_hostname")):
            if given.get(key) is None:
                continue
            at = join_path(self.path, key)
            name = reader.text(given[key], at)
            if not in_cluster:
                reader.add(at, "a group on PAI-EAS has an address of its own", fix=f"remove {key}")
            elif not is_subdomain(name):
                reader.add(
                    at, f"{reader.show(name)} is not a host name", "lower-case letters, digits, hyphens and dots"
                )
            else:
                found[field] = name
        if not in_cluster:
            return {}
        if not any(given.get(key) for key in ("hostname", "grpcHostname")):
            message = "nothing says by which host name clients ask for the group"
            reader.add(join_path(self.path, "hostname"), message, "hostname (HTTP), grpcHostname (gRPC), or one each")
        if found.get("hostname") and found.get("hostname") == found.get("grpc_hostname"):
            message = "no gateway takes HTTP and gRPC for one host name"
            reader.add(join_path(self.path, "grpcHostname"), message, fix="use another one")
        if self.cluster is None or not self.cluster.gateway:
            message = "routes of the group need a Gateway to be attached to"
            fix = f"set {NAMESPACE}:kubernetes.gateway to namespace/name of one that is in the cluster"
            reader.add(self.path, message, fix=fix)
        return found

    def _weights(self, value: Any) -> dict[str, int]:
        reader, at = self.reader, join_path(self.path, "weights")
        before = len(reader.problems)
        weights = {}
        allowed = "shares in percent by service, such as {stable: 90, canary: 10}"
        for name, where, share in reader.values(value, at, allowed):
            service = self._service(name, where)
            weights[name] = reader.integer(share, where, least=0, unit="percent")
            if isinstance(service, ServiceSettings):
                self._must_not_say_group(service)
        total = sum(weights.values())
        if len(reader.problems) == before and total != WHOLE:
            fix = "name the services and their shares" if not weights else f"they have to add up to {WHOLE}"
            reader.add(at, f"the shares add up to {total} percent", f"whole numbers that add up to {WHOLE}", fix)
        return weights

    def _service(self, name: str, where: str) -> AnyService | None:
        if name not in self.known:
            allowed = ", ".join(self.known) or "none: tf-serving:services is empty"
            self.reader.add(where, f"there is no service {name!r}", allowed, did_you_mean(name, self.known))
        return self.known.get(name)

    def _must_not_say_group(self, service: ServiceSettings) -> None:
        metadata = service.spec.extra_config.get("metadata")
        if isinstance(metadata, Mapping) and "group" in metadata:
            where = f"{join_path(f'{NAMESPACE}:services', service.name)}.extraConfig.metadata.group"
            self.reader.add(where, "the group of the service is said twice", fix=f"remove it: {self.path} says it")

    def _must_match(self, first: AnyService, other: AnyService, where: str) -> None:
        """All members of a group can take each other's place."""
        reader = self.reader
        if type(first) is not type(other):
            message = f"{other.name} and {first.name} run in different places, and no group spans both"
            reader.add(where, message, "all on PAI-EAS, or all on Kubernetes (target: ack)")
            return
        if _protocol(first) != _protocol(other):
            message = f"{other.name} speaks {_protocol(other)} and {first.name} {_protocol(first)}"
            reader.add(where, message, "one protocol in a group", "make a group for each protocol")
        answers, others = self._answers(first), self._answers(other)
        if answers and others and answers != others:
            message = (
                f"{other.name} answers for {_listed(others)} and {first.name} for {_listed(answers)}: "
                "requests for the rest would fail by chance"
            )
            reader.add(where, message, "the same models", "give the services the same models, or leave one out")

    def _answers(self, service: AnyService) -> set[str]:
        """The names by which requests find models; empty where that is not known."""
        spec = service.spec
        if spec.config_file:
            return set(self.models)
        if isinstance(service, ServiceSettings):
            return {service.request_name} if spec.model and eas_spec.answers_as_tf_serving(service.spec) else set()
        return {service.request_name} if spec.model else set()

    def _mirror(self, value: Any, weights: Mapping[str, int], members: Sequence[AnyService]) -> Mirror | None:
        if value is None:
            return None
        reader, at = self.reader, join_path(self.path, "mirror")
        given = reader.mapping(value, at, keys(MirrorOptions))
        found = read_plain(reader, given, at, MirrorOptions)
        for key in ("to", "percent"):
            if given and given.get(key) is None:
                reader.add(join_path(at, key), f"{key} is missing", "such as {to: shadow, percent: 20}")
        to, percent = found.get("to", ""), found.get("percent", 1)
        where = join_path(at, "to")
        if percent > WHOLE:
            reader.add(join_path(at, "percent"), f"{percent} is not a share", f"1 to {WHOLE} percent")
        if to in weights:
            message = f"{to} is a member of the group, and gets its requests already"
            reader.add(where, message, "a service that is no member", f"take {to} out of weights")
        elif to and (service := self._service(to, where)) is not None and members:
            self._must_match(members[0], service, where)
        return Mirror(to, percent) if to else None


def _protocol(service: AnyService) -> str:
    return service.protocol if isinstance(service, ServiceSettings) else "http and grpc"


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names))
