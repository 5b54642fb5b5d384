"""The sandbox cloud as a process: run it, start it in the background, stop it, ask after it.

A lock on the data directory decides whether a cloud is running: the kernel gives it up with the process, however that
ends, so a pid file left behind by ``kill -9`` fools nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import http.client
import json
import logging
import logging.handlers
import os
import select
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandbox import keys, paths
from sandbox.cloud import health as identity
from sandbox.cloud.app import create_app, make_runner
from sandbox.cloud.errors import is_out_of_space
from sandbox.cloud.listener import Listener, tls_context
from tfserving.errors import TFServingError

log = logging.getLogger("sandbox.cloud")

START_SECONDS = 60.0
STOP_SECONDS = 20.0
_LOG_BYTES = 10 << 20


class CloudProcessError(TFServingError):
    """The sandbox cloud cannot be started or stopped. The message says what to do."""


class _InUse(Exception):
    """Another cloud holds the lock of the data directory."""


_IN_USE = "in use"
"""What a child reports instead of a message when it loses the race for the lock."""


@dataclass(frozen=True)
class CloudFiles:
    """Where one cloud keeps its things; its log and its pid file lie beside the data directory.

    Attributes:
        data: one running cloud per directory.
    """

    data: Path

    @property
    def log(self) -> Path:
        return self.data.with_name(self.data.name + ".log")

    @property
    def json(self) -> Path:
        return self.data.with_name(self.data.name + ".json")

    @property
    def lock(self) -> Path:
        return self.data / ".lock"


@dataclass(frozen=True)
class Health:
    """What a listening sandbox cloud says about itself."""

    root: str
    data: str
    pid: int


def health(port: int, seconds: float = 2.0) -> Health | None:
    """Asks whatever listens on a loopback port whether it is a sandbox cloud with our key; None if not."""
    connection = http.client.HTTPConnection(paths.LOOPBACK, port, timeout=seconds)
    try:
        connection.request("GET", identity.PATH, headers=identity.proof(keys.of_client(paths.ROOT), keys.NO_KEY))
        answer = json.loads(connection.getresponse().read(4096))
        if answer["sandbox"] is True:
            return Health(str(answer["root"]), str(answer["data"]), int(answer["pid"]))
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
        pass
    finally:
        connection.close()
    return None


# ------------------------------------------------------------------------- running


def run(files: CloudFiles, port: int, ready_fd: int | None = None) -> None:
    """Runs a cloud until SIGTERM or SIGINT.

    Args:
        ready_fd: pipe to write one line to: ``ok`` once listening, or what went wrong. None for a person's terminal.

    Raises:
        CloudProcessError: the directory is in use, the port is taken, or the disk is full.
    """
    try:
        files.data.mkdir(parents=True, exist_ok=True)
        with _locked(files):
            files.json.unlink(missing_ok=True)  # left by one that was killed
            _log_to(files.log, also_stderr=ready_fd is None)
            with _listening_socket(port) as listener:
                asyncio.run(_serve(files, port, listener, ready_fd))
    except Exception as error:
        if isinstance(error, _InUse):
            problem = CloudProcessError(_in_use(files, _holder(files)))
        elif is_out_of_space(error):
            problem = CloudProcessError(
                f"no space to write to {files.data} ({error}). Free some disk space, then run this again."
            )
        elif isinstance(error, TFServingError):
            problem = CloudProcessError(str(error))
        elif isinstance(error, sqlite3.Error):
            problem = CloudProcessError(
                f"the index in {files.data} is damaged ({error}). Delete that directory to begin with an empty cloud."
            )
        elif isinstance(error, OSError):
            problem = CloudProcessError(f"cannot use {files.data}: {error}")
        else:
            log.exception("the cloud failed")
            raise
        if ready_fd is not None:
            log.error("%s", problem)
            _report(ready_fd, _IN_USE if isinstance(error, _InUse) else str(problem))
        raise problem from None


async def _serve(files: CloudFiles, port: int, listener: socket.socket, ready_fd: int | None) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    app = create_app(files.data, port, access_key=_access_key(files))
    runner = make_runner(app)
    site: Listener | None = None
    try:
        await runner.setup()
        site = Listener(runner, listener, tls_context(files.data))
        site.start()
        _write_json(files.json, {"pid": os.getpid(), "port": port})
        log.info("listening on %s:%d, data in %s", paths.LOOPBACK, port, files.data)
        if ready_fd is None:
            print(
                f"sandbox cloud on http://{paths.LOOPBACK}:{port}, data in {files.data}. Ctrl-C stops it.", flush=True
            )
        else:
            _report(ready_fd, "ok")
        await stop.wait()
        log.info("stopping")
    finally:
        files.json.unlink(missing_ok=True)
        if site is not None:
            await site.stop()
        await runner.cleanup()
    log.info("stopped")


def _access_key(files: CloudFiles) -> keys.AccessKey | None:
    """The checkout's key for its own cloud; else the one given, or none: it is a test's."""
    if files.data.resolve() == paths.CLOUD_DATA.resolve():
        return keys.of_cloud(paths.ROOT)
    return keys.given()


def _report(descriptor: int, line: str) -> None:
    with contextlib.suppress(OSError):  # whoever started this need not wait for it
        os.write(descriptor, line.encode())
        os.close(descriptor)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    temporary = path.with_name(path.name + f".{os.getpid()}")
    try:
        temporary.write_text(json.dumps(content) + "\n", encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _log_to(path: Path, *, also_stderr: bool) -> None:
    handlers: list[logging.Handler] = [
        logging.handlers.RotatingFileHandler(path, maxBytes=_LOG_BYTES, backupCount=1, encoding="utf-8")
    ]
    if also_stderr:
        handlers.append(logging.StreamHandler())
    logging.basicConfig(
        level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s", handlers=handlers, force=True
    )
    logging.getLogger("sandbox").setLevel(logging.INFO)
    # Failures of handlers are logged by the application; what is left is malformed requests, quoted with all they hold.
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
    logging.raiseExceptions = False  # a full disk must not stop the cloud from answering


@contextmanager
def _locked(files: CloudFiles) -> Iterator[None]:
    """Holds the lock of a data directory; the file names the holder."""
    descriptor = os.open(files.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + 1.0  # somebody who only looks holds it for an instant
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise _InUse from None
                time.sleep(0.05)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        try:
            yield
        finally:
            os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def _holder(files: CloudFiles) -> int | None:
    """Pid of the cloud that uses a data directory; 0 if there is one that has not said who it is yet."""
    try:
        with open(files.lock, "rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                text = file.read().decode(errors="replace")
                return int(text) if text.isdigit() else 0
            return None
    except FileNotFoundError:
        return None


def _in_use(files: CloudFiles, pid: int | None) -> str:
    port = recorded_port(files)
    where = f" on port {port}" if port else ""
    return (
        f"a sandbox cloud{where} (process {pid or 'unknown'}) already uses {files.data}."
        " Stop it first: python -m sandbox cloud stop"
    )


def recorded_port(files: CloudFiles) -> int | None:
    """The port in the pid file, None if there is no readable one."""
    try:
        return int(json.loads(files.json.read_text(encoding="utf-8"))["port"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


@contextmanager
def _listening_socket(port: int) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((paths.LOOPBACK, port))
            listener.listen(128)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise CloudProcessError(_port_taken(port)) from None
            if error.errno == errno.EACCES:
                raise CloudProcessError(f"not allowed to listen on port {port}. {_other_port()}") from None
            raise
        yield listener


def _port_taken(port: int) -> str:
    other = health(port)
    if other is not None:
        who = f"the sandbox cloud of {other.root} (process {other.pid}, data in {other.data})"
    else:
        who = _listener_name(port) or "another process"
    return f"port {port} of {paths.LOOPBACK} is taken by {who}. {_other_port()}"


def _other_port() -> str:
    return (
        f"Choose another one: {paths.ENDPOINT_SETTING} in {paths.LOCAL_STACK_FILE}, for example {paths.LOOPBACK}:7581."
    )


def _listener_name(port: int) -> str:
    """Who listens on a TCP port, as far as ``/proc`` shows it to us; empty if it does not."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(table).read_text(encoding="ascii").splitlines()[1:]:
                columns = line.split()
                if columns[3] == "0A" and int(columns[1].rpartition(":")[2], 16) == port:
                    inodes.add(f"socket:[{columns[9]}]")
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if any(os.readlink(link) in inodes for link in (process / "fd").iterdir()):
                name = (process / "comm").read_text(encoding="utf-8", errors="replace").strip()
                return f"process {process.name} ({name})"
    return ""


