"""Importing what this project rendered gives the same stack: every way to say a service, in many combinations."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from config.stack import Settings, parse
from ops.importing.checked import Checked, check, file_changes, service_changes
from sandbox.cloud.eas.service_json import StoredConfig
from tfserving import eas_spec, model_config, rollout, server_config
from tfserving.errors import ConfigError
from tfserving.importing import draft, models, place, service, start
from tfserving.importing.service import StartFile
from tfserving.schedule import cron_scaler

REGION = "cn-hangzhou"
CLOUD = {"alicloud:region": REGION}
OWN_LABELS = ("managed-by", "pulumi-owner", "pulumi-created-by")
ROOTS = st.sampled_from(["models/tf_serving/", "", "a/"])
NAMES = st.sampled_from(["modelA", "shoes", "m_1", "a.b"])
TEXTS = st.sampled_from(["a", "b c", "x=y", "1", "true", "ü", "'\"", ""])
COUNTS = st.integers(1, 9)
MAYBE = st.booleans()


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


@st.composite
def model_entries(draw: st.DrawFn) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for name in draw(st.lists(NAMES, min_size=1, max_size=3, unique=True)):
        versions = sorted(draw(st.sets(st.integers(0, 5) | st.integers(2**53, 2**63 - 1), min_size=1, max_size=4)))
        some = draw(st.lists(st.sampled_from(versions), min_size=1, unique=True))
        policy = draw(st.sampled_from(["all", {"specific": sorted(some)}, {"latest": draw(COUNTS)}, None]))
        entry: dict[str, Any] = {"versions": versions, **({"policy": policy} if policy else {})}
        served = model_config.read_policy(policy, "")[0].select(versions)
        entry["labels"] = draw(st.dictionaries(st.sampled_from(["stable", "canary"]), st.sampled_from(served)))
        if draw(MAYBE):
            entry["path"] = f"team-x/{name}"
        found[name] = {key: value for key, value in entry.items() if value}
    return found


PROBES = st.fixed_dictionaries(
    {"kind": st.just("tcp")}, optional={"periodSeconds": COUNTS, "failureThreshold": COUNTS, "port": st.just(8501)}
) | st.fixed_dictionaries({"kind": st.just("exec"), "command": st.lists(st.sampled_from(["ls", "-l"]), min_size=1)})
COMMON = st.fixed_dictionaries(
    {},
    optional={
        "replicas": COUNTS,
        "env": st.dictionaries(st.sampled_from(["A", "TF_X", "B.c"]), TEXTS),
        "labels": st.dictionaries(st.sampled_from(["team", "a b"]), TEXTS),
        "rollingStrategy": st.sampled_from([{"maxSurge": 2}, {"maxSurge": "20%", "maxUnavailable": 1}, {}]),
        "rpcKeepaliveMs": st.sampled_from([0, 1, 600_000]),
        "workspaceId": st.just("1234"),
        "vpc": st.just({"vpcId": "vpc-1", "vswitchIds": ["vsw-1", "vsw-2"], "securityGroupId": "sg-1"}),
        "token": st.just("secret-token"),
        "extraConfig": st.sampled_from(
            [
                {"metadata": {"shm_size": 1, "rpc": {"io_threads": 8}}},
                {
                    "storage": [{"mount_path": "/data", "nfs": {"server": "s", "path": "/"}}],
                    "networking": {"path": "/"},
                },
                {"containers": [{"readiness_check": None}, {"image": "i", "script": "x"}], "features": {"a.b/c": "1"}},
                {
                    "storage": [{"mount_path": "/models", "oss": {"endpoint": "e"}}],
                    "runtime": {"enable_crash_block": True},
                },
            ]
        ),
    },
)
PLACES = st.sampled_from(
    [
        {"instanceType": "ecs.c7.large"},
        {"instanceTypes": ["ecs.c7.large", {"type": "ecs.c7.xlarge", "spotPriceLimit": 0.5, "capacity": "20%"}]},
        {"instanceTypes": [{"type": "ecs.c7.xlarge", "spotPriceLimit": 0.5}], "disableSpotProtection": True},
        {"resource": "eas-r-1", "cpu": 4, "memory": 8000},
        {"resource": "eas-r-1", "cpu": 4, "memory": 8000, "gpuMemory": 8, "gpuCardMemory": 16, "gpuCorePercentage": 30},
        {"resource": "eas-r-1", "cpu": 4, "memory": 8000, "gpu": 1},
        {"cpu": 2, "memory": 4000},
        {},
    ]
)
AUTOSCALERS = st.fixed_dictionaries(
    {"min": st.just(1), "max": st.just(4), "metrics": st.sampled_from([{"qps": 10}, {"cpu": 60, "gpu[util]": 0.5}])},
    optional={"scaleDownStabilizationSeconds": COUNTS, "scaleToZeroGraceSeconds": COUNTS},
)
FLAGS = st.fixed_dictionaries(
    {},
    optional={
        "num_load_threads": COUNTS,
        "file_system_poll_wait_seconds": COUNTS,
        "saved_model_tags": st.just("serve,gpu"),
        "enable_model_warmup": MAYBE,
        "load_retry_interval_micros": st.just(5),
    },
)
START_FILES = st.fixed_dictionaries(
    {},
    optional={
        "batching": st.sampled_from([{"max_batch_size": 8, "allowed_batch_sizes": [4, 8]}, {"thread_pool_name": "p"}]),
        "monitoring": st.sampled_from([True, {"path": "/metrics"}, {"enable": False}]),
    },
)

SCHEDULES = st.fixed_dictionaries(
    {
        "timeZone": st.sampled_from(["Asia/Shanghai", "UTC"]),
        "jobs": st.dictionaries(
            st.sampled_from(["morning", "evening", "scale-job-1"]),
            st.fixed_dictionaries({"at": st.sampled_from(["0 0 8 * * 1-5", "0 0 */6 * * *"]), "replicas": COUNTS}),
            min_size=1,
            max_size=2,
        ),
    },
    optional={"exclude": st.just(["* * * 1 10 *"])},
)


@st.composite
def service_entries(draw: st.DrawFn, listed: dict[str, dict[str, Any]], file: str) -> dict[str, Any]:
    names = sorted(listed)
    kind = draw(st.sampled_from(["file", "file", "one", "scenario", "scenario file", "own", "own file"]))
    entry: dict[str, Any] = {**draw(COMMON), **draw(PLACES)}
    gpu = "gpuMemory" in entry or "gpu" in entry
    if scaler := draw(maybe(AUTOSCALERS)):
        entry.pop("replicas", None)
        entry["autoscaler"] = scaler
    if clock := draw(maybe(SCHEDULES)):
        entry.pop("replicas", None)
        entry["schedule"] = clock
    if check := draw(maybe(st.just(False) | st.dictionaries(st.sampled_from(["startup", "liveness"]), PROBES))):
        entry["healthCheck"] = check
    elif draw(MAYBE):
        entry["startupSeconds"] = draw(st.sampled_from([60, 900]))
    if kind.startswith("scenario"):
        entry["deployment"] = "scenario"
        entry.pop("gpuCardMemory", None)
        entry |= {"configFile": True} if kind.endswith("file") else {"model": draw(st.sampled_from(names))}
        entry.pop("startupSeconds", None)
    else:
        entry["deployment"] = "custom"
        entry["image"] = f"tensorflow-serving:2.14.1{'-gpu' if gpu else ''}"
    if kind == "file":
        entry |= {"configFile": True, "configPollSeconds": draw(COUNTS), "allowLabelsForUnavailableVersions": True}
    if kind == "one":
        entry["model"] = draw(st.sampled_from(names))
        entry |= {"modelName": entry["model"]} if draw(MAYBE) else {}
    if kind in ("file", "one"):
        entry |= {"flags": draw(FLAGS), **draw(START_FILES)}
        entry["grpc"] = draw(MAYBE)
    if kind.startswith("own"):
        entry.pop("gpuCardMemory", None)
        key, before = draw(st.sampled_from([("command", ""), ("script", "set -e\nexec "), ("script", "")]))
        entry |= {"configFile": True} if kind.endswith("file") else {"model": draw(st.sampled_from(sorted(listed)))}
        flags = f"--model_config_file=/models/{file} --allow_version_labels_for_unavailable_models=true"
        flags += " --model_config_file_poll_wait_seconds=3"
        if "model" in entry:
            directory = listed[entry["model"]].get("path", entry["model"])
            flags = f"--model_name=mine --model_base_path=/models/{directory}"
        program = draw(st.sampled_from(["tensorflow_model_server --rest_api_port=8501", eas_spec.ENTRYPOINT]))
        entry[key] = f"{before}{program} {flags} --num_load_threads=2"
        entry.pop("startupSeconds", None)
        entry["port"] = 8501
    return entry


@st.composite
def stacks(draw: st.DrawFn) -> dict[str, Any]:
    listed = draw(model_entries())
    file = draw(st.sampled_from(["model_config.pbtxt", "models.config"]))
    services = {f"service_{i}": draw(service_entries(listed, file)) for i in range(draw(st.integers(1, 3)))}
    return {
        **CLOUD,
        "tf-serving:bucket": {"name": "examplebucket", "existing": True},
        "tf-serving:modelRoot": draw(ROOTS),
        "tf-serving:configFileName": file,
        "tf-serving:models": listed,
        "tf-serving:services": services,
    }


def valid(raw: Mapping[str, Any]) -> Settings | None:
    try:
        return parse(raw, Path("/nowhere"))
    except ConfigError:
        return None


def imported(stack: Settings, jsons: Mapping[str, dict[str, Any]]) -> Checked:
    """What the import makes of a stack as its cloud shows it."""
    starts = [start.read(name, config) for name, config in jsons.items()]
    where, elsewhere = place.choose(starts)
    assert where is not None
    assert not elsewhere
    published = {model.name: model.versions for model in stack.models}
    directories = {
        f"{stack.model_root}{model.path}".removeprefix(where.root): models.Directory(
            {str(number): {"saved_model.pb"} for number in model.versions}
        ).versions()
        for model in stack.models
    }
    if where.config_file:
        text = model_config.render(rollout.pin_labelled(stack.serving, published))
        listed = models.of_file(model_config.models_in_order(text), where, directories)
    else:
        single = {place.model_directory(each, where) for each in starts}
        listed = models.of_listing({name: found for name, found in directories.items() if name in single})
    services = []
    for each, settings_ in zip(starts, stack.services, strict=True):
        files = [
            StartFile(
                file.kind,
                f"{settings_.spec.mount_path}/{file.name}",
                server_config.batching_of(file.text)
                if file.kind == "batching"
                else server_config.monitoring_of(file.text),
            )
            for file in settings_.start_files
        ]
        found = service.read(
            each,
            where,
            REGION,
            models={one.directory: one.model.name for one in listed},
            labels=any(one.model.labels for one in listed),
            autoscaler=eas_spec.autoscaler(settings_.spec),
            cron_scaler=cron_scaler(settings_.spec.schedule) if settings_.spec.schedule else None,
            start_files=tuple(files),
            own_labels=OWN_LABELS,
        )
        assert not found.lost
        assert not found.secrets
        services.append((found, {}, ()))
    return check(draft.of(where, CLOUD, [(one, ()) for one in listed], services), {})


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(stacks())
def test_importing_what_was_rendered_gives_the_same_stack(raw: dict[str, Any]) -> None:
    stack = valid(raw)
    if stack is None:
        return
    jsons = {each.name: eas_spec.build(each.spec) for each in stack.services}
    found = imported(stack, copy.deepcopy(jsons))
    assert found.problems == ()
    assert not [one for some in found.draft.entries.values() for one in some if one.disabled], found.draft
    assert found.settings is not None
    for before, after in zip(stack.services, found.settings.services, strict=True):
        wanted = {key: value for key, value in jsons[before.name].items() if key != "token"}
        assert eas_spec.build(after.spec) == wanted
        assert eas_spec.autoscaler(after.spec) == eas_spec.autoscaler(before.spec)
        assert after.spec.schedule == before.spec.schedule
        for field in ("deployment", "config_file", "model", "grpc", "env"):
            assert getattr(after.spec, field) == getattr(before.spec, field), field
        assert after.request_name == before.request_name
        assert [file.text for file in after.start_files] == [file.text for file in before.start_files]
    if stack.config_file_services:
        published = {model.name: model.versions for model in stack.models}
        assert found.settings.config_file_name == stack.config_file_name
        assert found.settings.serving == rollout.pin_labelled(stack.serving, published)
        assert {model.name: model.versions for model in found.settings.models} == published
        assert file_changes(found.settings, rollout.pin_labelled(stack.serving, published)) == []


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(stacks())
def test_what_eas_adds_to_a_service_is_all_that_an_update_could_change(raw: dict[str, Any]) -> None:
    stack = valid(raw)
    if stack is None:
        return
    stored = {
        each.name: json.loads(StoredConfig(eas_spec.build(each.spec), each.spec.replicas or 1).to_json())
        for each in stack.services
    }
    found = imported(stack, copy.deepcopy(stored))
    assert found.settings is not None
    for lines in service_changes(found.settings, "tf-serving/prod", stored).values():
        rest = [line for line in lines if not line.startswith('labels["')]
        assert all("is not declared: it goes, unless EAS adds it by itself" in line for line in rest), rest
