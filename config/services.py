"""One service of the stack config: read into a :class:`tfserving.eas_spec.ServiceSpec`, with what Pulumi adds to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from config.alerts import read_alerts
from config.option_reader import number_or_share, read_plain, with_blanks
from config.reader import Reader
from config.service_entry import EntryReader, Timeouts
from tfserving import eas_spec, model_sets, server_config
from tfserving.alerts import Alerts, alarms, unseen
from tfserving.eas_spec import Autoscaler, HealthChecks, InstanceType, Probe, RollingStrategy, ScaleMetric, Vpc
from tfserving.model_config import ModelServerConfig, did_you_mean
from tfserving.options import ACCESS, PLACE, START, keys, option
from tfserving.property_path import join_path

_OWN_WAY = ("deployment", "script", "env", "token", "models")
"""Keys whose type does not say how they are read."""

_CHECKS = ("startup", "liveness", "readiness")
_PROBE_KINDS = ("http", "tcp", "exec")
_SHAPING_KEYS = ("deployment", "grpc", "configFile", "model", "port", "command", "script")
_STACK_KEYS = ("region", "bucket", "modelRoot")  # part of a spec, but said once for the whole stack and checked there


@dataclass(frozen=True, kw_only=True)
class ServiceContext:
    """What a service takes from the rest of the stack.

    Attributes:
        region: region of the stack.
        bucket: bucket with the models.
        root: key prefix of the model directories.
        declared: the stack's models, as they are to be served.
        config_file_name: name of the config file of all models, below the root.
        paths: directories below the root of models that are not called like theirs.
    """

    region: str
    bucket: str
    root: str
    declared: ModelServerConfig
    paths: Mapping[str, str] = field(default_factory=dict)
    config_file_name: str = eas_spec.ServiceSpec.config_file_name

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the stack's models."""
        return self.declared.names

    def uses_labels(self, fields: Mapping[str, Any]) -> bool:
        """Whether a service with a config file, by the fields of its spec, has version labels."""
        served = model_sets.chosen(self.declared, fields.get("models", {}))
        return bool(fields.get("config_file")) and any(model.labels for model in served.models)


@dataclass(frozen=True, kw_only=True)
class StartFile:
    """A file TensorFlow Serving reads at start, next to the models in the bucket.

    Its name holds a digest of its text: a change is a new file and a new start command, and so rolls the replicas.

    Attributes:
        kind: ``batching`` or ``monitoring``.
        name: file name under the model root.
        text: what is in it.
    """

    kind: Literal["batching", "monitoring"]
    name: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Monitoring:
    """The monitoring config file.

    Attributes:
        enable: metrics are offered.
        path: where, over HTTP.
    """

    enable: bool = True
    path: str = server_config.METRICS_PATH


@dataclass(frozen=True, kw_only=True)
class StartFiles:
    """What the start files of a service say.

    Attributes:
        batching: ``BatchingParameters`` by the proto's field names, and ``--enable_batching``; a change rolls the
            replicas. Checked against the models' signatures.
        monitoring: Prometheus metrics; ``true`` is at ``/monitoring/prometheus/metrics``, a mapping has their ``path``.
    """

    batching: Mapping[str, Any] = option(factory=dict, topic=START)
    monitoring: bool | Monitoring = False


@dataclass(frozen=True, kw_only=True)
class OneInstanceType:
    """The short way to write ``instanceTypes``.

    Attributes:
        instance_type: one instance type of public resources.
    """

    instance_type: str | InstanceType = option(eas_spec.DEFAULT_INSTANCE_TYPE, topic=PLACE)


