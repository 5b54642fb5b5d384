"""The life of a service by the official SDK: states, stored JSON, versions, lists, locks, labels, scalers."""

from __future__ import annotations

import json
import stat
from typing import Any

import pytest
from alibabacloud_eas20210701 import models
from alibabacloud_tea_util.models import RuntimeOptions
from Tea.exceptions import TeaException

from tests.waiting import until

pytestmark = pytest.mark.slow

REGION = "cn-hangzhou"


def refused(call: Any) -> Any:
    with pytest.raises(TeaException) as caught:
        call()
    return caught.value


def test_a_new_service_is_created_then_waits_then_runs(eas: Any) -> None:
    spec = eas.spec()
    name = spec["metadata"]["name"]
    created = eas.create(spec)
    assert (created.service_name, created.status) == (name, "Creating")
    assert created.service_id.startswith("eas-m-")
    service = eas.wait(name)
    assert service.seen[-2:] == ["Waiting", "Running"]
    assert set(service.seen) <= {"Creating", "Waiting", "Running"}
    assert (service.running_instance, service.pending_instance, service.total_instance) == (1, 0, 1)
    assert service.internet_endpoint == f"http://127.0.0.1:{eas.port}/api/predict/{name}" == created.internet_endpoint
    eas.delete(name)


def test_the_stored_config_is_a_json_string_with_what_the_server_adds(eas: Any) -> None:
    spec = eas.spec(labels={"team": "vision"}, storage=[{"mount_path": "/models", "empty_dir": {}}])
    name = spec["metadata"]["name"]
    eas.create(spec)
    stored = json.loads(eas.describe(name).service_config)
    assert stored["metadata"]["rpc"]["max_queue_size"] == 64
    assert (stored["metadata"]["cpu"], stored["metadata"]["memory"]) == (2, 4096)
    assert stored["metadata"]["rolling_strategy"] == {"max_surge": "2%", "max_unavailable": 0}
    assert stored["containers"] == spec["containers"]
    assert stored["labels"] == {"team": "vision"}
    assert "token" not in stored
    eas.delete(name)


def test_a_token_is_made_where_none_is_given_and_kept_otherwise(eas: Any) -> None:
    first, second = eas.spec(), eas.spec(token="MyOwnToken")
    eas.create(first), eas.create(second)
    made = eas.describe(first["metadata"]["name"]).access_token
    assert len(made) > 30
    assert eas.describe(second["metadata"]["name"]).access_token == "MyOwnToken"
    endpoints = eas.client.describe_service_endpoints(REGION, first["metadata"]["name"]).body
    assert endpoints.access_token == made
    assert endpoints.endpoints[0].internet_endpoints == [eas.describe(first["metadata"]["name"]).internet_endpoint]
    for spec in (first, second):
        eas.delete(spec["metadata"]["name"])


def test_the_file_with_the_token_is_private_to_its_owner(eas: Any) -> None:
    spec = eas.spec(token="SecretOnDisk")
    eas.create(spec)
    file = eas.data / "eas" / "services" / f"{spec['metadata']['name']}.json"
    assert "SecretOnDisk" in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    eas.delete(spec["metadata"]["name"])
    assert not file.exists()


def test_the_sdk_may_send_the_body_as_a_json_string(eas: Any) -> None:
    spec = eas.spec()
    eas.create(json.dumps(spec))
    assert eas.describe(spec["metadata"]["name"]).service_name == spec["metadata"]["name"]
    eas.delete(spec["metadata"]["name"])


def test_a_name_in_use_is_a_conflict(eas: Any) -> None:
    spec = eas.spec()
    eas.create(spec)
    error = refused(lambda: eas.create(spec))
    assert (error.statusCode, error.code) == (409, "InvalidService.Conflict")
    eas.delete(spec["metadata"]["name"])


