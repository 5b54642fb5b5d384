"""Stack config, read once: frozen settings, or one error that names every problem in it.

:func:`parse` looks at the config it is given and at the files that config names: model directories, manifests and the
kubeconfig. ``config/pulumi_config.py`` fetches the config from Pulumi.

What may stand in a stack file is listed in ``docs/stack-config.md``; ``stacks/Pulumi.dev.yaml`` and
``stacks/Pulumi.prod.yaml`` are examples with comments.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from config import bucket_versions, other_mounts, service_defaults
from config.alerts import merged, read_alerts
from config.bucket import (
    DEFAULT_MODEL_ROOT,
    BucketSettings,
    read_bucket,
    read_config_file_name,
    read_model_root,
)
from config.bucket_versions import Asked
from config.cloud import AlicloudSettings, Endpoints, read_alicloud, read_endpoints
from config.gates import with_gates
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
from config.loading import AnyService, answers_as_tf_serving
from config.models import ModelOptions, ModelSettings, check_batching, read_models, shared, with_tags
from config.services import KEYS as SERVICE_KEYS
from config.services import ServiceContext, ServiceSettings, alert_warnings, read_service
from config.serving import read_serving
from config.stack_config import NAMESPACE, StackConfig
from config.traffic import TrafficOptions, TrafficSettings, read_traffic
from tfserving import eas_spec, flags, kubernetes, model_sets, rollout, serving
from tfserving.alerts import Alerts
from tfserving.contract.found import FindVersionsResult
from tfserving.contract.gates import ModelGate
from tfserving.contract.storage import ConfigReader
from tfserving.errors import ConfigError, Problem
from tfserving.kubernetes import GpuNodePoolSpec, ModelVolume
from tfserving.manifest import HashCache
from tfserving.model_config import ModelServerConfig, did_you_mean
from tfserving.model_sets import DEFAULT_FILE, ModelSet
from tfserving.options import keys, option, options
from tfserving.property_path import join_path

# Ways to credentials that only the alicloud provider knows. The tfserving provider would act as somebody else.
_OTHER_CREDENTIALS = ("assumeRole", "assumeRoleWithOidc", "credentialsUri", "ecsRoleName", "sharedCredentialsFile")


MOST_EXPORTED: Final = 30
"""So many models are in the outputs of a stack that does not say whether they are: more of them hide what changed."""


@dataclass(frozen=True, kw_only=True)
class StackOptions:
    """The keys of namespace ``tf-serving`` in a stack file. :class:`Settings` is what they come to.

    Attributes:
        bucket: the bucket with the models: a name, or a mapping.
        model_root: key prefix in the bucket: models lie at ``<modelRoot><model>/<version>/``, the config file at
            ``<modelRoot>model_config.pbtxt``.
        config_file_name: name of the model config file below ``modelRoot``, for one that exists: another one goes with
            ``existing: true`` of the bucket, and with no service on Kubernetes that reads it.
        model_source: local directory with ``<model>/<version>/saved_model.pb``, relative to the project: what is
            published.
        manifests: local directory with committed manifests, ``<model>/<version>.manifest.json``: previews then need no
            model files.
        models: models by name.
        services: services by name.
        traffic: groups of services that share requests by weight, by name: each has an address of its own.
        service_defaults: settings merged under each service that they fit.
        kubernetes: the cluster of services with ``target: ack``.
        gpu_node_pools: GPU node pools of the cluster, by name.
        alerts: when somebody is to be told of a service; a service may have others.
        rollout_seconds: how long one step of a rollout may take; 0 is 120, or longer where a service polls slowly.
        export_models: whether the outputs of the stack say what services serve, too: engines print every output after
            every update.
        endpoint: local stacks: the sandbox cloud, which answers every API. Needs ``alicloud:protocol: HTTP``.
        endpoints: endpoints that differ from the region's own.
    """

    bucket: BucketSettings | str = option()
    model_root: str = DEFAULT_MODEL_ROOT
    config_file_name: str = DEFAULT_FILE
    model_source: str = ""
    manifests: str = ""
    models: Mapping[str, ModelOptions] = option()
    services: Mapping[str, Any] = option()
    traffic: Mapping[str, TrafficOptions] = field(default_factory=dict)
    service_defaults: Mapping[str, Any] = field(default_factory=dict)
    kubernetes: KubernetesSettings | None = None
    gpu_node_pools: Mapping[str, GpuNodePoolSpec] = field(default_factory=dict)
    alerts: Alerts | None = None
    rollout_seconds: int = option(0, least=0)
    export_models: bool | None = option(None, otherwise=f"`true` up to {MOST_EXPORTED} models")
    endpoint: str = option("", unit="`host:port`")
    endpoints: Endpoints = field(default_factory=Endpoints)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A stack, valid.

    Attributes:
        alicloud: region, credentials, protocol.
        endpoints: API endpoints that differ from the region's.
        bucket: the bucket with the models.
        model_root: key prefix of the model directories; empty or ending in a slash.
        config_file_name: name of the model config file there.
        models: every model, in the order of the config.
        serving: every model as it is declared: what services with a config file serve that choose none.
        sets: the models that services with a config file serve, by file; that of all models first.
        services: every service on PAI-EAS, in the order of the config.
        ack_services: every service on the cluster, in the order of the config.
        kubernetes: the cluster; ``None`` where the stack has none.
        gpu_node_pools: GPU node pools of the cluster.
        traffic: groups of services that share requests, in the order of the config.
        rollout_seconds: how long one step of a rollout may take; 0 leaves it to the provider.
        export_models: whether the outputs of the stack say what services serve.
        warnings: what is worth saying although nothing is wrong.
        notes: what was found that no person wrote.
        asked: directories of models whose versions only the bucket tells, and nobody has looked yet: the settings are
            not whole before :func:`parse` has them in ``found``.
    """

    alicloud: AlicloudSettings
    endpoints: Endpoints
    bucket: BucketSettings
    model_root: str
    models: tuple[ModelSettings, ...]
    serving: ModelServerConfig
    sets: tuple[ModelSet, ...]
    services: tuple[ServiceSettings, ...]
    ack_services: tuple[AckServiceSettings, ...] = ()
    kubernetes: KubernetesSettings | None = None
    gpu_node_pools: tuple[GpuNodePoolSpec, ...] = ()
    traffic: tuple[TrafficSettings, ...] = ()
    rollout_seconds: int = 0
    export_models: bool = True
    config_file_name: str = DEFAULT_FILE
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    asked: tuple[Asked, ...] = ()

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

    def config_map(self, models: ModelSet) -> str:
        """``namespace/name`` of the ConfigMap with the config file of a set; empty where no pod reads it."""
        if self.kubernetes is None or not models.pods:
            return ""
        return f"{self.kubernetes.namespace}/{model_sets.config_map_name(kubernetes.DEFAULT_CONFIG_MAP, models.part)}"

    @property
    def config_readers(self) -> dict[str, ConfigReader]:
        """The services that read a model config file as it changes: how often, and whether they can be asked."""
        on_eas = {
            each.name: ConfigReader(poll_seconds=each.config_file_polls, reachable=each.reachable)
            for each in self.config_file_services
        }
        in_pods = {
            each.name: ConfigReader(poll_seconds=each.config_file_polls, reachable=each.reachable, pods=True)
            for each in self.config_map_services
        }
        return {**on_eas, **in_pods}

    @property
    def gates(self) -> dict[str, ModelGate]:
        """What a version has to prove before requests move to it, of models with a gate."""
        return {model.name: model.gate for model in self.models if model.gate is not None}

    @property
    def unproven(self) -> list[str]:
        """The services this machine cannot ask what they serve."""
        on_eas = [service.name for service in self.services if not service.reachable]
        return on_eas + [service.name for service in self.ack_services if not service.reachable]

    @property
    def published(self) -> dict[str, tuple[int, ...]]:
        """Version numbers in the bucket, by model."""
        return {model.name: model.versions for model in self.models}

    @property
    def files(self) -> tuple[ModelSet, ...]:
        """The sets whose file is rolled out: somebody reads it again and again, or is restarted to read it."""
        return tuple(each for each in self.sets if each.services or each.pods)

    def other_services(self, models: ModelSet | None) -> dict[str, tuple[str, ...]]:
        """The models that services on PAI-EAS with the config file of another set are to serve, by service."""
        others = (each for each in self.files if models is None or each.part != models.part)
        return {name: each.config.names for each in others for name in each.services}

    def set_of(self, service: AnyService) -> ModelSet | None:
        """The set whose file a service reads; ``None`` for a service without a config file."""
        if not service.spec.config_file:
            return None
        part = model_sets.part_of(service.name, service.spec.models, self.serving.names)
        return next(each for each in self.sets if each.part == part)

    def config_of(self, service: AnyService) -> ModelServerConfig:
        """What the config file of a service is to say; nothing for a service without one."""
        found = self.set_of(service)
        return found.config if found else ModelServerConfig()

    def served_versions(self, name: str) -> tuple[int, ...]:
        """The versions of a model that services with a config file are to serve, ascending."""
        configs = [each.config for each in self.sets] or [self.serving]
        found = (config.get(name) for config in configs)
        return tuple(
            sorted({number for model in found if model for number in model.policy.select(self.published[name])})
        )

    def models_of(self, service: AnyService) -> dict[str, dict[str, Any]]:
        """What requests to a service find, by the name they use: policy, versions, labels."""
        published = self.published
        if service.spec.config_file:
            listed = self.config_of(service).models
            return {model.name: serving.declared(model, published[model.name]) for model in listed}
        if not service.spec.model or not answers_as_tf_serving(service):
            return {}
        return {service.request_name: serving.declared_single(published.get(service.spec.model, ()))}

    def single_versions(self, service: AnyService) -> list[int]:
        """The versions a service of one model is to serve; none for others, and servers that are not TF Serving."""
        if service.spec.config_file or not answers_as_tf_serving(service):
            return []
        return serving.single_versions(self.published.get(service.spec.model, ()))


