"""A real server process beside what the source of TensorFlow Serving says: batching, threads, health, reflection,
request logging, metrics, and HTTP as clients really speak it."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2

from sandbox.model_server.reflection import Reflection
from tests.waiting import until
from tfserving import promql
from tfserving.client import GrpcClient
from tfserving.errors import ServiceError
from tfserving.metrics import Page

pytestmark = pytest.mark.slow

CONFIG = """
model_config_list {
  config { name: 'half_plus' base_path: '/models/half_plus' model_platform: 'tensorflow' }
  config { name: 'slow' base_path: '/models/slow' model_platform: 'tensorflow' }
}
"""
BATCHING = "max_batch_size { value: 4 } allowed_batch_sizes: 2 allowed_batch_sizes: 4"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    files = tmp_path_factory.mktemp("config")
    (files / "c.pbtxt").write_text(CONFIG)
    (files / "batching.pbtxt").write_text(BATCHING)
    (files / "monitoring.pbtxt").write_text("prometheus_config { enable: true }")
    return files


@pytest.fixture(scope="module")
def server(start_server: Any, tiny_models: Path, files: Path) -> Any:
    return start_server(
        "--model_config_file=/config/c.pbtxt",
        "--model_config_file_poll_wait_seconds=1",
        "--monitoring_config_file=/config/monitoring.pbtxt",
        "--enable_batching=true",
        "--batching_parameters_file=/config/batching.pbtxt",
        "--enable_grpc_healthcheck_service=true",
        "--grpc_max_threads=3",
        mounts={"/models": tiny_models, "/config": files},
    )


@pytest.fixture(scope="module")
def channel(server: Any) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.target) as opened:
        yield opened


# ---- batching ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"instances": [1.0, 2.0, 3.0]}, 200, "3.5"),
        ({"inputs": [1.0]}, 200, "3.5"),
        ({"instances": [1.0] * 5}, 400, "Task size 5 is larger than maximum input batch size 4"),
        ({"inputs": 1.0}, 400, "Batching Run() input tensors must have at least one dimension"),
        ({"inputs": []}, 500, "Batch size expected to be positive; was 0"),
    ],
)
def test_a_batch_is_padded_or_refused(server: Any, body: Any, status: int, said: str) -> None:
    answered, text = server.post("/v1/models/half_plus:predict", body)
    assert answered == status, text
    assert said in text
    if status == 200:
        values = next(iter(json.loads(text).values()))
        assert len(values) == len(next(iter(body.values())))


SPLIT = "enable_large_batch_splitting { value: true } max_execution_batch_size { value: %d }"


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        (
            "max_batch_size { value: 8 } allowed_batch_sizes: 4",
            "Last entry in allowed_batch_sizes must match max_batch_size; last entry was 4; expected 8",
        ),
        (
            f"max_batch_size {{ value: 8 }} allowed_batch_sizes: 4 {SPLIT % 4}",
            "Last entry in allowed_batch_sizes must match max_batch_size; last entry was 4; expected 8",
        ),
        (
            f"max_batch_size {{ value: 8 }} {SPLIT % 16}",
            "input_batch_size_limit must be greater than or equal to max_execution_batch_size.1816",
        ),
    ],
)
def test_batching_parameters_that_do_not_go_together_fail_the_load(
    parameters: str, said: str, start_server: Any, tiny_models: Path, tmp_path: Path
) -> None:
    (tmp_path / "b.pbtxt").write_text(parameters)
    failed = start_server(
        "--model_name=m",
        "--model_base_path=/models/half_plus",
        "--enable_batching=true",
        "--batching_parameters_file=/config/b.pbtxt",
        "--max_num_load_retries=0",
        mounts={"/models": tiny_models, "/config": tmp_path},
        wait=False,
    )
    assert failed.process.wait(60) == 255
    assert said in failed.log


# ---- gRPC: threads, health, reflection -----------------------------------------------------------------------------


def test_more_calls_than_threads_are_refused_not_queued(server: Any) -> None:
    def ask(_: int) -> str:
        with GrpcClient(server.target, timeout=60) as client:
            try:
                client.predict("slow", [10**6])
            except ServiceError as error:
                return f"{error.status} {error}"
            return "ok"

    with ThreadPoolExecutor(12) as pool:
        answers = set(pool.map(ask, range(12)))
    # What is answered is refused afterwards: the model's one output row does not fit its padded batch.
    answered = (
        "400 Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes of the input "
        "tensors"
    )
    assert answers == {answered, "429 Server Threadpool Exhausted"}
    assert ask(0) == answered


@pytest.mark.parametrize(
    ("request_bytes", "answer"),
    [(b"", b"\x08\x01"), (b"\x0a\x0cModelService", b"\x08\x01"), (b"\x0a\x01x", b"\x08\x03")],
)
def test_a_watch_of_the_health_says_the_state_and_stays_open(
    channel: grpc.Channel, request_bytes: bytes, answer: bytes
) -> None:
    watches = [channel.unary_stream("/grpc.health.v1.Health/Watch")(request_bytes, timeout=60) for _ in range(30)]
    assert {next(watch) for watch in watches} == {answer}
    assert channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=30) == b"\x08\x01"
    for watch in watches:
        assert watch.is_active()
        watch.cancel()


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection_describes_all_that_is_offered(channel: grpc.Channel, version: str) -> None:
    path = f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo"
    request, response = Reflection([])._messages[path]
    call = channel.stream_stream(
        path, request_serializer=lambda each: each.SerializeToString(), response_deserializer=response.FromString
    )

    def ask(**asked: Any) -> Any:
        (answer,) = call(iter([request(**asked)]), timeout=60)
        return answer

    services = [each.name for each in ask(list_services="").list_services_response.service]
    assert services == [
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
        "tensorflow.serving.ModelService",
        "tensorflow.serving.PredictionService",
    ]
    for service in services:
        files = ask(file_containing_symbol=service).file_descriptor_response.file_descriptor_proto
        protos = [descriptor_pb2.FileDescriptorProto.FromString(each) for each in files]
        names = {proto.name for proto in protos}
        assert service.rpartition(".")[2] in {each.name for each in protos[0].service}
        assert all(name in names for proto in protos for name in proto.dependency)
    assert ask(file_by_filename="tensorflow_serving/apis/predict.proto").file_descriptor_response.ByteSize() > 100
    assert ask(file_containing_symbol="no.Such").error_response.error_code == 5
    assert ask(file_by_filename="no.proto").error_response.error_code == 5


# ---- request logging, metrics --------------------------------------------------------------------------------------


def test_a_config_that_asks_for_request_logging_is_refused_after_its_models_are_served(
    server: Any, files: Path
) -> None:
    logging = "logging_config { log_collector_config { type: 'x' } }"
    added = f"config {{ name: 'logged' base_path: '/models/half_plus' model_platform: 'tensorflow' {logging} }}"
    (files / "c.pbtxt").write_text(CONFIG.replace("model_config_list {", "model_config_list { " + added))
    words = "PollFilesystemAndReloadConfig failed to ReloadConfig: No request-logger-creator provided."
    until(lambda: words in server.log)
    assert server.post("/v1/models/logged:predict", {"instances": [1.0]})[0] == 200


def test_a_get_is_counted_without_a_method(server: Any) -> None:
    assert server.get("/v1/models/half_plus/metadata")[0] == 200
    assert server.post("/v1/models/half_plus:predict", {"instances": [1.0]})[0] == 200
    page = server.get("/monitoring/prometheus/metrics")[1]
    assert ':tensorflow:serving:request_latency_count{model_name="half_plus",API="",entrypoint="REST"}' in page
    assert 'API="predict",entrypoint="REST"' in page
    assert 'API="metadata"' not in page


def test_the_page_has_every_metric_that_alerts_and_dashboard_ask_for_with_its_labels(server: Any) -> None:
    assert server.post("/v1/models/half_plus:predict", {"instances": [1.0]})[0] == 200
    page = Page.parse(server.get("/monitoring/prometheus/metrics")[1])
    found: dict[str, set[str]] = {}
    for name, labels in page.samples:
        found.setdefault(name.removesuffix("_count") if name not in promql.METRICS else name, set()).update(
            dict(labels)
        )
    for name, (_, labels) in promql.METRICS.items():
        assert found.get(name) == set(labels), name


# ---- HTTP ----------------------------------------------------------------------------------------------------------


def exchange(server: Any, *parts: bytes, first_answer: bytes = b"") -> bytes:
    """Sends raw bytes and returns all that comes back; waits for ``first_answer`` after the first part."""
    with socket.create_connection(("127.0.0.1", server.rest_port), 60) as client:
        client.sendall(parts[0])
        received = b""
        while first_answer not in received:
            received += client.recv(65536)
        for part in parts[1:]:
            client.sendall(part)
        while data := client.recv(65536):
            received += data
    return received


HEAD = b"POST /v1/models/half_plus:predict HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
BODY = b'{"instances": [1.0]}'


def test_a_client_that_waits_before_it_sends_is_told_to_go_on(server: Any) -> None:
    head = HEAD + b"Expect: 100-continue\r\nContent-Length: 20\r\n\r\n"
    answer = exchange(server, head, BODY, first_answer=b"HTTP/1.1 100 Continue\r\n\r\n")
    assert b"HTTP/1.1 200 OK" in answer
    assert b"3.5" in answer


def test_another_expectation_fails(server: Any) -> None:
    assert b" 417 " in exchange(server, HEAD + b"Expect: a-miracle\r\nContent-Length: 20\r\n\r\n" + BODY)


def test_a_body_may_come_in_chunks_after_long_headers_and_before_another_request(server: Any) -> None:
    long = b"X-Long: " + b"x" * 100_000 + b"\r\n"
    head = HEAD.replace(b"Connection: close\r\n", b"") + long + b"Transfer-Encoding: chunked\r\n\r\n"
    chunked = b"a\r\n" + BODY[:10] + b"\r\na\r\n" + BODY[10:] + b"\r\n0\r\n\r\n"
    answer = exchange(server, head + chunked + HEAD + b"Content-Length: 20\r\n\r\n" + BODY)
    assert answer.count(b"HTTP/1.1 200 OK") == 2


@pytest.mark.parametrize(
    "sent",
    [
        HEAD + b"Content-Length: 1000\r\n\r\n" + BODY,
        HEAD + b"Transfer-Encoding: chunked\r\n\r\na\r\n" + BODY[:10],
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nno chunk\r\n",
        HEAD[:30],
        b"no http\r\n\r\n",
    ],
)
def test_a_request_that_ends_early_leaves_no_traceback(server: Any, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.rest_port), 60) as client:
        client.sendall(sent)
    assert server.post("/v1/models/half_plus:predict", {"instances": [1.0]})[0] == 200
    assert "Traceback" not in server.log


def test_json_as_rapidjson_takes_it(server: Any) -> None:
    deep = "[" * 3000 + "]" * 3000
    assert server.post("/v1/models/half_plus:predict", f'{{"extra": {deep}, "instances": [1.0]}}')[0] == 200
    assert server.post("/v1/models/half_plus:predict", '{"instances": [1.0], "instances": [5.0]}')[1].count("3.5") == 1
    assert "Infinity" in server.post("/v1/models/half_plus:predict", '{"instances": [Inf]}')[1]
    assert "NaN" in server.post("/v1/models/half_plus:predict", '{"instances": [-NaN]}')[1]
    status, text = server.post("/v1/models/half_plus:predict", '{"instances": [1e400]}')
    assert (status, "Number too big to be stored in double. at offset: 15" in text) == (400, True)
    status, text = server.post("/v1/models/half_plus:predict", f'{{"instances": {deep}}}')
    assert (status, "tensor parsing error" in text) == (400, True)
