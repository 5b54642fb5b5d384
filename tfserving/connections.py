"""Connections that are used again: otherwise each of many questions to one server costs a handshake."""

from __future__ import annotations

import http.client
import ssl
import threading
from collections.abc import Mapping
from urllib import request as urllib_request
from urllib.parse import urlsplit

from tfserving.hosts import is_loopback

_TAKEN_BACK = (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError, ConnectionAbortedError)


class Connections:
    """Connections to one server, which threads share: as many as are in use at a time.

    Only for questions that may be asked twice: whether the server has given up an idle connection shows when something
    was sent over it.

    Args:
        url: URL of the server, or of something on it: scheme, host and port count.
        timeout: seconds to wait for a connection, and for each part of an answer.
        context: whom to trust and who to be in TLS; None: the system's authorities, and nobody.
    """

    def __init__(self, url: str, timeout: float, context: ssl.SSLContext | None = None) -> None:
        parts = urlsplit(url)
        self._is_secure = parts.scheme == "https"
        self._host = parts.netloc
        self._timeout = timeout
        self._context = context
        self._idle: list[http.client.HTTPConnection] = []
        self._lock = threading.Lock()

    @staticmethod
    def reach(url: str) -> bool:
        """Whether nothing is in between: a proxy has its own ways."""
        parts = urlsplit(url)
        host = parts.hostname or ""
        proxied = parts.scheme in urllib_request.getproxies() and not urllib_request.proxy_bypass(host)
        return is_loopback(host) or not proxied

    def get(self, target: str, headers: Mapping[str, str]) -> tuple[int, http.client.HTTPMessage, bytes]:
        """Status, headers and body of an answer.

        Args:
            target: path and query.
            headers: to be sent.

        Raises:
            OSError: no connection, or it broke.
            http.client.HTTPException: what answers speaks no HTTP.
        """
        with self._lock:
            connection = self._idle.pop() if self._idle else None
        if connection is not None:
            try:
                return self._ask(connection, target, headers)
            except _TAKEN_BACK:
                pass  # it was idle for too long
        return self._ask(self._new(), target, headers)

    def close(self) -> None:
        """Close those that nobody uses."""
        with self._lock:
            idle, self._idle = self._idle, []
        for each in idle:
            each.close()

    def _new(self) -> http.client.HTTPConnection:
        if self._is_secure:
            return http.client.HTTPSConnection(self._host, timeout=self._timeout, context=self._context)
        return http.client.HTTPConnection(self._host, timeout=self._timeout)

    def _ask(
        self, connection: http.client.HTTPConnection, target: str, headers: Mapping[str, str]
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        try:
            connection.request("GET", target, headers=dict(headers))
            answer = connection.getresponse()
            body = answer.read()
        except BaseException:
            connection.close()
            raise
        if answer.will_close:
            connection.close()
        else:
            with self._lock:
                self._idle.append(connection)
        return answer.status, answer.headers, body
