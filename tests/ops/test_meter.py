"""Where counters come from: replicas behind one address, and a Prometheus."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import cycle
from urllib.parse import parse_qs, urlsplit

import pytest

from ops import meter, outputs
from ops.__main__ import main
from ops.meter import MeterError, Prometheus
from tfserving import metrics


@contextmanager
def serve(answers: object) -> Iterator[str]:
    """An HTTP server that gives ``answers(path)``: status and text."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, text = answers(self.path)  # type: ignore[operator]
            self.send_response(status)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def service(url: str) -> outputs.ExportedService:
    return outputs.ExportedService("s", "http", url, "", "token", {}, "/metrics")


def text(load: int | None, count: int) -> str:
    lines = [
        "# TYPE x counter",
        f'{metrics.LATENCY}_bucket{{model_name="m",API="predict",le="+Inf"}} {count}',
    ]
    return "\n".join([*lines, *([f'{metrics.LOADS}{{model_path="p"}} {load}'] if load is not None else []), ""])


def test_each_replica_behind_a_gateway_is_heard_once() -> None:
    pages = cycle([text(5, 10), text(5, 10), text(6, 20)])
    with serve(lambda path: (200, next(pages))) as url:
        found = meter.behind_gateway(service(url), lambda: 2)()
    assert sorted(each.counts("m").answered for each in found.values()) == [10, 20]


def test_replicas_that_cannot_be_told_apart_are_no_numbers() -> None:
    with (
        serve(lambda path: (200, text(None, 1))) as url,
        pytest.raises(MeterError, match=r"2 replicas.*--prometheus"),
    ):
        meter.behind_gateway(service(url), lambda: 2)()


def test_one_replica_needs_no_mark() -> None:
    with serve(lambda path: (200, text(None, 3))) as url:
        found = meter.Pages("s", meter.behind_gateway(service(url), lambda: 1))
        found.look()
    assert found.before("m").answered == 3


def test_a_page_that_is_none_is_an_error_and_is_asked_for_again() -> None:
    said = iter([(503, ""), (200, "<html>"), (200, text(1, 1))])
    with serve(lambda path: next(said)) as url:
        found = meter.Pages("s", meter.behind_gateway(service(url), lambda: 1))
        meter.look_patiently(found, tries=3, pause=0.01)
        assert found.before("m").answered == 1
    with pytest.raises(MeterError, match="the counters cannot be read"):
        meter.look_patiently(found, tries=2, pause=0.01)


@contextmanager
def stand_in_prometheus(asked: list[str]) -> Iterator[str]:
    """Stands in for a Prometheus: speaks /api/v1/query, and knows three queries."""

    def answers(path: str) -> tuple[int, str]:
        parts = urlsplit(path)
        if parts.path != "/api/v1/query":
            return 404, ""
        query = parse_qs(parts.query)["query"][0]
        asked.append(query)
        if "nonsense" in query:
            return 400, json.dumps({"status": "error", "errorType": "bad_data", "error": "parse error at char 7"})
        if query.startswith("sum by (status)"):
            rows = [({"status": "INTERNAL"}, "3.5"), ({"status": "ABORTED"}, "0")]
        elif query.startswith("sum by (le)"):
            rows = [({"le": "1000"}, "50"), ({"le": "+Inf"}, "96.5"), ({"le": "2000"}, "96.5")]
        else:
            rows = [({"model_name": "m"}, "1")]
        result = [{"metric": labels, "value": [1.0, value]} for labels, value in rows]
        return 200, json.dumps({"status": "success", "data": {"resultType": "vector", "result": result}})

    with serve(answers) as url:
        yield url


def test_a_prometheus_is_asked_for_the_increase_over_the_time() -> None:
    asked: list[str] = []
    with stand_in_prometheus(asked) as url:
        found = Prometheus("s", url, 'service="s"', 300.0)
        found.look()
        assert found.models() == ["m"]
        counts = found.before("m")
    assert counts.errors == {"INTERNAL": 3.5}
    assert counts.requests == 100
    assert counts.buckets[math.inf] == 96.5
    assert all("[300s]" in query and 'model_name="m",service="s"' in query for query in asked[1:])


def test_what_a_prometheus_refuses_is_told_in_its_words() -> None:
    with stand_in_prometheus([]) as url, pytest.raises(MeterError, match="400 parse error at char 7"):
        Prometheus("s", url, "nonsense").models()
    with pytest.raises(MeterError, match="no answer that can be used"):
        Prometheus("s", "http://127.0.0.1:9", "").models()
    with serve(lambda path: (200, "{}")) as url, pytest.raises(MeterError, match="not the answer of a Prometheus"):
        Prometheus("s", url, "").models()


def test_a_service_without_counters_says_how_to_have_some() -> None:
    silent = outputs.ExportedService("s", "http", "http://x", "", "t", {})
    rpc = outputs.ExportedService("r", "grpc", "", "x:1", "t", {}, "/m")
    found = meter.meters("dev", [silent, rpc], "pulumi")
    assert "monitoring: true" in str(found["s"])
    assert "--prometheus" in str(found["r"])


def test_a_wrong_duration_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["metrics", "s", "--over", "soon"])
    assert "not a duration" in capsys.readouterr().err
