"""A good stack config with its model directories, and ways to spoil it."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tfserving.protos import tf_serving_pb2 as pb

GOOD: dict[str, Any] = {
    "alicloud:region": "cn-hangzhou",
    "alicloud:protocol": "HTTP",
    "alicloud:accountType": "Domestic",
    "alicloud:skipRegionValidation": "true",
    "alicloud:accessKey": "sandbox",
    "alicloud:secretKey": "sandbox",
    "tf-serving:endpoint": "127.0.0.1:17580",
    "tf-serving:bucket": {"name": "tf-serving-local", "forceDestroy": True},
    "tf-serving:modelRoot": "models/tf_serving/",
    "tf-serving:modelSource": "models",
    "tf-serving:models": {
        "modelA": {"policy": "all"},
        "modelB": {"policy": {"specific": [1, 2]}, "labels": {"stable": 1, "canary": 2}},
        "modelC": {"policy": {"latest": 2}},
    },
    "tf-serving:services": {
        "multi_http": {
            "deployment": "custom",
            "image": "tensorflow-serving:2.14.1",
            "port": 8501,
            "configFile": True,
            "configPollSeconds": 2,
            "allowLabelsForUnavailableVersions": True,
            "flags": {"num_load_threads": 2},
        },
        "multi_grpc": {
            "deployment": "custom",
            "image": "tensorflow-serving:2.14.1",
            "port": 8500,
            "grpc": True,
            "configFile": True,
            "configPollSeconds": 2,
            "allowLabelsForUnavailableVersions": True,
            "flags": {"num_load_threads": 2},
        },
    },
}

VERSIONS = {"modelA": [1], "modelB": [1, 2], "modelC": [1, 2, 3]}


def saved_model(classes: int = 10) -> bytes:
    """A ``saved_model.pb`` without variables: an image in, ``classes`` probabilities out."""

    def tensor(name: str, *sizes: int) -> pb.TensorInfo:
        dims = [pb.TensorShapeProto.Dim(size=size) for size in sizes]
        return pb.TensorInfo(name=name, dtype=pb.DT_FLOAT, tensor_shape=pb.TensorShapeProto(dim=dims))

    graph = pb.MetaGraphDef()
    graph.meta_info_def.tags.append("serve")
    signature = graph.signature_def["serving_default"]
    signature.method_name = "tensorflow/serving/predict"
    signature.inputs["keras_tensor"].CopyFrom(tensor("in:0", -1, 28, 28, 1))
    signature.outputs["output_0"].CopyFrom(tensor("out:0", -1, classes))
    return pb.SavedModel(saved_model_schema_version=1, meta_graphs=[graph]).SerializeToString()


def write_version(model: Path, number: int | str, classes: int = 10) -> Path:
    """One version directory below ``model``."""
    version = model / str(number)
    version.mkdir(parents=True)
    (version / "saved_model.pb").write_bytes(saved_model(classes))
    return version


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hashes of model files are not remembered beyond a test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project directory with the models of ``GOOD`` in ``models/``, and requests for modelB in ``golden/``."""
    for name, numbers in VERSIONS.items():
        for number in numbers:
            write_version(tmp_path / "models" / name, number)
    request = {"instances": [[[[0.5]] * 28] * 28]}
    (tmp_path / "golden").mkdir()
    (tmp_path / "golden" / "modelB.jsonl").write_text(json.dumps({**request, "predictions": [[0.1] * 10]}))
    (tmp_path / "golden" / "modelB.inputs.jsonl").write_text(json.dumps(request))
    return tmp_path


@pytest.fixture
def publish() -> Callable[..., Path]:
    """Writes a version directory: ``publish(model_directory, number, classes=10)``."""
    return write_version


@pytest.fixture
def good() -> dict[str, Any]:
    """A valid stack config, structured; free to change."""
    return copy.deepcopy(GOOD)


@pytest.fixture
def changed(good: dict[str, Any]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """The good config with values at dotted paths replaced, added, or removed where the new value is ``...``."""

    def change(changes: dict[str, Any]) -> dict[str, Any]:
        for path, value in changes.items():
            *parents, last = path.split(".")
            at = good
            for key in parents:
                at = at.setdefault(key, {})
            if value is ...:
                at.pop(last, None)
            else:
                at[last] = value
        return good

    return change
