"""From a description to the nested service JSON, and to the autoscaler's request."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tfserving.eas_spec.description import (
    DEFAULT_INSTANCE_TYPE,
    SCENARIO_LABEL,
    HealthChecks,
    InstanceType,
    Probe,
    ServiceSpec,
    image_uri,
    model_name,
    mount_path,
    oss_uri,
    runs_tf_serving,
    service_port,
    start_command,
)

_STARTUP_PERIOD = 3  # seconds between startup checks


def build(spec: ServiceSpec) -> dict[str, Any]:
    """The nested service JSON of a valid description, as CreateService and UpdateService take it.

    The JSON of the console's scenario form is not public. A scenario deployment is therefore expressed as an
    image-based one with the same effect (TensorFlow Serving's entry point, port 8501, no flag but the config file, a
    single model mounted at ``/models/model``) and the label ``tf-serving-deployment: scenario``; ``extra_config``
    overrides any of it.

    ``extra_config`` is merged last: objects are merged key by key, ``null`` removes a key, ``containers`` are merged by
    position, ``storage`` by ``mount_path`` and ``env`` by ``name`` (what matches none is appended), any other value
    replaces what was there.
    """
    config: dict[str, Any] = {"metadata": _metadata(spec)}
    if cloud := _cloud(spec):
        config["cloud"] = cloud
    config["containers"] = [_container(spec)]
    config["storage"] = [{"mount_path": mount_path(spec), "oss": {"path": oss_uri(spec), "readOnly": True}}]
    networking = {key: value for key, value in (("path", "/" if spec.grpc else ""), ("gateway", spec.gateway)) if value}
    if networking:
        config["networking"] = networking
    labels = dict(sorted(spec.labels.items()))
    if spec.deployment == "scenario":
        labels[SCENARIO_LABEL] = "scenario"
    if labels:
        config["labels"] = labels
    if spec.token:
        config["token"] = spec.token
    merged: dict[str, Any] = merge(config, spec.extra_config)
    return merged


def autoscaler(spec: ServiceSpec) -> dict[str, Any] | None:
    """The body of CreateServiceAutoScaler and UpdateServiceAutoScaler, ``None`` without an autoscaler.

    It is not part of the service JSON: two pages document two forms of the key there, and wrong names are ignored.
    """
    scaler = spec.autoscaler
    if scaler is None:
        return None
    behavior: dict[str, Any] = {}
    if scaler.scale_up_stabilization_seconds is not None:
        behavior["scaleUp"] = {"stabilizationWindowSeconds": scaler.scale_up_stabilization_seconds}
    if scaler.scale_down_stabilization_seconds is not None:
        behavior["scaleDown"] = {"stabilizationWindowSeconds": scaler.scale_down_stabilization_seconds}
    if scaler.scale_to_zero_grace_seconds is not None:
        behavior["onZero"] = {"scaleDownGracePeriodSeconds": scaler.scale_to_zero_grace_seconds}
    body: dict[str, Any] = {
        "min": scaler.min,
        "max": scaler.max,
        "scaleStrategies": [{"metricName": metric.name, "threshold": metric.threshold} for metric in scaler.metrics],
    }
    if behavior:
        body["behavior"] = behavior
    return body


def _metadata(spec: ServiceSpec) -> dict[str, Any]:
    replicas = spec.replicas
    if replicas is None:
        replicas = spec.autoscaler.min if spec.autoscaler else spec.schedule.most if spec.schedule else 1
    metadata: dict[str, Any] = {"name": spec.name, "instance": replicas}
    optional = {
        "workspace_id": spec.workspace_id or None,
        "cpu": spec.cpu,
        "memory": spec.memory,
        "gpu": spec.gpu or None,
        "gpu_memory": spec.gpu_memory or None,
        "gpu_core_percentage": spec.gpu_core_percentage or None,
        "resource": spec.resource or None,
        "group": spec.group or None,
        "enable_grpc": spec.grpc or None,
        "rpc": {"keepalive": spec.rpc_keepalive_ms} if spec.rpc_keepalive_ms else None,
    }
    metadata |= {key: value for key, value in optional.items() if value is not None}
    if spec.rolling_strategy:
        metadata["rolling_strategy"] = {
            "max_surge": spec.rolling_strategy.max_surge,
            "max_unavailable": spec.rolling_strategy.max_unavailable,
        }
    return metadata


def _cloud(spec: ServiceSpec) -> dict[str, Any]:
    cloud: dict[str, Any] = {}
    types = spec.instance_types
    if not types and not spec.resource and spec.cpu is None:
        types = (InstanceType(type=DEFAULT_INSTANCE_TYPE),)
    if types:
        instances = []
        for item in types:
            instance: dict[str, Any] = {"type": item.type}
            if item.spot_price_limit is not None:
                instance["spot_price_limit"] = item.spot_price_limit
            if item.capacity is not None:
                instance["capacity"] = item.capacity
            instances.append(instance)
        cloud["computing"] = {"instances": instances}
        if any(item.spot_price_limit is not None for item in types):
            cloud["computing"]["disable_spot_protection_period"] = spec.disable_spot_protection
    if spec.vpc:
        cloud["networking"] = {
            "vpc_id": spec.vpc.vpc_id,
            "vswitch_id": ",".join(spec.vpc.vswitch_ids),
            "security_group_id": spec.vpc.security_group_id,
        }
    return cloud


def _container(spec: ServiceSpec) -> dict[str, Any]:
    container: dict[str, Any] = {"image": image_uri(spec.image, spec.region), "port": service_port(spec)}
    container["command" if spec.command and not runs_tf_serving(spec) else "script"] = start_command(spec)
    if spec.env:
        container["env"] = [{"name": name, "value": spec.env[name]} for name in sorted(spec.env)]
    checks = spec.health_checks
    if checks is None:
        checks = _default_health_checks(spec)
    for key, probe in (
        ("startup_check", checks.startup),
        ("liveness_check", checks.liveness),
        ("readiness_check", checks.readiness),
    ):
        if probe is not None:
            container[key] = _probe(probe, service_port(spec))
    return container


def _default_health_checks(spec: ServiceSpec) -> HealthChecks:
    """Checks for TensorFlow Serving, which opens its ports only once every model has a version loaded.

    A config file's models are not named in a check: adding or removing one must not restart the service. A scenario
    deployment and other servers get none; what would be healthy there is not known.
    """
    if spec.deployment == "scenario" or not runs_tf_serving(spec):
        return HealthChecks()
    by_port = spec.config_file or spec.grpc
    startup = Probe(
        kind="tcp" if by_port else "http",
        path=f"/v1/models/{model_name(spec)}",
        initial_delay_seconds=1,
        period_seconds=_STARTUP_PERIOD,
        failure_threshold=math.ceil(spec.startup_seconds / _STARTUP_PERIOD),
    )
    return HealthChecks(startup=startup, liveness=Probe(kind="tcp"))


def _probe(probe: Probe, service_port: int) -> dict[str, Any]:
    port = service_port if probe.port is None else probe.port
    check: dict[str, Any]
    if probe.kind == "http":
        check = {"http_get": {"path": probe.path, "port": port, "scheme": "HTTP"}}
    elif probe.kind == "tcp":
        check = {"tcp_socket": {"port": port}}
    else:
        check = {"exec": {"command": list(probe.command)}}
    # All five are set: the documented defaults differ from page to page.
    return check | {
        "initial_delay_seconds": probe.initial_delay_seconds,
        "period_seconds": probe.period_seconds,
        "timeout_seconds": probe.timeout_seconds,
        "success_threshold": probe.success_threshold,
        "failure_threshold": probe.failure_threshold,
    }


LIST_KEYS = {"storage": "mount_path", "env": "name"}
"""Lists whose elements are told apart by one of their keys."""


def merge(base: Any, extra: Any) -> Any:
    """``extra`` merged over ``base``, as :func:`build` does with ``extra_config``."""
    return _merge(base, extra, "")


def extra_for(base: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The least ``extra_config`` that makes ``wanted`` of ``base``: the reverse of :func:`merge`.

    Elements of ``containers``, ``storage`` and ``env`` that ``base`` has and ``wanted`` has not stay: no extra config
    takes them away, unless the whole list is to go.
    """
    found: dict[str, Any] = _extra(base, wanted, "")
    return {} if found is _SAME else found


