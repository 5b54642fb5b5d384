"""Whose a service is, and what a preview says before it is taken over, changed or deleted."""

from __future__ import annotations

import json
from typing import Any

from provider import clients
from provider.eas.labels import OWNER_LABEL
from provider.eas.spec import full_spec, held_by
from provider.properties import Properties
from provider.resource import (
    Context,
    flag,
    table,
    text,
)
from tfserving import eas_drift
from tfserving.errors import (
    CloudError,
    OwnershipError,
)


class SafetyLockError(CloudError):
    """A service may not be changed until somebody takes its safety lock off."""


def check_owner(name: str, owner: str, inputs: Properties, also: tuple[str, ...]) -> None:
    """Refuse a service of somebody else, unless it is to be adopted."""
    if owner == text(inputs, "owner") or owner in also or flag(inputs, "adopt"):
        return
    if not owner and also:
        return  # ours by the state; only its label was removed
    whose = f"belongs to {owner}" if owner else "was not made by this project"
    raise OwnershipError(
        f"service {name} exists already and {whose}. "
        "Fix: choose another name, or set adopt: true on the service to take it over"
    )


def check_lock(ctx: Context, name: str) -> None:
    """Refuse in the preview what EAS will refuse: a change of a service with the safety lock ``all``.

    Raises:
        SafetyLockError: it has.
    """
    try:
        found = ctx.clients.eas.describe(name)
    except CloudError:
        return  # the update will say it
    if found is not None and found.lock == "all":
        raise SafetyLockError(
            f"service {name} has the safety lock 'all', set beside this stack: EAS refuses every change of it. "
            "Fix: take the lock off in the EAS console, then run the update again"
        )


def warn_of_traffic(ctx: Context, found: clients.EasService) -> None:
    """A group sends a service with the weight 0 nothing, and nothing else of it shows that."""
    if found.traffic == "grouping" and found.weight == 0:
        ctx.warning(
            f"service {found.name} gets no request through its group: its traffic weight is 0, set beside this stack, "
            "which leaves it alone. Fix: give it a weight in the EAS console"
        )


def check_deletable(name: str, owner: str, inputs: Properties) -> None:
    """Refuse to delete a service that another stack has taken over."""
    if owner and owner != text(inputs, "owner"):
        raise OwnershipError(
            f"service {name} belongs to {owner} now, so it is not deleted. "
            "Fix: take it out of this stack's state with `pulumi state delete`"
        )


def preview_taking_over(ctx: Context, inputs: Properties) -> None:
    """Before a create: say what it would change of a service that exists already.

    Raises:
        OwnershipError: it is somebody else's, and not to be adopted.
        CloudError: there are no credentials.
    """
    name = text(inputs, "name")
    try:
        found = ctx.clients.eas.describe(name)
    except clients.NoCredentialsError:
        raise
    except CloudError as error:
        # A first preview has nothing else to ask the cloud, and is of use without it.
        ctx.info(f"it is not known yet whether service {name} exists already: {error}")
        return
    if found is None or found.status == "Deleting":
        return
    check_owner(name, found.labels.get(OWNER_LABEL, ""), inputs, ())
    autoscaled = flag(inputs, "autoscaled") or bool(table(inputs, "autoscaler"))
    changes = eas_drift.drift(full_spec(inputs, held_by(found)), found.config, {}, autoscaled=autoscaled)
    ctx.info(f"service {name} exists already ({found.status}): it is taken over, which changes")
    for path, (wanted, there) in changes.items():
        if wanted is None and path in eas_drift.KEPT:
            continue
        if wanted is None:
            ctx.info(f"  {path}: {_shown(there)} is not declared: it goes, unless EAS adds it by itself")
        else:
            ctx.info(f"  {path}: {_shown(there)} -> {_shown(wanted)}")


def _shown(value: Any) -> str:
    return "nothing" if value is None else json.dumps(value, ensure_ascii=False)
