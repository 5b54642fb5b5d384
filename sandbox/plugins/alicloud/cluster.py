"""``alicloud:cs/managedKubernetes:ManagedKubernetes`` and ``alicloud:cs/nodePool:NodePool``.

What is sent and read follows terraform-provider-alicloud. Settings that are optional there but not computed show as
drift where somebody adds them; the others count only where the program declares them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from sandbox.engine.properties import Properties, has_unknown
from sandbox.plugins.alicloud.account import Account
from sandbox.plugins.alicloud.common import misfits, sdk_call
from sandbox.plugins.alicloud.network import vpc_of
from sandbox.plugins.server import InputError, ResourceType, State
from tfserving.errors import CloudError

_PAUSE_SECONDS = 0.2
_TASK_SECONDS = 600.0

_CLUSTER: dict[str, Any] = {
    "name": str,
    "version": str,
    "clusterSpec": str,
    "vswitchIds": [str],
    "serviceCidr": str,
    "podCidr": str,
    "newNatGateway": bool,
    "slbInternetEnabled": bool,
    "enableRrsa": bool,
    "deletionProtection": bool,
    "addons": [{"name": str, "config": str, "version": str, "disabled": bool}],
}
_POOL: dict[str, Any] = {
    "clusterId": str,
    "nodePoolName": str,
    "vswitchIds": [str],
    "instanceTypes": [str],
    "imageType": str,
    "systemDiskCategory": str,
    "systemDiskSize": int,
    "systemDiskPerformanceLevel": str,
    "dataDisks": [{"category": str, "size": int, "performanceLevel": str}],
    "labels": [{"key": str, "value": str}],
    "taints": [{"key": str, "value": str, "effect": str}],
    "desiredSize": str,
    "scalingConfig": {"enable": bool, "minSize": int, "maxSize": int, "type": str},
    "management": {
        "enable": bool,
        "autoRepair": bool,
        "autoRepairPolicy": {"restartNode": bool},
        "autoUpgrade": bool,
        "autoUpgradePolicy": {"autoUpgradeKubelet": bool},
        "maxUnavailable": int,
    },
    "kubeletConfiguration": dict,
    "securityGroupIds": [str],
    "tags": dict,
    "resourceGroupId": str,
    "spotStrategy": str,
    "spotPriceLimits": [{"instanceType": str, "priceLimit": str}],
    "spotInstanceRemedy": bool,
    "compensateWithOnDemand": bool,
    "multiAzPolicy": str,
    "onDemandBaseCapacity": str,
    "onDemandPercentageAboveBaseCapacity": str,
}
_NOT_COMPUTED = ("vswitchIds", "instanceTypes", "labels", "taints", "desiredSize", "dataDisks", "systemDiskSize")
_GROUP = {
    "vswitchIds": "vswitch_ids",
    "instanceTypes": "instance_types",
    "imageType": "image_type",
    "systemDiskCategory": "system_disk_category",
    "systemDiskSize": "system_disk_size",
    "systemDiskPerformanceLevel": "system_disk_performance_level",
    "securityGroupIds": "security_group_ids",
    "spotStrategy": "spot_strategy",
    "spotInstanceRemedy": "spot_instance_remedy",
    "compensateWithOnDemand": "compensate_with_on_demand",
    "multiAzPolicy": "multi_az_policy",
}
_GROUP_NUMBERS = {  # texts in the provider
    "desiredSize": "desired_size",
    "onDemandBaseCapacity": "on_demand_base_capacity",
    "onDemandPercentageAboveBaseCapacity": "on_demand_percentage_above_base_capacity",
}
_SCALING = {"enable": "enable", "minSize": "min_instances", "maxSize": "max_instances", "type": "type"}


class ManagedKubernetes(ResourceType):
    """An ACK cluster."""

    replace_on: ClassVar[frozenset[str]] = frozenset({"serviceCidr", "podCidr"})
    computed: ClassVar[tuple[str, ...]] = ("vpcId", "securityGroupId", "connections")

    def __init__(self, provider: Account) -> None:
        self._provider = provider

    def check(self, name: str, old: Properties, new: Properties) -> Properties:
        """Refuses inputs the stand-in does not know."""
        if failures := list(misfits(new, _CLUSTER, "")):
            raise InputError(*failures)
        return new

    def create(self, urn: str, inputs: Properties) -> tuple[str, Properties]:
        """CreateCluster, and waiting for its task."""
        body = {
            "cluster_type": "ManagedKubernetes",
            "profile": "Default",
            "region_id": self._provider.region,
            "name": inputs.get("name"),
            "kubernetes_version": inputs.get("version"),
            "cluster_spec": inputs.get("clusterSpec"),
            "vswitch_ids": inputs.get("vswitchIds"),
            "vpcid": vpc_of(self._provider, (inputs.get("vswitchIds") or [""])[0]),
            "service_cidr": inputs.get("serviceCidr"),
            "container_cidr": inputs.get("podCidr"),
            "snat_entry": inputs.get("newNatGateway", True),
            "endpoint_public_access": inputs.get("slbInternetEnabled", True),
            "enable_rrsa": inputs.get("enableRrsa"),
            "deletion_protection": inputs.get("deletionProtection"),
            "addons": inputs.get("addons"),
        }
        request = models().CreateClusterRequest().from_map({k: v for k, v in body.items() if v is not None})
        made = sdk_call(f"create cluster {inputs.get('name')}", self._provider.cs.create_cluster, request).body
        wait_for_task(self._provider, urn, str(made.task_id))
        return str(made.cluster_id), {**inputs, **(self._facts(str(made.cluster_id)) or {})}

    def read(self, state: State) -> tuple[Properties, Properties] | None:
        """DescribeClusterDetail."""
        found = self._facts(state.id)
        if found is None:
            return None
        actual = {key: found.get(key, value) for key, value in state.inputs.items()}
        return actual, {**state.outputs, **found}

    def update(self, state: State, inputs: Properties) -> Properties:
        """ModifyCluster. What it does not change is refused."""
        keys = ("name", "deletionProtection", "vswitchIds", "enableRrsa")
        for key in inputs:
            if key not in keys and inputs[key] != state.inputs.get(key):
                raise CloudError(f"the sandbox's stand-in for alicloud cannot change {key} of a cluster")
        body = {
            "cluster_name": inputs.get("name"),
            "deletion_protection": inputs.get("deletionProtection"),
            "vswitch_ids": inputs.get("vswitchIds"),
            "enable_rrsa": inputs.get("enableRrsa"),
        }
        request = models().ModifyClusterRequest().from_map({k: v for k, v in body.items() if v is not None})
        made = sdk_call(f"change cluster {state.id}", self._provider.cs.modify_cluster, state.id, request).body
        wait_for_task(self._provider, state.urn, str(made.task_id))
        return {**inputs, **(self._facts(state.id) or {})}

    def delete(self, state: State) -> None:
        """DeleteCluster, and waiting until it is gone."""
        call, request = self._provider.cs.delete_cluster, models().DeleteClusterRequest()
        made = sdk_call(f"delete cluster {state.id}", call, state.id, request, missing_is_fine=True)
        if made is not None:
            wait_for_task(self._provider, state.urn, str(made.body.task_id))

    def _facts(self, id_: str) -> Properties | None:
        try:
            found = sdk_call(f"read cluster {id_}", self._provider.cs.describe_cluster_detail, id_).body.to_map()
        except CloudError as error:
            if "NotFound" in error.code:
                return None
            raise
        return {
            "name": found["name"],
            "clusterSpec": found["cluster_spec"],
            "vswitchIds": found["vswitch_ids"],
            "vpcId": found["vpc_id"],
            "serviceCidr": found["service_cidr"],
            "deletionProtection": found["deletion_protection"],
            "securityGroupId": found["security_group_id"],
        }


class NodePool(ResourceType):
    """A node pool. Its id is ``<cluster>:<pool>``."""

    replace_on: ClassVar[frozenset[str]] = frozenset({"clusterId", "securityGroupIds"})
    delete_first: ClassVar[bool] = True  # names are unique in a cluster
    computed: ClassVar[tuple[str, ...]] = ("nodePoolId", "scalingGroupId")

    def __init__(self, provider: Account) -> None:
        self._provider = provider

    def check(self, name: str, old: Properties, new: Properties) -> Properties:
        """Refuses inputs the stand-in does not know, and those that fight each other."""
        failures = list(misfits(new, _POOL, ""))
        failures += [(key, "is required") for key in ("clusterId", "nodePoolName") if not new.get(key)]
        if new.get("desiredSize") is not None and (new.get("scalingConfig") or {}).get("enable"):
            failures.append(("desiredSize", "conflicts with scalingConfig"))
        size = new.get("desiredSize")
        if size is not None and not has_unknown(size) and not re.fullmatch(r"\d+", str(size)):
            failures.append(("desiredSize", "is a number in a text"))
        if failures:
            raise InputError(*failures)
        return new

    def create(self, urn: str, inputs: Properties) -> tuple[str, Properties]:
        """CreateClusterNodePool, and waiting for its task."""
        request = models().CreateClusterNodePoolRequest().from_map(_body(inputs))
        cluster, name = str(inputs["clusterId"]), inputs["nodePoolName"]
        call = self._provider.cs.create_cluster_node_pool
        made = sdk_call(f"create node pool {name}", call, cluster, request).body
        wait_for_task(self._provider, urn, str(made.task_id))
        id_ = f"{cluster}:{made.nodepool_id}"
        return id_, {**inputs, **(self._outputs(id_) or {})}

    def read(self, state: State) -> tuple[Properties, Properties] | None:
        """DescribeClusterNodePoolDetail."""
        found = self._facts(state.id)
        if found is None:
            return None
        declared = state.inputs
        actual = {key: value for key, value in found.items() if key in declared or key in _NOT_COMPUTED}
        if isinstance(actual.get("management"), dict):
            actual["management"] = {k: v for k, v in actual["management"].items() if k in declared["management"]}
        return actual, {**state.outputs, **(self._outputs(state.id) or {})}

    def update(self, state: State, inputs: Properties) -> Properties:
        """ModifyClusterNodePool; the kubelet has a call of its own."""
        cluster, _, pool = state.id.partition(":")
        body = _body(inputs)
        body.pop("node_config", None)
        # What is left out stays as it was: what is to be empty must be sent.
        if "taints" in state.inputs and "taints" not in inputs:
            body["kubernetes_config"]["taints"] = []
        if "scalingConfig" in state.inputs and "scalingConfig" not in inputs:
            body["auto_scaling"] = {"enable": False}
        request = models().ModifyClusterNodePoolRequest().from_map(body)
        call = self._provider.cs.modify_cluster_node_pool
        made = sdk_call(f"change node pool {state.id}", call, cluster, pool, request).body
        wait_for_task(self._provider, state.urn, str(made.task_id))
        if inputs.get("kubeletConfiguration") != state.inputs.get("kubeletConfiguration"):
            kubelet = (
                models()
                .ModifyNodePoolNodeConfigRequest()
                .from_map({"kubelet_config": inputs.get("kubeletConfiguration") or {}})
            )
            call = self._provider.cs.modify_node_pool_node_config
            made = sdk_call(f"change kubelets of node pool {state.id}", call, cluster, pool, kubelet).body
            wait_for_task(self._provider, state.urn, str(made.task_id))
        return {**inputs, **(self._outputs(state.id) or {})}

    def delete(self, state: State) -> None:
        """DeleteClusterNodepool, and waiting until it is gone."""
        cluster, _, pool = state.id.partition(":")
        call, request = self._provider.cs.delete_cluster_nodepool, models().DeleteClusterNodepoolRequest(force=True)
        made = sdk_call(f"delete node pool {state.id}", call, cluster, pool, request, missing_is_fine=True)
        if made is not None:
            wait_for_task(self._provider, state.urn, str(made.body.task_id))

    def _describe(self, id_: str) -> Mapping[str, Any] | None:
        cluster, _, pool = id_.partition(":")
        call = self._provider.cs.describe_cluster_node_pool_detail
        try:
            found: Mapping[str, Any] = sdk_call(f"read node pool {id_}", call, cluster, pool).body.to_map()
        except CloudError as error:
            if "NotFound" in error.code:
                return None
            raise
        return found

    def _outputs(self, id_: str) -> Properties | None:
        found = self._describe(id_)
        if found is None:
            return None
        return {
            "nodePoolId": found["nodepool_info"]["nodepool_id"],
            "scalingGroupId": found["scaling_group"].get("scaling_group_id", ""),
        }

    def _facts(self, id_: str) -> Properties | None:
        """The pool in the provider's terms, without what is empty."""
        found = self._describe(id_)
        if found is None:
            return None
        group, scaling = found.get("scaling_group") or {}, found.get("auto_scaling") or {}
        kubernetes, management = found.get("kubernetes_config") or {}, found.get("management") or {}
        facts: Properties = {
            "clusterId": id_.partition(":")[0],
            "nodePoolName": found["nodepool_info"]["name"],
            "resourceGroupId": found["nodepool_info"].get("resource_group_id"),
            **{key: group.get(name) for key, name in _GROUP.items()},
            **{key: str(group[name]) for key, name in _GROUP_NUMBERS.items() if group.get(name) is not None},
            "dataDisks": [
                _renamed(disk, {"performance_level": "performanceLevel"}) for disk in group.get("data_disks") or ()
            ],
            "spotPriceLimits": [
                _renamed(limit, {"instance_type": "instanceType", "price_limit": "priceLimit"})
                for limit in group.get("spot_price_limit") or ()
            ],
            "tags": {tag["key"]: tag["value"] for tag in group.get("tags") or ()},
            "labels": kubernetes.get("labels"),
            "taints": kubernetes.get("taints"),
            "scalingConfig": {key: scaling.get(name) for key, name in _SCALING.items() if scaling.get("enable")},
            "kubeletConfiguration": _without_empty((found.get("node_config") or {}).get("kubelet_configuration") or {}),
            "management": {
                "enable": management.get("enable"),
                "autoRepair": management.get("auto_repair"),
                "autoRepairPolicy": {"restartNode": (management.get("auto_repair_policy") or {}).get("restart_node")},
                "autoUpgrade": management.get("auto_upgrade"),
                "autoUpgradePolicy": {
                    "autoUpgradeKubelet": (management.get("auto_upgrade_policy") or {}).get("auto_upgrade_kubelet")
                },
                "maxUnavailable": (management.get("upgrade_config") or {}).get("max_unavailable"),
            },
        }  # fmt: skip
        return {key: value for key, value in facts.items() if value not in (None, "", [], {})}


