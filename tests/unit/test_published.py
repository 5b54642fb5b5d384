"""What was changed of a published version: as data, as what stands in a digest's place, and in words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfserving import published
from tfserving.contract.storage import PublishedModelOutputs, VersionChanges

names = st.lists(st.text("abc/._-", min_size=1, max_size=8), max_size=30)


def test_words_name_each_kind_and_the_first_of_many() -> None:
    many = [f"assets/{number:02}" for number in range(25)]
    found = published.changes(["saved_model.pb"], [], many)
    assert published.marked(found) == (f"changed: missing saved_model.pb; added {', '.join(many[:20])} and 5 more")
    assert found.added is not None
    assert (len(found.added.names), found.added.count) == (20, 25)


@given(names, names, names)
def test_data_and_what_stands_in_a_digests_place_say_the_same(
    missing: list[str], changed: list[str], added: list[str]
) -> None:
    found = published.changes(missing, changed, added)
    outputs = PublishedModelOutputs(versions={}, files={}, unfinished={}, changes={"1": found}).write()
    again = (PublishedModelOutputs.read(outputs).changes or {})["1"]
    text = published.marked(found)
    assert published.is_changed(text)
    assert published.what_changed(text, again) == published.what_changed(text, None), "as in a state of old"


def test_changes_that_no_manifest_explains_are_changes() -> None:
    assert published.is_changed(published.marked(VersionChanges()))
    assert "no manifest says which differ" in published.what_changed("", VersionChanges())


@pytest.mark.parametrize("digest", ["any", "sha256:1", ""])
def test_a_digest_is_no_change(digest: str) -> None:
    assert not published.is_changed(digest)
