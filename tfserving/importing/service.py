"""A service JSON as an entry of ``tf-serving:services`` of which the same service JSON is made again."""

from __future__ import annotations

import copy
import math
import re
import shlex
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tfserving import eas_drift, eas_spec, schedule
from tfserving.eas_drift import HiddenSecret
from tfserving.eas_spec import (
    ENTRYPOINT,
    Autoscaler,
    HealthChecks,
    InstanceType,
    Probe,
    RollingStrategy,
    ScaleMetric,
    ServiceSpec,
    Vpc,
)
from tfserving.flags import FlagValue
from tfserving.importing.place import Place, model_directory
from tfserving.importing.start import Start
from tfserving.property_path import format_path, join_path
from tfserving.schedule import Schedule, ScheduledSize
from tfserving.service_checks import FLAG_KEYS

_CHECKS = {"startup_check": "startup", "liveness_check": "liveness", "readiness_check": "readiness"}
_AMOUNTS = ("cpu", "memory", "gpu", "gpu_memory", "gpu_core_percentage")
_CARDS = (8, 16, 22, 24, 32, 40, 48, 64, 80, 94, 96, 141, 192)
"""Memory of GPUs in GB, for a share that does not say of which card it is one."""
_LEAST_STARTUP_SECONDS = 10
_LABEL_POLL_SECONDS = 30
_ASSUMED_ZONE = "Asia/Shanghai"
_OF_START = re.compile(r"containers\[0\]\.(script|command|image|(startup|liveness|readiness)_check)\b")


@dataclass(frozen=True)
class StartFile:
    """A batching or monitoring file that a stack of this project wrote for a service.

    Attributes:
        key: ``batching`` or ``monitoring``.
        path: in the container.
        value: what the stack file says of it.
    """

    key: str
    path: str
    value: Any


@dataclass(frozen=True)
class ServiceImport:
    """What became of a service JSON.

    Attributes:
        spec: the service as a stack of this project describes it.
        start_files: what the stack file says beside the spec.
        secrets: where in its entry the secrets are to be set that were left out; the token, which a service keeps, is
            none of them.
        lost: what no stack file can say, one sentence each.
    """

    spec: ServiceSpec
    start_files: tuple[StartFile, ...] = ()
    secrets: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()


def read(
    start: Start,
    place: Place,
    region: str,
    *,
    models: Mapping[str, str],
    labels: bool,
    autoscaler: Mapping[str, Any] | None = None,
    cron_scaler: Mapping[str, Any] | None = None,
    start_files: tuple[StartFile, ...] = (),
    own_labels: Collection[str] = (),
) -> ServiceImport:
    """Makes a description of a service.

    Args:
        start: the service.
        place: where the stack has its models.
        region: region of the service.
        models: names of the stack's models by directory below the root.
        labels: some model of the config file has labels.
        autoscaler: its autoscaler, as the API gives it.
        cron_scaler: its cron scaler, likewise, with keys that begin small.
        start_files: files this project wrote for it.
        own_labels: names of the labels by which this project knows its services.
    """
    wanted, secrets = eas_drift.without_secrets(start.config)
    lost = []
    if "autoscaler" in wanted:
        lost.append("autoscaler in the service JSON: a stack has one by EAS's API only; declare it as `autoscaler`")
        del wanted["autoscaler"]
    wanted = _without_what_eas_adds(wanted)
    secret = {found.path for found in secrets}
    wanted["labels"] = {
        key: value
        for key, value in start.labels.items()
        if key not in own_labels and format_path(("labels", key)) not in secret
    }
    scaler, rest = _autoscaler(autoscaler)
    lost += rest
    by_clock, rest = _schedule(cron_scaler)
    lost += rest
    base = ServiceSpec(
        name=start.name, region=region, bucket=place.bucket, root=place.root, **_fields(wanted, scaler, by_clock)
    )
    if place.config_file:
        base = replace(base, config_file_name=place.config_file)
    candidates = list(_candidates(base, start, place, models, labels, start_files))
    chosen = next((spec for spec, sure in candidates if sure or _starts_as(spec, start)), candidates[0][0])
    chosen = _with_checks(chosen, wanted)
    used = tuple(
        file for file in start_files if file.path in (chosen.batching_parameters_file, chosen.monitoring_config_file)
    )
    extra = copy.deepcopy(_extra(chosen, wanted))
    hidden = tuple(_place_of(secret, extra) for secret in secrets if secret.path != "token")
    return ServiceImport(replace(chosen, extra_config=extra), used, hidden, tuple(lost))


