"""Container Service for Kubernetes: clusters and node pools, and the network calls that go with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiohttp import web

    from sandbox.cloud.state import CloudState


def register(app: web.Application, state: CloudState) -> None:
    """Adds the services to a sandbox cloud."""
    from sandbox.cloud.cs.clusters import ClusterProduct
    from sandbox.cloud.cs.network import NetworkProduct
    from sandbox.cloud.cs.store import Store

    store = Store(state.data_dir / "cs.json")
    state.add(ClusterProduct(store, state.root))
    state.add(NetworkProduct(store))
