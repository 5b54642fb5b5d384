"""The gRPC side of the provider: Pulumi's ``ResourceProvider`` service, and its errors.

The protocol is that of ``proto/pulumi/provider.proto``. A person's mistake or a refused call becomes a message without
a stack. An error after something has been made is returned as ``ErrorResourceInitFailed`` with what exists, so that the
engine keeps it in its state. An exception nobody expected becomes one line with its type; its traceback goes to the
engine's debug log only.
"""

from __future__ import annotations

import functools
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import grpc
from google.protobuf import any_pb2, empty_pb2, struct_pb2
from google.protobuf.message import Message
from pulumi.runtime.proto import errors_pb2, plugin_pb2, provider_pb2, provider_pb2_grpc, status_pb2

from provider import claims
from provider.bucket_contents import BucketContents
from provider.clients import Clients, CloudSettings, one_line
from provider.cluster_object import ClusterObject
from provider.eas_service import EasService
from provider.engine_log import EngineLog
from provider.model_config_file import ModelConfigFile
from provider.package import ComponentError, Package, UnimplementedError
from provider.properties import Change, decode, encode, rounded
from provider.publication import finding, same_answer
from provider.published_model import PublishedModel
from provider.resource import (
    Context,
    Diff,
    Failure,
    OperationCancelledError,
    Recorded,
    Resource,
    check_properties,
    diff_properties,
)
from provider.retired_versions import RetiredVersions
from provider.served_config import ServedConfig
from provider.served_model import ServedModel
from provider.traffic_route import TrafficRoute
from provider.traffic_split import TrafficSplit
from tfserving.contract import PACKAGE, VERSION, ProviderConfig
from tfserving.contract.found import FIND_VERSIONS, FindVersionsArgs, FindVersionsResult, FoundDirectory
from tfserving.errors import CloudError, ConfigError, OwnershipError, ServiceUnreachableError, TFServingError
from tfserving.hosts import is_loopback_endpoint
from tfserving.property_path import covers, format_path
from tfserving.property_values import UNKNOWN, Properties, plain

RESOURCES: Mapping[str, Resource] = {
    resource.token: resource
    for resource in (
        BucketContents(),
        PublishedModel(),
        ModelConfigFile(),
        EasService(),
        ServedConfig(),
        ServedModel(),
        RetiredVersions(),
        TrafficSplit(),
        TrafficRoute(),
        ClusterObject(),
    )
}

_Request = TypeVar("_Request")
_Answer = TypeVar("_Answer")
_Operation = (
    provider_pb2.CreateRequest | provider_pb2.ReadRequest | provider_pb2.UpdateRequest | provider_pb2.DeleteRequest
)

_KINDS = {
    (Change.ADD, False): provider_pb2.PropertyDiff.ADD,
    (Change.ADD, True): provider_pb2.PropertyDiff.ADD_REPLACE,
    (Change.DELETE, False): provider_pb2.PropertyDiff.DELETE,
    (Change.DELETE, True): provider_pb2.PropertyDiff.DELETE_REPLACE,
    (Change.UPDATE, False): provider_pb2.PropertyDiff.UPDATE,
    (Change.UPDATE, True): provider_pb2.PropertyDiff.UPDATE_REPLACE,
}


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
        except ComponentError as error:
            _abort_properties(context, error)
        except Exception as error:
            context.abort(_code(error), self.message(error, request))
        raise AssertionError("abort raises")

    return answer


