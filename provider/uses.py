"""What is recorded in a bucket of who serves which versions: model config files of other stacks beside the models."""

from __future__ import annotations

from collections.abc import Collection

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
    found = {}
    for key in config_files(bucket, root):
        if key in own:
            continue
        file = ConfigObject(bucket, key, owner)
        stored = file.find()
        config = stored.parse() if stored is not None and stored.owner not in ("", owner) else None
        if config is not None:
            found[file.uri] = config
    return found


def names_version(config: ModelServerConfig, directory: str, version: int, there: Collection[int]) -> bool:
    """Whether a config file serves a version of a directory below the root; ``there`` are the versions in it."""
    return any(
        version in model.policy.select(there) or version in model.labels.values()
        for model in config.models
        if f"{model.base_path.rstrip('/')}/".endswith(f"/{directory}/")
    )
