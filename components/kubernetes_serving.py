"""TensorFlow Serving on a Kubernetes cluster: one deployment with everything around it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pulumi

from components import arguments, names, surroundings
from components.alone import NOT_OF_A_SERVICE, Alone, OwnServing, serve_alone, served_by, stack_of_one, take_repository
from components.component import Argument, Component, PutBack, as_it_is
from components.declaration import Declaration
from components.gpu_node_pool import GpuNodePool, pool_declaration
from components.other_packages import (
    ConfigMap,
    Deployment,
    HorizontalPodAutoscaler,
    Ingress,
    KubernetesProvider,
    PersistentVolume,
    PersistentVolumeClaim,
    PodDisruptionBudget,
    Service,
)
from components.resources import ClusterObject, ModelConfigFile, later
from components.served_config import HERE, InCluster
from config.kubernetes import AckServiceSettings
from config.schema import ACK_SERVICE
from config.stack_config import NAMESPACE
from tfserving import kubernetes, rollout
from tfserving.contract import PACKAGE
from tfserving.contract.cluster import ClusterObjectInputs
from tfserving.contract.parts import Pods, ServedVersions
from tfserving.contract.records import Record
from tfserving.contract.storage import ModelConfigFileInputs
from tfserving.errors import Problem
from tfserving.kubernetes import GRPC_PORT, HTTP_PORT, Manifest
from tfserving.manifest import user_cache
from tfserving.model_sets import DEFAULT_FILE
from tfserving.property_path import join_path

NEEDS_CRON = (
    "Fix: install kubernetes-cronhpa-controller (on ACK: the component ack-kubernetes-cronhpa-controller), or remove "
    "schedule"
)

NEEDS_RULES = (
    "Fix: install the Prometheus operator (on ACK: Managed Service for Prometheus, or ack-prometheus-operator), or "
    "set alerts: false for services on Kubernetes"
)


@dataclass(frozen=True, kw_only=True)
class PodsPlan:
    """What a :class:`KubernetesServing` makes, already checked.

    Attributes:
        service: the service.
        models: names by which requests address its models, and what is known of each.
        after: what has to be there before its pods can start.
        own: what it rolls out itself; ``None`` in a stack that rolls out to several services at once.
        cluster: where it is.
        owner: ``<project>/<stack>``.
        put_back: sets late values in the place of their stand-ins.
        warnings: what is worth saying although nothing is wrong.
    """

    service: AckServiceSettings
    models: Mapping[str, Mapping[str, Any]]
    after: Sequence[pulumi.Resource] = ()
    own: OwnServing | None = None
    cluster: InCluster = HERE
    owner: str = ""
    put_back: PutBack = as_it_is
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class PodsOutputs(Record):
    """Outputs of KubernetesServing.

    Attributes:
        url: base URL for HTTP: of the load balancer, else the Service's name inside the cluster.
        target: ``host:port`` for gRPC, likewise.
        served: what the pods said that they serve, by model; not known where they could not be asked.
    """

    url: str
    target: str
    served: Mapping[str, ServedVersions] | None = None


class KubernetesServing(Component):
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
        served: what the pods were seen to serve; ``None`` in a stack that rolls out to several services at once.
    """

    shape = ACK_SERVICE
    not_taken = frozenset({"pool"})
    arguments = (
        Argument(key="repository", description="The models.", type="ModelRepository", required=True),
        Argument(key="pool", description="The nodes it runs on.", type="GpuNodePool"),
        Argument(key="serviceName", description="Name of the service in the cluster. Default: the component's."),
        Argument(key="namespace", description="Namespace of everything it makes, which exists. Default: default"),
        Argument(
            key="kubeconfig",
            description="Path or content of the kubeconfig. Default: that of the environment",
            late="{}",
        ),
        Argument(key="context", description="Context of the kubeconfig. Default: its current one"),
        surroundings.REGION_ARGUMENT,
    )
    outputs = PodsOutputs

    def __init__(
        self,
        name: str,
        args: PodsPlan | Mapping[str, Any] | None = None,
        opts: pulumi.ResourceOptions | None = None,
        **options_: Any,
    ) -> None:
        plan = (
            args if isinstance(args, PodsPlan) else _plan(name, arguments.given(type(self), name, args, opts, options_))
        )
        super().__init__(name, opts, plan.warnings)
        service, put_back = plan.service, plan.put_back
        in_cluster = names.Thing(
            kind="service",
            name=f"{service.spec.namespace}/{service.name}",
            path="serviceName",
            fix="give one of them another serviceName or namespace, or remove one of them",
            place=(put_back(plan.cluster.kubeconfig), plan.cluster.context),
            packages=(PACKAGE, "kubernetes"),
        )
        names.hold(self, in_cluster, opts)
        self.service = service
        self.models = dict(plan.models)
        self.pods: Pods | None = Pods(namespace=service.spec.namespace, selector=kubernetes.selector(service.spec))
        self.token: pulumi.Input[str] = ""
        provider = self._cluster_provider(f"{name}-kubernetes", plan)
        config_file = self._config_file(f"{name}-model-config", plan)
        after = [*plan.after, *([config_file] if config_file else [])]
        made = kubernetes.build(service.spec)

        def options(*needed: pulumi.Resource | None, **more: Any) -> pulumi.ResourceOptions:
            found = [resource for resource in needed if resource is not None]
            return pulumi.ResourceOptions(parent=self, depends_on=found or None, provider=provider, **more)

        volume = claim = None
        if made.volume and made.claim:
            volume = PersistentVolume(f"{name}-volume", put_back(made.volume), options())
            claim = PersistentVolumeClaim(f"{name}-claim", put_back(made.claim), options(volume))
        files = [
            ConfigMap(f"{name}-{kind}", put_back(manifest), options())
            for kind, manifest in (("config", made.config), ("files", made.files))
            if manifest
        ]
        timeouts = service.timeouts
        self.deployment = Deployment(
            f"{name}-deployment",
            _deployment(put_back(made.deployment), service.secret_values),
            options(
                *after,
                claim,
                *files,
                custom_timeouts=pulumi.CustomTimeouts(
                    create=timeouts.create or f"{_seconds(made.deployment)}s",
                    update=timeouts.update or f"{_seconds(made.deployment)}s",
                    delete=timeouts.delete or None,
                ),
            ),
        )
        # After the pods: a Service is ready once it has an endpoint.
        exposed = Service(f"{name}-service", put_back(made.service), options(self.deployment))
        if made.headless:
            Service(f"{name}-headless", put_back(made.headless), options(self.deployment))
        if made.autoscaler:
            HorizontalPodAutoscaler(f"{name}-autoscaler", put_back(made.autoscaler), options(self.deployment))
        if made.schedule:
            self._object(f"{name}-schedule", made.schedule, plan, NEEDS_CRON)
        if service.alerts and service.alerts.rules:
            self._object(f"{name}-alerts", kubernetes.alert_rules(service.spec, service.alerts), plan, NEEDS_RULES)
        if made.disruption_budget:
            PodDisruptionBudget(f"{name}-budget", put_back(made.disruption_budget), options(self.deployment))
        if made.ingress:
            Ingress(f"{name}-ingress", put_back(made.ingress), options(exposed))
        host: pulumi.Output[str] = pulumi.Output.from_input(f"{service.name}.{service.spec.namespace}.svc")
        if service.spec.expose == "loadBalancer":
            host = exposed.status.apply(_address)
        self.url = host.apply(lambda found: f"http://{found}:{HTTP_PORT}" if found else "")
        self.target = host.apply(lambda found: f"{found}:{GRPC_PORT}" if found else "")
        volume_of = service.spec.volume
        alone = Alone(
            own=plan.own,
            bucket=volume_of.bucket,
            key=f"{volume_of.root}{DEFAULT_FILE}",
            owner=plan.owner,
            cluster=plan.cluster,
            put_back=put_back,
        )
        self.served = serve_alone(f"{name}-served", self, alone, after, pulumi.ResourceOptions(parent=self))
        served = {} if self.served is None else {"served": served_by(self.served, service.name)}
        self.finish({"url": self.url, "target": self.target, **served})

    def _object(self, name: str, manifest: Manifest, plan: PodsPlan, needs: str) -> ClusterObject:
        """An object of a kind that not every cluster knows."""
        metadata = manifest["metadata"]
        return ClusterObject(
            name,
            ClusterObjectInputs(
                api_version=manifest["apiVersion"],
                kind=manifest["kind"],
                namespace=metadata["namespace"],
                name=metadata["name"],
                owner=plan.owner,
                labels=metadata.get("labels"),
                spec=manifest["spec"],
                needs=needs,
                kubeconfig=later(plan.cluster.kubeconfig) or None,
                kube_context=plan.cluster.context or None,
            ),
            pulumi.ResourceOptions(parent=self, depends_on=[self.deployment]),
            plan.put_back,
        )

    @property
    def protocol(self) -> str:
        """How predictions are asked for first; both ports are open."""
        return "http"

    @property
    def started(self) -> pulumi.Resource:
        """What runs."""
        return self.deployment

    def _cluster_provider(self, name: str, plan: PodsPlan) -> pulumi.ProviderResource | None:
        """The provider of the cluster that is given; ``None``: the one of the program."""
        if plan.own is None or not plan.cluster.kubeconfig:
            return None
        kubeconfig, context = plan.put_back(plan.cluster.kubeconfig), plan.cluster.context or None
        return KubernetesProvider(name, kubeconfig, context, pulumi.ResourceOptions(parent=self))

    def _config_file(self, name: str, plan: PodsPlan) -> ModelConfigFile | None:
        """The ConfigMap with the config file of a service that stands alone: there before its pods start."""
        if plan.own is None or plan.own.serving is None:
            return None
        volume = plan.service.spec.volume
        return ModelConfigFile(
            name,
            ModelConfigFileInputs(
                bucket=volume.bucket,
                key=f"{volume.root}{DEFAULT_FILE}",
                owner=plan.owner,
                initial=plan.own.serving,
                kubeconfig=later(plan.cluster.kubeconfig) or None,
                kube_context=plan.cluster.context or None,
                config_map=plan.cluster.config_map,
            ),
            pulumi.ResourceOptions(parent=self, depends_on=list(plan.after)),
            plan.put_back,
        )


