"""A GPU node pool of an ACK cluster: its description, and everything wrong with one before it is made.

Sources of the rules: the node pool API of ACK (CS 2015-12-15), the ``alicloud_cs_kubernetes_node_pool`` resource (which
settings conflict, which defaults are differences for ever), Alibaba Cloud's pages on GPU scheduling labels and on
automatic scaling of GPU node pools.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from tfserving.errors import Problem
from tfserving.kubernetes.gpu import Card, GpuInstanceType, looks_like_instance_type, parse_instance_type
from tfserving.kubernetes.names import Taint, label_problems, taint_problems
from tfserving.model_config import did_you_mean
from tfserving.options import option
from tfserving.property_path import join_path

GpuSharing = Literal["default", "cgpu", "core_mem", "share", "mps", "topology"]
SHARING_MODES: tuple[GpuSharing, ...] = ("default", "cgpu", "core_mem", "share", "mps", "topology")

SLICED_MODES: frozenset[GpuSharing] = frozenset({"cgpu", "core_mem", "share", "mps"})
"""Modes in which pods ask for GiB of card memory (``aliyun.com/gpu-mem``) instead of whole cards."""

SCHEDULE_LABEL = "ack.node.gpu.schedule"
PLACEMENT_LABEL = "ack.node.gpu.placement"
POOL_LABEL = "tf-serving/node-pool"
"""Label that every pool gets: its name. Services choose the pool by it, also while it has no node."""

IMAGE_TYPES = (
    "AliyunLinux3",
    "ContainerOS",
    "Ubuntu",
    "AliyunLinux",
    "AliyunLinuxUEFI",
    "AliyunLinuxSecurity",
    "CentOS",
)
"""Operating systems of the node pool API that GPU nodes can have."""

_WITHOUT_GPU_DRIVER = ("AliyunLinux3Arm64", "Windows", "WindowsCore")
_DISK_CATEGORIES = ("cloud_essd", "cloud_auto", "cloud_ssd", "cloud_efficiency", "cloud_essd_entry")
_DISK_SIZES = {"PL0": (20, 2048), "PL1": (20, 2048), "PL2": (461, 2048), "PL3": (1261, 2048)}
_MAX_NODES = 1000
_MAX_INSTANCE_TYPES = 10
_Refuse = Callable[..., None]
"""``refuse(key, message, allowed, fix)`` notes one problem; the last two may be left out."""

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?")
_RESERVED_DOMAINS = ("kubernetes.io", "k8s.io", "alibabacloud.com")

KUBELET_KEYS = (
    "allowedUnsafeSysctls",
    "clusterDns",
    "containerLogMaxFiles",
    "containerLogMaxSize",
    "containerLogMaxWorkers",
    "containerLogMonitorInterval",
    "cpuCfsQuota",
    "cpuCfsQuotaPeriod",
    "cpuManagerPolicy",
    "eventBurst",
    "eventRecordQps",
    "evictionHard",
    "evictionSoft",
    "evictionSoftGracePeriod",
    "featureGates",
    "imageGcHighThresholdPercent",
    "imageGcLowThresholdPercent",
    "kubeApiBurst",
    "kubeApiQps",
    "kubeReserved",
    "maxPods",
    "memoryManagerPolicy",
    "podPidsLimit",
    "readOnlyPort",
    "registryBurst",
    "registryPullQps",
    "serializeImagePulls",
    "systemReserved",
    "topologyManagerPolicy",
)
"""Kubelet settings of the node pool, as the provider's SDK spells them."""

KUBELET_OBJECTS = ("evictionHard", "evictionSoft", "evictionSoftGracePeriod", "kubeReserved", "systemReserved")
KUBELET_LISTS = ("allowedUnsafeSysctls", "clusterDns")


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """Bounds of the cluster autoscaler.

    Attributes:
        min: fewest nodes; 0 lets an unused pool cost nothing, and its first pod wait for a node.
        max: most nodes.
    """

    min: int = 0
    max: int


