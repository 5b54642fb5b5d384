"""The checkout in which the pages' commands are run, and what the Pulumi CLI has to know in it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.commands import succeed
from tests.e2e.checkout import Checkout
from tests.e2e.conftest import checkout, prepared
from tests.live.conftest import has_real_plugin, stand_in

__all__ = ["checkout", "prepared"]


@pytest.fixture(scope="module")
def ready(prepared: Checkout) -> Checkout:
    """The checkout, with an installed virtualenv as after a first `make up`."""
    if not (prepared.root / ".venv" / "bin" / "python").exists():
        pytest.skip("the tests do not run in a virtualenv")
    return prepared


@pytest.fixture
def cli_env(ready: Checkout, tmp_path: Path) -> Iterator[dict[str, str]]:
    """What `make cloud` prints for the CLI, and a yes to its questions."""
    if not shutil.which("pulumi"):
        pytest.skip("the Pulumi CLI is not on PATH")
    lines = [line for line in succeed(ready, "make cloud").splitlines() if line.startswith("export ")]
    shown = succeed(ready, "\n".join([*lines, "env -0"]))
    wanted = {line.removeprefix("export ").partition("=")[0] for line in lines}
    env = dict(item.split("=", 1) for item in shown.split("\0") if item.partition("=")[0] in wanted)
    if not has_real_plugin():
        env["PATH"] = f"{stand_in(tmp_path / 'plugins', ready)}{os.pathsep}{os.environ['PATH']}"
    yield {
        **env,
        "PULUMI_HOME": str(tmp_path / "home"),
        "PULUMI_SKIP_CONFIRMATIONS": "true",
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        "PULUMI_OPTION_NON_INTERACTIVE": "true",
    }
    ready.run("cloud", "stop")
