"""Writes tiny SavedModels for the tests: ``python make_models.py DIRECTORY``. Every one lies in ``<name>/<version>/``.

=============  ========================================================================================================
half_plus      1: x / 2 + 2, 2: x / 2 + 3; also classify and regress signatures on ``tf.Example`` with feature ``x``
counter_tf2    1: a TF2 module with a variable: y = x + 10, and a string output ``text_bytes``
multi          1: inputs ``a`` (float), ``b`` (int32); outputs ``sum`` and ``product``
strings        1: ``text`` to ``text`` and its length
pictures       1: mean of ``uint8`` pictures of any size; signature ``files``: size of PNG and JPEG files
kinds          1: one identity signature for each of several types
scalar         1: a list to its sum
slow           1: counts up to ``n``, which takes a while for large numbers
vocabulary     1: looks words up in an asset file
optional       1: input ``x`` and input ``add`` with a default of 5
warm           1: half_plus/1 with good warm-up records, 2: half_plus/2 with one that fails
broken         1: half_plus/1 without its graph, 2: with a graph that is no proto, 3: for another tag,
               4: without its variables, 5: without the data of its variables
=============  ========================================================================================================
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

v1 = tf.compat.v1
KINDS = ("float64", "int8", "int64", "uint8", "uint32", "bool", "float16", "bfloat16", "uint16")


def write(path: Path, signatures: Any, tag: str = "serve", init: Any = None) -> None:
    """Writes the default graph. ``signatures`` maps names to (inputs, outputs, method)."""
    with v1.Session() as session:
        session.run(v1.global_variables_initializer())
        builder = v1.saved_model.Builder(str(path))
        builder.add_meta_graph_and_variables(
            session,
            [tag],
            {
                name: v1.saved_model.build_signature_def(
                    {alias: v1.saved_model.build_tensor_info(tensor) for alias, tensor in inputs.items()},
                    {alias: v1.saved_model.build_tensor_info(tensor) for alias, tensor in outputs.items()},
                    f"tensorflow/serving/{method}",
                )
                for name, (inputs, outputs, method) in signatures.items()
            },
            assets_collection=v1.get_collection(v1.GraphKeys.ASSET_FILEPATHS),
            main_op=init,
        )
        builder.save()


def half_plus(path: Path, add: float, tag: str = "serve") -> None:
    with tf.Graph().as_default():
        half = v1.get_variable("half", initializer=0.5)
        plus = v1.get_variable("plus", initializer=add)
        x = v1.placeholder(tf.float32, [None, 1], name="x")
        y = half * x + plus
        serialized = v1.placeholder(tf.string, [None], name="examples")
        feature = v1.parse_example(serialized, {"x": v1.FixedLenFeature([1], tf.float32, default_value=[0.0])})["x"]
        z = half * feature + plus
        names = tf.tile([["low", "high"]], [tf.shape(z)[0], 1])
        scores = tf.concat([z, z + 1], 1)
        write(
            path,
            {
                "serving_default": ({"x": x}, {"y": y}, "predict"),
                "regress": ({"inputs": serialized}, {"outputs": z}, "regress"),
                "classify": ({"inputs": serialized}, {"classes": names, "scores": scores}, "classify"),
                "scores_only": ({"inputs": serialized}, {"scores": scores}, "classify"),
            },
            tag,
        )


def graph_models(out: Path) -> None:
    with tf.Graph().as_default():
        a, b = v1.placeholder(tf.float32, [None], name="a"), v1.placeholder(tf.int32, [None], name="b")
        c = tf.cast(b, tf.float32)
        write(out / "multi/1", {"serving_default": ({"a": a, "b": b}, {"sum": a + c, "product": a * c}, "predict")})
    with tf.Graph().as_default():
        text = v1.placeholder(tf.string, [None], name="text")
        outputs = {"text": tf.identity(text), "length": tf.strings.length(text)}
        write(out / "strings/1", {"serving_default": ({"text": text}, outputs, "predict")})
    with tf.Graph().as_default():
        pixels = v1.placeholder(tf.uint8, [None, None, None, 3], name="pixels")
        files = v1.placeholder(tf.string, [None], name="files")
        sizes = tf.map_fn(
            lambda file: tf.shape(tf.io.decode_image(file, 3, expand_animations=False)),
            files,
            fn_output_signature=tf.int32,
        )
        mean = tf.reduce_mean(tf.cast(pixels, tf.float32), [1, 2])
        write(
            out / "pictures/1",
            {
                "serving_default": ({"pixels": pixels}, {"mean": mean}, "predict"),
                "files": ({"image_bytes": files}, {"size": sizes}, "predict"),
            },
        )
    with tf.Graph().as_default():
        signatures = {}
        for kind in KINDS:
            value = v1.placeholder(kind, None, name=kind)
            signatures[kind] = ({"v": value}, {"v": tf.identity(value)}, "predict")
        write(out / "kinds/1", signatures)
    with tf.Graph().as_default():
        x = v1.placeholder(tf.float32, [None], name="x")
        write(out / "scalar/1", {"serving_default": ({"x": x}, {"y": tf.reduce_sum(x)}, "predict")})
    with tf.Graph().as_default():
        n = v1.placeholder(tf.int64, [None], name="n")
        count = v1.while_loop(lambda i: i < n[0], lambda i: i + 1, [tf.constant(0, tf.int64)])
        write(out / "slow/1", {"serving_default": ({"n": n}, {"count": tf.reshape(count, [1])}, "predict")})
    with tf.Graph().as_default():
        words = out / "words.txt"
        words.write_text("zero\none\ntwo\n")
        table = tf.lookup.StaticHashTable(
            tf.lookup.TextFileInitializer(
                str(words), tf.string, tf.lookup.TextFileIndex.WHOLE_LINE, tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER
            ),
            -1,
        )
        word = v1.placeholder(tf.string, [None], name="word")
        signature = {"serving_default": ({"word": word}, {"index": table.lookup(word)}, "predict")}
        write(out / "vocabulary/1", signature, init=v1.tables_initializer())
        words.unlink()
    with tf.Graph().as_default():
        x, add = v1.placeholder(tf.float32, [None], name="x"), v1.placeholder(tf.float32, [], name="add")
        write(out / "optional/1", {"serving_default": ({"x": x, "add": add}, {"y": x + add}, "predict")})
    graph = out / "optional/1/saved_model.pb"
    from tensorflow.core.protobuf import saved_model_pb2

    saved_model = saved_model_pb2.SavedModel.FromString(graph.read_bytes())
    defaults = saved_model.meta_graphs[0].signature_def["serving_default"].defaults
    defaults["add"].CopyFrom(tf.make_tensor_proto(5.0))
    graph.write_bytes(saved_model.SerializeToString())


class Counter(tf.Module):
    """Adds a variable."""

    def __init__(self) -> None:
        super().__init__()
        self.count = tf.Variable(10.0)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")])
    def add(self, x: Any) -> dict[str, Any]:
        return {"y": x + self.count, "text_bytes": tf.strings.as_string(x, 1)}


def warm_up_records(path: Path, *inputs: str) -> None:
    """Predict requests that feed 1.0 to the inputs named."""
    path.parent.mkdir()
    with tf.io.TFRecordWriter(str(path)) as writer:
        for name in inputs:
            request = predict_pb2.PredictRequest()
            request.model_spec.name = "any"
            request.inputs[name].CopyFrom(tf.make_tensor_proto([[1.0]]))
            log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
            writer.write(log.SerializeToString())


def main(out: Path) -> None:
    half_plus(out / "half_plus/1", 2.0)
    half_plus(out / "half_plus/2", 3.0)
    graph_models(out)
    counter = Counter()
    tf.saved_model.save(counter, str(out / "counter_tf2/1"), signatures={"serving_default": counter.add})
    one = out / "half_plus/1"
    shutil.copytree(one, out / "warm/1")
    shutil.copytree(out / "half_plus/2", out / "warm/2")
    warm_up_records(out / "warm/1/assets.extra/tf_serving_warmup_requests", "x", "x")
    warm_up_records(out / "warm/2/assets.extra/tf_serving_warmup_requests", "x", "wrong")
    half_plus(out / "broken/3", 2.0, tag="train")
    for version in (1, 2, 4, 5):
        shutil.copytree(one, out / "broken" / str(version))
    (out / "broken/1/saved_model.pb").unlink()
    (out / "broken/2/saved_model.pb").write_bytes(b"\xffnot a proto")
    shutil.rmtree(out / "broken/4/variables")
    for data in (out / "broken/5/variables").glob("variables.data*"):
        data.unlink()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
