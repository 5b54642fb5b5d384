"""What the console makes of an answer: scores of classes, and the difference of two answers.

It is worked out here and not in the page, since JavaScript knows numbers as doubles only. A number stays the text that
the server wrote, and differences are those of the decimal numbers written there.
"""

from __future__ import annotations

import decimal
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tfserving import class_scores

SHOWN_INSTANCES = 5
SHOWN_CLASSES = 10
_COMPARED_INSTANCES = 20
_MATH = decimal.Context(prec=60, Emax=decimal.MAX_EMAX, Emin=decimal.MIN_EMIN)
_DIGITS = 6
_LONG = 40
"""Digits from which on a whole number is no 64-bit integer."""
_MISSING = object()
_SHOWN = 60


@dataclass(frozen=True)
class Number:
    """A number as it was written.

    Attributes:
        text: of JSON, or ``NaN``, ``Infinity`` and ``-Infinity``, which TensorFlow Serving writes as they are.
    """

    text: str

    @property
    def is_whole(self) -> bool:
        """Whether it is written as an integer."""
        return self.text.removeprefix("-").isdigit()

    def plain(self) -> int | float:
        """As Python has it: rounded, where it is not whole."""
        return int(self.text) if self.is_whole and len(self.text) < _LONG else float(self.text)

    def exact(self) -> decimal.Decimal:
        """Without rounding; infinite where there is no such exponent."""
        try:
            return decimal.Decimal(self.text)
        except decimal.InvalidOperation:
            return decimal.Decimal("-Infinity" if self.text.startswith("-") else "Infinity")


def parse(body: str) -> Any:
    """JSON whose numbers are :class:`Number`; None where it is none."""
    try:
        return json.loads(body, parse_int=Number, parse_float=Number, parse_constant=Number, strict=False)
    except (ValueError, RecursionError):
        return None


# ---- scores of classes ---------------------------------------------------------------------------------------------


def bars(body: str, named: int = 0) -> list[dict[str, Any]]:
    """The outputs of the first instances that look like scores of classes, highest class first.

    Args:
        body: the answer.
        named: so many classes have names (:func:`tfserving.class_scores.of`); 0 for none.

    Returns:
        ``{"title", "classes", "rows": [{"index", "text", "share"}]}`` each; ``share`` is from 0 to 1.
    """
    parsed = parse(body)
    found = []
    for title, value in _instances(_member(parsed, "predictions"), _member(parsed, "outputs")):
        if (ranked := _ranked(value, named)) is not None:
            rows = [
                {"index": index, "text": value[index].text, "share": min(1.0, score)}
                for score, index in ranked[:SHOWN_CLASSES]
            ]
            found.append({"title": title, "classes": len(ranked), "rows": rows})
    return found


def _instances(predictions: Any, outputs: Any) -> Iterator[tuple[str, Any]]:
    """The outputs of the first instances, with what each is called; whole outputs hold one row for each."""
    if isinstance(predictions, list):
        for index, prediction in enumerate(predictions[:SHOWN_INSTANCES]):
            number = f"Instance {index + 1} of {len(predictions)}" if len(predictions) > 1 else ""
            for name, value in _outputs(prediction).items():
                yield ", ".join(filter(None, (number, name))), value
    elif outputs is not None:
        for name, value in _outputs(outputs).items():
            for index, row in enumerate(value[:SHOWN_INSTANCES] if isinstance(value, list) else ()):
                number = f"row {index + 1} of {len(value)}" if len(value) > 1 else ""
                yield ", ".join(filter(None, (name, number))), row


def _ranked(value: Any, named: int = 0) -> list[tuple[float, int]] | None:
    """Scores with the numbers of their classes, highest first; None where a value looks like no scores."""
    if not isinstance(value, list) or not all(isinstance(item, Number) for item in value):
        return None
    scores = class_scores.of([item.plain() for item in value], named=len(value) == named)
    if scores is None:
        return None
    return sorted(((score, index) for index, score in enumerate(scores)), key=lambda item: (-item[0], item[1]))


def _outputs(prediction: Any) -> dict[str, Any]:
    """The outputs of one instance by name; the only output of a model has none."""
    return dict(prediction) if isinstance(prediction, dict) and set(prediction) != {"b64"} else {"": prediction}


def _member(value: Any, key: str) -> Any:
    return value.get(key) if isinstance(value, dict) else None


# ---- two answers ---------------------------------------------------------------------------------------------------


