"""A cluster as a process: run it, start it in the background, stop it.

A lock on the data directory decides whether one is running; the kernel gives it up with the process, however that ends.
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
from collections.abc import Iterator
from contextlib import contextmanager

from sandbox import paths
from sandbox.kube.agent import Agent
from sandbox.kube.cluster import START_SECONDS, STOP_SECONDS, Cluster, ClusterError, ClusterFiles, wait_for_signal
from tfserving.errors import TFServingError

_READY = "ok"


def run(files: ClusterFiles, ready_fd: int | None = None) -> None:
    """Runs a cluster until SIGTERM or SIGINT.

    Args:
        files: where it keeps its things.
        ready_fd: pipe to write one line to: ``ok`` once it works, or what went wrong.

    Raises:
        ClusterError: it does not start, or a program of it ended.
    """
    try:
        with _locked(files):
            cluster = Cluster(files)
            agent: Agent | None = None
            try:
                cluster.start()
                agent = Agent(cluster.kubeconfig, files.pod_network, files.data)
                agent.start()
                if ready_fd is None:
                    print(f"cluster at {cluster.url}, kubeconfig {cluster.kubeconfig}. Ctrl-C stops it.", flush=True)
                else:
                    _report(ready_fd, _READY)
                wait_for_signal(cluster)
            finally:
                if agent is not None:
                    agent.stop()
                cluster.stop()
    except (TFServingError, OSError) as error:
        if ready_fd is not None:
            _report(ready_fd, str(error))
        raise ClusterError(str(error)) from None


def start(files: ClusterFiles) -> bool:
    """Sees to it that a cluster runs in the background.

    Returns:
        whether it was started by this call.

    Raises:
        ClusterError: it does not start.
    """
    if holder(files) is not None:
        return False
    files.logs.mkdir(parents=True, exist_ok=True)
    reader, writer = os.pipe()
    try:
        with open(files.logs / "cluster.log", "ab") as output:
            command = [sys.executable, "-m", "sandbox", "kube", "run", "--data", str(files.data)]
            child = subprocess.Popen(
                [*command, "--ready-fd", str(writer)],
                cwd=paths.ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=[writer],
                start_new_session=True,
            )
    finally:
        os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        message = _all(pipe.fileno(), 2 * START_SECONDS)
    if message != _READY:
        child.terminate()
        child.wait()
        raise ClusterError(message or f"the cluster ended while it was starting (log: {files.logs / 'cluster.log'})")
    child.returncode = 0  # it outlives this process on purpose: no ResourceWarning
    return True


def stop(files: ClusterFiles) -> bool:
    """Stops the cluster of a data directory.

    Returns:
        whether one was running.

    Raises:
        ClusterError: it does not end.
    """
    pid = holder(files)
    if not pid:
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + 5 * STOP_SECONDS
    while holder(files) is not None:
        if time.monotonic() > deadline:
            raise ClusterError(f"the cluster (process {pid}) does not end")
        time.sleep(0.1)
    return True


def holder(files: ClusterFiles) -> int | None:
    """Process id of the cluster that uses a data directory; 0 if it has not said who it is yet."""
    try:
        with open(files.data / ".lock", "rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                text = file.read().decode(errors="replace")
                return int(text) if text.isdigit() else 0
            return None
    except FileNotFoundError:
        return None


@contextmanager
def _locked(files: ClusterFiles) -> Iterator[None]:
    files.data.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(files.data / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ClusterError(f"a cluster uses {files.data} already") from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _report(descriptor: int, message: str) -> None:
    with contextlib.suppress(OSError):  # whoever started this need not wait for it
        os.write(descriptor, message.encode())
        os.close(descriptor)


def _all(descriptor: int, seconds: float) -> str:
    """What the child reports before it closes the pipe; empty if it died or took too long."""
    deadline = time.monotonic() + seconds
    received = b""
    while (left := deadline - time.monotonic()) > 0 and select.select([descriptor], [], [], left)[0]:
        chunk = os.read(descriptor, 4096)
        if not chunk:
            break
        received += chunk
    return received.decode(errors="replace")
