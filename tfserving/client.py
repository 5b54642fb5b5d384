"""Asks a running TensorFlow Serving, over REST or gRPC, with one set of methods and one set of errors.

Standard library and grpcio only. The token is sent in the ``authorization`` header or metadata and appears nowhere
else. Sources: TensorFlow Serving's ``http_rest_api_handler.cc`` and ``get_model_status_impl.cc`` for routes, answers
and codes; the PAI-EAS documentation for tokens and gateways.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import re
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NoReturn, Protocol, Self, TypeVar
from urllib import error as urllib_error
from urllib import request as urllib_request
from urllib.parse import quote, urlsplit

import grpc
from google.protobuf import json_format
from google.protobuf.message import DecodeError, Message

from tfserving import tensors
from tfserving.connections import Connections
from tfserving.errors import ServiceError, ServiceNotFoundError, ServiceUnreachableError
from tfserving.hosts import is_loopback, opener
from tfserving.protos import tf_serving_pb2 as pb
from tfserving.saved_model import SERVING_SIGNATURE

DEFAULT_TIMEOUT = 10.0
"""Seconds to wait for an answer."""

MEMBER_HEADER = "x-sandbox-eas-service"
"""Response header, and initial metadata, that names the member of a group that answered. It is the sandbox's: no page
of Alibaba Cloud says that the gateway of PAI-EAS tells it."""

_UNKNOWN_LABEL = "Unrecognized servable version label"
_ERROR_TEXT_LIMIT = 1024

_M = TypeVar("_M", bound=Message)


@dataclass(frozen=True)
class VersionStatus:
    """The state of one version of a model, as ``GetModelStatus`` gives it.

    Attributes:
        version: the version number.
        state: ``START``, ``LOADING``, ``AVAILABLE``, ``UNLOADING``, ``END`` or ``UNKNOWN``. ``END`` entries stay listed
            until the server restarts.
        error_code: ``OK``, or the name of the gRPC code with which loading failed.
        error_message: the server's own words; empty with ``OK``.
    """

    version: int
    state: str
    error_code: str
    error_message: str


@dataclass(frozen=True)
class Columns:
    """A request's inputs as whole tensors, ``{"inputs": ...}`` of the REST API, instead of instances row by row.

    Attributes:
        inputs: the value of the one input, or ``{input: value}``.
    """

    inputs: Any


@dataclass(frozen=True)
class Prediction:
    """An answer to a predict request.

    Attributes:
        outputs: one element per instance: the value of the one output, or ``{output: value}`` where there are several.
            Of :class:`Columns`: such a value itself, for all of the request.
        version: the version that answered; over REST known only where the request named it.
        seconds: from sending the request to having read the answer.
        member: the member of a service group that answered, where its gateway tells (:data:`MEMBER_HEADER`).
    """

    outputs: Any
    version: int | None
    seconds: float
    member: str = ""


class ModelClient(Protocol):
    """What both clients offer. Every method raises one of:

    * :class:`ServiceNotFoundError`: the service does not serve that model, version or label.
    * :class:`ServiceUnreachableError`: nothing that speaks for TensorFlow Serving answered, or not in time; a refused
      token counts, because the gateway and not the server refuses it.
    * :class:`ServiceError`: any other error of the server.
    """

    def status(self, model: str) -> list[VersionStatus]:
        """The states of the model's versions, highest version first."""

    def metadata(self, model: str, version: int | None = None, label: str | None = None) -> dict[str, Any]:
        """``{"name", "version", "signatures": {name: {"inputs", "outputs", "method_name"}}}`` of an available version.

        Inputs and outputs are ``{name: {"dtype": "float32", "shape": [None, 28, 28, 1]}}``; shape None is unknown rank.
        """

    def labelled_version(self, model: str, label: str) -> int:
        """The version that answers requests by ``label``."""

    def predict(
        self,
        model: str,
        instances: Sequence[Any] | Columns,
        *,
        version: int | None = None,
        label: str | None = None,
        signature_name: str = SERVING_SIGNATURE,
    ) -> Prediction:
        """Send ``instances`` (values of the one input, or ``{input: value}``) to the latest, or the named, version."""

    def close(self) -> None:
        """Release connections. The client cannot be used afterwards."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...


def connect(
    *, url: str | None = None, target: str | None = None, token: str | None = None, timeout: float = DEFAULT_TIMEOUT
) -> ModelClient:
    """A client for a service: REST with ``url``, gRPC with ``target``. Nothing is sent yet.

    Raises:
        ValueError: both or neither of ``url`` and ``target`` are given.
        ServiceError: the address or the token cannot be one.
    """
    if bool(url) == bool(target):
        raise ValueError("exactly one of url and target is needed")
    return RestClient(url, token, timeout) if url else GrpcClient(str(target), token, timeout)


class _Base:
    """What REST and gRPC share."""

    def metadata(self, model: str, version: int | None = None, label: str | None = None) -> dict[str, Any]:
        raise NotImplementedError

    def labelled_version(self, model: str, label: str) -> int:
        return int(self.metadata(model, label=label)["version"])

    def close(self) -> None:
        """Release connections."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


