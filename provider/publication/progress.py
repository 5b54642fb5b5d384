"""How far an upload is, as a status message."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Iterator

from provider.resource import Context
from tfserving.manifest import amount

_STATUS_SECONDS = 1.0
_RATE_SECONDS = 10.0
_QUIET_SECONDS = 5.0
"""After so long without a byte nobody knows how much time is left."""


class Progress:
    """What has been uploaded of a model, as a status message: files, bytes, rate, time left."""

    def __init__(self, ctx: Context, name: str, files: int, size: int) -> None:
        self._ctx = ctx
        self._name = name
        self._files = files
        self._size = size
        self._done = 0
        self._there = 0  # bytes that are in OSS, sent by this run or an earlier one
        self._sent: deque[tuple[float, int]] = deque([(time.monotonic(), 0)])
        self._total = 0
        self._shown = 0.0
        self._moved = time.monotonic()
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def shown_all_along(self) -> Iterator[None]:
        """While this lasts, the message is renewed also when nothing goes through."""
        over = threading.Event()

        def renew() -> None:
            while not over.wait(_STATUS_SECONDS):
                if self._done < self._files and time.monotonic() - self._moved > _QUIET_SECONDS:
                    self._show()

        thread = threading.Thread(target=renew, name="progress", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def sent(self, count: int) -> None:
        """More bytes are on the way. Raises where the operation is cancelled or out of time."""
        self._ctx.check()
        with self._lock:
            self._there += count
            self._total += count
            self._moved = time.monotonic()
        self._show()

    def kept(self, count: int, *, done: bool) -> None:
        """``count`` bytes need not be sent; ``done``: one more file is complete."""
        with self._lock:
            self._there += count
            self._done += done
            self._moved = time.monotonic()
        self._show()

    def _show(self) -> None:
        now = time.monotonic()
        with self._lock:
            if now - self._shown < _STATUS_SECONDS and self._done < self._files:
                return
            self._shown = now
            self._sent.append((now, self._total))
            while now - self._sent[0][0] > _RATE_SECONDS and len(self._sent) > 2:
                self._sent.popleft()
            since, before = self._sent[0]
            rate = (self._total - before) / max(now - since, 0.001)
            message = (
                f"{self._name}: {self._done} of {self._files} files, {amount(self._there)} of {amount(self._size)}"
            )
            quiet = now - self._moved
            if quiet > _QUIET_SECONDS and self._done < self._files:
                message += f", nothing went through for {_duration(quiet)}"
            elif rate > 0 and self._there < self._size:
                message += f", {amount(rate)}/s, {_duration((self._size - self._there) / rate)} left"
        self._ctx.status(message)


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
