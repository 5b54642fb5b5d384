"""``python -m ops schema``: writes the JSON Schema of the stack file."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from components.stack_schema import stack_schema

FILE = Path(__file__).resolve().parents[1] / "stacks" / "schema.json"


def text() -> str:
    """The schema as the file has it."""
    return json.dumps(stack_schema(), indent=1, ensure_ascii=False) + "\n"


def main(argv: Sequence[str]) -> int:
    """Writes the file.

    Returns:
        0.
    """
    command = argparse.ArgumentParser(
        prog="python -m ops schema", description="Writes stacks/schema.json from the options that the code declares."
    )
    command.parse_args(list(argv))
    FILE.write_text(text(), encoding="utf-8")
    print(f"{FILE.relative_to(FILE.parents[1])}: written")
    return 0
