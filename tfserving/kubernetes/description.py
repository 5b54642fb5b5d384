"""The typed description of TensorFlow Serving on a Kubernetes cluster, and what follows from it."""

from __future__ import annotations

import hashlib
import math
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from tfserving import model_config
from tfserving.flags import FlagValue, render
from tfserving.kubernetes.names import Toleration
from tfserving.kubernetes.node_pool import POOL_LABEL, GpuNodePoolSpec, GpuSharing, cards
from tfserving.model_config import ModelServerConfig
from tfserving.options import option

DEFAULT_IMAGE = "tensorflow/serving:2.19.1"
"""The stock image; ``-gpu`` is appended for services that ask for a GPU."""

SERVER = "/usr/bin/tensorflow_model_server"
"""The program itself. The image's entry script is a shell that stays in front of it and passes no signal on."""

GRPC_PORT = 8500
HTTP_PORT = 8501

CONFIG_FILE_NAME = "model_config.pbtxt"
CONFIG_DIR = "/etc/tf-serving/config"
"""Where the ConfigMap with the model config file is mounted: a directory, since a subPath never sees an update."""

FILES_DIR = "/etc/tf-serving/files"
"""Where the ConfigMap with the files read at start is mounted."""

BATCHING_FILE = "batching.pbtxt"
MONITORING_FILE = "monitoring.pbtxt"

GPU_RESOURCE = "nvidia.com/gpu"
GPU_MEMORY_RESOURCE = "aliyun.com/gpu-mem"
GPU_CORE_RESOURCE = "aliyun.com/gpu-core.percentage"

DEFAULT_CONFIG_MAP = "tf-serving-model-config"

Expose = Literal["cluster", "headless", "loadBalancer"]
Rollout = Literal["poll", "restart"]
FuseType = Literal["ossfs2", "ossfs"]


@dataclass(frozen=True, kw_only=True)
class ModelVolume:
    """Where the models come from: OSS, mounted read-only by the CSI driver of ACK.

    Attributes:
        bucket: OSS bucket.
        root: key prefix of the model directories, with or without slashes around it.
        endpoint: ``host[:port]`` of OSS as the nodes reach it; empty: the region's internal endpoint.
        scheme: ``https``, or ``http`` for a loopback endpoint.
        role_name: RAM role taken through the cluster's OIDC provider (RRSA).
        secret_name: Secret in the service's namespace with ``akId`` and ``akSecret``, where there is no role.
        fuse_type: ``ossfs2``, made for reading large files, or ``ossfs``.
        mount_options: further options of the client (``-o attr_timeout=5``).
        claim: name of a PersistentVolumeClaim that exists; then nothing else is used.
    """

    bucket: str = option("", configured=False)
    root: str = option("", configured=False)
    endpoint: str = ""
    scheme: Literal["https", "http"] = option("https", configured=False)
    role_name: str = ""
    secret_name: str = ""
    fuse_type: FuseType = "ossfs2"
    mount_options: str = ""
    claim: str = ""


@dataclass(frozen=True, kw_only=True)
class PodMetric:
    """A target of the autoscaler that a metrics adapter of the cluster supplies per pod.

    Attributes:
        name: name of the metric.
        average: the average over all pods that is aimed for, a Kubernetes quantity (``"200"``, ``"500m"``).
    """

    name: str
    average: str


@dataclass(frozen=True, kw_only=True)
class PodAutoscaler:
    """A HorizontalPodAutoscaler.

    Attributes:
        min: fewest pods, at least 1.
        max: most pods.
        cpu: average CPU use aimed for, percent of the request; ``None`` does not look at it.
        memory: average memory use aimed for, percent of the request; ``None`` does not look at it.
        pods: metrics of an adapter.
        scale_down_stabilization_seconds: how long a lower target must hold.
    """

    min: int
    max: int
    cpu: int | None = None
    memory: int | None = None
    pods: tuple[PodMetric, ...] = option((), written=Mapping[str, str])
    scale_down_stabilization_seconds: int = 300


