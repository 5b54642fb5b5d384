"""From a description to the objects of the Kubernetes API, as plain data with the API's own field names.

Written so that a second look changes nothing: what the API server would fill in stays away, and so do a number of pods
that belongs to an autoscaler and anything else somebody else sets.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tfserving import model_config
from tfserving.alerts import RULE_API, RULE_KIND, Alerts, prometheus_rules
from tfserving.kubernetes.description import (
    CONFIG_DIR,
    CONFIG_FILE_NAME,
    FILES_DIR,
    GPU_CORE_RESOURCE,
    GPU_MEMORY_RESOURCE,
    GPU_RESOURCE,
    GRPC_PORT,
    HTTP_PORT,
    SERVER,
    GrpcIngress,
    KubernetesServingSpec,
    LoadBalancer,
    arguments,
    config_map_name,
    digest,
    fewest_pods,
    image,
    node_selector,
    ready_path,
    start_files,
    tolerations,
)
from tfserving.kubernetes.names import Toleration

Manifest = dict[str, Any]

CRON_API, CRON_KIND = "autoscaling.alibabacloud.com/v1beta1", "CronHorizontalPodAutoscaler"
ANNOTATION_PREFIX = "service.beta.kubernetes.io/alibaba-cloud-loadbalancer-"
CSI_DRIVER = "ossplugin.csi.alibabacloud.com"

_STARTUP_PERIOD = 5  # seconds between startup checks
_PRE_STOP_SECONDS = 10


@dataclass(frozen=True, kw_only=True)
class Manifests:
    """The objects of one deployment; ``None`` where the description asks for none.

    Attributes:
        volume: PersistentVolume of the models.
        claim: PersistentVolumeClaim of the models.
        config: ConfigMap with the model config file, with ``rollout: restart``.
        files: ConfigMap with the files read at start.
        deployment: Deployment.
        service: Service with both ports.
        headless: second Service, for client-side balancing of gRPC.
        autoscaler: HorizontalPodAutoscaler.
        schedule: CronHorizontalPodAutoscaler.
        disruption_budget: PodDisruptionBudget.
        ingress: Ingress for gRPC.
    """

    volume: Manifest | None
    claim: Manifest | None
    config: Manifest | None
    files: Manifest | None
    deployment: Manifest
    service: Manifest
    headless: Manifest | None
    autoscaler: Manifest | None
    schedule: Manifest | None
    disruption_budget: Manifest | None
    ingress: Manifest | None

    def all(self) -> list[Manifest]:
        """Every object, in an order in which they can be made."""
        found = (
            self.volume, self.claim, self.config, self.files, self.deployment, self.service, self.headless,
            self.autoscaler, self.schedule, self.disruption_budget, self.ingress,
        )  # fmt: skip
        return [manifest for manifest in found if manifest is not None]


def build(spec: KubernetesServingSpec) -> Manifests:
    """The objects of a valid description."""
    volume = None if spec.volume.claim else _volume(spec)
    claim = None if spec.volume.claim else _claim(spec)
    config = None
    if spec.config_file and spec.rollout == "restart" and spec.config is not None:
        config = _config_map(spec, config_map_name(spec), {CONFIG_FILE_NAME: model_config.render(spec.config)})
    files = start_files(spec)
    return Manifests(
        volume=volume,
        claim=claim,
        config=config,
        files=_config_map(spec, _files_name(spec), files) if files else None,
        deployment=_deployment(spec),
        service=_service(spec),
        headless=_headless(spec) if spec.headless else None,
        autoscaler=_autoscaler(spec),
        schedule=_schedule(spec),
        disruption_budget=_disruption_budget(spec),
        ingress=_ingress(spec, spec.ingress) if spec.ingress else None,
    )


def selector(spec: KubernetesServingSpec) -> dict[str, str]:
    """The labels that tell the pods of this deployment from all others. They can never change."""
    return {"app.kubernetes.io/name": "tensorflow-serving", "app.kubernetes.io/instance": spec.name}


def _metadata(spec: KubernetesServingSpec, name: str = "", *, namespaced: bool = True) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": name or spec.name}
    if namespaced:
        metadata["namespace"] = spec.namespace
    labels = {**spec.labels, **selector(spec), "app.kubernetes.io/managed-by": "pulumi"}
    metadata["labels"] = dict(sorted(labels.items()))
    return metadata


# ---- models and files ----------------------------------------------------------------------------------------------


def volume_name(spec: KubernetesServingSpec) -> str:
    """The PersistentVolume's name: it belongs to no namespace, so it carries the namespace's name."""
    return f"{spec.namespace}-{claim_name(spec)}"


def claim_name(spec: KubernetesServingSpec) -> str:
    """The claim the pods mount. Its name tells what it leads to: neither claim nor volume can change once made."""
    if spec.volume.claim:
        return spec.volume.claim
    told = {key: str(value) for key, value in _volume_attributes(spec).items()}
    return f"{spec.name}-models-{digest(told | {'secretName': spec.volume.secret_name})}"


def oss_url(spec: KubernetesServingSpec) -> str:
    """The address of OSS as the nodes reach it."""
    return f"{spec.volume.scheme}://{spec.volume.endpoint or f'oss-{spec.region}-internal.aliyuncs.com'}"


def _volume_attributes(spec: KubernetesServingSpec) -> dict[str, str]:
    """What the CSI driver gets: attributes of the volume."""
    volume = spec.volume
    root = volume.root.strip("/")
    attributes: dict[str, str] = {
        "fuseType": volume.fuse_type,
        "bucket": volume.bucket,
        "url": oss_url(spec),
        "path": f"/{root}/" if root else "/",
    }
    options = volume.mount_options
    if volume.fuse_type == "ossfs":
        # Its cache of attributes would show a published version late; every user of the pod may read.
        options = " ".join(filter(None, ("-o max_stat_cache_size=0 -o allow_other", options)))
    if options:
        attributes["otherOpts"] = options
    if volume.role_name:
        attributes |= {"authType": "rrsa", "roleName": volume.role_name}
    return attributes


def _volume(spec: KubernetesServingSpec) -> Manifest:
    volume = spec.volume
    name = volume_name(spec)
    csi: dict[str, Any] = {"driver": CSI_DRIVER, "volumeHandle": name, "readOnly": True}
    if volume.secret_name:
        csi["nodePublishSecretRef"] = {"name": volume.secret_name, "namespace": spec.namespace}
    csi["volumeAttributes"] = _volume_attributes(spec)
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": _metadata(spec, name, namespaced=False),
        "spec": {
            "capacity": {"storage": "1Ti"},
            "accessModes": ["ReadOnlyMany"],
            "persistentVolumeReclaimPolicy": "Retain",
            "volumeMode": "Filesystem",
            "claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": spec.namespace,
                         "name": claim_name(spec)},
            "csi": csi,
        },
    }  # fmt: skip


def _claim(spec: KubernetesServingSpec) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": _metadata(spec, claim_name(spec)),
        "spec": {
            "accessModes": ["ReadOnlyMany"],
            "storageClassName": "",
            "volumeName": volume_name(spec),
            "resources": {"requests": {"storage": "1Ti"}},
        },
    }


def _files_name(spec: KubernetesServingSpec) -> str:
    return f"{spec.name}-files-{digest(start_files(spec))}"


def _config_map(spec: KubernetesServingSpec, name: str, data: Mapping[str, str]) -> Manifest:
    """A ConfigMap that never changes: its name tells its content."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _metadata(spec, name),
        "immutable": True,
        "data": dict(data),
    }


