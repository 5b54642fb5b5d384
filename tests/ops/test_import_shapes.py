"""Service JSON of any shape is an entry of a stack file, or an error of our own that names what is wrong."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ops.importing import sources
from ops.importing.checked import Checked, check, service_changes
from ops.importing.sources import ImportSourceError
from tests.config.test_any_config import JSON
from tfserving.errors import ConfigError, TFServingError
from tfserving.importing import draft, models, place, service, start
from tfserving.importing.models import Versions

CLOUD = {"alicloud:region": "cn-hangzhou"}
SERVICE: dict[str, Any] = {
    "metadata": {
        "name": "hand_a",
        "instance": 2,
        "cpu": 2,
        "memory": 4096,
        "gpu": 1,
        "gpu_memory": 8,
        "gpu_core_percentage": 10,
        "enable_grpc": False,
        "rpc": {"keepalive": 60000},
        "rolling_strategy": {"max_surge": 1, "max_unavailable": "20%"},
        "workspace_id": "123",
        "resource": "eas-r-abc",
        "shm_size": 8,
    },
    "cloud": {
        "computing": {
            "instance_type": "ecs.c7.large",
            "instances": [{"type": "ecs.c7.large", "spot_price_limit": 0.5, "capacity": "20%"}],
            "disable_spot_protection_period": True,
        },
        "networking": {"vpc_id": "vpc-1", "vswitch_id": "vsw-1", "security_group_id": "sg-1"},
    },
    "networking": {"gateway": "gw-1", "path": "/"},
    "containers": [
        {
            "image": "tensorflow-serving:2.14.1",
            "port": 8501,
            "script": "/usr/bin/tf_serving_entrypoint.sh --model_config_file=/models/model_config.pbtxt",
            "env": [{"name": "A", "value": "1"}, {"name": "URL", "value": "x://u:hunter2@db"}],
            "startup_check": {"tcp_socket": {"port": 8501}, "period_seconds": 5},
            "liveness_check": {"http_get": {"path": "/", "port": 8501}},
            "readiness_check": {"exec": {"command": ["a"]}},
        }
    ],
    "storage": [
        {"mount_path": "/models", "oss": {"path": "oss://examplebucket/serving/", "readOnly": True}},
        {"mount_path": "/code", "git": {"repo": "https://u:hunter2@host/y.git"}},
    ],
    "labels": {"a": "b", "pulumi-owner": "x/y"},
    "features": {"x": "y"},
    "token": "abc",
    "dockerAuth": "abc",
    "processor": "",
    "name": "hand_a",
    "workspace_id": "123",
}


def paths(value: Any, above: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    if above:
        yield above
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from paths(item, (*above, key))


PATHS = list(paths(SERVICE))


def valid() -> dict[str, Any]:
    """The service, without what excludes each other."""
    found = copy.deepcopy(SERVICE)
    for key in ("cpu", "memory", "gpu", "gpu_memory", "gpu_core_percentage", "resource"):
        del found["metadata"][key]
    return found


def spoilt(path: tuple[str | int, ...], value: Any) -> dict[str, Any]:
    found = copy.deepcopy(SERVICE)
    here: Any = found
    for step in path[:-1]:
        here = here[step]
    here[path[-1]] = value
    return found


def imported(text: str, directory: Path) -> Checked:
    """What the import makes of a file, as far as no bucket is asked."""
    file = directory / "service.json"
    file.write_text(text, encoding="utf-8", errors="surrogatepass")
    [found] = sources.services_of_files(sources.sort([str(file)]).jsons)
    looked = start.read(found.name, found.config)
    where, elsewhere = place.choose([looked])
    if where is None or elsewhere or not looked.image or service.secrets_of_start(looked):
        raise ImportSourceError(f"{elsewhere}")
    read = service.read(
        looked, where, "cn-hangzhou", models={"shoes": "shoes"}, labels=False, own_labels=sources.OWN_LABELS
    )
    listed = models.of_listing({"shoes": Versions((1,))})
    made = check(draft.of(where, CLOUD, [(each, ()) for each in listed], [(read, {}, found.comments)]), {})
    made.draft.text().whole().encode()
    if made.settings is not None:
        service_changes(made.settings, "tf-serving/prod", {found.name: found.config})
    return made


def problems(value: Any, directory: Path) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        imported(json.dumps(value), directory)
    return [str(problem) for problem in caught.value.problems]


def or_an_error_of_ours(value: Any, directory: Path, *, named: bool = False) -> None:
    """The one or the other; only what bears ``hunter2`` as its name may be written with it."""
    try:
        made = imported(json.dumps(value), directory)
    except TFServingError as error:
        str(error).encode()
    else:
        assert named or "hunter2" not in made.draft.text().whole()


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shapes")


VALUES = [None, "x", "2", "true", -3, 1.5, True, [], [1], [None], {}, {"k": {}}, [{}]]
VALUES += [10**30, float("nan"), "\ud800", "x://u:hunter2@y", {"password": {"k": ["hunter2"]}}]


@pytest.mark.parametrize("path", PATHS, ids=str)
def test_a_value_of_any_kind_in_any_place_is_taken_over_or_an_error_of_ours(
    path: tuple[str | int, ...], directory: Path
) -> None:
    for value in VALUES:
        or_an_error_of_ours(spoilt(path, value), directory, named=path[-1] in ("name", "mount_path"))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(PATHS) | st.just(()), JSON)
def test_json_of_any_shape_is_taken_over_or_an_error_of_ours(
    directory: Path, path: tuple[str | int, ...], value: Any
) -> None:
    or_an_error_of_ours(spoilt(path, value) if path else value, directory)


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        (("metadata", "rpc"), 60000, "metadata.rpc: 60000 is not an object. Allowed: an object with `keepalive`."),
        (("cloud",), "ecs.c7.large", 'cloud: "ecs.c7.large" is not an object.'),
        (("storage",), [None], "storage[0]: null is not an object."),
        (
            ("storage",),
            {"mount_path": "/models"},
            "storage: an object is not a list. Allowed: a list of objects. Fix: put it in brackets.",
        ),
        (("containers", 0, "env"), 3, "containers[0].env: 3 is not a list."),
        (("containers", 0, "env"), {"DB_PASSWORD": "hunter2"}, "Fix: write each as an object with `name`, `value`."),
        (("containers", 0, "env"), "DB_PASSWORD=hunter2", "env: a text that may hold a secret is not a list."),
        (("containers", 0, "env"), [{"value": "1"}], "containers[0].env[0].name: is missing."),
        (("containers", 0, "env", 1, "name"), "A", 'env[1].name: "A" is that of containers[0].env[0] as well.'),
        (("storage", 1, "mount_path"), "/models/", 'storage[1].mount_path: "/models" is that of storage[0] as well.'),
        (("containers", 0, "readiness_check", "exec"), "x", 'readiness_check.exec: "x" is not an object.'),
        (("containers", 0, "command"), ["a"], "containers[0].command: a list is not a text."),
        (("networking",), "x", 'networking: "x" is not an object.'),
        (("metadata", "instance"), -3, "metadata.instance: -3 is not a whole number, 0 or more."),
        (("metadata", "instance"), 1.5, "metadata.instance: 1.5 is not a whole number, 0 or more."),
        (("metadata", "instance"), True, "metadata.instance: true is not a whole number, 0 or more."),
        (("labels",), {"a": [1]}, "labels.a: a list is not a text, a number or a boolean."),
        (("features",), {"x": "\ud800"}, 'features.x: "\\ud800" holds half of a character.'),
    ],
)
def test_what_has_another_shape_is_told_with_its_path_its_value_and_what_is_allowed(
    path: tuple[str | int, ...], value: Any, told: str, directory: Path
) -> None:
    [problem] = problems(spoilt(path, value), directory)
    assert told in problem
    assert "hunter2" not in problem


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("null", "it is null, and no service JSON"),
        ("[1]", "it is a list, and no service JSON"),
        ('"x"', 'it is "x", and no service JSON'),
        ("3", "it is 3, and no service JSON"),
        ("{}", "metadata.name: is missing"),
        ('{"metadata": {"name": ""}}', "metadata.name: is missing"),
        ('{"ServiceConfig": "[]"}', "it is a list, and no service JSON"),
        ("x", "is not JSON"),
        ("", "is not JSON"),
        ('{"metadata": {"name": "a", "cpu": NaN}}', "NaN is no number of JSON"),
        ('{"metadata": {"name": "a", "cpu": 1e999}}', "1e999 is no number of JSON"),
        ('{"ServiceConfig": "{"}', "ServiceConfig in"),
        ('{"a":' * 60 + "1" + "}" * 60, "nested more than 50 levels deep"),
        ("[" * 100_000, "is not JSON"),
    ],
)
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_json_file_is_taken_for_json_and_told_what_is_wrong_with_it(
    text: str, told: str, mark: str, directory: Path
) -> None:
    with pytest.raises(TFServingError) as caught:
        imported(mark + text, directory)
    assert told in str(caught.value)


def test_all_problems_of_all_files_are_told_together(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.json").write_text(json.dumps({"metadata": {"rpc": 1, "gpu": "x"}}), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        sources.services_of_files([tmp_path / "one.json", tmp_path / "two.json"])
    paths_ = [problem.path.removeprefix(f"{tmp_path}/") for problem in caught.value.problems]
    assert paths_ == [f"{name}.json: metadata.{key}" for name in ("one", "two") for key in ("rpc", "gpu")]


def test_json_with_a_byte_order_mark_is_read(directory: Path) -> None:
    assert imported("\ufeff" + json.dumps(valid()), directory).settings is not None


def test_a_number_and_a_boolean_in_quotes_are_what_they_stand_for(directory: Path) -> None:
    made = imported(json.dumps(spoilt(("metadata", "instance"), "3")), directory)
    assert made.draft.entries["tf-serving:services"][0].value["replicas"] == 3
    made = imported(json.dumps(spoilt(("metadata", "enable_grpc"), "true")), directory)
    assert made.draft.entries["tf-serving:services"][0].value["grpc"] is True


def test_a_label_without_a_value_and_one_that_is_no_text_stay_as_they_are(directory: Path) -> None:
    made = imported(json.dumps(spoilt(("labels",), {"a": None, "b": True, "c": 3, "d": "x"})), directory)
    value = made.draft.entries["tf-serving:services"][0].value
    assert value["labels"] == {"a": "", "b": "true", "c": "3", "d": "x"}
    assert not any("labels" in line for line in map(str, made.draft.left))


@pytest.mark.parametrize(
    "secret",
    [
        "postgres://u:hunter2@db/x",
        "amqp://:hunter2@queue",
        "https://hunter2@host/y.git",
        "-Djavax.password=hunter2 -Xmx1g",
        '{"password": "hunter2"}',
        "jdbc:mysql://db/x?user=u&password=hunter2",
        "Authorization: Bearer hunter2",
        "-----BEGIN PRIVATE KEY-----\nhunter2",
    ],
)
def test_what_looks_like_a_secret_is_never_written_wherever_it_stands(directory: Path, secret: str) -> None:
    config = valid()
    container = config["containers"][0]
    container["env"] += [{"name": "PLAIN", "value": secret}, {"name": "DB_PWD", "value": "hunter2"}]
    config["storage"] += [{"mount_path": "/more", "nfs": {"path": "/"}, "git": {"repo": secret}}]
    config["storage"][0]["oss"]["endpoint"] = secret
    config["labels"] |= {"c": secret, "token": "hunter2"}
    config["containers"].append({"image": "side:1", "command": "run", "env": [{"name": "S", "value": secret}]})
    config["features"]["a"] = [secret]
    config["dockerAuth"] = {"auths": {"registry": {"auth": "hunter2"}}}
    made = imported(json.dumps(config), directory)
    text = made.draft.text().whole()
    assert "hunter2" not in text
    assert made.settings is not None
    told = "\n".join(made.draft.first)
    for at in (
        "env.PLAIN",
        "env.DB_PWD",
        "labels.c",
        "labels.token",
        "extraConfig.storage[0].git.repo",
        "extraConfig.storage[1].git.repo",
        "extraConfig.storage[2].oss.endpoint",
        "extraConfig.containers[1].env[0].value",
        "extraConfig.features.a",
        "extraConfig.dockerAuth.auths.registry.auth",
    ):
        assert f"'tf-serving:services.hand_a.{at}'" in told, told
    extra = made.draft.entries["tf-serving:services"][0].value["extraConfig"]
    assert [each["mount_path"] for each in extra["storage"]] == ["/code", "/more", "/models"]
    assert extra["containers"][1]["env"][0]["name"] == "S"


@pytest.mark.parametrize("where", ["script", "command"])
@pytest.mark.parametrize("word", ["export PASSWORD=hunter2;", "--url=x://u:hunter2@y"])
def test_a_secret_in_a_start_command_leaves_the_service_out(where: str, word: str) -> None:
    config = {"containers": [{"image": "tensorflow/serving:2.14.1", where: f"{word} tensorflow_model_server"}]}
    assert service.secrets_of_start(start.read("a", config)) == [f"containers[0].{where}"]


@pytest.mark.parametrize("flag", ["--use_alts_credentials=true", "--x_token=$TOKEN", "--model_name=tokenizer"])
def test_a_switch_and_a_variable_are_no_secrets(flag: str) -> None:
    config = {"containers": [{"image": "tensorflow/serving:2.14.1", "script": f"tensorflow_model_server {flag}"}]}
    assert service.secrets_of_start(start.read("a", config)) == []