@dataclass(frozen=True, kw_only=True)
class LoadBalancer:
    """The Classic Load Balancer of a service, by the annotations of Alibaba Cloud's cloud controller manager.

    Attributes:
        address_type: ``intranet`` (inside the VPC) or ``internet``. TensorFlow Serving itself asks nobody who they are.
        spec: size, ``slb.s1.small`` and so on; empty leaves it to ACK.
        id: a load balancer that exists, instead of a new one.
        force_override_listeners: change listeners that a load balancer named by ``id`` has already.
        vswitch_id: vSwitch of the address, with ``intranet``.
        protocol_ports: protocol of a listener by port: ``tcp`` (the default of all), ``http`` or ``https``.
        certificate_id: certificate of an ``https`` listener.
        acl_id: access control list.
        source_ranges: CIDR blocks that are let in.
        annotations: further annotations, by full name.
    """

    address_type: Literal["intranet", "internet"] = "intranet"
    spec: str = ""
    id: str = ""
    force_override_listeners: bool = False
    vswitch_id: str = ""
    protocol_ports: Mapping[int, str] = field(default_factory=dict)
    certificate_id: str = ""
    acl_id: str = ""
    source_ranges: tuple[str, ...] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class GrpcIngress:
    """An Ingress that balances gRPC by request, not by connection. gRPC needs HTTP/2 and so, at an ingress, TLS.

    Attributes:
        host: host name.
        ingress_class: ``alb`` or ``nginx``.
        tls_secret: Secret with the certificate; empty: the controller finds one for the host (``alb`` only).
        annotations: further annotations, by full name.
    """

    host: str
    ingress_class: str = option("alb", key="class")
    tls_secret: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class KubernetesServingSpec:
    """Everything about one TensorFlow Serving deployment on a cluster.

    Attributes:
        name: name of the objects, a DNS label of at most 45 characters.
        namespace: namespace of the objects; it exists.
        region: region of the cluster and the bucket.
        volume: where the models come from.
        model: single model: the name of its directory.
        model_name: single model: the name in requests; empty is ``model``'s.
        config_file: several models: serve what a model config file lists.
        config_map: ConfigMap with the model config file that the services of the stack share, with ``rollout: poll``.
        config: with ``rollout: restart``, what the config file says: part of the pod template.
        rollout: ``poll``: TensorFlow Serving reads a changed ConfigMap again, no pod restarts. ``restart``: each change
            is a new ConfigMap and a rolling update.
        uses_labels: the config file maps version labels.
        image: pinned image; empty is the stock image, with GPU support where a GPU is asked for.
        image_pull_secrets: Secrets for a private registry.
        mount_path: where the models are mounted.
        config_poll_seconds: with ``rollout: poll``, how often TensorFlow Serving reads the config file.
        allow_labels_for_unavailable_versions: ``--allow_version_labels_for_unavailable_models``.
        flags: further flags by name, without dashes.
        batching: text of the batching parameters file; empty: no batching.
        monitoring: text of the monitoring config file; empty: no metrics.
        metrics_path: path of the metrics, for the scrape annotations.
        replicas: number of pods; ``None`` is 1, or the autoscaler's business.
        autoscaler: HorizontalPodAutoscaler.
        cpu: CPUs requested per pod.
        memory: memory per pod in MiB, requested and limit.
        gpu: whole cards per pod.
        gpu_memory: slice of a card per pod in GiB.
        gpu_core_percentage: share of a card's computing power, 1 to 100, with ``gpu_sharing`` ``core_mem``.
        gpu_sharing: how the nodes share cards, where ``pool`` does not say so.
        gpu_card_memory: memory of a card in GiB, where ``pool`` does not say so.
        pool: the GPU node pool the pods run on.
        node_selector: further labels of nodes the pods may run on.
        tolerations: ``None``: those that the pool's taints need.
        spread: spread pods over zones and nodes where possible.
        run_as_user: user id of the process; ``None`` leaves it to the image (the stock image: root).
        service_account: service account; empty is the namespace's default. No token is mounted.
        priority_class: priority class; empty is the cluster's default.
        expose: how the service is reached: inside the cluster, by pod addresses, or by a load balancer.
        load_balancer: its settings, with ``expose`` ``loadBalancer``.
        headless: a second, headless Service for client-side balancing of gRPC.
        ingress: an Ingress for gRPC.
        startup_seconds: how long the models may take to load.
        drain_seconds: how long a pod goes on answering after it is taken out of the Service.
        max_surge: extra pods during an update, a number or a share such as ``"25%"``.
        max_unavailable: pods that may be missing during an update.
        disruption_budget: pods that may be missing while nodes are drained; ``None``: no budget.
        env: environment variables.
        labels: further labels of all objects.
        annotations: further annotations of the pods.
    """

    name: str = option(configured=False)
    namespace: str = option("default", configured=False)
    region: str = option(configured=False)
    volume: ModelVolume
    model: str = ""
    model_name: str = ""
    config_file: bool = False
    config_map: str = option(DEFAULT_CONFIG_MAP, configured=False)
    config: ModelServerConfig | None = option(None, configured=False)
    rollout: Rollout = "poll"
    uses_labels: bool = option(False, configured=False)
    image: str = ""
    image_pull_secrets: tuple[str, ...] = ()
    mount_path: str = "/models"
    config_poll_seconds: int = 10
    allow_labels_for_unavailable_versions: bool = False
    flags: Mapping[str, FlagValue] = field(default_factory=dict)
    batching: str = option("", written=Mapping[str, Any])
    monitoring: str = option("", written=bool | Mapping[str, Any])
    metrics_path: str = option("/monitoring/prometheus/metrics", configured=False)
    replicas: int | None = None
    autoscaler: PodAutoscaler | None = None
    cpu: float = option(1, unit="CPUs")
    memory: int = option(2048, unit="MiB")
    gpu: int = 0
    gpu_memory: int = option(0, unit="GiB")
    gpu_core_percentage: int = option(0, unit="percent")
    gpu_sharing: GpuSharing | Literal[""] = ""
    gpu_card_memory: int = option(0, unit="GiB")
    pool: GpuNodePoolSpec | None = option(None, written=str)
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Toleration, ...] | None = None
    spread: bool = True
    run_as_user: int | None = option(1000, also=("image",))
    service_account: str = ""
    priority_class: str = ""
    expose: Expose = "cluster"
    load_balancer: LoadBalancer | None = None
    headless: bool = False
    ingress: GrpcIngress | None = None
    startup_seconds: int = 600
    drain_seconds: int = 30
    max_surge: int | str = 1
    max_unavailable: int | str = 0
    disruption_budget: int | str | None = option(1, also=(False,))
    env: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)