@dataclass
class _Compared:
    """One output of two answers, as far as it was gone through."""

    values: int = 0
    differing: int = 0
    largest: decimal.Decimal | None = None
    at: str = ""
    left: str = ""
    right: str = ""
    other: list[str] = field(default_factory=list)

    def add(self, path: str, left: Any, right: Any) -> None:
        """Goes through one value of both."""
        if isinstance(left, list) and isinstance(right, list):
            if len(left) != len(right):
                self.other.append(f"{path or 'the whole'}: {len(left)} and {len(right)} values")
            for index, (one, two) in enumerate(zip(left, right, strict=False)):
                self.add(f"{path}[{index}]", one, two)
        elif isinstance(left, dict) and isinstance(right, dict):
            for name in dict.fromkeys([*left, *right]):
                self.add(f"{path}.{name}", left.get(name, _MISSING), right.get(name, _MISSING))
        else:
            self.values += 1
            if isinstance(left, Number) and isinstance(right, Number):
                self._number(path, left, right)
            elif left != right:
                self.differing += 1
                self.other.append(f"{path or 'the value'}: {_shown(left)} and {_shown(right)}")

    def _number(self, path: str, left: Number, right: Number) -> None:
        one, two = left.exact(), right.exact()
        if one == two or (one.is_nan() and two.is_nan()):
            return
        self.differing += 1
        if not (one.is_finite() and two.is_finite()):
            self.other.append(f"{path or 'the value'}: {left.text} and {right.text}")
            return
        difference = _MATH.abs(_MATH.subtract(one, two))
        if self.largest is None or difference > self.largest:
            self.largest, self.at, self.left, self.right = difference, path, left.text, right.text

    def write(self, name: str) -> dict[str, Any]:
        """For the page."""
        return {
            "output": name,
            "values": self.values,
            "differing": self.differing,
            "largest": "" if self.largest is None else _written(self.largest),
            "at": self.at,
            "left": self.left,
            "right": self.right,
            "other": self.other[:3] + ([f"and {len(self.other) - 3} more"] if len(self.other) > 3 else []),
        }


def difference(left: str, right: str, named: int = 0) -> dict[str, Any]:
    """How two answers to one request differ.

    Args:
        left: body of the first.
        right: body of the second.
        named: as of :func:`bars`.

    Returns:
        ``{"problem", "outputs": [...], "classes": [{"title", "left", "right"}], "instances", "agreeing"}``: for each
        output how many values differ, the largest difference of two numbers, where it is, and both as they were
        written; for outputs that look like scores, the highest class of each instance in both.
    """
    answers = [parse(body) for body in (left, right)]
    key = next(
        (key for key in ("predictions", "outputs") if all(_member(each, key) is not None for each in answers)), ""
    )
    if not key:
        return {"problem": "not both are answers with predictions or outputs", "outputs": []}
    one, two = (answer[key] for answer in answers)
    try:
        found = {name: _compare(*values) for name, values in _by_output(one, two, key).items()}
    except RecursionError:
        return {"problem": "the answers are nested too deeply", "outputs": []}
    classes = list(_classes(one, two, named)) if key == "predictions" else []
    return {
        "problem": "",
        "outputs": [each.write(name) for name, each in found.items()],
        "classes": classes[:_COMPARED_INSTANCES],
        "instances": len(classes),
        "agreeing": sum(each["left"]["index"] == each["right"]["index"] for each in classes),
    }


def _compare(left: Any, right: Any) -> _Compared:
    found = _Compared()
    found.add("", left, right)
    return found


def _by_output(left: Any, right: Any, key: str) -> dict[str, tuple[Any, Any]]:
    """The values of each output of both answers; a prediction is an element of a list for each instance."""
    if key == "outputs":
        columns = [_outputs(each) for each in (left, right)]
    else:
        columns = [_columns(each) for each in (left, right)]
    names = dict.fromkeys([*columns[0], *columns[1]])
    return {name: (columns[0].get(name, _MISSING), columns[1].get(name, _MISSING)) for name in names}


def _columns(predictions: Any) -> dict[str, Any]:
    if not isinstance(predictions, list):
        return {"": predictions}
    found: dict[str, list[Any]] = {}
    for prediction in predictions:
        for name, value in _outputs(prediction).items():
            found.setdefault(name, []).append(value)
    return found


def _classes(left: Any, right: Any, named: int) -> Iterator[Mapping[str, Any]]:
    """The highest class in both answers, of every instance and output that looks like scores in both."""
    if not isinstance(left, list) or not isinstance(right, list):
        return
    for instance, pair in enumerate(zip(left, right, strict=False)):
        one, two = (_outputs(each) for each in pair)
        for name in one:
            ranked = _ranked(one[name], named), _ranked(two.get(name), named)
            if ranked[0] is None or ranked[1] is None or len(ranked[0]) != len(ranked[1]):
                continue
            tops = [{"index": each[0][1], "text": value[name][each[0][1]].text}
                    for each, value in zip(ranked, (one, two), strict=True) if each]  # fmt: skip
            title = ", ".join(filter(None, (f"instance {instance + 1}", name)))
            yield {"title": title, "left": tops[0], "right": tops[1]}


def _written(number: decimal.Decimal) -> str:
    """A difference: whole as it is, else to six digits."""
    if number == number.to_integral_value() and number < 10**30:
        return str(int(number))
    rounded = decimal.Context(prec=_DIGITS).create_decimal(number)
    return f"{rounded.normalize():f}" if -7 < number.adjusted() < 15 else f"{rounded.normalize():e}"


def _shown(value: Any) -> str:
    """A value that is no number, short."""
    text = "nothing" if value is _MISSING else _text(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def _text(value: Any) -> str:
    """JSON with the numbers as they were written."""
    match value:
        case Number(text):
            return text
        case list():
            return f"[{', '.join(map(_text, value))}]"
        case dict():
            return f"{{{', '.join(f'{_text(name)}: {_text(item)}' for name, item in value.items())}}}"
        case _:
            return json.dumps(value, ensure_ascii=False)
