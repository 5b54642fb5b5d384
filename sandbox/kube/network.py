"""The pod network: how the API server reaches pods that are processes on this machine.

The API server is configured to reach the cluster's network through an HTTP CONNECT proxy on a Unix socket (its egress
selector, as managed clusters do it). That proxy knows which loopback address stands for which pod.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import secrets
import select
import socket
import socketserver
import sys
import threading
from pathlib import Path
from typing import Any

from sandbox.kube.pods import POD_NETWORK

_CONNECT_SECONDS = 5.0
_IDLE_SECONDS = 300.0


class PodNetwork:
    """Addresses of pods, and the proxy that leads to them.

    Args:
        path: where the proxy's socket is; the API server looks there.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._hosts: dict[str, str] = {}
        self._lock = threading.Lock()
        # Clusters on one machine share its loopback network: each takes a random part of it.
        self._base = f"127.{secrets.randbelow(100) + 100}.{secrets.randbelow(256)}"
        self._free = [str(address) for address in ipaddress.ip_network(POD_NETWORK).hosts()][1:250]
        path.unlink(missing_ok=True)
        self._server = _bound(path, self)
        path.chmod(0o600)
        self._thread = threading.Thread(target=self._server.serve_forever, name="pod network", daemon=True)
        self._thread.start()

    def add(self) -> tuple[str, str]:
        """A pod's address, and the loopback address behind it."""
        with self._lock:
            ip = self._free.pop(0)
            host = f"{self._base}.{int(ip.rpartition('.')[2])}"
            self._hosts[ip] = host
            return ip, host

    def remove(self, ip: str) -> None:
        """Gives an address back, to be used again as late as possible."""
        with self._lock:
            if self._hosts.pop(ip, None):
                self._free.append(ip)

    def host(self, ip: str) -> str | None:
        """The loopback address behind a pod's address."""
        with self._lock:
            return self._hosts.get(ip)

    def close(self) -> None:
        """Ends the proxy."""
        self._server.shutdown()
        self._server.server_close()
        self._path.unlink(missing_ok=True)


def _bound(path: Path, network: PodNetwork) -> _Server:
    """A server at ``path``, even where that is longer than the address of a socket can be."""
    if sys.platform != "linux":
        return _Server(str(path), _Connection, network)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return _Server(f"/proc/self/fd/{directory}/{path.name}", _Connection, network)
    finally:
        os.close(directory)


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True

    def __init__(self, path: str, handler: Any, network: PodNetwork) -> None:
        self.network = network
        super().__init__(path, handler)


class _Connection(socketserver.StreamRequestHandler):
    """``CONNECT ip:port HTTP/1.1``, then bytes in both directions."""

    rbufsize = 0  # what follows the request belongs to the pod

    def handle(self) -> None:
        words = self.rfile.readline(1024).decode("ascii", "replace").split()
        while self.rfile.readline(8192).strip():
            pass
        ip, _, port = words[1].rpartition(":") if len(words) == 3 and words[0] == "CONNECT" else ("", "", "")
        server: Any = self.server
        host = server.network.host(ip.strip("[]"))
        if host is None or not port.isdigit():
            self.wfile.write(b"HTTP/1.1 502 no such pod\r\n\r\n")
            return
        try:
            with socket.create_connection((host, int(port)), _CONNECT_SECONDS) as pod:
                self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
                splice(self.connection, pod)
        except OSError:
            with contextlib.suppress(OSError):
                self.wfile.write(b"HTTP/1.1 503 the pod does not answer\r\n\r\n")


def splice(one: socket.socket, other: socket.socket) -> None:
    """Carries bytes in both directions until both sides are done, or nothing has come for minutes."""
    open_ways = {one: other, other: one}
    for end in (one, other):
        end.settimeout(_IDLE_SECONDS)
    while open_ways:
        readable, _, _ = select.select(list(open_ways), [], [], _IDLE_SECONDS)
        if not readable:
            return
        for end in readable:
            data = end.recv(1 << 16)
            if data:
                open_ways[end].sendall(data)
            else:
                with contextlib.suppress(OSError):
                    open_ways[end].shutdown(socket.SHUT_WR)
                del open_ways[end]
