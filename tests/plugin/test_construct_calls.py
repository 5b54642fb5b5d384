"""The plugin asked for components as an engine asks: calls that are given up, processes that die, two at once."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import empty_pb2
from pulumi.runtime import rpc
from pulumi.runtime.proto import (
    engine_pb2_grpc,
    errors_pb2,
    provider_pb2,
    resource_pb2,
    resource_pb2_grpc,
    status_pb2,
)

from components.other_packages import ALICLOUD_VERSION
from provider.properties import encode
from tests.ports import free_port
from tests.provider import conftest as provider
from tests.provider.harness import ROOT, Engine, Plugin, config
from tests.waiting import until
from tfserving.property_values import OUTPUT, SIGNATURE

pytestmark = pytest.mark.slow

engine = provider.engine

MODELS = {"modelB": {"versions": [1, 2], "policy": {"specific": [1, 2]}, "labels": {"stable": 1}}}


@dataclass
class Monitor(resource_pb2_grpc.ResourceMonitorServicer):
    """The engine's side of registrations: those of ``held`` types are not answered before ``go``."""

    held: str = ""
    go: threading.Event = field(default_factory=threading.Event)
    registered: list[str] = field(default_factory=list)
    finished: list[str] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)

    def SupportsFeature(self, request: Any, context: grpc.ServicerContext) -> resource_pb2.SupportsFeatureResponse:
        return resource_pb2.SupportsFeatureResponse(hasSupport=request.id in ("secrets", "outputValues", "aliasSpecs"))

    def RegisterResource(self, request: Any, context: grpc.ServicerContext) -> resource_pb2.RegisterResourceResponse:
        self.registered.append(request.name)
        self.versions[request.type] = request.version
        if request.type == self.held:
            while not self.go.wait(0.05) and context.is_active():
                pass
        return resource_pb2.RegisterResourceResponse(
            urn=f"urn:pulumi:dev::shop::{request.type}::{request.name}", id="id", object=request.object
        )

    def RegisterResourceOutputs(self, request: Any, context: grpc.ServicerContext) -> empty_pb2.Empty:
        self.finished.append(request.urn.rpartition("::")[2])
        return empty_pb2.Empty()


