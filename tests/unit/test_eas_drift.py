from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfserving import eas_drift, eas_spec
from tfserving.eas_drift import OTHER_SECRET, SECRET

DECLARED: dict[str, Any] = eas_spec.build(
    eas_spec.ServiceSpec(
        name="multi_http",
        region="cn-hangzhou",
        bucket="examplebucket",
        root="models/tf_serving/",
        config_file=True,
        config_poll_seconds=30,
        allow_labels_for_unavailable_versions=True,
        replicas=2,
        env={"LOG_LEVEL": "1", "API_TOKEN": "env-secret"},
        token="the-token",
        rolling_strategy=eas_spec.RollingStrategy(),
    )
)


def stored(declared: dict[str, Any] = DECLARED) -> dict[str, Any]:
    """What a server makes of a config: other number types, another order, defaults, another spelling of paths."""
    config = copy.deepcopy(declared)
    config["metadata"] |= {"instance": float(declared["metadata"]["instance"]), "enable_webservice": False}
    config["metadata"]["rpc"] = {"keepalive": "60000", "max_queue_size": 64}
    config["metadata"]["cpu"] = 2
    config["containers"][0]["env"] = [{"name": "EAS_REGION", "value": "cn-hangzhou"}, *config["containers"][0]["env"]]
    config["storage"][0]["oss"]["path"] = "oss://examplebucket/models/tf_serving"
    config["cloud"]["computing"] = {"instance_type": "ecs.c7.large"}
    config["labels"] = {}
    config["token"] = "******"
    config["workspace_id"] = "42"
    return {key: config[key] for key in sorted(config)}


def drift(server: dict[str, Any], declared: dict[str, Any] = DECLARED, **options: Any) -> dict[str, tuple[Any, Any]]:
    base = eas_drift.baseline(stored(), DECLARED)
    return eas_drift.drift(declared, server, base, **{"autoscaled": False, **options})


def test_what_the_server_adds_rewrites_and_hides_never_shows() -> None:
    assert drift(stored()) == {}
    base = eas_drift.baseline(stored(), DECLARED)
    assert eas_drift.actual(DECLARED, stored(), base, autoscaled=False) == DECLARED


def test_without_a_baseline_only_documented_defaults_are_known() -> None:
    shown = eas_drift.drift(DECLARED, stored(), {}, autoscaled=False)
    assert shown == {
        "metadata.cpu": (None, 2),
        "containers[0].env[2].value": (None, "cn-hangzhou"),
        "metadata.workspace_id": (None, "42"),
        "token": (SECRET, OTHER_SECRET),
    }


def test_a_changed_setting_shows_with_both_values() -> None:
    server = stored()
    server["containers"][0]["image"] = "other:1"
    server["metadata"]["rpc"]["keepalive"] = 5000
    image = DECLARED["containers"][0]["image"]
    assert drift(server) == {"containers[0].image": (image, "other:1"), "metadata.rpc.keepalive": (60000, 5000)}


def test_a_changed_default_shows_with_the_value_it_had() -> None:
    server = stored()
    server["metadata"]["rpc"]["max_queue_size"] = 1
    server["metadata"]["cpu"] = 8
    assert drift(server) == {"metadata.rpc.max_queue_size": (64, 1), "metadata.cpu": (2, 8)}


def test_a_setting_added_in_the_console_shows() -> None:
    server = stored()
    server["metadata"]["gpu"] = 1
    server["features"] = {"eas.aliyun.com/gpu-driver-version": "x"}
    assert drift(server) == {
        "metadata.gpu": (None, 1),
        'features["eas.aliyun.com/gpu-driver-version"]': (None, "x"),
    }


def test_a_declared_setting_that_is_gone_shows_by_its_declared_position() -> None:
    server = stored()
    server["containers"][0]["env"] = [item for item in server["containers"][0]["env"] if item["name"] != "LOG_LEVEL"]
    del server["metadata"]["rolling_strategy"]
    assert [item["name"] for item in DECLARED["containers"][0]["env"]] == ["API_TOKEN", "LOG_LEVEL"]
    assert drift(server) == {
        "containers[0].env[1].value": ("1", None),
        "metadata.rolling_strategy.max_surge": (1, None),
        "metadata.rolling_strategy.max_unavailable": (0, None),
    }


def test_a_default_that_the_server_no_longer_returns_does_not_show() -> None:
    server = stored()
    del server["metadata"]["cpu"]
    del server["workspace_id"]
    assert drift(server) == {}


