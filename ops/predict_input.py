"""What ``ops predict`` sends: instances from a JSON file, an image or any bytes, or made from the model's signature."""

from __future__ import annotations

import base64
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from ops import nearest
from tfserving.client import Columns
from tfserving.errors import TFServingError
from tfserving.sample_request import FLOATS, Inputs, Shape, sample, shown

_IMAGES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"}
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


_FORMS = 'write a list of instances, or {"instances": [...]}, or {"inputs": ...}'


class PredictError(TFServingError):
    """The request cannot be made from what was given."""


@dataclass(frozen=True)
class Given:
    """What a person gave to be sent.

    Attributes:
        body: values of a whole request; None where there is none.
        signature_name: the signature that the request names; None where it names none.
        files: a file, by the input that takes it; the name is empty where it was not said.
        texts: the text of a value, by its input.
    """

    body: list[Any] | Columns | None = None
    signature_name: str | None = None
    files: Mapping[str, Path] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, options: Sequence[str]) -> Given:
        """From the values of ``--input``.

        Each is a file, ``-`` for standard input, JSON text, or ``NAME=...`` for one input: ``NAME=@FILE``, or a value
        as JSON or plain text. A request as JSON, and a file without a name, stand alone.

        Raises:
            PredictError: they do not go together, or JSON cannot be read.
        """
        files: dict[str, Path] = {}
        texts: dict[str, str] = {}
        for option in options:
            name, equals, value = option.partition("=")
            is_whole = option.lstrip().startswith(("[", "{")) or not equals or os.path.exists(option)
            if is_whole and len(options) > 1:
                raise PredictError(
                    f"--input {option}: stands alone; of several each names its input: NAME=@FILE or NAME=VALUE"
                )
            if name in files or name in texts:
                raise PredictError(f"--input {option}: input {name} has a value already")
            if not is_whole:
                if value.startswith("@"):
                    files[name] = Path(value[1:])
                else:
                    texts[name] = value
            elif option == "-":
                return cls(*_body(sys.stdin.read().removeprefix("\ufeff"), "standard input"))
            elif option.lstrip().startswith(("[", "{")):
                return cls(*_body(option, "--input"))
            elif (file := Path(option.removeprefix("@"))).suffix.lower() == ".json":
                return cls(*_json(file))
            else:
                files[""] = file
        return cls(None, None, files, texts)

    def values(self, inputs: Inputs) -> tuple[list[Any] | Columns, tuple[str, ...]]:
        """The values for a signature, and the names of the inputs that nobody gave any, which are made.

        Raises:
            PredictError: an input is not one of the signature's, or what is given cannot be a value of it.
        """
        if self.body is not None:
            for index, row in enumerate(self.body if isinstance(self.body, list) else [self.body.inputs]):
                if isinstance(row, Mapping) and set(row) != {"b64"}:
                    place = f"instances[{index}]" if isinstance(self.body, list) else "inputs"
                    _check_names(row, inputs, place)
            return self.body, ()
        if file := self.files.get(""):
            return _of_file(file, inputs)
        _check_names([*self.files, *self.texts], inputs, "--input")
        whole: dict[str, Any] = {}
        for name, info in inputs.items():
            if name in self.files:
                found = read_input(self.files[name], info["shape"], info["dtype"])
                whole[name] = found.inputs if isinstance(found, Columns) else found
            elif name in self.texts:
                whole[name] = _of_text(self.texts[name], name, info)
            else:
                whole[name] = sample(name, info)
        made = tuple(name for name in inputs if name not in self.files and name not in self.texts)
        return Columns(whole), made


def _check_names(names: Iterable[str], inputs: Inputs, place: str) -> None:
    for name in names:
        if name not in inputs:
            raise PredictError(f"{place}: the model has no input {name!r}: {nearest.choices(name, inputs)}")


