"""Container Service and its network, asked by the official SDKs, over HTTP and HTTPS on one port."""

from __future__ import annotations

import asyncio
import itertools
import socket
import ssl
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import certifi
import pytest
from alibabacloud_cs20151215 import models as cs
from alibabacloud_cs20151215.client import Client as CsClient
from alibabacloud_tea_openapi.models import Config
from alibabacloud_vpc20160428 import models as vpc
from alibabacloud_vpc20160428.client import Client as VpcClient

from sandbox.cloud.app import create_app, make_runner
from sandbox.cloud.listener import Listener, authority_file, tls_context, trust_bundle
from tests.waiting import until

pytestmark = pytest.mark.slow

REGION = "cn-hangzhou"
POOL: dict[str, Any] = {
    "nodepool_info": {"name": "t4"},
    "scaling_group": {
        "instance_types": ["ecs.gn6i-c4g1.xlarge"],
        "system_disk_category": "cloud_essd",
        "system_disk_size": 120,
        "image_type": "AliyunLinux3",
    },
    "auto_scaling": {"enable": True, "min_instances": 0, "max_instances": 4, "type": "gpu"},
    "kubernetes_config": {
        "labels": [{"key": "ack.node.gpu.schedule", "value": "share"}],
        "taints": [{"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}],
    },
    "management": {"enable": True, "auto_repair": True, "upgrade_config": {"max_unavailable": 1}},
}


class Cloud:
    """A sandbox cloud in a thread, and the official clients for it."""

    def __init__(self, data: Path) -> None:
        self.data = data
        listening = socket.socket()
        listening.bind(("127.0.0.1", 0))
        self.port = int(listening.getsockname()[1])
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._call(self._up(listening))

    def _call(self, coroutine: Any) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(30)

    async def _up(self, listening: socket.socket) -> None:
        self._runner = make_runner(create_app(self.data, self.port))
        await self._runner.setup()
        self._listener = Listener(self._runner, listening, tls_context(self.data))
        self._listener.start()

    async def _down(self) -> None:
        await self._listener.stop()
        await self._runner.cleanup()

    def close(self) -> None:
        self._call(self._down())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def config(self, protocol: str = "HTTP") -> Config:
        return Config(
            access_key_id="sandbox",
            access_key_secret="sandbox",
            region_id=REGION,
            endpoint=f"127.0.0.1:{self.port}",
            protocol=protocol,
            ca=str(authority_file(self.data)) if protocol == "HTTPS" else None,
        )

    @property
    def cs(self) -> CsClient:
        return CsClient(self.config())

    @property
    def vpc(self) -> VpcClient:
        return VpcClient(self.config())

    def vswitch(self, block: str = "10.0.0.0/24") -> tuple[str, str]:
        network = self.vpc.create_vpc(vpc.CreateVpcRequest(region_id=REGION, cidr_block="10.0.0.0/16")).body.vpc_id
        request = vpc.CreateVSwitchRequest(
            region_id=REGION, vpc_id=network, zone_id="cn-hangzhou-i", cidr_block=block, v_switch_name="models"
        )
        return network, self.vpc.create_vswitch(request).body.v_switch_id

    def done(self, task: str) -> str:
        states = (str(self.cs.describe_task_info(task).body.state) for _ in itertools.count())
        return until(lambda: (state := next(states)) != "running" and state, what="the end of the task")

    def cluster(self, vswitch: str, **more: Any) -> str:
        request = cs.CreateClusterRequest().from_map(
            {
                "cluster_type": "ManagedKubernetes",
                "name": "serving",
                "region_id": REGION,
                "vswitch_ids": [vswitch],
                **more,
            }
        )
        made = self.cs.create_cluster(request).body
        assert self.done(made.task_id) == "success"
        return str(made.cluster_id)

    def pool(self, cluster: str, vswitch: str, **changes: Any) -> str:
        body = {**POOL, **changes}
        body["scaling_group"] = {"vswitch_ids": [vswitch], **body["scaling_group"]}
        made = self.cs.create_cluster_node_pool(cluster, cs.CreateClusterNodePoolRequest().from_map(body)).body
        assert self.done(made.task_id) == "success"
        return str(made.nodepool_id)

    def describe(self, cluster: str, pool: str) -> dict[str, Any]:
        """The pool without empty lists, which the SDK adds on the way there and back."""

        def tidy(value: Any) -> Any:
            if isinstance(value, dict):
                return {key: tidy(item) for key, item in value.items() if item != []}
            return value

        return dict(tidy(self.cs.describe_cluster_node_pool_detail(cluster, pool).body.to_map()))


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    found = Cloud(tmp_path / "cloud")
    yield found
    found.close()


def refused(call: Any, *arguments: Any) -> tuple[int, str]:
    """Status and code of an error."""
    error: Any = None
    try:
        call(*arguments)
    except Exception as found:  # each SDK has its own
        error = found
    assert error is not None, "it was not refused"
    return int(error.status_code), str(error.code)


# ---- one port


def test_both_protocols_are_spoken_on_one_port(cloud: Cloud) -> None:
    _, vswitch = cloud.vswitch()
    cluster = cloud.cluster(vswitch)
    encrypted = CsClient(cloud.config("HTTPS"))
    assert encrypted.describe_cluster_detail(cluster).body.name == "serving"
    assert cloud.cs.describe_cluster_detail(cluster).body.name == "serving"


def test_nobody_trusts_the_certificate_who_is_not_told_to(cloud: Cloud) -> None:
    with pytest.raises(OSError, match="certificate verify failed"):
        urllib.request.urlopen(f"https://127.0.0.1:{cloud.port}/-/health", timeout=60)
    for trusted in (authority_file(cloud.data), trust_bundle(cloud.data)):
        context = ssl.create_default_context(cafile=str(trusted))
        with urllib.request.urlopen(f"https://127.0.0.1:{cloud.port}/-/health", timeout=60, context=context) as answer:
            assert b'"sandbox": true' in answer.read()


def test_what_is_trusted_for_the_cloud_is_trusted_beside_what_was_trusted_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls_context(tmp_path)
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    own, public = authority_file(tmp_path).read_text(), Path(certifi.where()).read_text()
    bundle = trust_bundle(tmp_path)
    assert bundle.read_text() == f"{public}\n{own}"
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))  # as it is after the export
    assert trust_bundle(tmp_path).read_text() == f"{public}\n{own}"
    company = tmp_path / "company.crt"
    company.write_text("a company's own authority")
    monkeypatch.setenv("SSL_CERT_FILE", str(company))
    assert trust_bundle(tmp_path).read_text() == f"a company's own authority\n{own}"


