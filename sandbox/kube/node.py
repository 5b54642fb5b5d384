"""A node: what the kubelet does for the pods that the scheduler gives it, with processes instead of containers."""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kubernetes import client, config
from urllib3.exceptions import HTTPError

from sandbox.kube.network import PodNetwork
from sandbox.kube.pods import MODEL_SERVER, RunningPod, Volumes

log = logging.getLogger("sandbox.kube")

_LOOK_SECONDS = 0.3
_REQUEST_SECONDS = 30
CAPACITY: Mapping[str, str] = {"cpu": "64", "memory": "256Gi", "pods": "110"}
"""What a node has besides GPUs. Nothing is measured: requests are only counted, as the scheduler does it."""

Mount = Callable[[Mapping[str, str]], Path]
"""A local directory with what an OSS volume holds, from the volume's CSI attributes (``bucket``, ``path``, ``url``)."""


class Node:
    """One node, registered while it runs.

    Args:
        kubeconfig: of its cluster, with an administrator's rights.
        name: of the node.
        network: addresses for its pods.
        mount: how OSS volumes are mounted.
        directory: for this node alone.
        labels: of the node, besides its host name.
        taints: of the node.
        capacity: besides :data:`CAPACITY`: ``{"nvidia.com/gpu": "2"}``.
        sync_seconds: how often pods look at their ConfigMaps again; a real kubelet about once a minute.
        hurry: pods end without their preStop hook and grace period.
        server: program and first arguments of the model server.
    """

    def __init__(
        self,
        kubeconfig: Path,
        name: str,
        network: PodNetwork,
        mount: Mount,
        directory: Path,
        *,
        labels: Mapping[str, str] | None = None,
        taints: Sequence[Mapping[str, str]] = (),
        capacity: Mapping[str, str] | None = None,
        sync_seconds: float = 2.0,
        hurry: bool = False,
        server: Sequence[str] = MODEL_SERVER,
    ) -> None:
        self.name = name
        self._network, self._mount, self._directory = network, mount, directory
        self._labels = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", **(labels or {})}
        self._taints, self._capacity = list(taints), {**CAPACITY, **(capacity or {})}
        self._sync_seconds, self._hurry, self._server = sync_seconds, hurry, tuple(server)
        load: Any = config  # untyped
        self._api: Any = client.CoreV1Api(load.new_client_from_config(str(kubeconfig), persist_config=False))
        self._api.api_client.configuration.proxy = None
        self.pods: dict[str, RunningPod] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"node {name}", daemon=True)

    def start(self) -> None:
        """Registers the node and begins to run its pods."""
        self._register()
        self._thread.start()

    def stop(self) -> None:
        """Ends its pods' processes and takes the node away.

        Their objects stay, as after a power cut, and are run again by a node of the same name.
        """
        self._stopping.set()
        self._thread.join()
        for pod in self.pods.values():
            pod.end()
        for pod in self.pods.values():
            pod.finished.wait(60)
            self._network.remove(pod.ip)
        self._quietly(lambda: self._api.delete_node(self.name, _request_timeout=_REQUEST_SECONDS))

    def _register(self) -> None:
        body = {
            "metadata": {"name": self.name, "labels": self._labels},
            "spec": {"taints": self._taints},
        }
        self._quietly(lambda: self._api.create_node(body, _request_timeout=_REQUEST_SECONDS))
        status = {
            "status": {
                "capacity": self._capacity,
                "allocatable": self._capacity,
                "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "sandbox"}],
            }
        }
        self._api.patch_node_status(self.name, status, _request_timeout=_REQUEST_SECONDS)
        # A new node is tainted as not ready until the node controller, which the sandbox does not run, takes that away.
        self._api.patch_node(self.name, {"spec": {"taints": self._taints}}, _request_timeout=_REQUEST_SECONDS)

    def _run(self) -> None:
        while not self._stopping.wait(_LOOK_SECONDS):
            self._quietly(self._look)

    def _look(self) -> None:
        raw = self._api.api_client.sanitize_for_serialization(
            self._api.list_pod_for_all_namespaces(
                field_selector=f"spec.nodeName={self.name}", _request_timeout=_REQUEST_SECONDS
            )
        )
        found = {item["metadata"]["uid"]: item for item in raw["items"]}
        for uid, item in found.items():
            running = self.pods.get(uid)
            if item["metadata"].get("deletionTimestamp"):
                if running is not None and not running.finished.is_set():
                    running.end()
                else:
                    self._forget(uid, item)
            elif running is None:
                self._start(uid, item)
        for uid in [uid for uid in self.pods if uid not in found]:  # deleted by force
            self.pods[uid].end()
            if self.pods[uid].finished.is_set():
                self._network.remove(self.pods.pop(uid).ip)

    def _start(self, uid: str, item: Mapping[str, Any]) -> None:
        namespace, name = item["metadata"]["namespace"], item["metadata"]["name"]
        shutil.rmtree(self._directory / uid / "volumes", ignore_errors=True)  # of before a restart
        ip, host = self._network.add()

        def report(status: Mapping[str, Any]) -> None:
            self._quietly(
                lambda: self._api.patch_namespaced_pod_status(
                    name, namespace, {"status": status}, _request_timeout=_REQUEST_SECONDS
                )
            )

        volumes = Volumes(
            config_map=lambda wanted: self._config_map(namespace, wanted),
            claim=lambda wanted: self._claim(namespace, wanted),
        )
        self.pods[uid] = RunningPod(
            item,
            volumes,
            ip,
            host,
            self._directory / uid,
            report,
            self._sync_seconds,
            hurry=self._hurry,
            server=self._server,
        )
        self.pods[uid].start()

    def _forget(self, uid: str, item: Mapping[str, Any]) -> None:
        """Tells the API server that a pod's processes are gone."""
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": uid}}
        metadata = item["metadata"]
        self._quietly(
            lambda: self._api.delete_namespaced_pod(
                metadata["name"], metadata["namespace"], body=options, _request_timeout=_REQUEST_SECONDS
            )
        )
        if pod := self.pods.pop(uid, None):
            self._network.remove(pod.ip)

    def _config_map(self, namespace: str, name: str) -> Mapping[str, str] | None:
        try:
            found = self._api.read_namespaced_config_map(name, namespace, _request_timeout=_REQUEST_SECONDS)
        except client.ApiException as error:
            if error.status == 404:
                return None
            raise OSError(error.reason) from None
        return dict(found.data or {})

    def _claim(self, namespace: str, name: str) -> Path | None:
        try:
            claim = self._api.read_namespaced_persistent_volume_claim(
                name, namespace, _request_timeout=_REQUEST_SECONDS
            )
            if claim.status.phase != "Bound":
                return None
            volume = self._api.read_persistent_volume(claim.spec.volume_name, _request_timeout=_REQUEST_SECONDS)
        except client.ApiException:
            return None
        return self._mount(dict(volume.spec.csi.volume_attributes))

    def _quietly(self, call: Callable[[], object]) -> None:
        """A call that is tried again on the next turn, should it fail now."""
        try:
            call()
        except (client.ApiException, HTTPError, OSError) as error:
            if getattr(error, "status", None) not in (404, 409):
                log.warning("node %s: %s", self.name, " ".join(str(error).split())[:300])
