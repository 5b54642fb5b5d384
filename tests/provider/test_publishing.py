"""Publishing to a real OSS API: what is in the bucket when, what is sent twice, and what is in the way."""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import grpc
import pytest
from google.protobuf import empty_pb2
from pulumi.runtime.proto import engine_pb2

from bench.measure import Line
from provider.clients import Clients
from provider.oss import Bucket, ContentError, ObjectName, _FileRange
from provider.publication.layout import Listing, remove_version
from provider.published_model import PublishedModel
from provider.resource import Context
from tests.provider.harness import OWNER, Cloud, Engine, Failed, LocalModels, Plugin, Stack, config
from tests.waiting import until
from tfserving import manifest
from tfserving.errors import CloudError, SavedModelError
from tfserving.manifest import FileEntry
from tfserving.property_values import UNKNOWN, Properties
from tfserving.protos import tf_serving_pb2 as pb

pytestmark = pytest.mark.slow

TRAINING = pb.SavedModel(
    meta_graphs=[pb.MetaGraphDef(meta_info_def=pb.MetaGraphDef.MetaInfoDef(tags=["train"]))]
).SerializeToString()
"""A graph that was exported for training alone."""

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935\nsize 12345\n"
FILES = ["fingerprint.pb", "saved_model.pb", "variables/variables.data-00000-of-00001", "variables/variables.index"]


@dataclass
class Spy:
    """The cloud's OSS client, with what was asked of it."""

    client: Any
    calls: list[tuple[str, Any]] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.client, name)

        def call(request: Any, **options: Any) -> Any:
            self.calls.append((name, request))
            return method(request, **options)

        return call

    def requests(self, method: str) -> list[Any]:
        return [request for name, request in self.calls if name == method]


def context(client: Any) -> Context:
    """One operation in this process."""
    clients = cast(Clients, SimpleNamespace(oss=client))
    return Context("", Path("/"), clients, lambda *_, **__: None, threading.Event())


def publish(client: Any, inputs: Properties) -> Properties:
    checked, failures = PublishedModel().check({}, inputs)
    assert not failures
    return PublishedModel().create(context(client), checked)[1]


@pytest.fixture
def root(request: pytest.FixtureRequest) -> str:
    """A key prefix for each test alone."""
    return f"{request.node.name}/"


def published(cloud: Cloud, root: str, *versions: str) -> set[str]:
    return {
        key
        for version in versions
        for key in (*(f"{root}m/{version}/{name}" for name in FILES), f"{root}m/{version}.manifest.json")
    }


def test_a_version_is_complete_with_its_manifest_and_nothing_else_stays(
    clouded: Plugin, cloud: Cloud, models: LocalModels, root: str, log: Engine
) -> None:
    models.add("m", 1)
    model = Stack(clouded, "PublishedModel")
    assert model.up(models.inputs("m", cloud.bucket, root)) == "create"
    assert set(cloud.keys(root)) == published(cloud, root, "1")
    assert model.outputs["files"]["1"]["files"] == 4
    assert model.refresh() == {}
    assert any("4 files" in line for line in log.lines())


def test_a_preview_writes_nothing_and_tells_how_much_is_to_be_uploaded(
    clouded: Plugin, cloud: Cloud, models: LocalModels, root: str, log: Engine
) -> None:
    models.add("m", 1)
    _, outputs = clouded.create("PublishedModel", models.inputs("m", cloud.bucket, root), preview=True)
    size = sum(file.stat().st_size for file in (models.directory / "m" / "1").rglob("*") if file.is_file())
    assert outputs["files"] == {"1": {"files": 4, "bytes": size, "fingerprint": UNKNOWN}}
    assert cloud.keys(root) == []
    (line,) = log.lines()
    assert re.fullmatch(r"m: \+ version 1 \(4 files, [0-9.]+ KB\)", line)


def test_only_missing_versions_are_published(
    clouded: Plugin, cloud: Cloud, models: LocalModels, root: str, log: Engine
) -> None:
    models.add("m", 1)
    model = Stack(clouded, "PublishedModel")
    model.up(models.inputs("m", cloud.bucket, root))
    before = model.outputs["files"]["1"]
    models.add("m", 2)
    log.messages.clear()
    assert model.up(models.inputs("m", cloud.bucket, root)) == "update"
    assert model.outputs["files"]["1"] == before
    assert set(cloud.keys(root)) == published(cloud, root, "1", "2")
    assert len([line for line in log.lines() if "files" in line]) == 1


def test_what_is_published_already_needs_no_local_copy(
    clouded: Plugin, cloud: Cloud, models: LocalModels, root: str, tmp_path: Path
) -> None:
    models.add("m", 1)
    inputs = models.inputs("m", cloud.bucket, root)
    Stack(clouded, "PublishedModel").up(inputs)
    elsewhere = inputs | {"source": str(tmp_path / "nowhere")}
    again = Stack(clouded, "PublishedModel")
    assert again.up(elsewhere) == "create"
    assert again.outputs["versions"] == inputs["versions"]


def test_a_version_without_files_anywhere_is_an_error_that_names_the_directory(
    clouded: Plugin, cloud: Cloud, root: str
) -> None:
    inputs = {
        "name": "m",
        "bucket": cloud.bucket,
        "prefix": f"{root}m/",
        "owner": OWNER,
        "source": "no/such",
        "versions": {"3": f"sha256:{'0' * 64}"},
    }
    with pytest.raises(Failed, match=r"version 3 of m is not published yet, and .*no/such has no directory 3"):
        clouded.create("PublishedModel", inputs)


def test_other_content_under_a_published_number_is_refused(
    clouded: Plugin, cloud: Cloud, models: LocalModels, root: str
) -> None:
    models.add("m", 1, content=1)
    Stack(clouded, "PublishedModel").up(models.inputs("m", cloud.bucket, root))
    other = LocalModels(models.store, models.directory / "other")
    other.add("m", 1, content=2)
    with pytest.raises(Failed, match="already, with other content"):
        clouded.create("PublishedModel", other.inputs("m", cloud.bucket, root))


def test_somebody_elses_files_in_the_way_are_refused_and_stay(
    clouded: Plugin, cloud: Cloud, models: LocalModels, root: str
) -> None:
    models.add("m", 1)
    cloud.put(f"{root}m/1/saved_model.pb", "theirs")
    with pytest.raises(Failed, match=r"holds saved_model.pb, which is not from this project") as failed:
        clouded.create("PublishedModel", models.inputs("m", cloud.bucket, root))
    assert failed.value.partial is not None
    assert failed.value.outputs["versions"] == {}
    assert cloud.get(f"{root}m/1/saved_model.pb") == "theirs"


def test_files_that_changed_since_the_preview_are_not_published(
    clouded: Plugin, cloud: Cloud, models: LocalModels, root: str
) -> None:
    directory = models.add("m", 1)
    inputs = models.inputs("m", cloud.bucket, root)
    (directory / "assets" / "vocabulary.txt").write_text("new")
    with pytest.raises(Failed, match="has changed since this run began"):
        clouded.create("PublishedModel", inputs)
    assert cloud.keys(root) == []


