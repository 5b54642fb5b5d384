"""What is wrong with a service before it is made: every rule, with the message a person reads."""

from __future__ import annotations

import math
import posixpath
import re
import shlex
from collections.abc import Mapping
from typing import Any

from tfserving import cloud_names, schedule, wire
from tfserving.eas_spec.description import (
    DEFAULT_INSTANCE_TYPE,
    GRPC_PORT,
    HTTP_PORT,
    IMAGE_BASE_PATH,
    IMAGE_MODEL_NAME,
    SCENARIO_LABEL,
    HealthChecks,
    ServiceSpec,
    config_file_path,
    config_file_polls,
    gpu_memory_fraction,
    model_directory,
    mount_path,
    own_flags,
    runs_tf_serving,
    service_port,
    tf_serving_flags,
)
from tfserving.eas_spec.service_json import are_objects, build
from tfserving.errors import Problem
from tfserving.flags import image_version
from tfserving.flags import validate as validate_flags
from tfserving.paths import clean_path
from tfserving.property_path import join_path
from tfserving.service_checks import (
    CONTROL,
    FLAG_KEYS,
    Checks,
    check_batching,
    check_bucket,
    check_environment,
    check_flag_keys,
    check_labels_at_start,
    check_labels_over_http,
    check_models,
    check_mount,
    check_slice_flag,
    check_slice_keys,
    is_amount,
    is_pinned,
)

_NAME = re.compile(r"[a-z][a-z0-9_]{2,62}")
_INSTANCE_TYPE = re.compile(r"(ecs|ml)\.[a-z0-9][a-z0-9._-]*|dedicated_resource")
_GPU_TYPE = re.compile(r"ecs\.(ebm|scc|v|s)*gn\d.*|ml\.g.*")
_RESERVED_PORTS = (8080, 9090)
_METRICS = ("qps", "qps1k", "cpu", "memory", "gpu", "gpu[util]")
_MAX_REPLICAS = 1000
_RESERVED_LABELS = (SCENARIO_LABEL, "managed-by", "pulumi-owner")


def validate(spec: ServiceSpec, path: str) -> list[Problem]:
    """Everything wrong with a service that can be known before it is made.

    Args:
        spec: the service.
        path: its place in the stack config (``tf-serving:services.multi_grpc``); problems are at keys below it.
    """
    checks = Checks(spec, path)
    _check_identity(checks)
    if spec.deployment == "scenario":
        _check_scenario(checks)
    _check_models(checks)
    _check_port(checks)
    _check_image(checks)
    _check_start(checks)
    _check_flags(checks)
    _check_labels(checks)
    _check_resources(checks)
    _check_gpu(checks)
    _check_network(checks)
    _check_scaling(checks)
    _check_probes(checks)
    _check_environment(checks)
    _check_extra_config(checks)
    return checks.problems


def warnings(spec: ServiceSpec) -> list[str]:
    """What will work, as far as is known, but is worth saying in a preview."""
    found = []
    gpu_types = [item.type for item in spec.instance_types if _GPU_TYPE.fullmatch(item.type)]
    if gpu_types and image_version(spec.image) and not _is_gpu_image(spec.image):
        found.append(
            f"image {spec.image} has no GPU support: the GPUs of {gpu_types[0]} stay idle; use {spec.image}-gpu"
        )
    if spec.deployment == "scenario" and spec.config_file and spec.uses_labels:
        found.append(
            "a scenario deployment cannot set allowLabelsForUnavailableVersions: "
            "that its version labels work rests on EAS"
        )
    if spec.instance_types and all(item.spot_price_limit is not None for item in spec.instance_types):
        found.append("all instance types are spot: all replicas can be reclaimed at the same time")
    if spec.config_file and runs_tf_serving(spec) and not spec.config_poll_seconds:
        found.append(
            "the config file is read once, at start: each change of it restarts the replicas one after the other"
        )
    if spec.vpc:
        surge = spec.rolling_strategy.max_surge if spec.rolling_strategy else 1
        sizes = [spec.replicas or 1, *([spec.autoscaler.max] if spec.autoscaler else [])]
        most = max(*sizes, spec.schedule.most if spec.schedule and spec.schedule.jobs else 1)
        extra = f" and {surge} more" if surge else ""
        found.append(f"each replica takes an address of the vSwitch: up to {most}{extra} during an update")
    return found


