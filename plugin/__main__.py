"""``python plugin [flags] [engine address]``: serve the package, as the Pulumi CLI starts it.

The working directory is that of the program, and stays: relative paths among the arguments start there.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).absolute().parent.parent
"""The directory with ``plugin/`` and all it imports."""


def run() -> int:
    """Serve until the engine is done; the exit status."""
    if not __package__:  # started as a directory, which makes the directory itself the first import path
        sys.path[0] = str(ROOT)
    elif __package__ != "plugin":  # in the wheel all of this lies below one package
        sys.path.insert(0, str(ROOT))
    from plugin import sdk

    sdk.leave_out()
    from plugin.package import Package
    from provider.process import main

    return main(sys.argv[1:], Path.cwd(), Package())


if __name__ == "__main__":
    sys.exit(run())