def uses_gpu(spec: KubernetesServingSpec) -> bool:
    """Whether the pods ask for a card or a slice of one."""
    return spec.gpu > 0 or spec.gpu_memory > 0


def image(spec: KubernetesServingSpec) -> str:
    """The image of the container."""
    return spec.image or (f"{DEFAULT_IMAGE}-gpu" if uses_gpu(spec) else DEFAULT_IMAGE)


def model_name(spec: KubernetesServingSpec) -> str:
    """The name of a single model in requests."""
    return spec.model_name or spec.model


def gpu_sharing(spec: KubernetesServingSpec) -> str:
    """How the nodes share cards: what the pool says, or the service."""
    return spec.pool.gpu_sharing if spec.pool else spec.gpu_sharing


def card_memory(spec: KubernetesServingSpec) -> int:
    """Memory in GiB of the smallest card a pod can get; 0 where it is not known."""
    if spec.gpu_card_memory:
        return spec.gpu_card_memory
    known = cards(spec.pool) if spec.pool else []
    return known[0].memory if known else 0


def gpu_memory_fraction(spec: KubernetesServingSpec) -> float | None:
    """The share of the card that TensorFlow may take, rounded down; ``None`` where it sees no more than its slice.

    Mode ``share`` does not isolate memory: a pod sees the whole card, and TensorFlow takes nearly all of what it sees,
    the neighbours' slices included. In the other modes the slice is all there is.
    """
    card = card_memory(spec)
    if gpu_sharing(spec) != "share" or not 0 < spec.gpu_memory <= card:
        return None
    return math.floor(spec.gpu_memory / card * 1000) / 1000


