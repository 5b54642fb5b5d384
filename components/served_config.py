"""What the services of a stack serve: rolled out to those with the config file together, proven for the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pulumi

from components.eas_service import TensorFlowServing
from components.model_repository import ModelRepository
from components.resources import ServedConfig, ServedConfigArgs, ServedModel, ServedModelArgs
from tfserving import model_config
from tfserving.kubernetes import selector
from tfserving.model_config import ModelServerConfig

if TYPE_CHECKING:
    from components.cluster import Cluster
    from components.kubernetes_serving import KubernetesServing


@dataclass(frozen=True, kw_only=True)
class RolloutArgs:
    """Arguments of :func:`roll_out`.

    Attributes:
        repository: bucket, published models and the config file.
        serving: what is to be served.
        published: version numbers in the bucket, by model.
        services: the services on PAI-EAS that read the config file.
        cluster: what the stack has on Kubernetes, if anything reads a ConfigMap there.
        owner: ``<project>/<stack>``.
        step_seconds: how long one step may take; 0 leaves it to the provider.
    """

    repository: ModelRepository
    serving: ModelServerConfig
    published: Mapping[str, Sequence[int]]
    services: Sequence[TensorFlowServing]
    owner: str
    cluster: Cluster | None = None
    step_seconds: int = 0


def roll_out(name: str, args: RolloutArgs, opts: pulumi.ResourceOptions) -> ServedConfig:
    """Moves versions and labels on all services that read the config file, once files and services are there."""
    cluster = args.cluster
    needed: list[pulumi.Resource] = [*args.repository.contents, *(serving.resource for serving in args.services)]
    if cluster is not None and cluster.config_file is not None:
        needed += [cluster.config_file, *(serving.deployment for serving in cluster.readers)]
    return ServedConfig(
        name,
        ServedConfigArgs(
            bucket=args.repository.bucket_name,
            key=args.repository.config_file_key,
            owner=args.owner,
            models=model_config.to_dict(args.serving),
            published={model: list(versions) for model, versions in args.published.items()},
            services={
                **{serving.service.name: _behind_gateway(serving) for serving in args.services},
                **{serving.service.name: _in_pods(serving) for serving in (cluster.readers if cluster else ())},
            },
            wait_seconds=args.step_seconds or None,
            config_map=(cluster.config_map if cluster else "") or None,
            kubeconfig=(cluster.kubeconfig if cluster else "") or None,
            kube_context=(cluster.context if cluster else "") or None,
        ),
        pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(depends_on=needed)),
    )


@dataclass(frozen=True, kw_only=True)
class ProofArgs:
    """Arguments of :func:`prove`.

    Attributes:
        serving: a service of one model.
        versions: the versions it is to serve.
        after: what decides on them: published models, and a rollout, which removes files of dropped versions.
        cluster: where the service runs, if that is on Kubernetes.
        step_seconds: how long a version may take to load; 0 leaves it to the provider.
    """

    serving: TensorFlowServing | KubernetesServing
    versions: Sequence[int]
    after: Sequence[pulumi.Resource]
    cluster: Cluster | None = None
    step_seconds: int = 0


def prove(name: str, args: ProofArgs, opts: pulumi.ResourceOptions) -> ServedModel:
    """Proves that a service of one model serves the version it is to serve, and looks at it again for drift."""
    serving = args.serving
    place: dict[str, Any]
    started: pulumi.Resource
    if isinstance(serving, TensorFlowServing):
        place, started, cluster = _address(serving), serving.resource, None
    else:
        place, started, cluster = {"pods": _pods(serving)}, serving.deployment, args.cluster
    return ServedModel(
        name,
        ServedModelArgs(
            service={"name": serving.service.name, **place, "reachable": serving.service.reachable},
            model=serving.service.request_name,
            versions=list(args.versions),
            wait_seconds=args.step_seconds or None,
            kubeconfig=(cluster.kubeconfig if cluster else "") or None,
            kube_context=(cluster.context if cluster else "") or None,
        ),
        pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(depends_on=[*args.after, started])),
    )


def _behind_gateway(serving: TensorFlowServing) -> dict[str, Any]:
    """A service on EAS as the rollout sees it: one address for all its replicas."""
    return {
        **_address(serving),
        "reads": True,
        "pollSeconds": serving.service.spec.config_poll_seconds,
        "reachable": serving.service.reachable,
    }


def _in_pods(serving: KubernetesServing) -> dict[str, Any]:
    """A service on Kubernetes as the rollout sees it: pods, each of which can be asked through the API server."""
    return {
        "pods": _pods(serving),
        "reads": True,
        "pollSeconds": serving.service.spec.config_poll_seconds,
        "reachable": serving.service.reachable,
    }


def _address(serving: TensorFlowServing) -> dict[str, Any]:
    return {"url": serving.url, "target": serving.target, "token": serving.token}


def _pods(serving: KubernetesServing) -> dict[str, Any]:
    spec = serving.service.spec
    return {"namespace": spec.namespace, "selector": selector(spec)}
