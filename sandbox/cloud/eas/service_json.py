"""The service JSON of EAS: what is refused, what the server adds to it, and what a change of it sets off.

Sources: Alibaba Cloud's pages "parameters of model services" and "mount storage", the EAS OpenAPI 2021-07-01. Only the
code ``InvalidService.NotFound`` is published; the codes for refused input are the sandbox's own, in the same style.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sandbox.cloud.eas.machines import MACHINES
from sandbox.cloud.errors import ApiError
from tfserving import cloud_names

Json = Mapping[str, Any]

NAME = re.compile(r"[a-z0-9_]{3,63}")
RESERVED_PORTS = (8080, 9090)
DEFAULT_WORKSPACE_ID = "10001"
"""The workspace a service lands in that names none."""
DEFAULT_KEEPALIVE_MS = 600_000
DEFAULT_GRACE_SECONDS = 30
SCENARIO_LABEL = "tf-serving-deployment"
SCENARIO = "scenario"
PROBES = ("startup_check", "liveness_check", "health_check", "readiness_check")

_RPC_DEFAULTS = {
    "io_threads": 4,
    "keepalive": DEFAULT_KEEPALIVE_MS,
    "rate_limit": 0,
    "max_queue_size": 64,
    "enable_sigterm": False,
}
_SYSTEM_DIRECTORIES = ("/", "/bin", "/dev", "/etc", "/lib", "/proc", "/sbin", "/sys", "/usr", "/var")
_SOURCES = ("oss", "nfs", "dataset", "git", "code", "image", "empty_dir")
_HANDLERS = ("http_get", "tcp_socket", "exec")
# Changes of these reach the gateway or the replica count; no instance is replaced for them.
_NOT_TEMPLATE = ("labels", "token", "networking", "autoscaler", "name", "workspace_id")
_NOT_TEMPLATE_METADATA = ("name", "instance", "workspace_id", "rolling_strategy", "group")


def invalid(message: str) -> ApiError:
    """A refusal of what the caller sent."""
    return ApiError(400, "InvalidParameter", message)


def validate(config: Any) -> dict[str, Any]:
    """Checks a whole service JSON.

    Returns:
        A copy of it.

    Raises:
        ApiError: 400 ``InvalidParameter``, with the path of the key and what is wrong with it.
    """
    if not isinstance(config, dict):
        raise invalid("The request body must be a JSON object: the service configuration.")
    metadata = _object(config, "metadata")
    name = service_name(config)
    if not name:
        raise invalid("metadata.name is required.")
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise invalid(f"metadata.name {name!r} is invalid: 3 to 63 lower-case letters, digits and underscores.")
    if "instance" not in metadata:
        raise invalid("metadata.instance is required.")
    _integer(metadata, "metadata", "instance", 0)
    for key in ("cpu", "memory", "gpu", "gpu_memory", "shm_size"):
        _integer(metadata, "metadata", key, 0)
    _integer(metadata, "metadata", "gpu_core_percentage", 1, 100)
    if metadata.get("group") and not (isinstance(metadata["group"], str) and NAME.fullmatch(metadata["group"])):
        named = f"metadata.group {metadata['group']!r}"
        raise invalid(f"{named} is invalid: 3 to 63 lower-case letters, digits and underscores.")
    rpc = _object(metadata, "rpc", "metadata.rpc")
    _integer(rpc, "metadata.rpc", "keepalive", 1)
    _integer(rpc, "metadata.rpc", "rate_limit", 0)
    _flag(metadata, "metadata", "enable_grpc")
    strategy = _object(metadata, "rolling_strategy", "metadata.rolling_strategy")
    for key in ("max_surge", "max_unavailable"):
        share = strategy.get(key, 0)
        if not _is_count(share) and not (isinstance(share, str) and re.fullmatch(r"\d{1,3}%", share)):
            raise invalid(f"metadata.rolling_strategy.{key} {share!r} is neither a number nor a percentage.")
    _validate_labels(config.get("labels", {}))
    _validate_containers(config)
    _validate_storage(config.get("storage", []))
    computing = _object(_object(config, "cloud"), "computing", "cloud.computing")
    types = computing.get("instances", [])
    if not isinstance(types, list) or not all(isinstance(item, dict) and item.get("type") for item in types):
        raise invalid("cloud.computing.instances must be a list of objects with a type.")
    _object(config, "runtime")
    networking = _object(config, "networking")
    policy = _object(networking, "gateway_policy", "networking.gateway_policy")
    limit = _object(policy, "rate_limit", "networking.gateway_policy.rate_limit")
    _integer(limit, "networking.gateway_policy.rate_limit", "limit", 0)
    if "path" in networking and not str(networking["path"]).startswith("/"):
        raise invalid(f"networking.path {networking['path']!r} must start with a slash.")
    if networking.get("gateway") == "shared":
        raise invalid('networking.gateway "shared" is invalid: leave the key out for the shared gateway.')
    token = config.get("token", "")
    if not isinstance(token, str) or any(not 0x20 < ord(character) < 0x7F for character in token):
        raise invalid("token must be a string of printable ASCII characters without blanks.")
    return copy.deepcopy(config)


def service_name(config: Json) -> Any:
    """``metadata.name``; older documents have ``name`` at the top level."""
    metadata = config.get("metadata")
    return (metadata.get("name") if isinstance(metadata, Mapping) else None) or config.get("name")


def group(config: Json) -> str:
    """``metadata.group``: the service group it was made in, empty without one."""
    return str(config.get("metadata", {}).get("group") or "")


def merge(old: Json, new: Json) -> dict[str, Any]:
    """UpdateType ``merge``: objects are merged key by key, everything else is replaced, nothing is removed."""
    result = dict(old)
    for key, value in new.items():
        before = result.get(key)
        result[key] = merge(before, value) if isinstance(before, Mapping) and isinstance(value, Mapping) else value
    return result


def template(config: Json, restarts: int) -> str:
    """A digest of what an instance is made from: instances are replaced exactly when it changes."""
    kept = {key: value for key, value in config.items() if key not in _NOT_TEMPLATE}
    kept["cloud"] = _spelt_out(kept.get("cloud", {}))
    metadata = {k: v for k, v in config.get("metadata", {}).items() if k not in _NOT_TEMPLATE_METADATA}
    rpc = {k: v for k, v in metadata.pop("rpc", {}).items() if k not in ("keepalive", "rate_limit")}
    kept["metadata"] = {**metadata, **({"rpc": rpc} if rpc else {})}
    kept["-"] = [restarts, is_scenario(config)]
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:10]


def _spelt_out(cloud: Json) -> Json:
    """``computing.instance_type`` says the same as one of ``computing.instances``."""
    computing = cloud.get("computing", {})
    if "instances" in computing or not computing.get("instance_type"):
        return cloud
    rest = {key: value for key, value in computing.items() if key != "instance_type"}
    return {**cloud, "computing": {**rest, "instances": [{"type": computing["instance_type"]}]}}


def is_scenario(config: Json) -> bool:
    """Whether the service stands for EAS's own TensorFlow Serving form."""
    return bool(config.get("labels", {}).get(SCENARIO_LABEL) == SCENARIO)


