"""``python -m ops <command>``: day to day operation of deployed stacks."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ops import manifest, outputs, predict
from tfserving.client import SIGNATURE
from tfserving.errors import ServiceError, TFServingError
from tfserving.manifest import user_cache


def main(argv: Sequence[str]) -> int:
    """Runs one command.

    Returns:
        exit status: 0 done, 1 an error (printed on stderr, without a traceback), 130 interrupted.
    """
    options = _parser().parse_args(list(argv))
    try:
        return _manifest(options) if options.command == "manifest" else _predict(options)
    except TFServingError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m ops", description="Operate TF Serving stacks.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    command = commands.add_parser(
        "predict",
        help="send one request to a service and show the answer",
        description="Sends one predict request. URL and token come from the outputs of the stack.",
        epilog="Without --input it sends the document's online debugging body, one white 28x28 image.",
    )
    command.add_argument("service", metavar="SERVICE", help="service name, as in tf-serving:services")
    command.add_argument("model", metavar="MODEL", help="model name; `model` for a scenario deployment of one model")
    which = command.add_mutually_exclusive_group()
    which.add_argument("--label", help="ask the version this label stands for")
    which.add_argument("--version", type=int, help="ask this version")
    command.add_argument("--input", type=Path, metavar="FILE", help="instances as JSON, or an image")
    command.add_argument("--signature", default=SIGNATURE, help="signature name (default: %(default)s)")
    command.add_argument("--classes", help="class names: fashion-mnist, or a file with one name per line")
    command.add_argument("--grpc", action="store_true", help="insist on gRPC")
    command.add_argument("--curl", action="store_true", help="print the request as a command instead of sending it")
    command.add_argument("--show-token", action="store_true", help="with --curl: do not mask the token")
    command.add_argument("--stack", "-s", default="local", help="stack name (default: %(default)s)")
    command.add_argument(
        "--engine",
        choices=("auto", "pulumi", "sandbox"),
        default="auto",
        help="whose state holds the stack (default: the sandbox engine's if it knows the stack, else Pulumi's)",
    )
    command = commands.add_parser(
        "manifest",
        help="write manifests of a model's versions, to be committed",
        description="Writes a manifest for every version in a model directory that has none yet.",
        epilog="Name the directory of the manifests in tf-serving:manifests. See docs/publishing.md.",
    )
    command.add_argument("directory", type=Path, metavar="MODEL_DIR", help="directory with one directory per version")
    command.add_argument("--model", help="model name (default: the name of the directory)")
    command.add_argument(
        "--to",
        type=Path,
        default=Path("manifests"),
        metavar="DIR",
        help="directory of all manifests (default: %(default)s)",
    )
    return parser


def _manifest(options: argparse.Namespace) -> int:
    target = options.to / (options.model or options.directory.resolve().name)
    with user_cache() as cache:
        for written in manifest.write(options.directory, target, cache):
            what = "written" if written.new else "unchanged"
            print(f"{written.file}: {what}, {written.files} files, {written.size} bytes")
    return 0


def _predict(options: argparse.Namespace) -> int:
    found = outputs.services(options.stack, options.engine)
    service = predict.choose_service(found, options.service, options.grpc)
    classes = _classes(options.classes)
    request = predict.Request(options.model, options.label, options.version, options.signature)
    try:
        if options.input:
            is_image = options.input.suffix.lower() != ".json"
            shape = predict.input_shape(service, request) if is_image else None
            instances, named = predict.read_input(options.input, shape)
            request = predict.Request(
                request.model, request.label, request.version, named or request.signature_name, instances
            )
        if options.curl:
            names = predict.input_names(service, request) if service.protocol == "grpc" else []
            print(predict.curl(service, request, names, options.show_token))
            return 0
        answer = predict.ask(service, request)
    except ServiceError as error:
        raise predict.PredictError(f"{service.name}: {error}") from error
    print(predict.describe(service, request, answer, classes))
    return 0


def _classes(option: str | None) -> Sequence[str]:
    if not option:
        return ()
    if option == "fashion-mnist":
        return predict.FASHION_MNIST
    try:
        return [line for line in Path(option).read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise predict.PredictError(f"--classes {option}: cannot be read: {error}") from error


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