# ---- pods ----------------------------------------------------------------------------------------------------------


def _deployment(spec: KubernetesServingSpec) -> Manifest:
    deployment: dict[str, Any] = {
        "selector": {"matchLabels": selector(spec)},
        "strategy": {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxSurge": spec.max_surge, "maxUnavailable": spec.max_unavailable},
        },
        "revisionHistoryLimit": 3,
        "progressDeadlineSeconds": _progress_seconds(spec),
        "template": {
            "metadata": _pod_metadata(spec),
            "spec": _pod(spec),
        },
    }
    if not spec.autoscaler and not spec.schedule:
        deployment["replicas"] = fewest_pods(spec)
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": _metadata(spec), "spec": deployment}


def _progress_seconds(spec: KubernetesServingSpec) -> int:
    """How long a pod may take until it is ready: a node may have to be bought first, an image pulled, models loaded."""
    buys = spec.pool is not None and spec.pool.scaling is not None
    return spec.startup_seconds + (900 if buys else 300)


def _pod_metadata(spec: KubernetesServingSpec) -> dict[str, Any]:
    labels = {**spec.labels, **selector(spec)}
    metadata: dict[str, Any] = {"labels": dict(sorted(labels.items()))}
    annotations = dict(spec.annotations)
    if spec.monitoring:
        annotations |= {
            "prometheus.io/scrape": "true",
            "prometheus.io/port": str(HTTP_PORT),
            "prometheus.io/path": spec.metrics_path,
        }
    if annotations:
        metadata["annotations"] = dict(sorted(annotations.items()))
    return metadata


