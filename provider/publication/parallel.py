"""Several transfers, or looks at objects, at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import Any, TypeVar

T = TypeVar("T")

_TRANSFERS = ThreadPoolExecutor(8, "transfer")
"""Uploads and copies of all models together: more at once only compete for the same line."""


def run_all(work: Iterable[Callable[[], T]], pool: ThreadPoolExecutor | None = None) -> list[T]:
    """Do everything, several at once, and give the results in order; the first error ends it.

    Raises:
        Exception: the first failure, once everything has ended.
    """
    futures = [(pool or _TRANSFERS).submit(task) for task in work]
    _, left = wait(futures, return_when=FIRST_EXCEPTION)
    for future in left:
        future.cancel()
    wait(futures)
    failed = [error for future in futures if not future.cancelled() and (error := future.exception()) is not None]
    if failed:
        raise failed[0]
    return [future.result() for future in futures]


def bound(work: Callable[..., T], *arguments: Any) -> Callable[[], T]:
    return lambda: work(*arguments)
