"""Running things under measurement: wall time, memory of whole process trees, bytes on a connection; and results."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import platform
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
"""The project directory."""

_SAMPLE_SECONDS = 0.05
_CATCH_UP_SECONDS = 0.02


@dataclass
class Result:
    """What one benchmark found.

    Attributes:
        name: of the benchmark.
        title: one line: what is compared.
        columns: headings of the table.
        rows: one row per case, as shown.
        data: every single measurement, for the JSON file.
        notes: sentences below the table.
    """

    name: str
    title: str
    columns: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)
    data: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def row(self, *cells: str) -> None:
        """Add a row, and show it at once: a whole benchmark takes many minutes."""
        self.rows.append(cells)
        print(f"   {self.name}: {', '.join(filter(None, cells))}", file=sys.stderr, flush=True)

    def table(self) -> str:
        """The table as text."""
        widths = [max(len(row[column]) for row in (self.columns, *self.rows)) for column in range(len(self.columns))]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in (self.columns, ["-" * width for width in widths], *self.rows)
        ]
        return "\n".join([f"== {self.title}", *lines, *(f"   {note}" for note in self.notes)])

    def write(self, directory: Path) -> Path:
        """The JSON file, with the machine it was measured on."""
        directory.mkdir(parents=True, exist_ok=True)
        file = directory / f"{self.name}.json"
        content = {"benchmark": self.name, "title": self.title, "machine": machine(), "notes": self.notes, **self.data}
        file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        return file


def machine() -> dict[str, Any]:
    """Where and with what it is measured, the load at this moment included: other work makes every time longer."""
    pulumi = shutil.which("pulumi")
    version = subprocess.run([pulumi, "version"], capture_output=True, text=True, check=False).stdout if pulumi else ""
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "cpus": os.cpu_count(),
        "load": [round(value, 2) for value in os.getloadavg()],
        "system": platform.platform(),
        "python": platform.python_version(),
        "pulumi_cli": version.strip() or None,
        "packages": {name: metadata.version(name) for name in ("pulumi", "alibabacloud-oss-v2", "grpcio")},
    }


def median(values: Sequence[float]) -> float:
    """The median; benchmarks measure at least three times."""
    return statistics.median(values)


def spread(values: Sequence[float]) -> str:
    """``1.85 s (1.80 to 2.10)``: the median and the extremes."""
    return f"{median(values):.2f} s ({min(values):.2f} to {max(values):.2f})"


# ---- processes -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """One finished command.

    Attributes:
        seconds: wall time.
        cpu: processor time of its whole process tree, in seconds: other work on the machine hardly changes it.
        text: what it printed.
        read: bytes its whole process tree read with system calls, from files and sockets alike.
        peak: by kind of process (``program``, ``provider``, ``engine``): most resident bytes at any moment.
    """

    seconds: float
    cpu: float
    text: str
    read: int
    peak: Mapping[str, int]


def run(command: Sequence[str], cwd: Path, env: Mapping[str, str] | None = None, *, sample: bool = False) -> Run:
    """Run a command to its end.

    Args:
        command: program and arguments.
        cwd: working directory.
        env: added to this process's environment.
        sample: look at the memory of the process tree while it runs; costs a little time.

    Raises:
        RuntimeError: it failed; with what it printed.
    """
    before, cpu = _read_bytes(), _cpu_seconds()
    started = time.monotonic()
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env={**os.environ, **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    peak: dict[str, int] = {}
    done = threading.Event()
    sampler = threading.Thread(target=_sample, args=(process.pid, done, peak), daemon=True)
    if sample:
        sampler.start()
    text, _ = process.communicate()
    seconds = time.monotonic() - started
    done.set()
    if sample:
        sampler.join()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} failed with exit status {process.returncode}:\n{text}")
    return Run(seconds, _cpu_seconds() - cpu, text, _read_bytes() - before, peak)


def _cpu_seconds() -> float:
    """Processor time of all children that have ended, and of theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _read_bytes() -> int:
    """Bytes read by this process and by all children that have ended (``proc_pid_io``)."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/io").read_text(encoding="ascii").splitlines():
            if line.startswith("rchar:"):
                return int(line.split()[1])
    return 0


def _sample(root: int, done: threading.Event, peak: dict[str, int]) -> None:
    while not done.wait(_SAMPLE_SECONDS):
        for kind, size in _memory(root).items():
            peak[kind] = max(peak.get(kind, 0), size)


def _memory(root: int) -> dict[str, int]:
    """Resident bytes of a process and its descendants, by kind."""
    parents: dict[int, int] = {}
    lines: dict[int, str] = {}
    for directory in Path("/proc").iterdir():
        if directory.name.isdigit():
            with contextlib.suppress(OSError, IndexError, ValueError):
                stat = (directory / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
                parents[int(directory.name)] = int(stat[1])
                lines[int(directory.name)] = (directory / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    found: dict[str, int] = {}
    for process in parents:
        above = process
        while above in parents and above != root:
            above = parents[above]
        if above == root:
            line = lines.get(process, "")
            is_program = "pulumi-language-python-exec" in line or "engine/language.py" in line
            kind = "provider" if "/plugin " in line else "program" if is_program else "engine"
            with contextlib.suppress(OSError, ValueError):
                pages = int(Path(f"/proc/{process}/statm").read_text(encoding="ascii").split()[1])
                found[kind] = found.get(kind, 0) + pages * os.sysconf("SC_PAGE_SIZE")
    return found


def stop(process: subprocess.Popen[Any]) -> None:
    """End a process and what it started."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def python(*arguments: str) -> list[str]:
    """A command line of this interpreter."""
    return [sys.executable, *arguments]


