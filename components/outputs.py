"""Stack outputs: how to reach each service, and what the models take and give."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from components.eas_service import TensorFlowServing
from components.model_files import ModelSignatures
from components.resources import ServedConfig
from components.service_settings import ServiceSettings
from components.settings import Settings
from tfserving import eas_spec, model_config, saved_model
from tfserving.model_config import VersionPolicy


def signature_warnings(settings: Settings, signatures: Mapping[str, ModelSignatures]) -> list[str]:
    """Labels of one model that stand for versions with different signatures: moving one along breaks its clients."""
    warnings = []
    for model in settings.serving.models:
        known = {label: version for label, version in model.labels.items() if version in signatures.get(model.name, {})}
        reference = "stable" if "stable" in known else next(iter(known), "")
        for label, version in known.items():
            differences = saved_model.differences(
                signatures[model.name][known[reference]], signatures[model.name][version]
            )
            if differences:
                warnings.append(
                    f"model {model.name}: version {version} (label {label}) has another signature than version "
                    f"{known[reference]} (label {reference}), and clients have to change with it: "
                    f"{'; '.join(differences)}"
                )
    return warnings


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


def models_of(settings: Settings, service: ServiceSettings) -> dict[str, dict[str, Any]]:
    """What requests to a service find, by the name they use."""
    if service.spec.config_file:
        return {model.name: model_facts(settings, model.name) for model in settings.serving.models}
    if not eas_spec.runs_tf_serving(service.spec):
        return {}
    # Without a config file TensorFlow Serving loads the latest version and knows no labels.
    latest = VersionPolicy.latest()
    versions = list(latest.select(settings.published.get(service.spec.model, ())))
    return {service.request_name: {"policy": model_config.policy_to_dict(latest), "versions": versions, "labels": {}}}


def stack_outputs(
    settings: Settings,
    services: Iterable[TensorFlowServing],
    rollout: ServedConfig | None,
    signatures: Mapping[str, ModelSignatures],
) -> dict[str, Any]:
    """What is exported: ``services``, ``models``, and ``unproven``, the services nobody could ask what they serve."""
    return {
        "services": {serving.service.name: _service(serving, rollout) for serving in services},
        "models": {
            model.name: {
                **model_facts(settings, model.name),
                "signatures": {
                    str(number): {name: signature.to_dict() for name, signature in found.items()}
                    for number, found in signatures.get(model.name, {}).items()
                },
            }
            for model in settings.models
        },
        "unproven": [service.name for service in settings.services if not service.reachable],
    }


def _service(serving: TensorFlowServing, rollout: ServedConfig | None) -> dict[str, Any]:
    name, declared = serving.service.name, serving.models
    models: Any = declared
    if rollout is not None and serving.service.spec.config_file:
        models = rollout.served.apply(lambda served: _whole_numbers((served or {}).get(name)) or declared)
    address = {"target": serving.target} if serving.protocol == "grpc" else {"url": serving.url}
    return {"protocol": serving.protocol, **address, "token": serving.token, "models": models}


def _whole_numbers(value: Any) -> Any:
    """Numbers come back from the engine as floats."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return {key: _whole_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_whole_numbers(item) for item in value]
    return value
