"""``python -m ops <command>``: day to day operation of deployed stacks."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from tfserving.command_line import Command, Commands

COMMANDS = {
    "predict": Command("ops.predict_command", "send one request to a service and show the answer"),
    "manifest": Command("ops.manifest_command", "write manifests of a model's versions, to be committed"),
    "schema": Command("ops.schema_command", "write the stack file's JSON Schema, and the tables of options in docs/"),
    "preview-comment": Command("ops.preview_command", "say in Markdown what a preview means, on the pull request"),
    "doctor": Command(
        "ops.doctor.command", "say whether a stack can be deployed from here, and how to fix what cannot"
    ),
    "bucket": Command("ops.bucket_command", "say what keeps a bucket from being deleted, and empty it"),
    "drift": Command("ops.drift_command", "say where stack, code and cloud have come apart"),
}


def main(argv: Sequence[str]) -> int:
    """Runs one command; see :meth:`tfserving.command_line.Commands.run` for the exit status."""
    needed = "Install requirements.txt into the virtual environment."
    return Commands("ops", "Operate TF Serving stacks.", COMMANDS, needed).run(argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
