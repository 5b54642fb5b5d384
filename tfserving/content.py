"""Whether the files of a version hold what their names say, and not what a sync tool, a download or a full disk left.

Three looks, from cheap to thorough; each file's verdict is kept in the :class:`~tfserving.manifest.HashCache`:

1. The start of every file: pointers of Git LFS and its kin, web pages saved as a model, files without content.
2. ``variables.index`` against the sizes of its shards (:mod:`tfserving.tensor_bundle`).
3. The CRC-32C that the index holds of every tensor, against the bytes in the shards. Texts and variants have checksums
   of another kind, and TensorFlow itself checks them when it loads.

Of a version that lies in OSS, the first two are done, with reads of some hundred bytes and of the index; a graph is not
read, nor a shard.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfserving import saved_model, tensor_bundle
from tfserving.errors import Problem, SavedModelError
from tfserving.manifest import HashCache, list_files
from tfserving.wording import some_of

_INDEX = "variables/variables.index"
_SHARD = re.compile(r"variables/variables\.data-([0-9]{5})-of-[0-9]{5}")
_ICLOUD = re.compile(r"\.(?P<name>.+)\.icloud")
_BINARY = re.compile(r"saved_model\.pb|model\.tflite|variables/variables\.(index|data-.*)")
"""Files that are never text and never empty; a shard without a byte is compared with the index instead."""

_POINTERS: tuple[tuple[bytes, str, str], ...] = (
    (b"version https://git-lfs.github.com/spec/", "a Git LFS pointer", "git lfs pull"),
    (b"version https://hawser.github.com/spec/", "a Git LFS pointer", "git lfs pull"),
    (b"/annex/objects/", "a git-annex pointer", "git annex get"),
    (b"#$# git-fat ", "a git-fat pointer", "git fat pull"),
    (b"# xet version", "a Git Xet pointer", "git xet checkout"),
    (b"\0GITCRYPT\0", "encrypted by git-crypt", "git-crypt unlock"),
)
_OTHER_FORMATS: tuple[tuple[bytes, str, str], ...] = (
    (b"\x1f\x8b", "compressed with gzip", "unpack it"),
    (b"BZh", "compressed with bzip2", "unpack it"),
    (b"\xfd7zXZ\0", "compressed with xz", "unpack it"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd", "unpack it"),
    (b"PK\x03\x04", "a ZIP archive, or a Keras file, which is one", "unpack it, or write a SavedModel: model.export"),
    (b"\x89HDF\r\n", "an HDF5 file of Keras", "write a SavedModel: model.export"),
    (b"\0\x05\x16\x07", "what macOS keeps beside a file", "copy the file itself, without its ._"),
    (b"../", "the path that a symbolic link leads to, in place of the file", "copy the file itself: cp -rL"),
    (b"saved_model_schema_version:", "a SavedModel in text form", "name it saved_model.pbtxt"),
    (b"meta_graphs {", "a SavedModel in text form", "name it saved_model.pbtxt"),
)
"""How files begin that are of another format than their names say; looked at where content is never text."""
_PAGES = (b"<!doctype", b"<html", b"<?xml", b"<error", b'{"')
_START_BYTES = 512
_POINTER_BYTES = 1024
"""Pointers are shorter; of files in OSS, only such ones are looked at for being one."""
_MOST_LOOKED_AT = 64
_INDEX_BYTES = 64 << 20
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


def examine(
    model_dir: Path,
    path: str,
    cache: HashCache,
    versions: Collection[int] | None = None,
    tags: Collection[str] | None = None,
) -> list[tuple[int | None, Problem]]:
    """As :func:`saved_model.examine`, and what is wrong with the content of versions.

    Args:
        model_dir: the directory with the version directories.
        path: where the model is named in the stack config.
        cache: spares reading files that were read before and have not changed.
        versions: those whose content is looked at; None: all.
        tags: a graph with exactly these is needed; None: it is not known yet which.

    Raises:
        SavedModelError: the directory cannot be listed.
    """
    found = saved_model.examine(model_dir, path, cache, tags)
    for version in saved_model.versions(model_dir):
        if versions is None or version.number in versions:
            found = _with_content(found, version, path, cache)
    return found


def _with_content(
    found: list[tuple[int | None, Problem]], version: saved_model.VersionDir, path: str, cache: HashCache
) -> list[tuple[int | None, Problem]]:
    """The problems with those of a version's content: a placeholder explains whatever else is wrong with it."""
    number, shown = version.number, f"{version.path.parent.name}/{version.path.name}"
    others = [item for item in found if item[0] != number]
    sound = len(others) == len(found)
    try:
        here = faults(version.path, cache, complete=sound)
    except SavedModelError as error:
        return [*found, (number, Problem(path, str(error)))] if sound else found
    new = [(number, Problem(path, f"{shown} {fault.message}", fix=fault.fix)) for fault in here]
    return [*others, *new] if here else found