_NO_TEXTS: Final = frozenset(f"{NAMESPACE}:{each.key}" for each in options(StackOptions) if each.plain_type is not str)


def parse(
    raw: Mapping[str, Any],
    project_dir: Path,
    *,
    secret_keys: Collection[str] | None = None,
    cache: HashCache | None = None,
    whole: bool = True,
    found: FindVersionsResult | None = None,
) -> Settings:
    """Reads and checks a whole stack config.

    Args:
        raw: values by full key (``tf-serving:models``), text or structured. Keys of other namespaces are left alone.
        project_dir: what relative model directories are relative to.
        secret_keys: the keys Pulumi holds as secret; ``None`` where that is not known.
        cache: what is known of model files from earlier runs.
        whole: a stack needs services; a part of one, such as a component alone, does not.
        found: what is in the directories that :attr:`Settings.asked` names; ``None``: nobody has looked yet, and
            whatever depends on it is left for the second time.

    Raises:
        ConfigError: every problem of the stack.
    """
    # A key with nothing behind it, as the CLI hands it over: what stood there has become a comment, say.
    values = {str(key): None if value == "" and key in _NO_TEXTS else value for key, value in raw.items()}
    known = cache or HashCache()
    config = StackConfig(
        raw=values, project_dir=project_dir, secret_keys=secret_keys, cache=known, whole=whole, found=found
    )
    return _Parser(config).parse()


