"""``grpc.health.v1.Health``: SERVING for the server and both services, from the moment it listens.

A health response is one enum field: ``08 01`` is ``status: SERVING``. A request names a service in field 1.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import grpc

_KNOWN = (b"", b"ModelService", b"PredictionService")
_SERVING = b"\x08\x01"
_SERVICE_UNKNOWN = b"\x08\x03"

_Send = Callable[[bytes | None], None]


class Health(grpc.GenericRpcHandler):  # type: ignore[misc]
    """``Check`` answers once, ``Watch`` says the state and stays open. Nothing here ever changes until the end."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watchers: set[_Send] = set()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        """The handler of a call, None where it is not for this service."""
        if handler_call_details.method == "/grpc.health.v1.Health/Check":
            return grpc.unary_unary_rpc_method_handler(self._check)
        if handler_call_details.method == "/grpc.health.v1.Health/Watch":
            return grpc.unary_stream_rpc_method_handler(_Watch(self._watch))
        return None

    def stop(self) -> None:
        """Ends what watches, which would otherwise keep a stopping server waiting."""
        with self._lock:
            watchers, self._watchers = self._watchers, set()
        for send in watchers:
            send(None)

    @staticmethod
    def _check(request: bytes, context: grpc.ServicerContext) -> bytes:
        if request[2:] not in _KNOWN:
            context.abort(grpc.StatusCode.NOT_FOUND, "")
        return _SERVING

    def _watch(self, request: bytes, context: grpc.ServicerContext, send: _Send) -> None:
        with self._lock:
            self._watchers.add(send)

        def forget() -> None:
            with self._lock:
                self._watchers.discard(send)

        context.add_callback(forget)
        send(_SERVING if request[2:] in _KNOWN else _SERVICE_UNKNOWN)


class _Watch:
    """Marks a method that sends through a callback, so that an open watch holds no thread."""

    experimental_non_blocking = True

    def __init__(self, method: Callable[[bytes, grpc.ServicerContext, _Send], None]) -> None:
        self._method = method

    def __call__(self, request: bytes, context: grpc.ServicerContext, send_response_callback: _Send) -> None:
        self._method(request, context, send_response_callback)
