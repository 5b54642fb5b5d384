from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tfserving import kubernetes
from tfserving.kubernetes import DataDisk, GpuNodePoolSpec, Scaling, Spot, Taint

PATH = "tf-serving:gpuNodePools.t4"
T4 = "ecs.gn6i-c4g1.xlarge"
A10 = "ecs.gn7i-c8g1.2xlarge"


def pool(**fields: Any) -> GpuNodePoolSpec:
    given: dict[str, Any] = {"name": "t4", "instance_types": (T4,), "vswitch_ids": ("vsw-bp1",)}
    if "desired_size" not in fields:
        given["scaling"] = Scaling(max=4)
    return GpuNodePoolSpec(**{**given, **fields})


def problems(spec: GpuNodePoolSpec) -> list[str]:
    return [str(problem) for problem in kubernetes.validate_pool(spec, PATH)]


@pytest.mark.parametrize(
    ("name", "card", "memory", "cards"),
    [
        ("ecs.gn6i-c4g1.xlarge", "NVIDIA T4", 16, 1),
        ("ecs.gn6i-c24g1.24xlarge", "NVIDIA T4", 16, 4),
        ("ecs.gn6v-c8g1.16xlarge", "NVIDIA V100", 16, 8),
        ("ecs.gn5i-c2g1.large", "NVIDIA P4", 8, 1),
        ("ecs.gn5-c28g1.14xlarge", "NVIDIA P100", 16, 2),
        ("ecs.gn7i-c32g1.16xlarge", "NVIDIA A10", 24, 2),
        ("ecs.gn8is-2x.8xlarge", "NVIDIA L20", 48, 2),
        ("ecs.gn8is.2xlarge", "NVIDIA L20", 48, 1),
        ("ecs.ebmgn7e.32xlarge", "NVIDIA A100", 80, None),
    ],
)
def test_the_name_of_an_instance_type_tells_its_cards(name: str, card: str, memory: int, cards: int | None) -> None:
    found = kubernetes.parse_instance_type(name)
    assert found is not None
    assert found.card is not None
    assert (found.card.name, found.card.memory, found.cards) == (card, memory, cards)


@pytest.mark.parametrize("name", ["ecs.c7.large", "ecs.g7.xlarge", "gn6i", "ecs.gn6i", "ecs.r8y.2xlarge", ""])
def test_other_instance_types_have_no_gpu(name: str) -> None:
    assert kubernetes.parse_instance_type(name) is None


def test_a_virtual_gpu_has_no_whole_card() -> None:
    found = kubernetes.parse_instance_type("ecs.sgn7i-vws-m2.xlarge")
    assert found is not None
    assert found.virtual
    assert (found.card, found.cards) == (None, None)


def test_a_gpu_family_of_the_future_is_accepted_with_unknown_cards() -> None:
    assert problems(pool(instance_types=("ecs.gn11x.4xlarge",))) == []
    found = kubernetes.parse_instance_type("ecs.gn11x.4xlarge")
    assert found is not None
    assert (found.card, found.cards) == (None, None)


def test_few_settings_are_enough() -> None:
    assert problems(pool()) == []
    assert problems(pool(desired_size=2)) == []


def test_labels_are_sorted_and_name_the_pool_and_how_its_cards_are_shared() -> None:
    spec = pool(gpu_sharing="cgpu", gpu_placement="spread", labels={"team": "vision", "a": "b"})
    assert problems(spec) == []
    labels = kubernetes.node_labels(spec)
    assert labels == {
        "a": "b",
        "ack.node.gpu.placement": "spread",
        "ack.node.gpu.schedule": "cgpu",
        "team": "vision",
        "tf-serving/node-pool": "t4",
    }
    assert list(labels) == sorted(labels)


