from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfserving import content, tensor_bundle
from tfserving.manifest import HashCache
from tfserving.protos import tf_serving_pb2 as pb
from tfserving.tensor_bundle import crc32c, masked

SHARD = "variables/variables.data-0000{}-of-0000{}"
INDEX = "variables/variables.index"


def _varint(value: int) -> bytes:
    found = b""
    while value > 0x7F:
        found, value = found + bytes([value & 0x7F | 0x80]), value >> 7
    return found + bytes([value])


def table(entries: Sequence[tuple[bytes, bytes]], compression: int = 0) -> bytes:
    """A table of two blocks and their index, in which each key shares what it can with the one before."""

    def block(items: Sequence[tuple[bytes, bytes]]) -> bytes:
        found, last = b"", b""
        for key, value in items:
            shared = len(os.path.commonprefix([key, last]))  # noqa: RUF071 (bytes, no paths)
            found += _varint(shared) + _varint(len(key) - shared) + _varint(len(value)) + key[shared:] + value
            last = key
        return found + bytes(4) + (1).to_bytes(4, "little")

    content = b""
    handles = []
    for items in (entries[:2], entries[2:]):
        data = block(items)
        handles.append((items[-1][0] if items else b"", _varint(len(content)) + _varint(len(data))))
        kind = bytes([compression])
        content += data + kind + masked(crc32c(data + kind)).to_bytes(4, "little")
    places = []
    for data in (block([]), block(handles)):
        places.append(_varint(len(content)) + _varint(len(data)))
        content += data + b"\0" + masked(crc32c(data + b"\0")).to_bytes(4, "little")
    return content + b"".join(places).ljust(40, b"\0") + (0xDB4775248B80FB57).to_bytes(8, "little")


def write(directory: Path, *shards: Sequence[bytes], dtype: int = pb.DT_FLOAT) -> Path:
    """A version with tensors, shard by shard."""
    (directory / "variables").mkdir(parents=True)
    (directory / "saved_model.pb").write_bytes(b"\x08\x01")
    entries = [(b"", pb.BundleHeaderProto(num_shards=len(shards)).SerializeToString())]
    for number, tensors in enumerate(shards):
        offset = 0
        for place, tensor in enumerate(tensors):
            entry = pb.BundleEntryProto(shard_id=number, offset=offset, size=len(tensor), crc32c=masked(crc32c(tensor)))
            entry.dtype = pb.DataType.ValueType(dtype)
            entries.append((f"layer/{number}-{place:03}".encode(), entry.SerializeToString()))
            offset += len(tensor)
        (directory / SHARD.format(number, len(shards))).write_bytes(b"".join(tensors))
    (directory / INDEX).write_bytes(table(entries))
    return directory


def faults(version: Path, cache: HashCache | None = None) -> list[str]:
    cache = cache or HashCache()
    found = content.faults(version, cache)
    return [f"{fault.message} | {fault.fix}" for fault in found]


@pytest.fixture
def version(tmp_path: Path) -> Path:
    return write(tmp_path / "3", [b"first" * 40, b"", b"second" * 300], [b"third" * 1000])


def test_variables_that_are_those_of_their_index_are_sound(version: Path) -> None:
    assert faults(version) == []


def test_a_checksum_is_found_over_all_chunks(version: Path) -> None:
    index = (version / INDEX).read_bytes()
    shard = (version / SHARD.format(0, 2)).read_bytes()
    for size in (1, 7, 200, 4096):
        chunks = [memoryview(shard[start : start + size]) for start in range(0, len(shard), size)]
        assert tensor_bundle.first_wrong(index, 0, iter(chunks)) == ""
        chunks[-1] = memoryview(bytes(len(chunks[-1])))
        wrong = "layer/0-000" if len(chunks) == 1 else "layer/0-002"
        assert tensor_bundle.first_wrong(index, 0, iter(chunks)) == wrong


def test_tensorflows_own_checksum_form() -> None:
    assert crc32c(b"123456789") == 0xE3069283
    assert masked(0) == 0xA282EAD8
    assert masked(1 << 15) == 0xA282EAD9  # the upper bits come down
    assert masked(1) == 0xA284EAD8  # and the lower ones go up
    assert masked(0xFFFFFFFF) == 0xA282EAD7


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda shard: shard[:-1], "it is cut off"),
        (lambda shard: b"", "has 0 bytes of"),
        (lambda shard: bytes(len(shard)), "the checksum of layer/1-000 is not the one"),
        (lambda shard: shard[:4000] + bytes(len(shard) - 4000), "the checksum of layer/1-000"),
        (lambda shard: shard[:-1] + b"?", "the checksum of layer/1-000"),
    ],
)
def test_a_shard_that_is_not_what_the_index_says_is_damaged(version: Path, spoil: Any, words: str) -> None:
    path = version / SHARD.format(1, 2)
    path.write_bytes(spoil(path.read_bytes()))
    (found,) = faults(version)
    assert words in found
    assert found.endswith("| copy or export the model again")


