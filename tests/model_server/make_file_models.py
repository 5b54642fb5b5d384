"""Writes SavedModels that touch files: ``python make_file_models.py DIRECTORY EVIL``, into ``kept/`` and ``refused/``.

EVIL is a path that the refused ones try to write or read.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tensorflow as tf

OUT, EVIL = Path(sys.argv[1]), sys.argv[2]
VOCABULARY = OUT / "vocabulary.txt"
data = tf.data.Dataset


class Model(tf.Module):  # type: ignore[misc]
    """Answers ``{"y": answer(self, x)}`` for a string ``x``."""

    def __init__(self, answer: Callable[[Any, Any], Any]) -> None:
        super().__init__()
        self.answer = answer
        self.number = tf.Variable(1.0)
        self.path = tf.Variable(EVIL)
        self.asset = tf.saved_model.Asset(str(VOCABULARY))
        first = tf.lookup.TextFileInitializer(
            str(VOCABULARY),
            tf.string,
            tf.lookup.TextFileIndex.WHOLE_LINE,
            tf.int64,
            tf.lookup.TextFileIndex.LINE_NUMBER,
        )
        self.table = tf.lookup.StaticHashTable(first, -1)

    @tf.function(input_signature=[tf.TensorSpec([], tf.string, name="x")])  # type: ignore[misc]
    def serve(self, x: Any) -> Any:
        return {"y": self.answer(self, x)}


def total(numbers: Any) -> Any:
    return numbers.reduce(tf.constant(0, tf.int64), lambda a, b: a + b)


def written(x: Any) -> Any:
    tf.io.write_file(EVIL, "written")
    return x


def printed(_: Model, x: Any) -> Any:
    tf.print(x, output_stream=f"file://{EVIL}")
    return x


def in_a_branch(_: Model, x: Any) -> Any:
    return tf.cond(tf.strings.length(x) > 3, lambda: written(x), lambda: x)


def in_a_loop(_: Model, x: Any) -> Any:
    return tf.while_loop(lambda i: i < 2, lambda i: written(i + 1), [tf.constant(0)])[0]


def saved(model: Model, x: Any) -> Any:
    value = model.number.read_value()
    tf.raw_ops.SaveV2(prefix=EVIL, tensor_names=["v"], shape_and_slices=[""], tensors=[value])
    return x


def merged(_: Model, x: Any) -> Any:
    tf.raw_ops.MergeV2Checkpoints(checkpoint_prefixes=[x], destination_prefix=EVIL)
    return x


def summarized(_: Model, x: Any) -> Any:
    writer = tf.raw_ops.SummaryWriter()
    tf.raw_ops.CreateSummaryFileWriter(
        writer=writer, logdir=EVIL, max_queue=tf.constant(1), flush_millis=tf.constant(1), filename_suffix=""
    )
    return x


def restored(_: Model, x: Any) -> Any:
    return tf.raw_ops.RestoreV2(prefix=x, tensor_names=["v"], shape_and_slices=[""], dtypes=[tf.float32])[0]


def noted(_: Model, x: Any) -> Any:
    tf.print("a line in the log", x)
    return x


KEPT: dict[str, Callable[[Model, Any], Any]] = {
    "looks_up_in_an_asset": lambda model, x: model.table.lookup(x),
    "reads_an_asset": lambda model, x: tf.io.read_file(model.asset.asset_path),
    "reads_lines_of_an_asset": lambda model, x: (
        data.from_tensor_slices([model.asset.asset_path]).flat_map(tf.data.TextLineDataset).reduce("", lambda a, b: b)
    ),
    "caches_in_memory": lambda model, x: total(data.range(3).cache()),
    "prints_to_the_log": noted,
    "has_variables": lambda model, x: model.number.read_value(),
}
REFUSED: dict[str, Callable[[Model, Any], Any]] = {
    "writes_a_file": lambda model, x: written(x),
    "writes_in_a_branch": in_a_branch,
    "writes_in_a_loop": in_a_loop,
    "writes_for_each_element": lambda model, x: total(data.range(3).map(written)),
    "writes_what_it_prints": printed,
    "writes_a_checkpoint": saved,
    "writes_merged_checkpoints": merged,
    "writes_summaries": summarized,
    "writes_a_cache": lambda model, x: total(data.range(3).cache(EVIL)),
    "reads_what_a_request_names": lambda model, x: tf.io.read_file(x),
    "reads_a_constant_name": lambda model, x: tf.io.read_file(EVIL),
    "reads_what_a_variable_names": lambda model, x: tf.io.read_file(model.path),
    "reads_beside_an_asset": lambda model, x: tf.io.read_file(tf.strings.join([model.asset.asset_path, "/../../x"])),
    "reads_one_or_the_other": lambda model, x: tf.io.read_file(
        tf.where(tf.strings.length(x) > 3, model.asset.asset_path, x)
    ),
    "lists_files": lambda model, x: tf.io.matching_files("/etc/*"),
    "reads_lines": lambda model, x: tf.data.TextLineDataset(EVIL).reduce("", lambda a, b: b),
    "reads_a_checkpoint": restored,
}

OUT.mkdir(parents=True, exist_ok=True)
VOCABULARY.write_text("one\ntwo\n")
for kind, models in (("kept", KEPT), ("refused", REFUSED)):
    for name, answer in models.items():
        model = Model(answer)
        tf.saved_model.save(model, str(OUT / kind / name / "1"), signatures=model.serve)
