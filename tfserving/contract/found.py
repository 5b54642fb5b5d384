"""The function that looks for versions in a bucket before a stack is planned: what it is asked, and what it answers.

It is the project's own, and not part of the package's schema. Version numbers are text, as everywhere on the wire.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from tfserving.contract.records import PACKAGE, Record
from tfserving.saved_model import SERVE_TAG

FIND_VERSIONS: Final = f"{PACKAGE}:index:findVersions"
"""The function's token."""


@dataclass(frozen=True, kw_only=True)
class WantedDirectory(Record):
    """Where to look.

    Attributes:
        bucket: bucket name.
        prefix: key prefix of the model, ending in a slash.
        tflite: its versions may hold ``model.tflite`` alone.
        tags: ``--saved_model_tags`` of whatever serves it: a version has a graph for each.
    """

    bucket: str
    prefix: str
    tflite: bool = False
    tags: tuple[str, ...] = (SERVE_TAG,)


@dataclass(frozen=True, kw_only=True)
class FindVersionsArgs(Record):
    """What is asked.

    Attributes:
        directories: directories of models, by the names that the answer has for them.
        owner: ``<project>/<stack>`` that asks.
        preview: the answer is for a preview: the update that the same command makes of it gets the same answer.
    """

    directories: Mapping[str, WantedDirectory]
    owner: str
    preview: bool = False


@dataclass(frozen=True, kw_only=True)
class LeftOut(Record):
    """Something in a model's directory that is no version a stack can have.

    Attributes:
        name: its name there.
        why: the rest of a sentence that begins with the name.
    """

    name: str
    why: str


@dataclass(frozen=True, kw_only=True)
class FoundDirectory(Record):
    """What is in a model's directory.

    Attributes:
        versions: numbers of the complete versions, ascending.
        own: those of them that the asking stack has published.
        left_out: what else is there, in the order of the names.
        exists: its bucket is there.
        known: False where only the update knows which bucket it is in.
    """

    versions: tuple[str, ...] = ()
    own: tuple[str, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    exists: bool = True
    known: bool = True

    @property
    def numbers(self) -> tuple[int, ...]:
        """The complete versions."""
        return tuple(sorted(map(int, self.versions)))


@dataclass(frozen=True, kw_only=True)
class FindVersionsResult(Record):
    """What is answered.

    Attributes:
        known: False where how buckets are reached is known only during the update.
        directories: what is in each directory that was asked for.
    """

    known: bool = True
    directories: Mapping[str, FoundDirectory]
