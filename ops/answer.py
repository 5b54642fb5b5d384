"""What a command says: text for people or, with ``--format json``, one JSON object for programs, errors included.

The shapes are on the page ``docs/json.md``. Standard output holds nothing but the object; what is going on meanwhile is
told on standard error.
"""

from __future__ import annotations

import argparse
import base64
import json
import math
import select
import sys
import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NoReturn

from tfserving import command_line
from tfserving.errors import ConfigError, TFServingError

if TYPE_CHECKING:
    from ops.tables import Report  # many commands draw nothing, and are not to wait for rich

_OPTION = "--format"


class Parser(argparse.ArgumentParser):
    """A command's options, ``--format`` among them.

    Args:
        prog: how the command is called.
        description: what it does.
        epilog: what else there is to say in the help.
        formats: further formats beside text and JSON.
        lines: the command goes on until it is stopped, and writes one JSON object a line.
    """

    def __init__(
        self, prog: str, description: str, epilog: str = "", formats: Sequence[str] = (), lines: bool = False
    ) -> None:
        super().__init__(prog=prog, description=description, epilog=epilog or None)
        self.add_argument(
            _OPTION,
            choices=("text", *formats, "json"),
            default="text",
            help="what to print (default: %(default)s); json: one object" + (" a line" if lines else ""),
        )

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """The options; wrong usage ends the program, told in the format that was asked for."""
        self._json = asks_for_json(args or ())
        return super().parse_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Says what is wrong with the options, and ends the program."""
        if getattr(self, "_json", False):
            print(json.dumps({"error": {"message": f"{self.prog}: {message}", "problems": []}}, indent=2))
            sys.exit(command_line.WRONG_USAGE)
        super().error(message)


def asks_for_json(argv: Sequence[str]) -> bool:
    """Whether a command line asks for JSON; needed before, and even if, its options can be read."""
    for word, following in pairwise([*argv, ""]):
        name, equals, value = word.partition("=")
        if len(name) > len("--fo") and _OPTION.startswith(name):
            return (value if equals else following) == "json"
    return False


def as_json(value: Mapping[str, Any], *, one_line: bool = False) -> str:
    """The JSON text of an answer: letters as they are; version numbers are whole numbers."""
    return json.dumps(_plain(value), indent=None if one_line else 2, ensure_ascii=False, allow_nan=False, default=str)


def _plain(value: Any) -> Any:
    """What JSON has no form for, as TensorFlow Serving's REST API writes it; NaN and infinity, which it writes bare and
    strict readers refuse, as text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, bytes):
        return {"b64": base64.b64encode(value).decode()}
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def give(chosen: argparse.Namespace, value: Mapping[str, Any], told: str | Report) -> None:
    """Prints an answer in the format that was asked for; an empty text prints nothing."""
    if chosen.format == "json":
        print(as_json(value))
    elif not isinstance(told, str):
        told.draw()
    elif told:
        print(told)


def note(text: str) -> None:
    """Says on standard error what is going on."""
    print(text, file=sys.stderr, flush=True)


def tell(error: TFServingError) -> None:
    """Prints an error as JSON."""
    problems = error.problems if isinstance(error, ConfigError) else ()
    told = [{"path": each.path, "message": each.message, "allowed": each.allowed, "fix": each.fix} for each in problems]
    print(as_json({"error": {"message": str(error), "problems": told}}))


def pause(seconds: float) -> None:
    """Has what was printed reach its reader, and waits.

    Raises:
        BrokenPipeError: the reader went away, also while there was nothing to tell it.
    """
    sys.stdout.flush()
    try:
        reader = select.poll()
        reader.register(sys.stdout.fileno(), 0)
    except (OSError, ValueError):  # no file that could tell
        time.sleep(seconds)
        return
    if any(event & (select.POLLERR | select.POLLHUP) for _, event in reader.poll(seconds * 1000)):
        raise BrokenPipeError
