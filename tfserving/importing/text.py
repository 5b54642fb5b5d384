"""Writes a stack file: what the Pulumi CLI reads as the values that were given, with comments for people."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

WIDTH = 110
_FLOW_WIDTH = 72
_PLAIN = re.compile(r"[A-Za-z_/](?:[A-Za-z0-9_./+@-]|:(?=[^\s/]))*")
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*(?::[A-Za-z][A-Za-z0-9]*)?")
_WORDS = frozenset(["y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf"])
"""What some reader of YAML takes for something else than a text."""
_FLOWING = frozenset(
    ["policy", "versions", "startup", "liveness", "readiness", "metrics", "rollingStrategy", "timeouts"]
)
"""Mappings that are written on one line where they fit."""


@dataclass(frozen=True)
class Entry:
    """A model or a service.

    Attributes:
        name: its name.
        value: what the stack file says of it.
        comments: what a person is to know of it, one sentence each.
        disabled: why it is written as a comment only; empty: it is not.
        disabled_keys: keys of ``value`` that are written as comments, with the reason.
    """

    name: str
    value: Mapping[str, Any]
    comments: tuple[str, ...] = ()
    disabled: tuple[str, ...] = ()
    disabled_keys: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Section:
    """A config key with entries.

    Attributes:
        key: such as ``tf-serving:models``.
        entries: in the order in which they are written.
        comments: above the key.
    """

    key: str
    entries: Sequence[Entry]
    comments: tuple[str, ...] = ()


@dataclass(frozen=True)
class StackText:
    """A stack file.

    Attributes:
        head: comments at its top, one paragraph each.
        settings: config keys with plain values.
        sections: config keys with entries.
    """

    head: tuple[str, ...]
    settings: Mapping[str, Any]
    sections: tuple[Section, ...]

    def whole(self) -> str:
        """The file."""
        lines = ["# yaml-language-server: $schema=schema.json", *_comment(self.head, ""), "config:", *self.lines()]
        return "\n".join(lines) + "\n"

    def lines(self) -> list[str]:
        """What stands below ``config:``."""
        lines: list[str] = []
        for key, value in self.settings.items():
            lines += _pair(key, value, "  ")
        for section in self.sections:
            lines += ["", *_comment(section.comments, "  ")]
            enabled = any(not entry.disabled for entry in section.entries)
            lines.append(f"  {section.key}:" if enabled else f"  {section.key}: {{}}")
            for entry in section.entries:
                lines += _entry(entry)
        return lines


def _entry(entry: Entry) -> list[str]:
    lines = _comment((*entry.comments, *(f"Not taken over: {reason}" for reason in entry.disabled)), "    ")
    value = {key: item for key, item in entry.value.items() if key not in entry.disabled_keys}
    written = _pair(entry.name, value, "    ")
    for key, reason in entry.disabled_keys.items():
        if not value and not entry.disabled:
            written = [f"    {_scalar(entry.name)}:"]
        written += _comment((reason,), "      ")
        written += _commented(_pair(key, entry.value[key], "      "), 6)
    return lines + (_commented(written, 4) if entry.disabled else written)


def _commented(lines: Iterable[str], indent: int) -> list[str]:
    return [f"{line[:indent]}# {line[indent:]}".rstrip() for line in lines]


def _comment(texts: Iterable[str], indent: str) -> list[str]:
    width = WIDTH - len(indent) - 2
    return [
        f"{indent}# {line}".rstrip()
        for text in texts
        for line in textwrap.wrap(_printable(text), width, break_long_words=False, break_on_hyphens=False) or [""]
    ]


def _pair(key: str, value: Any, indent: str) -> list[str]:
    name = key if _KEY.fullmatch(key) and not _is_word(key) else _quoted(key)
    if isinstance(value, str) and "\n" in value and (block := _block(value, f"{indent}  ")):
        return [f"{indent}{name}: {block[0]}", *block[1:]]
    if not isinstance(value, Mapping | list) or not value:
        return [f"{indent}{name}: {_flow(value)}"]
    flow = _flow(value)
    shallow = isinstance(value, list) and not any(isinstance(item, Mapping | list) for item in value)
    if (key in _FLOWING and len(flow) <= _FLOW_WIDTH) or (shallow and len(flow) <= WIDTH):
        return [f"{indent}{name}: {flow}"]
    return [f"{indent}{name}:", *_below(value, f"{indent}  ")]


def _below(value: Any, indent: str) -> list[str]:
    if isinstance(value, Mapping):
        return [line for key, item in value.items() for line in _pair(str(key), item, indent)]
    lines = []
    for item in value:
        if isinstance(item, Mapping) and item:
            first, *rest = _below(item, f"{indent}  ")
            lines += [f"{indent}- {first[len(indent) + 2 :]}", *rest]
        else:
            lines.append(f"{indent}- {_flow(item)}")
    return lines


def _flow(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_scalar(str(key))}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_flow, value)) + "]"
    return _scalar(value)


def _scalar(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return json.dumps(value)
    text = str(value)
    return text if _PLAIN.fullmatch(text) and not _is_word(text) else _quoted(text)


def _is_word(text: str) -> bool:
    return text.lower() in _WORDS


def _quoted(text: str) -> str:
    """A double-quoted scalar: the escapes of JSON, and ``\\x``, ``\\u``, ``\\U`` for what is not printable."""
    escaped = json.dumps(text, ensure_ascii=False)[1:-1]
    return '"' + "".join(_escape(character) for character in escaped) + '"'


def _escape(character: str) -> str:
    if character.isprintable() and character != "\ufeff":
        return character
    number = ord(character)
    return f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}" if number < 65536 else f"\\U{number:08x}"


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)


def _block(text: str, indent: str) -> list[str]:
    """A text of several lines as a block scalar, its head first; empty where only quotes keep it as it is."""
    body = text.removesuffix("\n")
    lines = body.split("\n")
    sound = all(line == line.rstrip() and line.isprintable() for line in lines)
    if not sound or not lines[0] or lines[0].startswith(" ") or not lines[-1]:
        return []
    head = "|" if text.endswith("\n") else "|-"
    return [head, *(f"{indent}{line}".rstrip() for line in lines)]