# ----------------------------------------------------------- starting and stopping


def start(files: CloudFiles, port: int) -> tuple[Health, bool]:
    """Sees to it that a cloud runs in the background.

    Returns:
        what is running, and whether it was started by this call.

    Raises:
        CloudProcessError: it cannot be started.
    """
    files = CloudFiles(files.data.resolve())
    while True:
        running = health(port)
        if running is not None and running.data == str(files.data):
            return running, False
        if _holder(files) is not None:
            running = _await_other(files, port)
            if running is not None:
                return running, False
        try:
            return _start(files, port), True
        except _InUse:  # somebody else started one at the same time
            continue


def _start(files: CloudFiles, port: int) -> Health:
    try:
        files.log.parent.mkdir(parents=True, exist_ok=True)
        with open(files.log, "ab") as output:
            offset = output.tell()
            reader, writer = os.pipe()
            try:
                child = _spawn(files, port, output.fileno(), writer)
            finally:
                os.close(writer)
    except OSError as error:
        raise CloudProcessError(f"cannot write to {files.log.parent}: {error}") from None
    with os.fdopen(reader, "rb") as pipe:
        message = _first_line(pipe.fileno(), START_SECONDS)
    if message == _IN_USE:
        child.wait()
        raise _InUse
    if message != "ok":
        if child.poll() is None and not message:
            child.terminate()
            message = f"the sandbox cloud did not start within {START_SECONDS:.0f} s"
        child.wait()
        raise CloudProcessError(message or _last_words(files.log, offset))
    child.returncode = 0  # it outlives this process on purpose: no ResourceWarning
    running = health(port, seconds=10.0)
    if running is None:
        raise CloudProcessError(f"the sandbox cloud does not answer on port {port}; see {files.log}")
    return running


