from __future__ import annotations

import hashlib
import json
import os
import threading
import time
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfserving import manifest
from tfserving.errors import SavedModelError
from tfserving.manifest import FileEntry, HashCache, Manifest


@pytest.fixture
def version(tmp_path: Path) -> Path:
    """A version whose files were written some time ago."""
    directory = tmp_path / "model" / "1"
    (directory / "variables").mkdir(parents=True)
    (directory / "saved_model.pb").write_bytes(b"123456789")
    (directory / "variables" / "variables.index").write_bytes(b"index")
    (directory / "variables" / "variables.data-00000-of-00001").write_bytes(bytes(3_000_000))
    age(directory)
    return directory


def age(directory: Path, seconds: float = 60) -> None:
    """Makes the files look old enough to be trusted by a cache."""
    for path in directory.rglob("*"):
        if path.is_file():
            when = time.time_ns() - int(seconds * 1e9) - path.stat().st_ino % 1000 - 1
            os.utime(path, ns=(when, when))


def entry(path: str = "saved_model.pb", size: int = 1, crc: str = "5", sha: str = "a" * 64) -> FileEntry:
    return FileEntry(path, size, crc, sha)


# ---- hashes


def test_crc64_is_the_one_oss_reports() -> None:
    # The check value of CRC-64/XZ, which is what x-oss-hash-crc64ecma holds.
    assert manifest.crc64(b"123456789") == 0x995DC9BBDF1939FA
    assert manifest.crc64(b"") == 0


@given(st.binary(max_size=300), st.integers(0, 300))
def test_crc64_can_be_computed_in_parts(data: bytes, cut: int) -> None:
    assert manifest.crc64(data[cut:], manifest.crc64(data[:cut])) == manifest.crc64(data)


def test_every_file_is_listed_with_size_and_hashes(version: Path) -> None:
    built = manifest.build(version)
    assert [item.path for item in built.files] == [
        "saved_model.pb",
        "variables/variables.data-00000-of-00001",
        "variables/variables.index",
    ]
    assert built.files[0] == FileEntry(
        "saved_model.pb", 9, "11051210869376104954", hashlib.sha256(b"123456789").hexdigest()
    )
    assert built.size == 3_000_014


def test_the_digest_depends_on_content_and_names_only(version: Path, tmp_path: Path) -> None:
    digest = manifest.build(version).digest
    assert digest.startswith("sha256:")
    age(version, seconds=900)
    assert manifest.build(version).digest == digest
    (version / "saved_model.pb").write_bytes(b"123456780")
    other = manifest.build(version).digest
    assert other != digest
    (version / "saved_model.pb").write_bytes(b"123456789")
    (version / "variables" / "variables.index").rename(version / "variables" / "renamed")
    assert manifest.build(version).digest not in (digest, other)


def test_the_order_of_the_files_makes_no_difference() -> None:
    files = (entry("b"), entry("a"))
    assert Manifest(files) == Manifest(files[::-1])
    assert Manifest(files).digest == Manifest(files[::-1]).digest


def test_memory_stays_flat_whatever_the_file_size(tmp_path: Path) -> None:
    with open(tmp_path / "big", "wb") as file:
        file.truncate(64 << 20)  # sparse
    tracemalloc.start()
    try:
        assert manifest.build(tmp_path).size == 64 << 20
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * manifest.CHUNK_SIZE


# ---- what belongs to a version


def test_what_file_managers_leave_behind_is_left_out_and_other_hidden_files_are_not(version: Path) -> None:
    before = manifest.build(version)
    for name in (".DS_Store", "variables/.DS_Store", "Thumbs.db", "desktop.ini", "._saved_model.pb"):
        (version / name).write_text("junk")
    for name in ("__MACOSX", ".ipynb_checkpoints", "__pycache__"):
        (version / name).mkdir()
        (version / name / "x").write_text("junk")
    assert manifest.build(version) == before
    (version / "assets").mkdir()
    (version / "assets" / ".vocab").write_text("word")
    assert manifest.build(version).files[0].path == "assets/.vocab"


