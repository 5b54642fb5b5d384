"""Arguments of a component: options by either name, and outputs of other resources as stand-ins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.arguments import Arguments, Entries, Outputs, read_arguments
from config.bucket import BucketSettings
from config.models import ModelOptions, VersionsFrom
from config.services import ServiceSettings
from config.stack import StackOptions
from tfserving import eas_spec
from tfserving.contract.gates import Agreement, Latency
from tfserving.errors import Problem
from tfserving.kubernetes.description import GrpcIngress
from tfserving.late_values import LateValues, is_stand_in, put_back

SERVICE = (eas_spec.ServiceSpec, ServiceSettings)


@dataclass(frozen=True)
class Late:
    """Stands for an output."""

    name: str


OUTPUTS = Outputs(is_late=lambda value: isinstance(value, Late), part=lambda value, key, _: Late(f"{value.name}.{key}"))


def read(given: dict[str, Any], shape: Any = SERVICE, **more: Any) -> Arguments:
    return read_arguments(given, shape, OUTPUTS, **more)


def restored(found: Arguments) -> Any:
    return put_back(found.values, found.late, lambda parts: ("joined", *parts))


def test_an_option_has_its_python_name_or_its_key() -> None:
    found = read({"config_poll_seconds": 30, "configFile": True, "vpc": {"vpc_id": "vpc-1", "vswitchIds": ["vsw-1"]}})
    assert found.values == {
        "configPollSeconds": 30,
        "configFile": True,
        "vpc": {"vpcId": "vpc-1", "vswitchIds": ["vsw-1"]},
    }
    assert found.problems == []


def test_an_option_that_is_given_under_both_names_is_a_problem() -> None:
    found = read({"rpc_keepalive_ms": 1, "rpcKeepaliveMs": 2})
    assert [problem.path for problem in found.problems] == ["rpcKeepaliveMs"]


def test_both_names_are_told_as_they_were_written() -> None:
    found = read({"rpc_keepalive_ms": 1, "rpcKeepaliveMs": 2})
    said = found.as_written(found.problems[0])
    assert said.message == "`rpc_keepalive_ms` and `rpcKeepaliveMs` are the same option"
    twice = read_arguments({"a_b": 1, "aB": 2}, (), OUTPUTS, more={"aB": "a_b"})
    assert twice.as_written(twice.problems[0]).message == "`a_b` and `aB` are the same argument"


@pytest.mark.parametrize(
    "given",
    [
        {"labels": {None: "x"}},
        {"labels": {True: "x"}},
        {"labels": {1.5: "x"}},
        {"labels": {b"k": "x"}},
        {"labels": {("a", 1): "x"}},
        {"labels": {Late("a"): "x"}},
        {"env": {None: "x"}},
        {"vpc": {None: "x"}},
        {"extra_config": {"metadata": {"deep": [{None: 1}]}}},
        {None: 1},
    ],
    ids=str,
)
def test_a_key_is_a_text_or_a_whole_number(given: dict[Any, Any]) -> None:
    [problem] = read(given).problems
    assert "is not a key" in problem.message
    assert problem.allowed == "a text or a whole number"


def test_models_by_a_name_that_is_none_are_refused_too() -> None:
    found = read({"models": {None: {}, 7: {}}}, (StackOptions,), own={"models": Entries(shape=(ModelOptions,))})
    assert [problem.message for problem in found.problems] == ["None is not a key"]
    assert found.values == {"models": {"7": {}}}


def test_a_number_and_its_text_are_one_key() -> None:
    [problem] = read({"labels": {1: "x", "1": "y"}}).problems
    assert problem.message == "1 and '1' are the same key"


@pytest.mark.parametrize(
    ("shape", "key", "names"),
    [
        (SERVICE, "healthCheck", ("health_check", "healthCheck", "health_checks")),
        ((GrpcIngress,), "class", ("class", "class_", "ingress_class")),
        ((VersionsFrom,), "from", ("from", "from_", "source")),
        ((Agreement,), "with", ("with", "with_")),
    ],
)
def test_an_option_is_called_as_docs_and_schema_call_it(shape: Any, key: str, names: tuple[str, ...]) -> None:
    for name in names:
        found = read({name: None} if key == "healthCheck" else {name: "x"}, shape)
        assert found.values == ({} if key == "healthCheck" else {key: "x"})
        assert found.as_written(Problem(key, "")).path == name
    assert read({}, shape).as_written(Problem(key, "")).path == names[0]
    assert read({key: None}, shape, translated=True).as_written(Problem(key, "")).path == names[0]


def test_keys_with_numbers_in_them_are_told_in_python_names_too() -> None:
    said = read({"p99_ms": 1}, (Latency,)).as_written(Problem("p99Ms", "x", "p99Ms, p99Ratio or both"))
    assert (said.path, said.allowed) == ("p99_ms", "p99_ms, p99_ratio or both")


def test_names_of_ones_own_stay_as_they_are() -> None:
    given = {"env": {"vpc_id": "x", "configPollSeconds": "y"}, "labels": {"config_file": "z"}}
    assert read(given).values == given


@pytest.mark.parametrize(
    ("given", "form"),
    [
        ({"vpc": {"vpc_id": Late("a")}}, "vpc-"),
        ({"vpc": {"security_group_id": Late("a")}}, "sg-"),
        ({"gateway": Late("a")}, "gw-"),
        ({"resource": Late("a")}, "eas-r-"),
        ({"image": Late("a")}, "registry/"),
        ({"token": Late("a")}, "late"),
        ({"env": {"KEY": Late("a")}}, "late"),
        ({"labels": {"team": Late("a")}}, "late"),
        ({"extra_config": {"metadata": {"x": [1, {"y": Late("a")}]}}}, "late"),
    ],
)
def test_an_output_stands_in_where_nothing_depends_on_its_value(given: dict[str, Any], form: str) -> None:
    found = read(given)
    assert found.problems == []
    [text] = found.late.forms.values()
    assert text.startswith(form)
    assert is_stand_in(text)
    assert "late" in str(found.values)
    assert Late("a") in found.late.values.values()


def test_a_list_of_outputs_and_a_late_list_both_come_back() -> None:
    some = read({"vpc": {"vswitch_ids": [Late("a"), "vsw-b"]}})
    assert restored(some)["vpc"]["vswitchIds"] == [Late("a"), "vsw-b"]
    whole = read({"vpc": {"vswitch_ids": Late("all")}})
    assert restored(whole)["vpc"]["vswitchIds"] == Late("all")
    [stand_in] = whole.values["vpc"]["vswitchIds"]
    in_text = put_back({"ids": stand_in, "more": f"{stand_in},vsw-b"}, whole.late, lambda parts: parts)
    assert in_text == {"ids": [Late("all")], "more": [Late("all"), ",vsw-b"]}


def test_a_late_mapping_is_taken_apart_where_all_its_parts_may_be_late() -> None:
    found = restored(read({"vpc": Late("network")}))
    assert found["vpc"] == {
        "vpcId": Late("network.vpcId"),
        "vswitchIds": Late("network.vswitchIds"),
        "securityGroupId": Late("network.securityGroupId"),
    }


def test_late_tags_come_back_as_a_whole() -> None:
    found = read({"name": "models", "tags": Late("tags")}, (BucketSettings,))
    assert found.problems == []
    assert restored(found) == {"name": "models", "tags": Late("tags")}


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ({"replicas": Late("a")}, "replicas"),
        ({"grpc": Late("a")}, "grpc"),
        ({"flags": {"x": Late("a")}}, "flags.x"),
        ({"env": Late("a")}, "env"),
        ({"autoscaler": {"min": 1, "metrics": {"qps": Late("a")}}}, "autoscaler.metrics.qps"),
        ({"health_check": {"startup": {"command": ["a", Late("b")]}}}, "health_check.startup.command[1]"),
    ],
)
def test_an_output_in_another_place_is_a_problem_that_names_it_as_it_was_written(
    given: dict[str, Any], path: str
) -> None:
    found = read(given)
    [problem] = found.problems
    assert found.as_written(problem).path == path
    assert "output" in problem.message
    assert problem.allowed == "a plain value"


def test_models_by_name_are_plain() -> None:
    given = {"models": {"m": {"policy": {"specific": [Late("v")]}, "labels": {"stable": Late("n")}}}}
    found = read(given, (StackOptions,), own={"models": Entries(shape=(ModelOptions,))})
    assert sorted(problem.path for problem in found.problems) == [
        "models.m.labels.stable",
        "models.m.policy.specific[0]",
    ]


def test_services_by_name_have_the_options_of_where_they_run() -> None:
    given = {"services": {"a": {"vpc": {"vpc_id": Late("x")}, "config_file": True}}}
    found = read(given, (StackOptions,), own={"services": Entries(shape=lambda entry: SERVICE)})
    assert found.problems == []
    assert found.values["services"]["a"]["configFile"] is True
    assert restored(found)["services"]["a"]["vpc"]["vpcId"] == Late("x")


@pytest.mark.parametrize(
    ("caller", "path", "fix"),
    [
        ({"python": True, "translated": True}, "vpc.security_group_id", "set security_group_id"),
        ({"python": False, "translated": True}, "vpc.securityGroupId", "set securityGroupId"),
        ({"python": True}, "vpc.security_group_id", "set security_group_id"),
    ],
)
def test_names_that_came_as_keys_are_told_in_the_callers_language(caller: dict[str, bool], path: str, fix: str) -> None:
    found = read({"vpc": {"vpcId": "vpc-1"}, "env": {"vpcId": "configPollSeconds"}}, **caller)
    said = found.as_written(Problem("vpc.securityGroupId", "needs vpcId, not `vpcId`", fix="set securityGroupId"))
    assert (said.path, said.fix) == (path, fix)
    assert said.message.endswith("not `vpcId`"), "a value stays what it is"
    assert found.as_written(Problem("env.vpcId", "")).path == "env.vpcId", "a name of one's own, too"
    vpc = found.as_written(Problem("vpc.vpcId", "")).path
    assert vpc == ("vpc.vpc_id" if caller == {"python": True, "translated": True} else "vpc.vpcId")


def test_a_problem_has_the_path_of_the_callers_language() -> None:
    found = read({"vpc": {"vpc_id": "x"}, "config_poll_seconds": "soon", "env": {"configPollSeconds": "x"}})
    shown = [
        found.as_written(Problem(path, "")).path
        for path in ("vpc.vpcId", "vpc.securityGroupId", "configPollSeconds", "env.configPollSeconds", "rpcKeepaliveMs")
    ]
    assert shown == [
        "vpc.vpc_id",
        "vpc.security_group_id",
        "config_poll_seconds",
        "env.configPollSeconds",
        "rpc_keepalive_ms",
    ]
    other = read({"configPollSeconds": "soon"}, python=False)
    assert other.as_written(Problem("vpc.securityGroupId", "")).path == "vpc.securityGroupId"


@given(st.lists(st.one_of(st.text(max_size=8), st.integers(0, 3)), max_size=6))
def test_texts_with_stand_ins_come_apart_where_the_values_were(pieces: list[str | int]) -> None:
    late = LateValues()
    text = "".join(
        late.stand_in(Late(str(piece)), f"path{piece}", "vpc-{}") if isinstance(piece, int) else piece
        for piece in pieces
    )
    found = put_back({"a": [text]}, late, lambda parts: "".join(_shown(part) for part in parts))
    value = _shown(found["a"][0])
    assert value == "".join(f"<{piece}>" if isinstance(piece, int) else piece for piece in pieces)


def _shown(part: Any) -> str:
    return f"<{part.name}>" if isinstance(part, Late) else str(part)


def test_a_stand_in_depends_on_its_place_alone() -> None:
    first, second = LateValues(), LateValues()
    first.stand_in(Late("other"), "elsewhere", "{}")
    assert first.stand_in(Late("a"), "image", "{}") == second.stand_in(Late("b"), "image", "{}")
