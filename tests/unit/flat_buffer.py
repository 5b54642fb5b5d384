"""Writes small FlatBuffers: enough for a model of TensorFlow Lite with inputs and outputs."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence

Part = Callable[[bytearray], int]
"""Appends itself to a buffer, and says where it begins."""


def text(value: bytes) -> Part:
    def write(data: bytearray) -> int:
        start = len(data)
        data += struct.pack("<I", len(value)) + value + b"\0" * (4 - len(value) % 4)
        return start

    return write


def numbers(values: Sequence[int]) -> Part:
    def write(data: bytearray) -> int:
        start = len(data)
        data += struct.pack(f"<I{len(values)}i", len(values), *values)
        return start

    return write


def tables(parts: Sequence[Part]) -> Part:
    def write(data: bytearray) -> int:
        start = len(data)
        data += struct.pack("<I", len(parts)) + bytes(4 * len(parts))
        for index, part in enumerate(parts):
            lead(data, start + 4 + 4 * index, part)
        return start

    return write


def table(fields: Mapping[int, Part | int]) -> Part:
    """A table; numbers take four bytes, and their first one is the number where a field takes only that."""

    def write(data: bytearray) -> int:
        last = max(fields, default=2)
        vtable = len(data)
        size = (last + 2 + 3) // 4 * 4
        start = vtable + size
        data += bytes(size)
        struct.pack_into("<HH", data, vtable, last + 2, 4 + 4 * len(fields))
        data += struct.pack("<i", start - vtable) + bytes(4 * len(fields))
        for index, (slot, value) in enumerate(fields.items()):
            struct.pack_into("<H", data, vtable + slot, 4 + 4 * index)
            if isinstance(value, int):
                struct.pack_into("<i", data, start + 4 + 4 * index, value)
        for index, value in enumerate(fields.values()):
            if not isinstance(value, int):
                lead(data, start + 4 + 4 * index, value)
        return start

    return write


def lead(data: bytearray, place: int, part: Part) -> None:
    """Write a part, and lead there from a place."""
    struct.pack_into("<I", data, place, part(data) - place)


def tensor(name: str, shape: Sequence[int], kind: int = 0, open_shape: Sequence[int] = ()) -> Part:
    fields: dict[int, Part | int] = {4: numbers(shape), 6: kind, 10: text(name.encode())}
    return table(fields | ({18: numbers(open_shape)} if open_shape else {}))


def model(
    inputs: Sequence[Part],
    outputs: Sequence[Part],
    *,
    version: int = 3,
    metadata: Sequence[bytes] = (),
    graphs: int = 1,
) -> bytes:
    """``model.tflite`` with these tensors."""
    several = [*inputs, *outputs]
    numbered = range(len(several))
    graph = table({4: tables(several), 6: numbers(numbered[: len(inputs)]), 8: numbers(numbered[len(inputs) :])})
    named = tables([table({4: text(each)}) for each in metadata])
    data = bytearray(b"\0\0\0\0TFL3")
    lead(data, 0, table({4: version, 8: tables([graph] * graphs), 16: named}))
    return bytes(data)
