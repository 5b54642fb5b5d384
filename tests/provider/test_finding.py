"""The provider's function that looks for versions: what is complete in a real OSS API, and why the rest is not."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pulumi.runtime.proto import provider_pb2

from provider.properties import decode, encode
from provider.publication import finding
from provider.publication.same_answer import Answers
from tests.provider.harness import OWNER, Cloud, Failed, LocalModels, Plugin, Stack
from tfserving import manifest
from tfserving.contract.found import (
    FIND_VERSIONS,
    FindVersionsArgs,
    FindVersionsResult,
    FoundDirectory,
    LeftOut,
    WantedDirectory,
)
from tfserving.property_values import UNKNOWN
from tfserving.protos import tf_serving_pb2 as pb

OTHER = "tf-serving/other"


@pytest.fixture
def root(request: pytest.FixtureRequest) -> str:
    """A key prefix for each test alone."""
    return f"{request.node.name}/"


def wanted(bucket: str, root: str, *directories: str) -> dict[str, WantedDirectory]:
    return {name: WantedDirectory(bucket=bucket, prefix=f"{root}{name}/") for name in directories or ("m",)}


def ask(plugin: Plugin, cloud: Cloud, root: str, *directories: str, bucket: str = "") -> FindVersionsResult:
    args = FindVersionsArgs(directories=wanted(bucket or cloud.bucket, root, *directories), owner=OWNER)
    request = provider_pb2.InvokeRequest(tok=FIND_VERSIONS, args=encode(args.write()))
    return FindVersionsResult.read(decode(getattr(plugin.call("Invoke", request), "return")))


def put(cloud: Cloud, root: str, version: Path, name: str, *, without: str = "none") -> None:
    """What a pipeline does: files, and nothing else."""
    for path in manifest.list_files(version):
        if without not in path:
            cloud.put(f"{root}m/{name}/{path}", (version / path).read_bytes())


@pytest.mark.slow
def test_what_a_pipeline_published_is_found_in_the_order_of_the_numbers(
    clouded: Plugin, cloud: Cloud, models: LocalModels, root: str
) -> None:
    version = models.add("m", 1)
    for name in ("10", "9", "20240115093000123"):
        put(cloud, root, version, name)
    found = ask(clouded, cloud, root, "m", "team-x/none")
    assert found.known
    assert found.directories["m"] == FoundDirectory(versions=("9", "10", "20240115093000123"))
    assert found.directories["team-x/none"] == FoundDirectory()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("without", "why"),
    [
        ("saved_model.pb", "has no saved_model.pb"),
        ("variables.index", "has variables, but no variables/variables.index"),
        ("variables.data", "has no variables/variables.data-* file"),
        ("variables", "has variables, but no variables/variables.index"),
    ],
)
def test_an_upload_that_goes_on_is_left_out_with_what_it_lacks(
    clouded: Plugin, cloud: Cloud, models: LocalModels, root: str, without: str, why: str
) -> None:
    put(cloud, root, models.add("m", 1), "1")
    put(cloud, root, models.directory / "m" / "1", "2", without=without)
    found = ask(clouded, cloud, root).directories["m"]
    assert found.versions == ("1",)
    [left] = found.left_out
    assert left.name == "2"
    assert left.why.startswith(why)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("007", "is read as version 7 by TensorFlow Serving, and a stack has plain numbers only: name it 7"),
        ("-1", "is a negative version: give it a higher number than the others"),
        ("+3", ""),
        ("temp-1569949999", "is an export that has not ended"),
        ("v3", "is no number, and TensorFlow Serving passes over it: name it 3"),
        ("latest", "holds a SavedModel and is no number, so that TensorFlow Serving passes over it"),
        ("9223372036854775808", "is too large for a version number"),
    ],
)
def test_directories_of_other_names_are_left_out_with_the_reason(
    clouded: Plugin, cloud: Cloud, models: LocalModels, root: str, name: str, why: str
) -> None:
    put(cloud, root, models.add("m", 1), name)
    found = ask(clouded, cloud, root).directories["m"]
    why = why or "holds a SavedModel and is no number, so that TensorFlow Serving passes over it"
    assert found == FoundDirectory(left_out=(LeftOut(name=name, why=why),))


@pytest.mark.slow
def test_a_file_with_the_name_of_a_version_is_left_out(
    clouded: Plugin, cloud: Cloud, models: LocalModels, root: str
) -> None:
    put(cloud, root, models.add("m", 1), "1")
    for name in ("11", "12.txt", "1.manifest"):
        cloud.put(f"{root}m/{name}", b"a file")
    why = "is a file, and TensorFlow Serving would try to load it as version 11: move it elsewhere"
    found = ask(clouded, cloud, root).directories["m"]
    assert found == FoundDirectory(versions=("1",), left_out=(LeftOut(name="11", why=why),))


@pytest.mark.slow
def test_a_file_that_cannot_be_what_its_name_says_is_left_out(
    clouded: Plugin, cloud: Cloud, models: LocalModels, root: str
) -> None:
    put(cloud, root, models.add("m", 1), "1")
    cloud.put(f"{root}m/1/saved_model.pb", b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a21\nsize 12\n")
    put(cloud, root, models.directory / "m" / "1", "2")
    cloud.put(f"{root}m/2/saved_model.pb", b"\x0a\xff\xff not a graph")
    [first, second] = ask(clouded, cloud, root).directories["m"].left_out
    assert "a Git LFS pointer" in first.why
    assert second.why == "has a saved_model.pb that cannot be parsed"


@pytest.mark.slow
def test_a_version_without_a_graph_that_the_services_load_is_left_out(
    clouded: Plugin, cloud: Cloud, models: LocalModels, root: str
) -> None:
    whole = models.add("m", 1)
    for name in ("1", "2", "3"):
        put(cloud, root, whole, name)
    graph = pb.SavedModel.FromString((whole / "saved_model.pb").read_bytes())
    graph.meta_graphs[0].meta_info_def.tags[:] = ["train"]
    cloud.put(f"{root}m/2/saved_model.pb", graph.SerializeToString())
    cloud.put(f"{root}m/3/saved_model.pb", pb.SavedModel(saved_model_schema_version=1).SerializeToString())

    def found(*tags: str) -> dict[str, str]:
        directory = WantedDirectory(bucket=cloud.bucket, prefix=f"{root}m/", tags=tags)
        args = FindVersionsArgs(directories={"m": directory}, owner=OWNER)
        return {each.name: each.why for each in finding.find(cloud.oss, args).directories["m"].left_out}

    lacks = "has no graph with the tag"
    assert found("serve") == {"2": f"{lacks} `serve` (train)", "3": f"{lacks} `serve` (no graph at all)"}
    assert found("train") == {"1": f"{lacks} `train` (serve)", "3": f"{lacks} `train` (no graph at all)"}
    assert found("serve", "train").keys() == {"1", "2", "3"}
    assert ask(clouded, cloud, root).directories["m"].versions == ("1",)


@pytest.mark.slow
def test_versions_of_stacks_are_found_with_their_publisher(
    clouded: Plugin, cloud: Cloud, models: LocalModels, root: str
) -> None:
    models.add("m", 1)
    Stack(clouded, "PublishedModel").up(models.inputs("m", cloud.bucket, root))
    models.add("m", 2)
    both = models.inputs("m", cloud.bucket, root)
    theirs = {**both, "owner": OTHER, "versions": {"2": both["versions"]["2"]}}
    Stack(clouded, "PublishedModel").up(theirs)
    assert ask(clouded, cloud, root).directories["m"] == FoundDirectory(versions=("1", "2"), own=("1",))
    cloud.delete(f"{root}m/2/variables/variables.index")
    found = ask(clouded, cloud, root).directories["m"]
    assert found.versions == ("1",)
    assert found.left_out == (
        LeftOut(name="2", why="is not what its manifest says: missing variables/variables.index"),
    )


@pytest.mark.slow
def test_what_another_stack_is_publishing_right_now_is_left_out(
    clouded: Plugin, cloud: Cloud, models: LocalModels, root: str
) -> None:
    version = models.add("m", 4, 1)
    put(cloud, root, version, "4")
    stored = manifest.build(version)
    for owner, whose in ((OTHER, OTHER), (OWNER, "this stack, in a run that has not ended")):
        text = manifest.Manifest(stored.files, owner, "").to_json()
        cloud.put(f"{root}m/.staging-4/manifest.json", text)
        found = ask(clouded, cloud, root).directories["m"]
        assert found == FoundDirectory(left_out=(LeftOut(name="4", why=f"is being published by {whose}"),))


@pytest.mark.slow
def test_the_next_look_lists_and_reads_nothing_else_until_another_release_judges(
    cloud: Cloud, models: LocalModels, root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    class Spy:
        def __getattr__(self, name: str) -> Any:
            method = getattr(cloud.oss, name)
            return lambda request, **options: calls.append(name) or method(request, **options)

    for number in ("1", "2"):
        put(cloud, root, models.add("m", int(number)), number)
    args = FindVersionsArgs(directories=wanted(cloud.bucket, root), owner=OWNER)
    first = finding.find(Spy(), args)
    assert len(calls) > 1
    calls.clear()
    assert finding.find(Spy(), args) == first
    assert calls == ["list_objects_v2"]
    monkeypatch.setattr(finding, "VERSION", "another")
    finding.find(Spy(), args)
    assert "get_object" in calls
    cloud.put(f"{root}m/2/saved_model.pb", b"changed")
    assert finding.find(Spy(), args).directories["m"].versions == ("1",)


@pytest.mark.slow
def test_a_bucket_that_is_not_there_holds_nothing(clouded: Plugin, cloud: Cloud) -> None:
    found = ask(clouded, cloud, "", bucket="no-such-bucket")
    assert found == FindVersionsResult(directories={"m": FoundDirectory(exists=False)})


@pytest.mark.slow
def test_a_bucket_that_is_not_there_says_nothing_about_another_one(
    clouded: Plugin, cloud: Cloud, models: LocalModels, root: str
) -> None:
    put(cloud, root, models.add("m", 1), "1")
    directories = {**wanted(cloud.bucket, root, "m"), **wanted("no-such-bucket", root, "n")}
    args = FindVersionsArgs(directories=directories, owner=OWNER)
    answer = clouded.call("Invoke", provider_pb2.InvokeRequest(tok=FIND_VERSIONS, args=encode(args.write())))
    found = FindVersionsResult.read(decode(getattr(answer, "return"))).directories
    assert found == {"m": FoundDirectory(versions=("1",)), "n": FoundDirectory(exists=False)}


@pytest.mark.parametrize("bucket", [UNKNOWN, None])
def test_a_bucket_that_nobody_knows_yet_is_not_asked_for(plugin: Plugin, bucket: Any) -> None:
    directory = {"prefix": "m/", **({"bucket": bucket} if bucket is not None else {})}
    args = {"directories": {"m": directory}, "owner": OWNER}
    answer = plugin.call("Invoke", provider_pb2.InvokeRequest(tok=FIND_VERSIONS, args=encode(args)))
    found = FindVersionsResult.read(decode(getattr(answer, "return")))
    assert found == FindVersionsResult(directories={"m": FoundDirectory(known=False)})


@pytest.mark.slow
@pytest.mark.parametrize("bucket", [UNKNOWN, None])
def test_a_bucket_that_nobody_knows_yet_says_nothing_about_another_one(
    clouded: Plugin, cloud: Cloud, models: LocalModels, root: str, bucket: Any
) -> None:
    put(cloud, root, models.add("m", 1), "1")
    directories = {name: each.write() for name, each in wanted(cloud.bucket, root, "m", "empty").items()}
    directories["n"] = {"prefix": "n/", **({"bucket": bucket} if bucket is not None else {})}
    args = {"directories": directories, "owner": OWNER}
    answer = clouded.call("Invoke", provider_pb2.InvokeRequest(tok=FIND_VERSIONS, args=encode(args)))
    assert FindVersionsResult.read(decode(getattr(answer, "return"))).directories == {
        "m": FoundDirectory(versions=("1",)),
        "empty": FoundDirectory(),
        "n": FoundDirectory(known=False),
    }


def test_an_endpoint_that_does_not_answer_is_an_error_and_never_an_empty_bucket(plugin: Plugin) -> None:
    args = FindVersionsArgs(directories=wanted("examplebucket", ""), owner=OWNER)
    with pytest.raises(Failed, match="FAILED_PRECONDITION"):
        plugin.call("Invoke", provider_pb2.InvokeRequest(tok=FIND_VERSIONS, args=encode(args.write())))


class Linking:
    """The client of a bucket in which some objects are symbolic links, which the sandbox does not know."""

    def __init__(self, client: Any, *links: str) -> None:
        self._client, self._links = client, links

    def list_objects_v2(self, request: Any) -> Any:
        found = self._client.list_objects_v2(request)
        for item in found.contents or ():
            item.object_type = "Symlink" if item.key.endswith(self._links) else item.object_type
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


@pytest.mark.slow
def test_a_version_of_symbolic_links_of_oss_is_left_out_until_it_holds_the_files(
    cloud: Cloud, models: LocalModels, root: str
) -> None:
    for name in ("1", "2"):
        put(cloud, root, models.directory / "m" / "1" if name == "2" else models.add("m", 1), name)
    args = FindVersionsArgs(directories=wanted(cloud.bucket, root, "m"), owner=OWNER)
    found = finding.find(Linking(cloud.oss, "2/saved_model.pb"), args).directories["m"]
    assert found.versions == ("1",)
    [left] = found.left_out
    assert left.name == "2"
    assert left.why.startswith("holds symbolic links of OSS (saved_model.pb), and nobody knows")
    assert finding.find(cloud.oss, args).directories["m"].versions == ("1", "2")


# ---- preview and update go by one answer

FOUND = FindVersionsResult(directories={"m": FoundDirectory(versions=("1",), own=("1",))})
NO_BUCKET = FindVersionsResult(directories={"m": FoundDirectory(exists=False)})
LATER = FindVersionsResult(directories={"m": FoundDirectory(versions=("1", "2"))})


def asked(*, preview: bool, directories: tuple[str, ...] = ("m",), bucket: str = "b") -> FindVersionsArgs:
    return FindVersionsArgs(directories=wanted(bucket, "r/", *directories), owner=OWNER, preview=preview)


def says(result: FindVersionsResult) -> Callable[[FindVersionsArgs], FindVersionsResult]:
    return lambda args: result


def test_an_update_goes_by_what_the_preview_of_the_same_command_found(tmp_path: Path) -> None:
    assert Answers("12 345", tmp_path).find(asked(preview=True), says(FOUND)) == FOUND
    update = Answers("12 345", tmp_path)
    assert update.find(asked(preview=False), says(LATER)) == FOUND
    assert update.find(asked(preview=False), says(LATER)) == FOUND  # every component of one run
    assert Answers("12 345", tmp_path).find(asked(preview=False), says(LATER)) == LATER  # an update of its own


def test_a_bucket_that_the_preview_did_not_find_is_empty_for_its_update(tmp_path: Path) -> None:
    Answers("12 345", tmp_path).find(asked(preview=True), says(NO_BUCKET))
    assert Answers("12 345", tmp_path).find(asked(preview=False), says(LATER)) == NO_BUCKET


def test_the_last_preview_counts(tmp_path: Path) -> None:
    Answers("12 345", tmp_path).find(asked(preview=True), says(FOUND))
    Answers("12 345", tmp_path).find(asked(preview=True), says(LATER))
    assert Answers("12 345", tmp_path).find(asked(preview=False), says(FOUND)) == LATER


@pytest.mark.parametrize(
    ("engine", "args"),
    [
        ("12 346", asked(preview=False)),
        ("12 345", asked(preview=False, bucket="another")),
        ("12 345", asked(preview=False, directories=("m", "n"))),
    ],
)
def test_another_command_or_another_question_looks_for_itself(
    tmp_path: Path, engine: str, args: FindVersionsArgs
) -> None:
    Answers("12 345", tmp_path).find(asked(preview=True), says(FOUND))
    assert Answers(engine, tmp_path).find(args, says(LATER)) == LATER


def test_a_preview_of_yesterday_is_forgotten(tmp_path: Path) -> None:
    Answers("12 345", tmp_path).find(asked(preview=True), says(FOUND))
    [file] = (tmp_path / "previews").iterdir()
    old = time.time() - 25 * 3600
    os.utime(file, (old, old))
    assert Answers("12 345", tmp_path).find(asked(preview=False), says(LATER)) == LATER
    Answers("other", tmp_path).find(asked(preview=True), says(FOUND))
    assert file not in set((tmp_path / "previews").iterdir())


@pytest.mark.parametrize("text", ["", "[]", "{", json.dumps({"a": 1}), "null"])
def test_a_damaged_file_counts_as_none(tmp_path: Path, text: str) -> None:
    Answers("12 345", tmp_path).find(asked(preview=True), says(FOUND))
    [file] = (tmp_path / "previews").iterdir()
    file.write_text(text)
    assert Answers("12 345", tmp_path).find(asked(preview=False), says(LATER)) == LATER
    (tmp_path / "versions.json").write_text(text)
    assert finding.Verdicts(tmp_path / "versions.json").get("a") is None


def test_without_a_place_to_keep_it_the_update_looks_anew(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    for directory in (None, blocked):
        Answers("12 345", directory).find(asked(preview=True), says(FOUND))
        assert Answers("12 345", directory).find(asked(preview=False), says(LATER)) == LATER
