"""Shares of a service group, against the sandbox's EAS with small model servers, the plugin killed at any write."""

from __future__ import annotations

import collections
import itertools
import os
import signal
import threading
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from alibabacloud_eas20210701 import models as eas

from provider.eas.labels import MANAGED_BY, OWNER_LABEL
from sandbox.cloud.eas.api import EasProduct as Served
from sandbox.cloud.eas.entry import MEMBER
from sandbox.cloud.state import STATE
from tests.cloud.eas.conftest import Eas, running_eas
from tests.provider.harness import OWNER, REGION, Engine, Failed, Plugin, Stack, config
from tfserving.property_values import plain

pytestmark = pytest.mark.slow

_numbers = itertools.count()


@dataclass
class Watched:
    """A cloud that can end the plugin at a write.

    Attributes:
        eas: the cloud.
        writes: calls that changed something, by method and path.
        before: called with the number of a write before it is done.
        after: likewise when it is done.
    """

    eas: Eas
    writes: list[tuple[str, str]] = field(default_factory=list)
    before: Callable[[int], None] = lambda number: None
    after: Callable[[int], None] = lambda number: None

    def watch(self) -> None:
        service = next(s for s in self.eas.app[STATE].products if isinstance(s, Served))
        answer = service._answer

        async def watched(request: Any) -> Any:
            if request.method == "GET":
                return await answer(request)
            self.writes.append((request.method, request.path))
            number = len(self.writes)
            self.before(number)
            try:
                return await answer(request)
            finally:
                self.after(number)

        service._answer = watched  # type: ignore[method-assign]

    def forget(self) -> None:
        self.writes, self.before, self.after = [], lambda number: None, lambda number: None


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    with running_eas(tmp_path_factory.mktemp("traffic-cloud")) as cloud:
        found = Watched(cloud)
        found.watch()
        yield found


@pytest.fixture(scope="module")
def plugin(engine: tuple[Engine, str], watched: Watched) -> Iterator[Plugin]:
    started = new_plugin(engine, watched)
    yield started
    started.stop()


def new_plugin(engine: tuple[Engine, str], watched: Watched) -> Plugin:
    started = Plugin(*engine)
    started.configure(**config(f"127.0.0.1:{watched.eas.port}"))
    return started


@dataclass
class Group:
    """A group with running members, and clients that ask it."""

    watched: Watched
    name: str
    kind: str
    members: list[str]

    @property
    def shadow(self) -> str:
        return f"{self.name}_shadow"

    def add(self, *suffixes: str, owner: str = OWNER, group: str | None = None) -> None:
        cloud = self.watched.eas
        make = cloud.spec if self.kind == "http" else cloud.grpc_spec
        labels = {**MANAGED_BY, OWNER_LABEL: owner}
        names = [f"{self.name}_{suffix}" for suffix in suffixes]
        for name in names:
            metadata = {"group": self.name} if group is None else {}
            cloud.create(make(name, metadata=metadata, labels=labels))
        for name in names:
            cloud.wait(name)
        self.members += names

    def wanted(self, mirror: Any = None, **weights: int) -> dict[str, Any]:
        inputs = {
            "group": self.name,
            "owner": OWNER,
            "weights": {f"{self.name}_{suffix}": weight for suffix, weight in weights.items()},
            "protocol": self.kind,
        }
        return inputs | ({"mirror": {"to": self.shadow, "percent": mirror}} if mirror else {})

    def ask(self, outputs: Any, count: int) -> dict[str, int]:
        """How many of so many requests each member answered, by the end of its name. None may fail."""
        counted: collections.Counter[str] = collections.Counter()
        client = Client(self.kind, plain(outputs["url"]), plain(outputs["target"]), plain(outputs["token"]))
        with client:
            for _ in range(count):
                counted[client.once().removeprefix(f"{self.name}_")] += 1
        return dict(counted)


