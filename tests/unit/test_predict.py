"""``ops predict``: what is read from files, what is shown, and the command that says the same."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ops.outputs import Service
from ops.predict import (
    DOCUMENT_INSTANCES,
    FASHION_MNIST,
    Answer,
    PredictError,
    Request,
    choose_service,
    curl,
    describe,
    read_input,
)
from tfserving import tensors
from tfserving.protos import tf_serving_pb2 as pb

TOKEN = "c2VjcmV0 'quoted'"
HTTP = Service("multi_http", "http", "http://127.0.0.1:1/api/predict/multi_http", "", TOKEN, {})
GRPC = Service("multi_grpc", "grpc", "", "127.0.0.1:2", TOKEN, {})
SERVICES = {"multi_http": HTTP, "multi_grpc": GRPC}


# ---- which service -------------------------------------------------------------------------------------------------


def test_an_unknown_service_is_told_with_those_there_are() -> None:
    with pytest.raises(PredictError, match="no service 'x' in this stack; it has multi_grpc, multi_http"):
        choose_service(SERVICES, "x", grpc=False)


def test_grpc_of_an_http_service_names_the_one_that_speaks_it() -> None:
    with pytest.raises(PredictError, match=r"answers HTTP only, .*; ask multi_grpc"):
        choose_service(SERVICES, "multi_http", grpc=True)
    with pytest.raises(PredictError, match="deploy one with port 8500 and grpc: true"):
        choose_service({"multi_http": HTTP}, "multi_http", grpc=True)
    assert choose_service(SERVICES, "multi_grpc", grpc=True) == GRPC
    assert choose_service(SERVICES, "multi_grpc", grpc=False) == GRPC


def test_a_service_with_an_address_for_each_protocol_is_asked_at_one() -> None:
    both = {"vision": Service("vision", "http", "http://127.0.0.1:1", "127.0.0.1:2", "", {})}
    assert choose_service(both, "vision", grpc=False) == Service("vision", "http", "http://127.0.0.1:1", "", "", {})
    assert choose_service(both, "vision", grpc=True) == Service("vision", "grpc", "", "127.0.0.1:2", "", {})


# ---- what is sent --------------------------------------------------------------------------------------------------


def test_without_input_the_documents_own_body_is_sent() -> None:
    assert Request("modelA").instances == DOCUMENT_INSTANCES == [[[[1.0]] * 28] * 28]


@pytest.mark.parametrize(
    ("body", "instances", "signature"),
    [
        ([[1.0], [2.0]], [[1.0], [2.0]], None),
        ({"instances": [{"a": 1}], "signature_name": "other"}, [{"a": 1}], "other"),
        ({"instances": [1]}, [1], None),
    ],
)
def test_a_json_file_holds_instances_or_a_whole_request(
    tmp_path: Path, body: Any, instances: Any, signature: str | None
) -> None:
    file = tmp_path / "input.json"
    file.write_text(json.dumps(body), encoding="utf-8")
    assert read_input(file, None) == (instances, signature)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "is not JSON"),
        (b"\xff\xfe", "cannot be read"),
        (b"[]", "holds no instances"),
        (b'{"inputs": [1]}', "holds no instances"),
        (b"3", "holds no instances"),
    ],
)
def test_a_file_that_is_no_input_is_told(tmp_path: Path, content: bytes, said: str) -> None:
    file = tmp_path / "input.json"
    file.write_bytes(content)
    with pytest.raises(PredictError, match=said):
        read_input(file, None)
    with pytest.raises(PredictError, match="cannot be read"):
        read_input(tmp_path / "missing.json", None)


@pytest.mark.parametrize(("channels", "pixel"), [(1, [1.0]), (3, [1.0, 0.0, 0.0])])
def test_an_image_is_scaled_to_the_models_input(tmp_path: Path, channels: int, pixel: list[float]) -> None:
    file = tmp_path / "shoe.PNG"
    Image.new("L" if channels == 1 else "RGB", (56, 40), 255 if channels == 1 else (255, 0, 0)).save(file)
    (image,), signature = read_input(file, [None, 28, 14, channels])
    assert signature is None
    assert (len(image), len(image[0])) == (28, 14)
    assert image[3][5] == pixel


@pytest.mark.parametrize("shape", [None, [None, 28, 28], [None, None, None, 1], [None, 28, 28, 2]])
def test_a_model_that_takes_no_image_is_told(tmp_path: Path, shape: Any) -> None:
    file = tmp_path / "shoe.png"
    Image.new("L", (28, 28)).save(file)
    with pytest.raises(PredictError, match="the model does not take images"):
        read_input(file, shape)


def test_a_file_that_only_looks_like_an_image_is_told(tmp_path: Path) -> None:
    file = tmp_path / "shoe.png"
    file.write_bytes(b"no image")
    with pytest.raises(PredictError, match="is not an image that can be read"):
        read_input(file, [None, 28, 28, 1])


# ---- the same as a command -----------------------------------------------------------------------------------------


def words(command: str) -> list[str]:
    return shlex.split(command)


@pytest.mark.parametrize(
    ("chosen", "path"),
    [
        ({}, "/v1/models/modelB:predict"),
        ({"label": "stable"}, "/v1/models/modelB/labels/stable:predict"),
        ({"version": 0}, "/v1/models/modelB/versions/0:predict"),
    ],
)
def test_the_curl_command_asks_the_same_path_with_the_same_body(chosen: dict[str, Any], path: str) -> None:
    command = words(curl(HTTP, Request("modelB", instances=[[1.0]], **chosen)))
    assert command[0] == "curl"
    assert command[-1] == HTTP.url + path
    body = json.loads(command[command.index("-d") + 1])
    assert body == {"signature_name": "serving_default", "instances": [[1.0]]}


@pytest.mark.parametrize("service", [HTTP, GRPC])
def test_the_token_is_masked_unless_it_is_asked_for(service: Service) -> None:
    masked = curl(service, Request("m"), [("x", "float32")])
    assert TOKEN not in masked
    assert '"Authorization: $TOKEN"' in masked
    shown = words(curl(service, Request("m"), [("x", "float32")], show_token=True))
    assert f"Authorization: {TOKEN}" in shown
    assert TOKEN not in repr(service)


@pytest.mark.parametrize(
    ("instances", "inputs"),
    [
        ([[1.0, 2.0]], [("x", "float32")]),
        ([1, 2], [("n", "int64")]),
        (["one", "two"], [("s", "string")]),
        ([{"b64": "aGk="}], [("s", "string")]),
        ([{"a": True, "b": [0.5]}, {"a": False, "b": [1.5]}], [("a", "bool"), ("b", "float64")]),
    ],
)
def test_the_grpcurl_command_says_names_types_and_values_of_the_inputs(
    instances: list[Any], inputs: list[tuple[str, str]]
) -> None:
    command = words(curl(GRPC, Request("m", label="stable", instances=instances), inputs))
    assert command[-2:] == [GRPC.target, "tensorflow.serving.PredictionService/Predict"]
    body = json.loads(command[command.index("-d") + 1])
    request = json_format.ParseDict(body, pb.PredictRequest())
    assert request.model_spec.version_label == "stable"
    for name, dtype in inputs:
        column = [item[name] if isinstance(item, dict) and "b64" not in item else item for item in instances]
        assert tensors.dtype_name(request.inputs[name].dtype) == dtype
        assert request.inputs[name] == tensors.encode(column, tensors.dtype_named(dtype), name)


def test_instances_that_do_not_fit_the_inputs_are_told() -> None:
    with pytest.raises(PredictError, match="no value for input y"):
        curl(GRPC, Request("m", instances=[{"x": 1.0}]), [("y", "float32")])
    with pytest.raises(PredictError, match="'one' is not of type float32"):
        curl(GRPC, Request("m", instances=["one"]), [("x", "float32")])


# ---- what is shown -------------------------------------------------------------------------------------------------


def test_an_answer_shows_who_answered_how_fast_and_classes_by_probability() -> None:
    scores = [0.0, 0.1, 0.0, 0.0, 0.0, 0.7, 0.2, 0.0, 0.0, 0.0]
    shown = describe(HTTP, Request("modelB", label="stable"), Answer(2, [scores], 0.0123), FASHION_MNIST).splitlines()
    assert shown[0] == f"multi_http (HTTP, {HTTP.url}): modelB version 2 by label stable, 12.3 ms"
    assert [line.split()[0] for line in shown[1:4]] == ["Sandal", "Shirt", "Trouser"]
    assert shown[1].split()[1] == "0.7000"
    assert TOKEN not in "".join(shown)


def test_classes_without_names_are_numbered_and_other_outputs_are_json() -> None:
    assert "class 1" in describe(HTTP, Request("m"), Answer(1, [[0.25, 0.75]], 0.1))
    assert '{"y": [1.0], "z": "a"}' in describe(GRPC, Request("m"), Answer(1, [{"y": [1.0], "z": "a"}], 0.1))


def test_outputs_that_are_no_numbers_are_shown_as_they_came() -> None:
    assert "[NaN, 1.0]" in describe(HTTP, Request("m"), Answer(1, [[float("nan"), 1.0]], 0.1))


@given(st.lists(st.floats() | st.integers()) | st.recursive(st.none() | st.floats() | st.text(), st.lists))
def test_any_answer_can_be_shown(output: Any) -> None:
    assert describe(HTTP, Request("m"), Answer(1, [output], 0.1), FASHION_MNIST)