def tolerations(spec: KubernetesServingSpec) -> tuple[Toleration, ...]:
    """The tolerations of the pods."""
    if spec.tolerations is not None:
        return spec.tolerations
    taints = spec.pool.taints if spec.pool else ()
    return tuple(Toleration(key=taint.key, value=taint.value, effect=taint.effect) for taint in taints)


def node_selector(spec: KubernetesServingSpec) -> dict[str, str]:
    """The labels of nodes the pods may run on."""
    pool = {POOL_LABEL: spec.pool.name} if spec.pool else {}
    return dict(sorted({**pool, **spec.node_selector}.items()))


def fewest_pods(spec: KubernetesServingSpec) -> int:
    """How many pods there are at least."""
    if spec.autoscaler:
        return spec.autoscaler.min
    return 1 if spec.replicas is None else spec.replicas


def most_pods(spec: KubernetesServingSpec) -> int:
    """How many pods there can be, updates aside."""
    return spec.autoscaler.max if spec.autoscaler else fewest_pods(spec)


def config_file_path(spec: KubernetesServingSpec) -> str:
    """Where TensorFlow Serving finds its config file in the container."""
    return posixpath.join(CONFIG_DIR, CONFIG_FILE_NAME)


def config_map_name(spec: KubernetesServingSpec) -> str:
    """The ConfigMap with the model config file: the stack's, or with ``rollout: restart`` one named by its content."""
    if spec.rollout == "poll" or spec.config is None:
        return spec.config_map
    return f"{spec.name}-config-{digest({CONFIG_FILE_NAME: model_config.render(spec.config)})}"


def start_files(spec: KubernetesServingSpec) -> dict[str, str]:
    """The files TensorFlow Serving reads at start besides its models, by name."""
    files = {BATCHING_FILE: spec.batching, MONITORING_FILE: spec.monitoring}
    return {name: text for name, text in files.items() if text}


def digest(data: Mapping[str, str]) -> str:
    """Ten characters that stand for the content of a ConfigMap."""
    text = "\0".join(f"{name}\0{data[name]}" for name in sorted(data))
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def tf_serving_flags(spec: KubernetesServingSpec) -> dict[str, FlagValue]:
    """All flags of the server, those that follow from the description first."""
    flags: dict[str, FlagValue] = {"port": GRPC_PORT, "rest_api_port": HTTP_PORT}
    if spec.config_file:
        flags["model_config_file"] = config_file_path(spec)
        if spec.rollout == "poll" and spec.config_poll_seconds:
            flags["model_config_file_poll_wait_seconds"] = spec.config_poll_seconds
        if spec.allow_labels_for_unavailable_versions:
            flags["allow_version_labels_for_unavailable_models"] = True
    else:
        flags["model_name"] = model_name(spec)
        flags["model_base_path"] = posixpath.join(spec.mount_path, spec.model)
    if spec.batching:
        flags["enable_batching"] = True
        flags["batching_parameters_file"] = posixpath.join(FILES_DIR, BATCHING_FILE)
    if spec.monitoring:
        flags["monitoring_config_file"] = posixpath.join(FILES_DIR, MONITORING_FILE)
    fraction = gpu_memory_fraction(spec)
    if fraction is not None:
        flags["per_process_gpu_memory_fraction"] = fraction
    return flags | {name: spec.flags[name] for name in sorted(spec.flags)}


def arguments(spec: KubernetesServingSpec) -> list[str]:
    """The container's arguments."""
    return render(tf_serving_flags(spec))


def ready_path(spec: KubernetesServingSpec) -> str:
    """A path that answers 200 only while a model can be asked; empty where no single path tells.

    The state of a model answers 200 even while every version fails; its metadata does not. With a config file that
    changes in place no model is named: adding or removing one must not restart the pods.
    """
    if not spec.config_file:
        return f"/v1/models/{model_name(spec)}/metadata"
    if spec.rollout == "restart" and spec.config is not None and spec.config.models:
        first = spec.config.models[0]
        label = f"/labels/{sorted(first.labels)[0]}" if first.labels else ""
        return f"/v1/models/{first.name}{label}/metadata"
    return ""
