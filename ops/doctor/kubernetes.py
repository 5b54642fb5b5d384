"""What the doctor says of the cluster of services with ``target: ack``: whether it answers, and what one may do there.

Rights are asked for with SelfSubjectAccessReview, which changes nothing and which every identity may make.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ops.finding import Finding
from provider.cluster import ClusterApi
from tfserving.errors import CloudError
from tfserving.kubeconfig import located

_MANAGE = ("get", "create", "patch", "delete")
_KINDS_OF_COMPONENTS = (
    ("schedule", "autoscaling.alibabacloud.com", "cronhorizontalpodautoscalers"),
    ("alerts", "monitoring.coreos.com", "prometheusrules"),
)
_SECONDS = 5
_DOCUMENT = "docs/kubernetes.md"


@dataclass(frozen=True)
class _Right:
    """Something one may do to a kind of object.

    Attributes:
        verb: ``get``, ``create``, ...
        group: API group; empty for the core.
        resource: plural, with a subresource behind a slash.
        namespaced: asked of the namespace, not of the whole cluster.
    """

    verb: str
    group: str
    resource: str
    namespaced: bool = True


def findings(
    settings: Any, services: Mapping[str, Mapping[str, Any]], project_dir: Path, *, local: bool
) -> Iterator[Finding]:
    """Everything about the cluster.

    Args:
        settings: ``tf-serving:kubernetes`` as the stack file says it.
        services: the services with ``target: ack`` as the stack file says them.
        project_dir: what a relative path of a kubeconfig is relative to.
        local: the stack is for this machine, and its cluster is not guessed.
    """
    given = settings if isinstance(settings, Mapping) else {}
    kubeconfig = given.get("kubeconfig")
    if isinstance(kubeconfig, Mapping):
        yield Finding("skipped", "cluster", "the kubeconfig is encrypted in the stack file")
        return
    if not kubeconfig and given.get("cluster") is not None:
        yield Finding("skipped", "cluster", "its kubeconfig is asked for once the stack has made it")
        return
    if not kubeconfig and local:
        fix = "set tf-serving:kubernetes.kubeconfig to .sandbox/kube/cluster/kubeconfig"
        yield Finding("error", "cluster", "the stack names no kubeconfig", fix)
        return
    cluster = ClusterApi(located(str(kubeconfig or ""), project_dir), str(given.get("context") or ""))
    namespace = str(given.get("namespace") or "default")
    try:
        yield _server(cluster)
        missing = list(_missing(cluster, namespace, needs(given, services)))
    except CloudError as error:
        fix = "is the kubeconfig right, and is the API server reached from here?"
        yield Finding("error", "cluster", str(error), fix)
        return
    subject = "rights on Kubernetes"
    if missing:
        verbs: dict[str, list[str]] = {}
        for right in missing:
            verbs.setdefault(right.resource, []).append(right.verb)
        text = "; ".join(f"may not {', '.join(found)} {resource}" for resource, found in verbs.items())
        yield Finding("error", subject, f"{text} in namespace {namespace}", f"bind a role with these: {_DOCUMENT}")
    else:
        yield Finding("ok", subject, f"may deploy to namespace {namespace} and ask pods there")


def needs(settings: Mapping[str, Any], services: Mapping[str, Mapping[str, Any]]) -> list[_Right]:
    """What deploying the services, and proving what their pods serve, takes."""
    managed = [("", "configmaps"), ("", "services"), ("apps", "deployments")]
    volumes = [service.get("volume") or settings.get("volume") or {} for service in services.values()]
    makes_volumes = any(not (isinstance(volume, Mapping) and volume.get("claim")) for volume in volumes)
    if makes_volumes:
        managed.append(("", "persistentvolumeclaims"))
    for key, group, resource in (
        ("autoscaler", "autoscaling", "horizontalpodautoscalers"),
        ("ingress", "networking.k8s.io", "ingresses"),
    ):
        if any(service.get(key) for service in services.values()):
            managed.append((group, resource))
    managed.append(("policy", "poddisruptionbudgets"))
    rights = [_Right(verb, group, resource) for group, resource in managed for verb in _MANAGE]
    for key, group, resource in _KINDS_OF_COMPONENTS:
        if any(service.get(key) for service in services.values()):
            rights += [_Right(verb, group, resource) for verb in ("get", "create", "update", "delete")]
    if makes_volumes:
        rights += [_Right(verb, "", "persistentvolumes", namespaced=False) for verb in _MANAGE]
    rights.append(_Right("list", "", "pods"))
    rights += [_Right("get", "", resource) for resource in ("pods/proxy", "pods/log")]
    return rights


def _server(cluster: ClusterApi) -> Finding:
    from kubernetes import client

    api = cluster.api
    version = client.VersionApi(api.api_client)
    found = cluster.call("ask the API server its version", lambda: version.get_code(_request_timeout=_SECONDS))
    return Finding("ok", "cluster", f"{api.api_client.configuration.host} answers, Kubernetes {found.git_version}")


def _missing(cluster: ClusterApi, namespace: str, rights: list[_Right]) -> Iterator[_Right]:
    from kubernetes import client

    api = client.AuthorizationV1Api(cluster.api.api_client)
    for right in rights:
        resource, _, subresource = right.resource.partition("/")
        attributes = client.V1ResourceAttributes(
            verb=right.verb,
            group=right.group,
            resource=resource,
            subresource=subresource or None,
            namespace=namespace if right.namespaced else None,
        )
        spec = client.V1SelfSubjectAccessReviewSpec(resource_attributes=attributes)
        review = client.V1SelfSubjectAccessReview(spec=spec)

        def ask(review: Any = review) -> Any:
            return api.create_self_subject_access_review(review, _request_timeout=_SECONDS)

        if not cluster.call("ask what one may do", ask).status.allowed:
            yield right
