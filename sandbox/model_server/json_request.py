"""Requests in JSON: parsed with RapidJSON's rules and messages, turned into tensors.

Source: ``util/json_tensor.cc``.
"""

from __future__ import annotations

import base64
import binascii
import itertools
import re
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from sandbox.model_server import json_parser
from sandbox.model_server.json_writer import debug_text
from sandbox.model_server.status import StatusError, invalid_argument, unimplemented
from sandbox.model_server.tensors import Array, numpy_type, type_name

Format = Literal["row", "columnar"]

# Data type: (lowest, highest) integer it takes in JSON. The narrow ones are only checked for 32 bits.
_INT32 = (-(2**31), 2**31 - 1)
_INTEGERS = {
    "DT_INT8": _INT32,
    "DT_INT16": _INT32,
    "DT_INT32": _INT32,
    "DT_UINT8": _INT32,
    "DT_INT64": (-(2**63), 2**63 - 1),
    "DT_UINT32": (0, 2**32 - 1),
    "DT_UINT64": (0, 2**64 - 1),
}
_MAX_DIMENSIONS = 64
"""Of a NumPy array; TensorFlow's own limit is 254, and no operation takes as many."""
_FLOATS = ("DT_FLOAT", "DT_DOUBLE")


def json_type(value: Any) -> str:
    """RapidJSON's name of a value's type."""
    if value is None:
        return "Null"
    if isinstance(value, bool):
        return "True" if value else "False"
    if isinstance(value, dict):
        return "Object"
    if isinstance(value, list):
        return "Array"
    return "String" if isinstance(value, str) else "Number"


def _short_type(name: str) -> str:
    return name.removeprefix("DT_").lower()


def parse_object(body: bytes) -> dict[str, Any]:
    """The JSON object a body starts with; whatever follows it is ignored.

    Raises:
        StatusError: ``INVALID_ARGUMENT``, with RapidJSON's reason and the byte offset.
    """
    if not body:
        raise invalid_argument("JSON Parse error: The document is empty")
    try:
        value = json_parser.parse(body)
    except json_parser.ParseError as error:
        raise invalid_argument(f"JSON Parse error: {error}") from None
    if not isinstance(value, dict):
        raise invalid_argument(f"JSON Value: {debug_text(value)} Is not object")
    return value


def signature_name(document: Mapping[str, Any]) -> str:
    """The optional ``signature_name``; empty where there is none.

    Raises:
        StatusError: it is not a string.
    """
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise invalid_argument(
            f"JSON Value: {debug_text(document)} not formatted correctly. 'signature_name' key must be a string value."
        )
    return name


def tensors(document: Mapping[str, Any], inputs: Mapping[str, Any], signature: str) -> tuple[Format, dict[str, Array]]:
    """The tensors of a predict request.

    Args:
        inputs: the signature's ``TensorInfo`` by alias.
        signature: its name, for a message.

    Raises:
        StatusError: neither or both of ``instances`` and ``inputs``, or values that do not make tensors of these types.
    """
    if not inputs:
        raise invalid_argument(f"Failed to get input map for signature: {signature or 'DEFAULT'}")
    types = {alias: type_name(inputs[alias].dtype) for alias in sorted(inputs)}
    if "instances" in document and "inputs" in document:
        raise format_error(
            document, "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist "
        )
    for key in ("instances", "inputs"):
        _check_rank(document.get(key), types)
    if "instances" in document:
        instances = document["instances"]
        if not isinstance(instances, list):
            raise format_error(document, "Expecting 'instances' to be an list/array")
        if not instances:
            raise format_error(document, "No values in 'instances' array")
        return "row", _row_tensors(instances, types)
    if "inputs" in document:
        return "columnar", _columnar_tensors(document["inputs"], types)
    raise invalid_argument("Missing 'inputs' or 'instances' key")


