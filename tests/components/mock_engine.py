"""A mock of Pulumi's engine: it records what a program registers, and answers as the providers would."""

from __future__ import annotations

import asyncio
import json
import runpy
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pulumi
from google.protobuf import empty_pb2, json_format
from pulumi.runtime import mocks, rpc
from pulumi.runtime.proto import engine_pb2

from tfserving.contract import integers
from tfserving.contract.found import FIND_VERSIONS, FindVersionsArgs, FindVersionsResult

ROOT = Path(__file__).resolve().parents[2]
STACK = "test"
_SIGNATURE = "4dabf18193072939515e22adb298388d"
_SECRET = "1b47061264138c4ac30d75fd1eb44270"


@dataclass(frozen=True)
class Registered:
    """One resource a program registered.

    Attributes:
        type: its type token.
        name: its logical name.
        inputs: its inputs; a secret is ``{"secret": value}``, version numbers are integers.
        sent: its inputs as they came over the wire, version numbers as text.
        parent: name of its parent, empty for the stack.
        depends_on: names of what it waits for by ``depends_on`` and by inputs.
        provider: reference of its provider.
        protect: whether it is protected.
        secret_outputs: outputs named as secret.
        timeouts: custom timeouts by operation.
    """

    type: str
    name: str
    inputs: Mapping[str, Any]
    sent: Mapping[str, Any]
    parent: str
    depends_on: frozenset[str]
    provider: str
    protect: bool
    secret_outputs: tuple[str, ...]
    timeouts: Mapping[str, str]


@dataclass
class Run:
    """One run of the program.

    Attributes:
        resources: by name, in the order of registration.
        outputs: stack outputs; a secret is ``{"secret": value}``.
        component_outputs: what components registered as outputs, by name.
        warnings: what the program warned of.
        calls: functions of providers that it called.
        asked: what it asked of what is in the bucket.
        notes: what the program said that is no warning.
        error: what the program ended with, for the person who runs it; empty if it did its work.
        status: its exit status.
    """

    resources: dict[str, Registered] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)
    component_outputs: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    asked: list[FindVersionsArgs] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    error: str = ""
    status: Any = 0

    @property
    def told(self) -> dict[str, Any]:
        """Outputs of the component of the whole stack."""
        return self.component_outputs["serving"]

    def waits_for(self, name: str) -> set[str]:
        """What a resource waits for, and what that waits for."""
        found: set[str] = set()
        left = [name]
        while left:
            resource = self.resources.get(left.pop())
            new = resource.depends_on - found if resource else set()
            found |= new
            left += new
        return found

    def of_type(self, type_: str) -> dict[str, Registered]:
        """The resources of one type, by name."""
        return {name: resource for name, resource in self.resources.items() if resource.type == type_}


def plain(value: Any) -> Any:
    """A property value with secrets shown as ``{"secret": value}`` and whole numbers as such."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        if value.get(_SIGNATURE) == _SECRET:
            return {"secret": plain(value["value"])}
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list) else value


class RefusedError(grpc.RpcError):  # type: ignore[misc]  # gRPC is not typed
    """How the engine hands on that a provider's function failed."""

    def __init__(self, details: str) -> None:
        self._details = details

    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.UNKNOWN

    def details(self) -> str:
        return self._details


class MockProviders(pulumi.runtime.Mocks):
    """Outputs of the resources this project knows.

    Args:
        run: takes what is called.
        refusal: what a call is refused with; empty: it is answered.
        found: what is in the bucket; ``None``: nobody may ask.
    """

    def __init__(self, run: Run, refusal: str, found: FindVersionsResult | None) -> None:
        self.run = run
        self.refusal = refusal
        self.found = found

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        outputs: dict[str, Any] = dict(args.inputs)
        if args.typ == "tfserving:index:EasService":
            is_grpc = args.inputs["probe"]["protocol"] == "grpc"
            outputs |= {
                "url": "" if is_grpc else f"http://gateway/api/predict/{args.name}",
                "target": "gateway:80" if is_grpc else "",
                "token": f"token of {args.name}",
            }
        if args.typ == "tfserving:index:TrafficSplit":
            is_grpc = args.inputs["protocol"] == "grpc"
            outputs |= {"url": "" if is_grpc else "http://gateway/api/predict/group"}
            outputs |= {"target": "gateway:81" if is_grpc else "", "token": f"token of {args.name}"}
        if args.typ == "tfserving:index:ServedConfig":
            services = rpc.unwrap_rpc_secret(args.inputs["services"])
            outputs["served"] = {name: {"modelB": {"versions": [1, 2], "labels": {"stable": 1}}} for name in services}
        if args.typ == "tfserving:index:ServedModel":
            outputs["served"] = {args.inputs["model"]: {"versions": [7], "labels": {}}}
        if args.typ == "kubernetes:core/v1:Service" and outputs["spec"]["type"] == "LoadBalancer":
            outputs["status"] = {"loadBalancer": {"ingress": [{"ip": "203.0.113.7"}]}}
        return f"{args.name}-id", outputs

    def call(self, args: mocks.MockCallArgs) -> dict[str, Any]:
        self.run.calls.append(args.token)
        if self.refusal:
            raise RefusedError(self.refusal)
        if args.token == "alicloud:cs/getClusterCredential:getClusterCredential":
            return {"kubeConfig": f"kubeconfig of {args.args['clusterId']}"}
        if args.token == FIND_VERSIONS and self.found is not None:
            self.run.asked.append(FindVersionsArgs.read(args.args))
            return self.found.write()
        raise AssertionError(f"the program calls nothing, and called {args.token}")


