"""``python -m provider [flags] [engine address]``: serve the provider, as the Pulumi CLI starts it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

PROJECT_ROOT = Path(__file__).absolute().parent.parent


def run() -> int:
    """Serve until the engine is done; the exit status."""
    if not __package__:  # started as a directory, which makes the directory itself the first import path
        sys.path[0] = str(PROJECT_ROOT)
    _leave_out_the_sdk()
    from provider.server import main

    return main(sys.argv[1:], PROJECT_ROOT)


def _leave_out_the_sdk() -> None:
    """Make ``pulumi.runtime.proto`` importable without the SDK around it.

    A provider only needs the messages, and every preview waits for it to start: the SDK is a third of what it imports.
    """
    for name in ("pulumi", "pulumi.runtime"):
        spec = importlib.util.find_spec(name)
        if spec is not None and name not in sys.modules:
            sys.modules[name] = importlib.util.module_from_spec(spec)


if __name__ == "__main__":
    sys.exit(run())
