"""Stand-ins for the cluster's resources: the components with the real SDK, the sandbox engine, the sandbox cloud."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from alibabacloud_cs20151215 import models as cs
from alibabacloud_cs20151215.client import Client
from alibabacloud_tea_openapi.models import Config

from sandbox import paths
from sandbox.cloud.app import create_app, make_runner
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import Project

pytestmark = pytest.mark.slow

PROGRAM = """
    import sys
    sys.path.insert(0, {repository!r})
    import pulumi_alicloud as alicloud
    from components.ack_cluster import AckCluster
    from components.gpu_node_pool import GpuNodePool, PoolPlan
    from config.kubernetes import ClusterSettings
    from tfserving.kubernetes import DataDisk, GpuNodePoolSpec, Scaling, Spot, Taint

    address = config.require("endpoint")
    provider = alicloud.Provider("cloud", region="cn-hangzhou", protocol="HTTP", access_key="sandbox",
        secret_key="sandbox", endpoints=[alicloud.ProviderEndpointArgs(oss=address, cs=address, vpc=address)])
    options = pulumi.ResourceOptions(providers=[provider])
    ack = AckCluster("ack", ClusterSettings(
        name={cluster!r}, zones={{"cn-hangzhou-i": "10.0.0.0/24", "cn-hangzhou-j": "10.0.1.0/24"}}), options)
    spec = GpuNodePoolSpec(name={pool!r}, instance_types=("ecs.gn6i-c4g1.xlarge",), vswitch_ids=None, {spec})
    pool = GpuNodePool("t4", PoolPlan(
        pool=spec, cluster_id=ack.cluster_id, vswitch_ids=ack.vswitch_ids), options)
    pulumi.export("pool", pool.node_pool_id)
