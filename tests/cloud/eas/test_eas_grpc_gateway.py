"""Calls through the gRPC gateway: every kind of call, tokens, metadata, deadlines, statuses, large messages."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from tests.waiting import until

pytestmark = pytest.mark.slow

UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
TOKEN = (("authorization", "GrpcToken"),)


def target(service: Any) -> str:
    return str(service.internet_endpoint.removeprefix("http://"))


@pytest.fixture(scope="module")
def service(eas: Any) -> Iterator[Any]:
    spec = eas.grpc_spec(token="GrpcToken")
    yield eas.run(spec)
    eas.delete(spec["metadata"]["name"])


@pytest.fixture
def channel(service: Any) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(target(service), options=UNLIMITED) as channel:
        yield channel


def call(channel: grpc.Channel, method: str) -> Any:
    return channel.unary_unary(f"/test.Service/{method}")


@pytest.mark.parametrize("token", ["GrpcToken", "Bearer GrpcToken"])
def test_a_unary_call_passes_with_the_token_raw_or_as_bearer(channel: grpc.Channel, token: str) -> None:
    answer, done = call(channel, "Echo").with_call(b"bytes", metadata=(("authorization", token),))
    assert answer == b"bytes"
    assert dict(done.initial_metadata())["x-answered-by"].isdigit()


@pytest.mark.parametrize("metadata", [(), (("authorization", "wrong"),), (("authorization", "Bearer wrong"),)])
def test_without_the_right_token_a_call_is_unauthenticated(channel: grpc.Channel, metadata: Any) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        call(channel, "Echo")(b"", metadata=metadata)
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert "GrpcToken" not in caught.value.details()


def test_streams_pass_message_by_message(channel: grpc.Channel) -> None:
    sent = threading.Semaphore(1)

    def requests() -> Iterator[bytes]:
        for text in (b"a", b"b", b"c"):
            assert sent.acquire(timeout=60)
            yield text

    answers = []
    for answer in channel.stream_stream("/test.Service/Chat")(requests(), metadata=TOKEN):
        answers.append(answer)
        if answer.isupper():
            sent.release()
    assert answers == [b"a", b"A", b"b", b"B", b"c", b"C"]


def test_messages_of_any_size_pass(channel: grpc.Channel) -> None:
    body = b"x" * (40 << 20)
    assert call(channel, "Echo")(body, metadata=TOKEN) == body
    assert call(channel, "Echo")(b"", metadata=TOKEN) == b""


def test_metadata_and_deadline_reach_the_server_and_the_token_does_not(channel: grpc.Channel) -> None:
    metadata = (*TOKEN, ("x-own", "1"), ("x-own-bin", b"\x00\xff"))
    seen = json.loads(call(channel, "Describe")(b"", metadata=metadata, timeout=60))
    assert seen["x-own"] == "1"
    assert seen["x-own-bin"] == "00ff"
    assert "GrpcToken" not in str(seen)
    assert 5 < float(seen["remaining"]) < 61  # deadlines travel rounded up


def test_status_message_and_details_come_back(channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        call(channel, "Fail")(b"", metadata=TOKEN)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details() == "Unrecognized servable version label: x"
    trailing = dict(caught.value.trailing_metadata())
    assert trailing["x-trailer"] == "kept"
    assert trailing["grpc-status-details-bin"] == b"\x08\x03details"


def test_a_deadline_ends_the_call(channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        call(channel, "Sleep")(b"5", metadata=TOKEN, timeout=0.3)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


def test_the_time_limit_of_the_service_ends_a_call_without_a_deadline(eas: Any) -> None:
    service = eas.run(eas.grpc_spec(metadata={"rpc": {"keepalive": 300}}))
    with grpc.insecure_channel(target(service)) as channel, pytest.raises(grpc.RpcError) as caught:
        call(channel, "Sleep")(b"5", metadata=(("authorization", service.access_token),))
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    eas.delete(service.service_name)


def test_a_cancelled_call_is_over_for_the_instance_too(eas: Any) -> None:
    service = eas.run(eas.grpc_spec())
    metadata = (("authorization", service.access_token),)
    with grpc.insecure_channel(target(service)) as channel:
        calling = call(channel, "Sleep").future(b"300", metadata=metadata)
        assert not calling.done()
        call(channel, "Echo")(b"", metadata=metadata)
        calling.cancel()
    # Otherwise the instance would keep its place until the end of the call.
    eas.delete(service.service_name)


def test_calls_on_one_connection_go_to_all_instances_in_turn(eas: Any) -> None:
    service = eas.run(eas.grpc_spec(instances=2))
    metadata = (("authorization", service.access_token),)
    with grpc.insecure_channel(target(service)) as channel:
        pids = [json.loads(call(channel, "Describe")(b"", metadata=metadata))["pid"] for _ in range(8)]
    assert sorted(pids.count(pid) for pid in set(pids)) == [4, 4]
    eas.delete(service.service_name)


def test_a_crashed_instance_is_left_out(eas: Any) -> None:
    service = eas.run(eas.grpc_spec(instances=2))
    metadata = (("authorization", service.access_token),)
    with grpc.insecure_channel(target(service)) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            call(channel, "Crash")(b"", metadata=metadata)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        for _ in range(20):
            assert call(channel, "Echo")(b"x", metadata=metadata) == b"x"
    eas.delete(service.service_name)


def test_a_stopped_service_is_unavailable_and_checks_the_token_first(eas: Any) -> None:
    service = eas.run(eas.grpc_spec())
    eas.client.stop_service("cn-hangzhou", service.service_name)
    eas.wait(service.service_name, "Stopped")
    with grpc.insecure_channel(target(service)) as channel:
        for token, code in ((service.access_token, "UNAVAILABLE"), ("wrong", "UNAUTHENTICATED")):
            with pytest.raises(grpc.RpcError) as caught:
                call(channel, "Echo")(b"", metadata=(("authorization", token),))
            assert caught.value.code().name == code
    eas.delete(service.service_name)


def test_a_grpc_service_that_is_not_at_the_root_cannot_be_called(eas: Any, send: Any) -> None:
    spec = eas.grpc_spec()
    del spec["networking"]
    service = eas.run(spec)
    assert send("GET", service.internet_endpoint, service.access_token).status == 404
    eas.delete(service.service_name)


def test_a_service_can_change_between_http_and_grpc_at_one_address(eas: Any, send: Any) -> None:
    spec = eas.grpc_spec()
    name = spec["metadata"]["name"]
    service = eas.run(spec)
    http = eas.spec(name, networking={"path": "/"})
    eas.update(name, http)
    eas.wait(name)
    assert eas.describe(name).internet_endpoint == service.internet_endpoint

    def answers_over_http() -> bool:
        try:
            return bool(send("GET", service.internet_endpoint, service.access_token).status == 200)
        except OSError:  # the port is closed for a moment
            return False

    until(answers_over_http)
    eas.update(name, spec)
    eas.wait(name)
    with grpc.insecure_channel(target(service)) as channel:
        metadata = (("authorization", service.access_token),)
        assert call(channel, "Echo")(b"x", metadata=metadata, wait_for_ready=True, timeout=60) == b"x"
    eas.delete(name)
