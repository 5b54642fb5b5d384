"""A page of another site in a real browser: what it sends to this machine changes nothing and tells it nothing."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import alibabacloud_oss_v2 as oss
import pytest

from sandbox import browser as guard
from sandbox.cloud.state import STATE
from sandbox.model_server.callers import Callers
from sandbox.model_server.http_server import HttpServer
from sandbox.model_server.rest import HttpAnswer
from tests.cloud.console.browser import Browser, missing
from tests.cloud.eas.conftest import Eas, running_eas
from tests.ports import free_port

pytestmark = pytest.mark.slow

PAGE = Path(__file__).with_name("hostile.html")
ICON = Path(__file__).parents[3] / "docs" / "console.png"
BUCKET = "open-to-all"
EVIL = "evil.example"


@dataclass
class World:
    """A cloud that anybody may use who gets at it, a model server of one's own, and a page of another site."""

    eas: Eas
    page_port: int
    replica_port: int
    asked: list[str] = field(default_factory=list)
    """What reached the model server's models."""

    def page(self) -> bytes:
        client = self.eas.oss
        picture = client.presign(oss.GetObjectRequest(bucket=BUCKET, key="picture.png")).url or ""
        upload = client.presign(oss.PutObjectRequest(bucket=BUCKET, key="by-signed-put.txt")).url or ""
        text = PAGE.read_text(encoding="utf-8")
        for name, value in {
            "http://CLOUD/OBJECT": picture,
            "http://CLOUD/SIGNED_PUT": upload,
            "CLOUD": f"127.0.0.1:{self.eas.port}",
            "REPLICA": f"127.0.0.1:{self.replica_port}",
            "BUCKET": BUCKET,
        }.items():
            text = text.replace(name, value)
        return text.encode()

    def state(self) -> dict[str, Any]:
        """All that a page could have changed."""
        listed = self.eas.oss.list_objects_v2(oss.ListObjectsV2Request(bucket=BUCKET)).contents or []
        log = self.eas.logs("served", page_size=100).logs or []
        return {
            "services": self.eas.names(),
            "status": self.eas.describe("served").status,
            "objects": [item.key for item in listed],
            "requests": [line for line in log if " request " in line],
            "asked": list(self.asked),
        }


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    if reason := missing():
        pytest.skip(reason)

    class Pages(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = found.page()
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    class Model:
        """In place of a model: what reaches it is noted."""

        def handle(self, method: str, path: str, headers: Any, body: bytes) -> HttpAnswer:
            found.asked.append(f"{method} {path}")
            return HttpAnswer(200, {}, b"{}")

    replica_port = free_port()
    replica = HttpServer(Model(), Callers(), replica_port, 2, 1.0)  # type: ignore[arg-type]
    assert replica.start()
    with (
        running_eas(tmp_path_factory.mktemp("hostile-cloud")) as eas,
        http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pages) as pages,
    ):
        threading.Thread(target=pages.serve_forever, daemon=True).start()
        found = World(eas, pages.server_port, replica_port)
        # Without an access key and with a bucket for everybody, nothing but the guard against pages stands in between.
        assert eas.app[STATE].access_key is None
        eas.oss.put_bucket(oss.PutBucketRequest(bucket=BUCKET, acl="public-read-write"))
        eas.oss.put_object(oss.PutObjectRequest(bucket=BUCKET, key="picture.png", body=ICON.read_bytes()))
        eas.run(eas.spec("served"))
        yield found
        pages.shutdown()
    replica.stop()


@pytest.fixture(scope="module")
def chromium(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    rules = f"--host-resolver-rules=MAP {EVIL} 127.0.0.1"
    with Browser(tmp_path_factory.mktemp("hostile-profile"), rules) as opened:
        yield opened


def attempts(chromium: Browser) -> dict[str, str]:
    """What the page saw of each of its attempts."""
    chromium.wait(lambda: chromium.js("return done.over"), 60)
    found = chromium.js("return done")
    found.pop("over")
    return dict(found)


@pytest.mark.parametrize("site", [EVIL, "127.0.0.1", "localhost"])
def test_a_page_of_another_site_changes_nothing_and_learns_nothing(world: World, chromium: Browser, site: str) -> None:
    before = world.state()
    chromium.open(f"http://{site}:{world.page_port}/")
    saw = attempts(chromium)
    assert world.state() == before
    # An answer without content, or none, or one to a form in a frame that it cannot read.
    assert set(saw.values()) <= {"error", "opaque 0", "sent"}, saw
    assert (saw["picture"], saw["websocket"], saw["create readable"]) == ("error", "error", "error")


@pytest.mark.parametrize(
    "path", ["/", "/api/v2/services", f"/{BUCKET}/picture.png", "/api/predict/served/", "/-/console/"]
)
def test_a_name_that_is_pointed_at_this_machine_opens_nothing(world: World, chromium: Browser, path: str) -> None:
    before = world.state()
    chromium.open(f"http://{EVIL}:{world.eas.port}{path}")
    assert chromium.js("return location.hostname") == EVIL
    answers = chromium.js(
        """
        const all = ["/api/v2/services?Action=CreateService&Version=2021-07-01", "/open-to-all/picture.png",
          "/api/predict/served/", "/-/console/api/overview", "/-/console/api/request", "/-/anything"];
        const make = JSON.stringify({metadata: {name: "rebound", instance: 1},
          containers: [{image: "tensorflow-serving:2.14.1", port: 8501, command: "/x/tf_serving_entrypoint.sh"}]});
        const sent = all.flatMap((path) => ["GET", "POST", "PUT", "DELETE"].map((method) => {
          const body = method === "GET" ? undefined : make;
          return fetch(path, {method, body}).then((answer) => answer.status);
        }));
        return Promise.all(sent);
        """
    )
    assert set(answers) <= {403, 405}, answers
    assert 403 in answers
    assert world.state() == before


def test_a_model_server_of_ones_own_is_no_door_either(world: World, chromium: Browser) -> None:
    chromium.open(f"http://{EVIL}:{world.replica_port}/v1/models/m")
    assert "the Host header names evil.example" in chromium.text()
    assert chromium.js("return fetch('/v1/models/m:predict', {method: 'POST'}).then((answer) => answer.status)") == 403
    assert world.asked == []


def test_the_same_page_would_do_harm_without_the_guard(
    world: World, chromium: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "refusal", lambda *_, **__: "")
    monkeypatch.setattr(guard, "of_another_site", lambda *_, **__: "")
    chromium.open(f"http://{EVIL}:{world.page_port}/")
    saw = attempts(chromium)
    found = world.state()
    monkeypatch.undo()
    assert saw["picture"] == "shown"
    assert "by_fetch" in found["services"]
    assert "by_form" in found["services"]
    assert found["asked"]
