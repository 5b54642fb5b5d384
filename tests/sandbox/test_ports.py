"""Ports are found where no outgoing connection takes them, and no two tests get one."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from collections import deque
from pathlib import Path

import pytest

from sandbox import ports
from sandbox.paths import ROOT
from tests.ports import free_port


def test_a_port_lies_where_no_outgoing_connection_takes_it() -> None:
    found = {ports.free_port() for _ in range(100)}
    assert len(found) == 100, "one was found twice"
    assert found <= set(ports.quiet())
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        assert not {server.getsockname()[1], client.getsockname()[1]} & set(ports.quiet())


@pytest.mark.parametrize(
    ("text", "lowest", "highest"),
    [
        ("32768\t60999\n", 10000, 65535),
        ("1024\t65535\n", 10000, 65535),  # nothing is left: any will do
        ("1024 32000", 32001, 65535),
        ("nonsense", 10000, 49151),
        (None, 10000, 49151),
    ],
)
def test_the_range_of_the_kernel_is_left_out(
    text: str | None, lowest: int, highest: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if text is not None:
        (tmp_path / "range").write_text(text)
    monkeypatch.setattr(ports, "_RANGE", tmp_path / "range")
    found = ports.quiet.__wrapped__()
    assert (found[0], found[-1]) == (lowest, highest)
    if text is not None and text.startswith("32768"):
        assert not {32768, 40469, 60999} & set(found)
        assert {32767, 61000} <= set(found)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])  # noqa: S104
def test_a_port_somebody_listens_on_is_not_free(host: str) -> None:
    with socket.create_server((host, 0)) as server:
        port = server.getsockname()[1]
        assert not ports.is_free(port)
    assert ports.is_free(port)
    assert not ports.is_free(1 << 16)


def test_a_port_whose_last_connection_has_just_ended_is_free() -> None:
    """As it is when a program starts again at its port: the kernel keeps the connection for a minute."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            peer, _ = server.accept()
            peer.close()
            assert client.recv(1) == b""
    assert ports.is_free(port)


def test_what_will_not_do_is_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = free_port(), free_port()
    monkeypatch.setattr(ports, "quiet", lambda: (first, second))
    monkeypatch.setattr(ports, "_found", deque())
    assert ports.free_port({first}) == second
    with pytest.raises(OSError, match="no free TCP port"):
        ports.free_port({first})


def test_no_two_processes_of_tests_get_one_port() -> None:
    program = "from sandbox import ports; ports.quiet = lambda: {few}\nfrom tests.ports import free_port\n"
    program += "print(free_port(), flush=True); input()"
    few = tuple(ports.free_port() for _ in range(3))
    command = [sys.executable, "-c", program.format(few=few)]
    running = [
        subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in few
    ]
    try:
        given = {int(process.stdout.readline()) for process in running if process.stdout}
        assert given == set(few)
    finally:
        for process in running:
            process.communicate("\n")


def test_no_test_finds_ports_in_a_way_of_its_own() -> None:
    """What is found by listening on port 0, closed and used later may be taken between."""
    own = re.compile(
        r"def \w*free_port|with socket\.socket\(\) as \w+:\n\s+\w+\.bind\(\(.*, 0\)\)\n\s++(?!\w+\.listen)"
    )
    files = [path for path in (ROOT / "tests").rglob("*.py") if path != ROOT / "tests" / "ports.py"]
    assert [path.relative_to(ROOT) for path in files if own.search(path.read_text())] == []