def test_services_of_one_name_in_two_regions_are_two_services(eas: Any, send: Any) -> None:
    spec = eas.spec()
    name = spec["metadata"]["name"]
    for region in ("cn-hangzhou", "cn-shanghai"):
        eas.client.create_service_with_options(
            models.CreateServiceRequest(body=spec), {"x-acs-region-id": region}, RuntimeOptions()
        )
    near = eas.wait(name)
    far = eas.client.describe_service("cn-shanghai", name).body
    assert (near.region, far.region) == ("cn-hangzhou", "cn-shanghai")
    assert near.service_id != far.service_id
    assert near.internet_endpoint != far.internet_endpoint
    assert send("GET", far.internet_endpoint + "/", near.access_token).status == 401
    listed = eas.client.list_services_with_options(
        models.ListServicesRequest(service_name=name), {"x-acs-region-id": "cn-shanghai"}, RuntimeOptions()
    )
    assert [service.service_id for service in listed.body.services] == [far.service_id]
    eas.client.delete_service(REGION, name)
    until(lambda: eas.names().count(name) == 1)
    assert refused(lambda: eas.describe(name)).code == "InvalidService.NotFound"
    assert eas.client.describe_service("cn-shanghai", name).body.service_id == far.service_id
    eas.client.delete_service("cn-shanghai", name)


def test_a_service_whose_maker_named_no_region_is_found_in_each(eas: Any) -> None:
    spec = eas.spec()
    name = spec["metadata"]["name"]
    made = eas.create(spec).service_id
    assert eas.client.describe_service("eu-central-1", name).body.service_id == made
    again = models.CreateServiceRequest(body=spec)
    error = refused(lambda: eas.client.create_service_with_options(again, {"x-acs-region-id": "x"}, RuntimeOptions()))
    assert error.code == "InvalidService.Conflict"
    eas.delete(name)


def test_a_service_that_does_not_exist_is_not_found(eas: Any) -> None:
    for call in (
        lambda: eas.describe("nobody"),
        lambda: eas.client.delete_service(REGION, "nobody"),
        lambda: eas.update("nobody", {}),
        lambda: eas.client.stop_service(REGION, "nobody"),
        lambda: eas.client.describe_service_endpoints(REGION, "nobody"),
    ):
        error = refused(call)
        assert (error.statusCode, error.code) == (404, "InvalidService.NotFound")


def test_a_call_that_is_not_offered_is_refused_by_its_name(eas: Any) -> None:
    error = refused(lambda: eas.client.list_gateway(models.ListGatewayRequest()))
    assert error.statusCode == 400
    assert error.code == "UnsupportedAction.ListGateway"
    spec = eas.spec()
    eas.create(spec)
    error = refused(lambda: eas.client.describe_service_diagnosis(REGION, spec["metadata"]["name"]))
    assert error.code == "UnsupportedAction.DescribeServiceDiagnosis"
    eas.delete(spec["metadata"]["name"])


def test_stop_and_start_pass_through_their_states(eas: Any, send: Any) -> None:
    spec = eas.spec(instances=2)
    name = spec["metadata"]["name"]
    service = eas.run(spec)
    eas.client.stop_service(REGION, name)
    assert eas.wait(name, "Stopped").seen[0] == "Stopping"
    assert eas.pids(name) == set()
    assert send("GET", service.internet_endpoint, service.access_token).status == 503
    eas.client.start_service(REGION, name)
    assert eas.wait(name).seen[0] == "Starting"
    assert len(eas.pids(name)) == 2
    assert eas.describe(name).access_token == service.access_token
    eas.delete(name)


def test_a_service_that_is_updated_while_stopped_stays_stopped(eas: Any) -> None:
    spec = eas.spec()
    name = spec["metadata"]["name"]
    eas.run(spec)
    eas.client.stop_service(REGION, name)
    eas.wait(name, "Stopped")
    spec["containers"][0]["command"] += " --model_name=other"
    eas.update(name, spec)
    assert eas.describe(name).status == "Stopped"
    assert eas.describe(name).current_version == 2
    eas.delete(name)


def test_delete_waits_for_the_processes_then_forgets_the_service(eas: Any) -> None:
    spec = eas.spec()
    name = spec["metadata"]["name"]
    eas.run(spec)
    eas.client.delete_service(REGION, name)
    assert eas.describe(name).status == "Deleting"
    error = refused(lambda: eas.update(name, spec))
    assert (error.statusCode, error.code) == (409, "InvalidService.Conflict")
    until(lambda: name not in eas.names())
    assert eas.pids(name) == set()
    assert not (eas.data / "eas" / "logs" / name).exists()


