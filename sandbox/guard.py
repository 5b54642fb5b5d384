"""Starts a program that dies with its parent and stays inside its own directories:
``python -I -S guard.py PARENT_PID RULES PROGRAM ARGUMENT...``

``RULES`` is empty for a program that may do what its user may, else a JSON object: ``list``, ``read`` and ``write`` are
lists of files and directories. On Linux the kernel then refuses everything else in the file system, and connections
to TCP ports (Landlock, ``Documentation/userspace-api/landlock.rst``; from 5.13 on, TCP from 6.7 on). Elsewhere the
rules do nothing.

On Linux the kernel also kills the program when the thread that started it ends, even if the parent was killed with
SIGKILL. Elsewhere nothing does; the next start of the sandbox cloud removes what was left
(:mod:`sandbox.cloud.eas.process`).

A program of its own because code between fork and exec is not safe in a process with threads. It imports nothing of the
project.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import stat
import struct
import sys
from collections.abc import Iterable

PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS = 1, 38  # <sys/prctl.h>
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # system calls, the same numbers on every architecture
VERSION_FLAG, PATH_BENEATH = 1, 1  # <linux/landlock.h>
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, REFER, TRUNCATE = 1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 13, 1 << 14
ALL_OF_FIRST_VERSION = (1 << 13) - 1
CONNECT_TCP = 1 << 1
READ = EXECUTE | READ_FILE | READ_DIR
OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE


def landlock() -> int:
    """The version of Landlock this kernel offers; 0 for none."""
    if sys.platform != "linux":
        return 0
    return max(int(ctypes.CDLL(None, use_errno=True).syscall(CREATE_RULESET, None, 0, VERSION_FLAG)), 0)


def confine(list: Iterable[str], read: Iterable[str], write: Iterable[str]) -> None:
    """Takes every other right in the file system from this process and those it starts, for good.

    Args:
        list: names of files below may be read, the files may not.
        read: may be read and run. What does not exist is passed over.
        write: may be read and changed.

    Raises:
        OSError: the kernel offers Landlock and refuses a rule.
    """
    version = landlock()
    if not version:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    handled = ALL_OF_FIRST_VERSION | (REFER if version >= 2 else 0) | (TRUNCATE if version >= 3 else 0)
    attributes = struct.pack("=QQ", handled, CONNECT_TCP) if version >= 4 else struct.pack("=Q", handled)
    rules = _checked(libc.syscall(CREATE_RULESET, attributes, len(attributes), 0))
    for paths, rights in ((list, READ_DIR), (read, READ), (write, handled & ~EXECUTE)):
        for path in paths:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError):
                beneath = os.open(path, os.O_PATH | os.O_CLOEXEC)
                kept = rights if stat.S_ISDIR(os.fstat(beneath).st_mode) else rights & OF_FILES
                _checked(libc.syscall(ADD_RULE, rules, PATH_BENEATH, struct.pack("=Qi", kept, beneath), 0))
                os.close(beneath)
    _checked(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    _checked(libc.syscall(RESTRICT_SELF, rules, 0))
    os.close(rules)


def _checked(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def main() -> None:
    """Replaces this process with the program."""
    parent, rules, program = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before the request above
        sys.exit(1)
    try:
        if rules:
            confine(**json.loads(rules))
        os.execvp(program[0], program)  # noqa: S606
    except OSError as error:
        sys.exit(f"cannot start {program[0]}: {error.strerror}")


if __name__ == "__main__":
    main()
