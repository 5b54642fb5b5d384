"""``python -m sandbox models``: trains and exports the example models of the document, as TensorFlow SavedModels.

Small classifiers of 28x28 grey images into ten kinds of clothes: modelA has one version, modelB two, modelC three.
Equal images and an equal recipe give equal files, so a second export can stand in for the first.
"""

from __future__ import annotations

import argparse
import hashlib
import inspect
import json
import os
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from sandbox import paths
from sandbox.model_server import example_images
from sandbox.model_server.example_images import FASHION_CLASSES, SIDE, Images, Labels, Origin, fashion_mnist, generated
from tfserving.errors import TFServingError

__all__ = ["EXAMPLES", "FASHION_CLASSES", "Example", "export", "main"]

INPUT_NAME = "keras_tensor"
"""Name of the input in the signature, as the document's gRPC sample has it."""

OUTPUT_NAME = "output_0"
"""Name of the ten probabilities in the signature."""

RECIPE_FILE = ".recipes.json"
ORIGIN_FILE = "ORIGIN.txt"
_STAGING = ".staging-"
_TRAINING_IMAGES = 4000
_HELD_BACK = 1000
_BATCH = 64
_IMAGE_SEED = 7
_ORIGINS = {"fashion-mnist": "the Fashion-MNIST data set", "generated": "drawn images in the shape of Fashion-MNIST"}


class ExportError(TFServingError):
    """The example models cannot be written."""


@dataclass(frozen=True)
class Example:
    """One version of an example model.

    Attributes:
        layers: ``linear`` has no hidden layer, ``dense`` one of 32 units, ``conv`` a convolution before it.
        seed: of the weights and the order of training.
        epochs: passes over the training images.
    """

    model: str
    version: int
    layers: Literal["linear", "dense", "conv"]
    seed: int
    epochs: int

    @property
    def name(self) -> str:
        """``modelB/2``: where it lies below the output directory."""
        return f"{self.model}/{self.version}"


EXAMPLES = (
    Example("modelA", 1, "dense", 11, 5),
    Example("modelB", 1, "linear", 21, 2),
    Example("modelB", 2, "dense", 22, 5),
    Example("modelC", 1, "linear", 31, 1),
    Example("modelC", 2, "dense", 32, 5),
    Example("modelC", 3, "conv", 33, 8),
)


def main(argv: Sequence[str]) -> int:
    """Exports what is missing or out of date.

    Returns:
        Exit status: 0.

    Raises:
        ExportError: the output directory cannot be written.
    """
    parser = argparse.ArgumentParser(prog="python -m sandbox models", description="Export the example models.")
    parser.add_argument("--out", type=Path, default=paths.MODELS, help="directory to write to (default: %(default)s)")
    parser.add_argument(
        "--data",
        choices=("auto", "fashion-mnist", "generated"),
        default="auto",
        help="images to train on; auto takes the real data set where it can be downloaded",
    )
    options = parser.parse_args(argv)
    export(options.out, options.data)
    return 0


