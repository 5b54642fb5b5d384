"""The gRPC side of the provider: Pulumi's ``ResourceProvider`` service, the plugin process around it, and its errors.

The protocol is that of ``proto/pulumi/provider.proto``. A person's mistake or a refused call becomes a message without
a stack. An error after something has been made is returned as ``ErrorResourceInitFailed`` with what exists, so that the
engine keeps it in its state. An exception nobody expected becomes one line with its type; its traceback goes to the
engine's debug log only.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from concurrent import futures
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import grpc
from google.protobuf import any_pb2, empty_pb2, struct_pb2
from pulumi.runtime.proto import engine_pb2, engine_pb2_grpc, plugin_pb2, provider_pb2, provider_pb2_grpc, status_pb2

from provider import claims
from provider.bucket_contents import BucketContents
from provider.clients import Clients, CloudSettings, one_line
from provider.eas_service import EasService
from provider.model_config_file import ModelConfigFile
from provider.properties import UNKNOWN, Change, Properties, decode, encode, plain, rounded
from provider.published_model import PublishedModel
from provider.resource import (
    Context,
    Diff,
    Failure,
    OperationCancelledError,
    Property,
    Recorded,
    Resource,
    Severity,
    check_properties,
    diff_properties,
    text,
)
from provider.served_config import ServedConfig
from provider.served_model import ServedModel
from tfserving.errors import CloudError, ConfigError, OwnershipError, ServiceUnreachableError, TFServingError
from tfserving.hosts import is_loopback_endpoint
from tfserving.property_path import covers, format_path

PACKAGE = "tfserving"
VERSION = "0.1.0"

RESOURCES: Mapping[str, Resource] = {
    resource.token: resource
    for resource in (
        BucketContents(),
        PublishedModel(),
        ModelConfigFile(),
        EasService(),
        ServedConfig(),
        ServedModel(),
    )
}

CONFIG: Mapping[str, Property] = {
    "region": Property(
        "string", "region of the bucket and the services, e.g. cn-hangzhou", required=True, replaces=True
    ),
    "easEndpoint": Property("string", "host[:port] of the EAS API; empty is the region's own"),
    "ossEndpoint": Property("string", "host[:port] of OSS; empty is the region's own"),
    "protocol": Property("string", "HTTPS, or HTTP for a loopback endpoint", default="HTTPS"),
    "accessKey": Property("string", "access key id; empty is the standard credentials chain", secret=True),
    "secretKey": Property("string", "access key secret", secret=True),
    "securityToken": Property("string", "token of temporary credentials", secret=True),
    "profile": Property("string", "a profile of ~/.aliyun/config.json"),
}

_Request = TypeVar("_Request")
_Answer = TypeVar("_Answer")
_Operation = (
    provider_pb2.CreateRequest | provider_pb2.ReadRequest | provider_pb2.UpdateRequest | provider_pb2.DeleteRequest
)

# Operations wait for minutes; the engine runs as many at once as its --parallel says.
_WORKERS = 256
_LOG_SECONDS = 5.0
_STATUS_INTERVAL_SECONDS = 0.25
_GRACE_SECONDS = 3.0
_WATCH_SECONDS = 5.0
_MISSED_CHECKS = 3
_SEVERITIES: Mapping[Severity, engine_pb2.LogSeverity.ValueType] = {
    "debug": engine_pb2.DEBUG,
    "info": engine_pb2.INFO,
    "warning": engine_pb2.WARNING,
    "error": engine_pb2.ERROR,
}
_KINDS = {
    (Change.ADD, False): provider_pb2.PropertyDiff.ADD,
    (Change.ADD, True): provider_pb2.PropertyDiff.ADD_REPLACE,
    (Change.DELETE, False): provider_pb2.PropertyDiff.DELETE,
    (Change.DELETE, True): provider_pb2.PropertyDiff.DELETE_REPLACE,
    (Change.UPDATE, False): provider_pb2.PropertyDiff.UPDATE,
    (Change.UPDATE, True): provider_pb2.PropertyDiff.UPDATE_REPLACE,
}
_CHANNEL_OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


class EngineLog:
    """The engine's log, once its address is known. A message that cannot be delivered is dropped."""

    def __init__(self) -> None:
        self._stub: engine_pb2_grpc.EngineStub | None = None
        self._channel: grpc.Channel | None = None
        self._lock = threading.Lock()
        self._last_status: dict[str, float] = {}

    def connect(self, address: str) -> None:
        """Send messages to the engine at ``host:port`` from now on."""
        options = [*_CHANNEL_OPTIONS, ("grpc.enable_http_proxy", 0)]
        self._channel = grpc.insecure_channel(address, options=options)
        self._stub = engine_pb2_grpc.EngineStub(self._channel)

    def __call__(self, severity: Severity, urn: str, message: str, *, ephemeral: bool = False) -> None:
        """Send one message; statuses of one resource at most a few times a second."""
        stub = self._stub
        if stub is None:
            return
        if ephemeral:
            now = time.monotonic()
            with self._lock:
                if now - self._last_status.get(urn, 0.0) < _STATUS_INTERVAL_SECONDS:
                    return
                self._last_status[urn] = now
        request = engine_pb2.LogRequest(severity=_SEVERITIES[severity], message=message, urn=urn, ephemeral=ephemeral)
        with contextlib.suppress(grpc.RpcError):
            stub.Log(request, timeout=_LOG_SECONDS)

    def engine_is_there(self) -> bool:
        """Whether the engine is there; True where none is known. Any answer counts, and so does a slow one."""
        if self._channel is None:
            return True
        check = self._channel.unary_unary("/grpc.health.v1.Health/Check")
        try:
            check(b"", timeout=_WATCH_SECONDS)
        except grpc.RpcError as error:
            return bool(error.code() != grpc.StatusCode.UNAVAILABLE)
        return True


