"""``python -m ops logs SERVICE`` and ``python -m ops events SERVICE``: what a service says of itself."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Sequence
from dataclasses import asdict

from ops import answer, options, story, tables
from ops.preview_command import redactor_for
from ops.tables import Report, Table
from provider.clients import Event
from tfserving.errors import CloudError

_PAUSE = 2.0
_FOLLOWED = 500


def main(argv: Sequence[str]) -> int:
    """Prints log lines or events, and with ``--follow`` those that come, until it is stopped.

    Returns:
        0.

    Raises:
        TFServingError: there is no such stack or service, or it cannot be asked.
    """
    name, *arguments = argv
    chosen = _parser(name).parse_args(arguments)
    redactor = redactor_for(chosen.stack, chosen.engine)
    told = story.of(chosen.stack, chosen.engine, chosen.service, redactor, getattr(chosen, "model", ""))
    if name == "events":
        return _events(chosen, told.events())
    lines = told.log(chosen.lines, chosen.since)
    if not chosen.follow:
        answer.give(
            chosen, {"service": chosen.service, "lines": lines}, "\n".join(map(tables.harmless, lines)) or "no lines"
        )
        return 0
    shown: list[str] = []
    while True:
        for line in story.unseen(shown, lines):
            value = {"service": chosen.service, "line": line}
            print(answer.as_json(value, one_line=True) if _json(chosen) else tables.harmless(line))
        shown = lines or shown
        answer.pause(_PAUSE)
        with contextlib.suppress(CloudError):  # it may answer again
            lines = told.log(max(_FOLLOWED, chosen.lines), 0)


def _events(chosen: argparse.Namespace, events: Sequence[tuple[str, Event]]) -> int:
    value = [{"pod": pod, **asdict(each)} for pod, each in events]
    in_pods = any(pod for pod, _ in events)
    head = ("TIME", "TYPE", "REASON", *(["POD"] if in_pods else []), "MESSAGE")
    rows = [(each.at, each.type, each.reason, *([pod] if in_pods else []), each.message) for pod, each in events]
    text = Report([Table(head, rows, states=[1])]) if events else "no events"
    answer.give(chosen, {"service": chosen.service, "events": value}, text)
    return 0


def _json(chosen: argparse.Namespace) -> bool:
    return bool(chosen.format == "json")


def _parser(name: str = "logs") -> answer.Parser:
    logs = name == "logs"
    command = answer.Parser(
        prog=f"python -m ops {name}",
        description="Prints the newest lines of a service's log." if logs else "Prints the newest events of a service.",
        epilog="Secrets of the stack are masked.",
        lines=logs,
    )
    command.add_argument("service", metavar="SERVICE", help="service name, as in tf-serving:services")
    if logs:
        command.add_argument("--follow", "-f", action="store_true", help="go on with lines that come, until Ctrl-C")
        command.add_argument(
            "--since", type=options.duration, default=0.0, metavar="TIME", help="no lines older than 30s, 10m, 2h"
        )
        command.add_argument("--model", default="", metavar="M", help="only lines that name this model")
        command.add_argument(
            "--lines", type=options.count, default=100, metavar="N", help="so many at most (default: %(default)s)"
        )
    options.add_stack(command)
    return command
