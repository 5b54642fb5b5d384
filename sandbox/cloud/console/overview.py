"""What the console shows: every service, and what each of its replicas says it serves.

What a service is to serve is read from its start command and its model config file; what it does serve is asked of the
replicas themselves. Those are asked for the models that are on the page; the others of a large service are gone through
bit by bit, so that one knows which of a thousand models needs a look without a thousand requests every other second.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any

from sandbox.cloud.console.places import Declared, Place, PlaceError, Shown, Target, page_of
from sandbox.cloud.errors import ApiError
from tfserving.client import ModelClient, VersionStatus
from tfserving.errors import ServiceError, ServiceUnreachableError
from tfserving.model_config import Model

SERVICES_PER_PAGE = 20
MODELS_PER_PAGE = 20

_ANSWER_SECONDS = 2.0
_FRESH_SECONDS = 1.0
_SWEEP_AGAIN_SECONDS = 30.0
_SWEEP_SECONDS = 0.5
"""How long other models are asked after each look."""
_SWEEP_AT_ONCE = 20


@dataclass
class Replica:
    """What one replica answered.

    Attributes:
        versions: states of the versions, by model.
        labels: version that answers, by model and label; None where no version does.
        problems: what it said instead, by model.
    """

    versions: dict[str, list[VersionStatus]] = field(default_factory=dict)
    labels: dict[tuple[str, str], int | None] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Query:
    """What a page wants to see.

    Attributes:
        text: part of the name of a service, model or label, in any case.
        troubled: only what needs a look.
        page: which services, from 1.
        pages: which models, from 1, by service.
    """

    text: str = ""
    troubled: bool = False
    page: int = 1
    pages: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class _Known:
    """What was last said of a model."""

    model: Model
    replicas: tuple[str, ...]
    view: Mapping[str, Any]
    at: float


@dataclass
class _Board:
    """All that is known of a service's models."""

    models: dict[str, _Known] = field(default_factory=dict)
    sweep: asyncio.Task[None] | None = None

    def troubled(self, models: Iterable[Model]) -> set[str]:
        """Names of the models that need a look, as far as is known."""
        return {model.name for model in models if (known := self.models.get(model.name)) and needs_a_look(known.view)}


