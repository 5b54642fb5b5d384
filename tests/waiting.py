"""How tests wait: for a condition, however long a busy machine takes for it."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")

PATIENCE = 60.0
"""Seconds. What takes one on an idle machine has been seen to take twenty beside other tests; only a test that fails
waits for so long."""


def until(condition: Callable[[], T], seconds: float = PATIENCE, what: str = "") -> T:
    """The value of a condition once that is true.

    Args:
        condition: asked again and again, with growing pauses.
        seconds: after which it is a failure.
        what: for the message; empty: the source of the condition.
    """
    deadline, pause = time.monotonic() + seconds, 0.01
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not so within {seconds:g} s: {what or _source(condition)}")
        time.sleep(pause)
        pause = min(pause * 1.2, 0.05)
    return found


def _source(condition: Callable[[], object]) -> str:
    if getattr(condition, "__name__", "") == "<lambda>":
        with suppress(OSError):
            return " ".join(inspect.getsource(condition).split())
    return repr(condition)
