"""The REST API of a real server process: bodies to the byte, status codes, headers."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

CONFIG = """
model_config_list {
  config {
    name: 'half plus' base_path: '/models/half_plus' model_platform: 'tensorflow'
    model_version_policy { all {} }
    version_labels { key: 'stable' value: 1 } version_labels { key: 'later' value: 9 }
  }
"""
MONITORING = "prometheus_config { enable: true path: '/metrics' }"


@pytest.fixture(scope="module")
def server(start_server: Any, tiny_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    files = tmp_path_factory.mktemp("config")
    others = ("counter_tf2", "multi", "strings", "kinds", "scalar", "slow", "vocabulary", "optional")
    entries = "".join(
        f"config {{ name: '{name}' base_path: '/models/{name}' model_platform: 'tensorflow' }}" for name in others
    )
    (files / "c.pbtxt").write_text(CONFIG + entries + "}")
    (files / "m.pbtxt").write_text(MONITORING)
    running = start_server(
        "--model_config_file=/config/c.pbtxt",
        "--monitoring_config_file=/config/m.pbtxt",
        "--allow_version_labels_for_unavailable_models=true",
        "--rest_api_timeout_in_ms=700",
        mounts={"/models": tiny_models, "/config": files},
    )
    while len(running.states("half%20plus")) < 2 or set(running.states("half%20plus").values()) != {"AVAILABLE"}:
        pass
    return running


def body(text: str) -> str:
    """What is expected, written without the first and the last line break."""
    return text.strip("\n")


# Predict


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/v1/models/half%20plus:predict", "3.5"),
        ("/v1/models/half%20plus/versions/2:predict", "3.5"),
        ("/v1/models/half%20plus/versions/1:predict", "2.5"),
        ("/v1/models/half%20plus/versions/0001:predict", "2.5"),
        ("/v1/models/half%20plus/labels/stable:predict", "2.5"),
        ("/v1/models/half%20plus/labels/%73table:predict", "2.5"),
        ("/V1/Models/half%20plus:predict", "3.5"),
    ],
)
def test_latest_versions_and_labels_are_answered(server: Any, path: str, answer: str) -> None:
    status, text = server.post(path, {"instances": [[1.0]]})
    assert (status, text) == (200, f'{{\n    "predictions": [[{answer}]\n    ]\n}}')


def test_row_format_keeps_predictions_on_one_line(server: Any) -> None:
    assert server.post("/v1/models/counter_tf2:predict", {"instances": [1.0, 2.5]})[1] == body("""
{
    "predictions": [
        {
            "text_bytes": {
                "b64": "MS4w"
            },
            "y": 11.0
        },
        {
            "text_bytes": {
                "b64": "Mi41"
            },
            "y": 12.5
        }
    ]
}
""")


def test_columnar_format_answers_in_columns(server: Any) -> None:
    assert server.post("/v1/models/half%20plus:predict", {"inputs": [[1], [2]]})[1] == body("""
{
    "outputs": [
        [
            3.5
        ],
        [
            4.0
        ]
    ]
}
""")


def test_several_inputs_and_outputs_go_by_name(server: Any) -> None:
    path = "/v1/models/multi:predict"
    rows = json.loads(server.post(path, {"instances": [{"a": 2, "b": 3}, {"a": 0.5, "b": 4}]})[1])
    assert rows == {"predictions": [{"product": 6.0, "sum": 5.0}, {"product": 2.0, "sum": 4.5}]}
    columns = json.loads(server.post(path, {"inputs": {"a": [2], "b": [3]}})[1])
    assert columns == {"outputs": {"product": [6.0], "sum": [5.0]}}


def test_the_signatures_shape_is_not_checked(server: Any) -> None:
    status, text = server.post("/v1/models/half%20plus:predict", {"instances": [2.0, 3.0]})
    assert (status, json.loads(text)) == (200, {"predictions": [4.0, 4.5]})


def test_strings_go_in_and_out(server: Any) -> None:
    request = {"instances": ["ä", {"b64": "aGk="}]}
    predictions = json.loads(server.post("/v1/models/strings:predict", request)[1])["predictions"]
    assert predictions == [{"length": 2, "text": "ä"}, {"length": 2, "text": "hi"}]


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("float64", [0.1, 1e300]),
        ("int8", [-128, 127]),
        ("int64", [-(2**63), 2**63 - 1]),
        ("uint8", [0, 255]),
        ("uint32", [0, 2**32 - 1]),
        ("bool", [True, False]),
    ],
)
def test_every_type_json_offers_comes_back_as_it_went(server: Any, kind: str, values: list[Any]) -> None:
    status, text = server.post("/v1/models/kinds:predict", {"signature_name": kind, "inputs": values})
    assert (status, json.loads(text)) == (200, {"outputs": values})


def test_types_json_does_not_offer_are_unimplemented(server: Any) -> None:
    status, text = server.post("/v1/models/kinds:predict", {"signature_name": "float16", "inputs": [1]})
    assert (status, json.loads(text)["error"]) == (501, "Conversion of JSON Value: 1 to type: half")


def test_models_with_tables_and_default_inputs_work(server: Any) -> None:
    words = {"instances": ["two", "none"]}
    assert json.loads(server.post("/v1/models/vocabulary:predict", words)[1]) == {"predictions": [2, -1]}
    status, text = server.post("/v1/models/optional:predict", {"inputs": {"x": [1], "add": 7}})
    assert (status, json.loads(text)) == (200, {"outputs": [8.0]})


def test_a_run_beyond_the_time_limit_ends_in_504(server: Any) -> None:
    status, text = server.post("/v1/models/slow:predict", {"instances": [10**9]})
    assert status == 504, text
    assert server.post("/v1/models/slow:predict", {"instances": [10]})[0] == 200


@pytest.mark.parametrize(
    ("path", "request_body", "status", "message"),
    [
        ("none:predict", {"instances": [1]}, 404, "Servable not found for request: Latest(none)"),
        (
            "half%20plus/versions/7:predict",
            {"instances": [1]},
            404,
            "Servable not found for request: Specific(half plus, 7)",
        ),
        (
            "half%20plus/labels/later:predict",
            {"instances": [1]},
            404,
            "Servable not found for request: Specific(half plus, 9)",
        ),
        ("half%20plus/labels/no:predict", {"instances": [1]}, 400, "Unrecognized servable version label: no"),
        ("none/labels/no:predict", {"instances": [1]}, 400, "Unrecognized servable version label: no"),
        (
            "half%20plus:predict",
            {"signature_name": "s", "instances": [1]},
            400,
            'Serving signature name: "s" not found in signature def',
        ),
        ("half%20plus:predict", {"predict": [1]}, 400, "Missing 'inputs' or 'instances' key"),
        ("half%20plus:predict", "", 400, "JSON Parse error: The document is empty"),
        ("none:predict", "{", 400, "JSON Parse error: Missing a name for object member. at offset: 1"),
        ("scalar:predict", {"instances": [1]}, 400, "Tensor name: y has no shape information "),
        (
            "half%20plus:predict",
            {"instances": ["a"]},
            400,
            "Failed to process element: 0 of 'instances' list. Error: INVALID_ARGUMENT: JSON Value: \"a\" Type: String "
            "is not of expected type: float",
        ),
    ],
)
def test_errors_have_their_status_and_message(
    server: Any, path: str, request_body: Any, status: int, message: str
) -> None:
    found, text = server.post(f"/v1/models/{path}", request_body)
    assert (found, json.loads(text)) == (status, {"error": message})
    assert text.startswith('{\n    "error": "')


def test_a_graph_that_cannot_use_the_shape_says_so(server: Any) -> None:
    status, text = server.post("/v1/models/multi:predict", {"inputs": {"a": [1, 2], "b": [1, 2, 3]}})
    assert status == 400
    assert "Incompatible shapes" in json.loads(text)["error"]


# Classify and regress


def test_regress_answers_results(server: Any) -> None:
    request = {"signature_name": "regress", "examples": [{"x": 1.0}, {"x": [2.0]}]}
    assert server.post("/v1/models/half%20plus/versions/1:regress", request) == (
        200,
        '{\n    "results": [2.5, 3.0]\n}',
    )


def test_classify_answers_pairs_of_label_and_score(server: Any) -> None:
    request: dict[str, Any] = {"signature_name": "classify", "examples": [{"x": 1.0}, {"x": 2.0}]}
    assert server.post("/v1/models/half%20plus/versions/1:classify", request) == (
        200,
        '{\n    "results": [[["low", 2.5], ["high", 3.5]], [["low", 3.0], ["high", 4.0]]\n    ]\n}',
    )
    request["signature_name"] = "scores_only"
    text = server.post("/v1/models/half%20plus/versions/1:classify", request)[1]
    assert json.loads(text)["results"][0] == [["", 2.5], ["", 3.5]]


def test_context_features_count_for_every_example(server: Any) -> None:
    request = {"signature_name": "regress", "context": {"x": 1.0}, "examples": [{}, {"x": 2.0}]}
    assert json.loads(server.post("/v1/models/half%20plus/versions/1:regress", request)[1]) == {"results": [2.5, 3.0]}


@pytest.mark.parametrize(
    ("request_body", "message"),
    [
        ({"signature_name": "none", "examples": [{}]}, "No signature was found with the name: none"),
        ({"examples": [{}]}, "No regression inputs found in SignatureDef: "),
        ({"examples": []}, "JSON Value: {\n    \"examples\": []\n} 'examples' value is an empty array"),
        ({"examples": [1]}, "Example must be JSON object but got JSON Number"),
    ],
)
def test_regress_refuses_what_is_no_regression(server: Any, request_body: Any, message: str) -> None:
    status, text = server.post("/v1/models/half%20plus:regress", request_body)
    assert status == 400
    assert json.loads(text)["error"].startswith(message)


# Status and metadata


def test_a_status_lists_versions_from_the_highest(server: Any) -> None:
    status, text = server.get("/v1/models/half%20plus")
    assert status == 200
    assert (
        text
        == body("""
{
 "model_version_status": [
  {
   "version": "2",
   "state": "AVAILABLE",
   "status": {
    "error_code": "OK",
    "error_message": ""
   }
  },
  {
   "version": "1",
   "state": "AVAILABLE",
   "status": {
    "error_code": "OK",
    "error_message": ""
   }
  }
 ]
}
""")
        + "\n"
    )


def test_a_status_of_one_version_and_a_label_that_is_ignored(server: Any) -> None:
    assert list(json.loads(server.get("/v1/models/half%20plus/versions/1")[1])["model_version_status"]) == [
        {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    ]
    assert server.get("/v1/models/half%20plus/labels/none") == server.get("/v1/models/half%20plus")


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("/v1/models/none", 404, "Could not find any versions of model none"),
        ("/v1/models/half%20plus/versions/7", 404, "Could not find version 7 of model half plus"),
        ("/v1/models", 400, "Missing model name in request."),
        ("/v1/models/none/metadata", 404, "Servable not found for request: Latest(none)"),
        ("/v1/models/half%20plus/labels/none/metadata", 400, "Unrecognized servable version label: none"),
        ("/v1/models/", 400, "Malformed request: GET /v1/models/"),
        ("/v1/models/m/", 400, "Malformed request: GET /v1/models/m/"),
        ("/v1/models/multi?x=1", 404, "Could not find any versions of model multi?x=1"),
        ("/v1/other", 400, "Malformed request: GET /v1/other"),
    ],
)
def test_get_errors(server: Any, path: str, status: int, message: str) -> None:
    found, text = server.get(path)
    assert (found, json.loads(text)) == (status, {"error": message})


def test_metadata_has_the_signatures_and_the_version_that_answers(server: Any) -> None:
    status, text = server.get("/v1/models/half%20plus/labels/stable/metadata")
    metadata = json.loads(text)
    assert status == 200
    assert metadata["model_spec"] == {"name": "half plus", "signature_name": "", "version": "1"}
    signature = metadata["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature == {
        "inputs": {
            "x": {
                "name": "x:0",
                "dtype": "DT_FLOAT",
                "tensor_shape": {"dim": [{"size": "-1", "name": ""}, {"size": "1", "name": ""}], "unknown_rank": False},
            }
        },
        "outputs": {
            "y": {
                "name": "add:0",
                "dtype": "DT_FLOAT",
                "tensor_shape": {"dim": [{"size": "-1", "name": ""}, {"size": "1", "name": ""}], "unknown_rank": False},
            }
        },
        "method_name": "tensorflow/serving/predict",
        "defaults": {},
    }


def test_metadata_of_a_tf2_model_shows_its_init_op(server: Any) -> None:
    signatures = json.loads(server.get("/v1/models/counter_tf2/metadata")[1])["metadata"]["signature_def"]
    assert signatures["signature_def"].keys() == {"__saved_model_init_op", "serving_default"}


# HTTP


def test_answers_are_json_whatever_the_request_says_it_is(server: Any) -> None:
    headers = {"Content-Type": "text/plain"}
    status, found, _ = server.request("POST", "/v1/models/scalar:predict", b'{"inputs": [1, 2]}', headers)
    assert status == 200
    assert found["Content-Type"] == "application/json"


def test_a_gzip_body_is_inflated(server: Any) -> None:
    packed = gzip.compress(b'{"inputs": [1, 2]}')
    status, _, answer = server.request("POST", "/v1/models/scalar:predict", packed, {"Content-Encoding": "gzip"})
    assert (status, json.loads(answer)) == (200, {"outputs": 3.0})


def test_a_body_that_claims_to_be_gzip_counts_as_empty(server: Any) -> None:
    status, _, answer = server.request("POST", "/v1/models/scalar:predict", b"{}", {"Content-Encoding": "gzip"})
    assert (status, json.loads(answer)["error"]) == (400, "JSON Parse error: The document is empty")


def test_bodies_of_several_megabytes_are_taken(server: Any) -> None:
    status, text = server.post("/v1/models/scalar:predict", {"inputs": [1] * 1_000_000})
    assert (status, json.loads(text)) == (200, {"outputs": 1e6})


@pytest.mark.parametrize("method", ["PUT", "DELETE", "POST"])
def test_other_methods_are_malformed_requests(server: Any, method: str) -> None:
    status, _, answer = server.request(method, "/v1/models/scalar")
    assert (status, json.loads(answer)["error"]) == (400, f"Malformed request: {method} /v1/models/scalar")


def test_the_verb_must_be_lower_case(server: Any) -> None:
    status, text = server.post("/v1/models/scalar:Predict", {"inputs": [1]})
    assert (status, json.loads(text)["error"]) == (400, "Malformed request: POST /v1/models/scalar:Predict")


def test_a_version_beyond_int64_is_refused_without_a_body(server: Any) -> None:
    assert server.get(f"/v1/models/scalar/versions/{2**63}") == (400, "")
    assert server.get(f"/v1/models/scalar/versions/{'9' * 5000}") == (400, "")


def test_outside_the_api_nothing_is_found(server: Any) -> None:
    status, headers, answer = server.request("GET", "/")
    assert (status, headers["Content-Type"]) == (404, "text/html")
    assert answer.startswith(b"<HTML><HEAD>\n<TITLE>404 Not Found</TITLE>")


def test_options_asks_for_an_origin(server: Any) -> None:
    assert server.request("OPTIONS", "/v1/models/scalar:predict")[0] == 400
    status, headers, answer = server.request(
        "OPTIONS", "/v1/models/scalar:predict", headers={"Origin": "https://example.com"}
    )
    assert (status, answer) == (200, b"")
    assert "Access-Control-Allow-Origin" not in headers


def test_the_metrics_page_is_where_the_monitoring_file_says(server: Any) -> None:
    server.post("/v1/models/scalar:predict", {"inputs": [1]})
    status, headers, answer = server.request("GET", "/metrics")
    assert (status, headers["Content-Type"].partition(";")[0]) == (200, "text/plain")
    page = answer.decode()
    assert ':tensorflow:serving:request_count{model_name="scalar",status="OK"}' in page
    assert ':tensorflow:serving:request_latency_count{model_name="scalar",API="predict",entrypoint="REST"}' in page
    assert ':tensorflow:serving:runtime_latency_count{model_name="scalar",API="Predict",runtime="TF1"}' in page
    assert ':tensorflow:cc:saved_model:load_attempt_count{model_path="/models/scalar/1",status="success"} 1' in page
    assert server.request("GET", "/metrics?x=1")[0] == 400


def test_only_the_loopback_address_listens(server: Any) -> None:
    tables = [Path(f"/proc/net/{name}").read_text().splitlines()[1:] for name in ("tcp", "tcp6")]
    listening = [line.split()[1].split(":") for table in tables for line in table if line.split()[3] == "0A"]
    for port in (server.port, server.rest_port):
        addresses = [address for address, number in listening if int(number, 16) == port]
        # 127.0.0.1, or the same as an IPv6 address.
        assert [address.removeprefix("0000000000000000FFFF0000") for address in addresses] == ["0100007F"]
