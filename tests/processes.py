"""What tests want to know of processes."""

from __future__ import annotations

from pathlib import Path


def is_alive(pid: int) -> bool:
    """Whether any thread of a process still runs; one that ended and was not waited for yet has closed its ports."""
    try:
        states = [
            (thread / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
            for thread in Path(f"/proc/{pid}/task").iterdir()
        ]
    except OSError:
        return False
    return any(state not in "ZX" for state in states)
