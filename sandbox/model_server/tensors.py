"""``TensorProto`` to NumPy and back, by the rules of ``Tensor::FromProto`` and ``Tensor::AsProtoField``."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from sandbox.model_server.runtime import runtime

Array = npt.NDArray[Any]

# Typed field of TensorProto for each data type, by name. Values of half types travel as their 16 bits.
_FIELDS = {
    "DT_FLOAT": "float_val",
    "DT_DOUBLE": "double_val",
    "DT_INT8": "int_val",
    "DT_INT16": "int_val",
    "DT_INT32": "int_val",
    "DT_UINT8": "int_val",
    "DT_UINT16": "int_val",
    "DT_INT64": "int64_val",
    "DT_UINT32": "uint32_val",
    "DT_UINT64": "uint64_val",
    "DT_BOOL": "bool_val",
    "DT_STRING": "string_val",
    "DT_HALF": "half_val",
    "DT_BFLOAT16": "half_val",
    "DT_COMPLEX64": "scomplex_val",
    "DT_COMPLEX128": "dcomplex_val",
}
_HALVES = ("DT_HALF", "DT_BFLOAT16")
_COMPLEX = {"DT_COMPLEX64": np.float32, "DT_COMPLEX128": np.float64}


class TensorError(ValueError):
    """A ``TensorProto`` that does not describe a tensor."""


def type_name(dtype: int) -> str:
    """``DT_FLOAT`` for 1; the number as text where it is none TensorFlow knows."""
    names: dict[int, str] = {value: name for name, value in runtime().types_pb2.DataType.items()}
    return names.get(dtype, str(dtype))


def from_proto(proto: Any) -> Array:
    """The tensor a proto describes, from its raw content or its typed values.

    Fewer values than elements repeat the last one, none at all give zeros, more are cut off.

    Raises:
        TensorError: unknown type or shape, or content of the wrong size.
    """
    name = type_name(proto.dtype)
    if name not in _FIELDS or proto.tensor_shape.unknown_rank:
        raise TensorError(name)
    shape = [dim.size for dim in proto.tensor_shape.dim]
    if any(size < 0 for size in shape):
        raise TensorError(f"negative dimension in {shape}")
    count = math.prod(shape)
    if name == "DT_STRING":
        strings = _split_strings(proto.tensor_content, count) if proto.tensor_content else list(proto.string_val)
        strings = strings[:count] + [strings[-1] if strings else b""] * (count - len(strings))
        result = np.empty(count, object)
        result[:] = strings
        return result.reshape(shape)
    dtype = np.dtype(runtime().dtypes.as_dtype(proto.dtype).as_numpy_dtype)
    if proto.tensor_content:
        if len(proto.tensor_content) != count * dtype.itemsize:
            raise TensorError("content of the wrong size")
        return np.frombuffer(proto.tensor_content, dtype).reshape(shape)
    return _from_values(proto, name, dtype, count).reshape(shape)


def _from_values(proto: Any, name: str, dtype: np.dtype[Any], count: int) -> Array:
    raw = getattr(proto, _FIELDS[name])
    values: Array
    if name in _HALVES:
        values = np.array(raw, np.uint16).view(dtype)
    elif name in _COMPLEX:
        values = np.array(raw[: len(raw) // 2 * 2], _COMPLEX[name]).view(dtype)
    else:
        values = np.array(raw).astype(dtype) if raw else np.empty(0, dtype)
    if len(values) >= count:
        return values[:count]
    filler = values[-1] if len(values) else dtype.type(0)
    return np.concatenate([values, np.full(count - len(values), filler, dtype)])


def _split_strings(content: bytes, count: int) -> list[bytes]:
    """Raw content of a string tensor: the lengths as varints, then the strings."""
    position = 0
    lengths: list[int] = []
    for _ in range(count):
        length = shift = 0
        while True:
            if position >= len(content):
                raise TensorError("content of the wrong size")
            byte = content[position]
            position += 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        lengths.append(length)
    if position + sum(lengths) != len(content):
        raise TensorError("content of the wrong size")
    strings: list[bytes] = []
    for length in lengths:
        strings.append(content[position : position + length])
        position += length
    return strings


def to_proto(array: Array, proto: Any, as_content: bool = False) -> None:
    """Writes a tensor into an empty ``TensorProto``: as typed values, or as raw content where that is asked for."""
    array = np.asarray(array)
    dtype = runtime().dtypes.as_dtype(array.dtype) if array.dtype != object else runtime().dtypes.string
    proto.dtype = dtype.as_datatype_enum
    proto.tensor_shape.SetInParent()
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    name = type_name(proto.dtype)
    flat = array.ravel()
    if name == "DT_STRING":
        proto.string_val.extend(to_bytes(value) for value in flat)
    elif as_content:
        proto.tensor_content = flat.tobytes()
    elif name in _HALVES:
        proto.half_val.extend(flat.view(np.uint16).tolist())
    elif name in _COMPLEX:
        getattr(proto, _FIELDS[name]).extend(flat.view(_COMPLEX[name]).tolist())
    else:
        getattr(proto, _FIELDS[name]).extend(flat.tolist())


def to_bytes(value: Any) -> bytes:
    """A string element of a tensor as bytes."""
    return value if isinstance(value, bytes) else str(value).encode()
