"""Which stack a command is about: its own name, its full one, or the one that is selected in Pulumi."""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

import pytest

from ops import engine, options
from sandbox.holders import deployed


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "project"
    root.mkdir()
    (root / "Pulumi.yaml").write_text("name: tf-serving\nruntime: python\n", encoding="utf-8")
    monkeypatch.setenv("PULUMI_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("shutil.which", lambda name: f"/bin/{name}")
    return root


def select(project: Path, stack: str) -> None:
    digest = hashlib.sha1(str(project / "Pulumi.yaml").encode(), usedforsecurity=False).hexdigest()
    file = project.parent / "home" / "workspaces" / f"tf-serving-{digest}-workspace.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"stack": stack}), encoding="utf-8")


def hold(project: Path, stack: str) -> None:
    state = project / ".sandbox" / "state" / f"{stack}.json"
    state.parent.mkdir(parents=True, exist_ok=True)
    state.write_text(json.dumps({"deployment": {"resources": [{}]}}), encoding="utf-8")


def test_the_selected_stack_is_the_default(project: Path) -> None:
    assert engine.default_stack(project) == "local"
    select(project, "acme/tf-serving/dev")
    assert engine.default_stack(project) == "acme/tf-serving/dev"


def test_a_selection_is_nobodys_choice_where_the_sandbox_engine_holds_that_stack(project: Path) -> None:
    select(project, "dev")
    hold(project, "dev")
    assert engine.default_stack(project) == "local"


def test_without_the_cli_nothing_is_selected(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    select(project, "dev")
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert engine.default_stack(project) == "local"


def test_a_full_name_is_the_same_stack_in_the_sandbox_engine(project: Path) -> None:
    hold(project, "dev")
    assert engine.resolve("acme/tf-serving/dev", "auto", project) == "sandbox"
    assert engine.resolve("acme/tf-serving/prod", "auto", project) == "pulumi"
    assert engine.short_name("acme/tf-serving/dev") == engine.short_name("dev") == "dev"


@pytest.mark.parametrize("name", ["dev", "acme/dev", "acme/tf-serving/dev", "a.b-c_1"])
def test_every_form_of_a_name_is_taken(name: str) -> None:
    command = argparse.ArgumentParser()
    options.add_stack(command)
    assert command.parse_args(["--stack", name]).stack == name


@pytest.mark.parametrize("name", ["", "a/b/c/d", "a/../b/c", "a b", "/dev", "dev/"])
def test_what_is_no_name_is_refused(name: str) -> None:
    command = argparse.ArgumentParser()
    options.add_stack(command)
    with pytest.raises(SystemExit):
        command.parse_args(["--stack", name])


def test_a_stack_of_the_cli_is_told_from_one_of_the_sandbox_engine(project: Path) -> None:
    state = project / ".sandbox" / "pulumi" / ".pulumi" / "stacks" / "tf-serving" / "dev.json"
    state.parent.mkdir(parents=True)
    state.write_text(json.dumps({"checkpoint": {"latest": {"resources": []}}}), encoding="utf-8")
    assert not deployed("pulumi", "dev", project)
    state.write_text(json.dumps({"checkpoint": {"latest": {"resources": [{}]}}}), encoding="utf-8")
    assert deployed("pulumi", "dev", project)
    assert not deployed("sandbox", "dev", project)
    hold(project, "dev")
    assert deployed("sandbox", "dev", project)
