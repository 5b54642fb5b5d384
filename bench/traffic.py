"""Shares of a group on a running local stack: how exact they are, and that no change of them fails a request."""

from __future__ import annotations

import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import local_stack
from bench.measure import Result, python, run, spread
from bench.world import checkout
from tfserving.client import connect
from tfserving.errors import TFServingError

CHANGES = ((90, 10), (75, 25), (50, 50), (10, 90), (0, 100), (50, 50), (100, 0), (99, 1), (1, 99), (95, 5))
"""Shares of the first and of the second member, one after another."""
_GROUPS = {"vision": "multi_http", "talk": "multi_grpc"}
"""Groups, and the service of the local stack that their members are like."""
_CLIENTS = 4
_MODEL = "modelB"
_IMAGE = [[[[1.0]] * 28] * 28]


def shares(requests: int) -> Result:
    """How many of so many requests each member answers, over both protocols, while nothing changes."""
    result = Result(
        "traffic-shares",
        f"shares of {requests} requests of each protocol, {_CLIENTS} clients",
        ("group", "weight", "share", "off by", "failed", "requests a second"),
    )
    with _stack() as root:
        for group, found in local_stack.outputs(root)["traffic"].items():
            load = Load(found)
            started = time.monotonic()
            load.run(requests)
            seconds = time.monotonic() - started
            answered = sum(load.answered.values())
            for member, weight in found["weights"].items():
                share = load.answered[member] * 100 / answered
                result.row(
                    f"{group} ({found['protocol']}), {member}",
                    f"{weight} %",
                    f"{share:.2f} %",
                    f"{abs(share - weight):.2f} points",
                    str(len(load.failures)),
                    f"{answered / seconds:.0f}",
                )
            result.data[group] = {"answered": dict(load.answered), "failures": load.failures, "seconds": seconds}
    return result


def changes() -> Result:
    """Changes of the shares by `up`, while clients ask both groups all the time."""
    result = Result(
        "traffic-changes",
        f"{len(CHANGES)} changes of shares under load",
        ("group", "requests", "failed", "whole `up`"),
    )
    with _stack() as root:
        groups = local_stack.outputs(root)["traffic"]
        loads = {name: Load(found) for name, found in groups.items()}
        for load in loads.values():
            load.begin()
        took = []
        for first, second in CHANGES:
            _share(root, first, second)
            started = time.monotonic()
            run(python("-m", "sandbox", "up", "--stack", "local", "--yes"), root, local_stack.environment(root))
            took.append(time.monotonic() - started)
        for load in loads.values():
            load.end()
        for name, load in loads.items():
            failed, answered = len(load.failures), sum(load.answered.values())
            result.row(f"{name} ({groups[name]['protocol']})", str(answered + failed), str(failed), spread(took))
            result.data[name] = {"answered": dict(load.answered), "failures": load.failures, "up": took}
    return result


@dataclass
class Load:
    """Clients of one group.

    Attributes:
        group: its address and token, as the stack exports them.
        answered: requests by the member that answered.
        failures: what went wrong.
    """

    group: dict[str, Any]
    answered: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    _left: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _threads: list[threading.Thread] = field(default_factory=list)

    def run(self, requests: int) -> None:
        """Asks so many times."""
        self._left = requests
        self._start()
        self.end(wait=True)

    def begin(self) -> None:
        """Begins to ask, until :meth:`end`."""
        self._left = 1 << 60
        self._start()

    def end(self, *, wait: bool = False) -> None:
        """Ends asking; or waits until everything is asked."""
        if not wait:
            self._left = 0
        for thread in self._threads:
            thread.join()

    def _start(self) -> None:
        self._threads = [threading.Thread(target=self._ask) for _ in range(_CLIENTS)]
        for thread in self._threads:
            thread.start()

    def _take(self) -> bool:
        with self._lock:
            self._left -= 1
            return self._left >= 0

    def _ask(self) -> None:
        group = self.group
        address = {"target": group["target"]} if group["protocol"] == "grpc" else {"url": group["url"]}
        with connect(**address, token=group["token"], timeout=20) as client:
            while self._take():
                try:
                    member = client.predict(_MODEL, _IMAGE, label="stable").member
                except TFServingError as error:
                    with self._lock:
                        self.failures.append(str(error))
                else:
                    with self._lock:
                        self.answered[member] += 1


@contextmanager
def _stack() -> Iterator[Path]:
    """A checkout whose local stack has a group of two services for each protocol."""
    with tempfile.TemporaryDirectory(prefix="bench-") as path:
        root = checkout(Path(path))

        def groups(config: dict[str, Any]) -> None:
            known = config["tf-serving:services"]
            config["tf-serving:services"] = {
                f"{group}_{member}": known[like] for group, like in _GROUPS.items() for member in ("stable", "canary")
            }
            config["tf-serving:traffic"] = {group: {"weights": {}} for group in _GROUPS}

        local_stack.edit(root, groups)
        _share(root, *CHANGES[0])
        try:
            run(python("-m", "local", "up"), root, local_stack.environment(root))
            yield root
        finally:
            run(python("-m", "local", "down"), root, local_stack.environment(root))


def _share(root: Path, first: int, second: int) -> None:
    def change(config: dict[str, Any]) -> None:
        for group in _GROUPS:
            weights = {f"{group}_stable": first, f"{group}_canary": second}
            config["tf-serving:traffic"][group]["weights"] = weights

    local_stack.edit(root, change)