def hub(tmp_path: Path, version: Path, *, absolute: bool = False, below: str = "") -> Path:
    """The version as the cache of a hub has it: names in ``snapshots/<revision>``, content in ``blobs``."""
    cache = tmp_path / "models--team--shoes"
    snapshot = cache / "snapshots" / "0f3a" / below
    (cache / "blobs").mkdir(parents=True)
    for number, path in enumerate(manifest.list_files(version)):
        blob, name = cache / "blobs" / f"{number:040x}", snapshot / path
        (version / path).rename(blob)
        name.parent.mkdir(parents=True, exist_ok=True)
        name.symlink_to(blob if absolute else os.path.relpath(blob, name.parent))
    return snapshot


@pytest.mark.parametrize("absolute", [False, True])
@pytest.mark.parametrize("way", ["itself", "linked", "above"])
def test_a_snapshot_of_a_hub_is_what_its_links_lead_to(version: Path, tmp_path: Path, absolute: bool, way: str) -> None:
    plain = manifest.build(version)
    # A repository may be one version, or hold directories of versions.
    snapshot = hub(tmp_path, version, absolute=absolute, below="1" if way == "above" else "")
    if way == "linked":
        (tmp_path / "exports").mkdir()
        (tmp_path / "exports" / "1").symlink_to(snapshot)
        snapshot = tmp_path / "exports" / "1"
    assert manifest.build(snapshot) == plain


def test_links_within_the_model_are_followed(version: Path) -> None:
    (version / "variables" / "again").symlink_to("variables.index")
    (version / "assets").symlink_to("variables")
    sibling = version.parent / "2"
    sibling.mkdir()
    (sibling / "saved_model.pb").symlink_to(version / "saved_model.pb")
    (sibling / "variables").symlink_to(f"../{version.name}/variables")
    first, second = manifest.build(version), manifest.build(sibling)
    assert {item.path for item in first.files} >= {"assets/variables.index", "assets/again", "variables/again"}
    assert {item.path for item in second.files} == {
        "saved_model.pb",
        "variables/again",
        "variables/variables.data-00000-of-00001",
        "variables/variables.index",
    }
    assert second.files[0] == next(item for item in first.files if item.path == "saved_model.pb")


def test_a_changed_target_is_read_anew(version: Path, tmp_path: Path) -> None:
    snapshot = hub(tmp_path, version)
    age(tmp_path / "models--team--shoes" / "blobs", seconds=900)
    cache = HashCache(tmp_path / "cache.json")
    before = manifest.build(snapshot, cache)
    read = cache.bytes_read
    assert manifest.build(snapshot, cache) == before
    assert cache.bytes_read == read
    blob = Path(os.path.realpath(snapshot / "saved_model.pb"))
    blob.write_bytes(b"another content")
    assert manifest.build(snapshot, cache) != before


@pytest.mark.parametrize(
    ("link", "target", "words"),
    [
        ("link", "/etc/hostname", "out of the model's directory, to /etc/hostname: put the file itself there"),
        ("assets", "/etc", "out of the model's directory, to /etc"),
        ("link", "../../secret", "out of the model's directory"),
        ("link", "nowhere", "put the file itself there (the link leads to nowhere, which is not there)"),
        ("link", "../../blobs/0f", "a hub's cache that is not complete: download the model again"),
        ("link", "link", "that leads back to itself"),
        ("assets", ".", "to a directory that it is in"),
        ("variables/up", "..", "to a directory that it is in"),
        ("variables/above", "../..", "to a directory that it is in"),
    ],
)
def test_a_link_that_leads_nowhere_or_out_or_in_a_circle_is_refused(
    version: Path, link: str, target: str, words: str
) -> None:
    (version.parent.parent / "secret").write_text("not of this model")
    (version / link).symlink_to(target)
    with pytest.raises(SavedModelError) as caught:
        manifest.build(version)
    assert f"{version / link} is a symbolic link" in str(caught.value)
    assert words in str(caught.value)


