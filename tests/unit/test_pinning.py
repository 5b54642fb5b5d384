"""Pins: while files appear, a server that follows the config goes on serving exactly what it served."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfserving import pinning
from tfserving.model_config import Model, ModelServerConfig, VersionPolicy
from tfserving.pinning import Coming
from tfserving.rollout import plan, spelt_out

ALL = VersionPolicy.all()
versions = st.frozensets(st.integers(1, 8), max_size=5)
some_versions = st.frozensets(st.integers(1, 8), min_size=1, max_size=5)
policies = st.one_of(
    st.just(ALL), st.integers(1, 4).map(VersionPolicy.latest), some_versions.map(VersionPolicy.specific)
)


def model(policy: VersionPolicy, name: str = "titles", **labels: int) -> Model:
    return Model(name, f"/models/{name}", policy=policy, labels=labels)


def coming(visible: Iterable[int], new: Iterable[int]) -> Coming:
    return Coming(frozenset(visible), frozenset(new))


@given(policies, versions, versions)
def test_a_pinned_server_serves_the_same_whichever_of_the_files_it_sees(
    policy: VersionPolicy, visible: frozenset[int], new: frozenset[int]
) -> None:
    config = ModelServerConfig((model(policy),))
    (pinned,) = pinning.pinned(config, {"titles": coming(visible, new - visible)}).models
    before = policy.select(visible)
    if before:
        for seen in (visible, visible | new, visible | set(sorted(new)[:1])):
            assert set(before) <= set(pinned.policy.select(seen))
            assert pinned.policy.select(visible | new) == before


@given(policies, versions, versions)
def test_what_does_not_go_by_the_files_is_left_as_it_is(
    policy: VersionPolicy, visible: frozenset[int], new: frozenset[int]
) -> None:
    config = ModelServerConfig((model(policy),))
    each = coming(visible, new - visible)
    if policy.select(visible) == policy.select(each.after):
        assert pinning.pinned(config, {"titles": each}) == config
    assert pinning.pinned(config, {}) == config


@given(policies, policies, some_versions, versions)
def test_the_rollout_after_a_pin_never_drops_what_is_wanted_before_the_rest_is_there(
    old: VersionPolicy, wanted: VersionPolicy, visible: frozenset[int], new: frozenset[int]
) -> None:
    each = coming(visible, new - visible)
    pinned = pinning.pinned(ModelServerConfig((model(old),)), {"titles": each})
    target = ModelServerConfig((model(wanted),))
    end = set(wanted.select(each.after))
    named = {*wanted.versions, *old.versions}
    if not end or not old.select(visible) or not named <= each.after:
        return  # refused, or nothing is served
    kept = set(old.select(visible)) & end
    for step in plan(pinned, target, {"titles": each.after}, {"titles": each.after}):
        found = step.config.get("titles")
        assert found is not None
        assert kept <= set(found.policy.select(each.after))


@pytest.mark.parametrize(
    ("in_force", "wanted", "visible", "new", "harmed"),
    [
        (VersionPolicy.latest(1), VersionPolicy.latest(1), {1}, {2}, False),
        (VersionPolicy.latest(1), VersionPolicy.specific({1, 2}), {1}, {2}, True),
        (VersionPolicy.latest(1), VersionPolicy.latest(2), {1}, {2}, True),
        (VersionPolicy.latest(2), VersionPolicy.specific({1}), {1}, {2}, True),
        (ALL, ALL, {1}, {2}, False),
        (ALL, VersionPolicy.specific({1}), {1}, {2}, True),
        (VersionPolicy.specific({1}), VersionPolicy.specific({1, 2}), {1}, {2}, False),
        (VersionPolicy.latest(1), VersionPolicy.specific({1, 2}), {2}, {1}, False),
    ],
)
def test_a_server_that_keeps_its_policy_needs_a_restart_only_where_it_would_serve_what_is_wrong(
    in_force: VersionPolicy, wanted: VersionPolicy, visible: set[int], new: set[int], harmed: bool
) -> None:
    assert pinning.harms(model(in_force), model(wanted), coming(visible, new)) is harmed


def test_a_model_that_is_not_served_there_harms_nobody() -> None:
    assert pinning.harms(None, model(ALL), coming({1}, {2})) is False


def test_the_label_of_a_pin_names_a_served_version_and_is_another_one_for_another_pin() -> None:
    first = ModelServerConfig((model(VersionPolicy.specific({1, 3}), stable=1),))
    found = pinning.proof(first, [{"titles": (1, 3)}, {"titles": (1, 3)}])
    assert found is not None
    assert (found.model, found.version) == ("titles", 3)
    (marked,) = found.config.models
    assert dict(marked.labels) == {"stable": 1, found.label: 3}
    assert pinning.is_label(found.label)
    assert pinning.without_labels(found.config) == first
    other = pinning.proof(ModelServerConfig((model(VersionPolicy.specific({1}), stable=1),)), [{"titles": (1,)}])
    assert other is not None
    assert other.label != found.label
    assert not any(map(pinning.is_label, ("stable", "pin", "pinned_1", "pin_xyz")))


def test_the_label_of_a_pin_names_only_what_every_service_has_loaded() -> None:
    config = ModelServerConfig((model(VersionPolicy.specific({1, 2})), model(ALL, "other")))
    found = pinning.proof(config, [{"titles": (1, 2)}, {"titles": (1,)}])
    assert found is not None
    assert (found.model, found.version) == ("titles", 1)
    found = pinning.proof(config, [{"titles": (1,), "other": (4, 5)}, {"titles": (), "other": (5, 6)}])
    assert found is not None
    assert (found.model, found.version) == ("other", 5)


@pytest.mark.parametrize("available", [[], [{}], [{"titles": ()}], [{"titles": (1,)}, {"titles": (2,)}]])
def test_without_a_version_that_all_have_loaded_a_label_proves_nothing(available: list[dict[str, tuple[int]]]) -> None:
    assert pinning.proof(ModelServerConfig((model(ALL),)), available) is None


def test_lines_say_what_is_kept_and_which_requests_move() -> None:
    before = ModelServerConfig((model(VersionPolicy.latest(1)), model(ALL, "other")))
    after = pinning.pinned(before, {"titles": coming({1}, {2})})
    told = "pin: titles keeps serving 1 (policy latest 1 -> specific [1]); files appear once every service follows"
    assert pinning.announcement(before, after) == told
    assert pinning.announcement(after, after) == ""
    assert pinning.unlabelled({"a": (1,), "b": (1, 2), "c": (), "d": (3,)}, {"a": (1, 2), "b": (1,), "c": (1,)}) == [
        "a: requests without a label: version 1 -> 2 once it is loaded",
        "b: requests without a label: version 2 -> 1 once version 2 is gone",
    ]


def test_pods_whose_config_is_part_of_them_are_told_their_versions() -> None:
    config = ModelServerConfig((model(VersionPolicy.latest(2)), model(ALL, "new")))
    new, titles = spelt_out(config, {"titles": (1, 2, 3)}).models
    assert titles.policy == VersionPolicy.specific({2, 3})
    assert new.policy == ALL
