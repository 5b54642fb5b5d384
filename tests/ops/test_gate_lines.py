"""Gates in a comment: what is tried and the numbers to reach among the steps, and the last reports."""

from __future__ import annotations

import copy
from typing import Any

from ops.comment import Preview, render
from tests.ops.previews import parsed, promotion, state, step

SERVED_MODEL = "tfserving:index:ServedModel"
GATE = {
    "gate": {"golden": "golden/modelB.jsonl", "latency": {"requests": 50, "p99Ms": 20}},
    "files": {"golden/modelB.jsonl": {"digest": "sha256:1", "records": 20}},
}
REPORT = {
    "model": "modelB",
    "version": "1",
    "at": "2026-01-01T00:00:00+00:00",
    "passed": True,
    "services": {"multi_http": {"records": 20, "largestDifference": 0.5}},
}


def comment(*steps: dict[str, Any]) -> str:
    return render(Preview("dev", parsed(*steps)))


def gated() -> dict[str, Any]:
    """A promotion of a model with a gate."""
    found = copy.deepcopy(promotion())
    for each in (found["oldState"], found["newState"]):
        each["inputs"]["gates"] = {"modelB": GATE}
        each["inputs"]["services"]["multi_http"]["pollSeconds"] = 1
    found["oldState"]["outputs"]["gateReports"] = {"modelB": {"1": REPORT}}
    return found


def test_a_comment_lists_what_is_tried_with_the_numbers_to_reach_before_the_label_moves() -> None:
    text = comment(gated())
    step_line = (
        "1. `step 1 of 2, gate: modelB version 2 for label stable, on multi_http: 20 records of golden/modelB.jsonl "
        "within 0.0001 + 0.001 of the number; p99 at most 20 ms (50 requests, 4 at a time); signatures compatible with "
        "the version before; compared with version 1`"
    )
    assert step_line in text
    assert text.index(step_line) < text.index("2. `step 2 of 2, move: modelB: label stable 1 -> 2`")


def test_a_comment_has_the_reports_of_the_last_gates() -> None:
    line = (
        "- `last gate, 2026-01-01T00:00:00+00:00: modelB version 1 passed its gate on multi_http: 20 records, largest "
        "difference 0.5`"
    )
    text = comment(gated())
    assert "**Gates**" in text
    assert text.count(line) == 1


def test_a_comment_on_a_stack_without_gates_has_no_word_of_them() -> None:
    assert "gate" not in comment(promotion()).lower()


def test_a_service_of_one_model_says_what_it_tries() -> None:
    service = {"name": "one", "url": "http://127.0.0.1:1/x"}
    old, new = ({"service": service, "model": "m", "versions": [each], "gate": GATE} for each in ("1", "2"))
    text = comment(step("update", SERVED_MODEL, "one-served", state(old), state(new), {"versions[0]": "update"}))
    assert "- `one: gate: m version 2 for requests without a label, on one: 20 records of golden/modelB.jsonl" in text
    assert "one: m: requests without a label: version 1 -> 2 once it is loaded" in text
