"""The Kubernetes half of a stack: the cluster if it is this stack's, its GPU node pools, and the services on it.

Imported only by stacks that have a cluster: the Kubernetes SDK takes its time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_kubernetes

from components.ack_cluster import AckCluster, AckClusterArgs
from components.gpu_node_pool import GpuNodePool, GpuNodePoolArgs
from components.kubernetes_serving import KubernetesServing, KubernetesServingArgs
from components.model_repository import ModelRepository
from components.outputs import models_of
from components.providers import Providers
from components.resources import ModelConfigFile, ModelConfigFileArgs
from config.kubernetes import KubernetesSettings
from config.stack import Settings
from tfserving import model_config
from tfserving.kubernetes import DEFAULT_CONFIG_MAP


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """What a stack has on Kubernetes.

    Attributes:
        kubeconfig: path or content; empty: the environment's.
        context: context of the kubeconfig; empty: its current one.
        config_map: ``namespace/name`` of the ConfigMap with the model config file; empty: nothing reads one.
        config_file: makes sure that it is there before pods start.
        services: the services.
    """

    kubeconfig: pulumi.Input[str]
    context: str
    config_map: str
    config_file: ModelConfigFile | None
    services: Sequence[KubernetesServing]

    @property
    def readers(self) -> list[KubernetesServing]:
        """The services that read the ConfigMap again and again."""
        return [
            serving
            for serving in self.services
            if serving.service.spec.config_file and serving.service.spec.rollout == "poll"
        ]


@dataclass(frozen=True, kw_only=True)
class Access:
    """The cluster itself, before anything is in it.

    Attributes:
        kubeconfig: path or content; empty: the environment's.
        made: the cluster, where it is this stack's.
    """

    kubeconfig: pulumi.Input[str]
    made: AckCluster | None


def access(cluster: KubernetesSettings, providers: Providers) -> Access:
    """Registers the cluster, where it is this stack's."""
    made: AckCluster | None = None
    kubeconfig: pulumi.Input[str] = cluster.kubeconfig
    if cluster.secret_kubeconfig:
        kubeconfig = pulumi.Output.secret(cluster.kubeconfig)
    if cluster.cluster is not None:
        made = AckCluster("ack", AckClusterArgs(cluster=cluster.cluster), providers.options())
        if not cluster.kubeconfig:
            kubeconfig = made.kubeconfig
    return Access(kubeconfig=kubeconfig, made=made)


def config_map(settings: Settings, cluster: KubernetesSettings) -> str:
    """``namespace/name`` of the ConfigMap with the model config file; empty where nothing reads one."""
    return f"{cluster.namespace}/{DEFAULT_CONFIG_MAP}" if settings.config_map_services else ""


def deploy(
    settings: Settings,
    cluster: KubernetesSettings,
    where: Access,
    repository: ModelRepository,
    owner: str,
    providers: Providers,
) -> Cluster:
    """Registers everything a stack has on Kubernetes, down to the pods."""
    made, kubeconfig = where.made, where.kubeconfig
    pools = [
        GpuNodePool(
            pool.name,
            GpuNodePoolArgs(
                pool=pool,
                cluster_id=made.cluster_id if made else cluster.cluster_id,
                vswitch_ids=made.vswitch_ids if made else (),
            ),
            providers.options(),
        )
        for pool in settings.gpu_node_pools
    ]
    provider = pulumi_kubernetes.Provider(
        "kubernetes",
        kubeconfig=kubeconfig or None,
        context=cluster.context or None,
        enable_patch_force=True,  # or a field that somebody edited by hand could not be put right
        opts=pulumi.ResourceOptions(depends_on=[made.resource] if made else None),
    )
    config_file = None
    shared = config_map(settings, cluster)
    if shared:
        config_file = ModelConfigFile(
            "cluster-config",
            ModelConfigFileArgs(
                bucket=repository.bucket_name,
                key=repository.config_file_key,
                owner=owner,
                initial=model_config.to_dict(settings.serving),
                kubeconfig=kubeconfig or None,
                kube_context=cluster.context or None,
                config_map=shared,
            ),
            pulumi.ResourceOptions(provider=providers.tfserving, depends_on=repository.contents),
        )
    needed: list[pulumi.Resource] = [*repository.contents, *(pool.resource for pool in pools)]
    services = []
    for service in settings.ack_services:
        reads = config_file is not None and service in settings.config_map_services
        services.append(
            KubernetesServing(
                service.name,
                KubernetesServingArgs(
                    service=service,
                    models=models_of(settings, service),
                    after=[*needed, config_file] if reads and config_file else needed,
                ),
                pulumi.ResourceOptions(providers=[provider]),
            )
        )
    return Cluster(
        kubeconfig=kubeconfig,
        context=cluster.context,
        config_map=shared,
        config_file=config_file,
        services=services,
    )
