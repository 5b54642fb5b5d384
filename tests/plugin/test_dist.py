"""What `make dist` builds: a wheel that puts the plugin on PATH, and archives that the Pulumi CLI installs."""

from __future__ import annotations

import json
import os
import re
import site
import subprocess
import sys
import tarfile
import tomllib
import venv
from pathlib import Path

import pytest

from plugin import archive
from plugin.package import SCHEMA
from tests.provider import conftest as provider
from tests.provider.harness import ROOT, Engine, Plugin
from tests.provider.test_package import pins
from tfserving.contract import VERSION

engine = provider.engine


def test_the_wheel_asks_for_what_the_plugin_needs() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(project["dependencies"]) == pins(ROOT / "plugin/requirements.txt")
    assert project["version"] == VERSION


def test_everything_that_the_plugin_imports_is_in_the_wheel_and_in_the_archives() -> None:
    hatch = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]["targets"]
    assert set(hatch["wheel"]["only-include"]) == set(hatch["wheel"]["sources"]) == set(archive.PARTS)
    imported = set()
    for part in archive.PARTS:
        for file in (ROOT / part).rglob("*.py"):
            if ".venv" not in file.parts:
                imported |= set(re.findall(r"^ *(?:from|import) (\w+)", file.read_text(encoding="utf-8"), re.MULTILINE))
    ours = {each.name for each in ROOT.iterdir() if (each / "__init__.py").exists()}
    assert imported & ours <= set(archive.PARTS)


def _alone(tmp_path: Path) -> Path:
    """A fresh virtual environment that has the packages of others which this one has, and nothing of the project."""
    venv.create(tmp_path / "venv", with_pip=False)
    [packages] = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    (packages / "others.pth").write_text("\n".join(site.getsitepackages()), encoding="utf-8")
    return tmp_path / "venv" / "bin"


def _schema(engine: tuple[Engine, str], launcher: Path, cwd: Path) -> str:
    from pulumi.runtime.proto import provider_pb2

    plugin = Plugin(*engine, launcher=launcher, cwd=cwd)
    try:
        return str(plugin.call("GetSchema", provider_pb2.GetSchemaRequest(version=0)).schema)
    finally:
        plugin.stop()


@pytest.mark.slow
def test_an_installed_wheel_puts_the_plugin_on_path(tmp_path: Path, engine: tuple[Engine, str]) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "dist")]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    [wheel] = (tmp_path / "dist").glob("*.whl")
    programs = _alone(tmp_path)
    pip = [sys.executable, "-m", "pip", "--python", str(programs / "python"), "install", "--no-index", "--no-deps"]
    subprocess.run([*pip, "--disable-pip-version-check", str(wheel)], check=True, capture_output=True)
    [packages] = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    assert {each.name for each in packages.iterdir() if "stacks" in each.name or each.name in archive.PARTS} == {
        "tf_serving_stacks",
        f"tf_serving_stacks-{VERSION}.dist-info",
    }
    assert _schema(engine, programs / "pulumi-resource-tfserving", tmp_path) == SCHEMA.read_text(encoding="utf-8")


@pytest.mark.slow
def test_an_archive_is_a_plugin_that_the_cli_runs_as_a_directory(tmp_path: Path, engine: tuple[Engine, str]) -> None:
    archives = archive.write(tmp_path / "dist")
    assert f"pulumi-resource-tfserving-v{VERSION}-linux-amd64.tar.gz" in {each.name for each in archives}
    with tarfile.open(archives[0]) as packed:
        assert not [name for name in packed.getnames() if ".venv" in name or "__pycache__" in name]
        packed.extractall(tmp_path / "plugin", filter="data")
    assert (tmp_path / "plugin" / "PulumiPlugin.yaml").exists()
    launcher = tmp_path / "launch"
    launcher.write_text(f'#!/bin/sh\nexec {_alone(tmp_path) / "python"} {tmp_path / "plugin"} "$@"\n')
    launcher.chmod(0o755)
    assert json.loads(_schema(engine, launcher, tmp_path))["version"] == VERSION
    assert os.listdir(tmp_path / "plugin" / "templates")
