"""Container paths and where they lie on this machine.

A service's flags and config file name paths inside its container (``/models/modelA``). The sandbox mounts nothing; it
tells the server where those paths really are. What is not mounted does not exist there, whatever lies at that path on
this machine. Logs and errors show the container path, as a real server's do.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "TF_SERVING_SANDBOX_MOUNTS"
"""Environment variable: a JSON object from container directory to directory on this machine."""

_NOWHERE = "/nonexistent"
"""No system has this: the Filesystem Hierarchy Standard of Debian gives it as home to users who have none."""


class MountsError(Exception):
    """The variable does not hold a JSON object of absolute paths."""


@dataclass(frozen=True)
class Mounts:
    """Which container directory is which local one.

    Attributes:
        table: normalised container directory -> absolute local directory. None outside a container: paths are used as
            they are.
    """

    table: Mapping[str, str] | None = None

    @classmethod
    def of(cls, table: Mapping[str, str]) -> Mounts:
        """What a container sees that has these directories mounted, and nothing else."""
        return cls({posixpath.normpath(inside): local for inside, local in table.items()})

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Mounts:
        """Reads ``TF_SERVING_SANDBOX_MOUNTS``; no variable means that paths are used as they are.

        Raises:
            MountsError: not a JSON object of absolute paths.
        """
        text = environment.get(VARIABLE, "")
        if not text:
            return cls()
        try:
            table = json.loads(text)
        except ValueError as error:
            raise MountsError(f"{VARIABLE} is not JSON: {error}") from None
        if not isinstance(table, dict):
            raise MountsError(f'{VARIABLE} must be an object such as {{"/models": "/abs/dir"}}')
        for inside, local in table.items():
            if not inside.startswith("/") or not isinstance(local, str) or not local.startswith("/"):
                raise MountsError(f"{VARIABLE}: {inside!r}: {local!r} are not two absolute paths")
        return cls.of(table)

    def local(self, path: str) -> Path:
        """Where a container path lies on this machine. The longest mounted prefix decides; others exist nowhere."""
        if self.table is None:
            return Path(path)
        path = posixpath.normpath("/" + path.lstrip("/"))
        for inside in sorted(self.table, key=len, reverse=True):
            if path == inside or path.startswith(inside.rstrip("/") + "/"):
                return Path(self.table[inside] + "/" + path[len(inside) :].lstrip("/"))
        return Path(_NOWHERE + path)

    def holds(self, path: str) -> bool:
        """Whether there is a place for a path: below a mount, or anywhere outside a container."""
        return self.table is None or not self.local(path).is_relative_to(_NOWHERE)

    def conceal(self, text: str) -> str:
        """The text with local directories written as the container's: for messages of the TensorFlow runtime."""
        for inside, local in sorted((self.table or {}).items(), key=lambda item: len(item[1]), reverse=True):
            text = text.replace(local.rstrip("/"), inside.rstrip("/"))
        return text if self.table is None else text.replace(_NOWHERE, "")
