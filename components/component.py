"""What all components have in common: a type, options of the stack file as arguments, outputs by contract."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pulumi

from config.arguments import Classes
from tfserving.contract import PACKAGE
from tfserving.contract.records import Record
from tfserving.options import keys, snake_case

PutBack = Callable[[Any], Any]
"""Sets outputs of other resources in the place of their stand-ins (:meth:`components.arguments.Checked.put_back`)."""

_BEFORE = "tf-serving:components"


def as_it_is(value: Any) -> Any:
    """Of a plan without stand-ins nothing has to be put back."""
    return value


@dataclass(frozen=True, kw_only=True)
class Argument:
    """An argument of a component that is no option of the stack file, or another one than there.

    Attributes:
        key: its key; in Python it has the name in snake_case.
        description: one sentence.
        type: of its value: a class with options, ``str``, or the name of the component it is.
        required: whether it has to be given.
        several: it is a list of such.
        late: the form of its text, where it may be an output (:func:`tfserving.options.option`).
    """

    key: str
    description: str
    type: type | str = str
    required: bool = False
    several: bool = False
    late: str = ""

    @property
    def name(self) -> str:
        """Its name in Python."""
        return snake_case(self.key)


class Component(pulumi.ComponentResource):
    """A component of the package.

    Attributes:
        shape: the dataclasses whose options it takes.
        not_taken: keys of options that it does not take, since another argument says them.
        arguments: what it takes besides.
        outputs: what it has.
        state: its outputs by name, once it is made.
    """

    shape: ClassVar[Classes] = ()
    not_taken: ClassVar[frozenset[str]] = frozenset()
    arguments: ClassVar[Sequence[Argument]] = ()
    outputs: ClassVar[type[Record]]
    state: Mapping[str, Any]

    def __init__(self, name: str, opts: pulumi.ResourceOptions | None, warnings: Sequence[str] = ()) -> None:
        """Args:
        name: its name.
        opts: its options.
        warnings: what is worth saying although nothing is wrong.
        """
        kind = type(self).__name__
        # Release 0.1.0 had other types, and its components stood below the Pulumi stack itself.
        before = [
            pulumi.Alias(type_=f"{_BEFORE}:{kind}"),
            pulumi.Alias(type_=f"{_BEFORE}:{kind}", parent=pulumi.ROOT_STACK_RESOURCE),
        ]
        options = pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(aliases=before))
        super().__init__(token(type(self)), name, None, options)
        for warning in warnings:
            pulumi.log.warn(warning, self)

    def finish(self, outputs: Mapping[str, Any]) -> None:
        """Registers the outputs. Nothing comes after it.

        Args:
            outputs: by name, as :attr:`outputs` declares them.
        """
        self.state = dict(outputs)
        self.register_outputs(dict(outputs))

    @classmethod
    def taken(cls) -> tuple[str, ...]:
        """The keys of all that it takes."""
        found = [key for each in cls.shape for key in keys(each) if key not in cls.not_taken]
        return tuple(dict.fromkeys([*(each.key for each in cls.arguments), *found]))

    @classmethod
    def description(cls) -> str:
        """What it is, in a sentence or more: the docstring without its sections."""
        return inspect.cleandoc(cls.__doc__ or "").partition("\n\nAttributes:")[0]


def token(cls: type[Component]) -> str:
    """The type of a component as Pulumi knows it."""
    return f"{PACKAGE}:index:{cls.__name__}"