class Overview:
    """Looks at all services, at most once a second however many pages are open."""

    def __init__(self, places: Sequence[Place], executor: Executor) -> None:
        """Args:
        places: where services run.
        executor: for calls that block.
        """
        self._places = places
        self._executor = executor
        self._lock = asyncio.Lock()
        self._services: list[tuple[Shown, Declared]] = []
        self._problems: list[str] = []
        self._expires = 0.0
        self._boards: dict[str, _Board] = {}

    async def get(self, query: Query) -> dict[str, Any]:
        """One page: ``{"services": [...], "total", "matching", "page", "pages", "problems", "names"}``.

        Never a token, and no service JSON, which may hold one.
        """
        services = await self.services()
        text = query.text.strip().lower()
        matching = []
        for shown, declared in services:
            board = self._board(shown)
            troubled = board.troubled(declared.models)
            whole = not text or text in shown.name.lower()
            models = [
                model
                for model in declared.models
                if (whole or _mentions(model, text)) and (not query.troubled or model.name in troubled)
            ]
            bad = bool(models) or shown.facts["status"] != "Running" or bool(declared.problem)
            if (whole or models) and (not query.troubled or bad):
                matching.append((shown, declared, models, len(troubled)))
        page, pages, on_page = page_of(matching, query.page, SERVICES_PER_PAGE)
        seen = await asyncio.gather(*(self._service(query, *each) for each in on_page))
        for shown, declared in services:
            self._sweep(shown, declared)
        return {
            "services": seen,
            "total": len(services),
            "matching": len(matching),
            "page": page,
            "pages": pages,
            "problems": self._problems,
            "names": _digest(services),
        }

    async def names(self) -> list[dict[str, Any]]:
        """Every service with the names of its models, for lists to choose from."""
        return [
            {
                "name": shown.name,
                "place": shown.facts["place"],
                "protocol": shown.facts["protocol"],
                "address": shown.facts["address"],
                "models": [model.name for model in declared.models],
            }
            for shown, declared in await self.services()
        ]

    async def find(self, name: str) -> tuple[Shown, Declared]:
        """A service by name.

        Raises:
            ApiError: 404, there is none.
        """
        for shown, declared in await self.services():
            if shown.name == name:
                return shown, declared
        raise ApiError(404, "InvalidService.NotFound", f"The specified service [{name}] is not found.")

    async def services(self) -> list[tuple[Shown, Declared]]:
        """Every service, by name, and what it is to serve."""
        async with self._lock:
            if time.monotonic() >= self._expires:
                found, self._problems = [], []
                for place in self._places:
                    try:
                        found += await place.services()
                    except PlaceError as error:
                        self._problems.append(str(error))
                found.sort(key=lambda each: each.name)
                loop = asyncio.get_running_loop()
                declared = await asyncio.gather(*(loop.run_in_executor(self._executor, each.declare) for each in found))
                self._services = list(zip(found, declared, strict=True))
                for name in self._boards.keys() - {each.name for each in found}:
                    del self._boards[name]
                self._expires = time.monotonic() + _FRESH_SECONDS
            return self._services

    async def views(self, shown: Shown, models: Sequence[Model]) -> list[Mapping[str, Any]]:
        """What the replicas of a service say of some models at this moment."""
        known = self._board(shown).models
        replicas, now = tuple(each.name for each in shown.targets), time.monotonic()
        stale = [
            model
            for model in models
            if (found := known.get(model.name)) is None
            or (found.model, found.replicas) != (model, replicas)
            or now - found.at > _FRESH_SECONDS
        ]
        if stale:
            loop = asyncio.get_running_loop()
            answers = await asyncio.gather(
                *(loop.run_in_executor(self._executor, ask, target, stale) for target in shown.targets)
            )
            for model in stale:
                known[model.name] = _Known(model, replicas, model_view(model, answers), time.monotonic())
        return [known[model.name].view for model in models]

    def stop(self) -> None:
        """Asks nobody any more."""
        for board in self._boards.values():
            if board.sweep is not None:
                board.sweep.cancel()

    def _board(self, shown: Shown) -> _Board:
        return self._boards.setdefault(shown.name, _Board())

    async def _service(
        self, query: Query, shown: Shown, declared: Declared, matching: list[Model], troubled: int
    ) -> dict[str, Any]:
        page, pages, models = page_of(matching, query.pages.get(shown.name, 1), MODELS_PER_PAGE)
        views = await self.views(shown, models)
        known = self._board(shown).models
        return {
            **shown.facts,
            "models": views,
            "total": len(declared.models),
            "matching": len(matching),
            "page": page,
            "pages": pages,
            "asked": sum(model.name in known for model in declared.models),
            "troubled": troubled,
            "problem": declared.problem,
        }

    def _sweep(self, shown: Shown, declared: Declared) -> None:
        """Goes on to ask for the models that no page shows, unless that is under way."""
        board = self._board(shown)
        known = board.models
        for name in known.keys() - {model.name for model in declared.models}:
            del known[name]
        oldest = time.monotonic() - _SWEEP_AGAIN_SECONDS
        due = [model for model in declared.models if (found := known.get(model.name)) is None or found.at < oldest]
        if not due or (board.sweep is not None and not board.sweep.done()):
            return
        due.sort(key=lambda model: known[model.name].at if model.name in known else 0.0)
        board.sweep = asyncio.create_task(self._ask_on(shown, due))

    async def _ask_on(self, shown: Shown, due: Sequence[Model]) -> None:
        until = time.monotonic() + _SWEEP_SECONDS
        for start in range(0, len(due), _SWEEP_AT_ONCE):
            await self.views(shown, due[start : start + _SWEEP_AT_ONCE])
            if time.monotonic() > until:
                return


