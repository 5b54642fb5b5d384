"""Services and what they serve, against the sandbox's EAS with real model servers behind its gateway."""

from __future__ import annotations

import copy
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import grpc
import pytest
from alibabacloud_eas20210701 import models as eas
from google.protobuf import empty_pb2
from pulumi.runtime.proto import engine_pb2

from sandbox import paths
from tests.provider.harness import (
    ENTRYPOINT,
    OWNER,
    Cloud,
    Engine,
    Failed,
    LocalModels,
    Plugin,
    Stack,
    config,
)
from tests.waiting import until
from tfserving import client, model_config
from tfserving.errors import ServiceNotFoundError
from tfserving.property_values import Secret, plain

pytestmark = pytest.mark.slow

ROOT = "served/"
KEY = f"{ROOT}model_config.pbtxt"
FLAGS = (
    " --model_config_file=/models/model_config.pbtxt --allow_version_labels_for_unavailable_models=true"
    " --max_num_load_retries=0 --num_load_threads=2"
)
POLL = " --model_config_file_poll_wait_seconds=1"


def spec(cloud: Cloud, *, port: int = 8501, flags: str = FLAGS + POLL, replicas: int = 1) -> dict[str, Any]:
    found: dict[str, Any] = {
        "metadata": {"instance": replicas},
        "cloud": {"computing": {"instance_type": "ecs.c7.large"}},
        "containers": [{"image": "tensorflow-serving:2.14.1", "port": port, "script": f"{ENTRYPOINT}{flags}"}],
        "storage": [{"mount_path": "/models", "oss": {"path": f"oss://{cloud.bucket}/{ROOT}", "readOnly": True}}],
    }
    if port == 8500:
        found["metadata"]["enable_grpc"] = True
        found["networking"] = {"path": "/"}
    return found


def service(cloud: Cloud, name: str, **options: Any) -> dict[str, Any]:
    built = spec(cloud, **options)
    protocol = "grpc" if options.get("port") == 8500 else "http"
    return {"name": name, "spec": built, "owner": OWNER, "probe": {"protocol": protocol, "models": ["m", "n"]}}


def model(name: str, policy: Any, **labels: int) -> dict[str, Any]:
    return {"basePath": f"/models/{name}", "platform": "tensorflow", "policy": policy, "labels": labels}


START = {"m": model("m", {"specific": [1, 2]}, stable=1, canary=2), "n": model("n", "all")}


