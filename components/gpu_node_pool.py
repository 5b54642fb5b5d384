"""A GPU node pool of an ACK cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
from pulumi_alicloud import cs

from tfserving import kubernetes
from tfserving.kubernetes import GpuNodePoolSpec


@dataclass(frozen=True, kw_only=True)
class GpuNodePoolArgs:
    """Arguments of :class:`GpuNodePool`.

    Attributes:
        pool: the pool, already checked (:func:`tfserving.kubernetes.validate_pool`).
        cluster_id: id of the ACK cluster.
        vswitch_ids: vSwitches of a cluster of the same stack, where ``pool`` names none.
    """

    pool: GpuNodePoolSpec
    cluster_id: pulumi.Input[str]
    vswitch_ids: pulumi.Input[Sequence[pulumi.Input[str]]] = ()


class GpuNodePool(pulumi.ComponentResource):
    """Nodes with GPUs, labelled and tainted so that the pods that need them find them, scaled from zero if wanted.

    Only what was asked for is sent: most settings of ``cs.NodePool`` that the API fills in would otherwise be a
    difference for ever. ``desired_size`` and ``scaling_config`` exclude each other, or the autoscaler and the stack
    undo each other's work.

    Attributes:
        pool: the pool's description.
        node_pool_id: id of the node pool.
        resource: the node pool itself.
    """

    def __init__(self, name: str, args: GpuNodePoolArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("tf-serving:components:GpuNodePool", name, None, opts)
        pool = args.pool
        self.pool = pool
        self.resource = cs.NodePool(
            f"{name}-pool",
            cluster_id=args.cluster_id,
            node_pool_name=pool.name,
            vswitch_ids=args.vswitch_ids if pool.vswitch_ids is None else list(pool.vswitch_ids),
            instance_types=list(pool.instance_types),
            image_type=pool.image_type,
            system_disk_category=pool.system_disk_category,
            system_disk_size=pool.system_disk_size,
            system_disk_performance_level=pool.system_disk_performance_level or None,
            data_disks=[
                cs.NodePoolDataDiskArgs(
                    category=disk.category, size=disk.size, performance_level=disk.performance_level or None
                )
                for disk in pool.data_disks
            ]
            or None,
            labels=[cs.NodePoolLabelArgs(key=key, value=value) for key, value in kubernetes.node_labels(pool).items()],
            taints=[cs.NodePoolTaintArgs(key=t.key, value=t.value, effect=t.effect) for t in pool.taints] or None,
            desired_size=None if pool.desired_size is None else str(pool.desired_size),
            scaling_config=_scaling(pool),
            management=_management(pool),
            kubelet_configuration=_kubelet(pool.kubelet),
            security_group_ids=list(pool.security_group_ids) or None,
            tags=dict(pool.tags) or None,
            resource_group_id=pool.resource_group_id or None,
            **_spot(pool),
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.node_pool_id = self.resource.node_pool_id
        self.register_outputs({"nodePoolId": self.node_pool_id})


def _scaling(pool: GpuNodePoolSpec) -> cs.NodePoolScalingConfigArgs | None:
    """``type`` is how the autoscaler imagines a node of the pool while there is none."""
    if pool.scaling is None:
        return None
    return cs.NodePoolScalingConfigArgs(
        enable=True,
        min_size=pool.scaling.min,
        max_size=pool.scaling.max,
        type=kubernetes.scaling_type(pool),
    )


def _management(pool: GpuNodePoolSpec) -> cs.NodePoolManagementArgs:
    return cs.NodePoolManagementArgs(
        enable=pool.auto_repair or pool.auto_upgrade,
        auto_repair=pool.auto_repair,
        auto_repair_policy=cs.NodePoolManagementAutoRepairPolicyArgs(restart_node=True) if pool.auto_repair else None,
        auto_upgrade=pool.auto_upgrade,
        auto_upgrade_policy=cs.NodePoolManagementAutoUpgradePolicyArgs(auto_upgrade_kubelet=True)
        if pool.auto_upgrade
        else None,
        max_unavailable=pool.max_unavailable,
    )


def _spot(pool: GpuNodePoolSpec) -> dict[str, Any]:
    spot = pool.spot
    if spot is None:
        return {}
    limits = [
        cs.NodePoolSpotPriceLimitArgs(instance_type=name, price_limit=str(spot.price_limits[name]))
        for name in pool.instance_types
        if name in spot.price_limits
    ]
    return {
        "spot_strategy": "SpotWithPriceLimit" if limits else "SpotAsPriceGo",
        "spot_price_limits": limits or None,
        "spot_instance_remedy": spot.remedy,
        "compensate_with_on_demand": spot.compensate,
        # On-demand shares exist only with this policy of the scaling group.
        "multi_az_policy": "COST_OPTIMIZED",
        "on_demand_base_capacity": str(spot.on_demand_base),
        "on_demand_percentage_above_base_capacity": str(spot.on_demand_percentage),
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
