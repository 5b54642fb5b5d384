"""HTTP and HTTPS on one port, told apart by the first byte of a connection.

The Go provider speaks HTTPS to some APIs whatever it is configured for, and HTTP to others, at one address per product.
The certificate is for 127.0.0.1 and comes from an authority of this cloud's own, which nobody trusts who is not told to
(``SSL_CERT_FILE``).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from pathlib import Path

import certifi
from aiohttp import web

from sandbox.kube.pki import Authority

_TLS_HANDSHAKE = 0x16  # the first byte of a TLS connection; no HTTP method begins with it
_FIRST_BYTE_SECONDS = 75.0
AUTHORITY = "sandbox-cloud-ca"


def authority_file(directory: Path) -> Path:
    """The certificate that clients have to trust, below the cloud's data directory."""
    return directory / "tls" / f"{AUTHORITY}.crt"


def trust_bundle(directory: Path) -> Path:
    """Writes what ``SSL_CERT_FILE`` can name: the authorities trusted so far, and this cloud's.

    A file in that variable takes the place of the system's, so without the others no other server would be trusted.

    Args:
        directory: the cloud's data directory; the cloud has been started once.
    """
    bundle = directory / "tls" / "trusted.crt"
    named = Path(os.environ.get("SSL_CERT_FILE") or certifi.where())
    others = named if named != bundle and named.is_file() else Path(certifi.where())
    staged = bundle.with_suffix(f".{os.getpid()}")
    staged.write_bytes(others.read_bytes() + b"\n" + authority_file(directory).read_bytes())
    staged.replace(bundle)
    return bundle


def tls_context(directory: Path) -> ssl.SSLContext:
    """The server's side of TLS; authority and certificate are made where there are none yet.

    Args:
        directory: the cloud's data directory.
    """
    pair = Authority(directory / "tls", AUTHORITY).issue("sandbox-cloud", server=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pair.cert, pair.key)
    context.set_alpn_protocols(["http/1.1"])
    return context


class Listener:
    """Takes connections for an application runner, which has been set up.

    Args:
        runner: its server answers the requests.
        listening: a bound socket.
        context: for connections that begin with TLS.
    """

    def __init__(self, runner: web.AppRunner, listening: socket.socket, context: ssl.SSLContext) -> None:
        self._runner, self._socket, self._context = runner, listening, context
        self._accepting: asyncio.Task[None] | None = None
        self._beginning: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Begins to take connections."""
        self._socket.setblocking(False)
        self._socket.listen(256)
        self._accepting = asyncio.create_task(self._accept())

    async def stop(self) -> None:
        """Takes no more; those that are open end with the runner."""
        tasks = [task for task in (self._accepting, *self._beginning) if task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._socket.close()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(self._socket)
            except OSError:  # out of file descriptors, or the client is gone already
                await asyncio.sleep(0.05)
                continue
            task = asyncio.create_task(self._begin(connection))
            self._beginning.add(task)
            task.add_done_callback(self._beginning.discard)

    async def _begin(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        server = self._runner.server
        try:
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            first = await asyncio.wait_for(_first_byte(connection), _FIRST_BYTE_SECONDS)
            if first is None or server is None:
                connection.close()
                return
            context = self._context if first == _TLS_HANDSHAKE else None
            await loop.connect_accepted_socket(server, connection, ssl=context)
        except (OSError, ssl.SSLError, TimeoutError):
            connection.close()
        except asyncio.CancelledError:
            connection.close()
            raise


async def _first_byte(connection: socket.socket) -> int | None:
    """The first byte, left where it is; None where the client closes without a word."""
    loop = asyncio.get_running_loop()
    while True:
        with contextlib.suppress(BlockingIOError):
            found = connection.recv(1, socket.MSG_PEEK)
            return found[0] if found else None
        ready = loop.create_future()
        loop.add_reader(connection, _set, ready)
        try:
            await ready
        finally:
            loop.remove_reader(connection)


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
