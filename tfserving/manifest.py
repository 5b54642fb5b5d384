"""The manifest of a version: every file with its size and hashes, and one digest that stands for all of them.

It lies beside the version in OSS, and the same text can be committed: whoever has it needs no copy of the files.

CRC-64 is the variant OSS reports for each object (header ``x-oss-hash-crc64ecma``): ECMA-182, reflected, initial value
and final XOR all ones, as a decimal number. SHA-256 is what the digest rests on; it is empty for files that nobody read
here, copied from another place in OSS whose manifest is not known.

What belongs to a version: all regular files below its directory. Left out is what file managers, notebooks and archive
tools leave behind (:data:`JUNK_FILES`, :data:`JUNK_DIRS`, ``._*``); other hidden files are kept, since an asset of a
model may be one. Symbolic links below the directory are refused: what they point to can change or lie elsewhere. The
version directory itself may be reached through one.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import fastcrc

from tfserving import wire
from tfserving.errors import SavedModelError

SUFFIX = ".manifest.json"
"""Ends the name of a version's manifest: ``3.manifest.json``."""

JUNK_FILES = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})
JUNK_DIRS = frozenset({"__MACOSX", "__pycache__", ".ipynb_checkpoints"})

CHUNK_SIZE = 1 << 20
"""Bytes read at a time: memory does not grow with the size of a file."""

MAX_PATH_BYTES = 800
"""Longest path below the version directory, in UTF-8: an OSS key has at most 1023 bytes, prefix included."""

_FORMAT = 1
_CACHE_FORMAT = 1
_SETTLED_NS = 20_000_000
_COARSE_SETTLED_NS = 2_000_000_000


def crc64(data: bytes | memoryview, crc: int = 0) -> int:
    """CRC-64 of ``data``, continuing from the ``crc`` of what came before it."""
    return int(fastcrc.crc64.xz(data, crc))


@dataclass(frozen=True)
class FileEntry:
    """One file of a version.

    Attributes:
        path: relative to the version directory, with forward slashes.
        size: bytes.
        crc64: CRC-64 as a decimal number, as OSS reports it.
        sha256: 64 hexadecimal digits; empty where nobody knows it.
    """

    path: str
    size: int
    crc64: str
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """All files of a version, in the order of their paths.

    Attributes:
        files: the files.
        owner: ``<project>/<stack>`` that published them; empty in a manifest that is not in a bucket. Not part of what
            makes two manifests the same.
        created_by: id of the create that holds the version, in the stack of its owner; neither part of it.
    """

    files: tuple[FileEntry, ...]
    owner: str = field(default="", compare=False)
    created_by: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "files", tuple(sorted(self.files, key=lambda entry: entry.path)))

    @cached_property
    def digest(self) -> str:
        """``sha256:<hex>`` over paths, sizes and hashes: equal digests mean equal content."""
        canonical = [[entry.path, entry.size, entry.crc64, entry.sha256] for entry in self.files]
        text = json.dumps(canonical, ensure_ascii=True, separators=(",", ":"))
        return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(entry.size for entry in self.files)

    def to_json(self) -> str:
        """The manifest as a text file, one line per file, with its digest."""
        rows = ",\n".join(
            "    " + json.dumps({"path": entry.path, "size": entry.size, "crc64": entry.crc64, "sha256": entry.sha256})
            for entry in self.files
        )
        named = {"owner": self.owner, "createdBy": self.created_by}
        owner = "".join(f'  "{name}": {json.dumps(value)},\n' for name, value in named.items() if value)
        return f'{{\n  "format": {_FORMAT},\n  "digest": "{self.digest}",\n{owner}  "files": [\n{rows}\n  ]\n}}\n'

    @classmethod
    def from_json(cls, text: str | bytes) -> Manifest:
        """Reads what :meth:`to_json` wrote.

        Raises:
            SavedModelError: it is not a manifest, a path leads out of the version directory, or the digest does not
                fit the files (somebody edited it).
        """
        try:
            given = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise SavedModelError(f"not a manifest: {error}") from None
        if not isinstance(given, dict) or not isinstance(given.get("files"), list):
            raise SavedModelError("not a manifest: an object with a list of files is expected")
        if given.get("format") != _FORMAT:
            raise SavedModelError(f"manifest format {given.get('format')!r} is not known, only {_FORMAT}")
        for name in ("owner", "createdBy"):
            if not isinstance(given.get(name, ""), str):
                raise SavedModelError(f"the manifest's {name} {given[name]!r} is not a text")
        files = tuple(_read_entry(item) for item in given["files"])
        manifest = cls(files, given.get("owner", ""), given.get("createdBy", ""))
        paths = [entry.path for entry in manifest.files]
        if len(set(paths)) != len(paths):
            raise SavedModelError("the manifest names a file twice")
        if given.get("digest") != manifest.digest:
            raise SavedModelError(f"the manifest's digest {given.get('digest')!r} does not fit its files")
        return manifest