@dataclass(frozen=True, kw_only=True)
class Spot:
    """Spot capacity.

    Attributes:
        price_limits: highest price per hour, by instance type.
        on_demand_base: nodes that are always pay-as-you-go.
        on_demand_percentage: share of pay-as-you-go nodes beyond ``on_demand_base``, 0 to 100.
        compensate: pay-as-you-go nodes where no spot capacity is to be had.
        remedy: look for a replacement as soon as a node is announced to be reclaimed.
    """

    price_limits: Mapping[str, float] = option(factory=dict, otherwise="the market price")
    on_demand_base: int = 0
    on_demand_percentage: int = option(0, unit="percent")
    compensate: bool = True
    remedy: bool = True


@dataclass(frozen=True, kw_only=True)
class DataDisk:
    """A data disk of every node.

    Attributes:
        size: size of the disk.
        category: disk category.
        performance_level: ``PL0`` to ``PL3``, for ``cloud_essd``.
    """

    size: int = option(unit="GiB")
    category: str = "cloud_essd"
    performance_level: str = ""


@dataclass(frozen=True, kw_only=True)
class GpuNodePoolSpec:
    """One GPU node pool.

    Attributes:
        name: name of the pool, and value of its label ``tf-serving/node-pool``.
        instance_types: GPU types, in order of preference.
        vswitch_ids: vSwitches of the nodes.
        scaling: bounds of the autoscaler; excludes ``desired_size``: an autoscaler and a fixed size undo each other.
        desired_size: fixed number of nodes; excludes ``scaling``.
        gpu_sharing: the nodes' label ``ack.node.gpu.schedule``: whole cards (``default``, or ``topology``: cards that
            lie close to each other), or slices of memory (``cgpu``, ``core_mem``, ``share``, ``mps``).
        gpu_placement: with slices, on nodes with several cards.
        labels: further node labels. Each node also gets ``tf-serving/node-pool: <name>``, by which services find it,
            even at size 0.
        taints: taints of the nodes; services in the pool tolerate them.
        spot: spot capacity.
        image_type: operating system.
        system_disk_category: category of the system disk.
        system_disk_size: size of the system disk; GPU images are large.
        system_disk_performance_level: ``PL0`` to ``PL3``, for ``cloud_essd``.
        data_disks: data disks of every node.
        kubelet: kubelet settings of the node pool API (``maxPods``, ``kubeReserved``, ...).
        auto_repair: ACK repairs nodes that are not ready.
        auto_upgrade: ACK upgrades nodes in maintenance windows.
        max_unavailable: nodes that may be missing while ACK repairs or upgrades.
        security_group_ids: security groups of the nodes.
        tags: tags of the ECS instances.
        resource_group_id: resource group of the account.
    """

    name: str = option(configured=False)
    instance_types: tuple[str, ...]
    vswitch_ids: tuple[str, ...] | None = option(
        (), otherwise="those of `cluster`", late="vsw-{}"
    )  # None: made by the same stack
    scaling: Scaling | None = None
    desired_size: int | None = None
    gpu_sharing: GpuSharing = "default"
    gpu_placement: Literal["", "binpack", "spread"] = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Taint, ...] = ()
    spot: Spot | None = option(None, also=(True,))
    image_type: str = "AliyunLinux3"
    system_disk_category: str = "cloud_essd"
    system_disk_size: int = option(120, unit="GiB")
    system_disk_performance_level: str = ""
    data_disks: tuple[DataDisk, ...] = ()
    kubelet: Mapping[str, Any] = field(default_factory=dict)
    auto_repair: bool = True
    auto_upgrade: bool = False
    max_unavailable: int = 1
    security_group_ids: tuple[str, ...] = option((), otherwise="the cluster's", late="sg-{}")
    tags: Mapping[str, str] = option(factory=dict, late="{}*")
    resource_group_id: str = option("", otherwise="the account's default", late="rg-{}")


def node_labels(spec: GpuNodePoolSpec) -> dict[str, str]:
    """All labels of the pool's nodes, sorted by key: the API keeps a list, whose order is a difference."""
    labels = {POOL_LABEL: spec.name, **spec.labels, SCHEDULE_LABEL: spec.gpu_sharing}
    if spec.gpu_placement:
        labels[PLACEMENT_LABEL] = spec.gpu_placement
    return dict(sorted(labels.items()))


def scaling_type(spec: GpuNodePoolSpec) -> Literal["gpu", "gpushare"]:
    """How the autoscaler imagines a node of this pool while there is none."""
    return "gpushare" if spec.gpu_sharing in SLICED_MODES else "gpu"


