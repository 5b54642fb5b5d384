"""A training pipeline publishes into a bucket; a stack goes by what is complete there, and no commit names a version.

The tests run in order and share what is deployed.
"""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import alibabacloud_oss_v2 as oss
import pytest

from tests.e2e.checkout import BODY, Checkout, post

pytestmark = pytest.mark.slow

BUCKET = "pipeline-bucket"
ROOT = "serving/"
SERVICE: dict[str, Any] = {
    "deployment": "custom",
    "image": "tensorflow-serving:2.14.1",
    "configFile": True,
    "configPollSeconds": 1,
    "allowLabelsForUnavailableVersions": True,
    "flags": {"file_system_poll_wait_seconds": 1},
}


@pytest.fixture(scope="module")
def pipeline(prepared: Checkout) -> Iterator[Checkout]:
    prepared.succeed("cloud", "start")
    prepared.oss().put_bucket(oss.PutBucketRequest(BUCKET, acl="private"))
    document = prepared.config()
    config = document["config"]
    for key in ("modelSource", "manifests", "models", "services", "traffic", "serviceDefaults"):
        config.pop(f"tf-serving:{key}", None)
    config |= {
        "tf-serving:bucket": {"name": BUCKET, "existing": True},
        "tf-serving:modelRoot": ROOT,
        "tf-serving:models": {"shoes": {"versions": {"from": "bucket"}}},
        "tf-serving:services": {"feet": SERVICE},
    }
    prepared.write(document)
    yield prepared
    prepared.run("destroy", "--yes")
    prepared.run("cloud", "stop")


def files_of(checkout: Checkout, version: int) -> dict[str, Path]:
    """The files of an example version, by path below it."""
    found = checkout.root / ".sandbox" / "models" / "modelB" / str(version)
    return {str(file.relative_to(found)): file for file in sorted(found.rglob("*")) if file.is_file()}


def publish(checkout: Checkout, name: str, of: int = 1, *, without: str = "none") -> None:
    """What the pipeline does: it copies files, and knows nothing of this project."""
    for path, file in files_of(checkout, of).items():
        if without not in path:
            request = oss.PutObjectRequest(BUCKET, f"{ROOT}shoes/{name}/{path}", body=file.read_bytes())
            checkout.oss().put_object(request)


def keys_of(checkout: Checkout, model: str = "shoes") -> set[str]:
    listed = checkout.oss().list_objects_v2(oss.ListObjectsV2Request(BUCKET, prefix=f"{ROOT}{model}/", max_keys=1000))
    return {item.key for item in listed.contents or ()}


def served(checkout: Checkout) -> list[int]:
    found: list[int] = checkout.service("feet")["models"]["shoes"]["versions"]
    return found


def test_a_model_without_a_version_in_the_bucket_is_refused_with_what_is_there(pipeline: Checkout) -> None:
    publish(pipeline, "1", without="variables.index")
    publish(pipeline, "007")
    found = pipeline.run("preview")
    assert found.code != 0
    assert "tf-serving:models.shoes.versions: no complete version is in directory shoes of the bucket" in found.text
    assert "1 has variables, but no variables/variables.index" in found.text
    assert "007 is read as version 7 by TensorFlow Serving" in found.text
    assert "Traceback" not in found.text


def test_what_is_complete_is_served_and_what_is_not_is_left_out_with_the_reason(pipeline: Checkout) -> None:
    publish(pipeline, "1")
    publish(pipeline, "2", 2, without="variables.data")
    found = pipeline.succeed("up", "--yes")
    assert "versions in the bucket: shoes 1" in found
    assert "model shoes: shoes/2 has no variables/variables.data-* file; it is left out" in found
    assert "model shoes: shoes/007 is read as version 7" in found
    assert served(pipeline) == [1]
    again = pipeline.succeed("preview", "--expect-no-changes")
    assert "versions in the bucket: shoes 1" in again


def test_a_new_version_is_named_by_drift_and_served_by_the_next_update_alone(pipeline: Checkout) -> None:
    publish(pipeline, "2", 2)
    found = pipeline.run("drift", "--format", "json", module="ops")
    assert found.code == 7, found.text
    report = json.loads(found.text)
    assert {each["kind"] for each in report["findings"]} == {"bucket"}, report
    assert any(each["text"].startswith("shoes: + version 2") for each in report["findings"]), report
    assert served(pipeline) == [1]
    done = pipeline.succeed("up", "--yes")
    assert "shoes: + version 2" in done
    assert served(pipeline) == [2]
    assert pipeline.run("drift", module="ops").code == 0


