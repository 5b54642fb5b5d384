"""``TensorProto`` to NumPy and back, by the rules of ``Tensor::FromProto`` and ``Tensor::AsProtoField``."""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from tfserving.protos.tf_serving_pb2 import DataType

Array = npt.NDArray[Any]

# For each data type: its NumPy type and the typed field of TensorProto. Half types travel as their 16 bits.
_TYPES: dict[str, tuple[type[Any], str]] = {
    "DT_FLOAT": (np.float32, "float_val"),
    "DT_DOUBLE": (np.float64, "double_val"),
    "DT_INT8": (np.int8, "int_val"),
    "DT_INT16": (np.int16, "int_val"),
    "DT_INT32": (np.int32, "int_val"),
    "DT_UINT8": (np.uint8, "int_val"),
    "DT_UINT16": (np.uint16, "int_val"),
    "DT_INT64": (np.int64, "int64_val"),
    "DT_UINT32": (np.uint32, "uint32_val"),
    "DT_UINT64": (np.uint64, "uint64_val"),
    "DT_BOOL": (np.bool_, "bool_val"),
    "DT_STRING": (np.object_, "string_val"),
    "DT_HALF": (np.float16, "half_val"),
    "DT_BFLOAT16": (ml_dtypes.bfloat16, "half_val"),
    "DT_COMPLEX64": (np.complex64, "scomplex_val"),
    "DT_COMPLEX128": (np.complex128, "dcomplex_val"),
}
_NAMES = {np.dtype(numpy_type): name for name, (numpy_type, _) in _TYPES.items()}
_HALVES = ("DT_HALF", "DT_BFLOAT16")
_COMPLEX = {"DT_COMPLEX64": np.float32, "DT_COMPLEX128": np.float64}


class TensorError(ValueError):
    """A ``TensorProto`` that does not describe a tensor."""


def type_name(dtype: int) -> str:
    """``DT_FLOAT`` for 1; the number as text where it is none TensorFlow knows."""
    known = DataType.values()
    return DataType.Name(DataType.ValueType(dtype)) if dtype in known else str(dtype)


def numpy_type(name: str) -> np.dtype[Any]:
    """The NumPy type of a data type that tensors can have here: ``float32`` for ``DT_FLOAT``."""
    return np.dtype(_TYPES[name][0])


def from_proto(proto: Any) -> Array:
    """The tensor a proto describes, from its raw content or its typed values.

    Fewer values than elements repeat the last one, none at all give zeros, more are cut off.

    Raises:
        TensorError: unknown type or shape, or content of the wrong size.
    """
    name = type_name(proto.dtype)
    if name not in _TYPES or proto.tensor_shape.unknown_rank:
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
    dtype = numpy_type(name)
    if proto.tensor_content:
        if len(proto.tensor_content) != count * dtype.itemsize:
            raise TensorError("content of the wrong size")
        return np.frombuffer(proto.tensor_content, dtype).reshape(shape)
    return _from_values(proto, name, dtype, count).reshape(shape)


def _from_values(proto: Any, name: str, dtype: np.dtype[Any], count: int) -> Array:
    raw = getattr(proto, _TYPES[name][1])
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
    """Writes a tensor into an empty ``TensorProto``: as typed values, or as raw content where that is asked for.

    Raises:
        TensorError: a type tensors cannot have here (quantised ones).
    """
    array = np.asarray(array)
    if array.dtype.kind not in "OSU" and array.dtype not in _NAMES:
        raise TensorError(f"Tensors of type {array.dtype.name} are not offered by the sandbox's model server.")
    name = "DT_STRING" if array.dtype.kind in "OSU" else _NAMES[array.dtype]
    proto.dtype = DataType.Value(name)
    proto.tensor_shape.SetInParent()
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    flat = array.ravel()
    if name == "DT_STRING":
        proto.string_val.extend(to_bytes(value) for value in flat)
    elif as_content:
        proto.tensor_content = flat.tobytes()
    elif name in _HALVES:
        proto.half_val.extend(flat.view(np.uint16).tolist())
    elif name in _COMPLEX:
        getattr(proto, _TYPES[name][1]).extend(flat.view(_COMPLEX[name]).tolist())
    else:
        getattr(proto, _TYPES[name][1]).extend(flat.tolist())


def to_bytes(value: Any) -> bytes:
    """A string element of a tensor as bytes."""
    return value if isinstance(value, bytes) else str(value).encode()