def test_variables_and_mounts_are_told_apart_by_name_not_by_position() -> None:
    server = stored()
    server["containers"][0]["env"].reverse()
    server["storage"] = [{"mount_path": "/data", "oss": {"path": "oss://b/"}}, *server["storage"]]
    assert drift(server) == {"storage[1].oss.path": (None, "oss://b/")}


@pytest.mark.parametrize("shown", [{"workspace_id": "42"}, {"metadata": {"workspace_id": "42"}}, {}], ids=str)
def test_the_workspace_is_one_setting_wherever_the_server_shows_it(shown: dict[str, Any]) -> None:
    declared = {"metadata": {"name": "x", "workspace_id": "42"}}
    server = {**shown, "metadata": {"name": "x", "workspace_id": "42", **shown.get("metadata", {})}}
    assert eas_drift.drift(declared, server, {}, autoscaled=False) == {}
    assert (
        eas_drift.drift(declared, {**server, "metadata": {"name": "x"}, "workspace_id": 42.0}, {}, autoscaled=False)
        == {}
    )
    other = {"metadata": {"name": "x"}, "workspace_id": "43"}
    assert eas_drift.drift(declared, other, {}, autoscaled=False) == {"metadata.workspace_id": ("42", "43")}


def test_a_list_of_words_is_one_value() -> None:
    declared = {"containers": [{"startup_check": {"exec": {"command": ["test", "1"]}}}]}
    same = {"containers": [{"startup_check": {"exec": {"command": ["test", 1.0]}}}]}
    other = {"containers": [{"startup_check": {"exec": {"command": ["test", "2"]}}}]}
    assert eas_drift.drift(declared, same, {}, autoscaled=False) == {}
    assert eas_drift.drift(declared, other, {}, autoscaled=False) == {
        "containers[0].startup_check.exec.command": (["test", "1"], ["test", "2"])
    }


def test_the_replica_count_of_an_autoscaled_service_never_shows() -> None:
    server = stored()
    server["metadata"]["instance"] = 7
    assert drift(server) == {"metadata.instance": (2, 7)}
    assert drift(server, autoscaled=True) == {}


def test_a_key_we_removed_that_the_server_still_has_shows() -> None:
    declared = copy.deepcopy(DECLARED)
    del declared["metadata"]["rolling_strategy"]
    declared["containers"][0]["env"] = declared["containers"][0]["env"][:1]
    base = eas_drift.baseline(stored(), declared, DECLARED)
    assert eas_drift.drift(declared, stored(), base, autoscaled=False) == {
        # max_unavailable: 0 is a documented default.
        "metadata.rolling_strategy.max_surge": (None, 1),
        # Position 1 is the one behind the declared ones.
        "containers[0].env[2].value": (None, "1"),
    }


@pytest.mark.parametrize(
    "path",
    [("metadata", "cpu"), ("metadata", "memory"), ("metadata", "workspace_id"), ("cloud", "networking", "vpc_id")],
)
def test_a_key_we_removed_that_eas_fills_in_again_is_eass_until_it_changes(path: tuple[str, ...]) -> None:
    def having(value: Any) -> dict[str, Any]:
        config = copy.deepcopy(DECLARED)
        here: dict[str, Any] = config
        for key in path[:-1]:
            here = here.setdefault(key, {})
        here.pop(path[-1], None)
        return config if value is None else (here.__setitem__(path[-1], value), config)[1]

    declared, before = having(None), having("77")
    base = eas_drift.baseline(before, declared, before)
    assert eas_drift.drift(declared, before, base, autoscaled=False) == {}
    assert eas_drift.drift(declared, having("78"), base, autoscaled=False) == {".".join(path): ("77", "78")}


def test_a_key_we_removed_that_went_back_to_its_default_does_not_show() -> None:
    declared = copy.deepcopy(DECLARED)
    del declared["metadata"]["rolling_strategy"]
    server = stored()
    server["metadata"]["rolling_strategy"] = {"max_surge": "2%", "max_unavailable": 1}
    base = eas_drift.baseline(server, declared, DECLARED)
    assert eas_drift.drift(declared, server, base, autoscaled=False) == {}


def test_a_baseline_holds_no_secret() -> None:
    server = stored()
    server["token"] = "the-token"
    server["dockerAuth"] = "dXNlcjpwYXNz"
    server["containers"][0]["env"].append({"name": "DB_PASSWORD", "value": "hunter2"})
    base = eas_drift.baseline(server, DECLARED, secrets={"metadata.workspace_id"})
    text = json.dumps(base)
    for secret in ("the-token", "env-secret", "dXNlcjpwYXNz", "hunter2", '"42"'):
        assert secret not in text
    assert base["token"] == SECRET
    assert base["dockerAuth"] == OTHER_SECRET
    assert server["token"] == "the-token"


