"""Asking hosts over HTTP: which of them are this machine, and an opener that takes no token elsewhere."""

from __future__ import annotations

import ipaddress
import ssl
from typing import Any
from urllib import request as urllib_request
from urllib.parse import urlsplit


def is_loopback(host: str) -> bool:
    """Whether ``host`` is this machine, which no proxy can reach."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_loopback_endpoint(endpoint: str) -> bool:
    """Whether ``host[:port]`` is this machine."""
    return is_loopback(urlsplit(f"//{endpoint}").hostname or "")


def opener(url: str, context: ssl.SSLContext | None = None) -> urllib_request.OpenerDirector:
    """What asks the host of ``url``: it follows no redirect, and takes no proxy to this machine.

    Args:
        url: URL of the request, or of the service.
        context: whom to trust and who to be in TLS; None: the system's authorities, and nobody.
    """
    handlers: list[urllib_request.BaseHandler] = [_NoRedirect()]
    if context is not None:
        handlers.append(urllib_request.HTTPSHandler(context=context))
    if is_loopback(urlsplit(url).hostname or ""):
        handlers.append(urllib_request.ProxyHandler({}))
    return urllib_request.build_opener(*handlers)


class _NoRedirect(urllib_request.HTTPRedirectHandler):
    """A redirect would carry the token to wherever it points."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None
