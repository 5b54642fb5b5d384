"""The programs in ``examples/``, run against the sandbox cloud as their README says."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from tests.e2e.checkout import BODY, Checkout, copy_project, example_models, post

pytestmark = pytest.mark.slow

STACK = ("--stack", "local")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    """A checkout with the example models, its cloud running, and every example's stack leading there."""
    made = copy_project(tmp_path_factory.mktemp("examples") / "project")
    shutil.copytree(example_models(tmp_path_factory), made.root / ".sandbox" / "models")
    for file in (made.root / "examples").glob("*/Pulumi.local.yaml"):
        file.write_text(file.read_text(encoding="utf-8").replace("127.0.0.1:7580", f"127.0.0.1:{made.port}"))
    made.succeed("cloud", "start")
    yield made
    made.run("cloud", "stop")


class Example:
    """One example, and the engine over it."""

    def __init__(self, checkout: Checkout, name: str) -> None:
        self.checkout, self.root = checkout, checkout.root / "examples" / name

    def run(self, command: str, *options: str) -> str:
        return self.checkout.succeed(command, *options, "--cwd", str(self.root), *STACK)

    def outputs(self) -> dict[str, str]:
        found: dict[str, str] = json.loads(self.run("outputs", "--json", "--show-secrets"))
        return found

    def set(self, key: str, value: str) -> None:
        file = self.root / "Pulumi.local.yaml"
        lines = file.read_text(encoding="utf-8").splitlines()
        file.write_text("\n".join(f"  {key}: {value}" if line.strip().startswith(key) else line for line in lines))

    def answer(self, label: str) -> int:
        outputs = self.outputs()
        status, found = post(f"{outputs['url']}/v1/models/modelB/labels/{label}:predict", outputs["token"], BODY)
        assert status == 200, found
        return len(found["predictions"])


def promotes(example: Example, setting: str) -> None:
    """Deploys it, sees no change, moves a label with one write, and removes everything."""
    example.run("preview")
    example.run("up", "--yes")
    assert example.answer("stable") == 1
    example.run("preview", "--expect-no-changes")
    example.set(setting, '"2"')
    promoted = example.run("up", "--yes")
    assert "modelB: label stable 1 -> 2" in promoted
    assert "1 updated" in promoted
    example.run("preview", "--refresh", "--expect-no-changes")
    example.run("destroy", "--yes")


def test_a_program_with_a_network_and_a_bucket_of_its_own_serves_and_promotes(checkout: Checkout) -> None:
    promotes(Example(checkout, "python-own-program"), "own-program:stable")


@pytest.fixture(scope="module")
def typescript(checkout: Checkout) -> Example:
    """The example in TypeScript, its packages installed."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("Node and npm are not on PATH")
    example = Example(checkout, "typescript")
    command = [npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
    done = subprocess.run(command, cwd=example.root, capture_output=True, text=True, check=False)
    if done.returncode and "network" in done.stderr:
        pytest.skip("npm reaches no registry")
    assert done.returncode == 0, done.stderr
    return example


def test_a_program_in_typescript_serves_and_promotes(typescript: Example) -> None:
    promotes(typescript, "typescript:stable")


def test_a_wrong_argument_in_typescript_is_told_by_its_path(typescript: Example) -> None:
    program = typescript.root / "index.ts"
    text = program.read_text(encoding="utf-8")
    program.write_text(text.replace("configPollSeconds: 2", "configPollSeconds: -5"), encoding="utf-8")
    try:
        done = typescript.checkout.run("preview", "--cwd", str(typescript.root), *STACK)
    finally:
        program.write_text(text, encoding="utf-8")
    assert done.code != 0
    assert "configPollSeconds" in done.text
    assert "Traceback" not in done.text
