"""A stack file, read as the Pulumi CLI reads it.

The CLI's YAML library follows neither YAML 1.1 nor 1.2 to the letter: ``00000123`` is the octal number 83, ``08`` is 8,
``1_24`` is 124, ``yes`` is a text. PyYAML reads each of these differently. The rules here were checked against what the
CLI's own loader makes of some hundred scalars (``tests/unit/data/stack_file_scalars.json``).
"""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import yaml

from tfserving.errors import Problem
from tfserving.model_config import join_path

_TRUE, _FALSE, _NULL = ("true", "True", "TRUE"), ("false", "False", "FALSE"), ("", "~", "null", "Null", "NULL")
_SPECIAL = {".inf": math.inf, "+.inf": math.inf, "-.inf": -math.inf, ".nan": math.nan}
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*|0[xX][0-9a-fA-F]+|0[bB][01]+|0[oO]?[0-7]+)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_DATE = re.compile(r"([0-9]{4})-([0-9]{1,2})-([0-9]{1,2})")
_TIME = re.compile(
    r"([0-9]{4})-([0-9]{1,2})-([0-9]{1,2})(?:[Tt]|[ \t]+)([0-9]{1,2}):([0-9]{1,2}):([0-9]{1,2})(\.[0-9]{1,9})?"
    r"(Z|[-+][0-9]{2}:[0-9]{2})?"
)
_DOUBTFUL = re.compile(
    r"[-+]?(0[0-9_]*[0-9][0-9_]*|0[xX][0-9a-fA-F_]+|0[bB][01_]+|0[oO][0-7_]+|[0-9][0-9_]*_[0-9_]*(\.[0-9_]*)?"
    r"|[0-9]+(:[0-5]?[0-9])+(\.[0-9]*)?)"
)
"""Numbers that readers of YAML disagree on: leading zeros, other bases, underscores, sixties."""


class StackFileError(yaml.YAMLError):
    """The CLI would refuse the file as a file."""


class _Loader(yaml.SafeLoader):
    """Resolves plain scalars as the CLI's library does, and refuses a key that is there twice."""

    def resolve(self, kind: type[yaml.Node], value: Any, implicit: Any) -> Any:
        if kind is yaml.ScalarNode and implicit[0]:
            return _tag(value)
        return super().resolve(kind, value, implicit)  # type: ignore[no-untyped-call]

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[tuple[str, bool]] = set()
        for key, _ in node.value:
            name = (str(key.value), key.tag == "tag:yaml.org,2002:merge")
            if name in seen:
                raise yaml.MarkedYAMLError(problem=f'key "{key.value}" is written twice', problem_mark=key.start_mark)
            seen.add(name)
        self.flatten_mapping(node)
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(problem="a key has to be a single value", problem_mark=key.start_mark)
        pairs = [(self.construct_object(k, deep=True), self.construct_object(v, deep=True)) for k, v in node.value]
        return {_key(key): value for key, value in pairs}


def _construct_number(loader: _Loader, node: yaml.ScalarNode) -> Any:
    value = _number(str(loader.construct_scalar(node)))
    if isinstance(value, str):
        raise yaml.MarkedYAMLError(problem=f"{value!r} is not a number", problem_mark=node.start_mark)
    return value


def _construct_bool(loader: _Loader, node: yaml.ScalarNode) -> bool:
    return str(loader.construct_scalar(node)) in _TRUE


def _construct_null(loader: _Loader, node: yaml.ScalarNode) -> None:
    if str(loader.construct_scalar(node)) not in _NULL:
        raise yaml.MarkedYAMLError(problem=f"cannot decode {node.value!r} as a !!null", problem_mark=node.start_mark)


def _construct_time(loader: _Loader, node: yaml.ScalarNode) -> str:
    return _time(str(loader.construct_scalar(node)))


def _construct_binary(loader: _Loader, node: yaml.ScalarNode) -> str:
    return loader.construct_yaml_binary(node).decode(errors="replace")


def _construct_other(loader: _Loader, _suffix: str, node: yaml.Node) -> Any:
    """A tag of one's own changes nothing."""
    if isinstance(node, yaml.ScalarNode):
        return str(loader.construct_scalar(node))
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    return loader.construct_mapping(node, deep=True) if isinstance(node, yaml.MappingNode) else None


for _name, _construct in (
    ("int", _construct_number),
    ("float", _construct_number),
    ("bool", _construct_bool),
    ("null", _construct_null),
    ("timestamp", _construct_time),
    ("binary", _construct_binary),
):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_name}", _construct)
_Loader.add_multi_constructor("!", _construct_other)


def load(text: str) -> Any:
    """The document, as the CLI reads it: numbers as ``int`` where an integer is written, dates as text.

    Args:
        text: a YAML file.

    Raises:
        yaml.YAMLError: it is no YAML, or nothing the CLI would take.
    """
    document = yaml.load(text, _Loader)  # noqa: S506 (a SafeLoader)
    if any(isinstance(value, float) and not math.isfinite(value) for value in _values(document)):
        raise StackFileError("infinity and NaN cannot be config values")
    return document


