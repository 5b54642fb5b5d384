"""A Pulumi project in a temporary directory with a real provider plugin, and the engine's command line over it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sandbox.engine import cli

REPOSITORY = Path(__file__).resolve().parents[2]

PROJECT = """
name: shop
runtime: python
stackConfigDir: stacks
plugins:
  providers:
    - {name: world, path: ./plugin}
"""

PRELUDE = """
import pulumi
from pulumi import Output, ResourceOptions

config = pulumi.Config()

class Thing(pulumi.CustomResource):
    def __init__(self, name, opts=None, of="Thing", **inputs):
        super().__init__(f"world:index:{of}", name, {**inputs, "endpoint": None, "token": None}, opts)

class Group(pulumi.ComponentResource):
    def __init__(self, name, opts=None):
        super().__init__("shop:index:Group", name, None, opts)

class World(pulumi.ProviderResource):
    def __init__(self, name, **settings):
        super().__init__("world", name, settings)

"""


@dataclass
class Outcome:
    """What one command did."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def counts(self) -> dict[str, int]:
        return self.json["changeSummary"]


class Project:
    """A project with one stack, ``dev``."""

    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.root, self._capsys = root, capsys
        (root / "Pulumi.yaml").write_text(PROJECT)
        (root / "stacks").mkdir()
        (root / "plugin").mkdir()
        launcher = root / "plugin" / "pulumi-resource-world"
        plugin = Path(__file__).with_name("world_plugin.py")
        launcher.write_text(f'#!/bin/sh\nPYTHONPATH={REPOSITORY} exec {sys.executable} {plugin} "$@"\n')
        launcher.chmod(0o755)
        self.configure()

    def configure(self, **settings: Any) -> None:
        (self.root / "stacks" / "Pulumi.dev.yaml").write_text(json.dumps({"config": settings}))

    def program(self, text: str) -> None:
        (self.root / "__main__.py").write_text(PRELUDE + textwrap.dedent(text))

    def command(self, name: str, *options: str) -> list[str]:
        return [name, "--stack", "dev", "--cwd", str(self.root), *options]

    def run(self, name: str, *options: str) -> Outcome:
        """One command in this process."""
        self._capsys.readouterr()
        status = cli.main(self.command(name, *options))
        return Outcome(status, *self._capsys.readouterr())

    def up(self, *options: str) -> Outcome:
        return self.run("up", "--yes", *options)

    def apply(self, text: str) -> Outcome:
        """A program brought up, as JSON."""
        self.program(text)
        return self.up("--json")

    def start(self, name: str, *options: str) -> subprocess.Popen[str]:
        """One command in a process of its own."""
        command = [sys.executable, "-m", "sandbox", *self.command(name, *options)]
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        pipe = subprocess.PIPE
        return subprocess.Popen(command, env=environment, cwd=REPOSITORY, text=True, stdout=pipe, stderr=pipe)

    @property
    def state_file(self) -> Path:
        return self.root / ".sandbox" / "state" / "dev.json"

    @property
    def deployment(self) -> dict[str, Any]:
        return json.loads(self.state_file.read_text())["deployment"]

    def resource(self, name: str) -> dict[str, Any]:
        """The only resource of that name in the state."""
        (found,) = [r for r in self.deployment["resources"] if r["urn"].endswith(f"::{name}")]
        return found

    @property
    def names(self) -> set[str]:
        """Names of everything in the state but the stack and providers."""
        urns = [r["urn"] for r in self.deployment["resources"] if not r["type"].startswith("pulumi:")]
        return {urn.rpartition("::")[2] for urn in urns}

    @property
    def world(self) -> dict[str, Any]:
        """Every existing thing's inputs by name of its resource."""
        files = (self.root / "world").glob("*.json")
        return {f.stem.rpartition("-")[0]: json.loads(f.read_text()) for f in files}

    @property
    def journal(self) -> list[str]:
        """Operations done, in the order of their ends."""
        file = self.root / "world" / "journal"
        return [" ".join(line.split()[2:]) for line in file.read_text().splitlines()] if file.exists() else []

    @property
    def times(self) -> list[tuple[float, float]]:
        """Start and end of every operation, in seconds."""
        lines = (self.root / "world" / "journal").read_text().splitlines()
        return [(float(line.split()[0]), float(line.split()[1])) for line in lines]

    def forget_journal(self) -> None:
        (self.root / "world" / "journal").unlink()


@pytest.fixture
def project(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.delenv("PULUMI_CONFIG_PASSPHRASE", raising=False)
    monkeypatch.delenv("PULUMI_CONFIG_PASSPHRASE_FILE", raising=False)
    return Project(tmp_path, capsys)
