"""Tensors and plain values: the same meaning over gRPC as over REST."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfserving.protos import tf_serving_pb2 as pb
from tfserving.tensors import decode, dtype_name, encode, shape_of

_VALUES: dict[Any, st.SearchStrategy[Any]] = {
    pb.DT_FLOAT: st.floats(width=32, allow_nan=False),
    pb.DT_DOUBLE: st.floats(allow_nan=False),
    pb.DT_INT8: st.integers(-(2**7), 2**7 - 1),
    pb.DT_INT16: st.integers(-(2**15), 2**15 - 1),
    pb.DT_INT32: st.integers(-(2**31), 2**31 - 1),
    pb.DT_INT64: st.integers(-(2**63), 2**63 - 1),
    pb.DT_UINT8: st.integers(0, 2**8 - 1),
    pb.DT_UINT16: st.integers(0, 2**16 - 1),
    pb.DT_UINT32: st.integers(0, 2**32 - 1),
    pb.DT_UINT64: st.integers(0, 2**64 - 1),
    pb.DT_BOOL: st.booleans(),
    pb.DT_STRING: st.text(st.characters(exclude_categories=["Cs"])),
}


@st.composite
def nested(draw: st.DrawFn) -> tuple[Any, Any, list[int]]:
    dtype = draw(st.sampled_from(list(_VALUES)))
    shape = draw(st.lists(st.integers(1, 3), max_size=3))

    def build(sizes: list[int]) -> Any:
        return [build(sizes[1:]) for _ in range(sizes[0])] if sizes else draw(_VALUES[dtype])

    return build(shape), dtype, shape


@given(nested())
def test_values_survive_the_way_into_a_tensor_and_back(case: tuple[Any, Any, list[int]]) -> None:
    value, dtype, shape = case
    tensor = encode(value, dtype, "input x")
    assert shape_of(tensor.tensor_shape) == shape
    assert decode(pb.TensorProto.FromString(tensor.SerializeToString()), "y") == value


def test_tensors_are_read_as_tensorflow_writes_them() -> None:
    shape = pb.TensorShapeProto(dim=[pb.TensorShapeProto.Dim(size=size) for size in (2, 2)])
    typed = pb.TensorProto(dtype=pb.DT_FLOAT, tensor_shape=shape, float_val=[1.5, 2.5, 3.5, 4.5])
    content = pb.TensorProto(
        dtype=pb.DT_FLOAT, tensor_shape=shape, tensor_content=struct.pack("<4f", 1.5, 2.5, 3.5, 4.5)
    )
    assert decode(typed, "y") == decode(content, "y") == [[1.5, 2.5], [3.5, 4.5]]
    # The last of too few values stands for the rest.
    assert decode(pb.TensorProto(dtype=pb.DT_INT32, tensor_shape=shape, int_val=[7, 8]), "y") == [[7, 8], [8, 8]]
    empty = pb.TensorShapeProto(dim=[pb.TensorShapeProto.Dim(size=0)])
    assert decode(pb.TensorProto(dtype=pb.DT_FLOAT, tensor_shape=empty), "y") == []


def test_bytes_are_text_or_base64_by_the_outputs_name() -> None:
    tensor = pb.TensorProto(dtype=pb.DT_STRING, string_val=[b"\xff"])
    assert decode(tensor, "image_bytes") == {"b64": "/w=="}
    assert decode(tensor, "image") == {"b64": "/w=="}, "no text in UTF-8"
    assert decode(pb.TensorProto(dtype=pb.DT_STRING, string_val=["\u00fc".encode()]), "name") == "\u00fc"
    for value in ({"b64": "/w=="}, b"\xff"):
        assert encode(value, pb.DT_STRING, "input x").string_val == [b"\xff"]


@pytest.mark.parametrize(
    ("value", "dtype", "said"),
    [
        ([[1.0], [1.0, 2.0]], pb.DT_FLOAT, "different lengths or depths"),
        ([1.0, [2.0]], pb.DT_FLOAT, "nested to different depths"),
        ([[1.0], 2.0], pb.DT_FLOAT, "different lengths or depths"),
        ([1.0], pb.DT_INT32, "1.0 is not of type int32"),
        ([True], pb.DT_FLOAT, "True is not of type float32"),
        ([1], pb.DT_BOOL, "1 is not of type bool"),
        (["a"], pb.DT_FLOAT, "'a' is not of type float32"),
        ([300, 1], pb.DT_INT8, "out of the range of int8"),
        ([1e39, 1.0], pb.DT_FLOAT, "out of the range of float32"),
        ([-1], pb.DT_UINT64, "out of the range of uint64"),
        ([1], pb.DT_STRING, "1 is not a text"),
        ([{"b64": "%"}], pb.DT_STRING, "b64 holds no base64 text"),
        ([1.0], pb.DT_COMPLEX64, "tensors of type complex64 cannot"),
    ],
)
def test_values_that_do_not_make_a_tensor_are_refused(value: Any, dtype: Any, said: str) -> None:
    with pytest.raises(ValueError, match=r"^input x: ") as caught:
        encode(value, dtype, "input x")
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("tensor", "said"),
    [
        (pb.TensorProto(dtype=pb.DT_COMPLEX64), "tensors of type complex64"),
        (pb.TensorProto(dtype=pb.DT_FLOAT, tensor_content=b"123"), "3 bytes do not fill"),
        (pb.TensorProto(dtype=pb.DT_FLOAT), "0 values do not fill"),
        (pb.TensorProto(dtype=pb.DT_FLOAT, float_val=[1, 2]), "2 values do not fill"),
    ],
)
def test_tensors_that_do_not_hold_what_their_shape_says_are_refused(tensor: pb.TensorProto, said: str) -> None:
    with pytest.raises(ValueError, match=r"^output y: ") as caught:
        decode(tensor, "y")
    assert said in str(caught.value)


def test_data_types_and_shapes_are_named_as_numpy_names_them() -> None:
    assert [dtype_name(dtype) for dtype in (pb.DT_FLOAT, pb.DT_DOUBLE, pb.DT_HALF, pb.DT_INT64, pb.DT_STRING)] == [
        "float32",
        "float64",
        "float16",
        "int64",
        "string",
    ]
    unknown: Any = 999
    assert dtype_name(unknown) == "999"
    assert shape_of(pb.TensorShapeProto(unknown_rank=True)) is None
    dims = [pb.TensorShapeProto.Dim(size=size) for size in (-1, 28)]
    assert shape_of(pb.TensorShapeProto(dim=dims)) == [None, 28]


@pytest.mark.parametrize(
    ("dtype", "value", "bits"),
    [
        (pb.DT_HALF, 1.0, 0x3C00),
        (pb.DT_HALF, -2, 0xC000),
        (pb.DT_HALF, 65504.0, 0x7BFF),
        (pb.DT_HALF, float("inf"), 0x7C00),
        (pb.DT_BFLOAT16, 1.0, 0x3F80),
        (pb.DT_BFLOAT16, 3.140625, 0x4049),
        (pb.DT_BFLOAT16, 1.00390625, 0x3F80),  # a tie goes to the even one
        (pb.DT_BFLOAT16, float("-inf"), 0xFF80),
    ],
)
def test_half_types_travel_as_their_bits(dtype: Any, value: float, bits: int) -> None:
    tensor = encode([value], dtype, "input x")
    assert list(tensor.half_val) == [bits]
    back = decode(tensor, "x")
    assert back == decode(
        pb.TensorProto(dtype=dtype, tensor_shape=tensor.tensor_shape, tensor_content=bits.to_bytes(2, "little")), "x"
    )
    assert back == pytest.approx([value], rel=0.005)


def test_a_half_that_is_too_big_is_refused() -> None:
    with pytest.raises(ValueError, match="input x: a value is out of the range of float16"):
        encode([1e6], pb.DT_HALF, "input x")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([[1, 2], [3]], r"at \[1\] is a list of 1, before it are lists of 2"),
        ([[[1], [2]], [[3], 4]], r"at \[1\]\[1\] is no list, before it are lists of 1"),
        ([[1, 2], [3, [4]]], r"at \[1\]\[1\] is a list"),
    ],
)
def test_a_ragged_list_is_told_with_its_place(value: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        encode(value, pb.DT_INT64, "input x")
