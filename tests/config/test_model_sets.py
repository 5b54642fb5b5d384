"""Which models each service serves, and from which file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from config.stack import Settings, parse
from tfserving.model_config import VersionPolicy

Change = Callable[[dict[str, Any]], dict[str, Any]]

HTTP = "tf-serving:services.multi_http"
GRPC = "tf-serving:services.multi_grpc"
CANARY = {"modelB": {"policy": {"specific": [2]}, "labels": {"stable": 2}}}


@pytest.fixture
def read(changed: Change, project: Path) -> Callable[[dict[str, Any]], Settings]:
    """Settings of the good config with changes."""
    return lambda changes: parse(changed(changes), project)


Read = Callable[[dict[str, Any]], Settings]


def files(settings: Settings) -> dict[str, tuple[str, ...]]:
    """The services of each file."""
    return {each.file_name: each.readers for each in settings.files}


def test_without_models_all_services_share_the_file_of_all_models(read: Read) -> None:
    settings = read({})
    assert files(settings) == {"model_config.pbtxt": ("multi_http", "multi_grpc")}
    assert settings.files[0].config == settings.serving
    assert settings.other_services(settings.files[0]) == {}


def test_a_list_of_all_models_is_the_same_as_none(read: Read) -> None:
    assert files(read({f"{HTTP}.models": ["modelC", "modelB", "modelA"]})) == files(read({}))


def test_services_with_equal_lists_share_a_file_and_a_service_that_joins_renames_nothing(read: Read) -> None:
    name = "model_config.models.modelA-modelC.pbtxt"
    first = read({f"{HTTP}.models": ["modelA", "modelC"]})
    assert files(first) == {"model_config.pbtxt": ("multi_grpc",), name: ("multi_http",)}
    flags = {each.name: each.spec.config_file_name for each in first.services}
    assert flags == {"multi_http": name, "multi_grpc": "model_config.pbtxt"}
    single = {"deployment": "scenario", "model": "modelB"}
    both = {f"{GRPC}.models": ["modelC", "modelA"], "tf-serving:services.another": single}
    assert files(read({**both, "tf-serving:models.modelB": {}})) == {name: ("multi_http", "multi_grpc")}


def test_a_choice_of_versions_is_the_service_s_own_and_leaves_the_others_alone(read: Read) -> None:
    settings = read({f"{HTTP}.models": CANARY})
    assert files(settings) == {"model_config.pbtxt": ("multi_grpc",), "model_config.multi_http.pbtxt": ("multi_http",)}
    own = settings.files[1].config
    assert own.names == ("modelB",)
    assert own.models[0].policy == VersionPolicy.specific([2])
    assert own.models[0].labels == {"stable": 2}
    assert settings.files[0].config == read({}).serving
    assert settings.models_of(settings.services[0])["modelB"]["versions"] == [2]
    assert settings.other_services(settings.files[1]) == {"multi_grpc": ("modelA", "modelB", "modelC")}


def test_equal_choices_of_two_services_stay_apart_so_that_a_promotion_merges_nothing(read: Read) -> None:
    settings = read({f"{HTTP}.models": CANARY, f"{GRPC}.models": CANARY,
                     "tf-serving:services.rest": {"deployment": "scenario", "configFile": True}})  # fmt: skip
    assert set(files(settings)) == {
        "model_config.pbtxt", "model_config.multi_http.pbtxt", "model_config.multi_grpc.pbtxt"
    }  # fmt: skip


def test_models_make_the_service_read_a_config_file_whatever_the_deployment(read: Read) -> None:
    settings = read({"tf-serving:services.scene": {"deployment": "scenario", "models": ["modelA"]}})
    (scene,) = [each for each in settings.services if each.name == "scene"]
    assert scene.spec.config_file
    assert scene.spec.config_file_name == "model_config.models.modelA.pbtxt"
    assert not scene.spec.uses_labels, "the models it serves have no labels"


def test_labels_are_asked_of_a_service_only_where_its_models_have_some(read: Read) -> None:
    found = read({f"{HTTP}.models": ["modelA"], f"{HTTP}.allowLabelsForUnavailableVersions": ...})
    assert not found.services[0].spec.uses_labels


def test_models_in_the_defaults_fit_services_with_a_config_file_and_no_single_model(read: Read) -> None:
    settings = read({"tf-serving:serviceDefaults": {"models": ["modelA", "modelB", "modelC"]},
                     "tf-serving:services.one": {"deployment": "custom", "model": "modelA"}})  # fmt: skip
    (one,) = [each for each in settings.services if each.name == "one"]
    assert (one.spec.model, one.spec.config_file) == ("modelA", False)


def test_a_version_counts_as_served_where_any_set_serves_it(read: Read) -> None:
    settings = read({f"{HTTP}.models": CANARY, "tf-serving:models.modelB": {"policy": {"specific": [1]}}})
    assert settings.served_versions("modelB") == (1, 2)
