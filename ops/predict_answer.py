"""What ``ops predict`` shows of an answer: who answered, and its values, as much as a terminal takes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ops import tables
from ops.outputs import ExportedService
from ops.predict import Answer, Request
from tfserving import class_scores
from tfserving.client import Columns

FASHION_MNIST = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
"""Class names of Fashion-MNIST, in the order of its labels."""

_BAR = 30
_CLASSES, _ROWS, _LINES = 10, 10, 4
"""What a terminal is shown at most: classes of an instance, instances, lines of a value."""

_INVISIBLE = re.compile("[\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_WHOLE = "--format json prints all"


def describe(
    service: ExportedService,
    request: Request,
    answer: Answer,
    classes: Sequence[str] = (),
    made: str = "",
    columns: int | None = None,
) -> str:
    """The answer for a person.

    Args:
        service: who was asked.
        request: what.
        answer: what it said.
        classes: names of the classes, in the order of the scores.
        made: how the request was made, where none was given.
        columns: of the terminal, which long answers are cut for; None: nothing is cut.
    """
    by = f" by label {request.label}" if request.label else ""
    protocol = "gRPC" if service.protocol == "grpc" else "HTTP"
    version = "" if answer.version is None else f" version {answer.version}"
    lines = [
        f"{service.name} ({protocol}, {service.address}): {request.model}{version}{by},"
        f" {answer.seconds * 1000:.1f} ms{_told_by(service, answer)}"
    ]
    if made:
        lines.append(f"  {_cut(made, columns)}")
    if isinstance(request.instances, Columns):
        lines += _outputs(answer.outputs, classes, columns, whole=True)
        return "\n".join(lines)
    rows: Sequence[Any] = answer.outputs
    if not rows:
        lines.append("  no instances in the answer")
    shown = rows if columns is None else rows[:_ROWS]
    for number, row in enumerate(shown):
        found = list(_outputs(row, classes, columns))
        if len(rows) > 1:
            title = f"  instance {number}"
            found = [f"{title}: {found[0].lstrip()}"] if len(found) == 1 else [title, *found]
        lines += found
    if len(shown) < len(rows):
        lines.append(f"  ... {len(rows) - len(shown):,} more of {len(rows):,} instances; {_WHOLE}")
    return "\n".join(lines)


def _told_by(service: ExportedService, answer: Answer) -> str:
    """Which member of a group answered."""
    if not service.members:
        return ""
    if not answer.member:
        return ", answered by a member that the gateway does not name"
    share = service.members.get(answer.member)
    return f", answered by {answer.member}" + (f" ({share} % of the requests)" if share is not None else "")


def _outputs(value: Any, classes: Sequence[str], columns: int | None, *, whole: bool = False) -> Iterator[str]:
    """The outputs of one instance, or of ``whole`` inputs; several begin with their names."""
    named = isinstance(value, Mapping) and set(value) != {"b64"}
    outputs: Mapping[str, Any] = value if named else {"": value}
    for name, output in outputs.items():
        title = readable(name)[1:-1] if len(outputs) > 1 else ""
        # Of a whole output the first dimension is the batch, not the classes.
        rows = output if whole and isinstance(output, list) else [output]
        scores = [class_scores.of(row, named=_fit(classes, row)) for row in rows[:_ROWS]]
        if scores and None not in scores and (columns is None or len(rows) <= _ROWS):
            for number, found in enumerate(scores):
                head = " ".join(filter(None, (title, f"row {number}" if len(rows) > 1 else "")))
                yield from [f"  {head}:"] if head else []
                yield from (f"  {line}" if head else line for line in _bars(found or [], classes, columns))
        else:
            yield f"  {title}: {_value(output, columns)}" if title else f"  {_value(output, columns)}"


def _fit(classes: Sequence[str], row: Any) -> bool:
    return bool(classes) and isinstance(row, list) and len(classes) == len(row)


def _bars(scores: Sequence[float], classes: Sequence[str], columns: int | None) -> Iterator[str]:
    names = [readable(classes[i])[1:-1] if len(classes) == len(scores) else f"class {i}" for i in range(len(scores))]
    ranked = sorted(zip(scores, names, strict=True), key=lambda item: -item[0])
    shown = ranked if columns is None else ranked[:_CLASSES]
    width = max(tables.width(name) for _, name in shown)
    for score, name in shown:
        bar = "#" * max(0, min(_BAR, round(score * _BAR)))
        yield f"  {name}{' ' * (width - tables.width(name))}  {score:8.4f}  {bar}".rstrip()
    if len(shown) < len(ranked):
        yield f"  ... {len(ranked) - len(shown):,} more of {len(ranked):,} classes; {_WHOLE}"


# ---- values --------------------------------------------------------------------------------------------------------


def readable(value: Any) -> str:
    """JSON with letters as they are, but nothing that would move a terminal's cursor or turn its text around."""
    return _visible(json.dumps(value, default=str, ensure_ascii=False))


def _visible(text: str) -> str:
    return _INVISIBLE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _value(value: Any, columns: int | None) -> str:
    if columns is None:
        return readable(value)
    most = columns * _LINES
    text = ""
    for part in json.JSONEncoder(default=str, ensure_ascii=False).iterencode(value):
        text += part[: most + 1]
        if len(text) > most:
            return f"{_visible(_cells(text, most))} ... ({_size(value)}; {_WHOLE})"
    return _visible(text)


def _cut(text: str, columns: int | None) -> str:
    return text if columns is None or len(text) <= columns * _LINES else f"{_cells(text, columns * _LINES)} ..."


def _cells(text: str, most: int) -> str:
    """The beginning of a text that fits so many columns of a terminal."""
    used = 0
    for index, char in enumerate(text):
        used += tables.width(char)
        if used > most:
            return text[:index]
    return text


def _size(value: Any) -> str:
    """How much a value is: ``[512, 512], 262,144 values``."""
    if isinstance(value, str):
        return f"text of {len(value):,} characters"
    if isinstance(value, Mapping) and set(value) == {"b64"}:
        return f"{len(str(value['b64'])) * 3 // 4 - str(value['b64']).count('='):,} bytes"
    shape, first = [], value
    while isinstance(first, list):
        shape.append(len(first))
        first = first[0] if first else None
    count = 1
    for size in shape:
        count *= size
    return f"shape {shape}, {count:,} values"
