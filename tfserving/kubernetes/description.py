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
from tfserving.model_sets import DEFAULT_FILE, Choice, ModelChoice
from tfserving.options import ACCESS, PLACE, SERVED, START, option
from tfserving.schedule import Schedule

DEFAULT_IMAGE = "tensorflow/serving:2.19.1"
"""The stock image; ``-gpu`` is appended for services that ask for a GPU."""

SERVER = "/usr/bin/tensorflow_model_server"
"""The program itself. The image's entry script is a shell that stays in front of it and passes no signal on."""

GRPC_PORT = 8500
HTTP_PORT = 8501

CONFIG_FILE_NAME = DEFAULT_FILE
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
        scheme: ``https``, or ``http`` for a loopback endpoint.
        role_name: RAM role that pods take through RRSA: no key in the cluster.
        secret_name: Secret in the service's namespace with ``akId`` and ``akSecret``, where there is no role.
        endpoint: OSS as the nodes reach it.
        fuse_type: ``ossfs2`` is made for reading large files.
        mount_options: further options of the client (``-o attr_timeout=5``).
        claim: a PersistentVolumeClaim that exists; then nothing else is used.
    """

    bucket: str = option("", configured=False)
    root: str = option("", configured=False)
    scheme: Literal["https", "http"] = option("https", configured=False)
    role_name: str = ""
    secret_name: str = ""
    endpoint: str = option("", unit="`host[:port]`", otherwise="the region's internal one")
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
        cpu: average CPU use aimed for, of the request.
        memory: average memory use aimed for, of the request.
        pods: averages per pod of metrics that an adapter supplies, such as ``{requests: "200"}``.
        scale_down_stabilization_seconds: how long a lower target must hold.
    """

    min: int
    max: int
    cpu: int | None = option(None, unit="percent")
    memory: int | None = option(None, unit="percent")
    pods: tuple[PodMetric, ...] = option((), written=Mapping[str, str])
    scale_down_stabilization_seconds: int = 300


