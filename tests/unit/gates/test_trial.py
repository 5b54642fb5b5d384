"""One version tried on a service that answers as it is told to: everything it does not reach is in the report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from tfserving.client import Columns, ModelClient, Prediction
from tfserving.contract.gates import Agreement, Gate, Latency, ServiceReport, SignatureRule, Tolerance
from tfserving.errors import ServiceError, ServiceNotFoundError, ServiceUnreachableError
from tfserving.gates.golden import Record
from tfserving.gates.trial import Trial
from tfserving.gates.which import Candidate

FLOATS = {"dtype": "float32", "shape": [None, 2]}
SIGNATURE = {"inputs": {"x": FLOATS}, "outputs": {"y": FLOATS}, "method_name": "predict"}
Answer = Callable[[Any], Any]


class Served:
    """A service: by version how it answers one instance, and how long that takes."""

    def __init__(self, *answers: Answer, seconds: Sequence[float] = ()) -> None:
        self.answers = dict(enumerate(answers, 1))
        self.seconds = dict(enumerate(seconds, 1))
        self.signatures: dict[int, Any] = {version: {"serving_default": SIGNATURE} for version in self.answers}
        self.unreachable = 0
        self.asked: list[tuple[int, Any]] = []

    def connect(self) -> ModelClient:
        client: Any = _Client(self)
        return client


class _Client:
    def __init__(self, served: Served) -> None:
        self.served = served

    def __enter__(self) -> _Client:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def metadata(self, model: str, version: int) -> dict[str, Any]:
        if version not in self.served.answers:
            raise ServiceNotFoundError(f"Servable not found: {model}/{version}", 404)
        return {"signatures": self.served.signatures[version]}

    def predict(self, model: str, instances: Any, *, version: int, signature_name: str) -> Prediction:
        if self.served.unreachable:
            self.served.unreachable -= 1
            raise ServiceUnreachableError("no answer")
        self.served.asked.append((version, instances))
        answer = self.served.answers[version]
        outputs = answer(instances.inputs) if isinstance(instances, Columns) else [answer(each) for each in instances]
        return Prediction(outputs, version, self.served.seconds.get(version, 0.001))


def same(value: Any) -> Any:
    return value


def turned(value: Any) -> Any:
    return value[::-1]


def refuses(value: Any) -> Any:
    raise ServiceError("bad input", 400)


GOLDEN = [Record(1, [[0.1, 0.9]], [[0.1, 0.9]]), Record(2, [[0.7, 0.3], [0.2, 0.8]], [[0.7, 0.3], [0.2, 0.8]])]


def trial(gate: Gate, served: Served, connections: int = 1, records: Any = None) -> Trial:
    files = dict.fromkeys(gate.files, GOLDEN) if records is None else records
    return Trial(gate, files, [served.connect] * connections, "m", lambda: None, lambda seconds: None)


def run(gate: Gate, served: Served, old: int | None = 1, **options: Any) -> ServiceReport:
    return trial(gate, served, **options).run(Candidate("m", 2, old))


def test_a_version_that_reaches_everything_passes_with_its_numbers() -> None:
    gate = Gate(golden="g", agreement=Agreement(), latency=Latency(requests=20, p99_ms=5, p99_ratio=1.5))
    found = run(gate, Served(same, same), connections=3)
    assert found == ServiceReport(
        records=2, largest_difference=0.0, agreement=1.0, instances=3,
        p50_ms=1.0, p99_ms=1.0, old_p50_ms=1.0, old_p99_ms=1.0,
    )  # fmt: skip


def test_a_golden_failure_names_record_place_both_values_and_the_largest_difference() -> None:
    def off(value: Any) -> Any:
        return [value[0] + 0.01, value[1] + (0.5 if value[1] == 0.3 else 0)]

    found = run(Gate(golden="g.jsonl"), Served(same, off))
    assert found.problems == (
        "2 of 2 records of g.jsonl not answered as expected; g.jsonl:1: predictions[0][0]: expected 0.1, found 0.11: "
        "difference 0.01, allowed 0.0002",
        "the largest difference is 0.5: g.jsonl:2: predictions[0][1]: expected 0.3, found 0.8: difference 0.5, allowed "
        "0.0004",
    )
    assert found.largest_difference == pytest.approx(0.5)


def test_a_version_that_refuses_a_record_does_not_pass() -> None:
    found = run(Gate(golden="g", tolerance=Tolerance()), Served(same, refuses))
    assert found.problems == (
        "2 of 2 records of g not answered as expected; "
        "g:1: predictions: expected an answer, found the error: bad input",
    )


def test_numbers_that_are_not_finite_leave_no_largest_difference() -> None:
    found = run(Gate(golden="g"), Served(same, lambda value: [float("nan")] * 2))
    assert found.problems
    assert found.largest_difference is None


def test_versions_that_disagree_are_counted_and_the_first_case_is_shown() -> None:
    gate = Gate(agreement=Agreement(on="i", least=0.5), signatures=SignatureRule.ANY)
    found = run(gate, Served(same, turned))
    assert found.agreement == 0
    assert found.problems == (
        "version 2 agrees with version 1 for 0 of 3 instances of i by argmax: 0, at least 0.5 is needed; "
        "i:1: version 1 answers [[0.1, 0.9]], version 2 [[0.9, 0.1]]",
    )


def test_requests_that_one_of_the_versions_refuses_are_no_agreement() -> None:
    def sometimes(value: Any) -> Any:
        return refuses(value) if value[0] == 0.1 else value

    found = run(Gate(agreement=Agreement(on="i")), Served(same, sometimes))
    assert (found.agreement, found.instances) == (pytest.approx(2 / 3), 3)
    assert "i:1: version 2 answers with the error: bad input" in found.problems[0]


def test_a_version_that_is_slower_than_its_limits_does_not_pass() -> None:
    gate = Gate(golden="g", latency=Latency(requests=10, p99_ms=5, p99_ratio=1.5))
    found = run(gate, Served(same, same, seconds=[0.002, 0.02]))
    assert found.problems == (
        "p99 of 10 requests is 20.0 ms, at most 5 ms are allowed",
        "p99 of 10 requests is 20.0 ms, 10.00 times that of version 1 (2.0 ms), at most 1.5 times are allowed",
    )


def test_timed_requests_that_fail_do_not_pass() -> None:
    found = run(Gate(golden="g", latency=Latency(requests=10, p99_ms=5)), Served(same, refuses))
    assert found.problems[-1] == "10 of 10 timed requests failed: bad input"
    assert (found.p99_ms, found.old_p99_ms) == (None, 1.0)


def test_an_old_version_that_answers_no_timed_request_is_never_passed_over() -> None:
    found = run(Gate(golden="g", latency=Latency(requests=5, p99_ratio=2)), Served(refuses, same))
    assert found.problems == ("version 1, to compare with, answered none of the timed requests",)


def test_without_a_file_requests_are_made_from_the_signature_and_that_is_said() -> None:
    served = Served(same, same)
    found = run(Gate(latency=Latency(requests=4, p99_ms=5)), served)
    assert found.notes == ("timed with a request made from the signature",)
    assert served.asked[0][1] == [[1.0, 1.0]]
    served.signatures[2] = {"serving_default": {**SIGNATURE, "inputs": {"x": {"dtype": "complex64", "shape": []}}}}
    found = run(Gate(latency=Latency(requests=4, p99_ms=5), signatures=SignatureRule.ANY), served)
    assert "values of type complex64 cannot be written; name a golden file" in found.problems[0]


def test_a_first_version_has_nothing_to_compare_with_and_that_is_said() -> None:
    gate = Gate(golden="g", agreement=Agreement(), latency=Latency(requests=4, p99_ratio=1))
    found = run(gate, Served(same, same), old=None)
    assert (found.problems, found.agreement, found.old_p99_ms) == ((), None, None)
    assert found.notes == ("nothing to compare with: no version before it is served",)


def test_an_old_version_that_is_not_served_is_never_passed_over() -> None:
    served = Served(same, same)
    del served.answers[1]
    assert "version 1, to compare with, is not served" in run(Gate(), served).problems


def test_signatures_that_clients_cannot_go_on_with_are_refused_unless_any_will_do() -> None:
    served = Served(same, same)
    served.signatures[2] = {"serving_default": {**SIGNATURE, "outputs": {"z": FLOATS}}}
    said = "clients of version 1 cannot go on: serving_default: output y is gone (was float32[?, 2])"
    assert run(Gate(), served).problems == (said,)
    assert run(Gate(signatures=SignatureRule.ANY), served).problems == ()


def test_a_gateway_without_an_answer_is_asked_again_and_a_silent_one_is_an_error() -> None:
    served = Served(same, same)
    served.unreachable = 2
    assert run(Gate(golden="g"), served).problems == ()
    served.unreachable = 100
    with pytest.raises(ServiceUnreachableError):
        run(Gate(golden="g"), served)


def test_every_connection_is_asked_in_turn() -> None:
    served, used = Served(same, same), []

    def connection(number: int) -> Callable[[], ModelClient]:
        def connect() -> ModelClient:
            used.append(number)
            return served.connect()

        return connect

    Trial(Gate(golden="g"), {"g": GOLDEN}, [connection(0), connection(1)], "m", lambda: None, lambda seconds: None).run(
        Candidate("m", 2, 1)
    )
    assert used == [0, 1]


def test_it_ends_where_it_is_cancelled() -> None:
    class CancelledError(Exception):
        pass

    def cancel() -> None:
        raise CancelledError

    stopped = trial(Gate(golden="g"), Served(same, same))
    stopped.check = cancel
    with pytest.raises(CancelledError):
        stopped.run(Candidate("m", 2, 1))