def _place_of(secret: HiddenSecret, extra: dict[str, Any]) -> str:
    """Where in the entry of its service a secret is to be set, for which ``extra`` gets what it lacks."""
    if secret.variable and secret.path.startswith("containers[0]."):
        return join_path("env", secret.variable)
    if secret.steps[0] == "labels":
        return secret.path
    return f"extraConfig.{eas_drift.make_room(extra, secret)}"


def secrets_of_start(start: Start) -> list[str]:
    """Paths of secrets that stand in what starts a service, or looks after it: without that nothing is left of it."""
    _, secrets = eas_drift.without_secrets(start.config)
    return [found.path for found in secrets if _OF_START.match(found.path)]


# ---- the service JSON


def _without_what_eas_adds(config: dict[str, Any]) -> dict[str, Any]:
    """Without documented defaults, and without what EAS stores for a key that was left out."""
    strategy = (config.get("metadata") or {}).get("rolling_strategy")
    found = eas_drift.without_defaults(config)
    metadata = found.get("metadata") or {}
    if metadata.get("rolling_strategy"):
        metadata["rolling_strategy"] = strategy  # both numbers, or none
    computing = (found.get("cloud") or {}).get("computing") or {}
    types = [item for item in computing.get("instances") or () if isinstance(item, Mapping)]
    if types and not metadata.get("resource"):
        for key in ("cpu", "memory"):  # those of the instance type
            metadata.pop(key, None)
    if metadata.get("gpu") == 0:
        del metadata["gpu"]
    if computing.get("disable_spot_protection_period") is False and not any(
        "spot_price_limit" in each for each in types
    ):
        del computing["disable_spot_protection_period"]
    for mount in found.get("storage") or ():
        if isinstance(mount.get("mount_path"), str):
            mount["mount_path"] = mount["mount_path"].rstrip("/") or "/"
        if isinstance(mount.get("oss"), dict) and mount["oss"].get("readOnly") is False:
            del mount["oss"]["readOnly"]
    return eas_drift.normalize(found)


def _fields(config: Mapping[str, Any], scaler: Autoscaler | None, by_clock: Schedule | None) -> dict[str, Any]:
    """The fields of a description that do not hang on what is served and how it is started."""
    metadata, container = config.get("metadata") or {}, (config.get("containers") or [{}])[0]
    fields: dict[str, Any] = {key: metadata[key] for key in _AMOUNTS if _is_count(metadata.get(key))}
    replicas = metadata.get("instance")
    if scaler is not None:
        fields["autoscaler"] = scaler
    if by_clock is not None:
        fields["schedule"] = by_clock
    if scaler is None and by_clock is None and _is_count(replicas) and replicas != 1:
        fields["replicas"] = replicas
    keepalive = (metadata.get("rpc") or {}).get("keepalive")
    fields["rpc_keepalive_ms"] = keepalive if _is_count(keepalive) else 0
    for key in ("resource", "workspace_id"):
        if metadata.get(key):
            fields[key] = str(metadata[key])
    fields["grpc"] = metadata.get("enable_grpc") is True
    strategy = metadata.get("rolling_strategy")
    if isinstance(strategy, Mapping):
        given = {
            key: strategy[key] for key in ("max_surge", "max_unavailable") if isinstance(strategy.get(key), int | str)
        }
        fields["rolling_strategy"] = RollingStrategy(**given)
    fields |= _cloud(config)
    fields["env"] = {
        item["name"]: str(item.get("value", ""))
        for item in container.get("env") or ()
        if isinstance(item, Mapping) and isinstance(item.get("name"), str)
    }
    fields["labels"] = {
        key: str(text) for key, text in (config.get("labels") or {}).items() if key != eas_spec.SCENARIO_LABEL
    }
    return fields