@dataclass(frozen=True, kw_only=True)
class LoadBalancer:
    """The Classic Load Balancer of a service, by the annotations of Alibaba Cloud's cloud controller manager.

    Attributes:
        address_type: inside the VPC, or on the internet. TensorFlow Serving asks nobody who they are.
        spec: size, ``slb.s1.small`` and so on.
        id: a load balancer that exists, instead of a new one.
        force_override_listeners: change listeners that a load balancer named by ``id`` has already.
        vswitch_id: vSwitch of the address, with ``intranet``.
        protocol_ports: protocol of a listener by port: ``tcp``, ``http`` or ``https``.
        certificate_id: certificate of an ``https`` listener.
        acl_id: access control list.
        source_ranges: address blocks that are let in.
        annotations: further annotations, by full name.
    """

    address_type: Literal["intranet", "internet"] = "intranet"
    spec: str = option("", otherwise="ACK's")
    id: str = ""
    force_override_listeners: bool = False
    vswitch_id: str = ""
    protocol_ports: Mapping[int, str] = option(factory=dict, otherwise="`tcp`")
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
        tls_secret: Secret with the certificate; without one the controller finds it by the host (``alb`` only).
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
        config_map: ConfigMap with the model config file that services of the stack share, with ``rollout: poll``.
        config_file_name: name of that file in the ConfigMap.
        config: with ``rollout: restart``, what the config file says: part of the pod template.
        uses_labels: the config file maps version labels.
        metrics_path: path of the metrics, for the scrape annotations.
        model: serve this one model.
        model_path: directory of ``model`` below the volume's root; empty: its name.
        model_name: the name of that model in requests.
        config_file: serve several models, as a model config file says.
        models: with a config file: only these models: names, or a mapping in which ``policy`` and ``labels`` of a model
            may be others than its own.
        rollout: ``poll``: in place, no pod restarts. ``restart``: a new ConfigMap and a rolling update per change.
        config_poll_seconds: with ``rollout: poll``, how often TensorFlow Serving reads the config file.
        allow_labels_for_unavailable_versions: required with labels, as on EAS
            (``--allow_version_labels_for_unavailable_models``).
        mount_path: where ``<modelRoot>`` is mounted, read-only.
        volume: where models come from, for this service only.
        image: a tag that moves is refused.
        image_pull_secrets: Secrets for a private registry.
        flags: further flags of TensorFlow Serving, without dashes.
        batching: as on EAS.
        monitoring: as on EAS; adds the scrape annotations.
        env: environment variables.
        run_as_user: user id of the process; ``image`` leaves it to the image (the stock image: root).
        startup_seconds: how long models may take to load.
        pool: the GPU node pool the pods run on.
        node_selector: further labels of nodes the pods may run on.
        tolerations: taints of nodes the pods may run on.
        gpu: whole cards per pod, ``nvidia.com/gpu``.
        gpu_memory: slice of a card per pod, ``aliyun.com/gpu-mem``. With ``gpuSharing: share`` nothing isolates memory,
            so ``--per_process_gpu_memory_fraction`` is set to the slice.
        gpu_core_percentage: share of a card's computing power, 1 to 100, with ``gpu_sharing`` ``core_mem``.
        gpu_sharing: how the nodes share cards, for nodes of somebody else.
        gpu_card_memory: memory of a card, for nodes of somebody else.
        cpu: requested per pod.
        memory: per pod, requested and limit.
        replicas: number of pods; excludes ``autoscaler`` and ``schedule``.
        autoscaler: HorizontalPodAutoscaler.
        schedule: numbers of pods by the clock; excludes ``autoscaler``. Before the first job runs there is one pod.
        spread: spread pods over zones and nodes where possible.
        max_surge: extra pods during an update; a share is written ``"25%"``. Without a free card for one more pod:
            ``maxSurge: 0``, ``maxUnavailable: 1``.
        max_unavailable: pods that may be missing during an update.
        disruption_budget: pods that may be missing while nodes are drained; ``false``: no budget.
        priority_class: priority class of the pods.
        service_account: service account of the pods. No token is mounted.
        expose: inside the cluster, by pod addresses, or by a load balancer. Ports are 8500 (``grpc``) and 8501
            (``http``).
        load_balancer: its settings, with ``expose: loadBalancer``.
        headless: a second, headless Service for client-side balancing of gRPC.
        ingress: an Ingress that balances gRPC by request.
        drain_seconds: how long a pod answers after it has left the Service.
        labels: further labels of all objects.
        annotations: further annotations of the pods.
    """

    name: str = option(configured=False)
    namespace: str = option("default", configured=False)
    region: str = option(configured=False)
    config_map: str = option(DEFAULT_CONFIG_MAP, configured=False)
    config_file_name: str = option(DEFAULT_FILE, configured=False)
    config: ModelServerConfig | None = option(None, configured=False)
    uses_labels: bool = option(False, configured=False)
    metrics_path: str = option("/monitoring/prometheus/metrics", configured=False)

    model: str = option("", topic=SERVED)
    model_path: str = option("", configured=False)
    model_name: str = option("", otherwise="`model`'s")
    config_file: bool = False
    models: Mapping[str, Choice] = option(
        factory=dict, written=tuple[str, ...] | Mapping[str, ModelChoice], otherwise="all models"
    )
    rollout: Rollout = "poll"
    config_poll_seconds: int = 10
    allow_labels_for_unavailable_versions: bool = False
    mount_path: str = "/models"
    volume: ModelVolume = option(otherwise="the cluster's")

    image: str = option(
        "", otherwise=f"`{DEFAULT_IMAGE}`, with `-gpu` where a GPU is asked for", topic=START, late="registry/{}:late"
    )
    image_pull_secrets: tuple[str, ...] = ()
    flags: Mapping[str, FlagValue] = field(default_factory=dict)
    batching: str = option("", written=Mapping[str, Any])
    monitoring: str = option("", written=bool | Mapping[str, Any])
    env: Mapping[str, str] = option(factory=dict, late="{}")
    run_as_user: int | None = option(1000, also=("image",))
    startup_seconds: int = 600

    pool: GpuNodePoolSpec | None = option(None, written=str, topic=PLACE)
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Toleration, ...] | None = option(None, otherwise="those that `pool` needs")
    gpu: int = 0
    gpu_memory: int = option(0, unit="GiB")
    gpu_core_percentage: int = option(0, unit="percent")
    gpu_sharing: GpuSharing | Literal[""] = option("", otherwise="what `pool` says")
    gpu_card_memory: int = option(0, unit="GiB", otherwise="what `pool` says")
    cpu: float = option(1, unit="CPUs")
    memory: int = option(2048, unit="MiB")
    replicas: int | None = option(None, otherwise="1")
    autoscaler: PodAutoscaler | None = None
    schedule: Schedule | None = None
    spread: bool = True
    max_surge: int | str = 1
    max_unavailable: int | str = 0
    disruption_budget: int | str | None = option(1, also=(False,))
    priority_class: str = option("", otherwise="the cluster's")
    service_account: str = option("", otherwise="the namespace's")

    expose: Expose = option("cluster", topic=ACCESS)
    load_balancer: LoadBalancer | None = None
    headless: bool = False
    ingress: GrpcIngress | None = None
    drain_seconds: int = 30
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
    if spec.schedule and spec.schedule.jobs:
        return spec.schedule.least
    return 1 if spec.replicas is None else spec.replicas


def most_pods(spec: KubernetesServingSpec) -> int:
    """How many pods there can be, updates aside."""
    if spec.schedule and spec.schedule.jobs:
        return spec.schedule.most
    return spec.autoscaler.max if spec.autoscaler else fewest_pods(spec)


def config_file_path(spec: KubernetesServingSpec) -> str:
    """Where TensorFlow Serving finds its config file in the container."""
    return posixpath.join(CONFIG_DIR, spec.config_file_name if spec.rollout == "poll" else CONFIG_FILE_NAME)


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
        flags["model_base_path"] = posixpath.join(spec.mount_path, spec.model_path or spec.model)
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
