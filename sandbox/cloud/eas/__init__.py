"""PAI Elastic Algorithm Service: API, gateway and the processes behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiohttp import web

    from sandbox.cloud.state import CloudState


def register(app: web.Application, state: CloudState) -> None:
    """Adds EAS to a sandbox cloud."""
    from sandbox.cloud.eas.api import EasProduct

    state.add(EasProduct(state.data_dir / "eas", state.port, state.live_view))
