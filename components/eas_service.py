"""TensorFlow Serving on PAI-EAS: one service with its endpoint and token."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pulumi

from components import arguments, names, surroundings
from components.alone import NOT_OF_A_SERVICE, Alone, OwnServing, serve_alone, served_by, stack_of_one, take_repository
from components.component import Argument, Component, PutBack, as_it_is
from components.declaration import Declaration
from components.other_packages import Alarm, AlarmArgs, BucketObject
from components.resources import EasService, ModelConfigFile
from config.reader import Reader
from config.services import OneInstanceType, ServiceSettings, StartFiles
from config.stack_config import NAMESPACE
from config.traffic import check_name
from tfserving import alerts, eas_spec, rollout, schedule
from tfserving.alerts import Alerts
from tfserving.contract.parts import Pods, ServedVersions
from tfserving.contract.records import Record, prop
from tfserving.contract.serving import Autoscaler, CronScaler, EasServiceInputs, Probe, Protocol
from tfserving.contract.storage import ModelConfigFileInputs
from tfserving.errors import Problem
from tfserving.manifest import user_cache
from tfserving.property_path import join_path


@dataclass(frozen=True, kw_only=True)
class ServicePlan:
    """What a :class:`TensorFlowServing` makes, already checked.

    Attributes:
        service: the service.
        owner: ``<project>/<stack>``.
        models: names by which requests address its models, and what is known of each.
        after: what has to be there before the service can start.
        other_services: what services of its stack with another config file are to serve, by name.
        own: what it rolls out itself; ``None`` in a stack that rolls out to several services at once.
        put_back: sets late values in the place of their stand-ins.
        warnings: what is worth saying although nothing is wrong.
    """

    service: ServiceSettings
    owner: str
    models: Mapping[str, Mapping[str, Any]]
    after: Sequence[pulumi.Resource] = ()
    other_services: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    own: OwnServing | None = None
    put_back: PutBack = as_it_is
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ServiceOutputs(Record):
    """Outputs of TensorFlowServing.

    Attributes:
        protocol: ``http`` or ``grpc``.
        url: base URL of an HTTP service, path prefix included; empty for gRPC.
        target: ``host:port`` of a gRPC service; empty for HTTP.
        token: access token, sent as the header ``Authorization``.
        service_name: name of the service on EAS.
        group: service group that it is made in; empty for none.
        contents: URNs of what runs, and of what proves that it serves.
        served: what the service said that it serves, by model; not known where it could not be asked.
    """

    protocol: str
    url: str
    target: str
    token: str = prop(secret=True)
    service_name: str | None = None
    group: str | None = None
    contents: tuple[str, ...] = ()
    served: Mapping[str, ServedVersions] | None = None


class TensorFlowServing(Component):
    """TensorFlow Serving on PAI-EAS: a service that answers predictions over HTTP or gRPC.

    It serves the models of its repository, or one of them where ``model`` names it, and moves versions and labels in
    steps in which no request fails. Options are those of a service in the stack file.

    Attributes:
        service: the service's settings.
        protocol: ``http`` or ``grpc``.
        url: base URL of an HTTP service, path prefix included; empty for gRPC.
        target: ``host:port`` of a gRPC service; empty for HTTP.
        token: access token, secret.
        models: what requests find, by model name.
        resource: the EAS service itself.
        served: what it was seen to serve; ``None`` in a stack that rolls out to several services at once.
    """

    shape = (eas_spec.ServiceSpec, OneInstanceType, StartFiles, ServiceSettings)
    not_taken = frozenset({"deployment"})
    arguments = (
        Argument(key="repository", description="The models.", type="ModelRepository", required=True),
        Argument(key="serviceName", description="Name of the service on EAS. Default: the name of the component."),
        Argument(key="deployment", description="`custom`, which is the default, or `scenario`: port 8501, no flags."),
        Argument(key="group", description="Service group that it is made in, for a TrafficGroup. Default: none."),
        surroundings.REGION_ARGUMENT,
    )
    outputs = ServiceOutputs
    pods: Pods | None = None

    def __init__(
        self,
        name: str,
        args: ServicePlan | Mapping[str, Any] | None = None,
        opts: pulumi.ResourceOptions | None = None,
        **options: Any,
    ) -> None:
        plan = (
            args
            if isinstance(args, ServicePlan)
            else _plan(name, arguments.given(type(self), name, args, opts, options))
        )
        super().__init__(name, opts, plan.warnings)
        service, spec = plan.service, plan.service.spec
        of_eas = names.Thing(
            kind="service",
            name=service.name,
            path="serviceName",
            fix="give one of them another serviceName, or remove one of them",
            place=("eas", spec.region),
        )
        names.hold(self, of_eas, opts)
        config_file = self._config_file(f"{name}-config", plan)
        needed = [*plan.after, *([config_file] if config_file else [])]
        # The key holds a digest of the content: a change makes a new file, then a new start command, then the old goes.
        files = [
            BucketObject(
                f"{name}-{file.kind}",
                {
                    "bucket": plan.put_back(spec.bucket),
                    "key": posixpath.join(spec.root, file.name),
                    "content": file.text,
                    "contentType": "text/plain; charset=utf-8",
                },
                pulumi.ResourceOptions(parent=self, depends_on=needed),
            )
            for file in service.start_files
        ]
        self.service = service
        self.protocol = service.protocol
        self.models = dict(plan.models)
        self.resource = EasService(
            f"{name}-service",
            EasServiceInputs(
                name=service.name,
                spec=_service_json(service, plan.put_back),
                owner=plan.owner,
                probe=_probe(service, plan.models),
                adopt=service.adopt,
                reachable=service.reachable,
                autoscaled=spec.autoscaler is not None or spec.schedule is not None,
                other_services=plan.other_services if plan.other_services and spec.config_file else None,
                autoscaler=Autoscaler.read(scaler) if (scaler := eas_spec.autoscaler(spec)) else None,
                cron_scaler=CronScaler.read(schedule.cron_scaler(spec.schedule)) if spec.schedule else None,
            ),
            pulumi.ResourceOptions(
                parent=self,
                depends_on=[*needed, *files],
                custom_timeouts=pulumi.CustomTimeouts(
                    create=service.timeouts.create or None,
                    update=service.timeouts.update or None,
                    delete=service.timeouts.delete or None,
                ),
            ),
        )
        self.url = self.resource.url
        self.target = self.resource.target
        self.token: pulumi.Output[str] = pulumi.Output.secret(self.resource.token)
        if service.alerts:
            for alarm in alerts.alarms(service.alerts):
                after = pulumi.ResourceOptions(parent=self, depends_on=[self.resource])
                Alarm(f"{name}-{alarm.key}", _alarm(plan, service.alerts, alarm), after)
        alone = Alone(
            own=plan.own,
            bucket=spec.bucket,
            key=posixpath.join(spec.root, spec.config_file_name),
            owner=plan.owner,
            put_back=plan.put_back,
        )
        self.served = serve_alone(f"{name}-served", self, alone, needed, pulumi.ResourceOptions(parent=self))
        state: dict[str, Any] = {"protocol": self.protocol, "url": self.url, "target": self.target, "token": self.token}
        if plan.own is not None:
            state |= {"serviceName": service.name, "group": spec.group}
            state["contents"] = [each.urn for each in (self.resource, self.served) if each is not None]
        if self.served is not None:
            state["served"] = served_by(self.served, service.name)
        self.finish(state)

    @property
    def started(self) -> pulumi.Resource:
        """What runs."""
        return self.resource

    def _config_file(self, name: str, plan: ServicePlan) -> ModelConfigFile | None:
        """The config file of a service that stands alone: there before the service starts."""
        if plan.own is None or plan.own.serving is None:
            return None
        spec = plan.service.spec
        key = posixpath.join(spec.root, spec.config_file_name)
        return ModelConfigFile(
            name,
            ModelConfigFileInputs(
                bucket=spec.bucket,
                key=key,
                owner=plan.owner,
                initial=plan.own.serving,
                adopt=plan.service.adopt,
            ),
            pulumi.ResourceOptions(parent=self, depends_on=list(plan.after)),
            plan.put_back,
        )


def _plan(name: str, given: dict[str, Any]) -> ServicePlan:
    """What the arguments come to.

    Raises:
        ArgumentError: everything that is wrong with them.
    """
    after, declared_elsewhere = take_repository(given)
    group, problems = _group(given.get("group"))

    def plan(values: Mapping[str, Any]) -> ServicePlan:
        entry = {key: value for key, value in values.items() if key not in NOT_OF_A_SERVICE}
        service_name = values.get("serviceName", name)
        declared = Declaration.read(values.get("declaration"), "repository")
        entry.setdefault("deployment", "custom")
        one_model = any(entry.get(key) for key in ("model", "command", "script"))
        entry.setdefault("configFile", not one_model)
        if entry["configFile"] and entry["deployment"] == "custom":
            labels = any(model.get("labels") for model in declared.models.values())
            entry.setdefault("allowLabelsForUnavailableVersions", labels)
        at = join_path(f"{NAMESPACE}:services", service_name)
        raw = stack_of_one(declared, values.get("bucket"), service_name, entry)
        region = values.get("region") or declared.region or None
        with user_cache() as cache:
            settings = surroundings.parse(raw, region, cache, {at: ""}, below=(at,))
        [service] = settings.services
        service = replace(service, spec=replace(service.spec, group=group))
        alone = None
        if service.spec.config_file:
            spec = replace(service.spec, config_file_name=f"model_config.{service.name}.pbtxt")
            service = replace(service, spec=spec)
            alone = rollout.spelt_out(settings.config_of(service), settings.published)
        return ServicePlan(
            service=service,
            owner=surroundings.owner(),
            models=settings.models_of(service),
            own=OwnServing(
                serving=alone,
                published=settings.published,
                versions=settings.single_versions(service),
                gates=settings.gates,
            ),
            warnings=settings.warnings,
        )

    late = {"bucket": "{}"}
    checked = arguments.check(
        TensorFlowServing, name, given, plan, late=late, derived=declared_elsewhere, also=problems
    )
    return replace(checked.plan, after=after, put_back=checked.put_back)


def _group(given: Any) -> tuple[str, Sequence[Problem]]:
    """The name of the service group, and what is wrong with it: EAS refuses it only once the models are published."""
    if given is None or arguments.is_output(given):  # an output is a problem of its own
        return "", ()
    reader = Reader()
    group = reader.text(given, "group")
    if not reader.problems:
        check_name(reader, group, "group")
    return group, reader.problems


def _service_json(service: ServiceSettings, put_back: PutBack) -> dict[str, Any]:
    """The service JSON with its secrets marked, so that state and output only show them encrypted or masked."""
    config: dict[str, Any] = put_back(eas_spec.build(service.spec))
    if "token" in config:
        config["token"] = pulumi.Output.secret(config["token"])
    if not service.secret_values:
        return config
    # Pulumi says that a secret is somewhere in the services, not where. These are the places made for one.
    if "dockerAuth" in config:
        config["dockerAuth"] = pulumi.Output.secret(config["dockerAuth"])
    for container in config["containers"]:
        for variable in container.get("env", ()):
            variable["value"] = pulumi.Output.secret(variable.get("value", ""))
    return config


def _alarm(plan: ServicePlan, of: Alerts, alarm: alerts.Alarm) -> AlarmArgs:
    """An alarm that goes off when a metric was above its limit for so many minutes, each by its average."""
    service = plan.service.name
    return {
        "name": f"{plan.owner.replace('/', '-')}-{service}-{alarm.key}",
        "project": of.cloud_monitor.namespace,
        "metric": alarm.metric,
        "metricDimensions": alerts.dimensions(of, service),
        "period": alerts.PERIOD_SECONDS,
        "escalationsCritical": {
            "statistics": "Average",
            "comparisonOperator": ">",
            "threshold": alarm.threshold,
            "times": alarm.minutes,
        },
        "contactGroups": list(of.contact_groups),
        "webhook": pulumi.Output.secret(plan.put_back(of.webhook)) if of.webhook else None,
    }


def _probe(service: ServiceSettings, models: Mapping[str, Any]) -> Probe:
    """What has to answer before the service counts as ready."""
    checks = service.spec.health_checks
    ready = checks and (checks.readiness or checks.startup)
    by_path = not models and ready and ready.kind == "http" and ready.port in (None, service.spec.port)
    path = ready.path if ready and by_path else None
    return Probe(protocol=Protocol(service.protocol), models=tuple(sorted(models)), path=path)