def as_text(value: Any) -> str:
    """A scalar as the CLI hands it to a program: ``true``, ``1.5``, ``1e+23``; nothing is an empty text."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case float():
            return json_number(value)
        case _:
            return str(value)


def json_number(value: float) -> str:
    """A float as the CLI's JSON has it: whole numbers without a point, an exponent below 1e-6 and from 1e21."""
    if value == 0:
        return "-0" if math.copysign(1, value) < 0 else "0"
    if 1e-6 <= abs(value) < 1e21:
        return format(Decimal(repr(value)).normalize(), "f")
    mantissa, _, exponent = repr(value).partition("e")
    digits = int(exponent or 0)
    return f"{mantissa.removesuffix('.0')}e{'-' if digits < 0 else '+'}{abs(digits):0{1 if digits < 0 else 2}d}"


def doubtful_numbers(text: str) -> list[Problem]:
    """Plain numbers and keys below ``config`` that are written in a way on which readers of YAML disagree.

    Args:
        text: a stack file. One that is no YAML gives no problem: it is not what a program was started with.
    """
    try:
        root = yaml.compose(text, _Loader)
    except (ValueError, RecursionError, yaml.YAMLError):
        return []
    found: list[Problem] = []
    if isinstance(root, yaml.MappingNode):
        for key, value in root.value:
            if key.value == "config" and isinstance(value, yaml.MappingNode):
                for path, node in _scalars(value, ""):
                    if node.style is None and not _tagged(text, node) and _DOUBTFUL.fullmatch(node.value):
                        found.append(_doubt(path, node.value))
    return found


def _tagged(text: str, node: yaml.ScalarNode) -> bool:
    """Whether a plain scalar has a tag, which says what it is."""
    return text[node.start_mark.index : node.end_mark.index].startswith("!")


def _doubt(path: str, written: str) -> Problem:
    read = as_text(_number(written)) if ":" not in written else written
    fix = f'quote it ("{written}")'
    if re.fullmatch(r"[-+]?0[0-9_]+", written):
        fix += f", or drop the zeros ({written.lstrip('-+0_') or '0'})"
    elif ":" not in written:
        fix += f", or write {read}"
    message = f"{written} is a number that readers of YAML disagree on: the Pulumi CLI reads {read}"
    return Problem(path, message, "a number without leading zeros, other bases and underscores", fix)


def _scalars(node: yaml.Node, path: str) -> Iterator[tuple[str, yaml.ScalarNode]]:
    if isinstance(node, yaml.ScalarNode):
        yield path, node
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _scalars(item, f"{path}[{index}]")
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                here = join_path(path, key.value) if path else str(key.value)
                yield here, key
                yield from _scalars(value, here)


def _tag(value: str) -> str:
    if value in _TRUE or value in _FALSE:
        kind = "bool"
    elif value in _NULL:
        kind = "null"
    elif value == "<<":
        kind = "merge"
    elif value[:1] in "+-.0123456789" and not isinstance(_number(value), str):
        kind = "float" if isinstance(_number(value), float) else "int"
    elif _DATE.fullmatch(value) or _TIME.fullmatch(value):
        kind = "timestamp" if _time(value) != value else "str"
    else:
        kind = "str"
    return f"tag:yaml.org,2002:{kind}"


def _number(value: str) -> int | float | str:
    """The number a scalar is; the scalar itself where it is none."""
    if (special := _SPECIAL.get(value.lower())) is not None and value[-3:] in (
        "inf",
        "Inf",
        "INF",
        "nan",
        "NaN",
        "NAN",
    ):
        return special
    plain = value.replace("_", "")
    if _INTEGER.fullmatch(plain):
        number = _integer(plain)
        if -(2**63) <= number < 2**64:
            return number
    if _FLOAT.fullmatch(plain):
        number_or_inf = float(plain)
        if math.isfinite(number_or_inf):
            return number_or_inf
    return value


def _integer(plain: str) -> int:
    sign, digits = (-1 if plain[0] == "-" else 1), plain.lstrip("+-")
    if digits.isdecimal():
        return sign * int(digits, 8 if len(digits) > 1 and digits[0] == "0" else 10)
    return sign * int(digits, 0)


def _time(value: str) -> str:
    """A date or time as Go writes it; the scalar itself where there is no such day or hour."""
    if match := _DATE.fullmatch(value):
        parts, fraction, zone = (*match.groups(), "0", "0", "0"), "", ""
    elif match := _TIME.fullmatch(value):
        parts, fraction, zone = match.groups()[:6], match[7] or "", match[8] or ""
    else:
        return value
    try:
        when = datetime.datetime(*map(int, parts))  # type: ignore[arg-type]
    except ValueError:
        return value
    fraction = fraction.rstrip("0").rstrip(".")
    shown = f"{when:%Y-%m-%d %H:%M:%S}{fraction}"
    offset = zone.replace(":", "")
    return f"{shown} +0000 UTC" if offset in ("", "Z") else f"{shown} {offset} {offset}"


def _key(key: Any) -> str:
    """A key as the CLI writes it into JSON."""
    if key is None:
        return "<nil>"
    if isinstance(key, float):
        if not math.isfinite(key):
            return "NaN" if math.isnan(key) else "+Inf" if key > 0 else "-Inf"
        return _shortest(key)
    return as_text(key)


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


def _values(document: Any) -> Iterator[Any]:
    if isinstance(document, dict):
        for value in document.values():
            yield from _values(value)
    elif isinstance(document, list):
        for value in document:
            yield from _values(value)
    else:
        yield document
