"""Words of other files and tools in a stack file are answered with the key that says the same here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from config.stack import parse
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
        (
            "labels.stable",
            "is one key with dots; nest it, or use pulumi config set --path 'tf-serving:models.modelB.labels",
        ),
        ("labels[0]", "write labels: {stable: 1, canary: 2}, or use pulumi config set --path"),
        ("labels[0]", "'tf-serving:models.modelB.labels.LABEL' VERSION"),
        ("versions[0]", "is one key with brackets; nest it, or use pulumi config set --path"),
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


@pytest.mark.parametrize(
    ("labels", "hint"),
    [
        (["stable"], "write labels: {stable: 1, canary: 2}"),
        ([1, 2], "write labels: {stable: 1, canary: 2}"),
        ([{"stable": 1}, {"next": 2}], "write labels: {stable: 1, next: 2}"),
        (["stable: 1", "next=2"], "write labels: {stable: 1, next: 2}"),
        (["stable: 1", "next"], "write labels: {stable: 1, canary: 2}"),
        ("stable", "write labels: {stable: 1, canary: 2}"),
        (1, "write labels: {stable: 1, canary: 2}"),
    ],
)
def test_labels_that_are_no_mapping_are_answered_with_one(
    good: dict[str, Any], project: Path, labels: Any, hint: str
) -> None:
    models = {"modelB": {**good["tf-serving:models"]["modelB"], "labels": labels}}
    text = told(good | {"tf-serving:models": models}, project)
    assert "tf-serving:models.modelB.labels: " in text
    assert hint in text


def test_labels_set_as_a_list_without_path_are_answered_with_a_label(good: dict[str, Any], project: Path) -> None:
    text = told(good | {"tf-serving:models.modelB.labels[0]": "2"}, project)
    assert "pulumi config set --path 'tf-serving:models.modelB.labels.LABEL' VALUE" in text


@pytest.mark.parametrize("name", ["123", "007", "20240115093000123"])
def test_a_model_whose_name_is_a_number_is_told_at_its_name(good: dict[str, Any], project: Path, name: str) -> None:
    text = told(good | {"tf-serving:models": {name: {"versions": [1]}}}, project)
    assert f"tf-serving:models.{name}: model name '{name}' is a number" in text
    assert f"Fix: choose another name, such as model{name}" in text
    assert "basePath" not in text


@pytest.mark.parametrize("name", ["1.5", "true", "null", "2024-01-01", "v1", "a.b"])
def test_a_name_that_no_version_has_is_a_name(good: dict[str, Any], project: Path, name: str) -> None:
    text = told(good | {"tf-serving:models": {name: {"versions": [1]}, "misspelt": {"labells": {}}}}, project)
    assert f"models.{name}" not in text
    assert f'models["{name}"]' not in text


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
