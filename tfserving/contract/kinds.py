"""Kinds of values: what a type hint of a contract means on the wire, in Python, in a check and in the schema."""

from __future__ import annotations

import difflib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Final

from tfserving import wire
from tfserving.property_values import UNKNOWN, Secret, plain

Path = tuple[str | int, ...]
Fault = tuple[Path, str]
"""Where a value is not what its contract says, and why."""

Reference = Callable[[type], str]
"""Names a nested type in the schema."""

Version = Annotated[int, "version"]
"""A 64-bit integer, which is text on the wire (:mod:`tfserving.wire`)."""

Amount = Annotated[int, "amount"]
"""A whole number that may be above 2^31 and never is above 2^53: a number in every language, and no integer in some."""

VERSION_SENTENCE: Final = (
    "Version numbers are text: whole numbers from 0 to 2^63 - 1. Below 2^53 a number is taken, too"
)


_PYTHON_TYPES: Mapping[str, tuple[type, ...]] = {"string": (str,), "integer": (int,), "number": (int, float)}


class Kind(ABC):
    """One kind of value."""

    word: str
    """Its JSON type, as messages say it."""

    @property
    @abstractmethod
    def empty(self) -> Any:
        """What stands for a value that is not there, or not known yet."""

    @abstractmethod
    def takes(self, value: Any) -> bool:
        """Whether a wire value is of this kind, as far as its outermost form tells."""

    @abstractmethod
    def holds(self, value: Any) -> bool:
        """The same of a Python value."""

    @abstractmethod
    def decode(self, value: Any) -> Any:
        """The Python value of a wire value that this kind takes."""

    @abstractmethod
    def encode(self, value: Any, lift: wire.Lift) -> Any:
        """The property value of a Python value that this kind holds; a 64-bit integer stays an ``int``."""

    @abstractmethod
    def schema(self, reference: Reference) -> dict[str, Any]:
        """As a type of Pulumi's package schema."""

    def integers(self) -> tuple[wire.Pattern, ...]:
        """Where 64-bit integers are in it."""
        return ()

    def within(self, value: Any, at: Path) -> Iterator[Fault]:
        """What is wrong inside a value that this kind takes."""
        yield from ()

    def faults(self, value: Any, at: Path) -> Iterator[Fault]:
        """What is wrong with a wire value. Unknown ones may be anything, and secret ones are not repeated."""
        if isinstance(value, Secret):
            yield from (
                (path, f"{self.word} with a secret that is not allowed here")
                for path, _ in self.faults(value.value, at)
            )
        elif value is None or value is UNKNOWN:
            return
        elif self.takes(value):
            yield from self.within(value, at)
        else:
            yield at, f"must be of type {self.word}, is {type(value).__name__}"

    def read(self, value: Any) -> Any:
        """A wire value without secret marks as a Python value; :attr:`empty` for what is unknown or of another kind."""
        value = opened(value)
        return self.decode(value) if value is not UNKNOWN and self.takes(value) else self.empty

    def write(self, value: Any, lift: wire.Lift) -> Any:
        """A Python value as a wire value; ``lift`` looks into what is neither, such as outputs of other resources."""
        if value is None or self.holds(value):
            return None if value is None else self.encode(value, lift)
        return lift(value, lambda inner: self.write(inner, lift))


@dataclass(frozen=True)
class Scalar(Kind):
    """A text, a boolean or a number.

    Attributes:
        word: ``string``, ``boolean``, ``integer`` or ``number``.
    """

    word: str

    @property
    def empty(self) -> Any:
        return {"string": "", "boolean": False}.get(self.word, 0)

    def takes(self, value: Any) -> bool:
        if isinstance(value, bool):
            return self.word == "boolean"
        return isinstance(value, _PYTHON_TYPES.get(self.word, ()))

    holds = takes

    def decode(self, value: Any) -> Any:
        return value

    def encode(self, value: Any, lift: wire.Lift) -> Any:
        return value

    def schema(self, reference: Reference) -> dict[str, Any]:
        return {"type": self.word}


@dataclass(frozen=True)
class ChoiceOf(Kind):
    """One of a few texts."""

    choices: type[StrEnum]
    word = "string"

    @property
    def empty(self) -> Any:
        return next(iter(self.choices))

    def takes(self, value: Any) -> bool:
        return isinstance(value, str)

    holds = takes

    def decode(self, value: Any) -> Any:
        return self.choices(value) if value in set(self.choices) else self.empty

    def encode(self, value: Any, lift: wire.Lift) -> Any:
        return str(value)

    def within(self, value: Any, at: Path) -> Iterator[Fault]:
        if value not in set(self.choices):
            yield at, f"{value!r} is not one of {', '.join(self.choices)}"

    def schema(self, reference: Reference) -> dict[str, Any]:
        return {"$ref": f"#/types/{reference(self.choices)}"}


