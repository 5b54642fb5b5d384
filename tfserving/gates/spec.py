"""What a gate demands, in words; what it cannot mean; and signatures as they cross to the provider."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tfserving.contract.gates import AgreeBy, Gate, GateFile, KnownSignature, KnownTensor, ModelGate, SignatureRule
from tfserving.saved_model import Signature, TensorInfo

MOST_REQUESTS = 100_000
"""Of a latency measurement: it runs against a service that answers others meanwhile."""

MOST_CONCURRENCY = 64

Known = Mapping[int, Mapping[str, Signature]]
"""Signatures by version and name."""


def problems(gate: Gate) -> list[tuple[str, str, str]]:
    """What numbers and choices of a gate cannot mean: key below the gate, what is wrong, what is allowed."""
    found = []
    for key in ("absolute", "relative"):
        number = getattr(gate.tolerance, key)
        if not 0 <= number < float("inf"):
            found.append((f"tolerance.{key}", f"{number:g} is no tolerance", "a number, 0 or more"))
    if gate.signatures not in set(SignatureRule):
        found.append(("signatures", f"{str(gate.signatures)!r} is not allowed here", " or ".join(SignatureRule)))
    if gate.agreement is not None:
        if not 0 < gate.agreement.least <= 1:
            found.append(("agreement.least", f"{gate.agreement.least:g} is no share", "above 0, at most 1"))
        if gate.agreement.by not in set(AgreeBy):
            found.append(("agreement.by", f"{str(gate.agreement.by)!r} is not allowed here", " or ".join(AgreeBy)))
        if not gate.agreement_file:
            message = "nothing says on which requests the versions are compared"
            found.append(("agreement.on", message, "a file with one request a line"))
    if gate.latency is not None:
        if not 1 <= gate.latency.requests <= MOST_REQUESTS:
            found.append(
                ("latency.requests", f"{gate.latency.requests} is out of range", f"1 to {MOST_REQUESTS} requests")
            )
        if not 1 <= gate.latency.concurrency <= MOST_CONCURRENCY:
            found.append(
                ("latency.concurrency", f"{gate.latency.concurrency} is out of range", f"1 to {MOST_CONCURRENCY}")
            )
        limits = {"p99Ms": gate.latency.p99_ms, "p99Ratio": gate.latency.p99_ratio}
        for key, limit in limits.items():
            if limit is not None and not 0 < limit < float("inf"):
                found.append((f"latency.{key}", f"{limit:g} is no limit", "a number above 0"))
        if set(limits.values()) == {None}:
            found.append(("latency", "it names no limit", "p99Ms, p99Ratio or both"))
    return found


ALONE: Final = (
    "services of one model drop the version before as soon as a new one is AVAILABLE: there is nothing to compare with"
)


def comparing(gate: Gate) -> list[str]:
    """Keys that need the old version beside the new one."""
    found = ["agreement"] if gate.agreement is not None else []
    return [*found, *(["latency.p99Ratio"] if gate.latency and gate.latency.p99_ratio is not None else [])]


def demands(model_gate: ModelGate) -> list[str]:
    """The numbers that a version must reach, for a preview: one phrase each."""
    gate = model_gate.gate
    phrases = []
    if gate.golden:
        records = model_gate.files[gate.golden].records if gate.golden in model_gate.files else 0
        count = f"{records} record{'' if records == 1 else 's'}"
        allowed = f"{gate.tolerance.absolute:g} + {gate.tolerance.relative:g} of the number"
        phrases.append(f"{count} of {gate.golden} within {allowed}")
    if gate.agreement is not None:
        whom = gate.agreement.with_ or "the version before"
        phrases.append(
            f"agreement with {whom} at least {gate.agreement.least:g} by {gate.agreement.by} on {gate.agreement_file}"
        )
    if gate.latency is not None:
        limits = [f"{gate.latency.p99_ms:g} ms"] if gate.latency.p99_ms is not None else []
        if gate.latency.p99_ratio is not None:
            limits.append(f"{gate.latency.p99_ratio:g} times that of the version before")
        how = f"{gate.latency.requests} requests, {gate.latency.concurrency} at a time"
        phrases.append(f"p99 at most {' and '.join(limits)} ({how})")
    if gate.signatures == SignatureRule.COMPATIBLE:
        phrases.append("signatures compatible with the version before")
    return phrases


# ---- signatures ----------------------------------------------------------------------------------------------------


def with_known(gate: Gate, files: Mapping[str, GateFile], known: Known) -> ModelGate:
    """A gate with what is known of its files, and signatures of versions that are at hand."""
    return ModelGate(
        gate=gate,
        files=files,
        known={
            str(version): {name: _known_signature(each) for name, each in found.items()}
            for version, found in sorted(known.items())
        },
    )


def known_of(gate: ModelGate) -> Known:
    """The signatures that a gate comes with."""
    return {
        int(version): {name: Signature(_tensors(each.inputs), _tensors(each.outputs)) for name, each in found.items()}
        for version, found in gate.known.items()
        if version.isdecimal()
    }


def _known_signature(signature: Signature) -> KnownSignature:
    def tensors(found: Mapping[str, TensorInfo]) -> dict[str, KnownTensor]:
        return {
            name: KnownTensor(
                dtype=each.dtype,
                shape=None if each.shape is None else tuple(-1 if size is None else size for size in each.shape),
            )
            for name, each in sorted(found.items())
        }

    return KnownSignature(inputs=tensors(signature.inputs), outputs=tensors(signature.outputs))


def _tensors(found: Mapping[str, KnownTensor]) -> dict[str, TensorInfo]:
    return {
        name: TensorInfo(
            each.dtype, None if each.shape is None else tuple(None if size < 0 else size for size in each.shape)
        )
        for name, each in found.items()
    }


def of_metadata(signatures: Mapping[str, Any]) -> dict[str, Signature]:
    """Signatures as :meth:`tfserving.client.ModelClient.metadata` gives them."""

    def tensors(found: Mapping[str, Any]) -> dict[str, TensorInfo]:
        return {
            name: TensorInfo(str(each["dtype"]), None if each["shape"] is None else tuple(each["shape"]))
            for name, each in found.items()
        }

    return {
        name: Signature(tensors(each["inputs"]), tensors(each["outputs"]), str(each.get("method_name", "")))
        for name, each in signatures.items()
    }
