"""``python -m ops predict SERVICE MODEL``: one request to a deployed service, and what it answered."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from google.protobuf import json_format
from PIL import Image, UnidentifiedImageError

from ops.outputs import Service
from tfserving import tensors
from tfserving.client import SIGNATURE, connect
from tfserving.errors import TFServingError

DOCUMENT_INSTANCES: list[Any] = [[[[1.0]] * 28] * 28]
"""The body of the Alibaba Cloud document's online debugging example: one white 28x28 image."""

FASHION_MNIST = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
"""Class names of Fashion-MNIST, in the order of its labels."""

_IMAGES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp"}
_BAR = 30


class PredictError(TFServingError):
    """The request cannot be made from what was given."""


@dataclass(frozen=True)
class Request:
    """What to ask.

    Attributes:
        model: model name.
        label: ask by this label; excludes ``version``.
        version: ask for this version.
        signature_name: which signature.
        instances: values of the one input, or ``{input: value}`` objects.
    """

    model: str
    label: str | None = None
    version: int | None = None
    signature_name: str = SIGNATURE
    instances: Sequence[Any] = field(default_factory=lambda: DOCUMENT_INSTANCES)

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
        outputs: one element per instance.
        seconds: duration of the request.
    """

    version: int
    outputs: Sequence[Any]
    seconds: float


def choose_service(services: Mapping[str, Service], name: str, grpc: bool) -> Service:
    """The service called ``name``, with the one address to ask: a service on Kubernetes has one for each protocol.

    Raises:
        PredictError: there is none, or gRPC was asked of an HTTP service.
    """
    service = services.get(name)
    if service is None:
        raise PredictError(f"there is no service {name!r} in this stack; it has {', '.join(sorted(services))}")
    if grpc and not service.target:
        others = sorted(other.name for other in services.values() if other.target)
        hint = f"ask {' or '.join(others)}" if others else "deploy one with port 8500 and grpc: true"
        raise PredictError(f"service {name!r} answers HTTP only, because a PAI-EAS service has one protocol; {hint}")
    return replace(service, protocol="grpc", url="") if grpc or not service.url else replace(service, target="")


def read_input(file: Path, shape: Sequence[int | None] | None) -> tuple[list[Any], str | None]:
    """Instances from a JSON file (a list, or a whole predict request) or from an image.

    Args:
        file: ``.json``, or an image that is scaled to the input's height, width and channels, values 0 to 1.
        shape: the shape of the model's input, batch dimension first; needed for images.

    Returns:
        the instances, and the signature name where the file says one.

    Raises:
        PredictError: the file cannot be read or is neither.
    """
    if file.suffix.lower() in _IMAGES:
        return [_image(file, shape)], None
    try:
        body = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise PredictError(f"{file}: cannot be read: {error}") from error
    except ValueError as error:
        raise PredictError(f"{file}: is not JSON: {error}") from error
    if isinstance(body, list) and body:
        return body, None
    if isinstance(body, dict) and isinstance(body.get("instances"), list) and body["instances"]:
        name = body.get("signature_name")
        return body["instances"], name if isinstance(name, str) else None
    raise PredictError(f'{file}: holds no instances; write a list of them, or {{"instances": [...]}}')


def _image(file: Path, shape: Sequence[int | None] | None) -> list[Any]:
    if shape is None or len(shape) != 4 or shape[1] is None or shape[2] is None or shape[3] not in (1, 3):
        raise PredictError(f"{file}: the model does not take images; its input has shape {list(shape or [])}")
    height, width, channels = shape[1], shape[2], shape[3]
    try:
        with Image.open(file) as image:
            pixels = image.convert("L" if channels == 1 else "RGB").resize((width, height))
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise PredictError(f"{file}: is not an image that can be read: {error}") from error
    data = pixels.tobytes()
    row = width * channels
    return [
        [
            [data[y * row + x * channels + c] / 255 for c in range(channels)]
            for x in range(width)
        ]
        for y in range(height)
    ]  # fmt: skip


def input_shape(service: Service, request: Request) -> Sequence[int | None] | None:
    """Shape of the one input of the signature, as the service reports it; None where it has several inputs.

    Raises:
        ServiceError: the service does not answer, or does not serve that model.
        PredictError: there is no such signature.
    """
    with connect(url=service.url or None, target=service.target or None, token=service.token) as client:
        metadata = client.metadata(request.model, request.version, request.label)
    signature = metadata["signatures"].get(request.signature_name)
    if signature is None:
        raise PredictError(f"model {request.model} has no signature {request.signature_name!r}")
    inputs = list(signature["inputs"].values())
    return inputs[0]["shape"] if len(inputs) == 1 else None


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
    for number, output in enumerate(answer.outputs):
        if len(answer.outputs) > 1:
            lines.append(f"  instance {number}")
        scores = _scores(output)
        if scores is None:
            lines.append("  " + json.dumps(output, default=str))
        else:
            lines += _bars(scores, classes)
    return "\n".join(lines)


def _scores(output: Any) -> list[float] | None:
    """Class probabilities, where an output looks like some."""
    if isinstance(output, dict) and len(output) == 1:
        output = next(iter(output.values()))
    if isinstance(output, list) and len(output) > 1 and all(isinstance(value, int | float) for value in output):
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
    service: Service, request: Request, input_names: Sequence[tuple[str, str]] = (), show_token: bool = False
) -> str:
    """The same request as a shell command. The token is ``$TOKEN`` unless ``show_token``.

    Args:
        service: where to.
        request: what.
        input_names: names and data types of the signature's inputs; gRPC requests say both.
        show_token: put the token in clear into the command.

    Raises:
        PredictError: the instances do not fit the inputs.
    """
    header = shlex.quote(f"Authorization: {service.token}") if show_token else '"Authorization: $TOKEN"'
    authorization = f"-H {header} " if service.token else ""
    if service.protocol == "http":
        body = json.dumps({"signature_name": request.signature_name, "instances": request.instances})
        return f"curl -sS {authorization}-d {shlex.quote(body)} {shlex.quote(service.url + request.path)}"
    spec: dict[str, Any] = {"name": request.model, "signature_name": request.signature_name}
    if request.label:
        spec["version_label"] = request.label
    elif request.version is not None:
        spec["version"] = request.version
    inputs = {name: _tensor(_column(request.instances, name), name, dtype) for name, dtype in input_names}
    body = json.dumps({"model_spec": spec, "inputs": inputs})
    # TensorFlow Serving offers reflection since 2.15.1; before that grpcurl also needs -import-path and -proto.
    call = "tensorflow.serving.PredictionService/Predict"
    return f"grpcurl -plaintext {authorization}-d {shlex.quote(body)} {shlex.quote(service.target)} {call}"


def _column(instances: Sequence[Any], name: str) -> list[Any]:
    named = all(isinstance(instance, dict) and set(instance) != {"b64"} for instance in instances)
    try:
        return [instance[name] if named else instance for instance in instances]
    except KeyError:
        raise PredictError(f"an instance has no value for input {name}") from None


def _tensor(values: list[Any], name: str, dtype: str) -> dict[str, Any]:
    """JSON form of a ``TensorProto``."""
    try:
        tensor = tensors.encode(values, tensors.dtype_named(dtype), f"input {name}")
    except ValueError as error:
        raise PredictError(str(error)) from error
    return json_format.MessageToDict(tensor, preserving_proto_field_name=True)


def input_names(service: Service, request: Request) -> list[tuple[str, str]]:
    """Names of the signature's inputs with their data types, as the service reports them.

    Raises:
        ServiceError: the service does not answer, or does not serve that model.
    """
    with connect(url=service.url or None, target=service.target or None, token=service.token) as client:
        signatures = client.metadata(request.model, request.version, request.label)["signatures"]
    inputs = signatures.get(request.signature_name, {}).get("inputs", {})
    return [(name, found["dtype"]) for name, found in inputs.items()]
