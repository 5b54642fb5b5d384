"""``--prefer_tflite_model``: the model of TensorFlow Lite goes before the graph, and is all that a version needs."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sandbox.model_server.flags import parse
from sandbox.model_server.loader import LoaderOptions, load_saved_model
from sandbox.model_server.status import Code, StatusError
from sandbox.model_server.tflite import TfLiteModel
from tfserving import saved_model

pytestmark = pytest.mark.slow

_MAKE = """
import sys
import tensorflow as tf

class Times(tf.Module):
    def __init__(self):
        self.factor = tf.Variable(2.0)
    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, name="x")])
    def __call__(self, x):
        return {"y": x * self.factor}

made = Times()
tf.saved_model.save(made, sys.argv[1], signatures={"serving_default": made.__call__})
lite = tf.lite.TFLiteConverter.from_saved_model(sys.argv[1]).convert()
open(sys.argv[1] + "/model.tflite", "wb").write(lite)
"""
INPUT, OUTPUT = "serving_default_x:0", "StatefulPartitionedCall:0"
PREFERRED = LoaderOptions(tflite=TfLiteModel)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A version with a graph, and the same as a model of TensorFlow Lite."""
    version = tmp_path_factory.mktemp("tflite") / "m" / "1"
    subprocess.run([sys.executable, "-c", _MAKE, str(version)], check=True, capture_output=True)
    return version


def test_the_flag_decides_which_of_the_two_is_loaded(both: Path) -> None:
    lite = load_saved_model(both, "/models/m/1", PREFERRED).signatures["serving_default"]
    assert list(lite.inputs) == [INPUT]
    assert list(lite.outputs) == [OUTPUT]
    assert [dim.size for dim in lite.inputs[INPUT].tensor_shape.dim] == [1, 3]
    graph = load_saved_model(both, "/models/m/1", LoaderOptions()).signatures["serving_default"]
    assert list(graph.inputs) == ["x"]


def test_previews_know_the_signature_that_the_server_has(both: Path) -> None:
    served = load_saved_model(both, "/models/m/1", PREFERRED).signatures["serving_default"]
    read = saved_model.loaded_signatures(both, prefer_tflite=True)["serving_default"]
    assert read.method_name == served.method_name
    for mine, theirs in ((read.inputs, served.inputs), (read.outputs, served.outputs)):
        assert mine.keys() == theirs.keys()
        for name, tensor in mine.items():
            sizes = [dim.size for dim in theirs[name].tensor_shape.dim]
            assert [size or 1 for size in tensor.shape or ()] == sizes, "a size that a request chooses is 1 there"
            assert tensor.dtype == "float32"
    assert (read.inputs[INPUT].shape, read.outputs[OUTPUT].shape) == ((None, 3), (None, 3))


def test_without_a_tflite_model_the_graph_is_loaded_all_the_same(both: Path, tmp_path: Path) -> None:
    shutil.copytree(both, tmp_path / "1", ignore=lambda *_: ["model.tflite"])
    model = load_saved_model(tmp_path / "1", "/models/m/1", PREFERRED)
    assert list(model.signatures["serving_default"].inputs) == ["x"]


def test_a_tflite_model_alone_loads_with_the_flag_and_not_without(both: Path, tmp_path: Path) -> None:
    shutil.copy(both / "model.tflite", tmp_path)
    model = load_saved_model(tmp_path, "/models/m/1", PREFERRED)
    for rows in ([[1, 2, 3]], [[1, 2, 3], [4, 5, 6]], [[7, 8, 9]]):  # other sizes, and back
        [found] = model.run({INPUT: np.array(rows, np.float32)}, [OUTPUT])
        assert found.tolist() == (2 * np.array(rows)).tolist()
    with pytest.raises(StatusError, match="Could not find SavedModel"):
        load_saved_model(tmp_path, "/models/m/1", LoaderOptions())


def test_wrong_names_are_told_in_the_words_of_the_server(both: Path) -> None:
    model = load_saved_model(both, "/models/m/1", PREFERRED)
    row = np.ones((1, 3), np.float32)
    with pytest.raises(StatusError, match="Missing input TFLite tensor: z:0"):
        model.run({"z:0": row}, [OUTPUT])
    with pytest.raises(StatusError, match="Missing output TFLite tensor: z:0"):
        model.run({INPUT: row}, ["z:0"])


@pytest.mark.parametrize("content", [b"", b"no model" * 20])
def test_a_file_that_is_no_model_does_not_load(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.tflite").write_bytes(content)
    with pytest.raises(StatusError) as caught:
        load_saved_model(tmp_path, "/models/m/1", PREFERRED)
    assert (caught.value.code, caught.value.message) == (
        Code.INVALID_ARGUMENT,
        "Cannot build FlatBufferModel from buffer.",
    )


def test_the_flag_is_acted_on() -> None:
    found = parse(["--prefer_tflite_model=true"])
    assert found.prefer_tflite_model
    assert found.set_but_ignored == ()