def _check_identity(checks: Checks[ServiceSpec]) -> None:
    spec = checks.spec
    if not _NAME.fullmatch(spec.name):
        close = re.sub(r"[^a-z0-9_]+", "_", spec.name.lower()).strip("_")[:63]
        fix = f"call it {close}" if _NAME.fullmatch(close) else ""
        allowed = "3 to 63 lower-case letters, digits and underscores, the first a letter"
        checks.refuse("", f"`{spec.name}` is not a service name", allowed, fix)
    if spec.deployment not in ("scenario", "custom"):
        checks.refuse("deployment", f"`{spec.deployment}` is not a way to deploy", "scenario, custom")
    if not cloud_names.REGION.fullmatch(spec.region):
        checks.refuse("region", f"`{spec.region}` is not a region", "a region id such as cn-hangzhou")
    check_bucket(checks, spec.bucket)
    if _is_bad_key(spec.root.strip("/")):
        checks.refuse("modelRoot", f"`{spec.root}` is not a directory in a bucket", "names separated by single slashes")
    if spec.bucket_region and spec.bucket_region != spec.region:
        checks.refuse(
            "bucket",
            f"bucket {spec.bucket} is in {spec.bucket_region}, the service in {spec.region}: EAS mounts no bucket of "
            "another region",
            spec.region,
        )


def _is_bad_key(key: str) -> bool:
    parts = key.split("/") if key else []
    return any(part in ("", ".", "..") for part in parts) or bool(CONTROL.search(key)) or "\\" in key


def _check_scenario(checks: Checks[ServiceSpec]) -> None:
    spec = checks.spec
    fix = "set deployment: custom"

    def refuse(key: str, message: str, allowed: str = "") -> None:
        checks.refuse(key, message, allowed, fix)

    if spec.grpc:
        refuse("grpc", "a scenario deployment does not speak gRPC; a custom deployment does", "false")
    if spec.port not in (None, HTTP_PORT):
        refuse(
            "port", f"a scenario deployment only has port {HTTP_PORT}; a custom deployment has others", str(HTTP_PORT)
        )
    not_configurable = "a scenario deployment takes no start parameters; a custom deployment does"
    for key, given in (
        ("flags", bool(spec.flags)),
        ("command", bool(spec.command)),
        ("script", bool(spec.script)),
        ("configPollSeconds", spec.config_poll_seconds != 0),
        ("allowLabelsForUnavailableVersions", spec.allow_labels_for_unavailable_versions),
        ("batching", bool(spec.batching_parameters_file)),
        ("monitoring", bool(spec.monitoring_config_file)),
        ("gpuCardMemory", spec.gpu_card_memory != 0),
    ):
        if given:
            refuse(key, not_configurable)
    if spec.model_name not in ("", IMAGE_MODEL_NAME):
        refuse("modelName", "in a scenario deployment the model is always called `model`; a custom deployment names it")
    if not spec.config_file and spec.mount_path.rstrip("/") not in ("/models", IMAGE_BASE_PATH):
        refuse("mountPath", f"a scenario deployment of one model mounts it at {IMAGE_BASE_PATH}")


def _check_models(checks: Checks[ServiceSpec]) -> None:
    spec = checks.spec
    check_models(checks)
    if spec.config_file:
        if not spec.config_file_name or _is_bad_key(spec.config_file_name):
            message = f"`{spec.config_file_name}` is not a file name under the model directory"
            checks.refuse("configFileName", message, "model_config.pbtxt")
        if not runs_tf_serving(spec) and own_flags(spec) is None:
            message = "the config file is for TensorFlow Serving, and this service starts something else"
            checks.refuse("configFile", message, "", "remove configFile, or the start command")
    else:
        if not spec.model and runs_tf_serving(spec):
            checks.refuse("model", "nothing to serve", "", "set model to one of the models, or configFile: true")
        for key, on in (
            ("configPollSeconds", spec.config_poll_seconds != 0),
            ("allowLabelsForUnavailableVersions", spec.allow_labels_for_unavailable_versions),
        ):
            if on and spec.deployment != "scenario":
                checks.refuse(
                    key, f"{key} is about the config file, which this service does not read", "", f"remove {key}"
                )
    checks.within("configPollSeconds", spec.config_poll_seconds, 0)
    _check_mount(checks, "mountPath", spec.mount_path)


