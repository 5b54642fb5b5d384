"""Loaders without TensorFlow for the manager and the core, tiny SavedModels and real server processes for the rest."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from sandbox.model_server import callers
from sandbox.model_server.manager import Loader
from sandbox.model_server.states import ServableId
from sandbox.model_server.status import Code, StatusError
from tests.ports import free_port
from tests.waiting import until

ROOT = Path(__file__).resolve().parents[2]
SERVER_START_SECONDS = 120.0


@dataclass
class FakeLoaders:
    """A loader factory that records what happens and fails where told to.

    Attributes:
        failing: versions whose loads fail.
        log: ``load m 1``, ``unload m 1``, in order.
        hooks: called at the start of a version's load.
    """

    failing: set[ServableId] = field(default_factory=set)
    log: list[str] = field(default_factory=list)
    hooks: dict[ServableId, Callable[[], None]] = field(default_factory=dict)

    def __call__(self, servable: ServableId, path: str) -> Loader:
        return _FakeLoader(self, servable, path)


@dataclass
class _FakeLoader:
    loaders: FakeLoaders
    id: ServableId
    path: str

    def load(self) -> str:
        self.loaders.log.append(f"load {self.id.name} {self.id.version}")
        if hook := self.loaders.hooks.get(self.id):
            hook()
        if self.id in self.loaders.failing:
            raise StatusError(Code.NOT_FOUND, f"no model in {self.path}")
        return self.path

    def unload(self) -> None:
        self.loaders.log.append(f"unload {self.id.name} {self.id.version}")


@pytest.fixture
def loaders() -> FakeLoaders:
    return FakeLoaders()


@pytest.fixture(scope="session")
def make_loaders() -> type[FakeLoaders]:
    """For tests that need fresh ones for each of their examples."""
    return FakeLoaders


# Real servers


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of SavedModels made once, in a process of its own: see ``make_models.py``."""
    out = tmp_path_factory.mktemp("tiny_models")
    script = Path(__file__).with_name("make_models.py")
    env = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "0"}
    done = subprocess.run([sys.executable, str(script), str(out)], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return out


@dataclass
class RunningServer:
    """A model server process.

    Attributes:
        port: of gRPC.
        rest_port: of REST.
        log_file: everything it printed.
    """

    process: subprocess.Popen[bytes]
    port: int
    rest_port: int
    log_file: Path

    @property
    def log(self) -> str:
        return self.log_file.read_text()

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    def listens(self) -> bool:
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", self.rest_port)) == 0

    def wait(self) -> RunningServer:
        """Until its REST port is open, the last one it opens."""

        def ready() -> bool:
            assert self.process.poll() is None, self.log
            return self.listens()

        until(ready, SERVER_START_SECONDS, "the server's port")
        return self

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.rest_port, timeout=30)
        try:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            return response.status, dict(response.getheaders()), response.read()
        finally:
            connection.close()

    def post(self, path: str, value: Any) -> tuple[int, str]:
        """Sends a value as JSON, or a text as it is."""
        body = value if isinstance(value, str) else json.dumps(value)
        status, _, answer = self.request("POST", path, body.encode())
        return status, answer.decode()

    def get(self, path: str) -> tuple[int, str]:
        status, _, answer = self.request("GET", path)
        return status, answer.decode()

    def states(self, model: str) -> dict[int, str]:
        """Version to state, empty for an unknown model."""
        status, answer = self.get(f"/v1/models/{model}")
        if status != 200:
            return {}
        return {int(item["version"]): item["state"] for item in json.loads(answer)["model_version_status"]}

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Sends a signal and returns the exit status."""
        self.process.send_signal(number)
        return self.process.wait(30)


StartServer = Callable[..., RunningServer]


@pytest.fixture(scope="module")
def start_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartServer]:
    """Starts ``python -m sandbox.model_server`` on free ports; all are killed when the module's tests are done."""
    processes: list[subprocess.Popen[bytes]] = []

    def start(
        *flags: str, mounts: Mapping[str, Path] | None = None, wait: bool = True, secret: str = ""
    ) -> RunningServer:
        port, rest_port = free_port(), free_port()
        log_file = tmp_path_factory.mktemp("server") / "log"
        env = {name: value for name, value in os.environ.items() if not name.startswith("TF_")}
        env |= {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", callers.VARIABLE: secret}
        if mounts is not None:
            env["TF_SERVING_SANDBOX_MOUNTS"] = json.dumps({inside: str(local) for inside, local in mounts.items()})
        ports = (f"--port={port}", f"--rest_api_port={rest_port}")
        command = [sys.executable, "-m", "sandbox.model_server", *ports, *flags]
        with log_file.open("wb") as log:
            process = subprocess.Popen(command, env=env, cwd=log_file.parent, stdout=log, stderr=log)
        processes.append(process)
        server = RunningServer(process, port, rest_port, log_file)
        return server.wait() if wait else server

    yield start
    for process in processes:
        process.kill()
        process.wait()