# ---- REST ----------------------------------------------------------------------------------------------------------


class RestClient(_Base):
    """TensorFlow Serving over HTTP.

    Args:
        url: base URL of the service, path prefix included, without ``/v1``.
        token: sent as it is in the ``Authorization`` header; None or empty sends no header.
        timeout: seconds to wait for a connection, and for each part of an answer.
        context: whom to trust and who to be in TLS; None: the system's authorities, and nobody.
        keep: questions (GET) use connections again, so that what balances connections sends all of them to one replica.
            Requests for predictions have a connection of their own each, whatever this says.

    Raises:
        ServiceError: the URL is not an http(s) URL without a query, or the token cannot be a header's value.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        context: ssl.SSLContext | None = None,
        *,
        keep: bool = False,
    ) -> None:
        try:
            parts = urlsplit(url)
        except ValueError:  # brackets around what is no IPv6 address
            parts = urlsplit("")
        if (
            parts.scheme not in ("http", "https")
            or not parts.hostname
            or parts.query
            or parts.fragment
            or parts.username
        ):
            raise ServiceError(f"{_without_userinfo(url)!r} is not the URL of a service: http(s)://host[:port][/path]")
        self._url = url.rstrip("/")
        self._where = self._url
        self._token = _checked_token(token)
        self._timeout = timeout
        self._member = ""
        self._opener = opener(url, context)
        self._kept = Connections(url, timeout, context) if keep and Connections.reach(url) else None

    def close(self) -> None:
        """Release connections."""
        if self._kept is not None:
            self._kept.close()

    def status(self, model: str) -> list[VersionStatus]:
        body = self._json("GET", f"/v1/models/{_quoted(model)}")
        found = body.get("model_version_status")
        if not isinstance(found, list):
            raise self._not_tf_serving(200)
        return [
            VersionStatus(
                int(item["version"]),
                str(item["state"]),
                str(item.get("status", {}).get("error_code", "OK")),
                str(item.get("status", {}).get("error_message", "")),
            )
            for item in found
        ]

    def metadata(self, model: str, version: int | None = None, label: str | None = None) -> dict[str, Any]:
        body = self._json("GET", f"{_model_path(model, version, label)}/metadata")
        signatures = pb.SignatureDefMap()
        try:
            spec = body["model_spec"]
            json_format.ParseDict(body["metadata"]["signature_def"], signatures, ignore_unknown_fields=True)
            return _metadata(str(spec["name"]), int(spec["version"]), signatures)
        except (KeyError, TypeError, ValueError, json_format.ParseError) as error:
            raise self._not_tf_serving(200) from error

    def predict(
        self,
        model: str,
        instances: Sequence[Any] | Columns,
        *,
        version: int | None = None,
        label: str | None = None,
        signature_name: str = SERVING_SIGNATURE,
    ) -> Prediction:
        request = {"signature_name": signature_name, **request_values(instances)}
        path = f"{_model_path(model, version, label)}:predict"
        data = json.dumps(request, default=_json_bytes).encode()
        started = time.perf_counter()
        body = self._json("POST", path, data)
        seconds = time.perf_counter() - started
        key = "outputs" if isinstance(instances, Columns) else "predictions"
        if key not in body:
            raise self._not_tf_serving(200)
        return Prediction(body[key], version, seconds, self._member)

    def metrics(self, path: str) -> str:
        """The Prometheus page at ``path``, below the service's address. Raises what the other methods raise."""
        raw = self._bytes("GET", path)
        if b"# TYPE " not in raw:
            raise self._not_tf_serving(200, raw)
        return raw.decode("utf-8", "replace")

    def _json(self, method: str, path: str, data: bytes | None = None) -> dict[str, Any]:
        raw = self._bytes(method, path, data)
        body = _parse_json(raw)
        if not isinstance(body, dict):
            raise self._not_tf_serving(200, raw)
        return body

    def _bytes(self, method: str, path: str, data: bytes | None = None) -> bytes:
        request = urllib_request.Request(self._url + path, data=data, method=method)  # noqa: S310 (scheme is checked)
        if self._token:
            request.add_unredirected_header("Authorization", self._token)
        if data is not None:
            request.add_header("Content-Type", "application/json")
        try:
            if self._kept is not None and data is None:
                return self._asked_again(self._kept, request)
            with self._opener.open(request, timeout=self._timeout) as response:
                self._member = response.headers.get(MEMBER_HEADER) or ""
                return bytes(response.read())
        except urllib_error.HTTPError as error:
            with error:
                self._raise(error.code, _read(error))
        except (OSError, http.client.HTTPException) as error:
            reason = error.reason if isinstance(error, urllib_error.URLError) else error
            detail = f"{reason}" or type(reason).__name__
            raise ServiceUnreachableError(f"{self._where}: no answer: {detail}") from error

    def _asked_again(self, kept: Connections, request: urllib_request.Request) -> bytes:
        status, headers, raw = kept.get(request.selector, {**request.headers, **request.unredirected_hdrs})
        if not 200 <= status < 300:
            self._raise(status, raw)
        self._member = headers.get(MEMBER_HEADER) or ""
        return raw

    def _raise(self, status: int, raw: bytes) -> NoReturn:
        body = _parse_json(raw)
        message = body.get("error") if isinstance(body, dict) else None
        if isinstance(message, str) and status not in (401, 403):
            message = _shortened(message)
            if status == 404 or _UNKNOWN_LABEL in message:
                raise ServiceNotFoundError(message, status)
            if status in (502, 503, 504):
                raise ServiceUnreachableError(f"{self._where}: HTTP {status}: {message}", status)
            raise ServiceError(message, status)
        if status in (401, 403):
            raise ServiceUnreachableError(f"{self._where}: HTTP {status}: the token was refused", status)
        if status >= 500:
            raise ServiceUnreachableError(f"{self._where}: HTTP {status} from the gateway", status)
        raise self._not_tf_serving(status)

    def _not_tf_serving(self, status: int, raw: bytes = b"") -> ServiceUnreachableError:
        if status < 400 and raw[:64].lstrip().lower().startswith((b"<!doctype html", b"<html")):
            return ServiceUnreachableError(
                f"{self._where}: HTTP {status}, but not from TensorFlow Serving: an HTML page, of a proxy or login "
                "page in between, or of another server at this address",
                status,
            )
        return ServiceUnreachableError(
            f"{self._where}: HTTP {status}, but not from TensorFlow Serving: the address or its path is wrong, "
            "or the service is gone",
            status,
        )


