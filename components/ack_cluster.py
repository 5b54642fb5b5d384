"""An ACK cluster with its network, for stacks that do not run on a cluster they find."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import pulumi
from pulumi_alicloud import cs, vpc

from config.kubernetes import ClusterSettings

_ADDONS = ("flannel", "csi-plugin", "csi-provisioner")
"""The pod network that goes with ``podCidr``, and the driver of OSS volumes."""

_CREDENTIAL = "alicloud:cs/getClusterCredential:getClusterCredential"


@dataclass(frozen=True, kw_only=True)
class AckClusterArgs:
    """Arguments of :class:`AckCluster`.

    Attributes:
        cluster: name, version, address blocks and zones.
    """

    cluster: ClusterSettings


class AckCluster(pulumi.ComponentResource):
    """A managed ACK cluster without nodes of its own, a VPC, and one vSwitch per zone.

    RRSA is on: pods read OSS in the name of a RAM role, without keys.

    Attributes:
        cluster_id: id of the cluster.
        vswitch_ids: ids of the vSwitches.
        resource: the cluster itself.
    """

    def __init__(self, name: str, args: AckClusterArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("tf-serving:components:AckCluster", name, None, opts)
        cluster = args.cluster
        child = pulumi.ResourceOptions(parent=self)
        network = vpc.Network(f"{name}-vpc", vpc_name=cluster.name, cidr_block=cluster.vpc_cidr, opts=child)
        switches = [
            vpc.Switch(
                f"{name}-vswitch-{zone}",
                vswitch_name=f"{cluster.name}-{zone}",
                vpc_id=network.id,
                zone_id=zone,
                cidr_block=block,
                opts=child,
            )
            for zone, block in cluster.zones.items()
        ]
        self.vswitch_ids: list[pulumi.Output[str]] = [switch.id for switch in switches]
        self.resource = cs.ManagedKubernetes(
            f"{name}-cluster",
            name=cluster.name,
            version=cluster.version or None,
            cluster_spec=cluster.spec,
            vswitch_ids=self.vswitch_ids,
            service_cidr=cluster.service_cidr,
            pod_cidr=cluster.pod_cidr,
            new_nat_gateway=True,
            slb_internet_enabled=cluster.public_api,
            addons=[cs.ManagedKubernetesAddonArgs(name=addon) for addon in _ADDONS],
            enable_rrsa=True,
            deletion_protection=cluster.deletion_protection,
            opts=child,
        )
        self.cluster_id: pulumi.Output[str] = self.resource.id
        self._name = cluster.name
        self.register_outputs({"clusterId": self.cluster_id, "vswitchIds": self.vswitch_ids})

    @cached_property
    def kubeconfig(self) -> pulumi.Output[str]:
        """How its API server is reached, secret: asked of ACK, so only for a stack that nobody gave a kubeconfig.

        Asked as soon as the cluster has an id: of one that exists, by the preview. A refusal ends the program with a
        :class:`pulumi.RunError`.
        """
        credential = cs.get_cluster_credential_output(
            cluster_id=self.cluster_id, opts=pulumi.InvokeOutputOptions(parent=self)
        )
        return pulumi.Output.secret(credential.kube_config.recover(self._refused))

    def _refused(self, error: Exception) -> str:
        if isinstance(error, pulumi.RunError):  # the engine has ended the run
            raise error
        reason = str(error).removeprefix(f"invoke of {_CREDENTIAL} failed: ").removeprefix(f"{_CREDENTIAL}: ")
        raise pulumi.RunError(
            f"tf-serving:kubernetes.cluster: ACK gives out no kubeconfig for cluster {self._name}: {reason}. "
            "Fix: give the identity that runs Pulumi the right cs:DescribeClusterUserKubeconfig on the cluster; or "
            "name the file with one in tf-serving:kubernetes.kubeconfig, and ACK is not asked"
        ) from None
