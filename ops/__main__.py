"""``python -m ops <command>``: day to day operation of deployed stacks."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from ops import answer
from tfserving.command_line import Command, Commands

COMMANDS = {
    "predict": Command("ops.predict_command", "send one request to a service and show the answer"),
    "golden": Command("ops.golden_command", "write requests with the answers of a running version, for a gate"),
    "manifest": Command("ops.manifest_command", "write manifests of a model's versions, to be committed"),
    "schema": Command("ops.schema_command", "write the stack file's JSON Schema, and the tables of options in docs/"),
    "preview-comment": Command("ops.preview_command", "say in Markdown what a preview means, on the pull request"),
    "doctor": Command(
        "ops.doctor.command", "say whether a stack can be deployed from here, and how to fix what cannot"
    ),
    "import": Command("ops.importing.command", "make a stack file of services, model config files and buckets"),
    "bucket": Command("ops.bucket_command", "say what keeps a bucket from being deleted, and empty it"),
    "drift": Command("ops.drift_command", "say where stack, code and cloud have come apart"),
    "status": Command("ops.status_command", "say what the services serve, to whom, and since when"),
    "logs": Command("ops.logs_command", "print the newest lines of a service's log", keeps_name=True),
    "events": Command("ops.logs_command", "print the newest events of a service", keeps_name=True),
    "metrics": Command("ops.metrics_command", "say how many requests a service answered, and how fast"),
    "dashboard": Command("ops.dashboard_command", "print a Grafana dashboard of the servers' metrics"),
    "promote": Command("ops.promote_command", "move a label to a new version, tried and judged step by step"),
    "rollback": Command("ops.rollback_command", "move a label back to the version that it named before"),
}


def main(argv: Sequence[str]) -> int:
    """Runs one command; see :meth:`tfserving.command_line.Commands.run` for the exit status."""
    needed = "Install requirements.txt into the virtual environment."
    tell = answer.tell if answer.asks_for_json(argv) else None
    return Commands("ops", "Operate TF Serving stacks.", COMMANDS, needed).run(argv, tell)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