def test_an_interrupted_publication_is_invisible_and_continues_where_it_stopped(
    engine: tuple[Engine, str], clouded: Plugin, cloud: Cloud, models: LocalModels, root: str
) -> None:
    directory = models.add("m", 1)
    with open(directory / "assets" / "big.bin", "wb") as file:
        file.truncate(256 << 20)
    inputs = models.inputs("m", cloud.bucket, root)
    interrupted = Plugin(*engine)
    interrupted.configure(**config(cloud.endpoint))
    failure: list[Failed] = []

    def create() -> None:
        try:
            interrupted.create("PublishedModel", inputs)
        except Failed as error:
            failure.append(error)

    running = threading.Thread(target=create)
    running.start()
    parts = until(lambda: cloud.unfinished_parts(root), what="the first parts of the big file")
    interrupted.call("Cancel", empty_pb2.Empty())
    running.join(20)
    interrupted.stop()
    assert failure[0].message == "cancelled"
    assert failure[0].partial is not None
    assert failure[0].outputs["versions"] == {}
    assert all(key.startswith(f"{root}m/.staging-1/") for key in cloud.keys(root))
    whole = f"{root}m/.staging-1/files/assets/big.bin" in cloud.keys(root)
    assert whole or cloud.unfinished_parts(root) >= parts  # kept for the next run

    model = Stack(clouded, "PublishedModel")
    assert model.up(inputs) == "create"
    assert set(cloud.keys(root)) == {*published(cloud, root, "1"), f"{root}m/1/assets/big.bin"}
    assert cloud.unfinished_parts(root) == set()
    assert model.refresh() == {}


def test_a_missing_or_changed_file_is_drift_by_its_name_and_is_put_back(
    clouded: Plugin, cloud: Cloud, models: LocalModels, root: str
) -> None:
    models.add("m", 1)
    models.add("m", 2)
    model = Stack(clouded, "PublishedModel")
    inputs = models.inputs("m", cloud.bucket, root)
    model.up(inputs)
    cloud.delete(f"{root}m/1/variables/variables.index")
    size = len((models.directory / "m" / "2" / "fingerprint.pb").read_bytes())
    cloud.put(f"{root}m/2/fingerprint.pb", b"x" * size)
    assert set(model.refresh()) == {'versions["1"]', 'versions["2"]'}
    assert model.inputs["versions"] == {
        "1": "changed: missing variables/variables.index",
        "2": "changed: changed fingerprint.pb",
    }
    assert model.outputs["changes"] == {
        "1": {"missing": {"names": ["variables/variables.index"], "count": 1}},
        "2": {"changed": {"names": ["fingerprint.pb"], "count": 1}},
    }
    assert model.up(inputs) == "update"
    assert model.outputs["versions"] == inputs["versions"]
    assert "changes" not in model.outputs
    assert model.refresh() == {}


def test_a_version_that_lost_its_manifest_is_published_again(
    clouded: Plugin, cloud: Cloud, models: LocalModels, root: str
) -> None:
    models.add("m", 1)
    models.add("m", 2)
    model = Stack(clouded, "PublishedModel")
    inputs = models.inputs("m", cloud.bucket, root)
    model.up(inputs)
    cloud.delete(f"{root}m/2.manifest.json")
    assert set(model.refresh()) == {'versions["2"]'}
    assert model.up(inputs) == "update"
    assert set(cloud.keys(root)) == published(cloud, root, "1", "2")


def test_a_model_that_is_gone_altogether_reads_as_gone(
    clouded: Plugin, cloud: Cloud, models: LocalModels, root: str
) -> None:
    models.add("m", 1)
    model = Stack(clouded, "PublishedModel")
    model.up(models.inputs("m", cloud.bucket, root))
    for key in cloud.keys(root):
        cloud.delete(key)
    assert model.refresh() == {"gone": True}


def test_deletion_removes_what_the_manifests_list_and_leaves_the_rest(
    clouded: Plugin, cloud: Cloud, models: LocalModels, root: str
) -> None:
    models.add("m", 1)
    models.add("m", 2)
    model = Stack(clouded, "PublishedModel")
    model.up(models.inputs("m", cloud.bucket, root))
    cloud.put(f"{root}m/README.md", "theirs")
    cloud.put(f"{root}m/7/saved_model.pb", "theirs")
    cloud.put(f"{root}m/1/note.txt", "theirs")
    model.destroy()
    assert set(cloud.keys(root)) == {f"{root}m/README.md", f"{root}m/7/saved_model.pb", f"{root}m/1/note.txt"}


def test_a_model_can_be_imported(clouded: Plugin, cloud: Cloud, models: LocalModels, root: str) -> None:
    models.add("m", 1)
    inputs = models.inputs("m", cloud.bucket, root)
    Stack(clouded, "PublishedModel").up(inputs)
    id_, found, _ = clouded.read("PublishedModel", f"oss://{cloud.bucket}/{root}m/", {}, {})
    assert id_
    assert found["versions"] == inputs["versions"]
    assert found["name"] == "m"


def test_a_missing_bucket_is_said_so(clouded: Plugin, models: LocalModels, root: str) -> None:
    models.add("m", 1)
    with pytest.raises(Failed, match=r"NoSuchBucket: .*\(the bucket does not exist\)") as failed:
        clouded.create("PublishedModel", models.inputs("m", "no-such-bucket", root))
    assert failed.value.code is grpc.StatusCode.FAILED_PRECONDITION
    assert failed.value.partial is None


def settled_parts(cloud: Cloud, root: str) -> set[tuple[str, int]]:
    """The parts in OSS, once it has worked off what had reached it before its client died."""
    found: list[set[tuple[str, int]]] = [set()]

    def same_as_a_moment_ago() -> bool:
        threading.Event().wait(1.5)
        found.append(cloud.unfinished_parts(root))
        return found[-1] == found[-2]

    until(same_as_a_moment_ago, what="the end of requests under way")
    return found[-1]


def test_a_killed_publication_is_continued_by_another_machine(
    engine: tuple[Engine, str], cloud: Cloud, models: LocalModels, root: str, tmp_path: Path
) -> None:
    directory = models.add("m", 1)
    (directory / "assets" / "big.bin").write_bytes(random.Random(1).randbytes(96 << 20))  # noqa: S311
    inputs = models.inputs("m", cloud.bucket, root)
    killed = Plugin(*engine)
    killed.configure(**config(cloud.endpoint))

    def create() -> None:
        with contextlib.suppress(Failed):
            killed.create("PublishedModel", inputs)

    running = threading.Thread(target=create)
    running.start()
    until(lambda: len(cloud.unfinished_parts(root)) >= 3, what="some parts of the big file")
    killed.process.kill()
    running.join(20)
    killed.stop()
    parts = settled_parts(cloud, root)
    assert all(key.startswith(f"{root}m/.staging-1/") for key in cloud.keys(root))

    spy = Spy(cloud.oss)
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(models.directory, elsewhere)  # no cache, no checkpoint, other times and inodes
    publish(spy, inputs | {"source": str(elsewhere / "m")})
    sent = {request.part_number for request in spy.requests("upload_part")}
    assert sent.isdisjoint(number for _, number in parts)
    assert len(sent) + len(parts) == 12
    assert cloud.unfinished_parts(root) == set()
    assert set(cloud.keys(root)) == {*published(cloud, root, "1"), f"{root}m/1/assets/big.bin"}