def _read_entry(item: Any) -> FileEntry:
    if not isinstance(item, dict) or set(item) != {"path", "size", "crc64", "sha256"}:
        raise SavedModelError("each file of a manifest has path, size, crc64 and sha256")
    path, size, crc, sha = item["path"], item["size"], item["crc64"], item["sha256"]
    if not isinstance(path, str) or (bad := _bad_path(path)):
        raise SavedModelError(f"the manifest names {path!r}: {bad if isinstance(path, str) else 'not text'}")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise SavedModelError(f"the manifest gives {path} the size {size!r}")
    if not isinstance(crc, str) or not re.fullmatch(r"0|[1-9]\d{0,19}", crc, re.ASCII) or int(crc) >= 1 << 64:
        raise SavedModelError(f"the manifest gives {path} the CRC-64 {crc!r}")
    if not isinstance(sha, str) or not re.fullmatch(r"([0-9a-f]{64})?", sha):
        raise SavedModelError(f"the manifest gives {path} the SHA-256 {sha!r}")
    return FileEntry(path, size, crc, sha)


def _bad_path(path: str) -> str:
    """What keeps a relative path from being part of an OSS key; empty if nothing does."""
    if any(part in ("", ".", "..") for part in path.split("/")):
        return "not a path below the version directory"
    if re.search(r"[\x00-\x1f\x7f\\]", path):
        return "the name has a control character or a backslash"
    try:
        encoded = path.encode()
    except UnicodeEncodeError:
        return "the name is not UTF-8"
    return f"longer than {MAX_PATH_BYTES} bytes" if len(encoded) > MAX_PATH_BYTES else ""


def checked_path(path: str) -> str:
    """``path``, if it can be that of a file of a version.

    Raises:
        SavedModelError: it cannot.
    """
    if bad := _bad_path(path):
        raise SavedModelError(f"{path!r} cannot be published: {bad}")
    return path


def load(file: Path) -> Manifest:
    """A manifest from a local text file.

    Raises:
        SavedModelError: the file cannot be read, or is no manifest.
    """
    try:
        return Manifest.from_json(file.read_bytes())
    except OSError as error:
        raise SavedModelError(f"{file} cannot be read: {error.strerror}") from None
    except SavedModelError as error:
        raise SavedModelError(f"{file}: {error}") from None


def load_all(directory: Path) -> dict[int, Manifest]:
    """The committed manifests of a model by version, ascending; none where there is no such directory.

    Raises:
        SavedModelError: one of them cannot be read, is no manifest, or names its version in another way than ``3``.
    """
    found: dict[int, Manifest] = {}
    if not os.path.isdir(directory):
        return found
    for file in sorted(directory.glob(f"*{SUFFIX}")):
        number = file.name.removesuffix(SUFFIX)
        if not wire.is_version(wire.decode_integer(number)):
            raise SavedModelError(f"{file} is not named after a version, like 3{SUFFIX}")
        found[int(number)] = load(file)
    return dict(sorted(found.items()))


