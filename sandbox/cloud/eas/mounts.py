"""Storage of a service: OSS prefixes and empty directories, seen by the model server as local directories."""

from __future__ import annotations

import asyncio
import posixpath
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from sandbox.cloud.eas.command import NotRunnableError
from sandbox.cloud.oss.errors import OssError
from sandbox.cloud.oss.mounts import LiveView
from sandbox.model_server.mounts import Mounts as ContainerPaths


def check(config: Mapping[str, Any]) -> None:
    """Refuses storage the sandbox does not have.

    Raises:
        NotRunnableError: something else than OSS or an empty directory is mounted.
    """
    for index, item in enumerate(config.get("storage", [])):
        if "oss" not in item and "empty_dir" not in item:
            source = next(key for key in item if key not in ("mount_path", "properties"))
            message = f"storage[{index}]: the sandbox mounts OSS and empty directories only, not {source}."
            raise NotRunnableError("StorageNotSupported", message)


class Mounts:
    """The mounts of one instance, as an asynchronous context manager."""

    def __init__(self, config: Mapping[str, Any], live_view: LiveView, scratch: Path) -> None:
        """Args:
        config: a validated service JSON.
        live_view: where OSS prefixes become directories.
        scratch: where empty directories are made.
        """
        self._directory = scratch
        self._storage = config.get("storage", [])
        self._live_view = live_view
        self._views: list[tuple[str, str]] = []
        self._scratch: list[Path] = []
        self.paths: dict[str, Path] = {}
        """Local directory by mount path, the mount path normalised."""

    async def __aenter__(self) -> Mounts:
        """Raises:
        NotRunnableError: the bucket does not exist.
        OSError: the disk is full.
        """
        try:
            for item in self._storage:
                mount = posixpath.normpath(item["mount_path"])
                self.paths[mount] = await self._mount(item)
        except BaseException:
            await self.release()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.release()

    @property
    def writable(self) -> tuple[Path, ...]:
        """The directories that are this instance's alone; what OSS shows is shared with the store."""
        return tuple(self._scratch)

    async def release(self) -> None:
        """Gives the directories up."""
        while self._views:
            await asyncio.to_thread(self._live_view.release, *self._views.pop())
        while self._scratch:
            await asyncio.to_thread(shutil.rmtree, self._scratch.pop(), ignore_errors=True)

    async def _mount(self, item: Mapping[str, Any]) -> Path:
        if "oss" not in item:
            self._directory.mkdir(parents=True, exist_ok=True)
            self._scratch.append(Path(tempfile.mkdtemp(dir=self._directory)))
            return self._scratch[-1]
        location = urlsplit(item["oss"]["path"])
        bucket, prefix = location.netloc, location.path.lstrip("/")
        try:
            path = await asyncio.to_thread(self._live_view.materialise, bucket, prefix)
        except OssError as error:
            message = f"Cannot mount {item['oss']['path']} at {item['mount_path']}: {error}"
            raise NotRunnableError("FailedMount", message) from None
        self._views.append((bucket, prefix))
        return path


def translate(path: str, mounts: Mapping[str, Path]) -> str:
    """A path in the container as a local path: below a mount, or one that does not exist."""
    return str(ContainerPaths.of({mount: str(local) for mount, local in mounts.items()}).local(path))
