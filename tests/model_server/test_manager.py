"""Lifecycle of versions: what is loaded and unloaded, in which order, and what a status shows of it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.model_server.manager import (
    Action,
    AspiredVersionsManager,
    Harness,
    HarnessState,
    ManagerOptions,
    next_action,
)
from sandbox.model_server.states import EventBus, ManagerState, ServableId, StateMonitor
from sandbox.model_server.status import Code, StatusError
from sandbox.model_server.storage import AspiredVersion
from tests.waiting import until

NO_RETRY = ManagerOptions(max_num_load_retries=0)


class Bench:
    """A manager whose ticks are made by the test, and a monitor of it."""

    def __init__(self, loaders: Any, options: ManagerOptions = NO_RETRY) -> None:
        bus = EventBus()
        self.monitor = StateMonitor(bus)
        self.manager = AspiredVersionsManager(options, loaders, bus)

    def aspire(self, *versions: int, name: str = "m") -> None:
        self.manager.set_aspired(name, [AspiredVersion(version, f"/{name}/{version}") for version in versions])

    def tick(self, times: int = 1) -> None:
        for _ in range(times):
            self.manager.tick()

    def states(self, name: str = "m") -> dict[int, str]:
        return {state.id.version: state.state.name for state in self.monitor.versions(name)}

    def answers(self, version: int | None = None, name: str = "m") -> int:
        with self.manager.use(name, version) as (number, servable):
            assert servable == f"/{name}/{number}"
            return number


@pytest.fixture
def bench(loaders: Any) -> Bench:
    return Bench(loaders)


def test_the_highest_new_version_loads_first_one_for_each_tick(bench: Bench, loaders: Any) -> None:
    bench.aspire(1, 3, 2)
    bench.tick()
    assert loaders.log == ["load m 3"]
    bench.tick(3)
    assert loaders.log == ["load m 3", "load m 2", "load m 1"]
    assert bench.states() == {3: "AVAILABLE", 2: "AVAILABLE", 1: "AVAILABLE"}


def test_requests_without_a_version_go_to_the_highest_available_one(bench: Bench, loaders: Any) -> None:
    loaders.failing.add(ServableId("m", 3))
    bench.aspire(1, 2, 3)
    bench.tick(4)
    assert bench.states() == {3: "END", 2: "AVAILABLE", 1: "AVAILABLE"}
    assert bench.answers() == 2
    assert bench.answers(1) == 1


@pytest.mark.parametrize(
    ("name", "version", "message"),
    [("m", 7, "Specific(m, 7)"), ("x", None, "Latest(x)"), ("m", 3, "Specific(m, 3)")],
)
def test_what_is_not_available_is_not_found(
    bench: Bench, loaders: Any, name: str, version: int | None, message: str
) -> None:
    loaders.failing.add(ServableId("m", 3))
    bench.aspire(1, 3)
    bench.tick(2)
    with pytest.raises(StatusError) as caught, bench.manager.use(name, version):
        pass
    assert str(caught.value) == f"NOT_FOUND: Servable not found for request: {message}"


def test_a_new_version_is_up_before_the_old_one_goes(bench: Bench, loaders: Any) -> None:
    bench.aspire(1)
    bench.tick()
    bench.aspire(2)
    bench.tick()
    assert loaders.log == ["load m 1", "load m 2"]
    assert bench.answers() == 2
    assert bench.answers(1) == 1
    bench.tick()
    assert loaders.log[-1] == "unload m 1"
    assert bench.states() == {2: "AVAILABLE", 1: "END"}


def test_the_old_version_keeps_serving_when_the_new_one_cannot_load(bench: Bench, loaders: Any) -> None:
    bench.aspire(1)
    bench.tick()
    loaders.failing.add(ServableId("m", 2))
    bench.aspire(2)
    bench.tick(5)
    assert loaders.log == ["load m 1", "load m 2"]
    assert bench.answers() == 1
    state = bench.monitor.state(ServableId("m", 2))
    assert state is not None
    assert state.state is ManagerState.END
    assert str(state.error) == "NOT_FOUND: no model in /m/2"


def test_a_failed_version_is_tried_again_only_after_it_left_the_wanted_ones(bench: Bench, loaders: Any) -> None:
    loaders.failing.add(ServableId("m", 2))
    bench.aspire(2)
    bench.tick(3)
    loaders.failing.clear()
    bench.aspire(2)
    bench.tick(3)
    assert loaders.log == ["load m 2"]
    bench.aspire()
    bench.tick(2)
    bench.aspire(2)
    bench.tick(2)
    assert loaders.log == ["load m 2", "load m 2"]
    assert bench.states() == {2: "AVAILABLE"}


def test_an_empty_list_unloads_everything_lowest_first(bench: Bench, loaders: Any) -> None:
    bench.aspire(1, 2)
    bench.tick(2)
    bench.aspire()
    bench.tick(2)
    assert loaders.log[2:] == ["unload m 1", "unload m 2"]
    assert bench.states() == {2: "END", 1: "END"}


def test_unloads_of_any_model_come_before_loads_of_any(bench: Bench, loaders: Any) -> None:
    bench.aspire(1, name="b")
    bench.tick()
    bench.aspire(1, name="a")
    bench.aspire(name="b")
    bench.tick()
    assert loaders.log == ["load b 1", "unload b 1"]


def test_a_version_wanted_again_while_it_goes_comes_back_afterwards(bench: Bench, loaders: Any) -> None:
    bench.aspire(1, 2)
    bench.tick(2)
    with bench.manager.use("m", 1):
        bench.aspire(2)
        unloading = threading.Thread(target=bench.tick)
        unloading.start()
        until(lambda: bench.states()[1] == "UNLOADING")
        bench.aspire(1, 2)
    unloading.join()
    bench.tick(3)
    assert loaders.log == ["load m 2", "load m 1", "unload m 1", "load m 1"]
    assert bench.states() == {2: "AVAILABLE", 1: "AVAILABLE"}


def test_unloading_waits_for_requests_that_hold_the_version(bench: Bench, loaders: Any) -> None:
    bench.aspire(1)
    bench.tick()
    bench.aspire()
    with bench.manager.use("m", 1) as (_, servable):
        unloading = threading.Thread(target=bench.tick)
        unloading.start()
        until(lambda: bench.states() == {1: "UNLOADING"})
        assert servable == "/m/1"
        assert loaders.log == ["load m 1"]
        with pytest.raises(StatusError), bench.manager.use("m", None):
            pass
    unloading.join()
    assert loaders.log == ["load m 1", "unload m 1"]


def test_two_directories_of_one_number_load_once(bench: Bench, loaders: Any, caplog: pytest.LogCaptureFixture) -> None:
    bench.manager.set_aspired("m", [AspiredVersion(1, "/m/001"), AspiredVersion(1, "/m/1")])
    with caplog.at_level(logging.ERROR):
        bench.tick(3)
    assert loaders.log == ["load m 1"]
    with bench.manager.use("m", 1) as (_, servable):
        assert servable == "/m/001"
    assert "already being managed" in caplog.text


def test_a_failing_load_is_retried_and_loading_meanwhile(loaders: Any) -> None:
    bench = Bench(loaders, ManagerOptions(max_num_load_retries=2, load_retry_interval_seconds=-1))
    seen: list[dict[int, str]] = []
    loaders.failing.add(ServableId("m", 1))
    loaders.hooks[ServableId("m", 1)] = lambda: seen.append(bench.states())
    bench.aspire(1)
    bench.tick()
    assert loaders.log == ["load m 1"] * 3
    assert seen == [{1: "LOADING"}] * 3
    assert bench.states() == {1: "END"}


def test_a_retry_can_succeed(loaders: Any) -> None:
    bench = Bench(loaders, ManagerOptions(max_num_load_retries=2, load_retry_interval_seconds=0))
    loaders.failing.add(ServableId("m", 1))
    loaders.hooks[ServableId("m", 1)] = lambda: loaders.failing.clear() if len(loaders.log) == 2 else None
    bench.aspire(1)
    bench.tick()
    assert loaders.log == ["load m 1"] * 2
    assert bench.states() == {1: "AVAILABLE"}


@pytest.fixture
def threaded(loaders: Any) -> Iterator[Bench]:
    bench = Bench(loaders, ManagerOptions(2, 2, max_num_load_retries=5, load_retry_interval_seconds=30))
    yield bench
    bench.manager.stop()


def test_with_load_threads_other_versions_go_on_while_one_retries(threaded: Bench, loaders: Any) -> None:
    loaders.failing.add(ServableId("m", 2))
    threaded.aspire(1, 2)
    threaded.tick(2)
    until(lambda: threaded.states() == {2: "LOADING", 1: "AVAILABLE"})


def test_stopping_interrupts_the_pause_between_retries(threaded: Bench, loaders: Any) -> None:
    loaders.failing.add(ServableId("m", 1))
    threaded.aspire(1)
    threaded.tick()
    until(lambda: len(loaders.log) == 1)
    threaded.manager.stop()
    until(lambda: threaded.states() == {1: "END"})


def test_a_version_dropped_while_it_loads_is_unloaded_again(threaded: Bench, loaders: Any) -> None:
    loading, go_on = threading.Event(), threading.Event()

    def hook() -> None:
        loading.set()
        go_on.wait(60)

    loaders.hooks[ServableId("m", 1)] = hook
    threaded.aspire(1)
    threaded.tick()
    assert loading.wait(60)
    threaded.aspire()
    threaded.tick()
    go_on.set()
    until(lambda: threaded.states() == {1: "END"})
    assert loaders.log == ["load m 1", "unload m 1"]
    state = threaded.monitor.state(ServableId("m", 1))
    assert state is not None
    assert state.error is not None
    assert state.error.code is Code.CANCELLED


def test_changing_the_load_threads_waits_for_loads_under_way(threaded: Bench, loaders: Any) -> None:
    loading, go_on, changed = threading.Event(), threading.Event(), threading.Event()

    def hook() -> None:
        loading.set()
        go_on.wait(60)

    loaders.hooks[ServableId("m", 1)] = hook
    threaded.aspire(1)
    threaded.tick()
    assert loading.wait(60)

    def change() -> None:
        threaded.manager.set_load_threads(0)
        changed.set()

    threading.Thread(target=change).start()
    assert not changed.wait(0.05)
    go_on.set()
    assert changed.wait(60)


# The policy on its own

HARNESSES = st.lists(st.tuples(st.sampled_from(list(HarnessState)), st.booleans()), max_size=6).map(
    lambda items: [Harness(ServableId("m", n), None, state, aspired) for n, (state, aspired) in enumerate(items)]
)  # type: ignore[arg-type]


@given(HARNESSES)
def test_the_policy_never_takes_the_last_ready_version_while_one_is_wanted(versions: list[Harness]) -> None:
    action = next_action(versions)
    ready = [harness for harness in versions if harness.state is HarnessState.READY]
    wanted = any(harness.aspired for harness in versions)
    if action and action[0] is Action.UNLOAD:
        assert not action[1].aspired
        assert action[1] in ready
        assert len(ready) > 1 or not wanted
    if action and action[0] is Action.LOAD:
        assert action[1].aspired
        assert action[1].state is HarnessState.NEW


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sets(st.integers(1, 5), max_size=4), min_size=1, max_size=6))
def test_whatever_is_wanted_in_between_the_end_is_what_is_wanted_last(
    make_loaders: Any, wishes: list[set[int]]
) -> None:
    bench = Bench(make_loaders())
    for wish in wishes:
        had = "AVAILABLE" in bench.states().values()
        bench.aspire(*wish)
        for _ in range(4):
            bench.tick()
            if had and wish:
                assert "AVAILABLE" in bench.states().values()
    bench.tick(20)
    assert {version for version, state in bench.states().items() if state == "AVAILABLE"} == wishes[-1]


def test_going_back_from_a_broken_version_holds_up_versions_beside_the_old_one(bench: Bench, loaders: Any) -> None:
    """The old version is no longer wanted but must not go, being the only one; wanting it again waits until it goes."""
    bench.aspire(1)
    bench.tick()
    loaders.failing.add(ServableId("m", 2))
    bench.aspire(2)
    bench.tick(2)
    bench.aspire(1, 3)
    bench.tick(20)
    assert loaders.log == ["load m 1", "load m 2"]
    assert bench.answers() == 1
    bench.aspire(3)
    bench.tick(3)
    assert loaders.log[2:] == ["load m 3", "unload m 1"]
    bench.aspire(1, 3)
    bench.tick(2)
    assert bench.answers(1) == 1
