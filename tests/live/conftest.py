"""The Pulumi CLI at work in a checkout of its own. Where there is no CLI on PATH, everything here skips."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.checkout import Checkout, copy_project, example_models
from tests.live.cli import Cli

REAL_PLUGIN = "pulumi-resource-alicloud"


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    """A checkout with a running sandbox cloud, and the CLI set up as `make cloud` says."""
    if shutil.which("pulumi") is None:
        pytest.skip("the Pulumi CLI is not on PATH")
    checkout = copy_project(tmp_path_factory.mktemp("cli") / "project")
    shutil.copytree(example_models(tmp_path_factory), checkout.root / ".sandbox" / "models")
    env = {**os.environ, "PULUMI_SKIP_UPDATE_CHECK": "true"}
    if not has_real_plugin():
        env["PATH"] = f"{stand_in(tmp_path_factory.mktemp('plugins'), checkout)}{os.pathsep}{env['PATH']}"
    try:
        for line in checkout.succeed("cloud", module="local", timeout=600).splitlines():
            if line.startswith("export "):
                name, _, value = line.removeprefix("export ").partition("=")
                env[name] = value.strip("'")
        made = Cli(checkout, env)
        made.succeed("stack", "select", "--create")
        yield made
        made.run("destroy", "--yes")
    finally:
        checkout.run("cloud", "stop")


def has_real_plugin() -> bool:
    """Whether the alicloud provider itself is on this machine."""
    if shutil.which(REAL_PLUGIN):
        return True
    listed = subprocess.run(["pulumi", "plugin", "ls", "--json"], capture_output=True, text=True, check=False)
    return any(plugin.get("name") == "alicloud" for plugin in json.loads(listed.stdout or "[]"))


def stand_in(directory: Path, checkout: Checkout) -> Path:
    """Where the real alicloud provider is not installed, the sandbox's stand-in for it under the real one's name."""
    directory.mkdir(exist_ok=True)
    launcher = directory / REAL_PLUGIN
    launcher.write_text(
        f'#!/bin/sh\nexport PYTHONPATH="{checkout.root}"\nexec "{sys.executable}" -m sandbox.plugins.alicloud "$@"\n',
        encoding="utf-8",
    )
    launcher.chmod(0o755)
    return directory
