"""What strangers have: their config files, services and buckets as entries of a stack file, and what they lose."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest

from tfserving import eas_spec
from tfserving.contract.found import FoundDirectory, LeftOut
from tfserving.errors import ModelConfigError, Problem
from tfserving.importing import draft, model_file, models, place, service, start
from tfserving.importing.models import Directory, Listing, Versions
from tfserving.importing.place import Place
from tfserving.model_config import Model, VersionPolicy
from tfserving.schedule import cron_scaler

REGISTRY = "eas-registry-vpc.cn-hangzhou.cr.aliyuncs.com/pai-eas"
HERE = Place("examplebucket", "serving/", "/models", "model_config.pbtxt")
FLAGS = "--model_config_file=/models/model_config.pbtxt --model_config_file_poll_wait_seconds=30"
LABELS_FLAG = "--allow_version_labels_for_unavailable_models=true"


def container(script: str | None = None, **more: Any) -> dict[str, Any]:
    text = f"{eas_spec.ENTRYPOINT} {FLAGS} {LABELS_FLAG}" if script is None else script
    found = {"image": f"{REGISTRY}/tensorflow-serving:2.14.1", "port": 8501, "script": text, **more}
    return {key: value for key, value in found.items() if value is not None}


def stored(name: str = "multi_http", **more: Any) -> dict[str, Any]:
    """A service JSON as somebody wrote it in the console."""
    found = {
        "metadata": {"name": name, "instance": 1},
        "cloud": {"computing": {"instance_type": "ecs.c7.large"}},
        "containers": [container()],
        "storage": [{"mount_path": "/models", "oss": {"path": "oss://examplebucket/serving", "readOnly": True}}],
    }
    return {**found, **more}


def imported(config: dict[str, Any], labels: bool = False, **more: Any) -> service.ServiceImport:
    looked = start.read(str(config["metadata"]["name"]), config)
    where, elsewhere = place.choose([looked])
    assert where is not None, elsewhere
    found = more.pop("models", {"shoes": "shoes"})
    return service.read(looked, where, "cn-hangzhou", models=found, labels=labels, **more)


# ---- services


def test_a_service_of_the_documents_is_said_in_options_alone() -> None:
    found = imported(stored()).spec
    assert found.config_file
    assert (found.config_poll_seconds, found.allow_labels_for_unavailable_versions) == (30, True)
    assert (found.image, found.instance_types[0].type) == ("tensorflow-serving:2.14.1", "ecs.c7.large")
    assert found.extra_config == {}


def test_another_order_of_flags_is_kept_as_it_is_started() -> None:
    text = f"{eas_spec.ENTRYPOINT} {LABELS_FLAG} {FLAGS}"
    found = imported(stored(containers=[container(text)]), labels=True).spec
    assert (found.script, found.config_file) == (text, True)
    assert eas_spec.config_file_polls(found) == 30
    assert eas_spec.build(found)["containers"][0]["script"] == text


def test_a_start_that_labels_do_not_survive_is_put_right() -> None:
    text = f"{eas_spec.ENTRYPOINT} --model_config_file=/models/model_config.pbtxt"
    found = imported(stored(containers=[container(text)]), labels=True).spec
    assert found.allow_labels_for_unavailable_versions
    assert found.config_poll_seconds == 30
    as_it_is = imported(stored(containers=[container(text)])).spec
    assert not as_it_is.allow_labels_for_unavailable_versions, "without labels nothing has to change"


def test_a_server_without_the_entry_point_is_kept_and_its_model_known() -> None:
    text = "tensorflow_model_server --rest_api_port=8501 --model_name=shop --model_base_path=/models/shoes"
    found = imported(stored(containers=[container(None, command=text) | {"script": ""}])).spec
    assert (found.command, found.model, eas_spec.model_name(found)) == (text, "shoes", "shop")


def test_a_model_named_by_a_variable_is_kept_and_not_taken_for_another() -> None:
    env = [{"name": "MODEL_NAME", "value": "shoes"}]
    found = imported(stored(containers=[container(eas_spec.ENTRYPOINT, env=env)])).spec
    assert (found.script, found.model, found.env) == (eas_spec.ENTRYPOINT, "", {"MODEL_NAME": "shoes"})


def test_the_directory_of_one_model_mounted_where_the_image_looks_is_a_scenario() -> None:
    mount = [{"mount_path": "/models/model/", "oss": {"path": "oss://examplebucket/serving/shoes/", "readOnly": True}}]
    found = imported(stored(containers=[container(eas_spec.ENTRYPOINT)], storage=mount)).spec
    assert (found.deployment, found.model, found.root) == ("scenario", "shoes", "serving/")
    assert eas_spec.build(found)["storage"] == [
        {"mount_path": "/models/model", "oss": {"path": "oss://examplebucket/serving/shoes/", "readOnly": True}}
    ]


def test_what_no_option_says_is_kept_beside() -> None:
    mounts = [*stored()["storage"], {"mount_path": "/data", "nfs": {"server": "s", "path": "/"}}]
    config = stored(storage=mounts, features={"a.b/c": "1"}, unit={"size": 2})
    config["containers"].append({"image": "sidecar:1", "script": "run"})
    found = imported(copy.deepcopy(config)).spec
    assert found.health_checks == eas_spec.HealthChecks(), "no check is there"
    assert found.extra_config == {
        "features": {"a.b/c": "1"},
        "unit": {"size": 2},
        "storage": [{"mount_path": "/data", "nfs": {"server": "s", "path": "/"}}],
        "containers": [{}, {"image": "sidecar:1", "script": "run"}],
    }
    assert eas_spec.build(found)["containers"][1] == {"image": "sidecar:1", "script": "run"}


def test_what_eas_adds_by_itself_is_not_declared() -> None:
    config = stored(workspace_id="10001")
    config["metadata"] |= {"cpu": 2, "memory": 4096, "gpu": 0, "rpc": {"keepalive": 5, "io_threads": 4}}
    config["metadata"] |= {
        "eas.termination_grace_period": 30,
        "rolling_strategy": {"max_surge": "2%", "max_unavailable": 0},
    }
    config["cloud"]["computing"]["disable_spot_protection_period"] = False
    found = imported(config).spec
    assert (found.cpu, found.memory, found.gpu, found.rolling_strategy) == (None, None, 0, None)
    assert (found.rpc_keepalive_ms, found.workspace_id) == (5, "10001")
    assert found.extra_config == {}


def test_secrets_are_taken_out_and_named_and_the_token_stays_with_the_service() -> None:
    config = stored(token="t0ken", dockerAuth="dXNlcjpwdw==")
    config["containers"][0]["env"] = [{"name": "API_KEY", "value": "hush"}, {"name": "A", "value": "1"}]
    found = imported(config)
    assert found.secrets == ("env.API_KEY", "extraConfig.dockerAuth")
    assert found.spec.env == {"A": "1"}
    text = draft.of(HERE, {}, [], [(found, {}, ())]).text().whole()
    assert not any(secret in text for secret in ("hush", "t0ken", "dXNlcjpwdw"))
    assert "# adopt: true" in text
    assert "pulumi config set --secret --path 'tf-serving:services.multi_http.env.API_KEY'" in " ".join(
        line.strip(" #") for line in text.splitlines()
    )


def test_the_apis_autoscaler_is_carried_over_and_one_in_the_json_is_not() -> None:
    scaler = {
        "min": 1,
        "max": 5,
        "scaleStrategies": [
            {"metricName": "qps", "threshold": 10},
            {"metricName": "x", "threshold": 1, "service": "other"},
        ],
    }
    found = imported(stored(autoscaler={"min": 1}), autoscaler=scaler)
    assert found.spec.autoscaler is not None
    assert [metric.name for metric in found.spec.autoscaler.metrics] == ["qps"]
    assert len(found.lost) == 2


CRON = {
    "scaleJobs": [{"name": "night", "schedule": "0 0 1 * * *", "targetSize": 2, "timeZone": "UTC"}],
    "excludeDates": ["* * * 1 10 *"],
}


def test_a_cron_scaler_becomes_a_schedule() -> None:
    found = imported(stored(), cron_scaler=CRON)
    assert found.spec.schedule is not None
    assert cron_scaler(found.spec.schedule) == CRON
    assert found.spec.replicas is None
    assert found.lost == ()


def test_a_schedule_that_no_stack_can_say_is_lost_as_a_whole_with_the_reason() -> None:
    [job] = CRON["scaleJobs"]
    two_zones = {**CRON, "scaleJobs": [job, {**job, "name": "b", "schedule": "0 0 2 * * *", "timeZone": "Asia/Tokyo"}]}
    odd = {**CRON, "scaleJobs": [{**job, "schedule": "@daily"}]}
    for wrong, reason in ((two_zones, "several time zones"), (odd, "`@daily`")):
        found = imported(stored(), cron_scaler=wrong)
        assert found.spec.schedule is None
        [lost] = found.lost
        assert reason in lost
        assert "`up` takes it off" in lost


def test_a_time_zone_that_eas_does_not_say_is_assumed_and_told() -> None:
    [job] = CRON["scaleJobs"]
    silent = {**CRON, "scaleJobs": [{key: value for key, value in job.items() if key != "timeZone"}]}
    found = imported(stored(), cron_scaler=silent)
    assert found.spec.schedule is not None
    assert found.spec.schedule.time_zone == "Asia/Shanghai"
    assert "Asia/Shanghai is assumed" in found.lost[0]


# ---- where they are


@pytest.mark.parametrize(
    ("config", "why"),
    [
        (stored(storage=[]), "is in no directory of a bucket that it mounts"),
        (stored(storage=[{"mount_path": "/models", "nfs": {"server": "s"}}]), "is in no directory of a bucket"),
        (stored(containers=[container("python serve.py")]), "does not say which model"),
        (
            stored(
                storage=[{"mount_path": "/models/model_config.pbtxt", "oss": {"path": "oss://examplebucket/c.pbtxt"}}]
            ),
            "mounted as a file",
        ),
    ],
)
def test_a_service_without_models_in_a_bucket_is_told_so(config: dict[str, Any], why: str) -> None:
    where, elsewhere = place.choose([start.read("multi_http", config)])
    assert where is None
    assert why in elsewhere["multi_http"]


def test_services_of_two_places_cannot_share_a_stack() -> None:
    other = stored("other", storage=[{"mount_path": "/models", "oss": {"path": "oss://examplebucket/elsewhere/"}}])
    at = stored("at", storage=[{"mount_path": "/mnt", "oss": {"path": "oss://examplebucket/serving/"}}])
    at["containers"] = [container(f"{eas_spec.ENTRYPOINT} --model_config_file=/mnt/model_config.pbtxt")]
    file = stored("file", containers=[container(f"{eas_spec.ENTRYPOINT} --model_config_file=/models/b.config")])
    looked = [start.read(str(each["metadata"]["name"]), each) for each in (stored(), other, at, file)]
    where, elsewhere = place.choose(looked)
    assert where == HERE
    assert set(elsewhere) == {"other", "at", "file"}
    assert "reads oss://examplebucket/elsewhere/model_config.pbtxt" in elsewhere["other"]
    assert "one config file cannot fit both" in elsewhere["at"]
    assert "reads oss://examplebucket/serving/b.config" in elsewhere["file"]


def test_a_processor_is_no_container() -> None:
    looked = start.read(
        "old", {"metadata": {"name": "old"}, "processor": "tensorflow_cpu_2.3", "model_path": "oss://b/m"}
    )
    assert (looked.image, looked.flags) == ("", None)


# ---- model config files


def test_a_file_in_any_spelling_is_read_with_its_comments() -> None:
    text = """# all of our models
    model_config_list: { # by hand
      config: {name:"shoes",base_path:'/models/shoes/';model_platform:"tensorflow"}
      # "quoted" # twice {
      config < name: 'hats' base_path: '/models/hats' # with a } brim
        model_platform: "tensorflow" model_version_policy { latest {} } >
    } # the end"""
    found = model_file.read(text)
    assert [model.name for model in found.models] == ["shoes", "hats"]
    assert found.head == ("all of our models", "the end")
    assert found.comments == {0: ("by hand",), 1: ('"quoted" # twice {', "with a } brim")}


