"""The access token of a service, as requests carry it."""

from __future__ import annotations

import hmac
from collections.abc import Iterable


def is_authorized(values: Iterable[str], token: str) -> bool:
    """Whether one of the ``Authorization`` values is the token, raw or after ``Bearer``, as the real one takes it."""
    return any(_same(value.strip(), token) or _same(_bearer(value.strip()), token) for value in values)


def _bearer(value: str) -> str:
    scheme, _, rest = value.partition(" ")
    return rest.strip() if scheme.lower() == "bearer" else ""


def _same(given: str, token: str) -> bool:
    return hmac.compare_digest(given.encode(errors="surrogateescape"), token.encode())
