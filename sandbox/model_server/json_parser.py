"""JSON text as RapidJSON reads it, with the words and offsets of its errors.

Source: RapidJSON 1.1.0 (``reader.h``, ``error/en.h``), with the flags of ``util/json_tensor.cc``: iterative, NaN and
Inf, stop when done. Most bodies are read by Python's own parser; what that one refuses, or would read in another way,
is read again here.
"""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

EMPTY = "The document is empty."
BAD_VALUE = "Invalid value."
NO_NAME = "Missing a name for object member."
NO_COLON = "Missing a colon after a name of object member."
OBJECT_OPEN = "Missing a comma or } after an object member."
ARRAY_OPEN = "Missing a comma or ] after an array element."
BAD_HEX = "Incorrect hex digit after \\u escape in string."
BAD_SURROGATE = "The surrogate pair in string is invalid."
BAD_ESCAPE = "Invalid escape character in string."
STRING_OPEN = "Missing a closing quotation mark in string."
TOO_BIG = "Number too big to be stored in double."
NO_FRACTION = "Miss fraction part in number."
NO_EXPONENT = "Miss exponent in number."

_BOM = "\ufeff"
_BLANK = re.compile(r"[ \t\r\n]*")
# What Python's parser takes otherwise: escaped surrogates, numbers that may be too big.
_DOUBTFUL = re.compile(r"\\u[dD][89a-fA-F]|[eE]\+?\d{3}|\d{300}", re.ASCII)
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]*)")
_SPECIAL = re.compile(r"(-?)(NaN|Infinity|Inf)")
_PLAIN = re.compile(r'[^"\\\x00-\x1f]*')
_HEX = re.compile(r"[0-9a-fA-F]{4}")
_ESCAPES = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_LITERALS = {"t": ("true", True), "f": ("false", False), "n": ("null", None)}


class ParseError(ValueError):
    """Not JSON.

    Attributes:
        reason: RapidJSON's sentence.
        offset: where, in bytes.
    """

    def __init__(self, reason: str, offset: int) -> None:
        super().__init__(f"{reason} at offset: {offset}")
        self.reason = reason
        self.offset = offset


def parse(body: bytes) -> Any:
    """The value a body starts with; what follows it is ignored. Of two equal keys the first one counts.

    Raises:
        ParseError: there is none.
    """
    text = body.decode("utf-8", "surrogateescape")
    if not _DOUBTFUL.search(text):
        start = _BLANK.match(text, 1 if text.startswith(_BOM) else 0)
        try:
            value, _ = _python.raw_decode(text, start.end() if start else 0)
        except (ValueError, RecursionError):
            pass
        else:
            return value
    return _Reader(text).read()


def _first_wins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) == len(pairs):
        return members
    members = {}
    for name, value in pairs:
        members.setdefault(name, value)
    return members


_python = json.JSONDecoder(object_pairs_hook=_first_wins)


