"""Services as the console shows them, wherever they run: what they are to serve, and how each replica is asked.

Replicas are asked directly: a look must not count as traffic, which rate limits and autoscalers measure. Requests of a
person's go the way any client's do.
"""

from __future__ import annotations

import functools
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from sandbox.cloud.eas.command import flag
from tfserving import model_config, server_config
from tfserving.client import ModelClient
from tfserving.errors import ModelConfigError
from tfserving.model_config import Model


@dataclass(frozen=True)
class Declared:
    """What a service is to serve.

    Attributes:
        models: as its config file or its start command has them.
        problem: why that is not known, for a person; empty where it is.
    """

    models: tuple[Model, ...] = ()
    problem: str = ""


@dataclass(frozen=True)
class Target:
    """A replica that can be asked.

    Attributes:
        name: of the replica.
        connect: makes a client for it; takes the seconds an answer may take.
        metrics: reads its page of counters at a path; None where it speaks no HTTP.
    """

    name: str
    connect: Callable[[float], ModelClient]
    metrics: Callable[[str], str] | None = None


@dataclass(frozen=True)
class HttpAddress:
    """Where a person's HTTP requests go.

    Attributes:
        url: what comes before the path.
        token: sent with them; empty for none.
        context: whom to trust and who to be in TLS; None without TLS.
        is_shared: other things answer at the same server, so that a path must not lead out of ``url``.
    """

    url: str
    token: str = field(default="", repr=False)
    context: ssl.SSLContext | None = None
    is_shared: bool = False


@dataclass(frozen=True)
class GrpcAddress:
    """Where a person's gRPC requests go.

    Attributes:
        target: ``host:port``.
        token: sent with them.
    """

    target: str
    token: str = field(default="", repr=False)


@dataclass(frozen=True)
class Happening:
    """An event of a service.

    Attributes:
        time: ISO 8601, UTC; empty where nobody says.
        type: ``Normal`` or ``Warning``.
        reason: a word.
        message: a sentence.
        about: replica it is about; empty for the service.
    """

    time: str
    type: str
    reason: str
    message: str
    about: str = ""


@dataclass(frozen=True)
class Shown:
    """A service.

    Attributes:
        name: what no other service of the console has.
        facts: for the page, as JSON; never a token.
        declare: what it is to serve. Blocks.
        targets: replicas that are ready.
        address: where requests go; None while nothing takes any.
        config: where its model config file is, ``oss://bucket/key`` or ``configmap://namespace/name/key``; empty
            without one.
        metrics_path: where its replicas have their counters; empty where these are switched off. Blocks.
        log: the newest lines, at most so many, that hold a word, oldest first. Blocks.
        events: the newest events, newest first. Blocks.
    """

    name: str
    facts: Mapping[str, Any]
    declare: Callable[[], Declared]
    targets: Sequence[Target]
    address: HttpAddress | GrpcAddress | None
    config: str
    metrics_path: Callable[[], str]
    log: Callable[[int, str], list[str]]
    events: Callable[[], list[Happening]]


@dataclass(frozen=True)
class Group:
    """An address that several services share.

    Attributes:
        facts: for the page, as JSON; never a token.
        address: where requests go.
        members: names of the services as the console has them, by the name that the gateway tells.
    """

    facts: Mapping[str, Any]
    address: HttpAddress | GrpcAddress
    members: Mapping[str, str]

    @property
    def choice(self) -> str:
        """What it is called where one of services and groups is chosen: no name of a service has a blank."""
        return f"group {self.facts['name']}"


class Place(Protocol):
    """Something that runs services."""

    async def services(self) -> list[Shown]:
        """All of them now.

        Raises:
            PlaceError: it cannot be asked.
        """


class PlaceError(Exception):
    """A place cannot be asked. The message is for a person."""


def declared(flags: Sequence[str], read: Callable[[str], str]) -> Declared:
    """The models of a service: those of its config file, or the one its start command names.

    Args:
        flags: of the start command.
        read: a file of the container; raises FileNotFoundError, or ModelConfigError where it is no text.
    """
    file = flag(flags, "model_config_file")
    if file is None:
        name = flag(flags, "model_name") or "default"
        return Declared((Model(name, flag(flags, "model_base_path") or ""),))
    try:
        return _parsed(read(file), file)
    except FileNotFoundError as error:
        return Declared(problem=str(error))
    except ModelConfigError as error:
        return _unreadable(file, error)


@functools.lru_cache(maxsize=64)
def _parsed(text: str, file: str) -> Declared:
    """Kept, since a file of a thousand models is looked at every other second."""
    try:
        return Declared(model_config.parse(text).models)
    except ModelConfigError as error:
        return _unreadable(file, error)


def _unreadable(file: str, error: ModelConfigError) -> Declared:
    return Declared(problem=f"{file} cannot be read, so the server keeps what it had: {error}")


def metrics_path(flags: Sequence[str], read: Callable[[str], str]) -> str:
    """Where the server has its counters; empty where they are switched off, or nobody can tell.

    Args:
        flags: of the start command.
        read: as of :func:`declared`.
    """
    file = flag(flags, "monitoring_config_file")
    if file is None:
        return ""
    try:
        return server_config.metrics_path(read(file))
    except (FileNotFoundError, ModelConfigError):
        return ""


def page_of(items: Sequence[Any], wanted: int, size: int) -> tuple[int, int, Sequence[Any]]:
    """The number of a page, how many there are, and what is on it; the nearest one where there is none so high."""
    pages = max(1, -(-len(items) // size))
    page = min(max(1, wanted), pages)
    return page, pages, items[(page - 1) * size : page * size]
