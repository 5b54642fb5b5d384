"""What may have been meant by a name that is not there."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_MOST = 20
"""Names that are listed of more."""


def choices(wrong: str, names: Iterable[str]) -> str:
    """The nearest name, and which there are: ``did you mean 'modelA'? There are modelA, modelB``."""
    found = sorted(set(names))
    if not found:
        return "there are none"
    close = difflib.get_close_matches(wrong, found, n=1)
    close = close or [name for name in found if name.casefold() == wrong.casefold()]
    listed = ", ".join(found[:_MOST]) + (f" and {len(found) - _MOST} more" if len(found) > _MOST else "")
    return f"did you mean {close[0]!r}? There are {listed}" if close else f"there are {listed}"
