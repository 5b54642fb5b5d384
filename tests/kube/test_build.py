"""Building is for those who have Go; nobody else has to know."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandbox.kube import build


def test_without_programs_the_way_to_get_them_is_told(tmp_path: Path) -> None:
    assert "make kube" in build.missing(tmp_path)


def test_programs_of_another_version_are_not_used(tmp_path: Path) -> None:
    (tmp_path / ".built-from").write_text("something else")
    assert "another version" in build.missing(tmp_path)


def test_without_go_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(build.KubeBuildError, match="Install Go"):
        build.build(tmp_path / "bin")


def test_a_build_that_fails_leaves_no_stamp_and_names_the_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = tmp_path / "go"
    go.write_text("#!/bin/sh\nexit 3\n")
    go.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(build.KubeBuildError, match="building etcd failed"):
        build.build(tmp_path / "bin")
    assert build.missing(tmp_path / "bin")


def test_the_module_replaces_every_staging_module_by_its_release() -> None:
    """k8s.io/kubernetes names them by version v0.0.0, which exists nowhere."""
    text = (build.MODULE / "go.mod").read_text()
    minor = build.version().partition(".")[2]
    replaced = [line.split() for line in text.splitlines() if "=>" in line]
    assert len(replaced) > 30
    assert {line[-1] for line in replaced} == {f"v0.{minor}"}
    assert all(line[0] == line[2] for line in replaced)
