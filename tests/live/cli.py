"""The Pulumi CLI over stack ``local`` of a checkout."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.checkout import Checkout, Done


@dataclass(frozen=True)
class Cli:
    """The CLI over stack ``local`` of one checkout, with a file backend in it."""

    checkout: Checkout
    env: dict[str, str]

    def run(self, *arguments: str, timeout: float = 600, stdout_only: bool = False) -> Done:
        """Runs ``pulumi ... --stack local`` as a person does after `make cloud`."""
        done = subprocess.run(
            ["pulumi", *arguments, "--stack", "local", "--non-interactive", "--color", "never"],
            cwd=self.checkout.root,
            env=self.env,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if stdout_only else subprocess.STDOUT,
            timeout=timeout,
            check=False,
        )
        return Done(done.returncode, done.stdout)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """The same in the background."""
        return subprocess.Popen(
            ["pulumi", *arguments, "--stack", "local", "--non-interactive", "--color", "never"],
            cwd=self.checkout.root,
            env=self.env,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def succeed(self, *arguments: str) -> str:
        done = self.run(*arguments)
        assert done.code == 0, done.text
        return done.text

    def json(self, *arguments: str) -> Any:
        done = self.run(*arguments, "--json", stdout_only=True)
        assert done.code == 0, done.text
        return json.loads(done.text)

    @property
    def state_files(self) -> list[Path]:
        """Everything the file backend holds: the state, its backups and the history."""
        return [path for path in (self.checkout.root / ".sandbox" / "pulumi").rglob("*") if path.is_file()]

    @property
    def resources(self) -> dict[str, dict[str, Any]]:
        """The resources in the state by name, secrets encrypted."""
        exported = json.loads(self.succeed("stack", "export"))
        return {each["urn"].rpartition("::")[2]: each for each in exported["deployment"].get("resources") or ()}