def _pod(spec: KubernetesServingSpec) -> dict[str, Any]:
    volumes: list[dict[str, Any]] = [
        {"name": "models", "persistentVolumeClaim": {"claimName": claim_name(spec), "readOnly": True}}
    ]
    if spec.config_file:
        volumes.append({"name": "config", "configMap": {"name": config_map_name(spec)}})
    if start_files(spec):
        volumes.append({"name": "files", "configMap": {"name": _files_name(spec)}})
    security: dict[str, Any] = {"seccompProfile": {"type": "RuntimeDefault"}}
    if spec.run_as_user is not None:
        security |= {"runAsNonRoot": spec.run_as_user != 0, "runAsUser": spec.run_as_user}
    pod: dict[str, Any] = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": security,
        # TensorFlow Serving ends at no signal: it answers until the grace period is over.
        "terminationGracePeriodSeconds": _PRE_STOP_SECONDS + spec.drain_seconds,
        "containers": [_container(spec)],
        "volumes": volumes,
    }
    optional = {
        "serviceAccountName": spec.service_account,
        "priorityClassName": spec.priority_class,
        "imagePullSecrets": [{"name": name} for name in spec.image_pull_secrets],
        "nodeSelector": node_selector(spec),
        "tolerations": [_toleration(item) for item in tolerations(spec)],
        "topologySpreadConstraints": _spread(spec) if spec.spread else [],
    }
    return pod | {key: value for key, value in optional.items() if value}


def _toleration(toleration: Toleration) -> dict[str, Any]:
    fields = {
        "key": toleration.key,
        "operator": toleration.operator,
        "value": toleration.value,
        "effect": toleration.effect,
    }
    return {key: value for key, value in fields.items() if value}


def _spread(spec: KubernetesServingSpec) -> list[dict[str, Any]]:
    """Over zones and over nodes, as far as there is room: a preference, since cards are scarce."""
    return [
        {
            "maxSkew": 1,
            "topologyKey": key,
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": selector(spec)},
        }
        for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
    ]


def _container(spec: KubernetesServingSpec) -> dict[str, Any]:
    mounts = [{"name": "models", "mountPath": spec.mount_path.rstrip("/"), "readOnly": True}]
    if spec.config_file:
        mounts.append({"name": "config", "mountPath": CONFIG_DIR, "readOnly": True})
    if start_files(spec):
        mounts.append({"name": "files", "mountPath": FILES_DIR, "readOnly": True})
    container: dict[str, Any] = {
        "name": "tensorflow-serving",
        "image": image(spec),
        "imagePullPolicy": "IfNotPresent",
        "command": [SERVER],
        "args": arguments(spec),
        "ports": [
            {"name": "grpc", "containerPort": GRPC_PORT, "protocol": "TCP"},
            {"name": "http", "containerPort": HTTP_PORT, "protocol": "TCP"},
        ],
        "resources": _resources(spec),
        **_probes(spec),
        # The pod leaves the Service while it still answers: nobody is cut off whose address list is a little old.
        "lifecycle": {"preStop": {"exec": {"command": ["/bin/sleep", str(_PRE_STOP_SECONDS)]}}},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": mounts,
    }
    if spec.env:
        container["env"] = [{"name": name, "value": spec.env[name]} for name in sorted(spec.env)]
    return container