def _plan(name: str, given: dict[str, Any]) -> PodsPlan:
    """What the arguments come to.

    Raises:
        ArgumentError: everything that is wrong with them.
    """
    after, declared_elsewhere = take_repository(given)
    pool = given.pop("pool", None)
    declared_pool = ""
    problems: list[Problem] = []
    if isinstance(pool, GpuNodePool):
        declared_pool = pool_declaration(pool.pool)
        after = [*after, pool.resource]
    elif isinstance(pool, Mapping) and pool.get("declaration"):  # the outputs of one that is made elsewhere
        declared_pool = str(pool["declaration"])
    elif pool is not None:
        fix = "pass the component itself; nodes of another kind are chosen by nodeSelector"
        problems.append(Problem("pool", "this is not a pool of nodes", "a GpuNodePool", fix))

    def plan(values: Mapping[str, Any]) -> PodsPlan:
        place = {key: values[key] for key in ("kubeconfig", "context", "namespace") if values.get(key)}
        entry = {key: value for key, value in values.items() if key not in (*NOT_OF_A_SERVICE, *place)}
        service_name = values.get("serviceName", name)
        declared = Declaration.read(values.get("declaration"), "repository")
        entry["target"] = "ack"
        entry.setdefault("configFile", not entry.get("model"))
        if entry["configFile"]:
            labels = any(model.get("labels") for model in declared.models.values())
            entry.setdefault("allowLabelsForUnavailableVersions", labels)
        cluster: dict[str, Any] = dict(place)
        pools: dict[str, Any] = {}
        if declared_pool:
            found = json.loads(declared_pool)
            entry["pool"] = found.pop("name")
            # What does not matter to those who run on its nodes.
            pools = {entry["pool"]: {**found, "vswitchIds": ["vsw-known"], "desiredSize": 1}}
            cluster["clusterId"] = "c0000000000"
        at = join_path(f"{NAMESPACE}:services", service_name)
        raw = {
            **stack_of_one(declared, values.get("bucket"), service_name, entry),
            f"{NAMESPACE}:kubernetes": cluster or {"namespace": "default"},
            f"{NAMESPACE}:gpuNodePools": pools,
        }
        kubernetes_path = f"{NAMESPACE}:kubernetes"
        places = {at: "", kubernetes_path: ""}
        region = values.get("region") or declared.region or None
        with user_cache() as cache:
            settings = surroundings.parse(raw, region, cache, places, below=(at, kubernetes_path))
        [service], alone, in_cluster = settings.ack_services, None, settings.kubernetes
        config_map = ""
        if service.spec.config_file and service.spec.rollout == "poll":
            config_map = f"{service.name}-model-config"
            spec = replace(service.spec, config_map=config_map, config_file_name=DEFAULT_FILE)
            service = replace(service, spec=spec)
            config_map = f"{service.spec.namespace}/{config_map}"
            alone = rollout.spelt_out(settings.config_of(service), settings.published)
        versions = settings.single_versions(service)
        return PodsPlan(
            service=service,
            owner=surroundings.owner(),
            models=settings.models_of(service),
            own=OwnServing(serving=alone, published=settings.published, versions=versions, gates=settings.gates),
            cluster=InCluster(
                kubeconfig=in_cluster.kubeconfig if in_cluster else "",
                context=in_cluster.context if in_cluster else "",
                config_map=config_map,
            ),
            warnings=settings.warnings,
        )

    late = {"bucket": "{}"}
    checked = arguments.check(
        KubernetesServing, name, given, plan, late=late, derived=declared_elsewhere, also=problems
    )
    return replace(checked.plan, after=after, put_back=checked.put_back)


def _deployment(deployment: Manifest, secret_values: bool) -> Manifest:
    """Pulumi says that a secret is somewhere in the services, not where. The environment is the place for one."""
    if not secret_values:
        return deployment
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


def _address(status: Mapping[str, Any] | None) -> str:
    """The load balancer's address, empty while it has none."""
    balancer = (status or {}).get("loadBalancer") or {}
    for ingress in balancer.get("ingress") or ():
        found = ingress.get("ip") or ingress.get("hostname")
        if found:
            return str(found)
    return ""