def test_a_field_that_the_server_refuses_is_left_out_and_told() -> None:
    found = model_file.read("model_config_list { config { name: 'm' base_path: '/m' shards: 3 } }")
    assert [model.name for model in found.models] == ["m"]
    assert 'no field named "shards"' in found.lost[0]
    assert found.lost[0].startswith("line 1, column 56: Message type"), "the report says which file"


@pytest.mark.parametrize(
    "field",
    [
        *(
            "shards: 3",
            "shards: -3",
            "shards: - 3",
            "shards: 'a' \"b}\"",
            "shards: [1, 2]",
            "shards: [{a: 1}, {b: ']'}]",
        ),
        *(
            "shards {}",
            "shards < a: 1 b { c: '}' } >",
            "shards: { a: 1 } ;",
            "shards: 3,",
            "shards # {\n : # }\n 3 # {",
        ),
    ],
)
def test_every_field_that_the_server_refuses_is_told(field: str) -> None:
    text = (
        f"model_config_list {{\n config {{ name: 'm' {field}\n base_path: '/m' {field}\n other: 1\n }} }}\nthird {{ }}"
    )
    found = model_file.read(text)
    assert [(model.name, model.base_path) for model in found.models] == [("m", "/m")]
    named = [each.partition('no field named "')[2].partition('"')[0] for each in found.lost]
    assert named == ["shards", "shards", "other", "third"]


