"""The services on the local Kubernetes cluster, for the console: Deployments of this project and their pods.

Nothing is written: objects are listed, and pods are asked through the API server (``pods/proxy``). There is no kubelet,
so logs are read where the cluster keeps the pods' output.
"""

from __future__ import annotations

import asyncio
import calendar
import functools
import itertools
import json
import posixpath
import ssl
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from sandbox.cloud.console.eas_services import tail_of
from sandbox.cloud.console.places import Happening, HttpAddress, PlaceError, Shown, Target, declared, metrics_path
from sandbox.cloud.eas.command import flag
from sandbox.kube.cluster import ClusterFiles
from sandbox.kube.process import lock
from tfserving.client import ModelClient, RestClient
from tfserving.kubernetes import HTTP_PORT

_SELECTOR = "app.kubernetes.io/name=tensorflow-serving"
_SECONDS = 3.0
_LOG_TAIL = 1 << 18
_EVENTS = 100
_METRICS_SECONDS = 5.0

Saw = Callable[[str, str, float], None]
"""Called with the place of a model config file, its text, and when it was written."""


@dataclass(frozen=True)
class _Api:
    """A way to the API server.

    Attributes:
        client: the official client.
        url: of the server.
        context: whom to trust and who to be.
        stamp: of the kubeconfig it was made from.
    """

    client: Any
    url: str
    context: ssl.SSLContext
    stamp: int

    @classmethod
    def of(cls, kubeconfig: Path, stamp: int) -> _Api:
        from kubernetes import config  # takes a second, and is needed beside a cluster only

        load: Any = config  # untyped
        found: Any = load.new_client_from_config(str(kubeconfig), persist_config=False)
        settings = found.configuration
        settings.proxy = None
        context = ssl.create_default_context(cafile=settings.ssl_ca_cert)
        context.load_cert_chain(settings.cert_file, settings.key_file)
        return cls(found, str(settings.host).rstrip("/"), context, stamp)

    def list(self, path: str, selector: str = "") -> list[dict[str, Any]]:
        """Objects as JSON."""
        query = f"?{urlencode({'labelSelector': selector})}" if selector else ""
        found = self.client.call_api(
            "GET", f"{self.url}{path}{query}", {"Accept": "application/json"}, _request_timeout=_SECONDS
        )
        return list(json.loads(found.read())["items"])


