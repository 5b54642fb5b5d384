"""What the gateway is asked for by name: a service, or a group of services."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from tfserving.client import MEMBER_HEADER as MEMBER

if TYPE_CHECKING:
    from sandbox.cloud.eas.deployment import Deployment

__all__ = ["MEMBER", "Entry"]


class Entry(Protocol):
    """Something with an address and a token.

    Attributes:
        identity: what no other one has, and no later one of the same name.
        title: what it is called in a message.
        route: its part of the path under the gateway's prefix.
        token: what requests must carry.
        own_port: loopback port of its own, where it is at the root path.
        is_root: whether it is.
        grpc: whether it speaks gRPC.
    """

    @property
    def identity(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def route(self) -> str: ...
    @property
    def token(self) -> str: ...
    @property
    def own_port(self) -> int: ...
    @property
    def is_root(self) -> bool: ...
    @property
    def grpc(self) -> bool: ...

    def choose(self, tried: set[str]) -> Deployment | None:
        """The service that is to answer a request, leaving out those (by key) that could not; None without one."""

    def move_to_port(self, port: int) -> None:
        """Gives it another port of its own."""
