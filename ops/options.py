"""Options that several commands share."""

from __future__ import annotations

import argparse

from tfserving import wire


def add_stack(command: argparse.ArgumentParser) -> None:
    """``--stack`` and ``--engine``: which stack, and whose state holds it."""
    command.add_argument("--stack", "-s", default="local", help="stack name (default: %(default)s)")
    command.add_argument(
        "--engine",
        choices=("auto", "pulumi", "sandbox"),
        default="auto",
        help="whose state holds the stack (default: the sandbox engine's if it knows the stack, else Pulumi's)",
    )


def version_number(text: str) -> int:
    """The value of ``--version``.

    Raises:
        ArgumentTypeError: it is no version number.
    """
    number = wire.decode_integer(text)
    if not isinstance(number, int) or not wire.is_version(number):
        raise argparse.ArgumentTypeError(f"{text!r} is not a version number, 0 to {wire.MAX_INTEGER}")
    return number