class KubeServices:
    """Services on a cluster, as long as it runs.

    Args:
        files: where the cluster keeps its things.
        executor: for calls that block.
        saw: gets the model config files.
    """

    def __init__(self, files: ClusterFiles, executor: Executor, saw: Saw) -> None:
        self._files = files
        self._executor = executor
        self._saw = saw
        self._api: _Api | None = None
        self._turn = itertools.count()

    async def services(self) -> list[Shown]:
        """All of them; none while no cluster runs.

        Raises:
            PlaceError: the API server does not answer.
        """
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._services)

    def _services(self) -> list[Shown]:
        if lock(self._files).holder() is None:
            return []
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        try:
            api = self._connected()
            found = {
                kind: api.list(f"/{path}", _SELECTOR if kind != "events" else "")
                for kind, path in (
                    ("deployments", "apis/apps/v1/deployments"),
                    ("pods", "api/v1/pods"),
                    ("services", "api/v1/services"),
                    ("events", "api/v1/events"),
                )
            }
            maps = self._config_maps(api, found["deployments"])
        except (ApiException, HTTPError, OSError, ValueError, KeyError) as error:
            reason = " ".join(str(error).split())[:200]
            raise PlaceError(f"The Kubernetes cluster does not answer: {reason}") from None
        return [self._shown(api, each, found, maps) for each in found["deployments"]]

    def _connected(self) -> _Api:
        stamp = self._files.kubeconfig.stat().st_mtime_ns
        if self._api is None or self._api.stamp != stamp:
            self._api = _Api.of(self._files.kubeconfig, stamp)
        return self._api

    @staticmethod
    def _config_maps(api: _Api, deployments: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
        """The ConfigMaps in the namespaces of the services, by namespace and name."""
        namespaces = sorted({each["metadata"]["namespace"] for each in deployments})
        return {
            (namespace, item["metadata"]["name"]): item
            for namespace in namespaces
            for item in api.list(f"/api/v1/namespaces/{namespace}/configmaps")
        }

    def _shown(
        self,
        api: _Api,
        deployment: Mapping[str, Any],
        found: Mapping[str, list[dict[str, Any]]],
        maps: Mapping[tuple[str, str], Mapping[str, Any]],
    ) -> Shown:
        metadata, spec = deployment["metadata"], deployment["spec"]
        namespace, name = metadata["namespace"], metadata["name"]
        labels = spec["selector"]["matchLabels"].items()
        pods = [
            pod
            for pod in found["pods"]
            if pod["metadata"]["namespace"] == namespace and labels <= pod["metadata"].get("labels", {}).items()
        ]
        live = [pod for pod in pods if not pod["metadata"].get("deletionTimestamp")]
        ready = [pod for pod in live if _is_ready(pod)]
        container = spec["template"]["spec"]["containers"][0]
        flags = tuple(container.get("args") or ())
        read = functools.partial(_mounted, namespace, spec["template"]["spec"], container, maps)
        status, message = _condition(deployment, live, len(ready))
        file = flag(flags, "model_config_file")
        place = _place(namespace, spec["template"]["spec"], container, file) if file else ""
        if place:
            self._tell(place, maps)
        facts = {
            "name": f"{namespace}/{name}",
            "place": "Kubernetes",
            "status": status,
            "message": message,
            "protocol": "http",
            "address": _address(namespace, name, found["services"]),
            "image": str(container.get("image", "")),
            "deployment": "Deployment",
            "replicas": {"ready": len(ready), "wanted": int(spec.get("replicas", 1))},
            "changed": str(metadata.get("creationTimestamp") or ""),
            "warnings": [],
            "group": "",
        }
        proxies = [f"{api.url}/api/v1/namespaces/{namespace}/pods/{_name(pod)}:{HTTP_PORT}/proxy" for pod in ready]
        names = {name, *map(_name, pods)}
        return Shown(
            f"{namespace}/{name}",
            facts,
            functools.partial(declared, flags, read),
            [_target(_name(pod), proxy, api.context) for pod, proxy in zip(ready, proxies, strict=True)],
            HttpAddress(proxies[next(self._turn) % len(proxies)], context=api.context, is_shared=True)
            if proxies
            else None,
            place,
            functools.partial(metrics_path, flags, read),
            functools.partial(self._log, live),
            functools.partial(_events, namespace, names, found["events"]),
        )

    def _tell(self, place: str, maps: Mapping[tuple[str, str], Mapping[str, Any]]) -> None:
        namespace, name, key = place.removeprefix("configmap://").split("/", 2)
        found = maps.get((namespace, name))
        if found is not None and key in (found.get("data") or {}):
            times = [each["time"] for each in found["metadata"].get("managedFields") or () if each.get("time")]
            self._saw(place, found["data"][key], _seconds(max(times)) if times else time.time())

    def _log(self, pods: Sequence[Mapping[str, Any]], count: int, word: str) -> list[str]:
        lines: list[str] = []
        for pod in pods:
            file = self._files.data / "pods" / str(pod["metadata"]["uid"]) / "container.log"
            prefix = f"{_name(pod).rpartition('-')[2]} " if len(pods) > 1 else ""
            lines += deque((prefix + line for line in tail_of(file, _LOG_TAIL) if word in line), maxlen=count)
        return lines[-count:] if len(pods) <= 1 else lines


def _target(name: str, proxy: str, context: ssl.SSLContext) -> Target:
    def connect(seconds: float) -> ModelClient:
        return RestClient(proxy, "", seconds, context)

    def metrics(path: str) -> str:
        with RestClient(proxy, "", _METRICS_SECONDS, context) as found:
            return found.metrics(path)

    return Target(name, connect, metrics)


def _name(pod: Mapping[str, Any]) -> str:
    return str(pod["metadata"]["name"])


def _is_ready(pod: Mapping[str, Any]) -> bool:
    conditions = pod.get("status", {}).get("conditions") or ()
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def _condition(deployment: Mapping[str, Any], pods: Sequence[Mapping[str, Any]], ready: int) -> tuple[str, str]:
    """The state of a Deployment in the words of PAI-EAS, and why it is not running."""
    wanted = int(deployment["spec"].get("replicas", 1))
    status = deployment.get("status", {})
    if wanted == 0 and not pods:
        return "Stopped", "Scaled to no pods"
    seen = status.get("observedGeneration") == deployment["metadata"].get("generation")
    if seen and ready >= wanted and status.get("updatedReplicas", 0) >= wanted and len(pods) == wanted:
        return "Running", ""
    said = [text for pod in pods if (text := _trouble(pod))]
    failed = [
        str(each.get("message", ""))
        for each in status.get("conditions") or ()
        if (each["type"], each["status"]) in (("Progressing", "False"), ("ReplicaFailure", "True"))
    ]
    message = "; ".join(dict.fromkeys([*failed, *said])) or f"[{ready}/{wanted}] pods are ready"
    return ("Failed" if failed else "Updating" if ready else "Waiting"), message


def _trouble(pod: Mapping[str, Any]) -> str:
    status = pod.get("status", {})
    for each in status.get("containerStatuses") or ():
        if waiting := each.get("state", {}).get("waiting"):
            return ": ".join(str(part) for part in (waiting.get("reason"), waiting.get("message")) if part)
    for each in status.get("conditions") or ():
        if (each["type"], each["status"]) == ("PodScheduled", "False"):
            return ": ".join(str(part) for part in (each.get("reason"), each.get("message")) if part)
    return ""


def _address(namespace: str, name: str, services: Sequence[Mapping[str, Any]]) -> str:
    """Where clients reach it: its load balancer, or its name in the cluster."""
    for each in services:
        if (each["metadata"]["namespace"], each["metadata"]["name"]) == (namespace, name):
            for given in each.get("status", {}).get("loadBalancer", {}).get("ingress") or ():
                return f"http://{given.get('ip') or given.get('hostname')}:{HTTP_PORT}"
    return f"http://{name}.{namespace}:{HTTP_PORT}"


def _place(namespace: str, pod: Mapping[str, Any], container: Mapping[str, Any], path: str) -> str:
    """Where a file of a container lies; empty where no ConfigMap is mounted there."""
    volumes = {each["name"]: each["configMap"]["name"] for each in pod.get("volumes") or () if "configMap" in each}
    for mount in container.get("volumeMounts") or ():
        inside = posixpath.relpath(path, mount["mountPath"])
        if mount["name"] in volumes and not inside.startswith(".."):
            return f"configmap://{namespace}/{volumes[mount['name']]}/{inside}"
    return ""


def _mounted(
    namespace: str,
    pod: Mapping[str, Any],
    container: Mapping[str, Any],
    maps: Mapping[tuple[str, str], Mapping[str, Any]],
    path: str,
) -> str:
    """A file of a container.

    Raises:
        FileNotFoundError: no ConfigMap has it.
    """
    if place := _place(namespace, pod, container, path):
        _, name, key = place.removeprefix("configmap://").split("/", 2)
        text = (maps.get((namespace, name), {}).get("data") or {}).get(key)
        if text is not None:
            return str(text)
    raise FileNotFoundError(f"There is no {path} in what the service has mounted.")


def _events(namespace: str, names: set[str], events: Sequence[Mapping[str, Any]]) -> list[Happening]:
    found = []
    for each in events:
        about = each.get("involvedObject", {})
        own = str(about.get("name", ""))
        if about.get("namespace") != namespace or not (own in names or own.rpartition("-")[0] in names):
            continue
        when = each.get("lastTimestamp") or each.get("eventTime") or each["metadata"].get("creationTimestamp") or ""
        message = " ".join(str(each.get("message", "")).split())
        found.append(Happening(when, str(each.get("type", "")), str(each.get("reason", "")), message, own))
    return sorted(found, key=lambda each: each.time, reverse=True)[:_EVENTS]


def _seconds(text: str) -> float:
    return float(calendar.timegm(time.strptime(text[:19], "%Y-%m-%dT%H:%M:%S")))
