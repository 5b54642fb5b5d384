"""The service JSON as it is declared, sent, stored and imported, and what a service's outputs are."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from provider import clients
from provider.eas.labels import CREATED_LABEL, MANAGED_BY, OWNER_LABEL
from provider.group_calls import ServiceGroup
from provider.resource import written
from tfserving import eas_drift
from tfserving.contract.serving import RUNNING, EasServiceInputs, EasServiceOutputs, Protocol
from tfserving.property_values import Properties, Secret


@dataclass(frozen=True)
class Address:
    """Where a service is reached: a URL for HTTP, a target for gRPC."""

    url: str
    target: str


def echo(inputs: Properties) -> Properties:
    return {name: inputs[name] for name in ("name", "owner", "reachable") if name in inputs}


def outputs_of(inputs: Properties, found: clients.DescribedService | None, baseline: Mapping[str, Any]) -> Properties:
    """The outputs for a service as it was found."""
    read = EasServiceInputs.read(inputs)
    address = address_in(read, found) if found else Address("", "")
    owner = found.labels.get(OWNER_LABEL, "") if found else ""
    if not owner and OWNER_LABEL not in (baseline.get("labels") or {}):
        owner = read.owner  # EAS does not show the label, so its absence says nothing
    return echo(inputs) | written(
        EasServiceOutputs(
            url=address.url,
            target=address.target,
            token=found.token if found else "",
            service_id=found.id if found else "",
            status=found.status if found else "Creating",
            owner=owner,
            baseline=baseline,
        )
    )


def address_in(inputs: EasServiceInputs, found: clients.DescribedService) -> Address:
    return Address(*address_of(found, grpc=inputs.probe.protocol == Protocol.GRPC))


def address_of(found: clients.DescribedService | ServiceGroup, *, grpc: bool) -> tuple[str, str]:
    """Base URL and ``host:port`` of a service or group: the one its protocol needs, the other one empty."""
    endpoint = (found.internet_endpoint or found.intranet_endpoint).rstrip("/")
    if not endpoint:
        return "", ""
    if "://" not in endpoint:
        endpoint = f"http://{endpoint}"
    if not grpc:
        return endpoint, ""
    parts = urlsplit(endpoint)
    return "", f"{parts.hostname}:{parts.port or 80}"


def full_spec(inputs: EasServiceInputs, stamp: str) -> dict[str, Any]:
    """The service JSON that is sent: the declared one with the name and our labels in it."""
    spec: dict[str, Any] = copy.deepcopy(dict(inputs.spec))
    metadata = spec.setdefault("metadata", {})
    metadata["name"] = inputs.name
    spec["labels"] = {**(spec.get("labels") or {}), **MANAGED_BY, OWNER_LABEL: inputs.owner}
    if stamp:
        spec["labels"][CREATED_LABEL] = stamp
    return spec


def held_by(found: clients.DescribedService) -> str:
    """The create that holds a service (:mod:`provider.claims`); empty where the service does not say."""
    return found.labels.get(CREATED_LABEL, "")


def without_our_labels(spec: dict[str, Any], declared: Mapping[str, Any]) -> dict[str, Any]:
    """A service JSON without the labels that :func:`full_spec` adds to the one that is declared."""
    ours = {*MANAGED_BY, OWNER_LABEL, CREATED_LABEL} - set(declared.get("labels") or {})
    labels = {key: value for key, value in (spec.get("labels") or {}).items() if key not in ours}
    rest = {key: value for key, value in spec.items() if key != "labels"}
    return rest | ({"labels": labels} if labels else {})


def comparable(inputs: EasServiceInputs, news: EasServiceInputs) -> dict[str, Any]:
    """The spec in the form in which two are compared; the replica count left out where a scaler owns it."""
    if not inputs.spec:
        return {}
    spec = eas_drift.normalize(inputs.spec)
    if is_autoscaled(news):
        metadata = {key: value for key, value in (spec.get("metadata") or {}).items() if key != "instance"}
        spec = {**spec, "metadata": metadata}
    metadata = dict(spec.get("metadata") or {})
    metadata.pop("name", None)  # the property name says it
    return {**spec, "metadata": metadata}


def is_autoscaled(inputs: EasServiceInputs) -> bool:
    """Whether an autoscaler or a cron scaler owns the number of replicas."""
    return inputs.autoscaled or inputs.autoscaler is not None or inputs.cron_scaler is not None


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


def imported_inputs(found: clients.DescribedService) -> Properties:
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


def declared_group(inputs: EasServiceInputs) -> str:
    """The service group that a service is to be made in; empty without one."""
    return str((inputs.spec.get("metadata") or {}).get("group") or "")


def routing(inputs: EasServiceInputs) -> tuple[Any, ...]:
    """What a service's address depends on."""
    grpc = (inputs.spec.get("metadata") or {}).get("enable_grpc")
    return inputs.probe.protocol, grpc, inputs.spec.get("networking"), inputs.name
