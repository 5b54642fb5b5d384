"""The shape of a service JSON: what an import reads of it is checked here, once, before anything looks into it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from tfserving.errors import Problem
from tfserving.property_path import join_path
from tfserving.secret_texts import holds_secret, is_secret_name
from tfserving.wire import whole

_DEEPEST = 50
_SHOWN = 60
_NUMBER = re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,15})?")
_BOOLEANS = {"true": True, "false": False}
_HALF_CHARACTER = re.compile(r"[\ud800-\udfff]")
_ALLOWED = {
    "text": "a text",
    "scalar": "a text, a number or a boolean",
    "boolean": "true or false",
    "count": "a whole number, 0 or more",
    "number": "a number, 0 or more",
    "count or text": "a whole number, 0 or more, or a text",
    "texts": "a text, or a list of texts",
}


@dataclass(frozen=True)
class _Leaf:
    kind: Literal["text", "scalar", "boolean", "count", "number", "count or text", "texts"]


@dataclass(frozen=True)
class _Object:
    """Keys whose values an import reads. Others may hold anything, unless ``others`` says what."""

    keys: Mapping[str, _Shape] = field(default_factory=dict)
    others: _Shape | None = None
    required: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Objects:
    """A list of objects, told apart by one of their keys where there is an ``identity``."""

    item: _Object
    identity: str = ""


_Shape = _Leaf | _Object | _Objects

_TEXT, _SCALAR, _BOOLEAN, _COUNT, _AMOUNT = map(_Leaf, ("text", "scalar", "boolean", "count", "number"))  # type: ignore[arg-type]
_CHECK = _Object(
    {
        "http_get": _Object({"path": _TEXT, "port": _COUNT}),
        "tcp_socket": _Object({"port": _COUNT}),
        "exec": _Object({"command": _Leaf("texts")}),
        "initial_delay_seconds": _COUNT,
        "period_seconds": _COUNT,
        "timeout_seconds": _COUNT,
        "success_threshold": _COUNT,
        "failure_threshold": _COUNT,
    }
)
_SERVICE = _Object(
    {
        "name": _TEXT,
        "workspace_id": _SCALAR,
        "processor": _SCALAR,
        "metadata": _Object(
            {
                "name": _TEXT,
                "instance": _COUNT,
                "cpu": _AMOUNT,
                "memory": _AMOUNT,
                "gpu": _AMOUNT,
                "gpu_memory": _AMOUNT,
                "gpu_core_percentage": _AMOUNT,
                "resource": _SCALAR,
                "workspace_id": _SCALAR,
                "enable_grpc": _BOOLEAN,
                "rpc": _Object({"keepalive": _COUNT}),
                "rolling_strategy": _Object(
                    {"max_surge": _Leaf("count or text"), "max_unavailable": _Leaf("count or text")}
                ),
            }
        ),
        "cloud": _Object(
            {
                "computing": _Object(
                    {
                        "instance_type": _TEXT,
                        "instances": _Objects(
                            _Object(
                                {"type": _TEXT, "spot_price_limit": _AMOUNT, "capacity": _Leaf("count or text")},
                            )
                        ),
                        "disable_spot_protection_period": _BOOLEAN,
                    }
                ),
                "networking": _Object({"vpc_id": _TEXT, "vswitch_id": _TEXT, "security_group_id": _TEXT}),
            }
        ),
        "networking": _Object({"gateway": _SCALAR}),
        "containers": _Objects(
            _Object(
                {
                    "image": _TEXT,
                    "port": _COUNT,
                    "script": _TEXT,
                    "command": _TEXT,
                    "env": _Objects(_Object({"name": _TEXT, "value": _SCALAR}, required=("name",)), "name"),
                    "startup_check": _CHECK,
                    "liveness_check": _CHECK,
                    "readiness_check": _CHECK,
                }
            )
        ),
        "storage": _Objects(
            _Object({"mount_path": _TEXT, "oss": _Object({"path": _TEXT, "readOnly": _BOOLEAN})}), "mount_path"
        ),
        "labels": _Object(others=_SCALAR),
    }
)


def read(config: object) -> tuple[dict[str, Any], list[Problem]]:
    """A service JSON in the shape that an import reads, and what is wrong with it.

    Another spelling that EAS takes becomes the usual one: ``"2"`` a number, and a number that is a label a text.
    ``null`` is a key that is left out.

    Args:
        config: whatever stands in the JSON.

    Returns:
        The service JSON, and problems with paths in the JSON; with problems, nothing is to be made of it.
    """
    if not isinstance(config, Mapping):
        return {}, [Problem("the JSON", f"it is {_shown(config, '')}, and no service JSON", _OBJECT, _EXPORT)]
    if problems := list(_unreadable(config)):
        return {}, problems
    problems = []
    found = _read(config, _SERVICE, "", problems)
    metadata = found.get("metadata") if isinstance(found, Mapping) else None
    if not problems and not name_of(found):
        path = "name" if metadata is not None and not isinstance(metadata, Mapping) else "metadata.name"
        problems.append(Problem(path, "is missing", "the name of the service", _EXPORT))
    return found, problems


def name_of(config: Mapping[str, Any]) -> str:
    """The name in a service JSON of the right shape; empty without one."""
    return str((config.get("metadata") or {}).get("name") or config.get("name") or "")


_OBJECT = "an object with `metadata`, `containers` and `storage`"
_EXPORT = "take the JSON of one service as the console shows it, or the answer of DescribeService"


def _unreadable(config: Mapping[str, Any]) -> Iterator[Problem]:
    """What no stack file can hold, wherever it stands."""
    pending: list[tuple[str, int, object]] = [("", 0, config)]
    while pending:
        path, depth, value = pending.pop()
        if depth > _DEEPEST:
            yield Problem(path, f"is nested more than {_DEEPEST} levels deep", f"at most {_DEEPEST} levels")
            return
        items: list[tuple[object, object]] = []
        if isinstance(value, Mapping):
            items = [(key, item) for key, item in value.items()]
            for key in value:
                if _HALF_CHARACTER.search(str(key)):
                    yield Problem(path or "the JSON", f"key {json.dumps(key)} holds half of a character", "whole ones")
        elif isinstance(value, list):
            items = list(enumerate(value))
        elif isinstance(value, str) and _HALF_CHARACTER.search(value):
            yield Problem(path, f"{_shown(value, path)} holds half of a character", "whole characters")
        elif isinstance(value, float) and not math.isfinite(value):
            yield Problem(path, f"{value} is no number of JSON", "a number with an end")
        pending += [(_below(path, key), depth + 1, item) for key, item in reversed(items)]


def _read(value: Any, shape: _Shape, path: str, problems: list[Problem]) -> Any:
    if isinstance(shape, _Leaf):
        found = _leaf(value, shape.kind)
        if found is None:
            problems.append(Problem(path, f"{_shown(value, path)} is not {_ALLOWED[shape.kind]}", _ALLOWED[shape.kind]))
        return found
    if isinstance(shape, _Objects):
        if not isinstance(value, list):
            one = isinstance(value, Mapping) and bool(value.keys() & shape.item.keys.keys())
            fix = "put it in brackets" if one else f"write each as {_keys(shape.item)}"
            problems.append(Problem(path, f"{_shown(value, path)} is not a list", "a list of objects", fix))
            return []
        items = [_read(item, shape.item, f"{path}[{index}]", problems) for index, item in enumerate(value)]
        problems += _twice(items, shape.identity, path)
        return items
    if not isinstance(value, Mapping):
        problems.append(Problem(path, f"{_shown(value, path)} is not an object", _keys(shape)))
        return {}
    found = {}
    for key, item in value.items():
        inner = shape.keys.get(key, shape.others)
        found[key] = item if inner is None or item is None else _read(item, inner, _below(path, key), problems)
    for key in shape.required:
        if found.get(key) in (None, ""):
            problems.append(Problem(_below(path, key), "is missing", "a text", "add it, or take the element out"))
    return found


def _twice(items: list[Any], identity: str, path: str) -> Iterator[Problem]:
    """Elements that bear the same name: a stack file has one of each."""
    seen: dict[str, int] = {}
    for index, item in enumerate(items):
        name = item.get(identity) if identity else None
        if isinstance(name, str) and name:
            name = name.rstrip("/") or "/" if identity == "mount_path" else name
            if name in seen:
                message = f"{_shown(name, path)} is that of {path}[{seen[name]}] as well"
                yield Problem(f"{path}[{index}].{identity}", message, "each one once", "take one of the two out")
            seen.setdefault(name, index)


def _leaf(value: Any, kind: str) -> Any:
    """The value as its kind has it; ``None`` where it is none of that kind."""
    if kind == "texts":
        texts = value if isinstance(value, list) else [value]
        return value if all(isinstance(item, str) for item in texts) else None
    if kind == "text":
        return value if isinstance(value, str) else None
    if kind == "boolean":
        return value if isinstance(value, bool) else _BOOLEANS.get(value.lower()) if isinstance(value, str) else None
    if kind == "scalar":
        text = str(value).lower() if isinstance(value, bool) else str(value)
        return text if isinstance(value, str | int | float) else None
    number = whole(value)
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        number = whole(float(value)) if "." in value else int(value)
    fits = isinstance(number, int | float) and not isinstance(number, bool) and number >= 0
    if fits and (kind == "number" or isinstance(number, int)):
        return number
    return value if kind == "count or text" and isinstance(value, str) else None


def _below(path: str, key: object) -> str:
    if isinstance(key, int):
        return f"{path}[{key}]"
    shown = _HALF_CHARACTER.sub("\ufffd", str(key))
    return join_path(path, shown).removeprefix(".")


def _keys(shape: _Object) -> str:
    return f"an object with {', '.join(f'`{key}`' for key in shape.keys)}" if shape.keys else "an object"


def _shown(value: object, path: str) -> str:
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, str) and (holds_secret(value) or is_secret_name(path)):
        return "a text that may hold a secret"
    text = json.dumps(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