def _cloud(config: Mapping[str, Any]) -> dict[str, Any]:
    cloud, networking = config.get("cloud") or {}, config.get("networking") or {}
    fields: dict[str, Any] = {}
    computing = cloud.get("computing") or {}
    types = [item for item in computing.get("instances") or () if isinstance(item, Mapping) and item.get("type")]
    fields["instance_types"] = tuple(
        InstanceType(
            type=str(item["type"]), spot_price_limit=item.get("spot_price_limit"), capacity=item.get("capacity")
        )
        for item in types
    )
    if computing.get("disable_spot_protection_period") is True:
        fields["disable_spot_protection"] = True
    vpc = cloud.get("networking") or {}
    if all(isinstance(vpc.get(key), str) for key in ("vpc_id", "vswitch_id", "security_group_id")):
        switches = tuple(part.strip() for part in vpc["vswitch_id"].split(",") if part.strip())
        fields["vpc"] = Vpc(vpc_id=vpc["vpc_id"], vswitch_ids=switches, security_group_id=vpc["security_group_id"])
        if networking.get("gateway"):
            fields["gateway"] = str(networking["gateway"])
    return fields


def _autoscaler(found: Mapping[str, Any] | None) -> tuple[Autoscaler | None, list[str]]:
    if not found:
        return None, []
    lost = [
        f"autoscaler: its target {item.get('metricName')} follows service {item['service']}, which a stack cannot say"
        for item in found.get("scaleStrategies") or ()
        if item.get("service")
    ]
    metrics = tuple(
        ScaleMetric(name=str(item.get("metricName")), threshold=item.get("threshold") or 0)
        for item in found.get("scaleStrategies") or ()
        if not item.get("service")
    )
    behavior = found.get("behavior") or {}

    def seconds(part: str, key: str) -> int | None:
        value = (behavior.get(part) or {}).get(key)
        return int(value) if value is not None else None

    scaler = Autoscaler(
        min=int(found.get("min") or 0),
        max=int(found.get("max") or 0),
        metrics=metrics,
        scale_up_stabilization_seconds=seconds("scaleUp", "stabilizationWindowSeconds"),
        scale_down_stabilization_seconds=seconds("scaleDown", "stabilizationWindowSeconds"),
        scale_to_zero_grace_seconds=seconds("onZero", "scaleDownGracePeriodSeconds"),
    )
    return scaler, lost


def _schedule(found: Mapping[str, Any] | None) -> tuple[Schedule | None, list[str]]:
    """The schedule that a cron scaler stands for; none of it where a stack cannot say a part of it."""
    if not found:
        return None, []
    jobs = found.get("scaleJobs") or []
    zones = {str(job.get("timeZone") or "") for job in jobs}
    names = [str(job.get("name") or f"job-{index + 1}") for index, job in enumerate(jobs)]
    made = Schedule(
        jobs=tuple(
            ScheduledSize(name=name, at=str(job.get("schedule")), replicas=int(job.get("targetSize") or 0))
            for name, job in zip(names, jobs, strict=True)
        ),
        time_zone=next(iter(zones), ""),
        exclude=tuple(map(str, found.get("excludeDates") or ())),
    )
    wrong = [problem.message for problem in schedule.problems(made, "schedule")]
    if len(zones) > 1:
        wrong.append("its jobs are of several time zones")
    if wrong:
        return None, [f"schedule: {'; '.join(wrong)}. Declare another one as `schedule`, or `up` takes it off"]
    if not made.time_zone:
        made = replace(made, time_zone=_ASSUMED_ZONE)
        return made, [f"time zone of the schedule: EAS does not say it, {_ASSUMED_ZONE} is assumed"]
    return made, []


# ---- what is served, and how it is started


