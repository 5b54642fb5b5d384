"""The gRPC side of the gateway: any method of any service is passed to an instance, byte for byte.

Every call is handled as a stream in both directions; on the wire a unary call is one with a single message. Metadata,
deadline, status, message and status details go through; only the token stays here. Behind the address of a group the
member is chosen anew for every call, so that a connection does not keep a client at one.
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
from sandbox.cloud.eas.entry import MEMBER, Entry
from sandbox.cloud.eas.instance import Instance
from sandbox.cloud.eas.mirroring import BODY_LIMIT, Mirrors

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
    """A gRPC service, or a group of them, at a port of its own.

    Attributes:
        port: TCP port on 127.0.0.1.
    """

    def __init__(self, entry: Entry, port: int, mirrors: Mirrors) -> None:
        self.port = port
        self._entry = entry
        self._mirrors = mirrors
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
        metadata = tuple(context.invocation_metadata() or ())
        tokens = [str(value) for key, value in metadata if key == AUTHORIZATION]
        # No browser speaks gRPC; what passes gRPC-Web on leaves these in.
        reason = browser.refusal({key: str(value) for key, value in metadata}, f"127.0.0.1:{self.port}")
        if reason:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, f"The gateway does not answer this call: {reason}.")
        if not is_authorized(tokens, self._entry.token):
            message = f"The authorization metadata is not the token of {self._entry.title}."
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, message)
        passed_on = tuple((key, value) for key, value in metadata if key.lower() not in _NOT_PASSED_ON)
        tried: set[str] = set()
        while (deployment := self._entry.choose(tried)) is not None:
            tried.add(deployment.record.key)
            if not deployment.admits():
                await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "Over the rate limit of this service.")
            if await self._ask(deployment, method, requests, passed_on, context):
                return
        await context.abort(grpc.StatusCode.UNAVAILABLE, "no healthy upstream")

    async def _ask(
        self,
        deployment: Deployment,
        method: str,
        requests: AsyncIterator[bytes],
        metadata: tuple[tuple[str, Any], ...],
        context: Any,
    ) -> bool:
        """Passes a call to one service; False if no instance of it takes connections, and so nothing was sent."""
        limit = service_json.keepalive_seconds(deployment.record.config)
        remaining = context.time_remaining()
        timeout = limit if remaining is None else min(limit, remaining)
        member = ((MEMBER, deployment.record.name),) if self._entry is not deployment else ()
        tried: set[str] = set()
        while (instance := deployment.pick(tried)) is not None:
            tried.add(instance.name)
            with instance.serving():
                if not await _is_connected(instance):
                    continue  # nothing was sent, so another instance may have it
                copies = self._mirrors.wanted(deployment)
                copy = _Copy(requests) if copies else None
                proven = (*metadata, (AUTHORIZATION, instance.secret))
                sent = copy.read() if copy else requests
                call = instance.channel().stream_stream(method)(sent, timeout=timeout, metadata=proven)
                try:
                    await _copy(call, context, member)
                finally:
                    if copy and copy.is_whole:
                        self._mirrors.send_grpc(copies, method, metadata, copy.messages)
                return True
        return False


class _Copy:
    """The messages of one call while they are being passed on, kept for its mirrors unless they are large."""

    def __init__(self, requests: AsyncIterator[bytes]) -> None:
        self.messages: list[bytes] = []
        self.is_whole = False
        self._requests = requests
        self._size = 0

    async def read(self) -> AsyncIterator[bytes]:
        """The messages as they come."""
        async for message in self._requests:
            self._size += len(message)
            if self._size <= BODY_LIMIT:
                self.messages.append(message)
            yield message
        self.is_whole = self._size <= BODY_LIMIT


class _AnyMethod(grpc.GenericRpcHandler):  # type: ignore[misc]
    def __init__(self, handle: _Handler) -> None:
        self._handle = handle

    def service(self, details: Any) -> Any:
        async def handle(requests: AsyncIterator[bytes], context: Any) -> None:
            await self._handle(details.method, requests, context)

        return grpc.stream_stream_rpc_method_handler(handle)


async def _copy(call: Any, context: Any, member: tuple[tuple[str, str], ...]) -> None:
    """Passes the messages of an upstream call on, then ends the downstream call with its status."""
    try:
        await context.send_initial_metadata((*(await call.initial_metadata() or ()), *member))
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
