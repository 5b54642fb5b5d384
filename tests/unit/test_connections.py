"""A client that uses its connections again, against servers that count them, give them up, or forbid it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tfserving.client import RestClient
from tfserving.connections import Connections
from tfserving.errors import ServiceNotFoundError, ServiceUnreachableError

STATES = {"model_version_status": [{"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK"}}]}


class Server:
    """Answers every question about a model, and counts the connections over which it was asked.

    Args:
        drops: what it does with a connection after an answer over it.
        protocol: ``HTTP/1.0`` ends each connection by itself.
    """

    def __init__(self, drops: Callable[[BaseHTTPRequestHandler], None], protocol: str) -> None:
        self.connections: set[tuple[str, int]] = set()
        self.asked: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = protocol

            def do_GET(self) -> None:
                outer.connections.add(self.client_address)
                outer.asked.append(f"{self.path} {self.headers['Authorization']}")
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, body = (200, STATES) if "gone" not in self.path else (404, {"error": "Could not find it"})
                if self.path.endswith(":predict"):
                    body = {"predictions": [1]}
                if "away" in self.path:
                    self.send_response(302)
                    self.send_header("Location", "http://127.0.0.1:9/")
                else:
                    self.send_response(status)
                raw = json.dumps(body).encode()
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)
                drops(self)

            do_POST = do_GET

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"


@contextmanager
def serving(
    drops: Callable[[BaseHTTPRequestHandler], None] = lambda _: None, protocol: str = "HTTP/1.1"
) -> Iterator[Server]:
    server = Server(drops, protocol)
    threading.Thread(target=server.http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield server
    finally:
        server.http.shutdown()
        server.http.server_close()


def test_questions_of_many_threads_use_at_most_as_many_connections() -> None:
    with serving() as server, RestClient(server.url, "t0k3n", keep=True) as client, ThreadPoolExecutor(4) as pool:
        found = list(pool.map(client.status, [f"m{number}" for number in range(60)]))
    assert {each.state for states in found for each in states} == {"AVAILABLE"}
    assert sorted(server.asked) == sorted(f"/v1/models/m{number} t0k3n" for number in range(60))
    assert 1 <= len(server.connections) <= 4


def test_a_refusal_is_told_and_leaves_the_connection_as_good_as_before() -> None:
    with serving() as server, RestClient(server.url, keep=True) as client:
        for _ in range(3):
            with pytest.raises(ServiceNotFoundError, match="Could not find it"):
                client.status("gone")
            assert client.status("m")
    assert len(server.connections) == 1


def close_without_a_word(handler: BaseHTTPRequestHandler) -> None:
    handler.close_connection = True


@pytest.mark.parametrize(("drops", "protocol"), [(close_without_a_word, "HTTP/1.1"), (lambda _: None, "HTTP/1.0")])
def test_a_server_that_ends_connections_is_asked_over_new_ones(drops: Any, protocol: str) -> None:
    with serving(drops, protocol) as server, RestClient(server.url, keep=True) as client:
        for _ in range(5):
            assert client.status("m")
    assert len(server.asked) == len(server.connections) == 5


def test_requests_for_predictions_have_connections_of_their_own() -> None:
    with serving() as server, RestClient(server.url, keep=True) as client:
        for _ in range(3):
            assert client.predict("m", [1.0]).outputs == [1]
        assert client.status("m")
    assert len(server.connections) == 4


def test_without_it_every_question_has_a_connection_of_its_own() -> None:
    with serving() as server, RestClient(server.url) as client:
        for _ in range(3):
            client.status("m")
    assert len(server.connections) == 3, "a gateway that takes turns by connection then shows every replica"


def test_a_redirect_is_not_followed() -> None:
    with serving() as server, RestClient(server.url, "t0k3n", keep=True) as client:
        with pytest.raises(ServiceUnreachableError, match="HTTP 302, but not from TensorFlow Serving"):
            client.status("away")
        assert len(server.asked) == 1


def test_a_server_that_is_gone_is_told_as_without_kept_connections() -> None:
    with serving() as server, RestClient(server.url, keep=True) as kept, RestClient(server.url) as plain:
        assert kept.status("m")
        kept.close()
    told = []
    for client in (kept, plain):
        with pytest.raises(ServiceUnreachableError) as caught:
            client.status("m")
        told.append(str(caught.value))
    assert told[0] == told[1]
    assert told[0].startswith(f"{server.url}: no answer: [Errno")


def test_a_proxy_in_between_is_left_to_urllib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "inside.example.com")
    assert not Connections.reach("http://eas.example.com/api")
    assert Connections.reach("http://inside.example.com/api")
    assert Connections.reach("https://eas.example.com/api"), "the proxy is for http alone"
    assert Connections.reach("http://127.0.0.1:1"), "no proxy reaches this machine"