class UnimplementedError(TFServingError):
    """The engine asked for something this provider does not have."""


class _PartialStateError(Exception):
    """Carries what exists after a failed operation; the failure is its cause."""

    def __init__(self, recorded: Recorded, resource: Resource) -> None:
        super().__init__()
        self.recorded = recorded
        self.resource = resource


def _answering(
    method: Callable[[Provider, _Request], _Answer],
) -> Callable[[Provider, _Request, grpc.ServicerContext], _Answer]:
    """The gRPC form of a method: an exception becomes the status the engine expects."""

    @functools.wraps(method)
    def answer(self: Provider, request: _Request, context: grpc.ServicerContext) -> _Answer:
        try:
            return method(self, request)
        except _PartialStateError as partial:
            cause = partial.__cause__ or partial
            _abort_partial(context, self.message(cause, request), partial)
        except Exception as error:
            context.abort(_code(error), self.message(error, request))
        raise AssertionError("abort raises")

    return answer


class Provider(provider_pb2_grpc.ResourceProviderServicer):
    """Dispatches the engine's calls to the resources.

    Args:
        root: the project directory.
        log: the engine's log.
    """

    def __init__(self, root: Path, log: EngineLog) -> None:
        self._root = root
        self._log = log
        self._clients: Clients | None = None
        self.cancelled = threading.Event()

    def message(self, error: BaseException, request: object) -> str:
        """What a person reads about an error; the traceback of a surprise goes to the engine's debug log."""
        if isinstance(error, TFServingError):
            return str(error)
        self._log("debug", getattr(request, "urn", ""), "".join(traceback.format_exception(error)))
        return f"unexpected error in the {PACKAGE} provider: {type(error).__name__}: {one_line(error)}"

    # ---- the plugin ------------------------------------------------------------------------------------------------

    @_answering
    def Handshake(self, request: provider_pb2.ProviderHandshakeRequest) -> provider_pb2.ProviderHandshakeResponse:
        self._log.connect(request.engine_address)
        return provider_pb2.ProviderHandshakeResponse(accept_secrets=True, accept_resources=True, accept_outputs=True)

    @_answering
    def Attach(self, request: plugin_pb2.PluginAttach) -> empty_pb2.Empty:
        self._log.connect(request.address)
        return empty_pb2.Empty()

    @_answering
    def GetPluginInfo(self, request: empty_pb2.Empty) -> plugin_pb2.PluginInfo:
        return plugin_pb2.PluginInfo(version=VERSION)

    @_answering
    def GetSchema(self, request: provider_pb2.GetSchemaRequest) -> provider_pb2.GetSchemaResponse:
        if request.version not in (0, 1):
            raise UnimplementedError(f"the {PACKAGE} provider has no schema of version {request.version}")
        return provider_pb2.GetSchemaResponse(schema=json.dumps(schema()))

    @_answering
    def GetMapping(self, request: provider_pb2.GetMappingRequest) -> provider_pb2.GetMappingResponse:
        return provider_pb2.GetMappingResponse()

    @_answering
    def GetMappings(self, request: provider_pb2.GetMappingsRequest) -> provider_pb2.GetMappingsResponse:
        return provider_pb2.GetMappingsResponse()

    @_answering
    def Cancel(self, request: empty_pb2.Empty) -> empty_pb2.Empty:
        self.cancelled.set()
        return empty_pb2.Empty()

    @_answering
    def Invoke(self, request: provider_pb2.InvokeRequest) -> provider_pb2.InvokeResponse:
        raise UnimplementedError(f"the {PACKAGE} provider has no function {request.tok}")

    @_answering
    def Call(self, request: provider_pb2.CallRequest) -> provider_pb2.CallResponse:
        raise UnimplementedError(f"the {PACKAGE} provider has no method {request.tok}")

    @_answering
    def Construct(self, request: provider_pb2.ConstructRequest) -> provider_pb2.ConstructResponse:
        raise UnimplementedError(f"the {PACKAGE} provider has no component {request.type}")

    @_answering
    def Parameterize(self, request: provider_pb2.ParameterizeRequest) -> provider_pb2.ParameterizeResponse:
        raise UnimplementedError(f"the {PACKAGE} provider takes no parameters")

    # ---- configuration ---------------------------------------------------------------------------------------------

    @_answering
    def CheckConfig(self, request: provider_pb2.CheckRequest) -> provider_pb2.CheckResponse:
        news = decode(request.news)
        news.pop("version", None)
        return _check_response(*check_properties(CONFIG, news, _validate_config))

    @_answering
    def DiffConfig(self, request: provider_pb2.DiffRequest) -> provider_pb2.DiffResponse:
        olds = decode(request.old_inputs) or decode(request.olds)
        return _diff_response(diff_properties(CONFIG, olds, decode(request.news)), request.ignoreChanges)

    @_answering
    def Configure(self, request: provider_pb2.ConfigureRequest) -> provider_pb2.ConfigureResponse:
        config: Properties = decode(request.args)
        if not config:
            prefix = f"{PACKAGE}:config:"
            config = {key.removeprefix(prefix): value for key, value in request.variables.items()}
        settings = CloudSettings(
            region=text(config, "region"),
            eas_endpoint=text(config, "easEndpoint"),
            oss_endpoint=text(config, "ossEndpoint"),
            protocol=text(config, "protocol") or "HTTPS",
            access_key=text(config, "accessKey"),
            secret_key=text(config, "secretKey"),
            security_token=text(config, "securityToken"),
            profile=text(config, "profile"),
        )
        self._clients = Clients(settings, self.cancelled)
        return provider_pb2.ConfigureResponse(
            acceptSecrets=True, supportsPreview=True, acceptResources=True, acceptOutputs=True
        )

    # ---- resources -------------------------------------------------------------------------------------------------

    @_answering
    def Check(self, request: provider_pb2.CheckRequest) -> provider_pb2.CheckResponse:
        resource = _resource(request.urn, request.type)
        kind = resource.token
        inputs, failures = resource.check(decode(request.olds, kind), decode(request.news, kind))
        failures += [
            Failure(format_path(path), f"{number} came as a number, which Pulumi rounds above 2^53; write it as text")
            for path, number in rounded(request.news, kind).items()
        ]
        return _check_response(inputs, failures, kind)

    @_answering
    def Diff(self, request: provider_pb2.DiffRequest) -> provider_pb2.DiffResponse:
        resource = _resource(request.urn, request.type)
        states = (decode(struct, resource.token) for struct in (request.old_inputs, request.olds, request.news))
        old_inputs, old_outputs, news = states
        diff = resource.diff(old_inputs, old_outputs, news)
        if diff.replaces and self._clients is not None:
            resource.replaced(self._context(request, resource, claims.stamp_of(old_outputs)), old_inputs, old_outputs)
        return _diff_response(diff, request.ignoreChanges)

    @_answering
    def Create(self, request: provider_pb2.CreateRequest) -> provider_pb2.CreateResponse:
        def create(resource: Resource, ctx: Context) -> provider_pb2.CreateResponse:
            inputs = decode(request.properties, resource.token)
            if request.preview:
                outputs = resource.preview(ctx, inputs, None, None)
                return provider_pb2.CreateResponse(properties=encode(outputs, resource.token))
            id_, outputs = resource.create(ctx, inputs)
            return provider_pb2.CreateResponse(
                id=id_,
                properties=encode(claims.stamped(outputs, ctx.stamp), resource.token),
                refresh_before_update=resource.refresh_before_update,
            )

        return self._operate(request, create, claims.new_stamp())

    @_answering
    def Read(self, request: provider_pb2.ReadRequest) -> provider_pb2.ReadResponse:
        def read(resource: Resource, ctx: Context) -> provider_pb2.ReadResponse:
            kind = resource.token
            _warn_of_rounded(ctx, request.inputs, kind)
            inputs = decode(request.inputs, kind) if request.HasField("inputs") and request.inputs.fields else None
            olds = decode(request.properties, kind)
            found = resource.read(ctx, request.id, inputs, olds)
            if found is None:
                return provider_pb2.ReadResponse()
            return provider_pb2.ReadResponse(
                id=request.id,
                properties=encode(claims.stamped(found.outputs, ctx.stamp), kind),
                inputs=encode(found.inputs, kind),
                refresh_before_update=resource.refresh_before_update,
            )

        return self._operate(request, read, claims.stamp_in(request.properties))

    @_answering
    def Update(self, request: provider_pb2.UpdateRequest) -> provider_pb2.UpdateResponse:
        def update(resource: Resource, ctx: Context) -> provider_pb2.UpdateResponse:
            kind = resource.token
            old_inputs, news = decode(request.old_inputs, kind), decode(request.news, kind)
            olds = decode(request.olds, kind)
            _warn_of_rounded(ctx, request.old_inputs, kind)
            if request.preview:
                outputs = resource.preview(ctx, news, old_inputs, olds)
                return provider_pb2.UpdateResponse(properties=encode(outputs, kind))
            outputs = resource.update(ctx, request.id, old_inputs, olds, news)
            return provider_pb2.UpdateResponse(
                properties=encode(claims.stamped(outputs, ctx.stamp), kind),
                refresh_before_update=resource.refresh_before_update,
            )

        return self._operate(request, update, claims.stamp_in(request.olds))

    @_answering
    def Delete(self, request: provider_pb2.DeleteRequest) -> empty_pb2.Empty:
        def delete(resource: Resource, ctx: Context) -> empty_pb2.Empty:
            kind = resource.token
            resource.delete(ctx, request.id, decode(request.old_inputs, kind), decode(request.properties, kind))
            return empty_pb2.Empty()

        return self._operate(request, delete, claims.stamp_in(request.properties))

    def _context(self, request: _Operation | provider_pb2.DiffRequest, resource: Resource, stamp: str) -> Context:
        if self._clients is None:
            raise TFServingError(f"the {PACKAGE} provider is not configured")
        seconds = 0.0 if isinstance(request, provider_pb2.DiffRequest) else request.timeout
        return Context(
            urn=request.urn,
            root=self._root,
            clients=self._clients,
            log=self._log,
            cancelled=self.cancelled,
            stamp=stamp,
            seconds=seconds or resource.default_seconds,
        )

    def _operate(self, request: _Operation, run: Callable[[Resource, Context], _Answer], stamp: str) -> _Answer:
        """Run one operation with its context; a failure keeps what the operation recorded."""
        resource = _resource(request.urn, request.type)
        ctx = self._context(request, resource, stamp)
        try:
            ctx.check()
            return run(resource, ctx)
        except Exception as error:
            if ctx.recorded is None:
                raise
            outputs = claims.stamped(ctx.recorded.outputs, ctx.stamp)
            raise _PartialStateError(replace(ctx.recorded, outputs=outputs), resource) from error