def _check_rank(value: Any, types: Mapping[str, str]) -> None:
    """Refuses lists nested deeper than a tensor has dimensions, as the tensor itself would.

    Raises:
        StatusError: ``INVALID_ARGUMENT``.
    """
    values = list(value.values()) if _is_object(value) else [value]
    if isinstance(value, list):
        values += [item for row in value if _is_object(row) for item in row.values()]
    if any(len(_dense_shape(item)) > _MAX_DIMENSIONS for item in values):
        raise invalid_argument(f"tensor parsing error: {next(iter(types))}")


def format_error(value: Any, message: str) -> StatusError:
    """``INVALID_ARGUMENT`` that shows the value first."""
    return invalid_argument(f"JSON Value: {debug_text(value)} {message}")


def is_b64(value: Any) -> bool:
    """Whether a value is ``{\"b64\": \"...\"}``: bytes in JSON."""
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get("b64"), str)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict) and not is_b64(value)


def _row_tensors(instances: list[Any], types: Mapping[str, str]) -> dict[str, Array]:
    if not isinstance(instances[0], dict) and len(types) > 1:
        raise invalid_argument(
            "instances is a plain list, but expecting list of objects as multiple input tensors required as per "
            "tensorinfo_map"
        )
    if not _is_object(instances[0]):
        alias, dtype = next(iter(types.items()))
        array = _fast_array(instances, dtype)
        return {alias: array if array is not None else _row_values(instances, alias, dtype)}
    columns: dict[str, _Column] = {alias: _Column(dtype) for alias, dtype in types.items()}
    for index, item in enumerate(instances):
        if not _is_object(item):
            raise invalid_argument(f"Expecting object but got list at item {index} of input list")
        for alias, value in item.items():
            try:
                if alias not in columns:
                    raise invalid_argument(f"JSON object: does not have named input: {alias}")
                columns[alias].add(value)
            except StatusError as error:
                raise invalid_argument(
                    f"Failed to process element: {index} key: {alias} of 'instances' list. Error: {error}"
                ) from None
        if item.keys() != types.keys():
            raise invalid_argument(
                f"Failed to process element: {index} of 'instances' list. JSON object: {debug_text(item)} keys must be "
                f"equal to: {','.join(types)}"
            )
    return {alias: column.array(len(instances)) for alias, column in columns.items()}


def _row_values(instances: list[Any], alias: str, dtype: str) -> Array:
    column = _Column(dtype)
    for index, item in enumerate(instances):
        if _is_object(item):
            raise invalid_argument(f"Expecting value/list but got object at item {index} of input list")
        try:
            column.add(item)
        except StatusError as error:
            raise invalid_argument(f"Failed to process element: {index} of 'instances' list. Error: {error}") from None
    return column.array(len(instances))


class _Column:
    """One input gathered over the items of ``instances``: all of the first one's shape."""

    def __init__(self, dtype: str) -> None:
        self._dtype = dtype
        self._values: list[Any] = []
        self._shape: list[int] | None = None
        self._size = 0

    def add(self, value: Any) -> None:
        shape = _dense_shape(value)
        before = len(self._values)
        _fill(value, 0, shape, self._dtype, self._values)
        size = len(self._values) - before
        if self._shape is None:
            self._shape, self._size = shape, size
        elif size != self._size:
            raise invalid_argument(f"Expecting tensor size: {self._size} but got: {size}")
        elif shape != self._shape:
            raise invalid_argument(f"Expecting shape {_shape_text(self._shape)} but got: {_shape_text(shape)}")

    def array(self, count: int) -> Array:
        return _array(self._values, self._dtype, [count, *(self._shape or [])])


def _columnar_tensors(value: Any, types: Mapping[str, str]) -> dict[str, Array]:
    if not _is_object(value):
        if len(types) > 1:
            raise invalid_argument(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required as per "
                "tensorinfo_map"
            )
        alias, dtype = next(iter(types.items()))
        return {alias: _dense(value, dtype)}
    arrays: dict[str, Array] = {}
    for alias, dtype in types.items():
        if alias not in value:
            raise invalid_argument(f"Missing named input: {alias} in 'inputs' object.")
        arrays[alias] = _dense(value[alias], dtype)
    return arrays