def test_a_shard_that_goes_on_after_the_last_tensor_is_sound_as_it_is_for_tensorflow(version: Path) -> None:
    with open(version / SHARD.format(1, 2), "ab") as file:
        file.write(b"more")
    assert faults(version) == []


def test_shards_of_another_number_are_damage(version: Path) -> None:
    (version / SHARD.format(1, 2)).unlink()
    (found,) = faults(version)
    assert "has 1 of the 2 shards" in found


def test_texts_have_a_checksum_of_another_kind(tmp_path: Path) -> None:
    version = write(tmp_path / "1", [b"text"], dtype=pb.DT_STRING)
    (version / SHARD.format(0, 1)).write_bytes(b"TEXT")
    assert faults(version) == []


def test_a_compressed_index_is_left_to_tensorflow(version: Path) -> None:
    header = pb.BundleHeaderProto(num_shards=1).SerializeToString()
    (version / INDEX).write_bytes(table([(b"", header), (b"a", b"")], compression=1))
    assert faults(version) == []


@pytest.mark.parametrize("keep", [0.5, 0.99])
def test_a_cut_or_changed_index_is_damaged(version: Path, keep: float) -> None:
    whole = (version / INDEX).read_bytes()
    (version / INDEX).write_bytes(whole[: int(len(whole) * keep)])
    assert "has a damaged variables/variables.index" in faults(version)[0]
    for position in range(0, len(whole) - 60, 7):
        (version / INDEX).write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        assert faults(version), position


@pytest.mark.parametrize(
    ("path", "start", "words"),
    [
        ("saved_model.pb", b"", "saved_model.pb, which is empty"),
        ("saved_model.pb", bytes(4096), "nothing but zeros"),
        ("saved_model.pb", b"<!DOCTYPE html><html>", "a web page"),
        ("saved_model.pb", b'\n  {"message": "not found"}', "a web page or an error message"),
        (INDEX, b"<?xml version='1.0'?><Error>", "a web page"),
        (SHARD.format(0, 2), b"<Html>", "a web page"),
        ("assets/vocab.txt", b"version https://git-lfs.github.com/spec/v1\noid", "Git LFS pointer | git lfs pull"),
        ("fingerprint.pb", b"version https://hawser.github.com/spec/v1\noid", "git lfs pull"),
        ("assets/.vocab.txt.icloud", b"bplist00", "assets/vocab.txt, which is only a placeholder of iCloud"),
        ("saved_model.pb", b"\x1f\x8b\x08\0", "saved_model.pb, which is compressed with gzip | unpack it"),
        (INDEX, b"\x28\xb5\x2f\xfd", "which is compressed with zstd"),
        (
            "saved_model.pb",
            b"PK\x03\x04",
            "which is a ZIP archive, or a Keras file, which is one | unpack it, or write a",
        ),
        ("saved_model.pb", b"\x89HDF\r\n\x1a\n", "which is an HDF5 file of Keras | write a SavedModel"),
        ("saved_model.pb", b"\0\x05\x16\x07\0\x02", "which is what macOS keeps beside a file"),
        ("saved_model.pb", b"saved_model_schema_version: 1\n", "which is a SavedModel in text form"),
        ("saved_model.pb", b"meta_graphs {\n", "which is a SavedModel in text form"),
        ("assets/model.bin", b"/annex/objects/SHA256E-s12--ab\n", "a git-annex pointer | git annex get"),
        ("assets/vocab.txt.dvc", b"outs:", "assets/vocab.txt, which is only a pointer of DVC | dvc pull"),
    ],
)
def test_a_file_that_stands_for_another_is_named_with_its_cure(
    version: Path, path: str, start: bytes, words: str
) -> None:
    (version / path).parent.mkdir(exist_ok=True)
    (version / path).write_bytes(start)
    (found,) = faults(version)
    assert words in found


def of_objects(version: Path, **sizes: int) -> tuple[list[str], list[tuple[str, int]]]:
    """What is said of the version's files as objects, and what was read of them."""
    reads = []

    def read(path: str, size: int) -> bytes:
        found = (version / path).read_bytes()[:size]
        reads.append((path, len(found)))
        return found

    there = {str(path.relative_to(version)): path.stat().st_size for path in version.rglob("*") if path.is_file()}
    found = content.faults_of_objects(there | sizes, read)
    return [f"{fault.message} | {fault.fix}" for fault in found], reads


def test_of_a_sound_version_in_a_bucket_only_beginnings_and_the_index_are_read(version: Path) -> None:
    (version / "assets").mkdir()
    (version / "assets" / "vocab.txt").write_bytes(b"word\n" * 1000)
    (version / SHARD.format(1, 2)).write_bytes(b"third" * 100_000)
    found, reads = of_objects(version)
    assert found == []
    assert {path for path, _ in reads} == {"saved_model.pb", INDEX, SHARD.format(0, 2), SHARD.format(1, 2)}
    assert all(size <= 512 or path == INDEX for path, size in reads)


