"""What is recorded in a bucket of who serves which versions: the model config files beside the models."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace

from provider.model_config_file import ConfigObject, config_files
from provider.oss import Bucket
from tfserving.model_config import ModelServerConfig


def files_of_others(bucket: Bucket, root: str, owner: str, own: Collection[str]) -> dict[str, ModelServerConfig]:
    """Model config files of other stacks beside the models: what is recorded of who serves them, by place.

    Args:
        bucket: the bucket.
        root: key prefix of the model directories.
        owner: ``<project>/<stack>`` that asks.
        own: keys of the files that its services read.
    """
    keys = [key for key in config_files(bucket, root) if key not in own]
    return _parsed(bucket, keys, owner, lambda other: other not in ("", owner))


def files_of_own(bucket: Bucket, root: str, owner: str) -> dict[str, ModelServerConfig]:
    """The model config files of one stack beside the models, by place."""
    return _parsed(bucket, config_files(bucket, root), owner, lambda found: found == owner)


def _parsed(
    bucket: Bucket, keys: Iterable[str], owner: str, counts: Callable[[str], bool]
) -> dict[str, ModelServerConfig]:
    """Config files whose owner counts; those that nobody can read are left out."""
    found = {}
    for key in keys:
        file = ConfigObject(bucket, key, owner)
        stored = file.find()
        config = stored.parse() if stored is not None and counts(stored.owner) else None
        if config is not None:
            found[file.uri] = config
    return found


def right_below_a_mount(config: ModelServerConfig, directory: str) -> ModelServerConfig:
    """The models of a config file whose directory lies right below a mount such as ``/models``.

    A path with more in front of it may be that of another directory with the same end.
    """
    path = re.compile(rf"/[^/]+/{re.escape(directory)}/*")
    return replace(config, models=tuple(each for each in config.models if path.fullmatch(each.base_path)))


def names_version(config: ModelServerConfig, directory: str, version: int, there: Collection[int]) -> bool:
    """Whether a config file serves a version of a directory below the root; ``there`` are the versions in it."""
    return any(
        version in model.policy.select(there) or version in model.labels.values()
        for model in config.models
        if f"{model.base_path.rstrip('/')}/".endswith(f"/{directory}/")
    )
