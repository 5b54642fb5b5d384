"""How long requests take: many of them, several at a time, two versions side by side."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field


@dataclass
class Times:
    """What was measured of one version.

    Attributes:
        seconds: of each answered request.
        failures: why the others failed.
    """

    seconds: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def percentile(self, share: float) -> float | None:
        """Milliseconds within which this share of the requests was answered; None where none was.

        By the nearest rank, so it is a time that was measured.
        """
        if not self.seconds:
            return None
        rank = max(math.ceil(share * len(self.seconds)), 1)
        return sorted(self.seconds)[rank - 1] * 1000


Ask = Callable[[int, int], float]
"""Sends one request, by number of the worker and of the request; seconds until it was answered."""


def measure(versions: Sequence[Ask], requests: int, concurrency: int, check: Callable[[], None]) -> list[Times]:
    """Times of so many requests to each version.

    Requests to the versions alternate, so that whatever else goes on at the time falls on all of them. The first ones
    of each worker are not counted: they open connections.

    Args:
        versions: how each is asked. What :class:`OSError` and its kin are, they have made a ``MeasureError`` of.
        requests: how many of each are counted.
        concurrency: workers.
        check: raises where the measurement has to end.
    """
    found = [Times() for _ in versions]
    lock = threading.Lock()
    numbers = iter(range(requests))
    stopped = threading.Event()

    def work(worker: int) -> None:
        for ask in versions:
            one(worker, ask, -1)
        while not stopped.is_set():
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            turned = number % len(versions)
            for index in (*range(turned, len(versions)), *range(turned)):
                check()
                seconds, failure = one(worker, versions[index], number)
                with lock:
                    if failure:
                        found[index].failures.append(failure)
                    else:
                        found[index].seconds.append(seconds)

    def one(worker: int, ask: Ask, number: int) -> tuple[float, str]:
        try:
            return ask(worker, max(number, 0)), ""
        except MeasureError as error:
            return 0.0, str(error)

    with ThreadPoolExecutor(concurrency) as pool:
        try:
            for done in [pool.submit(work, worker) for worker in range(concurrency)]:
                done.result()
        finally:
            stopped.set()
    return found


class MeasureError(Exception):
    """A request was not answered as it should be."""
