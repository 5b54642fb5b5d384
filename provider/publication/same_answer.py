"""The update that a command makes of its preview goes by the same versions, whatever was published in between.

A command that previews and updates is one process of the engine, which starts one provider for each of the two. What
the first one found is kept in the person's cache directory under the engine's process, until the second one has read
it. Where that is not possible, the update looks anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

from provider.publication.finding import write_whole
from tfserving import manifest
from tfserving.contract.found import FindVersionsArgs, FindVersionsResult, FoundDirectory
from tfserving.property_values import Properties

_SECONDS = 24 * 3600
"""Longer, nobody looks at a preview before saying yes."""

Find = Callable[[FindVersionsArgs], FindVersionsResult]


class Answers:
    """What was found, for one process of the provider.

    Args:
        engine: what tells the engine's process from others.
        directory: where answers are kept; None: nowhere.
    """

    def __init__(self, engine: str, directory: Path | None) -> None:
        name = hashlib.sha256(engine.encode()).hexdigest()[:32]
        self._path = directory / "previews" / f"{name}.json" if directory else None
        self._of_preview: dict[str, Properties] | None = None

    def find(self, args: FindVersionsArgs, look: Find) -> FindVersionsResult:
        """What a preview finds; for its update, what that preview has found."""
        if args.preview:
            found = look(args)
            self._keep({_key(args, name): each.write() for name, each in found.directories.items()})
            return found
        if self._of_preview is None:
            self._of_preview = self._take()
        known = {
            name: FoundDirectory.read(self._of_preview[key])
            for name in args.directories
            if (key := _key(args, name)) in self._of_preview
        }
        if known.keys() == set(args.directories):
            return FindVersionsResult(directories=known)
        return look(args)

    def _keep(self, found: dict[str, Properties]) -> None:
        if self._path is None:
            return
        now = time.time()
        with contextlib.suppress(OSError):
            for old in self._path.parent.glob("*.json"):
                if old.stat().st_mtime < now - _SECONDS:
                    old.unlink()
        write_whole(self._path, json.dumps({**self._read(), **found}))

    def _take(self) -> dict[str, Properties]:
        found = self._read()
        if self._path is not None:
            with contextlib.suppress(OSError):
                self._path.unlink()
        return found

    def _read(self) -> dict[str, Properties]:
        if self._path is None:
            return {}
        try:
            if self._path.stat().st_mtime < time.time() - _SECONDS:
                return {}
            found = json.loads(self._path.read_bytes())
            return {str(key): dict(value) for key, value in found.items()}
        except (OSError, ValueError, TypeError, AttributeError, RecursionError):
            return {}


def of_this_process() -> Answers:
    """The answers of the process that started this one."""
    return Answers(engine_process(), manifest.cache_directory())


def engine_process() -> str:
    """The process that started this one: its number, which is used again, and where the system tells when it began."""
    parent = os.getppid()
    try:
        began = Path(f"/proc/{parent}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    except (OSError, IndexError, UnicodeDecodeError):
        began = ""
    return f"{parent} {began}"


def _key(args: FindVersionsArgs, directory: str) -> str:
    wanted = args.directories[directory]
    return f"{args.owner} oss://{wanted.bucket}/{wanted.prefix}"