def _candidates(
    base: ServiceSpec,
    start: Start,
    place: Place,
    models: Mapping[str, str],
    labels: bool,
    start_files: tuple[StartFile, ...],
) -> Iterator[tuple[ServiceSpec, bool]]:
    """Ways to describe the start of a service, the best first; the last one keeps its start command as it is.

    Each with whether it is to be taken although it starts the service in another way than now.
    """
    container = start.container
    spec = replace(base, image=_short_image(start.image, base.region))
    port = container.get("port")
    if _is_count(port) and port != eas_spec.service_port(spec):
        spec = replace(spec, port=port)
    reads = bool(start.config_file) and bool(place.config_file)
    directory = "" if start.config_file else model_directory(start, place)
    model = models.get(directory, "")
    spec = replace(spec, model_path=directory if directory != model else "")
    found = start.locate(start.config_file or start.base_path) if start.flags is not None else None
    mount = found[0].path if found else next((each.path for each in start.mounts), _any_mount(start))
    plain = _plain_flags(start)
    spec = replace(spec, config_file=reads, mount_path=mount)
    if plain is not None and (start.scenario or (found and not found[1])):
        at = mount if reads else ServiceSpec.mount_path
        yield replace(spec, deployment="scenario", model=model, port=None, mount_path=at), False
    if plain is not None and found and found[1] and (reads or model):
        by_flags = _with_flags(replace(spec, model=model), plain, start_files)
        survives = by_flags.allow_labels_for_unavailable_versions and by_flags.config_poll_seconds
        if labels and reads and not survives:
            # With labels that nobody could move, or that do not survive a restart, it would be refused.
            polls = by_flags.config_poll_seconds or _LABEL_POLL_SECONDS
            by_flags = replace(by_flags, config_poll_seconds=polls, allow_labels_for_unavailable_versions=True)
            yield by_flags, True
        yield by_flags, False
    own = replace(spec, mount_path=mount, command=str(container.get("command") or ""))
    if not own.command:
        own = replace(own, script=str(container.get("script") or ENTRYPOINT))
    yield replace(own, model=model if found and found[1] and _name_is_known(start) else ""), False


def _with_flags(spec: ServiceSpec, flags: Mapping[str, FlagValue], start_files: tuple[StartFile, ...]) -> ServiceSpec:
    """A custom deployment that is started by flags."""
    rest = {name: value for name, value in flags.items() if name not in FLAG_KEYS}
    for file in start_files:
        if file.key == "batching" and rest.get("batching_parameters_file") == file.path:
            del rest["batching_parameters_file"]
            rest.pop("enable_batching", None)
            spec = replace(spec, batching_parameters_file=file.path)
        elif file.key == "monitoring" and rest.get("monitoring_config_file") == file.path:
            del rest["monitoring_config_file"]
            spec = replace(spec, monitoring_config_file=file.path)
    fraction = rest.get("per_process_gpu_memory_fraction")
    if spec.gpu_memory and isinstance(fraction, int | float) and (card := _card(spec.gpu_memory, fraction)):
        del rest["per_process_gpu_memory_fraction"]
        spec = replace(spec, gpu_card_memory=card)
    if spec.config_file:
        polls = flags.get("model_config_file_poll_wait_seconds") or 0
        allowed = flags.get("allow_version_labels_for_unavailable_models") is True
        spec = replace(spec, config_poll_seconds=int(polls), allow_labels_for_unavailable_versions=allowed)
    elif flags.get("model_name"):
        spec = replace(spec, model_name=str(flags["model_name"]))
    return replace(spec, flags=rest)


def _plain_flags(start: Start) -> Mapping[str, FlagValue] | None:
    """The flags of a service that is started by the entry point and nothing else."""
    if start.flags is None or not start.by_entrypoint or {"MODEL_NAME", "MODEL_BASE_PATH"} & start.variables.keys():
        return None
    text = start.container.get("script") or start.container.get("command")
    if not text:
        return {}
    try:
        words = shlex.split(str(text))
    except ValueError:
        return None
    known = len(words) - 1 == len({word.partition("=")[0] for word in words[1:]}) == len(start.flags)
    return start.flags if words[:1] == [ENTRYPOINT] and known else None


def _name_is_known(start: Start) -> bool:
    """Whether requests name the model as a description of its own start command would have it."""
    return bool(start.flags and "model_name" in start.flags) or (
        start.by_entrypoint and "MODEL_NAME" not in start.variables
    )


