"""``python -m ops schema``: writes what follows from the code: schemas, tables in the docs, the dashboard."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from config import option_tables
from config.schema import stack_schema
from ops import answer
from ops.doctor import first_run
from plugin import schema as package
from tfserving import dashboard

PROJECT = Path(__file__).resolve().parents[1]
SCHEMA = "stacks/schema.json"
PACKAGE = "plugin/schema.json"
DASHBOARD = "docs/grafana-dashboard.json"


def texts() -> dict[str, str]:
    """The files as they ought to be, by their path in the project."""
    schema = json.dumps(stack_schema(), indent=1, ensure_ascii=False) + "\n"
    return {
        SCHEMA: schema,
        PACKAGE: package.text(),
        **{page: option_tables.write(PROJECT, page) for page in option_tables.PAGES},
        first_run.PAGE: first_run.page(PROJECT),
        DASHBOARD: dashboard.text(),
    }


def main(argv: Sequence[str]) -> int:
    """Writes the files that are out of date.

    Returns:
        0.
    """
    chosen = _parser().parse_args(list(argv))
    files = {}
    for name, text in texts().items():
        file = PROJECT / name
        stale = not file.is_file() or file.read_text(encoding="utf-8") != text
        if stale:
            file.write_text(text, encoding="utf-8")
        files[name] = "written" if stale else "up to date"
    answer.give(chosen, {"files": files}, "\n".join(f"{name}: {state}" for name, state in files.items()))
    return 0


def _parser() -> answer.Parser:
    return answer.Parser(
        prog="python -m ops schema",
        description="Writes the schemas of stacks/ and plugin/, and tables and dashboard of docs/, from the code.",
    )
