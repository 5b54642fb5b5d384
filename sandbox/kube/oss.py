"""OSS volumes of pods: local directories that follow what the sandbox cloud has under a prefix.

What ossfs does on a node, by listing every few seconds. A file is put in place by rename: a reader sees the old bytes
or the new ones. Only a loopback endpoint is mounted.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import alibabacloud_oss_v2 as oss
from alibabacloud_oss_v2 import exceptions

from sandbox import keys, paths
from sandbox.confinement import object_path
from sandbox.kube.pods import PodError
from tfserving.hosts import is_loopback

log = logging.getLogger("sandbox.kube")

_LOOK_SECONDS = 2.0
_Seen = dict[str, tuple[str, int]]


class OssMounts:
    """Mounts, one directory per bucket and prefix, followed while this runs.

    Args:
        directory: where they are; what an earlier run left there is removed.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        shutil.rmtree(directory, ignore_errors=True)
        self._mounts: dict[tuple[str, str, str], tuple[Path, _Seen]] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="oss mounts", daemon=True)
        self._thread.start()

    def mount(self, attributes: Mapping[str, str]) -> Path:
        """The directory of a volume, filled before it is returned for the first time.

        Args:
            attributes: ``url``, ``bucket`` and ``path`` of a PersistentVolume of the OSS driver.

        Raises:
            PodError: the endpoint is not on this machine, or OSS does not answer.
        """
        key = (attributes["url"], attributes["bucket"], attributes.get("path", "/").strip("/"))
        if not is_loopback(urlsplit(key[0]).hostname or ""):
            raise PodError("ContainerCreating", f"the sandbox mounts no OSS but its own, and {key[0]} is not")
        with self._lock:
            if key not in self._mounts:
                name = hashlib.sha256("\0".join(key).encode()).hexdigest()[:16]
                path, seen = self._directory / name, _Seen()
                path.mkdir(parents=True)
                try:
                    _follow(key, path, seen)
                except (exceptions.BaseError, OSError) as error:
                    shutil.rmtree(path, ignore_errors=True)
                    words = " ".join(str(error).split())[:300]
                    raise PodError("ContainerCreating", f"MountVolume.SetUp failed: {words}") from None
                self._mounts[key] = (path, seen)
            return self._mounts[key][0]

    def close(self) -> None:
        """Follows no more. The directories stay until the next start."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(_LOOK_SECONDS):
            with self._lock:
                mounts = list(self._mounts.items())
            for key, (path, seen) in mounts:
                try:
                    _follow(key, path, seen)
                except (exceptions.BaseError, OSError) as error:
                    log.warning("bucket %s: %s", key[1], " ".join(str(error).split())[:300])


def _client(url: str) -> Any:
    config = oss.config.load_default()
    key = keys.of_client(paths.ROOT)
    config.credentials_provider = oss.credentials.StaticCredentialsProvider(key.id, key.secret)
    config.region, config.endpoint, config.use_path_style = "cn-hangzhou", url, True
    config.retry_max_attempts = 1
    return oss.Client(config)


def _follow(key: tuple[str, str, str], path: Path, seen: _Seen) -> None:
    """Brings a directory in step with the bucket."""
    url, bucket, root = key
    client, prefix = _client(url), f"{root}/" if root else ""
    found: _Seen = {}
    for page in client.list_objects_v2_paginator().iter_page(oss.ListObjectsV2Request(bucket=bucket, prefix=prefix)):
        for item in page.contents or ():
            name = item.key.removeprefix(prefix)
            if not name.endswith("/") and object_path(path, name) is not None:
                found[name] = (str(item.etag), int(item.size or 0))
    for name, what in found.items():
        if seen.get(name) != what:
            target = path / name
            target.parent.mkdir(parents=True, exist_ok=True)
            staged = path.parent / f".{path.name}.part"
            with staged.open("wb") as file:
                body = client.get_object(oss.GetObjectRequest(bucket=bucket, key=prefix + name)).body
                for chunk in body.iter_bytes(block_size=1 << 20):
                    file.write(chunk)
            staged.replace(target)
            seen[name] = what
    for name in seen.keys() - found.keys():
        (path / name).unlink(missing_ok=True)
        for parent in (path / name).parents:
            if parent == path or any(parent.iterdir()):
                break
            parent.rmdir()
        del seen[name]
