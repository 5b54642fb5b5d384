"""What `make test` runs once more: a slow test that failed, with what it needs made anew; never a fast one."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

TESTS = """
import pytest

made = []
tried = []


@pytest.fixture(scope="module")
def server():
    made.append("server")
    if len(made) == 1:
        raise OSError("its port is taken")
    return made


@pytest.mark.slow
def test_whose_server_starts_at_the_second_try(server):
    assert server == ["server", "server"]


@pytest.mark.slow
def test_that_passes_at_the_second_try(server, tmp_path):
    (tmp_path / "new").mkdir()
    tried.append("")
    assert len(tried) == 2
    assert server == ["server", "server"], "what works is kept"


@pytest.mark.slow
def test_that_never_passes():
    raise AssertionError("twice")


def test_that_is_fast():
    tried.append("")
    assert len(tried) > 3, "once"
"""


@pytest.mark.slow
def test_make_test_runs_slow_tests_that_fail_once_more_and_says_so(tmp_path: Path) -> None:
    makefile = (ROOT / "Makefile").read_text().replace("\\\n", "")
    (command,) = re.findall(r"^\t\$\(BIN\)/python (-m pytest -m .*)", makefile, re.M)
    (tmp_path / "tests").mkdir()
    shutil.copy(ROOT / "tests" / "conftest.py", tmp_path / "tests")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "tests" / "test_some.py").write_text(TESTS)
    run = f"{sys.executable} {command}".replace("$(JOBS)", "2")
    done = subprocess.run(["sh", "-c", run], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    told = done.stdout.partition("rerun test summary info")[2]
    assert sorted(re.findall(r"^(RERUN|PASSED|FAILED|ERROR) .*::(\w+)", told, re.M)) == [
        ("FAILED", "test_that_is_fast"),
        ("FAILED", "test_that_never_passes"),
        ("FAILED", "test_that_never_passes"),
        ("PASSED", "test_that_passes_at_the_second_try"),
        ("PASSED", "test_whose_server_starts_at_the_second_try"),
        ("RERUN", "test_that_never_passes"),
        ("RERUN", "test_that_passes_at_the_second_try"),
        ("RERUN", "test_whose_server_starts_at_the_second_try"),
    ]
    assert "OSError: its port is taken" in told, "why it failed at first"
    assert "2 failed, 2 passed, 3 rerun" in told
