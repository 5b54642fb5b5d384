"""Stack config, read once: frozen settings, or one error that names every problem in it.

:func:`parse` looks at the config it is given and at the files that config names: model directories, manifests and the
kubeconfig. ``config/pulumi_config.py`` fetches the config from Pulumi.

What may stand in a stack file is listed in ``docs/stack-config.md``; ``stacks/Pulumi.dev.yaml`` and
``stacks/Pulumi.prod.yaml`` are examples with comments.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from config import batching, model_directory, service_defaults
from config.kubernetes import (
    ACK_SERVICE_KEYS,
    TARGETS,
    AckContext,
    AckServiceSettings,
    KubernetesSettings,
    check_ack_service,
    check_kubeconfig,
    read_ack_service,
    read_kubernetes,
    read_pools,
)
from config.loading import AnyService, saved_model_tags
from config.model_directory import Wanted
from config.reader import Reader
from config.services import KEYS as SERVICE_KEYS
from config.services import ServiceContext, ServiceSettings, read_service
from tfserving import eas_spec, flags, kubernetes, manifest, model_config, model_ops, rollout, saved_model, wire
from tfserving.cloud_names import BUCKET, OSS_URI, REGION
from tfserving.errors import ConfigError, Problem, SavedModelError
from tfserving.kubernetes import GpuNodePoolSpec, ModelVolume
from tfserving.manifest import HashCache, Manifest
from tfserving.model_config import Model, ModelServerConfig, VersionPolicy, did_you_mean
from tfserving.options import keys, option, options
from tfserving.property_path import join_path

NAMESPACE = "tf-serving"
"""The project's name, and with it the namespace of its config keys."""

CONFIG_FILE_NAME = "model_config.pbtxt"
DEFAULT_MODEL_ROOT = "models/tf_serving/"
DEFAULT_MOUNT_PATH = "/models"

# Ways to credentials that only the alicloud provider knows. The tfserving provider would act as somebody else.
_OTHER_CREDENTIALS = ("assumeRole", "assumeRoleWithOidc", "credentialsUri", "ecsRoleName", "sharedCredentialsFile")

_HOST = r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?"
_ENDPOINT = re.compile(rf"({_HOST})(:([0-9]{{1,5}}))?")
_LOOPBACK = re.compile(r"localhost|127(\.[0-9]{1,3}){3}")
_ROOT_SEGMENT = re.compile(r"[A-Za-z0-9_.-]+")
_STORAGE_CLASSES = ("Standard", "IA", "Archive", "ColdArchive", "DeepColdArchive")
_READABLE_CLASSES = ("Standard", "IA")
_REDUNDANCY_TYPES = ("LRS", "ZRS")


@dataclass(frozen=True, kw_only=True)
class AlicloudSettings:
    """How to reach Alibaba Cloud, for both providers.

    Attributes:
        region: region id, such as ``cn-hangzhou``.
        protocol: ``HTTP`` only for loopback endpoints.
        account_type: ``International``: accounts of alibabacloud.com.
        skip_region_validation: accept a region the alicloud provider does not know.
        profile: profile of ``~/.aliyun/config.json``.
        access_key: access key id; goes with ``secret_key``.
        secret_key: access key secret; set with ``pulumi config set --secret``.
        security_token: token of temporary credentials; set as ``secret_key``.
        client_read_timeout: how long the alicloud provider waits for an answer.
        client_connect_timeout: how long the alicloud provider waits for a connection.
        max_retry_timeout: how long the alicloud provider tries again.
    """

    region: str
    protocol: str = option("HTTPS", written=Literal["HTTPS", "HTTP"])
    account_type: str = option("", written=Literal["", "Domestic", "International"], otherwise="asked for")
    skip_region_validation: bool = False
    profile: str = ""
    access_key: str = option("", secret=True)
    secret_key: str = option("", secret=True)
    security_token: str = option("", secret=True)
    client_read_timeout: int | None = option(None, unit="milliseconds", least=1, otherwise="provider's")
    client_connect_timeout: int | None = option(None, unit="milliseconds", least=1, otherwise="provider's")
    max_retry_timeout: int | None = option(None, unit="seconds", least=1, otherwise="provider's")


@dataclass(frozen=True, kw_only=True)
class Endpoints:
    """Where the APIs answer; empty is the region's own endpoint.

    Attributes:
        all: ``host:port`` that answers every API: a local stack.
        oss: of OSS, such as the internal ``oss-cn-hangzhou-internal.aliyuncs.com``.
        eas: of the EAS API.
    """

    all: str = option("", configured=False)
    oss: str = option("", unit="`host[:port]`", otherwise="the region's")
    eas: str = option("", unit="`host[:port]`", otherwise="the region's")


