"""Who is listening: asked and answered by those who hold the same access key, which is not sent."""

from __future__ import annotations

import hmac
import time
from collections.abc import Mapping

from sandbox.keys import AccessKey

PATH = "/-/health"
_HEADER = "X-Sandbox-Proof"
_SECONDS = 60
_MOST_KEYS = 5


def proof(*access_keys: AccessKey) -> dict[str, str]:
    """Headers of a request for :data:`PATH`, by somebody who holds these keys."""
    moment = str(int(time.time()))
    return {_HEADER: ":".join([moment, *(_digest(moment, each) for each in access_keys)])}


def is_proven(headers: Mapping[str, str], access_key: AccessKey) -> bool:
    """Whether a request was made with the key, lately."""
    moment, *digests = headers.get(_HEADER, "").split(":")[:_MOST_KEYS]
    if not (moment.isascii() and moment.isdigit() and abs(int(moment[:12]) - time.time()) < _SECONDS):
        return False
    right = _digest(moment, access_key).encode()
    return any(hmac.compare_digest(digest.encode(errors="surrogateescape"), right) for digest in digests)


def _digest(moment: str, access_key: AccessKey) -> str:
    return hmac.new(access_key.secret.encode(), f"{PATH}:{moment}".encode(), "sha256").hexdigest()
