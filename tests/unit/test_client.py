"""The REST and the gRPC client, against small servers in this process that give TensorFlow Serving's answers."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

import grpc
import pytest
from google.protobuf import json_format

from tests.ports import free_port
from tfserving.client import GrpcClient, ModelClient, RestClient, connect
from tfserving.errors import ServiceError, ServiceNotFoundError, ServiceUnreachableError
from tfserving.hosts import is_loopback
from tfserving.protos import tf_serving_pb2 as pb
from tfserving.tensors import decode, encode

TOKEN = "c2VjcmV0LXRva2Vu"


@dataclass
class Serving:
    """Two versions of a model ``m`` that multiply by their version; version 2 has two inputs and two outputs."""

    labels: dict[str, int] = field(default_factory=lambda: {"stable": 1})
    token: str = TOKEN
    seen: list[str] = field(default_factory=list)

    def resolve(self, model: str, version: int | None, label: str | None) -> tuple[int, str, grpc.StatusCode]:
        """(version, "", OK), or the message and code with which the server refuses."""
        if label is not None and label not in self.labels:
            return 0, f"Unrecognized servable version label: {label}", grpc.StatusCode.INVALID_ARGUMENT
        number = self.labels[label] if label is not None else version
        if model != "m" or number not in (None, 1, 2):
            asked = f"Latest({model})" if number is None else f"Specific({model}, {number})"
            return 0, f"Servable not found for request: {asked}", grpc.StatusCode.NOT_FOUND
        return number or 2, "", grpc.StatusCode.OK

    def status(self) -> pb.GetModelStatusResponse:
        state = pb.ModelVersionStatus
        failed = pb.StatusProto(error_code=5, error_message="no saved_model.pb")
        return pb.GetModelStatusResponse(
            model_version_status=[
                state(version=3, state=state.END, status=failed),
                state(version=2, state=state.AVAILABLE, status=pb.StatusProto()),
                state(version=1, state=state.AVAILABLE, status=pb.StatusProto()),
            ]
        )

    def signatures(self, version: int) -> pb.SignatureDefMap:
        shape = pb.TensorShapeProto(dim=[pb.TensorShapeProto.Dim(size=-1), pb.TensorShapeProto.Dim(size=2)])
        signature = pb.SignatureDef(method_name="tensorflow/serving/predict")
        for name in ["x"] if version == 1 else ["w", "x"]:
            signature.inputs[name].CopyFrom(pb.TensorInfo(name=f"{name}:0", dtype=pb.DT_FLOAT, tensor_shape=shape))
        signature.outputs["y"].CopyFrom(
            pb.TensorInfo(name="y:0", dtype=pb.DT_FLOAT, tensor_shape=pb.TensorShapeProto(unknown_rank=True))
        )
        return pb.SignatureDefMap(signature_def={"serving_default": signature})

    def run(self, version: int, inputs: dict[str, Any]) -> dict[str, Any]:
        scaled = [[float(version * value) for value in row] for row in inputs["x"]]
        return {"y": scaled} if version == 1 else {"y": scaled, "name_bytes": ["a"] * len(scaled)}


def rest_handler(serving: Serving) -> type[BaseHTTPRequestHandler]:
    route = re.compile(
        r"/api/predict/svc/v1/models/([^/:]+)(?:/versions/(\d+)|/labels/([^/:]+))?(/metadata|:predict)?$"
    )

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def answer(self, status: int, body: Any, **headers: str) -> None:
            raw = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def do_GET(self) -> None:
            serving.seen.append(f"{self.command} {self.path} {self.headers.get('Authorization')}")
            sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.path.startswith("/redirect/"):
                return self.answer(302, b"", Location="http://127.0.0.1:9/")
            if self.path.startswith("/status/"):
                status = int(self.path.split("/")[2])
                body = b'{"error": "Server says so"}' if "tfs" in self.path else b"<html>gateway</html>"
                return self.answer(status, body)
            if self.headers.get("Authorization") != TOKEN:
                return self.answer(401, b"Unauthorized")
            found = route.fullmatch(self.path)
            if found is None:
                return self.answer(404, b"<html>no such service</html>")
            model, number, label, verb = (unquote(part) if part else None for part in found.groups())
            if verb is None:
                if model != "m":
                    return self.answer(404, {"error": f"Could not find any versions of model {model}"})
                states = serving.status().model_version_status
                listed = [json_format.MessageToDict(state, preserving_proto_field_name=True) for state in states]
                for item, state in zip(listed, states, strict=True):
                    code = {0: "OK", 5: "NOT_FOUND"}[state.status.error_code]
                    item["status"] = {"error_code": code, "error_message": state.status.error_message}
                return self.answer(200, {"model_version_status": listed})
            version, refused, code = serving.resolve(str(model), int(number) if number else None, label)
            if refused:
                return self.answer(404 if code is grpc.StatusCode.NOT_FOUND else 400, {"error": refused})
            if verb == "/metadata":
                signatures = json_format.MessageToDict(serving.signatures(version), preserving_proto_field_name=True)
                signatures["signature_def"]["serving_default"]["newer_field"] = {}
                spec = {"name": model, "signature_name": "", "version": str(version)}
                return self.answer(200, {"model_spec": spec, "metadata": {"signature_def": signatures}})
            request = json.loads(sent)
            if request["signature_name"] != "serving_default":
                return self.answer(400, {"error": 'Serving signature name: "s" not found in signature def'})
            rows = [row if isinstance(row, dict) else {"x": row} for row in request["instances"]]
            outputs = serving.run(version, {"x": [row["x"] for row in rows]})
            if len(outputs) == 1:
                return self.answer(200, {"predictions": outputs["y"]})
            pairs = zip(*outputs.values(), strict=True)
            encoded = [{"y": y, "name_bytes": {"b64": "YQ=="}} for y, _ in pairs]
            return self.answer(200, {"predictions": encoded})

        do_POST = do_GET

    return Handler


def grpc_handler(serving: Serving) -> grpc.GenericRpcHandler:
    def guarded(run: Callable[[Any, grpc.ServicerContext], Any]) -> Callable[[Any, grpc.ServicerContext], Any]:
        def handle(request: Any, context: grpc.ServicerContext) -> Any:
            sent = dict(context.invocation_metadata())
            serving.seen.append(f"{type(request).__name__} {sent.get('authorization')}")
            if sent.get("authorization") != serving.token:
                context.abort(grpc.StatusCode.UNAUTHENTICATED, "Unauthorized")
            return run(request, context)

        return handle

    def version_of(spec: pb.ModelSpec, context: grpc.ServicerContext) -> int:
        chosen = spec.WhichOneof("version_choice")
        version, refused, code = serving.resolve(
            spec.name,
            spec.version.value if chosen == "version" else None,
            spec.version_label if chosen == "version_label" else None,
        )
        if refused:
            context.abort(code, refused)
        return version

    def status(request: pb.GetModelStatusRequest, context: grpc.ServicerContext) -> pb.GetModelStatusResponse:
        if request.model_spec.name != "m":
            context.abort(grpc.StatusCode.NOT_FOUND, f"Could not find any versions of model {request.model_spec.name}")
        return serving.status()

    def metadata(request: pb.GetModelMetadataRequest, context: grpc.ServicerContext) -> pb.GetModelMetadataResponse:
        version = version_of(request.model_spec, context)
        answer = pb.GetModelMetadataResponse(model_spec=pb.ModelSpec(name=request.model_spec.name))
        answer.model_spec.version.value = version
        packed = answer.metadata["signature_def"]
        packed.type_url = "type.googleapis.com/tensorflow.serving.SignatureDefMap"
        packed.value = serving.signatures(version).SerializeToString()
        return answer

    def predict(request: pb.PredictRequest, context: grpc.ServicerContext) -> pb.PredictResponse:
        version = version_of(request.model_spec, context)
        expected = {"x"} if version == 1 else {"w", "x"}
        if set(request.inputs) != expected:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "input size does not match signature")
        if request.inputs["x"].tensor_shape.dim[0].size == 13:
            context.abort(grpc.StatusCode.INTERNAL, "x" * 5000)
        outputs = serving.run(version, {"x": decode(request.inputs["x"], "x")})
        answer = pb.PredictResponse(model_spec=request.model_spec)
        answer.model_spec.version.value = version
        for name, value in outputs.items():
            dtype = pb.DT_FLOAT if name == "y" else pb.DT_STRING
            answer.outputs[name].CopyFrom(encode(value, dtype, name))
        return answer

    def method(run: Callable[[Any, grpc.ServicerContext], Any], request: Any) -> grpc.RpcMethodHandler:
        return grpc.unary_unary_rpc_method_handler(
            guarded(run), request.FromString, lambda message: message.SerializeToString()
        )

    methods = {
        "/tensorflow.serving.ModelService/GetModelStatus": method(status, pb.GetModelStatusRequest),
        "/tensorflow.serving.PredictionService/GetModelMetadata": method(metadata, pb.GetModelMetadataRequest),
        "/tensorflow.serving.PredictionService/Predict": method(predict, pb.PredictRequest),
    }

    class Generic(grpc.GenericRpcHandler):
        def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
            return methods.get(details.method)

    return Generic()


@pytest.fixture(scope="module")
def serving() -> Serving:
    return Serving()


@pytest.fixture(scope="module")
def base(serving: Serving) -> Iterator[str]:
    """The HTTP server's address, without the service's path."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), rest_handler(serving))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def target(serving: Serving) -> Iterator[str]:
    server = grpc.server(futures.ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers([grpc_handler(serving)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


@pytest.fixture(params=["rest", "grpc"])
def client(request: pytest.FixtureRequest, base: str, target: str, serving: Serving) -> Iterator[ModelClient]:
    serving.seen.clear()
    if request.param == "rest":
        opened = connect(url=f"{base}/api/predict/svc/", token=TOKEN, timeout=5)
    else:
        opened = connect(target=target, token=TOKEN, timeout=5)
    with opened:
        yield opened


# ---- the same over both protocols


def test_status_tells_every_versions_state_and_the_servers_message(client: ModelClient) -> None:
    first, second, third = client.status("m")
    assert (first.version, first.state, first.error_code, first.error_message) == (
        3,
        "END",
        "NOT_FOUND",
        "no saved_model.pb",
    )
    assert (second.version, second.state, second.error_code) == (2, "AVAILABLE", "OK")
    assert third.version == 1


def test_metadata_tells_inputs_and_outputs(client: ModelClient) -> None:
    assert client.metadata("m", version=1) == {
        "name": "m",
        "version": 1,
        "signatures": {
            "serving_default": {
                "inputs": {"x": {"dtype": "float32", "shape": [None, 2]}},
                "outputs": {"y": {"dtype": "float32", "shape": None}},
                "method_name": "tensorflow/serving/predict",
            }
        },
    }
    assert client.metadata("m")["version"] == 2
    assert client.metadata("m", label="stable")["version"] == 1


def test_a_labels_version_is_the_one_that_answers(client: ModelClient) -> None:
    assert client.labelled_version("m", "stable") == 1


def test_a_prediction_by_latest_version_and_label(client: ModelClient) -> None:
    assert client.predict("m", [[1.0, 2.0], [3.0, 4.0]], version=1).outputs == [[1.0, 2.0], [3.0, 4.0]]
    assert client.predict("m", [{"x": [1.0, 2.0]}], label="stable").outputs == [[1.0, 2.0]]
    by_latest = client.predict("m", [{"x": [1.0, 2.0], "w": [0.0, 0.0]}])
    assert by_latest.outputs == [{"y": [2.0, 4.0], "name_bytes": {"b64": "YQ=="}}]
    assert by_latest.seconds > 0


def test_the_version_that_answered_is_told_where_the_protocol_tells_it(base: str, target: str) -> None:
    with RestClient(f"{base}/api/predict/svc", TOKEN) as rest, GrpcClient(target, TOKEN) as over_grpc:
        assert rest.predict("m", [[1.0, 2.0]], version=1).version == 1
        assert rest.predict("m", [[1.0, 2.0]], label="stable").version is None
        assert over_grpc.predict("m", [[1.0, 2.0]], label="stable").version == 1


@pytest.mark.parametrize(
    "ask",
    [
        lambda client: client.status("other"),
        lambda client: client.metadata("other"),
        lambda client: client.metadata("m", version=9),
        lambda client: client.labelled_version("m", "canary"),
        lambda client: client.predict("m", [[1.0, 2.0]], version=9),
        lambda client: client.predict("m", [[1.0, 2.0]], label="canary"),
    ],
)
def test_what_is_not_served_is_not_found(client: ModelClient, ask: Callable[[ModelClient], Any]) -> None:
    with pytest.raises(ServiceNotFoundError, match=r"not find|not found|Unrecognized servable version label"):
        ask(client)


def test_an_unknown_signature_is_the_callers_error(client: ModelClient) -> None:
    with pytest.raises(ServiceError, match="not found in signature def") as caught:
        client.predict("m", [[1.0, 2.0]], version=1, signature_name="s")
    assert caught.value.status == 400
    assert type(caught.value) is ServiceError


def test_a_request_names_a_version_or_a_label(client: ModelClient) -> None:
    with pytest.raises(ValueError, match="not both"):
        client.predict("m", [[1.0]], version=1, label="stable")
    with pytest.raises(ValueError, match="not both"):
        client.metadata("m", version=1, label="stable")


def test_the_token_is_sent_with_every_request_and_shown_nowhere(client: ModelClient, serving: Serving) -> None:
    client.status("m")
    client.predict("m", [[1.0, 2.0]], version=1)
    assert serving.seen
    assert all(line.endswith(f" {TOKEN}") for line in serving.seen)
    assert TOKEN not in repr(client)


# ---- nobody there


def test_a_refused_token_is_told_without_showing_it(base: str, target: str) -> None:
    for client in (RestClient(f"{base}/api/predict/svc", "wrong-token"), GrpcClient(target, "wrong-token")):
        with client, pytest.raises(ServiceUnreachableError, match="the token was refused") as caught:
            client.status("m")
        assert caught.value.status == 401
        assert "wrong-token" not in str(caught.value)


def test_a_grpc_gateway_that_wants_bearer_gets_it_once_it_has_said_so(target: str, serving: Serving) -> None:
    serving.seen.clear()
    serving.token = f"Bearer {TOKEN}"
    try:
        with GrpcClient(target, TOKEN) as client:
            client.status("m")
            client.status("m")
    finally:
        serving.token = TOKEN
    assert [line.split(" ", 1)[1] for line in serving.seen] == [TOKEN, f"Bearer {TOKEN}", f"Bearer {TOKEN}"]


def test_no_token_sends_no_header(base: str, target: str, serving: Serving) -> None:
    serving.seen.clear()
    for client in (RestClient(f"{base}/api/predict/svc"), GrpcClient(target)):
        with client, pytest.raises(ServiceUnreachableError):
            client.status("m")
    assert [line.rsplit(" ", 1)[1] for line in serving.seen] == ["None", "None"]


def test_a_closed_port_is_unreachable() -> None:
    port = free_port()
    for client in (RestClient(f"http://127.0.0.1:{port}", TOKEN), GrpcClient(f"127.0.0.1:{port}", TOKEN)):
        with client, pytest.raises(ServiceUnreachableError, match=f"127.0.0.1:{port}"):
            client.status("m")


def test_a_silent_server_is_unreachable_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        for client in (
            RestClient(f"http://127.0.0.1:{port}", timeout=0.2),
            GrpcClient(f"127.0.0.1:{port}", timeout=0.2),
        ):
            with client, pytest.raises(ServiceUnreachableError):
                client.status("m")


def test_a_server_that_comes_back_is_found_again(serving: Serving) -> None:
    port = free_port()
    with GrpcClient(f"127.0.0.1:{port}", TOKEN, timeout=5) as client:
        with pytest.raises(ServiceUnreachableError):
            client.status("m")
        server = grpc.server(futures.ThreadPoolExecutor(1))
        server.add_generic_rpc_handlers([grpc_handler(serving)])
        server.add_insecure_port(f"127.0.0.1:{port}")
        server.start()
        try:
            for _ in range(100):
                try:
                    assert client.status("m")
                    break
                except ServiceUnreachableError:
                    threading.Event().wait(0.05)
            else:
                pytest.fail("the client never reached the server again")
        finally:
            server.stop(None).wait()


@pytest.mark.parametrize(
    ("path", "said", "status"),
    [
        ("api/predict/other", "not from TensorFlow Serving", 404),
        ("status/404", "not from TensorFlow Serving", 404),
        ("status/502", "HTTP 502 from the gateway", 502),
        ("status/503", "HTTP 503 from the gateway", 503),
        ("status/500", "HTTP 500 from the gateway", 500),
        ("status/503/tfs", "HTTP 503: Server says so", 503),
        ("status/504/tfs", "HTTP 504: Server says so", 504),
        ("status/403/tfs", "the token was refused", 403),
        ("status/200", "not from TensorFlow Serving", 200),
        ("status/200/tfs", "not from TensorFlow Serving", 200),
        ("redirect", "not from TensorFlow Serving", 302),
    ],
)
def test_a_gateway_that_answers_instead_is_unreachable(base: str, path: str, said: str, status: int) -> None:
    with RestClient(f"{base}/{path}", TOKEN) as client, pytest.raises(ServiceUnreachableError, match=said) as caught:
        client.status("m")
    assert caught.value.status == status


@pytest.mark.parametrize("ask", ["metadata", "predict"])
def test_an_answer_that_is_not_tensorflow_servings_is_told(base: str, ask: str) -> None:
    with RestClient(f"{base}/status/200/tfs", TOKEN) as client:
        asked = {"metadata": lambda: client.metadata("m"), "predict": lambda: client.predict("m", [1.0])}[ask]
        with pytest.raises(ServiceUnreachableError, match="not from TensorFlow Serving"):
            asked()


@pytest.mark.parametrize("status", [400, 429, 500, 501])
def test_an_error_of_the_server_keeps_its_words_and_status(base: str, status: int) -> None:
    with RestClient(f"{base}/status/{status}/tfs", TOKEN) as client, pytest.raises(ServiceError) as caught:
        client.status("m")
    assert type(caught.value) is ServiceError
    assert (str(caught.value), caught.value.status) == ("Server says so", status)


def test_a_redirect_does_not_carry_the_token_away(base: str, serving: Serving) -> None:
    serving.seen.clear()
    with RestClient(f"{base}/redirect", TOKEN) as client, pytest.raises(ServiceUnreachableError):
        client.status("m")
    assert len(serving.seen) == 1


def test_http_where_grpc_was_expected_is_unreachable(base: str) -> None:
    address = base.removeprefix("http://")
    with GrpcClient(address, TOKEN, timeout=2) as client, pytest.raises(ServiceUnreachableError):
        client.status("m")


def test_a_proxy_of_the_environment_is_not_used_for_this_machine(
    base: str, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "grpc_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    for client in (RestClient(f"{base}/api/predict/svc", TOKEN), GrpcClient(target, TOKEN)):
        with client:
            assert client.status("m")


# ---- gRPC requests are built from the signature


def test_a_moved_label_with_another_signature_is_asked_again(target: str, serving: Serving) -> None:
    with GrpcClient(target, TOKEN) as client:
        assert client.predict("m", [[1.0, 2.0]], label="stable").version == 1
        serving.labels["stable"] = 2
        try:
            answer = client.predict("m", [{"x": [1.0, 2.0], "w": [0.0, 0.0]}], label="stable")
        finally:
            serving.labels["stable"] = 1
        assert answer.version == 2


def test_the_signature_is_asked_for_once(target: str, serving: Serving) -> None:
    serving.seen.clear()
    with GrpcClient(target, TOKEN) as client:
        for _ in range(3):
            client.predict("m", [[1.0, 2.0]], version=1)
    assert [line.split()[0] for line in serving.seen].count("GetModelMetadataRequest") == 1


@pytest.mark.parametrize(
    ("instances", "version", "said"),
    [
        ([], 1, "No values in 'instances' array"),
        ([[1.0, 2.0], [1.0]], 1, "different lengths"),
        ([["a", "b"]], 1, "is not of type float32"),
        ([[1.0, 2.0]], 2, "expecting list of objects as multiple input tensors"),
        ([{"x": [1.0, 2.0]}], 2, "has inputs ['x'], expected ['w', 'x']"),
    ],
)
def test_instances_that_do_not_fit_the_signature_are_refused(
    target: str, instances: list[Any], version: int, said: str
) -> None:
    with GrpcClient(target, TOKEN) as client, pytest.raises(ServiceError) as caught:
        client.predict("m", instances, version=version)
    assert said in str(caught.value)
    assert caught.value.status == 400


def test_a_long_error_text_is_cut(target: str) -> None:
    with GrpcClient(target, TOKEN) as client, pytest.raises(ServiceError) as caught:
        client.predict("m", [[1.0, 2.0]] * 13, version=1)
    assert caught.value.status == 500
    assert len(str(caught.value)) < 1100


# ---- addresses and tokens


@pytest.mark.parametrize(
    "url", ["127.0.0.1:80", "ftp://host/", "http://", "http://h/?a=1", "http://user:hush@h/", "file:///x", "http://["]
)
def test_what_is_not_a_services_url_is_refused(url: str) -> None:
    with pytest.raises(ServiceError, match="is not the URL of a service") as caught:
        RestClient(url)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("target", ["http://h:80", "host", "host:", "host:http", ":80", "u:hush@h:80", "h:80/path"])
def test_what_is_not_a_grpc_target_is_refused(target: str) -> None:
    with pytest.raises(ServiceError, match="is not the gRPC target") as caught:
        GrpcClient(target)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("token", ["abc\n", "a\r\nX: y", "käse", " abc"])
def test_a_token_no_header_can_carry_is_refused_without_showing_it(token: str) -> None:
    for open_client in (lambda: RestClient("http://h", token), lambda: GrpcClient("h:80", token)):
        with pytest.raises(ServiceError, match="the service token holds") as caught:
            open_client()
        assert token.strip() not in str(caught.value)


def test_exactly_one_address_is_needed() -> None:
    for addresses in ({}, {"url": "http://h", "target": "h:80"}):
        with pytest.raises(ValueError, match="exactly one"):
            connect(**addresses)


def test_loopback_addresses_are_known() -> None:
    assert all(map(is_loopback, ["localhost", "127.0.0.1", "127.8.9.1", "::1", "svc.localhost"]))
    assert not any(map(is_loopback, ["example.com", "10.0.0.1", "localhost.example.com"]))
