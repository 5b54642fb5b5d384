"""Where the files of a model are that a rollout removes, by what the model config file says."""

from __future__ import annotations

import pytest

from provider.rollout.run import _prefix
from tfserving.model_config import Model

KEY = "models/tf_serving/model_config.pbtxt"


@pytest.mark.parametrize(
    ("key", "mount_path", "base_path", "prefix"),
    [
        (KEY, "/models", "/models/shoes/", "models/tf_serving/shoes/"),
        (KEY, "/models/", "/models/team-x/shoes", "models/tf_serving/team-x/shoes/"),
        ("model_config.pbtxt", "/models", "/models/team-x/shoes", "team-x/shoes/"),
        (KEY, "", "/models/shoes", "models/tf_serving/shoes/"),
        (KEY, "/elsewhere", "/models/shoes", "models/tf_serving/shoes/"),
    ],
)
def test_files_are_where_the_model_is_mounted_from(key: str, mount_path: str, base_path: str, prefix: str) -> None:
    assert _prefix(key, mount_path, Model("m", base_path)) == prefix
