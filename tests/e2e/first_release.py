"""A state as release 0.1.0 wrote it: recorded with that release, filled with what a stack of today has deployed."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tfserving.property_values import SECRET, SIGNATURE

RECORDED: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent / "data" / "state_0_1_0.json").read_text(encoding="utf-8")
)
"""Stack ``local`` with a service more, :data:`ALONE`; secrets are marked and hold nothing."""

ALONE: dict[str, Any] = {
    "deployment": "custom",
    "image": "tensorflow-serving:2.14.1",
    "port": 8501,
    "model": "modelA",
    "batching": {"max_batch_size": 32, "num_batch_threads": 2},
}
"""The service ``alone``."""


def as_recorded(live: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The resources as 0.1.0 would have written them: its URNs, options and shapes, the values of ``live``.

    Args:
        live: resources of the same stack, with secrets as ``pulumi stack export --show-secrets`` writes them.
    """
    there = {(each["type"], _name(each)): each for each in live}
    made = []
    for recorded in RECORDED:
        # Components had another type; what is below them did not.
        kind = str(recorded["type"]).replace("tf-serving:components:", "tfserving:index:")
        found = there[kind, _name(recorded)]
        values = {key: _filled(recorded[key], found.get(key, {})) for key in ("inputs", "outputs") if key in recorded}
        is_cloud = recorded["custom"] and not recorded["type"].startswith("pulumi:")
        made.append({**recorded, **values, **({"id": found["id"]} if is_cloud else {})})
    return made


def _name(resource: dict[str, Any]) -> str:
    return str(resource["urn"]).rpartition("::")[2]


def _filled(recorded: Any, live: Any) -> Any:
    """``recorded`` with the values of ``live`` in its own shape: its keys, and numbers where it had numbers."""
    if isinstance(live, dict) and SIGNATURE in live:
        return live if isinstance(recorded, dict) and SIGNATURE in recorded else json.loads(live["plaintext"])
    if isinstance(recorded, dict) and recorded.get(SIGNATURE) == SECRET:
        return {SIGNATURE: SECRET, "plaintext": json.dumps(live)}
    if isinstance(recorded, dict) and isinstance(live, dict):
        return {key: _filled(value, live[key]) if key in live else value for key, value in recorded.items()}
    if isinstance(recorded, list) and isinstance(live, list) and len(recorded) == len(live):
        return [_filled(old, new) for old, new in zip(recorded, live, strict=True)]
    if isinstance(recorded, int) and not isinstance(recorded, bool) and isinstance(live, str):
        return int(live)
    return live
