"""TensorFlow Serving on a Kubernetes cluster: one deployment with everything around it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
from pulumi_kubernetes.apps.v1 import Deployment
from pulumi_kubernetes.autoscaling.v2 import HorizontalPodAutoscaler
from pulumi_kubernetes.core.v1 import ConfigMap, PersistentVolume, PersistentVolumeClaim, Service
from pulumi_kubernetes.networking.v1 import Ingress
from pulumi_kubernetes.policy.v1 import PodDisruptionBudget

from config.kubernetes import AckServiceSettings
from tfserving import kubernetes
from tfserving.kubernetes import GRPC_PORT, HTTP_PORT, Manifest


@dataclass(frozen=True, kw_only=True)
class KubernetesServingArgs:
    """Arguments of :class:`KubernetesServing`.

    Attributes:
        service: the service, already checked.
        models: names by which requests address its models, and what is known of each.
        after: what has to be there before its pods can start.
    """

    service: AckServiceSettings
    models: Mapping[str, Mapping[str, Any]]
    after: Sequence[pulumi.Resource] = ()


class KubernetesServing(pulumi.ComponentResource):
    """A Deployment of TensorFlow Serving with its Service, volume, config files, autoscaler and budget.

    Volume, claim and the ConfigMaps that pods read at start never change; their names tell their content. A change is a
    new object, a rolling update that mounts it, and only then is the old one removed. The model config file of
    ``rollout: poll`` is not among them (see :class:`~components.resources.ServedConfig`).

    Attributes:
        service: the service's settings.
        models: what requests find, by model name.
        url: base URL for HTTP: of the load balancer, else the Service's name inside the cluster.
        target: ``host:port`` for gRPC, likewise.
        deployment: the Deployment.
    """

    def __init__(self, name: str, args: KubernetesServingArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("tf-serving:components:KubernetesServing", name, None, opts)
        service = args.service
        self.service = service
        self.models = dict(args.models)
        made = kubernetes.build(service.spec)

        def options(*needed: pulumi.Resource | None, **more: Any) -> pulumi.ResourceOptions:
            found = [resource for resource in needed if resource is not None]
            return pulumi.ResourceOptions(parent=self, depends_on=found or None, **more)

        volume = claim = None
        if made.volume and made.claim:
            volume = PersistentVolume(f"{name}-volume", opts=options(), **_fields(made.volume))
            claim = PersistentVolumeClaim(f"{name}-claim", opts=options(volume), **_fields(made.claim))
        files = [
            ConfigMap(f"{name}-{kind}", opts=options(), **_fields(manifest))
            for kind, manifest in (("config", made.config), ("files", made.files))
            if manifest
        ]
        timeouts = service.timeouts
        self.deployment = Deployment(
            f"{name}-deployment",
            opts=options(
                *args.after,
                claim,
                *files,
                custom_timeouts=pulumi.CustomTimeouts(
                    create=timeouts.create or f"{_seconds(made.deployment)}s",
                    update=timeouts.update or f"{_seconds(made.deployment)}s",
                    delete=timeouts.delete or None,
                ),
            ),
            **_fields(_secret_env(made.deployment) if service.secret_values else made.deployment),
        )
        # After the pods: a Service is ready once it has an endpoint.
        exposed = Service(f"{name}-service", opts=options(self.deployment), **_fields(made.service))
        if made.headless:
            Service(f"{name}-headless", opts=options(self.deployment), **_fields(made.headless))
        if made.autoscaler:
            HorizontalPodAutoscaler(f"{name}-autoscaler", opts=options(self.deployment), **_fields(made.autoscaler))
        if made.disruption_budget:
            PodDisruptionBudget(f"{name}-budget", opts=options(self.deployment), **_fields(made.disruption_budget))
        if made.ingress:
            Ingress(f"{name}-ingress", opts=options(exposed), **_fields(made.ingress))
        host: pulumi.Output[str] = pulumi.Output.from_input(f"{service.name}.{service.spec.namespace}.svc")
        if service.spec.expose == "loadBalancer":
            host = exposed.status.apply(_address)
        self.url = host.apply(lambda found: f"http://{found}:{HTTP_PORT}" if found else "")
        self.target = host.apply(lambda found: f"{found}:{GRPC_PORT}" if found else "")
        self.register_outputs({"url": self.url, "target": self.target})


def _fields(manifest: Manifest) -> Manifest:
    """A manifest as arguments of its typed class, which names API version and kind itself."""
    return {key: value for key, value in manifest.items() if key not in ("apiVersion", "kind")}


def _secret_env(deployment: Manifest) -> Manifest:
    """Pulumi says that a secret is somewhere in the services, not where. The environment is the place for one."""
    spec = deployment["spec"]
    pod = spec["template"]["spec"]
    containers = [
        {**container, "env": [{**item, "value": pulumi.Output.secret(item["value"])} for item in container["env"]]}
        if "env" in container
        else container
        for container in pod["containers"]
    ]
    template = {**spec["template"], "spec": {**pod, "containers": containers}}
    return {**deployment, "spec": {**spec, "template": template}}


def _seconds(deployment: Manifest) -> int:
    """How long all pods may take to be replaced one after the other."""
    spec = deployment["spec"]
    return int(spec["progressDeadlineSeconds"]) * max(int(spec.get("replicas", 1)), 1)


def _address(status: Any) -> str:
    """The load balancer's address, empty while it has none."""
    balancer = status.load_balancer if status is not None else None
    for ingress in (balancer.ingress if balancer is not None else None) or ():
        found = ingress.ip or ingress.hostname
        if found:
            return str(found)
    return ""