_SAME: Any = object()


def _extra(base: Any, wanted: Any, key: str) -> Any:
    if isinstance(base, Mapping) and isinstance(wanted, Mapping):
        found = {name: _extra(base[name], item, name) if name in base else item for name, item in wanted.items()}
        found = {name: item for name, item in found.items() if item is not _SAME}
        found |= {name: None for name in base if name not in wanted}
        return found or _SAME
    if isinstance(base, list) and isinstance(wanted, list) and base and wanted and are_objects([*base, *wanted]):
        if key == "containers":
            shared = [_extra(old, new, "") for old, new in zip(base, wanted, strict=False)]
            while shared and shared[-1] is _SAME and len(wanted) <= len(base):
                shared.pop()
            items = [{} if item is _SAME else item for item in shared] + wanted[len(base) :]
            return items if any(items) or len(wanted) > len(base) else _SAME
        if key in LIST_KEYS:
            return _extra_by(LIST_KEYS[key], base, wanted)
    return _SAME if base == wanted else wanted


def _extra_by(key: str, base: Sequence[Any], wanted: Sequence[Any]) -> Any:
    items = []
    for new in wanted:
        old = next((item for item in base if key in new and item.get(key) == new[key]), None)
        item = new if old is None else _extra(old, new, "")
        if item is not _SAME:
            items.append(item if old is None else {key: new[key], **item})
    return items or _SAME


def _merge(base: Any, extra: Any, key: str) -> Any:
    if isinstance(base, Mapping) and isinstance(extra, Mapping):
        merged = dict(base)
        for name, value in extra.items():
            if value is None:
                merged.pop(name, None)
            else:
                merged[name] = _merge(merged[name], value, name) if name in merged else _merge({}, value, name)
        return merged
    if isinstance(base, list) and isinstance(extra, list | tuple) and are_objects([*base, *extra]):
        if key == "containers":
            shared = [_merge(old, new, "") for old, new in zip(base, extra, strict=False)]
            return [*shared, *base[len(shared) :], *(_merge({}, new, "") for new in extra[len(shared) :])]
        if key in LIST_KEYS:
            return _merge_by(LIST_KEYS[key], base, extra)
    if isinstance(extra, Mapping):
        return _merge({}, extra, key)
    return list(extra) if isinstance(extra, tuple) else extra


def are_objects(items: Sequence[Any]) -> bool:
    return all(isinstance(item, Mapping) for item in items)


def _merge_by(key: str, base: Sequence[Any], extra: Sequence[Any]) -> list[Any]:
    merged = list(base)
    for item in extra:
        same = [i for i, old in enumerate(merged) if key in item and old.get(key) == item[key]]
        if same:
            merged[same[0]] = _merge(merged[same[0]], item, "")
        else:
            merged.append(_merge({}, item, ""))
    return merged