class Client:
    """Asks a group; raises where it does not answer."""

    def __init__(self, kind: str, url: str, target: str, token: str) -> None:
        self.url, self.token = url, token
        self.channel = grpc.insecure_channel(target) if kind == "grpc" else None
        self.opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        if self.channel is not None:
            self.channel.close()

    def once(self) -> str:
        """The member that answered."""
        if self.channel is not None:
            echo = self.channel.unary_unary("/test.Service/Echo")
            body, call = echo.with_call(b"x", metadata=(("authorization", self.token),), timeout=60)
            assert body == b"x"
            return str(dict(call.initial_metadata())[MEMBER])
        request = urllib.request.Request(f"{self.url}/x", data=b"{}", headers={"Authorization": self.token})
        with self.opener.open(request, timeout=60) as response:
            return str(response.headers[MEMBER])


@pytest.fixture(params=["http", "grpc"])
def group(request: pytest.FixtureRequest, watched: Watched) -> Iterator[Group]:
    yield from make_group(watched, request.param)


@pytest.fixture
def http_group(watched: Watched) -> Iterator[Group]:
    yield from make_group(watched, "http")


def make_group(watched: Watched, kind: str) -> Iterator[Group]:
    made = Group(watched, f"split_{next(_numbers)}", kind, [])
    made.add("stable", "canary")
    watched.forget()
    yield made
    watched.forget()
    for name in watched.eas.names():
        if name.startswith(made.name):
            watched.eas.delete(name)


def test_shares_are_set_changed_and_taken_away_and_a_look_finds_them(plugin: Plugin, group: Group) -> None:
    split = Stack(plugin, "TrafficSplit")
    assert split.up(group.wanted(stable=90, canary=10)) == "create"
    assert plain(split.outputs["weights"]) == {f"{group.name}_stable": 90, f"{group.name}_canary": 10}
    assert group.ask(split.outputs, 40) == {"stable": 36, "canary": 4}
    assert split.up(group.wanted(stable=90, canary=10)) == "same"
    group.watched.forget()
    assert split.up(group.wanted(stable=50, canary=50)) == "update"
    assert [path.rsplit("/", 2)[-2:] for _, path in group.watched.writes] == [
        [f"{group.name}_canary", "release"],
        [f"{group.name}_stable", "release"],
    ]
    assert group.ask(split.outputs, 40) == {"stable": 20, "canary": 20}
    before = {name: group.watched.eas.pids(name) for name in group.members}
    assert split.up(group.wanted(stable=0, canary=100)) == "update"
    assert {name: group.watched.eas.pids(name) for name in group.members} == before
    assert group.ask(split.outputs, 10) == {"canary": 10}
    outputs = split.outputs
    split.destroy()
    with pytest.raises((OSError, grpc.RpcError)):
        group.ask(outputs, 1)


def test_the_token_is_secret_and_the_address_is_that_of_the_protocol(plugin: Plugin, group: Group) -> None:
    split = Stack(plugin, "TrafficSplit")
    split.up(group.wanted(stable=100))
    assert type(split.outputs["token"]).__name__ == "Secret"
    assert bool(split.outputs["url"]) is (group.kind == "http")
    assert bool(split.outputs["target"]) is (group.kind == "grpc")


def test_a_mirror_is_set_on_every_member_changed_and_taken_away(plugin: Plugin, http_group: Group) -> None:
    group, cloud = http_group, http_group.watched.eas
    group.add("shadow", group="")
    split = Stack(plugin, "TrafficSplit")
    split.up(group.wanted(stable=90, canary=10, mirror=20))
    for member in ("stable", "canary"):
        found = cloud.client.describe_service_mirror(REGION, f"{group.name}_{member}").body
        assert (found.ratio, found.target) == ("20", group.shadow)
    assert split.up(group.wanted(stable=90, canary=10, mirror=20)) == "same"
    assert split.up(group.wanted(stable=90, canary=10, mirror=30)) == "update"
    cloud.client.delete_service_mirror(REGION, f"{group.name}_canary")
    assert set(split.refresh()) == {"mirror"}
    assert split.up(group.wanted(stable=90, canary=10)) == "update"
    assert plain(split.outputs["mirrors"]) == {}