def wait_for_task(provider: Account, urn: str, task: str) -> None:
    """Waits until CS has done something.

    Raises:
        CloudError: it failed, takes too long, or the run was cancelled.
    """
    gone = 0.0
    while gone < _TASK_SECONDS:
        found = sdk_call(f"read task {task}", provider.cs.describe_task_info, task).body
        if found.state == "success":
            return
        if found.state in ("fail", "failed"):
            raise CloudError(f"task {task} failed: {found.error}")
        provider.log(urn, f"task {task} is {found.state}", status=True)
        if provider.cancelled.wait(_PAUSE_SECONDS):
            raise CloudError(f"cancelled while waiting for task {task}")
        gone += _PAUSE_SECONDS
    raise CloudError(f"task {task} is not done after {_TASK_SECONDS:.0f} s")


def _body(inputs: Properties) -> dict[str, Any]:
    """A node pool as the API takes it."""
    group: dict[str, Any] = {name: inputs[key] for key, name in _GROUP.items() if key in inputs}
    group |= {name: int(inputs[key]) for key, name in _GROUP_NUMBERS.items() if key in inputs}
    if "dataDisks" in inputs:
        group["data_disks"] = [
            _renamed(disk, {"performanceLevel": "performance_level"}) for disk in inputs["dataDisks"]
        ]
    if "spotPriceLimits" in inputs:
        names = {"instanceType": "instance_type", "priceLimit": "price_limit"}
        group["spot_price_limit"] = [_renamed(limit, names) for limit in inputs["spotPriceLimits"]]
    if "tags" in inputs:
        group["tags"] = [{"key": key, "value": value} for key, value in inputs["tags"].items()]
    body: dict[str, Any] = {
        "nodepool_info": {"name": inputs["nodePoolName"]},
        "scaling_group": group,
        "kubernetes_config": {key: inputs[key] for key in ("labels", "taints") if key in inputs},
    }
    if "resourceGroupId" in inputs:
        body["nodepool_info"]["resource_group_id"] = inputs["resourceGroupId"]
    if "scalingConfig" in inputs:
        scaling = inputs["scalingConfig"]
        body["auto_scaling"] = {name: scaling[key] for key, name in _SCALING.items() if key in scaling}
    if "kubeletConfiguration" in inputs:
        body["node_config"] = {"kubelet_configuration": inputs["kubeletConfiguration"]}
    if "management" in inputs:
        given = inputs["management"]
        body["management"] = {
            "enable": given.get("enable"),
            "auto_repair": given.get("autoRepair"),
            "auto_repair_policy": {"restart_node": (given.get("autoRepairPolicy") or {}).get("restartNode")},
            "auto_upgrade": given.get("autoUpgrade"),
            "auto_upgrade_policy": {
                "auto_upgrade_kubelet": (given.get("autoUpgradePolicy") or {}).get("autoUpgradeKubelet")
            },
            "upgrade_config": {"max_unavailable": given.get("maxUnavailable")},
        }
    return body


def _without_empty(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Without the lists and objects the SDK adds where there is nothing."""
    return {key: value for key, value in settings.items() if value not in (None, [], {})}


def _renamed(item: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {names.get(key, key): value for key, value in item.items() if value not in (None, "")}


def models() -> Any:
    """The SDK's models. Loading them takes seconds, which stacks without a cluster need not spend."""
    from alibabacloud_cs20151215 import models as found

    return found