def test_a_changed_secret_shows_without_its_value() -> None:
    server = stored() | {"token": "the-token"}
    base = eas_drift.baseline(server, DECLARED)
    changed = copy.deepcopy(server)
    changed["token"] = "stolen"
    changed["containers"][0]["env"][1]["value"] = "changed"
    changed["dockerAuth"] = "new"
    shown = eas_drift.drift(DECLARED, changed, base, autoscaled=False)
    assert shown == {
        "containers[0].env[0].value": (SECRET, OTHER_SECRET),
        "token": (SECRET, OTHER_SECRET),
        "dockerAuth": (None, SECRET),
    }
    assert eas_drift.actual(DECLARED, changed, base, autoscaled=False)["token"] == "stolen"


@pytest.mark.parametrize("url", ["mysql://u:hunter2@db/x", "https://hunter2@host/y.git"])
def test_a_text_that_looks_like_a_secret_is_one_whatever_it_is_called(url: str) -> None:
    declared = {"storage": [{"mount_path": "/code", "git": {"repo": "https://host/y.git"}}]}
    server = {"storage": [{"mount_path": "/code", "git": {"repo": url}}]}
    assert eas_drift.drift(declared, server, declared, autoscaled=False) == {
        "storage[0].git.repo": (SECRET, OTHER_SECRET)
    }
    assert "hunter2" not in str(eas_drift.baseline(server, declared))
    rest, [hidden] = eas_drift.without_secrets(server)
    assert (rest, hidden.path) == ({"storage": [{"mount_path": "/code"}]}, "storage[0].git.repo")


def test_a_state_of_an_earlier_release_that_holds_such_a_text_previews_without_a_change() -> None:
    declared = {"storage": [{"mount_path": "/code", "git": {"repo": "https://u:hunter2@host/y"}}]}
    rewritten = {"storage": [{"mount_path": "/code", "git": {"repo": "https://u:***@host/y"}}]}
    assert eas_drift.drift(declared, rewritten, rewritten, autoscaled=False) == {}


def test_a_secret_named_by_the_caller_is_masked_too() -> None:
    server = stored()
    server["containers"][0]["image"] = "other:1"
    shown = drift(server, secrets=["containers[0].image"])
    assert shown == {"containers[0].image": (SECRET, OTHER_SECRET)}


def test_a_token_made_or_masked_by_the_server_does_not_show() -> None:
    undeclared = {key: value for key, value in DECLARED.items() if key != "token"}
    server = stored() | {"token": "made-by-eas"}
    base = eas_drift.baseline(server, undeclared)
    assert eas_drift.drift(undeclared, server | {"token": "rotated"}, base, autoscaled=False) == {}
    assert eas_drift.drift(undeclared, server, {}, autoscaled=False).keys() == {
        "metadata.cpu",
        "containers[0].env[2].value",
        "metadata.workspace_id",
    }
    # Returned as asterisks from the start, whatever they are later.
    assert drift(stored() | {"token": "***"}) == {}


def test_a_secret_that_is_gone_shows_only_if_the_server_had_returned_it() -> None:
    hidden = {key: value for key, value in stored().items() if key != "token"}
    assert drift(hidden) == {"token": (SECRET, None)}
    base = eas_drift.baseline(hidden, DECLARED)
    assert eas_drift.drift(DECLARED, hidden, base, autoscaled=False) == {}


def test_what_a_refresh_reports_differs_from_the_declared_config_exactly_where_it_drifted() -> None:
    server = stored()
    server["containers"][0]["image"] = "other:1"
    server["containers"][0]["env"] = [{"name": "NEW", "value": "x"}, {"name": "API_TOKEN", "value": "env-secret"}]
    server["storage"].append({"mount_path": "/data", "oss": {"path": "oss://b/"}})
    del server["metadata"]["rpc"]
    expected = copy.deepcopy(DECLARED)
    expected["containers"][0]["image"] = "other:1"
    expected["containers"][0]["env"] = [{"name": "API_TOKEN", "value": "env-secret"}, {"name": "NEW", "value": "x"}]
    expected["storage"].append({"mount_path": "/data", "oss": {"path": "oss://b/"}})
    del expected["metadata"]["rpc"]
    base = eas_drift.baseline(stored(), DECLARED)
    assert eas_drift.actual(DECLARED, server, base, autoscaled=False) == expected


