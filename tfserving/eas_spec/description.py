"""The typed description of one EAS service, and what follows from it."""

from __future__ import annotations

import math
import posixpath
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from tfserving.flags import FlagValue, Parsed, parse, render
from tfserving.model_sets import DEFAULT_FILE, Choice, ModelChoice
from tfserving.options import ACCESS, PLACE, SERVED, START, option
from tfserving.schedule import Schedule

DEFAULT_IMAGE = "tensorflow-serving:2.14.1"
"""EAS's own image, the version its TensorFlow Serving page uses."""

DEFAULT_INSTANCE_TYPE = "ecs.c7.large"
"""Public resources, 2 vCPUs and 4 GiB: for a service that names no instance type, no CPU and no resource group."""

HTTP_PORT = 8501
GRPC_PORT = 8500

ENTRYPOINT = "/usr/bin/tf_serving_entrypoint.sh"
"""What the image starts, with ports 8500 and 8501 and ``model`` at ``/models/model``; flags of ours follow."""

IMAGE_MODEL_NAME = "model"
IMAGE_BASE_PATH = "/models/model"

SCENARIO_LABEL = "tf-serving-deployment"
"""Label that marks a scenario deployment in the service JSON (see :func:`build`)."""

_PROGRAMS = ("tf_serving_entrypoint.sh", "tensorflow_model_server")

Deployment = Literal["scenario", "custom"]


@dataclass(frozen=True, kw_only=True)
class InstanceType:
    """One instance type of a service, tried in the order given.

    Attributes:
        type: ``ecs....`` or ``ml....``; ``dedicated_resource`` is the resource group, to burst from.
        spot_price_limit: asks for spot capacity, at most at this price.
        capacity: the most replicas on this type; a share is written ``"20%"``.
    """

    type: str
    spot_price_limit: float | None = option(None, unit="USD per hour")
    capacity: int | str | None = None


