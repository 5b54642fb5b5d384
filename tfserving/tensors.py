"""Tensors to and from plain Python values, without NumPy, by the rules of TensorFlow Serving's REST API.

Values are what ``json`` reads: numbers, booleans, text, nested lists, and ``{"b64": ...}`` for bytes. So a request
means the same over gRPC as over REST. The half types, which only gRPC carries, are floats here; complex ones are not
offered.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tfserving.protos import tf_serving_pb2 as pb

# Data type: (typed field of TensorProto, struct format of one little-endian value in tensor_content).
_NUMBERS: dict[pb.DataType, tuple[str, str]] = {
    pb.DT_FLOAT: ("float_val", "f"),
    pb.DT_DOUBLE: ("double_val", "d"),
    pb.DT_INT8: ("int_val", "b"),
    pb.DT_INT16: ("int_val", "h"),
    pb.DT_INT32: ("int_val", "i"),
    pb.DT_UINT8: ("int_val", "B"),
    pb.DT_UINT16: ("int_val", "H"),
    pb.DT_INT64: ("int64_val", "q"),
    pb.DT_UINT32: ("uint32_val", "I"),
    pb.DT_UINT64: ("uint64_val", "Q"),
    pb.DT_BOOL: ("bool_val", "?"),
}
_SHOWN = 80
"""Characters of a value in an error."""

_HALVES = (pb.DT_HALF, pb.DT_BFLOAT16)
_FLOATS = (pb.DT_FLOAT, pb.DT_DOUBLE, *_HALVES)
_NAMES = {pb.DT_FLOAT: "float32", pb.DT_DOUBLE: "float64", pb.DT_HALF: "float16"}


def dtype_name(dtype: pb.DataType) -> str:
    """NumPy's name of a TensorFlow data type: ``float32`` for ``DT_FLOAT``, ``string`` for ``DT_STRING``."""
    if dtype in _NAMES:
        return _NAMES[dtype]
    known = pb.DataType.values()
    return pb.DataType.Name(dtype).removeprefix("DT_").lower() if dtype in known else str(dtype)


def dtype_named(name: str) -> pb.DataType:
    """The data type that :func:`dtype_name` calls ``name``.

    Raises:
        ValueError: there is none.
    """
    numbers: Any = pb.DataType.values()  # of the enumeration's own type, which the stubs call int
    for dtype in numbers:
        if dtype_name(dtype) == name:
            found: pb.DataType = dtype
            return found
    raise ValueError(f"{name!r} is not a data type")


def shape_of(shape: pb.TensorShapeProto) -> list[int | None] | None:
    """A shape as a list, None for an unknown dimension; None for an unknown rank."""
    if shape.unknown_rank:
        return None
    return [dim.size if dim.size >= 0 else None for dim in shape.dim]


def encode(value: Any, dtype: pb.DataType, what: str) -> pb.TensorProto:
    """A tensor of ``dtype`` from nested lists.

    The shape is that of the first elements, as the server takes it; the server compares it with nothing but the graph.

    Args:
        value: a scalar or nested lists of equal lengths.
        dtype: a ``DataType``, from the model's signature.
        what: names the input in errors.

    Raises:
        ValueError: ragged lists, a value of another type or out of range, or a data type that is not offered.
    """
    shape: list[int] = []
    first = value
    while isinstance(first, (list, tuple)):
        shape.append(len(first))
        if not first:
            break
        first = first[0]
    values = list(_flatten(value, shape, what, ""))
    tensor = pb.TensorProto(dtype=dtype)
    tensor.tensor_shape.SetInParent()
    for size in shape:
        tensor.tensor_shape.dim.add(size=size)
    if dtype == pb.DT_STRING:
        tensor.string_val.extend(_bytes(item, what) for item in values)
        return tensor
    if dtype not in _NUMBERS and dtype not in _HALVES:
        raise ValueError(f"{what}: tensors of type {dtype_name(dtype)} cannot be written as plain values")
    for item in values:
        if not _fits(item, dtype):
            raise ValueError(f"{what}: {_shown(item)} is not of type {dtype_name(dtype)}")
    if dtype in _HALVES:
        try:
            tensor.half_val.extend(_half_bits(float(item), dtype) for item in values)
        except OverflowError as error:
            raise ValueError(f"{what}: a value is out of the range of {dtype_name(dtype)}") from error
        return tensor
    field, code = _NUMBERS[dtype]
    try:
        # Also the check that every number is within the range of its type.
        tensor.tensor_content = struct.pack(f"<{len(values)}{code}", *values)
    except (struct.error, OverflowError) as error:
        raise ValueError(f"{what}: a value is out of the range of {dtype_name(dtype)}") from error
    if len(values) == 1:
        getattr(tensor, field).append(values[0])
        tensor.tensor_content = b""
    return tensor


