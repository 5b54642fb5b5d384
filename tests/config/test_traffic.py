"""``tf-serving:traffic``: who shares requests, and what is refused with its place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from config.stack import parse
from tfserving import eas_spec
from tfserving.errors import ConfigError
from tfserving.traffic import Mirror

Change = Callable[[dict[str, Any]], dict[str, Any]]

TRAFFIC = "tf-serving:traffic"
SERVICES = "tf-serving:services"
WEIGHTS = f"{TRAFFIC}.vision.weights"
SINGLE = {"deployment": "custom", "model": "modelA"}
POD = {"target": "ack", "model": "modelA"}
KUBECONFIG = """\
current-context: sandbox
contexts: [{name: sandbox, context: {cluster: sandbox, user: admin}}]
clusters: [{name: sandbox, cluster: {server: "https://127.0.0.1:6443"}}]
"""
READS = {"volume": {"secretName": "oss"}}
CLUSTER = {"kubeconfig": ".sandbox/kube/cluster/kubeconfig", "namespace": "serving", "gateway": "entry", **READS}


def pods(**keys: Any) -> dict[str, Any]:
    """Two services in a cluster, and a group of them."""
    return {
        "tf-serving:kubernetes": CLUSTER,
        f"{SERVICES}.pod-a": POD,
        f"{SERVICES}.pod-b": POD,
        f"{TRAFFIC}.pods": {"weights": {"pod-a": 90, "pod-b": 10}, **keys},
    }


def canaries(**keys: Any) -> dict[str, Any]:
    """Further services beside ``multi_http``, and a group of the first and the second."""
    spec = {
        "deployment": "custom",
        "configFile": True,
        "configPollSeconds": 2,
        "allowLabelsForUnavailableVersions": True,
    }
    spec |= keys
    group = {"weights": {"multi_http": 90, "canary": 10}}
    return {f"{SERVICES}.canary": spec, f"{SERVICES}.shadow": spec, f"{TRAFFIC}.vision": group}


def test_members_are_made_in_their_group_and_others_in_none(changed: Change, project: Path) -> None:
    settings = parse(changed({**canaries(), f"{TRAFFIC}.vision.mirror": {"to": "shadow", "percent": 20}}), project)
    (group,) = settings.traffic
    assert (group.name, group.target, group.protocol) == ("vision", "eas", "http")
    assert dict(group.weights) == {"multi_http": 90, "canary": 10}
    assert group.mirror == Mirror("shadow", 20)
    groups = {each.name: eas_spec.build(each.spec)["metadata"].get("group") for each in settings.services}
    assert groups == {"multi_http": "vision", "multi_grpc": None, "canary": "vision", "shadow": None}


def test_without_traffic_no_service_is_in_a_group(good: dict[str, Any], project: Path) -> None:
    settings = parse(good, project)
    assert settings.traffic == ()
    assert all("group" not in eas_spec.build(each.spec)["metadata"] for each in settings.services)


def test_shares_may_be_text_and_the_group_json(changed: Change, project: Path) -> None:
    changes = {**canaries(), f"{TRAFFIC}.vision": '{"weights": {"multi_http": "95", "canary": 5}}'}
    assert dict(parse(changed(changes), project).traffic[0].weights) == {"multi_http": 95, "canary": 5}


def test_a_group_of_grpc_services_speaks_grpc(changed: Change, project: Path) -> None:
    settings = parse(changed({f"{TRAFFIC}.vision": {"weights": {"multi_grpc": 100}}}), project)
    assert settings.traffic[0].protocol == "grpc"


def test_a_group_in_a_cluster_has_host_names_and_the_gateway_of_the_stack(changed: Change, project: Path) -> None:
    (project / ".sandbox/kube/cluster").mkdir(parents=True)
    (project / ".sandbox/kube/cluster/kubeconfig").write_text(KUBECONFIG)
    names = {"hostname": "a.example.com", "grpcHostname": "b.example.com"}
    for given, found in (("entry", "serving/entry"), ("other/entry", "other/entry")):
        changes = {**pods(**names), "tf-serving:kubernetes": {**CLUSTER, "gateway": given}}
        (group,) = parse(changed(changes), project).traffic
        assert (group.target, group.namespace, group.gateway) == ("ack", "serving", found)
        assert (group.hostname, group.grpc_hostname) == ("a.example.com", "b.example.com")


BAD: list[tuple[dict[str, Any], str, str]] = [
    ({f"{TRAFFIC}.vision.weihgts": {}}, f"{TRAFFIC}.vision.weihgts", "'weights'"),
    ({f"{TRAFFIC}.vision": {"mirror": {"to": "shadow", "percent": 5}}}, WEIGHTS, "name the services"),
    ({WEIGHTS: {"multi_http": 90, "canary": 20}}, WEIGHTS, "add up to 110 percent"),
    ({WEIGHTS: {"multi_http": 0, "canary": 0}}, WEIGHTS, "add up to 0 percent"),
    ({WEIGHTS: {"multi_http": 110, "canary": -10}}, f"{WEIGHTS}.canary", "too low"),
    ({WEIGHTS: {"multi_http": "90%", "canary": 10}}, f"{WEIGHTS}.multi_http", "not a whole number"),
    ({WEIGHTS: {"multi_http": 90, "canry": 10}}, f"{WEIGHTS}.canry", "'canary'"),
    ({WEIGHTS: ["multi_http"]}, WEIGHTS, "not a mapping"),
    ({f"{TRAFFIC}.Vision-1": {"weights": {"multi_http": 100}}}, f"{TRAFFIC}.Vision-1", "lower-case"),
    ({f"{TRAFFIC}.shadow": {"weights": {"multi_http": 100}}}, f"{TRAFFIC}.shadow", "is a service"),
    ({WEIGHTS: {"multi_http": 90, "multi_grpc": 10}}, f"{WEIGHTS}.multi_grpc", "speaks grpc and multi_http http"),
    ({f"{SERVICES}.canary": SINGLE}, f"{WEIGHTS}.canary", "canary answers for model and multi_http"),
    (
        {f"{TRAFFIC}.other": {"weights": {"canary": 100}}},
        f"{TRAFFIC}.other.weights.canary",
        "is in group vision already",
    ),
    ({f"{TRAFFIC}.vision.mirror": {"to": "canary", "percent": 5}}, f"{TRAFFIC}.vision.mirror.to", "is a member"),
    ({f"{TRAFFIC}.vision.mirror": {"to": "nobody", "percent": 5}}, f"{TRAFFIC}.vision.mirror.to", "no service"),
    ({f"{TRAFFIC}.vision.mirror": {"to": "multi_grpc", "percent": 5}}, f"{TRAFFIC}.vision.mirror.to", "speaks grpc"),
    ({f"{TRAFFIC}.vision.mirror": {"to": "shadow"}}, f"{TRAFFIC}.vision.mirror.percent", "percent is missing"),
    (
        {f"{TRAFFIC}.vision.mirror": {"to": "shadow", "percent": 0}},
        f"{TRAFFIC}.vision.mirror.percent",
        "too low",
    ),
    (
        {f"{TRAFFIC}.vision.mirror": {"to": "shadow", "percent": 101}},
        f"{TRAFFIC}.vision.mirror.percent",
        "1 to 100 percent",
    ),
    (
        {f"{SERVICES}.canary.extraConfig": {"metadata": {"group": "mine"}}},
        f"{SERVICES}.canary.extraConfig.metadata.group",
        "said twice",
    ),
    (
        {"tf-serving:kubernetes": CLUSTER, f"{SERVICES}.canary": POD},
        f"{WEIGHTS}.canary",
        "different places",
    ),
    ({f"{TRAFFIC}.vision.hostname": "a.example.com"}, f"{TRAFFIC}.vision.hostname", "address of its own"),
    (pods(), f"{TRAFFIC}.pods.hostname", "by which host name"),
    (pods(hostname="No Host"), f"{TRAFFIC}.pods.hostname", "is not a host name"),
    (pods(hostname="a.example.com", grpcHostname="a.example.com"), f"{TRAFFIC}.pods.grpcHostname", "use another one"),
    (
        {**pods(hostname="a.example.com"), "tf-serving:kubernetes": {**CLUSTER, "gateway": None}},
        f"{TRAFFIC}.pods",
        "need a Gateway",
    ),
    (
        {**pods(hostname="a.example.com"), "tf-serving:kubernetes": {**CLUSTER, "gateway": "a/b/c"}},
        "tf-serving:kubernetes.gateway",
        "names no Gateway",
    ),
]


@pytest.mark.parametrize(("changes", "path", "words"), BAD, ids=[f"{i}-{path}" for i, (_, path, _) in enumerate(BAD)])
def test_bad_traffic_is_refused_with_its_path(
    changed: Change, project: Path, changes: dict[str, Any], path: str, words: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(changed({**canaries(), **changes}), project)
    about = [str(problem) for problem in caught.value.problems if problem.path == path]
    assert any(words in text for text in about), f"{words!r} about {path} is not in:\n{caught.value}"


def test_every_problem_of_a_group_is_told_at_once(changed: Change, project: Path) -> None:
    group = {"weights": {"canry": 50, "multi_grpc": 50}, "mirror": {"to": "nobody", "percent": 200}}
    with pytest.raises(ConfigError) as caught:
        parse(changed({**canaries(), f"{TRAFFIC}.vision": group}), project)
    assert {problem.path for problem in caught.value.problems} >= {
        f"{WEIGHTS}.canry",
        f"{TRAFFIC}.vision.mirror.to",
        f"{TRAFFIC}.vision.mirror.percent",
    }
