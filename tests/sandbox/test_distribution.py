"""The sandbox is a distribution of its own: it could be lifted out of this project, together with ``tfserving/``."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from urllib import request

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from sandbox import paths
from sandbox.cloud import console
from tests.ports import free_port
from tests.syntax_trees import tree_of

PROJECT = Path(__file__).resolve().parents[2]
DISTRIBUTIONS = ("sandbox", "tfserving")
OF_OTHERS = {
    "alibabacloud_tea_openapi": "alibabacloud-cs20151215",
    "darabonba": "alibabacloud-cs20151215",
    "google": "protobuf",
    "ml_dtypes": "tensorflow-cpu",
    "urllib3": "kubernetes",
    "yarl": "aiohttp",
}
"""Packages that come with a requirement, which could not work without them."""


def described(name: str) -> dict[str, object]:
    return tomllib.loads((PROJECT / name / "pyproject.toml").read_text(encoding="utf-8"))


def requirements(name: str) -> dict[str, Requirement]:
    project = described(name)["project"]
    assert isinstance(project, dict)
    return {canonicalize_name(each.name): each for each in map(Requirement, project["dependencies"])}


def pins(file: str) -> dict[str, Requirement]:
    lines = (line for line in (PROJECT / file).read_text(encoding="utf-8").splitlines() if re.match(r"\w", line))
    return {canonicalize_name(each.name): each for each in map(Requirement, lines)}


def imported(name: str) -> set[str]:
    found: set[str] = set()
    for file in (PROJECT / name).rglob("*.py"):
        for node in ast.walk(tree_of(file)):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found.add(node.module or "")
    return {module.partition(".")[0] for module in found} - set(sys.stdlib_module_names) - {name}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_what_is_imported_is_required_and_nothing_else(name: str) -> None:
    of_distribution = {**metadata.packages_distributions(), "tfserving": ["tf-serving-knowledge"]}
    used: set[str] = set()
    for module in imported(name):
        used |= set(map(canonicalize_name, [OF_OTHERS[module]] if module in OF_OTHERS else of_distribution[module]))
    named = set(requirements(name))
    named |= {each for each in pins("sandbox/requirements-nodeps.txt") if name == "sandbox"}
    assert {each for each in used if each not in ("tensorflow", "tensorflow-cpu")} == {
        each for each in named if each not in ("tensorflow", "tensorflow-cpu")
    }


def test_the_pins_are_those_of_the_requirements_and_agree_with_the_projects() -> None:
    wanted, pinned, production = requirements("sandbox"), pins("sandbox/requirements.txt"), pins("requirements.txt")
    assert set(wanted) == {*pinned, "tf-serving-knowledge"}
    for name, requirement in pinned.items():
        (pin,) = requirement.specifier
        assert wanted[name].specifier.contains(pin.version), name
        assert name not in production or production[name].specifier == requirement.specifier, name
    for name, requirement in requirements("tfserving").items():
        (pin,) = production[name].specifier
        assert requirement.specifier.contains(pin.version), name


def test_an_installed_sandbox_works_for_the_project_one_stands_in(tmp_path: Path) -> None:
    package = tmp_path / "site-packages" / "sandbox"
    project, inside = tmp_path / "project", tmp_path / "project" / "models" / "deep"
    inside.mkdir(parents=True)
    assert paths.project(package, inside) == inside
    (project / "Pulumi.yaml").write_text("name: theirs\n", encoding="utf-8")
    assert paths.project(package, inside) == project
    assert paths.project(PROJECT / "sandbox", inside) == PROJECT


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where both distributions are installed, without network and without the checkout."""
    root = tmp_path_factory.mktemp("lifted-out")
    for name in DISTRIBUTIONS:
        shutil.copytree(
            PROJECT / name, root / name, ignore=shutil.ignore_patterns("__pycache__", "build", "*.egg-info")
        )
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
        command = [*pip, "--no-compile", "--target", str(root / "installed"), str(root / name)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    return root / "installed"


def run(installed: Path, directory: Path, *command: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def files(root: Path) -> set[str]:
    return {
        str(file.relative_to(root))
        for name in DISTRIBUTIONS
        for file in (root / name).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts and "build" not in file.relative_to(root).parts
    }


@pytest.mark.slow
def test_every_file_of_a_distribution_is_installed(installed: Path) -> None:
    apart = {f"{name}/{file}" for name in DISTRIBUTIONS for file in ("pyproject.toml", "requirements.txt")}
    apart |= {"sandbox/requirements-nodeps.txt", "tfserving/protos/tf_serving.proto"}
    assert files(PROJECT) - apart == files(installed)


@pytest.mark.slow
def test_lifted_out_it_has_its_commands(installed: Path, tmp_path: Path) -> None:
    by_module = run(installed, tmp_path, sys.executable, "-m", "sandbox", "--help")
    assert "run, start, stop or ask after the local cloud" in by_module
    assert (
        run(installed, tmp_path, sys.executable, str(installed / "bin" / "tf-serving-sandbox"), "--help") == by_module
    )
    for command in ("cloud", "up", "models", "kube"):
        assert "usage:" in run(installed, tmp_path, sys.executable, "-m", "sandbox", command, "--help")


@pytest.mark.slow
def test_lifted_out_it_runs_a_cloud_for_the_directory_it_is_started_in(installed: Path, tmp_path: Path) -> None:
    sandbox = (sys.executable, "-m", "sandbox", "cloud")
    port = str(free_port())
    try:
        started = run(installed, tmp_path, *sandbox, "start", "--port", port)
        assert f"http://127.0.0.1:{port}" in started
        assert str(tmp_path / ".sandbox" / "cloud") in run(installed, tmp_path, *sandbox, "status")
        with request.urlopen(console.url(int(port)), timeout=60) as page:  # its files are in the wheel
            assert b"<!doctype html>" in page.read().lower()
    finally:
        assert "stopped" in run(installed, tmp_path, *sandbox, "stop")


@pytest.mark.slow
def test_lifted_out_a_confined_model_server_finds_its_code(installed: Path, tmp_path: Path) -> None:
    program = """
import os, subprocess, sys
from sandbox import confinement, paths
command = confinement.guarded((sys.executable, "-m", "sandbox.model_server"), ["--version"], (), ())
env = confinement.environment({}) | {"PYTHONPATH": paths.PYTHONPATH}
sys.exit(subprocess.run(command, env=env, cwd=paths.CODE.parent).returncode)
"""
    assert "TensorFlow" in run(installed, tmp_path, sys.executable, "-c", program)