def changes(old: Manifest, new: Manifest) -> list[str]:
    """What differs from ``old`` to ``new``, by file: ``+ assets/vocab.txt``, ``- ...``, ``~ saved_model.pb``."""
    before = {entry.path: entry for entry in old.files}
    after = {entry.path: entry for entry in new.files}
    lines = []
    for path in sorted(before.keys() | after.keys()):
        if path not in before:
            lines.append(f"+ {path}")
        elif path not in after:
            lines.append(f"- {path}")
        elif before[path] != after[path]:
            lines.append(f"~ {path}")
    return lines


class HashCache:
    """Remembers what was computed from a file, for as long as its size, modification time and inode stay the same.

    Safe for use by several threads. A cache file that is missing, damaged or of another format counts as empty. Two
    processes may use one file: :meth:`save` keeps what the other one added.

    Attributes:
        bytes_read: bytes of files read since the cache was opened; 0 after a run in which nothing had changed.
    """

    def __init__(self, path: Path | None = None) -> None:
        """Opens a cache.

        Args:
            path: the cache file, made by :meth:`save`; ``None`` remembers for the life of the object.
        """
        self.bytes_read = 0
        self._path = path
        self._lock = threading.Lock()
        self._real_directories: dict[str, str] = {}
        self._entries: _Entries = _read_cache(path) if path else {}
        self._changed: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.save()

    def hashes(self, path: Path) -> tuple[int, str, str]:
        """Size, CRC-64 and SHA-256 of a file.

        Raises:
            SavedModelError: the file is no regular file, cannot be read, or changed while it was read.
        """
        found, size = self.derive(path, "hashes", _hash_chunks)
        return size, str(found[0]), str(found[1])

    def derive(self, path: Path, kind: str, compute: Callable[[Iterator[memoryview]], Any]) -> tuple[Any, int]:
        """What ``compute`` makes of a file's bytes, from memory if the file has not changed since, and its size.

        Args:
            path: the file.
            kind: names what is computed; part of the key.
            compute: gets the content chunk by chunk, each valid until the next; returns a JSON value.

        Raises:
            SavedModelError: the file is no regular file, cannot be read, or changed while it was read.
        """
        # Links that a version may hold were looked at by list_files.
        folder, name = os.path.split(path)
        real = os.path.join(self._real_directory(folder), name)
        try:
            before = os.lstat(real)
            if stat.S_ISLNK(before.st_mode):
                real = os.path.realpath(real)
                before = os.lstat(real)
            key = real
            if not stat.S_ISREG(before.st_mode):
                raise SavedModelError(f"{path} is not a regular file")
            with self._lock:
                entry = self._entries.get(key)
                if entry and entry[0] == _identity(before) and kind in entry[1]:
                    return entry[1][kind], before.st_size
            started = time.time_ns()
            with open(os.open(real, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0)), "rb", buffering=0) as file:
                value = compute(self._count(_chunks(file)))
                after = os.fstat(file.fileno())
        except OSError as error:
            raise SavedModelError(f"{path} cannot be read: {error.strerror}") from error
        if _identity(before) != _identity(after):
            raise SavedModelError(f"{path} changed while it was read: wait until the export is complete")
        if _is_settled(after, started):
            with self._lock:
                entry = self._entries.get(key)
                kept = entry[1] if entry and entry[0] == _identity(after) else {}
                self._entries[key] = (_identity(after), {**kept, kind: value})
                self._changed.add(key)
        return value, after.st_size

    def _real_directory(self, directory: str) -> str:
        """A directory without links on the way; remembered, since most files lie in few directories."""
        if (real := self._real_directories.get(directory)) is None:
            real = self._real_directories[directory] = os.path.realpath(directory)
        return real

    def _count(self, chunks: Iterator[memoryview]) -> Iterator[memoryview]:
        for chunk in chunks:
            with self._lock:
                self.bytes_read += len(chunk)
            yield chunk

    def save(self) -> None:
        """Writes the cache file in one step, if something was added. Forgets files that are gone.

        A cache that cannot be written is given up silently: it only costs time.
        """
        with self._lock:
            if self._path is None or not self._changed:
                return
            entries = _read_cache(self._path)
            entries.update({key: self._entries[key] for key in self._changed})
            entries = {key: entry for key, entry in entries.items() if os.path.lexists(key)}
            content = json.dumps({"format": _CACHE_FORMAT, "files": entries}, separators=(",", ":"))
            temporary = ""
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                with tempfile.NamedTemporaryFile(
                    "w", dir=self._path.parent, prefix=f"{self._path.name}.", delete=False
                ) as file:
                    temporary = file.name
                    file.write(content)
                os.replace(temporary, self._path)
                self._changed.clear()
            except OSError:
                if temporary:
                    with contextlib.suppress(OSError):
                        os.unlink(temporary)


