"""``ops predict`` against a real model server, over both protocols."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ops import outputs
from ops.__main__ import main

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(start_server: Any, tiny_models: Path) -> Any:
    return start_server("--model_name=modelA", "--model_base_path=/models/half_plus", mounts={"/models": tiny_models})


@pytest.fixture(params=["http", "grpc"])
def service(request: pytest.FixtureRequest, server: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    url = f"http://127.0.0.1:{server.rest_port}"
    found = {
        "http": outputs.Service("http", "http", url, "", "", {"modelA": {"labels": {}}}),
        "grpc": outputs.Service("grpc", "grpc", "", server.target, "", {"modelA": {"labels": {}}}),
    }
    monkeypatch.setattr(outputs, "services", lambda *_: found)
    return str(request.param)


def test_requests_of_every_form_are_answered(service: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", service, "modelA"]) == 0
    said = capsys.readouterr()
    assert "no --input: the request is made from the signature's inputs: x float32" in said.out
    assert "3.5" in said.out
    for body, shown in (
        ({"instances": [1.0, 3.0]}, "4.5"),
        ({"inputs": [1.0, 3.0]}, "[3.5, 4.5]"),
        ({"inputs": 1}, "3.5"),
    ):
        (tmp_path / "a.json").write_text(json.dumps(body))
        assert main(["predict", service, "modelA", "--input", str(tmp_path / "a.json")]) == 0
        assert shown in capsys.readouterr().out


def test_what_is_misspelt_is_answered_with_the_nearest(service: str, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, said in (
        (["modela"], "did you mean 'modelA'?"),
        (["modelA", "--version", "9"], "ere are"),
        (["modelA", "--signature", "serving_defualt"], "did you mean 'serving_default'?"),
    ):
        assert main(["predict", service, *arguments]) == 1
        assert said in capsys.readouterr().err


def test_the_command_for_grpc_relies_on_reflection_where_the_server_has_it(
    service: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", service, "modelA", "--curl"]) == 0
    command = capsys.readouterr().out
    assert command.startswith("grpcurl -plaintext -d " if service == "grpc" else "curl -sS -d ")
    assert "$PROTOS" not in command
