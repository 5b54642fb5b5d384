"""What a service says of itself: log, events, and the counters of its replicas. Tokens never show in it."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor
from dataclasses import asdict, replace
from typing import Any

from sandbox.cloud.console.places import Shown, page_of
from tfserving.errors import TFServingError
from tfserving.metrics import LATENCY, REQUESTS, Counts, Page, Window, total

MASK = "[secret]"
_SHORTEST = 6
"""Shorter tokens would be found in words that have nothing to do with them."""
_KEPT_SECONDS = 300.0
_APART_SECONDS = 60.0
"""Earlier pages are kept so far apart: those of a thousand models are large."""
MODELS_PER_PAGE = 50


def masked(text: str, secrets: Iterable[str]) -> str:
    """A text without secrets."""
    for secret in secrets:
        if len(secret) >= _SHORTEST:
            text = text.replace(secret, MASK)
    return text


def log(shown: Shown, count: int, word: str, secrets: Iterable[str]) -> list[str]:
    """The newest lines of a service's log, oldest first. Blocks."""
    known = list(secrets)
    return [masked(line, known) for line in shown.log(count, word)]


def events(shown: Shown, secrets: Iterable[str]) -> list[dict[str, str]]:
    """The newest events of a service, newest first. Blocks."""
    known = list(secrets)
    return [asdict(replace(each, message=masked(each.message, known))) for each in shown.events()]


class Meters:
    """Counters of services: since their replicas started, and lately, which is minutes at most."""

    def __init__(self, executor: Executor, clock: Callable[[], float] = time.monotonic) -> None:
        self._executor = executor
        self._clock = clock
        self._heard: dict[str, deque[tuple[float, Mapping[str, Page]]]] = {}

    async def look(self, shown: Shown, text: str = "", page: int = 1) -> dict[str, Any]:
        """``{"problem", "replicas", "seconds", "models": [...], "matching", "page", "pages"}``, for the page.

        Args:
            shown: the service.
            text: part of the names of models that are wanted.
            page: which of them, from 1.
        """
        loop = asyncio.get_running_loop()
        path = await loop.run_in_executor(self._executor, shown.metrics_path)
        if not path:
            return _nothing("the server's counters are switched off. Fix: set monitoring: true for this service")
        readers = {each.name: each.metrics for each in shown.targets if each.metrics is not None}
        if not readers:
            return _nothing("no replica is ready" if not shown.targets else "its replicas speak no HTTP")
        try:
            read = [loop.run_in_executor(self._executor, _page, each, path) for each in readers.values()]
            pages = dict(zip(readers, await asyncio.gather(*read), strict=True))
        except TFServingError as error:
            return _nothing(str(error))
        window, seconds = self._window(shown.name, pages)
        names = sorted({model for each in pages.values() for model in each.models() if model})
        matching = [model for model in names if text.lower() in model.lower()]
        number, count, chosen = page_of(matching, page, MODELS_PER_PAGE)
        return {
            "problem": "",
            "replicas": len(pages),
            "seconds": seconds,
            "matching": len(matching),
            "page": number,
            "pages": count,
            "models": [
                {
                    "model": model,
                    "start": as_view(total(each.counts(model) for each in pages.values())),
                    "lately": as_view(window.counts(model)),
                }
                for model in chosen
            ],
        }

    def _window(self, name: str, pages: Mapping[str, Page]) -> tuple[Window, int]:
        """The replicas' pages of the last minutes, and how many seconds that is."""
        heard, now = self._heard.setdefault(name, deque()), self._clock()
        while heard and now - heard[0][0] > _KEPT_SECONDS:
            heard.popleft()
        if not heard or now - heard[-1][0] >= _APART_SECONDS:
            heard.append((now, pages))
        window = Window()
        for each in (*(earlier for _, earlier in heard), pages):
            for replica, page in each.items():
                if replica in pages:
                    window.add(replica, page)
        return window, round(now - heard[0][0])


def _page(read: Callable[[str], str], path: str) -> Page:
    """A replica's page without the counters that are not shown. Blocks."""
    lines = (line for line in read(path).splitlines() if line.startswith((REQUESTS, LATENCY)))
    found = Page.parse("\n".join(lines))
    found.counts("")  # sorts them by model, here and not in the event loop
    return found


def as_view(counts: Counts) -> dict[str, Any]:
    """Counts for the page; milliseconds are null without answers."""
    return {
        "requests": round(counts.requests),
        "errors": {status: round(count) for status, count in sorted(counts.errors.items()) if round(count)},
        "p50": _milliseconds(counts, 0.5),
        "p99": _milliseconds(counts, 0.99),
    }


def _milliseconds(counts: Counts, share: float) -> float | None:
    seconds = counts.quantile(share)
    return None if seconds is None else round(seconds * 1000, 1)


def _nothing(problem: str) -> dict[str, Any]:
    return {"problem": problem, "replicas": 0, "seconds": 0, "matching": 0, "page": 1, "pages": 1, "models": []}
