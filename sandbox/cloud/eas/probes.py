"""Health checks of a container, with Kubernetes semantics: HTTP 200 to 399 or an open TCP port is healthy."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sandbox.model_server import callers

DEFAULT_PERIOD_SECONDS = 10
DEFAULT_TIMEOUT_SECONDS = 1
DEFAULT_FAILURES = 3


@dataclass(frozen=True)
class Probe:
    """One check.

    Attributes:
        port: container port to ask; 0 is the service's port.
        path: path to GET, None for an open TCP port.
        budget: seconds in which a startup check must succeed.
        period: seconds between checks.
        timeout: seconds one check may take.
        failures: failed checks in a row that count as one failure.
        is_substitute: it stands in for an ``exec`` check, which would need a container.
    """

    port: int = 0
    path: str | None = None
    budget: float = 0
    period: float = DEFAULT_PERIOD_SECONDS
    timeout: float = DEFAULT_TIMEOUT_SECONDS
    failures: int = DEFAULT_FAILURES
    is_substitute: bool = False

    @property
    def text(self) -> str:
        """For a person: what is asked."""
        return f"GET {self.path}" if self.path is not None else "a TCP connection"


def read(container: Mapping[str, Any], *keys: str) -> Probe | None:
    """The first check among ``keys`` that a container of a validated service JSON has."""
    check = next((container[key] for key in keys if key in container), None)
    if check is None:
        return None
    period = float(check.get("period_seconds", DEFAULT_PERIOD_SECONDS))
    failures = int(check.get("failure_threshold", DEFAULT_FAILURES))
    handler = check.get("http_get") or check.get("tcp_socket") or {}
    return Probe(
        port=int(handler.get("port", 0)),
        path=str(check["http_get"].get("path", "/")) if "http_get" in check else None,
        budget=float(check.get("initial_delay_seconds", 0)) + period * failures,
        period=period,
        timeout=float(check.get("timeout_seconds", DEFAULT_TIMEOUT_SECONDS)),
        failures=failures,
        is_substitute="exec" in check,
    )


async def passes(probe: Probe, local_port: int, secret: str) -> bool:
    """Checks once.

    Args:
        local_port: the loopback port that stands for ``probe.port``; 0 if the server does not listen on it.
        secret: by which the instance knows its gateway.
    """
    if not local_port:
        return False
    try:
        async with asyncio.timeout(probe.timeout):
            reader, writer = await asyncio.open_connection("127.0.0.1", local_port)
            try:
                if probe.path is None:
                    return True
                path = probe.path if probe.path.startswith("/") else f"/{probe.path}"
                lines = (f"GET {path} HTTP/1.1", "Host: 127.0.0.1", f"{callers.HEADER}: {secret}", "Connection: close")
                writer.write("".join(f"{line}\r\n" for line in (*lines, "")).encode())
                await writer.drain()
                status = (await reader.readline()).split()
                return len(status) > 1 and status[1].isdigit() and 200 <= int(status[1]) < 400
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
    except (OSError, TimeoutError, ValueError):
        return False
