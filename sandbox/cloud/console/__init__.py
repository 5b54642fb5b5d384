"""The console: a page that shows the services of a sandbox cloud live, and sends requests to them.

Services on the local Kubernetes cluster are shown beside them while it runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiohttp import web

    from sandbox.cloud.state import CloudState

PATH = "/-/console/"
"""Where the page is. No bucket can be called ``-``, so no OSS request is ever taken for the console's."""

API_PATH = f"{PATH}api/"
REQUEST_PATH = f"{API_PATH}request"
"""The one path that sends something on; all others are looks."""


def url(port: int) -> str:
    """The address of the page of the sandbox cloud that listens on ``port``."""
    return f"http://127.0.0.1:{port}{PATH}"


def register(app: web.Application, state: CloudState) -> None:
    """Adds the console to a sandbox cloud. It must come before the routes that take every path."""
    from sandbox.cloud.console.routes import Console

    Console(state).register(app)
