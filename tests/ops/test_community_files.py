"""What a repository that one may depend on has beside its code: licence, templates, hooks, updates of pins."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
APACHE_2 = "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"
"""SHA-256 of the text as the Apache Software Foundation publishes it."""

FILES = subprocess.run(
    ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=False
).stdout.split("\n")


def read(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def test_the_licence_is_apache_2_word_for_word() -> None:
    assert hashlib.sha256((ROOT / "LICENSE").read_bytes()).hexdigest() == APACHE_2


def test_the_hooks_are_the_commands_of_make_lint() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    recipe = re.search(r"^lint:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    assert recipe
    linted = [line.strip().replace("$(BIN)", ".venv/bin") for line in recipe[1].splitlines()]
    hooks = [hook for repo in read(".pre-commit-config.yaml")["repos"] for hook in repo["hooks"]]
    assert [hook["entry"] for hook in hooks] == linted
    assert all(hook["language"] == "system" for hook in hooks), "a second copy of a tool would have a second pin"


def test_the_tool_for_hooks_takes_the_file() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pre_commit", "validate-config", str(ROOT / ".pre-commit-config.yaml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


PINNED = {"pip": "requirements*.txt", "npm": "package.json", "gomod": "go.mod", "docker": "Dockerfile"}
"""Kind of pins, as Dependabot calls it, and the files that hold them."""


@pytest.mark.parametrize("ecosystem", PINNED)
def test_new_releases_of_every_pin_are_proposed(ecosystem: str) -> None:
    if not any(FILES):
        pytest.skip("not in a git checkout")
    held = {
        "/" + ("" if Path(name).parent == Path() else Path(name).parent.as_posix())
        for name in FILES
        if Path(name).match(PINNED[ecosystem]) and not name.startswith("tests/")
    }
    [update] = [each for each in read(".github/dependabot.yml")["updates"] if each["package-ecosystem"] == ecosystem]
    assert held == set(update["directories"])


def test_every_update_waits_a_week_for_releases_that_are_taken_back() -> None:
    for update in read(".github/dependabot.yml")["updates"]:
        assert update["cooldown"]["default-days"] >= 7, update["package-ecosystem"]


@pytest.mark.parametrize(
    "form", sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")), ids=lambda form: form.stem
)
def test_an_issue_form_asks_something_and_each_question_once(form: Path) -> None:
    document = yaml.safe_load(form.read_text(encoding="utf-8"))
    if form.stem == "config":
        assert document == {"blank_issues_enabled": True}
        return
    assert document["name"]
    assert document["description"]
    asked = [each for each in document["body"] if each["type"] != "markdown"]
    ids = [each["id"] for each in asked]
    assert ids
    assert len(ids) == len(set(ids))
    assert all(each["attributes"]["label"] for each in asked)
    assert any(each.get("validations", {}).get("required") for each in asked)


def test_code_owners_own_everything_and_paths_that_exist() -> None:
    lines = (ROOT / ".github" / "CODEOWNERS").read_text(encoding="utf-8").splitlines()
    rules = [line.split() for line in lines if line and not line.startswith("#")]
    assert rules[0][0] == "*"
    for pattern, *owners in rules:
        assert owners
        assert all(re.fullmatch(r"@[\w-]+(/[\w-]+)?", owner) for owner in owners)
        assert pattern == "*" or list(ROOT.glob(pattern.strip("/"))), f"{pattern} is no longer there"


def test_the_development_container_makes_what_the_makefile_makes() -> None:
    container = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8"))
    assert container["postCreateCommand"].startswith("make .venv/.ready-dev")
    assert (ROOT / ".devcontainer" / container["build"]["dockerfile"]).is_file()
    stack = read("stacks/Pulumi.local.yaml")["config"]
    port = int(str(stack["tf-serving:endpoint"]).rpartition(":")[2])
    assert container["forwardPorts"] == [port]
    for schema in container["customizations"]["vscode"]["settings"]["yaml.schemas"]:
        assert (ROOT / schema).is_file()
