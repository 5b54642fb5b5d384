"""A sandbox cloud on a free loopback port, in a thread of the test process, and official clients for it."""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import alibabacloud_oss_v2 as oss
import pytest
from aiohttp import web

from sandbox.cloud.app import create_app, make_runner
from tests.ports import free_port


class RunningCloud:
    """A cloud that is listening."""

    def __init__(self, data: Path, port: int, app: web.Application) -> None:
        self.data = data
        self.port = port
        self.app = app
        self.url = f"http://127.0.0.1:{port}"

    def client(self, **options: Any) -> oss.Client:
        config = oss.config.load_default()
        config.credentials_provider = oss.credentials.StaticCredentialsProvider("sandbox-key", "sandbox-secret")
        config.region = "cn-hangzhou"
        config.endpoint = self.url
        config.retry_max_attempts = 1
        for name, value in options.items():
            setattr(config, name, value)
        return oss.Client(config)


@contextmanager
def running_cloud(data: Path, cluster: Path | None = None) -> Iterator[RunningCloud]:
    loop = asyncio.new_event_loop()
    port = free_port()
    app = create_app(data, port, cluster=cluster)
    runner = make_runner(app)

    async def up() -> None:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()

    loop.run_until_complete(up())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield RunningCloud(data, port, app)
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(20)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture(scope="session")
def shared_cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCloud]:
    """One cloud for all tests that only need a bucket of their own."""
    with running_cloud(tmp_path_factory.mktemp("cloud")) as cloud:
        yield cloud


@pytest.fixture
def start_cloud() -> Callable[[Path], Any]:
    return running_cloud


@pytest.fixture
def client(shared_cloud: RunningCloud) -> oss.Client:
    return shared_cloud.client()


@pytest.fixture
def bucket(client: oss.Client) -> str:
    """A fresh bucket."""
    name = f"bucket-{secrets.token_hex(6)}"
    client.put_bucket(oss.PutBucketRequest(bucket=name))
    return name