class Provider(provider_pb2_grpc.ResourceProviderServicer):
    """Dispatches the engine's calls to the resources.

    Args:
        root: the directory of the program, where relative paths start.
        log: the engine's log.
        package: what is served beyond the resources.
    """

    def __init__(self, root: Path, log: EngineLog, package: Package) -> None:
        self._root = root
        self._log = log
        self._package = package
        self._reference = ""
        self._clients: Clients | None = None
        self._memory: dict[str, dict[str, Any]] = {}
        self.cancelled = threading.Event()
        self._found = same_answer.of_this_process()

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
        return provider_pb2.GetSchemaResponse(schema=self._package.schema())

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
        if request.tok != FIND_VERSIONS:
            raise UnimplementedError(f"the {PACKAGE} provider has no function {request.tok}")
        args = FindVersionsArgs.read(decode(request.args))
        if not args.knows("owner", "preview") or not args.directories or self._clients is None:
            # What is not known yet, some engines leave out.
            return provider_pb2.InvokeResponse(**_returned(FindVersionsResult(known=False, directories={})))
        client = self._clients.oss
        known = {name: each for name, each in args.directories.items() if each.knows() and each.bucket}
        found = self._found.find(replace(args, directories=known), lambda asked: finding.find(client, asked))
        unknown = dict.fromkeys(args.directories.keys() - known.keys(), FoundDirectory(known=False))
        found = replace(found, directories={**found.directories, **unknown})
        return provider_pb2.InvokeResponse(**_returned(found))

    @_answering
    def Call(self, request: provider_pb2.CallRequest) -> provider_pb2.CallResponse:
        raise UnimplementedError(f"the {PACKAGE} provider has no method {request.tok}")

    @_answering
    def Construct(self, request: provider_pb2.ConstructRequest) -> provider_pb2.ConstructResponse:
        return self._package.construct(request, self._log.address, self._reference, self.cancelled)

    @_answering
    def Parameterize(self, request: provider_pb2.ParameterizeRequest) -> provider_pb2.ParameterizeResponse:
        raise UnimplementedError(f"the {PACKAGE} provider takes no parameters")

    # ---- configuration ---------------------------------------------------------------------------------------------

    @_answering
    def CheckConfig(self, request: provider_pb2.CheckRequest) -> provider_pb2.CheckResponse:
        news = decode(request.news)
        news.pop("version", None)
        return _check_response(*check_properties(ProviderConfig.properties(), news, _validate_config))

    @_answering
    def DiffConfig(self, request: provider_pb2.DiffRequest) -> provider_pb2.DiffResponse:
        olds = decode(request.old_inputs) or decode(request.olds)
        return _diff_response(
            diff_properties(ProviderConfig.properties(), olds, decode(request.news)), request.ignoreChanges
        )

    @_answering
    def Configure(self, request: provider_pb2.ConfigureRequest) -> provider_pb2.ConfigureResponse:
        config: Properties = decode(request.args)
        if not config:
            prefix = f"{PACKAGE}:config:"
            config = {key.removeprefix(prefix): value for key, value in request.variables.items()}
        read = ProviderConfig.read(config)
        settings = CloudSettings(
            region=read.region,
            eas_endpoint=read.eas_endpoint,
            oss_endpoint=read.oss_endpoint,
            protocol=read.protocol,
            access_key=read.access_key,
            secret_key=read.secret_key,
            security_token=read.security_token,
            profile=read.profile,
        )
        self._clients = Clients(settings, self.cancelled)
        self._reference = f"{request.urn}::{request.id}" if request.urn and request.id else ""
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
            memory=self._memory.setdefault(request.urn, {}),
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


def _returned(result: FindVersionsResult) -> dict[str, Any]:
    return {"return": encode(result.write())}


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
    _abort(context, grpc.StatusCode.UNKNOWN, message, detail)


def _abort_properties(context: grpc.ServicerContext, error: ComponentError) -> None:
    """What is wrong with the arguments of a component, by property path, as the engine shows it."""
    errors = errors_pb2.InputPropertiesError.PropertyError
    detail = errors_pb2.InputPropertiesError(
        errors=[errors(property_path=path, reason=reason) for path, reason in error.reasons.items()]
    )
    code = grpc.StatusCode.INVALID_ARGUMENT if error.reasons else grpc.StatusCode.FAILED_PRECONDITION
    _abort(context, code, str(error), detail if error.reasons else None)


def _abort(context: grpc.ServicerContext, code: grpc.StatusCode, message: str, detail: Message | None) -> None:
    if detail is not None:
        packed = any_pb2.Any()
        packed.Pack(detail)
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