def test_saved_model_pb_appears_last_and_the_manifest_after_it(cloud: Cloud, models: LocalModels, root: str) -> None:
    models.add("m", 1)
    spy = Spy(cloud.oss)
    publish(spy, models.inputs("m", cloud.bucket, root))
    written = [
        request.key.removeprefix(f"{root}m/")
        for method, request in spy.calls
        if method in ("copy_object", "put_object", "complete_multipart_upload")
    ]
    in_place = [key for key in written if key.startswith("1/")]
    assert sorted(in_place) == [f"1/{name}" for name in FILES]
    assert written[-2:] == ["1/saved_model.pb", "1.manifest.json"]
    assert all(key.startswith(".staging-1/") for key in written[: -len(in_place) - 1])


def test_nothing_is_ever_overwritten(cloud: Cloud, models: LocalModels, root: str) -> None:
    models.add("m", 1)
    spy = Spy(cloud.oss)
    publish(spy, models.inputs("m", cloud.bucket, root))
    marker = f"{root}m/.staging-1/manifest.json"
    for method in ("put_object", "copy_object"):
        assert all(request.forbid_overwrite for request in spy.requests(method) if request.key != marker)


def test_an_object_that_exists_stays_as_it_is(cloud: Cloud, root: str, tmp_path: Path) -> None:
    bucket = Bucket(cloud.oss, cloud.bucket)
    key, file = f"{root}a", tmp_path / "a"
    file.write_bytes(b"ours")
    entry = FileEntry("a", 4, str(manifest.crc64(b"ours")), "")
    cloud.put(f"{root}source", "ours")
    for content in ("theirs", "mine"):  # of another size, and of the same
        cloud.put(key, content)
        with pytest.raises(CloudError, match="FileAlreadyExists"):
            bucket.put_file(key, file, entry, lambda _: None)
        with pytest.raises(CloudError, match="FileAlreadyExists"):
            bucket.copy(ObjectName(cloud.bucket, f"{root}source"), key, entry)
        assert cloud.get(key) == content
    cloud.put(key, "ours")
    bucket.put_file(key, file, entry, lambda _: None)  # a repeated request whose first answer was lost


def test_a_large_object_is_copied_unseen_until_its_last_step(cloud: Cloud, root: str) -> None:
    content = b"x" * 300_000
    cloud.put(f"{root}a", content)
    bucket = Bucket(cloud.oss, cloud.bucket)
    entry = FileEntry("a", len(content), str(manifest.crc64(content)), "")
    last_step = bucket.prepare_copy(ObjectName(cloud.bucket, f"{root}a"), f"{root}b", entry)
    assert cloud.keys(root) == [f"{root}a"]
    last_step(False)
    assert bucket.holds(f"{root}b", entry)


def test_a_file_that_changes_on_the_way_is_not_kept(cloud: Cloud, root: str, tmp_path: Path) -> None:
    bucket = Bucket(cloud.oss, cloud.bucket)
    small, large = tmp_path / "small", tmp_path / "large"
    small.write_bytes(b"new")
    large.write_bytes(b"x" * (17 << 20))
    with pytest.raises(ContentError, match="changed while it was uploaded"):
        bucket.put_file(f"{root}small", small, FileEntry("small", 3, "1", ""), lambda _: None)
    upload = bucket.begin(f"{root}large", large, FileEntry("large", 17 << 20, "1", ""), None)
    for part in upload.parts[:-1]:
        upload.send(part, lambda _: None)
    with pytest.raises(ContentError, match="changed while it was uploaded"):
        upload.send(upload.parts[-1], lambda _: None)
    assert cloud.keys(root) == []


class Damaged(_FileRange):
    """A body that arrives otherwise than it was read."""

    def read(self, size: int = -1) -> bytes:
        data = super().read(size)
        return data[:-1] + bytes([data[-1] ^ 1]) if data else data