def test_weights_that_somebody_changed_are_drift_and_go_back(plugin: Plugin, http_group: Group) -> None:
    group, cloud = http_group, http_group.watched.eas
    split = Stack(plugin, "TrafficSplit")
    wanted = group.wanted(stable=90, canary=10)
    split.up(wanted)
    cloud.client.release_service(REGION, f"{group.name}_canary", eas.ReleaseServiceRequest(weight=60))
    assert set(split.refresh()) == {f"weights.{group.name}_stable", f"weights.{group.name}_canary"}
    assert plain(split.inputs["weights"]) == {f"{group.name}_stable": 60, f"{group.name}_canary": 40}
    assert split.up(wanted) == "update"
    group.add("byhand")
    joins = eas.ReleaseServiceRequest(weight=100, traffic_state="grouping")
    cloud.client.release_service(REGION, f"{group.name}_byhand", joins)
    assert f"weights.{group.name}_byhand" in split.refresh()
    split.up(wanted)
    assert group.ask(split.outputs, 10) == {"stable": 9, "canary": 1}


def test_a_group_that_exists_is_imported_as_it_is(plugin: Plugin, http_group: Group) -> None:
    group = http_group
    Stack(plugin, "TrafficSplit").up(group.wanted(stable=70, canary=30))
    imported = Stack(plugin, "TrafficSplit", id=group.name)
    imported.refresh()
    assert plain(imported.inputs) == group.wanted(stable=70, canary=30) | {"gated": []}
    assert imported.up(group.wanted(stable=70, canary=30)) == "same"


def test_shares_that_a_newer_resource_took_over_stay_when_the_older_one_is_deleted(
    engine: tuple[Engine, str], watched: Watched, plugin: Plugin, group: Group, log: Engine
) -> None:
    """As where the component got another name: the deletion may come in a later run, by another process."""
    original, renamed = Stack(plugin, "TrafficSplit"), Stack(plugin, "TrafficSplit")
    original.up(group.wanted(stable=90, canary=10))
    renamed.up(group.wanted(stable=90, canary=10))
    released = {key: value for key, value in original.outputs.items() if key != "createdBy"}  # as 0.1.0 left it
    later = new_plugin(engine, watched)
    group.watched.forget()
    try:
        for state in (original.outputs, released):
            later.delete("TrafficSplit", original.id, original.inputs, state)
            assert any(f"service group {group.name} with its shares stays" in line for line in log.lines())
    finally:
        later.stop()
    assert group.watched.writes == []
    assert group.ask(renamed.outputs, 10) == {"stable": 9, "canary": 1}
    assert renamed.refresh() == {}
    outputs = dict(renamed.outputs)
    renamed.destroy()
    with pytest.raises((OSError, grpc.RpcError)):
        group.ask(outputs, 1)


def test_a_member_that_left_before_does_not_keep_a_group_open(plugin: Plugin, http_group: Group) -> None:
    """It says the create that it had when it left, which nobody writes anew."""
    group = http_group
    group.add("next")
    original, renamed = Stack(plugin, "TrafficSplit"), Stack(plugin, "TrafficSplit")
    original.up(group.wanted(stable=50, canary=25, next=25))
    renamed.up(group.wanted(stable=50, canary=50))
    outputs = dict(renamed.outputs)
    renamed.destroy()
    with pytest.raises((OSError, grpc.RpcError)):
        group.ask(outputs, 1)


def test_shares_that_a_killed_create_took_over_are_taken_back_by_the_next_update(
    plugin: Plugin, http_group: Group
) -> None:
    """A run was killed after the create of a newer resource, and before the state knew of it."""
    group = http_group
    original = Stack(plugin, "TrafficSplit")
    original.up(group.wanted(stable=90, canary=10))
    Stack(plugin, "TrafficSplit").up(group.wanted(stable=90, canary=10))
    assert set(original.refresh()) == {"createdBy"}
    assert original.up(original.inputs) == "update"
    assert original.refresh() == {}
    outputs = dict(original.outputs)
    original.destroy()
    with pytest.raises((OSError, grpc.RpcError)):
        group.ask(outputs, 1)