class MockMonitor(mocks.MockMonitor):
    """Records registrations as they come over the wire."""

    def __init__(self, run: Run, refusal: str, found: FindVersionsResult | None) -> None:
        super().__init__(MockProviders(run, refusal, found))
        self.run = run

    def RegisterResource(self, request: Any) -> Any:
        response = super().RegisterResource(request)
        if request.type != "pulumi:pulumi:Stack":
            by_inputs = [urn for found in request.propertyDependencies.values() for urn in found.urns]
            timeouts = request.customTimeouts
            self.run.resources[request.name] = Registered(
                type=request.type,
                name=request.name,
                inputs=integers.decode(request.type, plain(json_of(request.object))),
                sent=plain(json_of(request.object)),
                parent="" if is_stack(request.parent) else name_of(request.parent),
                depends_on=frozenset(map(name_of, [*request.dependencies, *by_inputs])),
                provider=request.provider or ",".join(sorted(request.providers)),
                protect=request.protect,
                secret_outputs=tuple(request.additionalSecretOutputs),
                timeouts={
                    key: getattr(timeouts, key) for key in ("create", "update", "delete") if getattr(timeouts, key)
                },
            )
        return response

    def RegisterResourceOutputs(self, request: Any) -> Any:
        found = plain(json_of(request.outputs))
        if is_stack(request.urn):
            self.run.outputs |= found
        else:
            self.run.component_outputs[name_of(request.urn)] = found
        return empty_pb2.Empty()


class MockLog:
    """Keeps the warnings of a run, and its last error."""

    def __init__(self, run: Run) -> None:
        self.run = run

    def Log(self, request: Any) -> None:
        if request.severity == engine_pb2.WARNING:
            self.run.warnings.append(request.message)
        if request.severity == engine_pb2.INFO:
            self.run.notes.append(request.message)
        if request.severity == engine_pb2.ERROR:
            self.run.error = request.message


def name_of(urn: str) -> str:
    """The name at the end of a URN."""
    return urn.rpartition("::")[2]


def is_stack(urn: str) -> bool:
    """Whether a URN is the stack's own."""
    return urn.split("::")[2] == "pulumi:pulumi:Stack"


def json_of(struct: Any) -> Any:
    """A ``Struct`` as plain Python."""
    return json_format.MessageToDict(struct)


def run_program(
    config: Mapping[str, Any],
    secret_keys: list[str] | None = None,
    preview: bool = False,
    refusal: str = "",
    bucket: FindVersionsResult | None = None,
) -> Run:
    """Runs ``__main__.py`` against the mock, where functions of providers are refused with ``refusal``; what it did."""
    program = str(ROOT / "__main__.py")
    interrupts = signal.getsignal(signal.SIGINT)  # the program takes them for its own process
    try:
        main = lambda: runpy.run_path(program, run_name="__main__") and None  # noqa: E731
        return run(main, config, secret_keys, preview, refusal, bucket)
    finally:
        signal.signal(signal.SIGINT, interrupts)


def run(
    program: Callable[[], object],
    config: Mapping[str, Any] | None = None,
    secret_keys: list[str] | None = None,
    preview: bool = False,
    refusal: str = "",
    bucket: FindVersionsResult | None = None,
) -> Run:
    """Runs any program against the mock, with ``bucket`` as what is in it; what it did."""
    found = Run()
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in (config or {}).items()}

    async def main() -> None:
        pulumi.runtime.set_all_config(texts, secret_keys or [])
        pulumi.runtime.configure(
            pulumi.runtime.Settings(
                project="tf-serving",
                stack=STACK,
                monitor=MockMonitor(found, refusal, bucket),
                engine=MockLog(found),
                dry_run=preview,
            )
        )
        await pulumi.runtime.run_in_stack(lambda: program() and None)

    try:
        asyncio.run(main())
    except pulumi.RunError as error:
        found.error = str(error)
    except SystemExit as error:
        found.status = error.code
    finally:
        pulumi.runtime.set_all_config({}, [])
    return found