def _model_path(model: str, version: int | None, label: str | None) -> str:
    _one_of(version, label)
    path = f"/v1/models/{_quoted(model)}"
    if version is not None:
        return f"{path}/versions/{version}"
    if label is not None:
        return f"{path}/labels/{_quoted(label)}"
    return path


def _quoted(text: str) -> str:
    return quote(text, safe="")


def request_values(instances: Sequence[Any] | Columns) -> dict[str, Any]:
    """The part of a REST request's body that holds the values."""
    return {"inputs": instances.inputs} if isinstance(instances, Columns) else {"instances": list(instances)}


def _json_bytes(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"b64": base64.b64encode(value).decode()}
    raise TypeError(f"{type(value).__name__} cannot be sent as JSON")


def _parse_json(raw: bytes) -> Any:
    """None for what is no JSON. The server writes strings of the model as they are: those that are no text in UTF-8
    become ``{"b64": ...}``."""
    try:
        try:
            return json.loads(raw.decode(), strict=False)
        except UnicodeDecodeError:
            return _with_bytes(json.loads(raw.decode("utf-8", "surrogateescape"), strict=False))
    except (ValueError, RecursionError):
        return None


def _with_bytes(value: Any) -> Any:
    if isinstance(value, list):
        return [_with_bytes(item) for item in value]
    if isinstance(value, dict):
        return {key: _with_bytes(item) for key, item in value.items()}
    if isinstance(value, str) and any("\udc80" <= char <= "\udcff" for char in value):
        with contextlib.suppress(UnicodeEncodeError):
            return {"b64": base64.b64encode(value.encode("utf-8", "surrogateescape")).decode()}
    return value


