"""``python -m ops dashboard``: prints the Grafana dashboard of TensorFlow Serving's metrics."""

from __future__ import annotations

from collections.abc import Sequence

from ops import answer
from tfserving import dashboard


def main(argv: Sequence[str]) -> int:
    """Prints the dashboard.

    Returns:
        0.
    """
    chosen = _parser().parse_args(list(argv))
    answer.give(chosen, dashboard.dashboard(), dashboard.text().rstrip("\n"))
    return 0


def _parser() -> answer.Parser:
    return answer.Parser(
        prog="python -m ops dashboard",
        description="Prints a Grafana dashboard of TensorFlow Serving's metrics, as JSON to import.",
        epilog="docs/grafana-dashboard.json is the same, as a file.",
    )