class _Reader:
    """RapidJSON's iterative parser: nesting costs no stack."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 1 if text.startswith(_BOM) else 0

    def read(self) -> Any:
        self._skip()
        if self._peek() == "\0":
            self._fail(EMPTY)
        if self._peek() in "]},:":
            self._fail(EMPTY)  # what its table says of the start
        root: list[Any] = []
        # Open containers, innermost last, each with the name its next value gets; the root is a list of one value.
        stack: list[tuple[list[Any] | dict[str, Any], str]] = [(root, "")]
        while True:
            opened = self._value(stack)
            while not opened:
                if len(stack) == 1:
                    return root[0]
                opened = self._next(stack)

    def _value(self, stack: list[tuple[list[Any] | dict[str, Any], str]]) -> bool:
        """Reads a scalar, or opens a container. Returns whether a value comes next."""
        mark = self._peek()
        if mark == "[":
            items: list[Any] = []
            self._put(stack[-1], items)
            self._at += 1
            self._skip()
            if self._peek() == "]":
                self._at += 1
                return False
            stack.append((items, ""))
            return True
        if mark == "{":
            members: dict[str, Any] = {}
            self._put(stack[-1], members)
            self._at += 1
            self._skip()
            if self._peek() == "}":
                self._at += 1
                return False
            stack.append((members, self._name()))
            return True
        if mark in "]},:":
            self._fail(BAD_VALUE)
        if mark == '"':
            self._put(stack[-1], self._string())
        elif mark in _LITERALS:
            self._put(stack[-1], self._literal(*_LITERALS[mark]))
        else:
            self._put(stack[-1], self._number())
        return False

    def _next(self, stack: list[tuple[list[Any] | dict[str, Any], str]]) -> bool:
        """After a value: a comma, or the end of its container. Returns whether a value comes next."""
        self._skip()
        container, _ = stack[-1]
        mark = self._peek()
        in_array = isinstance(container, list)
        if mark == ",":
            self._at += 1
            self._skip()
            if not in_array:
                stack[-1] = (container, self._name())
            return True
        if mark != ("]" if in_array else "}"):
            self._fail(ARRAY_OPEN if in_array else OBJECT_OPEN)
        self._at += 1
        stack.pop()
        return False

    def _name(self) -> str:
        if self._peek() != '"':
            self._fail(NO_NAME)
        name = self._string()
        self._skip()
        if self._peek() != ":":
            self._fail(NO_COLON)
        self._at += 1
        self._skip()
        return name

    @staticmethod
    def _put(place: tuple[list[Any] | dict[str, Any], str], value: Any) -> None:
        container, name = place
        if isinstance(container, list):
            container.append(value)
        else:
            container.setdefault(name, value)

    def _literal(self, word: str, value: Any) -> Any:
        for letter in word:
            if self._peek() != letter:
                self._fail(BAD_VALUE)
            self._at += 1
        return value

    def _string(self) -> str:
        parts: list[str] = []
        self._at += 1
        while True:
            plain = _PLAIN.match(self._text, self._at)
            if plain:
                parts.append(plain[0])
                self._at = plain.end()
            mark = self._peek()
            if mark == '"':
                self._at += 1
                return "".join(parts)
            if mark == "\0":
                self._fail(STRING_OPEN)
            if mark != "\\":
                self._fail(BAD_ESCAPE)  # a control character
            parts.append(self._escape())

    def _escape(self) -> str:
        start = self._at
        mark = self._text[start + 1 : start + 2]
        self._at += 2
        if mark in _ESCAPES and mark:
            return _ESCAPES[mark]
        if mark != "u":
            self._fail(BAD_ESCAPE, start)
        code = self._hex(start)
        if 0xD800 <= code <= 0xDBFF:
            if not self._text.startswith("\\u", self._at):
                self._fail(BAD_SURROGATE, start)
            self._at += 2
            low = self._hex(start)
            if not 0xDC00 <= low <= 0xDFFF:
                self._fail(BAD_SURROGATE, start)
            code = ((code - 0xD800) << 10 | (low - 0xDC00)) + 0x10000
        # A low surrogate alone is taken as it is: its three bytes, which are no UTF-8.
        encoded = chr(code).encode("utf-8", "surrogatepass")
        return encoded.decode("utf-8", "surrogateescape")

    def _hex(self, start: int) -> int:
        digits = _HEX.match(self._text, self._at)
        if not digits:
            self._fail(BAD_HEX, start)
        self._at += 4
        return int(digits[0], 16)

    def _number(self) -> int | float:
        start = self._at
        special = _SPECIAL.match(self._text, start)
        if special:
            self._at = special.end()
            if special[2] == "Inf" and self._peek() == "i":
                self._fail(BAD_VALUE)
            return float(special[1] + special[2])
        integer = _INTEGER.match(self._text, start)
        if not integer:
            self._at += self._peek() == "-"
            self._fail(BAD_VALUE)
        self._at = integer.end()
        is_double = False
        if self._peek() == ".":
            is_double = True
            self._at += 1
            self._digits(NO_FRACTION)
        if self._peek() in "eE":
            is_double = True
            self._at += 1
            self._at += self._peek() in "+-"
            self._digits(NO_EXPONENT)
        text = self._text[start : self._at]
        number = float(text)
        if number in (float("inf"), float("-inf")):
            self._fail(TOO_BIG, start)
        return number if is_double else int(text)

    def _digits(self, missing: str) -> None:
        if self._peek() not in "0123456789":
            self._fail(missing)
        while self._peek() in "0123456789":
            self._at += 1

    def _skip(self) -> None:
        blank = _BLANK.match(self._text, self._at)
        if blank:
            self._at = blank.end()

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1] or "\0"

    def _fail(self, reason: str, at: int | None = None) -> NoReturn:
        position = self._at if at is None else at
        raise ParseError(reason, len(self._text[:position].encode("utf-8", "surrogateescape")))
