"""Asks the services that read a model config file what they serve, so that every replica is heard.

On Kubernetes each ready pod is asked by itself, through the API server.

On EAS, a gateway gives requests to replicas in turn. Each question is therefore asked twice as often as a service has
replicas, without other questions in between and over a connection of its own each time, and counts only when every
answer agrees. With a gateway that takes turns this proves the state of every replica (twice). With one that picks at
random it makes it likely, no more: no API of EAS reaches a single replica from outside.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from provider.cluster import ClusterApi, Pod, Pods
from provider.eas.story import about_trouble, failure_story, trouble_lines
from provider.resource import Context
from tfserving import client
from tfserving.client import ModelClient, VersionStatus
from tfserving.contract import serving as contract
from tfserving.contract.parts import ServedVersions
from tfserving.errors import CloudError, ServiceError, ServiceNotFoundError, ServiceUnreachableError

T = TypeVar("T")

MOUNT_CACHE_SECONDS = 60.0
"""How long a replica may see an old file through its OSS mount (ossfs 2: attribute cache of 60 s), or through its
ConfigMap (the kubelet looks again about once a minute)."""

_ANSWER_SECONDS = 10.0
_READ_TRIES = 3
_LOG_LINES = 200
_UNKNOWN_REPLICAS = 2
_THREADS = 8


@dataclass(frozen=True)
class AskedService:
    """One service that reads the model config file.

    Attributes:
        name: service name.
        url: base URL of an HTTP service, or empty.
        target: ``host:port`` of a gRPC service, or empty.
        token: access token.
        poll_seconds: how often it reads the file again; 0 is only when it starts.
        reachable: whether this machine can ask it.
        pods: its pods, where it runs on Kubernetes.
    """

    name: str
    url: str
    target: str
    token: str = field(repr=False)
    poll_seconds: float
    reachable: bool
    pods: Pods | None = None

    @classmethod
    def of(cls, name: str, declared: contract.Service) -> AskedService:
        """The service as a resource declares it."""
        return cls(
            name=name,
            url=declared.url or "",
            target=declared.target or "",
            token=declared.token or "",
            poll_seconds=declared.poll_seconds if isinstance(declared, contract.ConfiguredService) else 0,
            reachable=declared.reachable,
            pods=Pods(declared.pods.namespace, declared.pods.selector) if declared.pods else None,
        )


@dataclass(frozen=True)
class Answers:
    """What the replicas of one service said about its models.

    Attributes:
        states: by model: the answer of each asking, as states by version; an unknown model answers none.
        labels: by model and label: the version each asking was answered by; None where the label is not known.
    """

    states: Mapping[str, tuple[Mapping[int, VersionStatus], ...]]
    labels: Mapping[str, Mapping[str, tuple[int | None, ...]]]

    def available(self, model: str) -> tuple[int, ...]:
        """Versions that are AVAILABLE in every answer."""
        answers = [
            {version for version, status in states.items() if status.state == "AVAILABLE"}
            for states in self.states.get(model, ())
        ]
        return tuple(sorted(set.intersection(*answers))) if answers else ()

    def anywhere(self, model: str) -> tuple[int, ...]:
        """Versions that are AVAILABLE, or on their way in or out, in any answer."""
        return tuple(
            sorted(
                {
                    version
                    for states in self.states.get(model, ())
                    for version, status in states.items()
                    if status.state != "END"
                }
            )
        )

    def everything(self) -> dict[str, tuple[int, ...]]:
        """:meth:`anywhere` of every model that has such versions."""
        found = {model: self.anywhere(model) for model in self.states}
        return {model: versions for model, versions in found.items() if versions}

    def label(self, model: str, label: str) -> int | None:
        """The version that answers requests by the label, or None where there is none, or no single one."""
        versions = set(self.labels.get(model, {}).get(label, (None,)))
        return versions.pop() if len(versions) == 1 else None

    def failed(self, model: str, versions: Iterable[int]) -> VersionStatus | None:
        """The first of ``versions`` that the server says it could not load, unless another answer has it AVAILABLE."""
        for version in versions:
            for states in self.states.get(model, ()):
                status = states.get(version)
                if status is not None and status.state != "AVAILABLE" and status.error_code != "OK":
                    return status
        return None

    def state(self, model: str, version: int) -> str:
        """The state of a version in words, for a message."""
        seen = set()
        for states in self.states.get(model, ()):
            status = states.get(version)
            if status is None:
                seen.add("not known to the server")
            elif status.error_code == "OK":
                seen.add(status.state)
            else:
                seen.add(f"{status.state} with {status.error_code}: {status.error_message}")
        return " or ".join(sorted(seen)) or "not known to the server"

    def served(self) -> dict[str, ServedVersions]:
        """Versions and labels of models that serve something.

        Where replicas disagree about a label, its value is a text that names every version: ``"1 or 2"``.
        """
        served: dict[str, ServedVersions] = {}
        for model in sorted(self.states):
            labels: dict[str, int | str] = {}
            for label, versions in sorted(self.labels.get(model, {}).items()):
                found = sorted({str(version) for version in versions if version is not None})
                if len(found) == 1 and versions[0] is not None and None not in versions:
                    labels[label] = versions[0]
                elif found:
                    labels[label] = " or ".join([*found, *(["nothing"] if None in versions else [])])
            if self.available(model) or labels:
                served[model] = ServedVersions(versions=self.available(model), labels=labels)
        return served


class Fleet:
    """The services that read one model config file.

    Args:
        ctx: the operation that asks.
        services: all of them.
        cluster: where those with pods run; None: the environment's.
    """

    def __init__(self, ctx: Context, services: Iterable[AskedService], cluster: ClusterApi | None = None) -> None:
        self._ctx = ctx
        self._cluster = cluster or ClusterApi("", "")
        self.services = tuple(services)
        self._replicas: dict[str, int] = {}

    @property
    def polling(self) -> tuple[AskedService, ...]:
        """Those that read the file again by themselves."""
        return tuple(service for service in self.services if service.poll_seconds > 0)

    @property
    def restarting(self) -> tuple[AskedService, ...]:
        """Those that read the file only when they start."""
        return tuple(service for service in self.services if service.poll_seconds <= 0)

    def count_replicas(self) -> None:
        """Ask EAS how many replicas each service has; an autoscaler may change that between two steps.

        Pods are listed anew for every question.
        """
        for service in self.services:
            if service.pods is not None:
                continue
            try:
                found = self._ctx.clients.eas.describe(service.name)
            except CloudError as error:
                self._ctx.debug(f"replicas of {service.name} are not known, {_UNKNOWN_REPLICAS} are assumed: {error}")
                self._replicas[service.name] = _UNKNOWN_REPLICAS
            else:
                self._replicas[service.name] = max(found.total, found.running, 1) if found else 1

    def status(self, name: str) -> str:
        """The state of a service in a word or two: ``Running``, as EAS says, or how many of its pods are ready."""
        service = self.named(name)
        if service is None or service.pods is None:
            found = self._ctx.clients.eas.describe(name)
            return found.status if found else "gone"
        pods = self._cluster.pods(service.pods)
        ready = sum(pod.ready for pod in pods)
        if ready or not pods:
            return "Running" if ready else "gone"
        return f"without a ready pod ({_count(pods)})"

    def named(self, name: str) -> AskedService | None:
        """The service of that name."""
        return next((service for service in self.services if service.name == name), None)

    def trouble(self, name: str, about: Iterable[str]) -> list[str]:
        """The newest log lines of a service that report trouble with something by name; none where nobody knows."""
        service = self.named(name)
        if service is None or service.pods is None:
            return trouble_lines(self._ctx, name, about)
        try:
            pods = self._cluster.pods(service.pods)
            return about_trouble((line for pod in pods for line in self._cluster.log_tail(pod, _LOG_LINES)), about)
        except CloudError:
            return []

    def story(self, name: str) -> list[str]:
        """What is known of a service that is not up: state, newest events and log lines; nothing of one that is."""
        service = self.named(name)
        try:
            if service is not None and service.pods is not None:
                return self._cluster.story(self._cluster.pods(service.pods))
            found = self._ctx.clients.eas.describe(name)
        except CloudError:
            return []
        if found is None or found.status == "Running":
            return []
        return failure_story(self._ctx, found, f"service {name} is {found.status}").splitlines()

    def unanswered(self, name: str, why: Exception) -> str:
        """That a service cannot be asked, with its :meth:`story`."""
        lines = [f"service {name} cannot be asked what it serves: {why}"]
        return "\n".join([*lines, *(f"  {line}" for line in self.story(name))])

    def ask(
        self, services: Iterable[AskedService], models: Mapping[str, Iterable[str]]
    ) -> dict[str, Answers | ServiceError]:
        """What each service says about ``models`` (name to labels to ask for); an error where there is no answer."""
        wanted = {model: tuple(labels) for model, labels in models.items()}
        asked = list(services)
        with ThreadPoolExecutor(min(_THREADS, len(asked) or 1)) as pool:
            found = pool.map(lambda service: self._answers(service, wanted), asked)
            return {service.name: answer for service, answer in zip(asked, found, strict=True)}

    def ask_patiently(
        self, services: Iterable[AskedService], models: Mapping[str, Iterable[str]]
    ) -> dict[str, Answers | ServiceError]:
        """:meth:`ask`, and ask those that did not answer a few times more: a gateway may just be changing replicas."""
        answers: dict[str, Answers | ServiceError] = {}
        left = list(services)
        for attempt in range(_READ_TRIES):
            if attempt:
                self._ctx.sleep(1)
            answers |= self.ask(left, models)
            left = [service for service in left if not isinstance(answers[service.name], Answers)]
            if not left:
                break
        return answers

    def _answers(self, service: AskedService, models: Mapping[str, tuple[str, ...]]) -> Answers | ServiceError:
        states: dict[str, tuple[Mapping[int, VersionStatus], ...]] = {}
        labels: dict[str, dict[str, tuple[int | None, ...]]] = {}

        def ask(model: str) -> None:
            self._ctx.check()
            heard = _repeat(connections, _status_of(model))
            states[model] = tuple({status.version: status for status in answer or ()} for answer in heard)
            labels[model] = {label: tuple(_repeat(connections, _version_of(model, label))) for label in models[model]}

        try:
            connections = self.connections(service)
            # Behind a gateway that takes turns, questions side by side would take each other's replicas.
            by_itself = service.pods is not None or self._replicas.get(service.name) == 1
            _each(ask, models, _THREADS if by_itself else 1)
        except ServiceError as error:
            return error
        except CloudError as error:
            return ServiceUnreachableError(str(error))
        return Answers({name: states[name] for name in models}, {name: labels[name] for name in models})

    def connections(self, service: AskedService, seconds: float = _ANSWER_SECONDS) -> list[Callable[[], ModelClient]]:
        """How to ask: once per pod, or so often that each replica behind a gateway is heard.

        Args:
            service: whom.
            seconds: how long an answer may take.

        Raises:
            ServiceUnreachableError: it has no address, or no pod of it is ready.
            CloudError: the API server does not say which pods there are.
        """
        if service.pods is not None:
            pods = self._cluster.pods(service.pods)
            ready = [pod for pod in pods if pod.ready]
            if not ready:
                raise ServiceUnreachableError(f"no pod of service {service.name} is ready ({_count(pods)})")
            return [functools.partial(self._cluster.connect, pod, seconds) for pod in ready]
        if not (service.url or service.target):
            raise ServiceUnreachableError(f"service {service.name} has no address")
        address = {"target": service.target} if service.target else {"url": service.url}
        one = functools.partial(client.connect, **address, token=service.token, timeout=seconds)
        return [one] * (2 * self._replicas.get(service.name, _UNKNOWN_REPLICAS))


def _count(pods: Sequence[Pod]) -> str:
    """How many pods, and what the first that says why it is not ready says."""
    told = next((f": {pod.name}: {pod.trouble}" for pod in pods if pod.trouble and not pod.ready), "")
    return f"{len(pods)} pod{'' if len(pods) == 1 else 's'}{told}"


def _repeat(connections: Iterable[Callable[[], ModelClient]], question: Callable[[ModelClient], T]) -> list[T | None]:
    """The answer of each connection; None where what is asked about is not known."""
    answers: list[T | None] = []
    for connect in connections:
        with connect() as connection:
            try:
                answers.append(question(connection))
            except ServiceNotFoundError:
                answers.append(None)
    return answers


def _each(act: Callable[[T], None], items: Iterable[T], threads: int) -> None:
    """``act`` for each item; after the first that fails no other begins."""
    pool = ThreadPoolExecutor(threads)
    try:
        for _ in pool.map(act, items):
            pass
    finally:
        pool.shutdown(cancel_futures=True)


def _status_of(model: str) -> Callable[[ModelClient], list[VersionStatus]]:
    return lambda connection: connection.status(model)


def _version_of(model: str, label: str) -> Callable[[ModelClient], int]:
    return lambda connection: connection.labelled_version(model, label)