def _flatten(value: Any, shape: Sequence[int], what: str, place: str) -> Iterator[Any]:
    if not shape:
        if isinstance(value, (list, tuple)):
            raise ValueError(f"{what}: lists are nested to different depths: at {place} is a list, before it are none")
        yield value
        return
    if not isinstance(value, (list, tuple)) or len(value) != shape[0]:
        found = f"a list of {len(value)}" if isinstance(value, (list, tuple)) else "no list"
        raise ValueError(
            f"{what}: lists of one level have different lengths or depths: at {place} is {found}, before it are lists "
            f"of {shape[0]}"
        )
    for index, item in enumerate(value):
        yield from _flatten(item, shape[1:], what, f"{place}[{index}]")


def _half_bits(value: float, dtype: pb.DataType) -> int:
    """The 16 bits of a half type, rounded to nearest, ties to even.

    Raises:
        OverflowError: a number beyond the type's range.
    """
    if dtype == pb.DT_HALF:
        return int(struct.unpack("<H", struct.pack("<e", value))[0])
    if math.isnan(value):
        return 0x7FC0
    bits = int(struct.unpack("<I", struct.pack("<f", value))[0])
    return (bits + 0x7FFF + (bits >> 16 & 1)) >> 16


def _half_value(bits: int, dtype: pb.DataType) -> float:
    packed = struct.pack("<H", bits) if dtype == pb.DT_HALF else struct.pack("<I", bits << 16)
    return float(struct.unpack("<e" if dtype == pb.DT_HALF else "<f", packed)[0])


def _fits(value: Any, dtype: pb.DataType) -> bool:
    if dtype == pb.DT_BOOL:
        return isinstance(value, bool)
    if isinstance(value, bool):
        return False
    return isinstance(value, (int, float) if dtype in _FLOATS else int)


def _bytes(value: Any, what: str) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, Mapping) and set(value) == {"b64"} and isinstance(value["b64"], str):
        try:
            return base64.b64decode(value["b64"], validate=True)
        except binascii.Error as error:
            raise ValueError(f"{what}: b64 holds no base64 text") from error
    raise ValueError(f"{what}: {_shown(value)} is not a text or {{'b64': ...}}")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def decode(tensor: pb.TensorProto, name: str) -> Any:
    """A tensor as a scalar or nested lists.

    Args:
        tensor: with ``tensor_content`` or typed fields.
        name: the output's name: bytes come as ``{"b64": ...}`` where it ends in ``_bytes``, and where they are no
            UTF-8; as text elsewhere.

    Raises:
        ValueError: a data type that is not offered, or fewer or more values than the shape has.
    """
    shape = [dim.size for dim in tensor.tensor_shape.dim]
    count = math.prod(shape)
    values: list[Any]
    if tensor.dtype == pb.DT_STRING:
        values = [_text(item, name) for item in tensor.string_val]
    elif tensor.dtype in _HALVES:
        bits = list(tensor.half_val)
        if tensor.tensor_content:
            if len(tensor.tensor_content) != count * 2:
                raise ValueError(f"output {name}: {len(tensor.tensor_content)} bytes do not fill shape {shape}")
            bits = list(struct.unpack(f"<{count}H", tensor.tensor_content))
        values = [_half_value(each & 0xFFFF, tensor.dtype) for each in bits]
    elif tensor.dtype in _NUMBERS:
        field, code = _NUMBERS[tensor.dtype]
        if tensor.tensor_content:
            size = struct.calcsize(f"<{code}")
            if len(tensor.tensor_content) != count * size:
                raise ValueError(f"output {name}: {len(tensor.tensor_content)} bytes do not fill shape {shape}")
            values = list(struct.unpack(f"<{count}{code}", tensor.tensor_content))
        else:
            values = list(getattr(tensor, field))
    else:
        raise ValueError(f"output {name}: tensors of type {dtype_name(tensor.dtype)} cannot be read as plain values")
    if values and len(values) < count:
        # TensorProto: the last value stands for all that are left out.
        values += [values[-1]] * (count - len(values))
    if len(values) != count:
        raise ValueError(f"output {name}: {len(values)} values do not fill shape {shape}")
    return _nest(iter(values), shape)


def _text(value: bytes, name: str) -> Any:
    if not name.endswith("_bytes"):
        with contextlib.suppress(UnicodeDecodeError):
            return value.decode()
    return {"b64": base64.b64encode(value).decode()}


def _nest(values: Iterator[Any], shape: Sequence[int]) -> Any:
    if not shape:
        return next(values)
    return [_nest(values, shape[1:]) for _ in range(shape[0])]
