"""What the flags of a service say about how it loads models, wherever it runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from config.kubernetes import AckServiceSettings
from config.services import ServiceSettings
from tfserving import eas_spec, saved_model
from tfserving.eas_spec.description import own_flags

AnyService = ServiceSettings | AckServiceSettings


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
    given = str(found.get("saved_model_tags") or saved_model.SERVE_TAG)
    return {tag.strip() for tag in given.split(",") if tag.strip()}
