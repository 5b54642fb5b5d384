"""Which engine holds a stack on this machine, told from what their states say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from sandbox import paths

Engine = Literal["sandbox", "pulumi"]


def deployed(engine: Engine, stack: str, root: Path | None = None) -> bool:
    """Whether an engine's state holds resources: a stack that was only made, or is destroyed again, is nobody's.

    Args:
        engine: the sandbox engine, or the Pulumi CLI with the backend that `make cloud` names.
        stack: the stack's own name.
        root: the project directory; None: this one.
    """
    state = paths.ENGINE_STATE if root is None else root / ".sandbox" / "state"
    backend = paths.PULUMI_BACKEND if root is None else root / ".sandbox" / "pulumi"
    if engine == "sandbox":
        return _holds_resources(state / f"{stack}.json")
    return any(_holds_resources(file) for file in backend.glob(f".pulumi/stacks/**/{stack}.json"))


def _holds_resources(state: Path) -> bool:
    try:
        document = json.loads(state.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return False
    except (OSError, ValueError):
        return True  # not known to be empty
    deployment = document.get("deployment") or (document.get("checkpoint") or {}).get("latest") or {}
    return bool(deployment.get("resources") or deployment.get("pending_operations"))
