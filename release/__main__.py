"""``python -m release``: the version, the notes and the files of a release. ``docs/releasing.md`` tells the order."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from release import artifacts, changelog, versions
from release.versions import PROJECT, ReleaseError
from tfserving.errors import TFServingError

ONLY_GITHUB = (
    "runs on the tag alone, and only if the tagged commit is on main",
    "waits for the reviewers of the environment `release`",
    "attests the provenance of every file, with the workflow's own identity",
    "makes the release of the tag, with these notes and files",
)
"""What a dry run cannot try: it takes GitHub's own services."""


def main(argv: Sequence[str]) -> int:
    """Runs one command.

    Returns:
        1 where there can be no such release, else 0.
    """
    chosen = _parser().parse_args(argv)
    try:
        match chosen.command:
            case "version":
                _version(chosen.version)
            case "build":
                _build(chosen.tag)
            case _:
                _dry_run()
    except TFServingError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m release", description="Makes a release of this project.")
    commands = parser.add_subparsers(dest="command", required=True)
    version = commands.add_parser("version", help="write a version everywhere, and make a section of the changelog")
    version.add_argument("version", help="three numbers, such as 0.2.0")
    build = commands.add_parser("build", help="build the files of a release into dist/, with notes and checksums")
    build.add_argument("--tag", required=True, help="the tag of the release, such as v0.2.0")
    commands.add_parser("dry-run", help="everything of a release that can be tried on this machine")
    return parser


def _changelog() -> Path:
    return PROJECT / "CHANGELOG.md"


def _version(version: str) -> None:
    text = _changelog().read_text(encoding="utf-8")
    cut = changelog.cut(text, version)
    changed = versions.write(version, PROJECT)
    if cut != text:
        _changelog().write_text(cut, encoding="utf-8")
        changed.append("CHANGELOG.md")
    print("\n".join(f"{file}: written" for file in changed) or f"everything has version {version} already")


def _build(tag: str) -> None:
    version = versions.current(PROJECT)
    if tag != f"v{version}":
        raise ReleaseError(f"the tag is {tag!r}, but the version of this commit is {version}: v{version} is its tag")
    notes = changelog.notes(_changelog().read_text(encoding="utf-8"), version)
    _make(version, notes)


def _make(version: str, notes: str) -> None:
    files = artifacts.build(PROJECT)
    artifacts.check(files, version)
    dist = PROJECT / "dist"
    (dist / artifacts.CHECKSUMS).write_text(artifacts.checksums(files), encoding="utf-8")
    (dist / artifacts.NOTES).write_text(f"{notes}\n", encoding="utf-8")


def _dry_run() -> None:
    version = versions.current(PROJECT)
    text = _changelog().read_text(encoding="utf-8")
    print(f"version    {version}, the same in {len(versions.PLACES)} places")
    unreleased = changelog.section(text, changelog.UNRELEASED)
    if unreleased:
        notes = unreleased
        print("notes      of what is unreleased: a release needs `make version VERSION=<next>` first")
    else:
        notes = changelog.notes(text, version)
        print(f"notes      section {version} of CHANGELOG.md")
    _make(version, notes)
    print("built      in dist/:")
    print("".join(f"  {line}\n" for line in (PROJECT / "dist" / artifacts.CHECKSUMS).read_text().splitlines()), end="")
    print("not tried  what only GitHub does; .github/workflows/release.yml")
    print("\n".join(f"  {each}" for each in ONLY_GITHUB))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
