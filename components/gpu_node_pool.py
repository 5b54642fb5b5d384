"""A GPU node pool of an ACK cluster."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import pulumi

from components import arguments
from components.component import Argument, Component, PutBack, as_it_is
from components.other_packages import NodePool, NodePoolArgs
from config.kubernetes import CLUSTER_ID, KubernetesSettings, read_pools
from config.reader import Reader
from tfserving import kubernetes
from tfserving.contract.records import Record
from tfserving.errors import ConfigError
from tfserving.kubernetes import GpuNodePoolSpec


@dataclass(frozen=True, kw_only=True)
class PoolPlan:
    """What a :class:`GpuNodePool` makes, already checked.

    Attributes:
        pool: the pool (:func:`tfserving.kubernetes.validate_pool`).
        cluster_id: id of the ACK cluster.
        vswitch_ids: vSwitches of a cluster of the same stack, where ``pool`` names none.
        put_back: sets late values in the place of their stand-ins.
        warnings: what is worth saying although nothing is wrong.
    """

    pool: GpuNodePoolSpec
    cluster_id: pulumi.Input[str]
    vswitch_ids: pulumi.Input[Sequence[pulumi.Input[str]]] = ()
    put_back: PutBack = as_it_is
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class PoolOutputs(Record):
    """Outputs of GpuNodePool.

    Attributes:
        node_pool_id: id of the node pool.
        declaration: its options, for the services that run on its nodes.
    """

    node_pool_id: str
    declaration: str


class GpuNodePool(Component):
    """Nodes with GPUs, labelled and tainted so that the pods that need them find them, scaled from zero if wanted.

    Only what was asked for is sent: most settings of a node pool that the API fills in would otherwise be a
    difference for ever. ``desired_size`` and ``scaling_config`` exclude each other, or the autoscaler and the stack
    undo each other's work.

    Attributes:
        pool: the pool's description.
        node_pool_id: id of the node pool.
        resource: the node pool itself.
    """

    shape = (GpuNodePoolSpec,)
    arguments = (
        Argument(key="clusterId", description="Id of the ACK cluster.", required=True, late="c{}"),
        Argument(key="poolName", description="Name of the pool. Default: the name of the component."),
    )
    outputs = PoolOutputs

    def __init__(
        self,
        name: str,
        args: PoolPlan | Mapping[str, Any] | None = None,
        opts: pulumi.ResourceOptions | None = None,
        **options: Any,
    ) -> None:
        plan = (
            args if isinstance(args, PoolPlan) else _plan(name, arguments.given(type(self), name, args, opts, options))
        )
        super().__init__(name, opts, plan.warnings)
        pool, put_back = plan.pool, plan.put_back
        self.pool = pool
        properties: NodePoolArgs = {
            "clusterId": put_back(plan.cluster_id),
            "nodePoolName": pool.name,
            "vswitchIds": plan.vswitch_ids if pool.vswitch_ids is None else put_back(list(pool.vswitch_ids)),
            "instanceTypes": list(pool.instance_types),
            "imageType": pool.image_type,
            "systemDiskCategory": pool.system_disk_category,
            "systemDiskSize": pool.system_disk_size,
            "systemDiskPerformanceLevel": pool.system_disk_performance_level or None,
            "dataDisks": [
                {"category": disk.category, "size": disk.size, "performanceLevel": disk.performance_level or None}
                for disk in pool.data_disks
            ]
            or None,
            "labels": [{"key": key, "value": value} for key, value in kubernetes.node_labels(pool).items()],
            "taints": [{"key": each.key, "value": each.value, "effect": each.effect} for each in pool.taints] or None,
            "desiredSize": None if pool.desired_size is None else str(pool.desired_size),
            "scalingConfig": _scaling(pool),
            "management": _management(pool),
            "kubeletConfiguration": _kubelet(pool.kubelet),
            "securityGroupIds": put_back(list(pool.security_group_ids)) or None,
            "tags": put_back(dict(pool.tags)) or None,
            "resourceGroupId": put_back(pool.resource_group_id) or None,
            **_spot(pool),
        }
        self.resource = NodePool(f"{name}-pool", properties, pulumi.ResourceOptions(parent=self))
        self.node_pool_id = self.resource.node_pool_id
        self.finish({"nodePoolId": self.node_pool_id, "declaration": pool_declaration(pool)})


def pool_declaration(pool: GpuNodePoolSpec) -> str:
    """What a service needs to know of the pool whose nodes it runs on, as JSON."""
    sharing = {"gpuSharing": pool.gpu_sharing, "gpuPlacement": pool.gpu_placement}
    taints = [{key: value for key, value in asdict(taint).items() if value} for taint in pool.taints]
    known = {"instanceTypes": list(pool.instance_types), **sharing, "labels": dict(pool.labels), "taints": taints}
    return json.dumps({"name": pool.name, **known}, sort_keys=True, separators=(",", ":"))


def _plan(name: str, given: dict[str, Any]) -> PoolPlan:
    """What the arguments come to.

    Raises:
        ArgumentError: everything that is wrong with them.
    """

    def plan(values: Mapping[str, Any]) -> PoolPlan:
        entry = {key: value for key, value in values.items() if key not in ("clusterId", "poolName")}
        pool_name = str(values.get("poolName", name))
        reader = Reader()
        cluster = reader.text(values.get("clusterId"), "clusterId")
        if not re.fullmatch(CLUSTER_ID, cluster):
            reader.add("clusterId", f"{reader.show(cluster)} is not the id of an ACK cluster", "c...")
        pools = read_pools(reader, {pool_name: entry}, "", KubernetesSettings(cluster_id=cluster or "c"))
        if reader.problems:
            below = (f".{pool_name}.", f'["{pool_name}"].')
            raise ConfigError(
                replace(each, path=next((each.path.removeprefix(start) for start in below
                                         if each.path.startswith(start)), each.path.lstrip(".")))
                for each in reader.problems
            )  # fmt: skip
        [pool] = pools.values()
        return PoolPlan(pool=pool, cluster_id=cluster, warnings=tuple(kubernetes.pool_warnings(pool)))

    checked = arguments.check(GpuNodePool, name, given, plan)
    return replace(checked.plan, put_back=checked.put_back)


def _scaling(pool: GpuNodePoolSpec) -> dict[str, Any] | None:
    """``type`` is how the autoscaler imagines a node of the pool while there is none."""
    if pool.scaling is None:
        return None
    return {
        "enable": True,
        "minSize": pool.scaling.min,
        "maxSize": pool.scaling.max,
        "type": kubernetes.scaling_type(pool),
    }


def _management(pool: GpuNodePoolSpec) -> dict[str, Any]:
    return {
        "enable": pool.auto_repair or pool.auto_upgrade,
        "autoRepair": pool.auto_repair,
        "autoRepairPolicy": {"restartNode": True} if pool.auto_repair else None,
        "autoUpgrade": pool.auto_upgrade,
        "autoUpgradePolicy": {"autoUpgradeKubelet": True} if pool.auto_upgrade else None,
        "maxUnavailable": pool.max_unavailable,
    }


def _spot(pool: GpuNodePoolSpec) -> NodePoolArgs:
    spot = pool.spot
    if spot is None:
        return {}
    limits = [
        {"instanceType": name, "priceLimit": str(spot.price_limits[name])}
        for name in pool.instance_types
        if name in spot.price_limits
    ]
    return {
        "spotStrategy": "SpotWithPriceLimit" if limits else "SpotAsPriceGo",
        "spotPriceLimits": limits or None,
        "spotInstanceRemedy": spot.remedy,
        "compensateWithOnDemand": spot.compensate,
        # On-demand shares exist only with this policy of the scaling group.
        "multiAzPolicy": "COST_OPTIMIZED",
        "onDemandBaseCapacity": str(spot.on_demand_base),
        "onDemandPercentageAboveBaseCapacity": str(spot.on_demand_percentage),
    }


def _kubelet(settings: Mapping[str, Any]) -> Any:
    """The provider takes single values as texts."""
    if not settings:
        return None

    def value(key: str, item: Any) -> Any:
        if key in kubernetes.KUBELET_LISTS:
            return [_text(part) for part in item]
        if key in kubernetes.KUBELET_OBJECTS:
            return {name: _text(part) for name, part in item.items()}
        if key == "featureGates":
            return {name: part in (True, "true") for name, part in item.items()}
        return _text(item)

    return {key: value(key, settings[key]) for key in sorted(settings)}


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
