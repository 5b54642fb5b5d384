"""Models that move from one service of a stack to another: the one that loses them waits until another serves them.

A service that serves a model now, and is to serve it after the update, serves it all along, whichever file it reads.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from provider.asking import Answers, AskedService, Fleet
from provider.clients import DescribedService
from provider.eas.labels import config_file_of
from provider.eas.spec import address_of
from provider.model_config_file import ConfigObject
from provider.oss import Bucket
from provider.resource import Context
from tfserving.errors import RolloutError
from tfserving.wording import some_of

MOVE_SECONDS = 600.0
"""How long a service waits for those that are to serve what it loses."""

_GUARD = threading.Lock()
_WAITING: set[str] = set()
"""Services that wait here before they start with another file."""


@dataclass(frozen=True, kw_only=True)
class Elsewhere:
    """The services of a stack that have another model config file.

    Attributes:
        owner: ``<project>/<stack>``.
        models: what each of them is to serve, by its name.
    """

    owner: str
    models: Mapping[str, Collection[str]]

    def homes(self, model: str) -> set[str]:
        """The services that are to serve a model."""
        return {name for name, models in self.models.items() if model in models}


def before_restart(
    ctx: Context,
    name: str,
    elsewhere: Elsewhere,
    models: Collection[str],
    old: Mapping[str, Any],
    new: Mapping[str, Any],
) -> None:
    """Wait before a service starts anew with another config file, which lists fewer models than the one it has.

    Args:
        ctx: the update of the service.
        name: its name.
        elsewhere: the other services.
        models: what it is to serve.
        old: its JSON now.
        new: its JSON after that.

    Raises:
        RolloutError: nobody comes to serve what it loses.
        CloudError: the cloud refused.
    """
    was, then = config_file_of(old), config_file_of(new)
    if not elsewhere.models or was is None or then is None or was == then:
        return
    bucket_name, _, key = was.removeprefix("oss://").partition("/")
    stored = ConfigObject(Bucket(ctx.clients.oss, bucket_name), key, elsewhere.owner).find()
    config = stored.parse() if stored is not None and stored.owner == elsewhere.owner else None
    with _waiting(name):
        wait_for_others(ctx, elsewhere, set(config.names if config else ()) - set(models), {name})


def wait_for_others(ctx: Context, elsewhere: Elsewhere, lost: Collection[str], services: Collection[str]) -> None:
    """Wait until models that services are about to lose are served by others, where another file names them.

    Args:
        ctx: the operation that is about to take the models away.
        elsewhere: the other services.
        lost: the models.
        services: who is about to lose them.

    Raises:
        RolloutError: nobody comes to serve a model.
        CloudError: the cloud refused.
    """
    left = {model: homes for model in sorted(lost) if (homes := elsewhere.homes(model))}
    for _ in ctx.poll(MOVE_SECONDS if left else 0.0, longest=3):
        left = {model: homes for model, homes in left.items() if not any(_serves(ctx, name, model) for name in homes)}
        if not left:
            return
        with _GUARD:
            ahead = {name for name in _WAITING if name > min(services)}
        mutual = {model for model, homes in left.items() if homes <= ahead}
        if mutual:
            ctx.warning(
                f"{some_of(sorted(services), 3)} and others exchange models: {', '.join(sorted(mutual))} is served by "
                "nobody until both have started. To avoid that, add models in one update and remove them in the next"
            )
            return
        ctx.status(f"waiting until another service serves {', '.join(left)}")
    if left:
        raise RolloutError(
            f"{', '.join(left)} moves away from {', '.join(sorted(services))}, and no other service came to serve it "
            f"within {MOVE_SECONDS:g} s; nothing was taken away. "
            "Fix: see why the service that is to serve it does not, then run the update again"
        )


@contextmanager
def _waiting(name: str) -> Iterator[None]:
    with _GUARD:
        _WAITING.add(name)
    try:
        yield
    finally:
        with _GUARD:
            _WAITING.discard(name)


def _serves(ctx: Context, name: str, model: str) -> bool:
    """Whether every replica of a service has a version of the model AVAILABLE."""
    found = ctx.clients.eas.describe(name)
    return found is not None and found.status == "Running" and bool(found.running) and _answers(ctx, found, model)


def _answers(ctx: Context, found: DescribedService, model: str) -> bool:
    grpc = bool((found.config.get("metadata") or {}).get("enable_grpc"))
    url, target = address_of(found, grpc=grpc)
    service = AskedService(found.name, url, target, found.token, 0, True)
    fleet = Fleet(ctx, [service])
    fleet.count_replicas()
    answer = fleet.ask([service], {model: ()})[found.name]
    return bool(answer.available(model)) if isinstance(answer, Answers) else False
