"""A model that moves between services: the one that loses it waits for the one that is to serve it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest

from provider import moves
from provider.moves import Elsewhere, before_restart, wait_for_others
from tfserving.errors import RolloutError

HOME = "models/model_config.models.modelA.pbtxt"
ELSEWHERE = Elsewhere(owner="p/s", models={"other": ("modelA",), "mine too": ("modelB",)})


def service(name: str, file: str, *, status: str = "Running", running: int = 2) -> Any:
    config = {
        "containers": [{"script": f"serve --model_config_file=/models/{file}"}],
        "storage": [{"mount_path": "/models", "oss": {"path": "oss://b/models/"}}],
    }
    return SimpleNamespace(name=name, config=config, status=status, running=running)


@dataclass
class World:
    """Services as they are from one look to the next, and what a waiting operation says."""

    looks: list[list[Any]]
    said: list[str] = field(default_factory=list)
    turns: int = 0

    def context(self) -> Any:
        def now() -> list[Any]:
            return self.looks[min(self.turns, len(self.looks) - 1)]

        def poll(seconds: float, *, longest: float = 5.0) -> Iterator[float]:
            for self.turns in range(5 if seconds else 1):
                yield float(self.turns)

        eas = SimpleNamespace(
            labelled=lambda _: now(), describe=lambda name: next((s for s in now() if s.name == name), None)
        )
        return SimpleNamespace(
            clients=SimpleNamespace(eas=eas, oss=None), poll=poll, status=self.said.append, warning=self.said.append
        )


@pytest.fixture(autouse=True)
def answers(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The services that answer for the model on every replica."""
    found = {"other"}
    monkeypatch.setattr(moves, "_answers", lambda ctx, service, model: service.name in found)
    return found


def wait(world: World, lost: set[str]) -> None:
    wait_for_others(cast(Any, world.context()), ELSEWHERE, lost, {"mine"})


READS = service("other", HOME.rpartition("/")[2])


def test_what_nobody_else_is_to_serve_goes_at_once() -> None:
    world = World([[]])
    wait(world, {"modelX"})
    assert (world.turns, world.said) == (0, [])


def test_the_loser_waits_until_another_service_has_started_with_the_model() -> None:
    starting = service("other", HOME.rpartition("/")[2], status="Updating")
    world = World([[], [starting], [READS]])
    wait(world, {"modelA"})
    assert world.turns == 2
    assert world.said == ["waiting until another service serves modelA"] * 2


def test_a_service_that_runs_and_does_not_answer_for_the_model_does_not_count(answers: set[str]) -> None:
    answers.clear()
    with pytest.raises(RolloutError, match=r"modelA moves away from mine.*nothing was taken away.*Fix: "):
        wait(World([[READS]]), {"modelA"})


def test_a_service_that_serves_the_model_now_and_later_is_waited_for_no_longer_whatever_file_it_reads() -> None:
    world = World([[service("other", "model_config.pbtxt")]])
    wait(world, {"modelA"})
    assert (world.turns, world.said) == (0, [])


def test_of_two_services_that_exchange_models_one_goes_first_and_says_so(
    monkeypatch: pytest.MonkeyPatch, answers: set[str]
) -> None:
    answers.clear()
    monkeypatch.setattr(moves, "_WAITING", {"mine", "other"})
    world = World([[READS]])
    wait(world, {"modelA"})
    assert world.turns == 0
    assert "exchange models: modelA is served by nobody until both have started" in world.said[0]
    monkeypatch.setattr(moves, "_WAITING", {"mine"})
    with pytest.raises(RolloutError):  # the other one is not waiting: it starts with the model
        wait(World([[READS]]), {"modelA"})


def test_a_restart_with_the_same_file_waits_for_nobody() -> None:
    old = service("mine", "model_config.pbtxt").config
    before_restart(cast(Any, World([[]]).context()), "mine", ELSEWHERE, ["modelB"], old, old)
