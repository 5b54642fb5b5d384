"""What serves: services on PAI-EAS, and what services answer for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from tfserving.contract.gates import GateReport, ModelGate
from tfserving.contract.kinds import Version
from tfserving.contract.parts import MODELS, ClusterInputs, ConfigMapInputs, Outputs, Pods, ServedVersions
from tfserving.contract.records import Contract, Record, prop
from tfserving.model_config import ModelServerConfig

RUNNING = "Running"


class Protocol(StrEnum):
    """The protocol of a service."""

    HTTP = "http"
    GRPC = "grpc"


@dataclass(frozen=True, kw_only=True)
class Probe(Record):
    """What must answer before a service counts as ready.

    Attributes:
        protocol: its protocol.
        models: names of models.
        path: what to ask a server for that is not TensorFlow Serving.
    """

    protocol: Protocol = Protocol.HTTP
    models: tuple[str, ...] = ()
    path: str | None = None


@dataclass(frozen=True, kw_only=True)
class ScaleStrategy(Record):
    """A metric that an autoscaler goes by.

    Attributes:
        metric_name: such as ``qps`` or ``gpu[prom_gpu_util]``.
        threshold: what a replica takes of it.
        service: service that the metric is of; default: this one.
    """

    metric_name: str
    threshold: float
    service: str | None = None


@dataclass(frozen=True, kw_only=True)
class Autoscaler(Record):
    """An autoscaler, as the EAS API takes it.

    Attributes:
        min: least replicas.
        max: most replicas.
        scale_strategies: metrics, each with its threshold.
        behavior: how fast it scales up, down and to zero.
    """

    min: int
    max: int
    scale_strategies: tuple[ScaleStrategy, ...]
    behavior: Mapping[str, Mapping[str, int]] | None = None


@dataclass(frozen=True, kw_only=True)
class ScaleJob(Record):
    """A job of a cron scaler.

    Attributes:
        name: its name.
        schedule: cron expression of six fields: second, minute, hour, day, month, weekday.
        target_size: replicas from then on.
        time_zone: time zone of the expression, such as ``Asia/Shanghai``.
    """

    name: str
    schedule: str
    target_size: int
    time_zone: str | None = None


@dataclass(frozen=True, kw_only=True)
class CronScaler(Record):
    """A cron scaler, as the EAS API takes it.

    Attributes:
        scale_jobs: its jobs.
        exclude_dates: cron expressions of days without any job; default: none.
    """

    scale_jobs: tuple[ScaleJob, ...]
    exclude_dates: tuple[str, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class EasServiceInputs(Record):
    """Inputs of EasService.

    Attributes:
        name: service name; a change replaces the service.
        spec: the service JSON, nested, exactly as EAS takes it.
        owner: ``<project>/<stack>``: who may change the service.
        probe: what must answer before the service counts as ready.
        adopt: take over a service of that name that exists and has no owner, or another one.
        reachable: whether the machine that runs Pulumi reaches the service.
        autoscaled: a scaler owns the number of replicas, a change of it is no drift.
        autoscaler: the autoscaler; default: none.
        cron_scaler: the cron scaler; default: none.
        other_services: by name: models that services of the stack with other config files are to serve. Before the
            service starts anew without one of them, another service serves it.
        status: the state to be in.
    """

    name: str = prop(replaces=True)
    spec: Mapping[str, Any]
    owner: str
    probe: Probe = prop(factory=Probe, compared=False)
    adopt: bool = prop(False, compared=False)
    reachable: bool = prop(True, compared=False)
    autoscaled: bool = prop(False, compared=False)
    autoscaler: Autoscaler | None = None
    cron_scaler: CronScaler | None = None
    other_services: Mapping[str, tuple[str, ...]] | None = prop(None, compared=False)
    status: str = prop(RUNNING, compared=False, given=False)


@dataclass(frozen=True, kw_only=True)
class EasServiceOutputs(Outputs):
    """Outputs of EasService.

    Attributes:
        url: base URL of an HTTP service, without a final slash; empty for gRPC.
        target: ``host:port`` of a gRPC service; empty for HTTP.
        token: access token.
        service_id: id given by EAS.
        status: state of the service.
        owner: ``<project>/<stack>`` by the service's label.
        baseline: the service JSON as EAS stored it right after the last write, without secrets.
        taken: another create holds the service.
    """

    url: str
    target: str
    token: str = prop(secret=True)
    service_id: str
    status: str
    owner: str
    baseline: Mapping[str, Any]
    taken: bool | None = None


EAS_SERVICE = Contract(
    "EasService",
    "A service on PAI-EAS, waited for until its gateway answers.",
    EasServiceInputs,
    EasServiceOutputs,
    echo=("name", "owner", "reachable"),
)


@dataclass(frozen=True, kw_only=True)
class Service(Record):
    """How a service is asked: by one address for all its replicas, or pod by pod on Kubernetes.

    Attributes:
        url: base URL of an HTTP service.
        target: ``host:port`` of a gRPC service.
        token: access token.
        pods: its pods, where it runs on Kubernetes.
        reachable: whether the machine that runs Pulumi can ask it; by default it can.
    """

    url: str | None = None
    target: str | None = None
    token: str | None = prop(None, secret=True)
    pods: Pods | None = None
    reachable: bool = True


@dataclass(frozen=True, kw_only=True)
class ConfiguredService(Service):
    """A service that reads the model config file.

    Attributes:
        reads: whether it does; by default it does.
        poll_seconds: how often it reads it; 0, the default, is only when it starts.
    """

    reads: bool = True
    poll_seconds: float = 0


@dataclass(frozen=True, kw_only=True)
class NamedService(Service):
    """A service by its name.

    Attributes:
        name: service name.
    """

    name: str


@dataclass(frozen=True, kw_only=True)
class ServedConfigInputs(ConfigMapInputs):
    """Inputs of ServedConfig.

    Attributes:
        bucket: bucket name.
        key: object key of the model config file.
        owner: ``<project>/<stack>``.
        models: wanted models.
        published: version numbers in the bucket, by model.
        services: services that read the file, by name.
        mount_path: where services see the directory of the config file; without it, models lie beside the file by name.
        wait_seconds: how long one step may take; default: 120, or longer for slow polling.
        other_services: by name: models that services of the stack with other config files are to serve. Before a model
            is taken out of this file, another service serves it.
        names_versions: the stack has further model config files: this one names versions whatever the policies say, and
            RetiredVersions removes those that are dropped once every file is rolled out.
        served: by service and model: the versions and labels it is to answer for.
        file: what the model config file is to say.
        gates: what a version of a model has to prove before requests move to it, by model. A change of it alone moves
            nothing.
    """

    bucket: str
    key: str
    owner: str
    models: ModelServerConfig = prop(kind=MODELS)
    published: Mapping[str, tuple[Version, ...]]
    services: Mapping[str, ConfiguredService]
    mount_path: str | None = prop(None, compared=False)
    wait_seconds: int | None = prop(None, compared=False)
    other_services: Mapping[str, tuple[str, ...]] | None = prop(None, compared=False)
    names_versions: bool | None = None
    served: Mapping[str, Mapping[str, ServedVersions]] | None = prop(None, compared=False, given=False)
    file: ModelServerConfig | None = prop(None, compared=False, given=False, kind=MODELS)
    gates: Mapping[str, ModelGate] | None = prop(None, compared=False)


@dataclass(frozen=True, kw_only=True)
class ServedConfigOutputs(Outputs):
    """Outputs of ServedConfig.

    Attributes:
        served: by service and model: the versions and labels it does answer for.
        file: what the model config file does say.
        unproven: services that cannot be asked from here, so nothing is proven.
        obsolete: by model: versions whose files are still to be removed.
        unasked: services that run and did not answer, and why.
        gate_reports: what came of gates, by model, and there by version: the newest ones.
        return_to: what the model config file said before an update whose gates have not passed yet.
        previous: by model and label: the versions that the label named before, the last one last.
    """

    served: Mapping[str, Mapping[str, ServedVersions]]
    file: ModelServerConfig = prop(kind=MODELS)
    unproven: tuple[str, ...]
    obsolete: Mapping[str, tuple[Version, ...]]
    unasked: Mapping[str, str] | None = None
    gate_reports: Mapping[str, Mapping[str, GateReport]] | None = None
    return_to: ModelServerConfig | None = prop(None, kind=MODELS)
    previous: Mapping[str, Mapping[str, tuple[Version, ...]]] | None = None


SERVED_CONFIG = Contract(
    "ServedConfig",
    "What the services that read a model config file serve, rolled out in steps that fail no request.",
    ServedConfigInputs,
    ServedConfigOutputs,
)


@dataclass(frozen=True, kw_only=True)
class ServedModelInputs(ClusterInputs):
    """Inputs of ServedModel.

    Attributes:
        service: the service.
        model: the model's name in requests.
        versions: versions that are to be AVAILABLE, and no other.
        wait_seconds: how long that may take; default: 120.
        served: by model: the versions that are to answer.
        gate: what a version has to prove once it is AVAILABLE. A change of it alone tries nothing.
    """

    service: NamedService
    model: str
    versions: tuple[Version, ...]
    wait_seconds: int | None = prop(None, compared=False)
    served: Mapping[str, ServedVersions] | None = prop(None, compared=False, given=False)
    gate: ModelGate | None = prop(None, compared=False)


@dataclass(frozen=True, kw_only=True)
class ServedModelOutputs(Outputs):
    """Outputs of ServedModel.

    Attributes:
        served: by model: the versions that do answer.
        unproven: the service cannot be asked from here, so nothing is proven.
        unasked: why the service did not answer, though it runs.
        gate_reports: what came of gates, by model, and there by version: the newest ones.
        return_to: the versions before an update whose gate has not passed yet.
    """

    served: Mapping[str, ServedVersions]
    unproven: bool
    unasked: str | None = None
    gate_reports: Mapping[str, Mapping[str, GateReport]] | None = None
    return_to: tuple[Version, ...] | None = None


SERVED_MODEL = Contract(
    "ServedModel",
    "What a service of one model serves, proven on every replica.",
    ServedModelInputs,
    ServedModelOutputs,
)