def faults(version_dir: Path, cache: HashCache, *, complete: bool = True) -> list[Fault]:
    """Files that stand for others, the content itself being somewhere else: one fault for all of one kind. Without such
    files, variables that are not those of their index.

    Args:
        version_dir: the version's directory.
        cache: spares reading files that were read before and have not changed.
        complete: nothing is missing as far as the names of its files tell; else variables are not looked at.

    Raises:
        SavedModelError: a file cannot be read, or the directory cannot be listed.
    """
    files = _LocalFiles(version_dir, cache)
    return _placeholders(files) or (_damage(files) if complete else [])


def faults_of_objects(sizes: Mapping[str, int], read: Callable[[str, int], bytes]) -> list[Fault]:
    """:func:`faults` of a version in a bucket, as far as a listing and small reads tell.

    Args:
        sizes: bytes by path below the version's prefix.
        read: the first bytes of a file, at most so many.
    """
    files = _Objects(sizes, read)
    return _placeholders(files) or _damage(files)


class _Files(ABC):
    """The files of a version.

    Attributes:
        paths: relative, with forward slashes, in order.
    """

    paths: list[str]

    @abstractmethod
    def size(self, path: str) -> int:
        """In bytes."""

    @abstractmethod
    def kind(self, path: str) -> str:
        """What :func:`_kind` says of its first bytes; empty where that is not worth a look."""

    @abstractmethod
    def bundle(self) -> dict[str, Any] | None:
        """What :func:`tensor_bundle.summary` says of the index."""

    @abstractmethod
    def wrong_tensor(self, path: str, number: int, index_id: str) -> str:
        """The first tensor of a shard whose checksum is wrong; empty where all are right, or nobody looks."""


class _LocalFiles(_Files):
    def __init__(self, version_dir: Path, cache: HashCache) -> None:
        self._directory, self._cache = version_dir, cache
        self.paths = list_files(version_dir)

    def size(self, path: str) -> int:
        return (self._directory / path).stat().st_size

    def kind(self, path: str) -> str:
        found, _ = self._cache.derive(self._directory / path, "first bytes", _kind_of_chunks)
        return str(found)

    def bundle(self) -> dict[str, Any] | None:
        found: dict[str, Any] | None
        found, _ = self._cache.derive(self._directory / _INDEX, "bundle", tensor_bundle.summary)
        return found

    def wrong_tensor(self, path: str, number: int, index_id: str) -> str:
        index = self._directory / _INDEX

        def compute(chunks: Iterator[memoryview]) -> str:
            try:
                content = index.read_bytes()
            except OSError as error:
                raise SavedModelError(f"{index} cannot be read: {error.strerror}") from None
            return tensor_bundle.first_wrong(content, number, chunks)

        found, _ = self._cache.derive(self._directory / path, f"tensors {index_id}", compute)
        return str(found)


class _Objects(_Files):
    def __init__(self, sizes: Mapping[str, int], read: Callable[[str, int], bytes]) -> None:
        self._sizes, self._read = sizes, read
        self.paths = sorted(path for path in sizes if not path.endswith("/"))
        small = [path for path in self.paths if 0 < sizes[path] <= _POINTER_BYTES]
        self._looked_at = {*filter(_BINARY.fullmatch, self.paths), *small[:_MOST_LOOKED_AT]}

    def size(self, path: str) -> int:
        return self._sizes[path]

    def kind(self, path: str) -> str:
        return _kind(self._read(path, _START_BYTES)) if path in self._looked_at and self._sizes[path] else ""

    def bundle(self) -> dict[str, Any] | None:
        if self._sizes[_INDEX] > _INDEX_BYTES:
            return {}
        return tensor_bundle.summary(iter([memoryview(self._read(_INDEX, _INDEX_BYTES))]))

    def wrong_tensor(self, path: str, number: int, index_id: str) -> str:
        return ""


