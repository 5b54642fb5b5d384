"""The gateway of EAS: checks the token of every request, then passes it to a ready instance, in turn.

HTTP services are reached under ``/api/predict/<service>/`` on the cloud's own port, or at the root of a port of their
own (``networking.path: "/"``); gRPC services at a port of their own only, as with the real gateway. Statuses: 401
token, 404 no such path, 429 rate limit, 503 no ready instance, 504 time limit (Alibaba Cloud's page on EAS status
codes). The bodies of 404 and 503 are those the real gateway is seen to send: nothing, and ``no healthy upstream``.

A service group is reached in the same two ways, and the member of each single request is chosen anew. Which one it was
is said in a header of the sandbox's own, :data:`MEMBER`: no page says that the real gateway tells it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable

import aiohttp
import yarl
from aiohttp import hdrs, web

from sandbox import browser
from sandbox.cloud.eas import service_json
from sandbox.cloud.eas.auth import is_authorized
from sandbox.cloud.eas.deployment import Deployment
from sandbox.cloud.eas.entry import MEMBER, Entry
from sandbox.cloud.eas.grpc_gateway import GrpcListener
from sandbox.cloud.eas.mirroring import BODY_LIMIT, Mirrors
from sandbox.model_server import callers
from sandbox.ports import free_port

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

    def __init__(self, find: Callable[[str], Entry | None], mirrors: Mirrors) -> None:
        """Args:
        find: the service or group of a key, or of a name that no other region has.
        mirrors: what is also sent elsewhere.
        """
        self._find = find
        self._mirrors = mirrors
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
        await self._mirrors.start()

    async def stop(self) -> None:
        """Closes everything."""
        for task in self._tasks:
            task.cancel()
        async with self._lock:
            for listener in self._listeners.values():
                await listener.stop()
            self._listeners.clear()
        await self._mirrors.stop()
        if self._session is not None:
            await self._session.close()

    def look(self, entry: Entry) -> None:
        """Has the listener of a service or group follow what that is now, in the background."""
        if self._is_right(entry):
            return
        task = asyncio.create_task(self.follow(entry))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def follow(self, entry: Entry) -> None:
        """Opens, closes or replaces the listener of a service or group."""
        async with self._lock:
            if self._is_right(entry):
                return
            if (listener := self._listeners.pop(entry.identity, None)) is not None:
                await listener.stop()
            if self._wanted(entry) is not None:
                self._listeners[entry.identity] = await self._open(entry)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answers a request under :data:`PREFIX` of the cloud's port."""
        name, slash, rest = request.rel_url.raw_path[len(PREFIX) :].partition("/")
        entry = self._find(name)
        if entry is None or entry.is_root or entry.grpc:
            return _refuse(404, "")
        return await self.forward(request, entry, f"/{rest}" if slash else "/")

    async def forward(self, request: web.Request, entry: Entry, path: str) -> web.StreamResponse:
        """Checks a request and passes it on.

        Args:
            path: raw path for the instance, without the query.
        """
        if reason := browser.refusal(request.headers, request.host, request.scheme):
            return _refuse(403, f"Forbidden: {reason}.")
        if not is_authorized(request.headers.getall(hdrs.AUTHORIZATION, []), entry.token):
            return _refuse(401, f"Unauthorized: the Authorization header is not the token of {entry.title}.")
        tried: set[str] = set()
        response: web.StreamResponse = _refuse(503, "no healthy upstream")
        while (deployment := entry.choose(tried)) is not None:
            tried.add(deployment.record.key)
            if not deployment.admits():
                return _refuse(429, "Too Many Requests: over the rate limit of this service.")
            response, was_sent = await self._ask(request, entry, deployment, path)
            if was_sent:
                break
        return response

    async def _ask(
        self, request: web.Request, entry: Entry, deployment: Deployment, path: str
    ) -> tuple[web.StreamResponse, bool]:
        """The answer of one service, and whether anything was sent to it."""
        answer = _Answer(request, deployment.record.name if entry is not deployment else "")
        try:
            async with asyncio.timeout(service_json.keepalive_seconds(deployment.record.config)):
                return await self._pass_on(request, deployment, path, answer)
        except TimeoutError:
            if answer.response is None:
                return _refuse(504, "upstream request timeout"), True
            answer.break_off()
            raise ConnectionResetError("time limit reached in the middle of an answer") from None

    async def _pass_on(
        self, request: web.Request, deployment: Deployment, path: str, answer: _Answer
    ) -> tuple[web.StreamResponse, bool]:
        assert self._session is not None  # noqa: S101
        query = request.rel_url.raw_query_string
        target = f"{path}?{query}" if query else path
        # The token is the gateway's business alone.
        headers = [(name, value) for name, value in request.headers.items() if name.lower() not in _NOT_PASSED_ON]
        tried: set[str] = set()
        while (instance := deployment.pick(tried)) is not None:
            tried.add(instance.name)
            with instance.serving():
                url = yarl.URL(f"http://127.0.0.1:{instance.port}{target}", encoded=True)
                copies = self._mirrors.wanted(deployment)
                copy = _Copy(request.content) if copies and request.can_read_body else None
                body = copy.read() if copy else request.content if request.can_read_body else None
                try:
                    proven = [*headers, (callers.HEADER, instance.secret)]
                    sent = self._session.request(request.method, url, headers=proven, data=body, allow_redirects=False)
                    async with sent as upstream:
                        if copies and (copy is None or copy.is_whole):
                            data = copy.data if copy else b""
                            self._mirrors.send_http(copies, request.method, target, headers, data)
                        return await answer.copy(upstream), True
                except aiohttp.ClientConnectorError:
                    continue  # nothing was sent, so another instance may have it
                except (aiohttp.ClientError, ConnectionError) as error:
                    if answer.response is not None:
                        answer.break_off()
                        raise ConnectionResetError("the instance broke off its answer") from None
                    log.info("instance %s gave no answer: %s", instance.name, type(error).__name__)
                    text = "upstream connect error or disconnect/reset before headers"
                    return _refuse(503, text), True
        return _refuse(503, "no healthy upstream" if tried or not deployment.live else ""), False

    def _wanted(self, entry: Entry) -> tuple[type[_HttpListener | GrpcListener], int] | None:
        if not entry.is_root or self._find(entry.route) is not entry:
            return None
        return (GrpcListener if entry.grpc else _HttpListener), entry.own_port

    def _is_right(self, entry: Entry) -> bool:
        listener = self._listeners.get(entry.identity)
        found = None if listener is None else (type(listener), listener.port)
        return found == self._wanted(entry)

    async def _open(self, entry: Entry) -> _HttpListener | GrpcListener:
        while True:
            port = entry.own_port
            listener = GrpcListener(entry, port, self._mirrors) if entry.grpc else _HttpListener(self, entry, port)
            try:
                await listener.start()
                return listener
            except OSError:
                await listener.stop()
                entry.move_to_port(free_port())


