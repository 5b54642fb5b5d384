"""``python -m ops <command>``: day to day operation of deployed stacks.

Commands are imported when they are asked for, so that none pays for another's libraries.
"""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Sequence

from tfserving import command_line

COMMANDS = {
    "predict": ("ops.predict_command", "send one request to a service and show the answer"),
    "manifest": ("ops.manifest_command", "write manifests of a model's versions, to be committed"),
    "schema": ("ops.schema_command", "write the stack file's JSON Schema, and the tables of options in docs/"),
    "preview-comment": ("ops.preview_command", "say in Markdown what a preview means, on the pull request"),
    "doctor": ("ops.doctor.command", "say whether a stack can be deployed from here, and how to fix what cannot"),
    "bucket": ("ops.bucket_command", "say what keeps a bucket from being deleted, and empty it"),
    "drift": ("ops.drift_command", "say where stack, code and cloud have come apart"),
}
"""By name: a module with ``main(argv: Sequence[str]) -> int``, and what the command does."""


def main(argv: Sequence[str]) -> int:
    """Runs one command.

    Returns:
        exit status: 0 done, 1 an error (printed on stderr, without a traceback), 2 wrong usage, 130 interrupted; others
        are the command's own; 141 where the reader of the output (``| head``) went away.
    """
    return command_line.run(lambda: _run(argv))


def _run(argv: Sequence[str]) -> int:
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(_usage(), file=sys.stdout if argv else sys.stderr)
        return 0 if argv else 2
    name = argv[0]
    if name not in COMMANDS:
        close = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        print(f"error: there is no command {name!r}.{hint}\n\n{_usage()}", file=sys.stderr)
        return 2
    module, _ = COMMANDS[name]
    return int(importlib.import_module(module).main(list(argv[1:])))


def _usage() -> str:
    lines = ["usage: python -m ops COMMAND [options]", "", "Operate TF Serving stacks.", "", "commands:"]
    lines += [f"  {name:<17}{summary}" for name, (_, summary) in COMMANDS.items()]
    return "\n".join([*lines, "", "python -m ops COMMAND --help tells more."])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
