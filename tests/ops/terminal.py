"""A program on a terminal of a given size."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios

_FIRST = """
import fcntl, signal, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
signal.signal(signal.SIGINT, signal.default_int_handler)
"""
"""Ctrl-C is sent by the terminal of a session, and a test run in the background ignores it. Not as ``preexec_fn``: what
that does in a copy of a process with threads may fail."""


def on_terminal(columns: int, code: str, keys: bytes = b"", once: str = "", rows: int = 40, **env: str) -> str:
    """What some Python prints.

    Args:
        columns: width of the terminal.
        code: the program.
        keys: what is typed, such as Ctrl-C.
        once: as soon as this was printed.
        rows: height of the terminal.
        env: variables beside those of this process.
    """
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "LINES")}
    with subprocess.Popen(
        [sys.executable, "-c", _FIRST + code],
        env={**kept, "TERM": "xterm-256color", **env},
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    ):
        os.close(slave)
        printed = b""
        while True:
            try:
                part = os.read(master, 65536)
            except OSError:  # the terminal of a program that has ended
                break
            if not part:
                break
            printed += part
            if keys and once.encode() in printed:
                os.write(master, keys)
                keys = b""
    os.close(master)
    return printed.decode().replace("\r\n", "\n")
