"""Plugin processes, the engine's end of their log, and a sandbox cloud that all tests here share."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path

import alibabacloud_oss_v2 as oss
import grpc
import pytest
from pulumi.runtime.proto import engine_pb2_grpc

from tests.ports import free_port
from tests.provider.harness import REGION, ROOT, Cloud, Engine, LocalModels, Plugin, Stack, config
from tests.waiting import until


@pytest.fixture(scope="session")
def engine() -> Iterator[tuple[Engine, str]]:
    servicer = Engine()
    server = grpc.server(futures.ThreadPoolExecutor(8))
    engine_pb2_grpc.add_EngineServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield servicer, f"127.0.0.1:{port}"
    server.stop(0)


@pytest.fixture
def log(engine: tuple[Engine, str]) -> Engine:
    engine[0].messages.clear()
    return engine[0]


@pytest.fixture(scope="session")
def plugin(engine: tuple[Engine, str]) -> Iterator[Plugin]:
    """A configured plugin without a cloud: nothing listens at its endpoints."""
    started = Plugin(*engine)
    started.configure(**config(f"127.0.0.1:{free_port()}"))
    yield started
    started.stop()


@pytest.fixture(scope="session")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    data = tmp_path_factory.mktemp("cloud") / "data"
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "sandbox", "cloud", "run", "--port", str(port), "--data", str(data)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    endpoint = f"127.0.0.1:{port}"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def is_up() -> bool:
        assert process.poll() is None, "the sandbox cloud ended"
        try:
            opener.open(f"http://{endpoint}/", timeout=2).close()
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False
        return True

    try:
        until(is_up, what="the sandbox cloud")
        settings = oss.config.load_default()
        settings.credentials_provider = oss.credentials.StaticCredentialsProvider("sandbox", "sandbox")
        settings.region, settings.endpoint = REGION, f"http://{endpoint}"
        client = oss.Client(settings)
        found = Cloud(endpoint, client)
        client.put_bucket(oss.PutBucketRequest(bucket=found.bucket))
        yield found
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()


@pytest.fixture(scope="session")
def clouded(engine: tuple[Engine, str], cloud: Cloud) -> Iterator[Plugin]:
    """A plugin that talks to the sandbox cloud."""
    started = Plugin(*engine)
    started.configure(**config(cloud.endpoint))
    yield started
    started.stop()


@pytest.fixture
def later(engine: tuple[Engine, str], cloud: Cloud) -> Iterator[Plugin]:
    """A plugin of a later run, or of a provider with other settings: it knows nothing of what was made before."""
    started = Plugin(*engine)
    started.configure(**config(cloud.endpoint))
    yield started
    started.stop()


_MAKE_MODELS = """
import json, sys
import tensorflow as tf

class Times(tf.Module):
    def __init__(self, factor):
        self.factor = tf.Variable(float(factor))
    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def __call__(self, x):
        return {"y": x * self.factor}

for path, factor in json.loads(sys.argv[1]).items():
    module = Times(factor)
    tf.saved_model.save(module, path, signatures={"serving_default": module.__call__})
"""


@pytest.fixture(scope="session")
def model_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny SavedModels: version N multiplies by N."""
    store = tmp_path_factory.mktemp("models")
    wanted = {str(store / str(version)): version for version in (1, 2, 3)}
    subprocess.run(
        [sys.executable, "-c", _MAKE_MODELS, json.dumps(wanted)],
        check=True,
        capture_output=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""},
    )
    return store


@pytest.fixture
def models(model_store: Path, tmp_path: Path) -> LocalModels:
    return LocalModels(model_store, tmp_path / "models")


@pytest.fixture
def extra(clouded: Plugin) -> Iterator[Callable[[], Stack]]:
    """Makes services of a test's own, which are gone after it."""
    made: list[Stack] = []

    def make() -> Stack:
        made.append(Stack(clouded, "EasService"))
        return made[-1]

    yield make
    for stack in made:
        if stack.id:
            stack.destroy()
