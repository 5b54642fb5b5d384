"""Updates, scaling, crashes and failures of instances: what a client of the service notices of them is nothing."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import alibabacloud_oss_v2 as oss
import grpc
import pytest
from alibabacloud_eas20210701 import models

from sandbox.cloud.eas.api import EasProduct
from sandbox.cloud.state import STATE
from tests.cloud.eas.conftest import QUICK
from tests.waiting import until

pytestmark = pytest.mark.slow

REGION = "cn-hangzhou"


@contextmanager
def load(*requests: Callable[[], Any]) -> Iterator[list[Any]]:
    """Repeats requests, each in threads of its own, and collects what they return or raise."""
    results: list[Any] = []
    stop = threading.Event()

    def repeat(request: Callable[[], Any]) -> None:
        while not stop.is_set():
            try:
                results.append(request())
            except Exception as error:
                results.append(error)

    threads = [threading.Thread(target=repeat, args=[request]) for request in requests for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield results
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def with_flag(spec: dict[str, Any], flag: str) -> dict[str, Any]:
    container = spec["containers"][0]
    return {**spec, "containers": [{**container, "command": f"{container['command']} {flag}"}]}


def test_a_rolling_update_under_http_load_fails_no_request(eas: Any, send: Any) -> None:
    spec = eas.spec(instances=2)
    name = spec["metadata"]["name"]
    service = eas.run(spec)
    before = eas.pids(name)
    with load(lambda: send("POST", f"{service.internet_endpoint}/x", service.access_token, b"body").status) as statuses:
        eas.update(name, with_flag(spec, "--model_name=slow"))
        assert eas.describe(name).status == "Updating"
        assert eas.wait(name).running_instance == 2
        until(lambda: len(eas.pids(name)) == 2)
    assert set(statuses) == {200}
    assert eas.pids(name).isdisjoint(before)
    assert send("GET", service.internet_endpoint, service.access_token).json["flags"]["model_name"] == "slow"
    eas.delete(name)


def test_a_rolling_update_under_grpc_load_fails_no_call(eas: Any) -> None:
    spec = eas.grpc_spec(instances=2)
    name = spec["metadata"]["name"]
    service = eas.run(spec)
    before = eas.pids(name)
    metadata = (("authorization", service.access_token),)
    with grpc.insecure_channel(service.internet_endpoint.removeprefix("http://")) as channel:
        echo = channel.unary_unary("/test.Service/Echo")
        with load(lambda: echo(b"x", metadata=metadata)) as answers:
            eas.client.restart_service(REGION, name)
            eas.wait(name)
            until(lambda: len(eas.pids(name)) == 2 and eas.pids(name).isdisjoint(before))
    assert set(answers) == {b"x"}
    eas.delete(name)


def test_a_request_that_is_being_answered_outlives_its_instance_being_replaced(eas: Any, send: Any) -> None:
    spec = eas.spec()
    name = spec["metadata"]["name"]
    service = eas.run(spec)
    (pid,) = eas.pids(name)
    answers: list[Any] = []
    thread = threading.Thread(
        target=lambda: answers.append(send("GET", f"{service.internet_endpoint}/sleep/3", service.access_token))
    )
    thread.start()
    (instance,) = next(s for s in eas.app[STATE].products if isinstance(s, EasProduct)).runtime.get(name).live
    until(lambda: instance.in_flight)
    eas.update(name, with_flag(spec, "--model_name=b"))
    eas.wait(name)
    thread.join()
    assert (answers[0].status, answers[0].json["pid"]) == (200, pid)
    eas.delete(name)


def test_instances_are_replaced_one_by_one_and_never_too_few_are_ready(eas: Any) -> None:
    spec = eas.spec(instances=2, metadata={"rolling_strategy": {"max_surge": 1, "max_unavailable": 0}})
    name = spec["metadata"]["name"]
    eas.run(spec)
    eas.update(name, with_flag(spec, "--model_name=slow"))
    ready, alive = [], []
    while eas.describe(name).status == "Updating":
        instances = eas.instances(name)
        ready.append(sum(i.status == "Running" for i in instances))
        alive.append(sum(i.status != "Terminating" for i in instances))
    assert min(ready) >= 2
    assert max(alive) <= 3
    eas.delete(name)


def test_only_the_replica_count_changes_without_a_restart(eas: Any, send: Any) -> None:
    spec = eas.spec(instances=2)
    name = spec["metadata"]["name"]
    service = eas.run(spec)
    before = eas.pids(name)
    with load(lambda: send("GET", f"{service.internet_endpoint}/x", service.access_token).status) as statuses:
        eas.update(name, {**spec, "metadata": {"name": name, "instance": 4}})
        assert eas.wait(name).seen[0] == "Scaling"
        assert len(eas.pids(name)) == 4
        assert eas.pids(name) > before
        eas.update(name, {**spec, "metadata": {"name": name, "instance": 1}})
        assert eas.wait(name).total_instance == 1
        until(lambda: len(eas.pids(name)) == 1)
        assert eas.pids(name) <= before
    assert set(statuses) == {200}
    eas.delete(name)


def test_a_change_of_gateway_settings_alone_is_a_hot_update(start_eas: Any, tmp_path: Path, send: Any) -> None:
    # It takes no time at all, so it is shown for long enough to be seen.
    with start_eas(tmp_path, timing=dataclasses.replace(QUICK, dwell=2)) as eas:
        spec = eas.spec()
        name = spec["metadata"]["name"]
        service = eas.run(spec)
        before = eas.pids(name)
        eas.update(name, {**spec, "token": "NewToken"})
        assert eas.wait(name).seen[0] == "HotUpdate"
        assert eas.pids(name) == before
        assert send("GET", service.internet_endpoint, service.access_token).status == 401
        assert send("GET", service.internet_endpoint, "NewToken").status == 200
        eas.update(name, spec)  # a token that is no longer declared stays as it is
        assert eas.wait(name).access_token == "NewToken"


def test_an_update_that_cannot_start_fails_and_the_old_instances_go_on(eas: Any, send: Any) -> None:
    spec = eas.spec(instances=2)
    name = spec["metadata"]["name"]
    service = eas.run(spec)
    before = eas.pids(name)
    with load(lambda: send("GET", f"{service.internet_endpoint}/x", service.access_token).status) as statuses:
        eas.update(name, with_flag(spec, "--model_name=exits"))
        failed = eas.wait(name, "Failed")
        assert failed.reason == "CrashLoopBackOff"
        assert "exited with status 255" in failed.message
        assert "no such model" in failed.message
        assert any("no such model" in line for line in eas.logs(name).logs)
        assert any(e.type == "Warning" and "no such model" in e.message for e in eas.events(name))
        eas.update(name, spec)
        eas.wait(name)
    assert set(statuses) == {200}
    assert eas.pids(name) == before
    eas.delete(name)


def test_an_update_overtakes_one_that_is_still_going_on(eas: Any, send: Any) -> None:
    spec = eas.spec(instances=2)
    name = spec["metadata"]["name"]
    service = eas.run(spec)
    with load(lambda: send("GET", f"{service.internet_endpoint}/x", service.access_token).status) as statuses:
        for number in range(4):
            eas.update(name, with_flag(spec, f"--model_name=m{number}"))
            time.sleep(0.1)
        eas.wait(name)
        until(lambda: len(eas.pids(name)) == 2)
    assert set(statuses) == {200}
    models_served = {
        send("GET", service.internet_endpoint, service.access_token).json["flags"]["model_name"] for _ in range(4)
    }
    assert models_served == {"m3"}
    eas.delete(name)


def test_an_image_the_sandbox_cannot_run_fails_at_once_with_its_name(eas: Any) -> None:
    spec = eas.spec()
    name = spec["metadata"]["name"]
    spec["containers"][0] |= {"image": "tritonserver:25.03-py3", "command": "tritonserver --model-repository=/models"}
    eas.create(spec)
    failed = eas.wait(name, "Failed")
    assert failed.reason == "ImageNotSupported"
    assert "tritonserver:25.03-py3" in failed.message
    assert "only runs TensorFlow Serving" in failed.message
    eas.update(name, eas.spec(name))
    assert "Failed" not in eas.wait(name).seen
    eas.delete(name)


def test_a_port_nobody_listens_on_fails_after_the_startup_check(eas: Any, send: Any) -> None:
    spec = eas.spec()
    name = spec["metadata"]["name"]
    check = {"tcp_socket": {"port": 8600}, "period_seconds": 1, "failure_threshold": 1}
    spec["containers"][0] |= {"port": 8600, "startup_check": check}
    created = eas.create(spec)
    failed = eas.wait(name, "Failed")
    assert {"Waiting", "Failed"} <= set(failed.seen)
    assert failed.reason == "StartupCheckFailed"
    assert "containers[0].port 8600" in failed.message
    assert "8500 (gRPC) and 8501 (HTTP)" in failed.message
    assert send("GET", created.internet_endpoint, failed.access_token).status == 503
    eas.delete(name)


def test_a_server_that_never_opens_its_port_fails_after_the_startup_check_and_is_restarted(eas: Any) -> None:
    spec = with_flag(eas.spec(), "--model_name=hangs")
    name = spec["metadata"]["name"]
    check = {"http_get": {"path": "/v1/models/m", "port": 8501}, "period_seconds": 1, "failure_threshold": 3}
    spec["containers"][0]["startup_check"] = check
    eas.create(spec)
    failed = eas.wait(name, "Failed")
    assert "GET /v1/models/m on port 8501" in failed.message
    # Within its time the server may not have come to say anything; then it has more at the next start.
    until(lambda: "waiting for the model" in eas.describe(name).message)
    until(lambda: eas.instances(name)[0].restart_count >= 1)
    eas.delete(name)


def test_a_startup_check_by_http_holds_requests_back_until_it_succeeds(eas: Any, send: Any) -> None:
    spec = eas.spec()
    check = {"http_get": {"path": "/status/500", "port": 8501}, "period_seconds": 1, "failure_threshold": 1}
    spec["containers"][0]["startup_check"] = check
    created = eas.create(spec)
    eas.wait(created.service_name, "Failed")
    assert send("GET", created.internet_endpoint, eas.describe(created.service_name).access_token).status == 503
    eas.delete(created.service_name)


def test_a_bucket_that_does_not_exist_fails_and_heals_once_it_does(eas: Any) -> None:
    mount = {"mount_path": "/models", "oss": {"path": "oss://late-bucket/models/"}}
    spec = eas.spec(storage=[mount])
    name = spec["metadata"]["name"]
    eas.create(spec)
    failed = eas.wait(name, "Failed")
    assert failed.reason == "FailedMount"
    assert "oss://late-bucket/models/" in failed.message
    eas.oss.put_bucket(oss.PutBucketRequest(bucket="late-bucket"))
    eas.wait(name)
    eas.delete(name)


def test_the_mounts_of_a_service_follow_the_bucket(eas: Any, send: Any) -> None:
    eas.oss.put_object(oss.PutObjectRequest(bucket="eas-models", key="m/1/saved_model.pb", body=b"one"))
    storage = [
        {"mount_path": "/models", "oss": {"path": "oss://eas-models/m/"}},
        {"mount_path": "/scratch", "empty_dir": {}},
    ]
    service = eas.run(eas.spec(storage=storage))
    env = send("GET", service.internet_endpoint, service.access_token).json["env"]
    mounts = json.loads(env["TF_SERVING_SANDBOX_MOUNTS"])
    assert env["TF_SERVING_SANDBOX_HOST"] == "127.0.0.1"
    assert Path(mounts["/models"], "1", "saved_model.pb").read_bytes() == b"one"
    eas.oss.put_object(oss.PutObjectRequest(bucket="eas-models", key="m/2/saved_model.pb", body=b"two"))
    assert Path(mounts["/models"], "2", "saved_model.pb").read_bytes() == b"two"
    assert Path(mounts["/scratch"]).is_dir()
    eas.delete(service.service_name)
    assert not Path(mounts["/scratch"]).exists()
    assert not Path(mounts["/models"]).exists()


def test_the_stock_server_on_path_is_used_and_its_config_follows_the_bucket(
    start_eas: Any, tmp_path: Any, send: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    binary = tmp_path / "bin" / "tensorflow_model_server"
    binary.parent.mkdir()
    fake = Path(__file__).with_name("fake_model_server.py").read_text()
    binary.write_text(f"#!{sys.executable}\n{fake}")
    binary.chmod(0o700)
    monkeypatch.setenv("PATH", f"{binary.parent}:{os.environ['PATH']}")

    def publish(cloud: Any, path: str) -> None:
        text = f"model_config_list {{ config {{ name: 'a' base_path: '{path}' }} }}".encode()
        cloud.oss.put_object(oss.PutObjectRequest(bucket="stock-models", key="m/model_config.pbtxt", body=text))

    with start_eas(tmp_path / "cloud", command=()) as cloud:
        cloud.oss.put_bucket(oss.PutBucketRequest(bucket="stock-models"))
        publish(cloud, "/models/a")
        storage = [{"mount_path": "/models", "oss": {"path": "oss://stock-models/m/"}}]
        spec = with_flag(cloud.spec(storage=storage), "--model_config_file=/models/model_config.pbtxt")
        service = cloud.run(spec)
        answer = send("GET", service.internet_endpoint, service.access_token).json
        copy = Path(answer["flags"]["model_config_file"])
        view = answer["flags"]["model_base_path"].removesuffix("/model")
        assert f"base_path: '{view}/a'" in copy.read_text()
        publish(cloud, "/models/b")
        until(lambda: f"base_path: '{view}/b'" in copy.read_text())
        assert any(event.reason == "ListensEverywhere" for event in cloud.events(service.service_name))


def test_a_crashed_instance_is_started_again_and_told_of(eas: Any, send: Any) -> None:
    service = eas.run(eas.spec())
    name = service.service_name
    assert send("POST", f"{service.internet_endpoint}/crash", service.access_token, b"").status == 503
    until(lambda: [each.restart_count for each in eas.instances(name)] == [1])
    eas.wait(name)
    (instance,) = eas.instances(name)
    assert (instance.restart_count, instance.status) == (1, "Running")
    assert any(e.reason == "CrashLoopBackOff" and "status 3" in e.message for e in eas.events(name))
    assert send("GET", service.internet_endpoint, service.access_token).status == 200
    eas.delete(name)


def test_a_failing_liveness_check_restarts_the_instance(eas: Any, send: Any) -> None:
    spec = eas.spec()
    check = {"http_get": {"path": "/health", "port": 8501}, "period_seconds": 1, "failure_threshold": 1}
    spec["containers"][0]["liveness_check"] = check
    service = eas.run(spec)
    (pid,) = eas.pids(service.service_name)
    send("GET", f"{service.internet_endpoint}/toggle", service.access_token)
    until(lambda: eas.pids(service.service_name) and eas.pids(service.service_name) != {pid})
    assert "LivenessCheckFailed" in [event.reason for event in eas.events(service.service_name)]
    eas.delete(service.service_name)


def test_a_failing_health_check_takes_the_instance_out_of_service_until_it_is_well(eas: Any, send: Any) -> None:
    spec = eas.spec(instances=2)
    check = {"http_get": {"path": "/health", "port": 8501}, "period_seconds": 1, "failure_threshold": 1}
    spec["containers"][0]["health_check"] = check
    service = eas.run(spec)
    sick = send("GET", f"{service.internet_endpoint}/toggle", service.access_token).json["pid"]
    until(lambda: eas.describe(service.service_name).running_instance == 1)
    answered = {send("GET", service.internet_endpoint, service.access_token).json["pid"] for _ in range(6)}
    assert sick not in answered
    assert len(eas.pids(service.service_name)) == 2
    eas.delete(service.service_name)


def test_a_server_that_ignores_sigterm_is_ended_all_the_same(eas: Any) -> None:
    spec = eas.spec()
    spec["containers"][0]["env"] = [{"name": "TEST_IGNORES_TERM", "value": "1"}]
    service = eas.run(spec)
    eas.delete(service.service_name)
    assert eas.pids(service.service_name) == set()


def test_the_autoscaler_follows_the_load(start_eas: Any, tmp_path: Any, send: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("sandbox.cloud.eas.runtime.AUTOSCALER_SECONDS", 0.4)
    with start_eas(tmp_path) as cloud:
        service = cloud.run(cloud.spec())
        name = service.service_name
        strategy = models.CreateServiceAutoScalerRequestScaleStrategies(metric_name="qps", threshold=1)
        window = models.CreateServiceAutoScalerRequestBehaviorScaleDown(stabilization_window_seconds=1)
        behavior = models.CreateServiceAutoScalerRequestBehavior(scale_down=window)
        request = models.CreateServiceAutoScalerRequest(min=1, max=3, scale_strategies=[strategy], behavior=behavior)
        cloud.client.create_service_auto_scaler(REGION, name, request)
        with load(lambda: send("GET", service.internet_endpoint, service.access_token).status) as statuses:
            until(lambda: len(cloud.pids(name)) == 3)
        assert set(statuses) == {200}
        until(lambda: len(cloud.pids(name)) == 1)


def test_no_more_than_two_instances_start_at_a_time(eas: Any) -> None:
    spec = with_flag(eas.spec(instances=5), "--model_name=slow")
    name = spec["metadata"]["name"]
    eas.create(spec)
    starting = []
    while eas.describe(name).status != "Running":
        starting.append(len(eas.pids(name)) - sum(i.status == "Running" for i in eas.instances(name)))
        assert len(starting) < 2000
    assert max(starting) == 2
    eas.delete(name)


def test_the_log_of_an_instance_is_bounded(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from sandbox.cloud.eas import process

    monkeypatch.setattr(process, "LOG_BYTES", 2000)
    log = process.InstanceLog(tmp_path / "logs" / "one.log")
    for number in range(300):
        log.write(f"line {number}\nhalf".encode())
    log.close()
    assert sum(path.stat().st_size for path in log.path.parent.iterdir()) < 5000
    lines = [line for _, line in process.read_logs(log.path.parent)]
    assert lines[-2].endswith("] halfline 299")
    assert lines[-1].endswith("] half")
