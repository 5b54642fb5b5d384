"""A stack file, read as the Pulumi CLI reads it.

The CLI's YAML library (gopkg.in/yaml.v3) follows neither YAML 1.1 nor 1.2 to the letter: ``00000123`` is the octal
number 83, ``08`` is 8, ``1_24`` is 124, ``yes`` is a text, and a tag of a list or a mapping says nothing. PyYAML reads
each of these differently, so that only its parser is used here. The CLI then writes the file anew and reads it once
more (``LoadProjectStackBytes`` in its ``workspace`` package), and hands structured values over as JSON. The rules here
were checked against what it makes of some hundred files (``tests/unit/data/stack_file_scalars.json``).
"""

from __future__ import annotations

import binascii
import datetime
import json
import math
import re
from base64 import b64decode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Any, ClassVar

import yaml

from tfserving.errors import Problem
from tfserving.property_path import join_path

_TAG = "tag:yaml.org,2002:"
_TYPES = ("bool", "float", "int", "null", "timestamp")
"""Tags that say how a scalar is read. With any other one, it is a text."""
_TRUE, _FALSE, _NULL = ("true", "True", "TRUE"), ("false", "False", "FALSE"), ("", "~", "null", "Null", "NULL")
_SPECIAL = re.compile(r"\.(nan|NaN|NAN)|[-+]?\.(inf|Inf|INF)")
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*|0[xX][0-9a-fA-F]+|0[bB][01]+|0[oO]?[0-7]+)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_LONE_UNDERSCORE = re.compile(r"(?<![0-9])_|_(?![0-9])")
_DATE = r"([0-9]{4})-([0-9]{1,2})-([0-9]{1,2})"
_CLOCK = r"([0-9]{1,2}):([0-9]{1,2}):([0-9]{1,2})(?:[.,]([0-9]+))?"
_TIME = re.compile(rf"{_DATE}(?:[Tt]{_CLOCK}(?:Z|([-+])([0-9]{{2}}):([0-9]{{2}}))|(?: +{_CLOCK})?)")
_DOUBTFUL = re.compile(
    r"[-+]?(0[0-9_]*[0-9][0-9_]*|0[xX][0-9a-fA-F_]+|0[bB][01_]+|0[oO][0-7_]+|[0-9][0-9_]*_[0-9_]*(\.[0-9_]*)?"
    r"|[0-9]+(:[0-5]?[0-9])+(\.[0-9]*)?)"
)
"""Numbers that readers of YAML disagree on: leading zeros, other bases, underscores, sixties."""
_OF_TEXTS = re.compile(r"(?!tf-serving:models\b).*[:.](env|tags|labels|nodeSelector|annotations)[.\[]")
"""Begins the paths of settings whose values are texts; labels of models are version numbers."""
_NO_NAME = "<nil>"
"""What the CLI makes of a key that is nothing."""


class StackFileError(yaml.MarkedYAMLError):
    """The CLI would refuse the file as a file."""

    def __init__(self, problem: str, node: yaml.Node | None = None) -> None:
        super().__init__(problem=problem, problem_mark=node.start_mark if node else None)


class _Loader(yaml.SafeLoader):
    """Parses. What a node is, is decided below: the tag is empty where none is written."""

    ESCAPE_REPLACEMENTS: ClassVar[dict[str, str]] = {  # type: ignore[misc]  # is final in the stubs only
        escape: text for escape, text in yaml.SafeLoader.ESCAPE_REPLACEMENTS.items() if escape != "/"
    }

    def resolve(self, kind: type[yaml.Node], value: Any, implicit: Any) -> str:
        return ""


@dataclass(frozen=True)
class Doubts:
    """What is doubtful about a stack file that a program was started with.

    Attributes:
        problems: one for each key that is written twice, and for each number or key that is not read as it is written.
        affected: config paths, as the program knows them, whose values are not those that were meant.
    """

    problems: tuple[Problem, ...] = ()
    affected: frozenset[str] = frozenset()

    def beside(self, others: tuple[Problem, ...]) -> tuple[Problem, ...]:
        """These problems and those of ``others`` that they do not explain."""
        rest = [problem for problem in others if not any(_is_below(problem.path, path) for path in self.affected)]
        return (*self.problems, *rest)


