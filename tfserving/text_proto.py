"""Text-format protocol buffers: rendered from a Jinja2 template, parsed with the position of a mistake in the error."""

from __future__ import annotations

import re
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


def parse_text(text: str, message: _M, what: str) -> _M:
    """Fill ``message`` from text format, as the server does: unknown fields and repeated scalars are errors.

    Args:
        text: the whole file.
        message: an empty message of the type to read.
        what: names the file in errors (``model config file``).

    Raises:
        ModelConfigError: naming line and column where the parser knows them.
    """
    if text.startswith("\ufeff"):
        raise ModelConfigError(
            f"{what}: begins with a byte order mark, which TensorFlow Serving does not read: save it without"
        )
    try:
        return text_format.Parse(text, message)
    except text_format.ParseError as error:
        raise ModelConfigError(f"{what}: {_reason(error)}") from error
    except ValueError as error:  # text that is not UTF-8
        raise ModelConfigError(f"{what}: {error}") from error


def without_unknown_fields(text: str, kind: type[Message]) -> tuple[str, tuple[str, ...]]:
    """Text format with blanks in place of fields that are not known, and what the parser says of each of them.

    The parser stops at the first one, and tells nothing of those that it is asked to pass over. With any other mistake
    the text ends up as far as it got.
    """
    told = []
    while True:
        try:
            text_format.Parse(text, kind())
        except (text_format.ParseError, ValueError) as error:
            line, column = (error.GetLine(), error.GetColumn()) if isinstance(error, text_format.ParseError) else (0, 0)
            if not line or not column or _UNKNOWN not in str(error):
                break
            start = sum(len(each) + 1 for each in text.split("\n")[: line - 1]) + column - 1
            end = _end_of_field(text, start)
            if not text[start:end].strip():
                break
            told.append(_reason(error).rstrip("."))
            text = text[:start] + re.sub(r"[^\n]", " ", text[start:end]) + text[end:]
        else:
            break
    return text, tuple(told)


_UNKNOWN = " has no field named "
_TOKEN = re.compile(
    r"""(?:\s+|\#[^\n]*)*("(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|[{}<>\[\]:,;]|-?[^\s\#"'{}<>\[\]:,;]+)"""
)


def _end_of_field(text: str, start: int) -> int:
    """The end of the field whose name is at ``start``."""
    words = [(found[1], found.end()) for found in _TOKEN.finditer(text, start)]
    at = 2 if len(words) > 1 and words[1][0] == ":" else 1
    depth = 0
    for index in range(at, len(words)):
        word, end = words[index]
        depth += (word in _OPENING) - (word in _CLOSING)
        following = words[index + 1][0] if index + 1 < len(words) else ""
        more = word == "-" or (word[0] in _QUOTES and following[:1] in _QUOTES)
        if depth <= 0 and not more:
            return words[index + 1][1] if following in (",", ";") else end
    return len(text)


_OPENING, _CLOSING, _QUOTES = ("{", "<", "["), ("}", ">", "]"), ("'", '"')


def _reason(error: Exception) -> str:
    """What the parser says, and where."""
    # A person looks the field up in TensorFlow Serving's documents, not in our copy.
    reason = str(error).replace("tf_serving_stacks.", "tensorflow.serving.")
    if not isinstance(error, text_format.ParseError) or (line := error.GetLine()) is None:
        return reason
    column = error.GetColumn()
    # The parser's message starts with "line:column : ".
    return f"line {line}" + (f", column {column}" if column is not None else "") + f": {reason.split(' : ', 1)[-1]}"
