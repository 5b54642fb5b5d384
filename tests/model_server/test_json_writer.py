"""Answers in JSON, to the byte."""

from __future__ import annotations

import json
import math
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from sandbox.model_server import json_writer
from sandbox.model_server.status import StatusError
from tfserving.protos import tf_serving_pb2 as pb


def f32(*values: Any) -> Any:
    return np.array(values, np.float32)


def test_predictions_of_one_output_are_bare_values_on_one_line() -> None:
    assert json_writer.predictions({"y": f32(3.5, 4.0)}) == '{\n    "predictions": [3.5, 4.0\n    ]\n}'


def test_predictions_of_lists_stay_on_one_line() -> None:
    assert json_writer.predictions({"y": f32([1, 2], [3, 4])}) == (
        '{\n    "predictions": [[1.0, 2.0], [3.0, 4.0]\n    ]\n}'
    )


def test_predictions_of_several_outputs_are_objects() -> None:
    assert json_writer.predictions({"a": f32(1, 2), "b": np.array([[1], [2]], np.int32)}) == (
        "{\n"
        '    "predictions": [\n'
        "        {\n"
        '            "a": 1.0,\n'
        '            "b": [1]\n'
        "        },\n"
        "        {\n"
        '            "a": 2.0,\n'
        '            "b": [2]\n'
        "        }\n"
        "    ]\n"
        "}"
    )


def test_columnar_outputs_have_a_line_for_each_value() -> None:
    assert json_writer.outputs({"y": f32([1, 2])}) == (
        '{\n    "outputs": [\n        [\n            1.0,\n            2.0\n        ]\n    ]\n}'
    )
    assert json_writer.outputs({"y": f32(1)[0]}) == '{\n    "outputs": 1.0\n}'
    assert json_writer.outputs({"a": f32(1)[0], "b": f32()}) == (
        '{\n    "outputs": {\n        "a": 1.0,\n        "b": []\n    }\n}'
    )


def test_a_scalar_output_has_no_row_format() -> None:
    with pytest.raises(StatusError) as caught:
        json_writer.predictions({"y": f32(1)[0]})
    assert caught.value.message == "Tensor name: y has no shape information "


def test_outputs_of_unequal_batch_size_have_no_row_format() -> None:
    with pytest.raises(StatusError) as caught:
        json_writer.predictions({"a": f32(1, 2), "b": f32(1)})
    assert caught.value.message == "Tensor name: b has inconsistent batch size: 1 expecting: 2"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3.0, "3.0"),
        (0.1, "0.1"),
        (1 / 3, "0.333333343"),
        (9e6, "9e+06"),
        (3e-5, "3e-05"),
        (16777216.0, "16777216.0"),
        (123456.0, "123456.0"),
        (1234567.0, "1234567.0"),
        (-0.0, "-0.0"),
        (math.nan, "NaN"),
        (math.inf, "Infinity"),
        (-math.inf, "-Infinity"),
        (3.4028234663852886e38, "3.40282347e+38"),
    ],
)
def test_floats_have_six_digits_or_nine_and_always_a_point_or_exponent(value: float, text: str) -> None:
    assert json_writer.decimals(f32(value)) == [text]


@given(npst.arrays(np.float32, npst.array_shapes(max_dims=2)) | npst.arrays(np.float64, npst.array_shapes(max_dims=2)))
def test_every_number_reads_back_as_it_was(array: Any) -> None:
    texts = json_writer.decimals(array)
    with np.errstate(over="ignore"):
        back = np.array([float(text) for text in texts], np.float64).astype(array.dtype)
    assert np.array_equal(back, array.ravel(), equal_nan=True)
    assert all("." in text or "e" in text or text in ("NaN", "Infinity", "-Infinity") for text in texts)


def test_integers_bools_and_strings() -> None:
    def row(array: Any, alias: str = "y") -> Any:
        return json.loads(json_writer.predictions({alias: array}))["predictions"]

    assert row(np.array([1, 2], np.int64)) == [1, 2]
    assert row(np.array([255], np.uint8)) == [255]
    assert row(np.array([2**64 - 1], np.uint64)) == [2**64 - 1]
    assert row(np.array([True, False])) == [True, False]
    assert row(np.array([b'a"b\\\n\x01', "ä".encode()], object)) == ['a"b\\\n\x01', "ä"]
    assert row(np.array([b"\xff\x00"], object), "y_bytes") == [{"b64": "/wA="}]
    assert row(np.array([[b"hi"]], object), "y_bytes") == [[{"b64": "aGk="}]]


def test_strings_that_are_not_utf8_pass_through() -> None:
    text = json_writer.predictions({"y": np.array([b"\xff/"], object)})
    assert text.encode("utf-8", "surrogateescape") == b'{\n    "predictions": ["\xff/"\n    ]\n}'


@pytest.mark.parametrize(
    ("dtype", "name"),
    [(np.float16, "half"), (ml_dtypes.bfloat16, "bfloat16"), (np.uint16, "uint16"), (np.complex64, "complex64")],
)
def test_types_json_cannot_hold_are_refused(dtype: Any, name: str) -> None:
    with pytest.raises(StatusError) as caught:
        json_writer.outputs({"y": np.zeros(1, dtype)})
    assert caught.value.message == f"Failed to write JSON value for tensor type: {name}"


def test_errors_are_one_pretty_object() -> None:
    assert json_writer.error('no "m"') == '{\n    "error": "no \\"m\\""\n}'


def test_control_characters_are_escaped_in_upper_case_hex() -> None:
    assert json_writer.quote("\x1f\x7f/") == '"\\u001F\x7f/"'


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=10,
)


@given(JSON, st.booleans())
def test_what_the_writer_writes_is_json(value: Any, single_line: bool) -> None:
    writer = json_writer.PrettyWriter()
    writer.single_line = single_line
    writer.value(value)
    assert json.loads(writer.text(), strict=False) == value


def test_messages_print_every_field_by_number_with_int64_as_text() -> None:
    info = pb.TensorInfo(name="x:0", dtype=pb.DT_FLOAT)
    info.tensor_shape.dim.add(size=-1)
    signature = pb.SignatureDef(method_name="m")
    signature.inputs["x"].CopyFrom(info)
    assert json_writer.message(signature) == (
        "{\n"
        ' "inputs": {\n'
        '  "x": {\n'
        '   "name": "x:0",\n'
        '   "dtype": "DT_FLOAT",\n'
        '   "tensor_shape": {\n'
        '    "dim": [\n'
        "     {\n"
        '      "size": "-1",\n'
        '      "name": ""\n'
        "     }\n"
        "    ],\n"
        '    "unknown_rank": false\n'
        "   }\n"
        "  }\n"
        " },\n"
        ' "outputs": {},\n'
        ' "method_name": "m",\n'
        ' "defaults": {}\n'
        "}\n"
    )
