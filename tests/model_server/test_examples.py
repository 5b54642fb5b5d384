"""The exported example models, and the document's own requests to a server that serves them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.waiting import until
from tfserving.protos import tf_serving_pb2 as pb

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
VERSIONS = ["modelA/1", "modelB/1", "modelB/2", "modelC/1", "modelC/2", "modelC/3"]


def export(out: Path, *options: str) -> str:
    command = [sys.executable, "-m", "sandbox", "models", "--out", str(out), *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def hashes(out: Path) -> dict[str, str]:
    return {
        str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(out.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("examples")
    text = export(out, "--data", "generated")
    assert "training on drawn images in the shape of Fashion-MNIST" in text
    for version in VERSIONS:
        assert f"] {version}: " in text
    return out


def test_model_directories_hold_versions_and_nothing_else(exported: Path) -> None:
    assert sorted(f"{path.parent.name}/{path.name}" for path in exported.glob("*/*")) == VERSIONS
    for version in VERSIONS:
        files = {str(path.relative_to(exported / version)) for path in (exported / version).rglob("*.*")}
        assert files == {"saved_model.pb", "variables/variables.index", "variables/variables.data-00000-of-00001"}
    assert sum(path.stat().st_size for path in exported.rglob("*") if path.is_file()) < 3_000_000


def test_the_signature_is_the_documents(exported: Path) -> None:
    for version in VERSIONS:
        saved_model = pb.SavedModel.FromString((exported / version / "saved_model.pb").read_bytes())
        signature = saved_model.meta_graphs[0].signature_def["serving_default"]
        assert list(signature.inputs) == ["keras_tensor"]
        assert list(signature.outputs) == ["output_0"]
        assert signature.inputs["keras_tensor"].dtype == pb.DT_FLOAT
        assert [dim.size for dim in signature.inputs["keras_tensor"].tensor_shape.dim] == [-1, 28, 28, 1]
        assert [dim.size for dim in signature.outputs["output_0"].tensor_shape.dim] == [-1, 10]


def test_the_origin_of_the_images_is_written_down(exported: Path) -> None:
    text = (exported / "ORIGIN.txt").read_text()
    assert text == "The example models were trained on drawn images in the shape of Fashion-MNIST.\n"


def test_a_second_export_trains_nothing_and_writes_nothing(exported: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in exported.rglob("*")}
    text = export(exported)
    assert "up to date" in text
    assert "[1/" not in text
    assert {path: path.stat().st_mtime_ns for path in exported.rglob("*")} == before


def test_a_lost_version_comes_back_byte_for_byte_and_leftovers_go(exported: Path, tmp_path: Path) -> None:
    out = tmp_path / "models"
    shutil.copytree(exported, out)
    shutil.rmtree(out / "modelC" / "2" / "variables")
    (out / "modelA" / ".staging-1").mkdir()
    (out / "modelA" / ".staging-1" / "half").write_text("")
    text = export(out, "--data", "generated")
    assert "[1/1] modelC/2" in text
    assert hashes(out) == hashes(exported)


def test_a_directory_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    command = [sys.executable, "-m", "sandbox", "models", "--out", str(tmp_path / "file" / "models")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: example models cannot be written to ")
    assert done.stderr.count("\n") == 1


# Served, and asked as the document asks

CONFIG = """model_config_list {
config {
name: 'modelA'
base_path: '/models/modelA/'
model_platform: 'tensorflow'
model_version_policy {
all: {}
}
}
config {
name: 'modelB'
base_path: '/models/modelB/'
model_platform: 'tensorflow'
model_version_policy {
specific {
versions: 1
versions: 2
}
}
version_labels {
key: 'stable'
value: 1
}
version_labels {
key: 'canary'
value: 2
}
}
config {
name: 'modelC'
base_path: '/models/modelC/'
model_platform: 'tensorflow'
model_version_policy {
latest {
num_versions: 2
}
}
}
}
"""

HTTP_SAMPLE = """
from urllib import request
import json
service_url = {url!r}
token = '<token>'
model_name = {model!r}
url = '{{}}/v1/models/{{}}:predict'.format(service_url, model_name)
req = request.Request(url, method='POST')
req.add_header('authorization', token)
data = {{
    'signature_name': 'serving_default',
    'instances': [[[[1.0]] * 28] * 28]
}}
response = request.urlopen(req, data=json.dumps(data).encode('utf-8')).read()
print(json.loads(response))
"""

GRPC_SAMPLE = """
import grpc
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2
from tensorflow_serving.apis import prediction_service_pb2_grpc
host = {host!r}
token = '<token>'
name = {model!r}
signature_name = 'serving_default'
version = {version}
req = predict_pb2.PredictRequest()
req.model_spec.name = name
req.model_spec.signature_name = signature_name
req.model_spec.version.value = version
req.inputs['keras_tensor'].CopyFrom(tf.make_tensor_proto([[[[1.0]] * 28] * 28]))
channel = grpc.insecure_channel(host)
stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
metadata = (('authorization', token),)
response, _ = stub.Predict.with_call(req, metadata=metadata)
print(response)
"""


@pytest.fixture(scope="module")
def server(start_server: Any, exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    root = tmp_path_factory.mktemp("mounted")
    for model in ("modelA", "modelB", "modelC"):
        (root / model).symlink_to(exported / model)
    (root / "model_config.pbtxt").write_text(CONFIG)
    running = start_server(
        "--model_config_file=/models/model_config.pbtxt",
        "--model_config_file_poll_wait_seconds=1",
        "--allow_version_labels_for_unavailable_models=true",
        mounts={"/models": root},
    )
    wanted = {"modelA": {1}, "modelB": {1, 2}, "modelC": {2, 3}}
    until(lambda: all(running.states(name) == dict.fromkeys(each, "AVAILABLE") for name, each in wanted.items()))
    return running


def sample(code: str) -> str:
    env = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


ONES = {"signature_name": "serving_default", "instances": [[[[1.0]] * 28] * 28]}


def probabilities(server: Any, path: str) -> list[float]:
    status, text = server.post(f"/v1/models/{path}:predict", ONES)
    assert status == 200, text
    found: list[float] = json.loads(text)["predictions"][0]
    assert len(found) == 10
    assert sum(found) == pytest.approx(1, abs=1e-4)
    return found


def test_the_documents_http_sample_works(server: Any) -> None:
    for model in ("modelA", "modelB", "modelC"):
        printed = sample(HTTP_SAMPLE.format(url=f"http://127.0.0.1:{server.rest_port}", model=model))
        assert printed == f"{{'predictions': [{probabilities(server, model)}]}}\n"


def test_the_documents_grpc_sample_works(server: Any) -> None:
    printed = sample(GRPC_SAMPLE.format(host=server.target, model="modelB", version=1))
    assert printed.count("float_val: ") == 10
    assert 'key: "output_0"' in printed
    first = float(printed.split("float_val: ")[1].split()[0])
    assert first == pytest.approx(probabilities(server, "modelB/versions/1")[0], rel=1e-5)


def test_every_path_of_the_documents_request_table_answers(server: Any) -> None:
    assert probabilities(server, "modelB") == probabilities(server, "modelB/versions/2")
    assert probabilities(server, "modelB/labels/stable") == probabilities(server, "modelB/versions/1")
    assert probabilities(server, "modelB/labels/canary") == probabilities(server, "modelB/versions/2")


def test_each_version_answers_differently(server: Any) -> None:
    served = ("modelA/versions/1", "modelB/versions/1", "modelB/versions/2", "modelC/versions/2", "modelC/versions/3")
    answers = [probabilities(server, path) for path in served]
    for index, one in enumerate(answers):
        for other in answers[index + 1 :]:
            assert max(abs(a - b) for a, b in zip(one, other, strict=True)) > 0.01
