"""Which stack a command is about: its own name, its full one, or the one that is selected in Pulumi."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

import pytest

from ops import engine, options, outputs, state
from ops.doctor.stack import DoctorError, load
from sandbox.holders import deployed


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "project"
    root.mkdir()
    (root / "Pulumi.yaml").write_text("name: tf-serving\nruntime: python\n", encoding="utf-8")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    select(root, "")
    return root


def select(project: Path, stack: str) -> None:
    """A stand-in for the Pulumi CLI that has a stack selected, or none."""
    command = project.parent / "bin" / "pulumi"
    command.parent.mkdir(exist_ok=True)
    answer = f"echo {stack}" if stack else "echo 'error: no stack selected' >&2; exit 255"
    wanted = '"stack --show-name --fully-qualify-stack-names --non-interactive"'
    command.write_text(f'#!/bin/sh\n[ "$*" = {wanted} ] || exit 9\n{answer}\n', encoding="utf-8")
    command.chmod(0o755)


def hold(project: Path, stack: str) -> None:
    state = project / ".sandbox" / "state" / f"{stack}.json"
    state.parent.mkdir(parents=True, exist_ok=True)
    state.write_text(json.dumps({"deployment": {"resources": [{}]}}), encoding="utf-8")


def test_the_selected_stack_is_the_default(project: Path) -> None:
    assert engine.default_stack(project) == "local"
    select(project, "acme/tf-serving/dev")
    assert engine.default_stack(project) == "acme/tf-serving/dev"
    select(project, "organization/tf-serving/dev")  # of a backend in a directory or bucket
    assert engine.default_stack(project) == "dev"


def test_a_selection_is_nobodys_choice_where_the_sandbox_engine_holds_that_stack(project: Path) -> None:
    select(project, "organization/tf-serving/dev")
    hold(project, "dev")
    assert engine.default_stack(project) == "local"


def test_without_the_cli_nothing_is_selected(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    select(project, "dev")
    monkeypatch.setenv("PATH", "/nonexistent")
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


def test_the_selection_is_asked_for_only_where_no_stack_is_named(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(engine, "default_stack", lambda: asked.append("") or "chosen")
    command = argparse.ArgumentParser()
    options.add_stack(command)
    assert "the one selected in Pulumi, else local" in command.format_help()
    assert command.parse_args(["-s", "dev"]).stack == "dev"
    assert asked == []
    assert command.parse_args([]).stack == "chosen"


def test_the_cli_is_asked_without_colours(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = project.parent / "bin" / "pulumi"
    command.write_text('#!/bin/sh\necho "$* $NO_COLOR$FORCE_COLOR"\n', encoding="utf-8")
    monkeypatch.setenv("FORCE_COLOR", "1")
    done = engine.run("prod", ["refresh", "--json"], "auto", project)
    assert done.out == "refresh --json --non-interactive --color never --stack prod 1\n"


def test_what_a_pipeline_sets_for_changes_does_not_reach_commands_that_only_look(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The CLI refuses ``refresh --preview-only`` where confirmations are to be skipped."""
    command = project.parent / "bin" / "pulumi"
    command.write_text("#!/bin/sh\nenv\n", encoding="utf-8")
    for name in (
        "PULUMI_SKIP_CONFIRMATIONS",
        "PULUMI_OPTION_YES",
        "PULUMI_OPTION_SKIP_PREVIEW",
        "PULUMI_OPTION_PARALLEL",
    ):
        monkeypatch.setenv(name, "true")
    seen = engine.run("dev", ["refresh", "--preview-only"], "pulumi", project).out
    assert "PULUMI_OPTION_PARALLEL=true" in seen
    assert "SKIP" not in seen.replace("PULUMI_SKIP_UPDATE_CHECK", "")
    assert "PULUMI_OPTION_YES" not in seen


def test_a_misspelt_stack_is_answered_with_the_nearest_that_has_a_file(project: Path) -> None:
    (project / "Pulumi.yaml").write_text(
        "name: tf-serving\nruntime: python\nstackConfigDir: stacks\n", encoding="utf-8"
    )
    (project / "stacks").mkdir()
    for name in ("prod", "staging"):
        (project / "stacks" / f"Pulumi.{name}.yaml").write_text("config: {}\n", encoding="utf-8")
    command = project.parent / "bin" / "pulumi"
    command.write_text("#!/bin/sh\necho \"error: no stack named 'x' found\" >&2; exit 255\n", encoding="utf-8")
    for read, error in ((outputs.read, outputs.OutputsError), (state.read, state.StateError)):
        with pytest.raises(error, match=r"no stack named 'x' found; did you mean 'prod'\? There are prod, staging"):
            read("acme/tf-serving/prd", "pulumi", project)
        with pytest.raises(error, match=r"found\. Fix: deploy it first, or choose another"):
            read("prod", "pulumi", project)
    with pytest.raises(DoctorError, match=r"no stack file .*Pulumi\.prd\.yaml; did you mean 'prod'\?"):
        load("prd", project)