def test_a_service_that_is_changed_keeps_what_it_says_of_its_group(plugin: Plugin, watched: Watched) -> None:
    name, group = f"member_{next(_numbers)}", f"home_{next(_numbers)}"
    member, split = Stack(plugin, "EasService"), Stack(plugin, "TrafficSplit")
    inputs = service(watched, name, group)
    member.up(inputs)
    wanted = {"group": group, "owner": OWNER, "weights": {name: 100}, "protocol": "http"}
    split.up(wanted)
    assert member.refresh() == {}
    Stack(plugin, "TrafficSplit").up(wanted)
    changed = {**inputs, "spec": {**inputs["spec"], "labels": {"team": "vision"}}}
    assert member.up(changed) == "update"
    assert member.refresh() == {}
    assert set(split.refresh()) == {"createdBy"}
    member.destroy()


def test_a_preview_names_each_share_that_changes(plugin: Plugin, http_group: Group, log: Engine) -> None:
    group = http_group
    inputs, failures = plugin.check("TrafficSplit", group.wanted(stable=90, canary=10, mirror=20))
    assert not failures
    plugin.create("TrafficSplit", inputs, preview=True)
    assert log.lines() == [
        f"{group.name}: {group.name}_canary joins with 10 %",
        f"{group.name}: {group.name}_stable joins with 90 %",
        f"{group.name}: copies of requests: none -> 20 % to {group.shadow}",
    ]
    split = Stack(plugin, "TrafficSplit")
    split.up(group.wanted(stable=90, canary=10))
    group.watched.forget()
    log.messages.clear()
    news = plugin.check("TrafficSplit", group.wanted(stable=50, canary=50))[0]
    plugin.update("TrafficSplit", split.id, split.inputs, split.outputs, news, preview=True)
    assert log.lines() == [
        f"{group.name}: {group.name}_canary 10 % -> 50 %",
        f"{group.name}: {group.name}_stable 90 % -> 50 %",
    ]
    assert group.watched.writes == []


@pytest.mark.parametrize(
    ("change", "path", "words"),
    [
        ({"weights": {"a_a": 50, "b_b": 40}}, "weights", "add up to 90, not to 100"),
        ({"weights": {"a_a": 150, "b_b": -50}}, "weights.a_a", "0 to 100"),
        ({"weights": {}}, "weights", "add up to 0"),
        ({"group": "With-Hyphen"}, "group", "not a group name"),
        ({"group": "a_a"}, "group", "also a member"),
        ({"mirror": {"to": "a_a", "percent": 5}}, "mirror.to", "is a member"),
        ({"mirror": {"to": "c_c", "percent": 0}}, "mirror.percent", "1 to 100"),
    ],
)
def test_wrong_inputs_are_refused(change: dict[str, Any], path: str, words: str, plugin: Plugin) -> None:
    good = {"group": "vision", "owner": OWNER, "weights": {"a_a": 90, "b_b": 10}}
    assert plugin.check("TrafficSplit", good)[1] == {}
    failures = plugin.check("TrafficSplit", good | change)[1]
    assert words in failures[path]


def test_a_member_that_does_not_run_gets_no_more_and_can_get_less(plugin: Plugin, http_group: Group) -> None:
    group, cloud = http_group, http_group.watched.eas
    split = Stack(plugin, "TrafficSplit")
    split.up(group.wanted(stable=90, canary=10))
    cloud.client.stop_service(REGION, f"{group.name}_canary")
    cloud.wait(f"{group.name}_canary", "Stopped")
    with pytest.raises(Failed, match="so its share stays 10 % and does not become 50 %"):
        split.up(group.wanted(stable=50, canary=50))
    assert group.ask(split.outputs, 10) == {"stable": 10}
    assert split.up(group.wanted(stable=100, canary=0)) == "update"


def test_members_of_another_stack_are_refused_by_the_preview(plugin: Plugin, http_group: Group) -> None:
    group = http_group
    group.add("foreign", owner="other/stack")
    inputs = plugin.check("TrafficSplit", group.wanted(stable=100))[0]
    for preview in (True, False):
        with pytest.raises(Failed, match=r"members of another stack: .*_foreign \(other/stack\)"):
            plugin.create("TrafficSplit", inputs, preview=preview)
    assert group.watched.eas.client.describe_group(REGION, group.name).body.traffic_mode == "auto"