def _warn_of_rounded(ctx: Context, recorded: struct_pb2.Struct, kind: str) -> None:
    """Say so where a state holds numbers that release 0.1.0, which sent them as doubles, may have rounded."""
    if numbers := rounded(recorded, kind):
        shown = ", ".join(map(str, sorted(set(numbers.values()))))
        ctx.warning(
            f"the state holds {shown}, written by a release that rounded numbers above 2^53: what is deployed may "
            "differ in its last digits from what was declared, and `pulumi up` puts it right"
        )


def _code(error: Exception) -> grpc.StatusCode:
    """The engine takes INTERNAL, UNKNOWN and DATA_LOSS as 'nobody knows what exists now': only surprises are that."""
    match error:
        case ConfigError():
            return grpc.StatusCode.INVALID_ARGUMENT
        case OwnershipError():
            return grpc.StatusCode.ALREADY_EXISTS
        case OperationCancelledError():
            return grpc.StatusCode.CANCELLED
        case UnimplementedError():
            return grpc.StatusCode.UNIMPLEMENTED
        case ServiceUnreachableError():
            return grpc.StatusCode.UNAVAILABLE
        case CloudError() | TFServingError():
            return grpc.StatusCode.FAILED_PRECONDITION
        case _:
            return grpc.StatusCode.INTERNAL