def test_a_part_that_arrives_damaged_is_sent_again_by_the_next_run(
    cloud: Cloud, root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, bucket, sent = tmp_path / "large", Bucket(cloud.oss, cloud.bucket), [0]
    file.write_bytes(b"x" * (17 << 20))
    entry = FileEntry("large", 17 << 20, str(manifest.crc64(file.read_bytes())), "")
    upload = bucket.begin(f"{root}large", file, entry, None)
    with monkeypatch.context() as line:
        line.setattr("provider.oss._FileRange", Damaged)
        with pytest.raises(ContentError, match="did not receive part 1 "):
            upload.send(1, lambda _: None)
    upload.send(2, lambda _: None)
    again = bucket.begin(f"{root}large", file, entry, bucket.unfinished(root)[f"{root}large"])
    for part in again.parts:
        again.send(part, lambda count: sent.append(count))
    assert bucket.holds(f"{root}large", entry)
    assert sum(sent) == (8 << 20) + (1 << 20)  # the damaged part, and the one that had not been sent


def test_a_preview_names_each_version_with_its_size(
    clouded: Plugin, cloud: Cloud, models: LocalModels, root: str, log: Engine
) -> None:
    models.add("m", 1)
    model = Stack(clouded, "PublishedModel")
    model.up(models.inputs("m", cloud.bucket, root))
    models.add("m", 2)
    shutil.rmtree(models.directory / "m" / "1")
    log.messages.clear()
    news = models.inputs("m", cloud.bucket, root)
    clouded.update("PublishedModel", model.id, model.inputs, model.outputs, news, preview=True)
    plus, minus = log.lines()
    assert re.fullmatch(r"m: \+ version 2 \(4 files, [0-9.]+ KB\)", plus)
    assert re.fullmatch(r"m: - version 1 \(4 files, [0-9.]+ KB\)", minus)


def test_progress_tells_files_bytes_rate_and_time_left(
    engine: tuple[Engine, str], cloud: Cloud, models: LocalModels, root: str, log: Engine
) -> None:
    directory = models.add("m", 1)
    with open(directory / "assets" / "big.bin", "wb") as file:
        file.truncate(128 << 20)
    with Line(int(cloud.endpoint.rpartition(":")[2]), rate=6e6) as line:  # slow enough to be watched
        plugin = Plugin(*engine)
        try:
            plugin.configure(**config(f"127.0.0.1:{line.port}"))
            Stack(plugin, "PublishedModel").up(models.inputs("m", cloud.bucket, root))
        finally:
            plugin.stop()
    shown = log.lines(ephemeral=True)
    number = r"[0-9.]+ [KMG]?B"
    assert any(
        re.fullmatch(rf"m: \d of 5 files, {number} of 134\.\d MB, {number}/s, .* left", line) for line in shown
    ), shown


def test_a_committed_manifest_stands_in_for_files_that_are_published(
    clouded: Plugin, cloud: Cloud, models: LocalModels, root: str, tmp_path: Path, log: Engine
) -> None:
    directory = models.add("m", 1)
    inputs = models.inputs("m", cloud.bucket, root)
    manifests = tmp_path / "manifests"
    manifests.mkdir()
    (manifests / "1.manifest.json").write_text(manifest.build(directory).to_json())
    shutil.rmtree(models.directory)
    inputs |= {"manifests": str(manifests)}
    for preview in (True, False):
        with pytest.raises(Failed, match=r"not published yet.* from a machine that has its files"):
            clouded.create("PublishedModel", inputs, preview=preview)
    models.add("m", 1)
    Stack(clouded, "PublishedModel").up(models.inputs("m", cloud.bucket, root))
    shutil.rmtree(models.directory)
    again = Stack(clouded, "PublishedModel")
    log.messages.clear()
    clouded.create("PublishedModel", inputs, preview=True)
    (line,) = log.lines()
    assert line.startswith("m: + version 1 (4 files, ")
    assert again.up(inputs) == "create"
    assert again.up(inputs) == "same"


# ---- who may remove ------------------------------------------------------------------------------------------------


def test_another_stack_that_refers_to_a_version_does_not_remove_it(
    clouded: Plugin, cloud: Cloud, models: LocalModels, root: str
) -> None:
    models.add("m", 1)
    inputs = models.inputs("m", cloud.bucket, root)
    owner, guest = Stack(clouded, "PublishedModel"), Stack(clouded, "PublishedModel")
    owner.up(inputs)
    guest.up(inputs | {"owner": "tf-serving/other"})
    guest.destroy()
    bucket = Bucket(cloud.oss, cloud.bucket)
    assert remove_version(bucket, f"{root}m/", 1, "tf-serving/other") == 0
    assert set(cloud.keys(root)) == published(cloud, root, "1")
    owner.destroy()
    assert cloud.keys(root) == []


def test_a_renamed_stack_keeps_the_right_to_remove(
    clouded: Plugin, cloud: Cloud, models: LocalModels, root: str
) -> None:
    models.add("m", 1)
    model = Stack(clouded, "PublishedModel")
    inputs = models.inputs("m", cloud.bucket, root)
    model.up(inputs)
    renamed = inputs | {"owner": "tf-serving/renamed"}
    assert model.up(renamed) == "update"
    assert model.refresh() == {}
    assert model.up(renamed) == "same"
    model.destroy()
    assert cloud.keys(root) == []


def test_dropped_versions_wait_for_the_rollout_or_go_at_once(
    clouded: Plugin, cloud: Cloud, models: LocalModels, root: str
) -> None:
    models.add("m", 1)
    models.add("m", 2)
    model = Stack(clouded, "PublishedModel")
    inputs = models.inputs("m", cloud.bucket, root)
    model.up(inputs)
    one = inputs | {"versions": {"1": inputs["versions"]["1"]}}
    model.up(one)
    assert set(cloud.keys(root)) == published(cloud, root, "1", "2")
    model.up(inputs)
    model.up(one | {"removeDropped": True})
    assert set(cloud.keys(root)) == published(cloud, root, "1")


def test_an_unfinished_upload_of_a_dropped_version_is_found_and_cleaned_up(
    clouded: Plugin, cloud: Cloud, models: LocalModels, root: str
) -> None:
    models.add("m", 1)
    model = Stack(clouded, "PublishedModel")
    inputs = models.inputs("m", cloud.bucket, root)
    model.up(inputs)
    unfinished = replace(manifest.build(models.add("m", 2)), owner=OWNER)
    cloud.put(f"{root}m/.staging-2/manifest.json", unfinished.to_json())
    cloud.put(f"{root}m/.staging-2/files/variables/variables.index", "half")
    cloud.put(f"{root}m/2/variables/variables.index", "half")
    theirs = replace(unfinished, owner="tf-serving/other")
    cloud.put(f"{root}m/.staging-3/manifest.json", theirs.to_json())
    assert set(model.refresh()) == {'unfinished["2"]'}
    assert model.up(inputs) == "update"
    assert set(cloud.keys(root)) == published(cloud, root, "1") | {f"{root}m/.staging-3/manifest.json"}
    assert model.refresh() == {}


# ---- drift ---------------------------------------------------------------------------------------------------------


def test_drift_names_every_missing_changed_and_added_file(
    clouded: Plugin, cloud: Cloud, models: LocalModels, root: str
) -> None:
    directory = models.add("m", 1)
    model = Stack(clouded, "PublishedModel")
    model.up(models.inputs("m", cloud.bucket, root))
    cloud.delete(f"{root}m/1/variables/variables.index")
    cloud.delete(f"{root}m/1/variables/variables.data-00000-of-00001")
    cloud.put(f"{root}m/1/fingerprint.pb", b"x" * (directory / "fingerprint.pb").stat().st_size)
    cloud.put(f"{root}m/1/assets/notes.txt", "theirs")
    model.refresh()
    assert model.inputs["versions"]["1"] == (
        "changed: missing variables/variables.data-00000-of-00001, variables/variables.index; changed fingerprint.pb; "
        "added assets/notes.txt"
    )


def test_an_unchanged_model_is_read_with_one_listing(cloud: Cloud, models: LocalModels, root: str) -> None:
    models.add("m", 1)
    models.add("m", 2)
    inputs = models.inputs("m", cloud.bucket, root)
    outputs = publish(Spy(cloud.oss), inputs)
    spy = Spy(cloud.oss)
    found = PublishedModel().read(context(spy), f"oss://{cloud.bucket}/{root}m/", inputs, outputs)
    assert found is not None
    assert (found.inputs, found.outputs) == (inputs, outputs)
    assert [method for method, _ in spy.calls] == ["list_objects_v2"]


# ---- sources in OSS, and versions that are there already -----------------------------------------------------------


@pytest.fixture
def theirs(cloud: Cloud, models: LocalModels, root: str) -> str:
    """A model that somebody exported straight to OSS, without a manifest; its URI."""
    for number in (1, 2):
        directory = models.add("theirs", number)
        for path in manifest.list_files(directory):
            cloud.put(f"{root}export/{number}/{path}", (directory / path).read_bytes())
    return f"oss://{cloud.bucket}/{root}export"


def in_oss(cloud: Cloud, root: str, source: str, **versions: str) -> Properties:
    return {
        "name": "m",
        "bucket": cloud.bucket,
        "prefix": f"{root}m/",
        "owner": OWNER,
        "source": source,
        "versions": {number.removeprefix("v"): digest for number, digest in versions.items()},
    }


def test_a_source_in_oss_is_copied_on_the_server(cloud: Cloud, root: str, theirs: str) -> None:
    spy = Spy(cloud.oss)
    outputs = publish(spy, in_oss(cloud, root, theirs, v1="any", v2="any"))
    assert {key for key in cloud.keys(root) if "/export/" not in key} == published(cloud, root, "1", "2")
    assert {request.source_key.split("/")[1] for request in spy.requests("copy_object")} == {"export"}
    assert all(request.key.endswith("manifest.json") for request in spy.requests("put_object"))
    assert spy.requests("upload_part") == []
    assert all(digest.startswith("sha256:") for digest in outputs["versions"].values())


def test_a_source_in_oss_stays_up_to_date_and_its_preview_tells_the_size(
    clouded: Plugin, cloud: Cloud, root: str, theirs: str, log: Engine
) -> None:
    inputs = in_oss(cloud, root, theirs, v1="any")
    clouded.create("PublishedModel", inputs, preview=True)
    assert log.lines()[0].startswith("m: + version 1 (4 files, ")
    model = Stack(clouded, "PublishedModel")
    assert model.up(inputs) == "create"
    assert model.refresh() == {}
    assert model.inputs["versions"] == inputs["versions"]
    assert model.up(inputs) == "same"


def test_a_source_in_oss_that_is_not_what_was_committed_is_refused(
    clouded: Plugin, cloud: Cloud, models: LocalModels, root: str, theirs: str, tmp_path: Path
) -> None:
    committed = manifest.build(models.directory / "theirs" / "1")
    (tmp_path / "1.manifest.json").write_text(committed.to_json())
    inputs = in_oss(cloud, root, theirs, v1=committed.digest) | {"manifests": str(tmp_path)}
    cloud.put(f"{root}export/1/fingerprint.pb", "other")
    with pytest.raises(Failed, match=r"export/1/ is not what its manifest says: fingerprint\.pb"):
        clouded.create("PublishedModel", inputs)
    assert not any(key.startswith(f"{root}m/1") for key in cloud.keys(root))


def test_an_incomplete_source_in_oss_is_refused(clouded: Plugin, cloud: Cloud, root: str, theirs: str) -> None:
    cloud.delete(f"{root}export/1/variables/variables.index")
    with pytest.raises(Failed, match=r"export/1/ has variables, but no variables/variables\.index"):
        clouded.create("PublishedModel", in_oss(cloud, root, theirs, v1="any"))
    with pytest.raises(Failed, match=r"export/7/ is empty"):
        clouded.create("PublishedModel", in_oss(cloud, root, theirs, v7="any"))


def test_a_version_that_is_there_already_is_looked_at_and_left_alone(
    clouded: Plugin, cloud: Cloud, root: str, theirs: str
) -> None:
    inputs = in_oss(cloud, root, "", v1="any") | {"prefix": f"{root}export/"}
    before = cloud.keys(root)
    model = Stack(clouded, "PublishedModel")
    assert model.up(inputs) == "create"
    assert model.outputs["files"]["1"]["files"] == 4
    assert model.up(inputs) == "same"
    cloud.delete(f"{root}export/1/variables/variables.index")
    assert set(model.refresh()) == {'versions["1"]'}
    cloud.put(f"{root}export/1/variables/variables.index", "x")
    model.destroy()
    assert cloud.keys(root) == before


def test_a_version_that_should_be_there_already_and_is_not_names_those_that_are(
    clouded: Plugin, cloud: Cloud, root: str, theirs: str
) -> None:
    inputs = in_oss(cloud, root, "", v3="any") | {"prefix": f"{root}export/"}
    with pytest.raises(Failed, match=r"export/3/ is empty \(complete there: 1, 2\)"):
        clouded.create("PublishedModel", inputs)


# ---- what the preview refuses ----------------------------------------------------------------------------------------


def refusal(plugin: Plugin, kind: str, inputs: Properties) -> str:
    """What a creation is refused with: the preview and the update have to say the same."""
    found = []
    for preview in (True, False):
        with pytest.raises(Failed) as failed:
            plugin.create(kind, inputs, preview=preview)
        found.append(re.sub(r"request id: \w+", "request id: ...", failed.value.message))
    assert found[0] == found[1]
    return found[0]


LARGE = "20240115093000123"


def test_the_preview_refuses_versions_that_are_not_there_all_together(
    clouded: Plugin, cloud: Cloud, root: str, theirs: str, log: Engine
) -> None:
    inputs = in_oss(cloud, root, "", v1="any", v5="any", v9223372036854775807="any", **{f"v{LARGE}": "any"})
    message = refusal(clouded, "PublishedModel", inputs | {"prefix": f"{root}export/"})
    head, *lines = message.splitlines()
    assert head == "model m: 3 problems"
    assert [line.split(" of m ")[0] for line in lines] == [
        "  - version 5",
        f"  - version {LARGE}",
        "  - version 9223372036854775807",
    ]
    assert all("is empty (complete there: 1, 2)" in line for line in lines)
    assert log.lines()[0].startswith("m: + version 1 (4 files, ")


def test_the_preview_refuses_what_a_source_in_oss_does_not_hold(
    clouded: Plugin, cloud: Cloud, root: str, theirs: str
) -> None:
    cloud.delete(f"{root}export/1/variables/variables.index")
    message = refusal(clouded, "PublishedModel", in_oss(cloud, root, theirs, v1="any", v7="any"))
    assert "export/1/ has variables, but no variables/variables.index" in message
    assert "export/7/ is empty" in message
    message = refusal(clouded, "PublishedModel", in_oss(cloud, root, "oss://no-such-bucket/export/", v1="any"))
    assert "the bucket does not exist" in message


class Telling:
    """The cloud's OSS client, which tells of objects what the sandbox has none of: links, and no checksum."""

    def __init__(self, client: Any, *, kind: str = "", checksum: str | None = None) -> None:
        self._client, self._kind, self._checksum = client, kind, checksum

    def list_objects_v2(self, request: Any) -> Any:
        found = self._client.list_objects_v2(request)
        for item in found.contents or ():
            item.object_type = self._kind or item.object_type
        return found

    def head_object(self, request: Any) -> Any:
        found = self._client.head_object(request)
        found.hash_crc64 = found.hash_crc64 if self._checksum is None else self._checksum
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"kind": "Symlink"}, r"export/1/ holds symbolic links of OSS \(.*Fix: "),
        ({"checksum": ""}, r"OSS tells no checksum of oss://.*/export/1/.*Fix: upload it again"),
    ],
    ids=["links", "no checksum"],
)
def test_the_preview_refuses_a_source_of_symbolic_links_or_without_checksums(
    cloud: Cloud, root: str, theirs: str, told: dict[str, str], words: str
) -> None:
    checked, failures = PublishedModel().check({}, in_oss(cloud, root, theirs, v1="any"))
    assert not failures
    with pytest.raises(SavedModelError, match=words):
        PublishedModel().preview(context(Telling(cloud.oss, **told)), checked, None, None)


