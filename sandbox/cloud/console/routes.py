"""The routes of the console, and who may use them.

The page runs in a browser that other sites also run in, so every request is checked: the Host must be loopback (a name
of another site may resolve to it), a request that sends something must come from the page itself (Origin,
Sec-Fetch-Site), and the page may load nothing from anywhere else nor be shown in a frame (CSP). Tokens stay in this
process.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import aiohttp
from aiohttp import hdrs, web

from sandbox.cloud.console import OVERVIEW_PATH, PATH, REQUEST_PATH, debugging
from sandbox.cloud.console.overview import Overview
from sandbox.cloud.eas.api import EasService
from sandbox.cloud.errors import ApiError, json_error
from tfserving import wire

if TYPE_CHECKING:
    from sandbox.cloud.state import CloudState

BODY_LIMIT = 16 << 20
"""Bytes of a request. An image of 224 x 224 x 3 is about 3 MB as JSON."""

_PAGE = Path(__file__).with_name("page")
_FILES = {
    "index.html": "text/html",
    "console.css": "text/css",
    "console.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}
_HOSTS = ("127.0.0.1", "localhost")
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
_THREADS = 8

_Handler = Callable[[web.Request], Awaitable[web.Response]]


class Console:
    """The page, what it shows and what it sends."""

    def __init__(self, state: CloudState) -> None:
        self._state = state
        self._session: aiohttp.ClientSession | None = None
        self._executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="console")
        self._overview = Overview(state.objects, self._executor)

    def register(self, app: web.Application) -> None:
        """Adds the routes."""
        app.router.add_get(PATH.rstrip("/"), _guarded(self._redirect))
        app.router.add_get(PATH, _guarded(self._file))
        app.router.add_get(OVERVIEW_PATH, _guarded(self._get_overview))
        app.router.add_post(REQUEST_PATH, _guarded(self._send))
        app.router.add_get(PATH + "{name}", _guarded(self._file))
        app.on_cleanup.append(self._stop)

    async def _stop(self, _: web.Application) -> None:
        if self._session is not None:
            await self._session.close()
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def _redirect(self, _: web.Request) -> web.Response:
        return web.Response(status=308, headers={hdrs.LOCATION: PATH})

    async def _file(self, request: web.Request) -> web.Response:
        name = request.match_info.get("name", "index.html")
        kind = _FILES.get(name)
        if kind is None:
            raise ApiError(404, "NotFound.Console", f"The console has no {name}.")
        return web.Response(body=(_PAGE / name).read_bytes(), content_type=kind, charset="utf-8")

    async def _get_overview(self, _: web.Request) -> web.Response:
        return web.json_response(wire.exact(await self._overview.get(self._eas())))

    async def _send(self, request: web.Request) -> web.Response:
        try:
            data = json.loads(await _body(request))
        except ValueError as error:
            raise ApiError(400, "InvalidParameter", f"The request is not JSON: {error}.") from None
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=debugging.ANSWER_SECONDS),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        wanted = debugging.Request.parse(data)
        answer = await debugging.send(wanted, self._eas(), self._session, self._executor)
        return web.json_response(wire.exact(dataclasses.asdict(answer)))

    def _eas(self) -> EasService:
        return next(service for service in self._state.services if isinstance(service, EasService))


def _guarded(handler: _Handler) -> _Handler:
    """Lets only the page itself and a person's browser through, and sends the headers that keep it so."""

    async def handle(request: web.Request) -> web.Response:
        try:
            _check(request)
            response = await handler(request)
        except ApiError as error:
            response = json_error(error)
        response.headers.update(_HEADERS)
        return response

    return handle


def _check(request: web.Request) -> None:
    """Raises:
    ApiError: 403, the request does not come from this page, nor from a person.
    """
    if not _is_loopback(request.host):
        raise _forbidden(f"The console is not at {request.host!r}: open it at 127.0.0.1 or localhost.")
    is_navigation = request.headers.get("Sec-Fetch-Mode") == "navigate" and request.method == "GET"
    site = request.headers.get("Sec-Fetch-Site", "none")
    if site not in ("same-origin", "none") and not is_navigation:
        raise _forbidden("Another site may not use the console.")
    if request.method == "GET":
        return
    if request.headers.get(hdrs.ORIGIN) != f"{request.scheme}://{request.host}":
        raise _forbidden("Only the console's own page may send requests.")
    if request.content_type != "application/json":
        raise ApiError(415, "InvalidParameter", "The request must be application/json.")


def _is_loopback(host: str) -> bool:
    """Whether a Host header names this machine. The port may be a tunnel's."""
    try:
        return urlsplit(f"//{host}").hostname in _HOSTS
    except ValueError:
        return False


def _forbidden(message: str) -> ApiError:
    return ApiError(403, "Forbidden.Console", message)


async def _body(request: web.Request) -> bytes:
    """Raises:
    ApiError: 413, too large.
    """
    data = bytearray()
    async for chunk in request.content.iter_chunked(1 << 16):
        data += chunk
        if len(data) > BODY_LIMIT:
            raise ApiError(413, "InvalidParameter", f"The request is larger than {BODY_LIMIT >> 20} MiB.")
    return bytes(data)
