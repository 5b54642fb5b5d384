"""The model config file: rendered, parsed, compared."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st

from tfserving import logging_config, rollout
from tfserving.errors import ConfigError, ModelConfigError
from tfserving.model_config import (
    Model,
    ModelServerConfig,
    VersionPolicy,
    changes,
    from_dict,
    parse,
    render,
    to_dict,
)
from tfserving.protos import tf_serving_pb2 as pb

DOCUMENT = (Path(__file__).parent / "data" / "document_model_config.pbtxt").read_text()

EXAMPLE = ModelServerConfig(
    (
        Model("modelA", "/models/modelA", policy=VersionPolicy.all()),
        Model("modelB", "/models/modelB", policy=VersionPolicy.specific([1, 2]), labels={"stable": 1, "canary": 2}),
        Model("modelC", "/models/modelC", policy=VersionPolicy.latest(2)),
    )
)

versions = st.integers(0, 2**63 - 1)
policies = st.one_of(
    st.builds(VersionPolicy.latest, st.integers(1, 2**32 - 1)),
    st.just(VersionPolicy.all()),
    st.builds(VersionPolicy.specific, st.lists(versions, max_size=4)),
)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
models = st.builds(
    Model,
    name=texts,
    base_path=texts,
    platform=texts,
    policy=policies,
    labels=st.dictionaries(texts, versions, max_size=3),
)
configs = st.builds(ModelServerConfig, st.lists(models, max_size=4, unique_by=lambda model: model.name).map(tuple))


def model(**changed: Any) -> ModelServerConfig:
    fields = {"name": "modelB", "base_path": "/models/modelB", **changed}
    return ModelServerConfig((Model(**fields),))


# ---- rendering and parsing


def test_the_rendered_example_is_the_documents_message() -> None:
    from tensorflow_serving.config import model_server_config_pb2 as official

    rendered = render(EXAMPLE)
    for message_type in (pb.ModelServerConfig, official.ModelServerConfig):
        of_document = text_format.Parse(DOCUMENT, message_type())
        assert text_format.Parse(rendered, message_type()) == of_document
        assert len(of_document.model_config_list.config) == 3


def test_the_documents_file_is_read() -> None:
    assert parse(DOCUMENT) == EXAMPLE


@given(configs)
def test_a_rendered_config_parses_back_to_itself(config: ModelServerConfig) -> None:
    assert parse(render(config)) == config


@given(configs)
def test_plain_data_reads_back_to_the_same_config(config: ModelServerConfig) -> None:
    assert from_dict(to_dict(config)) == config


def test_numbers_of_a_struct_are_read_as_integers() -> None:
    data = {"m": {"basePath": "/m", "policy": {"specific": [1.0, 2.0]}, "labels": {"stable": 1.0}}}
    read = from_dict(data)
    assert read == from_dict(to_dict(read))
    assert to_dict(read)["m"]["policy"] == {"specific": [1, 2]}
    assert "1.0" not in render(read)


def test_the_order_of_models_and_of_labels_changes_nothing() -> None:
    backwards = ModelServerConfig(tuple(reversed(EXAMPLE.models)))
    assert backwards == EXAMPLE
    assert render(backwards) == render(EXAMPLE)
    assert render(model(labels={"a": 1, "b": 2})) == render(model(labels={"b": 2, "a": 1}))


def test_no_models_are_written_as_an_empty_list() -> None:
    # A file without any list is refused by a running server; an empty list removes every model.
    assert parse(render(ModelServerConfig())) == ModelServerConfig()
    assert "model_config_list {" in render(ModelServerConfig())


def test_defaults_are_read_as_the_server_reads_them() -> None:
    text = "model_config_list { config { name: 'm' base_path: '/m' model_type: TENSORFLOW } }"
    assert parse(text) == ModelServerConfig((Model("m", "/m", policy=VersionPolicy.latest(1)),))
    zero = "model_config_list { config { name: 'm' model_version_policy { latest { num_versions: 0 } } } }"
    only = parse(zero).get("m")
    assert only is not None
    assert (only.policy, only.platform) == (VersionPolicy.latest(1), "")


def test_a_file_with_logging_and_comments_is_read() -> None:
    text = """# made by hand
    model_config_list: { config: { name: "m", base_path: "/m/"; model_platform: 'tensorflow'
      logging_config { log_collector_config { type: 'x' } sampling_config { sampling_rate: 0.1 } } } }"""
    (found,) = parse(text).models
    logging = {"log_collector_config": {"type": "x"}, "sampling_config": {"sampling_rate": 0.1}}
    assert logging_config.read(logging, "") == (found.logging, [])
    assert found == Model("m", "/m", logging=found.logging)


def test_logging_of_a_model_is_carried_through_file_and_data() -> None:
    text = """model_config_list { config { name: 'm' base_path: '/m' model_platform: 'tensorflow' logging_config {
      log_collector_config { type: 'x' filename_prefix: "a'b\\n" }
      sampling_config { sampling_rate: 0.25 per_task_sampling_configs { dc: 'd' task_index: 3 } }
      custom_logging_config { type_url: 'a/b' value: '\\001x' } } } }"""
    found = parse(text)
    data = logging_config.to_data(found.models[0].logging)
    assert data["custom_logging_config"] == {"type_url": "a/b", "value": "AXg="}
    assert logging_config.read(data, "") == (found.models[0].logging, [])
    assert parse(render(found)) == found
    assert from_dict(to_dict(found)) == found
    plain = ModelServerConfig((Model("m", "/m"),))
    assert changes(plain, found) == ["m: logging_config added"]
    assert changes(found, plain) == ["m: logging_config removed"]
    assert "logging" not in to_dict(plain)["m"], "an existing stack's models stay as they are"


@pytest.mark.parametrize(
    "value", [1, {"sampling": {}}, {"custom_logging_config": {"value": "%"}}, {"sampling_config": 3}]
)
def test_logging_that_is_none_is_told(value: object) -> None:
    text, problems = logging_config.read(value, "models.m.logging")
    assert text == ""
    assert [problem.path for problem in problems] == ["models.m.logging"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "model_config_list {\n  config {\n    nam: 'x'\n",
            'line 3, column 5: Message type "tensorflow.serving.ModelConfig"',
        ),
        ("model_config_list { config { name: 'a' name: 'b' } }", "should not have multiple"),
        ("model_config_list { config { model_version_policy { all {} latest {} } } }", "other member of oneof"),
        ('{"model_config_list": {}}', "line 1, column 1"),
        ("# nothing\n", "holds no model_config_list"),
        ("", "holds no model_config_list"),
        ("custom_model_config {}", "custom_model_config is not supported"),
        ("model_config_list { config { version_labels { key: 'a' value: 9223372036854775808 } } }", "out of range"),
    ],
)
def test_a_file_the_server_refuses_is_refused_with_the_place(text: str, message: str) -> None:
    with pytest.raises(ModelConfigError, match=r"^model config file: ") as caught:
        parse(text)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "broken", [model(labels={"stable": 2**63}), model(policy=VersionPolicy.latest(2**32)), model(base_path="/\ud800")]
)
def test_what_the_file_cannot_say_is_not_rendered(broken: ModelServerConfig) -> None:
    with pytest.raises(ModelConfigError):
        render(broken)


def test_a_path_without_a_last_slash_gets_one_in_the_file_only() -> None:
    assert model(base_path="/models/modelB/") == model(base_path="/models/modelB")
    assert "base_path: '/models/modelB/'" in render(model())
    assert parse(render(model(base_path="/"))).models[0].base_path == "/"


SPELLINGS = (
    "/models/modelB",
    "/models/modelB///",
    "//models/modelB",
    "///models//modelB/",
    "/models/./modelB/.",
    "/models/../models/modelB",
    "/models/modelA/../modelB/",
    "/../models/modelB",
)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_directory_is_the_same_however_its_path_is_spelt(spelling: str) -> None:
    there, wanted = model(base_path=spelling), model(base_path="/models/modelB")
    assert there == wanted
    assert changes(there, wanted) == []
    assert rollout.plan(there, wanted, {"modelB": (1, 2)}) == []


@pytest.mark.parametrize(
    ("path", "kept"),
    [
        ("gs://bucket//a/../b/", "gs://bucket//a/../b"),
        ("a//b/", "a//b"),
        ("", ""),
        ("//", "/"),
        ("/..", "/"),
        ("/models/..hats", "/models/..hats"),
        ("/models/ /x", "/models/ /x"),
    ],
)
def test_only_what_is_the_same_directory_to_the_server_is_the_same_path(path: str, kept: str) -> None:
    assert Model("m", path).base_path == kept


def test_a_config_cannot_be_changed_in_place() -> None:
    labels: Any = EXAMPLE.models[1].labels
    with pytest.raises(TypeError):
        labels["stable"] = 2
    assert hash(EXAMPLE) == hash(copy.copy(EXAMPLE))


# ---- policies


@pytest.mark.parametrize(
    ("policy", "selected"),
    [
        (VersionPolicy.all(), (1, 3, 7)),
        (VersionPolicy.latest(), (7,)),
        (VersionPolicy.latest(2), (3, 7)),
        (VersionPolicy.latest(9), (1, 3, 7)),
        (VersionPolicy.specific([7, 2, 1]), (1, 7)),
        (VersionPolicy.specific([]), ()),
    ],
)
def test_a_policy_selects_from_what_is_published(policy: VersionPolicy, selected: tuple[int, ...]) -> None:
    assert policy.select([7, 1, 3, 3]) == selected
    assert policy.select([]) == ()


# ---- plain data with mistakes


@pytest.mark.parametrize(
    ("value", "path", "said"),
    [
        ("al", "models.m.policy", "did you mean 'all'"),
        ("newest", "models.m.policy", "write `policy: all`"),
        ("specific", "models.m.policy", "name the versions"),
        (2, "models.m.policy", "{specific: [2]}"),
        ([1, 2], "models.m.policy", "{specific: [1, 2]}"),
        (True, "models.m.policy", "all, {latest: N} or {specific: [N, ...]}"),
        ({}, "models.m.policy", "exactly one choice, not nothing"),
        ({"latest": 1, "specific": [1]}, "models.m.policy", "exactly one choice, not latest and specific"),
        ({"lastest": 1}, "models.m.policy.lastest", "did you mean 'latest'"),
        ({"all": {}}, "models.m.policy", "write `policy: all`"),
        ({"latest": "2"}, "models.m.policy.latest", "write 2 without quotes"),
        ({"latest": 1.5}, "models.m.policy.latest", "1.5 is not a whole number"),
        ({"latest": True}, "models.m.policy.latest", "true is not a whole number"),
        ({"specific": 3}, "models.m.policy.specific", "write specific: [3]"),
        ({"specific": "1, 2"}, "models.m.policy.specific", "write a list"),
        ({"specific": [1, "x"]}, "models.m.policy.specific[1]", "'x' is not a whole number"),
    ],
)
def test_a_policy_of_the_wrong_form_names_the_place_and_the_fix(value: Any, path: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_dict({"m": {"basePath": "/m", "policy": value}})
    (problem,) = caught.value.problems
    assert problem.path == path
    assert said in str(problem)


def test_all_mistakes_of_all_models_are_reported_together() -> None:
    data = {
        "a": {"basePath": "/a", "label": {"stable": 1}},
        "b": {"basePath": 3, "policy": "alll", "labels": {"stable": "1", "canary": None}},
        "c.d": ["x"],
        "e": {"labels": ["stable"], "platform": None},
    }
    with pytest.raises(ConfigError) as caught:
        from_dict(data, "tf-serving:models")
    assert [problem.path for problem in caught.value.problems] == [
        "tf-serving:models.a.label",
        "tf-serving:models.b.basePath",
        "tf-serving:models.b.policy",
        "tf-serving:models.b.labels.stable",
        "tf-serving:models.b.labels.canary",
        'tf-serving:models["c.d"]',
        "tf-serving:models.e.platform",
        "tf-serving:models.e",
        "tf-serving:models.e.labels",
    ]
    assert "did you mean 'labels'" in str(caught.value)


# ---- comparison


def test_a_config_does_not_differ_from_itself() -> None:
    assert changes(EXAMPLE, parse(render(EXAMPLE))) == []


def test_changes_are_told_by_model_and_label() -> None:
    new = ModelServerConfig(
        (
            Model("modelB", "/models/modelB", policy=VersionPolicy.specific([1, 2]), labels={"stable": 2, "next": 1}),
            Model("modelC", "/elsewhere/modelC", "other", policy=VersionPolicy.specific([1, 3])),
            Model("modelD", "/models/modelD", labels={"stable": 4}),
        )
    )
    assert changes(EXAMPLE, new) == [
        "- modelA",
        "modelB: - label canary (was 2)",
        "modelB: + label next 1",
        "modelB: label stable 1 -> 2",
        "modelC: base path /models/modelC -> /elsewhere/modelC",
        "modelC: platform tensorflow -> other",
        "modelC: policy latest 2 -> specific [1, 3]",
        "+ modelD (latest 1)",
        "modelD: + label stable 4",
    ]


@given(configs, configs)
def test_changes_are_told_exactly_when_there_are_some(old: ModelServerConfig, new: ModelServerConfig) -> None:
    assert (changes(old, new) == []) == (old == new)
