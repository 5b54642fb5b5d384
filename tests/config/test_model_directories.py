"""What lies in a model directory: versions, what TensorFlow Serving passes over, exports that go on, placeholders."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from config import model_files
from config.stack import parse
from tests.unit import flat_buffer
from tfserving.errors import ConfigError
from tfserving.manifest import HashCache
from tfserving.protos import tf_serving_pb2 as pb

Change = Callable[[dict[str, Any]], dict[str, Any]]
Publish = Callable[..., Path]


def problems(config: dict[str, Any], project: Path) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(config, project)
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("temp-1569949999", "directory temp-1569949999 is an export that has not ended, and is ignored"),
        ("temp-backup", "directory temp-backup is no version (not a number) and is ignored"),
        ("v3", "directory v3 is no version (not a number) and is ignored"),
        ("eval", "directory eval is no version"),
        ("lost+found", "directory lost+found is no version"),
        ("1.5", "directory 1.5 is no version"),
        ("+3", "directory +3 is no version"),
        ("9223372036854775808", "9223372036854775808 is too large for a version number and is ignored"),
        ("__MACOSX", "__MACOSX in modelA is ignored"),
        (".ipynb_checkpoints", ".ipynb_checkpoints in modelA is ignored"),
        (".git", ""),
        (".staging", ""),
    ],
)
def test_a_directory_that_tensorflow_serving_passes_over_is_passed_over_with_a_warning(
    good: dict[str, Any], project: Path, name: str, words: str
) -> None:
    # modelA serves all versions: what is no version is not one of them.
    (project / "models" / "modelA" / name / "variables").mkdir(parents=True)
    settings = parse(good, project)
    assert settings.published["modelA"] == (1,)
    assert any(words in warning for warning in settings.warnings) or not words
    assert not any("rename" in warning for warning in settings.warnings)


def test_a_link_beside_the_versions_is_passed_over_and_one_with_a_number_is_a_version(
    good: dict[str, Any], project: Path, publish: Publish
) -> None:
    model = project / "models" / "modelA"
    (model / "latest").symlink_to("1")
    (model / "current.pb").symlink_to("1/saved_model.pb")
    publish(project / "elsewhere", "exported")
    (model / "2").symlink_to(project / "elsewhere" / "exported")
    settings = parse(good, project)
    assert settings.published["modelA"] == (1, 2)
    assert {"link latest is no version", "link current.pb is no version"} <= {
        warning.removeprefix("model modelA: ").partition(" (")[0] for warning in settings.warnings
    }


def _half_written(model: Path, publish: Publish) -> None:
    """An export that goes on: its variables are not there yet."""
    version = publish(model, 9)
    (version / "variables").mkdir()
    (version / "variables" / "variables.data-00000-of-00001").write_bytes(b"x")


HALF_WRITTEN: dict[str, Callable[[Path, Publish], object]] = {
    "without an index": lambda model, publish: _half_written(model, publish),
    "without a graph": lambda model, publish: (model / "9").mkdir(),
    "with a cut graph": lambda model, publish: os.truncate(publish(model, 9) / "saved_model.pb", 100),
    "an empty graph": lambda model, publish: (publish(model, 9) / "saved_model.pb").write_bytes(b""),
    "a file": lambda model, publish: (model / "9").write_text("x", encoding="utf-8"),
    "a link to nothing": lambda model, publish: (model / "9").symlink_to("gone"),
    "two of one number": lambda model, publish: (publish(model, 9), publish(model, "09")),
    "a negative one": lambda model, publish: (model / "-1").mkdir(),
}


@pytest.mark.parametrize("spoil", HALF_WRITTEN.values(), ids=HALF_WRITTEN)
def test_a_broken_version_that_nobody_asks_for_is_left_out_with_a_warning(
    good: dict[str, Any], project: Path, publish: Publish, spoil: Callable[[Path, Publish], object]
) -> None:
    spoil(project / "models" / "modelB", publish)  # which serves 1 and 2
    settings = parse(good, project)
    assert settings.published["modelB"] == (1, 2)
    assert any("nothing asks for this version, and it is left out" in warning for warning in settings.warnings)
    assert model_files.sources(settings, HashCache())
    assert model_files.memory_warnings(settings) == []


@pytest.mark.parametrize(
    "asks",
    [
        {"policy": "all"},
        {"policy": {"latest": 1}},
        {},
        {"policy": {"latest": 3}, "labels": {"stable": 2}},
        {"policy": {"specific": [1, 2, 9]}},
        {"policy": {"specific": [1, 2]}, "labels": {"next": 9}},
        {"policy": {"specific": [1, 2]}, "source": "models/modelB", "versions": [1, 2, 9]},
    ],
)
def test_a_broken_version_that_somebody_asks_for_is_a_problem(
    good: dict[str, Any], project: Path, publish: Publish, asks: dict[str, Any]
) -> None:
    _half_written(project / "models" / "modelB", publish)
    good["tf-serving:models"]["modelB"] = asks
    found = problems(good, project)
    assert any("modelB/9 has variables, but no variables/variables.index" in text for text in found)


def test_versions_beside_a_local_source_say_which_are_published(
    changed: Change, project: Path, publish: Publish
) -> None:
    _half_written(project / "models" / "modelC", publish)
    config = changed({"tf-serving:models.modelC": {"source": "models/modelC", "versions": [1, 3]}})
    settings = parse(config, project)
    assert settings.published["modelC"] == (1, 3)
    assert not any("modelC" in warning for warning in settings.warnings)
    (source,) = [found for found in model_files.sources(settings, HashCache()) if found.name == "modelC"]
    assert sorted(source.versions) == ["1", "3"]
    config["tf-serving:models"]["modelC"]["versions"] = [1, 7]
    (message,) = problems(config, project)
    assert message.startswith("tf-serving:models.modelC.versions: version 7 is not in models/modelC. Allowed: 1, 2, 3")


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935\nsize 12345\n"


@pytest.mark.parametrize(
    ("file", "content", "fix"),
    [
        ("saved_model.pb", POINTER, "git lfs pull"),
        ("assets/vocab.txt", POINTER, "git lfs pull"),
        ("variables/variables.data-00000-of-00001", POINTER, "git lfs pull"),
        ("saved_model.pb", b"/annex/objects/SHA256E-s3--4d7a", "git annex get"),
        ("saved_model.pb", b"\0GITCRYPT\0\1\2", "git-crypt unlock"),
        (".saved_model.pb.icloud", b"bplist00", "download it"),
        ("variables.dvc", b"outs:\n- md5: 1", "dvc pull"),
    ],
)
def test_a_placeholder_is_refused_with_the_command_that_gets_the_content(
    good: dict[str, Any], project: Path, file: str, content: bytes, fix: str
) -> None:
    path = project / "models" / "modelA" / "1" / file
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    (message,) = problems(good, project)
    assert message.startswith("tf-serving:models.modelA: modelA/1 has ")
    assert f"Fix: {fix}" in message


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("saved_model.pbtxt", "saved_model.pbtxt is not a SavedModel (it cannot be parsed)"),
        ("saved_model.pbtxt.gz", "only saved_model.pbtxt.gz: unpack it"),
        (
            "model.keras",
            "has no saved_model.pb; model.keras is not read by TensorFlow Serving: model.export(...) writes",
        ),
        ("weights.h5", "weights.h5 is not read by TensorFlow Serving: load it in Keras"),
        ("model.tflite", "has a model.tflite that is no model of TensorFlow Lite"),
        ("other.tflite", "other.tflite is not read by TensorFlow Serving"),
        ("export.zip", "export.zip is not read by TensorFlow Serving: unpack it"),
        ("saved_model.pb.gz", "has no saved_model.pb, only saved_model.pb.gz: unpack it, or let its transfer end"),
        ("saved_model.pb.part", "only saved_model.pb.part"),
        (".saved_model.pb.Xa3f1", "only .saved_model.pb.Xa3f1"),
        ("._saved_model.pb", "has no saved_model.pb."),
        ("notes.txt", "has no saved_model.pb."),
    ],
)
def test_what_is_there_in_place_of_a_graph_is_told(good: dict[str, Any], project: Path, file: str, words: str) -> None:
    version = project / "models" / "modelA" / "1"
    (version / "saved_model.pb").rename(version / file)
    (message,) = problems(good, project)
    assert words in message


@pytest.mark.parametrize("pointer", ["modelA.dvc", "modelA/1.dvc"])
def test_a_model_that_dvc_has_not_fetched_is_told_with_its_command(
    good: dict[str, Any], project: Path, pointer: str
) -> None:
    shutil.rmtree(project / "models" / "modelA")
    (project / "models" / pointer).parent.mkdir(exist_ok=True)
    (project / "models" / pointer).write_text("outs:\n- md5: 1.dir\n  path: 1\n")
    (message,) = problems(good, project)
    assert "dvc pull" in message


@pytest.mark.parametrize(
    ("tags", "flag", "wrong"),
    [
        (("serve",), None, ""),
        (("serve", "gpu"), "serve,gpu", ""),
        (("serve", "gpu"), "gpu, serve", ""),
        (("serve", "gpu"), None, "tf-serving:models.modelA"),
        (("serve",), "serve,gpu", "tf-serving:services.multi_http.flags.saved_model_tags"),
        (("train",), None, "tf-serving:models.modelA"),
    ],
)
def test_every_service_needs_a_graph_with_exactly_its_tags(
    good: dict[str, Any], project: Path, tags: tuple[str, ...], flag: str | None, wrong: str
) -> None:
    for file in (project / "models").glob("modelA/*/saved_model.pb"):
        saved = pb.SavedModel.FromString(file.read_bytes())
        del saved.meta_graphs[0].meta_info_def.tags[:]
        saved.meta_graphs[0].meta_info_def.tags.extend(tags)
        file.write_bytes(saved.SerializeToString())
    good["tf-serving:models"] = {"modelA": {}}
    http = dict(good["tf-serving:services"]["multi_http"])
    if flag is not None:
        http["flags"] = {**http.get("flags", {}), "saved_model_tags": flag}
    good["tf-serving:services"] = {"multi_http": http}
    if wrong:
        assert any(wrong in text for text in problems(good, project))
    else:
        cache = HashCache()
        settings = parse(good, project, cache=cache)
        assert model_files.signatures(settings, cache)["modelA"]


def test_a_model_that_no_service_loads_needs_the_graph_that_is_loaded_by_default(
    good: dict[str, Any], project: Path
) -> None:
    for file in (project / "models").glob("modelC/*/saved_model.pb"):
        saved = pb.SavedModel.FromString(file.read_bytes())
        del saved.meta_graphs[0].meta_info_def.tags[:]
        file.write_bytes(saved.SerializeToString())
    assert any("tf-serving:models.modelC" in text for text in problems(good, project))


@pytest.mark.parametrize(("name", "fix"), [("v9", "rename it to 9"), ("V-009", "rename it to 9"), ("v1", "there is 1")])
def test_a_whole_version_under_a_name_that_only_people_read_as_a_number_is_told(
    good: dict[str, Any], project: Path, publish: Publish, name: str, fix: str
) -> None:
    (publish(project / "models" / "modelA", 99)).rename(project / "models" / "modelA" / name)
    assert any(fix in text and text.startswith("tf-serving:models.modelA") for text in problems(good, project))


def test_a_second_preview_opens_no_file_of_a_model(good: dict[str, Any], project: Path, tmp_path: Path) -> None:
    old = time.time_ns() - 60 * 10**9 - 1
    for file in (project / "models").rglob("*"):
        if file.is_file():
            os.utime(file, ns=(old, old))
    opened: list[str] = []
    listening = False

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if listening and event == "open" and str(arguments[0]).startswith(str(project / "models")):
            opened.append(str(arguments[0]))

    sys.addaudithook(hook)
    with HashCache(tmp_path / "cache.json") as cache:
        listening = True
        parse(good, project, cache=cache)
        assert any(name.endswith("saved_model.pb") for name in opened)
        opened.clear()
    with HashCache(tmp_path / "cache.json") as cache:
        parse(good, project, cache=cache)
        listening = False
    assert opened == []


# ---- model.tflite


LITE = flat_buffer.model(
    [flat_buffer.tensor("image", [1, 28], open_shape=[-1, 28])], [flat_buffer.tensor("scores", [1, 10])]
)


def only_tflite(version: Path) -> None:
    (version / "saved_model.pb").unlink()
    (version / "model.tflite").write_bytes(LITE)


def with_flag(config: dict[str, Any], *services: str) -> dict[str, Any]:
    for name in services:
        config["tf-serving:services"][name].setdefault("flags", {})["prefer_tflite_model"] = True
    return config


def test_a_version_that_holds_a_tflite_model_alone_needs_the_flag_on_every_service(
    good: dict[str, Any], project: Path
) -> None:
    only_tflite(project / "models" / "modelB" / "2")
    readers = [name for name, each in good["tf-serving:services"].items() if each.get("configFile")]
    custom = [name for name in readers if good["tf-serving:services"][name]["deployment"] == "custom"]
    scenario = [name for name in readers if name not in custom]
    for name in scenario:
        del good["tf-serving:services"][name]
    [problem] = problems(with_flag(good, *custom[1:]), project)
    assert problem.startswith(f"tf-serving:services.{custom[0]}.flags.prefer_tflite_model: ")
    assert "version 2 holds model.tflite alone of model modelB" in problem
    settings = parse(with_flag(good, *custom), project)
    [model] = [each for each in settings.models if each.name == "modelB"]
    assert model.tflite
    assert model.versions == (1, 2)
    files = model_files.read(settings, HashCache())
    assert set(files.signatures["modelB"]) == {1, 2}
    assert str(files.signatures["modelB"][2]["serving_default"].inputs["image"]) == "float32[?, 28]"
    assert any("modelB" in warning and "signature" in warning for warning in files.warnings), files.warnings
    assert next(each.tflite for each in files.sources if each.name == "modelB")


def test_with_the_flag_a_graph_beside_a_tflite_model_is_not_what_is_served(good: dict[str, Any], project: Path) -> None:
    (project / "models" / "modelB" / "2" / "model.tflite").write_bytes(LITE)

    def inputs() -> list[str]:
        known = model_files.read(parse(good, project), HashCache()).signatures["modelB"]
        return [",".join(known[number]["serving_default"].inputs) for number in (1, 2)]

    before = inputs()
    assert before[1] != "image"
    custom = [name for name, each in good["tf-serving:services"].items() if each["deployment"] == "custom"]
    for name in [each for each in good["tf-serving:services"] if each not in custom]:
        del good["tf-serving:services"][name]
    with_flag(good, *custom)
    assert inputs() == [before[0], "image"]


def test_a_tflite_model_that_is_cut_off_is_refused(good: dict[str, Any], project: Path) -> None:
    only_tflite(project / "models" / "modelB" / "2")
    (project / "models" / "modelB" / "2" / "model.tflite").write_bytes(LITE[:80])
    told = problems(good, project)
    assert any("modelB/2 has a model.tflite that is damaged, or cut off" in each for each in told)
