"""Secrets out of everything that is shown: by where a value stands, by what it looks like, and by what is known.

The engine masks what is marked as secret. It cannot mask what nobody marked: a password in an environment variable of a
service, a token in a JSON string, a key in the text of an error. So whatever a command of ``ops`` publishes passes
through here first, and nothing is cut or escaped before it has.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Any
from urllib.parse import quote

from tfserving.property_values import SIGNATURE
from tfserving.secret_texts import ASSIGNMENT, MASK, PATTERNS, is_secret_name

_PUBLIC = frozenset({"sandbox", "tf-serving-sandbox"})
"""Credentials and passphrase of the sandbox, which everybody knows."""

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\))")

_SHORTEST = 5
_SHORTEST_ANYWHERE = 8
"""A known secret of at least so many characters is masked inside of words, too."""

_NAMES_BELOW = {
    "models": 1, "published": 1, "served": 2, "services": 1, "file": 1, "initial": 1, "versions": 1,
}  # fmt: skip
"""Below these keys the next so many levels of keys are names that people gave: a model may be called ``tokenizer``."""

_RANDOM = re.compile(r"[A-Za-z0-9+]{28,}={0,2}")


class Redactor:
    """Masks secrets in values and texts.

    Args:
        known: values to mask wherever they turn up.
    """

    def __init__(self, known: Iterable[str] = ()) -> None:
        self._known: set[str] = set()
        self._names: set[str] = set()
        self._pattern: re.Pattern[str] | None = None
        self.remember(known)

    def remember(self, secrets: Iterable[str]) -> None:
        """Adds values to mask wherever they turn up, also quoted, escaped or encoded."""
        for secret in secrets:
            for line in {secret.strip(), *(line.strip() for line in secret.splitlines())}:
                if len(line) >= _SHORTEST and line != MASK and line not in _PUBLIC:
                    self._known |= {
                        line,
                        json.dumps(line)[1:-1],
                        json.dumps(line, ensure_ascii=False)[1:-1],
                        quote(line, safe=""),
                        base64.b64encode(line.encode("utf-8", "surrogatepass")).decode().rstrip("="),
                    }
        parts = [_known_pattern(secret) for secret in sorted(self._known, key=len, reverse=True)]
        self._pattern = re.compile("|".join(parts)) if parts else None

    def learn(self, value: Any) -> None:
        """Remembers every value that stands where a secret stands, and what models and services are called."""
        self._names |= set(_names_in(value))
        self.remember(_secrets_in(value))

    def learn_environment(self, environment: Mapping[str, str]) -> None:
        """Remembers the credentials in the environment."""
        self.remember(value for name, value in environment.items() if is_secret_name(name) and len(value) >= 8)

    def value(self, value: Any, names: int = 0) -> Any:
        """A copy of a JSON value without its secrets.

        Args:
            value: the value.
            names: for so many levels the keys are names that people gave, and say nothing about what they hold.
        """
        if isinstance(value, dict):
            if _is_marked(value):
                return MASK
            return {
                self.text(str(key)): _masked(item) if hidden else self.value(item, below)
                for key, item, hidden, below in _items(value, names)
            }
        if isinstance(value, list):
            return [self.value(item) for item in value]
        return self.text(value) if isinstance(value, str) else value

    def text(self, text: str) -> str:
        """``text`` without its secrets, and without what turns a terminal's colours on."""
        text = uncoloured(text)
        nested = _nested_json(text)
        if nested is not None:
            return json.dumps(self.value(nested), ensure_ascii=False)
        if self._pattern is not None:
            text = self._pattern.sub(MASK, text)
        for pattern, replacement in PATTERNS:
            text = pattern.sub(replacement, text)
        text = ASSIGNMENT.sub(self._assigned, text)
        return _RANDOM.sub(lambda found: MASK if _looks_random(found.group()) else found.group(), text)

    def _assigned(self, found: re.Match[str]) -> str:
        name = found["name"]
        named = name in self._names or any(name.endswith(f".{known}") for known in self._names)
        return found.group() if named else f"{name}{found['sign']}{MASK}"


def uncoloured(text: str) -> str:
    """``text`` without the escape sequences of a terminal."""
    return _ESCAPES.sub("", text)


def _items(value: Mapping[str, Any], names: int) -> Iterator[tuple[str, Any, bool, int]]:
    """Key, item, whether it is a secret, and for how many levels the keys in it are names that people gave."""
    entry = _is_secret_entry(value)
    for key, item in value.items():
        if names:
            yield key, item, False, names - 1
        else:
            labels = key == "labels" and isinstance(item, dict) and all(isinstance(each, int) for each in item.values())
            hidden = is_secret_name(key) or (entry and str(key).lower() == "value")
            yield key, item, hidden, 1 if labels else _NAMES_BELOW.get(key, 0)


def _is_marked(value: Mapping[str, Any]) -> bool:
    return SIGNATURE in value and bool({"value", "ciphertext", "plaintext"} & value.keys())


def _known_pattern(secret: str) -> str:
    escaped = re.escape(secret)
    return escaped if len(secret) >= _SHORTEST_ANYWHERE else rf"(?<![A-Za-z0-9]){escaped}(?![A-Za-z0-9])"


def _looks_random(text: str) -> bool:
    """Upper case, lower case and digits, again and again: tokens do, names and hexadecimal digests do not."""
    classes = [0 if char.islower() else 1 if char.isupper() else 2 for char in text.rstrip("=")]
    switches = sum(one != other for one, other in pairwise(classes))
    return len(set(classes)) == 3 and switches * 4 >= len(classes)


def _nested_json(text: str) -> Any:
    """The object or list that a string holds as JSON; None where it holds none."""
    if text.lstrip()[:1] not in ("{", "["):
        return None
    try:
        nested = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return nested if isinstance(nested, dict | list) else None


def _is_secret_entry(value: Mapping[str, Any]) -> bool:
    """Whether this is ``{"name": "DB_PASSWORD", "value": ...}``, as environment variables are written."""
    return any(
        str(key).lower() in ("name", "key") and isinstance(item, str) and is_secret_name(item)
        for key, item in value.items()
    )


def _masked(value: Any) -> Any:
    """In a secret's place: what holds others keeps its shape, so that it can still be compared."""
    if isinstance(value, dict):
        return MASK if _is_marked(value) else {str(key): _masked(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_masked(item) for item in value]
    return value if value is None or value == "" else MASK


def _secrets_in(value: Any, names: int = 0, secret: bool = False) -> Iterator[str]:
    if isinstance(value, dict):
        for _, item, hidden, below in _items(value, names):
            yield from _secrets_in(item, below, secret or hidden or _is_marked(value))
    elif isinstance(value, list):
        for item in value:
            yield from _secrets_in(item, 0, secret)
    elif isinstance(value, str):
        nested = _nested_json(value)
        if nested is not None:
            yield from _secrets_in(nested, 0, secret)
        elif secret:
            yield value


def _names_in(value: Any, names: int = 0) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item, _, below in _items(value, names):
            if names:
                yield str(key)
            yield from _names_in(item, below)
    elif isinstance(value, list):
        for item in value:
            yield from _names_in(item)
