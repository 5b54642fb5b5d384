"""Requests through the HTTP gateway: paths, tokens, bodies, limits, failures."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from sandbox.cloud.eas.instance import Timing
from tests.waiting import until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def service(eas: Any) -> Iterator[Any]:
    spec = eas.spec(token="GatewayToken")
    yield eas.run(spec)
    eas.delete(spec["metadata"]["name"])


def test_the_service_path_is_stripped_and_the_query_kept(service: Any, send: Any) -> None:
    answer = send("GET", f"{service.internet_endpoint}/v1/models/a%2Fb/versions/2?x=1&y=%20", "GatewayToken")
    assert answer.json["path"] == "/v1/models/a%2Fb/versions/2?x=1&y=%20"
    assert send("GET", service.internet_endpoint, "GatewayToken").json["path"] == "/"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_any_method_goes_through_with_its_body(method: str, service: Any, send: Any) -> None:
    answer = send(method, f"{service.internet_endpoint}/x", "GatewayToken", b'{"a": 1}', **{"Content-Type": "text/x"})
    assert (answer.json["method"], answer.json["body"]) == (method, '{"a": 1}')
    assert answer.json["headers"]["content-type"] == "text/x"


def test_a_head_request_has_headers_and_no_body(service: Any, send: Any) -> None:
    answer = send("HEAD", f"{service.internet_endpoint}/x", "GatewayToken")
    assert (answer.status, answer.body) == (200, b"")
    assert int(answer.headers["Content-Length"]) > 0


@pytest.mark.parametrize("status", [400, 404, 429, 500, 503])
def test_statuses_and_headers_of_the_server_come_back(status: int, service: Any, send: Any) -> None:
    answer = send("GET", f"{service.internet_endpoint}/status/{status}", "GatewayToken")
    assert answer.status == status
    assert answer.headers["X-Answered-By"] == str(answer.json["pid"])
    assert answer.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize("header", ["GatewayToken", "Bearer GatewayToken", "bearer GatewayToken"])
def test_the_token_is_taken_raw_and_as_bearer_and_not_passed_on(header: str, service: Any, send: Any) -> None:
    answer = send("GET", f"{service.internet_endpoint}/x", header)
    assert answer.status == 200
    assert "GatewayToken" not in str(answer.json["headers"])


@pytest.mark.parametrize("header", ["", "wrong", "Bearer wrong", "Bearer", "GatewayToken ex", "Basic GatewayToken"])
def test_without_the_right_token_a_request_is_unauthorized(header: str, service: Any, send: Any) -> None:
    answer = send("POST", f"{service.internet_endpoint}/v1/models/m:predict", header, b"{}")
    assert answer.status == 401
    assert b"Unauthorized" in answer.body
    assert b"GatewayToken" not in answer.body


def test_an_unknown_service_is_not_found_with_an_empty_body(eas: Any, send: Any) -> None:
    for path in ("/api/predict/nobody/v1/models/m", "/api/predict/", "/api/predict/nobody"):
        answer = send("GET", f"http://127.0.0.1:{eas.port}{path}", "x")
        assert (answer.status, answer.body) == (404, b"")


def test_large_bodies_pass_in_both_kinds_of_framing(service: Any, eas: Any) -> None:
    body = b"x" * (30 << 20)
    path = f"/api/predict/{service.service_name}/x"
    for data, headers in ((body, {}), (iter([body[: 10 << 20]] * 3), {"Transfer-Encoding": "chunked"})):
        connection = http.client.HTTPConnection("127.0.0.1", eas.port, timeout=30)
        chunked = bool(headers)
        connection.request("POST", path, data, {"Authorization": "GatewayToken", **headers}, encode_chunked=chunked)
        assert json.loads(connection.getresponse().read())["body"] == len(body)
        connection.close()


def test_an_answer_is_streamed_as_it_comes(service: Any, eas: Any, send: Any) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", eas.port, timeout=30)
    headers = {"Authorization": "GatewayToken"}
    connection.request("GET", f"/api/predict/{service.service_name}/stream", headers=headers)
    response = connection.getresponse()
    assert response.read1(2) == b"0\n"
    # The server writes the others only after this.
    assert send("GET", f"{service.internet_endpoint}/release", service.access_token).status == 200
    assert response.read() == b"1\n2\n3\n4\n"
    connection.close()


def test_an_answer_the_server_breaks_off_is_not_taken_for_a_whole_one(service: Any, eas: Any) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", eas.port, timeout=30)
    headers = {"Authorization": "GatewayToken"}
    connection.request("GET", f"/api/predict/{service.service_name}/broken", headers=headers)
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        connection.getresponse().read()
    connection.close()


def test_requests_over_the_time_limit_end_with_504(eas: Any, send: Any) -> None:
    spec = eas.spec(metadata={"rpc": {"keepalive": 300}})
    service = eas.run(spec)
    began = time.monotonic()
    answer = send("GET", f"{service.internet_endpoint}/sleep/50", service.access_token)
    assert answer.status == 504
    assert time.monotonic() - began < 40
    eas.delete(service.service_name)


def test_requests_over_the_rate_limit_end_with_429(eas: Any, send: Any) -> None:
    spec = eas.spec(metadata={"rpc": {"rate_limit": 3}})
    service = eas.run(spec)

    def ask(*_: object) -> int:
        return int(send("GET", service.internet_endpoint, service.access_token).status)

    assert [ask() for _ in range(3)] == [200] * 3
    with ThreadPoolExecutor(20) as pool:  # one after the other, a busy machine may not get to more than three a second
        assert 429 in pool.map(ask, range(60))
    eas.delete(service.service_name)


def test_requests_go_to_all_instances_in_turn(eas: Any, send: Any) -> None:
    spec = eas.spec(instances=3)
    service = eas.run(spec)
    pids = [send("GET", service.internet_endpoint, service.access_token).json["pid"] for _ in range(9)]
    assert sorted(pids.count(pid) for pid in set(pids)) == [3, 3, 3]
    eas.delete(service.service_name)


def test_a_service_that_is_not_ready_answers_503(eas: Any, send: Any) -> None:
    spec = eas.spec(token="T")
    spec["containers"][0]["command"] += " --model_name=slow"
    created = eas.create(spec)
    assert send("GET", created.internet_endpoint, "T").status == 503
    assert send("GET", created.internet_endpoint, "wrong").status == 401
    eas.wait(created.service_name)
    assert send("GET", created.internet_endpoint, "T").status == 200
    eas.delete(created.service_name)


def test_after_the_first_instance_is_ready_the_gateway_needs_a_moment(start_eas: Any, tmp_path: Any, send: Any) -> None:
    timing = Timing(poll=0.02, dwell=0.1, gateway_lag=3600)
    with start_eas(tmp_path, timing=timing) as cloud:
        service = cloud.run(cloud.spec())
        assert send("GET", service.internet_endpoint, service.access_token).status == 503
        object.__setattr__(timing, "gateway_lag", 0.5)
        until(lambda: send("GET", service.internet_endpoint, service.access_token).status == 200)


def test_a_root_service_has_an_address_of_its_own_that_outlives_updates(eas: Any, send: Any) -> None:
    spec = eas.spec(networking={"path": "/"})
    name = spec["metadata"]["name"]
    created = eas.create(spec)
    service = eas.wait(name)
    host, port = service.internet_endpoint.removeprefix("http://").split(":")
    assert host == "127.0.0.1"
    assert int(port) != eas.port
    assert created.internet_endpoint == service.internet_endpoint
    answer = send("GET", f"{service.internet_endpoint}/v1/models/m?x=1", service.access_token)
    assert answer.json["path"] == "/v1/models/m?x=1"
    assert send("GET", f"{service.internet_endpoint}/x", "wrong").status == 401
    assert send("GET", f"http://127.0.0.1:{eas.port}/api/predict/{name}/x", service.access_token).status == 404
    spec["containers"][0]["command"] += " --model_name=b"
    eas.update(name, spec)
    assert eas.wait(name).internet_endpoint == service.internet_endpoint
    eas.update(name, eas.spec(name))
    assert eas.wait(name).internet_endpoint == f"http://127.0.0.1:{eas.port}/api/predict/{name}"
    eas.update(name, spec)
    assert eas.wait(name).internet_endpoint == service.internet_endpoint
    eas.delete(name)
    with pytest.raises(OSError, match="refused"):
        send("GET", service.internet_endpoint)


def test_a_crashed_instance_costs_only_the_requests_it_was_answering(eas: Any, send: Any) -> None:
    service = eas.run(eas.spec(instances=2))
    url, token = service.internet_endpoint, service.access_token
    for method in ("GET", "POST"):
        before = {instance.instance_name: instance.restart_count for instance in eas.instances(service.service_name)}
        assert send(method, f"{url}/crash", token).status == 503  # and it was not sent to the other one as well
        answers = [send("GET", f"{url}/x", token).status for _ in range(20)]
        # A process that ends lets go of its port last: it may take one more request along.
        assert answers.count(200) >= 19, answers
        until(lambda: eas.describe(service.service_name).running_instance == 2)
        after = {instance.instance_name: instance.restart_count for instance in eas.instances(service.service_name)}
        assert sum(after.values()) == sum(before.values()) + 1
    eas.delete(service.service_name)


def test_an_object_in_a_bucket_called_api_is_still_an_object(eas: Any, send: Any) -> None:
    import alibabacloud_oss_v2 as oss

    eas.oss.put_bucket(oss.PutBucketRequest(bucket="api"))
    eas.oss.put_object(oss.PutObjectRequest(bucket="api", key="predict/x", body=b"object"))
    assert eas.oss.get_object(oss.GetObjectRequest(bucket="api", key="predict/x")).body.content == b"object"


def test_an_instance_gets_its_gateways_secret_in_place_of_the_token(eas: Any, send: Any) -> None:
    service = eas.run(eas.spec())
    seen = send("GET", service.internet_endpoint, service.access_token).json
    secret = seen["env"]["TF_SERVING_SANDBOX_GATEWAY_SECRET"]
    assert seen["headers"]["authorization"] == secret
    assert len(secret) > 30
    assert service.access_token not in str(seen)
    eas.delete(service.service_name)
