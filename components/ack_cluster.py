"""An ACK cluster with its network, for stacks that do not run on a cluster they find."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import pulumi

from components import arguments
from components.component import Argument, Component
from components.other_packages import CLUSTER_CREDENTIAL, ManagedKubernetes, Network, Switch, kubeconfig_of
from config.kubernetes import ClusterSettings, read_cluster
from config.reader import Reader
from tfserving.contract.records import Record, prop
from tfserving.errors import ConfigError
from tfserving.options import keys

_ADDONS = ("flannel", "csi-plugin", "csi-provisioner")
"""The pod network that goes with ``podCidr``, and the driver of OSS volumes."""


@dataclass(frozen=True, kw_only=True)
class ClusterOutputs(Record):
    """Outputs of AckCluster.

    Attributes:
        cluster_id: id of the cluster.
        vswitch_ids: ids of the vSwitches.
        kubeconfig: how its API server is reached.
    """

    cluster_id: str
    vswitch_ids: tuple[str, ...] = ()
    kubeconfig: str | None = prop(None, secret=True)


class AckCluster(Component):
    """A managed ACK cluster without nodes of its own, a VPC, and one vSwitch per zone.

    RRSA is on: pods read OSS in the name of a RAM role, without keys.

    Attributes:
        cluster_id: id of the cluster.
        vswitch_ids: ids of the vSwitches.
        resource: the cluster itself.
    """

    shape = (ClusterSettings,)
    not_taken = frozenset({"name"})
    arguments = (Argument(key="clusterName", description="Name of the cluster. Default: the name of the component."),)
    outputs = ClusterOutputs

    def __init__(
        self,
        name: str,
        args: ClusterSettings | Mapping[str, Any] | None = None,
        opts: pulumi.ResourceOptions | None = None,
        **options: Any,
    ) -> None:
        alone = not isinstance(args, ClusterSettings)
        cluster = (
            args
            if isinstance(args, ClusterSettings)
            else _plan(name, arguments.given(type(self), name, args, opts, options))
        )
        super().__init__(name, opts)
        child = pulumi.ResourceOptions(parent=self)
        network = Network(f"{name}-vpc", {"vpcName": cluster.name, "cidrBlock": cluster.vpc_cidr}, child)
        switches = [
            Switch(
                f"{name}-vswitch-{zone}",
                {
                    "vswitchName": f"{cluster.name}-{zone}",
                    "vpcId": network.id,
                    "zoneId": zone,
                    "cidrBlock": block,
                },
                child,
            )
            for zone, block in cluster.zones.items()
        ]
        self.vswitch_ids: list[pulumi.Output[str]] = [switch.id for switch in switches]
        self.resource = ManagedKubernetes(
            f"{name}-cluster",
            {
                "name": cluster.name,
                "version": cluster.version or None,
                "clusterSpec": cluster.spec,
                "vswitchIds": self.vswitch_ids,
                "serviceCidr": cluster.service_cidr,
                "podCidr": cluster.pod_cidr,
                "newNatGateway": True,
                "slbInternetEnabled": cluster.public_api,
                "addons": [{"name": addon} for addon in _ADDONS],
                "enableRrsa": True,
                "deletionProtection": cluster.deletion_protection,
            },
            child,
        )
        self.cluster_id: pulumi.Output[str] = self.resource.id
        self._name = cluster.name
        # A stack that was given a kubeconfig does not ask ACK for one.
        kubeconfig = {"kubeconfig": self.kubeconfig} if alone else {}
        self.finish({"clusterId": self.cluster_id, "vswitchIds": self.vswitch_ids, **kubeconfig})

    @cached_property
    def kubeconfig(self) -> pulumi.Output[str]:
        """How its API server is reached, secret: asked of ACK, so only for a stack that nobody gave a kubeconfig.

        Asked as soon as the cluster has an id: of one that exists, by the preview. A refusal ends the program with a
        :class:`pulumi.RunError`.
        """
        return pulumi.Output.secret(kubeconfig_of(self.cluster_id, self).recover(self._refused))

    def _refused(self, error: Exception) -> str:
        if isinstance(error, pulumi.RunError):  # the engine has ended the run
            raise error
        reason = str(error).removeprefix(f"invoke of {CLUSTER_CREDENTIAL} failed: ")
        reason = reason.removeprefix(f"{CLUSTER_CREDENTIAL}: ")
        raise pulumi.RunError(
            f"tf-serving:kubernetes.cluster: ACK gives out no kubeconfig for cluster {self._name}: {reason}. "
            "Fix: give the identity that runs Pulumi the right cs:DescribeClusterUserKubeconfig on the cluster; or "
            "name the file with one in tf-serving:kubernetes.kubeconfig, and ACK is not asked"
        ) from None


def _plan(name: str, given: dict[str, Any]) -> ClusterSettings:
    """What the arguments come to.

    Raises:
        ArgumentError: everything that is wrong with them.
    """

    def plan(values: Mapping[str, Any]) -> ClusterSettings:
        reader = Reader()
        entry = {key: value for key, value in values.items() if key != "clusterName"}
        entry = reader.mapping(entry, "", [key for key in keys(ClusterSettings) if key != "name"])
        settings = read_cluster(reader, {**entry, "name": values.get("clusterName", name)}, "")
        if reader.problems:
            raise ConfigError(replace(each, path=each.path.lstrip(".")) for each in reader.problems)
        return settings

    return arguments.check(AckCluster, name, given, plan).plan
