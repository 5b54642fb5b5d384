"""``python -m ops predict SERVICE MODEL``: one request to a deployed service, and what it answered."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from google.protobuf import json_format

from ops import nearest
from ops.outputs import ExportedService
from ops.predict_input import PredictError
from tfserving import tensors
from tfserving.client import Columns, GrpcClient, ModelClient, columns, connect, request_values
from tfserving.errors import ServiceError, ServiceNotFoundError
from tfserving.protos import tf_serving_pb2 as pb
from tfserving.saved_model import SERVING_SIGNATURE

PROTO = "tensorflow_serving/apis/prediction_service.proto"
"""The proto of the service, in the source of TensorFlow Serving."""

_LONGEST_ARGUMENT = 100_000

_NOT_IN_REST = re.compile(r"type: (half|bfloat16|uint16|complex64|complex128)\b")
_NUMPY = {"half": "float16"}

DOCUMENT_INSTANCES: list[Any] = [[[[1.0]] * 28] * 28]
"""The body of the Alibaba Cloud document's online debugging example: one white 28x28 image."""


@dataclass(frozen=True)
class Request:
    """What to ask.

    Attributes:
        model: model name.
        label: ask by this label; excludes ``version``.
        version: ask for this version.
        signature_name: which signature.
        instances: values of the one input, or ``{input: value}`` objects; or whole inputs.
    """

    model: str
    label: str | None = None
    version: int | None = None
    signature_name: str = SERVING_SIGNATURE
    instances: Sequence[Any] | Columns = field(default_factory=lambda: DOCUMENT_INSTANCES)

    @property
    def path(self) -> str:
        """The REST path below the service URL."""
        by = f"/labels/{self.label}" if self.label else f"/versions/{self.version}" if self.version is not None else ""
        return f"/v1/models/{self.model}{by}:predict"


@dataclass(frozen=True)
class Answer:
    """What the service said.

    Attributes:
        version: the version that answered; None where a group does not tell which of its members that was.
        outputs: one element per instance; of whole inputs, the whole outputs.
        seconds: duration of the request.
        member: the member of a group that answered; empty for a service, and where the gateway does not tell.
    """

    version: int | None
    outputs: Any
    seconds: float
    member: str = ""


def choose_service(services: Mapping[str, ExportedService], name: str, grpc: bool) -> ExportedService:
    """The service called ``name``, with the one address to ask: a service on Kubernetes has one for each protocol.

    Raises:
        PredictError: there is none, or gRPC was asked of an HTTP service.
    """
    service = services.get(name)
    if service is None:
        raise PredictError(f"there is no service or group {name!r} in this stack; {nearest.choices(name, services)}")
    if grpc and not service.target:
        others = sorted(other.name for other in services.values() if other.target)
        hint = f"ask {' or '.join(others)}" if others else "deploy one with port 8500 and grpc: true"
        raise PredictError(f"service {name!r} answers HTTP only, because a PAI-EAS service has one protocol; {hint}")
    return replace(service, protocol="grpc", url="") if grpc or not service.url else replace(service, target="")


def signature(service: ExportedService, request: Request) -> Mapping[str, Any]:
    """The request's signature as the service reports it: ``{"inputs": ..., "outputs": ..., "method_name": ...}``.

    Raises:
        ServiceError: the service does not answer, or does not serve that model.
        PredictError: there is no such signature.
    """
    with connect(url=service.url or None, target=service.target or None, token=service.token) as client:
        signatures = client.metadata(request.model, request.version, request.label)["signatures"]
    found: Mapping[str, Any] | None = signatures.get(request.signature_name)
    if found is None:
        names = [name for name in signatures if not name.startswith("__")]
        raise PredictError(
            f"model {request.model} has no signature {request.signature_name!r}; "
            f"{nearest.choices(request.signature_name, names)}"
        )
    return found


def hint(service: ExportedService, request: Request, error: ServiceError, targets: Sequence[str] = ()) -> str:
    """What may have been meant by a request that was refused: the nearest names, or another form.

    Args:
        service: who was asked.
        request: what.
        error: what it said.
        targets: names of the services that answer gRPC.
    """
    text = str(error)
    if "has no shape information" in text or "inconsistent batch size" in text:
        return '; the outputs do not go row by row: write {"inputs": ...} instead of instances'
    if (found := _NOT_IN_REST.search(text)) and service.protocol == "http":
        others = " or ".join(targets) or "a service with port 8500 and grpc: true"
        how = "with --grpc" if service.name in targets else f"ask {others}"
        return f"; TensorFlow Serving carries {_NUMPY.get(found[1], found[1])} over gRPC only: {how}"
    if not isinstance(error, ServiceNotFoundError):
        return ""
    wanted = service.models.get(request.model)
    if wanted is None:
        return f"; no model {request.model!r} is declared for it: {nearest.choices(request.model, service.models)}"
    if request.label is not None:
        labels = wanted.get("labels") or {}
        return f"; label {request.label!r} of model {request.model}: {nearest.choices(request.label, labels)}"
    if request.version is not None:
        try:
            with connect(url=service.url or None, target=service.target or None, token=service.token) as client:
                served = [str(each.version) for each in client.status(request.model) if each.state == "AVAILABLE"]
        except ServiceError:
            return ""
        return f"; version {request.version} of model {request.model}: {nearest.choices(str(request.version), served)}"
    return ""


