"""Carries HTTP requests to the REST handler: an event loop in a thread of its own and a pool that runs the models."""

from __future__ import annotations

import asyncio
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from aiohttp import ClientPayloadError, HttpVersion11, hdrs, web
from aiohttp.http_exceptions import HttpProcessingError

from sandbox.model_server import address
from sandbox.model_server.callers import Callers
from sandbox.model_server.rest import RestHandler

HOST = address.host()
HEADER_LIMIT = 16 << 20
"""Bytes of a request line and of a header."""

_log = logging.getLogger(__name__)


class HttpServer:
    """The REST port.

    Args:
        callers: who is answered.
        port: TCP port on the loopback address.
        threads: requests answered at the same time.
        grace_seconds: how long running requests may take when the server stops.
    """

    def __init__(self, handler: RestHandler, callers: Callers, port: int, threads: int, grace_seconds: float) -> None:
        self._handler = handler
        self._callers = callers
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
        # Request lines and headers have no limit there.
        self._server = web.Server(
            self._handle,
            request_factory=_request,
            auto_decompress=False,
            access_log=None,
            logger=_client_log(),
            max_line_size=HEADER_LIMIT,
            max_field_size=HEADER_LIMIT,
        )
        self._runner = web.ServerRunner(self._server, shutdown_timeout=self._grace_seconds)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, HOST, self._port, reuse_address=True).start()
        except OSError as error:
            _log.error("%s", error)
            return False
        return True

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if reason := self._callers.refusal(request.method, request.headers, request.scheme):
            return web.json_response({"error": f"The sandbox's model server does not answer: {reason}"}, status=403)
        expected = request.headers.get(hdrs.EXPECT, "").lower()
        if expected == "100-continue" and request.version >= HttpVersion11:
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            # What was written before the answer is no part of it.
            request.writer.output_size = 0
        elif expected and request.version >= HttpVersion11:
            return web.Response(status=417)
        try:
            body = await request.read()
        except (web.RequestPayloadError, ClientPayloadError, ConnectionError):
            # The client went away, or sent no proper chunks: there is nobody to answer.
            if request.transport is not None:
                request.transport.abort()
            return web.Response(status=400)
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


def _client_log() -> logging.Logger:
    """Where aiohttp says what clients did wrong: one line, without the traceback of its parser."""
    logger = logging.getLogger(f"{__name__}.clients")
    if not logger.filters:
        logger.addFilter(_without_traceback)
    return logger


def _without_traceback(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, (HttpProcessingError, ClientPayloadError, ConnectionError)):
        reason = (str(error).splitlines() or [""])[0]
        record.msg, record.args = "%s: %s", (record.getMessage(), f"{type(error).__name__} {reason}")
        record.exc_info = record.exc_text = None
        record.levelno, record.levelname = logging.WARNING, "WARNING"
    return True


def _request(message: Any, payload: Any, protocol: Any, writer: Any, task: asyncio.Task[None]) -> web.BaseRequest:
    return web.BaseRequest(message, payload, protocol, writer, task, asyncio.get_running_loop(), client_max_size=0)
