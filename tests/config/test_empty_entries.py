"""Entries with nothing behind them: YAML has ``null`` there, which is told, and is never taken for a value."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from config.stack import parse
from tfserving.errors import ConfigError

B = "tf-serving:models.modelB"
HTTP = "tf-serving:services.multi_http"
ACK = "tf-serving:services.on-ack"


def told(good: dict[str, Any], project: Path, where: str, value: Any) -> list[str]:
    """The problems of a good stack file with one value in it at a path."""
    raw = copy.deepcopy(good)
    if where.startswith(ACK):
        raw["tf-serving:kubernetes"] = {
            "namespace": "models",
            "kubeconfig": ".sandbox/kube/cluster/kubeconfig",
        }
        raw["tf-serving:services"]["on-ack"] = {
            "target": "ack",
            "model": "modelA",
            "volume": {"roleName": "models-reader"},
            "cpu": "1",
        }
    first, *keys = where.split(".")
    here, key = raw, first
    for each in keys:
        here = here.setdefault(key, {})
        key = each
    here[key] = value
    with pytest.raises(ConfigError) as caught:
        parse(raw, project)
    unrelated = "tf-serving:kubernetes.kubeconfig"  # no cluster runs
    return [str(problem) for problem in caught.value.problems if problem.path != unrelated]


@pytest.mark.parametrize(
    ("where", "value", "at"),
    [
        (f"{B}.versions", [1, None], "versions[1]"),
        (f"{B}.versions", [None], "versions[0]"),
        (f"{B}.versions", "[1, null]", "versions[1]"),
        (f"{B}.labels", {"stable": None}, "labels.stable"),
        (f"{B}.policy", {"specific": [1, None]}, "policy.specific[1]"),
        (f"{B}.policy", {"specific": [None]}, "policy.specific[0]"),
        (f"{B}.policy", {"latest": None}, "policy.latest"),
        (f"{HTTP}.models", ["modelA", None], "models[1]"),
        (f"{HTTP}.models", [None], "models[0]"),
        (f"{HTTP}.models", {"modelB": {"labels": {"stable": None}}}, "models.modelB.labels.stable"),
        (f"{HTTP}.models", {"modelB": {"policy": {"specific": [1, None]}}}, "models.modelB.policy.specific[1]"),
        (f"{HTTP}.instanceTypes", ["ecs.c7.large", None], "instanceTypes[1]"),
        (f"{HTTP}.labels", {"team": None}, "labels.team"),
        (f"{HTTP}.flags", {"num_load_threads": None}, "flags.num_load_threads"),
        (f"{HTTP}.env", {"A": None}, "env.A"),
        (f"{HTTP}.monitoring", {"enable": None}, "monitoring.enable"),
        (f"{HTTP}.batching", {"allowed_batch_sizes": [1, None]}, "batching.allowed_batch_sizes[1]"),
        (f"{HTTP}.autoscaler", {"min": 1, "max": 2, "metrics": {"qps": None}}, "autoscaler.metrics.qps"),
        (f"{ACK}.nodeSelector", {"pool": None}, "nodeSelector.pool"),
        (f"{ACK}.tolerations", [None], "tolerations[0]"),
        (f"{ACK}.imagePullSecrets", [None], "imagePullSecrets[0]"),
        (f"{ACK}.loadBalancer", {"protocolPorts": {"8501": None}}, "loadBalancer.protocolPorts.8501"),
        (f"{ACK}.loadBalancer", {"protocolPorts": {"x": "tcp"}}, "loadBalancer.protocolPorts.x"),
        (
            "tf-serving:traffic.group",
            {"weights": {"multi_http": 100, "multi_grpc": None}},
            "weights.multi_grpc",
        ),
        ("tf-serving:bucket", {"name": "models-bucket", "tags": {"team": None}}, "tags.team"),
    ],
)
def test_an_entry_with_nothing_behind_it_is_told_and_nothing_else_is(
    good: dict[str, Any], project: Path, where: str, value: Any, at: str
) -> None:
    (problem,) = told(good, project, where, value)
    assert problem.startswith(f"{where if at.startswith(('weights', 'tags')) else where.rpartition('.')[0]}.{at}: ")
    assert "None" not in problem


@pytest.mark.parametrize("value", ["latest", [1, None, True], {"to": None}, True])
def test_a_label_that_is_no_number_is_shown_as_it_is_written_and_names_no_version(
    good: dict[str, Any], project: Path, value: Any
) -> None:
    (problem,) = told(good, project, f"{B}.labels", {"stable": value})
    assert problem.startswith(f"{B}.labels.stable: ")
    assert "is not a whole number" in problem
    assert "None" not in problem
    assert "True" not in problem


@pytest.mark.parametrize("policy", ["alll", {"latest": "x"}, {"specific": [2, "1x"]}, [1, None], {"all": True}])
def test_a_policy_that_cannot_be_read_says_nothing_about_labels(
    good: dict[str, Any], project: Path, policy: Any
) -> None:
    (problem,) = told(good, project, f"{B}.policy", policy)
    assert problem.startswith(f"{B}.policy")


@pytest.mark.parametrize("versions", [[1, "x"], [1, None], [1, 1.5]])
def test_versions_that_cannot_be_read_leave_no_label_without_one(
    good: dict[str, Any], project: Path, versions: Any
) -> None:
    (problem,) = told(good, project, f"{B}.versions", versions)
    assert problem.startswith(f"{B}.versions[1]: ")


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("flags", {"num_load_threads": True}, "`true` is not"),
        ("batching", {"max_batch_size": True}, "`true` is not"),
        ("batching", {"allowed_batch_sizes": [1, False]}, "`[1, false]` is not"),
        ("monitoring", {"path": True}, "true is not"),
        ("instanceType", [None], "[null] is not a mapping"),
        ("healthCheck", {"liveness": True}, "true is not a mapping"),
        ("healthCheck", {"liveness": {"kind": None, "command": ["a"]}}, "nothing is written here"),
        ("replicas", [1, None, {"a": False}], "[1, null, {'a': false}] is not a whole number"),
    ],
)
def test_a_wrong_value_is_shown_as_yaml_has_it_in_one_problem(
    good: dict[str, Any], project: Path, key: str, value: Any, words: str
) -> None:
    (problem,) = told(good, project, f"{HTTP}.{key}", value)
    assert problem.startswith(f"{HTTP}.{key}")
    assert words in problem
