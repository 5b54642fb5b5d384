"""A small Pulumi provider server for stand-in plugins: the ResourceProvider service over one class per resource type.

It speaks what the sandbox engine asks for of the protocol (proto/pulumi/provider.proto): Check, Diff, Create, Read,
Update, Delete with previews, partial failures, and messages to the engine. Every other type is refused by its name.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, ClassVar

import grpc
from google.protobuf import any_pb2, empty_pb2
from pulumi.runtime.proto import engine_pb2, engine_pb2_grpc, plugin_pb2, provider_pb2, provider_pb2_grpc, status_pb2

from sandbox.engine.properties import (
    Properties,
    difference,
    from_struct,
    has_unknown,
    plain,
    to_struct,
)
from tfserving.errors import TFServingError
from tfserving.property_path import Path, parse_path
from tfserving.property_values import UNKNOWN_TEXT

_KINDS = {
    ("add", False): 0, ("add", True): 1, ("delete", False): 2,
    ("delete", True): 3, ("update", False): 4, ("update", True): 5,
}  # fmt: skip
_CHANGES = (provider_pb2.DiffResponse.DIFF_NONE, provider_pb2.DiffResponse.DIFF_SOME)


class InputError(TFServingError):
    """Inputs of a resource are wrong.

    Attributes:
        failures: (property, reason) pairs.
    """

    def __init__(self, *failures: tuple[str, str]) -> None:
        self.failures = failures
        super().__init__("; ".join(f"{name}: {reason}" for name, reason in failures))


class NotReadyError(TFServingError):
    """A resource was made or changed, but is not ready; the engine keeps it and tries again next time.

    Attributes:
        id: the resource's id.
        outputs: its properties as far as they are known.
    """

    def __init__(self, reason: str, id: str, outputs: Properties) -> None:
        self.id, self.outputs = id, outputs
        super().__init__(reason)


@dataclass(frozen=True)
class State:
    """A resource as the engine knows it."""

    urn: str
    id: str
    inputs: Properties
    outputs: Properties


class ResourceType:
    """One resource type. Subclasses implement the five operations; values are plain JSON, secrets in the clear.

    Attributes:
        replace_on: inputs whose change needs a new resource.
        delete_first: whether the old one must be gone before.
        computed: outputs that are known only once the resource exists.
    """

    replace_on: ClassVar[frozenset[str]] = frozenset()
    delete_first: ClassVar[bool] = False
    computed: ClassVar[tuple[str, ...]] = ()
    refresh_before_update: ClassVar[bool] = False

    def check(self, name: str, old: Properties, new: Properties) -> Properties:
        """Inputs with defaults. Raises InputError."""
        return new

    def replaces(self, path: Path, old: Properties, new: Properties) -> bool:
        """Whether a change of the input at ``path`` needs a new resource."""
        return str(path[0]) in self.replace_on

    def deletes_first(self, old: Properties, new: Properties) -> bool:
        """Whether the old resource must be gone before the new one is made."""
        return self.delete_first

    def create(self, urn: str, inputs: Properties) -> tuple[str, Properties]:
        """Makes the resource. Returns its id and outputs. Raises NotReadyError if it was made but is not ready."""
        raise NotImplementedError

    def read(self, state: State) -> tuple[Properties, Properties] | None:
        """Inputs and outputs as they really are, None if the resource is gone."""
        raise NotImplementedError

    def update(self, state: State, inputs: Properties) -> Properties:
        """Changes the resource. Returns its outputs."""
        raise NotImplementedError

    def delete(self, state: State) -> None:
        """Removes the resource; that it is gone already is no error."""
        raise NotImplementedError


class Provider:
    """A package: its settings and its resource types."""

    name = ""
    types: Mapping[str, ResourceType] = {}

    def __init__(self) -> None:
        self.cancelled = threading.Event()
        self._engine: engine_pb2_grpc.EngineStub | None = None

    def connect(self, engine: str) -> None:
        """Where messages go: ``host:port`` of the engine."""
        self._engine = engine_pb2_grpc.EngineStub(grpc.insecure_channel(engine))

    def configure(self, settings: Properties) -> None:
        """Takes the provider's settings. Raises InputError."""

    def invoke(self, token: str, arguments: Properties) -> Properties:
        """Calls a function. Raises TFServingError for one that is not there."""
        raise TFServingError(f"the stand-in for {self.name} has no function {token}")

    def log(self, urn: str, text: str, severity: str = "INFO", status: bool = False) -> None:
        """Tells the engine something about a resource; ``status``: what is going on right now."""
        if self._engine:
            level = engine_pb2.LogSeverity.Value(severity)
            self._engine.Log(engine_pb2.LogRequest(severity=level, message=text, urn=urn, ephemeral=status))


