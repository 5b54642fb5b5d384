"""Configs TensorFlow Serving would refuse, hang on or silently serve otherwise are found before anything is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tfserving.model_config import Model, ModelServerConfig, VersionPolicy, parse, validate

PUBLISHED = {"m": [1, 2, 3]}


def problems(published: dict[str, list[int]] | None = PUBLISHED, **fields: Any) -> list[tuple[str, str]]:
    one = Model(**{"name": "m", "base_path": "/models/m", **fields})
    found = validate(ModelServerConfig((one,)), published, "tf-serving:models")
    return [(problem.path, str(problem)) for problem in found]


def test_the_documents_example_has_no_problem() -> None:
    config = parse((Path(__file__).parent / "data" / "document_model_config.pbtxt").read_text())
    assert validate(config, {"modelA": [1], "modelB": [1, 2], "modelC": [1, 2, 3]}, "tf-serving:models") == []
    assert validate(config, None, "tf-serving:models") == []


@pytest.mark.parametrize("name", ["", "a b", "a/b", "a:predict", "a?x", "modèle", "m\n"])
def test_a_model_name_that_breaks_the_request_path_is_refused(name: str) -> None:
    found = problems({name: [1]}, name=name)
    assert any("is not a model name" in text and "letters, digits" in text for _, text in found)


@pytest.mark.parametrize("name", ["modelA", "a.b-c_d", "9"])
def test_model_names_of_the_allowed_characters_are_accepted(name: str) -> None:
    assert problems({name: [1]}, name=name) == []


@pytest.mark.parametrize(("platform", "fix"), [("Tensorflow", "did you mean 'tensorflow'"), ("", "write tensorflow")])
def test_a_platform_the_stock_server_does_not_know_is_refused(platform: str, fix: str) -> None:
    ((path, text),) = problems(platform=platform)
    assert path == "tf-serving:models.m.platform"
    assert fix in text


@pytest.mark.parametrize(
    ("base_path", "said"),
    [
        ("", "the base path is empty"),
        ("models/m", "is not absolute"),
        ("./m", "is not absolute"),
        ("oss://bucket/m", "mount the bucket"),
        ("s3://bucket/m", "mount the bucket"),
        ("hdfs://x/m", "mount the bucket"),
        ("ftp://x/m", "use a mounted directory"),
        ("/models/m/3", "use its parent /models/m"),
        ("/7/", "use its parent /,"),
        ("gs://bucket/m/001", "ends in a version number"),
    ],
)
def test_a_base_path_the_server_cannot_serve_from_is_refused(base_path: str, said: str) -> None:
    ((path, text),) = problems(base_path=base_path)
    assert path == "tf-serving:models.m.basePath"
    assert said in text


def test_a_google_storage_path_is_accepted() -> None:
    assert problems(base_path="gs://bucket/models/m") == []


def test_a_model_inside_another_models_directory_is_refused() -> None:
    config = ModelServerConfig((Model("a", "/models/a"), Model("b", "/models/a/b"), Model("ab", "/models/ab")))
    (problem,) = validate(config, None)
    assert problem.path == "models.b.basePath"
    assert "lies inside the base path of model a (/models/a)" in problem.message


def test_two_models_may_serve_one_directory() -> None:
    config = ModelServerConfig((Model("a", "/models/x"), Model("b", "/models/x", policy=VersionPolicy.all())))
    assert validate(config, {"a": [1], "b": [1]}) == []


def test_a_model_declared_twice_is_refused_once() -> None:
    config = ModelServerConfig((Model("a", "/a"), Model("a", "/b")))
    (problem,) = validate(config, None)
    assert problem.message == "model 'a' is declared 2 times"


def test_a_config_without_models_is_refused() -> None:
    (problem,) = validate(ModelServerConfig(), {}, "tf-serving:models")
    assert str(problem).startswith("tf-serving:models: no model is declared.")


def test_a_model_without_a_published_version_is_refused() -> None:
    # The server would wait for its first version for ever and read no config file meanwhile.
    for published in ({}, {"m": []}):
        assert problems(published) == [
            (
                "tf-serving:models.m",
                "tf-serving:models.m: model m has no published version. Fix: publish a version directory first.",
            )
        ]


@pytest.mark.parametrize("number", [0, -1, 2**32])
def test_latest_needs_a_number_the_file_can_hold(number: int) -> None:
    ((path, text),) = problems(policy=VersionPolicy.latest(number))
    assert path == "tf-serving:models.m.policy.latest"
    assert "Allowed: 1 or more" in text


@pytest.mark.parametrize(
    ("versions", "said"),
    [
        ([], "no version is named"),
        ([1, 1], "version 1 is named 2 times"),
        ([1, 9], "version 9 of model m is not published. Allowed: published versions: 1, 2, 3. Fix: publish version 9"),
        ([-1, 1], "version -1 is out of range"),
        ([1, 2**63], "out of range"),
    ],
)
def test_specific_versions_must_exist_and_be_named_once(versions: list[int], said: str) -> None:
    ((path, text),) = problems(policy=VersionPolicy.specific(versions))
    assert path == "tf-serving:models.m.policy.specific"
    assert said in text


@pytest.mark.parametrize("label", ["", "a-b", "a.b", "a b", "é", "a/b", "stable\n"])
def test_a_label_with_other_characters_is_refused(label: str) -> None:
    ((path, text),) = problems(policy=VersionPolicy.all(), labels={label: 1})
    assert path.startswith("tf-serving:models.m.labels")
    assert "is not a label. Allowed: letters, digits and '_'" in text


@pytest.mark.parametrize(
    ("policy", "version", "said"),
    [
        (VersionPolicy.all(), 9, "version 9, which is not published. Allowed: published versions: 1, 2, 3"),
        (VersionPolicy.all(), -1, "out of range"),
        (VersionPolicy.specific([1, 2]), 3, "policy specific [1, 2] does not serve. Allowed: served versions: 1, 2"),
        (VersionPolicy.specific([1, 2]), 3, "or add 3 to specific"),
        (VersionPolicy.latest(1), 2, "policy latest 1 does not serve. Allowed: served versions: 3"),
        (VersionPolicy.latest(1), 2, "or serve latest 2"),
    ],
)
def test_a_label_to_an_unserved_version_is_refused(policy: VersionPolicy, version: int, said: str) -> None:
    ((path, text),) = problems(policy=policy, labels={"stable": version})
    assert path == "tf-serving:models.m.labels.stable"
    assert said in text


def test_without_knowing_what_is_published_labels_are_checked_against_specific_versions() -> None:
    ((path, _),) = problems(None, policy=VersionPolicy.specific([1]), labels={"stable": 2})
    assert path == "tf-serving:models.m.labels.stable"
    assert problems(None, policy=VersionPolicy.latest(1), labels={"stable": 2}) == []


def test_every_problem_of_every_model_is_reported() -> None:
    config = ModelServerConfig(
        (Model("a b", "x", "onnx"), Model("c", "/c", policy=VersionPolicy.specific([7]), labels={"s-t": 8}))
    )
    assert len(validate(config, {"a b": [1], "c": [1]})) == 6
