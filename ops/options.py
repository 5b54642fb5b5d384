"""Options that several commands share."""

from __future__ import annotations

import argparse


def add_stack(command: argparse.ArgumentParser) -> None:
    """``--stack`` and ``--engine``: which stack, and whose state holds it."""
    command.add_argument("--stack", "-s", default="local", help="stack name (default: %(default)s)")
    command.add_argument(
        "--engine",
        choices=("auto", "pulumi", "sandbox"),
        default="auto",
        help="whose state holds the stack (default: the sandbox engine's if it knows the stack, else Pulumi's)",
    )
