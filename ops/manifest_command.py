"""``python -m ops manifest MODEL_DIR``: its options, and what it prints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from ops import answer, manifest
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
        found = manifest.write(chosen.directory, target, cache)
    lines = [
        f"{each.file}: {'written' if each.new else 'unchanged'}, {each.files} files, {each.size} bytes"
        for each in found
    ]
    answer.give(chosen, {"manifests": [asdict(each) for each in found]}, "\n".join(lines))
    return 0


def _parser() -> answer.Parser:
    command = answer.Parser(
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