class _Parser:
    """State of one :func:`parse`: what was read so far, and what was wrong with it."""

    def __init__(self, config: StackConfig) -> None:
        self.config = config
        self.service_defaults: dict[str, Any] = {}
        self.entries: dict[str, Mapping[str, Any]] = {}  # of the services, without the defaults, by path

    def parse(self) -> Settings:
        self._check_keys()
        endpoints = read_endpoints(self.config)
        alicloud = read_alicloud(self.config, endpoints)
        bucket = read_bucket(self.config)
        root, config_file_name = read_model_root(self.config), read_config_file_name(self.config, bucket)
        path = f"{NAMESPACE}:rolloutSeconds"
        rollout_seconds = self.config.reader(path).integer(self.config.raw.get(path), path, least=0, unit="seconds")
        path = f"{NAMESPACE}:exportModels"
        told = self.config.raw.get(path)
        export_models = None if told is None else self.config.reader(path).boolean(told, path)
        declared, models = read_models(self.config)
        context = ServiceContext(
            region=alicloud.region,
            bucket=bucket.name,
            root=root,
            paths={
                model.name: model.path
                for model in models
                if model.path not in ("", model.name) and not model.is_elsewhere
            },
            declared=declared,
            config_file_name=config_file_name,
        )
        cluster, pools = self._kubernetes(bucket, root, endpoints)
        services, ack_services = self._services(context, cluster, pools)
        self._check_config_file_name(config_file_name, ack_services)
        models = other_mounts.located(self.config, models, (*services, *ack_services))
        models = bucket_versions.found(self.config, models, declared, (*services, *ack_services))
        models = bucket_versions.kept(self.config, models, declared, (*services, *ack_services))
        models = shared(models, {model.name: model for model in models})
        in_bucket = {model.name: model.versions for model in models if model.from_bucket}
        services = bucket_versions.chosen(services, declared, in_bucket)
        ack_services = bucket_versions.chosen(ack_services, declared, in_bucket)
        declared = bucket_versions.spelt_out(declared, in_bucket)
        bucket_versions.warn_of_servers_that_look_themselves(self.config, in_bucket, (*services, *ack_services))
        serving, sets = read_serving(self.config, declared, models, (*services, *ack_services))
        sets = tuple(replace(each, default_file=config_file_name) for each in sets)
        ack_services = self._checked(ack_services, serving, {model.name: model.versions for model in models})
        models = with_tags(self.config, models, (*services, *ack_services))
        models = with_gates(self.config, models, serving, sets, (*services, *ack_services))
        check_batching(self.config, models, (*services, *ack_services), serving)
        traffic = read_traffic(self.config, services, ack_services, [model.name for model in serving.models], cluster)
        services = _in_groups(services, traffic)
        if self.config.problems:
            path = f"{NAMESPACE}:serviceDefaults"
            raise ConfigError(
                service_defaults.written_in_defaults(self.config.problems, path, self.entries, self.service_defaults)
            )
        warnings = self.config.warnings
        for pool in pools.values():
            warnings += [f"GPU node pool {pool.name}: {warning}" for warning in kubernetes.pool_warnings(pool)]
        for ack_service in ack_services:
            warnings += [f"service {ack_service.name}: {warning}" for warning in kubernetes.warnings(ack_service.spec)]
        for service in services:
            found = [*eas_spec.warnings(service.spec), *alert_warnings(service)]
            # In a scenario deployment nobody can set a flag, and another server has none of these.
            if service.spec.deployment != "scenario" and eas_spec.runs_tf_serving(service.spec):
                # On a local stack the bucket is a directory, and looking at it often costs nothing.
                found += flags.warnings(eas_spec.tf_serving_flags(service.spec), remote_mount=not endpoints.all)
            warnings += [f"service {service.name}: {warning}" for warning in found]
        return Settings(
            alicloud=alicloud,
            endpoints=endpoints,
            bucket=bucket,
            model_root=root,
            config_file_name=config_file_name,
            models=models,
            serving=serving,
            sets=sets,
            services=services,
            ack_services=ack_services,
            kubernetes=cluster,
            gpu_node_pools=tuple(pools.values()),
            traffic=traffic,
            rollout_seconds=rollout_seconds,
            export_models=len(models) <= MOST_EXPORTED if export_models is None else export_models,
            warnings=tuple(self.config.warnings),
            notes=tuple(filter(None, [bucket_versions.note(models)])),
            asked=bucket_versions.asked(self.config, models, bucket.name, root),
        )

    def _check_keys(self) -> None:
        problems = self.config.problems
        for key in self.config.raw:
            namespace, colon, name = key.partition(":")
            if not colon:
                message = "the config key has no namespace"
                problems.append(Problem(key or '""', message, f"{NAMESPACE}:{key}"))
            elif namespace == NAMESPACE and name not in keys(StackOptions):
                first, dotted = re.split(r"[.\[]", name)[0], bool({".", "["} & set(name))
                if dotted and first in keys(StackOptions):
                    place = re.sub(r"\.labels\[\d*\]$", ".labels.LABEL", key)  # labels are no list
                    fix = f"pulumi config rm '{key}'; pulumi config set --path '{place}' VALUE"
                elif name in ("model_config_list", "config"):
                    fix = f"write {NAMESPACE}:models"
                else:
                    fix = _full(did_you_mean(name, keys(StackOptions)), NAMESPACE)
                problems.append(Problem(key, f"unknown key {name!r}", ", ".join(keys(StackOptions)), fix))
            elif namespace == "alicloud" and name in _OTHER_CREDENTIALS:
                fix = "take the role before you run Pulumi and hand on its temporary credentials in the environment"
                message = "only one of this stack's two providers would use these credentials"
                allowed = "accessKey, secretKey and securityToken, profile, or ALIBABA_CLOUD_* environment variables"
                problems.append(Problem(key, message, allowed, fix))
            elif key == "alicloud:endpoints":
                message = "these endpoints would reach only one of this stack's two providers"
                problems.append(Problem(key, message, fix=f"set {NAMESPACE}:endpoints to {{oss: ..., eas: ...}}"))
            elif namespace == "alicloud" and name not in keys(AlicloudSettings):
                fix = _full(did_you_mean(name, keys(AlicloudSettings)), "alicloud")
                message = f"{name!r} is not a setting this project hands to its providers"
                problems.append(Problem(key, message, ", ".join(keys(AlicloudSettings)), fix))
            elif namespace not in (NAMESPACE, "alicloud") and _squeezed(namespace) in ("tfserving", "aliyun"):
                meant = NAMESPACE if _squeezed(namespace) == "tfserving" else "alicloud"
                fix = f"write {meant}:{name}"
                problems.append(Problem(key, f"nothing reads namespace {namespace!r}", meant, fix))

    def _kubernetes(
        self, bucket: BucketSettings, root: str, endpoints: Endpoints
    ) -> tuple[KubernetesSettings | None, dict[str, GpuNodePoolSpec]]:
        """The cluster, and its GPU node pools."""
        config = self.config
        path, pools_path = f"{NAMESPACE}:kubernetes", f"{NAMESPACE}:gpuNodePools"
        if all(config.raw.get(key) in (None, "{}", {}) for key in (path, pools_path)):
            return None, {}
        base = ModelVolume(bucket=bucket.name, root=root)
        if endpoints.all:
            base = ModelVolume(bucket=bucket.name, root=root, endpoint=endpoints.oss, scheme="http")
        reader = config.reader(path)
        secret = config.is_secret(path)
        local = bool(endpoints.all)
        settings = read_kubernetes(reader, config.raw.get(path), path, config.project_dir, secret, local, base)
        pools = read_pools(config.reader(pools_path), config.raw.get(pools_path), pools_path, settings)
        if not {path, pools_path} & {problem.path for problem in config.problems}:  # else nobody has said a cluster
            check_kubeconfig(reader, settings, join_path(path, "kubeconfig"), local=local)
        return settings, pools

    def _check_config_file_name(self, config_file_name: str, services: tuple[AckServiceSettings, ...]) -> None:
        readers = [service.name for service in services if service.spec.config_file]
        if readers and config_file_name != DEFAULT_FILE:
            path = f"{NAMESPACE}:configFileName"
            message = f"service {readers[0]} runs on Kubernetes, where the file is called {DEFAULT_FILE}"
            self.config.problems.append(Problem(path, message, DEFAULT_FILE, "remove it"))

    def _services(
        self,
        context: ServiceContext,
        cluster: KubernetesSettings | None,
        pools: Mapping[str, GpuNodePoolSpec],
    ) -> tuple[tuple[ServiceSettings, ...], tuple[AckServiceSettings, ...]]:
        """The services on PAI-EAS, and those on the cluster, which are still to be checked."""
        path = f"{NAMESPACE}:services"
        reader = self.config.reader(path)
        secret = self.config.is_secret(path)
        value = self.config.raw.get(path)
        at = f"{NAMESPACE}:serviceDefaults"
        known = sorted({*SERVICE_KEYS, *ACK_SERVICE_KEYS} - {"target"})
        self.service_defaults = self.config.reader(at).mapping(self.config.raw.get(at), at, known)
        if secret is False:
            secret = self.config.is_secret(at)
        of_the_stack = self._alerts()
        fitted: set[str] = set()
        given = reader.mapping(value, path, allowed="service names with their deployment")
        reader.same_but_for_case(given, path, "service")
        if self.config.whole and not given and (value is None or isinstance(value, Mapping) or value == "{}"):
            reader.add(path, "no service is declared", "at least one service", "add a service")
        none = KubernetesSettings(volume=ModelVolume(bucket=context.bucket, root=context.root))
        ack_context = AckContext(stack=context, kubernetes=cluster or none, pools=pools)
        services: list[ServiceSettings] = []
        ack_services: list[AckServiceSettings] = []
        for name, entry in given.items():
            where = join_path(path, name)
            if (self.service_defaults or of_the_stack) and (
                entry is None or (isinstance(entry, str) and entry.lstrip()[:1] == "{")
            ):
                entry = reader.mapping(entry, where)
            fields = entry if isinstance(entry, Mapping) else {}
            target = fields.get("target", TARGETS[0])
            if isinstance(entry, Mapping) and self.service_defaults and target in TARGETS:
                self.entries[where] = fields
                takes = ACK_SERVICE_KEYS if target == "ack" else SERVICE_KEYS
                entry = fields = service_defaults.merge(fields, self.service_defaults, takes)
                fitted |= fields.keys()
            if isinstance(entry, Mapping) and of_the_stack and target in TARGETS:
                entry = fields = {**fields, "alerts": merged(fields.get("alerts"), of_the_stack)}
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
            self.config.warnings.append(f"{at}: {', '.join(unfit)} fits no service of this stack")
        return tuple(services), tuple(ack_services)

    def _alerts(self) -> Mapping[str, Any]:
        """What the stack says of alerts; empty where it is wrong, which is told once and not of every service."""
        path = f"{NAMESPACE}:alerts"
        reader = self.config.reader(path)
        before = len(self.config.problems)
        given = reader.mapping(self.config.raw.get(path), path)
        read_alerts(reader, given or None, path)
        return given if len(self.config.problems) == before else {}

    def _checked(
        self,
        services: tuple[AckServiceSettings, ...],
        serving: ModelServerConfig,
        published: Mapping[str, tuple[int, ...]],
    ) -> tuple[AckServiceSettings, ...]:
        path = f"{NAMESPACE}:services"
        reader = self.config.reader(path)
        return tuple(
            check_ack_service(
                reader,
                service,
                join_path(path, service.name),
                rollout.spelt_out(model_sets.chosen(serving, service.spec.models), published),
            )
            for service in services
        )


def _in_groups(
    services: tuple[ServiceSettings, ...], groups: tuple[TrafficSettings, ...]
) -> tuple[ServiceSettings, ...]:
    """The services on PAI-EAS, each made in its group."""
    group = {member: each.name for each in groups for member in each.weights}
    return tuple(replace(each, spec=replace(each.spec, group=group.get(each.name, ""))) for each in services)


def _squeezed(text: str) -> str:
    return re.sub(r"[^a-z]", "", text.lower())


def _full(hint: str, namespace: str) -> str:
    return hint.replace("'", f"'{namespace}:", 1)