def test_merge_keeps_keys_that_replace_removes(eas: Any) -> None:
    spec = eas.spec(labels={"a": "1", "b": "2"}, metadata={"rpc": {"keepalive": 5000, "rate_limit": 7}})
    name = spec["metadata"]["name"]
    eas.run(spec)
    eas.update(name, {"labels": {"b": "3"}, "metadata": {"rpc": {"keepalive": 6000}}}, "merge")
    merged = eas.config(name)
    assert merged["labels"] == {"a": "1", "b": "3"}
    assert (merged["metadata"]["rpc"]["keepalive"], merged["metadata"]["rpc"]["rate_limit"]) == (6000, 7)
    eas.update(name, {**eas.spec(name), "labels": {"b": "4"}}, "replace")
    replaced = eas.config(name)
    assert replaced["labels"] == {"b": "4"}
    assert replaced["metadata"]["rpc"]["rate_limit"] == 0
    eas.delete(name)


def test_without_an_update_type_an_update_merges(eas: Any) -> None:
    spec = eas.spec(labels={"a": "1"})
    name = spec["metadata"]["name"]
    eas.create(spec)
    eas.client.update_service(REGION, name, models.UpdateServiceRequest(body={"labels": {"b": "2"}}))
    assert eas.config(name)["labels"] == {"a": "1", "b": "2"}
    eas.delete(name)


def test_a_service_cannot_be_renamed(eas: Any) -> None:
    spec = eas.spec()
    name = spec["metadata"]["name"]
    eas.create(spec)
    error = refused(lambda: eas.update(name, eas.spec("another_name")))
    assert (error.statusCode, error.code) == (400, "InvalidParameter")
    assert "cannot be changed" in str(error.message)
    eas.delete(name)


def test_every_change_of_the_instances_is_a_version_one_can_go_back_to(eas: Any) -> None:
    spec = eas.spec()
    name = spec["metadata"]["name"]
    eas.run(spec)
    spec["containers"][0]["command"] += " --model_name=second"
    eas.update(name, spec)
    eas.wait(name)
    eas.update(name, {"metadata": {"instance": 2}}, "merge")  # scales, so no version
    service = eas.wait(name)
    assert (service.current_version, service.latest_version) == (2, 2)
    versions = eas.client.list_service_versions(REGION, name, models.ListServiceVersionsRequest()).body.versions
    assert [version.image_id for version in versions] == [2, 1]
    assert "second" not in versions[1].service_config
    eas.client.update_service_version(REGION, name, models.UpdateServiceVersionRequest(version=1))
    service = eas.wait(name)
    assert (service.current_version, service.latest_version) == (1, 2)
    assert "second" not in service.service_config
    error = refused(
        lambda: eas.client.update_service_version(REGION, name, models.UpdateServiceVersionRequest(version=9))
    )
    assert error.statusCode == 400
    eas.delete(name)


def test_lists_are_filtered_and_paged(eas: Any) -> None:
    names = ["listed_a", "listed_b", "listed_c"]
    for name in names:
        eas.create(eas.spec(name, labels={"kind": name[-1]}), workspace_id="77")
    request = models.ListServicesRequest

    def found(**filters: Any) -> list[str]:
        services = eas.client.list_services(request(**filters)).body.services or []
        return [service.service_name for service in services]

    assert sorted(found(filter="listed_")) == names
    assert found(service_name="listed_b") == ["listed_b"]
    assert found(label={"kind": "c"}) == ["listed_c"]
    assert sorted(found(workspace_id="77")) == names
    assert found(filter="listed_", service_status="Stopped") == []
    assert found(filter="listed_", sort="ServiceName", order="asc", page_size=2, page_number=2) == ["listed_c"]
    page = eas.client.list_services(request(filter="listed_", page_size=2)).body
    assert (page.total_count, page.page_size, page.page_number, len(page.services)) == (3, 2, 1, 2)
    assert eas.describe("listed_a").workspace_id == "77"
    for name in names:
        eas.delete(name)


def test_a_service_stays_in_its_workspace(eas: Any) -> None:
    spec = eas.spec()
    name = spec["metadata"]["name"]
    eas.create(spec, workspace_id="88")
    eas.update(name, spec)
    assert eas.describe(name).workspace_id == "88"
    eas.delete(name)


def test_the_safety_lock_refuses_what_it_names(eas: Any) -> None:
    spec = eas.spec()
    name = spec["metadata"]["name"]
    eas.run(spec)

    def lock(kind: str) -> None:
        eas.client.update_service_safety_lock(REGION, name, models.UpdateServiceSafetyLockRequest(lock=kind))

    lock("dangerous")
    assert eas.describe(name).safety_lock == "dangerous"
    for call in (eas.client.delete_service, eas.client.stop_service):
        assert refused(lambda call=call: call(REGION, name)).statusCode == 403
    eas.update(name, {"metadata": {"instance": 1}}, "merge")
    lock("all")
    assert refused(lambda: eas.update(name, spec)).statusCode == 403
    assert refused(lambda: lock("everything")).statusCode == 400
    lock("none")
    eas.delete(name)


