"""Whose a service is, and what a preview says before it is taken over, changed or deleted."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from provider import clients
from provider.eas.labels import OWNER_LABEL
from provider.eas.spec import declared_group, full_spec, held_by, is_autoscaled
from provider.resource import (
    Context,
)
from tfserving import eas_drift
from tfserving.contract.serving import EasServiceInputs
from tfserving.errors import (
    CloudError,
    OwnershipError,
    TrafficError,
)


class SafetyLockError(CloudError):
    """A service may not be changed until somebody takes its safety lock off."""


def check_owner(name: str, owner: str, inputs: EasServiceInputs, also: tuple[str, ...]) -> None:
    """Refuse a service of somebody else, unless it is to be adopted.

    Raises:
        OwnershipError: it belongs to somebody else.
    """
    if owner == inputs.owner or owner in also or inputs.adopt:
        return
    if not owner and also:
        return  # ours by the state; only its label was removed
    whose = f"belongs to {owner}" if owner else "was not made by this project"
    raise OwnershipError(
        f"service {name} exists already and {whose}. "
        "Fix: choose another name, or set adopt: true on the service to take it over"
    )


def check_change(ctx: Context, name: str, group: str) -> None:
    """Refuse in the preview of an update what EAS will refuse.

    Args:
        group: the group that the service is to be in.

    Raises:
        SafetyLockError: see :func:`check_lock`.
        TrafficError: see :func:`check_group`.
    """
    try:
        found = ctx.clients.eas.describe(name)
    except CloudError:
        return  # the update will say it
    check_lock(found, name)
    check_group(found, name, group)


def check_lock(found: clients.DescribedService | None, name: str) -> None:
    """Refuse a change of a service with the safety lock ``all``.

    Raises:
        SafetyLockError: it has.
    """
    if found is not None and found.lock == "all":
        raise SafetyLockError(
            f"service {name} has the safety lock 'all', set beside this stack: EAS refuses every change of it. "
            "Fix: take the lock off in the EAS console, then run the update again"
        )


def check_group(found: clients.DescribedService | None, name: str, group: str) -> None:
    """Refuse in the preview what EAS cannot do: have a service join a group later than when it is made.

    Args:
        found: the service as it is; None where it is not known.
        name: its name.
        group: the declared group; empty for none.

    Raises:
        TrafficError: it is to join another group than its own.
    """
    if found is None or not group or found.group == group:
        return
    now = f"is in group {found.group}" if found.group else "is in no group"
    raise TrafficError(
        f"service {name} exists and {now}, so it cannot join {group}: a service joins its group when it is made. Fix: "
        f"give it another name, such as {name}_2, in tf-serving:services and tf-serving:traffic; the new service is "
        "made in the group, and the old one goes when the new one has its share"
    )


def warn_of_traffic(ctx: Context, found: clients.DescribedService, group: str) -> None:
    """A group sends a service with the weight 0 nothing, and nothing else of it shows that.

    Args:
        group: the group that the stack declares, whose shares are its own business.
    """
    if not group and found.traffic == "grouping" and found.weight == 0:
        ctx.warning(
            f"service {found.name} gets no request through its group: its traffic weight is 0, set beside this stack, "
            "which leaves it alone. Fix: give it a weight in the EAS console"
        )


def check_deletable(name: str, owner: str, inputs: EasServiceInputs) -> None:
    """Refuse to delete a service that another stack has taken over.

    Raises:
        OwnershipError: it has.
    """
    if owner and owner != inputs.owner:
        raise OwnershipError(
            f"service {name} belongs to {owner} now, so it is not deleted. "
            "Fix: take it out of this stack's state with `pulumi state delete`"
        )


def preview_taking_over(ctx: Context, inputs: EasServiceInputs) -> None:
    """Before a create: say what it would change of a service that exists already.

    Raises:
        OwnershipError: it is somebody else's, and not to be adopted.
        CloudError: there are no credentials.
    """
    name = inputs.name
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
    check_group(found, name, declared_group(inputs))
    ctx.info(f"service {name} exists already ({found.status}): it is taken over, which changes")
    for line in taken_over_changes(inputs, found.config, held_by(found)):
        ctx.info(f"  {line}")


def taken_over_changes(inputs: EasServiceInputs, config: Mapping[str, Any], stamp: str) -> list[str]:
    """What taking a service over changes of its service JSON, one line each.

    Args:
        inputs: of the resource that takes it over.
        config: the service JSON as EAS stores it.
        stamp: of the create that holds the service; empty where none does.
    """
    changes = eas_drift.drift(full_spec(inputs, stamp), config, {}, autoscaled=is_autoscaled(inputs))
    lines = []
    for path, (wanted, there) in changes.items():
        if wanted is None and path in eas_drift.KEPT:
            continue
        if wanted is None:
            lines.append(f"{path}: {_shown(there)} is not declared: it goes, unless EAS adds it by itself")
        else:
            lines.append(f"{path}: {_shown(there)} -> {_shown(wanted)}")
    return lines


def _shown(value: Any) -> str:
    return "nothing" if value is None else json.dumps(value, ensure_ascii=False)