def _dense(value: Any, dtype: str) -> Array:
    array = _fast_array(value, dtype) if isinstance(value, list) else None
    if array is not None:
        return array
    shape = _dense_shape(value)
    values: list[Any] = []
    _fill(value, 0, shape, dtype, values)
    return _array(values, dtype, shape)


def _shape_text(shape: list[int]) -> str:
    return "[" + ",".join(map(str, shape)) + "]"


def _dense_shape(value: Any) -> list[int]:
    """The shape of a nested list, from the first item of each level."""
    shape: list[int] = []
    while isinstance(value, list):
        shape.append(len(value))
        if not value:
            break
        value = value[0]
    return shape


def _fill(value: Any, level: int, shape: list[int], dtype: str, values: list[Any]) -> None:
    """Appends every element below a value, checking that all lists have the shape."""
    if not isinstance(value, list):
        if level != len(shape):
            raise invalid_argument(
                f"JSON Value: {debug_text(value)} found at incorrect level: {level + 1} in the JSON DOM. Expected at "
                f"level: {len(shape)}"
            )
        values.append(_element(value, dtype))
        return
    if level >= len(shape):
        raise invalid_argument(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
    if len(value) != shape[level]:
        raise invalid_argument(
            f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: {shape[level]}"
        )
    for item in value:
        _fill(item, level + 1, shape, dtype, values)


def _element(value: Any, dtype: str) -> Any:
    if isinstance(value, dict):
        if dtype != "DT_STRING":
            raise _type_error(value, dtype)
        return decode_b64(value)
    if dtype in _FLOATS:
        accepted = type(value) in (int, float)
    elif dtype in _INTEGERS:
        low, high = _INTEGERS[dtype]
        accepted = type(value) is int and low <= value <= high
    elif dtype == "DT_BOOL":
        accepted = type(value) is bool
    elif dtype == "DT_STRING":
        if type(value) is str:
            return value.encode("utf-8", "surrogateescape")
        accepted = False
    else:
        raise unimplemented(f"Conversion of JSON Value: {debug_text(value)} to type: {_short_type(dtype)}")
    if not accepted:
        raise _type_error(value, dtype)
    return value


def _type_error(value: Any, dtype: str) -> StatusError:
    return invalid_argument(
        f"JSON Value: {debug_text(value)} Type: {json_type(value)} is not of expected type: {_short_type(dtype)}"
    )


def decode_b64(value: Any) -> bytes:
    """The bytes of a ``b64`` object.

    Raises:
        StatusError: it is no such object, or not base64.
    """
    if not is_b64(value):
        raise invalid_argument(f"JSON Value: {debug_text(value)} not formatted correctly for base64 data")
    text = re.sub(r"[ \t\r\n\v\f]", "", value["b64"]).rstrip("=")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise invalid_argument("Unable to base64 decode") from None


def _array(values: list[Any], dtype: str, shape: list[int]) -> Array:
    if dtype == "DT_STRING":
        array = np.empty(len(values), object)
        array[:] = values
    elif dtype in _FLOATS:
        with np.errstate(over="ignore"):
            array = np.array(values, np.float64).astype(numpy_type(dtype))
    elif _INTEGERS.get(dtype) == _INT32:
        # Wider values wrap, as they do on their way through the int field of TensorProto.
        array = np.array(values, np.int32).astype(numpy_type(dtype))
    else:
        array = np.array(values, numpy_type(dtype))
    return array.reshape(shape)


def _fast_array(value: list[Any], dtype: str) -> Array | None:
    """The tensor of a regular nested list of numbers; ``None`` sends the rest to the thorough way and its messages."""
    shape = _dense_shape(value)
    flat = value
    for size in shape[1:]:
        if set(map(type, flat)) != {list} or set(map(len, flat)) != {size}:
            return None
        flat = list(itertools.chain.from_iterable(flat))
    types = set(map(type, flat))
    if dtype in _FLOATS and types <= {int, float}:
        return _array(flat, dtype, shape)
    if dtype in _INTEGERS and types == {int}:
        low, high = _INTEGERS[dtype]
        if low <= min(flat) and max(flat) <= high:
            return _array(flat, dtype, shape)
    return None
