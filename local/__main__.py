"""``python -m local <command>``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from tfserving.command_line import Command, Commands

_STACK = "local.stack"
_COMMANDS = {
    "up": Command(_STACK, "deploy stack local to the sandbox cloud, and ask it for predictions", keeps_name=True),
    "down": Command(_STACK, "destroy stack local, and stop the sandbox cloud", keeps_name=True),
    "cloud": Command(
        _STACK, "start only the sandbox cloud, and say how to use it with the Pulumi CLI", keeps_name=True
    ),
}


def main(argv: Sequence[str]) -> int:
    """Runs one command; see :meth:`tfserving.command_line.Commands.run` for the exit status."""
    needed = "Run `make up`, which installs it."
    return Commands("local", "The local stack in one go.", _COMMANDS, needed).run(argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
