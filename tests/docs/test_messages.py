"""The table of messages of the operations page: it quotes what the code says, and explains what the code advises."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache

import pytest

from provider import faults
from sandbox import paths
from tests.syntax_trees import tree_of

SECTION = "### What a refusal or a failure means"


def rows() -> list[list[str]]:
    page = (paths.ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    section = page.partition(SECTION)[2].partition("\n### ")[0]
    table = [line for line in section.splitlines() if line.startswith("| ") and not line.startswith("| --")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[1:]]


def quoted() -> list[str]:
    found = [phrase for row in rows() for phrase in re.findall(r"`([^`]+)`", row[0])]
    # Words of Alibaba Cloud and of Kubernetes, not ours.
    return [phrase for phrase in found if " " in phrase]


def texts_of(directory: str) -> Iterator[str]:
    """Every text of the Python files below a directory of the project; what is put into one shows as ``...``."""
    for file in sorted((paths.ROOT / directory).rglob("*.py")):
        for node in ast.walk(tree_of(file)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value
            elif isinstance(node, ast.JoinedStr):
                yield "".join(str(part.value) if isinstance(part, ast.Constant) else "..." for part in node.values)


@cache
def said() -> list[str]:
    return list(texts_of("provider"))


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


# ---- the page of troubles ------------------------------------------------------------------------------------------

ANYWHERE = ("config", "local", "ops", "provider", "sandbox", "tfserving")
TROUBLES = "docs/troubleshooting.md"


def troubles() -> list[str]:
    """What the page quotes of messages: code in the first column of its tables."""
    page = (paths.ROOT / TROUBLES).read_text(encoding="utf-8")
    firsts = [line.strip("|").split(" | ")[0].strip() for line in page.splitlines() if line.startswith("| `")]
    return [phrase for first in firsts for phrase in re.findall(r"`([^`]+)`", first)]


@cache
def said_anywhere() -> str:
    """Every text of the project's own programs, joined; what is put into one shows as ``...``."""
    texts = [(paths.ROOT / "Makefile").read_text(encoding="utf-8")]
    for part in ANYWHERE:
        texts += texts_of(part)
    return "\n".join(texts)


@pytest.mark.parametrize("phrase", troubles())
def test_a_message_that_the_page_of_troubles_explains_is_one_of_the_code(phrase: str) -> None:
    assert re.search(r"[^\n]*?".join(map(re.escape, phrase.split("..."))), said_anywhere())


def test_the_page_of_troubles_says_of_each_what_it_means_and_what_to_do() -> None:
    page = (paths.ROOT / TROUBLES).read_text(encoding="utf-8")
    lines = [line for line in page.splitlines() if line.startswith("| ") and not line.startswith("| --")]
    assert len(troubles()) > 10
    assert all(len([cell for cell in line.strip("|").split(" | ") if cell.strip()]) == 3 for line in lines)