@dataclass
class World:
    """Everything a stack has, up: models m (1, 2) and n (1), two replicas over HTTP, one over gRPC."""

    plugin: Plugin
    cloud: Cloud
    models: LocalModels
    m: Stack
    n: Stack
    file: Stack
    http: Stack
    grpc: Stack
    served: Stack

    def wanted(self, models: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
        published = {
            name: sorted(map(int, stack.inputs["versions"]))
            for name, stack in (("m", self.m), ("n", self.n))
            if name in models
        }
        services = {
            stack.id: {
                "url": stack.outputs["url"],
                "target": stack.outputs["target"],
                "token": stack.outputs["token"],
                "reads": True,
                "pollSeconds": 1,
                "reachable": True,
            }
            for stack in (self.http, self.grpc)
        }
        return {
            "bucket": self.cloud.bucket,
            "key": KEY,
            "owner": OWNER,
            "models": dict(models),
            "published": published,
            "services": services,
            "waitSeconds": 240,
        } | changes

    def roll(self, models: Mapping[str, Any], **changes: Any) -> str:
        return self.served.up(self.wanted(models, **changes))

    def publish(self, name: str) -> None:
        stack = self.m if name == "m" else self.n
        stack.up(self.models.inputs(name, self.cloud.bucket, ROOT))

    def connect(self, stack: Stack) -> client.ModelClient:
        outputs = plain(stack.outputs)
        return client.connect(url=outputs["url"] or None, target=outputs["target"] or None, token=outputs["token"])

    def answer(self, label: str | None = None, version: int | None = None, name: str = "m") -> set[float]:
        """By what each service multiplies, asked several times so that every replica is heard."""
        found = set()
        for stack in (self.http, self.grpc):
            with self.connect(stack) as connection:
                for _ in range(4):
                    found |= set(connection.predict(name, [1.0], label=label, version=version).outputs)
        return found


@pytest.fixture(scope="module")
def world(clouded: Plugin, cloud: Cloud, model_store: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    models = LocalModels(model_store, tmp_path_factory.mktemp("project") / "models")
    yield from make_world(clouded, cloud, models)


def make_world(clouded: Plugin, cloud: Cloud, models: LocalModels, grpc_replicas: int = 1) -> Iterator[World]:
    """A world, up; gone afterwards."""
    for name, version in (("m", 1), ("m", 2), ("n", 1)):
        models.add(name, version)
    stacks = {
        "m": Stack(clouded, "PublishedModel"),
        "n": Stack(clouded, "PublishedModel"),
        "file": Stack(clouded, "ModelConfigFile"),
        "http": Stack(clouded, "EasService"),
        "grpc": Stack(clouded, "EasService"),
        "served": Stack(clouded, "ServedConfig"),
    }
    made = World(clouded, cloud, models, **stacks)
    made.publish("m")
    made.publish("n")
    made.file.up({"bucket": cloud.bucket, "key": KEY, "owner": OWNER, "initial": START})
    starts = (
        threading.Thread(target=made.http.up, args=(service(cloud, "world_http", replicas=2),)),
        threading.Thread(target=made.grpc.up, args=(service(cloud, "world_grpc", port=8500, replicas=grpc_replicas),)),
    )
    for start in starts:
        start.start()
    for start in starts:
        start.join()
    assert (made.http.id, made.grpc.id) == ("world_http", "world_grpc")
    yield made
    for stack in (made.served, made.http, made.grpc, made.file, made.m, made.n):
        if stack.id:
            stack.destroy()
    assert not cloud.keys(ROOT)


@pytest.fixture
def fresh(world: World) -> World:
    """The world with the start's config in force."""
    world.roll(START)
    return world


@pytest.fixture(scope="module")
def spare(clouded: Plugin, world: World) -> Iterator[Stack]:
    """A service that tests may change and stop."""
    made = Stack(clouded, "EasService")
    made.up(service(world.cloud, "spare_one"))
    yield made
    made.destroy()


# ---- services ------------------------------------------------------------------------------------------------------


def test_a_service_has_an_address_and_a_token_that_work(world: World) -> None:
    assert world.http.outputs["url"].endswith("/api/predict/world_http")
    assert world.http.outputs["target"] == ""
    assert isinstance(world.http.outputs["token"], Secret)
    assert world.grpc.outputs["url"] == ""
    assert world.grpc.outputs["target"].startswith("127.0.0.1:")
    assert world.answer(version=2) == {2.0}


def test_an_untouched_service_has_no_drift_although_eas_adds_defaults(world: World) -> None:
    for stack in (world.http, world.grpc):
        assert stack.refresh() == {}
        assert stack.up(stack.inputs) == "same"
    assert "rolling_strategy" in world.http.outputs["baseline"]["metadata"]


def test_the_token_is_nowhere_in_the_clear(world: World, log: Engine) -> None:
    token = plain(world.http.outputs["token"])
    assert len(token) > 8
    hidden = {name: value for name, value in world.http.outputs.items() if name != "token"}
    assert token not in json.dumps(plain(hidden))
    world.http.refresh()
    assert not any(token in message.message for message in log.messages)


def test_a_setting_changed_by_hand_shows_by_its_path_and_is_put_back(spare: Stack, cloud: Cloud) -> None:
    inputs = service(cloud, spare.id)
    changed = copy.deepcopy(inputs["spec"])
    changed["metadata"] |= {"name": spare.id, "cpu": 4}
    changed["labels"] = {"managed-by": "pulumi", "pulumi-owner": OWNER}
    changed["containers"][0]["env"] = [{"name": "DEBUG", "value": "1"}]
    cloud.eas().replace(spare.id, changed)
    until(lambda: cloud.eas().describe(spare.id).status == "Running")
    assert set(spare.refresh()) == {"spec.metadata.cpu", "spec.containers[0].env"}
    assert spare.up(inputs) == "update"
    assert spare.refresh() == {}
    assert "env" not in cloud.eas().describe(spare.id).config["containers"][0]


def test_a_key_that_left_the_spec_leaves_the_service_and_the_token_stays(spare: Stack, cloud: Cloud) -> None:
    inputs = service(cloud, spare.id)
    inputs["spec"]["metadata"]["shm_size"] = 1
    spare.up(inputs)
    token = spare.outputs["token"]
    assert cloud.eas().describe(spare.id).config["metadata"]["shm_size"] == 1
    assert spare.up(service(cloud, spare.id)) == "update"
    assert "shm_size" not in cloud.eas().describe(spare.id).config["metadata"]
    assert spare.outputs["token"] == token
    assert spare.refresh() == {}


def test_a_stopped_service_is_drift_and_is_started(spare: Stack, cloud: Cloud) -> None:
    cloud.stop(spare.id)
    until(lambda: cloud.eas().describe(spare.id).status == "Stopped")
    assert set(spare.refresh()) == {"status"}
    assert spare.outputs["status"] == "Stopped"
    assert spare.up(service(cloud, spare.id)) == "update"
    assert spare.outputs["status"] == "Running"


def by_hand(cloud: Cloud, name: str, call: str, request: Any) -> None:
    """Something about a service that is no part of its JSON."""
    getattr(cloud.eas()._client, call)("cn-hangzhou", name, request)


def test_a_traffic_weight_of_nothing_is_told_by_every_look_and_no_other_weight_is(
    spare: Stack, cloud: Cloud, log: Engine
) -> None:
    for weight, state, told in ((0, "standalone", False), (50, "grouping", False), (0, "grouping", True)):
        log.messages.clear()
        by_hand(cloud, spare.id, "release_service", eas.ReleaseServiceRequest(weight=weight, traffic_state=state))
        assert spare.refresh() == {}
        warned = [line for line in log.lines() if "gets no request through its group: its traffic weight is 0" in line]
        assert bool(warned) is told
    by_hand(cloud, spare.id, "release_service", eas.ReleaseServiceRequest(weight=100, traffic_state="standalone"))


def test_a_safety_lock_is_told_by_the_preview_of_a_change_that_it_forbids(
    clouded: Plugin, spare: Stack, cloud: Cloud
) -> None:
    news = service(cloud, spare.id)
    news["spec"]["metadata"]["shm_size"] = 2

    def preview() -> None:
        clouded.update("EasService", spare.id, spare.inputs, spare.outputs, news, preview=True)

    by_hand(cloud, spare.id, "update_service_safety_lock", eas.UpdateServiceSafetyLockRequest(lock="dangerous"))
    assert spare.refresh() == {}
    preview()  # EAS forbids to stop and to delete it, no more
    by_hand(cloud, spare.id, "update_service_safety_lock", eas.UpdateServiceSafetyLockRequest(lock="all"))
    try:
        assert spare.refresh() == {}  # nothing is to change, so the lock is in nobody's way
        with pytest.raises(Failed, match=r"safety lock 'all'.* refuses every change of it\. Fix: take the lock off"):
            preview()
        with pytest.raises(Failed, match="no right is missing"):
            spare.up(news)
    finally:
        by_hand(cloud, spare.id, "update_service_safety_lock", eas.UpdateServiceSafetyLockRequest(lock="none"))
    preview()


def test_a_cron_scaler_that_nobody_declared_is_seen_by_nobody_as_the_docs_say(spare: Stack, cloud: Cloud) -> None:
    job = eas.CreateServiceCronScalerRequestScaleJobs(name="night", schedule="0 0 1 * * *", target_size=2)
    request = eas.CreateServiceCronScalerRequest(scale_jobs=[job])
    by_hand(cloud, spare.id, "create_service_cron_scaler", request)
    assert spare.refresh() == {}
    cloud.eas()._client.delete_service_cron_scaler("cn-hangzhou", spare.id)
    text = " ".join((paths.ROOT / "docs" / "operations.md").read_text(encoding="utf-8").split())
    assert (
        "are not looked at: a traffic weight other than 0, an autoscaler or a schedule that the stack does not "
        "declare, a safety lock while nothing changes"
    ) in text


def test_an_autoscaler_is_set_changed_and_removed_and_its_replicas_are_no_drift(spare: Stack, cloud: Cloud) -> None:
    scaler = {"min": 1, "max": 2, "scaleStrategies": [{"metricName": "qps", "threshold": 100}]}
    inputs = service(cloud, spare.id) | {"autoscaler": scaler, "autoscaled": True}
    assert spare.up(inputs) == "update"
    assert cloud.eas().autoscaler(spare.id)["max"] == 2
    assert spare.refresh() == {}
    cloud.eas().set_autoscaler(spare.id, scaler | {"max": 4}, exists=True)
    assert set(spare.refresh()) == {"autoscaler.max"}
    assert spare.up(inputs) == "update"
    assert cloud.eas().autoscaler(spare.id)["max"] == 2
    assert spare.up(service(cloud, spare.id)) == "update"
    assert cloud.eas().autoscaler(spare.id) is None


def job(name: str, schedule: str, size: int) -> dict[str, Any]:
    return {"name": name, "schedule": schedule, "targetSize": size, "timeZone": "Asia/Tokyo"}


def test_a_cron_scaler_is_set_changed_and_removed_and_the_size_it_sets_is_no_drift(spare: Stack, cloud: Cloud) -> None:
    clock = {"scaleJobs": [job("now", "* * * * * *", 2), job("new-year", "0 0 0 1 1 *", 1)]}
    inputs = service(cloud, spare.id) | {"cronScaler": clock, "autoscaled": True}
    assert spare.up(inputs) == "update"
    eas_api = cloud.eas()
    found = eas_api.cron_scaler(spare.id)
    assert found == clock, "with the time zone, which the SDK's own models drop"
    until(lambda: eas_api.describe(spare.id).total == 2, what="the job")
    assert spare.refresh() == {}
    assert spare.up(inputs) == "same"
    # An update of something else keeps the size that the clock set.
    longer = copy.deepcopy(inputs)
    longer["spec"]["metadata"]["rpc"] = {"keepalive": 70_000}
    assert spare.up(longer) == "update"
    assert eas_api.describe(spare.id).total == 2
    # Jobs that somebody changed are drift, and put right.
    other = {"scaleJobs": [clock["scaleJobs"][0], job("mine", "0 0 3 * * *", 1)], "excludeDates": ["* * * 1 10 *"]}
    eas_api.set_cron_scaler(spare.id, other, exists=True)
    assert set(spare.refresh()) == {"cronScaler.scaleJobs[1].name", "cronScaler.scaleJobs[1].schedule"} | {
        "cronScaler.excludeDates"
    }
    assert spare.up(longer) == "update"
    assert eas_api.cron_scaler(spare.id) == clock
    eas_api.delete_cron_scaler(spare.id)
    assert "cronScaler.scaleJobs" in spare.refresh()
    assert spare.up(longer) == "update"
    assert eas_api.cron_scaler(spare.id) is not None
    # Without it the size is the spec's again.
    assert spare.up(service(cloud, spare.id)) == "update"
    assert eas_api.cron_scaler(spare.id) is None
    assert eas_api.describe(spare.id).total == 1


def test_bounds_that_the_clock_moved_are_no_drift_and_new_ones_are_set(spare: Stack, cloud: Cloud) -> None:
    scaler = {"min": 1, "max": 2, "scaleStrategies": [{"metricName": "qps", "threshold": 100}]}
    clock = {"scaleJobs": [job("now", "* * * * * *", 3)]}
    inputs = service(cloud, spare.id) | {"cronScaler": clock, "autoscaler": scaler, "autoscaled": True}
    assert spare.up(inputs) == "update"
    eas_api = cloud.eas()
    until(lambda: eas_api.autoscaler(spare.id)["max"] == 3, what="the job that moves the bounds")
    assert spare.refresh() == {}
    assert spare.up(inputs) == "same"
    wider = inputs | {"autoscaler": scaler | {"max": 5}}
    assert spare.up(wider) == "update"
    assert eas_api.autoscaler(spare.id)["max"] == 5
    assert spare.up(service(cloud, spare.id)) == "update"
    assert (eas_api.autoscaler(spare.id), eas_api.cron_scaler(spare.id)) == (None, None)


@pytest.mark.parametrize(
    ("clock", "path"),
    [
        ({"scaleJobs": []}, "cronScaler.scaleJobs"),
        ({"scaleJobs": [job("a", "0 1 * * *", 1)]}, "cronScaler.scaleJobs[0].schedule"),
        ({"scaleJobs": [job("a", "0 0 1 * * *", 1), job("a", "0 0 2 * * *", 1)]}, "cronScaler.scaleJobs[1].name"),
        ({"scaleJobs": [job("a", "0 0 1 * * *", -1)]}, "cronScaler.scaleJobs[0].targetSize"),
        ({"scaleJobs": [job("a", "0 0 1 * * *", 1)], "excludeDates": ["new year"]}, "cronScaler.excludeDates[0]"),
    ],
)
def test_what_no_cron_scaler_can_be_is_refused_in_the_preview(
    spare: Stack, cloud: Cloud, clock: dict[str, Any], path: str
) -> None:
    _, failures = spare.plugin.check("EasService", service(cloud, spare.id) | {"cronScaler": clock})
    assert list(failures) == [path]


def test_a_half_made_service_of_ours_is_taken_up_and_one_of_another_stack_refused(
    clouded: Plugin, world: World, cloud: Cloud, extra: Callable[[], Stack], log: Engine
) -> None:
    stack = extra()
    inputs = service(cloud, "twice_made")
    stack.up(inputs)
    again = Stack(clouded, "EasService")
    assert again.up(inputs) == "create"
    assert any("taken over" in line for line in log.lines())
    other = inputs | {"owner": "tf-serving/other"}
    for preview in (True, False):
        with pytest.raises(Failed, match=r"belongs to tf-serving/test. Fix: choose another name, or set adopt: true"):
            clouded.create("EasService", other, preview=preview)
    smaller = copy.deepcopy(other | {"adopt": True})
    smaller["spec"]["metadata"]["instance"] = 2
    log.messages.clear()
    clouded.create("EasService", smaller, preview=True)
    first, *told = log.lines()
    assert first == "service twice_made exists already (Running): it is taken over, which changes"
    # The sandbox EAS shows the workspace at the top and in the metadata; a service keeps it whatever is written.
    assert not any("workspace_id" in line for line in told)
    assert sorted(line for line in told if "not declared" not in line) == [
        '  labels.pulumi-owner: "tf-serving/test" -> "tf-serving/other"',
        "  metadata.instance: 1 -> 2",
    ]
    id_, outputs = clouded.create("EasService", other | {"adopt": True})
    assert (id_, outputs["owner"]) == ("twice_made", "tf-serving/other")
    assert set(stack.refresh()) >= {"owner"}
    with pytest.raises(Failed, match="belongs to tf-serving/other now, so it is not deleted"):
        stack.destroy()
    clouded.delete("EasService", id_, other, outputs)
    stack.id = ""


def test_a_service_that_cannot_start_fails_with_events_log_and_its_partial_state(
    world: World, cloud: Cloud, extra: Callable[[], Stack]
) -> None:
    stack = extra()
    inputs = service(cloud, "broken_one", flags=" --model_base_path=/models/nothing --file_system_poll_wait_seconds=x")
    inputs["spec"]["token"] = Secret("a-secret-token-of-ours")
    inputs["spec"]["containers"][0]["startup_check"] = {
        "tcp_socket": {"port": 8501},
        "period_seconds": 1,
        "failure_threshold": 3,
    }
    with pytest.raises(Failed, match="service broken_one is Failed") as failed:
        stack.up(inputs)
    assert "newest events of broken_one" in failed.value.message
    assert "a-secret-token-of-ours" not in failed.value.message
    assert stack.id == "broken_one"
    assert stack.outputs["serviceId"]
    fixed = service(cloud, "broken_one")
    fixed["spec"]["token"] = Secret("a-secret-token-of-ours")
    assert stack.up(fixed) == "update"
    assert plain(stack.outputs["token"]) == "a-secret-token-of-ours"


def test_waiting_for_a_service_ends_when_the_time_is_over_and_when_cancelled(
    engine: tuple[Engine, str], world: World, cloud: Cloud, extra: Callable[[], Stack]
) -> None:
    hangs = " --model_config_file=/models/model_config.pbtxt --port=1 --rest_api_port=8501"
    inputs = service(cloud, "hanging_one", flags=hangs)
    inputs["spec"]["storage"][0]["oss"]["path"] = f"oss://{cloud.bucket}/empty/"
    cloud.put(
        "empty/model_config.pbtxt",
        "model_config_list { config { name: 'x' base_path: '/models/x' model_platform: 'tensorflow' } }",
    )
    stack = extra()
    began = time.monotonic()
    with pytest.raises(Failed, match=r"service hanging_one is still Waiting and not Running after \d+ s") as failed:
        stack.up(inputs, timeout=12)
    for part in (
        "[0/1] instances are ready",
        "newest events of hanging_one",
        "Started the model server",
        "log lines of",
    ):
        assert part in failed.value.message
    assert time.monotonic() - began < 100
    assert stack.id == "hanging_one"
    interrupted = Plugin(*engine)
    interrupted.configure(**config(cloud.endpoint))
    threading.Timer(1, lambda: interrupted.call("Cancel", empty_pb2.Empty())).start()
    began = time.monotonic()
    with pytest.raises(Failed, match="cancelled"):
        Stack(interrupted, "EasService", stack.id, stack.inputs, stack.outputs).up(inputs)
    assert time.monotonic() - began < 100
    interrupted.stop()


def test_a_service_can_be_imported_without_a_difference(clouded: Plugin, world: World) -> None:
    id_, inputs, outputs = clouded.read("EasService", "world_http", {}, {})
    assert id_ == "world_http"
    assert inputs["owner"] == OWNER
    assert Stack(clouded, "EasService", id_, inputs, outputs).diff(inputs).detailedDiff == {}


def test_an_imported_service_settles_and_its_token_is_in_no_input(clouded: Plugin, world: World) -> None:
    token = world.cloud.eas().describe("world_http").token
    id_, inputs, outputs = clouded.read("EasService", "world_http", {}, {})
    assert token
    assert token not in str(inputs)
    assert outputs["token"] == Secret(token)
    assert Stack(clouded, "EasService", id_, inputs, outputs).refresh() == {}


def test_a_replacement_under_the_same_name_does_not_delete_what_it_took_over(
    clouded: Plugin, later: Plugin, cloud: Cloud, extra: Callable[[], Stack], log: Engine
) -> None:
    original = extra()
    original.up(service(cloud, "kept_alive"))
    replacing = Stack(clouded, "EasService")
    replacing.up(service(cloud, "kept_alive"))
    released = {key: value for key, value in original.outputs.items() if key != "createdBy"}  # as 0.1.0 left it
    for state in (original.outputs, released):
        later.delete("EasService", original.id, original.inputs, state)
        assert any("service kept_alive stays: a newer resource" in line for line in log.lines())
        assert cloud.eas().describe("kept_alive") is not None
    assert replacing.refresh() == {}
    replacing.destroy()
    assert cloud.eas().describe("kept_alive") is None


def test_a_service_that_a_killed_replacement_took_over_is_taken_back_by_the_next_update(
    clouded: Plugin, world: World, cloud: Cloud, extra: Callable[[], Stack]
) -> None:
    """A run was killed after the create of a replacement, and before the state knew of it."""
    original = extra()
    original.up(service(cloud, "taken_back"))
    Stack(clouded, "EasService").up(service(cloud, "taken_back"))
    assert set(original.refresh()) == {"createdBy"}
    assert original.up(original.inputs) == "update"
    assert original.refresh() == {}
    original.destroy()
    assert cloud.eas().describe("taken_back") is None


def test_a_service_that_is_gone_reads_as_gone(clouded: Plugin, world: World) -> None:
    assert clouded.read("EasService", "never_made", service(world.cloud, "never_made"), {})[0] == ""
    clouded.delete("EasService", "never_made", service(world.cloud, "never_made"), {})


# ---- what is served ------------------------------------------------------------------------------------------------


def test_what_is_served_is_reported_and_a_second_run_changes_nothing(fresh: World, log: Engine) -> None:
    expected = {"m": {"versions": [1, 2], "labels": {"canary": 2, "stable": 1}}, "n": {"versions": [1], "labels": {}}}
    assert fresh.served.outputs["served"] == {"world_http": expected, "world_grpc": expected}
    log.messages.clear()
    assert fresh.roll(START) == "same"
    assert fresh.served.refresh() == {}
    assert log.lines(engine_pb2.INFO) == []


def test_a_preview_names_the_change_and_the_steps_and_writes_nothing(fresh: World, log: Engine) -> None:
    before = fresh.cloud.get(KEY)
    moved = START | {"m": model("m", {"specific": [2]}, stable=2)}
    outputs = fresh.plugin.update(
        "ServedConfig", fresh.served.id, fresh.served.inputs, fresh.served.outputs, fresh.wanted(moved), preview=True
    )
    assert "m: label stable 1 -> 2" in log.lines()
    assert "m: - label canary (was 2)" in log.lines()
    assert [line.split(":")[0] for line in log.lines() if line.startswith("step")] == [
        "step 1 of 2, move",
        "step 2 of 2, narrow",
    ]
    assert outputs["served"]["world_http"]["m"] == {"versions": [2], "labels": {"stable": 2}}
    assert fresh.cloud.get(KEY) == before


def test_promotion_and_rollback_move_the_label_on_every_replica_in_one_write(fresh: World, log: Engine) -> None:
    promoted = START | {"m": model("m", {"specific": [1, 2]}, stable=2, canary=2)}
    assert fresh.roll(promoted) == "update"
    assert fresh.answer(label="stable") == {2.0}
    assert [line for line in log.lines() if line.startswith("step")] == ["step 1 of 1, move: m: label stable 1 -> 2"]
    assert fresh.roll(START) == "update"
    assert fresh.answer(label="stable") == {1.0}


def test_no_request_fails_while_versions_come_labels_move_and_versions_go(fresh: World) -> None:
    failures: list[str] = []
    counted = 0
    done = threading.Event()

    def load(stack: Stack, label: str | None) -> None:
        nonlocal counted
        with fresh.connect(stack) as connection:
            while not done.is_set():
                try:
                    connection.predict("m", [1.0], label=label)
                    counted += 1
                except Exception as error:
                    failures.append(f"{stack.id} {label}: {error}")
                time.sleep(0.005)

    loads = [
        threading.Thread(target=load, args=(stack, label))
        for stack in (fresh.http, fresh.grpc)
        for label in ("stable", "canary", None)
    ]
    for thread in loads:
        thread.start()
    try:
        fresh.models.add("m", 3)
        fresh.publish("m")
        fresh.roll(START | {"m": model("m", {"specific": [2, 3]}, stable=2, canary=3)})
        fresh.roll(START | {"m": model("m", {"specific": [3]}, stable=3, canary=3)})
        assert fresh.served.outputs["served"]["world_grpc"]["m"]["versions"] == [3]
        fresh.roll(START | {"m": model("m", {"latest": 2}, stable=2, canary=3)})
        fresh.roll(START)
    finally:
        done.set()
        for thread in loads:
            thread.join()
    assert failures == []
    assert counted > 100


def test_a_label_moved_by_hand_is_drift_by_its_name_and_is_put_back(fresh: World) -> None:
    text = fresh.cloud.get(KEY)
    fresh.cloud.put(KEY, text.replace("value: 1\n", "value: 2\n"))
    until(lambda: fresh.answer(label="stable") == {2.0}, what="the edit to be served")
    assert set(fresh.served.refresh()) == {
        "served.world_http.m.labels.stable",
        "served.world_grpc.m.labels.stable",
        "file.m.labels.stable",
    }
    assert fresh.roll(START) == "update"
    assert fresh.answer(label="stable") == {1.0}
    assert fresh.cloud.get(KEY) == text


@pytest.mark.parametrize("is_new", [True, False], ids=["a first rollout", "a later one"])
def test_a_model_that_somebody_wrote_into_the_file_goes_again(fresh: World, log: Engine, is_new: bool) -> None:
    text = fresh.cloud.get(KEY)
    there = model_config.parse(text)
    (n,) = (each for each in there.models if each.name == "n")
    bags = replace(n, name="bags", policy=model_config.VersionPolicy.latest(1))
    head = text[: text.index("model_config_list")]
    fresh.cloud.put(KEY, head + model_config.render(model_config.ModelServerConfig((*there.models, bags))))

    def is_there() -> bool:
        try:
            return bool(fresh.answer(name="bags"))
        except ServiceNotFoundError:
            return False

    until(is_there, what="the edit to be served")
    if is_new:
        fresh.served = Stack(fresh.plugin, "ServedConfig")
    log.messages.clear()
    assert fresh.roll(START) == ("create" if is_new else "update")
    assert fresh.cloud.get(KEY) == text
    assert not [line for line in log.lines() if "brought into line" in line]
    assert not is_there()


def test_a_version_that_cannot_be_loaded_stops_the_rollout_and_stable_stays(fresh: World) -> None:
    fresh.models.add_broken("m", 9)
    fresh.publish("m")
    broken = START | {"m": model("m", {"specific": [2, 9]}, stable=9, canary=2)}
    before = fresh.cloud.get(KEY)
    began = time.monotonic()
    with pytest.raises(Failed) as failed:
        fresh.roll(broken)
    assert time.monotonic() - began < 200
    assert "version 9 of m cannot be loaded: it is END with " in failed.value.message
    assert "No label has moved" in failed.value.message
    assert failed.value.partial is not None
    assert fresh.answer(label="stable") == {1.0}
    assert fresh.cloud.get(KEY) == before
    with pytest.raises(Failed, match="version 9 of m cannot be loaded"):
        fresh.roll(broken, waitSeconds=60)
    assert fresh.roll(START | {"m": model("m", {"specific": [1, 2]}, stable=2, canary=2)}) == "update"
    assert fresh.answer(label="stable") == {2.0}


def test_a_version_no_longer_published_loses_its_files_only_after_it_is_served_no_more(
    fresh: World, log: Engine
) -> None:
    fresh.models.add("n", 2)
    fresh.publish("n")
    assert fresh.roll(START) == "update"
    assert fresh.served.outputs["served"]["world_http"]["n"]["versions"] == [1, 2]
    for path in (fresh.models.directory / "n" / "2").rglob("*"):
        if path.is_file():
            path.unlink()
    _remove_tree(fresh.models.directory / "n" / "2")
    fresh.publish("n")
    assert fresh.cloud.keys(f"{ROOT}n/2/")
    log.messages.clear()
    assert fresh.roll(START) == "update"
    narrowed, removed = (
        next(index for index, line in enumerate(log.lines()) if text in line)
        for text in ("narrow", "version 2 removed from the bucket")
    )
    assert narrowed < removed
    assert not fresh.cloud.keys(f"{ROOT}n/2")
    assert fresh.served.outputs["served"]["world_http"]["n"]["versions"] == [1]
    assert fresh.served.outputs["obsolete"] == {}
    assert fresh.served.refresh() == {}


def _remove_tree(path: Any) -> None:
    for child in path.iterdir():
        _remove_tree(child)
    path.rmdir()


def test_a_killed_run_resumes_with_the_steps_that_are_left(
    engine: tuple[Engine, str], fresh: World, log: Engine
) -> None:
    fresh.roll(START | {"m": model("m", {"specific": [1]}, stable=1)})
    target = START | {"m": model("m", {"specific": [2]}, stable=2)}
    doomed = Plugin(*engine)
    doomed.configure(**config(fresh.cloud.endpoint))
    killed = Stack(doomed, "ServedConfig", fresh.served.id, fresh.served.inputs, fresh.served.outputs)
    widened = threading.Thread(target=lambda: _ignore(lambda: killed.up(fresh.wanted(target))))
    widened.start()
    until(lambda: any("widen" in line for line in log.lines()), what="the first step")
    until(lambda: "versions: 2" in fresh.cloud.get(KEY), what="the first write")
    doomed.process.kill()
    widened.join()
    doomed.stop()
    log.messages.clear()
    assert fresh.roll(target) == "update"
    assert fresh.answer(label="stable") == {2.0}
    assert not any("widen" in line for line in log.lines())


def _ignore(call: Callable[[], object]) -> None:
    try:
        call()
    except Exception:
        return


def test_a_step_that_takes_too_long_says_what_is_missing_and_leaves_its_file(clouded: Plugin, fresh: World) -> None:
    unread = f"{ROOT}unread.pbtxt"  # the services never take it up
    fresh.cloud.put(unread, fresh.cloud.get(KEY))
    promoted = START | {"m": model("m", {"specific": [1, 2]}, stable=2, canary=2)}
    with pytest.raises(Failed) as failed:
        clouded.create("ServedConfig", fresh.wanted(promoted, key=unread, waitSeconds=2))
    assert failed.value.message.startswith("step 1 of 1, move: not done after 2 s\n")
    assert "service world_http: label stable of m is answered by version 1, not 2" in failed.value.message
    assert failed.value.partial is not None
    assert fresh.cloud.get(unread) != fresh.cloud.get(KEY)
    assert fresh.answer(label="stable") == {1.0}
    fresh.cloud.delete(unread)


def test_a_stopped_service_serves_nothing_and_is_not_rolled_past(fresh: World) -> None:
    cloud = fresh.cloud
    fresh.roll(START | {"m": model("m", {"specific": [1]}, stable=1)})
    cloud.stop("world_grpc")
    until(lambda: cloud.eas().describe("world_grpc").status == "Stopped")
    assert set(fresh.served.refresh()) == {"served.world_grpc"}
    with pytest.raises(Failed, match="nothing was changed, because service world_grpc cannot be asked"):
        fresh.roll(START)
    assert fresh.grpc.up(fresh.grpc.inputs) == "update"
    assert fresh.roll(START) == "update"
    assert fresh.answer(label="canary") == {2.0}


def test_a_running_service_that_does_not_answer_is_an_error_and_never_no_drift(fresh: World) -> None:
    services = fresh.wanted(START)["services"]
    services["world_http"] = services["world_http"] | {"token": Secret("wrong")}
    inputs = fresh.wanted(START, services=services)
    with pytest.raises(Failed, match=r"world_http is Running but cannot be asked what it serves: .*token") as failed:
        fresh.plugin.read("ServedConfig", fresh.served.id, inputs, fresh.served.outputs)
    assert failed.value.outputs["served"]["world_http"] == {}
    assert set(failed.value.outputs["unasked"]) == {"world_http"}
    assert "token" in failed.value.outputs["unasked"]["world_http"]
    found = fresh.plugin.diff("ServedConfig", inputs, failed.value.outputs, inputs)
    assert "served.world_http" in found.detailedDiff


def test_a_service_that_cannot_be_reached_is_waited_for_by_time_and_nothing_is_claimed(
    fresh: World, log: Engine
) -> None:
    services = fresh.wanted(START)["services"]
    services["world_grpc"] = services["world_grpc"] | {"reachable": False, "target": "192.0.2.1:80"}
    promoted = START | {"m": model("m", {"specific": [1, 2]}, stable=2, canary=2)}
    assert fresh.roll(promoted, services=services, waitSeconds=2) == "update"
    assert set(fresh.served.outputs["served"]) == {"world_http"}
    assert fresh.served.outputs["unproven"] == ["world_grpc"]
    assert any("nothing was proven for world_grpc" in line for line in log.lines(engine_pb2.WARNING))


def test_what_the_server_cannot_do_live_is_refused_before_anything_is_touched(fresh: World) -> None:
    before = fresh.cloud.get(KEY)
    moved = START | {"m": model("m", {"specific": [1, 2]}, stable=1) | {"basePath": "/models/elsewhere"}}
    for preview in (True, False):
        with pytest.raises(Failed, match="this change cannot be rolled out") as failed:
            fresh.plugin.update(
                "ServedConfig",
                fresh.served.id,
                fresh.served.inputs,
                fresh.served.outputs,
                fresh.wanted(moved),
                preview=preview,
            )
        assert failed.value.partial is None
    assert fresh.cloud.get(KEY) == before


def test_a_service_that_reads_the_file_at_start_only_is_restarted(
    clouded: Plugin, cloud: Cloud, fresh: World, extra: Callable[[], Stack], log: Engine
) -> None:
    fresh.served.up(fresh.wanted(START))
    stack = extra()
    stack.up(service(cloud, "at_start", flags=FLAGS))
    services = {
        "at_start": {"url": stack.outputs["url"], "target": "", "token": stack.outputs["token"], "pollSeconds": 0}
    }
    alone = Stack(clouded, "ServedConfig")
    try:
        assert alone.up(fresh.wanted(START, services=services)) == "create"
        assert not any("restarting" in line for line in log.lines())
        promoted = START | {"m": model("m", {"specific": [2]}, stable=2)}
        assert alone.up(fresh.wanted(promoted, services=services)) == "update"
        assert any("restarting service at_start" in line for line in log.lines())
        assert alone.outputs["served"]["at_start"]["m"] == {"versions": [2], "labels": {"stable": 2}}
    finally:
        fresh.served.refresh()
        fresh.roll(START)


# ---- services of one model


def test_a_service_of_one_model_is_proven_to_serve_what_is_published(
    clouded: Plugin, cloud: Cloud, models: LocalModels, extra: Callable[[], Stack], log: Engine
) -> None:
    root = "single/"
    models.add("s", 1)
    published, eas, served = Stack(clouded, "PublishedModel"), extra(), Stack(clouded, "ServedModel")
    published.up(models.inputs("s", cloud.bucket, root))
    # A version may be seen before its saved_model.pb is there, and is then tried again.
    flags = " --model_name=s --model_base_path=/models/s --max_num_load_retries=3 --load_retry_interval_micros=500000"
    inputs = service(cloud, "single_one", flags=flags, replicas=2)
    inputs["spec"]["storage"][0]["oss"]["path"] = f"oss://{cloud.bucket}/{root}"
    inputs["probe"]["models"] = ["s"]
    eas.up(inputs)

    def wanted(*versions: int, **changes: Any) -> dict[str, Any]:
        address = {name: eas.outputs[name] for name in ("url", "target", "token")}
        return {
            "service": {"name": eas.id, **address, "reachable": True, **changes},
            "model": "s",
            "versions": list(versions),
            "waitSeconds": 240,
        }

    try:
        assert served.up(wanted(1)) == "create"
        assert served.outputs["served"] == {"s": {"versions": [1], "labels": {}}}
        assert served.refresh() == {}
        models.add("s", 2)
        published.up(models.inputs("s", cloud.bucket, root))
        assert served.up(wanted(2)) == "update"
        assert served.outputs["served"] == {"s": {"versions": [2], "labels": {}}}

        # A version that falls out is drift by name; the stack puts its files back, and the proof is made anew.
        kept = {key: cloud.get_bytes(key) for key in cloud.keys(f"{root}s/2/")}
        for key in kept:
            cloud.delete(key)
        until(lambda: "served.s.versions" in served.refresh(), what="version 2 to fall out")
        for key in sorted(kept, key=lambda key: key.endswith("saved_model.pb")):
            cloud.put(key, kept[key])
        assert served.up(wanted(2)) == "update"
        assert served.refresh() == {}

        models.add_broken("s", 3)
        published.up(models.inputs("s", cloud.bucket, root))
        with pytest.raises(Failed, match="service single_one: version 3 of s cannot be loaded: it is END with ") as bad:
            served.up(wanted(3))
        assert "What was served before is still served" in bad.value.message
        assert "log: " in bad.value.message
        assert bad.value.partial is not None
        assert served.refresh().keys() >= {"served.s.versions"}
        assert served.outputs["served"] == {"s": {"versions": [2], "labels": {}}}

        with pytest.raises(
            Failed, match=r"single_one is Running but cannot be asked what it serves: .*token"
        ) as silent:
            clouded.read("ServedModel", served.id, wanted(2, token=Secret("wrong")), served.outputs)
        assert "token" in silent.value.outputs["unasked"]
        out_of_reach = wanted(3, reachable=False, url="http://192.0.2.1")
        assert clouded.create("ServedModel", out_of_reach)[1]["unproven"] is True
        assert any("nothing was proven for single_one" in line for line in log.lines(engine_pb2.WARNING))
    finally:
        published.destroy()


def test_a_config_file_that_keeps_services_from_starting_is_replaced_once_it_is_fixed(
    clouded: Plugin, cloud: Cloud, models: LocalModels
) -> None:
    root = "first/"
    models.add_broken("x", 1)
    models.add("x", 2)
    published = Stack(clouded, "PublishedModel")
    published.up(models.inputs("x", cloud.bucket, root))
    owner = "tf-serving/first"
    file, eas = Stack(clouded, "ModelConfigFile"), Stack(clouded, "EasService")
    declared = {"bucket": cloud.bucket, "key": f"{root}model_config.pbtxt", "owner": owner}
    inputs = service(cloud, "first_one") | {"owner": owner, "probe": {"protocol": "http", "models": ["x"]}}
    inputs["spec"]["storage"][0]["oss"]["path"] = f"oss://{cloud.bucket}/{root}"
    try:
        file.up(declared | {"initial": {"x": model("x", {"specific": [1]})}})
        with pytest.raises(Failed, match="service first_one is Failed"):
            eas.up(inputs)
        fixed = declared | {"initial": {"x": model("x", {"specific": [2]})}}
        assert file.up(fixed) == "update"
        assert eas.up(inputs) == "update"
        assert eas.outputs["status"] == "Running"
        assert file.up(declared | {"initial": {"x": model("x", "all")}}) == "same"
    finally:
        for stack in (eas, file, published):
            if stack.id:
                stack.destroy()


def test_an_error_of_the_cloud_is_a_message_with_its_code(clouded: Plugin, cloud: Cloud) -> None:
    inputs = service(cloud, "no_image")
    del inputs["spec"]["containers"]
    with pytest.raises(Failed, match=r"^FAILED_PRECONDITION: EAS CreateService no_image: \w+") as failed:
        clouded.create("EasService", inputs)
    assert failed.value.code is grpc.StatusCode.FAILED_PRECONDITION
    assert failed.value.partial is None
