"""Resources of the packages ``alicloud`` and ``kubernetes`` that components are made of, by their schemas.

The SDKs of these packages have a class for everything on Alibaba Cloud and in a cluster, and their environments ask the
Pulumi CLI for both providers in advance. Of that, components need a dozen types: so a program pays for a package when
it has a resource of it. Names of properties are those on the wire, as the documentation of each package has them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Generic, TypedDict, TypeVar, cast

import pulumi
from pulumi import Input

ALICLOUD_VERSION = "4.0.0"
KUBERNETES_VERSION = "4.34.2"
"""The releases that requirements.txt pins: their schemas are those of the classes here."""

_Args = TypeVar("_Args", bound=Mapping[str, Any])


class _Resource(pulumi.CustomResource, Generic[_Args]):
    """A resource of another package.

    ``outputs`` names those that components read as attributes, ``secret_outputs`` those that never stand in clear in a
    state, and ``former_types`` under which versions of its API states may have it.
    """

    kind: ClassVar[str]
    version: ClassVar[str]
    outputs: ClassVar[Sequence[str]] = ()
    secret_outputs: ClassVar[Sequence[str]] = ()
    former_types: ClassVar[Sequence[str]] = ()

    def __init__(self, name: str, args: _Args, opts: pulumi.ResourceOptions) -> None:
        declared = pulumi.ResourceOptions(
            version=self.version,
            additional_secret_outputs=list(self.secret_outputs) or None,
            aliases=[pulumi.Alias(type_=each) for each in self.former_types] or None,
        )
        props = {**dict.fromkeys(self.outputs), **_given(args)}
        super().__init__(self.kind, name, props, pulumi.ResourceOptions.merge(opts, declared))


def _given(value: Any) -> Any:
    """A value without the parts of it that are ``None``: on the wire these would be null, which is a value."""
    if isinstance(value, Mapping):
        return {key: _given(item) for key, item in value.items() if item is not None}
    return [_given(item) for item in value] if isinstance(value, list) else value


# ---- providers --------------------------------------------------------------------------------------------


class AlicloudProviderArgs(TypedDict):
    """Who calls Alibaba Cloud, and where."""

    region: str
    protocol: str
    accountType: str | None
    skipRegionValidation: bool
    profile: str | None
    accessKey: Input[str] | None
    secretKey: Input[str] | None
    securityToken: Input[str] | None
    clientReadTimeout: int | None
    clientConnectTimeout: int | None
    maxRetryTimeout: int | None
    endpoints: list[dict[str, str]] | None


class AlicloudProvider(pulumi.ProviderResource):
    """The ``alicloud`` provider."""

    def __init__(self, name: str, args: AlicloudProviderArgs, opts: pulumi.ResourceOptions) -> None:
        props: dict[str, Any] = {
            **args,
            "profile": args["profile"] or os.environ.get("ALICLOUD_PROFILE"),
            "ecsRoleName": os.environ.get("ALICLOUD_ECS_ROLE_NAME"),
        }
        super().__init__("alicloud", name, _as_texts(props), _versioned(opts, ALICLOUD_VERSION))


class KubernetesProvider(pulumi.ProviderResource):
    """The ``kubernetes`` provider, which puts fields right that somebody else has edited.

    Args:
        name: its name.
        kubeconfig: path or content; ``None``: the environment's.
        context: context of the kubeconfig; ``None``: its current one.
        opts: its options.
    """

    def __init__(
        self, name: str, kubeconfig: Input[str] | None, context: str | None, opts: pulumi.ResourceOptions
    ) -> None:
        props = {
            **_kubernetes_settings_of_the_environment(),
            "kubeconfig": kubeconfig if kubeconfig is not None else os.environ.get("KUBECONFIG"),
            "context": context,
            "enablePatchForce": True,
        }
        super().__init__("kubernetes", name, _as_texts(props), _versioned(opts, KUBERNETES_VERSION))


_TRUE, _FALSE = ("1", "t", "T", "true", "TRUE", "True"), ("0", "f", "F", "false", "FALSE", "False")


def _kubernetes_settings_of_the_environment() -> dict[str, bool]:
    """Settings that the package takes from variables such as ``PULUMI_K8S_DELETE_UNREACHABLE``."""
    variables = {
        "deleteUnreachable": "DELETE_UNREACHABLE",
        "enableConfigMapMutable": "ENABLE_CONFIGMAP_MUTABLE",
        "enableSecretMutable": "ENABLE_SECRET_MUTABLE",
        "enableServerSideApply": "ENABLE_SERVER_SIDE_APPLY",
        "skipUpdateUnreachable": "SKIP_UPDATE_UNREACHABLE",
        "suppressDeprecationWarnings": "SUPPRESS_DEPRECATION_WARNINGS",
        "suppressHelmHookWarnings": "SUPPRESS_HELM_HOOK_WARNINGS",
        "upsertExistingObjects": "UPSERT_EXISTING_OBJECTS",
    }
    found = {key: os.environ.get(f"PULUMI_K8S_{variable}") for key, variable in variables.items()}
    return {key: value in _TRUE for key, value in found.items() if value in (*_TRUE, *_FALSE)}


def _as_texts(props: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a provider: on the wire all of them are texts, JSON where they are none."""
    plain = (str, pulumi.Output, type(None))
    return {key: value if isinstance(value, plain) else pulumi.runtime.to_json(value) for key, value in props.items()}


