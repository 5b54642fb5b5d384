"""The plugin process around the provider: it tells its port, and ends with the engine."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from concurrent import futures
from pathlib import Path

import grpc
from pulumi.runtime.proto import provider_pb2_grpc

from provider.engine_log import CHANNEL_OPTIONS, EngineLog
from provider.package import Package
from provider.server import Provider

# Operations wait for minutes; the engine runs as many at once as its --parallel says.
_WORKERS = 256
_GRACE_SECONDS = 3.0
_WATCH_SECONDS = 5.0
_MISSED_CHECKS = 3


def main(arguments: list[str], root: Path, package: Package) -> int:
    """Serve on a free loopback port until the engine is done; the exit status.

    The first line on standard output is the port. The engine's address is the one argument that is not a flag.

    Args:
        arguments: of the command line.
        root: the directory of the program, where relative paths start.
        package: what is served beyond the resources.
    """
    parent = os.getppid()  # before the port is told: whoever has read it may be gone the next moment
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    log = EngineLog()
    address = _engine_address(arguments)
    if address:
        log.connect(address)
    provider = Provider(root, log, package)
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=_WORKERS), options=CHANNEL_OPTIONS)
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(provider, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    os.dup2(2, 1)  # whatever a library prints must not look like part of the protocol
    threading.Thread(target=_watch, args=(log, parent, stop), daemon=True).start()
    while not stop.wait(0.2):
        pass  # a signal that another thread receives is handled when this one next runs
    provider.cancelled.set()
    server.stop(_GRACE_SECONDS).wait()
    return 0


def _engine_address(arguments: list[str]) -> str:
    """The CLI puts its own flags (``--logtostderr``, ``-v=9``, ``--tracing URL``) before the engine's address."""
    rest = iter(arguments)
    address = ""
    for argument in rest:
        if argument == "--tracing":
            next(rest, None)
        elif not argument.startswith("-"):
            address = argument
    return address


def _watch(log: EngineLog, parent: int, stop: threading.Event) -> None:
    """Stop when the process that started this one is gone, or when the engine no longer answers."""
    missed = 0
    checked = time.monotonic()
    while not stop.wait(0.5):
        if os.getppid() != parent:
            stop.set()
        if time.monotonic() - checked < _WATCH_SECONDS:
            continue
        checked = time.monotonic()
        missed = 0 if log.engine_is_there() else missed + 1
        if missed >= _MISSED_CHECKS:
            stop.set()
