"""Reads the options that a dataclass declares (:mod:`tfserving.options`), each by its type."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, get_args

from config.reader import Reader
from tfserving.options import Option, choices, is_mapping, is_union, options
from tfserving.property_path import join_path

Read = Callable[[Any, str], Any]


def read_plain(
    reader: Reader, given: Mapping[str, Any], path: str, cls: type, *, but: Collection[str] = ()
) -> dict[str, Any]:
    """The fields of ``cls`` whose type alone says how they are read, as far as they are given and nothing is wrong.

    Text, numbers, booleans, lists of texts, mappings of texts, and counts that may be a share. Other types are
    read by whoever knows them.

    Args:
        reader: takes the problems.
        given: the mapping of the stack file.
        path: where it stands.
        cls: the dataclass.
        but: keys that are read in a way of their own.
    """
    found: dict[str, Any] = {}
    for each in options(cls):
        value = given.get(each.key)
        read = None if each.key in but or value is None else reader_of(reader, each)
        if read is None:
            continue
        before, at = len(reader.problems), join_path(path, each.key)
        result = read(value, at)
        if result == "" and not choices(each.plain_type):
            if each.required:
                reader.add(at, "the text is empty", each.markdown, "write it: there is no default")
            elif each.default:
                # Nothing would fill it in: whoever means the default leaves the key out.
                fix = f"remove the key, which means {each.default}"
                reader.add(at, "the text is empty", f"a text, such as {each.default}", fix)
        if len(reader.problems) == before:
            found[each.name] = result
    return found


def with_blanks(cls: type, found: Mapping[str, Any]) -> dict[str, Any]:
    """``found`` with something of the right type for what is required and was not read: its problem is known."""
    blank = {str: "", int: 1, float: 1.0, bool: False}
    missing = {each.name: blank.get(each.plain_type, ()) for each in options(cls) if each.required}
    return {**missing, **found}


def reader_of(reader: Reader, option: Option) -> Read | None:
    """How an option is read; ``None`` where its type alone does not say it."""
    hint = option.plain_type
    if hint is str or choices(hint):
        return reader.text
    if hint is int:
        unit = option.unit if option.least is not None else ""
        most = {} if option.most is None else {"most": option.most}
        return lambda value, at: reader.integer(value, at, option.least or 0, least=option.least, unit=unit, **most)
    if hint is float:
        zero = option.least == 0
        allowed = f"a number{f' of {option.unit}' if option.unit else ''}, {'0 or more' if zero else 'above 0'}"
        allowed += "" if option.most is None else f", at most {option.most}"
        return lambda value, at: float(reader.number(value, at, allowed=allowed, zero=zero, most=option.most))
    if hint is bool:
        return reader.boolean
    if is_union(hint) and set(get_args(hint)) == {int, str}:
        return lambda value, at: number_or_share(reader, value, at)
    if hint == tuple[str, ...]:
        return lambda value, at: reader.texts(value, at, "a list of texts")
    if is_mapping(hint) and get_args(hint) == (str, str):
        return lambda value, at: texts(reader, value, at)
    return None


def number_or_share(reader: Reader, value: Any, path: str) -> int | str:
    """A count, or a share such as ``20%``."""
    if isinstance(value, str) and value.endswith("%"):
        return reader.text(value, path)
    return reader.integer(value, path)


def texts(reader: Reader, value: Any, path: str) -> dict[str, str]:
    """A mapping of texts."""
    return {key: reader.text(item, at) for key, at, item in reader.values(value, path)}
