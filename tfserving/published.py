"""What stands for the content of a published version: its digest, or that any will do, or what was changed since."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tfserving.contract.storage import SomeFiles, VersionChanges
from tfserving.wording import some_of

ANY: Final = "any"
"""In a digest's place: whatever the source holds when it is published, or whatever is in the bucket already."""

NAMES_SHOWN: Final = 20
"""So many files are named."""

_CHANGED = "changed: "
_UNEXPLAINED = "the objects are not those seen before, and no manifest says which differ"


def changes(missing: Sequence[str], changed: Sequence[str], added: Sequence[str]) -> VersionChanges:
    """Names of files as the contract has them, of the first of many."""

    def some(names: Sequence[str]) -> SomeFiles | None:
        return SomeFiles(names=tuple(names[:NAMES_SHOWN]), count=len(names)) if names else None

    return VersionChanges(missing=some(missing), changed=some(changed), added=some(added))


def lines(found: VersionChanges) -> list[str]:
    """What was changed, by kind."""
    kinds = {"missing": found.missing, "changed": found.changed, "added": found.added}
    return [f"{kind} {some_of(each.names, NAMES_SHOWN, of=each.count)}" for kind, each in kinds.items() if each]


def marked(found: VersionChanges) -> str:
    """What stands in a digest's place for a version that is no longer what was published."""
    return _CHANGED + what_changed("", found)


def is_changed(digest: str) -> bool:
    """Whether it is :func:`marked` that stands in a digest's place."""
    return digest.startswith(_CHANGED)


def what_changed(digest: str, found: VersionChanges | None) -> str:
    """What was changed, in words.

    Args:
        digest: what stands in the digest's place, which is all that a state of an older release has.
        found: the same as data.
    """
    return "; ".join(lines(found)) or _UNEXPLAINED if found else digest.removeprefix(_CHANGED)
