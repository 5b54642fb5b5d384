"""The list of slow files is of files that exist."""

from __future__ import annotations

from tests.conftest import LONGEST_FIRST, TESTS


def test_every_file_that_begins_early_is_there_once() -> None:
    assert [name for name in LONGEST_FIRST if not (TESTS / name).is_file()] == []
    assert len(set(LONGEST_FIRST)) == len(LONGEST_FIRST)
