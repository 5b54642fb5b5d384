"""Batching against what a model takes and gives: which requests TensorFlow Serving would refuse, and which may fail.

With ``--enable_batching`` requests to each signature are put together along the first dimension of every input, run
once, and taken apart along the first dimension of every output. Whether a model can take that is said by its
signatures, and nothing checks it when the model is loaded: requests fail. Parameters that do not go together keep a
model from loading.

Sources: ``servables/tensorflow/bundle_factory_util.cc`` (``GetPerModelBatchingParams``, ``WrapSessionForBatching``),
``batching/batching_session.cc``, ``batching/batching_util.cc``, and the runtime's ``shared_batch_scheduler.h``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfserving import flags
from tfserving.errors import ModelConfigError, Problem, SavedModelError
from tfserving.protos import tf_serving_pb2 as pb
from tfserving.saved_model import Signature, TensorInfo
from tfserving.text_proto import parse_text

PARAMETERS_FILE = "batching_params.pbtxt"
"""Of one version, beside ``saved_model.pb``: read with ``--enable_per_model_batching_parameters``, and only then."""

_REPEATED = "allowed_batch_sizes"
_PLAIN = "pad_variable_length_inputs"


@dataclass(frozen=True)
class Batching:
    """The parameters that decide what happens to a request.

    Attributes:
        max_batch_size: rows of a request at most.
        execution_size: rows of one run at most.
        allowed_batch_sizes: what a run is padded to; empty: nothing is padded.
        pads: rows of different sizes are padded to the largest one.
        known: False where the parameters are in a file that nobody here has seen; then only what holds for any is said.
    """

    max_batch_size: int = flags.DEFAULT_MAX_BATCH_SIZE
    execution_size: int = flags.DEFAULT_MAX_BATCH_SIZE
    allowed_batch_sizes: tuple[int, ...] = ()
    pads: bool = False
    known: bool = True

    @classmethod
    def of(cls, parameters: Mapping[str, Any]) -> Batching:
        """From parameters by the proto's field names, once :func:`tfserving.flags.validate_batching` has no problem."""
        most = int(parameters.get("max_batch_size", flags.DEFAULT_MAX_BATCH_SIZE))
        splits = bool(parameters.get("enable_large_batch_splitting", False))
        return cls(
            max_batch_size=most,
            execution_size=int(parameters.get("max_execution_batch_size", most)) if splits else most,
            allowed_batch_sizes=tuple(parameters.get(_REPEATED, ())),
            pads=bool(parameters.get(_PLAIN, False)),
        )

    def run_sizes(self, rows: int) -> bool:
        """Whether a run may have another number of rows than ``rows``, where every request has that many."""
        if rows > self.execution_size or 2 * rows <= self.execution_size:
            return True
        padded = next((size for size in self.allowed_batch_sizes if size >= rows), rows)
        return padded != rows


def parse(text: str, what: str = "batching parameters file") -> dict[str, Any]:
    """A batching parameters file as parameters by the proto's field names; only those it gives.

    Raises:
        ModelConfigError: the server could not read it.
    """
    message = parse_text(text, pb.BatchingParameters(), what)
    found: dict[str, Any] = {}
    for name in flags.BATCHING_FIELDS:
        value = getattr(message, name)
        if name == _REPEATED:
            found |= {name: list(value)} if value else {}
        elif name == _PLAIN:
            found |= {name: value} if value else {}
        elif message.HasField(name):
            found[name] = value.value
    return found


def of_version(version_dir: Path, path: str) -> tuple[Batching | None, list[Problem]]:
    """The parameters a version brings itself, None without any; and what would keep it from loading with them.

    Args:
        version_dir: the directory with ``saved_model.pb``.
        path: where the model is named in the stack config.

    Raises:
        SavedModelError: the file cannot be read.
    """
    file = version_dir / PARAMETERS_FILE
    shown = f"{version_dir.parent.name}/{version_dir.name}/{PARAMETERS_FILE}"
    if file.is_dir():
        return None, [Problem(path, f"{shown} is a directory, and the version would not load", "a file", "remove it")]
    if not file.is_file():
        return None, []
    try:
        parameters = parse(file.read_bytes().decode(), shown)
    except (ModelConfigError, UnicodeDecodeError) as error:
        reason = str(error) if isinstance(error, ModelConfigError) else f"{shown}: it is not a text in UTF-8"
        return None, [Problem(path, f"{reason}; the version would not load", fix="correct the file, or remove it")]
    except OSError as error:
        raise SavedModelError(f"{file} cannot be read: {error.strerror}") from None
    problems = [
        Problem(path, f"{shown}: {problem.message}", problem.allowed, problem.fix or "correct the file, or remove it")
        for problem in flags.validate_batching(parameters, PARAMETERS_FILE)
    ]
    return (None if problems else Batching.of(parameters)), problems


def troubles(signature: Signature, batching: Batching) -> list[str]:
    """Why requests to a signature are refused or may fail once they are batched, one sentence part each.

    Goes by the shapes the signature declares; TensorFlow Serving checks only those of the tensors that are sent.
    """
    refused = list(_refused(signature, batching))
    return refused or list(_may_fail(signature, batching))


def _refused(signature: Signature, batching: Batching) -> Iterator[str]:
    """What makes every request that is as the signature says fail."""
    if not signature.inputs:
        yield "it has no input, so every request is refused"
    for name, info in sorted(signature.inputs.items()):
        if info.shape == ():
            yield f"input {name} is a single value without a dimension to batch along, so every request is refused"
    rows = {name: size for name, info in sorted(signature.inputs.items()) if (size := _rows(info)) is not None}
    if len(set(rows.values())) > 1:
        shown = ", ".join(f"{name} {size}" for name, size in rows.items())
        yield f"first dimensions of its inputs differ ({shown}), so every request is refused"
    most = max(rows.values(), default=0)
    if batching.known and most > batching.max_batch_size:
        yield f"requests have {most} rows and max_batch_size is {batching.max_batch_size}, so every request is refused"
    for name, info in sorted(signature.outputs.items()):
        if info.shape == ():
            yield f"output {name} is a single value that cannot be divided among requests, so every request fails"


def _may_fail(signature: Signature, batching: Batching) -> Iterator[str]:
    """What makes requests fail by what they are batched with."""
    rows = {name: size for name, info in sorted(signature.inputs.items()) if (size := _rows(info)) is not None}
    for name, size in rows.items():
        if batching.run_sizes(size) or not batching.known:
            yield (
                f"input {name} always has {size} row{'s' * (size != 1)}, and a batch of several requests has more, so "
                "requests fail by chance"
            )
            break
    for name, info in sorted(signature.outputs.items()):
        size = _rows(info)
        if size is not None and size not in rows.values():
            yield (
                f"output {name} always has {size} row{'s' * (size != 1)}, whatever comes in, so requests fail unless a "
                f"batch has exactly {size}"
            )
    if batching.known and (batching.pads or batching.execution_size == 1):
        return
    for name, info in sorted(signature.inputs.items()):
        if info.shape is not None and None in info.shape[1:]:
            yield (
                f"input {name} has rows of any size ({info}), and requests of different sizes that fall into one batch "
                "fail while pad_variable_length_inputs is not true"
            )


def _rows(info: TensorInfo) -> int | None:
    """The first dimension of a tensor where it is fixed."""
    return info.shape[0] if info.shape else None