def is_grpc(config: Json) -> bool:
    """Whether the gateway speaks gRPC to the service."""
    return config.get("metadata", {}).get("enable_grpc") is True


def is_root(config: Json) -> bool:
    """Whether the service is at the root of an address of its own."""
    return bool(config.get("networking", {}).get("path") == "/")


def keepalive_seconds(config: Json) -> float:
    """The most time one request may take."""
    return float(config.get("metadata", {}).get("rpc", {}).get("keepalive", DEFAULT_KEEPALIVE_MS)) / 1000


def rate_limits(config: Json) -> tuple[float, float]:
    """Requests per second allowed per instance, and for the whole service; 0 is no limit."""
    per_instance = config.get("metadata", {}).get("rpc", {}).get("rate_limit", 0)
    policy = config.get("networking", {}).get("gateway_policy", {}).get("rate_limit", {})
    return float(per_instance), float(policy.get("limit", 0)) if policy.get("enable") else 0.0


def grace_seconds(config: Json) -> float:
    """How long an instance that is being stopped may finish its requests."""
    metadata, runtime = config.get("metadata", {}), config.get("runtime", {})
    value = metadata.get("eas.termination_grace_period", runtime.get("termination_grace_period"))
    return float(value) if _is_count(value) else DEFAULT_GRACE_SECONDS


