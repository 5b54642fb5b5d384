"""Names of model sets: stable, readable, never the same for two sets."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfserving.model_config import MODEL_NAME, Model, ModelServerConfig, VersionPolicy
from tfserving.model_sets import Choice, chosen, config_map_name, file_name, part_of

MODELS = ("modelA", "modelB", "modelC")
CANARY = Choice(policy=VersionPolicy.specific([2]), labels={"stable": 2})

names = st.from_regex(re.compile(r"[A-Za-z0-9_.-]{1,12}"), fullmatch=True)
name_sets = st.frozensets(names, min_size=1, max_size=6)


def test_services_without_a_choice_read_the_file_they_always_read() -> None:
    assert file_name(part_of("vision", {}, MODELS)) == "model_config.pbtxt"


def test_naming_all_models_is_no_choice() -> None:
    assert part_of("vision", {name: Choice() for name in reversed(MODELS)}, MODELS) == ""


def test_a_shared_file_is_named_after_its_models_in_whatever_order_they_are_listed() -> None:
    parts = {part_of(service, dict.fromkeys(order, Choice()), MODELS)
             for service in ("one", "two") for order in (("modelB", "modelA"), ("modelA", "modelB"))}  # fmt: skip
    assert [file_name(part) for part in parts] == ["model_config.models.modelA-modelB.pbtxt"]


def test_a_choice_of_versions_or_labels_has_a_file_named_after_the_service() -> None:
    choices = {"modelA": Choice(), "modelB": CANARY}
    assert file_name(part_of("vision_canary", choices, MODELS)) == "model_config.vision_canary.pbtxt"
    assert part_of("vision_stable", choices, MODELS) == "vision_stable", "equal choices of two services stay apart"
    assert part_of("everything", {**dict.fromkeys(MODELS, Choice()), "modelB": CANARY}, MODELS) == "everything"


@given(name_sets, name_sets)
def test_two_sets_never_have_one_file_or_one_config_map(first: frozenset[str], second: frozenset[str]) -> None:
    parts = [part_of("vision", dict.fromkeys(each, Choice()), {*first, *second, "another"}) for each in (first, second)]
    assert (parts[0] == parts[1]) == (first == second)
    assert (config_map_name("c", parts[0]) == config_map_name("c", parts[1])) == (first == second)
    assert "vision" not in parts, "no shared file has the name of a service"


@given(name_sets)
def test_names_are_such_as_oss_the_start_command_and_kubernetes_take(models: frozenset[str]) -> None:
    part = part_of("vision", dict.fromkeys(models, Choice()), {*models, "another"})
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,200}", file_name(part))
    label = r"[a-z0-9]([a-z0-9-]*[a-z0-9])?"
    assert re.fullmatch(rf"{label}(\.{label})*", config_map_name("tf-serving-model-config", part))


def test_many_models_have_a_short_name_that_still_tells_them_apart() -> None:
    many = [f"model_{number:03}" for number in range(100)]
    one, other = (part_of("s", dict.fromkeys(each, Choice()), {*many, "x"}) for each in (many, many[:-1]))
    assert one.startswith("models.model_000-and-99-more-")
    assert len(one) < 60
    assert one != other


def test_names_that_differ_by_case_only_have_different_config_maps() -> None:
    assert config_map_name("c", "models.modelA") != config_map_name("c", "models.modela")


def test_what_is_chosen_replaces_what_is_declared_and_the_rest_is_left_out() -> None:
    declared = ModelServerConfig(
        tuple(Model(name, f"/models/{name}", policy=VersionPolicy.all(), labels={"stable": 1}) for name in MODELS)
    )
    found = chosen(declared, {"modelB": CANARY, "modelA": Choice(labels={})})
    assert found.names == ("modelA", "modelB")
    assert found.get("modelB") == Model("modelB", "/models/modelB", policy=CANARY.policy, labels={"stable": 2})
    assert found.get("modelA") == Model("modelA", "/models/modelA", policy=VersionPolicy.all(), labels={})
    assert chosen(declared, {}) == declared


@pytest.mark.parametrize("name", ["a.b", "a-b", "A"])
def test_examples_are_model_names(name: str) -> None:
    assert MODEL_NAME.fullmatch(name)
