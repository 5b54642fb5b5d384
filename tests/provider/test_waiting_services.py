"""A service that stays on its way: the error holds its state, the reason, its newest events and log, no secret."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from provider.asking import AskedService, Fleet
from provider.clients import Clients, CloudSettings, DescribedService, Event
from provider.eas.readiness import ServiceStartError
from provider.eas_service import EasService as Resource
from provider.resource import Context, OperationCancelledError
from tfserving.contract.serving import ConfiguredService
from tfserving.errors import CloudError

TOKEN = "a-secret-token-of-ours"
FOUND = DescribedService(
    name="multi_http",
    id="eas-m-1",
    status="Waiting",
    message="ImagePullBackOff: [0/2] instances are ready",
    config={"token": TOKEN},
    token=TOKEN,
    internet_endpoint="http://127.0.0.1:1",
    intranet_endpoint="",
    labels={},
    total=2,
    running=0,
    pending=2,
    workspace_id="",
    updated="",
)


class Api:
    """EAS, with one service that does not get on."""

    def __init__(self, found: DescribedService | None, broken: bool = False) -> None:
        self.found, self.broken = found, broken

    def describe(self, name: str) -> DescribedService | None:
        return self.found

    def events(self, name: str, count: int) -> list[Event]:
        if self.broken:
            raise CloudError("cannot list the events: Forbidden")
        return [Event("2026-01-01", "Warning", "FailedScheduling", "no machine with ecs.gn7i-c8g1.2xlarge is free")]

    def log_tail(self, name: str, count: int) -> list[str]:
        return [f"pulling the image with {TOKEN}", ""]


def context(api: Api, seconds: float = 0.3) -> Context:
    cancelled = threading.Event()
    settings = CloudSettings("cn-hangzhou", "127.0.0.1:1", "127.0.0.1:1", "HTTP", "sandbox", "sandbox")
    clients: Any = Clients(settings, cancelled)
    found = Context("urn", Path("/"), clients, lambda *_, **__: None, cancelled)
    stub: Any = SimpleNamespace(eas=api)
    return replace(found, clients=stub, seconds=seconds)


@pytest.mark.parametrize(
    "status", ["Waiting", "Creating", "Pending", "Starting", "Updating", "Scaling", "SomethingNew"]
)
def test_a_service_that_stays_on_its_way_ends_with_all_that_is_known(status: str) -> None:
    api = Api(replace(FOUND, status=status))
    with pytest.raises(ServiceStartError) as failed:
        Resource()._wait_running(context(api), "multi_http", None)
    message = str(failed.value)
    assert message.startswith(f"service multi_http is still {status} and not Running after 0 s: ")
    assert "ImagePullBackOff: [0/2] instances are ready" in message
    assert "newest events of multi_http:\n  2026-01-01 Warning FailedScheduling: no machine" in message
    assert "newest log lines of multi_http:\n  pulling the image" in message
    assert TOKEN not in message


def test_what_cannot_be_read_is_said_and_hides_nothing_else() -> None:
    with pytest.raises(ServiceStartError) as failed:
        Resource()._wait_running(context(Api(FOUND, broken=True)), "multi_http", None)
    message = str(failed.value)
    assert "newest events of multi_http:\n  not available: cannot list the events: Forbidden" in message
    assert "pulling the image" in message


def test_a_service_that_is_never_listed_is_called_missing() -> None:
    with pytest.raises(ServiceStartError, match="is still missing and not Running after 0 s"):
        Resource()._wait_running(context(Api(None)), "multi_http", None)


def test_a_service_that_stays_in_deletion_is_told_in_the_same_way() -> None:
    with pytest.raises(ServiceStartError) as failed:
        Resource()._wait_gone(context(Api(replace(FOUND, status="Deleting"))), "multi_http")
    assert "newest events of multi_http:" in str(failed.value)


def test_who_cancels_is_not_told_a_story() -> None:
    ctx = context(Api(FOUND))
    ctx.cancelled.set()
    with pytest.raises(OperationCancelledError, match="cancelled"):
        Resource()._wait_running(ctx, "multi_http", None)


def test_a_rollout_that_waits_for_such_a_service_tells_its_story() -> None:
    services = [AskedService.of("multi_http", ConfiguredService(url="http://127.0.0.1:1"))]
    fleet = Fleet(context(Api(FOUND)), services)
    message = fleet.unanswered("multi_http", CloudError("connection refused"))
    assert (
        "service multi_http cannot be asked what it serves: connection refused\n  service multi_http is Waiting: Im"
        in (message)
    )
    assert "FailedScheduling" in message
    running = Fleet(context(Api(replace(FOUND, status="Running"))), services)
    assert running.unanswered("multi_http", CloudError("x")).count("\n") == 0
