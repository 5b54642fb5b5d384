"""The checkout in which the pages' commands are run."""

from __future__ import annotations

from tests.e2e.conftest import checkout, prepared

__all__ = ["checkout", "prepared"]