def needs_a_look(view: Mapping[str, Any]) -> bool:
    """Whether a model is not what it is to be: a version that is not available on every replica that speaks, one that
    is missing or too many, or a label that is not answered by the version it names."""
    if view["problem"] or not view["versions"]:
        return True
    if any(set(version["states"]) != {"AVAILABLE"} for version in view["versions"]):
        return True
    if len({sum(version["states"].values()) for version in view["versions"]}) > 1:
        return True
    if view["missing"] or view["extra"]:
        return True
    return any(label["answered"] != [label["wanted"]] for label in view["labels"])


def _mentions(model: Model, text: str) -> bool:
    return text in model.name.lower() or any(text in label.lower() for label in model.labels)


def _digest(services: Iterable[tuple[Shown, Declared]]) -> str:
    """Tells whether the names have changed."""
    text = repr(
        [
            (shown.name, shown.facts["protocol"], shown.facts["address"], [model.name for model in declared.models])
            for shown, declared in services
        ]
    )
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def ask(target: Target, models: Iterable[Model]) -> Replica:
    """Asks one replica what it serves. Blocks; a replica that does not answer is asked once only."""
    replica = Replica()
    with target.connect(_ANSWER_SECONDS) as client:
        silent = ""
        for model in models:
            if silent:
                replica.problems[model.name] = silent
                continue
            try:
                _ask_model(client, model, replica)
            except ServiceUnreachableError as error:
                silent = replica.problems[model.name] = str(error)
            except ServiceError as error:
                replica.problems[model.name] = str(error)
    return replica


def _ask_model(client: ModelClient, model: Model, replica: Replica) -> None:
    replica.versions[model.name] = client.status(model.name)
    for label in model.labels:
        try:
            replica.labels[model.name, label] = client.labelled_version(model.name, label)
        except ServiceUnreachableError:
            raise
        except ServiceError:
            replica.labels[model.name, label] = None


def model_view(model: Model, replicas: Sequence[Replica]) -> dict[str, Any]:
    """One model of a service: what is declared, and how many replicas say what."""
    states: dict[int, Counter[str]] = {}
    errors: dict[int, str] = {}
    for replica in replicas:
        for status in replica.versions.get(model.name, ()):
            failed = status.error_code != "OK"
            if status.state == "END" and not failed:
                continue  # an unloaded version stays listed for as long as the server runs
            states.setdefault(status.version, Counter())["FAILED" if failed else status.state] += 1
            if failed:
                errors[status.version] = status.error_message or status.error_code
    if not replicas:
        versions = sorted({*model.policy.versions, *model.labels.values()}, reverse=True)
        states = {version: Counter() for version in versions}
    return {
        "name": model.name,
        "policy": str(model.policy),
        "versions": [
            {"version": version, "states": dict(sorted(states[version].items())), "error": errors.get(version, "")}
            for version in sorted(states, reverse=True)
        ],
        "labels": [
            {"label": label, "wanted": wanted, "answered": _answered(replicas, model.name, label)}
            for label, wanted in model.labels.items()
        ],
        "missing": [] if not replicas else [each for each in model.policy.versions if each not in states],
        "extra": _extra(model, states) if replicas else [],
        "problem": next((each.problems[model.name] for each in replicas if model.name in each.problems), ""),
    }


def _extra(model: Model, states: Mapping[int, Counter[str]]) -> list[int]:
    """Versions that are served although the config does not name them, as it is while a rollout narrows."""
    if model.policy.kind != "specific":
        return []
    return sorted(each for each in states if each not in model.policy.versions and set(states[each]) != {"FAILED"})


def _answered(replicas: Sequence[Replica], model: str, label: str) -> list[int]:
    """The versions that answer requests by a label: one, unless replicas differ."""
    found = {replica.labels.get((model, label)) for replica in replicas}
    return sorted(version for version in found if version is not None)
