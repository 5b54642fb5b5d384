"""What an OSS mount shows: a local directory tree that follows every object under a prefix.

EAS mounts OSS into a service's container; in the sandbox the model server reads such a tree instead. Files are hard
links to the store's immutable blobs (copies where the file system has no links), put in place by rename, so a reader
sees the old bytes or the new ones and never a part. A change is in the tree when the OSS request that made it is
answered: unlike real ossfs there is no cache to wait for.

Keys that have no place in a file system (empty, ``.`` or ``..`` segments, over-long names) are left out. Where one key
is both an object and a directory of others, the directory is shown.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import logging
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from sandbox.cloud.oss.store import ObjectStore
from sandbox.confinement import object_path

log = logging.getLogger("sandbox.cloud.oss")


@dataclass
class _View:
    bucket: str
    prefix: str
    path: Path
    users: int = 1
    stale: bool = False


class LiveView:
    """Keeps local trees in step with an :class:`ObjectStore`. All methods may be called from any thread."""

    def __init__(self, store: ObjectStore, directory: Path) -> None:
        """Args:
        store: followed from now on.
        directory: on the same file system as the store. What an earlier process left there is removed.
        """
        self._store = store
        self._directory = directory
        shutil.rmtree(directory, ignore_errors=True)
        self._staging = directory / ".staging"
        self._staging.mkdir(parents=True)
        self._numbers = itertools.count()
        self._views: dict[tuple[str, str], _View] = {}
        store.on_change(self._changed)

    def materialise(self, bucket: str, prefix: str) -> Path:
        """A directory that holds the objects under ``prefix`` now and from now on.

        Asking again for the same prefix returns the same directory; each call needs one :meth:`release`.

        Args:
            prefix: names a directory, with or without a trailing slash; empty for the whole bucket.

        Raises:
            OssError: ``NoSuchBucket``.
            OSError: the disk is full.
        """
        prefix = prefix.strip("/") + "/" if prefix.strip("/") else ""
        with self._store.lock:
            self._store.bucket(bucket)
            view = self._views.get((bucket, prefix))
            if view is not None:
                view.users += 1
                return view.path
            digest = hashlib.sha256(prefix.encode()).hexdigest()[:8]
            name = re.sub(r"[^A-Za-z0-9._-]+", "_", prefix.strip("/"))[-80:] or "bucket"
            view = _View(bucket, prefix, self._directory / bucket / f"{name}-{digest}")
            view.path.mkdir(parents=True, exist_ok=True)
            self._rebuild(view)
            self._views[bucket, prefix] = view
            return view.path

    def release(self, bucket: str, prefix: str) -> None:
        """Gives up one :meth:`materialise`; the tree is removed with its last user."""
        prefix = prefix.strip("/") + "/" if prefix.strip("/") else ""
        with self._store.lock:
            view = self._views.get((bucket, prefix))
            if view is None:
                return
            view.users -= 1
            if view.users == 0:
                del self._views[bucket, prefix]
                shutil.rmtree(view.path, ignore_errors=True)

    def close(self) -> None:
        """Removes every tree."""
        with self._store.lock:
            self._views.clear()
            shutil.rmtree(self._directory, ignore_errors=True)

    def _changed(self, bucket: str, key: str) -> None:
        """Called by the store, under its lock. Must not fail: the object itself has changed already."""
        for view in self._views.values():
            if view.bucket != bucket or not key.startswith(view.prefix):
                continue
            try:
                if view.stale:
                    self._rebuild(view)
                else:
                    self._follow(view, key)
            except OSError as error:
                view.stale = True
                log.error("the mount of oss://%s/%s is out of date: %s", view.bucket, view.prefix, error)

    def _rebuild(self, view: _View) -> None:
        """Makes a tree match the store, whatever is in it."""
        wanted = {version.key: version.blob for version in self._store.current(view.bucket, view.prefix)}
        for directory, _, files in os.walk(view.path, topdown=False):
            for file in files:
                path = Path(directory) / file
                if view.prefix + path.relative_to(view.path).as_posix() not in wanted:
                    path.unlink()
            if Path(directory) != view.path:
                with contextlib.suppress(OSError):  # not empty
                    os.rmdir(directory)
        for key in wanted:
            self._follow(view, key)
        view.stale = False

    def _follow(self, view: _View, key: str) -> None:
        """Makes one path of a tree match the store."""
        path = _path_of(view, key)
        if path is None:
            return
        version = self._store.find_any(view.bucket, key)
        if version is None or version.blob is None:
            self._remove(view, key, path)
        elif key.endswith("/"):
            self._make_directory(view, path)
        elif not path.is_dir():
            self._make_directory(view, path.parent)
            self._place(self._store.blob_path(version.blob), path)

    def _make_directory(self, view: _View, path: Path) -> None:
        try:
            path.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            for parent in (path, *path.parents):
                if parent.is_relative_to(view.path) and parent.is_file():
                    parent.unlink()
            path.mkdir(parents=True, exist_ok=True)

    def _place(self, blob: Path, path: Path) -> None:
        staged = self._staging / str(next(self._numbers))
        try:
            try:
                os.link(blob, staged)
            except FileNotFoundError:
                raise
            except OSError:
                shutil.copyfile(blob, staged)
            os.replace(staged, path)
        finally:
            # Also after success: renaming one link of a file onto another link of it leaves both.
            staged.unlink(missing_ok=True)

    def _remove(self, view: _View, key: str, path: Path) -> None:
        if key.endswith("/"):
            directory = path
        else:
            if path.is_file():
                path.unlink()
            directory = path.parent
        while directory != view.path and directory.is_relative_to(view.path):
            marker = view.prefix + directory.relative_to(view.path).as_posix() + "/"
            if self._store.find_any(view.bucket, marker) is not None:
                return
            try:
                directory.rmdir()
            except FileNotFoundError:
                pass
            except OSError:  # not empty
                return
            if (hidden := self._store.find_any(view.bucket, marker.rstrip("/"))) is not None and hidden.blob:
                self._place(self._store.blob_path(hidden.blob), directory)
                return
            directory = directory.parent


def _path_of(view: _View, key: str) -> Path | None:
    """Where a key is shown, None where it cannot be."""
    return object_path(view.path, key[len(view.prefix) :])
