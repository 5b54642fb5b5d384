"""Restarts of services that read their model config file only when they start."""

from __future__ import annotations

from collections.abc import Iterator

from provider.clients import DescribedService
from provider.resource import Context

RESTART_SECONDS = 900.0
"""Time for a restart, replica by replica."""

_SETTLE_SECONDS = 15.0
"""After so long a service that never looked restarted has been: it was quicker than anybody looked."""


def restart(
    ctx: Context, name: str, seconds: float = RESTART_SECONDS
) -> Iterator[tuple[DescribedService | None, bool]]:
    """Restart a service, and yield what it is from then on, until ``seconds`` are over.

    Yields:
        The service (None where it is gone), and whether it runs again after it was seen not to.
    """
    ctx.clients.eas.restart(name)
    has_left = False
    for gone in ctx.poll(seconds):
        found = ctx.clients.eas.describe(name)
        has_left = has_left or found is None or found.status != "Running" or gone > _SETTLE_SECONDS
        yield found, has_left and found is not None and found.status == "Running"