@pytest.mark.parametrize(
    ("path", "content", "words"),
    [
        ("saved_model.pb", POINTER, "has saved_model.pb, which is a Git LFS pointer. Fix: git lfs pull; then copy it"),
        ("saved_model.pb", b"", "has saved_model.pb, which is empty"),
        ("saved_model.pb", b"\x08\x01", "has no graph with the tag `serve` (no graph at all)"),
        ("saved_model.pb", TRAINING, "has no graph with the tag `serve` (train)"),
        ("saved_model.pb", b"\x0a\xff\xff", "has a saved_model.pb that cannot be parsed"),
        ("saved_model.pb", b"<!DOCTYPE html><title>Sign in</title>", "a web page or an error message"),
        ("variables/variables.data-00000-of-00001", POINTER, "a Git LFS pointer"),
        ("variables/variables.data-00000-of-00001", b"cut", "says at least"),
        ("variables/variables.data-00000-of-00001", b"", "has 0 bytes of variables/variables.data-00000-of-00001"),
        ("variables/variables.index", b"cut", "has a damaged variables/variables.index"),
    ],
)
@pytest.mark.parametrize("referred", [False, True], ids=["source", "referred"])
def test_content_in_oss_that_cannot_be_what_its_name_says_is_refused_before_anything_is_copied(
    clouded: Plugin, cloud: Cloud, root: str, theirs: str, path: str, content: bytes, words: str, referred: bool
) -> None:
    cloud.put(f"{root}export/1/{path}", content)
    inputs = in_oss(cloud, root, "" if referred else theirs, v1="any", v2="any")
    if referred:
        inputs |= {"name": "export", "prefix": f"{root}export/"}
    before = cloud.keys(root)
    message = refusal(clouded, "PublishedModel", inputs)
    assert f"{root}export/1/" in message
    assert words in message
    assert "export/2/" not in message
    with pytest.raises(Failed, match="export/1/"):
        clouded.create("PublishedModel", inputs)
    assert cloud.keys(root) == before


