"""What every command line of this project does in the same way: errors in words, interrupts, readers that go away."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Callable
from typing import TextIO

from tfserving.errors import TFServingError

INTERRUPTED = 130
"""Exit status after Ctrl-C, as of a shell's commands."""

READER_GONE = 141
"""Exit status where the reader of the output (``| head``) went away, as of commands that SIGPIPE ends."""


def run(command: Callable[[], int]) -> int:
    """Runs a command.

    Returns:
        exit status: the command's own, 1 for an error (printed on stderr, without a traceback), :data:`INTERRUPTED` or
        :data:`READER_GONE`.
    """
    for stream in _streams():
        if isinstance(stream, io.TextIOWrapper):
            # A model's answer may hold what the terminal's encoding has no character for.
            stream.reconfigure(errors="backslashreplace")
    try:
        try:
            return _told(command)
        finally:
            # Here, where it can be handled, and not when the interpreter ends.
            for stream in _streams():
                stream.flush()
    except BrokenPipeError:
        discard_output()
        return READER_GONE
    except OSError as error:
        if error.errno != errno.ENOSPC or error.filename is not None:
            raise  # of something else than the output
        discard_output()
        _say(f"error: what was printed cannot be written: {error.strerror}")
        return 1


def discard_output() -> None:
    """What is printed from here on goes nowhere, and is no error: its reader went away."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in _streams():
        try:
            stream.flush()
        except OSError:
            os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def _streams() -> list[TextIO]:
    """Standard output and error; one that was closed before the start is none."""
    return [stream for stream in (sys.stdout, sys.stderr) if stream is not None]


def _told(command: Callable[[], int]) -> int:
    try:
        return command()
    except TFServingError as error:
        _say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        _say("interrupted")
        return INTERRUPTED


def _say(text: str) -> None:
    if sys.stderr is not None:
        sys.stderr.write(f"{text}\n")
