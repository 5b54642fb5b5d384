"""A service in a program of somebody's own: it takes a repository, and rolls out and proves what it serves itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
from pulumi.resource import DependencyResource

from components.component import PutBack
from components.declaration import Declaration
from components.model_repository import ModelRepository
from components.resources import ServedConfig, ServedModel
from components.served_config import HERE, InCluster, ProofArgs, RolloutArgs, Serving, prove, roll_out
from config.stack_config import NAMESPACE
from tfserving.contract.gates import ModelGate
from tfserving.model_config import ModelServerConfig

NOT_OF_A_SERVICE = ("declaration", "bucket", "region", "serviceName", "repository", "group")
"""Arguments that do not stand in a service's entry of the stack config."""


@dataclass(frozen=True, kw_only=True)
class OwnServing:
    """What a service serves that stands alone: nobody else reads its config file, and nobody else rolls it out.

    Attributes:
        serving: what the config file says, every version by its number: so that new files change nothing before the
            rollout does. ``None`` for a service of one model.
        published: version numbers in the bucket, by model.
        versions: of a service of one model, the versions it is to serve.
        gates: what a version has to prove before requests move to it, by model.
    """

    serving: ModelServerConfig | None
    published: Mapping[str, Sequence[int]]
    versions: Sequence[int]
    gates: Mapping[str, ModelGate]


@dataclass(frozen=True, kw_only=True)
class Alone:
    """How a service that stands alone is rolled out.

    Attributes:
        own: what it serves; ``None`` in a stack that rolls out to several services at once.
        bucket: name of the bucket.
        key: object key of its model config file.
        owner: ``<project>/<stack>``.
        cluster: where it is, if that is on Kubernetes.
        put_back: sets late values in the place of their stand-ins.
    """

    own: OwnServing | None
    bucket: str
    key: str
    owner: str
    cluster: InCluster = HERE
    put_back: PutBack


def serve_alone(
    name: str, serving: Serving, alone: Alone, after: Sequence[pulumi.Resource], opts: pulumi.ResourceOptions
) -> ServedConfig | ServedModel | None:
    """Rolls out and proves what a service serves that stands alone; ``None`` where it does not, or nothing is known.

    Args:
        name: name of the resource.
        serving: the service.
        alone: what it serves, and where.
        after: what has to be there besides the service.
        opts: options of the resource.
    """
    own = alone.own
    if own is None or not (own.serving or own.versions):
        return None
    if own.serving is None:
        proof = ProofArgs(
            serving=serving,
            versions=own.versions,
            after=after,
            cluster=alone.cluster,
            gate=own.gates.get(serving.service.spec.model),
            put_back=alone.put_back,
        )
        return prove(name, proof, opts)
    args = RolloutArgs(
        bucket=alone.bucket,
        key=alone.key,
        serving=own.serving,
        published=own.published,
        gates=own.gates,
        services=[serving],
        after=after,
        owner=alone.owner,
        cluster=alone.cluster,
        put_back=alone.put_back,
    )
    return roll_out(name, args, opts)


def stack_of_one(declared: Declaration, bucket: Any, service_name: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    """The stack config of which a service is the only one, by key.

    Args:
        declared: what its repository says.
        bucket: name of the bucket.
        service_name: its name.
        entry: its options.
    """
    return {
        f"{NAMESPACE}:bucket": {"name": bucket, "existing": True},
        f"{NAMESPACE}:modelRoot": declared.root,
        f"{NAMESPACE}:models": declared.models_for(entry.get("model")),
        f"{NAMESPACE}:services": {service_name: entry},
    }


def served_by(proven: ServedConfig | ServedModel, service: str) -> pulumi.Output[Any]:
    """What a service said that it serves, by model."""
    whole = isinstance(proven, ServedModel)
    return proven.served.apply(lambda found: found if whole or found is None else found.get(service))


def take_repository(given: dict[str, Any]) -> tuple[list[pulumi.Resource], dict[str, Any]]:
    """Takes the repository out of arguments: what services of it wait for, and what it declares, by key.

    Args:
        given: arguments of a component, with ``repository``: the component, or the outputs of one made elsewhere.
    """
    repository = given.pop("repository", None)
    if isinstance(repository, ModelRepository):
        declared = {"declaration": repository.declaration.text, "bucket": repository.bucket_name}
        return repository.contents, declared
    if isinstance(repository, Mapping):
        declared = {key: repository[key] for key in ("declaration", "bucket") if key in repository}
        return [DependencyResource(urn) for urn in repository.get("contents") or ()], declared
    return [], {}  # what it is not is a problem among the others
