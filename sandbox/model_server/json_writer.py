"""JSON as TensorFlow Serving lays it out: RapidJSON's ``PrettyWriter`` with its single-line arrays.

Source: ``util/json_tensor.cc`` (layout, number formats), ``http_rest_api_util.cc`` (status and metadata),
``rapidjson/prettywriter.h``. Text that is not UTF-8 passes through as it is (``surrogateescape``).
"""

from __future__ import annotations

import base64
import contextlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from sandbox.model_server.status import invalid_argument
from sandbox.model_server.tensors import Array, to_bytes

DEBUG_BYTES = 256
"""Longer values are cut off in error messages."""

_ESCAPES = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_CONTROL = {code: f"\\u{code:04X}" for code in range(0x20)} | {ord(key): value for key, value in _ESCAPES.items()}
_TYPE_NAMES = {"float32": "float", "float64": "double", "float16": "half"}


def quote(text: str) -> str:
    """A JSON string; everything but control characters, quotes and backslashes stays as it is."""
    return '"' + text.translate(_CONTROL) + '"'


class _LimitReached(Exception):
    pass


class PrettyWriter:
    """Four spaces for each level; in single-line mode arrays separate their items by a comma and a space."""

    def __init__(self, limit: int | None = None) -> None:
        self.single_line = False
        self._parts: list[str] = []
        self._levels: list[list[Any]] = []  # [in array, values so far]
        self._limit = limit
        self._size = 0

    def text(self) -> str:
        """What was written so far."""
        return "".join(self._parts)

    def _put(self, text: str) -> None:
        self._parts.append(text)
        if self._limit is not None:
            self._size += len(text.encode("utf-8", "surrogateescape"))

    def _newline(self) -> None:
        self._put("\n" + "    " * len(self._levels))

    def _prefix(self) -> None:
        if self._limit is not None and self._size >= self._limit:
            raise _LimitReached
        if not self._levels:
            return
        level = self._levels[-1]
        in_array, count = level
        if in_array:
            if count:
                self._put(", " if self.single_line else ",")
            if not self.single_line:
                self._newline()
        else:
            if count:
                self._put(": " if count % 2 else ",")
            if count % 2 == 0:
                self._newline()
        level[1] += 1

    def start(self, *, array: bool) -> None:
        """Opens an array or an object."""
        self._prefix()
        self._put("[" if array else "{")
        self._levels.append([array, 0])

    def end(self) -> None:
        """Closes what was opened last."""
        if self._limit is not None and self._size >= self._limit:
            raise _LimitReached
        array, count = self._levels.pop()
        if count and not (array and self.single_line):
            self._newline()
        self._put("]" if array else "}")

    def raw(self, text: str) -> None:
        """Writes a value, or a key, already in JSON."""
        self._prefix()
        self._put(text)

    def raws(self, texts: Sequence[str]) -> None:
        """Writes several values into the array that is open."""
        if not texts:
            return
        self.raw(texts[0])
        separator = ", " if self.single_line else ",\n" + "    " * len(self._levels)
        self._put("".join(separator + text for text in texts[1:]))
        self._levels[-1][1] += len(texts) - 1

    def value(self, value: Any) -> None:
        """Writes a value as ``json`` reads it."""
        if isinstance(value, list):
            self.start(array=True)
            for item in value:
                self.value(item)
            self.end()
        elif isinstance(value, dict):
            self.start(array=False)
            for key, item in value.items():
                self.raw(quote(key))
                self.value(item)
            self.end()
        elif isinstance(value, str):
            self.raw(quote(value))
        else:
            self.raw(json.dumps(value))


def debug_text(value: Any) -> str:
    """A request value for an error message, cut off where it gets long."""
    writer = PrettyWriter(DEBUG_BYTES)
    writer.single_line = True
    with contextlib.suppress(_LimitReached):
        writer.value(value)
    return writer.text()


