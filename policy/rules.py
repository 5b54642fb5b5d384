"""The policies. They see resources as the engine is about to make them, whatever code or config described them.

The pack stands on its own: it can be published to an organisation, and holds for stacks that do not use this project's
components. ``docs/policy.md`` lists the policies and their configuration.
"""

from __future__ import annotations

import fnmatch
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pulumi
from pulumi_policy import (
    EnforcementLevel,
    Policy,
    PolicyConfigSchema,
    ReportViolation,
    ResourceValidationArgs,
    ResourceValidationPolicy,
    Secret,
)

BUCKET = "alicloud:oss/bucket:Bucket"
BUCKET_ACL = "alicloud:oss/bucketAcl:BucketAcl"
OBJECT = "alicloud:oss/bucketObject:BucketObject"
OBJECT_ACL = "alicloud:oss/bucketObjectAcl:BucketObjectAcl"
NODE_POOL = "alicloud:cs/nodePool:NodePool"
EAS_SERVICE = "tfserving:index:EasService"
SERVED_CONFIG = "tfserving:index:ServedConfig"
TRAFFIC = ("tfserving:index:TrafficSplit", "tfserving:index:TrafficRoute")
AUTOSCALER = "kubernetes:autoscaling/v2:HorizontalPodAutoscaler"
WORKLOADS = tuple(f"kubernetes:apps/v1:{kind}" for kind in ("Deployment", "StatefulSet", "DaemonSet"))

PRODUCTION = ["prod", "prod-*", "*-prod"]
MOST_GPU_NODES = 16
MOST_UNGATED_PERCENT = 25

ENCRYPTIONS = ("AES256", "KMS", "SM4")
"""Server-side encryption of OSS. Source: OSS "Server-side encryption"."""

GPU_INSTANCE = re.compile(r"(ecs|ml)\.(gn|ebmgn|sgn|vgn|gu)|(ecs|ml)\.\w*gpu", re.IGNORECASE)
"""Instance families with GPUs. Source: ECS "GPU-accelerated compute-optimized and vGPU-accelerated families"."""

LABELS_FLAG = "allow_version_labels_for_unavailable_models"
POLL_FLAG = "model_config_file_poll_wait_seconds"

SECRET_NAME = re.compile(r"token|secret|password|passwd|credential|access_?key|api_?key|private_?key", re.IGNORECASE)
"""Names of environment variables whose value is a secret."""

_Found = Iterator[str]
_Check = Callable[[ResourceValidationArgs], _Found]


def _policy(
    name: str,
    description: str,
    check: _Check,
    schema: PolicyConfigSchema | None = None,
    **more: Any,
) -> ResourceValidationPolicy:
    """A policy that reports each text that ``check`` yields."""

    def validate(args: ResourceValidationArgs, report: ReportViolation) -> None:
        for text in check(args):
            report(f"{args.name}: {text}", None)

    return ResourceValidationPolicy(name, description, validate, config_schema=schema, **more)


# ---- buckets -------------------------------------------------------------------------------------------------------


def bucket_is_private_and_encrypted(args: ResourceValidationArgs) -> _Found:
    """Models are read by services inside the account only, so nothing in a bucket is public."""
    props = args.props
    if args.resource_type in (BUCKET, BUCKET_ACL, OBJECT, OBJECT_ACL):
        acl = props.get("acl") or "private"
        if acl not in ("private", "default"):
            yield f"acl is {acl!r}; set it to private"
    if args.resource_type == BUCKET:
        rule = props.get("serverSideEncryptionRule") or {}
        algorithm = rule.get("sseAlgorithm")
        if algorithm not in ENCRYPTIONS:
            yield f"is not encrypted; set serverSideEncryptionRule.sseAlgorithm to one of {', '.join(ENCRYPTIONS)}"


# ---- production ----------------------------------------------------------------------------------------------------

_PRODUCTION_SCHEMA = PolicyConfigSchema(
    {
        "stacks": {
            "type": "array",
            "items": {"type": "string"},
            "default": PRODUCTION,
            "description": "names of production stacks; * stands for any text",
        }
    }
)


def _is_production(args: ResourceValidationArgs) -> bool:
    patterns = (args.get_config() or {}).get("stacks") or PRODUCTION
    return any(fnmatch.fnmatchcase(pulumi.get_stack(), pattern) for pattern in patterns)


