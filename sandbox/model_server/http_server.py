"""Carries HTTP requests to the REST handler: an event loop in a thread of its own and a pool that runs the models."""

from __future__ import annotations

import asyncio
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from aiohttp import web

from sandbox.model_server import address
from sandbox.model_server.rest import RestHandler

HOST = address.host()
_log = logging.getLogger(__name__)


class HttpServer:
    """The REST port.

    Args:
        port: TCP port on the loopback address.
        threads: requests answered at the same time.
        grace_seconds: how long running requests may take when the server stops.
    """

    def __init__(self, handler: RestHandler, port: int, threads: int, grace_seconds: float) -> None:
        self._handler = handler
        self._port = port
        self._grace_seconds = grace_seconds
        self._pool = ThreadPoolExecutor(threads, "rest")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="rest-loop", daemon=True)
        self._server: web.Server | None = None
        self._runner: web.ServerRunner | None = None

    def start(self) -> bool:
        """Starts listening. Returns whether the port could be had."""
        self._thread.start()
        return asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()

    async def _start(self) -> bool:
        # Bodies are limited and inflated by the handler, as TensorFlow Serving does it.
        self._server = web.Server(self._handle, request_factory=_request, auto_decompress=False, access_log=None)
        self._runner = web.ServerRunner(self._server, shutdown_timeout=self._grace_seconds)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, HOST, self._port, reuse_address=True).start()
        except OSError as error:
            _log.error("%s", error)
            return False
        return True

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        answer = await self._loop.run_in_executor(
            self._pool, self._handler.handle, request.method, request.raw_path, request.headers, body
        )
        return web.Response(status=answer.status, body=answer.body, headers=answer.headers)

    def stop(self) -> None:
        """Stops listening, lets running requests finish within the grace period, then closes."""
        if self._runner is not None:
            asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._pool.shutdown(wait=False, cancel_futures=True)


def _request(message: Any, payload: Any, protocol: Any, writer: Any, task: asyncio.Task[None]) -> web.BaseRequest:
    return web.BaseRequest(message, payload, protocol, writer, task, asyncio.get_running_loop(), client_max_size=0)
