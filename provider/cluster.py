"""A Kubernetes cluster as a rollout needs it: one ConfigMap to write, and pods that answer through the API server.

Every pod is asked by itself (``pods/proxy``), so what is proven is proven of each replica, and whoever may change the
stack can prove it, without an address of the service and from outside the cluster's network. Rights needed in the
namespace: ``get``, ``create``, ``patch``, ``delete`` of ``configmaps``; ``list`` of ``pods``; ``get`` of ``pods/proxy``
and ``pods/log``; to say why a pod is not ready ``list`` of ``events``, too.
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import yaml

from provider.clients import IMPORTS, READ_SECONDS, Event, one_line
from tfserving.client import RestClient
from tfserving.contract.parts import ClusterInputs
from tfserving.errors import CloudError
from tfserving.hosts import is_loopback
from tfserving.kubeconfig import is_content
from tfserving.kubernetes import HTTP_PORT

T = TypeVar("T")

FIELD_MANAGER = "tf-serving-rollout"
_PODS_TOLD, _EVENTS, _LOG_LINES = 3, 5, 5
_LABELS = {"app.kubernetes.io/name": "tensorflow-serving", "app.kubernetes.io/managed-by": "pulumi"}


class UnusableKubeconfigError(CloudError):
    """The kubeconfig cannot be read, or a program that it names does not run."""


class NoNamespaceError(CloudError):
    """What is to be written belongs into a namespace that does not exist."""


@dataclass(frozen=True)
class Pods:
    """The pods of one service.

    Attributes:
        namespace: their namespace.
        selector: their labels.
        config_map: only those that mount this ConfigMap; empty: all.
    """

    namespace: str
    selector: Mapping[str, str]
    config_map: str = ""

    @property
    def label_selector(self) -> str:
        """As the API takes it."""
        return ",".join(f"{key}={value}" for key, value in sorted(self.selector.items()))


def readers_of(config_map: str) -> Pods:
    """The pods of this project that mount a ConfigMap, by ``namespace/name``."""
    namespace, _, name = config_map.partition("/")
    return Pods(namespace, {"app.kubernetes.io/name": _LABELS["app.kubernetes.io/name"]}, name)


@dataclass(frozen=True)
class Pod:
    """One pod that is not on its way out.

    Attributes:
        namespace: its namespace.
        name: its name.
        ready: it takes requests.
        config_maps: ConfigMaps it mounts.
        command: its containers' commands and arguments.
        trouble: why it is not ready, in the cluster's words (``ImagePullBackOff: ...``); empty where it does not say.
        made: when it was created, ISO 8601.
    """

    namespace: str
    name: str
    ready: bool
    config_maps: frozenset[str]
    command: str = ""
    trouble: str = ""
    made: str = ""


class ClusterApi:
    """The API server of one cluster, through the official client.

    Args:
        kubeconfig: path or content; empty: ``KUBECONFIG``, then ``~/.kube/config``.
        context: context of the kubeconfig; empty: its current one.
    """

    def __init__(self, kubeconfig: str, context: str) -> None:
        self._kubeconfig = kubeconfig
        self._context = context
        self._lock = threading.Lock()
        self._made: Any = None

    @classmethod
    def of(cls, inputs: ClusterInputs) -> ClusterApi:
        """The cluster that a resource's inputs name."""
        return cls(inputs.kubeconfig or "", inputs.kube_context or "")

    def config_map(self, name: str) -> ConfigMap:
        """A ConfigMap by ``namespace/name``, whether there is one or not."""
        namespace, _, own = name.partition("/")
        return ConfigMap(self, namespace, own)

    def pods(self, pods: Pods) -> list[Pod]:
        """The pods of a service by name, without those that are being removed."""
        found = self._pods(pods.namespace, pods.label_selector)
        return [pod for pod in found if not pods.config_map or pods.config_map in pod.config_maps]

    def readers(self, config_map: str) -> list[Pod]:
        """The pods of this project that mount a ConfigMap, by ``namespace/name``."""
        return self.pods(readers_of(config_map))

    def connect(self, pod: Pod, seconds: float) -> RestClient:
        """A client for one pod's HTTP port, through the API server.

        Args:
            pod: the pod.
            seconds: how long an answer may take.
        """
        settings = self._api.api_client.configuration
        path = f"/api/v1/namespaces/{pod.namespace}/pods/{pod.name}:{HTTP_PORT}/proxy"
        context = ssl.create_default_context(cafile=settings.ssl_ca_cert)
        if not settings.verify_ssl:  # the kubeconfig says insecure-skip-tls-verify
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if settings.cert_file:
            context.load_cert_chain(settings.cert_file, settings.key_file)
        token = settings.get_api_key_with_prefix("authorization") or ""
        return RestClient(f"{settings.host.rstrip('/')}{path}", token, seconds, context)

    def log_tail(self, pod: Pod, count: int, seconds: float = 0) -> list[str]:
        """The newest lines of a pod's log, oldest first; with ``seconds``, none that are older than that."""
        options = {"since_seconds": max(1, round(seconds))} if seconds else {}

        def read() -> str:
            return str(
                self._api.read_namespaced_pod_log(
                    pod.name, pod.namespace, tail_lines=count, _request_timeout=READ_SECONDS, **options
                )
            )

        return self.call(f"read the log of pod {pod.namespace}/{pod.name}", read).splitlines()

    def events(self, pod: Pod, count: int) -> list[Event]:
        """The newest events of a pod, oldest first."""

        def read() -> Any:
            selector = f"involvedObject.name={pod.name}"
            return self._api.list_namespaced_event(
                pod.namespace, field_selector=selector, _request_timeout=READ_SECONDS
            )

        found = self.call(f"read the events of pod {pod.namespace}/{pod.name}", read).items
        # Times are missing in some; those keep the order in which they are listed.
        found.sort(key=lambda event: str(event.last_timestamp or event.event_time or ""))
        return [
            Event(
                _time(each.last_timestamp or each.event_time),
                f"{each.type}",
                f"{each.reason}",
                one_line(each.message or ""),
            )
            for each in found[-count:]
        ]

    def story(self, pods: Iterable[Pod]) -> list[str]:
        """Why pods are not ready: state, newest events and log lines of each of the first few."""
        lines: list[str] = []
        for pod in [pod for pod in pods if not pod.ready][:_PODS_TOLD]:
            lines.append(f"pod {pod.name}: {pod.trouble or 'not ready'}")
            asked: tuple[tuple[str, Callable[[Pod, int], Iterable[Any]], int], ...] = (
                ("event", self.events, _EVENTS),
                ("log", self.log_tail, _LOG_LINES),
            )
            for title, ask, count in asked:
                try:
                    lines += [f"  {title}: {line}" for each in ask(pod, count) if (line := str(each).strip())]
                except CloudError as error:
                    # A container that never ran has no log, which its state says better.
                    if error.code != "400":
                        lines.append(f"  {title}: not available: {error}")
        return lines

    def call(self, what: str, call: Callable[[], T]) -> T:
        """One call; whatever it raises becomes a CloudError that starts with ``what``."""
        with IMPORTS:
            from kubernetes.client.exceptions import ApiException
            from urllib3.exceptions import HTTPError

        try:
            return call()
        except ApiException as error:
            raise CloudError(f"cannot {what}: {_reason(error)}", str(error.status)) from None
        except (HTTPError, OSError) as error:
            reason = one_line(error, "is the cluster running? .venv/bin/python -m sandbox kube start")
            raise CloudError(f"cannot {what}: no answer from the API server: {reason}") from None

    @property
    def objects(self) -> Any:
        """The official client's ``CustomObjectsApi``."""
        with IMPORTS:
            from kubernetes import client

        return client.CustomObjectsApi(self._api.api_client)

    @property
    def api(self) -> Any:
        """The official client's ``CoreV1Api``."""
        return self._api

    @property
    def _api(self) -> Any:
        with self._lock:
            if self._made is None:
                self._made = self._load()
            return self._made

    def _load(self) -> Any:
        with IMPORTS:
            from kubernetes import client, config

        load: Any = config  # untyped
        options: dict[str, Any] = {"context": self._context or None, "persist_config": False}
        try:
            if is_content(self._kubeconfig):
                loaded = load.new_client_from_config_dict(yaml.safe_load(self._kubeconfig), **options)
            else:
                loaded = load.new_client_from_config(self._kubeconfig or None, **options)
        except Exception as error:  # whatever is wrong with the file, and with programs that it names
            shown = "the kubeconfig" if is_content(self._kubeconfig) else self._kubeconfig or "the default kubeconfig"
            raise UnusableKubeconfigError(f"{shown} cannot be used: {one_line(error)}") from None
        if is_loopback(str(loaded.configuration.host).partition("://")[2].rpartition(":")[0].strip("[]")):
            loaded.configuration.proxy = None
        return client.CoreV1Api(loaded)

    def _pods(self, namespace: str, selector: str) -> list[Pod]:
        def listed() -> Any:
            return self._api.list_namespaced_pod(namespace, label_selector=selector, _request_timeout=READ_SECONDS)

        found = self.call(f"list pods in namespace {namespace}", listed).items
        return sorted(
            (
                Pod(
                    namespace,
                    str(item.metadata.name),
                    any(
                        condition.type == "Ready" and condition.status == "True"
                        for condition in item.status.conditions or ()
                    ),
                    frozenset(volume.config_map.name for volume in item.spec.volumes or () if volume.config_map),
                    " ".join(
                        word for each in item.spec.containers for word in [*(each.command or ()), *(each.args or ())]
                    ),
                    _trouble(item.status),
                    _time(item.metadata.creation_timestamp),
                )
                for item in found
                if item.metadata.deletion_timestamp is None
            ),
            key=lambda pod: pod.name,
        )


