"""Options that several commands share."""

from __future__ import annotations

import argparse
import re

from ops import engine
from tfserving import durations, wire
from tfserving.model_config import LABEL, MODEL_NAME

DAY = 86400.0
LONGEST = 366 * DAY
"""The longest time that an option takes: what is much longer, neither clocks nor timers can count."""
_MOST = 2**31 - 1
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


def duration(text: str, *, least: float = 0.0, most: float = LONGEST) -> float:
    """The value of an option that is a time, in seconds.

    Args:
        text: as it was written.
        least: the shortest time that is allowed, in seconds.
        most: the longest one.

    Raises:
        ArgumentTypeError: it is no duration, or one that is too short or too long.
    """
    try:
        seconds = durations.seconds_of(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if not least <= seconds <= most:
        few = f"{least:g}s to " if least else "up to "
        raise argparse.ArgumentTypeError(f"{text!r} is out of range; allowed: {few}{durations.as_text(most)}")
    return seconds


def count(text: str) -> int:
    """The value of an option that says how many, 1 or more.

    Raises:
        ArgumentTypeError: it is no such number.
    """
    number = int(text) if re.fullmatch("[0-9]{1,19}", text) else 0
    if not 1 <= number <= _MOST:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to {_MOST}")
    return number


def model_name(text: str) -> str:
    """The name of a model.

    Raises:
        ArgumentTypeError: no model can have it.
    """
    if not MODEL_NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a model name: letters, digits, '_', '.' and '-'")
    return text


def label(text: str) -> str:
    """The name of a label.

    Raises:
        ArgumentTypeError: no label can have it.
    """
    if not LABEL.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a label: letters, digits and '_'")
    return text


def version_number(text: str) -> int:
    """The value of ``--version``.

    Raises:
        ArgumentTypeError: it is no version number.
    """
    number = wire.decode_integer(text)
    if not isinstance(number, int) or not wire.is_version(number):
        raise argparse.ArgumentTypeError(f"{text!r} is not a version number, 0 to {wire.MAX_INTEGER}")
    return number