def _versioned(opts: pulumi.ResourceOptions, version: str) -> pulumi.ResourceOptions:
    return pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(version=version))


# ---- alicloud: OSS -------------------------------------------------------------------------------------------------


class LifecycleRuleArgs(TypedDict):
    """What OSS removes by itself."""

    id: str
    prefix: str
    enabled: bool
    abortMultipartUploads: list[dict[str, int]]
    expirations: list[dict[str, bool]]
    noncurrentVersionExpirations: list[dict[str, int]]


class BucketArgs(TypedDict):
    """Settings of a bucket."""

    bucket: Input[str]
    storageClass: str
    redundancyType: str
    versioning: dict[str, str]
    serverSideEncryptionRule: dict[str, str]
    lifecycleRules: list[LifecycleRuleArgs]
    forceDestroy: bool
    tags: Input[Mapping[str, Input[str]]] | None


class Bucket(_Resource[BucketArgs]):
    """A bucket on OSS."""

    kind, version = "alicloud:oss/bucket:Bucket", ALICLOUD_VERSION


class BucketObjectArgs(TypedDict):
    """A text in a bucket."""

    bucket: Input[str]
    key: str
    content: str
    contentType: str


class BucketObject(_Resource[BucketObjectArgs]):
    """A text in a bucket on OSS."""

    kind, version = "alicloud:oss/bucketObject:BucketObject", ALICLOUD_VERSION


# ---- alicloud: CloudMonitor ----------------------------------------------------------------------------------------


class AlarmArgs(TypedDict):
    """Settings of an alarm."""

    name: str
    project: str
    metric: str
    metricDimensions: str
    period: int
    escalationsCritical: dict[str, str | int]
    contactGroups: list[str]
    webhook: Input[str] | None


class Alarm(_Resource[AlarmArgs]):
    """An alarm of CloudMonitor."""

    kind, version = "alicloud:cms/alarm:Alarm", ALICLOUD_VERSION
    secret_outputs = ("webhook",)


# ---- alicloud: ACK and its network ---------------------------------------------------------------------------------


class NetworkArgs(TypedDict):
    """A VPC."""

    vpcName: str
    cidrBlock: str


class Network(_Resource[NetworkArgs]):
    """A VPC."""

    kind, version = "alicloud:vpc/network:Network", ALICLOUD_VERSION


class SwitchArgs(TypedDict):
    """A vSwitch."""

    vswitchName: str
    vpcId: Input[str]
    zoneId: str
    cidrBlock: str


class Switch(_Resource[SwitchArgs]):
    """A vSwitch."""

    kind, version = "alicloud:vpc/switch:Switch", ALICLOUD_VERSION


class ManagedKubernetesArgs(TypedDict):
    """A managed cluster."""

    name: str
    version: str | None
    clusterSpec: str
    vswitchIds: Sequence[Input[str]]
    serviceCidr: str
    podCidr: str
    newNatGateway: bool
    slbInternetEnabled: bool
    addons: list[dict[str, str]]
    enableRrsa: bool
    deletionProtection: bool


class ManagedKubernetes(_Resource[ManagedKubernetesArgs]):
    """A managed ACK cluster."""

    kind, version = "alicloud:cs/managedKubernetes:ManagedKubernetes", ALICLOUD_VERSION


