"""One line of the doctor's report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "error", "skipped"]


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        level: ``ok``, ``warning`` (works, with a catch), ``error`` (will not work) or ``skipped`` (cannot be told).
        subject: what was looked at.
        text: what was found.
        fix: what to do about it; empty where nothing has to be done.
    """

    level: Level
    subject: str
    text: str
    fix: str = ""
