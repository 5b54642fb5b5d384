"""The provider: its resource types and its functions."""

from __future__ import annotations

from sandbox.engine.properties import Properties
from sandbox.plugins.alicloud import cluster
from sandbox.plugins.alicloud.account import Account
from sandbox.plugins.alicloud.alarm import Alarm
from sandbox.plugins.alicloud.bucket import Bucket
from sandbox.plugins.alicloud.bucket_object import BucketObject
from sandbox.plugins.alicloud.cluster import ManagedKubernetes, NodePool
from sandbox.plugins.alicloud.common import sdk_call
from sandbox.plugins.alicloud.network import Network, Switch


class Alicloud(Account):
    """What of the alicloud provider the sandbox cloud has an API for."""

    def __init__(self) -> None:
        super().__init__()
        self.types = {
            "alicloud:oss/bucket:Bucket": Bucket(self),
            "alicloud:oss/bucketObject:BucketObject": BucketObject(self),
            "alicloud:vpc/network:Network": Network(self),
            "alicloud:vpc/switch:Switch": Switch(self),
            "alicloud:cms/alarm:Alarm": Alarm(self),
            "alicloud:cs/managedKubernetes:ManagedKubernetes": ManagedKubernetes(self),
            "alicloud:cs/nodePool:NodePool": NodePool(self),
        }

    def invoke(self, token: str, arguments: Properties) -> Properties:
        """``getClusterCredential``: the kubeconfig of a cluster."""
        if token != "alicloud:cs/getClusterCredential:getClusterCredential":  # noqa: S105 (a function's name)
            return super().invoke(token, arguments)
        id_ = str(arguments["clusterId"])
        request = cluster.models().DescribeClusterUserKubeconfigRequest()
        found = sdk_call(
            f"get the kubeconfig of cluster {id_}", self.cs.describe_cluster_user_kubeconfig, id_, request
        ).body
        return {"id": id_, "clusterId": id_, "kubeConfig": found.config, "expiration": found.expiration}
