"""Whatever stands in a stack file, the answer is settings or a ConfigError."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from config.stack import parse
from tfserving.errors import ConfigError, Problem

WORDS = st.sampled_from(
    [
        "",
        " ",
        "all",
        "latest",
        "specific",
        "true",
        "1",
        "-1",
        "8500",
        "1.5",
        "modelA",
        "../x",
        "/",
        "{}",
        "[",
        "a\nb",
        "%",
    ]
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | WORDS
    | st.sampled_from([10**400, -0.0])
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8) | WORDS, inner, max_size=4),
    max_leaves=12,
)
KEYS = [
    *(f"tf-serving:{key}" for key in ("endpoint", "endpoints", "bucket", "modelRoot", "modelSource", "rolloutSeconds")),
    *("tf-serving:models", "tf-serving:services"),
    *(f"alicloud:{key}" for key in ("region", "protocol", "accountType", "skipRegionValidation", "accessKey")),
    *(f"alicloud:{key}" for key in ("secretKey", "securityToken", "profile", "clientReadTimeout", "endpoints")),
]
# Every key a service can have, so that each is spoilt in turn.
SERVICE: dict[str, Any] = {
    "deployment": "custom",
    "image": "tensorflow-serving:2.14.1-gpu",
    "model": "modelA",
    "modelName": "fashion",
    "port": 8501,
    "grpc": False,
    "configFile": False,
    "mountPath": "/models",
    "configPollSeconds": 0,
    "allowLabelsForUnavailableVersions": False,
    "replicas": 1,
    "cpu": 4,
    "memory": 8000,
    "gpu": 0,
    "gpuMemory": 8,
    "gpuCorePercentage": 50,
    "gpuCardMemory": 16,
    "resource": "eas-r-1",
    "instanceType": "dedicated_resource",
    "instanceTypes": [{"type": "ecs.c7.large", "spotPriceLimit": 1, "capacity": "20%"}, "ecs.c7.xlarge"],
    "disableSpotProtection": True,
    "vpc": {"vpcId": "vpc-1", "vswitchIds": ["vsw-1"], "securityGroupId": "sg-1"},
    "gateway": "gw-1",
    "autoscaler": {"min": 1, "max": 2, "metrics": {"qps": 5}, "scaleUpStabilizationSeconds": 1},
    "schedule": {
        "timeZone": "UTC",
        "jobs": {"night": {"at": "0 0 1 * * *", "replicas": 1}},
        "exclude": ["* * * 1 1 *"],
    },
    "rollingStrategy": {"maxSurge": 1, "maxUnavailable": "10%"},
    "healthCheck": {"startup": {"kind": "exec", "command": ["true"], "port": 1, "path": "/"}},
    "startupSeconds": 60,
    "env": {"A": "b"},
    "flags": {"num_load_threads": 2},
    "batching": {"max_batch_size": 8, "allowed_batch_sizes": [4, 8]},
    "monitoring": {"path": "/metrics", "enable": True},
    "command": "tensorflow_model_server --port=8500",
    "script": "echo",
    "rpcKeepaliveMs": 1,
    "workspaceId": "1",
    "token": "t",
    "labels": {"a": "b"},
    "extraConfig": {"metadata": {"a": 1}, "containers": [{"env": [{"name": "x", "value": "y"}]}], "storage": [{}]},
    "reachable": True,
    "adopt": False,
    "timeouts": {"create": "1m"},
}


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a structure."""
    yield at
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in children:
        yield from places(item, (*at, key))


def check(config: dict[str, Any], project: Path) -> None:
    """Parses ``config``; anything but a ConfigError in full words goes through."""
    problems: tuple[Problem, ...] = ()
    try:
        parse(config, project)
    except ConfigError as error:
        problems = error.problems
        str(error).encode()
    assert all(problem.path and problem.message for problem in problems)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(config=st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=10), JSON, max_size=len(KEYS)))
def test_any_values_of_the_known_keys(project: Path, config: dict[str, Any]) -> None:
    check(config, project)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_good_config_with_anything_in_one_place(project: Path, good: dict[str, Any], data: st.DataObject) -> None:
    config = copy.deepcopy(good)
    kept = data.draw(st.sets(st.sampled_from(sorted(SERVICE))))
    config["tf-serving:services"]["other"] = {key: copy.deepcopy(SERVICE[key]) for key in sorted(kept)}
    config["tf-serving:endpoints"] = {"oss": "127.0.0.1:1", "eas": "127.0.0.1:1"}
    config["tf-serving:models"]["modelD"] = {"source": "models/modelA", "versions": [1]}
    *parents, last = data.draw(st.sampled_from([place for place in places(config) if place]))
    at = config
    for key in parents:
        at = at[key]
    value = data.draw(JSON)
    if isinstance(at, dict) and data.draw(st.booleans()):
        at[data.draw(st.text(max_size=8))] = value
    else:
        at[last] = value
    check(config, project)
    if data.draw(st.booleans()):
        texts = {key: item if isinstance(item, str) else json.dumps(item) for key, item in config.items()}
        check(texts, project)
