"""Words of other files and tools in a stack file are answered with the key that says the same here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from components.settings import parse
from tfserving.errors import ConfigError
from tfserving.model_config import meant


def told(config: dict[str, Any], project: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(config, project)
    return str(caught.value)


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("version_labels", "write labels"),
        ("model_version_policy", "write policy"),
        ("base_path", "models lie at"),
        ("model_platform", "leave it out"),
        ("num_versions", "policy: {latest: N}"),
        ("specific", "policy: {specific:"),
        ("latest", "policy: {latest: N}"),
        ("name", "leave it out"),
        ("storageUri", "write source"),
        ("labells", "did you mean 'labels'"),
        ("labels.stable", "--path 'tf-serving:models.modelB.labels.stable'"),
    ],
)
def test_a_word_of_the_proto_file_at_a_model(good: dict[str, Any], project: Path, word: str, hint: str) -> None:
    models = {"modelB": {**good["tf-serving:models"]["modelB"], word: 1}}
    assert hint in told(good | {"tf-serving:models": models}, project)


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("rest_api_port", "write port"),
        ("model_config_file", "write configFile"),
        ("model_config_file_poll_wait_seconds", "write configPollSeconds"),
        ("allow_version_labels_for_unavailable_models", "write allowLabelsForUnavailableVersions"),
        ("batching_parameters_file", "write batching"),
        ("prometheus_config", "write monitoring: true"),
    ],
)
def test_a_flag_of_the_server_at_a_service(good: dict[str, Any], project: Path, word: str, hint: str) -> None:
    services = {"multi_http": {**good["tf-serving:services"]["multi_http"], word: 1}}
    assert hint in told(good | {"tf-serving:services": services}, project)


@pytest.mark.parametrize("key", ["tf-serving:models.modelB.labels.stable", "tf-serving:services.a[0]"])
def test_a_key_set_without_path_is_answered_with_path(good: dict[str, Any], project: Path, key: str) -> None:
    assert f"pulumi config set --path '{key}' VALUE" in told(good | {key: "2"}, project)


def test_a_word_whose_key_is_not_allowed_there_is_no_hint() -> None:
    assert meant("version_labels", ("min", "max"), "x") == ""


def test_another_server_is_not_warned_of_flags_of_tensorflow_serving(good: dict[str, Any], project: Path) -> None:
    triton = {
        "deployment": "custom",
        "image": "registry.example.com/nv/tritonserver:24.05",
        "command": "tritonserver --model-repository=/models",
        "port": 8000,
    }
    bare = good | {"tf-serving:services": {**good["tf-serving:services"], "triton": triton}}
    bare.pop("tf-serving:endpoint", None)
    bare["alicloud:protocol"] = "HTTPS"
    for key in ("alicloud:accessKey", "alicloud:secretKey"):
        bare.pop(key, None)
    assert not [warning for warning in parse(bare, project).warnings if warning.startswith("service triton")]
