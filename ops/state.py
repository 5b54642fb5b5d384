"""A stack's state, from whichever engine holds it: what was deployed, when, and where it runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ops.engine import PROJECT_DIR, Engine, resolve, run
from ops.stack_names import refused
from tfserving.contract import integers
from tfserving.errors import TFServingError
from tfserving.property_values import SECRET, SIGNATURE

SERVED_CONFIG = "tfserving:index:ServedConfig"
SERVED_MODEL = "tfserving:index:ServedModel"


class StateError(TFServingError):
    """The state cannot be read."""


@dataclass(frozen=True)
class Resource:
    """One resource of a stack; version numbers are ``int``, secrets are in clear.

    Attributes:
        kind: its type.
        name: its own name.
        id: its id in the cloud; empty for components.
        inputs: what the stack asks for.
        outputs: what was made of it.
        modified: when it was last changed, as ISO 8601; empty where the engine does not say.
    """

    kind: str
    name: str
    id: str
    inputs: Mapping[str, Any] = field(repr=False)
    outputs: Mapping[str, Any] = field(repr=False)
    modified: str = ""


def read(stack: str, engine: Engine = "auto", project_dir: Path = PROJECT_DIR) -> list[Resource]:
    """The resources of a stack. They hold secrets, so never print them whole.

    Raises:
        EngineError: the engine is not there.
        StateError: it refuses.
    """
    sandbox = resolve(stack, engine, project_dir) == "sandbox"
    done = run(stack, [*(["export"] if sandbox else ["stack", "export"]), "--show-secrets"], engine, project_dir)
    if done.code != 0:
        raise StateError(refused(stack, "state", done.reason, project_dir))
    try:
        resources = json.loads(done.out)["deployment"].get("resources") or []
        return [_resource(each) for each in resources if not each.get("delete")]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StateError(f"the state of stack {stack!r} is in no form that is known here: {error}") from None


def _resource(raw: Mapping[str, Any]) -> Resource:
    kind = str(raw["type"])
    return Resource(
        kind,
        str(raw["urn"]).rpartition("::")[2],
        str(raw.get("id") or ""),
        integers.decode(kind, _plain(raw.get("inputs") or {})),
        integers.decode(kind, _plain(raw.get("outputs") or {})),
        str(raw.get("modified") or ""),
    )


def _plain(value: Any) -> Any:
    """Without the marks of secrets."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.get(SIGNATURE) == SECRET:
        return _plain(json.loads(value.get("plaintext") or "null"))
    return {key: _plain(item) for key, item in value.items()}
