"""The tables of options on the docs' pages: what a row says, and what a marker may name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from config import option_tables
from config.kubernetes import ACK_SERVICE_KEYS
from tfserving import kubernetes
from tfserving.options import option, options

PROJECT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, kw_only=True)
class Example:
    """An example.

    Attributes:
        poll_seconds: how often; excludes ``on_demand``.
        on_demand: a|b, as :func:`len` says.
        kind: which.
        checks: looked at.
    """

    poll_seconds: int = option(topic="When", least=1)
    on_demand: bool = False
    kind: Literal["", "a", "b", "c"] = option("", otherwise="`a` on Sundays", topic="What")
    checks: Mapping[str, str] | None = option(None, key="healthCheck", also=(False,))
    share: int | str = 1


def page(project: Path, marker: str, more: str = "") -> str:
    """The rows that a marker makes on a page of its own."""
    (project / "docs").mkdir(exist_ok=True)
    for name in option_tables.PAGES:
        text = f"# a\n\n### `x:`\n\n<!-- options: {marker} -->\nold\n<!-- end -->\n{more}"
        (project / name).write_text(text if name == option_tables.PAGES[0] else "# b\n", encoding="utf-8")
    return option_tables.write(project, option_tables.PAGES[0])


@pytest.fixture(autouse=True)
def example(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(option_tables, "CLASSES", {"Example": Example})


def test_a_row_has_key_type_default_and_sentence(tmp_path: Path) -> None:
    written = page(tmp_path, "Example", "kept\n")
    assert [line for line in written.splitlines() if line.startswith("| `")] == [
        "| `pollSeconds` | seconds, 1 or more | required | how often; excludes `onDemand` |",
        "| `onDemand` | boolean | `false` | a\\|b, as `len` says |",
        "| `kind` | `a`, `b` or `c` | `a` on Sundays | which |",
        "| `healthCheck` | `false` or mapping of texts | none | looked at |",
        "| `share` | number or share | `1` |  |",
    ]
    assert "old" not in written
    assert written.endswith("<!-- end -->\nkept\n")
    assert page(tmp_path, "Example", "kept\n") == written


def test_a_key_with_a_section_of_its_own_is_a_link_to_it(tmp_path: Path) -> None:
    written = page(tmp_path, "Example; What", "#### `x:healthCheck.<name>`\n#### `share[n]`\n")
    assert "| `healthCheck` | [`false` or mapping of texts](#xhealthcheckname) |" in written
    assert "| `share` | [number or share](#sharen) |" in written
    assert "pollSeconds" not in written


@pytest.mark.parametrize(
    ("marker", "words"), [("Other", "Other is not one of Example"), ("Example; Why", "there are When, What")]
)
def test_a_marker_that_names_nothing_is_told_what_there_is(tmp_path: Path, marker: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        page(tmp_path, marker)


def test_the_page_about_kubernetes_has_every_key_of_its_services_and_node_pools() -> None:
    text = (PROJECT / "docs" / "kubernetes.md").read_text(encoding="utf-8")
    rows = set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE))
    keys = {*ACK_SERVICE_KEYS, *(each.key for each in options(kubernetes.GpuNodePoolSpec))}
    assert keys - {"target"} - rows == set()
