"""``python -m sandbox kube build|run|start|stop|status``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from sandbox import paths
from sandbox.kube import build, process
from sandbox.kube.cluster import ClusterFiles


def main(argv: Sequence[str]) -> int:
    """Runs one command.

    Returns:
        0 done; 3 ``status`` of a cluster that is not running (as service scripts do it).

    Raises:
        TFServingError: it cannot be done.
    """
    parser = argparse.ArgumentParser(prog="python -m sandbox kube", description="A Kubernetes cluster on loopback.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="build|run|start|stop|status")
    for name, summary in (
        ("build", "build its programs from pinned Go modules"),
        ("run", "run in the foreground until Ctrl-C"),
        ("start", "make sure that it runs in the background"),
        ("stop", "stop it"),
        ("status", "say whether it is running"),
    ):
        command = commands.add_parser(name, help=summary, description=summary)
        if name != "build":
            command.add_argument(
                "--data", type=Path, default=paths.CLUSTER_DATA, help="data directory; the kubeconfig lies in it"
            )
        if name in ("run", "start"):
            command.add_argument("--gateway-api", action="store_true", help="with the Gateway API and a Gateway")
        if name == "run":
            command.add_argument("--ready-fd", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(list(argv))
    if options.command == "build":
        done = build.build()
        print(f"Kubernetes {build.version()} {'built' if done else 'is built already'}: {build.BIN}")
        return 0
    files = ClusterFiles(options.data.resolve())
    match options.command:
        case "run":
            process.run(files, options.ready_fd, gateway_api=options.gateway_api)
        case "start":
            started = process.start(files, gateway_api=options.gateway_api)
            print(f"cluster {'started' if started else 'is running already'}: kubeconfig {files.kubeconfig}")
        case "stop":
            print("cluster stopped" if process.stop(files) else "cluster is not running")
        case _:
            pid = process.lock(files).holder()
            print("cluster is not running" if pid is None else f"cluster is running: process {pid}, data {files.data}")
            return 3 if pid is None else 0
    return 0