def production_has_two_replicas(args: ResourceValidationArgs) -> _Found:
    """One replica is gone with its machine, and for the moment of every rolling update."""
    if args.resource_type == EAS_SERVICE and _is_production(args):
        scaler, jobs = args.props.get("autoscaler"), _at(args.props, "cronScaler", "scaleJobs")
        if jobs:
            count, where = min(job.get("targetSize") or 0 for job in jobs), "the schedule's smallest size"
        elif scaler:
            count, where = scaler.get("min"), "the autoscaler's min"
        else:
            count, where = _at(args.props, "spec", "metadata", "instance"), "replicas"
        if not isinstance(count, int | float) or count < 2:
            yield f"{where} is {_number(count)}; production needs at least 2"
    if args.resource_type in WORKLOADS[:2] and _is_production(args) and _serves(args.props):
        replicas = _at(args.props, "spec", "replicas")
        if replicas is not None and replicas < 2:  # without it, an autoscaler counts
            yield f"spec.replicas is {_number(replicas)}; production needs at least 2"
    if args.resource_type == AUTOSCALER and _is_production(args):
        least = _at(args.props, "spec", "minReplicas")
        if least is None or least < 2:
            yield f"spec.minReplicas is {_number(least)}; production needs at least 2"


def production_is_not_only_spot(args: ResourceValidationArgs) -> _Found:
    """Spot capacity is taken back at any time, and then all of it may be."""
    if not _is_production(args):
        return
    if args.resource_type == EAS_SERVICE:
        if _at(args.props, "spec", "metadata", "resource"):
            return  # a resource group of one's own
        instances = _at(args.props, "spec", "cloud", "computing", "instances") or ()
        if instances and all("spot_price_limit" in item for item in instances):
            yield "every instance type is spot capacity; add one without spotPriceLimit"
    if args.resource_type == NODE_POOL:
        strategy = args.props.get("spotStrategy") or "NoSpot"
        base = args.props.get("onDemandBaseCapacity") or 0
        share = args.props.get("onDemandPercentageAboveBaseCapacity") or 0
        if strategy != "NoSpot" and float(base) <= 0 and float(share) <= 0:
            yield "is spot capacity only; set onDemandBaseCapacity to 1 or more, or spotStrategy to NoSpot"


def production_trusts_gates(args: ResourceValidationArgs) -> _Found:
    """A member that nothing has tried gets a few requests before it gets many.

    One that had as many already goes on as it likes, so that a way back is open. The largest share of a new group is
    where its requests come from.
    """
    if args.resource_type not in TRAFFIC or not _is_production(args):
        return
    most = float((args.get_config() or {}).get("mostPercent") or MOST_UNGATED_PERCENT)
    weights, before = args.props.get("weights") or {}, args.props.get("before")
    if before is None:
        return  # the provider has not looked yet
    first = max(weights, key=lambda name: weights[name], default="") if not before else ""
    for name, share in weights.items():
        had = before.get(name) or 0
        if name == first or name in (args.props.get("gated") or ()) or had >= most or share - had <= most:
            continue
        yield (
            f"{name} goes from {_number(had)} % to {_number(share)} % of the requests without a gate; give its models "
            f"a gate, or raise its share by {_number(most)} points at most"
        )


# ---- images and start commands -------------------------------------------------------------------------------------


def images_are_pinned(args: ResourceValidationArgs) -> _Found:
    """A tag that moves makes a restart a deployment that nobody reviewed."""
    for container in _containers(args):
        image = container.get("image")
        if not isinstance(image, str) or not image:
            continue
        name, at, digest = image.partition("@")
        tag = name.rpartition("/")[2].partition(":")[2]
        if at and re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
            continue
        if at or not tag:
            yield f"image {image} has no tag; name a version, or a digest (@sha256:...)"
        elif tag.split("-")[0] in ("latest", "nightly", "devel", "stable", "main", "master"):
            yield f"image {image} has a tag that moves; name a version, or a digest (@sha256:...)"


def labels_flag_only_with_polling(args: ResourceValidationArgs) -> _Found:
    """The flag lets a server start with labels whose versions are not there.

    Without polling it never learns when they move, and may answer by a label from the wrong version until it restarts.
    """
    for container in _containers(args):
        flags = _flags(container)
        if flags.get(LABELS_FLAG, "false").lower() not in ("true", "t", "1", "yes", "y"):
            continue
        polls = flags.get(POLL_FLAG, "0")
        if not (polls.isascii() and polls.isdigit() and int(polls) > 0):
            yield f"--{LABELS_FLAG} without --{POLL_FLAG}; set configPollSeconds to 1 or more"