@dataclass(frozen=True, kw_only=True)
class BucketSettings:
    """The bucket with the models.

    Attributes:
        name: 3 to 63 lower-case letters, digits and ``-``.
        existing: use a bucket that exists, which is neither made nor configured nor destroyed here; goes with none of
            the keys below.
        force_destroy: ``pulumi destroy`` and another ``name`` delete what others put into it, too. It counts as it was
            at the last ``up``.
        protect: Pulumi refuses to delete it, what is in it, and what says which of it is served: ``destroy`` ends
            before anything is gone.
        storage_class: set when the bucket is made; a change needs a new ``name`` in the same edit.
        redundancy_type: one zone, or three; as ``storage_class``.
        abort_uploads_after_days: what interrupted uploads left is removed after so long.
        expire_old_versions_after_days: so long the content of a deleted or overwritten object can be restored, and is
            paid for.
        tags: tags of the bucket.
    """

    name: str
    existing: bool = False
    force_destroy: bool = False
    protect: bool = False
    storage_class: str = option("Standard", written=Literal["Standard", "IA"])
    redundancy_type: str = option("LRS", written=Literal["LRS", "ZRS"])
    abort_uploads_after_days: int = option(7, least=1)
    expire_old_versions_after_days: int = option(30, least=1)
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class PolicyOptions:
    """Which versions are served, where that is not ``all``.

    Attributes:
        latest: the highest versions, so many of them.
        specific: exactly these versions.
    """

    latest: int = option(1, least=1)
    specific: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """An entry of ``tf-serving:models``.

    Attributes:
        policy: which versions are served: ``all``, the highest, or exactly those that are named.
        labels: version by label. A label is ``[a-zA-Z0-9_]+``, its version one that the policy serves.
        source: local directory with the versions; or ``oss://bucket/path/`` in the same region, with ``versions`` or
            manifests.
        versions: without ``source``: versions that are in the bucket already, published by somebody else; nothing is
            uploaded, and it is checked that they are there. With a ``source``: those that are published.
    """

    policy: PolicyOptions = option(PolicyOptions(), also=("all",), otherwise="`{latest: 1}`")
    labels: Mapping[str, int] = field(default_factory=dict)
    source: str = option("", otherwise="`<modelSource>/<model>`")
    versions: tuple[int, ...] = option((), otherwise="those in the source")


@dataclass(frozen=True, kw_only=True)
class StackOptions:
    """The keys of namespace ``tf-serving`` in a stack file. :class:`Settings` is what they come to.

    Attributes:
        bucket: the bucket with the models: a name, or a mapping.
        model_root: key prefix in the bucket: models lie at ``<modelRoot><model>/<version>/``, the config file at
            ``<modelRoot>model_config.pbtxt``.
        model_source: local directory with ``<model>/<version>/saved_model.pb``, relative to the project: what is
            published.
        manifests: local directory with committed manifests, ``<model>/<version>.manifest.json``: previews then need no
            model files.
        models: models by name.
        services: services by name.
        service_defaults: settings merged under each service that they fit.
        kubernetes: the cluster of services with ``target: ack``.
        gpu_node_pools: GPU node pools of the cluster, by name.
        rollout_seconds: how long one step of a rollout may take; 0 is 120, or longer where a service polls slowly.
        endpoint: local stacks: the sandbox cloud, which answers every API. Needs ``alicloud:protocol: HTTP``.
        endpoints: endpoints that differ from the region's own.
    """

    bucket: BucketSettings | str = option()
    model_root: str = DEFAULT_MODEL_ROOT
    model_source: str = ""
    manifests: str = ""
    models: Mapping[str, ModelOptions] = option()
    services: Mapping[str, Any] = option()
    service_defaults: Mapping[str, Any] = field(default_factory=dict)
    kubernetes: KubernetesSettings | None = None
    gpu_node_pools: Mapping[str, GpuNodePoolSpec] = field(default_factory=dict)
    rollout_seconds: int = option(0, least=0)
    endpoint: str = option("", unit="`host:port`")
    endpoints: Endpoints = Endpoints()


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """One model of the stack.

    Attributes:
        name: model name.
        source: its local directory, relative to the project where that is possible, or ``oss://bucket/path/`` in the
            same region; empty: nothing is uploaded, because ``versions`` are in the bucket already.
        directory: the same local directory, absolute, where there is one on this machine; else ``None``.
        versions: version numbers that are published, from the manifests, the source or the config; ascending.
        manifests: committed manifests by version; of versions that have none, the source says what they hold.
        manifest_dir: directory of the manifests, relative to the project where that is possible; empty without any.
        tags: of the graph that the services load.
    """

    name: str
    source: str = ""
    directory: Path | None = None
    versions: tuple[int, ...] = ()
    manifests: Mapping[int, Manifest] = field(default_factory=dict)
    manifest_dir: str = ""
    tags: frozenset[str] = frozenset({saved_model.SERVE_TAG})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A stack, valid.

    Attributes:
        alicloud: region, credentials, protocol.
        endpoints: API endpoints that differ from the region's.
        bucket: the bucket with the models.
        model_root: key prefix of the model directories; empty or ending in a slash.
        models: every model, in the order of the config.
        serving: what services that read the config file serve.
        services: every service on PAI-EAS, in the order of the config.
        ack_services: every service on the cluster, in the order of the config.
        kubernetes: the cluster; ``None`` where the stack has none.
        gpu_node_pools: GPU node pools of the cluster.
        rollout_seconds: how long one step of a rollout may take; 0 leaves it to the provider.
        warnings: what is worth saying although nothing is wrong.
    """

    alicloud: AlicloudSettings
    endpoints: Endpoints
    bucket: BucketSettings
    model_root: str
    models: tuple[ModelSettings, ...]
    serving: ModelServerConfig
    services: tuple[ServiceSettings, ...]
    ack_services: tuple[AckServiceSettings, ...] = ()
    kubernetes: KubernetesSettings | None = None
    gpu_node_pools: tuple[GpuNodePoolSpec, ...] = ()
    rollout_seconds: int = 0
    warnings: tuple[str, ...] = ()

    @property
    def config_file_services(self) -> tuple[ServiceSettings, ...]:
        """The services on PAI-EAS that read the model config file."""
        return tuple(service for service in self.services if service.spec.config_file)

    @property
    def config_map_services(self) -> tuple[AckServiceSettings, ...]:
        """The services on the cluster that read the stack's ConfigMap again and again."""
        return tuple(
            service for service in self.ack_services if service.spec.config_file and service.spec.rollout == "poll"
        )

    @property
    def config_readers(self) -> dict[str, dict[str, Any]]:
        """The services that read a model config file as it changes: how often, and whether they can be asked."""
        on_eas = {
            each.name: {"pollSeconds": each.spec.config_poll_seconds, "reachable": each.reachable}
            for each in self.config_file_services
        }
        in_pods = {
            each.name: {"pollSeconds": each.spec.config_poll_seconds, "reachable": each.reachable, "pods": True}
            for each in self.config_map_services
        }
        return {**on_eas, **in_pods}

    @property
    def unproven(self) -> list[str]:
        """The services this machine cannot ask what they serve."""
        on_eas = [service.name for service in self.services if not service.reachable]
        return on_eas + [service.name for service in self.ack_services if not service.reachable]

    @property
    def published(self) -> dict[str, tuple[int, ...]]:
        """Version numbers in the bucket, by model."""
        return {model.name: model.versions for model in self.models}

    def served_versions(self, name: str) -> tuple[int, ...]:
        """The versions of a model that services with the config file are to serve, ascending."""
        model = self.serving.get(name)
        return model.policy.select(self.published[name]) if model else ()


