"""Who may ask this server: the gateway in front of it, or, where there is none, anything but a page of another site.

A port on the loopback address is open to every page in a browser on this machine, and TensorFlow Serving asks nobody
who he is. A replica of the sandbox's EAS therefore answers its gateway only, which checks the token and proves itself
by a secret made for this process. A server that somebody started by hand, or a pod, takes what tools and SDKs send.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable, Mapping
from typing import Any

import grpc

from sandbox import browser

VARIABLE = "TF_SERVING_SANDBOX_GATEWAY_SECRET"
"""Environment variable: what every request must carry; empty for no gateway."""
HEADER = "Authorization"
"""HTTP header, and in lower case gRPC metadata, with the secret. TensorFlow Serving looks at none; the token of a
service comes in it as far as the gateway."""


class Callers:
    """Decides whether a request is answered.

    Args:
        secret: of the gateway; empty for none.
        cors: whether pages of other sites are welcome (``--rest_api_enable_cors_support``), where there is no gateway.
    """

    def __init__(self, secret: str = "", cors: bool = False) -> None:
        self._secret = secret
        self._cors = cors

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ, cors: bool = False) -> Callers:
        """As the environment says."""
        return cls(environment.get(VARIABLE, ""), cors)

    def refusal(self, method: str, headers: Mapping[str, str], scheme: str = "http") -> str:
        """Why an HTTP request is not answered; empty where it is.

        Args:
            headers: names in any case.
        """
        if self._secret:
            return "" if self._is_proven(headers.get(HEADER, "")) else "only its gateway may ask this replica"
        host = headers.get("Host")
        if host is not None and not browser.is_direct(host):
            return f"the Host header names {host}, which may be a page's (DNS rebinding)"
        # A preflight runs no model, and without the flag its answer permits nothing.
        if self._cors or method == "OPTIONS":
            return ""
        return browser.of_another_site(headers, host or "", scheme)

    def interceptor(self) -> Any:
        """For a gRPC server. Without a gateway everybody may call: no browser speaks gRPC."""
        return _Interceptor(self._is_proven) if self._secret else None

    def _is_proven(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), self._secret.encode())


class _Interceptor(grpc.ServerInterceptor):  # type: ignore[misc]
    def __init__(self, is_proven: Callable[[str], bool]) -> None:
        self._is_proven = is_proven

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler | None:
        given = dict(handler_call_details.invocation_metadata or ()).get(HEADER.lower(), "")
        if self._is_proven(str(given)):
            return continuation(handler_call_details)

        def refuse(_: Any, context: grpc.ServicerContext) -> Any:
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "only its gateway may ask this replica")

        return grpc.stream_stream_rpc_method_handler(refuse)
