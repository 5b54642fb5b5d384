"""The Kubernetes half of a stack: the cluster if it is this stack's, its GPU node pools, and the services on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi

from components.ack_cluster import AckCluster
from components.children import child_of
from components.component import PutBack
from components.gpu_node_pool import GpuNodePool, PoolPlan
from components.kubernetes_serving import KubernetesServing, PodsPlan
from components.model_repository import ModelRepository
from components.other_packages import KubernetesProvider
from components.providers import Providers
from components.resources import ModelConfigFile, later
from components.served_config import InCluster
from config.kubernetes import KubernetesSettings
from config.stack import Settings
from tfserving.contract.storage import ModelConfigFileInputs


@dataclass(frozen=True, kw_only=True)
class OnKubernetes:
    """What a stack has on Kubernetes.

    Attributes:
        place: where its pods are.
        config_files: by set of models (its ``part``): makes sure that its ConfigMap is there before pods start.
        services: the services.
    """

    place: InCluster
    config_files: Mapping[str, ModelConfigFile]
    services: Sequence[KubernetesServing]


@dataclass(frozen=True, kw_only=True)
class Access:
    """The cluster itself, before anything is in it.

    Attributes:
        kubeconfig: path or content; empty: the environment's.
        made: the cluster, where it is this stack's.
    """

    kubeconfig: pulumi.Input[str]
    made: AckCluster | None


def access(parent: pulumi.Resource, cluster: KubernetesSettings, providers: Providers, put_back: PutBack) -> Access:
    """Registers the cluster, where it is this stack's."""
    made: AckCluster | None = None
    kubeconfig: pulumi.Input[str] = put_back(cluster.kubeconfig)
    if cluster.secret_kubeconfig:
        kubeconfig = pulumi.Output.secret(kubeconfig)
    if cluster.cluster is not None:
        made = AckCluster("ack", cluster.cluster, child_of(parent, providers=providers.all))
        if not cluster.kubeconfig:
            kubeconfig = made.kubeconfig
    return Access(kubeconfig=kubeconfig, made=made)


def deploy(
    parent: pulumi.Resource,
    settings: Settings,
    cluster: KubernetesSettings,
    where: Access,
    repository: ModelRepository,
    owner: str,
    providers: Providers,
    put_back: PutBack,
) -> OnKubernetes:
    """Registers everything a stack has on Kubernetes, down to the pods."""
    made, kubeconfig = where.made, where.kubeconfig
    pools = [
        GpuNodePool(
            pool.name,
            PoolPlan(
                pool=pool,
                cluster_id=made.cluster_id if made else cluster.cluster_id,
                vswitch_ids=made.vswitch_ids if made else (),
                put_back=put_back,
            ),
            child_of(parent, providers=providers.all),
        )
        for pool in settings.gpu_node_pools
    ]
    provider = KubernetesProvider(
        "kubernetes",
        kubeconfig or None,
        cluster.context or None,
        child_of(parent, depends_on=[made.resource] if made else None),
    )
    config_files = {
        each.part: ModelConfigFile(
            f"cluster-config{each.suffix}",
            ModelConfigFileInputs(
                bucket=later(repository.bucket_name),
                key=f"{settings.model_root}{each.file_name}",
                owner=owner,
                initial=each.config,
                kubeconfig=later(kubeconfig) or None,
                kube_context=cluster.context or None,
                config_map=settings.config_map(each),
            ),
            child_of(parent, provider=providers.tfserving, depends_on=repository.contents),
        )
        for each in settings.files
        if each.pods
    }
    needed: list[pulumi.Resource] = [*repository.contents, *(pool.resource for pool in pools)]
    services = []
    for service in settings.ack_services:
        reads = [config_files[each.part] for each in settings.files if service.name in each.pods]
        services.append(
            KubernetesServing(
                service.name,
                PodsPlan(
                    service=service,
                    models=settings.models_of(service),
                    after=[*needed, *reads],
                    put_back=put_back,
                    cluster=InCluster(kubeconfig=kubeconfig, context=cluster.context),
                    owner=owner,
                ),
                child_of(parent, providers=[provider, providers.tfserving]),
            )
        )
    return OnKubernetes(
        place=InCluster(kubeconfig=kubeconfig, context=cluster.context),
        config_files=config_files,
        services=services,
    )
