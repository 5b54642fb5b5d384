"""Reads values of the stack config, of whatever type they arrive, and notes every problem instead of stopping at one.

``pulumi config set`` and the CLI hand scalars over as text, so ``"8501"`` is a whole number and ``"true"`` a boolean
wherever one is expected. Nothing else is converted.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from tfserving import wire
from tfserving.errors import Problem
from tfserving.model_config import did_you_mean, unknown_keys
from tfserving.property_path import join_path
from tfserving.shown import shown

_INTEGER = re.compile(r"[-+]?[0-9]{1,39}")  # more than any int64 has: what is out of range is said to be so
_NUMBER = re.compile(r"[-+]?([0-9]{1,39}(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]{1,2})?")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_LONGEST_SHOWN = 80
_MOST = 2**31 - 1
_FEW = 12


class Reader:
    """Typed access to config values. Every method returns a usable value, whatever it was given.

    Attributes:
        problems: what was wrong with the values read so far, in the order they were read.
        secret: the values may hold secrets, so problems name their types and never show them.
    """

    def __init__(self, *, secret: bool = False) -> None:
        self.problems: list[Problem] = []
        self.secret = secret

    def add(self, path: str, message: str, allowed: str = "", fix: str = "") -> None:
        """Note one problem."""
        self.problems.append(Problem(path, message, allowed, fix))

    def show(self, value: object) -> str:
        """``value`` for a message: cut to one short line, or only its type where it may be secret."""
        if self.secret and value is not None:
            return f"this {_type_name(value)}"
        text = shown(value)
        return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."

    def text(self, value: Any, path: str, default: str = "", *, allowed: str = "text", lines: bool = False) -> str:
        """A string. Numbers are taken as they are written; ``None`` is the default.

        Args:
            value: as configured.
            path: where it stands.
            default: returned for ``None`` and for what is no text.
            allowed: for the problem.
            lines: line breaks are fine.
        """
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            self.add(path, f"{self.show(value)} is not a text", allowed)
            return default
        if not self.exact(value, path):
            return default
        text = value if isinstance(value, str) else _plain_number(value)
        if _CONTROL.search(text) or (not lines and "\n" in text):
            self.add(path, f"{self.show(text)} holds a control character or a line break", allowed)
            return default
        if not lines and text != text.strip():
            self.add(path, f"{self.show(text)} begins or ends with blanks", allowed, "remove the blanks")
        return text

    def exact(self, value: Any, path: str) -> bool:
        """Whether a number that is to be a text still has the digits it was written with; a problem where not.

        The Pulumi CLI reads what fits neither int64 nor uint64 as floating point, and hands over other digits.
        """
        whole = isinstance(value, float) and value.is_integer()
        fits = -(2**63) <= value < 2**64 if isinstance(value, int) else not whole or abs(value) <= wire.EXACT
        if not fits:
            message = f"{self.show(value)} is a number whose digits tools change, because it is so large"
            self.add(path, message, "text, or a number of 64 bits", "write it in quotes")
        return fits

    def choice(self, value: Any, path: str, choices: tuple[str, ...]) -> str:
        """One of ``choices``; the first one where the value is none of them."""
        text = value if isinstance(value, str) else ""
        if text not in choices:
            fix = did_you_mean(text, choices) if text else ""
            message = "nothing is written here" if value is None else f"{self.show(value)} is not allowed here"
            self.add(path, message, " or ".join(choices), fix)
            return choices[0]
        return text

    def integer(
        self,
        value: Any,
        path: str,
        default: int = 0,
        *,
        least: int | None = None,
        most: int = _MOST,
        unit: str = "",
    ) -> int:
        """A whole number from ``least`` to ``most``; without a ``most``, what servers and APIs keep in an int32."""
        allowed = (
            "a whole number" + (f" of {unit}" if unit else "") + (f", {least} or more" if least is not None else "")
        )
        highest = f", at most {most}"
        allowed, beyond = (allowed, f"{allowed}{highest}") if most == _MOST else (f"{allowed}{highest}",) * 2
        if value is None:
            return default
        number: int | None = None
        if isinstance(value, int) and not isinstance(value, bool):
            number = value
        elif (isinstance(value, float) and value.is_integer()) or (
            isinstance(value, str) and _INTEGER.fullmatch(value)
        ):
            number = int(value)
        if number is None:
            self.add(path, f"{self.show(value)} is not a whole number", allowed)
            return default
        if isinstance(value, float) and abs(number) > wire.EXACT:
            message = f"{self.show(value)} is a floating-point number, whose last digits are lost above 2^53"
            self.add(path, message, allowed, "write all digits, without a point or an exponent")
            return default
        if not -most - 1 <= number <= most:
            message = f"the number is out of range: {self.show(number)}"
            fix = f"use a number up to {most}" if number > 0 else f"use a number from {-most - 1} on"
            self.add(path, message, beyond, fix)
            return default
        if least is not None and number < least:
            self.add(path, f"{self.show(number)} is too low", allowed)
            return default
        return number

    def optional_integer(self, value: Any, path: str, *, least: int | None = None, unit: str = "") -> int | None:
        """A whole number, or ``None`` where there is no value."""
        return None if value is None else self.integer(value, path, least or 0, least=least, unit=unit)

    def number(
        self,
        value: Any,
        path: str,
        default: float = 0.0,
        *,
        allowed: str = "a number above 0",
        zero: bool = False,
        most: float | None = None,
    ) -> float:
        """A finite number above 0, up to ``most``; with ``zero``, 0 as well."""
        number: float | None = None
        if isinstance(value, int | float) and not isinstance(value, bool):
            number = float(value) if abs(value) < 1e300 else None
        elif isinstance(value, str) and _NUMBER.fullmatch(value):
            number = float(value)
        too_large = number is not None and most is not None and number > most
        if number is None or not math.isfinite(number) or number < 0 or not (number or zero) or too_large:
            self.add(path, f"{self.show(value)} is not allowed here", allowed)
            return default
        return int(number) if number.is_integer() else number

    def boolean(self, value: Any, path: str, default: bool = False) -> bool:
        """``true`` or ``false``."""
        if value is None:
            return default
        if isinstance(value, bool):
            return value
        if value in ("true", "false"):
            return bool(value == "true")
        self.add(path, f"{self.show(value)} is neither true nor false", "true, false")
        return default

    def scalar(self, value: Any, path: str) -> str | int | float | bool:
        """Text, number or boolean, with text that reads as a number or boolean converted."""
        if isinstance(value, bool):
            return value
        if isinstance(value, int | float) and (isinstance(value, int) or math.isfinite(value)):
            return int(value) if isinstance(value, float) and value.is_integer() else value
        if not isinstance(value, str):
            self.add(path, f"{self.show(value)} is not a single value", "text, a number, true or false")
            return ""
        if value in ("true", "false"):
            return value == "true"
        if _INTEGER.fullmatch(value):
            return int(value)
        return float(value) if _NUMBER.fullmatch(value) else value

    def mapping(self, value: Any, path: str, keys: Iterable[str] | None = None, allowed: str = "") -> dict[str, Any]:
        """A mapping with string keys; text is read as JSON, which is how structured config reaches a program.

        Args:
            value: as configured; ``None`` is an empty mapping.
            path: where it stands.
            keys: the only keys it may have; ``None``: any.
            allowed: for the problem of something that is no mapping.
        """
        if value is None:
            return {}
        if isinstance(value, str) and value.lstrip()[:1] == "{":
            value = self._json(value, path)
            if value is None:
                return {}
        known = None if keys is None else tuple(keys)
        if not isinstance(value, Mapping):
            few = known is not None and len(known) <= _FEW
            allowed = allowed or (f"a mapping of {', '.join(known or ())}" if few else "a mapping of keys and values")
            fix = "remove the key: without it there is none" if value in (False, "false") else ""
            self.add(path, f"{self.show(value)} is not a mapping", allowed, fix)
            return {}
        if known is not None:
            found = unknown_keys(value, known, path)
            if len(known) > _FEW:  # where a close key is known, forty others are no help
                found = [replace(problem, allowed="") if problem.fix else problem for problem in found]
            self.problems += found
        return {str(key): item for key, item in value.items()}

    def items(self, value: Any, path: str, allowed: str) -> list[tuple[str, Any]]:
        """The entries of a list, each with its path; ``None`` is an empty list, text may be a JSON list.

        An entry that is ``null`` stands for no default, and is a problem: YAML has it for a dash with nothing behind.
        """
        if value is None:
            return []
        if isinstance(value, str) and value.lstrip()[:1] == "[":
            value = self._json(value, path)
        if isinstance(value, list | tuple):
            found = [(f"{path}[{index}]", item) for index, item in enumerate(value)]
            return [(at, item) for at, item in found if self._is_given(item, at, allowed, "remove it")]
        if value is not None:
            self.add(path, f"{self.show(value)} is not a list", allowed)
        return []

    def texts(self, value: Any, path: str, allowed: str) -> tuple[str, ...]:
        """A list of non-empty strings."""
        found = []
        for at, item in self.items(value, path, allowed):
            text = self.text(item, at, allowed=allowed)
            if text:
                found.append(text)
            elif item == "":
                self.add(at, "the entry is empty", allowed, "remove it")
        return tuple(found)

    def values(self, value: Any, path: str, allowed: str = "") -> list[tuple[str, str, Any]]:
        """The entries of a mapping whose keys are the user's: key, path and value; one that is ``null`` is a problem.

        Args:
            value: as configured; ``None`` is an empty mapping.
            path: where it stands.
            allowed: for the problem of something that is no mapping.
        """
        entries = [(key, join_path(path, key), item) for key, item in self.mapping(value, path, None, allowed).items()]
        fix = "write a value, or remove the key"
        return [(key, at, item) for key, at, item in entries if self._is_given(item, at, allowed, fix)]

    def _is_given(self, item: Any, path: str, allowed: str, fix: str) -> bool:
        if item is None:
            self.add(path, "the entry is empty", allowed, fix)
        return item is not None

    def same_but_for_case(self, names: Iterable[str], path: str, what: str) -> None:
        """Note names that differ only in case or blanks: YAML keeps them apart, people do not."""
        seen: dict[str, str] = {}
        for name in names:
            key = name.strip().lower()
            if key in seen:
                message = f"{what} {name!r} differs from {seen[key]!r} only in case or blanks"
                self.add(
                    join_path(path, name), message, fix=f"rename one of them, or remove it if it is the same {what}"
                )
            seen.setdefault(key, name)

    def _json(self, text: str, path: str) -> Any:
        doubles: list[str] = []

        def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
            counted: dict[str, Any] = {}
            for key, item in found:
                if key in counted:
                    doubles.append(key)
                counted[key] = item
            return counted

        try:
            value = json.loads(text, object_pairs_hook=pairs)
        except (ValueError, RecursionError) as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else "too large or too deep"
            self.add(path, f"the text is not valid JSON: {reason}")
            return None
        for key in doubles:
            self.add(path, f"key {key!r} is written twice: only the last would count", fix="keep one")
        return value


def _plain_number(value: int | float) -> str:
    return str(wire.whole(value) if abs(value) < wire.EXACT else value)


def _type_name(value: object) -> str:
    names = {bool: "boolean", int: "number", float: "number", str: "text", list: "list", dict: "mapping"}
    return names.get(type(value), "value")


def whole_numbers(value: Any) -> Any:
    """``value`` with texts that are whole numbers turned into such, at any depth."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,39}", value):
        return int(value)
    if isinstance(value, Mapping):
        return {key: whole_numbers(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [whole_numbers(item) for item in value]
    return value
