"""The gRPC side of the gateway: any method of any service is passed to an instance, byte for byte.

Every call is handled as a stream in both directions; on the wire a unary call is one with a single message. Metadata,
deadline, status, message and status details go through; only the token stays here.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import grpc.aio

from sandbox import browser
from sandbox.cloud.eas import service_json
from sandbox.cloud.eas.auth import is_authorized
from sandbox.cloud.eas.deployment import Deployment
from sandbox.cloud.eas.instance import Instance

AUTHORIZATION = "authorization"
_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_metadata_size", 1 << 20),
    ("grpc.so_reuseport", 0),
)
_CONNECT_SECONDS = 5.0
_NOT_PASSED_ON = frozenset({AUTHORIZATION, "user-agent", "te", "content-type", "host"})

_Handler = Callable[[str, AsyncIterator[bytes], Any], Awaitable[None]]


class GrpcListener:
    """A gRPC service at a port of its own.

    Attributes:
        port: TCP port on 127.0.0.1.
    """

    def __init__(self, deployment: Deployment, port: int) -> None:
        self.port = port
        self._deployment = deployment
        self._server = grpc.aio.server(options=_OPTIONS)
        self._server.add_generic_rpc_handlers((_AnyMethod(self._handle),))

    async def start(self) -> None:
        """Raises:
        OSError: the port is taken.
        """
        try:
            self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        except RuntimeError as error:
            raise OSError(str(error)) from None
        await self._server.start()

    async def stop(self) -> None:
        """Lets calls finish for a moment, then closes the port."""
        await self._server.stop(grace=2)

    async def _handle(self, method: str, requests: AsyncIterator[bytes], context: Any) -> None:
        deployment = self._deployment
        metadata = tuple(context.invocation_metadata() or ())
        tokens = [str(value) for key, value in metadata if key == AUTHORIZATION]
        # No browser speaks gRPC; what passes gRPC-Web on leaves these in.
        reason = browser.refusal({key: str(value) for key, value in metadata}, f"127.0.0.1:{self.port}")
        if reason:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, f"The gateway does not answer this call: {reason}.")
        if not is_authorized(tokens, deployment.record.token):
            message = f"The authorization metadata is not the token of service {deployment.record.name}."
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, message)
        if not deployment.admits():
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "Over the rate limit of this service.")
        limit = service_json.keepalive_seconds(deployment.record.config)
        remaining = context.time_remaining()
        timeout = limit if remaining is None else min(limit, remaining)
        passed_on = tuple((key, value) for key, value in metadata if key.lower() not in _NOT_PASSED_ON)
        tried: set[str] = set()
        while (instance := deployment.pick(tried)) is not None:
            tried.add(instance.name)
            with instance.serving():
                if not await _is_connected(instance):
                    continue  # nothing was sent, so another instance may have it
                proven = (*passed_on, (AUTHORIZATION, instance.secret))
                call = instance.channel().stream_stream(method)(requests, timeout=timeout, metadata=proven)
                await _copy(call, context)
                return
        await context.abort(grpc.StatusCode.UNAVAILABLE, "no healthy upstream")


class _AnyMethod(grpc.GenericRpcHandler):  # type: ignore[misc]
    def __init__(self, handle: _Handler) -> None:
        self._handle = handle

    def service(self, details: Any) -> Any:
        async def handle(requests: AsyncIterator[bytes], context: Any) -> None:
            await self._handle(details.method, requests, context)

        return grpc.stream_stream_rpc_method_handler(handle)


async def _copy(call: Any, context: Any) -> None:
    """Passes the messages of an upstream call on, then ends the downstream call with its status."""
    try:
        await context.send_initial_metadata(tuple(await call.initial_metadata() or ()))
        async for message in call:
            await context.write(message)
        code, details, trailing = await call.code(), await call.details(), await call.trailing_metadata()
    except grpc.aio.AioRpcError as error:
        code, details, trailing = error.code(), error.details(), error.trailing_metadata()
    finally:
        call.cancel()  # does nothing to a call that is over; else its caller is gone
    context.set_trailing_metadata(tuple(trailing or ()))
    if code is not grpc.StatusCode.OK:
        await context.abort(code, details or "", tuple(trailing or ()))


async def _is_connected(instance: Instance) -> bool:
    """Whether the instance takes connections; waits for one that is being made."""
    channel = instance.channel()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_CONNECT_SECONDS):
            state = channel.get_state(try_to_connect=True)
            while state is not grpc.ChannelConnectivity.READY:
                if state in (grpc.ChannelConnectivity.TRANSIENT_FAILURE, grpc.ChannelConnectivity.SHUTDOWN):
                    return False
                await channel.wait_for_state_change(state)
                state = channel.get_state(try_to_connect=True)
            return True
    return False
