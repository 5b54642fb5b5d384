"""Paths of properties and config values, as the Pulumi CLI reads them: ``containers[0].image``, ``models["a.b"]``."""

from __future__ import annotations

import re
from collections.abc import Iterable

Path = tuple[str | int, ...]
"""A path as its steps: keys, and positions in lists."""

_STEP = re.compile(r'(?s)\["((?:\\"|[^"])*)"\]|\[(\d+|\*)\]|([^.\[\]]+)')
_PLAIN_NAME = re.compile(r"[A-Za-z_$][A-Za-z0-9_$-]*")
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


def format_path(steps: Iterable[str | int]) -> str:
    """Steps as a path: ``spec.containers[0].image``, ``versions["1"]``."""
    text = ""
    for step in steps:
        if isinstance(step, int):
            text += f"[{step}]"
        elif _PLAIN_NAME.fullmatch(step):
            text += f".{step}" if text else step
        else:
            text += quoted(step)
    return text


def parse_path(text: str) -> Path:
    """A path as its steps: ``spec.containers[0]["a.b"]`` is ``("spec", "containers", 0, "a.b")``.

    ``*`` and ``[*]``, which stand for any one step in ``ignoreChanges``, are ``"*"``.
    """
    return tuple(
        int(index) if index.isdecimal() else index or name or key.replace('\\"', '"')
        for key, index, name in _STEP.findall(text)
    )


def covers(pattern: str, path: Path) -> bool:
    """Whether ``path`` is what ``pattern`` names or lies inside it; ``*`` there stands for any one step."""
    wanted = parse_path(pattern)
    return len(wanted) <= len(path) and all(
        want == "*" or str(want) == str(step) for want, step in zip(wanted, path, strict=False)
    )
