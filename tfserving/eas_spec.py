"""What a TensorFlow Serving service on PAI-EAS is: a typed description, and its nested service JSON.

A :class:`ServiceSpec` holds every choice a stack can make about one service. :func:`validate` names everything wrong
with it, :func:`build` turns it into the JSON that the EAS API takes, and :func:`drift` compares such JSON with what the
API stores later.

Sources of the rules: Alibaba Cloud's pages on JSON deployment, storage mounts, GPU slicing, automatic scaling and gRPC
for EAS, its page on TensorFlow Serving in EAS, the EAS OpenAPI 2021-07-01, and the entry point of TensorFlow Serving's
image. Names in problems are those of the stack config (camelCase).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

DEFAULT_IMAGE = "tensorflow-serving:2.14.1"
"""EAS's own image, the version its TensorFlow Serving page uses."""

DEFAULT_INSTANCE_TYPE = "ecs.c7.large"
"""Public resources, 2 vCPUs and 4 GiB: for a service that names no instance type, no CPU and no resource group."""

HTTP_PORT = 8501
GRPC_PORT = 8500

Deployment = Literal["scenario", "custom"]
FlagValue = str | int | float | bool


@dataclass(frozen=True, kw_only=True)
class InstanceType:
    """One instance type of a service, tried in the order given.

    Attributes:
        type: ECS or ``ml.`` instance type (``ecs.gn6i-c4g1.xlarge``).
        spot_price_limit: highest price paid, USD per hour; its presence asks for spot capacity.
        capacity: the most replicas on this type: a number, or a share such as ``"20%"``.
    """

    type: str
    spot_price_limit: float | None = None
    capacity: int | str | None = None


@dataclass(frozen=True, kw_only=True)
class Vpc:
    """The VPC a service joins with one network interface per replica.

    Attributes:
        vpc_id: ``vpc-...``.
        vswitch_ids: at least one ``vsw-...``; each replica, and each surge replica, takes an address there.
        security_group_id: ``sg-...``.
    """

    vpc_id: str
    vswitch_ids: tuple[str, ...]
    security_group_id: str


@dataclass(frozen=True, kw_only=True)
class ScaleMetric:
    """One target of the autoscaler.

    Attributes:
        name: ``qps``, ``qps1k``, ``cpu``, ``memory``, ``gpu`` or ``gpu[util]``.
        threshold: the value per replica that the autoscaler aims for: requests per second, or percent.
    """

    name: str
    threshold: float


@dataclass(frozen=True, kw_only=True)
class Autoscaler:
    """Horizontal autoscaling, set by an API call of its own and not in the service JSON.

    Attributes:
        min: fewest replicas; 0 lets an idle service stop (cold starts).
        max: most replicas, at most 1000.
        metrics: at least one target.
        scale_up_stabilization_seconds: how long a higher target must hold; ``None`` leaves it to EAS (0).
        scale_down_stabilization_seconds: how long a lower target must hold; ``None`` leaves it to EAS (300).
        scale_to_zero_grace_seconds: idle time before the last replica goes; ``None`` leaves it to EAS (600).
    """

    min: int
    max: int
    metrics: tuple[ScaleMetric, ...]
    scale_up_stabilization_seconds: int | None = None
    scale_down_stabilization_seconds: int | None = None
    scale_to_zero_grace_seconds: int | None = None


@dataclass(frozen=True, kw_only=True)
class RollingStrategy:
    """How replicas are replaced when the service JSON changes.

    Attributes:
        max_surge: extra replicas during an update: a number, or a share such as ``"50%"``.
        max_unavailable: replicas that may be missing during an update: a number, or a share.
    """

    max_surge: int | str = 1
    max_unavailable: int | str = 0


@dataclass(frozen=True, kw_only=True)
class Probe:
    """One health check of the container, with Kubernetes semantics.

    Attributes:
        kind: ``http`` (200 to 399 is healthy), ``tcp`` (the port opens) or ``exec`` (exit status 0).
        path: for ``http``, an absolute path.
        port: for ``http`` and ``tcp``; ``None`` is the service's port.
        command: for ``exec``, the argument list.
        initial_delay_seconds: wait before the first check.
        period_seconds: time between checks.
        timeout_seconds: time a check may take.
        success_threshold: checks in a row that make it healthy.
        failure_threshold: checks in a row that make it unhealthy.
    """

    kind: Literal["http", "tcp", "exec"]
    path: str = "/"
    port: int | None = None
    command: tuple[str, ...] = ()
    initial_delay_seconds: int = 5
    period_seconds: int = 10
    timeout_seconds: int = 5
    success_threshold: int = 1
    failure_threshold: int = 3


@dataclass(frozen=True, kw_only=True)
class HealthChecks:
    """The health checks of a service; ``None`` leaves one out.

    Attributes:
        startup: holds the other checks back until it succeeds once; the container is restarted if it never does.
        liveness: the container is restarted when it fails.
        readiness: the replica gets no requests while it fails.
    """

    startup: Probe | None = None
    liveness: Probe | None = None
    readiness: Probe | None = None


