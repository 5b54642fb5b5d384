"""CloudMonitor: alarm rules."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiohttp import web

    from sandbox.cloud.state import CloudState


def register(app: web.Application, state: CloudState) -> None:
    """Adds the service to a sandbox cloud."""
    from sandbox.cloud.cms.rules import AlarmProduct

    state.add(AlarmProduct(state.data_dir / "cms.json"))
