"""TensorFlow Serving on PAI-EAS: one service with its endpoint and token."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
from pulumi_alicloud import oss

from components.resources import EasService, EasServiceArgs
from config.services import ServiceSettings
from tfserving import eas_spec


@dataclass(frozen=True, kw_only=True)
class TensorFlowServingArgs:
    """Arguments of :class:`TensorFlowServing`. All are plain: they were checked before the first resource.

    Attributes:
        service: the service.
        owner: ``<project>/<stack>``.
        models: names by which requests address its models, and what is known of each.
        after: what has to be there before the service can start.
    """

    service: ServiceSettings
    owner: str
    models: Mapping[str, Mapping[str, Any]]
    after: Sequence[pulumi.Resource] = ()


class TensorFlowServing(pulumi.ComponentResource):
    """A service that answers predictions over HTTP or gRPC.

    Attributes:
        service: the service's settings.
        protocol: ``http`` or ``grpc``.
        url: base URL of an HTTP service, path prefix included; empty for gRPC.
        target: ``host:port`` of a gRPC service; empty for HTTP.
        token: access token, secret.
        models: what requests find, by model name.
        resource: the EAS service itself.
    """

    def __init__(self, name: str, args: TensorFlowServingArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("tf-serving:components:TensorFlowServing", name, None, opts)
        service, spec = args.service, args.service.spec
        # The key holds a digest of the content: a change makes a new file, then a new start command, then the old goes.
        files = [
            oss.BucketObject(
                f"{name}-{file.kind}",
                bucket=spec.bucket,
                key=posixpath.join(spec.root, file.name),
                content=file.text,
                content_type="text/plain; charset=utf-8",
                opts=pulumi.ResourceOptions(parent=self, depends_on=list(args.after)),
            )
            for file in service.start_files
        ]
        self.service = service
        self.protocol = service.protocol
        self.models = dict(args.models)
        self.resource = EasService(
            f"{name}-service",
            EasServiceArgs(
                name=service.name,
                spec=_service_json(service),
                owner=args.owner,
                probe=_probe(service, args.models),
                adopt=service.adopt,
                reachable=service.reachable,
                autoscaled=spec.autoscaler is not None,
                autoscaler=eas_spec.autoscaler(spec),
            ),
            pulumi.ResourceOptions(
                parent=self,
                depends_on=[*args.after, *files],
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
        self.register_outputs({"protocol": self.protocol, "url": self.url, "target": self.target, "token": self.token})


def _service_json(service: ServiceSettings) -> dict[str, Any]:
    """The service JSON with its secrets marked, so that state and output only show them encrypted or masked."""
    config = eas_spec.build(service.spec)
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


def _probe(service: ServiceSettings, models: Mapping[str, Any]) -> dict[str, Any]:
    """What has to answer before the service counts as ready."""
    probe: dict[str, Any] = {"protocol": service.protocol, "models": sorted(models)}
    checks = service.spec.health_checks
    ready = checks and (checks.readiness or checks.startup)
    if not models and ready and ready.kind == "http" and ready.port in (None, service.spec.port):
        probe["path"] = ready.path
    return probe