def test_a_graph_in_oss_is_checked_against_the_tags_of_the_services(
    clouded: Plugin, cloud: Cloud, root: str, theirs: str
) -> None:
    cloud.put(f"{root}export/1/saved_model.pb", TRAINING)
    copied = in_oss(cloud, root, theirs, v1="any", v2="any")
    referred = copied | {"name": "export", "prefix": f"{root}export/", "source": ""}
    for inputs in (copied, referred):
        message = refusal(clouded, "PublishedModel", inputs | {"tags": ["serve", "train"]})
        assert "export/1/ has no graph with the tag `serve` (train)" in message
        assert "export/2/ has no graph with the tag `train` (serve)" in message
        clouded.create("PublishedModel", inputs | {"tags": ["train"], "versions": {"1": "any"}}, preview=True)


def test_a_committed_manifest_says_nothing_of_the_tags_of_a_graph_in_the_bucket(
    clouded: Plugin, cloud: Cloud, root: str, theirs: str, tmp_path: Path
) -> None:
    directory = tmp_path / "version"
    (directory / "variables").mkdir(parents=True)
    (directory / "saved_model.pb").write_bytes(TRAINING)
    cloud.put(f"{root}one/1/saved_model.pb", TRAINING)
    (tmp_path / "1.manifest.json").write_text(manifest.build(directory).to_json(), encoding="utf-8")
    inputs = in_oss(cloud, root, "", v1="any") | {"prefix": f"{root}one/", "manifests": str(tmp_path)}
    message = refusal(clouded, "PublishedModel", inputs)
    assert "one/1/ has no graph with the tag `serve` (train) (complete there: none)" in message


def test_the_preview_refuses_files_of_others_and_other_content(
    clouded: Plugin, cloud: Cloud, models: LocalModels, root: str
) -> None:
    models.add("m", 1)
    models.add("m", 2)
    Stack(clouded, "PublishedModel").up(models.inputs("m", cloud.bucket, root))
    shutil.rmtree(models.directory / "m" / "2")
    models.add("m", 2, content=3)
    models.add("m", 3)
    cloud.put(f"{root}m/3/saved_model.pb", "theirs")
    message = refusal(clouded, "PublishedModel", models.inputs("m", cloud.bucket, root))
    assert "version 2 of m is published in" in message
    assert "m/3/ holds saved_model.pb, which is not from this project" in message


def test_the_preview_refuses_versions_in_a_bucket_that_is_yet_to_be_made(
    clouded: Plugin, cloud: Cloud, models: LocalModels, root: str, log: Engine
) -> None:
    models.add("m", 1)
    new = models.inputs("m", "not-there-yet", root)
    clouded.create("PublishedModel", new, preview=True)
    assert log.lines()[0].startswith("m: + version 1 (4 files, ")
    with pytest.raises(
        Failed, match=r"version 5 of m should .*bucket not-there-yet is not there yet: this stack makes"
    ):
        clouded.create("PublishedModel", new | {"source": "", "versions": {"5": "any"}}, preview=True)
    with pytest.raises(Failed, match=r"bucket not-there-yet does not exist, and the stack says existing: true\. Fix: "):
        clouded.create("PublishedModel", new | {"bucketExists": True}, preview=True)


def test_a_model_that_moves_to_another_root_previews_what_is_missing_there(
    clouded: Plugin, cloud: Cloud, models: LocalModels, root: str, theirs: str
) -> None:
    inputs = in_oss(cloud, root, "", v1="any", v2="any") | {"prefix": f"{root}export/"}
    model = Stack(clouded, "PublishedModel")
    model.up(inputs)
    moved = inputs | {"prefix": f"{root}elsewhere/"}
    assert model.diff(moved).replaces == ["prefix"]
    assert "model m: 2 problems" in refusal(clouded, "PublishedModel", moved)


def test_the_preview_of_an_added_version_is_refused_like_its_update(
    clouded: Plugin, cloud: Cloud, root: str, theirs: str
) -> None:
    inputs = in_oss(cloud, root, "", v1="any") | {"prefix": f"{root}export/"}
    model = Stack(clouded, "PublishedModel")
    model.up(inputs)
    news = inputs | {"versions": {"1": "any", "5": "any"}}
    for preview in (True, False):
        with pytest.raises(Failed, match=r"version 5 of m should be in the bucket already"):
            clouded.update("PublishedModel", model.id, model.inputs, model.outputs, news, preview=preview)


def test_the_preview_refuses_to_drop_a_version_whose_manifest_is_damaged(
    clouded: Plugin, cloud: Cloud, models: LocalModels, root: str
) -> None:
    models.add("m", 1)
    models.add("m", 2)
    model = Stack(clouded, "PublishedModel")
    inputs = models.inputs("m", cloud.bucket, root)
    model.up(inputs)
    cloud.put(f"{root}m/1.manifest.json", "{")
    dropped = inputs | {"versions": {"2": inputs["versions"]["2"]}, "removeDropped": True}
    for preview in (True, False):
        with pytest.raises(Failed, match=r"m/1\.manifest\.json: .*Fix: remove that object"):
            clouded.update("PublishedModel", model.id, model.inputs, model.outputs, dropped, preview=preview)


def test_what_should_be_a_text_and_is_none_is_refused_in_the_preview(
    clouded: Plugin, cloud: Cloud, models: LocalModels, root: str
) -> None:
    models.add("m", 1)
    cloud.put(f"{root}m/1.manifest.json", b"\xff\xfe")
    message = refusal(clouded, "PublishedModel", models.inputs("m", cloud.bucket, root))
    assert "m/1.manifest.json is not a text in UTF-8, and should be a manifest. Fix: remove that object" in message
    cloud.put(f"{root}model_config.pbtxt", b"\xff\xfe")
    assert "was not made by this project" in refusal(clouded, "ModelConfigFile", config_file(cloud, root))


