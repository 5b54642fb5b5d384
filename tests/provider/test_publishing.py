"""Publishing to a real OSS API: what is in the bucket when, what is sent twice, and what is in the way."""

from __future__ import annotations

import json
import re
import threading
from pathlib import Path

import grpc
import pytest
from google.protobuf import empty_pb2

from provider.values import UNKNOWN
from tests.provider.harness import OWNER, Cloud, Engine, Failed, LocalModels, Plugin, Stack, config, until

pytestmark = pytest.mark.slow

FILES = ["fingerprint.pb", "saved_model.pb", "variables/variables.data-00000-of-00001", "variables/variables.index"]


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


def test_a_preview_writes_nothing_and_knows_nothing_of_new_files(
    clouded: Plugin, cloud: Cloud, models: LocalModels, root: str, log: Engine
) -> None:
    models.add("m", 1)
    _, outputs = clouded.create("PublishedModel", models.inputs("m", cloud.bucket, root), preview=True)
    assert outputs["files"] == {"1": UNKNOWN}
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
    with pytest.raises(Failed, match="has changed since the preview"):
        clouded.create("PublishedModel", inputs)
    assert cloud.keys(root) == []


def test_an_interrupted_publication_is_invisible_and_continues_where_it_stopped(
    engine: tuple[Engine, str], clouded: Plugin, cloud: Cloud, models: LocalModels, root: str
) -> None:
    directory = models.add("m", 1)
    with open(directory / "assets" / "big.bin", "wb") as file:
        file.truncate(128 << 20)
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
    assert cloud.unfinished_parts(root) >= parts  # kept for the next run

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
    assert model.up(inputs) == "update"
    assert model.outputs["versions"] == inputs["versions"]
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
    assert cloud.get(f"{root}model_config.pbtxt") == written
    assert any("kept as it is" in line for line in log.lines())


def test_somebody_elses_config_file_is_refused_and_stays(clouded: Plugin, cloud: Cloud, root: str) -> None:
    cloud.put(f"{root}model_config.pbtxt", "model_config_list {}")
    with pytest.raises(Failed, match="was not made by this project") as failed:
        clouded.create("ModelConfigFile", config_file(cloud, root))
    assert failed.value.code is grpc.StatusCode.ALREADY_EXISTS
    assert cloud.get(f"{root}model_config.pbtxt") == "model_config_list {}"


def test_a_config_file_of_another_stack_is_refused_with_its_name(clouded: Plugin, cloud: Cloud, root: str) -> None:
    Stack(clouded, "ModelConfigFile").up(config_file(cloud, root))
    with pytest.raises(Failed, match="is managed by tf-serving/files, and tf-serving/other would overwrite it"):
        clouded.create("ModelConfigFile", config_file(cloud, root, owner="tf-serving/other"))


def test_a_renamed_stack_takes_its_file_along(clouded: Plugin, cloud: Cloud, root: str) -> None:
    file = Stack(clouded, "ModelConfigFile")
    file.up(config_file(cloud, root))
    body = cloud.get(f"{root}model_config.pbtxt").split("\n", 1)[1]
    assert file.up(config_file(cloud, root, owner="tf-serving/renamed")) == "update"
    head, kept = cloud.get(f"{root}model_config.pbtxt").split("\n", 1)
    assert "stack renamed" in head
    assert kept == body
    assert file.refresh() == {}


def test_a_deleted_config_file_reads_as_gone_and_a_strangers_is_not_deleted(
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
