"""Property values that are more than JSON: secret and unknown ones, and how Pulumi marks them.

On the wire and in states, a secret, a reference or an output is an object with a signature key, and a value that is not
known yet is a reserved string, one for each kind of value. Source: Pulumi's Go SDK (``sdk/go/common/resource/sig``,
``sdk/go/common/resource/plugin/rpc.go``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

SIGNATURE: Final = "4dabf18193072939515e22adb298388d"
"""The key that marks an object; its value is one of the next three, or that of an asset or archive."""

SECRET: Final = "1b47061264138c4ac30d75fd1eb44270"  # noqa: S105 (a type mark of the protocol)
RESOURCE: Final = "5cf8f73096256a8f31e491e813e4eb8e"
OUTPUT: Final = "d0e6a833031e9bbcd3f4e8bde6ca49a4"

UNKNOWN_TEXT: Final = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
"""Stands for a text that is not known before the update runs, and for a value whose kind is not known either."""

UNKNOWNS: Final = frozenset(
    {
        UNKNOWN_TEXT,
        "1c4a061d-8072-4f0a-a4cb-0ff528b18fe7",  # boolean
        "3eeb2bf0-c639-47a8-9e75-3b44932eb421",  # number
        "6a19a0b0-7e62-4c92-b797-7f8e31da9cc2",  # list
        "030794c1-ac77-496b-92df-f27374a8bd58",  # asset
        "e48ece36-62e2-4504-bad9-02848725956a",  # archive
        "dd056dcd-154b-4c76-9bd3-c8f88648b5ff",  # object
    }
)
"""What stands for values that are not known before the update runs, of every kind."""

Properties = dict[str, Any]
"""A resource's properties: JSON values, :class:`Secret` and :data:`UNKNOWN`."""


class Unknown(Enum):
    """The type of :data:`UNKNOWN`."""

    UNKNOWN = "unknown"

    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN: Final = Unknown.UNKNOWN
"""A value that is not known before the update runs."""


@dataclass(frozen=True)
class Secret:
    """A value that Pulumi encrypts in its state and masks in its output.

    Attributes:
        value: the value itself; never part of ``repr``.
    """

    value: Any = field(repr=False)


def secret(value: Any) -> Secret:
    """``value`` as a secret; a secret stays one secret."""
    return value if isinstance(value, Secret) else Secret(value)


def plain(value: Any) -> Any:
    """``value`` without its secret marks, at any depth. Unknown values stay."""
    match value:
        case Secret():
            return plain(value.value)
        case Mapping():
            return {key: plain(item) for key, item in value.items()}
        case list() | tuple():
            return [plain(item) for item in value]
        case _:
            return value


def has_unknown(value: Any) -> bool:
    """Whether an unknown value is anywhere in ``value``."""
    match value:
        case Unknown():
            return True
        case Secret():
            return has_unknown(value.value)
        case Mapping():
            return any(has_unknown(item) for item in value.values())
        case list() | tuple():
            return any(has_unknown(item) for item in value)
        case _:
            return False
