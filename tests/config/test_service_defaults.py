"""Settings that services have in common are written once, and reach the services they fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.service_defaults import merge
from config.services import KEYS
from config.stack import Settings, parse
from tfserving.errors import ConfigError

DEFAULTS: dict[str, Any] = {
    "deployment": "custom",
    "configFile": True,
    "configPollSeconds": 30,
    "allowLabelsForUnavailableVersions": True,
    "flags": {"num_load_threads": 2},
    "replicas": 2,
}


def stack(good: dict[str, Any], project: Path, services: Any, defaults: Any = DEFAULTS) -> Settings:
    return parse(good | {"tf-serving:services": services, "tf-serving:serviceDefaults": defaults}, project)


def test_every_service_takes_the_defaults_and_its_own_settings_win(good: dict[str, Any], project: Path) -> None:
    services = {
        "multi_http": {"replicas": 3, "flags": {"file_system_poll_wait_seconds": 5}},
        "multi_grpc": {"grpc": True},
    }
    http, grpc = (service.spec for service in stack(good, project, services).services)
    assert (http.replicas, grpc.replicas) == (3, 2)
    assert dict(http.flags) == {"num_load_threads": 2, "file_system_poll_wait_seconds": 5}
    assert dict(grpc.flags) == {"num_load_threads": 2}
    assert http.config_poll_seconds == grpc.config_poll_seconds == 30


def test_a_default_that_a_kind_of_service_cannot_have_is_left_out_there(good: dict[str, Any], project: Path) -> None:
    services = {
        "multi_http": {},
        "modela_scene": {"deployment": "scenario", "model": "modelA"},
        "modela_custom": {"model": "modelA"},
        "triton": {"command": "tritonserver", "port": 8000, "configFile": False, "image": "example.com/triton:23.11"},
    }
    specs = {service.name: service.spec for service in stack(good, project, services).services}
    assert (specs["modela_scene"].model, specs["modela_scene"].config_file) == ("modelA", False)
    assert dict(specs["modela_scene"].flags) == {}
    assert (specs["modela_custom"].config_file, specs["modela_custom"].config_poll_seconds) == (False, 0)
    assert dict(specs["modela_custom"].flags) == {"num_load_threads": 2}
    assert dict(specs["triton"].flags) == {}
    assert {spec.replicas for spec in specs.values()} == {2}


@pytest.mark.parametrize(
    ("entry", "gone"),
    [
        ({"autoscaler": {"min": 1, "max": 3, "metrics": {"qps": 5}}}, "replicas"),
        ({"schedule": {"timeZone": "UTC", "jobs": {"a": {"at": "0 0 1 * * *", "replicas": 1}}}}, "replicas"),
        ({"instanceTypes": ["ecs.c7.large"]}, "instanceType"),
        ({"script": "exec x"}, "command"),
        ({"replicas": None}, "replicas"),
    ],
)
def test_what_a_service_says_excludes_the_defaults_that_contradict_it(entry: dict[str, Any], gone: str) -> None:
    merged = merge(entry, {"replicas": 2, "instanceType": "ecs.c7.xlarge", "command": "y"}, KEYS)
    assert merged.get(gone) is None


def test_a_mistake_in_the_defaults_is_told_once_and_where_it_is_written(good: dict[str, Any], project: Path) -> None:
    wrong = DEFAULTS | {"replicas": "two", "flags": {"num_load_threads": "many"}, "imagee": "x"}
    with pytest.raises(ConfigError) as caught:
        stack(good, project, {"multi_http": {}, "multi_grpc": {"grpc": True}}, wrong)
    paths = [problem.path for problem in caught.value.problems]
    assert sorted(paths) == [
        "tf-serving:serviceDefaults.flags.num_load_threads",
        "tf-serving:serviceDefaults.imagee",
        "tf-serving:serviceDefaults.replicas",
    ]
    assert "did you mean 'image'" in str(caught.value)


def test_a_mistake_at_a_service_is_told_there(good: dict[str, Any], project: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        stack(good, project, {"multi_http": {"replicas": "two"}})
    assert [problem.path for problem in caught.value.problems] == ["tf-serving:services.multi_http.replicas"]


def test_a_default_that_fits_no_service_is_a_warning(good: dict[str, Any], project: Path) -> None:
    found = stack(good, project, {"multi_http": {}}, DEFAULTS | {"headless": True})
    assert any("tf-serving:serviceDefaults: headless fits no service" in warning for warning in found.warnings)


def test_text_as_pulumi_hands_it_over_is_the_same(good: dict[str, Any], project: Path) -> None:
    services = {"multi_http": {"port": 8501}}
    structured = stack(good, project, services)
    assert stack(good, project, json.dumps(services), json.dumps(DEFAULTS)) == structured


def test_without_defaults_nothing_changes(good: dict[str, Any], project: Path) -> None:
    assert parse(good | {"tf-serving:serviceDefaults": {}}, project) == parse(good, project)


@given(
    st.dictionaries(
        st.sampled_from(KEYS), st.one_of(st.none(), st.integers(), st.dictionaries(st.text(), st.integers()))
    ),
    st.dictionaries(st.sampled_from(KEYS), st.one_of(st.integers(), st.dictionaries(st.text(), st.integers()))),
)
def test_merging_keeps_what_a_service_says_and_adds_only_defaults(
    own: dict[str, Any], defaults: dict[str, Any]
) -> None:
    merged = merge(own, defaults, KEYS)
    assert own.keys() <= merged.keys() <= own.keys() | defaults.keys()
    for key, value in own.items():
        assert merged[key] == value or (isinstance(value, dict) and value.items() <= merged[key].items())
    assert merge(merged, defaults, KEYS) == merged
