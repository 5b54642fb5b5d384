"""Golden files: one predict request a line, as TensorFlow Serving's REST API takes it, and the answer it is to get.

::

    {"comment": "recorded from modelB version 1"}
    {"instances": [[1.0, 2.0]], "predictions": [[0.1, 0.9]]}
    {"inputs": {"x": [[1.0, 2.0]]}, "outputs": {"y": [[0.1, 0.9]]}, "signature_name": "serving_default"}

Row form (``instances``, ``predictions``) and columnar form (``inputs``, ``outputs``) are those of the REST API, and a
request means the same over gRPC. ``NaN``, ``Infinity`` and ``{"b64": ...}`` are written as the server writes them. A
line with nothing but a ``comment``, and an empty one, are passed over.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tfserving.client import Columns
from tfserving.errors import TFServingError
from tfserving.saved_model import SERVING_SIGNATURE

_FORMS = {"instances": "predictions", "inputs": "outputs"}
_KEYS = (*_FORMS, *_FORMS.values(), "signature_name", "comment")
_MOST_TOLD = 20
_SHOWN = 60


class GoldenError(TFServingError):
    """A file of requests cannot be used. Holds every problem, as ``file:line: field: what``."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


@dataclass(frozen=True)
class Record:
    """One request and its expected answer.

    Attributes:
        line: line of the file, from 1.
        request: instances, or whole inputs.
        expected: predictions, one per instance, or whole outputs; ``None`` where none is given.
        signature_name: which signature.
        comment: whatever a person wrote.
    """

    line: int
    request: list[Any] | Columns
    expected: Any = None
    signature_name: str = SERVING_SIGNATURE
    comment: str = ""

    @property
    def rows(self) -> bool:
        """Whether it is in row form."""
        return not isinstance(self.request, Columns)

    @property
    def field(self) -> str:
        """The field that holds the expected answer."""
        return "predictions" if self.rows else "outputs"

    def to_json(self) -> str:
        """Its line, without a line break.

        Raises:
            ValueError: a value that JSON does not have.
        """
        body: dict[str, Any] = {"comment": self.comment} if self.comment else {}
        if self.signature_name != SERVING_SIGNATURE:
            body["signature_name"] = self.signature_name
        if isinstance(self.request, Columns):
            body["inputs"] = self.request.inputs
        else:
            body["instances"] = self.request
        if self.expected is not None:
            body[self.field] = self.expected
        return json.dumps(body, ensure_ascii=False)


def write(records: Iterable[Record], comment: str = "") -> str:
    """A golden file's text; the comment is its first line."""
    lines = [json.dumps({"comment": comment}, ensure_ascii=False)] if comment else []
    return "".join(f"{line}\n" for line in [*lines, *(record.to_json() for record in records)])


def read(data: bytes, name: str, *, expected: bool) -> tuple[Record, ...]:
    """The records of a file.

    Args:
        data: its content.
        name: how messages call it.
        expected: whether each record needs an expected answer; otherwise answers are not looked at.

    Raises:
        GoldenError: every line that is no record, or that there is none.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        place = data[: error.start].count(b"\n") + 1
        raise GoldenError([f"{name}:{place}: is not UTF-8 text"]) from error
    records: list[Record] = []
    problems: list[str] = []
    # Not splitlines: JSON text may hold other separators than \n unescaped.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            body = _parse(line)
            if body.keys() != {"comment"}:
                records.append(_record(body, number, expected))
        except _WrongError as error:
            problems.append(f"{name}:{number}: {error}")
            if len(problems) == _MOST_TOLD:
                problems.append(f"{name}: more lines may be wrong; these are the first {_MOST_TOLD}")
                break
    if not records and not problems:
        form = '{"instances": [...], "predictions": [...]}' if expected else '{"instances": [...]}'
        problems.append(f"{name}: holds no request; write one a line: {form}")
    if problems:
        raise GoldenError(problems)
    return tuple(records)


def digest(data: bytes) -> str:
    """How a file's content is told from other content."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class _WrongError(Exception):
    """What is wrong with a line, the field first."""


def _parse(line: str) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            names = [key for key, _ in pairs]
            twice = next(key for key in names if names.count(key) > 1)
            raise _WrongError(f"{twice}: is given twice")
        return found

    try:
        body = json.loads(line, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        hint = ""
        if line.strip() in ("[", "{") or line.rstrip().endswith(("[", "{", ",")):
            hint = "; a record is one line, not JSON over several lines"
        raise _WrongError(f"is not JSON: {error}{hint}") from error
    if not isinstance(body, dict):
        raise _WrongError(f"is {_kind(body)}, not an object with instances or inputs")
    return body


def _record(body: dict[str, Any], number: int, needs_answer: bool) -> Record:
    for key in body:
        if key not in _KEYS:
            raise _WrongError(f"{key}: is no field of a record; there are {', '.join(_KEYS)}")
    for key in ("signature_name", "comment"):
        if not isinstance(body.get(key, ""), str):
            raise _WrongError(f"{key}: {_shown(body[key])} is not a text")
    given = [key for key in _FORMS if key in body]
    if len(given) != 1:
        wrong = "both instances and inputs are given" if given else "neither instances nor inputs is given"
        raise _WrongError(f"{' and '.join(given) or 'instances'}: {wrong}; a request has one of them")
    form, answer = given[0], _FORMS[given[0]]
    other = next(each for each in _FORMS.values() if each != answer)
    if other in body:
        raise _WrongError(f"{other}: goes with {_form_of(other)}; the answer to {form} is {answer}")
    if needs_answer and body.get(answer) is None:
        raise _WrongError(f"{answer}: the expected answer is missing; .venv/bin/python -m ops golden record writes it")
    request: list[Any] | Columns = Columns(body.get("inputs"))
    if form == "instances":
        request = body["instances"]
        if not isinstance(request, list) or not request:
            raise _WrongError(f"instances: {_shown(body['instances'])} is not a list of at least one instance")
        expected = body.get("predictions")
        if needs_answer and (not isinstance(expected, list) or len(expected) != len(request)):
            found = f"{len(expected)}" if isinstance(expected, list) else _kind(expected)
            raise _WrongError(f"predictions: {found} for {len(request)} instances; one for each is needed")
    elif body["inputs"] is None:
        raise _WrongError("inputs: null is no value")
    return Record(
        number, request, body.get(answer), body.get("signature_name", SERVING_SIGNATURE), body.get("comment", "")
    )


def _form_of(answer: str) -> str:
    return next(form for form, name in _FORMS.items() if name == answer)


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
