"""``python -m ops doctor``: the command line of the doctor."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

from ops import options, ram_policy
from ops.doctor.report import run
from ops.doctor.stack import load


def main(argv: Sequence[str]) -> int:
    """Runs the command.

    Returns:
        1 if anything will not work, else 0.

    Raises:
        DoctorError: there is no such stack.
    """
    chosen = _parser().parse_args(list(argv))
    if chosen.ram_policy:
        print(json.dumps(ram_policy.policy(load(chosen.stack).needs), indent=2))
        return 0
    return run(chosen.stack)


def _parser() -> argparse.ArgumentParser:
    command = argparse.ArgumentParser(
        prog="python -m ops doctor",
        description="Looks at Python, the Pulumi CLI and plugins, state backend, region, endpoints, credentials and "
        "rights of a stack. Changes nothing and prints no keys. Exit status 1 if anything will not work.",
    )
    options.add_stack_name(command)
    command.add_argument(
        "--ram-policy", action="store_true", help="print the least RAM policy that can deploy the stack, and stop"
    )
    return command