@pytest.mark.parametrize(("short", "refused"), [(0, True), (1, False)])
def test_a_key_that_is_too_long_for_oss_is_refused_in_the_preview(
    short: int, refused: bool, clouded: Plugin, cloud: Cloud, models: LocalModels, root: str
) -> None:
    models.add("m", 1)
    longest = len("m/.staging-1/files/variables/variables.data-00000-of-00001")
    deep = f"{root}{'d' * (1024 - longest - len(root) - 1 - short)}/"
    inputs = models.inputs("m", cloud.bucket, deep)
    if refused:
        message = refusal(clouded, "PublishedModel", inputs)
        assert "would have 1024 bytes in the bucket, and OSS takes 1023. Fix: a shorter tf-serving:modelRoot" in message
    else:
        clouded.create("PublishedModel", inputs, preview=True)
        clouded.create("PublishedModel", inputs)


def test_a_source_whose_objects_have_no_checksum_is_refused_in_the_preview(
    cloud: Cloud, root: str, theirs: str
) -> None:
    class Unchecked(Spy):
        def head_object(self, request: Any) -> Any:
            found = self.client.head_object(request)
            found.hash_crc64 = None
            return found

    inputs, _ = PublishedModel().check({}, in_oss(cloud, root, theirs, v1="any"))
    for operation in (lambda ctx: PublishedModel().preview(ctx, inputs, None, None),
                      lambda ctx: PublishedModel().create(ctx, inputs)):  # fmt: skip
        with pytest.raises(SavedModelError, match=r"OSS tells no checksum of .*/export/1/.* Fix: upload it again"):
            operation(context(Unchecked(cloud.oss)))


def test_a_preview_without_credentials_is_refused_as_the_update_would_be(
    engine: tuple[Engine, str], cloud: Cloud, models: LocalModels, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    models.add("m", 1)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "true")
    for name in [name for name in os.environ if name.startswith(("ALIBABA_CLOUD_ACCESS", "ALICLOUD_"))]:
        monkeypatch.delenv(name)
    plugin = Plugin(*engine)
    try:
        plugin.configure(**{key: value for key, value in config(cloud.endpoint).items() if not key.endswith("Key")})
        message = refusal(plugin, "PublishedModel", models.inputs("m", cloud.bucket, "no-credentials/"))
        assert "no Alibaba Cloud credentials were found" in message
    finally:
        plugin.stop()


def test_a_preview_only_reads_and_one_without_changes_reads_nothing(
    cloud: Cloud, models: LocalModels, root: str, theirs: str
) -> None:
    models.add("m", 1)
    inputs, _ = PublishedModel().check({}, models.inputs("m", cloud.bucket, root))
    spy = Spy(cloud.oss)
    PublishedModel().preview(context(spy), inputs, None, None)
    assert [name for name, _ in spy.calls] == ["list_objects_v2"]
    spy = Spy(cloud.oss)
    in_bucket, _ = PublishedModel().check({}, in_oss(cloud, root, theirs, v1="any"))
    PublishedModel().preview(context(spy), in_bucket, None, None)
    assert {name for name, _ in spy.calls} == {"list_objects_v2", "head_object", "get_object"}
    outputs = publish(cloud.oss, inputs)
    spy = Spy(cloud.oss)
    PublishedModel().preview(context(spy), inputs, inputs, outputs)
    assert spy.calls == []


def test_a_preview_where_nobody_answers_warns_and_still_tells_what_this_machine_knows(
    plugin: Plugin, models: LocalModels, log: Engine
) -> None:
    models.add("m", 1)
    plugin.create("PublishedModel", models.inputs("m", "anywhere", ""), preview=True)
    (warning,) = log.lines(engine_pb2.WARNING)
    assert warning.startswith(
        "m: it is not known yet whether its versions can be published: cannot list oss://anywhere/"
    )
    assert log.lines(engine_pb2.INFO)[0].startswith("m: + version 1 (4 files, ")


# ---- the model config file -----------------------------------------------------------------------------------------


def config_file(cloud: Cloud, root: str, **changes: object) -> dict[str, object]:
    models = {"m": {"basePath": "/models/m", "platform": "tensorflow", "policy": "all", "labels": {}}}
    key = f"{root}model_config.pbtxt"
    return {"bucket": cloud.bucket, "key": key, "owner": "tf-serving/files", "initial": models} | changes


def test_the_config_file_names_its_stack_and_survives_a_second_creation(
    clouded: Plugin, cloud: Cloud, root: str, log: Engine
) -> None:
    file = Stack(clouded, "ModelConfigFile")
    assert file.up(config_file(cloud, root)) == "create"
    written = cloud.get(f"{root}model_config.pbtxt")
    assert written.startswith("# Managed by Pulumi project tf-serving, stack files: ")
    other = {"n": {"basePath": "/models/n"}}
    assert Stack(clouded, "ModelConfigFile").up(config_file(cloud, root, initial=other)) == "create"
    again = cloud.get(f"{root}model_config.pbtxt")
    assert [line for line in again.splitlines() if not line.startswith("# Created as ")] == [
        line for line in written.splitlines() if not line.startswith("# Created as ")
    ]
    assert any("kept as it is" in line for line in log.lines())


def test_somebody_elses_config_file_is_refused_and_stays(clouded: Plugin, cloud: Cloud, root: str) -> None:
    cloud.put(f"{root}model_config.pbtxt", "model_config_list {}")
    for preview in (True, False):
        with pytest.raises(Failed, match="was not made by this project") as failed:
            clouded.create("ModelConfigFile", config_file(cloud, root), preview=preview)
        assert failed.value.code is grpc.StatusCode.ALREADY_EXISTS
    assert cloud.get(f"{root}model_config.pbtxt") == "model_config_list {}"


@pytest.mark.parametrize(
    ("theirs", "whose"),
    [
        ("# ours\nmodel_config_list { config { name: 'm' base_path: '/models/m' } }\n", "was not made by this project"),
        (
            "# Managed by Pulumi project tf-serving, stack other: change stacks/Pulumi.other.yaml.\n# Created as x\n"
            "model_config_list { config { name: 'm' base_path: '/models/m' } }\n",
            "is managed by tf-serving/other",
        ),
    ],
)
def test_somebody_elses_config_file_is_taken_over_where_that_is_asked_for_and_says_the_same(
    theirs: str, whose: str, clouded: Plugin, cloud: Cloud, root: str, log: Engine
) -> None:
    cloud.put(f"{root}model_config.pbtxt", theirs)
    news = config_file(cloud, root, adopt=True)
    clouded.create("ModelConfigFile", news, preview=True)
    assert any(f"model_config.pbtxt {whose}: it is taken over" in line for line in log.lines())
    assert cloud.get(f"{root}model_config.pbtxt") == theirs, "a preview only looks"
    file = Stack(clouded, "ModelConfigFile")
    assert file.up(news) == "create"
    head, *rest = [
        line for line in cloud.get(f"{root}model_config.pbtxt").splitlines() if not line.startswith("# Created as ")
    ]
    assert head.startswith("# Managed by Pulumi project tf-serving, stack files: ")
    assert rest == [line for line in theirs.splitlines() if not line.startswith(("# Managed", "# Created as "))]
    assert file.up(config_file(cloud, root)) == "same", "the key can go once that is done"