def decimals(values: Array) -> list[str]:
    """Floats or doubles as JSON numbers: six digits if that reads back the same, else all of them, always a decimal."""
    numbers = values.ravel().tolist()
    texts = [f"{number:g}" for number in numbers]
    with np.errstate(over="ignore"):
        back = np.array([float(text) for text in texts], np.float64).astype(values.dtype)
    digits = 9 if values.dtype == np.float32 else 17
    for index in np.flatnonzero(back != values.ravel()):
        texts[index] = f"{numbers[index]:.{digits}g}"
    return [_finished(text, number) for text, number in zip(texts, numbers, strict=True)]


def _finished(text: str, number: float) -> str:
    if math.isfinite(number):
        return text if "." in text or "e" in text else text + ".0"
    if math.isnan(number):
        return "NaN"
    return "Infinity" if number > 0 else "-Infinity"


def _elements(alias: str, array: Array) -> list[str]:
    """Every element of a tensor as JSON, in row-major order."""
    kind = array.dtype.kind
    if array.dtype in (np.float32, np.float64):
        return decimals(array)
    if kind == "b":
        return ["true" if value else "false" for value in array.ravel().tolist()]
    if kind in "iu" and array.dtype != np.uint16:
        return [str(value) for value in array.ravel().tolist()]
    if kind in "OSU":
        return [_string(to_bytes(value), alias.endswith("_bytes")) for value in array.ravel()]
    name = _TYPE_NAMES.get(array.dtype.name, array.dtype.name)
    raise invalid_argument(f"Failed to write JSON value for tensor type: {name}")


def _string(value: bytes, as_bytes: bool) -> str:
    if as_bytes:
        # The object is written by `_write`, which knows how deep it stands.
        return base64.b64encode(value).decode()
    return quote(value.decode("utf-8", "surrogateescape"))


def _write(writer: PrettyWriter, elements: list[str], shape: Sequence[int], b64: bool) -> None:
    """Writes a tensor, or a slice of one, from its elements."""
    if not shape:
        _write_all(writer, elements, b64)
        return
    writer.start(array=True)
    if len(shape) == 1:
        _write_all(writer, elements, b64)
    else:
        step = math.prod(shape[1:])
        for index in range(shape[0]):
            _write(writer, elements[index * step : (index + 1) * step], shape[1:], b64)
    writer.end()


def _write_all(writer: PrettyWriter, elements: list[str], b64: bool) -> None:
    if b64:
        for element in elements:
            writer.start(array=False)
            writer.raw('"b64"')
            writer.raw(f'"{element}"')
            writer.end()
    elif len(elements) == 1:
        writer.raw(elements[0])
    else:
        writer.raws(elements)


def _is_b64(alias: str, array: Array) -> bool:
    return array.dtype.kind in "OSU" and alias.endswith("_bytes")


def predictions(outputs: Mapping[str, Array]) -> str:
    """Row format: one prediction for each item of the batch.

    Raises:
        StatusError: a scalar output, outputs of unequal batch size, or of a type JSON cannot hold.
    """
    size = -1
    for alias, array in outputs.items():
        if array.ndim == 0:
            raise invalid_argument(f"Tensor name: {alias} has no shape information ")
        if size >= 0 and len(array) != size:
            raise invalid_argument(f"Tensor name: {alias} has inconsistent batch size: {len(array)} expecting: {size}")
        size = len(array)
    elements = {alias: _elements(alias, array) for alias, array in outputs.items()}
    named = len(outputs) > 1
    writer = PrettyWriter()
    writer.start(array=False)
    writer.raw('"predictions"')
    writer.start(array=True)
    for item in range(size):
        if named:
            writer.start(array=False)
        writer.single_line = True
        for alias, array in outputs.items():
            if named:
                writer.raw(quote(alias))
            step = math.prod(array.shape[1:])
            part = elements[alias][item * step : (item + 1) * step]
            _write(writer, part, array.shape[1:], _is_b64(alias, array))
        writer.single_line = False
        if named:
            writer.end()
    writer.end()
    writer.end()
    return writer.text()