def _abort_partial(context: grpc.ServicerContext, message: str, partial: _PartialStateError) -> None:
    recorded, resource = partial.recorded, partial.resource
    detail = provider_pb2.ErrorResourceInitFailed(
        id=recorded.id,
        properties=encode(recorded.outputs, resource.token),
        reasons=[message],
        inputs=None if recorded.inputs is None else encode(recorded.inputs, resource.token),
        refresh_before_update=resource.refresh_before_update,
    )
    packed = any_pb2.Any()
    packed.Pack(detail)
    code = grpc.StatusCode.UNKNOWN
    status = status_pb2.Status(code=code.value[0], message=message, details=[packed])
    context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
    context.abort(code, message)


def _resource(urn: str, token: str) -> Resource:
    if not token:  # an engine older than the field
        token = urn.split("::")[2].rsplit("$", 1)[-1] if urn.count("::") >= 3 else urn
    resource = RESOURCES.get(token)
    if resource is None:
        raise TFServingError(f"the {PACKAGE} provider has no resource {token}; it has {', '.join(RESOURCES)}")
    return resource


def _validate_config(inputs: Properties) -> Iterator[Failure]:
    protocol = plain(inputs.get("protocol"))
    if protocol is UNKNOWN:
        return
    if str(protocol).upper() not in ("HTTP", "HTTPS"):
        yield Failure("protocol", f"{protocol!r} is not a protocol; allowed: HTTPS, HTTP")
    elif str(protocol).upper() == "HTTP":
        for name in ("easEndpoint", "ossEndpoint"):
            endpoint = plain(inputs.get(name, ""))
            if endpoint is not UNKNOWN and not is_loopback_endpoint(str(endpoint)):
                shown = endpoint or "the region's own endpoint"
                yield Failure(
                    name, f"HTTP would send tokens in the clear to {shown}; use HTTPS, or a loopback endpoint"
                )
    if bool(plain(inputs.get("accessKey"))) != bool(plain(inputs.get("secretKey"))):
        yield Failure("secretKey", "accessKey and secretKey are given together or not at all")