"""
SCALED = "scaling=Scaling(min=0, max={most})"
FULL = (
    SCALED.format(most=4)
    + """, gpu_sharing="share", labels={"team": "vision"}, taints=(Taint(key="nvidia.com/gpu", value="present"),),
    data_disks=(DataDisk(size=200, performance_level="PL1"),),
    kubelet={"maxPods": 64, "kubeReserved": {"memory": "1Gi"}},
    spot=Spot(price_limits={"ecs.gn6i-c4g1.xlarge": 1.5}, on_demand_base=1), tags={"team": "vision"},
    auto_upgrade=True"""
)


class Cloud:
    """The official CS client of a sandbox cloud."""

    def __init__(self, port: int) -> None:
        self.address = f"127.0.0.1:{port}"
        self.cs = Client(
            Config(
                access_key_id="sandbox",
                access_key_secret="sandbox",
                region_id="cn-hangzhou",
                endpoint=self.address,
                protocol="HTTP",
            )
        )

    def clusters(self) -> list[str]:
        return [item.cluster_id for item in self.cs.describe_clusters_v1(cs.DescribeClustersV1Request()).body.clusters]

    def pool(self) -> tuple[str, str, dict[str, Any]]:
        """Cluster, id and description of the only pool."""
        (cluster,) = self.clusters()
        (found,) = self.cs.describe_cluster_node_pools(cluster, cs.DescribeClusterNodePoolsRequest()).body.nodepools
        return cluster, found.nodepool_info.nodepool_id, found.to_map()


@pytest.fixture
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    port = free_port()
    data: Path = tmp_path_factory.mktemp("cloud")
    (data / "root" / ".sandbox" / "kube" / "cluster").mkdir(parents=True)
    (data / "root" / ".sandbox" / "kube" / "cluster" / "kubeconfig").write_text("server: https://127.0.0.1:6443\n")
    loop = asyncio.new_event_loop()
    runner = make_runner(create_app(data / "data", port, root=data / "root"))
    loop.run_until_complete(runner.setup())
    loop.run_until_complete(web.TCPSite(runner, "127.0.0.1", port).start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield Cloud(port)
    asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(20)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()


def write(project: Project, cloud: Cloud, spec: str, cluster: str = "serving", pool: str = "t4") -> None:
    project.configure(endpoint=cloud.address)
    project.program(PROGRAM.format(repository=str(paths.ROOT), spec=spec, cluster=cluster, pool=pool))


def counts(project: Project, command: str, *options: str) -> dict[str, int]:
    """What a successful command did, without what stayed the same."""
    done = project.run(command, "--json", *options)
    assert done.status == 0, done.out + done.err
    return {name: number for name, number in done.counts.items() if name != "same"}


def test_a_cluster_with_its_network_and_a_gpu_pool_is_made_and_a_second_look_changes_nothing(
    project: Project, cloud: Cloud
) -> None:
    write(project, cloud, FULL)
    assert counts(project, "up", "--yes") == {"create": 9}
    assert counts(project, "preview") == {}
    assert counts(project, "preview", "--refresh") == {}
    _, _, found = cloud.pool()
    assert found["auto_scaling"] == {"enable": True, "min_instances": 0, "max_instances": 4, "type": "gpushare"}
    assert found["scaling_group"]["spot_strategy"] == "SpotWithPriceLimit"
    assert found["scaling_group"]["on_demand_base_capacity"] == 1
    assert "desired_size" not in found["scaling_group"]
    assert {"key": "ack.node.gpu.schedule", "value": "share"} in found["kubernetes_config"]["labels"]
    assert project.resource("ack-cluster")["outputs"]["vpcId"] == project.resource("ack-vpc")["id"]
    assert counts(project, "destroy", "--yes") == {"delete": 9}
    assert cloud.clusters() == []


def test_a_changed_pool_is_changed_in_place(project: Project, cloud: Cloud) -> None:
    write(project, cloud, FULL)
    assert project.up().status == 0
    _, before, _ = cloud.pool()
    changed = FULL.replace("max=4", "max=8").replace('"maxPods": 64', '"maxPods": 32')
    write(project, cloud, changed.replace('taints=(Taint(key="nvidia.com/gpu", value="present"),),', ""))
    assert counts(project, "up", "--yes") == {"update": 1}
    _, after, found = cloud.pool()
    assert after == before
    assert found["auto_scaling"]["max_instances"] == 8
    assert not found["kubernetes_config"]["taints"]
    assert counts(project, "preview", "--refresh") == {}


def test_autoscaling_is_turned_off_for_a_fixed_size(project: Project, cloud: Cloud) -> None:
    write(project, cloud, SCALED.format(most=4))
    assert project.up().status == 0
    write(project, cloud, "desired_size=2")
    assert counts(project, "up", "--yes") == {"update": 1}
    _, _, found = cloud.pool()
    assert found["scaling_group"]["desired_size"] == 2
    assert found["auto_scaling"]["enable"] is False
    assert counts(project, "preview", "--refresh") == {}


def test_a_pool_changed_in_the_console_is_drift_and_is_put_right(project: Project, cloud: Cloud) -> None:
    write(project, cloud, SCALED.format(most=4))
    assert project.up().status == 0
    cluster, pool, _ = cloud.pool()
    change = cs.ModifyClusterNodePoolRequest().from_map(
        {"auto_scaling": {"max_instances": 40}, "scaling_group": {"system_disk_size": 500}}
    )
    cloud.cs.modify_cluster_node_pool(cluster, pool, change)
    assert counts(project, "preview") == {}
    assert counts(project, "preview", "--refresh") == {"update": 1}
    assert counts(project, "up", "--yes", "--refresh") == {"update": 1}
    assert cloud.pool()[2]["scaling_group"]["system_disk_size"] == 120
    assert counts(project, "preview", "--refresh") == {}


def test_a_pool_removed_in_the_console_is_made_again(project: Project, cloud: Cloud) -> None:
    write(project, cloud, SCALED.format(most=4))
    assert project.up().status == 0
    cluster, pool, _ = cloud.pool()
    cloud.cs.delete_cluster_nodepool(cluster, pool, cs.DeleteClusterNodepoolRequest(force=True))
    threading.Event().wait(1)
    assert counts(project, "up", "--yes", "--refresh") == {"create": 1}
    assert cloud.pool()[1] != pool


def test_the_kubeconfig_of_the_cluster_is_secret_in_the_state(project: Project, cloud: Cloud) -> None:
    write(project, cloud, SCALED.format(most=4))
    with (project.root / "__main__.py").open("a") as program:
        program.write('pulumi.export("kubeconfig", ack.kubeconfig)\n')
    assert project.up().status == 0
    assert "https://127.0.0.1:6443" not in project.state_file.read_text()
    assert "https://127.0.0.1:6443" in project.run("outputs", "--json", "--show-secrets").out
