"""``python -m ops predict SERVICE MODEL``: its options, and what it prints."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from ops import options, outputs, predict
from tfserving.client import SIGNATURE
from tfserving.errors import ServiceError


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
    request = predict.Request(chosen.model, chosen.label, chosen.version, chosen.signature)
    try:
        if chosen.input:
            is_image = chosen.input.suffix.lower() != ".json"
            shape = predict.input_shape(service, request) if is_image else None
            instances, named = predict.read_input(chosen.input, shape)
            request = predict.Request(
                request.model, request.label, request.version, named or request.signature_name, instances
            )
        if chosen.curl:
            names = predict.input_names(service, request) if service.protocol == "grpc" else []
            print(predict.curl(service, request, names, chosen.show_token))
            return 0
        answer = predict.ask(service, request)
    except ServiceError as error:
        raise predict.PredictError(f"{service.name}: {error}") from error
    print(predict.describe(service, request, answer, classes))
    return 0


def _parser() -> argparse.ArgumentParser:
    command = argparse.ArgumentParser(
        prog="python -m ops predict",
        description="Sends one predict request. URL and token come from the outputs of the stack.",
        epilog="Without --input it sends the document's online debugging body, one white 28x28 image.",
    )
    command.add_argument("service", metavar="SERVICE", help="service name, as in tf-serving:services")
    command.add_argument("model", metavar="MODEL", help="model name; `model` for a scenario deployment of one model")
    which = command.add_mutually_exclusive_group()
    which.add_argument("--label", help="ask the version this label stands for")
    which.add_argument("--version", type=options.version_number, help="ask this version")
    command.add_argument("--input", type=Path, metavar="FILE", help="instances as JSON, or an image")
    command.add_argument("--signature", default=SIGNATURE, help="signature name (default: %(default)s)")
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
