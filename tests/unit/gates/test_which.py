"""Which versions of a change have to pass, signatures that go together, times, reports and the wire."""

from __future__ import annotations

import re
import threading
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfserving.gates import latency, signatures, which
from tfserving.gates.which import Candidate, began_with, candidates
from tfserving.model_config import Model, ModelServerConfig, VersionPolicy
from tfserving.rollout import plan
from tfserving.saved_model import Signature, TensorInfo

VERSIONS = st.integers(1, 4)
DISK = {"m": (1, 2, 3, 4), "n": (1,)}


def config(policy: VersionPolicy | tuple[int, ...], **labels: int) -> ModelServerConfig:
    given_policy = VersionPolicy.specific(policy) if isinstance(policy, tuple) else policy
    return ModelServerConfig((Model("m", "/models/m", policy=given_policy, labels=labels),))


def found(before: ModelServerConfig | None, wanted: ModelServerConfig, **options: Any) -> tuple[Candidate, ...]:
    return candidates(before, wanted, {"m": ""}, options.pop("disk", DISK), **options).candidates


POLICIES = st.one_of(
    st.just(VersionPolicy.all()),
    st.integers(1, 3).map(VersionPolicy.latest),
    st.sets(VERSIONS, min_size=1).map(VersionPolicy.specific),
)


@st.composite
def configs(draw: st.DrawFn) -> ModelServerConfig:
    policy = draw(POLICIES)
    served = policy.select(DISK["m"])
    labels = draw(st.dictionaries(st.sampled_from(["stable", "canary"]), st.sampled_from(served)))
    return config(policy, **labels)


@given(st.none() | configs(), configs())
def test_every_version_that_requests_move_to_has_to_pass_and_no_other(
    before: ModelServerConfig | None, wanted: ModelServerConfig
) -> None:
    def answers(of: ModelServerConfig | None) -> dict[str, int]:
        model = of.get("m") if of else None
        return {**model.labels, "": max(model.policy.select(DISK["m"]))} if model else {}

    old, new = answers(before), answers(wanted)
    moves = {version for label, version in new.items() if old.get(label) != version}
    must = found(before, wanted)
    assert {each.version for each in must} == moves
    for each in must:
        assert each.old != each.version
        assert before is not None or each.old is None


@given(configs())
def test_what_changes_nothing_demands_nothing(wanted: ModelServerConfig) -> None:
    assert found(wanted, wanted) == ()


@given(configs(), configs())
def test_models_without_a_gate_demand_nothing(before: ModelServerConfig, wanted: ModelServerConfig) -> None:
    assert candidates(before, wanted, {}, DISK) == which.Which()


def test_a_label_is_compared_with_what_it_named_and_a_named_label_with_that() -> None:
    before, wanted = config((1, 2), stable=1, canary=2), config((1, 2, 3), stable=1, canary=3)
    (first,) = found(before, wanted)
    assert first == Candidate("m", 3, 2, ("canary",), unlabelled=True)
    (second,) = candidates(before, wanted, {"m": "stable"}, DISK).candidates
    assert second.old == 1
    assert first.reason == "label canary and requests without a label"


def test_a_version_that_is_only_loaded_moves_nobody() -> None:
    assert found(config((1, 3), stable=1), config((1, 2, 3), stable=1)) == ()


def test_requests_go_back_without_a_gate_to_a_version_that_answered_before() -> None:
    before, wanted = config((1, 2), stable=2), config((1, 2), stable=1)
    assert len(found(before, wanted)) == 1
    back = candidates(before, wanted, {"m": ""}, DISK, {"m": {1, 2}})
    assert (back.candidates, [each.version for each in back.known]) == ((), [1])
    forward = candidates(wanted, before, {"m": ""}, DISK, {"m": {1, 2}})
    assert [each.version for each in forward.candidates] == [2]


@given(configs(), configs(), st.data())
def test_a_continued_rollout_began_with_what_the_state_says(
    before: ModelServerConfig, wanted: ModelServerConfig, data: st.DataObject
) -> None:
    steps = [step.config for step in plan(before, wanted, DISK, DISK)]
    reached = data.draw(st.sampled_from([before, *steps]))
    base = began_with(reached, before, steps)
    assert base == before
    # So what has to pass is the same, however far an earlier run came.
    assert found(base, wanted) == found(before, wanted)


def test_a_config_that_is_no_step_of_the_rollout_is_where_it_begins() -> None:
    changed = config((4,), stable=4)
    assert began_with(changed, config((1,)), [config((1, 2))]) == changed
    assert began_with(None, config((1,)), []) is None
    assert began_with(config((1,)), None, [config((1,))]) is None


# ---- signatures ----------------------------------------------------------------------------------------------------


def tensors(**infos: Any) -> dict[str, TensorInfo]:
    return {name: TensorInfo(dtype, shape) for name, (dtype, shape) in infos.items()}


