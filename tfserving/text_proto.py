"""Text-format protocol buffers: rendered from a Jinja2 template, parsed with the position of a mistake in the error."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from google.protobuf import text_encoding, text_format
from google.protobuf.message import Message
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from tfserving.errors import ModelConfigError

TEMPLATES = Path(__file__).resolve().parent.parent / "templates"

_M = TypeVar("_M", bound=Message)


def quote(value: str) -> str:
    """A string as a text-format literal in single quotes, escaped so that it parses back to the same string."""
    # Given a str (its stubs know bytes only) this leaves what is not ASCII readable.
    return f"'{text_encoding.CEscape(value, True)}'"  # type: ignore[arg-type]


@cache
def _environment() -> Environment:
    # Nothing here is HTML: autoescaping would corrupt the text format, whose own escaping is `quote`.
    environment = Environment(  # noqa: S701
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["quote"] = quote
    return environment


def render_template(name: str, **context: Any) -> str:
    """``templates/<name>`` filled in. A variable the template names and the context lacks is an error."""
    return _environment().get_template(name).render(**context)


def parse_text(text: str, message: _M, what: str, *, lenient: bool = False) -> _M:
    """Fill ``message`` from text format, as the server does: unknown fields and repeated scalars are errors.

    Args:
        text: the whole file.
        message: an empty message of the type to read.
        what: names the file in errors (``model config file``).
        lenient: fields that are not known are passed over, which the server does not do.

    Raises:
        ModelConfigError: naming line and column where the parser knows them.
    """
    try:
        return text_format.Parse(text, message, allow_unknown_field=lenient)
    except text_format.ParseError as error:
        line, column = error.GetLine(), error.GetColumn()
        # A person looks the field up in TensorFlow Serving's documents, not in our copy.
        reason = str(error).replace("tf_serving_stacks.", "tensorflow.serving.")
        if line is not None:
            # The parser's message starts with "line:column : ".
            reason = reason.split(" : ", 1)[-1]
            where = f"line {line}" + (f", column {column}" if column is not None else "")
            raise ModelConfigError(f"{what}: {where}: {reason}") from error
        raise ModelConfigError(f"{what}: {reason}") from error
    except ValueError as error:  # text that is not UTF-8
        raise ModelConfigError(f"{what}: {error}") from error
