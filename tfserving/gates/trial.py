"""Tries one version on one service, while requests of others still go to the version before."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, TypeVar

from tfserving.client import ModelClient, Prediction
from tfserving.contract.gates import Agreement, Gate, Latency, ServiceReport, SignatureRule
from tfserving.errors import ServiceError, ServiceNotFoundError, ServiceUnreachableError
from tfserving.gates import agreement, latency, signatures
from tfserving.gates.compare import compare
from tfserving.gates.golden import Record
from tfserving.gates.spec import of_metadata
from tfserving.gates.which import Candidate
from tfserving.sample_request import SampleError, from_signature
from tfserving.saved_model import SERVING_SIGNATURE, Signature

ANSWER_SECONDS = 30.0
"""How long one request of a gate may take."""

_TRIES = 3
_PAUSE = 1.0
_TOLD = 3

T = TypeVar("T")

Connect = Callable[[], ModelClient]


@dataclass
class Trial:
    """How a gate is tried.

    Attributes:
        gate: what is demanded.
        records: the requests of its files, by path.
        connections: how the service is asked: once, or once for each pod.
        name: the model's name in requests.
        check: raises where it has to end.
        sleep: waits some seconds, or raises.
    """

    gate: Gate
    records: Mapping[str, Sequence[Record]]
    connections: Sequence[Connect]
    name: str
    check: Callable[[], None]
    sleep: Callable[[float], None]
    _notes: list[str] = field(default_factory=list)
    _problems: list[str] = field(default_factory=list)

    def run(self, candidate: Candidate) -> ServiceReport:
        """Try one version; everything it did not reach is in the report.

        Args:
            candidate: the version, and the one to compare with.

        Raises:
            ServiceUnreachableError: the service does not answer.
        """
        self._notes, self._problems = [], []
        found: dict[str, Any] = {}
        with ExitStack() as stack:
            clients = [stack.enter_context(connect()) for connect in self.connections]
            known = self._signatures(clients[0], candidate)
            if self.gate.golden:
                found |= self._golden(clients, candidate)
            if candidate.beside is not None and self.gate.agreement is not None:
                found |= self._agreement(self.gate.agreement, clients, candidate, candidate.beside)
            if self.gate.latency is not None:
                found |= self._latency(self.gate.latency, candidate, known)
        return ServiceReport(**found, notes=tuple(self._notes), problems=tuple(self._problems))

    # ---- signatures ------------------------------------------------------------------------------------------------

    def _signatures(self, client: ModelClient, candidate: Candidate) -> Mapping[str, Signature]:
        new = self._metadata(client, candidate.version)
        if candidate.beside is None:
            self._notes.append("nothing to compare with: no version before it is served")
            return new
        try:
            old = self._metadata(client, candidate.beside)
        except ServiceNotFoundError:
            self._problems.append(f"version {candidate.beside}, to compare with, is not served")
            return new
        if self.gate.signatures == SignatureRule.COMPATIBLE:
            lines = signatures.incompatibilities(old, new)
            self._problems += [f"clients of version {candidate.beside} cannot go on: {line}" for line in lines]
        return new

    def _metadata(self, client: ModelClient, version: int) -> Mapping[str, Signature]:
        return of_metadata(self._patiently(lambda: client.metadata(self.name, version))["signatures"])

    # ---- golden records --------------------------------------------------------------------------------------------

    def _golden(self, clients: Sequence[ModelClient], candidate: Candidate) -> dict[str, Any]:
        records = self.records[self.gate.golden]
        largest: float | None = None
        differing, first, worst, worst_size = 0, "", "", -1.0
        for number, record in enumerate(records):
            self.check()
            where = f"{self.gate.golden}:{record.line}"
            try:
                answer = self._predict(clients[number % len(clients)], record, candidate.version).outputs
            except ServiceUnreachableError:
                raise
            except ServiceError as error:
                differing += 1
                first = first or f"{where}: {record.field}: expected an answer, found the error: {error}"
                continue
            result = compare(record.expected, answer, self.gate.tolerance, record.field)
            if result.numbers:
                largest = max(largest or 0.0, result.largest)
            if not result.equal:
                differing += 1
                first = first or f"{where}: {result.first}"
                if result.largest > worst_size:
                    worst, worst_size = f"{where}: {result.worst}", result.largest
        if differing:
            count = f"{differing} of {len(records)} records" if len(records) > 1 else "the record"
            self._problems.append(f"{count} of {self.gate.golden} not answered as expected; {first}")
            if largest is not None and worst and worst != first:
                self._problems.append(f"the largest difference is {largest:.3g}: {worst}")
        finite = largest is not None and math.isfinite(largest)
        return {"records": len(records), "largest_difference": largest if finite else None}

    # ---- agreement -------------------------------------------------------------------------------------------------

    def _agreement(
        self, demanded: Agreement, clients: Sequence[ModelClient], candidate: Candidate, old: int
    ) -> dict[str, Any]:
        records = self.records[self.gate.agreement_file]
        agreed = total = 0
        first = ""
        for number, record in enumerate(records):
            self.check()
            client = clients[number % len(clients)]
            where = f"{self.gate.agreement_file}:{record.line}"
            answers: list[Any] = []
            for version in (old, candidate.version):
                try:
                    answers.append(self._predict(client, record, version).outputs)
                except ServiceUnreachableError:
                    raise
                except ServiceError as error:
                    first = first or f"{where}: version {version} answers with the error: {error}"
            if len(answers) < 2:
                total += len(record.request) if isinstance(record.request, list) else 1
                continue
            before, after = answers
            same, count = agreement.count(before, after, record.rows, demanded.by, self.gate.tolerance)
            agreed, total = agreed + same, total + count
            if same < count and not first:
                said = f"version {old} answers {_short(before)}, version {candidate.version} {_short(after)}"
                first = f"{where}: {said}"
        share = agreed / total if total else 0.0
        if share < demanded.least:
            message = (
                f"version {candidate.version} agrees with version {old} for {agreed} of {total} instances of "
                f"{self.gate.agreement_file} by {demanded.by}: {share:.4g}, at least {demanded.least:g} is needed"
            )
            self._problems.append(f"{message}; {first}" if first else message)
        return {"agreement": share, "instances": total}

    # ---- latency ---------------------------------------------------------------------------------------------------

    def _latency(self, demanded: Latency, candidate: Candidate, known: Mapping[str, Signature]) -> dict[str, Any]:
        records: Sequence[Record] = self.records.get(self.gate.latency_file, ())
        if not records:
            try:
                records = [_generated(known)]
            except SampleError as error:
                self._problems.append(f"latency: {error}; name a golden file")
                return {}
            self._notes.append("timed with a request made from the signature")
        versions = [candidate.version, *([] if candidate.beside is None else [candidate.beside])]
        with ExitStack() as stack:
            clients = [
                stack.enter_context(self.connections[worker % len(self.connections)]())
                for worker in range(demanded.concurrency)
            ]

            def asking(version: int) -> latency.Ask:
                def ask(worker: int, number: int) -> float:
                    record = records[number % len(records)]
                    try:
                        return self._predict(clients[worker], record, version).seconds
                    except ServiceError as error:
                        raise latency.MeasureError(str(error)) from error

                return ask

            times = latency.measure(
                [asking(version) for version in versions], demanded.requests, demanded.concurrency, self.check
            )
        new, old = times[0], times[1] if len(times) > 1 else None
        if new.failures:
            count = f"{len(new.failures)} of {demanded.requests} timed requests failed"
            self._problems.append(f"{count}: {new.failures[0]}")
        p99, old_p99 = new.percentile(0.99), old.percentile(0.99) if old else None
        self._problems += _too_slow(demanded, p99, old_p99, candidate)
        found = {"p50_ms": new.percentile(0.5), "p99_ms": p99}
        return found | {"old_p50_ms": old.percentile(0.5) if old else None, "old_p99_ms": old_p99}

    # ---- requests --------------------------------------------------------------------------------------------------

    def _predict(self, client: ModelClient, record: Record, version: int) -> Prediction:
        return self._patiently(
            lambda: client.predict(self.name, record.request, version=version, signature_name=record.signature_name)
        )

    def _patiently(self, ask: Callable[[], T]) -> T:
        """Ask again where nothing answers: a gateway may just be changing replicas. What a server says, counts."""
        for left in reversed(range(_TRIES)):
            try:
                return ask()
            except ServiceUnreachableError:
                if not left:
                    raise
                self.sleep(_PAUSE)
        raise AssertionError("the last try returns or raises")


def _too_slow(demanded: Latency, p99: float | None, old: float | None, candidate: Candidate) -> Iterator[str]:
    if demanded.p99_ratio is not None and candidate.beside is not None and old is None:
        yield f"version {candidate.beside}, to compare with, answered none of the timed requests"
    if p99 is None:
        return
    measured = f"p99 of {demanded.requests} requests is {p99:.1f} ms"
    if demanded.p99_ms is not None and p99 > demanded.p99_ms:
        yield f"{measured}, at most {demanded.p99_ms:g} ms are allowed"
    if demanded.p99_ratio is not None and old is not None and p99 > demanded.p99_ratio * old:
        yield (
            f"{measured}, {p99 / old:.2f} times that of version {candidate.beside} ({old:.1f} ms), at most "
            f"{demanded.p99_ratio:g} times are allowed"
        )


def _generated(known: Mapping[str, Signature]) -> Record:
    name = SERVING_SIGNATURE if SERVING_SIGNATURE in known else next(iter(sorted(known)), "")
    if not name:
        raise SampleError("the version has no signature that requests can use")
    inputs = {key: info.to_dict() for key, info in known[name].inputs.items()}
    outputs = {key: info.to_dict() for key, info in known[name].outputs.items()}
    return Record(0, from_signature(inputs, outputs), signature_name=name)


def _short(answer: Any) -> str:
    text = str(answer)
    return text if len(text) <= 80 else f"{text[:80]}..."
