"""The contract of every resource: values survive the wire, and schema, check and types say the same."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfserving.contract import CLUSTER_OBJECT, CONTRACTS, EAS_SERVICE, SERVED_MODEL, ProviderConfig, integers
from tfserving.contract.kinds import Amount, Version
from tfserving.contract.records import Property, Record, kind_of
from tfserving.contract.schema import package_schema
from tfserving.contract.serving import ConfiguredService, EasServiceInputs, Probe, ServedConfigInputs
from tfserving.property_values import UNKNOWN, Secret

SCHEMA = package_schema()
RECORDS = [ProviderConfig, *(each for contract in CONTRACTS.values() for each in (contract.inputs, contract.outputs))]

texts = st.text("abz/_-.", min_size=1, max_size=6)
names = st.sampled_from(["modelA", "modelB", "multi_http", "1", "a.b"])
versions = st.integers(0, 2**63 - 1)
free = st.dictionaries(names, st.one_of(texts, st.booleans(), st.integers(0, 9), st.lists(texts, max_size=2)))

# ---- values from the schema ----------------------------------------------------------------------------------------


def values(form: Mapping[str, Any], name: str = "") -> st.SearchStrategy[Any]:
    """Values as whoever reads the schema writes them."""
    match form:
        case {"$ref": "pulumi.json#/Any"}:
            return texts
        case {"$ref": str(reference)}:
            return values(SCHEMA["types"][reference.removeprefix("#/types/")], reference.rpartition(":")[2])
        case {"enum": list(choices)}:
            return st.sampled_from([choice["value"] for choice in choices])
        case {"oneOf": list(forms)}:
            return st.one_of(*map(values, forms))
        case {"type": "array", "items": items}:
            return st.lists(values(with_description(items, form)), max_size=3)
        case {"type": "object", "additionalProperties": item}:
            return st.dictionaries(names, values(with_description(item, form)), max_size=2)
        case {"type": "object", "properties": properties, "required": required}:
            if name == "VersionPolicy":  # its description: exactly one of the two
                one = [st.fixed_dictionaries({key: values(each)}) for key, each in properties.items()]
                return st.one_of(*one)
            optional = {key: values(each) for key, each in properties.items() if key not in required}
            return st.fixed_dictionaries({key: values(properties[key]) for key in required}, optional=optional)
        case {"type": "string"}:
            return versions.map(str) if "Version numbers are text" in form.get("description", "") else texts
        case {"type": "boolean"}:
            return st.booleans()
        case {"type": "integer"}:
            return st.integers(1, 2**31 - 1)
        case {"type": "number"}:
            return st.one_of(st.integers(0, 2**53), st.floats(0, 1e6).map(lambda number: round(number, 3)))
    raise AssertionError(f"{form} is no form of a value")


def with_description(item: Mapping[str, Any], whole: Mapping[str, Any]) -> dict[str, Any]:
    return {"description": whole.get("description", ""), **item}


def inputs(token: str) -> st.SearchStrategy[dict[str, Any]]:
    found = SCHEMA["resources"][token]
    return values({"type": "object", "properties": found["inputProperties"], "required": found["requiredInputs"]})


def outputs(token: str) -> st.SearchStrategy[dict[str, Any]]:
    return values({"type": "object", **{key: SCHEMA["resources"][token][key] for key in ("properties", "required")}})


def faults(declared: Mapping[str, Property], given: Mapping[str, Any]) -> dict[tuple[str | int, ...], str]:
    return {path: why for name, value in given.items() for path, why in declared[name].kind.faults(value, (name,))}


def leaves(value: Any, at: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    if at:
        yield at
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, (*at, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from leaves(item, (*at, index))


def replaced(value: Any, at: tuple[str | int, ...], by: Any) -> Any:
    if not at:
        return by
    if isinstance(value, dict):
        return {key: replaced(item, at[1:], by) if key == at[0] else item for key, item in value.items()}
    return [replaced(item, at[1:], by) if index == at[0] else item for index, item in enumerate(value)]


def at_path(value: Any, at: tuple[str | int, ...]) -> Any:
    for step in at:
        value = value[step]
    return value


tokens = pytest.mark.parametrize("token", CONTRACTS, ids=lambda token: token.rpartition(":")[2])


def decoded(token: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Properties as the provider has them: text of integers is ``int``."""
    return integers.decode(token, json.loads(json.dumps(given)))


