"""Constant, bounded load on a service from several clients, every failure recorded."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from tfserving.client import connect
from tfserving.errors import TFServingError

IMAGE = [[[[1.0]] * 28] * 28]
PER_SECOND = 40
"""Requests of all clients together: what servers do meanwhile must not take longer only because they are asked."""
_LEAST_PAUSE = 0.1
_HEARD_SECONDS = 120
"""How long the slowest client may take for one answer: its connection, and its own time-out."""


@dataclass(frozen=True)
class Target:
    """What one client asks for, over and over."""

    model: str
    label: str | None = None
    version: int | None = None

    def __str__(self) -> str:
        return f"{self.model}/{self.label or self.version or 'latest'}"


@dataclass
class Load:
    """One client per service and target, from ``with`` to its end.

    Attributes:
        requests: answered requests by service and target.
        failures: what went wrong, with the time since the start in seconds.
    """

    services: Mapping[str, Mapping[str, Any]]
    targets: Sequence[Target]
    requests: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    _heard: Counter[str] = field(default_factory=Counter)
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Self:
        for name, service in self.services.items():
            for target in self.targets:
                thread = threading.Thread(target=self._ask, args=(name, service, target), daemon=True)
                thread.start()
                self._threads.append(thread)
        self._hear_everyone()
        return self

    def __exit__(self, *_: object) -> None:
        self._hear_everyone()  # once more, of what was done meanwhile
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=30)

    def _hear_everyone(self) -> None:
        """Waits until every client has an answer, or a failure, that it did not have before."""
        before = Counter(self._heard)
        clients = len(self.services) * len(self.targets)
        deadline = time.monotonic() + _HEARD_SECONDS
        while len(self._heard - before) < clients:
            assert time.monotonic() < deadline, f"only {sorted(self._heard - before)} were answered"
            time.sleep(_LEAST_PAUSE)

    def _ask(self, name: str, service: Mapping[str, Any], target: Target) -> None:
        started = time.monotonic()
        pause = max(_LEAST_PAUSE, len(self.services) * len(self.targets) / PER_SECOND)
        who = f"{name} {target}"
        address = {"target": service["target"]} if service["protocol"] == "grpc" else {"url": service["url"]}
        with connect(**address, token=service["token"], timeout=20) as client:
            while not self._stop.is_set():
                try:
                    client.predict(target.model, IMAGE, version=target.version, label=target.label)
                    self.requests[who] += 1
                except TFServingError as error:
                    self.failures.append(f"{time.monotonic() - started:6.2f} s {who}: {error}")
                self._heard[who] += 1
                time.sleep(pause)