@contextmanager
def served() -> Iterator[tuple[Monitor, str]]:
    """A monitor, and the address where it and the engine's log are."""
    servicer = Monitor()
    server = grpc.server(futures.ThreadPoolExecutor(32))
    resource_pb2_grpc.add_ResourceMonitorServicer_to_server(servicer, server)
    engine_pb2_grpc.add_EngineServicer_to_server(Engine(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield servicer, f"127.0.0.1:{port}"
    servicer.go.set()
    server.stop(0)


@pytest.fixture
def monitor() -> Iterator[tuple[Monitor, str]]:
    with served() as found:
        yield found


@pytest.fixture
def plugin(engine: tuple[Engine, str]) -> Iterator[Plugin]:
    started = Plugin(*engine)
    started.configure(**config(f"127.0.0.1:{free_port()}"))
    yield started
    started.process.kill()
    started.process.wait()


class Construction:
    """One call, on its way."""

    def __init__(
        self,
        plugin: Plugin,
        monitor: str,
        name: str = "models",
        kind: str = "ModelRepository",
        inputs: Mapping[str, Any] | None = None,
    ) -> None:
        inputs = dict(inputs or {"bucket": f"{name}-bucket", "models": MODELS})
        request = provider_pb2.ConstructRequest(
            type=f"tfserving:index:{kind}", name=name, inputs=encode(inputs), project="shop", stack="dev",
            monitorEndpoint=monitor, dryRun=True, accepts_output_values=True,
        )  # fmt: skip
        self.call = plugin.stub.Construct.future(request, timeout=60)

    def failure(self) -> grpc.RpcError:
        """What it ended with."""
        with pytest.raises(grpc.RpcError) as caught:
            self.call.result(timeout=60)
        return caught.value


def _is_held(monitor: Monitor) -> Callable[[], bool]:
    return lambda: "models-modelB" in monitor.registered


def test_cancel_ends_it_while_the_engine_answers_nothing(plugin: Plugin, monitor: tuple[Monitor, str]) -> None:
    servicer, address = monitor
    servicer.held = "tfserving:index:PublishedModel"
    held = Construction(plugin, address)
    until(_is_held(servicer))
    plugin.call("Cancel", empty_pb2.Empty())
    failure = held.failure()
    assert failure.code() is grpc.StatusCode.CANCELLED
    assert "models: cancelled before everything in it was registered" in failure.details()
    assert servicer.finished == [], "outputs that the engine would take for a whole component"
    plugin.call("GetPluginInfo", empty_pb2.Empty())
    plugin.process.terminate()
    assert plugin.process.wait(timeout=60) == 0, "a thread that still waits would keep the process"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_process(plugin: Plugin, monitor: tuple[Monitor, str], number: signal.Signals) -> None:
    servicer, address = monitor
    servicer.held = "tfserving:index:PublishedModel"
    held = Construction(plugin, address)
    until(_is_held(servicer))
    plugin.process.send_signal(number)
    assert held.failure().code() in (grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE)
    assert plugin.process.wait(timeout=60) == 0
    assert servicer.finished == []


def test_a_killed_plugin_is_an_error_of_the_call_and_no_half_answer(
    plugin: Plugin, monitor: tuple[Monitor, str]
) -> None:
    servicer, address = monitor
    servicer.held = "tfserving:index:PublishedModel"
    held = Construction(plugin, address)
    until(_is_held(servicer))
    plugin.process.kill()
    assert held.failure().code() is grpc.StatusCode.UNAVAILABLE
    assert servicer.finished == []


def an_engine_that_waits() -> None:
    """A process of its own: it starts a plugin, has it make a component, tells the plugin's number, and waits."""
    with served() as (servicer, address):
        servicer.held = "tfserving:index:PublishedModel"
        plugin = Plugin(Engine(), address)
        plugin.configure(**config(f"127.0.0.1:{free_port()}"))
        held = Construction(plugin, address)
        until(_is_held(servicer))
        print(plugin.process.pid, flush=True)
        held.failure()


def test_an_engine_that_is_killed_takes_the_plugin_with_it() -> None:
    command = [sys.executable, "-c", f"from {__name__} import an_engine_that_waits as run; run()"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as waiting:
        assert waiting.stdout is not None
        number = int(waiting.stdout.readline())
        assert Path(f"/proc/{number}").exists()
        waiting.kill()
    until(lambda: not Path(f"/proc/{number}").exists())


def test_two_at_once_do_not_mix(plugin: Plugin, monitor: tuple[Monitor, str]) -> None:
    servicer, address = monitor
    servicer.held = "tfserving:index:PublishedModel"
    both = [Construction(plugin, address, name) for name in ("left", "right")]
    until(lambda: {"left-modelB", "right-modelB"} <= set(servicer.registered))
    servicer.go.set()
    for name, made in zip(("left", "right"), both, strict=True):
        answer = made.call.result(timeout=60)
        assert answer.urn.endswith(f"::{name}")
        assert answer.state.fields["bucket"].string_value == f"{name}-bucket"
    assert sorted(servicer.finished) == ["left", "right"]


def test_one_that_is_wrong_leaves_another_alone(plugin: Plugin, monitor: tuple[Monitor, str]) -> None:
    servicer, address = monitor
    servicer.held = "tfserving:index:PublishedModel"
    good = Construction(plugin, address)
    until(_is_held(servicer))
    wrong = Construction(plugin, address, "wrong", "TensorFlowServing")
    assert wrong.failure().code() is grpc.StatusCode.INVALID_ARGUMENT
    servicer.go.set()
    assert good.call.result(timeout=60).urn.endswith("::models")
    assert "wrong" not in servicer.registered


@pytest.mark.parametrize(
    "replicas",
    [
        {SIGNATURE: OUTPUT},
        {SIGNATURE: OUTPUT, "value": 3, "dependencies": ["urn:pulumi:dev::shop::a:b:C::d"]},
        rpc.UNKNOWN,
    ],
    ids=["unknown output", "output", "unknown"],
)
def test_the_cli_is_given_no_path_of_a_value_that_it_cannot_print(
    plugin: Plugin, monitor: tuple[Monitor, str], replicas: Any
) -> None:
    """It ends itself over one. What is wrong is in the message."""
    wrong = Construction(plugin, monitor[1], "vision", "TensorFlowServing", {"replicas": replicas})
    failure = wrong.failure()
    assert "property replicas has a problem: an output of another resource" in failure.details()
    assert _paths(failure) == {"repository"}


def _paths(error: grpc.RpcError) -> set[str]:
    """The paths that the engine is told apart from the message."""
    found: set[str] = set()
    for key, value in error.trailing_metadata():
        if key == "grpc-status-details-bin":
            for each in status_pb2.Status.FromString(value).details:
                detail = errors_pb2.InputPropertiesError()
                assert each.Unpack(detail)
                found |= {problem.property_path for problem in detail.errors}
    return found


def test_a_provider_in_a_component_is_served_by_the_plugin_that_makes_it(
    plugin: Plugin, monitor: tuple[Monitor, str]
) -> None:
    """Wherever that is from: an engine takes the program's package for a provider that asks for no version."""
    servicer, address = monitor
    stack = {
        "alicloud": {"region": "cn-hangzhou", "accessKey": "x", "secretKey": "y"},
        "bucket": {"name": "shop-models"},
        "models": MODELS,
        "services": {
            "vision": {
                "deployment": "custom",
                "image": "tensorflow-serving:2.14.1",
                "configFile": True,
                "configPollSeconds": 30,
                "allowLabelsForUnavailableVersions": True,
            }
        },
    }
    Construction(plugin, address, "serving", "ServingStack", stack).call.result(timeout=60)
    assert servicer.versions["pulumi:providers:tfserving"] == ""
    assert servicer.versions["pulumi:providers:alicloud"] == ALICLOUD_VERSION
