"""A gate from the stack file to the pull request: recorded, previewed, passed, shown again; and one that fails."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator

import pytest

from ops import told_errors
from tests.e2e.checkout import Checkout
from tests.e2e.load import Load, Target

pytestmark = pytest.mark.slow

MODELS = "tf-serving:models"
TARGETS = (
    Target("modelB", label="stable"),
    Target("modelB", label="canary"),
    Target("modelB", version=1),
    Target("modelB", version=2),
    Target("modelB"),
)
GOLDEN = "golden/modelB.jsonl"


@pytest.fixture(scope="module")
def stack(prepared: Checkout) -> Iterator[Checkout]:
    for service in prepared.config()["config"]["tf-serving:services"]:
        prepared.set(2, "tf-serving:services", service, "replicas")
    prepared.succeed("up", module="local", timeout=600)
    yield prepared
    prepared.run("down", module="local")


def labels(stack: Checkout) -> list[dict[str, int]]:
    return [each["models"]["modelB"]["labels"] for each in stack.outputs()["services"].values()]


def test_a_gate_alone_is_no_change_and_its_file_comes_from_a_version_that_runs(stack: Checkout) -> None:
    arguments = ("golden", "record", "multi_http", "modelB", "--version", "2", "--count", "5")
    assert "5 records of modelB version 2" in stack.succeed(*arguments, module="ops")
    gate = {
        "golden": GOLDEN,
        "tolerance": {"absolute": 1e-3, "relative": 1e-2},
        "latency": {"requests": 20, "concurrency": 2, "p99Ms": 20_000},
    }
    stack.set(gate, MODELS, "modelB", "gate")
    assert stack.run("preview", "--expect-no-changes").code == 0


def test_a_preview_and_its_comment_list_what_is_gated_and_the_numbers_to_reach(stack: Checkout) -> None:
    stack.set({"stable": 2, "canary": 1}, MODELS, "modelB", "labels")
    said = (
        "gate: modelB version 1 for label canary, on multi_grpc, multi_http: 5 records of golden/modelB.jsonl within "
        "0.001 + 0.01 of the number; p99 at most 20000 ms (20 requests, 2 at a time); signatures compatible with the "
        "version before; compared with version 2"
    )
    other = said.replace("gate: modelB version 1 for label canary", "modelB version 2 for label stable")
    other = other.replace("compared with version 2", "compared with version 1")
    preview = stack.succeed("preview")
    assert f"{said}; {other}" in preview
    comment = stack.succeed("preview-comment", module="ops")
    assert "step 1 of 2, gate: modelB version 1 for label canary" in comment


def test_a_change_that_does_not_pass_fails_no_request_and_moves_no_label(stack: Checkout) -> None:
    with Load(stack.outputs()["services"], TARGETS) as load:
        done = stack.run("up", "--yes")
    assert done.code != 0
    assert "modelB version 1 did not pass its gate" in done.text
    assert f" of 5 records of {GOLDEN} not answered as expected; {GOLDEN}:" in done.text
    assert "No label has moved" in done.text
    assert "Traceback" not in done.text
    [told] = told_errors.errors(done.text)
    assert told.startswith("modelB version 1 did not pass its gate:\n  service multi_"), "all lines of it, and no other"
    assert f" of 5 records of {GOLDEN} not answered" in told
    assert "No label has moved" in told
    assert load.failures == []
    assert labels(stack) == [{"canary": 2, "stable": 1}] * 2


def test_a_change_that_passes_is_reported_by_up_and_by_the_next_preview(stack: Checkout) -> None:
    stack.set({"stable": 2, "canary": 2}, MODELS, "modelB", "labels")
    with Load(stack.outputs()["services"], TARGETS) as load:
        printed = stack.succeed("up", "--yes")
    assert load.failures == []
    assert labels(stack) == [{"canary": 2, "stable": 2}] * 2
    assert "modelB version 2 passed its gate on multi_grpc: 5 records, largest difference" in printed
    assert stack.run("preview", "--expect-no-changes").code == 0
    stack.set({"stable": 1, "canary": 2}, MODELS, "modelB", "labels")
    for preview in (stack.succeed("preview"), stack.succeed("preview-comment", module="ops")):
        assert "modelB version 1: label stable goes back to it without a gate: it answered before" in preview
        assert "modelB version 2 passed its gate on multi_http: 5 records, largest difference" in preview
    assert "did not pass" not in stack.succeed("up", "--yes")
    assert labels(stack) == [{"canary": 2, "stable": 1}] * 2


def test_what_a_gate_could_not_try_is_refused_by_the_preview(stack: Checkout) -> None:
    kept = stack.stack_file.read_text(encoding="utf-8")
    file = stack.root / GOLDEN
    good = file.read_text(encoding="utf-8")
    try:
        lines = good.splitlines()
        body = json.loads(lines[2])
        lines[2] = json.dumps({"instances": body["instances"]})
        file.write_text("\n".join(lines), encoding="utf-8")
        refused = stack.run("preview")
        assert refused.code != 0
        assert f"tf-serving:models.modelB.gate.golden: {GOLDEN}:3: predictions: the expected answer" in refused.text
        file.write_text(good, encoding="utf-8")
        stack.set(False, "tf-serving:services", "multi_http", "reachable")
        refused = stack.run("preview")
        assert refused.code != 0
        assert "service multi_http cannot be reached from this machine (reachable: false)" in refused.text
        assert "Traceback" not in refused.text
    finally:
        file.write_text(good, encoding="utf-8")
        stack.stack_file.write_text(kept, encoding="utf-8")


def test_a_version_that_is_new_is_loaded_gated_and_taken_back_where_it_does_not_pass(stack: Checkout) -> None:
    models = stack.root / ".sandbox" / "models"
    shutil.copytree(models / "modelB" / "1", models / "modelB" / "5")
    stack.set({"specific": [1, 2, 5]}, MODELS, "modelB", "policy")
    stack.set({"stable": 5, "canary": 2}, MODELS, "modelB", "labels")
    preview = stack.succeed("preview")
    assert "modelB: requests without a label: version 2 -> 5 once it is loaded" in preview
    with Load(stack.outputs()["services"], TARGETS) as load:
        done = stack.run("up", "--yes")
    assert done.code != 0
    assert "modelB version 5 did not pass its gate" in done.text
    assert load.failures == []
    found = [each["models"]["modelB"] for each in stack.outputs()["services"].values()]
    assert found == [{"labels": {"canary": 2, "stable": 1}, "versions": [1, 2]}] * 2
