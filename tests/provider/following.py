"""Services that follow a model config file at once, and a file: what a rollout meets without a cloud."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from provider import served_config
from provider.asking import Answers, AskedService
from provider.resource import Context
from provider.rollout import run
from provider.served_config import ServedConfig
from tfserving.client import VersionStatus
from tfserving.contract.serving import ServedConfigInputs
from tfserving.model_config import ModelServerConfig
from tfserving.property_values import Properties


def inputs(models: ModelServerConfig, services: Iterable[str] = ("a", "b")) -> Properties:
    reads = {name: {"url": f"http://{name}", "pollSeconds": 1} for name in services}
    published = {model.name: model.policy.versions for model in models.models}
    found = ServedConfigInputs.read(
        {"bucket": "b", "key": "root/model_config.pbtxt", "owner": "project/stack", "services": reads, "waitSeconds": 1}
    )
    checked, failures = ServedConfig().check({}, replace(found, models=models, published=published).write())
    assert not failures
    return checked


@dataclass
class World:
    """Services, each of two replicas that follow the file at once, but for what is broken.

    Attributes:
        file: what the file says.
        asked: models of every asking, newest last.
        broken: models that a replica does not serve.
        refuses: the servers take up no file in which a broken model has a label, as TensorFlow Serving does.
        disk: versions in the directory of a model; by default what its policy names.
        told: what rollouts said.
    """

    file: ModelServerConfig
    asked: list[set[str]] = field(default_factory=list)
    broken: set[str] = field(default_factory=set)
    refuses: bool = True
    disk: Mapping[str, Iterable[int]] = field(default_factory=dict)
    in_force: ModelServerConfig = field(init=False)
    memory: dict[str, Any] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.in_force = self.file

    def write(self, written: ModelServerConfig) -> None:
        self.file = written
        if not (self.refuses and self.broken):
            self.in_force = written

    def answer(self, models: Mapping[str, Iterable[str]]) -> Answers:
        states: dict[str, Any] = {}
        labels: dict[str, Any] = {}
        for name, wanted in models.items():
            model = self.in_force.get(name)
            versions = model.policy.select(self.disk.get(name, model.policy.versions)) if model else ()
            whole = {each: VersionStatus(each, "AVAILABLE", "OK", "") for each in versions}
            states[name] = (whole, {} if name in self.broken else whole)
            answering = {label: each for label, each in (model.labels if model else {}).items() if each in versions}
            labels[name] = {
                label: (answering.get(label), None if name in self.broken else answering.get(label)) for label in wanted
            }
        return Answers(states, labels)

    def ctx(self) -> Context:
        nothing = SimpleNamespace(oss=None)
        ctx = Context(
            "urn",
            Path(),
            cast(Any, nothing),
            lambda *said, **_: self.told.append(said[2]),
            threading.Event(),
            memory=self.memory,
        )
        ctx.sleep = lambda _: ctx.check()  # type: ignore[method-assign]
        return ctx


def follow(found: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """Let every rollout meet these services, and this file."""

    class Fleet:
        def __init__(self, _: Context, services: Iterable[AskedService], __: object = None) -> None:
            self.services = tuple(services)
            self.polling, self.restarting = self.services, ()

        def count_replicas(self) -> None:
            pass

        def trouble(self, *_: object) -> list[str]:
            return []

        def story(self, *_: object) -> list[str]:
            return []

        def ask(self, services: Iterable[AskedService], models: Mapping[str, Iterable[str]]) -> dict[str, Answers]:
            asked = tuple(services)
            found.asked.append(set(models) if asked else set())
            return {each.name: found.answer(models) for each in asked}

        ask_patiently = ask

    class Files:
        name, uri, first = "model_config.pbtxt", "oss://b/root/model_config.pbtxt", None
        restarts: frozenset[str] = frozenset()
        gates = ()

        def __init__(self, *_: object) -> None:
            pass

        def find(self) -> ModelServerConfig:
            return found.file

        read = find

        def write(self, written: ModelServerConfig, *_: object) -> None:
            found.write(written)

    for module in (served_config, run):
        monkeypatch.setattr(module, "Fleet", Fleet)
        monkeypatch.setattr(module, "Files", Files)
    return found
