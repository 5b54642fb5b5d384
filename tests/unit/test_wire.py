"""Version numbers on Pulumi's wire."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfserving import wire
from tfserving.contract import integers

SERVED_CONFIG = "tfserving:index:ServedConfig"
SERVED_MODEL = "tfserving:index:ServedModel"
CONFIG_FILE = "tfserving:index:ModelConfigFile"

int64 = st.integers(-(2**63), 2**63 - 1)
versions = st.lists(st.integers(0, 2**63 - 1), max_size=4)
labels = st.dictionaries(st.text("abc_", min_size=1, max_size=4), st.integers(0, 2**63 - 1), max_size=3)
names = st.sampled_from(["modelA", "specific", "labels", "versions", "*", "1"])
policies = st.one_of(
    st.just("all"),
    st.fixed_dictionaries({"latest": st.integers(1, 2**32 - 1)}),
    st.fixed_dictionaries({"specific": versions}),
)
models = st.dictionaries(
    names, st.fixed_dictionaries({"basePath": st.just("/models/m"), "policy": policies, "labels": labels}), max_size=3
)
served = st.dictionaries(names, st.fixed_dictionaries({"versions": versions, "labels": labels}), max_size=2)
served_configs = st.fixed_dictionaries(
    {
        "models": models,
        "file": models,
        "published": st.dictionaries(names, versions, max_size=3),
        "obsolete": st.dictionaries(names, versions, max_size=3),
        "served": st.dictionaries(names, served, max_size=2),
        "services": st.just({"http": {"pollSeconds": 30, "reads": True}}),
        "waitSeconds": st.integers(1, 1000),
    }
)


def as_doubles(value: Any) -> Any:
    """A value after protobuf's Struct, or any JavaScript, has had it."""
    if isinstance(value, dict):
        return {key: as_doubles(item) for key, item in value.items()}
    if isinstance(value, list):
        return [as_doubles(item) for item in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


@given(int64)
def test_any_integer_comes_back_from_its_text(number: int) -> None:
    text = wire.encode_integer(number)
    assert isinstance(text, str)
    assert wire.decode_integer(text) == number


@given(st.integers(-wire.EXACT, wire.EXACT))
def test_a_number_of_an_old_state_is_the_integer_it_was(number: int) -> None:
    assert wire.decode_integer(float(number)) == number
    assert type(wire.decode_integer(float(number))) is int


@pytest.mark.parametrize("value", [True, None, "", "1 or 2", "007", "+1", "1.0", "1e3", "0x7b", "-0", " 1", "٣", 1.5])
def test_what_is_no_integer_stays_as_it_is(value: Any) -> None:
    assert wire.decode_integer(value) is value
    assert wire.encode_integer(True) is True


@given(served_configs)
def test_properties_survive_a_wire_of_doubles(properties: dict[str, Any]) -> None:
    sent = json.loads(json.dumps(as_doubles(integers.encode(SERVED_CONFIG, properties))))
    assert integers.decode(SERVED_CONFIG, sent) == properties
    assert integers.rounded(SERVED_CONFIG, sent) == {}


@given(served_configs)
def test_encoding_twice_is_encoding_once(properties: dict[str, Any]) -> None:
    encoded = integers.encode(SERVED_CONFIG, properties)
    assert integers.encode(SERVED_CONFIG, encoded) == encoded
    assert integers.decode(SERVED_CONFIG, integers.decode(SERVED_CONFIG, encoded)) == properties


@given(models)
def test_other_numbers_stay_numbers(given_models: dict[str, Any]) -> None:
    encoded = integers.encode(CONFIG_FILE, {"initial": given_models, "unused": True, "count": 3})
    assert encoded["count"] == 3
    assert encoded["unused"] is True
    for name, model in given_models.items():
        if isinstance(model["policy"], dict) and "latest" in model["policy"]:
            assert encoded["initial"][name]["policy"] == model["policy"]


def test_keys_keep_their_order() -> None:
    found = integers.encode(SERVED_CONFIG, {"published": {"b": [1], "a": [2]}, "models": {"m": {"labels": {}, "a": 1}}})
    assert json.dumps(found) == '{"published": {"b": ["1"], "a": ["2"]}, "models": {"m": {"labels": {}, "a": 1}}}'


def test_a_resource_without_such_integers_stays_as_it_is() -> None:
    spec = {"spec": {"metadata": {"instance": 2}}, "versions": {"20240115093000123": "any"}}
    assert integers.encode("tfserving:index:EasService", spec) == spec
    assert integers.decode("tfserving:index:PublishedModel", spec) == spec


def test_a_service_of_one_model_has_its_versions_as_text() -> None:
    state = {"versions": [2**63 - 1], "served": {"m": {"versions": [2**63 - 1], "labels": {}}}}
    assert integers.encode(SERVED_MODEL, state) == {
        "versions": ["9223372036854775807"],
        "served": {"m": {"versions": ["9223372036854775807"], "labels": {}}},
    }


def test_numbers_that_may_have_been_rounded_are_found_by_their_path() -> None:
    state = {"published": {"m": [1.0, float(20240115093000123)]}, "models": {"m": {"labels": {"a": 2**53, "b": 7}}}}
    assert integers.rounded(SERVED_CONFIG, state) == {
        ("models", "m", "labels", "a"): 2**53,
        ("published", "m", 1): 20240115093000124,
    }


@given(int64)
def test_a_stack_output_is_a_number_where_a_double_is_exact_and_text_beyond(number: int) -> None:
    (found,) = wire.exact({"versions": [number]})["versions"]
    assert found == (number if abs(number) <= 2**53 else str(number))
    assert wire.decode_integer(as_doubles(found)) == number


def test_what_is_no_number_is_exported_as_it_is() -> None:
    value = {"a": [True, None, "x", 1.5, 2**53], "b": (1,)}
    assert wire.exact(value) == {"a": [True, None, "x", 1.5, 2**53], "b": [1]}
    assert wire.exact(value)["a"][0] is True


@pytest.mark.parametrize(
    ("value", "yes"), [(0, True), (2**63 - 1, True), (2**63, False), (-1, False), (True, False), ("1", False)]
)
def test_what_a_version_is(value: Any, yes: bool) -> None:
    assert wire.is_version(value) is yes


def test_numbers_that_a_double_would_change_are_found_anywhere() -> None:
    data = {"a": {"b": [1, 2**53, {"c": 2**53 + 1}]}, "d": -(2**60), "e": True, "f": "9" * 30, "g": 0.5}
    assert wire.inexact(data, "extraConfig") == [("extraConfig.a.b[2].c", 2**53 + 1), ("extraConfig.d", -(2**60))]
    assert wire.inexact({"x": float("inf"), "y": float("nan")}, "p") == []


@pytest.mark.parametrize("value", [0.5, float("inf"), float("nan"), "2.0", True, None, [2.0]])
def test_only_a_number_without_a_fraction_becomes_whole(value: object) -> None:
    assert repr(wire.whole(2.0)) == "2"
    assert wire.whole(value) is value