def test_labels_can_be_set_and_removed_without_touching_instances(eas: Any) -> None:
    spec = eas.spec(labels={"a": "1"})
    name = spec["metadata"]["name"]
    eas.run(spec)
    pids = eas.pids(name)
    eas.client.update_service_label(REGION, name, models.UpdateServiceLabelRequest(labels={"b": "2"}))
    labels = {label.label_key: label.label_value for label in eas.wait(name).labels}
    assert labels == {"a": "1", "b": "2"}
    eas.client.delete_service_label(REGION, name, models.DeleteServiceLabelRequest(keys=["a"]))
    assert [label.label_key for label in eas.wait(name).labels] == ["b"]
    assert eas.pids(name) == pids
    eas.delete(name)


def test_tag_calls_by_service_id_change_the_same_labels(eas: Any, send: Any) -> None:
    spec = eas.spec(labels={"a": "1"})
    created = eas.create(spec)
    url = f"http://127.0.0.1:{eas.port}/?Action={{}}&Version=2021-07-02&ResourceType=service"

    def call(action: str, form: str) -> Any:
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return send("POST", url.format(action), "", f"ResourceId.1={created.service_id}&{form}".encode(), **headers)

    assert call("TagResources", "Tag.1.Key=b&Tag.1.Value=2").status == 200
    assert call("UntagResources", "TagKey.1=a").status == 200
    assert eas.config(created.service_name)["labels"] == {"b": "2"}
    listed = call("ListTagResources", "").json["TagResources"]
    assert [(tag["TagKey"], tag["TagValue"]) for tag in listed] == [("b", "2")]
    eas.delete(created.service_name)


def test_the_autoscaler_keeps_the_replica_count_within_its_limits(eas: Any) -> None:
    spec = eas.spec()
    name = spec["metadata"]["name"]
    eas.run(spec)
    strategy = models.CreateServiceAutoScalerRequestScaleStrategies(metric_name="qps", threshold=10)
    request = models.CreateServiceAutoScalerRequest(min=2, max=3, scale_strategies=[strategy])
    eas.client.create_service_auto_scaler(REGION, name, request)
    service = eas.wait(name)
    assert service.total_instance == 2
    assert json.loads(service.service_config)["metadata"]["instance"] == 2
    scaler = eas.client.describe_service_auto_scaler(REGION, name).body
    assert (scaler.min_replica, scaler.max_replica, scaler.scale_strategies[0].metric_name) == (2, 3, "qps")
    eas.update(name, spec)  # its instance count is the autoscaler's business now
    assert eas.wait(name).total_instance == 2
    eas.client.delete_service_auto_scaler(REGION, name)
    error = refused(lambda: eas.client.describe_service_auto_scaler(REGION, name))
    assert error.statusCode == 404
    eas.update(name, spec)
    assert eas.wait(name).total_instance == 1
    eas.delete(name)


def test_cron_jobs_are_recorded(eas: Any) -> None:
    spec = eas.spec()
    name = spec["metadata"]["name"]
    eas.create(spec)
    job = models.CreateServiceCronScalerRequestScaleJobs(name="night", schedule="0 0 22 * * *", target_size=1)
    eas.client.create_service_cron_scaler(REGION, name, models.CreateServiceCronScalerRequest(scale_jobs=[job]))
    described = eas.client.describe_service_cron_scaler(REGION, name).body
    assert [(j.name, j.target_size) for j in described.scale_jobs] == [("night", 1)]
    eas.client.delete_service_cron_scaler(REGION, name)
    assert refused(lambda: eas.client.describe_service_cron_scaler(REGION, name)).statusCode == 404
    eas.delete(name)


def test_a_job_of_the_clock_sets_the_size(eas: Any) -> None:
    spec = eas.spec()
    name = spec["metadata"]["name"]
    eas.run(spec)
    job = models.CreateServiceCronScalerRequestScaleJobs(name="now", schedule="* * * * * *", target_size=2)
    eas.client.create_service_cron_scaler(REGION, name, models.CreateServiceCronScalerRequest(scale_jobs=[job]))
    until(lambda: eas.describe(name).total_instance == 2)
    assert json.loads(eas.describe(name).service_config)["metadata"]["instance"] == 2
    assert any("Job now: 1 -> 2 instances" in event.message for event in eas.events(name))
    eas.delete(name)