def _check_response(inputs: Properties, failures: list[Failure], kind: str = "") -> provider_pb2.CheckResponse:
    return provider_pb2.CheckResponse(
        inputs=encode(inputs, kind),
        failures=[provider_pb2.CheckFailure(property=failure.path, reason=failure.reason) for failure in failures],
    )


def _diff_response(diff: Diff, ignored: Any) -> provider_pb2.DiffResponse:
    paths = {path: value for path, value in diff.changes.items() if not any(covers(each, path) for each in ignored)}
    replaces = sorted({str(path[0]) for path in paths} & diff.replaces)
    detailed = {
        format_path(path): provider_pb2.PropertyDiff(kind=_KINDS[change, path[0] in replaces], inputDiff=of_inputs)
        for path, (change, of_inputs) in paths.items()
    }
    return provider_pb2.DiffResponse(
        changes=provider_pb2.DiffResponse.DIFF_SOME if paths else provider_pb2.DiffResponse.DIFF_NONE,
        replaces=replaces,
        deleteBeforeReplace=diff.delete_before_replace and bool(replaces),
        diffs=sorted({str(path[0]) for path in paths}),
        detailedDiff=detailed,
        hasDetailedDiff=True,
    )


def schema() -> dict[str, Any]:
    """The package's Pulumi schema, made from the declared properties."""
    return {
        "name": PACKAGE,
        "version": VERSION,
        "description": "TensorFlow Serving on Alibaba Cloud PAI-EAS: published models, services, and what they serve.",
        "config": {"variables": {name: _schema_of(item) for name, item in CONFIG.items()}},
        "provider": {
            "inputProperties": {name: _schema_of(item) for name, item in CONFIG.items()},
            "requiredInputs": _required(CONFIG),
        },
        "resources": {
            token: {
                "description": resource.description,
                "inputProperties": {name: _schema_of(item) for name, item in resource.inputs.items()},
                "requiredInputs": _required(resource.inputs),
                "properties": {
                    name: _schema_of(item) for name, item in {**resource.inputs, **resource.outputs}.items()
                },
                "required": _required({**resource.inputs, **resource.outputs}),
            }
            for token, resource in RESOURCES.items()
        },
    }


