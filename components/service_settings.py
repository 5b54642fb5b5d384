"""One service of the stack config: read into a :class:`tfserving.eas_spec.ServiceSpec`, with what Pulumi adds to it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from components.entry import EntryReader, Timeouts
from components.reader import Reader
from tfserving import eas_spec
from tfserving.eas_spec import Autoscaler, HealthChecks, InstanceType, Probe, RollingStrategy, ScaleMetric, Vpc
from tfserving.model_config import did_you_mean, join_path

_SPEC_TEXTS = {
    "model": "model",
    "modelName": "model_name",
    "image": "image",
    "mountPath": "mount_path",
    "resource": "resource",
    "gateway": "gateway",
    "workspaceId": "workspace_id",
}
_SPEC_INTEGERS = {
    "port": "port",
    "replicas": "replicas",
    "cpu": "cpu",
    "memory": "memory",
    "configPollSeconds": "config_poll_seconds",
    "gpu": "gpu",
    "gpuMemory": "gpu_memory",
    "gpuCorePercentage": "gpu_core_percentage",
    "gpuCardMemory": "gpu_card_memory",
    "startupSeconds": "startup_seconds",
    "rpcKeepaliveMs": "rpc_keepalive_ms",
}
_SPEC_BOOLEANS = {
    "grpc": "grpc",
    "configFile": "config_file",
    "allowLabelsForUnavailableVersions": "allow_labels_for_unavailable_versions",
    "disableSpotProtection": "disable_spot_protection",
}
_KEYS = (
    "deployment",
    *_SPEC_TEXTS,
    *_SPEC_INTEGERS,
    *_SPEC_BOOLEANS,
    "command",
    "script",
    "flags",
    "batching",
    "monitoring",
    "instanceType",
    "instanceTypes",
    "vpc",
    "autoscaler",
    "rollingStrategy",
    "healthCheck",
    "env",
    "token",
    "labels",
    "extraConfig",
    "reachable",
    "adopt",
    "timeouts",
)
_INSTANCE_TYPE_KEYS = ("type", "spotPriceLimit", "capacity")
_VPC_KEYS = ("vpcId", "vswitchIds", "securityGroupId")
_AUTOSCALER_SECONDS = {
    "scaleUpStabilizationSeconds": "scale_up_stabilization_seconds",
    "scaleDownStabilizationSeconds": "scale_down_stabilization_seconds",
    "scaleToZeroGraceSeconds": "scale_to_zero_grace_seconds",
}
_CHECKS = ("startup", "liveness", "readiness")
_PROBE_KINDS = ("http", "tcp", "exec")
_PROBE_KEYS = ("kind", "path", "command")
_PROBE_INTEGERS = {
    "port": "port",
    "initialDelaySeconds": "initial_delay_seconds",
    "periodSeconds": "period_seconds",
    "timeoutSeconds": "timeout_seconds",
    "successThreshold": "success_threshold",
    "failureThreshold": "failure_threshold",
}
_SHAPING_KEYS = ("deployment", "grpc", "configFile", "model", "port", "command", "script")
_STACK_KEYS = ("region", "bucket", "modelRoot")  # part of a spec, but said once for the whole stack and checked there


@dataclass(frozen=True, kw_only=True)
class ServiceContext:
    """What a service takes from the rest of the stack.

    Attributes:
        region: region of the stack.
        bucket: bucket with the models.
        root: key prefix of the model directories.
        models: names of the stack's models.
        labels: some model has version labels.
    """

    region: str
    bucket: str
    root: str
    models: tuple[str, ...]
    labels: bool


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
class ServiceSettings:
    """One service.

    Attributes:
        name: service name.
        spec: everything that ends up in EAS's service JSON.
        reachable: the machine that runs Pulumi can reach the service; if not, nothing it serves is proven.
        adopt: take the service over if one of that name exists that is not this stack's.
        timeouts: how long Pulumi waits.
        start_files: further files it reads at start.
        secret_values: values of its environment and of ``extraConfig`` may be secret.
    """

    name: str
    spec: eas_spec.ServiceSpec
    reachable: bool = True
    adopt: bool = False
    timeouts: Timeouts = field(default_factory=Timeouts)
    start_files: tuple[StartFile, ...] = ()
    secret_values: bool = False

    @property
    def protocol(self) -> Literal["http", "grpc"]:
        """How predictions are asked for."""
        return "grpc" if self.spec.grpc else "http"

    @property
    def request_name(self) -> str:
        """The name of a single model in requests."""
        return eas_spec.model_name(self.spec)


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
        super().__init__(reader, name, value, path, _KEYS)
        self.context = context

    def read(self, secret: bool | None) -> ServiceSettings:
        if not self.given:
            return self._empty()
        self._deployment()
        for key, name in _SPEC_TEXTS.items():
            self._keep(key, name, self.reader.text)
        for key, name in _SPEC_INTEGERS.items():
            self._keep(key, name, self.reader.integer)
        for key, name in _SPEC_BOOLEANS.items():
            self._keep(key, name, self.reader.boolean)
        self._keep("command", "command", self.reader.text)
        self._keep("script", "script", lambda value, at: self.reader.text(value, at, lines=True))
        self._keep("flags", "flags", self._flags)
        self._instance_types()
        self._keep("vpc", "vpc", self._vpc)
        self._keep("autoscaler", "autoscaler", self._autoscaler)
        self._keep("rollingStrategy", "rolling_strategy", self._rolling_strategy)
        self._keep("healthCheck", "health_checks", self._health_checks)
        self._keep("env", "env", self._env)
        self._keep("labels", "labels", self._texts)
        self._keep("extraConfig", "extra_config", self.reader.mapping)
        self._token(secret)
        start_files = self._start_files()
        timeouts = self._timeouts()
        reachable = self.reader.boolean(self.given.get("reachable"), self._at("reachable"), True)
        adopt = self.reader.boolean(self.given.get("adopt"), self._at("adopt"))
        spec = eas_spec.ServiceSpec(
            name=self.name,
            region=self.context.region,
            bucket=self.context.bucket,
            root=self.context.root,
            uses_labels=self.context.labels and self.fields.get("config_file", False),
            **self.fields,
        )
        self._check(spec)
        return ServiceSettings(
            name=self.name,
            spec=spec,
            reachable=reachable,
            adopt=adopt,
            timeouts=timeouts,
            start_files=start_files,
            secret_values=bool(secret),
        )

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
        items = self.reader.items(value, path, allowed)
        return tuple(self._instance_type(item, f"{path}[{index}]") for index, item in enumerate(items))

    def _instance_type(self, value: Any, path: str) -> InstanceType:
        reader = self.reader
        if isinstance(value, str) and value.lstrip()[:1] != "{":
            return InstanceType(type=reader.text(value, path))
        given = reader.mapping(value, path, _INSTANCE_TYPE_KEYS, "the name of an instance type, or a mapping")
        name = reader.text(given.get("type"), join_path(path, "type"))
        if not name:
            reader.add(path, "the instance type has no name", "such as ecs.c7.large", "set type")
        limit = given.get("spotPriceLimit")
        capacity = given.get("capacity")
        return InstanceType(
            type=name,
            spot_price_limit=None
            if limit is None
            else reader.number(limit, join_path(path, "spotPriceLimit"), allowed="a price above 0, in USD per hour"),
            capacity=None if capacity is None else self._number_or_share(capacity, join_path(path, "capacity")),
        )

    def _vpc(self, value: Any, path: str) -> Vpc | None:
        reader = self.reader
        given = reader.mapping(value, path, _VPC_KEYS)
        switches = given.get("vswitchIds")
        if isinstance(switches, str) and switches.lstrip()[:1] != "[":
            switches = [part.strip() for part in switches.split(",")]
        at = join_path(path, "vswitchIds")
        return Vpc(
            vpc_id=reader.text(given.get("vpcId"), join_path(path, "vpcId")),
            vswitch_ids=reader.texts(switches, at, "a list of vSwitch ids"),
            security_group_id=reader.text(given.get("securityGroupId"), join_path(path, "securityGroupId")),
        )

    def _autoscaler(self, value: Any, path: str) -> Autoscaler:
        reader = self.reader
        given = reader.mapping(value, path, ("min", "max", "metrics", *_AUTOSCALER_SECONDS))
        for key in ("min", "max"):
            if given and given.get(key) is None:
                reader.add(join_path(path, key), f"{key} is missing", "a number of replicas")
        at = join_path(path, "metrics")
        metrics = reader.mapping(given.get("metrics"), at, allowed="metrics with their thresholds, such as {qps: 50}")
        seconds = {
            name: reader.optional_integer(given[key], join_path(path, key), least=0, unit="seconds")
            for key, name in _AUTOSCALER_SECONDS.items()
            if given.get(key) is not None
        }
        return Autoscaler(
            min=reader.integer(given.get("min"), join_path(path, "min"), 1),
            max=reader.integer(given.get("max"), join_path(path, "max"), 1),
            metrics=tuple(
                ScaleMetric(name=name, threshold=reader.number(item, join_path(at, name)))
                for name, item in metrics.items()
            ),
            **seconds,
        )

    def _rolling_strategy(self, value: Any, path: str) -> RollingStrategy:
        given = self.reader.mapping(value, path, ("maxSurge", "maxUnavailable"))
        names = {"maxSurge": "max_surge", "maxUnavailable": "max_unavailable"}
        return RollingStrategy(
            **{
                name: self._number_or_share(given[key], join_path(path, key))
                for key, name in names.items()
                if given.get(key) is not None
            }
        )

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
        given = reader.mapping(value, path, (*_PROBE_KEYS, *_PROBE_INTEGERS))
        kind = reader.choice(given.get("kind"), join_path(path, "kind"), _PROBE_KINDS)
        fields: dict[str, Any] = {"kind": kind}
        for key, fits in (("path", "http"), ("command", "exec")):
            if given.get(key) is None:
                continue
            at = join_path(path, key)
            if kind != fits:
                reader.add(at, f"a check of kind {kind} has no {key}", f"only with kind: {fits}", f"remove {key}")
            elif key == "path":
                fields[key] = reader.text(given[key], at)
            else:
                fields[key] = reader.texts(given[key], at, "a list of words")
        for key, name in _PROBE_INTEGERS.items():
            if given.get(key) is not None:
                fields[name] = reader.integer(given[key], join_path(path, key), 1)
        return Probe(**fields)

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
            StartFile(kind=kind, name=f"{self.name}.{kind}-{_digest(text)}.pbtxt", text=text)
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


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
