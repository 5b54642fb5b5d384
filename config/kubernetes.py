"""The Kubernetes half of the stack config: the cluster, its GPU node pools, and services with ``target: ack``.

Read into the descriptions of :mod:`tfserving.kubernetes`. ``docs/kubernetes.md`` lists keys and defaults.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from config.alerts import read_alerts
from config.option_reader import number_or_share, read_plain, with_blanks
from config.reader import Reader
from config.service_entry import EntryReader, Timeouts
from config.services import ServiceContext
from tfserving import kubernetes, model_sets, server_config
from tfserving.alerts import Alerts
from tfserving.hosts import is_loopback
from tfserving.kubeconfig import KubeconfigError, api_server, is_content, located
from tfserving.kubernetes import (
    DataDisk,
    GpuNodePoolSpec,
    GrpcIngress,
    KubernetesServingSpec,
    LoadBalancer,
    ModelVolume,
    PodAutoscaler,
    PodMetric,
    Scaling,
    Spot,
    Taint,
    Toleration,
)
from tfserving.kubernetes.names import DNS_LABEL, is_subdomain
from tfserving.late_values import is_stand_in
from tfserving.model_config import ModelServerConfig, did_you_mean
from tfserving.options import ACCESS, keys, option
from tfserving.property_path import join_path

TARGETS = ("eas", "ack")
"""Where a service can run: on PAI-EAS, or on a Kubernetes cluster."""

_OWN_WAY = (
    "volume",
    "runAsUser",
    "imagePullSecrets",
    "disruptionBudget",
    "batching",
    "monitoring",
    "pool",
    "env",
    "models",
)
"""Keys of a service whose type does not say how they are read."""

CLUSTER_ID = r"c[a-z0-9]{8,}"
"""Pattern of the id of an ACK cluster."""

_CIDR = re.compile(r"(\d{1,3}\.){3}\d{1,3}/\d{1,2}")


@dataclass(frozen=True, kw_only=True)
class ClusterSettings:
    """A cluster this stack makes, with its network.

    Attributes:
        name: name of the cluster.
        version: Kubernetes release, such as ``1.35.2-aliyun.1``.
        spec: edition and size; GPU sharing needs Pro.
        vpc_cidr: address block of the VPC.
        zones: address block of a vSwitch by zone, such as ``{cn-hangzhou-i: 10.0.0.0/24}``; at least one.
        service_cidr: addresses of Services.
        pod_cidr: addresses of pods.
        public_api: the API server has an address on the internet.
        deletion_protection: ACK refuses to delete it.
    """

    name: str = option(otherwise="`tf-serving`")
    version: str = option("", otherwise="ACK's newest")
    spec: str = "ack.pro.small"
    vpc_cidr: str = "10.0.0.0/16"
    zones: Mapping[str, str] = option(factory=dict, otherwise="required")
    service_cidr: str = "172.21.0.0/20"
    pod_cidr: str = "172.20.0.0/16"
    public_api: bool = True
    deletion_protection: bool = False


@dataclass(frozen=True, kw_only=True)
class KubernetesSettings:
    """The cluster of a stack.

    Attributes:
        kubeconfig: a path, or the content as a secret. A local stack must name one, and its API server must be on
            loopback.
        context: context of the kubeconfig.
        namespace: namespace of everything this stack makes in the cluster; it exists already.
        gateway: Gateway of the Gateway API that routes of ``tf-serving:traffic`` are attached to: ``namespace/name``,
            or a name in the same namespace; it exists already.
        cluster_id: id of an ACK cluster that exists, ``c...``; for node pools only.
        cluster: a managed cluster that this stack makes, with RRSA on and without nodes of its own; excludes
            ``cluster_id``.
        volume: how pods read OSS; a service may have its own.
        secret_kubeconfig: Pulumi holds the kubeconfig as secret.
    """

    kubeconfig: str = option(
        "", secret=True, otherwise="`KUBECONFIG`, then `~/.kube/config`; of `cluster`: ACK's", late="{}"
    )
    context: str = option("", otherwise="its current one")
    namespace: str = "default"
    gateway: str = ""
    cluster_id: str = option("", late="c{}")
    cluster: ClusterSettings | None = None
    volume: ModelVolume = option(ModelVolume())
    secret_kubeconfig: bool = option(False, configured=False)


@dataclass(frozen=True, kw_only=True)
class AckServiceSettings:
    """One service with ``target: ack``.

    Attributes:
        name: service name.
        spec: everything that ends up in the cluster.
        reachable: whether the machine that runs Pulumi may ask the pods through the API server (``get`` of
            ``pods/proxy``). If not, the rollout waits by time and proves nothing.
        timeouts: how long Pulumi waits, as on EAS.
        alerts: over those of the stack, key by key; ``false``: none.
        secret_values: values of its environment may be secret.
    """

    name: str = option(configured=False)
    spec: KubernetesServingSpec = option(configured=False)
    reachable: bool = option(True, topic=ACCESS)
    timeouts: Timeouts = option(factory=Timeouts, otherwise="30 minutes")
    alerts: Alerts | None = option(None, also=(False,), otherwise="those of the stack")
    secret_values: bool = option(False, configured=False)

    @property
    def config_file_polls(self) -> int:
        """Seconds between two looks at the config file; 0: only at start."""
        return self.spec.config_poll_seconds

    @property
    def request_name(self) -> str:
        """The name of a single model in requests."""
        return kubernetes.model_name(self.spec)

    @property
    def metrics_path(self) -> str:
        """Where each pod's own counters are; empty where it has none."""
        return server_config.metrics_path(self.spec.monitoring) if self.spec.monitoring else ""


