"""What a service starts and what it reads, as its service JSON says it."""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from tfserving import eas_drift, flags
from tfserving.cloud_names import OSS_URI
from tfserving.eas_spec import ENTRYPOINT, IMAGE_BASE_PATH, SCENARIO_LABEL, ServiceSpec, own_flags
from tfserving.flags import FlagValue, Parsed, image_version
from tfserving.paths import clean_path
from tfserving.saved_model import SERVE_TAG, tag_set

_ENTRYPOINT_NAME = posixpath.basename(ENTRYPOINT)


@dataclass(frozen=True)
class Mount:
    """A directory of a bucket in a container.

    Attributes:
        path: where it is mounted, without a trailing slash.
        bucket: the bucket.
        key: key prefix, empty or ending in a slash.
    """

    path: str
    bucket: str
    key: str


@dataclass(frozen=True)
class Start:
    """What is known of a service without anything else.

    Attributes:
        name: service name.
        config: its service JSON, normalized.
        labels: its labels, those without a value included.
        image: image of the first container; empty for a service that EAS runs by a processor.
        flags: flags that TensorFlow Serving is started with; ``None`` where something else is started.
        by_entrypoint: it is started by the image's entry point, which has a model of its own where flags name none.
        mounts: the directories of buckets it sees.
    """

    name: str
    config: Mapping[str, Any]
    labels: Mapping[str, str]
    image: str
    flags: Mapping[str, FlagValue] | None
    by_entrypoint: bool
    mounts: tuple[Mount, ...]

    @property
    def scenario(self) -> bool:
        """Whether it is marked as EAS's own form."""
        return self.labels.get(SCENARIO_LABEL) == "scenario"

    @property
    def variables(self) -> Mapping[str, str]:
        """Environment variables of the first container."""
        return {
            str(item["name"]): str(item.get("value", ""))
            for item in _list(self.container.get("env"))
            if item.get("name")
        }

    @property
    def container(self) -> Mapping[str, Any]:
        """The first container; empty without one."""
        return next(iter(_list(self.config.get("containers"))), {})

    @property
    def config_file(self) -> str:
        """Path of the model config file in the container; empty without one."""
        return self._path("model_config_file")

    @property
    def base_path(self) -> str:
        """Directory of the one model in the container; empty where a config file names several, or nothing names it."""
        if self.flags is None or self.config_file:
            return ""
        if named := self._path("model_base_path"):
            return named
        if not self.by_entrypoint:
            return ""
        # As the entry point says: --model_base_path=${MODEL_BASE_PATH}/${MODEL_NAME}
        base = self.variables.get("MODEL_BASE_PATH", posixpath.dirname(IMAGE_BASE_PATH))
        return clean_path(f"{base}/{self.variables.get('MODEL_NAME', posixpath.basename(IMAGE_BASE_PATH))}")

    @property
    def prefers_tflite(self) -> bool:
        """Whether it loads ``model.tflite`` where a version has one."""
        return flags.prefers_tflite(self.flags)

    @property
    def tags(self) -> str:
        """The tags of the graph that it loads, as ``--saved_model_tags`` has them; empty where nothing tells."""
        if self.flags is None:
            return ""
        return ",".join(sorted(tag_set(str(self.flags.get("saved_model_tags") or SERVE_TAG))))

    def locate(self, path: str) -> tuple[Mount, str] | None:
        """The mount that a path of the container lies in, and the path below it; ``None`` where it is in none."""
        inside = [mount for mount in self.mounts if f"{path}/".startswith(f"{mount.path}/")]
        mount = max(inside, key=lambda found: len(found.path), default=None)
        return None if mount is None else (mount, path[len(mount.path) :].strip("/"))

    def _path(self, flag: str) -> str:
        value = (self.flags or {}).get(flag)
        return clean_path(str(value)) if value else ""


@dataclass(frozen=True)
class Loads:
    """What is loaded of the versions in a directory.

    Attributes:
        tflite: ``model.tflite``, where a version has one.
        tags: a graph with each of these ``--saved_model_tags``.
    """

    tflite: bool = False
    tags: tuple[str, ...] = (SERVE_TAG,)

    @classmethod
    def of(cls, users: Collection[Start]) -> Loads:
        """What the services that serve the directory load."""
        tags = tuple(sorted({each.tags for each in users if each.tags}))
        return cls(bool(users) and all(each.prefers_tflite for each in users), tags or (SERVE_TAG,))


def read(name: str, stored: Mapping[str, Any]) -> Start:
    """Looks at a service JSON.

    Args:
        name: service name.
        stored: the service JSON, as EAS stores it or as somebody wrote it.
    """
    config = eas_drift.normalize(stored)
    container = next(iter(_list(config.get("containers"))), {})
    image = str(container.get("image", ""))
    parsed, by_entrypoint = _started(container, image)
    given = None if parsed is None else parsed.values
    return Start(name, config, _texts(stored.get("labels")), image, given, by_entrypoint, _mounts(config))


def _started(container: Mapping[str, Any], image: str) -> tuple[Parsed | None, bool]:
    command, script = container.get("command"), container.get("script")
    if not command and not script:
        repository = image.partition("@")[0].rpartition("/")[2].partition(":")[0]
        known = image_version(image) is not None or repository == "tensorflow-serving"
        return (Parsed({}, ()), True) if known else (None, False)
    if not isinstance(command or script, str):
        return None, False
    spec = ServiceSpec(name="", region="", bucket="", command=str(command or ""), script="" if command else str(script))
    return own_flags(spec), _ENTRYPOINT_NAME in str(command or script)


def _mounts(config: Mapping[str, Any]) -> tuple[Mount, ...]:
    found = []
    for item in _list(config.get("storage")):
        uri = (item.get("oss") or {}).get("path") if isinstance(item.get("oss"), Mapping) else None
        path = item.get("mount_path")
        if isinstance(uri, str) and isinstance(path, str) and OSS_URI.fullmatch(uri):
            bucket, _, key = uri.removeprefix("oss://").partition("/")
            key = key.strip("/")
            found.append(Mount(clean_path(path), bucket, f"{key}/" if key else ""))
    return tuple(found)


def _list(value: Any) -> list[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []


def _texts(value: Any) -> dict[str, str]:
    texts = value.items() if isinstance(value, Mapping) else ()
    return {str(key): "" if item is None else str(item) for key, item in texts}
