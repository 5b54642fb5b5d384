"""Stack outputs: how to reach each service, and what the models take and give."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from components.eas_service import TensorFlowServing
from components.model_files import ModelSignatures
from components.resources import ServedConfig, ServedModel
from config.kubernetes import AckServiceSettings
from config.services import ServiceSettings
from config.stack import Settings
from tfserving import eas_spec, model_config, saved_model, wire
from tfserving.model_config import Model, VersionPolicy
from tfserving.saved_model import Signature

if TYPE_CHECKING:
    from components.kubernetes_serving import KubernetesServing

_SINGLE_POLICY = VersionPolicy.latest()
"""Without a config file TensorFlow Serving loads the latest version and knows no labels."""


def signature_warnings(settings: Settings, signatures: Mapping[str, ModelSignatures]) -> list[str]:
    """Labelled versions with another signature than what clients of the label know.

    That is the version of label ``stable``, and the served version before it, which the label stood for as a rule.
    """
    warnings = []
    for model in settings.serving.models:
        known = signatures.get(model.name, {})
        told: set[frozenset[int]] = set()
        for version in sorted(set(model.labels.values()) & known.keys()):
            before = max((number for number in known if number < version), default=None)
            for reference in (model.labels.get("stable"), before):
                if reference is None or reference not in known or reference == version or {reference, version} in told:
                    continue
                differences = saved_model.differences(known[reference], known[version])
                if differences:
                    told.add(frozenset((reference, version)))
                    versions = [f"version {number}{_labels_of(model, number)}" for number in (version, reference)]
                    warnings.append(
                        f"model {model.name}: {versions[0]} has another signature than {versions[1]}, "
                        f"and clients have to change with it: {'; '.join(differences)}"
                    )
    return warnings


def _labels_of(model: Model, version: int) -> str:
    labels = [label for label, number in model.labels.items() if number == version]
    return f" ({', '.join(labels)})" if labels else ""


def model_facts(settings: Settings, name: str) -> dict[str, Any]:
    """What a stack declares of one model: policy, versions it selects, labels."""
    model = settings.serving.get(name)
    if model is None:
        return {}
    return {
        "policy": model_config.policy_to_dict(model.policy),
        "versions": list(settings.served_versions(name)),
        "labels": dict(model.labels),
    }


def models_of(settings: Settings, service: ServiceSettings | AckServiceSettings) -> dict[str, dict[str, Any]]:
    """What requests to a service find, by the name they use."""
    if service.spec.config_file:
        return {model.name: model_facts(settings, model.name) for model in settings.serving.models}
    if not service.spec.model or not _answers(service):
        return {}
    latest = model_config.policy_to_dict(_SINGLE_POLICY)
    return {service.request_name: {"policy": latest, "versions": single_versions(settings, service), "labels": {}}}


def single_versions(settings: Settings, service: ServiceSettings | AckServiceSettings) -> list[int]:
    """The versions a service of one model is to serve; none for other services, and servers that are not TF Serving."""
    if service.spec.config_file or not _answers(service):
        return []
    return list(_SINGLE_POLICY.select(settings.published.get(service.spec.model, ())))


def _answers(service: ServiceSettings | AckServiceSettings) -> bool:
    """Whether what runs answers as TensorFlow Serving does; on Kubernetes nothing else is deployed."""
    return isinstance(service, AckServiceSettings) or eas_spec.answers_as_tf_serving(service.spec)


def stack_outputs(
    settings: Settings,
    services: Iterable[TensorFlowServing | KubernetesServing],
    rollout: ServedConfig | None,
    proofs: Mapping[str, ServedModel],
    signatures: Mapping[str, ModelSignatures],
) -> dict[str, Any]:
    """What is exported.

    Args:
        settings: the stack.
        services: its services.
        rollout: what services with the config file serve; ``None`` without any.
        proofs: what services of one model serve, by service.
        signatures: of local models.

    Returns:
        ``services``, ``models``, and ``unproven``, the services nobody could ask what they serve. Version numbers above
        2^53 are text (:func:`tfserving.wire.exact`).
    """
    outputs = {
        "services": {
            serving.service.name: _service(serving, rollout, proofs.get(serving.service.name)) for serving in services
        },
        "models": {
            model.name: {
                **model_facts(settings, model.name),
                "signatures": _grouped(signatures.get(model.name, {})),
            }
            for model in settings.models
        },
        "unproven": settings.unproven,
    }
    exported: dict[str, Any] = wire.exact(outputs)
    return exported


def _grouped(signatures: ModelSignatures) -> list[dict[str, Any]]:
    """Signatures with the versions that have them: as a rule one entry, however many versions there are."""
    groups: list[tuple[list[int], Mapping[str, Signature]]] = []
    for number, found in sorted(signatures.items()):
        same = next((versions for versions, known in groups if known == found), None)
        if same is None:
            groups.append(([number], found))
        else:
            same.append(number)
    return [
        {"versions": versions, "byName": {name: signature.to_dict() for name, signature in found.items()}}
        for versions, found in groups
    ]


def _service(
    serving: TensorFlowServing | KubernetesServing, rollout: ServedConfig | None, proof: ServedModel | None
) -> dict[str, Any]:
    name, declared = serving.service.name, serving.models
    models: Any = declared
    if proof is not None:
        models = proof.served.apply(lambda served: wire.exact(_decoded(proof, served) or declared))
    elif rollout is not None and serving.service.spec.config_file:
        models = rollout.served.apply(lambda served: wire.exact(_decoded(rollout, served).get(name) or declared))
    if not isinstance(serving, TensorFlowServing):
        # Both ports are open, and nobody is asked for a token.
        return {"protocol": "http", "url": serving.url, "target": serving.target, "models": models}
    address = {"target": serving.target} if serving.protocol == "grpc" else {"url": serving.url}
    return {"protocol": serving.protocol, **address, "token": serving.token, "models": models}


def _decoded(resource: ServedConfig | ServedModel, served: Any) -> dict[str, Any]:
    """What a resource says is served, its version numbers as integers."""
    found = wire.decode(resource.pulumi_resource_type, {"served": served})["served"]
    return found if isinstance(found, dict) else {}
