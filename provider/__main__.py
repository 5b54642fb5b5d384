"""``python -m provider [flags] [engine address]``: serve the provider, as the Pulumi CLI starts it."""

from __future__ import annotations

import sys
from pathlib import Path

PROJECT_ROOT = Path(__file__).absolute().parent.parent


def run() -> int:
    """Serve until the engine is done; the exit status."""
    if not __package__:  # started as a directory, which makes the directory itself the first import path
        sys.path[0] = str(PROJECT_ROOT)
    from provider.server import main

    return main(sys.argv[1:], PROJECT_ROOT)


if __name__ == "__main__":
    sys.exit(run())