def gpu_types(spec: GpuNodePoolSpec) -> list[GpuInstanceType]:
    """The instance types that are GPU instance types."""
    return [found for name in spec.instance_types if (found := parse_instance_type(name)) is not None]


def cards(spec: GpuNodePoolSpec) -> list[Card]:
    """The known cards of the pool's nodes, smallest memory first."""
    return sorted({found.card for found in gpu_types(spec) if found.card}, key=lambda card: (card.memory, card.name))


def cards_per_node(spec: GpuNodePoolSpec) -> int | None:
    """The most cards one node can have; ``None`` where an instance type does not tell."""
    numbers = [found.cards for found in gpu_types(spec)]
    known = [number for number in numbers if number is not None]
    return max(known) if known and len(known) == len(numbers) else None


def most_nodes(spec: GpuNodePoolSpec) -> int | None:
    """The most nodes the pool can have."""
    return spec.scaling.max if spec.scaling else spec.desired_size


def validate_pool(spec: GpuNodePoolSpec, path: str) -> list[Problem]:
    """Everything wrong with a pool that can be known before it is made.

    Args:
        spec: the pool.
        path: its place in the stack config; problems are at keys below it.
    """
    problems: list[Problem] = []

    def refuse(key: str, message: str, allowed: str = "", fix: str = "") -> None:
        problems.append(Problem(f"{path}.{key}" if key else path, message, allowed, fix))

    if not _NAME.fullmatch(spec.name):
        refuse("", f"`{spec.name}` is not a name for a node pool", "up to 63 letters, digits, - and _ inside")
    _check_instance_types(spec, refuse)
    if spec.vswitch_ids is not None:
        if not spec.vswitch_ids:
            refuse("vswitchIds", "nodes need a vSwitch", "ids such as vsw-bp1...", "name the cluster's vSwitches")
        for index, vswitch in enumerate(spec.vswitch_ids):
            if not re.fullmatch(r"vsw-[a-z0-9]+", vswitch):
                refuse(f"vswitchIds[{index}]", f"`{vswitch}` is not a vSwitch", "vsw-...")
    _check_size(spec, refuse)
    _check_sharing(spec, refuse)
    _check_labels(spec, refuse)
    problems += label_problems(spec.labels, f"{path}.labels")
    problems += taint_problems(spec.taints, f"{path}.taints")
    if spec.spot:
        _check_spot(spec, spec.spot, refuse)
    _check_disks(spec, refuse)
    if spec.image_type in _WITHOUT_GPU_DRIVER or spec.image_type not in IMAGE_TYPES:
        why = "has no GPU driver" if spec.image_type in _WITHOUT_GPU_DRIVER else "is not an operating system of nodes"
        refuse("imageType", f"`{spec.image_type}` {why}", ", ".join(IMAGE_TYPES))
    _check_kubelet(spec, refuse)
    if spec.max_unavailable < 1:
        refuse("maxUnavailable", f"`{spec.max_unavailable}` nodes: nothing could be repaired", "1 or more")
    for index, group in enumerate(spec.security_group_ids):
        if not re.fullmatch(r"sg-[a-z0-9]+", group):
            refuse(f"securityGroupIds[{index}]", f"`{group}` is not a security group", "sg-...")
    return problems


def pool_warnings(spec: GpuNodePoolSpec) -> list[str]:
    """What works but is worth saying in a preview."""
    found = []
    if spec.scaling and spec.scaling.min == 0:
        found.append("scales from zero: the first pod waits minutes for a node and its image")
    if spec.spot and not spec.spot.on_demand_base and not spec.spot.on_demand_percentage:
        found.append("all nodes are spot: all of them can be reclaimed at the same time")
    if spec.gpu_sharing in SLICED_MODES:
        found.append(f"gpuSharing {spec.gpu_sharing} needs an ACK Pro cluster with the component ack-ai-installer")
    return found


