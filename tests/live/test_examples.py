"""The programs in ``examples/`` under the Pulumi CLI, against the sandbox cloud."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tests.e2e.checkout import Checkout
from tests.live.cli import Cli

pytestmark = pytest.mark.slow


@pytest.fixture(params=["python-own-program", "typescript", "go", "yaml"])
def example(cli: Cli, request: pytest.FixtureRequest) -> Cli:
    """The CLI over stack ``local`` of one example."""
    root = cli.checkout.root / "examples" / request.param
    hosts = {"typescript": "nodejs", "go": "go", "yaml": "yaml"}
    host = f"pulumi-language-{hosts[request.param]}" if request.param in hosts else ""
    beside = Path(shutil.which("pulumi") or "").resolve().parent / host
    if host and not (shutil.which(host) or beside.exists()):
        pytest.skip(f"the CLI has no {host}")
    if request.param == "go" and shutil.which("go") is None:
        pytest.skip("Go is not on PATH")
    if request.param == "typescript":
        if shutil.which("npm") is None:
            pytest.skip("npm is not on PATH")
        command = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
        subprocess.run(command, cwd=root, check=True, capture_output=True)
    file = root / "Pulumi.local.yaml"
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace("127.0.0.1:7580", f"127.0.0.1:{cli.checkout.port}"), encoding="utf-8")
    made = replace(cli, checkout=Checkout(root, cli.checkout.port))
    made.succeed("stack", "select", "--create")
    return made


def test_an_example_deploys_and_then_changes_nothing(example: Cli) -> None:
    try:
        printed = example.succeed("up", "--yes", "--skip-preview")
        assert "api/predict/vision" in printed
        example.succeed("preview", "--expect-no-changes")
    finally:
        done = example.run("destroy", "--yes")
    assert done.code == 0, done.text
