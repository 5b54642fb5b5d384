"""Builds the programs of the cluster as Go tools of the module in ``sandbox/kube/module``.

Versions and checksums are those of its ``go.mod`` and ``go.sum``. Nothing is built twice: a stamp beside the programs
says what they were built from.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from sandbox import paths
from tfserving.errors import TFServingError

MODULE = Path(__file__).with_name("module")
BIN = paths.SANDBOX / "kube" / "bin"

PROGRAMS: Mapping[str, str] = {
    "etcd": "go.etcd.io/etcd/server/v3",
    "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
    "kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
    "kube-scheduler": "k8s.io/kubernetes/cmd/kube-scheduler",
}
"""Import path of each program by its name."""

_STAMP = ".built-from"
_VERSION = re.compile(r"^\s+k8s\.io/kubernetes v((\d+)\.(\d+)\.\d+)\b", re.MULTILINE)


class KubeBuildError(TFServingError):
    """The programs cannot be built here. The message says why."""


def version() -> str:
    """The Kubernetes release the module pins, such as ``1.37.2``."""
    return _version()[1]


def missing(directory: Path = BIN) -> str:
    """Why the programs in ``directory`` cannot be used; empty if they can."""
    try:
        stamp = (directory / _STAMP).read_text(encoding="utf-8")
    except OSError:
        return f"the Kubernetes programs are not built: run `make kube`{'' if shutil.which('go') else ', with Go'}"
    if stamp != _fingerprint():
        return "the Kubernetes programs are of another version: run `make kube`"
    return ""


def build(directory: Path = BIN) -> bool:
    """Builds what is not built yet, at a low priority.

    Returns:
        whether anything had to be built.

    Raises:
        KubeBuildError: Go is missing or the build failed; the compiler's own words are on standard error.
    """
    if not missing(directory):
        return False
    go = shutil.which("go")
    if go is None:
        raise KubeBuildError("Go is not on PATH. Install Go (https://go.dev/dl), then run `make kube` again")
    release, major, minor = _version().groups()
    package = "k8s.io/component-base/version"
    flags = f"-s -w -X {package}.gitVersion=v{release} -X {package}.gitMajor={major} -X {package}.gitMinor={minor}"
    directory.mkdir(parents=True, exist_ok=True)
    (directory / _STAMP).unlink(missing_ok=True)
    for name, path in PROGRAMS.items():
        print(f"building {name} ({path}, Kubernetes {release})", flush=True)
        command = [go, "build", "-trimpath", "-ldflags", flags, "-o", str(directory / name), path]
        environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly", "GOWORK": "off"}
        done = subprocess.run(_gently(command), cwd=MODULE, env=environment, stdout=sys.stderr, check=False)
        if done.returncode:
            raise KubeBuildError(f"building {name} failed (exit status {done.returncode}); the reason is above")
    (directory / _STAMP).write_text(_fingerprint(), encoding="utf-8")
    return True


def _gently(command: list[str]) -> list[str]:
    return ["nice", *command] if shutil.which("nice") else command


def _version() -> re.Match[str]:
    found = _VERSION.search((MODULE / "go.mod").read_text(encoding="utf-8"))
    if found is None:
        raise KubeBuildError(f"{MODULE / 'go.mod'} does not pin k8s.io/kubernetes")
    return found


def _fingerprint() -> str:
    """What the programs are made from: modules, programs, machine."""
    digest = hashlib.sha256()
    for part in (*((MODULE / name).read_bytes() for name in ("go.mod", "go.sum")), repr(PROGRAMS).encode()):
        digest.update(part)
    return f"{digest.hexdigest()} {platform.system()} {platform.machine()}\n"