def test_several_removed_elements_leave_the_right_ones() -> None:
    declared = {"containers": [{"image": "a"}, {"image": "b", "port": 1}, {"image": "c", "port": 2}]}
    assert eas_drift.actual(declared, {"containers": [{"image": "a"}]}, declared, autoscaled=False) == {
        "containers": [{"image": "a"}]
    }


def test_one_instance_type_is_the_same_as_a_list_of_one() -> None:
    short = {"cloud": {"computing": {"instance_type": "ecs.c7.large"}}}
    long = {"cloud": {"computing": {"instances": [{"type": "ecs.c7.large"}]}}}
    assert eas_drift.drift(short, long, {}, autoscaled=False) == {}
    other = {"cloud": {"computing": {"instances": [{"type": "ecs.c7.xlarge"}]}}}
    assert eas_drift.drift(short, other, {}, autoscaled=False) == {
        "cloud.computing.instances[0].type": ("ecs.c7.large", "ecs.c7.xlarge")
    }
    assert eas_drift.actual(short, other, {}, autoscaled=False) == other


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (2, 2.0, True),
        (2, "2", True),
        (0.5, "0.50", True),
        (10**6, "1000000", True),
        (-1, "-1.0", True),
        (True, "true", True),
        (True, 1, False),
        (False, None, False),
        ("a", "A", False),
        (2, "02", False),
        ("2%", 2, False),
        ([1, 2], ["1", 2.0], True),
        ([1, 2], [2, 1], False),
        ([1], 1, False),
        ("1.2.0", "1.2", False),
        (1e-7, 1e-7, True),
    ],
)
def test_values_are_equal_by_what_they_say(one: object, other: object, same: bool) -> None:
    assert eas_drift.equivalent(one, other) is same
    assert eas_drift.equivalent(other, one) is same


_LEAF = st.booleans() | st.integers(-5, 100) | st.sampled_from(["", "x", "2", "true", "/models"])
_CONFIG = st.fixed_dictionaries(
    {},
    optional={
        "metadata": st.dictionaries(st.sampled_from(["instance", "cpu", "a.b", "rpc"]), _LEAF),
        "containers": st.lists(
            st.fixed_dictionaries(
                {"image": st.sampled_from(["a", "b"])},
                optional={
                    "env": st.lists(
                        st.fixed_dictionaries({"name": st.sampled_from(["A", "B", "MY_SECRET"]), "value": _LEAF}),
                        unique_by=lambda item: item["name"],
                    )
                },
            ),
            max_size=2,
        ),
        "storage": st.lists(
            st.fixed_dictionaries(
                {"mount_path": st.sampled_from(["/a", "/b", "/c"])},
                optional={"oss": st.fixed_dictionaries({"path": st.sampled_from(["oss://x", "oss://y/"])})},
            ),
            unique_by=lambda item: item["mount_path"],
        ),
        "token": st.sampled_from(["t1", "t2"]),
        "labels": st.dictionaries(st.sampled_from(["k", "l/m.n"]), st.text(max_size=2)),
    },
)


@given(_CONFIG, _CONFIG)
def test_right_after_a_write_nothing_has_drifted_whatever_the_server_made_of_it(
    declared: dict[str, Any], server: dict[str, Any]
) -> None:
    base = eas_drift.baseline(server, declared)
    assert eas_drift.drift(declared, server, base, autoscaled=False) == {}
    assert eas_drift.actual(declared, server, base, autoscaled=False) == declared


@given(_CONFIG, _CONFIG, _CONFIG)
def test_what_a_refresh_reports_is_in_step_with_the_drift(
    declared: dict[str, Any], written: dict[str, Any], server: dict[str, Any]
) -> None:
    base = eas_drift.baseline(written, declared)
    shown = eas_drift.drift(declared, server, base, autoscaled=True)
    reported = eas_drift.actual(declared, server, base, autoscaled=True)
    # As JSON: to Python, 0 is False.
    texts = [json.dumps(eas_drift.normalize(each), sort_keys=True) for each in (reported, declared)]
    assert (texts[0] == texts[1]) == (not shown)
    # Declared as it is on the server, there is no difference left.
    assert eas_drift.drift(reported, server, base, autoscaled=True) == {}


@given(_CONFIG)
def test_normalizing_twice_changes_nothing_more(config: dict[str, Any]) -> None:
    once = eas_drift.normalize(config)
    assert eas_drift.normalize(once) == once