class _HttpListener:
    """A service or group at the root of a port of its own."""

    def __init__(self, gateway: Gateway, entry: Entry, port: int) -> None:
        self.port = port
        self._gateway = gateway
        self._entry = entry
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
        return await self._gateway.forward(request, self._entry, request.rel_url.raw_path)


class _Copy:
    """The body of one request while it is being passed on, kept for its mirrors unless it is large."""

    def __init__(self, content: aiohttp.StreamReader) -> None:
        self.data = b""
        self.is_whole = False
        self._content = content
        self._parts: list[bytes] = []
        self._size = 0

    async def read(self) -> AsyncIterator[bytes]:
        """The body as it comes."""
        async for part in self._content.iter_any():
            self._size += len(part)
            if self._size <= BODY_LIMIT:
                self._parts.append(part)
            yield part
        if self._size <= BODY_LIMIT:
            self.data, self.is_whole = b"".join(self._parts), True


class _Answer:
    """The answer to one request while it is being copied.

    Args:
        member: the member of a group that gives it, empty for a service of its own.
    """

    def __init__(self, request: web.Request, member: str) -> None:
        self.response: web.StreamResponse | None = None
        self._request = request
        self._member = member

    async def copy(self, upstream: aiohttp.ClientResponse) -> web.StreamResponse:
        """Passes status, headers and body on as they come."""
        response = web.StreamResponse(status=upstream.status, reason=upstream.reason)
        for name, value in upstream.headers.items():
            if name.lower() not in GONE_BY_THE_HOP:
                response.headers.add(name, value)
        if self._member:
            response.headers[MEMBER] = self._member
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
