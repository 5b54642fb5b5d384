"""Free TCP ports on loopback, for programs that are told where to listen.

Between finding a port and listening on it, somebody else may take it. So ports come from outside the range that the
kernel gives to outgoing connections, at random, and none is found twice in a row; whoever starts a program at one
still has to be ready to start it again at another.
"""

from __future__ import annotations

import functools
import secrets
import socket
import threading
from collections import deque
from collections.abc import Container
from pathlib import Path

from sandbox import paths

_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_USUAL_RANGE = (49152, 65535)
"""The dynamic ports of RFC 6335, which other kernels than Linux use."""
_LOWEST = 10000
"""Below are the usual ports of other programs."""

_found: deque[int] = deque(maxlen=256)
_lock = threading.Lock()


@functools.cache
def quiet() -> tuple[int, ...]:
    """Ports that no outgoing connection takes; all above the usual ones where the kernel leaves none."""
    try:
        first, last = map(int, _RANGE.read_text(encoding="ascii").split())
    except (OSError, ValueError):
        first, last = _USUAL_RANGE
    every = range(_LOWEST, 1 << 16)
    return tuple(port for port in every if not first <= port <= last) or tuple(every)


def is_free(port: int) -> bool:
    """Whether a program could listen on a port of loopback now."""
    with socket.socket() as listener:
        # As servers do: connections that have ended a moment ago are no hindrance.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((paths.LOOPBACK, port))
            listener.listen()
        except (OSError, OverflowError):
            return False
    return True


def free_port(taken: Container[int] = ()) -> int:
    """A port of loopback that is free now, and that this process has not found lately.

    Args:
        taken: ports that will not do.

    Raises:
        OSError: there is none.
    """
    with _lock:
        for _ in range(1000):
            port = secrets.choice(quiet())
            if port not in taken and port not in _found and is_free(port):
                _found.append(port)
                return port
    raise OSError("no free TCP port on 127.0.0.1")