def test_the_autoscaler_imagines_a_node_that_gives_what_the_mode_gives() -> None:
    assert kubernetes.scaling_type(pool()) == "gpu"
    assert kubernetes.scaling_type(pool(gpu_sharing="topology")) == "gpu"
    assert {kubernetes.scaling_type(pool(gpu_sharing=mode)) for mode in ("cgpu", "core_mem", "share", "mps")} == {
        "gpushare"
    }


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"name": "gpu pool"}, ["t4: `gpu pool` is not a name"]),
        ({"instance_types": ()}, ["instanceTypes: no instance type"]),
        ({"instance_types": ("ecs.c7.large",)}, ["instanceTypes[0]", "`ecs.c7.large` has no NVIDIA GPU"]),
        ({"instance_types": (T4, "ecs.g7.xlarge")}, ["instanceTypes[1]", "has no NVIDIA GPU"]),
        ({"instance_types": ("gn6i-c4g1.xlarge",)}, ["is not an ECS instance type", "write ecs.gn6i-c4g1.xlarge"]),
        ({"instance_types": (T4, T4)}, ["is named twice"]),
        ({"instance_types": tuple(f"ecs.gn6i-c4g1.{n}xlarge" for n in range(1, 12))}, ["11 instance types"]),
        ({"instance_types": ("ecs.sgn7i-vws-m2.xlarge",), "gpu_sharing": "cgpu"}, ["cannot slice again"]),
        ({"instance_types": (T4, A10), "gpu_sharing": "share"}, ["NVIDIA T4 16 GiB, NVIDIA A10 24 GiB", "split"]),
        ({"vswitch_ids": ()}, ["vswitchIds: nodes need a vSwitch"]),
        ({"vswitch_ids": ("sw-1",)}, ["vswitchIds[0]", "`sw-1` is not a vSwitch"]),
        ({"scaling": Scaling(max=4), "desired_size": 2}, ["desiredSize: both scaling and desiredSize: 2"]),
        ({"scaling": None}, ["scaling: nothing says how many nodes"]),
        ({"scaling": Scaling(min=4, max=1)}, ["the bounds 4 and 1 are reversed", "set min: 1, max: 4"]),
        ({"scaling": Scaling(min=2, max=2)}, ["leave nothing to scale", "use desiredSize: 2"]),
        ({"scaling": Scaling(max=2000)}, ["0 <= min < max <= 1000"]),
        ({"scaling": Scaling(min=-1, max=2)}, ["the bounds are -1 and 2"]),
        ({"desired_size": -1}, ["`-1` is not a number of nodes"]),
        ({"gpu_sharing": "exclusive"}, ["`exclusive` is not a sharing mode", "use default"]),
        ({"gpu_placement": "spread"}, ["this pool gives whole cards"]),
        ({"gpu_sharing": "cgpu", "gpu_placement": "pack"}, ["`pack` is not a placement"]),
        ({"labels": {"ack.node.gpu.schedule": "cgpu"}}, ["is set by gpuSharing", "use gpuSharing: cgpu"]),
        ({"labels": {"ack.node.gpu.placement": "spread"}}, ["is set by gpuPlacement"]),
        ({"labels": {"tf-serving/node-pool": "x"}}, ["is the name of the pool"]),
        ({"labels": {"node.kubernetes.io/x": "y"}}, ["belongs to Kubernetes or ACK"]),
        ({"labels": {"alibabacloud.com/nodepool-id": "y"}}, ["belongs to Kubernetes or ACK"]),
        ({"labels": {"a b": "c"}}, ["`a b` is not a label"]),
        ({"labels": {"a": "b c"}}, ["`b c` is not the value of a label"]),
        ({"taints": (Taint(key="gpu", effect="NoEntry"),)}, ["taints[0].effect", "NoSchedule"]),
        ({"taints": (Taint(key="", value="-"),)}, ["taints[0].key", "taints[0].value"]),
        ({"taints": (Taint(key="gpu"), Taint(key="gpu", value="x"))}, ["is there twice"]),
        ({"spot": Spot(price_limits={"ecs.gn6i-c4g1.xlargee": 1})}, ["did you mean", T4]),
        ({"spot": Spot(price_limits={T4: 0})}, ["`0` is not a price"]),
        ({"instance_types": (T4, A10), "spot": Spot(price_limits={T4: 1})}, [f"{A10} has no price limit"]),
        ({"spot": Spot(on_demand_base=5)}, ["5 pay-as-you-go nodes are more than the pool can have", "0 to 4"]),
        ({"spot": Spot(on_demand_percentage=101)}, ["spot.onDemandPercentage", "0 to 100"]),
        ({"image_type": "AliyunLinux3Arm64"}, ["imageType: `AliyunLinux3Arm64` has no GPU driver"]),
        ({"image_type": "Alpine"}, ["is not an operating system of nodes", "AliyunLinux3"]),
        ({"system_disk_size": 40}, ["40 GiB hold neither a GPU driver"]),
        ({"system_disk_category": "cloud_floppy"}, ["is not a disk category"]),
        ({"system_disk_category": "cloud_ssd", "system_disk_performance_level": "PL1"}, ["has no performance level"]),
        ({"system_disk_performance_level": "PL3"}, ["`120` GiB is not a size", "1261 to 2048"]),
        ({"data_disks": (DataDisk(size=10),)}, ["dataDisks[0].size", "20 to 2048"]),
        ({"kubelet": {"maxPod": 10}}, ["is not a kubelet setting", "maxPods"]),
        ({"kubelet": {"evictionHard": "300Mi"}}, ["is not an object"]),
        ({"kubelet": {"maxPods": [1]}}, ["it is not a single value"]),
        ({"kubelet": {"clusterDns": "10.0.0.1"}}, ["is not a list"]),
        (
            {"kubelet": {"imageGcLowThresholdPercent": 90, "imageGcHighThresholdPercent": "80"}},
            ["the thresholds 90 and 80 are reversed"],
        ),
        ({"max_unavailable": 0}, ["nothing could be repaired"]),
        ({"security_group_ids": ("group",)}, ["securityGroupIds[0]", "sg-..."]),
    ],
)
def test_mistakes_are_named_with_place_and_way_out(fields: dict[str, Any], words: list[str]) -> None:
    found = "\n".join(problems(replace(pool(), **fields)))
    assert all(word in found for word in words), found or "accepted"


def test_a_good_pool_with_everything_is_accepted() -> None:
    spec = pool(
        instance_types=(T4, "ecs.gn6i-c8g1.2xlarge"),
        gpu_sharing="core_mem",
        gpu_placement="binpack",
        taints=(Taint(key="scaler", value="gpu"),),
        spot=Spot(price_limits={T4: 1.5, "ecs.gn6i-c8g1.2xlarge": 2}, on_demand_base=1, on_demand_percentage=20),
        data_disks=(DataDisk(size=200, performance_level="PL0"),),
        kubelet={
            "maxPods": 64,
            "evictionHard": {"memory.available": "300Mi"},
            "imageGcLowThresholdPercent": 70,
            "imageGcHighThresholdPercent": 80,
        },
        security_group_ids=("sg-bp1",),
    )
    assert problems(spec) == []


def test_what_costs_time_or_safety_is_said() -> None:
    said = "\n".join(kubernetes.pool_warnings(pool(spot=Spot(), gpu_sharing="share")))
    assert all(words in said for words in ("scales from zero", "all nodes are spot", "ack-ai-installer")), said
    assert kubernetes.pool_warnings(pool(scaling=Scaling(min=1, max=2))) == []
