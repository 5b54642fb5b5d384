"""The stack configs of ``tests/config``, which the program is run with."""

from __future__ import annotations

from tests.config.conftest import changed, good, own_cache, project, publish

__all__ = ["changed", "good", "own_cache", "project", "publish"]
