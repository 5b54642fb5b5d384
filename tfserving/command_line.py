"""What every command line of this project does in the same way: errors in words, interrupts, readers that go away."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable

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
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A model's answer may hold what the terminal's encoding has no character for.
            stream.reconfigure(errors="backslashreplace")
    try:
        try:
            return _told(command)
        finally:
            # Here, where the reader's absence can be handled, and not when the interpreter ends.
            sys.stdout.flush()
            sys.stderr.flush()
    except BrokenPipeError:
        discard_output()
        return READER_GONE


def discard_output() -> None:
    """What is printed from here on goes nowhere, and is no error: its reader went away."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def _told(command: Callable[[], int]) -> int:
    try:
        return command()
    except TFServingError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return INTERRUPTED
