"""Python files of the project as syntax trees, for tests that look at the code itself."""

from __future__ import annotations

import ast
import gc
from functools import cache
from pathlib import Path


@cache
def tree_of(file: Path) -> ast.Module:
    """The syntax tree of a file.

    Without the garbage collector: CPython before 3.11.10 counts the depth of all trees that are made in one number,
    and a finalizer or another thread that runs in between makes it fail ("AST constructor recursion depth mismatch").
    """
    text = file.read_text(encoding="utf-8")
    collecting = gc.isenabled()
    gc.disable()
    try:
        return ast.parse(text)
    finally:
        if collecting:
            gc.enable()