class Servicer(provider_pb2_grpc.ResourceProviderServicer):
    """Translates between the protocol and a ``Provider``."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    def Handshake(self, request: Any, context: Any) -> provider_pb2.ProviderHandshakeResponse:
        """Secrets come in the clear; the engine marks their like in what we return."""
        self._provider.connect(request.engine_address)
        return provider_pb2.ProviderHandshakeResponse()

    def CheckConfig(self, request: Any, context: Any) -> provider_pb2.CheckResponse:
        """Settings are checked by ``configure``."""
        return provider_pb2.CheckResponse(inputs=request.news)

    def DiffConfig(self, request: Any, context: Any) -> provider_pb2.DiffResponse:
        """No setting of a stand-in makes old resources unmanageable."""
        changed = from_struct(request.old_inputs) != from_struct(request.news)
        return provider_pb2.DiffResponse(changes=_CHANGES[bool(changed)])

    def Configure(self, request: Any, context: Any) -> provider_pb2.ConfigureResponse:
        """Settings, in the clear."""
        with _Errors(context):
            self._provider.configure(plain(from_struct(request.args)))
        return provider_pb2.ConfigureResponse(supportsPreview=True)

    def GetPluginInfo(self, request: Any, context: Any) -> plugin_pb2.PluginInfo:
        """Stand-ins carry no version of their own."""
        return plugin_pb2.PluginInfo(version="0.0.0")

    def Cancel(self, request: Any, context: Any) -> empty_pb2.Empty:
        """Waits in operations end."""
        self._provider.cancelled.set()
        return empty_pb2.Empty()

    def Check(self, request: Any, context: Any) -> provider_pb2.CheckResponse:
        """Inputs with defaults, or what is wrong with them."""
        try:
            inputs = self._type(request).check(request.name, from_struct(request.olds), from_struct(request.news))
        except InputError as error:
            failures = [provider_pb2.CheckFailure(property=name, reason=reason) for name, reason in error.failures]
            return provider_pb2.CheckResponse(failures=failures)
        return provider_pb2.CheckResponse(inputs=to_struct(inputs))

    def Diff(self, request: Any, context: Any) -> provider_pb2.DiffResponse:
        """Inputs compared property by property."""
        kind = self._type(request)
        old, new = from_struct(request.old_inputs), from_struct(request.news)
        found = difference(old, new)
        response = provider_pb2.DiffResponse(changes=_CHANGES[bool(found)], hasDetailedDiff=True)
        for path, change in found.items():
            steps = parse_path(path)
            top, replaces = str(steps[0]), kind.replaces(steps, old, new)
            response.detailedDiff[path].CopyFrom(
                provider_pb2.PropertyDiff(kind=_KINDS[change, replaces], inputDiff=True)  # type: ignore[arg-type]
            )
            if top not in response.diffs:
                response.diffs.append(top)
            if replaces and top not in response.replaces:
                response.replaces.append(top)
        response.deleteBeforeReplace = bool(found) and kind.deletes_first(old, new)
        return response

    def Create(self, request: Any, context: Any) -> provider_pb2.CreateResponse:
        """Makes a resource; a preview returns its inputs and what is still to be computed as unknown."""
        kind, inputs = self._type(request), from_struct(request.properties)
        if request.preview:
            return provider_pb2.CreateResponse(properties=to_struct(self._foreseen(kind, inputs)))
        with _Errors(context, kind.refresh_before_update):
            id, outputs = kind.create(request.urn, inputs)
        again = kind.refresh_before_update
        return provider_pb2.CreateResponse(id=id, properties=to_struct(outputs), refresh_before_update=again)

    def Read(self, request: Any, context: Any) -> provider_pb2.ReadResponse:
        """What is really there."""
        kind = self._type(request)
        state = State(request.urn, request.id, from_struct(request.inputs), from_struct(request.properties))
        with _Errors(context, kind.refresh_before_update):
            found = kind.read(state)
        if found is None:
            return provider_pb2.ReadResponse()
        inputs, outputs = map(to_struct, found)
        again = kind.refresh_before_update
        return provider_pb2.ReadResponse(id=request.id, inputs=inputs, properties=outputs, refresh_before_update=again)

    def Update(self, request: Any, context: Any) -> provider_pb2.UpdateResponse:
        """Changes a resource."""
        kind, inputs = self._type(request), from_struct(request.news)
        old = State(request.urn, request.id, from_struct(request.old_inputs), from_struct(request.olds))
        if request.preview:
            return provider_pb2.UpdateResponse(properties=to_struct(old.outputs | inputs))
        with _Errors(context, kind.refresh_before_update):
            outputs = kind.update(old, inputs)
        return provider_pb2.UpdateResponse(
            properties=to_struct(outputs), refresh_before_update=kind.refresh_before_update
        )

    def Delete(self, request: Any, context: Any) -> empty_pb2.Empty:
        """Removes a resource."""
        state = State(request.urn, request.id, from_struct(request.old_inputs), from_struct(request.properties))
        with _Errors(context):
            self._type(request).delete(state)
        return empty_pb2.Empty()

    def Invoke(self, request: Any, context: Any) -> provider_pb2.InvokeResponse:
        """Calls a function."""
        with _Errors(context):
            result = self._provider.invoke(request.tok, from_struct(request.args))
        response = provider_pb2.InvokeResponse()
        getattr(response, "return").CopyFrom(to_struct(result))
        return response

    def _type(self, request: Any) -> ResourceType:
        found = self._provider.types.get(request.type)
        if found is None:
            known = ", ".join(sorted(self._provider.types))
            reason = f"the stand-in for {self._provider.name} has no {request.type}, only {known}"
            raise InputError(("", f"{reason}; the Pulumi CLI with the real provider does"))
        return found

    @staticmethod
    def _foreseen(kind: ResourceType, inputs: Properties) -> Properties:
        return {k: v for k, v in inputs.items() if not has_unknown(v)} | dict.fromkeys(kind.computed, UNKNOWN_TEXT)


class _Errors:
    """Turns our exceptions into answers of the protocol: a message, never a traceback."""

    def __init__(self, context: Any, refresh: bool = False) -> None:
        self._context, self._refresh = context, refresh

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, NotReadyError):
            detail = any_pb2.Any()
            detail.Pack(
                provider_pb2.ErrorResourceInitFailed(
                    id=error.id, properties=to_struct(error.outputs), reasons=[str(error)],
                    refresh_before_update=self._refresh,
                )
            )  # fmt: skip
            status = status_pb2.Status(code=grpc.StatusCode.UNKNOWN.value[0], message=str(error), details=[detail])
            self._context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
        if isinstance(error, TFServingError):
            self._context.abort(grpc.StatusCode.UNKNOWN, str(error))


def serve(provider: Provider) -> None:
    """Serves a provider until the engine that started this process ends it, or ends itself: stdin is its lifeline.

    The Pulumi CLI ends a plugin by an interrupt, and reports one that dies of it as broken.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: os._exit(0))
    server = grpc.server(ThreadPoolExecutor(32))
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(Servicer(provider), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    sys.stdin.buffer.read()
    os._exit(0)