def test_a_label_names_a_version_that_was_found(pipeline: Checkout) -> None:
    pipeline.set({"versions": {"from": "bucket"}, "policy": {"latest": 2}, "labels": {"stable": 9}}, *_SHOES)
    found = pipeline.run("preview")
    assert found.code != 0
    assert "label 'stable'" in found.text or "labels.stable" in found.text
    assert "1, 2" in found.text
    pipeline.set({"versions": {"from": "bucket"}, "policy": {"latest": 2}, "labels": {"stable": 1}}, *_SHOES)
    pipeline.succeed("up", "--yes")
    assert served(pipeline) == [1, 2]


def test_what_appears_between_preview_and_update_waits_for_the_next_update(pipeline: Checkout) -> None:
    pipeline.set({"stable": 2}, *_SHOES, "labels")
    master, terminal = pty.openpty()  # the command asks only where there is a terminal
    asking = subprocess.Popen(
        [sys.executable, "-u", "-m", "sandbox", "up"],
        cwd=pipeline.root,
        env={**os.environ, "PYTHONPATH": str(pipeline.root)},
        stdin=terminal,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert asking.stdout is not None
    seen = ""
    while "label stable 1 -> 2" not in seen:
        line = asking.stdout.readline()
        assert line, seen
        seen += line
    publish(pipeline, "3")
    os.write(master, b"yes\n")
    rest, _ = asking.communicate(timeout=300)
    os.close(master)
    os.close(terminal)
    assert asking.returncode == 0, seen + rest
    assert "version 3" not in rest
    assert served(pipeline) == [1, 2]
    assert "shoes: + version 3" in pipeline.succeed("preview")


def test_keep_lets_go_of_what_is_low_and_files_of_others_stay(pipeline: Checkout) -> None:
    pipeline.set({"versions": {"from": "bucket"}, "policy": "all", "keep": 2}, *_SHOES)
    before = keys_of(pipeline)
    done = pipeline.succeed("up", "--yes")
    assert "shoes: - version 1 (" in done
    assert "): its files stay, others published it" in done
    assert served(pipeline) == [2, 3]
    assert keys_of(pipeline) == before


def as_snapshot(version: Path, to: Path) -> None:
    """The version in a hub's cache, and a link to it."""
    cache = to.parent / "models--team--hats"
    (cache / "blobs").mkdir(parents=True)
    for number, file in enumerate(sorted(each for each in version.rglob("*") if each.is_file())):
        name = cache / "snapshots" / "0f" / file.relative_to(version)
        name.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, cache / "blobs" / str(number))
        name.symlink_to(os.path.relpath(cache / "blobs" / str(number), name.parent))
    to.symlink_to(cache / "snapshots" / "0f")


def as_text(version: Path, to: Path) -> None:
    """The version with its graph in text form."""
    shutil.copytree(version, to)
    script = """
import pathlib, sys
from google.protobuf import text_format
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel
graph = pathlib.Path(sys.argv[1], "saved_model.pb")
text = text_format.MessageToString(SavedModel.FromString(graph.read_bytes()))
graph.with_suffix(".pbtxt").write_text(text)
graph.unlink()
"""
    subprocess.run([sys.executable, "-c", script, str(to)], check=True, capture_output=True)


def test_keep_holds_what_this_stack_published_when_the_source_has_the_newest_only(pipeline: Checkout) -> None:
    source = pipeline.root / "exports"
    pipeline.set({"source": "exports", "keep": 2, "policy": "all"}, "tf-serving:models", "hats")
    published: list[set[str]] = []
    for number, write in ((1, shutil.copytree), (2, as_snapshot), (3, as_text)):
        shutil.rmtree(source, ignore_errors=True)
        write(pipeline.root / ".sandbox" / "models" / "modelB" / "1", source / str(number))
        done = pipeline.succeed("up", "--yes")
        published.append({key.split("/")[2] for key in keys_of(pipeline, "hats") if "/saved_model.pb" in key})
        feet = pipeline.service("feet")
        status, answer = post(f"{feet['url']}/v1/models/hats/versions/{number}:predict", feet["token"], BODY)
        assert status == 200, answer
    assert published == [{"1"}, {"1", "2"}, {"2", "3"}]
    assert "hats: - version 1 (" in done
    assert "hats: version 1 removed from the bucket" in done
    pipeline.succeed("preview", "--expect-no-changes")


def test_destroy_leaves_the_files_of_others(pipeline: Checkout) -> None:
    before = keys_of(pipeline)
    assert before
    pipeline.succeed("destroy", "--yes")
    assert keys_of(pipeline) == before


_SHOES = ("tf-serving:models", "shoes")