def cache_directory() -> Path | None:
    """Where this project keeps what spares it work, of the person who runs it; None where there is no such place."""
    try:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:  # a container's user without a home
        return None
    return base / "tf-serving-stacks"


def user_cache() -> HashCache:
    """What is known of model files from earlier runs, in the person's cache directory. A context manager: it saves."""
    directory = cache_directory()
    return HashCache(directory / "hashes.json" if directory else None)


_Identity = tuple[int, int, int]


def _identity(found: os.stat_result) -> _Identity:
    return found.st_size, found.st_mtime_ns, found.st_ino


def _is_settled(found: os.stat_result, read_at: int) -> bool:
    """Whether a later change would show in the file's time, given the time at which reading began.

    File systems record time in steps: most of some milliseconds, some of whole seconds.
    """
    step = _SETTLED_NS if found.st_mtime_ns % 1_000_000_000 else _COARSE_SETTLED_NS
    return found.st_mtime_ns + step <= read_at


def _chunks(file: Any) -> Iterator[memoryview]:
    buffer = memoryview(bytearray(CHUNK_SIZE))
    while count := file.readinto(buffer):
        yield buffer[:count]


def _hash_chunks(chunks: Iterator[memoryview]) -> list[str]:
    crc, sha = 0, hashlib.sha256()
    for chunk in chunks:
        crc = crc64(chunk, crc)
        sha.update(chunk)
    return [str(crc), sha.hexdigest()]


_Entries = dict[str, tuple[_Identity, dict[str, Any]]]
_last_read: dict[Path, tuple[_Identity, _Entries]] = {}
_reading = threading.Lock()


def _read_cache(path: Path) -> _Entries:
    """The entries of a cache file; parsed once, since a provider opens the same cache for each of its models."""
    try:
        with _reading, open(path, "rb") as file:
            identity = _identity(os.fstat(file.fileno()))
            known = _last_read.get(path)
            if known is None or known[0] != identity:
                known = _last_read[path] = identity, _parse_cache(file.read())
            return dict(known[1])
    except OSError:
        return {}


def _parse_cache(content: bytes) -> _Entries:
    try:
        found = json.loads(content)
        if found["format"] != _CACHE_FORMAT:
            return {}
        return {
            str(key): ((int(size), int(mtime), int(inode)), dict(values))
            for key, ((size, mtime, inode), values) in found["files"].items()
        }
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return {}


def list_files(version_dir: Path) -> list[str]:
    """Paths of all files that belong to a version, relative, with forward slashes, in order.

    Symbolic links are followed, as a server on the same disk follows them: what is published is the content of their
    targets. A link is refused that leads to nothing, in a circle, or out of what the version belongs to: its model's
    directory, and the ``blobs`` of a hub's cache where it is one of the cache's ``snapshots``. So nobody who hands over
    a model publishes files of this machine with it.

    Raises:
        SavedModelError: something is no regular file, has a name that cannot be an OSS key, or cannot be listed; or a
            link is refused.
    """
    return sorted(_walk(os.fspath(version_dir), "", (os.fspath(version_dir),)))