def _read(response: urllib_error.HTTPError) -> bytes:
    try:
        return response.read()
    except (OSError, http.client.HTTPException):
        return b""


# ---- gRPC ----------------------------------------------------------------------------------------------------------

# gRPC code to the HTTP status TensorFlow Serving's REST API uses for it.
_HTTP_STATUS = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}
_UNREACHABLE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
_REFUSED = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)
# How grpcio reports a plain HTTP answer, which a gateway gives for a service it does not know.
_NOT_GRPC = re.compile(r"Received http2 header with status: (\d+)")
_CODE_NAMES = {code.value[0]: code.name for code in grpc.StatusCode}


class GrpcClient(_Base):
    """TensorFlow Serving over gRPC, in plain text as PAI-EAS offers it.

    Args:
        target: ``host:port``, without a scheme.
        token: sent as it is in the ``authorization`` metadata, and after ``Bearer`` where that is refused: one page of
            PAI-EAS shows the one form, another insists on the other. None or empty sends none.
        timeout: seconds one request may take.

    Raises:
        ServiceError: the target has a scheme or no port, or the token cannot be a header's value.
    """

    def __init__(self, target: str, token: str | None = None, timeout: float = DEFAULT_TIMEOUT) -> None:
        host, _, port = target.rpartition(":")
        if not host or not port.isdecimal() or "/" in target or "@" in target:
            shown = _without_userinfo(target)
            raise ServiceError(f"{shown!r} is not the gRPC target of a service: host:port, without http://")
        self._where = target
        value = _checked_token(token)
        # What is tried in this order, until one is taken.
        self._metadata = [[("authorization", form)] for form in (value, f"Bearer {value}")] if value else [[]]
        self._timeout = timeout
        self._member = ""
        options = [
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
            ("grpc.enable_retries", 0),
            # A service that starts is asked again and again; gRPC's own pauses would grow to two minutes.
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.min_reconnect_backoff_ms", 1000),
            ("grpc.max_reconnect_backoff_ms", 1000),
        ]
        if is_loopback(host.strip("[]")):
            options.append(("grpc.enable_http_proxy", 0))
        self._channel = grpc.insecure_channel(target, options=options)
        self._signatures: dict[tuple[str, int | None, str | None], pb.SignatureDefMap] = {}

    def status(self, model: str) -> list[VersionStatus]:
        request = pb.GetModelStatusRequest(model_spec=pb.ModelSpec(name=model))
        answer = self._call("ModelService/GetModelStatus", request, pb.GetModelStatusResponse)
        return [
            VersionStatus(
                item.version,
                pb.ModelVersionStatus.State.Name(item.state),
                _CODE_NAMES.get(item.status.error_code, str(item.status.error_code)),
                item.status.error_message,
            )
            for item in answer.model_version_status
        ]

    def metadata(self, model: str, version: int | None = None, label: str | None = None) -> dict[str, Any]:
        answer, signatures = self._get_metadata(model, version, label)
        return _metadata(answer.model_spec.name, answer.model_spec.version.value, signatures)

    def _get_metadata(
        self, model: str, version: int | None, label: str | None
    ) -> tuple[pb.GetModelMetadataResponse, pb.SignatureDefMap]:
        request = pb.GetModelMetadataRequest(model_spec=_spec(model, version, label), metadata_field=["signature_def"])
        answer = self._call("PredictionService/GetModelMetadata", request, pb.GetModelMetadataResponse)
        try:
            # Any.Unpack would insist on our package's name in the type URL.
            signatures = pb.SignatureDefMap.FromString(answer.metadata["signature_def"].value)
        except DecodeError as error:
            raise ServiceError(f"{self._where}: the signatures of model {model} cannot be read") from error
        return answer, signatures

    def predict(
        self,
        model: str,
        instances: Sequence[Any] | Columns,
        *,
        version: int | None = None,
        label: str | None = None,
        signature_name: str = SERVING_SIGNATURE,
    ) -> Prediction:
        key = (model, version, label)
        known = key in self._signatures
        try:
            return self._predict(key, instances, signature_name)
        except ServiceError as error:
            # A label, and "latest", may have moved to a version with another signature since it was asked for.
            if not known or error.status != 400:
                raise
        del self._signatures[key]
        return self._predict(key, instances, signature_name)

    def _predict(
        self, key: tuple[str, int | None, str | None], instances: Sequence[Any] | Columns, signature_name: str
    ) -> Prediction:
        if key not in self._signatures:
            self._signatures[key] = self._get_metadata(*key)[1]
        signatures = self._signatures[key].signature_def
        if signature_name not in signatures:
            raise ServiceError(f'Serving signature name: "{signature_name}" not found in signature def', 400)
        request = pb.PredictRequest(model_spec=_spec(*key))
        request.model_spec.signature_name = signature_name
        try:
            for name, (value, dtype) in columns(instances, signatures[signature_name].inputs).items():
                request.inputs[name].CopyFrom(tensors.encode(value, dtype, f"input {name}"))
        except ValueError as error:
            raise ServiceError(str(error), 400) from error
        started = time.perf_counter()
        answer = self._call("PredictionService/Predict", request, pb.PredictResponse)
        seconds = time.perf_counter() - started
        try:
            decoded = {name: tensors.decode(value, name) for name, value in sorted(answer.outputs.items())}
            if isinstance(instances, Columns):
                outputs = next(iter(decoded.values())) if len(decoded) == 1 else decoded
            else:
                outputs = _rows(decoded)
        except ValueError as error:
            raise ServiceError(f"{self._where}: {error}", 400) from error
        return Prediction(outputs, answer.model_spec.version.value, seconds, self._member)

    def reflects(self) -> bool:
        """Whether the server describes its services to tools such as grpcurl (TensorFlow Serving does since 2.15.1)."""
        list_services = b"\x3a\x00"
        for version in ("v1", "v1alpha"):
            call: Callable[..., Any] = self._channel.stream_stream(
                f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo"
            )
            for metadata in self._metadata:
                try:
                    next(call(iter([list_services]), timeout=self._timeout, metadata=metadata))
                except (grpc.RpcError, StopIteration):
                    continue
                return True
        return False

    def close(self) -> None:
        self._channel.close()

    def _call(self, method: str, request: Message, answer: type[_M]) -> _M:
        call = self._channel.unary_unary(
            f"/tensorflow.serving.{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=answer.FromString,
        )
        forms = self._metadata
        for metadata in forms:
            try:
                answered, done = call.with_call(request, timeout=self._timeout, metadata=metadata)
            except grpc.RpcError as error:
                if error.code() not in _REFUSED or metadata is forms[-1]:
                    self._raise(error)
            else:
                self._metadata = [metadata]
                self._member = str(dict(done.initial_metadata() or ()).get(MEMBER_HEADER, ""))
                found: _M = answered
                return found
        raise AssertionError("there is always a form to send")

    def _raise(self, error: Any) -> NoReturn:
        code, message = error.code(), _shortened(error.details() or "")
        status = _HTTP_STATUS.get(code, 500)
        gateway = _NOT_GRPC.search(message)
        if code in _REFUSED:
            raise ServiceUnreachableError(f"{self._where}: {code.name}: the token was refused", status) from error
        if gateway:
            status = int(gateway[1])
            raise ServiceUnreachableError(
                f"{self._where}: HTTP {status} instead of gRPC: the address is wrong, or the service is gone or does "
                "not offer gRPC",
                status,
            ) from error
        if code in _UNREACHABLE:
            late = code is grpc.StatusCode.DEADLINE_EXCEEDED
            shown = f"no answer: {code.name}" if late or not message else f"{code.name}: {message}"
            raise ServiceUnreachableError(f"{self._where}: {shown}", status) from error
        if code is grpc.StatusCode.NOT_FOUND or _UNKNOWN_LABEL in message:
            raise ServiceNotFoundError(message, status) from error
        raise ServiceError(message or code.name, status) from error