@dataclass(frozen=True, kw_only=True)
class Vpc:
    """The VPC a service joins with one network interface per replica.

    Attributes:
        vpc_id: ``vpc-...``.
        vswitch_ids: ``vsw-...``; each replica, and each surge replica, takes an address there.
        security_group_id: ``sg-...``.
    """

    vpc_id: str = option(late="vpc-{}")
    vswitch_ids: tuple[str, ...] = option(written=tuple[str, ...] | str, late="vsw-{}")
    security_group_id: str = option(late="sg-{}")


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
        min: fewest replicas; 0: an idle service stops; not with a dedicated gateway.
        max: most replicas, up to 1000.
        metrics: targets per replica: ``qps``, ``qps1k``, ``cpu``, ``memory``, ``gpu``, ``gpu[util]``.
        scale_up_stabilization_seconds: how long a higher target must hold.
        scale_down_stabilization_seconds: how long a lower target must hold.
        scale_to_zero_grace_seconds: idle time before the last replica goes.
    """

    min: int
    max: int
    metrics: tuple[ScaleMetric, ...] = option(written=Mapping[str, float])
    scale_up_stabilization_seconds: int | None = option(None, least=0, otherwise="EAS's (0)")
    scale_down_stabilization_seconds: int | None = option(None, least=0, otherwise="EAS's (300)")
    scale_to_zero_grace_seconds: int | None = option(None, least=0, otherwise="EAS's (600)")


@dataclass(frozen=True, kw_only=True)
class RollingStrategy:
    """How replicas are replaced when the service JSON changes.

    Attributes:
        max_surge: extra replicas during the update; a share is written ``"50%"``.
        max_unavailable: replicas that may be missing during the update.
    """

    max_surge: int | str = 1
    max_unavailable: int | str = 0


@dataclass(frozen=True, kw_only=True)
class Probe:
    """One health check of the container, with Kubernetes semantics.

    Attributes:
        kind: status 200 to 399; the port opens; exit status 0.
        path: ``http`` only: an absolute path.
        command: ``exec`` only: the argument list.
        port: ``http`` and ``tcp`` only.
        initial_delay_seconds: wait before the first check.
        period_seconds: time between checks.
        timeout_seconds: time a check may take.
        success_threshold: checks in a row that make it healthy; more than 1 only for ``readiness``.
        failure_threshold: checks in a row that make it unhealthy.
    """

    kind: Literal["http", "tcp", "exec"]
    path: str = "/"
    command: tuple[str, ...] = option((), otherwise="required for `exec`")
    port: int | None = option(None, otherwise="the service's")
    initial_delay_seconds: int = 5
    period_seconds: int = 10
    timeout_seconds: int = 5
    success_threshold: int = 1
    failure_threshold: int = 3


@dataclass(frozen=True, kw_only=True)
class HealthChecks:
    """The health checks of a service; ``None`` leaves one out.

    Attributes:
        startup: holds the others back until it succeeds once; the container is restarted if it never does.
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
        config_file_name: name of the model config file under ``root``.
        uses_labels: the config file maps version labels (``stable``, ``canary``).
        group: service group that it is made in; empty for none.
        batching_parameters_file: path in the container; also turns batching on. Empty: no batching.
        monitoring_config_file: path in the container. Empty: no Prometheus metrics.
        deployment: ``scenario`` is EAS's TensorFlow Serving form: port 8501, no flags.
        model: serve this one model; with a start command of your own that starts TensorFlow Serving: the model it
            serves, so that it is proven.
        model_path: directory of ``model`` below ``root``; empty: its name.
        model_name: custom: the model's name in requests (``--model_name``); without it ``model``.
        config_file: serve several models, as a model config file says.
        models: with a config file: only these models: names, or a mapping in which ``policy`` and ``labels`` of a model
            may be others than its own.
        config_poll_seconds: custom: how often the file is read again; 0 is once, at start, so that each change restarts
            the replicas.
        allow_labels_for_unavailable_versions: custom: required with labels. TensorFlow Serving checks labels before it
            loads anything, so without it a replica that restarts would not start.
        mount_path: where ``<modelRoot>`` is mounted, read-only; the same for all services with the config file.
        image: EAS's own image (``tensorflow-serving:X.Y.Z``, ``-gpu`` for GPUs), or a full image URI. Tag or digest,
            never ``latest``.
        port: the one port the service is reached by; not 8080 and 9090, which EAS reserves.
        grpc: sets the three things gRPC needs on EAS: port 8500, ``metadata.enable_grpc``, ``networking.path: "/"``.
        flags: further flags of TensorFlow Serving, without dashes; refused where the image is too old for one.
        command: your own start command: one command, no shell.
        script: your own start script, run by ``/bin/sh``; excludes ``command``.
        env: environment variables.
        health_checks: ``false`` is none at all; a mapping replaces the default checks.
        startup_seconds: how long models may take to load before the default startup check gives up.
        instance_types: several, in order of preference; excludes ``instanceType``.
        disable_spot_protection: give up the first hour in which a spot instance is not reclaimed.
        resource: dedicated resource group, ``eas-r-...``; needs ``cpu`` and ``memory``.
        cpu: per replica; goes with ``memory``, excludes instance types.
        memory: per replica.
        gpu: whole GPUs per replica.
        gpu_memory: a slice of a GPU; on resource groups only, excludes ``gpu``.
        gpu_core_percentage: computing power of the slice, 1 to 100; needs ``gpu_memory``.
        gpu_card_memory: memory of the whole card: TensorFlow Serving is told its share by
            ``--per_process_gpu_memory_fraction``.
        replicas: number of replicas; excludes ``autoscaler`` and ``schedule``.
        autoscaler: horizontal autoscaling.
        schedule: numbers of replicas by the clock; before the first job runs, the largest of them.
        rolling_strategy: how replicas are replaced when the service itself changes.
        vpc: the VPC it joins; each replica takes an address of the vSwitch.
        gateway: dedicated gateway, ``gw-...``; needs ``vpc``.
        workspace_id: PAI workspace.
        token: fixed access token; a secret value, refused in the clear.
        rpc_keepalive_ms: the most time one request may take; 0 leaves it to EAS.
        labels: labels of the service, not of versions.
        extra_config: service JSON merged over everything else, last.
    """

    name: str = option(configured=False)
    region: str = option(configured=False)
    bucket: str = option(configured=False)
    root: str = option("", configured=False)
    bucket_region: str = option("", configured=False)
    config_file_name: str = option(DEFAULT_FILE, configured=False)
    uses_labels: bool = option(False, configured=False)
    group: str = option("", configured=False)
    batching_parameters_file: str = option("", configured=False)
    monitoring_config_file: str = option("", configured=False)

    deployment: Deployment = option("custom", otherwise="required", topic=SERVED)
    model: str = ""
    model_path: str = option("", configured=False)
    model_name: str = ""
    config_file: bool = False
    models: Mapping[str, Choice] = option(
        factory=dict, written=tuple[str, ...] | Mapping[str, ModelChoice], otherwise="all models"
    )
    config_poll_seconds: int = 0
    allow_labels_for_unavailable_versions: bool = False
    mount_path: str = "/models"

    image: str = option(DEFAULT_IMAGE, topic=START, late="registry/{}:late")
    port: int | None = option(None, otherwise="8500 with `grpc`, else 8501")
    grpc: bool = False
    flags: Mapping[str, FlagValue] = field(default_factory=dict)
    command: str = ""
    script: str = ""
    env: Mapping[str, str] = option(factory=dict, late="{}")
    health_checks: HealthChecks | None = option(
        None, key="healthCheck", also=(False,), otherwise="fits TensorFlow Serving"
    )
    startup_seconds: int = 600

    instance_types: tuple[InstanceType, ...] = option((), written=tuple[InstanceType | str, ...], topic=PLACE)
    disable_spot_protection: bool = False
    resource: str = option("", late="eas-r-{}")
    cpu: int | None = option(None, unit="vCPUs")
    memory: int | None = option(None, unit="MB")
    gpu: int = 0
    gpu_memory: int = option(0, unit="GB")
    gpu_core_percentage: int = option(0, unit="percent")
    gpu_card_memory: int = option(0, unit="GB")
    replicas: int | None = option(None, otherwise="1")
    autoscaler: Autoscaler | None = None
    schedule: Schedule | None = None
    rolling_strategy: RollingStrategy | None = option(None, otherwise="EAS's")
    vpc: Vpc | None = None
    gateway: str = option("", otherwise="shared gateway", late="gw-{}")
    workspace_id: str = option("", otherwise="EAS's", late="{}")

    token: str = option("", secret=True, otherwise="EAS makes one", topic=ACCESS, late="{}")
    rpc_keepalive_ms: int = 60_000
    labels: Mapping[str, str] = option(factory=dict, late="{}")
    extra_config: Mapping[str, Any] = option(factory=dict, late="{}")


def runs_tf_serving(spec: ServiceSpec) -> bool:
    """Whether the container is started by TensorFlow Serving's own entry point, with the flags of this description."""
    return spec.deployment == "scenario" or not (spec.command or spec.script)


