"""What a release consists of: built into ``dist/``, looked at, and listed with checksums."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from release.versions import ReleaseError

CHECKSUMS: Final = "SHA256SUMS"
NOTES: Final = "NOTES.md"

COMMANDS: Final[Sequence[Sequence[str]]] = (
    ("make", "dist"),
    (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", "dist", "./tfserving", "./sandbox"),
)
"""What builds: plugin archives and the wheel of the package; the wheels of the other two distributions."""

Run = Callable[[Sequence[str], Path], int]


def build(project: Path, run: Run | None = None) -> list[Path]:
    """Builds everything into an empty ``dist/``.

    Args:
        project: the checkout.
        run: runs a command in it and returns its exit status.

    Returns:
        What was built, by name.

    Raises:
        ReleaseError: a command failed, or built nothing.
    """
    run = run or _run
    dist = project / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    for command in COMMANDS:
        status = run(command, project)
        if status:
            raise ReleaseError(f"`{' '.join(command)}` failed with exit status {status}: what it printed is above")
    files = built(dist)
    if not files:
        raise ReleaseError("nothing was built into dist/")
    return files


def _run(command: Sequence[str], project: Path) -> int:
    return subprocess.run(command, cwd=project, check=False).returncode


def built(dist: Path) -> list[Path]:
    """The files of a release, by name: neither checksums nor notes."""
    files = dist.iterdir() if dist.is_dir() else ()
    return sorted(file for file in files if file.is_file() and file.name not in (CHECKSUMS, NOTES))


def check(files: Sequence[Path], version: str) -> None:
    """Looks whether each file is of that version.

    Raises:
        ReleaseError: one is not; all of them are named.
    """
    wrong = [
        file.name for file in files if version not in file.name or (file.suffix == ".whl" and _says(file) != version)
    ]
    if wrong:
        raise ReleaseError(f"not of version {version}: {', '.join(wrong)}")


def _says(wheel: Path) -> str:
    """The version in a wheel's own metadata."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        lines = archive.read(name).decode().splitlines()
    return next((line.removeprefix("Version: ") for line in lines if line.startswith("Version: ")), "")


def checksums(files: Sequence[Path]) -> str:
    """The list that ``sha256sum --check`` reads."""
    return "".join(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in files)
