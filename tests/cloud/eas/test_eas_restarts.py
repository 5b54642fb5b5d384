"""Services outlive the cloud's process; their own processes do not."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sandbox import ports
from sandbox.cloud.eas import process
from sandbox.paths import ROOT
from tests.ports import free_port
from tests.processes import is_alive
from tests.waiting import until

pytestmark = pytest.mark.slow


def test_services_are_back_after_a_restart_with_the_same_token_and_address(
    start_eas: Any, tmp_path: Path, send: Any
) -> None:
    with start_eas(tmp_path) as cloud:
        prefix = cloud.run(cloud.spec("at_a_path", instances=2))
        root = cloud.run(cloud.spec("at_the_root", networking={"path": "/"}))
        cloud.create(cloud.spec("is_stopped"))
        cloud.client.stop_service("cn-hangzhou", "is_stopped")
        cloud.wait("is_stopped", "Stopped")
        pids = cloud.pids("at_a_path") | cloud.pids("at_the_root")
        port = cloud.port
    assert not any(is_alive(pid) for pid in pids)
    with start_eas(tmp_path, port=port) as cloud:
        for before in (prefix, root):
            after = cloud.wait(before.service_name)
            assert set(after.seen) <= {"Waiting", "Running"}
            assert after.access_token == before.access_token
            assert after.internet_endpoint == before.internet_endpoint
            assert after.service_id == before.service_id
            assert after.service_config == before.service_config
            assert send("GET", f"{after.internet_endpoint}/x", after.access_token).status == 200
        assert cloud.describe("is_stopped").status == "Stopped"


def test_a_port_that_was_taken_meanwhile_is_given_up_and_an_event_says_so(
    start_eas: Any, tmp_path: Path, send: Any
) -> None:
    with start_eas(tmp_path) as cloud:
        before = cloud.run(cloud.spec("at_the_root", networking={"path": "/"}))
        grpc_before = cloud.run(cloud.grpc_spec("with_grpc"))
    ports = [int(service.internet_endpoint.rpartition(":")[2]) for service in (before, grpc_before)]
    with contextlib.ExitStack() as stack:
        for port in ports:
            listener = stack.enter_context(socket.socket())
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", port))
            listener.listen()
        with start_eas(tmp_path) as cloud:
            after = cloud.wait("at_the_root")
            assert int(after.internet_endpoint.rpartition(":")[2]) not in ports
            assert send("GET", after.internet_endpoint, after.access_token).status == 200
            assert int(cloud.wait("with_grpc").internet_endpoint.rpartition(":")[2]) not in ports
            for name in ("at_the_root", "with_grpc"):
                assert any(event.reason == "PortChanged" for event in cloud.events(name))


def test_a_model_server_whose_port_is_taken_before_it_listens_gets_another(
    start_eas: Any, tmp_path: Path, send: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with contextlib.ExitStack() as stack:
        listeners = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(4)]
        taken = [listener.getsockname()[1] for listener in listeners]
        find = ports.free_port
        with start_eas(tmp_path) as cloud:
            # The fake ends without its gRPC port and goes on without its REST port, as TensorFlow Serving does.
            for spec in (cloud.spec("by_http"), cloud.grpc_spec("by_grpc")):
                name, given = spec["metadata"]["name"], iter(taken)
                monkeypatch.setattr(ports, "free_port", lambda *_, given=given: next(given, None) or find())
                cloud.create(spec)
                until(lambda name=name: _reasons(cloud, name).count("PortTaken") == 2)
                # A stranger at the port passes the startup check for as long as the server has not tried to listen.
                until(lambda name=name: _reasons(cloud, name).count("Started") == 3)
                service = cloud.wait(name, seconds=60)
                assert not set(_reasons(cloud, name)) & {"CrashLoopBackOff", "CannotStart"}
                if name == "by_http":
                    assert send("GET", f"{service.internet_endpoint}/x", service.access_token).status == 200


def test_a_deletion_the_cloud_did_not_live_to_finish_is_finished(start_eas: Any, tmp_path: Path) -> None:
    with start_eas(tmp_path) as cloud:
        cloud.run(cloud.spec("half_deleted"))
    file = tmp_path / "eas" / "services" / "half_deleted.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "desired": "deleted"}))
    with start_eas(tmp_path) as cloud:
        until(lambda: not cloud.names())
    assert not file.exists()


def test_a_record_that_cannot_be_read_is_put_aside_and_harms_no_other(start_eas: Any, tmp_path: Path) -> None:
    with start_eas(tmp_path) as cloud:
        cloud.create(cloud.spec("good_one"))
    (tmp_path / "eas" / "services" / "bad_one.json").write_text('{"name": "bad_one"')
    with start_eas(tmp_path) as cloud:
        assert cloud.names() == ["good_one"]
    assert (tmp_path / "eas" / "services" / "bad_one.broken").exists()


def test_what_an_earlier_cloud_left_running_is_ended_and_nothing_else(start_eas: Any, tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    ours = subprocess.Popen(command, start_new_session=True)
    other = subprocess.Popen(command, start_new_session=True)
    try:
        run = tmp_path / "eas" / "run"
        run.mkdir(parents=True)
        entry = {"pid": ours.pid, "started": process._start_time(ours.pid)}
        (run / "ours.pid").write_text(json.dumps(entry))
        # The number of a process of ours that ended long ago, used by another one now.
        (run / "reused.pid").write_text(json.dumps({"pid": other.pid, "started": "1"}))
        with start_eas(tmp_path):
            assert ours.wait(60) == -signal.SIGKILL
            assert other.poll() is None
        assert list(run.glob("*.pid")) == []
    finally:
        for left in (ours, other):
            left.kill()
            left.wait()


CLOUD = """
import asyncio, sys
from pathlib import Path
from aiohttp import web
from sandbox.cloud.app import create_app, make_runner
from sandbox.cloud.state import STATE
from sandbox.cloud.eas.api import EasProduct

async def main():
    data, port = Path(sys.argv[1]), int(sys.argv[2])
    app = create_app(data, port)
    state = app[STATE]
    index = next(i for i, s in enumerate(state.products) if isinstance(s, EasProduct))
    state.products[index] = EasProduct(data / "eas", port, state.live_view, tuple(sys.argv[3:]))
    runner = make_runner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()

asyncio.run(main())
"""


def test_killing_the_cloud_leaves_no_process_and_the_next_one_goes_on(
    start_eas: Any, tmp_path: Path, eas: Any, send: Any
) -> None:
    port = free_port()
    fake = str(Path(__file__).with_name("fake_model_server.py"))
    command = [sys.executable, "-c", CLOUD, str(tmp_path), str(port), sys.executable, fake]
    cloud = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
    try:
        client = type(eas)(tmp_path, port, eas.app)
        until(lambda: _answers(port))
        client.create(client.spec("survivor", instances=2))
        before = client.wait("survivor")
        pids = client.pids("survivor")
        assert len(pids) == 2
        assert all(is_alive(pid) for pid in pids)
    finally:
        cloud.kill()
        cloud.wait()
    until(lambda: not any(is_alive(pid) for pid in pids))
    with start_eas(tmp_path, port=port) as again:
        after = again.wait("survivor")
        assert after.access_token == before.access_token
        assert send("GET", after.internet_endpoint, after.access_token).status in (200, 503)
        assert again.pids("survivor").isdisjoint(pids)


def _reasons(cloud: Any, name: str) -> list[str]:
    return [event.reason for event in cloud.events(name)]


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False
