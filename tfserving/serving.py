"""What a service serves: versions and labels as they are declared, and signatures that clients have to follow."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tfserving import model_config, saved_model
from tfserving.model_config import Model, VersionPolicy
from tfserving.saved_model import Signature

ModelSignatures = Mapping[int, Mapping[str, Signature]]
"""Signatures of a model by version, and there by name."""

_KEY_LENGTH = 12

_SINGLE_POLICY = VersionPolicy.latest()
"""Without a config file TensorFlow Serving loads the latest version and knows no labels."""


def declared(model: Model, published: Sequence[int]) -> dict[str, Any]:
    """What a config file declares of one model: policy, the published versions it selects, labels."""
    return {
        "policy": model_config.policy_to_dict(model.policy),
        "versions": list(model.policy.select(published)),
        "labels": dict(model.labels),
    }


def single_versions(published: Sequence[int]) -> list[int]:
    """The versions that a service of one model is to serve."""
    return list(_SINGLE_POLICY.select(published))


def declared_single(published: Sequence[int]) -> dict[str, Any]:
    """What a service of one model serves, as :func:`declared` says it of a model in a config file."""
    policy = model_config.policy_to_dict(_SINGLE_POLICY)
    return {"policy": policy, "versions": single_versions(published), "labels": {}}


def signature_warnings(models: Iterable[Model], signatures: Mapping[str, ModelSignatures]) -> list[str]:
    """Labelled versions with another signature than what clients of the label know.

    That is the version of label ``stable``, and the served version before it, which the label stood for as a rule.

    Args:
        models: what is to be served.
        signatures: of served versions, by model, as far as they are known.
    """
    warnings = []
    for model in models:
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


def grouped(signatures: ModelSignatures, known: dict[str, Any]) -> list[dict[str, Any]]:
    """Signatures with the versions that have them: as a rule one entry, however many versions there are.

    Args:
        signatures: of a model.
        known: gets them, by a key that follows from what they are.
    """
    groups: dict[str, list[int]] = {}
    for number, found in sorted(signatures.items()):
        written = {name: signature.to_dict() for name, signature in found.items()}
        key = hashlib.sha256(json.dumps(written, sort_keys=True).encode()).hexdigest()[:_KEY_LENGTH]
        known[key] = written
        groups.setdefault(key, []).append(number)
    return [{"versions": versions, "signatures": key} for key, versions in groups.items()]


def _labels_of(model: Model, version: int) -> str:
    labels = [label for label, number in model.labels.items() if number == version]
    return f" ({', '.join(labels)})" if labels else ""