def _spec(model: str, version: int | None, label: str | None) -> pb.ModelSpec:
    _one_of(version, label)
    spec = pb.ModelSpec(name=model)
    if version is not None:
        spec.version.value = version
    if label is not None:
        spec.version_label = label
    return spec


def columns(
    instances: Sequence[Any] | Columns, inputs: Mapping[str, pb.TensorInfo]
) -> dict[str, tuple[Any, pb.DataType]]:
    """Instances, or columns, as one (value, data type) per input, by the REST API's rules for either.

    Raises:
        ValueError: they do not go with the inputs.
    """
    if isinstance(instances, Columns):
        return _whole(instances.inputs, inputs)
    if not instances:
        raise ValueError("No values in 'instances' array")
    named = all(isinstance(item, Mapping) and set(item) != {"b64"} for item in instances)
    if not named:
        if len(inputs) != 1:
            raise ValueError(
                "instances is a plain list, but expecting list of objects as multiple input tensors required as per "
                "tensorinfo_map"
            )
        ((name, info),) = inputs.items()
        return {name: (list(instances), info.dtype)}
    for index, item in enumerate(instances):
        if set(item) != set(inputs):
            missing = sorted(set(inputs) - set(item))
            lacks = f": no value for input {missing[0]}" if missing else ""
            raise ValueError(f"instances[{index}] has inputs {sorted(item)}, expected {sorted(inputs)}{lacks}")
    return {name: ([item[name] for item in instances], info.dtype) for name, info in inputs.items()}


