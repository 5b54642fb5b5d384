"""The instruments of the benchmarks: that they measure what they say."""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.measure import AccessWatch, Line, Result, run
from bench.world import names, write_version
from tfserving import saved_model
from tfserving.manifest import HashCache


@pytest.fixture
def server() -> Iterator[int]:
    """Answers every connection with the number of bytes it got, once the client stops sending."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    got = 0
                    while data := connection.recv(1 << 16):
                        got += len(data)
                    connection.sendall(str(got).encode())

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]


def send(port: int, count: int) -> tuple[int, float]:
    started = time.monotonic()
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"x" * count)
        connection.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: connection.recv(100), b""))
    return int(answer), time.monotonic() - started


def test_a_line_carries_everything_and_counts_it(server: int) -> None:
    with Line(server) as line:
        assert send(line.port, 1_000_000)[0] == 1_000_000
        assert line.sent == 1_000_000


def test_a_line_takes_the_time_it_is_told_to(server: int) -> None:
    with Line(server, delay=0.1, rate=1e6) as line:
        got, seconds = send(line.port, 300_000)
    assert got == 300_000
    assert seconds >= 0.3 + 0.2 - 0.02  # a line may catch up with what its timers lost


def test_a_read_file_is_noticed_and_an_unread_one_is_not(tmp_path: Path) -> None:
    if not AccessWatch.works(tmp_path):
        pytest.skip("this file system keeps no times of access")
    read, unread = tmp_path / "read", tmp_path / "unread"
    for file in (read, unread):
        file.write_bytes(b"x")
    watch = AccessWatch([read, unread])
    watch.arm()
    read.read_bytes()
    unread.stat()
    assert watch.read() == [read]


def test_a_run_tells_time_memory_and_what_was_read(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"x" * 5_000_000)
    code = (
        "import time; data = open('data', 'rb').read() * 20; sum(range(2_000_000)); time.sleep(0.5); print(len(data))"
    )
    found = run([sys.executable, "-c", code], tmp_path, sample=True)
    assert found.text == "100000000\n"
    assert found.read >= 5_000_000
    assert found.seconds >= 0.5
    assert found.cpu > 0
    assert found.peak["engine"] >= 100_000_000


def test_a_run_that_fails_says_what_it_printed(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"exit status 3:\nwhy"):
        run([sys.executable, "-c", "print('why'); raise SystemExit(3)"], tmp_path)


def test_versions_are_spread_over_models_and_are_complete(tmp_path: Path) -> None:
    spread = names(1000, 333)
    assert (len(spread), sum(map(len, spread.values()))) == (333, 1000)
    assert all(versions == list(range(1, len(versions) + 1)) for versions in spread.values())
    write_version(tmp_path / "m" / "1", 100_000_000)
    assert saved_model.examine(tmp_path / "m", "m", HashCache()) == []


def test_a_result_is_a_table_and_a_json_file(tmp_path: Path) -> None:
    result = Result("demo", "a title", ("case", "time"), data={"seconds": [1, 2, 3]}, notes=["a note"])
    result.row("one", "2.00 s")
    assert result.table().splitlines() == ["== a title", "case  time", "----  ------", "one   2.00 s", "   a note"]
    found = json.loads(result.write(tmp_path).read_text())
    assert found["seconds"] == [1, 2, 3]
    assert found["machine"]["cpus"]