# ---- files ---------------------------------------------------------------------------------------------------------


class AccessWatch:
    """Notices which files are read, by their time of access."""

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = files

    def arm(self) -> None:
        """Set the times of access so far back that any reading changes them, with ``relatime`` too."""
        for file in self.files:
            found = file.stat()
            os.utime(file, ns=(found.st_mtime_ns - 86_400_000_000_000, found.st_mtime_ns))

    def read(self) -> list[Path]:
        """The files that were read since."""
        found = [(file, file.stat()) for file in self.files]
        return [file for file, stat in found if stat.st_atime_ns > stat.st_mtime_ns - 86_400_000_000_000]

    @staticmethod
    def works(directory: Path) -> bool:
        """Whether the file system below a directory keeps times of access at all."""
        file = directory / ".access"
        file.write_bytes(b"x")
        watch = AccessWatch([file])
        watch.arm()
        file.read_bytes()
        works = watch.read() == [file]
        file.unlink()
        return works


# ---- a line between client and server ------------------------------------------------------------------------------


class Line:
    """A relay on loopback that counts bytes and, if told so, behaves like a slower line.

    Attributes:
        port: where to connect to.
        sent: bytes from clients to the server so far.
    """

    def __init__(self, server_port: int, *, delay: float = 0.0, rate: float = 0.0) -> None:
        """Starts it.

        Args:
            server_port: the server's port on loopback.
            delay: seconds that bytes take one way.
            rate: bytes a second that one connection carries to the server; 0 is as fast as it goes.
        """
        self.sent = 0
        self._server_port = server_port
        self._delay = delay
        self._rate = rate
        self._loop = asyncio.new_event_loop()
        self.port = 0
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started,), daemon=True)
        self._thread.start()
        started.wait(10)

    def __enter__(self) -> Line:
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _run(self, started: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._connected, "127.0.0.1", 0, limit=1 << 20))
        self.port = server.sockets[0].getsockname()[1]
        started.set()
        self._loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0.1))
        self._loop.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            upstream, downstream = await asyncio.open_connection("127.0.0.1", self._server_port, limit=1 << 20)
        except OSError:
            writer.close()
            return
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(self._carry(reader, downstream, True), self._carry(upstream, writer, False))
        for each in (writer, downstream):
            each.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, counted: bool) -> None:
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(64)
        delivery = asyncio.ensure_future(self._deliver(queue, writer))
        try:
            free = self._loop.time()
            while data := await reader.read(1 << 16):
                if counted:
                    self.sent += len(data)
                    if self._rate:
                        # Timers wake up late: what was lost of the last moment may be caught up.
                        free = max(free, self._loop.time() - _CATCH_UP_SECONDS) + len(data) / self._rate
                        await asyncio.sleep(free - self._loop.time())
                await queue.put((self._loop.time() + self._delay, data))
        except OSError:
            pass
        await queue.put((0.0, b""))
        await delivery

    async def _deliver(self, queue: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while (item := await queue.get())[1]:
                if (wait := item[0] - self._loop.time()) > 0:
                    await asyncio.sleep(wait)
                writer.write(item[1])
                await writer.drain()
        with contextlib.suppress(OSError, RuntimeError):
            writer.write_eof()


@contextlib.contextmanager
def environment(**values: str) -> Iterator[None]:
    """Environment variables for a while."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
