"""Who may use the console, and what it gives away: nothing to other sites, no token to anybody."""

from __future__ import annotations

import http.client
import json
import logging
from typing import Any

import pytest

PAGE = "/-/console/"
OVERVIEW = "/-/console/api/overview"
REQUEST = "/-/console/api/request"
LOOKS = [f"{PAGE}api/{name}" for name in ("overview", "names", "model", "log", "events", "metrics", "rollouts")]


def ask(cloud: Any, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", cloud.port, timeout=60)
    data = None if body is None else json.dumps(body).encode()
    connection.request(method, path, data, {name.replace("_", "-"): value for name, value in headers.items()})
    response = connection.getresponse()
    found = response.status, response.headers, response.read()
    connection.close()
    return found


def own(cloud: Any, **changes: str) -> dict[str, str]:
    """The headers the page itself sends."""
    sent = {
        "Origin": f"http://127.0.0.1:{cloud.port}",
        "Sec_Fetch_Site": "same-origin",
        "Content_Type": "application/json",
    }
    return {name: value for name, value in {**sent, **changes}.items() if value}


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "[", ""])
@pytest.mark.parametrize("path", [PAGE, *LOOKS])
def test_a_foreign_name_that_resolves_to_this_machine_is_refused(shared_cloud: Any, host: str, path: str) -> None:
    status, _, body = ask(shared_cloud, "GET", path, Host=host)
    assert status == 403
    assert b"127.0.0.1 or localhost" in body


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:9999", "127.0.0.1:9999"])
def test_this_machine_is_let_in_at_any_port_as_a_tunnel_may_have_its_own(shared_cloud: Any, host: str) -> None:
    assert ask(shared_cloud, "GET", OVERVIEW, Host=host)[0] == 200


@pytest.mark.parametrize("path", LOOKS)
@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_scripts_of_other_sites_learn_nothing(shared_cloud: Any, site: str, path: str) -> None:
    assert ask(shared_cloud, "GET", path, Sec_Fetch_Site=site, Sec_Fetch_Mode="cors")[0] == 403


@pytest.mark.parametrize("path", LOOKS)
def test_a_look_cannot_be_sent_anything(shared_cloud: Any, path: str) -> None:
    assert ask(shared_cloud, "POST", path, {}, **own(shared_cloud))[0] in (400, 405)


@pytest.mark.parametrize("query", ["page=0", "page=x", "page=1e3", "at=multi:-1", "page=99999999999"])
def test_a_page_that_is_no_number_is_refused(shared_cloud: Any, query: str) -> None:
    assert ask(shared_cloud, "GET", f"{OVERVIEW}?{query}")[0] == 400


def test_a_link_on_another_site_may_open_the_page(shared_cloud: Any) -> None:
    status, _, body = ask(shared_cloud, "GET", PAGE, Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate")
    assert status == 200
    assert b"<h1>" in body


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": ""}, 403),
        ({"Sec_Fetch_Site": "same-site"}, 403),
        ({"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"}, 403),
        ({"Content_Type": "text/plain"}, 415),
    ],
)
def test_requests_are_sent_for_the_page_itself_only(shared_cloud: Any, change: dict[str, str], status: int) -> None:
    assert ask(shared_cloud, "POST", REQUEST, {"service": "none"}, **own(shared_cloud, **change))[0] == status


def test_another_port_of_this_machine_is_another_site(shared_cloud: Any) -> None:
    headers = own(shared_cloud, Origin="http://127.0.0.1:1")
    assert ask(shared_cloud, "POST", REQUEST, {"service": "none"}, **headers)[0] == 403


@pytest.mark.parametrize(
    "path", [f"{PAGE}{name}" for name in ("", "console.js", "dom.js", "console.css", "icon.svg", "api/overview")]
)
def test_every_answer_keeps_the_browser_from_loading_or_framing_anything(shared_cloud: Any, path: str) -> None:
    status, headers, body = ask(shared_cloud, "GET", path)
    assert status == 200
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"
    assert "Access-Control-Allow-Origin" not in headers
    assert b"https://" not in body  # nothing from elsewhere


def test_only_the_files_of_the_page_are_served(shared_cloud: Any) -> None:
    for name in ("routes.py", "..%2Froutes.py", "../overview.py", "page", "%00", "index.html%20"):
        status, headers, _ = ask(shared_cloud, "GET", f"{PAGE}{name}")
        assert status in (403, 404)
        assert "text/x-python" not in str(headers)
    status, headers, _ = ask(shared_cloud, "GET", PAGE.rstrip("/"))
    assert (status, headers["Location"]) == (308, PAGE)


def test_a_request_that_cannot_be_made_says_why(shared_cloud: Any) -> None:
    for body, reason in (
        ([], "not a JSON object"),
        ({"service": 1}, "Service is not text"),
        ({"service": "none", "version": -1}, "Version -1 is not a version number"),
        ({"service": "none", "version": 1, "label": "stable"}, "a version or a label"),
        ({"service": "none"}, "[none] is not found"),
    ):
        status, _, answer = ask(shared_cloud, "POST", REQUEST, body, **own(shared_cloud))
        assert 400 <= status < 500
        assert reason in json.loads(answer)["Message"]


def test_looking_again_and_again_does_not_fill_the_log(shared_cloud: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="sandbox.cloud"):
        for path in LOOKS:
            ask(shared_cloud, "GET", path)
        ask(shared_cloud, "GET", PAGE)
    lines = [record.getMessage() for record in caplog.records if record.name == "sandbox.cloud"]
    assert len(lines) == 1
    assert lines[0].startswith("GET /-/console/ 200")


def test_a_bucket_called_console_is_still_a_bucket(shared_cloud: Any, client: Any) -> None:
    import alibabacloud_oss_v2 as oss

    client.put_bucket(oss.PutBucketRequest(bucket="console"))
    client.put_object(oss.PutObjectRequest(bucket="console", key="api/overview", body=b"mine"))
    assert client.get_object(oss.GetObjectRequest(bucket="console", key="api/overview")).body.read() == b"mine"