def _check_instance_types(spec: GpuNodePoolSpec, refuse: _Refuse) -> None:
    example = "GPU types such as ecs.gn6i-c4g1.xlarge"
    if not spec.instance_types:
        refuse("instanceTypes", "no instance type is named", example)
    if len(spec.instance_types) > _MAX_INSTANCE_TYPES:
        refuse("instanceTypes", f"{len(spec.instance_types)} instance types", f"at most {_MAX_INSTANCE_TYPES}")
    for index, name in enumerate(spec.instance_types):
        here = f"instanceTypes[{index}]"
        found = parse_instance_type(name)
        if found is None and not looks_like_instance_type(name):
            fix = f"write ecs.{name}" if looks_like_instance_type(f"ecs.{name}") else ""
            refuse(here, f"`{name}` is not an ECS instance type", example, fix)
        elif found is None:
            refuse(here, f"`{name}` has no NVIDIA GPU, and this is a GPU node pool", example)
        elif found.virtual and spec.gpu_sharing in SLICED_MODES:
            message = f"`{name}` has a share of a card already, which gpuSharing: {spec.gpu_sharing} cannot slice again"
            refuse(here, message, example, "use gpuSharing: default, or a type with whole cards")
        if name in spec.instance_types[:index]:
            refuse(here, f"`{name}` is named twice", "", "keep one")
    if spec.gpu_sharing == "share" and len({card.memory for card in cards(spec)}) > 1:
        sizes = ", ".join(f"{card.name} {card.memory} GiB" for card in cards(spec))
        message = f"cards of different memory ({sizes}): without isolation no single share of memory fits them all"
        refuse("instanceTypes", message, "one card size with gpuSharing: share", "split the pool, or use cgpu")


def _check_size(spec: GpuNodePoolSpec, refuse: _Refuse) -> None:
    if spec.scaling and spec.desired_size is not None:
        message = (
            f"both scaling and desiredSize: {spec.desired_size}: the autoscaler and this stack would undo each other"
        )
        refuse("desiredSize", message, "", "remove one of them")
    elif not spec.scaling and spec.desired_size is None:
        refuse("scaling", "nothing says how many nodes there are", "scaling: {min, max}, or desiredSize")
    if spec.scaling:
        low, high = spec.scaling.min, spec.scaling.max
        if not 0 <= low <= _MAX_NODES or not 1 <= high <= _MAX_NODES:
            refuse("scaling", f"the bounds are {low} and {high}", f"0 <= min < max <= {_MAX_NODES}")
        elif low >= high:
            why = "are reversed" if low > high else "leave nothing to scale"
            fix = f"set min: {high}, max: {low}" if low > high else f"use desiredSize: {low}, or raise max"
            refuse("scaling", f"the bounds {low} and {high} {why}", "min below max", fix)
    if spec.desired_size is not None and not 0 <= spec.desired_size <= _MAX_NODES:
        refuse("desiredSize", f"`{spec.desired_size}` is not a number of nodes", f"0 to {_MAX_NODES}")


def _check_sharing(spec: GpuNodePoolSpec, refuse: _Refuse) -> None:
    if spec.gpu_sharing not in SHARING_MODES:
        fix = "use default: a card per pod" if spec.gpu_sharing in ("exclusive", "none") else ""
        refuse("gpuSharing", f"`{spec.gpu_sharing}` is not a sharing mode", ", ".join(SHARING_MODES), fix)
    if spec.gpu_placement not in ("", "binpack", "spread"):
        refuse("gpuPlacement", f"`{spec.gpu_placement}` is not a placement", "binpack, spread")
    elif spec.gpu_placement and spec.gpu_sharing not in SLICED_MODES:
        message = "gpuPlacement is about slices of cards, and this pool gives whole cards"
        refuse("gpuPlacement", message, "", "remove it, or set gpuSharing")


def _check_labels(spec: GpuNodePoolSpec, refuse: _Refuse) -> None:
    for key in spec.labels:
        here = join_path("labels", key)
        if key == SCHEDULE_LABEL:
            refuse(here, f"label {key} is set by gpuSharing", "", f"use gpuSharing: {spec.labels[key]}")
        elif key == PLACEMENT_LABEL:
            refuse(here, f"label {key} is set by gpuPlacement", "", f"use gpuPlacement: {spec.labels[key]}")
        elif key == POOL_LABEL:
            refuse(here, f"label {key} is the name of the pool", "", "use another label")
        elif "/" in key and key.partition("/")[0].endswith(_RESERVED_DOMAINS):
            refuse(here, f"label {key} belongs to Kubernetes or ACK", "", "use another label")