@pytest.mark.parametrize(
    "text", ["shards", "shards {", "shards: '", "shards: 3", "model_config_list { shards: 3 config {"]
)
def test_a_field_that_is_not_known_in_a_file_that_is_none_is_told_with_what_is_wrong(text: str) -> None:
    with pytest.raises(ModelConfigError, match=r"model config file: .*no field named"):
        model_file.read(text)


@pytest.mark.parametrize(("kind", "told"), [("OTHER", "OTHER"), ("2", "OTHER"), ("7", "7"), ("0", "")])
def test_a_type_of_model_that_the_server_does_not_load_is_told_as_it_is(kind: str, told: str) -> None:
    listed = model_file.read(
        f"model_config_list {{ config {{ name: 'm' base_path: '/models/m' model_type: {kind} }} }}"
    )
    [found] = models.of_file(listed.models, HERE, {})
    assert f"its platform is {f'model_type {told}' if told else 'not set'}, and" in found.left_out


def directories(**versions: list[str]) -> dict[str, Versions]:
    return {
        name.replace("__", "/"): Directory({number: {"saved_model.pb"} for number in numbers}).versions()
        for name, numbers in versions.items()
    }


@pytest.mark.parametrize("path", ["/models//hats", "/models/../models/hats", "//models/hats/", "/models/./hats"])
def test_a_model_is_found_by_its_directory_however_the_file_spells_it(path: str) -> None:
    (found,) = models.of_file([Model("hats", path)], HERE, directories(hats=["1"]))
    assert (found.directory, found.left_out, found.versions) == ("hats", "", (1,))


