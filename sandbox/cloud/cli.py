"""``python -m sandbox cloud run|start|stop|status``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from sandbox import paths
from sandbox.cloud import process
from sandbox.cloud.process import CloudFiles


def main(argv: Sequence[str]) -> int:
    """Runs one command.

    Returns:
        0 done; 3 ``status`` of a cloud that is not running (as service scripts do it).

    Raises:
        TFServingError: it cannot be done.
    """
    parser = argparse.ArgumentParser(prog="python -m sandbox cloud", description="The local Alibaba Cloud stand-in.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="run|start|stop|status")
    for name, summary in (
        ("run", "run in the foreground until Ctrl-C"),
        ("start", "make sure that it runs in the background"),
        ("stop", "stop it and everything it started"),
        ("status", "say whether it is running"),
    ):
        command = commands.add_parser(name, help=summary, description=summary)
        command.add_argument(
            "--data", type=Path, default=paths.CLOUD_DATA, help="data directory; log and pid file lie beside it"
        )
        if name in ("run", "start"):
            command.add_argument(
                "--port", type=_port, help=f"default: {paths.ENDPOINT_SETTING} of {paths.LOCAL_STACK_FILE}"
            )
        if name == "run":
            command.add_argument("--ready-fd", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(list(argv))
    files = CloudFiles(options.data.resolve())
    match options.command:
        case "run":
            process.run(files, options.port or paths.cloud_endpoint().port, options.ready_fd)
        case "start":
            port = options.port or paths.cloud_endpoint().port
            health, started = process.start(files, port)
            state = "started" if started else "is running already"
            print(f"sandbox cloud {state}: http://{paths.LOOPBACK}:{port} (process {health.pid}, log {files.log})")
        case "stop":
            print("sandbox cloud stopped" if process.stop(files) else "sandbox cloud is not running")
        case _:
            found = process.running(files)
            if found is None:
                print("sandbox cloud is not running")
                return 3
            health, port = found
            print(
                f"sandbox cloud is running: http://{paths.LOOPBACK}:{port} (process {health.pid}, data {health.data})"
            )
    return 0


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 65536):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port (1 to 65535)")
    return int(text)