def _resources(spec: KubernetesServingSpec) -> dict[str, Any]:
    """Memory is a limit too: a model that grows must not take the node along. CPU is not: idle CPUs may be used."""
    memory = _memory(spec.memory)
    limits: dict[str, str] = {"memory": memory}
    # Kubernetes takes the limit of an extended resource for its request, too.
    if spec.gpu:
        limits[GPU_RESOURCE] = str(spec.gpu)
    if spec.gpu_memory:
        limits[GPU_MEMORY_RESOURCE] = str(spec.gpu_memory)
    if spec.gpu_core_percentage:
        limits[GPU_CORE_RESOURCE] = str(spec.gpu_core_percentage)
    return {"requests": {"cpu": _cpu(spec.cpu), "memory": memory}, "limits": limits}


def _memory(mebibytes: int) -> str:
    """In the form in which the API server keeps it, or a second look would find a difference."""
    return f"{mebibytes // 1024}Gi" if mebibytes % 1024 == 0 else f"{mebibytes}Mi"


def _cpu(cpus: float) -> str:
    """Likewise."""
    millis = max(round(cpus * 1000), 1)
    return str(millis // 1000) if millis % 1000 == 0 else f"{millis}m"


def _probes(spec: KubernetesServingSpec) -> dict[str, Any]:
    """Startup, readiness and liveness.

    The ports open once every model has a version loaded, so an open port is a finished start. Ready is a pod whose
    model can be asked, where one path tells that (see :func:`~tfserving.kubernetes.description.ready_path`), else one
    that takes connections. Alive is a server that takes connections for gRPC.
    """
    path = ready_path(spec)
    ready: dict[str, Any] = {"httpGet": {"path": path, "port": "http"}} if path else {"tcpSocket": {"port": "http"}}
    return {
        "startupProbe": {
            "tcpSocket": {"port": "http"},
            "periodSeconds": _STARTUP_PERIOD,
            "timeoutSeconds": 3,
            "failureThreshold": math.ceil(spec.startup_seconds / _STARTUP_PERIOD),
        },
        "readinessProbe": {**ready, "periodSeconds": 5, "timeoutSeconds": 5, "failureThreshold": 3},
        "livenessProbe": {
            "tcpSocket": {"port": "grpc"},
            "periodSeconds": 10,
            "timeoutSeconds": 5,
            "failureThreshold": 6,
        },
    }


# ---- around the pods -----------------------------------------------------------------------------------------------


def _ports() -> list[dict[str, Any]]:
    return [
        {
            "name": "grpc",
            "port": GRPC_PORT,
            "targetPort": "grpc",
            "protocol": "TCP",
            "appProtocol": "kubernetes.io/h2c",
        },
        {"name": "http", "port": HTTP_PORT, "targetPort": "http", "protocol": "TCP"},
    ]


def _service(spec: KubernetesServingSpec) -> Manifest:
    metadata = _metadata(spec)
    service: dict[str, Any] = {"selector": selector(spec), "ports": _ports()}
    if spec.expose == "headless":
        service |= {"type": "ClusterIP", "clusterIP": "None"}
    elif spec.expose == "loadBalancer":
        balancer = spec.load_balancer or LoadBalancer()
        metadata["annotations"] = _annotations(balancer)
        service["type"] = "LoadBalancer"
        if balancer.source_ranges:
            service["loadBalancerSourceRanges"] = list(balancer.source_ranges)
    else:
        service["type"] = "ClusterIP"
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": service}


def _annotations(balancer: LoadBalancer) -> dict[str, str]:
    """Without a protocol a listener is TCP, which lets gRPC through as it is."""
    values = {
        "address-type": balancer.address_type,
        "spec": balancer.spec,
        "id": balancer.id,
        "force-override-listeners": "true" if balancer.force_override_listeners else "",
        "vswitch-id": balancer.vswitch_id,
        "protocol-port": ",".join(f"{name}:{port}" for port, name in sorted(balancer.protocol_ports.items())),
        "cert-id": balancer.certificate_id,
        "health-check-flag": "on",
        "health-check-type": "tcp",
    }
    if balancer.acl_id:
        values |= {"acl-status": "on", "acl-id": balancer.acl_id, "acl-type": "white"}
    annotations = {f"{ANNOTATION_PREFIX}{name}": value for name, value in values.items() if value}
    return dict(sorted((annotations | dict(balancer.annotations)).items()))


def _headless(spec: KubernetesServingSpec) -> Manifest:
    """One address record per ready pod: ``dns:///<name>-headless.<namespace>:8500`` with policy ``round_robin``."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(spec, f"{spec.name}-headless"),
        "spec": {"type": "ClusterIP", "clusterIP": "None", "selector": selector(spec), "ports": _ports()},
    }


def _autoscaler(spec: KubernetesServingSpec) -> Manifest | None:
    scaler = spec.autoscaler
    if scaler is None:
        return None
    metrics: list[dict[str, Any]] = [
        {
            "type": "Resource",
            "resource": {"name": name, "target": {"type": "Utilization", "averageUtilization": percent}},
        }
        for name, percent in (("cpu", scaler.cpu), ("memory", scaler.memory))
        if percent is not None
    ]
    metrics += [
        {
            "type": "Pods",
            "pods": {
                "metric": {"name": metric.name},
                "target": {"type": "AverageValue", "averageValue": metric.average},
            },
        }
        for metric in scaler.pods
    ]
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": _metadata(spec),
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": spec.name},
            "minReplicas": scaler.min,
            "maxReplicas": scaler.max,
            "metrics": metrics,
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": scaler.scale_down_stabilization_seconds}},
        },
    }


def _schedule(spec: KubernetesServingSpec) -> Manifest | None:
    """The object of ``ack-kubernetes-cronhpa-controller``, which sets the number of pods of the Deployment."""
    if spec.schedule is None:
        return None
    jobs = [{"name": job.name, "schedule": job.at, "targetSize": job.replicas} for job in spec.schedule.jobs]
    days = {"excludeDates": list(spec.schedule.exclude)} if spec.schedule.exclude else {}
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": spec.name}
    return {
        "apiVersion": CRON_API,
        "kind": CRON_KIND,
        "metadata": _metadata(spec),
        "spec": {"scaleTargetRef": target, "jobs": jobs, **days},
    }


def alert_rules(spec: KubernetesServingSpec, alerts: Alerts) -> Manifest:
    """The object of the Prometheus operator with a service's alerts."""
    metadata = _metadata(spec)
    metadata["labels"] = dict(sorted({**metadata["labels"], **alerts.labels}.items()))
    rules = prometheus_rules(alerts, spec.name, spec.namespace)
    groups = [{"name": f"tf-serving-{spec.name}", "rules": rules}]
    return {"apiVersion": RULE_API, "kind": RULE_KIND, "metadata": metadata, "spec": {"groups": groups}}


def _disruption_budget(spec: KubernetesServingSpec) -> Manifest | None:
    """For a single pod there is none: a budget could only keep its node from ever being drained."""
    if spec.disruption_budget is None or fewest_pods(spec) < 2:
        return None
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": _metadata(spec),
        "spec": {"maxUnavailable": spec.disruption_budget, "selector": {"matchLabels": selector(spec)}},
    }


def _ingress(spec: KubernetesServingSpec, ingress: GrpcIngress) -> Manifest:
    annotations = {
        "alb": {
            "alb.ingress.kubernetes.io/backend-protocol": "grpc",
            "alb.ingress.kubernetes.io/listen-ports": '[{"HTTPS": 443}]',
        },
        "nginx": {"nginx.ingress.kubernetes.io/backend-protocol": "GRPC"},
    }[ingress.ingress_class]
    tls: dict[str, Any] = {"hosts": [ingress.host]}
    if ingress.tls_secret:
        tls["secretName"] = ingress.tls_secret
    backend = {"service": {"name": spec.name, "port": {"name": "grpc"}}}
    metadata = _metadata(spec)
    metadata["annotations"] = dict(sorted((annotations | dict(ingress.annotations)).items()))
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": metadata,
        "spec": {
            "ingressClassName": ingress.ingress_class,
            "tls": [tls],
            "rules": [
                {"host": ingress.host, "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}
            ],
        },
    }
