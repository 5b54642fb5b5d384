"""``ops predict``: what is read from files, what is shown, and the command that says the same."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image

from ops import tables
from ops.outputs import ExportedService
from ops.predict import DOCUMENT_INSTANCES, Answer, Request, choose_service, curl, hint
from ops.predict_answer import FASHION_MNIST, describe
from ops.predict_input import Given, PredictError, read_input, sent
from tfserving import tensors
from tfserving.client import Columns
from tfserving.errors import ServiceError, ServiceNotFoundError
from tfserving.protos import tf_serving_pb2 as pb
from tfserving.sample_request import SampleError, from_signature, sample, shown

TOKEN = "c2VjcmV0 'quoted'"
HTTP = ExportedService("multi_http", "http", "http://127.0.0.1:1/api/predict/multi_http", "", TOKEN, {})
GRPC = ExportedService("multi_grpc", "grpc", "", "127.0.0.1:2", TOKEN, {})
SERVICES = {"multi_http": HTTP, "multi_grpc": GRPC}


# ---- which service -------------------------------------------------------------------------------------------------


def test_an_unknown_service_is_told_with_those_there_are() -> None:
    with pytest.raises(PredictError, match="no service or group 'x' in this stack; there are multi_grpc, multi_http"):
        choose_service(SERVICES, "x", grpc=False)


def test_grpc_of_an_http_service_names_the_one_that_speaks_it() -> None:
    with pytest.raises(PredictError, match=r"answers HTTP only, .*; ask multi_grpc"):
        choose_service(SERVICES, "multi_http", grpc=True)
    with pytest.raises(PredictError, match="deploy one with port 8500 and grpc: true"):
        choose_service({"multi_http": HTTP}, "multi_http", grpc=True)
    assert choose_service(SERVICES, "multi_grpc", grpc=True) == GRPC
    assert choose_service(SERVICES, "multi_grpc", grpc=False) == GRPC


def test_a_service_with_an_address_for_each_protocol_is_asked_at_one() -> None:
    both = {"vision": ExportedService("vision", "http", "http://127.0.0.1:1", "127.0.0.1:2", "", {})}
    assert choose_service(both, "vision", grpc=False) == ExportedService(
        "vision", "http", "http://127.0.0.1:1", "", "", {}
    )
    assert choose_service(both, "vision", grpc=True) == ExportedService("vision", "grpc", "", "127.0.0.1:2", "", {})


# ---- what is sent --------------------------------------------------------------------------------------------------


def test_without_input_the_documents_own_body_is_sent() -> None:
    assert Request("modelA").instances == DOCUMENT_INSTANCES == [[[[1.0]] * 28] * 28]


@pytest.mark.parametrize(
    ("body", "instances", "signature"),
    [
        ([[1.0], [2.0]], [[1.0], [2.0]], None),
        ({"instances": [{"a": 1}], "signature_name": "other"}, [{"a": 1}], "other"),
        ({"instances": [1]}, [1], None),
        ({"inputs": {"a": [1, 2]}}, Columns({"a": [1, 2]}), None),
        ({"inputs": 2**63 - 1, "signature_name": "s"}, Columns(2**63 - 1), "s"),
    ],
)
def test_a_json_file_holds_instances_or_a_whole_request(
    tmp_path: Path, body: Any, instances: Any, signature: str | None
) -> None:
    file = tmp_path / "input.json"
    file.write_text(json.dumps(body), encoding="utf-8")
    assert Given.read([str(file)]) == Given(instances, signature)
    assert Given.read([f"@{file}"]) == Given(instances, signature)
    if not isinstance(body, int):
        assert Given.read([json.dumps(body)]) == Given(instances, signature)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "is not JSON"),
        (b"", "is empty; write a list of instances, or"),
        (b" \n", "is empty"),
        (b"hello", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"\xff\xfe", r"is no text in UTF-8 \(byte 0\); for an image, its name ends in .bmp"),
        (b"[]", "holds no instances"),
        (b'{"inputs": 1, "instances": [1]}', "holds both"),
        (b'{"instance": [1]}', "holds no instances"),
        (b"3", "holds no instances"),
    ],
)
def test_a_file_that_is_no_input_is_told(tmp_path: Path, content: bytes, said: str) -> None:
    file = tmp_path / "input.json"
    file.write_bytes(content)
    with pytest.raises(PredictError, match=said):
        Given.read([str(file)])
    with pytest.raises(PredictError, match="cannot be read: No such file"):
        Given.read([str(tmp_path / "missing.json")])


@pytest.mark.parametrize(("channels", "pixel"), [(1, [1.0]), (3, [1.0, 0.0, 0.0])])
def test_an_image_is_scaled_to_the_models_input(tmp_path: Path, channels: int, pixel: list[float]) -> None:
    file = tmp_path / "shoe.PNG"
    Image.new("L" if channels == 1 else "RGB", (56, 40), 255 if channels == 1 else (255, 0, 0)).save(file)
    instances = read_input(file, [None, 28, 14, channels], "float32")
    assert isinstance(instances, list)
    (image,) = instances
    assert (len(image), len(image[0])) == (28, 14)
    assert image[3][5] == pixel


@pytest.mark.parametrize("shape", [None, [], [None], [None, 784], [7, 28, 28], [None, 5, 28, 28], [None, 28, 28, 2]])
def test_a_model_that_takes_no_image_is_told(tmp_path: Path, shape: Any) -> None:
    file = tmp_path / "shoe.png"
    Image.new("L", (28, 28)).save(file)
    with pytest.raises(PredictError, match="the model does not take images"):
        read_input(file, shape, "float32")


def test_a_file_that_only_looks_like_an_image_is_told(tmp_path: Path) -> None:
    file = tmp_path / "shoe.png"
    file.write_bytes(b"no image")
    with pytest.raises(PredictError, match="is not an image that can be read"):
        read_input(file, [None, 28, 28, 1], "float32")


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
def test_the_token_is_masked_unless_it_is_asked_for(service: ExportedService) -> None:
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
    shown = describe(GRPC, Request("m"), Answer(1, [{"y": [1.0], "z": "a"}], 0.1)).splitlines()
    assert shown[1:] == ["  y: [1.0]", '  z: "a"']


def test_outputs_that_are_no_numbers_are_shown_as_they_came() -> None:
    assert "[NaN, 1.0]" in describe(HTTP, Request("m"), Answer(1, [[float("nan"), 1.0]], 0.1))


@given(st.lists(st.floats() | st.integers()) | st.recursive(st.none() | st.floats() | st.text(), st.lists))
def test_any_answer_can_be_shown(output: Any) -> None:
    assert describe(HTTP, Request("m"), Answer(1, [output], 0.1), FASHION_MNIST)
    cut = describe(HTTP, Request("m"), Answer(1, [output], 0.1), FASHION_MNIST, columns=20)
    assert all(char.isprintable() or char in "\n\u3000" or not char.isascii() for char in cut)


def test_whole_outputs_and_scalars_are_shown_as_they_came() -> None:
    asked = Request("m", instances=Columns({"a": 1}))
    assert describe(HTTP, asked, Answer(1, 3.5, 0.1)).splitlines()[1:] == ["  3.5"]
    assert describe(HTTP, asked, Answer(1, {"y": [[1], [2]]}, 0.1)).splitlines()[1:] == ["  [[1], [2]]"]


def test_letters_are_shown_as_they_are_and_what_moves_a_terminal_is_not() -> None:
    shown = describe(HTTP, Request("m"), Answer(1, ["Zürich 東京 😀", "a\x1b[2J\x9b2J\u202eb\ud800"], 0.1))
    assert "Zürich 東京 😀" in shown
    assert "a\\u001b[2J\\u009b2J\\u202eb\\ud800" in shown
    shown.encode()


def test_whole_numbers_are_no_scores_and_are_not_rounded() -> None:
    assert "[9007199254740993, 18446744073709551615]" in describe(
        HTTP, Request("m"), Answer(1, [[2**53 + 1, 2**64 - 1]], 0.1)
    )
    assert "[true, false]" in describe(HTTP, Request("m"), Answer(1, [[True, False]], 0.1))


# ---- how much is shown -----------------------------------------------------------------------------------------------


def test_bars_are_of_the_output_that_looks_like_scores() -> None:
    shown = describe(HTTP, Request("m"), Answer(1, [{"logits": [3.5, 0.5], "p": [0.25, 0.75]}], 0.1)).splitlines()
    assert shown[1] == "  logits: [3.5, 0.5]"
    assert shown[2] == "  p:"
    assert shown[3].split()[:3] == ["class", "1", "0.7500"]


def test_scores_of_whole_outputs_are_shown_row_by_row() -> None:
    asked = Request("m", instances=Columns([1.0, 2.0]))
    shown = describe(HTTP, asked, Answer(1, [[0.25, 0.75], [1.0, 0.0]], 0.1)).splitlines()
    assert [line.split()[0] for line in shown[1:]] == ["row", "class", "class", "row", "class", "class"]
    assert "  [0.25, 0.75]" in describe(HTTP, asked, Answer(1, [0.25, 0.75], 0.1)), "the first dimension is the batch"


def test_names_of_classes_say_that_numbers_are_scores() -> None:
    scores = [[0.9, 0.8]]
    assert "  [0.9, 0.8]" in describe(HTTP, Request("m"), Answer(1, scores, 0.1))
    shown = describe(HTTP, Request("m"), Answer(1, scores, 0.1), ("\u732b", "dog")).splitlines()
    assert shown[1].startswith("  \u732b     0.9000  ###")
    assert shown[2].startswith("  dog    0.8000  ###")


def test_a_batch_is_numbered_and_an_empty_one_is_said() -> None:
    shown = describe(HTTP, Request("m"), Answer(1, [1.5, {"a": 1, "b": 2}], 0.1)).splitlines()
    assert shown[1:] == ["  instance 0: 1.5", "  instance 1", "  a: 1", "  b: 2"]
    assert describe(HTTP, Request("m"), Answer(1, [], 0.1)).splitlines()[1:] == ["  no instances in the answer"]
    assert describe(HTTP, Request("m"), Answer(1, [[]], 0.1)).splitlines()[1:] == ["  []"]


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ([[[0] * 512] * 512], "shape [512, 512], 262,144 values; --format json prints all"),
        (["\u6771" * 5000], "text of 5,000 characters; --format json"),
        ([{"b64": "AAAA" * 5000}], "15,000 bytes; --format json"),
        ([{"a": "x" * 5000, "b": 1}], "text of 5,000 characters"),
        ([1.5] * 5000, "... 4,990 more of 5,000 instances; --format json prints all"),
        ([[1 / 1000] * 1000], "... 990 more of 1,000 classes; --format json prints all"),
    ],
)
def test_a_long_answer_is_cut_to_the_terminal_with_its_size_and_whole_elsewhere(output: Any, said: str) -> None:
    shown = describe(HTTP, Request("m"), Answer(1, output, 0.1), columns=80)
    assert said in shown
    assert sum(map(tables.width, shown)) < 80 * 25
    whole = describe(HTTP, Request("m"), Answer(1, output, 0.1))
    assert "more" not in whole
    assert len(whole) > 3000


def test_of_many_inputs_the_first_are_listed() -> None:
    many = {f"feature_{number}": {"dtype": "float32", "shape": [None, 3]} for number in range(500)}
    assert shown(many).endswith("feature_19 float32 [?, 3] and 480 more")


def test_a_request_made_of_many_inputs_does_not_fill_the_terminal() -> None:
    made = "no --input: the request is made from " + ", ".join(f"feature_{number} float32 [?]" for number in range(500))
    assert len(describe(HTTP, Request("m"), Answer(1, [1.0], 0.1), (), made, 80)) < 500


# ---- images and bytes of every kind --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "dtype", "found"),
    [
        ([None, 2, 2, 3], "uint8", [[[[255, 0, 0]] * 2] * 2]),
        ([None, 2, 2, 3], "int32", [[[[255, 0, 0]] * 2] * 2]),
        ([None, 2, 2, 3], "float16", [[[[1.0, 0.0, 0.0]] * 2] * 2]),
        ([None, 2, 2, 4], "uint8", [[[[255, 0, 0, 255]] * 2] * 2]),
        ([None, 3, 2, 2], "uint8", [[[[255] * 2] * 2, [[0] * 2] * 2, [[0] * 2] * 2]]),
        ([None, None, None, 3], "uint8", [[[[255, 0, 0]] * 6] * 4]),
        ([None, None, None, None], "uint8", [[[[255, 0, 0]] * 6] * 4]),
        ([None, 2, None, 3], "uint8", [[[[255, 0, 0]] * 3] * 2]),
        ([None, None, 3, 3], "uint8", [[[[255, 0, 0]] * 3] * 2]),
        ([None, 2, 2], "uint8", [[[76] * 2] * 2]),
        ([2, 1, 1, 3], "uint8", [[[[255, 0, 0]]]] * 2),
        ([None, None, 3], "uint8", Columns([[[255, 0, 0]] * 6] * 4)),
        ([2, 2], "uint8", Columns([[76] * 2] * 2)),
    ],
)
@pytest.mark.parametrize("suffix", [".png", ".bmp", ".TIFF"])
def test_an_image_takes_the_inputs_type_layout_and_open_sizes(
    tmp_path: Path, shape: Any, dtype: str, found: Any, suffix: str
) -> None:
    file = tmp_path / f"a{suffix}"
    Image.new("RGB", (6, 4), (255, 0, 0)).save(file)
    assert read_input(file, shape, dtype) == found


@pytest.mark.parametrize(
    ("mode", "colour", "grey"),
    [("L", 128, 128), ("1", 1, 255), ("RGBA", (128, 128, 128, 0), 128), ("P", 128, None), ("I;16", 128 * 257, 128)],
)
def test_an_image_of_any_mode_is_read(tmp_path: Path, mode: str, colour: Any, grey: int | None) -> None:
    file = tmp_path / "a.png"
    Image.new(mode, (2, 2), colour).save(file)
    instances = read_input(file, [None, 2, 2, 1], "uint8")
    assert isinstance(instances, list)
    (value,) = instances
    assert grey is None or value[0][0] == [grey]


def test_a_jpeg_is_nearly_what_was_drawn(tmp_path: Path) -> None:
    file = tmp_path / "a.jpeg"
    Image.new("RGB", (8, 8), (200, 100, 50)).save(file, quality=95)
    instances = read_input(file, [None, 8, 8, 3], "uint8")
    assert isinstance(instances, list)
    (value,) = instances
    assert value[4][4] == pytest.approx([200, 100, 50], abs=4)


@pytest.mark.parametrize(
    ("shape", "found"),
    [
        ([None], [{"b64": "AP8K"}]),
        (None, [{"b64": "AP8K"}]),
        ([None, 1], [[{"b64": "AP8K"}]]),
        ([], Columns({"b64": "AP8K"})),
    ],
)
@pytest.mark.parametrize("name", ["sound.wav", "photo.jpg", "bare"])
def test_any_file_is_the_bytes_of_a_string_input(tmp_path: Path, shape: Any, found: Any, name: str) -> None:
    (tmp_path / name).write_bytes(b"\x00\xff\n")
    assert read_input(tmp_path / name, shape, "string") == found


def test_with_several_inputs_one_takes_the_file_and_the_others_are_made(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    Image.new("RGB", (1, 1), (255, 0, 0)).save(file)
    image = {"dtype": "uint8", "shape": [None, 1, 1, 3]}
    given = Given.read([str(file)])
    values = given.values({"image": image, "threshold": {"dtype": "float32", "shape": []}})
    assert values == (Columns({"image": [[[[255, 0, 0]]]], "threshold": 1.0}), ("threshold",))
    with pytest.raises(PredictError, match=r"several inputs \(a uint8 \[\?, 1, 1, 3\], b uint8 .*write --input a=@"):
        given.values({"a": image, "b": image})


# ---- input by input --------------------------------------------------------------------------------------------------

SIGNATURE: Any = {
    "image": {"dtype": "uint8", "shape": [None, 1, 1, 3]},
    "text": {"dtype": "string", "shape": [None]},
    "picture_bytes": {"dtype": "string", "shape": [None]},
    "threshold": {"dtype": "float32", "shape": []},
    "ids": {"dtype": "int64", "shape": [None, 2]},
}


def test_each_input_takes_a_file_or_a_value_and_the_rest_is_made(tmp_path: Path) -> None:
    file = tmp_path / "a=b.png"
    Image.new("RGB", (1, 1), (255, 0, 0)).save(file)
    given = Given.read([f"image=@{file}", f"picture_bytes=@{file}", "threshold=0.25", "ids=[[1, 9007199254740993]]"])
    values, made = given.values(SIGNATURE)
    assert isinstance(values, Columns)
    assert values.inputs["image"] == [[[[255, 0, 0]]]]
    assert base64.b64decode(values.inputs["picture_bytes"][0]["b64"]) == file.read_bytes()
    assert values.inputs["threshold"] == 0.25
    assert values.inputs["ids"] == [[1, 9007199254740993]]
    assert made == ("text",)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("text=hello", ["hello"]),
        ("text=5", ["5"]),
        ("text=a=b", ["a=b"]),
        ('text=["a", "b"]', ["a", "b"]),
        ('text={"b64": "aGk="}', [{"b64": "aGk="}]),
        ("text=", [""]),
        ("ids=[1, 2]", [[1, 2]]),
        ("threshold=1", 1),
    ],
)
def test_a_value_without_the_batch_gets_it(option: str, value: Any) -> None:
    values, _ = Given.read([option]).values(SIGNATURE)
    assert isinstance(values, Columns)
    assert values.inputs[option.partition("=")[0]] == value


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["txt=a"], "--input: the model has no input 'txt': did you mean 'text'"),
        (["threshold=low"], r"--input threshold=low: is neither JSON nor @FILE; threshold float32 \[\] is wanted"),
        (['{"inputs": {"Text": ["a"]}}'], "inputs: the model has no input 'Text': did you mean 'text'"),
        (['[{"text": "a"}, {"zzz": 1}]'], r"instances\[1\]: the model has no input 'zzz': there are ids, image"),
        (["text=a", "text=b"], "input text has a value already"),
        (["text=a", "[1]"], "stands alone"),
        (["a.png", "b.png"], "stands alone"),
        (["text=@/nowhere/at/all"], "/nowhere/at/all: cannot be read: No such file"),
    ],
)
def test_what_is_no_input_is_told_with_the_nearest(given: list[str], said: str) -> None:
    with pytest.raises(PredictError, match=said):
        Given.read(given).values(SIGNATURE)


@given(
    st.lists(
        st.text(st.characters(exclude_characters="\0/"))
        | st.tuples(st.sampled_from(list(SIGNATURE)), st.text(st.characters(exclude_characters="\0/"))).map("=".join),
        max_size=3,
    )
)
def test_whatever_is_typed_is_a_request_or_a_mistake_that_is_told(options: list[str]) -> None:
    assume("-" not in options)  # standard input
    with contextlib.suppress(PredictError):
        values, made = Given.read(options).values(SIGNATURE)
        assert set(made) <= set(SIGNATURE)
        assert json.dumps(values.inputs if isinstance(values, Columns) else values)


def test_standard_input_is_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO('{"inputs": 1}'))
    assert Given.read(["-"]) == Given(Columns(1))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([[1.5, 2.5]], "x [1, 2] of numbers"),
        ([{"x": "a"}, {"x": "b"}], "x [2] of text"),
        (Columns({"x": True}), "x [] of true and false"),
        (Columns([]), "x [0] of nothing"),
        ([{"b64": "aGk="}], "x [1] of text"),
        ([1, {"y": 2}], "x [2] of whole numbers"),
    ],
)
def test_a_refused_request_is_told_with_its_shapes(values: Any, said: str) -> None:
    assert sent(values, {"x": {"dtype": "float32", "shape": [None]}}) == said


# ---- made from the signature ---------------------------------------------------------------------------------------

ROW = {"y": {"dtype": "float32", "shape": [None]}}


@pytest.mark.parametrize(
    ("inputs", "outputs", "made"),
    [
        ({"x": ("float32", [None, 28, 28, 1])}, ROW, DOCUMENT_INSTANCES),
        ({"x": ("int64", [None])}, ROW, [1]),
        ({"x": ("string", [None])}, ROW, ["text"]),
        ({"x": ("bool", [None, 2])}, ROW, [[True, True]]),
        ({"x": ("float32", None)}, ROW, Columns([1.0])),
        ({"x": ("bfloat16", [])}, ROW, Columns(1.0)),
        ({"x": ("float32", [3, 2])}, ROW, Columns([[1.0, 1.0]] * 3)),
        ({"x": ("float32", [None])}, {"y": {"dtype": "float32", "shape": []}}, Columns([1.0])),
        ({"a": ("float32", [None, 2]), "b": ("int32", [None])}, ROW, [{"a": [1.0, 1.0], "b": 1}]),
        ({"a": ("float32", [None]), "b": ("int32", [])}, ROW, Columns({"a": [1.0], "b": 1})),
        ({}, ROW, Columns({})),
    ],
)
def test_a_request_is_made_from_the_signature(inputs: Any, outputs: Any, made: Any) -> None:
    given = {name: {"dtype": dtype, "shape": shape} for name, (dtype, shape) in inputs.items()}
    assert from_signature(given, outputs) == made


def test_a_type_no_request_can_carry_is_told() -> None:
    with pytest.raises(SampleError, match="for input z: values of type complex64 cannot be written"):
        sample("z", {"dtype": "complex64", "shape": []})


# ---- misspelt ------------------------------------------------------------------------------------------------------

NAMED = ExportedService(
    "s", "http", "http://127.0.0.1:1", "", "", {"modelA": {"labels": {"stable": 1, "canary": "2"}}, "b": {}}
)


@pytest.mark.parametrize(
    ("asked", "error", "said"),
    [
        (Request("modela"), ServiceNotFoundError("x", 404), "did you mean 'modelA'? There are b, modelA"),
        (Request("zzz"), ServiceNotFoundError("x", 404), "there are b, modelA"),
        (Request("modelA", label="stabel"), ServiceNotFoundError("x", 400), "did you mean 'stable'?"),
        (Request("b", label="stable"), ServiceNotFoundError("x", 400), "label 'stable' of model b: there are none"),
        (Request("b"), ServiceError("JSON Value: 1.0 to type: half", 400), "carries float16 over gRPC only: ask g"),
        (Request("b"), ServiceError("Tensor name: y has no shape information ", 400), 'write {"inputs": ...}'),
    ],
)
def test_what_is_misspelt_is_answered_with_the_nearest(asked: Request, error: ServiceError, said: str) -> None:
    assert said in hint(NAMED, asked, error, ["g"])


def test_a_service_of_both_protocols_is_asked_over_grpc_for_half_types() -> None:
    assert hint(NAMED, Request("b"), ServiceError("1 to type: bfloat16", 501), ["s"]).endswith("gRPC only: with --grpc")


def test_a_misspelt_service_is_answered_with_the_nearest() -> None:
    with pytest.raises(PredictError, match="did you mean 'multi_http'"):
        choose_service(SERVICES, "multi-http", grpc=False)


# ---- commands ------------------------------------------------------------------------------------------------------


def test_whole_inputs_go_into_the_command_of_either_protocol() -> None:
    asked = Request("m", version=2**63 - 1, instances=Columns({"a": [1, 2**62], "b": 0.5}))
    command = words(curl(HTTP, asked))
    assert json.loads(command[command.index("-d") + 1])["inputs"] == {"a": [1, 2**62], "b": 0.5}
    command = words(curl(GRPC, asked, [("a", "int64"), ("b", "float16")]))
    sent = json_format.ParseDict(json.loads(command[command.index("-d") + 1]), pb.PredictRequest())
    assert tensors.decode(sent.inputs["a"], "a") == [1, 2**62]
    assert tensors.decode(sent.inputs["b"], "b") == 0.5
    assert sent.model_spec.version.value == 2**63 - 1


def test_without_reflection_the_command_reads_the_protos() -> None:
    command = curl(GRPC, Request("m", instances=[1.0]), [("x", "float32")], reflection=False)
    assert ' -import-path "$PROTOS" -proto tensorflow_serving/apis/prediction_service.proto ' in command


def test_a_request_that_no_argument_can_hold_goes_by_standard_input() -> None:
    asked = Request("m", instances=[[0.125] * 30_000])
    for command in (curl(HTTP, asked), curl(GRPC, asked, [("x", "float32")])):
        first, body, last = command.split("\n")
        assert first.endswith("<<'JSON'")
        assert "instances" in json.loads(body) or "inputs" in json.loads(body)
        assert (len(first) < 500, last) == (True, "JSON")
