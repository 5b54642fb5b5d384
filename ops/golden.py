"""Golden files from a version that runs: requests, and what it answers to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ops.outputs import ExportedService
from tfserving import sample_request
from tfserving.client import ModelClient, connect
from tfserving.contract.gates import Tolerance
from tfserving.errors import ServiceError, TFServingError
from tfserving.gates.compare import Comparison, compare
from tfserving.gates.golden import Record
from tfserving.gates.trial import ANSWER_SECONDS


class GoldenRecordError(TFServingError):
    """No golden file can be recorded."""


@dataclass(frozen=True)
class Recorded:
    """What was recorded.

    Attributes:
        records: requests with their answers.
        unsteady: how the answers to the same request differed; empty where they did not.
    """

    records: tuple[Record, ...]
    unsteady: str = ""


def generated(
    service: ExportedService, model: str, version: int, signature_name: str, count: int
) -> tuple[Record, ...]:
    """Requests made from the signature of a version: the first of ones, the others of values that differ.

    Raises:
        ServiceError: the service does not answer, or does not serve that version.
        TFServingError: the version has no such signature, or no request can carry its inputs.
    """
    with _connect(service) as client:
        signatures = client.metadata(model, version)["signatures"]
    found = signatures.get(signature_name)
    if found is None:
        names = ", ".join(sorted(name for name in signatures if not name.startswith("__"))) or "none"
        raise GoldenRecordError(f"version {version} of {model} has no signature {signature_name!r}; it has {names}")
    first = sample_request.from_signature(found["inputs"], found["outputs"])
    requests = [first, *(sample_request.varied(first, seed) for seed in range(1, count))]
    return tuple(Record(0, request, signature_name=signature_name) for request in requests)


def record(service: ExportedService, model: str, version: int, requests: Sequence[Record], name: str) -> Recorded:
    """The requests with the answers of a version, each asked twice.

    Args:
        service: whom to ask.
        model: the model's name in requests.
        version: which version answers.
        requests: what to ask.
        name: what messages call the file of the requests; empty: they were made from the signature.

    Raises:
        GoldenRecordError: the version refuses a request.
        ServiceError: the service does not answer.
    """
    found = []
    unsteady = Comparison()
    with _connect(service) as client:
        for request in requests:
            try:
                answer, again = (_ask(client, model, version, request) for _ in range(2))
            except ServiceError as error:
                place = f"{name}:{request.line}" if name else "the request made from the signature"
                raise GoldenRecordError(f"{place}: version {version} of {model} refuses it: {error}") from error
            result = compare(answer, again, Tolerance(absolute=0, relative=0), request.field)
            if not result.equal and result.largest >= unsteady.largest:
                unsteady = result
            found.append(replace(request, expected=answer))
    return Recorded(tuple(found), unsteady.worst)


def _connect(service: ExportedService) -> ModelClient:
    return connect(url=service.url or None, target=service.target or None, token=service.token, timeout=ANSWER_SECONDS)


def _ask(client: ModelClient, model: str, version: int, request: Record) -> Any:
    return client.predict(model, request.request, version=version, signature_name=request.signature_name).outputs
