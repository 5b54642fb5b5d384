"""Inputs checked, changes told apart: what the resources decide without asking anybody."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any, cast

import pytest

from provider.eas_service import EasService
from provider.model_config_file import ModelConfigFile
from provider.published_model import PublishedModel
from provider.resource import Context, Resource
from provider.served_config import ServedConfig
from provider.server import RESOURCES, _diff_response
from tfserving.errors import OwnershipError, SavedModelError
from tfserving.property_values import UNKNOWN, Secret

ONE, TWO = "sha256:" + "1" * 64, "sha256:" + "2" * 64
OWNER = "tf-serving/test"

PUBLISHED = {
    "name": "modelA",
    "bucket": "b",
    "prefix": "models/modelA/",
    "owner": OWNER,
    "source": "models/modelA",
    "versions": {"1": ONE},
}
CONFIG_FILE = {"bucket": "b", "key": "models/model_config.pbtxt", "owner": OWNER, "initial": {}}
SERVICE: dict[str, Any] = {
    "name": "multi_http",
    "owner": OWNER,
    "spec": {
        "metadata": {"instance": 2},
        "containers": [{"image": "tensorflow-serving:2.14.1", "port": 8501}],
        "token": Secret("hunter2"),
    },
    "probe": {"protocol": "http", "models": ["modelA"]},
}
MODEL_B = {
    "basePath": "/models/modelB",
    "platform": "tensorflow",
    "policy": {"specific": [1, 2]},
    "labels": {"stable": 1},
}
SERVED: dict[str, Any] = {
    "bucket": "b",
    "key": "models/model_config.pbtxt",
    "owner": OWNER,
    "models": {"modelB": MODEL_B},
    "published": {"modelB": [1, 2]},
    "services": {
        "multi_http": {"url": "http://x/api/predict/multi_http", "token": Secret("t"), "pollSeconds": 30, "reads": True}
    },
}
FOUND = {
    "served": {"multi_http": {"modelB": {"versions": [1, 2], "labels": {"stable": 1}}}},
    "file": {"modelB": MODEL_B},
    "unproven": [],
    "obsolete": {},
}


def failures(resource: Resource, inputs: dict[str, Any], **changes: Any) -> dict[str, str]:
    _, found = resource.check({}, {**inputs, **changes})
    return {failure.path: failure.reason for failure in found}


def changed(
    resource: Resource,
    olds: dict[str, Any],
    outputs: dict[str, Any],
    news: dict[str, Any],
    ignored: tuple[str, ...] = (),
) -> dict[str, tuple[int, bool]]:
    """What the engine is told: by property path the kind, and whether it is a change of inputs."""
    answer = _diff_response(resource.diff(olds, outputs, news), ignored)
    found = {path: (detail.kind, detail.inputDiff) for path, detail in answer.detailedDiff.items()}
    assert bool(found) == (answer.changes == answer.DIFF_SOME)
    assert {path.split(".")[0].split("[")[0] for path in found} == set(answer.diffs)
    return found


ADD, ADD_REPLACE, DELETE, _, UPDATE, UPDATE_REPLACE = range(6)


@pytest.mark.parametrize("resource", RESOURCES.values(), ids=lambda resource: resource.token)
def test_an_unknown_property_is_refused_and_a_missing_one_named(resource: Resource) -> None:
    found = failures(resource, {"bukket": "b"})
    assert "unknown property" in found["bukket"]
    assert set(found) >= {name for name, item in resource.inputs.items() if item.required}


def test_a_misspelt_property_gets_the_right_one_named() -> None:
    assert "did you mean adopt?" in failures(EasService(), SERVICE, adpot=True)["adpot"]


def test_a_wrong_type_is_refused_at_its_property() -> None:
    assert failures(EasService(), SERVICE, adopt="yes") == {"adopt": "must be of type boolean, is str"}
    assert failures(PublishedModel(), PUBLISHED, versions=["1"]) == {"versions": "must be of type object, is list"}


def test_defaults_are_filled_in() -> None:
    inputs, found = EasService().check({}, {"name": "multi_http", "owner": OWNER, "spec": {}})
    assert not found
    assert inputs["reachable"] is True
    assert inputs["adopt"] is False
    assert inputs["probe"] == {"protocol": "http", "models": []}


def test_unknown_values_pass_every_check() -> None:
    for resource, inputs in ((EasService(), SERVICE), (ServedConfig(), SERVED), (PublishedModel(), PUBLISHED)):
        assert failures(resource, dict.fromkeys(inputs, UNKNOWN)) == {}


def test_valid_inputs_pass_and_come_back_as_they_were() -> None:
    for resource, inputs in (
        (EasService(), SERVICE),
        (ServedConfig(), SERVED),
        (PublishedModel(), PUBLISHED),
        (ModelConfigFile(), CONFIG_FILE),
    ):
        checked, found = resource.check({}, inputs)
        assert not found
        assert checked.items() >= inputs.items()


# ---- published models ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "path", "reason"),
    [
        ({"prefix": "models/modelA"}, "prefix", "end in a slash"),
        ({"prefix": "/models/"}, "prefix", "not begin"),
        ({"versions": {"v1": ONE}}, 'versions["v1"]', "not a version number"),
        ({"versions": {"01": ONE}}, 'versions["01"]', "not a version number"),
        ({"versions": {"1": "abc"}}, 'versions["1"]', "not a digest"),
    ],
)
def test_bad_inputs_of_a_published_model_are_refused_with_their_path(
    changes: dict[str, Any], path: str, reason: str
) -> None:
    assert reason in failures(PublishedModel(), PUBLISHED, **changes)[path]


def test_a_new_version_is_an_addition_and_a_moved_source_nothing() -> None:
    model = PublishedModel()
    outputs = PUBLISHED | {"files": {}}
    news = PUBLISHED | {"versions": {"1": ONE, "2": TWO}}
    assert changed(model, PUBLISHED, outputs, news) == {'versions["2"]': (ADD, True)}
    assert changed(model, PUBLISHED, outputs, PUBLISHED | {"source": "elsewhere"}) == {}


def test_another_bucket_or_prefix_is_a_replacement() -> None:
    outputs = PUBLISHED | {"files": {}}
    found = changed(PublishedModel(), PUBLISHED, outputs, PUBLISHED | {"bucket": "c"})
    assert found == {"bucket": (UPDATE_REPLACE, True)}


def test_changed_content_of_a_published_version_is_refused_in_the_preview() -> None:
    news = PUBLISHED | {"versions": {"1": TWO}}
    with pytest.raises(SavedModelError, match=r"version 1 of modelA is published already .*new number"):
        PublishedModel().diff(PUBLISHED, PUBLISHED | {"files": {}}, news)
    several = PUBLISHED | {"versions": {"9": ONE, "20240115093000123": ONE, "30": ONE}}
    news = PUBLISHED | {"versions": {"9": TWO, "20240115093000123": TWO, "30": ONE}}
    with pytest.raises(
        SavedModelError, match=r"versions 9, 20240115093000123 of modelA are published already and their"
    ):
        PublishedModel().diff(several, several | {"files": {}}, news)


def test_changed_content_of_a_version_that_never_got_published_is_no_error() -> None:
    outputs = PUBLISHED | {"versions": {}, "files": {}}
    news = PUBLISHED | {"versions": {"1": TWO}}
    assert changed(PublishedModel(), PUBLISHED, outputs, news) == {'versions["1"]': (ADD, True)}


def test_an_upload_that_failed_halfway_is_still_to_be_done() -> None:
    both = PUBLISHED | {"versions": {"1": ONE, "2": TWO}}
    outputs = PUBLISHED | {"files": {}}
    assert changed(PublishedModel(), both, outputs, both) == {'versions["2"]': (ADD, False)}


def test_a_version_somebody_changed_is_to_be_repaired() -> None:
    outputs = PUBLISHED | {"versions": {"1": "changed: saved_model.pb"}, "files": {}}
    assert changed(PublishedModel(), PUBLISHED, outputs, PUBLISHED) == {'versions["1"]': (UPDATE, False)}


# ---- the config file -----------------------------------------------------------------------------------------------


def test_a_change_of_the_initial_models_is_rolled_out_and_not_written() -> None:
    outputs = CONFIG_FILE | {"unused": False}
    assert changed(ModelConfigFile(), CONFIG_FILE, outputs, CONFIG_FILE | {"initial": {"modelB": MODEL_B}}) == {}


def test_a_file_no_running_service_reads_follows_the_declaration() -> None:
    outputs = CONFIG_FILE | {"unused": True}
    found = changed(ModelConfigFile(), CONFIG_FILE, outputs, CONFIG_FILE | {"initial": {"modelB": MODEL_B}})
    assert found == {"initial.modelB": (ADD, False)}


def test_a_file_that_somebody_else_manages_now_is_a_change() -> None:
    outputs = CONFIG_FILE | {"owner": "other/prod", "unused": False}
    assert changed(ModelConfigFile(), CONFIG_FILE, outputs, CONFIG_FILE) == {"owner": (UPDATE, False)}


def test_bad_models_are_refused_with_the_path_of_each_problem() -> None:
    models = {"modelB": {"basePath": "/models/modelB", "policy": "some", "labels": {"stable": "one"}}}
    found = failures(ModelConfigFile(), CONFIG_FILE, initial=models)
    assert set(found) == {"initial.modelB.policy", "initial.modelB.labels.stable"}


def test_an_owner_is_a_project_and_a_stack() -> None:
    assert "is not <project>/<stack>" in failures(ModelConfigFile(), CONFIG_FILE, owner="me")["owner"]


# ---- services ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "path", "reason"),
    [
        ({"name": "Multi-HTTP"}, "name", "not a service name"),
        ({"name": "ab"}, "name", "not a service name"),
        ({"owner": "stack"}, "owner", "<project>/<stack>"),
        ({"spec": {"metadata": {"name": "other"}}}, "spec.metadata.name", "not the service's name"),
        ({"probe": {"protocol": "ftp"}}, "probe.protocol", "not one of http, grpc"),
        ({"probe": {"models": "modelA"}}, "probe.models", "list of model names"),
        ({"probe": {"path": "health"}}, "probe.path", "not an absolute path"),
        ({"probe": {"modles": []}}, "probe.modles", "unknown property"),
        ({"autoscaler": {"min": 3, "max": 1, "scaleStrategies": [{}]}}, "autoscaler.max", "no range"),
        ({"autoscaler": {"min": 1, "max": 2}}, "autoscaler.scaleStrategies", "at least one metric"),
        ({"autoscaler": {"max": 2}}, "autoscaler", "whole numbers"),
    ],
)
def test_bad_inputs_of_a_service_are_refused_with_their_path(changes: dict[str, Any], path: str, reason: str) -> None:
    assert reason in failures(EasService(), SERVICE, **changes)[path]


def service(**changes: Any) -> dict[str, Any]:
    return EasService().check({}, {**SERVICE, **changes})[0]


RUNNING = {"status": "Running", "owner": OWNER, "url": "http://x", "token": Secret("t")}


def test_the_same_service_is_no_change() -> None:
    assert changed(EasService(), service(), RUNNING, service()) == {}


def test_other_spellings_of_the_same_spec_are_no_change() -> None:
    old = service(spec={"cloud": {"computing": {"instance_type": "ecs.c7.large"}}, "labels": {}})
    new = service(spec={"cloud": {"computing": {"instances": [{"type": "ecs.c7.large"}]}}, "metadata": {"cpu": None}})
    assert changed(EasService(), old, RUNNING, new) == {}


def test_each_changed_key_of_the_spec_shows_with_its_path() -> None:
    spec = {
        "metadata": {"instance": 3, "enable_grpc": True},
        "containers": [{"image": "tensorflow-serving:2.17.1", "port": 8501}],
    }
    assert changed(EasService(), service(), RUNNING, service(spec=spec)) == {
        "spec.containers[0].image": (UPDATE, True),
        "spec.metadata.enable_grpc": (ADD, True),
        "spec.metadata.instance": (UPDATE, True),
        "spec.token": (DELETE, True),
    }


def test_another_name_is_a_replacement() -> None:
    assert changed(EasService(), service(), RUNNING, service(name="other_http")) == {"name": (UPDATE_REPLACE, True)}


@pytest.mark.parametrize(
    ("owner", "changes", "refused"),
    [
        ("tf-serving/other", {}, True),
        ("tf-serving/other", {"adopt": True}, False),
        ("tf-serving/other", {"owner": "tf-serving/renamed"}, True),
        (OWNER, {"owner": "tf-serving/renamed"}, False),
        ("", {}, False),  # only its label was removed
    ],
)
def test_a_service_that_another_stack_took_over_is_refused_by_the_preview_of_an_update(
    owner: str, changes: dict[str, Any], refused: bool
) -> None:
    asked = SimpleNamespace(describe=lambda _: None)  # only for a safety lock
    context = cast(Context, SimpleNamespace(clients=SimpleNamespace(eas=asked)))
    expected = pytest.raises(OwnershipError, match="belongs to tf-serving/other") if refused else nullcontext()
    with expected:
        EasService().preview(context, SERVICE | changes, SERVICE, {"owner": owner, "token": Secret("t")})


def test_a_service_is_not_replaced_where_the_old_one_belongs_to_another_stack_by_now() -> None:
    context = cast(Context, None)  # nobody is asked
    EasService().replaced(context, SERVICE, {"owner": OWNER})
    EasService().replaced(context, SERVICE, {"owner": ""})
    with pytest.raises(OwnershipError, match=r"multi_http belongs to tf-serving/other now, so it is not deleted\. Fix"):
        EasService().replaced(context, SERVICE, {"owner": "tf-serving/other"})


def test_how_readiness_is_asked_for_is_no_change_of_the_service() -> None:
    new = service(probe={"protocol": "http", "models": ["modelZ"]}, reachable=False, adopt=True)
    assert changed(EasService(), service(), RUNNING, new) == {}


def test_a_replica_count_the_autoscaler_owns_is_no_change() -> None:
    scaler = {"min": 1, "max": 9, "scaleStrategies": [{"metricName": "qps", "threshold": 10}]}
    old = service(autoscaler=scaler, autoscaled=True)
    new = service(autoscaler=scaler, autoscaled=True, spec={**SERVICE["spec"], "metadata": {"instance": 7}})
    assert changed(EasService(), old, RUNNING, new) == {}


@pytest.mark.parametrize("status", ["Stopped", "Failed", "Waiting", "Creating"])
def test_a_service_that_does_not_run_is_a_change_to_its_status(status: str) -> None:
    assert changed(EasService(), service(), RUNNING | {"status": status}, service()) == {"status": (UPDATE, False)}


def test_a_service_that_scales_is_no_change() -> None:
    assert changed(EasService(), service(), RUNNING | {"status": "Scaling"}, service()) == {}


def test_ignored_changes_are_left_out_under_their_path_and_below() -> None:
    new = service(spec={**SERVICE["spec"], "metadata": {"instance": 7, "cpu": 4}})
    found = changed(EasService(), service(), RUNNING, new, ("spec.metadata.instance",))
    assert found == {"spec.metadata.cpu": (ADD, True)}
    assert changed(EasService(), service(), RUNNING, new, ("spec.metadata",)) == {}
    assert changed(EasService(), service(), RUNNING, new, ('spec["metadata"].*',)) == {}


# ---- what is served ------------------------------------------------------------------------------------------------


def served(**changes: Any) -> dict[str, Any]:
    return ServedConfig().check({}, {**SERVED, **changes})[0]


def relabelled(version: int) -> dict[str, Any]:
    return served(models={"modelB": MODEL_B | {"labels": {"stable": version}}})


def test_what_is_served_as_declared_is_no_change() -> None:
    assert changed(ServedConfig(), served(), served() | FOUND, served()) == {}


def test_a_moved_label_is_one_change_of_the_inputs() -> None:
    found = changed(ServedConfig(), served(), served() | FOUND, relabelled(2))
    assert found == {"models.modelB.labels.stable": (UPDATE, True)}


def test_a_label_moved_by_hand_shows_where_it_is_served() -> None:
    moved = {"multi_http": {"modelB": {"versions": [1, 2], "labels": {"stable": 2}}}}
    found = changed(ServedConfig(), served(), served() | FOUND | {"served": moved}, served())
    assert found == {"served.multi_http.modelB.labels.stable": (UPDATE, False)}


def test_a_model_that_fell_out_shows_by_its_name() -> None:
    found = changed(ServedConfig(), served(), served() | FOUND | {"served": {"multi_http": {"other": {}}}}, served())
    assert set(found) == {"served.multi_http.modelB", "served.multi_http.other"}


def test_a_service_that_serves_nothing_shows_as_one_change() -> None:
    found = changed(ServedConfig(), served(), served() | FOUND | {"served": {"multi_http": {}}}, served())
    assert found == {"served.multi_http": (UPDATE, False)}


def test_an_edited_file_shows_what_was_edited() -> None:
    edited = {"modelB": MODEL_B | {"policy": {"specific": [2]}}}
    found = changed(ServedConfig(), served(), served() | FOUND | {"file": edited}, served())
    assert found == {"file.modelB.policy": (UPDATE, False)}


def test_a_service_that_cannot_be_asked_is_never_a_difference() -> None:
    services = {"multi_http": {**SERVED["services"]["multi_http"], "reachable": False}}
    blind = served(services=services)
    assert changed(ServedConfig(), blind, blind | FOUND | {"served": {}}, blind) == {}


def test_files_that_are_still_to_be_removed_are_a_change() -> None:
    found = changed(ServedConfig(), served(), served() | FOUND | {"obsolete": {"modelB": [3]}}, served())
    assert found == {"obsolete.modelB": (DELETE, False)}


def test_labelled_models_under_latest_are_expected_as_they_are_pinned() -> None:
    latest = {"modelB": MODEL_B | {"policy": {"latest": 2}}}
    pinned = {"modelB": MODEL_B}
    assert (
        changed(ServedConfig(), served(models=latest), served() | FOUND | {"file": pinned}, served(models=latest)) == {}
    )


def test_how_long_a_step_may_take_is_no_change() -> None:
    assert changed(ServedConfig(), served(), served() | FOUND, served(waitSeconds=600)) == {}
    assert "not a time" in failures(ServedConfig(), SERVED, waitSeconds=0)["waitSeconds"]


def test_published_versions_are_lists_of_numbers() -> None:
    assert "not a list" in failures(ServedConfig(), SERVED, published={"modelB": "1"})["published.modelB"]
