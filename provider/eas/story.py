"""Why a service is not up: its state, newest events and log lines."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from provider import clients
from provider.eas.spec import secrets_of
from provider.resource import (
    Context,
)
from tfserving import eas_drift
from tfserving.errors import (
    CloudError,
)

_EVENTS = 8
_LOG_LINES = 20
_LOG_LINES_READ = 200
_TROUBLE_LINES = 8
_TROUBLE = re.compile(r"error|fail|cannot|could not|invalid|refus|not found|unable", re.IGNORECASE)


def failure_story(ctx: Context, found: clients.DescribedService | None, what: str) -> str:
    """A failure with what EAS knows about it: the state's reason, newest events and log lines, without secrets."""
    if found is None:
        return what
    lines = [f"{what}: {found.message}" if found.message else what]
    api = ctx.clients.eas
    asked: tuple[tuple[str, Callable[[str, int], Iterable[object]], int], ...] = (
        ("events", api.events, _EVENTS),
        ("log lines", api.log_tail, _LOG_LINES),
    )
    for title, ask, count in asked:
        try:
            newest = [line for each in ask(found.name, count) if (line := str(each).rstrip())]
        except CloudError as error:
            newest = [f"not available: {error}"]
        if newest:
            lines += [f"newest {title} of {found.name}:", *(f"  {line}" for line in newest)]
    return without_secrets("\n".join(lines), found)


def trouble_lines(ctx: Context, service: str, about: Iterable[str]) -> list[str]:
    """The newest log lines of a service that report trouble with something by name, without secrets."""
    try:
        found = ctx.clients.eas.describe(service)
        tail = ctx.clients.eas.log_tail(service, _LOG_LINES_READ) if found else []
    except CloudError:
        return []
    return [without_secrets(line, found) for line in about_trouble(tail, about)] if found else []


def about_trouble(tail: Iterable[str], about: Iterable[str]) -> list[str]:
    """The newest of some log lines that report trouble with something by name."""
    names = tuple(about)
    lines = [line.strip() for line in tail if _TROUBLE.search(line) and any(name in line for name in names)]
    return lines[-_TROUBLE_LINES:]


def without_secrets(shown: str, found: clients.DescribedService) -> str:
    """``shown`` with the token and every other secret of a service covered."""
    for secret in secrets_of({}, found.config) | {found.token}:
        if len(secret) >= 4:
            shown = shown.replace(secret, eas_drift.SECRET)
    return shown
