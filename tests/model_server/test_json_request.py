"""Predict, classify and regress requests in JSON: what becomes a tensor and what every mistake is called."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.model_server import json_examples, json_request
from sandbox.model_server.status import Code, StatusError
from tfserving.protos import tf_serving_pb2 as pb


def inputs(**types: str) -> dict[str, pb.TensorInfo]:
    return {alias: pb.TensorInfo(name=f"{alias}:0", dtype=pb.DataType.Value(name)) for alias, name in types.items()}


FLOAT = inputs(x="DT_FLOAT")


def tensors(body: str | dict[str, Any], signature: dict[str, pb.TensorInfo] = FLOAT) -> dict[str, Any]:
    document = json_request.parse_object((body if isinstance(body, str) else json.dumps(body)).encode())
    return {alias: array.tolist() for alias, array in json_request.tensors(document, signature, "")[1].items()}


def refusal(body: str | dict[str, Any], signature: dict[str, pb.TensorInfo] = FLOAT) -> str:
    with pytest.raises(StatusError) as caught:
        tensors(body, signature)
    assert caught.value.code is Code.INVALID_ARGUMENT
    return caught.value.message


# Parsing


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("", "JSON Parse error: The document is empty"),
        ("  ", "JSON Parse error: The document is empty. at offset: 2"),
        ("nope", "JSON Parse error: Invalid value. at offset: 1"),
        ('{"a" 1}', "JSON Parse error: Missing a colon after a name of object member. at offset: 5"),
        ("{1: 2}", "JSON Parse error: Missing a name for object member. at offset: 1"),
        ('{"a": [1 2]}', "JSON Parse error: Missing a comma or ] after an array element. at offset: 9"),
        ('{"a": "[" "b"}', "JSON Parse error: Missing a comma or } after an object member. at offset: 10"),
        ('{"a": "\\q"}', "JSON Parse error: Invalid escape character in string. at offset: 7"),
        ('{"a": "\\ud800"}', "JSON Parse error: The surrogate pair in string is invalid. at offset: 7"),
        ('{"ä": nope}', "JSON Parse error: Invalid value. at offset: 8"),
        ("[1, 2]", "JSON Value: [1, 2] Is not object"),
        ('"text"', 'JSON Value: "text" Is not object'),
    ],
)
def test_what_is_no_json_object_is_refused_with_rapidjsons_words(body: str, message: str) -> None:
    assert refusal(body) == message


def test_an_unterminated_string_is_refused() -> None:
    assert refusal('{"a": "b').startswith("JSON Parse error: Missing a closing quotation mark in string. at offset: ")


def test_text_after_the_object_is_ignored() -> None:
    assert tensors('{"instances": [1]} trailing [') == {"x": [1.0]}


def test_a_byte_order_mark_is_skipped() -> None:
    assert json_request.parse_object(b'\xef\xbb\xbf{"a": 1}') == {"a": 1}


def test_a_surrogate_pair_is_one_character() -> None:
    assert json_request.parse_object(b'{"a": "\\ud83d\\ude00 \\\\ud800"}') == {"a": "\U0001f600 \\ud800"}


def test_the_signature_name_must_be_a_string() -> None:
    assert json_request.signature_name({}) == ""
    assert json_request.signature_name({"signature_name": "s"}) == "s"
    with pytest.raises(StatusError) as caught:
        json_request.signature_name({"signature_name": 1})
    assert caught.value.message == (
        'JSON Value: {\n    "signature_name": 1\n} not formatted correctly. '
        "'signature_name' key must be a string value."
    )


# Shape of the request


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "Missing 'inputs' or 'instances' key"),
        (
            {"instances": [1], "inputs": [1]},
            'JSON Value: {\n    "instances": [1],\n    "inputs": [1]\n} Not formatted correctly expecting only one of '
            "'inputs' or 'instances' keys to exist ",
        ),
        ({"instances": 1}, "JSON Value: {\n    \"instances\": 1\n} Expecting 'instances' to be an list/array"),
        ({"instances": []}, "JSON Value: {\n    \"instances\": []\n} No values in 'instances' array"),
    ],
)
def test_a_request_has_either_instances_or_inputs(body: dict[str, Any], message: str) -> None:
    assert refusal(body) == message


def test_a_signature_without_inputs_is_refused() -> None:
    assert refusal({"inputs": 1}, {}) == "Failed to get input map for signature: DEFAULT"


# Row format


def test_instances_are_values_lists_or_objects() -> None:
    assert tensors({"instances": [1, 2.5]}) == {"x": [1.0, 2.5]}
    assert tensors({"instances": [[1], [2]]}) == {"x": [[1.0], [2.0]]}
    assert tensors({"instances": [{"x": [1, 2]}, {"x": [3, 4]}]}) == {"x": [[1.0, 2.0], [3.0, 4.0]]}


def test_several_inputs_come_as_objects_with_all_of_them() -> None:
    both = inputs(a="DT_FLOAT", b="DT_INT32")
    assert tensors({"instances": [{"a": 1, "b": [2]}, {"b": [4], "a": 3}]}, both) == {"a": [1.0, 3.0], "b": [[2], [4]]}
    assert refusal({"instances": [1]}, both) == (
        "instances is a plain list, but expecting list of objects as multiple input tensors required as per "
        "tensorinfo_map"
    )
    assert refusal({"instances": [{"a": 1}]}, both) == (
        "Failed to process element: 0 of 'instances' list. JSON object: {\n    \"a\": 1\n} keys must be equal to: a,b"
    )


@pytest.mark.parametrize(
    ("instances", "element", "message"),
    [
        ([1, "a"], "1", 'JSON Value: "a" Type: String is not of expected type: float'),
        ([{"x": 1}, {"x": True}], "1 key: x", "JSON Value: true Type: True is not of expected type: float"),
        ([{"y": 1}], "0 key: y", "JSON object: does not have named input: y"),
        ([[1], [1, 2]], "1", "Expecting tensor size: 1 but got: 2"),
        ([[[1], [2]], [[1, 2]]], "1", "Expecting shape [2,1] but got: [1,2]"),
        ([[[1], [2, 3]]], "0", "Encountered list at unexpected size: 2 at level: 1 expected size: 1"),
        ([[1, [2]]], "0", "Encountered list at unexpected level: 1 expected < 1"),
        ([[[1], 2]], "0", "JSON Value: 2 found at incorrect level: 2 in the JSON DOM. Expected at level: 2"),
        ([None], "0", "JSON Value: null Type: Null is not of expected type: float"),
    ],
)
def test_irregular_instances_are_named(instances: list[Any], element: str, message: str) -> None:
    assert refusal({"instances": instances}) == (
        f"Failed to process element: {element} of 'instances' list. Error: INVALID_ARGUMENT: {message}"
    )


def test_instances_are_all_objects_or_none() -> None:
    assert refusal({"instances": [{"x": 1}, 2]}) == "Expecting object but got list at item 1 of input list"
    assert refusal({"instances": [1, {"x": 2}]}) == "Expecting value/list but got object at item 1 of input list"


# Columnar format


def test_inputs_are_a_value_or_an_object_of_values() -> None:
    assert tensors({"inputs": 1}) == {"x": 1.0}
    assert tensors({"inputs": [[1], [2]]}) == {"x": [[1.0], [2.0]]}
    assert tensors({"inputs": {"x": [1], "extra": 2}}) == {"x": [1.0]}
    assert tensors({"inputs": {"a": [1], "b": 2}}, inputs(a="DT_FLOAT", b="DT_INT64")) == {"a": [1.0], "b": 2}


def test_inputs_that_are_missing_or_unnamed_are_refused() -> None:
    both = inputs(a="DT_FLOAT", b="DT_FLOAT")
    assert refusal({"inputs": {"a": 1}}, both) == "Missing named input: b in 'inputs' object."
    assert refusal({"inputs": [1]}, both) == (
        "inputs is a plain value/list, but expecting an object as multiple input tensors required as per tensorinfo_map"
    )
    assert refusal({"inputs": [[1], [2, 3]]}) == ("Encountered list at unexpected size: 2 at level: 1 expected size: 1")


# Types


@pytest.mark.parametrize("name", ["DT_FLOAT", "DT_DOUBLE"])
def test_floats_take_any_number_and_the_three_special_ones(name: str) -> None:
    found = tensors('{"inputs": [1, 1.5, -Infinity, Infinity, NaN, 1e300]}', inputs(x=name))["x"]
    assert found[:4] == [1.0, 1.5, float("-inf"), float("inf")]
    assert np.isnan(found[4])
    assert found[5] == (float("inf") if name == "DT_FLOAT" else 1e300)


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("DT_INT32", [-(2**31), 2**31 - 1], 2**31),
        ("DT_UINT8", [0, 255], 2**31),
        ("DT_INT64", [-(2**63), 2**63 - 1], 2**63),
        ("DT_UINT32", [0, 2**32 - 1], -1),
        ("DT_UINT64", [0, 2**64 - 1], 2**64),
    ],
)
def test_integers_take_integer_tokens_in_their_range(name: str, good: list[int], bad: int) -> None:
    signature = inputs(x=name)
    assert tensors({"inputs": good}, signature) == {"x": good}
    short = name.removeprefix("DT_").lower()
    for value in (bad, 1.0, True, "1"):
        shown = json.dumps(value)
        assert refusal({"inputs": [value]}, signature).startswith(f"JSON Value: {shown} Type: ")
        assert refusal({"inputs": [value]}, signature).endswith(f" is not of expected type: {short}")


def test_narrow_integers_wrap_as_their_proto_field_does() -> None:
    assert tensors({"inputs": [300, -1]}, inputs(x="DT_UINT8")) == {"x": [44, 255]}


def test_bools_take_true_and_false_only() -> None:
    signature = inputs(x="DT_BOOL")
    assert tensors({"inputs": [True, False]}, signature) == {"x": [True, False]}
    assert refusal({"inputs": [1]}, signature) == "JSON Value: 1 Type: Number is not of expected type: bool"


def test_strings_come_as_text_or_base64() -> None:
    signature = inputs(x="DT_STRING")
    assert tensors({"instances": ["ä", {"b64": "aGk="}, {"b64": "aGk"}]}, signature) == {
        "x": ["ä".encode(), b"hi", b"hi"]
    }
    assert tensors({"inputs": {"b64": "aGk="}}, signature) == {"x": b"hi"}
    assert refusal({"inputs": [{"b64": "a*b="}]}, signature) == "Unable to base64 decode"
    assert refusal({"inputs": [{"b64": "aGk=", "more": 1}]}, signature) == (
        'JSON Value: {\n    "b64": "aGk=",\n    "more": 1\n} not formatted correctly for base64 data'
    )
    assert refusal({"inputs": [1]}, signature) == "JSON Value: 1 Type: Number is not of expected type: string"


def test_an_object_is_no_number() -> None:
    assert refusal({"inputs": [{"b64": "aGk="}]}) == (
        'JSON Value: {\n    "b64": "aGk="\n} Type: Object is not of expected type: float'
    )


@pytest.mark.parametrize("name", ["DT_HALF", "DT_BFLOAT16", "DT_UINT16", "DT_COMPLEX64"])
def test_types_json_does_not_offer_are_unimplemented_or_invalid_by_row(name: str) -> None:
    short = name.removeprefix("DT_").lower()
    with pytest.raises(StatusError) as caught:
        tensors({"inputs": [1]}, inputs(x=name))
    assert str(caught.value) == f"UNIMPLEMENTED: Conversion of JSON Value: 1 to type: {short}"
    assert refusal({"instances": [1]}, inputs(x=name)).endswith(
        f"Error: UNIMPLEMENTED: Conversion of JSON Value: 1 to type: {short}"
    )


def test_long_values_are_cut_off_in_messages() -> None:
    message = refusal({"instances": "x" * 50, "pad": list(range(1000))})
    assert 256 <= len(message) < 400


NESTED = st.recursive(
    st.one_of(st.integers(-5, 5), st.floats(-5, 5), st.booleans(), st.just("s")),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=12,
)


@given(NESTED)
def test_the_quick_way_through_a_list_agrees_with_the_thorough_one(value: Any) -> None:
    for name in ("DT_FLOAT", "DT_INT32"):
        quick = json_request._fast_array(value, name) if isinstance(value, list) else None
        shape = json_request._dense_shape(value)
        values: list[Any] = []
        try:
            json_request._fill(value, 0, shape, name, values)
        except StatusError:
            assert quick is None
            continue
        thorough = json_request._array(values, name, shape)
        if quick is not None:
            assert quick.shape == thorough.shape
            assert quick.dtype == thorough.dtype
            assert np.array_equal(quick, thorough)


# Classify and regress


class _Feature:
    """Stands in for ``tf.Feature``: one list of one kind."""

    def __init__(self) -> None:
        self.kind: str | None = None
        self.values: list[Any] = []

    def WhichOneof(self, _: str) -> str | None:
        return self.kind

    def __getattr__(self, name: str) -> Any:
        feature = self

        class _List:
            class value:
                @staticmethod
                def append(item: Any) -> None:
                    feature.kind = name
                    feature.values.append(item)

        return _List


@pytest.mark.parametrize(
    ("items", "kind", "values"),
    [
        ([1, -2, True], "int64_list", [1, -2, 1]),
        ([1.0, 2e0], "float_list", [1.0, 2.0]),
        (["a", {"b64": "aGk="}], "bytes_list", [b"a", b"hi"]),
        ([2**64], "float_list", [2**64]),
    ],
)
def test_a_feature_takes_its_kind_from_the_values(items: list[Any], kind: str, values: list[Any]) -> None:
    feature = _Feature()
    for item in items:
        json_examples._add_to_feature(item, "f", feature)
    assert (feature.kind, feature.values) == (kind, values)


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([1, 1.0], "Unexpected element type in feature: f expecting type: int64"),
        ([1.0, 1], "Unexpected element type in feature: f expecting type: float"),
        (["a", 1], "Unexpected element type in feature: f expecting type: bytes"),
        ([None], "Feature: f has element with unexpected JSON type: Null"),
        ([[1]], "Feature: f has element with unexpected JSON type: Array"),
        ([{"a": 1}], "Feature: f has element with unexpected JSON type: Object"),
        ([2**63], "Feature: f has uint64_t element. Only int64_t is supported."),
    ],
)
def test_a_feature_of_mixed_or_odd_values_is_refused(items: list[Any], message: str) -> None:
    feature = _Feature()
    for item in items[:-1]:
        json_examples._add_to_feature(item, "f", feature)
    with pytest.raises(StatusError) as caught:
        json_examples._add_to_feature(items[-1], "f", feature)
    assert caught.value.message == message
