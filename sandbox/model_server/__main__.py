"""``python -m sandbox.model_server --port=8500 --rest_api_port=8501 ...``: see the package's documentation."""

from __future__ import annotations

import importlib.metadata
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence

from sandbox.model_server.flags import FlagError, parse, usage
from sandbox.model_server.mounts import Mounts, MountsError
from sandbox.model_server.server import Server
from sandbox.model_server.status import Code, StatusError

PROGRAM = "tensorflow_model_server"
FAILURE = 255
_log = logging.getLogger("sandbox.model_server")


class _Formatter(logging.Formatter):
    """TensorFlow's log lines: time with microseconds, first letter of the level, source, text."""

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.created))
        fraction = int(record.created % 1 * 1e6)
        source = f"{record.name.replace('.', '/')}.py:{record.lineno}"
        text = record.getMessage()
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        return f"{moment}.{fraction:06}: {record.levelname[0]} {source}] {text}"


def _set_up_log() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter())
    root = logging.getLogger("sandbox.model_server")
    root.addHandler(handler)
    root.setLevel(logging.INFO)


def _print_version() -> None:
    print(f"TensorFlow ModelServer: {_distribution_version('tensorflow-serving-api')}")
    print(f"TensorFlow Library: {_distribution_version('tensorflow-cpu', 'tensorflow')}")


def _distribution_version(*names: str) -> str:
    for name in names:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return "not installed"


def main(arguments: Sequence[str]) -> int:
    """Runs the server until it is told to stop.

    Returns:
        Exit status: 0 after a signal or for ``--version``, 255 where it cannot start.
    """
    try:
        flags = parse(arguments)
    except FlagError as error:
        if str(error):
            print(error, file=sys.stderr)
        print(usage(PROGRAM), end="")
        return FAILURE
    if flags.version:
        _print_version()
        return 0
    if flags.unknown:
        print(f"unknown argument: {flags.unknown[0]}\n{usage(PROGRAM)}", flush=True)
    _set_up_log()
    for name in flags.set_but_ignored:
        _log.warning("--%s has no effect in the sandbox's model server", name)
    try:
        mounts = Mounts.from_environment(os.environ)
    except MountsError as error:
        print(f"Failed to start server. Error: {error}", flush=True)
        return FAILURE
    return _serve(Server(flags, mounts))


def _serve(server: Server) -> int:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    failure: list[StatusError] = []

    def start() -> None:
        try:
            server.start()
        except StatusError as error:
            failure.append(error)
            stop.set()
        except Exception as error:
            _log.exception("unexpected error")
            failure.append(StatusError(Code.INTERNAL, f"{type(error).__name__}: {error}"))
            stop.set()

    # Loading may take for ever; the main thread stays free for signals.
    threading.Thread(target=start, name="start", daemon=True).start()
    stop.wait()
    if failure:
        print(f"Failed to start server. Error: {failure[0]}", flush=True)
        return FAILURE
    _log.info("Stopping: running requests finish first")
    server.stop()
    return 0


if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    # Not sys.exit: a load that never ends would hold its thread, and with it the process.
    os._exit(status)