@dataclass(frozen=True)
class VersionNumber(Kind):
    """A version number."""

    word = "string"
    empty = 0

    def takes(self, value: Any) -> bool:
        return wire.is_version(wire.decode_integer(value))

    def holds(self, value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool)

    def decode(self, value: Any) -> Any:
        return wire.decode_integer(value)

    def encode(self, value: Any, lift: wire.Lift) -> Any:
        return value

    def schema(self, reference: Reference) -> dict[str, Any]:
        return {"type": "string"}

    def integers(self) -> tuple[wire.Pattern, ...]:
        return ((),)

    def faults(self, value: Any, at: Path) -> Iterator[Fault]:
        if isinstance(value, Secret):
            yield from super().faults(value, at)
        elif value is not UNKNOWN and not self.takes(value):
            yield at, f"{value!r} is not a version number, from 0 to 2^63 - 1, as text"


@dataclass(frozen=True)
class ListOf(Kind):
    """A list of values of one kind, a tuple in Python."""

    item: Kind
    word = "array"
    empty = ()

    def takes(self, value: Any) -> bool:
        return isinstance(value, list | tuple)

    holds = takes

    def decode(self, value: Any) -> Any:
        return tuple(self.item.read(each) for each in value)

    def encode(self, value: Any, lift: wire.Lift) -> Any:
        return [self.item.write(each, lift) for each in value]

    def within(self, value: Any, at: Path) -> Iterator[Fault]:
        for index, each in enumerate(value):
            yield from self.item.faults(each, (*at, index))

    def schema(self, reference: Reference) -> dict[str, Any]:
        return {"type": "array", "items": self.item.schema(reference)}

    def integers(self) -> tuple[wire.Pattern, ...]:
        return tuple(("*", *path) for path in self.item.integers())


@dataclass(frozen=True)
class MapOf(Kind):
    """Values of one kind by name."""

    item: Kind
    word = "object"

    @property
    def empty(self) -> Any:
        return {}

    def takes(self, value: Any) -> bool:
        return isinstance(value, Mapping)

    holds = takes

    def decode(self, value: Any) -> Any:
        return {key: self.item.read(each) for key, each in value.items()}

    def encode(self, value: Any, lift: wire.Lift) -> Any:
        return {key: self.item.write(each, lift) for key, each in value.items()}

    def within(self, value: Any, at: Path) -> Iterator[Fault]:
        for key, each in value.items():
            yield from self.item.faults(each, (*at, str(key)))

    def schema(self, reference: Reference) -> dict[str, Any]:
        return {"type": "object", "additionalProperties": self.item.schema(reference)}

    def integers(self) -> tuple[wire.Pattern, ...]:
        return tuple(("*", *path) for path in self.item.integers())


@dataclass(frozen=True)
class Free(Kind):
    """An object whose keys belong to another API, such as the service JSON of EAS. Numbers above 2^53 become text."""

    word = "object"

    @property
    def empty(self) -> Any:
        return {}

    def takes(self, value: Any) -> bool:
        return isinstance(value, Mapping)

    holds = takes

    def decode(self, value: Any) -> Any:
        return plain(value)

    def encode(self, value: Any, lift: wire.Lift) -> Any:
        return wire.exact(value)

    def schema(self, reference: Reference) -> dict[str, Any]:
        return {"type": "object", "additionalProperties": {"$ref": "pulumi.json#/Any"}}


@dataclass(frozen=True)
class OneOf(Kind):
    """A value of one of several kinds; the first that takes it counts."""

    kinds: tuple[Kind, ...]

    @property
    def word(self) -> str:  # type: ignore[override]
        return " or ".join(dict.fromkeys(each.word for each in self.kinds))

    @property
    def empty(self) -> Any:
        return self.kinds[0].empty

    def takes(self, value: Any) -> bool:
        return any(each.takes(value) for each in self.kinds)

    def holds(self, value: Any) -> bool:
        return any(each.holds(value) for each in self.kinds)

    def decode(self, value: Any) -> Any:
        return next(each.decode(value) for each in self.kinds if each.takes(value))

    def encode(self, value: Any, lift: wire.Lift) -> Any:
        return next(each.encode(value, lift) for each in self.kinds if each.holds(value))

    def within(self, value: Any, at: Path) -> Iterator[Fault]:
        yield from next(each for each in self.kinds if each.takes(value)).within(value, at)

    def schema(self, reference: Reference) -> dict[str, Any]:
        forms = [each.schema(reference) for each in self.kinds]
        return forms[0] if all(form == forms[0] for form in forms) else {"oneOf": forms}

    def integers(self) -> tuple[wire.Pattern, ...]:
        return tuple(path for each in self.kinds for path in each.integers())


def unknown_name(name: object, known: Mapping[str, Any]) -> str:
    """What is said of a property that is not declared."""
    close = difflib.get_close_matches(str(name), known, n=1)
    return f"unknown property; did you mean {close[0]}?" if close else f"unknown property; known: {', '.join(known)}"


def opened(value: Any) -> Any:
    """A value without its own secret mark."""
    return value.value if isinstance(value, Secret) else value
