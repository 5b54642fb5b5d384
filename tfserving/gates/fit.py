"""Whether the records of a golden file fit the signature of a version: told before anything runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tfserving import tensors
from tfserving.client import columns
from tfserving.gates.golden import Record
from tfserving.protos import tf_serving_pb2 as pb
from tfserving.saved_model import Signature, TensorInfo

_MOST_TOLD = 5


def problems(records: Iterable[Record], name: str, signatures: Mapping[str, Signature], *, answers: bool) -> list[str]:
    """What is wrong, as ``file:line: field: what``; the first few.

    Args:
        records: of the file.
        name: how messages call it.
        signatures: of the version, by name.
        answers: whether expected answers matter, too.
    """
    found: list[str] = []
    for record in records:
        found += [f"{name}:{record.line}: {problem}" for problem in _record_problems(record, signatures, answers)]
        if len(found) >= _MOST_TOLD:
            return found[:_MOST_TOLD]
    return found


def undecided(signature: Signature) -> str:
    """Why the answers of a signature have no highest class; empty where one of its outputs has, or may have."""
    shown = []
    for name, info in sorted(signature.outputs.items()):
        single = info.shape is not None and info.shape[-1:] in ((), (1,))
        if single or info.dtype in ("string", "bool"):
            shown.append(f"{name} is {info}")
        else:
            return ""
    return f"no output has several numbers along its last dimension ({'; '.join(shown) or 'there is none'})"


def _record_problems(record: Record, signatures: Mapping[str, Signature], answers: bool) -> Iterable[str]:
    signature = signatures.get(record.signature_name)
    if signature is None:
        known = ", ".join(sorted(signatures)) or "none"
        yield f"signature_name: the version has no signature {record.signature_name}; it has {known}"
        return
    field = "instances" if record.rows else "inputs"
    try:
        values = columns(record.request, _infos(signature.inputs))
    except ValueError as error:
        yield f"{field}: {error}"
        return
    for name, (value, _) in values.items():
        if problem := _value_problem(value, signature.inputs[name], f"input {name}"):
            yield f"{field}: {problem}"
    if answers and record.expected is not None:
        yield from _answer_problems(record, signature)


def _answer_problems(record: Record, signature: Signature) -> Iterable[str]:
    names = list(signature.outputs)
    by_name: dict[str, Any]
    if record.rows:
        rows: Sequence[Any] = record.expected
        named = [isinstance(row, Mapping) and set(row) != {"b64"} for row in rows]
        if any(named) != all(named):
            yield f"predictions[{named.index(False)}]: other instances name their outputs, this one does not"
            return
        if all(named):
            odd = next((index for index, row in enumerate(rows) if row.keys() != rows[0].keys()), None)
            if odd is not None:
                yield f"predictions[{odd}]: has outputs {', '.join(rows[odd])}, the first one {', '.join(rows[0])}"
                return
            by_name = {name: [row[name] for row in rows] for name in rows[0]}
        else:
            by_name = {"": list(rows)}
    else:
        whole = record.expected
        by_name = dict(whole) if isinstance(whole, Mapping) and set(whole) != {"b64"} else {"": whole}
    if "" in by_name:
        if len(names) != 1:
            yield f"{record.field}: the version has outputs {', '.join(names)}; name each: {{{names[0]!r}: ...}}"
            return
        by_name = {names[0]: by_name[""]}
    elif len(names) == 1 and by_name.keys() == {names[0]}:
        form = f"{{{names[0]!r}: ...}}"
        yield f"{record.field}: with its one output {names[0]} a server answers the value itself, not {form}"
        return
    for name, value in by_name.items():
        info = signature.outputs.get(name)
        if info is None:
            yield f"{record.field}: the version has no output {name}; it has {', '.join(names)}"
        elif problem := _value_problem(value, info, f"output {name}"):
            yield f"{record.field}: {problem}"


def _infos(inputs: Mapping[str, TensorInfo]) -> dict[str, pb.TensorInfo]:
    return {name: pb.TensorInfo(dtype=_dtype(info)) for name, info in inputs.items()}


def _dtype(info: TensorInfo) -> pb.DataType:
    try:
        return tensors.dtype_named(info.dtype)
    except ValueError:
        return pb.DT_INVALID


def _value_problem(value: Any, info: TensorInfo, what: str) -> str:
    """Why a value is none of that type and shape; empty where it is."""
    try:
        tensor = tensors.encode(value, _dtype(info), what)
    except ValueError as error:
        return str(error)
    shape = [dim.size for dim in tensor.tensor_shape.dim]
    if info.shape is None:
        return ""
    if len(shape) != len(info.shape) or any(
        size is not None and size != found for size, found in zip(info.shape, shape, strict=True)
    ):
        return f"{what} has shape {shape}, and the version has {info}"
    return ""