def _check_mount(checks: Checks[ServiceSpec], key: str, directory: str) -> None:
    if directory.rstrip("/") != "/dev/shm":  # noqa: S108 - shared memory is mounted there, nothing is written
        check_mount(checks, key, directory)


def _check_port(checks: Checks[ServiceSpec]) -> None:
    spec = checks.spec
    port = service_port(spec)
    if spec.deployment == "scenario":
        return
    if port in _RESERVED_PORTS:
        checks.refuse("port", f"port {port} is reserved by EAS", f"{GRPC_PORT} for gRPC, {HTTP_PORT} for HTTP")
    elif not 1 <= port <= 65535:
        checks.refuse("port", f"`{port}` is not a port", "1 to 65535")
    elif not runs_tf_serving(spec):
        return
    elif spec.grpc and port != GRPC_PORT:
        checks.refuse("port", f"gRPC is on port {GRPC_PORT}, not {port}", str(GRPC_PORT), f"set port: {GRPC_PORT}")
    elif not spec.grpc and port == GRPC_PORT:
        checks.refuse("port", f"port {port} speaks gRPC", str(HTTP_PORT), f"set grpc: true, or port: {HTTP_PORT}")
    elif not spec.grpc and port != HTTP_PORT:
        checks.refuse("port", f"HTTP is on port {HTTP_PORT}, not {port}", str(HTTP_PORT), f"set port: {HTTP_PORT}")


def _is_gpu_image(image: str) -> bool:
    return image.partition("@")[0].endswith("-gpu")


def _check_image(checks: Checks[ServiceSpec]) -> None:
    spec = checks.spec
    image = spec.image
    allowed = "tensorflow-serving:X.Y.Z, tensorflow-serving:X.Y.Z-gpu, or a full image URI with a tag or digest"
    if not is_pinned(checks, image, allowed):
        return
    base = image.partition("@")[0].rpartition("/")[2].partition(":")[0]
    if runs_tf_serving(spec) and (("/" not in image and base != "tensorflow-serving") or "triton" in base):
        message = f"`{image}` is not TensorFlow Serving, and no start command is given"
        fix = "set deployment: custom with command or script, and port"
        checks.refuse("image", message, allowed, fix)
    if spec.uses_labels and not spec.grpc:
        check_labels_over_http(checks, image_version(image))


def _check_start(checks: Checks[ServiceSpec]) -> None:
    spec = checks.spec
    if spec.deployment == "scenario" or not (spec.command or spec.script):
        return
    if spec.command and spec.script:
        checks.refuse("script", "both command and script: a container is started by one of them", "", "remove one")
    if spec.command:
        _check_command(checks)
    own = own_flags(spec)
    if spec.port is None and own is None:
        message = "a start command of your own needs the port it listens on"
        checks.refuse("port", message, "1 to 65535, not 8080 or 9090", "set port")
    for key, given in (
        ("flags", bool(spec.flags)),
        ("modelName", bool(spec.model_name)),
        ("configPollSeconds", spec.config_poll_seconds != 0),
        ("allowLabelsForUnavailableVersions", spec.allow_labels_for_unavailable_versions),
        ("batching", bool(spec.batching_parameters_file)),
        ("monitoring", bool(spec.monitoring_config_file)),
        ("gpuCardMemory", spec.gpu_card_memory != 0),
    ):
        if given:
            message = f"{key} changes TensorFlow Serving's start command, and this service has one of its own"
            checks.refuse(key, message, "", "say it in the start command, or remove the start command")
    if own is not None:
        here = f"{checks.path}.{'command' if spec.command else 'script'}"
        if spec.config_file and clean_path(str(own.values.get("model_config_file", ""))) != config_file_path(spec):
            message = "configFile is set, and the start command does not name the file"
            checks.problems.append(Problem(here, message, "", f"add --model_config_file={config_file_path(spec)}"))
        started = clean_path(str(own.values.get("model_base_path", "")))
        named = posixpath.join(mount_path(spec), model_directory(spec))
        if spec.model and started and started != named:
            message = f"model is {spec.model}, and the start command serves {started}"
            checks.refuse("model", message, "", f"start it with --model_base_path={named}, or name the model it serves")
        checks.problems += [Problem(here, problem.message, problem.allowed, problem.fix) for problem in own.problems]
        checks.problems += validate_flags(own.values, service_port(spec), spec.grpc, image_version(spec.image), here)


