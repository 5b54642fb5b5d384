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
PAUSE = 0.1
"""Seconds between two requests of one client: the load must not starve the servers on a small machine."""


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
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Self:
        for name, service in self.services.items():
            for target in self.targets:
                thread = threading.Thread(target=self._ask, args=(name, service, target), daemon=True)
                thread.start()
                self._threads.append(thread)
        return self

    def __exit__(self, *_: object) -> None:
        time.sleep(0.5)
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=30)

    def _ask(self, name: str, service: Mapping[str, Any], target: Target) -> None:
        started = time.monotonic()
        who = f"{name} {target}"
        address = {"target": service["target"]} if service["protocol"] == "grpc" else {"url": service["url"]}
        with connect(**address, token=service["token"], timeout=20) as client:
            while not self._stop.is_set():
                try:
                    client.predict(target.model, IMAGE, version=target.version, label=target.label)
                    self.requests[who] += 1
                except TFServingError as error:
                    self.failures.append(f"{time.monotonic() - started:6.2f} s {who}: {error}")
                time.sleep(PAUSE)
