"""What refusals and failures mean, and what the SDKs do with answers that are none of Alibaba Cloud's."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import pytest

from provider import faults
from provider.bucket_contents import BucketContents
from provider.clients import Clients, CloudSettings, one_line
from provider.model_config_file import ModelConfigFile
from provider.oss import Bucket
from provider.published_model import PublishedModel
from provider.resource import Context, Log, Resource
from tests.ports import free_port
from tfserving.client import connect
from tfserving.errors import CloudError, ServiceUnreachableError
from tfserving.manifest import FileEntry
from tfserving.property_values import Properties

RIGHT = "the RAM identity needs eas:CreateService"
HTML = b"<!DOCTYPE html><html><title>secret portal</title></html>"


@pytest.mark.parametrize(
    ("status", "code", "message", "part"),
    [
        (403, "Forbidden.RAM", "not authorized", "needs eas:CreateService"),
        (403, "AccessDenied", "no", "needs eas:CreateService"),
        (403, "RequestTimeTooSkewed", "", "clock"),
        (403, "InvalidSecurityToken.Expired", "", "temporary credentials"),
        (403, "SecurityTokenExpired", "", "temporary credentials"),
        (403, "InvalidAccessKeyId", "", "does not exist or is disabled"),
        (403, "SignatureDoesNotMatch", "", "does not belong"),
        (403, "UserDisable", "", "arrears"),
        (403, "Forbidden", "your account has an insufficient balance: InsufficientBalance", "arrears"),
        (403, "AccountArrears", "", "arrears"),
        (403, "QuotaExceeded", "", "quota"),
        (403, "Forbidden.InstanceLimitExceeded", "", "quota"),
        (400, "OperationDenied.NoStock", "", "no free machines"),
        (403, "OperationDenied.SafetyLock", "Service [a] has the safety lock [all].", "safety lock"),
        (403, "UserNotActivated.NotOpen", "", "not activated"),
    ],
)
def test_a_refusal_is_blamed_on_what_it_says(status: int, code: str, message: str, part: str) -> None:
    found = faults.hint(status, code, message, RIGHT)
    assert part in found
    assert (RIGHT in found) is ("needs eas" in part)


ELSEWHERE = (
    b"<Error><Code>AccessDenied</Code><Message>The bucket you are attempting to access must be addressed using the "
    b"specified endpoint. Please send all future requests to this endpoint.</Message>"
    b"<Endpoint>oss-cn-beijing.aliyuncs.com</Endpoint></Error>"
)


@pytest.mark.parametrize(
    ("resource", "inputs"),
    [
        (PublishedModel(), {"name": "m", "prefix": "m/", "source": "", "versions": {"1": "any"}}),
        (ModelConfigFile(), {"key": "model_config.pbtxt", "initial": {}}),
        (BucketContents(), {"storageClass": "Standard", "redundancyType": "LRS", "encryption": "AES256"}),
    ],
    ids=lambda found: type(found).__name__,
)
def test_a_bucket_in_another_region_is_refused_in_the_preview(
    resource: Resource, inputs: Properties, server: Server, clients: Clients
) -> None:
    server.answers = [(403, {"Content-Type": "application/xml"}, ELSEWHERE)]
    told: list[str] = []
    log = cast(Log, lambda _severity, _urn, text, **_: told.append(text))
    ctx = Context("", Path("/"), clients, log, threading.Event())
    with pytest.raises(CloudError, match=r"\(the bucket is in another region than alicloud:region.*\. Fix: name that"):
        resource.preview(ctx, {"bucket": "far", "owner": "tf-serving/test", **inputs}, None, None)
    assert told == []


def test_no_advice_where_the_message_says_it_all() -> None:
    assert faults.hint(400, "InvalidParameter", "x must be y", RIGHT) == ""


@pytest.mark.parametrize(
    ("status", "code", "message", "expected"),
    [
        (409, "InvalidService.Conflict", "Service [a] is being updated", True),
        (409, "409", "another operation is in progress", True),
        (409, "InvalidService.Conflict", "Service [a] is not running.", False),
        (409, "BucketAlreadyExists", "taken", False),
        (503, "ServiceUnavailable", "", True),
        (500, "InternalError", "", True),
        (429, "x", "", True),
        (400, "Throttling.User", "", True),
        (403, "Forbidden", "", False),
    ],
)
def test_what_may_pass(status: int, code: str, message: str, expected: bool) -> None:
    assert faults.may_pass(status, code, message) is expected


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(None, 0), ("", 0), ("2", 2), ("-1", 0), ("nan", 0), ("9999", 30), ("x", 0), ("Mon, 01 Jan 2001 00:00:00 GMT", 0)],
)
def test_retry_after(value: str | None, seconds: float) -> None:
    assert faults.retry_after(value) == seconds


class Server(ThreadingHTTPServer):
    """Answers from a list; of the last one, again and again."""

    answers: list[tuple[int, dict[str, str], bytes]]
    requests: int = 0


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        answers = self.server.answers
        status, headers, body = answers[min(self.server.requests, len(answers) - 1)]
        self.server.requests += 1
        self.send_response_only(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _answer

    def log_message(self, *_: Any) -> None:
        return None


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), _Handler) as found:
        thread = threading.Thread(target=found.serve_forever, daemon=True)
        thread.start()
        yield found
        found.shutdown()


@pytest.fixture
def clients(server: Server) -> Clients:
    endpoint = f"127.0.0.1:{server.server_port}"
    return Clients(CloudSettings("cn-hangzhou", endpoint, endpoint, "HTTP", "a", "b"), threading.Event())


def test_an_oss_error_without_a_date_is_read_and_sat_out(server: Server, clients: Clients) -> None:
    server.answers = [(503, {}, b"<Error><Code>ServiceUnavailable</Code></Error>")] * 3 + [(200, {}, b"text")]
    assert Bucket(clients.oss, "bucket").get_text("k") == "text"
    assert server.requests == 4


def test_retry_after_is_honoured_by_both_apis(server: Server, clients: Clients) -> None:
    for ask in (lambda: Bucket(clients.oss, "bucket").get_text("k"), lambda: clients.eas.labelled({})):
        server.requests = 0
        server.answers = [(503, {"Retry-After": "2"}, b"{}"), (200, {"Content-Type": "application/json"}, b"{}")]
        started = time.monotonic()
        ask()
        assert time.monotonic() - started >= 2


@pytest.mark.parametrize("status", [200, 203])
def test_a_page_in_place_of_an_answer_is_named_without_its_content(
    server: Server, clients: Clients, status: int
) -> None:
    server.answers = [(status, {"Content-Type": "text/html; charset=utf-8"}, HTML)]
    asked: tuple[Callable[[], object], ...] = (
        lambda: Bucket(clients.oss, "bucket").get_text("k"),
        lambda: list(Bucket(clients.oss, "bucket").list("")),
        lambda: clients.eas.describe("service"),
        lambda: clients.eas.labelled({}),
    )
    for ask in asked:
        with pytest.raises(CloudError) as failed:
            ask()
        assert "proxy or login page" in str(failed.value)
        assert "portal" not in str(failed.value)


def test_a_page_in_place_of_a_prediction_is_named_too(server: Server) -> None:
    server.answers = [(200, {"Content-Type": "text/html"}, HTML)]
    with connect(url=f"http://127.0.0.1:{server.server_port}", token="t") as client:
        asked: tuple[Callable[[], object], ...] = (lambda: client.status("m"), lambda: client.predict("m", [[1.0]]))
        for ask in asked:
            with pytest.raises(ServiceUnreachableError, match="proxy or login page") as failed:
                ask()
            assert "portal" not in str(failed.value)


def test_a_page_with_an_error_status_is_named_too(server: Server, clients: Clients) -> None:
    server.answers = [(407, {"Content-Type": "text/html"}, HTML)]
    with pytest.raises(CloudError, match="proxy or login page") as failed:
        Bucket(clients.oss, "bucket").get_text("k")
    assert "portal" not in str(failed.value)


def test_a_change_under_way_is_waited_for(server: Server, clients: Clients) -> None:
    busy = b'{"Code": "InvalidService.Conflict", "Message": "Service [s] is being updated"}'
    server.answers = [(409, {}, busy), (409, {}, busy), (200, {"Content-Type": "application/json"}, b"{}")]
    clients.eas.replace("s", {})
    assert server.requests == 3


def test_a_creation_is_sent_again_only_where_nothing_was_done(server: Server, clients: Clients) -> None:
    server.answers = [(429, {}, b'{"Code": "Throttling.User"}'), (200, {"Content-Type": "application/json"}, b"{}")]
    clients.eas.create({"metadata": {"name": "s"}})
    assert server.requests == 2
    server.requests, server.answers = 0, [(500, {}, b'{"Code": "InternalError"}')]
    with pytest.raises(faults.PassingError):
        clients.eas.create({"metadata": {"name": "s"}})
    assert server.requests == 1


def test_a_file_that_becomes_shorter_ends_its_upload_at_once(server: Server, clients: Clients, tmp_path: Path) -> None:
    path = tmp_path / "variables.data"
    path.write_bytes(b"x" * 3_000_000)
    entry = FileEntry("variables.data", path.stat().st_size, "1", "")
    server.answers = [(204, {}, b"")]

    def cut(_: int) -> None:
        path.write_bytes(b"x" * 1_000_000)

    started = time.monotonic()
    with pytest.raises(CloudError, match="changed while it was uploaded"):
        Bucket(clients.oss, "bucket").put_file("k", path, entry, cut)
    assert time.monotonic() - started < 20


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "HTTPConnectionPool(host='127.0.0.1', port=7580): Max retries exceeded with url: / (Caused by "
            "NewConnectionError('<urllib3.connection.HTTPConnection object>: [Errno 111] Connection refused'))",
            "cannot reach 127.0.0.1:7580 (connection refused); is the sandbox cloud running? `make cloud`",
        ),
        (
            "HTTPSConnectionPool(host='pai-eas.cn-x.aliyuncs.com', port=443): Failed to resolve 'pai-eas.cn-x'",
            "cannot reach pai-eas.cn-x.aliyuncs.com:443 (the name cannot be resolved)",
        ),
        ("something else", "something else"),
    ],
)
def test_nobody_there_is_one_line(text: str, expected: str) -> None:
    assert one_line(text) == expected


def test_a_cloud_that_does_not_run_is_told_in_one_line_by_both_apis(server: Server, clients: Clients) -> None:
    server.server_close()
    for ask in (lambda: Bucket(clients.oss, "bucket").get_text("k"), lambda: clients.eas.labelled({})):
        with pytest.raises(CloudError, match=r"cannot reach 127\.0\.0\.1:\d+ .*`make cloud`") as failed:
            ask()
        assert "urllib3" not in str(failed.value)


class Clock:
    """Stands still until it is set."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