def _check_command(checks: Checks[ServiceSpec]) -> None:
    command = checks.spec.command
    try:
        lexer = shlex.shlex(command, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words = list(lexer)
    except ValueError:
        checks.refuse("command", "a quote is not closed", "a single command")
        return
    operators = [word for word in words if set(word) <= set("();<>|&")]
    if not operators and re.search(r"[\n`]|\$[({A-Za-z_]", command):
        operators = ["shell syntax"]
    if operators:
        message = f"command is started without a shell, `{operators[0]}` would not work"
        checks.refuse("command", message, "a single command", "use script")


def _check_flags(checks: Checks[ServiceSpec]) -> None:
    spec = checks.spec
    if spec.deployment == "scenario" or not runs_tf_serving(spec):
        return
    check_flag_keys(checks, FLAG_KEYS)
    for name, given, key in (
        ("batching_parameters_file", spec.batching_parameters_file, "batching"),
        ("monitoring_config_file", spec.monitoring_config_file, "monitoring"),
    ):
        if given and name in spec.flags:
            checks.refuse(f"flags.{name}", f"--{name} is set by {key}", "", "remove one of them")
    if spec.batching_parameters_file:
        check_batching(checks)
    if spec.grpc and (spec.flags.get("ssl_config_file") or spec.flags.get("use_alts_credentials")):
        name = "ssl_config_file" if spec.flags.get("ssl_config_file") else "use_alts_credentials"
        message = f"--{name} encrypts the container's port, where EAS's gateway speaks plain HTTP/2"
        checks.refuse(f"flags.{name}", message, "", "remove it")
    # What keys of the stack config set has been looked at; the rest must go with it, on the port it has by nature.
    set_by_keys = {*FLAG_KEYS, *({"batching_parameters_file"} if spec.batching_parameters_file else ())}
    flags = {name: value for name, value in tf_serving_flags(spec).items() if name not in set_by_keys}
    flags |= {"model_config_file": config_file_path(spec)} if spec.config_file else {}
    port = GRPC_PORT if spec.grpc else HTTP_PORT
    checks.problems += validate_flags(flags, port, spec.grpc, image_version(spec.image), f"{checks.path}.flags")


def _check_labels(checks: Checks[ServiceSpec]) -> None:
    spec = checks.spec
    if spec.deployment == "scenario" or not spec.config_file:
        return
    own = own_flags(spec)
    allowed = spec.allow_labels_for_unavailable_versions
    polls = config_file_polls(spec)
    if own is not None:
        allowed = bool(own.values.get("allow_version_labels_for_unavailable_models"))
    command = "" if own is None else "command" if spec.command else "script"
    if not allowed:
        check_labels_at_start(checks, command)
    if spec.uses_labels and not polls:
        flag = "--model_config_file_poll_wait_seconds"
        checks.refuse(
            command or "configPollSeconds",
            "the config file has version labels, and is read only once: a label would not move without a restart",
            f"{flag}=1 or more" if command else "1 or more",
            f"add {flag}=30 to it" if command else "set configPollSeconds: 30",
        )


def _check_resources(checks: Checks[ServiceSpec]) -> None:
    spec = checks.spec
    checks.within("replicas", spec.replicas, 1)
    checks.within("cpu", spec.cpu, 1)
    checks.within("memory", spec.memory, 1)
    if (spec.cpu is None) != (spec.memory is None):
        missing = "memory" if spec.memory is None else "cpu"
        checks.refuse(missing, "cpu and memory go together", "", f"set {missing} too")
    if spec.memory is not None and 1 <= spec.memory < 256:
        checks.refuse("memory", f"memory is {spec.memory} MB per replica", "256 or more", "give it in MB")
    burst = any(item.type == "dedicated_resource" for item in spec.instance_types)
    if spec.instance_types and spec.cpu is not None and not burst:
        checks.refuse(
            "cpu", "an instance type has its own cpu and memory", "", "remove cpu and memory, or instanceTypes"
        )
    if spec.instance_types and spec.resource and not burst:
        message = "instance types are public resources, and this service runs on a resource group"
        fix = "remove one of them, or list dedicated_resource first to burst to public resources"
        checks.refuse("instanceTypes", message, "", fix)
    if spec.resource and not spec.resource.startswith("eas-r-"):
        checks.refuse("resource", f"`{spec.resource}` is not a resource group", "eas-r-...")
    if spec.resource and spec.cpu is None and not spec.instance_types:
        checks.refuse("cpu", "on a resource group each replica needs its cpu and memory", "", "set cpu and memory")
    for index, item in enumerate(spec.instance_types):
        here = f"instanceTypes[{index}]"
        if not _INSTANCE_TYPE.fullmatch(item.type):
            allowed = "ecs.<family>.<size>, ml.<...>"
            fix = f"write ecs.{item.type}" if _INSTANCE_TYPE.fullmatch(f"ecs.{item.type}") else ""
            checks.refuse(f"{here}.type", f"`{item.type}` is not an instance type", allowed, fix)
        if item.spot_price_limit is not None and not 0 < item.spot_price_limit < math.inf:
            message = f"`{item.spot_price_limit}` is not a price"
            checks.refuse(f"{here}.spotPriceLimit", message, "USD per hour, above 0")
        if item.capacity is not None and not is_amount(item.capacity, least=1):
            checks.refuse(
                f"{here}.capacity", f"`{item.capacity}` is not a capacity", 'a number from 1, or "1%" to "100%"'
            )
    if spec.disable_spot_protection and not any(item.spot_price_limit is not None for item in spec.instance_types):
        message = "there is no spot instance type whose protection could be given up"
        checks.refuse("disableSpotProtection", message, "", "remove it, or set spotPriceLimit")


def _check_gpu(checks: Checks[ServiceSpec]) -> None:
    spec = checks.spec
    checks.within("gpu", spec.gpu, 0)
    checks.within("gpuMemory", spec.gpu_memory, 0)
    if spec.gpu_memory and spec.gpu:
        message = f"gpuMemory asks for a slice, gpu: {spec.gpu} for whole cards, and EAS then ignores the slice"
        checks.refuse("gpuMemory", message, "", "remove one of them")
    if spec.gpu_memory and not spec.resource:
        message = "GPUs are sliced on resource groups only, not on public resources"
        checks.refuse("gpuMemory", message, "", "set resource: eas-r-..., or use whole GPUs")
    check_slice_keys(checks)
    if spec.gpu_memory > spec.gpu_card_memory > 0:
        message = f"a slice of {spec.gpu_memory} GB is larger than the card with {spec.gpu_card_memory} GB"
        checks.refuse("gpuMemory", message, f"1 to {spec.gpu_card_memory}")
    else:
        check_slice_flag(checks, gpu_memory_fraction(spec))
    types = [item.type for item in spec.instance_types if item.type != "dedicated_resource"]
    on_gpu = spec.gpu or spec.gpu_memory or spec.resource or any(_GPU_TYPE.fullmatch(name) for name in types)
    if runs_tf_serving(spec) and _is_gpu_image(spec.image) and not on_gpu:
        where = ", ".join(types) or ("cpu and memory" if spec.cpu is not None else DEFAULT_INSTANCE_TYPE)
        message = f"image {spec.image} needs a GPU, and {where} has none"
        checks.refuse("instanceTypes", message, "a GPU instance type such as ecs.gn6i-c4g1.xlarge")
    if (
        runs_tf_serving(spec)
        and (spec.gpu > 0 or spec.gpu_memory > 0)
        and image_version(spec.image)
        and not _is_gpu_image(spec.image)
    ):
        checks.refuse("image", f"image {spec.image} has no GPU support", f"{spec.image}-gpu")


def _check_network(checks: Checks[ServiceSpec]) -> None:
    spec = checks.spec
    if spec.vpc:
        for key, prefix, value in (
            ("vpc.vpcId", "vpc-", spec.vpc.vpc_id),
            ("vpc.securityGroupId", "sg-", spec.vpc.security_group_id),
            *(("vpc.vswitchIds", "vsw-", vswitch) for vswitch in spec.vpc.vswitch_ids or ("",)),
        ):
            if not value:
                message = "a VPC needs vpcId, vswitchIds and securityGroupId"
                checks.refuse(key, message, "", f"set {key.partition('.')[2]}")
            elif not re.fullmatch(rf"{prefix}[a-z0-9]+", value):
                checks.refuse(key, f"`{value}` is not an id of that kind", f"{prefix}...")
    if spec.gateway == "shared":
        checks.refuse(
            "gateway", "`shared` is not a gateway id", "gw-...", "remove gateway: the shared one is the default"
        )
    elif spec.gateway and not re.fullmatch(r"gw-[a-z0-9]+", spec.gateway):
        checks.refuse("gateway", f"`{spec.gateway}` is not a gateway id", "gw-...")
    elif spec.gateway and not spec.vpc:
        checks.refuse(
            "vpc",
            "a dedicated gateway reaches the service through its VPC, and none is given",
            "",
            "set vpc; for a gateway that needs none, set extraConfig.networking.gateway instead of gateway",
        )


def _check_schedule(checks: Checks[ServiceSpec]) -> None:
    spec = checks.spec
    if spec.schedule is None:
        return
    path = f"{checks.path}.schedule"
    checks.problems += schedule.problems(spec.schedule, path)
    if problem := schedule.zone_problem(spec.schedule.time_zone, f"{path}.timeZone"):
        checks.problems.append(problem)
    if spec.replicas is not None:
        message = f"the schedule sets the replica count, and replicas: {spec.replicas} does too"
        checks.refuse("replicas", message, "", "remove one of them")


def _check_scaling(checks: Checks[ServiceSpec]) -> None:
    spec = checks.spec
    scaler = spec.autoscaler
    _check_schedule(checks)
    if scaler:
        if spec.replicas is not None:
            message = f"the autoscaler sets the replica count, and replicas: {spec.replicas} does too"
            checks.refuse("replicas", message, "", "remove one of them")
        if scaler.min < 0 or scaler.max > _MAX_REPLICAS or scaler.min >= scaler.max:
            message = f"the autoscaler's bounds are {scaler.min} and {scaler.max}"
            checks.refuse("autoscaler", message, f"0 <= min < max <= {_MAX_REPLICAS}")
        if scaler.min == 0 and (spec.gateway or _at(spec.extra_config, "networking", "gateway")):
            checks.refuse("autoscaler.min", "min is 0, which EAS refuses with a dedicated gateway", "1 or more")
        if not scaler.metrics:
            message = "the autoscaler has nothing to follow"
            checks.refuse("autoscaler.metrics", message, ", ".join(_METRICS), "set a metric, such as qps: 10")
        for metric in scaler.metrics:
            here = join_path("autoscaler.metrics", metric.name)
            if metric.name not in _METRICS:
                checks.refuse(here, f"`{metric.name}` is not a metric", ", ".join(_METRICS))
            if not 0 < metric.threshold < math.inf:
                checks.refuse(here, f"`{metric.threshold}` is not a target", "above 0")
        for key, seconds in (
            ("scaleUpStabilizationSeconds", scaler.scale_up_stabilization_seconds),
            ("scaleDownStabilizationSeconds", scaler.scale_down_stabilization_seconds),
            ("scaleToZeroGraceSeconds", scaler.scale_to_zero_grace_seconds),
        ):
            checks.within(f"autoscaler.{key}", seconds, 0)
    rolling = spec.rolling_strategy
    if rolling:
        for key, amount in (("maxSurge", rolling.max_surge), ("maxUnavailable", rolling.max_unavailable)):
            if not is_amount(amount, least=0):
                checks.refuse(f"rollingStrategy.{key}", f"`{amount}` is not an amount", 'a number, or "0%" to "100%"')
        if {rolling.max_surge, rolling.max_unavailable} <= {0, "0%"}:
            message = "maxSurge and maxUnavailable are both 0: no replica could ever be replaced"
            checks.refuse("rollingStrategy", message, "", "set maxSurge: 1")


def _check_probes(checks: Checks[ServiceSpec]) -> None:
    spec = checks.spec
    checks.within("startupSeconds", spec.startup_seconds, 10)
    health = spec.health_checks or HealthChecks()
    for name, probe in (("startup", health.startup), ("liveness", health.liveness), ("readiness", health.readiness)):
        if probe is None:
            continue
        here = f"healthCheck.{name}"
        if probe.kind not in ("http", "tcp", "exec"):
            checks.refuse(here, f"`{probe.kind}` is not a kind of check", "http, tcp, exec")
        if probe.kind == "http" and (not probe.path.startswith("/") or CONTROL.search(probe.path)):
            checks.refuse(f"{here}.path", f"`{probe.path}` is not a path", "/...")
        if probe.kind == "http" and spec.grpc and runs_tf_serving(spec) and probe.port in (None, GRPC_PORT):
            checks.refuse(
                f"{here}.port", f"port {GRPC_PORT} does not speak HTTP", str(HTTP_PORT), f"set port: {HTTP_PORT}"
            )
        if probe.kind == "exec" and not probe.command:
            checks.refuse(f"{here}.command", "there is no command to run", "a list of words")
        checks.within(f"{here}.port", probe.port, 1, 65535)
        checks.within(f"{here}.initialDelaySeconds", probe.initial_delay_seconds, 0)
        checks.within(f"{here}.periodSeconds", probe.period_seconds, 1)
        checks.within(f"{here}.timeoutSeconds", probe.timeout_seconds, 1)
        checks.within(f"{here}.failureThreshold", probe.failure_threshold, 1)
        if probe.success_threshold != 1 and (name != "readiness" or probe.success_threshold < 1):
            allowed = "1 or more" if name == "readiness" else "1"
            checks.refuse(f"{here}.successThreshold", f"successThreshold is {probe.success_threshold}", allowed)


def _check_environment(checks: Checks[ServiceSpec]) -> None:
    spec = checks.spec
    check_environment(checks, ("MODEL_NAME", "MODEL_BASE_PATH") if runs_tf_serving(spec) else ())
    checks.within("rpcKeepaliveMs", spec.rpc_keepalive_ms, 0)
    if re.search(r"\s", spec.workspace_id):
        checks.refuse("workspaceId", f"`{spec.workspace_id}` is not a workspace id", "the number of a PAI workspace")
    if spec.token and not re.fullmatch(r"[\x21-\x7e]+", spec.token):
        checks.refuse("token", "the token holds a character that no HTTP header can", "printable ASCII without spaces")
    for name in sorted(spec.labels):
        if name in _RESERVED_LABELS:
            checks.refuse(f"labels.{name}", f"label {name} marks what this project made", "", "use another label")
        elif not name or CONTROL.search(name + spec.labels[name]):
            checks.refuse("labels", f"`{name}` is not a label", "text")


def _check_extra_config(checks: Checks[ServiceSpec]) -> None:
    spec = checks.spec
    extra = spec.extra_config
    if not isinstance(extra, Mapping):
        checks.refuse("extraConfig", "it is not an object", "service JSON")
        return
    for path, number in wire.inexact(extra, "extraConfig"):
        message = f"{number} is a number that Pulumi would round: its numbers are exact up to 2^53"
        checks.refuse(path, message, "a smaller number, or text", "write it in quotes")
    if "autoscaler" in extra:
        message = "EAS ignores unknown names in an autoscaler inside the service JSON, and then scales to 0"
        checks.refuse("extraConfig.autoscaler", message, "", "use autoscaler")
    if "token" in extra:
        checks.refuse("extraConfig.token", "a token here would not be kept secret", "", "use token")
    for name in _RESERVED_LABELS:
        if _has(extra, "labels", name):
            checks.refuse(
                f"extraConfig.labels.{name}", f"label {name} marks what this project made", "", "use another label"
            )
    if _has(extra, "metadata", "name"):
        checks.refuse("extraConfig.metadata.name", "the service's name is its key in services", "", "rename that key")
    if _has(extra, "metadata", "instance"):
        message = "the replica count has a key of its own"
        checks.refuse("extraConfig.metadata.instance", message, "", "use replicas or autoscaler")
    for name in ("metadata", "cloud", "networking", "labels"):
        if extra.get(name) is not None and not isinstance(extra[name], Mapping):
            checks.refuse(f"extraConfig.{name}", "it is not an object", "service JSON")
            return
    for name in ("containers", "storage"):
        items = extra.get(name)
        if items is not None and not (isinstance(items, list | tuple) and items and are_objects(items)):
            checks.refuse(f"extraConfig.{name}", "it is not a list of objects", "service JSON")
            return
    if extra:
        _check_built(checks, build(spec))


def _check_built(checks: Checks[ServiceSpec], config: Mapping[str, Any]) -> None:
    """The rules that ``extra_config`` could break, on the JSON it ends up in."""
    spec = checks.spec
    here = "extraConfig"
    for required in ("metadata", "containers"):
        if not config.get(required):
            checks.refuse(
                f"{here}.{required}", f"no service works without {required}", "", "remove it from extraConfig"
            )
            return
    for index, container in enumerate(config["containers"]):
        if container.get("port") in _RESERVED_PORTS and container["port"] != service_port(spec):
            message = f"port {container['port']} is reserved by EAS"
            checks.refuse(
                f"{here}.containers[{index}].port", message, f"any but {_RESERVED_PORTS[0]} and {_RESERVED_PORTS[1]}"
            )
        if ("command" in container) == ("script" in container):
            fix = "set it by command or script of the service" if index == 0 else "keep one of them"
            checks.refuse(f"{here}.containers[{index}]", "a container needs either command or script", "", fix)
    grpc_settings = (_at(config, "metadata", "enable_grpc") is True, _at(config, "networking", "path") == "/")
    if spec.grpc and not all(grpc_settings):
        message = 'gRPC needs metadata.enable_grpc: true and networking.path: "/"'
        checks.refuse(here, message, "", "remove these keys from extraConfig")
    if not spec.grpc and grpc_settings[0]:
        checks.refuse(f"{here}.metadata.enable_grpc", "gRPC is turned on here only", "", "set grpc: true")
    if _at(config, "metadata", "gpu_memory") and _at(config, "metadata", "gpu"):
        checks.refuse(f"{here}.metadata", "EAS ignores gpu_memory with gpu", "", "remove one of them")
    mounts = [str(item.get("mount_path", "")) for item in config.get("storage") or ()]
    for index, mount in enumerate(mounts):
        if mount != mount_path(spec):
            _check_mount(checks, f"{here}.storage[{index}].mount_path", mount)
        for other in mounts[:index]:
            inside, outside = sorted((mount.rstrip("/") + "/", other.rstrip("/") + "/"), key=len, reverse=True)
            if inside.startswith(outside):
                checks.refuse(
                    f"{here}.storage[{index}].mount_path", f"{mount} and {other} overlap", "separate directories"
                )


def _has(config: Mapping[str, Any], section: str, key: str) -> bool:
    return isinstance(config.get(section), Mapping) and key in config[section]


def _at(config: Any, *keys: str) -> Any:
    for key in keys:
        config = config.get(key) if isinstance(config, Mapping) else None
    return config
