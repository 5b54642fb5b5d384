"""What a program gives a component: checked before its first child, with outputs of other resources put back.

The options are those of the stack file (:mod:`config.arguments`). A mistake is one :class:`ArgumentError` with all
problems of the component, in the words of the program's language. What an output holds is checked by the same rules as
soon as it is known: by the preview, where it is known then.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Generic, TypeVar

import pulumi
from pulumi.output import Unknown

from components.component import Component
from config.arguments import Arguments, Entries, Outputs, Shape, read_arguments
from config.reader import Reader
from tfserving.errors import ConfigError, Problem
from tfserving.late_values import LateValues, put_back
from tfserving.model_config import unknown_keys

_T = TypeVar("_T")
_FEW = 12
"""Where a close key is known, more others than these are no help."""


class Caller(Enum):
    """Who makes a component, and so how problems name its arguments."""

    HERE = "a Python program that imports it"
    PYTHON = "a Python program elsewhere, whose SDK sends keys"
    OTHER = "a program in another language, whose names are the keys"


_caller: ContextVar[Caller] = ContextVar("caller", default=Caller.HERE)


class ArgumentError(ConfigError, pulumi.RunError):
    """The arguments of a component are wrong. Pulumi shows its message without a traceback."""


@contextlib.contextmanager
def made_for(caller: Caller) -> Iterator[None]:
    """Within: components are made for that caller."""
    token = _caller.set(caller)
    try:
        yield
    finally:
        _caller.reset(token)


def given(
    component: type[Component], name: object, args: object, opts: object, options: Mapping[str, Any]
) -> dict[str, Any]:
    """The arguments of a component: a mapping, keyword arguments, or both.

    Args:
        component: the component.
        name: its name.
        args: the mapping, or ``None``.
        opts: what Pulumi is to know of it.
        options: the keyword arguments.

    Raises:
        ArgumentError: one of the first three is something else, or both say the same.
    """
    problems = []
    if not isinstance(name, str) or not name:
        problems.append(Problem("name", f"{_shown(name)} is not a name of a resource", "a text"))
    if isinstance(args, pulumi.ResourceOptions):
        message = "the second argument is the component's own, and this is a ResourceOptions"
        problems.append(Problem("args", message, _ARGUMENTS, "pass it as opts="))
    elif not isinstance(args, Mapping | None):
        fix = "name each argument, as in bucket=..., or pass a mapping of them"
        problems.append(Problem("args", f"{_shown(args)} is not a mapping", _ARGUMENTS, fix))
    if not isinstance(opts, pulumi.ResourceOptions | None):
        fix = "pass pulumi.ResourceOptions(protect=True)" if isinstance(opts, Mapping) else ""
        problems.append(Problem("opts", f"{_shown(opts)} is not a ResourceOptions", "a pulumi.ResourceOptions", fix))
    mapping = args if isinstance(args, Mapping) else {}
    for key in mapping.keys() & options.keys():
        message = "it is in the mapping of arguments, and a keyword argument as well"
        problems.append(Problem(key, message, fix="keep one of them"))
    if problems:
        raise ArgumentError(problems, _subject(component, name))
    return {**mapping, **options}


_ARGUMENTS = "a mapping of arguments, or nothing"


def _shown(value: object) -> str:
    """A value for a message, short; of what may hold secrets only the type."""
    if value is None:
        return "nothing"
    plain = isinstance(value, str | int | float) and len(str(value)) <= 40
    return repr(value) if plain else f"this {type(value).__name__}"


def _subject(component: type[Component], name: object) -> str:
    return f"{component.__name__} {name}" if isinstance(name, str) and name else component.__name__


def is_output(value: Any) -> bool:
    """Whether a value is, or may be, known only later."""
    return isinstance(value, pulumi.Output | Unknown) or hasattr(value, "__await__")


def _part(value: Any, key: str, name: str) -> pulumi.Output[Any]:
    def pick(known: Any) -> Any:
        if isinstance(known, Mapping):
            return known.get(key, known.get(name))
        return getattr(known, name, None)

    return pulumi.Output.from_input(value).apply(pick)


@dataclass(frozen=True, kw_only=True)
class Checked(Generic[_T]):
    """Arguments that passed, as what the component makes of them.

    Attributes:
        plan: what the arguments come to; outputs are stand-ins in it.
    """

    plan: _T
    _arguments: Arguments
    _check: Callable[[Mapping[str, Any]], _T]
    _subject: str

    def put_back(self, value: Any) -> Any:
        """A value made from :attr:`plan`, with the outputs in their places."""
        late = self._arguments.late
        return put_back(value, LateValues(self._known(late), late.forms, late.lists), _joined)

    def _known(self, late: LateValues) -> dict[str, pulumi.Output[Any]]:
        return {word: self._looked_at(word, value) for word, value in late.values.items()}

    def _looked_at(self, word: str, value: Any) -> pulumi.Output[Any]:
        """An output that ends the run where its value is none that the stack file could have."""
        late = self._arguments.late

        def look(known: Any) -> Any:
            others = {other: [form] if other in late.lists else form for other, form in late.forms.items()}
            values = {**others, word: known}
            whole = put_back(self._arguments.values, LateValues(values, late.forms, late.lists), _text)
            try:
                self._check(whole)
            except ConfigError as error:
                problems = [self._arguments.as_written(problem) for problem in error.problems]
                raise ArgumentError(problems, self._subject) from None
            return known

        return pulumi.Output.from_input(value).apply(look)


def check(
    component: type[Component],
    name: str,
    values: Mapping[str, Any],
    plan: Callable[[Mapping[str, Any]], _T],
    *,
    own: Mapping[str, Shape | Entries] | None = None,
    late: Mapping[str, str] | None = None,
    derived: Mapping[str, Any] | None = None,
    also: Sequence[Problem] = (),
) -> Checked[_T]:
    """Reads and checks the arguments of a component.

    Args:
        component: the component.
        name: its name.
        values: its arguments.
        plan: makes of them what the component needs; raises :class:`tfserving.errors.ConfigError` with paths that
            begin at the arguments.
        own: as for :func:`config.arguments.read_arguments`.
        late: forms of values that may be outputs and are no argument of their own.
        derived: values that ``plan`` is given besides, by key: what another argument comes to.
        also: problems that were found before.

    Raises:
        ArgumentError: all problems.
    """
    subject = _subject(component, name)
    derived = derived or {}
    forms = {**{each.key: each.late for each in component.arguments if each.late}, **(late or {})}
    more = {each.key: each.name for each in component.arguments}
    outputs = Outputs(is_late=is_output, part=_part)
    caller = _caller.get()
    strange = [key for key in derived if values.get(key) is not None]
    arguments = read_arguments(
        {**values, **derived},
        component.shape,
        outputs,
        own=own,
        late=forms,
        more=more,
        python=caller is not Caller.OTHER,
        translated=caller is not Caller.HERE,
    )
    strange += [key for key in arguments.values if key not in component.taken() and key not in derived]
    arguments.problems += [*also, *_unknown(strange, component.taken())]
    for key in strange:
        if key not in derived:
            del arguments.values[key]
    _see_types(component, arguments)
    try:
        made = plan(arguments.values)
    except ConfigError as error:
        raise _error(arguments, [*arguments.problems, *error.problems], subject) from None
    if arguments.problems:
        raise _error(arguments, arguments.problems, subject)
    return Checked(plan=made, _arguments=arguments, _check=plan, _subject=subject)


def _see_types(component: type[Component], arguments: Arguments) -> None:
    """Arguments that are texts or mappings are such when they are planned with, whatever else is wrong with them."""
    reader = Reader()
    for each in component.arguments:
        if isinstance(each.type, type) and each.key in arguments.values:
            before, value = len(reader.problems), arguments.values.pop(each.key)
            read = reader.text(value, each.key, lines=True) if each.type is str else reader.mapping(value, each.key)
            if len(reader.problems) == before:
                arguments.values[each.key] = read
    arguments.problems += reader.problems


def _unknown(strange: Sequence[str], taken: tuple[str, ...]) -> list[Problem]:
    found = unknown_keys(dict.fromkeys(strange), taken, "")
    few = [replace(each, allowed="") if each.fix and len(taken) > _FEW else each for each in found]
    return [replace(each, path=each.path.removeprefix(".")) for each in few]


def refusal(component: Component, problems: Iterable[Problem]) -> ArgumentError:
    """What is wrong with a component beside others, in the words of its caller; paths are keys."""
    names = {} if _caller.get() is Caller.OTHER else {each.key: each.name for each in component.arguments}
    written = Arguments(names=names)
    subject = f"{type(component).__name__} {component.pulumi_resource_name}"
    return ArgumentError([written.as_written(problem) for problem in problems], subject)


def _error(arguments: Arguments, problems: Iterable[Problem], subject: str) -> ArgumentError:
    first: dict[str, Problem] = {}
    for problem in problems:
        first.setdefault(problem.path, problem)  # what is missing because it was an output has its problem
    return ArgumentError([arguments.as_written(problem) for problem in first.values()], subject)


def _joined(parts: list[Any]) -> pulumi.Output[str]:
    return pulumi.Output.all(*parts).apply(_text)


def _text(parts: list[Any]) -> str:
    return "".join(",".join(map(str, part)) if isinstance(part, list | tuple) else str(part) for part in parts)