def load(text: str) -> Any:
    """The first document, as the CLI reads it: numbers as ``int`` where an integer is written, dates as text.

    Args:
        text: a YAML file.

    Raises:
        yaml.YAMLError: it is no YAML, or nothing the CLI would take.
    """
    try:
        root = _compose(text)
        if isinstance(root, yaml.MappingNode):
            _check_names(root, "a key at the top")
            for key, value in root.value:
                if key.value == "config" and isinstance(value, yaml.MappingNode):
                    _check_names(value, "a config key")
                elif key.value == "config" and _value(value) is not None:
                    raise StackFileError("config is no mapping", value)
        return None if root is None else _value(root)
    except RecursionError:
        raise StackFileError("it is nested too deeply, or an anchor contains itself") from None


def as_text(value: Any) -> str:
    """A value as the CLI hands it to a program.

    ``true``, ``1.5``, ``1e+23``; nothing is an empty text; lists and mappings are JSON, keys in order.
    """
    match value:
        case str():
            return value
        case None:
            return ""
        case _:
            return _json(value)


def json_number(value: float) -> str:
    """A float as the CLI's JSON has it: whole numbers without a point, an exponent below 1e-6 and from 1e21."""
    if value == 0:
        return "0"  # of -0.0, too, which the CLI writes as -0 and then reads as a whole number
    if 1e-6 <= abs(value) < 1e21:
        return format(Decimal(repr(value)).normalize(), "f")
    mantissa, _, exponent = repr(value).partition("e")
    digits = int(exponent or 0)
    return f"{mantissa.removesuffix('.0')}e{'-' if digits < 0 else '+'}{abs(digits):0{1 if digits < 0 else 2}d}"


def full_key(key: str, project: str) -> str | None:
    """A config key with its namespace: ``shop:size`` of ``size`` in project shop, and of the old ``shop:config:size``.

    None where the CLI would refuse it.
    """
    parts = key.split(":")
    if len(parts) == 3 and parts[1] == "config":
        del parts[1]
    return f"{project}:{key}" if len(parts) == 1 else ":".join(parts) if len(parts) == 2 else None


def doubts(text: str, project: str, name: str = "the stack file") -> Doubts:
    """What is below ``config`` and may not be meant as it is read.

    Keys that are written twice, of which loaders keep one and say nothing; plain numbers that are written in a way on
    which readers of YAML disagree; dates, and numbers in place of texts, that are read as another text than is written;
    plain keys that are read as a number, a date or nothing, and so have another name.

    Args:
        text: a stack file. One that is no YAML gives nothing: it is not what a program was started with.
        project: name of the project, the namespace of keys without one.
        name: of the file, for messages.
    """
    problems: list[Problem] = []
    affected: set[str] = set()
    try:
        root = _compose(text)
        for key, value in root.value if isinstance(root, yaml.MappingNode) else ():
            if key.value == "config" and isinstance(value, yaml.MappingNode):
                problems += _duplicates(value, lambda key: full_key(key, project) or key, name)
                for path, read_path, node, is_key in _settings(value, project):
                    if problem := _doubt(path, node, is_key):
                        problems.append(problem)
                        affected.add(read_path)
    except (ValueError, RecursionError, yaml.YAMLError):
        return Doubts()
    return Doubts(tuple(problems), frozenset(affected))


# ---- doubts


def _doubt(path: str, node: yaml.ScalarNode, is_key: bool) -> Problem | None:
    written = node.value
    if node.tag or node.style is not None:
        return None
    if _DOUBTFUL.fullmatch(written):
        read = as_text(_read(written)[1])
        fix = f'quote it ("{written}") if it is a text'
        if re.fullmatch(r"[-+]?0[0-9_]+", written):
            fix += f", or drop the zeros ({written.lstrip('-+0_') or '0'})"
        elif ":" not in written:
            fix += f", or write {read}"
        message = f"{written} is a number that readers of YAML disagree on: the Pulumi CLI reads {read}"
        return Problem(path, message, "a number without leading zeros, other bases and underscores", fix)
    kind, value = _read(written)
    what = {"null": "nothing", "timestamp": "a date", "bool": "a boolean"}.get(kind, "a number")
    text_is_meant = kind == "timestamp" or (kind in ("int", "float", "bool") and _OF_TEXTS.match(path))
    if not is_key and text_is_meant and (read := as_text(value)) != written:
        message = f"{written} is read as {what}, and the text would be {read}"
        return Problem(path, message, "text", f'quote it ("{written}")')
    if is_key and (read := _key(node)) != written:
        message = f"the key {written or _NO_NAME} is read as {what}, so that its name would be {read}"
        return Problem(path, message, "text", f'quote it ("{written}"), or choose another name')
    return None


