"""Ports for the servers of tests, which run beside each other in several processes and several checkouts."""

from __future__ import annotations

import fcntl
import functools
import os
import tempfile
from pathlib import Path
from typing import BinaryIO

from sandbox import ports


def free_port() -> int:
    """A port of loopback that nobody listens on, that no outgoing connection takes, and that no other test gets for as
    long as this process runs."""
    mine = _given()
    while True:
        port = ports.free_port(mine)
        try:
            # Of a byte of one file: the kernel gives it back with the process, however that ends.
            fcntl.lockf(_locks(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
        except OSError:
            continue
        mine.add(port)
        return port


@functools.cache
def _given() -> set[int]:
    return set()


@functools.cache
def _locks() -> BinaryIO:
    path = Path(tempfile.gettempdir(), f"tf-serving-stacks-tests-{os.getuid()}.ports")
    return open(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600), "r+b", buffering=0)
