"""``python -m ops golden record SERVICE MODEL --version N``: its options, and what it writes."""

from __future__ import annotations

import argparse
import datetime
import os
from collections.abc import Sequence
from pathlib import Path

from ops import answer, golden, options, outputs, predict
from tfserving.errors import ServiceError
from tfserving.gates import golden as golden_file
from tfserving.saved_model import SERVING_SIGNATURE

_GENERATED = 10


def main(argv: Sequence[str]) -> int:
    """Asks a version that runs, and writes requests and answers to a file.

    Returns:
        0.

    Raises:
        TFServingError: the stack, service or version is not as asked, a request is refused, or the file is there.
    """
    chosen = _parser().parse_args(list(argv))
    output: Path = chosen.output or Path("golden") / f"{chosen.model}.jsonl"
    if output.exists() and not chosen.force:
        raise golden.GoldenRecordError(f"{output} is there already; --force replaces it, --output names another file")
    service = predict.choose_service(outputs.services(chosen.stack, chosen.engine), chosen.service, chosen.grpc)
    try:
        if chosen.inputs:
            requests = golden_file.read(_bytes(chosen.inputs), str(chosen.inputs), expected=False)
        else:
            requests = golden.generated(service, chosen.model, chosen.version, chosen.signature, chosen.count)
        recorded = golden.record(service, chosen.model, chosen.version, requests, str(chosen.inputs or ""))
    except ServiceError as error:
        request = predict.Request(chosen.model, version=chosen.version)
        raise golden.GoldenRecordError(f"{service.name}: {error}{predict.hint(service, request, error)}") from error
    origin = f"requests of {chosen.inputs}"
    if not chosen.inputs:
        origin = "requests generated from its signature, not real ones"
    day = datetime.datetime.now(datetime.UTC).date()
    comment = f"recorded from {service.name}, {chosen.model} version {chosen.version}, {day}; {origin}"
    _write(output, golden_file.write(recorded.records, comment))
    count = len(recorded.records)
    value = {
        "file": str(output),
        "service": service.name,
        "model": chosen.model,
        "version": chosen.version,
        "records": count,
        "generated": not chosen.inputs,
        "unsteady": recorded.unsteady,
    }
    text = f"{output}: {count} record{'' if count == 1 else 's'} of {chosen.model} version {chosen.version}; {origin}"
    answer.give(chosen, value, text)
    if not chosen.inputs:
        answer.note("replace the generated requests by real ones: --inputs FILE, one request a line")
    if recorded.unsteady:
        answer.note(
            f"warning: the same request was answered differently the second time ({recorded.unsteady}): allow for it "
            "with `tolerance`"
        )
    return 0


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise golden.GoldenRecordError(f"--inputs {file}: cannot be read: {error.strerror}") from error


def _write(file: Path, text: str) -> None:
    """Whole or not at all: an interrupted run leaves no half file."""
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(text, encoding="utf-8")
        draft.replace(file)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise golden.GoldenRecordError(f"{file}: cannot be written: {error.strerror}") from error


def _parser() -> answer.Parser:
    command = answer.Parser(
        prog="python -m ops golden",
        description="Writes a golden file: requests, and the answers of a version that runs, for the gate of a model.",
        epilog="Without --inputs the requests are made from the model's signature, and the file says so.",
    )
    command.add_argument("action", choices=("record",), help="record: ask one version, and write what it answers")
    command.add_argument("service", metavar="SERVICE", help="service name, as in tf-serving:services")
    command.add_argument(
        "model",
        type=options.model_name,
        metavar="MODEL",
        help="model name; `model` for a scenario deployment of one model",
    )
    command.add_argument(
        "--version", type=options.version_number, required=True, metavar="N", help="the version whose answers are right"
    )
    command.add_argument(
        "--inputs", type=Path, metavar="FILE", help="one request a line; answers in it are passed over"
    )
    command.add_argument(
        "--output", type=Path, metavar="FILE", help="the file that is written (default: golden/MODEL.jsonl)"
    )
    command.add_argument("--force", action="store_true", help="replace a file that is there")
    command.add_argument(
        "--signature", default=SERVING_SIGNATURE, help="signature of generated requests (default: %(default)s)"
    )
    command.add_argument(
        "--count", type=_count, default=_GENERATED, help="how many requests are generated (default: %(default)s)"
    )
    command.add_argument("--grpc", action="store_true", help="insist on gRPC")
    options.add_stack(command)
    return command


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 10_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of requests, 1 to 10000")
    return int(text)