def _schema_of(item: Property) -> dict[str, Any]:
    described: dict[str, Any] = {"type": item.kind, "description": item.description}
    if item.kind == "object":
        described["additionalProperties"] = {"$ref": "pulumi.json#/Any"}
    if item.kind == "array":
        described["items"] = {"type": "string"}
    if item.default is not None and item.kind != "object":
        described["default"] = item.default
    if item.replaces:
        described["willReplaceOnChanges"] = True
    if item.secret:
        described["secret"] = True
    return described


def _required(items: Mapping[str, Property]) -> list[str]:
    return [name for name, item in items.items() if item.required]


# ---- the process ---------------------------------------------------------------------------------------------------


def main(arguments: list[str], root: Path) -> int:
    """Serve on a free loopback port until the engine is done; the exit status.

    The first line on standard output is the port. The engine's address is the one argument that is not a flag.
    """
    parent = os.getppid()  # before the port is told: whoever has read it may be gone the next moment
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    log = EngineLog()
    address = _engine_address(arguments)
    if address:
        log.connect(address)
    provider = Provider(root, log)
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=_WORKERS), options=_CHANNEL_OPTIONS)
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(provider, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    os.dup2(2, 1)  # whatever a library prints must not look like part of the protocol
    threading.Thread(target=_watch, args=(log, parent, stop), daemon=True).start()
    while not stop.wait(0.2):
        pass  # a signal that another thread receives is handled when this one next runs
    provider.cancelled.set()
    server.stop(_GRACE_SECONDS).wait()
    return 0


def _engine_address(arguments: list[str]) -> str:
    """The CLI puts its own flags (``--logtostderr``, ``-v=9``, ``--tracing URL``) before the engine's address."""
    rest = iter(arguments)
    address = ""
    for argument in rest:
        if argument == "--tracing":
            next(rest, None)
        elif not argument.startswith("-"):
            address = argument
    return address


def _watch(log: EngineLog, parent: int, stop: threading.Event) -> None:
    """Stop when the process that started this one is gone, or when the engine no longer answers."""
    missed = 0
    checked = time.monotonic()
    while not stop.wait(0.5):
        if os.getppid() != parent:
            stop.set()
        if time.monotonic() - checked < _WATCH_SECONDS:
            continue
        checked = time.monotonic()
        missed = 0 if log.engine_is_there() else missed + 1
        if missed >= _MISSED_CHECKS:
            stop.set()