@dataclass(frozen=True, kw_only=True)
class AckContext:
    """What services with ``target: ack`` take from the rest of the stack.

    Attributes:
        stack: what every service takes.
        kubernetes: the cluster.
        pools: GPU node pools by name.
    """

    stack: ServiceContext
    kubernetes: KubernetesSettings
    pools: Mapping[str, GpuNodePoolSpec]


ACK_SERVICE_KEYS = ("target", *keys(KubernetesServingSpec), *keys(AckServiceSettings))
"""Every key of an entry of ``tf-serving:services`` with ``target: ack``."""


def read_kubernetes(
    reader: Reader, value: Any, path: str, project_dir: Path, secret: bool | None, local: bool, volume: ModelVolume
) -> KubernetesSettings:
    """Reads ``tf-serving:kubernetes``.

    Args:
        reader: takes the problems.
        value: as configured.
        path: where it stands.
        project_dir: what a relative path of a kubeconfig is relative to.
        secret: whether Pulumi holds it as secret; ``None`` where that is not known.
        local: the stack is for this machine only, so its cluster must be named.
        volume: where models come from, as far as the rest of the stack says it.
    """
    before = len(reader.problems)
    given = reader.mapping(value, path, keys(KubernetesSettings))
    if not given and len(reader.problems) > before:
        value = None  # no mapping: that is told, and nothing follows from it
    kubeconfig = _read_kubeconfig(reader, given, path, project_dir, secret)
    if local and value is not None and not kubeconfig and given.get("cluster") is None:
        message = "a local stack must not guess its cluster: the default kubeconfig may be of a real one"
        fix = "set .sandbox/kube/cluster/kubeconfig"
        reader.add(join_path(path, "kubeconfig"), message, "the path of a kubeconfig", fix)
    cluster = None
    if given.get("cluster") is not None:
        cluster = read_cluster(reader, given["cluster"], join_path(path, "cluster"))
        if given.get("clusterId"):
            message = "clusterId names a cluster that exists, cluster describes one to make"
            reader.add(join_path(path, "clusterId"), message, fix="keep one of them")
    cluster_id = reader.text(given.get("clusterId"), join_path(path, "clusterId"))
    if cluster_id and not re.fullmatch(CLUSTER_ID, cluster_id):
        reader.add(join_path(path, "clusterId"), f"{cluster_id!r} is not the id of an ACK cluster", "c...")
    at = join_path(path, "namespace")
    namespace = reader.text(given.get("namespace"), at, "default")
    if not DNS_LABEL.fullmatch(namespace):
        reader.add(at, f"{namespace!r} is not a namespace", "lower-case letters, digits and hyphens")
    volume_path = join_path(path, "volume")
    gateway_path = join_path(path, "gateway")
    gateway = reader.text(given.get("gateway"), gateway_path)
    place, slash, gateway_name = gateway.rpartition("/")
    if gateway and not (is_subdomain(gateway_name) and (DNS_LABEL.fullmatch(place) if slash else True)):
        reader.add(gateway_path, f"{gateway!r} names no Gateway", "namespace/name, or a name")
    if gateway and not slash:
        gateway = f"{namespace}/{gateway}"
    return KubernetesSettings(
        kubeconfig=kubeconfig,
        context=reader.text(given.get("context"), join_path(path, "context")),
        namespace=namespace,
        gateway=gateway,
        cluster_id=cluster_id,
        cluster=cluster,
        volume=_read_volume(reader, given.get("volume"), volume_path, volume),
        secret_kubeconfig=is_content(kubeconfig) or is_stand_in(kubeconfig),
    )


