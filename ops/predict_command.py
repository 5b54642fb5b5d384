"""``python -m ops predict SERVICE MODEL``: its options, and what it prints."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ops import options, outputs, predict, predict_input
from ops.outputs import Service
from ops.predict import Request
from tfserving.errors import ServiceError
from tfserving.saved_model import SERVING_SIGNATURE


def main(argv: Sequence[str]) -> int:
    """Sends one request and prints the answer, or the request as a curl command.

    Returns:
        0.

    Raises:
        TFServingError: the stack, the service or the request is not as asked, or the service refuses.
    """
    chosen = _parser().parse_args(list(argv))
    found = outputs.services(chosen.stack, chosen.engine)
    service = predict.choose_service(found, chosen.service, chosen.grpc)
    classes = _classes(chosen.classes)
    request = Request(chosen.model, chosen.label, chosen.version, chosen.signature)
    try:
        request, made = _filled(service, request, chosen.input)
        if chosen.curl:
            print(_command(service, request, chosen.show_token))
            if made:
                print(f"# {made}", file=sys.stderr)
            return 0
        answer = predict.ask(service, request)
    except ServiceError as error:
        raise predict.PredictError(f"{service.name}: {error}{predict.hint(service, request, error)}") from error
    head, *rest = predict.describe(service, request, answer, classes).splitlines()
    print("\n".join([f"{head} ({made})" if made else head, *rest]))
    return 0


def _filled(service: Service, request: Request, file: Path | None) -> tuple[Request, str]:
    """The request with its values, from the file or made from the signature; then also the words that say so."""
    if file is not None and file.suffix.lower() == ".json":
        values, named = predict.read_input(file, None)
        return replace(request, instances=values, signature_name=named or request.signature_name), ""
    signature = predict.signature(service, request)
    if file is not None:
        values, _ = predict_input.from_file(file, signature["inputs"])
        return replace(request, instances=values), ""
    values = predict_input.from_signature(signature["inputs"], signature["outputs"])
    shown = predict_input.shown(signature["inputs"])
    made = f"no --input: the request is made from the signature's inputs: {shown}"
    return replace(request, instances=values), made


def _command(service: Service, request: Request, show_token: bool) -> str:
    if service.protocol != "grpc":
        return predict.curl(service, request, show_token=show_token)
    inputs = predict.signature(service, request)["inputs"]
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


def _parser() -> argparse.ArgumentParser:
    command = argparse.ArgumentParser(
        prog="python -m ops predict",
        description="Sends one predict request. URL and token come from the outputs of the stack.",
        epilog="Without --input the request is made from the model's signature: ones, or text, of the shapes it takes.",
    )
    command.add_argument("service", metavar="SERVICE", help="service name, as in tf-serving:services")
    command.add_argument("model", metavar="MODEL", help="model name; `model` for a scenario deployment of one model")
    which = command.add_mutually_exclusive_group()
    which.add_argument("--label", help="ask the version this label stands for")
    which.add_argument("--version", type=options.version_number, help="ask this version")
    command.add_argument(
        "--input", type=Path, metavar="FILE", help="a request as JSON, an image, or the bytes of a string"
    )
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
        return predict.FASHION_MNIST
    try:
        return [line for line in Path(option).read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise predict.PredictError(f"--classes {option}: cannot be read: {error}") from error
