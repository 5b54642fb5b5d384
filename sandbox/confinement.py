"""What a service's container may do on this machine: nothing outside its own directories.

Containers of the sandbox are processes of the person who runs it, and what they run comes from others: start commands,
models, object keys. Three layers keep that in, since no single one holds everywhere:

- paths: only what is mounted exists (:mod:`sandbox.model_server.mounts`), and objects get no file outside their mount;
- graphs: operations that write files are refused when a model is loaded (:mod:`sandbox.model_server.graph_files`);
- on Linux the kernel refuses the rest, whatever the code (:mod:`sandbox.guard`).
"""

from __future__ import annotations

import compileall
import glob
import json
import os
import re
import site
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path

from sandbox import guard, paths

_SYSTEM = (
    *("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/opt", "/nix/store", "/gnu/store", "/snap"),
    *("/home/linuxbrew", "/etc", "/dev", "/proc", "/sys"),
)
"""Programs, libraries and what they read about the machine. No directory of a person is among them."""
_DEVICES = ("/dev/null", "/dev/tty", *glob.glob("/dev/nvidia*"))
_KEPT = re.compile(r"PATH|HOME|LANG|LC_.*|TMPDIR|TZ|VIRTUAL_ENV|SSL_CERT_FILE|SSL_CERT_DIR")
# Where programs and libraries are found, and what makes libraries load, read or write files that a variable names.
_NOT_FROM_CONTAINER = re.compile(
    r"PATH|HOME|TMPDIR|TZ|TZDIR|VIRTUAL_ENV|PYTHON.*|LD_.*|DYLD_.*|GCONV_PATH|LOCPATH|NLSPATH|MALLOC_.*|GLIBC_.*"
    r"|OPENSSL_.*|SSL_.*|.*_PROXY|GOOGLE_.*|AWS_.*|XLA_FLAGS|TF_XLA_FLAGS|TF_DUMP_.*|TF_SERVING_SANDBOX_.*"
    r"|.*(_|^)(DIR|DIRS|FILE|FILES|FILENAME|PATH|PATHS|DUMP|LIBRARY|PLUGIN)(_.*)?",
    re.IGNORECASE,
)


def environment(container: Mapping[str, str]) -> dict[str, str]:
    """The variables a server is started with: few of this process's, and those of the container that do no harm."""
    kept = {name: value for name, value in os.environ.items() if _KEPT.fullmatch(name)}
    return kept | {name: value for name, value in container.items() if not _NOT_FROM_CONTAINER.fullmatch(name)}


def guarded(program: Sequence[str], arguments: Sequence[str], read: Iterable[Path], write: Iterable[Path]) -> list[str]:
    """The command line that runs a container's program confined.

    Args:
        program: what is run; files among its words may be read.
        arguments: passed on.
        read: directories it may read besides the system's.
        write: directories it may change.
    """
    _compile()
    own = {Path(word).resolve() for word in program if os.path.isabs(word) and os.path.isfile(word)}
    code = {Path(place).resolve() for place in (sys.prefix, sys.base_prefix, site.getusersitepackages())}
    # Python lists the directories of packages for their modules. It may not read a checkout whole: .sandbox/ holds the
    # access key and every service's objects.
    code |= {paths.CODE, paths.KNOWLEDGE}
    rules = {
        "list": paths.PYTHONPATH.split(os.pathsep),
        "read": sorted(map(str, {*_SYSTEM, *code, *own, *read})),
        "write": sorted(map(str, {*_DEVICES, *write})),
    }
    return [*bare_guard(json.dumps(rules)), *program, *arguments]


def bare_guard(rules: str = "") -> list[str]:
    """The first words of a command line whose program ends with this process."""
    return [sys.executable, "-I", "-S", guard.__file__, str(os.getpid()), rules]


@cache
def is_by_kernel() -> bool:
    """Whether the kernel confines the servers that are started here."""
    return guard.landlock() > 0


@cache
def _compile() -> None:
    """Servers may not write bytecode, and each start should find it."""
    for package in (paths.CODE, paths.KNOWLEDGE):
        compileall.compile_dir(package, quiet=2, workers=1)


def object_path(directory: Path, key: str) -> Path | None:
    """Where an object is shown below a directory; None for a key that has no place in a file system.

    Args:
        key: of the object, without the mounted prefix. A slash at its end is passed over.
    """
    segments = key.removesuffix("/").split("/")
    try:
        if any(not part or part in (".", "..") or "\0" in part or len(part.encode()) > 255 for part in segments):
            return None
    except UnicodeEncodeError:
        return None
    return directory.joinpath(*segments)
