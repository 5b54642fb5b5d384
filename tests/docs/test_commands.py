"""The commands of the pages, run by a shell as they stand there, in the order in which a page has them.

What a page leaves to the reader ("edit: region, bucket, models, services") is done here in the same way each time: the
stack file becomes that of the local stack under another bucket's name.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from PIL import Image

from tests.cloud.console import browser
from tests.docs import pages
from tests.docs.where import HERE, WITH_CLI
from tests.e2e.checkout import Checkout, Done

pytestmark = pytest.mark.slow

MAKE_VARIABLES = {"MAKEFLAGS", "MAKELEVEL", "MFLAGS", "MAKEOVERRIDES"}


def as_written(checkout: Checkout, command: str, **env: str) -> Done:
    """Runs one line of a page in a shell, in the checkout."""
    outside = {name: value for name, value in os.environ.items() if name not in MAKE_VARIABLES}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=checkout.root,
        env={**outside, **env},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=900,
        check=False,
    )
    assert "Traceback" not in done.stdout, done.stdout
    return Done(done.returncode, done.stdout)


def succeed(checkout: Checkout, command: str, **env: str) -> str:
    done = as_written(checkout, command, **env)
    assert done.code == 0, f"{command}\n{done.text}"
    return done.text


def written(page: str, known: frozenset[tuple[str, str]], start: str = "") -> Iterator[str]:
    """The commands of a page that are run here, in their order, from the first that begins with ``start``."""
    commands = [command.text for block in pages.page_blocks(page) for command in block]
    first = next(index for index, command in enumerate(commands) if command.startswith(start))
    yield from (command for command in commands[first:] if (page, command) in known)


def edited(checkout: Checkout, stack: str) -> None:
    """The reader's part: the stack file names this machine's sandbox cloud and a bucket of its own."""
    document = checkout.config()
    document["config"]["tf-serving:bucket"] = {"name": f"tf-serving-{stack}", "forceDestroy": True}
    file = checkout.root / "stacks" / f"Pulumi.{stack}.yaml"
    file.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")


@pytest.fixture(scope="module")
def ready(prepared: Checkout) -> Checkout:
    """The checkout, with an installed virtualenv as after a first `make up`."""
    if not (prepared.root / ".venv" / "bin" / "python").exists():
        pytest.skip("the tests do not run in a virtualenv")
    return prepared


def test_the_commands_of_the_readme(ready: Checkout) -> None:
    shoe = Image.new("L", (28, 28), 0)
    shoe.paste(200, (4, 14, 24, 22))
    shoe.save(ready.root / "shoe.png")
    printed = {command: succeed(ready, command) for command in written("README.md", HERE)}
    assert "console: http" in printed["make up"]
    by_label = next(text for command, text in printed.items() if "--label stable" in command)
    assert "modelB version 1" in by_label
    assert any("curl" in text and ready.service("multi_http")["token"] not in text for text in printed.values())
    assert "no drift" in next(text for command, text in printed.items() if command.endswith("drift"))
    assert "export PULUMI_BACKEND_URL=" in printed["make cloud"]


def test_the_command_for_the_picture_of_the_console(ready: Checkout) -> None:
    if why := browser.missing():
        pytest.skip(why)
    for command in written("docs/console.md", HERE):
        picture = ready.root / "docs" / "console.png"
        picture.unlink()
        succeed(ready, command)
        with Image.open(picture) as image:
            assert image.width == 1280


def test_the_commands_of_the_sandbox_page_end_with_nothing_left(ready: Checkout) -> None:
    printed = {command: succeed(ready, command) for command in written("docs/sandbox.md", HERE)}
    assert "unchanged" in printed[".venv/bin/python -m sandbox preview"]
    assert (
        "Running" in printed[".venv/bin/python -m sandbox cloud status"]
        or "127.0.0.1" in printed[".venv/bin/python -m sandbox cloud status"]
    )
    assert ready.processes() == {}


def test_the_commands_of_the_operations_page(ready: Checkout) -> None:
    edited(ready, "dev")
    ready.succeed("cloud", "start")
    try:
        ready.succeed("up", "--stack", "dev", "--yes", timeout=600)
        for command in written("docs/operations.md", HERE):
            succeed(ready, command)
    finally:
        ready.run("destroy", "--stack", "dev", "--yes")
        ready.run("cloud", "stop")


def test_the_commands_of_the_publishing_page(ready: Checkout) -> None:
    shutil.copytree(ready.root / ".sandbox" / "models" / "modelB", ready.root / "exports" / "modelB")
    succeed(ready, "git init --quiet .")
    for command in written("docs/publishing.md", HERE):
        succeed(ready, command)
    staged = succeed(ready, "git diff --cached --name-only").split()
    assert staged == ["manifests/modelB/1.manifest.json", "manifests/modelB/2.manifest.json"]


def test_formatting_leaves_a_clean_tree_as_it_is(ready: Checkout) -> None:
    before = {path: path.read_bytes() for path in ready.root.glob("tfserving/**/*.py")}
    for command in written("CONTRIBUTING.md", HERE):
        succeed(ready, command)
    assert {path: path.read_bytes() for path in before} == before


# ---- with the Pulumi CLI -------------------------------------------------------------------------------------------


@pytest.fixture
def cli_env(ready: Checkout, tmp_path: Path) -> Iterator[dict[str, str]]:
    """What `make cloud` prints for the CLI, and a yes to its questions."""
    if not shutil.which("pulumi"):
        pytest.skip("the Pulumi CLI is not on PATH")
    lines = [line for line in succeed(ready, "make cloud").splitlines() if line.startswith("export ")]
    shown = succeed(ready, "\n".join([*lines, "env -0"]))
    wanted = {line.removeprefix("export ").partition("=")[0] for line in lines}
    env = dict(item.split("=", 1) for item in shown.split("\0") if item.partition("=")[0] in wanted)
    yield {
        **env,
        "PULUMI_HOME": str(tmp_path / "home"),
        "PULUMI_SKIP_CONFIRMATIONS": "true",
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        "PULUMI_OPTION_NON_INTERACTIVE": "true",
    }
    ready.run("cloud", "stop")


def test_the_commands_of_the_readme_with_the_cli(ready: Checkout, cli_env: dict[str, str]) -> None:
    for command in written("README.md", WITH_CLI, "make up ENGINE"):
        succeed(ready, command, **cli_env)
    succeed(ready, "make down ENGINE=pulumi", **cli_env)


@pytest.mark.parametrize(
    ("page", "start"), [("README.md", "cp "), ("docs/operations.md", "cp ")], ids=["readme", "operations"]
)
def test_a_stack_of_ones_own_with_the_cli(page: str, start: str, ready: Checkout, cli_env: dict[str, str]) -> None:
    ready.succeed("cloud", "start")
    # The README's commands for the local stack come after those for one's own.
    commands = [
        command for command in written(page, WITH_CLI, start) if "prod" not in command and "local" not in command
    ]
    commands = [command for command in commands if not command.startswith("make")]
    try:
        for command in commands:
            succeed(ready, command, **cli_env)
            if command.startswith("cp "):
                edited(ready, "mine")
    finally:
        as_written(ready, "pulumi destroy --yes -s mine", **cli_env)
        as_written(ready, "pulumi stack rm --yes mine", **cli_env)


@pytest.mark.parametrize("page", ["docs/operations.md", "docs/stack-config.md"])
def test_config_is_set_by_path_with_the_cli(page: str, ready: Checkout, cli_env: dict[str, str]) -> None:
    (command,) = (command for command in written(page, WITH_CLI, "") if command.startswith("pulumi config set"))
    stack = "prod" if "-s prod" in command else "local"
    succeed(ready, f"pulumi stack select --create {stack}", **cli_env)
    file = ready.root / "stacks" / f"Pulumi.{stack}.yaml"
    before = file.read_bytes()
    try:
        succeed(ready, command, **cli_env)
        models = yaml.safe_load(file.read_text(encoding="utf-8"))["config"]["tf-serving:models"]
        assert models["modelB"]["labels"]["stable"] == 2
    finally:
        file.write_bytes(before)
        as_written(ready, f"pulumi stack rm --yes --force --preserve-config {stack}", **cli_env)
