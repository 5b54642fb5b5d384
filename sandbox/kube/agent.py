"""What surrounds the control plane of a local cluster: nodes for the pods that want one, and load balancers.

In the place of the cluster autoscaler: for every node selector that a pod waits with, there is a node that fits it. In
the place of the cloud controller manager: every Service of type LoadBalancer gets a loopback address, whose ports lead
to its ready pods in turn. In the place of a gateway controller:
:mod:`sandbox.kube.gateway_routes`. A cluster that is started again has the same nodes and addresses as before.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import logging
import secrets
import socket
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kubernetes import client, config
from urllib3.exceptions import HTTPError

from sandbox.kube.gateway_routes import GatewayController
from sandbox.kube.network import PodNetwork, splice
from sandbox.kube.node import Node
from sandbox.kube.oss import OssMounts

log = logging.getLogger("sandbox.kube")

_LOOK_SECONDS = 1.0
_CONNECT_SECONDS = 5.0
GPUS: Mapping[str, str] = {"nvidia.com/gpu": "8", "aliyun.com/gpu-mem": "128", "aliyun.com/gpu-core.percentage": "800"}
"""Cards of a node that pods select. None of them is real: models run on the CPU."""


class Agent:
    """Looks after one cluster while it runs.

    Args:
        kubeconfig: an administrator's.
        socket_path: where the API server looks for the pod network's proxy.
        directory: for pods and mounts.
    """

    def __init__(self, kubeconfig: Path, socket_path: Path, directory: Path) -> None:
        self._kubeconfig, self._directory = kubeconfig, directory
        self._network = PodNetwork(socket_path)
        self._mounts = OssMounts(directory / "oss")
        load: Any = config  # untyped
        self._api: Any = client.CoreV1Api(load.new_client_from_config(str(kubeconfig), persist_config=False))
        self._api.api_client.configuration.proxy = None
        self._nodes: dict[str, Node] = {}
        self._balancers: dict[str, LoadBalancer] = {}
        self._gateways = GatewayController(client.CustomObjectsApi(self._api.api_client), self._behind)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="agent", daemon=True)

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def stop(self) -> None:
        """Ends every pod's processes."""
        self._stopping.set()
        self._thread.join()
        self._gateways.close()
        for balancer in self._balancers.values():
            balancer.close()
        for node in self._nodes.values():
            node.stop()
        self._mounts.close()
        self._network.close()

    def _run(self) -> None:
        while not self._stopping.wait(_LOOK_SECONDS):
            try:
                self._provide_nodes()
                self._provide_balancers()
                self._gateways.look()
            except (client.ApiException, HTTPError, OSError) as error:
                log.warning("agent: %s", " ".join(str(error).split())[:300])

    def _provide_nodes(self) -> None:
        for pod in self._api.list_pod_for_all_namespaces().items:
            selector = dict(pod.spec.node_selector or {})
            pool = selector.get("tf-serving/node-pool", "default")
            tail = hashlib.sha256(repr(sorted(selector.items())).encode()).hexdigest()[:6]
            name = f"{pool.lower()}-{tail}"
            if name not in self._nodes and pod.spec.node_name in (None, name):
                node = Node(
                    self._kubeconfig,
                    name,
                    self._network,
                    self._mounts.mount,
                    self._directory / "pods",
                    labels=selector,
                    capacity=GPUS if selector else {},
                )
                self._nodes[name] = node
                node.start()

    def _provide_balancers(self) -> None:
        found = {item.metadata.uid: item for item in self._api.list_service_for_all_namespaces().items}
        for uid, item in found.items():
            if item.spec.type == "LoadBalancer" and uid not in self._balancers:
                self._balancers[uid] = self._balancer(item)
        for uid in self._balancers.keys() - {u for u, item in found.items() if item.spec.type == "LoadBalancer"}:
            self._balancers.pop(uid).close()

    def _behind(self, service: str) -> list[str] | None:
        """Loopback addresses of the ready pods of a Service, by ``namespace/name``; None for no such Service."""
        namespace, _, name = service.partition("/")
        try:
            found = self._api.read_namespaced_service(name, namespace)
        except client.ApiException as error:
            if error.status == 404:
                return None
            raise
        return self._ready(namespace, found.spec.selector)

    def _ready(self, namespace: str, selector: Mapping[str, str] | None) -> list[str]:
        labels = ",".join(f"{key}={value}" for key, value in (selector or {}).items())
        pods = self._api.list_namespaced_pod(namespace, label_selector=labels).items
        hosts = [
            self._network.host(pod.status.pod_ip)
            for pod in pods
            if pod.metadata.deletion_timestamp is None
            and any(c.type == "Ready" and c.status == "True" for c in pod.status.conditions or ())
        ]
        return sorted(host for host in hosts if host)

    def _balancer(self, service: Any) -> LoadBalancer:
        namespace, name = service.metadata.namespace, service.metadata.name

        def ready() -> list[str]:
            return self._ready(namespace, service.spec.selector)

        ports = {int(port.port): _target(port) for port in service.spec.ports}
        given = [item.ip for item in service.status.load_balancer.ingress or ()]
        balancer = LoadBalancer(ports, ready, given[0] if given else "")
        status = {"status": {"loadBalancer": {"ingress": [{"ip": balancer.address}]}}}
        self._api.patch_namespaced_service_status(name, namespace, status)
        return balancer


def _target(port: Any) -> int:
    """Port of the pods. This project names target ports as TensorFlow Serving's container does."""
    return int({"grpc": 8500, "http": 8501}.get(port.target_port, port.target_port))


class LoadBalancer:
    """Connections to a loopback address, given to ready pods in turn.

    Args:
        ports: port of the pods by port of the address.
        ready: loopback addresses of the ready pods.
        address: the address it had before; empty: a new one.
    """

    def __init__(self, ports: Mapping[int, int], ready: Callable[[], list[str]], address: str = "") -> None:
        self.address = (
            address or f"127.{secrets.randbelow(50) + 200}.{secrets.randbelow(256)}.{secrets.randbelow(254) + 1}"
        )
        self._ready = ready
        self._turn = itertools.count()
        self._sockets: list[socket.socket] = []
        for port, target in ports.items():
            listening = socket.create_server((self.address, port), backlog=128)
            self._sockets.append(listening)
            threading.Thread(target=self._serve, args=(listening, target), daemon=True).start()

    def close(self) -> None:
        """Takes no more connections."""
        for listening in self._sockets:
            with contextlib.suppress(OSError):
                listening.shutdown(socket.SHUT_RDWR)
            listening.close()

    def _serve(self, listening: socket.socket, target: int) -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=self._carry, args=(connection, target), daemon=True).start()

    def _carry(self, connection: socket.socket, target: int) -> None:
        with connection, contextlib.suppress(OSError, client.ApiException, HTTPError):
            hosts = self._ready()
            if not hosts:
                return
            host = hosts[next(self._turn) % len(hosts)]
            with socket.create_connection((host, target), _CONNECT_SECONDS) as pod:
                splice(connection, pod)