@pytest.mark.parametrize("path", ["//models/shoes", "/models//shoes/", "/models/../models/shoes"])
def test_a_start_command_that_spells_the_directory_in_another_way_is_understood(path: str) -> None:
    text = f"tensorflow_model_server --rest_api_port=8501 --model_name=shop --model_base_path={path}"
    found = imported(stored(containers=[container(None, command=text) | {"script": ""}])).spec
    assert (found.command, found.model) == (text, "shoes")


def test_models_are_taken_over_as_far_as_a_stack_can_have_them() -> None:
    listed = [
        Model("shoes", "/models/shoes", policy=VersionPolicy.all(), labels={"stable": 1, "gone": 9, "a-b": 1}),
        Model("hats", "/models/hats", policy=VersionPolicy.specific([1, 4]), labels={"old": 4}),
        Model("shoes", "/models/other"),
        Model("b/c", "/models/c"),
        Model("gs", "gs://bucket/gs"),
        Model("none", "/models/none"),
        Model("platform", "/models/platform", platform=""),
        Model("missing", "/models/missing", policy=VersionPolicy.specific([5])),
        Model("bags", "/models/team-x/bags"),
    ]
    found = {
        each.model.base_path: each
        for each in models.of_file(
            listed,
            HERE,
            directories(shoes=["1", "2"], hats=["1", "007"], missing=["1"], team_x__bags=["3"])
            | {"team-x/bags": Directory({"3": {"saved_model.pb"}}).versions()},
        )
    }
    shoes = found["/models/shoes"]
    assert (dict(shoes.model.labels), shoes.versions, len(shoes.lost)) == ({"stable": 1}, (1, 2), 2)
    hats = found["/models/hats"]
    assert (hats.model.policy, dict(hats.model.labels)) == (VersionPolicy.specific([1]), {})
    assert "007 is read as version 7" in hats.lost[0]
    assert found["/models/team-x/bags"].directory == "team-x/bags"
    assert not found["/models/team-x/bags"].left_out
    reasons = {path: each.left_out for path, each in found.items() if each.left_out}
    assert set(reasons) == {
        *("/models/other", "/models/c", "gs://bucket/gs", "/models/none", "/models/platform", "/models/missing")
    }
    assert "not below /models" in reasons["gs://bucket/gs"]
    assert "no version of it is complete" in reasons["/models/none"]


def test_without_a_listing_versions_are_those_that_the_file_names() -> None:
    listed = [Model("a", "/models/a", policy=VersionPolicy.specific([1, 2]), labels={"x": 2}), Model("b", "/models/b")]
    one, other = models.of_file(listed, HERE, None)
    assert (one.versions, dict(one.model.labels)) == ((1, 2), {"x": 2})
    assert other.versions is None
    assert not other.left_out


# ---- listings


