"""The table of messages of the operations page: it quotes what the code says, and explains what the code advises."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from provider import faults
from sandbox import paths

SECTION = "### What a refusal or a failure means"


def rows() -> list[list[str]]:
    page = (paths.ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    section = page.partition(SECTION)[2].partition("\n### ")[0]
    table = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[1:]]


def quoted() -> list[str]:
    found = [phrase for row in rows() for phrase in re.findall(r"`([^`]+)`", row[0])]
    # Words of Alibaba Cloud and of Kubernetes, not ours.
    return [phrase for phrase in found if " " in phrase]


def said() -> Iterator[str]:
    """Every text in the provider; what is put into one shows as ``...``."""
    for file in sorted((paths.ROOT / "provider").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value
            elif isinstance(node, ast.JoinedStr):
                yield "".join(str(part.value) if isinstance(part, ast.Constant) else "..." for part in node.values)


@pytest.mark.parametrize("phrase", quoted())
def test_a_message_that_the_page_explains_is_one_of_the_code(phrase: str) -> None:
    pattern = re.compile(r".*?".join(map(re.escape, re.split(r"\.\.\.|Waiting", phrase))))
    assert any(pattern.search(text) for text in said())


@pytest.mark.parametrize("advice", [advice for _, advice in faults._HINTS])
def test_what_the_code_advises_is_explained_on_the_page(advice: str) -> None:
    assert re.split(r"[:;] ", advice)[0] in quoted()


def test_every_row_says_what_to_do_next() -> None:
    assert len(rows()) > 15
    assert all(len(row) == 3 and all(row) for row in rows())