# ---- secrets -------------------------------------------------------------------------------------------------------


def no_plaintext_token(args: ResourceValidationArgs) -> _Found:
    """Finds secrets in places that are never encrypted. What can be encrypted is, by :func:`encrypt_tokens`."""
    props = args.props
    if args.resource_type == EAS_SERVICE:
        if "token" not in (args.opts.additional_secret_outputs or ()):
            yield "its access token is an output in plain text; name token in additionalSecretOutputs"
        token = _at(props, "spec", "token")
        if isinstance(token, str) and token:
            spec = {key: value for key, value in (props.get("spec") or {}).items() if key != "token"}
            for path in _places(spec, token, "spec"):
                yield f"the access token is also at {path}, where it is not encrypted; take it out"
    for container in _containers(args):
        for name, value in _flags(container).items():
            if SECRET_NAME.search(name) and value:
                yield f"the start command has a secret in --{name}, where every process list shows it"


def encrypt_tokens(args: ResourceValidationArgs) -> Mapping[str, Any] | None:
    """Marks the access token, registry credentials and secret environment variables of a service as secret."""
    if args.resource_type == SERVED_CONFIG:
        services = _behind(_behind(args.props).get("services"))
        entries = [_behind(entry) for entry in services.values()] if isinstance(services, dict) else []
        changed = [_encrypt(entry, "token") for entry in entries if isinstance(entry, dict)]
        return args.props if any(changed) else None
    if args.resource_type != EAS_SERVICE:
        return None
    spec = _behind(_behind(args.props).get("spec"))
    if not isinstance(spec, dict):
        return None  # none, or all of it is secret
    changed = [_encrypt(spec, "token"), _encrypt(spec, "dockerAuth")]
    containers = spec.get("containers")
    for container in map(_behind, containers if isinstance(containers, list) else ()):
        variables = container.get("env") if isinstance(container, dict) else None
        changed += [
            _encrypt(variable, "value")
            for variable in map(_behind, variables if isinstance(variables, list) else ())
            if isinstance(variable, dict) and SECRET_NAME.search(str(variable.get("name", "")))
        ]
    return args.props if any(changed) else None


def _behind(value: Any) -> Any:
    """What is behind a proxy. The proxy hands secrets out in the clear; only this tells which are marked."""
    return value["__target"] if isinstance(value, Mapping) and not isinstance(value, dict) else value


def _encrypt(place: dict[str, Any], key: str) -> bool:
    value = place.get(key)
    if not isinstance(value, str) or not value:
        return False
    place[key] = Secret(value)
    return True


_SHARE_SCHEMA = PolicyConfigSchema(
    {
        **_PRODUCTION_SCHEMA.properties,
        "mostPercent": {
            "type": "integer",
            "minimum": 1,
            "maximum": 100,
            "default": MOST_UNGATED_PERCENT,
            "description": "by how many points the share of a member without a gate may rise in one update",
        },
    }
)


# ---- GPU pools -----------------------------------------------------------------------------------------------------

_GPU_SCHEMA = PolicyConfigSchema(
    {
        "mostNodes": {
            "type": "integer",
            "minimum": 1,
            "default": MOST_GPU_NODES,
            "description": "the most GPU nodes or replicas one pool or service may grow to",
        }
    }
)


def gpu_pools_have_a_maximum(args: ResourceValidationArgs) -> _Found:
    """A pool that grows without a bound is a bill without one."""
    most = int((args.get_config() or {}).get("mostNodes") or MOST_GPU_NODES)
    if args.resource_type == NODE_POOL and _has_gpus(args.props.get("instanceTypes") or ()):
        scaling = args.props.get("scalingConfig") or {}
        if scaling.get("enable") is False or not scaling:
            size = args.props.get("desiredSize")
            where = "desiredSize"
        else:
            size, where = scaling.get("maxSize"), "scalingConfig.maxSize"
        if size is None:
            yield f"has GPUs and no maximum; set {where} to {most} or less"
        elif int(size) > most:
            yield f"{where} is {_number(size)}; a GPU pool may have {most} nodes at most"
    if args.resource_type == EAS_SERVICE:
        instances = _at(args.props, "spec", "cloud", "computing", "instances") or ()
        scaler = args.props.get("autoscaler")
        with_gpus = _has_gpus([str(item.get("type") or "") for item in instances])
        for job in _at(args.props, "cronScaler", "scaleJobs") or () if with_gpus else ():
            if int(job.get("targetSize") or 0) > most:
                job_size = f"job {job.get('name')} of the schedule sets {_number(job['targetSize'])}"
                yield f"{job_size}; a GPU service may have {most} replicas at most"
        if scaler and with_gpus:
            size = scaler.get("max")
            if size is None:
                yield f"has GPUs and an autoscaler without max; set it to {most} or less"
            elif int(size) > most:
                yield f"autoscaler.max is {_number(size)}; a GPU service may have {most} replicas at most"


