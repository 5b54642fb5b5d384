"""What is read off a model of TensorFlow Lite, and that no file makes the reader do anything else."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit import flat_buffer as flat
from tfserving import saved_model, tflite
from tfserving.errors import SavedModelError
from tfserving.manifest import HashCache
from tfserving.saved_model import TensorInfo

IMAGE = flat.tensor("image:0", [1, 28, 28], open_shape=[-1, 28, 28])
LIMIT = flat.tensor("limit", [], kind=2)
SCORES = flat.tensor("scores", [1, 10])
SOUND = flat.model([IMAGE, LIMIT], [SCORES])


class Counting(io.BytesIO):
    """A file that tells how much of it was read."""

    total = 0

    def read(self, size: int | None = -1, /) -> bytes:
        found = super().read(size)
        self.total += len(found)
        return found


def read(data: bytes) -> object:
    return tflite.read(io.BytesIO(data))


def test_inputs_and_outputs_have_the_names_and_sizes_of_the_tensors() -> None:
    assert read(SOUND) == (
        {"image:0": ("float32", (None, 28, 28)), "limit": ("int32", ())},
        {"scores": ("float32", (1, 10))},
    )


@pytest.mark.parametrize(
    ("kind", "name"), [(5, "string"), (9, "int8"), (18, "bfloat16"), (99, "type 99"), (-1, "type -1")]
)
def test_types_have_the_words_of_tensorflow(kind: int, name: str) -> None:
    [found] = tflite.read(io.BytesIO(flat.model([flat.tensor("x", [1], kind)], [])))[0].values()  # type: ignore[index]
    assert found == (name, (1,))


def test_a_signature_in_the_metadata_is_known_to_the_server_alone() -> None:
    assert read(flat.model([IMAGE], [SCORES], metadata=[b"min_runtime_version", b"signature_defs_metadata"])) is None
    assert read(flat.model([IMAGE], [SCORES], metadata=[b"min_runtime_version"])) is not None


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is damaged, or cut off"),
        (SOUND[:20], "is damaged, or cut off"),
        (b"\0" * 4 + b"TFL3", "is of version 0 of the format"),
        (b"<html>404 Not Found</html>", "is no model of TensorFlow Lite"),
        (flat.model([IMAGE], [SCORES], version=2), "is of version 2 of the format"),
        (flat.model([IMAGE], [SCORES], graphs=0), "holds no graph"),
        (flat.model([LIMIT, LIMIT], []), "two inputs with the name limit"),
        (flat.model([], [flat.tensor("", [])]), "outputs without a name"),
        (flat.model([flat.tensor("x" * 5000, [])], []), "is damaged"),
        (flat.model([flat.tensor("x", range(100))], []), "is damaged"),
        (flat.model([flat.tensor(f"x{index}", []) for index in range(1001)], []), "is damaged"),
        (flat.model([flat.table({4: flat.numbers([1]), 10: flat.text(b"\xff")})], []), "is damaged"),
    ],
)
def test_what_is_no_such_model_is_told_in_words(data: bytes, message: str) -> None:
    with pytest.raises(SavedModelError, match=message):
        read(data)


def outcome(data: bytes) -> str:
    """What comes of a file; anything but an answer or a SavedModelError fails the test."""
    file = Counting(data)
    try:
        tflite.read(file)
        found = "read"
    except SavedModelError:
        found = "refused"
    assert file.total < 100_000, "no file makes the reader read much"
    return found


@given(st.integers(0, len(SOUND) - 1))
def test_a_file_that_is_cut_off_is_refused_or_whole_as_far_as_it_matters(length: int) -> None:
    outcome(SOUND[:length])


@given(st.lists(st.tuples(st.integers(0, len(SOUND) - 1), st.integers(0, 255)), min_size=1, max_size=8))
def test_changed_bytes_are_read_or_refused(changes: list[tuple[int, int]]) -> None:
    data = bytearray(SOUND)
    for place, value in changes:
        data[place] = value
    outcome(bytes(data))


@given(st.integers(0, len(SOUND) // 4 - 1), st.sampled_from([0, 1, 4, 2**16, 2**31 - 1, 2**31, 2**32 - 1]))
def test_huge_and_circular_offsets_are_read_or_refused(place: int, value: int) -> None:
    data = bytearray(SOUND)
    struct.pack_into("<I", data, 4 * place, value)
    outcome(bytes(data))


@given(st.binary(max_size=400))
def test_random_bytes_are_refused(data: bytes) -> None:
    assert outcome(data) == "refused"
    outcome(b"\x08\0\0\0TFL3" + data)


def test_the_weights_of_a_model_are_not_read(tmp_path: Path) -> None:
    file = tmp_path / "model.tflite"
    with file.open("wb") as out:
        out.write(SOUND)
        out.truncate(3 << 30)  # sparse
    cache = HashCache()
    found = saved_model.loaded_signatures(tmp_path, cache)["serving_default"]
    assert found.inputs == {"image:0": TensorInfo("float32", (None, 28, 28)), "limit": TensorInfo("int32", ())}
    assert found.outputs == {"scores": TensorInfo("float32", (1, 10))}
    assert found.method_name == "tensorflow/serving/predict"


def test_a_damaged_file_is_told_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "m" / "1").mkdir(parents=True)
    (tmp_path / "m" / "1" / "model.tflite").write_bytes(SOUND[:60])
    with pytest.raises(SavedModelError, match=r"1/model\.tflite is damaged"):
        saved_model.loaded_signatures(tmp_path / "m" / "1")
    [(number, problem)] = saved_model.examine(tmp_path / "m", "models.m", HashCache())
    assert number == 1
    assert "has a model.tflite that is damaged, or cut off" in str(problem)


def test_which_of_two_models_tells_the_signature_is_up_to_the_flag(tmp_path: Path) -> None:
    (tmp_path / "model.tflite").write_bytes(SOUND)
    (tmp_path / "saved_model.pb").write_bytes(b"\x0a\xff\xff not a graph")
    assert list(saved_model.loaded_signatures(tmp_path, prefer_tflite=True)) == ["serving_default"]
    with pytest.raises(SavedModelError, match=r"saved_model\.pb"):
        saved_model.loaded_signatures(tmp_path)
