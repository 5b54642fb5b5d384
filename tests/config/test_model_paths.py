"""Models in place: directories that are not called like their models, and two models of one directory."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import pytest

from config import model_files
from config.stack import Settings, parse
from tests.config.conftest import GOOD
from tfserving import eas_spec
from tfserving.contract.found import FindVersionsResult, FoundDirectory
from tfserving.errors import ConfigError
from tfserving.manifest import HashCache

IN_PLACE: dict[str, Any] = {"versions": [1, 2], "path": "team-x/shoes"}


def stack(models: Mapping[str, Any], **service: Any) -> dict[str, Any]:
    raw = copy.deepcopy(GOOD)
    del raw["tf-serving:modelSource"]
    raw["tf-serving:models"] = dict(models)
    for each in raw["tf-serving:services"].values():
        each |= service
    return raw


def read(raw: Mapping[str, Any], tmp_path: Any) -> Settings:
    return parse(raw, tmp_path)


def refused(raw: Mapping[str, Any], tmp_path: Any) -> list[str]:
    with pytest.raises(ConfigError) as told:
        parse(raw, tmp_path)
    return [str(problem) for problem in told.value.problems]


def test_a_model_lies_where_its_path_says(tmp_path: Any) -> None:
    found = read(stack({"shoes": IN_PLACE, "hats": {"versions": [1]}}, mountPath="/mnt/all"), tmp_path)
    assert {model.name: model.base_path for model in found.serving.models} == {
        "hats": "/mnt/all/hats",
        "shoes": "/mnt/all/team-x/shoes",
    }
    assert {model.name: model.path for model in found.models} == {"hats": "hats", "shoes": "team-x/shoes"}


@pytest.mark.parametrize("deployment", ["scenario", "custom"])
def test_a_service_of_one_model_finds_it_there(tmp_path: Any, deployment: str) -> None:
    raw = stack({"shoes": IN_PLACE})
    raw["tf-serving:services"] = {"one": {"deployment": deployment, "model": "shoes"}}
    (service,) = read(raw, tmp_path).services
    config = eas_spec.build(service.spec)
    mounted = config["storage"][0]["oss"]["path"]
    if deployment == "scenario":
        assert mounted.endswith("/team-x/shoes/")
    else:
        assert "--model_base_path=/models/team-x/shoes" in config["containers"][0]["script"]


def test_two_models_of_one_directory_are_published_once_and_told(tmp_path: Any) -> None:
    found = read(stack({"shoes": IN_PLACE, "boots": {"path": "team-x/shoes/", "labels": {"stable": 2}}}), tmp_path)
    boots = next(model for model in found.models if model.name == "boots")
    assert (boots.same_as, boots.versions) == ("shoes", (1, 2))
    assert found.published["boots"] == (1, 2)
    assert any("model boots and shoes are one directory" in warning for warning in found.warnings)


def test_both_of_them_cannot_say_where_the_versions_come_from(tmp_path: Any) -> None:
    (told,) = refused(stack({"shoes": IN_PLACE, "boots": {**IN_PLACE, "versions": [3]}}), tmp_path)
    assert told.startswith("tf-serving:models.boots.versions: team-x/shoes is the directory of shoes as well")


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("oss://b/shoes", "without oss:// and the bucket"),
        ("../shoes", "is not a directory below modelRoot"),
        ("a//b", "is not a directory below modelRoot"),
        ("a b", "has other characters than letters"),
        ("shoes/1", "ends in a version number"),
        (3, "ends in a version number"),
        ("/mnt/team-y/3", "ends in a version number"),
        ("hats/inner", "lies inside the directory of model hats"),
        ("/", "names no directory"),
        ("//", "names no directory"),
        ("/models", "is modelRoot itself"),
    ],
)
def test_what_tensorflow_serving_could_not_read_is_refused(tmp_path: Any, path: Any, words: str) -> None:
    (told,) = refused(stack({"shoes": {**IN_PLACE, "path": path}, "hats": {"versions": [1]}}), tmp_path)
    assert words in told
    assert told.startswith(("tf-serving:models.shoes.path: ", "tf-serving:models.shoes: ")), "a key of the stack file"
    assert "path: ." not in told


@pytest.mark.parametrize(
    ("path", "other"), [("shoes/1", "shoes"), ("team-x/shoes/2/", "team-x/shoes"), ("/models/shoes", "shoes")]
)
def test_a_path_that_a_fix_names_is_taken(tmp_path: Any, path: str, other: str) -> None:
    (told,) = refused(stack({"shoes": {**IN_PLACE, "path": path}}), tmp_path)
    assert f"Fix: write path: {other}" in told
    assert read(stack({"shoes": {**IN_PLACE, "path": other}}), tmp_path).models[0].place == other


@pytest.mark.parametrize("path", ["relative", "oss://bucket/models", "/"])
def test_a_wrong_mount_path_is_told_where_it_stands_and_nowhere_else(tmp_path: Any, path: str) -> None:
    told = refused(stack({"shoes": IN_PLACE}, mountPath=path), tmp_path)
    assert all(problem.partition(": ")[0].endswith(".mountPath") for problem in told), told


def test_logging_is_refused_with_the_servers_words_where_the_server_would(tmp_path: Any) -> None:
    logging = {"log_collector_config": {"type": "x"}, "sampling_config": {"sampling_rate": 0.5}}
    models = {"shoes": {"versions": [1], "logging": logging}}
    (told,) = refused(stack(models), tmp_path)
    assert told.startswith("tf-serving:models.shoes.logging: service multi_http runs the stock server")
    assert "No request-logger-creator provided." in told
    own = read(stack(models, image="registry.example.com/team/serving-with-a-logger:1.0"), tmp_path)
    assert own.serving.models[0].logging.startswith("log_collector_config {")
    (told,) = refused(stack({"shoes": {"versions": [1], "logging": {"sampling": 1}}}), tmp_path)
    assert "this is not a logging_config" in told


def test_services_read_a_config_file_of_another_name_that_is_in_the_bucket(tmp_path: Any) -> None:
    raw = stack({"shoes": {"versions": [1]}}) | {"tf-serving:configFileName": "models.config"}
    (told,) = refused(raw, tmp_path)
    assert told.startswith("tf-serving:configFileName: in a bucket that this stack makes")
    raw["tf-serving:bucket"] = {"name": "theirs-bucket", "existing": True}
    found = read(raw, tmp_path)
    assert found.config_file_name == "models.config"
    for service in found.services:
        assert "--model_config_file=/models/models.config " in eas_spec.start_command(service.spec)
    raw["tf-serving:configFileName"] = "cfg/models.config"
    assert "is not a file name" in refused(raw, tmp_path)[0]


# ---- other mounts

MOUNT = {"mount_path": "/mnt/team-y", "oss": {"path": "oss://team-y-bucket/exports/", "readOnly": True}}
ELSEWHERE: dict[str, Any] = {"versions": [3, 4], "path": "/mnt/team-y/bags"}


WEB: dict[str, Any] = {"deployment": "custom", "configFile": True, "configPollSeconds": 30}


def mounting(models: Mapping[str, Any], *mounts: Any, **service: Any) -> dict[str, Any]:
    """A stack with one service that mounts these, too."""
    raw = stack(models)
    raw["tf-serving:services"] = {"web": {**WEB, "extraConfig": {"storage": list(mounts)}, **service}}
    return raw


def test_a_model_on_another_mount_is_looked_at_in_the_bucket_that_is_mounted_there(tmp_path: Any) -> None:
    raw = mounting({"bags": ELSEWHERE, "hats": {"versions": [1]}}, MOUNT, mountPath="/srv/all")
    found = read(raw, tmp_path)
    assert {model.name: model.base_path for model in found.sets[0].config.models} == {
        "bags": "/mnt/team-y/bags",
        "hats": "/srv/all/hats",
    }
    sources = {each.name: (each.bucket, each.prefix, each.source) for each in model_files.sources(found, HashCache())}
    assert sources == {"bags": ("team-y-bucket", "exports/bags/", ""), "hats": ("", "", "")}


def test_the_bucket_tells_the_versions_there_as_well(tmp_path: Any) -> None:
    bags = {"versions": {"from": "bucket"}, "path": "/mnt/team-y/bags"}
    [asked] = read(mounting({"bags": bags}, MOUNT), tmp_path).asked
    assert (asked.place, asked.bucket, asked.prefix) == ("/mnt/team-y/bags", "team-y-bucket", "exports/bags/")


@pytest.mark.parametrize(
    ("there", "words"),
    [
        (FoundDirectory(exists=False), "the bucket team-y-bucket is not there"),
        (FoundDirectory(), "no complete version is in oss://team-y-bucket/exports/bags/"),
    ],
)
def test_what_is_missing_in_another_bucket_is_told_by_its_name_and_of_that_model_alone(
    tmp_path: Any, there: FoundDirectory, words: str
) -> None:
    bags = {"versions": {"from": "bucket"}, "path": "/mnt/team-y/bags"}
    raw = mounting({"bags": bags, "hats": {"versions": {"from": "bucket"}}}, MOUNT)
    found = {"/mnt/team-y/bags": there, "hats": FoundDirectory(versions=("1",))}
    with pytest.raises(ConfigError) as told:
        parse(raw, tmp_path, found=FindVersionsResult(directories=found))
    [problem] = told.value.problems
    assert problem.path == "tf-serving:models.bags.versions"
    assert words in problem.message


def test_a_mount_may_be_the_model_itself(tmp_path: Any) -> None:
    mount = {"mount_path": "/mnt/bags/", "oss": {"path": "oss://team-y-bucket/"}}
    found = read(mounting({"bags": {**ELSEWHERE, "path": "/mnt/bags"}}, mount), tmp_path)
    assert [(each.bucket, each.prefix) for each in found.models] == [("team-y-bucket", "")]


@pytest.mark.parametrize(
    ("entry", "mounts", "words"),
    [
        ({}, [], "mounts nothing at /mnt/team-y/bags"),
        ({"path": "/mnt/team-yz/bags"}, [MOUNT], "mounts nothing at /mnt/team-yz/bags"),
        ({}, [{"mount_path": "/mnt/team-y", "nfs": {"server": "x"}}], "mounts nfs at /mnt/team-y, and no bucket"),
        ({}, [{"mount_path": "/mnt/team-y", "nfs": {"server": "x"}}], "Fix: put the model into a bucket"),
        ({"path": "/models/bags"}, [MOUNT], "is below /models, where service web mounts modelRoot"),
        ({"path": "/models/team-x/bags"}, [MOUNT], "Fix: write path: team-x/bags"),
        ({"source": "oss://b/exports/"}, [MOUNT], "nothing is published"),
        ({"versions": None}, [MOUNT], "nothing is published"),
        ({"path": "/mnt/../etc"}, [MOUNT], "is not a directory below modelRoot"),
    ],
)
def test_where_nobody_can_look_a_model_is_refused_with_the_reason(
    tmp_path: Any, entry: dict[str, Any], mounts: list[Any], words: str
) -> None:
    told = refused(mounting({"bags": {**ELSEWHERE, **entry}}, *mounts), tmp_path)
    assert any(problem.startswith("tf-serving:models.bags") and words in problem for problem in told), told


def test_services_see_the_same_directory_there(tmp_path: Any) -> None:
    raw = mounting({"bags": ELSEWHERE}, MOUNT)
    other = {**MOUNT, "oss": {"path": "oss://another-bucket/exports/"}}
    raw["tf-serving:services"]["second"] = {**WEB, "extraConfig": {"storage": [other]}}
    [told] = refused(raw, tmp_path)
    assert "oss://team-y-bucket/exports/bags/ in web, oss://another-bucket/exports/bags/ in second" in told


def test_a_service_of_one_model_reads_no_other_mount(tmp_path: Any) -> None:
    raw = mounting({"bags": ELSEWHERE}, MOUNT)
    raw["tf-serving:services"]["single"] = {
        "deployment": "custom",
        "model": "bags",
        "extraConfig": {"storage": [MOUNT]},
    }
    [told] = refused(raw, tmp_path)
    assert "service single serves one model, and mounts its directory below modelRoot" in told
    assert "Fix: move the model below modelRoot, or let the service read a config file" in told


def test_pods_have_one_volume_and_the_way_out_is_said(tmp_path: Any) -> None:
    local = mounting({"bags": ELSEWHERE, "shoes": {"versions": [1]}}, MOUNT)
    raw = {key: value for key, value in local.items() if key not in ("tf-serving:endpoint", "alicloud:protocol")}
    raw["tf-serving:kubernetes"] = {"volume": {"roleName": "oss-reader"}}
    pods = {"target": "ack", "configFile": True, "allowLabelsForUnavailableVersions": True}
    raw["tf-serving:services"]["pods"] = pods
    [told] = refused(raw, tmp_path)
    assert "service pods runs on Kubernetes, where pods have the one volume with the model root" in told
    assert "Fix: move the model below modelRoot, or name the models of that service without it" in told
    raw["tf-serving:services"]["pods"] = {**pods, "models": ["shoes"]}
    assert [each.bucket for each in read(raw, tmp_path).models] == ["team-y-bucket", ""]
