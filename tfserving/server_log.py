"""What TensorFlow Serving's log says of a load that no retry will mend.

While a server retries a failed load (five times, a minute apart, by default) the state of the version is LOADING, and
only the log has the reason: ``Loading servable: {name: modelB version: 3} failed: DATA_LOSS: ...``
(``loader_harness.cc``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_FAILED = re.compile(
    r"Loading servable: \{name: (?P<model>\S+) version: (?P<version>\d+)\} failed: "
    r"(?P<reason>(?P<code>[A-Za-z_ ]+?): .*)"
)
_LASTING = frozenset({"DATA_LOSS", "INVALID_ARGUMENT", "UNIMPLEMENTED", "FAILED_PRECONDITION"})
"""Codes that speak of the files themselves. Others, such as NOT_FOUND while files are copied, may pass."""


def lasting_failure(lines: Iterable[str], model: str, version: int) -> str:
    """Why a version will never load, in the server's own words; empty where the log does not say so.

    Args:
        lines: of the log, oldest first.
        model: the model.
        version: the version.
    """
    found = ""
    for line in lines:
        match = _FAILED.search(line)
        if match and match["model"] == model and int(match["version"]) == version:
            code = match["code"].strip().upper().replace(" ", "_")
            unknown_op = "Op type not registered" in match["reason"]
            found = match["reason"].strip() if code in _LASTING or unknown_op else ""
    return found
