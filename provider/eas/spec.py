"""The service JSON as it is declared, sent, stored and imported, and what a service's outputs are."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from provider import clients
from provider.eas.labels import CREATED_LABEL, MANAGED_BY, OWNER_LABEL
from provider.properties import Properties, Secret, plain
from provider.resource import (
    flag,
    table,
    text,
)
from tfserving import eas_drift

RUNNING = "Running"


@dataclass(frozen=True)
class Address:
    """Where a service is reached: a URL for HTTP, a target for gRPC."""

    url: str
    target: str


def echo(inputs: Properties) -> Properties:
    return {name: inputs[name] for name in ("name", "owner", "reachable") if name in inputs}


def outputs_of(inputs: Properties, found: clients.EasService | None, baseline: Mapping[str, Any]) -> Properties:
    """The outputs for a service as it was found."""
    address = address_in(inputs, found) if found else Address("", "")
    owner = found.labels.get(OWNER_LABEL, "") if found else ""
    if not owner and OWNER_LABEL not in (baseline.get("labels") or {}):
        owner = text(inputs, "owner")  # EAS does not show the label, so its absence says nothing
    return echo(inputs) | {
        "url": address.url,
        "target": address.target,
        "token": Secret(found.token if found else ""),
        "serviceId": found.id if found else "",
        "status": found.status if found else "Creating",
        "owner": owner,
        "baseline": dict(baseline),
    }


def address_in(inputs: Properties, found: clients.EasService) -> Address:
    return Address(*address_of(found, grpc=table(inputs, "probe").get("protocol") == "grpc"))


def address_of(found: clients.EasService, *, grpc: bool) -> tuple[str, str]:
    """Base URL and ``host:port`` of a service: the one its protocol needs, the other one empty."""
    endpoint = (found.internet_endpoint or found.intranet_endpoint).rstrip("/")
    if not endpoint:
        return "", ""
    if "://" not in endpoint:
        endpoint = f"http://{endpoint}"
    if not grpc:
        return endpoint, ""
    parts = urlsplit(endpoint)
    return "", f"{parts.hostname}:{parts.port or 80}"


def full_spec(inputs: Properties, stamp: str) -> dict[str, Any]:
    """The service JSON that is sent: the declared one with the name and our labels in it."""
    spec: dict[str, Any] = copy.deepcopy(table(inputs, "spec"))
    metadata = spec.setdefault("metadata", {})
    metadata["name"] = text(inputs, "name")
    spec["labels"] = {**(spec.get("labels") or {}), **MANAGED_BY, OWNER_LABEL: text(inputs, "owner")}
    if stamp:
        spec["labels"][CREATED_LABEL] = stamp
    return spec


def held_by(found: clients.EasService) -> str:
    """The create that holds a service (:mod:`provider.claims`); empty where the service does not say."""
    return found.labels.get(CREATED_LABEL, "")


def without_our_labels(spec: dict[str, Any], inputs: Properties) -> dict[str, Any]:
    declared = table(inputs, "spec").get("labels") or {}
    ours = {*MANAGED_BY, OWNER_LABEL, CREATED_LABEL} - set(declared)
    labels = {key: value for key, value in (spec.get("labels") or {}).items() if key not in ours}
    rest = {key: value for key, value in spec.items() if key != "labels"}
    return rest | ({"labels": labels} if labels else {})


def comparable(inputs: Properties, news: Properties) -> dict[str, Any]:
    """The spec in the form in which two are compared; the replica count left out where an autoscaler owns it."""
    spec = plain(inputs.get("spec"))
    if not isinstance(spec, dict):
        return {}
    spec = eas_drift.normalize(spec)
    if flag(news, "autoscaled") or table(news, "autoscaler"):
        metadata = {key: value for key, value in (spec.get("metadata") or {}).items() if key != "instance"}
        spec = {**spec, "metadata": metadata}
    metadata = dict(spec.get("metadata") or {})
    metadata.pop("name", None)  # the property name says it
    return {**spec, "metadata": metadata}


def secrets_of(declared: Any, config: Mapping[str, Any]) -> set[str]:
    """Every secret text in a declared spec (by its mark) and in a stored service JSON (by what its key means)."""
    found = set(_marked_texts(declared))
    masked = eas_drift.baseline(config, {})
    pending: list[tuple[Any, Any]] = [(eas_drift.normalize(config), masked)]
    while pending:
        real, shown = pending.pop()
        if isinstance(real, dict) and isinstance(shown, dict):
            pending += [(real[key], shown.get(key)) for key in real]
        elif isinstance(real, list) and isinstance(shown, list):
            pending += list(zip(real, shown, strict=False))
        elif shown in (eas_drift.SECRET, eas_drift.OTHER_SECRET) and real != shown:
            found.add(str(real))
    return found


def _marked_texts(value: Any) -> Iterator[str]:
    match value:
        case Secret():
            yield from _texts(value.value)
        case Mapping():
            for item in value.values():
                yield from _marked_texts(item)
        case list() | tuple():
            for item in value:
                yield from _marked_texts(item)


def _texts(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case Mapping():
            for item in value.values():
                yield from _texts(item)
        case list() | tuple():
            for item in value:
                yield from _texts(item)


def marked(value: Any, secrets: set[str]) -> Any:
    """``value`` with every text that is one of ``secrets`` marked as such."""
    match value:
        case Mapping():
            return {key: marked(item, secrets) for key, item in value.items()}
        case list() | tuple():
            return [marked(item, secrets) for item in value]
        case str() if value and value in secrets:
            return Secret(value)
        case _:
            return value


def imported_inputs(found: clients.EasService) -> Properties:
    """Inputs for a service that is imported: its stored JSON, with secrets marked.

    Without the token, which would be in the code that the import prints: undeclared it stays as it is, and it is an
    output all the same.
    """
    spec = without_our_labels({key: value for key, value in found.config.items() if key != "token"}, {})
    grpc = bool((spec.get("metadata") or {}).get("enable_grpc"))
    return {
        "name": found.name,
        "spec": marked(eas_drift.normalize(spec), secrets_of({}, found.config)),
        "owner": found.labels.get(OWNER_LABEL, ""),
        "probe": {"protocol": "grpc" if grpc else "http", "models": []},
        "adopt": False,
        "reachable": True,
        "autoscaled": False,
        "status": RUNNING,
    }


def routing(inputs: Properties) -> tuple[Any, ...]:
    """What a service's address depends on."""
    spec = table(inputs, "spec")
    grpc = (spec.get("metadata") or {}).get("enable_grpc")
    return table(inputs, "probe").get("protocol"), grpc, spec.get("networking"), text(inputs, "name")