def ask(
    service: ExportedService,
    request: Request,
    timeout: float = 30.0,
    members: Mapping[str, ExportedService] | None = None,
) -> Answer:
    """Sends the request.

    Args:
        service: a service, or a group of services.
        request: what to ask.
        timeout: seconds.
        members: services that may be members of the group, by name.

    Raises:
        ServiceError: the service refuses it, or does not answer.
    """
    with connect(
        url=service.url or None, target=service.target or None, token=service.token, timeout=timeout
    ) as client:
        prediction = client.predict(
            request.model,
            request.instances,
            version=request.version,
            label=request.label,
            signature_name=request.signature_name,
        )
        version = prediction.version
        if version is None and not service.members:
            version = _version(client, request)
    if version is None and (member := (members or {}).get(prediction.member)) is not None:
        # Asked at the group's address, another member might answer.
        with connect(url=member.url, token=member.token, timeout=timeout) as client:
            version = _version(client, request)
    return Answer(version, prediction.outputs, prediction.seconds, prediction.member)


def _version(client: ModelClient, request: Request) -> int:
    """A REST answer does not name its version; the metadata of the same path does."""
    return int(client.metadata(request.model, request.version, request.label)["version"])


def curl(
    service: ExportedService,
    request: Request,
    input_names: Sequence[tuple[str, str]] = (),
    show_token: bool = False,
    reflection: bool = True,
) -> str:
    """The same request as a shell command. The token is ``$TOKEN`` unless ``show_token``.

    Args:
        service: where to.
        request: what.
        input_names: names and data types of the signature's inputs; gRPC requests say both.
        show_token: put the token in clear into the command.
        reflection: whether the server describes itself to grpcurl; without that it reads the protos from ``$PROTOS``.

    Raises:
        PredictError: the instances do not fit the inputs.
    """
    header = shlex.quote(f"Authorization: {service.token}") if show_token else '"Authorization: $TOKEN"'
    authorization = f"-H {header} " if service.token else ""
    if service.protocol == "http":
        body = json.dumps({"signature_name": request.signature_name, **request_values(request.instances)})
        data, after = _data(body, "@-")
        return f"curl -sS {authorization}-d {data} {shlex.quote(service.url + request.path)}{after}"
    spec: dict[str, Any] = {"name": request.model, "signature_name": request.signature_name}
    if request.label:
        spec["version_label"] = request.label
    elif request.version is not None:
        spec["version"] = request.version
    infos = {name: pb.TensorInfo(dtype=tensors.dtype_named(dtype)) for name, dtype in input_names}
    try:
        values = columns(request.instances, infos)
    except ValueError as error:
        raise PredictError(str(error)) from error
    inputs = {name: _tensor(value, name, dtype) for name, (value, dtype) in values.items()}
    body = json.dumps({"model_spec": spec, "inputs": inputs})
    protos = "" if reflection else f'-import-path "$PROTOS" -proto {PROTO} '
    call = "tensorflow.serving.PredictionService/Predict"
    data, after = _data(body, "@")
    return f"grpcurl -plaintext {protos}{authorization}-d {data} {shlex.quote(service.target)} {call}{after}"


def _data(body: str, stdin: str) -> tuple[str, str]:
    """A body as an argument, and what comes after the command: Linux takes no argument of 128 kB."""
    return (shlex.quote(body), "") if len(body) < _LONGEST_ARGUMENT else (stdin, f" <<'JSON'\n{body}\nJSON")


def _tensor(values: Any, name: str, dtype: pb.DataType) -> dict[str, Any]:
    """JSON form of a ``TensorProto``."""
    try:
        tensor = tensors.encode(values, dtype, f"input {name}")
    except ValueError as error:
        raise PredictError(str(error)) from error
    return json_format.MessageToDict(tensor, preserving_proto_field_name=True)


def reflects(service: ExportedService) -> bool:
    """Whether a gRPC service describes itself to grpcurl.

    Raises:
        ServiceError: its address or token cannot be one.
    """
    with GrpcClient(service.target, service.token) as client:
        return client.reflects()
