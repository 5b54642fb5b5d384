"""What the services of a stack serve: rolled out to those with the config file together, proven for the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi

from components.eas_service import TensorFlowServing
from components.model_repository import ModelRepository
from components.resources import ServedConfig, ServedConfigArgs, ServedModel, ServedModelArgs
from tfserving import model_config
from tfserving.model_config import ModelServerConfig


@dataclass(frozen=True, kw_only=True)
class RolloutArgs:
    """Arguments of :func:`roll_out`.

    Attributes:
        repository: bucket, published models and the config file.
        serving: what is to be served.
        published: version numbers in the bucket, by model.
        services: the services that read the config file.
        owner: ``<project>/<stack>``.
        step_seconds: how long one step may take; 0 leaves it to the provider.
    """

    repository: ModelRepository
    serving: ModelServerConfig
    published: Mapping[str, Sequence[int]]
    services: Sequence[TensorFlowServing]
    owner: str
    step_seconds: int = 0


def roll_out(name: str, args: RolloutArgs, opts: pulumi.ResourceOptions) -> ServedConfig:
    """Moves versions and labels on all services that read the config file, once files and services are there."""
    needed = [*args.repository.contents, *(serving.resource for serving in args.services)]
    return ServedConfig(
        name,
        ServedConfigArgs(
            bucket=args.repository.bucket_name,
            key=args.repository.config_file_key,
            owner=args.owner,
            models=model_config.to_dict(args.serving),
            published={model: list(versions) for model, versions in args.published.items()},
            services={
                serving.service.name: {
                    "url": serving.url,
                    "target": serving.target,
                    "token": serving.token,
                    "reads": True,
                    "pollSeconds": serving.service.spec.config_poll_seconds,
                    "reachable": serving.service.reachable,
                }
                for serving in args.services
            },
            wait_seconds=args.step_seconds or None,
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
        step_seconds: how long a version may take to load; 0 leaves it to the provider.
    """

    serving: TensorFlowServing
    versions: Sequence[int]
    after: Sequence[pulumi.Resource]
    step_seconds: int = 0


def prove(name: str, args: ProofArgs, opts: pulumi.ResourceOptions) -> ServedModel:
    """Sees that a service of one model serves the version it is to serve, and looks at it again for drift."""
    serving = args.serving
    return ServedModel(
        name,
        ServedModelArgs(
            service={
                "name": serving.service.name,
                "url": serving.url,
                "target": serving.target,
                "token": serving.token,
                "reachable": serving.service.reachable,
            },
            model=serving.service.request_name,
            versions=list(args.versions),
            wait_seconds=args.step_seconds or None,
        ),
        pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(depends_on=[*args.after, serving.resource])),
    )
