"""No option is forgotten: whatever a dataclass declares is read, from text as well as from numbers."""

from __future__ import annotations

import importlib
import pkgutil
import re
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import pytest

import config
import tfserving
from config import kubernetes as kubernetes_settings
from config import services as service_settings
from config.option_reader import read_plain, with_blanks
from config.reader import Reader
from config.stack import parse
from tfserving import eas_spec, kubernetes
from tfserving.alerts import Alerts, CloudMonitor, ErrorRate
from tfserving.errors import ConfigError
from tfserving.options import options

NONSENSE: dict[str, Any] = {"neither": ["a text", {"nor": "a number"}]}


def problems(config: dict[str, Any], project: Path) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(config, project)
    return [problem.path for problem in caught.value.problems]


@pytest.mark.parametrize("key", service_settings.KEYS)
def test_nonsense_at_any_key_of_a_service_is_noticed(good: dict[str, Any], project: Path, key: str) -> None:
    path = f"tf-serving:services.odd.{key}"
    # Free-form keys take any mapping, so that the nonsense is a list there.
    value: Any = [NONSENSE] if key in ("extraConfig", "env", "labels", "flags", "batching", "monitoring") else NONSENSE
    odd = {"deployment": "custom", "model": "modelA"} | {key: value}
    assert any(found.startswith(path) for found in problems(good | {"tf-serving:services": {"odd": odd}}, project))


@pytest.mark.parametrize("key", [key for key in kubernetes_settings.ACK_SERVICE_KEYS if key != "target"])
def test_nonsense_at_any_key_of_a_service_on_kubernetes_is_noticed(
    good: dict[str, Any], project: Path, key: str
) -> None:
    path = f"tf-serving:services.odd.{key}"
    free = ("env", "labels", "annotations", "nodeSelector", "flags", "batching", "monitoring", "volume")
    odd = {"target": "ack", "model": "modelA"} | {key: [NONSENSE] if key in free else NONSENSE}
    config = good | {"tf-serving:services": {"odd": odd}, "tf-serving:kubernetes": {"namespace": "models"}}
    assert any(found.startswith(path) for found in problems(config, project))


def test_text_is_read_by_the_type_of_the_option() -> None:
    reader = Reader()
    given = {"port": "8500", "grpc": "true", "mountPath": "/m", "labels": {"team": "vision"}, "replicas": 2.0}
    found = read_plain(reader, given, "x", eas_spec.ServiceSpec)
    assert found == {"port": 8500, "grpc": True, "mount_path": "/m", "labels": {"team": "vision"}, "replicas": 2}
    assert reader.problems == []


WITH_DEFAULTS = [
    (cls, each.key)
    for cls in (eas_spec.ServiceSpec, eas_spec.Probe, kubernetes.KubernetesServingSpec, Alerts, CloudMonitor)
    for each in options(cls)
    if each.plain_type is str and each.default
]


@pytest.mark.parametrize(("cls", "key"), WITH_DEFAULTS)
def test_an_empty_text_is_no_way_to_mean_the_default(cls: type, key: str) -> None:
    reader = Reader()
    assert read_plain(reader, {key: ""}, "x", cls) == {}
    [problem] = reader.problems
    assert problem.path == f"x.{key}"
    assert "remove the key, which means " in str(problem)


def required_texts() -> list[tuple[type, str]]:
    """Every text without a default that :func:`read_plain` reads for some part of a stack file."""
    classes = {
        cls
        for part in (config, tfserving)
        for module in pkgutil.walk_packages(part.__path__, f"{part.__name__}.")
        for cls in vars(importlib.import_module(module.name)).values()
        if isinstance(cls, type)
        and is_dataclass(cls)
        and cls.__module__ == module.name
        and not module.name.startswith("tfserving.contract")
    }
    found = [(cls, each.key) for cls in classes for each in options(cls) if each.required and each.plain_type is str]
    return sorted(found, key=lambda each: (each[0].__module__, each[0].__name__, each[1]))


@pytest.mark.parametrize(("cls", "key"), required_texts())
def test_an_empty_text_that_is_required_is_told_in_words(cls: type, key: str) -> None:
    reader = Reader()
    assert read_plain(reader, {key: ""}, "x", cls) == {}
    [problem] = reader.problems
    assert (problem.path, problem.message) == (f"x.{key}", "the text is empty")
    assert not re.search("MISSING|object at|remove", str(problem)), problem


@pytest.mark.parametrize(
    ("part", "path"),
    [
        ({"schedule": {"timeZone": "UTC", "jobs": {"day": {"at": "", "replicas": 1}}}}, "schedule.jobs.day.at"),
        ({"vpc": {"vpcId": "", "vswitchIds": ["vsw-1"], "securityGroupId": "sg-1"}}, "vpc.vpcId"),
        ({"vpc": {"vpcId": "vpc-1", "vswitchIds": ["vsw-1"], "securityGroupId": ""}}, "vpc.securityGroupId"),
    ],
)
def test_what_is_required_and_empty_in_a_stack_file_is_one_problem(
    good: dict[str, Any], project: Path, part: dict[str, Any], path: str
) -> None:
    good["tf-serving:services"]["multi_http"] |= part
    assert problems(good, project) == [f"tf-serving:services.multi_http.{path}"]


def test_a_number_has_the_limits_of_its_option() -> None:
    for given, good in ((0, False), (1, True), (1440, True), (1441, False), ("1441", False), (1e300, False)):
        reader = Reader()
        assert read_plain(reader, {"minutes": given}, "x", ErrorRate) == ({"minutes": given} if good else {})
        assert len(reader.problems) == (not good)


def test_what_is_wrong_is_told_and_left_out() -> None:
    reader = Reader()
    assert read_plain(reader, {"port": "http", "grpc": 3}, "x", eas_spec.ServiceSpec) == {}
    assert [problem.path for problem in reader.problems] == ["x.port", "x.grpc"]


def test_what_is_required_and_missing_has_a_value_of_its_type() -> None:
    assert with_blanks(eas_spec.Vpc, {"vpc_id": "vpc-1"}) == {
        "vpc_id": "vpc-1",
        "vswitch_ids": (),
        "security_group_id": "",
    }