def _read_kubeconfig(
    reader: Reader, given: Mapping[str, Any], path: str, project_dir: Path, secret: bool | None
) -> str:
    """The kubeconfig: its content, or an absolute path."""
    at = join_path(path, "kubeconfig")
    found = reader.text(given.get("kubeconfig"), at, allowed="a path, or the content as a secret", lines=True)
    if secret is False and is_content(found):
        fix = f"pulumi config set --secret --path '{at}'"
        reader.add(at, "the kubeconfig stands in the stack file in the clear", "a path, or a secret value", fix)
    return found if is_stand_in(found) else located(found, project_dir)


def check_kubeconfig(reader: Reader, settings: KubernetesSettings, path: str, *, local: bool) -> None:
    """Looks into the kubeconfig a stack names.

    Args:
        reader: takes the problems.
        settings: the cluster.
        path: where the kubeconfig stands in the stack config.
        local: the stack is for this machine only, and so must its cluster be.
    """
    if not settings.kubeconfig or is_stand_in(settings.kubeconfig):
        return
    try:
        server = api_server(settings.kubeconfig, settings.context)
    except OSError as error:
        start = "start the cluster: .venv/bin/python -m sandbox kube start"
        fix = start if local else "get it from the ACK console or CLI"
        reader.add(
            path, f"{settings.kubeconfig} cannot be read: {error.strerror or error}", "the path of a kubeconfig", fix
        )
        return
    except KubeconfigError as error:
        reader.add(path, str(error), "clusters, users and contexts")
        return
    if local and not is_loopback(urlsplit(server).hostname or ""):
        message = f"the cluster is {server}, and a local stack (tf-serving:endpoint) must not leave this machine"
        reader.add(path, message, "a cluster on 127.0.0.1", "set .sandbox/kube/cluster/kubeconfig")


def read_cluster(reader: Reader, value: Any, path: str) -> ClusterSettings:
    """Reads and checks ``tf-serving:kubernetes.cluster``."""
    given = reader.mapping(value, path, keys(ClusterSettings))
    default = ClusterSettings(name="")

    def text(key: str, fallback: str = "") -> str:
        return reader.text(given.get(key), join_path(path, key), fallback)

    name = text("name", "tf-serving")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}", name):
        reader.add(join_path(path, "name"), f"{name!r} is not a name for a cluster", "letters, digits, - and _")
    at = join_path(path, "zones")
    before = len(reader.problems)
    zones = reader.values(given.get("zones"), at, "address blocks by zone")
    if not zones and len(reader.problems) == before:
        allowed = "address blocks by zone, such as {cn-hangzhou-i: 10.0.0.0/24}"
        reader.add(at, "a cluster needs a vSwitch in at least one zone", allowed)
    found = {zone: reader.text(block, here) for zone, here, block in zones}
    settings = ClusterSettings(
        name=name,
        version=text("version"),
        spec=text("spec", default.spec),
        vpc_cidr=text("vpcCidr", default.vpc_cidr),
        zones=found,
        service_cidr=text("serviceCidr", default.service_cidr),
        pod_cidr=text("podCidr", default.pod_cidr),
        public_api=reader.boolean(given.get("publicApi"), join_path(path, "publicApi"), True),
        deletion_protection=reader.boolean(given.get("deletionProtection"), join_path(path, "deletionProtection")),
    )
    blocks = {
        "vpcCidr": settings.vpc_cidr,
        "serviceCidr": settings.service_cidr,
        "podCidr": settings.pod_cidr,
        **{f"zones.{zone}": block for zone, block in found.items()},
    }
    for key, block in blocks.items():
        if not _CIDR.fullmatch(block):
            reader.add(f"{path}.{key}", f"{block!r} is not an address block", "such as 10.0.0.0/16")
    return settings


