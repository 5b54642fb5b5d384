"""``python -m ops doctor``: the command line of the doctor."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from ops import answer, options, ram_policy
from ops.doctor import first_run
from ops.doctor.report import examine, run
from ops.doctor.stack import DoctorError, load


def main(argv: Sequence[str]) -> int:
    """Runs the command.

    Returns:
        1 if anything will not work, else 0.

    Raises:
        DoctorError: there is no such stack, or the report cannot be written.
        TFServingError: the first run cannot be looked at.
    """
    chosen = _parser().parse_args(list(argv))
    if chosen.first_run:
        return _first_run(chosen)
    if chosen.ram_policy:
        print(answer.as_json(ram_policy.policy(load(chosen.stack).needs)))  # a policy is JSON in any format
        return 0
    if chosen.format == "json":
        findings = list(examine(load(chosen.stack)))
        answer.give(chosen, {"stack": chosen.stack, "findings": [asdict(each) for each in findings]}, "")
        return int(any(each.level == "error" for each in findings))
    return run(chosen.stack)


def _first_run(chosen: argparse.Namespace) -> int:
    stack = load(chosen.stack)
    found = first_run.answers(first_run.world_of(stack))
    text = first_run.report(stack, found)
    if chosen.output:
        try:
            Path(chosen.output).write_text(text, encoding="utf-8")
        except OSError as error:
            raise DoctorError(f"--output {chosen.output}: cannot be written: {error.strerror}") from None
        text = f"{chosen.output}: {first_run.summary(found)}"
    told = [
        {"id": each.question.id, "question": each.question.text, "verdict": each.verdict, "text": each.text}
        for each in found
    ]
    answer.give(chosen, {"stack": chosen.stack, "answers": told}, text.rstrip("\n"))
    return 0


def _parser() -> answer.Parser:
    command = answer.Parser(
        prog="python -m ops doctor",
        description="Looks at Python, the Pulumi CLI and plugins, state backend, region, endpoints, credentials and "
        "rights of a stack. Changes nothing and prints no keys. Exit status 1 if anything will not work.",
    )
    options.add_stack_name(command)
    command.add_argument(
        "--ram-policy", action="store_true", help="print the least RAM policy that can deploy the stack, and stop"
    )
    command.add_argument(
        "--first-run",
        action="store_true",
        help="look at what no page of Alibaba Cloud says for certain, and write a report in Markdown to file back",
    )
    command.add_argument("--output", metavar="FILE", help="with --first-run: write the report here")
    return command
