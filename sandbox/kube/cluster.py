"""One cluster: etcd, API server, controllers and scheduler as processes on loopback, with certificates of their own.

Every connection between them is TLS with client certificates. The API server authorizes by RBAC; the kubeconfig beside
the data is an administrator's, readable by its owner only.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import signal
import ssl
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import yaml

from sandbox import confinement, paths, ports
from sandbox.kube import build
from sandbox.kube.pki import Authority, KeyPair, signing_key
from tfserving.errors import TFServingError

START_SECONDS = 120.0
STOP_SECONDS = 20.0

SERVICE_RANGE = "10.96.0.0/16"
"""Addresses of Services. Nothing routes there: the sandbox reaches pods by load balancers."""

_PORTS: Mapping[str, tuple[str, ...]] = {
    "etcd": ("etcd", "etcd-peer"),
    "kube-apiserver": ("kube-apiserver",),
    "kube-controller-manager": ("manager",),
    "kube-scheduler": ("scheduler",),
}
"""What the ports of each program are remembered by."""
_CLIENTS: Mapping[str, tuple[str, ...]] = {"etcd": ("kube-apiserver",)}
"""Programs that are started with a port of another one, before that is known to listen there."""
_MOVES = 10
"""How often programs go to other ports before that is a failure."""
_TAKEN = "address already in use"
"""What Go calls EADDRINUSE."""

CONTROLLERS = (
    "deployment-controller",
    "disruption-controller",
    "endpoints-controller",
    "endpointslice-controller",
    "garbage-collector-controller",
    "horizontal-pod-autoscaler-controller",
    "namespace-controller",
    "persistentvolume-binder-controller",
    "persistentvolume-protection-controller",
    "persistentvolumeclaim-protection-controller",
    "pod-garbage-collector-controller",
    "replicaset-controller",
    "root-ca-certificate-publisher-controller",
    "serviceaccount-controller",
)
"""The controllers this project's objects need. None of them talks to a cloud. Pulumi's Kubernetes provider waits for
Endpoints; everything else looks at endpoint slices."""


class ClusterError(TFServingError):
    """The cluster does not start. The message says which program, and its last words."""


@dataclass(frozen=True)
class ClusterFiles:
    """Where one cluster keeps its things.

    Attributes:
        data: one running cluster per directory.
    """

    data: Path

    @property
    def pki(self) -> Path:
        return self.data / "pki"

    @property
    def logs(self) -> Path:
        return self.data / "logs"

    @property
    def kubeconfig(self) -> Path:
        return self.data / "kubeconfig"

    @property
    def ports(self) -> Path:
        return self.data / "ports.json"

    @property
    def pod_network(self) -> Path:
        """Socket of the proxy through which the API server reaches pods (:mod:`sandbox.kube.network`)."""
        return self.data / "pods.sock"


class LocalCluster:
    """The programs of a running cluster.

    Args:
        files: where it keeps its things; what is there from an earlier run is used again.
        programs: directory of the programs.
    """

    def __init__(self, files: ClusterFiles, programs: Path = build.BIN) -> None:
        self.files = ClusterFiles(files.data.resolve())
        self._programs = programs
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._ports: dict[str, int] = {}
        self._moves = 0
        self._flags: Mapping[str, Callable[[], dict[str, object]]] = {
            "etcd": self._etcd,
            "kube-apiserver": self._api_server,
            "kube-controller-manager": self._controller_manager,
            "kube-scheduler": self._scheduler,
        }
        files.data.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.files.logs.mkdir(exist_ok=True)
        # Two authorities: a certificate for the API server must not open etcd.
        self._authority = Authority(self.files.pki, "kubernetes-ca")
        self._etcd_authority = Authority(self.files.pki / "etcd", "etcd-ca")
        self._admin = self._authority.issue("sandbox-admin", groups=("system:masters",))

    @property
    def url(self) -> str:
        """Address of the API server."""
        return f"https://{paths.LOOPBACK}:{self._ports['kube-apiserver']}"

    @property
    def kubeconfig(self) -> Path:
        """An administrator's kubeconfig."""
        return self.files.kubeconfig

    def start(self) -> None:
        """Starts everything and waits until the API server is ready. The kubeconfig is written before that.

        Ports are those of an earlier run where they are free, so that kubeconfigs stay valid. A port may be taken
        between being found free and being listened on: its program is started again at another.

        Raises:
            ClusterError: a program is missing, ended or is not ready in time.
        """
        if why := build.missing(self._programs):
            raise ClusterError(why)
        self._moves = 0
        self._ports = self._remembered()
        self._find_ports(name for names in _PORTS.values() for name in names if name not in self._ports)
        self._start("etcd")
        self._start("kube-apiserver")
        self._await_ready()
        self._start("kube-controller-manager")
        self._start("kube-scheduler")
        self._await_work()

    def failure(self) -> str:
        """Which program ended by itself, and its last words; empty while all run."""
        for name, process in self._processes.items():
            if process.poll() is not None:
                return f"{name} ended with status {process.returncode}{self._last_words(name)}"
        return ""

    def stop(self, seconds: float = STOP_SECONDS) -> None:
        """Ends everything, the API server before its store; kills what has not ended after ``seconds``."""
        for name in reversed(list(self._processes)):
            self._end(name, seconds)

    # ---- ports -----------------------------------------------------------------------------------------------------

    def _remembered(self) -> dict[str, int]:
        """Ports of an earlier run that still are free."""
        try:
            known = json.loads(self.files.ports.read_text(encoding="utf-8"))
            found = {str(name): int(port) for name, port in known.items()}
        except (OSError, ValueError, TypeError, AttributeError):
            return {}
        return {name: port for name, port in found.items() if ports.is_free(port)}

    def _find_ports(self, names: Iterable[str]) -> None:
        """Gives these names other ports, and notes them all."""
        for name in list(names):
            self._ports[name] = ports.free_port(self._ports.values())
        self.files.ports.write_text(json.dumps(self._ports), encoding="utf-8")
        _write_private(self.kubeconfig, yaml.safe_dump(self._kubeconfig(self._admin, embed=True), sort_keys=False))

    def _move(self) -> bool:
        """Starts a program again at other ports, if one has ended because somebody else took a port of it; with it,
        whatever is told its port."""
        for name, process in self._processes.items():
            if process.poll() and _TAKEN in self._log(name) and self._moves < _MOVES:
                self._moves += 1
                self._find_ports(_PORTS[name])
                again = [name, *(client for client in _CLIENTS.get(name, ()) if client in self._processes)]
                for each in reversed(again):
                    self._end(each, 1)
                for each in again:
                    self._start(each)
                return True
        return False

    # ---- programs --------------------------------------------------------------------------------------------------

    def _end(self, name: str, seconds: float) -> None:
        process = self._processes.pop(name)
        process.terminate()
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _start(self, name: str) -> None:
        arguments = [f"--{flag}={_text(value)}" for flag, value in self._flags[name]().items()]
        # The kernel ends the program with this process, however that ends (see the guard).
        with open(self.files.logs / f"{name}.log", "wb") as log:
            self._processes[name] = subprocess.Popen(
                [*confinement.bare_guard(), str(self._programs / name), *arguments],
                cwd=self.files.data,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _etcd(self) -> dict[str, object]:
        pair = self._etcd_authority.issue("etcd", server=True)
        client, peer = (f"https://{paths.LOOPBACK}:{self._ports[name]}" for name in ("etcd", "etcd-peer"))
        tls = {"cert-file": pair.cert, "key-file": pair.key, "trusted-ca-file": self._etcd_authority.pair.cert}
        return {
            "data-dir": self.files.data / "etcd",
            "listen-client-urls": client,
            "advertise-client-urls": client,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": f"default={peer}",
            **tls,
            "client-cert-auth": True,
            **{f"peer-{name}": value for name, value in tls.items()},
            "peer-client-cert-auth": True,
            "unsafe-no-fsync": True,  # a sandbox may lose its last second
            "auto-compaction-retention": "1h",
            "log-level": "warn",
        }

    def _api_server(self) -> dict[str, object]:
        serving = self._authority.issue("kube-apiserver", server=True)
        etcd = self._etcd_authority.issue("kube-apiserver-etcd-client")
        key = signing_key(self.files.pki / "service-accounts.key")
        egress = self.files.data / "egress.yaml"
        _write_private(egress, yaml.safe_dump(self._egress()))
        return {
            "egress-selector-config-file": egress,
            "bind-address": paths.LOOPBACK,
            "advertise-address": paths.LOOPBACK,
            "secure-port": self._ports["kube-apiserver"],
            "endpoint-reconciler-type": "none",  # an endpoint on loopback is of no use to a pod
            "etcd-servers": f"https://{paths.LOOPBACK}:{self._ports['etcd']}",
            "etcd-cafile": self._etcd_authority.pair.cert,
            "etcd-certfile": etcd.cert,
            "etcd-keyfile": etcd.key,
            "tls-cert-file": serving.cert,
            "tls-private-key-file": serving.key,
            "client-ca-file": self._authority.pair.cert,
            "anonymous-auth": False,
            "authorization-mode": "RBAC",
            "service-cluster-ip-range": SERVICE_RANGE,
            "service-account-issuer": "https://kubernetes.default.svc",
            "service-account-key-file": key,
            "service-account-signing-key-file": key,
            "profiling": False,
        }

    def _egress(self) -> dict[str, object]:
        """Pods are reached through a proxy: the API server itself refuses to speak to loopback."""
        # By its name alone: a whole path may be longer than the address of a socket can be.
        uds = {"udsName": self.files.pod_network.name}
        connection = {"proxyProtocol": "HTTPConnect", "transport": {"uds": uds}}
        return {
            "apiVersion": "apiserver.k8s.io/v1beta1",
            "kind": "EgressSelectorConfiguration",
            "egressSelections": [{"name": "cluster", "connection": connection}],
        }

    def _controller_manager(self) -> dict[str, object]:
        return {
            **self._client("system:kube-controller-manager", "manager"),
            "controllers": ",".join(CONTROLLERS),
            "root-ca-file": self._authority.pair.cert,
            "service-account-private-key-file": self.files.pki / "service-accounts.key",
            "use-service-account-credentials": True,
            "pvclaimbinder-sync-period": "5s",
        }

    def _scheduler(self) -> dict[str, object]:
        return self._client("system:kube-scheduler", "scheduler")

    def _client(self, user: str, port: str) -> dict[str, object]:
        """Flags of a program that works on the API server in the name of ``user``."""
        pair = self._authority.issue(user, server=True)
        config = self.files.pki / f"{pair.cert.stem}.kubeconfig"
        _write_private(config, yaml.safe_dump(self._kubeconfig(pair), sort_keys=False))
        return {
            "kubeconfig": config,
            "authentication-kubeconfig": config,
            "authorization-kubeconfig": config,
            "bind-address": paths.LOOPBACK,
            "secure-port": self._ports[port],
            "tls-cert-file": pair.cert,
            "tls-private-key-file": pair.key,
            "leader-elect": False,
            "profiling": False,
        }

    def _kubeconfig(self, pair: KeyPair, *, embed: bool = False) -> dict[str, object]:
        """A kubeconfig that names the certificates' files, or with ``embed`` holds them."""

        def either(name: str, path: Path) -> dict[str, str]:
            content = base64.b64encode(path.read_bytes()).decode()
            return {f"{name}-data": content} if embed else {name: str(path)}

        user = {**either("client-certificate", pair.cert), **either("client-key", pair.key)}
        authority = either("certificate-authority", self._authority.pair.cert)
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "sandbox",
            "clusters": [{"name": "sandbox", "cluster": {"server": self.url, **authority}}],
            "users": [{"name": "sandbox", "user": user}],
            "contexts": [{"name": "sandbox", "context": {"cluster": "sandbox", "user": "sandbox"}}],
        }

    # ---- readiness -------------------------------------------------------------------------------------------------

    def _await_ready(self) -> None:
        for seconds in self._waiting("the API server is not ready"):
            with suppress(OSError, http.client.HTTPException):
                if self._get("/readyz")[0] == 200:
                    return
            time.sleep(min(0.1 + seconds / 10, 0.5))

    def _await_work(self) -> None:
        """No pod can be made before its namespace has a service account, nor get a node without the scheduler."""
        for _ in self._waiting("the controllers do not work"):
            with suppress(OSError, http.client.HTTPException):
                if (
                    self._get("/healthz", "manager")[0] == 200
                    and self._get("/healthz", "scheduler")[0] == 200
                    and self._get("/api/v1/namespaces/default/serviceaccounts/default")[0] == 200
                ):
                    return
            time.sleep(0.1)

    def _waiting(self, what: str) -> Iterator[float]:
        started = time.monotonic()
        while (gone := time.monotonic() - started) < START_SECONDS:
            if self._move():
                continue
            if failure := self.failure():
                self.stop(1)  # without its store an API server takes its time
                raise ClusterError(failure)
            yield gone
        words = "".join(self._last_words(name) for name in self._processes)
        self.stop(1)
        raise ClusterError(f"{what} after {START_SECONDS:.0f} s{words}")

    def _get(self, path: str, port: str = "kube-apiserver") -> tuple[int, bytes]:
        context = ssl.create_default_context(cafile=self._authority.pair.cert)
        context.load_cert_chain(self._admin.cert, self._admin.key)
        connection = http.client.HTTPSConnection(paths.LOOPBACK, self._ports[port], timeout=5, context=context)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def _last_words(self, name: str) -> str:
        lines = self._log(name).strip().splitlines()[-3:]
        return "".join(f"\n  {name}: {line}" for line in lines) + f"\n  (log: {self.files.logs / f'{name}.log'})"

    def _log(self, name: str) -> str:
        return (self.files.logs / f"{name}.log").read_text(encoding="utf-8", errors="replace")


@contextmanager
def running(data: Path, programs: Path = build.BIN) -> Iterator[LocalCluster]:
    """A cluster for as long as the context is open.

    Raises:
        ClusterError: it does not start.
    """
    cluster = LocalCluster(ClusterFiles(data), programs)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _write_private(path: Path, content: str) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(content)


def wait_for_signal(cluster: LocalCluster) -> None:
    """Blocks until SIGTERM or SIGINT.

    Raises:
        ClusterError: a program of the cluster ended.
    """
    stopped = False

    def stop(*_: object) -> None:
        nonlocal stopped
        stopped = True

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    while not stopped:
        if failure := cluster.failure():
            raise ClusterError(failure)
        time.sleep(0.2)
