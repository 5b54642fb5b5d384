"""Whose the object versions in a bucket are."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tfserving.bucket_contents import ObjectVersion, documents, sort_out
from tfserving.manifest import FileEntry, Manifest

OWNER, ROOT = "tf-serving/prod", "models/"
HEAD = "# Managed by Pulumi project tf-serving, stack {}: change it.\n"


def manifest(owner: str = OWNER) -> str:
    return Manifest(
        (FileEntry("saved_model.pb", 1, "1", "0" * 64), FileEntry("variables/v", 1, "1", "0" * 64)), owner
    ).to_json()


def version(key: str, id_: str = "1", *, marker: bool = False, latest: bool = False) -> ObjectVersion:
    return ObjectVersion(key, id_, 0 if marker else 1, marker, latest)


def gone(key: str) -> list[ObjectVersion]:
    """An object that was deleted in a bucket with versioning."""
    return [version(key, "2", marker=True, latest=True), version(key, "1")]


def test_of_a_removed_version_its_old_objects_and_markers_are_the_stacks() -> None:
    mine = [
        each
        for key in ("m/1.manifest.json", "m/1/saved_model.pb", "m/1/variables/v", "m/.staging-1/manifest.json",
                    "m/.staging-1/files/saved_model.pb", "model_config.pbtxt", "svc.batching-0a1b2c3d.pbtxt")
        for each in gone(ROOT + key)
    ]  # fmt: skip
    texts = {each.key: HEAD.format("prod") if "pbtxt" in each.key else manifest() for each in documents(mine)}
    assert set(texts) == {
        ROOT + key for key in ("m/1.manifest.json", "m/.staging-1/manifest.json", "model_config.pbtxt")
    }
    found = sort_out(mine, texts, [], OWNER)
    assert found.removable == mine
    assert found.in_the_way() == ""


def test_what_another_stack_or_nobody_published_stays_and_is_named() -> None:
    theirs = [
        each
        for key in ("m/1.manifest.json", "m/1/saved_model.pb", "model_config.pbtxt", "data.csv", "m/2.manifest.json")
        for each in gone(ROOT + key)
    ]
    texts = {
        each.key: HEAD.format("dev") if "pbtxt" in each.key else manifest("tf-serving/dev")
        for each in documents(theirs)
    }
    texts[f"{ROOT}m/2.manifest.json"] = "not a manifest"
    found = sort_out(theirs, texts, ["u/1"], OWNER)
    assert (found.removable, found.current, found.strange) == ([], [], theirs)
    assert found.in_the_way() == (
        "5 objects of others (models/m/1.manifest.json, models/m/1/saved_model.pb, models/model_config.pbtxt, "
        "models/data.csv, models/m/2.manifest.json, deleted but kept by versioning) and "
        "1 unfinished upload of others (u/1)"
    )


def test_what_servers_read_is_never_removable() -> None:
    key = f"{ROOT}m/1/saved_model.pb"
    both = [version(key, "2", latest=True), version(key, "1")]
    there = [version(f"{ROOT}m/1.manifest.json", "1", latest=True), *both]
    found = sort_out(there, {f"{ROOT}m/1.manifest.json": manifest()}, [], OWNER)
    assert found.removable == [both[1]]
    assert found.current == [there[0], both[0]]


def test_a_file_beside_a_version_that_its_manifest_does_not_list_belongs_to_others() -> None:
    there = [*gone(f"{ROOT}m/1.manifest.json"), *gone(f"{ROOT}m/1/notes.txt"), *gone(f"{ROOT}m/10/saved_model.pb")]
    found = sort_out(there, {f"{ROOT}m/1.manifest.json": manifest()}, [], OWNER)
    assert {each.key for each in found.strange} == {f"{ROOT}m/1/notes.txt", f"{ROOT}m/10/saved_model.pb"}


_KEYS = st.sampled_from(
    ["m/1.manifest.json", "m/1/saved_model.pb", "m/2/saved_model.pb", "1.manifest.json", "model_config.pbtxt", "x", ""]
)


@given(st.lists(st.builds(ObjectVersion, _KEYS, st.text(), st.just(1), st.booleans(), st.booleans())), st.booleans())
def test_every_version_is_exactly_one_of_the_three(versions: list[ObjectVersion], ours: bool) -> None:
    owner = OWNER if ours else "other/stack"
    texts = {
        each.key: HEAD.format("prod") if each.key.endswith("pbtxt") else manifest(owner) for each in documents(versions)
    }
    found = sort_out(versions, texts, [], OWNER)
    assert len(found.removable) + len(found.current) + len(found.strange) == len(versions)
    assert not any(each.is_current for each in found.removable)
