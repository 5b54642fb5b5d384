"""What a rollout will do, from its inputs and what was found: the same for a preview and for those who read one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfserving import served
from tfserving.contract.parts import ServedVersions
from tfserving.contract.serving import ConfiguredService, ServedConfigInputs
from tfserving.errors import TFServingError
from tfserving.model_config import Model, ModelServerConfig, VersionPolicy
from tfserving.served import Planned, Wanted

numbers = st.integers(0, 2**63 - 1)


def inputs(model: Model, *published: int, **more: Any) -> ServedConfigInputs:
    return ServedConfigInputs(
        bucket="b",
        key="models/model_config.pbtxt",
        owner="p/s",
        models=ModelServerConfig((model,)),
        published={model.name: published},
        services={"http": ConfiguredService(poll_seconds=1), "blind": ConfiguredService(reachable=False)},
        **more,
    )


def model(*versions: int, **labels: int) -> Model:
    return Model("m", "/models/m", policy=VersionPolicy.specific(versions), labels=labels)


def found(wanted: ServedConfigInputs, **more: Any) -> Any:
    then = Wanted.of(wanted)
    return replace(then.results(then.expected_by_service(), then.file, {}), **more)


def planned(before: ServedConfigInputs, after: ServedConfigInputs, **more: Any) -> Planned:
    return served.plan(after, before, found(before, **more))


def test_a_label_that_moves_is_a_change_and_a_step() -> None:
    plan = planned(inputs(model(1, 2, stable=1), 1, 2), inputs(model(1, 2, stable=2), 1, 2))
    assert plan.changes == ("m: label stable 1 -> 2",)
    assert plan.step_lines == ["step 1 of 1, move: m: label stable 1 -> 2"]
    assert (plan.pin, plan.unlabelled) == ("", ())


def test_requests_without_a_label_move_to_the_highest_version() -> None:
    plan = planned(inputs(model(1), 1), inputs(model(1, 2), 1, 2))
    assert plan.unlabelled == ("m: requests without a label: version 1 -> 2 once it is loaded",)
    assert [step.kind for step in plan.steps] == ["widen"]


def test_a_rollout_that_is_new_has_no_steps_yet() -> None:
    assert served.plan(inputs(model(1), 1), None, None) == Planned(("+ m (specific [1])",))


def test_what_is_served_counts_and_not_what_was_declared() -> None:
    before = inputs(model(1, 2, stable=1), 1, 2)
    moved = {"http": {"m": replace(Wanted.of(before).expected()["m"], labels={"stable": 2})}}
    plan = planned(before, before, served=moved)
    assert plan.changes == ()
    assert plan.step_lines == ["step 1 of 1, move: m: label stable 2 -> 1"]


def test_files_that_are_still_to_go_are_not_served_meanwhile() -> None:
    every = Model("m", "/models/m", policy=VersionPolicy.all())
    both = {"http": {"m": ServedVersions(versions=(1, 2))}}
    plan = planned(inputs(every, 2), inputs(every, 2), obsolete={"m": (1,)}, served=both)
    assert [step.config.models[0].policy.versions for step in plan.steps] == [(2,)]


@given(st.lists(numbers, min_size=1, max_size=4, unique=True), st.data())
def test_what_is_in_force_needs_no_steps(versions: list[int], data: st.DataObject) -> None:
    labels = data.draw(st.dictionaries(st.sampled_from(["stable", "canary"]), st.sampled_from(versions)))
    same = inputs(model(*versions, **labels), *versions)
    assert planned(same, same) == Planned(())
    again = ServedConfigInputs.read(same.write())
    assert served.plan(again, again, found(again)) == Planned(())


def test_a_service_that_cannot_be_asked_is_expected_to_say_nothing() -> None:
    then = Wanted.of(inputs(model(1), 1))
    assert set(then.expected_by_service()) == {"http"}
    assert then.unproven() == ("blind",)


def test_services_that_answered_leave_no_trace_in_the_outputs() -> None:
    outputs = found(inputs(model(1), 1))
    assert "unasked" not in outputs.write(), "or every state of an older release would differ"
    then = Wanted.of(inputs(model(1), 1))
    assert then.results({}, None, {}, {"http": "no answer"}).write()["unasked"] == {"http": "no answer"}


def test_what_no_server_could_follow_is_an_error() -> None:
    gone = inputs(model(1), 1)
    with pytest.raises(TFServingError):
        planned(gone, inputs(model(2, stable=3), 2))
