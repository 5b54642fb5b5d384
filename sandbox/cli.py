"""The command line of the sandbox: ``python -m sandbox <command>``.

Commands are imported when they are asked for, so that none pays for another's libraries.
"""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from tfserving import command_line


@dataclass(frozen=True)
class _Command:
    """A command that lives in a module of its own.

    Attributes:
        module: has ``main(argv: Sequence[str]) -> int``.
        keeps_name: ``main`` is given the command's name as the first argument.
    """

    module: str
    summary: str
    keeps_name: bool = False


_ENGINE = "sandbox.engine.cli"
_COMMANDS = {
    "cloud": _Command("sandbox.cloud.cli", "run, start, stop or ask after the local cloud"),
    "preview": _Command(_ENGINE, "show what `up` would change in a stack", keeps_name=True),
    "up": _Command(_ENGINE, "deploy a stack", keeps_name=True),
    "refresh": _Command(_ENGINE, "compare a stack's state with what is really there", keeps_name=True),
    "destroy": _Command(_ENGINE, "delete everything a stack made", keeps_name=True),
    "outputs": _Command(_ENGINE, "print a stack's outputs", keeps_name=True),
    "models": _Command("sandbox.model_server.examples", "export the example models"),
    "model-server": _Command("sandbox.model_server.__main__", "run the TensorFlow Serving stand-in"),
    "kube": _Command("sandbox.kube.cli", "build, run, start, stop or ask after the local Kubernetes cluster"),
    "local": _Command("sandbox.local", "up, down, cloud: the whole local stack in one go"),
}


def main(argv: Sequence[str]) -> int:
    """Runs one command.

    Returns:
        the exit status: 0 done, 1 an error (printed), 2 wrong usage, 130 interrupted; others are the command's own; 141
        where the reader of the output (``| head``) went away.
    """
    return command_line.run(lambda: _run(argv))


def _run(argv: Sequence[str]) -> int:
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(_usage())
        return 0 if argv else 2
    name = argv[0]
    command = _COMMANDS.get(name)
    if command is None:
        close = difflib.get_close_matches(name, _COMMANDS, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        print(f"error: there is no command {name!r}.{hint}\n\n{_usage()}", file=sys.stderr)
        return 2
    try:
        module = importlib.import_module(command.module)
        return int(module.main(list(argv) if command.keeps_name else list(argv[1:])) or 0)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in ("sandbox", "tfserving"):
            raise
        needed = "Install requirements-sandbox.txt, or run `make up`, which does."
        print(f"error: the Python package {error.name!r} is not installed. {needed}", file=sys.stderr)
        return 1


def _usage() -> str:
    lines = ["usage: python -m sandbox <command> [options]", "", "commands:"]
    lines += [f"  {name:<14}{command.summary}" for name, command in _COMMANDS.items()]
    lines += ["", "python -m sandbox <command> --help tells more."]
    return "\n".join(lines)
