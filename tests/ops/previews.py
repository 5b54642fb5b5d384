"""Previews as the engines print them, put together from the states of resources."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from typing import Any

from ops import digest
from ops.redact import Redactor

MODELS: dict[str, Any] = {
    "modelA": {"basePath": "/models/modelA", "platform": "tensorflow", "policy": "all", "labels": {}},
    "modelB": {
        "basePath": "/models/modelB",
        "platform": "tensorflow",
        "policy": {"specific": [1, 2]},
        "labels": {"stable": 1, "canary": 2},
    },
}
SERVED = {
    "multi_http": {
        "modelA": {"versions": [1], "labels": {}},
        "modelB": {"versions": [1, 2], "labels": {"stable": 1, "canary": 2}},
    }
}
SCRIPT = "/usr/bin/tf_serving_entrypoint.sh --model_config_file=/models/model_config.pbtxt --num_load_threads=2"
REGISTRY = "eas-registry-vpc.cn-hangzhou.cr.aliyuncs.com/pai-eas"


def urn(kind: str, name: str) -> str:
    return f"urn:pulumi:dev::tf-serving::tf-serving:components:Some${kind}::{name}"


def state(inputs: Mapping[str, Any], outputs: Mapping[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {"custom": True, "inputs": dict(inputs), "outputs": dict(outputs or {}), **more}


def step(
    op: str,
    kind: str,
    name: str,
    old: dict[str, Any] | None = None,
    new: dict[str, Any] | None = None,
    diff: Mapping[str, str] | None = None,
    of_outputs: tuple[str, ...] = (),
    replace: tuple[str, ...] = (),
) -> dict[str, Any]:
    """One step of a preview; ``diff``: property path to kind of change."""
    return {
        "op": op,
        "urn": urn(kind, name),
        **({"oldState": old} if old else {}),
        **({"newState": new} if new else {}),
        **({"replaceReasons": list(replace)} if replace else {}),
        "detailedDiff": {p: {"kind": k, "inputDiff": p not in of_outputs} for p, k in diff.items()} if diff else None,
    }


def document(*steps: dict[str, Any], diagnostics: tuple[dict[str, str], ...] = (), **more: Any) -> str:
    """A preview as JSON."""
    counts: dict[str, int] = {}
    for each in steps:
        if each["op"] not in ("create-replacement", "delete-replaced"):
            counts[each["op"]] = counts.get(each["op"], 0) + 1
    return json.dumps(
        {"config": {}, "steps": steps, "diagnostics": diagnostics, "duration": 1, "changeSummary": counts, **more}
    )


def parsed(*steps: dict[str, Any], **more: Any) -> digest.Digest:
    return digest.parse(document(*steps, **more), Redactor())


def served_inputs(models: Mapping[str, Any] = MODELS, served: Mapping[str, Any] = SERVED) -> dict[str, Any]:
    return copy.deepcopy(
        {
            "models": models,
            "file": models,
            "served": served,
            "published": {"modelA": [1], "modelB": [1, 2]},
            "services": {"multi_http": {"token": "[secret]", "url": "http://127.0.0.1:1/x"}},
        }
    )


def promotion() -> dict[str, Any]:
    """``modelB: label stable 1 -> 2``."""
    old, new = served_inputs(), served_inputs()
    for part in ("models", "file"):
        new[part]["modelB"]["labels"]["stable"] = 2
    return step(
        "update",
        "tfserving:index:ServedConfig",
        "served",
        state(old, {"served": SERVED, "file": MODELS, "obsolete": {}}),
        state(new),
        {"models.modelB.labels.stable": "update"},
    )


def service_spec(**more: Any) -> dict[str, Any]:
    return {
        "containers": [{"image": f"{REGISTRY}/tensorflow-serving:2.14.1", "port": 8500, "script": SCRIPT, **more}],
        "metadata": {"instance": 1, "name": "multi_grpc"},
    }


def service_inputs(**more: Any) -> dict[str, Any]:
    return {"name": "multi_grpc", "spec": service_spec(**more), "probe": {"protocol": "grpc"}, "status": "Running"}
