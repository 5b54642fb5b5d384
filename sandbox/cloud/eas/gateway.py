"""The gateway of EAS: checks the token of every request, then passes it to a ready instance, in turn.

HTTP services are reached under ``/api/predict/<service>/`` on the cloud's own port, or at the root of a port of their
own (``networking.path: "/"``); gRPC services at a port of their own only, as with the real gateway. Statuses: 401
token, 404 no such path, 429 rate limit, 503 no ready instance, 504 time limit (Alibaba Cloud's page on EAS status
codes). The bodies of 404 and 503 are those the real gateway is seen to send: nothing, and ``no healthy upstream``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

import aiohttp
import yarl
from aiohttp import hdrs, web

from sandbox import browser
from sandbox.cloud.eas import service_json
from sandbox.cloud.eas.auth import is_authorized
from sandbox.cloud.eas.deployment import Deployment
from sandbox.cloud.eas.grpc_gateway import GrpcListener
from sandbox.cloud.eas.process import free_port
from sandbox.model_server import callers

log = logging.getLogger("sandbox.cloud.eas")

PREFIX = "/api/predict/"
GONE_BY_THE_HOP = frozenset(
    {
        "connection",
        "expect",
        "host",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Headers that concern one connection only (RFC 9110, 7.6.1)."""
_NOT_PASSED_ON = GONE_BY_THE_HOP | {callers.HEADER.lower()}
_CHUNK = 1 << 16


class Gateway:
    """Every listener of one sandbox cloud's EAS besides the cloud's own port."""

    def __init__(self, find: Callable[[str], Deployment | None]) -> None:
        """Args:
        find: the service of a key, or of a name that no other region has.
        """
        self._find = find
        self._session: aiohttp.ClientSession | None = None
        self._listeners: dict[str, _HttpListener | GrpcListener] = {}
        self._lock = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Ready for requests; listeners are opened by :meth:`follow`."""
        # A connection per request: one kept from an earlier request may turn out to be closed only after the next was
        # sent on it, and then nobody knows whether that was worked on.
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        self._session = aiohttp.ClientSession(
            connector=connector,
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=5),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
        )
        # aiohttp would send a GET again to an instance that broke off, and there is no public switch for it.
        self._session._retry_connection = False

    async def stop(self) -> None:
        """Closes everything."""
        for task in self._tasks:
            task.cancel()
        async with self._lock:
            for listener in self._listeners.values():
                await listener.stop()
            self._listeners.clear()
        if self._session is not None:
            await self._session.close()

    def look(self, deployment: Deployment) -> None:
        """Has the listener of a service follow what the service is now, in the background."""
        if self._is_right(deployment):
            return
        task = asyncio.create_task(self.follow(deployment))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def follow(self, deployment: Deployment) -> None:
        """Opens, closes or replaces the listener of a service."""
        async with self._lock:
            if self._is_right(deployment):
                return
            key = deployment.record.service_id
            if (listener := self._listeners.pop(key, None)) is not None:
                await listener.stop()
            if self._wanted(deployment) is not None:
                self._listeners[key] = await self._open(deployment)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answers a request under :data:`PREFIX` of the cloud's port."""
        name, slash, rest = request.rel_url.raw_path[len(PREFIX) :].partition("/")
        deployment = self._find(name)
        if deployment is None or service_json.is_root(deployment.record.config) or deployment.grpc:
            return _refuse(404, "")
        return await self.forward(request, deployment, f"/{rest}" if slash else "/")

    async def forward(self, request: web.Request, deployment: Deployment, path: str) -> web.StreamResponse:
        """Checks a request and passes it on.

        Args:
            path: raw path for the instance, without the query.
        """
        if reason := browser.refusal(request.headers, request.host, request.scheme):
            return _refuse(403, f"Forbidden: {reason}.")
        if not is_authorized(request.headers.getall(hdrs.AUTHORIZATION, []), deployment.record.token):
            return _refuse(401, f"Unauthorized: the Authorization header is not the token of {deployment.record.name}.")
        if not deployment.admits():
            return _refuse(429, "Too Many Requests: over the rate limit of this service.")
        answer = _Answer(request)
        try:
            async with asyncio.timeout(service_json.keepalive_seconds(deployment.record.config)):
                return await self._pass_on(request, deployment, path, answer)
        except TimeoutError:
            if answer.response is None:
                return _refuse(504, "upstream request timeout")
            answer.break_off()
            raise ConnectionResetError("time limit reached in the middle of an answer") from None

    async def _pass_on(
        self, request: web.Request, deployment: Deployment, path: str, answer: _Answer
    ) -> web.StreamResponse:
        assert self._session is not None  # noqa: S101
        query = request.rel_url.raw_query_string
        target = f"{path}?{query}" if query else path
        # The token is the gateway's business alone.
        headers = [(name, value) for name, value in request.headers.items() if name.lower() not in _NOT_PASSED_ON]
        body = request.content if request.can_read_body else None
        tried: set[str] = set()
        while (instance := deployment.pick(tried)) is not None:
            tried.add(instance.name)
            with instance.serving():
                url = yarl.URL(f"http://127.0.0.1:{instance.port}{target}", encoded=True)
                try:
                    proven = [*headers, (callers.HEADER, instance.secret)]
                    sent = self._session.request(request.method, url, headers=proven, data=body, allow_redirects=False)
                    async with sent as upstream:
                        return await answer.copy(upstream)
                except aiohttp.ClientConnectorError:
                    continue  # nothing was sent, so another instance may have it
                except (aiohttp.ClientError, ConnectionError) as error:
                    if answer.response is not None:
                        answer.break_off()
                        raise ConnectionResetError("the instance broke off its answer") from None
                    log.info("instance %s gave no answer: %s", instance.name, type(error).__name__)
                    text = "upstream connect error or disconnect/reset before headers"
                    return _refuse(503, text)
        return _refuse(503, "no healthy upstream" if tried or not deployment.live else "")

    def _wanted(self, deployment: Deployment) -> tuple[type[_HttpListener | GrpcListener], int] | None:
        record = deployment.record
        if not service_json.is_root(record.config) or self._find(record.key) is not deployment:
            return None
        return (GrpcListener if deployment.grpc else _HttpListener), record.own_port

    def _is_right(self, deployment: Deployment) -> bool:
        listener = self._listeners.get(deployment.record.service_id)
        found = None if listener is None else (type(listener), listener.port)
        return found == self._wanted(deployment)

    async def _open(self, deployment: Deployment) -> _HttpListener | GrpcListener:
        while True:
            port = deployment.record.own_port
            listener = GrpcListener(deployment, port) if deployment.grpc else _HttpListener(self, deployment, port)
            try:
                await listener.start()
                return listener
            except OSError:
                await listener.stop()
                deployment.move_to_port(free_port())


