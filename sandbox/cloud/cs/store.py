"""What the sandbox remembers of clusters and networks: one small JSON file, replaced atomically."""

from __future__ import annotations

import json
import os
import secrets
import string
from pathlib import Path
from typing import Any

_KINDS = ("clusters", "nodepools", "tasks", "vpcs", "vswitches", "groups")
_ALPHABET = string.ascii_lowercase + string.digits

Record = dict[str, Any]


class Store:
    """Records by kind and id. Used from the event loop's thread only.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        self._kinds: dict[str, dict[str, Record]] = {kind: found.get(kind, {}) for kind in _KINDS}

    def get(self, kind: str, id_: str) -> Record | None:
        """One record."""
        return self._kinds[kind].get(id_)

    def all(self, kind: str) -> list[Record]:
        """Every record of a kind, oldest first."""
        return list(self._kinds[kind].values())

    def put(self, kind: str, id_: str, record: Record) -> None:
        """Keeps a record."""
        self._kinds[kind][id_] = record
        self._save()

    def remove(self, kind: str, id_: str) -> None:
        """Forgets a record."""
        if self._kinds[kind].pop(id_, None) is not None:
            self._save()

    def _save(self) -> None:
        staged = self._path.with_suffix(".new")
        staged.write_text(json.dumps(self._kinds), encoding="utf-8")
        os.chmod(staged, 0o600)
        staged.replace(self._path)


def new_id(prefix: str, length: int = 20) -> str:
    """An id in the form of the real ones."""
    return prefix + "".join(secrets.choice(_ALPHABET) for _ in range(length))
