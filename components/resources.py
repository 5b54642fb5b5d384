"""Typed classes of the resources that this project's own provider, ``tfserving``, implements.

Nothing is decided here: the classes name inputs and outputs as the provider does (camelCase on the wire), and mark
tokens as secret. ``provider/`` documents what each resource does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, cast, dataclass_transform

import pulumi

from tfserving import wire

PROVIDER_VERSION = "0.1.0"
"""Version of the provider plugin in ``provider/``, as named in ``Pulumi.yaml``."""

_T = TypeVar("_T")


@dataclass_transform(kw_only_default=True, field_specifiers=(pulumi.property,))
def _input_type(cls: type[_T]) -> type[_T]:
    """``pulumi.input_type``, with the constructor it writes known to type checkers."""
    return pulumi.input_type(cls)


def _props(args: object, *outputs: str, kind: str = "") -> pulumi.Inputs:
    """A copy of ``args`` with room for the outputs, which Pulumi only fills in where they are named beforehand.

    Version numbers become text: the SDK would make doubles of them (:mod:`tfserving.wire`).

    Args:
        args: the inputs.
        outputs: names of the outputs.
        kind: type of the resource.
    """
    props = type(args).__new__(type(args))
    vars(props).update(wire.exact(wire.encode(kind, vars(args), _within_output)), **dict.fromkeys(outputs))
    return cast(pulumi.Inputs, props)  # an input type is as good as a mapping, and keeps nested keys as they are


def _within_output(value: Any, change: Callable[[Any], Any]) -> Any:
    return value.apply(change) if isinstance(value, pulumi.Output) else value


def _options(opts: pulumi.ResourceOptions | None, **extra: Any) -> pulumi.ResourceOptions:
    return pulumi.ResourceOptions.merge(pulumi.ResourceOptions(version=PROVIDER_VERSION, **extra), opts)


@_input_type
class TFServingProviderArgs:
    """Configuration of the ``tfserving`` provider.

    Attributes:
        region: Alibaba Cloud region id.
        eas_endpoint: ``host[:port]`` of the EAS API; empty is the regional one.
        oss_endpoint: ``host[:port]`` of OSS; empty is the regional one.
        protocol: ``HTTP`` or ``HTTPS``.
        access_key: access key id. Empty with ``secret_key``: the standard Alibaba Cloud credentials chain.
        secret_key: access key secret.
        security_token: token of temporary credentials.
        profile: profile in ``~/.aliyun/config.json``.
    """

    region: pulumi.Input[str] = pulumi.property("region")
    eas_endpoint: pulumi.Input[str] = pulumi.property("easEndpoint", default="")
    oss_endpoint: pulumi.Input[str] = pulumi.property("ossEndpoint", default="")
    protocol: pulumi.Input[str] = pulumi.property("protocol", default="HTTPS")
    access_key: pulumi.Input[str] = pulumi.property("accessKey", default="")
    secret_key: pulumi.Input[str] = pulumi.property("secretKey", default="")
    security_token: pulumi.Input[str] = pulumi.property("securityToken", default="")
    profile: pulumi.Input[str] = pulumi.property("profile", default="")


class TFServingProvider(pulumi.ProviderResource):
    """The ``tfserving`` provider, launched from ``provider/`` in this project."""

    def __init__(self, name: str, args: TFServingProviderArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("tfserving", name, _props(args), _options(opts))


@_input_type
class BucketContentsArgs:
    """Inputs of :class:`BucketContents`.

    Attributes:
        bucket: name of a bucket that the stack makes; a change replaces it.
        owner: ``<project>/<stack>``: whose object versions go with the bucket.
        storage_class: what the bucket was made with.
        redundancy_type: what the bucket was made with.
        encryption: algorithm of its default encryption.
        force_destroy: everything in it is deleted with it.
    """

    bucket: pulumi.Input[str] = pulumi.property("bucket")
    owner: pulumi.Input[str] = pulumi.property("owner")
    storage_class: pulumi.Input[str] = pulumi.property("storageClass")
    redundancy_type: pulumi.Input[str] = pulumi.property("redundancyType")
    encryption: pulumi.Input[str] = pulumi.property("encryption")
    force_destroy: pulumi.Input[bool] = pulumi.property("forceDestroy", default=False)


class BucketContents(pulumi.CustomResource):
    """Who can read a bucket of the stack, looked at before every update; and its old versions, removed with it.

    Attributes:
        public: every way in which everybody can reach the bucket.
    """

    bucket: pulumi.Output[str] = pulumi.property("bucket")
    public: pulumi.Output[Sequence[str]] = pulumi.property("public")

    def __init__(self, name: str, args: BucketContentsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("tfserving:index:BucketContents", name, _props(args, "public"), _options(opts))


@_input_type
class PublishedModelArgs:
    """Inputs of :class:`PublishedModel`.

    Attributes:
        name: model name.
        bucket: bucket name.
        prefix: key prefix of the model (``models/tf_serving/modelA/``).
        owner: ``<project>/<stack>``: who may remove what is published.
        source: local model directory, relative to the project; ``oss://bucket/path/`` in the same region; or empty: the
            versions are in the bucket already. A change of it alone is no change.
        manifests: local directory of committed manifests, relative to the project; empty without any.
        versions: digest of each published version by its number (``{"1": "sha256:..."}``), or ``any``.
        bucket_exists: the bucket has to be there, because this stack does not make it.
        remove_dropped: remove the files of a version that is published no longer at once; otherwise the rollout does.
        config_file: object key of the model config file; ``None``: nothing reads one.
        config_map: ``namespace/name`` of the ConfigMap that holds it for pods; ``None`` without any.
        kubeconfig: path or content of the kubeconfig of their cluster; ``None``: the environment's.
        kube_context: context of the kubeconfig; ``None``: its current one.
        readers: by name: the services that read the file: ``pollSeconds``, ``reachable``, ``pods`` on Kubernetes.
        serving: the model as the config file is to list it. New versions appear once every reader keeps what it serves.
    """

    name: pulumi.Input[str] = pulumi.property("name")
    bucket: pulumi.Input[str] = pulumi.property("bucket")
    prefix: pulumi.Input[str] = pulumi.property("prefix")
    owner: pulumi.Input[str] = pulumi.property("owner")
    versions: pulumi.Input[Mapping[str, pulumi.Input[str]]] = pulumi.property("versions")
    source: pulumi.Input[str] = pulumi.property("source", default="")
    manifests: pulumi.Input[str] = pulumi.property("manifests", default="")
    bucket_exists: pulumi.Input[bool] = pulumi.property("bucketExists", default=False)
    remove_dropped: pulumi.Input[bool] = pulumi.property("removeDropped", default=False)
    config_file: pulumi.Input[str | None] = pulumi.property("configFile", default=None)
    config_map: pulumi.Input[str | None] = pulumi.property("configMap", default=None)
    kubeconfig: pulumi.Input[str | None] = pulumi.property("kubeconfig", default=None)
    kube_context: pulumi.Input[str | None] = pulumi.property("kubeContext", default=None)
    readers: pulumi.Input[Mapping[str, Any] | None] = pulumi.property("readers", default=None)
    serving: pulumi.Input[Mapping[str, Any] | None] = pulumi.property("serving", default=None)


class PublishedModel(pulumi.CustomResource):
    """The versions of one model in the bucket: complete and unchangeable once published.

    Attributes:
        files: per version, what was uploaded: ``{"1": {"files": 3, "bytes": 4096}}``.
    """

    name: pulumi.Output[str] = pulumi.property("name")
    bucket: pulumi.Output[str] = pulumi.property("bucket")
    prefix: pulumi.Output[str] = pulumi.property("prefix")
    versions: pulumi.Output[Mapping[str, str]] = pulumi.property("versions")
    files: pulumi.Output[Mapping[str, Any]] = pulumi.property("files")

    def __init__(self, name: str, args: PublishedModelArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        props = _props(args, "files", kind="tfserving:index:PublishedModel")
        super().__init__("tfserving:index:PublishedModel", name, props, _options(opts))


@_input_type
class ModelConfigFileArgs:
    """Inputs of :class:`ModelConfigFile`.

    Attributes:
        bucket: bucket name.
        key: object key of ``model_config.pbtxt``.
        owner: ``<project>/<stack>``, written to the file's first line.
        initial: models the file lists when it is made; a later change of it is no change (ServedConfig rolls it out).
        config_map: ``namespace/name`` of a ConfigMap that holds the file instead of the bucket.
        kubeconfig: path or content of the kubeconfig of its cluster; ``None``: the environment's.
        kube_context: context of the kubeconfig; ``None``: its current one.
    """

    bucket: pulumi.Input[str] = pulumi.property("bucket")
    key: pulumi.Input[str] = pulumi.property("key")
    owner: pulumi.Input[str] = pulumi.property("owner")
    initial: pulumi.Input[Mapping[str, Any]] = pulumi.property("initial")
    config_map: pulumi.Input[str | None] = pulumi.property("configMap", default=None)
    kubeconfig: pulumi.Input[str | None] = pulumi.property("kubeconfig", default=None)
    kube_context: pulumi.Input[str | None] = pulumi.property("kubeContext", default=None)


class ModelConfigFile(pulumi.CustomResource):
    """``model_config.pbtxt``, in the bucket or in a ConfigMap: there before a service starts that reads it."""

    bucket: pulumi.Output[str] = pulumi.property("bucket")
    key: pulumi.Output[str] = pulumi.property("key")

    def __init__(self, name: str, args: ModelConfigFileArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(
            "tfserving:index:ModelConfigFile",
            name,
            _props(args, kind="tfserving:index:ModelConfigFile"),
            _options(opts),
        )


@_input_type
class EasServiceArgs:
    """Inputs of :class:`EasService`.

    Attributes:
        name: service name; a change replaces the service.
        spec: the service JSON, nested, exactly as EAS takes it.
        owner: ``<project>/<stack>``: who may change the service.
        probe: what to ask for readiness: ``{"protocol": "http"|"grpc", "models": [...]}``.
        adopt: take over a service of that name that exists and has no owner, or another one.
        reachable: the machine that runs Pulumi can reach the service.
        autoscaled: the replica count belongs to the autoscaler, a change of it is no drift.
        autoscaler: body of EAS's autoscaler API (``min``, ``max``, ``scaleStrategies``, ``behavior``); empty: none.
    """

    name: pulumi.Input[str] = pulumi.property("name")
    spec: pulumi.Input[Mapping[str, Any]] = pulumi.property("spec")
    owner: pulumi.Input[str] = pulumi.property("owner")
    probe: pulumi.Input[Mapping[str, Any]] = pulumi.property("probe")
    adopt: pulumi.Input[bool] = pulumi.property("adopt", default=False)
    reachable: pulumi.Input[bool] = pulumi.property("reachable", default=True)
    autoscaled: pulumi.Input[bool] = pulumi.property("autoscaled", default=False)
    autoscaler: pulumi.Input[Mapping[str, Any] | None] = pulumi.property("autoscaler", default=None)


class EasService(pulumi.CustomResource):
    """A service on PAI-EAS.

    Attributes:
        url: base URL of an HTTP service, path prefix included; empty for gRPC.
        target: ``host:port`` of a gRPC service; empty for HTTP.
        token: access token, secret.
        service_id: id given by EAS.
        status: state of the service.
        baseline: the service JSON as EAS stored it right after the last write, without secrets.
    """

    name: pulumi.Output[str] = pulumi.property("name")
    url: pulumi.Output[str] = pulumi.property("url")
    target: pulumi.Output[str] = pulumi.property("target")
    token: pulumi.Output[str] = pulumi.property("token")
    service_id: pulumi.Output[str] = pulumi.property("serviceId")
    status: pulumi.Output[str] = pulumi.property("status")
    baseline: pulumi.Output[Mapping[str, Any]] = pulumi.property("baseline")

    def __init__(self, name: str, args: EasServiceArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(
            "tfserving:index:EasService",
            name,
            _props(args, "url", "target", "token", "service_id", "status", "baseline"),
            _options(opts, additional_secret_outputs=["token"]),
        )


@_input_type
class ServedConfigArgs:
    """Inputs of :class:`ServedConfig`.

    Attributes:
        bucket: bucket name.
        key: object key of ``model_config.pbtxt``.
        owner: ``<project>/<stack>``.
        models: wanted models: base path, platform, policy, labels.
        published: version numbers in the bucket, by model.
        services: by service name: ``url``, ``target`` and ``token`` or, on Kubernetes, ``pods`` (``namespace``,
            ``selector``), and ``reads``, ``pollSeconds``, ``reachable``.
        wait_seconds: how long one step may take; ``None`` leaves it to the provider.
        config_map: ``namespace/name`` of the ConfigMap that services with ``pods`` read.
        kubeconfig: path or content of the kubeconfig of its cluster; ``None``: the environment's.
        kube_context: context of the kubeconfig; ``None``: its current one.
    """

    bucket: pulumi.Input[str] = pulumi.property("bucket")
    key: pulumi.Input[str] = pulumi.property("key")
    owner: pulumi.Input[str] = pulumi.property("owner")
    models: pulumi.Input[Mapping[str, Any]] = pulumi.property("models")
    published: pulumi.Input[Mapping[str, Any]] = pulumi.property("published")
    services: pulumi.Input[Mapping[str, Any]] = pulumi.property("services")
    wait_seconds: pulumi.Input[int | None] = pulumi.property("waitSeconds", default=None)
    config_map: pulumi.Input[str | None] = pulumi.property("configMap", default=None)
    kubeconfig: pulumi.Input[str | None] = pulumi.property("kubeconfig", default=None)
    kube_context: pulumi.Input[str | None] = pulumi.property("kubeContext", default=None)


class ServedConfig(pulumi.CustomResource):
    """What the services that read ``model_config.pbtxt`` serve: versions and labels, rolled out in safe steps.

    Attributes:
        served: per service and model, the versions and labels it answers for; version numbers as text, since Pulumi's
            numbers are rounded above 2^53.
    """

    models: pulumi.Output[Mapping[str, Any]] = pulumi.property("models")
    served: pulumi.Output[Mapping[str, Any]] = pulumi.property("served")

    def __init__(self, name: str, args: ServedConfigArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(
            "tfserving:index:ServedConfig",
            name,
            _props(args, "served", kind="tfserving:index:ServedConfig"),
            _options(opts),
        )


@_input_type
class ServedModelArgs:
    """Inputs of :class:`ServedModel`.

    Attributes:
        service: ``name`` of the service; ``url``, ``target`` and ``token`` or, on Kubernetes, ``pods`` (``namespace``,
            ``selector``); ``reachable``.
        model: the model's name in requests.
        versions: versions that are to be AVAILABLE.
        wait_seconds: how long that may take; ``None`` leaves it to the provider.
        kubeconfig: path or content of the kubeconfig of the pods' cluster; ``None``: the environment's.
        kube_context: context of the kubeconfig; ``None``: its current one.
    """

    service: pulumi.Input[Mapping[str, Any]] = pulumi.property("service")
    model: pulumi.Input[str] = pulumi.property("model")
    versions: pulumi.Input[Sequence[int]] = pulumi.property("versions")
    wait_seconds: pulumi.Input[int | None] = pulumi.property("waitSeconds", default=None)
    kubeconfig: pulumi.Input[str | None] = pulumi.property("kubeconfig", default=None)
    kube_context: pulumi.Input[str | None] = pulumi.property("kubeContext", default=None)


class ServedModel(pulumi.CustomResource):
    """What a service of one model serves: proven after every change of its versions.

    Attributes:
        served: by model, the versions it answers for; version numbers as text, as :class:`ServedConfig` has them.
    """

    served: pulumi.Output[Mapping[str, Any]] = pulumi.property("served")

    def __init__(self, name: str, args: ServedModelArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(
            "tfserving:index:ServedModel",
            name,
            _props(args, "served", kind="tfserving:index:ServedModel"),
            _options(opts),
        )