class _HttpListener:
    """A service at the root of a port of its own."""

    def __init__(self, gateway: Gateway, deployment: Deployment, port: int) -> None:
        self.port = port
        self._gateway = gateway
        self._deployment = deployment
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(
            app, access_log=None, auto_decompress=False, read_bufsize=1 << 20, shutdown_timeout=5.0
        )

    async def start(self) -> None:
        """Raises:
        OSError: the port is taken.
        """
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()

    async def stop(self) -> None:
        await self._runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        return await self._gateway.forward(request, self._deployment, request.rel_url.raw_path)


class _Answer:
    """The answer to one request while it is being copied."""

    def __init__(self, request: web.Request) -> None:
        self.response: web.StreamResponse | None = None
        self._request = request

    async def copy(self, upstream: aiohttp.ClientResponse) -> web.StreamResponse:
        """Passes status, headers and body on as they come."""
        response = web.StreamResponse(status=upstream.status, reason=upstream.reason)
        for name, value in upstream.headers.items():
            if name.lower() not in GONE_BY_THE_HOP:
                response.headers.add(name, value)
        self.response = response
        await response.prepare(self._request)
        async for data in upstream.content.iter_chunked(_CHUNK):
            await response.write(data)
        await response.write_eof()
        return response

    def break_off(self) -> None:
        """Ends the connection, so that the client does not take a part for the whole."""
        if self._request.transport is not None:
            with contextlib.suppress(RuntimeError):
                self._request.transport.abort()


def _refuse(status: int, text: str) -> web.Response:
    return web.Response(status=status, text=text)