def parse(
    raw: Mapping[str, Any],
    project_dir: Path,
    *,
    secret_keys: Collection[str] | None = None,
    cache: HashCache | None = None,
) -> Settings:
    """Reads and checks a whole stack config.

    Args:
        raw: values by full key (``tf-serving:models``), text or structured. Keys of other namespaces are left alone.
        project_dir: what relative model directories are relative to.
        secret_keys: the keys Pulumi holds as secret; ``None`` where that is not known.
        cache: what is known of model files from earlier runs.

    Raises:
        ConfigError: every problem of the stack.
    """
    return _Parser(raw, project_dir, secret_keys, cache or HashCache()).parse()


class _Parser:
    """State of one :func:`parse`: what was read so far, and what was wrong with it."""

    def __init__(
        self, raw: Mapping[str, Any], project_dir: Path, secret_keys: Collection[str] | None, cache: HashCache
    ) -> None:
        self.raw = {str(key): value for key, value in raw.items()}
        self.project_dir = project_dir
        self.secret_keys = secret_keys
        self.cache = cache
        self.problems: list[Problem] = []
        self.warnings: list[str] = []
        self.service_defaults: dict[str, Any] = {}
        self.entries: dict[str, Mapping[str, Any]] = {}  # of the services, without the defaults, by path

    def parse(self) -> Settings:
        self._check_keys()
        endpoints = self._endpoints()
        alicloud = self._alicloud(endpoints)
        bucket = self._bucket()
        root = self._model_root()
        path = f"{NAMESPACE}:rolloutSeconds"
        rollout_seconds = self._reader(path).integer(self.raw.get(path), path, least=0, unit="seconds")
        declared, models = self._models()
        context = ServiceContext(
            region=alicloud.region,
            bucket=bucket.name,
            root=root,
            models=tuple(model.name for model in models),
            labels=any(model.labels for model in declared.models),
        )
        cluster, pools = self._kubernetes(bucket, root, endpoints)
        services, ack_services = self._services(context, cluster, pools)
        serving = self._serving(declared, models, (*services, *ack_services))
        ack_services = self._checked(ack_services, rollout.spelt_out(serving, {m.name: m.versions for m in models}))
        models = self._tagged(models, (*services, *ack_services))
        self._check_batching(models, (*services, *ack_services), serving)
        if self.problems:
            path = f"{NAMESPACE}:serviceDefaults"
            raise ConfigError(
                service_defaults.written_in_defaults(self.problems, path, self.entries, self.service_defaults)
            )
        for pool in pools.values():
            self.warnings += [f"GPU node pool {pool.name}: {warning}" for warning in kubernetes.pool_warnings(pool)]
        for ack_service in ack_services:
            self.warnings += [
                f"service {ack_service.name}: {warning}" for warning in kubernetes.warnings(ack_service.spec)
            ]
        for service in services:
            found = eas_spec.warnings(service.spec)
            # In a scenario deployment nobody can set a flag, and another server has none of these.
            if service.spec.deployment != "scenario" and eas_spec.runs_tf_serving(service.spec):
                # On a local stack the bucket is a directory, and looking at it often costs nothing.
                found += flags.warnings(eas_spec.tf_serving_flags(service.spec), remote_mount=not endpoints.all)
            self.warnings += [f"service {service.name}: {warning}" for warning in found]
        return Settings(
            alicloud=alicloud,
            endpoints=endpoints,
            bucket=bucket,
            model_root=root,
            models=models,
            serving=serving,
            services=services,
            ack_services=ack_services,
            kubernetes=cluster,
            gpu_node_pools=tuple(pools.values()),
            rollout_seconds=rollout_seconds,
            warnings=tuple(self.warnings),
        )

    # ---- keys ----------------------------------------------------------------------------------------------------

    def _reader(self, key: str) -> Reader:
        reader = Reader(secret=key in (self.secret_keys or ()))
        reader.problems = self.problems  # one list, so that problems stay in the order of the config
        return reader

    def _check_keys(self) -> None:
        for key in self.raw:
            namespace, colon, name = key.partition(":")
            if not colon:
                message = "the config key has no namespace"
                self.problems.append(Problem(key or '""', message, f"{NAMESPACE}:{key}"))
            elif namespace == NAMESPACE and name not in keys(StackOptions):
                first, dotted = re.split(r"[.\[]", name)[0], bool({".", "["} & set(name))
                if dotted and first in keys(StackOptions):
                    place = re.sub(r"\.labels\[\d*\]$", ".labels.LABEL", key)  # labels are no list
                    fix = f"pulumi config rm '{key}'; pulumi config set --path '{place}' VALUE"
                elif name in ("model_config_list", "config"):
                    fix = f"write {NAMESPACE}:models"
                else:
                    fix = _full(did_you_mean(name, keys(StackOptions)), NAMESPACE)
                self.problems.append(Problem(key, f"unknown key {name!r}", ", ".join(keys(StackOptions)), fix))
            elif namespace == "alicloud" and name in _OTHER_CREDENTIALS:
                fix = "take the role before you run Pulumi and hand on its temporary credentials in the environment"
                message = "only one of this stack's two providers would use these credentials"
                allowed = "accessKey, secretKey and securityToken, profile, or ALIBABA_CLOUD_* environment variables"
                self.problems.append(Problem(key, message, allowed, fix))
            elif key == "alicloud:endpoints":
                message = "these endpoints would reach only one of this stack's two providers"
                self.problems.append(Problem(key, message, fix=f"set {NAMESPACE}:endpoints to {{oss: ..., eas: ...}}"))
            elif namespace == "alicloud" and name not in keys(AlicloudSettings):
                fix = _full(did_you_mean(name, keys(AlicloudSettings)), "alicloud")
                message = f"{name!r} is not a setting this project hands to its providers"
                self.problems.append(Problem(key, message, ", ".join(keys(AlicloudSettings)), fix))
            elif namespace not in (NAMESPACE, "alicloud") and _squeezed(namespace) in ("tfserving", "aliyun"):
                meant = NAMESPACE if _squeezed(namespace) == "tfserving" else "alicloud"
                fix = f"write {meant}:{name}"
                self.problems.append(Problem(key, f"nothing reads namespace {namespace!r}", meant, fix))

    # ---- cloud ---------------------------------------------------------------------------------------------------

    def _endpoints(self) -> Endpoints:
        path = f"{NAMESPACE}:endpoint"
        reader = self._reader(path)
        everything = self._endpoint(reader, self.raw.get(path), path)
        if everything and ":" not in everything:
            reader.add(path, f"{everything!r} names no port", "host:port", f"write for example {everything}:7580")
        path = f"{NAMESPACE}:endpoints"
        reader = self._reader(path)
        single = reader.mapping(self.raw.get(path), path, keys(Endpoints))
        oss, eas = (self._endpoint(reader, single.get(name), join_path(path, name)) for name in ("oss", "eas"))
        return Endpoints(all=everything, oss=oss or everything, eas=eas or everything)

    def _endpoint(self, reader: Reader, value: Any, path: str) -> str:
        text = reader.text(value, path, allowed="host or host:port")
        match = _ENDPOINT.fullmatch(text)
        if not text or (match and (match[4] is None or 0 < int(match[4]) < 65536)):
            return text
        bare = text.partition("://")[2].rstrip("/") if "://" in text else ""
        fix = f"write {bare}; the scheme is alicloud:protocol" if bare else ""
        reader.add(path, f"{reader.show(text)} is not an endpoint", "host or host:port, port 1 to 65535", fix)
        return ""

    def _alicloud(self, endpoints: Endpoints) -> AlicloudSettings:
        def get(name: str) -> tuple[Any, str, Reader]:
            path = f"alicloud:{name}"
            return self.raw.get(path), path, self._reader(path)

        value, path, reader = get("region")
        region = reader.text(value, path)
        if not region:
            # The alicloud provider would take cn-beijing.
            reader.add(
                path, "no region is set", "a region id such as cn-hangzhou", f"pulumi config set {path} cn-hangzhou"
            )
        elif not REGION.fullmatch(region):
            reader.add(path, f"{region!r} is not a region id", "a region id such as cn-hangzhou")
        value, path, reader = get("protocol")
        protocol = reader.choice(value, path, ("HTTPS", "HTTP")) if value not in (None, "") else "HTTPS"
        self._check_protocol(protocol, endpoints, reader)
        value, path, reader = get("accountType")
        account_type = reader.choice(value, path, ("Domestic", "International")) if value not in (None, "") else ""
        value, path, reader = get("skipRegionValidation")
        skip = reader.boolean(value, path)
        credentials = {}
        for name in ("accessKey", "secretKey", "securityToken"):
            value, path, reader = get(name)
            reader.secret = True
            credentials[name] = reader.text(value, path)
        value, path, reader = get("profile")
        profile = reader.text(value, path)
        self._check_credentials(credentials, profile, endpoints)
        timeouts = {
            each.name: reader.optional_integer(value, path, least=each.least, unit=each.unit)
            for each in options(AlicloudSettings)
            if each.plain_type is int
            for value, path, reader in (get(each.key),)
        }
        return AlicloudSettings(
            region=region,
            protocol=protocol,
            account_type=account_type,
            skip_region_validation=skip,
            access_key=credentials["accessKey"],
            secret_key=credentials["secretKey"],
            security_token=credentials["securityToken"],
            profile=profile,
            **timeouts,
        )

    def _check_protocol(self, protocol: str, endpoints: Endpoints, reader: Reader) -> None:
        path = "alicloud:protocol"
        if endpoints.all and protocol != "HTTP":
            reader.add(
                path, f"{protocol} does not work with {NAMESPACE}:endpoint", "HTTP", f"pulumi config set {path} HTTP"
            )
        elif protocol == "HTTP" and not all(_is_loopback(host) for host in (endpoints.oss, endpoints.eas)):
            message = "HTTP would send keys and models in the clear"
            reader.add(path, message, "HTTPS, or HTTP to a loopback endpoint", "remove it, or set HTTPS")

    def _check_credentials(self, keys: Mapping[str, str], profile: str, endpoints: Endpoints) -> None:
        def refuse(name: str, message: str, fix: str) -> None:
            self.problems.append(Problem(f"alicloud:{name}", message, "", fix))

        for name, other in (("accessKey", "secretKey"), ("secretKey", "accessKey")):
            if keys[name] and not keys[other]:
                refuse(
                    other,
                    f"{name} is set and {other} is not",
                    "set both, or none to use the environment's credentials",
                )
        if keys["securityToken"] and not (keys["accessKey"] and keys["secretKey"]):
            refuse(
                "securityToken", "a security token needs accessKey and secretKey beside it", "set all three, or none"
            )
        if profile and keys["accessKey"]:
            refuse("profile", "both a profile and an access key are set", "keep one of them")
        if self.secret_keys is None or endpoints.all:
            return
        for name in ("secretKey", "securityToken"):
            if keys[name] and f"alicloud:{name}" not in self.secret_keys:
                refuse(name, "stands in the stack file in the clear", f"pulumi config set --secret alicloud:{name}")

    # ---- bucket --------------------------------------------------------------------------------------------------

    def _bucket(self) -> BucketSettings:
        path = f"{NAMESPACE}:bucket"
        reader = self._reader(path)
        value = self.raw.get(path)
        is_name = isinstance(value, str) and value.lstrip()[:1] != "{"
        given = (
            {"name": value}
            if is_name
            else reader.mapping(value, path, keys(BucketSettings), "a name, or name and options")
        )
        where = path if is_name else join_path(path, "name")
        name = reader.text(given.get("name"), where)
        if not name:
            if value is None or given or is_name:
                reader.add(where, "no bucket is named", "the name of an OSS bucket", "name one; the stack makes it")
        elif not BUCKET.fullmatch(name):
            allowed = "3 to 63 lower-case letters, digits and '-', letter or digit first and last"
            fix = (
                f"write {name[6:].split('/')[0]}; the path is {NAMESPACE}:modelRoot"
                if name.startswith("oss://")
                else ""
            )
            reader.add(where, f"{reader.show(name)} is not a bucket name", allowed, fix)
        existing = reader.boolean(given.get("existing"), join_path(path, "existing"))
        if existing:
            for key in keys(BucketSettings):
                if key in given and key not in ("name", "existing"):
                    message = f"{key} configures a bucket this stack makes, and this one exists"
                    reader.add(join_path(path, key), message, fix=f"remove {key}, or existing")
        storage = self._optional_choice(reader, given, path, "storageClass", _STORAGE_CLASSES)
        if storage not in _READABLE_CLASSES:
            message = f"objects of class {storage} cannot be read before they are restored, so no service could start"
            reader.add(join_path(path, "storageClass"), message, " or ".join(_READABLE_CLASSES))
        tags = reader.mapping(given.get("tags"), join_path(path, "tags"))
        return BucketSettings(
            name=name,
            existing=existing,
            force_destroy=reader.boolean(given.get("forceDestroy"), join_path(path, "forceDestroy")),
            protect=reader.boolean(given.get("protect"), join_path(path, "protect")),
            storage_class=storage,
            redundancy_type=self._optional_choice(reader, given, path, "redundancyType", _REDUNDANCY_TYPES),
            abort_uploads_after_days=reader.integer(
                given.get("abortUploadsAfterDays"), join_path(path, "abortUploadsAfterDays"), 7, least=1, unit="days"
            ),
            expire_old_versions_after_days=reader.integer(
                given.get("expireOldVersionsAfterDays"),
                join_path(path, "expireOldVersionsAfterDays"),
                30,
                least=1,
                unit="days",
            ),
            tags={key: reader.text(tag, join_path(join_path(path, "tags"), key)) for key, tag in tags.items()},
        )

    @staticmethod
    def _optional_choice(
        reader: Reader, given: Mapping[str, Any], path: str, key: str, choices: tuple[str, ...]
    ) -> str:
        value = given.get(key)
        return choices[0] if value is None else reader.choice(value, join_path(path, key), choices)

    def _model_root(self) -> str:
        path = f"{NAMESPACE}:modelRoot"
        reader = self._reader(path)
        allowed = "a key prefix such as models/tf_serving/"
        text = reader.text(self.raw.get(path), path, DEFAULT_MODEL_ROOT, allowed=allowed)
        fix = ""
        if "://" in text:
            fix = f"name the bucket in {NAMESPACE}:bucket and only the path here"
        elif text.startswith("/"):
            fix = "remove the leading slash"
        segments = text.strip("/").split("/") if text.strip("/") else []
        wrong = [part for part in segments if not _ROOT_SEGMENT.fullmatch(part) or part in (".", "..")]
        if fix or wrong:
            reader.add(path, f"{reader.show(text)} is not a key prefix", allowed, fix)
            return DEFAULT_MODEL_ROOT
        return f"{'/'.join(segments)}/" if segments else ""

    # ---- models --------------------------------------------------------------------------------------------------

    def _models(self) -> tuple[ModelServerConfig, tuple[ModelSettings, ...]]:
        """What is to be served, with base paths below the default mount path, and where its versions come from."""
        path = f"{NAMESPACE}:models"
        reader = self._reader(path)
        sources, manifests = self._directory("modelSource"), self._directory("manifests")
        allowed = "model names with policy, labels and source"
        given = reader.mapping(self.raw.get(path), path, allowed=allowed)
        reader.same_but_for_case(given, path, "model")
        declared: list[Model] = []
        models: list[ModelSettings] = []
        for name, value in given.items():
            where = join_path(path, name)
            entry = reader.mapping(value, where, keys(ModelOptions))
            policy, found = model_config.read_policy(_numbers(entry.get("policy")), join_path(where, "policy"))
            self.problems += found
            labels, found = model_config.read_labels(_numbers(entry.get("labels")), join_path(where, "labels"))
            self.problems += found
            declared.append(Model(name, f"{DEFAULT_MOUNT_PATH}/{name}", policy=policy, labels=labels))
            asked = Wanted(policy=policy, labels=tuple(labels.values()))
            models.append(self._model(reader, name, entry, where, sources, manifests, asked))
        return ModelServerConfig(tuple(declared)), tuple(models)

    def _directory(self, key: str) -> str:
        path = f"{NAMESPACE}:{key}"
        return self._reader(path).text(self.raw.get(path), path, allowed="a directory, relative to the project")

    def _model(
        self,
        reader: Reader,
        name: str,
        entry: Mapping[str, Any],
        where: str,
        sources: str,
        manifests: str,
        asked: Wanted,
    ) -> ModelSettings:
        versions_path = join_path(where, "versions")
        source_path = join_path(where, "source")
        allowed = "a directory, relative to the project, or oss://bucket/path/"
        source = reader.text(entry.get("source"), source_path, allowed=allowed)
        in_oss = source.startswith("oss://")
        # A name that leads out of a directory is refused as a name, and nothing is looked at.
        sound = model_config.MODEL_NAME.fullmatch(name) is not None
        manifest_dir = f"{manifests.rstrip('/')}/{name}" if manifests and sound else ""
        committed = self._committed(manifest_dir, join_path(f"{NAMESPACE}:manifests", name))
        listed: tuple[int, ...] = ()
        if entry.get("versions") is not None:
            listed = self._listed_versions(reader, entry["versions"], versions_path)
        if not source and not listed and sources:
            if not sound:
                return ModelSettings(name=name)
            source, source_path = f"{sources.rstrip('/')}/{name}", where
        if in_oss and not OSS_URI.fullmatch(source):
            reader.add(source_path, f"{reader.show(source)} is not a place in OSS", "oss://bucket/path/")
        if not source or in_oss:
            if not listed and not committed:
                self._no_versions(reader, where, source)
            return ModelSettings(
                name=name,
                source=source if in_oss else "",
                versions=listed or tuple(committed),
                manifests=committed,
                manifest_dir=manifest_dir if committed else "",
            )
        directory = self.project_dir / source
        versions = listed or tuple(committed)
        is_there = os.path.isdir(directory)  # unlike Path.is_dir, no error where the name is too long
        if is_there or not committed:
            if versions:
                asked = replace(asked, versions=versions)
            found = model_directory.read(name, directory, source_path, asked, self.cache)
            self.problems += found.problems
            self.warnings += found.warnings
            if found.versions and not found.problems:
                needed = model_ops.warnings(directory, self.cache, found.versions)
                self.warnings += [f"model {name}: {warning}" for warning in needed]
            if committed and not listed and found.others:
                self.warnings.append(
                    f"model {name}: version {', '.join(map(str, found.others))} in {source} has no manifest in "
                    f"{manifest_dir} and is not published: python -m ops manifest {source}"
                )
            missing = [number for number in listed if number not in {*found.versions, *committed}]
            if missing and not found.problems:
                there = ", ".join(map(str, sorted({*found.versions, *found.others, *committed}))) or "none"
                message = f"version {', '.join(map(str, missing))} is not in {source}"
                reader.add(versions_path, message, there, "export it, or leave it out")
            versions = versions or found.versions
        return ModelSettings(
            name=name,
            source=source,
            directory=directory if is_there else None,
            versions=versions,
            manifests=committed,
            manifest_dir=manifest_dir if committed else "",
        )

    @staticmethod
    def _no_versions(reader: Reader, where: str, source: str) -> None:
        message = "nothing says where the versions come from"
        allowed = "source: a directory or oss://bucket/path/; versions: numbers that are in the bucket already"
        fix = f"set {NAMESPACE}:modelSource, or source or versions of this model"
        if source:
            message = f"nothing says which versions of {source} are to be published"
            allowed = "versions: a list of numbers, or committed manifests"
            fix = f"add versions, or commit manifests and name their directory in {NAMESPACE}:manifests"
        reader.add(where, message, allowed, fix)

    def _committed(self, directory: str, path: str) -> dict[int, Manifest]:
        if not directory:
            return {}
        try:
            found = manifest.load_all(self.project_dir / directory)
        except SavedModelError as error:
            self.problems.append(
                Problem(path, str(error), fix="restore the file from version control, or write it anew")
            )
            return {}
        for number, committed in found.items():
            for message in saved_model.incomplete(entry.path for entry in committed.files):
                self.problems.append(Problem(path, f"version {number} {message}", fix="export the model again"))
        return found

    def _tagged(self, models: Iterable[ModelSettings], services: Iterable[AnyService]) -> tuple[ModelSettings, ...]:
        """Each service loads the graph with exactly its ``--saved_model_tags``: every version needs one for each."""
        found = []
        for model in models:
            if model.directory is None:
                found.append(model)
                continue
            places = {saved_model.parse_number(child.name): child for child in model.directory.iterdir()}
            readers = [each for each in services if each.spec.config_file or each.spec.model == model.name]
            wanted: dict[frozenset[str], str] = {}
            for each in readers:
                tags = saved_model_tags(each)
                if tags is not None:
                    wanted.setdefault(frozenset(tags), each.name if tags != {saved_model.SERVE_TAG} else "")
            for needed, name in (wanted or {frozenset({saved_model.SERVE_TAG}): ""}).items():
                for number in model.versions:
                    if (place := places.get(number)) is None:
                        continue
                    try:
                        problem = saved_model.tag_problem(place, self.cache, needed)
                    except SavedModelError:
                        continue  # told already
                    if problem:
                        where = join_path(f"{NAMESPACE}:models", model.name)
                        if name:
                            flag = join_path(join_path(f"{NAMESPACE}:services", name), "flags")
                            where = f"{flag}.saved_model_tags"
                        fix = (
                            "export the model with these tags, or set flags.saved_model_tags of the service to its tags"
                        )
                        self.problems.append(Problem(where, f"model {model.name}: {problem}", fix=fix))
            found.append(replace(model, tags=next(iter(wanted), model.tags)))
        return tuple(found)

    def _check_batching(
        self, models: Iterable[ModelSettings], services: Iterable[AnyService], serving: ModelServerConfig
    ) -> None:
        """Services that batch requests against the versions they serve, as far as those are on this machine."""
        versions: dict[str, list[batching.ServedVersion]] = {}
        for model in models:
            if model.directory is None:
                continue
            where = join_path(f"{NAMESPACE}:models", model.name)
            versions[model.name] = [
                batching.ServedVersion(model=model.name, number=each.number, directory=each.path, path=where)
                for each in saved_model.versions(model.directory)
                if each.number in model.versions
            ]
        served: list[tuple[AnyService, list[batching.ServedVersion]]] = []
        for service in services:
            policies = {model.name: model.policy for model in serving.models}
            if not service.spec.config_file:
                policies = {service.spec.model: VersionPolicy.latest()}
            published = {model.name: model.versions for model in models}
            served.append(
                (
                    service,
                    [
                        each
                        for name, policy in policies.items()
                        for each in versions.get(name, ())
                        if each.number in policy.select(published[name])
                    ],
                )
            )
        found = batching.check(served, self.cache)
        self.problems += found.problems
        self.warnings += found.warnings

    @staticmethod
    def _listed_versions(reader: Reader, value: Any, path: str) -> tuple[int, ...]:
        items = reader.items(value, path, "a list of version numbers")
        numbers = [
            reader.integer(item, f"{path}[{index}]", least=0, most=wire.MAX_INTEGER) for index, item in enumerate(items)
        ]
        for number in sorted({number for number in numbers if numbers.count(number) > 1}):
            reader.add(path, f"version {number} is named twice", fix="keep one")
        if not items:
            reader.add(path, "no version is named", "at least one version number", "name the versions in the bucket")
        return tuple(sorted(set(numbers)))

    # ---- services ------------------------------------------------------------------------------------------------

    def _kubernetes(
        self, bucket: BucketSettings, root: str, endpoints: Endpoints
    ) -> tuple[KubernetesSettings | None, dict[str, GpuNodePoolSpec]]:
        """The cluster, and its GPU node pools."""
        path, pools_path = f"{NAMESPACE}:kubernetes", f"{NAMESPACE}:gpuNodePools"
        if all(self.raw.get(key) in (None, "", "{}", {}) for key in (path, pools_path)):
            return None, {}
        base = ModelVolume(bucket=bucket.name, root=root)
        if endpoints.all:
            base = ModelVolume(bucket=bucket.name, root=root, endpoint=endpoints.oss, scheme="http")
        reader = self._reader(path)
        secret = None if self.secret_keys is None else path in self.secret_keys
        local = bool(endpoints.all)
        settings = read_kubernetes(reader, self.raw.get(path), path, self.project_dir, secret, local, base)
        check_kubeconfig(reader, settings, join_path(path, "kubeconfig"), local=local)
        pools = read_pools(self._reader(pools_path), self.raw.get(pools_path), pools_path, settings)
        return settings, pools

    def _services(
        self,
        context: ServiceContext,
        cluster: KubernetesSettings | None,
        pools: Mapping[str, GpuNodePoolSpec],
    ) -> tuple[tuple[ServiceSettings, ...], tuple[AckServiceSettings, ...]]:
        """The services on PAI-EAS, and those on the cluster, which are still to be checked."""
        path = f"{NAMESPACE}:services"
        reader = self._reader(path)
        secret = None if self.secret_keys is None else path in self.secret_keys
        value = self.raw.get(path)
        at = f"{NAMESPACE}:serviceDefaults"
        known = sorted({*SERVICE_KEYS, *ACK_SERVICE_KEYS} - {"target"})
        self.service_defaults = self._reader(at).mapping(self.raw.get(at), at, known)
        if secret is False and self.secret_keys is not None:
            secret = at in self.secret_keys
        fitted: set[str] = set()
        given = reader.mapping(value, path, allowed="service names with their deployment")
        reader.same_but_for_case(given, path, "service")
        if not given and (value is None or isinstance(value, Mapping) or value == "{}"):
            reader.add(path, "no service is declared", "at least one service", "add a service")
        none = KubernetesSettings(volume=ModelVolume(bucket=context.bucket, root=context.root))
        ack_context = AckContext(stack=context, kubernetes=cluster or none, pools=pools)
        services: list[ServiceSettings] = []
        ack_services: list[AckServiceSettings] = []
        for name, entry in given.items():
            where = join_path(path, name)
            if self.service_defaults and (entry is None or (isinstance(entry, str) and entry.lstrip()[:1] == "{")):
                entry = reader.mapping(entry, where)
            fields = entry if isinstance(entry, Mapping) else {}
            target = fields.get("target", TARGETS[0])
            if isinstance(entry, Mapping) and self.service_defaults and target in TARGETS:
                self.entries[where] = fields
                takes = ACK_SERVICE_KEYS if target == "ack" else SERVICE_KEYS
                entry = fields = service_defaults.merge(fields, self.service_defaults, takes)
                fitted |= fields.keys()
            if target not in TARGETS:
                reader.choice(target, join_path(where, "target"), TARGETS)
            elif target == "ack":
                if cluster is None:
                    fix = f"set {NAMESPACE}:kubernetes, for example to {{namespace: default}}"
                    reader.add(join_path(where, "target"), "the stack names no cluster", fix=fix)
                ack_services.append(read_ack_service(reader, name, entry, where, ack_context, secret))
            else:
                entry = {key: item for key, item in fields.items() if key != "target"} if fields else entry
                services.append(read_service(reader, name, entry, where, context, secret))
        if unfit := sorted(self.service_defaults.keys() - fitted):
            self.warnings.append(f"{at}: {', '.join(unfit)} fits no service of this stack")
        return tuple(services), tuple(ack_services)

    def _checked(
        self, services: tuple[AckServiceSettings, ...], serving: ModelServerConfig
    ) -> tuple[AckServiceSettings, ...]:
        path = f"{NAMESPACE}:services"
        reader = self._reader(path)
        return tuple(check_ack_service(reader, service, join_path(path, service.name), serving) for service in services)

    def _serving(
        self, declared: ModelServerConfig, models: Iterable[ModelSettings], services: tuple[AnyService, ...]
    ) -> ModelServerConfig:
        """The model config file's content, and the rules that span models and services."""
        path = f"{NAMESPACE}:services"
        readers = [service for service in services if service.spec.config_file]
        mount_path = readers[0].spec.mount_path if readers else DEFAULT_MOUNT_PATH
        for service in readers[1:]:
            if service.spec.mount_path != mount_path:
                message = (
                    f"mounts the models at {service.spec.mount_path}, {readers[0].name} at {mount_path}: "
                    "one config file cannot fit both"
                )
                where = join_path(join_path(path, service.name), "mountPath")
                self.problems.append(Problem(where, message, mount_path, f"use {mount_path} everywhere"))
        if services and not readers:
            self._check_unread_models(declared, services)
        serving = ModelServerConfig(
            tuple(
                Model(model.name, f"{mount_path.rstrip('/')}/{model.name}", policy=model.policy, labels=model.labels)
                for model in declared.models
            )
        )
        # A model whose versions could not be read has its problem already; it takes part in the other checks.
        known = {model.name: model.versions for model in models if model.versions}
        for model in serving.models:
            one = ModelServerConfig((model,))
            self.problems += model_config.validate(one, known if model.name in known else None, f"{NAMESPACE}:models")
        path = f"{NAMESPACE}:models"
        if not serving.models and not any(problem.path == path for problem in self.problems):
            self.problems += model_config.validate(serving, None, path)
        return serving

    def _check_unread_models(self, declared: ModelServerConfig, services: Iterable[AnyService]) -> None:
        path = f"{NAMESPACE}:models"
        single = {service.spec.model for service in services}
        for model in declared.models:
            where = join_path(path, model.name)
            if model.name not in single:
                fix = "remove the model, or give a service `configFile: true` or this model"
                self.problems.append(Problem(where, "no service serves this model", "", fix))
            elif model.labels:
                message = "labels are only known to services that read the config file, and there is none"
                fix = "remove the labels, or give a service `configFile: true`"
                self.problems.append(Problem(join_path(where, "labels"), message, "", fix))


def _numbers(value: Any) -> Any:
    """``value`` with texts that are whole numbers turned into such, at any depth."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,39}", value):
        return int(value)
    if isinstance(value, Mapping):
        return {key: _numbers(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_numbers(item) for item in value]
    return value


def _is_loopback(endpoint: str) -> bool:
    return _LOOPBACK.fullmatch(endpoint.rpartition(":")[0] or endpoint) is not None


def _squeezed(text: str) -> str:
    return re.sub(r"[^a-z]", "", text.lower())


def _full(hint: str, namespace: str) -> str:
    return hint.replace("'", f"'{namespace}:", 1)