def answers_as_tf_serving(spec: ServiceSpec) -> bool:
    """Whether TensorFlow Serving answers: started by its own entry point, or by a start command of one's own."""
    return runs_tf_serving(spec) or own_flags(spec) is not None


def service_port(spec: ServiceSpec) -> int:
    """The one port the service is reached by."""
    if spec.port is not None:
        return spec.port
    return GRPC_PORT if spec.grpc else HTTP_PORT


def image_uri(image: str, region: str) -> str:
    """The full URI of an image: a name without a registry is one of EAS's own images, in the region's registry."""
    if "/" in image:
        return image
    return f"eas-registry-vpc.{region}.cr.aliyuncs.com/pai-eas/{image}"


def model_name(spec: ServiceSpec) -> str:
    """The name by which requests address the model of a single-model service.

    A scenario deployment always serves ``model``; so does TensorFlow Serving's entry point without ``--model_name``.
    A start command of one's own is asked for its ``--model_name``.
    """
    if spec.deployment == "scenario":
        return IMAGE_MODEL_NAME
    own = own_flags(spec)
    if own is not None and "model_name" in own.values:
        return str(own.values["model_name"])
    return spec.model_name or IMAGE_MODEL_NAME


def model_directory(spec: ServiceSpec) -> str:
    """Directory of the one model of a service, below the root."""
    return spec.model_path or spec.model


