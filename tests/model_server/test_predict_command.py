"""``ops predict`` against a real model server, over both protocols."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ops import outputs, state
from ops.__main__ import main

pytestmark = pytest.mark.slow


MODELS = {"modelA": "half_plus", "kinds": "kinds", "strings": "strings", "pictures": "pictures", "multi": "multi"}


@pytest.fixture(scope="module")
def server(start_server: Any, tiny_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    config = tmp_path_factory.mktemp("config") / "models.pbtxt"
    entries = (
        f'config {{ name: "{name}" base_path: "/models/{directory}" model_platform: "tensorflow" }}'
        for name, directory in MODELS.items()
    )
    config.write_text(f"model_config_list {{ {' '.join(entries)} }}", encoding="utf-8")
    mounts = {"/models": tiny_models, "/config": config.parent}
    return start_server("--model_config_file=/config/models.pbtxt", mounts=mounts)


@pytest.fixture(params=["http", "grpc"])
def service(request: pytest.FixtureRequest, server: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    url = f"http://127.0.0.1:{server.rest_port}"
    models = {name: {"labels": {}} for name in MODELS}
    found = {
        "http": outputs.ExportedService("http", "http", url, "", "", models),
        "grpc": outputs.ExportedService("grpc", "grpc", "", server.target, "", models),
    }
    monkeypatch.setattr(state, "read", lambda *_: [])
    monkeypatch.setattr(outputs, "services_of", lambda *_: found)
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


Predict = Callable[..., Any]


@pytest.fixture
def predict(service: str, capsys: pytest.CaptureFixture[str]) -> Predict:
    """The outputs of a request to the service of either protocol, or what was said instead."""

    def ask(*arguments: str) -> Any:
        code = main(["predict", service, *arguments, "--format", "json"])
        found = json.loads(capsys.readouterr().out)
        return found["outputs"] if code == 0 else found["error"]["message"]

    return ask


def test_pictures_are_pixels_or_files_as_the_input_takes_them(predict: Predict, tmp_path: Path) -> None:
    picture, photo = tmp_path / "a.png", tmp_path / "a.jpg"
    Image.new("RGB", (6, 4), (255, 0, 10)).save(picture)
    Image.new("RGB", (30, 20), (0, 0, 0)).save(photo)
    assert predict("pictures", "--input", str(picture)) == [[255.0, 0.0, 10.0]]
    assert predict("pictures", "--input", f"pixels=@{picture}") == [[255.0, 0.0, 10.0]]
    assert predict("pictures", "--signature", "files", "--input", str(photo)) == [[20, 30, 3]]
    encoded = base64.b64encode(picture.read_bytes()).decode()
    body = json.dumps({"instances": [{"b64": encoded}], "signature_name": "files"})
    assert predict("pictures", "--input", body) == [[4, 6, 3]]


def test_whole_numbers_of_64_bits_are_exact(predict: Predict) -> None:
    assert predict("kinds", "--signature", "int64", "--input", str([2**63 - 1, -(2**63)])) == [2**63 - 1, -(2**63)]
    assert "int64" in predict("kinds", "--signature", "int64", "--input", f"[{2**63}]")
    assert predict("kinds", "--signature", "int64", "--input", f'{{"inputs": {2**53 + 1}}}') == 2**53 + 1


def test_half_types_go_over_grpc_and_http_says_so(predict: Predict, service: str) -> None:
    for dtype, tenth in (("float16", 0.0999755859375), ("bfloat16", 0.10009765625)):
        found = predict("kinds", "--signature", dtype, "--input", "[1.5, NaN, Infinity, -Infinity, 0.1]")
        if service == "grpc":
            assert found == [1.5, "NaN", "Infinity", "-Infinity", tenth]
        else:
            assert f"TensorFlow Serving carries {dtype} over gRPC only: ask grpc" in found


def test_nan_and_infinity_are_what_the_server_calls_them(predict: Predict) -> None:
    found = predict("kinds", "--signature", "float64", "--input", "[NaN, Infinity, -Infinity, 0.1]")
    assert found == ["NaN", "Infinity", "-Infinity", 0.1]


def test_text_is_readable_and_bytes_that_are_none_are_bytes(predict: Predict) -> None:
    found = predict("strings", "--input", '["Z\u00fcrich", {"b64": "//79"}]')
    assert [each["text"] for each in found] == ["Z\u00fcrich", {"b64": "//79"}]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["multi", "--input", '[{"a": 1.5}]'], "the request has a [1] of numbers"),
        (["multi", "--input", '{"inputs": {"a": [1.5]}}'], "Missing named input: b"),
        (["multi", "--input", '[{"a": 1.5, "b": 2.5}]'], "b [1] of numbers"),
        (["multi", "--input", '[{"a": 1.5, "c": 2}]'], "the model has no input 'c': there are a, b"),
        (["multi", "--input", "b=one"], "is neither JSON nor @FILE"),
        (["multi", "--input", "[]"], "holds no instances"),
        (["multi", "--input", "/nowhere.json"], "cannot be read"),
        (["multi", "--input", '{"inputs": {"a": [[1, 2], [3]], "b": 1}}'], "a [2, 2] of whole numbers"),
        (["multi", "--input", '{"inputs": {"a": ["one"], "b": 1}}'], "a [1] of text"),
    ],
)
def test_a_request_that_does_not_fit_is_told_with_what_the_signature_takes(
    arguments: list[str], said: str, predict: Predict
) -> None:
    found = predict(*arguments)
    assert said in found
    assert "signature serving_default of multi takes a float32 [?], b int32 [?]" in found


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
