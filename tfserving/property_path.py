"""Paths of properties and config values, as the Pulumi CLI reads them: ``containers[0].image``, ``models["a.b"]``."""

from __future__ import annotations

import re

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_BARE = re.compile(r"[A-Za-z0-9_-]+")


def join_path(path: str, key: object) -> str:
    """``path`` extended by a key: ``a.b``, or ``a["b.c"]`` where needed. A control character is shown as ``\\x0a``."""
    text = _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", str(key))
    return f"{path}.{text}" if _BARE.fullmatch(text) else f"{path}{quoted(text)}"


def quoted(key: str) -> str:
    """A key in brackets and quotes: ``["b.c"]``.

    As ``resource.ParsePropertyPath`` reads it: a quote is written ``\\"``, and any other backslash stands for itself. A
    key in which a backslash comes before a quote or at the end cannot be written.
    """
    escaped = key.replace('"', '\\"')
    return f'["{escaped}"]'