class NodePoolArgs(TypedDict, total=False):
    """Nodes of a cluster. Only what is given is sent: the API fills in the rest."""

    clusterId: Input[str]
    nodePoolName: str
    vswitchIds: Input[Sequence[Input[str]]]
    instanceTypes: list[str]
    imageType: str
    systemDiskCategory: str
    systemDiskSize: int
    systemDiskPerformanceLevel: str | None
    dataDisks: list[dict[str, Any]] | None
    labels: list[dict[str, str]]
    taints: list[dict[str, str]] | None
    desiredSize: str | None
    scalingConfig: dict[str, Any] | None
    management: dict[str, Any]
    kubeletConfiguration: dict[str, Any] | None
    securityGroupIds: Input[Sequence[Input[str]]] | None
    tags: Input[Mapping[str, Input[str]]] | None
    resourceGroupId: Input[str] | None
    spotStrategy: str
    spotPriceLimits: list[dict[str, str]] | None
    spotInstanceRemedy: bool
    compensateWithOnDemand: bool
    multiAzPolicy: str
    onDemandBaseCapacity: str
    onDemandPercentageAboveBaseCapacity: str


class NodePool(_Resource[NodePoolArgs]):
    """A node pool of an ACK cluster."""

    kind, version = "alicloud:cs/nodePool:NodePool", ALICLOUD_VERSION
    outputs = ("node_pool_id",)
    secret_outputs = ("kmsEncryptedPassword", "password")

    @property
    @pulumi.getter(name="nodePoolId")
    def node_pool_id(self) -> pulumi.Output[str]:
        """Its id, without that of the cluster."""
        found: pulumi.Output[str] = pulumi.get(self, "node_pool_id")
        return found


CLUSTER_CREDENTIAL = "alicloud:cs/getClusterCredential:getClusterCredential"
"""The function of :func:`kubeconfig_of`."""


def kubeconfig_of(cluster_id: Input[str], parent: pulumi.Resource) -> pulumi.Output[str]:
    """Asks ACK for the kubeconfig of a cluster, as soon as its id is known."""
    options = pulumi.InvokeOutputOptions(parent=parent, version=ALICLOUD_VERSION)
    found = pulumi.runtime.invoke_output(CLUSTER_CREDENTIAL, {"clusterId": cluster_id}, options)
    return found.apply(lambda credential: cast(str, credential["kubeConfig"]))


# ---- kubernetes ----------------------------------------------------------------------------------------------------


class _Object(_Resource[Mapping[str, Any]]):
    """An object in a cluster; its arguments are its manifest."""

    version = KUBERNETES_VERSION


class ConfigMap(_Object):
    """A ConfigMap."""

    kind = "kubernetes:core/v1:ConfigMap"


class PersistentVolume(_Object):
    """A volume."""

    kind = "kubernetes:core/v1:PersistentVolume"


class PersistentVolumeClaim(_Object):
    """A claim of a volume."""

    kind = "kubernetes:core/v1:PersistentVolumeClaim"


class Service(_Object):
    """A Service."""

    kind = "kubernetes:core/v1:Service"
    outputs = ("status",)

    @property
    @pulumi.getter
    def status(self) -> pulumi.Output[Mapping[str, Any] | None]:
        """What the cluster says of it."""
        found: pulumi.Output[Mapping[str, Any] | None] = pulumi.get(self, "status")
        return found


class Deployment(_Object):
    """A Deployment."""

    kind = "kubernetes:apps/v1:Deployment"
    former_types = (
        "kubernetes:apps/v1beta1:Deployment",
        "kubernetes:apps/v1beta2:Deployment",
        "kubernetes:extensions/v1beta1:Deployment",
    )


class HorizontalPodAutoscaler(_Object):
    """An autoscaler of pods."""

    kind = "kubernetes:autoscaling/v2:HorizontalPodAutoscaler"
    former_types = (
        "kubernetes:autoscaling/v1:HorizontalPodAutoscaler",
        "kubernetes:autoscaling/v2beta1:HorizontalPodAutoscaler",
        "kubernetes:autoscaling/v2beta2:HorizontalPodAutoscaler",
    )


class Ingress(_Object):
    """An Ingress."""

    kind = "kubernetes:networking.k8s.io/v1:Ingress"
    former_types = ("kubernetes:extensions/v1beta1:Ingress", "kubernetes:networking.k8s.io/v1beta1:Ingress")


class PodDisruptionBudget(_Object):
    """How many pods may be missing while nodes are drained."""

    kind = "kubernetes:policy/v1:PodDisruptionBudget"
    former_types = ("kubernetes:policy/v1beta1:PodDisruptionBudget",)