def test_a_client_that_says_nothing_or_nonsense_disturbs_nobody(cloud: Cloud) -> None:
    silent = socket.create_connection(("127.0.0.1", cloud.port))
    gone = socket.create_connection(("127.0.0.1", cloud.port))
    gone.close()
    with socket.create_connection(("127.0.0.1", cloud.port)) as strange:
        strange.sendall(b"\x16\x03\x01nonsense that is no handshake" * 10)
        strange.settimeout(60)
        while strange.recv(4096):
            pass
    with urllib.request.urlopen(f"http://127.0.0.1:{cloud.port}/-/health", timeout=60) as answer:
        assert answer.status == 200
    silent.close()


def test_a_request_may_come_byte_by_byte(cloud: Cloud) -> None:
    with socket.create_connection(("127.0.0.1", cloud.port)) as slow:
        for byte in b"GET /-/health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n":
            slow.sendall(bytes([byte]))
        slow.settimeout(60)
        assert slow.recv(100).startswith(b"HTTP/1.1 200")


# ---- clusters


def test_a_cluster_is_created_by_a_task_read_changed_and_deleted(cloud: Cloud) -> None:
    network, vswitch = cloud.vswitch()
    request = cs.CreateClusterRequest().from_map(
        {
            "name": "serving",
            "region_id": REGION,
            "vpcid": network,
            "vswitch_ids": [vswitch],
            "cluster_spec": "ack.pro.small",
        }
    )
    made = cloud.cs.create_cluster(request).body
    assert cloud.cs.describe_cluster_detail(made.cluster_id).body.state == "initial"
    assert cloud.cs.describe_task_info(made.task_id).body.state == "running"
    assert cloud.done(made.task_id) == "success"
    found = cloud.cs.describe_cluster_detail(made.cluster_id).body
    assert (found.state, found.vpc_id, found.vswitch_ids) == ("running", network, [vswitch])
    assert found.meta_data == "{}"  # empty is an error to the Go provider
    assert found.created.endswith("Z")
    changed = cloud.cs.modify_cluster(made.cluster_id, cs.ModifyClusterRequest(deletion_protection=True)).body
    assert cloud.cs.describe_cluster_detail(made.cluster_id).body.state == "updating"
    assert cloud.done(changed.task_id) == "success"
    delete = cs.DeleteClusterRequest()
    assert refused(cloud.cs.delete_cluster, made.cluster_id, delete) == (400, "DeletionProtectionEnabled")
    cloud.cs.modify_cluster(made.cluster_id, cs.ModifyClusterRequest(deletion_protection=False))
    task = cloud.cs.delete_cluster(made.cluster_id, delete).body.task_id
    assert cloud.done(task) == "success"
    assert refused(cloud.cs.describe_cluster_detail, made.cluster_id) == (404, "ErrorClusterNotFound")


