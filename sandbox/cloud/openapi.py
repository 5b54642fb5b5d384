"""How Alibaba Cloud OpenAPI requests (RPC and ROA style) are told from OSS requests.

Source: OpenAPI "request syntax and signature": RPC calls carry ``Action`` and ``Version`` in the query or, in the newer
clients, ``x-acs-action`` and ``x-acs-version`` headers; ROA calls carry ``x-acs-version`` and a path.
"""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web


@dataclass(frozen=True)
class OpenApiCall:
    """The name of an OpenAPI call.

    Attributes:
        action: ``GetCallerIdentity``; empty for a ROA client that sends no ``x-acs-action``.
        version: API version date, ``2015-04-01``; may be empty.
        name: what to call it in a message.
    """

    action: str
    version: str
    name: str


def openapi_call(request: web.Request) -> OpenApiCall | None:
    """The OpenAPI call a request makes, None if it is not one (then it is OSS, a gateway, or a browser)."""
    headers, query = request.headers, request.query
    action = headers.get("x-acs-action") or query.get("Action", "")
    version = headers.get("x-acs-version") or query.get("Version", "")
    if not (action or "x-acs-version" in headers or headers.get("Authorization", "").startswith("acs ")):
        return None
    return OpenApiCall(action, version, action or f"{request.method} {request.rel_url.raw_path}")