def _has_gpus(types: Sequence[str]) -> bool:
    return any(GPU_INSTANCE.match(each) for each in types)


# ---- shared --------------------------------------------------------------------------------------------------------


def _at(value: Any, *path: str) -> Any:
    for key in path:
        if not isinstance(value, Mapping):
            return None
        value = value.get(key)
    return value


def _containers(args: ResourceValidationArgs) -> list[Mapping[str, Any]]:
    """The containers of a service or of a Kubernetes workload."""
    if args.resource_type == EAS_SERVICE:
        found = _at(args.props, "spec", "containers")
    elif args.resource_type in WORKLOADS:
        pod = _at(args.props, "spec", "template", "spec")
        found = [*(_at(pod, "initContainers") or ()), *(_at(pod, "containers") or ())]
    else:
        found = ()
    return [container for container in found or () if isinstance(container, Mapping)]


def _serves(props: Mapping[str, Any]) -> bool:
    """Whether a workload's pods listen, so that a missing one is missed."""
    containers = _at(props, "spec", "template", "spec", "containers") or ()
    return any(container.get("ports") for container in containers)


def _flags(container: Mapping[str, Any]) -> dict[str, str]:
    """``--name=value`` and ``--name`` of a start command; the last of a repeated flag, as TensorFlow Serving has it."""
    words: list[str] = []
    for key in ("command", "script", "args"):
        value = container.get(key)
        if isinstance(value, str):
            try:
                words += shlex.split(value, comments=True)
            except ValueError:  # a script may have quotes that only a shell understands
                words += value.split()
        elif isinstance(value, Sequence):
            words += [str(word) for word in value]
    flags = {}
    for word in words:
        if match := re.fullmatch(r"--?([A-Za-z][\w-]*)(?:=(.*))?", word, re.DOTALL):
            flags[match[1]] = "true" if match[2] is None else match[2]
    return flags


def _places(value: Any, text: str, path: str) -> Iterator[str]:
    """Where ``text`` occurs below ``value``, as keys or in values."""
    if isinstance(value, str):
        if text in value:
            yield path
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if text in str(key):
                yield f"a key of {path}"
            yield from _places(item, text, f"{path}.{key}" if text not in str(key) else path)
    elif isinstance(value, Sequence):
        for index, item in enumerate(value):
            yield from _places(item, text, f"{path}[{index}]")


def _number(value: Any) -> str:
    """Numbers come over the wire as floats."""
    if value is None:
        return "not set"
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


POLICIES: list[Policy] = [
    _policy(
        "bucket-private-encrypted",
        "Buckets and objects are private, and buckets are encrypted.",
        bucket_is_private_and_encrypted,
    ),
    _policy(
        "prod-two-replicas",
        "Services of production stacks have at least two replicas.",
        production_has_two_replicas,
        _PRODUCTION_SCHEMA,
    ),
    _policy(
        "prod-not-only-spot",
        "Production does not run on spot capacity alone.",
        production_is_not_only_spot,
        _PRODUCTION_SCHEMA,
    ),
    _policy(
        "prod-no-untried-traffic",
        "In production, no member of a group without a gate gets many requests more at once.",
        production_trusts_gates,
        _SHARE_SCHEMA,
    ),
    _policy("pinned-images", "Images name a version or a digest.", images_are_pinned),
    _policy(
        "no-plaintext-token",
        "Tokens and other secrets are encrypted in the state, and in no place that cannot be.",
        no_plaintext_token,
        enforcement_level=EnforcementLevel.REMEDIATE,
        remediate=encrypt_tokens,
    ),
    _policy(
        "labels-flag-only-with-polling",
        f"--{LABELS_FLAG} is set only where the config file is polled.",
        labels_flag_only_with_polling,
    ),
    _policy(
        "gpu-pools-have-a-maximum",
        "GPU node pools and services cannot grow without bound.",
        gpu_pools_have_a_maximum,
        _GPU_SCHEMA,
    ),
]
