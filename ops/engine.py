"""Runs the engine that holds a stack: the Pulumi CLI, or the sandbox engine for loopback stacks."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tfserving.errors import TFServingError

PROJECT_DIR = Path(__file__).resolve().parent.parent

Engine = Literal["auto", "pulumi", "sandbox"]

LOCAL = "local"
"""The stack that ``make up`` applies."""

_SELECTION_SECONDS = 20.0

_FOR_CHANGES = ("PULUMI_SKIP_CONFIRMATIONS", "PULUMI_OPTION_YES", "PULUMI_OPTION_SKIP_PREVIEW")
"""What pipelines set for `up`. Everything here only looks, and the CLI refuses `refresh --preview-only` with a yes."""

CHANGES = 7
"""Exit status of both where ``--expect-no-changes`` finds some (Pulumi CLI 3.227 and later)."""


class EngineError(TFServingError):
    """There is no engine to ask, or it did not end in time."""


@dataclass(frozen=True)
class Done:
    """A finished command.

    Attributes:
        code: exit status.
        out: what it printed; may hold secrets.
        err: what it printed to stderr; may hold secrets.
    """

    code: int
    out: str = field(repr=False)
    err: str = field(repr=False)

    @property
    def reason(self) -> str:
        """Why it failed, as it says itself."""
        return (self.err.strip() or self.out.strip()).removeprefix("error: ") or f"exit status {self.code}, no message"


def resolve(stack: str, engine: Engine = "auto", project_dir: Path = PROJECT_DIR) -> Literal["pulumi", "sandbox"]:
    """Whose stack it is: the sandbox engine's where it holds a stack of that name, else the Pulumi CLI's."""
    if engine != "auto":
        return engine
    return "sandbox" if _in_sandbox(stack, project_dir) else "pulumi"


def short_name(stack: str) -> str:
    """The stack's own name, by which its file is called: ``dev`` of ``acme/tf-serving/dev``."""
    return stack.rpartition("/")[2]


def default_stack(project_dir: Path = PROJECT_DIR) -> str:
    """The stack that the Pulumi CLI says is selected, where it is there to ask; else ``local``.

    A selection that only the sandbox engine's stack of that name fits is nobody's choice.
    """
    selected = _selected(project_dir)
    return selected if selected and not _in_sandbox(selected, project_dir) else LOCAL


def _in_sandbox(stack: str, project_dir: Path) -> bool:
    return (project_dir / ".sandbox" / "state" / f"{short_name(stack)}.json").exists()


def _selected(project_dir: Path) -> str:
    """The full name of the stack that is selected, by ``PULUMI_STACK`` or for good.

    Empty without a CLI, a login, a selection, or a stack of that name.
    """
    pulumi = shutil.which("pulumi")
    if pulumi is None:
        return ""
    command = [pulumi, "stack", "--show-name", "--fully-qualify-stack-names", "--non-interactive"]
    try:
        done = _run(command, project_dir, _SELECTION_SECONDS)
    except subprocess.TimeoutExpired:
        return ""
    name = done.stdout.strip() if done.returncode == 0 else ""
    # A backend of one's own has no organizations, and calls the only one this.
    return short_name(name) if name.startswith("organization/") else name


def _environment() -> dict[str, str]:
    # What is printed is read, and gets into reports: no colours, of plugins and of the program neither.
    kept = {name: value for name, value in os.environ.items() if name not in _FOR_CHANGES}
    environment = {**kept, "PULUMI_SKIP_UPDATE_CHECK": "true", "NO_COLOR": "1"}
    environment.pop("FORCE_COLOR", None)
    return environment


def _run(command: Sequence[str], project_dir: Path, seconds: float | None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=project_dir, env=_environment(), capture_output=True, text=True, timeout=seconds, check=False
    )


def run(
    stack: str,
    arguments: Sequence[str],
    engine: Engine = "auto",
    project_dir: Path = PROJECT_DIR,
    seconds: float | None = None,
) -> Done:
    """Runs a command on a stack without a terminal.

    Args:
        stack: stack name.
        arguments: command and options that both engines know.
        engine: whose stack it is.
        project_dir: the directory of ``Pulumi.yaml``.
        seconds: how long it may take; None is as long as it takes.

    Raises:
        EngineError: the CLI is not on PATH, or it took longer.
    """
    try:
        done = _run(_command(stack, arguments, engine, project_dir), project_dir, seconds)
    except subprocess.TimeoutExpired:
        raise EngineError(f"`{arguments[0]}` of stack {stack!r} did not end within {seconds:g} s") from None
    return Done(done.returncode, done.stdout, done.stderr)


def follow(
    stack: str,
    arguments: Sequence[str],
    told: Callable[[str], None],
    engine: Engine = "auto",
    project_dir: Path = PROJECT_DIR,
) -> Done:
    """Runs a command on a stack, and tells each line that it prints at once, those of stderr among them.

    The command has a session of its own: Ctrl-C and the end of this process do not stop an update half-way.

    Args:
        stack: stack name.
        arguments: command and options that both engines know.
        told: is given each line; it may hold secrets.
        engine: whose stack it is.
        project_dir: the directory of ``Pulumi.yaml``.

    Raises:
        EngineError: the CLI is not on PATH.
    """
    with subprocess.Popen(
        _command(stack, arguments, engine, project_dir),
        cwd=project_dir,
        env=_environment() | {"PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        lines = []
        for line in process.stdout or ():
            lines.append(line)
            told(line.rstrip("\n"))
    return Done(process.returncode, "".join(lines), "")


def _command(stack: str, arguments: Sequence[str], engine: Engine, project_dir: Path) -> list[str]:
    if resolve(stack, engine, project_dir) == "sandbox":
        return [sys.executable, "-m", "sandbox", *arguments, "--stack", short_name(stack)]
    pulumi = shutil.which("pulumi")
    if pulumi is None:
        raise EngineError(
            f"stack {stack!r} is not deployed by the sandbox engine and the Pulumi CLI is not on PATH;"
            " run `make up`, or install the Pulumi CLI"
        )
    return [pulumi, *arguments, "--non-interactive", "--color", "never", "--stack", stack]