@dataclass(frozen=True, kw_only=True)
class ServiceSettings:
    """One service.

    Attributes:
        name: service name.
        spec: everything that ends up in EAS's service JSON.
        reachable: whether the machine that runs Pulumi reaches the service. If not (VPC only), waits go by time and the
            output says that nothing was proven.
        adopt: take over a service of this name that is not this stack's, and with ``configFile`` the model config file;
            without it such a service is refused.
        timeouts: how long Pulumi waits.
        alerts: over those of the stack, key by key; ``false``: none.
        start_files: further files it reads at start.
        secret_values: values of its environment and of ``extraConfig`` may be secret.
    """

    name: str = option(configured=False)
    spec: eas_spec.ServiceSpec = option(configured=False)
    reachable: bool = option(True, topic=ACCESS)
    adopt: bool = False
    timeouts: Timeouts = option(factory=Timeouts, otherwise="30 minutes")
    alerts: Alerts | None = option(None, also=(False,), otherwise="those of the stack")
    start_files: tuple[StartFile, ...] = option((), configured=False)
    secret_values: bool = option(False, configured=False)

    @property
    def protocol(self) -> Literal["http", "grpc"]:
        """How predictions are asked for."""
        return "grpc" if self.spec.grpc else "http"

    @property
    def config_file_polls(self) -> int:
        """Seconds between two looks at the config file; 0: only at start."""
        return eas_spec.config_file_polls(self.spec)

    @property
    def request_name(self) -> str:
        """The name of a single model in requests."""
        return eas_spec.model_name(self.spec)

    @property
    def metrics_path(self) -> str:
        """Where the server's own counters are, below its address; empty where it has none."""
        return next(
            (server_config.metrics_path(each.text) for each in self.start_files if each.kind == "monitoring"), ""
        )


KEYS = tuple(key for cls in (eas_spec.ServiceSpec, OneInstanceType, StartFiles, ServiceSettings) for key in keys(cls))
"""Every key of an entry of ``tf-serving:services`` on PAI-EAS."""


def read_service(
    reader: Reader, name: str, value: Any, path: str, context: ServiceContext, secret: bool | None
) -> ServiceSettings:
    """Reads and checks one entry of ``tf-serving:services``.

    Args:
        reader: takes the problems.
        name: the entry's key.
        value: the entry.
        path: where it stands.
        context: what it takes from the rest of the stack.
        secret: whether Pulumi holds the services as secret; ``None`` where that is not known.
    """
    return _ServiceReader(reader, name, value, path, context).read(secret)


