"""Which operations of a SavedModel the server's image may lack."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfserving.manifest import HashCache
from tfserving.model_ops import operations, warnings


def field(number: int, content: bytes) -> bytes:
    length = len(content)
    size = bytearray()
    while length > 0x7F:
        size.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes([number << 3 | 2]) + bytes(size) + bytes([length]) + content


def saved_model(*names: str) -> bytes:
    """A ``saved_model.pb`` with a big graph before its list of operations, and one of numbers."""
    listed = b"".join(field(1, field(1, name.encode()) + field(5, b"about")) for name in names)
    meta_info = field(4, b"serve") + field(2, listed) + field(5, b"2.21.0")
    return b"\x08\x01" + field(2, field(2, field(1, b"x" * 5000)) + field(1, meta_info))


def version(root: Path, number: int, content: bytes) -> Path:
    directory = root / str(number)
    directory.mkdir()
    (directory / "saved_model.pb").write_bytes(content)
    return directory


def test_the_operations_are_those_the_model_lists(tmp_path: Path) -> None:
    assert operations(version(tmp_path, 1, saved_model("MatMul", "Mine"))) == {"MatMul", "Mine"}


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["MatMul", "VarHandleOp", "StatefulPartitionedCall"], None),
        ([], None),
        (["MatMul", "MyOp"], r"needs operations that TensorFlow itself lacks \(MyOp\): the image must have them"),
        (
            ["SentencepieceOp", "TFText>FastWordpiece"],
            "those of TensorFlow Text, which TensorFlow Serving's own images",
        ),
        (["SimpleMLInferenceOpWithHandle"], "those of TensorFlow Decision Forests"),
        (["SimpleMLInferenceOpWithHandle", "MyOp"], "the image must have them"),
        ([f"Op{number}" for number in range(9)], "Op4 and 4 more"),
    ],
)
def test_what_the_image_may_lack_is_told(tmp_path: Path, names: list[str], said: str | None) -> None:
    version(tmp_path, 7, saved_model(*names))
    found = warnings(tmp_path)
    if said is None:
        assert found == []
    else:
        assert len(found) == 1
        assert re.search(said, found[0])
        assert found[0].startswith("version 7 ")


@pytest.mark.parametrize("content", [b"", b"\xff", b"no model", saved_model("MyOp")[:-3]])
def test_what_cannot_be_read_is_left_to_the_checks(tmp_path: Path, content: bytes) -> None:
    assert operations(version(tmp_path, 1, content)) == frozenset()
    assert operations(tmp_path / "missing") == frozenset()


def test_a_second_look_reads_no_graph(tmp_path: Path) -> None:
    old = time.time_ns() - 60 * 10**9 - 1
    for number in (1, 2):
        os.utime(version(tmp_path, number, saved_model("MyOp")) / "saved_model.pb", ns=(old, old))
    with HashCache(tmp_path / "cache.json") as cache:
        first = warnings(tmp_path, cache)
    assert len(first) == 2
    assert cache.bytes_read > 0
    with HashCache(tmp_path / "cache.json") as cache:
        assert warnings(tmp_path, cache) == first
        assert warnings(tmp_path, cache, only=[2]) == first[1:]
    assert cache.bytes_read == 0


@given(st.binary(max_size=50))
def test_any_bytes_are_read_or_left(content: bytes) -> None:
    from tfserving.model_ops import _operations

    try:
        _operations(memoryview(content))
    except ValueError:
        return
