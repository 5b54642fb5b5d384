"""Manifests that are written to be committed."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops.__main__ import main
from tfserving import manifest
from tfserving.protos import tf_serving_pb2 as pb

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935\nsize 12345\n"


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    for number in (1, 2):
        add(tmp_path / "exports" / "modelB", number)
    return tmp_path / "exports" / "modelB"


def add(model: Path, number: int) -> None:
    graph = pb.MetaGraphDef()
    graph.meta_info_def.tags.append("serve")
    (model / str(number)).mkdir(parents=True)
    content = pb.SavedModel(saved_model_schema_version=number, meta_graphs=[graph]).SerializeToString()
    (model / str(number) / "saved_model.pb").write_bytes(content)


def run(model: Path, tmp_path: Path) -> int:
    return main(["manifest", str(model), "--to", str(tmp_path / "manifests")])


def test_every_version_gets_a_manifest_and_known_ones_stay(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(model, tmp_path) == 0
    first = manifest.load_all(tmp_path / "manifests" / "modelB")
    assert first == {number: manifest.build(model / str(number)) for number in (1, 2)}
    add(model, 3)
    assert run(model, tmp_path) == 0
    assert [line.split(": ")[1].split(",")[0] for line in capsys.readouterr().out.splitlines()[-3:]] == [
        "unchanged",
        "unchanged",
        "written",
    ]
    assert list(manifest.load_all(tmp_path / "manifests" / "modelB")) == [1, 2, 3]


@pytest.mark.parametrize(
    ("path", "content", "words"),
    [
        ("saved_model.pb", POINTER, "modelB/2 has saved_model.pb, which is a Git LFS pointer. Fix: git lfs pull"),
        ("saved_model.pb", b"<html>Sign in", "a web page"),
        ("assets/vocab.txt", POINTER, "a Git LFS pointer"),
        ("assets/.vocab.txt.icloud", b"bplist00", "only a placeholder of iCloud"),
        ("variables/variables.index", b"cut", "has a damaged variables/variables.index"),
    ],
)
def test_a_version_whose_files_are_not_what_their_names_say_gets_no_manifest(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], path: str, content: bytes, words: str
) -> None:
    file = model / "2" / path
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(content)
    if path.startswith("variables/"):
        (file.parent / "variables.data-00000-of-00001").write_bytes(b"x")
    assert run(model, tmp_path) == 1
    assert words in capsys.readouterr().err
    assert not (tmp_path / "manifests").exists()


def test_a_version_that_is_not_what_it_was_is_refused_and_nothing_is_written(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(model, tmp_path)
    (model / "1" / "notes.txt").write_text("new")
    add(model, 3)
    assert run(model, tmp_path) == 1
    assert "version 1 is no longer what" in capsys.readouterr().err
    assert list(manifest.load_all(tmp_path / "manifests" / "modelB")) == [1, 2]


def test_what_is_no_model_directory_is_said_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "nowhere", tmp_path) == 1
    assert "there is no directory" in capsys.readouterr().err
