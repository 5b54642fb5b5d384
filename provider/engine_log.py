"""The engine's log: where messages about resources go, and whether the engine is still there."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Mapping

import grpc
from pulumi.runtime.proto import engine_pb2, engine_pb2_grpc

from provider.resource import Severity

CHANNEL_OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
"""Messages of any size."""

_LOG_SECONDS = 5.0
_CHECK_SECONDS = 5.0
_STATUS_INTERVAL_SECONDS = 0.25
_SEVERITIES: Mapping[Severity, engine_pb2.LogSeverity.ValueType] = {
    "debug": engine_pb2.DEBUG,
    "info": engine_pb2.INFO,
    "warning": engine_pb2.WARNING,
    "error": engine_pb2.ERROR,
}


class EngineLog:
    """The engine's log, once its address is known. A message that cannot be delivered is dropped.

    Attributes:
        address: ``host:port`` of the engine; empty until it is known.
    """

    def __init__(self) -> None:
        self.address = ""
        self._stub: engine_pb2_grpc.EngineStub | None = None
        self._channel: grpc.Channel | None = None
        self._lock = threading.Lock()
        self._last_status: dict[str, float] = {}

    def connect(self, address: str) -> None:
        """Send messages to the engine at ``host:port`` from now on."""
        self.address = address
        options = [*CHANNEL_OPTIONS, ("grpc.enable_http_proxy", 0)]
        self._channel = grpc.insecure_channel(address, options=options)
        self._stub = engine_pb2_grpc.EngineStub(self._channel)

    def __call__(self, severity: Severity, urn: str, message: str, *, ephemeral: bool = False) -> None:
        """Send one message; statuses of one resource at most a few times a second."""
        stub = self._stub
        if stub is None:
            return
        if ephemeral:
            now = time.monotonic()
            with self._lock:
                if now - self._last_status.get(urn, 0.0) < _STATUS_INTERVAL_SECONDS:
                    return
                self._last_status[urn] = now
        request = engine_pb2.LogRequest(severity=_SEVERITIES[severity], message=message, urn=urn, ephemeral=ephemeral)
        with contextlib.suppress(grpc.RpcError):
            stub.Log(request, timeout=_LOG_SECONDS)

    def engine_is_there(self) -> bool:
        """Whether the engine is there; True where none is known. Any answer counts, and so does a slow one."""
        if self._channel is None:
            return True
        check = self._channel.unary_unary("/grpc.health.v1.Health/Check")
        try:
            check(b"", timeout=_CHECK_SECONDS)
        except grpc.RpcError as error:
            return bool(error.code() != grpc.StatusCode.UNAVAILABLE)
        return True
