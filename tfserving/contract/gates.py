"""Gates: what a version has to prove before requests move to it, and what came of it.

The options of ``tf-serving:models.<model>.gate`` in a stack file and the properties that cross to the provider are the
same dataclasses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from tfserving.contract.kinds import Version
from tfserving.contract.records import Record, prop
from tfserving.options import option


class AgreeBy(StrEnum):
    """What counts as the same answer of two versions."""

    ARGMAX = "argmax"
    ALLCLOSE = "allclose"


class SignatureRule(StrEnum):
    """What the signatures of a new version have to be."""

    COMPATIBLE = "compatible"
    ANY = "any"


@dataclass(frozen=True, kw_only=True)
class Tolerance(Record):
    """How far a floating-point number may be from what is expected: ``absolute + relative * |expected|``.

    Attributes:
        absolute: difference that is allowed whatever the number.
        relative: share of the expected number that is allowed on top.
    """

    absolute: float = option(1e-4, least=0)
    relative: float = option(1e-3, least=0)


@dataclass(frozen=True, kw_only=True)
class Agreement(Record):
    """How often a new version has to answer as the old one does.

    Attributes:
        with_: label of the version to compare with; without it, the version that answered before.
        on: file with one request a line, relative to the project; expected answers in it are not looked at. Without it,
            the requests of ``golden``.
        least: share of the instances for which both have to agree.
        by: ``argmax``, the same highest class, or ``allclose``, all numbers within ``tolerance``.
    """

    with_: str = option("", otherwise="the version that answered before")
    on: str = option("", otherwise="`golden`")
    least: float = 0.99
    by: AgreeBy = AgreeBy.ARGMAX


@dataclass(frozen=True, kw_only=True)
class Latency(Record):
    """How fast a new version has to answer; at least one of the limits is needed.

    Attributes:
        requests: how many are measured, of each version.
        concurrency: how many at a time.
        p99_ms: 99 of 100 requests have to be answered within this time.
        p99_ratio: the same time may be so many times that of the old version, measured side by side.
    """

    requests: int = option(200, least=1)
    concurrency: int = option(4, least=1)
    p99_ms: float | None = None
    p99_ratio: float | None = None


@dataclass(frozen=True, kw_only=True)
class Gate(Record):
    """What a version has to prove before requests move to it.

    Attributes:
        golden: file with one request a line and its expected answer, relative to the project.
        tolerance: how far numbers of an answer may be from the expected ones.
        agreement: how often the version has to answer as the old one does.
        latency: how fast it has to answer.
        signatures: ``compatible``: inputs and outputs of the old version are still there, of the same type and a shape
            that takes the same requests. ``any``: clients change with the version.
    """

    golden: str = ""
    tolerance: Tolerance = option(factory=Tolerance, otherwise="`{absolute: 0.0001, relative: 0.001}`")
    agreement: Agreement | None = None
    latency: Latency | None = None
    signatures: SignatureRule = SignatureRule.COMPATIBLE

    @property
    def files(self) -> tuple[str, ...]:
        """The files it names, each once."""
        named = (self.golden, self.agreement.on if self.agreement else "")
        return tuple(dict.fromkeys(name for name in named if name))

    @property
    def agreement_file(self) -> str:
        """The file with the requests that two versions are compared on; empty where nothing names one."""
        return (self.agreement.on or self.golden) if self.agreement else ""

    @property
    def latency_file(self) -> str:
        """The file with the requests that are timed; empty: they are made from the signature."""
        return self.golden or self.agreement_file


@dataclass(frozen=True, kw_only=True)
class KnownTensor(Record):
    """An input or output of a version.

    Attributes:
        dtype: its type.
        shape: its sizes, -1 for an open dimension; not given where even the rank is open.
    """

    dtype: str
    shape: tuple[int, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class KnownSignature(Record):
    """A signature of a version whose files are at hand.

    Attributes:
        inputs: its inputs by name.
        outputs: its outputs by name.
    """

    inputs: Mapping[str, KnownTensor]
    outputs: Mapping[str, KnownTensor]


@dataclass(frozen=True, kw_only=True)
class GateFile(Record):
    """A file that a gate names.

    Attributes:
        digest: ``sha256:`` and the digest of its content.
        records: how many requests it holds.
    """

    digest: str
    records: int = 0


@dataclass(frozen=True, kw_only=True)
class ModelGate(Record):
    """The gate of a model, with what is known of its files and of the versions.

    Attributes:
        gate: what is demanded.
        files: the files that the gate names, by path.
        known: signatures of versions whose files are at hand, by version, and there by name.
    """

    gate: Gate
    files: Mapping[str, GateFile] = prop(factory=dict)
    known: Mapping[str, Mapping[str, KnownSignature]] = prop(factory=dict)


@dataclass(frozen=True, kw_only=True)
class ServiceReport(Record):
    """What a version answered on one service.

    Attributes:
        records: golden records that were compared.
        largest_difference: the largest absolute difference of a number from the expected one; not given where no number
            was compared, or one was not finite.
        agreement: share of the instances for which both versions agree.
        instances: how many were compared.
        p50_ms: half of the requests were answered within this time; milliseconds.
        p99_ms: 99 of 100 were.
        old_p50_ms: the same of the old version, measured side by side.
        old_p99_ms: the same of the old version.
        notes: what was not compared, and why.
        problems: what the version did not reach.
    """

    records: int = 0
    largest_difference: float | None = None
    agreement: float | None = None
    instances: int = 0
    p50_ms: float | None = None
    p99_ms: float | None = None
    old_p50_ms: float | None = None
    old_p99_ms: float | None = None
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    def __str__(self) -> str:
        parts = []
        if self.records:
            difference = (
                "" if self.largest_difference is None else f", largest difference {self.largest_difference:.3g}"
            )
            parts.append(f"{self.records} record{'' if self.records == 1 else 's'}{difference}")
        if self.agreement is not None:
            # Three digits, and never rounded up to a share that was not reached.
            parts.append(f"agreement {int(self.agreement * 1000) / 1000:g} of {self.instances} instances")
        if self.p99_ms is not None and self.p50_ms is not None:
            old = ""
            if self.old_p99_ms is not None and self.old_p50_ms is not None:
                old = f" (old version {self.old_p50_ms:.1f} and {self.old_p99_ms:.1f} ms)"
            parts.append(f"p50 {self.p50_ms:.1f} ms, p99 {self.p99_ms:.1f} ms{old}")
        return "; ".join([*parts, *self.notes]) or "signatures only"


@dataclass(frozen=True, kw_only=True)
class GateReport(Record):
    """What came of the gate of one version.

    Attributes:
        model: model name.
        version: the version that was tried.
        old: the version that answered before; not given where nothing did.
        at: when it ended, ISO 8601 in UTC.
        passed: whether the version reached everything on every service.
        files: digest of each file of the gate, by path.
        services: what was measured, by service.
    """

    model: str
    version: Version
    old: Version | None = None
    at: str = ""
    passed: bool = False
    files: Mapping[str, str] = prop(factory=dict)
    services: Mapping[str, ServiceReport] = prop(factory=dict)

    def lines(self) -> list[str]:
        """One line for each service: ``modelB version 2 passed its gate on multi_http: 20 records, ...``."""
        return [
            f"{self.model} version {self.version} {'did not pass' if each.problems else 'passed'} its gate on {name}: "
            f"{each}"
            for name, each in sorted(self.services.items())
        ]
