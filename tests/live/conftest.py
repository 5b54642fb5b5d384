"""The Pulumi CLI at work in a checkout of its own. Where there is no CLI on PATH, everything here skips."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.checkout import Checkout, Done, copy_project

REAL_PLUGIN = "pulumi-resource-alicloud"


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


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    """A checkout with a running sandbox cloud, and the CLI set up as `make cloud` says."""
    if shutil.which("pulumi") is None:
        pytest.skip("the Pulumi CLI is not on PATH")
    checkout = copy_project(tmp_path_factory.mktemp("cli") / "project")
    env = {**os.environ, "PULUMI_SKIP_UPDATE_CHECK": "true"}
    if not _has_real_plugin():
        env["PATH"] = f"{_stand_in(tmp_path_factory.mktemp('plugins'), checkout)}{os.pathsep}{env['PATH']}"
    try:
        for line in checkout.succeed("local", "cloud", timeout=600).splitlines():
            if line.startswith("export "):
                name, _, value = line.removeprefix("export ").partition("=")
                env[name] = value.strip("'")
        made = Cli(checkout, env)
        made.succeed("stack", "select", "--create")
        yield made
        made.run("destroy", "--yes")
    finally:
        checkout.run("cloud", "stop")


def _has_real_plugin() -> bool:
    if shutil.which(REAL_PLUGIN):
        return True
    listed = subprocess.run(["pulumi", "plugin", "ls", "--json"], capture_output=True, text=True, check=False)
    return any(plugin.get("name") == "alicloud" for plugin in json.loads(listed.stdout or "[]"))


def _stand_in(directory: Path, checkout: Checkout) -> Path:
    """Where the real alicloud provider is not installed, the sandbox's stand-in for it under the real one's name."""
    launcher = directory / REAL_PLUGIN
    launcher.write_text(
        f'#!/bin/sh\nexport PYTHONPATH="{checkout.root}"\nexec "{sys.executable}" -m sandbox.plugins.alicloud "$@"\n',
        encoding="utf-8",
    )
    launcher.chmod(0o755)
    return directory
