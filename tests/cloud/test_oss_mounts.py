"""Local trees that follow OSS prefixes."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.cloud.oss.errors import OssError
from sandbox.cloud.oss.mounts import LiveView
from sandbox.cloud.oss.store import Bucket, ObjectProperties, ObjectStore

BUCKET = "examplebucket"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ObjectStore]:
    store = ObjectStore(tmp_path / "oss")
    store.create_bucket(Bucket(BUCKET, 0.0))
    yield store
    store.close()


@pytest.fixture
def view(store: ObjectStore, tmp_path: Path) -> LiveView:
    return LiveView(store, tmp_path / "mounts")


def put(store: ObjectStore, key: str, body: bytes = b"x") -> None:
    with store.receive() as writer:
        writer.write(body)
        store.put_object(BUCKET, key, writer.finish(), ObjectProperties())


def delete(store: ObjectStore, *keys: str) -> None:
    store.delete_objects(BUCKET, [(key, "") for key in keys])


def tree(root: Path) -> dict[str, bytes | None]:
    """Relative path -> content, None for a directory."""
    return {path.relative_to(root).as_posix(): None if path.is_dir() else path.read_bytes() for path in root.rglob("*")}


def test_a_tree_holds_what_was_there_and_follows_puts_and_deletes(store: ObjectStore, view: LiveView) -> None:
    put(store, "models/tf_serving/modelA/1/saved_model.pb", b"a1")
    put(store, "elsewhere/x")
    root = view.materialise(BUCKET, "models/tf_serving/")
    assert tree(root) == {"modelA": None, "modelA/1": None, "modelA/1/saved_model.pb": b"a1"}
    put(store, "models/tf_serving/modelA/2/variables/variables.index", b"i")
    put(store, "models/tf_serving/model_config.pbtxt", b"config")
    put(store, "models/tf_serving_other", b"not in here")
    assert tree(root)["modelA/2/variables/variables.index"] == b"i"
    assert tree(root)["model_config.pbtxt"] == b"config"
    assert len(tree(root)) == 7
    delete(store, "models/tf_serving/modelA/2/variables/variables.index", "models/tf_serving/modelA/1/saved_model.pb")
    assert tree(root) == {"model_config.pbtxt": b"config"}
    delete(store, "models/tf_serving/model_config.pbtxt")
    assert root.is_dir()
    assert tree(root) == {}


def test_a_reader_sees_the_old_bytes_or_the_new_ones(store: ObjectStore, view: LiveView) -> None:
    bodies = [bytes([letter]) * 50_000 for letter in b"ab"]
    put(store, "m/config", bodies[0])
    path = view.materialise(BUCKET, "m") / "config"
    seen: set[bytes] = set()
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            seen.add(path.read_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    for body in itertools.islice(itertools.cycle(bodies), 200):
        put(store, "m/config", body)
    done.set()
    watcher.join()
    assert seen <= set(bodies)


def test_an_open_file_keeps_its_bytes_when_the_object_goes(store: ObjectStore, view: LiveView) -> None:
    put(store, "m/f", b"old")
    path = view.materialise(BUCKET, "m") / "f"
    with open(path, "rb") as file:
        put(store, "m/f", b"new")
        delete(store, "m/f")
        assert file.read() == b"old"
    assert not path.exists()


def test_files_are_links_to_the_stored_bytes_not_copies(store: ObjectStore, view: LiveView) -> None:
    put(store, "m/f", b"bytes")
    path = view.materialise(BUCKET, "m") / "f"
    blob = store.find(BUCKET, "m/f")
    assert blob is not None
    assert path.samefile(store.blob_path(blob.blob or ""))


def test_a_copy_shows_up_and_copying_onto_itself_changes_nothing(store: ObjectStore, view: LiveView) -> None:
    put(store, "m/.staging-1/f", b"bytes")
    root = view.materialise(BUCKET, "m")
    for target in ("m/1/f", "m/1/f"):
        source = store.find(BUCKET, "m/.staging-1/f")
        assert source is not None
        store.copy_object(source, BUCKET, target, ObjectProperties())
    delete(store, "m/.staging-1/f")
    assert tree(root) == {"1": None, "1/f": b"bytes"}
    assert list((root.parent.parent / ".staging").iterdir()) == []


def test_with_versioning_the_tree_shows_the_latest_version_and_hides_deleted_objects(
    store: ObjectStore, view: LiveView
) -> None:
    store.update_bucket(BUCKET, versioning="Enabled")
    root = view.materialise(BUCKET, "m")
    put(store, "m/f", b"1")
    put(store, "m/f", b"2")
    assert tree(root) == {"f": b"2"}
    delete(store, "m/f")
    assert tree(root) == {}
    marker = store.list_versions(BUCKET, "", "", "", "", 1).items[0]
    store.delete_objects(BUCKET, [("m/f", marker.version_id)])
    assert tree(root) == {"f": b"2"}


def test_directory_markers_are_directories_and_stay_while_they_exist(store: ObjectStore, view: LiveView) -> None:
    put(store, "m/empty/", b"")
    put(store, "m/empty/f")
    root = view.materialise(BUCKET, "m")
    delete(store, "m/empty/f")
    assert tree(root) == {"empty": None}
    delete(store, "m/empty/")
    assert tree(root) == {}


@pytest.mark.parametrize("order", list(itertools.permutations(["m/a", "m/a/b", "m/a/c"])))
def test_where_a_key_is_file_and_directory_the_directory_shows_and_the_file_returns_after_it(
    store: ObjectStore, view: LiveView, order: tuple[str, ...]
) -> None:
    root = view.materialise(BUCKET, "m")
    for key in order:
        put(store, key, key.encode())
    assert tree(root) == {"a": None, "a/b": b"m/a/b", "a/c": b"m/a/c"}
    delete(store, "m/a/b", "m/a/c")
    assert tree(root) == {"a": b"m/a"}


@pytest.mark.parametrize("key", ["m/../escape", "m//x", "m/./x", "m/a/..", "m/" + "n" * 300, "m/a\0b"])
def test_a_key_that_has_no_place_in_a_file_system_is_left_out(store: ObjectStore, view: LiveView, key: str) -> None:
    root = view.materialise(BUCKET, "m")
    put(store, key)
    put(store, "m/good", b"x")
    assert tree(root) == {"good": b"x"}
    assert not (root.parent / "escape").exists()
    delete(store, key)


def test_the_same_prefix_gives_the_same_tree_until_its_last_user_gives_it_up(
    store: ObjectStore, view: LiveView
) -> None:
    put(store, "m/f")
    roots = [view.materialise(BUCKET, prefix) for prefix in ("m", "m/", "/m/")]
    assert len(set(roots)) == 1
    other = view.materialise(BUCKET, "")
    assert tree(other) == {"m": None, "m/f": b"x"}
    view.release(BUCKET, "m")
    view.release(BUCKET, "m/")
    assert roots[0].exists()
    view.release(BUCKET, "m")
    assert not roots[0].exists()
    assert other.exists()
    put(store, "m/g")
    assert tree(other)["m/g"] == b"x"


def test_two_prefixes_with_similar_names_have_trees_of_their_own(store: ObjectStore, view: LiveView) -> None:
    assert view.materialise(BUCKET, "a/b") != view.materialise(BUCKET, "a_b")


def test_a_bucket_that_does_not_exist_cannot_be_mounted(view: LiveView) -> None:
    with pytest.raises(OssError, match="NoSuchBucket"):
        view.materialise("nowhere", "m")


def test_what_an_earlier_process_left_is_removed(store: ObjectStore, tmp_path: Path) -> None:
    put(store, "m/f")
    old = LiveView(store, tmp_path / "mounts").materialise(BUCKET, "m")
    (old / "stray").write_bytes(b"x")
    fresh = LiveView(store, tmp_path / "mounts")
    assert tree(fresh.materialise(BUCKET, "m")) == {"f": b"x"}


keys = st.sampled_from(["m/a", "m/a/b", "m/a/b/c", "m/a/", "m/d/e", "m/d/f", "m/d/", "other"])


@settings(max_examples=100, deadline=None)
@given(steps=st.lists(st.tuples(st.booleans(), keys), max_size=25))
def test_following_changes_one_by_one_ends_where_building_from_scratch_does(
    steps: list[tuple[bool, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("view")
    store = ObjectStore(directory / "oss")
    store.create_bucket(Bucket(BUCKET, 0.0))
    live = LiveView(store, directory / "live").materialise(BUCKET, "m")
    for number, (is_put, key) in enumerate(steps):
        if is_put:
            put(store, key, str(number).encode())
        else:
            delete(store, key)
    fresh = LiveView(store, directory / "fresh").materialise(BUCKET, "m")
    assert tree(live) == tree(fresh)
    store.close()


def test_many_threads_on_the_same_keys_leave_index_files_and_tree_in_step(
    store: ObjectStore, view: LiveView, tmp_path: Path
) -> None:
    root = view.materialise(BUCKET, "m")
    names = [f"m/{letter}/f" for letter in "abc"]

    def work(seed: int) -> None:
        for number in range(40):
            key = names[(seed + number) % 3]
            match (seed * 7 + number) % 4:
                case 0 | 1:
                    put(store, key, f"{seed}-{number}".encode())
                case 2:
                    source = store.find(BUCKET, key)
                    if source is not None:
                        with contextlib.suppress(OssError):  # deleted by another thread meanwhile
                            store.copy_object(source, BUCKET, names[number % 3], ObjectProperties())
                case _:
                    delete(store, key)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    stored = {
        version.key.removeprefix("m/"): store.blob_path(version.blob or "").read_bytes()
        for version in store.current(BUCKET)
    }
    assert {path: body for path, body in tree(root).items() if body is not None} == stored
    used = {version.blob for version in store.current(BUCKET)}
    assert {path.name for path in (tmp_path / "oss" / "blobs").glob("*/*")} == used
    assert list((tmp_path / "oss" / "tmp").iterdir()) == []
