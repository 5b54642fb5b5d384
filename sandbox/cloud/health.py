"""Who is listening: asked and answered by those who hold the same access key, which is not sent."""

from __future__ import annotations

import hmac
import time
from collections.abc import Mapping

from sandbox.keys import AccessKey

PATH = "/-/health"
_HEADER = "X-Sandbox-Proof"
_SECONDS = 60


def proof(access_key: AccessKey) -> dict[str, str]:
    """Headers of a request for :data:`PATH`."""
    moment = str(int(time.time()))
    return {_HEADER: f"{moment}:{_digest(moment, access_key)}"}


def is_proven(headers: Mapping[str, str], access_key: AccessKey) -> bool:
    """Whether a request was made with the key, lately."""
    moment, _, digest = headers.get(_HEADER, "").partition(":")
    if not (moment.isascii() and moment.isdigit() and abs(int(moment[:12]) - time.time()) < _SECONDS):
        return False
    return hmac.compare_digest(digest.encode(errors="surrogateescape"), _digest(moment, access_key).encode())


def _digest(moment: str, access_key: AccessKey) -> str:
    return hmac.new(access_key.secret.encode(), f"{PATH}:{moment}".encode(), "sha256").hexdigest()
