"""`make up` and the question which engine a stack belongs to."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from local import stack as local
from ops.outputs import ExportedService
from sandbox import paths
from sandbox.cloud.listener import tls_context

ONE = [{"urn": "urn:pulumi:local::tf-serving::pulumi:pulumi:Stack::tf-serving-local"}]


@pytest.fixture
def states(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[local.Engine, Path]:
    """Where each engine keeps the state of stack ``local``, beside a sandbox cloud that has been started once."""
    monkeypatch.setattr(paths, "CLOUD_DATA", tmp_path / "cloud")
    tls_context(tmp_path / "cloud")
    monkeypatch.setattr(paths, "ENGINE_STATE", tmp_path / "state")
    monkeypatch.setattr(paths, "PULUMI_BACKEND", tmp_path / "pulumi")
    found: dict[local.Engine, Path] = {
        "sandbox": tmp_path / "state" / "local.json",
        "pulumi": tmp_path / "pulumi" / ".pulumi" / "stacks" / "tf-serving" / "local.json",
    }
    for path in found.values():
        path.parent.mkdir(parents=True)
    return found


def document(engine: local.Engine, resources: list[dict[str, Any]] | None) -> str:
    deployment = {"resources": resources, "pending_operations": []}
    latest = None if resources is None else deployment
    content = {"deployment": deployment} if engine == "sandbox" else {"checkpoint": {"latest": latest}}
    return json.dumps({"version": 3} | content)


@pytest.mark.parametrize("engine", ["sandbox", "pulumi"])
def test_a_stack_belongs_to_the_engine_whose_state_holds_resources(
    states: dict[local.Engine, Path], engine: local.Engine
) -> None:
    assert not local._deployed(engine)
    states[engine].write_text(document(engine, ONE), encoding="utf-8")
    assert local._deployed(engine)


@pytest.mark.parametrize("resources", [None, []])
def test_a_stack_that_was_only_selected_or_is_destroyed_again_is_nobodys(
    states: dict[local.Engine, Path], resources: list[dict[str, Any]] | None
) -> None:
    states["pulumi"].write_text(document("pulumi", resources), encoding="utf-8")
    assert not local._deployed("pulumi")


@pytest.mark.parametrize("engine", ["sandbox", "pulumi"])
def test_a_state_that_cannot_be_read_is_not_taken_for_empty(
    states: dict[local.Engine, Path], engine: local.Engine
) -> None:
    states[engine].write_text("{", encoding="utf-8")
    assert local._deployed(engine)


def service(name: str) -> ExportedService:
    return ExportedService(name, "http", "http://127.0.0.1:1", "", "a-token", {"modelB": {"labels": {"stable": 1}}})


def test_the_next_commands_ask_the_engine_that_deployed(states: dict[local.Engine, Path]) -> None:
    by_sandbox = local._next_commands({"multi_http": service("multi_http")}, "sandbox")
    assert "-m sandbox outputs --show-secrets" in by_sandbox
    assert "export " not in by_sandbox
    by_cli = local._next_commands({"multi_http": service("multi_http")}, "pulumi")
    assert "-m sandbox outputs" not in by_cli
    assert "pulumi stack output services --show-secrets -s local" in by_cli
    assert f"export PULUMI_BACKEND_URL=file://{paths.PULUMI_BACKEND}" in by_cli
    assert "make up ENGINE=pulumi" in by_cli
    for shown in (by_sandbox, by_cli):
        assert "a-token" not in shown
        assert "ops predict multi_http modelB --label stable" in shown


def test_the_directory_of_the_clis_backend_is_there_before_the_cli_is_told_of_it(
    states: dict[local.Engine, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "PULUMI_BACKEND", tmp_path / "new" / "backend")
    local._export_lines()
    assert (tmp_path / "new" / "backend").is_dir()


def test_a_lock_of_a_killed_run_is_removed_and_every_other_one_stays(
    states: dict[local.Engine, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    locks = paths.PULUMI_BACKEND / ".pulumi" / "locks" / "organization" / "tf-serving" / "local"
    locks.mkdir(parents=True)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    for name, pid, host in (
        ("killed", ended.pid, socket.gethostname()),
        ("running", os.getpid(), socket.gethostname()),
        ("elsewhere", ended.pid, "another-machine"),
    ):
        (locks / f"{name}.json").write_text(json.dumps({"pid": pid, "hostname": host}), encoding="utf-8")
    (locks / "broken.json").write_text("{", encoding="utf-8")
    local._remove_dead_locks()
    assert {path.stem for path in locks.iterdir()} == {"running", "elsewhere", "broken"}
    assert f"process {ended.pid}" in capsys.readouterr().out