def _read_volume(reader: Reader, value: Any, path: str, base: ModelVolume) -> ModelVolume:
    """Reads a volume over what ``base`` says already."""
    fields = read_plain(reader, reader.mapping(value, path, keys(ModelVolume)), path, ModelVolume)
    if "claim" in fields:
        return ModelVolume(**fields)
    # Naming one way to read OSS gives up the other.
    if fields.keys() & {"role_name", "secret_name"}:
        base = replace(base, role_name="", secret_name="", claim="")
    return replace(base, **fields)


def read_pools(
    reader: Reader, value: Any, path: str, kubernetes_settings: KubernetesSettings
) -> dict[str, GpuNodePoolSpec]:
    """Reads and checks ``tf-serving:gpuNodePools``."""
    given = reader.mapping(value, path, allowed="names of node pools with their settings")
    pools = {name: _PoolReader(reader, name, item, join_path(path, name)).read(kubernetes_settings)
             for name, item in given.items()}  # fmt: skip
    if pools and not kubernetes_settings.cluster_id and kubernetes_settings.cluster is None:
        message = "node pools belong to an ACK cluster, and none is named"
        reader.add(path, message, fix="set tf-serving:kubernetes.clusterId, or tf-serving:kubernetes.cluster")
    return pools


class _PoolReader(EntryReader):
    """Reads one GPU node pool."""

    def __init__(self, reader: Reader, name: str, value: Any, path: str) -> None:
        super().__init__(reader, name, value, path, keys(GpuNodePoolSpec))

    def read(self, settings: KubernetesSettings) -> GpuNodePoolSpec:
        reader = self.reader
        self._plain(GpuNodePoolSpec)
        self._keep("scaling", "scaling", self._scaling)
        self._keep("taints", "taints", self._taints)
        self._keep("spot", "spot", self._spot)
        self._keep("dataDisks", "data_disks", self._disks)
        self._keep("kubelet", "kubelet", reader.mapping)
        if "vswitch_ids" not in self.fields and settings.cluster is not None:
            self.fields["vswitch_ids"] = None  # those of the cluster this stack makes
        spec = GpuNodePoolSpec(**{"name": self.name, "instance_types": (), **self.fields})
        known = {problem.path for problem in reader.problems[self.first_problem :]}
        if self._at("scaling") in known or self._at("desiredSize") in known:
            known |= {self._at("scaling"), self._at("desiredSize")}
        reader.problems += [
            problem for problem in kubernetes.validate_pool(spec, self.path) if problem.path not in known
        ]
        return spec

    def _scaling(self, value: Any, path: str) -> Scaling:
        given = self.reader.mapping(value, path, keys(Scaling))
        if given.get("max") is None:
            self.reader.add(join_path(path, "max"), "max is missing", "the most nodes")
        return Scaling(
            min=self.reader.integer(given.get("min"), join_path(path, "min"), 0),
            max=self.reader.integer(given.get("max"), join_path(path, "max"), 1),
        )

    def _taints(self, value: Any, path: str) -> tuple[Taint, ...]:
        found = []
        for at, item in self.reader.items(value, path, "a list of key, value and effect"):
            given = self.reader.mapping(item, at, ("key", "value", "effect"))
            texts = {key: self.reader.text(text, join_path(at, key)) for key, text in given.items()}
            found.append(Taint(**{"key": "", **{k: v for k, v in texts.items() if k in ("key", "value", "effect")}}))  # type: ignore[arg-type]
        return tuple(found)

    def _spot(self, value: Any, path: str) -> Spot:
        reader = self.reader
        if value in (True, "true"):
            return Spot()
        given = reader.mapping(value, path, keys(Spot), "true, or a mapping of priceLimits and others")
        at = join_path(path, "priceLimits")
        limits = reader.values(given.get("priceLimits"), at, "prices per hour by instance type")
        return Spot(
            price_limits={
                name: reader.number(price, here, allowed="a price per hour, above 0") for name, here, price in limits
            },
            **read_plain(reader, given, path, Spot),
        )

    def _disks(self, value: Any, path: str) -> tuple[DataDisk, ...]:
        reader = self.reader
        found = []
        for at, item in reader.items(value, path, "a list of disks, each with size"):
            given = reader.mapping(item, at, keys(DataDisk))
            found.append(
                DataDisk(
                    size=reader.integer(given.get("size"), join_path(at, "size")),
                    category=reader.text(given.get("category"), join_path(at, "category"), "cloud_essd"),
                    performance_level=reader.text(given.get("performanceLevel"), join_path(at, "performanceLevel")),
                )
            )
        return tuple(found)