SILENT = "HTTPConnectionPool(host='oss.example', port=80): Max retries exceeded (Connection refused)"


def test_reads_of_a_host_that_was_silent_fail_at_once_for_some_seconds() -> None:
    clock = Clock()
    silence = faults.Silence(clock)
    silence.gave_up(SILENT)
    for method in ("GET", "HEAD"):
        with pytest.raises(faults.StillSilentError, match="Connection refused"):
            silence.check(method, "http://oss.example/bucket?list-type=2")
    silence.check("PUT", "http://oss.example/bucket/key")  # an upload has more patience
    silence.check("GET", "http://oss.example:8080/")
    silence.check("GET", "https://oss.example/")
    silence.check("GET", "http://eas.example/")
    clock.now += 60
    silence.check("GET", "http://oss.example/")


def test_a_host_that_answered_is_asked_again() -> None:
    silence = faults.Silence(Clock())
    silence.gave_up(SILENT)
    silence.answered("http://oss.example/other")
    silence.check("GET", "http://oss.example/")


def test_a_failure_without_a_host_says_nothing_of_one() -> None:
    silence = faults.Silence(Clock())
    silence.gave_up("Response ended prematurely")
    silence.check("GET", "http://oss.example/")


def test_one_call_learns_that_a_host_is_silent_and_the_others_say_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(faults, "SILENCE", faults.Silence(clock))
    port = free_port()
    endpoint = f"127.0.0.1:{port}"
    clients = Clients(CloudSettings("cn-hangzhou", endpoint, endpoint, "HTTP", "a", "b"), threading.Event())

    def asked(ask: Callable[[], object]) -> str:
        with pytest.raises(CloudError) as failed:
            ask()
        return str(failed.value)

    first = asked(lambda: Bucket(clients.oss, "bucket").get_text("k"))
    assert f"cannot reach 127.0.0.1:{port} (connection refused)" in first
    with Server(("127.0.0.1", port), _Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        server.answers = [(200, {}, b"text")]
        assert asked(lambda: Bucket(clients.oss, "bucket").get_text("k")) == first
        assert "no answer from the EAS API: cannot reach" in asked(lambda: clients.eas.describe("service"))
        assert server.requests == 0
        clock.now += 60
        assert Bucket(clients.oss, "bucket").get_text("k") == "text"
        server.shutdown()
