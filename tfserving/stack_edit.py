"""Changes a few values of a stack file and leaves every other character of it as it is.

The places of values come from the parser, and only what stands there is written anew: comments, order, quotes, line
ends and indentation stay. Where a value is shared (an anchor and its aliases, a merge key), those who share it keep
what they had. Every edit is read again, as the Pulumi CLI would, and compared with what was wanted: an edit that would
change anything else is refused.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from tfserving import stack_file
from tfserving.errors import TFServingError
from tfserving.property_path import join_path

Path = tuple[str, ...]
"""Keys from a config key, such as ``tf-serving:models``, to a value."""

REMOVED: Final = object()
"""In place of a value: the key is not there."""

_PLAIN = re.compile(r"[A-Za-z_][\w./-]*")
_WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf"}


class StackEditError(TFServingError):
    """The file cannot be changed by a program: a person has to."""


@dataclass
class _Node:
    """A value with its place in the text.

    Attributes:
        kind: ``scalar``, ``map``, ``list`` or ``alias``.
        start: index of its first character.
        end: index after its last one; of blocks, after the last of what they hold.
        flow: written with brackets.
        name: the text of a scalar, the anchor of an alias.
        anchor: its own anchor.
        items: of a list its values, of a mapping keys and values in turn.
    """

    kind: str
    start: int
    end: int
    flow: bool = False
    name: str = ""
    anchor: str = ""
    items: list[_Node] = field(default_factory=list)

    def pairs(self) -> Iterator[tuple[_Node, _Node]]:
        return zip(self.items[::2], self.items[1::2], strict=True)

    def get(self, key: str) -> tuple[_Node, _Node] | None:
        return next(((each, value) for each, value in self.pairs() if each.name == key), None)


def value_at(text: str, path: Path, project: str) -> Any:
    """What the CLI reads at a path; :data:`REMOVED` where there is nothing.

    Raises:
        StackEditError: the file cannot be read.
    """
    found: Any = _config(text, project)
    for key in path:
        if not isinstance(found, Mapping) or key not in found:
            return REMOVED
        found = found[key]
    return found


def edit(text: str, changes: Mapping[Path, Any], project: str) -> str:
    """The file with some values changed.

    Args:
        text: the file, line ends as they are.
        changes: new values by path; :data:`REMOVED` takes the key out.
        project: name of the project, the namespace of config keys without one.

    Raises:
        StackEditError: the file cannot be read, or the value is not there as text that could be changed.
    """
    for path, value in changes.items():
        if value_at(text, path, project) == value:
            continue
        wanted = copy.deepcopy(_config(text, project))
        _put(wanted, path, value)
        new = _one(text, path, value, project)
        try:
            same = _config(new, project) == wanted
        except StackEditError:
            same = False
        if not same:
            raise _by_hand(path, value, "the way it is written there is not one that a program can change")
        text = new
    return text


def _config(text: str, project: str) -> dict[str, Any]:
    try:
        document = stack_file.load(text)
    except yaml.YAMLError as error:
        raise StackEditError(f"the stack file cannot be read: {' '.join(str(error).split())}") from None
    found = document.get("config") if isinstance(document, dict) else None
    return {stack_file.full_key(key, project) or key: value for key, value in (found or {}).items()}


def _put(config: dict[str, Any], path: Path, value: Any) -> None:
    place: Any = config
    for key in path[:-1]:
        if not isinstance(place.get(key), dict):
            if place.get(key) is not None:
                raise _by_hand(path, value, f"{key} is no mapping there")
            place[key] = {}
        place = place[key]
    if value is REMOVED:
        place.pop(path[-1], None)
    else:
        place[path[-1]] = value


def _by_hand(path: Path, value: Any, why: str) -> StackEditError:
    where = _shown(path)
    todo = f"take {where} out" if value is REMOVED else f"set {where} to {_flow(value)}"
    return StackEditError(f"{where}: {why}. Fix: {todo} in the stack file by hand, then go on")


def _shown(path: Path) -> str:
    shown = path[0]
    for key in path[1:]:
        shown = join_path(shown, key)
    return shown


def _one(text: str, path: Path, value: Any, project: str) -> str:
    root = _tree(text)
    config = root.get("config") if root.kind == "map" else None
    if config is None or config[1].kind != "map":
        raise _by_hand(path, value, "the file has no config")
    at = next((i for i, key in enumerate(config[1].items[::2]) if _full(key.name, project) == path[0]), None)
    if at is None:
        return _insert(text, config[1], path[0], _nested(path[1:], value))
    trail = [(config[1], config[1].items[2 * at], config[1].items[2 * at + 1])]
    depth = 1
    while depth < len(path) and trail[-1][2].kind == "map":
        found = trail[-1][2].get(path[depth])
        if found is None:
            break
        trail.append((trail[-1][2], *found))
        depth += 1
    # What shares a part that is about to change gets a copy of its own first.
    shared = {node.anchor for _, _, node in trail if node.anchor}
    if expanded := _expanded(text, root, shared):
        return _one(expanded, path, value, project)
    parent, key, node = trail[-1]
    if depth == len(path):
        return _remove(text, parent, key, node) if value is REMOVED else _replace(text, node, value)
    rest = path[depth:]
    if node.kind == "map":
        below = value_at(text, path[: depth + 1], project)
        if below is not REMOVED:  # of a merge key: written out here, with the change
            below = copy.deepcopy(below)
            if isinstance(below, dict) and len(rest) > 1:
                _put(below, rest[1:], value)
                return _insert(text, node, rest[0], below)
        return _insert(text, node, rest[0], _nested(rest[1:], value))
    if node.kind == "alias" or (node.kind == "scalar" and not text[node.start : node.end].strip("~")):
        here = copy.deepcopy(value_at(text, path[:depth], project)) or {}
        if isinstance(here, dict):
            _put(here, rest, value)
            return _replace(text, node, here)
    raise _by_hand(path, value, f"{_shown(path[:depth])} is no mapping")


def _full(key: str, project: str) -> str:
    return stack_file.full_key(key, project) or key


def _nested(path: Path, value: Any) -> Any:
    for key in reversed(path):
        value = {key: value}
    return value


# ---- the text ------------------------------------------------------------------------------------------------------


def _tree(text: str) -> _Node:
    events = iter(yaml.parse(text, Loader=yaml.SafeLoader))
    for event in events:
        if isinstance(event, yaml.DocumentStartEvent):
            return _node(next(events), events)
    raise StackEditError("the stack file is empty")


def _node(event: yaml.Event, events: Iterator[yaml.Event]) -> _Node:
    start, end = _index(event.start_mark), _index(event.end_mark)
    if isinstance(event, yaml.AliasEvent):
        return _Node("alias", start, end, name=event.anchor or "")
    anchor = getattr(event, "anchor", None) or ""
    if isinstance(event, yaml.ScalarEvent):
        return _Node("scalar", start, end, name=event.value, anchor=anchor)
    kind = "map" if isinstance(event, yaml.MappingStartEvent) else "list"
    node = _Node(kind, start, end, bool(getattr(event, "flow_style", False)), anchor=anchor)
    for inner in events:
        if isinstance(inner, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            # A block ends where the next token begins, comments and blank lines later: its last item says it better.
            node.end = _index(inner.end_mark) if node.flow or not node.items else node.items[-1].end
            break
        node.items.append(_node(inner, events))
    return node


def _index(mark: Any) -> int:
    """Where a mark stands in the text; the stubs allow for events without any, which the parser does not make."""
    return int(mark.index)


def _walk(node: _Node) -> Iterator[_Node]:
    yield node
    for item in node.items:
        yield from _walk(item)


def _expanded(text: str, root: _Node, anchors: set[str]) -> str:
    """The text with the aliases of some anchors written out; empty where there are none."""
    targets = {node.anchor: node for node in _walk(root) if node.anchor in anchors}
    aliases = [node for node in _walk(root) if node.kind == "alias" and node.name in targets]
    for alias in sorted(aliases, key=lambda node: node.start, reverse=True):
        written = _flow(_loaded(text, root, targets[alias.name]))
        text = text[: alias.start] + written + text[alias.end :]
    return text if aliases else ""


def _loaded(text: str, root: _Node, node: _Node) -> Any:
    """The value of a node, with what it takes from others."""
    if node.kind == "alias":
        return _loaded(text, root, next(each for each in _walk(root) if each.anchor == node.name))
    if node.kind == "list":
        return [_loaded(text, root, item) for item in node.items]
    if node.kind == "scalar":
        source = text[node.start : node.end]
        return stack_file.load(source.removeprefix(f"&{node.anchor}") if node.anchor else source)
    return {key.name: _loaded(text, root, value) for key, value in node.pairs()}


def _replace(text: str, node: _Node, value: Any) -> str:
    if node.kind in ("map", "list") and not node.flow and node.items:
        in_lines = node.kind == "list" and isinstance(value, list)
        if in_lines and (changed := _block_list(text, node, value)) is not None:
            return changed
        # A block stands on lines of its own, below its key. What takes its place goes behind the key, before a comment.
        colon = text.rindex(":", 0, node.start)
        comment = text[colon + 1 : node.start].partition("\n")[0].rstrip()
        ending = text[node.end - 1 : node.end] if text[node.end - 1] == "\n" else ""
        return f"{text[: colon + 1]} {_flow(value)}{comment}{ending}{text[node.end :]}"
    blank = "" if node.start != node.end else " "
    return text[: node.start] + blank + _flow(value) + text[node.end :]


def _block_list(text: str, node: _Node, value: Sequence[Any]) -> str | None:
    """A list with one line per item, items added at its end or taken out; None where more changes than that."""
    old = [stack_file.load(text[item.start : item.end]) for item in node.items]
    added = list(value[len(old) :]) if list(value[: len(old)]) == old else []
    if added:
        lead = _line_lead(text, node.items[-1].start)
        if not lead.rstrip().endswith("-"):
            return None
        return _after(text, node.items[-1].end, "".join(f"{lead}{_flow(item)}\n" for item in added))
    if value and [item for item in old if item in value] == list(value):
        for item, loaded in reversed(list(zip(node.items, old, strict=True))):
            if loaded not in value:
                text = _without_lines(text, item.start, item.end)
        return text
    return None


def _line_lead(text: str, at: int) -> str:
    return text[text.rfind("\n", 0, at) + 1 : at]


def _after(text: str, at: int, lines: str) -> str:
    """``lines`` put after the line that ``at`` is on, with the file's line ends."""
    ending = "\r\n" if "\r\n" in text else "\n"
    lines = lines.replace("\n", ending)
    if at and text[at - 1] == "\n":
        return text[:at] + lines + text[at:]
    line_end = text.find("\n", at)
    if line_end < 0:  # no final newline, and there is none afterwards either
        return text + ending + lines.removesuffix(ending)
    return text[: line_end + 1] + lines + text[line_end + 1 :]