def _spawn(files: CloudFiles, port: int, output: int, ready: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "sandbox", "cloud", "run", "--port", str(port), "--data", str(files.data)]
    return subprocess.Popen(
        [*command, "--ready-fd", str(ready)],
        cwd=paths.ROOT,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        pass_fds=[ready],
        start_new_session=True,
    )


def _await_other(files: CloudFiles, port: int) -> Health | None:
    """Another process holds the data directory: waits until it answers on our port, or gives it up."""
    deadline = time.monotonic() + STOP_SECONDS
    while True:
        running = health(port)
        if running is not None and running.data == str(files.data):
            return running
        pid = _holder(files)
        if pid is None:
            return None
        port_of_other = recorded_port(files)
        if time.monotonic() > deadline or (port_of_other is not None and port_of_other != port):
            raise CloudProcessError(_in_use(files, pid))
        time.sleep(0.2)


def _first_line(descriptor: int, seconds: float) -> str:
    """What the child reports; empty if it died or took too long."""
    deadline = time.monotonic() + seconds
    received = b""
    while (left := deadline - time.monotonic()) > 0 and select.select([descriptor], [], [], left)[0]:
        chunk = os.read(descriptor, 4096)
        if not chunk:
            break
        received += chunk
    return received.decode(errors="replace")


def _last_words(path: Path, offset: int) -> str:
    """Why a child that said nothing ended: the last line it wrote to its log."""
    try:
        with open(path, "rb") as file:
            file.seek(offset)
            lines = file.read()[-4096:].decode(errors="replace").strip().splitlines()
    except OSError:
        lines = []
    reason = f": {lines[-1]}" if lines else ""
    return f"the sandbox cloud ended while it was starting{reason} (log: {path})"


def stop(files: CloudFiles) -> bool:
    """Stops the cloud of a data directory and everything it started.

    Returns:
        whether one was running.

    Raises:
        CloudProcessError: it belongs to somebody else, or cannot be killed.
    """
    files = CloudFiles(files.data.resolve())
    pid = _holder(files)
    if pid is None:
        files.json.unlink(missing_ok=True)
        return False
    for number, seconds in ((signal.SIGTERM, STOP_SECONDS), (signal.SIGKILL, 5.0)):
        pid = _holder(files)
        if pid and _is_sandbox(pid):
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass
            except PermissionError:
                raise CloudProcessError(f"process {pid} belongs to another user and cannot be stopped") from None
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if _holder(files) is None:
                files.json.unlink(missing_ok=True)
                return True
            time.sleep(0.05)
    raise CloudProcessError(f"the sandbox cloud (process {pid}) does not stop")


def _is_sandbox(pid: int) -> bool:
    """Guards against a process number that was given to somebody else; true where ``/proc`` cannot tell."""
    try:
        return b"sandbox" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return True


def running(files: CloudFiles) -> tuple[Health, int] | None:
    """The cloud of a data directory and its port, None if none is listening."""
    port = recorded_port(files)
    found = None if port is None else health(port)
    if port is None or found is None or found.data != str(files.data.resolve()):
        return None
    return found, port