@tokens
@settings(deadline=None)
@given(st.data())
def test_what_the_schema_asks_for_has_the_form_that_the_provider_takes(token: str, data: st.DataObject) -> None:
    given_inputs = decoded(token, data.draw(inputs(token)))
    # What a model may be called, and how its numbers fit together, is for the model config file to say.
    found = faults(CONTRACTS[token].inputs.properties(), given_inputs)
    assert {path: why for path, why in found.items() if "models" not in path and "initial" not in path} == {}


def under_another_api(token: str, path: tuple[str | int, ...]) -> bool:
    """What no contract declares: below the service JSON, and models, which have checks of their own."""
    free = {EAS_SERVICE.token: {"spec", "baseline"}, CLUSTER_OBJECT.token: {"spec"}}
    own = free.get(token, {"models", "initial", "serving"})
    return len(path) > 1 and path[0] in own


@tokens
@settings(deadline=None)
@given(st.data())
def test_a_value_of_another_type_is_refused_with_its_path(token: str, data: st.DataObject) -> None:
    given_inputs = decoded(token, data.draw(inputs(token)))
    places = [path for path in leaves(given_inputs) if not under_another_api(token, path)]
    path = data.draw(st.sampled_from(places))
    was = at_path(given_inputs, path)
    others = [other for other in ("text", True, 1.5, ["x"], {"x": "y"}) if other_json_type(was, other)]
    wrong = replaced(given_inputs, path, data.draw(st.sampled_from(others)))
    found = faults(CONTRACTS[token].inputs.properties(), wrong)
    assert any(at[: len(path)] == path for at in found), (path, found)


def other_json_type(was: Any, other: Any) -> bool:
    number = isinstance(was, int | float) and not isinstance(was, bool)
    same = isinstance(other, float) if number else type(other) is type(was)
    union = isinstance(was, str | dict) and isinstance(other, str | dict)  # a policy is either
    return not same and not union


@tokens
@settings(deadline=None)
@given(st.data())
def test_typed_values_come_back_from_the_wire_as_they_were(token: str, data: st.DataObject) -> None:
    contract = CONTRACTS[token]
    for record, strategy in ((contract.inputs, inputs(token)), (contract.outputs, outputs(token))):
        drawn = {name: each for name, each in data.draw(strategy).items() if name in record.properties()}
        drawn = {name: each for name, each in drawn.items() if not is_models(record.properties()[name])}
        typed = record.read(decoded(token, drawn))
        sent = json.loads(json.dumps(integers.encode(token, typed.write())))
        again = record.read(decoded(token, sent))
        assert again == typed
        assert record.read(sent) == typed, "text of integers is read as well"
        assert again.write() == typed.write()


def is_models(declared: Property) -> bool:
    return type(declared.kind).__name__ == "ModelsByName"


# ---- the schema itself ---------------------------------------------------------------------------------------------


def forms(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for item in value.values():
            yield from forms(item)
    elif isinstance(value, list):
        for item in value:
            yield from forms(item)


def test_only_the_service_json_of_eas_is_of_any_type() -> None:
    found = {
        (token.rpartition(":")[2], name)
        for token, resource in SCHEMA["resources"].items()
        for name, each in {**resource["properties"], **resource["inputProperties"]}.items()
        if {"$ref": "pulumi.json#/Any"} in forms(each)
    }
    assert found == {("EasService", "spec"), ("EasService", "baseline"), ("ClusterObject", "spec")}
    assert {"$ref": "pulumi.json#/Any"} not in list(forms(SCHEMA["types"]))


def test_every_reference_leads_to_a_type_and_every_type_is_used() -> None:
    found = {form["$ref"] for form in forms(SCHEMA) if isinstance(form.get("$ref"), str)}
    assert found - {"pulumi.json#/Any"} == {f"#/types/{token}" for token in SCHEMA["types"]}


def test_every_array_and_map_has_an_element_type() -> None:
    for form in forms({"resources": SCHEMA["resources"], "types": SCHEMA["types"]}):
        if form.get("type") == "array":
            assert form["items"], form
        if form.get("type") == "object":
            assert "additionalProperties" in form or "properties" in form, form


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.__name__)
def test_every_property_has_a_sentence(record: type[Record]) -> None:
    assert [name for name, each in record.properties().items() if not each.description] == []


def test_secrets_defaults_and_replacements_reach_the_schema() -> None:
    service = SCHEMA["resources"]["tfserving:index:EasService"]
    assert service["properties"]["token"]["secret"] is True
    assert service["inputProperties"]["name"]["willReplaceOnChanges"] is True
    assert service["inputProperties"]["reachable"]["default"] is True
    assert "status" not in service["inputProperties"], "the provider fills it in"
    assert "spec" not in service["required"], "the state does not have it"
    assert SCHEMA["types"]["tfserving:index:ConfiguredService"]["properties"]["token"]["secret"] is True
    assert SCHEMA["config"]["variables"]["secretKey"]["secret"] is True
    versions_of_model = SCHEMA["resources"]["tfserving:index:ServedModel"]["inputProperties"]["versions"]
    assert versions_of_model["items"] == {"type": "string"}
    assert "2^63" in versions_of_model["description"]


