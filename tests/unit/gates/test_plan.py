"""Gates of a change as inputs and state tell them: for previews, comments, and the rollout itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfserving import served
from tfserving.contract.gates import Agreement, Gate, GateReport, ModelGate, ServiceReport
from tfserving.contract.kinds import Version
from tfserving.contract.serving import (
    ConfiguredService,
    NamedService,
    ServedConfigInputs,
    ServedConfigOutputs,
    ServedModelInputs,
    ServedModelOutputs,
)
from tfserving.gates import plan, report
from tfserving.gates.which import Candidate
from tfserving.model_config import Model, ModelServerConfig, VersionPolicy

GATE = ModelGate(gate=Gate(agreement=Agreement(with_="stable", on="i.jsonl")))


def inputs(versions: tuple[int, ...], gates: Mapping[str, ModelGate] | None = None, **labels: int) -> Any:
    model = Model("m", "/models/m", policy=VersionPolicy.specific(versions), labels=labels)
    return ServedConfigInputs(
        bucket="b",
        key="k",
        owner="p/s",
        models=ModelServerConfig((model,)),
        published={"m": tuple(map(Version, (1, 2, 3)))},
        services={
            "polls": ConfiguredService(url="http://h", poll_seconds=1),
            "starts": ConfiguredService(url="http://h"),
        },
        gates=gates,
    )


def found(of: ServedConfigInputs, **changes: Any) -> ServedConfigOutputs:
    wanted = served.Wanted.of(of)
    return replace(wanted.results(wanted.expected_by_service(), wanted.file, {}), **changes)


PASSED = report.report(Candidate("m", 2, 1), {"polls": ServiceReport(records=3)}, {}, "2026-01-01T00:00:00+00:00")


def test_a_plan_has_the_gate_between_widen_and_move_and_names_the_services_that_poll() -> None:
    before = inputs((1, 2), stable=1)
    planned = served.plan(inputs((1, 2, 3), {"m": GATE}, stable=3), before, found(before))
    assert [step.kind for step in planned.steps] == ["widen", "gate", "move"]
    assert planned.step_lines[1] == (
        "step 2 of 3, gate: m version 3 for label stable and requests without a label, on polls: agreement with stable "
        "at least 0.99 by argmax on i.jsonl; signatures compatible with the version before; compared with version 1"
    )
    assert planned.unlabelled == ("m: requests without a label: version 2 -> 3 once it is loaded",)


def test_without_a_gate_a_plan_is_what_it_was() -> None:
    before = inputs((1, 2), stable=1)
    planned = served.plan(inputs((1, 2, 3), stable=3), before, found(before))
    assert planned.gates is None
    assert [step.kind for step in planned.steps] == ["widen", "move"]
    assert served.plan(inputs((1,), stable=1), None, None).steps == ()


def test_a_first_deployment_plans_its_gates_alone() -> None:
    planned = served.plan(inputs((1, 2), {"m": GATE}, stable=1), None, None)
    assert [step.kind for step in planned.steps] == ["gate"]
    assert "m version 1 for label stable" in planned.step_lines[0]
    assert "m version 2 for requests without a label" in planned.step_lines[0]
    assert "nothing to compare with: no version before it is served" in planned.step_lines[0]


def test_an_update_that_ended_at_its_gate_is_gated_again_from_where_it_began() -> None:
    began, wanted = inputs((1, 2), stable=1), inputs((1, 2, 3), {"m": GATE}, stable=3)
    widened = inputs((1, 2, 3), stable=1)
    stopped = found(widened, return_to=served.Wanted.of(began).file)
    planned = served.plan(wanted, wanted, stopped)
    assert [step.kind for step in planned.steps] == ["gate", "move"]
    assert planned.gates is not None
    assert planned.gates.which.candidates == (Candidate("m", 3, 1, ("stable",), unlabelled=True),)


def test_requests_that_go_back_are_told_and_the_last_reports_shown() -> None:
    before = inputs((1, 2), {"m": GATE}, stable=2)
    planned = served.plan(
        inputs((1, 2), {"m": GATE}, stable=1), before, found(before, gate_reports={"m": {"2": PASSED}})
    )
    assert planned.gates is not None
    assert [step.kind for step in planned.steps] == ["move"]
    assert planned.gates.notes == [
        "m version 1: label stable goes back to it without a gate: it answered before",
        "last gate, 2026-01-01T00:00:00+00:00: m version 2 passed its gate on polls: 3 records",
    ]


VERSIONS = st.sets(st.integers(1, 3), min_size=1).map(lambda found: tuple(sorted(found)))


@given(VERSIONS, VERSIONS, st.data())
def test_what_is_tried_is_served_during_the_gate(
    old: tuple[int, ...], new: tuple[int, ...], data: st.DataObject
) -> None:
    before = inputs(old, stable=data.draw(st.sampled_from(old)))
    planned = served.plan(inputs(new, {"m": GATE}, stable=data.draw(st.sampled_from(new))), before, found(before))
    for step in planned.steps:
        if step.kind == "gate":
            model = step.config.get("m")
            assert model is not None
            assert set(step.needs_available["m"]) <= set(model.policy.select((1, 2, 3)))
            # Labels still point at the old version.
            assert model.labels == before.models.models[0].labels


# ---- services of one model -----------------------------------------------------------------------------------------


def one_model(*versions: int) -> ServedModelInputs:
    numbers = tuple(map(Version, versions))
    return ServedModelInputs(service=NamedService(name="one", url="http://h"), model="m", versions=numbers, gate=GATE)


def outputs(**changes: Any) -> ServedModelOutputs:
    return ServedModelOutputs(served={}, unproven=False, **changes)


def test_a_service_of_one_model_tries_the_version_that_answers_then() -> None:
    planned = plan.of_one_model(one_model(2), one_model(1), outputs())
    (candidate,) = planned.which.candidates
    assert (candidate.version, candidate.old, candidate.beside) == (2, 1, None)
    assert planned.lines[0].startswith("gate: m version 2 for requests without a label, on one: ")
    assert plan.of_one_model(one_model(1), one_model(1), outputs()).which.candidates == ()


@pytest.mark.parametrize(("return_to", "tried"), [((), [2]), ((1,), [2]), ((2,), [])])
def test_an_update_that_ended_at_its_gate_goes_by_the_versions_before_it(return_to: Any, tried: list[int]) -> None:
    planned = plan.of_one_model(one_model(2), one_model(2), outputs(return_to=tuple(map(Version, return_to))))
    assert [each.version for each in planned.which.candidates] == tried


def test_a_version_taken_away_leaves_the_one_before_which_is_not_tried_again() -> None:
    reports: dict[str, dict[str, GateReport]] = report.with_report({}, PASSED)
    planned = plan.of_one_model(one_model(1), one_model(2), outputs(gate_reports=reports))
    assert (planned.which.candidates, [each.version for each in planned.which.known]) == ((), [1])