def _without_lines(text: str, start: int, end: int) -> str:
    first = text.rfind("\n", 0, start) + 1
    if end and text[end - 1] == "\n":
        return text[:first] + text[end:]
    last = text.find("\n", end)
    return text[:first].removesuffix("\n").removesuffix("\r") if last < 0 else text[:first] + text[last + 1 :]


def _insert(text: str, node: _Node, key: str, value: Any) -> str:
    written = f"{_flow(key)}: {_flow(value)}"
    if node.flow or not node.items:
        if not node.items:
            return text[: node.start] + f"{{{written}}}" + text[node.end :]
        return text[: node.items[-1].end] + f", {written}" + text[node.items[-1].end :]
    lead = _line_lead(text, node.items[0].start)
    if lead.strip():  # the first key stands behind a dash, an anchor or a question mark
        lead = _line_lead(text, node.items[2].start) if len(node.items) > 2 else " " * len(lead)
    return _after(text, node.end, f"{lead}{written}\n")


def _remove(text: str, parent: _Node, key: _Node, node: _Node) -> str:
    if len(parent.items) == 2:
        return _replace(text, parent, {})
    if not parent.flow:
        return _without_lines(text, key.start, node.end)
    at = parent.items.index(key)
    if at:
        return text[: parent.items[at - 1].end] + text[node.end :]
    return text[: key.start] + text[parent.items[2].start :]


def _flow(value: Any) -> str:
    """A value on one line of YAML, as a person would write it."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_flow(str(key))}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_flow, value)) + "]"
    if isinstance(value, str):
        return (
            value if _PLAIN.fullmatch(value) and value.lower() not in _WORDS else json.dumps(value, ensure_ascii=False)
        )
    if value is None:
        return "null"
    return json.dumps(value)
