"""What a :class:`~components.serving_stack.ServingStack` has to say: how services are reached, and what they serve.

Version numbers are numbers here, and text only above 2^53, where Pulumi would round them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tfserving.contract.records import Record, prop


@dataclass(frozen=True, kw_only=True)
class PolicyInForce(Record):
    """A version policy: exactly one of the two is there.

    Attributes:
        latest: so many of the newest.
        specific: exactly these.
    """

    latest: int | None = None
    specific: tuple[int | str, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class ModelInService(Record):
    """What a service serves of a model.

    Attributes:
        policy: which versions are served: ``all``, or one of the policies with numbers.
        versions: version numbers.
        labels: version numbers by label.
    """

    policy: str | PolicyInForce | None = None
    versions: tuple[int | str, ...] = ()
    labels: Mapping[str, int | str] = prop(factory=dict)


@dataclass(frozen=True, kw_only=True)
class ReachedService(Record):
    """How a service is reached, and what it serves.

    Attributes:
        protocol: ``http`` or ``grpc``.
        url: base URL for HTTP.
        target: ``host:port`` for gRPC.
        token: access token; none on Kubernetes.
        models: what it serves by model, as it said itself where it could be asked.
    """

    protocol: str
    url: str | None = None
    target: str | None = None
    token: str | None = prop(None, secret=True)
    models: Mapping[str, ModelInService] = prop(factory=dict)


@dataclass(frozen=True, kw_only=True)
class Tensor(Record):
    """One input or output of a signature.

    Attributes:
        dtype: element type, such as ``float32``.
        shape: sizes, ``null`` where any size will do; missing where even their number is open.
    """

    dtype: str
    shape: tuple[int | None, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class ModelSignature(Record):
    """What one signature of a model takes and gives.

    Attributes:
        inputs: by name.
        outputs: by name.
        method_name: such as ``tensorflow/serving/predict``.
    """

    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]
    method_name: str = ""


@dataclass(frozen=True, kw_only=True)
class SignaturesOfVersions(Record):
    """Versions that have the same signatures.

    Attributes:
        versions: version numbers.
        signatures: their key among the signatures of the stack.
    """

    versions: tuple[int | str, ...]
    signatures: str


@dataclass(frozen=True, kw_only=True)
class StackModel(ModelInService):
    """What a stack declares of a model, and what clients of it have to follow.

    Attributes:
        signatures: as far as they are known.
    """

    signatures: tuple[SignaturesOfVersions, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ReachedGroup(Record):
    """How a group of services that share requests is reached.

    Attributes:
        protocol: ``http`` or ``grpc``.
        url: base URL for HTTP.
        target: ``host:port`` for gRPC.
        token: access token of the group.
        weights: percent of the requests by service.
    """

    protocol: str
    url: str | None = None
    target: str | None = None
    token: str | None = prop(None, secret=True)
    weights: Mapping[str, int] = prop(factory=dict)


@dataclass(frozen=True, kw_only=True)
class StackOutputs(Record):
    """Outputs of ServingStack.

    Attributes:
        services: how each service is reached, and what it serves.
        models: versions, labels and signatures of each model.
        signatures: by the keys that models say: each once, however many versions and models have them.
        traffic: how each group of services that share requests is reached.
        unproven: the services that nobody could ask what they serve.
    """

    services: Mapping[str, ReachedService] = prop(factory=dict)
    models: Mapping[str, StackModel] = prop(factory=dict)
    signatures: Mapping[str, Mapping[str, ModelSignature]] = prop(factory=dict)
    traffic: Mapping[str, ReachedGroup] | None = None
    unproven: tuple[str, ...] = ()
