"""The command line of the sandbox: ``python -m sandbox <command>``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from tfserving.command_line import Command, Commands

_ENGINE = "sandbox.engine.cli"
_COMMANDS = {
    "cloud": Command("sandbox.cloud.cli", "run, start, stop or ask after the local cloud"),
    "preview": Command(_ENGINE, "show what `up` would change in a stack", keeps_name=True),
    "up": Command(_ENGINE, "deploy a stack", keeps_name=True),
    "refresh": Command(_ENGINE, "compare a stack's state with what is really there", keeps_name=True),
    "destroy": Command(_ENGINE, "delete everything a stack made", keeps_name=True),
    "outputs": Command(_ENGINE, "print a stack's outputs", keeps_name=True),
    "export": Command(_ENGINE, "print a stack's state, as `pulumi stack export` does", keeps_name=True),
    "models": Command("sandbox.model_server.examples", "export the example models"),
    "model-server": Command("sandbox.model_server.__main__", "run the TensorFlow Serving stand-in"),
    "kube": Command("sandbox.kube.cli", "build, run, start, stop or ask after the local Kubernetes cluster"),
}


def main(argv: Sequence[str]) -> int:
    """Runs one command; see :meth:`tfserving.command_line.Commands.run` for the exit status."""
    needed = "Install sandbox/requirements.txt, or run `make up`, which does."
    return Commands("sandbox", "A cloud on this machine, and what deploys to it.", _COMMANDS, needed).run(argv)


def script() -> None:
    """The program ``tf-serving-sandbox``, where the sandbox is installed: ``python -m sandbox`` by another name."""
    sys.exit(main(sys.argv[1:]))
