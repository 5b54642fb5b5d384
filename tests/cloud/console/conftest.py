"""A sandbox cloud with real model servers behind an HTTP and a gRPC service, for the console to show."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import alibabacloud_oss_v2 as oss
import pytest

from sandbox.cloud.state import STATE
from tests.cloud.console.browser import Browser, missing
from tests.cloud.eas.conftest import Eas, http, running_eas
from tests.waiting import until

BUCKET = "examplebucket"
ROOT = "models/tf_serving/"
STORAGE = [{"mount_path": "/models", "oss": {"path": f"oss://{BUCKET}/{ROOT}", "readOnly": True}}]
START = (
    "/usr/bin/tf_serving_entrypoint.sh --model_config_file=/models/model_config.pbtxt "
    "--model_config_file_poll_wait_seconds=1 --allow_version_labels_for_unavailable_models=true"
)
BODY = json.dumps({"signature_name": "serving_default", "instances": [[[[1.0]] * 28] * 28]})
HOSTILE_NAME = "<img src=x onerror=document.title=1>"


def save_model(directory: Path, favourite: int) -> None:
    """Takes the document's image and answers ten probabilities of which one stands out."""
    import tensorflow as tf

    class Classifier(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.scores = tf.Variable([3.0 if index == favourite else index / 10 for index in range(10)])

        @tf.function(input_signature=[tf.TensorSpec([None, 28, 28, 1], tf.float32)])  # type: ignore[untyped-decorator]
        def serve(self, image: Any) -> Any:
            return {"scores": tf.nn.softmax(self.scores + 0 * tf.reduce_sum(image, axis=[1, 2, 3])[:, None])}

    module = Classifier()
    tf.saved_model.save(module, str(directory), signatures={"serving_default": module.serve})


FAVOURITES = {1: 5, 2: 7}
"""The class that stands out, by version: Sandal, Sneaker."""


def config_file(labels: Mapping[str, int], *, hostile: bool = False) -> bytes:
    lines = "".join(f"version_labels {{ key: '{label}' value: {version} }} " for label, version in labels.items())
    other = f"config {{ name: '{HOSTILE_NAME}' base_path: '/models/modelB/' model_platform: 'tensorflow' }}"
    return f"""model_config_list {{ config {{
      name: 'modelB' base_path: '/models/modelB/' model_platform: 'tensorflow'
      model_version_policy {{ specific {{ versions: 1 versions: 2 }} }} {lines}
    }} {other if hostile else ""} }}""".encode()


@dataclass(frozen=True)
class Served:
    """A cloud with services that run, and what tests do to it."""

    eas: Eas
    url: str

    def publish(self, stable: int, *, hostile: bool = False) -> None:
        self.write(config_file({"stable": stable, "canary": 2}, hostile=hostile))

    def write(self, text: bytes) -> None:
        """Writes the model config file."""
        self.eas.oss.put_object(oss.PutObjectRequest(bucket=BUCKET, key=f"{ROOT}model_config.pbtxt", body=text))

    def token(self, name: str) -> str:
        return str(self.eas.describe(name).access_token)

    def overview(self) -> dict[str, dict[str, Any]]:
        """Services by name, as the console has them."""
        answer = http("GET", f"{self.url}api/overview")
        assert answer.status == 200
        return {service["name"]: service for service in answer.json["services"]}

    def ask(self, service: str, **asked: Any) -> dict[str, Any]:
        """What the console answers to a request to a service; ``http`` is the status of its own answer."""
        answer = http(
            "POST",
            f"{self.url}api/request",
            body=json.dumps({"service": service, "body": BODY, **asked}).encode(),
            Origin=self.url.partition("/-/")[0],
            **{"Content-Type": "application/json"},
        )
        return {**answer.json, "http": answer.status}

    def model(self, service: str, name: str = "modelB") -> dict[str, Any]:
        return next(model for model in self.overview()[service]["models"] if model["name"] == name)


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    models = tmp_path_factory.mktemp("console-models")
    for version, favourite in FAVOURITES.items():
        save_model(models / "modelB" / str(version), favourite)
    with running_eas(tmp_path_factory.mktemp("console-cloud"), command=(), timing=None) as eas:
        served = Served(eas, f"http://127.0.0.1:{eas.port}/-/console/")
        eas.oss.put_bucket(oss.PutBucketRequest(bucket=BUCKET))
        for file in sorted(path for path in models.rglob("*") if path.is_file()):
            key = ROOT + file.relative_to(models).as_posix()
            eas.oss.put_object(oss.PutObjectRequest(bucket=BUCKET, key=key, body=file.read_bytes()))
        served.publish(stable=1)
        for spec in (eas.spec("multi_http", storage=STORAGE), eas.grpc_spec("multi_grpc", storage=STORAGE)):
            spec["containers"][0] |= {"command": START, "env": []}
            eas.create(spec)
        for name in ("multi_http", "multi_grpc"):
            eas.wait(name, seconds=90)
        until(lambda: all(served.model(name)["versions"] for name in ("multi_http", "multi_grpc")))
        # A gateway needs a moment to notice instances that are ready.
        until(lambda: served.ask("multi_http", path="/v1/models/modelB:predict").get("status") == 200)
        until(lambda: served.ask("multi_grpc", model="modelB").get("status") == 200)
        yield served


@pytest.fixture(scope="module")
def group(served: Served) -> Iterator[str]:
    """A group of two services, of whose requests ``shop_new`` gets a quarter; how the console calls it."""
    eas = served.eas
    names = ("shop_new", "shop_old")
    for name in names:
        spec = eas.spec(name, storage=STORAGE, metadata={"group": "shop"})
        spec["containers"][0] |= {"command": START, "env": []}
        eas.create(spec)
    try:
        for name, weight in zip(names, (25, 75), strict=True):
            eas.wait(name, seconds=90)
            request = eas.models.ReleaseServiceRequest(traffic_state="grouping", weight=weight)
            eas.client.release_service("cn-hangzhou", name, request)
        product = eas.app[STATE].products[0]
        product.runtime.groups.find("shop").change(traffic_mode="customized")  # type: ignore[attr-defined]
        until(lambda: all(served.model(name)["versions"] for name in names), 30)
        until(lambda: served.ask("group shop", path="/v1/models/modelB:predict").get("status") == 200, 30)
        yield "group shop"
    finally:
        for name in names:
            eas.delete(name)


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if reason := missing():
        pytest.skip(reason)
    with Browser(tmp_path_factory.mktemp("chromium")) as opened:
        yield opened
