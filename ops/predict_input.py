"""What ``ops predict`` sends: instances from a JSON file, an image or any bytes, or made from the model's signature."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from tfserving.client import Columns
from tfserving.errors import TFServingError

Shape = Sequence[int | None] | None
Inputs = Mapping[str, Mapping[str, Any]]
"""``{name: {"dtype": "float32", "shape": [None, 28, 28, 1]}}``, as a client's metadata has them."""

_IMAGES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"}
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_FLOATS = ("float16", "bfloat16", "float32", "float64")


class PredictError(TFServingError):
    """The request cannot be made from what was given."""


def read_input(file: Path, shape: Shape, dtype: str = "float32") -> tuple[list[Any] | Columns, str | None]:
    """Values from a JSON file (a list of instances, or a whole predict request), an image, or any file as bytes.

    Args:
        file: ``.json``; or whatever the input takes: where that is ``string``, the file's bytes as they are; else an
            image, scaled to the input's height, width and channels, from 0 to 1 for floats and to 255 for integers.
        shape: the shape of the model's input, batch dimension first; needed for images and bytes.
        dtype: its data type.

    Returns:
        the values, and the signature name where the file says one.

    Raises:
        PredictError: the file cannot be read or is neither.
    """
    if file.suffix.lower() == ".json":
        return _json(file)
    if dtype == "string":
        return _bytes(file, shape), None
    if file.suffix.lower() in _IMAGES:
        return _image(file, shape, dtype), None
    return _json(file)


def _json(file: Path) -> tuple[list[Any] | Columns, str | None]:
    try:
        body = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise PredictError(f"{file}: cannot be read: {error}") from error
    except (ValueError, RecursionError) as error:
        raise PredictError(f"{file}: is not JSON: {error}") from error
    if isinstance(body, list) and body:
        return body, None
    if isinstance(body, dict) and "instances" in body and "inputs" in body:
        raise PredictError(f'{file}: holds both "instances" and "inputs"; a request has one of them')
    if isinstance(body, dict):
        name = body.get("signature_name")
        named = name if isinstance(name, str) else None
        if isinstance(body.get("instances"), list) and body["instances"]:
            return body["instances"], named
        if "inputs" in body:
            return Columns(body["inputs"]), named
    raise PredictError(
        f'{file}: holds no instances; write a list of them, or {{"instances": [...]}}, or {{"inputs": ...}}'
    )


def _bytes(file: Path, shape: Shape) -> list[Any] | Columns:
    try:
        value: Any = {"b64": base64.b64encode(file.read_bytes()).decode()}
    except OSError as error:
        raise PredictError(f"{file}: cannot be read: {error}") from error
    if shape is not None and not shape:
        return Columns(value)
    for _ in (shape or [None])[1:]:
        value = [value]
    return [value]


# ---- images --------------------------------------------------------------------------------------------------------


def _layout(shape: Shape) -> str | None:
    """The order of an image input's dimensions, such as ``NHWC``; None for what is no image."""
    if shape is None:
        return None
    if len(shape) == 4:
        if shape[3] in _MODES:
            return "NHWC"
        if shape[1] in _MODES:
            return "NCHW"
        return "NHWC" if shape[3] is None else None
    if len(shape) == 3:
        if shape[2] in _MODES:
            return "HWC"
        if shape[0] in _MODES and shape[0] != 1:
            return "CHW"
        return "NHW" if shape[0] in (None, 1) else None
    return "HW" if len(shape) == 2 and shape[0] is not None and shape[1] is not None else None


def _image(file: Path, shape: Shape, dtype: str) -> list[Any] | Columns:
    layout = _layout(shape)
    if shape is None or layout is None or dtype in ("string", "bool") or dtype.startswith("complex"):
        shown = list(shape) if shape is not None else "unknown"
        raise PredictError(f"{file}: the model does not take images; its input has shape {shown} and type {dtype}")
    sizes = dict(zip(layout, shape, strict=True))
    channels = sizes.get("C", 1) or 3
    try:
        with Image.open(file) as image:
            size = _size(image, sizes["H"], sizes["W"])
            pixels = _eight_bits(image).convert(_MODES[channels]).resize(size)
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise PredictError(f"{file}: is not an image that can be read: {error}") from error
    data = pixels.tobytes()
    width, height = size

    def value(y: int, x: int, c: int) -> float | int:
        found = data[(y * width + x) * channels + c]
        return found / 255 if dtype in _FLOATS else found

    def nested(order: str, **at: int) -> Any:
        if not order:
            return value(at["H"], at["W"], at.get("C", 0))
        count = {"H": height, "W": width, "C": channels}[order[0]]
        return [nested(order[1:], **at, **{order[0]: index}) for index in range(count)]

    inner = nested(layout.removeprefix("N"))
    return [inner] * (sizes["N"] or 1) if "N" in sizes else Columns(inner)


