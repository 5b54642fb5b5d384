"""Gates and their reports: across the wire, in words, and what is kept of them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfserving.contract.gates import (
    Agreement,
    Gate,
    GateFile,
    GateReport,
    Latency,
    ModelGate,
    ServiceReport,
    SignatureRule,
    Tolerance,
)
from tfserving.contract.kinds import Version
from tfserving.gates import report, spec
from tfserving.gates.which import Candidate
from tfserving.saved_model import Signature, TensorInfo

GATES = st.builds(
    Gate,
    golden=st.sampled_from(["", "golden/m.jsonl"]),
    tolerance=st.builds(Tolerance, absolute=st.floats(0, 10), relative=st.floats(0, 1)),
    agreement=st.none() | st.builds(Agreement, with_=st.sampled_from(["", "stable"]), on=st.just("on.jsonl")),
    latency=st.none() | st.builds(Latency, requests=st.integers(1, 500), p99_ms=st.floats(1, 1000)),
    signatures=st.sampled_from(SignatureRule),
)
KNOWN = {
    1: {"f": Signature({"x": TensorInfo("float32", (None, 3))}, {"y": TensorInfo("float32", ())})},
    2**63 - 1: {"f": Signature({"x": TensorInfo("string", None)}, {"y": TensorInfo("int64", (None,))})},
}


def over_the_wire(value: Any) -> Any:
    return json.loads(json.dumps(value))


@given(GATES)
def test_a_gate_survives_the_wire(gate: Gate) -> None:
    whole = spec.with_known(gate, dict.fromkeys(gate.files, GateFile(digest="sha256:1", records=7)), KNOWN)
    read = ModelGate.read(over_the_wire(whole.write()))
    assert read == whole
    assert spec.known_of(read) == KNOWN
    assert spec.problems(read.gate) == []


@pytest.mark.parametrize(
    ("value", "key", "said"),
    [
        ({"latency": {}}, "latency", "it names no limit"),
        ({"latency": {"p99Ms": -1}}, "latency.p99Ms", "-1 is no limit"),
        ({"latency": {"p99Ms": 1, "requests": 0}}, "latency.requests", "0 is out of range"),
        ({"latency": {"p99Ms": 1, "concurrency": 1000}}, "latency.concurrency", "1000 is out of range"),
        ({"agreement": {"least": 1.5, "on": "x"}}, "agreement.least", "1.5 is no share"),
        ({"agreement": {}}, "agreement.on", "on which requests"),
        ({"tolerance": {"absolute": -1}}, "tolerance.absolute", "-1 is no tolerance"),
        ({"tolerance": {"relative": float("nan")}}, "tolerance.relative", "nan is no tolerance"),
    ],
)
def test_what_a_gate_cannot_mean_is_told_by_its_key(value: Any, key: str, said: str) -> None:
    ((found, message, allowed),) = spec.problems(Gate.read(value))
    assert (found, said in message, bool(allowed)) == (key, True, True)


REPORTS = st.builds(
    GateReport,
    model=st.sampled_from(["m", "n"]),
    version=st.integers(0, 2**63 - 1).map(Version),
    old=st.none() | st.integers(0, 2**63 - 1).map(Version),
    at=st.datetimes().map(lambda at: at.isoformat()),
    passed=st.booleans(),
    files=st.just({"g.jsonl": "sha256:1"}),
    services=st.dictionaries(
        st.text(min_size=1, max_size=3),
        st.builds(
            ServiceReport,
            records=st.integers(0, 100),
            largest_difference=st.none() | st.floats(0, 10),
            agreement=st.none() | st.floats(0, 1),
            p99_ms=st.none() | st.floats(0, 1000),
            problems=st.lists(st.text(max_size=3), max_size=2).map(tuple),
        ),
        max_size=2,
    ),
)


@given(REPORTS)
def test_a_report_survives_the_wire(found: GateReport) -> None:
    assert GateReport.read(over_the_wire(found.write())) == found


@given(st.lists(REPORTS, min_size=1, max_size=40))
def test_the_newest_reports_of_a_model_are_kept(reports: list[GateReport]) -> None:
    kept: dict[str, dict[str, GateReport]] = {}
    for each in sorted(reports, key=lambda each: each.at):
        kept = report.with_report(kept, each)
    assert all(len(versions) <= report.KEPT for versions in kept.values())
    latest = {each.model: each.at for each in sorted(reports, key=lambda each: each.at)}
    assert {each.model: each.at for each in report.newest(report.all_of(kept))} == latest


def test_a_share_is_never_rounded_up_and_a_report_says_what_was_measured() -> None:
    shown = ServiceReport(
        records=2, largest_difference=1.23456e-5, agreement=0.98999, instances=1000, p50_ms=1, p99_ms=2,
        old_p50_ms=1, old_p99_ms=2.5,
    )  # fmt: skip
    assert str(shown) == (
        "2 records, largest difference 1.23e-05; agreement 0.989 of 1000 instances; p50 1.0 ms, p99 2.0 ms "
        "(old version 1.0 and 2.5 ms)"
    )
    assert str(ServiceReport()) == "signatures only"


def test_versions_that_answered_are_those_that_passed_and_those_before_them() -> None:
    kept = report.with_report({}, report.report(Candidate("m", 2, 1), {"s": ServiceReport()}, {}, "1"))
    failed = report.report(Candidate("m", 3, 2), {"s": ServiceReport(problems=("slow",))}, {}, "2")
    assert (failed.passed, failed.lines()) == (False, ["m version 3 did not pass its gate on s: signatures only"])
    assert report.answered(report.with_report(kept, failed)) == {"m": {1, 2}}


def test_what_a_gate_demands_is_said_in_numbers() -> None:
    gate = Gate(
        golden="g.jsonl",
        agreement=Agreement(with_="stable", on="i.jsonl"),
        latency=Latency(p99_ms=50, p99_ratio=1.2),
    )
    files = {"g.jsonl": GateFile(digest="sha256:1", records=20)}
    assert spec.demands(ModelGate(gate=gate, files=files)) == [
        "20 records of g.jsonl within 0.0001 + 0.001 of the number",
        "agreement with stable at least 0.99 by argmax on i.jsonl",
        "p99 at most 50 ms and 1.2 times that of the version before (200 requests, 4 at a time)",
        "signatures compatible with the version before",
    ]
