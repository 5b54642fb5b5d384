"""Programs that make components of the package through the plugin, on the sandbox engine."""

from __future__ import annotations

import json
import shutil
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sandbox.engine import cli
from tests.ports import free_port
from tests.provider import conftest as provider
from tests.provider.harness import ROOT, Cloud, config

cloud, model_store = provider.cloud, provider.model_store

PRELUDE = """
import pulumi
from pulumi import Output, ResourceOptions

class Remote(pulumi.ComponentResource):
    def __init__(self, kind, name, opts=None, outputs=(), **props):
        super().__init__(f"tfserving:index:{kind}", name, {**dict.fromkeys(outputs), **props}, opts, remote=True)

class Group(pulumi.ComponentResource):
    def __init__(self, name, opts=None):
        super().__init__("shop:index:Group", name, None, opts)

def repository(name="models", bucket="tf-serving-shop", opts=None, **props):
    models = {"modelB": {"versions": [1, 2], "policy": {"specific": [1, 2]}, "labels": {"stable": 1}}}
    outputs = ["bucket", "declaration", "contents"]
    return Remote("ModelRepository", name, opts, outputs, **{"bucket": bucket, "models": models, **props})

def service(name="vision", opts=None, **props):
    return Remote("TensorFlowServing", name, opts, ["url", "token"], **{"cpu": 2, "memory": 4096, **props})

"""


@dataclass
class Outcome:
    """What one command did: its status, what it printed for machines, and what for people."""

    status: int
    json: Mapping[str, Any]
    err: str

    @property
    def errors(self) -> str:
        found = [each for each in self.json.get("diagnostics", ()) if each["severity"] == "error"]
        return "\n".join(each["message"] for each in found)

    def inputs(self, name: str) -> dict[str, Any]:
        """Inputs of the only resource of that name."""
        [step] = [each for each in self.json["steps"] if each["urn"].endswith(f"::{name}")]
        return step["newState"]["inputs"]


class Program:
    """A project of somebody's own with one stack, ``dev``."""

    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str], endpoint: str) -> None:
        self.root, self._capsys = root, capsys
        plugins = [{"name": "tfserving", "path": str(ROOT / "plugin")}]
        project = {"name": "shop", "runtime": "python", "stackConfigDir": "stacks", "plugins": {"providers": plugins}}
        (root / "Pulumi.yaml").write_text(json.dumps(project))
        (root / "stacks").mkdir()
        settings = {f"tfserving:{key}": value for key, value in config(endpoint).items()}
        (root / "stacks" / "Pulumi.dev.yaml").write_text(json.dumps({"config": settings}))

    def run(self, command: str, text: str, *options: str) -> Outcome:
        """One command over a program."""
        (self.root / "__main__.py").write_text(PRELUDE + textwrap.dedent(text))
        self._capsys.readouterr()
        status = cli.main([command, "--stack", "dev", "--cwd", str(self.root), "--json", *options])
        out, err = self._capsys.readouterr()
        return Outcome(status, json.loads(out), err)

    def preview(self, text: str) -> Outcome:
        return self.run("preview", text)


@pytest.fixture
def program(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Program:
    """Without a cloud: nothing listens at its endpoints."""
    return Program(tmp_path, capsys, f"127.0.0.1:{free_port()}")


@pytest.fixture
def shop(tmp_path: Path, capsys: pytest.CaptureFixture[str], cloud: Cloud, model_store: Path) -> Program:
    """On the sandbox cloud, whose bucket is there; ``exports/modelB`` has versions 1 and 2."""
    found = Program(tmp_path, capsys, cloud.endpoint)
    for version in ("1", "2"):
        shutil.copytree(model_store / version, tmp_path / "exports" / "modelB" / version)
    return found
