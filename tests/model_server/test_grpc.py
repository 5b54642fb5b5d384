"""The gRPC API of a real server process, through the official stubs."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import numpy as np
import pytest

from sandbox.model_server.runtime import runtime
from sandbox.model_server.tensors import from_proto, to_proto
from tests.waiting import until

pytestmark = pytest.mark.slow

CONFIG = """
model_config_list {
  config {
    name: 'half_plus' base_path: '/models/half_plus' model_platform: 'tensorflow'
    model_version_policy { all {} }
    version_labels { key: 'stable' value: 1 } version_labels { key: 'later' value: 9 }
  }
  config { name: 'multi' base_path: '/models/multi' model_platform: 'tensorflow' }
  config { name: 'kinds' base_path: '/models/kinds' model_platform: 'tensorflow' }
  config { name: 'strings' base_path: '/models/strings' model_platform: 'tensorflow' }
  config { name: 'slow' base_path: '/models/slow' model_platform: 'tensorflow' }
  config { name: 'optional' base_path: '/models/optional' model_platform: 'tensorflow' }
}
"""
APIS = (
    "classification_pb2",
    "get_model_metadata_pb2",
    "get_model_status_pb2",
    "inference_pb2",
    "model_management_pb2",
    "model_service_pb2_grpc",
    "predict_pb2",
    "prediction_service_pb2_grpc",
    "regression_pb2",
)


@pytest.fixture(scope="module")
def api() -> SimpleNamespace:
    """The official message classes and stubs, which need the TensorFlow runtime."""
    runtime()
    names = [f"tensorflow_serving.apis.{name}" for name in APIS]
    modules = [importlib.import_module(name) for name in ("tensorflow.core.example.example_pb2", *names)]
    return SimpleNamespace(**{module.__name__.rpartition(".")[2]: module for module in modules})


@pytest.fixture(scope="module")
def server(start_server: Any, tiny_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    files = tmp_path_factory.mktemp("config")
    (files / "c.pbtxt").write_text(CONFIG)
    running = start_server(
        "--model_config_file=/config/c.pbtxt",
        "--allow_version_labels_for_unavailable_models=true",
        "--enable_grpc_healthcheck_service=true",
        "--grpc_socket_path=/config/socket",
        mounts={"/models": tiny_models, "/config": files},
    )
    running.socket = f"unix:{files}/socket"
    while set(running.states("half_plus").values()) != {"AVAILABLE"} or len(running.states("half_plus")) < 2:
        pass
    return running


@pytest.fixture(scope="module")
def channel(server: Any) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.target) as opened:
        yield opened


@pytest.fixture(scope="module")
def prediction(api: Any, channel: grpc.Channel) -> Any:
    return api.prediction_service_pb2_grpc.PredictionServiceStub(channel)


@pytest.fixture(scope="module")
def models(api: Any, channel: grpc.Channel) -> Any:
    return api.model_service_pb2_grpc.ModelServiceStub(channel)


@pytest.fixture(scope="module")
def predict_request(api: Any) -> Callable[..., Any]:
    def make(model: str = "half_plus", signature: str = "", **inputs: Any) -> Any:
        request = api.predict_pb2.PredictRequest()
        request.model_spec.name = model
        request.model_spec.signature_name = signature
        for alias, value in inputs.items():
            array = value if isinstance(value, np.ndarray) else np.array(value, np.float32)
            to_proto(array, request.inputs[alias])
        return request

    return make


def failure(call: Callable[[], Any]) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code().name, caught.value.details()


# Predict


def test_predict_answers_in_typed_fields_with_the_version_that_answered(prediction: Any, predict_request: Any) -> None:
    response = prediction.Predict(predict_request(x=[[1.0], [2.0]]))
    assert list(response.outputs["y"].float_val) == [3.5, 4.0]
    assert not response.outputs["y"].tensor_content
    assert [dim.size for dim in response.outputs["y"].tensor_shape.dim] == [2, 1]
    spec = response.model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == ("half_plus", 2, "serving_default")


def test_versions_and_labels_are_honoured_and_a_label_is_not_echoed(prediction: Any, predict_request: Any) -> None:
    request = predict_request(x=[[1.0]])
    request.model_spec.version.value = 1
    assert list(prediction.Predict(request).outputs["y"].float_val) == [2.5]
    request.model_spec.version_label = "stable"
    response = prediction.Predict(request)
    assert list(response.outputs["y"].float_val) == [2.5]
    assert response.model_spec.WhichOneof("version_choice") == "version"


def test_inputs_may_come_as_raw_content(prediction: Any, predict_request: Any) -> None:
    request = predict_request()
    to_proto(np.array([[1], [2]], np.float32), request.inputs["x"], as_content=True)
    assert list(prediction.Predict(request).outputs["y"].float_val) == [3.5, 4.0]


@pytest.mark.parametrize("kind", ["float64", "int8", "int64", "uint8", "uint32", "bool", "float16", "uint16"])
def test_every_type_comes_back_as_it_went(prediction: Any, predict_request: Any, kind: str) -> None:
    array = np.array([0, 1], kind)
    response = prediction.Predict(predict_request("kinds", kind, v=array))
    back = from_proto(response.outputs["v"])
    assert back.dtype == array.dtype
    assert np.array_equal(back, array)


def test_an_output_filter_takes_the_outputs_named(prediction: Any, predict_request: Any) -> None:
    request = predict_request("multi", a=[2.0], b=np.array([3], np.int32))
    assert set(prediction.Predict(request).outputs) == {"sum", "product"}
    request.output_filter.append("sum")
    response = prediction.Predict(request)
    assert {alias: list(tensor.float_val) for alias, tensor in response.outputs.items()} == {"sum": [5.0]}
    request.output_filter.append("sum")
    assert failure(lambda: prediction.Predict(request)) == (
        "INVALID_ARGUMENT",
        "duplicate output tensor alias: sum",
    )
    request.output_filter[1] = "none"
    assert failure(lambda: prediction.Predict(request)) == (
        "INVALID_ARGUMENT",
        "output tensor alias not found in signature: none Outputs expected to be in the set {product,sum}.",
    )


def test_an_input_with_a_default_may_be_left_out(prediction: Any, predict_request: Any) -> None:
    assert list(prediction.Predict(predict_request("optional", x=[1.0])).outputs["y"].float_val) == [6.0]
    assert failure(lambda: prediction.Predict(predict_request("optional", add=1.0))) == (
        "INVALID_ARGUMENT",
        "Signature input alias: x(feed name: x:0) not found in request and no default value provided. Inputs expected "
        "to be in the request {add}, or default input alias set: add",
    )


def test_a_run_ends_with_the_deadline_of_its_call(prediction: Any, predict_request: Any, server: Any) -> None:
    request = predict_request("slow", n=np.array([10**9]))
    with pytest.raises(grpc.RpcError) as caught:
        prediction.Predict(request, timeout=0.3)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    # Were it still running, the processor time of the server would go on growing.
    stat = Path(f"/proc/{server.process.pid}/stat")

    def is_idle() -> bool:
        before = sum(map(int, stat.read_text().split()[13:15]))
        time.sleep(0.5)
        return sum(map(int, stat.read_text().split()[13:15])) - before < 20

    until(is_idle)


def test_a_response_may_be_larger_than_clients_take_by_default(
    server: Any, api: Any, prediction: Any, predict_request: Any
) -> None:
    request = predict_request("kinds", "float64", v=np.zeros(2_000_000))
    assert failure(lambda: prediction.Predict(request))[0] == "RESOURCE_EXHAUSTED"
    options = [("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(server.target, options) as channel:
        response = api.prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request)
    assert len(response.outputs["v"].double_val) == 2_000_000


def test_the_unix_socket_answers_too(server: Any, api: Any, predict_request: Any) -> None:
    with grpc.insecure_channel(server.socket) as channel:
        stub = api.prediction_service_pb2_grpc.PredictionServiceStub(channel)
        assert list(stub.Predict(predict_request(x=[[1.0]])).outputs["y"].float_val) == [3.5]


def test_predict_errors(api: Any, prediction: Any, predict_request: Any) -> None:
    def wrong(model: str = "half_plus", signature: str = "", **changes: Any) -> tuple[str, str]:
        request = predict_request(model, signature, x=[[1.0]])
        if "version" in changes:
            request.model_spec.version.value = changes["version"]
        if "label" in changes:
            request.model_spec.version_label = changes["label"]
        return failure(lambda: prediction.Predict(request))

    missing = api.predict_pb2.PredictRequest()
    assert failure(lambda: prediction.Predict(missing)) == ("INVALID_ARGUMENT", "Missing ModelSpec")
    assert wrong("") == ("INVALID_ARGUMENT", "ModelSpec has no name specified.")
    assert wrong("none") == ("NOT_FOUND", "Servable not found for request: Latest(none)")
    assert wrong(version=7) == ("NOT_FOUND", "Servable not found for request: Specific(half_plus, 7)")
    assert wrong(version=0) == ("NOT_FOUND", "Servable not found for request: Specific(half_plus, 0)")
    assert wrong(label="later") == ("NOT_FOUND", "Servable not found for request: Specific(half_plus, 9)")
    assert wrong(label="no") == ("INVALID_ARGUMENT", "Unrecognized servable version label: no")
    assert wrong(signature="s") == ("FAILED_PRECONDITION", 'Serving signature key "s" not found.')


def test_inputs_that_do_not_fit_the_signature(prediction: Any, predict_request: Any) -> None:
    def wrong(**inputs: Any) -> tuple[str, str]:
        return failure(lambda: prediction.Predict(predict_request(**inputs)))

    assert wrong(x=[1.0], y=[1.0]) == (
        "INVALID_ARGUMENT",
        "input size does not match signature: 2!=1 len({x,y}) != len({x}). Sent extra: {y}. Missing but required: {}.",
    )
    assert wrong() == (
        "INVALID_ARGUMENT",
        "input size does not match signature: 0!=1 len({}) != len({x}). Sent extra: {}. Missing but required: {x}.",
    )
    assert wrong(y=[1.0]) == (
        "INVALID_ARGUMENT",
        "Signature input alias: x(feed name: x:0) not found in request and no default value provided. Inputs expected "
        "to be in the request {y}, or default input alias set: ",
    )
    assert wrong(x=np.array([1], np.int32))[0] == "INVALID_ARGUMENT"
    request = predict_request()
    request.inputs["x"].dtype = 1
    request.inputs["x"].tensor_shape.dim.add(size=-1)
    assert failure(lambda: prediction.Predict(request)) == ("INVALID_ARGUMENT", "tensor parsing error: x")


def test_long_messages_are_cut_off(prediction: Any, predict_request: Any) -> None:
    code, message = failure(lambda: prediction.Predict(predict_request("m" * 5000, x=[1.0])))
    assert code == "NOT_FOUND"
    assert len(message) == 1024 + len("...TRUNCATED")
    assert message.endswith("m...TRUNCATED")


# Classify, Regress, MultiInference


def fill_examples(api: Any, target: Any, *values: float) -> None:
    for value in values:
        target.examples.append(api.example_pb2.Example())
        target.examples[-1].features.feature["x"].float_list.value.append(value)


def test_classify_and_regress(api: Any, prediction: Any) -> None:
    request = api.classification_pb2.ClassificationRequest()
    request.model_spec.name, request.model_spec.signature_name = "half_plus", "classify"
    fill_examples(api, request.input.example_list, 1.0, 2.0)
    response = prediction.Classify(request)
    assert [[(c.label, c.score) for c in item.classes] for item in response.result.classifications] == [
        [("low", 3.5), ("high", 4.5)],
        [("low", 4.0), ("high", 5.0)],
    ]
    assert response.model_spec.signature_name == "classify"
    regression = api.regression_pb2.RegressionRequest()
    regression.model_spec.name, regression.model_spec.signature_name = "half_plus", "regress"
    fill_examples(api, regression.input.example_list_with_context, 1.0)
    assert [item.value for item in prediction.Regress(regression).result.regressions] == [3.5]


def test_classify_errors(api: Any, prediction: Any) -> None:
    request = api.classification_pb2.ClassificationRequest()
    assert failure(lambda: prediction.Classify(request)) == ("INVALID_ARGUMENT", "Missing ModelSpec")
    request.model_spec.name, request.model_spec.signature_name = "half_plus", "none"
    assert failure(lambda: prediction.Classify(request)) == (
        "INVALID_ARGUMENT",
        "No signature was found with the name: none",
    )
    request.model_spec.signature_name = "classify"
    assert failure(lambda: prediction.Classify(request)) == ("INVALID_ARGUMENT", "Input is empty.")
    request.model_spec.signature_name = "regress"
    code, message = failure(lambda: prediction.Classify(request))
    assert code == "INVALID_ARGUMENT"
    assert 'at least one of "classes" or "scores"' in message


def test_multi_inference_runs_several_signatures_on_one_input(api: Any, prediction: Any) -> None:
    request = api.inference_pb2.MultiInferenceRequest()
    for signature, method in (("regress", "regress"), ("classify", "classify")):
        task = request.tasks.add(method_name=f"tensorflow/serving/{method}")
        task.model_spec.name, task.model_spec.signature_name = "half_plus", signature
    fill_examples(api, request.input.example_list, 1.0)
    results = prediction.MultiInference(request).results
    assert results[0].regression_result.regressions[0].value == 3.5
    assert results[1].classification_result.classifications[0].classes[1].score == 4.5
    assert [item.model_spec.version.value for item in results] == [2, 2]
    request.tasks[0].method_name = "tensorflow/serving/predict"
    assert failure(lambda: prediction.MultiInference(request)) == (
        "UNIMPLEMENTED",
        "Unsupported signature method_name: tensorflow/serving/predict",
    )


# Metadata and status


def test_metadata_packs_the_signatures(api: Any, prediction: Any) -> None:
    request = api.get_model_metadata_pb2.GetModelMetadataRequest()
    assert failure(lambda: prediction.GetModelMetadata(request)) == ("INVALID_ARGUMENT", "Missing ModelSpec")
    request.model_spec.name = "half_plus"
    request.model_spec.version_label = "stable"
    assert failure(lambda: prediction.GetModelMetadata(request)) == (
        "INVALID_ARGUMENT",
        "GetModelMetadataRequest must specify at least one metadata_field",
    )
    request.metadata_field.append("signature_def")
    response = prediction.GetModelMetadata(request)
    assert (response.model_spec.name, response.model_spec.version.value) == ("half_plus", 1)
    signatures = api.get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(signatures)
    assert signatures.signature_def["serving_default"].inputs["x"].name == "x:0"
    request.metadata_field.append("other")
    assert failure(lambda: prediction.GetModelMetadata(request)) == (
        "INVALID_ARGUMENT",
        "Metadata field other is not supported",
    )


def test_status_of_all_versions_or_one(api: Any, models: Any) -> None:
    request = api.get_model_status_pb2.GetModelStatusRequest()
    assert failure(lambda: models.GetModelStatus(request)) == ("INVALID_ARGUMENT", "Missing ModelSpec")
    request.model_spec.name = "half_plus"
    states = [(item.version, item.state) for item in models.GetModelStatus(request).model_version_status]
    assert states == [(2, 30), (1, 30)]
    request.model_spec.version.value = 1
    assert [item.version for item in models.GetModelStatus(request).model_version_status] == [1]
    request.model_spec.version.value = 5
    assert failure(lambda: models.GetModelStatus(request)) == (
        "NOT_FOUND",
        "Could not find version 5 of model half_plus",
    )
    empty = api.get_model_status_pb2.GetModelStatusRequest()
    empty.model_spec.SetInParent()
    assert failure(lambda: models.GetModelStatus(empty)) == ("NOT_FOUND", "Could not find any versions of model ")


def test_health_is_serving_and_sessions_are_not_offered(channel: grpc.Channel) -> None:
    check = channel.unary_unary("/grpc.health.v1.Health/Check")
    assert check(b"") == check(b"\x0a\x0cModelService") == b"\x08\x01"
    assert failure(lambda: check(b"\x0a\x04none"))[0] == "NOT_FOUND"
    session = channel.unary_unary("/tensorflow.serving.SessionService/SessionRun")
    assert failure(lambda: session(b""))[0] == "UNIMPLEMENTED"


# Reload, last: it changes what the server serves


def test_a_reload_replaces_the_whole_config(api: Any, models: Any, prediction: Any, predict_request: Any) -> None:
    request = api.model_management_pb2.ReloadConfigRequest(
        metric_names=["/tensorflow/cc/saved_model/load_attempt_count"]
    )
    assert failure(lambda: models.HandleReloadConfigRequest(request)) == (
        "INVALID_ARGUMENT",
        "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is currently "
        "supported",
    )
    entry = request.config.model_config_list.config.add(
        name="strings", base_path="/models/strings", model_platform="tensorflow"
    )
    entry.version_labels["stable"] = 1
    added = request.config.model_config_list.config.add(
        name="again", base_path="/models/half_plus", model_platform="tensorflow"
    )
    response = models.HandleReloadConfigRequest(request)
    assert response.status.error_code == 0
    assert response.metric[0].name == "/tensorflow/cc/saved_model/load_attempt_count"
    assert list(prediction.Predict(predict_request("again", x=[[1.0]])).outputs["y"].float_val) == [3.5]
    added.base_path = "relative"
    assert failure(lambda: models.HandleReloadConfigRequest(request)) == (
        "INVALID_ARGUMENT",
        "Expected model again to have an absolute path or URI; got base_path()=relative",
    )
