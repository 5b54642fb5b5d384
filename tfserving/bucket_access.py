"""What makes an OSS bucket readable by everybody: its ACL, and statements of its policy.

OSS calls a policy public when a statement allows something to every principal, without a condition that holds requests
to certain addresses or networks.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

PRIVATE = "private"

_LIMITING = frozenset({"acs:sourceip", "acs:sourcevpc", "acs:sourcevpcid", "acs:accessid", "oss:accessid"})
"""Condition keys that hold a statement to known addresses, networks or keys."""
_LOOSE = re.compile(r"not|null|bool|date", re.IGNORECASE)
"""Condition operators that leave nearly everybody in."""


def public_ways(acl: str, policy: str, *, blocked: bool = False) -> list[str]:
    """Every way in which a bucket is open to people without a right of their own, as a reader says it.

    Args:
        acl: ``private``, ``public-read`` or ``public-read-write``; empty counts as private.
        policy: the bucket policy as OSS returns it; empty without one.
        blocked: OSS blocks public access to the bucket, whatever ACL and policy say.

    Returns:
        ``ACL public-read``, ``policy statement 2 allows oss:GetObject to everybody``; empty for a private bucket.
    """
    if blocked:
        return []
    ways = [f"ACL {acl}"] if acl not in ("", PRIVATE) else []
    for number, statement in enumerate(_statements(policy), start=1):
        if is_public(statement):
            actions = ", ".join(_texts(statement.get("Action"))) or "everything but " + ", ".join(
                _texts(statement.get("NotAction"))
            )
            ways.append(f"policy statement {number} allows {actions} to everybody")
    return ways


def without_public(policy: str) -> str:
    """The policy without the statements that are public; empty where nothing is left."""
    try:
        document = json.loads(policy)
    except ValueError:
        return ""
    kept = [statement for statement in _statements(policy) if not is_public(statement)]
    return json.dumps({**document, "Statement": kept}, indent=2) if kept else ""


def is_public(statement: Mapping[str, Any]) -> bool:
    """Whether a policy statement allows something to everybody."""
    if str(statement.get("Effect", "")).lower() != "allow":
        return False
    everybody = "NotPrincipal" in statement or "*" in _texts(statement.get("Principal"))
    return everybody and not any(_limits(*condition) for condition in _conditions(statement.get("Condition")))


def _limits(operator: str, key: str, values: list[str]) -> bool:
    if key.lower() not in _LIMITING or not values:
        return False
    return not _LOOSE.search(operator) and not any(value == "*" or value.endswith("/0") for value in values)


def _conditions(condition: Any) -> Iterator[tuple[str, str, list[str]]]:
    for operator, table in condition.items() if isinstance(condition, Mapping) else ():
        for key, value in table.items() if isinstance(table, Mapping) else ():
            yield str(operator), str(key), _texts(value)


def _statements(policy: str) -> list[Mapping[str, Any]]:
    try:
        found = json.loads(policy)["Statement"] if policy else []
    except (ValueError, KeyError, TypeError):
        return []
    statements = found if isinstance(found, list) else [found]
    return [statement for statement in statements if isinstance(statement, Mapping)]


def _texts(value: Any) -> list[str]:
    """The texts in a value that may be one text, a list, or lists by kind (``{"RAM": ["*"]}``)."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        value = list(value.values())
    return [text for item in value for text in _texts(item)] if isinstance(value, list) else []
