"""Who may ask a model server: its gateway, or whoever is no page of another site."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

import grpc
import pytest
from multidict import CIMultiDict

from sandbox.model_server.callers import HEADER, VARIABLE, Callers

HOST = "127.0.0.1:8501"


def refusal(callers: Callers, method: str = "POST", **headers: str) -> str:
    given = CIMultiDict({name.replace("_", "-"): value for name, value in headers.items()})
    return callers.refusal(method, given)


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": HOST, "Origin": "http://evil.example"},
        {"Host": HOST, "Origin": "null"},
        {"Host": HOST, "Origin": "http://127.0.0.1:9999"},
        {"Host": HOST, "Sec_Fetch_Site": "cross-site"},
        {"Host": HOST, "Sec_Fetch_Site": "same-site"},
        {"Host": HOST, "Referer": "http://evil.example/page"},
        {"Host": "evil.example:8501"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": "evil.example:8501", "Origin": "http://evil.example:8501", "Sec_Fetch_Site": "same-origin"},
    ],
)
def test_a_page_of_another_site_is_refused(headers: dict[str, str]) -> None:
    assert refusal(Callers(), **headers)


@pytest.mark.parametrize(
    "host", [HOST, "localhost:8501", "10.244.0.9:8501", "tf-serving", "tfs.default.svc:8501", "[::1]"]
)
def test_tools_and_pods_are_answered(host: str) -> None:
    assert refusal(Callers(), Host=host) == ""
    assert refusal(Callers(), Host=host, Origin=f"http://{host}", Sec_Fetch_Site="same-origin") == ""


def test_a_client_too_old_for_a_host_header_is_no_browser() -> None:
    assert refusal(Callers()) == ""


def test_the_flag_for_pages_lets_them_in_but_no_borrowed_name() -> None:
    callers = Callers(cors=True)
    assert refusal(callers, Host=HOST, Origin="http://my.page") == ""
    assert refusal(callers, Host="evil.example:8501", Origin="http://my.page")


@pytest.mark.parametrize("given", ["", "other", "secre", "secret2", "é"])
def test_with_a_gateway_nothing_but_its_secret_counts(given: str) -> None:
    callers = Callers("secret", cors=True)
    assert refusal(callers, Host=HOST) == "only its gateway may ask this replica"
    assert refusal(callers, **{HEADER: given}) == "only its gateway may ask this replica"
    assert refusal(callers, "OPTIONS", Host=HOST) == "only its gateway may ask this replica"
    assert refusal(callers, Host="anything", Origin="http://x", **{HEADER: "secret"}) == ""


def test_the_secret_comes_from_the_environment() -> None:
    assert refusal(Callers.from_environment({VARIABLE: "s"}), Host=HOST)
    assert not refusal(Callers.from_environment({}), Host=HOST)


@pytest.mark.slow
def test_a_replica_answers_its_gateway_only_by_rest_and_by_grpc(
    start_server: Any, tiny_models: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tensorflow_serving.apis import get_model_status_pb2, model_service_pb2_grpc

    server = start_server("--model_name=scalar", f"--model_base_path={tiny_models}/scalar", secret="gateway's")
    url = f"http://127.0.0.1:{server.rest_port}/v1/models/scalar"
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(url)
    assert refused.value.code == 403
    assert "only its gateway" in json.loads(refused.value.read())["error"]
    with urllib.request.urlopen(urllib.request.Request(url, headers={HEADER: "gateway's"})) as answer:
        assert answer.status == 200
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "scalar"
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        stub = model_service_pb2_grpc.ModelServiceStub(channel)
        with pytest.raises(grpc.RpcError) as failed:
            stub.GetModelStatus(request)
        assert failed.value.code() is grpc.StatusCode.PERMISSION_DENIED
        found = stub.GetModelStatus(request, metadata=((HEADER.lower(), "gateway's"),))
        assert found.model_version_status[0].version == 1


@pytest.mark.slow
def test_a_server_of_ones_own_answers_tools_and_no_pages(start_server: Any, tiny_models: Any) -> None:
    server = start_server("--model_name=scalar", f"--model_base_path={tiny_models}/scalar")
    assert server.request("GET", "/v1/models/scalar")[0] == 200
    status, _, text = server.request("POST", "/v1/models/scalar:predict", headers={"Origin": "https://example.com"})
    assert status == 403
    assert b"page of another site" in text