class _ServiceReader(EntryReader):
    """Reads one service on EAS."""

    def __init__(self, reader: Reader, name: str, value: Any, path: str, context: ServiceContext) -> None:
        super().__init__(reader, name, value, path, KEYS)
        self.context = context

    def read(self, secret: bool | None) -> ServiceSettings:
        if not self.given:
            return self._empty()
        self._deployment()
        self._plain(eas_spec.ServiceSpec, but=_OWN_WAY)
        self._models(self.context.declared)
        self._keep("script", "script", lambda value, at: self.reader.text(value, at, lines=True))
        self._keep("flags", "flags", self._flags)
        self._instance_types()
        self._keep("vpc", "vpc", self._vpc)
        self._keep("autoscaler", "autoscaler", self._autoscaler)
        self._keep("schedule", "schedule", self._schedule)
        self._keep("rollingStrategy", "rolling_strategy", self._rolling_strategy)
        self._keep("healthCheck", "health_checks", self._health_checks)
        self._keep("env", "env", self._env)
        self._keep("extraConfig", "extra_config", self.reader.mapping)
        self._token(secret)
        start_files = self._start_files()
        timeouts, alerts = self._timeouts(), self._alerts()
        of_ours = read_plain(self.reader, self.given, self.path, ServiceSettings)
        part = model_sets.part_of(self.name, self.fields.get("models", {}), self.context.models)
        spec = eas_spec.ServiceSpec(
            name=self.name,
            region=self.context.region,
            bucket=self.context.bucket,
            root=self.context.root,
            model_path=self.context.paths.get(self.fields.get("model", ""), ""),
            uses_labels=self.context.uses_labels(self.fields),
            config_file_name=model_sets.file_name(part, self.context.config_file_name),
            **self.fields,
        )
        self._check(spec)
        return ServiceSettings(
            name=self.name,
            spec=spec,
            timeouts=timeouts,
            alerts=alerts,
            start_files=start_files,
            secret_values=bool(secret),
            **of_ours,
        )

    def _alerts(self) -> Alerts | None:
        """Alarms of CloudMonitor, which need somebody to tell."""
        found = read_alerts(self.reader, self.given.get("alerts"), self._at("alerts"))
        if found is not None and alarms(found) and not found.contact_groups:
            at, fix = join_path(self._at("alerts"), "contactGroups"), "set tf-serving:alerts.contactGroups"
            self.reader.add(at, "alarms tell nobody", "contact groups of CloudMonitor, which exist", fix)
        return found

    def _empty(self) -> ServiceSettings:
        """An entry without any setting, or one that is no mapping: one problem is enough."""
        if len(self.reader.problems) == self.first_problem:
            self.reader.add(self.path, "the service has no settings", "at least deployment", "say how it is deployed")
        context = self.context
        spec = eas_spec.ServiceSpec(name=self.name, region=context.region, bucket=context.bucket)
        return ServiceSettings(name=self.name, spec=spec)

    def _deployment(self) -> None:
        if self.given.get("deployment") is None:
            self.reader.add(
                self._at("deployment"),
                "the deployment is missing",
                "scenario (port 8501, no flags) or custom (gRPC, flags, own images)",
                "say how the service is deployed",
            )
        self._keep("deployment", "deployment", lambda value, at: self.reader.choice(value, at, ("custom", "scenario")))

    def _instance_types(self) -> None:
        """``instanceType`` is one, ``instanceTypes`` are several in order of preference."""
        reader = self.reader
        if self.given.get("instanceType") is not None and self.given.get("instanceTypes") is not None:
            at = self._at("instanceType")
            reader.add(at, "both instanceType and instanceTypes are set", fix="keep one of them")
            return
        self._keep("instanceType", "instance_types", lambda value, at: (self._instance_type(value, at),))
        self._keep("instanceTypes", "instance_types", self._several_instance_types)

    def _several_instance_types(self, value: Any, path: str) -> tuple[InstanceType, ...]:
        allowed = "instance types, each a name, or type, spotPriceLimit and capacity"
        return tuple(self._instance_type(item, at) for at, item in self.reader.items(value, path, allowed))

    def _instance_type(self, value: Any, path: str) -> InstanceType:
        reader = self.reader
        if isinstance(value, str) and value.lstrip()[:1] != "{":
            return InstanceType(type=reader.text(value, path))
        before = len(reader.problems)
        given = reader.mapping(value, path, keys(InstanceType), "the name of an instance type, or a mapping")
        name = reader.text(given.get("type"), join_path(path, "type"))
        if not name and len(reader.problems) == before:
            reader.add(path, "the instance type has no name", "such as ecs.c7.large", "set type")
        limit = given.get("spotPriceLimit")
        capacity = given.get("capacity")
        return InstanceType(
            type=name,
            spot_price_limit=None
            if limit is None
            else reader.number(limit, join_path(path, "spotPriceLimit"), allowed="a price above 0, in USD per hour"),
            capacity=None if capacity is None else number_or_share(reader, capacity, join_path(path, "capacity")),
        )

    def _vpc(self, value: Any, path: str) -> Vpc | None:
        reader = self.reader
        given = reader.mapping(value, path, keys(Vpc))
        switches = given.get("vswitchIds")
        if isinstance(switches, str) and switches.lstrip()[:1] != "[":
            switches = [part.strip() for part in switches.split(",")]
        at = join_path(path, "vswitchIds")
        found = read_plain(reader, given, path, Vpc, but=("vswitchIds",))
        return Vpc(**with_blanks(Vpc, found) | {"vswitch_ids": reader.texts(switches, at, "a list of vSwitch ids")})

    def _autoscaler(self, value: Any, path: str) -> Autoscaler:
        def metric(name: str, item: Any, at: str) -> ScaleMetric:
            return ScaleMetric(name=name, threshold=self.reader.number(item, at))

        allowed = "metrics with their thresholds, such as {qps: 50}"
        return self._autoscaling(
            Autoscaler, value, path, counts="replicas", key="metrics", allowed=allowed, metric=metric
        )

    def _rolling_strategy(self, value: Any, path: str) -> RollingStrategy:
        given = self.reader.mapping(value, path, keys(RollingStrategy))
        return RollingStrategy(**read_plain(self.reader, given, path, RollingStrategy))

    def _health_checks(self, value: Any, path: str) -> HealthChecks:
        """``false`` is none at all, ``startup``, ``liveness`` and ``readiness`` are these and no others."""
        if value in (False, "false"):
            return HealthChecks()
        given = self.reader.mapping(value, path, _CHECKS, "false, or a mapping of startup, liveness and readiness")
        return HealthChecks(
            **{name: self._probe(given[name], join_path(path, name)) for name in _CHECKS if given.get(name) is not None}
        )

    def _probe(self, value: Any, path: str) -> Probe:
        reader = self.reader
        before = len(reader.problems)
        given = reader.mapping(value, path, keys(Probe))
        if not given and len(reader.problems) > before:
            return Probe(kind="tcp")
        before = len(reader.problems)
        kind = reader.choice(given.get("kind"), join_path(path, "kind"), _PROBE_KINDS)
        is_known = len(reader.problems) == before
        fields: dict[str, Any] = {"kind": kind}
        for key, fits in (("path", "http"), ("command", "exec")):
            if given.get(key) is None:
                continue
            at = join_path(path, key)
            if is_known and kind != fits:
                reader.add(at, f"a check of kind {kind} has no {key}", f"only with kind: {fits}", f"remove {key}")
            elif key == "path":
                fields[key] = reader.text(given[key], at)
            else:
                fields[key] = reader.texts(given[key], at, "a list of words")
        return Probe(**fields | read_plain(reader, given, path, Probe, but=("kind", "path", "command")))

    def _token(self, secret: bool | None) -> None:
        value, path = self.given.get("token"), self._at("token")
        if value is None:
            return
        if isinstance(value, str):
            self.fields["token"] = value
        else:
            self.reader.add(path, "this is not an access token", "text without spaces")
        if secret is False:
            fix = f"pulumi config set --secret --path '{path}'"
            self.reader.add(path, "the token stands in the stack file in the clear", "a secret value", fix)

    def _start_files(self) -> tuple[StartFile, ...]:
        """The batching and monitoring files; the spec learns where the container finds them."""
        texts: dict[Literal["batching", "monitoring"], str | None] = {
            "batching": self._batching_text(),
            "monitoring": self._monitoring_text(),
        }
        files = tuple(
            StartFile(kind=kind, name=server_config.start_file_name(self.name, kind, text), text=text)
            for kind, text in texts.items()
            if text is not None
        )
        mount_path = self.fields.get("mount_path", eas_spec.ServiceSpec.mount_path)
        for file in files:
            name = "batching_parameters_file" if file.kind == "batching" else "monitoring_config_file"
            self.fields[name] = f"{mount_path.rstrip('/')}/{file.name}"
        return files

    def _check(self, spec: eas_spec.ServiceSpec) -> None:
        """The rules of EAS and TensorFlow Serving, and those that need the rest of the stack."""
        known = {problem.path for problem in self.reader.problems[self.first_problem :]}
        # What a service may do hangs on these. Checks on a guess at them would only mislead.
        if not known & {self._at(key) for key in _SHAPING_KEYS}:
            known |= {self._at(key) for key in _STACK_KEYS}
            # The entry point's own ports, compared with a wrong `port`, which has its problem already.
            known |= {f"{self._at('flags')}.{name}" for name in ("port", "rest_api_port") if name not in spec.flags}
            several, used = self._at("instanceTypes"), self._at("instanceType")
            for problem in eas_spec.validate(spec, self.path):
                if self.given.get("instanceType") is not None and problem.path.startswith(several):
                    problem = replace(problem, path=used)
                if problem.path not in known:
                    self.reader.problems.append(problem)
        models = self.context.models
        if spec.model and spec.model not in models:
            at = self._at("model")
            allowed = ", ".join(models) or "none: tf-serving:models is empty"
            self.reader.add(at, f"there is no model {spec.model!r}", allowed, did_you_mean(spec.model, models))


def alert_warnings(service: ServiceSettings) -> list[str]:
    """What alarms of a service do not see."""
    if service.alerts is None:
        return []
    found = [unseen(service.alerts)]
    if service.spec.grpc and service.alerts.error_rate:
        found.append(
            "alarms count answers of the gateway by HTTP status: an error of gRPC is a 200 there, and is not counted"
        )
    return [each for each in found if each]
