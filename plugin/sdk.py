"""The Pulumi SDK of this process: left out until a component is made.

Resources only need the messages of the protocol, and every preview waits for the plugin to start: the SDK is a third of
what it would import.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import threading

_PACKAGES = ("pulumi", "pulumi.runtime")

_lock = threading.Lock()
_left_out: set[str] = set()


def leave_out() -> None:
    """Makes ``pulumi.runtime.proto`` importable without the SDK around it."""
    for name in _PACKAGES:
        spec = importlib.util.find_spec(name)
        if spec is not None and name not in sys.modules:
            sys.modules[name] = importlib.util.module_from_spec(spec)
            _left_out.add(name)


def load() -> None:
    """Loads what :func:`leave_out` left out. What was imported from it meanwhile stays the same."""
    with _lock:
        if not _left_out:
            return
        for name in _PACKAGES:
            sys.modules.pop(name, None)
        _left_out.clear()
        for name in _PACKAGES:
            importlib.import_module(name)
