"""Options of the stack config, read off the dataclasses that hold them.

A frozen dataclass is the only place that declares an option: its field's name, type and default, and the sentence about
it in the class docstring's ``Attributes``. The key of the stack file is the name in camelCase; :func:`option` says what
a name and a type cannot say. Reading, the JSON Schema of the stack file and the tables of the docs follow from this.
"""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from enum import StrEnum
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

SERVED = "What is served"
START = "How it is started"
PLACE = "Where it runs"
ACCESS = "How it is reached and looked after"
"""Topics of a service's options, wherever it runs."""

_METADATA = "tf-serving"
_UNITS = {"_seconds": "seconds", "_days": "days", "_ms": "milliseconds"}
_FIELD = re.compile(r"(?<=``)\w+(?=``|: )")
_ENTRY = re.compile(r"^(?P<name>\w+): (?P<text>.*)$")


@dataclass(frozen=True)
class _Said:
    key: str | None = None
    unit: str = ""
    least: int | None = None
    most: int | None = None
    configured: bool = True
    written: Any = None
    also: tuple[Any, ...] = ()
    secret: bool = False
    otherwise: str = ""
    topic: str = ""
    late: str = ""


def option(
    default: Any = MISSING,
    *,
    factory: Any = MISSING,
    key: str = "",
    unit: str = "",
    least: int | None = None,
    most: int | None = None,
    configured: bool = True,
    secret: bool = False,
    written: Any = None,
    also: tuple[Any, ...] = (),
    otherwise: str = "",
    topic: str = "",
    late: str = "",
) -> Any:
    """A dataclass field with what its name and type cannot say about the option.

    Args:
        default: as for :func:`dataclasses.field`.
        factory: as its ``default_factory``.
        key: key of the stack file, where it is not the name in camelCase.
        unit: of a number, where the name does not end in it: ``MB``, ``vCPUs``.
        least: the lowest number that is allowed.
        most: the highest one.
        configured: the stack file says it here. False: it follows from the rest of the stack.
        secret: the value is left out of the object's ``repr``.
        written: the type in the stack file, where that is another one: prices by instance type for a tuple of objects.
        also: further values that the stack file may have: ``False`` for no health check at all.
        otherwise: what holds where the option is not given, in words, where the default does not say it.
        topic: begins a group of options: this one and those that follow it.
        late: the form of its texts, ``vpc-{}``, where a component also takes an output of another resource: nothing of
            what a stack consists of depends on its value (:mod:`tfserving.late_values`).
    """
    said = {_METADATA: _Said(key or None, unit, least, most, configured, written, also, secret, otherwise, topic, late)}
    if factory is not MISSING:
        return field(default_factory=factory, repr=not secret, metadata=said)
    if default is not MISSING:
        return field(default=default, repr=not secret, metadata=said)
    return field(repr=not secret, metadata=said)


@dataclass(frozen=True, kw_only=True)
class Option:
    """One option.

    Attributes:
        key: key of the stack file.
        name: name of the field.
        type: its type in the stack file, resolved.
        default: its default; :data:`dataclasses.MISSING` where it has to be given.
        sentence: what it is, from the class docstring, where fields of the class are called by their keys; empty where
            that says nothing.
        unit: unit of a number; empty without one.
        least: the lowest number that is allowed; ``None`` without a limit.
        most: the highest one, likewise.
        also: further values that are allowed, whatever the type.
        secret: the value is one.
        otherwise: what holds where it is not given, in words; empty where ``default`` says it.
        topic: the group of options it belongs to; empty without groups.
        late: the form of its texts, where an output of another resource is taken; empty where the value is plain.
    """

    key: str
    name: str
    type: Any
    default: Any
    sentence: str
    unit: str
    least: int | None
    most: int | None = None
    also: tuple[Any, ...] = ()
    secret: bool = False
    otherwise: str = ""
    topic: str = ""
    late: str = ""

    @property
    def python(self) -> str:
        """How a Python program calls it: as its key, and so docs and schema, in snake_case."""
        return self.name.removesuffix("_") if camel_case(self.name) == self.key else snake_case(self.key)

    @property
    def markdown(self) -> str:
        """The sentence as Markdown."""
        return re.sub(r":\w+:`~?([^`]*)`", r"`\1`", self.sentence).replace("``", "`").removesuffix(".")

    @property
    def required(self) -> bool:
        """Whether it has to be given."""
        return self.default is MISSING

    @property
    def plain_type(self) -> Any:
        """The type without ``None``."""
        return without_none(self.type)


