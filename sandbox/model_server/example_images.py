"""Images to train the example models on: the real Fashion-MNIST, or drawn ones of the same shape and classes."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Images = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]
Origin = Literal["fashion-mnist", "generated"]
Point = tuple[float, float]
Polygon = Sequence[Point]

FASHION_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
"""What the ten outputs of the example models mean, in order."""

SIDE = 28
"""Width and height of an image in pixels."""

_DOWNLOAD_HOST = "storage.googleapis.com"
_CONNECT_SECONDS = 3.0
_READ_SECONDS = 10.0
_FILES = (
    "train-labels-idx1-ubyte.gz",
    "train-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
)


def fashion_mnist(count: int) -> tuple[Images, Labels] | None:
    """The first images of the real data set, or ``None`` where it is neither cached nor to be downloaded.

    Args:
        count: how many images.

    Returns:
        Images (count, 28, 28, 1) from 0 to 1, and their classes.
    """
    cache = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "datasets" / "fashion-mnist"
    if not all((cache / name).is_file() for name in _FILES) and not _reachable():
        return None
    import keras

    previous = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_READ_SECONDS)
    try:
        (images, labels), _ = keras.datasets.fashion_mnist.load_data()
    except Exception as error:  # whatever stands in the way, there is a substitute
        print(f"Fashion-MNIST could not be downloaded: {error}", flush=True)
        return None
    finally:
        socket.setdefaulttimeout(previous)
    return (images[:count, :, :, None] / 255.0).astype(np.float32), labels[:count].astype(np.int64)


def _reachable() -> bool:
    try:
        socket.create_connection((_DOWNLOAD_HOST, 443), _CONNECT_SECONDS).close()
    except OSError:
        return False
    return True


# Shapes in a square from 0 to 1, y downwards: polygons that are filled, then polygons that are cut out.
_TORSO: Polygon = ((0.3, 0.15), (0.7, 0.15), (0.7, 0.88), (0.3, 0.88))
_NECK: Polygon = ((0.42, 0.1), (0.58, 0.1), (0.5, 0.24))
_SLEEVES_SHORT: tuple[Polygon, ...] = (
    ((0.3, 0.15), (0.1, 0.32), (0.18, 0.44), (0.32, 0.34)),
    ((0.7, 0.15), (0.9, 0.32), (0.82, 0.44), (0.68, 0.34)),
)
_SLEEVES_LONG: tuple[Polygon, ...] = (
    ((0.32, 0.15), (0.14, 0.3), (0.1, 0.85), (0.22, 0.85), (0.32, 0.4)),
    ((0.68, 0.15), (0.86, 0.3), (0.9, 0.85), (0.78, 0.85), (0.68, 0.4)),
)
_SOLE: Polygon = ((0.06, 0.7), (0.94, 0.7), (0.94, 0.78), (0.06, 0.78))
_SHAPES: tuple[tuple[tuple[Polygon, ...], tuple[Polygon, ...]], ...] = (
    ((_TORSO, *_SLEEVES_SHORT), (_NECK,)),
    (
        (((0.32, 0.08), (0.68, 0.08), (0.72, 0.92), (0.54, 0.92), (0.5, 0.35), (0.46, 0.92), (0.28, 0.92)),),
        (),
    ),
    ((_TORSO, *_SLEEVES_LONG), (((0.45, 0.12), (0.55, 0.12), (0.55, 0.17), (0.45, 0.17)),)),
    ((((0.4, 0.08), (0.6, 0.08), (0.58, 0.4), (0.74, 0.94), (0.26, 0.94), (0.42, 0.4)),), ()),
    ((_TORSO, *_SLEEVES_LONG), (((0.485, 0.15), (0.515, 0.15), (0.515, 0.88), (0.485, 0.88)), _NECK)),
    (
        (
            _SOLE,
            ((0.1, 0.7), (0.3, 0.5), (0.36, 0.5), (0.2, 0.7)),
            ((0.5, 0.7), (0.72, 0.48), (0.78, 0.48), (0.6, 0.7)),
        ),
        (),
    ),
    ((_TORSO, *_SLEEVES_SHORT), (_NECK, ((0.49, 0.24), (0.51, 0.24), (0.51, 0.7), (0.49, 0.7)))),
    ((_SOLE, ((0.08, 0.7), (0.3, 0.62), (0.55, 0.46), (0.92, 0.46), (0.92, 0.7))), ()),
    (
        (((0.12, 0.4), (0.88, 0.4), (0.84, 0.84), (0.16, 0.84)), ((0.3, 0.4), (0.36, 0.16), (0.64, 0.16), (0.7, 0.4))),
        (((0.38, 0.4), (0.42, 0.22), (0.58, 0.22), (0.62, 0.4)),),
    ),
    ((_SOLE, ((0.1, 0.7), (0.34, 0.6), (0.56, 0.56), (0.58, 0.16), (0.92, 0.16), (0.92, 0.7))), ()),
)


def generated(count: int, seed: int) -> tuple[Images, Labels]:
    """Drawn clothes: one outline for each class, varied in size, place, brightness and cloth.

    Args:
        count: how many images, the classes in turn.
        seed: equal seeds give equal images.

    Returns:
        As ``fashion_mnist``.
    """
    random = np.random.default_rng(seed)
    labels = np.arange(count, dtype=np.int64) % len(FASHION_CLASSES)
    images = np.stack([_draw(int(label), random) for label in labels])
    return images[..., None], labels


def _draw(label: int, random: np.random.Generator) -> Images:
    scale = random.uniform(0.8, 1.05, 2)
    shift = random.uniform(-0.05, 0.05, 2)
    centres = (np.arange(SIDE) + 0.5) / SIDE
    x = (centres[None, :] - 0.5 - shift[0]) / scale[0] + 0.5
    y = (centres[:, None] - 0.5 - shift[1]) / scale[1] + 0.5
    filled, cut = _SHAPES[label]
    mask = np.zeros((SIDE, SIDE), bool)
    for polygon in filled:
        mask |= _inside(polygon, x, y)
    for polygon in cut:
        mask &= ~_inside(polygon, x, y)
    cloth = random.uniform(0.45, 0.95) + random.normal(0, 0.08, mask.shape)
    background = np.abs(random.normal(0, 0.02, mask.shape))
    return np.clip(np.where(mask, cloth, background), 0, 1).astype(np.float32)


def _inside(polygon: Polygon, x: npt.NDArray[Any], y: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Which points lie in a polygon, by the even-odd rule."""
    result = np.zeros(np.broadcast(x, y).shape, bool)
    for (x1, y1), (x2, y2) in zip(polygon, [*polygon[1:], polygon[0]], strict=True):
        if y1 == y2:
            continue
        crosses = ((y1 > y) != (y2 > y)) & (x < (x2 - x1) * (y - y1) / (y2 - y1) + x1)
        result ^= crosses
    return result
