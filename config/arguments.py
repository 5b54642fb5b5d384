"""Arguments of a component as values of the stack config: the same options, written by a program.

A program differs from a stack file in two ways. Its keys may be the Python names of the options
(``config_poll_seconds``), and some values are outputs of other resources, which are not known yet. An output takes part
as its stand-in (:mod:`tfserving.late_values`) where its option allows it; anywhere else it is a problem.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, is_dataclass, replace
from typing import Any, get_args, get_origin

from tfserving.errors import Problem
from tfserving.late_values import LateValues
from tfserving.options import Option, is_mapping, is_union, options
from tfserving.property_path import join_path, parse_path

Classes = tuple[type, ...]
"""Dataclasses whose options a mapping may have."""

Shape = Classes | Callable[[Mapping[str, Any]], Classes]
"""What a mapping holds; a function where that depends on what is in it."""

_ALLOWED = "a plain value"

WHOLE = "*"
"""At the end of the form of a mapping's values: the mapping may be an output as a whole."""

_KEY_IN_TEXT = re.compile(r"(?<![\w:./`-])[a-z][a-z0-9]*[A-Z]\w*")
"""What may be the key of an option in a sentence: words have no capital inside, and values are in backticks."""


@dataclass(frozen=True, kw_only=True)
class Entries:
    """A mapping from names of the user's own to mappings of one shape.

    Attributes:
        shape: of each entry.
    """

    shape: Shape


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """What is known of outputs here, where no Pulumi is.

    Attributes:
        is_late: whether a value is an output.
        part: the value of a key of an output that is a mapping; given the key and its Python name.
    """

    is_late: Callable[[Any], bool]
    part: Callable[[Any, str, str], Any]


@dataclass
class Arguments:
    """What a component was given, as the stack config has it.

    Attributes:
        values: by key of the stack config; outputs are stand-ins.
        late: the outputs.
        problems: outputs where a plain value is needed, and options that are given twice.
        written: how the caller wrote the key at each path that was given.
        names: how the caller's language calls options, by key, for those that were not given.
    """

    values: dict[str, Any] = field(default_factory=dict)
    late: LateValues = field(default_factory=LateValues)
    problems: list[Problem] = field(default_factory=list)
    written: dict[str, str] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)

    def as_written(self, problem: Problem) -> Problem:
        """A problem with its path in the words of the caller.

        Args:
            problem: its path begins at :attr:`values`.
        """
        path = shown = ""
        for part in parse_path(problem.path):
            path = _below(path, part)
            key = self.written.get(path, part)
            if path not in self.written and isinstance(part, str) and self.names:
                key = self.names.get(part, part)  # what is missing has not been written
            shown = _below(shown, key)
        return replace(
            problem,
            path=shown,
            message=self._in_words(problem.message),
            allowed=self._in_words(problem.allowed),
            fix=self._in_words(problem.fix),
        )

    def _in_words(self, text: str) -> str:
        """A text in which options are called as the caller's language calls them."""
        return _KEY_IN_TEXT.sub(lambda found: self.names.get(found[0], found[0]), text)


def read_arguments(
    given: Mapping[str, Any],
    shape: Shape,
    outputs: Outputs,
    *,
    own: Mapping[str, Shape | Entries] | None = None,
    late: Mapping[str, str] | None = None,
    more: Mapping[str, str] | None = None,
    python: bool = True,
    translated: bool = False,
) -> Arguments:
    """The arguments of a component as values of the stack config.

    Args:
        given: by Python name or by key; ``None`` is not given.
        shape: the options.
        outputs: what is known of outputs.
        own: shapes of options whose type does not say it.
        late: the forms of arguments that may be outputs and are no options.
        more: arguments that are no options: Python names by key.
        python: the caller is a Python program, whose paths have Python names.
        translated: names have become keys on the way from the caller, and are no longer as they were written.
    """
    found = Arguments()
    if python:
        found.names |= more or {}
    given = _by_key(given, {name: key for key, name in (more or {}).items()}, found)
    found.values = _Reader(found, outputs, own or {}, late or {}, python, translated).mapping(given, shape, "")
    return found


def _by_key(given: Mapping[str, Any], keys: Mapping[str, str], found: Arguments) -> dict[str, Any]:
    """The arguments, those that are no options by their keys."""
    renamed: dict[str, Any] = {}
    first: dict[str, str] = {}
    for written, value in given.items():
        key = keys.get(written, written)
        if key in renamed:
            message = f"`{first[key]}` and `{written}` are the same argument"
            found.problems.append(Problem(key, message, fix="keep one of them"))
        first.setdefault(key, written)
        renamed.setdefault(key, value)
    return renamed


