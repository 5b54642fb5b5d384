"""Programs of the sandbox in the background: one lock decides who runs, one pipe says when it works.

The kernel gives a lock up with the process that holds it, however that ends, so what a killed program left behind fools
nobody.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sandbox import paths
from tfserving.errors import TFServingError

STOP_SECONDS = 20.0
"""How long a program has to end before it is killed."""

READY = "ok"
"""What a program reports once it works."""
IN_USE = "in use"
"""What it reports when another one holds the lock."""

_LOOK_SECONDS = 1.0
_KILL_SECONDS = 5.0


class BackgroundError(TFServingError):
    """A program cannot be started or stopped. The message says what to do."""


class InUseError(Exception):
    """Another process holds a lock.

    Attributes:
        pid: the holder, as far as it has said; else None.
    """

    def __init__(self, file: Path, pid: int | None) -> None:
        super().__init__(f"{file} is held by process {pid or 'unknown'}")
        self.pid = pid


@dataclass(frozen=True)
class Lock:
    """What one process at a time holds.

    Attributes:
        file: made where it is missing; while the lock is held, it contains the holder's process id.
    """

    file: Path

    @contextmanager
    def held(self) -> Iterator[None]:
        """Holds the lock as long as the context is open.

        Raises:
            InUseError: another process holds it.
            OSError: the file cannot be made.
        """
        descriptor = os.open(self.file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            deadline = time.monotonic() + _LOOK_SECONDS  # somebody who only looks holds it for an instant
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise InUseError(self.file, self.holder()) from None
                    time.sleep(0.05)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
            try:
                yield
            finally:
                os.ftruncate(descriptor, 0)
        finally:
            os.close(descriptor)

    def holder(self) -> int | None:
        """Process id of who holds the lock; 0 if it has not said who it is yet, None where nobody does."""
        try:
            with open(self.file, "rb") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    text = file.read().decode(errors="replace")
                    return int(text) if text.isdigit() else 0
                return None
        except FileNotFoundError:
            return None


@dataclass(frozen=True)
class Program:
    """A command of the sandbox that runs in the background.

    Attributes:
        name: for messages, such as "the cluster".
        lock: held while it runs.
        log: gets its output; its directory is made where it is missing.
    """

    name: str
    lock: Lock
    log: Path

    def start(self, arguments: Sequence[str], seconds: float) -> None:
        """Starts it and waits until it works.

        Args:
            arguments: of ``python -m sandbox``. ``--ready-fd N`` is added; the program tells it :func:`report`.
            seconds: how long it may take.

        Raises:
            InUseError: another process holds the lock.
            BackgroundError: it does not start; the message is what it reported, or else its last words.
        """
        try:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            with open(self.log, "ab") as output:
                offset = output.tell()
                reader, writer = os.pipe()
                try:
                    child = _spawn(arguments, output.fileno(), writer)
                finally:
                    os.close(writer)
        except OSError as error:
            raise BackgroundError(f"cannot write to {self.log.parent}: {error}") from None
        with os.fdopen(reader, "rb") as pipe:
            message = _reported(pipe.fileno(), seconds)
        if message == READY:
            child.returncode = 0  # it outlives this process on purpose: no ResourceWarning
            return
        if message is None:
            child.terminate()
            message = f"{self.name} did not start within {seconds:.0f} s"
        child.wait()
        if message == IN_USE:
            raise InUseError(self.lock.file, self.lock.holder())
        raise BackgroundError(message or self._last_words(offset))

    def stop(self, seconds: float = STOP_SECONDS) -> bool:
        """Stops the program that holds the lock, and kills it if it has not ended after ``seconds``.

        Returns:
            whether one was running.

        Raises:
            BackgroundError: it belongs to somebody else, or cannot be killed.
        """
        pid = self.lock.holder()
        if pid is None:
            return False
        for number, patience in ((signal.SIGTERM, seconds), (signal.SIGKILL, _KILL_SECONDS)):
            pid = self.lock.holder()
            if pid and _is_sandbox(pid):
                try:
                    os.kill(pid, number)
                except ProcessLookupError:
                    pass
                except PermissionError:
                    raise BackgroundError(f"process {pid} belongs to another user and cannot be stopped") from None
            deadline = time.monotonic() + patience
            while time.monotonic() < deadline:
                if self.lock.holder() is None:
                    return True
                time.sleep(0.05)
        raise BackgroundError(f"{self.name} (process {pid}) does not stop")

    def _last_words(self, offset: int) -> str:
        """Why a program that reported nothing ended: the last line it wrote to its log."""
        try:
            with open(self.log, "rb") as file:
                file.seek(offset)
                lines = file.read()[-4096:].decode(errors="replace").strip().splitlines()
        except OSError:
            lines = []
        reason = f": {lines[-1]}" if lines else ""
        return f"{self.name} ended while it was starting{reason} (log: {self.log})"


def report(descriptor: int, message: str) -> None:
    """Tells :meth:`Program.start` how it went.

    Args:
        descriptor: the pipe; it is closed.
        message: :data:`READY`, :data:`IN_USE`, or why the program does not start.
    """
    with contextlib.suppress(OSError):  # whoever started this need not wait for it
        os.write(descriptor, message.encode())
        os.close(descriptor)


def _spawn(arguments: Sequence[str], output: int, ready: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "sandbox", *arguments, "--ready-fd", str(ready)],
        cwd=paths.ROOT,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        pass_fds=[ready],
        start_new_session=True,
    )


def _reported(descriptor: int, seconds: float) -> str | None:
    """What the child reports before it closes the pipe; empty if it ended, None if it takes longer."""
    deadline = time.monotonic() + seconds
    received = b""
    while (left := deadline - time.monotonic()) > 0 and select.select([descriptor], [], [], left)[0]:
        chunk = os.read(descriptor, 4096)
        if not chunk:
            return received.decode(errors="replace")
        received += chunk
    return None


def _is_sandbox(pid: int) -> bool:
    """Guards against a process number that was given to somebody else; true where ``/proc`` cannot tell."""
    try:
        return b"sandbox" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return True
