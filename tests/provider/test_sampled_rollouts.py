"""What a rollout asks about in a stack of many models: all that changes, and a sample of the rest."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provider.served_config import ServedConfig
from tests.provider.following import World, follow, inputs
from tfserving import rollout
from tfserving.errors import RolloutError
from tfserving.model_config import Model, ModelServerConfig, VersionPolicy
from tfserving.property_values import Properties

MANY = 300
NAMES = [f"m{number:03}" for number in range(MANY)]
MOVED = ("m000", "m100", "m299")


def config(moved: Iterable[str] = ()) -> ModelServerConfig:
    labels = {name: {"stable": 2 if name in set(moved) else 1, "canary": 2} for name in NAMES}
    both = VersionPolicy.specific((1, 2))
    return ModelServerConfig(tuple(Model(name, f"/models/{name}", policy=both, labels=labels[name]) for name in NAMES))


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return follow(World(config()), monkeypatch)


def read(world: World, state: Properties) -> Properties:
    """The outputs that the read before an update finds."""
    there = ServedConfig().read(world.ctx(), "id", state, state)
    assert there is not None
    return there.outputs


def update(world: World, before: Properties, outputs: Properties, after: Properties) -> Properties:
    world.asked.clear()
    return ServedConfig().update(world.ctx(), "id", before, outputs, after)


def test_three_labels_of_many_models_are_proven_and_eight_others_are_looked_at(world: World) -> None:
    before, after = inputs(config()), inputs(config(MOVED))
    outputs = update(world, before, read(world, before), after)
    asked = set[str]().union(*world.asked)
    assert asked > set(MOVED)
    assert len(asked) == len(MOVED) + 8
    assert world.file == world.in_force == config(MOVED)
    for name in ("a", "b"):
        assert outputs["served"][name].keys() == set(NAMES)
        assert {model for model in NAMES if outputs["served"][name][model]["labels"]["stable"] == 2} == set(MOVED)


def test_without_a_read_right_before_it_an_update_asks_about_every_model(world: World) -> None:
    before, after = inputs(config()), inputs(config(MOVED))
    update(world, before, before | {"served": before["served"], "file": before["file"]}, after)
    assert set[str]().union(*world.asked) == set(NAMES)


def test_what_was_heard_counts_for_one_update_only(world: World) -> None:
    before, after = inputs(config()), inputs(config(MOVED))
    outputs = update(world, before, read(world, before), after)
    update(world, after, outputs, before)
    assert set[str]().union(*world.asked) == set(NAMES)


def test_a_new_service_is_asked_about_every_model(world: World) -> None:
    before, after = inputs(config()), inputs(config(MOVED), ("a", "b", "c"))
    update(world, before, read(world, before), after)
    assert set[str]().union(*world.asked) == set(NAMES)


def test_a_model_that_the_read_found_broken_is_asked_about_until_it_is_whole(world: World) -> None:
    before, after = inputs(config()), inputs(config(MOVED))
    world.broken, world.refuses = {"m150"}, False
    outputs = read(world, before)
    assert outputs["served"]["a"]["m150"]["labels"]["stable"] == "1 or nothing"
    with pytest.raises(RolloutError, match="m150"):
        update(world, before, outputs, after)


def test_a_sampled_model_that_broke_after_the_read_makes_the_update_ask_about_all(world: World) -> None:
    before, after = inputs(config()), inputs(config(MOVED))
    outputs = read(world, before)
    heard = dict(world.memory)
    update(world, before, outputs, after)
    sampled = set[str]().union(*world.asked) - set(MOVED)
    world.in_force = world.file = config()
    world.memory.update(heard)
    world.broken, world.refuses = {min(sampled)}, False
    with pytest.raises(RolloutError, match=min(sampled)):
        update(world, before, outputs, after)
    assert set[str]().union(*world.asked) == set(NAMES)


def test_a_model_that_nothing_changes_and_that_holds_up_the_file_is_named(world: World) -> None:
    before, after = inputs(config()), inputs(config(MOVED))
    outputs = read(world, before)
    skipped = next(name for name in NAMES if name not in MOVED and name not in _sample(MOVED))
    world.broken = {skipped}
    with pytest.raises(RolloutError) as failed:
        update(world, before, outputs, after)
    assert f"service a: {skipped}, which this update does not change, serves" in str(failed.value)


def _sample(moved: Iterable[str]) -> frozenset[str]:
    change = "\n".join(f"{name}: label stable 1 -> 2" for name in moved)
    return rollout.sample(set(NAMES) - set(moved), change, 8)


@given(st.sets(st.text(max_size=8), max_size=40), st.text(max_size=20), st.integers(0, 12))
def test_a_sample_is_the_same_for_the_same_change_whatever_the_order(names: set[str], change: str, size: int) -> None:
    found = rollout.sample(sorted(names), change, size)
    assert found == rollout.sample(sorted(names, reverse=True), change, size)
    assert found <= names
    assert len(found) == min(size, len(names))


def test_another_change_looks_at_other_models() -> None:
    assert _sample(("m000",)) != _sample(("m001",))