def _of_text(text: str, name: str, info: Mapping[str, Any]) -> Any:
    """A value as a person types it; one that lacks the batch dimension gets it."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        if info["dtype"] != "string":
            raise PredictError(
                f"--input {name}={text}: is neither JSON nor @FILE; {shown({name: info})} is wanted"
            ) from None
        value = text
    if info["dtype"] == "string" and not isinstance(value, str | list | dict):
        value = text
    depth, inner = 0, value
    while isinstance(inner, list):
        depth, inner = depth + 1, inner[0] if inner else None
    for size in reversed((info["shape"] or ())[: len(info["shape"] or ()) - depth]):
        if size not in (None, 1):
            break
        value = [value]
    return value


def read_input(file: Path, shape: Shape, dtype: str) -> list[Any] | Columns:
    """Values of one input from a file: of a string its bytes as they are; else an image, or JSON.

    Args:
        file: an image is scaled to the input's height, width and channels, from 0 to 1 for floats and to 255 for
            integers.
        shape: the shape of the model's input, batch dimension first.
        dtype: its data type.

    Raises:
        PredictError: the file cannot be read or is neither.
    """
    if file.suffix.lower() == ".json":
        return _json(file)[0]
    if dtype == "string":
        return _bytes(file, shape)
    if file.suffix.lower() in _IMAGES:
        return _image(file, shape, dtype)
    return _json(file)[0]


def _json(file: Path) -> tuple[list[Any] | Columns, str | None]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise PredictError(f"{file}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise PredictError(
            f"{file}: is not JSON: it is no text in UTF-8 (byte {error.start}); for an image, its name ends in "
            f"{', '.join(sorted(_IMAGES))}"
        ) from error
    return _body(text, str(file))


def _body(text: str, where: str) -> tuple[list[Any] | Columns, str | None]:
    """Instances or columns, and the signature name where the request says one."""
    if not text.strip():
        raise PredictError(f"{where}: is empty; {_FORMS}")
    try:
        body = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PredictError(f"{where}: is not JSON: {error}") from error
    if isinstance(body, list) and body:
        return body, None
    if isinstance(body, dict) and "instances" in body and "inputs" in body:
        raise PredictError(f'{where}: holds both "instances" and "inputs"; a request has one of them')
    if isinstance(body, dict):
        name = body.get("signature_name")
        named = name if isinstance(name, str) else None
        if isinstance(body.get("instances"), list) and body["instances"]:
            return body["instances"], named
        if "inputs" in body:
            return Columns(body["inputs"]), named
    raise PredictError(f"{where}: holds no instances; {_FORMS}")


def _bytes(file: Path, shape: Shape) -> list[Any] | Columns:
    try:
        value: Any = {"b64": base64.b64encode(file.read_bytes()).decode()}
    except OSError as error:
        raise PredictError(f"{file}: cannot be read: {error.strerror}") from error
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
        told = list(shape) if shape is not None else "unknown"
        raise PredictError(f"{file}: the model does not take images; its input has shape {told} and type {dtype}")
    sizes = dict(zip(layout, shape, strict=True))
    channels = sizes.get("C", 1) or 3
    try:
        with Image.open(file) as image:
            size = _size(image, sizes["H"], sizes["W"])
            pixels = _eight_bits(image).convert(_MODES[channels]).resize(size)
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise PredictError(f"{file}: is not an image that can be read: {error}") from error
    values: Sequence[float | int] = [level / 255 for level in range(256)] if dtype in FLOATS else range(256)
    data, (width, height) = pixels.tobytes(), size

    def rows(plane: bytes) -> list[list[Any]]:
        return [[values[level] for level in plane[start : start + width]] for start in range(0, width * height, width)]

    planes = [rows(data[channel::channels]) for channel in range(channels)]
    inner: Any = planes  # CHW
    if "C" not in sizes:
        inner = planes[0]
    elif layout.endswith("C"):
        inner = [[list(pixel) for pixel in zip(*line, strict=True)] for line in zip(*planes, strict=True)]
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


# ---- with a signature -----------------------------------------------------------------------------------------------


def sent(values: Sequence[Any] | Columns, inputs: Inputs) -> str:
    """The shapes of what a request holds, for a person who compares them: ``image [1, 28, 28, 1] of numbers``."""
    only = next(iter(inputs)) if len(inputs) == 1 else "instances"
    if isinstance(values, Columns):
        whole = values.inputs
        found = whole if isinstance(whole, Mapping) and set(whole) != {"b64"} else {only: whole}
    elif values and isinstance(values[0], Mapping) and set(values[0]) != {"b64"}:
        found = {name: [row.get(name) for row in values if isinstance(row, Mapping)] for name in values[0]}
    else:
        found = {only: list(values)}
    return ", ".join(f"{name} {_form(value)}" for name, value in found.items())


def _form(value: Any) -> str:
    shape: list[int] = []
    while isinstance(value, list):
        shape.append(len(value))
        value = value[0] if value else None
    match value:
        case bool():
            kind = "true and false"
        case int():
            kind = "whole numbers"
        case float():
            kind = "numbers"
        case str() | {"b64": _}:
            kind = "text"
        case None:
            kind = "nothing"
        case _:
            kind = "objects"
    return f"{shape} of {kind}"


def _of_file(file: Path, inputs: Inputs) -> tuple[list[Any] | Columns, tuple[str, ...]]:
    """Values from a file: where the signature has several inputs, one takes the file, the others are made."""
    if len(inputs) == 1:
        (info,) = inputs.values()
        return read_input(file, info["shape"], info["dtype"]), ()
    is_image = file.suffix.lower() in _IMAGES
    images = [name for name, info in inputs.items() if is_image and _is_image(info)]
    takes = images or [name for name, info in inputs.items() if info["dtype"] == "string"]
    if len(takes) != 1:
        raise PredictError(
            f"{file}: the model has several inputs ({shown(inputs)}), and it is not clear which takes this file; write "
            f"--input {next(iter(inputs), 'NAME')}=@{file}"
        )
    values = read_input(file, inputs[takes[0]]["shape"], inputs[takes[0]]["dtype"])
    whole = {name: sample(name, info) for name, info in inputs.items()}
    made = tuple(name for name in inputs if name != takes[0])
    return Columns({**whole, takes[0]: values.inputs if isinstance(values, Columns) else values}), made


def _is_image(info: Mapping[str, Any]) -> bool:
    return len(info["shape"] or ()) >= 3 and _layout(info["shape"]) is not None and info["dtype"] != "string"