def _starts_as(spec: ServiceSpec, start: Start) -> bool:
    """Whether a description starts the service as it is started now."""
    container = start.container
    if not container.get("command") and not container.get("script"):
        return True
    if spec.command:
        return spec.command == container.get("command")
    return eas_spec.start_command(spec) == container.get("script")


def _card(gpu_memory: int, fraction: float) -> int:
    """The card that a slice is such a share of; 0 where it is none."""
    nearby = range(gpu_memory, math.ceil(gpu_memory / fraction) + 2) if 0.001 <= fraction <= 1 else ()
    cards: list[int] = [*_CARDS, *nearby]
    for card in cards:
        if card >= gpu_memory and math.floor(gpu_memory / card * 1000) / 1000 == fraction:
            return card
    return 0


def _short_image(image: str, region: str) -> str:
    short = image.rpartition("/")[2]
    return short if eas_spec.image_uri(short, region) == image else image


def _any_mount(start: Start) -> str:
    paths = (item.get("mount_path") for item in start.config.get("storage") or () if isinstance(item, Mapping))
    return next((path.rstrip("/") for path in paths if isinstance(path, str)), ServiceSpec.mount_path)


# ---- health checks and the rest


def _with_checks(spec: ServiceSpec, wanted: Mapping[str, Any]) -> ServiceSpec:
    """The description with the health checks of the service: the default ones where they are those."""
    container = (wanted.get("containers") or [{}])[0]
    given = {key: container[key] for key in _CHECKS if isinstance(container.get(key), Mapping)}
    startup = given.get("startup_check", {}).get("failure_threshold")
    if _is_count(startup):
        default = replace(spec, startup_seconds=max(3 * startup, _LEAST_STARTUP_SECONDS))
        if _checks_of(default) == given:
            return spec if _checks_of(spec) == given else default
    if _checks_of(spec) == given:
        return spec
    checks = HealthChecks(**{_CHECKS[key]: _probe(check, eas_spec.service_port(spec)) for key, check in given.items()})
    return replace(spec, health_checks=checks)


def _checks_of(spec: ServiceSpec) -> dict[str, Any]:
    container = eas_drift.normalize(eas_spec.build(spec))["containers"][0]
    return {key: container[key] for key in _CHECKS if key in container}


def _probe(check: Mapping[str, Any], service_port: int) -> Probe:
    numbers = {
        name: check[name]
        for name in (
            "initial_delay_seconds",
            "period_seconds",
            "timeout_seconds",
            "success_threshold",
            "failure_threshold",
        )
        if _is_count(check.get(name))
    }
    http, tcp = check.get("http_get"), check.get("tcp_socket")
    handler = http if isinstance(http, Mapping) else tcp if isinstance(tcp, Mapping) else {}
    port = handler.get("port") if _is_count(handler.get("port")) and handler.get("port") != service_port else None
    if isinstance(http, Mapping):
        return Probe(kind="http", path=str(http.get("path") or "/"), port=port, **numbers)
    if isinstance(tcp, Mapping):
        return Probe(kind="tcp", port=port, **numbers)
    words = (check.get("exec") or {}).get("command") or ()
    return Probe(kind="exec", command=tuple(map(str, words if isinstance(words, list) else [words])), **numbers)


def _extra(spec: ServiceSpec, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """What has to be merged over the service JSON of a description to make it the one that is wanted."""
    built = eas_drift.normalize(eas_spec.build(spec)) | {"labels": eas_spec.build(spec).get("labels") or {}}
    target = {**wanted, "metadata": {**(wanted.get("metadata") or {}), "name": spec.name}}
    target["metadata"]["instance"] = built["metadata"]["instance"]  # `replicas` and `autoscaler` say it
    if eas_spec.SCENARIO_LABEL in (built.get("labels") or {}):
        target["labels"] = {**(target.get("labels") or {}), eas_spec.SCENARIO_LABEL: "scenario"}
    containers = [dict(item) for item in target.get("containers") or ()]
    for key in ("command", "script"):  # what starts it is no business of extra config
        containers[0].pop(key, None)
        if key in built["containers"][0]:
            containers[0][key] = built["containers"][0][key]
    target["containers"] = containers
    return eas_spec.extra_for(built, target)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