class _Reader:
    """One walk over the arguments."""

    def __init__(
        self,
        found: Arguments,
        outputs: Outputs,
        own: Mapping[str, Shape | Entries],
        late: Mapping[str, str],
        python: bool,
        translated: bool,
    ) -> None:
        self.found, self.outputs, self.own, self.late = found, outputs, own, late
        self.python, self.translated = python, translated

    def mapping(self, given: Mapping[str, Any], shape: Shape, path: str) -> dict[str, Any]:
        """The entries of a mapping by the keys of the stack config."""
        classes = shape(given) if callable(shape) else shape
        known = {each.key: each for cls in classes for each in options(cls)}
        keys = {written: each.key for each in known.values() for written in _written(each)}
        if self.python:
            self.found.names |= {each.key: each.python for each in known.values()}
        values: dict[str, Any] = {}
        first: dict[str, str] = {}
        for written, value in self._texts(given, path):
            key = keys.get(written, written)
            at = _below(path, key)
            if key in values:
                self._problem(at, f"`{first[key]}` and `{written}` are the same option", fix="keep one of them")
                continue
            first[key] = written
            if key != written or key in known:
                self.found.written[at] = known[key].python if self._was_translated(key, known) else written
            if value is not None:
                values[key] = self._option(value, known.get(key), key, at)
        return values

    def _texts(self, given: Mapping[Any, Any], path: str) -> Iterator[tuple[str, Any]]:
        """The entries of a mapping whose keys can be keys of the stack file: texts, or numbers that are read as such.

        A label ``None``, which a program may have for one that it did not find, would be called so.
        """
        seen: dict[str, Any] = {}
        for key, value in given.items():
            text, at = str(key), _below(path, key if isinstance(key, str) else repr(key))
            if isinstance(key, bool) or not isinstance(key, str | int):
                shown = repr(key) if key is None or isinstance(key, bool | float) else f"this {type(key).__name__}"
                self._problem(at, f"{shown} is not a key", "a text or a whole number", "write a name, as a text")
            elif text in seen:
                self._problem(at, f"{seen[text]!r} and {key!r} are the same key", fix="keep one of them")
            else:
                seen[text] = key
                yield text, value

    def _was_translated(self, key: str, known: Mapping[str, Option]) -> bool:
        return self.python and self.translated and key in known

    def _option(self, value: Any, option: Option | None, key: str, at: str) -> Any:
        own = self.own.get(key) if option is None or not is_dataclass(option.plain_type) else None
        form = self.late.get(key, option.late if option else "")
        if isinstance(own, Entries) and isinstance(value, Mapping):
            return {
                name: self.mapping(item, own.shape, _below(at, name))
                if isinstance(item, Mapping)
                else self._value(item, None, "", _below(at, name))
                for name, item in self._named(value, at).items()
            }
        if own is not None and not isinstance(own, Entries) and isinstance(value, Mapping):
            return self.mapping(value, own, at)
        return self._value(value, option.plain_type if option else None, form, at)

    def _value(self, value: Any, hint: Any, form: str, at: str) -> Any:
        classes = _dataclasses(hint)
        if self.outputs.is_late(value):
            return self._late(value, hint, classes, form, at)
        if isinstance(value, Mapping):
            if classes:
                return self.mapping(value, classes, at)
            inner = get_args(hint)[1] if is_mapping(hint) else None
            each = form.removesuffix(WHOLE)
            named = self._named(value, at)
            return {name: self._value(item, inner, each, _below(at, name)) for name, item in named.items()}
        if isinstance(value, list | tuple):
            first = _first(hint)
            inner = get_args(first)[0] if get_origin(first) is tuple else None
            return [self._value(item, inner, form, f"{at}[{index}]") for index, item in enumerate(value)]
        return value

    def _named(self, value: Mapping[Any, Any], at: str) -> dict[str, Any]:
        """The entries of a mapping whose keys are names of the user's own."""
        named = dict(self._texts(value, at))
        self.found.written |= {_below(at, name): name for name in named}
        return named

    def _late(self, value: Any, hint: Any, classes: Classes, form: str, at: str) -> Any:
        whole = form.endswith(WHOLE)
        if form and (whole or not is_mapping(hint)):
            listed = get_origin(_first(hint)) is tuple
            text = self.found.late.stand_in(value, at, form.removesuffix(WHOLE), is_list=listed)
            return {text: text} if is_mapping(hint) else [text] if listed else text
        known = [each for cls in classes for each in options(cls)]
        if known and all(each.late for each in known):  # a mapping of which every part may be an output
            parts = {each.key: self.outputs.part(value, each.key, each.python) for each in known}
            return self.mapping(parts, classes, at)
        message = "an output of another resource stands here, and its value is not known when the stack is planned"
        self._problem(at, message, _ALLOWED, "take it from the config of the stack, or write it into the program")
        return None

    def _problem(self, at: str, message: str, allowed: str = "", fix: str = "") -> None:
        self.found.problems.append(Problem(at, message, allowed, fix))


def _written(option: Option) -> set[str]:
    """How a program may write an option besides its key: a word of Python's own with ``_``, as SDKs have it, too."""
    return {option.python, f"{option.python}_" if keyword.iskeyword(option.python) else option.python, option.name}


def _dataclasses(hint: Any) -> Classes:
    """The dataclasses that a value may be an object of."""
    if isinstance(hint, type) and is_dataclass(hint):
        return (hint,)
    if is_mapping(hint):
        return ()
    return tuple(part for part in get_args(hint) if isinstance(part, type) and is_dataclass(part))


def _first(hint: Any) -> Any:
    """Of a union the first type: how an option is written at length."""
    return get_args(hint)[0] if is_union(hint) else hint


def _below(path: str, key: str | int) -> str:
    if isinstance(key, int):
        return f"{path}[{key}]"
    return join_path(path, key).removeprefix(".")
