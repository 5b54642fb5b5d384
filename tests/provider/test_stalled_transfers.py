"""Transfers that make no progress, and files that change under them: they end, soon, and say so."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from provider import clients as provider_clients
from provider.clients import Clients, CloudSettings
from provider.oss import Bucket, ContentError, PartUpload
from provider.publication import progress as upload_progress
from provider.publication.progress import Progress
from tests.waiting import until
from tfserving.errors import CloudError
from tfserving.manifest import FileEntry, crc64

SIZE = 12_000_000


def clients_of(port: int) -> Clients:
    endpoint = f"127.0.0.1:{port}"
    return Clients(CloudSettings("cn-hangzhou", endpoint, endpoint, "HTTP", "a", "b"), threading.Event())


def nothing(_: int) -> None:
    """Progress nobody looks at."""


def upload(
    bucket: Bucket, path: Path, entry: FileEntry, parts: bool, progress: Callable[[int], None] = nothing
) -> None:
    if not parts:
        bucket.put_file("k", path, entry, progress)
        return
    begun = PartUpload(bucket, "k", path, entry, "id", {})
    for number in begun.parts:
        begun.send(number, progress)


@pytest.fixture
def stalling(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], tuple[Bucket, list[int]]]]:
    """A server that reads so many bytes of each request and then does nothing, and its connections."""
    monkeypatch.setattr(provider_clients, "CONNECT_SECONDS", 0.4)
    monkeypatch.setattr(provider_clients, "READ_SECONDS", 0.4)
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    over, accepted = threading.Event(), [0]

    def serve(connection: socket.socket, count: int) -> None:
        with connection:
            while count > 0 and (data := connection.recv(min(count, 65536))):
                count -= len(data)
            over.wait(60)

    def accept(count: int) -> None:
        while not over.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            accepted[0] += 1
            threading.Thread(target=serve, args=(connection, count), daemon=True).start()

    def start(count: int) -> tuple[Bucket, list[int]]:
        threading.Thread(target=accept, args=(count,), daemon=True).start()
        return Bucket(clients_of(listener.getsockname()[1]).oss, "bucket"), accepted

    yield start
    over.set()
    listener.close()


@pytest.mark.parametrize(
    "count", [0, 1, 2_000_000, SIZE + 10_000], ids=["nothing is read", "a byte", "a part", "all and no answer"]
)
@pytest.mark.parametrize("parts", [False, True])
def test_a_transfer_that_stands_still_ends_and_says_so(
    stalling: Callable[[int], tuple[Bucket, list[int]]], tmp_path: Path, count: int, parts: bool
) -> None:
    path = tmp_path / "variables.data"
    path.write_bytes(b"x" * SIZE)
    entry = FileEntry(path.name, SIZE, "1", "")
    bucket, accepted = stalling(count)
    started = time.monotonic()
    with pytest.raises(CloudError, match=r"cannot write oss://bucket/k: the transfer stood still .*Fix: .*network"):
        upload(bucket, path, entry, parts)
    assert time.monotonic() - started < 30
    assert accepted[0] == 2


def test_reading_that_stands_still_ends_and_says_so(stalling: Callable[[int], tuple[Bucket, list[int]]]) -> None:
    bucket, _ = stalling(100)
    with pytest.raises(CloudError, match="cannot read oss://bucket/k: the transfer stood still"):
        bucket.get_text("k")


# ---- what is shown


@pytest.fixture
def progress(monkeypatch: pytest.MonkeyPatch) -> tuple[Progress, list[str]]:
    monkeypatch.setattr(upload_progress, "_STATUS_SECONDS", 0.02)
    monkeypatch.setattr(upload_progress, "_QUIET_SECONDS", 0.2)
    shown: list[str] = []
    ctx: Any = SimpleNamespace(status=shown.append, check=lambda: None)
    return Progress(ctx, "m", 2, 1000), shown


def test_an_upload_that_stands_still_promises_no_time(progress: tuple[Progress, list[str]]) -> None:
    bar, shown = progress
    with bar.shown_all_along():
        bar.sent(990)
        until(lambda: "nothing went through for" in shown[-1])
        assert shown[-1].startswith("m: 0 of 2 files, 990 B of 1")
        quiet = len(shown)
        until(lambda: len(shown) > quiet + 3)
        assert not any("left" in line for line in shown[quiet - 1 :])
        until(lambda: bar.sent(0) or shown[-1].endswith("left"), what="time left, once bytes go through again")


def test_an_answer_that_does_not_come_is_told_too(progress: tuple[Progress, list[str]]) -> None:
    bar, shown = progress
    with bar.shown_all_along():
        bar.sent(1000)
        until(lambda: "nothing went through for" in shown[-1])


def test_what_comes_after_the_upload_is_not_talked_over(progress: tuple[Progress, list[str]]) -> None:
    bar, shown = progress
    with bar.shown_all_along():
        bar.sent(1000)
        bar.kept(0, done=True)
        bar.kept(0, done=True)
        count = len(shown)
        time.sleep(0.4)
    assert len(shown) == count


# ---- files that change


class _Oss(BaseHTTPRequestHandler):
    """Takes what it is sent, slowly enough for a file to change meanwhile."""

    def _answer(self) -> None:
        left = int(self.headers.get("Content-Length") or 0)
        while left and (data := self.rfile.read(min(left, 65536))):
            left -= len(data)
        self.send_response(204 if self.command == "DELETE" else 200)
        self.send_header("Content-Length", "0")
        self.send_header("x-oss-hash-crc64ecma", "1")
        self.end_headers()

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _answer

    def log_message(self, *_: Any) -> None:
        return None


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Oss) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield Bucket(clients_of(server.server_port).oss, "bucket")
        server.shutdown()


def truncate(path: Path) -> None:
    os.truncate(path, 1_000_000)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def overwrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(SIZE - 5)
        file.write(b"other")


def replace(path: Path) -> None:
    other = path.with_name("new")
    other.write_bytes(b"short")
    other.replace(path)


@pytest.mark.parametrize("change", [truncate, empty, append, overwrite, replace])
@pytest.mark.parametrize("parts", [False, True])
def test_a_file_that_changes_while_it_is_uploaded_ends_the_upload_at_once(
    bucket: Bucket, tmp_path: Path, change: Callable[[Path], None], parts: bool
) -> None:
    path = tmp_path / "variables.data"
    path.write_bytes(b"x" * SIZE)
    entry = FileEntry(path.name, SIZE, str(crc64(b"x" * SIZE)), "")
    changed: list[int] = []

    def once(_: int) -> None:
        if not changed:
            changed.append(1)
            change(path)

    started = time.monotonic()
    with pytest.raises(ContentError) as failed:
        upload(bucket, path, entry, parts, once)
    assert time.monotonic() - started < 20
    assert "Fix: run the update again" in str(failed.value)
    assert str(path) in str(failed.value)


@pytest.mark.parametrize("parts", [False, True])
def test_a_file_that_is_gone_is_named_with_the_way_on(bucket: Bucket, tmp_path: Path, parts: bool) -> None:
    path = tmp_path / "variables.data"
    entry = FileEntry(path.name, SIZE, "1", "")
    with pytest.raises(ContentError, match=r"variables\.data cannot be read any more: No such file.* Fix: put it back"):
        upload(bucket, path, entry, parts)
