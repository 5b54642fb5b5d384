"""What the services of a stack serve: rolled out to those with the config file together, proven for the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import pulumi

from components.component import PutBack, as_it_is
from components.resources import ServedConfig, ServedModel, later
from config.loading import AnyService
from tfserving.contract.gates import ModelGate
from tfserving.contract.parts import Pods
from tfserving.contract.serving import ConfiguredService, NamedService, ServedConfigInputs, ServedModelInputs
from tfserving.model_config import ModelServerConfig


class Serving(Protocol):
    """A service as a rollout needs it, wherever it runs."""

    url: Any
    target: Any
    token: Any
    pods: Pods | None

    @property
    def service(self) -> AnyService:
        """Its settings."""

    @property
    def started(self) -> pulumi.Resource:
        """What runs."""


@dataclass(frozen=True, kw_only=True)
class InCluster:
    """Where pods are, and the ConfigMap they read.

    Attributes:
        kubeconfig: path or content; empty: the environment's.
        context: context of the kubeconfig; empty: its current one.
        config_map: ``namespace/name`` of the ConfigMap with the model config file; empty: none.
    """

    kubeconfig: pulumi.Input[str] = ""
    context: str = ""
    config_map: str = ""


HERE = InCluster()
"""The cluster of the environment, without a ConfigMap."""


@dataclass(frozen=True, kw_only=True)
class RolloutArgs:
    """Arguments of :func:`roll_out`.

    Attributes:
        bucket: name of the bucket.
        key: object key of the model config file.
        serving: what is to be served.
        published: version numbers in the bucket, by model.
        services: the services that read the file.
        after: what has to be there besides: files, and what the services need.
        owner: ``<project>/<stack>``.
        cluster: where those on Kubernetes are.
        step_seconds: how long one step may take; 0 leaves it to the provider.
        gates: what a version has to prove before requests move to it, by model.
        other_services: of a stack with several config files, what services with another one are to serve, by name.
        put_back: sets late values in the place of their stand-ins.
    """

    bucket: pulumi.Input[str]
    key: str
    serving: ModelServerConfig
    published: Mapping[str, Sequence[int]]
    services: Sequence[Serving]
    after: Sequence[pulumi.Resource]
    owner: str
    cluster: InCluster = HERE
    step_seconds: int = 0
    gates: Mapping[str, ModelGate] = field(default_factory=dict)
    other_services: Mapping[str, tuple[str, ...]] | None = None
    put_back: PutBack = as_it_is


def roll_out(name: str, args: RolloutArgs, opts: pulumi.ResourceOptions) -> ServedConfig:
    """Moves versions and labels on all services that read the config file, once files and services are there."""
    cluster = args.cluster
    needed: list[pulumi.Resource] = [*args.after, *(serving.started for serving in args.services)]
    return ServedConfig(
        name,
        ServedConfigInputs(
            bucket=later(args.bucket),
            key=args.key,
            owner=args.owner,
            models=args.serving,
            published={model: tuple(versions) for model, versions in args.published.items()},
            services={serving.service.name: _configured(serving) for serving in args.services},
            mount_path=next((serving.service.spec.mount_path for serving in args.services), None),
            wait_seconds=args.step_seconds or None,
            gates=dict(args.gates) or None,
            other_services=args.other_services,
            names_versions=None if args.other_services is None else True,
            config_map=cluster.config_map or None,
            kubeconfig=later(cluster.kubeconfig) or None,
            kube_context=cluster.context or None,
        ),
        pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(depends_on=needed)),
        args.put_back,
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
        gate: what a version has to prove once it is AVAILABLE; ``None``: nothing.
        put_back: sets late values in the place of their stand-ins.
    """

    serving: Serving
    versions: Sequence[int]
    after: Sequence[pulumi.Resource]
    cluster: InCluster = HERE
    step_seconds: int = 0
    gate: ModelGate | None = None
    put_back: PutBack = as_it_is


def prove(name: str, args: ProofArgs, opts: pulumi.ResourceOptions) -> ServedModel:
    """Proves that a service of one model serves the version it is to serve, and looks at it again for drift."""
    serving, in_pods = args.serving, args.serving.pods is not None
    needed = [*args.after, serving.started]
    return ServedModel(
        name,
        ServedModelInputs(
            service=NamedService(name=serving.service.name, **_place(serving), reachable=serving.service.reachable),
            model=serving.service.request_name,
            versions=tuple(args.versions),
            wait_seconds=args.step_seconds or None,
            gate=args.gate,
            kubeconfig=(later(args.cluster.kubeconfig) or None) if in_pods else None,
            kube_context=(args.cluster.context or None) if in_pods else None,
        ),
        pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(depends_on=needed)),
        args.put_back,
    )


def _configured(serving: Serving) -> ConfiguredService:
    """A service as the rollout sees it."""
    seconds = serving.service.config_file_polls
    return ConfiguredService(**_place(serving), poll_seconds=seconds, reachable=serving.service.reachable)


def _place(serving: Serving) -> dict[str, Any]:
    """Where a service is asked: at one address for all its replicas, or pod by pod through the API server."""
    if serving.pods is not None:
        return {"pods": serving.pods}
    return {"url": later(serving.url), "target": later(serving.target), "token": later(serving.token)}
