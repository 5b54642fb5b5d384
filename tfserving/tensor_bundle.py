"""``variables.index``: which tensors a checkpoint holds, where in its shards, and with what checksum.

The file is a sorted table in LevelDB's format (``tensorflow/core/lib/io/format.cc``): blocks of entries whose keys
share prefixes, each block followed by one byte for its compression and its masked CRC-32C, and at the end a footer that
says where the index of the blocks is. Keys are names of tensors, values ``BundleEntryProto``; the empty key holds
``BundleHeaderProto`` (``tensorflow/core/protobuf/tensor_bundle.proto``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import fastcrc
from google.protobuf.message import DecodeError

from tfserving.manifest import crc64
from tfserving.protos import tf_serving_pb2 as pb

_FOOTER_BYTES = 48
_TRAILER_BYTES = 5
_MAX_SHARDS = 99_999  # their number has five digits in the names of the files
_MAGIC = (0xDB4775248B80FB57).to_bytes(8, "little")
# Their checksum is not that of the bytes in the shard: lengths are counted in another form.
_OTHER_CHECKSUMS = frozenset({pb.DT_STRING, pb.DT_RESOURCE, pb.DT_VARIANT})


class _DamagedError(Exception):
    """No table, or one whose checksums are wrong."""


class _CompressedError(Exception):
    """A block is compressed, which TensorFlow does not do when it writes one."""


@dataclass(frozen=True)
class _Tensor:
    name: str
    shard: int
    offset: int
    size: int
    crc: int | None


def crc32c(data: bytes | memoryview, crc: int = 0) -> int:
    """CRC-32C of ``data``, continuing from the ``crc`` of what came before it."""
    return int(fastcrc.crc32.iscsi(data, crc))


def masked(crc: int) -> int:
    """A CRC-32C as TensorFlow stores it: rotated and moved, so that a CRC of data with a CRC in it stays a good one."""
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def summary(chunks: Iterator[memoryview]) -> dict[str, Any] | None:
    """What has to be known of an index to look at its shards, as a JSON value.

    Returns:
        ``shards``: how many there are; ``ends``: by shard, the byte after its last tensor; ``id``: stands for the
        content. None where it is damaged, and nothing at all where it is compressed.
    """
    content = b"".join(map(bytes, chunks))
    try:
        shards, tensors = _read(content)
    except _DamagedError:
        return None
    except _CompressedError:
        return {}
    ends = [0] * shards
    for tensor in tensors:
        ends[tensor.shard] = max(ends[tensor.shard], tensor.offset + tensor.size)
    return {"shards": shards, "ends": ends, "id": str(crc64(content))}


def first_wrong(index: bytes, shard: int, chunks: Iterator[memoryview]) -> str:
    """The name of the first tensor in a shard whose bytes do not have the checksum in the index; empty without any.

    Args:
        index: content of ``variables.index``, of which :func:`summary` has made something.
        shard: number of the shard.
        chunks: the shard's content.
    """
    try:
        _, tensors = _read(index)
    except (_DamagedError, _CompressedError):
        return "every tensor"
    waiting = sorted((t for t in tensors if t.shard == shard and t.size), key=lambda tensor: tensor.offset)
    position = crc = current = 0
    for chunk in chunks:
        end = position + len(chunk)
        while current < len(waiting) and waiting[current].offset < end:
            tensor = waiting[current]
            start, stop = max(tensor.offset, position), min(tensor.offset + tensor.size, end)
            if tensor.crc is not None:
                crc = crc32c(chunk[start - position : stop - position], crc)
            if stop < tensor.offset + tensor.size:
                break
            if tensor.crc is not None and masked(crc) != tensor.crc:
                return tensor.name
            current, crc = current + 1, 0
        position = end
    return waiting[current].name if current < len(waiting) else ""


def _read(content: bytes) -> tuple[int, list[_Tensor]]:
    """The number of shards, and every tensor that has bytes of its own."""
    header = pb.BundleHeaderProto()
    tensors: list[_Tensor] = []
    for number, (key, value) in enumerate(_table(content)):
        try:
            if number == 0:
                if key:
                    raise _DamagedError
                header.ParseFromString(value)
                continue
            entry = pb.BundleEntryProto.FromString(value)
        except DecodeError:
            raise _DamagedError from None
        if not 0 <= entry.shard_id < header.num_shards or entry.offset < 0 or entry.size < 0:
            raise _DamagedError
        if not entry.slices:  # a tensor in slices has its bytes under the keys of these
            crc = None if entry.dtype in _OTHER_CHECKSUMS else entry.crc32c
            tensors.append(_Tensor(key.decode(errors="replace"), entry.shard_id, entry.offset, entry.size, crc))
    if not 1 <= header.num_shards <= _MAX_SHARDS:
        raise _DamagedError
    return header.num_shards, tensors


def _table(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of the table, in order."""
    if len(content) < _FOOTER_BYTES or content[-8:] != _MAGIC:
        raise _DamagedError
    footer = content[-_FOOTER_BYTES:]
    for _ in _block(content, *_handle(footer, 0)):  # descriptions of other blocks, which TensorFlow leaves empty
        pass
    _, position = _varint(footer, 0)
    _, position = _varint(footer, position)
    for _, handle in _block(content, *_handle(footer, position)):
        yield from _block(content, *_handle(handle, 0))


def _handle(data: bytes, position: int) -> tuple[int, int]:
    offset, position = _varint(data, position)
    size, _ = _varint(data, position)
    return offset, size


def _block(content: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    end = offset + size
    if end + _TRAILER_BYTES > len(content):
        raise _DamagedError
    trailer = content[end : end + _TRAILER_BYTES]
    if masked(crc32c(content[offset : end + 1])) != int.from_bytes(trailer[1:], "little"):
        raise _DamagedError
    if trailer[0]:
        raise _CompressedError
    block = content[offset:end]
    if size < 4:
        raise _DamagedError
    restarts = int.from_bytes(block[-4:], "little")
    limit = size - 4 * (restarts + 1)
    if limit < 0:
        raise _DamagedError
    position, key = 0, b""
    while position < limit:
        shared, position = _varint(block, position)
        own, position = _varint(block, position)
        length, position = _varint(block, position)
        if shared > len(key) or position + own + length > limit:
            raise _DamagedError
        key = key[:shared] + block[position : position + own]
        yield key, block[position + own : position + own + length]
        position += own + length


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """A number in seven bits a byte, and the position after it."""
    value = shift = 0
    while position < len(data) and shift < 70:
        byte = data[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value, position
    raise _DamagedError
