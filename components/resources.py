"""The resources that this project's own provider, ``tfserving``, implements, as programs register them.

Inputs, outputs and what each of them means are declared in :mod:`tfserving.contract`. A value that another resource
makes is passed as ``later(output)``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, ClassVar, Generic, TypeVar, overload

import pulumi

from tfserving import contract
from tfserving.contract import PACKAGE, VERSION, Contract, ProviderConfig, integers
from tfserving.contract.cluster import ClusterObjectInputs
from tfserving.contract.records import Record
from tfserving.contract.serving import EasServiceInputs, ServedConfigInputs, ServedModelInputs
from tfserving.contract.storage import (
    BucketContentsInputs,
    ModelConfigFileInputs,
    PublishedModelInputs,
    RetiredVersionsInputs,
)
from tfserving.contract.traffic import TrafficRouteInputs, TrafficSplitInputs

_T = TypeVar("_T")
_Inputs = TypeVar("_Inputs", bound=Record)


@overload
def later(value: pulumi.Input[str]) -> str: ...
@overload
def later(value: pulumi.Output[_T]) -> _T: ...
def later(value: Any) -> Any:
    """An output of another resource where an input of a resource takes a plain value: it is known in time."""
    return value


asked_version: ContextVar[str] = ContextVar("asked_version", default=VERSION)
"""The version of the plugin that resources ask for. Empty: that of the program's package, wherever it is from."""


def props(token: str, inputs: Record, outputs: Sequence[str] = ()) -> dict[str, Any]:
    """Inputs as the engine takes them, with room for the outputs, which Pulumi only fills in where they are named."""
    return {**dict.fromkeys(outputs), **integers.encode(token, inputs.write(_within_output), _within_output)}


def _within_output(value: Any, change: Callable[[Any], Any]) -> Any:
    return value.apply(change) if isinstance(value, pulumi.Output) else value


def _options(opts: pulumi.ResourceOptions | None, **extra: Any) -> pulumi.ResourceOptions:
    declared = pulumi.ResourceOptions(version=asked_version.get() or None, **extra)
    return pulumi.ResourceOptions.merge(declared, opts)


class TFServingProvider(pulumi.ProviderResource):
    """The ``tfserving`` provider, launched from ``provider/`` in this project."""

    def __init__(self, name: str, args: ProviderConfig, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(PACKAGE, name, args.write(_within_output), _options(opts))


class _Resource(pulumi.CustomResource, Generic[_Inputs]):
    """A resource by its contract. ``put_back`` sets outputs in the place of their stand-ins among the arguments.

    Attributes:
        contract: its inputs and outputs.
        defaults_left_out: the provider fills in defaults, not the program. For what a stack has many of: Pulumi makes
            futures and a task for every property.
    """

    contract: ClassVar[Contract]
    defaults_left_out: ClassVar[bool] = False

    def __init__(
        self,
        name: str,
        args: _Inputs,
        opts: pulumi.ResourceOptions | None = None,
        put_back: Callable[[Any], Any] = lambda value: value,
    ) -> None:
        declared = self.contract.outputs.properties()
        secret = [output for output, each in declared.items() if each.secret]
        options = _options(opts, additional_secret_outputs=secret or None)
        token = self.contract.token
        named = [output for output in declared if output in type(self).__annotations__]
        given = props(token, args, named)
        if self.defaults_left_out:
            known = args.properties()
            given = {key: value for key, value in given.items() if key in named or value != known[key].default}
        super().__init__(token, name, put_back(given), options)


class BucketContents(_Resource[BucketContentsInputs]):
    """Who can read a bucket of the stack, looked at before every update; and its old versions, removed with it."""

    contract = contract.BUCKET_CONTENTS


class PublishedModel(_Resource[PublishedModelInputs]):
    """The versions of one model in the bucket: complete and unchangeable once published."""

    contract = contract.PUBLISHED_MODEL
    defaults_left_out = True


class ModelConfigFile(_Resource[ModelConfigFileInputs]):
    """``model_config.pbtxt``, in the bucket or in a ConfigMap: there before a service starts that reads it."""

    contract = contract.MODEL_CONFIG_FILE


class EasService(_Resource[EasServiceInputs]):
    """A service on PAI-EAS.

    Attributes:
        url: base URL of an HTTP service, path prefix included; empty for gRPC.
        target: ``host:port`` of a gRPC service; empty for HTTP.
        token: access token, secret.
    """

    contract = contract.EAS_SERVICE
    url: pulumi.Output[str] = pulumi.property("url")
    target: pulumi.Output[str] = pulumi.property("target")
    token: pulumi.Output[str] = pulumi.property("token")


class ServedConfig(_Resource[ServedConfigInputs]):
    """What the services that read ``model_config.pbtxt`` serve: versions and labels, rolled out in safe steps.

    Attributes:
        served: per service and model, the versions and labels it answers for; version numbers as text, since Pulumi's
            numbers are rounded above 2^53.
    """

    contract = contract.SERVED_CONFIG
    served: pulumi.Output[Mapping[str, Any]] = pulumi.property("served")


class RetiredVersions(_Resource[RetiredVersionsInputs]):
    """Removes the files of versions that are published no longer, once no service needs them."""

    contract = contract.RETIRED_VERSIONS


class ServedModel(_Resource[ServedModelInputs]):
    """What a service of one model serves: proven after every change of its versions.

    Attributes:
        served: by model, the versions it answers for; version numbers as text, as :class:`ServedConfig` has them.
    """

    contract = contract.SERVED_MODEL
    served: pulumi.Output[Mapping[str, Any]] = pulumi.property("served")


class TrafficSplit(_Resource[TrafficSplitInputs]):
    """How the requests of a service group are shared among its members.

    Attributes:
        url: base URL of a group of HTTP services; empty for gRPC.
        target: ``host:port`` of a group of gRPC services; empty for HTTP.
        token: access token, secret.
        weights: percent of the requests that each member gets.
    """

    contract = contract.TRAFFIC_SPLIT
    url: pulumi.Output[str] = pulumi.property("url")
    target: pulumi.Output[str] = pulumi.property("target")
    token: pulumi.Output[str] = pulumi.property("token")
    weights: pulumi.Output[Mapping[str, int]] = pulumi.property("weights")


class TrafficRoute(_Resource[TrafficRouteInputs]):
    """How a gateway of a Kubernetes cluster shares requests among Services.

    Attributes:
        url: base URL for HTTP, by its host name; empty without one.
        target: ``host:port`` for gRPC, by its host name; empty without one.
    """

    contract = contract.TRAFFIC_ROUTE
    url: pulumi.Output[str] = pulumi.property("url")
    target: pulumi.Output[str] = pulumi.property("target")


class ClusterObject(_Resource[ClusterObjectInputs]):
    """An object in a Kubernetes cluster of a kind that not every cluster knows."""

    contract = contract.CLUSTER_OBJECT
