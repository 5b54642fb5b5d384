"""Services of real TensorFlow models behind the gateway, by REST and by the official stubs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import alibabacloud_oss_v2 as oss
import grpc
import pytest

from tests.waiting import until

pytestmark = pytest.mark.slow

BUCKET = "examplebucket"
ROOT = "models/tf_serving/"
FLAGS = (
    "--model_config_file=/models/model_config.pbtxt --model_config_file_poll_wait_seconds=1 "
    "--allow_version_labels_for_unavailable_models=true"
)
STORAGE = [{"mount_path": "/models", "oss": {"path": f"oss://{BUCKET}/{ROOT}", "readOnly": True}}]


def config_file(stable: int) -> bytes:
    return f"""model_config_list {{ config {{
      name: 'modelB' base_path: '/models/modelB/' model_platform: 'tensorflow'
      model_version_policy {{ specific {{ versions: 1 versions: 2 }} }}
      version_labels {{ key: 'stable' value: {stable} }} version_labels {{ key: 'canary' value: 2 }}
    }} }}""".encode()


def save_model(directory: Path, factor: float) -> None:
    """A model that multiplies by its version number."""
    import tensorflow as tf

    class Multiply(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.factor = tf.Variable(factor)

        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])  # type: ignore[untyped-decorator]
        def serve(self, x: Any) -> Any:
            return {"y": x * self.factor}

    module = Multiply()
    tf.saved_model.save(module, str(directory), signatures={"serving_default": module.serve})


@pytest.fixture(scope="module")
def cloud(start_eas: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    models = tmp_path_factory.mktemp("models")
    for version in (1, 2):
        save_model(models / "modelB" / str(version), float(version))
    with start_eas(tmp_path_factory.mktemp("real-cloud"), command=(), timing=None) as cloud:
        cloud.oss.put_bucket(oss.PutBucketRequest(bucket=BUCKET))
        for file in sorted(path for path in models.rglob("*") if path.is_file()):
            key = ROOT + file.relative_to(models).as_posix()
            cloud.oss.put_object(oss.PutObjectRequest(bucket=BUCKET, key=key, body=file.read_bytes()))
        publish(cloud, stable=1)
        yield cloud


@pytest.fixture(scope="module")
def services(cloud: Any) -> tuple[Any, Any]:
    """An HTTP service of two instances and a gRPC service, started together."""
    http, rpc = cloud.spec("multi_http", 2, storage=STORAGE), cloud.grpc_spec("multi_grpc", storage=STORAGE)
    for spec in (http, rpc):
        spec["containers"][0] |= {"command": f"/usr/bin/tf_serving_entrypoint.sh {FLAGS}", "env": []}
        cloud.create(spec)
    return cloud.wait("multi_http", seconds=90), cloud.wait("multi_grpc", seconds=90)


def publish(cloud: Any, stable: int) -> None:
    key = f"{ROOT}model_config.pbtxt"
    cloud.oss.put_object(oss.PutObjectRequest(bucket=BUCKET, key=key, body=config_file(stable)))


class Grpc:
    """A client with the official stubs."""

    def __init__(self, service: Any, channel: grpc.Channel) -> None:
        from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

        self.predictions = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        self.models = model_service_pb2_grpc.ModelServiceStub(channel)
        self.metadata = (("authorization", service.access_token),)

    def predict(self, label: str = "", version: int = 0) -> tuple[list[float], int]:
        import tensorflow as tf
        from tensorflow_serving.apis import predict_pb2

        request = predict_pb2.PredictRequest()
        request.model_spec.name = "modelB"
        if label:
            request.model_spec.version_label = label
        if version:
            request.model_spec.version.value = version
        request.inputs["x"].CopyFrom(tf.make_tensor_proto([1.0, 10.0]))
        answer = self.predictions.Predict(request, metadata=self.metadata, timeout=60)
        return list(answer.outputs["y"].float_val), answer.model_spec.version.value


@pytest.fixture
def rpc(services: tuple[Any, Any]) -> Iterator[Grpc]:
    with grpc.insecure_channel(services[1].internet_endpoint.removeprefix("http://")) as channel:
        client = Grpc(services[1], channel)

        def is_open() -> bool:
            try:
                client.predict()
            except grpc.RpcError:  # the gateway has not noticed the service yet
                return False
            return True

        until(is_open)
        yield client


@pytest.fixture
def post(services: tuple[Any, Any], send: Any) -> Any:
    service = services[0]
    until(lambda: send("GET", service.internet_endpoint, service.access_token).status != 503)

    def post(path: str, token: str = service.access_token) -> Any:
        url = f"{service.internet_endpoint}/v1/models/{path}"
        return send("POST", url, token, b'{"instances": [1.0, 10.0]}')

    return post


def test_versions_and_labels_answer_over_rest(post: Any) -> None:
    for path, factor in (("", 2), ("/versions/1", 1), ("/versions/2", 2), ("/labels/stable", 1), ("/labels/canary", 2)):
        answer = post(f"modelB{path}:predict")
        assert (answer.status, answer.json) == (200, {"predictions": [1.0 * factor, 10.0 * factor]})
    assert post("modelB/labels/nobody:predict").status == 400
    assert post("modelX:predict").status == 404
    assert post("modelB:predict", token="wrong").status == 401


def test_versions_and_labels_answer_over_grpc(rpc: Grpc) -> None:
    from tensorflow_serving.apis import get_model_status_pb2

    assert rpc.predict() == ([2.0, 20.0], 2)
    assert rpc.predict(version=1) == ([1.0, 10.0], 1)
    assert rpc.predict(label="stable") == ([1.0, 10.0], 1)
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "modelB"
    status = rpc.models.GetModelStatus(request, metadata=rpc.metadata)
    assert [(s.version, s.state) for s in status.model_version_status] == [(2, 30), (1, 30)]
    with pytest.raises(grpc.RpcError) as caught:
        rpc.predict(label="nobody")
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details() == "Unrecognized servable version label: nobody"
    rpc.metadata = (("authorization", "wrong"),)
    with pytest.raises(grpc.RpcError) as caught:
        rpc.predict()
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_a_label_moves_in_both_services_without_a_restart(cloud: Any, post: Any, rpc: Grpc) -> None:
    pids = cloud.pids("multi_http") | cloud.pids("multi_grpc")
    assert len(pids) == 3
    for stable in (2, 1):
        publish(cloud, stable)
        answers = {"predictions": [1.0 * stable, 10.0 * stable]}
        until(lambda answers=answers: all(post("modelB/labels/stable:predict").json == answers for _ in range(6)))
        until(lambda stable=stable: rpc.predict(label="stable")[1] == stable)
    assert cloud.pids("multi_http") | cloud.pids("multi_grpc") == pids


def test_a_rolling_restart_of_both_services_under_load_fails_nothing(cloud: Any, post: Any, rpc: Grpc) -> None:
    before = cloud.pids("multi_http") | cloud.pids("multi_grpc")
    failures: list[Any] = []
    count, stop = [0], threading.Event()

    def repeat(request: Any) -> None:
        while not stop.wait(0.01):
            try:
                assert request()
            except Exception as error:
                failures.append(error)
            count[0] += 1

    requests = [
        lambda: post("modelB/labels/stable:predict").status == 200,
        lambda: post("modelB/versions/2:predict").status == 200,
        lambda: rpc.predict(label="canary")[1] == 2,
    ]
    threads = [threading.Thread(target=repeat, args=[request]) for request in requests]
    for thread in threads:
        thread.start()
    for name in ("multi_http", "multi_grpc"):
        cloud.client.restart_service("cn-hangzhou", name)
    for name in ("multi_http", "multi_grpc"):
        cloud.wait(name, seconds=90)
    until(lambda: len(cloud.pids("multi_http") | cloud.pids("multi_grpc")) == 3)
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert count[0] > 50
    assert (cloud.pids("multi_http") | cloud.pids("multi_grpc")).isdisjoint(before)


def test_labels_at_start_without_the_allow_flag_end_the_server_and_the_service_says_why(cloud: Any) -> None:
    spec = cloud.spec("no_flag", storage=STORAGE)
    spec["containers"][0]["command"] = "tf_serving_entrypoint.sh --model_config_file=/models/model_config.pbtxt"
    cloud.create(spec)
    failed = cloud.wait("no_flag", "Failed", seconds=90)
    assert "exited with status 255" in failed.message
    assert "Request to assign label" in failed.message
    scenario = {**spec, "labels": {"tf-serving-deployment": "scenario"}}
    cloud.update("no_flag", scenario)
    cloud.wait("no_flag", seconds=90)
    cloud.delete("no_flag")


def test_a_model_that_writes_files_is_not_served_and_the_log_says_why(cloud: Any, tmp_path: Path) -> None:
    import tensorflow as tf

    evil = tmp_path / "evil"

    class Writer(tf.Module):  # type: ignore[misc]
        @tf.function(input_signature=[tf.TensorSpec([], tf.string, name="x")])  # type: ignore[untyped-decorator]
        def serve(self, x: Any) -> Any:
            tf.io.write_file(str(evil), x)
            return {"y": x}

    module = Writer()
    tf.saved_model.save(module, str(tmp_path / "writer"), signatures={"serving_default": module.serve})
    body = (tmp_path / "writer" / "saved_model.pb").read_bytes()
    cloud.oss.put_object(oss.PutObjectRequest(bucket=BUCKET, key="foreign/model/1/saved_model.pb", body=body))
    storage = [{"mount_path": "/models", "oss": {"path": f"oss://{BUCKET}/foreign/"}}]
    cloud.create(cloud.spec("foreign", storage=storage))
    words = "UNIMPLEMENTED: The sandbox's model server does not run operations that write files: WriteFile"
    until(lambda: words in str(cloud.logs("foreign").logs))
    cloud.delete("foreign")
    assert not evil.exists()
