"""What is wrong with a deployment before it is made: every rule, with the message a person reads.

Sources: the Kubernetes API (names, labels, quantities), Alibaba Cloud's pages on GPU sharing, OSS volumes and Service
annotations of ACK, and TensorFlow Serving's own start-up.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping

from tfserving import cloud_names, schedule
from tfserving.errors import Problem
from tfserving.flags import image_version
from tfserving.flags import validate as validate_flags
from tfserving.flags import warnings as flag_warnings
from tfserving.kubernetes.description import (
    GRPC_PORT,
    HTTP_PORT,
    GrpcIngress,
    KubernetesServingSpec,
    LoadBalancer,
    card_memory,
    gpu_memory_fraction,
    gpu_sharing,
    image,
    most_pods,
    tf_serving_flags,
    tolerations,
    uses_gpu,
)
from tfserving.kubernetes.manifests import ANNOTATION_PREFIX
from tfserving.kubernetes.names import DNS_LABEL, EFFECTS, is_label_key, is_subdomain, label_problems, untolerated
from tfserving.kubernetes.node_pool import SHARING_MODES, SLICED_MODES, cards, cards_per_node, most_nodes
from tfserving.property_path import join_path
from tfserving.service_checks import (
    CONTROL,
    FLAG_KEYS,
    Checks,
    check_batching,
    check_bucket,
    check_environment,
    check_flag_keys,
    check_labels_at_start,
    check_labels_over_http,
    check_models,
    check_mount,
    check_slice_flag,
    check_slice_keys,
    is_amount,
    is_pinned,
)

_ENDPOINT = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?")
_QUANTITY = re.compile(r"[0-9]+(\.[0-9]+)?(m|k|M|G|Ki|Mi|Gi)?")
_METRIC = re.compile(r"[A-Za-z_:][A-Za-z0-9_:.-]*")
_LONGEST_NAME = 45  # the longest suffix of an object's name is 17 characters, and a label value holds 63
_MAX_PODS = 1000
_RESERVED_LABELS = "app.kubernetes.io"

_FLAG_KEYS = {**FLAG_KEYS, "batching_parameters_file": "batching", "monitoring_config_file": "monitoring"}
_FIXED_PORTS = {"port": GRPC_PORT, "rest_api_port": HTTP_PORT}


def validate(spec: KubernetesServingSpec, path: str) -> list[Problem]:
    """Everything wrong with a deployment that can be known before it is made. The pool itself is not looked at.

    Args:
        spec: the deployment.
        path: its place in the stack config (``tf-serving:services.vision``); problems are at keys below it.
    """
    checks = Checks(spec, path)
    _check_identity(checks)
    _check_volume(checks)
    _check_models(checks)
    _check_image(checks)
    _check_flags(checks)
    _check_gpu(checks)
    _check_capacity(checks)
    _check_placement(checks)
    _check_scaling(checks)
    _check_exposure(checks)
    _check_pod(checks)
    return checks.problems


def warnings(spec: KubernetesServingSpec) -> list[str]:
    """What will work, as far as is known, but is worth saying in a preview."""
    found = list(flag_warnings(tf_serving_flags(spec), remote_mount=not spec.volume.claim))
    channel = str(spec.flags.get("grpc_channel_arguments", ""))
    balanced = spec.headless or spec.expose == "headless" or spec.ingress or "max_connection_age" in channel
    if most_pods(spec) > 1 and not balanced:
        found.append(
            "gRPC clients stay with one pod: Services and load balancers balance connections, not requests; use "
            "headless: true with a client-side policy, ingress, or flags: {grpc_channel_arguments: "
            "grpc.max_connection_age_ms=300000}"
        )
    if spec.load_balancer and spec.load_balancer.address_type == "internet":
        guarded = spec.load_balancer.source_ranges or spec.load_balancer.acl_id
        if not guarded:
            found.append("everybody on the internet can ask this service: TensorFlow Serving knows no access control")
    if spec.volume.secret_name and not spec.volume.claim:
        found.append(f"Secret {spec.volume.secret_name} holds a long-lived access key; roleName (RRSA) needs none")
    if spec.schedule:
        found.append(
            "a schedule does not say how many pods there are before its first job runs: a new service has one until "
            "then, and so has one whose replicas were a fixed number before"
        )
    if spec.run_as_user in (None, 0):
        found.append("the container may run as root")
    if spec.config_file and spec.rollout == "restart":
        found.append(
            "rollout: restart: each change of models, versions or labels replaces the pods one after the other"
        )
    if spec.pool and uses_gpu(spec) and spec.max_surge not in (0, "0%") and _is_full(spec):
        found.append(
            f"there is no room on node pool {spec.pool.name} for the extra pods of an update (maxSurge: "
            f"{spec.max_surge}); use maxSurge: 0 and maxUnavailable: 1"
        )
    return found


def _check_identity(checks: Checks[KubernetesServingSpec]) -> None:
    spec = checks.spec
    if not DNS_LABEL.fullmatch(spec.name) or len(spec.name) > _LONGEST_NAME:
        close = re.sub(r"[^a-z0-9]+", "-", spec.name.lower()).strip("-")[:_LONGEST_NAME].rstrip("-")
        fix = f"call it {close}" if DNS_LABEL.fullmatch(close) and close != spec.name else ""
        allowed = f"up to {_LONGEST_NAME} lower-case letters, digits and hyphens inside, the first a letter"
        checks.refuse("", f"`{spec.name}` is not a name for objects of a cluster", allowed, fix)
    if not DNS_LABEL.fullmatch(spec.namespace):
        checks.refuse("namespace", f"`{spec.namespace}` is not a namespace", "lower-case letters, digits, hyphens")
    if not cloud_names.REGION.fullmatch(spec.region):
        checks.refuse("region", f"`{spec.region}` is not a region", "a region id such as cn-hangzhou")
    checks.problems += label_problems(spec.labels, f"{checks.path}.labels")
    for key in spec.labels:
        if key.startswith(f"{_RESERVED_LABELS}/"):
            message = f"label {key} is how this project finds its own objects"
            checks.refuse(join_path("labels", key), message, "", "use another label")
    for key in spec.annotations:
        if not is_label_key(key):
            checks.refuse(join_path("annotations", key), f"`{key}` is not an annotation", "name or domain/name")


def _check_volume(checks: Checks[KubernetesServingSpec]) -> None:
    spec, volume = checks.spec, checks.spec.volume
    if volume.claim:
        if not is_subdomain(volume.claim):
            checks.refuse("volume.claim", f"`{volume.claim}` is not the name of a claim")
        for key, given in (("roleName", volume.role_name), ("secretName", volume.secret_name)):
            if given:
                message = f"{key} is for a volume this stack makes, and claim names one that exists"
                checks.refuse(f"volume.{key}", message, "", f"remove {key}, or claim")
    else:
        _check_oss_volume(checks)
    check_mount(checks, "mountPath", spec.mount_path)


def _check_oss_volume(checks: Checks[KubernetesServingSpec]) -> None:
    volume = checks.spec.volume
    check_bucket(checks, volume.bucket)
    if volume.endpoint and not _ENDPOINT.fullmatch(volume.endpoint):
        message = f"`{volume.endpoint}` is not an endpoint"
        checks.refuse("volume.endpoint", message, "host or host:port, as the nodes reach it")
    if bool(volume.role_name) == bool(volume.secret_name):
        message = "both a role and a Secret" if volume.role_name else "nothing says in whose name OSS is read"
        fix = "keep one of them" if volume.role_name else "set roleName, and enable RRSA in the cluster"
        checks.refuse(
            "volume", message, "roleName (a RAM role, RRSA) or secretName (a Secret with akId, akSecret)", fix
        )
    if volume.role_name and not re.fullmatch(r"[A-Za-z0-9.@_-]{1,64}", volume.role_name):
        fix = "write the role's name, not its ARN" if ":" in volume.role_name else ""
        checks.refuse("volume.roleName", f"`{volume.role_name}` is not the name of a RAM role", "", fix)
    if volume.secret_name and not is_subdomain(volume.secret_name):
        checks.refuse("volume.secretName", f"`{volume.secret_name}` is not the name of a Secret")
    if volume.fuse_type not in ("ossfs2", "ossfs"):
        checks.refuse("volume.fuseType", f"`{volume.fuse_type}` is not an OSS client of ACK", "ossfs2, ossfs")
    if CONTROL.search(volume.mount_options):
        checks.refuse(
            "volume.mountOptions", "the options hold a control character", "one line such as -o attr_timeout=5"
        )


def _check_models(checks: Checks[KubernetesServingSpec]) -> None:
    spec = checks.spec
    if spec.rollout not in ("poll", "restart"):
        checks.refuse("rollout", f"`{spec.rollout}` is not a way to roll out", "poll, restart")
    check_models(checks)
    if spec.config_file:
        if spec.rollout == "poll" and spec.config_poll_seconds < 1:
            message = "with rollout: poll the server has to read the config file again"
            checks.refuse("configPollSeconds", message, "1 or more", "set configPollSeconds: 10, or rollout: restart")
        if not spec.allow_labels_for_unavailable_versions:
            check_labels_at_start(checks)
        if spec.rollout == "restart" and (spec.config is None or not spec.config.models):
            checks.refuse("configFile", "there is no model to serve", "", "declare models")
        return
    if not spec.model:
        checks.refuse("model", "nothing to serve", "", "set model to one of the models, or configFile: true")
    for key, given in (
        ("allowLabelsForUnavailableVersions", spec.allow_labels_for_unavailable_versions),
        ("rollout", spec.rollout == "restart"),
    ):
        if given:
            message = f"{key} is about the config file, which this service does not read"
            checks.refuse(key, message, "", f"remove {key}")


def _check_image(checks: Checks[KubernetesServingSpec]) -> None:
    spec, name = checks.spec, image(checks.spec)
    allowed = "an image with a version tag or digest, such as tensorflow/serving:2.19.1"
    if not is_pinned(checks, name, allowed):
        return
    bare = name.partition("@")[0]
    version = image_version(name)
    if uses_gpu(spec) and version and not bare.endswith("-gpu"):
        checks.refuse("image", f"image {name} has no GPU support", f"{bare}-gpu")
    if version and bare.endswith("-gpu") and not uses_gpu(spec):
        checks.refuse("image", f"image {name} needs a GPU, and none is asked for", "", "set gpu: 1, or gpuMemory")
    if spec.uses_labels:
        check_labels_over_http(checks, version)
    for index, secret in enumerate(spec.image_pull_secrets):
        if not is_subdomain(secret):
            checks.refuse(f"imagePullSecrets[{index}]", f"`{secret}` is not the name of a Secret")


def _check_flags(checks: Checks[KubernetesServingSpec]) -> None:
    spec = checks.spec
    for name, port in _FIXED_PORTS.items():
        if name in spec.flags:
            message = f"--{name} is always {port}: probes and Services go by it"
            checks.refuse(f"flags.{name}", message, "", f"remove {name}; the Service's own ports can differ from it")
    check_flag_keys(checks, _FLAG_KEYS)
    if spec.batching:
        check_batching(checks)
    # What keys of the stack config set has been looked at; the rest must go with it.
    given = {name for name in spec.flags if name in _FLAG_KEYS or name in _FIXED_PORTS}
    flags = {name: value for name, value in tf_serving_flags(spec).items() if name not in given}
    here = f"{checks.path}.flags"
    checks.problems += validate_flags(flags, HTTP_PORT, False, image_version(image(spec)), here)
    for name in ("ssl_config_file", "use_alts_credentials"):
        if flags.get(name) and spec.ingress:
            message = f"--{name} encrypts the pods' gRPC port, where the ingress speaks plain HTTP/2"
            checks.refuse(f"flags.{name}", message, "", "remove it, or ingress")


def _check_gpu(checks: Checks[KubernetesServingSpec]) -> None:
    spec = checks.spec
    checks.within("gpu", spec.gpu, 0)
    checks.within("gpuMemory", spec.gpu_memory, 0)
    sharing = gpu_sharing(spec)
    if spec.pool and spec.gpu_sharing and spec.gpu_sharing != spec.pool.gpu_sharing:
        message = f"the nodes of pool {spec.pool.name} share cards by {spec.pool.gpu_sharing}, not {spec.gpu_sharing}"
        checks.refuse("gpuSharing", message, spec.pool.gpu_sharing, "remove it: the pool says so")
    if spec.gpu_sharing and spec.gpu_sharing not in SHARING_MODES:
        checks.refuse("gpuSharing", f"`{spec.gpu_sharing}` is not a sharing mode", ", ".join(SHARING_MODES))
    if spec.gpu_memory and spec.gpu:
        message = f"gpuMemory asks for a slice, gpu: {spec.gpu} for whole cards, and a node gives one kind only"
        checks.refuse("gpuMemory", message, "", "remove one of them")
    elif spec.gpu_memory:
        _check_slice(checks, sharing)
    elif spec.gpu and sharing in SLICED_MODES:
        where = f"pool {spec.pool.name}" if spec.pool else "these nodes"
        message = f"{where} gives slices of cards (gpuSharing: {sharing}), whole cards do not exist there"
        checks.refuse("gpu", message, "", "set gpuMemory instead, in GiB")
    check_slice_keys(checks)
    if spec.gpu_core_percentage and spec.gpu_memory and sharing not in ("", "core_mem"):
        message = f"gpuSharing: {sharing} does not divide a card's computing power"
        checks.refuse("gpuCorePercentage", message, "gpuSharing: core_mem", "remove it, or change the pool")
    if spec.pool and not uses_gpu(spec):
        message = f"it runs on GPU node pool {spec.pool.name} and asks for no GPU: the card would stay idle"
        checks.refuse("gpu", message, "", "set gpu: 1 or gpuMemory, or remove pool")
    if spec.gpu and not spec.gpu_memory and spec.pool and (most := cards_per_node(spec.pool)) and spec.gpu > most:
        message = f"{spec.gpu} cards per pod, and a node of pool {spec.pool.name} has {most}: no pod would ever start"
        checks.refuse("gpu", message, f"1 to {most}")


def _check_slice(checks: Checks[KubernetesServingSpec], sharing: str) -> None:
    spec = checks.spec
    card = card_memory(spec)
    if not sharing:
        message = "how the nodes share cards is not known, and with it whether a pod sees its slice or the whole card"
        checks.refuse("gpuSharing", message, ", ".join(sorted(SLICED_MODES)), "set pool, or gpuSharing")
    elif sharing not in SLICED_MODES:
        where = f"pool {spec.pool.name}" if spec.pool else "these nodes"
        message = f"{where} gives whole cards (gpuSharing: {sharing}), slices do not exist there"
        checks.refuse("gpuMemory", message, "", "set gpu: 1 instead, or gpuSharing of the pool")
    if card and spec.gpu_memory > card:
        name = cards(spec.pool)[0].name if spec.pool and not spec.gpu_card_memory else "card"
        message = f"a slice of {spec.gpu_memory} GiB is larger than the {name} with {card} GiB"
        checks.refuse("gpuMemory", message, f"1 to {card}")
    elif sharing == "share" and not card:
        message = (
            "without isolation TensorFlow takes the whole card unless it is told its share, and the card is not known"
        )
        checks.refuse("gpuCardMemory", message, "memory of one card in GiB", "set gpuCardMemory")
    check_slice_flag(checks, gpu_memory_fraction(spec))


def _pods_per_pool(spec: KubernetesServingSpec) -> int | None:
    """The most pods of this kind that fit on the pool by its cards; ``None`` where that is not known."""
    if spec.pool is None or not uses_gpu(spec):
        return None
    nodes, per_node = most_nodes(spec.pool), cards_per_node(spec.pool)
    if nodes is None or per_node is None:
        return None
    if spec.gpu_memory:
        card = card_memory(spec)
        return nodes * per_node * (card // spec.gpu_memory) if card else None
    return nodes * (per_node // spec.gpu)


def _is_full(spec: KubernetesServingSpec) -> bool:
    fitting = _pods_per_pool(spec)
    return fitting is not None and most_pods(spec) >= fitting


def _check_capacity(checks: Checks[KubernetesServingSpec]) -> None:
    spec = checks.spec
    fitting = _pods_per_pool(spec)
    if spec.pool and fitting and most_pods(spec) > fitting:
        key = "autoscaler.max" if spec.autoscaler else "schedule.jobs" if spec.schedule else "replicas"
        message = f"{most_pods(spec)} pods, and the cards of pool {spec.pool.name} are enough for {fitting}"
        checks.refuse(key, message, f"1 to {fitting}", "raise the pool's scaling.max or desiredSize")


def _check_placement(checks: Checks[KubernetesServingSpec]) -> None:
    spec = checks.spec
    checks.problems += label_problems(spec.node_selector, f"{checks.path}.nodeSelector")
    for index, toleration in enumerate(spec.tolerations or ()):
        here = f"tolerations[{index}]"
        if toleration.operator not in ("Equal", "Exists"):
            checks.refuse(f"{here}.operator", f"`{toleration.operator}` is not an operator", "Equal, Exists")
        if toleration.effect and toleration.effect not in EFFECTS:
            checks.refuse(f"{here}.effect", f"`{toleration.effect}` is not an effect", ", ".join(EFFECTS))
        if not toleration.key and toleration.operator != "Exists":
            checks.refuse(here, "a toleration without a key tolerates every taint", "operator: Exists", "set key")
        elif toleration.key and not is_label_key(toleration.key):
            checks.refuse(f"{here}.key", f"`{toleration.key}` is not the key of a taint", "name or domain/name")
        if toleration.operator == "Exists" and toleration.value:
            checks.refuse(f"{here}.value", "Exists looks at no value", "", "remove value, or use operator: Equal")
    if spec.pool:
        for taint in untolerated(spec.pool.taints, tolerations(spec)):
            message = f"no toleration matches taint {taint} of node pool {spec.pool.name}: no pod would ever start"
            wanted = f"value: {taint.value}, effect: {taint.effect}" if taint.value else "operator: Exists"
            fix = f"add {{key: {taint.key}, {wanted}}}, or remove tolerations: the pool's are then used"
            checks.refuse("tolerations", message, "", fix)
        labels = spec.pool.labels
        for key, value in spec.node_selector.items():
            if key in labels and labels[key] != value:
                message = f"nodes of pool {spec.pool.name} have {key}={labels[key]}: no pod would ever start"
                checks.refuse(join_path("nodeSelector", key), message, labels[key])


def _check_schedule(checks: Checks[KubernetesServingSpec]) -> None:
    spec = checks.spec
    if spec.schedule is None:
        return
    path = f"{checks.path}.schedule"
    checks.problems += schedule.problems(spec.schedule, path)
    if spec.schedule.time_zone:
        message = "on Kubernetes times are in the time zone of the controller, and nothing else can be said"
        checks.refuse("schedule.timeZone", message, "", "remove timeZone")
    if spec.replicas is not None:
        message = f"the schedule sets the number of pods, and replicas: {spec.replicas} does too"
        checks.refuse("replicas", message, "", "remove one of them")
    if spec.autoscaler:
        message = "the schedule and the autoscaler would undo each other's number of pods"
        checks.refuse("autoscaler", message, "", "remove one of them")


def _check_scaling(checks: Checks[KubernetesServingSpec]) -> None:
    spec, scaler = checks.spec, checks.spec.autoscaler
    _check_schedule(checks)
    checks.within("replicas", spec.replicas, 0, _MAX_PODS)
    if scaler:
        if spec.replicas is not None:
            message = f"the autoscaler sets the number of pods, and replicas: {spec.replicas} does too"
            checks.refuse("replicas", message, "", "remove one of them")
        if scaler.min > scaler.max:
            message = f"the bounds {scaler.min} and {scaler.max} are reversed"
            checks.refuse("autoscaler", message, "min up to max", f"set min: {scaler.max}, max: {scaler.min}")
        checks.within("autoscaler.min", scaler.min, 1)
        checks.within("autoscaler.max", scaler.max, 1, _MAX_PODS)
        if scaler.cpu is None and scaler.memory is None and not scaler.pods:
            checks.refuse("autoscaler", "it has nothing to follow", "cpu, memory or pods", "set cpu: 70")
        for key, percent in (("cpu", scaler.cpu), ("memory", scaler.memory)):
            checks.within(f"autoscaler.{key}", percent, 1, 1000)
        for metric in scaler.pods:
            here = join_path("autoscaler.pods", metric.name)
            if not _METRIC.fullmatch(metric.name):
                checks.refuse(here, f"`{metric.name}` is not the name of a metric")
            if not _QUANTITY.fullmatch(metric.average) or not re.search(r"[1-9]", metric.average):
                checks.refuse(here, f"`{metric.average}` is not a target", "a quantity above 0, such as 200 or 500m")
        checks.within("autoscaler.scaleDownStabilizationSeconds", scaler.scale_down_stabilization_seconds, 0, 3600)
    for key, amount in (("maxSurge", spec.max_surge), ("maxUnavailable", spec.max_unavailable)):
        if not is_amount(amount):
            checks.refuse(key, f"`{amount}` is not an amount", 'a number, or "0%" to "100%"')
    if {spec.max_surge, spec.max_unavailable} <= {0, "0%"}:
        message = "maxSurge and maxUnavailable are both 0: no pod could ever be replaced"
        checks.refuse("maxSurge", message, "", "set maxSurge: 1, or maxUnavailable: 1")
    if spec.disruption_budget is not None:
        if not is_amount(spec.disruption_budget):
            checks.refuse(
                "disruptionBudget", f"`{spec.disruption_budget}` is not an amount", 'a number, or "0%" to "100%"'
            )
        elif spec.disruption_budget in (0, "0%"):
            message = "no pod may ever be missing, so no node could be drained, repaired or upgraded"
            checks.refuse("disruptionBudget", message, "1 or more", "set disruptionBudget: 1")


def _check_exposure(checks: Checks[KubernetesServingSpec]) -> None:
    spec = checks.spec
    if spec.expose not in ("cluster", "headless", "loadBalancer"):
        checks.refuse("expose", f"`{spec.expose}` is not a way to reach a service", "cluster, headless, loadBalancer")
    if spec.headless and spec.expose == "headless":
        checks.refuse("headless", "the Service itself is headless already", "", "remove headless, or expose")
    if spec.load_balancer and spec.expose != "loadBalancer":
        message = "loadBalancer is set, and the service is not exposed by one"
        checks.refuse("loadBalancer", message, "", "set expose: loadBalancer, or remove loadBalancer")
    if spec.load_balancer:
        _check_load_balancer(checks, spec.load_balancer)
    if spec.ingress:
        _check_ingress(checks, spec.ingress)


def _check_load_balancer(checks: Checks[KubernetesServingSpec], balancer: LoadBalancer) -> None:
    if balancer.address_type not in ("intranet", "internet"):
        message = f"`{balancer.address_type}` is not an address type"
        checks.refuse("loadBalancer.addressType", message, "intranet, internet")
    if balancer.vswitch_id and balancer.address_type != "intranet":
        message = "an internet address is in no vSwitch"
        checks.refuse("loadBalancer.vswitchId", message, "", "remove it, or set addressType: intranet")
    if balancer.force_override_listeners and not balancer.id:
        message = "there are no listeners to override: the load balancer is new"
        checks.refuse("loadBalancer.forceOverrideListeners", message, "", "set id, or remove it")
    for key, prefix, value in (
        ("id", "lb-", balancer.id),
        ("vswitchId", "vsw-", balancer.vswitch_id),
        ("aclId", "acl-", balancer.acl_id),
    ):
        if value and not value.startswith(prefix):
            checks.refuse(f"loadBalancer.{key}", f"`{value}` is not an id of that kind", f"{prefix}...")
    _check_protocol_ports(checks, "loadBalancer.protocolPorts", balancer.protocol_ports, balancer.certificate_id)
    for index, block in enumerate(balancer.source_ranges):
        try:
            ipaddress.ip_network(block)
        except ValueError:
            message = f"`{block}` is not an address block"
            checks.refuse(f"loadBalancer.sourceRanges[{index}]", message, "CIDR notation, such as 10.0.0.0/8")
    for name, text in balancer.annotations.items():
        here = join_path("loadBalancer.annotations", name)
        if not is_label_key(name):
            checks.refuse(here, f"`{name}` is not an annotation", "domain/name")
        elif name.removeprefix("service.beta.kubernetes.io/").replace("alicloud", "alibaba-cloud") == (
            "alibaba-cloud-loadbalancer-protocol-port"
        ):
            _check_protocol_annotation(checks, here, text)
        elif name.startswith(ANNOTATION_PREFIX) and name.removeprefix(ANNOTATION_PREFIX) in _BALANCER_KEYS:
            key = _BALANCER_KEYS[name.removeprefix(ANNOTATION_PREFIX)]
            checks.refuse(here, f"the annotation is set by {key}", "", f"use loadBalancer.{key}")


_BALANCER_KEYS = {
    "address-type": "addressType",
    "spec": "spec",
    "id": "id",
    "force-override-listeners": "forceOverrideListeners",
    "vswitch-id": "vswitchId",
    "cert-id": "certificateId",
    "acl-id": "aclId",
}


def _check_protocol_ports(
    checks: Checks[KubernetesServingSpec], here: str, ports: Mapping[int, str], certificate: str
) -> None:
    for port, protocol in ports.items():
        at = f"{here}.{port}"
        if port not in (GRPC_PORT, HTTP_PORT):
            checks.refuse(at, f"the service has no port {port}", f"{HTTP_PORT}, {GRPC_PORT}")
        elif protocol not in ("tcp", "http", "https"):
            checks.refuse(at, f"`{protocol}` is not a protocol of a listener", "tcp, http, https")
        elif port == GRPC_PORT and protocol != "tcp":
            message = f"an {protocol} listener of this load balancer speaks HTTP/1.1 to the pods, and gRPC needs HTTP/2"
            checks.refuse(at, message, "tcp", f"remove {GRPC_PORT}: tcp is the default; for TLS use ingress")
        elif protocol == "https" and not certificate:
            message = "an https listener needs a certificate"
            checks.refuse("loadBalancer.certificateId", message, "id of a server certificate", "set certificateId")


def _check_protocol_annotation(checks: Checks[KubernetesServingSpec], here: str, text: str) -> None:
    for item in text.split(","):
        protocol, _, port = item.partition(":")
        if port.strip() == str(GRPC_PORT) and protocol.strip() != "tcp":
            message = f"`{item.strip()}` breaks gRPC: that listener speaks HTTP/1.1 to the pods"
            checks.refuse(here, message, f"tcp:{GRPC_PORT}", "use loadBalancer.protocolPorts")
            return
    checks.refuse(here, "the annotation is set by protocolPorts", "", "use loadBalancer.protocolPorts")


def _check_ingress(checks: Checks[KubernetesServingSpec], ingress: GrpcIngress) -> None:
    if not is_subdomain(ingress.host.removeprefix("*.")) or "." not in ingress.host:
        checks.refuse("ingress.host", f"`{ingress.host}` is not a host name", "such as vision.example.com")
    if ingress.ingress_class not in ("alb", "nginx"):
        message = f"how ingress class `{ingress.ingress_class}` is told to speak gRPC is not known"
        checks.refuse("ingress.class", message, "alb, nginx")
    if ingress.ingress_class == "nginx" and not ingress.tls_secret:
        message = "gRPC through nginx needs HTTP/2, and clients get that with TLS only"
        checks.refuse("ingress.tlsSecret", message, "name of a Secret of type kubernetes.io/tls", "set tlsSecret")
    if ingress.tls_secret and not is_subdomain(ingress.tls_secret):
        checks.refuse("ingress.tlsSecret", f"`{ingress.tls_secret}` is not the name of a Secret")
    for name in ingress.annotations:
        if name.endswith("/backend-protocol"):
            message = "the backend of this ingress speaks gRPC"
            checks.refuse(join_path("ingress.annotations", name), message, "", "remove the annotation")


def _check_pod(checks: Checks[KubernetesServingSpec]) -> None:
    spec = checks.spec
    if not spec.cpu > 0:
        checks.refuse("cpu", f"`{spec.cpu:g}` is not a number of CPUs", "above 0, such as 0.5 or 4")
    checks.within("memory", spec.memory, 256)
    checks.within("startupSeconds", spec.startup_seconds, 10)
    checks.within("drainSeconds", spec.drain_seconds, 0, 3600)
    checks.within("runAsUser", spec.run_as_user, 0)
    for key, name in (("serviceAccount", spec.service_account), ("priorityClass", spec.priority_class)):
        if name and not is_subdomain(name):
            checks.refuse(key, f"`{name}` is not the name of an object")
    check_environment(checks)