def test_a_listing_tells_models_from_strays() -> None:
    found = Listing("serving/")
    keys = ["README.md", "shoes/1/saved_model.pb", "shoes/1/variables/variables.index", "shoes/2/", "shoes/notes.txt"]
    keys += [
        "team-x/bags/3/saved_model.pb",
        "team-x/bags/3/assets/4/vocab.txt",
        "logs/2024/01/events",
        "7/saved_model.pb",
    ]
    keys += ["shoes/1.manifest.json", "model_config.pbtxt", "hats/x/saved_model.pb", "a//1/saved_model.pb"]
    for key in keys:
        found.add(f"serving/{key}")
    assert list(found.models()) == ["shoes", "team-x/bags"]
    assert found.stray_count == 5
    shoes = found.models()["shoes"].versions()
    assert shoes.complete == ()
    assert shoes.wrong == ("1 has no variables/variables.data-* file", "2 has no saved_model.pb")
    assert found.models()["team-x/bags"].versions() == Versions((3,))


def test_a_number_in_two_spellings_or_out_of_range_is_no_version_of_a_stack() -> None:
    names = ["1", "01", "2", "-1", str(2**63), "03"]
    found = Directory({name: {"saved_model.pb"} for name in names}).versions()
    assert found.complete == (2,)
    assert len(found.wrong) == 3


def test_directories_of_one_name_become_models_of_two_names() -> None:
    found = models.of_listing(
        directories(a__bags=["1"], b__bags=["1"], hats=["2"]) | {"x y": Directory({"1": {"saved_model.pb"}}).versions()}
    )
    assert [each.model.name for each in found] == ["a_bags", "b_bags", "hats", "x y"]
    assert found[-1].left_out


# ---- the draft


def test_entries_that_a_preview_refuses_become_comments_with_the_reason() -> None:
    there = {name: Directory({"1": {"saved_model.pb"}}).versions() for name in ("a.b", "c")}
    named = [Model("a.b", "/models/a.b"), Model("c", "/models/c")]
    listed = [(each, ()) for each in models.of_file(named, HERE, there)]
    made = draft.of(HERE, {}, listed, [])
    problem = Problem('tf-serving:models["a.b"].policy', "it is wrong", "right", "put it right")
    less = made.without([problem, replace(problem, path='tf-serving:models["a.b"].labels')])
    assert less is not None
    assert less.left[-2:] == (
        ("model a.b", "policy: it is wrong; allowed: right; fix: put it right"),
        ("model a.b", "labels: it is wrong; allowed: right; fix: put it right"),
    )
    assert "    # a.b:" in less.text().whole()
    assert made.without([Problem("tf-serving:bucket", "no")]) is None


# ---- models of one directory


def of_one_directory(*policies: VersionPolicy, found: Versions | None) -> draft.Draft:
    listed = [Model(f"m{index}", "/models/team-x/bags", policy=each) for index, each in enumerate(policies)]
    there = None if found is None else {"team-x/bags": found}
    return draft.of(HERE, {}, [(each, ()) for each in models.of_file(listed, HERE, there)], [])


def versions_of(made: draft.Draft) -> dict[str, Any]:
    return {each.name: each.value.get("versions") for each in made.entries[draft.MODELS] if not each.disabled}


def test_models_of_one_directory_stay_and_the_first_lists_its_versions() -> None:
    latest = VersionPolicy.latest()
    made = of_one_directory(latest, VersionPolicy.all(), latest, found=Versions((1, 3)))
    assert versions_of(made) == {"m0": [1, 3], "m1": None, "m2": None}
    assert made.left == ()


def test_models_of_one_directory_that_nobody_may_list_have_the_versions_that_any_of_them_names() -> None:
    some = (VersionPolicy.latest(), VersionPolicy.specific([3]), VersionPolicy.specific([1, 3]))
    assert versions_of(of_one_directory(*some, found=None)) == {"m1": [1, 3], "m2": None}


def test_the_next_model_of_a_directory_lists_the_versions_of_one_that_a_preview_refuses() -> None:
    made = of_one_directory(*[VersionPolicy.all()] * 3, found=Versions((1, 3)))
    less = made.without([Problem("tf-serving:models.m0.policy", "no")])
    assert less is not None
    assert versions_of(less) == {"m1": [1, 3], "m2": None}


@pytest.mark.parametrize(("name", "complete"), [("2", (1, 2, 3)), ("02", (1, 3)), ("9", (1, 2, 3))])
def test_a_file_that_is_called_like_a_version_leaves_the_version_as_it_is(name: str, complete: tuple[int, ...]) -> None:
    found = FoundDirectory(versions=("1", "2", "3"), left_out=(LeftOut(name=name, why="is a file"),))
    assert Versions.of(found).complete == complete
    assert name in Versions.of(found).wrong[0]
    assert ("is a file" in Versions.of(found).wrong[0]) == (2 in complete)
