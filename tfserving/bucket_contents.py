"""What lies in a versioned bucket, and whose it is: a stack's own object versions, or those of others.

A bucket can only be deleted when nothing is left in it. In a bucket with versioning a deleted object leaves its content
and a delete marker, which no ordinary listing shows. What a stack published is known from what it left: manifests list
the files of a version and name the stack, and so does the first line of ``model_config.pbtxt``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tfserving import config_notes
from tfserving import manifest as manifests
from tfserving.errors import SavedModelError
from tfserving.manifest import Manifest
from tfserving.wording import some_of

CONFIG_FILE = "model_config.pbtxt"

_STAGED = re.compile(r"(?P<staging>(?:.*/)?\.staging-\d+/)manifest\.json")
_PUBLISHED = re.compile(rf"(?P<prefix>(?:.*/)?)(?P<number>\d+){re.escape(manifests.SUFFIX)}")
_START_FILE = re.compile(r"(?P<folder>(?:.*/)?)\w+\.(?:batching|monitoring)-[0-9a-f]+\.pbtxt")
_NAMES_SHOWN = 5


@dataclass(frozen=True)
class ObjectVersion:
    """One version of an object, or a delete marker.

    Attributes:
        key: object key.
        id: version id; empty where the bucket never had versioning.
        size: bytes; 0 for a delete marker.
        is_marker: a delete marker.
        is_latest: what a reader without a version id finds.
    """

    key: str
    id: str
    size: int = 0
    is_marker: bool = False
    is_latest: bool = False

    @property
    def is_current(self) -> bool:
        """A listing shows it, a server reads it."""
        return self.is_latest and not self.is_marker


@dataclass
class Contents:
    """What lies in a bucket.

    Attributes:
        removable: superseded versions and delete markers of what the stack published: nobody reads them.
        current: objects the stack published that are still there.
        strange: versions of objects that the stack did not publish.
        uploads: keys of unfinished multipart uploads that are not the stack's.
        own_uploads: those that are.
    """

    removable: list[ObjectVersion] = field(default_factory=list)
    current: list[ObjectVersion] = field(default_factory=list)
    strange: list[ObjectVersion] = field(default_factory=list)
    uploads: list[str] = field(default_factory=list)
    own_uploads: list[str] = field(default_factory=list)

    def in_the_way(self) -> str:
        """What keeps the bucket from being deleted after the stack has taken away its own; empty if nothing does."""
        parts = []
        if self.strange:
            count = len({each.key for each in self.strange})
            hidden = "" if any(each.is_current for each in self.strange) else ", deleted but kept by versioning"
            parts.append(f"{_count(count, 'object')} of others ({_names(each.key for each in self.strange)}{hidden})")
        if self.uploads:
            parts.append(f"{_count(len(self.uploads), 'unfinished upload')} of others ({_names(self.uploads)})")
        return " and ".join(parts)


def documents(versions: Iterable[ObjectVersion]) -> list[ObjectVersion]:
    """The versions that have to be read to tell whose the others are: of each such key, the newest with a content.

    ``versions`` come as OSS lists them: by key, the newest first.
    """
    found: dict[str, ObjectVersion] = {}
    for each in versions:
        if not each.is_marker and _is_document(each.key):
            found.setdefault(each.key, each)
    return list(found.values())


def sort_out(
    versions: Iterable[ObjectVersion], texts: Mapping[str, str], uploads: Iterable[str], owner: str
) -> Contents:
    """Tell what is whose.

    Args:
        versions: every object version and delete marker of the bucket.
        texts: content of what :func:`documents` names, by key.
        uploads: keys of unfinished multipart uploads.
        owner: ``<project>/<stack>``.
    """
    keys, prefixes, roots = _owned(texts, owner)

    def is_ours(key: str) -> bool:
        start_file = _START_FILE.fullmatch(key)
        return key in keys or key.startswith(prefixes) or bool(start_file and start_file["folder"] in roots)

    found = Contents()
    for each in versions:
        if not is_ours(each.key):
            found.strange.append(each)
        elif each.is_current:
            found.current.append(each)
        else:
            found.removable.append(each)
    for key in uploads:
        (found.own_uploads if is_ours(key) else found.uploads).append(key)
    return found


def _owned(texts: Mapping[str, str], owner: str) -> tuple[set[str], tuple[str, ...], set[str]]:
    """Keys and prefixes that are the stack's, and its model roots: files that services read at start are there."""
    keys: set[str] = set()
    prefixes: set[str] = set()
    roots: set[str] = set()
    for key, text in texts.items():
        if key.rpartition("/")[2] == CONFIG_FILE:
            if config_notes.owner_of(text) == owner:
                keys.add(key)
                roots.add(key.removesuffix(CONFIG_FILE))
            continue
        try:
            found = Manifest.from_json(text)
        except SavedModelError:
            continue
        if found.owner != owner:
            continue
        if staged := _STAGED.fullmatch(key):
            prefixes.add(staged["staging"])
            roots.add(_above(staged["staging"], 2))
        elif published := _PUBLISHED.fullmatch(key):
            roots.add(_above(published["prefix"], 1))
            folder = f"{published['prefix']}{published['number']}/"
            keys |= {key, *(f"{folder}{entry.path}" for entry in found.files)}
    return keys, tuple(prefixes), roots


def _above(folder: str, levels: int) -> str:
    parts = folder.split("/")[: -1 - levels]
    return "/".join([*parts, ""]) if parts else ""


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _is_document(key: str) -> bool:
    return bool(key.rpartition("/")[2] == CONFIG_FILE or _STAGED.fullmatch(key) or _PUBLISHED.fullmatch(key))


def _names(keys: Iterable[str]) -> str:
    return some_of(dict.fromkeys(keys), _NAMES_SHOWN)
