"""What a model of TensorFlow Lite takes and gives, read off ``model.tflite`` without TensorFlow.

What TensorFlow Serving makes of the file (``servables/tensorflow/tflite_session.cc``): one signature,
``serving_default``, over the inputs and outputs of the first subgraph, by the names of their tensors. The signatures
of the file itself (``signature_defs``) are for other programs; it goes by a SignatureDef in the file's metadata alone,
which no converter writes today, and which is not read here: then nothing is known.

The file is a FlatBuffer (``tensorflow/lite/schema/schema.fbs``). Only the few tables on the way to these tensors are
read, each by reads of some bytes whose places are compared with the size of the file: a damaged or hostile one costs
no more than a sound one, and what it holds beside that, its weights, is never read.
"""

from __future__ import annotations

import struct
from typing import BinaryIO, Final

from tfserving.errors import SavedModelError

MARK: Final = b"TFL3"
"""What stands behind the first four bytes of every such file."""

Tensor = tuple[str, tuple[int | None, ...]]
"""Type and shape; ``None`` for a size that a request may choose."""

_SCHEMA = 3
_RENAMES = b"signature_defs_metadata"
_MOST_TENSORS = 1000
"""Inputs, outputs and entries of metadata; more of them nobody means."""
_MOST_SIZES = 64
_MOST_NAME = 4096

_TYPES = (
    *("float32", "float16", "int32", "uint8", "int64", "string", "bool", "int16", "complex64", "int8", "float64"),
    *("complex128", "uint64", "resource", "variant", "uint32", "uint16", "int4", "bfloat16", "int2", "uint4"),
)
"""``TensorType`` by number, in TensorFlow's words."""


class _Slot:
    """Places of fields in vtables: 4 bytes, and 2 for each field before."""

    MODEL_VERSION, MODEL_SUBGRAPHS, MODEL_METADATA = 4, 8, 16
    GRAPH_TENSORS, GRAPH_INPUTS, GRAPH_OUTPUTS = 4, 6, 8
    TENSOR_SHAPE, TENSOR_TYPE, TENSOR_NAME, TENSOR_OPEN_SHAPE = 4, 6, 10, 18
    METADATA_NAME = 4


def read(file: BinaryIO) -> tuple[dict[str, Tensor], dict[str, Tensor]] | None:
    """Inputs and outputs of a model by name; ``None`` where a SignatureDef in the file names them otherwise.

    Args:
        file: can be read at any place.

    Raises:
        SavedModelError: it is no such model, or cut off, or leads to places outside of it. The rest of a sentence that
            begins with the file's name.
    """
    buffer = _Buffer(file)
    if buffer.span(4, 4) != MARK:
        raise SavedModelError("is no model of TensorFlow Lite")
    model = buffer.follow(0)
    version = buffer.number(model, _Slot.MODEL_VERSION, "<I")
    if version != _SCHEMA:
        raise SavedModelError(f"is of version {version} of the format, and TensorFlow Serving reads version {_SCHEMA}")
    if any(_renames(buffer, each) for each in buffer.tables(model, _Slot.MODEL_METADATA, _MOST_TENSORS)):
        return None
    graphs = buffer.vector(model, _Slot.MODEL_SUBGRAPHS)
    if graphs is None or not graphs[1]:
        raise SavedModelError("holds no graph")
    graph = buffer.follow(graphs[0])
    inputs, outputs = (
        _tensors(buffer, graph, slot, what)
        for slot, what in ((_Slot.GRAPH_INPUTS, "inputs"), (_Slot.GRAPH_OUTPUTS, "outputs"))
    )
    return inputs, outputs


def _renames(buffer: _Buffer, metadata: int) -> bool:
    return buffer.text(metadata, _Slot.METADATA_NAME) == _RENAMES


def _tensors(buffer: _Buffer, graph: int, slot: int, what: str) -> dict[str, Tensor]:
    tensors = buffer.vector(graph, _Slot.GRAPH_TENSORS)
    found: dict[str, Tensor] = {}
    for index in buffer.numbers(graph, slot, _MOST_TENSORS) or ():
        if tensors is None or not 0 <= index < tensors[1]:
            raise _Damaged
        at = buffer.follow(tensors[0] + 4 * index)
        try:
            name = buffer.text(at, _Slot.TENSOR_NAME).decode()
        except UnicodeDecodeError:
            raise _Damaged from None
        if not name or name in found:
            said = f"two {what} with the name {name}" if name else f"{what} without a name"
            raise SavedModelError(f"has {said}, which TensorFlow Serving refuses")
        kind = buffer.number(at, _Slot.TENSOR_TYPE, "<b")
        shape = buffer.numbers(at, _Slot.TENSOR_OPEN_SHAPE, _MOST_SIZES)
        if not shape:  # written only where a size is open
            shape = buffer.numbers(at, _Slot.TENSOR_SHAPE, _MOST_SIZES) or ()
        dtype = _TYPES[kind] if 0 <= kind < len(_TYPES) else f"type {kind}"
        found[name] = (dtype, tuple(None if size < 0 else size for size in shape))
    return found


class _Damaged(SavedModelError):
    """A place outside of the file, or more of something than anybody writes."""

    def __init__(self) -> None:
        super().__init__("is damaged, or cut off: what it names lies outside of it")


class _Buffer:
    """A FlatBuffer: numbers, tables, vectors and texts by their places in the file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._size = file.seek(0, 2)

    def span(self, place: int, size: int) -> bytes:
        if not 0 <= place <= self._size - size:
            raise _Damaged
        self._file.seek(place)
        found = self._file.read(size)
        if len(found) != size:  # it was cut off since
            raise _Damaged
        return found

    def follow(self, place: int) -> int:
        """Where the offset at a place leads."""
        return place + self._at(place, "<I")

    def number(self, table: int, slot: int, form: str) -> int:
        """A field; 0, the default of all that are read here, where it is not there."""
        place = self._field(table, slot)
        return 0 if place is None else self._at(place, form)

    def vector(self, table: int, slot: int) -> tuple[int, int] | None:
        """Place of the first entry and number of entries; ``None`` where there is none."""
        place = self._field(table, slot)
        if place is None:
            return None
        start = self.follow(place)
        return start + 4, self._at(start, "<I")

    def numbers(self, table: int, slot: int, most: int) -> tuple[int, ...] | None:
        """A vector of numbers."""
        found = self.vector(table, slot)
        if found is None:
            return None
        if found[1] > most:
            raise _Damaged
        return struct.unpack(f"<{found[1]}i", self.span(found[0], 4 * found[1]))

    def tables(self, table: int, slot: int, most: int) -> tuple[int, ...]:
        """A vector of tables."""
        found = self.vector(table, slot)
        if found is None:
            return ()
        if found[1] > most:
            raise _Damaged
        return tuple(self.follow(found[0] + 4 * index) for index in range(found[1]))

    def text(self, table: int, slot: int) -> bytes:
        """A text; empty where there is none."""
        found = self.vector(table, slot)
        if found is None:
            return b""
        if found[1] > _MOST_NAME:
            raise _Damaged
        return self.span(*found)

    def _field(self, table: int, slot: int) -> int | None:
        vtable = table - self._at(table, "<i")
        if slot + 2 > self._at(vtable, "<H"):
            return None
        offset = self._at(vtable + slot, "<H")
        return table + offset if offset else None

    def _at(self, place: int, form: str) -> int:
        return int(struct.unpack(form, self.span(place, struct.calcsize(form)))[0])
