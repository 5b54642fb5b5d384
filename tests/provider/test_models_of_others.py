"""A model config file that names models, or whose services serve versions, that the stack does not know."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from provider.rollout import run
from provider.served_config import ServedConfig
from tests.provider.following import World, follow, inputs
from tfserving import served
from tfserving.contract.serving import ServedConfigInputs, ServedConfigOutputs
from tfserving.model_config import Model, ModelServerConfig, VersionPolicy

SHOES = Model("shoes", "/models/shoes", policy=VersionPolicy.specific((2, 3)), labels={"stable": 2})
OURS = ModelServerConfig((SHOES,))
POLICIES = [
    VersionPolicy.latest(1),
    VersionPolicy.latest(2),
    VersionPolicy.all(),
    VersionPolicy.specific((1, 3)),
    VersionPolicy.specific((3, 9)),
]


def with_bags(policy: VersionPolicy, **changes: Any) -> ModelServerConfig:
    return ModelServerConfig((SHOES, Model("bags", "/models/bags", policy=policy, **changes)))


def roll(world: World, is_new: bool) -> None:
    """The first rollout after an adoption, or a later one."""
    resource, wanted = ServedConfig(), inputs(OURS)
    if is_new:
        resource.create(world.ctx(), wanted)
        return
    found = resource.read(world.ctx(), "id", wanted, wanted)
    assert found is not None
    resource.update(world.ctx(), "id", wanted, found.outputs, wanted)


@pytest.mark.parametrize("is_new", [True, False], ids=["adopted", "edited by hand"])
@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_a_model_in_the_file_that_is_not_of_the_stack_leaves_it_at_once(
    monkeypatch: pytest.MonkeyPatch, policy: VersionPolicy, is_new: bool
) -> None:
    world = follow(World(with_bags(policy), disk={"bags": (1, 2, 3)}), monkeypatch)
    roll(world, is_new)
    assert world.file == world.in_force == OURS
    assert not any("what is served" in line for line in world.told), "the services follow the file"


@pytest.mark.parametrize("is_new", [True, False], ids=["adopted", "edited by hand"])
@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_a_file_that_services_do_not_follow_is_brought_into_line_with_such_a_model(
    monkeypatch: pytest.MonkeyPatch, policy: VersionPolicy, is_new: bool
) -> None:
    monkeypatch.setattr(run, "_SETTLE_SECONDS", 0)
    there = with_bags(policy, labels={"gone": 8})
    world = follow(World(there, disk={"bags": (1, 2, 3)}), monkeypatch)
    roll(world, is_new)
    assert world.file == world.in_force == OURS
    assert any("brought into line" in line for line in world.told)


@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_a_version_that_is_served_and_not_of_the_stack_goes(
    monkeypatch: pytest.MonkeyPatch, policy: VersionPolicy
) -> None:
    there = ModelServerConfig((Model("shoes", "/models/shoes", policy=policy),))
    world = follow(World(there, disk={"shoes": (1, 2, 3)}), monkeypatch)
    roll(world, True)
    assert world.file == world.in_force == OURS
    assert not any("what is served" in line for line in world.told), "the services follow the file"


@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_a_preview_says_that_such_a_model_goes_and_not_that_its_directory_has(policy: VersionPolicy) -> None:
    wanted = ServedConfigInputs.read(inputs(OURS))
    planned = served.plan(wanted, None, ServedConfigOutputs.read({}), with_bags(policy))
    assert planned.changes == ("- bags",)
    assert planned.step_lines == ["step 1 of 1, narrow: bags is removed"]
    fewer = with_bags(policy).get("bags"), replace(SHOES, policy=VersionPolicy.specific((2,)))
    planned = served.plan(wanted, None, ServedConfigOutputs.read({}), ModelServerConfig(tuple(filter(None, fewer))))
    assert [line for line in planned.step_lines if "bags" in line] == ["step 2 of 2, narrow: bags is removed"]