def _whole(value: Any, inputs: Mapping[str, pb.TensorInfo]) -> dict[str, tuple[Any, pb.DataType]]:
    if not isinstance(value, Mapping) or set(value) == {"b64"}:
        if len(inputs) != 1:
            raise ValueError(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required as per "
                "tensorinfo_map"
            )
        ((name, info),) = inputs.items()
        return {name: (value, info.dtype)}
    for name in inputs:
        if name not in value:
            raise ValueError(f"Missing named input: {name} in 'inputs' object.")
    return {name: (value[name], info.dtype) for name, info in inputs.items()}


def _rows(outputs: dict[str, Any]) -> list[Any]:
    """Outputs as one element per instance, by the REST API's rules for ``predictions``."""
    for name, value in outputs.items():
        if not isinstance(value, list):
            raise ValueError(f"Tensor name: {name} has no shape information ")
    sizes = {len(value) for value in outputs.values()}
    if len(sizes) > 1:
        raise ValueError(f"outputs have inconsistent batch sizes: {sorted(sizes)}")
    if len(outputs) == 1:
        (only,) = outputs.values()
        return list(only)
    return [dict(zip(outputs, row, strict=True)) for row in zip(*outputs.values(), strict=True)]


# ---- shared --------------------------------------------------------------------------------------------------------


def _metadata(name: str, version: int, signatures: pb.SignatureDefMap) -> dict[str, Any]:
    return {
        "name": name,
        "version": version,
        "signatures": {
            key: {
                "inputs": _tensors(signature.inputs),
                "outputs": _tensors(signature.outputs),
                "method_name": signature.method_name,
            }
            for key, signature in sorted(signatures.signature_def.items())
        },
    }


def _tensors(infos: Mapping[str, pb.TensorInfo]) -> dict[str, Any]:
    return {
        name: {"dtype": tensors.dtype_name(info.dtype), "shape": tensors.shape_of(info.tensor_shape)}
        for name, info in sorted(infos.items())
    }


def _one_of(version: int | None, label: str | None) -> None:
    if version is not None and label is not None:
        raise ValueError("a request names a version or a label, not both")


def _checked_token(token: str | None) -> str:
    # http.client and grpcio would quote the value in their own errors.
    if token and not (token.isascii() and token.isprintable() and token == token.strip()):
        raise ServiceError(
            "the service token holds characters a header cannot carry (a line break or blanks at its ends?)"
        )
    return token or ""


def _without_userinfo(address: str) -> str:
    return re.sub(r"[^/@]*@", "", address)


def _shortened(text: str) -> str:
    return text if len(text) <= _ERROR_TEXT_LIMIT else f"{text[:_ERROR_TEXT_LIMIT]}..."
