"""``python -m plugin.archive DIRECTORY``: the archives that ``pulumi plugin install resource tfserving`` takes.

One for each machine that the Pulumi CLI runs on, since it asks for them by name; they differ in the name alone. The CLI
unpacks one, and prepares the environment that ``PulumiPlugin.yaml`` asks for.
"""

from __future__ import annotations

import io
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

from tfserving.contract import PACKAGE, VERSION

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("tfserving", "templates", "config", "components", "provider", "plugin")
"""Directories of the project that the plugin consists of."""

MACHINES = ("linux-amd64", "linux-arm64", "darwin-amd64", "darwin-arm64", "windows-amd64")
_LEFT_OUT = {"__pycache__", ".venv", "build"}  # build: what `pip wheel` leaves behind
_AT_THE_TOP = ("PulumiPlugin.yaml", "requirements.txt")
_START = """\"\"\"Started by the Pulumi CLI, which runs the directory.\"\"\"

import sys

from plugin.__main__ import run

sys.exit(run())
"""


def write(directory: Path) -> list[Path]:
    """Writes the archives.

    Args:
        directory: where; made if it is not there.

    Returns:
        The archives.
    """
    directory.mkdir(parents=True, exist_ok=True)
    content = _content()
    found = []
    for machine in MACHINES:
        path = directory / f"pulumi-resource-{PACKAGE}-v{VERSION}-{machine}.tar.gz"
        path.write_bytes(content)
        found.append(path)
    return found


def _content() -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, file in _files():
            archive.add(file, name)
        start = tarfile.TarInfo("__main__.py")
        start.size = len(_START)
        archive.addfile(start, io.BytesIO(_START.encode()))
    return packed.getvalue()


def _files() -> Iterator[tuple[str, Path]]:
    yield "LICENSE", ROOT / "LICENSE"
    for name in _AT_THE_TOP:
        yield name, ROOT / "plugin" / name
    for part in PARTS:
        for file in sorted((ROOT / part).rglob("*")):
            relative = file.relative_to(ROOT)
            if file.is_file() and not any(name in _LEFT_OUT or name.endswith(".egg-info") for name in relative.parts):
                yield relative.as_posix(), file


if __name__ == "__main__":
    for path in write(Path(sys.argv[1])):
        sys.stdout.write(f"{path}\n")