# ---- reading -------------------------------------------------------------------------------------------------------


def test_secrets_are_read_in_clear_and_what_is_unknown_is_empty_and_known_to_be_unknown() -> None:
    read = ServedConfigInputs.read(
        {
            "bucket": Secret("b"),
            "key": UNKNOWN,
            "published": {"m": [7, Secret(8)]},
            "services": {"one": {"url": UNKNOWN, "token": Secret("t")}, "two": UNKNOWN},
        }
    )
    assert (read.bucket, read.key, read.owner) == ("b", "", "")
    assert read.published == {"m": (7, 8)}
    assert read.services["one"] == ConfiguredService(token="t")
    assert read.knows("bucket", "published", "owner")
    assert not read.knows("key")
    assert not read.knows("bucket", "services")
    assert not read.knows()


def test_what_is_missing_is_the_default_and_what_has_no_default_is_empty() -> None:
    read = EasServiceInputs.read({"probe": {"models": ["m"]}, "autoscaler": None, "adopt": "yes"})
    assert read.probe == Probe(models=("m",))
    assert (read.name, read.spec, read.adopt, read.reachable, read.autoscaler) == ("", {}, False, True, None)


def test_none_is_not_written() -> None:
    assert ConfiguredService(url="u").write() == {"url": "u", "reachable": True, "reads": True, "pollSeconds": 0}


def test_an_autoscaler_of_a_later_key_is_named() -> None:
    scaler = {"min": 1, "max": 2, "scaleStrategies": [{"metricName": "qps", "treshold": 1}]}
    found = faults(EAS_SERVICE.inputs.properties(), {"autoscaler": scaler})
    assert "did you mean threshold?" in found["autoscaler", "scaleStrategies", 0, "treshold"]
    assert "is required" in found["autoscaler", "scaleStrategies", 0, "threshold"]


@pytest.mark.parametrize("hint", [bytes, list[str], set[int], dict])
def test_a_type_that_no_property_has_is_refused(hint: Any) -> None:
    with pytest.raises(TypeError, match="is the type of no property"):
        kind_of(hint)


def test_numbers_of_all_sizes_have_a_type_in_every_language() -> None:
    def form(hint: Any) -> dict[str, Any]:
        return kind_of(hint).schema(lambda _: "")

    assert (form(int), form(Amount), form(float), form(Version)) == (
        {"type": "integer"},
        {"type": "number"},
        {"type": "number"},
        {"type": "string"},
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("probe", {"protocol": Secret("hunter2")}),
        ("probe", Secret({"protocol": "hunter2"})),
        ("adopt", Secret("hunter2")),
        ("autoscaler", {"min": Secret("hunter2"), "max": 1, "scaleStrategies": []}),
    ],
)
def test_a_secret_of_the_wrong_kind_is_refused_without_being_repeated(name: str, value: Any) -> None:
    found = faults(EAS_SERVICE.inputs.properties(), {name: value})
    assert found
    assert "hunter2" not in str(found)


def test_a_secret_that_is_no_version_is_refused_without_being_repeated() -> None:
    found = faults(SERVED_MODEL.inputs.properties(), {"versions": [Secret("hunter2"), "7"]})
    assert list(found) == [("versions", 0)]
    assert "hunter2" not in str(found)


STATE = json.loads(
    (Path(__file__).parents[1] / "provider" / "data" / "state_of_0_1_0.json").read_text(encoding="utf-8")
)
"""What release 0.1.0 wrote of its local stack, all but the services."""


@pytest.mark.parametrize("resource", STATE, ids=[f"{each['type']}-{number}" for number, each in enumerate(STATE)])
def test_a_state_of_the_first_release_is_read_and_written_without_a_difference(resource: dict[str, Any]) -> None:
    contract = CONTRACTS[resource["type"]]
    for record, part in ((contract.inputs, "inputs"), (contract.outputs, "outputs")):
        known = integers.decode(contract.token, resource[part])
        known = {name: value for name, value in known.items() if name in record.properties()}
        again = record.read(known).write()
        assert {name: again[name] for name in known} == known
        # Inputs that are newer have defaults, as check fills them in; outputs that are newer stay away.
        assert part == "inputs" or set(again) == set(known)