def _duplicates(node: yaml.Node, place: Callable[[str], str], name: str) -> Iterator[Problem]:
    """Keys of mappings that are written twice.

    Args:
        node: where to look.
        place: the path of a key of ``node``.
        name: of the file.
    """
    if not isinstance(node, yaml.MappingNode):
        return
    first: dict[str, int] = {}
    for key, value in node.value:
        here, line = place(str(key.value)), key.start_mark.line + 1
        if here in first:
            message = f"the key is written twice, on lines {first[here]} and {line} of {name}: one would be lost"
            yield Problem(here, message, fix="keep one, or rename one")
        first.setdefault(here, line)
        for item, path in _items(value, here):
            yield from _duplicates(item, partial(join_path, path), name)


def _items(node: yaml.Node, path: str) -> Iterator[tuple[yaml.Node, str]]:
    """A value that is no list, or what lists hold, with their paths."""
    if not isinstance(node, yaml.SequenceNode):
        yield node, path
        return
    for index, item in enumerate(node.value):
        yield from _items(item, f"{path}[{index}]")


def _settings(config: yaml.MappingNode, project: str) -> Iterator[tuple[str, str, yaml.ScalarNode, bool]]:
    """:func:`_scalars` of every config key's value."""
    for key, value in config.value:
        path = full_key(str(key.value), project) or str(key.value)
        yield from _scalars(value, path, path)


def _scalars(node: yaml.Node, path: str, read_path: str) -> Iterator[tuple[str, str, yaml.ScalarNode, bool]]:
    """Every scalar, and whether it is a key, with its path as it is written and as it is read."""
    if isinstance(node, yaml.ScalarNode):
        yield path, read_path, node, False
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _scalars(item, f"{path}[{index}]", read_path)
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                here, read = join_path(path, key.value), join_path(read_path, _key(key))
                yield here, read, key, True
                yield from _scalars(value, here, read)


def _is_below(path: str, above: str) -> bool:
    return path == above or (path.startswith(above) and path[len(above)] in ".[")


# ---- values


def _compose(text: str) -> yaml.Node | None:
    """The first document; what comes after it is not looked at."""
    loader = _Loader(text)
    root: yaml.Node | None = loader.get_node() if loader.check_node() else None
    if getattr(loader, "yaml_version", None) not in (None, (1, 1)):
        raise StackFileError("%YAML is for version 1.1 only")
    return root


def _check_names(node: yaml.MappingNode, what: str) -> None:
    """At the top and below ``config``, every key is a text, or the CLI refuses the file."""
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode) and _kind_and_value(key)[0] != "str":
            raise StackFileError(f"{key.value} is not {what}: it is no text", key)


def _value(node: yaml.Node) -> Any:
    if isinstance(node, yaml.ScalarNode):
        value = _kind_and_value(node)[1]
        if isinstance(value, float) and not math.isfinite(value):
            raise StackFileError("infinity and NaN cannot be config values", node)
        return value
    if isinstance(node, yaml.SequenceNode):
        return [_value(item) for item in node.value]
    found: dict[str, Any] = {}
    merged: dict[str, Any] = {}
    kinds: dict[str, str] = {}
    written: set[str] = set()
    for key, item in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise StackFileError("a key has to be a single value", key)
        name, kind = _key(key), _kind_and_value(key)[0]
        if name == "NaN" and kind == "float":
            raise StackFileError("NaN cannot be a key", key)
        # Of two numbers that are equal, the CLI takes the second one.
        if key.value in written or kinds.setdefault(name, kind) != kind:
            raise StackFileError(f'key "{key.value}" is written twice', key)
        written.add(key.value)
        if name == "<<":
            merged = _merged(item)
        else:
            found[name] = _value(item)
    return {**merged, **found}


def _merged(node: yaml.Node) -> dict[str, Any]:
    """What ``<<`` adds to a mapping: of two mappings in a list, the first one counts."""
    parts = node.value if isinstance(node, yaml.SequenceNode) else [node]
    if not all(isinstance(part, yaml.MappingNode) for part in parts):
        raise StackFileError("<< needs a mapping, or a list of mappings", node)
    return {key: value for part in reversed(parts) for key, value in _value(part).items()}


def _kind_and_value(node: yaml.ScalarNode) -> tuple[str, Any]:
    """What a scalar is, with its tag and its quotes: the kind (``str``, ``int``, ...) and the value."""
    text = node.value
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise StackFileError("a text holds half a character (a surrogate)", node)
    kind = node.tag.removeprefix(_TAG)
    if kind == "binary":
        try:
            return "str", b64decode(re.sub(r"[\r\n]", "", text), validate=True).decode(errors="replace")
        except binascii.Error:
            raise StackFileError("a !!binary value is not base64", node) from None
    if (node.style is not None and not kind) or (kind and kind not in _TYPES):
        return "str", text
    found, value = _read(text, dates=kind in ("", "timestamp"))
    if kind == "float" and found == "int" and value < 2**63:
        return "float", float(value)
    if kind not in ("", found):
        raise StackFileError(f"{text!r} is not a !!{kind}", node)
    return found, value