@pytest.mark.parametrize(
    ("path", "start", "words"),
    [
        ("saved_model.pb", b"", "saved_model.pb, which is empty | copy or export the model again; a tool that keeps"),
        ("saved_model.pb", b"version https://git-lfs.github.com/spec/v1\noid", "a Git LFS pointer | git lfs pull"),
        ("saved_model.pb", b"<!DOCTYPE html><title>Sign in</title>", "a web page"),
        ("saved_model.pb", b"\x1f\x8b\x08\0", "compressed with gzip"),
        ("assets/vocab.txt", b"version https://git-lfs.github.com/spec/v1\noid", "a Git LFS pointer"),
        (SHARD.format(1, 2), b"version https://git-lfs.github.com/spec/v1\noid", "a Git LFS pointer"),
        (SHARD.format(1, 2), b"", "has 0 bytes of variables/variables.data-00001-of-00002"),
        (SHARD.format(1, 2), b"third" * 999, "has 4995 bytes of variables/variables.data-00001-of-00002, and"),
        (INDEX, b"\0" * 400, "nothing but zeros"),
        (INDEX, b"cut", "has a damaged variables/variables.index"),
        ("assets/.vocab.txt.icloud", b"bplist00", "only a placeholder of iCloud"),
        ("assets/vocab.txt.dvc", b"outs:", "only a pointer of DVC"),
    ],
)
def test_what_a_listing_and_small_reads_tell_of_a_version_in_a_bucket(
    version: Path, path: str, start: bytes, words: str
) -> None:
    (version / path).parent.mkdir(exist_ok=True)
    (version / path).write_bytes(start)
    ((found,), _) = of_objects(version)
    assert words in found


def test_of_very_many_small_objects_some_are_looked_at(version: Path) -> None:
    (version / "assets").mkdir()
    for number in range(500):
        (version / "assets" / str(number)).write_bytes(b"x")
    _, reads = of_objects(version)
    assert len(reads) < 80


def test_an_index_of_great_size_is_left_to_tensorflow(version: Path) -> None:
    assert of_objects(version, **{INDEX: 1 << 40})[0] == []


def test_pages_and_empty_files_among_the_assets_may_be_meant(version: Path) -> None:
    (version / "assets").mkdir()
    for name, text in {"page.html": "<html>", "empty.txt": "", "x.json": '{"a": 1}', "a.dvc": "", "a": "x"}.items():
        (version / "assets" / name).write_text(text)
    assert faults(version) == []


def test_many_pointers_are_one_fault(version: Path) -> None:
    for path in version.rglob("*"):
        if path.is_file():
            path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    (found,) = faults(version)
    assert "saved_model.pb" in found
    assert "which are each a Git LFS pointer" in found


def test_a_second_look_reads_nothing(version: Path, tmp_path: Path) -> None:
    old = time.time_ns() - 60 * 10**9 - 1
    for path in version.rglob("*"):
        os.utime(path, ns=(old, old))
    with HashCache(tmp_path / "cache.json") as cache:
        assert faults(version, cache) == []
    assert cache.bytes_read > 0
    with HashCache(tmp_path / "cache.json") as cache:
        assert faults(version, cache) == []
    assert cache.bytes_read == 0


@settings(deadline=None)
@given(st.binary(max_size=300), st.booleans())
def test_no_content_breaks_the_reader_of_an_index(data: bytes, as_block: bool) -> None:
    content = table([(b"", data[:100]), (b"k", data[100:])]) if as_block else data + table([])[-8:]
    tensor_bundle.summary(iter([memoryview(content)]))
    tensor_bundle.first_wrong(content, 0, iter([memoryview(data)]))


@pytest.mark.slow
def test_what_tensorflow_writes_is_sound_and_every_flipped_bit_of_a_number_is_seen(tmp_path: Path) -> None:
    import tensorflow as tf

    class Net(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weights = tf.Variable(tf.random.normal((784, 10)))
            self.zeros = tf.Variable(tf.zeros((300, 300)))
            self.words = tf.Variable(tf.constant(["a", "text"]))
            self.half = tf.Variable(tf.ones((3,), tf.bfloat16))

        @tf.function(input_signature=[tf.TensorSpec((None, 784), tf.float32)])
        def serve(self, x: Any) -> Any:
            return {"y": x @ self.weights}

    module = Net()
    tf.saved_model.save(module, str(tmp_path / "1"), signatures=module.serve)
    assert faults(tmp_path / "1") == []
    shard = tmp_path / "1" / SHARD.format(0, 1)
    whole = shard.read_bytes()
    for position in (0, 1000, 31359, 200_000):
        shard.write_bytes(whole[:position] + bytes([whole[position] ^ 64]) + whole[position + 1 :])
        assert "the checksum of" in faults(tmp_path / "1")[0], position