def _size(image: Image.Image, height: int | None, width: int | None) -> tuple[int, int]:
    """Width and height to scale to: an open one follows the other, or the image."""
    if width is None:
        width = image.width if height is None else max(1, round(image.width * height / image.height))
    if height is None:
        height = max(1, round(image.height * width / image.width))
    return width, height


def _eight_bits(image: Image.Image) -> Image.Image:
    """An image of 16 bits a pixel brought to 8, which Pillow would cut off at 255."""
    if not image.mode.startswith("I"):
        return image
    return image.convert("I").point(lambda value: value * (1 / 257)).convert("L")


# ---- from the signature --------------------------------------------------------------------------------------------


def from_signature(inputs: Inputs, outputs: Inputs) -> list[Any] | Columns:
    """A small request that a signature takes: ones, ``true``, or text, with every open dimension of size one.

    Raises:
        PredictError: an input of a type that no request can carry.
    """
    values = {name: sample(name, info) for name, info in inputs.items()}
    shapes = [info["shape"] for info in inputs.values()]
    scalar_output = any(info["shape"] == [] for info in outputs.values())
    if not values or scalar_output or not all(shape and shape[0] in (None, 1) for shape in shapes):
        return Columns(next(iter(values.values())) if len(values) == 1 else values)
    if len(values) == 1:
        return list(next(iter(values.values())))
    return [{name: value[0] for name, value in values.items()}]


def sample(name: str, info: Mapping[str, Any]) -> Any:
    """A value of one input: of unknown rank, one of a batch.

    Raises:
        PredictError: no request can carry its type.
    """
    dtype = info["dtype"]
    if dtype.startswith(("complex", "q")) or dtype in ("resource", "variant"):
        raise PredictError(f"no request can be made for input {name}: values of type {dtype} cannot be written")
    value: Any = 1.0 if dtype in _FLOATS else True if dtype == "bool" else "text" if dtype == "string" else 1
    shape = info["shape"] if info["shape"] is not None else [None]
    for size in reversed(shape):
        value = [value] * (1 if size is None else size)
    return value


def shown(inputs: Inputs) -> str:
    """Inputs for a person: ``image float32 [?, 28, 28, 1]``."""

    def dimensions(shape: Shape) -> str:
        if shape is None:
            return "of any shape"
        return "[" + ", ".join("?" if size is None else str(size) for size in shape) + "]"

    return ", ".join(f"{name} {info['dtype']} {dimensions(info['shape'])}" for name, info in inputs.items())


def from_file(file: Path, inputs: Inputs) -> tuple[list[Any] | Columns, str | None]:
    """Values from a file for a signature: where it has several inputs, one takes the file, the others are made.

    Raises:
        PredictError: the file cannot be read, or it is not clear which input takes it.
    """
    if file.suffix.lower() == ".json":
        return read_input(file, None)
    if len(inputs) == 1:
        (info,) = inputs.values()
        return read_input(file, info["shape"], info["dtype"])
    is_image = file.suffix.lower() in _IMAGES
    images = [name for name, info in inputs.items() if is_image and _is_image(info)]
    takes = images or [name for name, info in inputs.items() if info["dtype"] == "string"]
    if len(takes) != 1:
        raise PredictError(
            f"{file}: the model has several inputs ({shown(inputs)}), and it is not clear which takes this file; write "
            'a JSON file: {"inputs": {"' + next(iter(inputs), "name") + '": ...}}'
        )
    chosen = inputs[takes[0]]
    values, _ = read_input(file, chosen["shape"], chosen["dtype"])
    whole = {name: sample(name, info) for name, info in inputs.items()}
    return Columns({**whole, takes[0]: values.inputs if isinstance(values, Columns) else values}), None


def _is_image(info: Mapping[str, Any]) -> bool:
    return len(info["shape"] or ()) >= 3 and _layout(info["shape"]) is not None and info["dtype"] != "string"
