"""The changelog: the section of a release, which is what its page says, and making one of what is unreleased."""

from __future__ import annotations

import re
from typing import Final

from release.versions import ReleaseError

UNRELEASED: Final = "Unreleased"

_HEADING = re.compile(r"^## (.+)$", re.MULTILINE)


def section(text: str, title: str) -> str:
    """What stands below a heading, up to the next one; empty where there is no such heading."""
    parts = _HEADING.split(text)
    found = dict(zip(parts[1::2], parts[2::2], strict=True))
    return found.get(title, "").strip()


def notes(text: str, version: str) -> str:
    """The notes of a release.

    Raises:
        ReleaseError: the release has no section, or something is still unreleased.
    """
    fix = f"`make version VERSION={version}` makes a section of what is unreleased"
    if section(text, UNRELEASED):
        raise ReleaseError(f"CHANGELOG.md has changes under {UNRELEASED!r}. {fix}")
    found = section(text, version)
    if not found:
        raise ReleaseError(f"CHANGELOG.md has no section {version!r}. {fix}")
    return found


def cut(text: str, version: str) -> str:
    """The changelog with what is unreleased as the section of a release. Without anything unreleased it stays.

    Raises:
        ReleaseError: the release has a section already: it is out, and what is new belongs to another one.
    """
    if not section(text, UNRELEASED):
        return text
    if version in _HEADING.findall(text):
        raise ReleaseError(
            f"CHANGELOG.md has a section {version!r}, and changes under {UNRELEASED!r}: take the next number"
        )
    return text.replace(f"## {UNRELEASED}\n", f"## {UNRELEASED}\n\n## {version}\n\n", 1)
