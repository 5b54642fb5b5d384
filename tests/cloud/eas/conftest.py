"""A sandbox cloud whose EAS runs the small model server of these tests, and the official client for it."""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import alibabacloud_oss_v2 as oss
import pytest
from aiohttp import web
from alibabacloud_eas20210701 import models
from alibabacloud_eas20210701.client import Client
from alibabacloud_tea_openapi.models import Config

from sandbox.cloud.app import create_app, make_runner
from sandbox.cloud.eas.api import EasProduct
from sandbox.cloud.eas.instance import Timing
from sandbox.cloud.state import STATE
from tests.ports import free_port
from tests.waiting import PATIENCE, until

MODEL_SERVER_COMMAND = (sys.executable, str(Path(__file__).with_name("fake_model_server.py")))
QUICK = Timing(
    startup=120, poll=0.02, slot=60, backoff=0.1, backoff_limit=0.4, stable=5, dwell=0.1, gateway_lag=0.0, term=2
)
REGION = "cn-hangzhou"
BUCKET = "eas-models"
ENTRYPOINT = "/usr/bin/tf_serving_entrypoint.sh"
_numbers = itertools.count()


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Eas:
    """A running sandbox cloud, and how tests speak to its EAS."""

    def __init__(self, data: Path, port: int, app: web.Application) -> None:
        self.data = data
        self.port = port
        self.app = app
        self.models = models
        endpoint = f"127.0.0.1:{port}"
        self.client = Client(
            Config(
                access_key_id="sandbox-key",
                access_key_secret="sandbox-secret",
                region_id=REGION,
                endpoint=endpoint,
                protocol="HTTP",
            )
        )
        config = oss.config.load_default()
        config.credentials_provider = oss.credentials.StaticCredentialsProvider("sandbox-key", "sandbox-secret")
        config.region, config.endpoint = REGION, f"http://{endpoint}"
        self.oss = oss.Client(config)

    def spec(self, name: str = "", instances: int = 1, **changes: Any) -> dict[str, Any]:
        """A service JSON for an HTTP service; ``changes`` are merged into its top level."""
        spec = {
            "metadata": {"name": name or f"service_{next(_numbers)}", "instance": instances},
            "cloud": {"computing": {"instance_type": "ecs.c7.large"}},
            "containers": [{"image": "tensorflow-serving:2.14.1", "port": 8501, "command": ENTRYPOINT}],
        }
        return merged(spec, changes)

    def grpc_spec(self, name: str = "", instances: int = 1, **changes: Any) -> dict[str, Any]:
        spec = self.spec(name, instances, networking={"path": "/"}, metadata={"enable_grpc": True})
        spec["containers"][0] |= {"port": 8500, "env": [{"name": "TEST_GRPC", "value": "1"}]}
        return merged(spec, changes)

    def create(self, spec: Mapping[str, Any], **options: Any) -> Any:
        return self.client.create_service(models.CreateServiceRequest(body=spec, **options)).body

    def update(self, name: str, body: Mapping[str, Any], kind: str = "replace") -> Any:
        request = models.UpdateServiceRequest(update_type=kind, body=body)
        return self.client.update_service(REGION, name, request).body

    def describe(self, name: str) -> Any:
        return self.client.describe_service(REGION, name).body

    def config(self, name: str) -> Any:
        return json.loads(self.describe(name).service_config)

    def wait(self, name: str, status: str = "Running", seconds: float = PATIENCE) -> Any:
        """Waits for a state, and on the way collects those that were seen."""
        seen: list[str] = []
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            service = self.describe(name)
            if not seen or seen[-1] != service.status:
                seen.append(service.status)
            if service.status == status:
                service.seen = seen
                return service
            time.sleep(0.02)
        pytest.fail(f"{name} is {service.status} ({service.reason}: {service.message}), not {status}; seen: {seen}")

    def run(self, spec: Mapping[str, Any]) -> Any:
        """Creates a service and waits until it runs."""
        self.create(spec)
        return self.wait(spec["metadata"]["name"])

    def delete(self, name: str) -> None:
        self.client.delete_service(REGION, name)
        until(lambda: name not in self.names())

    def names(self) -> list[str]:
        listed = self.client.list_services(models.ListServicesRequest()).body.services or []
        return [service.service_name for service in listed]

    def instances(self, name: str) -> list[Any]:
        request = models.ListServiceInstancesRequest()
        return self.client.list_service_instances(REGION, name, request).body.instances or []

    def events(self, name: str) -> list[Any]:
        return self.client.describe_service_event(REGION, name, models.DescribeServiceEventRequest()).body.events

    def logs(self, name: str, **filters: Any) -> Any:
        return self.client.describe_service_log(REGION, name, models.DescribeServiceLogRequest(**filters)).body

    def pids(self, name: str) -> set[int]:
        """Processes of a service, by its pid files."""
        prefix = name.replace("_", "-")
        found = set()
        for file in (self.data / "eas" / "run").glob(f"{prefix}-*.pid"):
            with suppress(FileNotFoundError):  # it ended between the two looks
                found.add(json.loads(file.read_text())["pid"])
        return found


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in changes.items():
        before = result.get(key)
        result[key] = merged(before, value) if isinstance(before, dict) and isinstance(value, dict) else value
    return result


def http(method: str, url: str, token: str = "", body: bytes | None = None, **headers: str) -> Answer:
    """One request, without proxies."""
    request = urllib.request.Request(url, data=body, method=method, headers=headers)
    if token:
        request.add_header("Authorization", token)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=PATIENCE) as response:
            return Answer(response.status, response.headers, response.read())
    except urllib.error.HTTPError as error:
        return Answer(error.code, error.headers, error.read())


@contextmanager
def running_eas(
    data: Path,
    command: tuple[str, ...] = MODEL_SERVER_COMMAND,
    timing: Timing | None = QUICK,
    port: int = 0,
) -> Iterator[Eas]:
    port = port or free_port()
    app = create_app(data, port)
    state = app[STATE]
    index = next(i for i, service in enumerate(state.products) if isinstance(service, EasProduct))
    state.products[index] = EasProduct(data / "eas", port, state.live_view, command, timing)
    runner = make_runner(app)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def up() -> None:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()

    try:
        # In the loop's own thread: processes end with the thread that started them.
        asyncio.run_coroutine_threadsafe(up(), loop).result(20)
        yield Eas(data, port, app)
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture(scope="session")
def eas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Eas]:
    """One cloud for all tests that only need a service of their own."""
    with running_eas(tmp_path_factory.mktemp("eas-cloud")) as cloud:
        cloud.oss.put_bucket(oss.PutBucketRequest(bucket=BUCKET))
        yield cloud


@pytest.fixture(scope="session")
def start_eas() -> Callable[..., Any]:
    return running_eas


@pytest.fixture(scope="session")
def send() -> Callable[..., Answer]:
    return http
