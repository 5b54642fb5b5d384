"""The version of the project: said by ``pyproject.toml``, and repeated where a tool reads it from a file of its own."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tfserving.errors import TFServingError

PROJECT: Final = Path(__file__).resolve().parents[1]

_NUMBER: Final = r"\d+\.\d+\.\d+"


class ReleaseError(TFServingError):
    """There can be no such release."""


@dataclass(frozen=True)
class Place:
    """A place that holds the version.

    Attributes:
        file: relative to the project.
        pattern: matches the line, with the version as its one group.
    """

    file: str
    pattern: str


_IN_TOML: Final = rf'^version = "({_NUMBER})"$'
_OF_PLUGIN: Final = rf"^      version: ({_NUMBER})$"

PLACES: Final = (
    Place("pyproject.toml", _IN_TOML),
    Place("sandbox/pyproject.toml", _IN_TOML),
    Place("tfserving/pyproject.toml", _IN_TOML),
    Place("tfserving/contract/__init__.py", rf'^VERSION: Final = "({_NUMBER})"$'),
    Place("Pulumi.yaml", _OF_PLUGIN),
    Place("examples/go/Pulumi.yaml", _OF_PLUGIN),
    Place("examples/python-own-program/Pulumi.yaml", _OF_PLUGIN),
    Place("examples/typescript/Pulumi.yaml", _OF_PLUGIN),
    Place("examples/yaml/Pulumi.yaml", _OF_PLUGIN),
    Place("plugin/schema.json", rf'^ "version": "({_NUMBER})",$'),
    Place("policy/PulumiPolicy.yaml", rf"^version: ({_NUMBER})$"),
)
"""The first one is what the others repeat."""

_NEEDS: Final = re.compile(r'"tf-serving-knowledge>=[^"]*"')
"""How the sandbox asks for the other distribution: the same minor release."""


def found(project: Path = PROJECT) -> dict[str, str]:
    """The version in every place, by file.

    Raises:
        ReleaseError: a place holds none, or more than one.
    """
    return {place.file: _one(place, project) for place in PLACES}


def current(project: Path = PROJECT) -> str:
    """The version.

    Raises:
        ReleaseError: two places differ.
    """
    versions = found(project)
    version = versions[PLACES[0].file]
    problems = [f"{file} has {other}" for file, other in versions.items() if other != version]
    needs = _NEEDS.findall((project / "sandbox" / "pyproject.toml").read_text(encoding="utf-8"))
    if needs != [_needed(version)]:
        problems.append(f"sandbox/pyproject.toml asks for {', '.join(needs) or 'nothing'}, not {_needed(version)}")
    if problems:
        fix = f"`make version VERSION={version}` writes it everywhere"
        raise ReleaseError(f"{PLACES[0].file} has version {version}, but {'; '.join(problems)}. {fix}")
    return version


def write(version: str, project: Path = PROJECT) -> list[str]:
    """Writes a version into every place.

    Returns:
        The files that were changed.

    Raises:
        ReleaseError: it is no version, or a place holds none; then nothing is changed.
    """
    if not re.fullmatch(r"(0|[1-9]\d*)(\.(0|[1-9]\d*)){2}", version):
        raise ReleaseError(f"{version!r} is no version of a release: three numbers, such as 0.2.0")
    found(project)
    changed = []
    for place in PLACES:
        file = project / place.file
        before = file.read_text(encoding="utf-8")
        after = re.sub(place.pattern, lambda match: match[0].replace(match[1], version), before, flags=re.MULTILINE)
        if place.file == "sandbox/pyproject.toml":
            after = _NEEDS.sub(_needed(version), after)
        if after != before:
            file.write_text(after, encoding="utf-8")
            changed.append(place.file)
    return changed


def _one(place: Place, project: Path) -> str:
    try:
        text = (project / place.file).read_text(encoding="utf-8")
    except OSError as error:
        raise ReleaseError(f"{place.file} cannot be read: {error.strerror}") from None
    versions = re.findall(place.pattern, text, re.MULTILINE)
    if len(versions) != 1:
        raise ReleaseError(f"{place.file} has {len(versions)} versions where one is expected")
    return str(versions[0])


def _needed(version: str) -> str:
    major, minor, _ = version.split(".")
    return f'"tf-serving-knowledge>={major}.{minor},<{major}.{int(minor) + 1}"'
