"""What cloud and cluster share: one lock per data directory, one line from a program that starts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sandbox.background import BackgroundError, InUseError, Lock, Program

pytestmark = pytest.mark.slow

HOLDER = """
import os, pathlib, sys
from sandbox.background import Lock
with Lock(pathlib.Path(sys.argv[1])).held():
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def lock(tmp_path: Path) -> Lock:
    return Lock(tmp_path / ".lock")


def test_a_lock_names_its_holder_and_refuses_a_second_one(lock: Lock) -> None:
    assert lock.holder() is None
    with lock.held():
        assert lock.holder() == os.getpid()
        with pytest.raises(InUseError, match=str(os.getpid())) as refused, Lock(lock.file).held():
            pass
        assert refused.value.pid == os.getpid()
    assert lock.holder() is None
    assert lock.file.read_text(encoding="ascii") == ""


def test_a_killed_holder_holds_nothing(lock: Lock) -> None:
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(lock.file)], stdin=pipe, stdout=pipe) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        assert lock.holder() == holder.pid
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        assert lock.holder() is None
        with lock.held():
            assert lock.holder() == os.getpid()


def test_a_program_that_reports_nothing_is_quoted_with_its_last_line(tmp_path: Path, lock: Lock) -> None:
    program = Program("the thing", lock, tmp_path / "logs" / "thing.log")
    with pytest.raises(BackgroundError, match=r"thing ended while it was starting: python -m sandbox .*thing\.log"):
        program.start(["no-such-command"], seconds=60)


def test_a_program_that_takes_too_long_is_ended(tmp_path: Path, lock: Lock) -> None:
    program = Program("the thing", lock, tmp_path / "thing.log")
    with pytest.raises(BackgroundError, match="the thing did not start within 0 s"):
        program.start(["cloud", "run", "--data", str(tmp_path / "cloud")], seconds=0)
    assert lock.holder() is None


def test_a_program_whose_log_cannot_be_written_is_not_started(tmp_path: Path, lock: Lock) -> None:
    (tmp_path / "logs").write_text("a file", encoding="ascii")
    with pytest.raises(BackgroundError, match="cannot write to"):
        Program("the thing", lock, tmp_path / "logs" / "thing.log").start(["cloud", "status"], seconds=60)


def test_what_does_not_run_is_not_stopped(tmp_path: Path, lock: Lock) -> None:
    assert not Program("the thing", lock, tmp_path / "thing.log").stop()


def test_a_process_that_is_not_the_sandbox_is_never_killed(
    tmp_path: Path, lock: Lock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number in the file may have gone to another process by now."""
    monkeypatch.setattr("sandbox.background._KILL_SECONDS", 0.1)
    other = subprocess.Popen(["sleep", "60"])
    try:
        with lock.held():
            lock.file.write_text(str(other.pid), encoding="ascii")
            with pytest.raises(BackgroundError, match=f"the thing \\(process {other.pid}\\) does not stop"):
                Program("the thing", lock, tmp_path / "thing.log").stop(seconds=0.1)
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()