@pytest.mark.parametrize("schedule", ["0 1 * * *", "0 0 25 * * *", "@daily"])
def test_a_job_at_no_time_is_refused(eas: Any, schedule: str) -> None:
    spec = eas.spec()
    name = spec["metadata"]["name"]
    eas.create(spec)
    job = models.CreateServiceCronScalerRequestScaleJobs(name="night", schedule=schedule, target_size=1)
    request = models.CreateServiceCronScalerRequest(scale_jobs=[job])
    error = refused(lambda: eas.client.create_service_cron_scaler(REGION, name, request))
    assert (error.statusCode, error.code) == (400, "InvalidParameter")
    eas.delete(name)


def test_weight_and_traffic_state_are_kept(eas: Any) -> None:
    spec = eas.spec()
    name = spec["metadata"]["name"]
    eas.create(spec)
    request = models.ReleaseServiceRequest(weight=40, traffic_state="grouping")
    assert "[40]" in eas.client.release_service(REGION, name, request).body.message
    service = eas.describe(name)
    assert (service.weight, service.traffic_state) == (40, "grouping")
    assert (
        refused(lambda: eas.client.release_service(REGION, name, models.ReleaseServiceRequest(weight=1001))).code
        == "InvalidParameter"
    )
    eas.delete(name)


def test_events_tell_the_story_newest_first(eas: Any) -> None:
    spec = eas.spec()
    name = spec["metadata"]["name"]
    eas.run(spec)
    events = eas.events(name)
    assert [event.reason for event in reversed(events)][:3] == ["Creating", "Started", "Ready"]
    progress = next(event for event in events if event.message.startswith("{"))
    assert json.loads(progress.message)["availableInstance"] == 1
    page = eas.client.describe_service_event(
        REGION, name, models.DescribeServiceEventRequest(page_num="2", page_size="1")
    ).body
    assert (page.page_num, page.total_page_num, len(page.events)) == (2, page.total_count, 1)
    eas.delete(name)


def test_logs_hold_what_the_instances_print(eas: Any) -> None:
    spec = eas.spec(instances=2)
    name = spec["metadata"]["name"]
    eas.run(spec)
    # An instance may be ready a moment before the other one has printed its line.
    until(lambda: sum(line.endswith("] running") for line in eas.logs(name).logs) == 2)
    logs = eas.logs(name)
    assert logs.logs == sorted(logs.logs, key=lambda line: line[:21])
    one = eas.instances(name)[0]
    assert sum("running" in line for line in eas.logs(name, instance_name=one.instance_name).logs) == 1
    assert all("running" in line for line in eas.logs(name, keyword="running").logs)
    assert eas.logs(name, end_time="2020-01-01 00:00:00").logs == []
    error = refused(lambda: eas.logs(name, start_time="2020-01-01T00:00:00Z"))
    assert error.code == "InvalidParameter"
    newest = eas.logs(name, page_size=1)
    assert newest.logs == [logs.logs[-1]]
    assert newest.total_page_num == logs.total_count
    eas.delete(name)


def test_instances_are_described(eas: Any) -> None:
    spec = eas.spec(instances=2)
    name = spec["metadata"]["name"]
    eas.run(spec)
    instances = eas.instances(name)
    assert len({instance.instance_name for instance in instances}) == 2
    assert all(instance.instance_name.startswith(name.replace("_", "-")) for instance in instances)
    assert {(i.status, i.ready_processes, i.restart_count, i.instance_port) for i in instances} == {
        ("Running", 1, 0, 8501)
    }
    eas.delete(name)


def test_machine_specs_name_real_sizes(eas: Any) -> None:
    request = models.DescribeMachineSpecRequest(instance_types=["ecs.gn6i-c4g1.xlarge"])
    (meta,) = eas.client.describe_machine_spec(request).body.instance_metas
    assert (meta.cpu, meta.memory, meta.gpu, meta.gpuamount, meta.gpumemory) == (4, 15, "NVIDIA T4", 1, 16)
    everything = eas.client.describe_machine_spec(models.DescribeMachineSpecRequest()).body
    assert {2, 4, 8} == {size.cpu for size in everything.types}
