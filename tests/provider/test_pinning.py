"""Pins on simulated services: TensorFlow Serving reads a file when it likes, and sets labels before policies."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provider import pinning
from provider.asking import MOUNT_CACHE_SECONDS, Answers, AskedService
from provider.eas import labels
from provider.model_config_file import ConfigObject
from provider.pinning import _File, _Reader, _Request
from provider.resource import Context
from tfserving import model_config
from tfserving.client import VersionStatus
from tfserving.contract.storage import PublishedModelInputs
from tfserving.errors import RolloutError, ServiceError, ServiceUnreachableError
from tfserving.model_config import Model, ModelServerConfig, VersionPolicy
from tfserving.pinning import Coming

LATEST = ModelServerConfig((Model("titles", "/models/titles", policy=VersionPolicy.latest(1)),))
PINNED = VersionPolicy.specific({1})
COMING = Coming(frozenset({1}), frozenset({2}))
WANTED = Model("titles", "/models/titles", policy=VersionPolicy.specific({1, 2}))


@pytest.mark.parametrize(
    ("places", "reads"),
    [
        (["oss://models/tf/"], True),
        (["oss://models/tf"], True),
        (["oss://models/"], True),
        (["oss://data/", "oss://models/tf/"], True),
        ([], True),
        (["oss://models-old/tf/"], False),
        (["oss://models/tf2/"], False),
        (["oss://models/t"], False),
    ],
)
def test_a_service_reads_the_file_only_where_its_place_is_mounted(places: list[str], reads: bool) -> None:
    storage = [{"mount_path": f"/m{number}", "oss": {"path": place}} for number, place in enumerate(places)]
    assert labels.mounts({"storage": storage}, "oss://models/tf/model_config.pbtxt") is reads


class Store:
    """One text, as a bucket or ConfigMap holds it, and every text it has held."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.seconds: float | None = 1e6

    def uri(self, key: str) -> str:
        return f"test://{id(self)}/{key}"

    def get_text(self, key: str) -> str | None:
        return self.texts[-1] if self.texts else None

    def age(self, key: str) -> float | None:
        return self.seconds

    def put_text(self, key: str, text: str, *, new_only: bool = False) -> None:
        self.texts.append(text)

    def delete(self, keys: list[str]) -> None:
        self.texts.clear()


class Server:
    """A TensorFlow Serving: takes the labels of a file, then the policies, and reads again only after that."""

    def __init__(self, store: Store, turns: Iterable[bool] = (), loaded: tuple[int, ...] = (1,)) -> None:
        self.store, self.turns, self.loaded = store, list(turns), loaded
        self.labels: Mapping[str, int] = {}
        self.policy = LATEST.models[0].policy
        self.reading: Model | None = None
        self.silent = False

    def turn(self) -> None:
        """Some time goes by: the server goes one moment on, or is slow."""
        if self.turns and not self.turns.pop():
            return
        if self.reading is None:
            self.reading = model_config.parse(self.store.texts[-1]).models[0]
            self.labels = self.reading.labels
        else:
            self.policy, self.reading = self.reading.policy, None