def export(out: Path, data: Literal["auto", "fashion-mnist", "generated"] = "auto") -> list[str]:
    """Trains and writes every example that is not there yet in its present recipe.

    Each version is written beside its place and renamed into it, so that a watching server never sees half of it.

    Args:
        out: receives ``<model>/<version>/``.
        data: images to train on.

    Returns:
        The versions written, ``modelB/2``.

    Raises:
        ExportError: the directory cannot be written, or the data set asked for cannot be had.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        _sweep(out)
        stamps = _read_stamps(out)
        missing = [example for example in EXAMPLES if not _is_current(out, example, stamps, data)]
        if not missing:
            print(f"Example models are up to date in {out} (trained on {_origin_text(stamps)}).", flush=True)
            return []
        return _export(out, missing, stamps, data)
    except OSError as error:
        raise ExportError(f"example models cannot be written to {out}: {error.strerror or error}") from error


def _export(out: Path, missing: Sequence[Example], stamps: dict[str, Any], data: str) -> list[str]:
    print("Example models: starting TensorFlow ...", flush=True)
    _set_up_tensorflow()
    images, labels, origin = _training_data(data)
    print(f"Example models: training on {_ORIGINS[origin]}.", flush=True)
    written: list[str] = []
    # All are trained, in order, also where only some are missing: names inside a SavedModel are numbered across the
    # process, so only the same sequence gives the same files.
    for example in EXAMPLES:
        started = time.monotonic()
        staging = out / example.model / f"{_STAGING}{example.version}"
        accuracy = _train_and_export(example, images, labels, staging)
        if example not in missing:
            shutil.rmtree(staging)
            continue
        _put_in_place(staging, out / example.name)
        stamps[example.name] = {"recipe": _recipe(example), "data": origin}
        _write_atomically(out / RECIPE_FILE, json.dumps(stamps, indent=1, sort_keys=True) + "\n")
        written.append(example.name)
        seconds = time.monotonic() - started
        print(f"  [{len(written)}/{len(missing)}] {example.name}: {accuracy:.0%} right, {seconds:.1f} s", flush=True)
    _write_atomically(out / ORIGIN_FILE, f"The example models were trained on {_origin_text(stamps)}.\n")
    return written


def _recipe(example: Example) -> str:
    """Changes with anything that decides what a version answers, its images apart."""
    parts: tuple[Any, ...] = (example_images, _build, _train_and_export, _save)
    sources = "".join(inspect.getsource(part) for part in parts)
    return hashlib.sha256(f"{example}{_TRAINING_IMAGES}{_IMAGE_SEED}{sources}".encode()).hexdigest()


def _is_current(out: Path, example: Example, stamps: dict[str, Any], data: str) -> bool:
    stamp = stamps.get(example.name)
    return (
        isinstance(stamp, dict)
        and stamp.get("recipe") == _recipe(example)
        and data in ("auto", stamp.get("data"))
        and (out / example.name / "saved_model.pb").is_file()
        and (out / example.name / "variables" / "variables.index").is_file()
    )


def _read_stamps(out: Path) -> dict[str, Any]:
    try:
        stamps = json.loads((out / RECIPE_FILE).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return stamps if isinstance(stamps, dict) else {}


def _origin_text(stamps: dict[str, Any]) -> str:
    origins = sorted({stamp["data"] for stamp in stamps.values() if isinstance(stamp, dict)})
    return " and ".join(_ORIGINS.get(origin, origin) for origin in origins)


def _write_atomically(path: Path, text: str) -> None:
    staged = path.with_name(path.name + ".new")
    staged.write_text(text, encoding="utf-8")
    staged.replace(path)


def _sweep(out: Path) -> None:
    """Removes what an interrupted export left."""
    for leftover in out.glob(f"model*/{_STAGING}*"):
        shutil.rmtree(leftover, ignore_errors=True)


def _put_in_place(staging: Path, target: Path) -> None:
    old = target.with_name(f"{_STAGING}old-{target.name}")
    if target.exists():
        target.rename(old)
    staging.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def _set_up_tensorflow() -> None:
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # oneDNN adds up in an order of its own choice.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    import tensorflow as tf

    tf.get_logger().setLevel("ERROR")
    tf.config.experimental.enable_op_determinism()


def _training_data(data: str) -> tuple[Images, Labels, Origin]:
    count = _TRAINING_IMAGES + _HELD_BACK
    if data != "generated":
        real = fashion_mnist(count)
        if real is not None:
            return *real, "fashion-mnist"
        if data == "fashion-mnist":
            raise ExportError("Fashion-MNIST can neither be downloaded nor is it in Keras's cache")
    return *generated(count, _IMAGE_SEED), "generated"


def _build(example: Example) -> Any:
    import keras

    # A dark frame, and each image on its own scale: a blank one, which the document's requests send, is then a bright
    # square that versions disagree about. By raw brightness every version would be certain, and of the same class.
    layers: list[Any] = [
        keras.layers.ZeroPadding2D(1),
        keras.layers.LayerNormalization(axis=(1, 2, 3), center=False, scale=False),
    ]
    if example.layers == "conv":
        layers += [keras.layers.Conv2D(8, 3, strides=2, activation="relu")]
    layers += [keras.layers.Flatten()]
    if example.layers != "linear":
        layers += [keras.layers.Dense(32, activation="relu")]
    layers += [keras.layers.Dense(len(FASHION_CLASSES), activation="softmax")]
    inputs = keras.Input((SIDE, SIDE, 1), dtype="float32", name=INPUT_NAME)
    outputs = inputs
    for layer in layers:
        outputs = layer(outputs)
    return keras.Model(inputs, outputs)


def _train_and_export(example: Example, images: Images, labels: Labels, target: Path) -> float:
    """Trains one version and writes it. Returns its accuracy on the images held back."""
    import keras

    keras.backend.clear_session()
    keras.utils.set_random_seed(example.seed)
    model = _build(example)
    model.compile("adam", "sparse_categorical_crossentropy")
    split = len(images) - _HELD_BACK
    random = np.random.default_rng(example.seed)
    # Batches made here: Keras's own training loop goes through tf.data, which fills the terminal with its messages.
    for _ in range(example.epochs):
        order = random.permutation(split)
        for start in range(0, split, _BATCH):
            batch = order[start : start + _BATCH]
            model.train_on_batch(images[batch], labels[batch])
    guesses = np.argmax(np.asarray(model(images[split:], training=False)), axis=1)
    _save(model, target)
    return float(np.mean(guesses == labels[split:]))


def _save(model: Any, target: Path) -> None:
    """Writes the endpoint ``serving_default``: ``keras_tensor`` to ``output_0``, the names ``model.export`` gives.

    Not ``model.export`` itself: it saves the variables in the order of a set, so that no two exports are equal files.
    """
    import tensorflow as tf

    endpoint = tf.Module()
    endpoint.model_variables = [variable.value for variable in model.variables]

    @tf.function(input_signature=[tf.TensorSpec((None, SIDE, SIDE, 1), tf.float32, name=INPUT_NAME)])  # type: ignore[untyped-decorator]
    def serve(images: Any) -> dict[str, Any]:
        return {OUTPUT_NAME: model(images, training=False)}

    endpoint.serve = serve
    tf.saved_model.save(endpoint, str(target), signatures={"serving_default": serve})
    # Holds a random id and nothing a server reads.
    (target / "fingerprint.pb").unlink(missing_ok=True)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except ExportError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
