"""Shadow traffic: copies of requests for other services, whose answers nobody waits for.

A copy is sent once the request itself has been passed on whole, in a task of its own, and what becomes of it reaches
nobody but the log. Copies are dropped rather than kept waiting: those of large requests, and those beyond a number that
is under way. A mirror without a ready instance, over its rate limit, or of another protocol gets none.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import aiohttp
import yarl

from sandbox.cloud.eas import service_json
from sandbox.cloud.eas.deployment import Deployment
from sandbox.model_server import callers
from sandbox.turns import Turns

log = logging.getLogger("sandbox.cloud.eas")

BODY_LIMIT = 8 << 20
"""Bytes of a request above which no copy of it is made."""
_AT_ONCE = 32


class Mirrors:
    """The copies of one gateway.

    Attributes:
        sent: copies sent so far.
        dropped: copies not sent because too many were under way.
    """

    def __init__(self, find: Callable[[str, str], Deployment | None]) -> None:
        """Args:
        find: the service of a region and name.
        """
        self._find = find
        self._turns: dict[str, Turns] = {}
        self._session: aiohttp.ClientSession | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.sent = 0
        self.dropped = 0

    async def start(self) -> None:
        """Ready for copies."""
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        self._session = aiohttp.ClientSession(
            connector=connector, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()
        )

    async def stop(self) -> None:
        """Gives up what is under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    def wanted(self, deployment: Deployment) -> list[Deployment]:
        """Counts one request of a service: where copies of it go."""
        mirror = deployment.record.mirror
        if not mirror or not mirror["Ratio"]:
            return []
        shares = {name: weight for name, weight in ((True, mirror["Ratio"]), (False, 100 - mirror["Ratio"])) if weight}
        turns = self._turns.setdefault(deployment.record.service_id, Turns())
        if turns.next({str(yes): weight for yes, weight in shares.items()}) != "True":
            return []
        found = [self._find(deployment.record.region, name) for name in mirror["Target"]]
        return [d for d in found if d is not None and d is not deployment and d.grpc == deployment.grpc]

    def send_http(
        self, targets: Sequence[Deployment], method: str, path: str, headers: list[tuple[str, str]], body: bytes
    ) -> None:
        """Sends copies of an HTTP request, in the background.

        Args:
            headers: without those of the connection and without the token.
        """
        for target in targets:
            self._begin(target, self._http(target, method, path, headers, body))

    def send_grpc(
        self, targets: Sequence[Deployment], method: str, metadata: tuple[tuple[str, Any], ...], messages: list[bytes]
    ) -> None:
        """Sends copies of a gRPC call, in the background.

        Args:
            metadata: without the token.
        """
        for target in targets:
            self._begin(target, self._grpc(target, method, metadata, messages))

    def _begin(self, target: Deployment, sending: Coroutine[Any, Any, None]) -> None:
        if len(self._tasks) >= _AT_ONCE or not target.admits():
            self.dropped += 1
            sending.close()
            return
        self.sent += 1
        task = asyncio.create_task(self._quietly(target, sending))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _quietly(self, target: Deployment, sending: Coroutine[Any, Any, None]) -> None:
        try:
            async with asyncio.timeout(service_json.keepalive_seconds(target.record.config)):
                await sending
        except Exception as error:  # whatever it is, it is no business of the request
            log.info("a mirrored request to %s gave no answer: %s", target.record.name, type(error).__name__)

    async def _http(
        self, target: Deployment, method: str, path: str, headers: list[tuple[str, str]], body: bytes
    ) -> None:
        assert self._session is not None  # noqa: S101
        instance = target.pick(set())
        if instance is None:
            return
        with instance.serving():
            url = yarl.URL(f"http://127.0.0.1:{instance.port}{path}", encoded=True)
            proven = [(name, value) for name, value in headers if name.lower() != "content-length"]
            proven.append((callers.HEADER, instance.secret))
            sent = self._session.request(method, url, headers=proven, data=body or None, allow_redirects=False)
            async with sent as answer:
                await answer.read()

    async def _grpc(
        self, target: Deployment, method: str, metadata: tuple[tuple[str, Any], ...], messages: list[bytes]
    ) -> None:
        instance = target.pick(set())
        if instance is None:
            return
        with instance.serving():
            proven = (*metadata, ("authorization", instance.secret))
            call = instance.channel().stream_stream(method)(iter(messages), metadata=proven)
            async for _ in call:
                pass
