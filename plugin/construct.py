"""Makes components for programs of any language: Pulumi's ``Construct`` call."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import grpc
import pulumi
import yaml
from google.protobuf import struct_pb2
from pulumi.provider.provider import ConstructResult, Provider
from pulumi.provider.server import ProviderServicer
from pulumi.runtime import rpc, settings
from pulumi.runtime.proto import provider_pb2, resource_pb2, resource_pb2_grpc

from components import names, public, resources
from components.arguments import ArgumentError, Caller, made_for
from components.component import Component
from provider.package import ComponentError, UnimplementedError
from provider.resource import OperationCancelledError
from tfserving import wire
from tfserving.contract import PACKAGE
from tfserving.property_path import parse_path
from tfserving.property_values import OUTPUT, RESOURCE, SIGNATURE

_GET_RESOURCE = "pulumi:pulumi:getResource"
_CHANNEL = [("grpc.max_receive_message_length", -1), ("grpc.enable_http_proxy", 0)]
_POLL_SECONDS = 0.2
_PARALLEL = 32
"""Where the engine has no limit. Each registration of a child holds a thread until the child is there."""


def construct(
    request: provider_pb2.ConstructRequest, engine: str, provider: str, cancelled: threading.Event
) -> provider_pb2.ConstructResponse:
    """Make a component, and wait until everything in it is registered.

    Calls may overlap. Pulumi keeps its settings in context variables, so each call has a context and an event loop of
    its own.

    Args:
        request: the component: type, name, inputs and options.
        engine: ``host:port`` of the engine.
        provider: reference to this provider, which the component's resources of this package take unless the program
            says another: an engine may not know where else to find the plugin.
        cancelled: set when the engine gives up.

    Raises:
        UnimplementedError: there is no component of that type.
        ComponentError: the arguments are wrong, or something in the component failed.
        OperationCancelledError: the engine gave up.
    """
    if request.type not in public.COMPONENTS:
        known = ", ".join(public.COMPONENTS)
        raise UnimplementedError(f"there is no component {request.type}; components of this package: {known}")
    if provider and PACKAGE not in request.providers:
        request.providers[PACKAGE] = provider
    return contextvars.Context().run(asyncio.run, _until_cancelled(request, engine, cancelled))


async def _until_cancelled(
    request: provider_pb2.ConstructRequest, engine: str, cancelled: threading.Event
) -> provider_pb2.ConstructResponse:
    workers = (request.parallel or _PARALLEL) * 4  # as Pulumi's own host of Python programs has them
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(workers))
    # When it is closed, what waits for the engine waits no longer: threads of the call end with it.
    with grpc.insecure_channel(request.monitorEndpoint, options=_CHANNEL) as channel:
        making = asyncio.create_task(_construct(request, engine, resource_pb2_grpc.ResourceMonitorStub(channel)))
        while not making.done():
            await asyncio.wait([making], timeout=_POLL_SECONDS)
            if cancelled.is_set() and not making.done():
                making.cancel()
                raise OperationCancelledError(f"{request.name}: cancelled before everything in it was registered")
        return making.result()


async def _construct(
    request: provider_pb2.ConstructRequest, engine: str, monitor: resource_pb2_grpc.ResourceMonitorStub
) -> provider_pb2.ConstructResponse:
    component = public.load(request.type)
    caller = _caller(Path.cwd())
    hidden = {name for name, value in request.inputs.fields.items() if _is_no_plain_value(value)}
    made_elsewhere: dict[str, Any] = {}
    made_of: Callable[[str, dict[str, Any], pulumi.ResourceOptions | None], Component] = cast(Any, component)

    class Components(Provider):
        def construct(
            self, name: str, resource_type: str, inputs: pulumi.Inputs, options: pulumi.ResourceOptions | None = None
        ) -> ConstructResult:
            settings.SETTINGS.monitor = monitor
            given = {key: _whole(value) for key, value in inputs.items()}
            _refuse_rounded(f"{component.__name__} {name}", given)
            run = (request.monitorEndpoint, request.project, request.stack, request.dryRun)
            with made_for(caller), names.call_of(run, request.providers, request.parent):
                made: Component = made_of(name, {**given, **made_elsewhere}, options)
            return ConstructResult(urn=made.urn, state=made.state)

    try:
        # A plugin from a repository has the version of a tag and an address, which the engine knows and nobody here.
        resources.asked_version.set("")
        made_elsewhere |= await _made_elsewhere(request, component, monitor)
        return await ProviderServicer(Components(""), [], engine)._construct(request, None)
    except ArgumentError as error:
        raise _refused(str(error).partition("\n")[0], _reasons(error), hidden) from None
    except pulumi.RunError as error:
        raise ComponentError(str(error)) from None
    except grpc.RpcError as error:  # a child was refused or failed, which the engine has told
        raise ComponentError(f"{request.name}: not everything in it could be made: {_details(error)}") from None


def _caller(directory: Path) -> Caller:
    """Whose program it is, by the project around a directory: the engine does not tell its language."""
    for parent in (directory, *directory.parents):
        for name in ("Pulumi.yaml", "Pulumi.yml", "Pulumi.json"):
            try:
                project = yaml.safe_load((parent / name).read_text(encoding="utf-8"))
            except (OSError, ValueError, yaml.YAMLError):
                continue
            runtime = project.get("runtime") if isinstance(project, Mapping) else None
            runtime = runtime.get("name") if isinstance(runtime, Mapping) else runtime
            return Caller.PYTHON if runtime == "python" else Caller.OTHER
    return Caller.OTHER


def _reasons(error: ArgumentError) -> dict[str, str]:
    """What is wrong by property path; several problems of one path together."""
    found: dict[str, list[str]] = {}
    for problem in error.problems:
        found.setdefault(problem.path, []).append(str(problem).removeprefix(f"{problem.path}: "))
    return {path: "; ".join(reasons) for path, reasons in found.items()}


def _refused(message: str, reasons: Mapping[str, str], hidden: AbstractSet[str]) -> ComponentError:
    """What is told of wrong arguments.

    The Pulumi CLI shows the value at a path that it is given, and 3.274 ends itself over a resource or an unknown value
    there: such a path is told in the message, in the CLI's words.
    """
    inside = {path for path in reasons if parse_path(path)[:1] and parse_path(path)[0] in hidden}
    told = "".join(f"\n\t\t- property {path} has a problem: {reasons[path]}" for path in sorted(inside))
    return ComponentError(message + told, {path: reason for path, reason in reasons.items() if path not in inside})


def _is_no_plain_value(value: struct_pb2.Value) -> bool:
    """Whether a resource, or what is known only later, is somewhere in a value."""
    if value.WhichOneof("kind") == "list_value":
        return any(map(_is_no_plain_value, value.list_value.values))
    fields = value.struct_value.fields
    if SIGNATURE in fields and fields[SIGNATURE].string_value in (OUTPUT, RESOURCE):
        return True
    return value.string_value == rpc.UNKNOWN or any(map(_is_no_plain_value, fields.values()))


def _details(error: grpc.RpcError) -> str:
    return str(error.details()) if isinstance(error, grpc.Call) else str(error)


def _whole(value: Any) -> Any:
    """A value as the program wrote it: the protocol has only doubles, and 8500.0 is no port."""
    if isinstance(value, Mapping):
        return {key: _whole(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_whole(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _refuse_rounded(subject: str, given: Mapping[str, Any]) -> None:
    reasons = {
        path: f"{number} came as a number, which Pulumi rounds above 2^53; write it as text"
        for key, value in given.items()
        for path, number in wire.inexact(value, key)
    }
    if reasons:
        raise ComponentError(f"{subject}: {len(reasons)} problem{'s' if len(reasons) != 1 else ''}", reasons)


# ---- components among the arguments --------------------------------------------------------------------------------


async def _made_elsewhere(
    request: provider_pb2.ConstructRequest,
    component: type[Component],
    monitor: resource_pb2_grpc.ResourceMonitorStub,
) -> dict[str, dict[str, Any] | list[dict[str, Any]]]:
    """The outputs of components among the arguments, which then are no inputs of the request any more.

    A component that another call has made is known by its outputs alone. What of them may be unknown or secret is an
    output here, too.
    """
    found: dict[str, dict[str, Any] | list[dict[str, Any]]] = {}
    several: dict[str, bool] = {
        each.key: each.several
        for each in component.arguments
        if f"{PACKAGE}:index:{each.type}" in public.COMPONENTS and each.key in request.inputs.fields
    }
    urns = {name: _urns(request.inputs.fields[name], many) for name, many in several.items()}
    urns = {name: all_of for name, all_of in urns.items() if all_of}
    for name, all_of in urns.items():
        states = [await _state(monitor, urn) for urn in all_of]
        found[name] = states if several[name] else states[0]
        del request.inputs.fields[name]
        request.inputDependencies.pop(name, None)
    return found


async def _state(monitor: resource_pb2_grpc.ResourceMonitorStub, urn: str) -> dict[str, Any]:
    """The outputs of a component, by name."""
    state = await asyncio.to_thread(_outputs, monitor, urn)
    needed = provider_pb2.ConstructRequest.PropertyDependencies(urns=[urn])
    later = {key for key in state.fields if key not in _PLAIN}
    return dict(await ProviderServicer._construct_inputs(state, dict.fromkeys(later, needed)))


def _urns(value: struct_pb2.Value, several: bool) -> list[str]:
    """The components that an argument names; none where it is something else."""
    while not several or value.WhichOneof("kind") != "list_value":
        fields = value.struct_value.fields
        if not several or SIGNATURE not in fields or fields[SIGNATURE].string_value != OUTPUT or "value" not in fields:
            found = _urn(value)
            return [found] if found else []
        value = fields["value"]
    found_all = [_urn(item) for item in value.list_value.values]
    return found_all if all(found_all) else []


_PLAIN = ("declaration", "contents", "root", "serviceName", "group", "protocol")
"""Outputs that decide what a component consists of: always known, never secret."""


def _outputs(monitor: resource_pb2_grpc.ResourceMonitorStub, urn: str) -> struct_pb2.Struct:
    asked = resource_pb2.ResourceInvokeRequest(tok=_GET_RESOURCE, acceptResources=True)
    asked.args.fields["urn"].string_value = urn
    answer = monitor.Invoke(asked)
    reasons: Sequence[Any] = answer.failures
    if reasons:
        raise ComponentError("; ".join(f"{each.property}: {each.reason}".lstrip(": ") for each in reasons))
    state: struct_pb2.Struct = getattr(answer, "return").fields["state"].struct_value
    return state


def _urn(value: struct_pb2.Value | None) -> str:
    """The URN in a reference to a resource, also in one that is an output; empty for other values.

    A reference that went through a transform in TypeScript is the URN itself.
    """
    if value is None:
        return ""
    if value.string_value.startswith("urn:pulumi:"):
        return value.string_value
    fields = value.struct_value.fields
    signature = fields[SIGNATURE].string_value if SIGNATURE in fields else ""
    if signature == RESOURCE:
        return str(fields["urn"].string_value)
    return _urn(fields["value"]) if signature == OUTPUT and "value" in fields else ""
