"""Service groups: one address for several services, shares by weight for each request, copies for a mirror."""

from __future__ import annotations

import collections
import itertools
import json
import math
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from alibabacloud_eas20210701 import models
from alibabacloud_tea_openapi import models as open_api
from alibabacloud_tea_util.models import RuntimeOptions
from hypothesis import given
from hypothesis import strategies as st

from sandbox.cloud.eas.api import EasProduct
from sandbox.cloud.eas.entry import MEMBER
from sandbox.cloud.state import STATE
from sandbox.turns import Turns
from tests.processes import is_alive
from tests.waiting import until

pytestmark = pytest.mark.slow

REGION = "cn-hangzhou"
_numbers = itertools.count()


def members(eas: Any, group: str, *names: str, kind: str = "http", **changes: Any) -> None:
    """Runs services in a group."""
    make = eas.spec if kind == "http" else eas.grpc_spec
    specs = [make(name, metadata={"group": group}, **changes) for name in names]
    for spec in specs:
        eas.create(spec)
    for name in names:
        eas.wait(name)


@contextmanager
def group_of(eas: Any, *suffixes: str, kind: str = "http") -> Iterator[tuple[str, list[str]]]:
    """A group of services with these ends of their names."""
    group = f"group_{next(_numbers)}"
    names = [f"{group}_{suffix}" for suffix in suffixes]
    members(eas, group, *names, kind=kind)
    try:
        yield group, names
    finally:
        for name in set(names) & set(eas.names()):
            eas.delete(name)


def set_mode(eas: Any, group: str, mode: str) -> None:
    """UpdateGroup, which this release of the SDK has no method for."""
    params = open_api.Params(
        action="UpdateGroup",
        version="2021-07-01",
        protocol="HTTPS",
        pathname=f"/api/v2/groups/{REGION}/{group}",
        method="PUT",
        auth_type="AK",
        style="ROA",
        req_body_type="json",
        body_type="json",
    )
    eas.client.call_api(params, open_api.OpenApiRequest(body={"TrafficMode": mode}), RuntimeOptions())


def release(eas: Any, weights: dict[str, int], state: str = "grouping") -> None:
    for name, weight in weights.items():
        eas.client.release_service(REGION, name, models.ReleaseServiceRequest(weight=weight, traffic_state=state))


def split(eas: Any, group: str, weights: dict[str, int]) -> Any:
    set_mode(eas, group, "customized")
    release(eas, weights)
    return eas.client.describe_group(REGION, group).body


def answered(send: Any, found: Any, count: int) -> collections.Counter[str]:
    answers = [send("POST", f"{found.internet_endpoint}/x", found.access_token, b"{}") for _ in range(count)]
    assert {answer.status for answer in answers} == {200}
    return collections.Counter(answer.headers[MEMBER] for answer in answers)


