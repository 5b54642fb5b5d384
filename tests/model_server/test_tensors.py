"""Every encoding of a tensor on the wire."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.model_server.tensors import TensorError, from_proto, to_proto, type_name
from tfserving.protos import tf_serving_pb2 as pb


def proto(dtype: str, shape: list[int], **values: Any) -> pb.TensorProto:
    tensor = pb.TensorProto(dtype=pb.DataType.Value(dtype), **values)
    tensor.tensor_shape.SetInParent()
    for size in shape:
        tensor.tensor_shape.dim.add(size=size)
    return tensor


ARRAYS = [
    np.array([[1.5, -2]], np.float32),
    np.array([1e300], np.float64),
    np.array([1, -1], np.int8),
    np.array([1, -1], np.int16),
    np.array(7, np.int32),
    np.array([255], np.uint8),
    np.array([65535], np.uint16),
    np.array([2**63 - 1], np.int64),
    np.array([2**32 - 1], np.uint32),
    np.array([2**64 - 1], np.uint64),
    np.array([True, False]),
    np.array([0.5, -2], np.float16),
    np.array([0.5, -2], ml_dtypes.bfloat16),
    np.array([1 + 2j], np.complex64),
    np.array([1 + 2j, 3j], np.complex128),
    np.zeros((0, 3), np.float32),
]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: array.dtype.name)
@pytest.mark.parametrize("as_content", [False, True])
def test_a_tensor_comes_back_as_it_went(array: Any, as_content: bool) -> None:
    tensor = pb.TensorProto()
    to_proto(array, tensor, as_content)
    assert bool(tensor.tensor_content) == (as_content and array.size > 0)
    back = from_proto(tensor)
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    assert np.array_equal(back, array)


def test_strings_travel_in_their_typed_field() -> None:
    tensor = pb.TensorProto()
    to_proto(np.array([[b"a", "ä"]], object), tensor, as_content=True)
    assert list(tensor.string_val) == [b"a", "ä".encode()]
    assert from_proto(tensor).tolist() == [[b"a", "ä".encode()]]


def test_strings_are_read_from_raw_content_too() -> None:
    long = b"x" * 300
    tensor = proto("DT_STRING", [3], tensor_content=b"\x01\xac\x02\x00" + b"a" + long)
    assert from_proto(tensor).tolist() == [b"a", long, b""]


@pytest.mark.parametrize("content", [b"\x05a", b"\x01ab", b"\x80"])
def test_raw_strings_that_do_not_add_up_are_refused(content: bytes) -> None:
    with pytest.raises(TensorError):
        from_proto(proto("DT_STRING", [1], tensor_content=content))


def test_fewer_values_repeat_the_last_none_are_zeros_more_are_cut_off() -> None:
    assert from_proto(proto("DT_FLOAT", [4], float_val=[1, 2])).tolist() == [1, 2, 2, 2]
    assert from_proto(proto("DT_INT64", [2])).tolist() == [0, 0]
    assert from_proto(proto("DT_INT32", [1], int_val=[1, 2])).tolist() == [1]
    assert from_proto(proto("DT_STRING", [3], string_val=[b"a"])).tolist() == [b"a"] * 3
    assert from_proto(proto("DT_STRING", [1])).tolist() == [b""]
    assert from_proto(proto("DT_BOOL", [])).tolist() is False


@pytest.mark.parametrize(
    "tensor",
    [
        proto("DT_INVALID", [1]),
        proto("DT_RESOURCE", [1]),
        proto("DT_FLOAT", [-1], float_val=[1]),
        proto("DT_FLOAT", [2], tensor_content=b"\0\0\0"),
        pb.TensorProto(dtype=pb.DT_FLOAT, tensor_shape=pb.TensorShapeProto(unknown_rank=True)),
    ],
)
def test_what_is_no_tensor_is_refused(tensor: pb.TensorProto) -> None:
    with pytest.raises(TensorError):
        from_proto(tensor)


def test_a_type_tensors_cannot_have_here_is_refused() -> None:
    with pytest.raises(TensorError, match="int4"):
        to_proto(np.zeros(1, ml_dtypes.int4), pb.TensorProto())


def test_an_unknown_type_is_named_by_its_number() -> None:
    assert type_name(1) == "DT_FLOAT"
    assert type_name(4711) == "4711"


@given(st.lists(st.binary(max_size=200), max_size=5))
def test_raw_strings_of_any_length_are_split(strings: list[bytes]) -> None:
    def varint(number: int) -> bytes:
        low, rest = number & 0x7F, number >> 7
        return bytes([low | 0x80]) + varint(rest) if rest else bytes([low])

    content = b"".join(varint(len(item)) for item in strings) + b"".join(strings)
    assert from_proto(proto("DT_STRING", [len(strings)], tensor_content=content)).tolist() == strings
