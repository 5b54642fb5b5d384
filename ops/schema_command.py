"""``python -m ops schema``: writes what follows from the declared options: a JSON Schema, and tables in the docs."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from config import option_tables
from config.schema import stack_schema

PROJECT = Path(__file__).resolve().parents[1]
SCHEMA = "stacks/schema.json"


def texts() -> dict[str, str]:
    """The files as they ought to be, by their path in the project."""
    schema = json.dumps(stack_schema(), indent=1, ensure_ascii=False) + "\n"
    return {SCHEMA: schema, **{page: option_tables.write(PROJECT, page) for page in option_tables.PAGES}}


def main(argv: Sequence[str]) -> int:
    """Writes the files that are out of date.

    Returns:
        0.
    """
    command = argparse.ArgumentParser(
        prog="python -m ops schema",
        description="Writes stacks/schema.json and the tables of docs/ from the options that the code declares.",
    )
    command.parse_args(list(argv))
    for name, text in texts().items():
        file = PROJECT / name
        stale = not file.is_file() or file.read_text(encoding="utf-8") != text
        if stale:
            file.write_text(text, encoding="utf-8")
        print(f"{name}: {'written' if stale else 'up to date'}")
    return 0
