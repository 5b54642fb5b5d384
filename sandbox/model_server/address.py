"""The address the server listens on: always loopback. Pods of the sandbox's cluster have one each, with equal ports."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping

VARIABLE = "TF_SERVING_SANDBOX_HOST"
"""Environment variable: an address in 127.0.0.0/8, by default 127.0.0.1."""


def host(environment: Mapping[str, str] = os.environ) -> str:
    """The address to listen on.

    Raises:
        SystemExit: the variable does not hold a loopback address.
    """
    found = environment.get(VARIABLE) or "127.0.0.1"
    try:
        if ipaddress.IPv4Address(found).is_loopback:
            return found
    except ValueError:
        pass
    raise SystemExit(f"{VARIABLE} must be an address in 127.0.0.0/8, is {found!r}")
