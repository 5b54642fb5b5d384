"""Small requests that a model takes, made from its signature alone."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from tfserving.client import Columns
from tfserving.errors import TFServingError

Shape = Sequence[int | None] | None
Inputs = Mapping[str, Mapping[str, Any]]
"""``{name: {"dtype": "float32", "shape": [None, 28, 28, 1]}}``, as a client's metadata has them."""

_SHOWN = 20
"""Inputs that are listed of more."""

FLOATS = ("float16", "bfloat16", "float32", "float64")
"""Types of floating-point numbers that a request can carry."""


class SampleError(TFServingError):
    """No request can be made from a signature."""


def from_signature(inputs: Inputs, outputs: Inputs) -> list[Any] | Columns:
    """A small request that a signature takes: ones, ``true``, or text, with every open dimension of size one.

    Raises:
        SampleError: an input of a type that no request can carry.
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
        SampleError: no request can carry its type.
    """
    dtype = info["dtype"]
    if dtype.startswith(("complex", "q")) or dtype in ("resource", "variant"):
        raise SampleError(f"no request can be made for input {name}: values of type {dtype} cannot be written")
    value: Any = 1.0 if dtype in FLOATS else True if dtype == "bool" else "text" if dtype == "string" else 1
    shape = info["shape"] if info["shape"] is not None else [None]
    for size in reversed(shape):
        value = [value] * (1 if size is None else size)
    return value


def shown(inputs: Inputs) -> str:
    """Inputs for a person: ``image float32 [?, 28, 28, 1]``; of many the first."""

    def dimensions(shape: Shape) -> str:
        if shape is None:
            return "of any shape"
        return "[" + ", ".join("?" if size is None else str(size) for size in shape) + "]"

    told = [f"{name} {info['dtype']} {dimensions(info['shape'])}" for name, info in inputs.items()]
    more = f" and {len(told) - _SHOWN} more" if len(told) > _SHOWN else ""
    return ", ".join(told[:_SHOWN]) + more


def varied(request: list[Any] | Columns, seed: int) -> list[Any] | Columns:
    """A request of the same form with other values, always the same ones for a seed.

    Floating-point numbers from 0 to 1, whole ones 0 or 1, which any vocabulary or table has, and numbered texts.
    """
    numbers = random.Random(seed)  # noqa: S311 (values that differ, no secrets)

    def change(value: Any) -> Any:
        match value:
            case bool():
                return numbers.random() < 0.5
            case int():
                return numbers.randrange(2)
            case float():
                return round(numbers.random(), 3)
            case str():
                return f"{value} {seed}"
            case list():
                return [change(item) for item in value]
            case _:
                return {name: change(item) for name, item in value.items()}

    return Columns(change(request.inputs)) if isinstance(request, Columns) else [change(item) for item in request]