def test_clusters_outlive_a_restart_of_the_cloud(cloud: Cloud) -> None:
    _, vswitch = cloud.vswitch()
    cluster = cloud.cluster(vswitch)
    again = Cloud(cloud.data.parent / "copy")
    try:
        assert refused(again.cs.describe_cluster_detail, cluster) == (404, "ErrorClusterNotFound")
    finally:
        again.close()
    cloud.close()
    cloud.__init__(cloud.data)  # type: ignore[misc]
    assert cloud.cs.describe_cluster_detail(cluster).body.state == "running"


def test_the_kubeconfig_is_that_of_the_cluster_beside_the_cloud(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sandbox.cloud.cs.clusters import ClusterProduct
    from sandbox.cloud.cs.store import Store

    store = Store(tmp_path / "cs.json")
    service = ClusterProduct(store, tmp_path)
    store.put("clusters", "c1", {"id": "c1", "name": "serving", "sent": {}, "created": 0, "updated": 0})
    with pytest.raises(Exception, match="python -m sandbox kube start"):
        service._user_config({}, {}, "c1")
    (tmp_path / ".sandbox" / "kube" / "cluster").mkdir(parents=True)
    (tmp_path / ".sandbox" / "kube" / "cluster" / "kubeconfig").write_text("server: https://127.0.0.1:6443\n")
    assert service._user_config({}, {}, "c1")["config"] == "server: https://127.0.0.1:6443\n"
    assert "https://127.0.0.1:6443" in service._describe_cluster({}, {}, "c1")["master_url"]


# ---- node pools


def test_a_node_pool_is_described_with_what_was_sent_and_nothing_else(cloud: Cloud) -> None:
    _, vswitch = cloud.vswitch()
    cluster = cloud.cluster(vswitch)
    pool = cloud.pool(cluster, vswitch)
    found = cloud.describe(cluster, pool)
    assert found["status"]["state"] == "active"
    group = found["scaling_group"]
    assert group.pop("scaling_group_id")
    assert group == {"vswitch_ids": [vswitch], **POOL["scaling_group"]}
    for part in ("auto_scaling", "kubernetes_config", "management"):
        assert found[part] == POOL[part]
    listed = cloud.cs.describe_cluster_node_pools(cluster, cs.DescribeClusterNodePoolsRequest()).body.nodepools
    assert [item.nodepool_info.nodepool_id for item in listed] == [pool]


def test_a_change_of_a_pool_keeps_what_it_does_not_name(cloud: Cloud) -> None:
    _, vswitch = cloud.vswitch()
    cluster = cloud.cluster(vswitch)
    pool = cloud.pool(cluster, vswitch)
    labels = POOL["kubernetes_config"]["labels"]
    change = {"auto_scaling": {"max_instances": 8}, "kubernetes_config": {"labels": labels, "taints": []}}
    request = cs.ModifyClusterNodePoolRequest().from_map(change)
    assert cloud.done(cloud.cs.modify_cluster_node_pool(cluster, pool, request).body.task_id) == "success"
    found = cloud.describe(cluster, pool)
    assert found["auto_scaling"] == {**POOL["auto_scaling"], "max_instances": 8}
    assert found["kubernetes_config"] == {"labels": labels}
    assert found["scaling_group"]["system_disk_size"] == 120


def test_a_fixed_size_is_a_number_of_nodes(cloud: Cloud) -> None:
    _, vswitch = cloud.vswitch()
    cluster = cloud.cluster(vswitch)
    group = {**POOL["scaling_group"], "desired_size": 2}
    pool = cloud.pool(cluster, vswitch, auto_scaling={"enable": False}, scaling_group=group)
    found = cloud.describe(cluster, pool)
    assert found["scaling_group"]["desired_size"] == 2
    assert found["status"]["total_nodes"] == 2


def test_a_pool_is_deleted_by_a_task(cloud: Cloud) -> None:
    _, vswitch = cloud.vswitch()
    cluster = cloud.cluster(vswitch)
    pool = cloud.pool(cluster, vswitch)
    task = cloud.cs.delete_cluster_nodepool(cluster, pool, cs.DeleteClusterNodepoolRequest(force=True)).body.task_id
    assert cloud.describe(cluster, pool)["status"]["state"] == "deleting"
    assert cloud.done(task) == "success"
    assert refused(cloud.describe, cluster, pool) == (404, "ErrorNodePoolNotFound")


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"nodepool_info": {"name": "-t4"}}, "InvalidNodePoolName"),
        ({"scaling_group": {"vswitch_ids": ["vsw-none"], "instance_types": ["ecs.gn6i-c4g1.xlarge"]}}, "NotFound"),
        ({"scaling_group": {"instance_types": []}}, "InvalidInstanceTypes"),
        ({"scaling_group": {"instance_types": ["ecs.a"], "desired_size": 2}}, "InvalidDesiredSize"),
        (
            {"auto_scaling": {"enable": True, "min_instances": 4, "max_instances": 1, "type": "gpu"}},
            "InvalidAutoScaling",
        ),
        ({"auto_scaling": {"enable": True, "max_instances": 1, "type": "tpu"}}, "InvalidAutoScaling"),
        (
            {"scaling_group": {"instance_types": ["ecs.a"], "spot_strategy": "SpotWithPriceLimit"}},
            "InvalidSpotPriceLimit",
        ),
    ],
)
def test_a_pool_that_cannot_be_is_refused(cloud: Cloud, changes: dict[str, Any], code: str) -> None:
    _, vswitch = cloud.vswitch()
    cluster = cloud.cluster(vswitch)
    status, found = refused(lambda: cloud.pool(cluster, vswitch, **changes))
    assert 400 <= status < 500
    assert code in found
    assert not cloud.cs.describe_cluster_node_pools(cluster, cs.DescribeClusterNodePoolsRequest()).body.nodepools


