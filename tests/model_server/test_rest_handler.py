"""What the REST handler decides without a model: routes, headers, encodings."""

from __future__ import annotations

import gzip
import json
from typing import Any, cast

import pytest

from sandbox.model_server import rest
from sandbox.model_server.rest import HttpAnswer, RestHandler, RestOptions


def handle(method: str, path: str, headers: dict[str, str] | None = None, **options: Any) -> HttpAnswer:
    # None of these requests gets as far as the core or a message class.
    handler = RestHandler(cast(Any, None), cast(Any, None), RestOptions(**options))
    return handler.handle(method, path, headers or {}, b"")


@pytest.mark.parametrize("path", ["/", "/v1", "/v2/models/m", "/metrics", "*"])
def test_paths_outside_the_api_are_not_found_in_html(path: str) -> None:
    answer = handle("GET", path)
    assert (answer.status, answer.headers["Content-Type"]) == (404, "text/html")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/models/m:predict"),
        ("POST", "/v1/models/m"),
        ("POST", "/v1/models/m:predict?x=1"),
        ("POST", "/v1/models/m/versions/x:predict"),
        ("POST", "/v1/models/m/versions/-1:predict"),
        ("POST", "/v1/models/m/versions/1/labels/a:predict"),
        ("POST", "/v1/models/m:explain"),
        ("HEAD", "/v1/models/m"),
        ("PUT", "/v1/models/m:predict"),
        ("GET", "/v1/models/m/labels/"),
    ],
)
def test_what_matches_no_route_is_a_malformed_request(method: str, path: str) -> None:
    answer = handle(method, path)
    assert answer.status == 400
    assert answer.headers["Content-Type"] == "application/json"
    assert json.loads(answer.body) == {"error": f"Malformed request: {method} {path}"}


def test_cors_headers_come_with_every_answer_where_they_are_wanted() -> None:
    for answer in (
        handle("GET", "/v1/nothing", cors=True),
        handle("OPTIONS", "/v1/models/m", cors=True),
        handle("OPTIONS", "/v1/models/m", {"Origin": "http://a"}, cors=True),
    ):
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert "Access-Control-Allow-Origin" not in handle("GET", "/v1/nothing").headers


def test_a_preflight_needs_an_origin() -> None:
    assert handle("OPTIONS", "/v1/models/m").status == 400
    assert handle("OPTIONS", "/v1/models/m", {"Origin": "null"}).status == 400
    assert handle("OPTIONS", "/v1/models/m", {"Origin": "https://a"}) == HttpAnswer(200, {}, b"")


def test_the_metrics_page_answers_only_at_its_own_path() -> None:
    assert handle("GET", "/m", metrics_path="/m").status == 200
    answer = handle("GET", "/m?x=1", metrics_path="/m")
    assert (answer.status, answer.body) == (400, b"Unexpected path: /m?x=1. Should be /m")
    assert handle("GET", "/m").status == 404


def test_a_body_that_inflates_beyond_the_limit_counts_as_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest, "MAX_INFLATED_BYTES", 1000)
    headers = {"Content-Encoding": "gzip"}
    assert rest._inflate(headers, gzip.compress(b"x" * 999)) == b"x" * 999
    assert rest._inflate(headers, gzip.compress(b"x" * 1001)) == b""
    assert rest._inflate(headers, gzip.compress(b"x" * 10)[:-1]) == b""
    assert rest._inflate({}, b"plain") == b"plain"