def read_ack_service(
    reader: Reader, name: str, value: Any, path: str, context: AckContext, secret: bool | None
) -> AckServiceSettings:
    """Reads one entry of ``tf-serving:services`` with ``target: ack``; :func:`check_ack_service` is yet to come."""
    return _AckServiceReader(reader, name, value, path, context).read(secret)


def check_ack_service(
    reader: Reader, service: AckServiceSettings, path: str, serving: ModelServerConfig
) -> AckServiceSettings:
    """Checks a service against everything that is known by now.

    Args:
        reader: takes the problems; what is at fault already is not told again.
        service: as read.
        path: where it stands.
        serving: what the model config file says, which with ``rollout: restart`` is part of the pods.
    """
    spec = service.spec
    if spec.config_file and spec.rollout == "restart":
        spec = replace(spec, config=serving)
    known = {problem.path for problem in reader.problems if problem.path.startswith(path)}
    stack = {join_path(path, key) for key in ("region", "bucket", "namespace")}  # said once, and checked there
    found = [problem for problem in kubernetes.validate(spec, path) if problem.path not in known | stack]
    reader.problems += found
    return replace(service, spec=spec)


class _AckServiceReader(EntryReader):
    """Reads one service on a cluster."""

    def __init__(self, reader: Reader, name: str, value: Any, path: str, context: AckContext) -> None:
        super().__init__(reader, name, value, path, ACK_SERVICE_KEYS)
        self.context = context

    def read(self, secret: bool | None) -> AckServiceSettings:
        reader, context = self.reader, self.context
        self._plain(KubernetesServingSpec, but=_OWN_WAY)
        self._models(context.stack.declared)
        self._keep("runAsUser", "run_as_user", self._user)
        self._keep("cpu", "cpu", lambda value, at: reader.number(value, at, allowed="CPUs, such as 0.5 or 4"))
        self._keep(
            "imagePullSecrets", "image_pull_secrets", lambda value, at: reader.texts(value, at, "names of Secrets")
        )
        self._keep("flags", "flags", self._flags)
        self._keep("autoscaler", "autoscaler", self._autoscaler)
        self._keep("schedule", "schedule", self._schedule)
        self._keep("pool", "pool", self._pool)
        self._keep("tolerations", "tolerations", self._tolerations)
        self._keep("loadBalancer", "load_balancer", self._load_balancer)
        self._keep("ingress", "ingress", self._ingress)
        self._disruption_budget()
        self._keep("env", "env", self._env)
        self._files()
        volume = _read_volume(reader, self.given.get("volume"), self._at("volume"), context.kubernetes.volume)
        stack = context.stack
        part = model_sets.part_of(self.name, self.fields.get("models", {}), stack.models)
        spec = KubernetesServingSpec(
            **{
                "name": self.name,
                "namespace": context.kubernetes.namespace,
                "region": stack.region,
                "volume": volume,
                "model_path": stack.paths.get(self.fields.get("model", ""), ""),
                "uses_labels": stack.uses_labels(self.fields),
                "config_map": model_sets.config_map_name(kubernetes.DEFAULT_CONFIG_MAP, part),
                "config_file_name": model_sets.file_name(part),
                **self.fields,
            }
        )
        self._check_model(spec)
        return AckServiceSettings(
            name=self.name,
            spec=spec,
            timeouts=self._timeouts(),
            alerts=self._alerts(spec),
            secret_values=bool(secret),
            **read_plain(reader, self.given, self.path, AckServiceSettings),
        )

    def _alerts(self, spec: KubernetesServingSpec) -> Alerts | None:
        """Rules for a Prometheus, which has nothing to go by without the server's counters."""
        found = read_alerts(self.reader, self.given.get("alerts"), self._at("alerts"))
        if found is not None and found.rules and not spec.monitoring:
            message = "alerts go by the server's counters, and these are switched off"
            self.reader.add(self._at("monitoring"), message, "true, or a mapping", "set monitoring: true")
        return found

    def _user(self, value: Any, path: str) -> int | None:
        """``image`` leaves the user to the image."""
        return None if value == "image" else self.reader.integer(value, path, least=0)

    def _disruption_budget(self) -> None:
        """``false`` is none."""
        if self.given.get("disruptionBudget") in (False, "false"):
            self.fields["disruption_budget"] = None
        else:
            self._keep(
                "disruptionBudget", "disruption_budget", lambda value, at: number_or_share(self.reader, value, at)
            )

    def _files(self) -> None:
        for name, text in (("batching", self._batching_text()), ("monitoring", self._monitoring_text())):
            if text is not None:
                self.fields[name] = text
        monitoring = self.given.get("monitoring")
        if isinstance(monitoring, Mapping) and isinstance(monitoring.get("path"), str):
            self.fields["metrics_path"] = monitoring["path"]

    def _autoscaler(self, value: Any, path: str) -> PodAutoscaler:
        def metric(name: str, item: Any, at: str) -> PodMetric:
            return PodMetric(name=name, average=self.reader.text(item, at))

        allowed = "averages per pod by metric, such as {requests: 200}"
        return self._autoscaling(PodAutoscaler, value, path, counts="pods", key="pods", allowed=allowed, metric=metric)

    def _pool(self, value: Any, path: str) -> GpuNodePoolSpec | None:
        name = self.reader.text(value, path)
        pools = self.context.pools
        if name not in pools:
            allowed = ", ".join(pools) or "none: tf-serving:gpuNodePools is empty"
            fix = did_you_mean(name, pools) or "for nodes of somebody else, use nodeSelector"
            self.reader.add(path, f"there is no GPU node pool {name!r}", allowed, fix)
            return None
        return pools[name]

    def _tolerations(self, value: Any, path: str) -> tuple[Toleration, ...]:
        found = []
        for at, item in self.reader.items(value, path, "a list of key, operator, value and effect"):
            given = self.reader.mapping(item, at, keys(Toleration))
            found.append(Toleration(**read_plain(self.reader, given, at, Toleration)))
        return tuple(found)

    def _load_balancer(self, value: Any, path: str) -> LoadBalancer:
        reader = self.reader
        given = reader.mapping(value, path, keys(LoadBalancer))
        at = join_path(path, "protocolPorts")
        ports = {}
        for port, here, protocol in reader.values(given.get("protocolPorts"), at, "protocols by port"):
            before = len(reader.problems)
            number, text = reader.integer(port, here), reader.text(protocol, here)
            if len(reader.problems) == before:
                ports[number] = text
        ranges = reader.texts(given.get("sourceRanges"), join_path(path, "sourceRanges"), "address blocks")
        found = read_plain(reader, given, path, LoadBalancer, but=("sourceRanges",))
        return LoadBalancer(**found | {"protocol_ports": ports, "source_ranges": ranges})

    def _ingress(self, value: Any, path: str) -> GrpcIngress:
        given = self.reader.mapping(value, path, keys(GrpcIngress))
        return GrpcIngress(**with_blanks(GrpcIngress, read_plain(self.reader, given, path, GrpcIngress)))

    def _check_model(self, spec: KubernetesServingSpec) -> None:
        models = self.context.stack.models
        if spec.model and spec.model not in models:
            allowed = ", ".join(models) or "none: tf-serving:models is empty"
            fix = did_you_mean(spec.model, models)
            self.reader.add(self._at("model"), f"there is no model {spec.model!r}", allowed, fix)