def test_a_service_that_is_no_member_is_refused(plugin: Plugin, http_group: Group) -> None:
    group = http_group
    group.add("outside", group="")
    with pytest.raises(Failed, match="is not in group"):
        Stack(plugin, "TrafficSplit").up(group.wanted(stable=50, outside=50))


def service(watched: Watched, name: str, group: str = "") -> dict[str, Any]:
    spec = watched.eas.spec(name, metadata={"group": group} if group else {})
    return {"name": name, "spec": spec, "owner": OWNER, "reachable": False}


def test_a_service_that_exists_cannot_join_a_group_which_the_preview_says(plugin: Plugin, watched: Watched) -> None:
    name = f"alone_{next(_numbers)}"
    alone = Stack(plugin, "EasService")
    alone.up(service(watched, name))
    news = plugin.check("EasService", service(watched, name, "late_group"))[0]
    for preview, words in ((True, "is in no group, so it cannot join late_group"), (False, "cannot be changed")):
        with pytest.raises(Failed, match=words):
            plugin.update("EasService", alone.id, alone.inputs, alone.outputs, news, preview=preview)
    with pytest.raises(Failed, match="is in no group, so it cannot join late_group"):
        plugin.create("EasService", news | {"adopt": True}, preview=True)
    alone.destroy()


def test_a_service_stays_in_its_group_whether_or_not_the_stack_still_says_so(plugin: Plugin, watched: Watched) -> None:
    name, group = f"member_{next(_numbers)}", f"home_{next(_numbers)}"
    member = Stack(plugin, "EasService")
    member.up(service(watched, name, group))
    pids = watched.eas.pids(name)
    assert member.up(service(watched, name)) == "update"
    assert watched.eas.describe(name).service_group == group
    assert member.up(service(watched, name)) == "same"
    assert member.up(service(watched, name, group)) == "update"
    assert member.up(service(watched, name, group)) == "same"
    assert watched.eas.pids(name) == pids
    member.destroy()


def test_no_request_fails_while_shares_change_and_the_plugin_is_killed_at_each_write(
    engine: tuple[Engine, str], watched: Watched, group: Group
) -> None:
    """Before and after every write of a change that takes four, and between them a member that joins and one leaves."""
    group.add("next")
    plugin = new_plugin(engine, watched)
    split = Stack(plugin, "TrafficSplit")
    split.up(group.wanted(stable=90, canary=10))
    stop, failures, counted = threading.Event(), list[str](), collections.Counter[str]()
    outputs = dict(split.outputs)

    def ask() -> None:
        client = Client(group.kind, plain(outputs["url"]), plain(outputs["target"]), plain(outputs["token"]))
        with client:
            while not stop.is_set():
                try:
                    counted[client.once()] += 1
                except Exception as error:
                    failures.append(repr(error))

    clients = [threading.Thread(target=ask) for _ in range(3)]
    for each in clients:
        each.start()
    killed = 0
    try:
        changes = itertools.cycle([{"stable": 40, "next": 60}, {"stable": 90, "canary": 10}])
        for moment, number in itertools.product(("before", "after"), range(1, 6)):
            wanted = group.wanted(**next(changes))
            watched.forget()
            process = plugin.process

            def end(count: int, number: int = number, process: Any = process) -> None:
                if count == number:
                    os.kill(process.pid, signal.SIGKILL)

            setattr(watched, moment, end)
            try:
                split.up(wanted)
            except Failed:
                killed += 1
            watched.forget()
            plugin.stop()
            plugin = split.plugin = new_plugin(engine, watched)
            split.up(wanted)
            assert plain(split.outputs["weights"]) == wanted["weights"]
            assert split.refresh() == {}
    finally:
        stop.set()
        for each in clients:
            each.join()
        plugin.stop()
    assert killed >= 8
    assert failures == []
    assert sum(counted.values()) > 500
    assert set(counted) == set(group.members)
