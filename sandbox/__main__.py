"""``python -m sandbox``."""

from __future__ import annotations

from sandbox.cli import script

if __name__ == "__main__":
    script()