BASE = {"f": Signature(tensors(x=("float32", (None, 3))), tensors(y=("float32", (None, 2))))}


@pytest.mark.parametrize(
    ("inputs", "outputs", "said"),
    [
        ({"x": ("float32", (None, 3))}, {"y": ("float32", (None, 2))}, ""),
        ({"x": ("float32", (None, None))}, {"y": ("float32", (1, 2))}, ""),
        ({"x": ("float32", None)}, {"y": ("float32", (None, 2)), "z": ("int64", ())}, ""),
        ({"x": ("float64", (None, 3))}, {"y": ("float32", (None, 2))}, "input x changes its type"),
        ({"x": ("float32", (1, 3))}, {"y": ("float32", (None, 2))}, "input x takes less"),
        ({"x": ("float32", (None, 3, 1))}, {"y": ("float32", (None, 2))}, "input x takes less"),
        ({"x": ("float32", (None, 3))}, {"y": ("float32", (None, 3))}, "output y has another shape"),
        ({"x": ("float32", (None, 3))}, {"y": ("float32", None)}, "output y has another shape"),
        ({"x": ("float32", (None, 3))}, {"z": ("float32", (None, 2))}, "output y is gone"),
        ({"q": ("float32", (None, 3))}, {"y": ("float32", (None, 2))}, "input x is gone"),
        (
            {"x": ("float32", (None, 3)), "w": ("int64", ())},
            {"y": ("float32", (None, 2))},
            "input w .* is new, and requests without it are refused",
        ),
    ],
)
def test_clients_can_go_on_with_a_version_that_takes_and_gives_the_same(inputs: Any, outputs: Any, said: str) -> None:
    lines = signatures.incompatibilities(BASE, {"f": Signature(tensors(**inputs), tensors(**outputs))})
    assert re.search(said, "\n".join(lines)) if said else lines == []


def test_a_signature_that_is_gone_is_told_and_a_new_one_and_tensorflows_own_are_not() -> None:
    assert signatures.incompatibilities(BASE, {}) == ["signature f is gone"]
    assert signatures.incompatibilities({}, BASE) == []
    assert signatures.incompatibilities({"__saved_model_init_op": BASE["f"]}, {}) == []


SHAPES = st.none() | st.lists(st.none() | st.integers(1, 3), max_size=3).map(tuple)


@given(SHAPES, SHAPES, st.lists(st.integers(1, 3), max_size=3))
def test_a_shape_covers_another_only_if_it_takes_all_that_is_in_it(wide: Any, narrow: Any, sizes: list[int]) -> None:
    def takes(shape: Any) -> bool:
        return signatures.covers(shape, tuple(sizes))

    if signatures.covers(wide, narrow) and takes(narrow):
        assert takes(wide)
    assert signatures.covers(wide, wide)


# ---- times ---------------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(0.001, 10), min_size=1, max_size=300), st.floats(0.01, 1))
def test_a_percentile_is_a_time_that_was_measured_and_covers_its_share(seconds: list[float], share: float) -> None:
    value = latency.Times(seconds).percentile(share)
    assert value is not None
    assert any(value == each * 1000 for each in seconds)
    assert sum(each * 1000 <= value for each in seconds) >= share * len(seconds) - 1e-6


@given(st.integers(1, 30), st.integers(1, 5), st.integers(1, 2))
def test_so_many_requests_are_counted_for_each_version_and_no_more_at_a_time(
    requests: int, concurrency: int, versions: int
) -> None:
    lock, now, most = threading.Lock(), [0], [0]
    asked: list[set[int]] = [set() for _ in range(versions)]

    def asking(index: int) -> latency.Ask:
        def ask(worker: int, number: int) -> float:
            with lock:
                now[0] += 1
                most[0] = max(most[0], now[0])
                asked[index].add(number)
            with lock:
                now[0] -= 1
            return 0.001

        return ask

    times = latency.measure([asking(index) for index in range(versions)], requests, concurrency, lambda: None)
    assert [len(each.seconds) for each in times] == [requests] * versions
    assert all(numbers == set(range(requests)) for numbers in asked)
    assert most[0] <= concurrency


def test_failures_are_counted_and_a_cancelled_measurement_ends_soon() -> None:
    def ask(worker: int, number: int) -> float:
        if number % 10 == 3:
            raise latency.MeasureError("no")
        return 0.001

    (times,) = latency.measure([ask], 100, 4, lambda: None)
    assert (len(times.failures), len(times.seconds)) == (10, 90)

    class CancelledError(Exception):
        pass

    def cancel() -> None:
        raise CancelledError

    started = time.monotonic()
    with pytest.raises(CancelledError):
        latency.measure([lambda worker, number: time.sleep(0.01) or 0.01], 100_000, 4, cancel)
    assert time.monotonic() - started < 10