class World:
    """A file, and services that read it; time goes by when somebody asks or sleeps."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch | None = None) -> None:
        self.store = Store()
        self.config = ConfigObject(self.store, "model_config.pbtxt", "project/stack")
        self.config.write(LATEST)
        self.readers: dict[str, tuple[_Reader, Server]] = {}
        self.restarted: list[str] = []
        self.restart_fails = False
        self.slept: list[float] = []
        self.ctx = Context("urn", Path(), cast(Any, None), lambda *_, **__: None, threading.Event())
        self.ctx.sleep = self.sleep  # type: ignore[method-assign]

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    def add(self, name: str, server: Server, *, poll: float = 1, declared: bool = True, labels: bool = True) -> Server:
        service = AskedService(name, f"http://{name}", "", "", poll, True)
        self.readers[name] = (_Reader(service, declared, labels), server)
        return server

    def pin(self) -> None:
        world = self

        class Fleet:
            def __init__(self, *_: object) -> None:
                pass

            def count_replicas(self) -> None:
                pass

            def ask(
                self, services: Iterable[AskedService], models: Mapping[str, Iterable[str]]
            ) -> dict[str, Answers | ServiceError]:
                return {each.name: world.answer(each.name, models) for each in services}

        class File(_File):
            def _readers(self) -> list[_Reader]:
                return [reader for reader, _ in world.readers.values()]

            def _restart(self, name: str, models: list[str]) -> None:
                if world.restart_fails:
                    raise RolloutError("killed here")
                world.restarted.append(name)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pinning, "Fleet", Fleet)
            file = File(self.ctx, PublishedModelInputs.read({}), self.config, "project/stack")
            file.pin({"titles": _Request("titles", COMING, WANTED)})

    def answer(self, name: str, models: Mapping[str, Iterable[str]]) -> Answers | ServiceError:
        server = self.readers[name][1]
        server.turn()
        if server.silent:
            return ServiceUnreachableError("no route")
        states = {version: VersionStatus(version, "AVAILABLE", "OK", "") for version in server.loaded}
        labels = {model: {label: (server.labels.get(label),) for label in wanted} for model, wanted in models.items()}
        return Answers(dict.fromkeys(models, (states,)), cast(Any, labels))

    def said(self) -> ModelServerConfig:
        return model_config.parse(self.store.texts[-1])


@given(st.lists(st.lists(st.booleans(), max_size=12), min_size=1, max_size=3))
def test_when_files_appear_every_service_follows_the_policies_and_not_only_the_labels(turns: list[list[bool]]) -> None:
    world = World()
    servers = [world.add(f"s{number}", Server(world.store, each)) for number, each in enumerate(turns)]
    world.pin()
    assert [server.policy for server in servers] == [PINNED] * len(servers)
    assert world.said().models[0].policy == PINNED
    assert not world.said().models[0].labels
    assert not world.slept or max(world.slept) <= 2


def test_a_service_that_cannot_start_with_labels_never_meets_one() -> None:
    world = World()
    world.add("plain", Server(world.store), labels=False, poll=30)
    world.pin()
    assert not any("version_labels" in text for text in world.store.texts)
    assert world.said().models[0].policy == PINNED
    assert max(world.slept) == pytest.approx(60 + MOUNT_CACHE_SECONDS, abs=1)


def test_a_newest_version_that_does_not_load_holds_up_no_pin() -> None:
    world = World()
    server = world.add("broken", Server(world.store, loaded=()))
    world.pin()
    assert not any("version_labels" in text for text in world.store.texts)
    assert max(world.slept) > MOUNT_CACHE_SECONDS
    assert server.labels == {}


def test_a_service_that_this_update_removes_and_nobody_can_ask_is_waited_for_by_time() -> None:
    world = World()
    server = world.add("open", Server(world.store))
    world.add("in_a_vpc", Server(world.store), declared=False, poll=10).silent = True
    world.pin()
    assert server.policy == PINNED
    assert max(world.slept) == pytest.approx(20 + MOUNT_CACHE_SECONDS, abs=2)


def test_a_service_that_reads_only_at_start_is_restarted_by_the_next_run_where_one_ended_before() -> None:
    world = World()
    world.add("scene", Server(world.store), poll=0)
    world.restart_fails = True
    with pytest.raises(RolloutError):
        world.pin()
    assert "to be restarted: scene" in world.store.texts[-1]
    world.restart_fails = False
    world.pin()
    assert world.restarted == ["scene"]
    assert "restarted" not in world.store.texts[-1]
    assert world.said().models[0].policy == PINNED
    world.pin()
    assert world.restarted == ["scene"]


def test_a_file_that_is_pinned_and_old_enough_is_left_as_it_is() -> None:
    world = World()
    world.add("fast", Server(world.store))
    world.pin()
    written = len(world.store.texts)
    world.pin()
    assert len(world.store.texts) == written


class Listed:
    """A bucket by name, with some objects."""

    keys = ("models/model_config.pbtxt", "models/model_config.vision.pbtxt", "models/model_config.d/x.pbtxt",
            "models/model_config.pbtxt.old")  # fmt: skip

    def __init__(self, _: Any, name: str) -> None:
        self.name = name

    def list(self, prefix: str) -> list[Any]:
        return [SimpleNamespace(key=key) for key in self.keys if key.startswith(prefix)]

    def uri(self, key: str) -> str:
        return f"oss://{self.name}/{key}"


def test_every_config_file_of_the_stack_is_pinned_declared_or_not_in_the_bucket_and_in_config_maps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pinning, "Bucket", Listed)
    world = World()
    world.ctx.clients = cast(Any, type("Clients", (), {"oss": None}))
    files = {"models/model_config.new.pbtxt": "", "models/model_config.pods.pbtxt": "ns/pods"}
    inputs = PublishedModelInputs.read(
        {"bucket": "b", "configFile": "models/model_config.pbtxt", "owner": "p/s", "configFiles": files}
    )
    found = pinning._files(world.ctx, inputs, "p/s")
    in_bucket = {file.config.uri.rpartition("/")[2] for file in found if not file.config_map}
    assert in_bucket == {
        "model_config.pbtxt", "model_config.vision.pbtxt", "model_config.new.pbtxt", "model_config.pods.pbtxt"
    }  # fmt: skip
    assert [file.config_map for file in found if file.config_map] == ["ns/pods"]


SCRIPT = "/usr/bin/tf_serving_entrypoint.sh --model_config_file=/models/{} --model_config_file_poll_wait_seconds=2"


@pytest.mark.parametrize(
    ("script", "name", "reads"),
    [
        (SCRIPT.format("model_config.pbtxt"), "model_config.pbtxt", True),
        (SCRIPT.format("model_config.vision.pbtxt"), "model_config.pbtxt", False),
        (SCRIPT.format("model_config.vision.pbtxt"), "model_config.vision.pbtxt", True),
        (SCRIPT.format("/model_config.pbtxt"), "model_config.pbtxt", True),
        (SCRIPT.format("../models/model_config.pbtxt"), "model_config.pbtxt", True),
        ("serve --model_config_file=$CONFIG", "model_config.pbtxt", True),
        ("serve --model_name=one", "model_config.pbtxt", False),
    ],
)
def test_a_service_reads_the_file_that_its_start_command_names(script: str, name: str, reads: bool) -> None:
    service = {
        "containers": [{"script": script}],
        "storage": [{"mount_path": "/models", "oss": {"path": "oss://b/m/"}}],
    }
    assert labels.may_read(service, name) is reads
    if reads and "$" not in script:
        assert labels.config_file_of(service) == f"oss://b/m/{name}"


def test_a_stack_that_is_renamed_by_this_update_pins_its_file_under_both_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Listed, "keys", ())
    monkeypatch.setattr(pinning, "Bucket", Listed)
    world = World()
    world.ctx.clients = cast(Any, type("Clients", (), {"oss": None}))
    inputs = PublishedModelInputs.read(
        {"bucket": "b", "configFile": "models/model_config.pbtxt", "owner": "project/new"}
    )
    assert [file.owner for file in pinning._files(world.ctx, inputs, "project/old")] == ["project/new", "project/old"]
    assert [file.owner for file in pinning._files(world.ctx, inputs, "project/new")] == ["project/new"]
    assert pinning._files(world.ctx, PublishedModelInputs.read({"owner": "project/new"}), "project/old") == []