def outputs(values: Mapping[str, Array]) -> str:
    """Columnar format: whole tensors, by name where there are several.

    Raises:
        StatusError: an output of a type JSON cannot hold.
    """
    writer = PrettyWriter()
    writer.start(array=False)
    writer.raw('"outputs"')
    named = len(values) > 1
    if named:
        writer.start(array=False)
    for alias, array in values.items():
        if named:
            writer.raw(quote(alias))
        _write(writer, _elements(alias, array), array.shape, _is_b64(alias, array))
    if named:
        writer.end()
    writer.end()
    return writer.text()


def classifications(result: Any) -> str:
    """A ``ClassificationResult``: for each example its ``[label, score]`` pairs.

    Raises:
        StatusError: there are none.
    """
    if not result.classifications:
        raise invalid_argument("Cannot convert empty ClassificationResults to JSON")
    writer = PrettyWriter()
    writer.start(array=False)
    writer.raw('"results"')
    writer.start(array=True)
    for item in result.classifications:
        writer.single_line = True
        writer.start(array=True)
        for one in item.classes:
            writer.start(array=True)
            writer.raw(quote(one.label))
            writer.raws(decimals(np.array([one.score], np.float32)))
            writer.end()
        writer.end()
        writer.single_line = False
    writer.end()
    writer.end()
    return writer.text()


def regressions(result: Any) -> str:
    """A ``RegressionResult``: one value for each example, all on one line.

    Raises:
        StatusError: there are none.
    """
    if not result.regressions:
        raise invalid_argument("Cannot convert empty RegressionResults to JSON")
    writer = PrettyWriter()
    writer.start(array=False)
    writer.raw('"results"')
    writer.single_line = True
    writer.start(array=True)
    writer.raws(decimals(np.array([item.value for item in result.regressions], np.float32)))
    writer.end()
    writer.end()
    return writer.text()


def error(message: str) -> str:
    """The body of every error answer."""
    writer = PrettyWriter()
    writer.value({"error": message})
    return writer.text()


# Protos, as MessageToJsonString of the C++ library prints them with add_whitespace and all fields without presence.


def message(proto: Any) -> str:
    """A message with its proto field names, one space for each level, fields by number, and a final newline."""
    return _message(proto, "") + "\n"


def _message(proto: Any, indent: str) -> str:
    inner = indent + " "
    lines: list[str] = []
    for field in sorted(proto.DESCRIPTOR.fields, key=lambda item: item.number):
        repeated = field.is_repeated
        if field.has_presence and not repeated and not proto.HasField(field.name):
            continue
        value = getattr(proto, field.name)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            text = _object(value, field.message_type.fields_by_name["value"], inner)
        elif repeated:
            text = _list([_scalar(item, field, inner + " ") for item in value], inner)
        else:
            text = _scalar(value, field, inner)
        lines.append(f'{inner}"{field.name}": {text}')
    return "{\n" + ",\n".join(lines) + f"\n{indent}}}" if lines else "{}"


def _list(items: Iterable[str], indent: str) -> str:
    lines = [f"{indent} {item}" for item in items]
    return "[\n" + ",\n".join(lines) + f"\n{indent}]" if lines else "[]"


def _object(mapping: Any, field: Any, indent: str) -> str:
    lines = [
        f"{indent} {json.dumps(str(key))}: {_scalar(mapping[key], field, indent + ' ')}" for key in sorted(mapping)
    ]
    return "{\n" + ",\n".join(lines) + f"\n{indent}}}" if lines else "{}"


def _scalar(value: Any, field: Any, indent: str) -> str:
    if field.message_type is not None:
        if field.message_type.full_name == "google.protobuf.Int64Value":
            return f'"{value.value}"'
        return _message(value, indent)
    if field.enum_type is not None:
        known = field.enum_type.values_by_number.get(value)
        return json.dumps(known.name) if known else str(value)
    if field.type in (field.TYPE_INT64, field.TYPE_UINT64):
        return f'"{value}"'
    if field.type == field.TYPE_BYTES:
        return f'"{base64.b64encode(value).decode()}"'
    return json.dumps(value)