def _check_spot(spec: GpuNodePoolSpec, spot: Spot, refuse: _Refuse) -> None:
    for name, price in spot.price_limits.items():
        here = join_path("spot.priceLimits", name)
        if name not in spec.instance_types:
            fix = did_you_mean(name, spec.instance_types)
            refuse(here, f"`{name}` is not one of the pool's instance types", ", ".join(spec.instance_types), fix)
        if not 0 < price < math.inf:
            refuse(here, f"`{price}` is not a price", "per hour, above 0")
    missing = [name for name in spec.instance_types if name not in spot.price_limits]
    if spot.price_limits and missing:
        message = f"{missing[0]} has no price limit, and with limits for others it would never be bought"
        refuse("spot.priceLimits", message, "a limit for every instance type, or none", f"add {missing[0]}")
    if not 0 <= spot.on_demand_base <= _MAX_NODES:
        refuse("spot.onDemandBase", f"`{spot.on_demand_base}` is not a number of nodes", f"0 to {_MAX_NODES}")
    elif (most := most_nodes(spec)) is not None and spot.on_demand_base > most >= 0:
        message = f"{spot.on_demand_base} pay-as-you-go nodes are more than the pool can have"
        refuse("spot.onDemandBase", message, f"0 to {most}")
    if not 0 <= spot.on_demand_percentage <= 100:
        refuse("spot.onDemandPercentage", f"`{spot.on_demand_percentage}` is not a share", "0 to 100")


def _check_disks(spec: GpuNodePoolSpec, refuse: _Refuse) -> None:
    disks = [
        ("systemDiskSize", "systemDiskCategory", "systemDiskPerformanceLevel", spec.system_disk_size,
         spec.system_disk_category, spec.system_disk_performance_level),
        *(
            (f"dataDisks[{i}].size", f"dataDisks[{i}].category", f"dataDisks[{i}].performanceLevel", disk.size,
             disk.category, disk.performance_level)
            for i, disk in enumerate(spec.data_disks)
        ),
    ]  # fmt: skip
    for size_key, category_key, level_key, size, category, level in disks:
        if category not in _DISK_CATEGORIES:
            refuse(category_key, f"`{category}` is not a disk category", ", ".join(_DISK_CATEGORIES))
        if level and category != "cloud_essd":
            refuse(level_key, f"a {category} disk has no performance level", "only cloud_essd has one", "remove it")
        elif level and level not in _DISK_SIZES:
            refuse(level_key, f"`{level}` is not a performance level", ", ".join(_DISK_SIZES))
        least, most = _DISK_SIZES.get(level, (20, 2048))
        if not least <= size <= most:
            refuse(size_key, f"`{size}` GiB is not a size of such a disk", f"{least} to {most}")
        elif size_key == "systemDiskSize" and size < 60:
            message = f"{size} GiB hold neither a GPU driver nor a GPU image of TensorFlow Serving beside the system"
            refuse(size_key, message, "60 or more", "set 120")


def _check_kubelet(spec: GpuNodePoolSpec, refuse: _Refuse) -> None:
    for key, value in spec.kubelet.items():
        here = join_path("kubelet", key)
        if key not in KUBELET_KEYS:
            refuse(here, f"`{key}` is not a kubelet setting of node pools", "", did_you_mean(key, KUBELET_KEYS))
        elif key in KUBELET_OBJECTS or key == "featureGates":
            if not isinstance(value, Mapping):
                refuse(here, f"`{value}` is not an object", "keys and values, such as {memory: 500Mi}")
        elif key in KUBELET_LISTS:
            if not isinstance(value, list | tuple):
                refuse(here, f"`{value}` is not a list", "a list of texts")
        elif isinstance(value, Mapping | list | tuple):
            refuse(here, "it is not a single value", "text, a number, true or false")
    low, high = (_number(spec.kubelet.get(f"imageGc{end}ThresholdPercent")) for end in ("Low", "High"))
    if low is not None and high is not None and low >= high:
        message = f"the thresholds {low:g} and {high:g} are reversed"
        refuse("kubelet.imageGcLowThresholdPercent", message, "below imageGcHighThresholdPercent")


def _number(value: object) -> float | None:
    return float(str(value)) if re.fullmatch(r"\d+(\.\d+)?", str(value)) else None
