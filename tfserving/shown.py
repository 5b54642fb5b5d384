"""Values in messages, as a stack file has them: ``null``, ``true`` and ``false``, and not Python's words."""

from __future__ import annotations

from collections.abc import Mapping


def shown(value: object) -> str:
    """A value for a message; texts stand in quotes."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{shown(key)}: {shown(item)}' for key, item in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(shown, value))}]"
    return repr(value)
