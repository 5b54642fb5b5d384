"""Whether the files of a version hold what their names say, and not what a sync tool, a download or a full disk left.

Three looks, from cheap to thorough; each file's verdict is kept in the :class:`~tfserving.manifest.HashCache`:

1. The start of every file: pointers of Git LFS and its kin, web pages saved as a model, files without content.
2. ``variables.index`` against the sizes of its shards (:mod:`tfserving.tensor_bundle`).
3. The CRC-32C that the index holds of every tensor, against the bytes in the shards. Texts and variants have checksums
   of another kind, and TensorFlow itself checks them when it loads.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tfserving import tensor_bundle
from tfserving.errors import SavedModelError
from tfserving.manifest import HashCache, list_files

_INDEX = "variables/variables.index"
_SHARD = re.compile(r"variables/variables\.data-([0-9]{5})-of-[0-9]{5}")
_ICLOUD = re.compile(r"\.(?P<name>.+)\.icloud")
_BINARY = re.compile(r"saved_model\.pb|variables/variables\.(index|data-.*)")
"""Files that are never text and never empty; a shard without a byte is compared with the index instead."""

_POINTERS: tuple[tuple[bytes, str, str], ...] = (
    (b"version https://git-lfs.github.com/spec/", "a Git LFS pointer", "git lfs pull"),
    (b"version https://hawser.github.com/spec/", "a Git LFS pointer", "git lfs pull"),
    (b"/annex/objects/", "a git-annex pointer", "git annex get"),
    (b"#$# git-fat ", "a git-fat pointer", "git fat pull"),
    (b"# xet version", "a Git Xet pointer", "git xet checkout"),
    (b"\0GITCRYPT\0", "encrypted by git-crypt", "git-crypt unlock"),
)
_PAGES = (b"<!doctype", b"<html", b"<?xml", b"<error", b'{"')
_START_BYTES = 512
_NAMES_SHOWN = 3
_EXPORT_AGAIN = "copy or export the model again"


@dataclass(frozen=True)
class Fault:
    """Content that cannot be what the file's name says.

    Attributes:
        message: the rest of a sentence that begins with the version's name.
        fix: what puts it right.
    """

    message: str
    fix: str


def placeholders(version_dir: Path, cache: HashCache) -> list[Fault]:
    """Files that stand for others: the content itself is somewhere else. One fault for all of one kind.

    Args:
        version_dir: the version's directory.
        cache: spares reading files that were read before and have not changed.

    Raises:
        SavedModelError: a file cannot be read, or the directory cannot be listed.
    """
    by_kind: dict[tuple[str, str], list[str]] = {}
    paths = list_files(version_dir)
    for path in paths:
        folder, _, name = path.rpartition("/")
        if icloud := _ICLOUD.fullmatch(name):
            kind = ("only a placeholder of iCloud", "download it in the Finder, or copy the model from elsewhere")
            by_kind.setdefault(kind, []).append(f"{folder}/{icloud['name']}".lstrip("/"))
        elif name.endswith(".dvc") and path.removesuffix(".dvc") not in _with_folders(paths):
            by_kind.setdefault(("only a pointer of DVC", "dvc pull"), []).append(path.removesuffix(".dvc"))
        elif found := _start(version_dir / path, path, cache):
            by_kind.setdefault(found, []).append(path)
    return [Fault(f"has {_names(names)}, which {_is(names)} {what}", fix) for (what, fix), names in by_kind.items()]


def damage(version_dir: Path, cache: HashCache) -> list[Fault]:
    """Variables that are not those of their index. Nothing where a version has none.

    Args:
        version_dir: the version's directory, complete as far as the names of its files tell.
        cache: spares reading files that were read before and have not changed.

    Raises:
        SavedModelError: a file cannot be read, or the directory cannot be listed.
    """
    shards = {int(match[1]): path for path in list_files(version_dir) if (match := _SHARD.fullmatch(path))}
    index = version_dir / _INDEX
    if not index.is_file():
        return []
    bundle, _ = cache.derive(index, "bundle", tensor_bundle.summary)
    if bundle is None:
        return [Fault(f"has a damaged {_INDEX}", _EXPORT_AGAIN)]
    if not bundle:
        return []  # compressed: TensorFlow reads it, we do not
    if bundle["shards"] != len(shards):
        message = f"has {len(shards)} of the {bundle['shards']} shards that {_INDEX} names"
        return [Fault(message, _EXPORT_AGAIN)]
    faults = []
    for number, path in sorted(shards.items()):
        size, needed = (version_dir / path).stat().st_size, bundle["ends"][number]
        if size < needed:
            message = f"has {size} bytes of {path}, and {_INDEX} says at least {needed}: it is cut off"
            faults.append(Fault(message, _EXPORT_AGAIN))
        elif wrong := _wrong_tensor(version_dir / path, number, index, bundle["id"], cache):
            message = f"has a damaged {path}: the checksum of {wrong} is not the one in {_INDEX}"
            faults.append(Fault(message, _EXPORT_AGAIN))
    return faults


def _start(file: Path, path: str, cache: HashCache) -> tuple[str, str] | None:
    """What a file is by its first bytes, where it cannot be what its name says, and what to do."""
    kind, size = cache.derive(file, "start", _kind)
    binary = _BINARY.fullmatch(path) is not None
    for _, what, fix in _POINTERS:
        if kind == what:
            return what, fix
    if binary and kind == "page":
        return "a web page or an error message in text", f"look into it, then {_EXPORT_AGAIN}"
    if binary and size == 0 and not _SHARD.fullmatch(path):
        return "empty", _EXPORT_AGAIN
    if binary and kind == "zeros" and not _SHARD.fullmatch(path):
        return "nothing but zeros, as of a transfer that did not end", _EXPORT_AGAIN
    return None


def _kind(chunks: Iterator[memoryview]) -> str:
    start = bytes(next(chunks, memoryview(b""))[:_START_BYTES])
    for begins, what, _ in _POINTERS:
        if start.startswith(begins):
            return what
    if start.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(_PAGES):
        return "page"
    return "zeros" if start and not start.strip(b"\0") else ""


def _wrong_tensor(shard: Path, number: int, index: Path, index_id: str, cache: HashCache) -> str:
    """The first tensor of a shard whose checksum is wrong; empty where all are right."""

    def compute(chunks: Iterator[memoryview]) -> str:
        try:
            content = index.read_bytes()
        except OSError as error:
            raise SavedModelError(f"{index} cannot be read: {error.strerror}") from None
        return tensor_bundle.first_wrong(content, number, chunks)

    found, _ = cache.derive(shard, f"tensors {index_id}", compute)
    return str(found)


def _with_folders(paths: list[str]) -> set[str]:
    """The paths, and every folder above one of them."""
    parts = [path.split("/") for path in paths]
    return {"/".join(names[:count]) for names in parts for count in range(1, len(names) + 1)}


def _names(paths: list[str]) -> str:
    more = f" and {len(paths) - _NAMES_SHOWN} more" if len(paths) > _NAMES_SHOWN else ""
    return ", ".join(paths[:_NAMES_SHOWN]) + more


def _is(names: list[str]) -> str:
    return "is" if len(names) == 1 else "are each"