def test_a_snapshot_does_not_reach_the_blobs_of_another_cache(version: Path, tmp_path: Path) -> None:
    snapshot = hub(tmp_path, version)
    theirs = tmp_path / "models--team--shoes-2" / "blobs" / "key"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("theirs")
    (snapshot / "assets").mkdir()
    (snapshot / "assets" / "key").symlink_to(theirs)
    with pytest.raises(SavedModelError, match="out of the model's directory"):
        manifest.build(snapshot)


def test_the_version_directory_itself_may_be_a_link(version: Path, tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to(version)
    assert manifest.build(tmp_path / "current") == manifest.build(version)


def test_a_pipe_is_refused_and_not_waited_for(version: Path) -> None:
    os.mkfifo(version / "pipe")
    with pytest.raises(SavedModelError, match="pipe is not a regular file"):
        manifest.build(version)
    with pytest.raises(SavedModelError, match="is not a regular file"):
        HashCache().hashes(version / "pipe")


@pytest.mark.parametrize(
    "name", ["a\nb", "a\\b", b"\xff\xfe", "x" * 250 + "/" + "y" * 250 + "/" + "z" * 250 + "/" + "w" * 250]
)
def test_a_name_that_cannot_be_an_oss_key_is_refused(version: Path, name: str | bytes) -> None:
    path = os.path.join(os.fsencode(version), os.fsencode(name))
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb"):
        pass
    with pytest.raises(SavedModelError, match="cannot be published"):
        manifest.build(version)


def test_a_directory_without_a_file_or_that_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SavedModelError, match="holds no file"):
        manifest.build(tmp_path)
    with pytest.raises(SavedModelError, match="cannot be listed: No such file"):
        manifest.build(tmp_path / "missing")


def test_a_file_that_changes_while_it_is_read_is_refused(version: Path) -> None:
    path = version / "saved_model.pb"

    def meddle(chunks: Iterator[memoryview]) -> int:
        for _ in chunks:
            path.write_bytes(b"longer than before")
        return 0

    cache = HashCache()
    with pytest.raises(SavedModelError, match="changed while it was read"):
        cache.derive(path, "meddle", meddle)


# ---- the cache


def test_a_second_run_reads_no_byte(version: Path, tmp_path: Path) -> None:
    path = tmp_path / "state" / "hashes.json"
    with HashCache(path) as cache:
        first = manifest.build(version, cache)
    assert cache.bytes_read == first.size
    with HashCache(path) as cache:
        assert manifest.build(version, cache) == first
    assert cache.bytes_read == 0


