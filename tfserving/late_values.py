"""Values that are known only while an update runs, such as the id of a VPC that the same program makes.

Specs and their checks work on plain values. A late value takes part as a text of the right form, its stand-in
(``vpc-late5f0c9a81z``), wherever a spec carries it: as a whole, or inside a longer text such as an OSS path. When the
spec has become the inputs of a resource, :func:`put_back` sets the real value in its place.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

_MARK = re.compile(r"late[0-9a-f]{12}z")


@dataclass
class LateValues:
    """The late values of one component, by their stand-ins.

    Attributes:
        values: each value by the word that marks it.
        forms: the stand-in of each word: the text in which it stands.
        lists: words of values that are lists of texts.
    """

    values: dict[str, Any] = field(default_factory=dict)
    forms: dict[str, str] = field(default_factory=dict)
    lists: set[str] = field(default_factory=set)

    def stand_in(self, value: Any, path: str, form: str, *, is_list: bool = False) -> str:
        """A text that stands for ``value``; the same for the same path, whatever else is late.

        Args:
            value: the late value.
            path: where it was given.
            form: what texts there look like, ``{}`` for the part that differs: ``vpc-{}``.
            is_list: the value is a list of such texts.
        """
        word = f"late{hashlib.sha256(path.encode()).hexdigest()[:12]}z"
        self.values[word] = value
        self.forms[word] = form.format(word)
        if is_list:
            self.lists.add(word)
        return self.forms[word]

    def __bool__(self) -> bool:
        return bool(self.values)


def is_stand_in(text: str) -> bool:
    """Whether a text stands for a late value, or holds one that does."""
    return _MARK.search(text) is not None


def put_back(found: Any, late: LateValues, join: Callable[[list[Any]], Any]) -> Any:
    """``found`` with late values where their stand-ins are, at any depth; keys are left alone.

    A mapping of a stand-in to itself stands for a late mapping. The stand-in of a late list is the list where it is the
    only entry of one, and a text elsewhere.

    Args:
        found: texts, numbers, lists and mappings.
        late: the values.
        join: makes one late text of parts, texts and late values, in their order; of a list with commas.
    """
    if not late:
        return found
    if isinstance(found, str):
        return _text(found, late, join)
    if isinstance(found, Mapping):
        if len(found) == 1:
            key, value = next(iter(found.items()))
            if key == value and isinstance(key, str) and (word := _whole(key, late)):
                return late.values[word]
        return {key: put_back(value, late, join) for key, value in found.items()}
    if isinstance(found, list | tuple):
        if len(found) == 1 and isinstance(found[0], str) and (word := _whole(found[0], late)) in late.lists:
            return late.values[word]
        return [put_back(value, late, join) for value in found]
    return found


def _whole(text: str, late: LateValues) -> str:
    """The word of a text that is a stand-in and nothing else; empty for other texts."""
    match = _MARK.search(text)
    return match[0] if match and late.forms.get(match[0]) == text else ""


def _text(text: str, late: LateValues, join: Callable[[list[Any]], Any]) -> Any:
    word = _whole(text, late)
    if word and word not in late.lists:
        return late.values[word]
    parts = list(_parts(text, late))
    return text if all(isinstance(part, str) for part in parts) else join(parts)


def _parts(text: str, late: LateValues) -> Iterator[Any]:
    """A text cut into what is known and late values."""
    rest = text
    while match := _MARK.search(rest):
        form = late.forms.get(match[0])
        start = rest.find(form) if form else -1
        if form is None or start < 0:
            yield rest[: match.end()]
            rest = rest[match.end() :]
            continue
        if start:
            yield rest[:start]
        yield late.values[match[0]]
        rest = rest[start + len(form) :]
    if rest:
        yield rest