def _walk(directory: str, prefix: str, entered: tuple[str, ...]) -> Iterator[str]:
    """Files below a directory; ``entered`` are the version's directory and those on the way to this one."""
    try:
        with os.scandir(directory) as entries:
            children = list(entries)
    except OSError as error:
        raise SavedModelError(f"{directory} cannot be listed: {error.strerror}") from error
    for child in children:
        path, place = f"{prefix}{child.name}", child.path
        if child.is_symlink() and (problem := _link_problem(place, entered)):
            raise SavedModelError(f"{place} is a symbolic link{problem}")
        if child.is_dir():
            if child.name not in JUNK_DIRS:
                yield from _walk(place, f"{path}/", (*entered, place))
        elif child.name in JUNK_FILES or child.name.startswith("._"):
            continue
        elif not child.is_file():
            raise SavedModelError(f"{place} is not a regular file")
        elif bad := _bad_path(path):
            raise SavedModelError(f"{place!r} cannot be published: {bad}")
        else:
            yield path


def _own_directories(version_dir: str) -> tuple[str, ...]:
    """Real directories that links of a version may lead into."""
    real = os.path.realpath(version_dir)
    own = [real, os.path.realpath(os.path.dirname(version_dir))]
    for above in Path(real).parents:
        if above.name == "snapshots":
            own.append(str(above.with_name("blobs")))
            break
    return tuple(own)


def _link_problem(link: str, entered: tuple[str, ...]) -> str:
    """Why a link is not followed, and what to do about it, by where it leads; empty where it is followed."""
    try:
        target = os.readlink(link)
    except OSError:
        target = ""
    real = os.path.realpath(link)
    if "annex/objects/" in target:
        return " into git-annex: git annex get, then git annex unlock"
    if ".dvc/cache/" in target or "/files/md5/" in target:
        return " into a cache of DVC: dvc config cache.type copy, then dvc checkout --relink"
    try:
        os.stat(link)
    except OSError as error:
        if error.errno == errno.ELOOP:
            return f" that leads back to itself ({target}): put the file itself there"
        fetch = "; a hub's cache that is not complete: download the model again" if "/blobs/" in f"/{target}" else ""
        return f": put the file itself there (the link leads to {target}, which is not there{fetch})"
    within = [os.path.realpath(each) for each in entered]
    if real in within or any(each.startswith(f"{real}{os.sep}") for each in within):
        return f" to a directory that it is in ({target}): remove it"
    own = _own_directories(entered[0])
    if not any(real == each or real.startswith(f"{each}{os.sep}") for each in own):
        return f" out of the model's directory, to {real}: put the file itself there (cp -rL copies what links lead to)"
    return ""


def build(version_dir: Path, cache: HashCache | None = None) -> Manifest:
    """The manifest of the files below a version directory.

    Reads each file once, in chunks, and none that ``cache`` knows. The caller saves the cache.

    Raises:
        SavedModelError: see :func:`list_files` and :meth:`HashCache.hashes`; also if there is no file at all.
    """
    cache = cache or HashCache()
    entries = []
    for path in list_files(version_dir):
        size, crc, sha = cache.hashes(version_dir / path)
        entries.append(FileEntry(path, size, crc, sha))
    if not entries:
        raise SavedModelError(f"{version_dir} holds no file")
    return Manifest(tuple(entries))


def amount(count: float) -> str:
    """Bytes for a person: ``1.2 GB``."""
    for unit in ("B", "KB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def amounts(files: int, size: float) -> str:
    """Files and bytes for a person: ``5 files, 1.2 GB``."""
    return f"{files} file{'s' * (files != 1)}, {amount(size)}"