def test_a_listing_knows_the_versions_that_only_tensorflow_serving_takes_for_such(cloud: Cloud, root: str) -> None:
    for key in ("1/saved_model.pb", "007/saved_model.pb", "00/x", "v8/x", "-9/x", "0x1/x", "010", ".staging-011/x"):
        cloud.put(f"{root}m/{key}", "x")
    found = Listing.of(Bucket(cloud.oss, cloud.bucket), f"{root}m/")
    assert set(found.versions) == {"1"}
    assert found.spelt == {7, 0}


def test_a_config_file_of_another_stack_is_refused_with_its_name(clouded: Plugin, cloud: Cloud, root: str) -> None:
    Stack(clouded, "ModelConfigFile").up(config_file(cloud, root))
    message = refusal(clouded, "ModelConfigFile", config_file(cloud, root, owner="tf-serving/other"))
    assert "is managed by tf-serving/files, and tf-serving/other would overwrite it" in message


def test_a_config_file_that_moves_onto_somebody_elses_is_refused_in_the_preview(
    clouded: Plugin, cloud: Cloud, root: str
) -> None:
    file = Stack(clouded, "ModelConfigFile")
    file.up(config_file(cloud, root))
    moved = f"{root}elsewhere/model_config.pbtxt"
    cloud.put(moved, "model_config_list {}")
    news = config_file(cloud, root, key=moved, owner="tf-serving/renamed")
    assert file.diff(news).replaces == ["key"]  # so the engine previews a creation
    assert "was not made by this project" in refusal(clouded, "ModelConfigFile", news)
    in_new_bucket = config_file(cloud, root, bucket="not-there-yet")
    assert file.diff(in_new_bucket).replaces == ["bucket"]
    clouded.create("ModelConfigFile", in_new_bucket, preview=True)


@pytest.mark.parametrize(("theirs", "refused"), [("tf-serving/other", True), ("", False), ("tf-serving/old", False)])
def test_a_config_file_that_another_stack_took_over_is_refused_by_the_preview_of_an_update(
    theirs: str, refused: bool, clouded: Plugin, cloud: Cloud, root: str
) -> None:
    file = Stack(clouded, "ModelConfigFile")
    file.up(config_file(cloud, root, owner="tf-serving/old"))
    project, _, stack = theirs.partition("/")
    head = f"# Managed by Pulumi project {project}, stack {stack}: x\n" if theirs else ""
    cloud.put(f"{root}model_config.pbtxt", f"{head}model_config_list {{}}")
    file.refresh()
    news = config_file(cloud, root, owner="tf-serving/new")
    for preview in (True, False):
        expected = (
            pytest.raises(Failed, match="is managed by tf-serving/other") if refused else contextlib.nullcontext()
        )
        with expected:
            clouded.update("ModelConfigFile", file.id, file.inputs, file.outputs, news, preview=preview)


def test_a_renamed_stack_takes_its_file_along(clouded: Plugin, cloud: Cloud, root: str) -> None:
    file = Stack(clouded, "ModelConfigFile")
    file.up(config_file(cloud, root))
    body = cloud.get(f"{root}model_config.pbtxt").split("\n", 1)[1]
    assert file.up(config_file(cloud, root, owner="tf-serving/renamed")) == "update"
    head, kept = cloud.get(f"{root}model_config.pbtxt").split("\n", 1)
    assert "stack renamed" in head
    assert kept == body
    assert file.refresh() == {}


def test_a_replacement_under_the_same_name_leaves_the_file_and_the_model_there(
    clouded: Plugin, later: Plugin, cloud: Cloud, models: LocalModels, root: str
) -> None:
    models.add("m", 1)
    wanted = {"ModelConfigFile": config_file(cloud, root), "PublishedModel": models.inputs("m", cloud.bucket, root)}
    for kind, inputs in wanted.items():
        original, replacing = Stack(clouded, kind), Stack(clouded, kind)
        original.up(inputs)
        released = {key: value for key, value in original.outputs.items() if key != "createdBy"}  # as 0.1.0 left it
        replacing.up(inputs)
        there = cloud.keys(root)
        later.delete(kind, original.id, original.inputs, original.outputs)
        later.delete(kind, original.id, original.inputs, released)
        assert cloud.keys(root) == there
        assert replacing.refresh() == {}
    for kind, inputs in wanted.items():
        again = Stack(clouded, kind)
        again.up(inputs)
        again.destroy()
    assert cloud.keys(root) == []


def test_a_version_that_a_config_file_of_the_stack_still_names_stays_when_one_of_two_that_publish_it_goes(
    clouded: Plugin, cloud: Cloud, models: LocalModels, root: str, log: Engine
) -> None:
    """Programs of release 0.1.0 could have two repositories with one directory."""
    models.add("m", 1)
    models.add("m", 2)
    inputs = models.inputs("m", cloud.bucket, root)
    first, second, file = (Stack(clouded, kind) for kind in ("PublishedModel", "PublishedModel", "ModelConfigFile"))
    first.up(inputs)
    second.up(inputs | {"versions": {"1": inputs["versions"]["1"]}})
    listed = {"m": {"basePath": "/models/m", "platform": "tensorflow", "policy": {"specific": ["1", "2"]}}}
    file.up(config_file(cloud, root, owner=OWNER, initial=listed))
    there = cloud.keys(root)
    second.destroy()
    assert cloud.keys(root) == there
    assert any("m/1/ stays: oss://" in line and "model_config.pbtxt names it" in line for line in log.lines())
    assert first.refresh() == {}
    file.destroy()
    first.destroy()
    assert cloud.keys(root) == []


@pytest.mark.parametrize(
    ("owner", "path", "policy"),
    [
        ("tf-serving/other", "/models/m", "all"),
        (OWNER, "/models/team/m", "all"),
        (OWNER, "/models/n", "all"),
        (OWNER, "/models/m", {"specific": ["2"]}),
    ],
)
def test_a_config_file_that_names_something_else_keeps_no_version(
    owner: str, path: str, policy: Any, clouded: Plugin, cloud: Cloud, models: LocalModels, root: str
) -> None:
    models.add("m", 1)
    model, file = Stack(clouded, "PublishedModel"), Stack(clouded, "ModelConfigFile")
    model.up(models.inputs("m", cloud.bucket, root))
    listed = {"m": {"basePath": path, "platform": "tensorflow", "policy": policy}}
    file.up(config_file(cloud, root, owner=owner, initial=listed))
    model.destroy()
    assert cloud.keys(root) == [f"{root}model_config.pbtxt"]


def test_a_deleted_config_file_reads_as_gone_and_one_of_another_stack_is_not_deleted(
    clouded: Plugin, cloud: Cloud, root: str, log: Engine
) -> None:
    file = Stack(clouded, "ModelConfigFile")
    file.up(config_file(cloud, root))
    key = f"{root}model_config.pbtxt"
    cloud.put(key, "# theirs\nmodel_config_list {}")
    assert set(file.refresh()) == {"owner"}
    file.destroy()
    assert cloud.get(key).startswith("# theirs")
    assert any("left where it is" in line for line in log.lines())
    file.id = "x"
    cloud.delete(key)
    assert file.refresh() == {"gone": True}
