"""Container paths and where they lie on this machine.

A service's flags and config file name paths inside its container (``/models/modelA``). The sandbox mounts nothing; it
tells the server where those paths really are. Logs and errors show the container path, as a real server's do.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

VARIABLE = "TF_SERVING_SANDBOX_MOUNTS"
"""Environment variable: a JSON object from container directory to directory on this machine."""


class MountsError(Exception):
    """The variable does not hold a JSON object of absolute paths."""


@dataclass(frozen=True)
class Mounts:
    """Which container directory is which local one.

    Attributes:
        table: normalised container directory -> absolute local directory.
    """

    table: Mapping[str, str] = field(default_factory=dict)

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
        return cls({posixpath.normpath(inside): local for inside, local in table.items()})

    def local(self, path: str) -> Path:
        """Where a container path lies on this machine. The longest mounted prefix decides; others stay as they are."""
        if not path.startswith("/"):
            return Path(path)
        path = posixpath.normpath(path)
        for inside in sorted(self.table, key=len, reverse=True):
            if path == inside or path.startswith(inside.rstrip("/") + "/"):
                return Path(self.table[inside] + "/" + path[len(inside) :].lstrip("/"))
        return Path(path)

    def conceal(self, text: str) -> str:
        """The text with local directories written as the container's: for messages of the TensorFlow runtime."""
        for inside, local in sorted(self.table.items(), key=lambda item: len(item[1]), reverse=True):
            text = text.replace(local.rstrip("/"), inside.rstrip("/"))
        return text
