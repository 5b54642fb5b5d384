"""``python -m ops status``: what the services of a stack serve, to whom, and since when."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from functools import partial

from ops import answer, options, status, tables
from ops.status import Status
from ops.tables import Report

_AROUND = 12
"""Lines of a terminal that other things than models take."""


def main(argv: Sequence[str]) -> int:
    """Prints the status, and with ``--watch`` again and again until it is stopped.

    Returns:
        0.

    Raises:
        TFServingError: there is no such stack, or its engine cannot be asked, or a pattern fits nothing.
    """
    chosen = _parser().parse_args(list(argv))
    if not chosen.watch:
        found = _look(chosen)
        most = status.SHORT if sys.stdout.isatty() else None
        answer.give(chosen, found.to_dict(), status.report(found, most=None if chosen.all else most))
        return 0
    if chosen.format == "text" and sys.stdout.isatty():
        with tables.live() as show:
            while True:
                show(_watched(chosen))
                answer.pause(chosen.every)
    while True:
        if chosen.format == "json":
            print(answer.as_json(_look(chosen).to_dict(), one_line=True))
        else:
            print(f"{status.report(_look(chosen)).text()}\n")
        answer.pause(chosen.every)


def _look(chosen: argparse.Namespace) -> Status:
    return status.look(chosen.stack, chosen.engine, chosen.model, chosen.service)


def _watched(chosen: argparse.Namespace) -> Report:
    found = _look(chosen)
    most = max(5, tables.height() - _AROUND - len(found.services) - len(found.groups))
    report = status.report(found, most=None if chosen.all else most)
    return Report([f"{time.strftime('%H:%M:%S')}, every {chosen.every:g} s until Ctrl-C", *report.parts])


def _parser() -> answer.Parser:
    command = answer.Parser(
        prog="python -m ops status",
        description="Says what the services of a stack serve: replicas, versions with their state, labels, shares of "
        "requests, a promotion that is under way, and since when. Changes nothing.",
        epilog="On a terminal, of many models only those are shown that are not well: a version is not AVAILABLE, a "
        "label names none, or a gate was not passed.",
        lines=True,
    )
    command.add_argument("--watch", "-w", action="store_true", help="look again and again, until Ctrl-C")
    command.add_argument(
        "--every",
        type=partial(options.duration, least=0.1, most=options.DAY),
        default=5.0,
        metavar="TIME",
        help="with --watch: pause (default: 5s)",
    )
    command.add_argument(
        "--model",
        "-m",
        action="append",
        default=[],
        metavar="PATTERN",
        help="only these models: shoes-*; more than once",
    )
    command.add_argument(
        "--service", action="append", default=[], metavar="PATTERN", help="only these services; more than once"
    )
    command.add_argument("--all", action="store_true", help="show every model, however many there are")
    options.add_stack(command)
    return command
