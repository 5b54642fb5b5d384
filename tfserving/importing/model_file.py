"""A model config file that somebody else wrote: its models, what they wrote beside them, and what cannot be read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tfserving import model_config
from tfserving.errors import ModelConfigError
from tfserving.model_config import Model, ModelServerConfig
from tfserving.protos import tf_serving_pb2 as pb
from tfserving.text_proto import without_unknown_fields

_OPEN, _CLOSE = "{<", "}>"
_OF_THE_LIST = 2
"""Depth of braces inside of one ``config { ... }`` of ``model_config_list { ... }``."""


@dataclass(frozen=True)
class ModelFile:
    """A model config file.

    Attributes:
        models: in the order of the file, with those that are listed twice.
        comments: by position of a model: the comments in it and right above it.
        head: the comments of the file itself.
        lost: what of it cannot be read, one sentence each.
    """

    models: tuple[Model, ...]
    comments: Mapping[int, tuple[str, ...]]
    head: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()

    @property
    def config(self) -> ModelServerConfig:
        """What it says; of models that are listed twice, the first one."""
        return ModelServerConfig(tuple({model.name: model for model in reversed(self.models)}.values()))


def read(text: str) -> ModelFile:
    """Reads a file.

    Args:
        text: all of it.

    Raises:
        ModelConfigError: not a ``ModelServerConfig`` in text format, or one without a ``model_config_list``.
    """
    known, unknown = without_unknown_fields(text, pb.ModelServerConfig)
    try:
        models = model_config.models_in_order(known)
    except ModelConfigError as error:
        raise ModelConfigError("; ".join([str(error), *unknown])) from None
    lost = tuple(f"{each}; TensorFlow Serving refuses the file for it, and it is left out" for each in unknown)
    comments: dict[int, list[str]] = {}
    head: list[str] = []
    for index, comment in _comments(text):
        found = head if index is None else comments.setdefault(index, [])
        if comment:
            found.append(comment)
    return ModelFile(models, {index: tuple(some) for index, some in comments.items()}, tuple(head), lost)


def _comments(text: str) -> Iterator[tuple[int | None, str]]:
    """Each comment with the position of the model that it is in or above, ``None`` for one of the file itself."""
    depth, index, place, quote = 0, 0, 0, ""
    while place < len(text):
        character = text[place]
        if quote:
            if character == "\\":
                place += 1
            elif character in (quote, "\n"):
                quote = ""
        elif character in "'\"":
            quote = character
        elif character == "#":
            end = text.find("\n", place)
            end = len(text) if end < 0 else end
            yield (index if depth else None), text[place:end].strip("# \t\r")
            place = end
        elif character in _OPEN:
            depth += 1
        elif character in _CLOSE:
            index += depth == _OF_THE_LIST
            depth -= 1
        place += 1