def _placeholders(files: _Files) -> list[Fault]:
    by_kind: dict[tuple[str, str], list[str]] = {}
    for path in files.paths:
        folder, _, name = path.rpartition("/")
        if icloud := _ICLOUD.fullmatch(name):
            kind = ("only a placeholder of iCloud", "download it in the Finder, or copy the model from elsewhere")
            by_kind.setdefault(kind, []).append(f"{folder}/{icloud['name']}".lstrip("/"))
        elif name.endswith(".dvc") and path.removesuffix(".dvc") not in _with_folders(files.paths):
            by_kind.setdefault(("only a pointer of DVC", "dvc pull"), []).append(path.removesuffix(".dvc"))
        elif found := _start(files, path):
            by_kind.setdefault(found, []).append(path)
    return [
        Fault(f"has {some_of(names, _NAMES_SHOWN)}, which {_is(names)} {what}", fix)
        for (what, fix), names in by_kind.items()
    ]


def _damage(files: _Files) -> list[Fault]:
    shards = {int(match[1]): path for path in files.paths if (match := _SHARD.fullmatch(path))}
    if _INDEX not in files.paths:
        return []
    bundle = files.bundle()
    if bundle is None:
        return [Fault(f"has a damaged {_INDEX}", _EXPORT_AGAIN)]
    if not bundle:
        return []  # compressed: TensorFlow reads it, we do not
    if bundle["shards"] != len(shards):
        message = f"has {len(shards)} of the {bundle['shards']} shards that {_INDEX} names"
        return [Fault(message, _EXPORT_AGAIN)]
    found = []
    for number, path in sorted(shards.items()):
        size, needed = files.size(path), bundle["ends"][number]
        if size < needed:
            message = f"has {size} bytes of {path}, and {_INDEX} says at least {needed}: it is cut off"
            found.append(Fault(message, _EXPORT_AGAIN))
        elif wrong := files.wrong_tensor(path, number, bundle["id"]):
            message = f"has a damaged {path}: the checksum of {wrong} is not the one in {_INDEX}"
            found.append(Fault(message, _EXPORT_AGAIN))
    return found


def _start(files: _Files, path: str) -> tuple[str, str] | None:
    """What a file is by its first bytes, where it cannot be what its name says, and what to do."""
    kind = files.kind(path)
    for _, what, fix in _POINTERS:
        if kind == what:
            return what, fix
    if _BINARY.fullmatch(path) is None:
        return None
    shard = _SHARD.fullmatch(path) is not None
    for _, what, fix in _OTHER_FORMATS if not shard else ():
        if kind == what:
            return what, fix
    if kind == "page":
        return "a web page or an error message in text", f"look into it, then {_EXPORT_AGAIN}"
    if not shard and files.size(path) == 0:
        return "empty", f"{_EXPORT_AGAIN}; a tool that keeps files in a cloud has to fetch it first"
    if not shard and kind == "zeros":
        return "nothing but zeros, as of a transfer that did not end", _EXPORT_AGAIN
    return None


def _kind_of_chunks(chunks: Iterator[memoryview]) -> str:
    return _kind(bytes(next(chunks, memoryview(b""))[:_START_BYTES]))


def _kind(start: bytes) -> str:
    for begins, what, _ in (*_POINTERS, *_OTHER_FORMATS):
        if start.startswith(begins):
            return what
    if start.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(_PAGES):
        return "page"
    return "zeros" if start and not start.strip(b"\0") else ""


def _with_folders(paths: list[str]) -> set[str]:
    """The paths, and every folder above one of them."""
    parts = [path.split("/") for path in paths]
    return {"/".join(names[:count]) for names in parts for count in range(1, len(names) + 1)}


def _is(names: list[str]) -> str:
    return "is" if len(names) == 1 else "are each"
