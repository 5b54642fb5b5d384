"""Editors and shells of Windows put a byte order mark before a text: it is no part of what a person wrote."""

from __future__ import annotations

import argparse
import io
import json
from pathlib import Path
from typing import Any, cast

import pytest

from ops import predict_command, preview_command
from ops.importing import sources, target
from ops.predict_input import Given
from ops.redact import Redactor
from provider.clients import Clients
from tfserving import stack_file
from tfserving.importing import model_file

MARK = "\ufeff"
FILE = 'model_config_list { config { name: "m" base_path: "/models/m" model_platform: "tensorflow" } }'


def written(file: Path, text: str) -> str:
    file.write_text(MARK + text, encoding="utf-8")
    return str(file)


def test_a_request_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Given.read([written(tmp_path / "a.json", '{"instances": [1]}')]).body == [1]
    monkeypatch.setattr("sys.stdin", io.StringIO(MARK + '{"instances": [1]}'))
    assert Given.read(["-"]).body == [1]


def test_names_of_classes_are_read(tmp_path: Path) -> None:
    assert predict_command._classes(written(tmp_path / "classes.txt", "shirt\nbag\n")) == ["shirt", "bag"]


@pytest.mark.parametrize("by", ["file", "standard input"])
def test_the_output_of_a_preview_is_read(by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = json.dumps({"steps": [], "changeSummary": {}})
    monkeypatch.setattr("sys.stdin", io.StringIO(MARK + text))
    option = "-" if by == "standard input" else written(tmp_path / "preview.json", text)
    found = preview_command._read(argparse.Namespace(input=option, stack="dev"), Redactor())
    assert not found.failure
    assert found.digest is not None


@pytest.mark.parametrize("text", ["config:\n  alicloud:region: cn-hangzhou\n", "config: {}\n", "config:\n"])
def test_a_stack_file_is_read_and_added_to(text: str, tmp_path: Path) -> None:
    (tmp_path / "Pulumi.yaml").write_text("name: tf-serving\nruntime: python\n", encoding="utf-8")
    file = tmp_path / "Pulumi.mine.yaml"
    written(file, text)
    goal = target.choose("mine", "", "cn-hangzhou", tmp_path)
    goal.write("", ["  tf-serving:modelRoot: models/"])
    config = stack_file.load(file.read_text(encoding="utf-8"))["config"]
    assert config["tf-serving:modelRoot"] == "models/"
    assert ("alicloud:region" in config) == ("region" in text)


def test_a_model_config_file_is_read(tmp_path: Path) -> None:
    named = written(tmp_path / "models.pbtxt", FILE)
    assert sources.sort([named]).model_config == named
    read = sources.text(cast("Clients", None), named)
    assert model_file.read(read).models[0].name == "m"


@pytest.mark.parametrize(
    ("name", "text", "json_"),
    [
        ("a.json", "null", True),
        ("a.json", "[]", True),
        ("a.txt", " [1]", True),
        ("a.txt", '{"a": 1}', True),
        ("a.json", FILE, False),
        ("a.txt", FILE, False),
    ],
)
def test_a_file_is_taken_for_what_it_holds(name: str, text: str, json_: bool, tmp_path: Path) -> None:
    found: Any = sources.sort([written(tmp_path / name, text)])
    assert bool(found.jsons) == json_
    assert bool(found.model_config) != json_
