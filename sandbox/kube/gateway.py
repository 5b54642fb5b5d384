"""The data plane of a Gateway: HTTP and gRPC at one port of a loopback address, each request to a Service by weight.

A connection that begins with HTTP/2's preface is gRPC. The Service of each single request, or call, is chosen anew; a
pod that takes no connection is passed over, since nothing was sent to it. Copies for a mirror are sent afterwards, by
threads of their own, and dropped where those are busy.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import http.client
import logging
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc

from sandbox.kube.network import splice
from sandbox.turns import Turns
from tfserving.client import MEMBER_HEADER
from tfserving.kubernetes import GRPC_PORT, HTTP_PORT

log = logging.getLogger("sandbox.kube")

_PREFACE = b"PRI"
_CONNECT_SECONDS = 5.0
_SECONDS = 60.0
_MIRRORS_AT_ONCE = 8
_HOP = frozenset(
    {"connection", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "content-length"}
)
_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.enable_http_proxy", 0),
)


@dataclass(frozen=True)
class Table:
    """What one route says.

    Attributes:
        weights: by Service, ``namespace/name``.
        mirror: Service that gets copies; empty for none.
        percent: of the requests.
    """

    weights: Mapping[str, int]
    mirror: str
    percent: int

    @property
    def services(self) -> set[str]:
        """Every Service behind it."""
        return {*self.weights, *([self.mirror] if self.mirror else [])}


@dataclass(frozen=True)
class Backends:
    """Ready pods.

    Attributes:
        hosts: loopback addresses by Service.
    """

    hosts: Mapping[str, list[str]]


@dataclass
class _Routing:
    """The tables in force, and whose turn it is in each."""

    tables: Mapping[tuple[str, bool], Table] = field(default_factory=dict)
    backends: Backends = field(default_factory=lambda: Backends({}))
    turns: dict[tuple[str, bool], Turns] = field(default_factory=dict)
    mirrored: dict[tuple[str, bool], Turns] = field(default_factory=dict)
    pods: dict[str, int] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def choose(self, hostname: str, grpc_: bool) -> Iterator[tuple[str, str]]:
        """Services and pods to try for a request, the one whose turn it is first."""
        key = (hostname.partition(":")[0].lower(), grpc_)
        with self.lock:
            table, hosts = self.tables.get(key), self.backends.hosts
            if table is None:
                return
            weights = {name: weight for name, weight in table.weights.items() if weight > 0}
            open_ = {name: weight for name, weight in weights.items() if hosts.get(name)}
            first = self.turns.setdefault(key, Turns()).next(open_) if open_ else ""
        for service in (first, *(name for name in open_ if name != first)):
            yield from ((service, host) for host in self._in_turn(service))

    def copy_to(self, hostname: str, grpc_: bool) -> str:
        """Counts one request: the pod that is to get a copy of it; empty for none."""
        key = (hostname.partition(":")[0].lower(), grpc_)
        with self.lock:
            table = self.tables.get(key)
            if table is None or not table.mirror or not table.percent:
                return ""
            shares = {"yes": table.percent, "no": 100 - table.percent}
            shares = {name: share for name, share in shares.items() if share}
            wanted = self.mirrored.setdefault(key, Turns()).next(shares) == "yes"
        return next(iter(self._in_turn(table.mirror)), "") if wanted else ""

    def _in_turn(self, service: str) -> list[str]:
        with self.lock:
            hosts = self.backends.hosts.get(service) or []
            self.pods[service] = turn = self.pods.get(service, -1) + 1
        return [hosts[(turn + index) % len(hosts)] for index in range(len(hosts))]


class Gateway:
    """One Gateway.

    Args:
        address: loopback address.
        ports: of its listeners.
    """

    def __init__(self, address: str, ports: list[int]) -> None:
        self.address = address
        self._routing = _Routing()
        self._mirrors = concurrent.futures.ThreadPoolExecutor(_MIRRORS_AT_ONCE, "mirror")
        self._busy = threading.BoundedSemaphore(_MIRRORS_AT_ONCE)
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._http.daemon_threads = True
        threading.Thread(target=self._http.serve_forever, name="gateway http", daemon=True).start()
        self._channels: dict[str, grpc.Channel] = {}
        self._grpc = grpc.server(concurrent.futures.ThreadPoolExecutor(64, "gateway grpc"), options=_OPTIONS)
        self._grpc.add_generic_rpc_handlers((_AnyMethod(self),))
        self._grpc_port = self._grpc.add_insecure_port("127.0.0.1:0")
        self._grpc.start()
        self._sockets = [socket.create_server((address, port), backlog=128) for port in ports]
        for listening in self._sockets:
            threading.Thread(target=self._accept, args=(listening,), name="gateway", daemon=True).start()

    def route(self, tables: Mapping[tuple[str, bool], Table], backends: Backends) -> None:
        """Puts tables in force, by host name and whether they are for gRPC."""
        with self._routing.lock:
            self._routing.tables, self._routing.backends = dict(tables), backends

    def close(self) -> None:
        """Takes no more requests."""
        for listening in self._sockets:
            with contextlib.suppress(OSError):
                listening.shutdown(socket.SHUT_RDWR)
            listening.close()
        self._http.shutdown()
        self._http.server_close()
        self._grpc.stop(1)
        self._mirrors.shutdown(wait=False, cancel_futures=True)

    def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=self._carry, args=(connection,), daemon=True).start()

    def _carry(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.settimeout(_SECONDS)
            is_grpc = connection.recv(len(_PREFACE), socket.MSG_PEEK | socket.MSG_WAITALL) == _PREFACE
            port = self._grpc_port if is_grpc else self._http.server_address[1]
            with socket.create_connection(("127.0.0.1", int(port)), _CONNECT_SECONDS) as inner:
                inner.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                splice(connection, inner)

    # HTTP.

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Passes one HTTP request on, and its answer back."""
        hostname = request.headers.get("Host", "")
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP}
        found = False
        for service, host in self._routing.choose(hostname, False):
            found = True
            try:
                upstream = http.client.HTTPConnection(host, HTTP_PORT, timeout=_SECONDS)
                upstream.connect()
            except OSError:
                continue  # nothing was sent, so another pod may have it
            with contextlib.closing(upstream):
                try:
                    upstream.request(request.command, request.path, body, headers)
                    answer = upstream.getresponse()
                    data = answer.read()
                except (OSError, http.client.HTTPException):
                    self._reply(request, 503, b"upstream connect error or disconnect/reset before headers", {})
                    return
                told = {name: value for name, value in answer.getheaders() if name.lower() not in _HOP}
                self._reply(request, answer.status, data, {**told, MEMBER_HEADER: service.partition("/")[2]})
            self._copy(
                hostname, False, functools.partial(self._copy_http, request.command, request.path, body, headers)
            )
            return
        self._reply(request, 503 if found or self._knows(hostname, False) else 404, b"", {})

    def _knows(self, hostname: str, grpc_: bool) -> bool:
        return (hostname.partition(":")[0].lower(), grpc_) in self._routing.tables

    @staticmethod
    def _reply(request: BaseHTTPRequestHandler, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name, value)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    @staticmethod
    def _copy_http(method: str, path: str, body: bytes, headers: Mapping[str, str], pod: str) -> None:
        upstream = http.client.HTTPConnection(pod, HTTP_PORT, timeout=_SECONDS)
        with contextlib.closing(upstream):
            upstream.request(method, path, body, dict(headers))
            upstream.getresponse().read()

    # gRPC.

    def call(self, method: str, requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        """Passes one gRPC call on, message by message."""
        hostname = context._rpc_event.call_details.host.decode()  # the only place where grpcio says it
        metadata = [(key, value) for key, value in context.invocation_metadata() if not key.startswith("grpc-")]
        metadata = [(key, value) for key, value in metadata if key not in ("user-agent", "te", "content-type")]
        for service, host in self._routing.choose(hostname, True):
            channel = self._channel(host)
            try:
                grpc.channel_ready_future(channel).result(_CONNECT_SECONDS)
            except grpc.FutureTimeoutError:
                continue  # nothing was sent, so another pod may have it
            kept: list[bytes] = []
            sent = (kept.append(message) or message for message in requests)  # type: ignore[func-returns-value]
            upstream = channel.stream_stream(method)(sent, metadata=metadata, timeout=context.time_remaining())
            try:
                first = tuple(upstream.initial_metadata() or ())
                context.send_initial_metadata((*first, (MEMBER_HEADER, service.partition("/")[2])))
                yield from upstream
            except grpc.RpcError as error:
                context.set_trailing_metadata(tuple(error.trailing_metadata() or ()))
                context.abort(error.code(), error.details())
            finally:
                upstream.cancel()
            self._copy(hostname, True, functools.partial(self._copy_grpc, method, kept, metadata))
            return
        context.abort(grpc.StatusCode.UNAVAILABLE, "no healthy upstream")

    def _channel(self, host: str) -> Any:
        with self._routing.lock:
            if host not in self._channels:
                self._channels[host] = grpc.insecure_channel(f"{host}:{GRPC_PORT}", options=_OPTIONS)
            return self._channels[host]

    def _copy_grpc(self, method: str, messages: list[bytes], metadata: list[tuple[str, Any]], pod: str) -> None:
        for _ in self._channel(pod).stream_stream(method)(iter(messages), metadata=metadata, timeout=_SECONDS):
            pass

    def _copy(self, hostname: str, grpc_: bool, send: Callable[[str], None]) -> None:
        pod = self._routing.copy_to(hostname, grpc_)
        if not pod or not self._busy.acquire(blocking=False):
            return

        def quietly() -> None:
            try:
                send(pod)
            except Exception as error:  # whatever it is, it is no business of the request
                log.info("a mirrored request gave no answer: %s", type(error).__name__)
            finally:
                self._busy.release()

        self._mirrors.submit(quietly)


def _handler(gateway: Gateway) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            gateway.answer(self)

        do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = _answer

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: requests are many."""

    return Handler


class _AnyMethod(grpc.GenericRpcHandler):  # type: ignore[misc]
    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def service(self, details: Any) -> Any:
        def handle(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
            yield from self._gateway.call(details.method, requests, context)

        return grpc.stream_stream_rpc_method_handler(handle)
