"""What the products of one sandbox cloud share: OSS, PAI-EAS, CS and what belongs to them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from aiohttp import web

from sandbox.cloud.oss.mounts import LiveView
from sandbox.cloud.oss.store import ObjectStore
from sandbox.keys import AccessKey


class Product(Protocol):
    """A product of the sandbox cloud."""

    def matches(self, request: web.Request) -> bool:
        """Whether the request is for this product. Must be quick and must not read the body."""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answers a request that matched."""

    async def start(self) -> None:
        """Called once before the first request, with the event loop running."""

    async def stop(self) -> None:
        """Called once at shutdown. Processes the product started must be gone when it returns."""


@dataclass
class CloudState:
    """What the products of one sandbox cloud share.

    Attributes:
        root: the project directory.
        data_dir: where everything durable lies; one running cloud per directory.
        port: the TCP port on 127.0.0.1 the cloud listens on.
        objects: the OSS store.
        live_view: local directory trees that follow OSS prefixes.
        access_key: what requests are signed with; None: signatures are not checked.
        cluster: data directory of the Kubernetes cluster beside this cloud; None for none.
        products: in the order in which they are asked.
    """

    root: Path
    data_dir: Path
    port: int
    objects: ObjectStore
    live_view: LiveView
    access_key: AccessKey | None = None
    cluster: Path | None = None
    products: list[Product] = field(default_factory=list)

    def add(self, product: Product) -> None:
        """Adds a product behind those already there."""
        self.products.append(product)


STATE: web.AppKey[CloudState] = web.AppKey("state", CloudState)