def _key(node: yaml.ScalarNode) -> str:
    """A key as the CLI writes it into JSON."""
    kind, value = _kind_and_value(node)
    if kind == "null":
        return _NO_NAME
    if kind == "float":
        if not math.isfinite(value):
            return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
        return _shortest(value)
    return as_text(value)


def _read(text: str, dates: bool = True) -> tuple[str, Any]:
    """What a plain scalar is: the kind and the value. Dates are given as Go writes them, in the kind ``timestamp``."""
    if text in _TRUE or text in _FALSE:
        return "bool", text in _TRUE
    if text in _NULL:
        return "null", None
    if _SPECIAL.fullmatch(text):
        return "float", float(text.replace(".", ""))
    if text[0] in "+-.0123456789":
        if dates and (when := _time(text)):
            return "timestamp", when
        plain = text.replace("_", "")
        if _INTEGER.fullmatch(plain):
            number = _integer(plain)
            # Beyond int64 no sign is taken.
            if -(2**63) <= number < 2**63 or (number < 2**64 and plain[0] not in "+-"):
                return "int", number
        if text[0] == "." and _LONE_UNDERSCORE.search(text):
            return "str", text
        if _FLOAT.fullmatch(plain) and math.isfinite(float(plain)):
            return "float", float(plain)
    return "str", text


def _integer(plain: str) -> int:
    sign, digits = (-1 if plain[0] == "-" else 1), plain.lstrip("+-")
    if digits.isdecimal():
        return sign * int(digits, 8 if len(digits) > 1 and digits[0] == "0" else 10)
    return sign * int(digits, 0)


def _time(text: str) -> str:
    """A date or time as Go writes it; empty where this is none, or there is no such day or hour."""
    match = _TIME.fullmatch(text)
    if match is None:
        return ""
    year, month, day, *rest = match.groups()
    hour, minute, second, fraction = (rest[:4] if rest[0] else rest[7:]) if rest[0] or rest[7] else ("0", "0", "0", "")
    sign, *offset = rest[4:7]
    try:
        # Python has no year 0, whose days are those of 2000.
        datetime.datetime(int(year) or 2000, int(month), int(day), int(hour), int(minute), int(second))
    except ValueError:
        return ""
    shown = f"{year}-{int(month):02}-{int(day):02} {int(hour):02}:{int(minute):02}:{int(second):02}"
    if digits := (fraction or "")[:9].rstrip("0"):
        shown += f".{digits}"
    if sign is None:
        return f"{shown} +0000 UTC"
    hours, minutes = map(int, offset)
    if hours > 24 or minutes > 60:
        return ""
    ahead = 60 * hours + minutes
    zone = f"{sign}{ahead // 60:02}{ahead % 60:02}"
    return f"{shown} {zone} {zone}" if ahead else f"{shown} +0000 UTC"


def _shortest(value: float) -> str:
    """Go's shortest form, with an exponent below 1e-4 and from 1e6."""
    digits = Decimal(repr(value)).normalize()
    exponent = digits.adjusted()
    if value == 0 or -4 <= exponent < 6:
        return json_number(value)
    sign, figures, _ = digits.as_tuple()
    text = "".join(map(str, figures))
    mantissa = text[0] + (f".{text[1:]}" if len(text) > 1 else "")
    return f"{'-' if sign else ''}{mantissa}e{'-' if exponent < 0 else '+'}{abs(exponent):02d}"


def _json(value: Any, nested: bool = False) -> str:
    match value:
        case dict():
            return "{" + ",".join(f"{_json(key, True)}:{_json(value[key], True)}" for key in sorted(value)) + "}"
        case list():
            return "[" + ",".join(_json(item, True) for item in value) + "]"
        case str():
            # As Go writes JSON: nothing that HTML would read as markup.
            text = json.dumps(value, ensure_ascii=False)
            return re.sub("[<>&\u2028\u2029]", lambda m: f"\\u{ord(m[0]):04x}", text)
        case float():
            return json_number(value)
        case int() if nested and not isinstance(value, bool) and value >= 2**63:
            return json_number(float(value))  # the CLI reads the JSON that it wrote once more
        case _:
            return json.dumps(value)
