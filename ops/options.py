"""Options that several commands share."""

from __future__ import annotations

import argparse
import re

from ops import engine
from tfserving import durations, wire

_SELECTED = "the one selected in Pulumi, else local"


def add_stack(command: argparse.ArgumentParser) -> None:
    """``--stack`` and ``--engine``: which stack, and whose state holds it."""
    add_stack_name(command)
    command.add_argument(
        "--engine",
        choices=("auto", "pulumi", "sandbox"),
        default="auto",
        help="whose state holds the stack (default: the sandbox engine's if it knows the stack, else Pulumi's)",
    )


def add_stack_name(command: argparse.ArgumentParser) -> None:
    """``--stack``: by its own name, or as ``organization/project/stack``."""
    command.add_argument(
        "--stack",
        "-s",
        type=_stack,
        default=_SELECTED,
        help="stack name, or organization/project/stack (default: %(default)s)",
    )


def _stack(text: str) -> str:
    if text == _SELECTED:  # asked for only where it is needed: the CLI takes a moment to answer
        return engine.default_stack()
    parts = text.split("/")
    if len(parts) > 3 or not all(re.fullmatch(r"(?!\.\.?$)\S{1,100}", part) for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not a stack, <stack> or <organization>/<project>/<stack>")
    return text


def duration(text: str) -> float:
    """The value of an option that is a time, in seconds.

    Raises:
        ArgumentTypeError: it is no duration.
    """
    try:
        return durations.seconds_of(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def version_number(text: str) -> int:
    """The value of ``--version``.

    Raises:
        ArgumentTypeError: it is no version number.
    """
    number = wire.decode_integer(text)
    if not isinstance(number, int) or not wire.is_version(number):
        raise argparse.ArgumentTypeError(f"{text!r} is not a version number, 0 to {wire.MAX_INTEGER}")
    return number
