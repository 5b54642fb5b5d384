"""Records: frozen dataclasses that declare properties, and read and write them.

A field's name, type and default, and the sentence about it in the class docstring's ``Attributes``, are the
declaration; :func:`prop` says what these cannot say. On the wire the name is in camelCase.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from enum import StrEnum
from functools import cache
from typing import Any, ClassVar, Self, get_args, get_origin, get_type_hints

from tfserving import wire
from tfserving.contract.kinds import (
    Amount,
    ChoiceOf,
    Fault,
    Free,
    Kind,
    ListOf,
    MapOf,
    OneOf,
    Path,
    Reference,
    Scalar,
    Version,
    VersionNumber,
    opened,
    unknown_name,
)
from tfserving.options import camel_case, is_mapping, is_union, sentences_of, without_none
from tfserving.property_values import UNKNOWN, Properties, has_unknown

PACKAGE = "tfserving"
"""Name of the package, and of its provider."""

_METADATA = "contract"


@dataclass(frozen=True)
class _Said:
    replaces: bool = False
    compared: bool = True
    secret: bool = False
    given: bool = True
    kind: Kind | None = None


def prop(
    default: Any = MISSING,
    *,
    factory: Any = MISSING,
    replaces: bool = False,
    compared: bool = True,
    secret: bool = False,
    given: bool = True,
    kind: Kind | None = None,
) -> Any:
    """A field with what its name, type and default cannot say about the property.

    Args:
        default: as for :func:`dataclasses.field`. ``check`` fills it in; ``None``: the property may be missing.
        factory: as its ``default_factory``.
        replaces: whether a changed input replaces the resource.
        compared: whether a changed input is a change at all.
        secret: whether the value is always secret.
        given: whether a program gives it; otherwise the provider fills it in, so that what is found has something to be
            compared with.
        kind: the kind of value, where the type hint does not say it.
    """
    said = {_METADATA: _Said(replaces, compared, secret, given, kind)}
    if factory is not MISSING:
        return field(default_factory=factory, repr=not secret, metadata=said)
    if default is not MISSING:
        return field(default=default, repr=not secret, metadata=said)
    return field(repr=not secret, metadata=said)


@dataclass(frozen=True)
class Property:
    """One declared property.

    Attributes:
        name: on the wire.
        field: in Python.
        kind: what values it has.
        description: for the schema, and for whoever left it out.
        required: whether it must be given.
        default: what ``check`` fills in where it is not given, as on the wire; ``None``: nothing.
        replaces: whether a changed input replaces the resource.
        compared: whether a changed input is a change at all.
        secret: whether it is always secret.
        given: whether a program gives it.
    """

    name: str
    field: str
    kind: Kind
    description: str
    required: bool = False
    default: Any = None
    replaces: bool = False
    compared: bool = True
    secret: bool = False
    given: bool = True


class Record:
    """Base of every dataclass that declares properties."""

    _unknown: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def properties(cls) -> Mapping[str, Property]:
        """The declared properties by their names on the wire."""
        return _properties(cls)  # type: ignore[arg-type]  # a class can be hashed

    @classmethod
    def read(cls, properties: Mapping[str, Any]) -> Self:
        """Properties as typed values, without secret marks.

        What is not there, not known yet or of another kind is the field's default, else an empty value of its type;
        :meth:`knows` tells what is known.
        """
        found = {
            each.field: each.kind.read(properties[name])
            for name, each in cls.properties().items()
            if _is_there(each, properties.get(name))
        }
        record = cls(**{each.field: each.kind.empty for each in cls.properties().values() if each.required} | found)
        unknown = (each.field for name, each in cls.properties().items() if has_unknown(properties.get(name)))
        object.__setattr__(record, "_unknown", frozenset(unknown))
        return record

    def knows(self, *names: str) -> bool:
        """Whether the values of these fields are known, all of them if none is named: before an update some are not."""
        return self._unknown.isdisjoint(names) if names else not self._unknown

    def write(self, lift: wire.Lift = lambda value, _: value) -> Properties:
        """The values as properties, without those that are ``None``; :mod:`.integers` makes 64-bit ones text.

        Args:
            lift: how to look into values that are not there yet (outputs of other resources).
        """
        found = {name: each.kind.write(getattr(self, each.field), lift) for name, each in self.properties().items()}
        return {name: value for name, value in found.items() if value is not None}


@cache
def _properties(cls: type) -> Mapping[str, Property]:
    hints = get_type_hints(cls, include_extras=True)
    sentences = {name: said for base in reversed(cls.__mro__) for name, said in sentences_of(base).items()}
    found = {}
    for each in fields(cls):
        said = each.metadata.get(_METADATA, _Said())
        name = camel_case(each.name)
        found[name] = Property(
            name,
            each.name,
            said.kind or kind_of(hints[each.name]),
            sentences.get(each.name, "").removesuffix("."),
            each.default is MISSING and each.default_factory is MISSING,
            _default(each),
            said.replaces,
            said.compared,
            said.secret,
            said.given,
        )
    return found


def _default(declared: Field[Any]) -> Any:
    """The default of a field as on the wire."""
    if declared.default_factory is not MISSING:
        value = declared.default_factory()
        return value.write() if isinstance(value, Record) else value
    return None if declared.default is MISSING else declared.default


def _is_there(declared: Property, value: Any) -> bool:
    """Whether a wire value says more than the default of its field."""
    value = opened(value)
    return value is not None and value is not UNKNOWN and declared.kind.takes(value)


@dataclass(frozen=True)
class ObjectOf(Kind):
    """An object with declared properties: a dataclass of the contract."""

    record: type[Record]
    word = "object"

    @property
    def empty(self) -> Any:
        return self.record.read({})

    def takes(self, value: Any) -> bool:
        return isinstance(value, Mapping)

    def holds(self, value: Any) -> bool:
        return isinstance(value, self.record)

    def decode(self, value: Any) -> Any:
        return self.record.read(value)

    def encode(self, value: Any, lift: wire.Lift) -> Any:
        return value.write(lift)

    def within(self, value: Any, at: Path) -> Iterator[Fault]:
        declared = self.record.properties()
        yield from (((*at, str(key)), unknown_name(key, declared)) for key in value if key not in declared)
        for name, each in declared.items():
            if opened(value.get(name)) is None:
                if each.required:
                    yield (*at, name), f"{name} is required: {each.description}"
            else:
                yield from each.kind.faults(value[name], (*at, name))

    def schema(self, reference: Reference) -> dict[str, Any]:
        return {"$ref": f"#/types/{reference(self.record)}"}

    def integers(self) -> tuple[wire.Pattern, ...]:
        return tuple((name, *path) for name, each in self.record.properties().items() for path in each.kind.integers())


_SCALARS: Mapping[Any, Kind] = {
    str: Scalar("string"),
    bool: Scalar("boolean"),
    int: Scalar("integer"),
    float: Scalar("number"),
    Amount: Scalar("number"),
    Version: VersionNumber(),
}


@cache
def kind_of(hint: Any) -> Kind:
    """The kind that a type hint stands for.

    Raises:
        TypeError: a type that no property has.
    """
    hint = without_none(hint)
    if hint in _SCALARS:
        return _SCALARS[hint]
    if is_union(hint):
        return OneOf(tuple(kind_of(each) for each in get_args(hint)))
    if is_mapping(hint):
        return Free() if get_args(hint)[1] is Any else MapOf(kind_of(get_args(hint)[1]))
    if get_origin(hint) is tuple:
        return ListOf(kind_of(get_args(hint)[0]))
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return ChoiceOf(hint)
    if isinstance(hint, type) and issubclass(hint, Record):
        return ObjectOf(hint)
    raise TypeError(f"{hint!r} is the type of no property")


@dataclass(frozen=True)
class Contract:
    """One kind of resource.

    Attributes:
        name: its name; the type is ``tfserving:index:<name>``.
        description: what it is, in a sentence.
        inputs: its inputs.
        outputs: its outputs beyond the inputs, and inputs that the provider answers with what it found.
        echo: inputs that are outputs, too; ``None``: all.
    """

    name: str
    description: str
    inputs: type[Record]
    outputs: type[Record]
    echo: tuple[str, ...] | None = None

    @property
    def token(self) -> str:
        """Its type."""
        return f"{PACKAGE}:index:{self.name}"

    @property
    def all_outputs(self) -> Mapping[str, Property]:
        """Everything that its state has, by name."""
        echoed = {
            name: each for name, each in self.inputs.properties().items() if self.echo is None or name in self.echo
        }
        return {**echoed, **self.outputs.properties()}

    def integers(self) -> tuple[wire.Pattern, ...]:
        """Where its 64-bit integers are."""
        both = {**self.inputs.properties(), **self.outputs.properties()}
        return tuple((name, *path) for name, each in both.items() for path in each.kind.integers())