@cache
def options(cls: type) -> tuple[Option, ...]:
    """The options that a dataclass declares, in its order; fields that follow from the rest of the stack are left out.

    Args:
        cls: the dataclass.
    """
    hints, sentences = get_type_hints(cls), sentences_of(cls)
    known = {each.name: each.metadata.get(_METADATA, _Said()).key or camel_case(each.name) for each in fields(cls)}
    found, topic = [], ""
    for declared in fields(cls):
        said = declared.metadata.get(_METADATA, _Said())
        topic = said.topic or topic
        if said.configured:
            found.append(
                Option(
                    key=said.key or camel_case(declared.name),
                    name=declared.name,
                    type=hints[declared.name] if said.written is None else said.written,
                    default=_default(declared),
                    sentence=_FIELD.sub(lambda name: known.get(name[0], name[0]), sentences.get(declared.name, "")),
                    unit=said.unit or next((unit for end, unit in _UNITS.items() if declared.name.endswith(end)), ""),
                    least=said.least,
                    most=said.most,
                    also=said.also,
                    secret=said.secret,
                    otherwise=said.otherwise,
                    topic=topic,
                    late=said.late,
                )
            )
    return tuple(found)


def keys(cls: type) -> tuple[str, ...]:
    """The keys of :func:`options`."""
    return tuple(each.key for each in options(cls))


def camel_case(name: str) -> str:
    """``config_poll_seconds`` as a stack file has it: ``configPollSeconds``."""
    first, *others = name.split("_")
    return first + "".join(part.capitalize() for part in others)


def snake_case(key: str) -> str:
    """``configPollSeconds`` as a Python program has it: ``config_poll_seconds``."""
    return re.sub(r"(?=[A-Z])", "_", key).lower()


def without_none(hint: Any) -> Any:
    """``X | None`` as ``X``; any other type as it is."""
    if is_union(hint):
        some = tuple(part for part in get_args(hint) if part is not type(None))
        return some[0] if len(some) == 1 else Union[some]  # noqa: UP007 (made at run time)
    return hint


def choices(hint: Any) -> tuple[str, ...]:
    """The values of a ``Literal`` or a ``StrEnum``, or of several in a union; empty for other types."""
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return tuple(map(str, hint))
    if get_origin(hint) is Literal:
        return tuple(get_args(hint))
    if is_union(hint):
        each = [choices(part) for part in get_args(hint)]
        return tuple(value for values in each for value in values) if all(each) else ()
    return ()


def is_union(hint: Any) -> bool:
    """Whether a type is a union."""
    return get_origin(hint) in (Union, types.UnionType)


def is_mapping(hint: Any) -> bool:
    """Whether a type is a mapping."""
    return inspect.isclass(get_origin(hint)) and issubclass(get_origin(hint), Mapping)


def _default(declared: Field[Any]) -> Any:
    if declared.default is not MISSING:
        return declared.default
    return MISSING if declared.default_factory is MISSING else declared.default_factory()


def sentences_of(cls: type) -> dict[str, str]:
    """The ``Attributes`` of a class docstring by name, each as one line."""
    found: dict[str, str] = {}
    name, inside = "", False
    for line in inspect.cleandoc(cls.__doc__ or "").splitlines():
        if not line.startswith(" "):
            inside = line == "Attributes:" if line else inside
            continue
        if not inside:
            continue
        text = line.strip()
        if (match := _ENTRY.match(text)) and not line.startswith("     "):
            name = match["name"]
            found[name] = match["text"]
        elif name:
            found[name] += f" {text}"
    return found
