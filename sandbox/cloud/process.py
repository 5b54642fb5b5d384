"""The sandbox cloud as a process: run it, start it in the background, stop it, ask after it.

A lock on the data directory decides whether one is running (:mod:`sandbox.background`).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import http.client
import json
import logging
import logging.handlers
import os
import signal
import socket
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandbox import keys, paths
from sandbox.background import IN_USE, READY, STOP_SECONDS, BackgroundError, InUseError, Lock, Program, report
from sandbox.cloud import health as identity
from sandbox.cloud.app import create_app, make_runner
from sandbox.cloud.errors import is_out_of_space
from sandbox.cloud.listener import Listener, tls_context
from tfserving.errors import TFServingError

log = logging.getLogger("sandbox.cloud")

START_SECONDS = 60.0
_LOG_BYTES = 10 << 20


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
    def lock(self) -> Lock:
        return Lock(self.data / ".lock")

    @property
    def program(self) -> Program:
        """The cloud in the background."""
        return Program("the sandbox cloud", self.lock, self.log)


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
        BackgroundError: the directory is in use, the port is taken, or the disk is full.
    """
    try:
        files.data.mkdir(parents=True, exist_ok=True)
        with files.lock.held():
            files.json.unlink(missing_ok=True)  # left by one that was killed
            _log_to(files.log, also_stderr=ready_fd is None)
            with _listening_socket(port) as listener:
                asyncio.run(_serve(files, port, listener, ready_fd))
    except Exception as error:
        if isinstance(error, InUseError):
            problem = BackgroundError(_in_use(files, error.pid))
        elif is_out_of_space(error):
            problem = BackgroundError(
                f"no space to write to {files.data} ({error}). Free some disk space, then run this again."
            )
        elif isinstance(error, TFServingError):
            problem = BackgroundError(str(error))
        elif isinstance(error, sqlite3.Error):
            problem = BackgroundError(
                f"the index in {files.data} is damaged ({error}). Delete that directory to begin with an empty cloud."
            )
        elif isinstance(error, OSError):
            problem = BackgroundError(f"cannot use {files.data}: {error}")
        else:
            log.exception("the cloud failed")
            raise
        if ready_fd is not None:
            log.error("%s", problem)
            report(ready_fd, IN_USE if isinstance(error, InUseError) else str(problem))
        raise problem from None


async def _serve(files: CloudFiles, port: int, listener: socket.socket, ready_fd: int | None) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    app = create_app(files.data, port, access_key=_access_key(files), cluster=paths.CLUSTER_DATA)
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
            report(ready_fd, READY)
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
                raise BackgroundError(_port_taken(port)) from None
            if error.errno == errno.EACCES:
                raise BackgroundError(f"not allowed to listen on port {port}. {_other_port()}") from None
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
    """Makes sure that a cloud runs in the background.

    Returns:
        what is running, and whether it was started by this call.

    Raises:
        BackgroundError: it cannot be started.
    """
    files = CloudFiles(files.data.resolve())
    while True:
        running = health(port)
        if running is not None and running.data == str(files.data):
            return running, False
        if files.lock.holder() is not None:
            running = _await_other(files, port)
            if running is not None:
                return running, False
        try:
            return _start(files, port), True
        except InUseError:  # somebody else started one at the same time
            continue


def _start(files: CloudFiles, port: int) -> Health:
    files.program.start(["cloud", "run", "--port", str(port), "--data", str(files.data)], START_SECONDS)
    running = health(port, seconds=10.0)
    if running is None:
        raise BackgroundError(f"the sandbox cloud does not answer on port {port}; see {files.log}")
    return running


def _await_other(files: CloudFiles, port: int) -> Health | None:
    """Another process holds the data directory: waits until it answers on our port, or gives it up."""
    deadline = time.monotonic() + STOP_SECONDS
    while True:
        running = health(port)
        if running is not None and running.data == str(files.data):
            return running
        pid = files.lock.holder()
        if pid is None:
            return None
        port_of_other = recorded_port(files)
        if time.monotonic() > deadline or (port_of_other is not None and port_of_other != port):
            raise BackgroundError(_in_use(files, pid))
        time.sleep(0.2)


def stop(files: CloudFiles, seconds: float = STOP_SECONDS) -> bool:
    """Stops the cloud of a data directory and everything it started; kills it if it has not ended after ``seconds``.

    Returns:
        whether one was running.

    Raises:
        BackgroundError: it belongs to somebody else, or cannot be killed.
    """
    files = CloudFiles(files.data.resolve())
    stopped = files.program.stop(seconds)
    files.json.unlink(missing_ok=True)
    return stopped


def running(files: CloudFiles) -> tuple[Health, int] | None:
    """The cloud of a data directory and its port, None if none is listening."""
    port = recorded_port(files)
    found = None if port is None else health(port)
    if port is None or found is None or found.data != str(files.data.resolve()):
        return None
    return found, port
