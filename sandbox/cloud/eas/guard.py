"""Starts a program that dies with its parent: ``python -I -S guard.py PARENT_PID PROGRAM ARGUMENT...``

On Linux the kernel kills the program when the thread that started it ends, even if the parent was killed with SIGKILL.
Elsewhere nothing does; the next start of the sandbox cloud removes what was left (:mod:`sandbox.cloud.eas.process`).
A program of its own because code between fork and exec is not safe in a process with threads.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # <sys/prctl.h>


def main() -> None:
    """Replaces this process with the program."""
    parent, program = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before the request above
        sys.exit(1)
    try:
        os.execvp(program[0], program)  # noqa: S606
    except OSError as error:
        sys.exit(f"cannot start {program[0]}: {error.strerror}")


main()
