"""Keeps pages of other sites out: what a browser says about a request, and which address it was told to reach.

Any page that is open in a browser on this machine can send requests to a loopback port. It cannot leave out what the
browser adds to them (``Origin``, ``Sec-Fetch-Site``, ``Referer``), and a name that somebody has pointed at 127.0.0.1
(DNS rebinding) shows in ``Host``. Command-line tools and SDKs send none of the first and the address in the second.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit

_OWN_SITE = frozenset({"same-origin", "none"})
"""``none`` is a person who typed the address. A page on another port of this machine is ``same-site``: foreign."""


def refusal(headers: Mapping[str, str], host: str, scheme: str = "http") -> str:
    """Why a request is not answered; empty for one that may be looked at further.

    Args:
        headers: of the request; names in any case, or in lower case.
        host: ``Host`` header or ``:authority``.
        scheme: the request's own.
    """
    if not is_loopback(host):
        return "the Host header does not name a loopback address"
    if reason := of_another_site(headers, host, scheme):
        return reason
    if (_header(headers, "Upgrade") or "").lower() == "websocket":
        return "no WebSockets are spoken here"
    return ""


def of_another_site(headers: Mapping[str, str], host: str, scheme: str = "http") -> str:
    """Why a request is one of a page that does not come from here; empty where nothing says so.

    Args:
        headers: of the request; names in any case, or in lower case.
        host: ``Host`` header or ``:authority``.
        scheme: the request's own.
    """
    own = f"{scheme}://{host}".lower()
    origin = _header(headers, "Origin")
    if origin is not None and origin.lower() != own:
        return "it comes from a page of another site"
    site = _header(headers, "Sec-Fetch-Site")
    if site is not None and site.lower() not in _OWN_SITE:
        return "it comes from a page of another site"
    referer = _header(headers, "Referer")
    if referer is not None and not f"{referer.lower()}/".startswith(f"{own}/"):
        return "it comes from a page of another site"
    return ""


def is_direct(host: str) -> bool:
    """Whether ``host[:port]`` is no name that somebody could have pointed here: an address, a name of this machine, or
    one that only a cluster's DNS knows."""
    try:
        name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return False
    if is_loopback(host) or ("." not in name and ":" not in name) or name.endswith((".svc", ".cluster.local")):
        return bool(name)
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether ``host[:port]`` is this machine, or a bucket's name in front of it. The port may be a tunnel's."""
    try:
        name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return False
    if name == "localhost" or name.endswith((".localhost", ".127.0.0.1")):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _header(headers: Mapping[str, str], name: str) -> str | None:
    return headers.get(name, headers.get(name.lower()))
