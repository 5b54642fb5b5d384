"""``python -m ops predict SERVICE MODEL``: its options, and what it prints."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ops import answer, options, outputs, predict, predict_answer, predict_input, state
from ops.outputs import ExportedService
from ops.predict import Request
from ops.predict_input import Given, PredictError
from tfserving import sample_request
from tfserving.errors import ServiceError
from tfserving.sample_request import Inputs
from tfserving.saved_model import SERVING_SIGNATURE

_ALL_MADE = "no --input"
_UNFIT = (400, 501)
"""HTTP status, or its equivalent, of what may be a request that does not fit the signature."""


def main(argv: Sequence[str]) -> int:
    """Sends one request and prints the answer, or the request as a curl command.

    Returns:
        0.

    Raises:
        TFServingError: the stack, the service or the request is not as asked, or the service refuses.
    """
    chosen = _parser().parse_args(list(argv))
    given, unread = _given(chosen.input)
    resources = state.read(chosen.stack, chosen.engine)
    services = outputs.services_of(chosen.stack, resources)
    found = {**services, **outputs.groups_of(resources)}
    service = predict.choose_service(found, chosen.service, chosen.grpc)
    classes = _classes(chosen.classes)
    request = Request(chosen.model, chosen.label, chosen.version, given.signature_name or chosen.signature)
    inputs: Inputs = {}
    made = ""
    try:
        signature = predict.signature(service, request)
        inputs = signature["inputs"]
        try:
            if unread is not None:
                raise unread
            request, made = _filled(request, signature, given)
        except PredictError as error:
            raise PredictError(f"{error}\n  {_takes(request, inputs)}") from None
        if chosen.curl:
            command = _command(service, request, inputs, chosen.show_token)
            answer.give(chosen, {"command": command, "made": made}, command)
            if made and chosen.format == "text":
                answer.note(f"# {made}")
            return 0
        said = predict.ask(service, request, members=services)
    except ServiceError as error:
        if unread is not None:
            raise unread from None
        targets = [name for name, each in found.items() if each.target]
        hint = predict.hint(service, request, error, targets)
        wanted = _wanted(request, inputs, made) if inputs and error.status in _UNFIT else ""
        raise PredictError(f"{service.name}: {error}{hint}{wanted}") from error
    value = {
        "service": service.name,
        "model": request.model,
        "label": request.label,
        "version": said.version,
        "member": said.member,
        "signature": request.signature_name,
        "seconds": said.seconds,
        "outputs": said.outputs,
        "made": made,
    }
    if chosen.format == "json":
        answer.give(chosen, value, "")
        return 0
    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    answer.give(chosen, value, predict_answer.describe(service, request, said, classes, made, columns))
    return 0


def _given(options: Sequence[str]) -> tuple[Given, PredictError | None]:
    """What is to be sent, or why it cannot be read: that is told together with what the signature takes."""
    try:
        return Given.read(options), None
    except PredictError as error:
        return Given(), error


def _filled(request: Request, signature: Mapping[str, Any], given: Given) -> tuple[Request, str]:
    """The request with its values, and the words that say which of them were made from the signature."""
    inputs: Inputs = signature["inputs"]
    if given == Given():
        values = sample_request.from_signature(inputs, signature["outputs"])
        shown = sample_request.shown(inputs)
        return replace(request, instances=values), (
            f"{_ALL_MADE}: the request is made from the signature's inputs: {shown}"
        )
    values, made = given.values(inputs)
    shown = sample_request.shown({name: inputs[name] for name in made})
    return replace(request, instances=values), f"made from the signature: {shown}" if made else ""


def _wanted(request: Request, inputs: Inputs, made: str) -> str:
    """What the signature takes, beside what the request has; for a request that was refused."""
    takes = _takes(request, inputs)
    if made.startswith(_ALL_MADE):
        return f"\n  {takes}\n  the request was made from it; --input gives values of your own"
    return f"\n  {takes}\n  the request has {predict_input.sent(request.instances, inputs)}"


def _takes(request: Request, inputs: Inputs) -> str:
    return f"signature {request.signature_name} of {request.model} takes {sample_request.shown(inputs)}"


def _command(service: ExportedService, request: Request, inputs: Inputs, show_token: bool) -> str:
    if service.protocol != "grpc":
        return predict.curl(service, request, show_token=show_token)
    reflection = predict.reflects(service)
    if not reflection:
        print(
            "this server does not describe itself (no reflection), so grpcurl needs the protos: set PROTOS to a "
            f"directory with {predict.PROTO} and what it imports, from TensorFlow Serving's and TensorFlow's sources",
            file=sys.stderr,
        )
    if shutil.which("grpcurl") is None:
        print("grpcurl is not installed here: https://github.com/fullstorydev/grpcurl", file=sys.stderr)
    names = [(name, info["dtype"]) for name, info in inputs.items()]
    return predict.curl(service, request, names, show_token, reflection)


def _parser() -> answer.Parser:
    command = answer.Parser(
        prog="python -m ops predict",
        description="Sends one predict request. URL and token come from the outputs of the stack.",
        epilog="Without --input the request is made from the model's signature: ones, or text, of the shapes it takes.",
    )
    command.add_argument("service", metavar="SERVICE", help="a service, or a group of tf-serving:traffic")
    command.add_argument(
        "model",
        type=options.model_name,
        metavar="MODEL",
        help="model name; `model` for a scenario deployment of one model",
    )
    which = command.add_mutually_exclusive_group()
    which.add_argument("--label", type=options.label, help="ask the version this label stands for")
    which.add_argument("--version", type=options.version_number, help="ask this version")
    command.add_argument(
        "--input", action="append", default=[], metavar="WHAT",
        help="a file: a request as JSON, an image, or the bytes of a string; - is standard input; JSON text; or "
        "NAME=@FILE and NAME=VALUE for one input each, more than once",
    )  # fmt: skip
    command.add_argument("--signature", default=SERVING_SIGNATURE, help="signature name (default: %(default)s)")
    command.add_argument("--classes", help="class names: fashion-mnist, or a file with one name per line")
    command.add_argument("--grpc", action="store_true", help="insist on gRPC")
    command.add_argument("--curl", action="store_true", help="print the request as a command instead of sending it")
    command.add_argument("--show-token", action="store_true", help="with --curl: do not mask the token")
    options.add_stack(command)
    return command


def _classes(option: str | None) -> Sequence[str]:
    if not option:
        return ()
    if option == "fashion-mnist":
        return predict_answer.FASHION_MNIST
    try:
        return [line for line in Path(option).read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise PredictError(f"--classes {option}: cannot be read: {error}") from error
