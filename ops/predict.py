"""``python -m ops predict SERVICE MODEL``: one request to a deployed service, and what it answered."""

from __future__ import annotations

import difflib
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from google.protobuf import json_format

from ops.outputs import Service
from ops.predict_input import PredictError, read_input
from tfserving import tensors
from tfserving.client import Columns, GrpcClient, columns, connect, request_values
from tfserving.errors import ServiceError, ServiceNotFoundError
from tfserving.protos import tf_serving_pb2 as pb
from tfserving.saved_model import SERVING_SIGNATURE

__all__ = [
    "Answer", "PredictError", "Request", "ask", "choose_service", "curl", "describe", "hint", "read_input", "reflects",
    "signature",
]  # fmt: skip

PROTO = "tensorflow_serving/apis/prediction_service.proto"
"""The proto of the service, in the source of TensorFlow Serving."""

DOCUMENT_INSTANCES: list[Any] = [[[[1.0]] * 28] * 28]
"""The body of the Alibaba Cloud document's online debugging example: one white 28x28 image."""

FASHION_MNIST = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
"""Class names of Fashion-MNIST, in the order of its labels."""

_BAR = 30
_INVISIBLE = re.compile("[\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


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
        version: the version that answered.
        outputs: one element per instance; of whole inputs, the whole outputs.
        seconds: duration of the request.
    """

    version: int
    outputs: Any
    seconds: float


def choose_service(services: Mapping[str, Service], name: str, grpc: bool) -> Service:
    """The service called ``name``, with the one address to ask: a service on Kubernetes has one for each protocol.

    Raises:
        PredictError: there is none, or gRPC was asked of an HTTP service.
    """
    service = services.get(name)
    if service is None:
        close = difflib.get_close_matches(name, services, n=1)
        nearest = f"; did you mean {close[0]!r}?" if close else ""
        raise PredictError(f"there is no service {name!r} in this stack; it has {', '.join(sorted(services))}{nearest}")
    if grpc and not service.target:
        others = sorted(other.name for other in services.values() if other.target)
        hint = f"ask {' or '.join(others)}" if others else "deploy one with port 8500 and grpc: true"
        raise PredictError(f"service {name!r} answers HTTP only, because a PAI-EAS service has one protocol; {hint}")
    return replace(service, protocol="grpc", url="") if grpc or not service.url else replace(service, target="")


def signature(service: Service, request: Request) -> Mapping[str, Any]:
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
            f"{_choices(request.signature_name, names)}"
        )
    return found


def hint(service: Service, request: Request, error: ServiceError) -> str:
    """What may have been meant by a request that was refused: the nearest names, or another form."""
    text = str(error)
    if "has no shape information" in text or "inconsistent batch size" in text:
        return '; the outputs do not go row by row: write {"inputs": ...} instead of instances'
    if not isinstance(error, ServiceNotFoundError):
        return ""
    wanted = service.models.get(request.model)
    if wanted is None:
        return f"; no model {request.model!r} is declared for it: {_choices(request.model, list(service.models))}"
    if request.label is not None:
        labels = wanted.get("labels") or {}
        return f"; label {request.label!r} of model {request.model}: {_choices(request.label, list(labels))}"
    if request.version is not None:
        try:
            with connect(url=service.url or None, target=service.target or None, token=service.token) as client:
                served = [str(each.version) for each in client.status(request.model) if each.state == "AVAILABLE"]
        except ServiceError:
            return ""
        return f"; version {request.version} of model {request.model}: {_choices(str(request.version), served)}"
    return ""


def _choices(wrong: str, names: Sequence[str]) -> str:
    if not names:
        return "there are none"
    close = difflib.get_close_matches(wrong, names, n=1) or [name for name in names if name.lower() == wrong.lower()]
    nearest = f"did you mean {close[0]!r}? " if close else ""
    return f"{nearest}There are {', '.join(sorted(names))}" if nearest else f"there are {', '.join(sorted(names))}"


def ask(service: Service, request: Request, timeout: float = 30.0) -> Answer:
    """Sends the request.

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
        if version is None:
            # A REST answer does not name its version; the metadata of the same path does.
            version = int(client.metadata(request.model, request.version, request.label)["version"])
    return Answer(version, prediction.outputs, prediction.seconds)


def describe(service: Service, request: Request, answer: Answer, classes: Sequence[str] = ()) -> str:
    """The answer for a person: who answered, how fast, classes with probabilities as bars."""
    by = f" by label {request.label}" if request.label else ""
    protocol = "gRPC" if service.protocol == "grpc" else "HTTP"
    lines = [
        f"{service.name} ({protocol}, {service.address}): {request.model} version {answer.version}{by},"
        f" {answer.seconds * 1000:.1f} ms"
    ]
    is_whole = isinstance(request.instances, Columns)  # then the first dimension is the batch, not the classes
    rows = [answer.outputs] if is_whole else answer.outputs
    for number, output in enumerate(rows):
        if len(rows) > 1:
            lines.append(f"  instance {number}")
        scores = None if is_whole else _scores(output)
        if scores is None:
            lines.append("  " + _readable(output))
        else:
            lines += _bars(scores, classes)
    return "\n".join(lines)


def _readable(output: Any) -> str:
    """JSON with letters as they are, but nothing that would move a terminal's cursor or turn its text around."""
    text = json.dumps(output, default=str, ensure_ascii=False)
    return _INVISIBLE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _scores(output: Any) -> list[float] | None:
    """Class probabilities, where an output looks like some."""
    if isinstance(output, dict) and len(output) == 1:
        output = next(iter(output.values()))
    numbers = isinstance(output, list) and len(output) > 1 and {type(value) for value in output} <= {int, float}
    # Whole numbers are counts or identifiers, which a float would round.
    if numbers and any(isinstance(value, float) for value in output):
        # NaN and infinity are no probabilities: such an output is shown as it came.
        return [float(value) for value in output] if all(abs(value) < 1e300 for value in output) else None
    return None


def _bars(scores: Sequence[float], classes: Sequence[str]) -> list[str]:
    names = [classes[i] if len(classes) == len(scores) else f"class {i}" for i in range(len(scores))]
    width = max(map(len, names))
    shown = sorted(zip(scores, names, strict=True), reverse=True)[:10]
    return [
        f"  {name:<{width}}  {score:8.4f}  {'#' * max(0, min(_BAR, round(score * _BAR)))}".rstrip()
        for score, name in shown
    ]


def curl(
    service: Service,
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
        return f"curl -sS {authorization}-d {shlex.quote(body)} {shlex.quote(service.url + request.path)}"
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
    return f"grpcurl -plaintext {protos}{authorization}-d {shlex.quote(body)} {shlex.quote(service.target)} {call}"


def _tensor(values: Any, name: str, dtype: pb.DataType) -> dict[str, Any]:
    """JSON form of a ``TensorProto``."""
    try:
        tensor = tensors.encode(values, dtype, f"input {name}")
    except ValueError as error:
        raise PredictError(str(error)) from error
    return json_format.MessageToDict(tensor, preserving_proto_field_name=True)


def reflects(service: Service) -> bool:
    """Whether a gRPC service describes itself to grpcurl.

    Raises:
        ServiceError: its address or token cannot be one.
    """
    with GrpcClient(service.target, service.token) as client:
        return client.reflects()
