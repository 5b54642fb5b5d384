"""Version discovery: which versions of each model lie under its base path and which of them the policy wants.

Source: ``sources/storage_path/file_system_storage_path_source.cc``. A child whose whole name parses as an int64 is a
version; nothing else about it is checked.
"""

from __future__ import annotations

import logging
import os
import posixpath
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sandbox.model_server.mounts import Mounts
from sandbox.model_server.status import StatusError, failed_precondition, invalid_argument

_VERSION = re.compile(r"[ \t\n\v\f\r]*([+-]?[0-9]+)[ \t\n\v\f\r]*")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class AspiredVersion:
    """A version that should be served.

    Attributes:
        version: its number.
        path: its directory, as the container sees it.
    """

    version: int
    path: str


@dataclass(frozen=True)
class Servable:
    """One model to watch.

    Attributes:
        policy: a ``FileSystemStoragePathSourceConfig.ServableVersionPolicy``; none set means the latest one.
    """

    name: str
    base_path: str
    policy: Any


AspiredCallback = Callable[[str, Sequence[AspiredVersion]], None]


def version_number(name: str) -> int | None:
    """The version a directory's name stands for (``absl::SimpleAtoi<int64>``), or ``None``: ``007`` is 7."""
    match = _VERSION.fullmatch(name)
    if match is None:
        return None
    number = int(match[1])
    return number if -(2**63) <= number < 2**63 else None


def select(servable: Servable, children: Sequence[str]) -> list[AspiredVersion]:
    """The versions a policy aspires among the children of the base path.

    ``all`` keeps two directories of the same number (``1`` and ``001``); the other policies keep the last by name.
    """
    children = sorted(set(children))
    by_version: dict[int, str] = {}
    for child in children:
        number = version_number(child)
        if number is None:
            continue
        if number in by_version:
            _log.warning(
                "Duplicate version directories detected. Version %d will be loaded from %s, %s will be ignored.",
                number,
                child,
                by_version[number],
            )
        by_version[number] = child
    kind = servable.policy.WhichOneof("policy_choice")
    if kind == "all":
        chosen = [(number, child) for child in children if (number := version_number(child)) is not None]
    elif kind == "specific":
        wanted = set(servable.policy.specific.versions)
        chosen = [(number, by_version[number]) for number in sorted(wanted & by_version.keys())]
        for number in sorted(wanted - by_version.keys()):
            _log.warning(
                "Version %d of servable %s, which was requested to be served as a 'specific' version in the servable's "
                "version policy, was not found in the file system",
                number,
                servable.name,
            )
    else:
        count = max(servable.policy.latest.num_versions, 1)
        chosen = [(number, by_version[number]) for number in sorted(by_version, reverse=True)[:count]]
    if not chosen:
        _log.warning(
            "No versions of servable %s found under base path %s. Did you forget to name your leaf directory as a "
            "number (eg. '/1/')?",
            servable.name,
            servable.base_path,
        )
    return [AspiredVersion(number, posixpath.join(servable.base_path, child)) for number, child in chosen]


def poll_servable(servable: Servable, mounts: Mounts) -> list[AspiredVersion]:
    """Looks at one model's base path.

    Raises:
        StatusError: the base path does not exist or cannot be listed.
    """
    local = mounts.local(servable.base_path)
    if not local.exists():
        raise invalid_argument(
            f"Could not find base path {servable.base_path} for servable {servable.name} with error "
            f"NOT_FOUND: {servable.base_path} not found"
        )
    if servable.policy.WhichOneof("policy_choice") == "specific":
        versions = list(servable.policy.specific.versions)
        if not versions:
            _log.warning("No specific versions requested for servable %s.", servable.name)
            return []
        if all((local / str(version)).exists() for version in versions):
            return [AspiredVersion(version, posixpath.join(servable.base_path, str(version))) for version in versions]
    try:
        children = os.listdir(local)
    except OSError as error:
        raise failed_precondition(f"{servable.base_path}; {error.strerror}") from None
    return select(servable, children)


class StorageSource:
    """Watches base paths and reports the aspired versions of every model, at every poll.

    One unreadable base path ends the poll before any model is reported, as in the real server.

    Args:
        poll_seconds: positive to poll that often, 0 to poll once, negative never to poll.
        callback: takes a model and its aspired versions.
    """

    def __init__(self, servables: Sequence[Servable], poll_seconds: int, mounts: Mounts) -> None:
        self._servables = tuple(servables)
        self._poll_seconds = poll_seconds
        self._mounts = mounts
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._callback: AspiredCallback | None = None
        self._thread: threading.Thread | None = None

    @property
    def names(self) -> set[str]:
        """Models being watched."""
        return {servable.name for servable in self._servables}

    def start(self, callback: AspiredCallback) -> None:
        """Starts polling; the first poll is immediate."""
        self._callback = callback
        if self._poll_seconds >= 0:
            self._thread = threading.Thread(target=self._run, name="storage-poll", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Stops polling; a poll under way ends first."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def update(self, servables: Sequence[Servable]) -> None:
        """Watches other models from now on; those no longer watched are reported with no version."""
        with self._lock:
            kept = {servable.name for servable in servables}
            if self._callback is not None:
                for servable in self._servables:
                    if servable.name not in kept:
                        self._callback(servable.name, ())
            self._servables = tuple(servables)

    def poll(self) -> None:
        """One poll over all models. A file system error is logged."""
        with self._lock:
            try:
                found = [(servable.name, poll_servable(servable, self._mounts)) for servable in self._servables]
            except StatusError as error:
                _log.error("FileSystemStoragePathSource encountered a filesystem access error: %s", error.message)
                return
            if self._callback is not None:
                for name, versions in found:
                    self._callback(name, versions)

    def _run(self) -> None:
        while True:
            self.poll()
            if self._poll_seconds == 0 or self._stop.wait(self._poll_seconds):
                return
