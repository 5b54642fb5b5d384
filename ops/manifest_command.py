"""``python -m ops manifest MODEL_DIR``: its options, and what it prints."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from ops import manifest
from tfserving.manifest import user_cache


def main(argv: Sequence[str]) -> int:
    """Writes the manifests that are missing and lists all of the model's.

    Returns:
        0.

    Raises:
        TFServingError: a version is no complete SavedModel, or no longer what its manifest says.
    """
    chosen = _parser().parse_args(list(argv))
    target = chosen.to / (chosen.model or chosen.directory.resolve().name)
    with user_cache() as cache:
        for written in manifest.write(chosen.directory, target, cache):
            what = "written" if written.new else "unchanged"
            print(f"{written.file}: {what}, {written.files} files, {written.size} bytes")
    return 0


def _parser() -> argparse.ArgumentParser:
    command = argparse.ArgumentParser(
        prog="python -m ops manifest",
        description="Writes a manifest for every version in a model directory that has none yet, to be committed.",
        epilog="Name the directory of the manifests in tf-serving:manifests. See docs/publishing.md.",
    )
    command.add_argument("directory", type=Path, metavar="MODEL_DIR", help="directory with one directory per version")
    command.add_argument("--model", help="model name (default: the name of the directory)")
    command.add_argument(
        "--to",
        type=Path,
        default=Path("manifests"),
        metavar="DIR",
        help="directory of all manifests (default: %(default)s)",
    )
    return command