def test_what_is_not_offered_is_refused_by_its_name_and_never_retried(cloud: Cloud) -> None:
    status, code = refused(cloud.cs.describe_addons, cs.DescribeAddonsRequest(region=REGION))
    assert status == 400
    assert "DescribeAddons" in code
    assert refused(cloud.cs.describe_task_info, "T-none") == (404, "ErrorTaskNotFound")


# ---- the network


def test_a_network_is_made_read_changed_and_removed_in_order(cloud: Cloud) -> None:
    network, vswitch = cloud.vswitch()
    found = cloud.vpc.describe_vpc_attribute(vpc.DescribeVpcAttributeRequest(region_id=REGION, vpc_id=network)).body
    assert (found.status, found.cidr_block) == ("Available", "10.0.0.0/16")
    tables = cloud.vpc.describe_route_table_list(
        vpc.DescribeRouteTableListRequest(region_id=REGION, vpc_id=network)
    ).body
    (table,) = tables.router_table_list.router_table_list_type
    assert (table.route_table_type, table.vpc_id) == ("System", network)
    switch_request = vpc.DescribeVSwitchAttributesRequest(region_id=REGION, v_switch_id=vswitch)
    switch = cloud.vpc.describe_vswitch_attributes(switch_request).body
    assert (switch.vpc_id, switch.zone_id, switch.cidr_block) == (network, "cn-hangzhou-i", "10.0.0.0/24")
    tag = vpc.TagResourcesRequest(
        region_id=REGION,
        resource_type="VPC",
        resource_id=[network],
        tag=[vpc.TagResourcesRequestTag(key="a", value="b")],
    )
    cloud.vpc.tag_resources(tag)
    listed = cloud.vpc.describe_vpcs(vpc.DescribeVpcsRequest(region_id=REGION, vpc_id=network)).body.vpcs.vpc
    assert [(item.key, item.value) for item in listed[0].tags.tag] == [("a", "b")]
    cloud.vpc.modify_vswitch_attribute(
        vpc.ModifyVSwitchAttributeRequest(region_id=REGION, v_switch_id=vswitch, v_switch_name="other")
    )
    assert cloud.vpc.describe_vswitch_attributes(switch_request).body.v_switch_name == "other"
    delete = vpc.DeleteVpcRequest(region_id=REGION, vpc_id=network)
    assert refused(cloud.vpc.delete_vpc, delete) == (400, "DependencyViolation.VSwitch")
    cloud.vpc.delete_vswitch(vpc.DeleteVSwitchRequest(region_id=REGION, v_switch_id=vswitch))
    cloud.vpc.delete_vpc(delete)
    gone = vpc.DescribeVpcAttributeRequest(region_id=REGION, vpc_id=network)
    assert refused(cloud.vpc.describe_vpc_attribute, gone) == (404, "InvalidVpcId.NotFound")


@pytest.mark.parametrize(
    ("block", "code"),
    [
        ("10.1.0.0/24", "InvalidCidrBlock.Malformed"),
        ("10.0.0.128/25", "InvalidCidrBlock.Overlapped"),
        ("10.0.0.0", "InvalidCidrBlock"),
    ],
)
def test_a_vswitch_that_cannot_be_is_refused(cloud: Cloud, block: str, code: str) -> None:
    network, _ = cloud.vswitch()
    request = vpc.CreateVSwitchRequest(region_id=REGION, vpc_id=network, zone_id="cn-hangzhou-i", cidr_block=block)
    status, found = refused(cloud.vpc.create_vswitch, request)
    assert status == 400
    assert code.split(".")[0] in found


def test_a_vswitch_of_a_cluster_stays(cloud: Cloud) -> None:
    _, vswitch = cloud.vswitch()
    cloud.cluster(vswitch)
    request = vpc.DeleteVSwitchRequest(region_id=REGION, v_switch_id=vswitch)
    assert refused(cloud.vpc.delete_vswitch, request) == (400, "DependencyViolation")
