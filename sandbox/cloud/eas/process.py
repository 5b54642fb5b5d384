"""One model server process: started so that it cannot outlive the cloud, its output kept in bounded files."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

log = logging.getLogger("sandbox.cloud.eas")

LOG_BYTES = 4 << 20
"""Size at which a log is put aside; one earlier part is kept."""
_LINE_BYTES = 16 << 10
_NO_HTTP = b"Failed to start HTTP Server at "
"""What a model server says whose REST port is taken (TensorFlow Serving's ``server.cc``)."""


class InstanceLog:
    """The output of one instance over its restarts, each line after ``[YYYY-MM-DD HH:MM:SS]`` in UTC.

    Attributes:
        last_line: that holds something.
        lacks_port: a line said that the server goes on without its REST port.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.last_line = ""
        self.lacks_port = asyncio.Event()
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._file = path.open("ab")
        self._pending = b""

    def write(self, data: bytes) -> None:
        """Adds output, which may end in the middle of a line."""
        *lines, self._pending = (self._pending + data).split(b"\n")
        if len(self._pending) > _LINE_BYTES:
            lines.append(self._pending)
            self._pending = b""
        stamp = time.strftime("[%Y-%m-%d %H:%M:%S] ", time.gmtime()).encode()
        try:
            for line in lines:
                text = line.rstrip(b"\r")[:_LINE_BYTES]
                if text.strip():
                    self.last_line = text.decode("utf-8", "replace").strip()
                    if _NO_HTTP in text:
                        self.lacks_port.set()
                self._file.write(stamp + text + b"\n")
            self._file.flush()
            if self._file.tell() > LOG_BYTES:
                self._file.close()
                self.path.replace(self.path.with_suffix(".log.1"))
                self._file = self.path.open("ab")
        except OSError as error:  # a full disk must not stop the server
            log.error("cannot write %s: %s", self.path.name, error)

    def close(self) -> None:
        """Writes what is pending and closes the file."""
        if self._pending:
            self.write(b"\n")
        self._file.close()


def read_logs(directory: Path, instance: str = "") -> Iterator[tuple[str, str]]:
    """The lines in the logs of a service, instance by instance.

    Args:
        instance: only this instance's.

    Yields:
        (instance, line), oldest first for each instance.
    """
    for path in sorted(directory.glob("*.log")):
        if instance and path.stem != instance:
            continue
        for part in (path.with_suffix(".log.1"), path):
            with contextlib.suppress(FileNotFoundError):
                for line in part.read_text(encoding="utf-8", errors="replace").splitlines():
                    yield path.stem, line


class ServerProcess:
    """A running model server."""

    def __init__(self, process: asyncio.subprocess.Process, pid_file: Path, output: asyncio.Task[None]) -> None:
        self._process = process
        self._pid_file = pid_file
        self._output = output

    @classmethod
    async def start(
        cls, argv: Sequence[str], env: Mapping[str, str], directory: Path, output: InstanceLog, pid_file: Path
    ) -> ServerProcess:
        """Starts a program in a session of its own.

        Args:
            argv: the guard (:mod:`sandbox.guard`), program and arguments.
            env: its whole environment.
            directory: its working directory.
            output: gets stdout and stderr.
            pid_file: says who is running, for :func:`reap`.

        Raises:
            OSError: no process can be started, or the disk is full.
        """
        # In the event loop's own thread: the kernel ends the child with the thread that made it.
        process = await asyncio.create_subprocess_exec(
            *argv,
            env=dict(env),
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        server = cls(process, pid_file, asyncio.create_task(_copy(process, output)))
        try:
            _note(pid_file, process.pid)
        except OSError:
            await server.kill()
            raise
        return server

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    async def wait(self) -> int:
        """Waits until it has ended and its output is written; returns the exit status, negative for a signal."""
        status = await self._process.wait()
        with contextlib.suppress(TimeoutError):  # a grandchild may hold the pipe
            await asyncio.wait_for(asyncio.shield(self._output), 2)
        self._output.cancel()
        self._pid_file.unlink(missing_ok=True)
        return status

    async def stop(self, grace: float) -> None:
        """Asks it to end and ends it by force after ``grace`` seconds."""
        self._signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(asyncio.shield(self.wait()), grace)
        except TimeoutError:
            await self.kill()

    async def kill(self) -> None:
        """Ends it by force."""
        self._signal(signal.SIGKILL)
        await self.wait()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if self._process.returncode is None:
                os.killpg(self._process.pid, number)


def reap(directory: Path) -> int:
    """Ends what an earlier cloud left running, by its pid files.

    Returns:
        How many processes were ended.
    """
    count = 0
    for file in directory.glob("*.pid"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            entry = json.loads(file.read_text())
            pid = int(entry["pid"])
            started = _start_time(pid)
            if started and started == entry["started"]:  # else the number belongs to another process now
                os.killpg(pid, signal.SIGKILL)
                count += 1
        file.unlink(missing_ok=True)
    return count


def _note(pid_file: Path, pid: int) -> None:
    pid_file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    staged = pid_file.with_suffix(".new")
    staged.write_text(json.dumps({"pid": pid, "started": _start_time(pid)}))
    staged.replace(pid_file)


async def _copy(process: asyncio.subprocess.Process, output: InstanceLog) -> None:
    assert process.stdout is not None  # noqa: S101
    while data := await process.stdout.read(1 << 16):
        output.write(data)


def _start_time(pid: int) -> str:
    """When a process was started, as text that tells two processes with one number apart; empty if there is none."""
    if sys.platform == "linux":
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            return ""
        fields = stat.rpartition(")")[2].split()  # the name before may hold blanks
        return "" if fields[0] == "Z" else fields[19]
    listing = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return listing.stdout.strip()