@given(st.dictionaries(st.text(), st.integers(1, 1000), min_size=1, max_size=6), st.integers(1, 3))
def test_turns_have_their_exact_share_after_every_deck(weights: dict[str, int], decks: int) -> None:
    turns, size = Turns(), sum(weights.values()) // math.gcd(*weights.values())
    dealt = collections.Counter(turns.next(weights) for _ in range(size * decks))
    assert dealt == {name: weight * decks // math.gcd(*weights.values()) for name, weight in weights.items()}


def test_who_asks_twice_each_time_meets_every_member() -> None:
    turns = Turns()
    assert {(turns.next({"a": 50, "b": 50}), turns.next({"a": 50, "b": 50}))[1] for _ in range(100)} == {"a", "b"}


def test_a_group_comes_with_its_first_service_and_goes_with_its_last(eas: Any) -> None:
    with group_of(eas, "a", "b") as (group, names):
        found = eas.client.describe_group(REGION, group).body
        assert (found.name, found.traffic_mode, found.cluster_id) == (group, "auto", REGION)
        listed = eas.client.list_groups(models.ListGroupsRequest(filter=group)).body
        assert [each.name for each in listed.groups] == [group]
        assert eas.describe(names[0]).service_group == group
        eas.delete(names[0])
        assert eas.client.describe_group(REGION, group).body.access_token == found.access_token
        eas.delete(names[1])
        with pytest.raises(Exception, match=r"InvalidGroup\.NotFound"):
            eas.client.describe_group(REGION, group)


def test_members_that_joined_get_no_request_of_the_group_until_they_are_grouping(eas: Any, send: Any) -> None:
    with group_of(eas, "a") as (group, names):
        found = eas.client.describe_group(REGION, group).body
        assert send("POST", f"{found.internet_endpoint}/x", found.access_token, b"{}").status == 503
        service = eas.describe(names[0])
        assert send("POST", f"{service.internet_endpoint}/x", service.access_token, b"{}").status == 200
        release(eas, {names[0]: 0})
        assert answered(send, found, 3) == {names[0]: 3}


def test_http_requests_are_shared_by_weight(eas: Any, send: Any) -> None:
    with group_of(eas, "a", "b") as (group, (a, b)):
        found = split(eas, group, {a: 90, b: 10})
        assert answered(send, found, 100) == {a: 90, b: 10}
        release(eas, {a: 0, b: 1000})
        assert answered(send, found, 20) == {b: 20}
        release(eas, {a: 500})
        assert answered(send, found, 30) == {a: 10, b: 20}
        set_mode(eas, group, "auto")
        assert answered(send, found, 20) == {a: 10, b: 10}


def test_one_grpc_connection_is_answered_by_every_member(eas: Any) -> None:
    with group_of(eas, "a", "b", kind="grpc") as (group, (a, b)):
        found = split(eas, group, {a: 3, b: 1})
        counted: collections.Counter[str] = collections.Counter()
        with grpc.insecure_channel(found.internet_endpoint.removeprefix("http://")) as channel:
            echo = channel.unary_unary("/test.Service/Echo")
            for _ in range(40):
                body, done = echo.with_call(b"x", metadata=(("authorization", found.access_token),))
                assert body == b"x"
                counted[dict(done.initial_metadata())[MEMBER]] += 1
            with pytest.raises(grpc.RpcError) as caught:
                echo(b"x", metadata=(("authorization", "wrong"),))
        assert counted == {a: 30, b: 10}
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        endpoints = eas.client.describe_group_endpoints(REGION, group).body
        assert endpoints.access_token == found.access_token
        assert endpoints.endpoints[0].internet_endpoints == [found.internet_endpoint]


def test_tokens_of_the_group_and_of_its_members_are_apart(eas: Any, send: Any) -> None:
    with group_of(eas, "a") as (group, (a,)):
        found, service = split(eas, group, {a: 1}), eas.describe(a)
        assert send("GET", found.internet_endpoint, service.access_token).status == 401
        assert send("GET", service.internet_endpoint, found.access_token).status == 401
        assert MEMBER not in send("GET", service.internet_endpoint, service.access_token).headers


@pytest.mark.parametrize("kind", ["http", "grpc"])
def test_a_member_whose_instance_ends_gives_its_share_to_the_others(kind: str, eas: Any, send: Any) -> None:
    with group_of(eas, "a", "b", kind=kind) as (group, (a, b)):
        found = split(eas, group, {a: 50, b: 50})
        for pid in eas.pids(b):
            os.kill(pid, signal.SIGSTOP)  # it holds its port and answers nothing: the next signal ends it at once
            os.kill(pid, signal.SIGKILL)
            until(lambda: not is_alive(pid))  # noqa: B023 (called here); a request that reached it would be answered 503
        with grpc.insecure_channel(found.internet_endpoint.removeprefix("http://")) as channel:
            for _ in range(10):
                if kind == "http":
                    answered(send, found, 1)
                else:
                    echo = channel.unary_unary("/test.Service/Echo")
                    assert echo(b"x", metadata=(("authorization", found.access_token),), timeout=60) == b"x"
        eas.client.stop_service(REGION, b)
        eas.wait(b, "Stopped")
        if kind == "http":
            assert answered(send, found, 10) == {a: 10}


@pytest.mark.parametrize("kind", ["http", "grpc"])
def test_a_mirror_gets_its_share_and_changes_no_answer(kind: str, eas: Any, send: Any) -> None:
    make = eas.spec if kind == "http" else eas.grpc_spec
    shadow = make(f"shadow_{next(_numbers)}")["metadata"]["name"]
    eas.run(make(shadow))
    mirrors = next(s for s in eas.app[STATE].products if isinstance(s, EasProduct)).runtime.mirrors
    with group_of(eas, "a", kind=kind) as (group, (a,)):
        found = split(eas, group, {a: 1})
        request = models.CreateServiceMirrorRequest(ratio=20, target=[shadow])
        assert "[20%]" in eas.client.create_service_mirror(REGION, a, request).body.message
        described = eas.client.describe_service_mirror(REGION, a).body
        assert (described.service_name, described.ratio, described.target) == (a, "20", shadow)
        before = mirrors.sent
        with grpc.insecure_channel(found.internet_endpoint.removeprefix("http://")) as channel:
            echo = channel.unary_unary("/test.Service/Echo")
            for _ in range(20):
                if kind == "http":
                    answered(send, found, 1)
                else:
                    assert echo(b"x", metadata=(("authorization", found.access_token),)) == b"x"
        assert mirrors.sent - before == 4
        if kind == "http":
            until(lambda: sum("request POST /x" in line for line in eas.logs(shadow).logs) == 4)
        eas.client.delete_service_mirror(REGION, a)
        with pytest.raises(Exception, match=r"InvalidMirror\.NotFound"):
            eas.client.describe_service_mirror(REGION, a)
    eas.delete(shadow)


def test_a_mirror_that_hangs_or_breaks_delays_nothing(eas: Any, send: Any) -> None:
    shadow = eas.spec(f"shadow_{next(_numbers)}")["metadata"]["name"]
    eas.run(eas.spec(shadow))
    with group_of(eas, "a") as (group, (a,)):
        found = split(eas, group, {a: 1})
        eas.client.create_service_mirror(REGION, a, models.CreateServiceMirrorRequest(ratio=100, target=[shadow]))
        # Both are asked for the same path; the primary has its answer while the copy still waits for its own.
        for pid in eas.pids(shadow):
            os.kill(pid, signal.SIGSTOP)
        try:
            done = threading.Event()
            counted: list[Any] = []
            asking = threading.Thread(target=lambda: (counted.append(answered(send, found, 60)), done.set()))
            asking.start()
            assert done.wait(120)
            asking.join()
        finally:
            for pid in eas.pids(shadow):
                os.kill(pid, signal.SIGCONT)
        assert counted == [{a: 60}]
        answered(send, found, 5)
        assert send("POST", f"{found.internet_endpoint}/status/400", found.access_token, b"{}").status == 400
    eas.delete(shadow)


@pytest.mark.parametrize(
    ("ratio", "target", "words"),
    [(101, ["x"], "0 to 100"), (-1, ["x"], "0 to 100"), (5, [], "non-empty"), (5, ["missing"], "not found")],
)
def test_a_wrong_mirror_is_refused(ratio: int, target: list[str], words: str, eas: Any) -> None:
    spec = eas.spec()
    eas.create(spec)
    request = models.CreateServiceMirrorRequest(ratio=ratio, target=target)
    with pytest.raises(Exception, match=words):
        eas.client.create_service_mirror(REGION, spec["metadata"]["name"], request)
    eas.delete(spec["metadata"]["name"])


def test_services_and_groups_share_their_names_and_a_service_stays_in_its_group(eas: Any) -> None:
    with group_of(eas, "a") as (group, (a,)):
        with pytest.raises(Exception, match="A service group is called"):
            eas.create(eas.spec(group))
        with pytest.raises(Exception, match="A service is called as the group"):
            eas.create(eas.spec(metadata={"group": a}))
        with pytest.raises(Exception, match="cannot be changed"):
            eas.update(a, eas.spec(a))
        with pytest.raises(Exception, match=r"metadata\.group"):
            eas.create(eas.spec(metadata={"group": "With-Hyphen"}))


def test_groups_weights_and_mirrors_outlive_the_cloud(start_eas: Any, tmp_path: Any, send: Any) -> None:
    with start_eas(tmp_path) as eas:
        members(eas, "kept", "kept_a", "kept_b", kind="http")
        before = split(eas, "kept", {"kept_a": 75, "kept_b": 25})
        request = models.CreateServiceMirrorRequest(ratio=5, target=["kept_b"])
        eas.client.create_service_mirror(REGION, "kept_a", request)
    assert "kept" in json.loads((tmp_path / "eas" / "groups" / "kept.json").read_text())["name"]
    with start_eas(tmp_path) as eas:
        found = eas.client.describe_group(REGION, "kept").body
        assert (found.access_token, found.traffic_mode) == (before.access_token, "customized")
        eas.wait("kept_a"), eas.wait("kept_b")
        assert answered(send, found, 20) == {"kept_a": 15, "kept_b": 5}
        assert eas.client.describe_service_mirror(REGION, "kept_a").body.ratio == "5"
