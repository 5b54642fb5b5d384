"""The stand-ins for the cluster's resource types by themselves, against the sandbox cloud: what is sent is read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from sandbox.engine.properties import difference
from sandbox.plugins.alicloud.provider import Alicloud
from sandbox.plugins.server import InputError, State
from tests.cloud.conftest import running_cloud
from tfserving.errors import CloudError

pytestmark = pytest.mark.slow

NETWORK, SWITCH = "alicloud:vpc/network:Network", "alicloud:vpc/switch:Switch"
CLUSTER, POOL = "alicloud:cs/managedKubernetes:ManagedKubernetes", "alicloud:cs/nodePool:NodePool"
FULL: dict[str, Any] = {
    "nodePoolName": "t4",
    "instanceTypes": ["ecs.gn6i-c4g1.xlarge"],
    "imageType": "AliyunLinux3",
    "systemDiskCategory": "cloud_essd",
    "systemDiskSize": 120,
    "dataDisks": [{"category": "cloud_essd", "size": 200, "performanceLevel": "PL1"}],
    "labels": [{"key": "ack.node.gpu.schedule", "value": "share"}],
    "taints": [{"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}],
    "scalingConfig": {"enable": True, "minSize": 0, "maxSize": 4, "type": "gpushare"},
    "management": {
        "enable": True,
        "autoRepair": True,
        "autoRepairPolicy": {"restartNode": True},
        "autoUpgrade": True,
        "autoUpgradePolicy": {"autoUpgradeKubelet": True},
        "maxUnavailable": 1,
    },
    "kubeletConfiguration": {"maxPods": "64", "kubeReserved": {"memory": "1Gi"}},
    "tags": {"team": "vision"},
    "spotStrategy": "SpotWithPriceLimit",
    "spotPriceLimits": [{"instanceType": "ecs.gn6i-c4g1.xlarge", "priceLimit": "1.5"}],
    "spotInstanceRemedy": True,
    "compensateWithOnDemand": True,
    "multiAzPolicy": "COST_OPTIMIZED",
    "onDemandBaseCapacity": "1",
    "onDemandPercentageAboveBaseCapacity": "0",
}
PLAIN = {key: FULL[key] for key in ("instanceTypes", "imageType", "systemDiskCategory", "systemDiskSize", "labels")}


class Life:
    """One resource, from its creation to its end."""

    def __init__(self, provider: Alicloud, token: str, inputs: dict[str, Any]) -> None:
        self.type = provider.types[token]
        self.inputs = self.type.check("example", {}, inputs)
        self.id, self.outputs = self.type.create("urn:pulumi:test::p::x::example", self.inputs)

    @property
    def state(self) -> State:
        return State("urn:pulumi:test::p::x::example", self.id, self.inputs, self.outputs)

    def drift(self) -> dict[str, str]:
        found = self.type.read(self.state)
        assert found is not None
        return difference(self.inputs, found[0])

    def update(self, inputs: dict[str, Any]) -> None:
        self.outputs = self.type.update(self.state, inputs)
        self.inputs = inputs

    def delete(self) -> None:
        self.type.delete(self.state)
        assert self.type.read(self.state) is None
        self.type.delete(self.state)  # gone already is no error


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Alicloud]:
    with running_cloud(tmp_path_factory.mktemp("cloud")) as cloud:
        found, address = Alicloud(), f"127.0.0.1:{cloud.port}"
        endpoints = [{"oss": address, "cs": address, "vpc": address, "cms": address}]
        found.configure({"region": "cn-hangzhou", "protocol": "HTTP", "endpoints": endpoints})
        yield found


@pytest.fixture(scope="module")
def switch(provider: Alicloud) -> Life:
    network = Life(provider, NETWORK, {"vpcName": "serving", "cidrBlock": "10.0.0.0/16"})
    assert network.drift() == {}
    inputs = {"vswitchName": "i", "vpcId": network.id, "zoneId": "cn-hangzhou-i", "cidrBlock": "10.0.0.0/24"}
    return Life(provider, SWITCH, inputs)


@pytest.fixture(scope="module")
def cluster(provider: Alicloud, switch: Life) -> Life:
    inputs = {
        "name": "serving",
        "clusterSpec": "ack.pro.small",
        "vswitchIds": [switch.id],
        "serviceCidr": "172.21.0.0/20",
        "podCidr": "172.20.0.0/16",
        "enableRrsa": True,
        "deletionProtection": False,
        "addons": [{"name": "flannel"}],
    }
    return Life(provider, CLUSTER, inputs)


ALARM: dict[str, Any] = {
    "name": "tf-serving-test-vision-error-rate",
    "project": "acs_learn",
    "metric": "rps_status_5xx_ratio",
    "metricDimensions": '[{"serviceName":"vision"}]',
    "period": 60,
    "escalationsCritical": {"statistics": "Average", "comparisonOperator": ">", "threshold": "5", "times": 5},
    "contactGroups": ["oncall", "managers"],
}


def test_an_alarm_is_read_back_as_declared_changed_seen_to_drift_and_removed(provider: Alicloud) -> None:
    alarm = Life(provider, "alicloud:cms/alarm:Alarm", ALARM)
    assert alarm.drift() == {}
    assert alarm.outputs["status"] == "INSUFFICIENT_DATA"
    stricter = {**ALARM["escalationsCritical"], "threshold": "1", "times": 2}
    alarm.update({**alarm.inputs, "escalationsCritical": stricter, "webhook": "https://hooks.example.com/a"})
    assert alarm.drift() == {}
    request = {
        "RuleId": alarm.id,
        "RuleName": "x",
        "Namespace": "acs_learn",
        "MetricName": "rt",
        "Resources": '[{"a":"b"}]',
    }
    critical = {"ComparisonOperator": "GreaterThanThreshold", "Statistics": "Average", "Threshold": "9", "Times": "3"}
    request |= {f"Escalations.Critical.{key}": value for key, value in critical.items()}
    alarm.type._call(
        "PutResourceMetricRule", {**request, "ContactGroups": "others"}
    )  # what somebody did in the console
    assert {"contactGroups", "escalationsCritical.threshold", "escalationsCritical.times"} <= {
        path.partition("[")[0] for path in alarm.drift()
    }
    alarm.delete()


@pytest.mark.parametrize(
    "wrong",
    [
        {"contactGroups": []},
        {"period": 90},
        {"escalationsCritical": {**ALARM["escalationsCritical"], "threshold": "x"}},
    ],
)
def test_an_alarm_that_cloudmonitor_would_not_take_is_refused(provider: Alicloud, wrong: dict[str, Any]) -> None:
    with pytest.raises(CloudError):
        Life(provider, "alicloud:cms/alarm:Alarm", {**ALARM, **wrong})


def test_a_network_and_a_cluster_are_read_back_as_declared(switch: Life, cluster: Life) -> None:
    assert switch.drift() == {}
    assert cluster.drift() == {}
    assert cluster.outputs["vpcId"] == switch.inputs["vpcId"]
    cluster.update({**cluster.inputs, "deletionProtection": True})
    assert cluster.drift() == {}
    cluster.update({**cluster.inputs, "deletionProtection": False})


def test_a_pool_is_read_back_as_declared_changed_and_removed(provider: Alicloud, switch: Life, cluster: Life) -> None:
    inputs = {**FULL, "clusterId": cluster.id, "vswitchIds": [switch.id]}
    pool = Life(provider, POOL, inputs)
    assert pool.id.startswith(f"{cluster.id}:np")
    assert pool.drift() == {}
    changed = {key: value for key, value in inputs.items() if key != "taints"}
    changed["scalingConfig"] = {**inputs["scalingConfig"], "maxSize": 8}
    changed["kubeletConfiguration"] = {"maxPods": "32"}
    pool.update(changed)
    assert pool.drift() == {}
    pool.delete()


def test_a_pool_goes_from_a_fixed_size_to_the_autoscaler_and_back(
    provider: Alicloud, switch: Life, cluster: Life
) -> None:
    base = {**PLAIN, "nodePoolName": "a10", "clusterId": cluster.id, "vswitchIds": [switch.id]}
    fixed = {**base, "desiredSize": "2"}
    scaled = {**base, "scalingConfig": {"enable": True, "minSize": 0, "maxSize": 3, "type": "gpu"}}
    pool = Life(provider, POOL, fixed)
    for inputs in (scaled, fixed):
        pool.update(inputs)
        assert pool.drift() == {}
    pool.delete()


def test_a_pool_changed_in_the_console_is_drift(provider: Alicloud, switch: Life, cluster: Life) -> None:
    from alibabacloud_cs20151215 import models

    inputs = {**PLAIN, "nodePoolName": "l20", "clusterId": cluster.id, "vswitchIds": [switch.id], "desiredSize": "0"}
    pool = Life(provider, POOL, inputs)
    change = {"scaling_group": {"instance_types": PLAIN["instanceTypes"], "vswitch_ids": [switch.id],
                                "system_disk_size": 500}}  # fmt: skip
    request = models.ModifyClusterNodePoolRequest().from_map(change)
    provider.cs.modify_cluster_node_pool(cluster.id, pool.id.partition(":")[2], request)
    assert pool.drift() == {"systemDiskSize": "update"}
    pool.update(inputs)
    assert pool.drift() == {}
    pool.delete()


@pytest.mark.parametrize(
    ("changes", "property_"),
    [
        ({"desiredSize": "2", "scalingConfig": FULL["scalingConfig"]}, "desiredSize"),
        ({"desiredSize": "two"}, "desiredSize"),
        ({"nodePoolName": None}, "nodePoolName"),
        ({"nodeCount": 2}, "nodeCount"),
        ({"systemDiskSize": "120"}, "systemDiskSize"),
    ],
)
def test_inputs_that_fight_or_are_not_known_are_refused(
    provider: Alicloud, changes: dict[str, Any], property_: str
) -> None:
    with pytest.raises(InputError) as caught:
        provider.types[POOL].check("t4", {}, {**PLAIN, "nodePoolName": "t4", "clusterId": "c1", **changes})
    assert property_ in [name for name, _ in caught.value.failures]
