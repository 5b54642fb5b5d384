"""Rollout plans, executed against a model of TensorFlow Serving that refuses, loads and unloads as the real one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tfserving.errors import RolloutError
from tfserving.model_config import Model, ModelServerConfig, VersionPolicy, validate
from tfserving.rollout import (
    Step,
    observed,
    pin_labelled,
    plan,
    replacement,
    served_models_rollout_summary,
    with_gate,
)

Disk = Mapping[str, tuple[int, ...]]


class RefusedError(Exception):
    """The server refuses a config. It stays with the one before."""


@dataclass
class Server:
    """How TensorFlow Serving takes up configs, written from its source and not from the planner.

    ``server_core.cc`` for checks and their order, ``availability_preserving_policy.cc`` for what is loaded first.
    """

    disk: Disk
    flag: bool
    config: ModelServerConfig = field(default_factory=ModelServerConfig)
    labels: dict[tuple[str, str], int] = field(default_factory=dict)
    loaded: dict[str, set[int]] = field(default_factory=dict)

    @classmethod
    def serving(cls, config: ModelServerConfig, disk: Disk, flag: bool) -> Server:
        """A server that has long taken up ``config``."""
        server = cls(disk, flag, config)
        server.labels = {
            (model.name, label): number for model in config.models for label, number in model.labels.items()
        }
        server.loaded = {model.name: set(server.aspired(model.name)) for model in config.models}
        return server

    def aspired(self, name: str) -> tuple[int, ...]:
        model = self.config.get(name)
        return model.policy.select(self.disk.get(name, ())) if model else ()

    def reload(self, config: ModelServerConfig) -> None:
        for model in config.models:
            known = self.config.get(model.name)
            if known and known.platform != model.platform:
                raise RefusedError(f"Illegal to change a model's platform: {model.name}")
        labels = {(model.name, label): number for model in config.models for label, number in model.labels.items()}
        for (name, label), number in labels.items():
            moved = self.labels.get((name, label), number) != number
            if (moved or not self.flag) and number not in self.loaded.get(name, ()):
                raise RefusedError(f"label {label} to version {number} of model {name}, which is not available")
        for model in config.models:
            if self.config.get(model.name) is None and not model.policy.select(self.disk.get(model.name, ())):
                raise AssertionError(f"the server waits for ever for a first version of {model.name}")
        self.labels, self.config = labels, config

    def tick(self) -> bool:
        """One load or unload; False when there is nothing left to do."""
        for name in sorted({*self.loaded, *self.config.names}):
            loaded, aspired = self.loaded.setdefault(name, set()), set(self.aspired(name))
            extra = sorted(loaded - aspired)
            if extra and (loaded & aspired or not aspired):
                loaded.remove(extra[0])
                return True
        for name in self.config.names:
            missing = sorted(set(self.aspired(name)) - self.loaded[name])
            if missing:
                self.loaded[name].add(missing[-1])
                return True
        return False

    def answers(self, name: str, label: str) -> int | None:
        number = self.labels.get((name, label))
        return number if number is not None and number in self.loaded.get(name, ()) else None


class Client:
    """Sends, at every moment, each request that both the config before and the wanted one answer."""

    def __init__(self, before: ModelServerConfig, wanted: ModelServerConfig, disk: Disk) -> None:
        self.labels: list[tuple[str, str, set[int]]] = []
        self.versions: list[tuple[str, int]] = []
        self.models: list[str] = []
        for old in before.models:
            new = wanted.get(old.name)
            was = old.policy.select(disk.get(old.name, ()))
            if new is None or not was:
                continue
            self.models.append(old.name)
            self.versions += [(old.name, number) for number in was if number in new.policy.select(disk[old.name])]
            self.labels += [
                (old.name, label, {number, new.labels[label]})
                for label, number in old.labels.items()
                if label in new.labels and number in was
            ]

    def ask(self, server: Server) -> None:
        for name in self.models:
            assert server.loaded[name], f"nothing answers {name}"
        for name, number in self.versions:
            assert number in server.loaded[name], f"nothing answers {name} version {number}"
        for name, label, allowed in self.labels:
            assert server.answers(name, label) in allowed, f"nothing answers {name} label {label}"


def available(server: Server, wanted: Mapping[str, Iterable[int]]) -> bool:
    return all(set(numbers) <= server.loaded.get(name, set()) for name, numbers in wanted.items())


def execute(steps: list[Step], server: Server, client: Client, stop_after: int | None = None) -> int:
    """Take the steps as a deployment does, asking after every event; returns the number of writes.

    With ``stop_after``, the run is killed after that many events; the server goes on by itself.
    """
    events = 0

    def settle(done: Any) -> bool:
        nonlocal events
        while not done():
            if stop_after is not None and events >= stop_after:
                return False
            assert server.tick(), "waits for what never comes"
            events += 1
            client.ask(server)
        return True

    for count, step in enumerate(steps):
        if not settle(lambda step=step: available(server, step.needs_available)):
            return count
        if stop_after is not None and events >= stop_after:
            return count
        server.reload(step.config)
        events += 1
        client.ask(server)
        for name, numbers in step.wait_available.items():
            assert set(numbers) <= set(server.aspired(name)), "waits for versions the config does not serve"
        if not settle(lambda step=step: available(server, step.wait_available)):
            return count + 1
        for name, labels in step.wait_labels.items():
            assert {label: server.answers(name, label) for label in labels} == dict(labels)
        for name, gone in step.wait_labels_gone.items():
            assert all(server.answers(name, label) is None for label in gone)
        if not settle(lambda step=step: nothing_of(server, step.wait_gone)):
            return count + 1
    return len(steps)


def nothing_of(server: Server, gone: Disk) -> bool:
    return all(not (set(numbers or server.loaded[name]) & server.loaded[name]) for name, numbers in gone.items())


def settled(server: Server, client: Client) -> None:
    while server.tick():
        client.ask(server)


def assert_serves(server: Server, wanted: ModelServerConfig) -> None:
    assert server.config == wanted
    for model in wanted.models:
        assert server.loaded[model.name] == set(model.policy.select(server.disk[model.name]))
        assert {label: server.answers(model.name, label) for label in model.labels} == dict(model.labels)
    assert all(not versions for name, versions in server.loaded.items() if wanted.get(name) is None)


# ---- what hypothesis draws

NAMES = ("a", "b", "c")
LABELS = ("canary", "stable")

policies = st.one_of(
    st.builds(VersionPolicy.latest, st.integers(1, 4)),
    st.just(VersionPolicy.all()),
    st.builds(VersionPolicy.specific, st.sets(st.integers(1, 5), min_size=1)),
)
disks = st.fixed_dictionaries({name: st.sets(st.integers(1, 5), min_size=1).map(sorted).map(tuple) for name in NAMES})


@st.composite
def serving_configs(draw: st.DrawFn, disk: Disk, broken: bool = False) -> ModelServerConfig:
    """A config that serves something of each model; with ``broken``, its labels may name what is not served."""
    models = []
    for name in draw(st.sets(st.sampled_from(NAMES), min_size=1)):
        policy = draw(policies)
        served = policy.select(disk[name])
        if policy.kind == "specific":
            policy = VersionPolicy.specific(served)
        if not served:
            continue
        targets = st.integers(1, 6) if broken else st.sampled_from(served)
        labels = draw(st.dictionaries(st.sampled_from(LABELS), targets))
        models.append(Model(name, f"/models/{name}", policy=policy, labels=labels))
    return ModelServerConfig(tuple(models))


@st.composite
def rollouts(draw: st.DrawFn, broken: bool = False) -> tuple[ModelServerConfig, ModelServerConfig, Disk]:
    disk = draw(disks)
    served, wanted = draw(serving_configs(disk, broken)), draw(serving_configs(disk))
    assume(wanted.models)
    assert validate(wanted, disk) == []
    return served, wanted, disk


# ---- for every rollout


@settings(max_examples=300)
@given(rollouts(), st.booleans(), st.booleans())
def test_no_write_is_refused_and_no_request_unanswered(
    case: tuple[ModelServerConfig, ModelServerConfig, Disk], flag: bool, knows_disk: bool
) -> None:
    served, wanted, disk = case
    server, client = Server.serving(served, disk, flag), Client(served, wanted, disk)
    execute(plan(served, wanted, disk, disk if knows_disk else None), server, client)
    assert_serves(server, wanted)


@settings(max_examples=200)
@given(rollouts(broken=True), st.booleans())
def test_labels_that_nothing_answers_are_repaired(
    case: tuple[ModelServerConfig, ModelServerConfig, Disk], flag: bool
) -> None:
    served, wanted, disk = case
    server, client = Server.serving(served, disk, flag), Client(served, wanted, disk)
    execute(plan(served, wanted, disk, disk), server, client)
    assert_serves(server, wanted)


@settings(max_examples=200)
@given(rollouts(), st.booleans(), st.integers(0, 12))
def test_a_killed_run_is_taken_up_and_ends_at_what_is_wanted(
    case: tuple[ModelServerConfig, ModelServerConfig, Disk], flag: bool, stop_after: int
) -> None:
    served, wanted, disk = case
    server, client = Server.serving(served, disk, flag), Client(served, wanted, disk)
    steps = plan(served, wanted, disk, disk)
    written = execute(steps, server, client, stop_after)
    rest = plan(server.config, wanted, disk, disk)
    assert len(rest) == len(steps) - written
    execute(rest, server, client)
    settled(server, client)
    assert_serves(server, wanted)


@given(rollouts(), st.booleans())
def test_a_second_server_that_reads_the_file_late_refuses_nothing(
    case: tuple[ModelServerConfig, ModelServerConfig, Disk], flag: bool
) -> None:
    served, wanted, disk = case
    late, client = Server.serving(served, disk, flag), Client(served, wanted, disk)
    file = served
    for step in plan(served, wanted, disk, disk):
        # It polls the file as it is; the write waits until it has what the write needs.
        late.reload(file)
        while not available(late, step.needs_available):
            assert late.tick(), "waits for what never comes"
            client.ask(late)
        file = step.config
    late.reload(file)
    settled(late, client)
    assert_serves(late, wanted)


@given(rollouts(broken=True))
def test_steps_already_done_are_not_planned_again(case: tuple[ModelServerConfig, ModelServerConfig, Disk]) -> None:
    served, wanted, disk = case
    steps = plan(served, wanted, disk, disk)
    for number, step in enumerate(steps):
        assert plan(step.config, wanted, disk, disk) == steps[number + 1 :]


@given(rollouts())
def test_every_step_changes_something_and_the_last_says_what_is_wanted(
    case: tuple[ModelServerConfig, ModelServerConfig, Disk],
) -> None:
    served, wanted, disk = case
    steps = plan(served, wanted, disk)
    configs = [served, *(step.config for step in steps)]
    assert all(before != after for before, after in pairwise(configs))
    assert configs[-1] == wanted
    assert (steps == []) == (served == wanted)
    assert [step.kind for step in steps] == sorted({step.kind for step in steps}, key=["widen", "move", "narrow"].index)
    assert all(step.summary for step in steps)


@given(rollouts())
def test_moving_labels_between_served_versions_is_one_write(
    case: tuple[ModelServerConfig, ModelServerConfig, Disk],
) -> None:
    served, wanted, disk = case
    target = ModelServerConfig(
        tuple(
            replace(model, labels=new.labels)
            if (new := wanted.get(model.name))
            and set(new.labels.values()) <= set(model.policy.select(disk[model.name]))
            else model
            for model in served.models
        )
    )
    assume(target != served)
    (step,) = plan(served, target, disk)
    assert (step.kind, step.config) == ("move", target)


@given(rollouts())
def test_the_first_deployment_adds_labels_once_versions_are_available(
    case: tuple[ModelServerConfig, ModelServerConfig, Disk],
) -> None:
    _, wanted, disk = case
    steps = plan(None, wanted, disk)
    server = Server(disk, flag=False)
    execute(steps, server, Client(ModelServerConfig(), wanted, disk))
    assert_serves(server, wanted)
    assert len(steps) == 1 + any(model.labels for model in wanted.models)


def test_one_write_would_have_been_refused_for_ever() -> None:
    # The oracle itself: what the planner is for.
    disk = {"b": (1, 2)}
    served, wanted = config(specific=[1], stable=1), config(specific=[1, 2], stable=2)
    for flag in (True, False):
        server = Server.serving(served, disk, flag)
        with pytest.raises(RefusedError, match="label stable to version 2"):
            server.reload(wanted)
        assert not server.tick()


# ---- examples


def config(
    name: str = "b", *, policy: VersionPolicy | None = None, specific: list[int] | None = None, **labels: int
) -> Any:
    chosen = policy or VersionPolicy.specific(specific or [1])
    return ModelServerConfig((Model(name, f"/models/{name}", policy=chosen, labels=labels),))


def both(*configs: ModelServerConfig) -> ModelServerConfig:
    return ModelServerConfig(tuple(model for one in configs for model in one.models))


def told(steps: list[Step]) -> list[str]:
    return served_models_rollout_summary(steps)


def test_promoting_to_a_new_version_takes_three_steps() -> None:
    served, wanted = config(specific=[1], stable=1), config(specific=[2], stable=2)
    steps = plan(served, wanted, {"b": [1, 2]})
    assert told(steps) == [
        "step 1 of 3, widen: b serves 1, 2; wait until 2 is AVAILABLE",
        "step 2 of 3, move: b: label stable 1 -> 2",
        "step 3 of 3, narrow: b serves 2; wait until 1 is gone",
    ]
    widen, move, narrow = steps
    assert widen.config == config(specific=[1, 2], stable=1)
    assert (widen.needs_available, widen.wait_available) == ({}, {"b": (2,)})
    assert move.config == config(specific=[1, 2], stable=2)
    assert (move.needs_available, move.wait_labels) == ({"b": (2,)}, {"b": {"stable": 2}})
    assert narrow.config == wanted
    assert (narrow.needs_available, narrow.wait_gone) == ({"b": (2,)}, {"b": (1,)})


def test_a_promotion_that_keeps_the_old_version_has_no_narrow_step() -> None:
    wanted = config(specific=[1, 2], stable=2, canary=2)
    assert told(plan(config(specific=[1], stable=1), wanted, {"b": [1, 2]})) == [
        "step 1 of 2, widen: b serves 1, 2; wait until 2 is AVAILABLE",
        "step 2 of 2, move: b: + label canary 2; b: label stable 1 -> 2",
    ]


def test_several_versions_are_dropped_in_one_write() -> None:
    assert told(plan(config(specific=[1, 2, 3]), config(specific=[3]), {"b": [1, 2, 3]})) == [
        "step 1 of 1, narrow: b serves 3; wait until 1, 2 are gone"
    ]


def test_swapping_two_labels_is_one_write() -> None:
    (step,) = plan(config(specific=[1, 2], a=1, b=2), config(specific=[1, 2], a=2, b=1), {"b": [1, 2]})
    assert step.summary == ("b: label a 1 -> 2", "b: label b 2 -> 1")
    assert step.wait_labels == {"b": {"a": 2, "b": 1}}


def test_a_label_that_nothing_answers_is_moved_in_one_write() -> None:
    served = config(specific=[1, 2], stable=9)
    (step,) = plan(served, config(specific=[1, 2], stable=2), {"b": [1, 2]}, {"b": [1, 2]})
    assert step.summary == ("b: label stable 9 -> 2",)


def test_a_label_that_nothing_answers_is_taken_off_while_versions_load() -> None:
    served = config(specific=[1], stable=9)
    steps = plan(served, config(specific=[1, 2], stable=2), {"b": [1, 2]}, {"b": [1, 2]})
    assert told(steps) == [
        "step 1 of 2, widen: b serves 1, 2; label stable, which nothing answers, removed; wait until 2 is AVAILABLE",
        "step 2 of 2, move: b: + label stable 2",
    ]


def test_only_published_versions_are_waited_for() -> None:
    # Version 3 is on disk and served under `all`, but its files are about to go.
    (step,) = plan(config(specific=[1]), config(policy=VersionPolicy.all()), {"b": [1, 2]}, {"b": [1, 2, 3]})
    assert step.wait_available == {"b": (1, 2)}


def test_taking_one_label_off_is_one_write_that_waits_for_it_to_stop_answering() -> None:
    (step,) = plan(config(specific=[1, 2], a=1, b=2), config(specific=[1, 2], a=1), {"b": [1, 2]})
    assert (step.kind, step.summary) == ("move", ("b: - label b (was 2)",))
    assert (step.wait_labels, step.wait_labels_gone) == ({"b": {"a": 1}}, {"b": ("b",)})


def test_dropping_a_version_and_its_label_moves_first() -> None:
    steps = plan(config(specific=[1, 2], stable=1, canary=2), config(specific=[1], stable=1), {"b": [1, 2]})
    assert told(steps) == [
        "step 1 of 2, move: b: - label canary (was 2)",
        "step 2 of 2, narrow: b serves 1; wait until 2 is gone",
    ]


def test_a_label_moved_to_a_version_that_is_dropped_is_refused() -> None:
    with pytest.raises(RolloutError, match=r"models\.b\.labels\.stable: label stable names version 2"):
        plan(config(specific=[1, 2], stable=1), config(specific=[1], stable=2), {"b": [1, 2]})


def test_models_are_added_without_labels_and_removed_last() -> None:
    served, wanted = config("old", specific=[3], stable=3), config("new", policy=VersionPolicy.latest(2), stable=1)
    steps = plan(served, wanted, {"new": [1, 2]})
    assert told(steps) == [
        "step 1 of 3, widen: new serves 1, 2; wait until 1, 2 are AVAILABLE",
        "step 2 of 3, move: new: + label stable 1",
        "step 3 of 3, narrow: old is removed",
    ]
    assert steps[0].config == both(served, config("new", policy=VersionPolicy.latest(2)))
    assert steps[2].wait_gone == {"old": (3,)}


def test_a_removed_model_of_unknown_versions_waits_for_all_of_them() -> None:
    served = both(config("old", policy=VersionPolicy.all()), config())
    (step,) = plan(served, config(), {"b": [1]})
    assert step.wait_gone == {"old": ()}
    server = Server.serving(served, {"old": (1, 2), "b": (1,)}, flag=True)
    execute([step], server, Client(served, config(), server.disk))
    assert server.loaded["old"] == set()


def test_a_removed_model_whose_directory_is_gone_is_left_out_at_once() -> None:
    served = both(config("old"), config(specific=[1]))
    first = plan(served, config(specific=[2]), {"b": [2]}, on_disk={"old": [], "b": [1, 2]})[0]
    assert first.config == config(specific=[1, 2])
    assert first.summary == ("b serves 1, 2; wait until 2 is AVAILABLE", "old is removed: its directory is gone")


def test_versions_whose_files_go_later_keep_answering_until_labels_moved() -> None:
    # Version 1 is no longer published; its files are removed after the rollout.
    served, wanted = config(specific=[1, 2], stable=1), config(specific=[2, 3], stable=2)
    for on_disk in (None, {"b": [1, 2, 3]}):
        steps = plan(served, wanted, {"b": [2, 3]}, on_disk)
        assert steps[0].config == config(specific=[1, 2, 3], stable=1)
        assert steps[0].wait_available == {"b": (2, 3)}
        server = Server.serving(served, {"b": (1, 2, 3)}, flag=True)
        execute(steps, server, Client(served, wanted, server.disk))
        assert_serves(server, wanted)


def test_a_policy_that_selects_the_same_versions_is_one_write_without_waiting() -> None:
    (step,) = plan(config(specific=[1, 2], stable=1), config(policy=VersionPolicy.all(), stable=1), {"b": [1, 2]})
    assert (step.kind, step.wait_gone) == ("narrow", {})
    assert step.summary == ("b: policy specific [1, 2] -> all, which serves the same versions now",)


def test_latest_and_all_are_used_where_they_drop_nothing() -> None:
    served = config(specific=[1, 2])
    (widen,) = plan(served, config(policy=VersionPolicy.latest(3)), {"b": [1, 2, 3]})
    assert widen.config == config(policy=VersionPolicy.latest(3))
    widen, _ = plan(served, config(policy=VersionPolicy.latest(1)), {"b": [1, 2, 3]})
    assert widen.config == config(specific=[1, 2, 3])


def test_a_model_that_does_not_change_is_written_as_it_was() -> None:
    other = config("z", policy=VersionPolicy.latest(2), stable=1)
    steps = plan(both(config(), other), both(config(specific=[2]), other), {"b": [1, 2], "z": [1, 2]})
    assert [step.config.get("z") for step in steps] == [other.models[0]] * 2
    assert all("z" not in {**step.wait_available, **step.wait_gone, **step.needs_available} for step in steps)


@pytest.mark.parametrize(
    ("wanted", "published", "said"),
    [
        (config("new"), {"new": []}, "model new has no published version"),
        (config("new"), {}, "model new has no published version"),
        (config(specific=[1, 7]), {"b": [1]}, "version 7 of model b is not published"),
        (ModelServerConfig(), {"b": [1]}, "no model is declared"),
        (ModelServerConfig((Model("b", "/models/b", ""),)), {"b": [1]}, "platform '' is not supported"),
    ],
)
def test_what_would_hang_or_empty_the_server_is_refused(wanted: Any, published: Any, said: str) -> None:
    with pytest.raises(RolloutError, match=r"^this change cannot be rolled out") as caught:
        plan(config(specific=[1]), wanted, published)
    assert said in str(caught.value)


def test_a_platform_cannot_change_in_place() -> None:
    served = ModelServerConfig((Model("b", "/models/b", "tensorflow_lite"),))
    with pytest.raises(RolloutError, match=r"platform of a served model cannot change") as caught:
        plan(served, config(specific=[1]), {"b": [1]})
    assert "remove the model in one update and add it in the next" in str(caught.value)


def moved_to(path: str, *versions: int, **labels: int) -> ModelServerConfig:
    return ModelServerConfig((Model("b", path, policy=VersionPolicy.specific(versions), labels=labels),))


def test_a_directory_cannot_change_under_the_same_version_number() -> None:
    with pytest.raises(RolloutError, match="publish under new version numbers, or remove the model") as caught:
        plan(moved_to("/old", 1, 2), moved_to("/new", 2, 3), {"b": [2, 3]})
    assert "b: base path /old -> /new" in str(caught.value)
    latest = ModelServerConfig((Model("b", "/old"),))
    with pytest.raises(RolloutError, match="what it serves of 2; remove the model in one update"):
        plan(latest, moved_to("/new", 2), {"b": [2]})


def test_a_directory_cannot_change_under_a_label() -> None:
    with pytest.raises(RolloutError, match="nothing would answer labels stable between the two directories"):
        plan(moved_to("/old", 1, stable=1), moved_to("/new", 2, stable=2), {"b": [2]})


def test_a_directory_with_new_version_numbers_is_one_write() -> None:
    (step,) = plan(moved_to("/old", 1), moved_to("/new", 2), {"b": [2]})
    assert step.config == moved_to("/new", 2)
    assert step.summary == ("b serves 2 from /new; wait until 2 is AVAILABLE",)
    assert (step.wait_available, step.wait_gone) == ({"b": (2,)}, {"b": (1,)})


def test_a_label_that_a_leftover_version_would_push_out_is_refused() -> None:
    # Version 9 leaves the stack, but its files are still there when the config is written.
    wanted = config(policy=VersionPolicy.latest(1), stable=8)
    with pytest.raises(
        RolloutError, match=r"while versions 8, 9 are on disk. Name the versions to serve: {specific: \[8, 9\]}"
    ):
        plan(config(specific=[8, 9], stable=9), wanted, {"b": [8]}, {"b": [8, 9]})
    steps = plan(config(specific=[8, 9], stable=9), pin_labelled(wanted, {"b": [8]}), {"b": [8]}, {"b": [8, 9]})
    assert [step.kind for step in steps] == ["move", "narrow"]


def test_every_reason_is_told() -> None:
    served = both(config("a", specific=[1]), moved_to("/old", 1))
    wanted = both(
        ModelServerConfig((Model("a", "/models/a2", policy=VersionPolicy.specific([1])),)), moved_to("/new", 1)
    )
    with pytest.raises(RolloutError) as caught:
        plan(served, wanted, {"a": [1], "b": [1]})
    assert [line[:5] for line in str(caught.value).splitlines()[1:]] == ["  - a", "  - b"]


# ---- what else the planner offers


def test_labelled_models_do_not_depend_on_what_is_published_next() -> None:
    declared = both(config(policy=VersionPolicy.latest(2), stable=1), config("c", policy=VersionPolicy.latest(2)))
    pinned = pin_labelled(declared, {"b": [1, 2], "c": [1, 2]})
    assert pinned == both(config(specific=[1, 2], stable=1), config("c", policy=VersionPolicy.latest(2)))
    server = Server.serving(pinned, {"b": (1, 2, 3), "c": (1, 2, 3)}, flag=True)
    server.tick()
    assert server.answers("b", "stable") == 1
    loses = Server.serving(declared, {"b": (1, 2), "c": (1, 2)}, flag=True)
    loses.disk = server.disk
    while loses.tick():
        pass
    assert loses.answers("b", "stable") is None


def test_a_file_the_server_never_took_up_is_planned_from_what_it_serves() -> None:
    # Someone wrote label and policy in one go; the server refuses the file for ever.
    refused = config(specific=[2], stable=2)
    disk = {"b": (1, 2)}
    server = Server.serving(config(specific=[1], stable=1), disk, flag=True)
    with pytest.raises(RefusedError):
        server.reload(refused)
    in_force = observed(refused, {"b": [1]}, {"b": {"stable": 1}}, disk)
    assert in_force == config(specific=[1], stable=1)
    execute(plan(in_force, refused, disk), server, Client(in_force, refused, disk))
    assert_serves(server, refused)


def test_a_service_that_answers_as_its_file_says_is_described_by_the_file() -> None:
    file = both(config(policy=VersionPolicy.latest(2), stable=1), config("new"))
    in_force = observed(file, {"b": [2, 1]}, {"b": {"stable": 1}}, {"b": [1, 2], "new": [1]})
    assert in_force == config(policy=VersionPolicy.latest(2), stable=1)
    assert observed(file, {"b": [1, 2]}, {}, {"b": [1, 2]}) == config(policy=VersionPolicy.latest(2))


def test_a_service_that_is_restarted_gets_everything_in_one_write() -> None:
    wanted = both(config(policy=VersionPolicy.latest(2), stable=2), config("c"))
    step = replacement(wanted, {"b": [1, 2, 3], "c": [1]})
    assert (step.kind, step.config) == ("replace", wanted)
    assert step.wait_available == {"b": (2, 3), "c": (1,)}
    assert step.wait_labels == {"b": {"stable": 2}}
    assert step.summary == ("b serves 2, 3", "c serves 1")
    with pytest.raises(RolloutError, match="this config cannot be served"):
        replacement(wanted, {"b": [1]})


def test_a_gate_stands_after_what_is_loaded_and_before_anything_moves_or_goes() -> None:
    disk = {"m": (1, 2)}
    one, two = (
        ModelServerConfig(
            (Model("m", "/models/m", policy=VersionPolicy.specific([number]), labels={"stable": number}),)
        )
        for number in (1, 2)
    )
    steps = with_gate(plan(one, two, disk, disk), one, {"m": (1, 2)}, ["m version 2"])
    assert [step.kind for step in steps] == ["widen", "gate", "move", "narrow"]
    assert (steps[1].config, steps[1].needs_available) == (steps[0].config, {"m": (1, 2)})
    assert served_models_rollout_summary(steps)[1] == "step 2 of 4, gate: m version 2"
    moved = replace(one.models[0], policy=VersionPolicy.all(), labels={"stable": 2})
    served = ModelServerConfig((replace(one.models[0], policy=VersionPolicy.all()),))
    steps = with_gate(plan(served, ModelServerConfig((moved,)), disk, disk), served, {"m": (2,)}, ["m version 2"])
    assert (steps[0].kind, steps[0].config) == ("gate", served)
    assert with_gate(plan(one, two, disk, disk), one, {}, []) == plan(one, two, disk, disk)
    assert [step.kind for step in with_gate([], one, {"m": (1,)}, ["m"])] == ["gate"]


def test_a_step_of_many_models_says_the_first_ones_and_how_many_more() -> None:
    names = [f"m{number:03}" for number in range(40)]
    both = VersionPolicy.specific((1, 2))
    before, after = (
        ModelServerConfig(tuple(Model(name, f"/models/{name}", policy=both, labels={"stable": to}) for name in names))
        for to in (1, 2)
    )
    [step] = plan(before, after, dict.fromkeys(names, (1, 2)))
    assert step.said.count("label stable 1 -> 2") == 12
    assert step.said.endswith("; and 28 more")
