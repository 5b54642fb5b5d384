"""Reading and checking model configs: messages and their order."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2 as config_pb2

from sandbox.model_server.config import check_platforms, check_transition, read_text_proto, single_model_config
from sandbox.model_server.status import Code, StatusError


def parse(text: str) -> config_pb2.ModelServerConfig:
    return text_format.Parse(text, config_pb2.ModelServerConfig())


def models(*entries: str) -> config_pb2.ModelServerConfig:
    return parse("model_config_list {" + "".join(f"config {{ {entry} }}" for entry in entries) + "}")


def model(name: str, base_path: str = "/m", platform: str = "tensorflow") -> str:
    return f"name: '{name}' base_path: '{base_path}' model_platform: '{platform}'"


EMPTY = config_pb2.ModelServerConfig()


def refusal(old: config_pb2.ModelServerConfig, new: config_pb2.ModelServerConfig) -> StatusError:
    with pytest.raises(StatusError) as caught:
        check_transition(old, new)
    return caught.value


def test_a_file_is_read_from_text_format(tmp_path: Path) -> None:
    file = tmp_path / "c.pbtxt"
    file.write_text("model_config_list: { config: { name: \"m\", base_path: '/m'; } }")
    config = read_text_proto("/models/c.pbtxt", file, config_pb2.ModelServerConfig())
    assert config.model_config_list.config[0].name == "m"


def test_a_missing_file_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(StatusError) as caught:
        read_text_proto("/models/c.pbtxt", tmp_path / "none", config_pb2.ModelServerConfig())
    assert str(caught.value) == "NOT_FOUND: /models/c.pbtxt; No such file or directory"


def test_an_empty_file_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "c").write_bytes(b"")
    with pytest.raises(StatusError) as caught:
        read_text_proto("/models/c", tmp_path / "c", config_pb2.ModelServerConfig())
    assert str(caught.value) == "INVALID_ARGUMENT: /models/c; Invalid argument"


@pytest.mark.parametrize(
    "text",
    [
        "model_config_list { config { nam: 'm' } }",
        "model_config_list { config { name: 'a' name: 'b' } }",
        "model_config_list { config { model_version_policy { all {} latest {} } } }",
        '{"model_config_list": {}}',
        "\xff\xfe",
    ],
)
def test_what_is_not_text_format_is_refused_and_explained_in_the_log(
    text: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "c").write_bytes(text.encode("latin-1"))
    with caplog.at_level(logging.ERROR), pytest.raises(StatusError) as caught:
        read_text_proto("/models/c", tmp_path / "c", config_pb2.ModelServerConfig())
    assert str(caught.value) == "INVALID_ARGUMENT: Invalid protobuf file: '/models/c'"
    assert "Error parsing text-format tensorflow.serving.ModelServerConfig: " in caplog.text


def test_a_repeated_label_is_accepted_and_the_last_one_counts() -> None:
    config = models(model("m") + " version_labels { key: 'a' value: 1 } version_labels { key: 'a' value: 2 }")
    assert check_transition(EMPTY, config)
    assert dict(config.model_config_list.config[0].version_labels) == {"a": 2}


def test_an_empty_config_is_accepted_first_and_does_nothing() -> None:
    assert not check_transition(EMPTY, EMPTY)


def test_an_empty_list_of_models_is_something_to_apply() -> None:
    assert check_transition(models(model("m")), models())


def test_a_list_cannot_become_an_empty_config() -> None:
    assert str(refusal(models(model("m")), EMPTY)) == (
        "FAILED_PRECONDITION: Cannot transition to requested config. It is only legal to transition from one "
        "ModelConfigList to another."
    )


def test_a_model_cannot_be_listed_twice() -> None:
    assert str(refusal(EMPTY, models(model("m"), model("m", "rel")))) == (
        "INVALID_ARGUMENT: Illegal to list model m multiple times in config list"
    )


@pytest.mark.parametrize("path", ["models/m", "", "./m", "1a:/x"])
def test_a_relative_base_path_is_refused(path: str) -> None:
    error = refusal(EMPTY, models(model("m", path)))
    assert error.message == f"Expected model m to have an absolute path or URI; got base_path()={path}"
    assert error.code is Code.INVALID_ARGUMENT


def test_a_uri_is_no_relative_path() -> None:
    assert check_transition(EMPTY, models(model("m", "gs://bucket/m")))


def test_a_kept_model_cannot_change_its_platform() -> None:
    error = refusal(models(model("m")), models(model("m", platform="other")))
    assert error.message == (
        "Illegal to change a model's platform. For model m platform was tensorflow and new platform requested is other"
    )


def test_a_stored_model_without_platform_refuses_every_later_list() -> None:
    stored = models("name: 'bad' base_path: '/m'")
    error = refusal(stored, models(model("good")))
    assert error.message == (
        "Illegal setting neither ModelServerConfig::model_type (deprecated) nor ModelServerConfig::model_platform, "
        "model name is bad"
    )


def test_a_first_config_without_platform_passes_until_the_platforms_are_checked() -> None:
    config = models("name: 'bad' base_path: '/m'")
    assert check_transition(EMPTY, config)
    with pytest.raises(StatusError, match="Illegal setting neither"):
        check_platforms(config)


def test_an_unknown_platform_is_refused_last() -> None:
    config = models(model("m", platform="torch"))
    assert check_transition(EMPTY, config)
    with pytest.raises(StatusError) as caught:
        check_platforms(config)
    assert caught.value.message == "Model m requests unsupported platform torch"


def test_the_deprecated_model_type_stands_for_the_platform() -> None:
    check_platforms(models("name: 'm' base_path: '/m' model_type: TENSORFLOW"))
    with pytest.raises(StatusError, match="model_type choice 2 not supported"):
        check_platforms(models("name: 'm' base_path: '/m' model_type: OTHER"))
    with pytest.raises(StatusError, match="Illegal setting both"):
        check_platforms(models(model("m") + " model_type: TENSORFLOW"))


def test_single_model_flags_make_a_config_of_one_model() -> None:
    assert single_model_config("m", "/m") == models(model("m"))