def replicas(config: Json) -> int:
    """``metadata.instance``."""
    return int(config["metadata"]["instance"])


def rolling_limits(config: Json, wanted: int) -> tuple[int, int]:
    """How many instances more than ``wanted`` may exist and how many of them may be missing during an update."""
    strategy = config.get("metadata", {}).get("rolling_strategy", {})
    surge = _share(strategy.get("max_surge", "2%"), wanted, math.ceil)
    unavailable = _share(strategy.get("max_unavailable", 0), wanted, math.floor)
    return (surge, unavailable) if surge or unavailable else (1, 0)  # neither would never end


def resources(config: Json) -> tuple[int, int, int]:
    """vCPUs, memory in MB and GPUs per instance: as declared, else those of the instance type."""
    metadata = config.get("metadata", {})
    machine = MACHINES.get(instance_type(config))
    cpu = metadata.get("cpu") or (machine.cpu if machine else 1)
    memory = metadata.get("memory") or (int(machine.memory_gb * 1024) if machine else 2048)
    gpu = metadata.get("gpu", machine.gpus if machine else 0)
    return int(cpu), int(memory), int(gpu)


def instance_type(config: Json) -> str:
    """The first instance type asked for, empty without one."""
    computing = config.get("cloud", {}).get("computing", {})
    types = computing.get("instances") or [{"type": computing.get("instance_type", "")}]
    return str(types[0].get("type", "")) if isinstance(types[0], Mapping) else ""


@dataclass(frozen=True)
class StoredConfig:
    """What DescribeService adds to the JSON that was sent.

    Attributes:
        config: the JSON that was sent.
        instances: replica count in force, which the autoscaler may have changed.
    """

    config: Json
    instances: int

    def to_json(self) -> str:
        """The ``ServiceConfig`` string."""
        stored: dict[str, Any] = copy.deepcopy(dict(self.config))
        cpu, memory, gpu = resources(stored)
        metadata = stored["metadata"]
        metadata["name"] = service_name(stored)
        metadata["instance"] = self.instances
        for key, value in (("cpu", cpu), ("memory", memory), ("gpu", gpu)):
            metadata.setdefault(key, value)
        metadata["rpc"] = {**_RPC_DEFAULTS, **metadata.get("rpc", {})}
        strategy = {"max_surge": "2%", "max_unavailable": 0}
        metadata["rolling_strategy"] = {**strategy, **metadata.get("rolling_strategy", {})}
        metadata.setdefault("eas.termination_grace_period", DEFAULT_GRACE_SECONDS)
        workspace = workspace_id(stored)
        metadata.setdefault("workspace_id", workspace)
        stored.setdefault("workspace_id", workspace)
        stored.setdefault("labels", {})
        stored.setdefault("networking", {})
        computing = stored.setdefault("cloud", {}).setdefault("computing", {})
        computing.setdefault("disable_spot_protection_period", False)
        for mount in stored.get("storage", []):
            if "oss" in mount:
                mount["oss"].setdefault("readOnly", False)
        return json.dumps(stored)


def workspace_id(config: Json) -> str:
    """The PAI workspace of a service."""
    value = config.get("metadata", {}).get("workspace_id") or config.get("workspace_id") or DEFAULT_WORKSPACE_ID
    return str(value)


def _validate_labels(labels: Any) -> None:
    if not isinstance(labels, dict) or not all(isinstance(value, str) for value in labels.values()):
        raise invalid("labels must be an object of strings.")


def _validate_containers(config: Json) -> None:
    containers = config.get("containers")
    if containers is None:
        if not any(key in config for key in ("processor", "processor_path", "model_path")):
            raise invalid("One of containers (with an image) and processor is required.")
        return
    if not isinstance(containers, list) or not containers or not all(isinstance(item, dict) for item in containers):
        raise invalid("containers must be a non-empty list of objects.")
    for index, container in enumerate(containers):
        path = f"containers[{index}]"
        if not isinstance(container.get("image"), str) or not container["image"].strip():
            raise invalid(f"{path}.image is required.")
        for key in ("command", "script"):
            if key in container and (not isinstance(container[key], str) or not container[key].strip()):
                raise invalid(f"{path}.{key} must be a non-empty string.")
        if "command" in container and "script" in container:
            raise invalid(f"{path}: command and script exclude each other.")
        if "command" not in container and "script" not in container and not is_scenario(config):
            raise invalid(f"{path}: one of command and script is required.")
        if index == 0 and "port" not in container:
            raise invalid(f"{path}.port is required.")
        if (port := _integer(container, path, "port", 1, 65535)) in RESERVED_PORTS:
            raise invalid(f"{path}.port {port} is reserved by EAS: 8080 and 9090 cannot be used.")
        _validate_env(container.get("env", []), path)
        for probe in PROBES:
            if probe in container:
                _validate_probe(container[probe], f"{path}.{probe}")