def test_a_cache_that_is_opened_for_each_of_many_models_is_parsed_when_it_changed_only(
    version: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, parsed = tmp_path / "hashes.json", []
    parse = manifest._parse_cache
    monkeypatch.setattr(manifest, "_parse_cache", lambda content: parsed.append(1) or parse(content))
    for _ in range(3):
        with HashCache(path) as cache:
            cache.hashes(version / "saved_model.pb")
    assert (len(parsed), cache.bytes_read) == (1, 0)
    with HashCache(path) as cache:
        cache.hashes(version / "variables" / "variables.index")  # what one adds, none of the others has
        before = HashCache(path)
    after = HashCache(path)
    before.hashes(version / "variables" / "variables.index")
    after.hashes(version / "variables" / "variables.index")
    assert (before.bytes_read > 0, after.bytes_read, len(parsed)) == (True, 0, 2)


@pytest.mark.parametrize("how", ["content", "size", "time", "replaced"])
def test_a_changed_file_is_read_again_and_no_other(version: Path, tmp_path: Path, how: str) -> None:
    cache = HashCache(tmp_path / "hashes.json")
    first = manifest.build(version, cache)
    path = version / "saved_model.pb"
    old = path.stat()
    content = {"content": b"abcdefghi", "size": b"12", "time": b"123456789", "replaced": b"abcdefghi"}[how]
    if how == "replaced":  # same size and time, another file
        (version / "new").write_bytes(content)
        os.utime(version / "new", ns=(old.st_mtime_ns, old.st_mtime_ns))
        (version / "new").rename(path)
    else:
        path.write_bytes(content)
    read = cache.bytes_read
    second = manifest.build(version, cache)
    assert cache.bytes_read - read == len(content)
    assert second.files[0].sha256 == hashlib.sha256(content).hexdigest()
    assert second.files[1:] == first.files[1:]


def test_a_file_written_just_before_is_not_trusted_the_next_time(version: Path) -> None:
    cache = HashCache()
    path = version / "saved_model.pb"
    ahead = time.time_ns() + 10**9
    os.utime(path, ns=(ahead, ahead))
    for _ in range(2):
        before = cache.bytes_read
        cache.hashes(path)
        assert cache.bytes_read - before == 9


def test_a_file_system_that_only_knows_whole_seconds_gets_more_caution(version: Path) -> None:
    cache = HashCache()
    path = version / "saved_model.pb"
    for seconds, reads in ((1, 18), (10, 9)):
        when = (time.time_ns() // 10**9 - seconds) * 10**9
        os.utime(path, ns=(when, when))
        before = cache.bytes_read
        cache.hashes(path)
        cache.hashes(path)
        assert cache.bytes_read - before == reads


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"format":1,"files":[]}', b'{"format":9,"files":{}}', b"\xff"])
def test_a_damaged_cache_file_counts_as_empty_and_is_replaced(version: Path, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "hashes.json"
    path.write_bytes(content)
    with HashCache(path) as cache:
        built = manifest.build(version, cache)
    assert cache.bytes_read == built.size
    with HashCache(path) as cache:
        manifest.build(version, cache)
    assert cache.bytes_read == 0


def test_two_processes_keep_what_the_other_one_found(version: Path, tmp_path: Path) -> None:
    path = tmp_path / "hashes.json"
    one, other = HashCache(path), HashCache(path)
    one.hashes(version / "saved_model.pb")
    other.hashes(version / "variables" / "variables.index")
    one.save()
    other.save()
    both = HashCache(path)
    both.hashes(version / "saved_model.pb")
    both.hashes(version / "variables" / "variables.index")
    assert both.bytes_read == 0


def test_the_cache_forgets_files_that_are_gone(version: Path, tmp_path: Path) -> None:
    path = tmp_path / "hashes.json"
    with HashCache(path) as cache:
        manifest.build(version, cache)
    (version / "saved_model.pb").unlink()
    (version / "new").write_text("x")
    age(version)
    with HashCache(path) as cache:
        manifest.build(version, cache)
    remembered = json.loads(path.read_text())["files"]
    assert sorted(os.path.basename(name) for name in remembered) == [
        "new",
        "variables.data-00000-of-00001",
        "variables.index",
    ]


def test_the_cache_file_is_replaced_in_one_step(version: Path, tmp_path: Path) -> None:
    path = tmp_path / "hashes.json"
    with HashCache(path) as cache:
        manifest.build(version, cache)
    assert [child.name for child in tmp_path.iterdir() if child.name.startswith("hashes")] == ["hashes.json"]
    before = path.stat()
    with HashCache(path) as cache:
        manifest.build(version, cache)
    assert path.stat().st_mtime_ns == before.st_mtime_ns  # nothing new, nothing written


def test_a_cache_that_cannot_be_written_only_costs_time(version: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cache = HashCache(tmp_path / "file" / "hashes.json")
    manifest.build(version, cache)
    cache.save()
    assert (tmp_path / "file").read_text() == ""


def test_threads_share_one_cache(version: Path) -> None:
    cache = HashCache()
    found: list[Manifest] = []
    threads = [threading.Thread(target=lambda: found.append(manifest.build(version, cache))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [manifest.build(version)] * 4


# ---- the manifest file

_PATHS = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"), exclude_characters="/\\"), min_size=1
).filter(lambda text: text not in (".", ".."))
_ENTRIES = st.builds(
    FileEntry,
    st.lists(_PATHS, min_size=1, max_size=3).map("/".join),
    st.integers(0, 1 << 50),
    st.integers(0, (1 << 64) - 1).map(str),
    st.binary(min_size=32, max_size=32).map(bytes.hex),
)


@given(st.lists(_ENTRIES, max_size=5, unique_by=lambda item: item.path))
def test_a_manifest_file_is_read_back_as_it_was(files: list[FileEntry]) -> None:
    written = Manifest(tuple(files))
    read = Manifest.from_json(written.to_json())
    assert read == written
    assert read.digest == written.digest


def test_a_manifest_file_has_one_line_per_file() -> None:
    text = Manifest((entry("a"), entry("b"))).to_json()
    assert text.splitlines()[4].strip().startswith('{"path": "a"')
    assert text.endswith("\n")
    assert len(text.splitlines()) == 8


@given(st.text() | st.binary())
def test_no_text_breaks_the_reader(text: str | bytes) -> None:
    with pytest.raises(SavedModelError):
        Manifest.from_json(text)


def spoilt(**changes: Any) -> str:
    """A manifest file with a correct digest in which one file is described badly."""
    item = {"path": "a", "size": 1, "crc64": "5", "sha256": "a" * 64} | changes
    return json.dumps({"format": 1, "digest": Manifest((entry("a"),)).digest, "files": [item]})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not a manifest"),
        ("[]", "an object with a list of files"),
        ('{"format": 2, "files": []}', "manifest format 2 is not known, only 1"),
        (spoilt(path="../a"), "names '../a': not a path below"),
        (spoilt(path="/a"), "names '/a': not a path below"),
        (spoilt(path="a//b"), "not a path below"),
        (spoilt(path="a/./b"), "not a path below"),
        (spoilt(path=""), "not a path below"),
        (spoilt(path="a\\b"), "control character or a backslash"),
        (spoilt(path="a\x00"), "control character or a backslash"),
        (spoilt(path="\ud800"), "not UTF-8"),
        (spoilt(path="x" * 801), "longer than 800 bytes"),
        (spoilt(path=1), "names 1: not text"),
        (spoilt(size=-1), "the size -1"),
        (spoilt(size=True), "the size True"),
        (spoilt(size=1.5), "the size 1.5"),
        (spoilt(crc64=5), "the CRC-64 5"),
        (spoilt(crc64="05"), "the CRC-64 '05'"),
        (spoilt(crc64=str(1 << 64)), "the CRC-64"),
        (spoilt(sha256="A" * 64), "the SHA-256"),
        (spoilt(extra=1), "each file of a manifest has path, size, crc64 and sha256"),
        (spoilt(size=2), "does not fit its files"),
    ],
)
def test_a_manifest_file_that_was_edited_is_refused(text: str, message: str) -> None:
    with pytest.raises(SavedModelError) as caught:
        Manifest.from_json(text)
    assert message in str(caught.value)


def test_a_manifest_that_names_a_file_twice_is_refused() -> None:
    text = Manifest((entry("a"), entry("a"))).to_json()
    with pytest.raises(SavedModelError, match="names a file twice"):
        Manifest.from_json(text)


def test_changes_name_each_file_that_differs() -> None:
    old = Manifest((entry("a"), entry("b"), entry("c")))
    new = Manifest((entry("a"), entry("b", size=2), entry("d")))
    assert manifest.changes(old, new) == ["~ b", "- c", "+ d"]
    assert manifest.changes(old, old) == []


# ---- manifests as files


def test_the_owner_is_kept_and_is_not_part_of_what_is_the_same() -> None:
    plain = Manifest((entry("a"),))
    owned = replace(plain, owner="tf-serving/prod")
    assert Manifest.from_json(owned.to_json()).owner == "tf-serving/prod"
    assert (owned, owned.digest) == (plain, plain.digest)


def test_a_checksum_nobody_knows_is_empty() -> None:
    unread = Manifest((FileEntry("a", 1, "5", ""),))
    assert Manifest.from_json(unread.to_json()) == unread


def test_manifests_of_a_model_are_read_by_version(tmp_path: Path) -> None:
    assert manifest.load_all(tmp_path / "nowhere") == {}
    for number in (10, 9):
        (tmp_path / f"{number}{manifest.SUFFIX}").write_text(Manifest((entry("a"),)).to_json())
    assert list(manifest.load_all(tmp_path)) == [9, 10]
    (tmp_path / f"09{manifest.SUFFIX}").write_text("{}")
    with pytest.raises(SavedModelError, match="not named after a version"):
        manifest.load_all(tmp_path)
