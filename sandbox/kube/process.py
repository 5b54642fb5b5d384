"""A cluster as a process: run it, start it in the background, stop it.

A lock on the data directory decides whether one is running (:mod:`sandbox.background`).
"""

from __future__ import annotations

from sandbox.background import IN_USE, READY, InUseError, Lock, Program, report
from sandbox.kube import gateway_crds
from sandbox.kube.agent import Agent
from sandbox.kube.cluster import START_SECONDS, STOP_SECONDS, ClusterError, ClusterFiles, LocalCluster, wait_for_signal
from tfserving.errors import TFServingError


def run(files: ClusterFiles, ready_fd: int | None = None, *, gateway_api: bool = False) -> None:
    """Runs a cluster until SIGTERM or SIGINT.

    Args:
        files: where it keeps its things.
        ready_fd: pipe to write one line to: ``ok`` once it works, or what went wrong.
        gateway_api: with the Gateway API, and a Gateway to attach routes to.

    Raises:
        ClusterError: it does not start, or a program of it ended.
    """
    try:
        files.data.mkdir(parents=True, exist_ok=True, mode=0o700)
        with lock(files).held():
            cluster = LocalCluster(files)
            agent: Agent | None = None
            try:
                cluster.start()
                if gateway_api:
                    gateway_crds.install(cluster.kubeconfig)
                    gateway_crds.make_gateway(cluster.kubeconfig)
                agent = Agent(cluster.kubeconfig, files.pod_network, files.data)
                agent.start()
                if ready_fd is None:
                    print(f"cluster at {cluster.url}, kubeconfig {cluster.kubeconfig}. Ctrl-C stops it.", flush=True)
                else:
                    report(ready_fd, READY)
                wait_for_signal(cluster)
            finally:
                if agent is not None:
                    agent.stop()
                cluster.stop()
    except InUseError as error:
        if ready_fd is not None:
            report(ready_fd, IN_USE)
        raise ClusterError(f"a cluster (process {error.pid or 'unknown'}) uses {files.data} already") from None
    except (TFServingError, OSError) as error:
        if ready_fd is not None:
            report(ready_fd, str(error))
        raise ClusterError(str(error)) from None


def start(files: ClusterFiles, *, gateway_api: bool = False) -> bool:
    """Makes sure that a cluster runs in the background.

    Args:
        files: where it keeps its things.
        gateway_api: as :func:`run`; a cluster that runs already stays as it is.

    Returns:
        whether it was started by this call.

    Raises:
        BackgroundError: it does not start.
    """
    if lock(files).holder() is not None:
        return False
    try:
        more = ["--gateway-api"] if gateway_api else []
        _program(files).start(["kube", "run", "--data", str(files.data), *more], 2 * START_SECONDS)
    except InUseError:  # somebody else started one at the same time
        return False
    return True


def stop(files: ClusterFiles) -> bool:
    """Stops the cluster of a data directory.

    Returns:
        whether one was running.

    Raises:
        BackgroundError: it does not end.
    """
    return _program(files).stop(5 * STOP_SECONDS)  # each of its programs may take its time


def lock(files: ClusterFiles) -> Lock:
    """What a running cluster holds."""
    return Lock(files.data / ".lock")


def _program(files: ClusterFiles) -> Program:
    return Program("the cluster", lock(files), files.logs / "cluster.log")