def mount_path(spec: ServiceSpec) -> str:
    """Where the model files are mounted in the container, without a trailing slash."""
    if spec.deployment == "scenario" and not spec.config_file:
        return IMAGE_BASE_PATH
    return spec.mount_path.rstrip("/")


def config_file_path(spec: ServiceSpec) -> str:
    """Where TensorFlow Serving finds its config file in the container."""
    return posixpath.join(spec.mount_path, spec.config_file_name)


def oss_uri(spec: ServiceSpec) -> str:
    """What is mounted: the directory of all models, or for a scenario deployment of one model that directory."""
    key = spec.root.strip("/")
    if spec.deployment == "scenario" and not spec.config_file:
        key = f"{key}/{model_directory(spec)}" if key else model_directory(spec)
    return f"oss://{spec.bucket}/{key}/" if key else f"oss://{spec.bucket}/"


def config_file_polls(spec: ServiceSpec) -> int:
    """Seconds between two looks at the config file; 0 where it is read once, at start.

    A start command of one's own says it itself.
    """
    own = own_flags(spec)
    return spec.config_poll_seconds if own is None else int(own.values.get("model_config_file_poll_wait_seconds", 0))


def gpu_memory_fraction(spec: ServiceSpec) -> float | None:
    """The share of a sliced GPU's memory this service may take, rounded down; ``None`` where the card is not known.

    Without it TensorFlow takes nearly all memory of the card it sees, its neighbours' slices included.
    """
    if not 0 < spec.gpu_memory <= spec.gpu_card_memory:
        return None
    return math.floor(spec.gpu_memory / spec.gpu_card_memory * 1000) / 1000


def tf_serving_flags(spec: ServiceSpec) -> dict[str, FlagValue]:
    """All flags the entry point is given, those that follow from the description first."""
    if not runs_tf_serving(spec):
        return {}
    flags: dict[str, FlagValue] = {}
    if spec.config_file:
        flags["model_config_file"] = config_file_path(spec)
    if spec.deployment == "scenario":
        return flags
    if spec.config_file:
        if spec.config_poll_seconds:
            flags["model_config_file_poll_wait_seconds"] = spec.config_poll_seconds
        if spec.allow_labels_for_unavailable_versions:
            flags["allow_version_labels_for_unavailable_models"] = True
    else:
        base_path = posixpath.join(spec.mount_path, model_directory(spec))
        if spec.model_name:
            flags["model_name"] = spec.model_name
        if spec.model_name not in ("", IMAGE_MODEL_NAME) or base_path != IMAGE_BASE_PATH:
            flags["model_base_path"] = base_path
    if spec.batching_parameters_file:
        flags["enable_batching"] = True
        flags["batching_parameters_file"] = spec.batching_parameters_file
    if spec.monitoring_config_file:
        flags["monitoring_config_file"] = spec.monitoring_config_file
    fraction = gpu_memory_fraction(spec)
    if fraction is not None:
        flags["per_process_gpu_memory_fraction"] = fraction
    return flags | {name: spec.flags[name] for name in sorted(spec.flags)}


def start_command(spec: ServiceSpec) -> str:
    """What starts the container, as one line of shell (or the script of one's own, as it is)."""
    if not runs_tf_serving(spec):
        return spec.command or spec.script
    return shlex.join([ENTRYPOINT, *render(tf_serving_flags(spec))])


def own_flags(spec: ServiceSpec) -> Parsed | None:
    """The flags in a start command of one's own that starts TensorFlow Serving; ``None`` for any other start.

    In a script only what TensorFlow Serving would understand counts: the rest of the line may be the shell's.
    """
    if spec.deployment == "scenario":
        return None
    lines = [spec.command] if spec.command else spec.script.replace("\\\n", " ").splitlines()
    for line in lines:
        try:
            words = shlex.split(line, comments=bool(spec.script))
        except ValueError:
            continue
        programs = [i for i, word in enumerate(words) if posixpath.basename(word) in _PROGRAMS]
        if spec.command and programs[:1] == [0]:
            return parse(words[1:], "command")
        if spec.script and programs:
            return Parsed(parse(words[programs[0] + 1 :], "script").values, ())
    return None