@dataclass(frozen=True, kw_only=True)
class ServiceSpec:
    """Everything about one EAS service that ends up in its service JSON or its autoscaler.

    Attributes:
        name: service name, unique per region, ``^[a-z][a-z0-9_]{2,62}$``.
        region: region of the service (``cn-hangzhou``); short image names are resolved there.
        bucket: OSS bucket with the models.
        root: key prefix of the model directories (``models/tf_serving/``), with or without the trailing slash.
        bucket_region: region of the bucket; empty means the service's.
        deployment: ``scenario`` (EAS's TensorFlow Serving form: port 8501, no flags) or ``custom``.
        model: single model: the name of its directory under ``root``. Empty with ``config_file``.
        model_name: single model, custom: the name in request paths; empty is TF Serving's image default, ``model``.
        config_file: several models: serve what the config file under ``root`` lists.
        config_file_name: name of that file under ``root``.
        uses_labels: the config file maps version labels (``stable``, ``canary``).
        image: custom: short EAS image (``tensorflow-serving:2.14.1``) or a full image URI.
        port: the one port the service is reached by; ``None`` is 8500 with ``grpc``, else 8501.
        grpc: the service speaks gRPC instead of HTTP.
        mount_path: where ``root`` is mounted in the container.
        config_poll_seconds: how often TF Serving re-reads the config file; 0 is once, at start.
        allow_labels_for_unavailable_versions: ``--allow_version_labels_for_unavailable_models``.
        flags: further TF Serving flags by name, without dashes.
        command: own start command instead of TF Serving's entry point; a single command, no shell.
        script: own start script instead of TF Serving's entry point, run by ``/bin/sh``.
        batching_parameters_file: path in the container; also turns batching on. Empty: no batching.
        monitoring_config_file: path in the container. Empty: no Prometheus metrics.
        replicas: replica count; ``None`` is 1, or the autoscaler's minimum.
        cpu: vCPUs per replica, together with ``memory``; ``None`` leaves it to the instance type.
        memory: MB per replica.
        instance_types: instance types of public resources, in order of preference.
        disable_spot_protection: give up the first hour in which a spot instance is not reclaimed.
        gpu: whole GPUs per replica.
        gpu_memory: GPU slicing: GPU memory per replica in GB. Only on a resource group.
        gpu_core_percentage: GPU slicing: share of the card's computing power, 1 to 100.
        gpu_card_memory: memory of the whole card in GB, where known: TF Serving is then told its share.
        resource: id of a dedicated resource group (``eas-r-...``).
        vpc: VPC the service joins.
        gateway: id of a dedicated gateway (``gw-...``); empty is the shared gateway.
        autoscaler: horizontal autoscaling.
        rolling_strategy: how replicas are replaced; ``None`` leaves it to EAS.
        health_checks: ``None`` is a set that fits TF Serving; ``HealthChecks()`` is none at all.
        startup_seconds: how long the models may take to load before the default startup check gives up.
        env: environment variables of the container.
        rpc_keepalive_ms: the most time one request may take, in milliseconds.
        workspace_id: PAI workspace; empty leaves it to EAS.
        token: fixed access token; empty lets EAS make one. Never shown.
        labels: labels of the service.
        extra_config: raw service JSON merged over everything else (see :func:`build`).
    """

    name: str
    region: str
    bucket: str
    root: str = ""
    bucket_region: str = ""
    deployment: Deployment = "custom"
    model: str = ""
    model_name: str = ""
    config_file: bool = False
    config_file_name: str = "model_config.pbtxt"
    uses_labels: bool = False
    image: str = DEFAULT_IMAGE
    port: int | None = None
    grpc: bool = False
    mount_path: str = "/models"
    config_poll_seconds: int = 0
    allow_labels_for_unavailable_versions: bool = False
    flags: Mapping[str, FlagValue] = field(default_factory=dict)
    command: str = ""
    script: str = ""
    batching_parameters_file: str = ""
    monitoring_config_file: str = ""
    replicas: int | None = None
    cpu: int | None = None
    memory: int | None = None
    instance_types: tuple[InstanceType, ...] = ()
    disable_spot_protection: bool = False
    gpu: int = 0
    gpu_memory: int = 0
    gpu_core_percentage: int = 0
    gpu_card_memory: int = 0
    resource: str = ""
    vpc: Vpc | None = None
    gateway: str = ""
    autoscaler: Autoscaler | None = None
    rolling_strategy: RollingStrategy | None = None
    health_checks: HealthChecks | None = None
    startup_seconds: int = 600
    env: Mapping[str, str] = field(default_factory=dict)
    rpc_keepalive_ms: int = 60_000
    workspace_id: str = ""
    token: str = field(default="", repr=False)
    labels: Mapping[str, str] = field(default_factory=dict)
    extra_config: Mapping[str, Any] = field(default_factory=dict)