def _time(when: Any) -> str:
    return f"{when:%Y-%m-%dT%H:%M:%SZ}" if when else ""


def _trouble(status: Any) -> str:
    """What a pod's status says against it."""
    conditions = status.conditions or ()
    found = [_reasoned(each) for each in conditions if each.type == "PodScheduled" and each.status == "False"]
    for container in [*(status.init_container_statuses or ()), *(status.container_statuses or ())]:
        state, last = container.state, container.last_state
        if state is not None and state.waiting is not None:
            found.append(_reasoned(state.waiting))
        ended = next((each.terminated for each in (state, last) if each is not None and each.terminated), None)
        if ended is not None and not container.ready:
            found.append(f"{ended.reason or 'ended'} with status {ended.exit_code}")
    if not found and status.reason:
        found.append(_reasoned(status))  # Evicted and its kin
    return "; ".join(found) or (f"it is {status.phase}" if status.phase else "")


def _reasoned(part: Any) -> str:
    return ": ".join(str(word) for word in (part.reason, part.message and one_line(part.message)) if word)


class ConfigMap:
    """Texts in one ConfigMap: what :class:`provider.oss.Bucket` is for small objects."""

    def __init__(self, cluster: ClusterApi, namespace: str, name: str) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._name = name

    def uri(self, key: str) -> str:
        """How a message names one text."""
        return f"configmap://{self._namespace}/{self._name}/{key}"

    def get_text(self, key: str) -> str | None:
        """A text, or None where there is no such ConfigMap, or no such key in it."""
        found = self._read()
        return None if found is None else (found.data or {}).get(key)

    def age(self, key: str) -> float | None:
        """Seconds since the ConfigMap was changed, by the API server's own clock; None where that does not tell."""
        api = self._cluster.api

        def read() -> Any:
            return api.read_namespaced_config_map_with_http_info(
                self._name, self._namespace, _request_timeout=READ_SECONDS
            )

        try:
            found, _, headers = self._call("read", read)
        except CloudError as error:
            if error.code == "404":
                return None
            raise
        changed = [entry.time for entry in found.metadata.managed_fields or () if entry.time is not None]
        now = headers.get("Date")
        return float((parsedate_to_datetime(now) - max(changed)).total_seconds()) if changed and now else None

    def put_text(self, key: str, text: str, *, new_only: bool = False) -> None:
        """Write a text in one request; with ``new_only``, one that is there is an error ``FileAlreadyExists``."""
        found = self._read()
        if found is not None and new_only and key in (found.data or {}):
            raise CloudError(f"{self.uri(key)} exists already", "FileAlreadyExists")
        api, options = self._cluster.api, {"field_manager": FIELD_MANAGER, "_request_timeout": READ_SECONDS}
        if found is None:
            body = {"metadata": {"name": self._name, "labels": _LABELS}, "data": {key: text}}
            try:
                self._call("create", lambda: api.create_namespaced_config_map(self._namespace, body, **options))
            except CloudError as error:
                if error.code == "409":
                    raise CloudError(str(error), "FileAlreadyExists") from None
                if error.code == "404":
                    self.check_namespace()
                raise
        else:
            change = {"data": {key: text}}
            self._call(
                "change", lambda: api.patch_namespaced_config_map(self._name, self._namespace, change, **options)
            )

    def check_namespace(self) -> None:
        """See that its namespace is there, as far as one may look.

        Raises:
            NoNamespaceError: it is not.
        """
        api = self._cluster.api
        try:
            self._call(
                "read the namespace of", lambda: api.read_namespace(self._namespace, _request_timeout=READ_SECONDS)
            )
        except CloudError as error:
            if error.code == "404":
                raise NoNamespaceError(
                    f"tf-serving:kubernetes.namespace: there is no namespace {self._namespace} in the cluster. "
                    f"Fix: kubectl create namespace {self._namespace}, or name one that is there",
                    error.code,
                ) from None
            if error.code != "403":
                raise

    def delete(self, _keys: list[str]) -> None:
        """Remove the ConfigMap. It is fine if there is none."""
        api = self._cluster.api
        try:
            self._call(
                "remove",
                lambda: api.delete_namespaced_config_map(self._name, self._namespace, _request_timeout=READ_SECONDS),
            )
        except CloudError as error:
            if error.code != "404":
                raise

    def _read(self) -> Any:
        api = self._cluster.api
        try:
            return self._call(
                "read",
                lambda: api.read_namespaced_config_map(self._name, self._namespace, _request_timeout=READ_SECONDS),
            )
        except CloudError as error:
            if error.code == "404":
                return None
            raise

    def _call(self, verb: str, call: Callable[[], T]) -> T:
        return self._cluster.call(f"{verb} ConfigMap {self._namespace}/{self._name}", call)


def _reason(error: Any) -> str:
    """The API server's own words."""
    try:
        message = yaml.safe_load(error.body)["message"]
    except (yaml.YAMLError, KeyError, TypeError, AttributeError):
        message = error.reason
    hint = " (the identity of the kubeconfig lacks this right)" if error.status == 403 else ""
    return f"{error.status}: {one_line(message)}{hint}"