def _validate_env(env: Any, path: str) -> None:
    if not isinstance(env, list):
        raise invalid(f"{path}.env must be a list.")
    for index, item in enumerate(env):
        if not isinstance(item, dict) or not isinstance(item.get("name"), str) or not item["name"]:
            raise invalid(f"{path}.env[{index}] needs a name.")
        if not isinstance(item.get("value", ""), str) or "\0" in item["name"] + item.get("value", "") + "":
            raise invalid(f"{path}.env[{index}].value must be a string.")


def _validate_probe(probe: Any, path: str) -> None:
    if not isinstance(probe, dict) or len([key for key in _HANDLERS if key in probe]) != 1:
        raise invalid(f"{path} needs exactly one of http_get, tcp_socket and exec.")
    for key in ("period_seconds", "timeout_seconds", "success_threshold", "failure_threshold"):
        _integer(probe, path, key, 1)
    _integer(probe, path, "initial_delay_seconds", 0)
    handler = next(key for key in _HANDLERS if key in probe)
    if not isinstance(probe[handler], dict):
        raise invalid(f"{path}.{handler} must be an object.")
    _integer(probe[handler], f"{path}.{handler}", "port", 1, 65535)


def _validate_storage(storage: Any) -> None:
    if not isinstance(storage, list):
        raise invalid("storage must be a list.")
    seen: list[str] = []
    for index, item in enumerate(storage):
        path = f"storage[{index}]"
        if not isinstance(item, dict):
            raise invalid(f"{path} must be an object.")
        sources = [key for key in _SOURCES if key in item]
        if len(sources) != 1 or not isinstance(item[sources[0]], dict):
            raise invalid(f"{path} needs exactly one of {', '.join(_SOURCES)}.")
        mount = item.get("mount_path")
        if not isinstance(mount, str) or not mount.startswith("/") or ".." in mount.split("/"):
            raise invalid(f"{path}.mount_path {mount!r} must be an absolute path.")
        mount = "/" + "/".join(part for part in mount.split("/") if part)
        if mount in _SYSTEM_DIRECTORIES:
            raise invalid(f"{path}.mount_path {mount} is a system directory.")
        if any(mount == other or mount.startswith(other + "/") or other.startswith(mount + "/") for other in seen):
            raise invalid(f"{path}.mount_path {mount} overlaps another mount.")
        seen.append(mount)
        if "oss" in item:
            oss = item["oss"].get("path")
            if not isinstance(oss, str) or not cloud_names.OSS_URI.fullmatch(oss):
                raise invalid(f"{path}.oss.path {oss!r} is not of the form oss://bucket/directory/.")


def _object(parent: Json, key: str, path: str = "") -> dict[str, Any]:
    value = parent.get(key, {})
    if not isinstance(value, dict):
        raise invalid(f"{path or key} must be an object.")
    return value


def _integer(parent: Json, path: str, key: str, least: int, most: int | None = None) -> int | None:
    if key not in parent:
        return None
    value = parent[key]
    if not _is_count(value) or value < least or (most is not None and value > most):
        allowed = f"at least {least}" if most is None else f"{least} to {most}"
        raise invalid(f"{path}.{key} {value!r} is not a whole number of {allowed}.")
    return int(value)


def _flag(parent: Json, path: str, key: str) -> None:
    if key in parent and not isinstance(parent[key], bool):
        raise invalid(f"{path}.{key} must be true or false.")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _share(value: Any, wanted: int, rounded: Any) -> int:
    if isinstance(value, str):
        return int(rounded(int(value.rstrip("%")) * wanted / 100))
    return int(value)
