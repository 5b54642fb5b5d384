"""How a service loads models, wherever it runs: what its command and its flags say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from config.kubernetes import AckServiceSettings
from config.services import ServiceSettings
from tfserving import eas_spec, flags, saved_model
from tfserving.eas_spec.description import own_flags

AnyService = ServiceSettings | AckServiceSettings


def answers_as_tf_serving(service: AnyService) -> bool:
    """Whether what runs answers as TensorFlow Serving does; on Kubernetes nothing else is deployed."""
    return isinstance(service, AckServiceSettings) or eas_spec.answers_as_tf_serving(service.spec)


def effective_flags(service: AnyService) -> Mapping[str, Any] | None:
    """The flags TensorFlow Serving gets beyond those of its entry point; None where another server runs."""
    if isinstance(service, AckServiceSettings):
        return service.spec.flags
    spec = service.spec
    if not eas_spec.answers_as_tf_serving(spec):
        return None
    own = own_flags(spec)
    return own.values if own is not None else eas_spec.tf_serving_flags(spec)


def saved_model_tags(service: AnyService) -> set[str] | None:
    """The tags of the graph that a service loads; None where another server does."""
    found = effective_flags(service)
    if found is None:
        return None
    return saved_model.tag_set(str(found.get("saved_model_tags") or saved_model.SERVE_TAG))


def prefers_tflite(service: AnyService) -> bool:
    """Whether a service loads ``model.tflite`` where a version has one."""
    return flags.prefers_tflite(effective_flags(service))


def may_serve(service: AnyService, model: str) -> bool:
    """Whether a model is one of those that a service chose from the stack's, or serves alone."""
    spec = service.spec
    return (not spec.models or model in spec.models) if spec.config_file else spec.model == model
