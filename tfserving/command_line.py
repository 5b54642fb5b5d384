"""What every command line of this project does alike: tables of commands, errors in words, readers that go away."""

from __future__ import annotations

import difflib
import errno
import importlib
import io
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from tfserving.errors import TFServingError

_PROJECT = Path(__file__).resolve().parents[1]

INTERRUPTED = 130
"""Exit status after Ctrl-C, as of a shell's commands."""

READER_GONE = 141
"""Exit status where the reader of the output (``| head``) went away, as of commands that SIGPIPE ends."""


WRONG_USAGE = 2


@dataclass(frozen=True)
class Command:
    """A command that lives in a module of its own, imported when it is asked for: none pays for another's libraries.

    Attributes:
        module: has ``main(argv: Sequence[str]) -> int``.
        summary: what the command does.
        keeps_name: ``main`` is given the command's name as the first argument.
    """

    module: str
    summary: str
    keeps_name: bool = False


@dataclass(frozen=True)
class Commands:
    """The commands of ``python -m <program>``.

    Attributes:
        program: package that is run.
        about: one sentence for the usage.
        by_name: the commands.
        needed: what to do where one of their packages is not installed.
    """

    program: str
    about: str
    by_name: Mapping[str, Command]
    needed: str

    def run(self, argv: Sequence[str], tell: Callable[[TFServingError], None] | None = None) -> int:
        """Runs one command.

        Args:
            argv: its name, and its arguments.
            tell: how an error is reported, if not as a line on stderr.

        Returns:
            exit status as of :func:`run`; :data:`WRONG_USAGE` where there is no such command.
        """
        return run(lambda: self._run(argv), tell)

    def _run(self, argv: Sequence[str]) -> int:
        if not argv or argv[0] in ("-h", "--help", "help"):
            print(self._usage(), file=sys.stdout if argv else sys.stderr)
            return 0 if argv else WRONG_USAGE
        name = argv[0]
        command = self.by_name.get(name)
        if command is None:
            close = difflib.get_close_matches(name, self.by_name, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            _say(f"error: there is no command {name!r}.{hint}\n\n{self._usage()}")
            return WRONG_USAGE
        try:
            module = importlib.import_module(command.module)
            return int(module.main(list(argv) if command.keeps_name else list(argv[1:])) or 0)
        except ModuleNotFoundError as error:
            if (_PROJECT / (error.name or "").partition(".")[0]).is_dir():
                raise
            raise TFServingError(f"the Python package {error.name!r} is not installed. {self.needed}") from None

    def _usage(self) -> str:
        width = max(map(len, self.by_name)) + 2
        lines = [f"usage: python -m {self.program} COMMAND [options]", "", self.about, "", "commands:"]
        lines += [f"  {name:<{width}}{command.summary}" for name, command in self.by_name.items()]
        return "\n".join([*lines, "", f"python -m {self.program} COMMAND --help tells more."])


def run(command: Callable[[], int], tell: Callable[[TFServingError], None] | None = None) -> int:
    """Runs a command.

    Args:
        command: gives the exit status.
        tell: how an error is reported, if not as a line on stderr.

    Returns:
        exit status: the command's own, 1 for an error (printed on stderr, without a traceback), :data:`INTERRUPTED` or
        :data:`READER_GONE`.
    """
    _open_closed_streams()
    for stream in _streams():
        if isinstance(stream, io.TextIOWrapper):
            # A model's answer may hold what the terminal's encoding has no character for.
            stream.reconfigure(errors="backslashreplace")
    try:
        try:
            return _told(command, tell)
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


def _open_closed_streams() -> None:
    """Gives a stream that was closed before the start (``>&-``), which Python has as ``None``, nothing to read or take.

    In the order of their numbers: the lowest that is free is taken, and no file of ours gets the number of a stream.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 (open as long as the process)


def _streams() -> list[TextIO]:
    return [sys.stdout, sys.stderr]


def _told(command: Callable[[], int], tell: Callable[[TFServingError], None] | None) -> int:
    try:
        return command()
    except TFServingError as error:
        if tell is None:
            _say(f"error: {error}")
        else:
            tell(error)
        return 1
    except KeyboardInterrupt:
        _say("interrupted")
        return INTERRUPTED


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
